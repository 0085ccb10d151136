"""Which records are of one person: Fellegi and Sunter's model, its weights learned without examples.

I. P. Fellegi, A. B. Sunter, A Theory for Record Linkage (JASA 64, 1969): the evidence of a field is log2(m/u), m being
how often two records of one person agree so far in it, u how often those of two persons do. u is counted among all
pairs (of other than the same value: among pairs drawn by lot), m estimated by expectation maximization over the
candidates (W. E. Winkler, 1988), the priors with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from customers.matching.blocking import candidates
from customers.matching.comparison import COMPARISONS, SWAPPED, UNKNOWN, Levels, Pairs, compare
from customers.matching.records import MISSING, Records

REVISION = "2"
Weights = NDArray[np.float64]

# What is drawn by lot to learn how often different persons are alike.
_DRAWN = 200_000
# Of so many candidates the weights are learned, and so many are compared at a time.
_SAMPLED, _PORTION = 300_000, 1_000_000
_ROUNDS = 60
_SETTLED = 1e-4
# Nothing is ever certain: what was never seen has been seen so often.
_SMOOTHING = 0.5
_LEVELS = {comparison.name: comparison.exact + 1 for comparison in COMPARISONS} | dict.fromkeys(SWAPPED, 2)
_EXACT = {comparison.name: comparison.exact for comparison in COMPARISONS}
# What tells most for the least effort.
_FIRST = ("birth_date", "document", "email")
_MOST_BY_RARITY = 4.0
_SHARED = {comparison.name for comparison in COMPARISONS if comparison.shared} | {"address_order"}


@dataclass(frozen=True, slots=True)
class Model:
    """What was learned: the share of each level among pairs of one person (m) and of two (u), and the priors.

    Two persons of one household agree in what those share as if they were one, and in all else as any two do: a class
    of its own, as large as the data say, without which every family would be one person.
    """

    m: Mapping[str, Weights]
    u: Mapping[str, Weights]
    # The probability that two records drawn by lot are of one person, or of two of one household.
    same: float
    household: float

    def weight(self, name: str) -> Weights:
        """The evidence of each level in bits. What is only near never says more than what is the same, however rarely
        it was seen among strangers."""
        bits: Weights = np.log2(self.m[name] / self.u[name])
        return np.minimum(bits, bits[-1]) if name in _EXACT else bits


@dataclass(frozen=True, slots=True)
class Linked:
    """Pairs with the probability that they are one person; how alike they are in each field, and the evidence."""

    pairs: Pairs
    probability: Weights
    levels: Mapping[str, Levels]
    evidence: Mapping[str, Weights]
    model: Model


def link(records: Records, *, seed: int = 0, model: Model | None = None, least: float = 0.05) -> Linked:
    """The candidates that are one person with at least that probability. Without a `model` one is learned of them."""
    pairs = candidates(records)
    # A few records don't tell which values are rare.
    by_rarity = model is None
    if model is None:
        sample = pairs
        if len(pairs) > _SAMPLED:
            sample = np.sort(np.random.default_rng(seed).choice(pairs, _SAMPLED, replace=False))
        levels = compare(records, sample, _LEVELS)
        model = learn(records, levels, seed=seed, each=len(pairs) / max(1, len(sample)))
    # Portion by portion: of most candidates nothing is kept.
    portions = [
        score(records, pairs[start : start + _PORTION], model, least=least, by_rarity=by_rarity)
        for start in range(0, max(1, len(pairs)), _PORTION)
    ]
    return Linked(
        np.concatenate([one.pairs for one in portions]),
        np.concatenate([one.probability for one in portions]),
        {name: np.concatenate([one.levels[name] for one in portions]) for name in portions[0].levels},
        {name: np.concatenate([one.evidence[name] for one in portions]) for name in portions[0].evidence},
        model,
    )


def score(records: Records, pairs: Pairs, model: Model, *, least: float = 0.0, by_rarity: bool = True) -> Linked:
    """Those of the pairs that are one person with at least that probability. `by_rarity`: an agreement says the more
    the rarer the value is among the records, which must be many then."""
    pairs = _possible(records, pairs, model, least)
    levels = {name: some for name, some in compare(records, pairs, _LEVELS).items() if name in model.m}
    evidence = {name: _of_levels(model.weight(name), some) for name, some in levels.items()}
    if by_rarity:
        for name in levels.keys() & _EXACT.keys():
            evidence[name] = evidence[name] + _rarity(records, name, pairs, levels[name])
    probability = _classes(model, evidence)[0] if levels else np.zeros(len(pairs))
    kept = np.flatnonzero(probability >= least)
    return Linked(
        pairs[kept],
        probability[kept],
        {name: some[kept] for name, some in levels.items()},
        {name: some[kept] for name, some in evidence.items()},
        model,
    )


def _possible(records: Records, pairs: Pairs, model: Model, least: float) -> Pairs:
    """The pairs without those that can't have the probability, whatever their other fields say.

    A pair is at most as probable as what is its own makes it against two of one household, and most pairs that a key
    proposes are of persons born on different days who have different documents.
    """
    if least <= 0.0:
        return pairs
    names = [name for name in _FIRST if records.has(name) and name in model.m]
    most = {
        name: float(model.weight(name).max()) + (_MOST_BY_RARITY if name in _EXACT else 0.0)
        for name in model.m
        if name not in _SHARED
    }
    needed = float(np.log2(least / (1.0 - least)) + np.log2(model.household / model.same))
    bits = np.zeros(len(pairs))
    for name in names:
        level = compare(records, pairs, (name,))[name]
        bits += _of_levels(model.weight(name), level) + np.where(level == _EXACT[name], _MOST_BY_RARITY, 0.0)
        del most[name]
        enough = bits + sum(max(0.0, one) for one in most.values()) >= needed
        pairs, bits = pairs[enough], bits[enough]
    return pairs


def learn(records: Records, levels: Mapping[str, Levels], *, seed: int, each: float = 1.0) -> Model:
    """Estimates m, u and the priors; of the same records and seed the same. Each pair stands for `each` candidates."""
    every = max(1.0, records.size * (records.size - 1) / 2)
    # Pairs with the same levels are the same to the model.
    patterns, counts = _patterns(levels)
    counts *= each
    lot, least = _by_lot(records, list(levels), seed)
    m = {name: _first_guess(_LEVELS[name]) for name in levels}
    u = {name: lot[name] / lot[name].sum() for name in levels}
    model = Model(m, u, same=min(0.3, 0.1 * records.size / every), household=min(0.3, 0.1 * records.size / every))
    for _ in range(_ROUNDS):
        evidence = {name: _of_levels(model.weight(name), patterns[name]) for name in levels}
        same, household = (share * counts for share in _classes(model, evidence))
        agreeing = {name: _counted(patterns[name], same, _LEVELS[name]) for name in levels}
        # Some of those drawn by lot, and of those who agree by their counts, are of one person: they aren't strangers'.
        u = {name: _without(lot[name], agreeing[name], least[name]) for name in levels}
        m = {name: (some + _SMOOTHING) / (some + _SMOOTHING).sum() for name, some in agreeing.items()}
        moved = max(float(np.abs(m[name] - model.m[name]).max()) for name in levels)
        model = Model(m, u, *(float(np.clip((some.sum() + 1) / every, 1e-15, 0.3)) for some in (same, household)))
        if moved < _SETTLED:
            break
    return model


def _patterns(levels: Mapping[str, Levels]) -> tuple[Mapping[str, Levels], Weights]:
    code = np.zeros(len(next(iter(levels.values()), ())), dtype=np.int64)
    for name, some in levels.items():
        code = code * (_LEVELS[name] + 1) + (some.astype(np.int64) + 1)
    _, first, counts = np.unique(code, return_index=True, return_counts=True)
    return {name: some[first] for name, some in levels.items()}, counts.astype(np.float64)


def _by_lot(records: Records, names: Sequence[str], seed: int) -> tuple[Mapping[str, Weights], Mapping[str, Weights]]:
    """How many of all pairs have each level: those with the same value counted, the others estimated by lot; and the
    fewest of which that says anything: what wasn't drawn may be nearly as frequent as what was drawn once."""
    draw = np.random.default_rng(seed)
    one, other = draw.integers(0, records.size, (2, _DRAWN))
    different = one != other
    one, other = one[different], other[different]
    levels = compare(records, (one.astype(np.int64) << 32) | other, _LEVELS)
    every = records.size * (records.size - 1) / 2
    result, least = {}, {}
    for name in names:
        counts = _counted(levels[name], np.ones(len(one)), _LEVELS[name]) * (every / max(1, len(one)))
        if name in _EXACT:
            frequent = _frequencies(records, name)
            counts[-1] = (frequent * (frequent - 1)).sum() / 2
        least[name] = np.full(len(counts), _SMOOTHING * every / max(1, len(one)))
        if name in _EXACT:
            least[name][-1] = _SMOOTHING
        result[name] = counts + least[name]
    return result, least


def _frequencies(records: Records, name: str) -> Weights:
    column = records.columns[name]
    return np.bincount(column.codes[column.codes != MISSING], minlength=len(column.texts)).astype(np.float64)


def _without(counts: Weights, of_one_person: Weights, least: Weights) -> Weights:
    rest = np.maximum(counts - of_one_person, least)
    shares: Weights = rest / rest.sum()
    return shares


def _first_guess(size: int) -> Weights:
    """Nearly all agree."""
    guess = np.full(size, 0.1 / (size - 1))
    guess[0 if size == 2 else -1] = 0.9
    return guess


def _counted(levels: Levels, of: Weights, size: int) -> Weights:
    known = levels != UNKNOWN
    return np.bincount(levels[known], weights=of[known], minlength=size).astype(np.float64)


def _of_levels(weight: Weights, levels: Levels) -> Weights:
    # Nothing known says nothing: the last one is that of UNKNOWN, which is -1.
    bits: Weights = np.append(weight, 0.0)[levels]
    return bits


def _rarity(records: Records, name: str, pairs: Pairs, levels: Levels) -> Weights:
    """What agreeing in just this value says beyond agreeing in any: a rare name more, a frequent one less. Bits."""
    frequent = _frequencies(records, name)
    total = frequent.sum()
    average = (frequent * frequent).sum() / (total * total)
    # A value that only these two have might have been drawn by one more.
    share = (frequent + 1.0) / (total + 1.0)
    result = np.zeros(len(pairs))
    exact = np.flatnonzero(levels == _EXACT[name])
    codes = records.columns[name].codes[pairs[exact] >> 32]
    result[exact] = np.clip(np.log2(average / share[codes]), -2 * _MOST_BY_RARITY, _MOST_BY_RARITY)
    return result


def _classes(model: Model, evidence: Mapping[str, Weights]) -> tuple[Weights, Weights]:
    """The probabilities that a pair is one person, and that it is two of one household."""
    shared = sum((bits for name, bits in evidence.items() if name in _SHARED), start=np.zeros(1))
    own = sum((bits for name, bits in evidence.items() if name not in _SHARED), start=np.zeros(1))
    strangers = np.log2(1.0 - model.same - model.household)
    same = np.log2(model.same) - strangers + shared + own
    household = np.log2(model.household) - strangers + shared
    most = np.maximum(np.maximum(same, household), 0.0)
    weights = [np.exp2(bits - most) for bits in (same, household, np.zeros(1))]
    every = weights[0] + weights[1] + weights[2]
    return weights[0] / every, weights[1] / every
