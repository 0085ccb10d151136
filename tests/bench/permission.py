"""ReserveContact and SpendContact beside a bare servicer that writes as many rows: `make bench NAME=permission`.

A contact: a token reserved and spent, two calls with a request id each, on the service as it runs in the platform, with
its receipts, caps, consents and quiet hours. Bare: two calls that insert four rows each with psycopg (decision or its
receipt, event, outbox, remembered response). Both on one PostgreSQL; they take turns. Then a refusal, which writes as
much as a reservation, beside one bare call.
"""

import argparse
import itertools
import sys
import tempfile
import threading
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import psycopg

from svyaz.customers.v1 import customers_pb2, import_pb2, import_pb2_grpc, party_pb2, permission_pb2_grpc
from svyaz.customers.v1 import permission_pb2 as pb
from tests.bench.figures import report, taking_turns
from tests.bench.orders import THREADS, admin, bare
from tests.customers.permission import phone, policy
from tests.platforms import running_platform

GOAL = 0.3
ROWS = 4
CUSTOMERS, BATCH = 20_000, 5_000
_CONSENTS = """
    INSERT INTO contact_consent (id, branch, revision, customer_id, purpose, state, text_version, evidence, given_at)
    SELECT 'consent ' || id, branch, 1, id, 'marketing', 'given', '2026-1', 'recording', now() - interval '1 hour'
    FROM customer
"""


def rules() -> pb.PermissionPolicy:
    """Whatever the time is: it isn't quiet, and a day has room."""
    at = datetime.now(UTC) + timedelta(hours=11)
    night = pb.LocalInterval(start=f"{at:%H}:00", end=f"{at + timedelta(hours=2):%H}:00")
    return policy(
        time_zone=["UTC"],
        region_zone=[pb.RegionZone(name="Nowhere", time_zone=["UTC"])],
        quiet_hours=[pb.QuietHours(name="night", interval=night, legal=True)],
        frequency_cap=[
            pb.FrequencyCap(name="daily", limit=50, period=pb.CAP_PERIOD_DAY),
            pb.FrequencyCap(name="weekly", limit=100, period=pb.CAP_PERIOD_WEEK, sliding=True),
        ],
    )


def customers(stub: import_pb2_grpc.ImportServiceStub, token: Any) -> list[str]:
    """Many customers with a number each; their ids."""
    made: list[str] = []
    for first in range(0, CUSTOMERS, BATCH):
        rows = [
            import_pb2.ImportRow(
                line=line + 1,
                individual=party_pb2.Individual(
                    given_name="Bench", family_name=str(line), contact_medium=[phone(f"+996{555_000_000 + line}")]
                ),
                customer=customers_pb2.Customer(name=f"Bench {line}"),
            )
            for line in range(first, first + BATCH)
        ]
        request = import_pb2.ImportCustomersRequest(branch="bishkek", source="bench", rows=rows)
        made += [outcome.customer_id for outcome in stub.ImportCustomers(request, metadata=token, timeout=120).outcomes]
    return made


def main() -> int:
    """1 when a goal is missed."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=float, default=3.0)
    seconds = arguments.parse_args().seconds
    good = True
    with tempfile.TemporaryDirectory() as directory, running_platform(Path(directory)) as platform:
        token = (("authorization", f"Bearer {platform.token('admin', 'bishkek')}"),)
        url = admin(platform, "customers")
        with (
            grpc.insecure_channel(platform.address("customers")) as channel,
            bare(url, ROWS) as bare_address,
            grpc.insecure_channel(bare_address) as plain,
        ):
            stub = permission_pb2_grpc.PermissionServiceStub(channel)
            stub.CreatePermissionPolicy(
                pb.CreatePermissionPolicyRequest(branch="bishkek", permission_policy=rules()), metadata=token
            )
            ids = itertools.cycle(customers(import_pb2_grpc.ImportServiceStub(channel), token))
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(_CONSENTS)
                connection.execute("ANALYZE")
            lock = threading.Lock()
            call: Any = plain.unary_unary("/bench.Inserts/Insert")

            def reserve(channel_name: str) -> pb.ReserveContactResponse:
                with lock:
                    customer = next(ids)
                request = pb.ReserveContactRequest(
                    request_id=str(uuid.uuid4()), customer_id=customer, channel=channel_name, purpose="marketing"
                )
                answer: pb.ReserveContactResponse = stub.ReserveContact(request, metadata=token)
                return answer

            body = reserve("sms").decision.SerializeToString()

            def contact() -> None:
                answer = reserve("sms")
                spent = stub.SpendContact(
                    pb.SpendContactRequest(request_id=str(uuid.uuid4()), token=answer.token), metadata=token
                )
                if not spent.spent:
                    raise RuntimeError(f"refused: {spent.decision.refusal}")

            def refusal() -> None:
                if reserve("email").token:
                    raise RuntimeError("nobody here has an address")

            def bare_contact() -> None:
                call(body)
                call(body)

            for _ in range(20):
                contact()
                bare_contact()
            for callers, name in ((THREADS, "reserve and spend"), (1, "reserve and spend, one caller")):
                value, baseline = taking_turns(contact, bare_contact, seconds=seconds, threads=callers)
                good &= report(name, value, "contacts/s", baseline=baseline, goal=GOAL)
            value, baseline = taking_turns(refusal, lambda: call(body), seconds=seconds, threads=THREADS)
            good &= report("refusal", value, "calls/s", baseline=baseline, goal=GOAL)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
