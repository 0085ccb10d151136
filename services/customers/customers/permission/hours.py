"""Local times as instants: when a rule about times of the day holds where the customer may be.

A rule is about what the clock on the wall shows: an hour that comes twice at a clock change is quiet twice, and one
that is left out ends where it would have begun.
"""

import bisect
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache, partial
from itertools import chain, pairwise
from zoneinfo import ZoneInfo

from customers.permission.values import MINUTES_A_DAY, CapPeriod, LocalInterval, QuietHours, minutes

_DAY = timedelta(days=1)
# Nobody's offset changes by more at once, save those who skip a day.
_SHIFT = timedelta(hours=25)
SLIDING = {CapPeriod.DAY: timedelta(days=1), CapPeriod.WEEK: timedelta(days=7), CapPeriod.MONTH: timedelta(days=30)}


def covers(interval: LocalInterval, wall: datetime) -> bool:
    """Whether the interval has the local time in it."""
    start, end = minutes(interval.start), minutes(interval.end)
    if start is None or end is None:
        return False
    of_day = wall.hour * 60 + wall.minute
    today, before = wall.isoweekday(), (wall - _DAY).isoweekday()
    if start < end:
        return start <= of_day < end and _on(interval, today)
    return (of_day >= start and _on(interval, today)) or (of_day < end and _on(interval, before))


def _on(interval: LocalInterval, weekday: int) -> bool:
    return not interval.weekday or weekday in interval.weekday


def is_quiet(rule: QuietHours, wall: datetime) -> bool:
    """Whether nobody is contacted at the local time, by this rule."""
    if wall.date().isoformat() in rule.date:
        return True
    return rule.interval is not None and covers(rule.interval, wall)


def wall_time(at: datetime, zone: str) -> datetime:
    """What the clock on the wall shows there, without a zone."""
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def instants(wall: datetime, zone: str) -> Iterator[datetime]:
    """When the clock there shows the time: once, twice (an hour that comes twice), or, where it is left out, when the
    clock passes over it. UTC."""
    place = ZoneInfo(zone)
    found = []
    for fold in (0, 1):
        instant = wall.replace(tzinfo=place, fold=fold).astimezone(UTC)
        if instant.astimezone(place).replace(tzinfo=None) == wall:
            found.append(instant)
    yield from sorted(set(found)) or [_passing(wall, zone)]


def _passing(wall: datetime, zone: str) -> datetime:
    """The first instant (to the second) at which the clock shows the time or a later one."""
    low = wall.replace(tzinfo=ZoneInfo(zone), fold=1).astimezone(UTC) - _SHIFT
    high = low + 2 * _SHIFT
    return _edge(low, high, lambda instant: wall_time(instant, zone) >= wall)


def _edge(low: datetime, high: datetime, past: Callable[[datetime], bool]) -> datetime:
    """The first whole second that is past something that the second one is past and the first one isn't."""
    seconds = int((high - low).total_seconds())
    first = bisect.bisect_left(range(seconds), x=True, key=lambda second: past(low + timedelta(seconds=second)))
    return low + timedelta(seconds=first)


@lru_cache(maxsize=4096)
def _clock_changes(zone: str, day: date) -> tuple[datetime, ...]:
    """The instants of a UTC day at which the offset of the zone changes."""
    place = ZoneInfo(zone)
    begin = datetime.combine(day, time(), UTC)
    marks = [begin + timedelta(hours=hour) for hour in range(0, 25, 6)]
    found = []
    for first, last in pairwise(marks):
        offset = first.astimezone(place).utcoffset()
        if last.astimezone(place).utcoffset() != offset:
            found.append(_edge(first, last, partial(_moved, place, offset)))
    return tuple(found)


def _moved(place: ZoneInfo, offset: timedelta | None, instant: datetime) -> bool:
    return instant.astimezone(place).utcoffset() != offset


# Policies name few times, and today's are asked for by everybody.
@lru_cache(maxsize=16_384)
def _boundaries(times: tuple[int, ...], zone: str, day: date) -> tuple[datetime, ...]:
    """The instants of a local day at which the clock shows one of the times, given in minutes since midnight."""
    midnight = datetime.combine(day, time())
    shown = (instants(midnight + timedelta(minutes=minute), zone) for minute in times)
    return (*chain.from_iterable(shown), *_clock_changes(zone, day))


def changes(intervals: Sequence[LocalInterval], zones: Sequence[str], after: datetime, days: int) -> Iterator[datetime]:
    """The instants after one, in order, at which it may change whether an interval or a whole day covers the time."""
    times = {0, MINUTES_A_DAY}
    for interval in intervals:
        times |= {found for found in (minutes(interval.start), minutes(interval.end)) if found is not None}
    ordered = tuple(sorted(times))
    last = after
    for ahead in range(-1, days + 1):
        day = after.date() + ahead * _DAY
        # A zone's local day and the UTC day of the same date are at most 14 hours apart: what has been given is past.
        horizon = datetime.combine(day, time(), UTC)
        near = (day - _DAY, day, day + _DAY)
        found = {instant for zone in zones for local in near for instant in _boundaries(ordered, zone, local)}
        for instant in sorted(found):
            if last < instant and horizon <= instant < horizon + _DAY:
                yield instant
                last = instant


def first(test: Callable[[datetime], bool], at: datetime, candidates: Iterator[datetime]) -> datetime | None:
    """The instant itself, or the first of the candidates after it, that passes the test."""
    if test(at):
        return at
    return next((instant for instant in candidates if test(instant)), None)


def window(period: CapPeriod, at: datetime, zone: str) -> tuple[datetime, datetime]:
    """The day, week (from Monday) or month of the zone's calendar that has the instant in it: from, until. UTC."""
    day = wall_time(at, zone).date()
    if period is CapPeriod.DAY:
        begin, end = day, day + _DAY
    elif period is CapPeriod.WEEK:
        begin = day - (day.isoweekday() - 1) * _DAY
        end = begin + 7 * _DAY
    else:
        begin = day.replace(day=1)
        end = (begin + 31 * _DAY).replace(day=1)
    return _midnight(begin, zone), _midnight(end, zone)


def _midnight(day: date, zone: str) -> datetime:
    """When the day begins there: at the first of two midnights, and after one that is left out."""
    return next(instants(datetime.combine(day, time()), zone))
