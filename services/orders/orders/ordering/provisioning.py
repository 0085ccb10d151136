"""The way to the systems that make a product work in the network."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from orders.ordering.values import OrderItemAction


@dataclass(frozen=True)
class ProvisioningTask:
    """What a network system is asked to do for one order item. `id` stays the same when it is asked again."""

    id: str
    action: OrderItemAction
    product_id: str
    product_offering_id: str
    product_specification_id: str
    quantity: int


@dataclass(frozen=True)
class Done:
    """The network has it."""


@dataclass(frozen=True)
class Waiting:
    """The network isn't ready yet: ask again after `delay`."""

    delay: timedelta


@dataclass(frozen=True)
class Failed:
    """The network refuses, for good."""

    reason: str


Outcome = Done | Waiting | Failed


class ProvisioningAdapter(Protocol):
    """A network system, seen from an order.

    `provision` is called at least once per task, until it answers Done or Failed: the adapter recognises a task's id.
    It raises `chassis.errors.Unavailable` while its system doesn't answer.
    """

    def provision(self, task: ProvisioningTask) -> Outcome:
        """Asks for the task, or how far it has come."""


@dataclass
class NullProvisioning:
    """No network: every task is done at once, or `delay` later; tasks for the offerings in `failing` fail."""

    delay: timedelta = timedelta(0)
    failing: Collection[str] = field(default_factory=frozenset)
    _waited: set[str] = field(default_factory=set)

    def provision(self, task: ProvisioningTask) -> Outcome:
        """After a restart a task waits its delay anew."""
        if task.product_offering_id in self.failing:
            return Failed(f"offering {task.product_offering_id} is set to fail")
        if self.delay and task.id not in self._waited:
            self._waited.add(task.id)
            return Waiting(self.delay)
        self._waited.discard(task.id)
        return Done()
