"""What can't be completed and can't be undone any more: a person sees to it, by a task of the manual queue.

Whoever has mended what was wrong has the task tried again, or says that it is fixed: then the item is completed after
all, or is held anew with what is wrong by now. Who can't mend it skips the task: the order goes on without the item, of
which everything that was done stays.
"""

from collections.abc import Sequence

from chassis import telemetry
from chassis.types import new_id
from chassis.unit import Unit
from orders.fulfilment import store as fulfilment
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.steps import FALLOUT, failed
from orders.fulfilment.undo import irrevocable
from orders.fulfilment.values import FulfilmentTaskState, TaskSpecification
from orders.ordering.domain import ProductOrder, ProductOrderItem

# By what such tasks are known: no adapter is connected for them, since the system is this one.
SYSTEM, COMPLETION = "orders", "completion"
telemetry.begin_at_zero(FALLOUT, [SYSTEM])
_SPECIFICATION = TaskSpecification(name=COMPLETION, system=SYSTEM, operation=COMPLETION, no_undo_needed=True)


def is_beyond(tasks: Sequence[FulfilmentTask], item: ProductOrderItem) -> bool:
    """Whether a point of no return of the item, or of its whole order, may have been passed."""
    return bool(irrevocable(tasks, {None, item.id}))


def before_return(tasks: Sequence[FulfilmentTask], items: Sequence[ProductOrderItem]) -> list[ProductOrderItem]:
    """Those of the items that have a point of no return ahead, of their own or of the whole order, and none behind."""
    pending = [one for one in tasks if one.spec.point_of_no_return and one.state is FulfilmentTaskState.PENDING]
    of = {task.product_order_item_id for task in pending}
    return [item for item in items if not of.isdisjoint((None, item.id)) and not is_beyond(tasks, item)] if of else []


def hold(
    unit: Unit, order: ProductOrder, item: ProductOrderItem, tasks: Sequence[FulfilmentTask], reason: str
) -> FulfilmentTask:
    """Has a person see to an item that can be neither completed nor undone."""
    task = FulfilmentTask(
        id=new_id(),
        branch=order.branch,
        product_order_id=order.id,
        product_order_item_id=item.id,
        order_item_id=item.item.id,
        position=len(tasks),
        name=COMPLETION,
        system=SYSTEM,
        operation=COMPLETION,
        specification=_SPECIFICATION,
    )
    fulfilment.add(unit, order.id, [task])
    task.begin(unit.at, ())
    failed(unit, tasks, task, reason, retryable=False)
    return task


def try_again(unit: Unit, tasks: Sequence[FulfilmentTask]) -> None:
    """Ends what a person has had tried again: whether its item can be completed by now is seen after that."""
    for task in tasks:
        if _is_completion(task) and task.state is FulfilmentTaskState.IN_PROGRESS:
            task.complete(unit.at)


def left_out(tasks: Sequence[FulfilmentTask]) -> list[FulfilmentTask]:
    """The tasks that a person has skipped: nothing comes of their items."""
    return [task for task in tasks if _is_completion(task) and task.state is FulfilmentTaskState.SKIPPED]


def _is_completion(task: FulfilmentTask) -> bool:
    return (task.system, task.operation) == (SYSTEM, COMPLETION)
