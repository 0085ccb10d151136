"""One run of the fault drill over NATS: charges are sealed and sent, a proxy harms them, `svyaz billing-tail` reads."""

import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats as nats_client
from nats.js.errors import NotFoundError

from chassis.db import Database
from orders.billing.outbox import STREAM, BillingOutbox, billing_stream
from orders.billing.sealer import Sealer
from tests import streams
from tests.billing.books import write
from tests.billing.charges import charge
from tests.billing.drill import Fault, reported
from tests.billing.proxy import COPY, Proxy, injected, plans

# What the reader of the stream waits for a message, and what anybody waits for a report.
GAP_SECONDS = 4.0
MINUTE = 60.0


@dataclass
class Outcome:
    """What was done to the messages, what was said of them, and how many seconds after a message its fault was."""

    injected: Counter[Fault]
    reported: Counter[Fault]
    lines: list[dict[str, Any]]
    accepted: dict[str, list[int]]
    slowest: float


@dataclass
class Reader:
    """The command, and what it has said so far."""

    process: "subprocess.Popen[str]"
    lines: list[dict[str, Any]] = field(default_factory=list)
    fetched: set[tuple[str, int]] = field(default_factory=set)
    # When each place was first spoken of beyond being taken in its turn.
    told: dict[tuple[str, int], float] = field(default_factory=dict)

    def read(self) -> None:
        """Takes in what it says."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line = json.loads(text)
            place = (line["account"], line["sequence"])
            if line.get("fetched") or line["verdict"] != "accepted":
                self.told.setdefault(place, time.monotonic())
            if line.get("fetched"):
                self.fetched.add(place)
            self.lines.append(line)


def exercise(
    database: Database, environment: Mapping[str, str], admin: str, state: Path, *, accounts: int, each: int, seed: int
) -> Outcome:
    """Runs the drill with so many accounts of so many charges each; raises AssertionError when not all is reported
    within a minute of the last message."""
    chance = random.Random(seed)
    counts = {f"drill-{number}": each for number in range(accounts)}
    plan = plans(counts, chance, rate=0.3)
    expected = injected(plan)
    fetched: set[tuple[str, int]] = set()
    proxy = Proxy(admin, plan, fetched, chance)
    failures: list[BaseException] = []

    def forward() -> None:
        try:
            asyncio.run(proxy.run())
        except BaseException as error:  # noqa: BLE001 (whatever it is, the drill must tell)
            failures.append(error)

    forwarding = threading.Thread(target=forward, daemon=True)
    forwarding.start()
    command = [
        *(sys.executable, "-m", "svyaz_cli.main", "billing-tail", "--state", str(state), "--stream", COPY),
        *("--gap-timeout", str(GAP_SECONDS), "--keep-going", "--acknowledge"),
    ]
    with subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        reader = Reader(process, fetched=fetched)
        reading = threading.Thread(target=reader.read)
        reading.start()
        for number in range(each):
            write(database, [charge(account, number) for account in counts])
            send(database, environment["NATS_ORDERS_URL"])
        deadline = time.monotonic() + MINUTE
        total = accounts * each
        while time.monotonic() < deadline and not failures:
            accepted = sum(line["verdict"] == "accepted" for line in list(reader.lines))
            if accepted == total and reported(list(reader.lines)) == expected and not forwarding.is_alive():
                break
            time.sleep(0.1)
        # What would be reported falsely shows within as long as a gap lasts.
        time.sleep(GAP_SECONDS / 2)
        process.send_signal(signal.SIGTERM)
        reading.join(20)
    forwarding.join(5)
    assert failures == []
    assert not forwarding.is_alive()
    late = [reader.told[place] - at for place, at in proxy.met.items() if place in reader.told]
    taken: dict[str, list[int]] = {}
    for line in reader.lines:
        if line["verdict"] == "accepted":
            taken.setdefault(line["account"], []).append(line["sequence"])
    return Outcome(
        injected=expected,
        reported=reported(reader.lines),
        lines=reader.lines,
        accepted=taken,
        slowest=max(late, default=0.0),
    )


def send(database: Database, url: str) -> None:
    """What sealer and relay do."""
    Sealer(database).seal_batch()
    outbox = BillingOutbox(database)

    async def publish() -> list[int]:
        client = await nats_client.connect(url)
        items = outbox.exchange([], 10_000, 0, set(), set())
        for item in items:
            await client.jetstream().publish(item.subject, item.data, headers=dict(item.headers))
        await client.close()
        return [item.id for item in items]

    outbox.exchange(asyncio.run(publish()), 0, 0, set(), set())


async def empty(url: str) -> None:
    """Makes the stream BILLING anew."""
    client = await nats_client.connect(url)
    with suppress(NotFoundError):
        await client.jetstream().delete_stream(STREAM)
    await streams.add(client.jetstream(), billing_stream())
    await client.close()
