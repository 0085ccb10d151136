"""The value objects of product orders (TMF622)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chassis.products import PriceAlteration, ProductRefOrValue
from chassis.types import EntityRef, Extensible, Money, Price, Quantity


class ProductOrderState(StrEnum):
    """Where an order is."""

    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    PENDING = "pending"
    HELD = "held"
    IN_PROGRESS = "inProgress"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    FAILED = "failed"
    PARTIAL = "partial"
    ASSESSING_CANCELLATION = "assessingCancellation"
    PENDING_CANCELLATION = "pendingCancellation"


class OrderItemAction(StrEnum):
    """What an item does to a product."""

    ADD = "add"
    MODIFY = "modify"
    DELETE = "delete"
    NO_CHANGE = "noChange"


class ProductOrderItemState(StrEnum):
    """Where an item is."""

    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    PENDING = "pending"
    HELD = "held"
    IN_PROGRESS = "inProgress"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    FAILED = "failed"
    ASSESSING_CANCELLATION = "assessingCancellation"
    PENDING_CANCELLATION = "pendingCancellation"


class TaskState(StrEnum):
    """Where a cancellation is."""

    ACKNOWLEDGED = "acknowledged"
    TERMINATED_WITH_ERROR = "terminatedWithError"
    IN_PROGRESS = "inProgress"
    DONE = "done"


@dataclass(frozen=True, kw_only=True, slots=True)
class AssessedTask:
    """A task of an order, as its cancellation finds it; `undoable`: see `orders.fulfilment.undo.Undoable`."""

    order_item_id: str | None = None
    name: str | None = None
    undoable: str | None = None
    cost: Money | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RelatedChannel(Extensible):
    """A channel, and what it was used for."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    role: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderPrice(Extensible):
    """What an order or an item costs."""

    description: str | None = None
    name: str | None = None
    price_type: str | None = None
    recurring_charge_period: str | None = None
    unit_of_measure: str | None = None
    billing_account: EntityRef | None = None
    price: Price | None = None
    price_alteration: tuple[PriceAlteration, ...] = ()
    product_offering_price: EntityRef | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AppointmentRef(Extensible):
    """A reference to an appointment."""

    id: str | None = None
    href: str | None = None
    description: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderTerm(Extensible):
    """A commitment."""

    description: str | None = None
    name: str | None = None
    duration: Quantity | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductOfferingQualificationItemRef(Extensible):
    """A reference to an item of a qualification."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    product_offering_qualification_href: str | None = None
    product_offering_qualification_id: str | None = None
    product_offering_qualification_name: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderItemRelationship(Extensible):
    """How one item relates to another."""

    id: str | None = None
    relationship_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class QuoteItemRef(Extensible):
    """A reference to an item of a quote."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    quote_href: str | None = None
    quote_id: str | None = None
    quote_name: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderItem(Extensible):
    """What is wanted, in TM Forum's shape; items of a bundle inside."""

    id: str | None = None
    quantity: int | None = None
    action: OrderItemAction | None = None
    appointment: AppointmentRef | None = None
    billing_account: EntityRef | None = None
    item_price: tuple[OrderPrice, ...] = ()
    item_term: tuple[OrderTerm, ...] = ()
    item_total_price: tuple[OrderPrice, ...] = ()
    payment: tuple[EntityRef, ...] = ()
    product: ProductRefOrValue | None = None
    product_offering: EntityRef | None = None
    product_offering_qualification_item: ProductOfferingQualificationItemRef | None = None
    product_order_item: tuple[OrderItem, ...] = ()
    product_order_item_relationship: tuple[OrderItemRelationship, ...] = ()
    qualification: tuple[EntityRef, ...] = ()
    quote_item: QuoteItemRef | None = None
    state: ProductOrderItemState | None = None
    # The template that it comes from: its fulfilment specification is found by it.
    order_template: str | None = None
    # Told of it; kept by its row.
    expected_completion_date: datetime | None = None
