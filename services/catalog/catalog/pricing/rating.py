"""What one event costs by where it goes and when: connect fee, increments, steps, cap; exact fractions.

The rules:

* The rate with the longest prefix of the destination wins; of several, the first whose hours fit. Where none of the
  longest fits the hour, the next shorter prefix is asked. No rate at all: the event is refused, never rated at nothing.
* Hours are those of the wall clock in the zone of the one who uses. A band that names days belongs to the day on which
  it begins. On a holiday only bands that name `holiday`, or no day, fit; where no rate knows holidays, they are days
  like others.
* An event is charged in increments from its start. Each is charged whole, by the rate and the step that hold when it
  begins: a call across a border of bands goes on by the other rate from the first increment that begins there. A rate
  that is `rated_by_start` and holds when the event begins holds to its end.
* The connect fee is that of the rate at the beginning. A rate's maximum keeps what the event comes to, connect fee
  included, from rising above it as long as the rate holds (as the cost of a call is with CGRateS' MaxCostStrategy
  *free); or, if the rate says so, the increment that reaches it is charged whole, and what follows is free or cut off
  (as CGRateS debits by *free and *disconnect).
* Amounts are exact, unless a rate says how what a stretch of its increments at one price comes to is rounded.
* What is free of the event comes first; hours and steps go on counting from its start, where the rate is chosen and
  the connect fee is found. An event of nothing costs nothing.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any

from catalog.pricing.money import exact_of, number
from catalog.pricing.receipts import ReceiptStep
from catalog.product.pricing_models import DAYS, HOLIDAY
from catalog.product.values import RateMaximumStrategy, RoundingMethod, UsageRate
from chassis.errors import InvalidArgument, Violation

_DAY = timedelta(days=1)
_MIDNIGHT = datetime(2000, 1, 1, tzinfo=UTC)
# Longer than any event that is one.
MAX_SECONDS = 366 * 86_400


@dataclass(frozen=True, slots=True)
class Band:
    """Hours of some days, from `start` for `length`; nothing stated of days: of every day."""

    days: frozenset[str]
    start: time
    length: timedelta
    month_days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    years: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """From `start` units on: `amount` for every `per` units, in whole increments."""

    start: Fraction
    amount: Fraction
    per: Fraction
    increment: Fraction


@dataclass(frozen=True, slots=True)
class Rate:
    """What an event to these destinations at these hours costs."""

    prefixes: tuple[str, ...]
    destination: str
    bands: tuple[Band, ...]
    connect_fee: Fraction
    steps: tuple[Step, ...]
    maximum: Fraction | None
    rated_by_start: bool
    strategy: RateMaximumStrategy = RateMaximumStrategy.CAP
    rounding: RoundingMethod | None = None
    decimals: int = 0

    def rounded(self, amount: Fraction) -> Fraction:
        """The amount (which isn't negative) in the decimals of the rate, if it states any."""
        if self.rounding is None:
            return amount
        units = amount * 10**self.decimals
        whole = {
            RoundingMethod.UP: ceil,
            RoundingMethod.DOWN: floor,
            RoundingMethod.MIDDLE: lambda exact: floor(exact + Fraction(1, 2)),
        }[self.rounding](units)
        return Fraction(whole, 10**self.decimals)


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of a price, in their order, and where each prefix leads."""

    rates: tuple[Rate, ...]
    by_prefix: Mapping[str, tuple[int, ...]] = field(repr=False)
    know_holidays: bool


@dataclass(frozen=True, slots=True)
class Calendar:
    """What the user's clock shows, and which dates are holidays there."""

    zone: tzinfo
    holidays: frozenset[date] = frozenset()


@dataclass(slots=True)
class RatedEvent:
    """What an event comes to, the units that were charged (in whole increments), and how."""

    amount: Fraction
    charged: Fraction
    destination: str
    step: list[ReceiptStep]
    # The units after which it is cut off, since it has reached the maximum of a rate that says so.
    disconnected_after: Fraction | None = None


# --- compiling -------------------------------------------------------------------------------------------------------


def compile_rates(rates: Sequence[UsageRate]) -> list[dict[str, Any]]:
    """The plain form of rates, which `parse_rates` takes; they are well formed (`catalog.product.pricing_models`)."""
    return [
        {
            "prefixes": list(rate.prefix),
            "destination": rate.destination or "",
            "bands": [
                {
                    "days": list(band.day),
                    "start": band.start or "00:00",
                    "end": band.end or "24:00",
                    **_stated(month_days=list(band.month_day), months=list(band.month), years=list(band.year)),
                }
                for band in rate.time_band
            ],
            "connect_fee": format(rate.connect_fee or Decimal(0), "f"),
            "steps": [
                {
                    "start": format(step.start or Decimal(0), "f"),
                    "amount": format(step.amount or Decimal(0), "f"),
                    "per": format(step.per or Decimal(1), "f"),
                    "increment": format(step.increment or Decimal(1), "f"),
                }
                for step in rate.step
            ],
            "maximum": None if rate.maximum is None else format(rate.maximum, "f"),
            "rated_by_start": bool(rate.rated_by_start),
            **_stated(strategy=rate.maximum_strategy, rounding=rate.rounding_method, decimals=rate.rounding_decimals),
        }
        for rate in rates
    ]


def _stated(**attributes: Any) -> dict[str, Any]:
    """What has been stated of them: what hasn't is left out, so that older receipts say the same."""
    return {name: value for name, value in attributes.items() if value}


def parse_rates(data: Sequence[Mapping[str, Any]]) -> Rates:
    """Rates from their plain form."""
    rates = tuple(_parse_rate(rate) for rate in data)
    by_prefix: dict[str, list[int]] = {}
    for i, rate in enumerate(rates):
        for prefix in rate.prefixes or ("",):
            by_prefix.setdefault(prefix, []).append(i)
    return Rates(
        rates,
        {prefix: tuple(places) for prefix, places in by_prefix.items()},
        any(HOLIDAY in band.days for rate in rates for band in rate.bands),
    )


def _parse_rate(data: Mapping[str, Any]) -> Rate:
    return Rate(
        prefixes=tuple(data["prefixes"]),
        destination=data["destination"],
        bands=tuple(_parse_band(band) for band in data["bands"]),
        connect_fee=exact_of(data["connect_fee"]),
        steps=tuple(Step(**{name: exact_of(text) for name, text in step.items()}) for step in data["steps"]),
        maximum=None if data["maximum"] is None else exact_of(data["maximum"]),
        rated_by_start=data["rated_by_start"],
        strategy=RateMaximumStrategy(data.get("strategy", RateMaximumStrategy.CAP)),
        rounding=RoundingMethod(data["rounding"]) if "rounding" in data else None,
        decimals=data.get("decimals", 0),
    )


def _parse_band(data: Mapping[str, Any]) -> Band:
    start, end = (_since_midnight(data[name]) for name in ("start", "end"))
    # 24:00 of a day is 00:00 of the next.
    begin = start % _DAY
    length = end - begin
    return Band(
        frozenset(data["days"]),
        (_MIDNIGHT + begin).time(),
        length if length > timedelta(0) else length + _DAY,
        *(frozenset(data.get(name, ())) for name in ("month_days", "months", "years")),
    )


def _since_midnight(text: str) -> timedelta:
    hours, minutes, *rest = (int(part) for part in text.split(":"))
    return timedelta(hours=hours, minutes=minutes, seconds=rest[0] if rest else 0)


# --- rating ----------------------------------------------------------------------------------------------------------


def rate_event(
    rates: Rates,
    *,
    subject: str,
    rule: str,
    currency: str,
    destination: str,
    at: datetime,
    units: Fraction,
    free: Fraction,
    unit_seconds: Fraction | None,
    where: Calendar,
) -> RatedEvent:
    """What an event of so many units costs, the first `free` of which cost nothing.

    `subject`, `rule` and `currency` are for its steps. `destination`: an E.164 number (with or without +) or a short
    one; empty for what goes nowhere (data). `unit_seconds`: how long a unit lasts; None when time doesn't pass with the
    units, so that one rate holds throughout.

    Raises InvalidArgument NO_RATE (for the destination, or at an hour), EVENT_TOO_LONG.
    """
    if unit_seconds is not None and units * unit_seconds > MAX_SECONDS:
        raise InvalidArgument("EVENT_TOO_LONG", f"{number(units)} units are more than {MAX_SECONDS} seconds")
    event = _Event(rates, subject, rule, currency, destination, at, unit_seconds, where)
    if units > free:
        event.run(free, units)
    return event.rated


class _Event:
    """An event while it is rated."""

    def __init__(
        self,
        rates: Rates,
        subject: str,
        rule: str,
        currency: str,
        destination: str,
        at: datetime,
        unit_seconds: Fraction | None,
        where: Calendar,
    ) -> None:
        self.rated = RatedEvent(Fraction(0), Fraction(0), "", [])
        self._rates = rates
        self._subject = subject
        self._rule = rule
        self._currency = currency
        self._destination = destination
        self._at = at
        self._unit_seconds = unit_seconds
        self._where = where
        self._candidates = list(_candidates(rates, destination.removeprefix("+")))

    def run(self, free: Fraction, units: Fraction) -> None:
        """Charges increment after increment, from what is free to the end; the event itself begins before that."""
        current = self._choose(Fraction(0), None)
        rate = self._rates.rates[current]
        self._connect(rate)
        kept = rate.rated_by_start or self._unit_seconds is None
        position = free
        while position < units and self.rated.disconnected_after is None:
            if not kept:
                current = self._choose(position, current)
                rate = self._rates.rates[current]
            step, until = _step(rate, position, units)
            if not kept:
                until = min(until, self._border(position) or until)
            count = max(1, ceil((until - position) / step.increment))
            self._charge(rate, step, count, position)
            position += count * step.increment

    def _choose(self, position: Fraction, current: int | None) -> int:
        """The rate that holds at the position."""
        now = self._instant(position)
        rejected = []
        for prefix, place in self._candidates:
            rate = self._rates.rates[place]
            if not _covers(self._rates, rate, now, self._where):
                rejected.append(f"rate {place + 1} isn't for {_wall(now, self._where):%a %H:%M:%S}")
                continue
            if place != current:
                for reason in rejected:
                    self._note("REJECTED", reason=reason)
                self.rated.destination = rate.destination or prefix
                name = f": {self.rated.destination}" if self.rated.destination else ""
                self._note("RATE_FOUND", after=prefix or None, reason=f"rate {place + 1}{name}")
            return place
        where = self._destination or "what has no destination"
        when = f" at {_wall(now, self._where):%a %H:%M:%S}" if self._candidates else ""
        field = f"{self._subject}.at" if self._candidates else f"{self._subject}.destination"
        raise InvalidArgument(
            "NO_RATE",
            f"price {self._rule} has no rate for {where}{when}",
            violations=[Violation(field, "there is no rate for it")],
        )

    def _instant(self, position: Fraction) -> datetime:
        return self._at + timedelta(microseconds=int(position * (self._unit_seconds or 0) * 1_000_000))

    def _border(self, position: Fraction) -> Fraction | None:
        """Where in the event the hours of a rate for it next begin or end; None when none has hours."""
        assert self._unit_seconds is not None
        border = _next_border(self._rates, self._candidates, self._instant(position), self._where)
        if border is None:
            return None
        return Fraction((border - self._at) // timedelta(microseconds=1), 1_000_000) / self._unit_seconds

    def _connect(self, rate: Rate) -> None:
        if rate.connect_fee:
            after = self.rated.amount + rate.connect_fee
            self._note("CONNECT_FEE_CHARGED", self.rated.amount, after)
            self._raise(rate, after)

    def _charge(self, rate: Rate, step: Step, count: int, position: Fraction) -> None:
        """So many increments at one price, from the position on."""
        each = step.increment * step.amount / step.per
        charged = count if rate.strategy is RateMaximumStrategy.CAP else self._until_maximum(rate, each, count)
        before = self.rated.amount
        if charged:
            after = before + self._rounded(rate, charged * each)
            figures = f"{charged} × {number(step.increment)} / {number(step.per)} × {number(step.amount)}"
            self._note("INCREMENTS_CHARGED", before, after, figures)
            self.rated.charged += charged * step.increment
            self._raise(rate, after)
        if charged < count:
            self._note("RATE_MAXIMUM_APPLIED", before + count * each, self.rated.amount)
            if rate.strategy is RateMaximumStrategy.DISCONNECT:
                self.rated.disconnected_after = position + charged * step.increment

    def _until_maximum(self, rate: Rate, each: Fraction, count: int) -> int:
        """How many of the increments begin before the rate's maximum is reached."""
        if rate.maximum is None:
            return count
        left = rate.maximum - self.rated.amount
        if left <= 0:
            return 0
        return count if not each else min(count, ceil(left / each))

    def _rounded(self, rate: Rate, amount: Fraction) -> Fraction:
        whole = rate.rounded(amount)
        if whole != amount:
            self._note("ROUNDED", amount, whole)
        return whole

    def _raise(self, rate: Rate, after: Fraction) -> None:
        """Lets the amount rise, as far as the rate's maximum allows."""
        most = after
        if rate.maximum is not None and rate.strategy is RateMaximumStrategy.CAP:
            most = max(self.rated.amount, min(after, rate.maximum))
        if most != after:
            self._note("RATE_MAXIMUM_APPLIED", after, most)
        self.rated.amount = most

    def _note(
        self,
        action: str,
        before: Fraction | None = None,
        after: Fraction | str | None = None,
        reason: str | None = None,
    ) -> None:
        def said(value: Fraction | str | None) -> str | None:
            return f"{number(value)} {self._currency}" if isinstance(value, Fraction) else value

        self.rated.step.append(ReceiptStep(self._subject, action, self._rule, said(before), said(after), reason))


def _candidates(rates: Rates, called: str) -> Iterator[tuple[str, int]]:
    """The rates for a destination: the longest prefix first, and in their order."""
    for length in range(len(called), -1, -1):
        prefix = called[:length]
        for place in rates.by_prefix.get(prefix, ()):
            yield prefix, place


def _step(rate: Rate, position: Fraction, units: Fraction) -> tuple[Step, Fraction]:
    """The step that holds at the position, and where it (or the event) ends."""
    for step, following in itertools.pairwise(rate.steps):
        if position < following.start:
            return step, min(units, following.start)
    return rate.steps[-1], units


# --- hours -----------------------------------------------------------------------------------------------------------


def _covers(rates: Rates, rate: Rate, now: datetime, where: Calendar) -> bool:
    if not rate.bands:
        return True
    today = _wall(now, where).date()
    return any(
        begin <= now < end
        for band in rate.bands
        for day in (today - _DAY, today)
        if _fits(rates, band, day, where)
        for begin, end in [_window(band, day, where)]
    )


def _next_border(
    rates: Rates, candidates: Sequence[tuple[str, int]], now: datetime, where: Calendar
) -> datetime | None:
    """When a band of one of these rates next begins or ends; None when none has bands."""
    today = _wall(now, where).date()
    # Two days on there is a border of every band that fits any day; where none fits, the next look is a day later.
    bands = [band for _, place in candidates for band in rates.rates[place].bands]
    borders = [
        border
        for band in bands
        for offset in (-1, 0, 1)
        for border in _window(band, today + offset * _DAY, where)
        if border > now
    ]
    return min(borders, default=None)


def _fits(rates: Rates, band: Band, day: date, where: Calendar) -> bool:
    for stated, number_ in ((band.month_days, day.day), (band.months, day.month), (band.years, day.year)):
        if stated and number_ not in stated:
            return False
    if not band.days:
        return True
    if rates.know_holidays and day in where.holidays:
        return HOLIDAY in band.days
    return DAYS[day.weekday()] in band.days


def _window(band: Band, day: date, where: Calendar) -> tuple[datetime, datetime]:
    """The instants between which the band of that day lies, by the wall clock: an hour longer when that goes back."""
    # Adding to a local time moves its hands, whatever the clock does in between.
    begin = datetime.combine(day, band.start, tzinfo=where.zone)
    return begin.astimezone(UTC), (begin + band.length).astimezone(UTC)


def _wall(now: datetime, where: Calendar) -> datetime:
    return now.astimezone(where.zone)
