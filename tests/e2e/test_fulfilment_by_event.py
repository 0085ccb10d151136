"""An external system on the real platform: it hears of its tasks by the bus, says by the bus how they ended, and either
side may be away meanwhile."""

import asyncio
import json
import os
import signal
import uuid
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from chassis.cloudevents import system_user
from svyaz.orders.v1 import fulfilment_pb2
from svyaz_cli.embedded import Nats, system_inbox
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import NATS_OFFSET, bus_users
from tests.e2e.branch import CATALOG, Branch, eventually, price
from tests.platforms import RunningPlatform, running_platform

pytestmark = pytest.mark.timeout(600)

SYSTEM = "network"
ENVIRONMENT = {"FULFILMENT_BY_EVENT": SYSTEM, "FULFILMENT_SIMULATED": ""}
DONE = fulfilment_pb2.FULFILMENT_TASK_STATE_COMPLETED


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform whose network is a system of its own."""
    with running_platform(Path(tmp_path_factory.mktemp("platform")), environment=ENVIRONMENT) as running:
        yield running


class Network:
    """The network's own program: nothing but a client of NATS."""

    def __init__(self, platform: RunningPlatform) -> None:
        directory, port = platform.home.directory, platform.base + NATS_OFFSET
        users = bus_users(SYSTEM)
        server = Nats(directory / "nats", port, Secrets(directory), notes=directory / "run", users=users)
        self._url = server.url(system_user(SYSTEM))

    def _do(self, work: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
        async def run() -> Any:
            client = await nats.connect(self._url, inbox_prefix=system_inbox(SYSTEM).encode())
            try:
                return await work(client)
            finally:
                await client.close()

        return asyncio.run(run())

    def hear(self, wanted: Callable[[Msg], bool], seconds: float = 60) -> list[Msg]:
        """What it was told since it last heard, up to the first event that is wanted; without one, all in that time."""

        async def listen(client: Client) -> list[Msg]:
            told = await client.jetstream().pull_subscribe_bind(consumer=system_user(SYSTEM), stream="ORDERS")
            heard: list[Msg] = []
            while not heard or not wanted(heard[-1]):
                try:
                    (message,) = await told.fetch(1, timeout=seconds)
                except nats.errors.TimeoutError:
                    break
                await message.ack()
                heard.append(message)
            return heard

        found: list[Msg] = self._do(listen)
        return found

    def completed(self, task: fulfilment_pb2.FulfilmentTask, attempt: int, event_id: str) -> None:
        """Says that it is done."""
        headers = {
            "ce-specversion": "1.0",
            "ce-id": event_id,
            "ce-source": "network.example",
            "ce-type": "FulfilmentTaskCompleted",
            "ce-subject": f"FulfilmentTask/{task.id}",
            "ce-branch": task.branch,
            "ce-datacontenttype": "application/json",
        }
        data = json.dumps({"id": task.id, "attempt": attempt}).encode()

        async def publish(client: Client) -> None:
            await client.jetstream().publish(
                "svyaz.fulfilment.v1.network.FulfilmentTaskCompleted", data, headers=headers
            )

        self._do(publish)


def task_in(message: Msg) -> fulfilment_pb2.FulfilmentTask | None:
    """The task that an event is about."""
    about_task = (message.headers or {})["ce-subject"].startswith("FulfilmentTask/")
    return fulfilment_pb2.FulfilmentTask.FromString(message.data) if about_task else None


def test_a_system_hears_and_answers_by_events_whoever_is_away(platform: RunningPlatform, branch: Branch) -> None:
    offering = branch.offering("Line", [price("Monthly fee", "300")])
    specification = branch.get(f"{CATALOG}/productOffering/{offering}")["productSpecification"]["id"]
    plan = [
        {"name": "activate", "system": SYSTEM, "operation": "activate", "compensation": {"operation": "deactivate"}}
    ]
    body = {"name": "Line", "productSpecificationId": specification, "action": "add", "task": plan}
    path = "/fulfilment/v1/createFulfilmentSpecification"
    branch.persist("POST", path, {"fulfilmentSpecification": body}, role="admin")
    customer, account = branch.customer("Айгуль", "Сыдыкова")
    order_id = branch.order(customer, account, offering)["id"]

    def tasks() -> list[dict[str, Any]]:
        wanted = {"filter": [{"path": "product_order_id", "value": [order_id]}]}
        found: list[dict[str, Any]] = branch.persist("POST", "/fulfilment/v1/listFulfilmentTasks", wanted).get(
            "items", []
        )
        return found

    # All this while the network is down; when it comes, it hears of its task.
    eventually(lambda: any(one.get("sent") for one in tasks()), 60, lambda: f"nobody was told: {tasks()}")
    network = Network(platform)
    *_, last = network.hear(lambda message: (told := task_in(message)) is not None and told.sent)
    told = task_in(last)
    assert told is not None
    assert (told.product_order_id, told.attempt) == (order_id, 1)

    # Orders is killed between the report and what it does of it.
    orders = platform.pid("orders")
    os.kill(orders, signal.SIGSTOP)
    event_id = str(uuid.uuid4())
    network.completed(told, 1, event_id)
    os.kill(orders, signal.SIGKILL)
    assert branch.ended(order_id, 90)["state"] == "completed"

    # Said again, and said of an attempt that never was: the one changes nothing, of the other the system hears.
    network.completed(told, 1, event_id)
    network.completed(told, 1, str(uuid.uuid4()))
    network.completed(told, 2, "mistaken")
    heard = network.hear(lambda message: task_in(message) is None)
    assert [one.state for one in map(task_in, heard) if one is not None] == [DONE]
    refused = fulfilment_pb2.RefusedFulfilmentReport.FromString(heard[-1].data)
    assert (refused.event_id, refused.reason, refused.product_order_id) == ("mistaken", "TASK_CLOSED", order_id)
    listed = branch.persist("POST", "/fulfilment/v1/listRefusedFulfilmentReports", {})["items"]
    assert [(one["system"], one["eventId"], one["fulfilmentTaskId"]) for one in listed] == [
        (SYSTEM, "mistaken", told.id)
    ]
