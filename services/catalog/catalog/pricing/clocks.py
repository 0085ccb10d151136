"""What the clocks of a zone showed during some time: kept with what was rated by them.

The rules of time zones change, by law and often late. What was rated by them is replayed by those that were known then.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from catalog.pricing.offers import instant

_DAY, _SECOND, _ZERO = timedelta(days=1), timedelta(seconds=1), timedelta(0)
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC) + 3 * _DAY, datetime.max.replace(tzinfo=UTC) - 3 * _DAY


class Clocks(tzinfo):
    """The offset from UTC to begin with, and from each instant (UTC) on."""

    def __init__(self, first: timedelta, changes: Iterable[tuple[datetime, timedelta]] = ()) -> None:
        self._changes = list(changes)
        self._offsets = [first, *(offset for _, offset in self._changes)]
        self._instants = [at.replace(tzinfo=None) for at, _ in self._changes]
        steps = list(zip(self._instants, self._offsets[:-1], self._offsets[1:], strict=True))
        # By wall time and fold, see `utcoffset`.
        self._borders = (
            [at + max(offset, following) for at, offset, following in steps],
            [at + min(offset, following) for at, offset, following in steps],
        )

    def plain(self) -> list[list[str | int]]:
        """As a receipt quotes it; `clocks_of` reads it."""
        rows = [("", self._offsets[0]), *((instant(at), offset) for at, offset in self._changes)]
        return [[text, offset // _SECOND] for text, offset in rows]

    def utcoffset(self, dt: datetime | None) -> timedelta:
        """By wall time; of an hour that is there twice the first, or (`fold`) the second, of one that is left out the
        offset before it (PEP 495)."""
        assert dt is not None
        return self._offsets[bisect_right(self._borders[dt.fold], dt.replace(tzinfo=None))]

    def fromutc(self, dt: datetime) -> datetime:
        """The wall time of an instant (given as UTC)."""
        offset = self._offsets[bisect_right(self._instants, dt.replace(tzinfo=None))]
        shown = dt + offset
        return shown if self.utcoffset(shown) == offset else shown.replace(fold=1)

    def dst(self, dt: datetime | None) -> timedelta:
        """It isn't told apart."""
        return _ZERO

    def tzname(self, dt: datetime | None) -> str:
        """It has none of its own."""
        return ""


def clocks_during(zone: ZoneInfo, start: datetime, end: datetime) -> Clocks:
    """What the clocks of the zone show between the instants, and some days around them."""
    first, last = max(start.astimezone(UTC), _EARLIEST).date(), min(end.astimezone(UTC), _LATEST).date()
    return _during(zone, first, last)


@lru_cache(64)
def _during(zone: ZoneInfo, start: date, end: date) -> Clocks:
    # Kept, since most of what is rated at a time was used on the same days.
    at, last = (datetime.combine(day, time(), UTC) + days * _DAY for day, days in ((start, -2), (end, 3)))
    first = offset = _offset(zone, at)
    changes = []
    while at < last:
        following = min(at + _DAY, last)
        if _offset(zone, following) != offset:
            change = _change(zone, at, following)
            offset = _offset(zone, change)
            changes.append((change, offset))
            following = change
        at = following
    return Clocks(first, changes)


def clocks_of(plain: Sequence[Sequence[str | int]]) -> Clocks:
    """The clocks that a receipt quotes. Raises ValueError, TypeError, OverflowError for what it can't have quoted."""
    (_, first), *changes = plain
    return Clocks(
        _stated(first),
        [(datetime.fromisoformat(str(text)).astimezone(UTC), _stated(offset)) for text, offset in changes],
    )


def _stated(seconds: str | int) -> timedelta:
    offset = timedelta(seconds=int(seconds))
    if abs(offset) >= _DAY:
        raise ValueError(f"no clock is {seconds} seconds from UTC")
    return offset


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or _ZERO


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second of the other offset; there is one change between them."""
    offset = _offset(zone, before)
    low, high = before.replace(microsecond=0), after.replace(microsecond=0) + _SECOND
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if _offset(zone, middle) == offset:
            low = middle
        else:
            high = middle
    return high
