"""Carts: priced as they are, wrong where they are wrong, and an order once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chassis.convert import to_timestamp
from chassis.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound
from orders.cart.api import PRICE_HOLDS
from orders.cart.domain import FORGOTTEN_AFTER, KEPT, KEPT_EMPTY
from orders.cart.steps import EXPIRE
from svyaz.catalog.v1 import catalog_pb2
from svyaz.orders.v1 import cart_pb2
from svyaz.type.v1 import values_pb2
from tests.orders.conftest import ORDER, Shop, item, state_of
from tests.orders.test_suspension import a_line, suspend, to_status

CART = "svyaz.orders.v1.ShoppingCartService/"
DAY = timedelta(days=1)


def a_cart(shop: Shop, *items: dict[str, Any], customer: str = "", account: str = "", **more: Any) -> Any:
    body: dict[str, Any] = {"cart_item": items, **more}
    if customer:
        body["related_party"] = [{"id": customer, "role": "customer", "at_referred_type": "Customer"}]
    if account:
        body["billing_account"] = {"id": account}
    return shop.agent(CART + "CreateShoppingCart", shopping_cart=body)


def seen(shop: Shop, cart: str) -> Any:
    return shop.agent(CART + "GetShoppingCart", id=cart)


def change(shop: Shop, cart: str, etag: str = "", **body: Any) -> Any:
    return shop.agent(
        CART + "UpdateShoppingCart",
        shopping_cart={"id": cart, **body},
        update_mask={"paths": list(body)},
        etag=etag,
    )


def check_out(shop: Shop, cart: str, **more: Any) -> Any:
    return shop.agent(CART + "CheckOutShoppingCart", id=cart, **more)


def wanted(offering: str, **more: Any) -> dict[str, Any]:
    return {"product_offering": {"id": offering}, **more}


def prices(prices: Any) -> dict[tuple[str, str], str]:
    """(type, period) → amount with tax and currency."""
    return {
        (one.price_type, one.recurring_charge_period): (
            f"{one.price.tax_included_amount.units} {one.price.tax_included_amount.unit}"
        )
        for one in prices
    }


def new_price(shop: Shop, offering: str, som: int) -> None:
    """A version of the offering that costs something else is sold from now on."""
    shop.world.manager.create(
        catalog_pb2.ProductOffering(
            name="the next",
            series=offering,
            version=f"{shop.database.clock.now():%H%M%S%f}",
            lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_LAUNCHED,
            valid_for=values_pb2.TimePeriod(start_date_time=to_timestamp(datetime.now(UTC))),
            product_offering_price=[shop.price(som)],
        )
    )


def status(cart: Any) -> str:
    return cart_pb2.CartStatus.Name(cart.status).removeprefix("CART_STATUS_")


def test_a_cart_is_completed_and_priced_by_the_catalog(shop: Shop) -> None:
    part = shop.offering(shop.price(100))
    bundle = shop.offering(shop.price(50), shop.price(7, recurring=False), bundles=[part])
    cart = a_cart(
        shop,
        wanted(bundle, quantity=2, item_price=[{"price_type": "recurring", "price": {"tax_rate": "1"}}]),
        wanted(part, id="x", status="CART_ITEM_STATUS_SAVE_FOR_LATER"),
        contact_medium=[{"medium_type": "email", "characteristic": {"email_address": "guest@example.org"}}],
    )
    first, later = cart.cart_item
    assert (first.id, first.action, first.status) == ("01", 1, cart_pb2.CART_ITEM_STATUS_ACTIVE)
    assert prices(first.item_price) == {("recurring", "month"): "100 KGS", ("oneTime", ""): "14 KGS"}
    assert prices(first.item_total_price) == {("recurring", "month"): "300 KGS", ("oneTime", ""): "14 KGS"}
    assert prices(cart.cart_total_price) == prices(first.item_total_price)
    assert not later.item_price
    assert not later.problem
    assert status(cart) == "ACTIVE"
    assert shop.agent(CART + "GetShoppingCartReceipt", id=cart.id).step
    assert seen(shop, cart.id) == cart


def test_a_cart_orders_nothing_that_an_order_would_be_refused_for(shop: Shop) -> None:
    customer, account, _, product = a_line(shop)
    suspend(shop, product, "DEBT")
    shop.work()
    cart = a_cart(shop, to_status(product, "ACTIVE"), customer=customer, account=account)
    assert [one.code for one in cart.cart_item[0].problem] == ["STILL_SUSPENDED"]
    with pytest.raises(FailedPrecondition) as refused:
        check_out(shop, cart.id)
    assert refused.value.reason == "STILL_SUSPENDED"
    assert refused.value.violations[0].field == "cart_item[0].product.status"


def test_what_cannot_be_ordered_says_why_and_does_not_keep_the_rest_from_its_price(shop: Shop) -> None:
    good, retired = shop.offering(shop.price(500)), shop.offering(shop.price(90))
    shop.world.manager.update(
        catalog_pb2.ProductOffering(id=retired, lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_RETIRED),
        "lifecycle_status",
    )
    customer, account = shop.customer()
    cart = a_cart(
        shop,
        wanted("nothing", id="a"),
        wanted(good, id="b"),
        wanted(retired, id="c"),
        {"id": "d", "action": "ORDER_ITEM_ACTION_MODIFY"},
        wanted(good, id="e", quantity=0),
        customer=customer,
        account=account,
    )
    problems = {one.id: [(p.code, p.path) for p in one.problem] for one in cart.cart_item}
    assert problems == {
        "a": [("UNKNOWN_OFFERING", "product_offering.id")],
        "b": [],
        "c": [("OFFERING_NOT_SELLABLE", "product_offering.id")],
        "d": [("INVALID_ITEMS", "product.id")],
        "e": [("INVALID_ITEMS", "quantity")],
    }
    assert prices(cart.cart_total_price) == {("recurring", "month"): "500 KGS"}
    # An order may not be wrong: all that is wrong at its stage is named by where it is in the cart.
    with pytest.raises(InvalidArgument) as refusal:
        check_out(shop, cart.id)
    assert {v.field for v in refusal.value.violations} == {"cart_item[3].product.id", "cart_item[4].quantity"}
    mended = change(shop, cart.id, cart_item=[wanted(retired, id="c"), wanted(good, id="b")])
    with pytest.raises(FailedPrecondition) as unsellable:
        check_out(shop, mended.id)
    assert unsellable.value.reason == "OFFERING_NOT_SELLABLE"
    assert [v.field for v in unsellable.value.violations] == ["cart_item[0].product_offering.id"]
    # What is wrong with the cart itself is told too.
    _, foreign = shop.customer()
    cart = a_cart(shop, wanted(good), customer=customer, account=foreign, coupon=["NOSUCH"])
    told = {(p.code, p.path) for p in cart.problem}
    assert told == {("COUPON_UNKNOWN", "coupon[0]"), ("OTHER_CUSTOMER", "billing_account.id")}
    assert prices(cart.cart_total_price) == {("recurring", "month"): "500 KGS"}


def test_a_cart_becomes_one_order_whoever_asks_how_often(shop: Shop) -> None:
    offering = shop.offering(shop.price(500))
    customer, account = shop.customer()
    cart = a_cart(
        shop,
        wanted(offering, quantity=2, note=[{"text": "wrap it"}]),
        wanted(offering, status="CART_ITEM_STATUS_SAVE_FOR_LATER"),
        customer=customer,
        account=account,
    )
    with ThreadPoolExecutor(4) as pool:
        orders = list(pool.map(lambda _: check_out(shop, cart.id), range(4)))
    assert len({order.id for order in orders}) == 1
    (ordered,) = orders[0].product_order_item
    assert (ordered.quantity, ordered.product_offering.id, orders[0].external_id) == (2, offering, cart.id)
    assert [note.text for note in orders[0].note] == ["wrap it"]
    found = shop.agent(ORDER + "ListProductOrders", filter=[{"path": "external_id", "value": [cart.id]}]).items
    assert len(found) == 1
    shop.work()
    assert state_of(check_out(shop, cart.id)) == "COMPLETED"
    assert shop.told(account) == [("RecurringChargeStart", "1000")]
    closed = seen(shop, cart.id)
    assert (status(closed), closed.product_order.id) == ("CHECKED_OUT", orders[0].id)
    with pytest.raises(FailedPrecondition) as refusal:
        change(shop, cart.id, coupon=["X"])
    assert refusal.value.reason == "CART_CLOSED"
    # What is held is changed as by an order.
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    customer, account = shop.customer()
    order = shop.completed(customer, account, item("1", "ADD", old))
    held = shop.products(order.id)[old].id
    cart = a_cart(
        shop,
        wanted(new, action="ORDER_ITEM_ACTION_MODIFY", product={"id": held}),
        customer=customer,
        account=account,
    )
    assert prices(cart.cart_total_price) == {("recurring", "month"): "600 KGS"}
    check_out(shop, cart.id)
    shop.work()
    assert shop.told(account)[-1] == ("RecurringChargeChange", "600")


def test_a_price_that_changed_since_it_was_seen_is_refused_until_it_is_accepted(shop: Shop) -> None:
    offering = shop.offering(shop.price(500))
    customer, account = shop.customer()
    cart = a_cart(shop, wanted(offering, id="a"), customer=customer, account=account)
    new_price(shop, offering, 600)
    # Nobody is known to have seen it: accepting in advance doesn't count.
    for accepted in (True, False):
        with pytest.raises(FailedPrecondition) as refusal:
            check_out(shop, cart.id, accept_price_change=accepted)
        assert refusal.value.reason == "PRICE_CHANGED"
        (wrong,) = refusal.value.violations
        assert wrong.field == "cart_item[0].ItemTotalPrice"
        assert wrong.description == "item a: recurring month was 500 KGS, is 600 KGS"
    shown = seen(shop, cart.id)
    (told,) = shown.price_change
    assert (told.cart_item_id, told.old_amount.units, told.new_amount.units) == ("a", 500, 600)
    with pytest.raises(Aborted):
        check_out(shop, cart.id, etag=cart.etag, accept_price_change=True)
    # As it was: there is nothing left to accept.
    new_price(shop, offering, 500)
    assert state_of(check_out(shop, cart.id)) == "ACKNOWLEDGED"
    # What is accepted is ordered at the new price.
    customer, account = shop.customer()
    cart = a_cart(shop, wanted(offering), customer=customer, account=account)
    new_price(shop, offering, 610)
    with pytest.raises(FailedPrecondition):
        check_out(shop, cart.id)
    check_out(shop, cart.id, accept_price_change=True)
    shop.work()
    assert shop.told(account) == [("RecurringChargeStart", "610")]


def test_a_cart_is_priced_anew_when_it_is_read_later(shop: Shop) -> None:
    offering, steady = shop.offering(shop.price(500)), shop.offering(shop.price(40))
    cart = a_cart(shop, wanted(offering, id="a"), wanted(steady, id="b"))
    new_price(shop, offering, 600)
    assert seen(shop, cart.id) == cart
    shop.later(PRICE_HOLDS + timedelta(seconds=1))
    later = seen(shop, cart.id)
    assert prices(later.cart_total_price) == {("recurring", "month"): "640 KGS"}
    (told,) = later.price_change
    assert (told.cart_item_id, told.old_amount.units, told.new_amount.units) == ("a", 500, 600)
    assert told.changed_at == later.price_valid_for.start_date_time
    # It is compared with what the customer knew, however often it changes.
    new_price(shop, offering, 700)
    shop.later(PRICE_HOLDS + timedelta(seconds=1))
    (told,) = seen(shop, cart.id).price_change
    assert (told.old_amount.units, told.new_amount.units) == (500, 700)
    # What the customer changes himself is no change of price.
    changed = change(shop, cart.id, cart_item=[wanted(offering, id="a", quantity=2), wanted(steady, id="b")])
    assert not changed.price_change
    assert prices(changed.cart_total_price) == {("recurring", "month"): "1440 KGS"}


def test_a_cart_expires_when_nobody_has_touched_it_for_long_and_goes(shop: Shop) -> None:
    offering = shop.offering(shop.price(500))
    empty, full = a_cart(shop), a_cart(shop, wanted(offering))
    fixed = a_cart(shop, wanted(offering), valid_for={"end_date_time": shop.at(2 * DAY)})
    assert [_days(shop.due(one.id, EXPIRE)) for one in (empty, full, fixed)] == [KEPT_EMPTY.days, KEPT.days, 2]
    shop.later(DAY)
    # A change prolongs it, but not what its sender has fixed.
    change(shop, empty.id, coupon=["X"])
    change(shop, fixed.id, coupon=["X"])
    shop.later(DAY + timedelta(minutes=1))
    assert [status(seen(shop, one.id)) for one in (empty, full, fixed)] == ["ACTIVE", "ACTIVE", "EXPIRED"]
    shop.later(6 * DAY)
    assert [status(seen(shop, one.id)) for one in (empty, full)] == ["EXPIRED", "ACTIVE"]
    with pytest.raises(FailedPrecondition) as refusal:
        check_out(shop, fixed.id)
    assert refusal.value.reason == "CART_CLOSED"
    shop.later(FORGOTTEN_AFTER)
    with pytest.raises(NotFound):
        seen(shop, fixed.id)


def _days(delta: timedelta | None) -> int:
    assert delta is not None
    return round(delta / DAY)


def test_a_guests_cart_goes_into_the_customers(shop: Shop) -> None:
    offering, other = shop.offering(shop.price(500)), shop.offering(shop.price(40))
    customer, account = shop.customer()
    stranger, _ = shop.customer()
    mail = {"medium_type": "email", "characteristic": {"email_address": "guest@example.org"}}
    own = a_cart(shop, wanted(offering, id="01"), customer=customer, account=account)
    guest = a_cart(shop, wanted(offering, quantity=2), wanted(other, id="x"), contact_medium=[mail])
    foreign = a_cart(shop, wanted(other), customer=stranger)
    for wrong, reason in ((foreign.id, "OTHER_CUSTOMER"), (own.id, "SAME_CART")):
        with pytest.raises((FailedPrecondition, InvalidArgument)) as refusal:
            shop.agent(CART + "MergeShoppingCarts", id=wrong, into_id=own.id)
        assert refusal.value.reason == reason
    merged = shop.agent(CART + "MergeShoppingCarts", id=guest.id, into_id=own.id)
    assert [(one.id, one.quantity) for one in merged.cart_item] == [("01", 3), ("x", 0)]
    assert merged.contact_medium[0].characteristic.email_address == "guest@example.org"
    assert prices(merged.cart_total_price) == {("recurring", "month"): "1540 KGS"}
    assert shop.agent(CART + "MergeShoppingCarts", id=guest.id, into_id=own.id) == merged
    ended = seen(shop, guest.id)
    assert (status(ended), ended.merged_into.id) == ("MERGED", own.id)


def test_a_cart_that_is_empty_or_asked_for_twice_or_changed_meanwhile(shop: Shop) -> None:
    cart = a_cart(shop)
    assert not cart.cart_total_price
    assert not cart.HasField("price_valid_for")
    with pytest.raises(NotFound):
        shop.agent(CART + "GetShoppingCartReceipt", id=cart.id)
    with pytest.raises(FailedPrecondition) as refusal:
        check_out(shop, cart.id)
    assert refusal.value.reason == "CART_EMPTY"
    with pytest.raises(InvalidArgument) as twice:
        a_cart(shop, {"id": "1", "cart_item": [{"id": "1"}]})
    assert twice.value.reason == "INVALID_ITEMS"
    cart = a_cart(shop)
    change(shop, cart.id, etag=cart.etag, coupon=["A"])
    with pytest.raises(Aborted) as stale:
        change(shop, cart.id, etag=cart.etag, coupon=["B"])
    assert stale.value.reason == "STALE_ETAG"
    made = [
        shop.agent(CART + "CreateShoppingCart", shopping_cart={"coupon": ["A"]}, request_id="once").id for _ in range(2)
    ]
    assert len(set(made)) == 1
