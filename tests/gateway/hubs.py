"""The hub in this process, on a real PostgreSQL and NATS; events put into the streams as services do; a receiver."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import nats as client_library
import sqlalchemy as sa
from google.protobuf.message import Message
from nats.js import JetStreamContext

from chassis.bus import Bus, event_stream
from chassis.clock import Clock
from chassis.cloudevents import headers_of, subject_of
from chassis.config import Settings
from chassis.consumer import Consumer
from chassis.db import Database
from chassis.schema import partition_of
from chassis.server import Server
from chassis.types import new_id
from gateway.hub.api import Hub
from gateway.hub.callbacks import Callbacks, Resolve, resolve
from gateway.hub.delivery import Dispatcher
from gateway.hub.domain import GIVE_UP_AFTER, KEPT_FOR, MAX_SUBSCRIPTIONS, MAX_WAITING
from gateway.hub.events import SOURCES, Deliveries
from gateway.hub.store import RESOURCES, metadata
from svyaz.hub.v1 import hub_pb2, hub_pb2_grpc
from svyaz.orders.v1 import orders_pb2_grpc
from svyaz_cli.issuer import Issuer
from tests import streams
from tests.conftest import ServiceDatabase

CUSTOMERS, CATALOG, ORDERING = "customerManagement", "productCatalogManagement", "productOrderingManagement"


@dataclass(frozen=True)
class Request:
    """What a receiver got."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def event(self) -> dict[str, Any]:
        """The TM Forum event."""
        event: dict[str, Any] = json.loads(self.body)
        return event

    @property
    def resource(self) -> dict[str, Any]:
        """The resource in the event."""
        (resource,) = self.event["event"].values()
        found: dict[str, Any] = resource
        return found


class Receiver:
    """A callback: keeps what it accepts; `status` says what it answers to a request."""

    def __init__(self) -> None:
        self.accepted: list[Request] = []
        self.asked: list[Request] = []
        self.status: Callable[[Request], int] = lambda request: 201
        self.headers: dict[str, str] = {}
        self.host = "127.0.0.1"
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                status = receiver.status(request)
                with receiver._lock:
                    receiver.asked.append(request)
                    if 200 <= status < 300:
                        receiver.accepted.append(request)
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((self.host, 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://{self.host}:{self.port}/listener"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def names(self) -> list[str]:
        """What the accepted events' resources are called."""
        return [request.resource["name"] for request in self.accepted]


class Streams:
    """The streams of the services, written to as their owners do."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._revisions: dict[str, int] = {}

    def _do(self, job: Callable[[JetStreamContext], Coroutine[Any, Any, None]]) -> None:
        async def run() -> None:
            client = await client_library.connect(self._url)
            await job(client.jetstream())
            await client.close()

        asyncio.run(run())

    def clear(self) -> None:
        """Makes them anew, empty."""

        async def clean(stream: JetStreamContext) -> None:
            known = {info.config.name for info in await stream.streams_info()}
            for source in SOURCES:
                config = event_stream(source)
                if config.name in known:
                    await stream.delete_stream(str(config.name))
                await streams.add(stream, config)

        self._do(clean)

    def put(
        self,
        source: str,
        *messages: Message,
        branch: str = "bishkek",
        kind: str = "StateChange",
        at: datetime | None = None,
    ) -> None:
        """Publishes one event for each message, the next revision of its entity."""

        async def send(stream: JetStreamContext) -> None:
            for message in messages:
                identity: str = getattr(message, "id")  # noqa: B009 (every resource has it, Message doesn't say so)
                name = message.DESCRIPTOR.name
                revision = self._revisions[identity] = self._revisions.get(identity, 0) + 1
                headers = headers_of(
                    id=new_id(),
                    source=f"svyaz/{source}",
                    type=f"{name}{kind if revision > 1 else 'Create'}Event",
                    time=at or datetime.now(UTC),
                    aggregate_type=name,
                    aggregate_id=identity,
                    version=revision,
                    branch=branch,
                    key=identity,
                    actor="somebody",
                    on_behalf_of=None,
                    schema_revision=1,
                    data_type=message.DESCRIPTOR.full_name,
                    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                )
                subject = subject_of(source, partition_of(identity), headers["ce-type"])
                await stream.publish(subject, message.SerializeToString(), headers=headers)

        self._do(send)


@dataclass
class RunningHub:
    """A hub that serves."""

    stub: hub_pb2_grpc.HubServiceStub
    dispatcher: Dispatcher
    database: Database
    _issuer: Issuer

    def call(self, method: str, request: Message, roles: Sequence[str] = ("admin",), branch: str = "bishkek") -> Any:
        """Calls a method as somebody of the branch."""
        token = self._issuer.token(list(roles), [branch])
        return getattr(self.stub, method)(request, metadata=[("authorization", f"Bearer {token}")], timeout=10)

    def subscribe(
        self,
        callback: str,
        query: str = "",
        *,
        api: str = CUSTOMERS,
        branch: str = "bishkek",
        roles: Sequence[str] = ("admin",),
    ) -> hub_pb2.Subscription:
        """A new subscription."""
        wanted = hub_pb2.Subscription(api=api, callback=callback, query=query)
        made: hub_pb2.Subscription = self.call(
            "CreateSubscription", hub_pb2.CreateSubscriptionRequest(subscription=wanted), roles, branch
        )
        return made

    def waiting(self) -> int:
        """How many deliveries wait."""
        with self.database.engine.connect() as connection:
            connection.execute(sa.text("SELECT set_config('svyaz.branches', '*', false)"))
            found = int(connection.execute(sa.text("SELECT count(*) FROM delivery")).scalar_one())
            connection.rollback()
        return found

    def due_now(self) -> None:
        """What was put off is due; what is being delivered (claimed for longer than anything is put off here) isn't."""
        with self.database.engine.begin() as connection:
            connection.execute(sa.text("SELECT set_config('svyaz.branches', '*', true)"))
            connection.execute(
                # Lanes that somebody is at are left out: they are locked in any order.
                sa.text(
                    """
                    UPDATE lane SET not_before = now() FROM (
                        SELECT subscription_id, key FROM lane WHERE not_before < now() + interval '5 seconds'
                        FOR UPDATE SKIP LOCKED
                    ) late WHERE lane.subscription_id = late.subscription_id AND lane.key = late.key
                    """
                )
            )
        self.dispatcher.wake()


@contextmanager
def running_hub(
    database: ServiceDatabase,
    nats: Mapping[str, str],
    issuer: Issuer,
    *,
    allow_private: bool = True,
    resolving: Resolve = resolve,
    give_up_after: timedelta = GIVE_UP_AFTER,
    kept_for: timedelta = KEPT_FOR,
    timeout: float = 10.0,
    max_waiting: int = MAX_WAITING,
    most: int = MAX_SUBSCRIPTIONS,
) -> Iterator[RunningHub]:
    """Everything that `python -m gateway.hub` has but the relay, which has tests of its own."""
    connected = Database(database.url, clock=Clock(), metadata=metadata, resources=RESOURCES)
    callbacks = Callbacks(allow_private=allow_private, resolve=resolving, timeout=timeout)
    dispatcher = Dispatcher(
        connected, callbacks, give_up_after=give_up_after, kept_for=kept_for, max_waiting=max_waiting
    )
    unreachable = grpc.insecure_channel("127.0.0.1:1")
    deliveries = Deliveries(orders_pb2_grpc.OrderServiceStub(unreachable), dispatcher.wake)
    bus = Bus(nats["hub"], name="hub")
    consumers = [
        Consumer(connected, bus, deliveries, service="hub", source=source, lease_seconds=6.0) for source in SOURCES
    ]
    server = Server(
        Settings.from_environment("hub", issuer.environment),
        [(hub_pb2_grpc.add_HubServiceServicer_to_server, Hub(connected, callbacks, dispatcher, most=most))],
        ready=connected.ready,
        background=[dispatcher, *consumers],
    )
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
    try:
        yield RunningHub(hub_pb2_grpc.HubServiceStub(channel), dispatcher, connected, issuer)
    finally:
        channel.close()
        server.stop()
        unreachable.close()
        connected.close()


def eventually(check: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits until the check holds; fails when it doesn't."""
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it didn't happen in time"
        time.sleep(0.02)
