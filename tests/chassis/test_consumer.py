"""Consumers: every event handled once in effect, in the order of its key; a bad one stops its key and no other."""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import nats as client_library
import pytest
import sqlalchemy as sa
from nats.js import JetStreamContext
from prometheus_client import REGISTRY

from chassis import consumer as consumer_module
from chassis import telemetry
from chassis.bus import Bus, event_stream
from chassis.cloudevents import ReceivedEvent, headers_of, subject_of
from chassis.consumer import Consumer
from chassis.db import Database
from chassis.errors import DeadlineExceeded, FailedPrecondition, NotFound, ResourceExhausted, Unavailable
from chassis.events import NotYet, acting
from chassis.inbox import Inbox, Verdict
from chassis.operations import Operations
from chassis.schema import partition_of
from chassis.types import new_id
from chassis.unit import Unit
from svyaz.operations.v1 import operations_pb2 as pb
from tests import streams
from tests.chassis import things

Publish = Callable[..., None]


def stream_job(url: str, job: Callable[[JetStreamContext], Coroutine[Any, Any, None]]) -> None:
    """Does something to the stream as its owner."""

    async def run() -> None:
        client = await client_library.connect(url)
        await job(client.jetstream())
        await client.close()

    asyncio.run(run())


@pytest.fixture
def publish(nats: Mapping[str, str], database: Database) -> Publish:
    """Puts events (key, aggregate, version) into a stream that is empty at first, as they come."""

    async def clean(stream: JetStreamContext) -> None:
        config = event_stream(things.SERVICE)
        names = [info.config.name for info in await stream.streams_info()]
        if config.name in names:
            await stream.delete_stream(str(config.name))
        await streams.add(stream, config)

    stream_job(nats["admin"], clean)

    def put(*events: tuple[str, str, int], identity: str = "") -> None:
        async def send(stream: JetStreamContext) -> None:
            for key, aggregate, version in events:
                headers = headers_of(
                    id=identity or new_id(),
                    source="svyaz/orders",
                    type="ThingStateChangeEvent",
                    time=database.clock.now(),
                    aggregate_type="Thing",
                    aggregate_id=aggregate,
                    version=version,
                    branch=things.BRANCH,
                    key=key,
                    actor="somebody",
                    on_behalf_of=None,
                    schema_revision=1,
                    data_type="svyaz.orders.v1.ProductOrder",
                    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                )
                await stream.publish(subject_of("orders", partition_of(key), "ThingEvent"), b"x", headers=headers)

        stream_job(nats["admin"], send)

    return put


def consumer(
    database: Database,
    url: str,
    handler: Callable[[ReceivedEvent, Unit], None],
    *,
    patience: float = 30.0,
    partitions: range = range(64),
) -> Consumer:
    """A consumer of the service's own stream."""
    return Consumer(
        database,
        Bus(url, name="consumer"),
        handler,
        service=things.SERVICE,
        source=things.SERVICE,
        name="recorder",
        patience=patience,
        lease_seconds=1.0,
        partitions=partitions,
    )


@pytest.fixture
def recorder(database: Database) -> things.Recorder:
    """A handler that writes down what it saw."""
    return things.Recorder(database)


def test_every_event_is_handled_once_and_in_order_over_restarts_and_two_replicas(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    keys, each = 12, 25
    chooser = random.Random(2)
    versions = dict.fromkeys(range(keys), 0)
    batches: list[list[tuple[str, str, int]]] = [[] for _ in range(3)]
    for number in range(keys * each):
        key = chooser.choice([key for key, version in versions.items() if version < each])
        versions[key] += 1
        batches[number * 3 // (keys * each)].append((f"key-{key % 6}", f"thing-{key}", versions[key]))
    with things.running(consumer(database, nats["customers"], recorder)):
        publish(*batches[0])
        with things.running(consumer(database, nats["customers"], recorder)):
            publish(*batches[1])
            things.eventually(lambda: len(recorder.seen()) > 120)
    publish(*batches[2])
    with things.running(consumer(database, nats["customers"], recorder)):
        things.eventually(lambda: len(recorder.seen()) == keys * each)
    for key in range(keys):
        assert recorder.versions(f"thing-{key}") == list(range(1, each + 1))
    published: dict[str, list[tuple[str, str, int]]] = {}
    for event in (event for batch in batches for event in batch):
        published.setdefault(event[0], []).append(event)
    seen = recorder.seen()
    for key_name, events in published.items():
        # Across the aggregates of a key too.
        assert [event for event in seen if event[0] == key_name] == events


def test_an_event_that_comes_again_is_skipped(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    with things.running(consumer(database, nats["customers"], recorder)):
        publish(("key", "thing", 1), ("key", "thing", 2), ("key", "thing", 1), ("key", "thing", 2), ("key", "thing", 3))
        things.eventually(lambda: recorder.versions("thing") == [1, 2, 3])
    # A position that was lost: everything is read again.
    with database.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM consumer_position"))
    with things.running(consumer(database, nats["customers"], recorder)):
        publish(("key", "thing", 4))
        things.eventually(lambda: 4 in recorder.versions("thing"))
    assert recorder.versions("thing") == [1, 2, 3, 4]


def test_a_gap_waits_for_the_missing_version_and_holds_up_only_its_key(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    with things.running(consumer(database, nats["customers"], recorder)):
        publish(("key", "thing", 1), ("key", "thing", 3), ("key", "other-of-key", 1), ("free", "free", 1))
        things.eventually(lambda: recorder.versions("free") == [1])
        assert recorder.versions("thing") == [1]
        assert recorder.versions("other-of-key") == []
        publish(("key", "thing", 2))
        things.eventually(lambda: recorder.versions("other-of-key") == [1])
    assert recorder.versions("thing") == [1, 2, 3]


def test_a_gap_that_lasts_parks_the_key_and_a_person_may_accept_it(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    with things.running(made := consumer(database, nats["customers"], recorder, patience=0.3)):
        publish(("key", "thing", 1), ("key", "thing", 4), ("key", "thing", 5))
        operations = Operations(database, [made], service=things.SERVICE)
        things.eventually(lambda: [key.waiting for key in parked(operations)] == [2])
        assert parked(operations)[0].error.startswith("GAP")
        assert made.replay("key").failure is None
    assert recorder.versions("thing") == [1, 4, 5]


def test_an_aggregate_may_be_first_seen_late_only_when_the_stream_has_forgotten_its_beginning(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    publish(("key", "old", 1), ("key", "thing", 7))
    with things.running(consumer(database, nats["customers"], recorder, patience=60)):
        things.eventually(lambda: recorder.versions("old") == [1])
    assert recorder.versions("thing") == []
    stream_job(nats["admin"], lambda stream: _forget(stream, 2))
    with things.running(consumer(database, nats["customers"], recorder)):
        things.eventually(lambda: recorder.versions("thing") == [7])


async def _forget(stream: JetStreamContext, before: int) -> None:
    await stream.purge_stream("ORDERS", seq=before)


def parked(operations: Operations) -> list[pb.ParkedKey]:
    """What `svyaz parked` shows."""
    with acting(things.SERVICE, "test"):
        return list(operations.ListParkedKeys(pb.ListParkedKeysRequest(), None).parked_key)  # type: ignore[arg-type]


def test_a_poisonous_event_parks_its_key_until_it_is_replayed(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    recorder.refusing["thing", 2] = ZeroDivisionError("the handler has a bug")
    made = consumer(database, nats["customers"], recorder)
    operations = Operations(database, [made], service=things.SERVICE)
    with things.running(made):
        publish(("key", "thing", 1), ("key", "thing", 2), ("key", "thing", 3), ("key", "other", 1), ("free", "free", 1))
        things.eventually(lambda: recorder.versions("free") == [1])
        things.eventually(lambda: [key.waiting for key in parked(operations)] == [3])
        assert recorder.versions("thing") == [1]
        assert recorder.versions("other") == []

        with acting(things.SERVICE, "test"):
            request = pb.GetParkedKeyRequest(consumer="recorder", key="key")
            shown = operations.GetParkedKey(request, None)  # type: ignore[arg-type]
        assert "ZeroDivisionError" in shown.error
        assert [(event.aggregate_id, event.version) for event in shown.event] == [
            ("thing", 2),
            ("thing", 3),
            ("other", 1),
        ]

        assert made.replay("key").failure is not None
        assert recorder.versions("thing") == [1]
        recorder.refusing.clear()
        replay = made.replay("key")
        assert (replay.replayed, replay.failure) == (3, None)
        assert parked(operations) == []
        publish(("key", "thing", 4))
        things.eventually(lambda: recorder.versions("thing") == [1, 2, 3, 4])
        with pytest.raises(NotFound):
            made.replay("key")


def test_what_another_holder_of_the_lease_handles_meanwhile_is_not_parked(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    tried: list[int] = []

    def overtaken(event: ReceivedEvent, unit: Unit) -> None:
        tried.append(event.version)
        if tried == [1]:
            # Who held the lease before us still had his transaction open.
            with acting(things.SERVICE, "rival", event.branch), database.unit() as his:
                assert Inbox(database, "recorder").admit([event], his) == [Verdict.HANDLE]
                recorder(event, his)
            raise FailedPrecondition("BAD_TRANSITION", "the work is done already")
        recorder(event, unit)

    made = consumer(database, nats["customers"], overtaken)
    with things.running(made):
        publish(("key", "thing", 1))
        things.eventually(lambda: tried == [1])
        publish(("key", "thing", 2))
        things.eventually(lambda: recorder.versions("thing") == [1, 2])
    assert tried == [1, 2]
    assert parked(Operations(database, [made], service=things.SERVICE)) == []


def test_another_branch_does_not_see_what_is_parked(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    recorder.refusing["thing", 1] = ValueError("no")
    made = consumer(database, nats["customers"], recorder)
    operations = Operations(database, [made], service=things.SERVICE)
    with things.running(made):
        publish(("key", "thing", 1))
        things.eventually(lambda: len(parked(operations)) == 1)
    with acting(things.SERVICE, "test", "osh"):
        listed = operations.ListParkedKeys(pb.ListParkedKeysRequest(), None)  # type: ignore[arg-type]
        assert list(listed.parked_key) == []
        with pytest.raises(NotFound):
            operations.ReplayParkedKey(
                pb.ReplayParkedKeyRequest(consumer="recorder", key="key"),
                None,  # type: ignore[arg-type]
            )


def test_what_is_down_or_not_there_yet_is_tried_again_in_order(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    recorder.refusing["thing", 1] = Unavailable("CATALOG_DOWN", "the catalog doesn't answer")
    recorder.refusing["other", 1] = NotYet("CUSTOMER_UNKNOWN", "the customer isn't here yet")
    with things.running(consumer(database, nats["customers"], recorder)):
        publish(("a", "thing", 1), ("a", "thing", 2), ("b", "other", 1), ("b", "other", 2), ("c", "free", 1))
        things.eventually(lambda: recorder.versions("free") == [1])
        assert (recorder.versions("thing"), recorder.versions("other")) == ([], [])
        recorder.refusing.clear()
        things.eventually(lambda: recorder.versions("thing") == [1, 2] and recorder.versions("other") == [1, 2])


@pytest.mark.parametrize(
    "refusal",
    [
        DeadlineExceeded("DEADLINE_EXCEEDED", "the order takes too long to be read"),
        ResourceExhausted("RESOURCE_EXHAUSTED", "the order is larger than a message may be"),
    ],
)
def test_what_always_takes_too_much_is_parked_in_the_end(
    database: Database,
    nats: Mapping[str, str],
    publish: Publish,
    recorder: things.Recorder,
    refusal: Exception,
) -> None:
    recorder.refusing["thing", 1] = refusal
    made = consumer(database, nats["customers"], recorder, patience=0.3)
    with things.running(made):
        publish(("a", "thing", 1), ("b", "free", 1))
        operations = Operations(database, [made], service=things.SERVICE)
        things.eventually(lambda: [key.key for key in parked(operations)] == ["a"])
        recorder.refusing.clear()
        assert made.replay("a").failure is None
    assert (recorder.versions("thing"), recorder.versions("free")) == ([1], [1])


def test_a_paused_consumer_takes_nothing_until_it_is_resumed(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    made = consumer(database, nats["customers"], recorder)
    operations = Operations(database, [made], service=things.SERVICE)
    with things.running(made):
        publish(("key", "thing", 1))
        things.eventually(lambda: recorder.versions("thing") == [1])
        with acting(things.SERVICE, "test"):
            paused = operations.PauseConsumer(
                pb.PauseConsumerRequest(name="recorder", reason="a bad release"),
                None,  # type: ignore[arg-type]
            )
        assert (paused.paused, paused.paused_by, paused.reason) == (True, "service:orders", "a bad release")
        things.eventually(lambda: made.paused, 1.0)
        publish(("key", "thing", 2))
        things.eventually(lambda: made.paused)
        assert recorder.versions("thing") == [1]
        with acting(things.SERVICE, "test"):
            operations.ResumeConsumer(pb.ResumeConsumerRequest(name="recorder"), None)  # type: ignore[arg-type]
        things.eventually(lambda: recorder.versions("thing") == [1, 2])


def test_lost_database_connections_lose_no_event(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    with things.running(consumer(database, nats["customers"], recorder)):
        publish(*[(f"key-{number % 7}", f"thing-{number % 7}", number // 7 + 1) for number in range(70)])
        things.cut_connections(database)
        publish(*[(f"key-{number % 7}", f"thing-{number % 7}", number // 7 + 11) for number in range(70)])
        things.cut_connections(database)
        things.eventually(lambda: len(recorder.seen()) == 140)
    for number in range(7):
        assert recorder.versions(f"thing-{number}") == list(range(1, 21))


def test_partitions_can_be_split_among_more_consumers(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    names = [f"thing-{number}" for number in range(20)]
    with things.running(consumer(database, nats["customers"], recorder)):
        publish(*[(name, name, 1) for name in names])
        things.eventually(lambda: len(recorder.seen()) == 20)
    halves = [consumer(database, nats["customers"], recorder, partitions=half) for half in (range(32), range(32, 64))]
    with things.running(*halves):
        publish(*[(name, name, 2) for name in names])
        things.eventually(lambda: len(recorder.seen()) == 40)
    for name in names:
        assert recorder.versions(name) == [1, 2]


def test_what_comes_together_is_handled_together_and_one_bad_event_costs_the_others_nothing(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    recorder.refusing["thing-7", 2] = ZeroDivisionError("the handler has a bug")
    publish(*[(f"key-{number}", f"thing-{number}", version) for version in (1, 2, 3) for number in range(30)])
    transactions: set[int] = set()
    labels = {"service": things.SERVICE, "consumer": "recorder", "outcome": "retried"}

    def retried() -> float:
        return REGISTRY.get_sample_value("svyaz_consumer_events_total", labels) or 0.0

    before = retried()

    def handler(event: ReceivedEvent, unit: Unit) -> None:
        recorder(event, unit)
        transactions.add(unit.session.scalar(sa.text("SELECT pg_current_xact_id()::text::bigint")) or 0)

    made = consumer(database, nats["customers"], handler)
    with things.running(made):
        things.eventually(lambda: len(recorder.seen()) == 88)
        things.eventually(lambda: [key.key for key in parked(Operations(database, [made], service="x"))] == ["key-7"])
    for number in range(30):
        assert recorder.versions(f"thing-{number}") == ([1] if number == 7 else [1, 2, 3])
    # The batches with the bad event in them are handled one by one, at once; the others aren't.
    assert len(transactions) < 88
    assert retried() == before


def test_what_comes_soon_after_is_fetched_together_and_later(
    database: Database,
    nats: Mapping[str, str],
    publish: Publish,
    recorder: things.Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def told(stream: JetStreamContext) -> None:
        info = await stream.consumer_info("ORDERS", "recorder-0")
        delivered.append((info.delivered.consumer_seq if info.delivered else 0, info.num_pending or 0))

    delivered: list[tuple[int, int]] = []
    for name in ("SPACING_SECONDS", "LONGEST_SPACING_SECONDS"):
        monkeypatch.setattr(consumer_module, name, 600.0)
    with things.running(consumer(database, nats["customers"], recorder)):
        publish(("key", "thing", 1))
        things.eventually(lambda: recorder.versions("thing") == [1])
        publish(*[("key", "thing", version) for version in (2, 3, 4)])
        stream_job(nats["admin"], told)
    assert delivered == [(1, 3)]
    monkeypatch.undo()
    # What fills a request is no reason to wait: there may be more.
    monkeypatch.setattr(consumer_module, "BATCH", 1)
    pull = {**json.loads(consumer_module._PULL), "batch": 1}
    monkeypatch.setattr(consumer_module, "_PULL", json.dumps(pull).encode())
    with things.running(consumer(database, nats["customers"], recorder)):
        things.eventually(lambda: recorder.versions("thing") == [1, 2, 3, 4])


def test_a_consumer_tells_whether_it_reads_and_how_much_is_left(
    database: Database,
    nats: Mapping[str, str],
    publish: Publish,
    recorder: things.Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer_module, "MEASURE_SECONDS", 0.1)

    def shown() -> tuple[float, float]:
        gauges = (telemetry.CONSUMER_READING, telemetry.CONSUMER_PENDING)
        reading, pending = (gauge.labels(things.SERVICE, "recorder")._value.get() for gauge in gauges)
        return reading, pending

    recorder.refusing["thing", 1] = Unavailable("CATALOG_DOWN", "the catalog doesn't answer")
    publish(("key", "thing", 1), ("key", "thing", 2), ("free", "free", 1))
    with things.running(consumer(database, nats["customers"], recorder)):
        things.eventually(lambda: shown() == (1, 2))
        recorder.refusing.clear()
        things.eventually(lambda: shown() == (1, 0))
        stream_job(nats["admin"], lambda stream: _take_away(stream))
        things.eventually(lambda: shown() == (0, 0))


async def _take_away(stream: JetStreamContext) -> None:
    await stream.delete_stream("ORDERS")


def test_reading_anew_after_a_loss_leaves_no_subscription_behind(
    database: Database, nats: Mapping[str, str], publish: Publish, recorder: things.Recorder
) -> None:
    bus = Bus(nats["customers"], name="consumer")
    made = Consumer(database, bus, recorder, service=things.SERVICE, source=things.SERVICE, name="recorder")
    with things.running(made):
        for version in (1, 2, 3):
            publish(("key", "thing", version))
            things.eventually(lambda seen=version: seen in recorder.versions("thing"))  # type: ignore[misc]
            # What a server does that loses the consumer with its memory.
            stream_job(nats["admin"], lambda stream: _lose(stream, "recorder-0"))
        publish(("key", "thing", 4))
        things.eventually(lambda: 4 in recorder.versions("thing"))
        # One for the replies of requests, one to read by.
        assert len(bus.client._subs) == 2
    assert recorder.versions("thing") == [1, 2, 3, 4]


async def _lose(stream: JetStreamContext, name: str) -> None:
    await stream.delete_consumer("ORDERS", name)
