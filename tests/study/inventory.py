"""What lists of products, and the steps of a migration, cost as the inventory grows: `python -m tests.study.inventory`.

Products of three branches (70, 20 and 10 %) are copied into a database of its own, each size into a fresh one: three a
customer, of 300 offerings of which the first is every tenth product's; 3 % are suspended. Lists are asked for through
the service's own method, under the policies of one branch; of the migration the statements of a step are timed, as the
service asks them, without the questions to catalog and customers, which don't depend on the size.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from chassis import calls, migrate
from chassis.auth import Principal
from chassis.clock import Clock
from chassis.db import Database
from chassis.events import acting
from chassis.types import COMMON, new_id
from orders.inventory.api import Inventory
from orders.migration import store as migrations
from orders.migration.domain import MigratedProductState, ProductMigration
from orders.migration.steps import LOOKED_AT_ONCE, ORDERS_AT_ONCE
from orders.store import RESOURCES, metadata
from svyaz.orders.v1 import inventory_pb2
from svyaz.type.v1 import requests_pb2
from svyaz_cli.embedded import Postgres, free_port
from svyaz_cli.secrets import Secrets

SIZES = (10_000, 100_000, 1_000_000)
BRANCHES = ("bishkek", "osh", "naryn")
OFFERINGS = 300
LIMIT = 100


def rows(size: int) -> Iterator[tuple[Any, ...]]:
    """As COPY takes them."""
    draw = random.Random(5)
    branch, customer = "", ""
    for number in range(size):
        if number % 3 == 0:
            branch, customer = draw.choices(BRANCHES, (70, 20, 10))[0], new_id()
        offering = 0 if draw.random() < 0.1 else draw.randrange(1, OFFERINGS)
        status = draw.choices(("active", "suspended", "terminated"), (94, 3, 3))[0]
        parties = f'[{{"id":"{customer}","role":"customer"}},{{"id":"user-{number}","role":"user"}}]'
        price = (
            '[{"price_type":"recurring","recurring_charge_period":"month","name":"fee",'
            '"price":{"duty_free_amount":{"unit":"KGS","value":500}}}]'
        )
        yield (
            new_id(), branch, 1, status, "Tariff", f'{{"id":"offering-{offering}"}}', parties, price,
            f'{{"id":"account-{customer}"}}',
        )  # fmt: skip


def seed(admin_url: str, size: int) -> list[tuple[str, str]]:
    """Copies them; (branch, customer) of some."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        with (
            connection.cursor() as cursor,
            cursor.copy(
                "COPY product (id, branch, revision, status, name, product_offering, related_party, product_price,"
                " billing_account) FROM STDIN"
            ) as target,
        ):
            for row in rows(size):
                target.write_row(row)
        connection.execute("VACUUM ANALYZE product")
        return [
            (branch, customer)
            for branch, customer in connection.execute(
                "SELECT branch, related_party -> 0 ->> 'id' FROM product TABLESAMPLE BERNOULLI (%s) LIMIT 400",
                (min(100.0, 40_000 / size),),
            ).fetchall()
        ]


def timed(what: str, size: int, work: Callable[[int], Any], times: int) -> None:
    """Tells how long a piece of work takes."""
    spent = []
    for number in range(times):
        begun = time.perf_counter()
        work(number)
        spent.append((time.perf_counter() - begun) * 1_000)
    spent.sort()
    print(
        f"{size:>9,}  {what:<52} median {spent[times // 2]:8.2f} ms   p95 {spent[int(times * 0.95)]:8.2f} ms",
        flush=True,
    )


def lists(database: Database, size: int, sample: list[tuple[str, str]], times: int) -> None:
    """Every list that a page of an agent's asks for."""
    inventory: Any = Inventory(database)
    respond = inventory_pb2.ListProductsResponse

    def ask(branch: str, **filters: str) -> Any:
        principal = Principal(subject="study", roles=frozenset({"agent"}), branches=(branch,))
        wanted = [requests_pb2.Filter(path=path.replace("__", "."), value=[value]) for path, value in filters.items()]
        with calls.using(calls.Call(principal=principal, method="study")):
            answer = inventory.ListProducts(requests_pb2.ListRequest(filter=wanted, limit=LIMIT), None)
        assert isinstance(answer, respond)
        return answer

    def of_customer(number: int) -> None:
        branch, customer = sample[number % len(sample)]
        assert ask(branch, related_party__id=customer).items

    timed("by customer", size, of_customer, times)

    def of_offering(branch: str, number: int) -> None:
        ask(branch, product_offering__id=f"offering-{number + 1}")

    def of_many(branch: str, number: int) -> None:
        ask(branch, product_offering__id="offering-0")

    def suspended(branch: str, number: int) -> None:
        ask(branch, status="suspended")

    def suspended_of_offering(branch: str, number: int) -> None:
        ask(branch, status="suspended", product_offering__id=f"offering-{number + 1}")

    def active(branch: str, number: int) -> None:
        ask(branch, status="active")

    for branch in (BRANCHES[0], BRANCHES[-1]):
        for what in (of_offering, of_many, suspended, suspended_of_offering, active):
            timed(f"{what.__name__}, {branch}", size, partial(what, branch), times)


@contextmanager
def unit_of(database: Database) -> Iterator[Any]:
    with acting("orders", "study"), database.unit() as unit:
        yield unit


def migration(database: Database, size: int, times: int) -> None:
    """The looking through, and what of a step depends on how much there is."""
    moving = ProductMigration(
        id=new_id(), branch=COMMON, from_offering=("offering-0", "offering-1"), to_offering="offering-2"
    )
    with unit_of(database) as unit:
        moving.check(unit.at)
        unit.add(moving)
        migrations.begin_scan(unit, moving)
    begun, steps, over, found = time.perf_counter(), 0, False, 0
    slowest = 0.0
    while not over:
        own = time.perf_counter()
        with unit_of(database) as unit:
            over, found = migrations.scan(unit, moving, LOOKED_AT_ONCE)
        steps += 1
        slowest = max(slowest, time.perf_counter() - own)
    took = time.perf_counter() - begun
    print(
        f"{size:>9,}  looked through: {found:,} found in {steps} steps, {took:.2f} s, slowest {slowest * 1_000:.0f} ms"
    )

    def step(number: int) -> None:
        with unit_of(database) as unit:
            migrations.settle(unit, moving)
            migrations.scan(unit, moving, LOOKED_AT_ONCE)
            migrations.under_way(unit, moving)
            waiting = migrations.waiting(unit, moving, ORDERS_AT_ONCE)
            for product_id, _ in waiting:
                migrations.mark(unit, moving, product_id, MigratedProductState.SKIPPED, reason="studied")
            moved: dict[tuple[str, MigratedProductState], int] = {}
            for _, branch in waiting:
                moved[branch, MigratedProductState.WAITING] = moved.get((branch, MigratedProductState.WAITING), 0) - 1
                moved[branch, MigratedProductState.SKIPPED] = moved.get((branch, MigratedProductState.SKIPPED), 0) + 1
            migrations.count(unit, moving, moved)
            unit.flush()
            migrations.keep_pace(unit, moving)
            migrations.any_in(unit, moving, MigratedProductState.WAITING)

    timed(f"a step ({ORDERS_AT_ONCE} products), without their orders", size, step, times)

    def progress(number: int) -> None:
        with unit_of(database) as unit:
            assert migrations.progress(unit, [moving.id])
            migrations.paces(unit, [moving.id])

    timed("progress", size, progress, times)


def main() -> None:
    """Measures every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--times", type=int, default=60)
    arguments = parser.parse_args()
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(prefix="svyaz-study-") as name:
            directory = Path(name)
            postgres = Postgres(directory / "postgres", free_port(), Secrets(directory), notes=directory / "run")
            try:
                postgres.launch()
                postgres.wait()
                admin = postgres.admin_url
                migrate.provision(admin, "orders", password="study", owner_password="study")
                owner = migrate.login_url(admin, user="orders_owner", password="study", database="orders")
                migrate.upgrade("orders", owner, "orders")
                begun = time.perf_counter()
                sample = seed(migrate.database_url(admin, "orders"), size)
                print(f"{size:>9,}  copied in {time.perf_counter() - begun:.0f} s")
                service = migrate.login_url(admin, user="orders", password="study", database="orders")
                database = Database(service, clock=Clock(), metadata=metadata, resources=RESOURCES)
                lists(database, size, sample, arguments.times)
                migration(database, size, arguments.times)
                database.close()
            finally:
                postgres.stop()


if __name__ == "__main__":
    main()
