"""The relay: everything committed gets into the stream, in the order of its key, whatever dies meanwhile."""

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest
import sqlalchemy as sa
from prometheus_client import Gauge

from chassis import relay as relay_module
from chassis import telemetry
from chassis.cloudevents import ReceivedEvent, received
from chassis.db import Database
from chassis.events import acting
from chassis.outbox import EventOutbox, Outgoing
from chassis.relay import Relay
from svyaz_cli.embedded import Nats, free_port
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import bus_users
from tests.chassis import things


class Server:
    """A NATS of one test's own, to be killed."""

    def __init__(self, directory: Path) -> None:
        self._nats = Nats(directory, free_port(), Secrets(directory), notes=directory / "run", users=bus_users())
        self.start()

    def start(self) -> None:
        """Starts it over what it has kept."""
        self._nats.launch()
        self._nats.wait()

    def kill(self) -> None:
        """`kill -9`."""
        os.kill(self._nats.process.pid, signal.SIGKILL)
        self._nats.stop()

    def stop(self) -> None:
        """Stops it."""
        self._nats.stop()

    def url(self, user: str = things.SERVICE) -> str:
        """Where the user connects."""
        return self._nats.url(user)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A NATS of the test's own."""
    made = Server(tmp_path)
    yield made
    made.stop()


def in_stream(url: str) -> list[ReceivedEvent]:
    """Everything in the stream, in its order."""

    async def read() -> list[ReceivedEvent]:
        client = await nats.connect(url)
        try:
            stream = client.jetstream()
            state = (await stream.stream_info("ORDERS")).state
            events = []
            for sequence in range(state.first_seq, state.last_seq + 1):
                message = await stream.get_msg("ORDERS", sequence)
                events.append(received(str(message.subject), message.headers or {}, message.data or b"", sequence))
            return events
        finally:
            await client.close()

    return asyncio.run(read())


def test_events_reach_the_stream_with_everything_a_consumer_needs(database: Database, server: Server) -> None:
    with things.running(things.relay(database, things.bus(server.url()))):
        things.write(database, ("account-1", "order-1", 1), ("account-1", "order-1", 2))
        things.eventually(lambda: things.unsent(database) == 0)
    first, second = in_stream(server.url("admin"))
    assert (first.version, second.version) == (1, 2)
    assert first.subject == "svyaz.orders.v1.48.ThingCreateEvent"
    assert (first.key, first.aggregate_type, first.aggregate_id) == ("account-1", "Thing", "order-1")
    assert (first.branch, first.actor, first.source) == (things.BRANCH, "somebody", "svyaz/orders")
    assert first.headers["Nats-Msg-Id"] == f"{first.id}-1"
    assert first.headers["ce-datacontenttype"] == "application/protobuf"


def test_order_within_a_key_survives_kills_of_nats(database: Database, server: Server) -> None:
    keys, each = 40, 40
    chooser = random.Random(1)
    with things.running(things.relay(database, things.bus(server.url()))):
        versions = dict.fromkeys(range(keys), 0)
        while any(version < each for version in versions.values()):
            batch = []
            for _ in range(20):
                key = chooser.choice([key for key, version in versions.items() if version < each] or [0])
                versions[key] += 1
                batch.append((f"key-{key}", f"thing-{key}", versions[key]))
            things.write(database, *batch)
            if sum(versions.values()) in (400, 800, 1200):
                server.kill()
                time.sleep(0.1)
                server.start()
        things.eventually(lambda: things.unsent(database) == 0, 30)
    last: dict[str, int] = {}
    for event in in_stream(server.url("admin")):
        assert event.version == last.get(event.aggregate_id, 0) + 1
        last[event.aggregate_id] = event.version
    assert set(last.values()) >= {each}
    assert len(last) == keys


def gauge(of: Gauge) -> float:
    """What a gauge shows."""
    shown: float = of.labels(things.SERVICE)._value.get()
    return shown


def test_an_event_that_the_stream_refuses_blocks_its_key_visibly_and_no_other(
    database: Database, server: Server
) -> None:
    things.write(database, ("big", "big", 1), size=2_000_000)
    things.write(database, ("big", "big", 2), ("small", "small", 1))
    with things.running(things.relay(database, things.bus(server.url()))):
        things.eventually(lambda: things.unsent(database) == 2)
        things.write(database, ("big", "big", 3), ("small", "small", 2))
        things.eventually(lambda: things.unsent(database) == 3)
        blocked = database.metadata.tables["outbox_blocked"]

        def shown() -> list[str]:
            with database.engine.connect() as connection:
                return list(connection.execute(sa.select(blocked.c.ordering_key)).scalars())

        things.eventually(lambda: shown() == ["big"])
        # The blocked key is told as such, and not as a relay that sends nothing.
        things.eventually(lambda: gauge(telemetry.OUTBOX_BLOCKED) == 1)
        things.eventually(lambda: (gauge(telemetry.OUTBOX_UNSENT), gauge(telemetry.OUTBOX_OLDEST)) == (3, 0))
        # Whoever has the lease now tells.
        with database.engine.begin() as connection:
            connection.execute(sa.text("UPDATE lease SET epoch = epoch + 1, expires_at = now() + interval '1 hour'"))
        things.eventually(lambda: gauge(telemetry.OUTBOX_BLOCKED) == gauge(telemetry.OUTBOX_UNSENT) == 0)
    assert [event.aggregate_id for event in in_stream(server.url("admin"))] == ["small", "small"]


def test_nothing_is_lost_when_a_transaction_commits_late(database: Database, server: Server) -> None:
    """Identities are drawn in another order than transactions commit."""
    with things.running(things.relay(database, things.bus(server.url()))):
        with acting(things.SERVICE, "test"), database.unit() as unit:
            # It has a number by its first write, as every transaction has that comes to write an event.
            things.write_as(unit, 1_000_000, "first", "first", 1)
            late = unit.session.execute(sa.text("SELECT nextval(pg_get_serial_sequence('outbox', 'id'))")).scalar_one()
            things.write(database, *[(f"key-{n}", f"thing-{n}", 1) for n in range(20)])
            things.eventually(lambda: things.unsent(database) == 0)
            # Long enough for the floor to move, if it did so by time.
            time.sleep(2.5)
            things.write_as(unit, late, "late", "late", 1)
        things.eventually(lambda: things.unsent(database) == 0)
    assert "late" in {event.aggregate_id for event in in_stream(server.url("admin"))}


class Overtaken(EventOutbox):
    """Between a horizon and its look, a transaction draws a number, and another one draws the next and commits."""

    def __init__(self, database: Database, late: ExitStack) -> None:
        super().__init__(database, things.SERVICE)
        self._own = database
        self._late = late
        self.after_horizon = False
        self.times = 0

    def exchange(self, *question: Any) -> Sequence[Outgoing]:
        """Looks."""
        if self.after_horizon and self.times < 3:
            self.times += 1
            with acting(things.SERVICE, "test"):
                unit = self._late.enter_context(self._own.unit())
            number = unit.session.execute(sa.text("SELECT nextval(pg_get_serial_sequence('outbox', 'id'))"))
            things.write_as(unit, number.scalar_one(), f"late-{self.times}", f"late-{self.times}", 1)
            things.write(self._own, (f"early-{self.times}", f"early-{self.times}", 1))
        return super().exchange(*question)


class Watched(Relay):
    """Tells its source when it has taken a horizon."""

    source: Overtaken

    def _answer_of_database(self, question: Any) -> Any:
        self.source.after_horizon = question.horizon and bool(question.limit)
        return super()._answer_of_database(question)


def test_nothing_is_lost_of_a_transaction_that_begins_between_horizon_and_look(
    database: Database, server: Server
) -> None:
    bus = things.bus(server.url())
    with ExitStack() as late:
        source = Overtaken(database, late)
        relay = Watched(database, bus, source, service=things.SERVICE, stream="ORDERS", lease_seconds=2.0)
        relay.source = source
        things.write(database, ("key", "thing", 1))
        with things.running(relay):
            things.eventually(lambda: source.times == 3)
            # Long enough for the floor to move twice.
            time.sleep(2.5)
            late.close()
            things.eventually(lambda: things.unsent(database) == 0)
    assert {f"late-{n}" for n in (1, 2, 3)} < {event.aggregate_id for event in in_stream(server.url("admin"))}


def test_a_relay_is_busy_from_the_commit_until_the_stream_has_it(database: Database, server: Server) -> None:
    relay = things.relay(database, things.bus(server.url()))
    rested = threading.Event()
    relay.on_idle(rested.set)
    busy: list[bool] = []
    # Told of the commit right after the relay.
    database.subscribe(lambda: busy.append(relay.busy))
    with things.running(relay):
        things.write(database, ("key", "thing", 1))
        assert busy == [True]
        things.eventually(lambda: things.unsent(database) == 0)
        things.eventually(lambda: not relay.busy)
        assert rested.wait(10)
        server.kill()
        rested.clear()
        things.write(database, ("key", "thing", 2), ("key", "thing", 3))
        # As far as it knows: what it hasn't read yet isn't on its way.
        server.start()
        things.eventually(lambda: things.unsent(database) == 0, seconds=30)
        things.eventually(lambda: not relay.busy)
        assert rested.wait(10)


def test_what_is_sent_does_not_wait_for_what_is_measured(database: Database, server: Server) -> None:
    measuring, go_on = threading.Event(), threading.Event()

    class Slow(EventOutbox):
        def measure(self, blocked: Collection[str]) -> None:
            measuring.set()
            go_on.wait(30)
            super().measure(blocked)

    relay = Relay(
        database, things.bus(server.url()), Slow(database, things.SERVICE), service=things.SERVICE, stream="ORDERS"
    )
    try:
        with things.running(relay):
            assert measuring.wait(10)
            things.write(database, ("key", "thing", 1))
            things.eventually(lambda: things.unsent(database) == 0)
            go_on.set()
    finally:
        go_on.set()


def test_what_cannot_be_measured_is_sent_all_the_same(
    database: Database, server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MEASURE_SECONDS", 0.05)

    class Faulty(EventOutbox):
        def measure(self, blocked: Collection[str]) -> None:
            raise FileNotFoundError("the clock's file has gone")

    relay = Relay(
        database, things.bus(server.url()), Faulty(database, things.SERVICE), service=things.SERVICE, stream="ORDERS"
    )
    with things.running(relay):
        things.eventually(lambda: caplog.text.count("measuring the outbox failed") >= 2)
        things.write(database, ("key", "thing", 1))
        things.eventually(lambda: things.unsent(database) == 0)


def test_what_was_committed_before_the_stop_goes_out(database: Database, server: Server) -> None:
    relay = things.relay(database, things.bus(server.url()))
    with things.running(relay):
        things.write(database, ("key", "thing", 1))
        things.eventually(lambda: things.unsent(database) == 0)
        things.write(database, ("key", "thing", 2))
    assert things.unsent(database) == 0


def test_more_than_a_batch_that_was_committed_before_the_stop_goes_out(
    database: Database, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "BATCH", 10)
    monkeypatch.setattr(relay_module, "POLL_SECONDS", 60)
    relay = things.relay(database, things.bus(server.url()))
    with things.running(relay):
        things.eventually(relay._lease.held)
        things.write(database, *((f"key {number}", f"thing {number}", 1) for number in range(95)))
    assert things.unsent(database) == 0


def test_what_waits_to_be_sent_again_goes_out_before_the_end(
    database: Database, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = things.relay(database, things.bus(server.url()))
    refused: list[str] = []
    publish = relay._send

    async def refuse_first(item: Outgoing) -> None:
        if refused:
            await publish(item)
            return
        refused.append(item.key)
        relay._retry(item, "once")
        # As soon as it is to be sent again, we are stopped.
        relay._stopping = True

    monkeypatch.setattr(relay, "_send", refuse_first)
    with things.running(relay):
        things.write(database, ("key", "thing", 1))
        things.eventually(lambda: refused == ["key"])
    assert things.unsent(database) == 0


def test_a_second_relay_takes_over(database: Database, server: Server) -> None:
    first = things.relay(database, things.bus(server.url(), "first"))
    second = things.relay(database, things.bus(server.url(), "second"))
    with things.running(second):
        with things.running(first):
            things.write(database, *[("key", "thing", version) for version in range(1, 101)])
        things.write(database, *[("key", "thing", version) for version in range(101, 201)])
        things.eventually(lambda: things.unsent(database) == 0)
    assert [event.version for event in in_stream(server.url("admin"))] == list(range(1, 201))


def test_events_wait_for_nats_and_the_gauge_tells(database: Database, tmp_path: Path) -> None:
    users = bus_users()
    late = Nats(tmp_path, free_port(), Secrets(tmp_path), notes=tmp_path / "run", users=users)
    things.write(database, ("key", "thing", 1))
    with things.running(things.relay(database, things.bus(late.url(things.SERVICE)))):
        things.eventually(lambda: telemetry.OUTBOX_UNSENT.labels(things.SERVICE)._value.get() == 1)
        late.launch()
        try:
            things.eventually(lambda: things.unsent(database) == 0)
        finally:
            late.stop()


def test_the_relay_survives_the_loss_of_its_database_connections(database: Database, server: Server) -> None:
    with things.running(things.relay(database, things.bus(server.url()))):
        for version in range(1, 101):
            if version % 20 == 0:
                things.cut_connections(database)
            things.persistently(partial(things.write, database, ("key", "thing", version)))
        things.eventually(lambda: things.unsent(database) == 0)
    assert [event.version for event in in_stream(server.url("admin"))] == list(range(1, 101))
