"""When the points of a lot can be spent and until when, in the calendar of the branch. Pure."""

import calendar
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from customers.loyalty.values import DayRounding, LotTerms, PendingMode, PointsCapPeriod


def active_at(terms: LotTerms, earned_at: datetime, zone: ZoneInfo) -> datetime | None:
    """From when points that are earned at the instant can be spent; None: when the terms' action happens."""
    if terms.pending is PendingMode.ACTION:
        return None
    if terms.pending is not PendingMode.DURATION:
        return earned_at
    rounded = _rounded(_days_later(earned_at, terms.pending_days or 0, zone), terms.pending_rounding, zone)
    return max(rounded, earned_at)


def lapses_at(terms: LotTerms, earned_at: datetime, zone: ZoneInfo) -> datetime | None:
    """When points expire that wait for an action in vain; None: never."""
    if terms.pending is not PendingMode.ACTION or terms.lapse_days is None:
        return None
    return _days_later(earned_at, terms.lapse_days, zone)


def expires_at(terms: LotTerms, active: datetime, zone: ZoneInfo) -> datetime | None:
    """When points expire that can be spent from the instant on; None: never.

    At least a moment later than that, whatever the rounding.
    """
    if terms.validity_days is None and terms.validity_months is None:
        return None
    local = _months_later(active, terms.validity_months or 0, zone)
    end = _rounded(_days_later(local, terms.validity_days or 0, zone), terms.validity_rounding, zone)
    return max(end, active + timedelta(seconds=1))


def months_later(at: datetime, months: int, zone: ZoneInfo) -> datetime:
    """The same wall time so many months later, or on that month's last day; negative: earlier."""
    return _months_later(at, months, zone)


def days_later(at: datetime, days: int, zone: ZoneInfo) -> datetime:
    """The same wall time so many days later."""
    return _days_later(at, days, zone)


def period_start(period: PointsCapPeriod, at: datetime, zone: ZoneInfo) -> datetime:
    """When the local day, week, month or year began in which the instant lies."""
    day = at.astimezone(zone).date()
    if period is PointsCapPeriod.EVER:
        return datetime.min.replace(tzinfo=UTC)
    if period is PointsCapPeriod.WEEK:
        day -= timedelta(days=day.weekday())
    elif period is PointsCapPeriod.MONTH:
        day = day.replace(day=1)
    elif period is PointsCapPeriod.YEAR:
        day = day.replace(month=1, day=1)
    return _midnight(day, zone)


def period_end(period: PointsCapPeriod, at: datetime, zone: ZoneInfo) -> datetime:
    """When the local day, week, month or year ends in which the instant lies: the next one's beginning."""
    if period is PointsCapPeriod.EVER:
        return datetime.max.replace(tzinfo=UTC)
    first = period_start(period, at, zone).astimezone(zone).date()
    if period is PointsCapPeriod.MONTH:
        return _midnight((first + timedelta(days=31)).replace(day=1), zone)
    if period is PointsCapPeriod.YEAR:
        return _midnight(first.replace(year=first.year + 1), zone)
    return _midnight(first + timedelta(days=7 if period is PointsCapPeriod.WEEK else 1), zone)


def _rounded(at: datetime, rounding: DayRounding | None, zone: ZoneInfo) -> datetime:
    day = at.astimezone(zone).date()
    if rounding is DayRounding.START_OF_DAY:
        return _midnight(day, zone)
    if rounding is DayRounding.END_OF_DAY:
        return _midnight(day + timedelta(days=1), zone)
    return at


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _days_later(at: datetime, days: int, zone: ZoneInfo) -> datetime:
    return (at.astimezone(zone) + timedelta(days=days)).astimezone(UTC)


def _months_later(at: datetime, months: int, zone: ZoneInfo) -> datetime:
    local = at.astimezone(zone)
    year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
    day = min(local.day, calendar.monthrange(year, month + 1)[1])
    return local.replace(year=year, month=month + 1, day=day).astimezone(UTC)
