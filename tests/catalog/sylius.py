"""Promotion scenarios of Sylius' features (../shared/data/pricing_vectors) as carts and promotions of our own.

Rules and actions go by several names there and in Sylius itself; each is understood, and one that isn't is an error.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from catalog.promotion.engine import (
    Action,
    Cart,
    Condition,
    Coupon,
    Fact,
    Filter,
    Line,
    Off,
    Pattern,
    Promotion,
    Rule,
)
from chassis.types import TimePeriod

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Case = Mapping[str, Any]


def money(value: Any) -> Decimal:
    return Decimal(str(value))


def first(data: Mapping[str, Any], *names: str) -> Any:
    """The value under the first of the names that is there."""
    return next((data[name] for name in names if data.get(name) is not None), None)


def instant(value: str) -> datetime:
    """`yesterday`, `tomorrow`, `3 days ago`, `in 2 weeks`, `+1 month` or an ISO 8601 date."""
    near = {"now": 0, "today": 0, "yesterday": -1, "tomorrow": 1}
    if value in near:
        return NOW + timedelta(days=near[value])
    relative = re.search(r"(-?\d+) (hour|day|week|month|year)", value)
    if relative:
        count = int(relative[1]) * (-1 if "ago" in value else 1)
        return NOW + count * timedelta(
            hours={"hour": 1, "day": 24, "week": 168, "month": 720, "year": 8760}[relative[2]]
        )
    stated = datetime.fromisoformat(value)
    return stated if stated.tzinfo else stated.replace(tzinfo=UTC)


def several(value: Any) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


# --- rules -----------------------------------------------------------------------------------------------------------

_AT_LEAST = {
    "cart_quantity": Fact.QUANTITY,
    "quantity": Fact.QUANTITY,
    "item_total": Fact.TOTAL,
    "items_total": Fact.TOTAL,
    "total_of_items_from_taxon": Fact.CATEGORY_TOTAL,
    "taxon_total": Fact.CATEGORY_TOTAL,
    "items_from_taxon_total": Fact.CATEGORY_TOTAL,
}
_NAMED = {
    "contains_product": (Fact.PRODUCT, ("product", "code", "products", "any_of", "value")),
    "has_product": (Fact.PRODUCT, ("product", "code", "products", "any_of", "value")),
    "contains_taxon": (Fact.CATEGORY, ("any_of", "taxons", "taxon", "value")),
    "has_taxon": (Fact.CATEGORY, ("any_of", "taxons", "taxon", "value")),
    "taxon": (Fact.CATEGORY, ("any_of", "taxons", "taxon", "value")),
    "customer_group": (Fact.SEGMENT, ("group", "any_of", "groups", "value")),
    "shipping_country": (Fact.PLACE, ("country", "any_of", "countries", "value")),
}


def rule(data: Mapping[str, Any]) -> Condition | Rule:
    kind = data["type"].removesuffix("_min")
    if kind in _AT_LEAST:
        least = first(data, "value", "count", "amount", "min", "n")
        taxon = first(data, "taxon", "taxon_code") or ""
        return Condition(_AT_LEAST[kind], ">=", str(least), taxon)
    if kind == "nth_order":
        return Condition(Fact.ORDER_NUMBER, "=", str(first(data, "n", "nth", "value")))
    fact, names = _NAMED[kind]
    return Rule(tuple(Condition(fact, "=", name) for name in several(first(data, *names))), any_of=True)


# --- actions ---------------------------------------------------------------------------------------------------------

_ACTIONS = {
    "order_fixed": (Off.ORDER, False),
    "order_fixed_discount": (Off.ORDER, False),
    "order_percent": (Off.ORDER, True),
    "order_percentage": (Off.ORDER, True),
    "order_percentage_discount": (Off.ORDER, True),
    "unit_fixed": (Off.UNIT, False),
    "unit_fixed_discount": (Off.UNIT, False),
    "unit_percent": (Off.UNIT, True),
    "unit_percentage": (Off.UNIT, True),
    "unit_percentage_discount": (Off.UNIT, True),
    "shipping_percent": (Off.DELIVERY, True),
    "shipping_percentage": (Off.DELIVERY, True),
    "shipping_percentage_discount": (Off.DELIVERY, True),
}
_FILTERS = {
    "price_min", "min", "price_max", "max", "product", "products", "product_any_of", "taxon", "taxons", "taxon_any_of",
}  # fmt: skip


def action(data: Mapping[str, Any]) -> Action:
    off, percent = _ACTIONS[data["type"]]
    wanted = data.get("filter") or {}
    assert wanted.keys() <= _FILTERS, f"filters unheard of: {wanted.keys() - _FILTERS}"
    least, most = first(wanted, "price_min", "min"), first(wanted, "price_max", "max")
    return Action(
        off,
        percentage=money(first(data, "percent", "percentage")) if percent else None,
        amount=None if percent else money(first(data, "amount", "fixed", "value")),
        filter=Filter(
            products=frozenset(several(first(wanted, "product", "product_any_of", "products"))),
            categories=frozenset(several(first(wanted, "taxon", "taxon_any_of", "taxons"))),
            price_min=None if least is None else money(least),
            price_max=None if most is None else money(most),
        ),
    )


# --- promotions ------------------------------------------------------------------------------------------------------


def window(data: Mapping[str, Any]) -> TimePeriod:
    start = first(data, "starts", "starts_at", "start", "start_date", "valid_from")
    end = first(data, "ends", "ends_at", "end", "end_date", "expires", "expires_at", "valid_until")
    return TimePeriod(
        start_date_time=instant(start) if start else None,
        end_date_time=instant(end) if end else None,
    )


def on_offer(data: Mapping[str, Any]) -> bool:
    used, limit = data.get("used", 0), data.get("usage_limit")
    return data.get("enabled", True) and not data.get("exhausted") and (limit is None or used < limit)


def cart_promotion(data: Mapping[str, Any]) -> Promotion:
    return Promotion(
        id=data["name"],
        name=data["name"],
        priority=0,
        exclusive=bool(data.get("exclusive")),
        needs_coupon=bool(data.get("coupon") or data.get("coupon_based")),
        applies_to_discounted=data.get("applies_to_discounted") is not False,
        currency="USD",
        patterns=(
            Pattern(
                Rule(tuple(rule(one) for one in data.get("rules") or ())),
                tuple(action(one) for one in data.get("actions") or ()),
            ),
        ),
        valid_for=window(data),
    )


def catalog_promotion(data: Mapping[str, Any]) -> Promotion:
    scope = data.get("applies_to") or {}
    percent, fixed = first(data, "percent", "percentage"), first(data, "fixed", "amount")
    products = several(first(scope, "product", "products", "variant", "variants"))
    taxons = several(first(scope, "taxon", "taxons", "taxon_any_of"))
    assert products or taxons, f"a scope unheard of: {scope}"
    return Promotion(
        id=data["name"],
        name=data["name"],
        priority=0,
        exclusive=bool(data.get("exclusive")),
        on_list_price=True,
        currency="USD",
        patterns=(
            Pattern(
                Rule(),
                (
                    Action(
                        Off.UNIT,
                        percentage=None if percent is None else money(percent),
                        amount=None if fixed is None else money(fixed),
                        filter=Filter(frozenset(products), frozenset(taxons)),
                    ),
                ),
            ),
        ),
        valid_for=window(data),
    )


def in_order(data: Iterable[tuple[Mapping[str, Any], Promotion]]) -> list[Promotion]:
    """With priorities as Sylius gives them: the higher first, and of those that state none the one that was first."""
    ranked = sorted(enumerate(data), key=lambda one: (-(one[1][0].get("priority") or 0), one[0]))
    return [replace(promotion, priority=rank) for rank, (_, (_, promotion)) in enumerate(ranked)]


def promotions_of(case: Case) -> list[Promotion]:
    listed = [(one, catalog_promotion(one)) for one in case.get("catalog_promotions") or () if on_offer(one)]
    carted = [(one, cart_promotion(one)) for one in case.get("promotions") or () if on_offer(one)]
    count = len(listed)
    return [*in_order(listed), *(replace(one, priority=one.priority + count) for one in in_order(carted))]


def coupons_of(case: Case) -> tuple[Coupon, ...]:
    entered = case.get("coupon_entered")
    return tuple(
        Coupon(entered, one["name"], _coupon_obstacle(one))
        for one in case.get("promotions") or ()
        if entered and one.get("coupon") == entered
    )


def _coupon_obstacle(data: Mapping[str, Any]) -> str | None:
    for name, value in data.items():
        if not name.startswith("coupon_"):
            continue
        if ("exhausted" in name or "reached" in name) and value:
            return "it is used up"
        if "expire" in name and (value is True or (isinstance(value, str) and instant(value) <= NOW)):
            return "it has expired"
    for limit, used in (
        ("coupon_usage_limit", "coupon_used"),
        ("coupon_limit", "coupon_used"),
        ("coupon_per_customer_limit", "coupon_used_by_customer"),
    ):
        if data.get(limit) is not None and data.get(used, 0) >= data[limit]:
            return "it is used up"
    return None


# --- carts -----------------------------------------------------------------------------------------------------------

DELIVERY = "delivery"


def viewed(case: Case) -> str:
    """The product that is looked at: the only one, unless it is named."""
    name: str = case["view"] if "view" in case else next(iter(case["products"]))
    return name


def line(name: str, product: Mapping[str, Any], quantity: int) -> Line:
    minimum = product.get("minimum_price")
    return Line(
        id=name,
        item=name,
        quantity=quantity,
        amount=money(product["price"]) * quantity,
        products=frozenset(filter(None, (name, product.get("parent")))),
        categories=frozenset(product.get("taxons") or ()),
        floor=Decimal(0) if minimum is None else money(minimum),
    )


def cart_of(case: Case) -> Cart:
    """The cart of a scenario; of one that only looks at a product, a cart with one of that."""
    bought: dict[str, int] = {}
    listed: list[dict[str, Any]] = case["cart"] if "cart" in case else [{"product": viewed(case), "qty": 1}]
    for one in listed:
        bought[one["product"]] = bought.get(one["product"], 0) + first(one, "qty", "quantity")
    lines = [line(name, case["products"][name], quantity) for name, quantity in bought.items()]
    if case.get("shipping_fee") is not None and case.get("shipping_selected") is not False:
        lines.append(Line(DELIVERY, DELIVERY, 1, money(case["shipping_fee"]), delivery=True))
    return Cart(
        lines=tuple(lines),
        at=NOW,
        coupons=coupons_of(case),
        segments=frozenset(several(first(case, "customer_group", "customer_groups"))),
        orders_before=case.get("orders_before", 0),
        places=frozenset(several(first(case, "shipping_country", "country"))),
    )
