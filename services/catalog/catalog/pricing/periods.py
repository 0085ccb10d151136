"""Calendar arithmetic on the durations of phases, terms and discounts, in UTC."""

from calendar import monthrange
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from chassis.types import Duration, TimePeriod

_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)
_DAYS = {"day": 1, "days": 1, "week": 7, "weeks": 7}
_MONTHS = {"month": 1, "months": 1, "year": 12, "years": 12}
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


def after(start: datetime, duration: Duration) -> datetime:
    """The instant so much later. Months keep the day of the month, or take the last one of a month that hasn't it.

    Raises ValueError for units that no calendar has.
    """
    amount, units = duration.amount or 0, duration.units or ""
    try:
        if units in _MONTHS:
            months = start.year * 12 + start.month - 1 + amount * _MONTHS[units]
            year, month = divmod(months, 12)
            return start.replace(year=year, month=month + 1, day=min(start.day, monthrange(year, month + 1)[1]))
        if units in _DAYS:
            return start + timedelta(days=amount * _DAYS[units])
        if units in _SECONDS:
            return start + timedelta(seconds=amount * _SECONDS[units])
    except (OverflowError, ValueError):
        # Beyond the year 9999: for ever.
        return _LATEST
    raise ValueError(f"{units!r} is no unit of time")


def understood(duration: Duration) -> bool:
    """Whether `after` knows its units."""
    return (duration.units or "") in {*_MONTHS, *_DAYS, *_SECONDS}


def start_of(period: TimePeriod) -> datetime:
    """When it begins; one without a start began before everything."""
    return period.start_date_time or _EARLIEST


def lasting(duration: Duration, period: str) -> Duration | None:
    """A duration without units counts periods of the charge; None: nobody can tell how long it is."""
    if duration.units:
        return duration if understood(duration) else None
    number, _, unit = period.rpartition(" ")
    counted = Duration(amount=(duration.amount or 0) * int(number or 1), units=unit)
    return counted if understood(counted) else None


def starts(began: datetime, durations: Sequence[Duration | None]) -> Iterable[Duration | None]:
    """When each of the phases that last so long begins, counted from the first one's start: in months or days where
    those before it all are, else in whole days from that start."""
    total: Duration | None = None
    begins = began
    for duration in durations:
        yield total
        if duration is None:
            return
        begins = after(begins, duration)
        amount, units = _smallest(duration)
        if total is None:
            total = Duration(amount=amount, units=units)
        elif total.units == units:
            total = Duration(amount=(total.amount or 0) + amount, units=units)
        else:
            total = Duration(amount=(begins - began).days, units="day")


def _smallest(duration: Duration) -> tuple[int, str]:
    """In months, days or what it is in: 1 year is 12 months, 2 weeks are 14 days."""
    amount, units = duration.amount or 0, duration.units or ""
    if units in _MONTHS:
        return amount * _MONTHS[units], "month"
    return (amount * _DAYS[units], "day") if units in _DAYS else (amount, units)
