"""What a price is asked with, and what is answered: plain things, of which a large quote makes thousands."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import msgspec

from catalog.pricing.receipts import PriceReceipt
from chassis.types import Characteristic, Duration, EntityRef, Money, TimePeriod

# --- what is asked ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BundledSelection:
    """How many of a part of a bundle, instead of the default."""

    product_offering_id: str
    number: int


@dataclass(frozen=True, slots=True)
class UsageQuantity:
    """What was used of something in one charge period."""

    usage_type: str
    amount: Decimal
    units: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """So many of an offering, as it was chosen; `id` is the caller's own name for it."""

    id: str
    product_offering_id: str
    quantity: int = 1
    characteristic: tuple[Characteristic, ...] = ()
    # The commitment term; empty: none.
    term: str = ""
    # The offering as it is, for who holds it already: no other version of its series, and it may be retired.
    exact_version: bool = False
    bundled: tuple[BundledSelection, ...] = ()
    # Empty: usage prices are listed, not charged.
    usage: tuple[UsageQuantity, ...] = ()
    # Since when the product is held; None: a new one, all of whose phases are listed.
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PricingContext:
    """For whom, where and when; `currency` empty: the one that the offering is priced in."""

    at: datetime
    currency: str = ""
    branch: str = ""
    customer_id: str = ""
    # By name or id.
    market_segment: tuple[str, ...] = ()
    channel: str = ""
    # The narrowest first.
    place: tuple[str, ...] = ()
    agreement_id: str = ""
    coupon: tuple[str, ...] = ()
    # How many orders the customer placed before; None: unknown.
    orders_before: int | None = None
    # The order that it is priced for, whose uses of coupons are its own. Receipts tell what became of the coupons.
    order_id: str = ""
    # What recurs of items that are held, as it was sold. Receipts tell what goes on of it.
    held_charge: tuple["HeldCharge", ...] = ()
    # All ids of a customer who has several. What was redeemed under them is told by what became of the coupons.
    same_customer_id: tuple[str, ...] = ()

    @property
    def customer_ids(self) -> tuple[str, ...]:
        """Every id under which the customer may have redeemed something."""
        return tuple(dict.fromkeys((self.customer_id, *self.same_customer_id)))


@dataclass(frozen=True, slots=True)
class HeldDiscount:
    """What a promotion took off a charge when it was sold: as an alteration of the charge tells it."""

    product_offering_price: EntityRef | None = None
    name: str = ""
    priority: int = 0
    # Percent, negative; None: an amount.
    percentage: Decimal | None = None
    # Negative: without tax, and with it.
    amount: Money | None = None
    tax_included_amount: Money | None = None
    application_duration: Duration | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, slots=True)
class HeldCharge:
    """A recurring charge of a product as it was sold, for its whole quantity; `item_id`: the item that changes it."""

    item_id: str = ""
    # Of a part of the item's bundle: the part's offering; empty: the charge is the item's own.
    bundled_offering_id: str = ""
    product_offering_price_id: str = ""
    name: str = ""
    recurring_charge_period: str = ""
    # After all alterations.
    amount: Money | None = None
    tax_included_amount: Money | None = None
    alteration: tuple[HeldDiscount, ...] = ()


# --- what is answered ------------------------------------------------------------------------------------------------
# Structs, since a large quote makes thousands: a dataclass takes more than four times as long to be made. Nobody
# changes them once they are answered. Amounts are kept as numbers, and become texts and money when somebody looks.
# Nothing that they hold leads back to them, so the collector needn't know of them.


class AppliedAlteration(msgspec.Struct, gc=False):
    """What one alteration added to a charge (negative: a discount)."""

    product_offering_price: EntityRef | None
    name: str
    priority: int
    percentage: Decimal | None
    currency: str
    value: Decimal
    application_duration: Duration | None = None
    # Of what is held: from when the charge began until that duration is over.
    valid_for: TimePeriod | None = None
    # With tax, of what a promotion took off.
    gross: Decimal | None = None

    @property
    def amount(self) -> Money:
        """The same as money."""
        return Money(unit=self.currency, value=self.value)


@dataclass(frozen=True, slots=True)
class Stage:
    """A phase of an offering on the time line of one who holds it."""

    name: str
    # After the product's own start; None: at once.
    start: Duration | None
    # None: for ever.
    duration: Duration | None
    # It begins only after the instant that is asked about: nothing of it is due yet.
    later: bool = False


class PriceComponent(msgspec.Struct, gc=False):
    """One charge of an item for its whole quantity; `listed` and `net` are rounded and without tax, `gross` with it."""

    rule: str
    product_offering_price: EntityRef | None
    name: str
    price_type: str
    recurring_charge_period: str
    currency: str
    listed: Decimal
    net: Decimal
    tax_rate: Decimal | None
    gross: Decimal
    alteration: list[AppliedAlteration]
    # Whether the catalog states the amount with tax.
    quoted_gross: bool = False
    usage_type: str = ""
    stage: Stage | None = None

    @property
    def list_amount(self) -> Money:
        """Before alterations, without tax."""
        return Money(unit=self.currency, value=self.listed)

    @property
    def amount(self) -> Money:
        """After alterations, without tax."""
        return Money(unit=self.currency, value=self.net)

    @property
    def tax_included_amount(self) -> Money:
        """After alterations, with tax."""
        return Money(unit=self.currency, value=self.gross)

    @property
    def phase(self) -> str:
        """The phase that it belongs to; empty: all of them."""
        return self.stage.name if self.stage is not None else ""

    @property
    def later(self) -> bool:
        """Whether its phase has yet to begin, so that nothing is due."""
        return self.stage is not None and self.stage.later


class PricedItem(msgspec.Struct, gc=False):
    """An item with its charges, and those of the offerings that it bundles."""

    id: str
    product_offering: EntityRef
    product_specification: EntityRef | None
    quantity: int
    is_bundle: bool
    component: list[PriceComponent]
    bundled_item: list["PricedItem"]
    characteristic: tuple[Characteristic, ...] = ()
    term: str = ""
    started_at: datetime | None = None


@dataclass(slots=True)
class PriceTotal:
    """What all items come to, of one currency, kind and charge period."""

    price_type: str
    recurring_charge_period: str
    amount: Money
    tax_included_amount: Money


@dataclass(slots=True)
class Pricing:
    """The answer and its receipt."""

    item: tuple[PricedItem, ...]
    total: tuple[PriceTotal, ...]
    receipt: PriceReceipt
    # Whether it may hang on how many orders the customer had before, known or not.
    orders_before_compared: bool = False
