"""What a product costs as it was sold: each price with the receipt of its order, and since when it has been so.

The catalog may change afterwards; the price and the receipt that explains it stay with the product's version.
"""

import hashlib
from dataclasses import replace

from chassis.products import PriceReceiptRef
from chassis.types import TimePeriod
from chassis.unit import Unit
from orders.inventory.domain import Product
from orders.ordering.domain import ProductOrder
from orders.ordering.store import receipt_of


def freeze(unit: Unit, order: ProductOrder, product: Product) -> None:
    """Prices that an order has just given the product become what it was sold for."""
    if all(price.valid_for is not None for price in product.product_price):
        return
    receipt = receipt_of(unit, order.id)
    reference = PriceReceiptRef(product_order_id=order.id, digest=digest_of(receipt)) if receipt else None
    product.product_price = tuple(
        price
        if price.valid_for is not None
        else replace(price, receipt=reference, valid_for=TimePeriod(start_date_time=unit.at))
        for price in product.product_price
    )


def digest_of(receipt: bytes) -> str:
    """By what a receipt is known: the hex SHA-256 of its bytes."""
    return hashlib.sha256(receipt).hexdigest()
