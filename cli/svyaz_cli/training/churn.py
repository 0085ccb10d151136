"""Learns who leaves: a logistic regression over splines, blended half and half with boosted trees.

Each half is better where the other is weak: tariffs and tenure act smoothly, complaints and plans in steps and
together. The recipe is one for all operators; nothing of it was chosen by a file that it is judged by (ADR 0028).
Everything that is learnt, medians, knots and rare categories included, is learnt inside each fold.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from svyaz_cli.training.table import Table, TableError

FORMAT = 1
FOLDS = 5
# Of those who left, and of those who stayed: fewer, and some fold would be judged by one or two.
FEWEST = 4 * FOLDS
# Of the customers, the most likely to leave: so many a campaign can talk to.
TOP = 0.2
KNOTS = 6
# A category of fewer customers, or of a smaller share of them, is a rare one.
RARE, RARE_SHARE = 20, 0.02
PENALTY = 0.3
TREES, LEAVES, BOOSTERS = 200, 6, 2
BLEND = 0.5
# A feature that tells leavers by itself so well has been told afterwards.
TOO_GOOD = 0.98
PROBES = 50
# From so many on threads bring more than they cost; on a busy machine they wait for each other in loops.
MANY = 50_000

Array = Any


@dataclass(frozen=True)
class Rules:
    """How a table becomes numbers, as learnt from the rows that were learnt from."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    medians: tuple[float, ...]
    knots: tuple[tuple[float, ...], ...]
    levels: tuple[tuple[str, ...], ...]

    def dense(self, table: Table, rows: Array) -> Array:
        """For trees: numbers with the median where they aren't known, a column of 0 and 1 for each level."""
        columns = [
            np.where(np.isnan(values), median, values)
            for name, median in zip(self.numbers, self.medians, strict=True)
            for values in [np.asarray(table.numbers[name], dtype=float)[rows]]
        ]
        for name, levels in zip(self.categories, self.levels, strict=True):
            values = np.asarray(table.categories[name], dtype=object)[rows]
            columns += [(values == level).astype(float) for level in levels]
        return np.column_stack(columns) if columns else np.zeros((len(rows), 0))

    def spline(self, dense: Array) -> Array:
        """For the regression: each number as its place between the knots around it (hat functions)."""
        columns = []
        for position, knots in enumerate(self.knots):
            values = dense[:, position]
            eye = np.eye(len(knots))
            columns += [np.interp(values, knots, eye[knot]) for knot in range(len(knots))]
        columns += [dense[:, position] for position in range(len(self.numbers), dense.shape[1])]
        return np.column_stack(columns) if columns else dense


def rules(table: Table, rows: Array) -> Rules:
    """What is learnt of the features before any model."""
    medians, knots = [], []
    for values in table.numbers.values():
        column = np.asarray(values, dtype=float)[rows]
        known = column[~np.isnan(column)]
        median = float(np.median(known)) if len(known) else 0.0
        medians.append(median)
        column = np.where(np.isnan(column), median, column)
        knots.append(tuple(float(one) for one in np.unique(np.quantile(column, np.linspace(0, 1, KNOTS)))))
    levels = []
    for words in table.categories.values():
        found, counts = np.unique(np.asarray(words, dtype=object)[rows].astype(str), return_counts=True)
        least = min(RARE, RARE_SHARE * len(rows))
        levels.append(tuple(str(word) for word, count in zip(found, counts, strict=True) if count >= least))
    return Rules(tuple(table.numbers), tuple(table.categories), tuple(medians), tuple(knots), tuple(levels))


@dataclass(frozen=True)
class Learnt:
    """A model as it was learnt."""

    rules: Rules
    linear: LogisticRegression
    boosters: Sequence[HistGradientBoostingClassifier]

    def log_odds(self, table: Table, rows: Array) -> Array:
        """Of leaving, for some rows of a table."""
        dense = self.rules.dense(table, rows)
        smooth = self.linear.decision_function(self.rules.spline(dense))
        stepped = np.mean([booster.decision_function(dense) for booster in self.boosters], axis=0)
        return BLEND * smooth + (1 - BLEND) * stepped


def learn(table: Table, rows: Array, labels: Array, seed: int) -> Learnt:
    """A model of some rows of a table."""
    learnt = rules(table, rows)
    dense = learnt.dense(table, rows)
    with threadpool_limits(1 if len(rows) < MANY else None):
        linear = LogisticRegression(C=PENALTY, max_iter=3_000).fit(learnt.spline(dense), labels)
        boosters = [
            HistGradientBoostingClassifier(
                max_iter=TREES,
                learning_rate=0.05,
                max_leaf_nodes=LEAVES,
                min_samples_leaf=20,
                l2_regularization=5,
                max_features=0.3,
                early_stopping=False,
                random_state=seed * 1_000 + number,
            ).fit(dense, labels)
            for number in range(BOOSTERS)
        ]
    return Learnt(learnt, linear, boosters)


# --- how good it is --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """Out of sample: each customer's score is by a model that hasn't seen him."""

    auc: float
    # Of those who left, the share that is among the fifth with the highest scores.
    top: float
    brier: float
    log_odds: Array


def judge(table: Table, seed: int, labels: Sequence[int] | None = None, folds: int = FOLDS) -> Judged:
    """The model's goodness in a stratified cross-validation; `labels` instead of the table's own."""
    truth = np.asarray(table.labels if labels is None else labels)
    found = np.zeros(len(truth))
    for learning, judging in StratifiedKFold(folds, shuffle=True, random_state=seed).split(truth, truth):
        found[judging] = learn(table, learning, truth[learning], seed).log_odds(table, judging)
    return Judged(
        float(roc_auc_score(truth, found)),
        top_share(truth, found),
        float(brier_score_loss(truth, probability(found))),
        found,
    )


def top_share(labels: Array, scores: Array) -> float:
    """The share of the leavers among the fifth of the customers with the highest scores."""
    truth = np.asarray(labels)
    first = np.argsort(-np.asarray(scores), kind="stable")[: int(len(truth) * TOP)]
    return float(truth[first].sum() / truth.sum())


def shuffled(table: Table, seed: int, folds: int = FOLDS) -> float:
    """The AUC of a model whose labels mean nothing, judged by the same procedure: 0.5 unless something leaks."""
    labels = np.random.default_rng(seed).permutation(np.asarray(table.labels))
    return judge(table, seed, [int(label) for label in labels], folds).auc


def telling(table: Table) -> dict[str, float]:
    """Features that tell leavers by themselves too well to be true: name → AUC."""
    truth = np.asarray(table.labels)
    found = {}
    for name, values in table.numbers.items():
        column = np.asarray(values, dtype=float)
        auc = float(roc_auc_score(truth, np.where(np.isnan(column), np.nanmedian(column), column)))
        found[name] = max(auc, 1 - auc)
    for name, words in table.categories.items():
        column = np.asarray(words, dtype=object).astype(str)
        share = {word: float(truth[column == word].mean()) for word in set(column)}
        # By its own rates a rare word tells everything: what counts is what it tells of many.
        if len(share) * RARE <= len(truth):
            found[name] = float(roc_auc_score(truth, [share[word] for word in column]))
    return {name: auc for name, auc in found.items() if auc >= TOO_GOOD}


def check(table: Table) -> None:
    """Raises TableError for too few examples, none to go by, and features that know what they are to foretell."""
    fewest = min(sum(table.labels), len(table) - sum(table.labels))
    if fewest < FEWEST:
        raise TableError(f"at least {FEWEST} who left and {FEWEST} who stayed are needed, here are {fewest}")
    if not table.names:
        raise TableError("there is nothing to learn from: no column says something of customers")
    if found := telling(table):
        named = ", ".join(f"{name} (AUC {auc:.3f} alone)" for name, auc in sorted(found.items()))
        raise TableError(f"these seem to have been told afterwards; leave them out: {named}")


def probability(log_odds: Array) -> Array:
    """1 ÷ (1 + e^-x)"""
    return 1 / (1 + np.exp(-np.asarray(log_odds, dtype=float)))


# --- what it becomes -------------------------------------------------------------------------------------------------


def calibration(labels: Sequence[int], log_odds: Array) -> tuple[float, float]:
    """Slope and offset by which out-of-sample scores become probabilities. J. Platt, "Probabilistic Outputs for Support
    Vector Machines", Advances in Large Margin Classifiers (1999)."""
    fitted = LogisticRegression(C=1e6, max_iter=1_000).fit(np.asarray(log_odds).reshape(-1, 1), np.asarray(labels))
    slope = float(fitted.coef_[0][0])
    if not slope > 0:
        raise TableError("out of sample the model says nothing: there is no use in it")
    return slope, float(fitted.intercept_[0])


def artefact(table: Table, learnt: Learnt, horizon_days: int, scale: tuple[float, float]) -> bytes:
    """The model as data, in the form that the customers service reads (see customers/value/churn.py)."""
    made = learnt.rules
    dense = made.dense(table, np.arange(len(table)))
    features: list[dict[str, Any]] = [
        {"name": name, "kind": "number", "missing": median}
        for name, median in zip(made.numbers, made.medians, strict=True)
    ]
    features += [{"name": name, "kind": "category"} for name in made.categories]
    content = {
        "format": FORMAT,
        "horizon_days": horizon_days,
        "features": features,
        "linear": {
            "weight": BLEND,
            "intercept": float(learnt.linear.intercept_[0]),
            "terms": _terms(made, learnt.linear.coef_[0], dense),
        },
        "trees": {
            "weight": (1 - BLEND) / len(learnt.boosters),
            "bias": math.fsum(float(booster._baseline_prediction.ravel()[0]) for booster in learnt.boosters),
            "trees": [tree for booster in learnt.boosters for tree in _trees(made, booster)],
        },
        "calibration": {"slope": scale[0], "offset": scale[1]},
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def _terms(made: Rules, weights: Array, dense: Array) -> list[dict[str, Any]]:
    terms: list[dict[str, Any]] = []
    at, column = 0, len(made.numbers)
    for position, knots in enumerate(made.knots):
        values = [float(weight) for weight in weights[at : at + len(knots)]]
        at += len(knots)
        mean = float(np.interp(dense[:, position], knots, values).mean())
        terms.append({"feature": position, "knots": list(knots), "values": values, "mean": mean})
    for position, levels in enumerate(made.levels, start=len(made.numbers)):
        values = [float(weight) for weight in weights[at : at + len(levels)]]
        mean = float((dense[:, column : column + len(levels)] @ np.asarray(values)).mean()) if levels else 0.0
        at, column = at + len(levels), column + len(levels)
        levelled = dict(zip(levels, values, strict=True))
        terms.append({"feature": position, "values": levelled, "other": 0.0, "mean": mean})
    return terms


def _trees(made: Rules, booster: HistGradientBoostingClassifier) -> list[dict[str, Any]]:
    """The trees; that scikit-learn still keeps them so is proved by the probes, which the service scores itself."""
    columns: list[tuple[int, str | None]] = [(position, None) for position in range(len(made.numbers))]
    for position, levels in enumerate(made.levels, start=len(made.numbers)):
        columns += [(position, level) for level in levels]
    return [_tree(columns, one.nodes) for (one,) in booster._predictors]


def _tree(columns: Sequence[tuple[int, str | None]], nodes: Array) -> dict[str, Any]:
    found: dict[str, list[Any]] = {name: [] for name in ("feature", "test", "left", "right", "cover", "value")}
    for node in nodes:
        leaf = bool(node["is_leaf"])
        feature, level = (0, None) if leaf else columns[int(node["feature_idx"])]
        found["feature"].append(feature)
        found["test"].append(0.0 if leaf else float(node["num_threshold"]) if level is None else level)
        found["left"].append(-1 if leaf else int(node["left"]))
        found["right"].append(-1 if leaf else int(node["right"]))
        found["cover"].append(int(node["count"]))
        found["value"].append(float(node["value"]))
    return found


def probes(table: Table, learnt: Learnt, scale: tuple[float, float]) -> list[tuple[dict[str, float | str], float]]:
    """Customers, spread over the table, with the probability that scikit-learn finds for them."""
    rows = np.unique(np.linspace(0, len(table) - 1, PROBES).astype(int))
    found = probability(scale[0] * learnt.log_odds(table, rows) + scale[1])
    return [(features_of(table, int(row)), float(one)) for row, one in zip(rows, found, strict=True)]


def features_of(table: Table, row: int) -> dict[str, float | str]:
    """What is known of one customer."""
    numbers = {name: float(values[row]) for name, values in table.numbers.items() if not math.isnan(values[row])}
    return {**numbers, **{name: words[row] for name, words in table.categories.items()}}


@dataclass(frozen=True)
class Trained:
    """What is registered."""

    artefact: bytes
    metrics: Mapping[str, float]
    probes: Sequence[tuple[Mapping[str, float | str], float]]
    libraries: Mapping[str, str]


def train(table: Table, horizon_days: int, *, seed: int = 0, seeds: int = 1) -> Trained:
    """A model of all examples, judged out of sample. Raises TableError."""
    check(table)
    judged = [judge(table, seed + number) for number in range(seeds)]
    metrics = {
        "auc": float(np.mean([one.auc for one in judged])),
        "top_20_percent": float(np.mean([one.top for one in judged])),
        "brier": float(np.mean([one.brier for one in judged])),
        "shuffled_auc": shuffled(table, seed),
        "share_of_leavers": float(np.mean(table.labels)),
    }
    learnt = learn(table, np.arange(len(table)), np.asarray(table.labels), seed)
    scale = calibration(table.labels, judged[0].log_odds)
    return Trained(
        artefact(table, learnt, horizon_days, scale),
        metrics,
        probes(table, learnt, scale),
        {"numpy": np.__version__, "scikit-learn": sklearn.__version__},
    )
