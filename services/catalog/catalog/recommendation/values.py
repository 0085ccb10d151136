"""The value objects of recommendations (TMF680)."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from catalog.qualification.values import ProductRefOrValue
from chassis.types import EntityRef, Extensible, Money


class RecommendationState(StrEnum):
    """How far a recommendation has come."""

    ACCEPTED = "accepted"
    TERMINATED_WITH_ERROR = "terminatedWithError"
    IN_PROGRESS = "inProgress"
    DONE = "done"


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemRef(Extensible):
    """A reference to an item of an order or a cart."""

    entity_href: str | None = None
    entity_id: str | None = None
    item_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UsedQuantity(Extensible):
    """What somebody uses of something in a charge period."""

    usage_type: str | None = None
    amount: Decimal | None = None
    units: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RecommendationReason(Extensible):
    """Why an offering is recommended, for programs and for people (English, Russian)."""

    code: str | None = None
    label: str | None = None
    label_ru: str | None = None
    weight: Decimal | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RecommendationItem(Extensible):
    """An offering that is recommended; `priority` 1 is the best."""

    id: str | None = None
    priority: int | None = None
    product: ProductRefOrValue | None = None
    product_offering: EntityRef | None = None
    reason: tuple[RecommendationReason, ...] = ()
    monthly_saving: Money | None = None
    replaced_product: tuple[EntityRef, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class EntitledDiscount(Extensible):
    """A discount (`percentage` off) that a customer is entitled to by a rule, and why (English, Russian); `products`
    that count, of which those that are needed are all active from `since` on."""

    discount_entitlement: EntityRef | None = None
    percentage: Decimal | None = None
    promotion: EntityRef | None = None
    products: int | None = None
    since: datetime | None = None
    label: str | None = None
    label_ru: str | None = None
