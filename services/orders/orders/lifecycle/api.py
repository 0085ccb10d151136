"""What can be asked of a product's life."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from chassis import convert
from chassis.db import Database
from chassis.errors import InvalidArgument, Violation
from chassis.products import ProductStatus, SuspensionReason
from chassis.resources import Collection, StandardMethods
from chassis.types import bad_transition, require_transition
from chassis.unit import Unit, missing
from orders.inventory import suspension
from orders.inventory.domain import TRANSITIONS, Product
from orders.inventory.suspension import SuspensionRule
from orders.lifecycle import history, reconciliation, store
from orders.ordering import statuses
from orders.ordering.domain import MOVABLE
from orders.ordering.sold import digest_of
from orders.ordering.store import items_by_order, receipt_of
from svyaz.orders.v1 import inventory_pb2, lifecycle_pb2
from svyaz.type.v1 import receipt_pb2, requests_pb2

MOST = 1_000
# Where a page of the second half of a reconciliation begins: orders, after all products.
_ORDERS = "order/"
_PREFIX = convert.enum_prefix(inventory_pb2.SuspensionReason.DESCRIPTOR)


class ProductLifecycle(StandardMethods):
    """Suspends, resumes and ends products, and tells what has become of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        super().__init__(
            lifecycle_pb2.DESCRIPTOR.services_by_name["ProductLifecycleService"],
            Collection(database, SuspensionRule, lifecycle_pb2.SuspensionRule),
        )

    def SuspendProduct(
        self, request: lifecycle_pb2.SuspendProductRequest, context: Any
    ) -> lifecycle_pb2.ProductStatusAnswer:
        """A reason more; raises FailedPrecondition BAD_TRANSITION, InvalidArgument REQUIRED, INVALID_PERIOD."""

        def work(unit: Unit) -> lifecycle_pb2.ProductStatusAnswer:
            product = unit.get(Product, request.id)
            _require(product, ProductStatus.SUSPENDED)
            start = convert.from_timestamp(request.start) if request.HasField("start") else unit.at
            end = convert.from_timestamp(request.end) if request.HasField("end") else None
            if end is not None and end <= unit.at:
                why = "is over already"
                raise InvalidArgument("INVALID_PERIOD", f"its end {why}", violations=[Violation("end", why)])
            wanted = suspension.wish(_reason(request.reason), start, end, request.note)
            before = suspension.lasting(product.suspension, unit.at)
            product.suspension = suspension.with_reason(before, wanted, unit.at)
            return _answer(unit, product, statuses.settle(unit, product))

        return self._database.transact(request, lifecycle_pb2.ProductStatusAnswer, work)

    def ResumeProduct(
        self, request: lifecycle_pb2.ResumeProductRequest, context: Any
    ) -> lifecycle_pb2.ProductStatusAnswer:
        """A reason less; raises FailedPrecondition NOT_SUSPENDED, BAD_TRANSITION, InvalidArgument REQUIRED."""

        def work(unit: Unit) -> lifecycle_pb2.ProductStatusAnswer:
            product = unit.get(Product, request.id)
            _require(product, ProductStatus.ACTIVE)
            before = suspension.lasting(product.suspension, unit.at)
            product.suspension = suspension.without_reason(before, _reason(request.reason))
            return _answer(unit, product, statuses.settle(unit, product))

        return self._database.transact(request, lifecycle_pb2.ProductStatusAnswer, work)

    def TerminateProduct(
        self, request: lifecycle_pb2.TerminateProductRequest, context: Any
    ) -> lifecycle_pb2.ProductStatusAnswer:
        """Its end, ordered once; raises FailedPrecondition BAD_TRANSITION, TERMINATION_FAILED."""

        def work(unit: Unit) -> lifecycle_pb2.ProductStatusAnswer:
            product = unit.get(Product, request.id)
            if product.status is ProductStatus.TERMINATED or statuses.is_ending(unit, product):
                return _answer(unit, product, product.termination_order_id or "")
            statuses.require_no_end_undone(unit, product)
            if product.status is not ProductStatus.PENDING_TERMINATE:
                _require(product, ProductStatus.PENDING_TERMINATE)
            at = convert.from_timestamp(request.at) if request.HasField("at") else unit.at
            return _answer(unit, product, statuses.end(unit, product, at, request.reason))

        return self._database.transact(request, lifecycle_pb2.ProductStatusAnswer, work)

    def GetProductTree(self, request: requests_pb2.GetRequest, context: Any) -> lifecycle_pb2.ProductTree:
        """A product with its parts; raises NotFound, FailedPrecondition TREE_TOO_LARGE."""
        with self._database.unit() as unit:
            products = store.tree(unit, request.id, _instant(request))
        if request.id not in products:
            raise missing(Product, request.id)
        return _tree(request.id, products, set())

    def ListProductChanges(
        self, request: lifecycle_pb2.ListProductChangesRequest, context: Any
    ) -> lifecycle_pb2.ListProductChangesResponse:
        """What has happened to a product; raises NotFound, InvalidArgument LIMIT."""
        limit = _limit(request, 100)
        first = max(0, request.after) + 1
        with self._database.unit() as unit:
            # With the one before the first, from which that differs.
            found = store.versions(unit, request.id, first - 1, limit + 1)
            if not found and not store.versions(unit, request.id, 0, 1):
                raise missing(Product, request.id)
            before = found.pop(0).product if found and found[0].number < first else None
            del found[limit:]
            categories = store.categories(unit, history.orders_in(found))
            items = list(history.changes(before, found, categories))
        return lifecycle_pb2.ListProductChangesResponse(
            items=[convert.to_message(one, lifecycle_pb2.ProductChange) for one in items]
        )

    def ListProductPrices(
        self, request: requests_pb2.GetRequest, context: Any
    ) -> lifecycle_pb2.ListProductPricesResponse:
        """What a product costs as it was sold, and why; raises NotFound."""
        at = _instant(request)
        with self._database.unit() as unit:
            product = unit.get(Product, request.id) if at is None else store.past(unit, request.id, at)
            orders = {one.receipt.product_order_id for one in product.product_price if one.receipt is not None}
            receipts = {key: receipt_of(unit, key) for key in sorted(filter(None, orders))}
        charged = product.running_charges
        items = []
        for price in product.product_price:
            sold = lifecycle_pb2.SoldPrice(price=convert.to_message(price, inventory_pb2.ProductPrice))
            sold.charged = any(price is one for one in charged)
            receipt = receipts.get(price.receipt.product_order_id or "") if price.receipt is not None else None
            if receipt is not None and price.receipt is not None:
                sold.receipt.CopyFrom(receipt_pb2.Receipt.FromString(receipt))
                sold.receipt_unchanged = digest_of(receipt) == price.receipt.digest
            items.append(sold)
        return lifecycle_pb2.ListProductPricesResponse(items=items)

    def ReconcileProducts(
        self, request: lifecycle_pb2.ReconcileProductsRequest, context: Any
    ) -> lifecycle_pb2.ReconcileProductsResponse:
        """Some products beside their orders' items, then some orders beside their products; raises InvalidArgument
        LIMIT."""
        limit = _limit(request, 500)
        if request.after.startswith(_ORDERS):
            return self._orders_reconciled(request.after.removeprefix(_ORDERS), limit)
        with self._database.unit() as unit:
            products = store.products_after(unit, request.after, limit)
            items = store.items_of_products(unit, products)
            wrong = [one for each in products for one in reconciliation.differences(each, items[each.id])]
        return lifecycle_pb2.ReconcileProductsResponse(
            items=[convert.to_message(one, lifecycle_pb2.InventoryDifference) for one in wrong],
            looked_at=len(products),
            next=products[-1].id if len(products) == limit else _ORDERS,
        )

    def _orders_reconciled(self, after: str, limit: int) -> lifecycle_pb2.ReconcileProductsResponse:
        with self._database.unit() as unit:
            orders = store.orders_after(unit, after, limit)
            items = [one for each in items_by_order(unit, [order.id for order in orders]).values() for one in each]
            products = store.products_of(unit, {item.product_id for item in items if item.product_id})
            found = [reconciliation.missing(item, products.get(item.product_id or "")) for item in items]
        return lifecycle_pb2.ReconcileProductsResponse(
            items=[convert.to_message(one, lifecycle_pb2.InventoryDifference) for one in found if one is not None],
            looked_at=len(orders),
            next=f"{_ORDERS}{orders[-1].id}" if len(orders) == limit else "",
        )


def _require(product: Product, wanted: ProductStatus) -> None:
    """Raises FailedPrecondition BAD_TRANSITION unless the product is so, or can become so by the table, and works."""
    assert product.status is not None
    if product.status is wanted:
        return
    if wanted is ProductStatus.ACTIVE and product.status not in MOVABLE:
        raise bad_transition(
            f"a product that is {str(product.status).strip()!r} isn't suspended",
            attribute="status",
            before=product.status,
            wanted=wanted,
        )
    require_transition("a product", TRANSITIONS, product.status, wanted, attribute="status")


def _reason(reason: int) -> SuspensionReason | None:
    name = inventory_pb2.SuspensionReason.Name(reason).removeprefix(_PREFIX)  # type: ignore[arg-type]
    return SuspensionReason[name] if reason else None


def _answer(unit: Unit, product: Product, order_id: str) -> lifecycle_pb2.ProductStatusAnswer:
    unit.flush()
    return lifecycle_pb2.ProductStatusAnswer(
        product=convert.to_message(product, inventory_pb2.Product), product_order_id=order_id
    )


def _instant(request: requests_pb2.GetRequest) -> datetime | None:
    return convert.from_timestamp(request.at) if request.HasField("at") else None


def _limit(request: Any, usual: int) -> int:
    limit: int = request.limit if request.HasField("limit") else usual
    if not 1 <= limit <= MOST:
        violations = [Violation("limit", f"from 1 to {MOST:,}")]
        raise InvalidArgument("LIMIT", f"a page has 1 to {MOST:,}", violations=violations)
    return limit


def _tree(product_id: str, products: Mapping[str, Product], met: set[str]) -> lifecycle_pb2.ProductTree:
    """Each product once, below the first that bundles it."""
    met.add(product_id)
    product = products[product_id]
    message = lifecycle_pb2.ProductTree(product=convert.to_message(product, inventory_pb2.Product))
    for key in product.part_ids:
        if key in products and key not in met:
            message.part.append(_tree(key, products, met))
    return message
