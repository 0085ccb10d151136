"""How a person is erased: record by record, each in the transaction that says it is done, so that it may be
interrupted anywhere and begun again."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from chassis.convert import attribute_types, from_message, to_message
from chassis.db import Unit
from chassis.personal import holds_personal, marked_personal, nested_personal, redact, redacted
from chassis.timers import TimerHandler, set_timer
from chassis.types import Aggregate
from customers.document.contents import sweep_later
from customers.document.store import used_by
from customers.party.domain import Referrer
from customers.party.store import remember as remember_references
from customers.privacy import store
from customers.privacy.domain import Erasure, ErasureState
from customers.privacy.person import message_class
from customers.schema import UnderErasure, metadata, rule_under_erasure

# So many records are redacted in one transaction.
BATCH = 50


def timers() -> Mapping[str, TimerHandler]:
    """The handlers of our timers, by purpose."""
    return {store.ERASE: step}


def step(erasure_id: str, unit: Unit) -> None:
    """Redacts the next records of an erasure; sets the timer of the next step, or says that it is completed."""
    found = unit.find(Erasure, erasure_id)
    if found is None:
        return
    batch = store.undone(unit, erasure_id, BATCH)
    aggregates = events = versions = 0
    for kind, record_id in batch:
        message = message_class(unit, kind)
        if message is not None:
            aggregates += _aggregate(unit, kind, record_id)
            events += _events(unit, erasure_id, kind, record_id, message)
            versions += _versions(unit, kind, record_id, message)
        _delete(unit, record_id, found.branch)
    if aggregates or events or versions:
        found.count(aggregates, events, versions)
    store.done(unit, [record_id for _, record_id in batch])
    if len(batch) == BATCH:
        set_timer(unit, erasure_id, store.ERASE, unit.at, found.branch)
    elif found.state is ErasureState.IN_PROGRESS:
        found.complete(unit.at)


def _aggregate(unit: Unit, kind: str, id: str) -> int:
    """The thing as it is now: a change like any other, so that everybody hears of it."""
    for cls, resource in unit.database.resources.items():
        if cls.__name__ == kind and holds_personal(resource.message.DESCRIPTOR):
            aggregate = unit.find(cls, id)
            if aggregate is not None and redact_aggregate(aggregate, resource.message):
                if isinstance(aggregate, Referrer):
                    remember_references(unit, aggregate)
                # Its event is among those that the log is looked through for.
                unit.flush()
                return 1
    return 0


def redact_aggregate(aggregate: Aggregate, message_class: type[Message]) -> bool:
    """Takes what is personal out of an aggregate, past the rules of changes: a person without a name is none of them.
    Whether there was anything."""
    message = to_message(aggregate, message_class)
    if not redact(message):
        return False
    clean = from_message(message, type(aggregate), id=aggregate.id, branch=aggregate.branch)
    touched = {*marked_personal(message.DESCRIPTOR), *nested_personal(message.DESCRIPTOR)}
    for name in attribute_types(type(aggregate)):
        if name in touched and getattr(aggregate, name) != getattr(clean, name):
            setattr(aggregate, name, getattr(clean, name))
    return True


_EVENTS = "SELECT id, time, data FROM event WHERE aggregate_id = %(id)s AND aggregate_type = %(kind)s"
_REDACT_EVENTS = "SELECT redact_events(%(erasure)s, %(ids)s, %(times)s, %(data)s)"


def _events(unit: Unit, erasure_id: str, kind: str, id: str, message: type[Message]) -> int:
    """The log's rows, in place: the only change that it ever sees, by a function that knows of the erasure."""
    with unit.cursor() as cursor:
        rows = cursor.execute(_EVENTS, {"id": id, "kind": kind}).fetchall()
        clean = [(row[0], row[1], data) for row in rows if (data := redacted(bytes(row[2]), message)) is not None]
        if not clean:
            return 0
        ids, times, contents = zip(*clean, strict=True)
        values = {"erasure": erasure_id, "ids": list(ids), "times": list(times), "data": list(contents)}
        return _number(cursor.execute(_REDACT_EVENTS, values).fetchone())


def _number(row: Sequence[Any] | None) -> int:
    assert row is not None
    return int(row[0])


_VERSIONS = """
    SELECT version, data FROM view_item WHERE kind = %(kind)s AND item_id = %(id)s ORDER BY version FOR UPDATE
"""
_REDACT_VERSIONS = """
    UPDATE view_item SET data = clean.data
    FROM unnest(%(versions)s::bigint[], %(data)s::bytea[]) AS clean (version, data)
    WHERE kind = %(kind)s AND item_id = %(id)s AND view_item.version = clean.version
"""


def _versions(unit: Unit, kind: str, id: str, message: type[Message]) -> int:
    """What the view remembers, every version of it."""
    with unit.cursor() as cursor:
        rows = dict(cursor.execute(_VERSIONS, {"kind": kind, "id": id}).fetchall())
        clean = {
            version: data for version, found in rows.items() if (data := redacted(bytes(found), message)) is not None
        }
        if clean:
            values = {"kind": kind, "id": id, "versions": list(clean), "data": list(clean.values())}
            cursor.execute(_REDACT_VERSIONS, values)
        return len(clean)


def _delete(unit: Unit, record_id: str, branch: str) -> None:
    """What was worked out of the record, and what is kept for it."""
    for content_hash in used_by(unit, record_id):
        # It is kept for a document; unless others have it too, it goes.
        sweep_later(unit, branch, content_hash)
    for table in metadata.tables.values():
        rule, columns = rule_under_erasure(table) or (None, ())
        if rule is UnderErasure.DELETED:
            for column in columns:
                # Names of our own tables and columns.
                unit.later(f"DELETE FROM {table.name} WHERE {column} = %(id)s", {"id": record_id})  # noqa: S608
