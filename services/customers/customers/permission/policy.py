"""The rules of a branch for contacts, version by version."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, ClassVar

from chassis.errors import FailedPrecondition, Violation
from chassis.types import Aggregate
from customers.permission.domain import check_interval, known_zone, refuse, required
from customers.permission.facts import Rules, closed
from customers.permission.values import ChannelRule, FrequencyCap, PurposeRule, QuietHours, RegionZone

RESERVATION_SECONDS = 300
_LONGEST_RESERVATION = 86_400
# No cap counts more: as many contacts are read for one at most.
MOST_CONTACTS = 1_000


@dataclass(kw_only=True, eq=False)
class PermissionPolicy(Aggregate):
    """The rules of a branch, from when they come into force until the next version does."""

    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"version"})

    name: str | None = None
    version: int | None = None
    effective_from: datetime | None = None
    time_zone: tuple[str, ...] = ()
    region_zone: tuple[RegionZone, ...] = ()
    channel: tuple[ChannelRule, ...] = ()
    purpose: tuple[PurposeRule, ...] = ()
    quiet_hours: tuple[QuietHours, ...] = ()
    frequency_cap: tuple[FrequencyCap, ...] = ()
    reservation_seconds: int | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument naming every rule that means nothing, or would begin in the past."""
        self.effective_from = self.effective_from or at
        if self.effective_from < at:
            refuse([Violation("effective_from", "in the past, where decisions have been taken")], "IN_THE_PAST")
        self._check()

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes the changes before it comes into force. Raises FailedPrecondition POLICY_IN_FORCE."""
        if self.effective_from is not None and self.effective_from <= at:
            raise FailedPrecondition(
                "POLICY_IN_FORCE", f"version {self.version} has come into force: make the next version"
            )
        super().revise(changes, at)
        self.check(at)

    def terms(self) -> "PolicyTerms":
        """What it says, apart from the transaction that it was read in."""
        return PolicyTerms(
            id=self.id,
            version=self.version or 0,
            time_zone=self.time_zone,
            region_zone=self.region_zone,
            channel=self.channel,
            purpose=self.purpose,
            quiet_hours=self.quiet_hours,
            frequency_cap=self.frequency_cap,
            reservation=timedelta(seconds=self.reservation_seconds or RESERVATION_SECONDS),
        )

    def _check(self) -> None:
        refuse(required(time_zone=self.time_zone, channel=self.channel, purpose=self.purpose))
        refuse(self._contradictions(), "CONTRADICTION")

    def _contradictions(self) -> Iterator[Violation]:
        yield from _zones("time_zone", self.time_zone)
        for i, region in enumerate(self.region_zone):
            yield from _zones(f"region_zone[{i}].time_zone", region.time_zone)
            if not region.name or not region.time_zone:
                yield Violation(f"region_zone[{i}]", "a region has a name and a time zone")
        yield from _distinct("channel", [one.channel for one in self.channel])
        yield from _distinct("purpose", [one.purpose for one in self.purpose])
        for i, channel in enumerate(self.channel):
            if channel.kind is None:
                yield Violation(f"channel[{i}].kind", "required")
        for i, purpose in enumerate(self.purpose):
            if purpose.transactional and not purpose.role:
                yield Violation(f"purpose[{i}].role", "a transactional purpose needs a right")
        if self.reservation_seconds is not None and not 1 <= self.reservation_seconds <= _LONGEST_RESERVATION:
            yield Violation("reservation_seconds", f"from 1 to {_LONGEST_RESERVATION}")
        for i, quiet in enumerate(self.quiet_hours):
            yield from self._quiet(f"quiet_hours[{i}]", quiet)
        for i, cap in enumerate(self.frequency_cap):
            path = f"frequency_cap[{i}]"
            if cap.period is None or cap.limit is None or not 0 <= cap.limit <= MOST_CONTACTS:
                yield Violation(path, f"a cap has a period and a limit from 0 to {MOST_CONTACTS}")
            yield from self._known(path, cap)

    def _quiet(self, path: str, quiet: QuietHours) -> Iterator[Violation]:
        if quiet.interval is not None:
            yield from check_interval(f"{path}.interval", quiet.interval)
        elif not quiet.date:
            yield Violation(path, "quiet hours have an interval or dates")
        for k, text in enumerate(quiet.date):
            if not _is_date(text):
                yield Violation(f"{path}.date[{k}]", "a date is YYYY-MM-DD")
        yield from self._known(path, quiet)

    def _known(self, path: str, rule: QuietHours | FrequencyCap) -> Iterator[Violation]:
        """A misspelt name would be a rule that never applies."""
        channels, purposes = {one.channel for one in self.channel}, {one.purpose for one in self.purpose}
        for name in set(rule.channel) - channels:
            yield Violation(f"{path}.channel", f"there is no channel {name!r}")
        for name in set(rule.purpose) - purposes:
            yield Violation(f"{path}.purpose", f"there is no purpose {name!r}")


def _zones(path: str, names: Iterable[str]) -> Iterator[Violation]:
    for i, name in enumerate(names):
        if not known_zone(name):
            yield Violation(f"{path}[{i}]", f"{name!r} is no time zone, such as Asia/Bishkek")


def _distinct(path: str, names: list[str | None]) -> Iterator[Violation]:
    for i, name in enumerate(names):
        if not name or name in names[:i]:
            yield Violation(f"{path}[{i}].{path}", "a name, and another one than those before")


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyTerms:
    """What a policy says, as long as nobody changes it. `reservation`: how long one lasts after the instant that it is
    for."""

    id: str
    version: int
    time_zone: tuple[str, ...]
    region_zone: tuple[RegionZone, ...]
    channel: tuple[ChannelRule, ...]
    purpose: tuple[PurposeRule, ...]
    quiet_hours: tuple[QuietHours, ...]
    frequency_cap: tuple[FrequencyCap, ...]
    reservation: timedelta

    def rules(self, channel: str, purpose: str) -> Rules:
        """What it says about one channel and one purpose."""
        return closed(
            Rules(
                policy=self.id,
                version=self.version,
                channel=next((one for one in self.channel if one.channel == channel), None),
                purpose=next((one for one in self.purpose if one.purpose == purpose), None),
                quiet_hours=self.quiet_hours,
                caps=self.frequency_cap,
                transactional=tuple(one.purpose or "" for one in self.purpose if one.transactional),
                time_zones=self.time_zone,
            )
        )
