"""What can be asked of work items: one method, one use case, one transaction."""

from collections.abc import Callable, Mapping
from typing import Any

from chassis.convert import from_message
from chassis.db import Database
from chassis.errors import AlreadyExists
from chassis.resources import StandardMethods
from chassis.timers import TimerHandler
from chassis.types import new_id
from chassis.unit import Unit
from customers.identity.collection import MembersCollection
from customers.task import store
from customers.task.domain import WorkItem, WorkItemState
from svyaz.customers.v1 import task_pb2


class Tasks(StandardMethods):
    """Work items: they are opened, given to somebody, begun and ended, and never deleted."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._items = MembersCollection(
            database, WorkItem, task_pb2.WorkItem, by=("customer_id",), changed=store.remind
        )
        super().__init__(task_pb2.DESCRIPTOR.services_by_name["TaskService"], self._items)

    def CreateWorkItem(self, request: task_pb2.CreateWorkItemRequest, context: Any) -> task_pb2.WorkItem:
        """Opens an item. Raises AlreadyExists WORK_ITEM_OPEN, InvalidArgument REQUIRED, OUT_OF_RANGE."""
        self._items.require(request.work_item, ["kind"])

        def work(unit: Unit) -> task_pb2.WorkItem:
            branch = self._database.branch_for_create(WorkItem, request.branch)
            item = from_message(request.work_item, WorkItem, id=new_id(), branch=branch)
            item.check(unit.at)
            if not store.add(unit, item):
                open_one = store.undone(unit, branch, item.kind or "", item.subject_id or "")
                raise AlreadyExists(
                    "WORK_ITEM_OPEN",
                    f"a work item {item.kind!r} about {item.subject_id} is open already",
                    metadata={"id": open_one.id} if open_one is not None else {},
                )
            return self._items.reply(unit, item)

        return self._database.transact(request, task_pb2.WorkItem, work)

    def AssignWorkItem(self, request: task_pb2.AssignWorkItemRequest, context: Any) -> task_pb2.WorkItem:
        """Gives the item to an employee, or back to a team; raises FailedPrecondition WORK_ITEM_CLOSED."""

        def assign(unit: Unit, item: WorkItem) -> None:
            item.assign(request.assignee or None, request.team or None)
            unit.announce(item, "Assignment")

        return self._change(request, assign)

    def StartWorkItem(self, request: task_pb2.WorkItemRequest, context: Any) -> task_pb2.WorkItem:
        """Begins it, as the caller's where it is nobody's; raises FailedPrecondition BAD_TRANSITION."""

        def start(unit: Unit, item: WorkItem) -> None:
            item.move(WorkItemState.IN_PROGRESS, unit.at)
            item.assignee = item.assignee or unit.call.principal.subject

        return self._change(request, start)

    def CompleteWorkItem(self, request: task_pb2.WorkItemRequest, context: Any) -> task_pb2.WorkItem:
        """Ends it as done; raises FailedPrecondition BAD_TRANSITION."""
        return self._change(request, lambda unit, item: item.move(WorkItemState.DONE, unit.at, request.outcome))

    def CancelWorkItem(self, request: task_pb2.WorkItemRequest, context: Any) -> task_pb2.WorkItem:
        """Ends it as not to be done any more; raises FailedPrecondition BAD_TRANSITION."""
        return self._change(request, lambda unit, item: item.move(WorkItemState.CANCELLED, unit.at, request.outcome))

    def _change(
        self,
        request: task_pb2.WorkItemRequest | task_pb2.AssignWorkItemRequest,
        change: Callable[[Unit, WorkItem], None],
    ) -> task_pb2.WorkItem:
        def work(unit: Unit) -> task_pb2.WorkItem:
            item = unit.get(WorkItem, request.id, request.etag)
            change(unit, item)
            store.remind(unit, item)
            return self._items.reply(unit, item)

        return self._database.transact(request, task_pb2.WorkItem, work)


def timers() -> Mapping[str, TimerHandler]:
    """The handlers of our timers, by purpose."""
    return {store.OVERDUE: _fall_due}


def _fall_due(item_id: str, unit: Unit) -> None:
    item = unit.find(WorkItem, item_id)
    if item is not None and item.fall_due(unit.at):
        unit.announce(item, "Overdue")
