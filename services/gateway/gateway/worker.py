"""gunicorn's threaded worker, with no thread waiting for a client who is slow to say what it wants.

gunicorn gives a connection to a thread as soon as something has come, and the thread waits for the rest, however long:
as many clients as there are threads, each with half a header and no token, would stop everything. Here what has come is
kept, and a thread begins when the header is complete. What follows it (a body, the taking of the answer) has a limit.
"""

import contextlib
import errno
import socket
import time
from http import HTTPStatus
from typing import Any

from gunicorn.http import get_parser  # type: ignore[import-untyped]
from gunicorn.http.errors import (  # type: ignore[import-untyped]
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
)
from gunicorn.util import write_nonblock  # type: ignore[import-untyped]
from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker  # type: ignore[import-untyped]

from gateway.problems import JSON, error_body

_CHUNK_BYTES = 65_536
_MAX_HEAD_BYTES = 65_536
# How long, and how much, what a request left unread is waited for before the connection is closed instead.
_EMPTYING_SECONDS = 0.2
_EMPTYING_CHUNKS = 64
_END_OF_HEAD = b"\r\n\r\n"
# What is too long to become a request.
_TOO_LONG = {
    LimitRequestLine: (HTTPStatus.REQUEST_URI_TOO_LONG, "URI_TOO_LONG"),
    LimitRequestHeaders: (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "HEADERS_TOO_LARGE"),
}


class Input:
    """A client's socket as gunicorn's parser reads it: first what has come, then for a limited time."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._seconds = seconds
        self._come = b""
        self._deadline: float | None = None
        self._emptying = False

    def has_head(self, left_over: bytes) -> bool:
        """Whether a whole header has come after what the request before left over, or nothing more will come.

        Never waits. Raises TimeoutError when it has taken too long, LimitRequestHeaders when it is too large.
        """
        self._come += left_over
        self._sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while _END_OF_HEAD not in self._come:
                more = self._sock.recv(_CHUNK_BYTES)
                if not more:
                    return True
                self._come += more
                if len(self._come) > _MAX_HEAD_BYTES and _END_OF_HEAD not in self._come:
                    raise LimitRequestHeaders("the header is too large")
        if self._come and self._deadline is None:
            self._deadline = time.monotonic() + self._seconds
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise TimeoutError("the header didn't come in time")
        return _END_OF_HEAD in self._come

    def begin(self) -> None:
        """A thread is there for the request: the time for its body begins."""
        self._deadline = time.monotonic() + self._seconds

    def end(self) -> None:
        """The request is answered: the next one may begin whenever it likes."""
        self._deadline = None

    def recv(self, size: int) -> bytes:
        """What comes next; raises NoMoreData when the time is over."""
        try:
            if self._come:
                come, self._come = self._come, b""
                return come
            self._sock.settimeout(max(0.001, (self._deadline or 0.0) - time.monotonic()))
            return self._sock.recv(size)
        except TimeoutError as error:
            raise NoMoreData from error
        finally:
            # For each write; an answer is one.
            self._sock.settimeout(self._seconds)

    def gettimeout(self) -> None:
        """None: for gunicorn, which sets a time-out and sets it back when it takes what a request left unread."""

    def settimeout(self, seconds: float | None) -> None:
        """Begins and ends the taking of what was left unread: not for as long as gunicorn would."""
        if seconds is not None and not self._emptying:
            self._deadline = time.monotonic() + _EMPTYING_SECONDS
        self._emptying = seconds is not None


class Connection(TConn):  # type: ignore[misc]
    """A connection whose parser reads through an Input."""

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any, seconds: float) -> None:
        super().__init__(cfg, sock, client, server)
        self.input = Input(sock, seconds)
        self.parser = get_parser(cfg, self.input, client)
        self.initialized = True

    def close(self, graceful: bool = False) -> None:
        """Closes it. gunicorn would wait two seconds for the client to do so too, in the thread that accepts others."""
        if graceful:
            with contextlib.suppress(OSError):
                self.sock.setblocking(False)
                self.sock.shutdown(socket.SHUT_WR)
                # What has come and isn't read would make the kernel take back the end of the answer.
                for _ in range(_EMPTYING_CHUNKS):
                    if not self.sock.recv(_CHUNK_BYTES):
                        break
        super().close()


class Worker(ThreadWorker):  # type: ignore[misc]
    """The worker; `client_seconds` of its application limits how long a client may hold a thread."""

    def accept(self, listener: socket.socket) -> None:
        """Takes a connection, as gunicorn does, but as one of ours."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        self.nr_conns += 1
        self.enqueue_req(Connection(self.cfg, sock, client, listener.getsockname(), self.app.client_seconds))

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answers what is too long with the error body of everything else; the rest as gunicorn does."""
        if type(exc) not in _TOO_LONG:
            super().handle_error(req, client, addr, exc)
            return
        status, code = _TOO_LONG[type(exc)]
        self.log.warning("a request can't be read: %s", exc)
        body = error_body(status, code, str(exc))
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: {JSON}\r\n"
        with contextlib.suppress(OSError):
            # The client may have gone.
            write_nonblock(client, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def handle(self, conn: Connection) -> Any:
        """Answers a request whose header has come; gives the connection back to wait for it otherwise."""
        try:
            if not conn.input.has_head(conn.parser.unreader.take_buffered()):
                return _DEFER
        except LimitRequestHeaders as error:
            self.handle_error(None, conn.sock, conn.client, error)
            return False
        conn.input.begin()
        try:
            return super().handle(conn)
        finally:
            conn.input.end()
