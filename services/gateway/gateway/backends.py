"""The services behind the gateway: one channel each, opened when first needed, which is after gunicorn has forked."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.clients import channel
from chassis.errors import Unavailable

_PROBE_SECONDS = 1.0


class Backends:
    """Stubs of the services whose addresses are configured."""

    def __init__(self, addresses: Mapping[str, str], needed: frozenset[str]) -> None:
        self._addresses = addresses
        self._needed = needed
        self._channels: dict[str, grpc.Channel] = {}
        self._stubs: dict[Callable[..., Any], Any] = {}
        self._lock = threading.Lock()

    def channel(self, service: str) -> grpc.Channel:
        """The service's channel; raises Unavailable when no address is configured."""
        known = self._channels.get(service)
        if known is None:
            address = self._addresses.get(service)
            if not address:
                raise Unavailable("NOT_CONFIGURED", f"the service {service} isn't part of this installation")
            with self._lock:
                known = self._channels.get(service) or self._channels.setdefault(service, channel(address))
        return known

    def stub(self, make: Callable[..., Any], service: str) -> Any:
        """The stub on the service's channel; raises Unavailable when no address is configured."""
        known = self._stubs.get(make)
        if known is None:
            known = self._stubs.setdefault(make, make(self.channel(service)))
        return known

    def readiness(self) -> dict[str, bool]:
        """Service → whether it says that it serves, for every service that the gateway needs."""
        return {service: self._serving(service) for service in sorted(self._needed)}

    def _serving(self, service: str) -> bool:
        try:
            stub: Any = health_pb2_grpc.HealthStub(self.channel(service))
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_PROBE_SECONDS)
        except (grpc.RpcError, Unavailable):
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def close(self) -> None:
        """Closes every channel."""
        with self._lock:
            for opened in self._channels.values():
                opened.close()
            self._channels.clear()
