"""The table of order templates, and which of them are in force."""

from collections.abc import Mapping

import sqlalchemy as sa

from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from orders.schema import metadata
from orders.template.domain import OrderTemplate
from orders.template.standard import standard
from svyaz.orders.v1 import template_pb2

order_template = aggregate_table(
    metadata,
    "order_template",
    OrderTemplate,
    sa.Index("order_template_name", "name", unique=True),
)

# What can be ordered is common to all branches, as the catalog is.
RESOURCES: Mapping[type[Aggregate], Resource] = {
    OrderTemplate: Resource(template_pb2.OrderTemplate, order_template, common=True)
}


def named(unit: Unit, name: str) -> OrderTemplate | None:
    """The template of that name: one that is kept, else the standard one."""
    kept = next(iter(unit.load(OrderTemplate, "name = %(name)s", {"name": name})), None)
    return kept or standard().get(name)


def in_force(unit: Unit) -> list[OrderTemplate]:
    """All templates that can be ordered by, in the order of their names."""
    kept = {one.name or "": one for one in unit.load(OrderTemplate, "true ORDER BY name LIMIT 1000", {})}
    return [template for _, template in sorted({**standard(), **kept}.items())]
