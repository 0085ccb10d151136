"""What a call costs at 1,000,000 customers beside what it costs at 10,000: two platforms, asked in turns.

Both have one imported customer (party, account, contact media, their events and references, the imported line) with one
order that was carried out and billed (items, product, charges, their events and references). All rows of these, in the
databases of customers and orders, are copied in SQL with ids of their own, for so many customers; one in ten has the
order. Nothing of it is in an outbox. Blocks, of tables and indexes, are what PostgreSQL touched per call.
The million takes about ten minutes and 11 GB.
"""

import argparse
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psycopg
from psycopg import sql

from svyaz.customers.v1 import account_pb2, customers_pb2_grpc, import_pb2, import_pb2_grpc, party_pb2
from svyaz.orders.v1 import orders_pb2, orders_pb2_grpc
from svyaz.type.v1 import requests_pb2
from tests.bench.figures import report, taking_turns
from tests.bench.orders import admin, order
from tests.bench.rpc import customer
from tests.e2e.branch import Branch, price
from tests.platforms import RunningPlatform, running_platform

SMALL, LARGE = 10_000, 1_000_000
ORDERING = 10
GOAL = 1.3
# An index grows by a level when its table grows a hundred times, which is a block more for each time it is looked at; a
# scan would be a hundred times as many.
BLOCKS_GOAL = 2.0
DATABASES = ("customers", "orders")
THREADS = 2
# Idle backends report what they have touched after ten seconds.
REPORTED_SECONDS = 11.0

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What tells a copy from its original beside the ids.
OWN = {
    ("import_row", "line"): "n + 1",
    ("import_row", "key_hash"): "sha256((n + 1)::text::bytea)",
    ("event", "partition"): "n % 64",
}
TABLES = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
        AND relname !~ '^(stage_.*|outbox.*|idempotency|lease|alembic.*|consumer.*|parked.*)$'
"""
# As chassis.types.new_id makes them, the random bits out of the original's id and the number.
NEW_ID = """
    CREATE OR REPLACE FUNCTION copied_id(original text, n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
        SELECT overlay(overlay(overlay(md5(original || n)
            PLACING lpad(to_hex(('x' || left(replace(original, '-', ''), 12))::bit(48)::bigint + n), 12, '0') FROM 1)
            PLACING '7' FROM 13) PLACING 'a' FROM 17)::uuid::text
    $$
"""


@dataclass(frozen=True)
class Place:
    """A platform with so many customers."""

    platform: RunningPlatform
    customers: int
    offering: str
    original: tuple[str, str]

    def copied(self, count: int) -> list[tuple[str, str]]:
        """The ids of some customers and their accounts."""
        numbers = [random.randint(1, self.customers) for _ in range(count)]
        with psycopg.connect(admin(self.platform, "customers")) as connection:
            return connection.execute(
                "SELECT copied_id(%s, n), copied_id(%s, n) FROM unnest(%s::bigint[]) AS n", (*self.original, numbers)
            ).fetchall()

    def blocks(self) -> int:
        """Blocks of tables and indexes touched so far."""
        time.sleep(REPORTED_SECONDS)
        found = 0
        for database in DATABASES:
            with psycopg.connect(admin(self.platform, database)) as connection:
                row = connection.execute(
                    "SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0))"
                    " FROM pg_statio_user_tables WHERE relname NOT IN ('lease', 'outbox', 'timer')"
                ).fetchone()
                assert row is not None
                found += int(row[0])
        return found


def originals(platform: RunningPlatform, branch: Branch, offering: str) -> tuple[str, str]:
    """The ids of an imported customer and its account, who has an order that has come to its end."""
    token = (("authorization", f"Bearer {platform.token('admin', branch.name)}"),)
    one = customer(1)
    person = party_pb2.Individual(given_name="Aida", family_name="Usenova", contact_medium=one.contact_medium)
    account = account_pb2.BillingAccount(name="Main", state="active")
    one.ClearField("engaged_party")
    row = import_pb2.ImportRow(line=1, key="1", individual=person, customer=one, billing_account=account)
    with grpc.insecure_channel(platform.address("customers")) as channel:
        answer = import_pb2_grpc.ImportServiceStub(channel).ImportCustomers(
            import_pb2.ImportCustomersRequest(branch=branch.name, source="growth", dataset="growth", rows=[row]),
            metadata=token,
        )
    customer_id = answer.outcomes[0].customer_id
    with psycopg.connect(admin(platform, "customers")) as connection:
        found = connection.execute("SELECT id FROM billing_account").fetchone()
    assert found is not None
    agent = (("authorization", f"Bearer {platform.token('agent', branch.name)}"),)
    with grpc.insecure_channel(platform.address("orders")) as channel:
        orders_pb2_grpc.OrderServiceStub(channel).CreateProductOrder(
            orders_pb2.CreateProductOrderRequest(product_order=order(customer_id, found[0], offering)), metadata=agent
        )
    _settle(platform)
    return customer_id, found[0]


def _settle(platform: RunningPlatform) -> None:
    """Waits until the order is carried out, and the customers' side has heard of it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with (
            psycopg.connect(admin(platform, "orders")) as orders,
            psycopg.connect(admin(platform, "customers")) as customers,
        ):
            billed = orders.execute(
                "SELECT count(*) > 0 AND bool_and(sent_at IS NOT NULL) AND NOT EXISTS (SELECT FROM outbox)"
                " FROM charge_event"
            ).fetchone()
            heard = customers.execute(
                "SELECT count(*) > 0 AND NOT EXISTS (SELECT FROM outbox)"
                " FROM reference WHERE referrer_type = 'ProductOrder'"
            ).fetchone()
        if billed == heard == (True,):
            return
        time.sleep(0.2)
    raise RuntimeError("the order doesn't come to an end")


def grow(url: str, count: int, shared: frozenset[str], ordered: frozenset[str]) -> None:
    """Copies all rows that are there, `shared` ids kept; rows with ids of `ordered` for one customer in ten only."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(NEW_ID)
        tables = [name for (name,) in connection.execute(TABLES).fetchall()]
        originals = [original for table in tables for original in _rows(connection, table)]
        for table, columns, row in originals:
            ids = sorted({found for value, _ in row for found in _ids(value)} - shared)
            if ids:
                step = ORDERING if ordered.intersection(ids) else 1
                _copy(connection, table, columns, row, ids, range(step, count + 1, step))
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def _rows(connection: Any, table: str) -> Iterator[tuple[str, list[str], list[tuple[str | None, str]]]]:
    """The table's rows: its columns that PostgreSQL doesn't fill, and of each value its text and type."""
    columns = connection.execute(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        " AND NOT attisdropped AND attidentity = '' AND attgenerated = '' AND attname <> 'transaction'",
        (table,),
    ).fetchall()
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name, _ in columns)
    for row in connection.execute(sql.SQL("SELECT {} FROM {}").format(texts, sql.Identifier(table))).fetchall():
        yield table, [name for name, _ in columns], [(v, kind) for v, (_, kind) in zip(row, columns, strict=True)]


def _ids(value: str | None) -> list[str]:
    if value is not None and value.startswith("\\x"):
        value = bytes.fromhex(value[2:]).decode("latin-1")
    return UUID.findall(value or "")


def _copy(
    connection: Any, table: str, columns: list[str], row: list[tuple[str | None, str]], ids: list[str], numbers: range
) -> None:
    made = [
        sql.SQL(OWN[table, name]) if (table, name) in OWN else _expression(value, kind, ids)
        for name, (value, kind) in zip(columns, row, strict=True)
    ]
    connection.execute(
        sql.SQL(
            "INSERT INTO {} ({}) SELECT {} FROM (SELECT n, {} FROM generate_series({}, {}, {}) AS n OFFSET 0) AS copied"
        ).format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join(made),
            sql.SQL(", ").join(
                sql.SQL("copied_id({}, n) AS {}").format(sql.Literal(one), sql.Identifier(one)) for one in ids
            ),
            *map(sql.Literal, (numbers.start, numbers.stop - 1, numbers.step)),
        )
    )


def _expression(value: str | None, kind: str, ids: list[str]) -> sql.Composable:
    """The value with the copy's ids in the places of the original's."""
    if value is None:
        return sql.NULL
    binary = value.startswith("\\x")
    known = {one.encode().hex() if binary else one: one for one in ids}
    form = "encode({}::bytea, 'hex')" if binary else "{}"
    parts = [
        sql.SQL(form).format(sql.Identifier(known[part])) if part in known else sql.Literal(part)
        for part in re.split(f"({'|'.join(known)})", value)
    ]
    return sql.SQL("CAST({} AS {})").format(sql.SQL(" || ").join(parts), sql.SQL(kind))


@contextmanager
def grown(directory: Path, customers: int) -> Iterator[Place]:
    """A platform with so many customers."""
    with running_platform(directory) as platform:
        branch = Branch(platform)
        offering = branch.offering("Home", [price("Connection", "500", recurring=False), price("Fee", "990")])
        original = originals(platform, branch, offering)
        branch.close()
        with psycopg.connect(admin(platform, "catalog")) as catalog:
            shared = frozenset(found for (found,) in catalog.execute("SELECT aggregate_id FROM event").fetchall())
        with psycopg.connect(admin(platform, "orders"), autocommit=True) as orders:
            # Whatever it did would look as if calls did it.
            orders.execute("ALTER SYSTEM SET autovacuum = off")
            orders.execute("SELECT pg_reload_conf()")
            ordered = frozenset(found for (found,) in orders.execute("SELECT aggregate_id FROM event").fetchall())
        with ThreadPoolExecutor(2) as both:
            growing = both.submit(grow, admin(platform, "customers"), customers, shared, ordered)
            # Also what orders knows of the account.
            grow(admin(platform, "orders"), customers, shared, ordered.union(original))
            growing.result()
        yield Place(platform, customers, offering, original)


def touched(place: Place, work: Callable[[], object], calls: int) -> float:
    """Blocks per call."""
    before = place.blocks()
    for _ in range(calls):
        work()
    return (place.blocks() - before) / calls


def getting(place: Place, stub: Any) -> Callable[[], object]:
    """GetCustomer of any customer."""
    token = (("authorization", f"Bearer {place.platform.token('agent', 'bishkek')}"),)
    requests = [requests_pb2.GetRequest(id=customer_id) for customer_id, _ in place.copied(10_000)]
    return lambda: stub.GetCustomer(random.choice(requests), metadata=token)


def ordering(place: Place, stub: Any) -> Callable[[], object]:
    """CreateProductOrder for any customer: taken now, carried out later."""
    token = (("authorization", f"Bearer {place.platform.token('agent', 'bishkek')}"),)
    requests = []
    for customer_id, account in place.copied(2_000):
        wanted = order(customer_id, account, place.offering)
        wanted.requested_start_date.FromJsonString("2099-01-01T00:00:00Z")
        requests.append(orders_pb2.CreateProductOrderRequest(product_order=wanted))
    return lambda: stub.CreateProductOrder(random.choice(requests), metadata=token)


MEASURED: tuple[tuple[str, str, Any, Any, int], ...] = (
    ("GetCustomer", "customers", customers_pb2_grpc.CustomerServiceStub, getting, 1_000),
    ("CreateProductOrder", "orders", orders_pb2_grpc.OrderServiceStub, ordering, 100),
)


def main() -> int:
    """1 when a goal is missed."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--customers", type=int, default=LARGE)
    customers = arguments.parse_args().customers
    good = True
    with (
        tempfile.TemporaryDirectory() as directory,
        grown(Path(directory) / "small", SMALL) as small,
        grown(Path(directory) / "large", customers) as large,
    ):
        for name, service, stub, made, calls in MEASURED:
            with (
                grpc.insecure_channel(small.platform.address(service)) as to_small,
                grpc.insecure_channel(large.platform.address(service)) as to_large,
            ):
                in_small, in_large = made(small, stub(to_small)), made(large, stub(to_large))
                for _ in range(calls):
                    in_small()
                    in_large()
                rates = taking_turns(in_large, in_small, threads=THREADS)
                value, baseline = (THREADS * 1_000 / rate for rate in rates)
                what = f"{name} at {customers:,} customers"
                good &= report(what, value, "ms", baseline=baseline, goal=GOAL, lower=True)
                blocks, fewer = touched(large, in_large, calls), touched(small, in_small, calls)
                good &= report(what, blocks, "blocks", baseline=fewer, goal=BLOCKS_GOAL, lower=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
