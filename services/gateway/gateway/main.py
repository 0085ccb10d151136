"""Starts the gateway: gunicorn with threads, everything opened after the fork."""

import os
import tempfile
from typing import Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from chassis.config import Settings

GRACEFUL_SECONDS = 15


class Gateway(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured by our settings instead of its own files.

    One worker process unless GATEWAY_WORKERS says more: the metrics port then shows the sum over the workers.
    """

    def __init__(self, settings: Settings, workers: int, threads: int) -> None:
        self._settings = settings
        self._workers = workers
        self._threads = threads
        super().__init__()

    def load_config(self) -> None:
        """Sets what gunicorn would read from a file."""
        options: dict[str, Any] = {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "proc_name": "svyaz-gateway",
            "worker_class": "gthread",
            "workers": self._workers,
            "threads": self._threads,
            # A channel or a connection must never be shared between processes.
            "preload_app": False,
            # Its administration socket would be shared by every gateway of this machine.
            "control_socket_disable": True,
            "graceful_timeout": GRACEFUL_SECONDS,
            "timeout": 75,
            "keepalive": 75,
            "accesslog": None,
            "loglevel": "warning",
            "post_fork": self._post_fork,
            "worker_exit": self._worker_exit,
            "when_ready": self._when_ready,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The application, made in the worker."""
        from gateway.app import create_app

        return create_app(self._settings)

    def _post_fork(self, arbiter: Any, worker: Any) -> None:
        from chassis import telemetry

        self._provider = telemetry.setup(self._settings)
        if self._workers == 1:
            telemetry.serve_metrics(self._settings)

    def _worker_exit(self, arbiter: Any, worker: Any) -> None:
        self._provider.shutdown()

    def _when_ready(self, arbiter: Any) -> None:
        if self._workers == 1 or not self._settings.metrics_port:
            return
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        start_http_server(self._settings.metrics_port, addr=self._settings.host, registry=registry)


def main() -> None:
    """Serves until SIGTERM, then finishes what it has begun. Reads GATEWAY_WORKERS and THREADS too."""
    settings = Settings.from_environment("gateway")
    workers = int(os.environ.get("GATEWAY_WORKERS") or 1)
    threads = int(os.environ.get("THREADS") or 16)
    if workers > 1:
        # prometheus_client decides by it, when first imported, to count in files that the workers share.
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="svyaz-gateway-"))
    Gateway(settings, workers, threads).run()


if __name__ == "__main__":
    main()
