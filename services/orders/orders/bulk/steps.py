"""How a bulk order goes on by itself: some rows at a time, asked about together, kept in one transaction."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from prometheus_client import Counter

from chassis import convert, telemetry
from chassis.errors import DomainError
from chassis.timers import cancel_timer, last_error, set_timer
from chassis.tmfjson import Dialect
from chassis.unit import Unit
from orders.bulk import incoming, store
from orders.bulk.domain import BulkOrder, order_id
from orders.bulk.template import RowFault, Template, parse
from orders.bulk.values import BulkOrderRow, BulkOrderRowState, BulkOrderState, Record
from orders.ordering.capture import Capture, Captured
from orders.ordering.domain import ProductOrder
from orders.ordering.taking import REFUSALS, asking, take, told
from orders.ordering.values import OrderItem
from svyaz.orders.v1 import orders_pb2

ROWS = Counter("svyaz_bulk_rows_total", "Rows of bulk orders that were dealt with", ["outcome"])
PAUSED = Counter("svyaz_bulk_paused_total", "Bulk orders that have paused by themselves: too much was refused")
STUCK = Counter("svyaz_bulk_stuck_total", "How often a running bulk order was found without progress for ten minutes")

# The purposes of our timers.
DEAL, COLLECT, FORGET = "bulkOrder", "bulkOrderSegment", "bulkOrderForgotten"
WATCH = "bulkOrderWatched"
# Without a step for so long, a job that runs is stuck.
PATIENCE = timedelta(minutes=10)
# So long what rows say that weren't ordered can be tried again; it may name people.
KEPT = timedelta(days=30)
# Products looked at, and rows dealt with, in one transaction. A step is short, so that other timers have their turn.
LOOKED_AT_ONCE, MOST_AT_ONCE, STEP_SECONDS = 5_000, 50, 0.25
# Rows of which catalog and customers are asked at the same time: most of what a row takes is waiting for them.
IN_FLIGHT = 8
# After so many failures of a step its rows are dealt with one by one; after so many more the first one is given up.
ALONE, POISONED = 1, 3
MOST_REASON = 500

_S = BulkOrderRowState


@dataclass(frozen=True)
class _Attempt:
    """A row that is an order if `ask` says so; or else why it is none."""

    row: Record
    order: ProductOrder | None = None
    ask: Callable[[], Captured] | None = None
    # Whose the order is.
    customers: frozenset[str] = frozenset()
    refused: BulkOrderRow | None = None


class Bulk:
    """The steps of bulk orders. Each is repeated until it has been committed, and does nothing when it is late."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._dialect = Dialect()
        self._askers = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="bulk")
        telemetry.begin_at_zero(ROWS, [str(one) for one in (_S.VALID, _S.ORDERED, _S.REFUSED)])

    def timers(self) -> dict[str, Callable[[str, Unit], None]]:
        """The handlers of our timers, by purpose."""
        return {DEAL: self.step, COLLECT: self.collect, FORGET: self.forget, WATCH: self.watch}

    def collect(self, job_id: str, unit: Unit) -> None:
        """Looks for some of the products of a segment."""
        job = unit.find(BulkOrder, job_id)
        if job is None or job.state is not BulkOrderState.RECEIVING:
            return
        found = incoming.collect(unit, job, LOOKED_AT_ONCE)
        if found is None:
            set_timer(unit, job.id, COLLECT, unit.at, job.branch)
            return
        job.received(found, unit.at)
        other = incoming.same_content(unit, job)
        if other is not None:
            job.cancel(unit.at)
            job.status_reason = f"SAME_CONTENT: bulk order {other} has the same rows and template"

    def forget(self, job_id: str, unit: Unit) -> None:
        """Forgets what rows say of a job that nobody has gone on with for long; what never came whole is given up."""
        job = unit.find(BulkOrder, job_id)
        if job is None:
            return
        if job.state in (BulkOrderState.IN_PROGRESS, BulkOrderState.PAUSED):
            set_timer(unit, job.id, FORGET, unit.at + KEPT, job.branch)
            return
        if job.state is not BulkOrderState.COMPLETED and job.state is not BulkOrderState.CANCELLED:
            job.cancel(unit.at)
        if not store.forget_rows(unit, job, LOOKED_AT_ONCE):
            set_timer(unit, job.id, FORGET, unit.at, job.branch)

    def watch(self, job_id: str, unit: Unit) -> None:
        """Says that a job is stuck: each step puts this off."""
        job = unit.find(BulkOrder, job_id)
        if job is not None and job.state is BulkOrderState.IN_PROGRESS:
            unit.after_commit(STUCK.inc)
            set_timer(unit, job.id, WATCH, unit.at + PATIENCE, job.branch)

    def step(self, job_id: str, unit: Unit) -> None:
        """Deals with some rows: takes their orders, or in a dry run only asks what these would cost."""
        job = unit.find(BulkOrder, job_id)
        if job is None or job.state is not BulkOrderState.IN_PROGRESS:
            return
        standing = store.standing(unit, job.id)
        # Whoever has paused or cancelled it meanwhile was told that no order follows.
        if standing is None or store.state_of(unit, job.id) is not BulkOrderState.IN_PROGRESS:
            return
        begun = time.monotonic()
        poison = last_error(unit, job.id, DEAL, POISONED)
        alone = poison is not None or last_error(unit, job.id, DEAL, ALONE) is not None
        rows = store.next_rows(unit, job, standing.line, 1 if alone else _at_once(job))
        if not rows:
            job.finish(unit.at)
            cancel_timer(unit, job.id, WATCH)
            set_timer(unit, job.id, FORGET, unit.at + KEPT, job.branch)
            return
        template = parse(job.template or "")
        outcomes = store.Outcomes()
        if poison is not None:
            outcomes.rows.append(_refused(rows[0].line, "", f"it fails again and again: {poison}"))
        else:
            for wave in _waves(self._attempt(unit, job, template, row) for row in rows):
                self._deal(unit, job, template, wave, outcomes)
                if time.monotonic() - begun > STEP_SECONDS:
                    break
        self._settle(unit, job, standing, outcomes)

    @staticmethod
    def _settle(unit: Unit, job: BulkOrder, standing: store.Standing, outcomes: store.Outcomes) -> None:
        """Keeps what has become of the rows; and when it goes on, or why not."""
        store.settle(unit, job, outcomes)
        unit.after_commit(lambda: _counted(outcomes.rows))
        refused = sum(one.state is _S.REFUSED for one in outcomes.rows)
        dealt = len(outcomes.rows)
        too_many = job.tolerates(standing.dealt + dealt, standing.refused + refused)
        if too_many is not None:
            job.move(BulkOrderState.PAUSED, unit.at, too_many)
            cancel_timer(unit, job.id, WATCH)
            unit.after_commit(PAUSED.inc)
        else:
            set_timer(unit, job.id, DEAL, unit.at + timedelta(seconds=dealt / job.rate), job.branch)
            set_timer(unit, job.id, WATCH, unit.at + PATIENCE, job.branch)

    def _attempt(self, unit: Unit, job: BulkOrder, template: Template, row: Record) -> _Attempt:
        """The row as an order, as far as that can be told without asking anybody."""
        if row.fault:
            return _Attempt(row, refused=_refused(row.line, "", row.fault))
        try:
            order, items = self._wanted(job, template, row)
            ask, customers = asking(unit, self._capture, order, items)
        except RowFault as fault:
            return _Attempt(row, refused=_refused(row.line, fault.column, fault.reason))
        except REFUSALS as refusal:
            return _Attempt(row, refused=_refused(row.line, _field(template, refusal), told(refusal)))
        return _Attempt(row, order, ask, customers)

    def _deal(
        self, unit: Unit, job: BulkOrder, template: Template, wave: Sequence[_Attempt], outcomes: store.Outcomes
    ) -> None:
        asked = {one.row.line: self._askers.submit(copy_context().run, one.ask) for one in wave if one.ask is not None}
        # All of them, even if one fails: they use the transaction, which ends with that.
        wait(asked.values())
        for one in wave:
            if one.order is None:
                assert one.refused is not None
                outcomes.rows.append(one.refused)
                continue
            try:
                captured = asked[one.row.line].result()
            except REFUSALS as refusal:
                outcomes.rows.append(_refused(one.row.line, _field(template, refusal), told(refusal)))
                continue
            outcomes.add(captured.total)
            if job.dry_run:
                outcomes.rows.append(BulkOrderRow(line=one.row.line, state=_S.VALID))
            else:
                take(unit, one.order, captured)
                ordered = BulkOrderRow(line=one.row.line, state=_S.ORDERED, product_order_id=one.order.id)
                outcomes.rows.append(ordered)
        unit.flush()

    def _wanted(self, job: BulkOrder, template: Template, row: Record) -> tuple[ProductOrder, list[OrderItem]]:
        """The order of a row, and its items. Raises RowFault, InvalidArgument."""
        message = self._dialect.message(orders_pb2.ProductOrder, template.order(row.values))
        order = convert.from_message(message, ProductOrder, id=order_id(job.id, row.line), branch=job.branch)
        order.external_id = f"{job.id}/{row.line}"
        order.category = order.category or "bulk"
        items = [
            convert.at(_item, item, f"product_order_item[{position}]")
            for position, item in enumerate(message.product_order_item)
        ]
        return order, items


def _waves(attempts: Iterable[_Attempt]) -> Iterator[Sequence[_Attempt]]:
    """So many at a time as are asked about together; of each customer one, since what he is asked for may hang on the
    orders that he had before."""
    wave: list[_Attempt] = []
    whose: set[str] = set()
    for one in attempts:
        if len(wave) == IN_FLIGHT or not whose.isdisjoint(one.customers):
            yield wave
            wave, whose = [], set()
        wave.append(one)
        whose |= one.customers
    if wave:
        yield wave


def _counted(rows: Sequence[BulkOrderRow]) -> None:
    for one in rows:
        ROWS.labels(str(one.state)).inc()


def go_on(unit: Unit, job: BulkOrder) -> None:
    """Sets the timers of a job that runs. Those of one that doesn't find nothing to do: to take them away would mean to
    wait for the step that holds one, and that waits for whoever changes the job."""
    if job.state is BulkOrderState.IN_PROGRESS:
        set_timer(unit, job.id, DEAL, unit.at, job.branch)
        set_timer(unit, job.id, WATCH, unit.at + PATIENCE, job.branch)


def _at_once(job: BulkOrder) -> int:
    """As many as fall due in a quarter of a second."""
    return max(1, min(MOST_AT_ONCE, job.rate // 4))


def _item(message: Any) -> OrderItem:
    return convert.from_message(message, OrderItem)


def _refused(line: int, field: str, reason: str) -> BulkOrderRow:
    return BulkOrderRow(line=line, state=_S.REFUSED, field=field or None, reason=reason[:MOST_REASON])


def _field(template: Template, refusal: DomainError) -> str:
    violations = refusal.violations
    return template.column_of(violations[0].field) if violations else ""
