"""Examples to learn from: customers with what was known of them, and whether they have left.

What would tell the answer isn't taken: columns that somebody made of it afterwards, and keys.
"""

import csv
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Value = float | str | None

# What is said of a customer after he has left, or reckoned from whether he has, by the letters of its name.
TELLING = ("churn", "cltv", "lifetimevalue", "attrition", "cancelreason", "reasonforleaving", "customerstatus")
_YES = frozenset({"yes", "true", "1", "1.0", "y", "churned", "left"})
_NO = frozenset({"no", "false", "0", "0.0", "n", "stayed"})
# How files write that a number isn't known. Among words they are words: who has no internet has `None`.
_UNKNOWN = frozenset({"na", "n/a", "nan", "null", "none", "nil", "?", "-", "--", "."})
# A column of texts that are nearly all different names customers rather than what they are like. So do whole numbers
# that are all different, if that is what the column is called, or they count the rows.
_KEY_SHARE = 0.5
_KEYS = ("id", "no", "number", "key", "index", "phone", "msisdn", "account", "row", "rownum")


class TableError(Exception):
    """The examples can't be learnt from."""


@dataclass(frozen=True)
class Table:
    """Examples: features by name, each a number or a category throughout; `labels`: 1 has left, 0 has stayed."""

    numbers: Mapping[str, Sequence[float]]
    categories: Mapping[str, Sequence[str]]
    labels: Sequence[int]
    # Hex SHA-256 of all of it.
    digest: str
    # Columns that weren't taken, with the reason.
    left_out: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The features, numbers first."""
        return (*self.numbers, *self.categories)


def of_file(
    path: Path,
    target: str,
    *,
    leave_out: Iterable[str] = (),
    texts: Iterable[str] = (),
    sums: Mapping[str, Sequence[str]],
) -> Table:
    """A CSV file with a header. `texts`: columns of numbers that only name something (an area code); `sums`: features
    that are sums of columns (what a customer pays in all). Raises TableError."""
    rows = _rows(path, target)
    labels = [_label(row[target], number) for number, row in enumerate(rows, start=2)]
    examples = [{name: value for name, value in row.items() if name != target} for row in rows]
    numeric = {name for name in examples[0] if name not in set(texts) and _is_number([row[name] for row in examples])}
    found = of_examples([_told(example, numeric) for example in examples], labels, leave_out=leave_out)
    numbers = dict(found.numbers)
    for name, parts in sums.items():
        if missing := [part for part in parts if part not in numbers]:
            raise TableError(f"{name} would be a sum of what are no numbers: {', '.join(missing)}")
        numbers[name] = [math.fsum(values) for values in zip(*(numbers[part] for part in parts), strict=True)]
    return Table(numbers, found.categories, found.labels, found.digest, found.left_out)


def of_examples(
    examples: Sequence[Mapping[str, Value]], labels: Sequence[int], *, leave_out: Iterable[str] = ()
) -> Table:
    """Examples as somebody tells them; a feature that somebody hasn't isn't known. Raises TableError."""
    if len(set(labels)) < 2:
        raise TableError("nobody has left, or everybody has: there is nothing to learn")
    names = sorted({name for example in examples for name in example})
    left_out: dict[str, str] = {}
    numbers: dict[str, Sequence[float]] = {}
    categories: dict[str, Sequence[str]] = {}
    unwanted = set(leave_out)
    for name in names:
        column = [example.get(name) for example in examples]
        known = [value for value in column if value is not None]
        letters = "".join(letter for letter in name.lower() if letter.isalnum())
        if name in unwanted:
            left_out[name] = "not wanted"
        elif any(word in letters for word in TELLING):
            left_out[name] = "tells the answer"
        elif len(set(known)) < 2:
            left_out[name] = "says the same of everybody"
        elif _counts_customers(name, known):
            left_out[name] = "names customers"
        elif all(isinstance(value, float) for value in known):
            numbers[name] = [math.nan if value is None else float(value) for value in column]
        elif len(set(known)) > _KEY_SHARE * len(known):
            left_out[name] = "names customers"
        else:
            categories[name] = ["" if value is None else _word(value) for value in column]
    return Table(numbers, categories, list(labels), _digest(examples, labels), left_out)


def _rows(path: Path, target: str) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream)
            header = next(lines, [])
            if target not in header:
                raise TableError(f"{path.name} has no column {target!r}: its columns are {', '.join(header)}")
            if len(set(header)) != len(header):
                raise TableError(f"{path.name} has columns that are called the same twice")
            rows = []
            for line in filter(None, lines):
                if len(line) != len(header):
                    raise TableError(f"line {lines.line_num}: {len(line)} values for {len(header)} columns")
                rows.append(dict(zip(header, line, strict=True)))
    except UnicodeDecodeError as error:
        raise TableError(f"{path.name} isn't UTF-8: {error}") from error
    except csv.Error as error:
        raise TableError(f"{path.name}: {error}") from error
    if not rows:
        raise TableError(f"{path.name} has no rows")
    return rows


def _is_number(column: Iterable[str]) -> bool:
    """Whether all that a column says are numbers."""
    said = [text for text in column if text.strip() and text.strip().lower() not in _UNKNOWN]
    return bool(said) and all(isinstance(_number(text), float) for text in said)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _told(row: Mapping[str, str], numeric: set[str]) -> dict[str, Value]:
    """A row of a file: numbers as such, what is blank isn't known."""
    return {name: _number(text) if name in numeric else text.strip() for name, text in row.items() if text.strip()}


def _counts_customers(name: str, known: Sequence[Value]) -> bool:
    """Whether a column numbers the customers."""
    numbers = [value for value in known if isinstance(value, float) and value.is_integer()]
    if len(numbers) != len(known) or len(set(numbers)) != len(numbers):
        return False
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()
    named = re.split(r"[^a-z]+", words)[-1] in _KEYS
    return named or max(numbers) - min(numbers) == len(numbers) - 1


def _word(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _label(text: str, line: int) -> int:
    word = text.strip().lower().removesuffix(".")
    if word not in _YES | _NO:
        raise TableError(f"line {line}: {text!r} doesn't say whether the customer has left")
    return int(word in _YES)


def _digest(examples: Sequence[Mapping[str, Value]], labels: Sequence[int]) -> str:
    found = hashlib.sha256()
    for example, label in zip(examples, labels, strict=True):
        found.update(repr((sorted(example.items()), label)).encode())
    return found.hexdigest()
