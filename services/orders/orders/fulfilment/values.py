"""The value objects of fulfilment: what is said of a task beforehand."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

from chassis.types import Money

DAY_SECONDS, HOUR_SECONDS = 24 * 3600, 3600


class FailurePolicy(StrEnum):
    """What is done when the last attempt of a task has failed."""

    FALLOUT = "fallout"
    COMPENSATE = "compensate"
    REJECT = "reject"


class FulfilmentTaskState(StrEnum):
    """Where a task is."""

    PENDING = "pending"
    IN_PROGRESS = "inProgress"
    HELD = "held"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often a task is tried, and how long each attempt waits for."""

    attempts: int | None = None
    first_pause_seconds: int | None = None
    factor: Decimal | None = None
    longest_pause_seconds: int | None = None

    def pause(self, attempt: int) -> timedelta | None:
        """How long after the failure of that attempt (from 1) the next one begins; None: there is none."""
        if attempt >= (self.attempts or 1):
            return None
        first = 60 if self.first_pause_seconds is None else self.first_pause_seconds
        longest = HOUR_SECONDS if self.longest_pause_seconds is None else self.longest_pause_seconds
        factor = Decimal(2) if self.factor is None else self.factor
        seconds = Decimal(first)
        for _ in range(attempt - 1):
            # No further than needed, which would be a number of many digits.
            if seconds >= longest or factor == 1:
                break
            seconds *= factor
        return timedelta(seconds=float(min(seconds, Decimal(longest))))


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskCondition:
    """A characteristic of the item that has one of some values, or any."""

    characteristic: str | None = None
    value: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Compensation:
    """What the task's system does to undo it."""

    operation: str | None = None
    expected_seconds: int | None = None
    timeout_seconds: int | None = None
    retry: RetryPolicy | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Milestone:
    """What the customer reads when a task is done, in one language."""

    language: str | None = None
    words: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpecification:
    """One task of a plan, before there is a plan."""

    name: str | None = None
    system: str | None = None
    operation: str | None = None
    depends_on: tuple[str, ...] = ()
    condition: TaskCondition | None = None
    input: tuple[str, ...] = ()
    compensation: Compensation | None = None
    no_undo_needed: bool | None = None
    undo_cost: Money | None = None
    point_of_no_return: bool | None = None
    expected_seconds: int | None = None
    timeout_seconds: int | None = None
    retry: RetryPolicy | None = None
    on_failure: FailurePolicy | None = None
    of_order: bool | None = None
    milestone: tuple[Milestone, ...] = ()

    @property
    def expected(self) -> timedelta:
        """How long it takes, usually."""
        return timedelta(seconds=self.expected_seconds or 0)

    @property
    def timeout(self) -> timedelta:
        """After how long an attempt counts as failed."""
        return timedelta(seconds=DAY_SECONDS if self.timeout_seconds is None else self.timeout_seconds)

    def pause(self, attempt: int) -> timedelta | None:
        """How long after the failure of that attempt the next one begins; None: there is none."""
        return (self.retry or NO_RETRY).pause(attempt)

    def undone_by(self) -> TaskSpecification | None:
        """The task that undoes it; None: there is no such. A person decides when that fails."""
        if self.compensation is None:
            return None
        undo = self.compensation
        return TaskSpecification(
            name=f"undo {self.name}",
            system=self.system,
            operation=undo.operation,
            input=self.input,
            no_undo_needed=True,
            expected_seconds=undo.expected_seconds,
            timeout_seconds=undo.timeout_seconds,
            retry=undo.retry or self.retry,
            on_failure=FailurePolicy.FALLOUT,
            of_order=self.of_order,
        )


NO_RETRY = RetryPolicy()


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedBy:
    """What a plan goes by: a specification, or what every operator has from the start (without an id)."""

    id: str | None = None
    version: int | None = None
    task: tuple[TaskSpecification, ...] = field(default=())
