"""Orders under a mixed load (60 % reads, 25 % creates, 10 % task completions, 5 % amendments) beside a bare servicer
that reads one row, or writes as many, for each; and how late the timers of 100,000 open orders are, which come due
within ten minutes: `make bench NAME=orders_mix`."""

import argparse
import asyncio
import itertools
import json
import queue
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc
import nats.aio.client
import psycopg
from psycopg import sql

from svyaz.orders.v1 import fulfilment_pb2, fulfilment_pb2_grpc, orders_pb2, orders_pb2_grpc
from svyaz.type.v1 import requests_pb2, values_pb2
from svyaz_cli.embedded import Nats
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import NATS_OFFSET, READER, bus_users
from tests.bench.figures import report, taking_turns
from tests.bench.inserts import READ, ROWS
from tests.bench.orders import CUSTOMERS, THREADS, admin, bare, order
from tests.e2e.branch import CATALOG, ORDERING, Branch, price
from tests.platforms import RunningPlatform, running_platform

GOAL = 0.35
LATENESS_GOAL_SECONDS = 1.0
# Of twenty calls: what is asked for.
MIX = ("get",) * 6 + ("tasks",) * 3 + ("list",) * 3 + ("create",) * 5 + ("complete",) * 2 + ("amend",)
# What each writes at least, with an event and an outbox row for each: the task, and the timer that carries its order
# on; the order, its new item and the timer.
WRITES = {"create": ROWS, "complete": 4, "amend": 7}
BEGUN = 400
OPEN_ORDERS, MINUTES = 100_000, 10.0
# A network that takes its time, so that an order stays open when it has been asked about.
DELAY_SECONDS = 3600.0


class External:
    """An external system: it hears of its tasks by their events."""

    def __init__(self, platform: RunningPlatform) -> None:
        directory = platform.home.directory
        server = Nats(
            directory / "nats", platform.base + NATS_OFFSET, Secrets(directory), notes=directory, users=bus_users()
        )
        self._url = server.url(READER)
        self.told: queue.SimpleQueue[fulfilment_pb2.FulfilmentTask] = queue.SimpleQueue()
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
        async def hear(message: Any) -> None:
            task = fulfilment_pb2.FulfilmentTask.FromString(message.data)
            if task.system == SYSTEM and task.state == fulfilment_pb2.FULFILMENT_TASK_STATE_IN_PROGRESS:
                self.told.put(task)

        await self._client.connect(self._url)
        for what in ("Create", "StateChange"):
            await self._client.subscribe(f"svyaz.orders.v1.*.FulfilmentTask{what}Event", cb=hear)
        await self._client.flush()


SYSTEM = "network"


class Mix:
    """The calls, each in its turn; how long those of each kind took, in seconds."""

    def __init__(self, platform: RunningPlatform, channel: grpc.Channel, external: External, branch: Branch) -> None:
        self._orders = orders_pb2_grpc.OrderServiceStub(channel)
        self._tasks = fulfilment_pb2_grpc.FulfilmentServiceStub(channel)
        self._agent = (("authorization", f"Bearer {platform.token('agent', 'bishkek')}"),)
        self._system = (("authorization", f"Bearer {platform.token('admin', 'bishkek')}"),)
        self._external = external
        monthly = price("Fee", "990")
        line, self._option = branch.offering("Line", [monthly]), branch.offering("Option", [monthly])
        specification = branch.get(f"{CATALOG}/productOffering/{line}")["productSpecification"]
        task = fulfilment_pb2.TaskSpecification(
            name="activate",
            system=SYSTEM,
            operation="activate",
            compensation=fulfilment_pb2.Compensation(operation="deactivate"),
        )
        self._tasks.CreateFulfilmentSpecification(
            fulfilment_pb2.CreateFulfilmentSpecificationRequest(
                branch="bishkek",
                fulfilment_specification=fulfilment_pb2.FulfilmentSpecification(
                    name="Line", product_specification_id=specification["id"], action="add", task=[task]
                ),
            ),
            metadata=self._system,
        )
        people = [branch.customer("Bench", f"Mark {number}") for number in range(CUSTOMERS)]
        self._wanted = itertools.cycle([order(customer, account, line) for customer, account in people])
        self._made: list[orders_pb2.ProductOrder] = []
        self._numbers = itertools.count()
        self._turns = itertools.cycle(MIX)
        self._lock = threading.Lock()
        self.took: dict[str, list[float]] = defaultdict(list)

    def __call__(self) -> None:
        """One call."""
        with self._lock:
            kind = next(self._turns)
        begun = time.perf_counter()
        getattr(self, kind)()
        self.took[kind].append(time.perf_counter() - begun)

    def _some(self) -> orders_pb2.ProductOrder:
        # All over the table, never one after the other.
        return self._made[next(self._numbers) * 7_919 % len(self._made)]

    def get(self) -> None:
        """An order with its items."""
        self._orders.GetProductOrder(requests_pb2.GetRequest(id=self._some().id), metadata=self._agent)

    def tasks(self) -> None:
        """How far an order has come."""
        one = requests_pb2.Filter(
            path="product_order_id", operator=requests_pb2.Filter.OPERATOR_EQ, value=[self._some().id]
        )
        self._tasks.ListFulfilmentTasks(requests_pb2.ListRequest(filter=[one], limit=20), metadata=self._agent)

    def list(self) -> None:
        """A page of orders."""
        self._orders.ListProductOrders(requests_pb2.ListRequest(limit=10), metadata=self._agent)

    def create(self) -> None:
        """Another order."""
        with self._lock:
            wanted = next(self._wanted)
        request = orders_pb2.CreateProductOrderRequest(product_order=wanted)
        self._made.append(self._orders.CreateProductOrder(request, metadata=self._agent))

    def complete(self) -> None:
        """The external system has done a task."""
        task = self._external.told.get(timeout=30)
        self._tasks.CompleteFulfilmentTask(
            fulfilment_pb2.CompleteFulfilmentTaskRequest(id=task.id, attempt=task.attempt), metadata=self._system
        )

    def amend(self) -> None:
        """An order that is being carried out gets one item more; its task goes on."""
        task = self._external.told.get(timeout=30)
        known = self._orders.GetProductOrder(requests_pb2.GetRequest(id=task.product_order_id), metadata=self._agent)
        changed = orders_pb2.ProductOrder(id=known.id)
        changed.product_order_item.append(next(one for one in self._made if one.id == known.id).product_order_item[0])
        changed.product_order_item[0].ClearField("state")
        more = orders_pb2.ProductOrderItem(
            id="2",
            action=orders_pb2.ORDER_ITEM_ACTION_ADD,
            quantity=1,
            product_offering=values_pb2.EntityRef(id=self._option),
        )
        changed.product_order_item.append(more)
        request = orders_pb2.UpdateProductOrderRequest(product_order=changed)
        request.update_mask.paths.append("product_order_item")
        self._orders.UpdateProductOrder(request, metadata=self._agent)
        self._external.told.put(task)


class Bare:
    """The same mix as reads and writes of bare rows."""

    def __init__(self, channels: dict[str, grpc.Channel], body: bytes) -> None:
        self._writes: dict[str, Any] = {
            kind: channel.unary_unary("/bench.Inserts/Insert") for kind, channel in channels.items()
        }
        self._read: Any = next(iter(channels.values())).unary_unary(READ)
        self._body = body
        self._turns = itertools.cycle(MIX)
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def __call__(self) -> None:
        """One call."""
        with self._lock:
            kind = next(self._turns)
        if kind in self._writes:
            self._writes[kind](self._body)
        else:
            self._read(str(next(self._numbers) * 7_919 % 1_000 + 1).encode())


def percentiles(took: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(took)
    return {
        "p50_ms": round(statistics.median(ordered) * 1e3, 1),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1e3, 1),
    }


def mixed(platform: RunningPlatform, branch: Branch, seconds: float) -> bool:
    """How many calls of the mix are answered in a second, and how long those of each kind take."""
    url = admin(platform, "orders")
    with (
        External(platform) as external,
        grpc.insecure_channel(platform.address("orders")) as channel,
        bare(url, WRITES["create"]) as creating,
        bare(url, WRITES["complete"]) as completing,
        bare(url, WRITES["amend"]) as amending,
        grpc.insecure_channel(creating) as first,
        grpc.insecure_channel(completing) as second,
        grpc.insecure_channel(amending) as third,
    ):
        mix = Mix(platform, channel, external, branch)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda _: mix.create(), range(BEGUN)))
        rows = Bare({"create": first, "complete": second, "amend": third}, b"x" * 500)
        for _ in range(1_000):
            rows._writes["complete"](b"x" * 500)
        for _ in range(100):
            mix()
        mix.took.clear()
        value, baseline = taking_turns(mix, rows, seconds=seconds, threads=THREADS)
        good = report("mixed load", value, "calls/s", baseline=baseline, goal=GOAL)
        print(json.dumps({"name": "of these creates", "value": round(value * 0.25, 1), "unit": "orders/s"}))
        for kind, took in sorted(mix.took.items()):
            print(json.dumps({"name": f"mixed load: {kind}", "unit": "ms", "calls": len(took), **percentiles(took)}))
        every = [one for took in mix.took.values() for one in took]
        print(json.dumps({"name": "mixed load: all", "unit": "ms", "calls": len(every), **percentiles(every)}))
    return good


def columns(connection: psycopg.Connection[Any], table: str) -> list[str]:
    """Those that aren't reckoned from others."""
    rows = connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s"
        " AND is_generated = 'NEVER' ORDER BY ordinal_position",
        (table,),
    )
    return [name for (name,) in rows]


_PRODUCT = "original.id = (SELECT product_id FROM product_order_item WHERE product_order_id = %s LIMIT 1)"


def open_orders(url: str, templates: list[str], most: int, seconds: float) -> None:
    """Copies orders that are being carried out until there are so many; their timers come due evenly in the time.

    What happened to a copy before isn't in the log: its next event is its first, or whoever listens would wait for the
    earlier ones.
    """
    each = most // len(templates)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bench_copy AS SELECT generate_series(1, %s::int) AS n", (each,))
        for index, template in enumerate(templates):
            begins = f"(now() + make_interval(secs => 60 + (copy.n * {len(templates)} + {index}) * {seconds / most}))"
            suffix = f"'-{index}-' || copy.n"
            for table, key, new in (
                ("product_order", "id", {"id": "", "revision": "0"}),
                (
                    "product_order_item",
                    "product_order_id",
                    {"id": "", "product_order_id": "", "product_id": "", "revision": "0"},
                ),
                ("product", "id", {"id": "", "revision": "0"}),
                (
                    "fulfilment_task",
                    "product_order_id",
                    {
                        "id": "",
                        "product_order_id": "",
                        "product_order_item_id": "",
                        "due_at": begins,
                        "revision": "0",
                    },
                ),
                ("timer", "aggregate_id", {"aggregate_id": "", "due": begins, "not_before": begins}),
            ):
                names = columns(connection, table)
                values = [
                    sql.SQL(new[name] if new.get(name) else f"original.{name} || {suffix}")
                    if name in new
                    else sql.SQL("original.{}").format(sql.Identifier(name))
                    for name in names
                ]
                where = sql.SQL(_PRODUCT if table == "product" else f"original.{key} = %s")
                connection.execute(
                    sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} AS original, bench_copy AS copy WHERE {}").format(
                        sql.Identifier(table),
                        sql.SQL(", ").join(map(sql.Identifier, names)),
                        sql.SQL(", ").join(values),
                        sql.Identifier(table),
                        where,
                    ),
                    (template,),
                )
        connection.execute("ANALYZE")


def lateness(platform: RunningPlatform, branch: Branch, most: int, minutes: float) -> bool:
    """How long after their time the timers of many open orders have been carried out and committed."""
    url = admin(platform, "orders")
    offering = branch.offering("Slow", [price("Fee", "990")])
    templates = [branch.order(*branch.customer("Late", str(number)), offering)["id"] for number in range(10)]
    deadline = time.monotonic() + 60
    while any(branch.get(f"{ORDERING}/productOrder/{one}")["state"] != "inProgress" for one in templates):
        if time.monotonic() > deadline:
            raise RuntimeError("the orders don't begin")
        time.sleep(0.2)
    time.sleep(2)
    open_orders(url, templates, most, minutes * 60)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bench_fired (due timestamptz, at timestamptz)")
        connection.execute(
            "CREATE FUNCTION bench_fire() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN"
            " IF old.due <= clock_timestamp() THEN INSERT INTO bench_fired VALUES (old.due, clock_timestamp()); END IF;"
            " RETURN NULL; END$$"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER bench_fire AFTER DELETE ON timer DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION bench_fire()"
        )
        end = time.monotonic() + 60 + minutes * 60 + 60
        fired = 0
        while fired < most and time.monotonic() < end:
            time.sleep(5)
            (fired,) = connection.execute("SELECT count(*) FROM bench_fired").fetchone() or (0,)
        late = [
            float(row[0])
            for row in connection.execute("SELECT extract(epoch FROM at - due) FROM bench_fired ORDER BY 1")
        ]
    print(json.dumps({"name": "timers that were carried out", "value": len(late), "of": most}))
    if len(late) < most:
        print(json.dumps({"name": "timers left", "value": most - len(late), "unit": "timers"}))
        return False
    p50, p99 = statistics.median(late), late[int(len(late) * 0.99) - 1]
    print(json.dumps({"name": "lateness p50", "value": round(p50 * 1e3, 1), "unit": "ms"}))
    name = f"lateness p99 of the timers of {most:,} open orders in {minutes:g} minutes"
    return report(name, p99, "s", goal=LATENESS_GOAL_SECONDS, lower=True)


def main() -> int:
    """1 when a goal is missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=5.0)
    arguments.add_argument("--orders", type=int, default=OPEN_ORDERS)
    arguments.add_argument("--minutes", type=float, default=MINUTES)
    given = arguments.parse_args()
    parts: list[tuple[dict[str, str], Callable[[RunningPlatform, Branch], bool]]] = [
        ({"FULFILMENT_BY_EVENT": SYSTEM}, lambda platform, branch: mixed(platform, branch, given.seconds)),
        (
            {"NULL_PROVISIONING_DELAY_SECONDS": str(DELAY_SECONDS)},
            lambda platform, branch: lateness(platform, branch, given.orders, given.minutes),
        ),
    ]
    good = True
    for environment, part in parts:
        with (
            tempfile.TemporaryDirectory() as directory,
            running_platform(Path(directory), environment=environment) as platform,
        ):
            branch = Branch(platform)
            good &= part(platform, branch)
            branch.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
