"""Which products bundle which: a tree, whatever anybody writes by hand.

What orders have put together stays so until an order changes it; other parts may be moved by hand, out of one bundle
and then into another.
"""

from collections.abc import Collection

import sqlalchemy as sa

from chassis.connections import Conflict
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.unit import Unit
from orders.inventory.domain import Product

BUNDLED_IN = "bundledIn"

# A path that comes back to where it was ends there.
_BELOW = """
    WITH RECURSIVE below (id) AS (
        SELECT unnest(%(parts)s::text[])
        UNION
        SELECT part.id FROM below JOIN product ON product.id = below.id
            CROSS JOIN LATERAL (SELECT jsonb_path_query(product.product, '$[*].id') #>> '{}' AS id) AS part
    )
    SELECT id FROM below WHERE id IS NOT NULL
"""
_LOCK = "SELECT id FROM product WHERE id = ANY (%(ids)s) ORDER BY id FOR UPDATE"


def check(unit: Unit, product: Product) -> None:
    """Looks at what somebody has written of a product's parts and bundles.

    Raises InvalidArgument HIERARCHY_CYCLE, OTHER_BUNDLE; FailedPrecondition BY_ORDER; Conflict when another writes
    of the same ones at the same time.
    """
    before, after = _before(product, "product"), set(product.part_ids)
    gone, new = before - after, after - before
    if new:
        _check_tree(unit, product)
        _check_apart(unit, product, new)
    if gone:
        ordered = [one.id for one in _parts(unit, gone) if one.product_order_item and _bundles(one) == {product.id}]
        if ordered:
            raise _by_order("product", f"{', '.join(sorted(ordered))}: an order made it a part")
    if product.product_order_item and _before(product, "product_relationship") != _bundles(product):
        raise _by_order("product_relationship", "an order made it the part that it is")


def _by_order(attribute: str, why: str) -> FailedPrecondition:
    return FailedPrecondition("BY_ORDER", why, violations=[Violation(attribute, "by an order only")])


def _check_tree(unit: Unit, product: Product) -> None:
    """That no product is inside itself. All that is below is held until we are done: of two who would close a circle
    together each holds what the other looks at, and the second sees what the first has done."""
    below = _below(unit, product)
    with unit.cursor() as cursor:
        cursor.execute(_LOCK, {"ids": sorted(below | {product.id})})
    held, below = below, _below(unit, product)
    if product.id in below:
        why = "the product would be a part of itself"
        raise InvalidArgument("HIERARCHY_CYCLE", why, violations=[Violation("product", why)])
    if not below <= held:
        raise Conflict


def _below(unit: Unit, product: Product) -> set[str]:
    with unit.cursor() as cursor:
        return {row[0] for row in cursor.execute(_BELOW, {"parts": sorted(product.part_ids)})}


def _check_apart(unit: Unit, product: Product, new: Collection[str]) -> None:
    wrong = [
        Violation("product", f"{part.id} is a part of {', '.join(sorted(bundles))}")
        for part in _parts(unit, new)
        if (bundles := _bundles(part) - {product.id})
    ]
    if wrong:
        raise InvalidArgument("OTHER_BUNDLE", wrong[0].description, violations=wrong)


def _parts(unit: Unit, ids: Collection[str]) -> list[Product]:
    return unit.load(Product, "id = ANY (%(ids)s) ORDER BY id", {"ids": sorted(ids)})


def _bundles(product: Product) -> set[str]:
    """What it says itself that it is inside."""
    return {
        one.product.id
        for one in product.product_relationship
        if one.relationship_type == BUNDLED_IN and one.product is not None and one.product.id
    }


def _before(product: Product, attribute: str) -> set[str]:
    """The parts, or bundles, before this transaction changed them."""
    history = sa.inspect(product).attrs[attribute].history
    before = (history.deleted or history.unchanged or ((),))[0] or ()
    if attribute == "product":
        return {part.id for part in before if part.id}
    return {
        one.product.id
        for one in before
        if one.relationship_type == BUNDLED_IN and one.product is not None and one.product.id
    }
