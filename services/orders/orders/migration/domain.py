"""A migration of products from old offerings to a new one, and what becomes of each product."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.products import ProductRefOrValue, ProductStatus
from chassis.types import Aggregate, EntityRef, bad_transition, require_transition
from orders.inventory.domain import Product
from orders.ordering.domain import ProductOrder
from orders.ordering.values import OrderItem, OrderItemAction, ProductOrderState


class MigrationState(StrEnum):
    """Where a migration is."""

    ACKNOWLEDGED = "acknowledged"
    IN_PROGRESS = "inProgress"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class MigratedProductState(StrEnum):
    """What has become of one product: its order is still to be taken, under way, at its end; or there is none."""

    WAITING = "waiting"
    ORDERED = "ordered"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


_S = MigrationState
TRANSITIONS: Mapping[MigrationState, frozenset[MigrationState]] = {
    _S.ACKNOWLEDGED: frozenset({_S.IN_PROGRESS, _S.PAUSED, _S.CANCELLED}),
    _S.IN_PROGRESS: frozenset({_S.PAUSED, _S.COMPLETED, _S.CANCELLED}),
    _S.PAUSED: frozenset({_S.IN_PROGRESS, _S.ACKNOWLEDGED, _S.CANCELLED}),
    # Products that failed may be tried again.
    _S.COMPLETED: frozenset({_S.IN_PROGRESS}),
    _S.CANCELLED: frozenset(),
}
# An order can change those; one that is about to begin or to end is left alone.
MOVABLE = frozenset({ProductStatus.ACTIVE, ProductStatus.SUSPENDED})


@dataclass(kw_only=True, eq=False)
class ProductMigration(Aggregate):
    """Every running product of the old offerings goes to the new one, by one order each.

    `series`: the old offerings are the older versions of this one, found when it begins. Branch `*`: of all branches.
    """

    STATE: ClassVar[str | None] = "state"

    description: str | None = None
    from_offering: tuple[str, ...] = ()
    to_offering: str | None = None
    series: str | None = None
    # Whether the one-time prices of the new offering are charged too.
    charge_one_time: bool | None = None
    # None: the launched version that promised it, which two people have approved.
    requested_by: str | None = None
    approved_by: str | None = None
    # What one person asked for begins when another has started it.
    awaits_approval: bool | None = None
    # After so many failures since it was begun, resumed or retried it pauses by itself.
    most_failures: int | None = None
    state: MigrationState | None = None
    start_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    status_reason: str | None = None

    def check(self, at: datetime) -> None:
        """A new migration begins at its time. Raises InvalidArgument SAME_OFFERING, REQUIRED, OUT_OF_RANGE."""
        missing = [name for name in ("from_offering", "to_offering") if not getattr(self, name)]
        if missing and not (self.series and self.to_offering):
            violations = [Violation(name, "required") for name in missing]
            raise InvalidArgument("REQUIRED", "it doesn't say from where to where", violations=violations)
        if self.to_offering in self.from_offering:
            violations = [Violation("from_offering", "is the new offering too")]
            raise InvalidArgument("SAME_OFFERING", "products can't go to where they are", violations=violations)
        if self.most_failures is not None and self.most_failures < 1:
            violations = [Violation("most_failures", "must be 1 or more")]
            raise InvalidArgument("OUT_OF_RANGE", "it would never begin", violations=violations)
        self.state = MigrationState.ACKNOWLEDGED
        self.start_at = self.start_at or at

    def move(self, wanted: MigrationState, at: datetime, reason: str | None = None) -> None:
        """Goes to another state; raises FailedPrecondition BAD_TRANSITION naming both."""
        assert self.state is not None
        require_transition("a migration", TRANSITIONS, self.state, wanted)
        self.state, self.status_reason = wanted, reason
        if wanted is MigrationState.IN_PROGRESS:
            self.started_at = self.started_at or at
            self.completed_at = None
        if wanted is MigrationState.COMPLETED:
            self.completed_at = at

    def approve(self, person: str) -> None:
        """A second person starts it. Raises FailedPrecondition OWN_WORK, BAD_TRANSITION when it awaits nobody."""
        if not self.awaits_approval:
            raise bad_transition(f"a migration that is {self.state} waits for nobody")
        if person == self.requested_by:
            raise FailedPrecondition("OWN_WORK", f"{person} asked for it: somebody else starts it")
        self.awaits_approval, self.approved_by = False, person

    def resume(self, at: datetime) -> None:
        """Goes on where it was paused; raises FailedPrecondition BAD_TRANSITION."""
        begun = self.started_at is not None
        self.move(MigrationState.IN_PROGRESS if begun else MigrationState.ACKNOWLEDGED, at)

    def fails_too_often(self, failures: int, at: datetime) -> bool:
        """Whether it pauses after so many failures; then it does."""
        if self.state is not MigrationState.IN_PROGRESS or self.most_failures is None or failures < self.most_failures:
            return False
        self.move(MigrationState.PAUSED, at, f"{failures} products failed: see why, then resume or retry it")
        return True

    def wound_up(self, at: datetime) -> None:
        """One that has been cancelled has nothing under way any more."""
        self.completed_at = at

    @property
    def winding_up(self) -> bool:
        """Whether it has been cancelled, and its last orders haven't ended yet."""
        return self.state is MigrationState.CANCELLED and self.completed_at is None

    @property
    def running(self) -> bool:
        """Whether it goes on by itself."""
        return not self.awaits_approval and self.state in (MigrationState.ACKNOWLEDGED, MigrationState.IN_PROGRESS)


@dataclass(frozen=True, kw_only=True, slots=True)
class MigratedProduct:
    """A product on its way."""

    product_id: str
    branch: str
    state: MigratedProductState
    product_order_id: str | None = None
    reason: str | None = None


def obstacle(product: Product | None, from_offering: Collection[str]) -> str | None:
    """Why nothing is to be done about the product any more; None: it is to be moved."""
    if product is None:
        return "it isn't there any more"
    if product.status not in MOVABLE:
        return f"it is {str(product.status).strip()}"
    offering = product.product_offering.id if product.product_offering is not None else None
    if offering not in from_offering:
        return f"it is of offering {offering} by now"
    return None


def order_for(
    migration: ProductMigration, product: Product, quantity: int, *, id: str
) -> tuple[ProductOrder, OrderItem]:
    """The order that moves a product, and its item."""
    order = ProductOrder(
        id=id,
        branch=product.branch,
        external_id=f"{migration.id}/{product.id}",
        category="migration",
        description=migration.description,
        related_party=product.related_party,
        billing_account=product.billing_account,
    )
    item = OrderItem(
        id="1",
        action=OrderItemAction.MODIFY,
        quantity=quantity,
        product=ProductRefOrValue(id=product.id),
        product_offering=EntityRef(id=migration.to_offering),
    )
    return order, item


# How a product's order has ended, as far as the product is concerned.
OUTCOMES: Mapping[ProductOrderState, MigratedProductState] = {
    ProductOrderState.COMPLETED: MigratedProductState.COMPLETED,
    ProductOrderState.PARTIAL: MigratedProductState.FAILED,
    ProductOrderState.FAILED: MigratedProductState.FAILED,
    ProductOrderState.CANCELLED: MigratedProductState.FAILED,
    ProductOrderState.REJECTED: MigratedProductState.FAILED,
}
