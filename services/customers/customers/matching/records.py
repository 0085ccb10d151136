"""What is known of many persons, as columns of codes: equal values have equal codes, and each is looked at once."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from customers.matching.names import spelling

Codes = NDArray[np.int32]
# The code of a value that isn't known.
MISSING = -1

# Where a person's values come from; whatever source has no such column leaves it out.
FIELDS = (
    "given_name",
    "family_name",
    "middle_name",
    "birth_date",
    "document",
    "phone",
    "email",
    "house",
    "street",
    "street_2",
    "city",
    "post_code",
    "state",
)
# Fields whose values may have changed places share one vocabulary, so that one can be compared with the other.
_SHARED = {"given_name": "person", "family_name": "person", "street": "place", "street_2": "place"}
_SPACES = re.compile(r"\W+")


@dataclass(frozen=True)
class Column:
    """One field of all records: `texts[codes[i]]` is that of the record i, as it is compared."""

    codes: Codes
    texts: Sequence[str]

    @cached_property
    def objects(self) -> NDArray[np.object_]:
        """The texts, to be picked by codes."""
        return np.array(self.texts, dtype=object)

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """How long each text is."""
        return np.array([len(text) for text in self.texts], dtype=np.int32)

    @cached_property
    def dates(self) -> NDArray[np.int32]:
        """Year, month and day of each text that is YYYYMMDD, else -1."""
        parts = [
            (int(text[:4]), int(text[4:6]), int(text[6:])) if len(text) == 8 and text.isdecimal() else (-1, -1, -1)
            for text in self.texts
        ]
        return np.array(parts, dtype=np.int32).reshape(-1, 3)


@dataclass(frozen=True, slots=True)
class Records:
    """Persons to be compared with each other."""

    size: int
    columns: Mapping[str, Column]

    def has(self, name: str) -> bool:
        return name in self.columns


def records(rows: Iterable[Mapping[str, str | None]]) -> Records:
    """The columns of rows with (some of) the FIELDS; their values are compared without case, marks, blanks, script."""
    vocabularies: dict[str, dict[str, int]] = {}
    seen: dict[tuple[str, str], int] = {}
    columns: dict[str, list[int]] = {name: [] for name in FIELDS}
    size = 0
    for row in rows:
        size += 1
        for name in FIELDS:
            given = row.get(name)
            code = MISSING
            if given:
                group = _SHARED.get(name, name)
                known = seen.get((group, given))
                if known is None:
                    text = compared(name, given)
                    vocabulary = vocabularies.setdefault(group, {})
                    known = vocabulary.setdefault(text, len(vocabulary)) if text else MISSING
                    seen[group, given] = known
                code = known
            columns[name].append(code)
    texts = {group: list(vocabulary) for group, vocabulary in vocabularies.items()}
    return Records(
        size,
        {
            name: Column(np.array(codes, dtype=np.int32), texts.get(_SHARED.get(name, name), ()))
            for name, codes in columns.items()
            if any(code != MISSING for code in codes)
        },
    )


def compared(field: str, value: str) -> str:
    """A value as it is compared with others of its field."""
    if field in ("given_name", "family_name", "middle_name", "street", "street_2", "city"):
        return "".join(spelling(word) for word in _SPACES.split(value))
    if field in ("phone", "email", "document"):
        return value
    return _SPACES.sub("", unicodedata.normalize("NFKC", value).casefold())
