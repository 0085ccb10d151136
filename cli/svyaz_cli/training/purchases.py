"""Learns how customers without a contract buy: BG/NBD and gamma-gamma, by maximum likelihood.

The formulas are those of P. S. Fader, B. G. S. Hardie and K. L. Lee (see customers/value/purchases.py, which applies
the parameters). The packages that did this are no longer kept (lifetimes since 2020, btyd archived in 2024), and their
successor samples posteriors by way of a compiler: for four numbers, scipy's optimiser is enough.
"""

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, gammaln

FORMAT = 1
# Where searches begin: the parameters' logarithms are searched, so that they stay positive.
_STARTS = (0.0, 1.0, -1.0)
# Beyond e to that nothing is a parameter, and differences of large logarithms are noise.
_FARTHEST = 12.0

Array = Any


class FitError(Exception):
    """There is no model of these purchases."""


@dataclass(frozen=True)
class Histories:
    """(x, t_x, T) of each customer, in units of time, and the mean of what he spent on each of his repeat purchases
    (0: none)."""

    frequency: Array
    recency: Array
    age: Array
    spend: Array


@dataclass(frozen=True)
class Fitted:
    """Parameters by name, and the logarithm of the likelihood."""

    parameters: Mapping[str, float]
    log_likelihood: float


def histories(purchases: Iterable[tuple[str, date, float]], until: date, unit_days: float) -> Histories:
    """Of purchases (customer, day, amount) up to a day, it included: several of one day are one."""
    by_customer: dict[str, dict[date, float]] = {}
    for customer, day, amount in purchases:
        if day <= until:
            days = by_customer.setdefault(customer, {})
            days[day] = days.get(day, 0.0) + amount
    rows = []
    for days in by_customer.values():
        ordered = sorted(days)
        repeats = [days[day] for day in ordered[1:]]
        spend = sum(repeats) / len(repeats) if repeats else 0.0
        since = [(day - ordered[0]).days / unit_days for day in (ordered[-1], until)]
        rows.append((len(repeats), since[0], since[1], spend))
    if not rows:
        raise FitError("nobody has bought anything")
    frequency, recency, age, spend_ = np.asarray(rows, dtype=float).T
    return Histories(frequency, recency, age, spend_)


def of_file(path: Path, customer: str, day: str, amount: str) -> list[tuple[str, date, float]]:
    """Purchases from a CSV file with a header: by the names of its columns. Raises FitError."""
    found = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if missing := [name for name in (customer, day, amount) if name not in (rows.fieldnames or ())]:
                raise FitError(f"{path.name} has no column {', '.join(missing)}")
            for row in rows:
                try:
                    spent = float(row[amount])
                    if not math.isfinite(spent):
                        raise ValueError(f"{row[amount]!r} is no amount")
                    found.append((row[customer], date.fromisoformat(row[day]), spent))
                except (ValueError, TypeError) as error:
                    raise FitError(f"{path.name}, line {rows.line_num}: {error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FitError(f"{path.name}: {error}") from error
    return found


def log_likelihood(parameters: Sequence[float], known: Histories) -> float:
    """Of BG/NBD's r, α, a and b (Fader, Hardie, Lee 2005, equation 6, in logarithms)."""
    r, alpha, a, b = parameters
    x, recency, age = known.frequency, known.recency, known.age
    first = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    alive = betaln(a, b + x) - betaln(a, b) - (r + x) * np.log(alpha + age)
    # B(a+1, b+x-1); only who has bought again can have left.
    left = np.where(
        x > 0,
        betaln(a + 1, np.maximum(b + x - 1, 1e-300)) - betaln(a, b) - (r + x) * np.log(alpha + recency),
        -np.inf,
    )
    return float(np.sum(first + np.logaddexp(alive, left)))


def fit_purchases(known: Histories) -> Fitted:
    """r, alpha, a and b of BG/NBD. Raises FitError when no search ends."""
    return _fitted(("r", "alpha", "a", "b"), lambda values: log_likelihood(values, known), (0.0, 0.0, 0.0, 0.0))


def spend_likelihood(parameters: Sequence[float], known: Histories) -> float:
    """Of gamma-gamma's p, q and γ, over those who bought again (Fader, Hardie, Lee 2005b, equation 1a)."""
    p, q, gamma = parameters
    again = (known.frequency > 0) & (known.spend > 0)
    x, mean = known.frequency[again], known.spend[again]
    return float(
        np.sum(
            gammaln(p * x + q)
            - gammaln(p * x)
            - gammaln(q)
            + q * np.log(gamma)
            + (p * x - 1) * np.log(mean)
            + p * x * np.log(x)
            - (p * x + q) * np.log(gamma + x * mean)
        )
    )


def fit_spend(known: Histories) -> Fitted:
    """p, q and gamma. Raises FitError, also where q isn't greater than 1: then the mean has no expectation."""
    again = (known.frequency > 0) & (known.spend > 0)
    if not again.any():
        raise FitError("nobody has bought again")
    level = float(np.log(np.mean(known.spend[again])))
    found = _fitted(("p", "q", "gamma"), lambda values: spend_likelihood(values, known), (0.0, 1.0, level))
    if found.parameters["q"] <= 1:
        raise FitError(f"q is {found.parameters['q']:.3f}: what customers spend has no mean")
    return found


def _fitted(names: Sequence[str], likelihood: Any, start: Sequence[float]) -> Fitted:
    """The best of the searches from several places, each made sure of by a second one from where it ended."""
    best: tuple[float, Array] | None = None
    for shift in _STARTS:
        point: Array = np.asarray(start, dtype=float) + shift
        for _ in range(2):
            with np.errstate(all="ignore"):
                result = minimize(
                    lambda logs: -likelihood(np.exp(logs)) if np.abs(logs).max() < _FARTHEST else np.inf,
                    point,
                    method="Nelder-Mead",
                    options={"xatol": 1e-7, "fatol": 1e-7, "maxiter": 4_000, "maxfev": 4_000},
                )
            point = result.x
        if np.isfinite(result.fun) and (best is None or result.fun < best[0]):
            best = (float(result.fun), result.x)
    if best is None:
        raise FitError("the likelihood has no greatest value")
    return Fitted(dict(zip(names, (float(value) for value in np.exp(best[1])), strict=True)), -best[0])


def digest(purchases: Iterable[tuple[str, date, float]]) -> str:
    """Hex SHA-256 of what is learnt from, in whatever order it came."""
    found = hashlib.sha256()
    for customer, day, amount in sorted(purchases):
        found.update(f"{customer}\t{day}\t{amount!r}\n".encode())
    return found.hexdigest()


def artefact(purchases: Fitted, spend: Fitted, unit_days: float, currency: str) -> bytes:
    """The models as data, in the form that the customers service reads (see customers/value/purchase_models.py)."""
    content = {
        "format": FORMAT,
        "unit_days": unit_days,
        "currency": currency,
        "bg_nbd": dict(purchases.parameters),
        "gamma_gamma": dict(spend.parameters),
    }
    return json.dumps(content, separators=(",", ":")).encode()
