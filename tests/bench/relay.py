"""How fast the relay empties an outbox, beside plain pipelined publishing of the same bytes and headers.

Both go to the same NATS, which syncs before it acknowledges, as in production; rounds alternate. A JSON line a figure.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import nats
from nats.js.errors import NotFoundError

from chassis import migrate
from chassis.bus import event_stream
from chassis.db import Database
from chassis.outbox import EventOutbox, Outgoing
from svyaz_cli.embedded import Nats, Postgres, free_port
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import bus_users
from tests.chassis import things
from tests.conftest import ServiceDatabase

GOAL = 0.5
PAYLOAD_BYTES = 600
# As many as nats-py lets a publisher have unacknowledged.
PIPELINE = 4_000


async def _empty_stream(url: str) -> None:
    client = await nats.connect(url)
    stream = client.jetstream()
    with suppress(NotFoundError):
        await stream.delete_stream("ORDERS")
    await stream.add_stream(event_stream("orders"))
    await client.close()


async def _publish(url: str, messages: Sequence[Outgoing]) -> float:
    client = await nats.connect(url)
    stream = client.jetstream(publish_async_max_pending=PIPELINE)
    began = time.perf_counter()
    for message in messages:
        await stream.publish_async(message.subject, message.data, headers=dict(message.headers))
    await stream.publish_async_completed()
    took = time.perf_counter() - began
    count = (await stream.stream_info("ORDERS")).state.messages
    await client.close()
    if count != len(messages):
        raise RuntimeError(f"{count} of {len(messages)} messages arrived")
    return len(messages) / took


def _fill(database: Database, events: int, keys: int) -> None:
    for first in range(0, events, 1_000):
        numbers = range(first, min(first + 1_000, events))
        things.write(
            database, *[(f"key-{n % keys}", f"thing-{n % keys}", n // keys + 1) for n in numbers], size=PAYLOAD_BYTES
        )


def _relay(database: Database, url: str) -> float:
    events = things.unsent(database)
    relay = things.relay(database, things.bus(url))
    began = time.perf_counter()
    relay.start()
    while things.unsent(database):
        time.sleep(0.02)
    took = time.perf_counter() - began
    relay.stop()
    return events / took


def _contents(database: Database) -> Sequence[Outgoing]:
    return EventOutbox(database, "orders").exchange((), 1_000_000, 0, (), ())


def measure(events: int, keys: int, rounds: int) -> bool:
    """Prints the figures; whether the goal is reached."""
    relayed, raw = [], []
    with tempfile.TemporaryDirectory(prefix="svyaz-bench-") as directory, ExitStack() as stack:
        root = Path(directory)
        root.chmod(0o711)
        secrets = Secrets(root)
        postgres = Postgres(root / "postgres", free_port(), secrets, notes=root / "run")
        postgres.launch()
        stack.callback(postgres.stop)
        bus = Nats(root / "nats", free_port(), secrets, notes=root / "run", users=bus_users())
        bus.launch()
        stack.callback(bus.stop)
        postgres.wait()
        bus.wait()
        migrate.provision(postgres.admin_url, "orders", password="bench", owner_password="bench")
        made = ServiceDatabase(
            "orders",
            postgres.url("orders", "orders", "bench"),
            postgres.url("orders", "orders_owner", "bench"),
            postgres.admin_url,
        )
        things.create(made)
        database = things.connect(made)
        stack.callback(database.close)
        for _ in range(rounds):
            _fill(database, events, keys)
            messages = _contents(database)
            asyncio.run(_empty_stream(bus.url("admin")))
            raw.append(asyncio.run(_publish(bus.url("orders"), messages)))
            asyncio.run(_empty_stream(bus.url("admin")))
            relayed.append(_relay(database, bus.url("orders")))
    value, baseline = statistics.median(relayed), statistics.median(raw)
    ratio = value / baseline
    figure = {
        "name": "relay_events",
        "value": round(value),
        "unit": "events/s",
        "baseline": round(baseline),
        "ratio": round(ratio, 3),
        "goal": GOAL,
        "ok": ratio >= GOAL,
    }
    print(json.dumps(figure))
    return ratio >= GOAL


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    sys.exit(0 if measure(arguments.events, arguments.keys, arguments.rounds) else 1)
