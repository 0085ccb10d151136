"""A file that comes in parts, read as it comes: CSV (RFC 4180) or JSON lines, UTF-8. Pure, and as small as a record."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from chassis.errors import InvalidArgument, Violation
from orders.bulk.values import BulkOrderFormat, Record

# A quote that is never closed would swallow the rest of the file.
MOST_RECORD_BYTES = 64 * 1024
MOST_COLUMNS = 200
_BOM = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff")
_NO_TEXT = re.compile(r"\\u(?:0000|d[89a-f])", re.IGNORECASE)
_UNCLOSED = "unexpected end of data"


@dataclass(frozen=True)
class Intake:
    """How far a file has been read: `tail` is the beginning of a record that hasn't come whole."""

    offset: int = 0
    # Lines before the tail.
    lines: int = 0
    rows: int = 0
    tail: bytes = b""
    # Of CSV, once it has come.
    header: tuple[str, ...] = ()
    # Of all rows so far, each after the others.
    hash: bytes = b""


def read(
    intake: Intake, data: bytes, format: BulkOrderFormat, delimiter: str, *, last: bool
) -> tuple[Intake, list[Record]]:
    """The records that are whole by now. Raises InvalidArgument NOT_UTF8, MALFORMED_FILE, EMPTY_FILE with the line."""
    buffer = intake.tail + data
    if intake.offset == 0:
        if buffer.startswith(_OTHER_ENCODINGS):
            raise _wrong("NOT_UTF8", 1, "the file is UTF-16: save it as UTF-8")
        buffer = buffer.removeprefix(_BOM)
    # No character of UTF-8 but the newline has its byte in it.
    end = len(buffer) if last else buffer.rfind(b"\n") + 1
    text = _text(buffer[:end], intake.lines)
    if format is BulkOrderFormat.JSON_LINES:
        records, lines, used = _objects(text, intake.lines)
        header = intake.header
    else:
        header, records, lines, used = _table(text, intake, delimiter, last=last)
    tail = text[used:].encode() + buffer[end:]
    if len(tail) > MOST_RECORD_BYTES:
        why = f"the row is longer than {MOST_RECORD_BYTES} bytes: perhaps a quote isn't closed"
        raise _wrong("MALFORMED_FILE", lines + 1, why)
    hashed = intake.hash
    for record in records:
        hashed = hashlib.sha256(hashed + json.dumps(record.values, default=str, sort_keys=True).encode()).digest()
    after = replace(
        intake,
        offset=intake.offset + len(data),
        lines=lines,
        rows=intake.rows + len(records),
        tail=tail,
        header=header,
        hash=hashed,
    )
    if last and not after.rows:
        raise _wrong("EMPTY_FILE", lines + 1, "the file has no rows")
    return after, records


def _text(data: bytes, lines: int) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = lines + data[: error.start].count(b"\n") + 1
        why = f"byte {data[error.start]:#04x} isn't UTF-8: is the file in a code page of Windows?"
        raise _wrong("NOT_UTF8", line, why) from error
    if "\0" in text:
        line = lines + text[: text.index("\0")].count("\n") + 1
        raise _wrong("MALFORMED_FILE", line, "no text has the character U+0000 in it")
    return text


def _table(text: str, intake: Intake, delimiter: str, *, last: bool) -> tuple[tuple[str, ...], list[Record], int, int]:
    """Header (if it has just come), records, lines and characters that they took."""
    given = 0

    def counted() -> Iterator[str]:
        nonlocal given
        for line in io.StringIO(text, newline=""):
            given += len(line)
            yield line

    reader = csv.reader(counted(), delimiter=delimiter, strict=True)
    header, records, used, lines = intake.header, [], 0, intake.lines
    try:
        for cells in reader:
            line = lines + 1
            used, lines = given, intake.lines + reader.line_num
            if not any(cells):
                continue
            if not header:
                header = _checked(cells, line)
            elif len(cells) != len(header):
                fault = f"it has {len(cells)} columns, the header {len(header)}"
                records.append(Record(line, {}, fault))
            else:
                records.append(Record(line, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        # The rest of the record is still to come.
        if last or str(error) != _UNCLOSED:
            raise _wrong("MALFORMED_FILE", lines + 1, str(error)) from error
    return header, records, lines, used


def _checked(cells: list[str], line: int) -> tuple[str, ...]:
    names = tuple(cell.strip() for cell in cells)
    if len(set(names)) != len(names) or not all(names) or len(names) > MOST_COLUMNS:
        raise _wrong("MALFORMED_FILE", line, f"the header needs up to {MOST_COLUMNS} different names: {names}")
    return names


def _objects(text: str, lines: int) -> tuple[list[Record], int, int]:
    records = []
    # Not splitlines: that knows more ends of lines than JSON lines do.
    parts = text.split("\n")
    for line, part in enumerate(parts, lines + 1):
        if not part.strip():
            continue
        try:
            found: Any = json.loads(part, parse_float=Decimal, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            records.append(Record(line, {}, f"it isn't JSON: {error}"))
            continue
        fault = "" if isinstance(found, Mapping) else "it isn't a JSON object"
        # A text of a file has neither; one of JSON can name them all the same.
        if not fault and _NO_TEXT.search(part) and _unkept(found):
            fault = "U+0000, or half a character"
        records.append(Record(line, {} if fault else found, fault))
    return records, lines + text.count("\n"), len(text)


def _unkept(value: Any) -> bool:
    """Whether a text in it is one that no database keeps."""
    if isinstance(value, str):
        return "\0" in value or any("\ud800" <= one <= "\udfff" for one in value)
    if isinstance(value, Mapping):
        return any(_unkept(key) or _unkept(part) for key, part in value.items())
    return isinstance(value, list) and any(map(_unkept, value))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _wrong(reason: str, line: int, description: str) -> InvalidArgument:
    message = f"line {line}: {description}"
    return InvalidArgument(reason, message, violations=[Violation("content", message)], metadata={"line": str(line)})
