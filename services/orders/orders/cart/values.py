"""The value objects of shopping carts (TMF663)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chassis.products import ProductRefOrValue
from chassis.types import EntityRef, Extensible, Money, Note
from orders.ordering.values import OrderItemAction, OrderPrice, OrderTerm


class CartStatus(StrEnum):
    """Whether a cart can still change, and else what has become of it."""

    ACTIVE = "active"
    CHECKED_OUT = "checkedOut"
    MERGED = "merged"
    EXPIRED = "expired"


class CartItemStatus(StrEnum):
    """Whether an item is to be ordered."""

    ACTIVE = "active"
    SAVE_FOR_LATER = "saveForLater"


@dataclass(frozen=True, kw_only=True, slots=True)
class CartItemRelationship(Extensible):
    """How one item relates to another."""

    id: str | None = None
    relationship_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CartProblem:
    """Something that keeps a cart or an item from being ordered; `code` as an order would be refused with."""

    code: str | None = None
    path: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CartPriceChange:
    """What an item costs otherwise than when the customer chose it, or last accepted its price; with tax."""

    cart_item_id: str | None = None
    price_type: str | None = None
    recurring_charge_period: str | None = None
    old_amount: Money | None = None
    new_amount: Money | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CartItem(Extensible):
    """What is wanted, in TM Forum's shape; items of a bundle inside."""

    id: str | None = None
    quantity: int | None = None
    action: OrderItemAction | None = None
    cart_item: tuple[CartItem, ...] = ()
    cart_item_relationship: tuple[CartItemRelationship, ...] = ()
    item_price: tuple[OrderPrice, ...] = ()
    item_term: tuple[OrderTerm, ...] = ()
    item_total_price: tuple[OrderPrice, ...] = ()
    note: tuple[Note, ...] = ()
    product: ProductRefOrValue | None = None
    product_offering: EntityRef | None = None
    status: CartItemStatus | None = None
    problem: tuple[CartProblem, ...] = ()

    @property
    def active(self) -> bool:
        """Whether it is to be ordered, and so priced."""
        return self.status is not CartItemStatus.SAVE_FOR_LATER
