"""Withdrawing orders and items: at once before anything has been done for them, else by undoing what has been."""

from collections.abc import Collection, Sequence
from functools import partial

from prometheus_client import Counter

from chassis import telemetry
from chassis.db import Unit
from chassis.errors import FailedPrecondition, Violation
from chassis.timers import cancel_timer, set_timer
from chassis.types import Note, new_id
from orders.fulfilment import store as fulfilment
from orders.fulfilment.steps import PROVISION, lock
from orders.fulfilment.undo import irrevocable, undo
from orders.inventory.domain import Product
from orders.ordering import store
from orders.ordering.domain import LOST, UNSTARTED, ProductOrder, ProductOrderItem
from orders.ordering.placing import ADVANCE
from orders.ordering.planning import plan_some
from orders.ordering.values import ProductOrderItemState, ProductOrderState, TaskState

ORDERS = Counter("svyaz_orders_total", "Product orders that have ended", ["outcome"])
telemetry.begin_at_zero(ORDERS, ("completed", "failed", "partial", "cancelled", "rejected"))

# The purposes of the timers of orders, beside those that carry them on.
INFORMATION = "information"
RELEASE = "release coupons"


def withdraw(unit: Unit, order: ProductOrder, reason: str) -> None:
    """Cancels an order: at once when nothing has been done for it; else it is `pendingCancellation` until all that was
    done is undone. Raises FailedPrecondition POINT_OF_NO_RETURN naming items and tasks, BAD_TRANSITION."""
    if order.state in (ProductOrderState.IN_PROGRESS, ProductOrderState.HELD):
        # From now on the step that is being made, if any, has been made.
        lock(unit, order.id)
        fulfilment.forget(unit, order.id)
        items = store.items_of(unit, order.id)
        _require_revocable(unit, order, items)
        order.move(ProductOrderState.ASSESSING_CANCELLATION, unit.at)
        unit.flush()
        order.move(ProductOrderState.PENDING_CANCELLATION, unit.at)
        order.cancellation_reason = order.cancellation_reason or reason
        withdraw_items(unit, order, [item for item in items if not item.done], reason)
        return
    if order.state not in UNSTARTED:
        order.move(ProductOrderState.ASSESSING_CANCELLATION, unit.at)
    items = store.items_of(unit, order.id)
    order.cancel(items, reason, unit.at)
    store.stop_waiting(unit, order.id)
    ended(unit, order)
    for purpose in (ADVANCE, PROVISION, INFORMATION):
        cancel_timer(unit, order.id, purpose)


def withdraw_items(unit: Unit, order: ProductOrder, items: Sequence[ProductOrderItem], reason: str) -> None:
    """Withdraws some items of an order that is under way: they are `pendingCancellation` until what was done for them
    is undone, then `cancelled`; the order goes on with the others. Items inside them are withdrawn by naming them too.

    Raises FailedPrecondition POINT_OF_NO_RETURN naming those that can't be withdrawn any more; then nothing is changed.
    """
    lock(unit, order.id)
    fulfilment.forget(unit, order.id)
    _require_revocable(unit, order, items)
    # What isn't planned yet may have been begun by a step that died before it could say so.
    plan_some(unit, order, items, lambda item: unit.find(Product, item.product_id) if item.product_id else None)
    for item in items:
        if not item.done:
            item.move(ProductOrderItemState.PENDING_CANCELLATION)
    noted(unit, order, f"withdrawn: {', '.join(item.item.id or '' for item in items)}: {reason}")
    take_back(unit, order, {item.id for item in items})
    set_timer(unit, order.id, PROVISION, unit.at, order.branch)


def _require_revocable(unit: Unit, order: ProductOrder, items: Sequence[ProductOrderItem]) -> None:
    """Raises FailedPrecondition POINT_OF_NO_RETURN naming the items that are completed, and the tasks by which others,
    or the whole order, can't be withdrawn."""
    numbers = {item.id: item.item.id or "" for item in items}
    found = [
        Violation(f"product_order_item[{item.item.id}]", "is completed already")
        for item in items
        if item.state is ProductOrderItemState.COMPLETED
    ]
    tasks = fulfilment.tasks_of(unit, order.id)
    for task in irrevocable(tasks, set(numbers)):
        number = numbers[task.product_order_item_id or ""]
        found.append(Violation(f"product_order_item[{number}]", f"is beyond {task.name!r} ({str(task.state)!r})"))
    found += [Violation("product_order", f"is beyond {task.name!r}") for task in irrevocable(tasks, {None})]
    if found:
        why = "; ".join(f"{one.field} {one.description}" for one in found)
        raise FailedPrecondition("POINT_OF_NO_RETURN", f"it can't be withdrawn any more: {why}", violations=found)


def take_back(unit: Unit, order: ProductOrder, of: Collection[str | None]) -> None:
    """Ends the open tasks of some items (None: of the whole order), and has what was done undone."""
    tasks = fulfilment.tasks_of(unit, order.id)
    undoing = undo(tasks, of)
    for task, in_doubt in undoing.cancelled:
        task.cancel(unit.at, in_doubt=in_doubt)
    fulfilment.add(unit, order.id, undoing.compensations)


def ended(unit: Unit, order: ProductOrder) -> None:
    """What the end of an order brings with it: its coupons go back if nothing came of it (what is completed in part has
    had its discount), who wanted it cancelled is told, and it is counted."""
    if order.coupon and order.state in LOST:
        set_timer(unit, order.id, RELEASE, unit.at, order.branch)
    if order.state is ProductOrderState.CANCELLED:
        for cancellation in store.open_cancellations(unit, order.id):
            cancellation.move(TaskState.DONE, unit.at)
    unit.after_commit(partial(_count, str(order.state)))


def _count(outcome: str) -> None:
    ORDERS.labels(outcome).inc()


def noted(unit: Unit, order: ProductOrder, text: str) -> None:
    """Adds a note of ours to the order."""
    order.note = (*order.note, Note(id=new_id(), author="svyaz", date=unit.at, text=text))
