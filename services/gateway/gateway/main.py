"""Starts the gateway: gunicorn with threads, everything opened after the fork."""

import os
import tempfile
import threading
from typing import Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from chassis.config import Settings

GRACEFUL_SECONDS = 15


class Gateway(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured by our settings instead of its own files.

    One worker process unless GATEWAY_WORKERS says more: the metrics port then shows the sum over the workers.
    """

    def __init__(self, settings: Settings, workers: int, threads: int, client_seconds: float) -> None:
        self._settings = settings
        self._workers = workers
        self._threads = threads
        self.client_seconds = client_seconds
        self._loaded = threading.Event()
        super().__init__()

    def load_config(self) -> None:
        """Sets what gunicorn would read from a file."""
        from gateway.worker import Worker

        options: dict[str, Any] = {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "proc_name": "svyaz-gateway",
            "worker_class": Worker,
            "workers": self._workers,
            "threads": self._threads,
            # A channel or a connection must never be shared between processes.
            "preload_app": False,
            # Its administration socket would be shared by every gateway of this machine.
            "control_socket_disable": True,
            "graceful_timeout": GRACEFUL_SECONDS,
            "timeout": 75,
            "keepalive": 75,
            # The most that gunicorn takes: filters with many alternatives are long.
            "limit_request_line": 8_190,
            "accesslog": None,
            "loglevel": "warning",
            "post_fork": self._post_fork,
            "post_worker_init": self._post_worker_init,
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
        from chassis import affinity, probes, telemetry

        self._provider = telemetry.setup(self._settings)
        if self._settings.one_cpu:
            affinity.OneCpu().start()
        if self._workers == 1:
            probes.serve(self._settings, self._loaded.is_set)

    def _post_worker_init(self, worker: Any) -> None:
        self._loaded.set()

    def _worker_exit(self, arbiter: Any, worker: Any) -> None:
        self._provider.shutdown()

    def _when_ready(self, arbiter: Any) -> None:
        if self._workers == 1 or not self._settings.metrics_port:
            return
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        from chassis import probes

        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        probes.serve(self._settings, lambda: bool(arbiter.WORKERS), registry)


def main() -> None:
    """Serves until SIGTERM, then finishes what it has begun. Reads GATEWAY_WORKERS, THREADS and CLIENT_SECONDS (how
    long a client may take to send a request's header, its body, and to take the answer: 30) too."""
    settings = Settings.from_environment("gateway")
    workers = int(os.environ.get("GATEWAY_WORKERS") or 1)
    threads = int(os.environ.get("THREADS") or 16)
    client_seconds = float(os.environ.get("CLIENT_SECONDS") or 30)
    if workers > 1:
        # prometheus_client decides by it, when first imported, to count in files that the workers share.
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="svyaz-gateway-"))
    Gateway(settings, workers, threads, client_seconds).run()


if __name__ == "__main__":
    main()
