"""Whether a pricing model can be reckoned with: what contradicts itself, and what is missing before it is sold by."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from catalog.product.values import PriceTier, PricingModel, PricingModelType, RateStep, TimeBand, UsageRate
from chassis.errors import Violation
from chassis.types import Quantity

_M = PricingModelType
# The models of one price for all: what they need can also stand in the price itself.
SINGLE = frozenset({_M.PER_UNIT, _M.PACKAGE, _M.PERCENTAGE})
# The models whose tiers' prices are per cent of the quantity, which is then an amount of money.
PERCENTAGES = frozenset({_M.PERCENTAGE, _M.GRADUATED_PERCENTAGE})
# The terms that hold for what is used in a period; what is ordered has a quantity only.
_OF_USAGE = (
    "allowance",
    "free_events",
    "event_increment",
    "period_increment",
    "event_minimum",
    "event_maximum",
    "period_minimum",
    "period_maximum",
)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOLIDAY = "holiday"
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?|24:00(:00)?")
_ZERO = Decimal(0)
_MOST_DECIMALS = 18


def reckons_by_event(model_type: PricingModelType, *, flat: bool, increment: Quantity | None) -> bool:
    """Whether each event has an amount of its own; otherwise only the sum of a charge period has one.

    `flat`: the model has a flat amount (which a period is charged once); `increment`: that of the period.
    """
    if model_type is _M.PER_UNIT:
        return not flat and increment is None
    return model_type in (_M.RATED, _M.PERCENTAGE)


def contradictions(model: PricingModel, path: str) -> Iterable[Violation]:
    """What can't be true of the model at any time, in design either; `path`: the field that it is in."""
    yield from _tiers(model, path)
    yield from _amounts(model, path)
    if model.rate and model.model_type not in (None, _M.RATED):
        yield Violation(f"{path}.rate", f"{model.model_type} knows no rates")
    if model.tier and model.model_type is _M.RATED:
        yield Violation(f"{path}.tier", "what is rated event by event has no tiers")
    for i, rate in enumerate(model.rate):
        yield from _rate(rate, f"{path}.rate[{i}]")
    yield from _of_events(model, path)


def omissions(model: PricingModel, path: str, *, amount: bool, percentage: bool) -> Iterable[Violation]:
    """What the model lacks before anything can be sold by it.

    `amount`, `percentage`: the price that the model belongs to states one itself, which counts where the model has no
    tier.
    """
    if model.model_type is None:
        yield Violation(f"{path}.model_type", "a pricing model says how it reckons")
        return
    if model.model_type is _M.PACKAGE and model.package_size is None:
        yield Violation(f"{path}.package_size", "a package has a size")
    if model.model_type is _M.RATED:
        if not model.rate:
            yield Violation(f"{path}.rate", "what is rated event by event has rates")
    elif not model.tier:
        if model.model_type not in SINGLE:
            yield Violation(f"{path}.tier", f"{model.model_type} has tiers")
        elif not (percentage if model.model_type in PERCENTAGES else amount):
            yield Violation(f"{path}.tier", "neither the model nor its price says how much")
    if not model.usage_type:
        for name in _OF_USAGE:
            if getattr(model, name) is not None:
                yield Violation(f"{path}.{name}", "it is of what is used: the model says of what by its usage_type")
    yield from _unpriced(model, path)


def _unpriced(model: PricingModel, path: str) -> Iterable[Violation]:
    name = "percentage" if model.model_type in PERCENTAGES else "unit_amount"
    for i, tier in enumerate(model.tier):
        if getattr(tier, name) is None and tier.flat_amount is None:
            yield Violation(f"{path}.tier[{i}].{name}", "a tier has a price; what is free costs 0")
    for i, rate in enumerate(model.rate):
        if not rate.step:
            yield Violation(f"{path}.rate[{i}].step", "a rate says what an event costs; what is free costs 0")
        for k, step in enumerate(rate.step):
            if step.amount is None:
                yield Violation(f"{path}.rate[{i}].step[{k}].amount", "a step has a price; what is free costs 0")


def _tiers(model: PricingModel, path: str) -> Iterable[Violation]:
    if model.model_type in SINGLE and len(model.tier) > 1:
        yield Violation(f"{path}.tier[1]", f"{model.model_type} has one price for all")
    before: Decimal | None = _ZERO
    for i, tier in enumerate(model.tier):
        here = f"{path}.tier[{i}]"
        if before is None:
            yield Violation(f"{here}.up_to", "the tier before has no end, so this one is never reached")
        elif tier.up_to is not None and tier.up_to <= before:
            yield Violation(f"{here}.up_to", f"{tier.up_to} isn't above {before}, where the tier begins")
        before = tier.up_to
        yield from _tier(model.model_type, tier, here)


def _tier(model_type: PricingModelType | None, tier: PriceTier, path: str) -> Iterable[Violation]:
    if model_type in PERCENTAGES and tier.unit_amount is not None:
        yield Violation(f"{path}.unit_amount", f"{model_type} has a percentage instead")
    if model_type not in PERCENTAGES and tier.percentage is not None and model_type is not None:
        yield Violation(f"{path}.percentage", f"{model_type} has an amount instead")


def _amounts(model: PricingModel, path: str) -> Iterable[Violation]:
    if model.package_size is not None:
        yield from _positive(f"{path}.package_size", model.package_size)
        if model.model_type not in (None, _M.PACKAGE):
            yield Violation(f"{path}.package_size", f"{model.model_type} knows no packages")
    if model.free_events is not None and model.free_events < 0:
        yield Violation(f"{path}.free_events", f"{model.free_events} is negative")
    for name in ("event_increment", "period_increment"):
        increment: Quantity | None = getattr(model, name)
        if increment is not None:
            yield from _positive(f"{path}.{name}.amount", increment.amount)
    if model.allowance is not None and (model.allowance.amount is None or model.allowance.amount < 0):
        yield Violation(f"{path}.allowance.amount", "an allowance has an amount, which isn't negative")
    for what in ("event", "period"):
        low: Decimal | None = getattr(model, f"{what}_minimum")
        high: Decimal | None = getattr(model, f"{what}_maximum")
        if low is not None and low < 0:
            yield Violation(f"{path}.{what}_minimum", f"{low} is negative")
        if high is not None and high < (low or _ZERO):
            yield Violation(f"{path}.{what}_maximum", f"{high} is below the minimum")


def _of_events(model: PricingModel, path: str) -> Iterable[Violation]:
    if model.model_type is None:
        return
    flat = any(tier.flat_amount for tier in model.tier)
    if reckons_by_event(model.model_type, flat=flat, increment=model.period_increment):
        if model.period_increment is not None:
            yield Violation(f"{path}.period_increment", f"{model.model_type} prices events, not their sum")
        return
    for name in ("event_minimum", "event_maximum", "free_events"):
        if getattr(model, name) is not None:
            yield Violation(f"{path}.{name}", f"here {model.model_type} prices the sum of a period, not events")


def _rate(rate: UsageRate, path: str) -> Iterable[Violation]:
    for k, prefix in enumerate(rate.prefix):
        if not re.fullmatch("[0-9]{1,15}", prefix):
            yield Violation(f"{path}.prefix[{k}]", f"{prefix!r} isn't the beginning of an E.164 number without its +")
    for k, band in enumerate(rate.time_band):
        yield from _band(band, f"{path}.time_band[{k}]")
    if rate.connect_fee is not None and rate.connect_fee < 0:
        yield Violation(f"{path}.connect_fee", f"{rate.connect_fee} is negative")
    if rate.maximum is not None and rate.maximum < 0:
        yield Violation(f"{path}.maximum", f"{rate.maximum} is negative")
    if rate.maximum_strategy is not None and rate.maximum is None:
        yield Violation(f"{path}.maximum_strategy", "there is no maximum to be reached")
    if rate.rounding_decimals is not None and not 0 <= rate.rounding_decimals <= _MOST_DECIMALS:
        yield Violation(f"{path}.rounding_decimals", f"from 0 to {_MOST_DECIMALS}")
    if rate.rounding_decimals is not None and rate.rounding_method is None:
        yield Violation(f"{path}.rounding_method", "up, middle or down")
    yield from _steps(rate.step, path)


def _band(band: TimeBand, path: str) -> Iterable[Violation]:
    for k, day in enumerate(band.day):
        if day not in (*DAYS, HOLIDAY):
            yield Violation(f"{path}.day[{k}]", f"{day!r} is none of {', '.join((*DAYS, HOLIDAY))}")
    for name, low, high in (("month_day", 1, 31), ("month", 1, 12), ("year", 1, 9999)):
        numbers: Sequence[int] = getattr(band, name)
        for k, number in enumerate(numbers):
            if not low <= number <= high:
                yield Violation(f"{path}.{name}[{k}]", f"from {low} to {high}")
    for name in ("start", "end"):
        text: str | None = getattr(band, name)
        if text is not None and not _TIME.fullmatch(text):
            yield Violation(f"{path}.{name}", f"{text!r} isn't a time such as 07:30 or 24:00")


def _steps(steps: Sequence[RateStep], path: str) -> Iterable[Violation]:
    before: Decimal | None = None
    for k, step in enumerate(steps):
        here = f"{path}.step[{k}]"
        start = step.start or _ZERO
        if before is None and start != 0:
            yield Violation(f"{here}.start", "the first step begins at 0")
        elif before is not None and start <= before:
            yield Violation(f"{here}.start", f"{start} isn't after {before}, where the step before begins")
        before = start
        if step.amount is not None and step.amount < 0:
            yield Violation(f"{here}.amount", f"{step.amount} is negative")
        for name in ("per", "increment"):
            value: Decimal | None = getattr(step, name)
            if value is not None:
                yield from _positive(f"{here}.{name}", value)


def _positive(path: str, value: Decimal | None) -> Iterable[Violation]:
    if value is None or value <= 0:
        yield Violation(path, f"{value} isn't above 0")
