"""What becomes of a product when an item is carried out, and what billing is told of it."""

from collections.abc import Sequence
from dataclasses import replace

from chassis.convert import merge_json
from chassis.errors import FailedPrecondition
from chassis.products import (
    ProductPrice,
    ProductRefOrValue,
    ProductRelationship,
    ProductStatus,
    RelatedProductOrderItem,
)
from chassis.types import EntityRef, new_id
from chassis.unit import Unit
from orders.billing.changes import Cause, Held, charges_of
from orders.billing.domain import ChargeEvent
from orders.fulfilment.domain import FulfilmentTask
from orders.inventory.domain import RUNNING, Product
from orders.ordering import sold, statuses, store
from orders.ordering.chosen import configured
from orders.ordering.domain import ProductOrder, ProductOrderItem, customers_of, payer
from orders.ordering.handover import gives_away, going_on, taken_over
from orders.ordering.resting import cause_of, held
from orders.ordering.values import OrderItemAction, OrderPrice, ProductOrderItemState


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


def begin(unit: Unit, order: ProductOrder, items: Sequence[ProductOrderItem], products: dict[str, Product]) -> None:
    """Has items go into progress, with the products that they are to become; `products`: those of the items that some
    of them are inside, by row."""
    for item in items:
        item.move(ProductOrderItemState.IN_PROGRESS)
        if item.item.action is OrderItemAction.ADD:
            product = ordered_product(order, item, products.get(item.parent_id or ""))
            unit.add(product)
            item.product_id = product.id
        else:
            item.product_id = item.item.product.id if item.item.product is not None else None
            found = unit.find(Product, item.product_id) if item.product_id else None
            if found is None:
                continue
            product = found
        products[item.id] = product


# What a product that is to come has of its item.
_OF_THE_ITEM = (
    "name",
    "description",
    "product_serial_number",
    "agreement",
    "place",
    "product_characteristic",
    "product_specification",
    "product_term",
    "product_offering",
    "product_price",
    "billing_account",
    "extensions",
)


def wanted_otherwise(order: ProductOrder, item: ProductOrderItem, product: Product) -> None:
    """Has a product that is still to come be what its item wants by now."""
    anew = ordered_product(order, item, None)
    for name in _OF_THE_ITEM:
        if getattr(product, name) != getattr(anew, name):
            setattr(product, name, getattr(anew, name))


def carried_out(unit: Unit, order: ProductOrder, item: ProductOrderItem, product: Product) -> Sequence[ChargeEvent]:
    """Changes the product as the item says; the charges that follow from it. Changes nothing when it raises.

    Raises FailedPrecondition BAD_TRANSITION when the product is in no state for it, BUNDLE_ENDED, InvalidArgument
    CHARGE_INVALID.
    """
    action = item.item.action
    before, receipt = held(product), store.receipt_of(unit, order.id)
    cause = cause_of(order, item, product, sold.digest_of(receipt) if receipt else None, unit.at)
    if action is OrderItemAction.ADD:
        statuses.require_bundle(unit, product)
        after = replace(before, status=ProductStatus.ACTIVE, prices=_product_prices(item.charge))
        charged = charges_of(before, after, cause)
        product.move(ProductStatus.ACTIVE, unit.at)
        sold.freeze(unit, order, product)
        statuses.activated(unit, product)
        return charged
    if action is OrderItemAction.MODIFY:
        _require_modifiable(product)
        offering = item.item.product_offering
        charged = statuses.carried_out(unit, order, item, product, cause)
        if gives_away(unit, order, product):
            charged = [*charged, *_handed_over(unit, order, item, product, cause)]
        elif offering is not None:
            prices = _product_prices(item.charge)
            resting = statuses.resting_with(unit, product, offering, prices)
            after = replace(before, prices=prices, offering_id=offering.id or "", resting=resting)
            charged = charges_of(before, after, cause, priced=True)
            product.product_offering = offering
            product.product_price, product.resting_price = prices, resting
            sold.freeze(unit, order, product)
        wanted = item.item.product
        if wanted is not None and offering is not None:
            # What the price has gone by, which the next one goes by too.
            product.agreement = wanted.agreement or product.agreement
        if wanted is not None and wanted.extensions:
            product.extensions = merge_json(product.extensions, wanted.extensions)
        if wanted is not None and wanted.product_characteristic:
            product.product_characteristic = configured(product.product_characteristic, wanted.product_characteristic)
        if wanted is not None and wanted.product_term:
            product.product_term = wanted.product_term
        if wanted is not None and wanted.place:
            # One for each role: who moves the router doesn't move where its bill goes.
            roles = {place.role for place in wanted.place}
            product.place = (*(place for place in product.place if place.role not in roles), *wanted.place)
        product.product_order_item = (*product.product_order_item, _origin(order, item))
        return charged
    if action is OrderItemAction.DELETE:
        charged = charges_of(before, replace(before, status=ProductStatus.TERMINATED), cause)
        product.move(ProductStatus.PENDING_TERMINATE, unit.at)
        product.move(ProductStatus.TERMINATED, unit.at)
        product.product_order_item = (*product.product_order_item, _origin(order, item))
        statuses.end_parts(unit, order, product)
        return charged
    return ()


def require_chargeable(unit: Unit, order: ProductOrder, item: ProductOrderItem, product: Product) -> None:
    """Whether carrying the item out would come to charges, as far as that can be told beforehand; changes nothing.

    Raises FailedPrecondition BAD_TRANSITION, BUNDLE_ENDED, UNCHARGEABLE, InvalidArgument CHARGE_INVALID, as
    `carried_out` will.
    """
    before, cause = held(product), cause_of(order, item, product, None, unit.at)
    action, offering = item.item.action, item.item.product_offering
    prices = _product_prices(item.charge)
    if action is OrderItemAction.ADD:
        product.require_coming()
        statuses.require_bundle(unit, product)
        charges_of(before, replace(before, status=ProductStatus.ACTIVE, prices=prices), cause)
    elif action is OrderItemAction.MODIFY:
        _require_modifiable(product)
        if gives_away(unit, order, product):
            account = payer(order, item.item, None)
            due = prices if offering is not None else going_on(product, unit.at)
            begun = replace(before, prices=due, offering_id=_id(offering or product.product_offering), resting=None)
            charges_of(Held(status=None), begun, replace(cause, account=_id(account)))
        elif offering is not None:
            charges_of(before, replace(before, prices=prices, offering_id=_id(offering)), cause, priced=True)
    elif action is OrderItemAction.DELETE:
        if product.status not in RUNNING:
            raise FailedPrecondition("BAD_TRANSITION", f"a product that is {str(product.status)!r} can't be ended")
        charges_of(before, replace(before, status=ProductStatus.TERMINATED), cause)


def _require_modifiable(product: Product) -> None:
    if product.status not in (ProductStatus.ACTIVE, ProductStatus.SUSPENDED):
        raise FailedPrecondition("BAD_TRANSITION", f"a product that is {str(product.status)!r} can't be modified")


def _handed_over(
    unit: Unit, order: ProductOrder, item: ProductOrderItem, product: Product, cause: Cause
) -> list[ChargeEvent]:
    """Makes the product its new customer's: what runs stops for the account and customer that it had, and starts for
    those that it has from now on. Changes nothing when it raises."""
    former = held(product)
    given_up = replace(cause, customer_id=next(iter(customers_of(product.related_party)), ""))
    charged = charges_of(former, replace(former, status=ProductStatus.TERMINATED), given_up)
    after = taken_over(order, product)
    account = payer(order, item.item, None)
    ordered = item.item.product_offering
    if ordered is not None:
        prices = due = _product_prices(item.charge)
        resting = statuses.resting_with(unit, product, ordered, prices)
    else:
        # The catalog doesn't know the product. What was due once isn't again.
        after.product_price = prices = going_on(product, unit.at)
        due, resting = after.recurring_prices, product.resting_price
    offering = ordered or product.product_offering
    begun = replace(former, prices=due, offering_id=_id(offering), resting=resting)
    charged += charges_of(Held(status=None), begun, replace(cause, account=_id(account)))
    for name in ("agreement", "description", "extensions", "related_party"):
        setattr(product, name, getattr(after, name))
    product.billing_account, product.product_offering = account, offering
    product.product_price, product.resting_price = prices, resting
    if ordered is not None:
        sold.freeze(unit, order, product)
    return charged


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
