"""Orders that could hang, pass what can't be taken back, or be charged wrongly: they end, and their tasks with them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg
import pytest

from chassis.errors import FailedPrecondition
from chassis.products import ProductStatus
from chassis.timers import set_timer
from chassis.types import new_id
from chassis.unit import Unit
from orders.fulfilment import hands
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.job import FulfilmentJob, FulfilmentJobAction
from orders.fulfilment.plan import rely
from orders.fulfilment.queue import JOB, begin_count
from orders.fulfilment.specification import FulfilmentSpecification
from orders.fulfilment.steps import PROVISION, go_on, lock
from orders.fulfilment.values import Compensation, FulfilmentTaskState, TaskSpecification
from orders.inventory.domain import Product
from orders.ordering.domain import ProductOrder
from orders.ordering.jeopardy import JEOPARDY
from orders.ordering.store import items_of
from orders.ordering.values import OrderItemRelationship, ProductOrderItemState, ProductOrderState
from orders.ordering.withdrawal import withdraw_items
from orders.tracking.domain import PromiseReason
from orders.tracking.store import keep_move
from tests.conftest import ServiceDatabase
from tests.orders.drill import Floor, World

_S, _O = FulfilmentTaskState, ProductOrderState


def a_task(name: str, *after: str, **more: Any) -> TaskSpecification:
    undo = Compensation(operation=f"undo {name}")
    about: dict[str, Any] = {"expected_seconds": 3600, "compensation": undo, **more}
    return TaskSpecification(name=name, system="provisioning", operation=name, depends_on=after, **about)


def specified(name: str, *tasks: TaskSpecification) -> FulfilmentSpecification:
    return FulfilmentSpecification(id=new_id(), branch="*", action="add", product_specification_id=name, task=tasks)


@pytest.fixture(scope="module")
def opened(
    database_for: Callable[..., ServiceDatabase], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Floor, World]]:
    world = World()
    floor = Floor(database_for("orders").url, Path(tmp_path_factory.mktemp("floor")) / "offset", world)
    confirm = a_task("confirm", "activate", compensation=None, point_of_no_return=True)
    port = a_task("port", compensation=None, point_of_no_return=True)
    floor.specify(
        specified("line", a_task("activate"), confirm),
        specified("ported", port, a_task("announce"), a_task("finish", "port", "announce")),
        specified("nothing"),
        specified("credit first", a_task("credit", of_order=True, no_undo_needed=True, compensation=None)),
    )
    yield floor, world
    floor.database.close()


@pytest.fixture
def ground(opened: tuple[Floor, World]) -> tuple[Floor, World]:
    opened[1].__init__()  # type: ignore[misc]
    return opened


def named(floor: Floor, order_id: str, name: str) -> FulfilmentTask:
    (found,) = (one for one in floor.tasks(order_id) if one.name == name)
    return found


def by_hand(floor: Floor, task: FulfilmentTask, what: Callable[[Unit, FulfilmentTask], None]) -> None:
    def act(unit: Unit) -> None:
        lock(unit, task.product_order_id)
        own = unit.get(FulfilmentTask, task.id)
        what(unit, own)
        go_on(unit, own)

    floor.do(act)


def relying(floor: Floor, order_id: str) -> None:
    """Has the second item rely on the first."""

    def rely_on_first(unit: Unit) -> None:
        second = items_of(unit, order_id)[1]
        relation = OrderItemRelationship(id="1", relationship_type="reliesOn")
        second.item = replace(second.item, product_order_item_relationship=(relation,))

    floor.do(rely_on_first)


# --- what a person may do --------------------------------------------------------------------------------------------


def test_only_what_is_held_is_tried_again(ground: tuple[Floor, World]) -> None:
    floor, world = ground
    world.refusing = {"activate"}
    order_id = floor.order("line")
    floor.work()
    pending = named(floor, order_id, "confirm")
    with pytest.raises(FailedPrecondition, match="tried again"):
        by_hand(floor, pending, hands.retry)
    floor.work()
    assert named(floor, order_id, "confirm").state is _S.PENDING
    assert "confirm" not in {operation for _, _, operation in world.deeds}


def test_what_a_job_may_not_give_up_stays_held(ground: tuple[Floor, World]) -> None:
    floor, world = ground
    world.refusing = {"announce"}
    order_id = floor.order("ported")
    floor.work()
    task = named(floor, order_id, "announce")
    assert task.state is _S.HELD
    job = FulfilmentJob(
        id=new_id(), branch="bishkek", action=FulfilmentJobAction.GIVE_UP, reason="no", requested_by="gulnara"
    )

    def give(unit: Unit, job: FulfilmentJob) -> None:
        job.check(unit.at)
        unit.add(job)
        values = (job.id, task.id, "bishkek", "waiting")
        unit.flush()
        unit.cursor().execute(
            "INSERT INTO fulfilment_job_task (job_id, task_id, branch, state) VALUES (%s, %s, %s, %s)", values
        )
        begin_count(unit, job)
        set_timer(unit, job.id, JOB, unit.at, job.branch)

    floor.do(lambda unit: give(unit, job))
    floor.work()
    assert named(floor, order_id, "announce").state is _S.HELD
    assert floor.state(order_id) is _O.HELD
    job = FulfilmentJob(
        id=new_id(), branch="bishkek", action=FulfilmentJobAction.SKIP, reason="done", requested_by="gulnara"
    )
    floor.do(lambda unit: give(unit, job))
    floor.work()
    assert (named(floor, order_id, "announce").closed_by, floor.state(order_id)) == ("gulnara", _O.COMPLETED)


def test_two_hands_in_one_order_come_one_after_the_other(ground: tuple[Floor, World]) -> None:
    floor, world = ground
    world.refusing = {"port", "announce"}
    order_id = floor.order("ported")
    floor.work()
    port, announce = named(floor, order_id, "port"), named(floor, order_id, "announce")
    assert (port.state, announce.state) == (_S.HELD, _S.HELD)
    fixing, refused = Event(), []

    def give_up() -> None:
        fixing.wait(10)
        try:
            by_hand(floor, announce, lambda unit, task: hands.give_up(unit, task, "no"))
        except FailedPrecondition as error:
            refused.append(error.reason)

    other = Thread(target=give_up)
    other.start()

    def fix(unit: Unit, task: FulfilmentTask) -> None:
        hands.fix(unit, task, "by hand")
        fixing.set()
        # Until the other waits for us.
        with psycopg.connect(floor.url, autocommit=True) as look:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not (look.execute(waiting).fetchone() or (0,))[0] and other.is_alive():
                pass

    by_hand(floor, port, fix)
    other.join()
    assert refused == ["POINT_OF_NO_RETURN"]
    assert named(floor, order_id, "announce").state is _S.HELD


# --- items -----------------------------------------------------------------------------------------------------------


def test_an_order_of_many_items_for_which_nothing_is_to_be_done_ends(ground: tuple[Floor, World]) -> None:
    floor, _ = ground
    order_id = floor.order(*["nothing"] * 130)
    for _ in range(6):
        floor.round()
    assert floor.state(order_id) is _O.COMPLETED


def test_many_items_without_tasks_wait_for_the_whole_orders_in_peace(ground: tuple[Floor, World]) -> None:
    floor, world = ground
    world.by_event = {"credit"}
    order_id = floor.order(*["nothing"] * 130, "credit first")
    for _ in range(6):
        floor.round()
    assert floor.state(order_id) is _O.IN_PROGRESS

    def due(unit: Unit) -> Any:
        wanted = (order_id, PROVISION, unit.at)
        now = "SELECT FROM timer WHERE aggregate_id = %s AND purpose = %s AND due <= %s"
        return unit.cursor().execute(now, wanted).fetchone()

    assert floor.do(due) is None


def test_what_relied_on_a_withdrawn_item_goes_on(ground: tuple[Floor, World]) -> None:
    floor, world = ground
    world.by_event = {"activate"}
    order_id = floor.order("line", "line")
    relying(floor, order_id)
    floor.work()
    first, second = (one for one in floor.tasks(order_id) if one.name == "activate")
    assert (first.state, second.state) == (_S.IN_PROGRESS, _S.PENDING)

    def withdraw(unit: Unit) -> None:
        order = unit.get(ProductOrder, order_id)
        withdraw_items(unit, order, items_of(unit, order_id)[:1], "amended")

    floor.do(withdraw)
    world.by_event = set()
    floor.work()
    items = floor.do(lambda unit: [item.state for item in items_of(unit, order_id)])
    assert items == [ProductOrderItemState.CANCELLED, ProductOrderItemState.COMPLETED]
    assert floor.state(order_id) is _O.COMPLETED


def test_what_has_no_tasks_is_completed_after_what_it_relies_on_and_fails_with_it(ground: tuple[Floor, World]) -> None:
    floor, world = ground
    for answer, end in (("done", ProductOrderItemState.COMPLETED), ("no", ProductOrderItemState.FAILED)):
        world.by_event = {"activate"}
        order_id = floor.order("line", "nothing")
        relying(floor, order_id)
        floor.work()
        assert [item.state for item in floor.do(partial(items_of, order_id=order_id))] == [
            ProductOrderItemState.IN_PROGRESS,
            ProductOrderItemState.IN_PROGRESS,
        ]
        activate = named(floor, order_id, "activate")
        if answer == "done":
            by_hand(floor, activate, lambda unit, task: task.complete(unit.at))
        else:
            by_hand(floor, activate, lambda unit, task: task.hold(unit.at))
            by_hand(floor, activate, lambda unit, task: hands.give_up(unit, task, "there is no line"))
        floor.work()
        assert [item.state for item in floor.do(partial(items_of, order_id=order_id))] == [end, end]


def test_what_relies_on_an_item_without_tasks_waits_for_those_that_it_relies_on() -> None:
    def one(id: str, item: str) -> FulfilmentTask:
        return FulfilmentTask(id=id, branch="b", product_order_item_id=item, name=id)

    tasks = [one("first", "A"), one("last", "D")]
    # An amendment may have turned round what was done already.
    for of_b, expected in (("A", ["first"]), ("C", [])):
        rely(tasks, {"D": ("C",), "C": ("B",), "B": (of_b,)})
        assert list(tasks[1].depends_on) == expected


def test_pending_tasks_wait_for_what_counts_by_now_and_for_nothing_else() -> None:
    def one(id: str, item: str | None, state: FulfilmentTaskState, *after: str, **more: Any) -> FulfilmentTask:
        return FulfilmentTask(
            id=id, branch="b", product_order_item_id=item, state=state, depends_on=after, name=id, **more
        )

    tasks = [
        one("credit", None, _S.COMPLETED),
        one("old", "A", _S.COMPLETED, generation=None),
        one("undo old", "A", _S.PENDING, compensates="old"),
        one("given up", "A", _S.CANCELLED),
        one("anew", "A", _S.PENDING, "undo old", generation=1),
        one("begun", "B", _S.IN_PROGRESS, "old"),
        one("own", "B", _S.PENDING, "credit", "begun", "old", "given up"),
        one("free", "C", _S.PENDING, "old", "credit"),
    ]
    rely(tasks, {"B": ("A",), "C": ()})
    assert {task.name: task.depends_on for task in tasks if task.product_order_item_id in ("B", "C")} == {
        "begun": ("old",),
        "own": ("credit", "begun", "anew"),
        "free": ("credit",),
    }
    assert tasks[4].depends_on == ("undo old",)


# --- products --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [ProductStatus.ACTIVE, ProductStatus.CANCELLED, ProductStatus.ABORTED])
def test_what_an_order_is_about_to_begin_is_not_begun_or_ended_by_hand(
    ground: tuple[Floor, World], status: ProductStatus
) -> None:
    floor, world = ground
    world.by_event = {"activate"}
    order_id = floor.order("line")
    floor.work()

    def change(unit: Unit) -> None:
        product_id = items_of(unit, order_id)[0].product_id or ""
        unit.get(Product, product_id).revise({"status": status}, unit.at)

    with pytest.raises(FailedPrecondition) as refused:
        floor.do(change)
    assert refused.value.reason == "BY_ORDER"


def test_an_order_whose_product_has_been_given_up_elsewhere_fails_and_ends(ground: tuple[Floor, World]) -> None:
    floor, _ = ground
    order_id = floor.order("nothing")
    floor.round()
    floor.do(
        lambda unit: unit.get(Product, items_of(unit, order_id)[0].product_id or "").move(
            ProductStatus.CANCELLED, unit.at
        )
    )
    floor.work()
    assert floor.state(order_id) is _O.FAILED


# --- in time ---------------------------------------------------------------------------------------------------------


def test_every_order_of_a_turn_that_would_be_late_is_counted_and_a_moved_promise_is_seen(
    ground: tuple[Floor, World],
) -> None:
    floor, world = ground
    world.by_event = {"activate"}
    orders = [floor.order("line") for _ in range(4)]
    floor.work()
    before = JEOPARDY._value.get()

    def promise(unit: Unit) -> None:
        for order_id in orders:
            order = unit.get(ProductOrder, order_id)
            was, order.expected_completion_date = order.expected_completion_date, unit.at + timedelta(minutes=5)
            keep_move(unit, order, None, was, PromiseReason.OTHER)

    floor.do(promise)
    floor.work()
    assert all(floor.do(lambda unit: [unit.get(ProductOrder, one).jeopardy_date for one in orders]))
    assert JEOPARDY._value.get() - before == 4
