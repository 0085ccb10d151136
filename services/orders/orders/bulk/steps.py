"""How a bulk order goes on by itself, row after row."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from chassis import convert
from chassis.db import Unit
from chassis.errors import DomainError
from chassis.timers import cancel_timer, last_error, set_timer
from chassis.tmfjson import Dialect
from orders.bulk import incoming, store
from orders.bulk.domain import BulkOrder, order_id
from orders.bulk.template import RowFault, Template, parse
from orders.bulk.values import BulkOrderRow, BulkOrderRowState, BulkOrderState, Record
from orders.ordering.capture import Capture
from orders.ordering.domain import ProductOrder
from orders.ordering.taking import REFUSALS, captured_by_itself, take, told
from orders.ordering.values import OrderItem
from svyaz.orders.v1 import orders_pb2

# The purposes of our timers.
DEAL, COLLECT, FORGET = "bulkOrder", "bulkOrderSegment", "bulkOrderForgotten"
# So long what rows say that weren't ordered can be tried again; it may name people.
KEPT = timedelta(days=30)
# Products looked at, and rows dealt with, in one transaction. A step is short, so that other timers have their turn.
LOOKED_AT_ONCE, MOST_AT_ONCE, STEP_SECONDS = 5_000, 25, 0.25
# After so many failures of a step its rows are dealt with one by one; after so many more the first one is given up.
ALONE, POISONED = 1, 3
MOST_REASON = 500

_S = BulkOrderRowState


class Bulk:
    """The steps of bulk orders. Each is repeated until it has been committed, and does nothing when it is late."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._dialect = Dialect()

    def timers(self) -> dict[str, Callable[[str, Unit], None]]:
        """The handlers of our timers, by purpose."""
        return {DEAL: self.step, COLLECT: self.collect, FORGET: self.forget}

    def collect(self, job_id: str, unit: Unit) -> None:
        """Looks for some of the products of a segment."""
        job = unit.find(BulkOrder, job_id)
        if job is None or job.state is not BulkOrderState.RECEIVING:
            return
        if not incoming.collect(unit, job, LOOKED_AT_ONCE):
            set_timer(unit, job.id, COLLECT, unit.at, job.branch)
            return
        unit.flush()
        job.received(incoming.segment_hash(unit, job), unit.at)
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

    def step(self, job_id: str, unit: Unit) -> None:
        """Deals with some rows: takes their orders, or in a dry run only asks what these would cost."""
        job = unit.find(BulkOrder, job_id)
        if job is None or job.state is not BulkOrderState.IN_PROGRESS:
            return
        begun = time.monotonic()
        poison = last_error(unit, job.id, DEAL, POISONED)
        alone = poison is not None or last_error(unit, job.id, DEAL, ALONE) is not None
        standing = store.standing(unit, job.id)
        rows = store.next_rows(unit, job, standing.line, 1 if alone else _at_once(job))
        if not rows:
            job.finish(unit.at)
            set_timer(unit, job.id, FORGET, unit.at + KEPT, job.branch)
            return
        template = parse(job.template or "")
        outcomes = store.Outcomes()
        for row in rows:
            if poison is not None:
                outcomes.rows.append(_refused(row.line, "", f"it fails again and again: {poison}"))
            else:
                outcomes.rows.append(self._deal(unit, job, template, row, outcomes))
            if time.monotonic() - begun > STEP_SECONDS:
                break
        store.settle(unit, job, outcomes)
        refused = sum(one.state is _S.REFUSED for one in outcomes.rows)
        dealt = len(outcomes.rows)
        too_many = job.tolerates(standing.dealt + dealt, standing.refused + refused)
        if too_many is not None:
            job.move(BulkOrderState.PAUSED, unit.at, too_many)
        else:
            set_timer(unit, job.id, DEAL, unit.at + timedelta(seconds=dealt / job.rate), job.branch)

    def _deal(
        self, unit: Unit, job: BulkOrder, template: Template, row: Record, outcomes: store.Outcomes
    ) -> BulkOrderRow:
        if row.fault:
            return _refused(row.line, "", row.fault)
        try:
            order, items = self._wanted(job, template, row)
            captured = captured_by_itself(unit, self._capture, order, items)
        except RowFault as fault:
            return _refused(row.line, fault.column, fault.reason)
        except REFUSALS as refusal:
            return _refused(row.line, _field(template, refusal), told(refusal))
        outcomes.add(captured.total)
        if job.dry_run:
            return BulkOrderRow(line=row.line, state=_S.VALID)
        take(unit, order, captured)
        return BulkOrderRow(line=row.line, state=_S.ORDERED, product_order_id=order.id)

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


def go_on(unit: Unit, job: BulkOrder) -> None:
    """Sets the timer of the next step, or takes it away."""
    if job.state is BulkOrderState.IN_PROGRESS:
        set_timer(unit, job.id, DEAL, unit.at, job.branch)
    else:
        cancel_timer(unit, job.id, DEAL)
        cancel_timer(unit, job.id, COLLECT)


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
