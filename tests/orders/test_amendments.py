"""Orders that are changed while they are carried out: the new version is given, what no longer holds is undone."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from chassis.convert import from_timestamp, to_timestamp
from chassis.errors import Aborted, FailedPrecondition
from svyaz.orders.v1 import amendment_pb2, orders_pb2
from tests.orders.conftest import ORDER, PRODUCT, Shop, item, state_of
from tests.orders.test_fulfilment import a_status
from tests.orders.test_tracking import events, kinds

AMENDMENT = "svyaz.orders.v1.AmendmentService/"
FULFILMENT = "svyaz.orders.v1.FulfilmentService/"
HOUR = timedelta(hours=1)
COST = 40


@pytest.fixture(autouse=True)
def _plan(shop: Shop) -> Iterator[None]:
    """A number is reserved, a cable tried, a router shipped where it is wanted, then all is activated, an hour each."""
    release = {"operation": "release"}
    tasks: list[dict[str, Any]] = [
        {
            "name": "number",
            "system": "resource",
            "operation": "reserveNumber",
            "input": ["phoneNumber"],
            "compensation": release,
            "undo_cost": {"unit": "KGS", "units": COST},
        },
        {
            "name": "survey",
            "system": "provisioning",
            "operation": "survey",
            "depends_on": ["number"],
            "no_undo_needed": True,
        },
        {
            "name": "router",
            "system": "delivery",
            "operation": "ship",
            "depends_on": ["survey"],
            "input": ["place"],
            "point_of_no_return": True,
        },
        {
            "name": "active",
            "system": "provisioning",
            "operation": "activate",
            "depends_on": ["number", "router"],
            "compensation": release,
            "expected_seconds": 7200,
        },
    ]
    made = shop.head_office(
        FULFILMENT + "CreateFulfilmentSpecification",
        branch="bishkek",
        fulfilment_specification={"action": "add", "task": tasks},
    )
    shop.provisioning.delay = HOUR
    yield
    shop.head_office(FULFILMENT + "DeleteFulfilmentSpecification", id=made.id)


def wanted(
    number: str, offering: str, phone: str = "+996555000001", place: str = "home", **more: Any
) -> dict[str, Any]:
    product = {
        "product_characteristic": [{"name": "phoneNumber", "value": f'"{phone}"'.encode()}],
        "place": [{"id": place, "role": "installationAddress"}],
    }
    return {**item(number, "ADD", offering), "product": product}


def begun(shop: Shop, *items: dict[str, Any], **more: Any) -> tuple[str, str]:
    """An order whose numbers are reserved, and the account that pays."""
    customer, account = shop.customer()
    order = shop.order(customer, account, *items, **more)
    shop.work()
    shop.later(HOUR + timedelta(minutes=1))
    return order.id, account


def amended(shop: Shop, order_id: str, *items: dict[str, Any], cost: int = 0, **more: Any) -> orders_pb2.ProductOrder:
    made = shop.agent(AMENDMENT + "AmendProductOrder", **_version(order_id, *items, cost=cost, **more))
    assert isinstance(made, orders_pb2.ProductOrder)
    return made


def preview(shop: Shop, order_id: str, *items: dict[str, Any]) -> amendment_pb2.AmendmentPreview:
    told = shop.agent(AMENDMENT + "PreviewAmendment", **_version(order_id, *items))
    assert isinstance(told, amendment_pb2.AmendmentPreview)
    return told


def _version(order_id: str, *items: dict[str, Any], cost: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "product_order": {"id": order_id, "product_order_item": items},
        "update_mask": {"paths": ["product_order_item"]},
        "accepted_cost": [{"unit": "KGS", "units": cost}] if cost else [],
        **more,
    }


def undo_map(shop: Shop, order_id: str) -> amendment_pb2.UndoMap:
    told = shop.agent(AMENDMENT + "GetUndoMap", product_order_id=order_id)
    assert isinstance(told, amendment_pb2.UndoMap)
    return told


def tasks(shop: Shop, order_id: str) -> list[tuple[str, str]]:
    """The tasks of an order by name, with what has become of them."""
    condition = {"path": "product_order_id", "operator": "OPERATOR_EQ", "value": [order_id]}
    found = shop.agent(FULFILMENT + "ListFulfilmentTasks", filter=[condition], sort=["position"]).items
    return [(task.name, state_of(task)) for task in found]


def finished(shop: Shop, order_id: str) -> orders_pb2.ProductOrder:
    for _ in range(6):
        shop.later(HOUR + timedelta(minutes=1))
    return shop.get(order_id)


# --- amendments ------------------------------------------------------------------------------------------------------


def test_a_change_undoes_what_it_concerns_at_the_cost_that_was_told(shop: Shop) -> None:
    tariff = shop.offering(shop.price(500))
    order, account = begun(shop, wanted("1", tariff))
    other = wanted("1", tariff, phone="+996555000002")
    told = preview(shop, order, other)
    (change,) = told.item
    assert amendment_pb2.ItemChange.Name(change.change) == "ITEM_CHANGE_CHANGED"
    assert list(change.undone) == ["number", "survey", "router", "active"]
    assert list(change.done_again) == ["number", "survey", "router", "active"]
    assert [(one.unit, one.units) for one in told.undo_cost] == [("KGS", COST)]
    assert tasks(shop, order)[0] == ("number", "COMPLETED"), "a preview changes nothing"
    with pytest.raises(FailedPrecondition) as refused:
        amended(shop, order, other)
    assert refused.value.reason == "COST_NOT_ACCEPTED"
    amended(shop, order, other, cost=COST)
    assert shop.told(account) == [("ChargeCreate", str(COST))]
    assert shop.charges(account)[0]["reason"] == "undo"
    done = finished(shop, order)
    assert state_of(done) == "COMPLETED", done.note
    (product,) = shop.products(order).values()
    stated = {one.name: one.value for one in product.product_characteristic}
    assert stated["phoneNumber"] == b'"+996555000002"'
    assert [name for name, state in tasks(shop, order) if state == "COMPLETED"] == [
        "number",
        "undo number",
        "number",
        "survey",
        "router",
        "active",
    ]
    assert shop.told(account)[1:] == [("RecurringChargeStart", "500")]
    seen = kinds(events(shop, order))
    # What is done again takes longer, and is promised for later, at the very moment of the amendment.
    assert seen.count("PROMISE_MOVED") == 1
    steps = [kind for kind in seen if kind != "PROMISE_MOVED"]
    assert steps == ["PLACED", "STARTED", "AMENDED", "ITEM_COMPLETED", "COMPLETED"]
    condition = {"path": "product_order_id", "operator": "OPERATOR_EQ", "value": [order]}
    (kept,) = shop.agent(AMENDMENT + "ListProductOrderAmendments", filter=[condition]).items
    assert (list(kept.changed), kept.done_again, kept.undo_cost[0].units) == (["1"], 4, COST)


def test_what_no_task_uses_changes_for_nothing(shop: Shop) -> None:
    tariff, better = shop.offering(shop.price(500)), shop.offering(shop.price(700))
    order, account = begun(shop, wanted("1", tariff))
    told = preview(shop, order, wanted("1", better))
    assert (list(told.item[0].undone), list(told.undo_cost)) == ([], [])
    assert [price.price.duty_free_amount.units for price in told.price_before] == [500]
    assert [price.price.duty_free_amount.units for price in told.price_after] == [700]
    # The plain update of TMF622 does, where nothing is to be accepted.
    changed = shop.change(order, product_order_item=[wanted("1", better)])
    assert [price.price.duty_free_amount.units for price in changed.order_total_price] == [700]
    assert state_of(finished(shop, order)) == "COMPLETED"
    assert shop.told(account) == [("RecurringChargeStart", "700")]


def test_items_are_added_and_withdrawn_while_the_others_go_on(shop: Shop) -> None:
    tariff, option = shop.offering(shop.price(500)), shop.offering(shop.price(50))
    order, account = begun(shop, wanted("1", tariff), wanted("2", option, phone="+996555000003"))
    made = amended(shop, order, wanted("1", tariff), wanted("3", option, phone="+996555000004"), cost=COST)
    states = {one.id: state_of(one) for one in made.product_order_item}
    assert states == {"1": "IN_PROGRESS", "2": "PENDING_CANCELLATION", "3": "IN_PROGRESS"}
    assert [price.price.duty_free_amount.units for price in made.order_total_price] == [550]
    done = finished(shop, order)
    assert {one.id: state_of(one) for one in done.product_order_item} == {
        "1": "COMPLETED",
        "2": "CANCELLED",
        "3": "COMPLETED",
    }
    assert state_of(done) == "COMPLETED"
    assert sorted(shop.told(account)) == [
        ("ChargeCreate", str(COST)),
        ("RecurringChargeStart", "50"),
        ("RecurringChargeStart", "500"),
    ]


def test_beyond_the_point_of_no_return_nothing_changes(shop: Shop) -> None:
    tariff = shop.offering(shop.price(500))
    order, account = begun(shop, wanted("1", tariff))
    shop.later(HOUR + timedelta(minutes=1))
    assert not undo_map(shop, order).can_be_cancelled
    for version in (wanted("1", tariff, place="elsewhere"), wanted("2", tariff)):
        with pytest.raises(FailedPrecondition) as refused:
            amended(shop, order, version, cost=COST)
        assert refused.value.reason == "POINT_OF_NO_RETURN"
        assert "'router'" in refused.value.message
        assert [wrong.field for wrong in refused.value.violations] == ["product_order_item[1]"] * len(
            refused.value.violations
        )
    assert shop.told(account) == []
    assert state_of(finished(shop, order)) == "COMPLETED"


def test_who_sends_back_what_he_was_told_changes_nothing(shop: Shop) -> None:
    line = shop.offering(shop.price(300))
    bundle = shop.offering(shop.price(100), bundles=[line])
    order, account = begun(shop, wanted("1", bundle))
    told = shop.get(order)
    back = shop.agent(
        AMENDMENT + "AmendProductOrder",
        product_order=told,
        update_mask={"paths": ["product_order_item"]},
    )
    assert back.product_order_item == told.product_order_item
    assert not [name for name, _ in tasks(shop, order) if name.startswith("undo")]
    assert state_of(finished(shop, order)) == "COMPLETED"
    assert sorted(shop.told(account)) == [("RecurringChargeStart", "100"), ("RecurringChargeStart", "300")]


def test_two_versions_at_a_time_are_two_and_neither_is_lost_with_an_etag(shop: Shop) -> None:
    tariff = shop.offering(shop.price(500))
    order, account = begun(shop, wanted("1", tariff))
    etag = shop.get(order).etag
    request = _version(order, wanted("1", tariff, phone="+996555000005"), cost=COST, etag=etag, request_id=f"a {order}")
    first = shop.agent(AMENDMENT + "AmendProductOrder", **request)
    assert shop.agent(AMENDMENT + "AmendProductOrder", **request) == first
    with pytest.raises(Aborted):
        amended(shop, order, wanted("1", tariff, phone="+996555000006"), cost=COST, etag=etag)
    assert shop.told(account) == [("ChargeCreate", str(COST))]


def test_an_order_that_ends_while_it_is_amended_has_ended(shop: Shop) -> None:
    tariff = shop.offering(shop.price(500))
    order, _ = begun(shop, wanted("1", tariff))
    finished(shop, order)
    with pytest.raises(FailedPrecondition) as refused:
        amended(shop, order, wanted("1", tariff, phone="+996555000007"), cost=COST)
    assert refused.value.reason == "ORDER_CLOSED"
    cancelled, _ = begun(shop, wanted("1", tariff))
    wish = {"product_order": {"id": cancelled}, "accepted_cost": [{"unit": "KGS", "units": COST}]}
    shop.agent(ORDER + "CreateCancelProductOrder", cancel_product_order=wish)
    shop.work()
    with pytest.raises(FailedPrecondition) as refused:
        amended(shop, cancelled, wanted("1", tariff, phone="+996555000008"), cost=COST)
    assert refused.value.reason == "ORDER_STARTED"


def test_what_takes_longer_is_promised_for_later(shop: Shop) -> None:
    tariff = shop.offering(shop.price(500))
    soon = shop.database.clock.now().replace(microsecond=0) + 2 * HOUR
    order, _ = begun(shop, wanted("1", tariff), requested_completion_date=to_timestamp(soon))
    made = amended(shop, order, wanted("1", tariff, phone="+996555000009"), cost=COST)
    assert from_timestamp(made.expected_completion_date) > soon
    assert "PROMISE_MOVED" in kinds(events(shop, order))


def test_what_is_put_off_is_amended_and_cancelled_for_nothing(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff, better = shop.offering(shop.price(500)), shop.offering(shop.price(700))
    order = shop.order(customer, account, wanted("1", tariff), requested_start_date=shop.at(48 * HOUR)).id
    shop.work()
    assert undo_map(shop, order).can_be_cancelled
    made = amended(shop, order, wanted("1", better))
    # What is changed is priced anew, as of now; what isn't stays as it was agreed when it was taken.
    assert [price.price.duty_free_amount.units for price in made.order_total_price] == [700]
    shop.agent(ORDER + "CreateCancelProductOrder", cancel_product_order={"product_order": {"id": order}})
    shop.work()
    assert state_of(shop.get(order)) == "CANCELLED"
    assert shop.told(account) == []


# --- the undo map, and cancellations ---------------------------------------------------------------------------------


def test_the_map_says_of_each_task_what_withdrawing_it_means(shop: Shop) -> None:
    tariff = shop.offering(shop.price(500))
    order, _ = begun(shop, wanted("1", tariff))
    names = amendment_pb2.Undoable.Name

    def told() -> tuple[amendment_pb2.UndoMap, list[tuple[str, str]]]:
        now = undo_map(shop, order)
        return now, [(task.name, names(task.undoable).removeprefix("UNDOABLE_")) for task in now.item[0].task]

    now, of_tasks = told()
    assert of_tasks == [
        ("number", "CAN_BE_UNDONE"),
        ("survey", "NOTHING_TO_UNDO"),
        ("router", "NOT_BEGUN"),
        ("active", "NOT_BEGUN"),
    ]
    assert (now.can_be_cancelled, now.cost[0].units, now.item[0].cost[0].units) == (True, COST, COST)
    shop.later(HOUR + timedelta(minutes=1))
    now, of_tasks = told()
    assert of_tasks[2] == ("router", "POINT_OF_NO_RETURN")
    assert (now.can_be_cancelled, now.item[0].can_be_withdrawn, list(now.cost)) == (False, False, [])
    assert "'router'" in now.reason


def test_a_cancellation_costs_what_was_told_and_accepted(shop: Shop) -> None:
    tariff = shop.offering(shop.price(500))
    customer, account = shop.customer()
    order = shop.order(customer, account, wanted("1", tariff)).id
    shop.work()
    assert [one.units for one in undo_map(shop, order).cost] == [COST]

    def cancel(*accepted: int) -> orders_pb2.CancelProductOrder:
        wish = {"product_order": {"id": order}, "accepted_cost": [{"unit": "KGS", "units": som} for som in accepted]}
        made = shop.agent(ORDER + "CreateCancelProductOrder", cancel_product_order=wish)
        shop.work()
        found = shop.agent(ORDER + "GetCancelProductOrder", id=made.id)
        assert isinstance(found, orders_pb2.CancelProductOrder)
        return found

    refused = cancel()
    assert state_of(refused) == "TERMINATED_WITH_ERROR"
    # It says what it would have taken.
    assert [one.units for one in refused.undo_cost] == [COST]
    assert [(one.order_item_id, one.name, one.undoable) for one in refused.assessment] == [
        ("1", "number", "canBeUndone")
    ]
    assert state_of(shop.get(order)) == "IN_PROGRESS"
    assert shop.told(account) == []
    accepted = cancel(COST)
    assert state_of(accepted) == "IN_PROGRESS"
    assert state_of(shop.get(order)) == "PENDING_CANCELLATION"
    assert state_of(finished(shop, order)) == "CANCELLED"
    assert shop.told(account) == [("ChargeCreate", str(COST))]
    product = shop.agent(PRODUCT + "ListProducts", limit=1000).items
    assert a_status("ACTIVE") not in {one.status for one in product if one.billing_account.id == account}


def test_what_has_not_begun_is_previewed_as_it_is_taken_anew(shop: Shop) -> None:
    offering, dearer = shop.offering(shop.price(100)), shop.offering(shop.price(300))
    customer, account = shop.customer()
    items = [wanted("1", offering), wanted("2", offering), wanted("3", offering)]
    order = shop.order(customer, account, *items, requested_start_date=shop.at(24 * HOUR))
    version = [wanted("1", offering), wanted("2", offering, phone="+996555000009"), wanted("4", dearer)]
    told = preview(shop, order.id, *version)
    change = amendment_pb2.ItemChange.Name
    assert [(one.order_item_id, change(one.change).removeprefix("ITEM_CHANGE_")) for one in told.item] == [
        ("1", "KEPT"),
        ("4", "ADDED"),
        ("2", "CHANGED"),
        ("3", "WITHDRAWN"),
    ]
    assert not any(one.undone or one.done_again or one.undo_cost for one in told.item)
    assert not told.undo_cost
    assert [one.price.tax_included_amount.units for one in (*told.price_before, *told.price_after)] == [300, 500]
    assert shop.get(order.id) == order
    assert list(amended(shop, order.id, *version).order_total_price) == list(told.price_after)
    # What it would have to wait for is told, and refuses nothing.
    assert preview(shop, shop.order(None, None, items[0]).id, items[0]).missing == ["customer", "billingAccount"]


def test_a_version_is_priced_for_the_customer_that_the_order_has_in_the_end(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    offering = shop.offering(shop.price(100))
    (first, account), (second, other) = shop.customer(), shop.customer()
    order = shop.order(first, account, item("1", "ADD", offering), requested_start_date=shop.at(24 * HOUR))
    capture = shop.fulfilment._capture
    ask, asked = capture.capture, []

    def meanwhile(priced: Any, *rest: Any, **more: Any) -> Any:
        asked.append(priced.customer_id)
        if len(asked) == 1:
            party = {"id": second, "role": "customer", "at_referred_type": "Customer"}
            shop.change(order.id, related_party=[party], billing_account={"id": other})
        return ask(priced, *rest, **more)

    monkeypatch.setattr(capture, "capture", meanwhile)
    made = shop.change(order.id, product_order_item=[item("1", "ADD", offering, quantity=2)])
    assert ([party.id for party in made.related_party], made.billing_account.id) == ([second], other)
    assert asked == [first, second, second]
