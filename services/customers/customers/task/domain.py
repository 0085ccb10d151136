"""A piece of work about a customer, and how it comes to its end."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Aggregate, require_transition

MOST_URGENT, USUAL, LEAST_URGENT = 1, 3, 5


class WorkItemState(StrEnum):
    """How far it is."""

    OPEN = "open"
    IN_PROGRESS = "inProgress"
    DONE = "done"
    CANCELLED = "cancelled"


_S = WorkItemState
TRANSITIONS: Mapping[WorkItemState, frozenset[WorkItemState]] = {
    _S.OPEN: frozenset({_S.IN_PROGRESS, _S.DONE, _S.CANCELLED}),
    # Who is given what somebody has begun may begin it anew.
    _S.IN_PROGRESS: frozenset({_S.OPEN, _S.DONE, _S.CANCELLED}),
    # What comes up again is another item: each has one outcome.
    _S.DONE: frozenset(),
    _S.CANCELLED: frozenset(),
}
UNDONE = (_S.OPEN, _S.IN_PROGRESS)


@dataclass(kw_only=True, eq=False)
class WorkItem(Aggregate):
    """What an employee, or a team until one of it takes it, has to do.

    `kind` and `subject_id` name it while it is open: there is never a second one of both.
    """

    STATE: ClassVar[str | None] = "state"
    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"kind", "subject_id", "subject_type", "customer_id"})

    kind: str | None = None
    customer_id: str | None = None
    subject_id: str | None = None
    subject_type: str | None = None
    description: str | None = None
    assignee: str | None = None
    team: str | None = None
    due_at: datetime | None = None
    priority: int | None = None
    state: WorkItemState | None = None
    outcome: str | None = None
    created_at: datetime | None = None
    closed_at: datetime | None = None
    overdue: bool | None = None

    @property
    def undone(self) -> bool:
        """Whether it is still to be done."""
        return self.state in UNDONE

    def check(self, at: datetime) -> None:
        """A new item is open. Raises InvalidArgument REQUIRED without a kind, OUT_OF_RANGE for its priority."""
        if not self.kind:
            raise InvalidArgument("REQUIRED", "it says not what is to be done", violations=[Violation("kind", "empty")])
        if self.subject_id is None and self.customer_id is not None:
            self.subject_id, self.subject_type = self.customer_id, "Customer"
        self.priority = USUAL if self.priority is None else self.priority
        self._check_priority()
        self.state, self.created_at = WorkItemState.OPEN, at
        self.outcome = self.closed_at = self.overdue = None

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Other words, another time or urgency. Raises InvalidArgument IMMUTABLE, OUT_OF_RANGE; FailedPrecondition
        WORK_ITEM_CLOSED."""
        self.require_undone()
        # Who does it and how far he is, with what outcome, are changed by methods that say so.
        ours = {"state", "outcome", "assignee", "team", "created_at", "closed_at", "overdue"}
        super().revise({name: value for name, value in changes.items() if name not in ours}, at)
        self.priority = USUAL if self.priority is None else self.priority
        self._check_priority()
        if self.overdue and (self.due_at is None or self.due_at > at):
            self.overdue = None

    def assign(self, assignee: str | None, team: str | None) -> None:
        """Gives it to an employee, or back to a team. Raises FailedPrecondition WORK_ITEM_CLOSED."""
        self.require_undone()
        if self.state is WorkItemState.IN_PROGRESS and assignee != self.assignee:
            self.state = WorkItemState.OPEN
        self.assignee, self.team = assignee, team or self.team

    def move(self, wanted: WorkItemState, at: datetime, outcome: str | None = None) -> None:
        """Begins or ends it; raises FailedPrecondition BAD_TRANSITION naming both states."""
        assert self.state is not None
        require_transition("a work item", TRANSITIONS, self.state, wanted)
        self.state = wanted
        if not self.undone:
            self.outcome, self.closed_at = outcome or None, at

    def fall_due(self, at: datetime) -> bool:
        """Says that its time has come while it is undone; whether that is news."""
        if not self.undone or self.overdue or self.due_at is None or self.due_at > at:
            return False
        self.overdue = True
        return True

    def require_undone(self) -> None:
        """Raises FailedPrecondition WORK_ITEM_CLOSED."""
        if not self.undone:
            raise FailedPrecondition("WORK_ITEM_CLOSED", f"work item {self.id} is {self.state}: open another one")

    def _check_priority(self) -> None:
        assert self.priority is not None
        if not MOST_URGENT <= self.priority <= LEAST_URGENT:
            raise InvalidArgument(
                "OUT_OF_RANGE",
                f"a priority is from {MOST_URGENT} to {LEAST_URGENT}",
                violations=[Violation("priority", f"{self.priority} isn't from {MOST_URGENT} to {LEAST_URGENT}")],
            )
