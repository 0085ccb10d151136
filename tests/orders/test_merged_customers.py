"""Orders of customers who turned out to be one: what belongs to one of their ids belongs to the customer."""

from collections.abc import Callable
from typing import Any

import pytest

from chassis.cloudevents import ReceivedEvent
from chassis.errors import InvalidArgument
from chassis.events import acting
from chassis.types import new_id
from tests.orders.conftest import ORDER, PRODUCT, Shop, item

IDENTITY = "svyaz.customers.v1.IdentityService/"


def merged(shop: Shop, absorbed: str, survivor: str) -> str:
    tell = shop.world.callers("customers", "bishkek")
    request = {"survivor_id": survivor, "absorbed_id": absorbed, "reason": "one passport"}
    return str(tell(IDENTITY + "MergeCustomers", **request).id)


def parted(shop: Shop, merge: str) -> None:
    tell = shop.world.callers("customers", "bishkek")
    tell(IDENTITY + "UnmergeCustomers", merge_id=merge, reason="two people")


def told(shop: Shop, merge: str) -> ReceivedEvent:
    """What customers tells of a merge as it is now."""
    message = shop.world.callers("customers", "bishkek")(IDENTITY + "GetCustomerMerge", id=merge)
    return ReceivedEvent(
        id=new_id(),
        source="svyaz/customers",
        type="CustomerMergeStateChangeEvent",
        time=shop.database.clock.now(),
        aggregate_type="CustomerMerge",
        aggregate_id=merge,
        version=int(message.etag),
        branch=message.branch,
        key=merge,
        actor="somebody",
        on_behalf_of=None,
        schema_revision=1,
        data_type=message.DESCRIPTOR.full_name,
        data=message.SerializeToString(),
        subject="",
        headers={},
    )


def hear(shop: Shop, *events: ReceivedEvent) -> None:
    for event in events:
        with acting("orders", "customers", event.branch), shop.database.unit() as unit:
            shop.fulfilment.customers_changed(event, unit)


def ordered_for(order: Any) -> str:
    return str(order.related_party[0].id)


def test_accounts_and_products_of_every_id_serve_the_customer(shop: Shop) -> None:
    first, first_account = shop.customer()
    second, second_account = shop.customer()
    offering = shop.offering(shop.price(500))
    product = shop.products(shop.completed(first, first_account, item("1", "ADD", offering)).id)[offering].id
    strange: tuple[Callable[[], Any], ...] = (
        lambda: shop.order(second, first_account, item("1", "ADD", offering)),
        lambda: shop.order(second, second_account, item("1", "DELETE", product=product)),
    )
    for act in strange:
        with pytest.raises(InvalidArgument) as refusal:
            act()
        assert refusal.value.reason == "OTHER_CUSTOMER"
    merge = merged(shop, first, second)
    # The survivor pays from the account that the other one had, and so does who is still called by the old id.
    assert ordered_for(shop.completed(second, first_account, item("1", "ADD", offering))) == second
    assert ordered_for(shop.completed(first, second_account, item("1", "ADD", offering))) == first
    parted(shop, merge)
    for act in strange:
        with pytest.raises(InvalidArgument) as refusal:
            act()
        assert refusal.value.reason == "OTHER_CUSTOMER"
    # What was his is still his.
    shop.completed(first, first_account, item("1", "DELETE", product=product))


def test_an_order_that_was_taken_before_goes_on_under_the_old_id(shop: Shop) -> None:
    first, account = shop.customer()
    second, _ = shop.customer()
    offering = shop.offering(shop.price(500))
    order = shop.order(first, account, item("1", "ADD", offering))
    merged(shop, first, second)
    shop.work()
    done = shop.get(order.id)
    assert (ordered_for(done), ordered_for(shop.products(done.id)[offering])) == (first, first)
    # And the product is changed by whom the customer has become.
    product = shop.products(done.id)[offering].id
    shop.completed(second, account, item("1", "DELETE", product=product))


def test_orders_and_products_are_listed_by_any_id_of_the_customer(shop: Shop) -> None:
    offering = shop.offering(shop.price(500))
    customers = [shop.customer() for _ in range(3)]
    orders = {
        customer: shop.completed(customer, account, item("1", "ADD", offering)).id for customer, account in customers
    }
    first, second, third = orders
    agent = shop.agent

    def listed(method: str, customer: str) -> set[str]:
        wanted = [{"path": "related_party.id", "value": [customer]}]
        return {ordered_for(one) for one in agent(method, filter=wanted).items}

    def seen() -> list[set[str]]:
        found = [listed(ORDER + "ListProductOrders", one) for one in orders]
        assert [listed(PRODUCT + "ListProducts", one) for one in orders] == found
        return found

    merges = [merged(shop, first, second), merged(shop, second, third)]
    events = [told(shop, merge) for merge in merges]
    # What tells of two merges may come in any order.
    hear(shop, *reversed(events), *events)
    assert seen() == [set(orders)] * 3
    parted(shop, merges[1])
    hear(shop, told(shop, merges[1]))
    assert seen() == [{first, second}, {first, second}, {third}]
    parted(shop, merges[0])
    hear(shop, told(shop, merges[0]))
    assert seen() == [{first}, {second}, {third}]
