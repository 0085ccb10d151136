"""`svyaz run`: the whole platform on one machine, every service a process that is started, watched and stopped here."""

import contextlib
import fcntl
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc
import httpx
import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import Counter, start_http_server

from chassis import migrate
from chassis.telemetry import JsonFormatter
from svyaz_cli import demo, external
from svyaz_cli.embedded import LOOPBACK, Nats, Postgres, StartError
from svyaz_cli.home import Home
from svyaz_cli.issuer import billing_key
from svyaz_cli.processes import Process, stop_leftovers, tail, write_note
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import (
    METRICS_OFFSET,
    NATS_OFFSET,
    POSTGRES_OFFSET,
    RUNNER_METRICS_OFFSET,
    SERVICES,
    SIMULATED,
    Service,
    bus_users,
)

log = logging.getLogger("svyaz.run")

RESTARTS = Counter("svyaz_process_restarts_total", "Processes that died and were started again", ["service"])

READY_SECONDS = 150.0
_POLL_SECONDS = 0.1
# What is just ending may hold its port a moment longer.
_PORT_SECONDS = 3.0
# A process that dies at once is started again ever later; one that ran this long starts again at once.
_STEADY_SECONDS = 20.0
_BACK_OFF_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
# Loopback is spoken to in the clear; loading the certificates of others takes httpx 30 ms of a processor each time.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# Log files grow until the next start, which keeps one older.
_KEPT_LOG_BYTES = 10_000_000


class Interrupted(Exception):
    """Somebody asked us to stop while we were still starting."""


class Server(Protocol):
    """Something that is started, watched and stopped."""

    @property
    def process(self) -> Process:
        """The process that runs now, or ran last."""

    def launch(self) -> None:
        """Starts it; returns at once."""

    def stop(self) -> None:
        """Stops it and waits until it has."""


class ServiceServer:
    """One of our services as a server, its output in a log of its own."""

    def __init__(self, service: Service, base: int, home: Home, environment: dict[str, str]) -> None:
        self.service = service
        self._home = home
        self._address = f"{LOOPBACK}:{base + service.offset}"
        self._environment = environment
        self._log = home.logs / f"{service.name}.log"
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The process that runs now, or ran last; raises StartError before launch()."""
        if self._process is None:
            raise StartError(f"{self.service.name} isn't started")
        return self._process

    def launch(self) -> None:
        """Starts it; returns at once."""
        with self._log.open("ab") as output:
            self._process = Process(
                self.service.name,
                [sys.executable, "-m", self.service.module],
                notes=self._home.notes,
                output=output,
                environment=self._environment,
            )

    def is_ready(self) -> bool:
        """Whether it says that it can serve; raises StartError when it has died instead."""
        if self.process.exit_code() is not None:
            raise self.failure("died while it was starting")
        return self._http_ready() if self.service.speaks_http else self._grpc_ready()

    def failure(self, what: str) -> StartError:
        """The error that says what went wrong, with the end of the log."""
        return StartError(f"{self.service.name} {what}; the end of {self._log}:\n{tail(self._log)}")

    def stop(self) -> None:
        """Stops it gracefully."""
        if self._process is not None:
            self._process.stop()

    def _http_ready(self) -> bool:
        try:
            answer = httpx.get(f"http://{self._address}/readyz", timeout=5, verify=NO_CERTIFICATES)
            return answer.status_code == 200
        except httpx.HTTPError:
            return False

    def _grpc_ready(self) -> bool:
        with grpc.insecure_channel(self._address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@dataclass
class Watched:
    """A server and how its restarts went so far."""

    name: str
    server: Server
    deaths: int = 0
    due: float | None = field(default=None)


class Platform:
    """Everything that `svyaz run` runs."""

    def __init__(self, home: Home, base: int, stopping: threading.Event) -> None:
        self._home = home
        self._base = base
        self._stopping = stopping
        self._secrets = Secrets(home.directory)
        self._issuer = home.issuer()
        self._watched: list[Watched] = []
        self._external_postgres = os.environ.get("DATABASE_URL", "")
        self._external_nats = os.environ.get("NATS_URL", "")
        # DATABASE_CONNECTIONS of a service; none where the embedded PostgreSQL has enough for the default.
        self._connections: dict[str, str] = {}
        self.gateway_url = f"http://{LOOPBACK}:{base}"

    def start(self) -> None:
        """Starts everything and waits until it is ready. Raises StartError, and Interrupted when told to stop."""
        left = stop_leftovers(self._home.notes)
        if left:
            log.info("stopped what an earlier start left behind", extra={"fields": {"processes": left}})
        self._check_ports()
        start_http_server(self._base + RUNNER_METRICS_OFFSET, addr=LOOPBACK)
        if self._external_postgres:
            databases = sum(service.database is not None for service in SERVICES)
            connections = external.check_postgres(self._external_postgres, databases)
            self._connections = {"DATABASE_CONNECTIONS": str(connections)}
        if self._external_nats:
            external.check_nats(self._external_nats)
        admin_url, nats = self._start_servers()
        servers = [
            ServiceServer(service, self._base, self._home, self._environment(service, admin_url, nats))
            for service in SERVICES
        ]
        # Each starts while the next one's database is migrated.
        for server in servers:
            self._migrate(server, admin_url)
            self._launch(server.service.name, server)
        self._await_readiness(servers)

    def supervise(self) -> None:
        """Starts again what dies, until told to stop."""
        while not self._stopping.wait(_POLL_SECONDS):
            for watched in self._watched:
                self._look_after(watched)

    def stop(self) -> None:
        """Stops everything in the reverse order, keeping the data."""
        for watched in reversed(self._watched):
            watched.server.stop()
        self._watched.clear()

    def load_demo(self) -> None:
        """Loads the demo operator, unless it is there already."""
        issuer = self._issuer
        loaded = demo.load_demo(self.gateway_url, lambda role, branch, who: issuer.token([role], [branch], subject=who))
        log.info("demo operator", extra={"fields": {"created": loaded}})

    def _start_servers(self) -> tuple[str, Callable[[Service], str]]:
        admin_url = self._external_postgres
        notes = self._home.notes
        nats: Nats | None = None
        if not self._external_nats:
            directory = self._home.directory / "nats"
            users = bus_users(os.environ.get("FULFILMENT_BY_EVENT", ""))
            nats = Nats(directory, self._base + NATS_OFFSET, self._secrets, notes=notes, users=users)
            self._launch("nats", nats)
        if not admin_url:
            directory = self._home.directory / "postgres"
            postgres = Postgres(directory, self._base + POSTGRES_OFFSET, self._secrets, notes=notes)
            self._launch("postgres", postgres)
            postgres.wait()
            admin_url = postgres.admin_url
        if nats is None:
            return admin_url, lambda service: self._external_nats
        nats.wait()
        return admin_url, lambda service, urls=nats: urls.url(service.name)

    def _launch(self, name: str, server: Server) -> None:
        RESTARTS.labels(name)
        self._watched.append(Watched(name, server))
        server.launch()

    def _environment(self, service: Service, admin_url: str, nats: Callable[[Service], str]) -> dict[str, str]:
        ports = {known.name: self._base + known.offset for known in SERVICES}
        environment = {
            **self._connections,
            **os.environ,
            **self._issuer.environment,
            "BILLING_SIGNING_KEY": os.environ.get(
                "BILLING_SIGNING_KEY", str(billing_key(self._home.directory / "issuer"))
            ),
            "SVYAZ_SERVICE": service.name,
            "HOST": LOOPBACK,
            "PORT": str(ports[service.name]),
            "METRICS_PORT": str(ports[service.name] + METRICS_OFFSET),
            "SVYAZ_CLOCK_OFFSET_FILE": str(self._home.clock_offset),
            # Callbacks of somebody who tries this at home are at home, too.
            "HUB_ALLOW_PRIVATE_CALLBACKS": os.environ.get("HUB_ALLOW_PRIVATE_CALLBACKS", "true"),
            "ONE_CPU": os.environ.get("ONE_CPU", "true"),
            "DOCUMENT_STORE": os.environ.get("DOCUMENT_STORE", str(self._home.directory / "documents")),
            "FULFILMENT_SIMULATED": os.environ.get("FULFILMENT_SIMULATED", SIMULATED),
            # Whoever has a service's token of the development issuer speaks for every system.
            "FULFILMENT_SYSTEM_SUBJECTS": os.environ.get("FULFILMENT_SYSTEM_SUBJECTS", "*=*"),
            # Where the demo operator is.
            "BRANCH_REGIONS": os.environ.get("BRANCH_REGIONS", "bishkek=KG,osh=KG"),
            "BRANCH_TIME_ZONES": os.environ.get("BRANCH_TIME_ZONES", "bishkek=Asia/Bishkek,osh=Asia/Bishkek"),
            "PYTHONUNBUFFERED": "1",
        }
        for called in service.calls:
            environment[f"{called.upper().replace('-', '_')}_ADDRESS"] = f"{LOOPBACK}:{ports[called]}"
        for unwanted in ("DATABASE_URL", "NATS_URL"):
            environment.pop(unwanted, None)
        if service.database:
            environment["DATABASE_URL"] = self._url(admin_url, service.database, service.database)
            environment["NATS_URL"] = nats(service)
        return environment

    def _url(self, admin_url: str, user: str, database: str) -> str:
        return migrate.login_url(
            admin_url, user=user, password=self._secrets.get(f"postgres-{user}"), database=database
        )

    def _migrate(self, server: ServiceServer, admin_url: str) -> None:
        database, package = server.service.database, server.service.package
        if database is None:
            return
        owner = migrate.owner_of(database)
        try:
            migrate.provision(
                admin_url,
                database,
                password=self._secrets.get(f"postgres-{database}"),
                owner_password=self._secrets.get(f"postgres-{owner}"),
            )
        except (migrate.ProvisionError, psycopg.errors.InsufficientPrivilege) as error:
            raise StartError(f"PostgreSQL holds no place for {server.service.name}: {error}") from error
        # What `python -m <module> migrate` does, without the second that another interpreter takes to start.
        migrate.upgrade(package, self._url(admin_url, owner, database), database)

    def _await_readiness(self, servers: Sequence[ServiceServer]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        waiting = list(servers)
        while waiting:
            waiting = [server for server in waiting if not server.is_ready()]
            if waiting and time.monotonic() > deadline:
                raise waiting[0].failure(f"wasn't ready within {READY_SECONDS:.0f} s")
            self._pause()

    def _pause(self) -> None:
        if self._stopping.wait(_POLL_SECONDS):
            raise Interrupted

    def _look_after(self, watched: Watched) -> None:
        process, now = watched.server.process, time.monotonic()
        if watched.due is None:
            code = process.exit_code()
            if code is None:
                return
            watched.deaths = 0 if now - process.started > _STEADY_SECONDS else watched.deaths + 1
            delay = _BACK_OFF_SECONDS[min(watched.deaths, len(_BACK_OFF_SECONDS) - 1)]
            watched.due = now + delay
            fields = {"process": watched.name, "exit_code": code, "restart_in_seconds": delay}
            log.error("a process died", extra={"fields": fields})
            process.stop()
        if now >= watched.due:
            RESTARTS.labels(watched.name).inc()
            watched.due = None
            try:
                watched.server.launch()
            except StartError as error:
                watched.deaths += 1
                watched.due = now + _BACK_OFF_SECONDS[min(watched.deaths, len(_BACK_OFF_SECONDS) - 1)]
                log.error("a process couldn't be started", extra={"fields": {"error": str(error)}})
            else:
                fields = {"process": watched.name, "pid": watched.server.process.pid}
                log.info("a process was started again", extra={"fields": fields})

    def _check_ports(self) -> None:
        offsets = [service.offset for service in SERVICES]
        offsets += [offset + METRICS_OFFSET for offset in offsets] + [RUNNER_METRICS_OFFSET]
        offsets += [] if self._external_nats else [NATS_OFFSET]
        offsets += [] if self._external_postgres else [POSTGRES_OFFSET]
        deadline = time.monotonic() + _PORT_SECONDS
        for port in sorted(self._base + offset for offset in offsets):
            while not _is_free(port):
                if time.monotonic() > deadline:
                    raise StartError(f"port {port} is taken: choose others with SVYAZ_PORT_BASE")
                self._pause()


@contextmanager
def _held(home: Home) -> Iterator[None]:
    """Holds the home against a second runner; raises StartError when there is one."""
    with (home.directory / "run" / "lock").open("w") as lock:
        try:
            # The kernel lets it go when we die, however we die.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartError(f"svyaz runs already over {home.directory}: stop it first (make down)") from error
        yield


def run(home: Home, base: int, *, with_demo: bool = True) -> int:
    """Runs the platform until SIGINT or SIGTERM; the exit code is 1 when it couldn't start."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    _log_to_stderr()
    try:
        with _held(home):
            _rotate(home.logs)
            write_note(home.runner_note, os.getpid())
            platform = Platform(home, base, stopping)
            try:
                platform.start()
                if with_demo:
                    platform.load_demo()
                home.ready.write_text(platform.gateway_url)
                print(f"READY {platform.gateway_url}", flush=True)
                platform.supervise()
            finally:
                home.ready.unlink(missing_ok=True)
                log.info("stopping")
                platform.stop()
                home.runner_note.unlink(missing_ok=True)
    except Interrupted:
        return 0
    except (StartError, demo.DemoError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter("runner"))
    logging.basicConfig(level="INFO", handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "alembic.runtime.migration"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _rotate(logs: Path) -> None:
    for file in logs.glob("*.log"):
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_size > _KEPT_LOG_BYTES:
                file.replace(file.with_suffix(".log.1"))
