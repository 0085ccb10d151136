"""What products were sold with: promotions that were granted to them go on when they are changed."""

from collections.abc import Sequence

from chassis import convert
from chassis.products import PriceAlteration, ProductPrice
from chassis.types import EntityRef, Money, Price
from orders.inventory.domain import Product
from svyaz.catalog.v1 import pricing_pb2
from svyaz.type.v1 import values_pb2

_PROMOTION = "Promotion"


def is_promotion(alteration: PriceAlteration) -> bool:
    """Whether it refers to what was granted beyond the prices, where others refer to a price of the catalog."""
    reference = alteration.product_offering_price
    return reference is not None and reference.at_referred_type == _PROMOTION


def held_charges(item_id: str, product: Product, parts: Sequence[Product]) -> list[pricing_pb2.HeldCharge]:
    """What recurs of a product and its parts as they were sold; nothing, where no promotion took anything off it."""
    charges = [(one, price) for one in (product, *parts) for price in one.recurring_prices]
    if not any(is_promotion(alteration) for _, price in charges for alteration in price.product_price_alteration):
        return []
    return [_held(item_id, price, None if one is product else one.product_offering) for one, price in charges]


def _held(item_id: str, price: ProductPrice, part: EntityRef | None) -> pricing_pb2.HeldCharge:
    cost = price.price or Price()
    reference = price.product_offering_price
    return pricing_pb2.HeldCharge(
        item_id=item_id,
        bundled_offering_id=(part.id or "") if part is not None else "",
        product_offering_price_id=(reference.id or "") if reference is not None else "",
        name=price.name or "",
        recurring_charge_period=price.recurring_charge_period or "",
        amount=_money(cost.duty_free_amount),
        tax_included_amount=_money(cost.tax_included_amount),
        alteration=[_alteration(one) for one in price.product_price_alteration if is_promotion(one)],
    )


def _alteration(alteration: PriceAlteration) -> pricing_pb2.AppliedAlteration:
    off = alteration.price or Price()
    duration = alteration.application_duration
    return pricing_pb2.AppliedAlteration(
        product_offering_price=convert.to_message(alteration.product_offering_price, values_pb2.EntityRef),
        name=alteration.name or "",
        priority=alteration.priority or 0,
        percentage=None if off.percentage is None else format(off.percentage, "f"),
        amount=_money(off.duty_free_amount),
        tax_included_amount=_money(off.tax_included_amount),
        application_duration=(
            values_pb2.Duration(amount=duration, units=alteration.unit_of_measure or "") if duration else None
        ),
        valid_for=(
            convert.to_message(alteration.valid_for, values_pb2.TimePeriod)
            if alteration.valid_for is not None
            else None
        ),
    )


def _money(amount: Money | None) -> values_pb2.Money | None:
    return None if amount is None or amount.value is None else convert.to_money(amount)
