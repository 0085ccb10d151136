"""Who is entitled to a discount for being a regular customer: pure, each with its reason.

A rule asks for so many products, each active for so long. What is inside a bundle counts as part of it, what is ordered
but not active yet doesn't count, nor does what has ended. An offering's versions are one. A rule for segments holds for
who is known to be in one of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from catalog.pricing import periods
from catalog.recommendation.values import EntitledDiscount
from chassis.types import Duration, EntityRef, TimePeriod

_ALWAYS = TimePeriod()
_UNITS_RU = {
    "day": ("день", "дня", "дней"),
    "week": ("неделю", "недели", "недель"),
    "month": ("месяц", "месяца", "месяцев"),
    "year": ("год", "года", "лет"),
}
_PRODUCTS_RU = ("продукт", "продукта", "продуктов")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """`segments`: ids and names; `lines`: first versions of offerings; both empty: any. `percentage` off."""

    id: str
    name: str
    percentage: Decimal
    minimum_products: int = 1
    held_for: Duration | None = None
    segments: frozenset[str] = frozenset()
    lines: frozenset[str] = frozenset()
    valid_for: TimePeriod = _ALWAYS
    promotion: EntityRef | None = None


@dataclass(frozen=True, slots=True)
class Active:
    """A product that a customer holds: of which line of offerings, and since when."""

    line: str
    since: datetime


def entitled(
    rules: Iterable[Rule], products: Sequence[Active], segments: Iterable[str], at: datetime
) -> list[EntitledDiscount]:
    """What the rules give the customer at the instant: the largest discount first, of equal ones the lower id's."""
    known = frozenset(segments)
    found = []
    for rule in rules:
        counting = _counting(rule, products, at)
        fits = not rule.segments or not rule.segments.isdisjoint(known)
        if fits and rule.valid_for.covers(at) and len(counting) >= rule.minimum_products:
            # The youngest of those that are needed: from then on, or so long after, he was entitled.
            since = counting[rule.minimum_products - 1].since
            found.append((-rule.percentage, rule.id, _reminder(rule, len(counting), since)))
    return [reminder for _, _, reminder in sorted(found, key=lambda one: one[:2])]


def _counting(rule: Rule, products: Sequence[Active], at: datetime) -> list[Active]:
    """The products that count for a rule, the oldest first."""
    old = [
        product
        for product in products
        if (not rule.lines or product.line in rule.lines)
        and (product.since if rule.held_for is None else periods.after(product.since, rule.held_for)) <= at
    ]
    return sorted(old, key=lambda product: product.since)


def _reminder(rule: Rule, products: int, since: datetime) -> EntitledDiscount:
    off = f"{rule.percentage.normalize():f} %"
    number = "1 product" if products == 1 else f"{products} products"
    label, label_ru = f"{number} held", f"{products} {_russian(products, _PRODUCTS_RU)} у клиента"
    if rule.held_for is not None:
        amount, unit = rule.held_for.amount or 0, (rule.held_for.units or "").removesuffix("s")
        label += f", for at least {amount} {unit}{'' if amount == 1 else 's'}"
        label_ru += f", не меньше чем {amount} {_russian(amount, _UNITS_RU[unit])}"
    return EntitledDiscount(
        discount_entitlement=EntityRef(id=rule.id, name=rule.name, at_referred_type="DiscountEntitlement"),
        percentage=rule.percentage,
        promotion=rule.promotion,
        products=products,
        since=since,
        label=f"Entitled to {off} off by '{rule.name}': {label}",
        label_ru=f"Полагается скидка {off} по правилу «{rule.name}»: {label_ru}",
    )


def _russian(number: int, forms: tuple[str, str, str]) -> str:
    """The form of a noun after a number: 1 (21 …), 2 to 4 (22 …), others."""
    if number % 10 == 1 and number % 100 != 11:
        return forms[0]
    return forms[1] if number % 10 in (2, 3, 4) and number % 100 not in (12, 13, 14) else forms[2]
