"""Posting to callbacks: signed, in bounded time, and never to an address inside of our own network.

The addresses of a host are looked up once per delivery, checked, and connected to; a name that answers differently a
moment later (DNS rebinding) gains nothing. No redirect is followed, and no proxy of the environment is used.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import certifi
import httpcore
from standardwebhooks.webhooks import Webhook

from gateway.hub.domain import Target, bad_callback, target

# Host and port → the addresses that the name has now; raises OSError.
Resolve = Callable[[str, int], Sequence[str]]

TIMEOUT_SECONDS = 10.0
GONE = 410
_LONGEST_RETRY_AFTER = 3600.0
_MIN_SECONDS = 0.001

# What Python (3.11) takes for public and isn't: protocol assignments (Oracle's metadata among them), relays of IPv6,
# translators, and the public address behind which Azure answers about a machine.
_CLOSED = tuple(
    map(
        ipaddress.ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "64:ff9b::/96", "64:ff9b:1::/48"),
    )
)


class BlockedError(Exception):
    """The callback leads to an address that isn't called."""


class UnresolvedError(Exception):
    """The callback's host has no address."""


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, as the operating system knows them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether anybody on the internet could call the address: not loopback, private, shared, link-local, multicast,
    reserved or a cloud's metadata, nor a form of IPv6 that carries such an address inside."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        if parsed.sixtofour is not None or parsed.teredo is not None or parsed.is_site_local:
            return False
    special = parsed.is_private or parsed.is_loopback or parsed.is_link_local or parsed.is_multicast
    closed = any(parsed in network for network in _CLOSED)
    return parsed.is_global and not (special or parsed.is_reserved or parsed.is_unspecified or closed)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a callback answered; status 0: it didn't, `error` says why. `retry_after` in seconds, as it asked."""

    status: int
    error: str = ""
    blocked: bool = False
    retry_after: float = 0.0

    @property
    def accepted(self) -> bool:
        """Whether it has the event."""
        return 200 <= self.status < 300

    @property
    def described(self) -> str:
        """What went wrong, for people."""
        return self.error or f"it answered {self.status}"


class Callbacks:
    """Posts events. `allow_private` is for those who try the platform at home, and for tests."""

    def __init__(
        self,
        *,
        allow_private: bool,
        resolve: Resolve = resolve,
        timeout: float = TIMEOUT_SECONDS,
        ca_file: str = "",
    ) -> None:
        self.timeout = timeout
        self._allow_private = allow_private
        self._resolve = resolve
        self._tls = ssl.create_default_context(cafile=ca_file or certifi.where())

    def check(self, callback: str) -> None:
        """Raises InvalidArgument BAD_CALLBACK for a URL that would never be called."""
        found = target(callback)
        if self._allow_private:
            return
        try:
            self._addresses(found)
        except BlockedError as error:
            raise bad_callback(str(error)) from None
        except UnresolvedError as error:
            raise bad_callback(f"can't be called: {error}") from None

    def post(self, callback: str, secret: str, event_id: str, body: bytes) -> Answer:
        """Posts an event, signed as https://www.standardwebhooks.com/ says; never raises for what the other side does.

        It takes `timeout` seconds at most, besides what the operating system needs to look a name up.
        """
        parts = target(callback)
        try:
            addresses = self._addresses(parts)
        except BlockedError as error:
            return Answer(0, str(error), blocked=True)
        except UnresolvedError as error:
            return Answer(0, str(error))
        pinned = _Pinned(addresses, time.monotonic() + self.timeout)
        # IPv6 literals are bracketed in URLs and in the header Host.
        host = f"[{parts.host}]" if ":" in parts.host else parts.host
        url = httpcore.URL(scheme=parts.scheme, host=host, port=parts.port, target=parts.path)
        try:
            with (
                httpcore.HTTPConnection(url.origin, ssl_context=self._tls, network_backend=pinned) as connection,
                connection.stream(
                    "POST",
                    url,
                    headers=[("Host", _host_header(parts, host)), *_signed(secret, event_id, body)],
                    content=body,
                    extensions={"sni_hostname": parts.host},
                ) as response,
            ):
                # Nobody reads what it says besides: it may be endless.
                return Answer(response.status, retry_after=_retry_after(response.headers))
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            return Answer(0, f"{type(error).__name__}: {error}"[:300])

    def _addresses(self, parts: Target) -> Sequence[str]:
        try:
            addresses = self._resolve(parts.host, parts.port)
        except (OSError, UnicodeError) as error:
            raise UnresolvedError(f"the host {parts.host} can't be resolved: {error}") from error
        if not addresses:
            raise UnresolvedError(f"the host {parts.host} has no address")
        # One is enough to refuse: which of several is taken mustn't be a matter of luck.
        if not self._allow_private and not all(map(is_public, addresses)):
            raise BlockedError(f"leads to an address that isn't public: the host {parts.host} isn't called")
        return addresses


def _signed(secret: str, event_id: str, body: bytes) -> list[tuple[str, str]]:
    # The time of this attempt by the real clock: receivers refuse what is old.
    now = datetime.now(UTC)
    return [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("User-Agent", "svyaz-hub"),
        ("Connection", "close"),
        ("webhook-id", event_id),
        ("webhook-timestamp", str(int(now.timestamp()))),
        ("webhook-signature", Webhook(secret).sign(event_id, now, body.decode())),
    ]


def _host_header(parts: Target, host: str) -> str:
    usual = {"http": 80, "https": 443}[parts.scheme]
    return host if parts.port == usual else f"{host}:{parts.port}"


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float:
    for name, value in headers:
        if name.lower() == b"retry-after":
            return min(max(_seconds(value.decode("latin-1")), 0.0), _LONGEST_RETRY_AFTER)
    return 0.0


def _seconds(text: str) -> float:
    if text.isascii() and text.isdecimal():
        # No number of more digits makes a difference: a longer one only takes time to convert.
        return float(text[:9])
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


class _Pinned(httpcore.NetworkBackend):
    """Connects to addresses that have been checked, whatever the name means by now; all of it before a deadline."""

    def __init__(self, addresses: Sequence[str], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first address that answers."""
        failure: Exception = httpcore.ConnectError("there is no address")
        for left, address in zip(range(len(self._addresses), 0, -1), self._addresses, strict=True):
            try:
                # Each gets its share of the time, so that one which swallows packets doesn't stand for all.
                seconds = max(_MIN_SECONDS, (self._deadline - time.monotonic()) / left)
                stream = self._sockets.connect_tcp(address, port, seconds, local_address, socket_options or ())
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Bounded(stream, self._deadline)
        raise failure


class _Bounded(httpcore.NetworkStream):
    """A connection on which everything together ends at the deadline: time-outs alone renew with every byte."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("it took too long")
        return left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Reads what is there."""
        return self._stream.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Writes everything."""
        # In pieces, since the time-out of a socket counts for each of its own.
        for start in range(0, len(buffer), 65_536):
            self._stream.write(buffer[start : start + 65_536], self._left())

    def close(self) -> None:
        """Ends the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The connection with TLS, the certificate checked against the name that the callback has."""
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, self._left()), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """What the socket knows of itself."""
        return self._stream.get_extra_info(info)
