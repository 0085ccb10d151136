"""Price formulas of operators' tariff tables as pricing models.

A row states its formula by name, with a price in the currency, parameters (limits in minutes, items or megabytes; steps
in minutes of one call) and a window: the period in which a limit counts. Calls are counted in minutes that have begun.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

from catalog.product.domain import ONE_TIME, RECURRING
from catalog.product.values import PriceTier, PricingModel, PricingModelType, RateStep, UsageRate
from chassis.types import Quantity

_USAGE = "usage"
_ZERO = Decimal(0)
_MINUTE = Decimal(60)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What a row says; `window`: day, week, month or empty."""

    formula: str
    price: Decimal | None
    params: Mapping[str, Decimal]
    window: str
    # voice, sms, mms, data …
    usage: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Charging:
    """A price that a row becomes: an amount that is charged by being ordered, or a model of what is used."""

    price_type: str
    period: str | None = None
    amount: Decimal | None = None
    model: PricingModel | None = None
    # What the model counts.
    unit: str | None = None


class NotMappableError(Exception):
    """A row that no pricing model says exactly."""


def charging(row: Row) -> list[Charging]:
    """The prices that the row becomes, in order. Raises NotMappableError naming the formula and why."""
    rule = _RULES.get(row.formula)
    if rule is None:
        raise NotMappableError(f"the formula {row.formula} isn't known")
    return rule(row)


def _price(row: Row) -> Decimal:
    if row.price is None:
        raise NotMappableError(f"{row.formula} has no price")
    return row.price


def _param(row: Row, name: str) -> Decimal:
    value = row.params.get(name)
    if value is None:
        raise NotMappableError(f"{row.formula} has no {name}")
    return value


def _fixed(period: str | None) -> Callable[[Row], list[Charging]]:
    """An amount, once or every period."""
    kind = RECURRING if period else ONE_TIME
    return lambda row: [Charging(price_type=kind, period=period, amount=_price(row))]


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is counted: its name, and the parameter that limits it."""

    name: str
    limit: str = ""
    # Each event is rounded up to whole ones.
    whole: bool = False


_MINUTES = _Unit("minute", "max_duration_minute", whole=True)
_SECONDS = _Unit("second", whole=True)
_ITEMS = _Unit("item", "max_count_volume")
_MEGABYTES = _Unit("MB", "max_sum_volume")
_KILOBYTES = _Unit("kB")
_ANYTHING = _Unit("event")


def _used(
    row: Row,
    unit: _Unit,
    kind: PricingModelType,
    *tiers: PriceTier,
    period: str | None = None,
    package: Decimal | None = None,
) -> Charging:
    model = PricingModel(
        model_type=kind,
        tier=tiers,
        package_size=package,
        usage_type=row.usage or None,
        event_increment=Quantity(amount=Decimal(1), units=unit.name) if unit.whole else None,
    )
    return Charging(price_type=_USAGE, period=period or row.window or None, model=model, unit=unit.name)


_T = PricingModelType


def _each(unit: _Unit) -> Callable[[Row], list[Charging]]:
    """Every unit at the price."""
    return lambda row: [_used(row, unit, _T.PER_UNIT, PriceTier(unit_amount=_price(row)))]


def _once_used(unit: _Unit, period: str | None = None) -> Callable[[Row], list[Charging]]:
    """The price once in a period (or once at all), if anything was used in it."""

    def rule(row: Row) -> list[Charging]:
        price = _price(row)
        one = _used(row, unit, _T.PER_UNIT, PriceTier(unit_amount=_ZERO), period=period)
        assert one.model is not None
        # Whatever the first event is, it costs the whole price, and no other adds to it.
        model = replace(one.model, event_minimum=price, event_maximum=price, period_maximum=price)
        return [replace(one, model=model)]

    return rule


def _included(unit: _Unit) -> Callable[[Row], list[Charging]]:
    """The price in each window, used or not, with so many units in it; what goes beyond is another row's."""

    def rule(row: Row) -> list[Charging]:
        limit = _param(row, unit.limit)
        usage = _used(row, unit, _T.GRADUATED, PriceTier(up_to=limit, unit_amount=_ZERO))
        amount = _price(row)
        if not amount:
            return [usage]
        kind = RECURRING if row.window else ONE_TIME
        return [Charging(price_type=kind, period=row.window or None, amount=amount), usage]

    return rule


def _included_if_used(unit: _Unit, period: str | None = None) -> Callable[[Row], list[Charging]]:
    """The price in each window in which anything was used, with so many units in it: one package."""

    def rule(row: Row) -> list[Charging]:
        limit = _param(row, unit.limit)
        tier = PriceTier(up_to=limit, unit_amount=_price(row))
        return [_used(row, unit, _T.PACKAGE, tier, period=period, package=limit)]

    return rule


def _special(unit: _Unit) -> Callable[[Row], list[Charging]]:
    """So many units of each window at this price each."""

    def rule(row: Row) -> list[Charging]:
        tier = PriceTier(up_to=_param(row, unit.limit), unit_amount=_price(row))
        return [_used(row, unit, _T.GRADUATED, tier)]

    return rule


def _packages(unit: _Unit, period: str) -> Callable[[Row], list[Charging]]:
    """The price for so many units, again and again."""

    def rule(row: Row) -> list[Charging]:
        size = _param(row, unit.limit)
        return [_used(row, unit, _T.PACKAGE, PriceTier(unit_amount=_price(row)), period=period, package=size)]

    return rule


def _steps(count: int) -> Callable[[Row], list[Charging]]:
    """Minutes of one call at a price by how long it has lasted: price_0 up to duration_minute_1, then price_1 …"""

    def rule(row: Row) -> list[Charging]:
        starts = [_ZERO, *(_param(row, f"duration_minute_{i}") for i in range(1, count))]
        prices = [_param(row, f"price_{i}") for i in range(count)]
        if any(later <= earlier for earlier, later in pairwise(starts)):
            raise NotMappableError(f"the steps of {row.formula} don't ascend")
        steps = tuple(
            RateStep(start=start * _MINUTE, amount=price, per=_MINUTE, increment=_MINUTE)
            for start, price in zip(starts, prices, strict=True)
        )
        model = PricingModel(model_type=_T.RATED, usage_type=row.usage or None, rate=(UsageRate(step=steps),))
        return [Charging(price_type=_USAGE, period=row.window or None, model=model, unit="second")]

    return rule


def _unmappable(why: str) -> Callable[[Row], list[Charging]]:
    def rule(row: Row) -> list[Charging]:
        raise NotMappableError(f"{row.formula}: {why}")

    return rule


_RULES: Mapping[str, Callable[[Row], list[Charging]]] = {
    "PriceByMonth": _fixed("month"),
    "PriceByDay": _fixed("day"),
    "PriceByItem": _fixed(None),
    "PriceBySumDuration": _each(_MINUTES),
    "PriceBySumDurationSecond": _each(_SECONDS),
    "PriceByCountVolumeItem": _each(_ITEMS),
    "PriceBySumVolumeMByte": _each(_MEGABYTES),
    "PriceBySumVolumeKByte": _each(_KILOBYTES),
    "FixedPriceIfUsedInOneDayDuration": _once_used(_MINUTES, "day"),
    "FixedPriceIfUsedInOneDayVolume": _once_used(_MEGABYTES, "day"),
    "FixedPriceIfUsedInOneDayAny": _once_used(_ANYTHING, "day"),
    "PriceByMonthIfUsed": _once_used(_ANYTHING, "month"),
    "PriceByItemIfUsed": _once_used(_ANYTHING),
    "MaxDurationMinuteForFixedPrice": _included(_MINUTES),
    "MaxCountVolumeForFixedPrice": _included(_ITEMS),
    "MaxSumVolumeMByteForFixedPrice": _included(_MEGABYTES),
    "MaxDurationMinuteForFixedPriceIfUsed": _included_if_used(_MINUTES),
    "MaxCountVolumeForFixedPriceIfUsed": _included_if_used(_ITEMS),
    "MaxSumVolumeMByteForFixedPriceIfUsed": _included_if_used(_MEGABYTES),
    "MaxDurationMinuteForSpecialPrice": _special(_MINUTES),
    "MaxCountVolumeForSpecialPrice": _special(_ITEMS),
    "MaxSumVolumeMByteForSpecialPrice": _special(_MEGABYTES),
    # Bought once when what is included has been used.
    "TurbobuttonMByteForFixedPrice": _included_if_used(_MEGABYTES),
    "TurbobuttonMByteForFixedPriceDay": _included_if_used(_MEGABYTES, "day"),
    "MaxDurationMinuteWithMultipleUseMonth": _packages(_MINUTES, "month"),
    "MaxDurationMinuteWithMultipleUseDay": _packages(_MINUTES, "day"),
    "MaxCountVolumeWithMultipleUseMonth": _packages(_ITEMS, "month"),
    "MaxCountVolumeWithMultipleUseDay": _packages(_ITEMS, "day"),
    "MaxSumVolumeMByteWithMultipleUseMonth": _packages(_MEGABYTES, "month"),
    "MaxSumVolumeMByteWithMultipleUseDay": _packages(_MEGABYTES, "day"),
    "TwoStepPriceDurationMinute": _steps(2),
    "ThreeStepPriceDurationMinute": _steps(3),
    "TwoStepPriceMaxDurationMinute": _unmappable("no model has both steps of one call and a limit of all of them"),
}

KNOWN = frozenset(_RULES)


def kind_of_usage(formula: str, item: str) -> str:
    """What is used, as the item's path or else the formula says: voice, sms, mms or data; empty: that isn't said."""
    places = item.lower()
    for word, usage in (("sms", "sms"), ("mms", "mms"), ("internet", "data"), ("calls", "voice")):
        if word in places:
            return usage
    if "Duration" in formula:
        return "voice"
    return "data" if "Byte" in formula else ""


def numbers(params: Mapping[str, Any]) -> dict[str, Decimal]:
    """The parameters as exact numbers. Raises NotMappableError."""
    for name, value in params.items():
        if not isinstance(value, int | Decimal) or isinstance(value, bool):
            raise NotMappableError(f"the parameter {name} isn't a number")
    return {name: Decimal(value) for name, value in params.items()}
