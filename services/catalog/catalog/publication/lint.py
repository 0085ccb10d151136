"""What of an offering would never apply, and why: found before it is published rather than in nobody's bill."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from catalog.pricing.offers import TERMINATION, USAGE, charge_period, pricing_kind
from catalog.product.domain import (
    CHARGES,
    TRANSITIONS,
    LifecycleStatus,
    ProductOffering,
    ProductOfferingPrice,
    alters,
    kind_of_price,
)
from catalog.product.values import (
    ExistingSubscribersPolicy,
    PriceTier,
    PricingModel,
    ProductOfferingPriceRefOrValue,
    ProductPriceValue,
    UsageRate,
)
from catalog.publication.conditions import impossible
from chassis.errors import Violation
from chassis.types import Duration, Money, TimePeriod

_ALWAYS = TimePeriod()
# The kinds of charges that make up what an offering costs.
_CHARGED = (*CHARGES, USAGE, TERMINATION)
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

Prices = Mapping[str, ProductOfferingPrice]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an offering is looked at among.

    `at`: the instant of publishing; None: what lies in the past is no matter any more. `price_lists`: those that
    exist; None: that isn't known here.
    """

    prices: Prices
    versions: Sequence[ProductOffering] = ()
    at: datetime | None = None
    price_lists: Collection[str] | None = None


def lint(offering: ProductOffering, around: Surroundings) -> list[Violation]:
    """What of the offering would never apply."""
    return [
        *_validity(offering, around),
        *_plans(offering, around.at),
        *_series(offering, around),
        *_phases(offering),
        *_prices(offering, around),
    ]


def lint_price(price: ProductOfferingPrice, around: Surroundings) -> list[Violation]:
    """What of a price would never apply in any offering."""
    return list(_alone(price, "", {}, around))


# --- times -----------------------------------------------------------------------------------------------------------


def _span(period: TimePeriod | None) -> tuple[datetime, datetime]:
    period = period or _ALWAYS
    return period.start_date_time or _EARLIEST, period.end_date_time or _LATEST


def _apart(one: TimePeriod | None, other: TimePeriod | None) -> bool:
    (start, end), (other_start, other_end) = _span(one), _span(other)
    return max(start, other_start) >= min(end, other_end)


def _validity(offering: ProductOffering, around: Surroundings) -> Iterator[Violation]:
    if around.at is not None and _span(offering.valid_for)[1] <= around.at:
        yield Violation("valid_for.end_date_time", "its validity has ended: it would never be sold")
    for i, term in enumerate(offering.product_offering_term):
        if _apart(term.valid_for, offering.valid_for):
            yield Violation(f"product_offering_term[{i}].valid_for", "it lies outside the offering's validity")
    for i, bundled in enumerate(offering.bundled_product_offering):
        option = bundled.bundled_product_offering_option
        if option is not None and option.number_rel_offer_upper_limit == 0:
            yield Violation(f"bundled_product_offering[{i}].bundled_product_offering_option", "none of it may be had")


def _plans(offering: ProductOffering, at: datetime | None) -> Iterator[Violation]:
    status, last = offering.status, None
    waiting = [(i, plan) for i, plan in enumerate(offering.planned_transition) if plan.refused is None]
    for i, plan in sorted(waiting, key=lambda pair: (pair[1].at or _EARLIEST, pair[0])):
        path = f"planned_transition[{i}]"
        if plan.at is None or plan.lifecycle_status is None:
            yield Violation(path, "it doesn't say what becomes of the offering, and when")
            continue
        if plan.lifecycle_status not in TRANSITIONS[status]:
            why = f"by then it is {status}, which doesn't become {plan.lifecycle_status}"
            yield Violation(f"{path}.lifecycle_status", why)
        if at is not None and plan.at < at:
            yield Violation(f"{path}.at", "it lies in the past")
        if plan.lifecycle_status.live and plan.at >= _span(offering.valid_for)[1]:
            yield Violation(f"{path}.at", "the offering's validity has ended by then")
        if plan.at == last:
            yield Violation(f"{path}.at", "two changes at one instant: which comes first isn't said")
        status, last = plan.lifecycle_status, plan.at


# --- versions --------------------------------------------------------------------------------------------------------


def _series(offering: ProductOffering, around: Surroundings) -> Iterator[Violation]:
    sold = [version for version in around.versions if version.status is LifecycleStatus.LAUNCHED]
    start, end = _span(offering.valid_for)
    latest = max(sold, key=lambda version: _span(version.valid_for)[0], default=None)
    if latest is not None and start < _span(latest.valid_for)[0] and not _ever_sold(offering, sold, around.at):
        yield Violation(
            "valid_for.start_date_time",
            f"version {latest.version or latest.id} starts later and is sold in its place, always",
        )
    same = next((version for version in sold if _span(version.valid_for)[0] == start), None)
    # One that doesn't say when it begins, begins when it is launched.
    if same is not None and (start != _EARLIEST or not offering.series):
        yield Violation(
            "valid_for.start_date_time",
            f"version {same.version or same.id} starts at the same time: which of them is sold isn't said",
        )
    policy = offering.existing_subscribers
    if policy is None:
        return
    if policy.policy is ExistingSubscribersPolicy.MIGRATE and not offering.series:
        yield Violation("existing_subscribers.policy", "there is no older version to migrate anybody from")
    date = policy.effective_date
    if date is not None and policy.policy is not ExistingSubscribersPolicy.MIGRATE:
        yield Violation("existing_subscribers.effective_date", "nobody is migrated then: the policy isn't MIGRATE")
    elif date is not None and date < start:
        yield Violation("existing_subscribers.effective_date", "the version isn't sold yet by then")
    elif date is not None and date >= end:
        yield Violation("existing_subscribers.effective_date", "the version's validity has ended by then")


def _ever_sold(offering: ProductOffering, others: Sequence[ProductOffering], at: datetime | None) -> bool:
    """Whether there is an instant at which it is the valid version that starts last."""
    start, end = _span(offering.valid_for)
    first = max(start, at or start)
    # Who is sold changes at the bounds of validities only.
    bounds = {first, *(bound for other in others for bound in _span(other.valid_for))}
    return any(
        first <= instant < end
        and not any(
            _span(other.valid_for)[0] > start and _span(other.valid_for)[0] <= instant < _span(other.valid_for)[1]
            for other in others
        )
        for instant in bounds
    )


# --- phases ----------------------------------------------------------------------------------------------------------


def _phases(offering: ProductOffering) -> Iterator[Violation]:
    endless: str | None = None
    seen: set[str] = set()
    for i, phase in enumerate(offering.phase):
        name = phase.name or ""
        if endless is not None:
            yield Violation(f"phase[{i}]", f"phase {endless!r} before it never ends")
        if name in seen:
            yield Violation(f"phase[{i}].name", f"two phases are called {name!r}: prices can't tell them apart")
        seen.add(name)
        if phase.duration is None or phase.duration.amount is None:
            endless = endless or name
        elif phase.duration.amount < 1:
            yield Violation(f"phase[{i}].duration", "it is over before it begins")


# --- prices ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Altering:
    """An alteration where it stands in the offering."""

    path: str
    id: str
    percentage: Decimal | None
    amount: Decimal | None
    currency: str
    # The kind and period of charges that it is for; empty: any.
    kind: str
    period: str
    valid_for: TimePeriod | None
    duration: Duration | None
    group: str
    price: ProductOfferingPrice | None


@dataclass(frozen=True, slots=True)
class _Charged:
    path: str
    kind: str
    currency: str
    period: str


def _prices(offering: ProductOffering, around: Surroundings) -> Iterator[Violation]:
    everything: list[_Charged] = []
    everywhere: list[_Altering] = []
    for i, stated in enumerate(offering.product_offering_price):
        path = f"product_offering_price[{i}]"
        if _apart(stated.valid_for, offering.valid_for):
            yield Violation(f"{path}.valid_for", "it lies outside the offering's validity")
        charged, altering = _by_value(stated, path)
        for one in altering:
            if _apart(one.valid_for, stated.valid_for) or _apart(one.valid_for, offering.valid_for):
                yield Violation(f"{one.path}.valid_for", "it lies outside the validity of what it alters")
        for price, where in _all_of(stated.id or "", path, around.prices) if stated.price is None else ():
            yield from _of_offering(price, where, offering, around)
            if not _is_alteration(price):
                charged.append(_charged(price, where))
            elif where == path:
                # One of the offering's own prices alters those beside it.
                everywhere.append(_altering(price, where))
            else:
                altering.append(_altering(price, where))
        for one in altering:
            yield from _nothing_to_alter(one, charged)
        yield from _always_losing(altering)
        everything += charged
    yield from _nothing_charged(everything)
    for one in everywhere:
        yield from _nothing_to_alter(one, everything)
    yield from _always_losing(everywhere)


def _nothing_charged(stated: Sequence[_Charged]) -> Iterator[Violation]:
    """Beside others, one of a kind that we don't know is charged elsewhere. Alone it lets nobody order."""
    if not any(pricing_kind(charge.kind) in _CHARGED for charge in stated):
        for charge in stated:
            why = f"nothing is charged by {charge.kind!r}: an offering needs a price that is {' or '.join(_CHARGED)}"
            yield Violation(f"{charge.path}.price_type", why)


def _by_value(stated: ProductOfferingPriceRefOrValue, path: str) -> tuple[list[_Charged], list[_Altering]]:
    """What a price that is written into the offering charges, and what is written into that."""
    charged = []
    money = _money(stated.price)
    if money is not None:
        period = charge_period(stated.recurring_charge_period, stated.recurring_charge_period_length)
        charged.append(
            _Charged(path, kind_of_price(stated.price_type, stated.recurring_charge_period), money.unit or "", period)
        )
    altering = []
    for k, alteration in enumerate(stated.price_alteration):
        amount = _money(alteration.price)
        altering.append(
            _Altering(
                path=f"{path}.price_alteration[{k}]",
                id=alteration.id or "",
                percentage=alteration.price.percentage if alteration.price is not None else None,
                amount=amount.value if amount is not None else None,
                currency=(amount.unit or "") if amount is not None else "",
                kind=_meant(alteration.price_type),
                period=charge_period(alteration.recurring_charge_period, None),
                valid_for=alteration.valid_for,
                duration=alteration.application_duration,
                group="",
                price=None,
            )
        )
    return charged, altering


def _money(value: ProductPriceValue | None) -> Money | None:
    return (value.duty_free_amount or value.tax_included_amount) if value is not None else None


def _of_offering(
    price: ProductOfferingPrice, path: str, offering: ProductOffering, around: Surroundings
) -> Iterator[Violation]:
    """What of a price never applies in this offering."""
    if _apart(price.valid_for, offering.valid_for):
        yield Violation(f"{path}.valid_for", f"price {price.name or price.id} lies outside the offering's validity")
    named = {phase.name for phase in offering.phase}
    for k, phase in enumerate(price.phase):
        if phase not in named:
            yield Violation(f"{path}.phase[{k}]", f"the offering has no phase {phase!r}")
    yield from _alone(price, path, _where_sold(offering), around)


def _where_sold(offering: ProductOffering) -> dict[str, Collection[str]]:
    """The only values that those subjects have for whoever may buy the offering."""
    channels = {name for channel in offering.channel for name in (channel.id, channel.name) if name}
    terms = {term.name for term in offering.product_offering_term if term.name}
    return {
        subject: values
        for subject, values in (("branch", offering.eligible_branch), ("channel", channels), ("term", terms))
        if values
    }


def _all_of(id: str, path: str, prices: Prices) -> Iterator[tuple[ProductOfferingPrice, str]]:
    """The price, what it is made of and what alters it, each with its path."""
    waiting, seen = [(id, path)], set()
    while waiting:
        key, where = waiting.pop()
        price = prices.get(key)
        if price is None or key in seen:
            continue
        seen.add(key)
        yield price, where
        for i, part in enumerate(price.bundled_pop_relationship):
            waiting.append((part.id or "", f"{where}.bundled_pop_relationship[{i}]"))
        for i, relation in enumerate(price.pop_relationship):
            if alters(relation):
                waiting.append((relation.id or "", f"{where}.pop_relationship[{i}]"))


def _alone(
    price: ProductOfferingPrice, path: str, possible: dict[str, Collection[str]], around: Surroundings
) -> Iterator[Violation]:
    prefix = f"{path}." if path else ""
    if around.at is not None and _span(price.valid_for)[1] <= around.at:
        yield Violation(f"{prefix}valid_for.end_date_time", f"the validity of price {price.name or price.id} has ended")
    for i, why in impossible(price.condition, possible):
        yield Violation(f"{prefix}condition[{i}]", why)
    if price.price_list and around.price_lists is not None and price.price_list not in around.price_lists:
        yield Violation(f"{prefix}price_list", f"there is no price list {price.price_list!r}")
    if price.application_duration is not None and (price.application_duration.amount or 0) < 1:
        yield Violation(f"{prefix}application_duration", "it is over before it begins")
    if price.pricing_model is not None:
        yield from _model(price.pricing_model, f"{prefix}pricing_model")


def _is_alteration(price: ProductOfferingPrice) -> bool:
    """As pricing takes it: what has no amount but a percentage, or calls itself a discount or surcharge."""
    if price.pricing_model is not None or price.bundled_pop_relationship:
        return False
    return bool(price.percentage) or price.kind.startswith(("discount", "surcharge"))


def _charged(price: ProductOfferingPrice, path: str) -> _Charged:
    period = charge_period(price.recurring_charge_period_type, price.recurring_charge_period_length)
    return _Charged(path, price.kind, (price.price.unit or "") if price.price is not None else "", period)


def _altering(price: ProductOfferingPrice, path: str) -> _Altering:
    money = price.price
    return _Altering(
        path=path,
        id=price.id,
        percentage=price.percentage,
        amount=money.value if money is not None else None,
        currency=(money.unit or "") if money is not None else "",
        kind=_meant(price.price_type),
        period=charge_period(price.recurring_charge_period_type, price.recurring_charge_period_length),
        valid_for=price.valid_for,
        duration=price.application_duration,
        group=price.exclusivity_group or "",
        price=price,
    )


def _meant(price_type: str | None) -> str:
    kind = kind_of_price(price_type, None) if price_type else ""
    return kind if kind in CHARGES or kind == "usage" else ""


def _nothing_to_alter(one: _Altering, charged: Sequence[_Charged]) -> Iterator[Violation]:
    kinds = [charge for charge in charged if not one.kind or charge.kind == one.kind]
    if not kinds:
        yield Violation(one.path, f"there is no {one.kind or ''} charge that it could alter".replace("  ", " "))
    elif one.amount is not None and not any(charge.currency in ("", one.currency) for charge in kinds):
        yield Violation(one.path, f"there is no charge in {one.currency} that it could alter")
    elif one.period and not any(charge.period in ("", one.period) for charge in kinds):
        yield Violation(one.path, f"there is no charge per {one.period} that it could alter")


def _always_losing(alterations: Sequence[_Altering]) -> Iterator[Violation]:
    """Of one group only what is best for the customer counts: whatever is never the best, never applies."""
    for one in alterations:
        winner = next((other for other in alterations if other is not one and _always_better(other, one)), None)
        if winner is not None:
            yield Violation(
                f"{one.path}.exclusivity_group", f"{winner.id or winner.path} of group {one.group!r} is always better"
            )


def _always_better(other: _Altering, one: _Altering) -> bool:
    if not one.group or one.group != other.group or other.price is None or one.price is None:
        return False
    if other.kind not in ("", one.kind) or other.period not in ("", one.period) or other.duration is not None:
        return False
    if not set(other.price.condition) <= set(one.price.condition) or other.price.price_list != one.price.price_list:
        return False
    if other.price.phase and not (one.price.phase and set(one.price.phase) <= set(other.price.phase)):
        return False
    (start, end), (other_start, other_end) = _span(one.valid_for), _span(other.valid_for)
    if other_start > start or other_end < end or other.price.kind != one.price.kind:
        return False
    sign = -1 if one.price.kind.startswith("surcharge") else 1
    if one.percentage and other.percentage:
        return sign * abs(other.percentage) > sign * abs(one.percentage)
    if one.amount is not None and other.amount is not None and one.currency == other.currency:
        return sign * abs(other.amount) > sign * abs(one.amount)
    return False


# --- models ----------------------------------------------------------------------------------------------------------


def _model(model: PricingModel, path: str) -> Iterator[Violation]:
    yield from _tiers(model.tier, path)
    for name, low, high in (
        ("event", model.event_minimum, model.event_maximum),
        ("period", model.period_minimum, model.period_maximum),
    ):
        if low is not None and high is not None and low > high:
            yield Violation(f"{path}.{name}_minimum", f"it is above the {name}'s maximum, so it is never charged")
    yield from _rates(model.rate, path)


def _tiers(tiers: Iterable[PriceTier], path: str) -> Iterator[Violation]:
    reached: Decimal | None = Decimal(0)
    for i, tier in enumerate(tiers):
        if reached is None:
            yield Violation(f"{path}.tier[{i}]", "the tier before it has no end: this one is never reached")
        elif tier.up_to is not None and tier.up_to <= reached:
            yield Violation(f"{path}.tier[{i}].up_to", f"the tiers before it reach {reached:f} already")
            continue
        reached = tier.up_to if reached is not None else None


def _rates(rates: Sequence[UsageRate], path: str) -> Iterator[Violation]:
    # Of the rates with the longest prefix the first whose time fits counts.
    always: dict[str, int] = {}
    for i, rate in enumerate(rates):
        prefixes = rate.prefix or ("",)
        if all(prefix in always for prefix in prefixes):
            yield Violation(f"{path}.rate[{i}]", f"rate {always[prefixes[0]]} is for the same prefixes, at all times")
        if not rate.time_band:
            for prefix in prefixes:
                always.setdefault(prefix, i)
        starts = [step.start or Decimal(0) for step in rate.step]
        for k in range(1, len(starts)):
            if starts[k] <= starts[k - 1]:
                yield Violation(f"{path}.rate[{i}].step[{k}].start", "it begins before the one before it")
