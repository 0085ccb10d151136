"""A receiver of traces (OTLP over gRPC) inside the test's process."""

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span that it gets, each with the service that it comes from."""

    def __init__(self) -> None:
        self.endpoint = ""
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


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens at its endpoint until the end of the block."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    kept = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)
    kept.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield kept
    server.stop(0).wait()
