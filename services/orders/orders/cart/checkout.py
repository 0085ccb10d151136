"""How a cart becomes an order, once."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Unavailable, Violation
from chassis.timers import cancel_timer, set_timer
from chassis.types import Money, new_id
from chassis.unit import Unit
from orders.cart import store
from orders.cart.domain import KEPT, ShoppingCart
from orders.cart.quoting import Quote, order_item, price_changes, whole
from orders.cart.steps import EXPIRE, FORGET, require_unmoved
from orders.cart.valuation import Valuation, at_cart, order_of
from orders.cart.values import CartPriceChange
from orders.ordering import store as ordering
from orders.ordering.capture import Captured
from orders.ordering.coupons import Coupons
from orders.ordering.domain import ProductOrder, check_items
from orders.ordering.fulfilment import PROMISED, give_up
from orders.ordering.placing import place
from orders.ordering.values import OrderItem

# After so long an order that was to be has become one, or won't: coupons are redeemed within half of it.
PROMISE = timedelta(minutes=2)


class CheckOut:
    """Takes the order of a cart."""

    def __init__(self, database: Database, valuation: Valuation, coupons: Coupons) -> None:
        self._database = database
        self._valuation = valuation
        self._coupons = coupons

    def order(
        self, cart: ShoppingCart, accepted: bool, keep: Callable[[Callable[[Unit], ProductOrder]], ProductOrder]
    ) -> ProductOrder:
        """The order of a cart as it was read; `accepted`: its price changes are; `keep` runs the transaction.

        Raises FailedPrecondition PRICE_CHANGED, CART_EMPTY, CART_CLOSED, Aborted CONFLICT when the cart has changed
        meanwhile, and what taking an order raises.
        """
        cart.require_open(self._database.clock.now())
        places = [place for place, item in enumerate(cart.cart_item) if item.active]
        items = [order_item(cart.cart_item[place]) for place in places]
        if not items:
            raise FailedPrecondition(
                "CART_EMPTY", "nothing in the cart is to be ordered", violations=[Violation("cart_item", "empty")]
            )
        try:
            check_items(items)
            if cart.coupon:
                return self._with_coupons(cart, items, accepted, keep)
            captured = self._valuation.captured(order_of(cart, new_id()), items)
            self._require_accepted(cart, captured, accepted)
            return keep(lambda unit: _taken(unit, cart, new_id(), captured))
        except (InvalidArgument, FailedPrecondition) as refusal:
            raise at_cart(refusal, places) from refusal

    def _with_coupons(
        self,
        cart: ShoppingCart,
        items: Sequence[OrderItem],
        accepted: bool,
        keep: Callable[[Callable[[Unit], ProductOrder]], ProductOrder],
    ) -> ProductOrder:
        """Redeems the coupons before the order is kept, as `Orders` does: whoever dies on the way leaves a timer that
        gives them back; who tries again goes on with the same order."""
        until = time.monotonic() + PROMISE.total_seconds() / 2
        with self._database.unit() as unit:
            order_id = ordering.promise(unit, cart.branch, hashlib.sha256(f"cart {cart.id}".encode()).digest())
            set_timer(unit, order_id, PROMISED, unit.at + PROMISE, cart.branch)

        def work(unit: Unit) -> ProductOrder:
            # First of all: whoever else has taken the order has ended the promise.
            require_unmoved(unit, cart)
            if ordering.end_promise(unit, order_id) is None:
                raise Unavailable("COUPONS_GIVEN_BACK", "the coupons were given back meanwhile: try again")
            return _taken(unit, cart, order_id, captured)

        try:
            order = order_of(cart, order_id)
            captured = self._valuation.captured(order, items)
            self._require_accepted(cart, captured, accepted)
            self._coupons.redeem(order, captured.customer_ids, until)
            return keep(work)
        except (InvalidArgument, FailedPrecondition):
            with self._database.unit() as unit:
                give_up(unit, order_id)
            raise

    def _require_accepted(self, cart: ShoppingCart, captured: Captured, accepted: bool) -> None:
        """Raises FailedPrecondition PRICE_CHANGED with each price, old and new."""
        quote = Quote(own=captured.charges, whole=whole(captured.items, captured.charges), total=captured.total)
        now = self._database.clock.now()
        shown = tuple(
            quote.shown([item])[0] if item.active else item for item in cart.cart_item
        )  # what is saved for later has no price
        changed = price_changes([replace(item, problem=()) for item in cart.cart_item], cart.price_change, shown, now)
        new = [one for one in changed if one not in cart.price_change]
        if not changed or (accepted and not new):
            return
        raise FailedPrecondition(
            "PRICE_CHANGED",
            "the price has changed since the customer saw it: " + "; ".join(_told(one) for one in changed),
            violations=[Violation(f"cart_item[{_place(cart, one)}].ItemTotalPrice", _told(one)) for one in changed],
        )


def _taken(unit: Unit, cart: ShoppingCart, order_id: str, captured: Captured) -> ProductOrder:
    cart = require_unmoved(unit, cart)
    cart.require_open(unit.at)
    order = order_of(cart, order_id)
    order.check(unit.at)
    unit.add(order)
    place(unit, order, captured)
    cart.become(order_id, unit.at)
    cancel_timer(unit, cart.id, EXPIRE)
    set_timer(unit, cart.id, FORGET, unit.at + KEPT, cart.branch)
    store.forget_receipts(unit, [cart.id])
    return order


def _place(cart: ShoppingCart, change: CartPriceChange) -> int:
    return next(place for place, item in enumerate(cart.cart_item) if item.id == change.cart_item_id)


def _told(change: CartPriceChange) -> str:
    what = " ".join(filter(None, (change.price_type, change.recurring_charge_period)))
    return f"item {change.cart_item_id}: {what} was {_amount(change.old_amount)}, is {_amount(change.new_amount)}"


def _amount(money: Money | None) -> str:
    return "nothing" if money is None else f"{money.value:f} {money.unit}"
