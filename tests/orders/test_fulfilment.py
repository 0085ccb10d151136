"""Orders on their way from a wish to products and charges, with everything that may change under way."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.events import acting
from chassis.types import Money
from orders.billing.domain import ChargeAlteration
from orders.ordering.fulfilment import CANCEL
from orders.ordering.placing import ADVANCE
from orders.ordering.store import order_wait
from orders.ordering.withdrawal import INFORMATION
from svyaz.orders.v1 import inventory_pb2
from tests.orders.conftest import ORDER, PRODUCT, Shop, item, state_of

DAY = timedelta(days=1)
MOMENT = timedelta(minutes=2)


def a_product(offering: str | None = None, **more: object) -> dict[str, object]:
    """A product that was taken over from elsewhere, with a monthly fee of 300."""
    fee = {"duty_free_amount": {"unit": "KGS", "units": 300}}
    price = {"price_type": "recurring", "recurring_charge_period": "month", "price": fee}
    body: dict[str, object] = {"status": "PRODUCT_STATUS_ACTIVE", "product_price": [price], **more}
    return body | ({"product_offering": {"id": offering}} if offering else {})


def fields(refused: "pytest.ExceptionInfo[InvalidArgument]") -> list[str]:
    return [violation.field for violation in refused.value.violations]


# --- who pays --------------------------------------------------------------------------------------------------------


def test_an_order_whose_account_is_changed_to_an_unknown_one_waits_for_it(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    order = shop.order(customer, account, item("1", "ADD", tariff), requested_start_date=shop.at(DAY))
    shop.change(order.id, billing_account={"id": "X"})
    shop.later(2 * DAY)
    assert state_of(shop.get(order.id)) == "PENDING"
    assert shop.told("X") == []
    shop.change(order.id, billing_account={"id": account})
    shop.work()
    assert state_of(shop.get(order.id)) == "COMPLETED"
    assert shop.told(account) == [("RecurringChargeStart", "500")]


def test_an_order_whose_customer_is_changed_to_an_unknown_one_waits_for_it(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    order = shop.order(customer, account, item("1", "ADD", tariff), requested_start_date=shop.at(DAY))
    shop.change(order.id, related_party=[{"id": "nobody", "role": "customer"}])
    shop.later(2 * DAY)
    assert state_of(shop.get(order.id)) == "PENDING"


def test_an_orders_account_can_not_be_changed_to_one_in_another_currency(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    order = shop.order(customer, account, item("1", "ADD", tariff), requested_start_date=shop.at(DAY))
    with pytest.raises(InvalidArgument) as refused:
        shop.change(order.id, billing_account={"id": shop.account(customer, "USD")})
    assert refused.value.reason == "CURRENCY_MISMATCH"


def test_an_order_waits_when_its_account_is_of_another_branch(shop: Shop) -> None:
    customer, account = shop.customer()
    _, elsewhere = shop.customer(branch="osh")
    tariff = shop.offering(shop.price(500))
    order = shop.order(customer, account, item("1", "ADD", tariff), requested_start_date=shop.at(DAY))
    shop.change(order.id, billing_account={"id": elsewhere})
    shop.later(2 * DAY)
    assert state_of(shop.get(order.id)) == "PENDING"
    assert shop.told(elsewhere) == []


def test_what_is_ordered_for_later_is_looked_at_again_when_it_starts(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    order = shop.order(customer, account, item("1", "ADD", tariff), requested_start_date=shop.at(DAY))
    tell = shop.world.callers("customers", "bishkek")
    tell("svyaz.customers.v1.AccountService/DeleteBillingAccount", id=account)
    shop.later(2 * DAY)
    waiting = shop.get(order.id)
    assert state_of(waiting) == "PENDING"
    assert account in waiting.note[-1].text


def test_an_awaited_account_that_comes_in_another_currency_is_no_answer(shop: Shop) -> None:
    customer, _ = shop.customer()
    tariff = shop.offering(shop.price(500))
    order = shop.order(customer, "unknown", item("1", "ADD", tariff))
    shop.work()
    dollars = shop.account(customer, "USD")
    with pytest.raises(InvalidArgument):
        shop.change(order.id, billing_account={"id": dollars})
    assert state_of(shop.get(order.id)) == "PENDING"


def test_items_inside_an_item_are_billed_to_its_account(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff, option = shop.offering(shop.price(500)), shop.offering(shop.price(50))
    inner = item("2", "ADD", option)
    outer = item("1", "ADD", tariff, billing_account={"id": account}, product_order_item=[inner])
    shop.completed(customer, "", outer)
    assert shop.told(account) == [("RecurringChargeStart", "500"), ("RecurringChargeStart", "50")]


@pytest.mark.parametrize("action", ["MODIFY", "DELETE"])
def test_the_end_or_change_of_a_charged_product_waits_for_its_account(shop: Shop, action: str) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    product = shop.product(**a_product(tariff))
    order = shop.order(customer, None, item("1", action, tariff if action == "MODIFY" else None, product))
    shop.work()
    assert state_of(shop.get(order.id)) == "PENDING"
    shop.change(order.id, billing_account={"id": account})
    shop.work()
    assert state_of(shop.get(order.id)) == "COMPLETED"
    assert ("RecurringChargeStop", "300") in shop.told(account)


def test_a_product_is_not_ended_at_the_cost_of_an_invented_account(shop: Shop) -> None:
    customer, account = shop.customer()
    product = shop.product(**a_product(billing_account={"id": "invented"}))
    order = shop.order(customer, account, item("1", "DELETE", product=product))
    shop.work()
    waiting = shop.get(order.id)
    assert state_of(waiting) == "PENDING"
    assert "invented" in waiting.note[-1].text
    assert shop.told("invented") == []


def test_a_product_that_costs_nothing_ends_without_an_account(shop: Shop) -> None:
    customer, _ = shop.customer()
    product = shop.product(status="PRODUCT_STATUS_ACTIVE")
    order = shop.order(customer, None, item("1", "DELETE", product=product))
    shop.work()
    assert state_of(shop.get(order.id)) == "COMPLETED"


def test_a_charge_that_billing_could_not_take_fails_its_item_visibly(shop: Shop) -> None:
    customer, account = shop.customer()
    product = shop.product(**a_product(billing_account={"id": account}))
    order = shop.order(customer, account, item("1", "DELETE", product=product), requested_start_date=shop.at(DAY))
    shop.provisioning.delay = timedelta(hours=1)
    shop.later(2 * DAY)
    body = {"id": product, "billing_account": {"id": "not an account"}}
    shop.agent(PRODUCT + "UpdateProduct", product=body, update_mask={"paths": ["billing_account"]})
    shop.later(2 * timedelta(hours=1))
    # The network is told to withdraw what it has done, which takes as long.
    assert state_of(shop.get(order.id)) == "IN_PROGRESS"
    shop.later(DAY)
    failed = shop.get(order.id)
    assert state_of(failed) == "FAILED"
    assert "account" in failed.note[-1].text
    assert shop.agent(PRODUCT + "GetProduct", id=product).status == a_status("ACTIVE")


# --- whose it is -----------------------------------------------------------------------------------------------------


def test_another_customers_product_can_not_be_ended(shop: Shop) -> None:
    (a, account_a), (b, account_b) = shop.customer(), shop.customer()
    tariff = shop.offering(shop.price(500))
    of_b = shop.products(shop.completed(b, account_b, item("1", "ADD", tariff)).id)[tariff]
    with pytest.raises(InvalidArgument) as refused:
        shop.order(a, account_a, item("1", "DELETE", product=of_b.id))
    assert (refused.value.reason, fields(refused)) == ("OTHER_CUSTOMER", ["product_order_item[0].product.id"])


def test_another_customers_account_can_not_be_charged(shop: Shop) -> None:
    (a, account_a), (_, account_b) = shop.customer(), shop.customer()
    tariff = shop.offering(shop.price(500))
    with pytest.raises(InvalidArgument) as refused:
        shop.order(a, account_b, item("1", "ADD", tariff))
    assert (refused.value.reason, fields(refused)) == ("OTHER_CUSTOMER", ["billing_account.id"])
    with pytest.raises(InvalidArgument) as refused:
        shop.order(a, account_a, item("1", "ADD", tariff, billing_account={"id": account_b}))
    assert fields(refused) == ["product_order_item[0].billing_account.id"]
    order = shop.order(a, account_a, item("1", "ADD", tariff), requested_start_date=shop.at(DAY))
    with pytest.raises(InvalidArgument) as refused:
        shop.change(order.id, billing_account={"id": account_b})
    assert fields(refused) == ["billing_account.id"]


def test_an_account_without_an_owner_may_pay_for_anybody(shop: Shop) -> None:
    customer, _ = shop.customer()
    common = shop.account(None)
    shop.completed(customer, common, item("1", "ADD", shop.offering(shop.price(500))))
    assert shop.told(common) == [("RecurringChargeStart", "500")]


# --- products that are charged ---------------------------------------------------------------------------------------


def a_status(name: str) -> int:
    return inventory_pb2.ProductStatus.Value(f"PRODUCT_STATUS_{name}")


def test_a_product_whose_charges_run_is_ended_by_an_order_only(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    product = shop.products(shop.completed(customer, account, item("1", "ADD", tariff)).id)[tariff]

    def to(status: str) -> None:
        body = {"id": product.id, "status": f"PRODUCT_STATUS_{status}"}
        shop.agent(PRODUCT + "UpdateProduct", product=body, update_mask={"paths": ["status"]})

    for status, reason in (("PENDING_TERMINATE", "BY_ORDER"), ("TERMINATED", "CHARGED")):
        with pytest.raises(FailedPrecondition) as refused:
            to(status)
        assert refused.value.reason == reason
    shop.completed(customer, account, item("1", "DELETE", product=product.id))
    assert shop.told(account)[-1] == ("RecurringChargeStop", "500")


def test_a_product_that_costs_nothing_may_be_ended_by_hand(shop: Shop) -> None:
    product = shop.product(status="PRODUCT_STATUS_PENDING_TERMINATE")
    body = {"id": product, "status": "PRODUCT_STATUS_TERMINATED"}
    ended = shop.agent(PRODUCT + "UpdateProduct", product=body, update_mask={"paths": ["status"]})
    assert ended.status == a_status("TERMINATED")


def test_the_parts_of_a_bundle_end_with_it(shop: Shop) -> None:
    customer, account = shop.customer()
    line, option = shop.offering(shop.price(300)), shop.offering(shop.price(70))
    bundle = shop.offering(shop.price(100), bundles=[line, option])
    added = shop.completed(customer, account, item("1", "ADD", bundle))
    products = shop.products(added.id)
    assert set(products) == {bundle, line, option}
    shop.completed(customer, account, item("1", "DELETE", product=products[bundle].id))
    assert {product.status for product in shop.products(added.id).values()} == {a_status("TERMINATED")}
    assert sorted(shop.told(account)) == sorted(
        (f"RecurringCharge{what}", amount) for what in ("Start", "Stop") for amount in ("100", "300", "70")
    )


def test_a_bundle_that_is_changed_keeps_adds_and_ends_its_parts(shop: Shop) -> None:
    customer, account = shop.customer()
    line, option, extra = (shop.offering(shop.price(som)) for som in (300, 70, 20))
    small = shop.offering(shop.price(100), bundles=[line, option])
    large = shop.offering(shop.price(200), bundles=[line, extra])
    added = shop.completed(customer, account, item("1", "ADD", small))
    before = shop.products(added.id)
    changed = shop.completed(customer, account, item("1", "MODIFY", large, before[small].id))
    after = shop.products(added.id, changed.id)
    assert after[line].id == before[line].id
    assert {key: product.status for key, product in after.items()} == {
        large: a_status("ACTIVE"),
        line: a_status("ACTIVE"),
        extra: a_status("ACTIVE"),
        option: a_status("TERMINATED"),
    }
    told = shop.told(account)[3:]
    assert sorted(told) == [
        ("RecurringChargeChange", "200"),
        ("RecurringChargeChange", "300"),
        ("RecurringChargeStart", "20"),
        ("RecurringChargeStop", "100"),
        ("RecurringChargeStop", "70"),
    ]
    shop.completed(customer, account, item("1", "DELETE", product=after[large].id))
    ended = shop.products(added.id, changed.id)
    assert {product.status for product in ended.values()} == {a_status("TERMINATED")}


def test_a_price_that_falls_away_is_stopped(shop: Shop) -> None:
    customer, account = shop.customer()
    fee, option = shop.price(500), shop.price(70)
    both, one = shop.offering(fee, option), shop.offering(fee)
    product = shop.products(shop.completed(customer, account, item("1", "ADD", both)).id)[both]
    shop.completed(customer, account, item("1", "MODIFY", one, product.id))
    assert shop.told(account)[2:] == [("RecurringChargeStop", "70"), ("RecurringChargeChange", "500")]


def test_a_limited_discount_is_told_with_its_end(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500, discount=("20", 3)))
    added = shop.completed(customer, account, item("1", "ADD", tariff))
    (charge,) = shop.charges(account)
    assert charge["amount"] == {"unit": "KGS", "value": "400"}
    assert charge["listAmount"] == {"unit": "KGS", "value": "500"}
    (alteration,) = charge["alteration"]
    until = alteration.pop("until")
    assert alteration == {
        "name": "Welcome",
        "percentage": "-20",
        "amount": {"unit": "KGS", "value": "-100"},
        "applicationDuration": {"amount": 3, "units": "month"},
    }
    assert 89 * DAY <= _instant(until) - _instant(charge["occurredAt"]) <= 92 * DAY
    (price,) = shop.products(added.id)[tariff].product_price
    assert price.product_price_alteration[0].application_duration == 3


@pytest.mark.parametrize("migrated", [True, False])
def test_a_limited_discount_that_is_partly_used_isnt_granted_anew(shop: Shop, migrated: bool) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500, discount=("20", 3)))
    product = shop.products(shop.completed(customer, account, item("1", "ADD", tariff)).id)[tariff]
    began = product.start_date.ToDatetime(UTC)
    # Within its offering, or to another with the same discount.
    wanted = shop.offering(shop.price(600, discount=("20", 3))) if migrated else tariff
    shop.later(40 * DAY)
    shop.completed(customer, account, item("1", "MODIFY", wanted, product.id))
    (alteration,) = shop.charges(account)[-1]["alteration"]
    ends = ChargeAlteration(amount=Money(), duration=3, units="month").until(began)
    assert ends is not None
    assert (_instant(alteration["since"]), _instant(alteration["until"])) == (began, ends)
    (price,) = shop.agent(PRODUCT + "GetProduct", id=product.id).product_price
    assert price.product_price_alteration[0].valid_for.end_date_time.ToDatetime(UTC) == ends
    # And again, with what is left of it.
    shop.later(40 * DAY)
    shop.completed(customer, account, item("1", "MODIFY", wanted, product.id))
    assert shop.charges(account)[-1]["alteration"][0]["until"] == alteration["until"]


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_an_order_for_later_that_lacks_nothing_any_more_is_acknowledged_again(shop: Shop) -> None:
    customer, _ = shop.customer()
    tariff = shop.offering(shop.price(500))
    order = shop.order(customer, "unknown", item("1", "ADD", tariff), requested_start_date=shop.at(30 * DAY))
    shop.work()
    assert (state_of(shop.get(order.id)), shop.due(order.id, INFORMATION) is None) == ("PENDING", False)
    account = shop.account(customer)
    shop.change(order.id, billing_account={"id": account})
    shop.later(DAY)
    again = shop.get(order.id)
    assert (state_of(again), state_of(again.product_order_item[0])) == ("ACKNOWLEDGED", "ACKNOWLEDGED")
    assert shop.due(order.id, INFORMATION) is None
    shop.later(15 * DAY)
    assert state_of(shop.get(order.id)) == "ACKNOWLEDGED"
    shop.later(15 * DAY)
    assert state_of(shop.get(order.id)) == "COMPLETED"


def test_who_has_waited_for_long_is_asked_about_seldom(shop: Shop) -> None:
    customer, _ = shop.customer()
    order = shop.order(customer, "unknown", item("1", "ADD", shop.offering(shop.price(500))))
    shop.work()
    intervals = []
    for _ in range(8):
        left = shop.due(order.id, ADVANCE)
        assert left is not None
        intervals.append(left / timedelta(minutes=1))
        shop.later(left)
    assert intervals == pytest.approx([1, 1, 2, 4, 8, 16, 32, 60], rel=0.2)


def test_waiting_writes_nothing_but_its_timer(shop: Shop) -> None:
    customer, _ = shop.customer()
    order = shop.order(customer, "unknown", item("1", "ADD", shop.offering(shop.price(500))))
    shop.work()
    before = shop.get(order.id)

    def waits() -> list[object]:
        written = sa.select(sa.literal_column("xmin"), order_wait.c.awaited)
        with acting("orders", "test"), shop.database.unit() as unit:
            return list(unit.session.execute(written))

    rows = waits()
    shop.later(MOMENT)
    assert waits() == rows
    assert shop.get(order.id) == before


# --- changes under way -----------------------------------------------------------------------------------------------


def test_other_items_have_another_total(shop: Shop) -> None:
    customer, account = shop.customer()
    small, large = shop.offering(shop.price(500)), shop.offering(shop.price(900))
    order = shop.order(customer, account, item("1", "ADD", small), requested_start_date=shop.at(DAY))
    assert order.order_total_price[0].price.duty_free_amount.units == 500
    changed = shop.change(order.id, product_order_item=[item("1", "ADD", large)])
    assert [total.price.duty_free_amount.units for total in changed.order_total_price] == [900]


def test_an_order_may_be_wanted_earlier(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    order = shop.order(customer, account, item("1", "ADD", tariff), requested_start_date=shop.at(30 * DAY))
    shop.change(order.id, requested_start_date=shop.at(DAY))
    shop.later(2 * DAY)
    assert state_of(shop.get(order.id)) == "COMPLETED"


def test_an_order_may_be_wanted_later(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    order = shop.order(customer, account, item("1", "ADD", tariff), requested_start_date=shop.at(DAY))
    shop.change(order.id, requested_start_date=shop.at(30 * DAY))
    shop.later(2 * DAY)
    assert state_of(shop.get(order.id)) == "ACKNOWLEDGED"


def test_a_cancellation_happens_when_it_is_wanted(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    order = shop.order(customer, account, item("1", "ADD", tariff), requested_start_date=shop.at(30 * DAY))
    body = {"product_order": {"id": order.id}, "requested_cancellation_date": shop.at(5 * DAY)}
    task = shop.agent(ORDER + "CreateCancelProductOrder", cancel_product_order=body)
    assert shop.due(task.id, CANCEL) is not None
    shop.later(DAY)
    assert state_of(shop.get(order.id)) == "ACKNOWLEDGED"
    shop.later(5 * DAY)
    assert state_of(shop.get(order.id)) == "CANCELLED"


def test_a_large_order_is_carried_out_in_several_turns(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    order = shop.order(customer, account, *(item(str(n), "ADD", tariff) for n in range(120)))
    shop.work()
    assert state_of(shop.get(order.id)) == "COMPLETED"
    assert len({charge["occurredAt"] for charge in shop.charges(account)}) > 1
