"""What has to hold when something in the catalog is made or changed, beyond what it knows of itself."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from catalog.holding.store import live_holders
from catalog.pricing.domain import PricingRule, check_unneeded
from catalog.product.domain import (
    CatalogItem,
    LifecycleStatus,
    PlannedTransition,
    ProductOffering,
    ProductSpecification,
    check_narrowed,
    check_unchanged,
)
from catalog.publication import store
from catalog.publication.domain import (
    FIRST_LOOK,
    LARGE_DISCOUNT_PERCENT,
    AuthorshipKind,
    check_approved,
    check_unheld,
    needs_approval,
    next_planned,
)
from chassis.errors import FailedPrecondition, Violation
from chassis.references import lock_references
from chassis.timers import cancel_timer, set_timer
from chassis.types import TimePeriod
from chassis.unit import Unit

# The purposes of our timers; their aggregate is an offering.
PLANNED = "planned-transition"
LATE_HOLDERS = "late-holders"

_TAKES_OVER = "admin"


class Guards:
    """Refuses, by raising, what would go round the second person, the market's memory or the subscribers.

    `large_discount` in percent.
    """

    def __init__(self, large_discount: Decimal = LARGE_DISCOUNT_PERCENT) -> None:
        self._large_discount = large_discount

    @staticmethod
    def read_ahead(unit: Unit, items: Sequence[CatalogItem]) -> None:
        """Reads at once what `creating` and `taking_over` would read for each of so many new things."""
        store.read_ahead(unit, [item for item in items if isinstance(item, store.SOLD)])

    def creating(self, unit: Unit, item: CatalogItem) -> None:
        """A new thing. Only an admin, who takes an existing catalog over, makes something that is published already.

        Raises FailedPrecondition APPROVAL_REQUIRED, NEVER_APPLIES.
        """
        if isinstance(item, store.SOLD) and _TAKES_OVER not in unit.call.principal.roles:
            needed = needs_approval(item, self._large_discount)
            if item.status is LifecycleStatus.LAUNCHED and not isinstance(item, ProductSpecification):
                needed = needed or [Violation("lifecycle_status", "only an admin creates what is published already")]
            check_approved(item, needed, approved=False)
        self.taking_over(unit, item)

    def taking_over(self, unit: Unit, item: CatalogItem) -> None:
        """A new thing of a catalog that somebody has taken the responsibility for, so that none of it is approved.

        The same as `creating`, but whoever calls it has asked for the right. Raises FailedPrecondition NEVER_APPLIES.
        """
        if not isinstance(item, store.SOLD):
            return
        if isinstance(item, ProductOffering) and item.status is LifecycleStatus.LAUNCHED:
            _begin(item, unit.at)
        if item.status.live:
            # What is taken over may have a past.
            _check_applies(unit, item, published=False)
        store.record(unit, item, AuthorshipKind.CHANGE)
        set_timers(unit, item)
        store.let_in(unit, item)

    def changing(self, unit: Unit, item: CatalogItem) -> None:
        """Takes the timer of plans that change, since one that is due is held before it locks the references."""
        if isinstance(item, ProductOffering) and "planned_transition" in store.before(item):
            store.hold_timer(unit, item, PLANNED)

    def changed(self, unit: Unit, item: CatalogItem) -> None:
        """A thing that has been changed in this unit, and not flushed yet.

        Raises FailedPrecondition PUBLISHED, APPROVAL_REQUIRED, NEVER_APPLIES, HAS_HOLDERS, NOT_IN_SPECIFICATION,
        REFERENCED.
        """
        if not isinstance(item, store.SOLD):
            return
        # Nobody approves, launches or changes a part of it meanwhile.
        lock_references(unit)
        before = store.before(item)
        content = before.keys() - (item.CHANGEABLE or frozenset()) | (before.keys() & {"valid_for"})
        status = before.get("lifecycle_status", item.lifecycle_status)
        if content:
            self._check_not_on_the_market(unit, item, before)
            store.record(unit, item, AuthorshipKind.CHANGE)
        if "lifecycle_status" in before or (content and not item.status.published):
            needed = needs_approval(item, self._large_discount)
            check_approved(item, needed, approved=bool(needed) and store.is_approved(unit, item))
        moved = status != item.lifecycle_status
        if moved and isinstance(item, ProductOffering) and item.status is LifecycleStatus.LAUNCHED:
            _begin(item, unit.at)
        if item.status.live and (moved or content or "planned_transition" in before):
            _check_applies(unit, item, published=moved and item.status is LifecycleStatus.LAUNCHED)
        if isinstance(item, ProductSpecification) and "product_spec_characteristic" in before:
            check_narrowed(item, store.live_offerings(unit, item))
        if isinstance(item, PricingRule) and moved and item.status.published and not item.status.live:
            check_unneeded(item, store.prices_by(unit, item))
        if isinstance(item, ProductOffering):
            if "planned_transition" in before:
                _check_future(before["planned_transition"] or (), item, unit.at)
                set_timers(unit, item)
            if moved and item.status in (LifecycleStatus.RETIRED, LifecycleStatus.OBSOLETE):
                check_unheld(item, holders(unit, item))
            if moved and item.status is LifecycleStatus.RETIRED:
                set_timer(unit, item.id, LATE_HOLDERS, unit.at + FIRST_LOOK, item.branch)

    @staticmethod
    def _check_not_on_the_market(unit: Unit, item: CatalogItem, before: dict[str, object]) -> None:
        owner = store.published_owner(unit, item)
        if owner is not None:
            after = {name: getattr(item, name) for name in before}
            why = f"a part of {type(owner).__name__} {owner.id}, which is {owner.status}"
            check_unchanged(item, before, after, why)


def set_timers(unit: Unit, item: CatalogItem) -> None:
    """Lets an offering's next plan be thought of in time."""
    if not isinstance(item, ProductOffering):
        return
    planned = next_planned(item)
    if planned is not None:
        set_timer(unit, item.id, PLANNED, max(planned, unit.at), item.branch)
    elif item.revision:
        cancel_timer(unit, item.id, PLANNED)


def holders(unit: Unit, offering: ProductOffering) -> int:
    """How many live products of the offering there are, in all branches, as far as their events have come."""
    return live_holders(unit, [offering.id]).get(offering.id, 0)


def _check_future(before: Collection[PlannedTransition], offering: ProductOffering, at: datetime) -> None:
    """Raises FailedPrecondition NEVER_APPLIES for a new plan whose time has gone by."""
    late = [
        Violation(f"planned_transition[{i}].at", "it lies in the past")
        for i, plan in enumerate(offering.planned_transition)
        if plan not in before and plan.refused is None and plan.at is not None and plan.at < at
    ]
    if late:
        raise FailedPrecondition("NEVER_APPLIES", f"{late[0].field}: {late[0].description}", violations=late)


def _begin(offering: ProductOffering, at: datetime) -> None:
    """A further version that doesn't say when it begins, begins when it is launched: it replaces another."""
    period = offering.valid_for or TimePeriod()
    if offering.series and period.start_date_time is None:
        offering.valid_for = replace(period, start_date_time=at)


def _check_applies(unit: Unit, item: CatalogItem, *, published: bool) -> None:
    """Raises FailedPrecondition NEVER_APPLIES; that something is over by now matters only when it is `published`."""
    found = store.findings(unit, item, unit.at if published else None)
    if found:
        raise FailedPrecondition(
            "NEVER_APPLIES",
            f"something of {type(item).__name__} {item.id} would never apply: {found[0].field}: {found[0].description}",
            violations=found,
        )
