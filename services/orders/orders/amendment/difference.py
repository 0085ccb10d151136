"""What an order's new version is beside the one that is being carried out. Pure.

Items are the same by their ids. What has changed of one concerns those of its tasks that use it (`input`) and what
depends on these; all its other tasks stay as they are, done or not.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chassis.errors import FailedPrecondition, Violation
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.plan import PlannedItem
from orders.fulfilment.undo import irrevocable
from orders.fulfilment.values import FulfilmentTaskState
from orders.ordering.assessment import begun

_S = FulfilmentTaskState
# What a task uses that says this in its `input`.
EVERYTHING = "*"


@dataclass(frozen=True)
class Version:
    """An item in one version of its order."""

    planned: PlannedItem
    # Of the version that is there: it is done; and what came of it counts no more.
    completed: bool = False
    closed: bool = False

    @property
    def id(self) -> str:
        """The item's, in its order."""
        return self.planned.order_item_id


@dataclass(frozen=True)
class Redone:
    """An item that goes on in another way."""

    order_item_id: str
    # Whose work is undone, if it was begun; they aren't done any more.
    undone: tuple[FulfilmentTask, ...]
    # New tasks.
    again: tuple[FulfilmentTask, ...]


@dataclass(frozen=True)
class Difference:
    """What becomes of each item, by their ids."""

    kept: tuple[str, ...]
    added: tuple[str, ...]
    changed: tuple[Redone, ...]
    withdrawn: tuple[str, ...]
    # What can't be.
    refused: tuple[Violation, ...] = ()

    def check(self) -> None:
        """Raises FailedPrecondition POINT_OF_NO_RETURN naming items and tasks."""
        if self.refused:
            why = "; ".join(f"{one.field} {one.description}" for one in self.refused)
            raise FailedPrecondition(
                "POINT_OF_NO_RETURN", f"the order can't be changed so any more: {why}", violations=self.refused
            )

    @property
    def empty(self) -> bool:
        """Whether nothing is to be done otherwise than before."""
        return not (self.added or self.changed or self.withdrawn)


# The tasks of an item that is planned anew.
Replan = Callable[[PlannedItem, int], Sequence[FulfilmentTask]]


def difference(
    old: Sequence[Version], new: Sequence[Version], tasks: Sequence[FulfilmentTask], replan: Replan
) -> Difference:
    """What is to be done so that the new version comes of the old one, whose tasks these are."""
    before = {one.id: one for one in old}
    after = {one.id: one for one in new}
    kept, added, changed, withdrawn = [], [], [], []
    refused: list[Violation] = []
    for one in new:
        was = before.get(one.id)
        if was is None:
            added.append(one.id)
        elif not differs(was.planned, one.planned):
            kept.append(one.id)
        elif was.completed or was.closed:
            refused.append(Violation(_field(one.id), "is completed already" if was.completed else "has ended"))
        elif (was.planned.action, was.planned.product_id) != (one.planned.action, one.planned.product_id):
            refused.append(Violation(_field(one.id), "does something else: withdraw it, and add another"))
        else:
            redone = _redone(was.planned, one.planned, tasks, replan)
            refused += _irrevocable(one.id, redone.undone)
            changed.append(redone)
    for was in old:
        if was.id in after or was.closed:
            continue
        if was.completed:
            refused.append(Violation(_field(was.id), "is completed already"))
        refused += [_beyond(was.id, task) for task in irrevocable(tasks, {was.planned.id})]
        withdrawn.append(was.id)
    return Difference(tuple(kept), tuple(added), tuple(changed), tuple(withdrawn), tuple(refused))


def differs(old: PlannedItem, new: PlannedItem) -> bool:
    """Whether fulfilment has anything to do with what has changed."""
    return bool(touched(old, new)) or (old.action, old.product_specification_id, old.product_id) != (
        new.action,
        new.product_specification_id,
        new.product_id,
    )


def touched(old: PlannedItem, new: PlannedItem) -> set[str]:
    """The names of the values that are others."""
    return {name for name in old.values.keys() | new.values.keys() if old.text(name) != new.text(name)}


def _redone(old: PlannedItem, new: PlannedItem, tasks: Sequence[FulfilmentTask], replan: Replan) -> Redone:
    own = [task for task in tasks if task.product_order_item_id == old.id and not task.compensating]
    generation = max((task.generation or 0 for task in own), default=0) + 1
    current = _current(own)
    fresh = {task.name: task for task in replan(new, generation)}
    ids = {task.id: task.name for task in (*own, *fresh.values())}

    def names(task: FulfilmentTask) -> set[str]:
        return {ids.get(before, before) for before in task.depends_on}

    news = touched(old, new)
    undone: dict[str, FulfilmentTask] = {}
    for task in sorted(current.values(), key=lambda one: one.position):
        wanted = fresh.get(task.name)
        again = wanted is None or _concerned(task, wanted, news) or not undone.keys().isdisjoint(task.depends_on)
        if not again and wanted is not None and task.state is _S.PENDING:
            # It hasn't begun, and waits for others now.
            again = names(task) != names(wanted)
        if again:
            undone[task.id] = task
    kept = {name: task for name, task in current.items() if task.id not in undone}
    made = [task for name, task in fresh.items() if name not in kept]
    stands_for = {fresh[name].id: task.id for name, task in kept.items() if name in fresh}
    for task in made:
        task.depends_on = tuple(stands_for.get(before, before) for before in task.depends_on)
    return Redone(old.order_item_id, tuple(undone.values()), tuple(made))


def _current(own: Sequence[FulfilmentTask]) -> Mapping[str, FulfilmentTask]:
    """The latest of each name that is still meant to be done, or was."""
    found: dict[str, FulfilmentTask] = {}
    for task in sorted(own, key=lambda one: one.generation or 0):
        if task.state is _S.CANCELLED or task.undone_at is not None:
            found.pop(task.name, None)
        else:
            found[task.name] = task
    return found


def _concerned(task: FulfilmentTask, wanted: FulfilmentTask, news: Collection[str]) -> bool:
    """Whether the task would do something else by now."""
    used = set(task.spec.input)
    return (
        bool(news and EVERYTHING in used)
        or not used.isdisjoint(news)
        or (task.system, task.operation) != (wanted.system, wanted.operation)
    )


def _irrevocable(item_id: str, undone: Sequence[FulfilmentTask]) -> Iterator[Violation]:
    for task in undone:
        if task.spec.no_undo_needed or not begun(task):
            continue
        if task.spec.point_of_no_return or task.spec.compensation is None:
            yield _beyond(item_id, task)


def _beyond(item_id: str, task: FulfilmentTask) -> Violation:
    return Violation(_field(item_id), f"is beyond {task.name!r} ({str(task.state)!r})")


def _field(item_id: str) -> str:
    return f"product_order_item[{item_id}]"
