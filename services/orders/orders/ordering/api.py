"""What can be asked of product orders."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from chassis import convert
from chassis.db import Database, Unit
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from chassis.resources import Collection, StandardMethods
from chassis.timers import set_timer
from chassis.types import new_id
from orders.ordering import store
from orders.ordering.capture import Capture, Captured
from orders.ordering.domain import (
    UNSTARTED,
    CancelProductOrder,
    ProductOrder,
    ProductOrderItem,
    assembled,
    check_items,
    rows,
)
from orders.ordering.fulfilment import ADVANCE, CANCEL, withdraw
from orders.ordering.values import OrderItem, ProductOrderState
from svyaz.orders.v1 import orders_pb2
from svyaz.type.v1 import receipt_pb2, requests_pb2

ITEMS = "product_order_item"


def _ids() -> Iterator[str]:
    while True:
        yield new_id()


def _wanted_items(body: orders_pb2.ProductOrder) -> tuple[OrderItem, ...]:
    return tuple(
        convert.at(lambda part: convert.from_message(part, OrderItem), item, f"{ITEMS}[{position}]")
        for position, item in enumerate(body.product_order_item)
    )


def composed(order: ProductOrder, items: Sequence[ProductOrderItem]) -> orders_pb2.ProductOrder:
    """The order with its items, as one resource."""
    message = convert.to_message(order, orders_pb2.ProductOrder)
    message.product_order_item.extend(
        convert.to_message(item, orders_pb2.ProductOrderItem) for item in assembled(items)
    )
    return message


def _replies(unit: Unit, orders: Sequence[ProductOrder]) -> Sequence[orders_pb2.ProductOrder]:
    items = store.items_by_order(unit, [order.id for order in orders])
    return [composed(order, items.get(order.id, ())) for order in orders]


def _deleting(unit: Unit, order: ProductOrder) -> None:
    order.require_deletable()
    if order.state in UNSTARTED:
        withdraw(unit, order, "deleted")
    for item in store.items_of(unit, order.id):
        unit.delete(item)
    unit.session.execute(sa.delete(store.order_receipt).where(store.order_receipt.c.product_order_id == order.id))


class Orders(StandardMethods):
    """TMF622."""

    def __init__(self, database: Database, capture: Capture) -> None:
        self._database = database
        self._capture = capture
        self._orders = Collection(
            database,
            ProductOrder,
            orders_pb2.ProductOrder,
            deleting=_deleting,
            replies=_replies,
            elsewhere=store.conditions_on_items,
        )
        super().__init__(
            orders_pb2.DESCRIPTOR.services_by_name["OrderService"],
            self._orders,
            Collection(database, CancelProductOrder, orders_pb2.CancelProductOrder, creating=_cancellation_wanted),
        )

    def GetProductOrder(self, request: requests_pb2.GetRequest, context: Any) -> orders_pb2.ProductOrder:
        """The order with its items, as they are or as they were."""
        if not request.HasField("at"):
            return self._orders.get(request)
        at = convert.from_timestamp(request.at)
        order = self._database.history(ProductOrder, request.id, at)
        assert isinstance(order, orders_pb2.ProductOrder)
        items = [
            convert.from_message(row, ProductOrderItem, id=row.id, branch=row.branch)
            for row in self._database.histories(ProductOrderItem, request.id, at)
            if isinstance(row, orders_pb2.OrderedItem)
        ]
        order.product_order_item.extend(
            convert.to_message(item, orders_pb2.ProductOrderItem) for item in assembled(items)
        )
        return order

    def GetProductOrderReceipt(self, request: requests_pb2.GetRequest, context: Any) -> receipt_pb2.Receipt:
        """Why the order costs what it costs; raises NotFound for an order that nothing was priced in."""
        with self._database.unit() as unit:
            unit.get(ProductOrder, request.id)
            receipt = store.receipt_of(unit, request.id)
        if receipt is None:
            raise NotFound("NO_RECEIPT", f"nothing was priced in order {request.id}")
        return receipt_pb2.Receipt.FromString(receipt)

    def CreateProductOrder(
        self, request: orders_pb2.CreateProductOrderRequest, context: Any
    ) -> orders_pb2.ProductOrder:
        """Takes an order: validated, priced, durable; it goes on by itself."""
        remembered = self._database.remembered(request, orders_pb2.ProductOrder)
        if remembered is not None:
            return remembered
        self._orders.require(request.product_order, [ITEMS])
        branch = self._database.branch_for_create(ProductOrder, request.branch)
        wanted = _wanted_items(request.product_order)
        check_items(wanted)
        captured = self._capture.capture(
            convert.from_message(request.product_order, ProductOrder, id=new_id(), branch=branch), wanted
        )

        def work(unit: Unit) -> orders_pb2.ProductOrder:
            order = convert.from_message(request.product_order, ProductOrder, id=new_id(), branch=branch)
            order.check(unit.at)
            unit.add(order)
            return composed(order, self._place(unit, order, captured))

        return self._database.transact(request, orders_pb2.ProductOrder, work)

    def UpdateProductOrder(
        self, request: orders_pb2.UpdateProductOrderRequest, context: Any
    ) -> orders_pb2.ProductOrder:
        """Changes an order; its items only before anything has been done for them."""
        remembered = self._database.remembered(request, orders_pb2.ProductOrder)
        if remembered is not None:
            return remembered
        paths = list(request.update_mask.paths)
        new_items = any(path.split(".")[0] == ITEMS for path in paths)
        wanted = _wanted_items(request.product_order)
        if new_items:
            check_items(wanted)
        captured = self._recaptured(request, paths, wanted) if new_items else None

        def work(unit: Unit) -> orders_pb2.ProductOrder:
            order = unit.get(ProductOrder, request.product_order.id, request.etag)
            changes = convert.changes(request.product_order, paths, order)
            state = changes.pop("state", None)
            if captured is not None and order.state not in UNSTARTED:
                raise FailedPrecondition(
                    "ORDER_STARTED", f"the items of an order that is {str(order.state)!r} can't be replaced"
                )
            order.revise(changes, unit.at)
            if captured is not None:
                for item in store.items_of(unit, order.id):
                    unit.delete(item)
                self._place(unit, order, captured)
            elif order.state is ProductOrderState.PENDING and changes:
                set_timer(unit, order.id, ADVANCE, unit.at, order.branch)
            if state is not None and state is not order.state:
                self._by_request(unit, order, state)
            return self._orders.reply(unit, order)

        return self._database.transact(request, orders_pb2.ProductOrder, work)

    def _recaptured(
        self, request: orders_pb2.UpdateProductOrderRequest, paths: Sequence[str], wanted: Sequence[OrderItem]
    ) -> Captured:
        with self._database.unit() as unit:
            order = unit.get(ProductOrder, request.product_order.id, request.etag)
            unit.session.expunge(order)
        changed = convert.changes(request.product_order, paths, order)
        changed.pop("state", None)
        order.revise(changed, self._database.clock.now())
        return self._capture.capture(order, wanted)

    @staticmethod
    def _by_request(unit: Unit, order: ProductOrder, state: ProductOrderState) -> None:
        if state is ProductOrderState.CANCELLED:
            withdraw(unit, order, "cancelled on request")
        else:
            order.revise({"state": state}, unit.at)

    @staticmethod
    def _place(unit: Unit, order: ProductOrder, captured: Captured) -> list[ProductOrderItem]:
        """Adds the items, what is missing and the receipt, and sets the order going."""
        items = rows(order, captured.items, _ids())
        for item in items:
            item.charge = captured.charges.get(item.item.id or "", ())
            unit.add(item)
        if not order.order_total_price:
            order.order_total_price = captured.total
        store.wait_for(unit, order, captured.missing)
        if captured.receipt is not None:
            store.keep_receipt(unit, order, captured.receipt)
        begins = unit.at if captured.missing else max(unit.at, order.requested_start_date or unit.at)
        set_timer(unit, order.id, ADVANCE, begins, order.branch)
        return items


def _cancellation_wanted(unit: Unit, task: CancelProductOrder) -> None:
    order_id = task.product_order.id if task.product_order is not None else None
    order = unit.find(ProductOrder, order_id) if order_id else None
    if order is None or order.branch != task.branch:
        raise InvalidArgument(
            "UNKNOWN_ORDER",
            f"there is no product order {order_id!r}",
            violations=[Violation("cancel_product_order.product_order.id", "unknown")],
        )
    set_timer(unit, task.id, CANCEL, unit.at, task.branch)
