"""The drill: every step of every plan fails once, and so does what undoes it; each end is whole or nothing."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chassis.products import ProductStatus
from chassis.unit import Unit
from orders.fulfilment.specification import PROVISION_TASK
from orders.fulfilment.store import tasks_of
from orders.fulfilment.values import FailurePolicy, FulfilmentTaskState, TaskSpecification
from orders.inventory.domain import Product
from orders.ordering.domain import ProductOrder
from orders.ordering.store import items_of
from orders.ordering.values import ProductOrderItemState, ProductOrderState
from tests.conftest import ServiceDatabase
from tests.orders.drill import Floor, World, demo_specifications

DEMO = {one.product_specification_id or "": one for one in demo_specifications()}
PLANS: dict[str, tuple[TaskSpecification, ...]] = {
    "built-in": (PROVISION_TASK,),
    **{key.removeprefix("@productSpecification/"): one.task for key, one in DEMO.items()},
}
_S = FulfilmentTaskState


@pytest.fixture(scope="module")
def floor(
    database_for: Callable[..., ServiceDatabase], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Floor, World]]:
    world = World()
    made = Floor(database_for("orders").url, Path(tmp_path_factory.mktemp("floor")) / "offset", world)
    for key, one in DEMO.items():
        one.product_specification_id = key.removeprefix("@productSpecification/")
        made.specify(one)
    yield made, world
    made.database.close()


def order_on(floor: tuple[Floor, World], plan: str) -> tuple[Floor, World, str]:
    """An order of a plan, and a world in which nothing has happened yet."""
    ground, world = floor
    world.__init__()  # type: ignore[misc]
    return ground, world, ground.order(plan)


def check_the_end(ground: Floor, world: World, order_id: str) -> ProductOrderState:
    """Whatever happened: it is complete, or nothing is left of it; and inventory, charges and systems agree."""

    def look(unit: Unit) -> ProductOrderState:
        order = unit.get(ProductOrder, order_id)
        (item,) = items_of(unit, order_id)
        tasks = tasks_of(unit, order_id)
        product = unit.get(Product, item.product_id or "")
        # What undoing costs is charged by itself.
        query = """
            SELECT count(*) FROM charge_event
            WHERE draft::jsonb ->> 'productOrderId' = %(order)s AND draft::jsonb ->> 'reason' IS DISTINCT FROM 'undo'
        """
        row = unit.cursor().execute(query, {"order": order_id}).fetchone()
        charges = row[0] if row is not None else 0
        assert not [task.name for task in tasks if task.open], "no task is open when its order has ended"
        own = [task for task in tasks if not task.compensating]
        if order.state is ProductOrderState.COMPLETED:
            assert (item.state, product.status) == (ProductOrderItemState.COMPLETED, ProductStatus.ACTIVE)
            assert all(task.state is _S.COMPLETED and task.undone_at is None for task in own)
            assert world.standing == {task.id: task.name for task in own if not task.spec.no_undo_needed}
            assert {one.id for one in product.realizing_resource} == {
                task.id for task in own if task.operation.startswith("reserve")
            }
            assert charges == 2
        else:
            ends = {
                ProductOrderState.FAILED: (ProductOrderItemState.FAILED, ProductStatus.ABORTED),
                ProductOrderState.REJECTED: (ProductOrderItemState.REJECTED, ProductStatus.ABORTED),
                ProductOrderState.CANCELLED: (ProductOrderItemState.CANCELLED, ProductStatus.CANCELLED),
            }
            assert order.state is not None
            assert (item.state, product.status) == ends[order.state]
            assert world.standing == {}, "what was done is undone"
            assert not [task.name for task in own if task.to_undo and not task.spec.no_undo_needed]
            assert charges == 0
        done = [(task_id, attempt) for task_id, attempt, _ in world.deeds]
        assert len(done) == len(set(done)), "nothing is done twice"
        assert order.state is not None
        return order.state

    state: ProductOrderState = ground.do(look)
    return state


@pytest.mark.parametrize("plan", PLANS)
def test_every_step_fails_once(floor: tuple[Floor, World], plan: str) -> None:
    for number, task in enumerate(PLANS[plan]):
        for fault in ("refuse", "busy", "silent", "die", *([] if number else [""])):
            ground, world, order_id = order_on(floor, plan)
            world.faults = {task.name or "": fault}
            ground.settle(order_id)
            state = check_the_end(ground, world, order_id)
            policy = task.on_failure or FailurePolicy.FALLOUT
            once = (task.retry.attempts or 1) if task.retry is not None else 1
            lost = (fault == "refuse" or (fault in ("busy", "silent") and once == 1)) and (
                policy is not FailurePolicy.FALLOUT
            )
            rejected = lost and policy is FailurePolicy.REJECT
            expected = ProductOrderState.REJECTED if rejected else ProductOrderState.FAILED
            assert state is (expected if lost else ProductOrderState.COMPLETED), (task.name, fault)


@pytest.mark.timeout(300)
def test_replicas_are_killed_at_every_answer(floor: tuple[Floor, World], tmp_path: Path) -> None:
    ground, world, withdrawn = order_on(floor, "mobile-line")
    # Credit check and resources are done, the activation isn't.
    world.patience = 3
    while len(world.answered) < 3:
        ground.round()
    ground.withdraw(withdrawn)
    wanted = ground.order("mobile-line")
    deeds = tmp_path / "deeds"
    deeds.touch()
    command = [sys.executable, "-m", "tests.orders.dying", ground.url, str(ground.offset), str(deeds)]
    ended = subprocess.run([*command, withdrawn, wanted], check=True, capture_output=True, text=True, timeout=280)
    assert int(ended.stdout) > 4, "so many were killed"
    assert [ground.state(one) for one in (withdrawn, wanted)] == ["cancelled", "completed"]
    done = deeds.read_text().splitlines()
    # Each was done once, however many have asked for it.
    assert len(done) == len(set(done)) == 3 + 5
    for order_id, stands in ((withdrawn, set()), (wanted, {"number", "sim", "activate", "confirm"})):
        tasks = ground.tasks(order_id)
        assert not [task.name for task in tasks if task.open]
        assert {task.name for task in tasks if task.to_undo and not task.spec.no_undo_needed} == stands


@pytest.mark.parametrize("plan", PLANS)
def test_an_order_is_withdrawn_at_every_boundary_and_every_undoing_fails_once(
    floor: tuple[Floor, World], plan: str
) -> None:
    tasks = PLANS[plan]
    reversible = [task for task in tasks if not task.point_of_no_return]
    kinds = ("refuse", "busy", "silent", "die")
    for answers in range(len(reversible)):
        for first in (answers, answers + 1):
            ground, world, order_id = order_on(floor, plan)
            world.patience = answers
            while len(world.answered) < answers or ground.state(order_id) is ProductOrderState.ACKNOWLEDGED:
                ground.round()
            ground.withdraw(order_id)
            assert ground.state(order_id) is ProductOrderState.PENDING_CANCELLATION
            world.patience = None
            # At each boundary another fault for each of them.
            world.faults = {f"undo {task.name}": kinds[(first + n) % len(kinds)] for n, task in enumerate(tasks)}
            ground.settle(order_id)
            assert check_the_end(ground, world, order_id) is ProductOrderState.CANCELLED, (answers, first)
