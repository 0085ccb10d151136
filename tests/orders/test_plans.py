"""Plans of tasks: what they come from, in which order they go on, how they are undone, and when they are late."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.types import Characteristic, Json, Money
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.plan import (
    PlannedItem,
    Scope,
    ends,
    late_from,
    next_tasks,
    plan,
    stuck,
    task_id,
    told,
)
from orders.fulfilment.specification import BUILT_IN, FulfilmentSpecification, chosen
from orders.fulfilment.undo import Undoable, cost, irrevocable, undo, undo_map
from orders.fulfilment.values import (
    Compensation,
    FailurePolicy,
    FulfilmentTaskState,
    PlannedBy,
    RetryPolicy,
    TaskCondition,
    TaskSpecification,
)

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SCOPE = Scope("order", "bishkek")
_S = FulfilmentTaskState


def spec(name: str, *after: str, undo_by: str | None = None, hours: int = 1, **more: object) -> TaskSpecification:
    """A task of an hour."""
    made = TaskSpecification(
        name=name,
        system="resource",
        operation=name,
        depends_on=after,
        compensation=Compensation(operation=undo_by) if undo_by else None,
        expected_seconds=hours * 3600,
    )
    return replace(made, **more)  # type: ignore[arg-type]


MOBILE = PlannedBy(
    id="spec",
    version=3,
    task=(
        spec("confirm", "activate", hours=0, point_of_no_return=True),
        spec("activate", "number", "sim", undo_by="deactivate", undo_cost=Money(unit="KGS", value=Decimal(50))),
        spec("number", "credit", undo_by="release"),
        spec("sim", "credit", undo_by="release", hours=2),
        spec("credit", of_order=True, no_undo_needed=True, on_failure=FailurePolicy.REJECT),
        spec("letter", "activate", condition=TaskCondition(characteristic="contract", value=("paper",))),
    ),
)


def item(id: str = "a", relies_on: Iterable[str] = (), **values: str) -> PlannedItem:
    known = {name: Json(text) for name, text in values.items()}
    return PlannedItem(id, f"no. {id}", "add", "mobile", values=known, relies_on=tuple(relies_on))


def planned(*items: PlannedItem, by: PlannedBy = MOBILE) -> dict[str, FulfilmentTask]:
    """The tasks of items, by name, and item where there are several."""
    made = plan(SCOPE, items, lambda _: by)
    many = len(items) > 1
    return {f"{t.name} {t.product_order_item_id}" if many and t.product_order_item_id else t.name: t for t in made}


def do(*tasks: FulfilmentTask, **results: str) -> None:
    for task in tasks:
        task.begin(AT, [])
        task.complete(AT, [Characteristic(name=name, value=Json(text)) for name, text in results.items()])


def names(tasks: Iterable[FulfilmentTask]) -> list[str]:
    return sorted(task.name for task in tasks)


# --- what a plan is --------------------------------------------------------------------------------------------------


def test_a_plan_is_the_specifications_tasks_each_after_what_it_depends_on() -> None:
    tasks = planned(item())
    assert list(tasks) == ["credit", "number", "sim", "activate", "confirm"]
    assert [task.position for task in tasks.values()] == [0, 1, 2, 3, 4]
    assert tasks["activate"].depends_on == (tasks["number"].id, tasks["sim"].id)
    assert tasks["number"].depends_on == (tasks["credit"].id,)
    assert tasks["credit"].product_order_item_id is None
    assert {(t.specification_id, t.specification_version, t.branch) for t in tasks.values()} == {("spec", 3, "bishkek")}


def test_the_tasks_of_the_whole_order_are_there_once() -> None:
    tasks = planned(item("a"), item("b"))
    assert names(tasks.values()).count("credit") == 1
    assert tasks["number b"].depends_on == tasks["number a"].depends_on == (tasks["credit"].id,)
    later = plan(SCOPE, [item("c")], lambda _: MOBILE, list(tasks.values()))
    assert "credit" not in names(later)
    assert next(t for t in later if t.name == "sim").depends_on == (tasks["credit"].id,)
    assert min(t.position for t in later) == len(tasks)


def test_what_waits_for_a_task_that_is_left_out_waits_for_what_that_waits_for() -> None:
    by = PlannedBy(
        task=(
            spec("port"),
            spec("visit", "port", condition=TaskCondition(characteristic="wiring")),
            spec("activate", "visit"),
        )
    )
    with_visit, without = planned(item(wiring="true"), by=by), planned(item(wiring="null"), by=by)
    assert with_visit["activate"].depends_on == (with_visit["visit"].id,)
    assert without["activate"].depends_on == (without["port"].id,)


@pytest.mark.parametrize(("value", "there"), [('"paper"', True), ('"mail"', False), ("1", False)])
def test_a_condition_names_the_values_of_a_characteristic(value: str, there: bool) -> None:
    assert ("letter" in planned(item(contract=value))) == there


def test_an_item_that_relies_on_another_begins_when_that_is_done() -> None:
    tasks = planned(item("a", relies_on=["b"]), item("b"), by=BUILT_IN)
    assert next_tasks(list(tasks.values())) == [tasks["provision b"]]
    do(tasks["provision b"])
    assert next_tasks(list(tasks.values())) == [tasks["provision a"]]


def test_a_task_that_is_planned_again_is_the_same_task() -> None:
    uuid = "01931b2e-7c00-7abc-8def-0123456789ab"
    first, again, other = task_id(uuid, "sim"), task_id(uuid, "sim"), task_id(uuid, "sim", 1)
    assert first == again
    assert len({first, other, task_id(uuid, "port"), uuid}) == 4
    assert (len(first), first[:13]) == (36, uuid[:13])


def test_the_closest_specification_is_chosen() -> None:
    def one(id: str, branch: str, of: str | None, action: str = "add") -> FulfilmentSpecification:
        return FulfilmentSpecification(id=id, branch=branch, product_specification_id=of, action=action)

    every = [one("1", "*", None), one("2", "*", "mobile"), one("3", "osh", None), one("4", "osh", "mobile")]
    every.append(one("5", "osh", "mobile", "delete"))
    assert chosen(every, "osh", "mobile", "add").id == "4"
    assert chosen(every[:3], "osh", "mobile", "add").id == "2"
    assert chosen(every, "osh", "fixed", "add").id == "3"
    assert chosen(every[:2], "osh", "", "add").id == "1"
    assert chosen(every, "osh", "mobile", "modify") is BUILT_IN


def test_a_system_is_told_what_the_task_needs_of_its_item_and_of_what_came_before() -> None:
    by = PlannedBy(task=(spec("number"), spec("activate", "number", input=("iccid", "number", "colour"))))
    first = item(iccid='"8999"', colour='"red"')
    tasks = planned(first, by=by)
    do(tasks["number"], number='"+996555"')
    heard = {one.name: one.value for one in told(tasks["activate"], first, tasks.values())}
    assert heard == {"iccid": Json('"8999"'), "colour": Json('"red"'), "number": Json('"+996555"')}


# --- what a specification may say ------------------------------------------------------------------------------------


def refused(*tasks: TaskSpecification, action: str | None = "add") -> list[str]:
    with pytest.raises(InvalidArgument) as error:
        FulfilmentSpecification(id="", branch="*", action=action, task=tasks).check(AT)
    assert error.value.reason == "INVALID_SPECIFICATION"
    return [violation.field for violation in error.value.violations]


def test_every_wrong_field_is_named() -> None:
    assert refused(action=None) == ["action"]
    wrong = TaskSpecification(
        name="a",
        system="",
        depends_on=("b", "x"),
        compensation=Compensation(retry=RetryPolicy(attempts=0)),
        no_undo_needed=True,
        point_of_no_return=True,
        undo_cost=Money(value=Decimal(-1)),
        expected_seconds=-1,
        timeout_seconds=0,
        retry=RetryPolicy(first_pause_seconds=-1, factor=Decimal("0.5")),
        on_failure=FailurePolicy.REJECT,
    )
    assert refused(wrong, spec("b"), spec("b", undo_cost=Money(unit="KGS", value=Decimal(1)))) == [
        "task[0].system",
        "task[0].operation",
        "task[0].depends_on[1]",
        "task[0].compensation.operation",
        "task[0].no_undo_needed",
        "task[0].point_of_no_return",
        "task[0].undo_cost",
        "task[0].on_failure",
        "task[0].expected_seconds",
        "task[0].timeout_seconds",
        "task[0].retry.first_pause_seconds",
        "task[0].retry.factor",
        "task[0].compensation.retry.attempts",
        "task[2].name",
        "task[2].undo_cost",
    ]


def test_a_circle_is_named() -> None:
    with pytest.raises(InvalidArgument) as error:
        FulfilmentSpecification(
            id="", branch="*", action="add", task=(spec("a", "c"), spec("b", "a"), spec("c", "b"))
        ).check(AT)
    (violation,) = error.value.violations
    assert violation.field.endswith("depends_on")
    assert sorted(violation.description.removeprefix("goes in a circle: ").split(" → ")[1:]) == ["a", "b", "c"]


def test_what_is_of_the_order_waits_for_nothing_of_an_item() -> None:
    assert refused(spec("a"), spec("credit", "a", of_order=True)) == ["task[1].depends_on[0]"]


def test_a_specification_without_tasks_is_one() -> None:
    FulfilmentSpecification(id="", branch="*", action="delete").check(AT)
    assert planned(item(), by=PlannedBy(id="nothing to do")) == {}


# --- going on --------------------------------------------------------------------------------------------------------


def test_tasks_begin_when_all_before_them_is_done_or_skipped() -> None:
    tasks = planned(item())
    every = list(tasks.values())
    assert next_tasks(every) == [tasks["credit"]]
    do(tasks["credit"])
    assert next_tasks(every) == [tasks["number"], tasks["sim"]]
    do(tasks["number"])
    tasks["sim"].begin(AT, [])
    tasks["sim"].hold(AT)
    assert (next_tasks(every), stuck(every)) == ([], True)
    tasks["sim"].skip(AT, "somebody", "there is a SIM already")
    assert (next_tasks(every), stuck(every)) == ([tasks["activate"]], False)


@pytest.mark.parametrize(
    ("retry", "pauses"),
    [
        (None, []),
        (RetryPolicy(attempts=4), [60, 120, 240]),
        (RetryPolicy(attempts=4, first_pause_seconds=10, factor=Decimal(3), longest_pause_seconds=50), [10, 30, 50]),
        (RetryPolicy(attempts=100, factor=Decimal(100)), [60, *[3600] * 98]),
        (RetryPolicy(attempts=3, first_pause_seconds=5, factor=Decimal(1)), [5, 5]),
    ],
)
def test_each_pause_is_longer_than_the_one_before_up_to_the_longest(
    retry: RetryPolicy | None, pauses: list[int]
) -> None:
    task = planned(item(), by=PlannedBy(task=(spec("a", retry=retry),)))["a"]
    task.begin(AT, [])
    waited = []
    while task.fail(AT, "busy", retryable=True):
        assert task.due_at is not None
        waited.append((task.due_at - AT).total_seconds())
    assert waited == pauses
    # A person has it tried again with all its attempts, whose numbers go on.
    task.hold(AT)
    task.again(AT)
    assert (task.attempt, task.tried) == (len(pauses) + 2, 1)
    assert task.fail(AT, "busy", retryable=True) == bool(pauses)
    assert not task.fail(AT, "no such thing", retryable=False)


def test_a_person_says_why() -> None:
    task = planned(item(), by=BUILT_IN)["provision"]
    task.begin(AT, [])
    for act in (task.fix, task.give_up):
        with pytest.raises(FailedPrecondition):
            act(AT, "somebody", "done", *([(), ()] if act == task.fix else []))
    task.hold(AT)
    with pytest.raises(InvalidArgument):
        task.skip(AT, "somebody", " ")
    task.fix(AT, "somebody", "plugged in", [Characteristic(name="port", value=Json("7"))], [])
    assert (task.state, task.closed_by, task.reason) == (_S.COMPLETED, "somebody", "plugged in")
    with pytest.raises(FailedPrecondition) as closed:
        task.complete(AT)
    assert closed.value.reason == "TASK_CLOSED"


# --- undoing ---------------------------------------------------------------------------------------------------------


def test_what_is_done_is_undone_in_reverse_order() -> None:
    tasks = planned(item())
    every = list(tasks.values())
    do(tasks["credit"], tasks["number"], tasks["sim"])
    tasks["activate"].begin(AT, [])
    undoing = undo(every, {"a"})
    assert names(task for task, _ in undoing.cancelled) == ["activate", "confirm"]
    assert [doubtful for task, doubtful in undoing.cancelled if task.name == "activate"] == [True]
    by_name = {task.name: task for task in undoing.compensations}
    assert sorted(by_name) == ["undo activate", "undo number", "undo sim"]
    assert by_name["undo activate"].depends_on == ()
    assert by_name["undo number"].depends_on == by_name["undo sim"].depends_on == (by_name["undo activate"].id,)
    assert by_name["undo sim"].compensates == tasks["sim"].id
    assert undoing.lasting == []
    # Once more there is nothing left to undo.
    assert undo([*every, *undoing.compensations], {"a"}).compensations == []


def test_what_may_have_been_asked_by_somebody_who_died_is_undone_too() -> None:
    tasks = planned(item())
    do(tasks["credit"])
    undoing = undo(list(tasks.values()), {"a"})
    assert names(undoing.compensations) == ["undo number", "undo sim"]
    assert {task.name: doubt for task, doubt in undoing.cancelled} == {
        "number": True,
        "sim": True,
        "activate": False,
        "confirm": False,
    }


def test_what_nobody_can_undo_is_named() -> None:
    tasks = planned(item(), by=PlannedBy(task=(spec("cable"), spec("port", "cable"))))
    do(tasks["cable"])
    undoing = undo(list(tasks.values()), {"a"})
    assert (undoing.lasting, undoing.compensations) == ([tasks["cable"]], [])


def test_beyond_the_point_of_no_return_an_item_stays() -> None:
    tasks = planned(item("a"), item("b"))
    every = list(tasks.values())
    do(*(tasks[name] for name in ("credit", "number a", "sim a", "activate a")))
    assert irrevocable(every, {"a", "b"}) == []
    tasks["confirm a"].begin(AT, [])
    assert irrevocable(every, {"a", "b"}) == [tasks["confirm a"]]
    assert irrevocable(every, {"b"}) == []


def test_the_undo_map_says_what_can_be_undone_and_what_it_costs() -> None:
    tasks = planned(item())
    every = list(tasks.values())

    def kinds() -> dict[str, Undoable]:
        return {entry.task.name: entry.undoable for entry in undo_map(every)}

    assert set(kinds().values()) == {Undoable.NOT_BEGUN}
    do(tasks["credit"], tasks["number"], tasks["sim"])
    tasks["number"].undone_at = AT
    tasks["activate"].begin(AT, [])
    assert kinds() == {
        "credit": Undoable.NOTHING_TO_UNDO,
        "number": Undoable.UNDONE,
        "sim": Undoable.CAN_BE_UNDONE,
        "activate": Undoable.CAN_BE_UNDONE,
        "confirm": Undoable.NOT_BEGUN,
    }
    assert cost(undo_map(every)) == {"KGS": Money(unit="KGS", value=Decimal(50))}
    tasks["activate"].complete(AT)
    do(tasks["confirm"])
    assert kinds()["confirm"] is Undoable.POINT_OF_NO_RETURN


# --- in time ---------------------------------------------------------------------------------------------------------


def test_the_critical_path_says_from_when_an_order_is_late() -> None:
    tasks = planned(item())
    every = list(tasks.values())
    promised = AT + 5 * HOUR
    assert ends(every, AT) == AT + 4 * HOUR
    # An hour of credit check, two of the SIM, one of activation: an hour is left.
    assert late_from(every, promised, AT) == {tasks["credit"].id: AT + HOUR}
    do(tasks["credit"])
    assert late_from(every, promised, AT) == {tasks["number"].id: AT + 3 * HOUR, tasks["sim"].id: AT + 2 * HOUR}
    tasks["sim"].begin(AT, [])
    # It is on time as long as it is as fast as expected.
    assert late_from(every, promised, AT + HOUR)[tasks["sim"].id] == promised - HOUR
    assert late_from(every, promised - 3 * HOUR, AT)[tasks["sim"].id] == AT


@st.composite
def some_specification(draw: st.DrawFn) -> tuple[TaskSpecification, ...]:
    """Up to eight tasks, each after some of those before it, most of which can be undone."""
    tasks: list[TaskSpecification] = []
    for number in range(draw(st.integers(1, 8))):
        after = draw(st.lists(st.sampled_from([t.name or "" for t in tasks]), unique=True)) if tasks else []
        undo_by = draw(st.sampled_from(["release", None]))
        tasks.append(spec(f"t{number}", *after, undo_by=undo_by, hours=draw(st.integers(0, 3))))
    return tuple(draw(st.permutations(tasks)))


@given(some_specification(), st.data())
def test_however_far_a_plan_has_come_its_undoing_ends_with_nothing_left(
    wanted: tuple[TaskSpecification, ...], data: st.DataObject
) -> None:
    FulfilmentSpecification(id="", branch="*", action="add", task=wanted).check(AT)
    tasks = plan(SCOPE, [item()], lambda _: PlannedBy(task=wanted))
    order: list[str] = []
    for _ in range(data.draw(st.integers(0, len(tasks)))):
        task = data.draw(st.sampled_from(next_tasks(tasks)))
        do(task)
        order.append(task.id)
    undoing = undo(tasks, {"a"})
    for task, doubtful in undoing.cancelled:
        task.cancel(AT, in_doubt=doubtful)
    every = [*tasks, *undoing.compensations]
    undone: list[str] = []
    while following := next_tasks(every):
        task = data.draw(st.sampled_from(following))
        do(task)
        undone.append(task.compensates or "")
    assert not any(task.open for task in every)
    by_id = {task.id: task for task in tasks}
    assert {task.id for task in undoing.lasting} | set(undone) >= set(order)
    for first, second in ((a, b) for a in undone for b in by_id[a].depends_on if b in undone):
        assert undone.index(first) < undone.index(second)
