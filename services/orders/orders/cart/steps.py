"""How a cart goes on by itself: it expires, and goes."""

from collections.abc import Callable

from chassis.errors import Aborted
from chassis.timers import set_timer
from chassis.unit import Unit
from orders.cart import store
from orders.cart.domain import FORGOTTEN_AFTER, ShoppingCart
from orders.cart.values import CartStatus

# The purposes of our timers.
EXPIRE = "cartExpires"
FORGET = "cartForgotten"


def timers() -> dict[str, Callable[[str, Unit], None]]:
    """The handlers of our timers, by purpose."""
    return {EXPIRE: expire, FORGET: forget}


def expire(cart_id: str, unit: Unit) -> None:
    """Ends a cart whose time has come; one that has been prolonged meanwhile has a later timer."""
    cart = unit.find(ShoppingCart, cart_id)
    if cart is not None and cart.expire(unit.at):
        set_timer(unit, cart.id, FORGET, unit.at + FORGOTTEN_AFTER, cart.branch)


def forget(cart_id: str, unit: Unit) -> None:
    """Deletes a cart that is over."""
    cart = unit.find(ShoppingCart, cart_id)
    if cart is not None and cart.status is not CartStatus.ACTIVE:
        store.forget_receipts(unit, [cart.id])
        unit.delete(cart)


def require_unmoved(unit: Unit, read: ShoppingCart) -> ShoppingCart:
    """The cart that was read before, in this transaction. Raises Aborted CONFLICT when it has changed, NotFound."""
    cart = unit.get(ShoppingCart, read.id)
    if cart.revision != read.revision:
        raise Aborted("CONFLICT", "the cart has been changed while it was priced: try again")
    return cart
