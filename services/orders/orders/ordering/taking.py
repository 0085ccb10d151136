"""Taking an order that nobody waits for: of a migration, of a mass sale."""

from collections.abc import Callable, Sequence
from functools import partial

from chassis.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from chassis.unit import Unit
from orders.inventory.store import with_parts
from orders.ordering.capture import Capture, Captured
from orders.ordering.chosen import Products
from orders.ordering.domain import ProductOrder, check_items, customers_of, product_ids
from orders.ordering.handover import as_taken_over, check_transferor
from orders.ordering.placing import place
from orders.ordering.statuses import require_possible
from orders.ordering.store import orders_before, quantities
from orders.ordering.values import OrderItem

# What trying again doesn't mend; everything else ends the transaction, and is tried again.
REFUSALS = (FailedPrecondition, InvalidArgument, NotFound, PermissionDenied)


def asking(
    unit: Unit,
    capture: Capture,
    order: ProductOrder,
    items: Sequence[OrderItem],
    products: Products | None = None,
    *,
    exact_version: bool = False,
    charge_one_time: bool = True,
) -> tuple[Callable[[], Captured], frozenset[str]]:
    """What asks catalog and customers about the order, within a transaction of our own but in whatever thread; and
    whose the order is. `products`: those that the items name with their parts, for who has them. Raises what is refused
    without asking anybody; what is returned raises what `Capture.capture` does."""
    order.check(unit.at)
    check_items(items)
    check_transferor(order)
    known = with_parts(unit, product_ids(items)) if products is None else products
    known = as_taken_over(unit, order, items, known)
    require_possible(items, known, unit.at)
    whose = order.customer_ids() or (key for one in known.values() for key in customers_of(one.related_party))
    ask = partial(
        capture.capture,
        order,
        items,
        known,
        quantities(unit, known),
        exact_version=exact_version,
        charge_one_time=charge_one_time,
        orders_before=partial(orders_before, unit, order),
    )
    return ask, frozenset(whose)


def take(unit: Unit, order: ProductOrder, captured: Captured) -> None:
    """Keeps the order and sets it going; once the unit has flushed it, those that are asked about know of it."""
    order.check(unit.at)
    unit.add(order)
    place(unit, order, captured)


def told(refusal: DomainError) -> str:
    """Why an order couldn't be taken, in one line."""
    violations = "; ".join(f"{one.field} {one.description}" for one in refusal.violations)
    return f"{refusal.reason}: {refusal.message}" + (f" ({violations})" if violations else "")
