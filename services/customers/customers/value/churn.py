"""How likely a customer leaves, and why: a model that was learned elsewhere, applied here.

A model is data, never code (see ADR 0028): a sum of functions of one feature each, piecewise linear over a number's
knots or one value for each category, blended with a sum of small decision trees, all in log-odds:

    log-odds = w · (intercept + Σ f_j(x_j)) + v · (bias + Σ tree(x)),   probability = 1 ÷ (1 + e^-(s · log-odds + o))

The reasons are exact in the same unit: `base`, what the training customers have on average, and what each feature adds,
give the log-odds. A function adds what it differs by from its own mean; what a feature adds in a tree is its Shapley
value, with the shares of the training customers on the ways not taken: S. M. Lundberg and others, "From Local
Explanations to Global Understanding with Explainable AI for Trees", Nature Machine Intelligence 2 (2020), 56-67. What
splits one feature, also by several of its categories, counts as that feature.
"""

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from chassis.errors import InvalidArgument, Violation

FORMAT = 1
# A tree of so many leaves is read at a glance; explaining it costs at most its splits squared.
MOST_LEAVES, MOST_TREES, MOST_FEATURES = 64, 2_000, 500
# Answers that a tree remembers: as many as ways through it that customers have, usually some ten.
_REMEMBERED = 4_096

Value = float | str | None
Features = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Reason:
    """What a feature adds to the log-odds (positive: towards leaving); `value` is the customer's, as text."""

    feature: str
    value: str
    contribution: float


@dataclass(frozen=True, slots=True)
class Score:
    """The probability of leaving within the model's days; all features with what they add, the strongest first."""

    probability: float
    log_odds: float
    base: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class _Curve:
    """A function of a number: linear between its knots, constant beyond them."""

    feature: int
    knots: tuple[float, ...]
    values: tuple[float, ...]
    mean: float

    def of(self, value: Value) -> float:
        assert isinstance(value, float)
        after = bisect_right(self.knots, value)
        if after == 0:
            return self.values[0]
        if after == len(self.knots):
            return self.values[-1]
        left, right = self.knots[after - 1], self.knots[after]
        share = (value - left) / (right - left)
        return self.values[after - 1] * (1 - share) + self.values[after] * share


@dataclass(frozen=True, slots=True)
class _Levels:
    """A function of a category; one that training hasn't seen often has `other`."""

    feature: int
    values: Mapping[str, float]
    other: float
    mean: float

    def of(self, value: Value) -> float:
        return self.values.get(value, self.other) if isinstance(value, str) else self.other


class _Tree:
    """A tree whose nodes are told apart by their numbers; 0 is the root. A split of a number sends to the left what is
    at most its threshold; a split of a category what isn't that one."""

    __slots__ = (
        "_categories",
        "_cover",
        "_feature",
        "_leaves",
        "_left",
        "_remembered",
        "_right",
        "_splits",
        "_test",
        "_thresholds",
        "value",
    )

    def __init__(self, data: Mapping[str, Sequence[object]]) -> None:
        self._feature = [_whole(one) for one in data["feature"]]
        self._test = [one if isinstance(one, str) else _number(one) for one in data["test"]]
        self._left = [_whole(one) for one in data["left"]]
        self._right = [_whole(one) for one in data["right"]]
        self._cover = [_number(one) for one in data["cover"]]
        self.value = [_number(one) for one in data["value"]]
        columns = (self._feature, self._test, self._left, self._right, self._cover, self.value)
        if len({len(column) for column in columns}) != 1 or not self.value:
            raise ValueError("a tree's columns have one length")
        self._splits = [node for node, left in enumerate(self._left) if left >= 0]
        self._leaves = list(self._paths())
        # What is looked at for each customer, flat: these two loops are most of what a score costs.
        tests = [(1 << bit, self._feature[node], self._test[node]) for bit, node in enumerate(self._splits)]
        self._thresholds = [(bit, feature, test) for bit, feature, test in tests if isinstance(test, float)]
        self._categories = [(bit, feature, test) for bit, feature, test in tests if isinstance(test, str)]
        self._remembered: dict[int, tuple[float, tuple[tuple[int, float], ...]]] = {}

    def features(self) -> set[int]:
        """The features that it splits."""
        return {self._feature[node] for node in self._splits}

    def kinds(self) -> list[tuple[int, bool]]:
        """Feature, and whether it is split as a category, of each split."""
        return [(self._feature[node], isinstance(self._test[node], str)) for node in self._splits]

    def mean(self) -> float:
        """The value over the training customers."""
        return sum(self._cover[leaf] * self.value[leaf] for leaf, _ in self._leaves) / self._cover[0]

    def of(self, row: Sequence[Value]) -> tuple[float, tuple[tuple[int, float], ...]]:
        """The tree's value for a customer, and what each feature adds to its mean."""
        ways = 0
        for bit, feature, threshold in self._thresholds:
            if row[feature] <= threshold:  # type: ignore[operator]
                ways |= bit
        for bit, feature, category in self._categories:
            if row[feature] != category:
                ways |= bit
        known = self._remembered.get(ways)
        if known is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            known = self._remembered[ways] = self._explained(ways)
        return known

    def _explained(self, ways: int) -> tuple[float, tuple[tuple[int, float], ...]]:
        goes_left = {node: bool(ways >> bit & 1) for bit, node in enumerate(self._splits)}
        node = 0
        while self._left[node] >= 0:
            node = self._left[node] if goes_left[node] else self._right[node]
        added: dict[int, float] = {}
        for leaf, path in self._leaves:
            players: dict[int, list[float]] = {}
            for split, left, share in path:
                player = players.setdefault(self._feature[split], [1.0, 1.0])
                player[0] *= goes_left[split] is left
                player[1] *= share
            for feature, effect in _shapley(players).items():
                added[feature] = added.get(feature, 0.0) + effect * self.value[leaf]
        return self.value[node], tuple(added.items())

    def _paths(self) -> "list[tuple[int, tuple[tuple[int, bool, float], ...]]]":
        """Each leaf with the splits that lead to it: split, whether to the left, share of the customers that go so.
        Raises ValueError for nodes that aren't one tree."""
        found, ahead, met = [], [(0, ())], 0
        stack: list[tuple[int, tuple[tuple[int, bool, float], ...]]] = list(ahead)
        while stack:
            node, path = stack.pop()
            met += 1
            if not 0 <= node < len(self.value) or met > len(self.value):
                raise ValueError("a tree's nodes are met once each")
            if self._left[node] < 0:
                found.append((node, path))
                continue
            for child, left in ((self._left[node], True), (self._right[node], False)):
                if not 0 < child < len(self.value) or self._cover[node] <= 0:
                    raise ValueError("a split has two children and customers")
                stack.append((child, (*path, (node, left, self._cover[child] / self._cover[node]))))
        if met != len(self.value) or len(found) > MOST_LEAVES:
            raise ValueError(f"a tree's nodes are met once each, and at most {MOST_LEAVES} are leaves")
        return found


def _shapley(players: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """The Shapley values of the game whose worth is the product of `one` of those who play and `zero` of the others."""
    found = {}
    count = len(players)
    weights = _weights(count)
    for feature, (one, zero) in players.items():
        # By how many of the others play: the sum of the products.
        sums = [1.0]
        for other, (plays, waits) in players.items():
            if other != feature:
                sums = [
                    (sums[n] * waits if n < len(sums) else 0.0) + (sums[n - 1] * plays if n else 0.0)
                    for n in range(len(sums) + 1)
                ]
        found[feature] = (one - zero) * sum(weight * part for weight, part in zip(weights, sums, strict=True))
    return found


@cache
def _weights(count: int) -> tuple[float, ...]:
    """|S|! (n - 1 - |S|)! / n! for each size of S."""
    return tuple(math.factorial(n) * math.factorial(count - 1 - n) / math.factorial(count) for n in range(count))


class ChurnModel:
    """A model, read and checked once, applied often; it may be used by several threads."""

    def __init__(self, artefact: bytes) -> None:
        """Raises InvalidArgument MALFORMED_MODEL for what isn't a model of a format that we know."""
        try:
            self._read(json.loads(artefact))
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise _malformed(str(error) or type(error).__name__) from error

    def _read(self, data: Mapping[str, object]) -> None:
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {data['format']}, not {FORMAT}")
        content: dict[str, object] = dict(data)
        features: Sequence[Mapping[str, object]] = content["features"]  # type: ignore[assignment]
        linear: Mapping[str, object] = content["linear"]  # type: ignore[assignment]
        boosted: Mapping[str, object] = content["trees"]  # type: ignore[assignment]
        self.horizon_days = _whole(content["horizon_days"])
        self.names = tuple(str(one["name"]) for one in features)
        # What stands for a number that isn't known; None: the feature is a category.
        self._missing = tuple(_number(one["missing"]) if one["kind"] == "number" else None for one in features)
        self._weight, self._intercept = _number(linear["weight"]), _number(linear["intercept"])
        self._terms = tuple(self._term(one) for one in linear["terms"])  # type: ignore[attr-defined]
        self._tree_weight, self._bias = _number(boosted["weight"]), _number(boosted["bias"])
        self._trees = tuple(_Tree(one) for one in boosted["trees"])  # type: ignore[attr-defined]
        calibration: Mapping[str, object] = content["calibration"]  # type: ignore[assignment]
        self._slope, self._offset = _number(calibration["slope"]), _number(calibration["offset"])
        self._check()
        self.base = self._weight * (self._intercept + sum(term.mean for term in self._terms))
        self.base += self._tree_weight * (self._bias + sum(tree.mean() for tree in self._trees))

    def _check(self) -> None:
        if len(set(self.names)) != len(self.names) or len(self.names) > MOST_FEATURES or len(self._trees) > MOST_TREES:
            raise ValueError("too much, or twice the same feature")
        for feature, category in [
            *((term.feature, isinstance(term, _Levels)) for term in self._terms),
            *(kind for tree in self._trees for kind in tree.kinds()),
        ]:
            if not 0 <= feature < len(self.names) or category != (self._missing[feature] is None):
                raise ValueError("a feature is a number or a category, the same everywhere")
        if self.horizon_days <= 0 or self._slope <= 0:
            raise ValueError("the horizon and the slope are greater than 0")

    @staticmethod
    def _term(data: Mapping[str, object]) -> _Curve | _Levels:
        feature, mean = _whole(data["feature"]), _number(data["mean"])
        if "knots" in data:
            knots = tuple(_number(one) for one in data["knots"])  # type: ignore[attr-defined]
            values = tuple(_number(one) for one in data["values"])  # type: ignore[attr-defined]
            if len(knots) != len(values) or not knots or list(knots) != sorted(set(knots)):
                raise ValueError("knots ascend, and each has a value")
            return _Curve(feature, knots, values, mean)
        levels = {str(name): _number(one) for name, one in data["values"].items()}  # type: ignore[attr-defined]
        return _Levels(feature, levels, _number(data["other"]), mean)

    def score(self, features: Features) -> Score:
        """How likely the customer leaves. A number that isn't known counts as the training customers' median, a
        category that isn't known as a rare one."""
        row = [self._cell(features.get(name), missing) for name, missing in zip(self.names, self._missing, strict=True)]
        added = [0.0] * len(row)
        for term in self._terms:
            added[term.feature] += self._weight * (term.of(row[term.feature]) - term.mean)
        for tree in self._trees:
            for feature, effect in tree.of(row)[1]:
                added[feature] += self._tree_weight * effect
        # Also the log-odds: to the last digit they are what the reasons add up to.
        raw = math.fsum((self.base, *added))
        reasons = [
            Reason(name, _shown(features.get(name)), self._slope * effect)
            for name, effect in zip(self.names, added, strict=True)
        ]
        reasons.sort(key=lambda reason: (-abs(reason.contribution), reason.feature))
        log_odds = self._slope * raw + self._offset
        return Score(_probability(log_odds), log_odds, self._slope * self.base + self._offset, tuple(reasons))

    @staticmethod
    def _cell(value: Value, missing: float | None) -> Value:
        if missing is None:
            return None if value is None else _shown(value)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else missing


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds >= 0 else math.exp(log_odds) / (1 + math.exp(log_odds))


def _shown(value: Value) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:g}"


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} isn't a number")
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} isn't a whole number")
    return value


def _malformed(why: str) -> InvalidArgument:
    return InvalidArgument("MALFORMED_MODEL", why, violations=[Violation("artefact", why)])
