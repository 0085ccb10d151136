"""GetCustomer360 against a bare echo of the same bytes; what it costs when there are a hundred times as many customers;
and how late the view is at the highest rate of events that the machine holds."""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import psycopg

from svyaz.customers.v1 import account_pb2, customers_pb2, customers_pb2_grpc, party_pb2, view_pb2, view_pb2_grpc
from svyaz.orders.v1 import inventory_pb2, orders_pb2
from svyaz.type.v1 import values_pb2
from tests.bench.echo import METHOD
from tests.bench.figures import per_second, report, taking_turns
from tests.bench.orders import admin
from tests.bench.rpc import customer, echo
from tests.platforms import RunningPlatform, running_platform

GOAL = 0.3
# As much as other unit costs may grow: 1.3 times.
FLAT_GOAL = 1 / 1.3
LAG_GOAL_SECONDS = 1.0
FEW, MANY = 10_000, 1_000_000
THREADS = 8
PACED_SECONDS = 10.0
LEFT_SECONDS = 1.0

# One row for each customer and item; everything is about the customer `bench-<number>`.
_SEED = """
    INSERT INTO view_item (kind, item_id, version, subject_id, branch, recorded_at, since, open, deleted, refers, data,
        seen_at)
    SELECT %(kind)s, 'bench-' || n || '-' || %(suffix)s, 1, %(subject)s || n, 'bishkek', now(), now(), %(open)s, false,
        %(refers)s, %(data)s, now()
    FROM generate_series(%(first)s::int, %(last)s::int) AS n
"""


def items() -> list[tuple[str, str, str, Any]]:
    """What is known of a usual customer: kind, the end of its id, whom it is about, the message."""
    party = values_pb2.RelatedParty(id="bench-0", role="customer", at_referred_type="Customer")
    offering = values_pb2.EntityRef(id="offering", name="Home 100")
    customer_, party_, order_ = "bench-", "bench-party-", "bench-"
    return [
        ("Individual", "party", party_, party_pb2.Individual(id="p", given_name="Aida", family_name="Usenova")),
        (
            "BillingAccount",
            "account",
            customer_,
            account_pb2.BillingAccount(id="a", name="Home", related_party=[party]),
        ),
        *(
            (
                "Product",
                f"product-{n}",
                customer_,
                inventory_pb2.Product(
                    id="x",
                    name="Home 100",
                    product_offering=offering,
                    related_party=[party],
                    status=inventory_pb2.PRODUCT_STATUS_ACTIVE,
                ),
            )
            for n in range(3)
        ),
        *(
            (
                "ProductOrder",
                f"order-{n}",
                customer_,
                orders_pb2.ProductOrder(
                    id="x",
                    related_party=[party],
                    state=orders_pb2.PRODUCT_ORDER_STATE_COMPLETED,
                ),
            )
            for n in range(2)
        ),
        ("ProductOrderItem", "item", order_, orders_pb2.OrderedItem(id="x", product_order_id="bench-0-order-0")),
    ]


def seed(admin_url: str, first: int, last: int) -> None:
    """Gives the view the customers from `first` to `last`."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        for kind, suffix, subject, message in items():
            values = {
                "kind": kind,
                "suffix": suffix,
                "subject": subject,
                "open": kind == "Product",
                "refers": [],
                "data": message.SerializeToString(),
                "first": first,
                "last": last,
            }
            connection.execute(_SEED, values)
        connection.execute(
            _SEED.replace("'bench-' || n || '-' || %(suffix)s", "'bench-' || n").replace(
                "%(refers)s", "ARRAY['bench-party-' || n]"
            ),
            {
                "kind": "Customer",
                "subject": "bench-",
                "open": False,
                "data": customer(0).SerializeToString(),
                "first": first,
                "last": last,
            },
        )
        # The items of orders are about the orders.
        connection.execute(
            "UPDATE view_item SET subject_id = subject_id || '-order-0' WHERE kind = 'ProductOrderItem'"
            " AND subject_id NOT LIKE '%-order-0'"
        )
        connection.execute("VACUUM ANALYZE view_item")


def reading(platform: RunningPlatform, admin_url: str, bare: str, most: int) -> bool:
    """A view of any of few customers against an echo of its bytes, then of any of many against that of few."""
    token = (("authorization", f"Bearer {platform.token('agent', 'bishkek')}"),)
    with grpc.insecure_channel(platform.address("customers")) as channel, grpc.insecure_channel(bare) as plain:
        stub = view_pb2_grpc.CustomerViewServiceStub(channel)

        def calls(customers: int) -> Callable[[], view_pb2.Customer360]:
            # All over the table, never one after the other.
            numbers = itertools.count()
            return lambda: stub.GetCustomer360(
                view_pb2.GetCustomer360Request(customer_id=f"bench-{next(numbers) * 7_919 % customers + 1}"),
                metadata=token,
            )

        seed(admin_url, 1, FEW)
        few = calls(FEW)
        answer = few()
        assert (len(answer.product), len(answer.individual), len(answer.ordered_item)) == (3, 1, 1), answer
        call: Any = plain.unary_unary(METHOD)
        body = answer.SerializeToString()

        def bare_echo() -> None:
            call(body, metadata=token)

        value, baseline = taking_turns(few, bare_echo)
        good = report("GetCustomer360", value, "calls/s", baseline=baseline, goal=GOAL)
        seed(admin_url, FEW + 1, most)
        many = calls(most)
        per_second(many, 3.0, THREADS)
        # Minutes lie between the two: each is measured against the echo of its own time.
        after, echoed = taking_turns(many, bare_echo)
        name = f"GetCustomer360 at {most:,} customers against {FEW:,}"
        return report(name, after / echoed, "of an echo", baseline=value / baseline, goal=FLAT_GOAL) and good


def note_shown(admin_url: str) -> None:
    """From now on the database notes when the transaction that shows a version begins to commit."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bench_shown (recorded_at timestamptz, at timestamptz)")
        connection.execute(
            "CREATE FUNCTION bench_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN"
            " INSERT INTO bench_shown VALUES (new.recorded_at, clock_timestamp()); RETURN NULL; END$$"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER bench_note AFTER INSERT ON view_item DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION bench_note()"
        )


def lag(platform: RunningPlatform, admin_url: str) -> bool:
    """From the change of a customer to the view that shows it, at the highest rate that is held: one at which next to
    nothing is left to be shown a second after the last change."""
    note_shown(admin_url)
    token = (("authorization", f"Bearer {platform.token('agent', 'bishkek')}"),)
    with (
        grpc.insecure_channel(platform.address("customers")) as channel,
        closing(psycopg.connect(admin_url, autocommit=True)) as connection,
    ):
        stub = customers_pb2_grpc.CustomerServiceStub(channel)
        numbers = itertools.count()

        def change() -> None:
            request = customers_pb2.CreateCustomerRequest(customer=customer(next(numbers)))
            stub.CreateCustomer(request, metadata=token)

        rate = per_second(change, 5.0, THREADS)
        while True:
            time.sleep(3)
            connection.execute("TRUNCATE bench_shown")
            sent = paced(change, rate, PACED_SECONDS)
            time.sleep(LEFT_SECONDS)
            shown = connection.execute(
                "SELECT extract(epoch FROM at - recorded_at)::float8 FROM bench_shown ORDER BY 1"
            ).fetchall()
            if rate < 10 or (sent >= 0.95 * rate * PACED_SECONDS and len(shown) >= 0.99 * sent):
                break
            rate /= 1.25
    late = [row[0] for row in shown]
    p50, p99 = statistics.median(late), late[int(len(late) * 0.99) - 1]
    print(json.dumps({"name": "rate held", "value": round(rate, 1), "unit": "events/s", "p50_ms": round(p50 * 1e3, 1)}))
    return report(f"change to view p99 at {rate:.0f} events/s", p99, "s", goal=LAG_GOAL_SECONDS, lower=True)


def paced(work: Callable[[], None], rate: float, seconds: float) -> int:
    """Calls at an even rate from several threads; how many calls were made in the time."""
    begun = time.perf_counter()
    made = [0] * THREADS

    def caller(index: int) -> None:
        for number in itertools.count(index, THREADS):
            time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            if time.perf_counter() > begun + seconds:
                return
            work()
            made[index] += 1

    threads = [threading.Thread(target=caller, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(made)


def main() -> int:
    """1 when a goal is missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--customers", type=int, default=MANY)
    most = arguments.parse_args().customers
    with tempfile.TemporaryDirectory() as directory, running_platform(Path(directory)) as platform, echo() as bare:
        admin_url = admin(platform, "customers")
        good = [lag(platform, admin_url)]
        with psycopg.connect(admin_url, autocommit=True) as connection:
            connection.execute("DROP TRIGGER bench_note ON view_item")
        good.append(reading(platform, admin_url, bare, most))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
