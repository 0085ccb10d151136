"""The hub's promises: the right events to the right callbacks, in order, signed, nothing lost; nobody inside called."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import grpc
import jsonschema
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from chassis import migrate
from chassis.clients import domain_error
from chassis.types import new_id
from gateway.hub import delivery
from gateway.hub.store import metadata
from svyaz.catalog.v1 import catalog_pb2
from svyaz.customers.v1 import customers_pb2, party_pb2
from svyaz.hub.v1 import hub_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from svyaz_cli.issuer import Issuer
from tests.conftest import ServiceDatabase
from tests.gateway.hubs import CATALOG, CUSTOMERS, Receiver, Request, RunningHub, Streams, eventually, running_hub


@pytest.fixture
def hub_database(database_for: Callable[..., ServiceDatabase]) -> ServiceDatabase:
    """An empty hub's database."""
    return database_for("hub")


@pytest.fixture
def streams(nats: Mapping[str, str]) -> Streams:
    """Empty streams of the services."""
    made = Streams(nats["admin"])
    made.clear()
    return made


@pytest.fixture
def hub(
    hub_database: ServiceDatabase, nats: Mapping[str, str], issuer: Issuer, streams: Streams
) -> Iterator[RunningHub]:
    """A hub that may call this machine."""
    with running_hub(hub_database, nats, issuer) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A callback that accepts everything."""
    made = Receiver()
    yield made
    made.close()


def customer(name: str, id: str = "", status: str = "") -> customers_pb2.Customer:
    """A customer; a new one unless told which."""
    return customers_pb2.Customer(id=id or new_id(), branch="bishkek", etag="1", name=name, status=status or None)


def refused(error: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    """The status of a refusal."""
    return error.value.code()


def test_the_tables_are_those_of_the_migrations(hub_database: ServiceDatabase) -> None:
    assert migrate.differences(hub_database.owner_url, metadata) == []


def test_an_event_carries_the_whole_resource_as_the_gateway_shows_it(
    hub: RunningHub, streams: Streams, receiver: Receiver
) -> None:
    hub.subscribe(receiver.url)
    whole = customers_pb2.Customer(
        id="c-1",
        branch="bishkek",
        etag="1",
        name="Айгүл",
        status="approved",
        engaged_party=values_pb2.RelatedParty(id="p-1", name="Айгүл Токтогулова"),
        credit_profile=[customers_pb2.CreditProfile(credit_score=7)],
        extensions=b'{"limit":437011234567890123.10,"loyal":true}',
    )
    streams.put("customers", whole)
    eventually(lambda: len(receiver.accepted) == 1)
    request = receiver.accepted[0]
    assert request.path == "/listener"
    assert request.headers["content-type"] == "application/json"
    event = request.event
    assert event["eventType"] == event["title"] == "CustomerCreateEvent"
    assert event["eventTime"] == event["timeOcurred"]
    assert event["eventTime"].endswith("Z")
    assert event["eventId"] == request.headers["webhook-id"]
    assert event["correlationId"] == "0af7651916cd43dd8448eb211c80319c"
    assert event["domain"] == CUSTOMERS
    assert event["event"] == {
        "customer": {
            "id": "c-1",
            "href": "/tmf-api/customerManagement/v4/customer/c-1",
            "branch": "bishkek",
            "name": "Айгүл",
            "status": "approved",
            "engagedParty": {"id": "p-1", "name": "Айгүл Токтогулова"},
            "creditProfile": [{"creditScore": 7}],
            "limit": 437011234567890123.10,
            "loyal": True,
            "@type": "Customer",
        }
    }
    # Digit by digit.
    assert b"437011234567890123.10" in request.body


def test_the_event_is_valid_against_tm_forums_schema(
    hub: RunningHub, streams: Streams, receiver: Receiver, shared: Path
) -> None:
    file = shared / "tmf" / "specs" / "TMF629-Customer-v4.0.0.swagger.json"
    schema = json.loads(file.read_text())
    hub.subscribe(receiver.url)
    party = values_pb2.RelatedParty(id="p-1", at_referred_type="Individual")
    streams.put("customers", customers_pb2.Customer(id="c-1", branch="bishkek", name="Bakyt", engaged_party=party))
    eventually(lambda: len(receiver.accepted) == 1)
    validator = jsonschema.Draft4Validator({**schema, "$ref": "#/definitions/CustomerCreateEvent"})
    assert list(validator.iter_errors(receiver.accepted[0].event)) == []


def test_only_what_the_query_names_is_told(hub: RunningHub, streams: Streams, receiver: Receiver) -> None:
    hub.subscribe(receiver.url, "eventType=CustomerStateChangeEvent&status=closed,suspended&fields=status,name")
    streams.put("customers", customer("first", "a", "closed"), customer("second", "b", "approved"))
    streams.put("customers", customer("second", "b", "approved"), customer("first", "a", "suspended"))
    streams.put("customers", customer("third", "a", "closed"), kind="AttributeValueChange")
    streams.put("customers", customer("last", "b", "closed"))
    eventually(lambda: len(receiver.accepted) == 2)
    # Order is promised for each entity, not between them.
    assert sorted((request.resource for request in receiver.accepted), key=lambda shown: shown["id"]) == [
        {
            "id": "a",
            "href": "/tmf-api/customerManagement/v4/customer/a",
            "name": "first",
            "status": "suspended",
            "@type": "Customer",
        },
        {
            "id": "b",
            "href": "/tmf-api/customerManagement/v4/customer/b",
            "name": "last",
            "status": "closed",
            "@type": "Customer",
        },
    ]


def test_a_branch_never_hears_of_another(hub: RunningHub, streams: Streams, receiver: Receiver) -> None:
    other = Receiver()
    hub.subscribe(receiver.url, branch="bishkek")
    hub.subscribe(other.url, branch="osh")
    streams.put("customers", customer("ours"), branch="bishkek")
    streams.put("customers", customer("theirs"), branch="osh")
    eventually(lambda: receiver.names() == ["ours"] and other.names() == ["theirs"])
    eventually(lambda: hub.waiting() == 0)
    other.close()
    assert receiver.names() == ["ours"]


def test_the_catalog_is_everybodys_and_an_apis_hub_tells_of_its_own_resources(
    hub: RunningHub, streams: Streams, receiver: Receiver
) -> None:
    other, parties = Receiver(), Receiver()
    hub.subscribe(receiver.url, api=CATALOG, branch="bishkek")
    hub.subscribe(other.url, api=CATALOG, branch="osh")
    hub.subscribe(parties.url, api="party", branch="bishkek")
    streams.put("catalog", catalog_pb2.ProductOffering(id="o", branch="*", name="Tariff"), branch="*")
    streams.put("customers", customer("somebody"))
    streams.put("customers", party_pb2.Individual(id="i", branch="bishkek", given_name="Bakyt"))
    eventually(lambda: len(receiver.accepted) == len(other.accepted) == len(parties.accepted) == 1)
    eventually(lambda: hub.waiting() == 0)
    other.close()
    parties.close()
    assert receiver.names() == other.names() == ["Tariff"]
    assert "branch" not in receiver.accepted[0].resource
    assert list(parties.accepted[0].event["event"]) == ["individual"]


def test_a_delivery_is_signed_with_the_secret_that_was_told_once(
    hub: RunningHub, streams: Streams, receiver: Receiver
) -> None:
    made = hub.subscribe(receiver.url)
    assert made.secret.startswith("whsec_")
    assert not hub.call("GetSubscription", requests_pb2.GetRequest(id=made.id)).secret
    (listed,) = hub.call("ListSubscriptions", requests_pb2.ListRequest()).items
    assert not listed.secret
    streams.put("customers", customer("Bakyt"))
    eventually(lambda: len(receiver.accepted) == 1)
    request = receiver.accepted[0]
    assert Webhook(made.secret).verify(request.body, dict(request.headers)) == request.event
    with pytest.raises(WebhookVerificationError):
        Webhook(made.secret).verify(request.body.replace(b"Bakyt", b"Azamat"), dict(request.headers))


def test_each_entitys_order_is_kept_while_its_callback_fails_now_and_then(
    hub: RunningHub, streams: Streams, receiver: Receiver
) -> None:
    asked: dict[str, int] = {}

    def flaky(request: Request) -> int:
        event = request.event["eventId"]
        asked[event] = asked.get(event, 0) + 1
        # A third of the events fails at first, half of them twice.
        return 503 if asked[event] <= (0, 0, 0, 0, 1, 2)[int(event[-4:], 16) % 6] else 204

    receiver.status = flaky
    hub.subscribe(receiver.url)
    for number in range(8):
        streams.put("customers", *(customer(str(number), f"entity-{entity}") for entity in range(10)))

    def done() -> bool:
        hub.due_now()
        return len({request.event["eventId"] for request in receiver.accepted}) == 80

    eventually(done, 60)
    eventually(lambda: hub.waiting() == 0)
    assert len(receiver.asked) > len(receiver.accepted)
    for entity in range(10):
        seen = [int(r.resource["name"]) for r in receiver.accepted if r.resource["id"] == f"entity-{entity}"]
        assert seen == list(range(8))


def test_a_failing_entity_holds_up_itself_alone_and_is_tried_again_by_itself(
    hub: RunningHub, streams: Streams, receiver: Receiver
) -> None:
    refusing = True
    receiver.status = lambda request: 500 if refusing and request.resource["id"] == "bad" else 200
    hub.subscribe(receiver.url)
    streams.put("customers", customer("1", "bad"), customer("2", "bad"), customer("3", "good"), customer("4", "good"))
    eventually(lambda: receiver.names() == ["3", "4"])
    refusing = False
    eventually(lambda: receiver.names() == ["3", "4", "1", "2"])
    attempts = [request for request in receiver.asked if request.resource["name"] == "1"]
    assert attempts[1].at - attempts[0].at > 0.7
    assert len({request.headers["webhook-id"] for request in attempts}) == 1
    assert len({request.body for request in attempts}) == 1


def test_a_callback_that_goes_on_failing_is_asked_ever_more_seldom(
    hub: RunningHub, streams: Streams, receiver: Receiver
) -> None:
    receiver.status = lambda request: 500
    hub.subscribe(receiver.url)
    streams.put("customers", customer("1"))
    eventually(lambda: len(receiver.asked) == 4)
    gaps = [after.at - before.at for before, after in pairwise(receiver.asked)]
    assert all(gap > 0.7 * 2**number for number, gap in enumerate(gaps)), gaps


def test_a_callback_that_says_when_to_come_again_is_left_alone_until_then(
    hub: RunningHub, streams: Streams, receiver: Receiver
) -> None:
    receiver.status = lambda request: 503 if not receiver.asked else 200
    receiver.headers["Retry-After"] = "4"
    hub.subscribe(receiver.url)
    streams.put("customers", customer("1"))
    eventually(lambda: receiver.names() == ["1"])
    assert receiver.asked[1].at - receiver.asked[0].at > 3.9


def test_a_callback_that_answers_a_byte_at_a_time_is_given_up_and_holds_up_nobody_else(
    hub_database: ServiceDatabase, nats: Mapping[str, str], issuer: Issuer, streams: Streams, receiver: Receiver
) -> None:
    given_up: list[float] = []

    def drip(listener: socket.socket) -> None:
        # Until the listener is shut.
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                began = time.monotonic()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                    while time.monotonic() - began < 10:
                        time.sleep(0.05)
                        connection.sendall(b"x")
                given_up.append(time.monotonic() - began)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        with running_hub(hub_database, nats, issuer, timeout=1.0) as hub:
            hub.subscribe(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            hub.subscribe(receiver.url)
            streams.put("customers", *(customer(str(number)) for number in range(40)))
            eventually(lambda: len({request.event["eventId"] for request in receiver.accepted}) == 40)
            eventually(lambda: bool(given_up))
            assert hub.waiting() >= 40
        listener.shutdown(socket.SHUT_RDWR)
    assert 0.9 < given_up[0] < 9


def test_what_waits_survives_a_restart(
    hub_database: ServiceDatabase, nats: Mapping[str, str], issuer: Issuer, streams: Streams, receiver: Receiver
) -> None:
    receiver.status = lambda request: 503
    with running_hub(hub_database, nats, issuer) as first:
        first.subscribe(receiver.url)
        streams.put("customers", *(customer(str(number), f"entity-{number % 3}") for number in range(9)))
        eventually(lambda: first.waiting() == 9 and bool(receiver.asked))
    assert receiver.accepted == []
    receiver.status = lambda request: 200
    with running_hub(hub_database, nats, issuer) as second:
        second.due_now()
        eventually(lambda: second.waiting() == 0)
    for entity in range(3):
        names = [request.resource["name"] for request in receiver.accepted if request.resource["id"][-1] == str(entity)]
        assert names == [str(entity), str(entity + 3), str(entity + 6)]


def test_a_callback_that_keeps_failing_is_suspended_and_resuming_loses_nothing(
    hub_database: ServiceDatabase, nats: Mapping[str, str], issuer: Issuer, streams: Streams, receiver: Receiver
) -> None:
    receiver.status = lambda request: 500
    with running_hub(hub_database, nats, issuer, give_up_after=timedelta(seconds=0.5)) as hub:
        made = hub.subscribe(receiver.url)
        request = requests_pb2.GetRequest(id=made.id)
        streams.put("customers", *(customer(str(number), "entity") for number in range(3)))
        eventually(lambda: hub.call("GetSubscription", request).state == hub_pb2.SUBSCRIPTION_STATE_SUSPENDED)
        shown = hub.call("GetSubscription", request)
        assert "answered 500" in shown.state_reason
        assert shown.HasField("suspended_at")
        asked = len(receiver.asked)
        streams.put("customers", *(customer(str(number), "entity") for number in range(3, 6)))
        eventually(lambda: hub.waiting() == 6)
        hub.due_now()
        receiver.status = lambda request: 200
        resumed = hub.call("ResumeSubscription", hub_pb2.ResumeSubscriptionRequest(id=made.id), ["sre"], "*")
        assert len(receiver.asked) == asked
        assert resumed.state == hub_pb2.SUBSCRIPTION_STATE_ACTIVE
        assert not resumed.HasField("state_reason")
        eventually(lambda: receiver.names() == ["0", "1", "2", "3", "4", "5"])
        with pytest.raises(grpc.RpcError) as again:
            hub.call("ResumeSubscription", hub_pb2.ResumeSubscriptionRequest(id=made.id), ["sre"], "*")
        assert refused(again) is grpc.StatusCode.FAILED_PRECONDITION


def test_a_callback_that_is_gone_is_suspended_at_once(hub: RunningHub, streams: Streams, receiver: Receiver) -> None:
    receiver.status = lambda request: 410
    made = hub.subscribe(receiver.url)
    streams.put("customers", customer("Bakyt"))
    request = requests_pb2.GetRequest(id=made.id)
    eventually(lambda: hub.call("GetSubscription", request).state == hub_pb2.SUBSCRIPTION_STATE_SUSPENDED)
    assert len(receiver.asked) == 1


def test_what_waits_for_a_suspended_subscription_is_dropped_visibly_when_streams_forget_it_too(
    hub_database: ServiceDatabase, nats: Mapping[str, str], issuer: Issuer, streams: Streams, receiver: Receiver
) -> None:
    receiver.status = lambda request: 410
    with running_hub(hub_database, nats, issuer) as hub:
        made = hub.subscribe(receiver.url)
        streams.put("customers", customer("old", "entity"), at=datetime.now(UTC) - timedelta(days=15))
        streams.put("customers", customer("older", "other"), at=datetime.now(UTC) - timedelta(days=16))
        streams.put("customers", customer("new", "entity"))
        request = requests_pb2.GetRequest(id=made.id)
        eventually(lambda: hub.call("GetSubscription", request).HasField("dropped_until"))
        assert hub.call("GetSubscription", request).state == hub_pb2.SUBSCRIPTION_STATE_SUSPENDED
        eventually(lambda: hub.waiting() == 1)
        receiver.status = lambda request: 200
        hub.call("ResumeSubscription", hub_pb2.ResumeSubscriptionRequest(id=made.id))
        eventually(lambda: receiver.names() == ["new"])
        eventually(lambda: hub.waiting() == 0)


def test_a_redirect_isnt_followed(hub: RunningHub, streams: Streams, receiver: Receiver) -> None:
    inner = Receiver()
    receiver.status = lambda request: 307
    receiver.headers["Location"] = inner.url
    hub.subscribe(receiver.url)
    streams.put("customers", customer("Bakyt"))
    eventually(lambda: len(receiver.asked) >= 2)
    inner.close()
    assert inner.asked == []


def test_a_private_callback_is_refused_at_registration(
    hub_database: ServiceDatabase, nats: Mapping[str, str], issuer: Issuer, streams: Streams, receiver: Receiver
) -> None:
    with running_hub(hub_database, nats, issuer, allow_private=False) as hub:
        for url in (receiver.url, receiver.url.replace("127.0.0.1", "localhost"), "http://169.254.169.254/latest"):
            with pytest.raises(grpc.RpcError) as error:
                hub.subscribe(url)
            assert refused(error) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_name_that_becomes_private_after_its_registration_is_never_called(
    hub_database: ServiceDatabase, nats: Mapping[str, str], issuer: Issuer, streams: Streams, receiver: Receiver
) -> None:
    answers = [["93.184.216.34"]]

    def rebinding(host: str, port: int) -> Sequence[str]:
        assert host == "callback.example"
        return answers.pop() if answers else ["127.0.0.1"]

    with running_hub(hub_database, nats, issuer, allow_private=False, resolving=rebinding) as hub:
        hub.subscribe(f"http://callback.example:{receiver.port}/listener")
        streams.put("customers", customer("Bakyt"))

        def tried() -> bool:
            with hub.database.engine.begin() as connection:
                connection.exec_driver_sql("SELECT set_config('svyaz.branches', '*', true)")
                errors = connection.exec_driver_sql("SELECT last_error FROM lane").scalars().all()
            return any(error and "isn't public" in error for error in errors)

        eventually(tried)
        assert hub.waiting() == 1
    assert receiver.asked == []


def test_the_checked_address_is_connected_to_and_the_name_kept(
    hub_database: ServiceDatabase, nats: Mapping[str, str], issuer: Issuer, streams: Streams, receiver: Receiver
) -> None:
    def known(host: str, port: int) -> Sequence[str]:
        # The first doesn't answer.
        return ["127.0.0.2", "127.0.0.1"]

    with running_hub(hub_database, nats, issuer, resolving=known) as hub:
        hub.subscribe(f"http://callback.example:{receiver.port}/a?b=c")
        streams.put("customers", customer("Bakyt"))
        eventually(lambda: receiver.names() == ["Bakyt"])
    assert receiver.accepted[0].headers["host"] == f"callback.example:{receiver.port}"
    assert receiver.accepted[0].path == "/a?b=c"


def test_only_an_admin_makes_and_deletes_subscriptions(hub: RunningHub, receiver: Receiver) -> None:
    with pytest.raises(grpc.RpcError) as error:
        hub.subscribe(receiver.url, roles=["agent", "catalog-manager", "billing", "sre"])
    assert refused(error) is grpc.StatusCode.PERMISSION_DENIED
    made = hub.subscribe(receiver.url)
    with pytest.raises(grpc.RpcError) as error:
        hub.call("DeleteSubscription", requests_pb2.DeleteRequest(id=made.id), ["agent", "sre"])
    assert refused(error) is grpc.StatusCode.PERMISSION_DENIED
    assert hub.call("GetSubscription", requests_pb2.GetRequest(id=made.id), ["agent"]).callback == receiver.url
    with pytest.raises(grpc.RpcError) as error:
        hub.subscribe(receiver.url, api="nonsense")
    assert refused(error) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_branch_has_so_many_subscriptions_to_an_api_and_no_more(
    hub_database: ServiceDatabase, nats: Mapping[str, str], issuer: Issuer, streams: Streams, receiver: Receiver
) -> None:
    with running_hub(hub_database, nats, issuer, most=2) as hub:
        first, _ = (hub.subscribe(receiver.url) for _ in range(2))
        with pytest.raises(grpc.RpcError) as error:
            hub.subscribe(receiver.url)
        assert refused(error) is grpc.StatusCode.FAILED_PRECONDITION
        assert domain_error(error.value).reason == "TOO_MANY_SUBSCRIPTIONS"
        hub.subscribe(receiver.url, api=CATALOG)
        hub.subscribe(receiver.url, branch="osh")
        hub.call("DeleteSubscription", requests_pb2.DeleteRequest(id=first.id))
        hub.subscribe(receiver.url)


def test_what_waits_for_a_subscription_is_limited_and_what_is_lost_is_said(
    hub_database: ServiceDatabase,
    nats: Mapping[str, str],
    issuer: Issuer,
    streams: Streams,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "HOUSEKEEPING_SECONDS", 0.2)
    receiver.status = lambda request: 503
    with running_hub(hub_database, nats, issuer, max_waiting=5) as hub:
        made = hub.subscribe(receiver.url)
        get = requests_pb2.GetRequest(id=made.id)
        streams.put("customers", *(customer(str(number)) for number in range(6)))
        eventually(lambda: hub.call("GetSubscription", get).HasField("lost_since"))
        shown = hub.call("GetSubscription", get)
        assert shown.state == hub_pb2.SUBSCRIPTION_STATE_SUSPENDED
        assert "more than 5 events wait" in shown.state_reason
        witness = Receiver()
        hub.subscribe(witness.url)
        streams.put("customers", customer("lost"))
        eventually(lambda: witness.names() == ["lost"])
        eventually(lambda: hub.waiting() == 6)
        receiver.status = lambda request: 200
        hub.call("ResumeSubscription", hub_pb2.ResumeSubscriptionRequest(id=made.id))
        eventually(lambda: sorted(receiver.names()) == ["0", "1", "2", "3", "4", "5"])
        eventually(lambda: not hub.call("GetSubscription", get).HasField("lost_since"))
        assert hub.call("GetSubscription", get).HasField("dropped_until")
        streams.put("customers", customer("new"))
        eventually(lambda: receiver.names()[6:] == ["new"])
        witness.close()


def test_a_subscription_is_its_branchs_own(hub: RunningHub, receiver: Receiver) -> None:
    made = hub.subscribe(receiver.url)
    for method, request in (
        ("GetSubscription", requests_pb2.GetRequest(id=made.id)),
        ("DeleteSubscription", requests_pb2.DeleteRequest(id=made.id)),
        ("ResumeSubscription", hub_pb2.ResumeSubscriptionRequest(id=made.id)),
    ):
        with pytest.raises(grpc.RpcError) as error:
            hub.call(method, request, branch="osh")
        assert refused(error) is grpc.StatusCode.NOT_FOUND
    assert len(hub.call("ListSubscriptions", requests_pb2.ListRequest(), branch="osh").items) == 0
    with pytest.raises(grpc.RpcError) as error:
        hub.subscribe(receiver.url, branch="*")
    assert refused(error) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_deleted_subscription_hears_nothing_more_and_what_waited_is_cleared_away(
    hub: RunningHub, streams: Streams, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "HOUSEKEEPING_SECONDS", 0.2)
    monkeypatch.setattr(delivery, "CLEARED_AT_ONCE", 3)
    receiver.status = lambda request: 500
    made = hub.subscribe(receiver.url)
    streams.put("customers", *(customer(str(number), f"entity-{number % 4}") for number in range(10)))
    eventually(lambda: hub.waiting() == 10 and len(receiver.asked) >= 1)
    hub.call("DeleteSubscription", requests_pb2.DeleteRequest(id=made.id))
    with pytest.raises(grpc.RpcError) as error:
        hub.call("GetSubscription", requests_pb2.GetRequest(id=made.id))
    assert refused(error) is grpc.StatusCode.NOT_FOUND
    eventually(lambda: hub.waiting() == 0)
    asked = len(receiver.asked)
    witness = Receiver()
    hub.subscribe(witness.url)
    streams.put("customers", customer("2", "entity-1"))
    eventually(lambda: len(witness.accepted) == 1)
    witness.close()
    assert len(receiver.asked) <= asked + 1
