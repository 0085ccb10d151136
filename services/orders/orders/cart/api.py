"""What can be asked of shopping carts."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from google.protobuf.message import Message

from chassis import convert
from chassis.aliases import AliasedCollection
from chassis.db import Database
from chassis.errors import Aborted, FailedPrecondition, NotFound, Unavailable
from chassis.resources import StandardMethods
from chassis.timers import cancel_timer, set_timer
from chassis.types import TimePeriod, new_id
from chassis.unit import Unit
from orders.cart import store
from orders.cart.checkout import CheckOut
from orders.cart.domain import DECISIVE, FORGOTTEN_AFTER, ShoppingCart
from orders.cart.quoting import price_changes
from orders.cart.steps import EXPIRE, FORGET, require_unmoved
from orders.cart.valuation import Valuation, Valued
from orders.cart.values import CartStatus
from orders.identity.store import same
from orders.ordering.api import composed
from orders.ordering.coupons import Coupons
from orders.ordering.domain import ProductOrder
from orders.ordering.store import items_of
from svyaz.orders.v1 import cart_pb2, orders_pb2
from svyaz.type.v1 import receipt_pb2, requests_pb2

# How long a price that was told isn't asked for again.
PRICE_HOLDS = timedelta(minutes=30)
# Between reading a cart and keeping its price somebody else may change it.
_ATTEMPTS = 3


def _deleting(unit: Unit, cart: ShoppingCart) -> None:
    store.forget_receipts(unit, [cart.id])
    for purpose in (EXPIRE, FORGET):
        cancel_timer(unit, cart.id, purpose)


class Carts(StandardMethods):
    """TMF663."""

    def __init__(self, database: Database, valuation: Valuation, coupons: Coupons) -> None:
        self._database = database
        self._valuation = valuation
        self._check_out = CheckOut(database, valuation, coupons)
        self._carts = AliasedCollection(database, ShoppingCart, cart_pb2.ShoppingCart, aliases=same, deleting=_deleting)
        super().__init__(cart_pb2.DESCRIPTOR.services_by_name["ShoppingCartService"], self._carts)

    def GetShoppingCart(self, request: requests_pb2.GetRequest, context: Any) -> cart_pb2.ShoppingCart:
        """The cart; priced anew when what it says isn't valid any more, as far as the catalog can be asked."""
        if not request.HasField("at") and self._read(request.id).stale(self._database.clock.now()):
            try:
                return self._changed(request, lambda _: False, request.id, priced=True)
            except (Unavailable, FailedPrecondition):
                # It can be told what it cost, and by `price_valid_for` when that was; or it has just been closed.
                return self._carts.get(request)
        return self._carts.get(request)

    def GetShoppingCartReceipt(self, request: requests_pb2.GetRequest, context: Any) -> receipt_pb2.Receipt:
        """Why the cart costs what it costs; raises NotFound for one that nothing is priced in."""
        with self._database.unit() as unit:
            unit.get(ShoppingCart, request.id)
            receipt = store.receipt_of(unit, request.id)
        if receipt is None:
            raise NotFound("NO_RECEIPT", f"nothing is priced in cart {request.id}")
        return receipt_pb2.Receipt.FromString(receipt)

    def CreateShoppingCart(self, request: cart_pb2.CreateShoppingCartRequest, context: Any) -> cart_pb2.ShoppingCart:
        """A new cart, with what it costs."""
        remembered = self._database.remembered(request, cart_pb2.ShoppingCart)
        if remembered is not None:
            return remembered
        branch = self._database.branch_for_create(ShoppingCart, request.branch)

        def wanted() -> ShoppingCart:
            cart = convert.from_message(request.shopping_cart, ShoppingCart, id=new_id(), branch=branch)
            cart.check(self._database.clock.now())
            return cart

        valued = self._valuation.value(wanted())

        def work(unit: Unit) -> cart_pb2.ShoppingCart:
            cart = wanted()
            _price(unit, cart, valued)
            unit.add(cart)
            set_timer(unit, cart.id, EXPIRE, cart.ends_at, cart.branch)
            return self._carts.reply(unit, cart)

        return self._database.transact(request, cart_pb2.ShoppingCart, work)

    def UpdateShoppingCart(self, request: cart_pb2.UpdateShoppingCartRequest, context: Any) -> cart_pb2.ShoppingCart:
        """Changes what the update mask names, and prices the cart anew where that may change its price."""
        remembered = self._database.remembered(request, cart_pb2.ShoppingCart)
        if remembered is not None:
            return remembered
        paths = list(request.update_mask.paths)

        def change(cart: ShoppingCart) -> bool:
            changes = convert.changes(request.shopping_cart, paths, cart)
            if changes:
                cart.revise(changes, self._database.clock.now())
            return bool(changes)

        decisive = bool(DECISIVE & {path.split(".")[0] for path in paths})
        return self._changed(request, change, request.shopping_cart.id, etag=request.etag, priced=decisive)

    def CheckOutShoppingCart(
        self, request: cart_pb2.CheckOutShoppingCartRequest, context: Any
    ) -> orders_pb2.ProductOrder:
        """The order of the cart, as it is by now where the cart has become one already."""
        for attempt in range(_ATTEMPTS):
            cart = self._read(request.id)
            if cart.status is CartStatus.CHECKED_OUT:
                break
            if request.etag and request.etag != str(cart.revision):
                raise Aborted("STALE_ETAG", f"the cart has changed since etag {request.etag}: it is at {cart.revision}")
            try:
                self._check_out.order(cart, request.accept_price_change, self._kept)
                break
            except FailedPrecondition as refusal:
                if refusal.reason == "PRICE_CHANGED":
                    # Whoever reads the cart now sees it.
                    self._changed(requests_pb2.GetRequest(id=cart.id), lambda _: False, cart.id, priced=True)
                raise
            except (Aborted, Unavailable) as error:
                # Somebody else was faster: perhaps with the same order.
                if attempt == _ATTEMPTS - 1 or error.reason not in ("CONFLICT", "COUPONS_GIVEN_BACK"):
                    raise
        return self._order_of(request.id)

    def _kept(self, work: Callable[[Unit], ProductOrder]) -> ProductOrder:
        with self._database.unit() as unit:
            return work(unit)

    def _order_of(self, cart_id: str) -> orders_pb2.ProductOrder:
        with self._database.unit() as unit:
            cart = unit.get(ShoppingCart, cart_id)
            assert cart.product_order is not None
            order = unit.get(ProductOrder, cart.product_order.id or "")
            return composed(order, items_of(unit, order.id))

    def MergeShoppingCarts(self, request: cart_pb2.MergeShoppingCartsRequest, context: Any) -> cart_pb2.ShoppingCart:
        """The customer's cart with what was in the guest's; asked again, as it is by now."""
        remembered = self._database.remembered(request, cart_pb2.ShoppingCart)
        if remembered is not None:
            return remembered
        guest = self._read(request.id)
        if guest.merged_into is not None and guest.merged_into.id == request.into_id:
            return self._carts.get(requests_pb2.GetRequest(id=request.into_id))
        now = self._database.clock.now()
        guest.require_open(now)

        def change(cart: ShoppingCart) -> bool:
            guest.require_mergeable(cart)
            cart.revise(cart.merged_with(guest), now)
            return True

        def closing(unit: Unit, into: ShoppingCart) -> None:
            ended = require_unmoved(unit, guest)
            ended.end_in(into, unit.at)
            cancel_timer(unit, ended.id, EXPIRE)
            set_timer(unit, ended.id, FORGET, unit.at + FORGOTTEN_AFTER, ended.branch)
            store.forget_receipts(unit, [ended.id])

        return self._changed(request, change, request.into_id, priced=True, besides=closing)

    # --- changing and pricing -----------------------------------------------------------------------------------------

    def _read(self, cart_id: str) -> ShoppingCart:
        """The cart as it is, no more of the database."""
        with self._database.unit() as unit:
            cart = unit.get(ShoppingCart, cart_id)
            unit.session.expunge_all()
        return cart

    def _changed(
        self,
        request: Message,
        change: Callable[[ShoppingCart], bool],
        cart_id: str,
        *,
        priced: bool,
        etag: str = "",
        besides: Callable[[Unit, ShoppingCart], None] = lambda unit, cart: None,
    ) -> cart_pb2.ShoppingCart:
        """Changes a cart and asks what it costs then; again, when somebody else has changed it meanwhile."""
        for attempt in range(_ATTEMPTS):
            read = self._read(cart_id)
            if etag and etag != str(read.revision):
                raise Aborted("STALE_ETAG", f"the cart has changed since etag {etag}: it is at {read.revision}")
            wanted = self._read(cart_id) if priced or read.stale(self._database.clock.now()) else None
            valued = None
            if wanted is not None:
                change(wanted)
                valued = self._valuation.value(wanted)

            def work(unit: Unit, read: ShoppingCart = read, valued: Valued | None = valued) -> cart_pb2.ShoppingCart:
                cart = require_unmoved(unit, read)
                if change(cart):
                    set_timer(unit, cart.id, EXPIRE, cart.ends_at, cart.branch)
                if valued is not None:
                    _price(unit, cart, valued, read)
                besides(unit, cart)
                return self._carts.reply(unit, cart)

            try:
                return self._database.transact(request, cart_pb2.ShoppingCart, work)
            except Aborted as error:
                if error.reason != "CONFLICT" or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")


def _price(unit: Unit, cart: ShoppingCart, valued: Valued, before: ShoppingCart | None = None) -> None:
    """Puts what was found out into the cart; `before`: as the customer saw it."""
    shown = valued.quote.shown(cart.cart_item)
    if before is not None:
        cart.price_change = price_changes(before.cart_item, before.price_change, shown, unit.at)
    if shown != cart.cart_item:
        cart.cart_item = shown
    if cart.cart_total_price != valued.quote.total:
        cart.cart_total_price = valued.quote.total
    if cart.problem != valued.quote.problem:
        cart.problem = valued.quote.problem
    asked = any(item.active for item in shown)
    cart.price_valid_for = TimePeriod(start_date_time=unit.at, end_date_time=unit.at + PRICE_HOLDS) if asked else None
    store.keep_receipt(unit, cart, valued.receipt)
