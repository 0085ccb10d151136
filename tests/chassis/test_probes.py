"""Probes come through whatever else happens: overload must not look like death."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client import REGISTRY, CollectorRegistry

from chassis import probes
from chassis.config import Settings
from chassis.db import Database
from chassis.server import Server
from svyaz.catalog.v1 import pricing_pb2, pricing_pb2_grpc
from svyaz_cli.embedded import LOOPBACK, free_port
from svyaz_cli.issuer import Issuer

CALLS = 2


class Slow(pricing_pb2_grpc.PricingServiceServicer):
    """Answers when it is allowed to."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()

    def Price(self, request: pricing_pb2.PriceRequest, context: Any) -> pricing_pb2.PriceResponse:
        self.begun.release()
        assert self.may_end.wait(30)
        return pricing_pb2.PriceResponse()

    def ReplayPrice(self, request: pricing_pb2.ReplayPriceRequest, context: Any) -> pricing_pb2.PriceResponse:
        raise AssertionError("only prices are asked here")

    def ExplainPrice(self, request: pricing_pb2.ExplainPriceRequest, context: Any) -> pricing_pb2.ExplainPriceResponse:
        raise AssertionError("only prices are asked here")


class Served:
    """A server with room for two calls, and its metrics port."""

    def __init__(self, issuer: Issuer) -> None:
        self.servicer = Slow()
        self.ready = True
        settings = Settings.from_environment("catalog", issuer.environment)
        self.settings = replace(settings, max_concurrent_calls=CALLS, metrics_port=free_port())
        registrations = [(pricing_pb2_grpc.add_PricingServiceServicer_to_server, self.servicer)]
        self.server = Server(self.settings, registrations, ready=lambda: self.ready)
        probes.serve(self.settings, self.server.serving, CollectorRegistry())

    def probe(self, path: str) -> int:
        """The status of an answer of the metrics port."""
        return httpx.get(f"http://{LOOPBACK}:{self.settings.metrics_port}{path}", timeout=5).status_code


@pytest.fixture
def served(issuer: Issuer) -> Iterator[Served]:
    """A server that isn't started yet."""
    made = Served(issuer)
    yield made
    made.servicer.may_end.set()
    made.server.stop()


def test_a_server_that_is_full_is_alive_and_ready(served: Served, issuer: Issuer) -> None:
    served.server.start()
    metadata = [("authorization", "Bearer " + issuer.token(["agent"], ["bishkek"]))]
    with grpc.insecure_channel(f"{LOOPBACK}:{served.server.port}") as channel:
        stub: Any = pricing_pb2_grpc.PricingServiceStub(channel)
        calls = [stub.Price.future(pricing_pb2.PriceRequest(), metadata=metadata, timeout=30) for _ in range(CALLS)]
        for _ in calls:
            assert served.servicer.begun.acquire(timeout=10)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Price(pricing_pb2.PriceRequest(), metadata=metadata, timeout=10)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert [served.probe(path) for path in ("/livez", "/readyz", "/metrics")] == [200, 200, 200]
        served.servicer.may_end.set()
        for call in calls:
            call.result(10)


def test_a_server_is_alive_but_not_ready_before_it_serves_without_its_database_and_while_it_stops(
    served: Served,
) -> None:
    assert (served.probe("/livez"), served.probe("/readyz")) == (200, 503)
    served.ready = False
    served.server.start()
    assert (served.probe("/livez"), served.probe("/readyz")) == (200, 503)
    served.ready = True
    for _ in range(50):
        if served.probe("/readyz") == 200:
            break
        threading.Event().wait(0.1)
    assert served.probe("/readyz") == 200
    served.server.stop()
    assert (served.probe("/livez"), served.probe("/readyz")) == (200, 503)


def test_a_database_whose_connections_are_all_in_use_is_ready(database: Database) -> None:
    with ExitStack() as held:
        for _ in range(database.engine.pool.size()):  # type: ignore[attr-defined]
            held.enter_context(database.engine.connect())
        assert database.ready()


def test_what_alerts_watch_is_there_before_it_has_happened(served: Served) -> None:
    for code in ("OK", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"):
        labels = {"service": "catalog", "method": "PricingService/Price", "code": code}
        assert REGISTRY.get_sample_value("svyaz_rpc_requests_total", labels) is not None
