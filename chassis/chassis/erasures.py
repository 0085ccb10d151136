"""What an erasure takes out of a service: of a record its row, its events in the log, the answers that are remembered
and the events that are parked. Which records these are is for the service to say that keeps the persons."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from chassis.convert import attribute_types, from_message, to_message
from chassis.db import IDEMPOTENCY_DAYS
from chassis.personal import holds_personal, redact, redacted
from chassis.schema import isolate
from chassis.types import Aggregate
from chassis.unit import Unit


def erasure_table(metadata: sa.MetaData) -> sa.Table:
    """Defines the table of the records that erasures are about; those that aren't done yet may be taken out of the
    log."""
    return sa.Table(
        "erased_record",
        metadata,
        sa.Column("record_id", sa.Text, primary_key=True),
        # The type of the aggregate: what is worked out of a customer may have the customer's own id.
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("branch", sa.Text, nullable=False),
        sa.Column("erasure_id", sa.Text, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Index("erased_record_undone", "erasure_id", postgresql_where=sa.text("NOT done")),
    )


# The service's role may only add to the log. This one change of it, with the owner's rights and under the policies of
# the caller's branches (which bind the owner too), takes something out of events of records that an erasure is about.
REDACTING = """
    CREATE FUNCTION redact_events(erasing text, ids text[], times timestamptz[], redacted bytea[]) RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        WITH changed AS (
            UPDATE event SET data = clean.data
            FROM unnest(ids, times, redacted) AS clean (id, time, data)
            WHERE event.id = clean.id AND event.time = clean.time
                AND octet_length(clean.data) < octet_length(event.data)
                AND EXISTS (
                    SELECT FROM erased_record record
                    WHERE record.record_id = event.aggregate_id AND record.kind = event.aggregate_type
                        AND record.branch = event.branch AND record.erasure_id = erasing AND NOT record.done
                )
            RETURNING 1
        )
        SELECT count(*) FROM changed
    $$
"""


def erasure_statements() -> Iterator[str]:
    """The statements that make the table, put it under row-level security, and let the log be redacted by it."""
    yield """
        CREATE TABLE erased_record (
            record_id text, kind text, branch text NOT NULL, erasure_id text NOT NULL, done boolean NOT NULL,
            PRIMARY KEY (record_id, kind)
        )
    """
    yield "CREATE INDEX erased_record_undone ON erased_record (erasure_id) WHERE NOT done"
    yield from isolate("erased_record")
    yield REDACTING


_ADD = """
    INSERT INTO erased_record (record_id, branch, kind, erasure_id, done)
    SELECT record.id, %(branch)s, record.kind, %(erasure)s, false
    FROM unnest(%(ids)s::text[], %(kinds)s::text[]) AS record (id, kind)
    ON CONFLICT (record_id, kind) DO UPDATE SET done = false
"""


def begin(unit: Unit, erasure_id: str, branch: str, records: Iterable[tuple[str, str]]) -> None:
    """That the records, each its kind and id, are to be redacted: with the unit's next flush."""
    found = sorted(set(records))
    if found:
        kinds, ids = zip(*found, strict=True)
        unit.later(_ADD, {"branch": branch, "erasure": erasure_id, "ids": list(ids), "kinds": list(kinds)})


_END = """
    UPDATE erased_record SET done = true FROM unnest(%(ids)s::text[], %(kinds)s::text[]) AS record (id, kind)
    WHERE record_id = record.id AND erased_record.kind = record.kind
"""


def end(unit: Unit, records: Iterable[tuple[str, str]]) -> None:
    """That nothing personal is left of the records, each its kind and id."""
    found = sorted(set(records))
    unit.later(_END, {"ids": [key for _, key in found], "kinds": [kind for kind, _ in found]})


@dataclass(slots=True)
class Taken:
    """From how many rows, events and answers something was taken."""

    rows: int = 0
    events: int = 0
    answers: int = 0


def take_out(
    unit: Unit,
    erasure_id: str,
    kind: str,
    id: str,
    message: type[Message],
    *,
    changed: Callable[[Aggregate], None] = lambda aggregate: None,
) -> Taken:
    """Takes what is personal out of a record that has begun to be erased. `changed` is told of its aggregate, if that
    has changed."""
    taken = Taken()
    for cls in unit.database.resources:
        aggregate = unit.find(cls, id) if cls.__name__ == kind else None
        if aggregate is not None and redact_aggregate(aggregate, message):
            changed(aggregate)
            taken.rows = 1
    # Its event is among those that the log is looked through for.
    unit.flush()
    times = _events(unit, erasure_id, kind, id, message, taken)
    _answers(unit, id, times, taken)
    return taken


def redact_aggregate(aggregate: Aggregate, message_class: type[Message]) -> bool:
    """Takes what is personal out of an aggregate, past the rules of changes: a person without a name is none of them.
    Whether there was anything."""
    message = to_message(aggregate, message_class)
    before = {field.name: value for field, value in to_message(aggregate, message_class).ListFields()}
    if not redact(message):
        return False
    clean = from_message(message, type(aggregate), id=aggregate.id, branch=aggregate.branch)
    after = {field.name: value for field, value in message.ListFields()}
    for name in attribute_types(type(aggregate)):
        if before.get(name) != after.get(name):
            setattr(aggregate, name, getattr(clean, name))
    return True


_EVENTS = "SELECT id, time, data FROM event WHERE aggregate_id = %(id)s AND aggregate_type = %(kind)s"
_REDACT_EVENTS = "SELECT redact_events(%(erasure)s, %(ids)s, %(times)s, %(data)s)"


def _events(
    unit: Unit, erasure_id: str, kind: str, id: str, message: type[Message], taken: Taken
) -> Sequence[datetime]:
    """The log's rows, in place: the only change that it ever sees, by a function that knows of the erasure. When they
    were written."""
    with unit.cursor() as cursor:
        rows = cursor.execute(_EVENTS, {"id": id, "kind": kind}).fetchall()
        clean = [(row[0], row[1], data) for row in rows if (data := redacted(bytes(row[2]), message)) is not None]
        if clean:
            ids, times, contents = zip(*clean, strict=True)
            values = {"erasure": erasure_id, "ids": list(ids), "times": list(times), "data": list(contents)}
            changed = cursor.execute(_REDACT_EVENTS, values).fetchone()
            assert changed is not None
            taken.events = int(changed[0])
    return [row[1] for row in rows]


# What was answered is remembered in the transaction that changed the record, by the same instant.
_ANSWERS = """
    SELECT principal, method, key, response FROM idempotency
    WHERE created_at = ANY (%(times)s) AND position(convert_to(%(id)s, 'UTF8') IN response) > 0
"""
_REDACT_ANSWER = """
    UPDATE idempotency SET response = %(response)s
    WHERE principal = %(principal)s AND method = %(method)s AND key = %(key)s
"""


def _answers(unit: Unit, id: str, times: Sequence[datetime], taken: Taken) -> None:
    """The answers that tell of the record: they stay, so that what is sent again isn't done again, but say less."""
    lasting = [time for time in times if time > unit.at - timedelta(days=IDEMPOTENCY_DAYS + 1)]
    if not lasting:
        return
    with unit.cursor() as cursor:
        rows = cursor.execute(_ANSWERS, {"times": lasting, "id": id}).fetchall()
    for principal, method, key, response in rows:
        data = redacted(bytes(response), _answer_of(unit, method))
        if data is not None:
            taken.answers += 1
            unit.later(_REDACT_ANSWER, {"principal": principal, "method": method, "key": key, "response": data})


def _answer_of(unit: Unit, method: str) -> type[Message]:
    """What a method (PartyService/CreateIndividual) answers. Raises KeyError for one that isn't ours."""
    service, _, name = method.partition("/")
    packages = {resource.message.DESCRIPTOR.file.package for resource in unit.database.resources.values()}
    for package in sorted(packages):
        try:
            found = descriptor_pool.Default().FindServiceByName(f"{package}.{service}")
        except KeyError:
            continue
        answer: type[Message] = GetMessageClass(found.methods_by_name[name].output_type)
        return answer
    raise KeyError(method)


_PARKED = """
    SELECT consumer, event_id, headers ->> 'ce-datatype', data FROM parked_event
    WHERE headers ->> 'ce-subject' = ANY (%(subjects)s)
"""
_REDACT_PARKED = "UPDATE parked_event SET data = %(data)s WHERE consumer = %(consumer)s AND event_id = %(event)s"


def redact_parked(unit: Unit, records: Iterable[tuple[str, str]]) -> int:
    """Takes what is personal out of the events of the records, each its kind and id, that wait for a person to see to
    them: few, or somebody is on call. From how many."""
    subjects = [f"{kind}/{key}" for kind, key in records]
    with unit.cursor() as cursor:
        rows = cursor.execute(_PARKED, {"subjects": subjects}).fetchall()
    number = 0
    for consumer, event_id, data_type, data in rows:
        described: Any = descriptor_pool.Default().FindMessageTypeByName(data_type)
        clean = redacted(bytes(data), GetMessageClass(described)) if holds_personal(described) else None
        if clean is not None:
            number += 1
            unit.later(_REDACT_PARKED, {"data": clean, "consumer": consumer, "event": event_id})
    return number


def carry_out(unit: Unit, erasure_id: str, branch: str, records: Iterable[tuple[str, str]]) -> None:
    """Takes what is personal out of what is ours of the records, each its kind and id, and of what is parked of any."""
    found = sorted(set(records))
    messages = {cls.__name__: resource.message for cls, resource in unit.database.resources.items()}
    # Of all: what somebody still tells of them later is known to be of an erased person.
    begin(unit, erasure_id, branch, found)
    for kind, key in found:
        if kind in messages:
            take_out(unit, erasure_id, kind, key, messages[kind])
    redact_parked(unit, found)
    end(unit, found)


def erased(unit: Unit, kind: str, id: str) -> bool:
    """Whether an erasure is about the record."""
    query = "SELECT 1 FROM erased_record WHERE record_id = %(id)s AND kind = %(kind)s"
    return unit.cursor().execute(query, {"id": id, "kind": kind}).fetchone() is not None
