"""A task of fulfilment: a piece of work for an order in one external system, and how it comes to its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.products import ResourceRef
from chassis.types import Aggregate, Characteristic, bad_transition, require_transition
from orders.fulfilment.values import FulfilmentTaskState, TaskSpecification

_S = FulfilmentTaskState
TRANSITIONS: Mapping[FulfilmentTaskState, frozenset[FulfilmentTaskState]] = {
    _S.PENDING: frozenset({_S.IN_PROGRESS, _S.CANCELLED}),
    _S.IN_PROGRESS: frozenset({_S.COMPLETED, _S.HELD, _S.FAILED, _S.CANCELLED}),
    _S.HELD: frozenset({_S.IN_PROGRESS, _S.COMPLETED, _S.SKIPPED, _S.FAILED, _S.CANCELLED}),
    # One that was done stays so; what undoes it is a task of its own.
    _S.COMPLETED: frozenset(),
    _S.SKIPPED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
OPEN = frozenset(state for state, following in TRANSITIONS.items() if following)
# What depends on such a task may begin.
DONE = frozenset({_S.COMPLETED, _S.SKIPPED})


@dataclass(kw_only=True, eq=False)
class FulfilmentTask(Aggregate):
    """A task, a row of its own: its order goes on by itself when its last one has ended."""

    STATE: ClassVar[str | None] = "state"

    product_order_id: str = ""
    # The row of the item; None: it is of the whole order.
    product_order_item_id: str | None = None
    order_item_id: str | None = None
    position: int = 0
    name: str = ""
    system: str = ""
    operation: str = ""
    specification_id: str | None = None
    specification_version: int | None = None
    # As it was when the task was planned.
    specification: TaskSpecification | None = None
    state: FulfilmentTaskState = FulfilmentTaskState.PENDING
    attempt: int = 0
    first_attempt: int = 1
    depends_on: tuple[str, ...] = ()
    compensates: str | None = None
    assignee: str | None = None
    due_at: datetime | None = None
    timeout_at: datetime | None = None
    expected_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    undone_at: datetime | None = None
    input: tuple[Characteristic, ...] = ()
    result: tuple[Characteristic, ...] = ()
    resource: tuple[ResourceRef, ...] = ()
    reason: str | None = None
    closed_by: str | None = None
    sent: bool | None = None
    in_doubt: bool | None = None
    jeopardy_at: datetime | None = None
    generation: int | None = None

    @property
    def ordering_key(self) -> str:
        """Its order's: consumers see an order, its items and its tasks in one sequence."""
        return self.product_order_id

    @property
    def spec(self) -> TaskSpecification:
        """What was said of it beforehand."""
        return self.specification or TaskSpecification(name=self.name, system=self.system, operation=self.operation)

    @property
    def open(self) -> bool:
        """Whether something is still to happen to it."""
        return self.state in OPEN

    @property
    def done(self) -> bool:
        """Whether what depends on it may begin."""
        return self.state in DONE

    @property
    def compensating(self) -> bool:
        """Whether it undoes another one."""
        return self.compensates is not None

    @property
    def to_undo(self) -> bool:
        """Whether something may be left of it in its system."""
        return self.undone_at is None and not self.compensating and (self.state is _S.COMPLETED or bool(self.in_doubt))

    def move(self, wanted: FulfilmentTaskState, at: datetime) -> None:
        """Goes to another state; raises FailedPrecondition BAD_TRANSITION naming both."""
        require_transition("a fulfilment task", TRANSITIONS, self.state, wanted)
        self.state = wanted
        if not self.open:
            self.ended_at, self.due_at, self.timeout_at, self.jeopardy_at = at, None, None, None

    def begin(self, at: datetime, told: Sequence[Characteristic]) -> None:
        """Its first attempt begins, with what its system is told."""
        self.move(_S.IN_PROGRESS, at)
        self.input = tuple(told)
        self.started_at, self.first_attempt = at, 1
        self._attempt(1, at)

    def again(self, at: datetime) -> None:
        """A person has it tried again, with all its attempts. Raises FailedPrecondition BAD_TRANSITION unless held."""
        self.require_held("tried again")
        self.move(_S.IN_PROGRESS, at)
        self.reason = None
        # Numbers go on, so that an answer to an earlier attempt isn't taken for one to this.
        self.first_attempt = self.attempt + 1
        self._attempt(self.first_attempt, at)

    def _attempt(self, number: int, at: datetime) -> None:
        self.attempt, self.sent = number, None
        self.due_at, self.timeout_at, self.expected_at = at, at + self.spec.timeout, at + self.spec.expected

    def awaits(self, until: datetime | None) -> None:
        """Its system is at it: it is asked again then, or (None) answers by itself in time."""
        assert self.timeout_at is not None
        self.sent = True if until is None else None
        self.due_at = self.timeout_at if until is None else min(until, self.timeout_at)

    def timed_out(self, at: datetime) -> bool:
        """Whether its attempt has taken too long."""
        return self.state is _S.IN_PROGRESS and self.timeout_at is not None and self.timeout_at <= at

    def complete(
        self,
        at: datetime,
        result: Sequence[Characteristic] = (),
        resource: Sequence[ResourceRef] = (),
        *,
        attempt: int | None = None,
    ) -> None:
        """Its system has done it, in this attempt (None: the present one), which stays the task's. Raises
        FailedPrecondition TASK_CLOSED when that isn't awaited any more."""
        self.require_begun()
        self.attempt = attempt or self.attempt
        self.result, self.resource = tuple(result), tuple(resource)
        self.move(_S.COMPLETED, at)
        self.in_doubt = self.reason = None

    def fail(self, at: datetime, reason: str, *, retryable: bool, in_doubt: bool = False) -> bool:
        """Its attempt has failed; whether there is another one. `in_doubt`: it may have been done all the same."""
        self.reason = reason
        self.in_doubt = self.in_doubt or in_doubt or None
        pause = self.spec.pause(self.tried) if retryable else None
        if pause is None:
            return False
        self._attempt(self.attempt + 1, at + pause)
        return True

    @property
    def tried(self) -> int:
        """How many attempts have been made since it was begun, or a person had it tried again."""
        return self.attempt - self.first_attempt + 1

    def hold(self, at: datetime) -> None:
        """A person has to decide."""
        self.move(_S.HELD, at)
        self.due_at = self.timeout_at = None

    def cancel(self, at: datetime, *, in_doubt: bool = False) -> None:
        """It isn't wanted any more. `in_doubt`: its system may have been asked for it."""
        self.in_doubt = self.in_doubt or in_doubt or self.state is _S.IN_PROGRESS or None
        self.move(_S.CANCELLED, at)

    def fix(
        self, at: datetime, by: str, reason: str, result: Sequence[Characteristic], resource: Sequence[ResourceRef]
    ) -> None:
        """A person has done it by hand. Raises InvalidArgument REQUIRED, FailedPrecondition BAD_TRANSITION."""
        self.require_held("fixed")
        self._close(_S.COMPLETED, at, by, reason)
        self.result, self.resource, self.in_doubt = tuple(result), tuple(resource), None

    def skip(self, at: datetime, by: str, reason: str) -> None:
        """The order goes on without it. Raises InvalidArgument REQUIRED, FailedPrecondition BAD_TRANSITION."""
        self._close(_S.SKIPPED, at, by, reason)

    def give_up(self, at: datetime, by: str, reason: str) -> None:
        """It won't be done. Raises InvalidArgument REQUIRED, FailedPrecondition BAD_TRANSITION."""
        self.require_held("given up")
        if self.compensating:
            raise bad_transition("a compensation is done, fixed or skipped; it isn't given up")
        self._close(_S.FAILED, at, by, reason)

    def assign(self, assignee: str | None) -> None:
        """Gives it to somebody, or to nobody. Raises FailedPrecondition BAD_TRANSITION unless it is held."""
        self.require_held("assigned")
        self.assignee = assignee

    def require_awaited(self, attempt: int) -> None:
        """Raises FailedPrecondition TASK_CLOSED, STALE_ATTEMPT unless this attempt is under way."""
        if self.state is not _S.IN_PROGRESS:
            raise FailedPrecondition("TASK_CLOSED", f"the task is {str(self.state)!r}: that isn't awaited any more")
        if attempt != self.attempt:
            raise FailedPrecondition(
                "STALE_ATTEMPT",
                f"the task is at attempt {self.attempt}",
                violations=[Violation("attempt", f"{attempt} isn't the present one")],
            )

    def _close(self, state: FulfilmentTaskState, at: datetime, by: str, reason: str) -> None:
        if not reason.strip():
            raise InvalidArgument("REQUIRED", "say why", violations=[Violation("reason", "required")])
        self.move(state, at)
        self.closed_by, self.reason = by, reason

    def require_held(self, what: str) -> None:
        """Raises FailedPrecondition BAD_TRANSITION saying what can't be done to it, unless it is held."""
        if self.state is not _S.HELD:
            raise bad_transition(f"a task that is {str(self.state)!r} can't be {what}")

    def completed_by(self, attempt: int) -> bool:
        """Whether its system has done it in this attempt, and it stands: no person has, and nothing has undone it."""
        done = self.state is _S.COMPLETED and self.closed_by is None and self.undone_at is None
        return done and attempt == self.attempt

    def failed_before(self, attempt: int) -> bool:
        """Whether it changes nothing any more that this attempt has failed: another one has been planned since, or a
        person has been told, or it has failed for good."""
        over = self.state in (_S.HELD, _S.FAILED)
        return 1 <= attempt < self.attempt or (over and attempt == self.attempt)

    def require_begun(self) -> None:
        """Raises FailedPrecondition TASK_CLOSED unless it may still be done."""
        if self.state not in (_S.IN_PROGRESS, _S.HELD):
            raise FailedPrecondition("TASK_CLOSED", f"the task is {str(self.state)!r}: that isn't awaited any more")
