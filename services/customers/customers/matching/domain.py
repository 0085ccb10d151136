"""Two who may be one, and the search that finds such."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Aggregate, Json, require_transition
from customers.matching.values import DuplicateReason

DEFAULT_THRESHOLD = Decimal("0.5")
_LOWEST, _HIGHEST = Decimal("0.01"), Decimal("0.99")
# What the entry of a person leaves as the one who found a pair.
ENTRY = "entry"


class DuplicateState(StrEnum):
    """What has been decided of a pair."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"


_S = DuplicateState
# Who was mistaken may say so: a pair that was merged is un-merged elsewhere.
TRANSITIONS: Mapping[DuplicateState, frozenset[DuplicateState]] = {
    _S.OPEN: frozenset({_S.CONFIRMED, _S.REJECTED}),
    _S.CONFIRMED: frozenset({_S.REJECTED}),
    _S.REJECTED: frozenset({_S.CONFIRMED}),
}


@dataclass(kw_only=True, eq=False)
class DuplicateCandidate(Aggregate):
    """Two individuals of one branch who may be one person. There is one of each pair, whatever became of it: so who
    was rejected is never proposed again."""

    STATE: ClassVar[str | None] = "state"
    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"first_id", "second_id"})

    first_id: str | None = None
    second_id: str | None = None
    score: Decimal | None = None
    state: DuplicateState | None = None
    reason: tuple[DuplicateReason, ...] = ()
    found_by: str | None = None
    found_at: datetime | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    note: str | None = None

    def check(self, at: datetime) -> None:
        """A new pair is open, its lower id first. Raises InvalidArgument OWN_DUPLICATE."""
        if not self.first_id or not self.second_id or self.first_id == self.second_id:
            raise InvalidArgument("OWN_DUPLICATE", "a pair is of two individuals")
        self.first_id, self.second_id = sorted((self.first_id, self.second_id))
        self.state, self.found_at = DuplicateState.OPEN, at

    def decide(self, state: DuplicateState, by: str, at: datetime, note: str | None) -> None:
        """Says whether they are one; raises FailedPrecondition BAD_TRANSITION naming both states."""
        assert self.state is not None
        require_transition("a pair", TRANSITIONS, self.state, state)
        self.state, self.decided_by, self.decided_at, self.note = state, by, at, note or None


class DuplicateSearchState(StrEnum):
    """How far a search is."""

    ACKNOWLEDGED = "acknowledged"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(kw_only=True, eq=False)
class DuplicateSearch(Aggregate):
    """A look through one branch for individuals who are in it more than once."""

    STATE: ClassVar[str | None] = "state"

    state: DuplicateSearchState | None = None
    requested_at: datetime | None = None
    ended_at: datetime | None = None
    threshold: Decimal | None = None
    compared: int | None = None
    found: int | None = None
    error: str | None = None
    model: Json | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in (DuplicateSearchState.DONE, DuplicateSearchState.FAILED)

    def check(self, at: datetime) -> None:
        """A new search waits for its turn. Raises InvalidArgument OUT_OF_RANGE for its threshold."""
        self.threshold = DEFAULT_THRESHOLD if self.threshold is None else self.threshold
        if not _LOWEST <= self.threshold <= _HIGHEST:
            what = f"a threshold is from {_LOWEST} to {_HIGHEST}"
            raise InvalidArgument("OUT_OF_RANGE", what, violations=[Violation("threshold", what)])
        self.state, self.requested_at = DuplicateSearchState.ACKNOWLEDGED, at

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """It is what it was asked for. Raises FailedPrecondition NOT_CHANGEABLE."""
        raise FailedPrecondition("NOT_CHANGEABLE", "a search is what it was asked for: ask for another one")

    def begin(self) -> None:
        """It runs, perhaps once more after a crash."""
        self.state = DuplicateSearchState.RUNNING

    def end(self, at: datetime, *, compared: int, found: int, model: str | None) -> None:
        """It is done."""
        self.state, self.ended_at = DuplicateSearchState.DONE, at
        self.compared, self.found = compared, found
        self.model = None if model is None else Json(model)

    def fail(self, at: datetime, error: str) -> None:
        """It won't be done."""
        self.state, self.ended_at, self.error = DuplicateSearchState.FAILED, at, error[:1000]
