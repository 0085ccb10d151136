"""The value objects inside a promotion; names and meanings are TMF671's (v4.1)."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from chassis.types import Duration, EntityRef, Extensible, TimePeriod


class Stage(StrEnum):
    """Where a promotion stands, in the words that TMF671 suggests."""

    DRAFT = "draft"
    TEST = "test"
    WAIT_FOR_APPROVAL = "waitForApproval"
    RELEASE = "release"
    SUSPEND = "suspend"
    RETIREMENT = "retirement"


@dataclass(frozen=True, kw_only=True, slots=True)
class PromotionCriteria(Extensible):
    """Something that must be so; see `catalog.promotion.terms` for what it can be about."""

    id: str | None = None
    criteria_operator: str | None = None
    criteria_parameter: str | None = None
    criteria_value: str | None = None
    criteria_entity_ref: EntityRef | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PromotionCriteriaGroup(Extensible):
    """Criteria of which all, or (`or`) one, must hold."""

    id: str | None = None
    criteria_logical_relationship: str | None = None
    group_name: str | None = None
    criteria: tuple[PromotionCriteria, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PromotionAction(Extensible):
    """What is granted, and on which charges; amounts without tax, in the promotion's currency."""

    id: str | None = None
    action_type: str | None = None
    action_value: str | None = None
    action_entity_ref: EntityRef | None = None
    product_offering: tuple[EntityRef, ...] = ()
    category: tuple[EntityRef, ...] = ()
    unit_price_from: Decimal | None = None
    unit_price_to: Decimal | None = None
    price_type: str | None = None
    recurring_charge_period: str | None = None
    minimum_unit_price: Decimal | None = None
    application_duration: Duration | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PromotionPattern(Extensible):
    """Groups of criteria, and what is granted where they hold; of one promotion the smaller priority comes first."""

    id: str | None = None
    criteria_group_logical_relationship: str | None = None
    description: str | None = None
    name: str | None = None
    priority: int | None = None
    action: tuple[PromotionAction, ...] = ()
    criteria_group: tuple[PromotionCriteriaGroup, ...] = ()
    valid_for: TimePeriod | None = None
