"""What becomes of a product when an item is carried out, and what billing is told of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from chassis.convert import merge_json
from chassis.db import Unit
from chassis.errors import FailedPrecondition
from chassis.products import (
    ProductPrice,
    ProductRefOrValue,
    ProductRelationship,
    ProductStatus,
    RelatedProductOrderItem,
)
from chassis.types import EntityRef, new_id
from orders.billing.domain import ChargeAlteration, ChargeEvent, ChargeType
from orders.fulfilment.domain import FulfilmentTask
from orders.inventory.domain import RECURRING, Product
from orders.ordering import store
from orders.ordering.domain import ProductOrder, ProductOrderItem, payer
from orders.ordering.held import is_promotion
from orders.ordering.values import OrderItemAction, OrderPrice


def _id(reference: EntityRef | None) -> str:
    return (reference.id or "") if reference is not None else ""


def _product_prices(charges: Sequence[OrderPrice]) -> tuple[ProductPrice, ...]:
    return tuple(
        ProductPrice(
            name=charge.name,
            price_type=charge.price_type,
            recurring_charge_period=charge.recurring_charge_period,
            price=charge.price,
            product_offering_price=charge.product_offering_price,
            product_price_alteration=charge.price_alteration,
        )
        for charge in charges
    )


def _origin(order: ProductOrder, item: ProductOrderItem) -> RelatedProductOrderItem:
    return RelatedProductOrderItem(
        product_order_id=order.id,
        order_item_id=item.item.id,
        order_item_action=str(item.item.action) if item.item.action else None,
    )


def ordered_product(order: ProductOrder, item: ProductOrderItem, bundle: Product | None) -> Product:
    """The product that an item is to become; one inside a bundle belongs to the bundle's product."""
    wanted = item.item.product
    offering = item.item.product_offering
    product = Product(
        id=new_id(),
        branch=order.branch,
        status=ProductStatus.PENDING_ACTIVE,
        order_date=order.order_date,
        name=(wanted.name if wanted is not None else None) or (offering.name if offering is not None else None),
        description=wanted.description if wanted is not None else None,
        is_bundle=wanted.is_bundle if wanted is not None else None,
        is_customer_visible=wanted.is_customer_visible if wanted is not None else None,
        product_serial_number=wanted.product_serial_number if wanted is not None else None,
        agreement=wanted.agreement if wanted is not None else (),
        place=wanted.place if wanted is not None else (),
        product_characteristic=wanted.product_characteristic if wanted is not None else (),
        product_specification=wanted.product_specification if wanted is not None else None,
        product_term=wanted.product_term if wanted is not None else (),
        product_offering=offering,
        product_price=_product_prices(item.charge),
        product_order_item=(_origin(order, item),),
        billing_account=payer(order, item.item, None),
        related_party=order.related_party,
        realizing_service=wanted.realizing_service if wanted is not None else (),
        extensions=wanted.extensions if wanted is not None else None,
    )
    if bundle is not None:
        inside = ProductRelationship(
            relationship_type="bundledIn", product=ProductRefOrValue(id=bundle.id, name=bundle.name)
        )
        product.product_relationship = (inside,)
        bundle.product = (*bundle.product, ProductRefOrValue(id=product.id, name=product.name))
    return product


def carried_out(unit: Unit, order: ProductOrder, item: ProductOrderItem, product: Product) -> Sequence[ChargeEvent]:
    """Changes the product as the item says; the charges that follow from it. Changes nothing when it raises.

    Raises FailedPrecondition BAD_TRANSITION when the product is in no state for it, InvalidArgument CHARGE_INVALID.
    """
    action = item.item.action
    told = _Charges(unit, order, item, product)
    if action is OrderItemAction.ADD:
        charged = told.of(item.charge, ChargeType.RECURRING_CHARGE_START)
        product.move(ProductStatus.ACTIVE, unit.at)
        return charged
    if action is OrderItemAction.MODIFY:
        if product.status not in (ProductStatus.ACTIVE, ProductStatus.SUSPENDED):
            raise FailedPrecondition("BAD_TRANSITION", f"a product that is {str(product.status)!r} can't be modified")
        offering = item.item.product_offering
        charged = []
        if offering is not None:
            kept = {_name_of(price) for price in item.charge}
            fallen = [price for price in product.running_charges if _name_of(price) not in kept]
            charged = told.of(_order_prices(fallen), ChargeType.RECURRING_CHARGE_STOP)
            charged += told.of(item.charge, ChargeType.RECURRING_CHARGE_CHANGE, offering)
            product.product_offering = offering
            product.product_price = _product_prices(item.charge)
        wanted = item.item.product
        if wanted is not None and offering is not None:
            # What the price has gone by, which the next one goes by too.
            product.agreement = wanted.agreement or product.agreement
        if wanted is not None and wanted.extensions:
            product.extensions = merge_json(product.extensions, wanted.extensions)
        if wanted is not None and wanted.product_characteristic:
            product.product_characteristic = wanted.product_characteristic
        if wanted is not None and wanted.product_term:
            product.product_term = wanted.product_term
        product.product_order_item = (*product.product_order_item, _origin(order, item))
        return charged
    if action is OrderItemAction.DELETE:
        charged = told.of(_order_prices(product.running_charges), ChargeType.RECURRING_CHARGE_STOP)
        product.move(ProductStatus.PENDING_TERMINATE, unit.at)
        product.move(ProductStatus.TERMINATED, unit.at)
        product.product_order_item = (*product.product_order_item, _origin(order, item))
        return charged
    return ()


def _name_of(price: ProductPrice | OrderPrice) -> tuple[str | None, str | None]:
    """What makes two prices of a product the same charge: the offering's price, or a name where there is none."""
    return _id(price.product_offering_price) or price.name, price.recurring_charge_period


@dataclass(frozen=True)
class _Charges:
    """The charges that an item brings about for its product."""

    unit: Unit
    order: ProductOrder
    item: ProductOrderItem
    product: Product

    def of(
        self, prices: Sequence[OrderPrice], recurring: ChargeType, offering: EntityRef | None = None
    ) -> list[ChargeEvent]:
        """What billing is told of the prices; raises InvalidArgument CHARGE_INVALID."""
        receipt = store.receipt_of(self.unit, self.order.id) if prices else None
        charged: list[ChargeEvent] = []
        for price in prices:
            amount = price.price.duty_free_amount if price.price is not None else None
            if amount is None or price.price is None or amount.value is None:
                continue
            alterations = _alterations(price)
            altered = sum((one.amount.value or Decimal() for one in alterations), Decimal())
            charged.append(
                ChargeEvent(
                    type=recurring if price.price_type == RECURRING else ChargeType.CHARGE_CREATE,
                    account=_id(payer(self.order, self.item.item, self.product)),
                    branch=self.order.branch,
                    occurred_at=self.unit.at,
                    product_id=self.product.id,
                    order_id=self.order.id,
                    order_item_id=self.item.item.id or "",
                    customer_id=self.order.customer_id,
                    product_offering_id=_id(offering or self.product.product_offering),
                    product_offering_price_id=_id(price.product_offering_price),
                    amount=amount,
                    tax_rate=price.price.tax_rate,
                    tax_included_amount=price.price.tax_included_amount,
                    recurring_charge_period=price.recurring_charge_period,
                    receipt_digest=hashlib.sha256(receipt).hexdigest() if receipt else None,
                    list_amount=replace(amount, value=amount.value - altered) if alterations else None,
                    alteration=alterations,
                )
            )
        return charged


def _order_prices(prices: Sequence[ProductPrice]) -> list[OrderPrice]:
    return [
        OrderPrice(
            name=price.name,
            price_type=price.price_type,
            recurring_charge_period=price.recurring_charge_period,
            price=price.price,
            product_offering_price=price.product_offering_price,
        )
        for price in prices
    ]


def _alterations(price: OrderPrice) -> tuple[ChargeAlteration, ...]:
    return tuple(
        ChargeAlteration(
            name=alteration.name,
            product_offering_price_id="" if is_promotion(alteration) else _id(alteration.product_offering_price),
            promotion_id=_id(alteration.product_offering_price) if is_promotion(alteration) else "",
            percentage=alteration.price.percentage,
            amount=alteration.price.duty_free_amount,
            duration=alteration.application_duration,
            # Without units of its own it lasts for so many of the charge's periods.
            units=alteration.unit_of_measure or price.recurring_charge_period,
            valid_for=alteration.valid_for,
        )
        for alteration in price.price_alteration
        if alteration.price is not None and alteration.price.duty_free_amount is not None
    )


def with_results(product: Product, tasks: Sequence[FulfilmentTask]) -> None:
    """Writes to the product what its tasks have given back: characteristics by their names, resources by their ids."""
    told = {one.name: one for task in tasks for one in task.result}
    found = {one.id: one for task in tasks for one in task.resource}
    if told:
        kept = tuple(one for one in product.product_characteristic if one.name not in told)
        product.product_characteristic = (*kept, *told.values())
    if found:
        product.realizing_resource = (
            *(one for one in product.realizing_resource if one.id not in found),
            *found.values(),
        )
