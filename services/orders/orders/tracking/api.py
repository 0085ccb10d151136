"""What can be asked of how an order goes."""

from datetime import datetime
from typing import Any

from chassis import convert
from chassis.db import Database
from chassis.errors import InvalidArgument, Violation
from chassis.resources import Collection, StandardMethods
from chassis.unit import Unit
from orders.ordering import store as ordering
from orders.ordering.api import composed
from orders.ordering.domain import ProductOrder
from orders.ordering.values import ProductOrderState
from orders.tracking import store
from orders.tracking.domain import PromisedDateChange, PromiseReason, check_reason, moved
from orders.tracking.milestones import OrderEvent, OrderEventKind, milestones
from orders.tracking.wording import place_of, said, state_said
from svyaz.orders.v1 import orders_pb2, tracking_pb2

_REASON = convert.enum_prefix(tracking_pb2.PromiseReason.DESCRIPTOR)
_KIND = convert.enum_prefix(tracking_pb2.OrderEventKind.DESCRIPTOR)
_STATE = convert.enum_prefix(orders_pb2.ProductOrderState.DESCRIPTOR)
USUAL_LIMIT, MOST_STEPS = 200, 1000


class Tracking(StandardMethods):
    """Milestones and promised dates: one answer for the customer and for whoever speaks with him."""

    def __init__(self, database: Database) -> None:
        self._database = database
        super().__init__(
            tracking_pb2.DESCRIPTOR.services_by_name["OrderTrackingService"],
            Collection(database, PromisedDateChange, tracking_pb2.PromisedDateChange),
        )

    def ListOrderEvents(
        self, request: tracking_pb2.ListOrderEventsRequest, context: Any
    ) -> tracking_pb2.ListOrderEventsResponse:
        """The order's milestones, oldest first. Raises NotFound, InvalidArgument LIMIT, UNSUPPORTED_LANGUAGE, AFTER."""
        place = place_of(request.language)
        limit = request.limit if request.HasField("limit") else USUAL_LIMIT
        if not 1 <= limit <= MOST_STEPS:
            why = f"from 1 to {MOST_STEPS:,}"
            raise InvalidArgument("LIMIT", "a page has its limits", violations=[Violation("limit", why)])
        after, before = _position(request.after)
        with self._database.unit() as unit:
            order = unit.get(ProductOrder, request.product_order_id)
            log, end = store.log_of(unit, order.id, after, limit)
            found, state = milestones(log, before)
            assert order.state is not None
            return tracking_pb2.ListOrderEventsResponse(
                product_order_id=order.id,
                state=orders_pb2.ProductOrderState.Value(_STATE + order.state.name),
                state_words=state_said(order.state, place),
                expected_completion_date=_instant(order.expected_completion_date),
                event=[_message(event, place) for event in found],
                next=_token(end, state) if end is not None else "",
            )

    def MovePromisedDate(self, request: tracking_pb2.MovePromisedDateRequest, context: Any) -> orders_pb2.ProductOrder:
        """Promises another date. Raises NotFound, FailedPrecondition ORDER_CLOSED, ITEM_DONE, PROMISED_LATER,
        InvalidArgument DATE, REASON."""
        reason = _reason(request.reason)
        check_reason(reason, request.explanation)
        if not request.HasField("date"):
            raise InvalidArgument("DATE", "to what date it moves", violations=[Violation("date", "required")])
        date = convert.from_timestamp(request.date)

        def work(unit: Unit) -> orders_pb2.ProductOrder:
            order = unit.get(ProductOrder, request.product_order_id, request.etag)
            items = ordering.items_of(unit, order.id)
            assert reason is not None
            for row, before in moved(order, items, request.order_item_id or None, date, unit.at):
                store.keep_move(unit, order, row, before, reason, request.explanation)
            unit.flush()
            return composed(order, items)

        return self._database.transact(request, orders_pb2.ProductOrder, work)


def _reason(number: "tracking_pb2.PromiseReason.ValueType") -> PromiseReason | None:
    if not number:
        return None
    return PromiseReason[tracking_pb2.PromiseReason.Name(number).removeprefix(_REASON)]


def _instant(value: datetime | None) -> Any:
    return convert.to_timestamp(value) if value is not None else None


def _message(event: OrderEvent, place: int) -> tracking_pb2.OrderEvent:
    told = tracking_pb2.OrderEvent(
        time=_instant(event.time),
        kind=tracking_pb2.OrderEventKind.Value(_KIND + OrderEventKind(event.kind).name),
        order_item_id=event.order_item_id,
        name=event.name,
        words=said(event, place),
        promised_date=_instant(event.promised_date),
        previous_promised_date=_instant(event.previous_promised_date),
    )
    if event.reason is not None:
        told.reason = tracking_pb2.PromiseReason.Value(_REASON + event.reason.name)
    return told


# --- pages -----------------------------------------------------------------------------------------------------------


def _token(end: store.Position, state: ProductOrderState | None) -> str:
    return " ".join((end.time.isoformat(), str(end.rank), end.id, str(state or "")))


def _position(token: str) -> tuple[store.Position, ProductOrderState | None]:
    """Raises InvalidArgument AFTER for what isn't the `next` of a page."""
    if not token:
        return store.Position(), None
    try:
        time, rank, entry, state = token.split(" ")
        at = datetime.fromisoformat(time)
        if at.tzinfo is None or len(rank) > 1:
            raise ValueError(token)
        return store.Position(at, int(rank), entry), ProductOrderState(state) if state else None
    except ValueError as error:
        violations = [Violation("after", "not the `next` of another page")]
        raise InvalidArgument("AFTER", "there is no such page", violations=violations) from error
