"""What the person on call does in every service: read the log, pause and resume consumers, free parked keys."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.dialects import postgresql

from chassis import calls
from chassis.auth import EVERY_BRANCH
from chassis.config import MAX_PAGE_BYTES
from chassis.consumer import Consumer
from chassis.db import Database
from chassis.errors import InvalidArgument, NotFound, Unavailable, Violation
from chassis.events import bus_tables
from chassis.horizon import horizon, oldest_running
from chassis.parking import stored
from chassis.schema import PARTITIONS
from chassis.unit import Unit
from svyaz.operations.v1 import operations_pb2 as pb
from svyaz.operations.v1.operations_pb2_grpc import OperationsServiceServicer

DEFAULT_LIMIT = 1_000
MAX_LIMIT = 10_000
# How long a reader waits for writers that may still have to commit an earlier event.
SETTLE_SECONDS = 5.0
# A parked key may have very many events behind the first: so many are shown, and counted.
SHOWN_EVENTS = 100
COUNTED_EVENTS = 10_000


class Operations(OperationsServiceServicer):
    """The operations of one service, over its log and its consumers."""

    def __init__(self, database: Database, consumers: Sequence[Consumer], *, service: str) -> None:
        self._database = database
        self._service = service
        self._consumers: Mapping[str, Consumer] = {consumer.name: consumer for consumer in consumers}
        self._tables = bus_tables(database.metadata)
        # Per partition: no event at or below it can appear any more.
        self._settled: dict[int, int] = {}
        self._lock = threading.Lock()

    # --- the log ---

    def ListEvents(self, request: pb.ListEventsRequest, context: grpc.ServicerContext) -> pb.ListEventsResponse:
        """The events of a partition after a position. Each aggregate's come in the order of its versions, and none
        is ever left out: not even that of a transaction which drew its position early and committed late.

        Raises InvalidArgument, Unavailable LOG_UNSETTLED while an old transaction that may have events still runs.
        """
        if not 0 <= request.partition < PARTITIONS:
            raise _invalid("partition", f"a partition is a number from 0 to {PARTITIONS - 1}")
        if not 0 <= request.limit <= MAX_LIMIT:
            raise _invalid("limit", f"at most {MAX_LIMIT}")
        limit = request.limit or DEFAULT_LIMIT
        settled = self._settled.get(request.partition, 0)
        if settled > request.after:
            found = self._page(request.partition, request.after, settled, limit)
            if found:
                return pb.ListEventsResponse(event=found)
        settled = self._settle(request.partition)
        return pb.ListEventsResponse(event=self._page(request.partition, request.after, settled, limit))

    def _settle(self, partition: int) -> int:
        """The last position for which it is certain that every position below is committed or will never be: the last
        one seen, once the horizon has passed it (`chassis.horizon`; the aggregate is written before its event).

        Order by position is the order of versions, because an aggregate's row is locked until its event is committed;
        the order of transactions isn't, since a transaction that began earlier may change the aggregate later.
        """
        until = time.monotonic() + min(SETTLE_SECONDS, calls.current().remaining() or SETTLE_SECONDS) * 0.9
        with self._as_service() as unit:
            last = int(unit.session.execute(_LAST, {"partition": partition}).scalar_one())
            if last <= self._settled.get(partition, 0):
                return last
            newest = horizon(unit.session).newest
        while True:
            with self._as_service() as unit:
                if oldest_running(unit.session) >= newest:
                    break
            if time.monotonic() > until:
                raise Unavailable("LOG_UNSETTLED", "a transaction that began before the last event is still running")
            time.sleep(0.005)
        with self._lock:
            self._settled[partition] = max(last, self._settled.get(partition, 0))
        return last

    @contextmanager
    def _as_service(self) -> Iterator[Unit]:
        """A transaction that sees every branch, for the caller: what is settled is settled for all of them."""
        service = calls.Call.background(self._service, "operations", branches=(EVERY_BRANCH,)).principal
        with calls.using(replace(calls.current(), principal=service)), self._database.unit() as unit:
            yield unit

    def _page(self, partition: int, after: int, settled: int, limit: int) -> list[pb.Event]:
        with self._database.unit() as unit:
            rows = unit.session.execute(
                _PAGE, {"partition": partition, "after": after, "settled": settled, "limit": limit}
            )
            events: list[pb.Event] = []
            size = 0
            for row in rows:
                size += len(row.data) + 300
                if events and size > MAX_PAGE_BYTES:
                    break
                events.append(_event(row))
        return events

    # --- consumers ---

    def ListConsumers(
        self, request: pb.ListConsumersRequest, context: grpc.ServicerContext
    ) -> pb.ListConsumersResponse:
        """The service's consumers, with their switches."""
        with self._database.unit() as unit:
            return pb.ListConsumersResponse(consumer=[self._shown(unit, c) for c in self._consumers.values()])

    def PauseConsumer(self, request: pb.PauseConsumerRequest, context: grpc.ServicerContext) -> pb.Consumer:
        """Pauses a consumer on every replica, within a second. Raises InvalidArgument without a reason, NotFound."""
        if not request.reason.strip():
            raise _invalid("reason", "say why, for those who find it paused")
        return self._switch(request.name, True, request.reason.strip())

    def ResumeConsumer(self, request: pb.ResumeConsumerRequest, context: grpc.ServicerContext) -> pb.Consumer:
        """Lets a consumer go on where it was. Raises NotFound."""
        return self._switch(request.name, False, "")

    def _switch(self, name: str, paused: bool, reason: str) -> pb.Consumer:
        consumer = self._consumer(name)
        table = self._tables.consumer_switch
        with self._database.unit() as unit:
            values = {"paused": paused, "by": unit.call.principal.subject, "reason": reason, "at": unit.at}
            unit.session.execute(
                postgresql.insert(table)
                .values(consumer=name, **values)
                .on_conflict_do_update(index_elements=[table.c.consumer], set_=values)
            )
            return self._shown(unit, consumer)

    def _shown(self, unit: Unit, consumer: Consumer) -> pb.Consumer:
        switch, parked = self._tables.consumer_switch, self._tables.parked_key
        row = unit.session.execute(sa.select(switch).where(switch.c.consumer == consumer.name)).first()
        keys = unit.session.execute(
            sa.select(sa.func.count()).select_from(parked).where(parked.c.consumer == consumer.name)
        ).scalar_one()
        shown = pb.Consumer(name=consumer.name, stream=consumer.stream, parked_keys=keys)
        if row is not None and row.paused:
            shown.paused, shown.paused_by, shown.reason = True, row.by, row.reason
            shown.paused_at.FromDatetime(row.at)
        return shown

    def _consumer(self, name: str) -> Consumer:
        consumer = self._consumers.get(name)
        if consumer is None:
            raise NotFound("NOT_FOUND", f"there is no consumer {name!r} here", metadata={"resource": "Consumer"})
        return consumer

    # --- parked keys ---

    def ListParkedKeys(
        self, request: pb.ListParkedKeysRequest, context: grpc.ServicerContext
    ) -> pb.ListParkedKeysResponse:
        """The parked keys of one consumer or of all, the oldest first, without their events; how many of these wait is
        counted up to 10,000."""
        with self._database.unit() as unit:
            rows = unit.session.execute(_PARKED, {"consumer": request.consumer or None, "key": None})
            return pb.ListParkedKeysResponse(parked_key=[_parked_key(row) for row in rows])

    def GetParkedKey(self, request: pb.GetParkedKeyRequest, context: grpc.ServicerContext) -> pb.ParkedKey:
        """A parked key with its first 100 events. Raises NotFound."""
        event = self._tables.parked_event
        with self._database.unit() as unit:
            row = unit.session.execute(_PARKED, {"consumer": request.consumer, "key": request.key}).first()
            if row is None:
                raise NotFound("KEY_NOT_PARKED", f"the consumer {request.consumer!r} has no parked key {request.key!r}")
            shown = _parked_key(row)
            for stored in unit.session.execute(
                sa.select(event)
                .where(event.c.consumer == request.consumer, event.c.key == request.key)
                .order_by(event.c.position)
                .limit(SHOWN_EVENTS)
            ):
                shown.event.append(_parked_event(stored))
        return shown

    def ReplayParkedKey(
        self, request: pb.ReplayParkedKeyRequest, context: grpc.ServicerContext
    ) -> pb.ReplayParkedKeyResponse:
        """Tries the parked events of a key again, in order, as the service. Raises NotFound."""
        consumer = self._consumer(request.consumer)
        # Only who may see the key may set it going.
        self.GetParkedKey(pb.GetParkedKeyRequest(consumer=request.consumer, key=request.key), context)
        replay = consumer.replay(request.key)
        return pb.ReplayParkedKeyResponse(
            replayed=replay.replayed, error=replay.failure.error if replay.failure is not None else ""
        )


# --- statements and shapes ---

_LAST = sa.text("SELECT coalesce(max(position), 0) FROM event WHERE partition = :partition")
_PAGE = sa.text(
    """
    SELECT position, id, time, type, aggregate_type, aggregate_id, version, branch, actor, on_behalf_of,
        schema_revision, data_type, data
    FROM event WHERE partition = :partition AND position > :after AND position <= :settled
    ORDER BY position LIMIT :limit
    """
)


# A key is seen by those who see its first event.
_PARKED = sa.text(
    f"""
    SELECT k.consumer, k.key, first.parked_at, coalesce(first.error, '') AS error, behind.waiting
    FROM parked_key k
    CROSS JOIN LATERAL (
        SELECT position, parked_at, error FROM parked_event e WHERE e.consumer = k.consumer AND e.key = k.key
        ORDER BY position LIMIT 1
    ) AS first
    CROSS JOIN LATERAL (
        SELECT count(*) AS waiting FROM (
            SELECT FROM parked_event e WHERE e.consumer = k.consumer AND e.key = k.key LIMIT {COUNTED_EVENTS}
        ) AS counted
    ) AS behind
    WHERE (CAST(:consumer AS text) IS NULL OR k.consumer = :consumer) AND (CAST(:key AS text) IS NULL OR k.key = :key)
    ORDER BY first.position
    """  # noqa: S608
)


def _invalid(field: str, why: str) -> InvalidArgument:
    return InvalidArgument("INVALID_ARGUMENT", f"{field}: {why}", violations=[Violation(field, why)])


def _event(row: Any) -> pb.Event:
    event = pb.Event(
        id=row.id,
        position=row.position,
        type=row.type,
        aggregate_type=row.aggregate_type,
        aggregate_id=row.aggregate_id,
        version=row.version,
        branch=row.branch,
        actor=row.actor,
        on_behalf_of=row.on_behalf_of or "",
        schema_revision=row.schema_revision,
        data=row.data,
        data_type=row.data_type,
    )
    event.time.FromDatetime(row.time)
    return event


def _parked_key(row: Any) -> pb.ParkedKey:
    parked_at = Timestamp()
    parked_at.FromDatetime(row.parked_at)
    return pb.ParkedKey(consumer=row.consumer, key=row.key, parked_at=parked_at, error=row.error, waiting=row.waiting)


def _parked_event(row: Any) -> pb.Event:
    """An event as it lies parked; its position is where it stands in the queue of its consumer."""
    found = stored(row.subject, row.headers, row.data)
    event = pb.Event(
        id=found.id,
        position=row.position,
        type=found.type,
        aggregate_type=found.aggregate_type,
        aggregate_id=found.aggregate_id,
        version=found.version,
        branch=found.branch,
        actor=found.actor,
        on_behalf_of=found.on_behalf_of or "",
        schema_revision=found.schema_revision,
        data=found.data,
        data_type=found.data_type,
    )
    event.time.FromDatetime(found.time)
    return event
