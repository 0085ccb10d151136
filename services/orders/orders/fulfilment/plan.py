"""Plans: which tasks an order takes, in which order they can begin, and when they will have ended."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chassis.types import Characteristic, Json
from orders.fulfilment.domain import OPEN, FulfilmentTask
from orders.fulfilment.specification import holds
from orders.fulfilment.values import FulfilmentTaskState, PlannedBy, TaskSpecification

_S = FulfilmentTaskState


@dataclass(frozen=True)
class PlannedItem:
    """An item, as far as its plan depends on it."""

    # Of its row, and in its order.
    id: str
    order_item_id: str
    # What it does to its product, or the name of an order template.
    action: str
    # What it does, where nothing is specified for the template.
    plain_action: str = ""
    product_specification_id: str = ""
    product_offering_id: str = ""
    product_id: str = ""
    # What tasks may be told of it, by name: its characteristics, and `place`, `quantity` …
    values: Mapping[str, Json] = field(default_factory=dict)
    # The rows of the items that are fulfilled before it.
    relies_on: tuple[str, ...] = ()

    def text(self, name: str) -> str | None:
        """The text of a value; None: it has none."""
        value = self.values.get(name)
        return None if value is None or value.text == "null" else text_of(value)


def text_of(value: Json) -> str:
    """What a JSON value is compared by: a text's own words, anything else as it is written."""
    text = value.text
    return text[1:-1] if len(text) > 1 and text.startswith('"') and "\\" not in text else text


def task_id(of: str, name: str, generation: int = 0) -> str:
    """The id of the task of that name of an item or order (or that undoes a task): the same whenever it is planned.

    A step that dies after it has told a system, and is repeated, tells it of the same task. It has the first half of
    what it belongs to, as a UUIDv7 its millisecond of birth, so that a table's new rows lie together.
    """
    digest = hashlib.sha256(f"{of}/{name}/{generation}".encode()).hexdigest()
    # RFC 9562's version for ids of one's own making.
    return f"{of[:14]}8{digest[:3]}-8{digest[3:6]}-{digest[6:18]}" if len(of) == _UUID else f"{of[:64]}-{digest[:24]}"


_UUID = 36
# What an item goes by.
Choice = Callable[[PlannedItem], PlannedBy]


@dataclass(frozen=True)
class Scope:
    """Whose tasks are planned."""

    product_order_id: str
    branch: str
    generation: int = 0


def plan(
    scope: Scope, items: Sequence[PlannedItem], choice: Choice, planned: Sequence[FulfilmentTask] = ()
) -> list[FulfilmentTask]:
    """The tasks that the items take, those of the whole order once and before them; `planned`: which the order has.

    An item that relies on others begins when these have all their tasks done.
    """
    by = {item.id: choice(item) for item in items}
    made: list[FulfilmentTask] = []
    position = len(planned)
    of_order = {task.name: task for task in planned if task.product_order_item_id is None and not task.compensating}
    for item in items:
        wanted = [one for one in by[item.id].task if one.of_order and one.name not in of_order]
        for one in _in_order(wanted):
            task = _task(scope, None, one, by[item.id], position + len(made))
            task.depends_on = tuple(of_order[name].id for name in one.depends_on if name in of_order)
            of_order[task.name] = task
            made.append(task)
    for item in items:
        made += _of_item(scope, item, by[item.id], of_order, position + len(made))
    every = [*planned, *made]
    for item in items:
        before = [task.id for task in every if task.product_order_item_id in item.relies_on and not task.compensating]
        for task in made if before else ():
            if task.product_order_item_id == item.id:
                task.depends_on = tuple(dict.fromkeys((*task.depends_on, *before)))
    return made


def rely(tasks: Sequence[FulfilmentTask], relies_on: Mapping[str, Collection[str]]) -> None:
    """Has the pending tasks of items wait for those of the items that they rely on now (by row), and for no others of
    other items: a new version of an order may have withdrawn these, changed them so that they are done again, or said
    that nothing relies on them any more."""
    item_of = {task.id: task.product_order_item_id for task in tasks}
    undoing = {task.compensates for task in tasks if task.compensating}
    counting: dict[str | None, list[str]] = {}
    for task in tasks:
        if not (task.compensating or task.state is _S.CANCELLED or task.undone_at is not None or task.id in undoing):
            counting.setdefault(task.product_order_item_id, []).append(task.id)
    for task in tasks:
        item = task.product_order_item_id
        if item is None or task.state is not _S.PENDING or task.compensating:
            continue
        own = [before for before in task.depends_on if item_of.get(before) in (item, None)]
        wanted = tuple(dict.fromkeys((*own, *_before(item, relies_on, counting))))
        if set(wanted) != set(task.depends_on):
            task.depends_on = wanted


def _before(
    item: str, relies_on: Mapping[str, Collection[str]], counting: Mapping[str | None, Sequence[str]]
) -> Iterator[str]:
    """The tasks of the items that one relies on; where these have none, of those that they rely on themselves."""
    seen, left = {item}, sorted(relies_on.get(item, ()), reverse=True)
    while left:
        on = left.pop()
        if on in seen:
            continue
        seen.add(on)
        own = counting.get(on, ())
        yield from own
        left += () if own else sorted(relies_on.get(on, ()), reverse=True)


def _of_item(
    scope: Scope, item: PlannedItem, by: PlannedBy, of_order: Mapping[str, FulfilmentTask], position: int
) -> list[FulfilmentTask]:
    """The tasks of one item whose conditions hold; what waits for one that is left out waits for what that waits for,
    instead."""
    waits_for: dict[str, tuple[str, ...]] = {name: (task.id,) for name, task in of_order.items()}
    made: list[FulfilmentTask] = []
    for one in _in_order([task for task in by.task if not task.of_order]):
        before = tuple(dict.fromkeys(key for name in one.depends_on for key in waits_for[name]))
        name = one.name or ""
        if not holds(one, item.text):
            waits_for[name] = before
            continue
        task = _task(scope, item, one, by, position + len(made))
        task.depends_on = before
        waits_for[name] = (task.id,)
        made.append(task)
    return made


def _in_order(tasks: Sequence[TaskSpecification]) -> Iterator[TaskSpecification]:
    """Each after what it depends on; else as they were given."""
    left = list(tasks)
    names = {task.name for task in tasks}
    given: set[str | None] = set()
    while left:
        following = next(task for task in left if all(name in given or name not in names for name in task.depends_on))
        left.remove(following)
        given.add(following.name)
        yield following


def _task(
    scope: Scope, item: PlannedItem | None, one: TaskSpecification, by: PlannedBy, position: int
) -> FulfilmentTask:
    of = item.id if item is not None else scope.product_order_id
    return FulfilmentTask(
        id=task_id(of, one.name or "", scope.generation),
        branch=scope.branch,
        product_order_id=scope.product_order_id,
        product_order_item_id=item.id if item is not None else None,
        order_item_id=item.order_item_id if item is not None else None,
        position=position,
        name=one.name or "",
        system=one.system or "",
        operation=one.operation or "",
        specification_id=by.id,
        specification_version=by.version,
        specification=one,
        generation=scope.generation or None,
    )


def told(task: FulfilmentTask, item: PlannedItem | None, tasks: Iterable[FulfilmentTask]) -> list[Characteristic]:
    """What a task's system is told: what its specification names of the item, or else of what tasks of the same item
    or of the whole order have given back."""
    every = list(tasks)
    # What has been taken back, or is being, is given to nobody any more.
    undone = {one.compensates for one in every if one.compensating}
    given = {
        one.name: one
        for done in every
        if done.done and done.product_order_item_id in (task.product_order_item_id, None)
        for one in (() if done.id in undone else done.result)
    }
    known: list[Characteristic] = []
    for name in task.spec.input:
        if item is not None and name in item.values:
            known.append(Characteristic(name=name, value=item.values[name]))
        elif name in given:
            known.append(given[name])
    return known


# --- going on --------------------------------------------------------------------------------------------------------


def next_tasks(tasks: Sequence[FulfilmentTask]) -> list[FulfilmentTask]:
    """The pending tasks that can begin: all that they depend on is done."""
    done = {task.id for task in tasks if task.done}
    return [task for task in tasks if task.state is _S.PENDING and done.issuperset(task.depends_on)]


def stuck(tasks: Sequence[FulfilmentTask]) -> bool:
    """Whether nothing goes on before a person has decided about what is held."""
    held = any(task.state is _S.HELD for task in tasks)
    return held and not any(task.state is _S.IN_PROGRESS for task in tasks) and not next_tasks(tasks)


# --- in time ---------------------------------------------------------------------------------------------------------


def late_from(tasks: Sequence[FulfilmentTask], promised: datetime, at: datetime) -> dict[str, datetime]:
    """From when on each open task makes its order late, if nothing happens to it before and all that follows lasts as
    long as expected; by task. The critical path's is the first.

    A task that is begun ends when expected, or, when that has gone by, any moment.
    """
    open_tasks = [task for task in tasks if task.state in OPEN and not task.compensating]
    after = _longest_after(open_tasks)
    ids = {task.id for task in open_tasks}
    found: dict[str, datetime] = {}
    for task in open_tasks:
        if not ids.isdisjoint(task.depends_on):
            # It is late through what it waits for.
            continue
        latest = promised - after[task.id]
        if task.state is _S.IN_PROGRESS and task.expected_at is not None:
            found[task.id] = at if max(task.expected_at, at) > latest else latest
        else:
            found[task.id] = latest - task.spec.expected
    return found


def ends(tasks: Sequence[FulfilmentTask], at: datetime) -> datetime:
    """When the open tasks will have ended, if they last as long as expected from now on."""
    open_tasks = [task for task in tasks if task.state in OPEN and not task.compensating]
    after = _longest_after(open_tasks)
    return max((_own_end(task, at) + after[task.id] for task in open_tasks), default=at)


def _own_end(task: FulfilmentTask, at: datetime) -> datetime:
    if task.state is _S.IN_PROGRESS and task.expected_at is not None:
        return max(task.expected_at, at)
    return at + task.spec.expected


def _longest_after(tasks: Sequence[FulfilmentTask]) -> dict[str, timedelta]:
    """How long the longest way of tasks after each one is expected to take."""
    followers: dict[str, list[FulfilmentTask]] = {task.id: [] for task in tasks}
    for task in tasks:
        for before in task.depends_on:
            if before in followers:
                followers[before].append(task)
    after: dict[str, timedelta] = {}
    # Planned in an order in which nothing comes before what it depends on.
    for task in sorted(tasks, key=lambda one: one.position, reverse=True):
        after[task.id] = max(
            (next_one.spec.expected + after[next_one.id] for next_one in followers[task.id]), default=timedelta()
        )
    return after
