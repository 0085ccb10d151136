"""GetCustomer against a bare echo of the same bytes: what tokens, telemetry, isolation and a row cost together."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from svyaz.customers.v1 import customers_pb2, customers_pb2_grpc
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.bench.echo import METHOD
from tests.bench.figures import report, taking_turns
from tests.platforms import running_platform

GOAL = 0.4


@contextmanager
def echo() -> Iterator[str]:
    """The address of a bare server in a process of its own."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.echo"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    assert server.stdin is not None
    try:
        yield f"127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.stdin.close()
        server.wait(10)
        server.stdout.close()


def customer(number: int) -> customers_pb2.Customer:
    """A customer as ordinary ones are: a name, a party, two ways to reach it, a characteristic."""
    return customers_pb2.Customer(
        name=f"Customer {number}",
        engaged_party=values_pb2.RelatedParty(
            id=f"party-{number}", name=f"Person {number}", at_referred_type="Individual"
        ),
        contact_medium=[
            values_pb2.ContactMedium(
                medium_type="phone",
                preferred=True,
                characteristic=values_pb2.MediumCharacteristic(phone_number=f"+9967000{number:05d}"),
            ),
            values_pb2.ContactMedium(
                medium_type="email",
                characteristic=values_pb2.MediumCharacteristic(email_address=f"person{number}@example.com"),
            ),
        ],
        characteristic=[values_pb2.Characteristic(name="segment", value_type="string", value=b'"gold"')],
    )


def main() -> int:
    """1 when the goal is missed."""
    with tempfile.TemporaryDirectory() as directory, running_platform(Path(directory)) as platform, echo() as bare:
        token = (("authorization", f"Bearer {platform.token('agent', 'bishkek')}"),)
        with grpc.insecure_channel(platform.address("customers")) as channel, grpc.insecure_channel(bare) as plain:
            stub = customers_pb2_grpc.CustomerServiceStub(channel)
            made = [
                stub.CreateCustomer(customers_pb2.CreateCustomerRequest(customer=customer(n)), metadata=token)
                for n in range(200)
            ]
            requests = [requests_pb2.GetRequest(id=one.id) for one in made]
            answer = made[0].SerializeToString()
            call: Any = plain.unary_unary(METHOD)
            position = iter(range(10**9))
            value, baseline = taking_turns(
                lambda: stub.GetCustomer(requests[next(position) % len(requests)], metadata=token),
                lambda: call(answer, metadata=token),
            )
    return 0 if report("GetCustomer", value, "calls/s", baseline=baseline, goal=GOAL) else 1


if __name__ == "__main__":
    sys.exit(main())
