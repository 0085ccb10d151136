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
MOST_ALONE, MOST_TOGETHER, MOST_SLIPPED = 2.0, 1.0, 2.0
# Of a small file any number is affordable.
_FREE = 100_000
# Those that have a slip in each field agree on none. One slip apart in one of these is enough, as long as few share
# what is left: of few records a birth date is as good as a document, of a million it isn't.
SLIPPED = ("document", "phone", "email", "birth_date", "family_name")
# Of longer texts the beginning.
_LONGEST_SLIPPED = 20


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
    for name in SLIPPED:
        if records.has(name):
            column = records.columns[name]
            yield with_slips(column.texts, column.codes), LARGEST_ALONE, MOST_SLIPPED + _FREE / max(1, records.size)
    if records.has("given_name") and records.has("family_name"):
        yield with_slips(*_whole_names(records)), LARGEST_ALONE, MOST_SLIPPED + _FREE / max(1, records.size)


def _whole_names(records: Records) -> "tuple[Sequence[str], NDArray[np.int32]]":
    """Given and family name as one text, whichever comes first, of those who have both."""
    one, other = records.columns["given_name"], records.columns["family_name"]
    both = (one.codes != MISSING) & (other.codes != MISSING)
    width = max(1, len(other.texts))
    pairs, back = np.unique(one.codes[both].astype(np.int64) * width + other.codes[both], return_inverse=True)
    codes = np.full(records.size, MISSING, dtype=np.int32)
    codes[both] = back
    return ["".join(sorted((one.texts[pair // width], other.texts[pair % width]))) for pair in pairs.tolist()], codes


def with_slips(texts: Sequence[str], codes: "NDArray[np.int32]") -> "NDArray[np.int64]":
    """Keys of each record, a column each: two texts one slip apart have one in common, as have those that are the same
    (M. Garbe's symmetric deletion): hashes of the text, and of it without each of its letters."""
    signs = np.array([text[:_LONGEST_SLIPPED] for text in texts], dtype=f"U{_LONGEST_SLIPPED}")
    letters = signs.view(np.uint32).reshape(len(texts), _LONGEST_SLIPPED).astype(np.uint64)
    longest = int((letters != 0).sum(axis=1).max(initial=0))
    letters = letters[:, :longest]
    before = np.zeros((len(texts), longest + 1), dtype=np.uint64)
    after = np.zeros_like(before)
    for at in range(longest):
        # Nothing is added behind the end: the blanks there are no letters.
        before[:, at + 1] = before[:, at] + letters[:, at] * _POWERS[at]
        back = longest - 1 - at
        after[:, back] = after[:, back + 1] * _BASE + letters[:, back]
    hashes = np.empty_like(before)
    for at in range(longest):
        hashes[:, at] = before[:, at] + after[:, at + 1] * _POWERS[at]
    hashes[:, longest] = before[:, longest]
    keys = hashes.view(np.int64) & _POSITIVE
    # Behind the end nothing is left out, and of two letters that are the same it doesn't matter which one is.
    following = np.pad(letters[:, 1:], ((0, 0), (0, 1)))
    keys[:, :longest][(letters == 0) | (letters == following)] = MISSING
    return np.where((codes == MISSING)[:, None], MISSING, keys[codes])


# A polynomial hash modulo 2**64, of an odd base.
_BASE = np.uint64(0x9E3779B97F4A7C15)
with np.errstate(over="ignore"):
    _POWERS = np.cumprod(np.concatenate(([np.uint64(1)], np.full(_LONGEST_SLIPPED, _BASE, dtype=np.uint64))))
_POSITIVE = np.int64(0x7FFFFFFFFFFFFFFF)


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
    where they would be more than `most`. A record has one key, or a row of them, each at most once."""
    each_has = key.shape[1] if key.ndim > 1 else 1
    key = key.ravel()
    known = np.flatnonzero(key != MISSING)
    order = known[np.argsort(key[known], kind="stable")]
    if not len(order):
        return order
    sorted_key = key[order]
    order //= each_has
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
