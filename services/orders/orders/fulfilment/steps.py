"""How tasks are carried out: a step begins those whose turn has come, asks their systems, tries again what failed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import Counter

from chassis import telemetry
from chassis.errors import DeadlineExceeded, DomainError, ResourceExhausted, Unavailable
from chassis.timers import set_timer
from chassis.unit import Unit
from orders.fulfilment.adapters import Adapter, Done, Failed, Sent, Waiting
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.plan import PlannedItem, next_tasks, told
from orders.fulfilment.undo import irrevocable, undone
from orders.fulfilment.values import FailurePolicy, FulfilmentTaskState

FALLOUT = Counter("svyaz_fulfilment_fallout_total", "Tasks that a person has to see to", ["system"])

# A system that doesn't answer is asked again after so long; other systems' tasks aren't held up by that.
UNREACHABLE = timedelta(seconds=10)
# The purpose of the timer that carries the tasks of an order on.
PROVISION = "provision"

_S = FulfilmentTaskState
# A step holds its timer before its order. Whoever finds no timer (a stuck order has none, and a step sets its own anew)
# may still meet one that does: then PostgreSQL ends one of the two, who begins again.
_LOCK_TIMER = "SELECT FROM timer WHERE aggregate_id = %(order)s AND purpose = %(purpose)s FOR UPDATE"
_LOCK_ORDER = "SELECT FROM product_order WHERE id = %(order)s FOR NO KEY UPDATE"


def lock(unit: Unit, order_id: str) -> None:
    """Waits for the step of an order that is being made, and for whoever else has a hand in its tasks: what is read
    after this is as they have left it, and stays so until the unit's end."""
    unit.cursor().execute(_LOCK_TIMER, {"order": order_id, "purpose": PROVISION})
    unit.cursor().execute(_LOCK_ORDER, {"order": order_id})


def go_on(unit: Unit, task: FulfilmentTask) -> None:
    """Has the task's order go on, now that something has come of the task."""
    set_timer(unit, task.product_order_id, PROVISION, unit.at, task.branch)


@dataclass
class Turn:
    """What one step may do, and has done."""

    # So many answers are still taken; the rest has another step.
    left: int
    # Whether something has ended, so that something else may begin.
    moved: bool = False
    # Whether there is more to do at once.
    again: bool = False


Item = Callable[[FulfilmentTask], PlannedItem | None]


class Systems:
    """The systems that tasks are carried out by."""

    def __init__(self, adapters: Mapping[str, Adapter]) -> None:
        telemetry.begin_at_zero(FALLOUT, sorted(adapters))
        self._adapters = adapters

    @property
    def names(self) -> Sequence[str]:
        """What a specification may name."""
        return sorted(self._adapters)

    def carry_on(self, unit: Unit, tasks: Sequence[FulfilmentTask], item: Item, turn: Turn) -> None:
        """Begins what can begin, and asks about what is due."""
        for task in next_tasks(tasks):
            if not turn.left:
                turn.again = True
                return
            task.begin(unit.at, told(task, item(task), tasks))
            if _to_be_said_before(task):
                # Its system is asked in the next step, when this is written down.
                turn.again = True
            else:
                self._ask(unit, tasks, task, item(task), turn)
        for task in tasks:
            if task.state is _S.IN_PROGRESS and task.due_at is not None and task.due_at <= unit.at:
                if not turn.left:
                    turn.again = True
                    return
                if not (_to_be_said_before(task) and task.started_at == unit.at):
                    self._ask(unit, tasks, task, item(task), turn)

    def _ask(
        self, unit: Unit, tasks: Sequence[FulfilmentTask], task: FulfilmentTask, item: PlannedItem | None, turn: Turn
    ) -> None:
        adapter = self._adapters.get(task.system)
        if task.sent:
            outcome: object = Waiting(task.spec.timeout)
        elif adapter is None:
            outcome = Failed(f"no system {task.system!r} is connected")
        else:
            turn.left -= 1
            try:
                outcome = adapter.start(task, item)
            except (Unavailable, DeadlineExceeded, ResourceExhausted):
                outcome = Waiting(UNREACHABLE)
            except DomainError as refusal:
                # What other systems have answered in this step isn't lost with it.
                outcome = Failed(f"{refusal.reason}: {refusal.message}", retryable=True)
        if isinstance(outcome, Done):
            task.complete(unit.at, outcome.result, outcome.resource)
            undone(tasks, task, unit.at)
            turn.moved = True
        elif isinstance(outcome, Failed):
            failed(unit, tasks, task, outcome.reason, retryable=outcome.retryable)
            turn.moved = True
        elif task.timed_out(unit.at):
            failed(unit, tasks, task, f"no answer within {task.spec.timeout}", retryable=True, in_doubt=True)
            turn.moved = True
        elif isinstance(outcome, Sent):
            task.awaits(None)
        elif isinstance(outcome, Waiting):
            task.awaits(unit.at + outcome.delay)


def _to_be_said_before(task: FulfilmentTask) -> bool:
    """Whether nobody could undo it: that it has been begun is known before its system is."""
    return task.spec.compensation is None and not task.spec.no_undo_needed


def failed(
    unit: Unit,
    tasks: Sequence[FulfilmentTask],
    task: FulfilmentTask,
    reason: str,
    *,
    retryable: bool,
    in_doubt: bool = False,
) -> None:
    """An attempt of a task has failed: it has another one, or a person sees to it, or it has failed for good."""
    if task.fail(unit.at, reason, retryable=retryable, in_doubt=in_doubt):
        return
    if _for_good(tasks, task):
        task.move(_S.FAILED, unit.at)
        return
    task.hold(unit.at)
    system = task.system
    unit.after_commit(lambda: FALLOUT.labels(system).inc())


def _for_good(tasks: Sequence[FulfilmentTask], task: FulfilmentTask) -> bool:
    policy = task.spec.on_failure or FailurePolicy.FALLOUT
    return policy is not FailurePolicy.FALLOUT and not task.compensating and not beyond(tasks, task)


def beyond(tasks: Sequence[FulfilmentTask], task: FulfilmentTask) -> list[FulfilmentTask]:
    """Why what belongs to a task that won't be done can't be undone any more: the points of no return beyond which its
    item (or any item, if it is of the whole order) is."""
    item = task.product_order_item_id
    others = [one for one in tasks if one is not task or task.in_doubt]
    return irrevocable(others, {None, *({item} if item else (one.product_order_item_id for one in tasks))})


def next_due(tasks: Sequence[FulfilmentTask]) -> datetime | None:
    """When the first of them is to be thought of again; None: they wait for a person."""
    return min(
        (task.due_at for task in tasks if task.state is _S.IN_PROGRESS and task.due_at is not None), default=None
    )
