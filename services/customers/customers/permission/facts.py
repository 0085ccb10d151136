"""What a decision rests on, and what comes of it."""

from dataclasses import dataclass, replace
from datetime import datetime

from customers.permission.values import (
    ChannelRule,
    ContactRefusal,
    FrequencyCap,
    LocalInterval,
    MediumKind,
    PointState,
    PurposeRule,
    QuietHours,
)

# --- what is known ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Medium:
    """A medium of the customer; `zones`: where its number may be."""

    kind: MediumKind
    value: str
    state: PointState
    well_formed: bool = True
    listed: bool = True
    preferred: bool = False
    purposes: tuple[str, ...] = ()
    best_time: tuple[LocalInterval, ...] = ()
    zones: tuple[str, ...] = ()
    # The do-not-call entry or registry that has it.
    do_not_call: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Consent:
    """A consent; no channel: every one."""

    id: str
    channel: str | None
    given_at: datetime
    valid_until: datetime | None = None
    withdrawn_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OptOut:
    """An opt-out that hasn't been lifted; no channel, no purpose: every one."""

    id: str
    channel: str | None = None
    purpose: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Contact:
    """A contact that took place, or (with an expiry) one that is reserved and may still."""

    at: datetime
    channel: str
    purpose: str
    expires_at: datetime | None = None
    # By which it was made, when it was made to somebody else who has this medium too.
    medium: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """All that a decision rests on beside the rules."""

    customer: str
    channel: str
    purpose: str
    # The medium that was asked for, normalised; empty: whichever is best.
    medium: str
    roles: tuple[str, ...]
    has_reason: bool
    now: datetime
    # Where the customer may be, all of these zones, and what says so; none: where his numbers may be.
    zones: tuple[str, ...]
    zones_by: str
    media: tuple[Medium, ...]
    consents: tuple[Consent, ...] = ()
    opt_outs: tuple[OptOut, ...] = ()
    # The entry by which the customer himself is on the do-not-call list.
    do_not_call: str | None = None
    contacts: tuple[Contact, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What a policy says about one channel and one purpose; no policy: nothing may be done."""

    policy: str = ""
    version: int = 0
    channel: ChannelRule | None = None
    purpose: PurposeRule | None = None
    quiet_hours: tuple[QuietHours, ...] = ()
    caps: tuple[FrequencyCap, ...] = ()
    # The purposes that caps without purposes don't count.
    transactional: tuple[str, ...] = ()
    time_zones: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Facts, rules and the instant that the contact is wanted for."""

    facts: Facts
    rules: Rules
    at: datetime


# --- what comes of it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The medium to be used, or why not. `before`: when quiet hours begin next; `retry_at`: when hours and caps would
    allow it."""

    medium: Medium | None
    refusals: tuple[ContactRefusal, ...]
    before: datetime | None = None
    retry_at: datetime | None = None

    @property
    def allowed(self) -> bool:
        """Whether the customer may be contacted."""
        return self.medium is not None and not self.refusals


def closed(rules: Rules) -> Rules:
    """The rules without what they say about other channels and purposes than these."""
    channel = rules.channel.channel if rules.channel is not None else None
    purpose = rules.purpose.purpose if rules.purpose is not None else None
    return replace(
        rules,
        quiet_hours=tuple(
            rule
            for rule in rules.quiet_hours
            if (not rule.channel or channel in rule.channel) and (not rule.purpose or purpose in rule.purpose)
        ),
        caps=tuple(
            cap
            for cap in rules.caps
            if (not cap.channel or channel in cap.channel) and (not cap.purpose or purpose in cap.purpose)
        ),
    )
