"""Consumers: every event of a stream is handled once in effect, in the order of its key.

A consumer reads its stream in order from a position that it keeps in its own database; the inbox, in the handler's
transaction, knows the last version of each aggregate. So a restart, a takeover or a restored backup at worst reads
again what is then skipped. (Why not acknowledgements: docs/adr/0005-consumers-keep-their-own-position.md.)
"""

import asyncio
import contextvars
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any

import nats.errors
import nats.js.errors
import sqlalchemy as sa
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from sqlalchemy.dialects import postgresql

from chassis import telemetry
from chassis.bus import MAX_AGE_SECONDS, Bus
from chassis.cloudevents import ReceivedEvent, received, stream_of, subjects_of
from chassis.db import Database
from chassis.events import DATABASE_ERRORS, bus_tables
from chassis.handling import UNDONE, Handling, Outcome
from chassis.inbox import Reader
from chassis.leases import DEFAULT_SECONDS, Lease
from chassis.parking import Handler, Replay
from chassis.schema import PARTITIONS

log = logging.getLogger(__name__)

BATCH = 200
# Events read or asked for and not yet handled.
WINDOW = 1_000
# Events read since the first that isn't handled.
SPAN = 20_000
PULL_SECONDS = 15
HEARTBEAT_SECONDS = 1
TICK_SECONDS = 0.5
MEASURE_SECONDS = 5.0
# Events handled in one transaction at most, and of one lane, so that a long one keeps nobody waiting.
TURN, LANE_TURN = 64, 16
# Transactions begin at least so far apart, and so many times as far as one took, within a bound: events that come
# faster share one, the more the busier the machine is, and leave it to callers.
SPACING_SECONDS, SPACING, LONGEST_SPACING_SECONDS = 0.025, 4.0, 0.25
# A worker that is busy for so long doesn't keep the others from what has come meanwhile.
BESIDE_SECONDS = 0.05
# Makes an event of a message: of its subject, headers, data and place in the stream. Raises ValueError or KeyError when
# the message can't be one.
Read = Callable[[str, Mapping[str, str], bytes, int], ReceivedEvent]
# What became of a message that isn't an event: the label of the metric.
UNREADABLE = "unreadable"
# How long an event that comes too early, or keeps losing races, is tried again before its key is parked.
PATIENCE_SECONDS = 120.0
FIRST_DELAY, LAST_DELAY = 0.05, 5.0


class LostMessageError(Exception):
    """The stream's side of the consumer has failed and must be made anew."""


@dataclass(slots=True)
class _Pending:
    """An event that has been read and not yet handled."""

    event: ReceivedEvent
    first_tried: float = 0.0
    attempts: int = 0
    done: bool = False


@dataclass(slots=True)
class _Lane:
    """The events of one key: the first are being handled, or wait for another attempt."""

    queue: deque[_Pending] = field(default_factory=deque)
    # Ready, or in a worker.
    running: bool = False
    waiting: asyncio.TimerHandle | None = None


@dataclass
class _Reading:
    """What the consumer knows between two beginnings. Belongs to the bus's thread."""

    created: str
    # Whether the stream still has its first message, and with it the first version of everything.
    whole: bool
    epoch: int
    # All up to it are handled.
    floor: int
    saved: int
    # In the order of the stream.
    pending: deque[_Pending] = field(default_factory=deque)
    undone: int = 0
    # How many more messages the server may send for what it was asked; not asked again before, nor before that time.
    asked: int = 0
    ask_at: float = 0.0
    lanes: dict[str, _Lane] = field(default_factory=dict)
    # The keys whose first events are for the next worker.
    ready: deque[str] = field(default_factory=deque)
    busy_workers: int = 0
    given_at: float = 0.0
    # How long the last transaction took.
    took: float = 0.0
    dispatching: asyncio.TimerHandle | None = None
    # The consumer's own count, by which a lost message shows.
    delivered: int = 0
    heard_at: float = field(default_factory=time.monotonic)
    heard: bool = False
    broken: str = ""


class Consumer:
    """Handles the events of one stream for one purpose.

    `partitions` splits the work among several deployments; of the replicas of one, the holder of the lease reads.
    `read` makes events of messages that others than our services have sent, with all headers that ours have: as such
    they are handled, parked and replayed.
    """

    def __init__(
        self,
        database: Database,
        bus: Bus,
        handler: Handler,
        *,
        service: str,
        source: str,
        name: str = "",
        read: Read = received,
        partitions: Sequence[int] = range(PARTITIONS),
        workers: int = 4,
        patience: float = PATIENCE_SECONDS,
        lease_seconds: float = DEFAULT_SECONDS,
    ) -> None:
        self.name = name or f"{service}-{source}"
        self.stream = stream_of(source)
        self.paused = False
        self._database = database
        self._bus = bus
        self._service = service
        self._read_message = read
        self._patience = patience
        self._range = min(partitions), max(partitions)
        if list(partitions) != list(range(self._range[0], self._range[1] + 1)):
            raise ValueError("the partitions of a consumer must be adjacent")
        everything = self._range == (0, PARTITIONS - 1)
        self._subjects = subjects_of(source, None if everything else partitions)
        # The name that the stream's tools show.
        self._durable = f"{self.name}-{self._range[0]}"
        self._lease = Lease(
            database, f"consumer/{self._durable}", seconds=lease_seconds, on_change=lambda held: self._wake_soon()
        )
        self._tables = bus_tables(database.metadata)
        telemetry.begin_at_zero(telemetry.CONSUMER_EVENTS, [service], [self.name], [UNREADABLE])
        self._handling = Handling(database, handler, service=service, name=self.name)
        self._workers = workers
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=self._durable)
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix=f"{self._durable}-keeper")
        self._wake = asyncio.Event()
        self._running: Future[None] | None = None
        self._stopping = False
        self._reading: _Reading | None = None

    # --- from any thread ---

    def start(self) -> None:
        """Begins as soon as the lease, NATS and the stream are there."""
        self._bus.start()
        self._stopping = False
        self._lease.start()
        self._running = self._bus.keep_running(self._run(), f"the consumer {self.name}")

    def stop(self) -> None:
        """Finishes what is being handled, keeps the position and gives the lease up."""
        self._stopping = True
        self._wake_soon()
        if self._running is not None:
            self._running.result()
            self._running = None
        self._lease.stop()
        self._executor.shutdown()
        self._keeper.shutdown()
        self._bus.stop()

    def replay(self, key: str) -> Replay:
        """Handles the parked events of a key again, in order. A version that is missing before the first is accepted:
        a person who asks for it has seen what is wrong. Raises NotFound when the key isn't parked."""
        return self._handling.replay(key)

    def _wake_soon(self) -> None:
        self._bus.call(self._wake.set)

    # --- in the bus's thread: reading ---

    async def _run(self) -> None:
        beside = [asyncio.ensure_future(work) for work in (self._tick(), self._measure())]
        while not self._stopping:
            for task in beside:
                if task.done():
                    task.result()
            if not self._may_read(self._bus.generation):
                await self._sleep(TICK_SECONDS)
                continue
            try:
                await self._read()
            except (
                TimeoutError,
                OSError,
                nats.errors.Error,
                *DATABASE_ERRORS,
                LostMessageError,
            ) as error:
                log.warning("a consumer can't read", extra={"fields": {"consumer": self.name, "error": repr(error)}})
                await self._sleep(TICK_SECONDS)
        for task in beside:
            task.cancel()

    async def _sleep(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()

    def _may_read(self, generation: int) -> bool:
        same = self._bus.connected and self._bus.generation == generation
        return same and self._lease.held() and not self._stopping and not self.paused

    async def _read(self) -> None:
        """Reads from the position on, until something happens that makes us begin again."""
        generation = self._bus.generation
        reading = self._reading = await self._begin()
        client = self._bus.client
        inbox = client.new_inbox()

        async def take(message: Msg) -> None:
            self._take(reading, message)

        subscription = None
        try:
            subscription = await client.subscribe(inbox, cb=take)
            request = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self._durable}"
            while self._may_read(generation):
                if reading.broken:
                    raise LostMessageError(reading.broken)
                now = time.monotonic()
                if reading.asked:
                    if now - reading.heard_at > 5 * HEARTBEAT_SECONDS:
                        raise LostMessageError("the stream is silent")
                    await self._sleep(HEARTBEAT_SECONDS)
                elif reading.undone > WINDOW - BATCH or len(reading.pending) >= SPAN:
                    await self._sleep(HEARTBEAT_SECONDS)
                elif now < reading.ask_at:
                    await self._sleep(reading.ask_at - now)
                else:
                    reading.asked, reading.heard_at = BATCH, now
                    await client.publish(request, _PULL, reply=inbox)
        finally:
            if subscription is not None:
                # A connection that is gone has none to take back.
                with suppress(OSError, nats.errors.Error):
                    await subscription.unsubscribe()
            await self._end(reading)

    async def _begin(self) -> _Reading:
        """Makes the stream's side of the consumer anew, at our position: nothing is acknowledged or kept there.

        An earlier holder that still reads finds its consumer deleted.
        """
        jetstream = self._bus.jetstream
        stream = await jetstream.stream_info(self.stream)
        epoch, created = self._lease.epoch, str(stream.created)
        floor = await self._in_keeper(self._position, created)
        if floor > stream.state.last_seq:
            log.error("the stream has lost events", extra={"fields": {"consumer": self.name, "had": floor}})
            floor = 0
        with suppress(nats.js.errors.NotFoundError):
            await jetstream.delete_consumer(self.stream, self._durable)
        await jetstream.add_consumer(
            self.stream,
            ConsumerConfig(
                durable_name=self._durable,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=floor + 1,
                ack_policy=AckPolicy.NONE,
                filter_subjects=self._subjects,
                inactive_threshold=MAX_AGE_SECONDS,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        log.info("a consumer reads", extra={"fields": {"consumer": self._durable, "after": floor}})
        return _Reading(created, stream.state.first_seq <= 1, epoch, floor, saved=floor)

    async def _end(self, reading: _Reading) -> None:
        """Lets what is being handled end, forgets the rest and keeps the position."""
        self._reading = None
        reading.ready.clear()
        for handle in (reading.dispatching, *(lane.waiting for lane in reading.lanes.values())):
            if handle is not None:
                handle.cancel()
        while reading.busy_workers:
            await self._sleep(0.05)
        with suppress(*DATABASE_ERRORS):
            await self._in_keeper(self._save, reading, reading.floor)

    def _take(self, reading: _Reading, message: Msg) -> None:
        reading.heard_at, reading.heard = time.monotonic(), True
        status = (message.headers or {}).get("Status")
        if status is not None:
            self._note_status(reading, status, message)
            return
        reading.asked -= 1
        number = message.metadata.sequence
        if number.consumer != reading.delivered + 1:
            reading.broken = "a message was lost on its way here"
            self._wake.set()
            return
        reading.delivered = number.consumer
        if not reading.asked:
            # As many as were asked for: there may be more.
            self._wake.set()
        if reading is self._reading:
            self._enter(reading, message, number.stream)

    def _note_status(self, reading: _Reading, status: str, message: Msg) -> None:
        if status in ("404", "408"):
            # That was all there is, or nothing came for long. What comes from now on is fetched together.
            reading.asked, reading.ask_at = 0, time.monotonic() + self._spacing(reading)
        elif status != "100":
            reading.broken = f"{status} {(message.headers or {}).get('Description', '')}"
        self._wake.set()

    # --- in the bus's thread: lanes ---

    def _enter(self, reading: _Reading, message: Msg, sequence: int) -> None:
        try:
            event = self._read_message(message.subject, message.headers or {}, message.data, sequence)
        except (KeyError, ValueError) as error:
            # Without a key there is nothing to park: it stays in the stream until that forgets it.
            telemetry.CONSUMER_EVENTS.labels(self._service, self.name, UNREADABLE).inc()
            fields = {"consumer": self.name, "sequence": sequence, "error": repr(error)}
            log.error("not an event of ours", extra={"fields": fields})
            return
        pending = _Pending(event)
        reading.pending.append(pending)
        reading.undone += 1
        lane = reading.lanes.setdefault(event.key, _Lane())
        lane.queue.append(pending)
        if lane.waiting is not None and _bring_forward(lane.queue):
            # The version that was missing has come.
            lane.waiting.cancel()
            self._submit(reading, event.key, lane)
        elif lane.waiting is None and not lane.running:
            self._submit(reading, event.key, lane)

    def _submit(self, reading: _Reading, key: str, lane: _Lane) -> None:
        """Puts the lane among those whose first events are handled next."""
        lane.waiting = None
        if self._reading is not reading:
            return
        if not self._lease.held():
            self._later(reading, key, lane, FIRST_DELAY)
            return
        lane.running = True
        reading.ready.append(key)
        self._dispatch(reading)

    def _dispatch(self, reading: _Reading) -> None:
        """Gives workers what is ready: one takes all that has come since it was given the last, and others help when
        that is much, or when it has been busy for a while."""
        if reading.dispatching is not None:
            reading.dispatching.cancel()
            reading.dispatching = None
        while reading.ready and reading.busy_workers < self._workers:
            spacing = self._spacing(reading)
            pause = max(BESIDE_SECONDS, spacing) if reading.busy_workers else spacing
            early = reading.given_at + pause - time.monotonic()
            if early > 0 and len(reading.ready) < TURN:
                reading.dispatching = self._bus.loop.call_later(early, self._dispatch, reading)
                return
            self._give(reading)

    @staticmethod
    def _spacing(reading: _Reading) -> float:
        return min(max(SPACING_SECONDS, SPACING * reading.took), LONGEST_SPACING_SECONDS)

    def _give(self, reading: _Reading) -> None:
        batch = self._gathered(reading)
        reading.given_at = now = time.monotonic()
        for pending in batch:
            pending.first_tried = pending.first_tried or now
        impatient = {pending.event.id for pending in batch if now - pending.first_tried > self._patience}
        reading.busy_workers += 1
        future = self._bus.loop.run_in_executor(
            self._executor,
            contextvars.Context().run,
            self._handling.handle,
            [pending.event for pending in batch],
            Reader(self._lease.name, reading.epoch, beginning_known=reading.whole),
            impatient,
        )

        def handled(done: "asyncio.Future[Sequence[Outcome | None]]") -> None:
            reading.took = time.monotonic() - now
            self._handled(reading, batch, done.result())

        future.add_done_callback(handled)

    @staticmethod
    def _gathered(reading: _Reading) -> list[_Pending]:
        """The first events of the lanes that are ready, of one branch; one that has failed before comes alone."""
        batch: list[_Pending] = []
        others: list[str] = []
        while reading.ready and len(batch) < TURN:
            key = reading.ready.popleft()
            head, *following = islice(reading.lanes[key].queue, LANE_TURN)
            if batch and (head.attempts or head.event.branch != batch[0].event.branch):
                others.append(key)
                continue
            batch.append(head)
            if head.attempts:
                break
            branch = head.event.branch
            batch += takewhile(lambda pending: pending.event.branch == branch, following)  # noqa: B023 (used at once)
        reading.ready.extendleft(reversed(others))
        return batch

    def _later(self, reading: _Reading, key: str, lane: _Lane, delay: float) -> None:
        lane.waiting = self._bus.loop.call_later(delay, self._submit, reading, key, lane)

    def _handled(self, reading: _Reading, batch: Sequence[_Pending], outcomes: Sequence[Outcome | None]) -> None:
        reading.busy_workers -= 1
        undone: dict[str, Outcome] = {}
        for pending, outcome in zip(batch, outcomes, strict=True):
            if outcome is None:
                continue
            telemetry.CONSUMER_EVENTS.labels(self._service, self.name, outcome.value).inc()
            if outcome in UNDONE:
                pending.attempts += 1
                undone[pending.event.key] = outcome
            else:
                reading.lanes[pending.event.key].queue.popleft()
                pending.done = True
                reading.undone -= 1
        while reading.pending and reading.pending[0].done:
            reading.floor = reading.pending.popleft().event.sequence
        for key in dict.fromkeys(pending.event.key for pending in batch):
            self._go_on(reading, key, undone.get(key))
        self._dispatch(reading)
        if self._reading is not reading or (not reading.asked and reading.undone <= WINDOW - BATCH):
            self._wake.set()

    def _go_on(self, reading: _Reading, key: str, undone: Outcome | None) -> None:
        """What the lane does after its turn."""
        lane = reading.lanes[key]
        lane.running = False
        if not lane.queue:
            del reading.lanes[key]
        elif undone is None or (undone is Outcome.GAP and _bring_forward(lane.queue)):
            self._submit(reading, key, lane)
        else:
            self._later(reading, key, lane, min(FIRST_DELAY * 2 ** lane.queue[0].attempts, LAST_DELAY))

    # --- in the keeper: positions, the switch ---

    async def _in_keeper(self, function: Any, *arguments: Any) -> Any:
        return await self._bus.loop.run_in_executor(self._keeper, function, *arguments)

    async def _tick(self) -> None:
        """Keeps the position and looks at the switch, twice a second."""
        while True:
            reading = self._reading
            try:
                if reading is not None:
                    await self._in_keeper(self._save, reading, reading.floor)
                paused = await self._in_keeper(self._look_at_switch)
            except DATABASE_ERRORS as error:
                log.warning("a tick failed", extra={"fields": {"consumer": self.name, "error": str(error)}})
            else:
                if paused != self.paused:
                    self.paused = paused
                    log.info(
                        "a consumer is %s", "paused" if paused else "resumed", extra={"fields": {"consumer": self.name}}
                    )
                    self._wake.set()
            await asyncio.sleep(TICK_SECONDS)

    async def _measure(self) -> None:
        """Tells whether the stream is heard here, and how much of it is still to be handled; 0 where it isn't read."""
        heard = telemetry.CONSUMER_READING.labels(self._service, self.name)
        pending = telemetry.CONSUMER_PENDING.labels(self._service, self.name)
        while True:
            reading = self._reading
            heard.set(1 if reading is not None and reading.heard else 0)
            if reading is None:
                pending.set(0)
            else:
                # A stream that doesn't answer isn't heard either.
                with suppress(TimeoutError, OSError, nats.errors.Error):
                    info = await self._bus.jetstream.consumer_info(self.stream, self._durable)
                    pending.set((info.num_pending or 0) + reading.undone)
            await asyncio.sleep(MEASURE_SECONDS)

    def _look_at_switch(self) -> bool:
        switch, parked = self._tables.consumer_switch, self._tables.parked_key
        with self._database.background.begin() as connection:
            paused, keys = connection.execute(
                sa.select(
                    sa.exists().where(switch.c.consumer == self.name, switch.c.paused),
                    sa.select(sa.func.count()).where(parked.c.consumer == self.name).scalar_subquery(),
                )
            ).one()
        telemetry.CONSUMER_PAUSED.labels(self._service, self.name).set(1 if paused else 0)
        telemetry.CONSUMER_PARKED.labels(self._service, self.name).set(keys)
        return bool(paused)

    def _position(self, created: str) -> int:
        """Where to begin after: our own position, or what all who had our partitions before have reached."""
        table = self._tables.consumer_position
        first, last = self._range
        with self._database.background.begin() as connection:
            rows = connection.execute(
                sa.select(table.c.first_partition, table.c.last_partition, table.c.sequence).where(
                    table.c.consumer == self.name,
                    table.c.stream == self.stream,
                    table.c.stream_created == created,
                    table.c.first_partition <= last,
                    table.c.last_partition >= first,
                )
            ).all()
        own = [row.sequence for row in rows if (row.first_partition, row.last_partition) == self._range]
        if own:
            return int(own[0])
        covered = {n for row in rows for n in range(row.first_partition, row.last_partition + 1)}
        if not covered.issuperset(range(first, last + 1)):
            return 0
        return min(int(row.sequence) for row in rows)

    def _save(self, reading: _Reading, floor: int) -> None:
        if floor == reading.saved:
            return
        table, lease = self._tables.consumer_position, self._tables.lease
        insert = postgresql.insert(table).from_select(
            [column.name for column in table.columns],
            sa.select(
                sa.literal(self.name),
                sa.literal(self.stream),
                sa.literal(self._range[0], sa.SmallInteger),
                sa.literal(self._range[1], sa.SmallInteger),
                sa.literal(reading.created),
                sa.literal(floor, sa.BigInteger),
            ).where(sa.exists().where(lease.c.name == self._lease.name, lease.c.epoch == reading.epoch)),
        )
        with self._database.background.begin() as connection:
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=list(table.primary_key.columns),
                    set_={"sequence": insert.excluded.sequence, "stream_created": insert.excluded.stream_created},
                )
            )
        reading.saved = floor


# Answered as soon as there is anything, with all that there is, and then over: a message that came by itself would wake
# the server, us, and what shares our CPUs, for each one.
_PULL = json.dumps(
    {
        "batch": BATCH,
        "no_wait": True,
        "expires": PULL_SECONDS * 1_000_000_000,
        "idle_heartbeat": HEARTBEAT_SECONDS * 1_000_000_000,
    }
).encode()


def _bring_forward(queue: deque[_Pending]) -> bool:
    """Puts an earlier version of the first event's aggregate before it, if one has come; whether one has."""
    head = queue[0].event
    earlier = [
        pending
        for pending in queue
        if pending.event.aggregate_id == head.aggregate_id and pending.event.version < head.version
    ]
    if not earlier:
        return False
    first = min(earlier, key=lambda pending: pending.event.version)
    queue.remove(first)
    queue.appendleft(first)
    return True
