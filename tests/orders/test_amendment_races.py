"""Who changes an order at the same time as somebody else: what is left is as if one had come after the other."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from chassis.errors import Aborted, FailedPrecondition
from chassis.events import acting
from chassis.products import ProductRefOrValue, ProductStatus
from chassis.types import Characteristic, Json, Money
from chassis.unit import Unit
from orders.amendment.plan import amendment_plan
from orders.amendment.steps import amend
from orders.fulfilment.api import Fulfilments
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.reporters import Reporters
from orders.fulfilment.specification import FulfilmentSpecification
from orders.fulfilment.store import tasks_of
from orders.fulfilment.values import Compensation, FulfilmentTaskState, TaskSpecification
from orders.inventory.domain import Product
from orders.ordering.capture import Captured
from orders.ordering.domain import ProductOrder
from orders.ordering.store import items_of
from orders.ordering.values import OrderItem, ProductOrderItemState, ProductOrderState
from orders.ordering.withdrawal import withdraw
from svyaz.orders.v1 import fulfilment_pb2
from tests.conftest import ServiceDatabase
from tests.orders.drill import SYSTEMS, Floor, World

PLAN, EVERYTHING = "races", [Money(unit="KGS", value=Decimal(1_000_000))]
TASKS = (
    TaskSpecification(
        name="reserve",
        system="resource",
        operation="reserve",
        input=("setTopBoxes",),
        compensation=Compensation(operation="release"),
        undo_cost=Money(unit="KGS", value=Decimal(5)),
    ),
    TaskSpecification(
        name="activate",
        system="provisioning",
        operation="activate",
        depends_on=("reserve",),
        compensation=Compensation(operation="deactivate"),
    ),
)
TIMES = 3


@pytest.fixture(scope="module")
def floor(
    database_for: Callable[..., ServiceDatabase], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Floor, World]]:
    world = World()
    made = Floor(database_for("orders").url, Path(tmp_path_factory.mktemp("races")) / "offset", world)
    made.specify(FulfilmentSpecification(id=PLAN, branch="*", product_specification_id=PLAN, action="add", task=TASKS))
    yield made, world
    made.database.close()


def begun(floor: tuple[Floor, World]) -> tuple[Floor, World, str]:
    """An order of two items of which all is reserved, and activation isn't heard of yet."""
    ground, world = floor
    world.__init__()  # type: ignore[misc]
    world.by_event = {"activate"}
    order_id = ground.order(PLAN, PLAN)
    ground.work()
    assert {task.name for task in ground.tasks(order_id) if task.state is FulfilmentTaskState.IN_PROGRESS} == {
        "activate"
    }
    return ground, world, order_id


def together(*works: Callable[[Callable[[], Any]], Any]) -> list[Exception | None]:
    """Does all of them at the same time: none goes on before each has come to where they meet. How each was refused, if
    it was."""
    meeting = threading.Barrier(len(works))

    def one(work: Callable[[Callable[[], Any]], Any]) -> Exception | None:
        try:
            work(partial(meeting.wait, 10))
        except (Aborted, FailedPrecondition) as refusal:
            return refusal
        return None

    with ThreadPoolExecutor(len(works)) as hands:
        return list(hands.map(one, works))


def amending(ground: Floor, order_id: str, boxes: int) -> Callable[[Callable[[], Any]], Any]:
    """Gives the first item so many boxes, withdraws the second and adds a third, in an order as it is now."""
    items = {row.item.id: row for row in ground.do(lambda unit: items_of(unit, order_id))}
    first = items["1"]
    wanted = _with_boxes(first.item, boxes)
    version = (wanted, replace(wanted, id="3"))
    captured = Captured(
        items=version,
        charges={item.id or "": first.charge for item in version},
        completed={},
        total=(),
        receipt=None,
        missing=(),
        customer_ids=(),
    )

    def work(unit: Unit, meet: Callable[[], Any]) -> None:
        order = unit.get(ProductOrder, order_id)
        meet()
        amend(unit, order, amendment_plan(unit, order, captured), EVERYTHING, total=False)

    return lambda meet: ground.do(lambda unit: work(unit, meet))


def _with_boxes(item: OrderItem, boxes: int) -> OrderItem:
    assert item.product is not None
    own = Characteristic(name="setTopBoxes", value=Json(str(boxes)))
    return replace(
        item,
        product=ProductRefOrValue(
            product_specification=item.product.product_specification, product_characteristic=(own,)
        ),
    )


def settled(ground: Floor, world: World, order_id: str) -> dict[str, tuple[str, str]]:
    """The order's end: by item its state and its boxes; inventory, charges, tasks and systems agree."""
    world.by_event = set()
    for task in ground.tasks(order_id):
        # What the system was told by an event is done by now, or has been heard of.
        if task.state is FulfilmentTaskState.IN_PROGRESS and task.name == "activate":
            world.start(task, None)
            together(complete(ground, task))
    ground.settle(order_id)

    def look(unit: Unit) -> dict[str, tuple[str, str]]:
        tasks = tasks_of(unit, order_id)
        assert not [task.name for task in tasks if task.open]
        found = {}
        for row in items_of(unit, order_id):
            product = unit.get(Product, row.product_id or "")
            done = row.state is ProductOrderItemState.COMPLETED
            own = [one for one in tasks if one.product_order_item_id == row.id and not one.compensating]
            current = [one for one in own if one.state is FulfilmentTaskState.COMPLETED and one.undone_at is None]
            assert sorted(one.name for one in current) == (["activate", "reserve"] if done else [])
            assert {one.id for one in current} == world.standing.keys() & {one.id for one in own}
            assert product.status is (ProductStatus.ACTIVE if done else ProductStatus.CANCELLED)
            boxes = {one.name: one.value for one in product.product_characteristic}["setTopBoxes"]
            assert boxes is not None
            assert _charges(unit, row.product_id or "") == (2 if done else 0)
            found[row.item.id or ""] = (str(row.state), boxes.text)
        return found

    return cast(dict[str, tuple[str, str]], ground.do(look))


def _charges(unit: Unit, product_id: str) -> int:
    query = """
        SELECT count(*) FROM charge_event
        WHERE draft::jsonb ->> 'productId' = %(product)s AND draft::jsonb ->> 'reason' IS DISTINCT FROM 'undo'
    """
    (found,) = unit.cursor().execute(query, {"product": product_id}).fetchone() or (0,)
    return int(found)


def complete(ground: Floor, task: FulfilmentTask) -> Callable[[Callable[[], Any]], Any]:
    """An external system says that it has done a task."""
    fulfilments = Fulfilments(ground.database, SYSTEMS, ground.jobs, Reporters.parse("*=*"))
    request = fulfilment_pb2.CompleteFulfilmentTaskRequest(id=task.id, attempt=task.attempt)

    def work(meet: Callable[[], Any]) -> None:
        meet()
        with acting("orders", "drill", "bishkek"):
            fulfilments.CompleteFulfilmentTask(request, None)

    return work


def stepping(ground: Floor) -> Callable[[Callable[[], Any]], Any]:
    """A replica makes the steps that are due."""

    def work(meet: Callable[[], Any]) -> None:
        claims, _ = ground.timers._claim(10)
        assert claims
        meet()
        for claim in claims:
            ground.timers._handle([claim])

    return work


def withdrawing(ground: Floor, order_id: str) -> Callable[[Callable[[], Any]], Any]:
    """The customer doesn't want it any more, whatever that costs."""

    def work(unit: Unit, meet: Callable[[], Any]) -> None:
        order = unit.get(ProductOrder, order_id)
        meet()
        withdraw(unit, order, "races", EVERYTHING)

    return lambda meet: ground.do(lambda unit: work(unit, meet))


AMENDED = {"1": ("completed", "2"), "2": ("cancelled", "1"), "3": ("completed", "2")}


def test_of_two_versions_one_is_taken(floor: tuple[Floor, World]) -> None:
    for _ in range(TIMES):
        ground, world, order_id = begun(floor)
        refusals = together(amending(ground, order_id, 2), amending(ground, order_id, 3))
        assert sorted(one.reason for one in refusals if isinstance(one, Aborted)) == ["CONFLICT"]
        boxes = "2" if refusals[0] is None else "3"
        assert settled(ground, world, order_id) == {
            "1": ("completed", boxes),
            "2": ("cancelled", "1"),
            "3": ("completed", boxes),
        }


def test_a_version_and_a_step_that_is_being_made(floor: tuple[Floor, World]) -> None:
    for _ in range(TIMES):
        ground, world = floor
        world.__init__()  # type: ignore[misc]
        world.patience = 1
        order_id = ground.order(PLAN, PLAN)
        while not world.answered:
            ground.round()
        world.patience = None
        ground.pass_by(timedelta(seconds=2))

        refusals = together(amending(ground, order_id, 2), stepping(ground))
        expected = {"1": ("completed", "1"), "2": ("completed", "1")} if refusals[0] is not None else AMENDED
        assert settled(ground, world, order_id) == expected


def test_a_version_and_a_cancellation(floor: tuple[Floor, World]) -> None:
    for _ in range(TIMES):
        ground, world, order_id = begun(floor)
        refusals = together(amending(ground, order_id, 2), withdrawing(ground, order_id))
        assert sorted(one is None for one in refusals) == [False, True]
        if refusals[0] is None:
            assert settled(ground, world, order_id) == AMENDED
        else:
            assert set(settled(ground, world, order_id).values()) == {("cancelled", "1")}
            assert ground.state(order_id) is ProductOrderState.CANCELLED


def test_a_version_and_the_word_that_a_task_is_done(floor: tuple[Floor, World]) -> None:
    for _ in range(TIMES):
        ground, world, order_id = begun(floor)
        told: Sequence[FulfilmentTask] = [one for one in ground.tasks(order_id) if one.name == "activate"]
        for task in told:
            world.start(task, None)
        refusals = together(amending(ground, order_id, 2), *(complete(ground, task) for task in told))
        expected = AMENDED if refusals[0] is None else {"1": ("completed", "1"), "2": ("completed", "1")}
        assert settled(ground, world, order_id) == expected
