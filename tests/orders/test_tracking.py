"""What a customer sees of his order: its milestones, and promised dates that move with a reason only."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chassis.convert import from_timestamp, to_timestamp
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.types import EPOCH
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.values import FulfilmentTaskState, Milestone, TaskSpecification
from orders.ordering.promising import promised
from orders.tracking.milestones import Logged, OrderEventKind, milestones
from orders.tracking.wording import _EVENTS, _REASONS, _STATES, said
from svyaz.orders.v1 import tracking_pb2
from tests.orders.conftest import ORDER, Shop, item
from tests.orders.test_fulfilment import DAY, fields

HOUR = timedelta(hours=1)
TRACKING = "svyaz.orders.v1.OrderTrackingService/"


def events(shop: Shop, order_id: str, **more: Any) -> tracking_pb2.ListOrderEventsResponse:
    told = shop.agent(TRACKING + "ListOrderEvents", product_order_id=order_id, **more)
    assert isinstance(told, tracking_pb2.ListOrderEventsResponse)
    return told


def kinds(told: tracking_pb2.ListOrderEventsResponse) -> list[str]:
    names = tracking_pb2.OrderEventKind.Name
    return [names(event.kind).removeprefix("ORDER_EVENT_KIND_") for event in told.event]


def move(shop: Shop, order_id: str, date: Any, reason: str = "WEATHER", **more: Any) -> Any:
    return shop.agent(
        TRACKING + "MovePromisedDate",
        product_order_id=order_id,
        date=to_timestamp(date),
        reason=f"PROMISE_REASON_{reason}",
        **more,
    )


def ordered(shop: Shop, **more: Any) -> str:
    customer, account = shop.customer()
    wanted = item("1", "ADD", shop.offering(shop.price(500)))
    return shop.order(customer, account, wanted, requested_start_date=shop.at(DAY), **more).id


def test_the_milestones_of_an_order_are_told_in_their_sequence(shop: Shop) -> None:
    customer, account = shop.customer()
    order = shop.order(customer, None, item("1", "ADD", shop.offering(shop.price(500))))
    shop.work()
    shop.change(order.id, billing_account={"id": account})
    shop.work()
    told = events(shop, order.id)
    assert kinds(told) == [
        "PLACED",
        "INFORMATION_REQUIRED",
        "INFORMATION_COMPLETE",
        "STARTED",
        "ITEM_COMPLETED",
        "COMPLETED",
    ]
    assert told.state_words == "Complete"
    assert [event.words for event in told.event][-2:] == [f"{told.event[4].name} is ready", "Your order is complete"]
    russian = events(shop, order.id, language="ru-KG")
    assert russian.state_words == "Выполнен"
    assert russian.event[1].words == "Нам нужны от вас ещё сведения"
    # What is awaited, and from whom, is for those who work on it.
    assert account not in str(told)
    assert "billingAccount" not in str(told)


def test_the_pages_of_a_long_story_are_the_story(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    order = shop.completed(customer, account, *(item(str(n), "ADD", tariff) for n in range(5)))
    whole = events(shop, order.id)
    assert kinds(whole) == ["PLACED", "STARTED", *["ITEM_COMPLETED"] * 5, "COMPLETED"]
    pages: list[tracking_pb2.OrderEvent] = []
    after = ""
    while after or not pages:
        page = events(shop, order.id, limit=2, after=after)
        pages += page.event
        after = page.next
    assert pages == list(whole.event)
    for wrong in ("yesterday", "2026-01-01T00:00:00 1 x y", "2026-01-01T00:00:00+00:00 1 x lost"):
        with pytest.raises(InvalidArgument):
            events(shop, order.id, after=wrong)


def test_a_cancellation_is_told(shop: Shop) -> None:
    order = ordered(shop)
    shop.agent(ORDER + "CreateCancelProductOrder", cancel_product_order={"product_order": {"id": order}})
    shop.work()
    assert kinds(events(shop, order)) == ["PLACED", "CANCELLATION_REQUESTED", "ITEM_CANCELLED", "CANCELLED"]


def test_a_promised_date_moves_with_a_reason_which_is_kept(shop: Shop) -> None:
    wanted = shop.database.clock.now().replace(microsecond=0) + 3 * DAY
    order = ordered(shop, requested_completion_date=to_timestamp(wanted))
    assert from_timestamp(shop.get(order).expected_completion_date) == wanted
    with pytest.raises(FailedPrecondition) as refused:
        shop.change(order, expected_completion_date=to_timestamp(wanted + DAY))
    assert refused.value.reason == "PROMISED"
    # TMF622 itself has nowhere to say why but in a note.
    shop.change(order, expected_completion_date=to_timestamp(wanted + HOUR), note=[{"text": "A day off"}])
    shop.change(order, note=[])
    wanted += HOUR
    with pytest.raises(InvalidArgument) as unreasoned:
        move(shop, order, wanted + DAY, "UNSPECIFIED")
    assert fields(unreasoned) == ["reason"]
    with pytest.raises(InvalidArgument):
        move(shop, order, wanted + DAY, "OTHER")
    moved = move(shop, order, wanted + DAY, "EQUIPMENT_SHORTAGE", explanation="The router is at the customs")
    assert from_timestamp(moved.expected_completion_date) == wanted + DAY
    told = events(shop, order)
    assert kinds(told) == ["PLACED", "PROMISE_MOVED", "PROMISE_MOVED"]
    assert told.event[1].words == "The promised date has changed: A day off"
    moved_again = told.event[2]
    assert moved_again.words == (
        "The promised date has changed: equipment has to be delivered first. The router is at the customs"
    )
    assert (from_timestamp(moved_again.previous_promised_date), from_timestamp(moved_again.promised_date)) == (
        wanted,
        wanted + DAY,
    )
    assert from_timestamp(told.event[0].promised_date) == wanted - HOUR
    condition = {"path": "product_order_id", "operator": "OPERATOR_EQ", "value": [order]}
    kept = shop.agent(TRACKING + "ListPromisedDateChanges", filter=[condition]).items[0]
    assert kept.moved_by
    # Who it was is kept, but not told.
    assert kept.moved_by not in str(told)


def test_an_order_is_never_promised_before_one_of_its_items(shop: Shop) -> None:
    now = shop.database.clock.now()
    order = ordered(shop, requested_completion_date=to_timestamp(now + 3 * DAY))
    moved = move(shop, order, now + 5 * DAY, order_item_id="1")
    assert moved.product_order_item[0].expected_completion_date == moved.expected_completion_date
    assert kinds(events(shop, order)).count("PROMISE_MOVED") == 2
    with pytest.raises(FailedPrecondition) as refused:
        move(shop, order, now + 4 * DAY, "FASTER")
    assert refused.value.reason == "PROMISED_LATER"
    move(shop, order, now + 4 * DAY, "FASTER", order_item_id="1")
    moved = move(shop, order, now + 4 * DAY, "FASTER")
    assert moved.product_order_item[0].expected_completion_date == moved.expected_completion_date


def test_nothing_is_promised_for_the_past_or_of_what_is_over(shop: Shop) -> None:
    order = ordered(shop)
    now = shop.database.clock.now()
    with pytest.raises(InvalidArgument):
        move(shop, order, now - DAY)
    shop.later(2 * DAY)
    with pytest.raises(FailedPrecondition) as refused:
        move(shop, order, now + 5 * DAY)
    assert refused.value.reason == "ORDER_CLOSED"


def test_a_date_is_promised_for_when_it_is_wanted_if_it_can_be_done_by_then() -> None:
    assert promised(EPOCH, None, None) is None
    assert promised(EPOCH, EPOCH + DAY, None) == EPOCH + DAY
    # Wanted for before it was ordered.
    assert promised(EPOCH, EPOCH - DAY, None) is None
    assert promised(EPOCH, EPOCH - DAY, timedelta(hours=4)) == EPOCH + timedelta(hours=4)
    assert promised(EPOCH, EPOCH + DAY, timedelta(hours=4)) == EPOCH + DAY
    assert promised(EPOCH, None, timedelta(hours=4)) == EPOCH + timedelta(hours=4)


def test_of_tasks_only_those_with_words_are_told() -> None:
    spec = TaskSpecification(
        name="ship",
        milestone=(
            Milestone(language="en", words="The router is on its way"),
            Milestone(language="ru", words="Роутер в пути"),
        ),
    )
    task = FulfilmentTask(
        id="t", branch="b", product_order_id="o", order_item_id="1", specification=spec, reason="vendor 7 late"
    )
    pending, silent = replace(task), replace(task, specification=None, state=FulfilmentTaskState.COMPLETED)
    done = replace(task, state=FulfilmentTaskState.COMPLETED)
    log = [Logged(EPOCH, "Create", pending), Logged(EPOCH, "StateChange", silent), Logged(EPOCH, "StateChange", done)]
    (event,), _ = milestones(log, None)
    assert (event.kind, event.order_item_id) == (OrderEventKind.MILESTONE, "1")
    assert [said(event, place) for place in (0, 1)] == ["The router is on its way", "Роутер в пути"]


def test_everything_that_may_happen_has_words_in_every_language() -> None:
    assert set(_EVENTS) == set(OrderEventKind)
    for words in (_EVENTS, _REASONS, _STATES):
        assert all(len(said) == 2 for said in words.values())
