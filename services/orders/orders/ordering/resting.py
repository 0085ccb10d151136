"""Products and orders as billing cares for them. Pure: no I/O, no clock."""

from datetime import datetime

from orders.billing.changes import Cause, Held
from orders.inventory.domain import Product
from orders.ordering.domain import ProductOrder, ProductOrderItem, customers_of, payer


def held(product: Product) -> Held:
    """A product as it is now."""
    return Held(
        status=product.status,
        prices=product.product_price,
        offering_id=(product.product_offering.id or "") if product.product_offering is not None else "",
        characteristics=product.product_characteristic,
        resting=product.resting_price,
    )


def cause_of(order: ProductOrder, item: ProductOrderItem, product: Product, digest: str | None, at: datetime) -> Cause:
    """An item of an order, priced by the receipt with the digest."""
    account = payer(order, item.item, product)
    return Cause(
        account=(account.id or "") if account is not None else "",
        branch=order.branch,
        at=at,
        product_id=product.id,
        customer_id=order.customer_id,
        order_id=order.id,
        order_item_id=item.item.id or "",
        receipt_digest=digest,
    )


def cause_without_order(product: Product, at: datetime) -> Cause:
    """What changes without an order of its own, told with the one by which the product is what it is."""
    latest = product.product_order_item[-1] if product.product_order_item else None
    account = product.billing_account
    return Cause(
        account=(account.id or "") if account is not None else "",
        branch=product.branch,
        at=at,
        product_id=product.id,
        customer_id=next(iter(customers_of(product.related_party)), ""),
        order_id=(latest.product_order_id or "") if latest is not None else "",
        order_item_id=(latest.order_item_id or "") if latest is not None else "",
    )
