"""What is asked of the log, the orders and the products together."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from chassis import convert
from chassis.errors import FailedPrecondition
from chassis.products import PriceReceiptRef, ProductSuspension
from chassis.unit import Unit, missing
from orders.inventory.domain import Product
from orders.lifecycle.history import Version
from orders.ordering.domain import ProductOrder, ProductOrderItem
from orders.ordering.store import items_by_order
from svyaz.orders.v1 import inventory_pb2

MOST_IN_A_TREE = 1_000

_VERSIONS = """
    SELECT version, time, type, actor, on_behalf_of, branch, data FROM event
    WHERE aggregate_id = %(id)s AND aggregate_type = 'Product' AND version >= %(first)s
    ORDER BY version LIMIT %(most)s
"""
_AT = """
    SELECT DISTINCT ON (aggregate_id) aggregate_id, type, branch, data FROM event
    WHERE aggregate_id = ANY (%(ids)s) AND aggregate_type = 'Product' AND time <= %(at)s
    ORDER BY aggregate_id, version DESC
"""
_CATEGORIES = "SELECT id, category FROM product_order WHERE id = ANY (%(ids)s)"


def versions(unit: Unit, product_id: str, first: int, most: int) -> list[Version]:
    """Versions of a product as its events told of them, from one on."""
    with unit.cursor() as cursor:
        rows = cursor.execute(_VERSIONS, {"id": product_id, "first": first, "most": most}).fetchall()
    return [
        Version(
            number=number,
            at=at,
            type=type_,
            actor=actor,
            on_behalf_of=on_behalf_of or "",
            product=_product(product_id, branch, data),
        )
        for number, at, type_, actor, on_behalf_of, branch, data in rows
    ]


def _product(product_id: str, branch: str, data: bytes) -> Product:
    """A product of the log: what no caller may say, and is therefore left out of what is read, is ours there."""
    message = inventory_pb2.Product.FromString(data)
    product = convert.from_message(message, Product, id=product_id, branch=branch)
    product.suspension = tuple(convert.from_message(one, ProductSuspension) for one in message.suspension)
    product.status_order_id = message.status_order_id or None
    product.termination_order_id = message.termination_order_id or None
    product.resting_price = tuple(message.resting_price)
    product.product_price = tuple(
        replace(price, receipt=convert.from_message(told.receipt, PriceReceiptRef))
        if told.HasField("receipt")
        else price
        for price, told in zip(product.product_price, message.product_price, strict=True)
    )
    return product


def categories(unit: Unit, order_ids: Collection[str]) -> dict[str, str]:
    """The categories of orders that have one."""
    if not order_ids:
        return {}
    with unit.cursor() as cursor:
        rows = cursor.execute(_CATEGORIES, {"ids": sorted(order_ids)}).fetchall()
    return {key: category for key, category in rows if category}


def tree(unit: Unit, product_id: str, at: datetime | None) -> dict[str, Product]:
    """A product with everything below it, by id, as it is, or as it was at an instant.

    Raises FailedPrecondition TREE_TOO_LARGE.
    """
    found: dict[str, Product] = {}
    asked: set[str] = set()
    wanted = {product_id}
    while wanted:
        if len(asked | wanted) > MOST_IN_A_TREE:
            raise FailedPrecondition("TREE_TOO_LARGE", f"there are more than {MOST_IN_A_TREE:,} products in it")
        asked |= wanted
        level = _present(unit, wanted) if at is None else _past(unit, wanted, at)
        found |= {one.id: one for one in level}
        wanted = {part for one in level for part in one.part_ids} - asked
    return found


def _present(unit: Unit, ids: Collection[str]) -> Sequence[Product]:
    return unit.load(Product, "id = ANY (%(ids)s)", {"ids": sorted(ids)})


def _past(unit: Unit, ids: Collection[str], at: datetime) -> Sequence[Product]:
    with unit.cursor() as cursor:
        rows = cursor.execute(_AT, {"ids": sorted(ids), "at": at}).fetchall()
    return [_product(key, branch, data) for key, kind, branch, data in rows if kind != "ProductDeleteEvent"]


def past(unit: Unit, product_id: str, at: datetime) -> Product:
    """A product as it was; raises NotFound when it wasn't."""
    found = _past(unit, [product_id], at)
    if not found:
        raise missing(Product, product_id)
    return found[0]


def products_after(unit: Unit, after: str, most: int) -> list[Product]:
    """The next products after one, by id."""
    return unit.load(Product, "id > %(after)s ORDER BY id LIMIT %(most)s", {"after": after, "most": most})


def items_of_products(unit: Unit, products: Sequence[Product]) -> Mapping[str, list[ProductOrderItem]]:
    """By product the items that made it what it is, in the order in which they did."""
    orders = {one.product_order_id for each in products for one in each.product_order_item if one.product_order_id}
    by_order = items_by_order(unit, sorted(orders))
    return {
        each.id: [
            item
            for origin in each.product_order_item
            for item in by_order.get(origin.product_order_id or "", ())
            if item.product_id == each.id and item.item.id == origin.order_item_id
        ]
        for each in products
    }


def orders_after(unit: Unit, after: str, most: int) -> list[ProductOrder]:
    """The next orders after one, by id."""
    return unit.load(ProductOrder, "id > %(after)s ORDER BY id LIMIT %(most)s", {"after": after, "most": most})


def products_of(unit: Unit, ids: Collection[str]) -> dict[str, Product]:
    """Products by id, as far as they are there."""
    return {one.id: one for one in _present(unit, ids)} if ids else {}
