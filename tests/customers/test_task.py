"""Work items: what is open is open once, goes to somebody, and comes to one end.

The database keeps what earlier tests left, so each takes a subject of its own.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from chassis import calls
from chassis.convert import to_timestamp
from chassis.db import Database
from chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from customers.task import store
from customers.task.api import timers
from customers.task.domain import TRANSITIONS, WorkItem, WorkItemState
from svyaz.customers.v1 import task_pb2
from svyaz.type.v1 import requests_pb2
from tests.serving import Caller

TASK = "svyaz.customers.v1.TaskService/"
AT = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)


def made(agent: Caller, subject: str, **values: Any) -> Any:
    item = task_pb2.WorkItem(**{"kind": "clarify-number", "subject_id": subject, "customer_id": "c1", **values})
    return agent(f"{TASK}CreateWorkItem", work_item=item)


def by_itself(database: Database, branch: str, work: Callable[[Any], Any]) -> Any:
    with calls.using(calls.Call.background("customers", "test", branches=(branch,))), database.unit() as unit:
        return work(unit)


def opened(database: Database, subject: str, **values: Any) -> WorkItem:
    item: WorkItem = by_itself(
        database,
        "bishkek",
        lambda unit: store.open_task(
            unit, **{"kind": "review", "branch": "bishkek", "subject_id": subject, "subject_type": "Pair", **values}
        ),
    )
    return item


def test_an_item_is_opened_given_begun_and_ended(agent: Caller) -> None:
    item = made(agent, "s1", description="wrong person", team="care")
    assert (item.state, item.priority, item.branch) == (task_pb2.WORK_ITEM_STATE_OPEN, 3, "bishkek")
    given = agent(f"{TASK}AssignWorkItem", id=item.id, assignee="aida", etag=item.etag)
    assert (given.assignee, given.team) == ("aida", "care")
    begun = agent(f"{TASK}StartWorkItem", id=item.id)
    assert begun.state == task_pb2.WORK_ITEM_STATE_IN_PROGRESS
    # Whoever gets it next begins anew.
    assert agent(f"{TASK}AssignWorkItem", id=item.id, assignee="bek").state == task_pb2.WORK_ITEM_STATE_OPEN
    done = agent(f"{TASK}CompleteWorkItem", id=item.id, outcome="number is her brother's")
    assert (done.state, done.outcome) == (task_pb2.WORK_ITEM_STATE_DONE, "number is her brother's")
    assert done.closed_at.seconds
    for refused in ("CompleteWorkItem", "CancelWorkItem", "StartWorkItem"):
        with pytest.raises(FailedPrecondition) as refusal:
            agent(f"{TASK}{refused}", id=item.id)
        assert refusal.value.reason == "BAD_TRANSITION"
    with pytest.raises(FailedPrecondition, match="is done: open another one"):
        agent(f"{TASK}AssignWorkItem", id=item.id, assignee="aida")


def test_a_second_one_about_the_same_is_refused_until_the_first_is_closed(agent: Caller, caller_of: Any) -> None:
    first = made(agent, "s2")
    with pytest.raises(AlreadyExists) as refusal:
        made(agent, "s2")
    assert (refusal.value.reason, refusal.value.metadata["id"]) == ("WORK_ITEM_OPEN", first.id)
    assert made(agent, "s2", kind="call-back").id != first.id
    # Another branch's is another one, and unseen.
    theirs = made(caller_of("osh"), "s2")
    with pytest.raises(NotFound):
        agent(f"{TASK}GetWorkItem", id=theirs.id)
    agent(f"{TASK}CancelWorkItem", id=first.id, outcome="unneeded")
    assert made(agent, "s2").id != first.id


def test_open_task_answers_the_one_that_is_open(database: Database, agent: Caller) -> None:
    first = opened(database, "s3", description="first")
    again = opened(database, "s3", description="second")
    assert (again.id, again.description) == (first.id, "first")
    agent(f"{TASK}CompleteWorkItem", id=first.id)
    assert opened(database, "s3").id != first.id
    by_itself(
        database,
        "bishkek",
        lambda unit: store.close_task(unit, kind="review", branch="bishkek", subject_id="s3", outcome="merged"),
    )
    listed = agent(
        f"{TASK}ListWorkItems", filter=[requests_pb2.Filter(path="subject_id", value=["s3"])], sort=["created_at"]
    )
    assert [item.state for item in listed.items] == [task_pb2.WORK_ITEM_STATE_DONE] * 2
    assert listed.items[1].outcome == "merged"


def test_whoever_finds_the_same_at_the_same_time_opens_one(database: Database, place: Any) -> None:
    together = threading.Barrier(8)
    found: list[str] = []

    def find() -> None:
        together.wait()
        found.append(opened(database, "s4").id)

    threads = [threading.Thread(target=find) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    events = by_itself(
        database,
        "bishkek",
        lambda unit: unit.cursor().execute("SELECT type FROM event WHERE aggregate_id = %s", found[:1]).fetchall(),
    )
    assert events == [("WorkItemCreateEvent",)]


def test_what_is_still_open_when_it_is_due_says_so_once(database: Database, agent: Caller) -> None:
    past = to_timestamp(datetime.now(UTC) - timedelta(hours=1))
    item = made(agent, "s5", due_at=past)
    fall_due = timers()[store.OVERDUE]
    for _ in range(2):
        by_itself(database, "bishkek", lambda unit: fall_due(item.id, unit))
    late = agent(f"{TASK}GetWorkItem", id=item.id)
    assert (late.overdue, late.etag) == (True, "2")
    events = by_itself(
        database,
        "bishkek",
        lambda unit: (
            unit.cursor()
            .execute("SELECT type FROM event WHERE aggregate_id = %s ORDER BY version", [item.id])
            .fetchall()
        ),
    )
    assert events == [("WorkItemCreateEvent",), ("WorkItemOverdueEvent",)]
    later = task_pb2.WorkItem(id=item.id, due_at=to_timestamp(datetime.now(UTC) + timedelta(hours=1)))
    changed = agent(f"{TASK}UpdateWorkItem", work_item=later, update_mask=FieldMask(paths=["due_at"]))
    assert not changed.overdue


def test_its_timer_goes_with_it(database: Database, agent: Caller) -> None:
    def due(item_id: str) -> list[Any]:
        found: list[Any] = by_itself(
            database,
            "bishkek",
            lambda unit: unit.cursor().execute("SELECT due FROM timer WHERE aggregate_id = %s", [item_id]).fetchall(),
        )
        return found

    at = datetime(2030, 1, 1, tzinfo=UTC)
    item = made(agent, "s6", due_at=to_timestamp(at))
    assert due(item.id) == [(at,)]
    agent(f"{TASK}CompleteWorkItem", id=item.id)
    assert due(item.id) == []


def test_what_it_is_about_stays_and_how_far_it_is_isnt_written_over(agent: Caller) -> None:
    item = made(agent, "s7")
    wanted = task_pb2.WorkItem(id=item.id, kind="other", state=task_pb2.WORK_ITEM_STATE_DONE, priority=1)
    with pytest.raises(InvalidArgument, match="can't change"):
        agent(f"{TASK}UpdateWorkItem", work_item=wanted, update_mask=FieldMask(paths=["kind"]))
    changed = agent(f"{TASK}UpdateWorkItem", work_item=wanted, update_mask=FieldMask(paths=["state", "priority"]))
    assert (changed.state, changed.priority) == (task_pb2.WORK_ITEM_STATE_OPEN, 1)
    wanted.priority = 6
    with pytest.raises(InvalidArgument) as refusal:
        agent(f"{TASK}UpdateWorkItem", work_item=wanted, update_mask=FieldMask(paths=["priority"]))
    assert refusal.value.reason == "OUT_OF_RANGE"


@pytest.mark.parametrize("state", WorkItemState)
@pytest.mark.parametrize("wanted", WorkItemState)
def test_only_the_transitions_of_the_table_happen(state: WorkItemState, wanted: WorkItemState) -> None:
    item = WorkItem(id="1", branch="b", kind="k", state=state)
    if wanted in TRANSITIONS[state]:
        item.move(wanted, AT, "so")
        assert (item.state, item.closed_at) == (wanted, None if item.undone else AT)
        return
    with pytest.raises(FailedPrecondition):
        item.move(wanted, AT, "so")
    assert (item.state, item.outcome) == (state, None)
