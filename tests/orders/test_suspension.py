"""Products that don't work for a time: for which reasons, until when, with what parts, and what of them is charged."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.products import ProductPrice, ProductSuspension, SuspensionReason
from chassis.types import EntityRef, Money, Price, TimePeriod
from orders.inventory import suspension
from orders.inventory.suspension import SuspensionRule
from svyaz.orders.v1 import inventory_pb2
from tests.orders.conftest import LIFECYCLE, ORDER, PRODUCT, Shop, item, state_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DEBT, FRAUD = SuspensionReason.DEBT, SuspensionReason.FRAUD
VOLUNTARY = SuspensionReason.VOLUNTARY


# --- the rules -------------------------------------------------------------------------------------------------------


def a_wish(reason: SuspensionReason, start: datetime = NOW, end: datetime | None = None) -> ProductSuspension:
    return suspension.wish(reason, start, end, None)


def test_a_reason_holds_from_its_start_until_its_end() -> None:
    planned = (a_wish(VOLUNTARY, NOW + DAY, NOW + 3 * DAY),)
    held = [bool(suspension.in_force(planned, NOW + days * DAY)) for days in range(5)]
    assert held == [False, True, True, False, False]
    assert suspension.next_turn(planned, NOW) == NOW + DAY
    assert suspension.next_turn(planned, NOW + DAY) == NOW + 3 * DAY
    assert suspension.next_turn(planned, NOW + 3 * DAY) is None
    assert suspension.lasting(planned, NOW + 3 * DAY) == ()


def test_a_reason_that_is_there_already_takes_another_end_and_keeps_its_beginning() -> None:
    held = suspension.with_reason((a_wish(DEBT),), a_wish(DEBT, NOW + DAY, NOW + 9 * DAY), NOW + DAY)
    assert [one.valid_for for one in held] == [TimePeriod(start_date_time=NOW, end_date_time=NOW + 9 * DAY)]
    planned = suspension.with_reason((a_wish(DEBT, NOW + DAY),), a_wish(DEBT, NOW + 2 * DAY), NOW)
    assert [one.valid_for for one in planned] == [TimePeriod(start_date_time=NOW + 2 * DAY)]


def test_only_a_reason_that_is_the_products_own_can_be_taken_away() -> None:
    own, above = a_wish(DEBT), ProductSuspension(reason=FRAUD, inherited_from="bundle")
    assert suspension.without_reason((own, above), DEBT) == (above,)
    for reason in (FRAUD, VOLUNTARY):
        with pytest.raises(FailedPrecondition) as refused:
            suspension.without_reason((own, above), reason)
        assert refused.value.reason == "NOT_SUSPENDED"


def test_a_period_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(InvalidArgument) as refused:
        a_wish(VOLUNTARY, NOW, NOW)
    assert (refused.value.reason, refused.value.violations[0].field) == ("INVALID_PERIOD", "end")


def a_price(id: str) -> ProductPrice:
    cost = Price(duty_free_amount=Money(unit="KGS", value=Decimal(300)))
    return ProductPrice(price_type="recurring", price=cost, product_offering_price=EntityRef(id=id))


def a_rule(id: str, charged: bool, **more: Any) -> SuspensionRule:
    return SuspensionRule(id=id, branch="bishkek", charged=charged, **more)


def test_what_the_subscriber_wishes_rests_and_what_he_owes_does_not() -> None:
    prices = [a_price("fee")]
    resting = {one: suspension.uncharged(one, "tariff", prices, []) for one in SuspensionReason}
    assert {one for one, names in resting.items() if names} == suspension.UNCHARGED


def test_of_the_rules_that_fit_the_most_definite_counts() -> None:
    prices = [a_price("fee"), a_price("device")]
    rules = [
        a_rule("1", True),
        a_rule("2", False, product_offering_id="tariff"),
        a_rule("3", True, product_offering_id="tariff", reason=FRAUD),
        a_rule("4", True, product_offering_price_id="device"),
    ]
    assert suspension.uncharged(DEBT, "tariff", prices, rules) == ("fee",)
    assert suspension.uncharged(FRAUD, "tariff", prices, rules) == ()
    assert suspension.uncharged(VOLUNTARY, "another", prices, rules) == ()


# --- by verb ---------------------------------------------------------------------------------------------------------


def reason(name: str) -> str:
    return f"SUSPENSION_REASON_{name}"


def suspend(shop: Shop, product: str, why: str, **more: Any) -> Any:
    return shop.agent(LIFECYCLE + "SuspendProduct", id=product, reason=reason(why), **more)


def resume(shop: Shop, product: str, why: str, **more: Any) -> Any:
    return shop.agent(LIFECYCLE + "ResumeProduct", id=product, reason=reason(why), **more)


def status(shop: Shop, product: str) -> str:
    found = shop.agent(PRODUCT + "GetProduct", id=product)
    return inventory_pb2.ProductStatus.Name(found.status).removeprefix("PRODUCT_STATUS_")


def a_line(shop: Shop, *fees: int) -> tuple[str, str, str, str]:
    """Customer, account, offering and product of a tariff that has been ordered."""
    customer, account = shop.customer()
    tariff = shop.offering(*(shop.price(fee) for fee in fees or (500,)))
    order = shop.completed(customer, account, item("1", "ADD", tariff))
    return customer, account, tariff, shop.products(order.id)[tariff].id


def test_a_product_works_again_when_the_last_of_its_reasons_is_taken_away(shop: Shop) -> None:
    _, account, _, product = a_line(shop)
    first = suspend(shop, product, "DEBT")
    assert first.product_order_id
    shop.work()
    assert status(shop, product) == "SUSPENDED"
    # The network knows already.
    assert suspend(shop, product, "FRAUD").product_order_id == ""
    assert resume(shop, product, "DEBT").product_order_id == ""
    shop.work()
    assert status(shop, product) == "SUSPENDED"
    last = resume(shop, product, "FRAUD")
    shop.work()
    assert status(shop, product) == "ACTIVE"
    assert [state_of(shop.get(one.product_order_id)) for one in (first, last)] == ["COMPLETED"] * 2
    # Who is in debt, or defrauds, goes on owing.
    assert shop.told(account) == [("RecurringChargeStart", "500")]


def test_asked_again_it_changes_nothing(shop: Shop) -> None:
    _, account, _, product = a_line(shop)
    one = suspend(shop, product, "VOLUNTARY", request_id="once")
    assert suspend(shop, product, "VOLUNTARY", request_id="once") == one
    # By another who doesn't know: the order that is under way sees to it.
    assert suspend(shop, product, "VOLUNTARY").product_order_id == one.product_order_id
    shop.work()
    again = suspend(shop, product, "VOLUNTARY")
    assert again.product_order_id == ""
    assert shop.told(account) == [("RecurringChargeStart", "500"), ("RecurringChargeSuspend", "500")]
    resume(shop, product, "VOLUNTARY")
    with pytest.raises(FailedPrecondition) as refused:
        resume(shop, product, "VOLUNTARY")
    assert refused.value.reason == "NOT_SUSPENDED"
    shop.work()
    assert shop.told(account)[2:] == [("RecurringChargeResume", "500")]


def test_who_changes_his_mind_while_the_network_is_asked_has_it_asked_again_after_that(shop: Shop) -> None:
    _, account, _, product = a_line(shop)
    shop.provisioning.delay = timedelta(hours=1)
    asked = suspend(shop, product, "VOLUNTARY").product_order_id
    shop.work()
    # The order that is under way: after that it is looked at again.
    assert resume(shop, product, "VOLUNTARY").product_order_id == asked
    assert status(shop, product) == "ACTIVE"
    shop.later(2 * timedelta(hours=1))
    assert status(shop, product) == "SUSPENDED"
    found = shop.agent(PRODUCT + "GetProduct", id=product)
    assert found.status_order_id not in ("", asked)
    shop.later(2 * timedelta(hours=1))
    assert status(shop, product) == "ACTIVE"
    # When it was suspended nobody wanted that any more.
    assert shop.told(account) == [("RecurringChargeStart", "500")]


def test_a_network_that_refuses_is_asked_again_by_whoever_wants_it_again(shop: Shop) -> None:
    _, _, tariff, product = a_line(shop)
    tariff_of = shop.agent(PRODUCT + "GetProduct", id=product).product_offering.id
    assert tariff_of == tariff
    shop.provisioning.failing = frozenset({""})
    first = suspend(shop, product, "FRAUD").product_order_id
    shop.work()
    assert (state_of(shop.get(first)), status(shop, product)) == ("FAILED", "ACTIVE")
    shop.provisioning.failing = frozenset()
    second = suspend(shop, product, "FRAUD").product_order_id
    assert second not in ("", first)
    shop.work()
    assert status(shop, product) == "SUSPENDED"


def test_a_suspension_begins_and_ends_by_itself(shop: Shop) -> None:
    _, account, _, product = a_line(shop)
    begins = suspend(shop, product, "VOLUNTARY", start=shop.at(DAY), end=shop.at(10 * DAY))
    assert begins.product_order_id == ""
    shop.work()
    assert status(shop, product) == "ACTIVE"
    shop.later(2 * DAY)
    assert status(shop, product) == "SUSPENDED"
    assert shop.told(account)[-1] == ("RecurringChargeSuspend", "500")
    # A reason without an end goes on after it.
    suspend(shop, product, "DEBT")
    shop.later(9 * DAY)
    assert status(shop, product) == "SUSPENDED"
    # What the subscriber wished is over, and he owes again.
    assert shop.told(account)[-1] == ("RecurringChargeResume", "500")
    resume(shop, product, "DEBT")
    shop.work()
    assert status(shop, product) == "ACTIVE"
    assert len(shop.told(account)) == 3


def test_a_suspension_that_is_planned_can_be_put_off_or_called_off(shop: Shop) -> None:
    _, _, _, product = a_line(shop)
    suspend(shop, product, "VOLUNTARY", start=shop.at(DAY))
    suspend(shop, product, "VOLUNTARY", start=shop.at(5 * DAY))
    shop.later(2 * DAY)
    assert status(shop, product) == "ACTIVE"
    resume(shop, product, "VOLUNTARY")
    shop.later(9 * DAY)
    assert status(shop, product) == "ACTIVE"
    assert shop.due(product, "suspension") is None


def test_reasons_that_come_at_once_are_all_noted_and_the_network_is_asked_once(shop: Shop) -> None:
    _, _, _, product = a_line(shop)
    answers: list[Any] = []
    whys = ("DEBT", "FRAUD", "VOLUNTARY", "REGULATORY")
    threads = [threading.Thread(target=lambda why=why: answers.append(suspend(shop, product, why))) for why in whys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer.product_order_id for answer in answers}) == 1
    shop.work()
    found = shop.agent(PRODUCT + "GetProduct", id=product)
    assert {one.reason for one in found.suspension} == {1, 2, 3, 4}
    assert status(shop, product) == "SUSPENDED"


@pytest.mark.parametrize("call", ["Suspend", "Resume", "Terminate"])
def test_what_the_table_does_not_allow_is_refused_with_both_states(shop: Shop, call: str) -> None:
    product = shop.product(status="PRODUCT_STATUS_CREATED")
    more = {} if call == "Terminate" else {"reason": reason("DEBT")}
    with pytest.raises(FailedPrecondition) as refused:
        shop.agent(LIFECYCLE + f"{call}Product", id=product, **more)
    assert refused.value.reason == "BAD_TRANSITION"
    assert refused.value.metadata["from"] == "created"


# --- parts of bundles ------------------------------------------------------------------------------------------------


def a_bundle(shop: Shop) -> tuple[str, str, dict[str, str]]:
    """Customer, account, and the products: the bundle's, a line's and an option's."""
    customer, account = shop.customer()
    line, option = shop.offering(shop.price(300)), shop.offering(shop.price(70))
    bundle = shop.offering(shop.price(100), bundles=[line, option])
    made = shop.products(shop.completed(customer, account, item("1", "ADD", bundle)).id)
    return customer, account, {"bundle": made[bundle].id, "line": made[line].id, "option": made[option].id}


def statuses_of(shop: Shop, made: dict[str, str]) -> dict[str, str]:
    return {name: status(shop, product) for name, product in made.items()}


def test_parts_follow_their_bundle_and_do_not_forget_what_is_their_own(shop: Shop) -> None:
    _, account, made = a_bundle(shop)
    suspend(shop, made["option"], "FRAUD")
    shop.work()
    assert statuses_of(shop, made) == {"bundle": "ACTIVE", "line": "ACTIVE", "option": "SUSPENDED"}
    order = suspend(shop, made["bundle"], "VOLUNTARY").product_order_id
    shop.work()
    assert set(statuses_of(shop, made).values()) == {"SUSPENDED"}
    # The option was suspended already: the network needn't be told, but its charge rests with the bundle's.
    (top,) = shop.get(order).product_order_item
    assert [inner.product.id for inner in top.product_order_item] == [made["line"]]
    assert sorted(what for what in shop.told(account)[3:]) == sorted(
        ("RecurringChargeSuspend", amount) for amount in ("100", "300", "70")
    )
    with pytest.raises(FailedPrecondition) as refused:
        resume(shop, made["line"], "VOLUNTARY")
    assert made["bundle"] in refused.value.message
    resume(shop, made["bundle"], "VOLUNTARY")
    shop.work()
    assert statuses_of(shop, made) == {"bundle": "ACTIVE", "line": "ACTIVE", "option": "SUSPENDED"}
    # Who defrauds goes on owing.
    resumed = [("RecurringChargeResume", amount) for amount in ("100", "300", "70")]
    assert sorted(shop.told(account)[6:]) == sorted(resumed)
    resume(shop, made["option"], "FRAUD")
    shop.work()
    assert set(statuses_of(shop, made).values()) == {"ACTIVE"}


def test_a_suspended_bundle_ends_with_its_parts(shop: Shop) -> None:
    _, account, made = a_bundle(shop)
    suspend(shop, made["bundle"], "VOLUNTARY")
    shop.work()
    ended = shop.agent(LIFECYCLE + "TerminateProduct", id=made["bundle"], reason="moves away")
    assert shop.agent(LIFECYCLE + "TerminateProduct", id=made["bundle"]).product_order_id == ended.product_order_id
    shop.work()
    assert state_of(shop.get(ended.product_order_id)) == "COMPLETED"
    assert set(statuses_of(shop, made).values()) == {"TERMINATED"}
    assert sorted(shop.told(account)[6:]) == sorted(("RecurringChargeStop", amount) for amount in ("100", "300", "70"))
    assert not shop.agent(PRODUCT + "GetProduct", id=made["line"]).suspension
    assert shop.agent(LIFECYCLE + "TerminateProduct", id=made["bundle"]).product_order_id == ended.product_order_id


def test_an_end_may_be_ordered_for_later(shop: Shop) -> None:
    _, account, _, product = a_line(shop)
    shop.agent(LIFECYCLE + "TerminateProduct", id=product, at=shop.at(5 * DAY))
    shop.later(4 * DAY)
    assert status(shop, product) == "ACTIVE"
    shop.later(2 * DAY)
    assert status(shop, product) == "TERMINATED"
    assert shop.told(account)[-1] == ("RecurringChargeStop", "500")


# --- by order --------------------------------------------------------------------------------------------------------


def to_status(product: str, wanted: str, *reasons: dict[str, Any]) -> dict[str, Any]:
    body = {"id": product, "status": f"PRODUCT_STATUS_{wanted}", "suspension": list(reasons)}
    return {"id": "1", "action": "ORDER_ITEM_ACTION_MODIFY", "product": body}


def test_an_order_item_suspends_a_product_and_its_parts_and_another_resumes_them(shop: Shop) -> None:
    customer, account, made = a_bundle(shop)
    shop.completed(customer, account, to_status(made["bundle"], "SUSPENDED"))
    assert set(statuses_of(shop, made).values()) == {"SUSPENDED"}
    assert len(shop.told(account)) == 6
    shop.completed(customer, account, to_status(made["bundle"], "ACTIVE"))
    assert set(statuses_of(shop, made).values()) == {"ACTIVE"}
    assert len(shop.told(account)) == 9


def test_an_order_does_not_resume_what_is_suspended_for_another_reason(shop: Shop) -> None:
    customer, account, _, product = a_line(shop)
    suspend(shop, product, "DEBT")
    shop.work()
    with pytest.raises(FailedPrecondition) as refused:
        shop.order(customer, account, to_status(product, "ACTIVE"))
    assert refused.value.reason == "STILL_SUSPENDED"
    assert [one.field for one in refused.value.violations] == ["product_order_item[0].product.status"]
    shop.completed(customer, account, to_status(product, "ACTIVE", {"reason": reason("DEBT")}))
    assert status(shop, product) == "ACTIVE"
    with pytest.raises(InvalidArgument) as mixed:
        shop.order(customer, account, {**to_status(product, "SUSPENDED"), "product_offering": {"id": "another"}})
    assert mixed.value.reason == "STATUS_ALONE"


def test_what_a_suspended_product_is_changed_to_rests_until_it_resumes(shop: Shop) -> None:
    customer, account, _, product = a_line(shop)
    suspend(shop, product, "VOLUNTARY")
    shop.work()
    better = shop.offering(shop.price(600))
    shop.completed(customer, account, item("1", "MODIFY", better, product))
    resume(shop, product, "VOLUNTARY")
    shop.work()
    assert shop.told(account) == [
        ("RecurringChargeStart", "500"),
        ("RecurringChargeSuspend", "500"),
        ("RecurringChargeStop", "500"),
        ("RecurringChargeChange", "600"),
        ("RecurringChargeSuspend", "600"),
        ("RecurringChargeResume", "600"),
    ]


def test_what_is_charged_meanwhile_is_declared_by_rules_of_the_branch(shop: Shop) -> None:
    _, account, tariff, product = a_line(shop, 500, 40)
    fee = shop.agent(PRODUCT + "GetProduct", id=product).product_price[1].product_offering_price.id
    rules = shop.manager
    with pytest.raises(InvalidArgument):
        rules(LIFECYCLE + "CreateSuspensionRule", suspension_rule={"product_offering_id": tariff})
    made = rules(
        LIFECYCLE + "CreateSuspensionRule",
        suspension_rule={"product_offering_price_id": fee, "charged": True, "reason": reason("VOLUNTARY")},
    )
    suspend(shop, product, "VOLUNTARY")
    shop.work()
    stopped = shop.told(account)[2:]
    assert len(stopped) == 1
    # A rule that goes later changes nothing of what rests already.
    rules(LIFECYCLE + "DeleteSuspensionRule", id=made.id)
    resume(shop, product, "VOLUNTARY")
    shop.work()
    assert [amount for _, amount in shop.told(account)[2:]] == [stopped[0][1]] * 2


def test_a_product_that_no_order_made_is_suspended_by_hand_too(shop: Shop) -> None:
    product = shop.product(status="PRODUCT_STATUS_ACTIVE")

    def to(wanted: str) -> None:
        body = {"id": product, "status": f"PRODUCT_STATUS_{wanted}"}
        shop.agent(PRODUCT + "UpdateProduct", product=body, update_mask={"paths": ["status"]})

    to("SUSPENDED")
    suspend(shop, product, "DEBT")
    with pytest.raises(FailedPrecondition) as refused:
        to("ACTIVE")
    assert refused.value.reason == "STILL_SUSPENDED"
    resume(shop, product, "VOLUNTARY")
    resume(shop, product, "DEBT")
    shop.work()
    assert status(shop, product) == "ACTIVE"


def test_a_part_that_comes_to_a_suspended_bundle_waits_for_it(shop: Shop) -> None:
    customer, account = shop.customer()
    line, option = shop.offering(shop.price(300)), shop.offering(shop.price(70))
    small = shop.offering(shop.price(100), bundles=[line])
    large = shop.offering(shop.price(110), bundles=[line, option])
    bundle = shop.products(shop.completed(customer, account, item("1", "ADD", small)).id)[small].id
    suspend(shop, bundle, "VOLUNTARY")
    shop.work()
    order = shop.completed(customer, account, item("1", "MODIFY", large, bundle))
    new = shop.products(order.id)[option].id
    assert status(shop, new) == "SUSPENDED"
    resume(shop, bundle, "VOLUNTARY")
    shop.work()
    assert (status(shop, bundle), status(shop, new)) == ("ACTIVE", "ACTIVE")
    listed = shop.agent(ORDER + "ListProductOrders", filter=[{"path": "category", "value": ["lifecycle"]}]).items
    assert {state_of(one) for one in listed} == {"COMPLETED"}


def test_products_are_listed_in_the_order_of_the_orders_that_suspend_or_end_them(shop: Shop) -> None:
    customer, account = shop.customer()
    offering = shop.offering(shop.price(500))
    first, second, third = (
        shop.products(shop.completed(customer, account, item("1", "ADD", offering)).id)[offering].id for _ in range(3)
    )
    for product in (second, first):
        suspend(shop, product, "DEBT")
    shop.agent(LIFECYCLE + "TerminateProduct", id=third)
    whose = [{"path": "related_party.id", "value": [customer]}]

    def listed(sort: str) -> list[str]:
        return [one.id for one in shop.agent(PRODUCT + "ListProducts", filter=whose, sort=[sort]).items]

    # Who has none comes last, whichever way.
    assert listed("status_order_id") == [second, first, third]
    assert listed("-status_order_id") == [first, second, third]
    assert listed("termination_order_id")[0] == third
