"""What a person does to a held task, by itself or to many at once."""

from collections.abc import Sequence

from chassis.errors import FailedPrecondition
from chassis.products import ResourceRef
from chassis.types import Characteristic
from chassis.unit import Unit
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
    *,
    by: str = "",
) -> None:
    """It has been done by hand; `by`: for whom, when it isn't the caller. Raises InvalidArgument REQUIRED,
    FailedPrecondition BAD_TRANSITION."""
    task.fix(unit.at, by or unit.call.principal.subject, reason, result, resource)
    undone(store.tasks_of(unit, task.product_order_id), task, unit.at)


def skip(unit: Unit, task: FulfilmentTask, reason: str, *, by: str = "") -> None:
    """The order goes on without it; `by` as above. Raises InvalidArgument REQUIRED, FailedPrecondition
    BAD_TRANSITION."""
    task.skip(unit.at, by or unit.call.principal.subject, reason)


def give_up(unit: Unit, task: FulfilmentTask, reason: str, *, by: str = "") -> None:
    """It won't be done: its item, or its order, comes to nothing; `by` as above. Changes nothing when it raises.

    Raises InvalidArgument REQUIRED, FailedPrecondition BAD_TRANSITION, POINT_OF_NO_RETURN.
    """
    task.require_held("given up")
    # Who gives up what can't be undone says that it hasn't been done.
    certain = task.spec.compensation is None
    tasks = store.tasks_of(unit, task.product_order_id)
    why = beyond([one for one in tasks if one is not task] if certain else tasks, task)
    if why:
        names = ", ".join(repr(one.name) for one in why)
        raise FailedPrecondition("POINT_OF_NO_RETURN", f"beyond {names} it can only be fixed, skipped or tried again")
    task.give_up(unit.at, by or unit.call.principal.subject, reason)
    if certain:
        task.in_doubt = None
