"""When notice of an agreement's end is due. Pure: the zone and the instant come in as arguments.

Notice is given so many days ahead, counted by the calendar of the branch: of an agreement that ends at midnight it is
given at midnight, also where the clocks are changed in between. Of several that are due at a time only the last is
given, as after an outage, or when an agreement comes in that ends soon: nobody needs to hear today what was due before.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from chassis.errors import InvalidArgument, Violation

# Days ahead that notice is given of an end, where neither the operator nor the pattern says otherwise.
DEFAULT_NOTICES = "90,60,30"
# Ten years: who wants to know earlier wants a shorter agreement.
LONGEST_NOTICE = 3_650
MOST_NOTICES = 20
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be done about an agreement's end: now, and when next (None: nothing)."""

    # The number of days ahead that notice is given of now.
    notice: int | None = None
    over: bool = False
    due: datetime | None = None


def outlook(end: datetime, notices: Iterable[int], given: int | None, at: datetime, zone: ZoneInfo) -> Outlook:
    """`given`: the smallest number of days ahead that notice has been given of this end."""
    if at >= end:
        return Outlook(over=True)
    open_ones = sorted(days for days in set(notices) if days > 0 and (given is None or days < given))
    passed = [days for days in open_ones if ahead(end, days, zone) <= at]
    coming = [days for days in open_ones if ahead(end, days, zone) > at]
    notice = min(passed, default=None)
    # What is more days ahead than the one given now has passed, too.
    return Outlook(notice=notice, due=ahead(end, max(coming), zone) if coming else end)


def ahead(end: datetime, days: int, zone: ZoneInfo) -> datetime:
    """The instant (UTC) so many days before the end, at the same time of the branch's day.

    A time that the clocks skip is the instant just as far after the change (PEP 495, fold 0).
    """
    try:
        local = end.astimezone(zone)
        return (local.replace(tzinfo=None) - timedelta(days=days)).replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        # At the ends of the calendar (an end that means never, 9999-12-31) no clocks are changed.
        return end - min(timedelta(days=days), end - datetime.min.replace(tzinfo=UTC))


def parse_notices(text: str) -> Sequence[int]:
    """Reads the operator's setting, `90,60,30`; raises ValueError."""
    days = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in days):
        raise ValueError(f"expected numbers of days such as 90,60,30, not {text!r}")
    notices = tuple(sorted({int(part) for part in days}, reverse=True))
    if any(not 0 < part <= LONGEST_NOTICE for part in notices) or len(notices) > MOST_NOTICES:
        raise ValueError(f"at most {MOST_NOTICES} numbers from 1 to {LONGEST_NOTICE} days, not {text!r}")
    return notices


def last_day(text: str, field: str) -> date:
    """A date YYYY-MM-DD that begins and has a next day in every zone. Raises InvalidArgument DAY_INVALID naming the
    field."""
    if _DAY.fullmatch(text) and "0002" <= text < "9999":
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise InvalidArgument(
        "DAY_INVALID", f"{text!r} is no date", violations=[Violation(field, "must be YYYY-MM-DD and exist")]
    )
