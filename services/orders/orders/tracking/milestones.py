"""What of an order's log its customer is told, and as what. Pure.

The same for the customer and for whoever speaks with him: what happened to the order and to each item of it, when it is
promised and why that has changed. Nothing of how it is done, by whom, or of anybody else.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from chassis.types import Aggregate
from orders.amendment.domain import ProductOrderAmendment
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.values import FulfilmentTaskState
from orders.ordering.domain import CancelProductOrder, ProductOrder, ProductOrderItem
from orders.ordering.values import ProductOrderItemState, ProductOrderState, TaskState
from orders.tracking.domain import PromisedDateChange, PromiseReason

_O, _I = ProductOrderState, ProductOrderItemState


class OrderEventKind(StrEnum):
    """What has happened."""

    PLACED = "placed"
    INFORMATION_REQUIRED = "informationRequired"
    INFORMATION_COMPLETE = "informationComplete"
    STARTED = "started"
    MILESTONE = "milestone"
    ITEM_COMPLETED = "itemCompleted"
    ITEM_FAILED = "itemFailed"
    ITEM_CANCELLED = "itemCancelled"
    DIFFICULTY = "difficulty"
    RESUMED = "resumed"
    PROMISE_MOVED = "promiseMoved"
    AMENDED = "amended"
    CANCELLATION_REQUESTED = "cancellationRequested"
    CANCELLATION_REFUSED = "cancellationRefused"
    CANCELLATION_BEGUN = "cancellationBegun"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    PARTLY_COMPLETED = "partlyCompleted"
    FAILED = "failed"
    REJECTED = "rejected"


_K = OrderEventKind
_OF_STATES: Mapping[ProductOrderState, OrderEventKind] = {
    _O.PENDING: _K.INFORMATION_REQUIRED,
    _O.HELD: _K.DIFFICULTY,
    _O.ASSESSING_CANCELLATION: _K.CANCELLATION_BEGUN,
    _O.CANCELLED: _K.CANCELLED,
    _O.COMPLETED: _K.COMPLETED,
    _O.PARTIAL: _K.PARTLY_COMPLETED,
    _O.FAILED: _K.FAILED,
    _O.REJECTED: _K.REJECTED,
}
_OF_ITEMS: Mapping[ProductOrderItemState, OrderEventKind] = {
    _I.COMPLETED: _K.ITEM_COMPLETED,
    _I.FAILED: _K.ITEM_FAILED,
    _I.CANCELLED: _K.ITEM_CANCELLED,
}


@dataclass(frozen=True)
class Logged:
    """An entry of the log: what became of what, as it was then."""

    time: datetime
    # What is at the end of the event's name: Create, StateChange …
    change: str
    aggregate: Aggregate


@dataclass(frozen=True, kw_only=True)
class OrderEvent:
    """One thing that has happened to an order."""

    time: datetime
    kind: OrderEventKind
    order_item_id: str = ""
    name: str = ""
    explanation: str = ""
    promised_date: datetime | None = None
    previous_promised_date: datetime | None = None
    reason: PromiseReason | None = None
    # What a milestone is called, by language.
    words: Mapping[str, str] = field(default_factory=dict)


def milestones(
    log: Iterable[Logged], before: ProductOrderState | None
) -> tuple[list[OrderEvent], ProductOrderState | None]:
    """The events that the entries of one order's log are, in their sequence, and the state that it has after them;
    `before`: the one that it had."""
    found: list[OrderEvent] = []
    for entry in log:
        aggregate = entry.aggregate
        if isinstance(aggregate, ProductOrder):
            found += _of_order(entry, aggregate, before)
            before = aggregate.state or before
        elif isinstance(aggregate, ProductOrderItem):
            found += _of_item(entry, aggregate)
        elif isinstance(aggregate, PromisedDateChange):
            found += _of_promise(entry, aggregate)
        elif isinstance(aggregate, FulfilmentTask):
            found += _of_task(entry, aggregate)
        elif isinstance(aggregate, ProductOrderAmendment):
            found.append(OrderEvent(time=entry.time, kind=_K.AMENDED))
        elif isinstance(aggregate, CancelProductOrder):
            found += _of_cancellation(entry, aggregate)
    return found, before


def _of_order(entry: Logged, order: ProductOrder, before: ProductOrderState | None) -> Iterator[OrderEvent]:
    promised = order.expected_completion_date
    if entry.change == "Create":
        yield OrderEvent(time=entry.time, kind=_K.PLACED, promised_date=promised)
        return
    state = order.state
    if entry.change == "InformationRequired":
        yield OrderEvent(time=entry.time, kind=_K.INFORMATION_REQUIRED)
    if state is before or state is None:
        return
    if state is _O.IN_PROGRESS:
        begun = before in (None, _O.ACKNOWLEDGED, _O.PENDING)
        if before is _O.PENDING:
            yield OrderEvent(time=entry.time, kind=_K.INFORMATION_COMPLETE)
        yield OrderEvent(time=entry.time, kind=_K.STARTED if begun else _K.RESUMED, promised_date=promised)
    elif state is _O.ACKNOWLEDGED:
        yield OrderEvent(time=entry.time, kind=_K.INFORMATION_COMPLETE, promised_date=promised)
    elif state in _OF_STATES and entry.change == "StateChange":
        yield OrderEvent(time=entry.time, kind=_OF_STATES[state])


def _of_item(entry: Logged, row: ProductOrderItem) -> Iterator[OrderEvent]:
    kind = _OF_ITEMS.get(row.state)
    if kind is not None and entry.change == "StateChange":
        yield OrderEvent(time=entry.time, kind=kind, order_item_id=row.item.id or "", name=name_of(row))


def _of_task(entry: Logged, task: FulfilmentTask) -> Iterator[OrderEvent]:
    """A task is its specification's business; its customer is told what that has words for."""
    words = {(one.language or "").lower(): one.words or "" for one in task.spec.milestone}
    if words and task.state is FulfilmentTaskState.COMPLETED and task.undone_at is None and not task.compensating:
        yield OrderEvent(time=entry.time, kind=_K.MILESTONE, order_item_id=task.order_item_id or "", words=words)


def _of_promise(entry: Logged, change: PromisedDateChange) -> Iterator[OrderEvent]:
    yield OrderEvent(
        time=entry.time,
        kind=_K.PROMISE_MOVED,
        order_item_id=change.order_item_id or "",
        promised_date=change.new_date,
        previous_promised_date=change.old_date,
        reason=change.reason,
        explanation=change.explanation or "",
    )


def _of_cancellation(entry: Logged, wish: CancelProductOrder) -> Iterator[OrderEvent]:
    if entry.change == "Create":
        yield OrderEvent(time=entry.time, kind=_K.CANCELLATION_REQUESTED)
    elif wish.state is TaskState.TERMINATED_WITH_ERROR:
        yield OrderEvent(time=entry.time, kind=_K.CANCELLATION_REFUSED)


def name_of(row: ProductOrderItem) -> str:
    """What the item is called: its offering's name, else its product's."""
    offering, product = row.item.product_offering, row.item.product
    return (offering.name if offering is not None else None) or (product.name if product is not None else None) or ""
