"""The metrics port: `/metrics` for Prometheus, `/livez` and `/readyz` for whoever starts, stops and finds processes.

It has threads of its own. A probe that queued behind the calls would fail when they are many, and the platform would
take away the overloaded replicas one by one until nobody served.
"""

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from chassis.config import Settings

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def serve(settings: Settings, ready: Callable[[], bool], registry: CollectorRegistry = REGISTRY) -> None:
    """Serves until the process ends; nothing when the metrics port is 0. `ready` must answer at once."""
    if settings.metrics_port:
        server = make_server(
            settings.host, settings.metrics_port, _application(ready, registry), ThreadingWSGIServer, _Quiet
        )
        threading.Thread(target=server.serve_forever, daemon=True, name="probes").start()


class _Quiet(WSGIRequestHandler):
    # A socket that says nothing keeps its thread no longer.
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        pass


def _application(ready: Callable[[], bool], registry: CollectorRegistry) -> "WSGIApplication":
    metrics: WSGIApplication = make_wsgi_app(registry)

    def application(environment: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        path = environment.get("PATH_INFO")
        if path not in ("/livez", "/readyz"):
            return metrics(environment, start)
        said = path == "/livez" or ready()
        start("200 OK" if said else "503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"yes\n" if said else b"no\n"]

    return application
