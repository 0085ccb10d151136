"""Prices that hang on who buys: his frame contract and his segments, and what an order does when they change."""

from datetime import timedelta
from typing import Any

import pytest

from chassis.cloudevents import ReceivedEvent
from chassis.errors import Aborted, FailedPrecondition, InvalidArgument
from chassis.events import acting
from chassis.types import new_id
from svyaz.catalog.v1 import catalog_pb2, pricing_rules_pb2
from svyaz.customers.v1 import customers_pb2
from svyaz.type.v1 import values_pb2
from tests.orders.conftest import ACTIVE, CUSTOMER, ORDER, PRODUCT, Shop, item, state_of
from tests.orders.test_migration import migrate

DAY = timedelta(days=1)
LIST_PRICE = 500


def tell(shop: Shop, customer: str, **facts: Any) -> None:
    """Tells customers what somebody is."""
    body = {"id": customer, **facts}
    shop.world.callers("customers", "bishkek")(
        CUSTOMER + "UpdateCustomer", customer=body, update_mask={"paths": [*facts]}
    )


def signs(shop: Shop, customer: str, *agreements: str) -> None:
    tell(shop, customer, agreement=[{"id": one} for one in agreements])


def tariff(shop: Shop, **prices: int) -> str:
    """An offering on sale for 500, and for these prices by the frame contracts of these names."""
    by_list = []
    for agreement, som in prices.items():
        special = shop.world.manager.create(
            pricing_rules_pb2.PriceList(
                name=agreement, lifecycle_status=ACTIVE, agreement=[values_pb2.EntityRef(id=agreement)]
            )
        )
        by_list.append(listed(shop, som, special.id))
    return shop.offering(shop.price(LIST_PRICE), *by_list)


def vip_tariff(shop: Shop, som: int) -> str:
    """An offering on sale for 500, and for another price to the segment VIP."""
    return shop.offering(*vip_prices(shop, som))


def vip_prices(shop: Shop, som: int) -> tuple[Any, Any]:
    special = shop.world.manager.create(
        pricing_rules_pb2.PriceList(
            name="VIP", lifecycle_status=ACTIVE, market_segment=[values_pb2.EntityRef(name="VIP")]
        )
    )
    return shop.price(LIST_PRICE), listed(shop, som, special.id)


def listed(shop: Shop, som: int, price_list: str) -> Any:
    made = shop.world.manager.create(
        catalog_pb2.ProductOfferingPrice(
            name="fee",
            lifecycle_status=ACTIVE,
            price_type="recurring",
            price=values_pb2.Money(unit="KGS", units=som),
            recurring_charge_period_type="month",
            price_list=price_list,
        )
    )
    return catalog_pb2.ProductOfferingPriceRefOrValue(id=made.id, name="fee")


def by(agreement: str, body: dict[str, Any]) -> dict[str, Any]:
    """The item with a frame contract of its own."""
    return body | {"product": body.get("product", {}) | {"agreement": [{"id": agreement}]}}


def prices(order: Any) -> list[int]:
    return [row.item_price[0].price.duty_free_amount.units for row in order.product_order_item if row.item_price]


def agreements(product: Any) -> list[str]:
    return [one.id for one in product.agreement]


def refused(raised: "pytest.ExceptionInfo[InvalidArgument]") -> tuple[str, list[str]]:
    return raised.value.reason, [violation.field for violation in raised.value.violations]


def bought(shop: Shop, customer: str, account: str, offering: str, agreement: str) -> Any:
    """A product that has been ordered by a frame contract."""
    done = shop.completed(customer, account, by(agreement, item("1", "ADD", offering)))
    return shop.products(done.id)[offering]


# --- which contract counts -------------------------------------------------------------------------------------------


def test_the_frame_contract_is_the_items_else_the_orders_else_the_customers(shop: Shop) -> None:
    customer, account = shop.customer()
    offering = tariff(shop, signed=400, ordered=300, stated=200)
    signs(shop, customer, "signed", "ordered", "stated")
    plain, stated = item("1", "ADD", offering), by("stated", item("2", "ADD", offering))
    ordered = [{"id": "ordered"}]
    assert prices(shop.order(customer, account, plain, agreement=ordered)) == [300]
    assert prices(shop.order(customer, account, plain, stated, agreement=ordered)) == [200, 200]
    # Of several that he has signed, none is known to be meant.
    assert prices(shop.order(customer, account, plain)) == [LIST_PRICE]
    signs(shop, customer, "signed")
    assert prices(shop.order(customer, account, plain)) == [400]


def test_what_ends_or_stays_decides_no_price(shop: Shop) -> None:
    customer, account = shop.customer()
    offering = tariff(shop, A=400, B=300)
    signs(shop, customer, "A", "B")
    ends, stays = (bought(shop, customer, account, offering, "A").id for _ in range(2))
    others = item("1", "DELETE", product=ends), item("2", "NO_CHANGE", offering, stays)
    by_order = shop.order(customer, account, *others, item("3", "ADD", offering), agreement=[{"id": "B"}])
    assert prices(by_order) == [300]
    by_item = shop.order(customer, account, *others, by("B", item("3", "ADD", offering)))
    assert prices(by_item) == [300]
    signs(shop, customer, "B")
    assert prices(shop.order(customer, account, *others, item("3", "ADD", offering))) == [300]


def test_products_of_different_contracts_are_changed_by_orders_of_their_own(shop: Shop) -> None:
    customer, account = shop.customer()
    offering = tariff(shop, A=400, B=300)
    signs(shop, customer, "A", "B")
    changes = [
        item(name, "MODIFY", offering, bought(shop, customer, account, offering, name).id) for name in ("A", "B")
    ]
    with pytest.raises(InvalidArgument) as raised:
        shop.order(customer, account, *changes)
    paths = [f"product_order_item[{n}].product.id" for n in (0, 1)]
    assert refused(raised) == ("AGREEMENTS_DIFFER", paths)
    assert [prices(shop.order(customer, account, change)) for change in changes] == [[400], [300]]
    # Unless the order says which it is from now on.
    assert prices(shop.order(customer, account, *changes, agreement=[{"id": "B"}])) == [300, 300]
    # What another item names is no word about a product that has a contract.
    with pytest.raises(InvalidArgument) as raised:
        shop.order(customer, account, changes[0], by("B", item("2", "ADD", offering)))
    assert refused(raised) == ("AGREEMENTS_DIFFER", ["product_order_item[1].product.agreement", paths[0]])


def test_an_order_that_names_two_contracts_is_refused(shop: Shop) -> None:
    customer, account = shop.customer()
    offering = tariff(shop, A=400, B=300)
    signs(shop, customer, "A", "B")
    both = [by(name, item(name, "ADD", offering)) for name in ("A", "B")]
    with pytest.raises(InvalidArgument) as raised:
        shop.order(customer, account, *both)
    assert refused(raised)[0] == "AGREEMENTS_DIFFER"
    with pytest.raises(InvalidArgument) as raised:
        shop.order(customer, account, item("1", "ADD", offering), agreement=[{"id": "A"}, {"id": "B"}])
    assert refused(raised) == ("AGREEMENTS_DIFFER", ["agreement"])


def test_another_customers_contract_gives_nobody_its_price(shop: Shop) -> None:
    (customer, account), (other, _) = shop.customer(), shop.customer()
    offering = tariff(shop, theirs=100)
    signs(shop, other, "theirs")
    with pytest.raises(InvalidArgument) as raised:
        shop.order(customer, account, by("theirs", item("1", "ADD", offering)))
    assert refused(raised) == ("OTHER_CUSTOMER", ["product_order_item[0].product.agreement"])
    with pytest.raises(InvalidArgument) as raised:
        shop.order(customer, account, item("1", "ADD", offering), agreement=[{"id": "theirs"}])
    assert refused(raised) == ("OTHER_CUSTOMER", ["agreement"])


def test_a_product_stays_with_the_contract_that_it_was_sold_by(shop: Shop) -> None:
    customer, account = shop.customer()
    offering = tariff(shop, A=400)
    signs(shop, customer, "A")
    product = bought(shop, customer, account, offering, "A")
    signs(shop, customer)
    assert prices(shop.order(customer, account, item("1", "MODIFY", offering, product.id))) == [400]
    assert prices(shop.order(customer, account, by("A", item("1", "MODIFY", offering, product.id)))) == [400]


# --- what a price went by is kept ------------------------------------------------------------------------------------


def test_what_a_change_was_priced_by_is_what_the_next_one_is_priced_by(shop: Shop) -> None:
    customer, account = shop.customer()
    offering = tariff(shop, A=400, B=300)
    signs(shop, customer, "A", "B")
    product = bought(shop, customer, account, offering, "A")
    change = item("1", "MODIFY", offering, product.id)
    shop.completed(customer, account, by("B", change))
    assert shop.told(account)[-1] == ("RecurringChargeChange", "300")
    assert agreements(shop.agent(PRODUCT + "GetProduct", id=product.id)) == ["B"]
    assert prices(shop.order(customer, account, change)) == [300]


def test_a_change_keeps_the_customers_contract_and_segment_with_the_product_and_its_parts(shop: Shop) -> None:
    customer, account = shop.customer()
    part, offering = tariff(shop), tariff(shop)
    bundle = shop.offering(shop.price(100), bundles=[part])
    done = shop.completed(customer, account, item("1", "ADD", bundle), item("2", "ADD", offering))
    held = shop.products(done.id)
    body = {"id": held[offering].id, "extensions": b'{"colour": 1.10}'}
    shop.agent(PRODUCT + "UpdateProduct", product=body, update_mask={"paths": ["extensions"]})
    signs(shop, customer, "A")
    tell(shop, customer, market_segment=[{"name": "VIP"}])
    changes = (item(name, "MODIFY", name, held[name].id) for name in (bundle, offering))
    shop.completed(customer, account, *changes)
    after = {one: shop.agent(PRODUCT + "GetProduct", id=product.id) for one, product in held.items()}
    assert [agreements(product) for product in after.values()] == [["A"]] * 3
    vip = b'"marketSegment":[{"name":"VIP"}]'
    assert {product.extensions.replace(b" ", b"") for product in after.values()} == {
        b"{" + vip + b"}",
        b'{"colour":1.10,' + vip + b"}",
    }
    # Another segment takes its place.
    tell(shop, customer, market_segment=[{"name": "home"}])
    shop.completed(customer, account, item("1", "MODIFY", offering, held[offering].id))
    home = shop.agent(PRODUCT + "GetProduct", id=held[offering].id).extensions
    assert home.replace(b" ", b"") == b'{"colour":1.10,' + vip.replace(b"VIP", b"home") + b"}"


# --- another customer ------------------------------------------------------------------------------------------------


def vip(shop: Shop) -> tuple[str, str]:
    customer, account = shop.customer()
    tell(shop, customer, market_segment=[{"name": "VIP"}])
    return customer, account


def party(customer: str) -> list[dict[str, str]]:
    return [{"id": customer, "role": "customer"}]


def charged(shop: Shop, account: str) -> list[str]:
    return sorted(amount for _, amount in shop.told(account))


def test_another_customer_is_charged_his_own_price(shop: Shop) -> None:
    (customer, account), (other, other_account) = vip(shop), shop.customer()
    signs(shop, customer, "A")
    part, offering = vip_tariff(shop, 50), vip_tariff(shop, 300)
    bundle = shop.offering(shop.price(100), bundles=[part])
    said = item("2", "ADD", offering) | {"product": {"extensions": b'{"colour": 1.10}'}}
    order = shop.order(customer, account, item("1", "ADD", bundle), said, requested_start_date=shop.at(DAY))
    assert prices(order) == [100, 300]
    moved = shop.change(order.id, related_party=party(other), billing_account={"id": other_account})
    assert prices(moved) == [100, LIST_PRICE]
    assert [total.price.duty_free_amount.units for total in moved.order_total_price] == [100 + 2 * LIST_PRICE]
    shop.later(2 * DAY)
    assert charged(shop, other_account) == ["100", "500", "500"]
    assert charged(shop, account) == []
    products = shop.products(order.id)
    assert set(products) == {bundle, part, offering}
    assert [agreements(product) for product in products.values()] == [[]] * 3
    assert [product.extensions for product in products.values() if product.extensions] == [b'{"colour":1.10}']


def test_another_contract_or_channel_is_another_price(shop: Shop) -> None:
    customer, account = shop.customer()
    offering = tariff(shop, A=400)
    signs(shop, customer, "A", "B")
    later = {"requested_start_date": shop.at(DAY)}
    order = shop.order(customer, account, item("1", "ADD", offering), **later)
    assert prices(order) == [LIST_PRICE]
    assert prices(shop.change(order.id, agreement=[{"id": "A"}])) == [400]
    assert prices(shop.change(order.id, agreement=[{"id": "B"}])) == [LIST_PRICE]
    with pytest.raises(InvalidArgument) as raised:
        shop.change(order.id, agreement=[{"id": "theirs"}])
    assert refused(raised) == ("OTHER_CUSTOMER", ["agreement"])
    shop.change(order.id, channel=[{"id": "web"}])
    receipt = shop.agent(ORDER + "GetProductOrderReceipt", id=order.id)
    assert '"channel":"web"' in receipt.inputs.decode()
    shop.provisioning.delay = DAY
    shop.later(2 * DAY)
    with pytest.raises(FailedPrecondition) as started:
        shop.change(order.id, channel=[{"id": "shop"}])
    assert started.value.reason == "ORDER_STARTED"


class Unknown:
    """The customers as they were before somebody was one of them."""

    def __init__(self, shop: Shop, customer: str) -> None:
        self._asked = shop.fulfilment._capture._customers
        self._customer = customer

    def GetOrderingContext(self, request: Any, **how: Any) -> Any:
        answer = self._asked.GetOrderingContext(request, **how)
        known = [row for row in answer.customer if row.id != self._customer]
        return customers_pb2.OrderingContext(customer=known, billing_account=answer.billing_account)


def before(shop: Shop, customer: str, account: str, *items: dict[str, Any]) -> str:
    """An order that was taken, and has begun to wait, before its customer was known."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shop.fulfilment._capture, "_customers", Unknown(shop, customer))
        order = shop.order(customer, account, *items)
        shop.work()
    assert state_of(shop.get(order.id)) == "PENDING"
    return order.id


def arrives(shop: Shop, customer: str) -> None:
    """Orders hear of the customer."""
    event = ReceivedEvent(
        id=new_id(),
        source="customers",
        type="CustomerCreateEvent",
        time=shop.database.clock.now(),
        aggregate_type="Customer",
        aggregate_id=customer,
        version=1,
        branch="bishkek",
        key=customer,
        actor="a",
        on_behalf_of=None,
        schema_revision=1,
        data_type="",
        data=b"",
        subject="",
        headers={},
    )
    with acting("orders", "test"), shop.database.unit() as unit:
        shop.fulfilment.customers_changed(event, unit)
    shop.work()


def test_an_order_is_priced_for_its_customer_once_he_is_known(shop: Shop) -> None:
    customer, account = vip(shop)
    part = vip_tariff(shop, 50)
    bundle = shop.offering(shop.price(100), bundles=[part])
    order = before(shop, customer, account, item("1", "ADD", bundle))
    assert len(shop.get(order).product_order_item[0].product_order_item) == 1
    arrives(shop, customer)
    done = shop.get(order)
    assert state_of(done) == "COMPLETED", done.note
    assert charged(shop, account) == ["100", "50"]
    assert [total.price.duty_free_amount.units for total in done.order_total_price] == [150]
    assert all(b"VIP" in product.extensions for product in shop.products(order).values())


def test_an_order_whose_account_comes_after_its_customer_is_priced_for_him_too(shop: Shop) -> None:
    customer, account = vip(shop)
    offering = vip_tariff(shop, 300)
    order = before(shop, customer, "unknown", item("1", "ADD", offering))
    arrives(shop, customer)
    waiting = shop.get(order)
    assert (state_of(waiting), state_of(waiting.product_order_item[0]), prices(waiting)) == (
        "PENDING",
        "PENDING",
        [300],
    )
    shop.change(order, billing_account={"id": account})
    shop.work()
    assert shop.told(account) == [("RecurringChargeStart", "300")]


def test_an_order_that_its_customer_can_not_have_waits_and_says_so(shop: Shop) -> None:
    customer, account = shop.customer()
    offering = tariff(shop, theirs=100)
    order = before(shop, customer, account, by("theirs", item("1", "ADD", offering)))
    arrives(shop, customer)
    waiting = shop.get(order)
    assert state_of(waiting) == "PENDING"
    assert waiting.note[-1].text.endswith("agreement theirs isn't the customer's")
    assert shop.told(account) == []
    signs(shop, customer, "theirs")
    shop.later(timedelta(hours=2))
    assert state_of(shop.get(order)) == "COMPLETED"
    assert shop.told(account) == [("RecurringChargeStart", "100")]


def test_an_order_whose_offering_is_not_sold_any_more_when_its_customer_comes_waits(shop: Shop) -> None:
    customer, account = shop.customer()
    offering = tariff(shop)
    order = before(shop, customer, account, item("1", "ADD", offering))
    retired = catalog_pb2.ProductOffering(id=offering, lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_RETIRED)
    shop.world.manager.update(retired, "lifecycle_status")
    arrives(shop, customer)
    waiting = shop.get(order)
    assert state_of(waiting) == "PENDING"
    assert "price for the customer" in waiting.note[-1].text
    notes = len(waiting.note)
    shop.later(timedelta(hours=2))
    assert (state_of(shop.get(order)), len(shop.get(order).note)) == ("PENDING", notes)


def test_a_change_of_what_has_been_priced_meanwhile_is_not_kept(shop: Shop) -> None:
    customer, account = shop.customer()
    offering = tariff(shop, A=400)
    signs(shop, customer, "A", "B")
    order = shop.order(customer, account, item("1", "ADD", offering), requested_start_date=shop.at(DAY))
    recapture = shop.fulfilment._capture.recapture

    def slowly(*asked: Any) -> Any:
        captured = recapture(*asked)
        shop.change(order.id, product_order_item=[item("1", "ADD", offering), item("2", "ADD", offering)])
        return captured

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shop.fulfilment._capture, "recapture", slowly)
        with pytest.raises(Aborted):
            shop.change(order.id, agreement=[{"id": "A"}])
    assert prices(shop.get(order.id)) == [LIST_PRICE] * 2


def test_a_migration_whose_customer_comes_late_charges_what_it_would_have(shop: Shop) -> None:
    customer, account = shop.customer()
    old, new = tariff(shop), shop.offering(shop.price(50, recurring=False), *vip_prices(shop, 300))
    done = shop.completed(customer, account, item("1", "ADD", old))
    product = shop.products(done.id)[old].id
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shop.fulfilment._capture, "_customers", Unknown(shop, customer))
        migrate(shop, old, new)
        shop.later(timedelta(seconds=2))
    (moving,) = [
        order
        for order in shop.agent(ORDER + "ListProductOrders", limit=1000).items
        if order.external_id.endswith(product)
    ]
    assert (state_of(moving), prices(moving)) == ("PENDING", [LIST_PRICE])
    tell(shop, customer, market_segment=[{"name": "VIP"}])
    arrives(shop, customer)
    assert shop.told(account)[1:] == [("RecurringChargeStop", "500"), ("RecurringChargeChange", "300")]
