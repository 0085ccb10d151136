"""How alike two records are in each field: a level, from 0 (different) up to the highest (the same); -1 is unknown."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import DamerauLevenshtein, JaroWinkler
from rapidfuzz.process import cpdist

from customers.matching.records import MISSING, Column, Records

Levels = NDArray[np.int8]
Pairs = NDArray[np.int64]
Indices = NDArray[np.int64]
# How alike the texts of two columns are, at these codes.
_Judge = Callable[[Column, Column, Indices, Indices], Levels]

UNKNOWN = -1
# From this likeness on, two words are taken for spellings of one (Jaro-Winkler); below the second they aren't related.
_SPELLING, _RELATED = 0.92, 0.82
# The judges run beside each other: what is compared lies outside of Python.
_WORKERS = 2


def _slips(left: Column, right: Column, one: Indices, other: Indices, most: int) -> NDArray[np.int32]:
    """Digits or letters more, less, other, or two in each other's place; beyond `most` one more than that."""
    errors: NDArray[np.int32] = cpdist(
        left.objects[one].tolist(),
        right.objects[other].tolist(),
        scorer=DamerauLevenshtein.distance,
        score_cutoff=most,
        dtype=np.int32,
        workers=_WORKERS,
    )
    return errors


def _near_words(left: Column, right: Column, one: Indices, other: Indices) -> Levels:
    """0 unrelated, 1 related, 2 a typing error or another spelling."""
    alike = cpdist(
        left.objects[one].tolist(),
        right.objects[other].tolist(),
        scorer=JaroWinkler.similarity,
        score_cutoff=_RELATED / 2,
        dtype=np.float32,
        workers=_WORKERS,
    )
    result = (alike >= _RELATED).astype(np.int8)
    result[alike >= _SPELLING] = 2
    shortest = np.minimum(left.lengths[one], right.lengths[other])
    # Whoever has one slip in three letters isn't below half.
    doubtful = np.flatnonzero((result < 2) & (shortest >= 3) & (alike > _RELATED / 2))
    result[doubtful[_slips(left, right, one[doubtful], other[doubtful], 1) <= 1]] = 2
    return result


def _near_codes(left: Column, right: Column, one: Indices, other: Indices) -> Levels:
    """0 another, 1 two slips apart, 2 one."""
    errors = _slips(left, right, one, other, 2)
    longest = np.maximum(left.lengths[one], right.lengths[other])
    # In so short a text anything is near anything.
    result = ((errors <= 2) & (longest >= 6)).astype(np.int8)
    result[(errors <= 1) & (longest >= 3)] = 2
    return result


def _near_addresses(left: Column, right: Column, one: Indices, other: Indices) -> Levels:
    """0 another, 1 two letters apart, 2 one. Addresses are made of names, which have been compared: maria.k1 and
    maria.k2 aren't near, they are two of one name."""
    errors = _slips(left, right, one, other, 2)
    result = np.clip(3 - errors, 0, 2).astype(np.int8)
    for at in np.flatnonzero(result):
        if _NO_DIGITS.sub("", left.texts[one[at]]) != _NO_DIGITS.sub("", right.texts[other[at]]):
            result[at] = 0
    return result


_NO_DIGITS = re.compile(r"\D+")


def _near_dates(left: Column, right: Column, one: Indices, other: Indices) -> Levels:
    """0 another day, 1 two of year, month and day, 2 one slip, or day and month in each other's place. YYYYMMDD."""
    first, second = left.dates[one], right.dates[other]
    known = (first[:, 0] >= 0) & (second[:, 0] >= 0)
    result: Levels = (known & ((first == second).sum(axis=1) >= 2)).astype(np.int8)
    crossed = (first[:, 0] == second[:, 0]) & (first[:, 1] == second[:, 2]) & (first[:, 2] == second[:, 1])
    result[(_slips(left, right, one, other, 1) <= 1) | (known & crossed)] = 2
    return result


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field and how its values are compared; `exact` is its highest level."""

    name: str
    judge: _Judge
    exact: int = 3
    # What those who live together have in common: no proof that two are one.
    shared: bool = False


COMPARISONS: Sequence[Comparison] = (
    Comparison("given_name", _near_words),
    Comparison("family_name", _near_words, shared=True),
    Comparison("middle_name", _near_words),
    Comparison("birth_date", _near_dates),
    Comparison("document", _near_codes),
    Comparison("phone", _near_codes, shared=True),
    Comparison("email", _near_addresses),
    Comparison("house", _near_codes, shared=True),
    Comparison("street", _near_words, shared=True),
    Comparison("street_2", _near_words, shared=True),
    Comparison("city", _near_words, shared=True),
    Comparison("post_code", _near_codes, shared=True),
    Comparison("state", _near_codes, shared=True),
)
# Fields whose values people write into each other's place, and what says that they did (level 1: they are).
SWAPPED = {"name_order": ("given_name", "family_name"), "address_order": ("street", "street_2")}


_BY_NAME = {comparison.name: comparison for comparison in COMPARISONS}


def compare(records: Records, pairs: Pairs, fields: Collection[str]) -> "dict[str, Levels]":
    """The levels of all pairs in those of the fields that the records have; and, where both of two fields that may be
    swapped are among them, whether they are better compared crosswise (SWAPPED)."""
    one, other = pairs >> 32, pairs & 0xFFFFFFFF
    result = {
        name: _levels(_BY_NAME[name], column, column, one, other)
        for name, column in records.columns.items()
        if name in fields and name in _BY_NAME
    }
    for order, (first, second) in SWAPPED.items():
        if first in result and second in result:
            result[order] = _uncross(result, records, _BY_NAME[first], _BY_NAME[second], one, other)
    return result


def _uncross(
    levels: "dict[str, Levels]",
    records: Records,
    first: Comparison,
    second: Comparison,
    one: Indices,
    other: Indices,
) -> Levels:
    """Compares the two fields crosswise where that is clearly better; 1 there, 0 elsewhere, unknown without values."""
    straight = _sum(levels[first.name], levels[second.name])
    result = np.where(straight == _NOTHING, UNKNOWN, 0).astype(np.int8)
    # Two that agree in one of the fields haven't swapped it.
    doubtful = np.flatnonzero(straight <= 2)
    a, b = records.columns[first.name], records.columns[second.name]
    there = _levels(first, a, b, one[doubtful], other[doubtful])
    back = _levels(second, b, a, one[doubtful], other[doubtful])
    better = (np.maximum(there, back) >= 2) & (_sum(there, back) > straight[doubtful] + 1)
    chosen = doubtful[better]
    levels[first.name][chosen] = there[better]
    levels[second.name][chosen] = back[better]
    result[chosen] = 1
    return result


_NOTHING = -2


def _sum(one: Levels, other: Levels) -> Levels:
    """Unknown counts as nothing."""
    both = (one == UNKNOWN) & (other == UNKNOWN)
    return np.where(both, _NOTHING, np.maximum(one, 0) + np.maximum(other, 0)).astype(np.int8)


def _levels(comparison: Comparison, left: Column, right: Column, one: Indices, other: Indices) -> Levels:
    a, b = left.codes[one].astype(np.int64), right.codes[other].astype(np.int64)
    result = np.full(len(a), UNKNOWN, dtype=np.int8)
    known = (a != MISSING) & (b != MISSING)
    result[known & (a == b)] = comparison.exact
    differ = np.flatnonzero(known & (a != b))
    if len(differ):
        # Each two values are looked at once, however many pairs have them.
        low, high = np.minimum(a[differ], b[differ]), np.maximum(a[differ], b[differ])
        unique, back = np.unique((low << 32) | high, return_inverse=True)
        result[differ] = comparison.judge(left, right, unique >> 32, unique & 0xFFFFFFFF)[back]
    return result
