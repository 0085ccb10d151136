"""Who has looked at whose records: written before the answer goes out, shown to whom it concerns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import psycopg
import sqlalchemy as sa
from google.protobuf.message import Message

from chassis import calls
from chassis.clock import Clock
from chassis.db import Database
from chassis.errors import Unavailable
from chassis.personal import holds_personal
from chassis.reading import NOTHING_NOTED, Note
from chassis.schema import Resource
from chassis.sharing import Shared
from chassis.types import Aggregate, new_id
from chassis.unit import Unit
from customers.privacy.records import NAMES, Record, of_method
from customers.schema import UnderErasure, UnderMerge, metadata, under_erasure, under_merge

UNSTATED = "unstated"
# Services read for their own work; they don't look at anybody.
_SERVICE = "service"

access = sa.Table(
    "access",
    metadata,
    # One row a record: an index on (record, time) costs a write less than one on an array of them, and a list is rare.
    sa.Column("record_id", sa.Text, primary_key=True),
    sa.Column("at", sa.TIMESTAMP(timezone=True), primary_key=True),
    # The same for all records of one answer.
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    # Rows come in the order of time: a summary of each few pages finds those that are old enough to go.
    sa.Index("access_at", "at", postgresql_using="brin"),
)
under_merge(UnderMerge.BY_MEMBERS, access, columns=("record_id",))
# That somebody looked stays true, and is ids only.
under_erasure(UnderErasure.KEPT, access)

# For several answers at once, each row as the table's own type. What is set local to the transaction counts when it
# ends: nobody waits for the disk.
_WRITE = """
    , written AS (
        INSERT INTO access (record_id, at, id, branch, actor, purpose, method)
        SELECT record_id, at, id, branch, actor, purpose, method FROM unnest(WANTED::access[])
        -- Written before the connection was lost.
        ON CONFLICT DO NOTHING
    )
    SELECT set_config('synchronous_commit', 'off', true)
"""
# For the one that is read by its id.
_NOTE = """
    INSERT INTO access (record_id, at, id, branch, actor, purpose, method)
    SELECT key, $3::text::timestamptz, $4, branch, $5, $6, $7 FROM found, unnest(ARRAY[{keys}]) AS key WHERE key <> ''
    ON CONFLICT DO NOTHING
"""
# For all that is known of a customer: this is one look, at him.
_NOTE_VIEW = """
    INSERT INTO access (record_id, at, id, branch, actor, purpose, method)
    SELECT (WANTED)[1], $3::text::timestamptz, $4, min(branch), $5, $6, $7 FROM found WHERE kind = 'Customer'
    HAVING count(*) > 0 ON CONFLICT DO NOTHING
"""
_OF = """
    SELECT id, at, actor, purpose, method, record_id FROM access
    WHERE record_id = ANY (%(records)s) AND at < %(before)s ORDER BY at DESC, id DESC, record_id LIMIT %(limit)s
"""
_FORGET = """
    DELETE FROM access WHERE ctid = ANY (ARRAY(SELECT ctid FROM access WHERE at < %(before)s LIMIT %(batch)s))
"""


@dataclass(frozen=True, slots=True)
class Access:
    """One look of one person at one record."""

    id: str
    at: datetime
    actor: str
    purpose: str
    method: str
    record_id: str


class AccessLog:
    """Logs what persons are answered. Answers that are given at one moment are logged together, in one round trip."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shared: Shared[bool] = Shared()

    def of_method(self, method: Any) -> Callable[[Any, Any], None] | None:
        """What logs the answers of a method; None where nothing in them is about a person."""
        find = of_method(method)
        if find is None:
            return None

        def log(request: Message, answer: Message) -> None:
            call = calls.current()
            if _is_person(call):
                self._log(call, find(request, answer))

        return log

    def _log(self, call: calls.Call, records: Iterable[Record]) -> None:
        principal = call.principal
        # Who acts in several branches may be shown what doesn't say whose it is: it is then logged in the first.
        own = principal.branches[0] if principal.branches else ""
        shown = dict.fromkeys((key, branch or own) for keys, branch in records for key in keys if key not in call.noted)
        if not shown:
            return
        at, answer, *how = _look(call, self._database.clock)
        rows = [_row(key, at, answer, branch, *how) for key, branch in shown]
        self._shared.of(principal.branch_setting, rows, self._write)

    def _write(self, rows: Sequence[str]) -> bool:
        try:
            self._database.rows(_WRITE, rows)
        except psycopg.Error as error:
            raise Unavailable(NOTHING_NOTED, "nothing is shown that can't be logged") from error
        return True


def notes(resources: Mapping[type[Aggregate], Resource], clock: Clock) -> Mapping[type[Aggregate], Note]:
    """For what is about a person and read by its id: its log is written in the statement that reads it."""

    def statement(message: type[Message]) -> str:
        # What the row is read with: a column that is reckoned from others isn't.
        names = [name for name in NAMES if name in message.DESCRIPTOR.fields_by_name]
        return _NOTE.format(keys=", ".join(f"found.{name}" for name in names))

    return {
        cls: Note(statement(resource.message), partial(_look_of_person, clock))
        for cls, resource in resources.items()
        if holds_personal(resource.message.DESCRIPTOR)
    }


def note_of_view(clock: Clock) -> Note:
    """For the view: its log is written in the statement that finds what is in it."""
    return Note(_NOTE_VIEW, partial(_look_of_person, clock))


def _look_of_person(clock: Clock, call: calls.Call) -> Sequence[str] | None:
    return _look(call, clock) if _is_person(call) else None


def _is_person(call: calls.Call) -> bool:
    return _SERVICE not in call.principal.roles


def _look(call: calls.Call, clock: Clock) -> tuple[str, str, str, str, str]:
    """When it is, an id of its own, who looks, why, and by what."""
    return clock.now().isoformat(), new_id(), call.principal.subject, call.purpose or UNSTATED, call.method


def _row(*values: str) -> str:
    """A row as PostgreSQL reads one."""
    return "(" + ",".join('"' + value.replace("\\", "\\\\").replace('"', '""') + '"' for value in values) + ")"


def of_records(unit: Unit, records: Sequence[str], before: datetime, limit: int) -> list[Access]:
    """Who looked at any of the records before the instant, the latest first."""
    with unit.cursor() as cursor:
        rows = cursor.execute(_OF, {"records": list(records), "before": before, "limit": limit}).fetchall()
    return [Access(*row) for row in rows]


def forget(unit: Unit, before: datetime, batch: int) -> int:
    """Removes at most `batch` entries from before the instant; how many these were."""
    return unit.cursor().execute(_FORGET, {"before": before, "batch": batch}).rowcount
