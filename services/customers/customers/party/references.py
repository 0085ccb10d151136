"""What is referred to stays."""

from collections.abc import Callable
from typing import Any

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


def collection(
    database: Database, cls: Any, message: Any, kind: Callable[..., Collection[Any, Any]] = Collection
) -> Collection[Any, Any]:
    """The standard methods of something that refers to others, and may be referred to."""
    return kind(database, cls, message, creating=created, changed=changed, deleting=refuse_when_referenced)
