"""Ages at which products are priced differently: having begun so long before an instant, something of them is over."""

from calendar import monthrange
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from chassis.types import Duration

_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MICROSECOND, _DAY = timedelta(microseconds=1), timedelta(days=1)
# Days: more than those by which the ends of months differ, several times over.
_AROUND = 12
_MONTHS = {"month": 1, "year": 12}
_DAYS = {"day": 1, "week": 7}


def after(start: datetime, duration: Duration) -> datetime:
    """The instant so much later; months keep the day, or take the last one of a month that hasn't it."""
    count, _, unit = (duration.units or "").rpartition(" ")
    amount = (duration.amount or 0) * int(count or 1)
    if unit in _MONTHS:
        year, month = divmod(start.year * 12 + start.month - 1 + amount * _MONTHS[unit], 12)
        return start.replace(year=year, month=month + 1, day=min(start.day, monthrange(year, month + 1)[1]))
    return start + timedelta(days=amount * _DAYS[unit]) if unit in _DAYS else _LATEST


def over(since: datetime, duration: Duration, at: datetime) -> bool:
    """Whether what began then and lasted so long has ended until the instant."""
    return after(since, duration) <= at


def turning_points(ended: Iterable[Callable[[datetime], bool]], at: datetime) -> list[datetime]:
    """The beginnings at which one of these turns from over to not over at the instant, or back: between two of them all
    are as old, as far as these tell. To the microsecond, which is as exact as PostgreSQL is.

    Each adds days or months to a beginning. What began later ends later, but for the last days of a month: a month
    after the 31st of January at nine comes before a month after the 30th at ten. So around where it turns each day
    is looked at, and the part of it until the instant's time of day.
    """
    at = at.astimezone(UTC)
    found: set[datetime] = set()
    for one in ended:
        low, high = _EARLIEST, at
        if one(high) or not one(low):
            # Of everything, or of nothing, that there is.
            continue
        while high - low > _DAY:
            middle = low + (high - low) / 2
            low, high = (middle, high) if one(middle) else (low, middle)
        midnight = high.replace(hour=0, minute=0, second=0, microsecond=0)
        since_midnight = at - at.replace(hour=0, minute=0, second=0, microsecond=0)
        days = [midnight + timedelta(days=number) for number in range(-_AROUND, _AROUND + 1)]
        beginnings = [part for day in days for part in (day, day + since_midnight + _MICROSECOND)]
        found |= {later for before, later in pairwise(beginnings) if one(before) != one(later)}
    return sorted(found)
