"""What can be asked of the changes of running orders."""

from collections.abc import Iterable, Sequence
from typing import Any

from chassis import convert
from chassis.db import Database
from chassis.resources import Collection, StandardMethods
from chassis.types import Money
from orders.amendment.domain import ProductOrderAmendment
from orders.amendment.plan import AMENDABLE, AmendmentPlan, settled
from orders.fulfilment import store as fulfilment
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.undo import UndoEntry
from orders.ordering import store
from orders.ordering.api import Orders
from orders.ordering.assessment import Assessment, assessed
from orders.ordering.domain import UNSTARTED, ProductOrder, ProductOrderItem
from orders.ordering.withdrawal import payers
from orders.tracking.milestones import name_of
from svyaz.orders.v1 import amendment_pb2, fulfilment_pb2, orders_pb2

_STATE = convert.enum_prefix(orders_pb2.ProductOrderState.DESCRIPTOR)
_ITEM_STATE = convert.enum_prefix(orders_pb2.ProductOrderItemState.DESCRIPTOR)
_TASK_STATE = convert.enum_prefix(fulfilment_pb2.FulfilmentTaskState.DESCRIPTOR)
_UNDOABLE = convert.enum_prefix(amendment_pb2.Undoable.DESCRIPTOR)


class Amendments(StandardMethods):
    """The undo map, and amendments with their preview."""

    def __init__(self, database: Database, orders: Orders) -> None:
        self._database = database
        self._orders = orders
        super().__init__(
            amendment_pb2.DESCRIPTOR.services_by_name["AmendmentService"],
            Collection(database, ProductOrderAmendment, amendment_pb2.ProductOrderAmendment),
        )

    def GetUndoMap(self, request: amendment_pb2.GetUndoMapRequest, context: Any) -> amendment_pb2.UndoMap:
        """What cancelling the order, or withdrawing an item, would undo at this moment; raises NotFound."""
        with self._database.unit() as unit:
            order = unit.get(ProductOrder, request.product_order_id)
            items = store.items_of(unit, order.id)
            tasks = fulfilment.tasks_of(unit, order.id)
            whole = assessed(items, tasks, payers(unit, order, items), whole=True)
            return _map(order, items, whole, tasks)

    def PreviewAmendment(
        self, request: amendment_pb2.AmendProductOrderRequest, context: Any
    ) -> amendment_pb2.AmendmentPreview:
        """What AmendProductOrder would do; raises what it would, but for a cost that isn't accepted."""
        order, captured, plan = self._orders.preview(_update(request))
        found = plan.difference
        changes = {
            amendment_pb2.ITEM_CHANGE_KEPT: found.kept,
            amendment_pb2.ITEM_CHANGE_ADDED: found.added,
            amendment_pb2.ITEM_CHANGE_CHANGED: [one.order_item_id for one in found.changed],
            amendment_pb2.ITEM_CHANGE_WITHDRAWN: found.withdrawn,
        }
        return amendment_pb2.AmendmentPreview(
            item=[_amended(plan, key, change) for change, keys in changes.items() for key in keys],
            undo_cost=_moneys(plan.cost),
            price_before=_prices(order.order_total_price),
            price_after=_prices(plan.total),
            missing=captured.missing,
        )

    def AmendProductOrder(
        self, request: amendment_pb2.AmendProductOrderRequest, context: Any
    ) -> orders_pb2.ProductOrder:
        """Changes an order whatever its state. Raises FailedPrecondition POINT_OF_NO_RETURN, COST_NOT_ACCEPTED,
        INFORMATION_REQUIRED, ORDER_STARTED, ORDER_CLOSED, and what taking it would."""
        return self._orders.update(_update(request), [convert.from_money(one) for one in request.accepted_cost])


def _update(request: amendment_pb2.AmendProductOrderRequest) -> orders_pb2.UpdateProductOrderRequest:
    """The same as an update: sent again as the one or the other it is done once."""
    return orders_pb2.UpdateProductOrderRequest(
        request_id=request.request_id,
        product_order=request.product_order,
        update_mask=request.update_mask,
        etag=request.etag,
    )


# --- the undo map ----------------------------------------------------------------------------------------------------


def _map(
    order: ProductOrder,
    items: Sequence[ProductOrderItem],
    whole: Assessment,
    tasks: Sequence[FulfilmentTask],
) -> amendment_pb2.UndoMap:
    assert order.state is not None
    reason = _obstacle(order, whole)
    return amendment_pb2.UndoMap(
        product_order_id=order.id,
        etag=str(order.revision),
        state=orders_pb2.ProductOrderState.Value(_STATE + order.state.name),
        can_be_cancelled=not reason,
        reason=reason,
        cost=[] if reason else _moneys(whole.cost),
        item=[_item(order, row, items, whole, tasks) for row in items],
        task=[_task(whole, entry) for entry in whole.of(None)],
    )


def _item(
    order: ProductOrder,
    row: ProductOrderItem,
    items: Sequence[ProductOrderItem],
    whole: Assessment,
    tasks: Sequence[FulfilmentTask],
) -> amendment_pb2.UndoMapItem:
    within = _within(row, items)
    ids = {None, *(one.id for one in within)}
    own = assessed(within, [task for task in tasks if task.product_order_item_id in ids], whole.payers, whole=False)
    reason = f"it is {row.state}" if settled(row) else _obstacle(order, own)
    return amendment_pb2.UndoMapItem(
        order_item_id=row.item.id or "",
        name=name_of(row),
        state=orders_pb2.ProductOrderItemState.Value(_ITEM_STATE + row.state.name),
        can_be_withdrawn=not reason,
        reason=reason,
        cost=[] if reason else _moneys(own.cost),
        task=[_task(whole, entry) for entry in whole.of(row)],
    )


def _within(row: ProductOrderItem, items: Iterable[ProductOrderItem]) -> list[ProductOrderItem]:
    """An item with all that is inside it, and goes with it."""
    found = {row.id: row}
    for one in items:
        if one.parent_id in found:
            found[one.id] = one
    return list(found.values())


def _obstacle(order: ProductOrder, found: Assessment) -> str:
    """Why it can't be withdrawn; empty: it can be."""
    if order.state not in (*AMENDABLE, *UNSTARTED):
        return f"the order is {order.state}"
    return "; ".join(f"{one.field} {one.description}" for one in found.obstacles)


def _task(found: Assessment, entry: UndoEntry) -> amendment_pb2.UndoMapTask:
    cost = found.cost_of(entry)
    return amendment_pb2.UndoMapTask(
        task_id=entry.task.id,
        name=entry.task.name,
        state=fulfilment_pb2.FulfilmentTaskState.Value(_TASK_STATE + entry.task.state.name),
        undoable=amendment_pb2.Undoable.Value(_UNDOABLE + entry.undoable.name),
        cost=convert.to_money(cost) if cost is not None else None,
    )


# --- previews --------------------------------------------------------------------------------------------------------


def _amended(plan: AmendmentPlan, key: str, change: "amendment_pb2.ItemChange.ValueType") -> amendment_pb2.AmendedItem:
    before, after = plan.before.get(key), plan.after.get(key)
    redone = next((one for one in plan.difference.changed if one.order_item_id == key), None)
    entries = [
        entry
        for entry in plan.assessment.entries
        if before is not None and entry.task.product_order_item_id == before.id
    ]
    withdrawn = [entry.task.name for entry in entries] if change == amendment_pb2.ITEM_CHANGE_WITHDRAWN else []
    return amendment_pb2.AmendedItem(
        order_item_id=key,
        change=change,
        undone=[task.name for task in redone.undone] if redone is not None else withdrawn,
        done_again=[task.name for task in redone.again] if redone is not None else (),
        undo_cost=_moneys(plan.assessment.total(entries)),
        price_before=_prices(before.charge if before is not None else ()),
        price_after=_prices(after.charge if after is not None else ()),
    )


def _moneys(amounts: Iterable[Money]) -> list[Any]:
    return [convert.to_money(amount) for amount in amounts]


def _prices(prices: Iterable[Any]) -> list[orders_pb2.OrderPrice]:
    return [convert.to_message(price, orders_pb2.OrderPrice) for price in prices]
