"""How a person is erased: record by record, each in the transaction that says it is done, so that it may be
interrupted anywhere and begun again."""

from collections.abc import Mapping
from functools import partial

from google.protobuf.message import Message

from chassis.erasures import end, redact_parked, take_out
from chassis.personal import redacted
from chassis.timers import TimerHandler, set_timer
from chassis.types import Aggregate
from chassis.unit import Unit
from customers.document.contents import sweep_later
from customers.document.store import used_by
from customers.party.domain import Referrer
from customers.party.store import remember as remember_references
from customers.privacy import store
from customers.privacy.domain import ErasedRecord, Erasure, ErasureState
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
            taken = take_out(unit, erasure_id, kind, record_id, message, changed=partial(_changed, unit))
            aggregates, events = aggregates + taken.rows, events + taken.events
            versions += _versions(unit, kind, record_id, message)
        _delete(unit, record_id, found.branch)
    redact_parked(unit, batch)
    if batch:
        record = [ErasedRecord(kind=kind, id=record_id) for kind, record_id in batch]
        found.went_through(record, aggregates, events, versions)
    end(unit, batch)
    if len(batch) == BATCH:
        set_timer(unit, erasure_id, store.ERASE, unit.at, found.branch)
    elif found.state is ErasureState.IN_PROGRESS:
        found.complete(unit.at)


def _changed(unit: Unit, aggregate: Aggregate) -> None:
    if isinstance(aggregate, Referrer):
        remember_references(unit, aggregate)


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
