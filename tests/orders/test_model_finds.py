"""What the model has found, each by itself."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from chassis.errors import FailedPrecondition
from svyaz.orders.v1 import amendment_pb2, fulfilment_pb2, lifecycle_pb2, orders_pb2
from tests.conftest import ServiceDatabase
from tests.orders.machine import PLENTY, body
from tests.orders.model import Item
from tests.orders.office import Office, said


@pytest.fixture
def office(database_for: Callable[..., ServiceDatabase]) -> Iterator[Office]:
    place = database_for("orders")
    made = Office(place.url, place.admin_url)
    made.move_to("bishkek")
    yield made
    made.close()


def ordered(office: Office, *items: Item) -> str:
    """An order of the customer."""
    order: dict[str, Any] = {
        "product_order_item": [body(item) for item in items],
        "related_party": [{"id": "customer of bishkek", "role": "customer", "at_referred_type": "Customer"}],
        "billing_account": {"id": "account"},
    }
    request = said(orders_pb2.CreateProductOrderRequest, product_order=order)
    return str(office.ask(office.orders, "CreateProductOrder", request).id)


def work(office: Office, *answers: str) -> None:
    """What is due now is done; the systems answer so, and then well."""
    office.network.answers.extend(answers)
    while office.round():
        pass


def go_on(office: Office) -> None:
    """All that will be due is done."""
    while (due := office.next_due()) is not None:
        office.pass_by(due - office.clock.at + timedelta(milliseconds=1))
        work(office)


def status(office: Office, product: str) -> str:
    ((found,),) = office.rows("SELECT status FROM product WHERE id = %(id)s", id=product)
    return str(found)


def suspend(office: Office, product: str, reason: str) -> None:
    request = said(lifecycle_pb2.SuspendProductRequest, id=product, reason=f"SUSPENSION_REASON_{reason}")
    office.ask(office.lifecycle, "SuspendProduct", request)


def amend(office: Office, order: str, *items: Item) -> None:
    request = said(
        amendment_pb2.AmendProductOrderRequest,
        product_order={"id": order, "product_order_item": [body(item) for item in items]},
        update_mask={"paths": ["product_order_item"]},
        accepted_cost=PLENTY,
    )
    office.ask(office.amendments, "AmendProductOrder", request)


def test_who_is_suspended_again_while_parts_of_the_refused_order_go_on_is(office: Office) -> None:
    ordered(office, Item("1", "add", "home"))
    work(office)
    ((bundle,),) = office.rows("SELECT id FROM product WHERE product_offering_id = 'home'")
    suspend(office, bundle, "DEBT")
    # The network refuses the bundle itself; a part of it takes its time.
    work(office, "refuse", "wait", "wait")
    ((state,),) = office.rows("SELECT state FROM product_order WHERE category = 'lifecycle'")
    assert (state, status(office, bundle)) == ("inProgress", "active")
    suspend(office, bundle, "FRAUD")
    go_on(office)
    assert status(office, bundle) == "suspended"


def test_who_is_suspended_again_while_a_refused_order_is_being_undone_is_after_that(office: Office) -> None:
    ordered(office, Item("1", "add", "line S"))
    work(office)
    ((line,),) = office.rows("SELECT id FROM product")
    suspend(office, line, "DEBT")
    # It may have been barred when nobody answered any more, so that is taken back; which takes its time, too.
    work(office, "silent")
    for answer in ("silent", "silent", "wait"):
        office.pass_by(timedelta(minutes=70))
        work(office, answer)
    ((failure,),) = office.rows(
        "SELECT failure FROM product_order_item WHERE state = 'inProgress' AND item -> 'product' ->> 'status' <> ''"
    )
    assert failure
    suspend(office, line, "FRAUD")
    go_on(office)
    assert status(office, line) == "suspended"


def test_a_part_that_begins_when_its_bundle_is_to_be_suspended_is_suspended(office: Office) -> None:
    ordered(office, Item("1", "add", "home"))
    work(office, "done", "wait")
    ((bundle,),) = office.rows("SELECT id FROM product WHERE product_offering_id = 'home'")
    suspend(office, bundle, "DEBT")
    # The network refuses the bundle itself, and nobody asks again.
    work(office, "refuse")
    assert status(office, bundle) == "active"
    go_on(office)
    assert office.rows("SELECT product_offering_id, status FROM product ORDER BY 1") == [
        ("fibre", "suspended"),
        ("home", "suspended"),
        ("tv", "suspended"),
    ]


def test_what_was_rejected_is_as_the_inventory_has_it(office: Office) -> None:
    order = ordered(office, Item("1", "add", "line S"))
    # The credit check.
    work(office, "refuse")
    assert office.rows("SELECT state FROM product_order WHERE id = %(id)s", id=order) == [("rejected",)]
    request = lifecycle_pb2.ReconcileProductsRequest()
    assert list(office.ask(office.lifecycle, "ReconcileProducts", request).items) == []


def test_what_is_amended_to_need_a_task_of_the_whole_order_has_it_done_once_and_first(office: Office) -> None:
    order = ordered(office, Item("1", "add", "box"), Item("2", "add", "fibre"))
    work(office, "wait", "wait")
    amend(office, order, Item("1", "add", "line S"), Item("2", "add", "line L"))
    work(office, "wait")
    known = "SELECT state FROM fulfilment_task WHERE product_order_id = %(id)s AND name = %(name)s"
    assert office.rows(known, id=order, name="credit") == [("inProgress",)]
    assert office.rows(known, id=order, name="number") == [("pending",), ("pending",)]
    go_on(office)
    assert office.rows("SELECT state FROM product_order WHERE id = %(id)s", id=order) == [("completed",)]
    assert office.rows(known, id=order, name="number") == [("completed",), ("completed",)]


def test_what_a_step_had_done_that_died_before_it_could_say_so_is_undone_by_an_amendment(office: Office) -> None:
    order = ordered(office, Item("1", "add", "fibre"))
    office.round()
    office.network.answers.append("die")
    office.round()
    assert [deed.name for deed in office.network.standing.values()] == ["port"]
    assert office.rows("SELECT id FROM fulfilment_task") == []
    amend(office, order, Item("1", "add", "line S"))
    work(office)
    go_on(office)
    assert office.rows("SELECT state FROM product_order WHERE id = %(id)s", id=order) == [("completed",)]
    assert "port" not in {deed.name for deed in office.network.standing.values()}


def test_what_can_never_be_completed_is_left_out_by_a_person(office: Office) -> None:
    """Two orders end the same line, and neither's release can be taken back."""
    ordered(office, Item("1", "add", "line S"))
    work(office)
    ((line,),) = office.rows("SELECT id FROM product")
    orders = [ordered(office, Item("1", "delete", product=line)) for _ in range(2)]
    work(office)
    states = "SELECT state FROM product_order WHERE id = ANY (%(ids)s) ORDER BY state"
    assert office.rows(states, ids=orders) == [("completed",), ("held",)]
    for method in ("RetryFulfilmentTask", "SkipFulfilmentTask"):
        ((held,),) = office.rows("SELECT id FROM fulfilment_task WHERE state = 'held'")
        request = said(fulfilment_pb2.FulfilmentTaskRequest, id=held, reason="ended by another order")
        office.ask(office.fulfilments, method, request)
        work(office)
    assert office.rows(states, ids=orders) == [("completed",), ("failed",)]
    ((notes,),) = office.rows("SELECT note::text FROM product_order WHERE state = 'failed'")
    assert "item 1 failed: ended by another order" in notes
    assert "item 1: not undone: release" in notes


PRODUCTS = "SELECT product_offering_id, status FROM product ORDER BY 1"


def end(office: Office, product: str) -> None:
    office.ask(office.lifecycle, "TerminateProduct", said(lifecycle_pb2.TerminateProductRequest, id=product))


def test_nobody_has_or_pays_for_parts_of_a_bundle_that_has_failed(office: Office) -> None:
    order = ordered(office, Item("1", "add", "home"))
    # The bundle itself takes its time, and is refused when its parts have been done.
    work(office, "wait", "done", "done")
    assert office.rows(PRODUCTS) == [("fibre", "pendingActive"), ("home", "pendingActive"), ("tv", "pendingActive")]
    office.network.answers.append("refuse")
    go_on(office)
    assert office.rows(PRODUCTS) == [("fibre", "aborted "), ("home", "aborted "), ("tv", "aborted ")]
    assert office.rows("SELECT state FROM product_order WHERE id = %(id)s", id=order) == [("failed",)]
    assert office.rows("SELECT * FROM charge_event") == []
    # A cable in the ground stays.
    assert [deed.name for deed in office.network.standing.values()] == ["cable"]


def test_a_part_that_isnt_there_yet_when_its_bundle_ends_never_is(office: Office) -> None:
    ordered(office, Item("1", "add", "home"))
    work(office, "done", "wait")
    ((bundle,),) = office.rows("SELECT id FROM product WHERE product_offering_id = 'home'")
    end(office, bundle)
    work(office)
    assert office.rows(PRODUCTS) == [("fibre", "pendingActive"), ("home", "terminated"), ("tv", "terminated")]
    go_on(office)
    assert office.rows(PRODUCTS) == [("fibre", "aborted "), ("home", "terminated"), ("tv", "terminated")]


def test_a_part_that_comes_while_its_bundle_is_ending_ends_after_it(office: Office) -> None:
    ordered(office, Item("1", "add", "home"))
    work(office, "done", "wait")
    ((bundle,),) = office.rows("SELECT id FROM product WHERE product_offering_id = 'home'")
    end(office, bundle)
    # The network takes its time to end the bundle, and longer than for the part that is still to come.
    work(office, "wait")
    office.network.answers.extend(["done", "wait"])
    go_on(office)
    assert office.rows(PRODUCTS) == [("fibre", "terminated"), ("home", "terminated"), ("tv", "terminated")]


def test_whose_end_has_failed_isnt_said_to_be_ending(office: Office) -> None:
    ordered(office, Item("1", "add", "home"))
    work(office)
    ((bundle,),) = office.rows("SELECT id FROM product WHERE product_offering_id = 'home'")
    end(office, bundle)
    # The network refuses the bundle itself; its parts take their time.
    work(office, "refuse", "wait", "wait")
    items = "SELECT state FROM product_order_item WHERE item ->> 'action' = 'delete' ORDER BY position"
    assert office.rows(items) == [("failed",), ("inProgress",), ("inProgress",)]
    with pytest.raises(FailedPrecondition) as refused:
        end(office, bundle)
    assert refused.value.reason == "TERMINATION_FAILED"
    go_on(office)
    end(office, bundle)
    work(office)
    assert office.rows(PRODUCTS) == [("fibre", "terminated"), ("home", "terminated"), ("tv", "terminated")]
    assert office.rows("SELECT count(*) FROM product_order WHERE state = 'completed'") == [(2,)]
