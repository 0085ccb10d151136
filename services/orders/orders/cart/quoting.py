"""What the items of a cart cost, taken together and compared with before: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from chassis.products import ProductRefOrValue, ProductTerm
from chassis.types import Money, Price
from orders.cart.domain import choice
from orders.cart.values import CartItem, CartPriceChange, CartProblem
from orders.ordering.values import OrderItem, OrderItemRelationship, OrderPrice

# Charges add up that are of one price type, period and currency.
_Key = tuple[str, str, str]


@dataclass(frozen=True)
class Quote:
    """What was found out about a cart's items, by their ids; `problem`: about the cart itself."""

    own: Mapping[str, Sequence[OrderPrice]] = field(default_factory=dict)
    whole: Mapping[str, Sequence[OrderPrice]] = field(default_factory=dict)
    problems: Mapping[str, Sequence[CartProblem]] = field(default_factory=dict)
    total: tuple[OrderPrice, ...] = ()
    problem: tuple[CartProblem, ...] = ()

    def shown(self, items: Iterable[CartItem]) -> tuple[CartItem, ...]:
        """The items with what they cost and what is wrong with them."""
        return tuple(
            replace(
                item,
                item_price=tuple(self.own.get(item.id or "", ())),
                item_total_price=tuple(self.whole.get(item.id or "", ())),
                problem=tuple(self.problems.get(item.id or "", ())),
                cart_item=self.shown(item.cart_item),
            )
            for item in items
        )


def order_item(item: CartItem) -> OrderItem:
    """The item as an order has it; what is saved for later isn't in it."""
    product = item.product
    terms = product.product_term if product is not None else ()
    if item.item_term and not terms:
        # TMF663 states the commitment beside the product, TMF622 in it.
        stated = tuple(
            ProductTerm(name=term.name, description=term.description, duration=term.duration) for term in item.item_term
        )
        product = replace(product or ProductRefOrValue(), product_term=stated)
    return OrderItem(
        id=item.id,
        quantity=item.quantity,
        action=item.action,
        item_term=item.item_term,
        product=product,
        product_offering=item.product_offering,
        product_order_item=tuple(order_item(part) for part in item.cart_item if part.active),
        product_order_item_relationship=tuple(
            OrderItemRelationship(id=one.id, relationship_type=one.relationship_type, extensions=one.extensions)
            for one in item.cart_item_relationship
        ),
        extensions=item.extensions,
    )


def whole(items: Iterable[OrderItem], charges: Mapping[str, Sequence[OrderPrice]]) -> dict[str, Sequence[OrderPrice]]:
    """By item, what it costs with all that is inside it: one price for each type, period and currency."""
    found: dict[str, Sequence[OrderPrice]] = {}

    def add(item: OrderItem) -> list[OrderPrice]:
        prices = [*charges.get(item.id or "", ())]
        for part in item.product_order_item:
            prices += add(part)
        found[item.id or ""] = totals(prices)
        return prices

    for item in items:
        add(item)
    return found


def totals(prices: Iterable[OrderPrice]) -> tuple[OrderPrice, ...]:
    """The sums by price type, period and currency."""
    sums: dict[_Key, tuple[Decimal, Decimal]] = {}
    for price in prices:
        for key, free, taxed in _amounts(price):
            before = sums.get(key, (Decimal(0), Decimal(0)))
            sums[key] = (before[0] + free, before[1] + taxed)
    return tuple(
        OrderPrice(
            price_type=kind or None,
            recurring_charge_period=period or None,
            price=Price(
                duty_free_amount=Money(unit=unit, value=free), tax_included_amount=Money(unit=unit, value=taxed)
            ),
        )
        for (kind, period, unit), (free, taxed) in sums.items()
    )


def _amounts(price: OrderPrice) -> Iterable[tuple[_Key, Decimal, Decimal]]:
    cost = price.price or Price()
    free = cost.duty_free_amount
    if free is None or free.value is None:
        return
    taxed = cost.tax_included_amount
    key = (price.price_type or "", price.recurring_charge_period or "", free.unit or "")
    yield key, free.value, taxed.value if taxed is not None and taxed.value is not None else free.value


def _by_key(prices: Iterable[OrderPrice]) -> dict[_Key, Decimal]:
    return {key: taxed for price in prices for key, _, taxed in _amounts(price)}


def price_changes(
    before: Sequence[CartItem], known: Sequence[CartPriceChange], after: Sequence[CartItem], at: datetime
) -> tuple[CartPriceChange, ...]:
    """What costs something else than it did, of the items whose choice is the same in both; `known`: what nobody has
    accepted yet, which is compared with what it was at first."""
    chosen = {item.id: item for item in before}
    first = {(change.cart_item_id, *_key_of(change)): change for change in known}
    found: list[CartPriceChange] = []
    for item in after:
        old = chosen.get(item.id)
        if old is None or choice(old) != choice(item) or not old.active or old.problem or item.problem:
            continue
        was, now = _by_key(old.item_total_price), _by_key(item.item_total_price)
        earlier = {key[1:]: change for key, change in first.items() if key[0] == item.id}
        for key in dict.fromkeys((*earlier, *was, *now)):
            change = earlier.get(key)
            original = _money(was, key) if change is None else change.old_amount
            costs = _money(now, key)
            if original == costs:
                continue
            found.append(
                CartPriceChange(
                    cart_item_id=item.id,
                    price_type=key[0] or None,
                    recurring_charge_period=key[1] or None,
                    old_amount=original,
                    new_amount=costs,
                    changed_at=change.changed_at if change is not None and change.new_amount == costs else at,
                )
            )
    return tuple(found)


def _key_of(change: CartPriceChange) -> _Key:
    amount = change.old_amount or change.new_amount or Money()
    return (change.price_type or "", change.recurring_charge_period or "", amount.unit or "")


def _money(amounts: Mapping[_Key, Decimal], key: _Key) -> Money | None:
    return Money(unit=key[2], value=amounts[key]) if key in amounts else None
