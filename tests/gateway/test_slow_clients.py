"""Clients who are slow, by chance or on purpose, hold up nobody but themselves; no service is needed for that."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from svyaz_cli.issuer import Issuer
from tests.running import Running

THREADS = 4
# So many seconds slow clients have. Whoever is answered in less wasn't kept waiting until they were given up.
PATIENCE = 5
AT_ONCE = PATIENCE - 0.5
ORDERS = "/tmf-api/productOrderingManagement/v4/productOrder"


@pytest.fixture(scope="module")
def gateway(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway with few threads and little patience."""
    platform = Running(tmp_path_factory.mktemp("slow"), issuer)
    try:
        platform.launch("gateway", {"THREADS": str(THREADS), "CLIENT_SECONDS": str(PATIENCE)})
        platform.wait("/healthz")
        yield platform
    finally:
        platform.stop()


@pytest.fixture
def sockets(gateway: Running) -> Iterator[list[socket.socket]]:
    """More connections than there are threads, with nothing said yet."""
    with ExitStack() as opened:
        address = ("127.0.0.1", gateway.ports["gateway"])
        yield [opened.enter_context(socket.create_connection(address, timeout=10)) for _ in range(3 * THREADS)]


def answers(gateway: Running) -> None:
    """Fails unless the gateway answers at once, on both ports."""
    begun = time.monotonic()
    assert httpx.get(f"{gateway.url}/healthz", timeout=5).status_code == 200
    assert httpx.get(f"http://127.0.0.1:{gateway.metrics_ports['gateway']}/livez", timeout=5).status_code == 200
    assert httpx.get(f"http://127.0.0.1:{gateway.metrics_ports['gateway']}/readyz", timeout=5).status_code == 200
    assert time.monotonic() - begun < AT_ONCE


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHos"])
def test_half_a_header_holds_no_thread(gateway: Running, sockets: list[socket.socket], said: bytes) -> None:
    for opened in sockets:
        opened.sendall(said)
    answers(gateway)
    for opened in sockets:
        opened.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".removeprefix(said))
        assert opened.recv(100).startswith(b"HTTP/1.1 404")


def test_a_body_that_nobody_reads_is_not_waited_for(gateway: Running, sockets: list[socket.socket]) -> None:
    for opened in sockets:
        opened.sendall(f"POST {ORDERS} HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n".encode())
    answers(gateway)
    for opened in sockets:
        assert opened.recv(100).startswith(b"HTTP/1.1 401")


def test_a_client_who_does_not_hang_up_holds_up_nobody(gateway: Running, sockets: list[socket.socket]) -> None:
    for opened in sockets:
        opened.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    answers(gateway)


def test_a_body_has_its_time(gateway: Running, sockets: list[socket.socket], issuer: Issuer) -> None:
    token = issuer.token(["agent"], ["bishkek"])
    headers = f"Host: here\r\nAuthorization: Bearer {token}\r\nContent-Length: 9"
    begun = time.monotonic()
    for opened in sockets[:THREADS]:
        opened.sendall(f"POST {ORDERS} HTTP/1.1\r\n{headers}\r\n\r\n{{".encode())
    for opened in sockets[:THREADS]:
        assert opened.recv(100).startswith(b"HTTP/1.1 400")
    assert AT_ONCE < time.monotonic() - begun < 4 * PATIENCE
    answers(gateway)


def test_a_header_that_dribbles_is_given_up(gateway: Running, sockets: list[socket.socket]) -> None:
    opened, *_ = sockets

    def dribble() -> None:
        for _ in range(100):
            opened.sendall(b"x")
            time.sleep(0.2)

    begun = time.monotonic()
    with pytest.raises(ConnectionError):
        dribble()
    assert AT_ONCE < time.monotonic() - begun < 4 * PATIENCE


def test_a_header_of_any_size_is_refused_not_kept(gateway: Running, sockets: list[socket.socket]) -> None:
    opened, *_ = sockets
    opened.sendall(b"GET / HTTP/1.1\r\nHost: " + b"x" * 70_000)
    assert opened.recv(100).startswith(b"HTTP/1.1 431")
    answers(gateway)


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET /?name=" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: here\r\n\r\n", 414, "URI_TOO_LONG"),
        (b"GET / HTTP/1.1\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n", 431, "HEADERS_TOO_LARGE"),
    ],
)
def test_what_is_too_long_gets_the_error_body_too(
    gateway: Running, sockets: list[socket.socket], head: bytes, status: int, code: str
) -> None:
    opened, *_ = sockets
    opened.sendall(head)
    with opened.makefile("rb") as answer:
        got, _, body = answer.read().partition(b"\r\n\r\n")
    assert got.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Content-Type: application/json" in got
    error = json.loads(body)
    assert (error["code"], error["status"], error["@type"]) == (code, str(status), "Error")
