"""Calendar arithmetic on the durations of phases, terms and discounts, in UTC."""

from calendar import monthrange
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from chassis.types import Duration, TimePeriod

_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)
_DAYS = {"day": 1, "days": 1, "week": 7, "weeks": 7}
_MONTHS = {"month": 1, "months": 1, "year": 12, "years": 12}
_DAY, _SECOND = timedelta(days=1), timedelta(seconds=1)
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
    """When each of the phases that last so long begins, and when the last of them is over, if one day it is.

    Counted from the first one's start (None: at once), in months or days where those before it all are, else in whole
    days from that start, or in seconds. Phases of one unit in a row are counted together, so that months that begin on
    the 31st go on ending on the last day.
    """
    total: Duration | None = None
    run: Duration | None = None
    since = began
    for duration in durations:
        yield total
        if duration is None:
            return
        amount, units = _smallest(duration)
        if run is not None and run.units == units:
            run = Duration(amount=(run.amount or 0) + amount, units=units)
        else:
            since = after(since, run) if run is not None else began
            run = Duration(amount=amount, units=units)
        total = run if since == began else _elapsed(after(since, run) - began)
    yield total


def _elapsed(length: timedelta) -> Duration:
    if length % _DAY:
        return Duration(amount=length // _SECOND, units="second")
    return Duration(amount=length // _DAY, units="day")


def _smallest(duration: Duration) -> tuple[int, str]:
    """In months, days or what it is in: 1 year is 12 months, 2 weeks are 14 days."""
    amount, units = duration.amount or 0, duration.units or ""
    if units in _MONTHS:
        return amount * _MONTHS[units], "month"
    return (amount * _DAYS[units], "day") if units in _DAYS else (amount, units)
