"""Which charges a change of a product means. Pure: no I/O, no clock.

What a product is charged for is the prices that it was sold with. One that recurs starts when the product becomes
active and stops when it ends; while the product is suspended it rests, unless the product was sold otherwise: with the
characteristic `chargedWhileSuspended` that is `true`, or names the prices that go on (by the id of their offering
price, or their name). A price without an amount before tax can't be charged: where it should begin it is refused rather
than passed over; one that was never charged, since the product came from elsewhere, has nothing to stop.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from chassis.errors import FailedPrecondition, Violation
from chassis.products import PriceAlteration, ProductPrice, ProductStatus
from chassis.types import Characteristic, EntityRef
from orders.billing.domain import ChargeAlteration, ChargeEvent, ChargeType

RECURRING = "recurring"
CHARGED_WHILE_SUSPENDED = "chargedWhileSuspended"
# An alteration that refers to a promotion, not to a price of the catalog.
PROMOTION = "Promotion"

_P, _C = ProductStatus, ChargeType
_RUNNING = frozenset({_P.ACTIVE, _P.SUSPENDED, _P.PENDING_TERMINATE})
_BEGINNING = frozenset({None, _P.CREATED, _P.PENDING_ACTIVE})


@dataclass(frozen=True, kw_only=True)
class Held:
    """A product as billing cares for it."""

    status: ProductStatus | None
    prices: Sequence[ProductPrice] = ()
    offering_id: str = ""
    characteristics: Sequence[Characteristic] = ()
    # Those of its prices that rest while it is suspended, by id or name; None: all that aren't sold otherwise.
    resting: Collection[str] | None = None

    def rests(self, price: ProductPrice) -> bool:
        """Whether the price isn't charged now, because the product is suspended."""
        if self.status is not _P.SUSPENDED or _goes_on(price, self.characteristics):
            return False
        return self.resting is None or name_of(price)[0] in self.resting


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why a product changes, and who pays for it."""

    account: str
    branch: str
    at: datetime
    product_id: str
    customer_id: str = ""
    order_id: str = ""
    order_item_id: str = ""
    receipt_digest: str | None = None
    reason: str | None = None


def charges_of(before: Held, after: Held, cause: Cause, *, priced: bool = False) -> list[ChargeEvent]:
    """The charges of a change, in their order: what stops, what goes on otherwise or starts, what rests or is resumed.

    `priced`: an order has priced the product anew, so that even a price that is the same is told again, and one-time
    prices are due. Raises FailedPrecondition UNCHARGEABLE naming a price without an amount before tax, InvalidArgument
    CHARGE_INVALID.
    """
    if before.status in _BEGINNING:
        return _begun(after, cause) if after.status in _RUNNING else []
    if before.status not in _RUNNING:
        return []
    if after.status not in _RUNNING:
        return [_event(_C.RECURRING_CHARGE_STOP, price, before, cause) for price in _recurring(before.prices)]
    kept = _by_name(after.prices) if priced else _by_name(before.prices)
    charged = [
        _event(_C.RECURRING_CHARGE_STOP, price, before, cause)
        for name, price in _by_name(before.prices).items()
        if name not in kept
    ]
    if priced:
        charged += [
            _event(_C.RECURRING_CHARGE_CHANGE if _recurs(price) else _C.CHARGE_CREATE, price, after, cause)
            for price in after.prices
        ]
    return charged + _rested(before, after, kept, cause)


def _begun(after: Held, cause: Cause) -> list[ChargeEvent]:
    return [
        _event(_C.RECURRING_CHARGE_START if _recurs(price) else _C.CHARGE_CREATE, price, after, cause)
        for price in after.prices
    ] + _rested(replace(after, status=_P.ACTIVE), after, _by_name(after.prices), cause)


def _rested(
    before: Held, after: Held, prices: Mapping[tuple[str, str | None], ProductPrice], cause: Cause
) -> list[ChargeEvent]:
    """What begins to rest, or ends it; a price that is new while the product is suspended begins with that."""
    known = _by_name(before.prices)
    charged: list[ChargeEvent] = []
    for name, price in prices.items():
        rested, rests = name in known and before.rests(known[name]), after.rests(price)
        if rested != rests:
            kind = _C.RECURRING_CHARGE_SUSPEND if rests else _C.RECURRING_CHARGE_RESUME
            charged.append(_event(kind, price, after, cause))
    return charged


def _goes_on(price: ProductPrice, characteristics: Sequence[Characteristic]) -> bool:
    for characteristic in characteristics:
        if characteristic.name == CHARGED_WHILE_SUSPENDED:
            value = json.loads(characteristic.value.text) if characteristic.value is not None else None
            named = value if isinstance(value, list) else [value]
            ours = (True, "true", _id(price.product_offering_price), price.name)
            return any(one in ours for one in named if one)
    return False


def _recurs(price: ProductPrice) -> bool:
    return price.price_type == RECURRING


def _recurring(prices: Sequence[ProductPrice]) -> list[ProductPrice]:
    return [price for price in prices if _recurs(price) and _charged(price)]


def name_of(price: ProductPrice) -> tuple[str, str | None]:
    """What makes two prices of a product the same charge: the offering's price, or a name where there is none."""
    return _id(price.product_offering_price) or price.name or "", price.recurring_charge_period


def _by_name(prices: Sequence[ProductPrice]) -> dict[tuple[str, str | None], ProductPrice]:
    return {name_of(price): price for price in _recurring(prices)}


def _charged(price: ProductPrice) -> bool:
    amount = price.price.duty_free_amount if price.price is not None else None
    return amount is not None and amount.value is not None


def _id(reference: EntityRef | None) -> str:
    return (reference.id or "") if reference is not None else ""


def _event(kind: ChargeType, price: ProductPrice, held: Held, cause: Cause) -> ChargeEvent:
    worth = price.price
    amount = worth.duty_free_amount if worth is not None else None
    if worth is None or amount is None or amount.value is None:
        raise FailedPrecondition(
            "UNCHARGEABLE",
            f"the price {price.name!r} of product {cause.product_id} has no amount before tax",
            violations=[Violation("product_price", f"{price.name!r} has no duty-free amount")],
        )
    # A charge that stops or rests contains nothing any more.
    tells = kind in (_C.CHARGE_CREATE, _C.RECURRING_CHARGE_START, _C.RECURRING_CHARGE_CHANGE)
    alterations = _alterations(price) if tells else ()
    altered = sum((one.amount.value or Decimal() for one in alterations), Decimal())
    return ChargeEvent(
        type=kind,
        account=cause.account,
        branch=cause.branch,
        occurred_at=cause.at,
        product_id=cause.product_id,
        order_id=cause.order_id,
        order_item_id=cause.order_item_id,
        customer_id=cause.customer_id,
        product_offering_id=held.offering_id,
        product_offering_price_id=_id(price.product_offering_price),
        amount=amount,
        name=price.name,
        reason=cause.reason,
        tax_rate=worth.tax_rate,
        tax_included_amount=worth.tax_included_amount,
        recurring_charge_period=price.recurring_charge_period if _recurs(price) else None,
        receipt_digest=cause.receipt_digest,
        list_amount=replace(amount, value=amount.value - altered) if alterations else None,
        alteration=alterations,
    )


def _alterations(price: ProductPrice) -> tuple[ChargeAlteration, ...]:
    return tuple(
        _alteration(alteration, price.recurring_charge_period)
        for alteration in price.product_price_alteration
        if alteration.price is not None and alteration.price.duty_free_amount is not None
    )


def _alteration(alteration: PriceAlteration, period: str | None) -> ChargeAlteration:
    reference = alteration.product_offering_price
    promoted = reference is not None and reference.at_referred_type == PROMOTION
    assert alteration.price is not None
    assert alteration.price.duty_free_amount is not None
    return ChargeAlteration(
        name=alteration.name,
        product_offering_price_id="" if promoted else _id(reference),
        promotion_id=_id(reference) if promoted else "",
        percentage=alteration.price.percentage,
        amount=alteration.price.duty_free_amount,
        duration=alteration.application_duration,
        # Without units of its own it lasts for so many of the charge's periods.
        units=alteration.unit_of_measure or period,
        valid_for=alteration.valid_for,
    )
