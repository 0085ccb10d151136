"""What can be asked of product orders."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from google.protobuf.message import Message

from chassis import calls, convert
from chassis.aliases import AliasedCollection
from chassis.db import Database
from chassis.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, Unavailable, Violation
from chassis.resources import Collection, StandardMethods
from chassis.timers import set_timer
from chassis.types import Money, new_id
from chassis.unit import Unit
from orders.amendment.plan import AMENDABLE, AmendmentPlan, amendment_plan, same_offering, unexpanded
from orders.amendment.steps import amend
from orders.fulfilment.store import delete_tasks
from orders.identity.store import same
from orders.inventory.store import with_parts
from orders.ordering import store
from orders.ordering.capture import Capture, Captured
from orders.ordering.chosen import Products
from orders.ordering.coupons import Coupons
from orders.ordering.domain import (
    FINAL,
    UNSTARTED,
    CancelProductOrder,
    PriceReceipt,
    ProductOrder,
    ProductOrderItem,
    assembled,
    check_coupons,
    check_items,
    product_ids,
)
from orders.ordering.fulfilment import CANCEL, PROMISED, give_up
from orders.ordering.handover import as_taken_over, check_transferor
from orders.ordering.placing import keep_anew, place, set_going
from orders.ordering.statuses import require_possible
from orders.ordering.values import OrderItem, ProductOrderState
from orders.ordering.withdrawal import withdraw
from orders.tracking.domain import LONGEST_EXPLANATION, PromiseReason
from orders.tracking.store import keep_move
from svyaz.orders.v1 import orders_pb2
from svyaz.type.v1 import receipt_pb2, requests_pb2

ITEMS = "product_order_item"
# Who pays, for whom, by which contract and channel: whether an order can be carried out, and what it costs, hangs on
# these as on its items.
DECISIVE = frozenset({"billing_account", "related_party", "agreement", "channel"})
# After so long an order that was to be has become one, or won't: coupons are redeemed within half of it.
PROMISE = timedelta(minutes=2)
# How often the new version of an order is priced that goes on meanwhile.
AMENDING_ATTEMPTS = 3


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
    delete_tasks(unit, order.id)
    receipt = unit.find(PriceReceipt, order.id)
    if receipt is not None:
        unit.delete(receipt)


@dataclass(frozen=True)
class _Read:
    """An order as a request would leave it, and its items as they are; neither of the database any more."""

    wanted: ProductOrder
    items: Sequence[ProductOrderItem]
    # As it was before.
    priced_for: tuple[object, ...]

    def require_unchanged(self, order: ProductOrder, items: Sequence[ProductOrderItem]) -> None:
        """Raises Aborted CONFLICT when what was priced isn't what is there by now."""
        known = (self.wanted.revision, [item.id for item in self.items])
        if known != (order.revision, [item.id for item in items]):
            raise Aborted("CONFLICT", "the order has been changed while it was priced: try again")


class Orders(StandardMethods):
    """TMF622."""

    def __init__(self, database: Database, capture: Capture, coupons: Coupons) -> None:
        self._database = database
        self._capture = capture
        self._coupons = coupons
        self._orders = AliasedCollection(
            database,
            ProductOrder,
            orders_pb2.ProductOrder,
            aliases=same,
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
        return remembered if remembered is not None else self.take(request, request.branch, request.product_order)

    def take(self, request: Message, branch: str, body: orders_pb2.ProductOrder) -> orders_pb2.ProductOrder:
        """Takes the order that a request asks for, once; the request itself may be of another kind."""
        self._orders.require(body, [ITEMS])
        branch = self._database.branch_for_create(ProductOrder, branch)
        wanted = _wanted_items(body)
        check_items(wanted)
        check_transferor(_wanted(body, "", branch))
        if body.coupon:
            return self._take_with_coupons(request, branch, body, wanted)
        captured = self._captured(_wanted(body, new_id(), branch), wanted)

        def work(unit: Unit) -> orders_pb2.ProductOrder:
            return _taken(unit, _wanted(body, new_id(), branch), captured)

        return self._database.transact(request, orders_pb2.ProductOrder, work)

    def draft(self, branch: str, body: orders_pb2.ProductOrder) -> tuple[orders_pb2.ProductOrder, Captured]:
        """The order as it would be kept, and what was found for it; nothing is."""
        branch = self._database.branch_for_create(ProductOrder, branch)
        wanted = _wanted_items(body)
        check_items(wanted)
        order = _wanted(body, "", branch)
        check_transferor(order)
        captured = self._captured(order, wanted)
        order.order_total_price = order.order_total_price or captured.total
        message = convert.to_message(order, orders_pb2.ProductOrder)
        message.product_order_item.extend(
            convert.to_message(item, orders_pb2.ProductOrderItem) for item in captured.items
        )
        return message, captured

    def _take_with_coupons(
        self, request: Message, branch: str, body: orders_pb2.ProductOrder, wanted: Sequence[OrderItem]
    ) -> orders_pb2.ProductOrder:
        """Redeems the coupons before the order is kept, and promises before that to see what became of it: whoever
        dies on the way leaves a timer that gives them back, and the same request goes on with the same order.

        Raises Unavailable COUPONS_GIVEN_BACK when that took so long that the promise has been kept meanwhile.
        """
        check_coupons(body.coupon)
        until = time.monotonic() + PROMISE.total_seconds() / 2
        with self._database.unit() as unit:
            order_id = store.promise(unit, branch, _hash_of(request))
            set_timer(unit, order_id, PROMISED, unit.at + PROMISE, branch)
        # Had the request become an order before it was promised, its promise would have ended.
        remembered = self._database.remembered(request, orders_pb2.ProductOrder)
        if remembered is not None:
            return remembered

        def work(unit: Unit) -> orders_pb2.ProductOrder:
            if store.end_promise(unit, order_id) is None:
                raise Unavailable(
                    "COUPONS_GIVEN_BACK", "the order has been taken by another, or too late: send it again"
                )
            return _taken(unit, _wanted(body, order_id, branch), captured)

        try:
            order = _wanted(body, order_id, branch)
            captured = self._captured(order, wanted)
            self._coupons.redeem(order, captured.customer_ids, until)
            return self._database.transact(request, orders_pb2.ProductOrder, work)
        except (InvalidArgument, FailedPrecondition):
            with self._database.unit() as unit:
                give_up(unit, order_id)
            raise
        except Unavailable as error:
            # The same request at the same time: whoever was first has its order.
            remembered = self._database.remembered(request, orders_pb2.ProductOrder)
            if error.reason != "COUPONS_GIVEN_BACK" or remembered is None:
                raise
            return remembered

    def UpdateProductOrder(
        self, request: orders_pb2.UpdateProductOrderRequest, context: Any
    ) -> orders_pb2.ProductOrder:
        """Changes an order; its items also while it is carried out, as long as undoing costs nothing."""
        return self.update(request, ())

    def update(
        self, request: orders_pb2.UpdateProductOrderRequest, accepted: Sequence[Money]
    ) -> orders_pb2.ProductOrder:
        """Changes an order; where it has begun, what is done otherwise is undone, at the cost that is accepted."""
        remembered = self._database.remembered(request, orders_pb2.ProductOrder)
        if remembered is not None:
            return remembered
        for attempt in range(AMENDING_ATTEMPTS):
            try:
                return self._updated(request, accepted)
            except Aborted as error:
                # It went on while its new version was priced.
                if error.reason != "CONFLICT" or request.etag or attempt == AMENDING_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def preview(self, request: orders_pb2.UpdateProductOrderRequest) -> tuple[ProductOrder, Captured, AmendmentPlan]:
        """What an order's new version comes to; nothing is changed. Raises what `update` would, but for the cost."""
        paths = list(request.update_mask.paths)
        wanted = _wanted_items(request.product_order)
        check_items(wanted)
        read = self._as_read(request, paths)
        captured = self._captured(read.wanted, unexpanded(wanted, read.items), read.items)
        with self._database.unit() as unit:
            order = unit.get(ProductOrder, request.product_order.id, request.etag)
            plan = amendment_plan(unit, order, captured)
            unit.session.expunge_all()
        return read.wanted, captured, plan

    def _updated(
        self, request: orders_pb2.UpdateProductOrderRequest, accepted: Sequence[Money]
    ) -> orders_pb2.ProductOrder:
        paths = list(request.update_mask.paths)
        named = {path.split(".")[0] for path in paths}
        wanted = _wanted_items(request.product_order)
        if ITEMS in named:
            check_items(wanted)
        captured, missing, read = None, None, None
        if ITEMS in named:
            read = self._as_read(request, paths)
            captured = self._captured(read.wanted, unexpanded(wanted, read.items), read.items)
        elif named & DECISIVE:
            read = self._as_read(request, paths)
            products, quantities = self._held(read.wanted, assembled(read.items))
            if read.priced_for != read.wanted.priced_for and read.wanted.state in UNSTARTED:
                before = partial(self._orders_before, read.wanted)
                captured = self._capture.recapture(read.wanted, read.items, products, quantities, before)
            else:
                standing = self._capture.standing(read.wanted, read.items, products)
                standing.check()
                missing = standing.missing

        def work(unit: Unit) -> orders_pb2.ProductOrder:
            order = unit.get(ProductOrder, request.product_order.id, request.etag)
            if captured is not None and read is not None:
                read.require_unchanged(order, store.items_of(unit, order.id))
            changes = convert.changes(request.product_order, paths, order)
            state = changes.pop("state", None)
            _require_unstarted(order, changes, ITEMS in named)
            total = "order_total_price" not in changes
            _revise(unit, order, changes)
            if captured is not None and order.state not in UNSTARTED:
                amend(unit, order, amendment_plan(unit, order, captured), accepted, total=total)
            elif captured is not None:
                keep_anew(unit, order, captured, total=total)
                store.wait_for(unit, order, captured.missing)
                set_going(unit, order, captured.missing)
            elif order.state in UNSTARTED and changes:
                if missing is not None:
                    store.wait_for(unit, order, missing)
                set_going(unit, order, store.awaited_by(unit, order.id))
            if state is not None and state is not order.state:
                self._by_request(unit, order, state)
            return self._orders.reply(unit, order)

        return self._database.transact(request, orders_pb2.ProductOrder, work)

    def _as_read(self, request: orders_pb2.UpdateProductOrderRequest, paths: Sequence[str]) -> "_Read":
        with self._database.unit() as unit:
            order = unit.get(ProductOrder, request.product_order.id, request.etag)
            items = store.items_of(unit, order.id)
            unit.session.expunge_all()
        priced_for = order.priced_for
        changes = convert.changes(request.product_order, paths, order)
        changes.pop("state", None)
        order.revise(changes, self._database.clock.now())
        return _Read(order, items, priced_for)

    def _captured(
        self, order: ProductOrder, wanted: Sequence[OrderItem], before: Sequence[ProductOrderItem] = ()
    ) -> Captured:
        products, quantities = self._held(order, wanted)
        require_possible(wanted, products, self._database.clock.now())
        # Items of an order that has begun stay with the version that was ordered.
        begun = order.state not in (None, *UNSTARTED)
        return self._capture.capture(
            order,
            wanted,
            products,
            quantities,
            exact=same_offering(wanted, before) if begun else (),
            orders_before=partial(self._orders_before, order),
        )

    def _orders_before(self, order: ProductOrder, customer_ids: Sequence[str]) -> int | None:
        with self._database.unit() as unit:
            return store.orders_before(unit, order, customer_ids)

    def _held(self, order: ProductOrder, items: Sequence[OrderItem]) -> tuple[Products, Mapping[str, int]]:
        """The products that the items name, and how many those of bundles are."""
        wanted = product_ids(items)
        if not wanted:
            return {}, {}
        with self._database.unit() as unit:
            products = as_taken_over(unit, order, items, with_parts(unit, wanted))
            return products, store.quantities(unit, products)

    @staticmethod
    def _by_request(unit: Unit, order: ProductOrder, state: ProductOrderState) -> None:
        if state is ProductOrderState.CANCELLED:
            withdraw(unit, order, "cancelled on request")
        else:
            order.revise({"state": state}, unit.at)


def _wanted(body: orders_pb2.ProductOrder, order_id: str, branch: str) -> ProductOrder:
    return convert.from_message(body, ProductOrder, id=order_id, branch=branch)


def _taken(unit: Unit, order: ProductOrder, captured: Captured) -> orders_pb2.ProductOrder:
    order.check(unit.at)
    unit.add(order)
    return composed(order, place(unit, order, captured))


def _hash_of(request: Message) -> bytes | None:
    """What is the same when the caller sends the request again; None: that can't be told."""
    if not getattr(request, "request_id", ""):
        return None
    principal = calls.current().principal
    whose = f"{principal.subject} {principal.branch_setting} ".encode()
    return hashlib.sha256(whose + request.SerializeToString(deterministic=True)).digest()


def _revise(unit: Unit, order: ProductOrder, changes: Mapping[str, Any]) -> None:
    """Takes a caller's changes; a promised date that they move is kept with what he says of it."""
    promised, why = order.expected_completion_date, order.new_words(changes.get("note", ()))
    order.revise(changes, unit.at)
    if promised is not None and order.expected_completion_date != promised:
        keep_move(unit, order, None, promised, PromiseReason.OTHER, why[:LONGEST_EXPLANATION])


def _require_unstarted(order: ProductOrder, changes: Mapping[str, Any], new_items: bool) -> None:
    changed = {name for name in DECISIVE & changes.keys() if changes[name] != getattr(order, name)}
    if (changed or (new_items and order.state not in AMENDABLE)) and order.state not in (*UNSTARTED, *FINAL):
        what = "items" if not changed else " and ".join(sorted(changed))
        raise FailedPrecondition("ORDER_STARTED", f"the {what} of an order that is {str(order.state)!r} can't change")


def _cancellation_wanted(unit: Unit, task: CancelProductOrder) -> None:
    order_id = task.product_order.id if task.product_order is not None else None
    order = unit.find(ProductOrder, order_id) if order_id else None
    if order is None or order.branch != task.branch:
        raise InvalidArgument(
            "UNKNOWN_ORDER",
            f"there is no product order {order_id!r}",
            violations=[Violation("cancel_product_order.product_order.id", "unknown")],
        )
    set_timer(unit, task.id, CANCEL, max(unit.at, task.requested_cancellation_date or unit.at), task.branch)
