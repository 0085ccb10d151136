"""What billing is told when a product is suspended or resumed: which of its recurring prices rest, and which begin
again. Pure: no I/O, no clock."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from chassis.products import ProductPrice
from chassis.types import Money, Price, TimePeriod
from orders.billing.domain import ChargeAlteration, ChargeEvent, ChargeType
from orders.inventory.domain import Product
from orders.inventory.suspension import name_of
from orders.ordering.domain import customers_of
from orders.ordering.values import is_promotion


@dataclass(frozen=True)
class Origin:
    """The order and item that brings a charge about, and the account, if it isn't the product's."""

    order_id: str
    item_id: str
    account: str = ""


def charges_of_suspension(
    product: Product, before: Sequence[ProductPrice], after: Sequence[ProductPrice], origin: Origin, at: datetime
) -> list[ChargeEvent]:
    """The charges that stop, of those that ran before, and start again; raises InvalidArgument CHARGE_INVALID."""
    ran, runs = ({name_of(price) for price in prices} for prices in (before, after))
    stopped = [(price, ChargeType.RECURRING_CHARGE_STOP) for price in before if name_of(price) not in runs]
    started = [(price, ChargeType.RECURRING_CHARGE_START) for price in after if name_of(price) not in ran]
    return [_charge(product, price, kind, origin, at) for price, kind in (*stopped, *started)]


def _charge(product: Product, price: ProductPrice, kind: ChargeType, origin: Origin, at: datetime) -> ChargeEvent:
    cost = price.price or Price()
    amount = cost.duty_free_amount or Money()
    account, offering, sold = product.billing_account, product.product_offering, price.product_offering_price
    # A charge that ends says what it was, not what it was made of.
    starts = kind is ChargeType.RECURRING_CHARGE_START
    alterations = tuple(_going_on(price, product)) if starts else ()
    altered = sum((one.amount.value or Decimal() for one in alterations), Decimal())
    return ChargeEvent(
        type=kind,
        account=((account.id if account is not None else None) or origin.account) or "",
        branch=product.branch,
        occurred_at=at,
        product_id=product.id,
        order_id=origin.order_id,
        order_item_id=origin.item_id,
        customer_id=next(iter(customers_of(product.related_party)), ""),
        product_offering_id=(offering.id or "") if offering is not None else "",
        product_offering_price_id=(sold.id or "") if sold is not None else "",
        amount=amount,
        tax_rate=cost.tax_rate,
        tax_included_amount=cost.tax_included_amount,
        recurring_charge_period=price.recurring_charge_period,
        receipt_digest=price.receipt.digest if price.receipt is not None else None,
        list_amount=replace(amount, value=amount.value - altered) if alterations and amount.value is not None else None,
        alteration=alterations,
    )


def _going_on(price: ProductPrice, product: Product) -> Iterator[ChargeAlteration]:
    """The discounts that ran while the product rested: what they were granted for isn't granted anew."""
    since = price.valid_for.start_date_time if price.valid_for is not None else product.start_date
    for alteration in price.product_price_alteration:
        off = alteration.price.duty_free_amount if alteration.price is not None else None
        if alteration.price is None or off is None:
            continue
        reference = alteration.product_offering_price
        granted = (reference.id or "") if reference is not None else ""
        promised = is_promotion(alteration)
        told = ChargeAlteration(
            name=alteration.name,
            product_offering_price_id="" if promised else granted,
            promotion_id=granted if promised else "",
            percentage=alteration.price.percentage,
            amount=off,
            duration=alteration.application_duration,
            units=alteration.unit_of_measure or price.recurring_charge_period,
            valid_for=alteration.valid_for,
        )
        if told.valid_for is None and told.duration is not None and since is not None:
            told = replace(told, valid_for=TimePeriod(start_date_time=since, end_date_time=told.until(since)))
        yield told
