"""Ages at which products are priced differently: having begun so long before an instant, something of them is over."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice, pairwise

from catalog.pricing import periods
from catalog.pricing.offers import Offer, charge_period
from chassis.types import Duration

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Days: more than those by which the ends of months differ, several times over.
_AROUND = 12


def sold_over(amount: int, units: str, since: datetime, at: datetime) -> bool:
    """Whether a discount that was sold for so many of these units, or charge periods, has ended until the instant; one
    of units that nobody knows goes on."""
    lasting = periods.lasting(Duration(amount=amount), charge_period(units, None))
    return lasting is not None and periods.after(since, lasting) <= at


def endings(offer: Offer, at: datetime) -> dict[Hashable, Callable[[datetime], bool]]:
    """Whether each phase, and each discount for a time, of the offer is over at the instant for what began at another;
    by what distinguishes them."""
    found: dict[Hashable, Callable[[datetime], bool]] = {}
    lasting = [phase.duration for phase in offer.phases]
    ahead = [duration for duration in lasting if duration is not None]
    for number in range(1, len(ahead) + 1):
        found[tuple(map(_key, ahead[:number]))] = partial(_all_over, ahead[:number], at)
    for charge in offer.charges:
        for alteration in charge.alterations:
            own = periods.lasting(alteration.duration, charge.period) if alteration.duration is not None else None
            if own is not None:
                for phase in range(max(1, len(lasting))):
                    key = tuple(map(_key, ahead[:phase])), _key(own)
                    found[key] = partial(_discount_over, lasting, phase, own, at)
    return found


def _key(duration: Duration) -> tuple[int, str]:
    return duration.amount or 0, duration.units or ""


def _all_over(durations: Sequence[Duration], at: datetime, since: datetime) -> bool:
    *_, over = periods.starts(since, durations)
    return over is not None and periods.after(since, over) <= at


def _discount_over(
    lasting: Sequence[Duration | None], phase: int, own: Duration, at: datetime, since: datetime
) -> bool:
    """Of a charge that begins with that phase."""
    start = next(islice(periods.starts(since, lasting), phase, None), None)
    return periods.after(periods.after(since, start) if start is not None else since, own) <= at


def turning_points(ended: Iterable[Callable[[datetime], bool]], at: datetime) -> list[datetime]:
    """The beginnings at which one of these turns from over to not over at the instant, or back: between two of them all
    are as old, as far as these tell. To the microsecond, which is as exact as PostgreSQL is.

    Each adds days or months to a beginning. What began later ends later, but for the last days of a month: a month
    after the 31st of January at nine comes before a month after the 30th at ten. So around where it turns each day
    is looked at, and the part of it until the instant's time of day.
    """
    at = at.astimezone(UTC)
    since_midnight = at - at.replace(hour=0, minute=0, second=0, microsecond=0) + _MICROSECOND
    found: set[datetime] = set()
    for one in ended:
        low, high = _EARLIEST, at
        if one(high) or not one(low):
            # Of everything, or of nothing, that there is.
            continue
        while high - low > _MICROSECOND:
            middle = low + (high - low) / 2
            low, high = (middle, high) if one(middle) else (low, middle)
        midnight = high.replace(hour=0, minute=0, second=0, microsecond=0)
        days = [midnight + timedelta(days=number) for number in range(-_AROUND, _AROUND + 1)]
        beginnings = sorted({high, *(part for day in days for part in (day, day + since_midnight))})
        found |= {later for before, later in pairwise(beginnings) if one(before) != one(later)}
    return sorted(found)
