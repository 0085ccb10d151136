"""What an event of the inventory says of what is held."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from catalog.holding import store
from catalog.holding.domain import Holding, HoldingStatus, SoldAlteration, SoldPrice
from chassis.convert import enum_prefix, from_money, from_timestamp
from chassis.types import Json
from chassis.unit import Unit
from svyaz.operations.v1 import operations_pb2
from svyaz.orders.v1 import inventory_pb2, orders_pb2
from svyaz.type.v1 import values_pb2

PRODUCT, ITEM = "Product", "ProductOrderItem"
_PREFIX = enum_prefix(inventory_pb2.ProductStatus.DESCRIPTOR)
# Inside the product that an order has made of a bundle.
_BUNDLED_IN = "bundledIn"
# Where the inventory knows what segment a product was sold to: an attribute that TMF637 lacks, named as in TMF620.
_MARKET_SEGMENT = "marketSegment"


def heard_again(event: operations_pb2.Event, unit: Unit) -> None:
    """The same for an event as the inventory's log lists it: nothing is done by one that is older than what is known.

    Raises ValueError when it carries another message than it says.
    """
    if event.aggregate_type == PRODUCT:
        product = inventory_pb2.Product.FromString(event.data)
        if event.type == "ProductDeleteEvent":
            store.forget(unit, event.aggregate_id, event.version)
        else:
            store.remember(unit, holding_of(product, event.aggregate_id, event.branch, event.version))
    elif event.aggregate_type == ITEM:
        count(unit, orders_pb2.OrderedItem.FromString(event.data), event.branch, from_timestamp(event.time))


def count(unit: Unit, ordered: orders_pb2.OrderedItem, branch: str, at: datetime) -> None:
    """Keeps how many a product is, where the item adds it or has changed it."""
    item = ordered.item
    adds = item.action == orders_pb2.ORDER_ITEM_ACTION_ADD
    changed = (
        item.action == orders_pb2.ORDER_ITEM_ACTION_MODIFY
        # Without one its prices stay as they are.
        and item.HasField("product_offering")
        and ordered.state == orders_pb2.PRODUCT_ORDER_ITEM_STATE_COMPLETED
    )
    if ordered.product_id and (adds or changed):
        store.count(unit, ordered.product_id, branch, item.quantity if item.HasField("quantity") else 1, at)


def holding_of(product: inventory_pb2.Product, id: str, branch: str, version: int) -> Holding:
    """What the catalog keeps of a product."""
    name = inventory_pb2.ProductStatus.Name(product.status or inventory_pb2.PRODUCT_STATUS_CREATED)
    return Holding(
        id=id,
        branch=branch,
        version=version,
        status=HoldingStatus[name.removeprefix(_PREFIX)],
        customer_id=_customer(product.related_party),
        billing_account_id=product.billing_account.id or None,
        product_offering_id=product.product_offering.id or None,
        product_specification_id=product.product_specification.id or None,
        bundle_id=next(
            (
                relation.product.id or None
                for relation in product.product_relationship
                if relation.relationship_type == _BUNDLED_IN
            ),
            None,
        ),
        started_at=from_timestamp(product.start_date) if product.HasField("start_date") else None,
        characteristic=_characteristics(product.product_characteristic),
        term=next((term.name for term in product.product_term if term.name), ""),
        place=tuple(place.id for place in product.place if place.id),
        agreement_id=next((agreement.id for agreement in product.agreement if agreement.id), None),
        market_segment=tuple(dict.fromkeys(_segments(product.extensions))),
        sold=tuple(_sold(price) for price in product.product_price if price.HasField("price")),
    )


def _customer(parties: Sequence[values_pb2.RelatedParty]) -> str | None:
    named = [party for party in parties if party.role.lower() == "customer"]
    named = named or [party for party in parties if party.at_referred_type == "Customer"]
    return next((party.id for party in named if party.id), None)


def _characteristics(given: Iterable[values_pb2.Characteristic]) -> Json:
    # The values as they are: a number keeps all its digits.
    parts = (f"{json.dumps(one.name)}:{one.value.decode() or 'null'}" for one in given)
    return Json("{" + ",".join(parts) + "}")


def _segments(extensions: bytes) -> Iterable[str]:
    found: Any = json.loads(extensions).get(_MARKET_SEGMENT) if extensions else None
    for one in found if isinstance(found, list) else [found]:
        # Prices and rules go by either.
        named = (one.get("id"), one.get("name")) if isinstance(one, dict) else (one,)
        yield from (name for name in named if isinstance(name, str) and name)


def _sold(price: inventory_pb2.ProductPrice) -> SoldPrice:
    amount = price.price
    money = amount.duty_free_amount if amount.HasField("duty_free_amount") else amount.tax_included_amount
    return SoldPrice(
        price_id=price.product_offering_price.id,
        price_type=price.price_type,
        period=price.recurring_charge_period,
        currency=money.unit,
        net=from_money(amount.duty_free_amount).value,
        gross=from_money(amount.tax_included_amount).value,
        tax_rate=Decimal(amount.tax_rate) if amount.tax_rate else None,
        alteration=tuple(_sold_alteration(one, price) for one in price.product_price_alteration),
    )


def _sold_alteration(alteration: inventory_pb2.PriceAlteration, price: inventory_pb2.ProductPrice) -> SoldAlteration:
    carried_over = alteration.valid_for if alteration.HasField("valid_for") else None
    duration = (alteration.application_duration or None) if carried_over is None else None
    ends = carried_over is not None and carried_over.HasField("end_date_time")
    return SoldAlteration(
        price_id=alteration.product_offering_price.id,
        net=from_money(alteration.price.duty_free_amount).value,
        duration=duration,
        # Without units of its own it lasts for so many of the charge's periods.
        units=(alteration.unit_of_measure or price.recurring_charge_period) if duration else "",
        until=from_timestamp(alteration.valid_for.end_date_time) if ends else None,
    )
