"""An interaction between a customer and us: past or planned, on any channel, about any number of topics."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from chassis.errors import InvalidArgument, Violation
from chassis.types import Note, RelatedParty, TimePeriod, require_transition
from customers.interaction.values import (
    AttachmentRefOrValue,
    InteractionItem,
    InteractionRelationship,
    RelatedChannel,
)
from customers.party.domain import Referrer, check_period

CUSTOMER_ROLE, OWNER_ROLE = "customer", "agent"
# TM Forum wants an address of each party.
_CUSTOMER_HREF, _EMPLOYEE_HREF = "/tmf-api/customerManagement/v4/customer/", "urn:svyaz:employee:"
# What an employee's part in an interaction is called, the first of them found being whose the interaction is.
_OWNERS = ("owner", "agent", "employee", "assignee", "operator")


class InteractionStatus(StrEnum):
    """The statuses that mean something to us; TM Forum leaves others free, and so do we."""

    PLANNED = "planned"
    OPENED = "opened"
    IN_PROGRESS = "inProgress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


_S = InteractionStatus
TRANSITIONS: Mapping[InteractionStatus, frozenset[InteractionStatus]] = {
    _S.PLANNED: frozenset({_S.OPENED, _S.IN_PROGRESS, _S.COMPLETED, _S.CANCELLED}),
    _S.OPENED: frozenset({_S.IN_PROGRESS, _S.COMPLETED, _S.CANCELLED}),
    _S.IN_PROGRESS: frozenset({_S.COMPLETED, _S.CANCELLED}),
    # What was said was said: whatever goes on is another interaction, related to this one.
    _S.COMPLETED: frozenset(),
    _S.CANCELLED: frozenset(),
}


def _letters(word: str) -> str:
    return "".join(c for c in word.lower() if c.isalpha())


_KNOWN = {_letters(status): status for status in InteractionStatus}
# Other spellings of the same.
_KNOWN |= {"open": _S.OPENED, "scheduled": _S.PLANNED, "canceled": _S.CANCELLED, "closed": _S.COMPLETED}


def status_of(word: str | None) -> InteractionStatus | None:
    """What a status means, however it is spelled (`In progress`); None for a word of somebody's own."""
    return _KNOWN.get(_letters(word or ""))


@dataclass(kw_only=True, eq=False)
class PartyInteraction(Referrer):
    """A call, a letter, a chat, a visit: one that took place or one that is going to.

    Its customer is the related party that is customer by role, else the one referred to as one; there may be none yet.
    """

    STATE: ClassVar[str | None] = "status"
    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"direction"})

    creation_date: datetime | None = None
    description: str | None = None
    direction: str | None = None
    reason: str | None = None
    status: str | None = None
    status_change_date: datetime | None = None
    attachment: tuple[AttachmentRefOrValue, ...] = ()
    channel: tuple[RelatedChannel, ...] = ()
    interaction_date: TimePeriod | None = None
    interaction_item: tuple[InteractionItem, ...] = ()
    interaction_relationship: tuple[InteractionRelationship, ...] = ()
    note: tuple[Note, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()

    def check(self, at: datetime) -> None:
        """Stamps a new one, where it comes without its times. Raises InvalidArgument PERIOD_REVERSED, OWN_RELATIVE."""
        self.creation_date = self.creation_date or at
        self.status_change_date = self.status_change_date or at
        self._check()

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Also moves the status, where the table allows it. Raises InvalidArgument IMMUTABLE, PERIOD_REVERSED,
        OWN_RELATIVE; FailedPrecondition BAD_TRANSITION naming both statuses."""
        changes = dict(changes)
        if "status" in changes and changes["status"] != self.status:
            before, wanted = status_of(self.status), status_of(changes["status"])
            if before is not None and wanted is not None and wanted is not before:
                require_transition("an interaction", TRANSITIONS, before, wanted, attribute="status")
            changes.setdefault("status_change_date", at)
        super().revise(changes, at)
        self._check()

    def _check(self) -> None:
        check_period("interaction_date", self.interaction_date)
        for number, relation in enumerate(self.interaction_relationship):
            if relation.id == self.id:
                path = f"interaction_relationship[{number}].id"
                raise InvalidArgument(
                    "OWN_RELATIVE", "an interaction can't answer itself", violations=[Violation(path, "its own id")]
                )

    def references(self) -> Iterator[str]:
        """Its parties, those of its topics, and what it is related to."""
        yield from (party.id or "" for party in self.related_party)
        for item in self.interaction_item:
            yield from (party.id or "" for party in item.related_party)
        yield from (relation.id or "" for relation in self.interaction_relationship)

    @property
    def customer_id(self) -> str | None:
        """Whose it is; None: nobody knows yet."""
        named = [party for party in self.related_party if (party.role or "").lower() == CUSTOMER_ROLE]
        named = named or [party for party in self.related_party if party.at_referred_type == "Customer"]
        return next((party.id for party in named if party.id), None)

    @property
    def owner(self) -> str | None:
        """The employee who speaks for us, if one is named."""
        by_role = {(party.role or "").lower(): party.id for party in reversed(self.related_party)}
        return next((by_role[role] for role in _OWNERS if by_role.get(role)), None)

    @property
    def planned(self) -> bool:
        """Whether it is still to come: as long as nobody has begun or cancelled it, however long ago it was meant to
        be, so that none is forgotten."""
        return status_of(self.status) is InteractionStatus.PLANNED

    @property
    def at(self) -> datetime:
        """When it took place, or is to; what was cancelled before its time, when it was cancelled."""
        begins = self.interaction_date.start_date_time if self.interaction_date is not None else None
        ends = self.interaction_date.end_date_time if self.interaction_date is not None else None
        instant = begins or ends or self.creation_date
        assert instant is not None
        if status_of(self.status) is InteractionStatus.CANCELLED and self.status_change_date is not None:
            return min(instant, self.status_change_date)
        return instant

    def assign(self, customer_id: str, name: str | None) -> None:
        """Makes it the customer's; the others who take part stay."""
        others = tuple(party for party in self.related_party if not _is_customer(party))
        self.related_party = (as_customer(customer_id, name), *others)

    def hand_over(self, employee: str, successor: str) -> None:
        """Puts the successor in the employee's place, in whatever roles he takes part for us."""
        self.related_party = tuple(
            as_employee(successor, party.role or "")
            if party.id == employee and (party.role or "").lower() in _OWNERS
            else party
            for party in self.related_party
        )


def as_customer(customer_id: str, name: str | None = None) -> RelatedParty:
    """The customer's part in an interaction."""
    href = f"{_CUSTOMER_HREF}{customer_id}"
    return RelatedParty(id=customer_id, href=href, name=name, role=CUSTOMER_ROLE, at_referred_type="Customer")


def as_employee(employee: str, role: str = OWNER_ROLE) -> RelatedParty:
    """An employee's part in an interaction."""
    return RelatedParty(id=employee, href=f"{_EMPLOYEE_HREF}{employee}", role=role, at_referred_type="Employee")


def _is_customer(party: RelatedParty) -> bool:
    return (party.role or "").lower() == CUSTOMER_ROLE or party.at_referred_type == "Customer"


def texts(interaction: PartyInteraction) -> Iterator[str]:
    """Everything in it that somebody may look for, in the order in which it is read."""
    yield from _stated(interaction.reason, interaction.description)
    yield from _of_attachments(interaction.attachment)
    for item in interaction.interaction_item:
        yield from _stated(item.reason, item.resolution, item.item.name if item.item is not None else None)
        yield from _stated(*(note.text for note in item.note))
        yield from _of_attachments(item.attachment)
    yield from _stated(*(note.text for note in interaction.note))
    yield from _stated(*(party.name for party in interaction.related_party))


def _of_attachments(attachments: tuple[AttachmentRefOrValue, ...]) -> Iterator[str]:
    for attachment in attachments:
        yield from _stated(attachment.name, attachment.description)


def _stated(*texts: str | None) -> Iterator[str]:
    yield from (text for text in texts if text)
