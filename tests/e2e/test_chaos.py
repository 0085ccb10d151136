"""Everything is killed once while orders flow; in the end nothing is lost, nothing done twice, nothing out of order."""

import asyncio
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nats
import psutil
import pytest
from nats.js.api import ConsumerConfig, DeliverPolicy

from svyaz_cli.embedded import Nats
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import NATS_OFFSET, SERVICES, bus_users
from tests.e2e.branch import FINAL, INVENTORY, Branch, price
from tests.e2e.mass_sale import sell
from tests.e2e.test_story import BILLING_TAIL, billing_environment
from tests.platforms import RunningPlatform, running_platform

ORDERS = 200
PRODUCERS = 4
CUSTOMERS = 5
# A moment between two kills: long enough to be working again most of the time, short enough to overlap sometimes.
PAUSE_SECONDS = (1.0, 4.0)
STREAMS = ("CATALOG", "CUSTOMERS", "ORDERS")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """One of its own, since everything on it is killed."""
    with running_platform(tmp_path_factory.mktemp("platform")) as running:
        yield running


def _kill_everything_once(platform: RunningPlatform, seed: int) -> list[str]:
    """kill -9 of every service and both servers, in random order."""
    chance = random.Random(seed)
    victims = [service.name for service in SERVICES] + ["nats", "postgres"]
    chance.shuffle(victims)
    for victim in victims:
        time.sleep(chance.uniform(*PAUSE_SECONDS))
        deadline = time.monotonic() + 60
        while True:
            try:
                os.kill(platform.pid(victim), signal.SIGKILL)
                break
            except (LookupError, ProcessLookupError, psutil.NoSuchProcess):
                assert time.monotonic() < deadline, f"{victim} doesn't come back to be killed"
                time.sleep(0.2)
    return victims


def _versions(platform: RunningPlatform) -> dict[str, list[tuple[str, int]]]:
    """What every stream holds: (aggregate, version) in the order in which its consumers get them."""
    directory = platform.home.directory
    server = Nats(
        directory / "nats", platform.base + NATS_OFFSET, Secrets(directory), notes=directory / "run", users=bus_users()
    )

    async def read() -> dict[str, list[tuple[str, int]]]:
        found: dict[str, list[tuple[str, int]]] = {}
        client = await nats.connect(server.url("admin"))
        jetstream = client.jetstream()
        for stream in STREAMS:
            wanted = (await jetstream.stream_info(stream)).state.messages
            subscription = await jetstream.subscribe(
                "", stream=stream, ordered_consumer=True, config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
            )
            seen = found.setdefault(stream, [])
            for _ in range(wanted):
                message = await subscription.next_msg(timeout=10)
                headers = message.headers or {}
                seen.append((headers["ce-subject"], int(headers["ce-version"])))
        await client.close()
        return found

    return asyncio.run(read())


def test_nothing_is_lost_or_done_twice_when_everything_is_killed(
    platform: RunningPlatform, branch: Branch, tmp_path: Path
) -> None:
    seed = int(os.environ.get("SVYAZ_CHAOS_SEED", "") or random.randrange(10**6))
    print(f"SVYAZ_CHAOS_SEED={seed}")
    prices = [price("Connection", "100", recurring=False), price("Monthly fee", "300")]
    offerings = [branch.offering(f"Tariff {number}", prices) for number in range(2)]
    payers = [branch.customer(f"Given{number}", f"Family{number}") for number in range(CUSTOMERS)]
    accepted: list[tuple[str, str]] = []
    lock = threading.Lock()

    def produce(producer: int) -> None:
        chance = random.Random(seed + producer)
        mine = Branch(platform, branch.name)
        try:
            for _ in range(ORDERS // PRODUCERS):
                customer, account = chance.choice(payers)
                order = mine.order(customer, account, *offerings[: chance.choice((1, 2))])
                with lock:
                    accepted.append((order["id"], account))
                time.sleep(chance.uniform(0, 0.2))
        finally:
            mine.close()

    with ThreadPoolExecutor(PRODUCERS + 1) as pool:
        killed = pool.submit(_kill_everything_once, platform, seed)
        for work in [pool.submit(produce, producer) for producer in range(PRODUCERS)]:
            work.result(300)
        assert len(killed.result(300)) == len(SERVICES) + 2

    assert len({order_id for order_id, _ in accepted}) == ORDERS, "each request that was answered made its own order"
    expected: Counter[tuple[str, str]] = Counter()
    for order_id, account in accepted:
        order = branch.ended(order_id, seconds=120)
        assert order["state"] in FINAL
        done = [item["id"] for item in order["productOrderItem"] if item["state"] == "completed"]
        assert order["state"] == "completed" or order["note"], "what failed says why"
        products = branch.get(f"{INVENTORY}/product?productOrderItem.productOrderId={order_id}")
        active = [product for product in products if product["status"] == "active"]
        assert len(active) == len(done), "one product for each item, never two"
        for _ in done:
            expected[account, "ChargeCreateEvent"] += 1
            expected[account, "RecurringChargeStartEvent"] += 1

    events = _billed(platform, tmp_path, sum(expected.values()))
    assert Counter((event["account"], event["type"]) for event in events) == expected
    assert len({event["id"] for event in events}) == len(events)

    for stream, seen in _versions(platform).items():
        last: dict[str, int] = {}
        for aggregate, version in seen:
            assert version <= last.get(aggregate, 0) + 1, f"{stream}: {aggregate} jumps to {version} from {last}"
            last[aggregate] = max(last.get(aggregate, 0), version)


def _billed(platform: RunningPlatform, directory: Path, wanted: int) -> list[dict[str, Any]]:
    """Everything that billing reads, verified by the reference consumer; it exits with 1 after a fault."""
    events: list[dict[str, Any]] = []
    deadline = time.monotonic() + 120
    while len(events) < wanted and time.monotonic() < deadline:
        completed = subprocess.run(
            [*BILLING_TAIL, "--state", str(directory / "state"), "--idle-exit", "3"],
            env=billing_environment(platform),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert completed.returncode == 0, completed.stdout[-2000:] + completed.stderr[-2000:]
        # What comes a second time, after NATS was killed, is told as such and taken once.
        lines = map(json.loads, completed.stdout.splitlines())
        events += [line for line in lines if line.get("verdict") == "accepted"]
    return events


def test_each_row_of_a_mass_sale_is_one_order_when_what_takes_them_is_killed(
    platform: RunningPlatform, branch: Branch
) -> None:
    sold = sell(platform, branch, rows=100, kills=["orders"])
    assert (sold.ordered, sold.orders, sold.products) == (100, 100, 100)
