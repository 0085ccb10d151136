"""The value objects of permissions: what a policy is made of, and what a decision says."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]|24:00")
MINUTES_A_DAY = 24 * 60


class MediumKind(StrEnum):
    """What a contact medium is to a channel."""

    PHONE = "phone"
    EMAIL = "email"
    MESSENGER = "messenger"
    POST = "post"


class PointState(StrEnum):
    """What is known of a contact medium."""

    VALID = "valid"
    UNVERIFIED = "unverified"
    DOES_NOT_EXIST = "doesNotExist"
    OLD = "old"
    WRONG_PERSON = "wrongPerson"


# Those in which nobody uses a medium, and that nothing but a verification ends.
BAD_STATES = frozenset({PointState.DOES_NOT_EXIST, PointState.OLD, PointState.WRONG_PERSON})


class ConsentState(StrEnum):
    """Whether a consent still stands, apart from its time."""

    GIVEN = "given"
    WITHDRAWN = "withdrawn"


class CapPeriod(StrEnum):
    """What a frequency cap counts in."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class DecisionState(StrEnum):
    """What has become of a question for a contact."""

    REFUSED = "refused"
    RESERVED = "reserved"
    SPENT = "spent"
    RELEASED = "released"
    REVOKED = "revoked"


def minutes(time: str | None) -> int | None:
    """The minutes since midnight that HH:MM states; None: it isn't a time of the day."""
    if time is None or not _TIME.fullmatch(time):
        return None
    return int(time[:2]) * 60 + int(time[3:])


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalInterval:
    """From one local time of the day (included) to another (excluded); one that ends before it begins goes over
    midnight, and belongs to the weekday (1 is Monday; none: every day) on which it begins."""

    weekday: tuple[int, ...] = ()
    start: str | None = None
    end: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionZone:
    """The time zones of a country, region or city."""

    name: str | None = None
    time_zone: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelRule:
    """What medium a channel uses, and whether do-not-call lists go for it."""

    channel: str | None = None
    kind: MediumKind | None = None
    do_not_call: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PurposeRule:
    """What a purpose needs, and what it is free from."""

    purpose: str | None = None
    transactional: bool | None = None
    role: tuple[str, ...] = ()
    consent_required: bool | None = None
    despite_do_not_call: bool | None = None
    despite_legal_hours: bool | None = None
    best_time_only: bool | None = None

    @property
    def needs_consent(self) -> bool:
        """Whether somebody has to have agreed to it."""
        return not self.transactional if self.consent_required is None else self.consent_required


@dataclass(frozen=True, kw_only=True, slots=True)
class QuietHours:
    """When nobody is contacted, in the customer's time."""

    name: str | None = None
    interval: LocalInterval | None = None
    date: tuple[str, ...] = ()
    channel: tuple[str, ...] = ()
    purpose: tuple[str, ...] = ()
    legal: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FrequencyCap:
    """At most so many contacts in a period, of some channels and purposes together."""

    name: str | None = None
    limit: int | None = None
    period: CapPeriod | None = None
    sliding: bool | None = None
    channel: tuple[str, ...] = ()
    purpose: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedMedium:
    """A medium that can't be used, and why."""

    kind: MediumKind | None = None
    value: str | None = None
    code: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ContactRefusal:
    """One thing that is in the way of a contact, and until when."""

    code: str | None = None
    rule: str | None = None
    detail: str | None = None
    until: datetime | None = None
    rejected: tuple[RejectedMedium, ...] = ()
