"""The table of products, and the questions asked of it."""

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from chassis.aliases import EQUALS
from chassis.resources import Conditions, Filters
from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from orders.identity import relations
from orders.inventory.domain import Product
from orders.inventory.suspension import SuspensionRule
from orders.schema import metadata
from svyaz.orders.v1 import inventory_pb2, lifecycle_pb2

_RULES = "suspension rules"


# Columns rather than indexes of expressions, which row-level security would keep from being used.
product = aggregate_table(
    metadata,
    "product",
    Product,
    sa.Column("product_offering_id", sa.Text, sa.Computed("product_offering ->> 'id'", persisted=True)),
    sa.Index("product_product_offering_id", "product_offering_id", "id"),
    # For a branch that has few of what all sell.
    sa.Index("product_offering_branch", "product_offering_id", "branch", "id"),
    sa.Index("product_status", "branch", "status", "id"),
    relations.index("product"),
)
suspension_rule = aggregate_table(metadata, "suspension_rule", SuspensionRule)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    Product: Resource(inventory_pb2.Product, product),
    SuspensionRule: Resource(lifecycle_pb2.SuspensionRule, suspension_rule),
}


def conditions(filters: Filters) -> tuple[Filters, Conditions]:
    """The filters as they are, and what finds the products by an index where they say whose or of what they are."""
    offerings = [
        product.c.product_offering_id.in_(list(one.value))
        for one in filters
        if one.path == "product_offering.id" and one.operator in EQUALS and one.value and "\0" not in "".join(one.value)
    ]
    return filters, [*relations.conditions(product, filters), *offerings]


def rules_of(unit: Unit, branch: str) -> Sequence[SuspensionRule]:
    """What the branch says of charges while products are suspended; read once in a transaction."""
    if (_RULES, branch) not in unit.known:
        unit.known[_RULES, branch] = unit.load(SuspensionRule, "branch = %(branch)s", {"branch": branch})
    known: Sequence[SuspensionRule] = unit.known[_RULES, branch]
    return known


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
