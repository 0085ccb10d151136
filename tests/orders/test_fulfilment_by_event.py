"""Tasks that external systems complete or fail by events: what is accepted, what is refused, and who hears of it."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats as client_library
import pytest
from nats.aio.client import Client

from chassis.bus import Bus, event_stream
from chassis.cloudevents import ReceivedEvent, headers_of, received, system_user
from chassis.consumer import UNREADABLE, Consumer
from chassis.events import acting
from chassis.outbox import EventOutbox
from chassis.parking import Handler
from chassis.relay import Relay
from chassis.telemetry import CONSUMER_EVENTS
from chassis.types import new_id
from chassis.unit import Unit
from orders.events import person_erased
from orders.fulfilment import inbound, refusal
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.listeners import Listeners
from orders.fulfilment.refusal import RefusedFulfilmentReport
from orders.fulfilment.specification import FulfilmentSpecification
from orders.fulfilment.values import FulfilmentTaskState, RetryPolicy
from orders.inventory.domain import Product
from orders.ordering.store import items_of
from orders.ordering.values import ProductOrderState
from svyaz.customers.v1 import privacy_pb2
from svyaz.orders.v1 import fulfilment_pb2
from svyaz_cli.embedded import Nats, free_port, system_inbox
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import bus_users
from tests import streams
from tests.chassis import things
from tests.conftest import ServiceDatabase
from tests.orders.drill import Floor, World
from tests.orders.test_fulfilment_tasks import task

HOUR = timedelta(hours=1)
COMPLETED, FAILED = "FulfilmentTaskCompleted", "FulfilmentTaskFailed"
LISTENING = "provisioning,resource"
LINE = FulfilmentSpecification(
    id=new_id(),
    branch="*",
    action="add",
    product_specification_id="line",
    task=(task("activate", "provisioning", undo="deactivate", retry=RetryPolicy(attempts=2)),),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """A NATS server that two external systems may use."""
    directory = tmp_path_factory.mktemp("nats")
    nats = Nats(directory, free_port(), Secrets(directory), notes=directory / "run", users=bus_users(LISTENING))
    nats.launch()
    try:
        nats.wait()
        yield nats
    finally:
        nats.stop()


@dataclass
class Desk:
    """A floor, and external systems on the bus."""

    floor: Floor
    world: World
    server: Nats
    handler: Handler = field(default=inbound.reported)

    @contextmanager
    def hearing(self) -> Iterator[Consumer]:
        """While orders hears what systems say."""
        streams = [event_stream("orders"), inbound.report_stream()]
        consumer = Consumer(
            self.floor.database,
            Bus(self.server.url("orders"), name="orders", streams=streams),
            lambda event, unit: self.handler(event, unit),
            service="orders",
            source=inbound.SOURCE,
            read=inbound.report_of,
            lease_seconds=1.0,
        )
        with things.running(consumer):
            things.eventually(lambda: consumer._reading is not None)
            yield consumer

    @contextmanager
    def telling(self) -> Iterator[None]:
        """While orders tells systems of their tasks."""
        bus = Bus(self.server.url("orders"), name="teller", streams=[event_stream("orders")])
        listeners = Listeners(bus, ["provisioning"])
        relay = Relay(
            self.floor.database, bus, EventOutbox(self.floor.database, "orders"), service="orders", stream="ORDERS"
        )
        listeners.start()
        relay.start()
        try:
            yield
        finally:
            relay.stop()
            listeners.stop()

    def as_system(self, system: str, work: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
        """Something that an external system does on the bus."""

        async def run() -> Any:
            url = self.server.url(system_user(system))
            client = await client_library.connect(url, inbox_prefix=system_inbox(system).encode())
            try:
                return await work(client)
            finally:
                await client.close()

        return asyncio.run(run())

    def say(
        self,
        kind: str,
        task_id: str,
        data: bytes,
        *,
        system: str = "provisioning",
        event_id: str = "",
        leave_out: str = "",
        **more: str,
    ) -> None:
        """A system says how a task ended, and knows that the stream has it."""
        headers = {
            "ce-specversion": "1.0",
            "ce-id": event_id or new_id(),
            "ce-source": system,
            "ce-type": kind,
            "ce-subject": f"FulfilmentTask/{task_id}",
            "ce-branch": "bishkek",
            "ce-datacontenttype": "application/protobuf",
            **{f"ce-{name}": value for name, value in more.items()},
        }
        headers.pop(leave_out, None)

        async def publish(client: Client) -> None:
            await client.jetstream().publish(f"svyaz.fulfilment.v1.{system}.{kind}", data, headers=headers)

        self.as_system(system, publish)

    def complete(self, task_id: str, attempt: int = 1, **more: str) -> None:
        """It is done."""
        request = fulfilment_pb2.CompleteFulfilmentTaskRequest(id=task_id, attempt=attempt)
        self.say(COMPLETED, task_id, request.SerializeToString(), **more)

    def fail(self, task_id: str, attempt: int = 1, *, retryable: bool = False, **more: str) -> None:
        """It couldn't be done."""
        request = fulfilment_pb2.FailFulfilmentTaskRequest(
            id=task_id, attempt=attempt, reason="no such port", retryable=retryable
        )
        self.say(FAILED, task_id, request.SerializeToString(), **more)

    def refusals(self, branch: str = "bishkek") -> list[RefusedFulfilmentReport]:
        """What was refused so far, in order."""
        with acting("orders", "test", branch), self.floor.database.unit() as unit:
            return list(unit.load(RefusedFulfilmentReport, "true ORDER BY refused_at, id", {}))

    def refused(self, number: int) -> list[tuple[str, str | None]]:
        """Why so many were refused, when they have been: reason and field."""
        things.eventually(lambda: len(self.refusals()) >= number)
        return [(one.reason, one.field) for one in self.refusals()]

    def told(self) -> tuple[str, FulfilmentTask]:
        """An order whose task its system has been told of."""
        order_id = self.floor.order("line")
        self.floor.work()
        (told,) = self.floor.tasks(order_id)
        assert told.sent
        return order_id, told

    def is_in(self, order_id: str, state: FulfilmentTaskState, attempt: int = 1) -> None:
        """The order's task gets there."""

        def there() -> bool:
            (now,) = self.floor.tasks(order_id)
            return (now.state, now.attempt) == (state, attempt)

        things.eventually(there)


@pytest.fixture
def desk(database_for: Callable[..., ServiceDatabase], server: Nats, tmp_path: Path) -> Iterator[Desk]:
    async def clean() -> None:
        client = await client_library.connect(server.url("admin"))
        for info in await client.jetstream().streams_info():
            await client.jetstream().delete_stream(str(info.config.name))
        for stream in (event_stream("orders"), inbound.report_stream()):
            await streams.add(client.jetstream(), stream)
        await client.close()

    asyncio.run(clean())
    world = World()
    world.by_event = {"activate"}
    floor = Floor(database_for("orders").url, tmp_path / "offset", world)
    floor.specify(LINE)
    yield Desk(floor, world, server)
    floor.database.close()


# --- what is accepted ------------------------------------------------------------------------------------------------


def test_a_system_completes_its_task_by_an_event_with_what_came_of_it(desk: Desk) -> None:
    order_id, told = desk.told()
    body = {"id": told.id, "attempt": 1, "result": [{"name": "vlan", "valueType": "string", "value": "7"}]}
    with desk.hearing():
        desk.say(COMPLETED, told.id, json.dumps(body).encode(), datacontenttype="application/json")
        desk.is_in(order_id, FulfilmentTaskState.COMPLETED)
    desk.floor.work()
    assert desk.floor.state(order_id) is ProductOrderState.COMPLETED
    (item,) = desk.floor.do(lambda unit: list(items_of(unit, order_id)))
    product = desk.floor.do(lambda unit: unit.get(Product, item.product_id))
    assert [(one.name, one.value.text) for one in product.product_characteristic if one.name == "vlan"] == [
        ("vlan", '"7"')
    ]
    assert desk.refusals() == []
    with acting("orders", "test"), desk.floor.database.unit() as unit:
        query = "SELECT actor, on_behalf_of FROM event WHERE aggregate_id = %(id)s ORDER BY version DESC LIMIT 1"
        actors = unit.cursor().execute(query, {"id": told.id}).fetchone()
    assert actors is not None
    assert actors[1] == "fulfilment-provisioning"


def test_an_attempt_that_has_failed_is_followed_by_another_and_the_last_goes_to_a_person(desk: Desk) -> None:
    order_id, told = desk.told()
    with desk.hearing():
        desk.fail(told.id, retryable=True)
        desk.is_in(order_id, FulfilmentTaskState.IN_PROGRESS, 2)
        desk.floor.pass_by(HOUR)
        desk.floor.work()
        # The attempt that is over may say so again.
        desk.fail(told.id, retryable=True)
        desk.fail(told.id, 2, retryable=True)
        desk.is_in(order_id, FulfilmentTaskState.HELD, 2)
        desk.fail(told.id, 2)
        # One that hasn't begun can't have failed, and it isn't awaited.
        desk.fail(told.id, 3)
        assert desk.refused(1) == [("TASK_CLOSED", None)]
    assert desk.floor.tasks(order_id)[0].reason == "no such port"


def test_what_is_said_twice_is_done_once(desk: Desk) -> None:
    order_id, told = desk.told()
    handled: list[str] = []

    def note(event: ReceivedEvent, unit: Unit) -> None:
        inbound.reported(event, unit)
        unit.after_commit(lambda: handled.append(event.id))

    desk.handler = note
    with desk.hearing():
        desk.complete(told.id, event_id="one")
        desk.complete(told.id, event_id="one")
        # After a restart, by somebody who doesn't know under which id he has said it.
        desk.complete(told.id, event_id="two")
        things.eventually(lambda: "two" in handled)
    # It comes once more, to who begins where he was before a restore.
    with acting("orders", "test"), desk.floor.database.unit() as unit:
        unit.cursor().execute("DELETE FROM consumer_position WHERE consumer = %(name)s", {"name": inbound.CONSUMER})
    with desk.hearing():
        desk.complete(told.id, event_id="three")
        things.eventually(lambda: "three" in handled)
    assert handled == ["one", "two", "three"]
    assert desk.floor.tasks(order_id)[0].revision == told.revision + 1
    assert desk.refusals() == []


def test_what_a_system_says_while_orders_is_away_is_heard_later(desk: Desk) -> None:
    order_id, told = desk.told()
    desk.complete(told.id)
    with desk.hearing():
        desk.is_in(order_id, FulfilmentTaskState.COMPLETED)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_what_nobody_awaits_is_kept_and_holds_up_nothing(desk: Desk) -> None:
    order_id, told = desk.told()
    with desk.hearing():
        desk.complete("nobody", event_id="unknown")
        assert desk.refused(1) == [("NOT_FOUND", None)]
        desk.complete(told.id, system="resource")
        assert desk.refused(2)[1] == ("OTHER_SYSTEM", None)
        desk.complete(told.id, 2)
        assert desk.refused(3)[2] == ("BAD_ATTEMPT", "attempt")
        desk.complete(told.id, branch="osh")
        things.eventually(lambda: bool(desk.refusals("osh")))
        assert [one.reason for one in desk.refusals("osh")] == ["NOT_FOUND"]
        desk.complete(told.id)
        desk.is_in(order_id, FulfilmentTaskState.COMPLETED)
        desk.complete(told.id, 2)
        assert desk.refused(4)[3] == ("TASK_CLOSED", None)
    first, other, *_, last = desk.refusals()
    assert (first.system, first.event_id, first.event_type) == ("provisioning", "unknown", COMPLETED)
    assert (first.fulfilment_task_id, first.product_order_id, first.attempt) == ("nobody", None, 1)
    assert (other.system, other.product_order_id) == ("resource", order_id)
    assert (last.fulfilment_task_id, last.attempt) == (told.id, 2)


_REQUEST = fulfilment_pb2.CompleteFulfilmentTaskRequest
MALFORMED: Mapping[str, tuple[Callable[[str], bytes], dict[str, str]]] = {
    "id": (lambda task_id: _REQUEST(id="another", attempt=1).SerializeToString(), {}),
    "data": (lambda task_id: b"\xff\xff", {}),
    "ce-type": (lambda task_id: _REQUEST(id=task_id, attempt=1).SerializeToString(), {"type": FAILED}),
    "ce-specversion": (lambda task_id: _REQUEST(id=task_id, attempt=1).SerializeToString(), {"specversion": "0.3"}),
    "ce-datacontenttype": (lambda task_id: b"<done/>", {"datacontenttype": "text/xml"}),
    "ce-subject": (lambda task_id: _REQUEST(id=task_id, attempt=1).SerializeToString(), {"subject": "Task/1"}),
    "attempt": (
        lambda task_id: json.dumps({"id": task_id, "attempt": "first"}).encode(),
        {"datacontenttype": "application/json"},
    ),
    "attempts": (
        lambda task_id: json.dumps({"id": task_id, "attempts": 1}).encode(),
        {"datacontenttype": "application/json; charset=utf-8"},
    ),
}


@pytest.mark.parametrize("what", sorted(MALFORMED))
def test_what_cant_be_read_is_refused_by_the_name_of_what_is_wrong(desk: Desk, what: str) -> None:
    order_id, told = desk.told()
    data, headers = MALFORMED[what]
    with desk.hearing():
        desk.say(COMPLETED, told.id, data(told.id), **headers)
        assert desk.refused(1) == [("MALFORMED_REPORT", what)]
        desk.complete(told.id)
        desk.is_in(order_id, FulfilmentTaskState.COMPLETED)


@pytest.mark.parametrize("field", ["reason", "value"])
def test_a_character_that_no_database_keeps_is_refused(desk: Desk, field: str) -> None:
    _, told = desk.told()
    if field == "reason":
        kind = FAILED
        data = fulfilment_pb2.FailFulfilmentTaskRequest(id=told.id, attempt=1, reason="a\0b").SerializeToString()
    else:
        kind, request = COMPLETED, _REQUEST(id=told.id, attempt=1)
        request.result.add(name="vlan", value=b'"a\\u0000b"')
        data = request.SerializeToString()
    with desk.hearing():
        desk.say(kind, told.id, data)
        assert desk.refused(1) == [("MALFORMED_REPORT", "data")]


def test_a_value_that_isnt_one_is_refused(desk: Desk) -> None:
    _, told = desk.told()
    request = _REQUEST(id=told.id, attempt=1)
    request.result.add(name="vlan", value=b"\xff")
    with desk.hearing():
        desk.say(COMPLETED, told.id, request.SerializeToString())
        ((reason, field),) = desk.refused(1)
    assert (reason, field) != ("", None)
    assert desk.floor.tasks(told.product_order_id)[0].state is FulfilmentTaskState.IN_PROGRESS


@pytest.mark.parametrize("header", ["ce-id", "ce-branch"])
def test_what_says_nobody_whom_to_tell_stays_in_the_stream_and_is_counted(desk: Desk, header: str) -> None:
    order_id, told = desk.told()
    counter = CONSUMER_EVENTS.labels("orders", inbound.CONSUMER, UNREADABLE)
    before = counter._value.get()
    with desk.hearing():
        desk.complete(told.id, leave_out=header)
        desk.complete(told.id, branch="*")
        desk.complete(told.id)
        desk.is_in(order_id, FulfilmentTaskState.COMPLETED)
    assert counter._value.get() == before + 2
    assert desk.refusals() == []


def test_a_refusal_is_forgotten_after_ninety_days(desk: Desk) -> None:
    with desk.hearing():
        desk.complete("nobody")
        desk.refused(1)
    (refused,) = desk.refusals()
    with acting("orders", "test"), desk.floor.database.unit() as unit:
        query = "SELECT due FROM timer WHERE aggregate_id = %(id)s AND purpose = %(purpose)s"
        (due,) = unit.cursor().execute(query, {"id": refused.id, "purpose": refusal.FORGET}).fetchone() or (None,)
    assert due - refused.refused_at == timedelta(days=90)
    desk.floor.do(lambda unit: refusal.timers()[refusal.FORGET](refused.id, unit))
    assert desk.refusals() == []


def test_an_erasure_takes_what_is_personal_out_of_refused_and_parked_reports(desk: Desk) -> None:
    order_id, told = desk.told()

    def broken(event: ReceivedEvent, unit: Unit) -> None:
        raise RuntimeError("a mistake of ours")

    with desk.hearing() as consumer:
        desk.complete(told.id, 2)
        desk.refused(1)
        desk.handler = broken
        desk.fail(told.id)
        things.eventually(lambda: _parked(desk) != [])
        assert b"no such port" in _parked(desk)[0]
        erasure = privacy_pb2.Erasure(id=new_id(), branch="bishkek")
        erasure.record.add(kind="ProductOrder", id=order_id)
        desk.floor.do(lambda unit: person_erased(_erasure(erasure), unit))
        assert [one.message for one in desk.refusals()] == [None]
        assert b"no such port" not in _parked(desk)[0]
        # What a person replays is handled as it would have been.
        desk.handler = inbound.reported
        assert consumer.replay(told.id).failure is None
    desk.is_in(order_id, FulfilmentTaskState.HELD)


def _parked(desk: Desk) -> list[bytes]:
    with acting("orders", "test"), desk.floor.database.unit() as unit:
        return [bytes(row[0]) for row in unit.cursor().execute("SELECT data FROM parked_event")]


def _erasure(erasure: privacy_pb2.Erasure) -> ReceivedEvent:
    headers = headers_of(
        id=new_id(),
        source="svyaz/customers",
        type="ErasureCreateEvent",
        time=datetime.now(UTC),
        aggregate_type="Erasure",
        aggregate_id=erasure.id,
        version=1,
        branch=erasure.branch,
        key=erasure.id,
        actor="somebody",
        on_behalf_of=None,
        schema_revision=1,
        data_type=erasure.DESCRIPTOR.full_name,
        traceparent=None,
    )
    return received("svyaz.customers.v1.00.ErasureCreateEvent", headers, erasure.SerializeToString(), 1)


# --- what a system hears ---------------------------------------------------------------------------------------------


def _hear(desk: Desk, wanted: Callable[[Any], bool]) -> Any:
    """What provisioning hears by the consumer that is kept for it: the first event that is wanted."""

    async def listen(client: Client) -> Any:
        heard = await client.jetstream().pull_subscribe_bind(consumer=system_user("provisioning"), stream="ORDERS")
        while True:
            for message in await heard.fetch(10, timeout=30):
                await message.ack()
                if wanted(message):
                    return message

    return desk.as_system("provisioning", listen)


def test_a_system_that_was_away_hears_of_its_task_and_of_what_was_refused(desk: Desk) -> None:
    with desk.telling():
        order_id, told = desk.told()
        things.eventually(lambda: _has_consumer(desk))
    with desk.telling(), desk.hearing():

        def mine(message: Any) -> bool:
            heard = message.headers["ce-datatype"] == fulfilment_pb2.FulfilmentTask.DESCRIPTOR.full_name
            one = fulfilment_pb2.FulfilmentTask.FromString(message.data) if heard else None
            return one is not None and one.id == told.id and one.sent

        message = _hear(desk, mine)
        assert message.headers["ce-branch"] == "bishkek"
        desk.complete(told.id, 7, event_id="mistaken")
        message = _hear(desk, lambda one: one.headers["ce-type"] == "RefusedFulfilmentReportCreateEvent")
        refused = fulfilment_pb2.RefusedFulfilmentReport.FromString(message.data)
        assert (refused.system, refused.event_id, refused.reason) == ("provisioning", "mistaken", "BAD_ATTEMPT")
        assert refused.product_order_id == order_id


def _has_consumer(desk: Desk) -> bool:
    async def ask() -> bool:
        client = await client_library.connect(desk.server.url("admin"))
        try:
            names = [info.name for info in await client.jetstream().consumers_info("ORDERS")]
        finally:
            await client.close()
        return system_user("provisioning") in names

    return asyncio.run(ask())
