"""Examples to learn from: customers with what was known of them, and whether they have left.

What would tell the answer isn't taken: columns that somebody made of it afterwards, and keys.
"""

import csv
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Value = float | str | None

# What is said of a customer after he has left, or reckoned from whether he has, by the letters of its name.
TELLING = ("churn", "cltv", "lifetimevalue", "attrition", "cancelreason", "reasonforleaving", "customerstatus")
_YES = frozenset({"yes", "true", "1", "y", "churned"})
_NO = frozenset({"no", "false", "0", "n", "stayed"})
# A column of texts that are nearly all different names customers rather than what they are like.
_KEY_SHARE = 0.5


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
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or target not in rows[0]:
        raise TableError(f"{path.name} has no column {target!r}, or no rows")
    labels = [_label(row[target], number) for number, row in enumerate(rows, start=2)]
    examples = [{name: value for name, value in row.items() if name != target} for row in rows]
    found = of_examples([_told(example, set(texts)) for example in examples], labels, leave_out=leave_out)
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
        elif all(isinstance(value, float) for value in known):
            numbers[name] = [math.nan if value is None else float(value) for value in column]
        elif len(set(known)) > _KEY_SHARE * len(known):
            left_out[name] = "names customers"
        else:
            categories[name] = ["" if value is None else _word(value) for value in column]
    return Table(numbers, categories, list(labels), _digest(examples, labels), left_out)


def _told(row: Mapping[str, str], texts: set[str]) -> dict[str, Value]:
    """A row of a file: numbers as such, what is blank isn't known."""
    return {name: text if name in texts else _value(text) for name, text in row.items() if text.strip()}


def _value(text: str) -> Value:
    try:
        number = float(text)
    except ValueError:
        return text.strip()
    return number if math.isfinite(number) else text.strip()


def _word(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _label(text: str, line: int) -> int:
    word = text.strip().lower()
    if word not in _YES | _NO:
        raise TableError(f"line {line}: {text!r} doesn't say whether the customer has left")
    return int(word in _YES)


def _digest(examples: Sequence[Mapping[str, Value]], labels: Sequence[int]) -> str:
    found = hashlib.sha256()
    for example, label in zip(examples, labels, strict=True):
        found.update(repr((sorted(example.items()), label)).encode())
    return found.hexdigest()
