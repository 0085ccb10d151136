"""The gateway and the services behind it as processes of the tests' own, and callers of its REST API."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from svyaz_cli.embedded import free_port
from svyaz_cli.issuer import Issuer
from svyaz_cli.processes import tail, tethered
from svyaz_cli.run import NO_CERTIFICATES
from svyaz_cli.services import SERVICES, SIMULATED

LOOPBACK = "127.0.0.1"
_START_SECONDS = 100.0
BEHIND_THE_GATEWAY = ("catalog", "customers", "orders", "hub")


class Api:
    """The REST API as one caller sees it."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self.client = httpx.Client(base_url=url, headers=headers, timeout=20, verify=NO_CERTIFICATES)

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

    def address(self, name: str) -> str:
        """host:port of a service."""
        return f"{LOOPBACK}:{self.ports[name]}"

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
            "DOCUMENT_STORE": str(self._directory / "documents"),
            "FULFILMENT_SIMULATED": SIMULATED,
            **{f"{called.upper()}_ADDRESS": f"{LOOPBACK}:{self.ports[called]}" for called in service.calls},
            **environment,
        }
        with self.log(name).open("wb") as output:
            command = tethered([sys.executable, "-m", service.module], signal.SIGTERM)
            self.processes[name] = subprocess.Popen(command, env=whole, stdout=output, stderr=output)

    def log(self, name: str) -> Path:
        """Where a process writes its log."""
        return self._directory / f"{name}.log"

    def wait(self, probe: str = "/readyz") -> None:
        """Returns when the gateway's probe says yes: that everything behind it serves, or another."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers(probe):
            died = [name for name, process in self.processes.items() if process.poll() is not None]
            ends = [tail(self.log(name)) for name in died]
            assert not died, f"{died} died; the logs are in {self._directory} and end with:\n" + "\n".join(ends)
            assert time.monotonic() < deadline, f"not ready; the logs are in {self._directory}"
            time.sleep(0.1)

    def _answers(self, probe: str) -> bool:
        try:
            return httpx.get(f"{self.url}{probe}", timeout=5, verify=NO_CERTIFICATES).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """Stops everything, the gateway first."""
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in reversed(self.processes.values()):
            process.wait(30)
