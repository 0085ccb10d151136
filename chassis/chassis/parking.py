"""Parked keys: a key whose event failed for good waits here for a person, with all its later events; others go on."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from chassis.cloudevents import ReceivedEvent, received
from chassis.db import Database
from chassis.errors import Aborted, NotFound
from chassis.events import Failure, acting, attempt, bus_tables
from chassis.unit import Unit

log = logging.getLogger(__name__)

Handler = Callable[[ReceivedEvent, Unit], None]


def all_of(*handlers: Handler) -> Handler:
    """A handler that lets each of them handle an event, in the same transaction."""

    def handle(event: ReceivedEvent, unit: Unit) -> None:
        for handler in handlers:
            handler(event, unit)

    return handle


# Parking one more and freeing the last mustn't overlap. Transaction-locally, so that it works behind a pooler.
_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


@dataclass(frozen=True, slots=True)
class Replay:
    """How far a replay came; no failure: the key is free."""

    replayed: int
    failure: Failure | None


class Parking:
    """The parked keys of one consumer."""

    def __init__(self, database: Database, service: str, consumer: str) -> None:
        self._database = database
        self._service = service
        self._consumer = consumer
        tables = bus_tables(database.metadata)
        self._key, self._event = tables.parked_key, tables.parked_event

    def count(self) -> int:
        """How many keys are parked."""
        with acting(self._service, self._consumer), self._database.unit() as unit:
            statement = sa.select(sa.func.count()).where(self._key.c.consumer == self._consumer)
            return int(unit.session.execute(statement.select_from(self._key)).scalar_one())

    def park(self, event: ReceivedEvent, error: str) -> None:
        """Parks the event's key, the event first."""
        with acting(self._service, self._consumer, event.branch), self._database.unit() as unit:
            self._lock(unit, event.key)
            unit.session.execute(
                postgresql.insert(self._key)
                .values(consumer=self._consumer, key=event.key, parked_at=unit.at)
                .on_conflict_do_nothing()
            )
            self._append(unit, event, error)

    def append(self, event: ReceivedEvent) -> bool:
        """Puts the event behind those of its key that are parked; False when the key has become free meanwhile."""
        with acting(self._service, self._consumer, event.branch), self._database.unit() as unit:
            self._lock(unit, event.key)
            parked = self._is_parked(unit, event.key)
            if parked:
                self._append(unit, event, None)
        return parked

    def replay(self, key: str, handle: Handler) -> Replay:
        """Handles the parked events of the key in order, each in its transaction, until one fails or none is left.

        Raises NotFound when the key isn't parked.
        """
        replayed = 0
        while True:
            head = self._head(key, first=replayed == 0)
            if head is None:
                log.info("a parked key is free", extra={"fields": {"consumer": self._consumer, "replayed": replayed}})
                return Replay(replayed, None)
            failure = attempt(partial(self._again, head, handle))
            if isinstance(failure, Failure):
                self._note(head, failure.error)
                return Replay(replayed, failure)
            replayed += 1

    def _head(self, key: str, first: bool) -> ReceivedEvent | None:
        """The first parked event of the key; without any, the key is freed."""
        event = self._event
        with acting(self._service, self._consumer), self._database.unit() as unit:
            self._lock(unit, key)
            row = unit.session.execute(
                sa.select(event.c.subject, event.c.headers, event.c.data)
                .where(event.c.consumer == self._consumer, event.c.key == key)
                .order_by(event.c.position)
                .limit(1)
            ).first()
            if row is not None:
                return stored(row.subject, row.headers, row.data)
            freed = unit.session.execute(
                sa.delete(self._key)
                .where(self._key.c.consumer == self._consumer, self._key.c.key == key)
                .returning(self._key.c.key)
            ).first()
            if freed is None and first:
                raise NotFound("KEY_NOT_PARKED", f"the consumer {self._consumer} has no parked key {key!r}")
        return None

    def _again(self, event: ReceivedEvent, handle: Handler) -> None:
        with (
            acting(self._service, self._consumer, event.branch, event.on_behalf_of or event.actor),
            self._database.unit() as unit,
        ):
            self._lock(unit, event.key)
            gone = unit.session.execute(
                sa.delete(self._event).where(
                    self._event.c.consumer == self._consumer, self._event.c.event_id == event.id
                )
            )
            if gone.rowcount != 1:  # type: ignore[attr-defined]
                raise Aborted("REPLAYED_ELSEWHERE", "somebody else replays the same key")
            handle(event, unit)

    def _note(self, event: ReceivedEvent, error: str) -> None:
        with acting(self._service, self._consumer, event.branch), self._database.unit() as unit:
            unit.session.execute(
                sa.update(self._event)
                .where(self._event.c.consumer == self._consumer, self._event.c.event_id == event.id)
                .values(error=error)
            )

    def _lock(self, unit: Unit, key: str) -> None:
        unit.session.execute(_LOCK, {"name": f"{self._consumer}/{key}"})

    def _is_parked(self, unit: Unit, key: str) -> bool:
        statement = sa.select(sa.exists().where(self._key.c.consumer == self._consumer, self._key.c.key == key))
        return bool(unit.session.execute(statement).scalar_one())

    def _append(self, unit: Unit, event: ReceivedEvent, error: str | None) -> None:
        # An event that comes again (after a restart) keeps its place.
        unit.session.execute(
            postgresql.insert(self._event)
            .values(
                consumer=self._consumer,
                event_id=event.id,
                key=event.key,
                branch=event.branch,
                subject=event.subject,
                # As text: the engine leaves JSON columns to the types that know what they hold.
                headers=json.dumps(dict(event.headers)),
                data=event.data,
                error=error,
                parked_at=unit.at,
            )
            .on_conflict_do_nothing()
        )


def stored(subject: str, headers: bytes | str, data: bytes) -> ReceivedEvent:
    """An event as it was parked."""
    return received(subject, json.loads(headers), bytes(data), 0)
