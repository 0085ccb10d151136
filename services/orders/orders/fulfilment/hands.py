"""What a person does to a held task, by itself or to many at once."""

from collections.abc import Sequence

from chassis.db import Unit
from chassis.errors import FailedPrecondition
from chassis.products import ResourceRef
from chassis.types import Characteristic
from orders.fulfilment import store
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.steps import beyond
from orders.fulfilment.undo import undone


def assign(unit: Unit, task: FulfilmentTask, assignee: str | None) -> None:
    """Gives it to somebody, or to nobody. Raises FailedPrecondition BAD_TRANSITION."""
    task.assign(assignee or None)
    unit.announce(task, "Assignment")


def retry(unit: Unit, task: FulfilmentTask) -> None:
    """Has it tried again, with all its attempts. Raises FailedPrecondition BAD_TRANSITION."""
    task.again(unit.at)


def fix(
    unit: Unit,
    task: FulfilmentTask,
    reason: str,
    result: Sequence[Characteristic] = (),
    resource: Sequence[ResourceRef] = (),
) -> None:
    """It has been done by hand. Raises InvalidArgument REQUIRED, FailedPrecondition BAD_TRANSITION."""
    task.fix(unit.at, unit.call.principal.subject, reason, result, resource)
    undone(store.tasks_of(unit, task.product_order_id), task, unit.at)


def skip(unit: Unit, task: FulfilmentTask, reason: str) -> None:
    """The order goes on without it. Raises InvalidArgument REQUIRED, FailedPrecondition BAD_TRANSITION."""
    task.skip(unit.at, unit.call.principal.subject, reason)


def give_up(unit: Unit, task: FulfilmentTask, reason: str) -> None:
    """It won't be done: its item, or its order, comes to nothing. Raises InvalidArgument REQUIRED, FailedPrecondition
    BAD_TRANSITION, POINT_OF_NO_RETURN."""
    task.give_up(unit.at, unit.call.principal.subject, reason)
    if task.spec.compensation is None:
        # Who gives it up says that it hasn't been done.
        task.in_doubt = None
    why = beyond(store.tasks_of(unit, task.product_order_id), task)
    if why:
        names = ", ".join(repr(one.name) for one in why)
        raise FailedPrecondition("POINT_OF_NO_RETURN", f"beyond {names} it can only be fixed, skipped or tried again")
