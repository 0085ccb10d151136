"""Whose customers are, who is away, and the hand-over of everything from one employee to another."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from chassis.errors import InvalidArgument, Violation
from chassis.types import Aggregate, TimePeriod
from customers.interaction.domain import InteractionStatus, PartyInteraction, as_customer, as_employee
from customers.interaction.values import RelatedChannel

# Where the notes stand that we leave for each other.
INTERNAL = "internal"


@dataclass(kw_only=True, eq=False)
class CustomerOwnership(Aggregate):
    """The employee, or the team, whose a customer is, and since when."""

    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"customer_id"})

    customer_id: str | None = None
    owner: str | None = None
    team: str | None = None
    since: datetime | None = None

    def give(self, owner: str | None, team: str | None, at: datetime) -> None:
        """Makes it somebody's; a team that isn't named stays."""
        if owner != self.owner or self.since is None:
            self.owner, self.since = owner, at
        self.team = team or self.team


class AbsenceState(StrEnum):
    """Where the present is."""

    PLANNED = "planned"
    CURRENT = "current"
    ENDED = "ended"


@dataclass(kw_only=True, eq=False)
class Absence(Aggregate):
    """An employee is away, and another one, who may be away too, stands in."""

    STATE: ClassVar[str | None] = "state"
    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"employee"})

    employee: str | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    substitute: str | None = None
    team: str | None = None
    reason: str | None = None
    state: AbsenceState | None = None

    def check(self, at: datetime) -> None:
        """A new one is planned, even if it has begun. Raises InvalidArgument PERIOD_REVERSED, SAME_EMPLOYEE."""
        self.state = AbsenceState.PLANNED
        self._check()

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Another time or substitute. Raises InvalidArgument IMMUTABLE, PERIOD_REVERSED, SAME_EMPLOYEE."""
        super().revise({name: value for name, value in changes.items() if name != "state"}, at)
        self._check()
        self.state = self._state(at) if self.state is not AbsenceState.PLANNED else self.state

    def _check(self) -> None:
        if self.starts_at is None or (self.ends_at is not None and self.ends_at <= self.starts_at):
            violations = [Violation("ends_at", "not after starts_at")]
            raise InvalidArgument("PERIOD_REVERSED", "it ends before it starts", violations=violations)
        if not self.employee or self.substitute == self.employee:
            violations = [Violation("substitute", "the same employee")]
            raise InvalidArgument("SAME_EMPLOYEE", "nobody stands in for himself", violations=violations)

    def _state(self, at: datetime) -> AbsenceState:
        assert self.starts_at is not None
        if at < self.starts_at:
            return AbsenceState.PLANNED
        return AbsenceState.CURRENT if self.ends_at is None or at < self.ends_at else AbsenceState.ENDED

    def turn(self, at: datetime) -> str | None:
        """Goes one step with the time; what has happened: it begins, it ends, or nothing."""
        now = self._state(at)
        if self.state is AbsenceState.PLANNED and now is not AbsenceState.PLANNED:
            self.state = AbsenceState.CURRENT
            return "Begin"
        if self.state is AbsenceState.CURRENT and now is AbsenceState.ENDED:
            self.state = AbsenceState.ENDED
            return "End"
        return None

    @property
    def next_turn(self) -> datetime | None:
        """When it goes on; None: never, or nobody knows yet."""
        return {AbsenceState.PLANNED: self.starts_at, AbsenceState.CURRENT: self.ends_at}.get(
            self.state or AbsenceState.ENDED
        )


class HandOverState(StrEnum):
    """Whether something may be left."""

    IN_PROGRESS = "inProgress"
    COMPLETED = "completed"


@dataclass(kw_only=True, eq=False)
class HandOver(Aggregate):
    """Everything open of one employee becomes another's, some at a time. What is still the first one's is still to be
    done: that is all that has to be remembered of how far it has come."""

    STATE: ClassVar[str | None] = "state"

    from_employee: str | None = None
    to_employee: str | None = None
    note: str | None = None
    state: HandOverState | None = None
    requested_by: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    # How many have changed hands: customers first.
    portfolio: int | None = None
    work_items: int | None = None
    planned_interactions: int | None = None
    agreements: int | None = None

    def check(self, at: datetime) -> None:
        """Begins. Raises InvalidArgument REQUIRED, SAME_EMPLOYEE."""
        missing = [name for name in ("from_employee", "to_employee") if not getattr(self, name)]
        if missing:
            violations = [Violation(name, "required") for name in missing]
            raise InvalidArgument("REQUIRED", "it doesn't say from whom to whom", violations=violations)
        if self.from_employee == self.to_employee:
            violations = [Violation("to_employee", "the same employee")]
            raise InvalidArgument("SAME_EMPLOYEE", "nobody is his own successor", violations=violations)
        self.state, self.started_at = HandOverState.IN_PROGRESS, at
        self.portfolio = self.work_items = self.planned_interactions = self.agreements = 0

    def count(self, portfolio: int, work_items: int, planned_interactions: int, agreements: int) -> None:
        """So many more have changed hands."""
        self.portfolio = (self.portfolio or 0) + portfolio
        self.work_items = (self.work_items or 0) + work_items
        self.planned_interactions = (self.planned_interactions or 0) + planned_interactions
        self.agreements = (self.agreements or 0) + agreements

    def complete(self, at: datetime) -> None:
        """Nothing is left."""
        self.state, self.completed_at = HandOverState.COMPLETED, at

    def told_to(self, customer_id: str, id: str, at: datetime) -> PartyInteraction:
        """The note on the timeline of a customer who has changed hands."""
        return PartyInteraction(
            id=id,
            branch=self.branch,
            reason=f"Hand-over: {self.from_employee} → {self.to_employee}",
            description=self.note,
            direction=INTERNAL,
            status=InteractionStatus.COMPLETED,
            channel=(RelatedChannel(id=INTERNAL, href=f"urn:svyaz:channel:{INTERNAL}", name=INTERNAL),),
            interaction_date=TimePeriod(start_date_time=at, end_date_time=at),
            related_party=(
                as_customer(customer_id),
                as_employee(self.to_employee or ""),
                as_employee(self.from_employee or "", "predecessor"),
            ),
        )
