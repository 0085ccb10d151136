"""What usage costs, and what part of a recurring charge a stretch of time is charged."""

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from catalog.pricing import messages, proration, store, usage
from catalog.pricing.metering import sold_prices, usage_prices
from catalog.pricing.money import exact_of, number
from catalog.pricing.offers import Offer, charge_period, compile_sold
from catalog.pricing.proration import Asked, BillingMode, Proration
from catalog.pricing.receipts import Receipt, ReceiptStep, reading
from catalog.pricing.usage import PeriodState, UsageCharge, UsageEvent, UsageRating, rate_usage
from catalog.pricing.values import Item, PricingContext
from catalog.product.domain import RECURRING, ProductOfferingPrice
from chassis.convert import at as located
from chassis.convert import from_message, from_money
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Json, Money
from svyaz.catalog.v1 import rating_pb2

_MODES = {
    rating_pb2.BILLING_MODE_UNSPECIFIED: BillingMode.IN_ADVANCE,
    rating_pb2.BILLING_MODE_IN_ADVANCE: BillingMode.IN_ADVANCE,
    rating_pb2.BILLING_MODE_IN_ARREARS: BillingMode.IN_ARREARS,
}
_NINE_DECIMALS = 10**9


class Ratings:
    """What usage costs, and what part of a recurring charge a stretch of time is charged."""

    def __init__(self, database: Database, book: store.OfferBook) -> None:
        """`book`: the one that prices are read from too."""
        self._database = database
        self._book = book

    def RateUsage(self, request: rating_pb2.RateUsageRequest, context: Any) -> rating_pb2.RateUsageResponse:
        """See `catalog.pricing.usage.rate_usage`."""
        prices, chosen = self._prices(request)
        return _rated(
            rate_usage(
                prices,
                [
                    located(lambda message: from_message(message, UsageEvent), event, f"event[{i}]")
                    for i, event in enumerate(request.event)
                ],
                zone=request.zone,
                holidays=[_date(text, f"holiday[{i}]") for i, text in enumerate(request.holiday)],
                before=_states(request.before, {price["rule"] for price in prices}),
                chosen=chosen,
            )
        )

    def ReplayUsage(self, request: rating_pb2.ReplayUsageRequest, context: Any) -> rating_pb2.RateUsageResponse:
        """See `catalog.pricing.usage.replay`."""
        return _rated(usage.replay(_receipt(request.receipt)))

    def Prorate(self, request: rating_pb2.ProrateRequest, context: Any) -> rating_pb2.ProrateResponse:
        """See `catalog.pricing.proration.prorate`."""
        rule, amount, period = self._charge(request)
        changed_to = from_money(request.changed_to) if request.HasField("changed_to") else None
        if bool(request.changed_at) != (changed_to is not None):
            field = "changed_to" if request.changed_at else "changed_at"
            raise InvalidArgument("REQUIRED", f"a change needs its {field}", violations=[Violation(field, "required")])
        if changed_to is not None and changed_to.unit != amount.unit:
            why = f"the change is in {changed_to.unit}, the amount in {amount.unit}"
            raise InvalidArgument("CURRENCIES_DIFFER", why, violations=[Violation("changed_to.unit", why)])
        asked = Asked(
            rule=rule,
            amount=amount.value or Decimal(),
            currency=amount.unit or "",
            period=period,
            start=_date(request.start, "start"),
            end=_date(request.end, "end") if request.end else None,
            target=_date(request.target, "target"),
            billing_day=request.billing_day or None,
            mode=_MODES[request.mode],
            changed_at=_date(request.changed_at, "changed_at") if request.changed_at else None,
            changed_to=changed_to.value if changed_to is not None else None,
        )
        return _prorated(proration.prorate(asked))

    def ReplayProration(self, request: rating_pb2.ReplayProrationRequest, context: Any) -> rating_pb2.ProrateResponse:
        """See `catalog.pricing.proration.replay`."""
        return _prorated(proration.replay(_receipt(request.receipt)))

    def _prices(self, request: rating_pb2.RateUsageRequest) -> tuple[list[dict[str, Any]], list[ReceiptStep]]:
        asked = messages.context_of(request.context, self._database.clock.now())
        by_id = list(request.product_offering_price_id)
        item = messages.item_of(request.item, "item")
        if bool(item.product_offering_id) == bool(by_id):
            raise InvalidArgument(
                "OFFERING_OR_PRICES",
                "usage is rated by an offering or by prices",
                violations=[Violation("item", "either this or product_offering_price_id")],
            )
        bundles = list(request.bundle_product_offering_id)
        if by_id:
            return self._as_sold(by_id, item, asked, bundles)
        if bundles:
            why = "an offering is rated with all that it bundles; only prices by id were sold in a bundle"
            raise InvalidArgument("BUNDLE_OF_OFFERING", why, violations=[Violation("bundle_product_offering_id", why)])
        offers, rules = self._book.read(self._database, {item.product_offering_id})
        return usage_prices(item, offers, asked, rules)

    def _as_sold(
        self, ids: Sequence[str], item: Item, context: PricingContext, around: Sequence[str]
    ) -> tuple[list[dict[str, Any]], list[ReceiptStep]]:
        """The prices with these ids, and what alters them, or is taken off by the bundles around them."""
        wanted = list(dict.fromkeys(ids))
        with self._database.unit() as unit:
            found = store.prices(unit, wanted)
            for i, key in enumerate(wanted):
                _released(found.get(key), key, i)
            sold = compile_sold(wanted, found)
            rules = store.rules_of(unit, [sold])
        if sold.broken:
            raise FailedPrecondition("MALFORMED_PRICE", sold.broken[0])
        return sold_prices(item, sold, context, rules, self._bundles(around))

    def _bundles(self, ids: Sequence[str]) -> list[Offer]:
        """The offerings, each of which bundles the one before."""
        offers = self._book.offers(self._database, ids) if ids else {}
        for i, key in enumerate(ids):
            why = ""
            if key not in offers:
                why = f"there is no offering {key!r}"
            elif i and all(part.id != ids[i - 1] for part in offers[key].parts):
                why = f"offering {key} doesn't bundle {ids[i - 1]}"
            if why:
                field = f"bundle_product_offering_id[{i}]"
                raise InvalidArgument("UNKNOWN_OFFERING", why, violations=[Violation(field, why)])
        return [offers[key] for key in ids]

    def _charge(self, request: rating_pb2.ProrateRequest) -> tuple[str, Money, str]:
        """The rule, the amount for a whole period, and the period, in its regular name."""
        key = request.product_offering_price_id
        if bool(key) == request.HasField("amount"):
            why = "it is a price or an amount that is prorated"
            raise InvalidArgument("PRICE_OR_AMOUNT", why, violations=[Violation("amount", why)])
        if not key:
            amount = from_money(request.amount)
            return "", _stated(amount, "amount"), charge_period(request.recurring_charge_period, None)
        with self._database.unit() as unit:
            price = _released(store.prices(unit, [key]).get(key), key, None)
            if price.kind != RECURRING or price.pricing_model is not None:
                why = f"price {key} isn't a recurring amount"
                raise InvalidArgument("NOT_RECURRING", why, violations=[Violation("product_offering_price_id", why)])
            period = charge_period(price.recurring_charge_period_type, price.recurring_charge_period_length)
            return key, _stated(price.price or Money(), "product_offering_price_id"), period


def _released(price: ProductOfferingPrice | None, id: str, index: int | None) -> ProductOfferingPrice:
    field = "product_offering_price_id" if index is None else f"product_offering_price_id[{index}]"
    if price is None:
        why = f"there is no price {id!r}"
        raise InvalidArgument("UNKNOWN_PRICE", why, violations=[Violation(field, why)])
    if not price.status.released:
        why = f"price {id} is {price.status}"
        raise FailedPrecondition("PRICE_NOT_RELEASED", why, violations=[Violation(field, why)])
    return price


def _stated(money: Money, field: str) -> Money:
    if money.value is None or not money.unit:
        why = "an amount has a value and a currency"
        raise InvalidArgument("REQUIRED", why, violations=[Violation(field, why)])
    return money


def _date(text: str, field: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        why = f"{text!r} is no date such as 2026-03-31"
        raise InvalidArgument("INVALID_DATE", why, violations=[Violation(field, why)]) from error


def _states(given: Sequence[rating_pb2.UsageState], rules: set[str]) -> Mapping[str, PeriodState]:
    states = {}
    for i, state in enumerate(given):
        if state.product_offering_price_id not in rules:
            why = f"usage isn't rated by price {state.product_offering_price_id!r} here"
            raise InvalidArgument(
                "UNKNOWN_PRICE", why, violations=[Violation(f"before[{i}].product_offering_price_id", why)]
            )
        try:
            numbers = [exact_of(text or "0") for text in (state.quantity, state.free, state.amount)]
        except ValueError as error:
            why = "a state is given as it was answered"
            raise InvalidArgument("MALFORMED_STATE", why, violations=[Violation(f"before[{i}]", why)]) from error
        quantity, free, amount = numbers
        states[state.product_offering_price_id] = PeriodState(quantity, state.events, free, amount)
    return states


def _receipt(given: Any) -> Receipt:
    with reading():
        return Receipt(given.engine, given.revision, Json(given.inputs.decode()), ())


def _rated(rating: UsageRating) -> rating_pb2.RateUsageResponse:
    units = {charge.price.rule: charge.price.model.counts for charge in rating.charge}
    currency = {charge.price.rule: charge.price.currency for charge in rating.charge}
    parts: dict[str, Any] = {
        "event": [
            {
                "id": rated.event.id,
                "product_offering_price_id": rated.rule,
                "usage_type": rated.event.usage_type,
                "quantity": number(rated.quantity),
                "free": number(rated.free),
                "units": units[rated.rule],
                "amount": None if rated.amount is None else _finely(rated.amount, currency[rated.rule]),
                "destination": rated.destination,
                "disconnected_after": None if rated.disconnected_after is None else number(rated.disconnected_after),
            }
            for rated in rating.event
        ],
        "charge": [located(_charge, charge, f"charge[{i}]") for i, charge in enumerate(rating.charge)],
        "receipt": messages.receipt(rating.receipt),
    }
    return rating_pb2.RateUsageResponse(**parts)


def _charge(charge: UsageCharge) -> dict[str, Any]:
    price, state = charge.price, charge.state
    return {
        "product_offering_price_id": price.rule,
        "name": price.name,
        "usage_type": price.model.usage_type,
        "events": charge.events,
        "quantity": number(charge.quantity),
        "free": number(charge.free),
        "charged": number(charge.charged),
        "units": price.model.counts,
        "amount": messages.money(charge.amount),
        "tax_rate": None if price.tax_rate is None else format(price.tax_rate, "f"),
        "tax_included_amount": messages.money(charge.tax_included_amount),
        "state": {
            "product_offering_price_id": price.rule,
            "quantity": number(state.quantity),
            "events": state.events,
            "free": number(state.free),
            "amount": number(state.amount),
        },
    }


def _finely(amount: Fraction, currency: str) -> Mapping[str, Any]:
    """As much of an unrounded amount as a message holds: nine decimals, half away from zero (it isn't negative)."""
    nanos = int(amount * _NINE_DECIMALS + Fraction(1, 2))
    return messages.money(Money(unit=currency, value=Decimal(nanos).scaleb(-9)))


def _prorated(found: Proration) -> rating_pb2.ProrateResponse:
    def money(value: Decimal) -> Mapping[str, Any]:
        return messages.money(Money(unit=found.currency, value=value))

    change = found.change
    parts: dict[str, Any] = {
        "period": [
            {
                "start": str(part.start),
                "end": str(part.end),
                "fraction": str(part.fraction),
                "amount": money(amount),
            }
            for part, amount in found.part
        ],
        "amount": money(found.amount),
        "change": None
        if change is None
        else {
            "at": str(found.changed_at),
            "fraction": str(change.fraction),
            "used": money(change.used),
            "credit": money(change.credit),
            "charge": money(change.charge),
        },
        "receipt": messages.receipt(found.receipt),
    }
    return rating_pb2.ProrateResponse(**parts)
