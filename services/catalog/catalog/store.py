"""Tables of the catalog, who refers to whom in it, and what pricing reads."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import registry

from catalog.domain import (
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
from catalog.offers import Offer, compile_offer, price_ids, related_price_ids
from chassis.db import Database, Resource, Unit, aggregate_table, log_tables, map_aggregate
from chassis.events import bus_tables
from chassis.references import References
from chassis.types import Aggregate
from svyaz.catalog.v1 import catalog_pb2

metadata = sa.MetaData()
mapper = registry(metadata=metadata)
log = log_tables(metadata)
bus = bus_tables(metadata)

catalog = aggregate_table(metadata, "catalog", Catalog)
category = aggregate_table(metadata, "category", Category)
product_specification = aggregate_table(metadata, "product_specification", ProductSpecification)
product_offering = aggregate_table(metadata, "product_offering", ProductOffering)
product_offering_price = aggregate_table(metadata, "product_offering_price", ProductOfferingPrice)

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

for _cls, _resource in RESOURCES.items():
    map_aggregate(mapper, _cls, _resource.table)

_BY_NAME = {cls.__name__: resource.table for cls, resource in RESOURCES.items()}


# --- references ------------------------------------------------------------------------------------------------------


def refer(unit: Unit, item: CatalogItem, targets: Iterable[Reference]) -> None:
    """Remembers what the item refers to now, instead of what it did before."""
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
    rows = unit.session.execute(sa.select(table.c.id, table.c.lifecycle_status).where(table.c.id == _any(ids)))
    return {row.id: row.lifecycle_status for row in rows}


def _any(ids: Sequence[str]) -> sa.ColumnElement[Any]:
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


# --- what pricing reads ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kept:
    offer: Offer
    # The revision of everything that the offer was compiled from; None: there was no such thing.
    revisions: Mapping[str, int | None]


class OfferBook:
    """Compiled offers, kept between calls. One query tells which are still current; the others are compiled anew."""

    def __init__(self, most: int = 50_000) -> None:
        self._kept: dict[str, _Kept] = {}
        self._most = most
        self._lock = threading.Lock()

    def offers(self, database: Database, ids: Iterable[str]) -> dict[str, Offer]:
        """The offers with these ids, and all that they bundle; those that don't exist are left out."""
        wanted = set(ids)
        kept = self._closure(wanted)
        current = _revisions(database, {key for entry in kept.values() for key in entry.revisions})
        found = {
            key: entry.offer
            for key, entry in kept.items()
            if all(current.get(source) == revision for source, revision in entry.revisions.items())
        }
        if self._below(wanted, found) - found.keys():
            with database.unit() as unit:
                self._complete(unit, wanted, found)
        return found

    def _complete(self, unit: Unit, wanted: set[str], found: dict[str, Offer]) -> None:
        """Adds what isn't found yet of the wanted offers and of all that they bundle."""
        missing = self._below(wanted, found) - found.keys()
        tried: set[str] = set()
        while missing:
            fresh = _compiled(unit, missing)
            self._keep(fresh)
            found |= {key: entry.offer for key, entry in fresh.items()}
            tried |= missing
            missing = self._below(wanted, found) - found.keys() - tried

    def _closure(self, wanted: set[str]) -> dict[str, _Kept]:
        result: dict[str, _Kept] = {}
        waiting = list(wanted)
        while waiting:
            key = waiting.pop()
            entry = self._kept.get(key)
            if entry is not None and key not in result:
                result[key] = entry
                waiting += [bundled for bundled, _ in entry.offer.bundled]
        return result

    @staticmethod
    def _below(wanted: set[str], offers: Mapping[str, Offer]) -> set[str]:
        """The wanted ones and what they bundle, as far as it is known."""
        result: set[str] = set()
        waiting = list(wanted)
        while waiting:
            key = waiting.pop()
            if key not in result:
                result.add(key)
                if key in offers:
                    waiting += [bundled for bundled, _ in offers[key].bundled]
        return result

    def _keep(self, fresh: Mapping[str, _Kept]) -> None:
        with self._lock:
            if len(self._kept) + len(fresh) > self._most:
                self._kept.clear()
            self._kept.update(fresh)


_REVISIONS = """
    SELECT id, revision FROM product_offering WHERE id = ANY (WANTED)
    UNION ALL
    SELECT id, revision FROM product_offering_price WHERE id = ANY (WANTED)
"""


def _revisions(database: Database, ids: set[str]) -> dict[str, int]:
    return dict(database.rows(_REVISIONS, sorted(ids))) if ids else {}


def _compiled(unit: Unit, ids: set[str]) -> dict[str, _Kept]:
    offerings = unit.session.scalars(sa.select(ProductOffering).where(product_offering.c.id == _any(sorted(ids)))).all()
    prices = _prices(unit, {key for offering in offerings for key in price_ids(offering)})
    result: dict[str, _Kept] = {}
    for offering in offerings:
        revisions: dict[str, int | None] = {offering.id: offering.revision}
        waiting = list(price_ids(offering))
        while waiting:
            key = waiting.pop()
            if key not in revisions:
                price = prices.get(key)
                revisions[key] = price.revision if price is not None else None
                waiting += related_price_ids(price) if price is not None else ()
        result[offering.id] = _Kept(compile_offer(offering, prices), revisions)
    return result


def _prices(unit: Unit, ids: set[str]) -> dict[str, ProductOfferingPrice]:
    """The prices and all that they are made of or altered by."""
    found: dict[str, ProductOfferingPrice] = {}
    tried: set[str] = set()
    while missing := ids - tried:
        query = sa.select(ProductOfferingPrice).where(product_offering_price.c.id == _any(sorted(missing)))
        fresh = unit.session.scalars(query).all()
        found |= {price.id: price for price in fresh}
        tried |= missing
        ids = {key for price in fresh for key in related_price_ids(price)}
    return found
