"""What is referred to stays."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from chassis.db import Database, Unit
from chassis.errors import FailedPrecondition
from chassis.references import lock_references
from chassis.resources import Collection
from customers.party import store
from customers.party.domain import Referrer


def refuse_when_referenced(unit: Unit, aggregate: Referrer) -> None:
    """Raises FailedPrecondition REFERENCED naming who refers to it."""
    lock_references(unit)
    found = store.references.referrers(unit, aggregate.id, most=5)
    if found:
        names = ", ".join(f"{kind} {key}" for kind, key in found)
        raise FailedPrecondition("REFERENCED", f"{type(aggregate).__name__} {aggregate.id} is referred to by {names}")
    store.refer(unit, aggregate.id, "", aggregate.branch, ())


def created(unit: Unit, aggregate: Referrer) -> None:
    store.remember(unit, aggregate, new=True)


def changed(unit: Unit, aggregate: Referrer) -> None:
    store.remember(unit, aggregate)


class Watcher(Protocol):
    """Another sub-domain that keeps what parties and customers say of themselves: in the transaction that says it."""

    def created(self, unit: Unit, aggregate: Referrer) -> None: ...

    def changed(self, unit: Unit, aggregate: Referrer) -> None: ...

    def deleted(self, unit: Unit, aggregate: Referrer) -> None: ...


def collection(
    database: Database,
    cls: Any,
    message: Any,
    watchers: Sequence[Watcher] = (),
    verify: Callable[[Unit, Any], None] = lambda unit, aggregate: None,
) -> Collection[Any, Any]:
    """The standard methods of something that refers to others, and may be referred to; `verify` refuses by raising."""

    def creating(unit: Unit, aggregate: Referrer) -> None:
        verify(unit, aggregate)
        created(unit, aggregate)
        for watcher in watchers:
            watcher.created(unit, aggregate)

    def changing(unit: Unit, aggregate: Referrer) -> None:
        verify(unit, aggregate)
        changed(unit, aggregate)
        for watcher in watchers:
            watcher.changed(unit, aggregate)

    def deleting(unit: Unit, aggregate: Referrer) -> None:
        refuse_when_referenced(unit, aggregate)
        for watcher in watchers:
            watcher.deleted(unit, aggregate)

    return Collection(database, cls, message, creating=creating, changed=changing, deleting=deleting)
