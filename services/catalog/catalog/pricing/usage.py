"""What the usage of one charge period costs: events are counted, allowances used up, the rest charged; with a receipt.

In this order, for each price of a usage type:

1. Every event is converted to the units of its price and rounded up to whole event increments.
2. Models that reckon event by event (rated, percentage, and perUnit unless a flat amount or a period increment makes
   it one price of the sum): what the free events and the allowance leave of each event is charged by itself, not below
   event_minimum nor above event_maximum (nothing is charged for what is free), and the charges are added up.
3. The other models: the sum is rounded up to whole period increments, the allowance taken off, and the rest is priced.
4. The sum is kept between period_minimum and period_maximum, altered by the alterations that count (`metering`,
   `altering`), and rounded to the currency's minor unit, half away from zero.
5. What the bundles around it take off is reckoned on that rounded amount, of each price by itself (when its parts are
   used is chance, so nothing is split over them), the innermost bundle first, and rounded too; then comes the tax.

A period can be rated in several calls: each takes the state that the one before left and charges only what is new, so
that amounts and taxes sum to those of the whole.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

from catalog.pricing import tiers
from catalog.pricing.altering import Levels, altered, altered_first, parse_levels, without_rivals
from catalog.pricing.clocks import Clocks, clocks_during, clocks_of
from catalog.pricing.money import exact_of, number, rounded
from catalog.pricing.offers import canonical, instant
from catalog.pricing.rating import MAX_SECONDS, Calendar, rate_event
from catalog.pricing.receipts import Receipt, ReceiptStep, reading
from catalog.pricing.tiers import Model
from catalog.pricing.units import factor, seconds
from catalog.product.domain import ProductOfferingPrice
from catalog.product.numbers import reckonable
from catalog.product.pricing_models import reckons_by_event
from catalog.product.values import PricingModel, PricingModelType
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import EPOCH, Json, Money, Quantity, decimal_of

ENGINE = "catalog.usage"
# Raised with every change of a rule; a receipt is replayed by the engine of its own revision.
REVISION = "2"
# Bundles' discounts were alterations like others, a net amount was that of the rounded one, and no clocks were kept.
_FIRST_REVISION = "1"
MAX_EVENTS = 100_000
# When an event can have been, and how far from the first one: clocks are looked through day by day.
_BEGIN, _END = datetime(1900, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
_APART = timedelta(days=2 * 366 - 1)
_ZERO = Fraction(0)


# --- what is asked ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """A call, a message, a session: so much of a usage type; `id` is the caller's own name for it.

    `units` empty: those of the price. `destination`: the called number, E.164 with or without +.
    """

    id: str
    usage_type: str
    amount: Decimal
    units: str = ""
    at: datetime | None = None
    destination: str = ""


@dataclass(frozen=True, slots=True)
class BundleDiscount:
    """So many per cent (negative) that a bundle takes off the charges of its parts."""

    rule: str
    name: str
    percentage: Decimal


@dataclass(frozen=True, slots=True)
class UsagePrice:
    """A price of one usage type; made from its plain form only (`parse_price`). `tax_rate` in percent."""

    rule: str
    name: str
    currency: str
    gross: bool
    tax_rate: Decimal | None
    model: Model
    alterations: Levels = ()
    # The innermost bundle first.
    discounts: tuple[BundleDiscount, ...] = ()

    @property
    def taxed(self) -> Fraction:
        """What an amount without tax is multiplied by to include it."""
        return 1 + Fraction(self.tax_rate or 0) / 100


@dataclass(frozen=True, slots=True)
class PeriodState:
    """What a price has counted in a charge period so far: units and events.

    And, of prices that reckon event by event: how many of the units were free, and the others' amount, unrounded.
    """

    quantity: Fraction
    events: int
    free: Fraction
    amount: Fraction


# --- what is answered ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class RatedUsage:
    """One event under one price: the units that count, how many of them are free, and its own amount, unrounded.

    `amount` is None where the model prices the period's sum only.
    """

    event: UsageEvent
    rule: str
    quantity: Fraction
    free: Fraction
    amount: Fraction | None
    destination: str
    # Of an event that is cut off by a rate's maximum.
    disconnected_after: Fraction | None = None


@dataclass(slots=True)
class UsageCharge:
    """What one price charges for the events: rounded; with and without tax."""

    price: UsagePrice
    events: int
    # All of the period so far: counted, free of it, charged.
    quantity: Fraction
    free: Fraction
    charged: Fraction
    amount: Money
    tax_included_amount: Money
    state: PeriodState


@dataclass(slots=True)
class UsageRating:
    """The answer and its receipt."""

    event: tuple[RatedUsage, ...]
    charge: tuple[UsageCharge, ...]
    receipt: Receipt


def compile_price(price: ProductOfferingPrice) -> dict[str, Any]:
    """The plain form of a usage price, which `parse_price` takes; without a pricing model it is charged per unit.

    Raises InvalidArgument MALFORMED_PRICING_MODEL naming every field that is wrong.
    """
    money = price.price or Money()
    rates = [tax.tax_rate for tax in price.tax if tax.tax_rate is not None]
    return {
        "rule": price.id,
        "name": price.name or "",
        "currency": money.unit or "",
        "gross": bool(price.tax_included),
        "tax_rate": format(sum(rates, Decimal()), "f") if rates else None,
        "model": tiers.compile_model(
            price.pricing_model or PricingModel(model_type=PricingModelType.PER_UNIT),
            amount=money.value,
            percentage=price.percentage,
            unit_of_measure=price.unit_of_measure,
        ),
    }


def parse_price(data: Mapping[str, Any]) -> UsagePrice:
    """A usage price from its plain form."""
    return UsagePrice(
        rule=data["rule"],
        name=data["name"],
        currency=data["currency"],
        gross=data["gross"],
        tax_rate=None if data["tax_rate"] is None else decimal_of(data["tax_rate"]),
        model=tiers.parse_model(data["model"]),
        alterations=parse_levels(data.get("alterations", ())),
        discounts=tuple(
            BundleDiscount(one["rule"], one["name"], decimal_of(one["percentage"])) for one in data.get("discounts", ())
        ),
    )


# --- the engine ------------------------------------------------------------------------------------------------------


def rate_usage(
    prices: Sequence[Mapping[str, Any]],
    events: Sequence[UsageEvent],
    *,
    zone: str,
    holidays: Iterable[date] = (),
    before: Mapping[str, PeriodState] | None = None,
    chosen: Sequence[ReceiptStep] = (),
) -> UsageRating:
    """What the events of one charge period cost by the prices (in their plain form, each from `metering`).

    Every price of an event's usage type applies; a price without an event still has what is charged for nothing (a
    first tier's flat amount, a period's minimum). `zone`: IANA name, for hours of the day. `before`: by price, what
    earlier calls for the same period left. `chosen`: the steps by which the prices were chosen.

    Raises InvalidArgument NO_USAGE_PRICE, UNKNOWN_USAGE_TYPE, INVALID_QUANTITY, DUPLICATE_EVENT, TOO_MANY_EVENTS,
    UNKNOWN_ZONE, EVENT_TIME_MISSING, EVENT_TIME_OUT_OF_RANGE, INCOMPATIBLE_UNITS, NO_RATE, QUANTITY_BEYOND_TIERS,
    naming the events at fault; FailedPrecondition USAGE_TYPE_MISSING for a price that is of no usage type,
    DUPLICATE_PRICE.
    """
    return _rated(prices, events, zone, None, holidays, before or {}, chosen, REVISION)


def _rated(
    prices: Sequence[Mapping[str, Any]],
    events: Sequence[UsageEvent],
    zone: str,
    clocks: Clocks | None,
    holidays: Iterable[date],
    states: Mapping[str, PeriodState],
    chosen: Sequence[ReceiptStep],
    revision: str,
) -> UsageRating:
    parsed = [parse_price(price) for price in prices]
    _check(parsed, events)
    clocks = clocks or _clocks(_zone(zone), parsed, events)
    where = Calendar(clocks or _zone(zone), frozenset(holidays))
    rated: list[RatedUsage] = []
    charges: list[UsageCharge] = []
    steps: list[ReceiptStep] = list(chosen)
    for price in parsed:
        period = _Period(price, where, states.get(price.rule), steps, revision)
        for i, event in enumerate(events):
            if event.usage_type == price.model.usage_type:
                rated.append(period.count(event, event.id or f"event[{i}]"))
        charges.append(period.charge())
    inputs = {
        "prices": list(prices),
        "events": [_plain_event(event) for event in events],
        "zone": zone,
        **({} if clocks is None or revision == _FIRST_REVISION else {"clocks": clocks.plain()}),
        "holidays": sorted(day.isoformat() for day in where.holidays),
        "before": {rule: _plain_state(state) for rule, state in states.items()},
        "chosen": [[s.subject, s.action, s.rule, s.before, s.after, s.reason] for s in chosen],
    }
    return UsageRating(tuple(rated), tuple(charges), Receipt(ENGINE, revision, Json(canonical(inputs)), tuple(steps)))


def replay(receipt: Receipt) -> UsageRating:
    """The same answer again, from nothing but the receipt. Raises InvalidArgument for one of another engine."""
    if receipt.engine != ENGINE or receipt.revision not in (REVISION, _FIRST_REVISION):
        raise InvalidArgument("UNKNOWN_ENGINE", f"{receipt.engine} {receipt.revision} isn't {ENGINE} {REVISION}")
    with reading():
        inputs = json.loads(receipt.inputs.text)
        prices = inputs["prices"]
        parsed = [parse_price(price) for price in prices]
        events = [
            UsageEvent(
                event["id"],
                event["usage_type"],
                decimal_of(event["amount"]),
                event["units"],
                datetime.fromisoformat(event["at"]).astimezone(UTC) if event["at"] else None,
                event["destination"],
            )
            for event in inputs["events"]
        ]
        holidays = [date.fromisoformat(day) for day in inputs["holidays"]]
        before = {
            rule: PeriodState(
                exact_of(state["quantity"]), state["events"], exact_of(state["free"]), exact_of(state["amount"])
            )
            for rule, state in inputs["before"].items()
        }
        chosen = [ReceiptStep(*step) for step in inputs["chosen"]]
        zone = inputs["zone"]
        clocks = clocks_of(inputs["clocks"]) if "clocks" in inputs else None
        if clocks is None and receipt.revision != _FIRST_REVISION and _by_hours(parsed, events):
            raise ValueError("what depends on the hour keeps the clocks")
    return _rated(prices, events, zone, clocks, holidays, before, chosen, receipt.revision)


def period_amount(
    model: Model, quantity: Decimal, units: str, currency: str, *, first_rules: bool = False
) -> tuple[Fraction, list[ReceiptStep]]:
    """What a period's usage comes to when only its sum is known, unrounded and without tax, and how.

    Steps have no subject and no rule: the caller's own go there. `first_rules`: by those of revision 1.

    Raises what `rate_usage` does, and InvalidArgument USAGE_NOT_PRICED for a model whose terms count events (see
    `needs_events`): taken as one event, the sum would be free as a whole, or cost a single call's most.
    """
    if needs_events(model):
        raise InvalidArgument("USAGE_NOT_PRICED", f"{model.usage_type!r} is rated by event: its sum has no price")
    price = UsagePrice("", "", currency, False, None, model)
    steps: list[ReceiptStep] = []
    period = _Period(price, Calendar(ZoneInfo("UTC")), None, steps, _FIRST_REVISION if first_rules else REVISION)
    period.count(UsageEvent("", model.usage_type, quantity, units), "")
    return period.total(), steps


def needs_events(model: Model) -> bool:
    """Whether what a period comes to depends on its events, beyond their sum."""
    if model.type is PricingModelType.RATED or model.free_events:
        return True
    fee = model.type is PricingModelType.PERCENTAGE and any(tier.flat for tier in model.tiers)
    bounds = model.event_increment, model.event_minimum or None, model.event_maximum
    return fee or any(bound is not None for bound in bounds)


class _Period:
    """A charge period of one price while its events are counted."""

    def __init__(
        self,
        price: UsagePrice,
        where: Calendar,
        before: PeriodState | None,
        steps: list[ReceiptStep],
        revision: str = REVISION,
    ) -> None:
        self._price = price
        self._model = price.model
        self._where = where
        self._before = before
        self._steps = steps
        self._revision = revision
        state = before or PeriodState(_ZERO, 0, _ZERO, _ZERO)
        self._quantity, self._events = state.quantity, state.events
        self._free, self._amount = state.free, state.amount
        self._by_event = reckons_by_event(
            price.model.type, flat=any(tier.flat for tier in price.model.tiers), increment=price.model.period_increment
        )
        self._allowance = self._converted(price.model.allowance)
        self._event_increment = self._converted(price.model.event_increment)
        self._period_increment = self._converted(price.model.period_increment)

    def count(self, event: UsageEvent, subject: str) -> RatedUsage:
        """Adds an event."""
        counted = self._counted(event, subject)
        rated = RatedUsage(event, self._price.rule, counted, _ZERO, None, "")
        if self._by_event:
            rated.free = self._left_free(counted)
            self._free += rated.free
            self._charge_event(rated, subject)
        self._quantity += counted
        self._events += 1
        return rated

    def total(self) -> Fraction:
        """The period's amount so far, between its least and its most, unrounded."""
        exact = self._bounded(self._amount if self._by_event else self._summed(self._quantity, self._events))
        return self._altered(exact)

    def charge(self) -> UsageCharge:
        """What is to be charged now: the period so far, less what was charged before."""
        currency = self._price.currency
        exact = self.total()
        due = self._due(exact)
        net, included = self._taxed(exact, due)
        if self._before is not None:
            earlier = _Period(self._price, self._where, self._before, [], self._revision)
            exact_before = earlier.total()
            already = earlier._due(exact_before)
            net_before, included_before = self._taxed(exact_before, already)
            if already:
                self._note("ALREADY_CHARGED", self._money(due), self._money(due - already))
            # The tax is that of the period too, so that its parts sum to it.
            net, included = net - net_before, included - included_before
        if self._price.tax_rate is not None:
            self._note("TAX_ADDED", self._money(net), self._money(included), f"{self._price.tax_rate:f} %")
        quantity = self._in_whole_increments(self._quantity)
        free = self._free if self._by_event else min(quantity, self._allowance or _ZERO)
        return UsageCharge(
            self._price,
            self._events,
            quantity,
            free,
            quantity - free,
            Money(unit=currency, value=net),
            Money(unit=currency, value=included),
            PeriodState(self._quantity, self._events, self._free, self._amount),
        )

    def _due(self, exact: Fraction) -> Decimal:
        """The period's amount in whole minor units, after what the bundles around it take off."""
        currency = self._price.currency
        due = rounded(exact, currency)
        if due != exact:
            self._note("ROUNDED", self._money(exact), self._money(due))
        for discount in self._price.discounts:
            if due > 0:
                whole, before = f"{number(discount.percentage)} % of {self._money(due)}", due
                due += rounded(Fraction(due) * Fraction(discount.percentage) / 100, currency)
                step = (discount.rule, self._money(before), self._money(due), whole)
                self._steps.append(ReceiptStep(self._subject, "BUNDLE_DISCOUNT", *step))
        return due

    def _taxed(self, exact: Fraction, due: Decimal) -> tuple[Decimal, Decimal]:
        """The amount due without and with its tax."""
        price, currency = self._price, self._price.currency
        if price.tax_rate is None:
            return due, due
        if not price.gross:
            return due, rounded(Fraction(due) * price.taxed, currency)
        # Rounded once, unless it isn't that amount any more: bundles take nothing off what isn't above zero.
        discounted = bool(price.discounts) and rounded(exact, currency) > 0
        of = Fraction(due) if discounted or self._revision == _FIRST_REVISION else exact
        return rounded(of / price.taxed, currency), due

    def _counted(self, event: UsageEvent, subject: str) -> Fraction:
        """The event in the price's units, in whole increments."""
        own = "" if event.units.lower() == self._price.currency.lower() else event.units
        exact = Fraction(event.amount)
        if own:
            try:
                exact *= factor(own, self._model.counts)
            except InvalidArgument as error:
                raise InvalidArgument(
                    error.reason, f"{subject}: {error.message}", violations=[Violation(f"{subject}.units", own)]
                ) from error
        whole = _whole(exact, self._event_increment)
        if whole != exact:
            self._note("EVENT_ROUNDED", self._text(exact), self._text(whole), subject=subject)
        return whole

    def _left_free(self, counted: Fraction) -> Fraction:
        """How much of the next event is free."""
        free = counted
        if self._allowance is None and self._model.free_events is None:
            return _ZERO
        if self._model.free_events is not None and self._events >= self._model.free_events:
            return _ZERO
        if self._allowance is not None:
            free = min(free, max(self._allowance - self._quantity, _ZERO))
        return free

    def _charge_event(self, rated: RatedUsage, subject: str) -> None:
        if rated.free:
            left = self._text(rated.quantity - rated.free)
            self._note("ALLOWANCE_USED", self._text(rated.quantity), left, self._text(rated.free), subject=subject)
        rated.amount = _ZERO
        if rated.quantity <= rated.free:
            return
        exact = self._event_amount(rated, subject)
        low, high = self._model.event_minimum, self._model.event_maximum
        rated.amount = self._kept_between(exact, low, high, "EVENT", subject)
        self._amount += rated.amount

    def _event_amount(self, rated: RatedUsage, subject: str) -> Fraction:
        if self._model.type is not PricingModelType.RATED:
            exact, parts = tiers.amount(self._model, rated.quantity - rated.free)
            self._steps += tiers.receipt_steps(parts, subject, self._price.rule, self._price.currency)
            return exact
        event = rated.event
        if event.at is None and any(rate.bands for rate in self._model.rates.rates):
            raise InvalidArgument(
                "EVENT_TIME_MISSING",
                f"{subject} doesn't say when it was, and its price depends on the hour",
                violations=[Violation(f"{subject}.at", "required")],
            )
        found = rate_event(
            self._model.rates,
            subject=subject,
            rule=self._price.rule,
            currency=self._price.currency,
            destination=event.destination,
            at=event.at or EPOCH,
            units=rated.quantity,
            free=rated.free,
            unit_seconds=seconds(self._model.counts),
            where=self._where,
        )
        rated.destination = found.destination
        rated.disconnected_after = found.disconnected_after
        self._steps += found.step
        return found.amount

    def _summed(self, quantity: Fraction, events: int) -> Fraction:
        """What the sum of a period comes to, before the period's least and most."""
        self._note("USAGE_SUMMED", None, self._text(quantity), str(events))
        whole = self._in_whole_increments(quantity)
        if whole != quantity:
            self._note("PERIOD_ROUNDED", self._text(quantity), self._text(whole))
        over = max(whole - (self._allowance or _ZERO), _ZERO)
        if over != whole:
            self._note("ALLOWANCE_USED", self._text(whole), self._text(over), self._text(whole - over))
        exact, parts = tiers.amount(self._model, over, first_rules=self._revision == _FIRST_REVISION)
        self._steps += tiers.receipt_steps(parts, self._subject, self._price.rule, self._price.currency)
        return exact

    def _altered(self, exact: Fraction) -> Fraction:
        """The amount after the alterations that count."""
        price = self._price
        if not price.alterations:
            return exact
        terms: dict[str, Any] = {"gross": price.gross, "taxed": price.taxed}
        levels, rejected = without_rivals(price.alterations, exact, currency=price.currency, **terms)
        for loser, why in rejected:
            self._steps.append(ReceiptStep(self._subject, "REJECTED", loser.rule, reason=why))
        first = self._revision == _FIRST_REVISION
        for one in altered_first(levels, exact) if first else altered(levels, exact, **terms):
            exact = one.after
            reason = "; ".join(filter(None, (one.alteration.name, "not below zero" if one.cut else ""))) or None
            step = (one.alteration.rule, self._money(one.before), self._money(one.after), reason)
            self._steps.append(ReceiptStep(self._subject, "ALTERATION_APPLIED", *step))
        return exact

    def _bounded(self, exact: Fraction) -> Fraction:
        return self._kept_between(
            exact, self._model.period_minimum, self._model.period_maximum, "PERIOD", self._subject
        )

    def _kept_between(
        self, exact: Fraction, low: Decimal | None, high: Decimal | None, what: str, subject: str
    ) -> Fraction:
        for bound, action, outside in (
            (low, f"{what}_MINIMUM_APPLIED", low is not None and exact < low),
            (high, f"{what}_MAXIMUM_APPLIED", high is not None and exact > high),
        ):
            if bound is not None and outside:
                self._note(action, self._money(exact), self._money(bound), subject=subject)
                return Fraction(bound)
        return exact

    @property
    def _subject(self) -> str:
        return self._model.usage_type

    def _converted(self, quantity: Quantity | None) -> Fraction | None:
        if quantity is None or quantity.amount is None:
            return None
        exact = Fraction(quantity.amount)
        return exact * factor(quantity.units, self._model.counts) if quantity.units else exact

    def _in_whole_increments(self, quantity: Fraction) -> Fraction:
        return _whole(quantity, self._period_increment)

    def _text(self, quantity: Fraction) -> str:
        return f"{number(quantity)} {self._model.counts}".rstrip()

    def _money(self, amount: Fraction | Decimal) -> str:
        return f"{number(amount)} {self._price.currency}"

    def _note(
        self, action: str, before: str | None, after: str, reason: str | None = None, subject: str | None = None
    ) -> None:
        about = self._subject if subject is None else subject
        self._steps.append(ReceiptStep(about, action, self._price.rule, before, after, reason))


def _whole(quantity: Fraction, increment: Fraction | None) -> Fraction:
    return quantity if not increment else ceil(quantity / increment) * increment


def _check(prices: Sequence[UsagePrice], events: Sequence[UsageEvent]) -> None:
    if not prices:
        raise InvalidArgument("NO_USAGE_PRICE", "there is no usage price to rate by")
    if len(events) > MAX_EVENTS:
        raise InvalidArgument("TOO_MANY_EVENTS", f"more than {MAX_EVENTS} events")
    untyped = next((price.rule for price in prices if not price.model.usage_type), None)
    if untyped is not None:
        raise FailedPrecondition("USAGE_TYPE_MISSING", f"price {untyped} doesn't say of what usage it is")
    rules = [price.rule for price in prices]
    if len(set(rules)) < len(rules):
        # States are kept by rule, and what was used would be charged several times.
        double = next(rule for rule in rules if rules.count(rule) > 1)
        raise FailedPrecondition("DUPLICATE_PRICE", f"price {double} is there several times")
    known = {price.model.usage_type for price in prices}
    unknown, negative, doubles = [], [], []
    seen: set[str] = set()
    for i, event in enumerate(events):
        if event.usage_type not in known:
            unknown.append(Violation(f"event[{i}].usage_type", f"no price is for {event.usage_type!r}"))
        if not reckonable(event.amount) or event.amount < 0:
            negative.append(Violation(f"event[{i}].amount", f"{event.amount} isn't a quantity"))
        if event.id and event.id in seen:
            doubles.append(Violation(f"event[{i}].id", f"another event is called {event.id!r}"))
        seen.add(event.id)
    for reason, wrong in (
        ("EVENT_TIME_OUT_OF_RANGE", list(_out_of_range(events))),
        ("UNKNOWN_USAGE_TYPE", unknown),
        ("INVALID_QUANTITY", negative),
        ("DUPLICATE_EVENT", doubles),
    ):
        if wrong:
            raise InvalidArgument(reason, wrong[0].description, violations=wrong)


def _out_of_range(events: Sequence[UsageEvent]) -> Iterable[Violation]:
    first: datetime | None = None
    for i, event in enumerate(events):
        if event.at is None:
            continue
        first = first or event.at
        if not _BEGIN <= event.at < _END:
            yield Violation(f"event[{i}].at", f"it is between the years {_BEGIN.year} and {_END.year}")
        elif abs(event.at - first) > _APART:
            yield Violation(f"event[{i}].at", f"it is within two years of the first event, {instant(first)}")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidArgument(
            "UNKNOWN_ZONE", f"{name!r} is no time zone", violations=[Violation("zone", "such as Asia/Bishkek")]
        ) from error


def _clocks(zone: ZoneInfo, prices: Sequence[UsagePrice], events: Sequence[UsageEvent]) -> Clocks | None:
    """What the clocks show while the events last; None: nothing depends on it."""
    if not _by_hours(prices, events):
        return None
    instants = [event.at for event in events if event.at is not None]
    longest = timedelta(seconds=MAX_SECONDS)
    return clocks_during(zone, min(instants), max(instants) + longest)


def _by_hours(prices: Sequence[UsagePrice], events: Sequence[UsageEvent]) -> bool:
    """Whether what the events come to depends on the hour."""
    banded = any(rate.bands for price in prices for rate in price.model.rates.rates)
    return banded and any(event.at is not None for event in events)


def _plain_event(event: UsageEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "usage_type": event.usage_type,
        "amount": format(event.amount, "f"),
        "units": event.units,
        "at": instant(event.at),
        "destination": event.destination,
    }


def _plain_state(state: PeriodState) -> dict[str, Any]:
    return {
        "quantity": number(state.quantity),
        "events": state.events,
        "free": number(state.free),
        "amount": number(state.amount),
    }
