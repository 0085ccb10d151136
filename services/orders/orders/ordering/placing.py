"""Keeping what an order was taken as, and setting it going."""

from collections.abc import Iterator, Sequence

from chassis.timers import set_timer
from chassis.types import new_id
from chassis.unit import Unit
from orders.ordering import store
from orders.ordering.capture import Captured
from orders.ordering.domain import ProductOrder, ProductOrderItem, rows
from orders.ordering.promising import promised
from orders.ordering.values import ProductOrderItemState, ProductOrderState

# The purpose of the timer that carries an order on.
ADVANCE = "advance"


def _ids() -> Iterator[str]:
    while True:
        yield new_id()


def place(unit: Unit, order: ProductOrder, captured: Captured) -> list[ProductOrderItem]:
    """Adds the items, what is missing and the receipt, and sets the order going."""
    if order.expected_completion_date is None:
        begins = max(unit.at, order.requested_start_date or unit.at)
        order.expected_completion_date = promised(begins, order.requested_completion_date, None)
    items = _keep(unit, order, captured)
    store.wait_for(unit, order, captured.missing)
    set_going(unit, order, captured.missing)
    return items


def keep_anew(unit: Unit, order: ProductOrder, captured: Captured, *, total: bool = True) -> list[ProductOrderItem]:
    """Has other items, or other prices, take the place of those that are kept; `total`: also of the order's."""
    store.delete_items(unit, order)
    if total:
        order.order_total_price = ()
    return _keep(unit, order, captured)


def _keep(unit: Unit, order: ProductOrder, captured: Captured) -> list[ProductOrderItem]:
    items = rows(order, captured.items, _ids())
    for item in items:
        item.charge = captured.charges.get(item.item.id or "", ())
        item.captured = captured.completed.get(item.item.id or "", ())
        if order.state is ProductOrderState.PENDING:
            item.move(ProductOrderItemState.PENDING)
        unit.add(item)
    if not order.order_total_price:
        order.order_total_price = captured.total
    if captured.receipt is not None:
        store.keep_receipt(unit, order, captured.receipt)
    return items


def set_going(unit: Unit, order: ProductOrder, missing: Sequence[str]) -> None:
    """At the time that it is wanted for; at once when something is to be said of it before."""
    now = missing or order.state is ProductOrderState.PENDING
    begins = unit.at if now else max(unit.at, order.requested_start_date or unit.at)
    set_timer(unit, order.id, ADVANCE, begins, order.branch)
