"""The relay: what was committed goes into the stream, in the order of its key.

Twenty thousand pipelined events over 200 keys came out with 453 inversions after three `kill -9` of NATS; with at most
one unacknowledged publish per key there were none. So a key's next event waits for the acknowledgement of the one
before it, while all keys go in parallel.
"""

import asyncio
import json
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import nats.errors
import sqlalchemy as sa
from nats.aio.msg import Msg

from chassis import telemetry
from chassis.bus import Bus
from chassis.db import Database
from chassis.events import DATABASE_ERRORS, acting, bus_tables
from chassis.horizon import HORIZON, HORIZON_SECONDS, Floor, Horizon
from chassis.leases import DEFAULT_SECONDS, Lease
from chassis.outbox import OutboxSource, Outgoing

log = logging.getLogger(__name__)

BATCH = 1_000
# Events read and not yet acknowledged and deleted.
MAX_KNOWN = 4_000
# A key with so many of them waits until it has fewer, so that one hot key doesn't fill the memory.
MAX_PER_KEY = 200
POLL_SECONDS = 1.0
# Looks at the outbox are at least so far apart: commits that come faster share one. The first is looked for at once.
SPACING_SECONDS = 0.05
# How often what has been acknowledged is taken off the table while more is in flight.
BUSY_SECONDS = 0.05
ACK_SECONDS = 5.0
RETRY_SECONDS = 0.5
BLOCKED_RETRY_SECONDS = 30.0
DRAIN_SECONDS = 2.0
MEASURE_SECONDS = 2.0
COMPLAINT_SECONDS = 5.0
_NO_RESPONDERS = "503"


@dataclass(slots=True)
class _Flight:
    """A publish without an answer yet."""

    item: Outgoing
    until: float


@dataclass(slots=True)
class _Blocked:
    id: int
    error: str
    retry_at: float


@dataclass
class _State:
    """What the relay knows while it holds the lease; forgotten with it. Belongs to the bus's thread."""

    # Every row read and not yet deleted: also what has been acknowledged a moment ago.
    known: set[int] = field(default_factory=set)
    # Per key what is still to be acknowledged; the first is in flight, or waits for its retry.
    lanes: dict[str, deque[Outgoing]] = field(default_factory=dict)
    flights: dict[str, _Flight] = field(default_factory=dict)
    retries: deque[tuple[float, Outgoing]] = field(default_factory=deque)
    acked: list[int] = field(default_factory=list)
    blocked: dict[str, _Blocked] = field(default_factory=dict)
    # Blocked or freed since the database was last told; None: it may still show what an earlier holder told.
    told: set[str] | None = None
    # Blocked since the rows that are being read were asked for.
    stopped: set[str] = field(default_factory=set)
    # Up to it there is no unsent row that we don't know of, now or later.
    floor: Floor = field(default_factory=Floor)
    horizon_at: float = 0.0
    measured_at: float = 0.0


@dataclass(frozen=True, slots=True)
class _Question:
    """What one round asks of the database."""

    sent: Sequence[int]
    limit: int
    after: int
    known: Collection[int]
    held: Collection[str]
    # Keys that are blocked now, or not any more (None); None altogether: forget all that was blocked before.
    blocked: Mapping[str, _Blocked | None] | None
    horizon: bool


@dataclass(frozen=True, slots=True)
class _Reply:
    items: Sequence[Outgoing]
    # Before the items were read.
    horizon: Horizon | None


class Relay:
    """Sends the rows of one source, as long as it holds the lease of its name."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        source: OutboxSource,
        *,
        service: str,
        stream: str,
        name: str = "relay",
        topic: str = "events",
        lease_seconds: float = DEFAULT_SECONDS,
        spacing: float = SPACING_SECONDS,
    ) -> None:
        self._spacing = spacing
        self._database = database
        self._bus = bus
        self._source = source
        self._service = service
        self._name = name
        self._tables = bus_tables(database.metadata)
        self._lease = Lease(database, name, seconds=lease_seconds, on_change=lambda held: self._nudge())
        self._state = _State()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._meter = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-meter")
        self._measuring: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()
        self._nudged = False
        # In a round with the database.
        self._looking = False
        self._idle_listeners: list[Callable[[], None]] = []
        self._running: Future[None] | None = None
        self._stopping = False
        self._subscribed = False
        self._generation = 0
        self._inbox = f"_INBOX.{uuid.uuid4().hex}"
        self._count = 0
        self._complained_at = 0.0
        self._looked_at = 0.0
        self._wake_subject = f"svyaz.wake.{service}.{name}"
        self._published = telemetry.RELAY_PUBLISHED.labels(service, stream)
        self._failures = telemetry.RELAY_FAILURES.labels(service, stream)
        database.subscribe(self._nudge, topic)
        bus.on_connect(self._wake.set)

    # --- from any thread ---

    def start(self) -> None:
        """Begins as soon as the lease and NATS are there."""
        self._bus.start()
        self._stopping = False
        self._lease.start()
        self._running = self._bus.keep_running(self._run(), f"the relay {self._name}")

    def stop(self) -> None:
        """Waits a moment for what is in flight, then gives the lease up."""
        self._stopping = True
        self._nudge()
        if self._running is not None:
            self._running.result()
            self._running = None
        self._lease.stop()
        self._executor.shutdown()
        self._meter.shutdown()
        self._bus.stop()

    @property
    def busy(self) -> bool:
        """Whether something is on its way that this relay knows of: from the commit until the stream has it."""
        return self._nudged or self._looking or bool(self._state.lanes)

    def on_idle(self, listener: Callable[[], None]) -> None:
        """Calls the listener, in the bus's thread, when the relay isn't busy any more."""
        self._idle_listeners.append(listener)

    def _rest(self) -> None:
        if not self.busy:
            for listener in self._idle_listeners:
                listener()

    def _nudge(self) -> None:
        """After a commit: quick, and nothing at all when the relay has been told already."""
        if not self._nudged:
            self._nudged = True
            self._bus.call(self._wake.set)

    # --- in the bus's thread ---

    async def _run(self) -> None:
        held_before, nudged = False, False
        # When we are stopped we look once more, and on for as long as there is time: what was committed goes out.
        last: float | None = None
        while True:
            if self._stopping and last is None:
                last = time.monotonic() + DRAIN_SECONDS
            held = self._lease.held()
            if held != held_before:
                # Nothing is carried over: another holder may have sent it meanwhile.
                self._state = _State()
                held_before = held
                if not held:
                    self._source.forget()
            more = False
            try:
                if self._bus.connected:
                    await self._reconnected()
                if held:
                    more = await self._turn()
                elif nudged and self._bus.connected:
                    # Another replica is the relay: wake it.
                    await self._bus.client.publish(self._wake_subject, b"")
            except (nats.errors.Error, TimeoutError, OSError) as error:
                log.warning("NATS fails", extra={"fields": {"relay": self._name, "error": repr(error)}})
            self._looking = more
            self._rest()
            if last is not None and not (more and time.monotonic() < last):
                break
            nudged = False if more else await self._pause(held)
        self._looking = False
        await self._drain()
        if self._measuring is not None:
            await self._measuring
            self._measuring = None

    async def _reconnected(self) -> None:
        if not self._subscribed:
            await self._bus.client.subscribe(f"{self._inbox}.*", cb=self._answer)
            await self._bus.client.subscribe(self._wake_subject, cb=self._woken)
            self._subscribed = True
        if self._generation != self._bus.generation:
            self._generation = self._bus.generation
            # What was in flight when the connection broke may or may not have arrived: again, under the same id.
            flights, self._state.flights = self._state.flights, {}
            for flight in flights.values():
                await self._send(flight.item)

    async def _woken(self, _: Msg) -> None:
        self._wake.set()

    async def _pause(self, held: bool) -> bool:
        """Waits until there is something to do; whether it was a commit of this process."""
        busy = held and bool(self._state.lanes or self._state.acked or self._state.retries)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wake.wait(), BUSY_SECONDS if busy else POLL_SECONDS)
            await asyncio.sleep(max(0.0, self._looked_at + self._spacing - time.monotonic()))
        self._looking = True
        nudged, self._nudged = self._nudged, False
        self._wake.clear()
        return nudged

    async def _drain(self) -> None:
        state, until = self._state, time.monotonic() + DRAIN_SECONDS
        while (state.flights or state.retries) and self._lease.held() and self._bus.connected:
            if time.monotonic() >= until:
                break
            await self._overdue(time.monotonic())
            self._wake.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), BUSY_SECONDS)
        # While the lease is still ours: its next holder should find the table without them.
        if state.acked and self._lease.held():
            await self._ask(_Question(state.acked, 0, 0, (), (), {}, horizon=False))

    async def _turn(self) -> bool:
        """One round with the database, while answers keep coming in; whether there may be more to read at once."""
        state, now = self._state, time.monotonic()
        self._looked_at = now
        measuring = self._measuring is not None and not self._measuring.done()
        if not measuring and now - state.measured_at >= MEASURE_SECONDS:
            state.measured_at = now
            # What waits to be sent doesn't wait for it.
            self._measuring = asyncio.ensure_future(self._measure(tuple(state.blocked)))
        connected = self._bus.connected
        if not connected and not state.acked:
            return False
        if connected:
            await self._overdue(now)
        acked, state.acked = state.acked, []
        told, state.told = state.told, set()
        shown = None if told is None else {key: state.blocked.get(key) for key in told}
        state.stopped.clear()
        held = {key for key, blocked in state.blocked.items() if blocked.retry_at > now}
        held.update(key for key, lane in state.lanes.items() if len(lane) >= MAX_PER_KEY)
        question = _Question(
            sent=acked,
            limit=BATCH if connected and len(state.known) <= MAX_KNOWN - BATCH else 0,
            after=state.floor.number,
            known=tuple(state.known),
            held=held,
            blocked=shown,
            horizon=state.floor.may_rise and now - state.horizon_at >= HORIZON_SECONDS,
        )
        reply = await self._ask(question)
        if reply is None:
            state.acked.extend(acked)
            state.told = None if told is None else state.told | told
            await asyncio.sleep(RETRY_SECONDS)
            return False
        state.known.difference_update(acked)
        state.known.update(item.id for item in reply.items)
        if reply.horizon is not None:
            state.horizon_at = now
        # A key that is held has rows that we haven't looked at.
        everywhere = bool(question.limit) and not held and not state.stopped
        state.floor.looked(
            reply.items[-1].id if reply.items else 0,
            reply.horizon if everywhere else None,
            left=min(state.known, default=None),
        )
        await self._enter(reply.items)
        return len(reply.items) == BATCH

    async def _measure(self, blocked: Collection[str]) -> None:
        try:
            await self._bus.loop.run_in_executor(self._meter, self._source.measure, blocked)
        except DATABASE_ERRORS as error:
            log.warning("the outbox can't be measured", extra={"fields": {"relay": self._name, "error": str(error)}})
        except Exception:
            # Whatever it is, sending goes on.
            log.exception("measuring the outbox failed", extra={"fields": {"relay": self._name}})
        if not self._lease.held():
            self._source.forget()

    async def _ask(self, question: _Question) -> _Reply | None:
        try:
            return await self._bus.loop.run_in_executor(self._executor, self._answer_of_database, question)
        except DATABASE_ERRORS as error:
            log.warning("the outbox can't be read", extra={"fields": {"relay": self._name, "error": str(error)}})
            return None

    async def _enter(self, items: Sequence[Outgoing]) -> None:
        state = self._state
        for number, item in enumerate(items):
            lane = state.lanes.get(item.key)
            if item.key in state.stopped:
                # An earlier one of the key has been refused since these were asked for.
                state.known.discard(item.id)
            elif lane is None:
                state.lanes[item.key] = deque((item,))
                await self._send(item)
            else:
                lane.append(item)
            if number % 10 == 9:
                # Answers are read, and the next events of their keys sent, in between.
                await asyncio.sleep(0)

    async def _send(self, item: Outgoing) -> None:
        state = self._state
        if not self._lease.held():
            self._retry(item, "the lease isn't ours at the moment")
            return
        self._count += 1
        token = str(self._count)
        state.flights[token] = _Flight(item, time.monotonic() + ACK_SECONDS)
        if not self._bus.client.is_connected:
            # Sent when the connection is back.
            return
        try:
            await self._bus.client.publish(
                item.subject, item.data, reply=f"{self._inbox}.{token}", headers=dict(item.headers)
            )
        except (nats.errors.MaxPayloadError, nats.errors.BadSubjectError, nats.errors.BadHeaderError) as error:
            del state.flights[token]
            self._block(item, repr(error))
        except nats.errors.Error as error:
            del state.flights[token]
            self._retry(item, repr(error))

    async def _answer(self, message: Msg) -> None:
        state = self._state
        flight = state.flights.pop(message.subject[len(self._inbox) + 1 :], None)
        if flight is None:
            return
        item = flight.item
        error = _error_of(message)
        if error is not None:
            self._failures.inc()
            permanent, text = error
            if permanent:
                self._block(item, text)
            else:
                self._retry(item, text)
            return
        self._published.inc()
        state.acked.append(item.id)
        if state.blocked.pop(item.key, None) is not None:
            self._tell(item.key)
        lane = state.lanes[item.key]
        lane.popleft()
        if lane:
            await self._send(lane[0])
        else:
            del state.lanes[item.key]
            self._rest()
        # Otherwise they leave the table with the next commit's round, or a moment later.
        if len(state.acked) >= BATCH // 2:
            self._wake.set()

    def _retry(self, item: Outgoing, error: str) -> None:
        now = time.monotonic()
        if now - self._complained_at > COMPLAINT_SECONDS:
            self._complained_at = now
            log.warning("publishing fails", extra={"fields": {"relay": self._name, "error": error}})
        self._state.retries.append((now + RETRY_SECONDS, item))

    def _block(self, item: Outgoing, error: str) -> None:
        """The key waits, visibly; the others go on. What it has is forgotten here and read again for the retry."""
        state = self._state
        if item.key not in state.blocked:
            log.error(
                "an event can't be published and blocks its key",
                extra={"fields": {"relay": self._name, "outbox_id": item.id, "error": error}},
            )
        state.blocked[item.key] = _Blocked(item.id, error, time.monotonic() + BLOCKED_RETRY_SECONDS)
        self._tell(item.key)
        state.stopped.add(item.key)
        state.known.difference_update(waiting.id for waiting in state.lanes.pop(item.key, ()))
        self._rest()

    def _tell(self, key: str) -> None:
        if self._state.told is not None:
            self._state.told.add(key)

    async def _overdue(self, now: float) -> None:
        state = self._state
        while state.retries and state.retries[0][0] <= now:
            await self._send(state.retries.popleft()[1])
        late = []
        # In the order in which they were sent.
        for token, flight in state.flights.items():
            if flight.until > now:
                break
            late.append(token)
        for token in late:
            self._failures.inc()
            await self._send(state.flights.pop(token).item)

    # --- in the relay's own thread: what talks to the database ---

    def _answer_of_database(self, question: _Question) -> _Reply:
        # One round at a time: a row acknowledged between a snapshot and another round's deletion would be sent again.
        taken = None
        if question.blocked is None or question.blocked:
            self._show(question.blocked)
        if question.horizon:
            with acting(self._service, self._name), self._database.at_once() as connection:
                asked = connection.execute(HORIZON)
            taken = Horizon(*asked.fetchall()[0])
        items = self._source.exchange(question.sent, question.limit, question.after, question.known, question.held)
        return _Reply(items, taken)

    def _show(self, blocked: Mapping[str, _Blocked | None] | None) -> None:
        """Keeps the table of blocked keys, for people to see."""
        table = self._tables.outbox_blocked
        now = self._database.clock.now()
        old = sa.delete(table).where(table.c.relay == self._name)
        if blocked is not None:
            old = old.where(table.c.ordering_key.in_(sorted(blocked)))
        rows = [
            {"relay": self._name, "ordering_key": key, "outbox_id": b.id, "error": b.error, "blocked_at": now}
            for key, b in (blocked or {}).items()
            if b is not None
        ]
        with self._database.background.begin() as connection:
            connection.execute(old)
            if rows:
                connection.execute(sa.insert(table), rows)


def _error_of(message: Msg) -> tuple[bool, str] | None:
    """Whether the stream refused the event for good, and why; None when it has it."""
    if message.headers and message.headers.get("Status") == _NO_RESPONDERS:
        return False, "no stream takes the subject"
    if b'"error"' not in message.data:
        return None
    error = json.loads(message.data)["error"]
    # 4xx: this event is refused; 5xx: the stream has trouble.
    return error.get("code", 500) < 500, f"{error.get('err_code')} {error.get('description')}"
