"""The erasure of a person, and what keeps one from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Aggregate, Money

# Kinds of balance (TMF666's balanceType) of which a positive amount is what the customer owes; of all others a
# negative one is.
_OWED = ("receivable", "debt", "due", "owed")


class ErasureState(StrEnum):
    """How far it is."""

    IN_PROGRESS = "inProgress"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class Need:
    """What a person is still needed for: a kind of thing and its id."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ErasedRecord:
    """A record of whichever service, by its type and id."""

    kind: str
    id: str


@dataclass(kw_only=True, eq=False)
class Erasure(Aggregate):
    """Takes what is personal out of everything that is kept about an individual. It holds ids only, and stays."""

    STATE: ClassVar[str | None] = "state"

    party_id: str | None = None
    # All ids of the individual, and of the customers that it is.
    subject_id: tuple[str, ...] = ()
    reason: str | None = None
    overridden: tuple[str, ...] = ()
    state: ErasureState | None = None
    requested_at: datetime | None = None
    completed_at: datetime | None = None
    record_count: int | None = None
    event_count: int | None = None
    version_count: int | None = None
    # What the last step has gone through: its event is how the other services hear of these.
    record: tuple[ErasedRecord, ...] = ()

    def begin(self, needs: Sequence[Need], *, force: bool, at: datetime) -> None:
        """Begins. Raises InvalidArgument REQUIRED without a reason; FailedPrecondition STILL_NEEDED, with a violation
        for each need, unless it is forced."""
        if not (self.reason or "").strip():
            raise InvalidArgument("REQUIRED", "an erasure needs a reason", violations=[Violation("reason", "required")])
        if needs and not force:
            raise FailedPrecondition(
                "STILL_NEEDED",
                "the person is still needed for " + ", ".join(map(str, needs)),
                violations=[Violation("party_id", f"{need} needs it") for need in needs],
            )
        self.overridden = tuple(map(str, needs))
        self.state, self.requested_at = ErasureState.IN_PROGRESS, at
        self.record_count = self.event_count = self.version_count = 0

    def went_through(self, record: Sequence[ErasedRecord], records: int, events: int, versions: int) -> None:
        """Names what a step has gone through; adds from how much of it something was taken."""
        self.record = tuple(record)
        self.record_count = (self.record_count or 0) + records
        self.event_count = (self.event_count or 0) + events
        self.version_count = (self.version_count or 0) + versions

    def complete(self, at: datetime) -> None:
        """There is nothing personal left."""
        self.state, self.completed_at = ErasureState.COMPLETED, at

    def reopen(self) -> None:
        """Something has come since that tells of the person."""
        self.state, self.completed_at = ErasureState.IN_PROGRESS, None


def owed(balances: Iterable[tuple[str, Money | None]]) -> bool:
    """Whether one of the balances, given as its kind and amount, is a debt."""
    for kind, amount in balances:
        value = amount.value if amount is not None and amount.value is not None else Decimal(0)
        if any(word in kind.lower() for word in _OWED):
            value = -value
        if value < 0:
            return True
    return False
