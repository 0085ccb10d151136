"""Things of a small operator's catalog, as its manager would write them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from catalog.pricing.offers import Offer, compile_offer
from catalog.pricing.pricing import Item, Pricing, PricingContext, price
from catalog.pricing.rules import NO_RULES, Rules
from catalog.product.domain import LifecycleStatus, ProductOffering, ProductOfferingPrice
from catalog.product.values import (
    BundledProductOffering,
    BundledProductOfferingOption,
    POPAlteration,
    ProductOfferingPriceRefOrValue,
    ProductOfferingPriceRelationship,
    ProductPriceValue,
)
from chassis.types import Money, TaxItem, TimePeriod

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEFORE = datetime(2025, 1, 1, tzinfo=UTC)
AFTER = datetime(2027, 1, 1, tzinfo=UTC)
ACTIVE = LifecycleStatus.ACTIVE


def kgs(value: str) -> Money:
    return Money(unit="KGS", value=Decimal(value))


def money(text: str) -> Money:
    value, unit = text.split()
    return Money(unit=unit, value=Decimal(value))


def a_price(id: str, amount: str | None = None, period: str | None = "month", **more: Any) -> ProductOfferingPrice:
    """`a_price("p", "500 KGS")`; period None: one-time."""
    return ProductOfferingPrice(
        id=id,
        branch="*",
        name=more.pop("name", id),
        lifecycle_status=more.pop("lifecycle_status", ACTIVE),
        price=money(amount) if amount else None,
        price_type=more.pop("price_type", "recurring" if period else "oneTime"),
        recurring_charge_period_type=period,
        **more,
    )


def a_discount(
    id: str, percent: str | None = None, amount: str | None = None, priority: int = 0
) -> ProductOfferingPrice:
    return a_price(
        id,
        amount,
        None,
        price_type="discount",
        percentage=Decimal(percent) if percent else None,
        priority=priority,
    )


def altered_by(*ids: str, relationship_type: str = "discountedBy") -> tuple[ProductOfferingPriceRelationship, ...]:
    return tuple(ProductOfferingPriceRelationship(id=key, relationship_type=relationship_type) for key in ids)


def vat(rate: str) -> tuple[TaxItem, ...]:
    return (TaxItem(tax_category="VAT", tax_rate=Decimal(rate)),)


def refs(*ids: str) -> tuple[ProductOfferingPriceRefOrValue, ...]:
    return tuple(ProductOfferingPriceRefOrValue(id=key) for key in ids)


def by_value(
    value: ProductPriceValue, *alterations: POPAlteration, period: str | None = "month"
) -> ProductOfferingPriceRefOrValue:
    return ProductOfferingPriceRefOrValue(
        name="by value",
        price=value,
        price_alteration=alterations,
        price_type="recurring" if period else "oneTime",
        recurring_charge_period=period,
    )


def parts(**numbers: int | None) -> tuple[BundledProductOffering, ...]:
    return tuple(
        BundledProductOffering(
            id=key, bundled_product_offering_option=BundledProductOfferingOption(number_rel_offer_default=number)
        )
        for key, number in numbers.items()
    )


def an_offering(id: str = "o", *prices: ProductOfferingPriceRefOrValue, **more: Any) -> ProductOffering:
    return ProductOffering(
        id=id,
        branch="*",
        name=more.pop("name", id),
        lifecycle_status=more.pop("lifecycle_status", ACTIVE),
        product_offering_price=prices,
        **more,
    )


def until(end: datetime) -> TimePeriod:
    return TimePeriod(end_date_time=end)


def since(start: datetime) -> TimePeriod:
    return TimePeriod(start_date_time=start)


def compiled(offerings: Iterable[ProductOffering], prices: Iterable[ProductOfferingPrice] = ()) -> dict[str, Offer]:
    known = {p.id: p for p in prices}
    return {offering.id: compile_offer(offering, known) for offering in offerings}


def quote(
    offerings: Iterable[ProductOffering] | ProductOffering,
    prices: Iterable[ProductOfferingPrice] = (),
    *items: Item,
    rules: Rules = NO_RULES,
    at: datetime = NOW,
    **context: Any,
) -> Pricing:
    """Prices the items; without any, one of the first offering. `context`: as in PricingContext."""
    several = [offerings] if isinstance(offerings, ProductOffering) else list(offerings)
    asked = items or [Item("1", several[0].id)]
    return price(asked, compiled(several, prices), PricingContext(at=at, **context), rules)
