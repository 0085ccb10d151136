"""Bulk orders: a job of which each row becomes one order, and what may happen to it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Aggregate, bad_transition, require_transition
from orders.bulk.template import parse
from orders.bulk.values import BulkOrderFormat, BulkOrderSegment, BulkOrderState

_S = BulkOrderState
TRANSITIONS: Mapping[BulkOrderState, frozenset[BulkOrderState]] = {
    _S.RECEIVING: frozenset({_S.ACKNOWLEDGED, _S.CANCELLED}),
    _S.ACKNOWLEDGED: frozenset({_S.IN_PROGRESS, _S.CANCELLED}),
    # After a dry run it may be started in earnest.
    _S.IN_PROGRESS: frozenset({_S.PAUSED, _S.COMPLETED, _S.ACKNOWLEDGED, _S.CANCELLED}),
    _S.PAUSED: frozenset({_S.IN_PROGRESS, _S.CANCELLED}),
    # What was refused may be tried again.
    _S.COMPLETED: frozenset({_S.IN_PROGRESS}),
    _S.CANCELLED: frozenset(),
}
USUAL_RATE, HIGHEST_RATE = 20, 200
# Fewer rows say nothing about a percentage.
SOONEST_PERCENTAGE = 20


@dataclass(kw_only=True, eq=False)
class BulkOrder(Aggregate):
    """A mass sale. Its rows, and how many of them are where, are kept beside it."""

    STATE: ClassVar[str | None] = "state"

    name: str | None = None
    template: str | None = None
    format: BulkOrderFormat | None = None
    delimiter: str | None = None
    segment: BulkOrderSegment | None = None
    orders_per_second: int | None = None
    most_refused: int | None = None
    most_refused_percent: int | None = None
    allow_repetition: bool | None = None
    state: BulkOrderState | None = None
    status_reason: str | None = None
    dry_run: bool | None = None
    run: int | None = None
    requested_by: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    content_hash: str | None = None

    def check(self, at: datetime) -> None:
        """A new job waits for its rows. Raises InvalidArgument BAD_TEMPLATE, REQUIRED, OUT_OF_RANGE."""
        parse(self.template or "")
        self.format = self.format or BulkOrderFormat.CSV
        wrong = []
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            wrong.append(Violation("delimiter", "one character"))
        if self.segment is not None and not (self.segment.product_offering or self.segment.filter):
            wrong.append(Violation("segment", "says nothing of who is in it"))
        wrong += [Violation("segment.filter.path", "required") for one in self._filters() if not one]
        if wrong:
            raise InvalidArgument("REQUIRED", "the job can't be taken as it is", violations=wrong)
        self._check_limits()
        self.state, self.created_at, self.run = _S.RECEIVING, at, 0

    def _filters(self) -> list[str]:
        return [one.path or "" for one in self.segment.filter] if self.segment is not None else []

    def limit(self, limits: Mapping[str, int]) -> None:
        """Other limits; 0 takes one away. Raises InvalidArgument OUT_OF_RANGE."""
        for name, value in limits.items():
            setattr(self, name, value or None)
        self._check_limits()

    def _check_limits(self) -> None:
        wrong = []
        for name, most in (("orders_per_second", HIGHEST_RATE), ("most_refused", None), ("most_refused_percent", 100)):
            value = getattr(self, name)
            if value is not None and (value < 1 or (most is not None and value > most)):
                wrong.append(Violation(name, f"from 1 to {most}" if most else "at least 1"))
        if wrong:
            raise InvalidArgument("OUT_OF_RANGE", "a limit isn't possible", violations=wrong)

    @property
    def rate(self) -> int:
        """Orders per second."""
        return self.orders_per_second or USUAL_RATE

    def move(self, wanted: BulkOrderState, at: datetime, reason: str | None = None) -> None:
        """Goes to another state; raises FailedPrecondition BAD_TRANSITION naming both."""
        assert self.state is not None
        require_transition("a bulk order", TRANSITIONS, self.state, wanted)
        self.state, self.status_reason = wanted, reason
        if wanted is _S.COMPLETED:
            self.completed_at = at

    def received(self, rows_hash: bytes, at: datetime) -> None:
        """All rows are there."""
        self.move(_S.ACKNOWLEDGED, at)
        if not self.allow_repetition:
            self.content_hash = hashlib.sha256(rows_hash + (self.template or "").encode()).hexdigest()

    def start(self, at: datetime, *, dry_run: bool, ordered: bool) -> None:
        """Begins a run; `ordered`: whether there are orders already. Raises FailedPrecondition BAD_TRANSITION."""
        if self.state is _S.PAUSED:
            raise bad_transition("it is paused: resume it")
        if dry_run and ordered:
            raise bad_transition("what is ordered already isn't tried any more")
        self.move(_S.IN_PROGRESS, at)
        self.dry_run, self.run = dry_run or None, (self.run or 0) + 1
        self.started_at, self.completed_at = at, None

    def resume(self, at: datetime) -> None:
        """Goes on where it was paused; raises FailedPrecondition BAD_TRANSITION."""
        if self.state is not _S.PAUSED:
            raise bad_transition(f"a bulk order that is {self.state} isn't paused")
        self.move(_S.IN_PROGRESS, at)

    def cancel(self, at: datetime) -> None:
        """Ends it; the same file may come again. Raises FailedPrecondition BAD_TRANSITION."""
        self.move(_S.CANCELLED, at)
        self.content_hash = None

    def finish(self, at: datetime) -> None:
        """The run has dealt with every row."""
        self.move(_S.ACKNOWLEDGED if self.dry_run else _S.COMPLETED, at)

    def tolerates(self, dealt: int, refused: int) -> str | None:
        """Why it has to pause with so many rows refused since it was started or resumed; None: it may go on."""
        if self.most_refused is not None and refused > self.most_refused:
            return f"{refused} rows were refused, more than {self.most_refused}"
        percent = self.most_refused_percent
        if percent is not None and dealt >= SOONEST_PERCENTAGE and refused * 100 > percent * dealt:
            return f"{refused} of {dealt} rows were refused, more than {percent} %"
        return None

    def require_deletable(self) -> None:
        """Raises FailedPrecondition IN_USE while it may take orders."""
        if self.state in (_S.IN_PROGRESS, _S.PAUSED):
            raise FailedPrecondition("IN_USE", f"a bulk order that is {self.state} can't be deleted")


def order_id(job_id: str, line: int) -> str:
    """The id of a row's order: always the same, so that there is never a second one. Laid out as a UUIDv7 (RFC 9562) of
    the job's time, so that the orders of a job lie together."""
    digest = hashlib.sha256(f"{job_id}/{line}".encode()).hexdigest()
    variant = "89ab"[int(digest[3], 16) % 4]
    return f"{job_id[:13]}-7{digest[:3]}-{variant}{digest[4:7]}-{digest[7:19]}"
