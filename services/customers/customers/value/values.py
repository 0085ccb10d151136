"""The value objects of a customer's value."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from chassis.receipts import Receipt
from chassis.types import Money


class ChurnBand(StrEnum):
    """How likely a customer leaves, in the words of the policy."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ValueModelKind(StrEnum):
    """What a model says: who leaves, or how often somebody still buys and for how much."""

    CHURN = "churn"
    PURCHASES = "purchases"


class ValueModelState(StrEnum):
    """Whether a model is the one that is applied, isn't yet, or was."""

    TRAINED = "trained"
    ACTIVE = "active"
    RETIRED = "retired"


class ValuationRunState(StrEnum):
    """Where a valuation of all customers of a branch is."""

    IN_PROGRESS = "inProgress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChurnReason:
    """What a feature adds to the log-odds of leaving: positive towards leaving, negative towards staying."""

    feature: str | None = None
    value: str | None = None
    contribution: Decimal | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChurnRisk:
    """How likely a customer leaves within so many days, by which model, and why: `reason`, the strongest first, with
    `base` and `other` (all that is too weak to be named) adds up to the log-odds."""

    probability: Decimal | None = None
    band: ChurnBand | None = None
    horizon_days: int | None = None
    model_id: str | None = None
    log_odds: Decimal | None = None
    base: Decimal | None = None
    other: Decimal | None = None
    reason: tuple[ChurnReason, ...] = ()
    scored_at: datetime | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LifetimeWorth:
    """A customer's lifetime value in one currency: what he has brought, and what he is expected to, discounted."""

    value: Money | None = None
    observed: Money | None = None
    expected: Money | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueClassRule:
    """Who is of a class: all that is stated must hold, in one currency where it is about amounts.

    `cumulative_share`: among those customers, the most valuable first, who together make this share of all value (0.8:
    the A of an ABC analysis). `top_share`: among this share of the customers. The others: at least so much lifetime
    value, or revenue in the policy's recent months; at most such a probability of leaving, or at least.
    """

    value_class: str | None = None
    cumulative_share: Decimal | None = None
    top_share: Decimal | None = None
    minimum_value: Money | None = None
    minimum_revenue: Money | None = None
    minimum_churn: Decimal | None = None
    maximum_churn: Decimal | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelMetric:
    """A figure by which a model was judged, out of sample: `auc`, `top_20_percent`, `shuffled_auc` …"""

    name: str | None = None
    value: Decimal | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LibraryVersion:
    """A library that a model was trained with."""

    name: str | None = None
    version: str | None = None
