"""Mapping files: which columns of a file become which attributes, declared in YAML, compiled once, run on every row.

A mapping mirrors the resources that a row becomes, in TM Forum's spelling. Where a value belongs there stands a
constant, or `{column: NAME}` with `type` (text, number, integer, boolean, date), `format` and `timezone` of a date, and
`values` that translates. `when: NAME` on a value or a part uses it only where that column isn't blank; `when: {column:
NAME, is: […]}` or `not: […]` only where it says so. A blank column without `when` refuses the row: nothing is invented.
"""

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from chassis import convert
from chassis.errors import InvalidArgument
from chassis.types import Money
from svyaz.customers.v1 import account_pb2, customers_pb2, import_pb2, party_pb2
from svyaz.type.v1 import options_pb2

_RESOURCES: Mapping[str, tuple[str, type[Message]]] = {
    "individual": ("individual", party_pb2.Individual),
    "organization": ("organization", party_pb2.Organization),
    "customer": ("customer", customers_pb2.Customer),
    "billingAccount": ("billing_account", account_pb2.BillingAccount),
}
_SETTINGS = frozenset({"dataset", "key", "delimiter", "encoding"})
_VALUE_KEYS = frozenset({"column", "type", "format", "timezone", "values", "when"})
_TYPES = ("text", "number", "integer", "boolean", "date")
_REMEMBERED = 10_000
# What Python reads bytes as that a text in this encoding can't hold.
UNREADABLE = "surrogateescape"
# PostgreSQL has no place for U+0000.
_UNREADABLE = re.compile("[\0\udc80-\udcff]")
_TRUE, _FALSE = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})


class MappingError(ValueError):
    """A mapping that can't work; the message begins with the key that is wrong."""


class Problem(NamedTuple):
    """Why a row can't be imported; `field` is an attribute's path in TM Forum's spelling."""

    field: str
    reason: str


class _Absent:
    """What isn't there, because its `when` said so."""


_ABSENT = _Absent()
Row = Sequence[str]
_Build = Callable[[Row, list[Problem]], Any]
# A value that doesn't depend on the row, or how to make it from one.
_Node = tuple[bool, Any]


@dataclass(frozen=True)
class CompiledMapping:
    """A compiled mapping for files with certain columns."""

    dataset: str
    encoding: str
    columns: Sequence[str]
    # Columns that nothing is made of.
    unused: Sequence[str]
    _key: int | None
    _parts: Sequence[tuple[str, _Build]] = field(repr=False)

    def row(self, line: int, values: Row) -> tuple[import_pb2.ImportRow | None, list[Problem]]:
        """What a row becomes, or why it can't."""
        if len(values) != len(self.columns):
            return None, [Problem("", f"{len(values)} columns instead of {len(self.columns)}")]
        problems = self._unreadable(values)
        if problems:
            return None, problems
        parts: dict[str, Any] = {name: build(values, problems) for name, build in self._parts}
        key = values[self._key].strip() if self._key is not None else ""
        if self._key is not None and not key:
            problems.append(self.of_key("is blank"))
        if problems:
            return None, problems
        given = {name: part for name, part in parts.items() if part is not _ABSENT}
        return import_pb2.ImportRow(line=line, key=key, **given), problems

    def of_key(self, reason: str) -> Problem:
        """A problem with the row's key, which has a column and is no attribute."""
        column = "" if self._key is None else f"column {self.columns[self._key]} "
        return Problem("key", f"{column}{reason}")

    def _unreadable(self, values: Row) -> list[Problem]:
        if not _UNREADABLE.search("".join(values)):
            return []
        return [
            Problem("", f"column {name}: {self._why(bad.group())}")
            for name, value in zip(self.columns, values, strict=True)
            if (bad := _UNREADABLE.search(value))
        ]

    def _why(self, bad: str) -> str:
        if bad == "\0":
            return "must not hold the character U+0000"
        return f"the byte 0x{ord(bad) - 0xDC00:02x} isn't {self.encoding.removesuffix('-sig')}"


@dataclass(frozen=True)
class MappingFile:
    """A mapping as it was written; `compiled` once the columns are known."""

    text: bytes
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "MappingFile":
        """Reads a mapping. Raises MappingError naming the key that is wrong, OSError."""
        text = path.read_bytes()
        try:
            settings = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise MappingError(f"{path.name} isn't YAML: {error}") from error
        if not isinstance(settings, dict):
            raise MappingError(f"{path.name} must have keys at its top")
        for key in settings:
            if key not in _SETTINGS and key not in _RESOURCES:
                raise MappingError(f"{key}: unknown; there may be {', '.join(sorted({*_SETTINGS, *_RESOURCES}))}")
        for key in _SETTINGS & set(settings):
            if not isinstance(settings[key], str):
                raise MappingError(f"{key}: must be a text")
        if ("individual" in settings) == ("organization" in settings):
            raise MappingError("individual: either this or `organization` must be there")
        if "customer" not in settings:
            raise MappingError("customer: missing")
        if "key" in settings and "dataset" not in settings:
            raise MappingError("dataset: needed with `key`: it says whose keys these are")
        return cls(text, settings)

    @property
    def delimiter(self) -> str:
        """What separates columns."""
        delimiter = str(self.settings.get("delimiter", ","))
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise MappingError("delimiter: must be one character, no quote and no line break")
        return delimiter

    @property
    def encoding(self) -> str:
        """How the file's text is encoded; a byte order mark is skipped. Raises MappingError."""
        encoding = str(self.settings.get("encoding", "utf-8-sig"))
        try:
            "\n".encode(encoding)
        except LookupError:
            raise MappingError(f"encoding: {encoding!r} isn't one that is known") from None
        return encoding

    def compiled(self, header: Sequence[str]) -> CompiledMapping:
        """The mapping for a file with these columns. Raises MappingError naming the key that is wrong."""
        for number, name in enumerate(header, 1):
            if _UNREADABLE.search(name):
                raise MappingError(f"the file's header isn't {self.encoding}: column {number}")
        if len(set(header)) != len(header):
            raise MappingError("the file has two columns of one name")
        columns = {name: position for position, name in enumerate(header)}
        key = self.settings.get("key")
        compiler = _Compiler(columns)
        parts = [
            (field_name, _builder(compiler.message(self.settings[name], message.DESCRIPTOR, name)))
            for name, (field_name, message) in _RESOURCES.items()
            if name in self.settings
        ]
        position = None if key is None else compiler.position(key, "key")
        unused = [name for name in header if name not in compiler.used]
        dataset = str(self.settings.get("dataset", ""))
        return CompiledMapping(dataset, self.encoding, tuple(header), unused, position, parts)


def _builder(node: _Node) -> _Build:
    constant, value = node
    if not constant:
        build: _Build = value
        return build
    return lambda row, problems: value


def _remembered(build: _Build, texts: Callable[[Row], Any]) -> _Build:
    """`build`, asked once for the same texts: most columns have few. Nobody changes what has been made."""
    known: dict[Any, Any] = {}

    def remembered(row: Row, problems: list[Problem]) -> Any:
        key = texts(row)
        made = known.get(key)
        if made is None:
            before = len(problems)
            made = build(row, problems)
            if len(problems) == before:
                if len(known) >= _REMEMBERED:
                    known.clear()
                known[key] = made
        return made

    return remembered


class _Compiler:
    def __init__(self, columns: Mapping[str, int]) -> None:
        self._columns = columns
        self.used: set[str] = set()
        # Where the columns are that the part of a list which is being compiled is made of.
        self._positions: set[int] = set()

    def position(self, column: Any, path: str) -> int:
        """Where the column is in a row."""
        if column not in self._columns:
            raise MappingError(f"{path}: the file has no column {column!r}")
        self.used.add(column)
        self._positions.add(self._columns[column])
        return self._columns[column]

    def message(self, node: Any, descriptor: Any, path: str) -> _Node:
        """A part with attributes: as arguments for its message."""
        if not isinstance(node, dict):
            raise MappingError(f"{path}: must have attributes")
        attributes = {key: value for key, value in node.items() if key != "when"}
        if descriptor.full_name == "svyaz.type.v1.Money":
            made = self._money(attributes, path)
        else:
            made = self._attributes(attributes, descriptor, path)
        return self._conditional(node.get("when"), made, path)

    def _attributes(self, attributes: Mapping[str, Any], descriptor: Any, path: str) -> _Node:
        fields = {
            f.json_name: f
            for f in descriptor.fields
            if f.name != "extensions" and not f.GetOptions().Extensions[options_pb2.output_only]
        }
        constants: dict[str, Any] = {}
        builders: list[tuple[str, _Build]] = []
        for key, value in attributes.items():
            where = f"{path}.{key}"
            if key not in fields:
                raise MappingError(f"{where}: there is no such attribute that could be set")
            constant, made = self._field(value, fields[key], where)
            if not constant:
                builders.append((fields[key].name, made))
            elif made is not _ABSENT:
                constants[fields[key].name] = made
        if not builders:
            return True, constants

        def build(row: Row, problems: list[Problem]) -> Any:
            result = dict(constants)
            for name, make in builders:
                value = make(row, problems)
                if value is not _ABSENT:
                    result[name] = value
            return result

        return False, build

    def _field(self, node: Any, field: Any, path: str) -> _Node:
        if field.is_repeated:
            return self._list(node, field, path)
        return self._single(node, field, path)

    def _single(self, node: Any, field: Any, path: str) -> _Node:
        if field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type.full_name != "google.protobuf.Timestamp":
            return self.message(node, field.message_type, path)
        return self._value(node, _target(field), path)

    def _list(self, node: Any, field: Any, path: str) -> _Node:
        if not isinstance(node, list):
            raise MappingError(f"{path}: must be a list")
        items = [self._part(item, field, f"{path}[{position}]") for position, item in enumerate(node)]
        if all(constant for constant, _ in items):
            return True, [value for _, value in items]
        builders = [_builder(item) for item in items]

        def build(row: Row, problems: list[Problem]) -> Any:
            made = [make(row, problems) for make in builders]
            return [value for value in made if value is not _ABSENT]

        return False, build

    def _part(self, node: Any, field: Any, path: str) -> _Node:
        outer, self._positions = self._positions, set()
        constant, build = self._single(node, field, path)
        texts = operator.itemgetter(*self._positions) if self._positions else None
        self._positions |= outer
        return (constant, build) if constant or texts is None else (False, _remembered(build, texts))

    def _money(self, attributes: Mapping[str, Any], path: str) -> _Node:
        if set(attributes) != {"unit", "value"}:
            raise MappingError(f"{path}: an amount has a unit and a value")
        unit = self._value(attributes["unit"], _TEXT, f"{path}.unit")
        amount = self._value(attributes["value"], _NUMBER, f"{path}.value")
        make_unit, make_amount = _builder(unit), _builder(amount)

        def build(row: Row, problems: list[Problem]) -> Any:
            made_unit, made_amount = make_unit(row, problems), make_amount(row, problems)
            if made_unit is _ABSENT or made_amount is _ABSENT or made_amount is None:
                return _ABSENT
            try:
                return convert.to_money(Money(unit=made_unit, value=Decimal(made_amount)))
            except InvalidArgument as error:
                problems.append(Problem(f"{path}.value", error.message))
                return _ABSENT

        return False, build

    def _conditional(self, when: Any, node: _Node, path: str) -> _Node:
        if when is None:
            return node
        holds = self._condition(when, f"{path}.when")
        make = _builder(node)
        return False, lambda row, problems: make(row, problems) if holds(row) else _ABSENT

    def _condition(self, when: Any, path: str) -> Callable[[Row], bool]:
        if isinstance(when, str):
            position = self.position(when, path)
            return lambda row: bool(row[position].strip())
        if not isinstance(when, dict) or "column" not in when or len(when) != 2 or not {"is", "not"} & set(when):
            raise MappingError(f"{path}: must be a column, or {{column: …, is: […]}}, or {{column: …, not: […]}}")
        position = self.position(when["column"], f"{path}.column")
        wanted, verb = "is" in when, "is" if "is" in when else "not"
        if not isinstance(when[verb], list) or not all(isinstance(value, str) for value in when[verb]):
            raise MappingError(f"{path}.{verb}: must be a list of texts")
        values = frozenset(when[verb])
        return lambda row: (row[position].strip() in values) == wanted

    def _value(self, node: Any, target: "_Target", path: str) -> _Node:
        if not isinstance(node, dict):
            return True, _constant(node, target, path)
        for key in node:
            if key not in _VALUE_KEYS:
                raise MappingError(f"{path}.{key}: unknown; there may be {', '.join(sorted(_VALUE_KEYS))}")
        if "column" not in node:
            raise MappingError(f"{path}.column: missing")
        position = self.position(node["column"], f"{path}.column")
        convert = _conversion(node, target, path)
        column = node["column"]

        def build(row: Row, problems: list[Problem]) -> Any:
            text = row[position].strip()
            if not text:
                problems.append(Problem(path, f"column {column} is blank"))
                return _ABSENT
            try:
                return convert(text)
            except ValueError as error:
                problems.append(Problem(path, f"column {column}: {error}"))
                return _ABSENT

        return self._conditional(node.get("when"), (False, build), path)


# --- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Target:
    """What an attribute takes: the types of value that fit (the first unless told), and how one is written."""

    types: tuple[str, ...]
    write: Callable[[Any], Any]


def _as_json(value: Any) -> bytes:
    if isinstance(value, Decimal):
        return format(value, "f").encode()
    if isinstance(value, datetime):
        return json.dumps(value.isoformat()).encode()
    return json.dumps(value, ensure_ascii=False).encode()


_TEXT = _Target(("text",), str)
_NUMBER = _Target(("number", "integer"), lambda value: format(Decimal(value), "f"))
_ANY = _Target(_TYPES, _as_json)


def _target(field: Any) -> _Target:
    options = field.GetOptions()
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _Target(("date",), convert.to_timestamp)
    if options.Extensions[options_pb2.json]:
        return _ANY
    if options.Extensions[options_pb2.decimal]:
        return _NUMBER
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _Target(("boolean",), bool)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _Target(("text",), lambda value: _enum_number(field.enum_type, value))
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64):
        largest = 2 ** (31 if field.cpp_type == FieldDescriptor.CPPTYPE_INT32 else 63)
        return _Target(("integer",), lambda value: _whole(value, largest))
    return _TEXT


def _whole(value: int, largest: int) -> int:
    if not -largest <= value < largest:
        raise ValueError(f"{value} is out of range")
    return value


def _enum_number(enum: Any, spelling: str) -> int:
    prefix = convert.enum_prefix(enum)
    spellings: dict[str, int] = {}
    for value in enum.values:
        first, *rest = value.name.removeprefix(prefix).lower().split("_")
        told = value.GetOptions().Extensions[options_pb2.spelling]
        if value.number:
            spellings[told or first + "".join(word.capitalize() for word in rest)] = value.number
    if spelling not in spellings:
        raise ValueError(f"{spelling!r} isn't one of {', '.join(spellings)}")
    return spellings[spelling]


def _constant(node: Any, target: _Target, path: str) -> Any:
    if isinstance(node, float):
        # The digits as YAML shows them: the nearest binary number isn't meant.
        node = Decimal(repr(node))
    kinds: Mapping[type, str] = {str: "text", bool: "boolean", int: "integer", Decimal: "number", datetime: "date"}
    kind = kinds.get(type(node))
    if kind is None or kind not in target.types:
        raise MappingError(f"{path}: a {target.types[0]} or {{column: …}} must be here, not {node!r}")
    if isinstance(node, datetime) and node.tzinfo is None:
        raise MappingError(f"{path}: the instant {node} needs a time zone")
    try:
        return target.write(node)
    except ValueError as error:
        raise MappingError(f"{path}: {error}") from error


def _conversion(node: Mapping[str, Any], target: _Target, path: str) -> Callable[[str], Any]:
    kind = node.get("type", target.types[0])
    if kind not in target.types:
        raise MappingError(f"{path}.type: must be {' or '.join(target.types)}, not {kind!r}")
    for key in ("format", "timezone"):
        if key in node and kind != "date":
            raise MappingError(f"{path}.{key}: belongs to a date")
    values = node.get("values")
    if values is not None and (not isinstance(values, dict) or not all(isinstance(key, str) for key in values)):
        raise MappingError(f"{path}.values: must translate texts")
    if values is not None:
        written = {key: _constant(value, target, f"{path}.values.{key}") for key, value in values.items()}
        return lambda text: _translated(text, written)
    parse = _parser(kind, node, path)
    write = target.write
    return lambda text: write(parse(text))


def _translated(text: str, values: Mapping[str, Any]) -> Any:
    if text not in values:
        raise ValueError(f"{text!r} isn't one of {', '.join(values)}")
    return values[text]


def _parser(kind: str, node: Mapping[str, Any], path: str) -> Callable[[str], Any]:
    if kind == "date":
        return _date_parser(node, path)
    parsers: Mapping[str, Callable[[str], Any]] = {
        "text": str,
        "number": _number,
        "integer": _integer,
        "boolean": _boolean,
    }
    return parsers[kind]


def _number(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} isn't a number") from error
    if not value.is_finite() or "_" in text:
        raise ValueError(f"{text!r} isn't a number")
    return value


def _integer(text: str) -> int:
    value = _number(text)
    if value != value.to_integral_value():
        raise ValueError(f"{text!r} isn't a whole number")
    return int(value)


def _boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered not in _TRUE and lowered not in _FALSE:
        raise ValueError(f"{text!r} is neither yes nor no")
    return lowered in _TRUE


def _date_parser(node: Mapping[str, Any], path: str) -> Callable[[str], datetime]:
    format_ = node.get("format", "%Y-%m-%d")
    if not isinstance(format_, str) or "%" not in format_:
        raise MappingError(f"{path}.format: must be a format such as %d.%m.%Y")
    try:
        zone = ZoneInfo(str(node.get("timezone", "UTC")))
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise MappingError(f"{path}.timezone: {node.get('timezone')!r} isn't a time zone") from error

    def parse(text: str) -> datetime:
        try:
            value = datetime.strptime(text, format_)  # noqa: DTZ007 (the zone is set below, where the format has none)
        except ValueError as error:
            raise ValueError(f"{text!r} isn't a date in the format {format_}") from error
        return value if value.tzinfo else value.replace(tzinfo=zone)

    return parse
