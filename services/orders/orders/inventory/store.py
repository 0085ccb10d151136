"""The table of products, and the questions asked of it."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from chassis.db import Resource, Unit, aggregate_table
from chassis.types import Aggregate
from orders.inventory.domain import Product
from orders.schema import metadata
from svyaz.orders.v1 import inventory_pb2

product = aggregate_table(metadata, "product", Product)

RESOURCES: Mapping[type[Aggregate], Resource] = {Product: Resource(inventory_pb2.Product, product)}


# The orders themselves are the ordering's.
_ORDERS = "SELECT id FROM product_order WHERE id = ANY (%(ids)s) ORDER BY id"


def orders_among(unit: Unit, ids: Iterable[str]) -> list[str]:
    """Which of these are ids of orders."""
    wanted = list(ids)
    return [row[0] for row in unit.cursor().execute(_ORDERS, {"ids": wanted})] if wanted else []


def origin_before(product: Product) -> set[str]:
    """The orders that a product had before this transaction changed it."""
    history = sa.inspect(product).attrs["product_order_item"].history
    before = (history.deleted or history.unchanged or ((),))[0]
    return {item.product_order_id for item in before or () if item.product_order_id}


def with_parts(unit: Unit, ids: Iterable[str]) -> dict[str, Product]:
    """The products with everything that they bundle, by id; those that don't exist are left out."""
    found: dict[str, Product] = {}
    asked: set[str] = set()
    wanted = set(ids)
    while wanted:
        asked |= wanted
        level = unit.session.scalars(sa.select(Product).where(product.c.id.in_(wanted))).all()
        found |= {one.id: one for one in level}
        wanted = {part for one in level for part in one.part_ids} - asked
    return found
