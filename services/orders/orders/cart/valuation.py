"""Asking what a cart costs, and what keeps it from being ordered: as an order would be taken, without taking it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from chassis.db import Database
from chassis.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound
from orders.cart.domain import ShoppingCart, walk
from orders.cart.quoting import Quote, order_item, whole
from orders.cart.values import CartItem, CartProblem
from orders.inventory.store import with_parts
from orders.ordering.capture import Capture, Captured
from orders.ordering.chosen import Products
from orders.ordering.domain import ProductOrder, check_items, product_ids
from orders.ordering.handover import as_taken_over, check_transferor
from orders.ordering.statuses import require_possible
from orders.ordering.store import orders_before, quantities
from orders.ordering.values import OrderItem
from svyaz.type.v1 import receipt_pb2

_ITEM = re.compile(r"product_order_item\[(\d+)\]\.?(.*)")
_NOTHING: Mapping[str, object] = {"billing_account": None, "coupon": (), "channel": (), "related_party": ()}


@dataclass(frozen=True)
class Valued:
    """A quote, and why it is so."""

    quote: Quote
    receipt: receipt_pb2.Receipt | None


class Valuation:
    """Asks catalog and customers, as the caller."""

    def __init__(self, database: Database, capture: Capture) -> None:
        self._database = database
        self._capture = capture

    def value(self, cart: ShoppingCart) -> Valued:
        """What can be ordered of it and what that costs; what can't says why, and doesn't keep the others from it."""
        left = [item for item in cart.cart_item if item.active]
        order = order_of(cart, cart.id)
        problems: dict[str, list[CartProblem]] = {}
        own: list[CartProblem] = []
        # Each refusal takes at least an item, or an attribute, out of what is tried next.
        while left:
            items = [order_item(item) for item in left]
            try:
                check_items(items)
                captured = self.captured(order, items)
            except (InvalidArgument, FailedPrecondition, NotFound) as refusal:
                wrong = self._blamed(refusal, left, problems, own)
                freed = {name: _NOTHING[name] for name in wrong if name in _NOTHING and getattr(order, name)}
                if not freed and not any(name.isdigit() for name in wrong):
                    break
                left = [item for place, item in enumerate(left) if str(place) not in wrong]
                for name, nothing in freed.items():
                    setattr(order, name, nothing)
                continue
            quote = Quote(
                own=captured.charges,
                whole=whole(captured.items, captured.charges),
                problems=problems,
                total=captured.total,
                problem=tuple(own),
            )
            return Valued(quote, captured.receipt)
        return Valued(Quote(problems=problems, problem=tuple(own)), None)

    @staticmethod
    def _blamed(
        refusal: DomainError,
        items: Sequence[CartItem],
        problems: dict[str, list[CartProblem]],
        own: list[CartProblem],
    ) -> set[str]:
        """Notes what is wrong; the places of the items, and the names of the attributes, that it is about."""
        blamed: set[str] = set()
        for violation in refusal.violations:
            match = _ITEM.match(violation.field)
            if match is not None and int(match[1]) < len(items):
                item = items[int(match[1])]
                problem = CartProblem(
                    code=refusal.reason, path=cart_path(match[2]) or None, reason=violation.description
                )
                problems.setdefault(item.id or "", []).append(problem)
                blamed.add(match[1])
            else:
                own.append(CartProblem(code=refusal.reason, path=violation.field, reason=violation.description))
                blamed.add(re.split(r"[.\[]", violation.field)[0])
        if not refusal.violations:
            own.append(CartProblem(code=refusal.reason, reason=refusal.message))
        return blamed

    def captured(self, order: ProductOrder, items: Sequence[OrderItem]) -> Captured:
        """As an order would be taken now; raises what that would."""
        check_transferor(order)
        products, numbers = self._held(order, items)
        require_possible(items, products, self._database.clock.now())
        counting: Callable[[Sequence[str]], int | None] = partial(self._orders_before, order)
        return self._capture.capture(order, items, products, numbers, orders_before=counting)

    def _held(self, order: ProductOrder, items: Sequence[OrderItem]) -> tuple[Products, Mapping[str, int]]:
        wanted = product_ids(items)
        if not wanted:
            return {}, {}
        with self._database.unit() as unit:
            products = as_taken_over(unit, order, items, with_parts(unit, wanted))
            return products, quantities(unit, products)

    def _orders_before(self, order: ProductOrder, customer_ids: Sequence[str]) -> int | None:
        with self._database.unit() as unit:
            return orders_before(unit, order, customer_ids)


def order_of(cart: ShoppingCart, order_id: str) -> ProductOrder:
    """The order that the cart would be, without its items."""
    return ProductOrder(
        id=order_id,
        branch=cart.branch,
        external_id=cart.id,
        billing_account=cart.billing_account,
        channel=cart.channel,
        coupon=cart.coupon,
        note=tuple(note for item in walk(cart.cart_item) if item.active for note in item.note),
        related_party=cart.related_party,
    )


def cart_path(path: str) -> str:
    """A path in an order as that in the cart: items are called otherwise."""
    return path.replace("product_order_item", "cart_item")


def at_cart(refusal: DomainError, places: Sequence[int]) -> DomainError:
    """A refusal of the order with the paths of the cart; `places`: of the items that were ordered, in the cart."""
    violations = []
    for violation in refusal.violations:
        match = _ITEM.match(violation.field)
        if match is not None and int(match[1]) < len(places):
            rest = f".{cart_path(match[2])}" if match[2] else ""
            violation = replace(violation, field=f"cart_item[{places[int(match[1])]}]{rest}")
        violations.append(violation)
    placed = type(refusal)(refusal.reason, refusal.message, violations=violations, metadata=refusal.metadata)
    placed.status = refusal.status
    return placed
