"""What promotions go on taking off charges that are held: pure. Nothing of it is decided again.

How it goes on:

* What was taken off a recurring charge when it was sold is taken off it until it would have ended, however often the
  product is changed and whatever is on offer by then. What was taken off a one-time charge has been had.
* A charge goes on in the one of its currency and charge period with the same price, else in that of the same name;
  where the product has none of its prices any more, also in the one that has its place among them. A charge that isn't
  there any more takes what was off it along.
* Of a charge that costs what it did the same is taken off, to the minor unit. Of another an amount stays what it was,
  as far as there is something left to take it off; a percentage is that of the new charge, reckoned as it was: from
  what the charge was before all promotions, or from what those before it had left. One that was cut short, as a minimum
  price does, stays an amount.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from catalog.pricing.money import minor_unit, rounded
from catalog.pricing.offers import Offer, charge_period, instant
from catalog.pricing.selection import lasts
from catalog.pricing.values import HeldCharge, HeldDiscount, PriceComponent, PricingContext
from catalog.product.domain import RECURRING
from chassis.types import Duration, Money, TimePeriod, decimal_of

_ZERO, _HUNDRED = Decimal(0), Decimal(100)


@dataclass(frozen=True, slots=True)
class Discount:
    """What a promotion took off a charge: positive amounts without and with tax (None: not known), and percent."""

    promotion: str
    name: str
    priority: int
    net: Decimal
    gross: Decimal | None
    # None: an amount.
    percentage: Decimal | None = None
    duration: Duration | None = None
    # When that has begun and ends, if it has been said.
    valid_for: TimePeriod | None = None

    def lasts(self, began: datetime | None, period: str) -> TimePeriod | None:
        """From when until when it is granted; None: for ever, or the charge has yet to begin."""
        if self.valid_for is not None or self.duration is None or began is None:
            return self.valid_for
        return lasts(began, self.duration, period)

    @property
    def note(self) -> str:
        """For how long, in words."""
        return f"for {self.duration.amount} {self.duration.units or 'periods'}" if self.duration else ""


@dataclass(frozen=True, slots=True)
class Held:
    """A recurring charge as it was sold, for the whole quantity and after `discounts`, which came in that order."""

    # Of a part of a bundle: the first version of its offering; empty: the item's own.
    series: str
    price: str
    name: str
    period: str
    currency: str
    net: Decimal
    gross: Decimal | None
    discounts: tuple[Discount, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """What is still taken off of a discount; 0 when it has ended, or nothing is left to take it off."""

    discount: Discount
    amount: Decimal
    valid_for: TimePeriod | None
    ended: bool = False


def held_of(context: PricingContext, offers: Mapping[str, Offer]) -> dict[str, tuple[Held, ...]]:
    """The charges of those items that promotions took something off, by the item."""
    found: dict[str, tuple[Held, ...]] = {}
    for charge in context.held_charge:
        found[charge.item_id] = (*found.get(charge.item_id, ()), _held(charge, offers))
    return {item: charges for item, charges in found.items() if any(charge.discounts for charge in charges)}


def _held(charge: HeldCharge, offers: Mapping[str, Offer]) -> Held:
    part = charge.bundled_offering_id
    return Held(
        series=offers[part].series if part in offers else part,
        price=charge.product_offering_price_id,
        name=charge.name,
        period=charge_period(charge.recurring_charge_period, None),
        currency=(charge.amount.unit or "") if charge.amount is not None else "",
        net=_value(charge.amount) or _ZERO,
        gross=_value(charge.tax_included_amount),
        discounts=tuple(map(_discount, charge.alteration)),
    )


def _discount(stated: HeldDiscount) -> Discount:
    promotion, gross = stated.product_offering_price, _value(stated.tax_included_amount)
    return Discount(
        promotion=(promotion.id or "") if promotion is not None else "",
        name=stated.name,
        priority=stated.priority,
        # A promotion only ever takes off, whichever sign says so.
        net=abs(_value(stated.amount) or _ZERO),
        gross=None if gross is None else abs(gross),
        percentage=None if stated.percentage is None else abs(stated.percentage),
        duration=stated.application_duration,
        valid_for=stated.valid_for,
    )


def _value(money: Money | None) -> Decimal | None:
    return money.value if money is not None else None


def paired(charges: Iterable[Held], components: Sequence[PriceComponent]) -> list[tuple[Held, PriceComponent]]:
    """The charges of a product that go on, each with what it is now."""
    waiting, found = list(charges), dict[int, Held]()

    def match(same: Callable[[Held, PriceComponent], bool]) -> None:
        for i, component in enumerate(components):
            if i in found or component.price_type != RECURRING or component.later:
                continue
            kind = (component.currency, component.recurring_charge_period)
            alike = (one for one in waiting if (one.currency, one.period) == kind and same(one, component))
            one = next(alike, None)
            if one is not None:
                waiting.remove(one)
                found[i] = one

    match(lambda one, component: one.price != "" and one.price == _price_of(component))
    others = not found
    match(lambda one, component: one.name != "" and one.name == component.name)
    if others:
        match(lambda one, component: True)
    return [(one, components[i]) for i, one in sorted(found.items())]


def _price_of(component: PriceComponent) -> str:
    reference = component.product_offering_price
    return (reference.id or "") if reference is not None else ""


def kept(held: Held, component: PriceComponent, quantity: int, began: datetime | None, at: datetime) -> Iterable[Kept]:
    """What is taken off the charge as it is now (with tax or without, as it is quoted), in the order of old."""
    before = _quoted(held.net, held.gross, component)
    cuts = [_quoted(one.net, one.gross, component) for one in held.discounts]
    whole = before + sum(cuts, _ZERO)
    wanted = component.gross if component.quoted_gross else component.net
    was, now = whole, wanted
    slack = minor_unit(component.currency) * quantity
    for one, cut in zip(held.discounts, cuts, strict=True):
        amount = cut
        if one.percentage is not None and whole != wanted:
            part = one.percentage / _HUNDRED
            reckoned = (new for old, new in ((whole, wanted), (was, now)) if abs(old * part - cut) <= slack)
            amount = next((rounded(new * part, component.currency) for new in reckoned), cut)
        was -= cut
        valid_for = one.lasts(began, held.period)
        end = valid_for.end_date_time if valid_for is not None else None
        ended = end is not None and end <= at
        amount = _ZERO if ended else max(min(amount, now), _ZERO)
        now -= amount
        yield Kept(one, amount, valid_for, ended)


def _quoted(net: Decimal, gross: Decimal | None, component: PriceComponent) -> Decimal:
    """An amount as the charge is quoted by now, with tax or without."""
    if not component.quoted_gross:
        return net
    return rounded(net * (1 + (component.tax_rate or _ZERO) / _HUNDRED), component.currency) if gross is None else gross


# --- receipts --------------------------------------------------------------------------------------------------------


def plain(held: Held) -> dict[str, Any]:
    """A charge as a receipt's inputs have it."""
    return {
        "series": held.series,
        "price": held.price,
        "name": held.name,
        "period": held.period,
        "currency": held.currency,
        "net": _text(held.net),
        "gross": _text(held.gross),
        "discounts": [
            {
                "id": one.promotion,
                "name": one.name,
                "priority": one.priority,
                "net": _text(one.net),
                "gross": _text(one.gross),
                "percentage": _text(one.percentage),
                "duration": None if one.duration is None else [one.duration.amount, one.duration.units],
                "valid_for": None
                if one.valid_for is None
                else [
                    instant(end) if end is not None else ""
                    for end in (one.valid_for.start_date_time, one.valid_for.end_date_time)
                ],
            }
            for one in held.discounts
        ],
    }


def parse(data: Mapping[str, Any]) -> Held:
    """A charge from its plain form."""
    return Held(
        **{name: data[name] for name in ("series", "price", "name", "period", "currency")},
        net=decimal_of(data["net"]),
        gross=_number(data["gross"]),
        discounts=tuple(
            Discount(
                one["id"],
                one["name"],
                one["priority"],
                decimal_of(one["net"]),
                _number(one["gross"]),
                _number(one["percentage"]),
                None if one["duration"] is None else Duration(amount=one["duration"][0], units=one["duration"][1]),
                None
                if one["valid_for"] is None
                else TimePeriod(
                    start_date_time=_instant(one["valid_for"][0]), end_date_time=_instant(one["valid_for"][1])
                ),
            )
            for one in data["discounts"]
        ),
    )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def _number(text: str | None) -> Decimal | None:
    return None if text is None else decimal_of(text)


def _instant(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
