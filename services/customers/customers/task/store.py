"""The table of work items, and how the other sub-domains open and close them."""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from chassis.connections import Conflict
from chassis.schema import Resource, aggregate_table
from chassis.timers import cancel_timer, set_timer
from chassis.types import Aggregate, new_id
from chassis.unit import Unit
from customers.schema import UnderMerge, metadata, under_merge
from customers.task.domain import UNDONE, WorkItem, WorkItemState
from svyaz.customers.v1 import task_pb2

# The purpose of our timers.
OVERDUE = "workItemOverdue"

_UNDONE = f"state IN ({', '.join(repr(str(state)) for state in UNDONE)})"
work_item = aggregate_table(
    metadata,
    "work_item",
    WorkItem,
    # What makes an open item the only one of its kind and subject, whoever finds the occasion how often.
    sa.Index("work_item_undone", "branch", "kind", "subject_id", unique=True, postgresql_where=sa.text(_UNDONE)),
    sa.Index("work_item_undone_assignee", "branch", "assignee", "id", postgresql_where=sa.text(_UNDONE)),
    sa.Index("work_item_undone_team", "branch", "team", "id", postgresql_where=sa.text(_UNDONE)),
    sa.Index("work_item_customer_id", "customer_id", "branch"),
    sa.Index("work_item_subject_id", "subject_id", "branch"),
)
under_merge(UnderMerge.BY_MEMBERS, work_item, columns=("customer_id", "subject_id"))

RESOURCES: Mapping[type[Aggregate], Resource] = {WorkItem: Resource(task_pb2.WorkItem, work_item)}
ISOLATED = (work_item.name,)


def open_task(
    unit: Unit,
    *,
    kind: str,
    branch: str,
    subject_id: str,
    subject_type: str,
    customer_id: str | None = None,
    description: str | None = None,
    assignee: str | None = None,
    team: str | None = None,
    due_at: datetime | None = None,
    priority: int | None = None,
) -> WorkItem:
    """The open item of that kind about the subject: a new one, with its event, or the one that is open already, as it
    is (a new one's revision is 1, before anybody has changed it). Raises what `WorkItem.check` does."""
    item = WorkItem(
        id=new_id(),
        branch=branch,
        kind=kind,
        customer_id=customer_id,
        subject_id=subject_id,
        subject_type=subject_type,
        description=description,
        assignee=assignee,
        team=team,
        due_at=due_at,
        priority=priority,
    )
    item.check(unit.at)
    if add(unit, item):
        return item
    found = undone(unit, branch, kind, subject_id)
    if found is None:
        # It was closed while we looked: who tries again opens another one.
        raise Conflict
    return found


def add(unit: Unit, item: WorkItem) -> bool:
    """Saves a new item, unless one of its kind and subject is open; whether it was saved."""
    added = unit.add_unless_there(item)
    if added:
        remind(unit, item)
    return added


def undone(unit: Unit, branch: str, kind: str, subject_id: str) -> WorkItem | None:
    """The open item of that kind about the subject."""
    condition = f"branch = %(branch)s AND kind = %(kind)s AND subject_id = %(subject)s AND {_UNDONE}"
    return next(iter(unit.load(WorkItem, condition, {"branch": branch, "kind": kind, "subject": subject_id})), None)


def undone_of_kind(unit: Unit, branch: str, kind: str) -> list[WorkItem]:
    """The open items of a kind, for kinds of which there are few."""
    condition = f"branch = %(branch)s AND kind = %(kind)s AND {_UNDONE}"
    return unit.load(WorkItem, condition, {"branch": branch, "kind": kind})


def close_task(
    unit: Unit,
    *,
    kind: str,
    branch: str,
    subject_id: str,
    outcome: str,
    state: WorkItemState = WorkItemState.DONE,
) -> None:
    """Ends the open item of that kind about the subject, if there is one: what it asked for has been done otherwise."""
    item = undone(unit, branch, kind, subject_id)
    if item is not None:
        item.move(state, unit.at, outcome)
        remind(unit, item)


def remind(unit: Unit, item: WorkItem) -> None:
    """Sets the timer of when the item falls due, or takes it away from one that is done or has no such time."""
    if item.undone and item.due_at is not None and not item.overdue:
        set_timer(unit, item.id, OVERDUE, item.due_at, item.branch)
    else:
        cancel_timer(unit, item.id, OVERDUE)
