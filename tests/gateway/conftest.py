"""The real gateway on real services: every process as in production, PostgreSQL and NATS included."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from svyaz_cli.embedded import Nats, free_port
from svyaz_cli.issuer import Issuer
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import SERVICES, bus_users

LOOPBACK = "127.0.0.1"
_START_SECONDS = 100.0
_BEHIND_THE_GATEWAY = ("catalog", "customers", "orders", "hub")


class Api:
    """The REST API as one caller sees it."""

    def __init__(self, url: str, token: str) -> None:
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20)

    def get(self, path: str, **more: Any) -> httpx.Response:
        """GET; `params` and `headers` as httpx has them."""
        return self.client.get(path, **more)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """POST of a JSON value; headers with underscores for hyphens."""
        return self.client.post(path, json=body, headers=_dashed(headers))

    def patch(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """PATCH with a JSON value."""
        return self.client.patch(path, json=body, headers=_dashed(headers))

    def delete(self, path: str, **headers: str) -> httpx.Response:
        """DELETE."""
        return self.client.delete(path, headers=_dashed(headers))

    def made(self, path: str, body: Any, **headers: str) -> dict[str, Any]:
        """The body of a POST that succeeds."""
        answer = self.post(path, body, **headers)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class Running:
    """The processes, and the addresses that tests use."""

    def __init__(self, directory: Path, issuer: Issuer) -> None:
        self._directory = directory
        self._issuer = issuer
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        # Service → the superuser's URL of its database.
        self.databases: dict[str, str] = {}
        self.ports = {service.name: free_port() for service in SERVICES}
        self.metrics_ports = {service.name: free_port() for service in SERVICES}
        self.url = f"http://{LOOPBACK}:{self.ports['gateway']}"

    def launch(self, name: str, environment: Mapping[str, str]) -> None:
        """Starts one service's process."""
        service = next(service for service in SERVICES if service.name == name)
        whole = {
            **os.environ,
            **self._issuer.environment,
            "SVYAZ_SERVICE": name,
            "HOST": LOOPBACK,
            "PORT": str(self.ports[name]),
            "METRICS_PORT": str(self.metrics_ports[name]),
            # The receivers of these tests are here.
            "HUB_ALLOW_PRIVATE_CALLBACKS": "true",
            **{f"{called.upper()}_ADDRESS": f"{LOOPBACK}:{self.ports[called]}" for called in service.calls},
            **environment,
        }
        with self.log(name).open("wb") as output:
            command = [sys.executable, "-m", service.module]
            self.processes[name] = subprocess.Popen(command, env=whole, stdout=output, stderr=output)

    def log(self, name: str) -> Path:
        """Where a process writes its log."""
        return self._directory / f"{name}.log"

    def wait(self, probe: str = "/readyz") -> None:
        """Returns when the gateway's probe says yes: that everything behind it serves, or another."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers(probe):
            died = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not died, f"{died} died; the logs are in {self._directory}"
            assert time.monotonic() < deadline, f"not ready; the logs are in {self._directory}"
            time.sleep(0.1)

    def _answers(self, probe: str) -> bool:
        try:
            return httpx.get(f"{self.url}{probe}", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """Stops everything, the gateway first."""
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in reversed(self.processes.values()):
            process.wait(30)


@pytest.fixture(scope="session")
def running(
    database_for: Callable[..., Any], issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """The gateway and every service behind it."""
    directory = tmp_path_factory.mktemp("gateway")
    nats = Nats(directory / "nats", free_port(), Secrets(directory), notes=directory / "run", users=bus_users())
    platform = Running(directory, issuer)
    try:
        nats.launch()
        nats.wait()
        for name in _BEHIND_THE_GATEWAY:
            database = database_for(name)
            platform.databases[name] = database.admin_url
            platform.launch(name, {"DATABASE_URL": database.url, "NATS_URL": nats.url(name)})
        platform.launch("gateway", {})
        platform.wait()
        yield platform
    finally:
        platform.stop()
        nats.stop()


@pytest.fixture(scope="session")
def caller(running: Running, issuer: Issuer) -> Iterator[Callable[..., Api]]:
    """Makes a caller of given roles and branches."""
    made: list[Api] = []

    def make(roles: list[str], branches: list[str]) -> Api:
        made.append(Api(running.url, issuer.token(roles, branches)))
        return made[-1]

    yield make
    for api in made:
        api.client.close()


@pytest.fixture(scope="session")
def api(caller: Callable[..., Api]) -> Api:
    """An agent of the branch bishkek who manages the catalog too."""
    return caller(["agent", "catalog-manager"], ["bishkek"])


@pytest.fixture(scope="session")
def osh(caller: Callable[..., Api]) -> Api:
    """An agent of another branch."""
    return caller(["agent"], ["osh"])


@pytest.fixture(scope="session")
def office(caller: Callable[..., Api]) -> Api:
    """Somebody who sees every branch."""
    return caller(["admin"], ["*"])
