"""What an order's new version is beside the one that is being carried out."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import FailedPrecondition
from chassis.types import EPOCH, Json, Money
from orders.amendment.difference import Difference, Version, difference
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.plan import PlannedItem, Scope, next_tasks, plan
from orders.fulfilment.specification import BUILT_IN
from orders.fulfilment.undo import undo
from orders.fulfilment.values import Compensation, FulfilmentTaskState, PlannedBy, TaskCondition, TaskSpecification
from orders.ordering.assessment import check_accepted

_S = FulfilmentTaskState
UNDO = Compensation(operation="release")
NUMBER = TaskSpecification(
    name="number", system="resource", operation="reserve", input=("phoneNumber",), compensation=UNDO
)
ROUTER = TaskSpecification(
    name="router", system="delivery", operation="ship", input=("place",), point_of_no_return=True
)
GIFT = TaskSpecification(
    name="gift",
    system="delivery",
    operation="ship",
    compensation=UNDO,
    condition=TaskCondition(characteristic="gift"),
)
ACTIVE = TaskSpecification(
    name="active", system="provisioning", operation="activate", depends_on=("number",), compensation=UNDO
)
BY = PlannedBy(id="s", version=1, task=(NUMBER, ROUTER, GIFT, ACTIVE))


def an_item(number: str = "1", **values: str) -> PlannedItem:
    told = {"phoneNumber": "1", "place": "a", **values}
    return PlannedItem(
        id=f"row {number}",
        order_item_id=number,
        action="add",
        values={name: Json(f'"{value}"') for name, value in told.items()},
    )


def planned(*items: PlannedItem, by: PlannedBy = BY) -> list[FulfilmentTask]:
    return plan(Scope("order", "bishkek"), items, lambda _: by)


def done(tasks: list[FulfilmentTask], *names: str) -> list[FulfilmentTask]:
    for task in tasks:
        if task.name in names:
            task.begin(EPOCH, ())
            task.complete(EPOCH)
    return tasks


def found(old: list[Version], new: list[PlannedItem], tasks: list[FulfilmentTask], by: PlannedBy = BY) -> Difference:
    def replan(item: PlannedItem, generation: int) -> list[FulfilmentTask]:
        return plan(Scope("order", "bishkek", generation), [item], lambda _: by, tasks)

    return difference(old, [Version(item) for item in new], tasks, replan)


def test_what_stays_as_it_is_keeps_all_its_tasks() -> None:
    item = an_item()
    same = found([Version(item)], [item], done(planned(item), "number"))
    assert (same.kept, same.empty) == (("1",), True)


def test_a_change_concerns_who_uses_it_and_what_depends_on_that() -> None:
    old = an_item()
    tasks = done(planned(old), "number")
    (changed,) = found([Version(old)], [an_item(phoneNumber="2")], tasks).changed
    assert [task.name for task in changed.undone] == ["number", "active"]
    assert [task.name for task in changed.again] == ["number", "active"]
    number, active = changed.again
    assert active.depends_on == (number.id,)
    # They are other tasks than those that were.
    assert {task.id for task in changed.again}.isdisjoint(task.id for task in tasks)


def test_a_change_that_no_task_uses_keeps_all_of_them() -> None:
    old = an_item()
    (changed,) = found([Version(old)], [an_item(colour="red")], done(planned(old), "number", "router")).changed
    assert (changed.undone, changed.again) == ((), ())


def test_a_condition_that_holds_now_adds_its_task_and_one_that_does_not_takes_it_away() -> None:
    plain, gifted = an_item(), an_item(gift="yes")
    (changed,) = found([Version(plain)], [gifted], planned(plain)).changed
    assert ([task.name for task in changed.undone], [task.name for task in changed.again]) == ([], ["gift"])
    (changed,) = found([Version(gifted)], [plain], done(planned(gifted), "gift")).changed
    assert ([task.name for task in changed.undone], [task.name for task in changed.again]) == (["gift"], [])


def test_what_is_beyond_its_point_of_no_return_is_named_with_its_item() -> None:
    old = an_item()
    tasks = done(planned(old), "router")
    refused = found([Version(old)], [an_item(place="b")], tasks)
    with pytest.raises(FailedPrecondition) as error:
        refused.check()
    assert error.value.reason == "POINT_OF_NO_RETURN"
    assert [violation.field for violation in error.value.violations] == ["product_order_item[1]"]
    assert "'router'" in error.value.message
    # It isn't concerned by another number.
    found([Version(old)], [an_item(phoneNumber="2")], tasks).check()
    # Nor can the item be withdrawn.
    assert found([Version(old)], [an_item("2")], tasks).refused


def test_items_come_and_go_and_what_has_ended_stays() -> None:
    one, two, three = an_item("1"), an_item("2"), an_item("3")
    tasks = planned(one, two)
    moved = found([Version(one), Version(two)], [two, three], tasks)
    assert (moved.kept, moved.added, moved.withdrawn) == (("2",), ("3",), ("1",))
    completed = Version(one, completed=True)
    assert found([completed, Version(two)], [two], tasks).refused
    assert found([completed], [an_item("1", place="b")], tasks).refused
    assert not found([completed], [one], tasks).refused
    # What came to nothing needn't be named again.
    assert found([Version(one, closed=True), Version(two)], [two], tasks).empty
    assert found([Version(one)], [replace(one, action="delete")], tasks).refused


def test_who_has_said_nothing_of_his_tasks_has_all_done_again() -> None:
    old = an_item()
    tasks = done(planned(old, by=BUILT_IN), "provision")
    (changed,) = found([Version(old)], [an_item(colour="red")], tasks, BUILT_IN).changed
    assert [task.name for task in changed.again] == ["provision"]


def test_an_item_that_is_changed_again_goes_on_from_its_latest_tasks() -> None:
    first = an_item()
    tasks = done(planned(first), "number")
    (changed,) = found([Version(first)], [an_item(phoneNumber="2")], tasks).changed
    for task in changed.undone:
        task.undone_at = EPOCH
    again = list(changed.again)
    for place, task in enumerate(again):
        task.position = len(tasks) + place
    tasks += again
    (second,) = found([Version(an_item(phoneNumber="2"))], [an_item(phoneNumber="3")], tasks).changed
    assert [task.id for task in second.undone] == [task.id for task in again]
    assert {task.generation for task in second.again} == {2}


@given(
    st.sets(st.sampled_from(["number", "router", "gift", "active"])),
    st.dictionaries(st.sampled_from(["phoneNumber", "place", "gift", "colour"]), st.sampled_from(["1", "2", "a"])),
    st.dictionaries(st.sampled_from(["phoneNumber", "place", "gift", "colour"]), st.sampled_from(["1", "2", "a"])),
)
def test_whatever_changes_each_task_of_the_new_plan_is_done_once(
    names: set[str], before: dict[str, str], after: dict[str, str]
) -> None:
    old, new = an_item(**before), an_item(**after)
    tasks = planned(old)
    for task in tasks:
        if task.name in names and task in next_tasks(tasks):
            done(tasks, task.name)
    result = found([Version(old)], [new], tasks)
    gone = {task.id for one in result.changed for task in one.undone}
    again = [task for one in result.changed for task in one.again]
    left = [task.name for task in tasks if task.id not in gone] + [task.name for task in again]
    assert sorted(left) == sorted(task.name for task in planned(new))
    known = {task.id for task in [*tasks, *again] if task.id not in gone}
    assert all(set(task.depends_on) <= known for task in again)
    if not result.refused:
        # What has to be undone can be.
        assert not undo(tasks, {old.id}, only=gone).lasting


def test_what_costs_more_than_was_accepted_is_refused_with_what_it_costs() -> None:
    cost = [Money(unit="KGS", value=Decimal(10)), Money(unit="USD", value=Decimal(1))]
    check_accepted(cost, [*cost])
    check_accepted([], [])
    with pytest.raises(FailedPrecondition) as error:
        check_accepted(cost, [Money(unit="KGS", value=Decimal(10))])
    assert error.value.metadata == {"cost USD": "1"}
