"""What external systems say of the tasks that they were told of, however they say it."""

from collections.abc import Iterable, Sequence

from google.protobuf.message import Message

from chassis.convert import from_message
from chassis.errors import FailedPrecondition, Violation
from chassis.products import ResourceRef
from chassis.types import Characteristic
from chassis.unit import Unit
from orders.fulfilment import store
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.steps import failed, go_on
from orders.fulfilment.undo import undone


def characteristics_of(messages: Iterable[Message]) -> tuple[Characteristic, ...]:
    """What a system gives back; raises InvalidArgument naming what is wrong."""
    return tuple(from_message(one, Characteristic) for one in messages)


def resources_of(messages: Iterable[Message]) -> tuple[ResourceRef, ...]:
    """The resources that it names; raises InvalidArgument."""
    return tuple(from_message(one, ResourceRef) for one in messages)


def completed(
    unit: Unit,
    task: FulfilmentTask,
    attempt: int,
    result: Sequence[Characteristic],
    resource: Sequence[ResourceRef],
) -> bool:
    """An attempt has done it; whether that is news. Raises FailedPrecondition TASK_CLOSED, BAD_ATTEMPT for one that is
    still to come."""
    if task.completed_by(attempt):
        return False
    task.require_begun()
    if not 1 <= attempt <= task.attempt:
        raise FailedPrecondition(
            "BAD_ATTEMPT",
            f"the task is at attempt {task.attempt}",
            violations=[Violation("attempt", f"{attempt} hasn't begun")],
        )
    task.complete(unit.at, result, resource, attempt=attempt)
    undone(store.tasks_of(unit, task.product_order_id), task, unit.at)
    go_on(unit, task)
    return True


def not_done(unit: Unit, task: FulfilmentTask, attempt: int, reason: str, *, retryable: bool) -> None:
    """The attempt has failed. Raises FailedPrecondition TASK_CLOSED, STALE_ATTEMPT for another than the present."""
    task.require_awaited(attempt)
    tasks = store.tasks_of(unit, task.product_order_id)
    failed(unit, tasks, task, reason or "no reason given", retryable=retryable)
    go_on(unit, task)
