"""Products of customers: from the moment they are ordered to their end (TMF637)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from chassis.errors import FailedPrecondition, Violation
from chassis.products import (
    AgreementItemRef,
    ProductPrice,
    ProductRefOrValue,
    ProductRelationship,
    ProductStatus,
    ProductSuspension,
    ProductTerm,
    RelatedPlaceRefOrValue,
    RelatedProductOrderItem,
    ResourceRef,
    SuspensionReason,
)
from chassis.types import (
    Aggregate,
    Characteristic,
    EntityRef,
    ProductSpecificationRef,
    RelatedParty,
    bad_transition,
    require_transition,
)
from orders.inventory import suspension

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
# What it would be told to stop, or to let rest, without ever having heard of it.
CHARGEABLE = ("product_price",)
# What only orders say of what one of them has made, or is making: by it discounts are found again, and counted.
ORDERED = ("product_order_item", "start_date")
# Between these the network goes to and fro.
_SUSPENDING = frozenset({ProductStatus.ACTIVE, ProductStatus.SUSPENDED})
# Between its activation and its end a product is charged for.
RUNNING = frozenset({ProductStatus.ACTIVE, ProductStatus.SUSPENDED, ProductStatus.PENDING_TERMINATE})
# It may still be charged for.
COMING = frozenset({ProductStatus.CREATED, ProductStatus.PENDING_ACTIVE})
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
    suspension: tuple[ProductSuspension, ...] = ()
    # The order by which the network suspends or resumes it at present.
    status_order_id: str | None = None
    termination_order_id: str | None = None
    # The recurring prices that billing has been told not to charge while it is suspended, by id or name.
    resting_price: tuple[str, ...] = ()

    def check(self, at: datetime) -> None:
        """A product that begins as active has begun now, unless it says when."""
        self.status = self.status or ProductStatus.CREATED
        if self.status is ProductStatus.ACTIVE and self.start_date is None:
            self.start_date = at
        if self.status is ProductStatus.SUSPENDED:
            self.suspension = (suspension.wish(SuspensionReason.VOLUNTARY, at, None, None),)

    @property
    def part_ids(self) -> tuple[str, ...]:
        """The products that it bundles, or did."""
        return tuple(part.id for part in self.product if part.id)

    @property
    def recurring_prices(self) -> tuple[ProductPrice, ...]:
        """The prices that recur as long as the product runs, charged or not at present."""
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

    @property
    def running_charges(self) -> tuple[ProductPrice, ...]:
        """The recurring prices that are charged: while it is suspended, without those that rest."""
        if not self.resting_price:
            return self.recurring_prices
        return tuple(price for price in self.recurring_prices if suspension.name_of(price) not in self.resting_price)

    def move(self, wanted: ProductStatus, at: datetime) -> None:
        """Goes to another state; raises FailedPrecondition BAD_TRANSITION naming both."""
        assert self.status is not None
        if wanted is self.status:
            return
        require_transition("a product", TRANSITIONS, self.status, wanted, attribute="status")
        self.status = wanted
        if wanted is ProductStatus.ACTIVE and self.start_date is None:
            self.start_date = at
        if wanted is ProductStatus.TERMINATED:
            self.termination_date = self.termination_date or at
        if not TRANSITIONS[wanted]:
            self.suspension, self.status_order_id, self.resting_price = (), None, ()

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes a caller's changes; the state moves by the table.

        Raises FailedPrecondition CHARGED for one that billing wouldn't hear of: what runs is ended, and what an order
        began is charged otherwise, by an order only; BY_ORDER for a status of that which the network wouldn't.
        """
        wanted = changes.get("status")
        rest = {name: value for name, value in changes.items() if name != "status"}
        if self.recurring_prices and wanted is ProductStatus.TERMINATED:
            raise FailedPrecondition("CHARGED", "recurring charges of the product run: order its deletion")
        if self.product_order_item:
            settled: tuple[str, ...] = ORDERED if self.status in _COMING_OR_RUNNING else ()
            settled += CHARGED if self.recurring_prices else CHARGEABLE if settled else ()
            told = [name for name in settled if rest.get(name, getattr(self, name)) != getattr(self, name)]
            if told:
                raise FailedPrecondition("CHARGED", f"{', '.join(told)}: of a charged product only an order changes it")
        super().revise(rest, at)
        if wanted is None or wanted is self.status:
            return
        self._require_by_hand(wanted)
        if {wanted, self.status} == _SUSPENDING:
            self._suspend_by_hand(wanted, at)
        else:
            self.move(wanted, at)

    def _require_by_hand(self, wanted: ProductStatus) -> None:
        """Raises FailedPrecondition BY_ORDER for a product that an order has made or is making."""
        if self.product_order_item and self.status in RUNNING | COMING:
            raise FailedPrecondition(
                "BY_ORDER",
                f"the network makes it {str(wanted)!r}: order it, or use SuspendProduct, ResumeProduct and"
                " TerminateProduct",
                violations=[Violation("status", "by an order only")],
            )

    def _suspend_by_hand(self, wanted: ProductStatus, at: datetime) -> None:
        """Notes what is so of a product that no order has made; raises FailedPrecondition STILL_SUSPENDED when there
        are reasons beside the subscriber's own wish."""
        if wanted is ProductStatus.SUSPENDED:
            own = suspension.wish(SuspensionReason.VOLUNTARY, at, None, None)
            self.suspension = suspension.with_reason(self.suspension, own, at)
        else:
            self.suspension = tuple(one for one in self.suspension if one.reason is not SuspensionReason.VOLUNTARY)
            self.require_resumable(at)
        self.move(wanted, at)

    def require_resumable(self, at: datetime) -> None:
        """Raises FailedPrecondition STILL_SUSPENDED naming the reasons that hold."""
        held = suspension.in_force(self.suspension, at)
        if held:
            reasons = ", ".join(dict.fromkeys(str(one.reason) for one in held))
            why = f"it stays suspended: {reasons}"
            raise FailedPrecondition("STILL_SUSPENDED", why, violations=[Violation("status", why)])

    def require_coming(self) -> None:
        """Raises FailedPrecondition BAD_TRANSITION for one that has begun, or been given up, already."""
        if self.status not in COMING:
            raise bad_transition(f"a product that is {str(self.status)!r} can't begin", attribute="status")

    def require_deletable(self) -> None:
        """Raises FailedPrecondition IN_USE for a product that has worked."""
        if self.status not in DELETABLE:
            raise FailedPrecondition("IN_USE", f"a product that is {str(self.status)!r} can't be deleted: terminate it")
