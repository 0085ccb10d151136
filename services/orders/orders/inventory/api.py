"""What the inventory can be asked to do."""

from chassis.db import Database
from chassis.resources import Collection, StandardMethods
from orders.inventory.domain import Product
from svyaz.orders.v1 import inventory_pb2


class Inventory(StandardMethods):
    """TMF637."""

    def __init__(self, database: Database) -> None:
        super().__init__(
            inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"],
            Collection(
                database, Product, inventory_pb2.Product, deleting=lambda unit, product: product.require_deletable()
            ),
        )
