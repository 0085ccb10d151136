"""The connection to NATS: one per process, in the one thread that runs asyncio."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from chassis.cloudevents import stream_of
from chassis.threads import failed

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_AGE_SECONDS = 14 * 24 * 3600.0
DUPLICATE_WINDOW_SECONDS = 120.0
_RECONNECT_SECONDS = 0.25


def event_stream(service: str) -> StreamConfig:
    """The stream of a service's events: files, forgotten after 14 days, a repeated publish dropped for 2 minutes."""
    return StreamConfig(
        name=stream_of(service),
        subjects=[f"svyaz.{service}.v1.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_age=MAX_AGE_SECONDS,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
    )


class Bus:
    """A connection that is made again whenever it breaks; nobody has to wait for NATS in order to start."""

    def __init__(self, url: str, *, name: str, streams: Sequence[StreamConfig] = ()) -> None:
        self._url = url
        self._name = name
        self._streams = streams
        self._client = Client()
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._listeners: list[Callable[[], None]] = []
        self._users = 0
        self._lock = threading.Lock()
        self._ready = False
        # Grows with every connect and reconnect.
        self.generation = 0

    @property
    def connected(self) -> bool:
        """Whether the server can be talked to right now and has our streams."""
        return self._ready and self._client.is_connected

    @property
    def client(self) -> Client:
        """The connection itself; only for coroutines that run on the bus."""
        return self._client

    @property
    def jetstream(self) -> JetStreamContext:
        """The JetStream API; only for coroutines that run on the bus."""
        return self._client.jetstream(timeout=5)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the bus's thread."""
        return self._loop

    def on_connect(self, listener: Callable[[], None]) -> None:
        """Calls the listener, in the bus's thread, after every connect and reconnect."""
        self._listeners.append(listener)

    def call(self, action: Callable[[], None]) -> None:
        """Runs something quick in the bus's thread, soon; not at all once the bus is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(action)

    def run(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Runs a coroutine in the bus's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def keep_running(self, work: Coroutine[Any, Any, None], name: str) -> "Future[None]":
        """Runs what must never end by itself; if it fails all the same, so does the process, and is started again."""

        def ended(done: "Future[None]") -> None:
            error = None if done.cancelled() else done.exception()
            if error is not None:
                failed(name, error)

        future = self.run(work)
        future.add_done_callback(ended)
        return future

    def start(self) -> None:
        """Connects in the background; each start needs its stop, and the last stop closes."""
        with self._lock:
            self._users += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="bus", daemon=True)
                self._thread.start()
                self.keep_running(self._connect(), "the connection to NATS")

    def stop(self) -> None:
        """Closes the connection, for good, when nobody else uses it any more."""
        with self._lock:
            self._users -= 1
            thread = self._thread
            if self._users > 0 or thread is None:
                return
            self._thread = None
        self.run(self._close()).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        thread.join()
        self._loop.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _connect(self) -> None:
        while not self._client.is_connected and not self._client.is_closed:
            try:
                await self._client.connect(
                    self._url,
                    name=self._name,
                    connect_timeout=2,
                    # For ever: the outbox waits as long as it takes.
                    max_reconnect_attempts=-1,
                    allow_reconnect=True,
                    # Typed as whole seconds, used as a number.
                    reconnect_time_wait=_RECONNECT_SECONDS,  # type: ignore[arg-type]
                    ping_interval=5,
                    max_outstanding_pings=2,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnect,
                    reconnected_cb=self._on_connect,
                )
            except (TimeoutError, OSError, nats.errors.Error) as error:
                log.warning("NATS can't be reached", extra={"fields": {"error": repr(error)}})
                await asyncio.sleep(_RECONNECT_SECONDS)
        if self._client.is_connected:
            await self._on_connect()

    async def _on_connect(self) -> None:
        self._loop.create_task(self._prepare())

    async def _prepare(self) -> None:
        """JetStream is up a moment after the server is, and may have lost a stream with its disk."""
        while self._client.is_connected:
            try:
                for stream in self._streams:
                    await self._ensure(stream)
            except (TimeoutError, nats.errors.Error) as error:
                log.warning("the streams aren't there yet", extra={"fields": {"error": repr(error)}})
                await asyncio.sleep(_RECONNECT_SECONDS)
                continue
            self._ready = True
            self.generation += 1
            log.info("connected to NATS")
            for listener in self._listeners:
                listener()
            return

    async def _ensure(self, stream: StreamConfig) -> None:
        try:
            await self.jetstream.stream_info(str(stream.name))
        except nats.js.errors.NotFoundError:
            await self.jetstream.add_stream(stream)

    async def _on_disconnect(self) -> None:
        self._ready = False
        log.warning("the connection to NATS is lost")

    async def _on_error(self, error: Exception) -> None:
        log.info("NATS", extra={"fields": {"error": repr(error)}})

    async def _close(self) -> None:
        self._ready = False
        await self._client.close()
        others = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_default_executor()
