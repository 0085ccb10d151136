"""What the inventory can be asked to do."""

from typing import Any

from chassis import convert
from chassis.aliases import AliasedCollection
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.resources import StandardMethods
from chassis.unit import Unit
from orders.identity.store import same
from orders.inventory import hierarchy, store
from orders.inventory.characteristics import Configurator
from orders.inventory.domain import Product
from svyaz.orders.v1 import inventory_pb2


class Inventory(StandardMethods):
    """TMF637."""

    def __init__(self, database: Database, configurator: Configurator | None = None) -> None:
        self._database = database
        self._configurator = configurator
        self._products = AliasedCollection(
            database,
            Product,
            inventory_pb2.Product,
            aliases=same,
            elsewhere=store.conditions,
            creating=_check,
            changed=_check,
            deleting=lambda unit, product: product.require_deletable(),
        )
        super().__init__(inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"], self._products)

    def UpdateProduct(self, request: inventory_pb2.UpdateProductRequest, context: Any) -> inventory_pb2.Product:
        """Changes what the mask names; raises FailedPrecondition BY_ORDER for what an order has configured."""
        named = {path.split(".")[0] for path in request.update_mask.paths}
        if "product_characteristic" in named and self._configurator is not None:
            remembered = self._database.remembered(request, inventory_pb2.Product)
            if remembered is not None:
                return remembered
            self._require_undeclared(request, self._configurator)
        return self._products.update(request)

    def _require_undeclared(self, request: inventory_pb2.UpdateProductRequest, configurator: Configurator) -> None:
        """That of an ordered product only those characteristics change that nothing declares: the network and the price
        go by the others."""
        with self._database.unit() as unit:
            product = unit.get(Product, request.product.id, request.etag)
        changes = convert.changes(request.product, list(request.update_mask.paths), product)
        before = product.product_characteristic
        wanted = changes.get("product_characteristic", before)
        offering = product.product_offering.id if product.product_offering is not None else None
        if not product.product_order_item or not offering:
            return
        changed = [one for one in wanted if one not in before] + [one for one in before if one not in wanted]
        names = configurator.declared(offering, changed) if changed else set()
        if names:
            raise FailedPrecondition(
                "BY_ORDER",
                f"{', '.join(sorted(names))}: the specification declares it, so an order changes it",
                violations=[Violation("product.product_characteristic", "by an order only")],
            )


def _check(unit: Unit, product: Product) -> None:
    _check_origin(unit, product)
    hierarchy.check(unit, product)


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
