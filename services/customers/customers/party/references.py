"""What is referred to stays."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.references import lock_references
from chassis.resources import Collection, Conditions, Filters
from chassis.unit import Unit
from customers.party import store
from customers.party.domain import Referrer
from svyaz.type.v1 import requests_pb2

_EQUAL = (requests_pb2.Filter.OPERATOR_UNSPECIFIED, requests_pb2.Filter.OPERATOR_EQ)


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


def require_branch(unit: Unit, branch: str, targets: Mapping[str, str]) -> Mapping[str, str]:
    """Id → branch of those parties and customers that are referred to (by the path of each reference) and known: they
    aren't deleted before the end of the transaction. Raises InvalidArgument OTHER_BRANCH naming those of another."""
    branches = store.branches_of(unit, list(targets.values()))
    wrong = [path for path, target in targets.items() if branches.get(target, branch) != branch]
    if wrong:
        raise InvalidArgument(
            "OTHER_BRANCH",
            "what is referred to belongs to another branch",
            violations=[Violation(path, "of another branch") for path in wrong],
        )
    return branches


def found_by_reference(table: sa.Table, *paths: str) -> Callable[[Filters], tuple[Filters, Conditions]]:
    """For a collection's `elsewhere`: filters that say whom a thing refers to are also put in terms of the references,
    which an index serves; by itself the condition on the JSON would look at every row of the branch."""

    def conditions(filters: Filters) -> tuple[Filters, Conditions]:
        found: Conditions = []
        references = store.references.table.c
        for condition in filters:
            if condition.path in paths and condition.operator in _EQUAL and condition.value:
                referrers = sa.select(references.referrer_id).where(references.target_id.in_(list(condition.value)))
                found.append(table.c.id.in_(referrers))
        return filters, found

    return conditions


class Watcher(Protocol):
    """Another sub-domain that keeps what parties and customers say of themselves: in the transaction that says it."""

    def created(self, unit: Unit, aggregate: Referrer) -> None: ...

    def changed(self, unit: Unit, aggregate: Referrer) -> None: ...

    def deleted(self, unit: Unit, aggregate: Referrer) -> None: ...


def collection(
    database: Database,
    cls: Any,
    message: Any,
    kind: Callable[..., Collection[Any, Any]] = Collection,
    watchers: Sequence[Watcher] = (),
    verify: Callable[[Unit, Any], None] = lambda unit, aggregate: None,
) -> Collection[Any, Any]:
    """The standard methods of something that refers to others, and may be referred to; `verify` refuses by raising,
    `kind` is Collection, or one that knows of merges."""

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

    return kind(database, cls, message, creating=creating, changed=changing, deleting=deleting)
