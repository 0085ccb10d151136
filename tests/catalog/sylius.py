"""Promotion scenarios of Sylius' features (../shared/data/pricing_vectors) as carts and promotions of our own.

Rules and actions go by several names there and in Sylius itself; each is understood, and one that isn't is an error.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from catalog.promotion.domain import normal_code
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
T = TypeVar("T")


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


class UnheardOfError(ValueError):
    """A scenario says something that nobody has told us the meaning of."""


def understood(what: str, data: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raises UnheardOfError for what is stated (not as null) under other names."""
    strange = {name for name, value in data.items() if value is not None} - set(names)
    if strange:
        raise UnheardOfError(f"{what} with {', '.join(sorted(strange))}")


def meaning(what: str, name: str, meanings: Mapping[str, T]) -> T:
    """What the name means. Raises UnheardOfError."""
    if name not in meanings:
        raise UnheardOfError(f"{what} {name!r}")
    return meanings[name]


def several(value: Any) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


# --- rules -----------------------------------------------------------------------------------------------------------

_AT_LEAST = {
    "cart_quantity": Fact.QUANTITY,
    "quantity": Fact.QUANTITY,
    "item_total": Fact.TOTAL,
    "items_total": Fact.TOTAL,
    "order_total": Fact.TOTAL,
    "cart_total": Fact.TOTAL,
    "total": Fact.TOTAL,
    "total_of_items_from_taxon": Fact.CATEGORY_TOTAL,
    "taxon_total": Fact.CATEGORY_TOTAL,
    "total_from_taxon": Fact.CATEGORY_TOTAL,
    "items_from_taxon_total": Fact.CATEGORY_TOTAL,
}
_PRODUCTS = ("product", "products", "code", "codes", "any_of", "value", "values")
_TAXONS = ("taxon", "taxons", "any_of", "value", "values")
_GROUPS = ("group", "groups", "customer_group", "any_of", "value", "values")
_COUNTRIES = ("country", "countries", "any_of", "value", "values")
_NAMED: Mapping[str, tuple[Fact, tuple[str, ...]]] = {
    **dict.fromkeys(("contains_product", "contains_products", "has_product", "product"), (Fact.PRODUCT, _PRODUCTS)),
    **dict.fromkeys(
        ("contains_taxon", "contains_taxons", "has_taxon", "has_at_least_one_from_taxons", "taxon"),
        (Fact.CATEGORY, _TAXONS),
    ),
    **dict.fromkeys(("customer_group", "customer_groups", "group"), (Fact.SEGMENT, _GROUPS)),
    **dict.fromkeys(("shipping_country", "country"), (Fact.PLACE, _COUNTRIES)),
}


def rule(data: Mapping[str, Any]) -> Condition | Rule:
    kind = data["type"].removesuffix("_min").removesuffix("_at_least").removeprefix("min_")
    if kind in _AT_LEAST:
        numbers = ("value", "count", "amount", "min", "n", "quantity", "total")
        understood(f"a rule {kind}", data, ("type", "taxon", "taxon_code", *numbers))
        taxon = first(data, "taxon", "taxon_code") or ""
        return Condition(_AT_LEAST[kind], ">=", str(first(data, *numbers)), taxon)
    if kind in ("nth_order", "order_number"):
        understood(f"a rule {kind}", data, ("type", "n", "nth", "value"))
        return Condition(Fact.ORDER_NUMBER, "=", str(first(data, "n", "nth", "value")))
    if kind == "first_order":
        return Condition(Fact.ORDER_NUMBER, "=", "1")
    fact, names = meaning("a rule", kind, _NAMED)
    understood(f"a rule {kind}", data, ("type", *names))
    return Rule(tuple(Condition(fact, "=", name) for name in several(first(data, *names))), any_of=True)


# --- actions ---------------------------------------------------------------------------------------------------------

# What it takes something off, in which of these words.
_OFF = {"order": Off.ORDER, "unit": Off.UNIT, "item": Off.UNIT, "shipping": Off.DELIVERY}
_BY_PERCENT = {"percent": True, "percentage": True, "fixed": False, "amount": False}
_PERCENT, _AMOUNT = ("percent", "percentage", "value"), ("amount", "fixed", "value")
_LEAST, _MOST = ("price_min", "min", "min_price"), ("price_max", "max", "max_price")
_ONLY_PRODUCTS, _ONLY_TAXONS = ("product", "products", "product_any_of"), ("taxon", "taxons", "taxon_any_of")


def action(data: Mapping[str, Any]) -> Action:
    kind = data["type"].removesuffix("_discount")
    if kind == "free_shipping":
        return Action(Off.DELIVERY, percentage=Decimal(100))
    about, _, how = kind.partition("_")
    off, percent = meaning("an action", about, _OFF), meaning(f"an action {about}", how, _BY_PERCENT)
    names = _PERCENT if percent else _AMOUNT
    understood(f"an action {kind}", data, ("type", "filter", *names))
    wanted = data.get("filter") or {}
    understood("a filter", wanted, (*_LEAST, *_MOST, *_ONLY_PRODUCTS, *_ONLY_TAXONS))
    least, most = first(wanted, *_LEAST), first(wanted, *_MOST)
    value = money(first(data, *names))
    return Action(
        off,
        percentage=value if percent else None,
        amount=None if percent else value,
        filter=Filter(
            products=frozenset(several(first(wanted, *_ONLY_PRODUCTS))),
            categories=frozenset(several(first(wanted, *_ONLY_TAXONS))),
            price_min=None if least is None else money(least),
            price_max=None if most is None else money(most),
        ),
    )


# --- promotions ------------------------------------------------------------------------------------------------------


_STARTS = ("starts", "starts_at", "start", "start_date", "valid_from")
_ENDS = ("ends", "ends_at", "end", "end_date", "expires", "expires_at", "valid_until", "until")
# What ends a promotion when it is so.
_OVER = ("exhausted", "used_up", "usage_limit_reached", "expired", "archived")
_ABOUT = (
    "name", "code", "priority", "exclusive", "enabled", "active", "used", "uses", "usage_limit", "channel", "channels",
    *_OVER, *_STARTS, *_ENDS,
)  # fmt: skip
_CODES = ("coupon", "coupon_code")


def window(data: Mapping[str, Any]) -> TimePeriod:
    start, end = first(data, *_STARTS), first(data, *_ENDS)
    return TimePeriod(
        start_date_time=instant(start) if start else None,
        end_date_time=instant(end) if end else None,
    )


def on_offer(case: Case, data: Mapping[str, Any]) -> bool:
    used, limit = first(data, "used", "uses") or 0, data.get("usage_limit")
    channels = several(first(data, "channels", "channel"))
    return (
        first(data, "enabled", "active") is not False
        and not any(data.get(name) for name in _OVER)
        and (limit is None or used < limit)
        and (case.get("channel") is None or not channels or case["channel"] in channels)
    )


def cart_promotion(data: Mapping[str, Any]) -> Promotion:
    of_coupons = [name for name in data if name.startswith("coupon")]
    understood("a promotion", data, (*_ABOUT, *of_coupons, "rules", "actions", "applies_to_discounted"))
    return Promotion(
        id=data["name"],
        name=data["name"],
        priority=0,
        exclusive=bool(data.get("exclusive")),
        needs_coupon=bool(first(data, *_CODES, "coupon_based")),
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


_SCOPED_PRODUCTS = ("product", "products", "variant", "variants", "product_any_of", "variant_any_of")


def _scope(stated: Any) -> Filter:
    """What any of the scopes names; `all`, or none stated: everything."""
    products: set[str] = set()
    for scope in stated if isinstance(stated, list) else [stated]:
        if scope in (None, "all") or scope.get("all"):
            return Filter()
        understood("a scope", scope, (*_SCOPED_PRODUCTS, *_ONLY_TAXONS, "all"))
        found = [*several(first(scope, *_SCOPED_PRODUCTS)), *map(_as_product, several(first(scope, *_ONLY_TAXONS)))]
        if not found:
            raise UnheardOfError(f"a scope {scope}")
        products.update(found)
    return Filter(products=frozenset(products))


def _as_product(taxon: str) -> str:
    """A taxon as a name of what is in it, so that one filter can mean it or a product."""
    return f"of {taxon}"


def catalog_promotion(data: Mapping[str, Any]) -> Promotion:
    percents, amounts = ("percent", "percentage"), ("fixed", "amount")
    understood("a catalog promotion", data, (*_ABOUT, *percents, *amounts, "applies_to"))
    percent, fixed = first(data, *percents), first(data, *amounts)
    if (percent is None) == (fixed is None):
        raise UnheardOfError(f"a catalog promotion of {percent} % and {fixed}")
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
                        filter=_scope(data.get("applies_to")),
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
    listed = [(one, catalog_promotion(one)) for one in case.get("catalog_promotions") or () if on_offer(case, one)]
    carted = [(one, cart_promotion(one)) for one in case.get("promotions") or () if on_offer(case, one)]
    count = len(listed)
    return [*in_order(listed), *(replace(one, priority=one.priority + count) for one in in_order(carted))]


def coupons_of(case: Case) -> tuple[Coupon, ...]:
    entered = case.get("coupon_entered")
    return tuple(
        Coupon(entered, one["name"], _coupon_obstacle(one, case))
        for one in case.get("promotions") or ()
        if entered and normal_code(str(first(one, *_CODES) or "")) == normal_code(entered)
    )


def _coupon_obstacle(promotion: Mapping[str, Any], case: Case) -> str | None:
    """Why the coupon can't be used: what is said of it beside its promotion, and of its uses beside the cart."""
    limits: dict[bool, int] = {}
    uses: dict[bool, int] = {}
    for name, value in [*promotion.items(), *case.items()]:
        about = name.removeprefix("coupon_")
        if value is None or about == name or name in (*_CODES, "coupon_entered", "coupon_based"):
            continue
        of_customer = "customer" in about
        if "exhausted" in about or "reached" in about or "used_up" in about:
            if value:
                return "it is used up"
        elif any(word in about for word in ("expire", "valid_until", "ends")):
            if value is True or (isinstance(value, str) and instant(value) <= NOW):
                return "it has expired"
        elif "limit" in about:
            limits[of_customer] = value
        elif "use" in about or "usage" in about:
            uses[of_customer] = value
        else:
            raise UnheardOfError(f"a coupon with {name}")
    # Uses whose user isn't named count for both.
    if any(uses.get(whose, uses.get(False, 0)) >= limit for whose, limit in limits.items()):
        return "it is used up"
    return None


# --- carts -----------------------------------------------------------------------------------------------------------

DELIVERY = "delivery"
_CASE = (
    "id", "feature", "scenario", "note", "products", "promotions", "catalog_promotions", "cart", "view", "expect",
    "channel", "shipping_fee", "shipping_selected", "shipping_country", "country", "customer_group", "customer_groups",
    "orders_before",
)  # fmt: skip


def viewed(case: Case) -> str:
    """The product that is looked at: the only one, unless it is named."""
    name: str = case["view"] if "view" in case else next(iter(case["products"]))
    return name


def line(name: str, product: Mapping[str, Any], quantity: int) -> Line:
    understood("a product", product, ("price", "taxons", "parent", "minimum_price"))
    minimum = product.get("minimum_price")
    return Line(
        id=name,
        item=name,
        quantity=quantity,
        amount=money(product["price"]) * quantity,
        products=frozenset(filter(None, (name, product.get("parent"), *map(_as_product, product.get("taxons") or ())))),
        categories=frozenset(product.get("taxons") or ()),
        floor=Decimal(0) if minimum is None else money(minimum),
    )


def cart_of(case: Case) -> Cart:
    """The cart of a scenario; of one that only looks at a product, a cart with one of that."""
    of_coupons = [name for name in case if name.startswith("coupon_")]
    understood("a scenario", case, (*_CASE, *of_coupons))
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
