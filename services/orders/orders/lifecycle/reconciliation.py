"""Whether the inventory is the sum of what orders have completed. Pure: no I/O, no clock."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from chassis.products import ProductPrice, ProductStatus
from orders.inventory.domain import Product
from orders.ordering.domain import ProductOrderItem, status_of
from orders.ordering.values import OrderItemAction, OrderPrice, ProductOrderItemState

_I, _P = ProductOrderItemState, ProductStatus
# What has become of a product whose only item hasn't been completed.
_BEGUN: Mapping[ProductOrderItemState, frozenset[ProductStatus]] = {
    _I.FAILED: frozenset({_P.ABORTED}),
    _I.REJECTED: frozenset({_P.ABORTED}),
    _I.CANCELLED: frozenset({_P.CANCELLED, _P.ABORTED}),
}
_COMING = frozenset({_P.PENDING_ACTIVE})


@dataclass(frozen=True, kw_only=True, slots=True)
class InventoryDifference:
    """A product that isn't what its orders make of it, in one attribute."""

    product_id: str
    attribute: str
    expected: str
    found: str
    product_order_id: str


def differences(product: Product, items: Sequence[ProductOrderItem]) -> Iterator[InventoryDifference]:
    """Where a product differs from what its items make of it, given in the order in which they were carried out.

    Nothing, for one that no order of ours has made."""
    if not items or items[0].item.action is not OrderItemAction.ADD:
        return
    done = [item for item in items if item.state is _I.COMPLETED]
    expected = _statuses(items[0], done)
    if product.status not in expected:
        yield _difference(product, "status", " or ".join(sorted(expected)), str(product.status), items[-1])
    priced = [item for item in done if item.item.product_offering is not None and item.item.action in _PRICING]
    if priced:
        yield from _as_priced(product, priced[-1])
    stated = [item for item in done if item.item.product is not None and item.item.product.product_characteristic]
    if stated and stated[-1].item.product is not None:
        wanted = {one.name: one.value for one in stated[-1].item.product.product_characteristic}
        found = {one.name: one.value for one in product.product_characteristic}
        wrong = sorted(name or "" for name in wanted if found.get(name) != wanted[name])
        if wrong:
            yield _difference(product, "product_characteristic", "as ordered", ", ".join(wrong), stated[-1])


_PRICING = frozenset({OrderItemAction.ADD, OrderItemAction.MODIFY})


def _statuses(added: ProductOrderItem, done: Sequence[ProductOrderItem]) -> frozenset[ProductStatus]:
    if added.state is not _I.COMPLETED:
        return _BEGUN.get(added.state, _COMING)
    status = _P.ACTIVE
    for item in done:
        if item.item.action is OrderItemAction.DELETE:
            return frozenset({_P.TERMINATED})
        status = status_of(item.item) or status
    return frozenset({status})


def _as_priced(product: Product, item: ProductOrderItem) -> Iterator[InventoryDifference]:
    offering = item.item.product_offering
    found = product.product_offering.id if product.product_offering is not None else None
    if offering is not None and offering.id != found:
        yield _difference(product, "product_offering", offering.id or "", found or "", item)
    charged, sold = sorted(map(_worth, item.charge)), sorted(map(_worth, product.product_price))
    if charged != sold:
        yield _difference(product, "product_price", "; ".join(charged), "; ".join(sold), item)


def _worth(price: OrderPrice | ProductPrice) -> str:
    """A price in words: what it is of, and how much."""
    reference = price.product_offering_price
    amount = price.price.duty_free_amount if price.price is not None else None
    name = (reference.id if reference is not None else None) or price.name or ""
    worth = f"{amount.value:f} {amount.unit}" if amount is not None and amount.value is not None else ""
    return f"{name} {price.price_type} {worth}"


def missing(item: ProductOrderItem, product: Product | None) -> InventoryDifference | None:
    """What is wrong with the product of a completed item: it isn't there, or doesn't know of the order."""
    if item.state is not _I.COMPLETED or item.item.action is OrderItemAction.NO_CHANGE:
        return None
    named = {one.product_order_id for one in product.product_order_item} if product is not None else set()
    if item.product_order_id in named:
        return None
    found = "no such product" if product is None else "it doesn't name the order"
    return InventoryDifference(
        product_id=item.product_id or "",
        attribute="product_order_item",
        expected=f"{item.item.action} of item {item.item.id}",
        found=found,
        product_order_id=item.product_order_id,
    )


def _difference(
    product: Product, attribute: str, expected: str, found: str, item: ProductOrderItem
) -> InventoryDifference:
    return InventoryDifference(
        product_id=product.id,
        attribute=attribute,
        expected=expected,
        found=found,
        product_order_id=item.product_order_id,
    )
