"""Contact media and their states, consents, opt-outs, do-not-call entries, and what was decided."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from zoneinfo import available_timezones

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.receipts import Receipt
from chassis.types import Aggregate, EntityRef
from customers.permission.values import (
    BAD_STATES,
    ConsentState,
    ContactRefusal,
    DecisionState,
    LocalInterval,
    MediumKind,
    PointState,
    minutes,
)

_NAMESPACE = uuid.UUID("6f1c29f3-1d0b-5c1e-9d5a-5c9f0d7a3b11")
_ZONES = frozenset(available_timezones())


def known_zone(name: str) -> bool:
    """Whether it names a time zone, such as Asia/Bishkek."""
    return name in _ZONES


def refuse(wrong: Iterable[Violation], reason: str = "REQUIRED") -> None:
    """Raises InvalidArgument when anything is wrong."""
    found = list(wrong)
    if found:
        raise InvalidArgument(reason, found[0].description, violations=found)


def required(**values: Any) -> Iterator[Violation]:
    """What of these is missing."""
    yield from (Violation(name, "required") for name, value in values.items() if not value)


# --- contact media ---------------------------------------------------------------------------------------------------


def point_id(branch: str, owner_id: str, kind: MediumKind, value: str) -> str:
    """The id of a contact point, whether or not it has a row: nobody makes a second one."""
    return str(uuid.uuid5(_NAMESPACE, f"{branch}\n{owner_id}\n{kind}\n{value}"))


@dataclass(kw_only=True, eq=False)
class ContactPoint(Aggregate):
    """What is known of a medium beside what its owner's contactMedium says."""

    STATE: ClassVar[str | None] = "state"

    owner_id: str
    kind: MediumKind
    value: str
    state: PointState = PointState.UNVERIFIED
    state_reason: str | None = None
    state_evidence: str | None = None
    state_by: str | None = None
    state_at: datetime | None = None
    usage: str | None = None
    purpose: tuple[str, ...] = ()
    best_time: tuple[LocalInterval, ...] = ()

    @property
    def bad(self) -> bool:
        """Whether nobody uses it."""
        return self.state in BAD_STATES

    def mark(self, state: PointState, *, reason: str, evidence: str, by: str, at: datetime) -> None:
        """Takes what somebody has found out against it. Raises InvalidArgument, FailedPrecondition NEEDS_VERIFICATION
        for a bad one that would become better by it."""
        refuse(required(reason=reason))
        if state is PointState.VALID:
            refuse([Violation("state", "what is valid is verified, with its proof")], "NEEDS_PROOF")
        if self.bad and state not in BAD_STATES:
            raise FailedPrecondition(
                "NEEDS_VERIFICATION", f"the medium is {self.state}: only a verification makes it better"
            )
        self._say(state, reason, evidence, by, at)

    def verify(self, proof: str, *, by: str, at: datetime) -> None:
        """Makes it good again. Raises InvalidArgument without a proof."""
        refuse(required(proof=proof))
        self._say(PointState.VALID, "verified", proof, by, at)

    def doubt(self, *, by: str, at: datetime, evidence: str) -> None:
        """It may exist after all: it does where somebody else has it."""
        self._say(PointState.UNVERIFIED, "it exists: verified elsewhere", evidence, by, at)

    def prefer(self, usage: str | None, purpose: tuple[str, ...], best_time: tuple[LocalInterval, ...]) -> None:
        """Takes when and what for it is used. Raises InvalidArgument for a malformed interval."""
        refuse(
            (wrong for i, one in enumerate(best_time) for wrong in check_interval(f"best_time[{i}]", one)),
            "MALFORMED_INTERVAL",
        )
        self.usage, self.purpose, self.best_time = usage, purpose, best_time

    def _say(self, state: PointState, reason: str, evidence: str, by: str, at: datetime) -> None:
        self.state, self.state_reason, self.state_evidence = state, reason, evidence or None
        self.state_by, self.state_at = by, at


def check_interval(path: str, interval: LocalInterval) -> Iterator[Violation]:
    """What is wrong with an interval."""
    start, end = minutes(interval.start), minutes(interval.end)
    for name, value in (("start", start), ("end", end)):
        if value is None:
            yield Violation(f"{path}.{name}", "a time of the day is HH:MM")
    if start is not None and start == end:
        yield Violation(path, "it is empty: a whole day goes from 00:00 to 24:00")
    if any(day not in range(1, 8) for day in interval.weekday):
        yield Violation(f"{path}.weekday", "weekdays go from 1, Monday, to 7, Sunday")


# --- consents, opt-outs, do not call ---------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class ContactConsent(Aggregate):
    """That a customer has agreed to be contacted for a purpose, and what proves it."""

    STATE: ClassVar[str | None] = "state"

    customer_id: str | None = None
    channel: str | None = None
    purpose: str | None = None
    state: ConsentState | None = None
    text_version: str | None = None
    document: EntityRef | None = None
    evidence: str | None = None
    given_through: str | None = None
    given_at: datetime | None = None
    valid_until: datetime | None = None
    withdrawn_at: datetime | None = None
    withdrawal_reason: str | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for one without proof, from the future, or over before it begins."""
        refuse(required(customer_id=self.customer_id, purpose=self.purpose, text_version=self.text_version))
        if not self.evidence and (self.document is None or not self.document.id):
            refuse([Violation("document", "a consent is proved by a document or another evidence")], "NEEDS_PROOF")
        self.state, self.channel = ConsentState.GIVEN, self.channel or None
        self.given_at = self.given_at or at
        if self.given_at > at:
            refuse([Violation("given_at", "in the future")], "PERIOD_REVERSED")
        if self.valid_until is not None and self.valid_until <= self.given_at:
            refuse([Violation("valid_until", "before it was given")], "PERIOD_REVERSED")

    def withdraw(self, reason: str, at: datetime) -> None:
        """Ends it; a second time nothing changes."""
        if self.state is not ConsentState.WITHDRAWN:
            self.state, self.withdrawn_at, self.withdrawal_reason = ConsentState.WITHDRAWN, at, reason or None


@dataclass(kw_only=True, eq=False)
class ContactOptOut(Aggregate):
    """That a customer doesn't want to be contacted by a channel, for a purpose, or at all."""

    customer_id: str | None = None
    channel: str | None = None
    purpose: str | None = None
    reason: str | None = None
    evidence: str | None = None
    since: datetime | None = None
    lifted_at: datetime | None = None
    lift_reason: str | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument without a reason."""
        refuse(required(customer_id=self.customer_id, reason=self.reason))
        self.channel, self.purpose, self.since = self.channel or None, self.purpose or None, at

    def lift(self, reason: str, at: datetime) -> None:
        """The customer wants it again. Raises InvalidArgument without a reason."""
        refuse(required(reason=reason))
        if self.lifted_at is None:
            self.lifted_at, self.lift_reason = at, reason


@dataclass(kw_only=True, eq=False)
class DoNotCallEntry(Aggregate):
    """That a customer, or whoever has a number, isn't called."""

    customer_id: str | None = None
    number: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    lifted_at: datetime | None = None
    lift_reason: str | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument unless it is of a customer or a number, for a reason, for some time."""
        refuse(required(reason=self.reason))
        if bool(self.customer_id) == bool(self.number):
            refuse([Violation("number", "an entry is of a customer or of a number")], "CONTRADICTION")
        self.customer_id, self.number, self.since = self.customer_id or None, self.number or None, at
        if self.until is not None and self.until <= at:
            refuse([Violation("until", "in the past")], "PERIOD_REVERSED")

    def lift(self, reason: str, at: datetime) -> None:
        """Takes it off the list. Raises InvalidArgument without a reason."""
        refuse(required(reason=reason))
        if self.lifted_at is None:
            self.lifted_at, self.lift_reason = at, reason


@dataclass(kw_only=True, eq=False)
class DoNotCallRegistry(Aggregate):
    """A list of numbers that somebody else keeps, edition by edition."""

    name: str
    edition: str | None = None
    complete_edition: str | None = None
    imported_at: datetime | None = None


# --- decisions -------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class ContactDecision(Aggregate):
    """What was answered to who wanted to contact a customer, and what became of it."""

    STATE: ClassVar[str | None] = "state"

    customer_id: str
    channel: str
    purpose: str
    state: DecisionState
    requested_by: str
    decided_at: datetime
    contact_at: datetime
    reason: str | None = None
    expires_at: datetime | None = None
    closed_at: datetime | None = None
    medium_kind: MediumKind | None = None
    medium_value: str | None = None
    refusal: tuple[ContactRefusal, ...] = ()
    policy_id: str | None = None
    policy_version: int | None = None
    receipt: Receipt | None = None
    spend_receipt: Receipt | None = None
    # SHA-256 of the token, in hexadecimal: who reads the history can't spend.
    token_hash: str | None = None

    def require_open(self, at: datetime) -> None:
        """Raises FailedPrecondition ALREADY_SPENT, TOKEN_RELEASED, TOKEN_REVOKED, TOKEN_EXPIRED."""
        reasons = {
            DecisionState.SPENT: ("ALREADY_SPENT", "the contact has taken place"),
            DecisionState.RELEASED: ("TOKEN_RELEASED", "it was given back"),
            DecisionState.REVOKED: ("TOKEN_REVOKED", "it was refused when it was to be spent"),
        }
        if self.state in reasons:
            reason, why = reasons[self.state]
            raise FailedPrecondition(reason, f"the token can't be spent: {why}", metadata={"decision": self.id})
        if self.expires_at is None or self.expires_at <= at:
            raise FailedPrecondition(
                "TOKEN_EXPIRED", "the token can't be spent: its time is over", metadata={"decision": self.id}
            )

    def spend(self, receipt: Receipt, at: datetime) -> None:
        """The contact takes place now."""
        self.state, self.contact_at, self.closed_at, self.spend_receipt = DecisionState.SPENT, at, at, receipt

    def revoke(self, refusal: tuple[ContactRefusal, ...], receipt: Receipt, at: datetime) -> None:
        """Something has come in the way since it was reserved."""
        self.state, self.closed_at, self.spend_receipt = DecisionState.REVOKED, at, receipt
        self.refusal = refusal

    def release(self, at: datetime) -> None:
        """It doesn't take place; a second time nothing changes. Raises FailedPrecondition ALREADY_SPENT."""
        if self.state is DecisionState.SPENT:
            self.require_open(at)
        if self.state is DecisionState.RESERVED:
            self.state, self.closed_at = DecisionState.RELEASED, at

    @property
    def ordering_key(self) -> str:
        """Consumers see the decisions about a customer in order."""
        return self.customer_id
