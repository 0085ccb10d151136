"""One trace from the branch's request to the consumers of what came of it, over HTTP, gRPC and the bus."""

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.e2e.branch import ORDERING, Branch, eventually, order_of, price
from tests.platforms import running_platform

# Something that is somebody's, put where a careless span would pick it up.
PERSON = "Канарейкина"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Keeps each span with the service that it comes from."""
        for resource in request.resource_spans:
            names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            for scope in resource.scope_spans:
                self.spans += [(names[0], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def services_in(self, trace_id: bytes) -> set[str]:
        """Which services took part in a trace."""
        return {service for service, span in list(self.spans) if span.trace_id == trace_id}


@pytest.fixture
def collector() -> Iterator[tuple[str, Collector]]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    kept = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", kept
    server.stop(0).wait()


def test_a_trace_crosses_gateway_services_and_bus(collector: tuple[str, Collector], tmp_path: Path) -> None:
    endpoint, kept = collector
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with running_platform(tmp_path / "platform", environment=environment) as platform:
        branch = Branch(platform)
        offering = branch.offering("Traced", [price("Fee", "10")])
        customer, account = branch.customer("Вера", PERSON)
        order = branch.send("POST", f"{ORDERING}/productOrder", order_of(customer, account, offering))
        assert order.status_code == 201
        branch.ended(order.json()["id"])

        def whole() -> bool:
            created = [span.trace_id for _, span in list(kept.spans) if span.name == "OrderService/CreateProductOrder"]
            wanted = {f"svyaz-{name}" for name in ("gateway", "orders", "catalog", "customers", "hub")}
            return bool(created) and kept.services_in(created[-1]) >= wanted

        eventually(whole, 30, lambda: str({(service, span.name) for service, span in kept.spans}))
        branch.close()
    said = str([span for _, span in kept.spans])
    assert PERSON not in said
    assert PERSON.encode().hex() not in said
