"""Withdrawing orders and items: at once before anything has been done for them, else by undoing what has been."""

from collections.abc import Collection, Iterable, Sequence
from functools import partial

from prometheus_client import Counter

from chassis import telemetry
from chassis.timers import cancel_timer, set_timer
from chassis.types import EntityRef, Money, Note, new_id
from chassis.unit import Unit
from orders.billing.domain import ChargeEvent, ChargeType
from orders.billing.store import add_charges
from orders.fulfilment import store as fulfilment
from orders.fulfilment.steps import PROVISION, lock
from orders.fulfilment.undo import UndoEntry, undo
from orders.inventory.domain import Product
from orders.ordering import store
from orders.ordering.assessment import Assessment, assessed, check_accepted
from orders.ordering.domain import LOST, UNSTARTED, ProductOrder, ProductOrderItem, payer
from orders.ordering.placing import ADVANCE
from orders.ordering.planning import plan_some
from orders.ordering.values import ProductOrderItemState, ProductOrderState, TaskState

ORDERS = Counter("svyaz_orders_total", "Product orders that have ended", ["outcome"])
telemetry.begin_at_zero(ORDERS, ("completed", "failed", "partial", "cancelled", "rejected"))

# The purposes of the timers of orders, beside those that carry them on.
INFORMATION = "information"
RELEASE = "release coupons"
# Why a charge for undoing something is there.
UNDO = "undo"


def withdraw(unit: Unit, order: ProductOrder, reason: str, accepted: Sequence[Money] = ()) -> None:
    """Cancels an order: at once when nothing has been done for it; else it is `pendingCancellation` until all that was
    done is undone, which is charged as far as that has been accepted.

    Raises FailedPrecondition POINT_OF_NO_RETURN naming items and tasks, COST_NOT_ACCEPTED, BAD_TRANSITION.
    """
    if order.state in (ProductOrderState.IN_PROGRESS, ProductOrderState.HELD):
        items = store.items_of(unit, order.id)
        found = assess(unit, order, items, whole=True)
        found.check()
        check_accepted(found.cost, accepted)
        order.move(ProductOrderState.ASSESSING_CANCELLATION, unit.at)
        unit.flush()
        order.move(ProductOrderState.PENDING_CANCELLATION, unit.at)
        order.cancellation_reason = order.cancellation_reason or reason
        charge_undoing(unit, order, found.charged)
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
    assess(unit, order, items, whole=False).check()
    # What isn't planned yet may have been begun by a step that died before it could say so.
    plan_some(unit, order, items, lambda item: unit.find(Product, item.product_id) if item.product_id else None)
    for item in items:
        if not item.done:
            item.move(ProductOrderItemState.PENDING_CANCELLATION)
    noted(unit, order, f"withdrawn: {', '.join(item.item.id or '' for item in items)}: {reason}")
    take_back(unit, order, {item.id for item in items})
    set_timer(unit, order.id, PROVISION, unit.at, order.branch)


def assess(unit: Unit, order: ProductOrder, items: Sequence[ProductOrderItem], *, whole: bool) -> Assessment:
    """What withdrawing the items comes to, once the step that is being made, if any, has been made."""
    lock(unit, order.id)
    fulfilment.forget(unit, order.id)
    return assessed(items, fulfilment.tasks_of(unit, order.id), payers(unit, order, items), whole=whole)


def payers(unit: Unit, order: ProductOrder, items: Sequence[ProductOrderItem]) -> dict[str | None, EntityRef | None]:
    """Who pays for each item, by its row, and (None) for what is done for the whole order."""
    ids = [item.product_id for item in items if item.product_id]
    held = {one.id: one for one in unit.load(Product, "id = ANY (%(ids)s)", {"ids": ids})} if ids else {}
    found: dict[str | None, EntityRef | None] = {None: order.billing_account}
    for item in items:
        found[item.id] = payer(order, item.item, held.get(item.product_id or ""))
    return found


def charge_undoing(unit: Unit, order: ProductOrder, entries: Iterable[UndoEntry]) -> None:
    """Charges what undoing these tasks costs, each to who pays for its item; the cost has been accepted."""
    rows = {item.id: item for item in store.items_of(unit, order.id)}
    pays = payers(unit, order, list(rows.values()))
    charges = []
    for entry in entries:
        row = rows.get(entry.task.product_order_item_id or "")
        account = pays.get(row.id if row is not None else None)
        if entry.cost is None or account is None:
            continue
        offering = row.item.product_offering if row is not None else None
        charges.append(
            ChargeEvent(
                type=ChargeType.CHARGE_CREATE,
                account=account.id or "",
                branch=order.branch,
                occurred_at=unit.at,
                product_id=(row.product_id or "") if row is not None else "",
                order_id=order.id,
                order_item_id=(row.item.id or "") if row is not None else "",
                customer_id=order.customer_id,
                product_offering_id=(offering.id or "") if offering is not None else "",
                product_offering_price_id="",
                amount=entry.cost,
                name=f"undo {entry.task.name}",
                reason=UNDO,
            )
        )
    add_charges(unit, charges)


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
