"""Products of customers: from the moment they are ordered to their end (TMF637)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from chassis.errors import FailedPrecondition
from chassis.products import (
    AgreementItemRef,
    ProductPrice,
    ProductRefOrValue,
    ProductRelationship,
    ProductStatus,
    ProductTerm,
    RelatedPlaceRefOrValue,
    RelatedProductOrderItem,
    ResourceRef,
)
from chassis.types import (
    Aggregate,
    Characteristic,
    EntityRef,
    ProductSpecificationRef,
    RelatedParty,
    require_transition,
)

TRANSITIONS: Mapping[ProductStatus, frozenset[ProductStatus]] = {
    ProductStatus.CREATED: frozenset(
        {ProductStatus.PENDING_ACTIVE, ProductStatus.ACTIVE, ProductStatus.CANCELLED, ProductStatus.ABORTED}
    ),
    ProductStatus.PENDING_ACTIVE: frozenset({ProductStatus.ACTIVE, ProductStatus.CANCELLED, ProductStatus.ABORTED}),
    ProductStatus.ACTIVE: frozenset({ProductStatus.SUSPENDED, ProductStatus.PENDING_TERMINATE}),
    ProductStatus.SUSPENDED: frozenset({ProductStatus.ACTIVE, ProductStatus.PENDING_TERMINATE}),
    ProductStatus.PENDING_TERMINATE: frozenset({ProductStatus.TERMINATED, ProductStatus.ACTIVE}),
    ProductStatus.TERMINATED: frozenset(),
    ProductStatus.CANCELLED: frozenset(),
    ProductStatus.ABORTED: frozenset(),
}

RECURRING = "recurring"
# What billing has been told of an ordered product.
CHARGED = ("billing_account", "product_price")
# What only orders say of what one of them has made, or is making: by it discounts are found again, and counted.
ORDERED = ("product_order_item", "start_date")
# Between its activation and its end a product is charged for.
RUNNING = frozenset({ProductStatus.ACTIVE, ProductStatus.SUSPENDED, ProductStatus.PENDING_TERMINATE})
_COMING_OR_RUNNING = RUNNING | {ProductStatus.PENDING_ACTIVE}

# A product that has never worked may be forgotten; what has been used or charged stays in the books.
DELETABLE = frozenset({ProductStatus.CREATED, ProductStatus.CANCELLED, ProductStatus.ABORTED})


@dataclass(kw_only=True, eq=False)
class Product(Aggregate):
    """What a customer has (or is about to have, or had) of an offering."""

    STATE: ClassVar[str | None] = "status"
    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"order_date"})

    description: str | None = None
    is_bundle: bool | None = None
    is_customer_visible: bool | None = None
    name: str | None = None
    order_date: datetime | None = None
    product_serial_number: str | None = None
    start_date: datetime | None = None
    termination_date: datetime | None = None
    agreement: tuple[AgreementItemRef, ...] = ()
    billing_account: EntityRef | None = None
    place: tuple[RelatedPlaceRefOrValue, ...] = ()
    product: tuple[ProductRefOrValue, ...] = ()
    product_characteristic: tuple[Characteristic, ...] = ()
    product_offering: EntityRef | None = None
    product_order_item: tuple[RelatedProductOrderItem, ...] = ()
    product_price: tuple[ProductPrice, ...] = ()
    product_relationship: tuple[ProductRelationship, ...] = ()
    product_specification: ProductSpecificationRef | None = None
    product_term: tuple[ProductTerm, ...] = ()
    realizing_resource: tuple[ResourceRef, ...] = ()
    realizing_service: tuple[EntityRef, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()
    status: ProductStatus | None = None

    def check(self, at: datetime) -> None:
        """A product that begins as active has begun now, unless it says when."""
        self.status = self.status or ProductStatus.CREATED
        if self.status is ProductStatus.ACTIVE and self.start_date is None:
            self.start_date = at

    @property
    def part_ids(self) -> tuple[str, ...]:
        """The products that it bundles, or did."""
        return tuple(part.id for part in self.product if part.id)

    @property
    def running_charges(self) -> tuple[ProductPrice, ...]:
        """The prices that recur as long as the product runs."""
        if self.status not in RUNNING:
            return ()
        return tuple(
            price
            for price in self.product_price
            if price.price_type == RECURRING
            and price.price is not None
            and price.price.duty_free_amount is not None
            and price.price.duty_free_amount.value is not None
        )

    def move(self, wanted: ProductStatus, at: datetime) -> None:
        """Goes to another state; raises FailedPrecondition BAD_TRANSITION naming both."""
        assert self.status is not None
        if wanted is self.status:
            return
        require_transition("a product", TRANSITIONS, self.status, wanted)
        self.status = wanted
        if wanted is ProductStatus.ACTIVE and self.start_date is None:
            self.start_date = at
        if wanted is ProductStatus.TERMINATED:
            self.termination_date = self.termination_date or at

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes a caller's changes; the state moves by the table.

        Raises FailedPrecondition CHARGED for one that billing wouldn't hear of: what runs is ended, and what an order
        began is charged otherwise, by an order only.
        """
        wanted = changes.get("status")
        rest = {name: value for name, value in changes.items() if name != "status"}
        if self.running_charges and wanted is ProductStatus.TERMINATED:
            raise FailedPrecondition("CHARGED", "recurring charges of the product run: order its deletion")
        if self.product_order_item:
            settled: tuple[str, ...] = ORDERED if self.status in _COMING_OR_RUNNING else ()
            settled += CHARGED if self.running_charges else ()
            told = [name for name in settled if rest.get(name, getattr(self, name)) != getattr(self, name)]
            if told:
                raise FailedPrecondition("CHARGED", f"{', '.join(told)}: of a charged product only an order changes it")
        super().revise(rest, at)
        if wanted is not None:
            self.move(wanted, at)

    def require_deletable(self) -> None:
        """Raises FailedPrecondition IN_USE for a product that has worked."""
        if self.status not in DELETABLE:
            raise FailedPrecondition("IN_USE", f"a product that is {str(self.status)!r} can't be deleted: terminate it")
