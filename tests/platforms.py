"""A whole platform beside the tests: `svyaz run` as a user would start it, on ports and data of its own."""

import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from svyaz_cli.home import Home
from svyaz_cli.processes import tethered
from svyaz_cli.services import NATS_OFFSET, POSTGRES_OFFSET, SERVICES

START_SECONDS = 120.0
_SPAN = 40
# Below those that the system gives to whoever asks for any: one of them could be taken between looking and starting.
_FIRST, _LAST = 20_000, 32_000


def free_base() -> int:
    """A port base whose whole range is free right now; runs side by side start looking at different places."""
    first = _FIRST + os.getpid() * _SPAN % (_LAST - _FIRST)
    for base in itertools.chain(range(first, _LAST, _SPAN), range(_FIRST, first, _SPAN)):
        if all(_free(base + offset) for offset in range(_SPAN)):
            return base
    raise RuntimeError("no free range of ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        refused: int = probe.connect_ex(("127.0.0.1", port))
        return refused != 0


class RunningPlatform:
    """`svyaz run` in `directory`; what it printed is in `directory/run.log`."""

    def __init__(self, directory: Path, base: int, *, demo: bool, environment: Mapping[str, str]) -> None:
        self.home = Home(directory)
        self.base = base
        self.gateway_url = f"http://127.0.0.1:{base}"
        self._log = (directory / "run.log").open("ab")
        option = "--demo" if demo else "--no-demo"
        self.process = subprocess.Popen(
            # A worker that crashes stops nothing: the runner hears of it and stops everything.
            tethered([sys.executable, "-m", "svyaz_cli.main", "run", option], signal.SIGINT),
            env={**os.environ, **environment, "SVYAZ_VAR": str(directory), "SVYAZ_PORT_BASE": str(base)},
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )

    def await_ready(self) -> None:
        """Returns when it says READY; raises RuntimeError when it ends or takes too long."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            readable, _, _ = select.select([self.process.stdout], [], [], 0.5)
            if readable:
                line = self.process.stdout.readline()
                if line.startswith(b"READY "):
                    return
                if not line:
                    break
        raise RuntimeError(f"the platform didn't start: {(self.home.directory / 'run.log').read_text()[-3000:]}")

    def address(self, service: str) -> str:
        """host:port of a service."""
        return f"127.0.0.1:{self.base + next(known.offset for known in SERVICES if known.name == service)}"

    def token(self, role: str, *branches: str) -> str:
        """A token of the platform's development issuer."""
        return self.home.issuer().token([role], list(branches))

    def pid(self, name: str) -> int:
        """The process that listens on the port of a service, of `nats` or of `postgres`."""
        ports = {known.name: known.offset for known in SERVICES} | {"nats": NATS_OFFSET, "postgres": POSTGRES_OFFSET}
        wanted = self.base + ports[name]
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                sockets = child.net_connections("tcp")
            except psutil.NoSuchProcess:
                continue
            if any(s.status == psutil.CONN_LISTEN and s.laddr.port == wanted for s in sockets):
                return child.pid
        raise LookupError(f"nothing of this platform listens for {name}")

    def stop(self) -> None:
        """Stops it as Ctrl-C does, keeping the data."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()


@contextmanager
def running_platform(
    directory: Path, *, demo: bool = False, base: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[RunningPlatform]:
    """A platform that is ready, stopped at the end of the block."""
    directory.mkdir(parents=True, exist_ok=True)
    platform = RunningPlatform(directory, base or free_base(), demo=demo, environment=environment or {})
    try:
        platform.await_ready()
        yield platform
    finally:
        platform.stop()
