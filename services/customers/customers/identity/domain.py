"""A merge of two customers: who, when, why, and that it can be undone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from customers.identity.values import CustomerMergeState, Receipt
from customers.party.domain import Referrer


@dataclass(kw_only=True, eq=False)
class CustomerMerge(Referrer):
    """That two customers are one. While it is in force, the absorbed one's id stands for the survivor; both records,
    and all that was ever written under either id, stay as they are."""

    STATE: ClassVar[str | None] = "state"

    state: CustomerMergeState | None = None
    survivor_id: str | None = None
    absorbed_id: str | None = None
    reason: str | None = None
    score: Decimal | None = None
    merged_at: datetime | None = None
    merged_by: str | None = None
    undone_at: datetime | None = None
    undone_by: str | None = None
    undo_reason: str | None = None
    survivor_party_id: str | None = None
    absorbed_party_id: str | None = None
    member_id: tuple[str, ...] = ()
    parted_id: tuple[str, ...] = ()
    receipt: Receipt | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument MALFORMED_MERGE for a score that is no probability, or a merge without a reason."""
        wrong = []
        if not self.reason:
            wrong.append(Violation("reason", "why they are the same has to be said"))
        if self.score is not None and not 0 <= self.score <= 1:
            wrong.append(Violation("score", "it is from 0 to 1"))
        if wrong:
            raise InvalidArgument("MALFORMED_MERGE", wrong[0].description, violations=wrong)
        self.state, self.merged_at = CustomerMergeState.ACTIVE, at

    def undo(self, by: str, why: str, remaining: Sequence[str], parted: Sequence[str], at: datetime) -> None:
        """Ends it: `remaining` and `parted` are the ids of the two from now on. Raises InvalidArgument MALFORMED_MERGE
        without a reason, FailedPrecondition ALREADY_UNDONE."""
        if not why:
            raise InvalidArgument(
                "MALFORMED_MERGE",
                "why they are two has to be said",
                violations=[Violation("reason", "required")],
            )
        self.require_active()
        self.state, self.undone_at, self.undone_by, self.undo_reason = CustomerMergeState.UNDONE, at, by, why
        self.member_id, self.parted_id = tuple(remaining), tuple(parted)

    def require_active(self) -> None:
        """Raises FailedPrecondition ALREADY_UNDONE."""
        if self.state is not CustomerMergeState.ACTIVE:
            raise FailedPrecondition("ALREADY_UNDONE", f"merge {self.id} was undone by {self.undone_by}")

    def references(self) -> Iterator[str]:
        """While it is in force, those whom it makes one: neither is deleted."""
        if self.state is CustomerMergeState.ACTIVE:
            yield self.survivor_id or ""
            yield self.absorbed_id or ""
            yield self.survivor_party_id or ""
            yield self.absorbed_party_id or ""
