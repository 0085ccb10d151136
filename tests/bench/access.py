"""GetCustomer by a person, which is logged, beside the same by a service, which isn't: what that log costs."""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import psutil

from svyaz.customers.v1 import customers_pb2, customers_pb2_grpc
from svyaz.type.v1 import requests_pb2
from tests.bench.figures import per_second, report, taking_turns
from tests.bench.rpc import customer
from tests.platforms import running_platform

GOAL = 0.6


def _busy() -> tuple[float, float]:
    """Processor seconds of the customers service and of PostgreSQL so far (of those that we have started)."""
    ours = servers = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            name, command = process.name(), " ".join(process.cmdline())
            spent = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        if "customers.main" in command:
            ours += spent.user + spent.system
        elif name.startswith("postgres"):
            servers += spent.user + spent.system
    return ours, servers


def main() -> int:
    """1 when the goal is missed."""
    with tempfile.TemporaryDirectory() as directory, running_platform(Path(directory)) as platform:

        def metadata(role: str) -> tuple[tuple[str, str], ...]:
            return (("authorization", f"Bearer {platform.token(role, 'bishkek')}"), ("x-purpose", "bench"))

        person, service = metadata("agent"), metadata("service")
        with grpc.insecure_channel(platform.address("customers")) as channel:
            stub = customers_pb2_grpc.CustomerServiceStub(channel)
            made = [
                stub.CreateCustomer(customers_pb2.CreateCustomerRequest(customer=customer(n)), metadata=person)
                for n in range(200)
            ]
            requests = [requests_pb2.GetRequest(id=one.id) for one in made]
            position = iter(range(10**9))

            def look(who: Any) -> Any:
                return stub.GetCustomer(requests[next(position) % len(requests)], metadata=who)

            # Processor time tells the cost also on a machine that does something else.
            for name, who in (("service", service), ("person", person), ("service", service), ("person", person)):
                before, begun = _busy(), time.perf_counter()
                rate = per_second(lambda who=who: look(who), 4.0, 8)  # type: ignore[misc]
                calls = rate * (time.perf_counter() - begun)
                spent = [round((now - then) / calls * 1e6) for now, then in zip(_busy(), before, strict=True)]
                print(f"# by a {name}: µs of processor time a call: customers {spent[0]}, PostgreSQL {spent[1]}")
            value, baseline = taking_turns(lambda: look(person), lambda: look(service))
    return 0 if report("GetCustomer, logged", value, "calls/s", baseline=baseline, goal=GOAL) else 1


if __name__ == "__main__":
    sys.exit(main())
