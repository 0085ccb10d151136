"""Specifications of fulfilment: which tasks an item of a product specification takes, said declaratively."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from typing import Any, ClassVar

from chassis.errors import InvalidArgument, Violation
from chassis.types import Aggregate
from orders.fulfilment.values import Compensation, FailurePolicy, PlannedBy, RetryPolicy, TaskSpecification

MOST_TASKS, MOST_ATTEMPTS = 100, 100
# Ten years: what lasts longer is a slip of the pen.
LONGEST_SECONDS = 10 * 366 * 24 * 3600

# Where a branch has said nothing: the network is asked, and what it refuses is undone at once.
PROVISION_TASK = TaskSpecification(
    name="provision",
    system="provisioning",
    operation="provision",
    # It is told of the whole item.
    input=("*",),
    compensation=Compensation(operation="withdraw"),
    on_failure=FailurePolicy.COMPENSATE,
)
BUILT_IN = PlannedBy(task=(PROVISION_TASK,))


@dataclass(kw_only=True, eq=False)
class FulfilmentSpecification(Aggregate):
    """The tasks of items that do something (`action`, or the name of an order template) to products of one product
    specification; without one: to those of all that have none of their own."""

    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"product_specification_id", "action"})

    name: str | None = None
    description: str | None = None
    product_specification_id: str | None = None
    action: str | None = None
    task: tuple[TaskSpecification, ...] = ()

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument INVALID_SPECIFICATION naming every field that is wrong."""
        self.product_specification_id = self.product_specification_id or None
        _refuse([*(() if self.action else (Violation("action", "required"),)), *_wrong(self.task)])

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes a caller's changes; raises InvalidArgument IMMUTABLE, INVALID_SPECIFICATION."""
        super().revise(changes, at)
        self.check(at)

    def require_systems(self, known: Collection[str]) -> None:
        """Raises InvalidArgument INVALID_SPECIFICATION naming the tasks of systems that nobody has connected."""
        _refuse(
            [
                Violation(f"task[{place}].system", f"isn't one of {', '.join(sorted(known))}")
                for place, task in enumerate(self.task)
                if task.system not in known
            ]
        )

    @property
    def planned_by(self) -> PlannedBy:
        """What a plan keeps of it."""
        return PlannedBy(id=self.id, version=self.revision, task=self.task)


def chosen(
    specifications: Sequence[FulfilmentSpecification], branch: str, product_specification_id: str, *actions: str
) -> PlannedBy:
    """What an item goes by: what is said for the first of its actions goes before what is for the next, its product
    specification's own before one for all, its branch's before everybody's."""

    def rank(one: FulfilmentSpecification) -> tuple[int, bool, bool]:
        return -actions.index(one.action or ""), one.product_specification_id is not None, one.branch == branch

    fitting = [
        one
        for one in specifications
        if one.action in actions and one.product_specification_id in (None, product_specification_id or None)
    ]
    return max(fitting, key=rank).planned_by if fitting else BUILT_IN


def _refuse(violations: Sequence[Violation]) -> None:
    if violations:
        raise InvalidArgument(
            "INVALID_SPECIFICATION", "nothing could be fulfilled by this specification", violations=violations
        )


def _wrong(tasks: Sequence[TaskSpecification]) -> Iterator[Violation]:
    if len(tasks) > MOST_TASKS:
        yield Violation("task", f"more than {MOST_TASKS}")
    names = [task.name for task in tasks]
    by_name = {task.name: task for task in tasks}
    for place, task in enumerate(tasks):
        path = f"task[{place}]"
        for name in ("name", "system", "operation"):
            if not getattr(task, name):
                yield Violation(f"{path}.{name}", "required")
        if task.name and names.index(task.name) != place:
            yield Violation(f"{path}.name", f"{task.name!r} is the name of another task too")
        for number, needed in enumerate(task.depends_on):
            before = by_name.get(needed)
            if before is None:
                yield Violation(f"{path}.depends_on[{number}]", f"there is no task {needed!r}")
            elif task.of_order and not before.of_order:
                yield Violation(f"{path}.depends_on[{number}]", f"{needed!r} isn't of the whole order, as this is")
        for number, milestone in enumerate(task.milestone):
            for name in ("language", "words"):
                if not getattr(milestone, name):
                    yield Violation(f"{path}.milestone[{number}].{name}", "required")
        yield from _wrong_ends(task, path)
        yield from _wrong_times(task, path)
    yield from _cycles(tasks, names)


def _wrong_ends(task: TaskSpecification, path: str) -> Iterator[Violation]:
    if task.condition is not None and not task.condition.characteristic:
        yield Violation(f"{path}.condition.characteristic", "required")
    if task.condition is not None and task.of_order:
        yield Violation(f"{path}.condition", "an order has no characteristics of its own")
    if task.compensation is not None:
        if not task.compensation.operation:
            yield Violation(f"{path}.compensation.operation", "required")
        if task.no_undo_needed:
            yield Violation(f"{path}.no_undo_needed", "contradicts its compensation")
        if task.point_of_no_return:
            yield Violation(f"{path}.point_of_no_return", "contradicts its compensation: it would never be undone")
    if task.undo_cost is not None:
        if task.compensation is None:
            yield Violation(f"{path}.undo_cost", "it can't be undone")
        if not task.undo_cost.unit or task.undo_cost.value is None or task.undo_cost.value < 0:
            yield Violation(f"{path}.undo_cost", "an amount of a currency, not below 0")
    if task.on_failure is FailurePolicy.REJECT and not task.of_order:
        yield Violation(f"{path}.on_failure", "only a task of the whole order rejects it")


def _wrong_times(task: TaskSpecification, path: str) -> Iterator[Violation]:
    undo = task.compensation
    spans = [
        (f"{path}.expected_seconds", task.expected_seconds, 0),
        (f"{path}.timeout_seconds", task.timeout_seconds, 1),
    ]
    if undo is not None:
        spans.append((f"{path}.compensation.expected_seconds", undo.expected_seconds, 0))
        spans.append((f"{path}.compensation.timeout_seconds", undo.timeout_seconds, 1))
    for at, seconds, least in spans:
        if seconds is not None and not least <= seconds <= LONGEST_SECONDS:
            yield Violation(at, f"from {least} to {LONGEST_SECONDS} seconds")
    for at, retry in ((path, task.retry), (f"{path}.compensation", undo.retry if undo is not None else None)):
        if retry is not None:
            yield from _wrong_retry(retry, f"{at}.retry")


def _wrong_retry(retry: RetryPolicy, path: str) -> Iterator[Violation]:
    if retry.attempts is not None and not 1 <= retry.attempts <= MOST_ATTEMPTS:
        yield Violation(f"{path}.attempts", f"from 1 to {MOST_ATTEMPTS}")
    for name in ("first_pause_seconds", "longest_pause_seconds"):
        seconds: int | None = getattr(retry, name)
        if seconds is not None and not 0 <= seconds <= LONGEST_SECONDS:
            yield Violation(f"{path}.{name}", f"from 0 to {LONGEST_SECONDS} seconds")
    if retry.factor is not None and not 1 <= retry.factor <= 100:
        yield Violation(f"{path}.factor", "from 1 to 100")


def _cycles(tasks: Sequence[TaskSpecification], names: Sequence[str | None]) -> Iterator[Violation]:
    graph = {task.name: [name for name in task.depends_on if name in names] for task in tasks}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # The first and the last are the same.
        cycle: list[str] = error.args[1][::-1]
        place = names.index(cycle[0])
        yield Violation(f"task[{place}].depends_on", f"goes in a circle: {' → '.join(cycle)}")


def holds(task: TaskSpecification, text_of: Callable[[str], str | None]) -> bool:
    """Whether a task's condition holds; `text_of`: the text of a characteristic's value, None where it has none."""
    if task.condition is None:
        return True
    value = text_of(task.condition.characteristic or "")
    return value is not None and (not task.condition.value or value in task.condition.value)
