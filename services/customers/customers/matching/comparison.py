"""How alike two records are in each field: a level, from 0 (different) up to the highest (the same); -1 is unknown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import DamerauLevenshtein, JaroWinkler
from rapidfuzz.process import cpdist

from customers.matching.records import MISSING, Column, Records

Levels = NDArray[np.int8]
Pairs = NDArray[np.int64]
_Texts = Sequence[str]
_Judge = Callable[[_Texts, _Texts], Levels]

UNKNOWN = -1
# From this likeness on, two words are taken for spellings of one (Jaro-Winkler); below the second they aren't related.
_SPELLING, _RELATED = 0.92, 0.82


def _near_words(one: _Texts, other: _Texts) -> Levels:
    """0 unrelated, 1 related, 2 a typing error or another spelling."""
    alike = cpdist(one, other, scorer=JaroWinkler.similarity, dtype=np.float32)
    errors = cpdist(one, other, scorer=DamerauLevenshtein.distance, dtype=np.int32)
    long = np.array([min(len(a), len(b)) >= 3 for a, b in zip(one, other, strict=True)])
    result = (alike >= _RELATED).astype(np.int8)
    result[(alike >= _SPELLING) | ((errors <= 1) & long)] = 2
    return result


def _near_codes(one: _Texts, other: _Texts) -> Levels:
    """0 another, 1 two slips apart, 2 one: a digit more, less, other, or two in each other's place."""
    errors = cpdist(one, other, scorer=DamerauLevenshtein.distance, dtype=np.int32)
    result = (errors <= 2).astype(np.int8)
    result[errors <= 1] = 2
    # In so short a text anything is near anything.
    short = np.array([max(len(a), len(b)) for a, b in zip(one, other, strict=True)])
    result[(result == 1) & (short < 6)] = 0
    result[(result == 2) & (short < 3)] = 0
    return result


def _near_dates(one: _Texts, other: _Texts) -> Levels:
    """0 another day, 1 two of year, month and day, 2 one slip, or day and month in each other's place. YYYYMMDD."""
    result = np.minimum(_near_codes(one, other), 2)
    result[result == 1] = 0
    for at, (a, b) in enumerate(zip(one, other, strict=True)):
        if result[at] or len(a) != 8 or len(b) != 8:
            continue
        if a[:4] == b[:4] and a[4:6] == b[6:] and a[6:] == b[4:6]:
            result[at] = 2
        elif (a[:4] == b[:4]) + (a[4:6] == b[4:6]) + (a[6:] == b[6:]) >= 2:
            result[at] = 1
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
    Comparison("email", _near_words),
    Comparison("house", _near_codes, shared=True),
    Comparison("street", _near_words, shared=True),
    Comparison("street_2", _near_words, shared=True),
    Comparison("city", _near_words, shared=True),
    Comparison("post_code", _near_codes, shared=True),
    Comparison("state", _near_codes, shared=True),
)
# Fields whose values people write into each other's place, and what says that they did (level 1: they are).
SWAPPED = {"name_order": ("given_name", "family_name"), "address_order": ("street", "street_2")}


def compare(records: Records, pairs: Pairs) -> Mapping[str, Levels]:
    """The levels of all pairs, by field; and whether two fields are better compared crosswise (SWAPPED)."""
    one, other = (pairs >> 32).astype(np.int64), (pairs & 0xFFFFFFFF).astype(np.int64)
    result = {
        comparison.name: _levels(
            comparison, records.columns[comparison.name], records.columns[comparison.name], one, other
        )
        for comparison in COMPARISONS
        if records.has(comparison.name)
    }
    by_name = {comparison.name: comparison for comparison in COMPARISONS}
    for order, (first, second) in SWAPPED.items():
        if records.has(first) and records.has(second):
            result[order] = _uncross(result, records, by_name[first], by_name[second], one, other)
    return result


def _uncross(
    levels: "dict[str, Levels]",
    records: Records,
    first: Comparison,
    second: Comparison,
    one: "NDArray[np.int64]",
    other: "NDArray[np.int64]",
) -> Levels:
    """Compares the two fields crosswise where that is clearly better; 1 there, 0 elsewhere, unknown without values."""
    straight = _sum(levels[first.name], levels[second.name])
    result = np.where(straight == -2, UNKNOWN, 0).astype(np.int8)
    doubtful = np.flatnonzero(straight <= 2)
    a, b = records.columns[first.name], records.columns[second.name]
    there = _levels(first, a, b, one[doubtful], other[doubtful])
    back = _levels(second, b, a, one[doubtful], other[doubtful])
    crossed = _sum(there, back)
    better = (np.maximum(there, back) >= 2) & (crossed > straight[doubtful] + 1)
    chosen = doubtful[better]
    levels[first.name][chosen] = there[better]
    levels[second.name][chosen] = back[better]
    result[chosen] = 1
    return result


def _sum(one: Levels, other: Levels) -> "NDArray[np.int8]":
    """Unknown counts as nothing; -2 where both are."""
    both = (one == UNKNOWN) & (other == UNKNOWN)
    return np.where(both, -2, np.maximum(one, 0) + np.maximum(other, 0)).astype(np.int8)


def _levels(
    comparison: Comparison, left: Column, right: Column, one: "NDArray[np.int64]", other: "NDArray[np.int64]"
) -> Levels:
    a, b = left.codes[one].astype(np.int64), right.codes[other].astype(np.int64)
    result = np.full(len(a), UNKNOWN, dtype=np.int8)
    known = (a != MISSING) & (b != MISSING)
    result[known & (a == b)] = comparison.exact
    differ = np.flatnonzero(known & (a != b))
    if len(differ):
        # Each two values are looked at once, however many pairs have them.
        low, high = np.minimum(a[differ], b[differ]), np.maximum(a[differ], b[differ])
        unique, back = np.unique((low << 32) | high, return_inverse=True)
        texts = left.texts
        judged = comparison.judge(
            [texts[code] for code in (unique >> 32).tolist()], [texts[code] for code in (unique & 0xFFFFFFFF).tolist()]
        )
        result[differ] = judged[back]
    return result
