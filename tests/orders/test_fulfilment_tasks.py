"""Tasks of orders: systems that answer later, the manual queue, promised dates, and what can't be taken back."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from chassis.errors import (
    AlreadyExists,
    DeadlineExceeded,
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
)
from chassis.types import new_id
from chassis.unit import Unit
from orders.fulfilment.adapters import ByEvent, NullProvisioning, connected
from orders.fulfilment.api import Fulfilments
from orders.fulfilment.reporters import Reporters
from orders.fulfilment.specification import FulfilmentSpecification
from orders.fulfilment.values import Compensation, FailurePolicy, RetryPolicy, TaskSpecification
from orders.inventory.domain import Product
from orders.ordering.domain import ProductOrder, ProductOrderItem
from orders.ordering.store import items_of
from orders.ordering.values import OrderItemRelationship, ProductOrderItemState, ProductOrderState
from orders.ordering.withdrawal import withdraw_items
from svyaz.orders.v1 import fulfilment_pb2, fulfilment_pb2_grpc
from svyaz_cli.issuer import Issuer
from tests.conftest import ServiceDatabase
from tests.orders.drill import SYSTEMS, Floor, World
from tests.serving import Caller, serving

FULFILMENT = "svyaz.orders.v1.FulfilmentService/"
HOUR = timedelta(hours=1)
_O, _I = ProductOrderState, ProductOrderItemState


def task(name: str, system: str, *after: str, undo: str | None = None, **more: Any) -> TaskSpecification:
    """A task of an hour."""
    compensation = Compensation(operation=undo) if undo else None
    about: dict[str, Any] = {"expected_seconds": 3600, "compensation": compensation, **more}
    return TaskSpecification(name=name, system=system, operation=name, depends_on=after, **about)


LINE = FulfilmentSpecification(
    id=new_id(),
    branch="*",
    action="add",
    product_specification_id="line",
    task=(
        task("credit", "credit", of_order=True, no_undo_needed=True, on_failure=FailurePolicy.REJECT),
        task("reserve", "resource", "credit", undo="release", on_failure=FailurePolicy.COMPENSATE),
        task("activate", "provisioning", "reserve", undo="deactivate", retry=RetryPolicy(attempts=2)),
        task("confirm", "resource", "activate", point_of_no_return=True),
    ),
)


@dataclass
class Desk:
    """A floor, its world, and people and systems who call the service."""

    floor: Floor
    world: World
    agent: Caller
    system: Caller
    manager: Caller
    head_office: Caller
    bureau: Caller
    admin: Caller

    def tasks(self, order_id: str) -> dict[str, Any]:
        """The tasks of an order by their names."""
        only = [{"path": "product_order_id", "value": [order_id]}]
        found = self.agent(FULFILMENT + "ListFulfilmentTasks", filter=only, sort=["position"]).items
        return {one.name: one for one in found}

    def state(self, order_id: str, name: str) -> str:
        """Where a task is."""
        number = self.tasks(order_id)[name].state
        return fulfilment_pb2.FulfilmentTaskState.Name(number).removeprefix("FULFILMENT_TASK_STATE_")

    def items(self, order_id: str) -> list[ProductOrderItem]:
        """The items of an order."""
        found: list[ProductOrderItem] = self.floor.do(lambda unit: list(items_of(unit, order_id)))
        return found

    def notes(self, order_id: str) -> str:
        """What is noted on an order."""
        texts = self.floor.do(lambda unit: [note.text for note in unit.get(ProductOrder, order_id).note])
        return "; ".join(texts)

    def held(self, name: str = "activate") -> tuple[str, str]:
        """An order of which a task is held; the ids of both."""
        self.world.refusing = {name}
        order_id = self.floor.order("line")
        self.floor.work()
        assert self.state(order_id, name) == "HELD"
        self.world.refusing = set()
        return order_id, self.tasks(order_id)[name].id


@pytest.fixture(scope="module")
def opened(
    database_for: Callable[..., ServiceDatabase], issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    world = World()
    floor = Floor(database_for("orders").url, Path(tmp_path_factory.mktemp("desk")) / "offset", world)
    floor.specify(LINE)
    service = Fulfilments(floor.database, SYSTEMS, floor.jobs, Reporters.parse("*=service,credit=bureau|service"))
    registration = fulfilment_pb2_grpc.add_FulfilmentServiceServicer_to_server
    with ExitStack() as stack:
        stack.callback(floor.database.close)
        address = stack.enter_context(serving("orders", [(registration, service)], issuer))
        channel = stack.enter_context(grpc.insecure_channel(address))

        def caller(role: str, branch: str = "bishkek", subject: str = "") -> Caller:
            return Caller(channel, issuer.token([role], [branch], subject=subject or role))

        yield Desk(
            floor,
            world,
            caller("agent"),
            caller("service"),
            caller("catalog-manager"),
            caller("catalog-manager", "*"),
            caller("service", subject="bureau"),
            caller("admin"),
        )


@pytest.fixture
def desk(opened: Desk) -> Desk:
    opened.world.__init__()  # type: ignore[misc]
    return opened


# --- systems that answer later ---------------------------------------------------------------------------------------


def test_a_system_that_hears_the_event_says_how_it_ended(desk: Desk) -> None:
    desk.world.by_event = {"activate"}
    order_id = desk.floor.order("line")
    desk.floor.work()
    told = desk.tasks(order_id)["activate"]
    assert (told.sent, told.attempt, desk.floor.state(order_id)) == (True, 1, _O.IN_PROGRESS)
    with pytest.raises(FailedPrecondition, match="attempt"):
        desk.system(FULFILMENT + "FailFulfilmentTask", id=told.id, attempt=2, reason="?")
    request = {"request_id": new_id(), "id": told.id, "attempt": 1, "result": [{"name": "vlan", "value": b"7"}]}
    done = desk.system(FULFILMENT + "CompleteFulfilmentTask", **request)
    assert desk.system(FULFILMENT + "CompleteFulfilmentTask", **request) == done
    # A system that has been restarted says it again, without knowing under which request it did.
    assert desk.system(FULFILMENT + "CompleteFulfilmentTask", id=told.id, attempt=1) == done
    with pytest.raises(FailedPrecondition) as closed:
        desk.system(FULFILMENT + "CompleteFulfilmentTask", id=told.id, attempt=2)
    assert closed.value.reason == "TASK_CLOSED"
    desk.floor.work()
    assert desk.floor.state(order_id) is _O.COMPLETED
    (item,) = desk.items(order_id)
    product = desk.floor.do(lambda unit: unit.get(Product, item.product_id or ""))
    assert {one.name for one in product.product_characteristic} >= {"vlan", "reserve id"}
    assert [one.name for one in product.realizing_resource] == ["reserve"]


def test_what_isnt_answered_in_time_is_tried_again_and_the_answer_to_either_counts(desk: Desk) -> None:
    desk.world.by_event = {"activate"}
    order_id = desk.floor.order("line")
    desk.floor.work()
    desk.floor.pass_by(25 * HOUR)
    desk.floor.work()
    again = desk.tasks(order_id)["activate"]
    assert (again.attempt, again.in_doubt, again.reason) == (2, True, "no answer within 1 day, 0:00:00")
    with pytest.raises(FailedPrecondition) as stale:
        desk.system(FULFILMENT + "FailFulfilmentTask", id=again.id, attempt=1, reason="no")
    assert stale.value.reason == "STALE_ATTEMPT"
    done = desk.system(FULFILMENT + "CompleteFulfilmentTask", id=again.id, attempt=1)
    assert desk.system(FULFILMENT + "CompleteFulfilmentTask", id=again.id, attempt=1) == done
    with pytest.raises(FailedPrecondition) as second:
        # What another attempt has done besides is to be undone by its system.
        desk.system(FULFILMENT + "CompleteFulfilmentTask", id=again.id, attempt=2)
    assert second.value.reason == "TASK_CLOSED"
    desk.floor.work()
    assert desk.floor.state(order_id) is _O.COMPLETED


def test_a_system_speaks_for_its_own_tasks_only(desk: Desk) -> None:
    desk.world.by_event = {"credit", "activate"}
    order_id = desk.floor.order("line")
    desk.floor.work()
    desk.bureau(FULFILMENT + "CompleteFulfilmentTask", id=desk.tasks(order_id)["credit"].id, attempt=1)
    desk.floor.work()
    told = desk.tasks(order_id)["activate"]
    for method in ("Complete", "Fail"):
        with pytest.raises(PermissionDenied) as denied:
            desk.bureau(FULFILMENT + f"{method}FulfilmentTask", id=told.id, attempt=1)
        assert denied.value.reason == "OTHER_SYSTEM"
    assert desk.tasks(order_id)["activate"].etag == told.etag
    desk.admin(FULFILMENT + "CompleteFulfilmentTask", id=told.id, attempt=1)
    assert desk.state(order_id, "activate") == "COMPLETED"


def test_whom_settings_let_speak_is_read_strictly() -> None:
    assert Reporters.parse(" a=x|y, b=* ").subjects == {"a": {"x", "y"}, "b": {"*"}}
    for malformed in ("a", "a=", "=x", "a=x,a=y"):
        with pytest.raises(ValueError, match="FULFILMENT_SYSTEM_SUBJECTS"):
            Reporters.parse(malformed)


def test_systems_are_simulated_only_where_somebody_says_so(caplog: pytest.LogCaptureFixture) -> None:
    pretending = NullProvisioning()
    with pytest.raises(ValueError, match="FULFILMENT_SIMULATED"):
        connected({}, pretending)
    real = connected({"FULFILMENT_BY_EVENT": "credit, network"}, pretending)
    assert sorted(real) == ["credit", "network"]
    assert not caplog.records
    both = connected({"FULFILMENT_BY_EVENT": "credit", "FULFILMENT_SIMULATED": "credit,resource"}, pretending)
    assert both["resource"] is pretending
    assert isinstance(both["credit"], ByEvent)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_only_an_attempt_that_begins_is_told_to_a_system(desk: Desk) -> None:
    desk.world.by_event = {"activate"}
    order_id = desk.floor.order("line")
    desk.floor.work()
    told = desk.tasks(order_id)["activate"]
    desk.system(FULFILMENT + "FailFulfilmentTask", id=told.id, attempt=1, reason="busy", retryable=True)
    desk.floor.pass_by(HOUR)
    desk.floor.work()

    def events(unit: Unit) -> list[tuple[int, bool]]:
        rows = unit.cursor().execute("SELECT data FROM event WHERE aggregate_id = %s ORDER BY version", [told.id])
        said = [fulfilment_pb2.FulfilmentTask.FromString(row[0]) for row in rows]
        return [(one.attempt, one.sent) for one in said if one.state == told.state]

    assert list(dict.fromkeys(desk.floor.do(events))) == [(1, True), (2, False), (2, True)]


@pytest.mark.parametrize(
    ("error", "end"),
    [(DeadlineExceeded, (1, "IN_PROGRESS", "")), (PermissionDenied, (2, "IN_PROGRESS", "LATE: no answer"))],
)
def test_what_one_system_raises_takes_no_others_answer_with_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: type[DomainError], end: tuple[int, str, str]
) -> None:
    asked = World.start

    def start(world: World, task: Any, item: Any) -> Any:
        if task.name == "activate":
            raise error("LATE", "no answer")
        return asked(world, task, item)

    monkeypatch.setattr(World, "start", start)
    order_id = desk.floor.order("line")
    desk.floor.work()
    assert desk.state(order_id, "reserve") == "COMPLETED"
    told = desk.tasks(order_id)["activate"]
    assert (told.attempt, desk.state(order_id, "activate"), told.reason) == end


def test_a_credit_check_holds_an_order_and_rejects_it(desk: Desk) -> None:
    desk.world.by_event = {"credit"}
    order_id = desk.floor.order("line", "line")
    desk.floor.work()
    assert list(desk.tasks(order_id)) == ["credit", "reserve", "activate", "confirm"]
    check = desk.tasks(order_id)["credit"]
    assert desk.world.deeds == []
    desk.system(FULFILMENT + "FailFulfilmentTask", id=check.id, attempt=1, reason="owes too much")
    desk.floor.settle(order_id)
    assert desk.floor.state(order_id) is _O.REJECTED
    assert {item.state for item in desk.items(order_id)} == {_I.REJECTED}
    assert "owes too much" in desk.notes(order_id)
    assert desk.world.standing == {}


# --- the manual queue ------------------------------------------------------------------------------------------------


def test_what_is_held_is_assigned_fixed_with_a_reason_and_goes_on(desk: Desk) -> None:
    order_id, held = desk.held()
    assert desk.floor.state(order_id) is _O.HELD
    assert [item.state for item in desk.items(order_id)] == [_I.HELD]
    queue = [{"path": "state", "value": ["held"]}, {"path": "system", "value": ["provisioning"]}]
    assert held in {one.id for one in desk.agent(FULFILMENT + "ListFulfilmentTasks", filter=queue).items}
    assert desk.agent(FULFILMENT + "AssignFulfilmentTask", id=held, assignee="aigul").assignee == "aigul"
    with pytest.raises(InvalidArgument):
        desk.agent(FULFILMENT + "FixFulfilmentTask", id=held)
    fixed = desk.agent(
        FULFILMENT + "FixFulfilmentTask", id=held, reason="patched", result=[{"name": "slot", "value": b'"4"'}]
    )
    assert (fixed.closed_by, fixed.reason) == ("agent", "patched")
    desk.floor.work()
    assert desk.floor.state(order_id) is _O.COMPLETED
    (item,) = desk.items(order_id)
    product = desk.floor.do(lambda unit: unit.get(Product, item.product_id or ""))
    assert "slot" in {one.name for one in product.product_characteristic}


@pytest.mark.parametrize(
    ("method", "end"),
    [("Retry", _O.COMPLETED), ("Skip", _O.COMPLETED), ("GiveUp", _O.FAILED)],
)
def test_what_is_held_is_tried_again_skipped_or_given_up(desk: Desk, method: str, end: ProductOrderState) -> None:
    order_id, held = desk.held()
    desk.agent(FULFILMENT + f"{method}FulfilmentTask", id=held, reason="seen to it")
    desk.floor.settle(order_id)
    assert desk.floor.state(order_id) is end
    assert bool(desk.world.standing) == (end is _O.COMPLETED)
    with pytest.raises(FailedPrecondition):
        desk.agent(FULFILMENT + f"{method}FulfilmentTask", id=held, reason="once more")


def test_an_order_isnt_at_its_end_while_something_is_being_undone(desk: Desk) -> None:
    order_id, held = desk.held()
    desk.world.refusing = {"undo reserve"}
    desk.agent(FULFILMENT + "GiveUpFulfilmentTask", id=held, reason="no such port")
    desk.floor.work()
    assert desk.state(order_id, "undo reserve") == "HELD"
    assert desk.floor.state(order_id) is _O.HELD
    assert [item.state for item in desk.items(order_id)] == [_I.HELD]
    undoing = desk.tasks(order_id)["undo reserve"]
    with pytest.raises(FailedPrecondition):
        desk.agent(FULFILMENT + "GiveUpFulfilmentTask", id=undoing.id, reason="never mind")
    desk.agent(FULFILMENT + "SkipFulfilmentTask", id=undoing.id, reason="the system is gone")
    desk.floor.work()
    assert desk.floor.state(order_id) is _O.FAILED
    assert "not undone: reserve" in desk.notes(order_id)


def test_a_job_stops_at_its_threshold_and_goes_on_when_it_is_resumed(desk: Desk) -> None:
    orders = [desk.held()[0] for _ in range(5)]
    desk.world.refusing = {"activate"}
    job = desk.agent(
        FULFILMENT + "CreateFulfilmentJob",
        fulfilment_job={"action": "FULFILMENT_JOB_ACTION_RETRY", "failure_threshold": 2},
        filter=[{"path": "product_order_id", "value": orders}],
    )
    assert job.progress.total == 5

    def work() -> Any:
        for _ in range(4):
            desk.floor.work()
            desk.floor.pass_by(timedelta(minutes=2))
        return desk.agent(FULFILMENT + "GetFulfilmentJob", id=job.id)

    stopped = work()
    assert stopped.state == fulfilment_pb2.FULFILMENT_JOB_STATE_STOPPED
    assert (stopped.progress.failed, stopped.progress.waiting) == (2, 3)
    desk.world.refusing = set()
    desk.agent(FULFILMENT + "ResumeFulfilmentJob", id=job.id)
    ended = work()
    assert ended.state == fulfilment_pb2.FULFILMENT_JOB_STATE_COMPLETED
    assert (ended.progress.failed, ended.progress.done) == (2, 3)
    listed = desk.agent(FULFILMENT + "ListFulfilmentJobTasks", id=job.id).items
    assert sorted(one.reason for one in listed) == ["", "", "", "not now", "not now"]
    assert [desk.floor.state(order_id) for order_id in orders].count(_O.COMPLETED) == 3


# --- what can't be taken back ----------------------------------------------------------------------------------------


def test_beyond_the_point_of_no_return_nothing_is_withdrawn(desk: Desk) -> None:
    order_id, held = desk.held("confirm")
    # Held, it hasn't been done: the order can be withdrawn.
    desk.floor.withdraw(order_id)
    desk.floor.settle(order_id)
    with pytest.raises(FailedPrecondition) as late:
        desk.agent(FULFILMENT + "GiveUpFulfilmentTask", id=held, reason="late")
    assert late.value.reason == "BAD_TRANSITION"
    assert desk.floor.state(order_id) is _O.CANCELLED
    desk.world.by_event = {"confirm"}
    order_id = desk.floor.order("line")
    desk.floor.work()
    with pytest.raises(FailedPrecondition) as refused:
        desk.floor.withdraw(order_id)
    assert refused.value.reason == "POINT_OF_NO_RETURN"
    assert "'confirm'" in refused.value.message
    assert [one.field for one in refused.value.violations] == ["product_order_item[1]"]
    assert desk.floor.state(order_id) is _O.IN_PROGRESS


def test_one_item_is_withdrawn_and_the_order_goes_on_with_the_other(desk: Desk) -> None:
    desk.world.by_event = {"activate"}
    order_id = desk.floor.order("line", "line")
    desk.floor.work()
    first = desk.items(order_id)[0].id

    def one_less(unit: Unit) -> None:
        order = unit.get(ProductOrder, order_id)
        withdraw_items(unit, order, items_of(unit, order_id)[:1], "not this one")

    desk.floor.do(one_less)
    desk.world.by_event = set()
    desk.floor.settle(order_id)
    # The other one's system was told, and answers at last.
    assert desk.floor.state(order_id) is _O.COMPLETED
    assert [item.state for item in desk.items(order_id)] == [_I.CANCELLED, _I.COMPLETED]
    left = {one.product_order_item_id for one in desk.tasks(order_id).values() if one.id in desk.world.standing}
    assert first not in left


def test_what_relies_on_an_item_that_fails_fails_with_it(desk: Desk) -> None:
    desk.world.refusing = {"reserve"}
    order_id = desk.floor.order("line", "something else", "something else")

    def relate(unit: Unit) -> None:
        one = items_of(unit, order_id)[1]
        relation = OrderItemRelationship(id="1", relationship_type="reliesOn")
        one.item = replace(one.item, product_order_item_relationship=(relation,))

    desk.floor.do(relate)
    desk.floor.settle(order_id)
    assert [item.state for item in desk.items(order_id)] == [_I.FAILED, _I.FAILED, _I.COMPLETED]
    assert desk.floor.state(order_id) is _O.PARTIAL
    assert set(desk.world.standing.values()) == {"provision"}


# --- in time ---------------------------------------------------------------------------------------------------------


def test_that_an_order_would_be_late_is_said_once_and_taken_back(desk: Desk) -> None:
    desk.world.by_event = {"reserve"}
    now = desk.floor.database.clock.now()
    # Three hours are still needed when the credit check is done.
    order_id = desk.floor.order("line", requested_completion_date=now + 4 * HOUR)

    def events() -> list[str]:
        query = "SELECT aggregate_type FROM event WHERE ordering_key = %(order)s AND type LIKE '%%JeopardyEvent'"
        rows = desk.floor.do(lambda unit: unit.cursor().execute(query, {"order": order_id}).fetchall())
        return sorted(row[0] for row in rows)

    desk.floor.work()
    assert events() == []
    # An hour is left over; the task is expected within one, and may take two.
    desk.floor.pass_by(2 * HOUR + timedelta(minutes=1))
    for _ in range(3):
        desk.floor.work()
        desk.floor.pass_by(timedelta(minutes=1))
    assert events() == ["FulfilmentTask", "ProductOrder"]
    assert desk.tasks(order_id)["reserve"].HasField("jeopardy_at")

    def promise(unit: Unit) -> None:
        unit.get(ProductOrder, order_id).expected_completion_date = now + 10 * HOUR

    desk.floor.do(promise)
    told = desk.tasks(order_id)["reserve"]
    desk.system(FULFILMENT + "CompleteFulfilmentTask", id=told.id, attempt=1)
    desk.world.by_event = {"activate"}
    desk.floor.work()
    assert desk.floor.do(lambda unit: unit.get(ProductOrder, order_id).jeopardy_date) is None
    assert len(events()) == 2
    desk.floor.pass_by(9 * HOUR)
    desk.floor.work()
    assert len(events()) == 4


# --- specifications --------------------------------------------------------------------------------------------------


def test_a_specification_is_refused_with_every_field_that_is_wrong(desk: Desk) -> None:
    body = {"action": "add", "product_specification_id": "tv", "task": [{"name": "a", "system": "x", "operation": "b"}]}
    create = FULFILMENT + "CreateFulfilmentSpecification"
    with pytest.raises(InvalidArgument) as refused:
        desk.manager(create, fulfilment_specification=body)
    assert [one.field for one in refused.value.violations] == ["task[0].system"]
    body["task"] = [{"name": "a", "system": "delivery", "operation": "b", "depends_on": ["c"]}]
    with pytest.raises(InvalidArgument) as refused:
        desk.manager(create, fulfilment_specification=body)
    assert [one.field for one in refused.value.violations] == ["task[0].depends_on[0]"]


def test_a_branch_says_once_how_something_is_fulfilled_and_head_office_for_all(desk: Desk) -> None:
    body = {"action": "delete", "product_specification_id": "tv"}
    create = FULFILMENT + "CreateFulfilmentSpecification"
    made = desk.manager(create, fulfilment_specification=body)
    with pytest.raises(AlreadyExists) as there:
        desk.manager(create, fulfilment_specification=body)
    assert (there.value.reason, there.value.metadata) == ("SPECIFICATION_EXISTS", {"id": made.id})
    with pytest.raises(PermissionDenied):
        desk.manager(create, branch="*", fulfilment_specification=body)
    assert desk.head_office(create, branch="*", fulfilment_specification=body).branch == "*"
    with pytest.raises(InvalidArgument) as refused:
        desk.manager(
            FULFILMENT + "UpdateFulfilmentSpecification",
            fulfilment_specification={"id": made.id, "action": "add"},
            update_mask={"paths": ["action"]},
        )
    assert refused.value.reason == "IMMUTABLE"
