"""What the undo map tells is what withdrawing then does: in whatever state an order is."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.convert import from_money
from chassis.errors import FailedPrecondition
from chassis.events import acting
from chassis.types import Money, new_id
from chassis.unit import Unit
from orders.amendment.api import Amendments
from orders.fulfilment.specification import FulfilmentSpecification
from orders.fulfilment.values import Compensation, TaskSpecification
from orders.ordering.domain import ProductOrder
from orders.ordering.values import ProductOrderState
from orders.ordering.withdrawal import withdraw
from svyaz.orders.v1 import amendment_pb2
from tests.conftest import ServiceDatabase
from tests.orders.drill import Floor, World

_CHARGED = """
    SELECT coalesce(sum((draft::jsonb -> 'amount' ->> 'value')::numeric), 0) FROM charge_event
    WHERE draft::jsonb ->> 'productOrderId' = %(order)s AND draft::jsonb ->> 'reason' = 'undo'
"""
UNDO = Compensation(operation="release")


@pytest.fixture(scope="module")
def floor(
    database_for: Callable[..., ServiceDatabase], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Floor, World]]:
    world = World()
    made = Floor(database_for("orders").url, Path(tmp_path_factory.mktemp("floor")) / "offset", world)
    yield made, world
    made.database.close()


@st.composite
def plans(draw: st.DrawFn) -> tuple[TaskSpecification, ...]:
    """A few tasks that wait for earlier ones; some cost something to undo, some can't be."""
    made: list[TaskSpecification] = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["free", "dear", "nothing", "lasting", "final"]))
        before = draw(st.sets(st.sampled_from([one.name or "" for one in made]))) if made else set()
        cost = Money(unit="KGS", value=Decimal(draw(st.integers(1, 99)))) if kind == "dear" else None
        made.append(
            TaskSpecification(
                name=f"task {number}",
                system="resource",
                operation="reserve",
                depends_on=tuple(sorted(before)),
                compensation=UNDO if kind in ("free", "dear") else None,
                no_undo_needed=kind == "nothing" or None,
                point_of_no_return=kind == "final" or None,
                undo_cost=cost,
            )
        )
    return tuple(made)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans(), items=st.integers(1, 2), answers=st.integers(0, 8), rounds=st.integers(0, 8))
def test_the_map_is_what_a_cancellation_does(
    floor: tuple[Floor, World], plan: tuple[TaskSpecification, ...], items: int, answers: int, rounds: int
) -> None:
    ground, world = floor
    world.__init__()  # type: ignore[misc]
    world.patience = answers
    specification = new_id()
    ground.specify(
        FulfilmentSpecification(
            id=new_id(), branch="bishkek", action="add", product_specification_id=specification, task=plan
        )
    )
    order = ground.order(*[specification] * items)
    for _ in range(rounds):
        ground.round()
    told = _map(ground, order)
    cost = [from_money(one) for one in told.cost]

    def cancel(unit: Unit) -> None:
        withdraw(unit, unit.get(ProductOrder, order), "changed his mind", cost)

    def charged(unit: Unit) -> Decimal:
        row = unit.cursor().execute(_CHARGED, {"order": order}).fetchone()
        return Decimal(row[0]) if row is not None else Decimal()

    if not told.can_be_cancelled:
        assert told.reason
        with pytest.raises(FailedPrecondition):
            ground.do(cancel)
        assert ground.do(charged) == 0
        return
    if cost:
        with pytest.raises(FailedPrecondition) as refused:
            ground.do(lambda unit: withdraw(unit, unit.get(ProductOrder, order), "", ()))
        assert refused.value.reason == "COST_NOT_ACCEPTED"
    ground.do(cancel)
    assert ground.do(charged) == sum((one.value or Decimal() for one in cost), Decimal())
    # Each item by itself costs its part of it.
    parts = [from_money(one).value or Decimal() for item in told.item for one in item.cost]
    assert sum(parts, Decimal()) == ground.do(charged)
    assert ground.state(order) in (ProductOrderState.CANCELLED, ProductOrderState.PENDING_CANCELLATION)


def _map(ground: Floor, order: str) -> amendment_pb2.UndoMap:
    with acting("orders", "drill", "bishkek"):
        asked = amendment_pb2.GetUndoMapRequest(product_order_id=order)
        return Amendments(ground.database, cast(Any, None)).GetUndoMap(asked, None)
