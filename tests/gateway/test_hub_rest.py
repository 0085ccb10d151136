"""The hubs over REST, with every process real: what is registered at the gateway is told about real changes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from standardwebhooks.webhooks import Webhook

from svyaz_cli.issuer import Issuer
from tests.gateway.hubs import Receiver, eventually
from tests.running import Api, Running

CUSTOMERS = "/tmf-api/customerManagement/v4"
ORDERING = "/tmf-api/productOrderingManagement/v4"
CATALOG = "/tmf-api/productCatalogManagement/v4"


@pytest.fixture(scope="session")
def api(caller: Callable[..., Api]) -> Api:
    """An admin of the branch bishkek."""
    return caller(["admin"], ["bishkek"])


@pytest.fixture(scope="session")
def osh(caller: Callable[..., Api]) -> Api:
    """An admin of another branch."""
    return caller(["admin"], ["osh"])


@pytest.fixture(autouse=True)
def hub_serves(api: Api) -> None:
    """The gateway is ready without the hub; these tests aren't."""
    eventually(lambda: api.get(f"{CUSTOMERS}/hub").status_code == 200)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A callback that accepts everything."""
    made = Receiver()
    yield made
    made.close()


def customer(name: str) -> dict[str, Any]:
    """A body that makes a customer."""
    return {"name": name, "engagedParty": {"id": "500", "@referredType": "Individual"}}


def test_a_hub_is_registered_shown_and_deleted(api: Api, osh: Api, receiver: Receiver) -> None:
    body = {"callback": receiver.url, "query": "eventType=CustomerCreateEvent", "ourName": "CRM"}
    answer = api.post(f"{CUSTOMERS}/hub", body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["Location"] == made["href"] == f"{CUSTOMERS}/hub/{made['id']}"
    assert made.items() >= body.items()
    assert made["secret"].startswith("whsec_")
    assert made["state"] == "active"
    shown = api.get(made["href"]).json()
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    listed = api.get(f"{CUSTOMERS}/hub")
    assert listed.status_code == 200
    assert shown in listed.json()
    # Neither another branch's nor another API's.
    assert osh.get(made["href"]).status_code == 404
    assert osh.delete(made["href"]).status_code == 404
    assert shown not in osh.get(f"{CUSTOMERS}/hub").json()
    elsewhere = f"{ORDERING}/hub/{made['id']}"
    assert api.get(elsewhere).status_code == 404
    assert api.delete(elsewhere).status_code == 404
    assert shown not in api.get(f"{ORDERING}/hub").json()
    assert api.patch(made["href"], {"callback": "http://example.com/"}).status_code == 405
    assert api.delete(made["href"]).status_code == 204
    assert api.get(made["href"]).status_code == 404


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "callback"),
        ({"callback": 5}, "callback"),
        ({"callback": "ftp://example.com/"}, "callback"),
        ({"callback": "http://example.com/", "query": "eventType=ProductCreateEvent"}, "query"),
    ],
)
def test_a_bad_registration_names_its_attribute(api: Api, body: dict[str, Any], path: str) -> None:
    answer = api.post(f"{CUSTOMERS}/hub", body)
    assert answer.status_code == 400, answer.text
    assert [detail["path"] for detail in answer.json()["details"]] == [path]


def test_a_registration_with_the_same_key_is_made_once(api: Api, receiver: Receiver) -> None:
    body = {"callback": receiver.url}
    first, second = (api.made(f"{CUSTOMERS}/hub", body, Idempotency_Key="the-same") for _ in range(2))
    assert first == second
    # So is its deletion: an answer that was lost on its way is given again.
    for _ in range(2):
        assert api.delete(first["href"], Idempotency_Key="gone").status_code == 204
    assert api.delete(first["href"], Idempotency_Key="another").status_code == 404
    assert api.delete(first["href"]).status_code == 404


def test_an_event_shows_the_resource_as_the_gateway_does(
    api: Api, osh: Api, running: Running, receiver: Receiver
) -> None:
    hub = api.made(f"{CUSTOMERS}/hub", {"callback": receiver.url})
    osh.made(f"{CUSTOMERS}/customer", customer("not for us"))
    made = api.made(f"{CUSTOMERS}/customer", customer("Айгүл") | {"limit": 1.10})
    api.patch(made["href"], {"name": "Айгүл Т."})
    eventually(lambda: len(receiver.accepted) >= 2)
    first, second = receiver.accepted
    assert (first.event["eventType"], first.resource) == ("CustomerCreateEvent", made)
    assert second.event["eventType"] == "CustomerAttributeValueChangeEvent"
    assert second.resource == api.get(made["href"]).json()
    Webhook(hub["secret"]).verify(first.body, dict(first.headers))
    assert api.delete(hub["href"]).status_code == 204
    metrics = httpx.get(f"http://127.0.0.1:{running.metrics_ports['hub']}/metrics").text
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    assert samples["svyaz_hub_deliveries_total", "delivered"] >= 2
    assert samples["svyaz_hub_suspended_subscriptions",] == 0


def test_the_events_of_an_order_hold_its_items(api: Api, receiver: Receiver) -> None:
    hub = api.made(f"{ORDERING}/hub", {"callback": receiver.url, "query": "productOrderItem.action=add"})
    # An item without an offering: the order waits for its customer to say which.
    items = [{"id": "1", "action": "add", "quantity": 2}, {"id": "2", "action": "add"}]
    made = api.made(
        f"{ORDERING}/productOrder",
        {"productOrderItem": items, "relatedParty": [{"id": "500", "@referredType": "Individual"}]},
    )
    pending = "ProductOrderInformationRequiredEvent"
    eventually(lambda: pending in [request.event["eventType"] for request in receiver.accepted])
    assert receiver.accepted[0].event["eventType"] == "ProductOrderCreateEvent"
    assert receiver.accepted[0].resource == made
    for request in receiver.accepted:
        assert [item["id"] for item in request.resource["productOrderItem"]] == ["1", "2"]
        assert request.resource["href"] == made["href"]
    assert receiver.accepted[-1].resource["state"] == "pending"
    assert api.delete(made["href"]).status_code == 204
    eventually(lambda: receiver.accepted[-1].event["eventType"] == "ProductOrderDeleteEvent")
    assert [item["id"] for item in receiver.accepted[-1].resource["productOrderItem"]] == ["1", "2"]
    assert api.delete(hub["href"]).status_code == 204


def test_the_catalog_is_told_to_every_branch(api: Api, osh: Api, receiver: Receiver) -> None:
    hub = osh.made(f"{CATALOG}/hub", {"callback": receiver.url, "query": "eventType=CategoryCreateEvent"})
    made = api.made(f"{CATALOG}/category", {"name": "Mobile"})
    eventually(lambda: [request.resource for request in receiver.accepted] == [made])
    assert osh.delete(hub["href"]).status_code == 204


def test_a_suspended_callback_is_found_and_resumed_from_the_command_line(
    api: Api, running: Running, issuer: Issuer, receiver: Receiver
) -> None:
    receiver.status = lambda request: 410
    hub = api.made(f"{CUSTOMERS}/hub", {"callback": receiver.url})
    api.made(f"{CUSTOMERS}/customer", customer("waits"))
    eventually(lambda: api.get(hub["href"]).json()["state"] == "suspended")

    def svyaz(*words: str) -> list[dict[str, Any]]:
        known = {"HUB_ADDRESS": f"127.0.0.1:{running.ports['hub']}", "SVYAZ_TOKEN": issuer.token(["sre"], ["*"])}
        command = [sys.executable, "-m", "svyaz_cli.main", "hub", *words]
        done = subprocess.run(command, env={**os.environ, **known}, capture_output=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    (found,) = svyaz("list", "--suspended")
    assert (found["id"], found["callback"]) == (hub["id"], receiver.url)
    assert "410" in found["state_reason"]
    receiver.status = lambda request: 200
    svyaz("resume", hub["id"])
    eventually(lambda: receiver.names() == ["waits"])
    assert api.get(hub["href"]).json()["state"] == "active"
    assert svyaz("list", "--suspended") == []
    assert api.delete(hub["href"]).status_code == 204
