"""What orders tell that points may be earned for: an order is completed, a product becomes active."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from chassis.cloudevents import ReceivedEvent
from chassis.convert import from_money
from chassis.unit import Unit
from customers.loyalty.books import Books
from customers.loyalty.earning import happened
from customers.loyalty.values import ORDER_COMPLETED, PRODUCT_ACTIVATED, LoyaltyEvent
from svyaz.orders.v1 import inventory_pb2, orders_pb2
from svyaz.type.v1 import values_pb2

_CUSTOMER = "customer"


class Earnings:
    """Counts what happens to orders and products for the members whose they are."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def orders_changed(self, event: ReceivedEvent, unit: Unit) -> None:
        """An order or product counts once, however often it reaches the state: its id is in the event's."""
        told = _told(event)
        if told is not None:
            customer, happening = told
            self._books.heard(unit, customer, happening)


def _told(event: ReceivedEvent) -> tuple[str, LoyaltyEvent] | None:
    """The customer's id, and what has happened; None: nothing that counts, or nobody's."""
    if event.aggregate_type == "ProductOrder" and event.type in _REACHED["ProductOrder"]:
        order = event.message(orders_pb2.ProductOrder)
        if order.state != orders_pb2.PRODUCT_ORDER_STATE_COMPLETED:
            return None
        return _of(order.related_party, event, ORDER_COMPLETED, _order_facts(order))
    if event.aggregate_type == "Product" and event.type in _REACHED["Product"]:
        product = event.message(inventory_pb2.Product)
        if product.status != inventory_pb2.PRODUCT_STATUS_ACTIVE:
            return None
        return _of(product.related_party, event, PRODUCT_ACTIVATED, _product_facts(product))
    return None


_REACHED: Mapping[str, tuple[str, ...]] = {
    kind: (f"{kind}CreateEvent", f"{kind}StateChangeEvent") for kind in ("ProductOrder", "Product")
}


def _of(
    parties: Iterable[values_pb2.RelatedParty], event: ReceivedEvent, kind: str, facts: Mapping[str, Any]
) -> tuple[str, LoyaltyEvent] | None:
    named = [party.id for party in parties if _CUSTOMER in (party.role.lower(), party.at_referred_type.lower())]
    if not named:
        return None
    return named[0], happened(event.time, kind, f"{kind}/{event.aggregate_id}", facts)


def _order_facts(order: orders_pb2.ProductOrder) -> Mapping[str, Any]:
    return {
        **_amounts((price.price_type, price.price) for price in order.order_total_price),
        "order_id": order.id,
        "category": order.category,
        "channel": [channel.name or channel.id for channel in order.channel],
        "coupon": list(order.coupon),
    }


def _product_facts(product: inventory_pb2.Product) -> Mapping[str, Any]:
    return {
        **_amounts((price.price_type, price.price) for price in product.product_price),
        "product_id": product.id,
        "name": product.name,
        "offering_id": product.product_offering.id,
        "specification_id": product.product_specification.id,
        "is_bundle": product.is_bundle,
    }


def _amounts(prices: Iterable[tuple[str, values_pb2.Price]]) -> Mapping[str, Any]:
    """The charges by kind, what they come to, and their currency; amounts include tax. When they are of several
    currencies nothing is said of them: they don't add."""
    totals: dict[str, Decimal] = {}
    currencies: set[str] = set()
    for kind, price in prices:
        with_tax = price.HasField("tax_included_amount")
        money = from_money(price.tax_included_amount if with_tax else price.duty_free_amount)
        if money.value is None or not money.unit:
            continue
        currencies.add(money.unit)
        name = "one_time" if kind.lower().replace("_", "") == "onetime" else kind.lower()
        totals[name] = totals.get(name, Decimal(0)) + money.value
    if len(currencies) != 1:
        return {}
    return {"currency": currencies.pop(), "amount": sum(totals.values(), Decimal(0)), **totals}
