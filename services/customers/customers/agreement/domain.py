"""Agreements and the patterns that they follow, and what may happen to them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Attachment, Characteristic, EntityRef, RelatedParty, TimePeriod
from chassis.zones import BranchZones
from customers.agreement.expiry import LONGEST_NOTICE, MOST_NOTICES, last_day
from customers.agreement.values import (
    AgreementAuthorization,
    AgreementItem,
    AgreementSpecCharacteristic,
    AgreementSpecificationRef,
    AgreementSpecificationRelationship,
)
from customers.party.domain import Referrer, check_period
from customers.party.states import known, require_step


class AgreementState(StrEnum):
    """TM Forum names in process, approved and rejected as typical; the others are ours."""

    INITIALIZED = "initialized"
    IN_PROCESS = "in process"
    PENDING_APPROVAL = "pending approval"
    APPROVED = "approved"
    REJECTED = "rejected"
    ACTIVE = "active"
    TERMINATED = "terminated"
    EXPIRED = "expired"


_S = AgreementState
AGREEMENT_TRANSITIONS: Mapping[AgreementState, frozenset[AgreementState]] = {
    _S.INITIALIZED: frozenset({_S.IN_PROCESS, _S.PENDING_APPROVAL, _S.APPROVED, _S.REJECTED, _S.TERMINATED}),
    _S.IN_PROCESS: frozenset({_S.PENDING_APPROVAL, _S.APPROVED, _S.REJECTED, _S.TERMINATED}),
    _S.PENDING_APPROVAL: frozenset({_S.IN_PROCESS, _S.APPROVED, _S.REJECTED, _S.TERMINATED}),
    _S.REJECTED: frozenset({_S.IN_PROCESS, _S.TERMINATED}),
    _S.APPROVED: frozenset({_S.ACTIVE, _S.TERMINATED, _S.EXPIRED}),
    _S.ACTIVE: frozenset({_S.TERMINATED, _S.EXPIRED}),
    # Renewed: with an end that lies ahead.
    _S.EXPIRED: frozenset({_S.ACTIVE, _S.TERMINATED}),
    _S.TERMINATED: frozenset(),
}
# Not yet agreed on, not agreed on, or over.
_NOT_IN_FORCE = frozenset({_S.INITIALIZED, _S.IN_PROCESS, _S.PENDING_APPROVAL, _S.REJECTED, _S.TERMINATED, _S.EXPIRED})
# What whoever looks after an agreement is engaged as.
OWNERS = ("owner", "account manager", "accountmanager")


@dataclass(kw_only=True, eq=False)
class Agreement(Referrer):
    """What has been agreed with whom."""

    STATE: ClassVar[str | None] = "status"
    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"completion_date"})

    agreement_type: str | None = None
    description: str | None = None
    document_number: int | None = None
    initial_date: datetime | None = None
    name: str | None = None
    statement_of_intent: str | None = None
    status: str | None = None
    version: str | None = None
    agreement_authorization: tuple[AgreementAuthorization, ...] = ()
    agreement_item: tuple[AgreementItem, ...] = ()
    agreement_period: TimePeriod | None = None
    agreement_specification: AgreementSpecificationRef | None = None
    associated_agreement: tuple[EntityRef, ...] = ()
    characteristic: tuple[Characteristic, ...] = ()
    completion_date: TimePeriod | None = None
    engaged_party: tuple[RelatedParty, ...] = ()
    end_date: str | None = None
    expiry_notice_given: int | None = None

    @property
    def state(self) -> AgreementState | None:
        """Where it is in its life; None: a word of the operator's own."""
        return known(AgreementState, self.status)

    @property
    def in_force(self) -> bool:
        """Whether it has been agreed on and isn't over; the operator's own words count as that."""
        return self.state not in _NOT_IN_FORCE

    @property
    def end(self) -> datetime | None:
        """The instant from which it isn't in effect any more; None: open."""
        return self.agreement_period.end_date_time if self.agreement_period is not None else None

    @property
    def owner(self) -> str | None:
        """The employee who looks after it: whoever is engaged as its owner or account manager."""
        return next((one.id for one in self.engaged_party if _owns(one)), None)

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for a reversed period, an agreement associated with itself, or no party or item."""
        self.status = self.status or AgreementState.INITIALIZED.value
        self.initial_date = self.initial_date or at
        check_period("agreement_period", self.agreement_period)
        check_period("completion_date", self.completion_date)
        wrong = [
            Violation(f"associated_agreement[{i}].id", "the agreement itself")
            for i, other in enumerate(self.associated_agreement)
            if other.id == self.id
        ]
        if wrong:
            raise InvalidArgument("OWN_ASSOCIATE", "an agreement isn't associated with itself", violations=wrong)

    def ends_by(self, zones: BranchZones) -> None:
        """Makes the period's end from the last day, where one is given: the midnight after it in the branch's zone.

        Raises InvalidArgument DAY_INVALID.
        """
        if self.end_date is None:
            return
        _, midnight = zones.bounds(self.branch, last_day(self.end_date, "end_date"))
        period = self.agreement_period or TimePeriod()
        if period.end_date_time != midnight:
            self.agreement_period = replace(period, end_date_time=midnight)
        check_period("agreement_period", self.agreement_period)

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Also moves the state, where the table allows it.

        Raises FailedPrecondition PERIOD_OVER for an agreement that would be renewed without an end ahead.
        """
        wanted = changes.get("status")
        before = self.state
        if wanted is not None:
            require_step("an agreement", AgreementState, AGREEMENT_TRANSITIONS, self.status, wanted)
        end = self.end
        changes = {k: v for k, v in changes.items() if (k, v) != ("status", None)}
        if "agreement_period" in changes and "end_date" not in changes:
            # Whoever sets the end as an instant means that, and no longer the day of before.
            stated = changes["agreement_period"]
            if (stated.end_date_time if stated is not None else None) != end:
                changes["end_date"] = None
        super().revise(changes, at)
        self.check(at)
        if before is AgreementState.EXPIRED and self.state is AgreementState.ACTIVE and self.is_over(at):
            raise FailedPrecondition(
                "PERIOD_OVER",
                "an agreement is renewed with an end that lies ahead",
                violations=[Violation("agreement_period.end_date_time", "lies in the past")],
            )

    def is_over(self, at: datetime) -> bool:
        """Whether its end has come."""
        return self.end is not None and self.end <= at

    def redate(self, before: datetime | None) -> bool:
        """Begins to count the notices anew when its end isn't what it was before; whether it did."""
        if self.end == before:
            return False
        self.expiry_notice_given = None
        return True

    def hand_over(self, employee: str, successor: str) -> None:
        """Has the successor look after it in the employee's place."""
        self.engaged_party = tuple(
            replace(one, id=successor, href=None, name=None) if one.id == employee and _owns(one) else one
            for one in self.engaged_party
        )

    def expire(self) -> None:
        """Its end has come."""
        self.status = AgreementState.EXPIRED.value

    def references(self) -> Iterator[str]:
        """The parties that it engages, its pattern, and other agreements."""
        yield from (party.id or "" for party in self.engaged_party)
        if self.agreement_specification is not None:
            yield self.agreement_specification.id or ""
        yield from (other.id or "" for other in self.associated_agreement)


def _owns(party: RelatedParty) -> bool:
    return (party.role or "").strip().lower() in OWNERS


@dataclass(kw_only=True, eq=False)
class AgreementSpecification(Referrer):
    """The pattern of agreements: what they may say, and how far ahead notice is given of their end."""

    STATE: ClassVar[str | None] = "lifecycle_status"

    description: str | None = None
    is_bundle: bool | None = None
    last_update: datetime | None = None
    lifecycle_status: str | None = None
    name: str | None = None
    version: str | None = None
    attachment: tuple[Attachment, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()
    service_category: EntityRef | None = None
    specification_characteristic: tuple[AgreementSpecCharacteristic, ...] = ()
    specification_relationship: tuple[AgreementSpecificationRelationship, ...] = ()
    valid_for: TimePeriod | None = None
    expiry_notice_days: tuple[int, ...] = ()

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for a reversed period, or notices that can't be given."""
        self.last_update = at
        check_period("valid_for", self.valid_for)
        check_notices(self.expiry_notice_days)

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """As the caller wishes; the time of the change is ours."""
        super().revise(changes, at)
        self.check(at)

    def references(self) -> Iterator[str]:
        """Its related parties, and other patterns."""
        yield from (party.id or "" for party in self.related_party)
        yield from (other.id or "" for other in self.specification_relationship)


def check_notices(days: Sequence[int]) -> None:
    """Raises InvalidArgument NOTICE_INVALID naming each number of days that can't be."""
    wrong = [
        Violation(f"expiry_notice_days[{i}]", f"{one} isn't from 1 to {LONGEST_NOTICE} days")
        for i, one in enumerate(days)
        if not 0 < one <= LONGEST_NOTICE
    ]
    if len(days) > MOST_NOTICES:
        wrong.append(Violation("expiry_notice_days", f"more than {MOST_NOTICES}"))
    if wrong:
        raise InvalidArgument("NOTICE_INVALID", "notice can't be given so far ahead", violations=wrong)
