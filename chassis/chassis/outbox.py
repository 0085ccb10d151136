"""What is to be sent: the rows of an outbox as messages, and the outbox of a service's events."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import sqlalchemy as sa

from chassis import telemetry
from chassis.cloudevents import headers_of, subject_of
from chassis.db import Database
from chassis.epochs import CURRENT
from chassis.events import acting

# A measurement that takes longer is given up: it would hold up the end of the process.
MEASURING_SECONDS = 10.0


@dataclass(slots=True)
class Outgoing:
    """A message on its way into the stream; `id` is its row's identity, which grows along each key."""

    id: int
    key: str
    subject: str
    headers: Mapping[str, str]
    data: bytes


class OutboxSource(Protocol):
    """A table whose rows are messages to be sent."""

    def exchange(
        self, sent: Sequence[int], limit: int, after: int, known: Collection[int], held: Collection[str]
    ) -> Sequence[Outgoing]:
        """Takes the rows `sent` off the table (the stream has them) and returns the first `limit` unsent rows by id
        beyond `after`, but those in `known` and those of the keys in `held`; none when `limit` is 0.

        Read it in one statement, hence one snapshot: then a row is never seen before an earlier one of its key.
        """

    def measure(self, blocked: Collection[str]) -> None:
        """Sets the gauges of what is unsent; the keys `blocked` can't be published. Called every two seconds, beside
        what is exchanged; waited for when the relay is stopped, so it has to end."""

    def forget(self) -> None:
        """Sets the gauges to 0: another replica measures now."""


class EventOutbox:
    """The unsent tail of a service's event log."""

    # The inner LIMIT makes it one index look-up per row, whatever the planner thinks of tables that are empty most of
    # the time.
    _FETCH = f"""
        SELECT ({CURRENT}), o.id, o.ordering_key, e.id, e.time, e.type, e.aggregate_type, e.aggregate_id, e.version,
            e.branch, e.actor, e.on_behalf_of, e.schema_revision, e.data_type, e.data, e.partition, e.traceparent
        FROM (
            SELECT id, event_id, event_time, ordering_key FROM outbox
            WHERE id > %s AND id <> ALL (%s::bigint[]) AND ordering_key <> ALL (%s::text[]) ORDER BY id LIMIT %s
        ) o
        CROSS JOIN LATERAL (SELECT * FROM event WHERE time = o.event_time AND id = o.event_id LIMIT 1) e
        ORDER BY o.id
    """  # noqa: S608
    _SENT = "DELETE FROM outbox WHERE id = ANY (%s::bigint[])"
    # A blocked key is told by itself: what waits behind it mustn't look as if nothing were sent.
    _BACKLOG = sa.text(
        """
        SELECT count(*), min(event_time) FILTER (WHERE ordering_key <> ALL (CAST(:blocked AS text[])))
        FROM (SELECT event_time, ordering_key FROM outbox ORDER BY id LIMIT 100000) o
        """
    )

    def __init__(self, database: Database, service: str) -> None:
        self._database = database
        self._service = service
        self._source = f"svyaz/{service}"

    def exchange(
        self, sent: Sequence[int], limit: int, after: int, known: Collection[int], held: Collection[str]
    ) -> Sequence[Outgoing]:
        """Forgets what the stream has and returns the next unsent events."""
        rows = None
        with acting(self._service, "relay"), self._database.at_once() as connection:
            if sent:
                connection.execute(self._SENT, (list(sent),), prepare=True)
            if limit:
                unsent = (after, list(known), list(held), limit)
                rows = connection.cursor(binary=True).execute(self._FETCH, unsent, prepare=True)
        return [self._outgoing(*row) for row in rows or ()]

    def _outgoing(
        self,
        epoch: int,
        number: int,
        key: str,
        id: str,
        time: datetime,
        type: str,
        aggregate_type: str,
        aggregate_id: str,
        version: int,
        branch: str,
        actor: str,
        on_behalf_of: str | None,
        schema_revision: int,
        data_type: str,
        data: bytes,
        partition: int,
        traceparent: str | None,
    ) -> Outgoing:
        headers = headers_of(
            id=id,
            source=self._source,
            type=type,
            time=time,
            aggregate_type=aggregate_type,
            aggregate_id=aggregate_id,
            version=version,
            branch=branch,
            key=key,
            actor=actor,
            on_behalf_of=on_behalf_of,
            schema_revision=schema_revision,
            data_type=data_type,
            traceparent=traceparent,
            epoch=epoch,
        )
        return Outgoing(number, key, subject_of(self._service, partition, type), headers, data)

    def measure(self, blocked: Collection[str]) -> None:
        """Exact up to 100,000 events."""
        with acting(self._service, "relay", seconds=MEASURING_SECONDS), self._database.unit() as unit:
            unsent, oldest = unit.session.execute(self._BACKLOG, {"blocked": list(blocked)}).one()
        age = (self._database.clock.now() - oldest).total_seconds() if oldest else 0.0
        self._tell(unsent, max(0.0, age), len(blocked))

    def forget(self) -> None:
        """Nothing waits here."""
        self._tell(0, 0.0, 0)

    def _tell(self, unsent: int, age: float, blocked: int) -> None:
        telemetry.OUTBOX_UNSENT.labels(self._service).set(unsent)
        telemetry.OUTBOX_OLDEST.labels(self._service).set(age)
        telemetry.OUTBOX_BLOCKED.labels(self._service).set(blocked)
