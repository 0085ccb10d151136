"""The servers from wheels: what happens to them when their starter dies, and who may publish what."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import nats as client
import psutil
import psycopg
import pytest

from svyaz_cli.embedded import Nats, Postgres, StartError, free_port
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import bus_users
from tests.servers import FAST

STARTER = """
import sys, time
from pathlib import Path
from urllib.parse import urlsplit
from svyaz_cli.embedded import Postgres
from svyaz_cli.secrets import Secrets
directory = Path(sys.argv[1])
server = Postgres(directory, int(sys.argv[2]), Secrets(directory), notes=directory / "run", settings={"fsync": "off"})
server.launch()
server.wait()
print(server.process.pid, flush=True)
time.sleep(60)
"""


EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def postgres_in(directory: Path, port: int) -> Postgres:
    return Postgres(directory, port, Secrets(directory), notes=directory / "run", settings=FAST)


def test_no_two_processes_get_one_port_nor_one_that_a_connection_could_be_given(tmp_path: Path) -> None:
    draw = "from svyaz_cli.embedded import free_port; print(*(free_port() for _ in range(500)), flush=True); input()"
    with contextlib.ExitStack() as stack:
        drawing = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", draw], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        ]
        drawn = [[int(port) for port in process.stdout.readline().split()] for process in drawing if process.stdout]
        for process in drawing:
            process.communicate("\n")
    assert len({*drawn[0], *drawn[1]}) == 1_000
    if EPHEMERAL.exists():
        assert max(map(max, drawn)) < int(EPHEMERAL.read_text().split()[0])


def test_a_database_outlives_the_kill_of_its_starter_and_its_server_does_not(tmp_path: Path) -> None:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path), str(port)], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        server = psutil.Process(int(starter.stdout.readline()))
        with psycopg.connect(postgres_in(tmp_path, port).admin_url) as connection:
            connection.execute("CREATE TABLE kept (id int)")
        starter.kill()
    psutil.wait_procs([server], timeout=20)
    assert not server.is_running()

    again = postgres_in(tmp_path, port)
    again.launch()
    try:
        again.wait()
        with psycopg.connect(again.admin_url) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    finally:
        again.stop()


def test_a_server_that_is_still_there_is_stopped_before_the_next_one_starts(tmp_path: Path) -> None:
    port = free_port()
    left, after = postgres_in(tmp_path, port), postgres_in(tmp_path, port)
    left.launch()
    left.wait()
    after.launch()
    try:
        after.wait()
        assert left.process.exit_code() == 0
    finally:
        after.stop()


def test_a_pid_file_that_names_somebody_elses_process_is_no_obstacle(tmp_path: Path) -> None:
    server = postgres_in(tmp_path, free_port())
    server.launch()
    server.wait()
    server.stop()
    (tmp_path / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path / 'data'}\n")
    server.launch()
    try:
        server.wait()
    finally:
        server.stop()


def test_data_of_another_major_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(StartError, match="was made by PostgreSQL 12"):
        postgres_in(tmp_path, free_port()).launch()


def test_passwords_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    assert secrets.get("one") == Secrets(tmp_path).get("one") != secrets.get("two")
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


async def refused(url: str, subject: str, *, listens: bool = False) -> bool:
    """Whether the server refuses what the user of that URL publishes, or that he listens there."""
    errors: list[Exception] = []
    told = asyncio.Event()

    async def remember(error: Exception) -> None:
        errors.append(error)
        told.set()

    connection = await client.connect(url, error_cb=remember)
    if listens:
        await connection.subscribe(subject)
    else:
        await connection.publish(subject, b"{}")
    await connection.flush()
    # The client hands errors to somebody of its own, who on a busy machine comes to it later.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(told.wait(), 1)
    await connection.close()
    return any("permissions violation" in str(error).lower() for error in errors)


@pytest.mark.parametrize("user", sorted(bus_users()))
@pytest.mark.parametrize("owner", ["catalog", "customers", "orders", "billing"])
def test_only_the_owner_publishes_a_services_subjects(nats: Mapping[str, str], user: str, owner: str) -> None:
    owners = {"catalog": "catalog", "customers": "customers", "orders": "orders", "billing": "orders"}
    allowed = user in (owners[owner], "admin")
    assert asyncio.run(refused(nats[user], f"svyaz.{owner}.v1.00.Event")) is not allowed


@pytest.mark.parametrize("subject", ["$JS.API.STREAM.DELETE.ORDERS", "$JS.API.STREAM.PURGE.ORDERS", "anything"])
def test_nobody_touches_anothers_stream(nats: Mapping[str, str], subject: str) -> None:
    assert asyncio.run(refused(nats["catalog"], subject))


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """A server that two external systems may use."""
    directory = tmp_path_factory.mktemp("listening")
    users = bus_users("network, credit,a.b,*")
    server = Nats(directory, free_port(), Secrets(directory), notes=directory / "run", users=users)
    server.launch()
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("subject", "allowed"),
    [
        ("svyaz.fulfilment.v1.network.FulfilmentTaskCompleted", True),
        ("svyaz.fulfilment.v1.credit.FulfilmentTaskCompleted", False),
        ("svyaz.orders.v1.00.ProductOrderCreateEvent", False),
        ("svyaz.billing.v1.00.Event", False),
        ("svyaz.wake.orders", False),
        ("$JS.API.CONSUMER.MSG.NEXT.ORDERS.fulfilment-network", True),
        ("$JS.API.CONSUMER.MSG.NEXT.ORDERS.fulfilment-credit", False),
        ("$JS.API.CONSUMER.MSG.NEXT.FULFILMENT.orders-fulfilment-0", False),
        ("$JS.API.CONSUMER.CREATE.ORDERS.fulfilment-network", False),
        ("$JS.API.CONSUMER.DURABLE.CREATE.ORDERS.fulfilment-network", False),
        ("$JS.API.CONSUMER.DELETE.ORDERS.fulfilment-credit", False),
        ("$JS.API.STREAM.DELETE.FULFILMENT", False),
        ("$JS.API.STREAM.DELETE.ORDERS", False),
        ("$JS.API.STREAM.PURGE.FULFILMENT", False),
        ("$JS.API.STREAM.MSG.GET.ORDERS", False),
        ("$JS.API.DIRECT.GET.ORDERS", False),
        ("$JS.ACK.ORDERS.fulfilment-credit.1.1.1.1.1", False),
    ],
)
def test_an_external_system_speaks_for_itself_only(listening: Nats, subject: str, allowed: bool) -> None:
    assert asyncio.run(refused(listening.url("fulfilment-network"), subject)) is not allowed


@pytest.mark.parametrize(
    ("subject", "allowed"),
    [
        ("svyaz.orders.v1.>", False),
        ("svyaz.fulfilment.v1.>", False),
        ("_INBOX.>", False),
        ("_INBOX_fulfilment-credit.>", False),
        ("_INBOX_fulfilment-network.>", True),
    ],
)
def test_an_external_system_overhears_nobody(listening: Nats, subject: str, allowed: bool) -> None:
    assert asyncio.run(refused(listening.url("fulfilment-network"), subject, listens=True)) is not allowed


def test_a_name_that_would_stand_for_others_makes_no_user() -> None:
    systems = set(bus_users("network, credit,a.b,*")) - set(bus_users())
    assert systems == {"fulfilment-network", "fulfilment-credit"}


def test_nobody_enters_without_a_password(nats: Mapping[str, str]) -> None:
    parts = urlsplit(nats["catalog"])
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=5) as connection:
        answers = connection.makefile("rb")
        assert b'"auth_required":true' in answers.readline()
        connection.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        assert b"Authorization Violation" in answers.readline()
        answers.close()


def test_a_stream_outlives_the_kill_of_nats(tmp_path: Path) -> None:
    server = Nats(tmp_path, free_port(), Secrets(tmp_path), notes=tmp_path / "run", users=bus_users())

    async def publish() -> None:
        connection = await client.connect(server.url("orders"))
        jetstream = connection.jetstream()
        await jetstream.add_stream(name="ORDERS", subjects=["svyaz.orders.v1.>"])
        for number in range(20):
            await jetstream.publish("svyaz.orders.v1.00.Event", str(number).encode())
        await connection.close()

    async def count() -> int:
        connection = await client.connect(server.url("orders"))
        info = await connection.jetstream().stream_info("ORDERS")
        await connection.close()
        return info.state.messages

    server.launch()
    try:
        server.wait()
        asyncio.run(publish())
        os.kill(server.process.pid, signal.SIGKILL)
        server.stop()
        server.launch()
        server.wait()
        assert asyncio.run(count()) == 20
    finally:
        server.stop()
