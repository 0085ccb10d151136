"""Tables of what is sold, and who refers to whom in it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from catalog.product.domain import (
    CONTAINMENT,
    PARENT,
    Catalog,
    CatalogItem,
    Category,
    LifecycleStatus,
    ProductOffering,
    ProductOfferingPrice,
    ProductSpecification,
    Reference,
)
from catalog.schema import metadata
from chassis.references import References
from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from svyaz.catalog.v1 import catalog_pb2

catalog = aggregate_table(metadata, "catalog", Catalog)
category = aggregate_table(metadata, "category", Category)
product_specification = aggregate_table(metadata, "product_specification", ProductSpecification)
product_offering = aggregate_table(
    metadata, "product_offering", ProductOffering, sa.Index("product_offering_series", "series")
)
product_offering_price = aggregate_table(
    metadata,
    "product_offering_price",
    ProductOfferingPrice,
    sa.Index("product_offering_price_price_list", "price_list"),
)

# Which field of what refers to what: the same as in the things themselves, but found from the other end.
references = References(
    metadata,
    sa.Column("field", sa.Text, primary_key=True),
    sa.Column("target_type", sa.Text, nullable=False),
    sa.Column("part", sa.Boolean, nullable=False),
    sa.Index("reference_target_id", "target_id", "target_type"),
)
reference = references.table

# The catalog is common to all branches, so none of its tables is under their policies (the log's are).
RESOURCES: Mapping[type[Aggregate], Resource] = {
    Catalog: Resource(catalog_pb2.Catalog, catalog, common=True),
    Category: Resource(catalog_pb2.Category, category, common=True),
    ProductSpecification: Resource(catalog_pb2.ProductSpecification, product_specification, common=True),
    ProductOffering: Resource(catalog_pb2.ProductOffering, product_offering, common=True),
    ProductOfferingPrice: Resource(catalog_pb2.ProductOfferingPrice, product_offering_price, common=True),
}

_BY_NAME = {cls.__name__: resource.table for cls, resource in RESOURCES.items()}


# --- references ------------------------------------------------------------------------------------------------------


def refer(unit: Unit, item: CatalogItem, targets: Iterable[Reference], *, new: bool = False) -> None:
    """Remembers what the item refers to now, instead of what it did before; a `new` one's with the next flush."""
    rows = {
        (target.field, target.id): {
            "field": target.field,
            "target_id": target.id,
            "referrer_type": type(item).__name__,
            "target_type": target.cls.__name__,
            "part": target.part,
        }
        for target in targets
        if target.id
    }
    if new:
        references.refer(unit, item.id, rows.values(), new=True)
    else:
        references.refer_now(unit, item.id, rows.values())


def referrers(unit: Unit, item: CatalogItem) -> list[tuple[str, str]]:
    """Type and id of what else refers to the item; some of them when they are many."""
    return sorted(references.referrers(unit, item.id, _is_a(type(item)), most=10))


def live_owners(unit: Unit, item: CatalogItem) -> list[tuple[str, str]]:
    """Type and id of what is live and made of the item."""
    owners = references.referrers(unit, item.id, _is_a(type(item)), reference.c.part)
    found: list[tuple[str, str]] = []
    for kind in dict.fromkeys(kind for kind, _ in owners):
        statuses = _statuses(unit, _BY_NAME[kind], [key for name, key in owners if name == kind])
        found += [(kind, key) for key, status in statuses.items() if status is not None and status.live]
    return found


def _is_a(cls: type[CatalogItem]) -> sa.ColumnElement[bool]:
    return reference.c.target_type == cls.__name__


def statuses(unit: Unit, targets: Iterable[Reference]) -> dict[tuple[type[CatalogItem], str], LifecycleStatus | None]:
    """The status of each thing referred to that exists."""
    wanted: dict[type[CatalogItem], set[str]] = {}
    for target in targets:
        wanted.setdefault(target.cls, set()).add(target.id)
    return {
        (cls, key): status
        for cls, ids in wanted.items()
        for key, status in _statuses(unit, RESOURCES[cls].table, sorted(ids)).items()
    }


def _statuses(unit: Unit, table: sa.Table, ids: Sequence[str]) -> dict[str, LifecycleStatus | None]:
    rows = unit.session.execute(sa.select(table.c.id, table.c.lifecycle_status).where(table.c.id == any_of(ids)))
    return {row.id: row.lifecycle_status for row in rows}


def any_of(ids: Sequence[str]) -> sa.ColumnElement[Any]:
    # One statement whatever their number, so that it stays prepared.
    return sa.any_(sa.cast(list(ids), ARRAY(sa.Text)))


def containment(unit: Unit, item: CatalogItem) -> dict[str, list[str]]:
    """What the item contains, and so on downwards: parent → children."""
    edges = sa.union_all(
        sa.select(reference.c.referrer_id.label("parent"), reference.c.target_id.label("child")).where(
            reference.c.field.in_(CONTAINMENT), reference.c.field != PARENT
        ),
        sa.select(reference.c.target_id.label("parent"), reference.c.referrer_id.label("child")).where(
            reference.c.field == PARENT
        ),
    ).subquery()
    below = sa.select(edges.c.parent, edges.c.child).where(edges.c.parent == item.id).cte("below", recursive=True)
    # UNION, not UNION ALL: an edge is followed once, so that a cycle ends.
    below = below.union(sa.select(edges.c.parent, edges.c.child).join(below, edges.c.parent == below.c.child))
    children: dict[str, list[str]] = {}
    for parent, child in unit.session.execute(sa.select(below.c.parent, below.c.child)):
        children.setdefault(parent, []).append(child)
    return children
