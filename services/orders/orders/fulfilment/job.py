"""A job: the same done to many held tasks, until too many have failed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from chassis.errors import InvalidArgument, Violation
from chassis.types import Aggregate, require_transition


class FulfilmentJobAction(StrEnum):
    """What is done to each task."""

    RETRY = "retry"
    SKIP = "skip"
    FIX = "fix"
    GIVE_UP = "giveUp"
    ASSIGN = "assign"


class FulfilmentJobState(StrEnum):
    """Where a job is."""

    IN_PROGRESS = "inProgress"
    STOPPED = "stopped"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class FulfilmentJobTaskState(StrEnum):
    """What has become of one task of a job."""

    WAITING = "waiting"
    UNDER_WAY = "underWay"
    DONE = "done"
    FAILED = "failed"


_S = FulfilmentJobState
TRANSITIONS: Mapping[FulfilmentJobState, frozenset[FulfilmentJobState]] = {
    _S.IN_PROGRESS: frozenset({_S.STOPPED, _S.COMPLETED, _S.CANCELLED}),
    _S.STOPPED: frozenset({_S.IN_PROGRESS, _S.CANCELLED}),
    _S.COMPLETED: frozenset(),
    _S.CANCELLED: frozenset(),
}


@dataclass(kw_only=True, eq=False)
class FulfilmentJob(Aggregate):
    """What somebody does to many held tasks at once."""

    STATE: ClassVar[str | None] = "state"

    action: FulfilmentJobAction | None = None
    reason: str | None = None
    failure_threshold: int | None = None
    assignee: str | None = None
    state: FulfilmentJobState | None = None
    requested_by: str | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    forgiven: int | None = None

    def check(self, at: datetime) -> None:
        """A new job begins at once. Raises InvalidArgument REQUIRED, OUT_OF_RANGE."""
        ends = (FulfilmentJobAction.SKIP, FulfilmentJobAction.FIX, FulfilmentJobAction.GIVE_UP)
        if self.action in ends and not (self.reason or "").strip():
            raise InvalidArgument("REQUIRED", "say why", violations=[Violation("fulfilment_job.reason", "required")])
        if self.failure_threshold is not None and self.failure_threshold < 1:
            raise InvalidArgument(
                "OUT_OF_RANGE",
                "a job stops at 1 failure or later",
                violations=[Violation("fulfilment_job.failure_threshold", "must be 1 or more")],
            )
        self.state, self.created_at, self.ended_at, self.forgiven = FulfilmentJobState.IN_PROGRESS, at, None, None

    def move(self, wanted: FulfilmentJobState, at: datetime) -> None:
        """Goes to another state; raises FailedPrecondition BAD_TRANSITION naming both."""
        assert self.state is not None
        require_transition("a fulfilment job", TRANSITIONS, self.state, wanted)
        self.state = wanted
        self.ended_at = at if not TRANSITIONS[wanted] else None

    def resume(self, failed: int, at: datetime) -> None:
        """Goes on after it was stopped: what has failed so far doesn't count any more."""
        self.move(FulfilmentJobState.IN_PROGRESS, at)
        self.forgiven = failed

    def allows(self, failed: int) -> int:
        """How many more may fail before it stops; 0: it stops."""
        return max(0, (self.failure_threshold or 1) - (failed - (self.forgiven or 0)))
