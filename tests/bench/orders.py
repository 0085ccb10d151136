"""CreateProductOrder (validated, priced, durable, with its events) against a bare servicer with as many INSERTs; from
the commit to the billing consumer; and what both cost when there are a hundred times as many customers."""

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import grpc
import nats
import nats.aio.client
import psycopg
from google.protobuf import timestamp_pb2

from svyaz.orders.v1 import orders_pb2, orders_pb2_grpc
from svyaz.type.v1 import values_pb2
from svyaz_cli.embedded import Nats
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import NATS_OFFSET, POSTGRES_OFFSET, bus_users
from tests.bench.figures import per_second, report, taking_turns
from tests.bench.inserts import ROWS
from tests.e2e.branch import Branch, price
from tests.platforms import RunningPlatform, running_platform

GOAL = 0.35
LATENCY_GOAL_MS = 100.0
WANTED_RATE = 100.0
THREADS = 8
# One account's charges go one after the other, so there are several.
CUSTOMERS = 40
PACED_SECONDS = 10.0
LEFT_SECONDS = 1.0
STREAMS = ("ORDERS", "BILLING")


@contextmanager
def bare(url: str, rows: int = ROWS) -> Iterator[str]:
    """The address of a bare servicer that inserts so many rows (else as many as an order writes) in one transaction
    with psycopg."""
    command = [sys.executable, "-m", "tests.bench.inserts", url, str(rows)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdin is not None
    try:
        yield f"127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.stdin.close()
        server.wait(10)
        server.stdout.close()


def order(customer: str, account: str, offering: str) -> orders_pb2.ProductOrder:
    """One item of an offering with a one-time and a recurring price."""
    return orders_pb2.ProductOrder(
        related_party=[values_pb2.RelatedParty(id=customer, role="customer", at_referred_type="Customer")],
        billing_account=values_pb2.EntityRef(id=account),
        product_order_item=[
            orders_pb2.ProductOrderItem(
                id="1",
                action=orders_pb2.ORDER_ITEM_ACTION_ADD,
                quantity=1,
                product_offering=values_pb2.EntityRef(id=offering),
            )
        ],
    )


class Billing:
    """A consumer of the stream that notes when it got each charge."""

    def __init__(self, platform: RunningPlatform) -> None:
        self._url = _bus(platform).url("billing")
        # By event id, in seconds since 1970.
        self.received: dict[str, float] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._client = nats.aio.client.Client()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        async def seen(message: Any) -> None:
            self.received.setdefault(message.headers["ce-id"], time.time())

        await self._client.connect(self._url)
        await self._client.subscribe("svyaz.billing.v1.>", cb=seen)
        await self._client.flush()


def _followed(platform: RunningPlatform) -> None:
    """Waits until everybody has heard of what was carried out, so that the next rate begins with nothing left of the
    one before."""

    async def behind() -> int:
        client = await nats.connect(_bus(platform).url("admin"))
        try:
            stream = client.jetstream()
            return sum([info.num_pending or 0 for name in STREAMS for info in await stream.consumers_info(name)])
        finally:
            await client.close()

    deadline = time.monotonic() + 120
    while asyncio.run(behind()):
        if time.monotonic() > deadline:
            raise RuntimeError("what was carried out isn't followed")
        time.sleep(0.2)


def _bus(platform: RunningPlatform) -> Nats:
    directory = platform.home.directory
    return Nats(directory / "nats", platform.base + NATS_OFFSET, Secrets(directory), notes=directory, users=bus_users())


def note_commits(admin_url: str) -> None:
    """From now on the database notes when the transaction of each charge begins to commit."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bench_commit (event_id text, at timestamptz)")
        connection.execute(
            "CREATE FUNCTION bench_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN"
            " INSERT INTO bench_commit VALUES (new.event_id, clock_timestamp()); RETURN NULL; END$$"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER bench_note AFTER INSERT ON charge_event DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION bench_note()"
        )


def delays(admin_url: str, received: Mapping[str, float]) -> list[float]:
    """How many seconds after its commit each charge was received, in ascending order."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        commits = connection.execute("SELECT event_id, extract(epoch FROM at)::float8 FROM bench_commit").fetchall()
    return sorted(received[event] - at for event, at in commits if event in received)


def _settle(admin_url: str) -> None:
    """Waits until every order that was taken has ended and been billed."""
    deadline = time.monotonic() + 300
    with psycopg.connect(admin_url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM timer WHERE purpose IN ('advance', 'provision') AND due < '2098-01-01'),"
                " (SELECT count(*) FROM charge_event WHERE sent_at IS NULL)"
            ).fetchone()
            if row == (0, 0):
                return
            time.sleep(0.2)
    raise RuntimeError("the orders don't come to an end")


def admin(platform: RunningPlatform, database: str) -> str:
    """The superuser's URL to a service's database."""
    password = Secrets(platform.home.directory).get("postgres")
    return f"postgresql://postgres:{password}@127.0.0.1:{platform.base + POSTGRES_OFFSET}/{database}"


def main() -> int:
    """1 when a goal is missed."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=float, default=3.0)
    seconds = arguments.parse_args().seconds
    good = True
    with tempfile.TemporaryDirectory() as directory, running_platform(Path(directory)) as platform:
        branch = Branch(platform)
        offering = branch.offering("Home", [price("Connection", "500", recurring=False), price("Fee", "990")])
        orders = [order(*branch.customer("Bench", f"Mark {number}"), offering) for number in range(CUSTOMERS)]
        token = (("authorization", f"Bearer {platform.token('agent', 'bishkek')}"),)
        # Taken now, carried out later: where what is measured is the taking.
        later = timestamp_pb2.Timestamp()
        later.FromJsonString("2099-01-01T00:00:00Z")
        requests = itertools.cycle([orders_pb2.CreateProductOrderRequest(product_order=one) for one in orders])
        for one in orders:
            one.requested_start_date.CopyFrom(later)
        dated = itertools.cycle([orders_pb2.CreateProductOrderRequest(product_order=one) for one in orders])
        orders_url = admin(platform, "orders")
        with (
            grpc.insecure_channel(platform.address("orders")) as channel,
            bare(orders_url) as bare_address,
            grpc.insecure_channel(bare_address) as plain,
        ):
            stub = orders_pb2_grpc.OrderServiceStub(channel)
            call: Any = plain.unary_unary("/bench.Inserts/Insert")
            body = next(requests).SerializeToString()

            def take() -> None:
                stub.CreateProductOrder(next(requests), metadata=token)

            def take_dated() -> None:
                stub.CreateProductOrder(next(dated), metadata=token)

            for _ in range(20):
                take_dated()
                call(body)
            # Eight callers show what an order costs, since they keep the machine busy; one shows how long it takes.
            for callers, name in ((THREADS, "CreateProductOrder"), (1, "CreateProductOrder, one caller")):
                value, baseline = taking_turns(take_dated, lambda: call(body), seconds=seconds, threads=callers)
                good &= report(name, value, "orders/s", baseline=baseline, goal=GOAL)
            begun = time.perf_counter()
            taken = per_second(take, seconds, THREADS) * seconds
            _settle(orders_url)
            carried_out = taken / (time.perf_counter() - begun)
            good &= report("orders taken, carried out and billed", carried_out, "orders/s", goal=1.0)
            note_commits(orders_url)
            good &= _latency(platform, orders_url, take)
        branch.close()
    return 0 if good else 1


def _latency(platform: RunningPlatform, admin_url: str, take: Callable[[], None]) -> bool:
    """Commit to billing consumer at 100 orders a second, or at the highest rate that is held: one at which next to
    nothing is left to be done when the last order has been sent."""
    rate = WANTED_RATE
    while True:
        _followed(platform)
        with Billing(platform) as billing:
            sent = _paced(take, rate, PACED_SECONDS)
            time.sleep(LEFT_SECONDS)
            billed = len(billing.received)
            _settle(admin_url)
            late = delays(admin_url, billing.received)
        held = sent >= 0.95 * rate * PACED_SECONDS and billed >= 2 * sent * 0.99
        if held or rate < 10:
            break
        rate = max(5.0, rate / 1.25)
    p50, p99 = statistics.median(late), late[int(len(late) * 0.99) - 1]
    print(json.dumps({"name": "rate held", "value": round(rate, 1), "unit": "orders/s", "p50_ms": round(p50 * 1e3, 1)}))
    return report(f"commit to billing p99 at {rate:.0f} orders/s", p99 * 1000, "ms", goal=LATENCY_GOAL_MS, lower=True)


def _paced(work: Any, rate: float, seconds: float) -> int:
    """Calls at an even rate from several threads; how many calls were made in the time."""
    begun = time.perf_counter()
    made = [0] * THREADS

    def caller(index: int) -> None:
        number = index
        while True:
            due = begun + number / rate
            if due > begun + seconds:
                return
            time.sleep(max(0.0, due - time.perf_counter()))
            if time.perf_counter() > begun + seconds:
                return
            work()
            made[index] += 1
            number += THREADS

    threads = [threading.Thread(target=caller, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(made)


if __name__ == "__main__":
    sys.exit(main())
