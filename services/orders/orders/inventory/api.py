"""What the inventory can be asked to do."""

from chassis.aliases import AliasedCollection
from chassis.db import Database, Unit
from chassis.errors import InvalidArgument, Violation
from chassis.resources import StandardMethods
from orders.identity.store import same
from orders.inventory import store
from orders.inventory.domain import Product
from svyaz.orders.v1 import inventory_pb2


class Inventory(StandardMethods):
    """TMF637."""

    def __init__(self, database: Database) -> None:
        super().__init__(
            inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"],
            AliasedCollection(
                database,
                Product,
                inventory_pb2.Product,
                aliases=same,
                elsewhere=store.conditions,
                creating=_check_origin,
                changed=_check_origin,
                deleting=lambda unit, product: product.require_deletable(),
            ),
        )


def _check_origin(unit: Unit, product: Product) -> None:
    """Raises InvalidArgument NOT_OF_THE_ORDER for orders of ours that the product isn't of, whose discounts it would
    have; what an order makes is said by the order. Those of another system may be named."""
    before = store.origin_before(product)
    added = {
        item.product_order_id: number
        for number, item in enumerate(product.product_order_item)
        if item.product_order_id and item.product_order_id not in before
    }
    wrong = [
        Violation(
            f"product_order_item[{added[order_id]}].product_order_id", f"order {order_id} says itself what it made"
        )
        for order_id in store.orders_among(unit, added)
    ]
    if wrong:
        raise InvalidArgument("NOT_OF_THE_ORDER", wrong[0].description, violations=wrong)
