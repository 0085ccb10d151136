"""A product as TM Forum's inventory describes it (TMF637): the shape in which services speak of one, whoever keeps it.
Value objects, as those of `chassis.types`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chassis.types import (
    Characteristic,
    EntityRef,
    Extensible,
    Price,
    ProductSpecificationRef,
    Quantity,
    RelatedParty,
    TimePeriod,
)


class ProductStatus(StrEnum):
    """Where a product is in its life; the blank in the last one is TM Forum's."""

    CREATED = "created"
    PENDING_ACTIVE = "pendingActive"
    CANCELLED = "cancelled"
    ACTIVE = "active"
    PENDING_TERMINATE = "pendingTerminate"
    TERMINATED = "terminated"
    SUSPENDED = "suspended"
    ABORTED = "aborted "


class SuspensionReason(StrEnum):
    """Why a product doesn't work for a time: by the subscriber's wish, or by the operator's."""

    VOLUNTARY = "voluntary"
    DEBT = "debt"
    FRAUD = "fraud"
    REGULATORY = "regulatory"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductSuspension(Extensible):
    """One of the reasons for which a product doesn't work; of a part, `inherited_from` the bundle that it is in."""

    reason: SuspensionReason | None = None
    valid_for: TimePeriod | None = None
    inherited_from: str | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceReceiptRef:
    """The order whose receipt explains a price, and the hex SHA-256 of that receipt as it was then."""

    product_order_id: str | None = None
    digest: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementItemRef(Extensible):
    """A reference to an item of an agreement."""

    id: str | None = None
    href: str | None = None
    agreement_item_id: str | None = None
    name: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RelatedPlaceRefOrValue(Extensible):
    """A place, and what it is here."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    role: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RelatedProductOrderItem(Extensible):
    """The item of an order that a product comes from."""

    order_item_action: str | None = None
    order_item_id: str | None = None
    product_order_href: str | None = None
    product_order_id: str | None = None
    role: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceAlteration(Extensible):
    """What changes a price: a discount, an allowance."""

    application_duration: int | None = None
    description: str | None = None
    name: str | None = None
    price_type: str | None = None
    priority: int | None = None
    recurring_charge_period: str | None = None
    unit_of_measure: str | None = None
    price: Price | None = None
    product_offering_price: EntityRef | None = None
    # Of a limited one that the product had before: since when its charge has run, and when it ends.
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductPrice(Extensible):
    """What a product costs."""

    description: str | None = None
    name: str | None = None
    price_type: str | None = None
    recurring_charge_period: str | None = None
    unit_of_measure: str | None = None
    billing_account: EntityRef | None = None
    price: Price | None = None
    product_offering_price: EntityRef | None = None
    product_price_alteration: tuple[PriceAlteration, ...] = ()
    # As it was sold: why it is what it is, and since when.
    receipt: PriceReceiptRef | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductRelationship(Extensible):
    """How one product relates to another."""

    relationship_type: str | None = None
    product: ProductRefOrValue | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductTerm(Extensible):
    """A commitment that a product has been sold with."""

    description: str | None = None
    name: str | None = None
    duration: Quantity | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceRef(Extensible):
    """A reference to a resource."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    value: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductRefOrValue(Extensible):
    """A product, by reference or by value."""

    id: str | None = None
    href: str | None = None
    description: str | None = None
    is_bundle: bool | None = None
    is_customer_visible: bool | None = None
    name: str | None = None
    order_date: datetime | None = None
    product_serial_number: str | None = None
    start_date: datetime | None = None
    termination_date: datetime | None = None
    agreement: tuple[AgreementItemRef, ...] = ()
    billing_account: EntityRef | None = None
    place: tuple[RelatedPlaceRefOrValue, ...] = ()
    product: tuple[ProductRefOrValue, ...] = ()
    product_characteristic: tuple[Characteristic, ...] = ()
    product_offering: EntityRef | None = None
    product_order_item: tuple[RelatedProductOrderItem, ...] = ()
    product_price: tuple[ProductPrice, ...] = ()
    product_relationship: tuple[ProductRelationship, ...] = ()
    product_specification: ProductSpecificationRef | None = None
    product_term: tuple[ProductTerm, ...] = ()
    realizing_resource: tuple[ResourceRef, ...] = ()
    realizing_service: tuple[EntityRef, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()
    status: ProductStatus | None = None
    suspension: tuple[ProductSuspension, ...] = ()
    at_referred_type: str | None = None
