"""In which time zone each branch lives: there its days begin and end."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class BranchZones:
    """In which time zone each branch counts its days."""

    def __init__(self, zones: Mapping[str, ZoneInfo], other: ZoneInfo) -> None:
        self._zones = dict(zones)
        self._other = other

    @classmethod
    def parse(cls, text: str) -> "BranchZones":
        """Reads `bishkek=Asia/Bishkek,*=UTC`; `*` (UTC unless given) is every branch that isn't named.

        Raises ValueError for what isn't such a list or no zone.
        """
        zones: dict[str, ZoneInfo] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            branch, separator, name = entry.partition("=")
            if not separator or not branch.strip():
                raise ValueError(f"expected branch=Zone/Name, not {entry!r}")
            try:
                zones[branch.strip()] = ZoneInfo(name.strip())
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise ValueError(f"no such time zone: {name.strip()!r}") from error
        other = zones.pop("*", ZoneInfo("UTC"))
        return cls(zones, other)

    def zone(self, branch: str) -> ZoneInfo:
        """The branch's zone."""
        return self._zones.get(branch, self._other)

    def bounds(self, branch: str, day: date) -> tuple[datetime, datetime]:
        """The instants (UTC) between which the branch's local day lies; 23 to 25 hours where clocks are changed."""
        zone = self.zone(branch)
        midnight, next_midnight = (
            datetime(at.year, at.month, at.day, tzinfo=zone).astimezone(UTC) for at in (day, day + timedelta(days=1))
        )
        return midnight, next_midnight
