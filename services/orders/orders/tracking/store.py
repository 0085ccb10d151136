"""The table of the moves of promised dates, and an order's log as its customer is told of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from chassis import convert
from chassis.schema import Resource, aggregate_table
from chassis.timers import set_timer_by
from chassis.types import EPOCH, Aggregate, new_id
from chassis.unit import Unit
from orders.amendment.domain import ProductOrderAmendment
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.steps import PROVISION
from orders.ordering.domain import UNDER_WAY, CancelProductOrder, ProductOrder, ProductOrderItem
from orders.ordering.store import cancellations_of
from orders.schema import metadata
from orders.tracking.domain import PromisedDateChange, PromiseReason
from orders.tracking.milestones import Logged
from svyaz.orders.v1 import amendment_pb2, fulfilment_pb2, orders_pb2, tracking_pb2

promised_date_change = aggregate_table(
    metadata,
    "promised_date_change",
    PromisedDateChange,
    sa.Index("promised_date_change_product_order_id", "product_order_id", "branch"),
)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    PromisedDateChange: Resource(tracking_pb2.PromisedDateChange, promised_date_change)
}


def keep_move(
    unit: Unit,
    order: ProductOrder,
    item: ProductOrderItem | None,
    before: datetime | None,
    reason: PromiseReason,
    explanation: str = "",
) -> None:
    """Keeps that the date of the order, or of an item of it, is another now; an order that is being carried out looks
    at once whether it will be late."""
    unit.add(
        PromisedDateChange(
            id=new_id(),
            branch=order.branch,
            product_order_id=order.id,
            order_item_id=item.item.id if item is not None else None,
            old_date=before,
            new_date=(item or order).expected_completion_date,
            reason=reason,
            explanation=explanation.strip() or None,
            moved_by=unit.call.principal.subject,
            moved_at=unit.at,
        )
    )
    if order.state in UNDER_WAY:
        set_timer_by(unit, order.id, PROVISION, unit.at, order.branch)


def changes_of(unit: Unit, order_ids: Sequence[str]) -> list[str]:
    """The ids of all moves of promised dates of these orders."""
    query = "SELECT id FROM promised_date_change WHERE product_order_id = ANY (%(orders)s) ORDER BY id"
    return [row[0] for row in unit.cursor().execute(query, {"orders": list(order_ids)})] if order_ids else []


# --- the log ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Position:
    """Where in an order's log a page ends: behind the entry of that time, rank and id."""

    time: datetime = EPOCH
    rank: int = 0
    id: str = ""


_TOLD: Mapping[str, tuple[type[Aggregate], type[Any]]] = {
    "ProductOrder": (ProductOrder, orders_pb2.ProductOrder),
    "ProductOrderItem": (ProductOrderItem, orders_pb2.OrderedItem),
    "CancelProductOrder": (CancelProductOrder, orders_pb2.CancelProductOrder),
    "FulfilmentTask": (FulfilmentTask, fulfilment_pb2.FulfilmentTask),
    "ProductOrderAmendment": (ProductOrderAmendment, amendment_pb2.ProductOrderAmendment),
    "PromisedDateChange": (PromisedDateChange, tracking_pb2.PromisedDateChange),
}
_CHANGES = ("Create", "StateChange", "InformationRequired")
# Of what happens in one transaction the order comes last: it is complete once its items are.
_LOG = """
    SELECT id, time, type, aggregate_type, aggregate_id, branch, data, rank FROM (
        SELECT id, time, type, aggregate_type, aggregate_id, branch, data,
            CASE aggregate_type WHEN 'ProductOrder' THEN 1 ELSE 0 END AS rank
        FROM event
        WHERE ordering_key = ANY (%(keys)s) AND aggregate_type = ANY (%(told)s) AND type = ANY (%(types)s)
    ) AS entry
    WHERE (time, rank, id) > (%(time)s, %(rank)s, %(id)s)
    ORDER BY time, rank, id LIMIT %(limit)s
"""


def log_of(unit: Unit, order_id: str, after: Position, limit: int) -> tuple[list[Logged], Position | None]:
    """The entries of an order's log behind a position that its customer may be told of, and where the page ends; None:
    the log ends with it."""
    values = {
        "keys": [order_id, *cancellations_of(unit, [order_id])],
        "told": list(_TOLD),
        "types": [f"{name}{change}Event" for name in _TOLD for change in _CHANGES],
        "time": after.time,
        "rank": after.rank,
        "id": after.id,
        "limit": limit + 1,
    }
    rows = unit.cursor().execute(_LOG, values).fetchall()
    found = [_logged(*row[1:7]) for row in rows[:limit]]
    if len(rows) <= limit:
        return found, None
    entry, time, *_, rank = rows[limit - 1]
    return found, Position(time, rank, entry)


def _logged(time: datetime, type: str, aggregate_type: str, aggregate_id: str, branch: str, data: bytes) -> Logged:
    cls, message = _TOLD[aggregate_type]
    change = type.removeprefix(aggregate_type).removesuffix("Event")
    aggregate = convert.from_message(message.FromString(data), cls, id=aggregate_id, branch=branch)
    return Logged(time, change, aggregate)
