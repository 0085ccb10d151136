"""What the catalog can be asked to do: one method, one use case, one transaction."""

from typing import Any

from catalog.product import store
from catalog.product.domain import (
    CONTAINMENT,
    Catalog,
    CatalogItem,
    Category,
    ProductOffering,
    ProductOfferingPrice,
    ProductSpecification,
    check_acyclic,
    check_deletable,
    check_parts,
    check_retirable,
)
from chassis.db import Database, Unit
from chassis.references import lock_references
from chassis.resources import Collection, StandardMethods
from svyaz.catalog.v1 import catalog_pb2


def _creating(unit: Unit, item: CatalogItem) -> None:
    # Nothing can refer to what has no id yet, so one that refers to nothing is free of every rule about others.
    if list(item.references()):
        check_among_others(unit, item)


def check_among_others(unit: Unit, item: CatalogItem) -> None:
    """Raises FailedPrecondition CYCLE, UNRESOLVED_REFERENCE or REFERENCED."""
    references = list(item.references())
    lock_references(unit)
    store.refer(unit, item, references)
    containing = next((reference.field for reference in references if reference.field in CONTAINMENT), None)
    if containing is not None:
        check_acyclic(containing, item.id, store.containment(unit, item))
    check_parts(item, store.statuses(unit, item.parts()))
    check_retirable(item, unit.at, store.live_owners(unit, item))


def _deleting(unit: Unit, item: CatalogItem) -> None:
    lock_references(unit)
    check_deletable(item, store.referrers(unit, item))
    store.refer(unit, item, ())


def _collection(database: Database, cls: type[CatalogItem], message: Any) -> Collection[Any, Any]:
    return Collection(database, cls, message, creating=_creating, changed=check_among_others, deleting=_deleting)


class CatalogItems(StandardMethods):
    """TMF620."""

    def __init__(self, database: Database) -> None:
        super().__init__(
            catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"],
            _collection(database, Catalog, catalog_pb2.Catalog),
            _collection(database, Category, catalog_pb2.Category),
            _collection(database, ProductSpecification, catalog_pb2.ProductSpecification),
            _collection(database, ProductOffering, catalog_pb2.ProductOffering),
            _collection(database, ProductOfferingPrice, catalog_pb2.ProductOfferingPrice),
        )
