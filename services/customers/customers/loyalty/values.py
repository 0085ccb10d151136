"""The value objects of loyalty: what a programme's terms and rules are made of."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from chassis.types import TimePeriod


class PendingMode(StrEnum):
    """What points wait for before they can be spent."""

    IMMEDIATE = "immediate"
    DURATION = "duration"
    ACTION = "action"


class DayRounding(StrEnum):
    """Which instant of the branch's local day an instant is moved to."""

    NONE = "none"
    START_OF_DAY = "startOfDay"
    END_OF_DAY = "endOfDay"


class PointsRounding(StrEnum):
    """How a fraction of the smallest part of a point is rounded."""

    DOWN = "down"
    HALF_UP = "halfUp"
    UP = "up"


class PointsCapPeriod(StrEnum):
    """The local day, week (from Monday), month or year in which a cap is counted anew."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    EVER = "ever"


class TierBasis(StrEnum):
    """What tiers are reached by."""

    POINTS_EARNED = "pointsEarned"
    SPEND = "spend"


class EarnRuleState(StrEnum):
    """Drafts change, active rules earn, retired ones only explain what they have earned."""

    DRAFT = "draft"
    ACTIVE = "active"
    RETIRED = "retired"


class PointsReservationState(StrEnum):
    """What has become of points that were set aside."""

    RESERVED = "reserved"
    CONFIRMED = "confirmed"
    RELEASED = "released"
    EXPIRED = "expired"
    REFUNDED = "refunded"


class ClubCardState(StrEnum):
    """Where a card stands."""

    ISSUED = "issued"
    ACTIVE = "active"
    BLOCKED = "blocked"
    REPLACED = "replaced"


@dataclass(frozen=True, kw_only=True, slots=True)
class LotTerms:
    """When the points of a lot can be spent, and until when (days and months of the branch's calendar)."""

    pending: PendingMode | None = None
    pending_days: int | None = None
    pending_rounding: DayRounding | None = None
    pending_action: str | None = None
    lapse_days: int | None = None
    validity_days: int | None = None
    validity_months: int | None = None
    validity_rounding: DayRounding | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LoyaltyTier:
    """A tier, and what it takes to reach it."""

    code: str | None = None
    name: str | None = None
    threshold: Decimal | None = None
    multiplier: Decimal | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PointsFormula:
    """points = (fixed + rate × basis / per) × the tier's multiplier, rounded, of which at most `maximum`."""

    fixed: Decimal | None = None
    basis: str | None = None
    rate: Decimal | None = None
    per: Decimal | None = None
    whole: bool | None = None
    tier_multiplied: bool | None = None
    rounding: PointsRounding | None = None
    scale: int | None = None
    maximum: Decimal | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PointsCap:
    """At most so many points of a rule for one member in a period."""

    period: PointsCapPeriod | None = None
    points: Decimal | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A rule as the engine takes it, and as a receipt keeps it."""

    id: str
    code: str
    version: int
    event_type: str
    formula: PointsFormula
    condition: str = ""
    cap: tuple[PointsCap, ...] = ()
    valid_for: TimePeriod | None = None
    priority: int = 0
    exclusive: bool = False
    exclusion_group: str = ""
    reason: str = "EARNED"


# Events that tell a price which is charged for itself: only the charge counts as money spent, else it counted twice.
ORDER_COMPLETED, PRODUCT_ACTIVATED = "order.completed", "product.activated"
CHARGE_CREATED, CHARGE_STARTED = "charge.created", "charge.started"
PRICED = frozenset({ORDER_COMPLETED, PRODUCT_ACTIVATED, CHARGE_STARTED})


@dataclass(frozen=True, kw_only=True, slots=True)
class LoyaltyEvent:
    """Something that points may be earned for; `facts` is a JSON object's text, its numbers exact."""

    id: str
    type: str
    at: datetime
    facts: str = "{}"
