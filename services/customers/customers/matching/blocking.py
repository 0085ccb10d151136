"""Which pairs of records are worth comparing: those that agree on some key, of all that n(n-1)/2 are."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from customers.matching.names import sound
from customers.matching.records import MISSING, Records

Pairs = NDArray[np.int64]

# One of these alone is enough, as long as few share it.
ALONE = ("document", "phone", "email", "birth_date", "street", "family_name")
# Any two of these: whoever has a typing error in one field, or nothing in it, is found by two others.
TOGETHER = ("given", "family", "birth_date", "birth_year", "document", "city", "post_code", "house", "street_start")
# Beyond so many records a key says nothing: their pairs are found by keys that say more, or not at all.
LARGEST_ALONE, LARGEST_TOGETHER = 40, 60
# A key proposes no more pairs than this for each record: of many records only its smaller blocks.
MOST_ALONE, MOST_TOGETHER = 2.0, 1.0


def candidates(records: Records) -> Pairs:
    """The pairs that some key proposes, each once, the lower index in the upper 32 bits."""
    found = [np.empty(0, dtype=np.int64)]
    waiting = 0
    for key, largest, most in _keys(records):
        found.append(_pairs_of(key, largest, int(most * records.size) + 1_000))
        waiting += len(found[-1])
        # Many are proposed by several keys: what they need is bounded by what is found.
        if waiting > max(len(found[0]), _AT_A_TIME):
            found, waiting = [np.unique(np.concatenate(found))], 0
    return np.unique(np.concatenate(found))


_AT_A_TIME = 4_000_000


def _keys(records: Records) -> "Iterator[tuple[NDArray[np.int64], int, float]]":
    for name in ALONE:
        if records.has(name):
            yield records.columns[name].codes.astype(np.int64), LARGEST_ALONE, MOST_ALONE
    parts = dict(_parts(records))
    names: Sequence[str] = [name for name in TOGETHER if name in parts]
    for one, other in combinations(names, 2):
        if {one, other} != {"birth_date", "birth_year"}:
            yield _joined(parts[one], parts[other]), LARGEST_TOGETHER, MOST_TOGETHER
    if "given" in parts and "family" in parts:
        # Those who have their names in each other's place meet here.
        low, high = np.minimum(parts["given"], parts["family"]), np.maximum(parts["given"], parts["family"])
        unknown = low == MISSING
        yield np.where(unknown, MISSING, _joined(np.where(unknown, 0, low), high)), LARGEST_TOGETHER, MOST_ALONE


def _parts(records: Records) -> "Iterator[tuple[str, NDArray[np.int64]]]":
    heard: dict[str, int] = {}
    for part, name in (("given", "given_name"), ("family", "family_name")):
        if records.has(name):
            yield part, _coded(records, name, lambda text: sound(text), heard)
    for name in ("birth_date", "document", "city", "post_code", "house"):
        if records.has(name):
            yield name, records.columns[name].codes.astype(np.int64)
    if records.has("birth_date"):
        yield "birth_year", _coded(records, "birth_date", lambda text: text[:4], {})
    if records.has("street"):
        yield "street_start", _coded(records, "street", lambda text: text[:6], {})


def _coded(records: Records, name: str, key: "Callable[[str], str]", known: dict[str, int]) -> "NDArray[np.int64]":
    column = records.columns[name]
    codes = np.array([known.setdefault(key(text), len(known)) for text in column.texts] + [MISSING], dtype=np.int64)
    # The last one is that of MISSING, which is -1.
    return codes[column.codes]


def _joined(one: "NDArray[np.int64]", other: "NDArray[np.int64]") -> "NDArray[np.int64]":
    width = int(other.max(initial=0)) + 1
    return np.where((one == MISSING) | (other == MISSING), MISSING, one * width + other)


def _pairs_of(key: "NDArray[np.int64]", largest: int, most: int) -> Pairs:
    """All pairs of records with the same key, of those keys that two to `largest` records have; of smaller ones only
    where they would be more than `most`."""
    known = np.flatnonzero(key != MISSING)
    order = known[np.argsort(key[known], kind="stable")]
    if not len(order):
        return order
    sorted_key = key[order]
    starts = np.flatnonzero(np.concatenate(([True], sorted_key[1:] != sorted_key[:-1])))
    sizes = np.diff(np.append(starts, len(order)))
    blocks = np.bincount(np.minimum(sizes, largest + 1), minlength=largest + 2)[: largest + 1]
    each = np.arange(largest + 1, dtype=np.int64)
    affordable = np.flatnonzero(np.cumsum(blocks * each * (each - 1) // 2) <= most)
    largest = int(affordable[-1]) if len(affordable) else 1
    usable = np.repeat((sizes <= largest) & (sizes > 1), sizes)
    order = order[usable]
    block = np.repeat(np.arange(len(starts)), sizes)[usable]
    made = [np.empty(0, dtype=np.int64)]
    # Neighbours at each distance, of all blocks that are so large.
    for distance in range(1, largest):
        same = block[:-distance] == block[distance:]
        if not same.any():
            break
        one, other = order[:-distance][same], order[distance:][same]
        made.append((np.minimum(one, other) << 32) | np.maximum(one, other))
    return np.concatenate(made)
