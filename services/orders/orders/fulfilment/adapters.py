"""The way to the external systems that carry tasks out."""

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from chassis.products import ResourceRef
from chassis.types import Characteristic, Json
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.plan import PlannedItem, text_of


@dataclass(frozen=True)
class Done:
    """It is done. What came of it, later tasks and the product see."""

    result: tuple[Characteristic, ...] = ()
    resource: tuple[ResourceRef, ...] = ()


@dataclass(frozen=True)
class Waiting:
    """It isn't done yet: ask again after `delay`."""

    delay: timedelta


@dataclass(frozen=True)
class Failed:
    """It can't be done; `retryable`: another attempt may succeed."""

    reason: str
    retryable: bool = False


@dataclass(frozen=True)
class Sent:
    """The system hears of it by the task's event, and says by itself how it ends."""


Outcome = Done | Waiting | Failed | Sent


class Adapter(Protocol):
    """An external system, seen from an order.

    `start` is called at least once for each attempt of a task: for the same id and attempt it does the same once. A
    task that undoes another (`compensates`) is done as well when there is nothing to undo, because the other one has
    never reached the system. While its system doesn't answer, or not in time, or has too much to do, it raises
    `chassis.errors.Unavailable`, `DeadlineExceeded` or `ResourceExhausted`: it is asked again for the same attempt. Any
    other `DomainError` is an attempt that has failed, and may be followed by another.
    """

    def start(self, task: FulfilmentTask, item: PlannedItem | None) -> Outcome:
        """Asks for the task, or how far it has come; `item`: None for a task of the whole order."""


class ByEvent:
    """A system that listens to the events of tasks, and completes or fails them by FulfilmentService, or by events of
    its own.

    It begins an attempt when an event of the task says `inProgress` with `sent`, and at no other: when an attempt
    fails, an event names the next one at once, without `sent`, and a pause goes by before that begins.
    """

    def start(self, task: FulfilmentTask, item: PlannedItem | None) -> Outcome:
        """The event goes out with the transaction that begins the attempt."""
        return Sent()


log = logging.getLogger(__name__)

# What the simulated resource system gives: operation → (characteristic, type of the resource, first digits, how many).
_RESERVED: Mapping[str, tuple[str, str, str, int]] = {
    "reserveNumber": ("phoneNumber", "LogicalResource", "+9967", 8),
    "reserveSim": ("iccid", "PhysicalResource", "89996", 14),
    "reservePort": ("port", "PhysicalResource", "", 6),
    "reserve": ("resource", "LogicalResource", "", 12),
}


@dataclass
class NullProvisioning:
    """No system at all: every task is done at once, or `delay` later; tasks for the offerings in `failing` fail, what
    undoes them doesn't. What is reserved is what the item names, or made up, the same whenever the same task asks.

    It keeps no inventory: made-up numbers are drawn from so many digits by the task's id, and two tasks may draw the
    same one. It is for demonstrations and tests; whoever sells real numbers connects a system that knows which are
    free.
    """

    delay: timedelta = timedelta(0)
    failing: Collection[str] = field(default_factory=frozenset)
    _waited: set[tuple[str, int]] = field(default_factory=set)

    def start(self, task: FulfilmentTask, item: PlannedItem | None) -> Outcome:
        """After a restart a task waits its delay anew."""
        if item is not None and item.product_offering_id in self.failing and not task.compensating:
            return Failed(f"offering {item.product_offering_id} is set to fail")
        asked = task.id, task.attempt
        if self.delay and asked not in self._waited:
            self._waited.add(asked)
            return Waiting(self.delay)
        self._waited.discard(asked)
        return self._reserved(task) if task.operation in _RESERVED else Done()

    @staticmethod
    def _reserved(task: FulfilmentTask) -> Done:
        name, kind, first, digits = _RESERVED[task.operation]
        number = int(hashlib.sha256(task.id.encode()).hexdigest(), 16) % 10**digits
        wanted = next((one.value for one in task.input if one.name == name and one.value is not None), None)
        value = text_of(wanted) if wanted is not None else f"{first}{number:0{digits}d}"
        return Done(
            (Characteristic(name=name, value_type="string", value=Json(json.dumps(value))),),
            (ResourceRef(id=task.id, name=name, value=value, at_referred_type=kind),),
        )


def connected(environment: Mapping[str, str], simulated: Adapter) -> dict[str, Adapter]:
    """The systems that the settings name: those of FULFILMENT_BY_EVENT listen to events, the others of
    FULFILMENT_SIMULATED are none at all. Raises ValueError when there is neither: nobody sells into thin air unawares.
    """
    pretended, listening = (
        [name.strip() for name in environment.get(variable, "").split(",") if name.strip()]
        for variable in ("FULFILMENT_SIMULATED", "FULFILMENT_BY_EVENT")
    )
    adapters: dict[str, Adapter] = dict.fromkeys(pretended, simulated) | {name: ByEvent() for name in listening}
    if not adapters:
        raise ValueError("no system carries tasks out: name them in FULFILMENT_BY_EVENT, or in FULFILMENT_SIMULATED")
    only_simulated = sorted(set(pretended) - set(listening))
    if only_simulated:
        log.warning(
            "these systems are simulated: nothing is done, and numbers aren't unique",
            extra={"fields": {"systems": only_simulated}},
        )
    return adapters


def listening(adapters: Mapping[str, Adapter]) -> list[str]:
    """The names of those systems that listen to events."""
    return sorted(name for name, adapter in adapters.items() if isinstance(adapter, ByEvent))
