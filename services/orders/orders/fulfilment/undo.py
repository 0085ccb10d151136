"""Undoing: what takes back what the tasks of items have done, what can't be taken back, and what it costs."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chassis.types import Money
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.plan import next_tasks, task_id
from orders.fulfilment.values import FulfilmentTaskState

_S = FulfilmentTaskState


@dataclass(frozen=True)
class Undoing:
    """What is to happen so that the tasks come to nothing."""

    # Those that aren't done any more, and whether their system may have been asked already.
    cancelled: Sequence[tuple[FulfilmentTask, bool]]
    # New tasks, of which each waits for those that undo what depended on what it undoes.
    compensations: Sequence[FulfilmentTask]
    # What was done and stays so, because nobody has said how it is undone.
    lasting: Sequence[FulfilmentTask]


def _of(tasks: Iterable[FulfilmentTask], items: Collection[str | None]) -> list[FulfilmentTask]:
    return [task for task in tasks if task.product_order_item_id in items and not task.compensating]


def irrevocable(tasks: Sequence[FulfilmentTask], of: Collection[str | None]) -> list[FulfilmentTask]:
    """The tasks of these items (None: of the whole order) by which they can't be withdrawn any more: points of no
    return that are done, or that may be done any moment."""
    return [
        task
        for task in _of(tasks, of)
        if task.spec.point_of_no_return and (task.state in (_S.COMPLETED, _S.IN_PROGRESS) or task.in_doubt)
    ]


def undo(
    tasks: Sequence[FulfilmentTask],
    of: Collection[str | None],
    *,
    generation: int = 0,
    only: Collection[str] | None = None,
) -> Undoing:
    """What undoes the tasks of these items (None: of the whole order), in reverse order of their dependencies; `only`
    those of these ids.

    A pending task whose turn has come may have been asked for by somebody who died before he could say so: it is
    undone as one that was begun. What is being undone already is left to that.
    """
    undoing = {task.compensates for task in tasks if task.compensating}
    begun = {task.id for task in next_tasks(tasks)}
    cancelled: list[tuple[FulfilmentTask, bool]] = []
    wanted: list[FulfilmentTask] = []
    lasting: list[FulfilmentTask] = []
    for task in _of(tasks, of):
        if only is not None and task.id not in only:
            continue
        can_be = task.spec.compensation is not None
        # Nobody begins what can't be undone without having said so before.
        doubtful = task.state is _S.IN_PROGRESS or (can_be and task.id in begun)
        if task.open:
            cancelled.append((task, doubtful))
        something = doubtful or task.in_doubt or task.state is _S.COMPLETED
        if something and task.undone_at is None and task.id not in undoing and not task.spec.no_undo_needed:
            (wanted if can_be else lasting).append(task)
    return Undoing(cancelled, _compensations(tasks, wanted, generation), lasting)


def _compensations(
    tasks: Sequence[FulfilmentTask], wanted: Sequence[FulfilmentTask], generation: int
) -> list[FulfilmentTask]:
    # Those that go on from before included: what depended on a task may be being undone already.
    ids = {task.compensates: task.id for task in tasks if task.compensating and task.open}
    made: list[FulfilmentTask] = []
    for task in wanted:
        spec = task.spec.undone_by()
        assert spec is not None
        ids[task.id] = task_id(task.id, "undo", generation)
        made.append(
            FulfilmentTask(
                id=ids[task.id],
                branch=task.branch,
                product_order_id=task.product_order_id,
                product_order_item_id=task.product_order_item_id,
                order_item_id=task.order_item_id,
                position=len(tasks) + len(made),
                name=spec.name or "",
                system=spec.system or "",
                operation=spec.operation or "",
                specification_id=task.specification_id,
                specification_version=task.specification_version,
                specification=spec,
                compensates=task.id,
                input=task.input,
                generation=task.generation,
            )
        )
    dependants = _dependants(tasks)
    for undoing in made:
        after = dependants.get(undoing.compensates or "", ())
        undoing.depends_on = tuple(ids[task] for task in after if task in ids)
    return made


def _dependants(tasks: Sequence[FulfilmentTask]) -> dict[str, list[str]]:
    """All tasks that depend on each task, however far."""
    direct: dict[str, list[str]] = {}
    for task in tasks:
        for before in task.depends_on if not task.compensating else ():
            direct.setdefault(before, []).append(task.id)
    found: dict[str, list[str]] = {}
    for task in sorted(tasks, key=lambda one: one.position, reverse=True):
        every = dict.fromkeys(direct.get(task.id, ()))
        for follower in direct.get(task.id, ()):
            every |= dict.fromkeys(found.get(follower, ()))
        found[task.id] = list(every)
    return found


# --- the undo map ----------------------------------------------------------------------------------------------------


class Undoable(StrEnum):
    """Whether, and how, what a task does can be taken back."""

    # Nothing has been done.
    NOT_BEGUN = "notBegun"
    # Nothing is left of it by itself.
    NOTHING_TO_UNDO = "nothingToUndo"
    CAN_BE_UNDONE = "canBeUndone"
    IS_BEING_UNDONE = "isBeingUndone"
    UNDONE = "undone"
    # It would stay done, though its item can be withdrawn.
    LASTS = "lasts"
    # Its item can't be withdrawn any more.
    POINT_OF_NO_RETURN = "pointOfNoReturn"


@dataclass(frozen=True)
class UndoEntry:
    """What a task means for whoever would withdraw its item."""

    task: FulfilmentTask
    undoable: Undoable
    # What it costs the operator; None: nothing.
    cost: Money | None = None


def undo_map(tasks: Sequence[FulfilmentTask]) -> list[UndoEntry]:
    """Of each task of an order whether it can be undone at this moment, and what that costs."""
    undoing = {task.compensates for task in tasks if task.compensating and task.open}
    beyond = {task.id for task in irrevocable(tasks, {task.product_order_item_id for task in tasks})}
    begun = {task.id for task in next_tasks(tasks)}
    entries: list[UndoEntry] = []
    for task in tasks:
        if task.compensating:
            continue
        kind = _kind(task, undoing, beyond, begun)
        entries.append(UndoEntry(task, kind, task.spec.undo_cost if kind is Undoable.CAN_BE_UNDONE else None))
    return entries


def _kind(
    task: FulfilmentTask, undoing: Collection[str | None], beyond: Collection[str], begun: Collection[str]
) -> Undoable:
    if task.undone_at is not None:
        return Undoable.UNDONE
    if task.id in undoing:
        return Undoable.IS_BEING_UNDONE
    if task.id in beyond:
        return Undoable.POINT_OF_NO_RETURN
    something = task.state in (_S.COMPLETED, _S.IN_PROGRESS) or task.in_doubt
    if not something and not (task.id in begun and task.spec.compensation is not None):
        return Undoable.NOT_BEGUN
    if task.spec.no_undo_needed:
        return Undoable.NOTHING_TO_UNDO
    return Undoable.CAN_BE_UNDONE if task.spec.compensation is not None else Undoable.LASTS


def cost(entries: Iterable[UndoEntry]) -> dict[str, Money]:
    """What all of it costs, by currency."""
    total: dict[str, Money] = {}
    for entry in entries:
        if entry.cost is not None and entry.cost.unit and entry.cost.value is not None:
            before = total.get(entry.cost.unit)
            value = entry.cost.value + (before.value if before is not None and before.value is not None else 0)
            total[entry.cost.unit] = Money(unit=entry.cost.unit, value=value)
    return total


def undone(tasks: Iterable[FulfilmentTask], ended: FulfilmentTask, at: datetime) -> None:
    """Says of the task that a compensation has undone that nothing is left of it."""
    if ended.compensates is not None and ended.state is _S.COMPLETED:
        for task in tasks:
            if task.id == ended.compensates:
                task.undone_at, task.in_doubt = at, None
