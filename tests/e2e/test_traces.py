"""One trace from the branch's request to the consumers of what came of it, over HTTP, gRPC and the bus."""

from typing import Any

from tests.e2e.branch import ORDERING, Branch, eventually, order_of, price
from tests.e2e.collector import Collector

# Something that is somebody's, put where a careless span would pick it up.
PERSON = "Канарейкина"
SERVICES = {f"svyaz-{name}" for name in ("gateway", "orders", "catalog", "customers", "hub")}


def test_a_trace_crosses_gateway_services_and_bus(collector: Collector, branch: Branch) -> None:
    # The platform is others' too: what came before isn't about this order, nor about her.
    before = len(collector.spans)

    def spans() -> list[tuple[str, Any]]:
        return collector.spans[before:]

    offering = branch.offering("Traced", [price("Fee", "10")])
    customer, account = branch.customer("Вера", PERSON)
    order = branch.send("POST", f"{ORDERING}/productOrder", order_of(customer, account, offering))
    assert order.status_code == 201
    branch.ended(order.json()["id"])

    def whole() -> bool:
        created = [span.trace_id for _, span in spans() if span.name == "OrderService/CreateProductOrder"]
        return bool(created) and collector.services_in(created[-1]) >= SERVICES

    eventually(whole, 30, lambda: str({(service, span.name) for service, span in spans()}))
    said = b"".join(span.SerializeToString() for _, span in spans())
    assert PERSON.encode() not in said
    assert PERSON.encode().hex().encode() not in said
