"""What the catalog can be asked to do: one method, one use case, one transaction."""

from typing import Any, Protocol

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
    check_narrowing,
    check_parts,
    check_retirable,
)
from chassis.db import Database
from chassis.references import lock_references
from chassis.resources import Collection, StandardMethods
from chassis.unit import Unit
from svyaz.catalog.v1 import catalog_pb2


class Guards(Protocol):
    """What has to hold for publishing; it is handed in, since publishing knows of products and not the reverse."""

    def creating(self, unit: Unit, item: CatalogItem) -> None:
        """Refuses a new thing by raising."""

    def changing(self, unit: Unit, item: CatalogItem) -> None:
        """Takes the locks that a changed thing needs before that of the references."""

    def changed(self, unit: Unit, item: CatalogItem) -> None:
        """Refuses a changed thing by raising."""


def check_among_others(unit: Unit, item: CatalogItem) -> None:
    """Raises FailedPrecondition CYCLE, UNRESOLVED_REFERENCE, NOT_IN_SPECIFICATION or REFERENCED."""
    references = list(item.references())
    lock_references(unit)
    store.refer(unit, item, references)
    containing = next((reference.field for reference in references if reference.field in CONTAINMENT), None)
    if containing is not None:
        check_acyclic(containing, item.id, store.containment(unit, item))
    check_parts(item, store.statuses(unit, item.parts()))
    if isinstance(item, ProductOffering) and item.prod_spec_char_value_use and item.product_specification is not None:
        check_narrowing(item, unit.find(ProductSpecification, item.product_specification.id or ""))
    check_retirable(item, unit.at, store.live_owners(unit, item))


def _deleting(unit: Unit, item: CatalogItem) -> None:
    lock_references(unit)
    check_deletable(item, store.referrers(unit, item))
    store.refer(unit, item, ())


class CatalogItems(StandardMethods):
    """TMF620."""

    def __init__(self, database: Database, guards: Guards) -> None:
        self._guards = guards
        super().__init__(
            catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"],
            self._collection(database, Catalog, catalog_pb2.Catalog),
            self._collection(database, Category, catalog_pb2.Category),
            self._collection(database, ProductSpecification, catalog_pb2.ProductSpecification),
            self._collection(database, ProductOffering, catalog_pb2.ProductOffering),
            self._collection(database, ProductOfferingPrice, catalog_pb2.ProductOfferingPrice),
        )

    def _collection(self, database: Database, cls: type[CatalogItem], message: Any) -> Collection[Any, Any]:
        return Collection(database, cls, message, creating=self.creating, changed=self.changed, deleting=_deleting)

    def creating(self, unit: Unit, item: CatalogItem) -> None:
        """What has to hold for a new thing; raises FailedPrecondition."""
        # Nothing can refer to what has no id yet, so one that refers to nothing is free of every rule about others.
        if list(item.references()):
            check_among_others(unit, item)
        self._guards.creating(unit, item)

    def changed(self, unit: Unit, item: CatalogItem) -> None:
        """What has to hold for a thing that has been changed in this unit; raises FailedPrecondition."""
        self._guards.changing(unit, item)
        check_among_others(unit, item)
        self._guards.changed(unit, item)
