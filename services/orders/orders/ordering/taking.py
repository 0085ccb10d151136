"""Taking an order that nobody waits for: of a migration, of a mass sale."""

from collections.abc import Sequence
from functools import partial

from chassis.db import Unit
from chassis.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from orders.inventory.store import with_parts
from orders.ordering.capture import Capture, Captured
from orders.ordering.chosen import Products
from orders.ordering.domain import ProductOrder, check_items, product_ids
from orders.ordering.placing import place
from orders.ordering.store import orders_before, quantities
from orders.ordering.values import OrderItem

# What trying again doesn't mend; everything else ends the transaction, and is tried again.
REFUSALS = (FailedPrecondition, InvalidArgument, NotFound, PermissionDenied)


def captured_by_itself(
    unit: Unit,
    capture: Capture,
    order: ProductOrder,
    items: Sequence[OrderItem],
    products: Products | None = None,
    *,
    exact_version: bool = False,
    charge_one_time: bool = True,
) -> Captured:
    """What catalog and customers say of the order, asked within a transaction of our own; `products`: those that the
    items name with their parts, for who has them. Raises what `Capture.capture` and `check_items` do."""
    check_items(items)
    known = with_parts(unit, product_ids(items)) if products is None else products
    return capture.capture(
        order,
        items,
        known,
        quantities(unit, known),
        exact_version=exact_version,
        charge_one_time=charge_one_time,
        orders_before=partial(orders_before, unit, order),
    )


def take(unit: Unit, order: ProductOrder, captured: Captured) -> None:
    """Keeps the order and sets it going; orders that are taken after it know of it."""
    order.check(unit.at)
    unit.add(order)
    place(unit, order, captured)
    unit.flush()


def told(refusal: DomainError) -> str:
    """Why an order couldn't be taken, in one line."""
    violations = "; ".join(f"{one.field} {one.description}" for one in refusal.violations)
    return f"{refusal.reason}: {refusal.message}" + (f" ({violations})" if violations else "")
