"""Tables of orders, and the questions asked of them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import sqlalchemy as sa

from chassis import queries
from chassis.errors import InvalidArgument, Violation
from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate, new_id
from chassis.unit import Unit
from orders.identity import relations
from orders.inventory.domain import Product
from orders.ordering.domain import LOST, CancelProductOrder, PriceReceipt, ProductOrder, ProductOrderItem
from orders.ordering.values import TaskState
from orders.schema import metadata
from svyaz.orders.v1 import orders_pb2
from svyaz.type.v1 import receipt_pb2, requests_pb2

_ITEMS = "product_order_item."

# What ProductOrder.customer_id says. A column rather than an index of the expression, which row-level security would
# keep from being used: only what can't leak is looked for before the policy.
_CUSTOMER = (
    "coalesce("
    """jsonb_path_query_first(related_party, '$[*] ? (@.role like_regex "^customer$" flag "i").id') #>> '{}', """
    """jsonb_path_query_first(related_party, '$[*] ? (@.at_referred_type == "Customer").id') #>> '{}')"""
)
product_order = aggregate_table(
    metadata,
    "product_order",
    ProductOrder,
    sa.Column("customer_id", sa.Text, sa.Computed(_CUSTOMER, persisted=True)),
    # Without the state, so that an order goes from one to the next without a write to any index.
    sa.Index("product_order_customer_id", "customer_id", "branch"),
    relations.index("product_order"),
)
product_order_item = aggregate_table(
    metadata,
    "product_order_item",
    ProductOrderItem,
    sa.Index("product_order_item_product_order_id", "product_order_id", "position"),
)
cancel_product_order = aggregate_table(
    metadata,
    "cancel_product_order",
    CancelProductOrder,
    sa.Column("product_order_id", sa.Text, sa.Computed("product_order ->> 'id'", persisted=True)),
    sa.Index("cancel_product_order_product_order_id", "product_order_id"),
)

# What pending orders wait for: the id of a customer or account that doesn't exist yet, or the name of what is absent.
order_wait = sa.Table(
    "order_wait",
    metadata,
    sa.Column("product_order_id", sa.Text, primary_key=True),
    sa.Column("awaited", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Index("order_wait_awaited", "awaited"),
)
price_receipt = aggregate_table(metadata, "price_receipt", PriceReceipt)
# Orders that are being taken with coupons: who asks for the same again goes on with the same order, and the uses of one
# that isn't here any more, and never became an order, have been given back.
coupon_promise = sa.Table(
    "coupon_promise",
    metadata,
    sa.Column("product_order_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    # Of the request that asks for it, when that can be told from others.
    sa.Column("request_hash", sa.LargeBinary),
    sa.Index("coupon_promise_request_hash", "request_hash", unique=True),
)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    ProductOrder: Resource(orders_pb2.ProductOrder, product_order),
    ProductOrderItem: Resource(orders_pb2.OrderedItem, product_order_item),
    CancelProductOrder: Resource(orders_pb2.CancelProductOrder, cancel_product_order),
    PriceReceipt: Resource(orders_pb2.PriceReceipt, price_receipt, spare="receipt"),
}


def cancellations_of(unit: Unit, order_ids: Sequence[str]) -> list[str]:
    """The ids of all requests to cancel one of the orders."""
    query = "SELECT id FROM cancel_product_order WHERE product_order_id = ANY (%(orders)s) ORDER BY id"
    return [row[0] for row in unit.cursor().execute(query, {"orders": list(order_ids)})] if order_ids else []


def open_cancellations(unit: Unit, order_id: str) -> list[CancelProductOrder]:
    """The requests to cancel an order that wait for its end."""
    return unit.load(
        CancelProductOrder,
        "product_order_id = %(order)s AND state = %(state)s ORDER BY id",
        {"order": order_id, "state": str(TaskState.IN_PROGRESS)},
    )


# In one order, so that two who want several wait for each other instead of deadlocking.
_LOCKED = "id = ANY (%(orders)s) ORDER BY id FOR NO KEY UPDATE"
_WAITS = """
    SELECT product_order_id, awaited FROM order_wait WHERE product_order_id = ANY (%(orders)s) ORDER BY 1, 2
"""
_RECEIPTS = "SELECT id, receipt FROM price_receipt WHERE id = ANY (%(orders)s)"


# More aren't counted: of whoever has so many no promotion asks which one it is.
MOST_ORDERS_COUNTED = 1_000
_ORDERS_BEFORE = f"""
    SELECT count(*) FROM (
        SELECT FROM product_order
        WHERE customer_id = ANY (%(customers)s) AND branch = %(branch)s AND id <> %(order)s
            AND order_date < %(before)s AND state <> ALL (%(lost)s)
        LIMIT {MOST_ORDERS_COUNTED}
    ) AS counted
"""  # noqa: S608 (a number of our own)


def orders_before(unit: Unit, order: ProductOrder, customer_ids: Sequence[str]) -> int | None:
    """How many orders of its customer (who has these ids) came before an order, of which something came or still may,
    up to MOST_ORDERS_COUNTED; None: it names no customer."""
    if not customer_ids:
        return None
    values = {
        "customers": list(customer_ids),
        "branch": order.branch,
        "order": order.id,
        "before": order.order_date or unit.at,
        "lost": sorted(LOST),
    }
    row = unit.cursor().execute(_ORDERS_BEFORE, values).fetchone()
    assert row is not None
    return int(row[0])


def read_ahead(unit: Unit, order_ids: Sequence[str], *, begun: bool) -> Mapping[str, Sequence[ProductOrderItem]]:
    """Reads several orders with all that carrying them on asks for, in as many statements as one takes; the functions
    below, and `unit.find`, then find it in the unit. The items by their orders. `begun`: what they wait for doesn't
    matter any more, what they were priced by does."""
    wanted = {"orders": list(order_ids)}
    # Held, since the unit itself lets go of what nobody uses.
    held: list[Aggregate] = list(unit.load(ProductOrder, _LOCKED, wanted))
    by_order = items_by_order(unit, order_ids)
    product_ids = [item.product_id for items in by_order.values() for item in items if item.product_id]
    if product_ids:
        held += unit.load(Product, "id = ANY (%(products)s)", {"products": product_ids})
    unit.known["read ahead"] = held
    with unit.cursor() as cursor:
        found = cursor.execute(_RECEIPTS if begun else _WAITS, wanted).fetchall()
    for order_id in order_ids:
        unit.known[_ITEMS, order_id] = by_order.get(order_id, [])
        own = [what for one, what in found if one == order_id]
        if begun:
            unit.known[_RECEIPTS, order_id] = own[0] if own else None
        else:
            unit.known[_WAITS, order_id] = own
    return by_order


def locked(unit: Unit, order_id: str) -> ProductOrder | None:
    """An order that nobody else changes until the unit's end; None, when there is none."""
    for one in unit.known.get("read ahead", ()):
        if one.id == order_id and isinstance(one, ProductOrder):
            return one
    return next(iter(unit.load(ProductOrder, _LOCKED, {"orders": [order_id]})), None)


def items_of(unit: Unit, order_id: str) -> list[ProductOrderItem]:
    """The items of an order, in their places; those added in this unit included once it has been flushed."""
    known: list[ProductOrderItem] | None = unit.known.get((_ITEMS, order_id))
    return known if known is not None else items_by_order(unit, [order_id]).get(order_id, [])


def forget_items(unit: Unit, order_id: str) -> None:
    """Reads the items anew when they are next asked for: there are others."""
    unit.known.pop((_ITEMS, order_id), None)


def delete_items(unit: Unit, order: ProductOrder) -> None:
    """Deletes what is going to be replaced."""
    for item in items_of(unit, order.id):
        unit.delete(item)
    for what in (_ITEMS, _RECEIPTS):
        unit.known.pop((what, order.id), None)


def items_by_order(unit: Unit, order_ids: Sequence[str]) -> dict[str, list[ProductOrderItem]]:
    """The items of several orders."""
    if not order_ids:
        return {}
    rows = unit.load(
        ProductOrderItem,
        "product_order_id = ANY (%(orders)s) ORDER BY product_order_id, position",
        {"orders": list(order_ids)},
    )
    return {order_id: list(items) for order_id, items in groupby(rows, key=lambda row: row.product_order_id)}


def conditions_on_items(
    filters: Sequence[requests_pb2.Filter],
) -> tuple[Sequence[requests_pb2.Filter], list[sa.ColumnElement[bool]]]:
    """The filters that aren't about items, and the conditions of those that are: one item must fulfil them together;
    with what finds the orders by an index, where there is one.

    Raises InvalidArgument naming the path of a malformed one.
    """
    others: list[requests_pb2.Filter] = []
    by_depth: dict[bool, list[requests_pb2.Filter]] = {}
    for condition in filters:
        rest = condition.path
        depth = 0
        while rest.startswith(_ITEMS):
            rest = rest.removeprefix(_ITEMS)
            depth += 1
        if not depth:
            others.append(condition)
            continue
        inner = requests_pb2.Filter(path=rest if rest == "state" else f"item.{rest}")
        inner.operator = condition.operator
        inner.value.extend(condition.value)
        by_depth.setdefault(depth > 1, []).append(inner)
    with_items = [_has_item(inside, conditions) for inside, conditions in by_depth.items()]
    return others, [*relations.conditions(product_order, others), *with_items]


def _has_item(inside: bool, conditions: Sequence[requests_pb2.Filter]) -> sa.ColumnElement[bool]:
    columns = product_order_item.c
    try:
        where = queries.conditions(product_order_item, orders_pb2.OrderedItem, conditions)
    except InvalidArgument as error:
        violations = [Violation(_ITEMS + v.field.removeprefix("item."), v.description) for v in error.violations]
        raise InvalidArgument(error.reason, error.message, violations=violations) from error
    place = columns.parent_id.is_not(None) if inside else columns.parent_id.is_(None)
    own = columns.product_order_id == product_order.c.id
    return sa.exists(sa.select(columns.id).where(own, place, *where).correlate(product_order))


_WAIT = """
    INSERT INTO order_wait (product_order_id, awaited, branch) VALUES (%(product_order_id)s, %(awaited)s, %(branch)s)
"""


def wait_for(unit: Unit, order: ProductOrder, awaited: Iterable[str]) -> bool:
    """Remembers what the order waits for now; whether that is something else than before."""
    before = set() if unit.adds(order) else set(awaited_by(unit, order.id))
    wanted = dict.fromkeys(awaited)
    gone = before - wanted.keys()
    unit.known.pop((_WAITS, order.id), None)
    if gone:
        own = order_wait.c.product_order_id == order.id
        unit.session.execute(sa.delete(order_wait).where(own, order_wait.c.awaited.in_(gone)))
    new = [what for what in wanted if what not in before]
    if new:
        unit.later(_WAIT, *({"product_order_id": order.id, "awaited": what, "branch": order.branch} for what in new))
    return bool(gone or new)


def stop_waiting(unit: Unit, order_id: str) -> None:
    """The order waits for nothing any more."""
    unit.known.pop((_WAITS, order_id), None)
    unit.session.execute(sa.delete(order_wait).where(order_wait.c.product_order_id == order_id))


def awaited_by(unit: Unit, order_id: str) -> Sequence[str]:
    """What the order waits for."""
    known: Sequence[str] | None = unit.known.get((_WAITS, order_id))
    if known is not None:
        return known
    with unit.cursor() as cursor:
        return [what for _, what in cursor.execute(_WAITS, {"orders": [order_id]})]


def waiting_for(unit: Unit, what: str) -> Sequence[tuple[str, str]]:
    """(id, branch) of the orders that wait for something."""
    rows = unit.session.execute(
        sa.select(order_wait.c.product_order_id, order_wait.c.branch).where(order_wait.c.awaited == what)
    )
    return [(row.product_order_id, row.branch) for row in rows]


_PROMISE = """
    INSERT INTO coupon_promise (product_order_id, branch, request_hash) VALUES (%(order)s, %(branch)s, %(request)s)
    ON CONFLICT (request_hash) DO UPDATE SET request_hash = excluded.request_hash RETURNING product_order_id
"""
_PROMISED = "DELETE FROM coupon_promise WHERE product_order_id = %(order)s RETURNING branch"


def promise(unit: Unit, branch: str, request_hash: bytes | None) -> str:
    """The id of the order that a request with coupons is to become: the same when it is sent again before it is one."""
    values = {"order": new_id(), "branch": branch, "request": request_hash}
    row = unit.cursor().execute(_PROMISE, values).fetchone()
    assert row is not None
    return str(row[0])


def end_promise(unit: Unit, order_id: str) -> str | None:
    """The branch of the order that was still to be, and isn't promised ever again; None: it isn't any more. Of those
    who end it at a time one does, the others wait for that."""
    row = unit.cursor().execute(_PROMISED, {"order": order_id}).fetchone()
    return str(row[0]) if row is not None else None


def keep_receipt(unit: Unit, order: ProductOrder, receipt: receipt_pb2.Receipt) -> None:
    """Keeps the pricing receipt of an order; a later one replaces it (the event log has both)."""
    encoded = receipt.SerializeToString()
    kept = None if unit.adds(order) else unit.find(PriceReceipt, order.id)
    if kept is None:
        kept = PriceReceipt(id=order.id, branch=order.branch)
        unit.add(kept)
    kept.receipt, kept.digest = encoded, hashlib.sha256(encoded).hexdigest()
    unit.known[_RECEIPTS, order.id] = encoded


def receipt_of(unit: Unit, order_id: str) -> bytes | None:
    """The pricing receipt of an order, if one has been kept."""
    if (_RECEIPTS, order_id) in unit.known:
        known: bytes | None = unit.known[_RECEIPTS, order_id]
        return known
    with unit.cursor() as cursor:
        row = cursor.execute(_RECEIPTS, {"orders": [order_id]}).fetchone()
    receipt: bytes | None = row[1] if row is not None else None
    unit.known[_RECEIPTS, order_id] = receipt
    return receipt


def quantity_of(unit: Unit, held: Product) -> int:
    """How many a product is: what the latest item that ordered or changed it said. 1, when none did."""
    for origin in reversed(held.product_order_item):
        rows = unit.session.scalars(
            sa.select(ProductOrderItem).where(product_order_item.c.product_order_id == origin.product_order_id)
        )
        for row in rows:
            if row.product_id == held.id and row.item.quantity is not None:
                return row.item.quantity
    return 1


def quantities(unit: Unit, held: Mapping[str, Product]) -> dict[str, int]:
    """How many each product is that has parts, or is one; the others aren't looked at."""
    bundles = [one for one in held.values() if any(part in held for part in one.part_ids)]
    concerned = {key for one in bundles for key in (one.id, *one.part_ids) if key in held}
    return {key: quantity_of(unit, held[key]) for key in sorted(concerned)}
