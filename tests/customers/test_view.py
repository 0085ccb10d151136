"""The 360° view: all that is known about a customer, now and at any instant, rebuilt to the same."""

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from chassis.clock import Clock
from chassis.cloudevents import ReceivedEvent
from chassis.convert import to_timestamp
from chassis.db import Database
from chassis.errors import InvalidArgument, NotFound, PermissionDenied
from chassis.events import acting
from chassis.types import new_id
from customers.store import RESOURCES, metadata
from customers.view import store
from customers.view.heard import heard
from customers.view.sections import BY_NAME, SECTIONS
from svyaz.catalog.v1 import recommendation_pb2
from svyaz.customers.v1 import (
    account_pb2,
    agreement_pb2,
    customers_pb2,
    document_pb2,
    interaction_pb2,
    matching_pb2,
    party_pb2,
    party_role_pb2,
    responsibility_pb2,
    view_pb2,
)
from svyaz.operations.v1 import operations_pb2
from svyaz.orders.v1 import inventory_pb2, orders_pb2
from svyaz.type.v1 import values_pb2
from tests.conftest import ServiceDatabase
from tests.customers.test_api import customer as new_customer
from tests.customers.test_api import person
from tests.customers.test_merge import known, merged, parted
from tests.serving import Caller

GET, REBUILD = (f"svyaz.customers.v1.CustomerViewService/{name}" for name in ("GetCustomer360", "RebuildCustomer360"))
START = datetime(2026, 1, 10, 9, tzinfo=UTC)
ACTIVE, TERMINATED = inventory_pb2.PRODUCT_STATUS_ACTIVE, inventory_pb2.PRODUCT_STATUS_TERMINATED
IN_PROGRESS, COMPLETED = orders_pb2.PRODUCT_ORDER_STATE_IN_PROGRESS, orders_pb2.PRODUCT_ORDER_STATE_COMPLETED


class Log:
    """What the services tell, one event after the other, a minute apart."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._versions: dict[str, int] = {}
        self.now = START
        self.events: list[ReceivedEvent] = []

    def tell(self, kind: str, message: Any, what: str = "StateChange", **more: Any) -> datetime:
        """Tells how a thing is from now on; when that was."""
        self.now += timedelta(minutes=1)
        version = more.pop("version", None) or self._versions.get(message.id, 0) + 1
        self._versions[message.id] = version
        event = ReceivedEvent(
            id=new_id(),
            source="svyaz/test",
            type=f"{kind}{what}Event",
            time=self.now,
            aggregate_type=kind,
            aggregate_id=message.id,
            version=version,
            branch=more.pop("branch", "bishkek"),
            key=message.id,
            actor="somebody",
            on_behalf_of=None,
            schema_revision=1,
            data_type=message.DESCRIPTOR.full_name,
            data=message.SerializeToString(),
            subject="",
            headers={},
            **more,
        )
        self.hear(event)
        self.events.append(event)
        return self.now

    def hear(self, event: ReceivedEvent) -> None:
        with acting("customers", "view", event.branch), self._database.unit() as unit:
            heard(event, unit)


@pytest.fixture
def log(database: Database) -> Log:
    return Log(database)


def by(customer_id: str) -> list[values_pb2.RelatedParty]:
    return [values_pb2.RelatedParty(id=customer_id, role="customer")]


def customer(id: str, party: str = "", name: str = "Aida") -> customers_pb2.Customer:
    return customers_pb2.Customer(id=id, name=name, engaged_party=values_pb2.RelatedParty(id=party))


def product(id: str, whose: str, status: int = ACTIVE, **more: Any) -> inventory_pb2.Product:
    return inventory_pb2.Product(id=id, related_party=by(whose), status=status, **more)  # type: ignore[arg-type]


def order(id: str, whose: str, state: int = IN_PROGRESS, **more: Any) -> orders_pb2.ProductOrder:
    return orders_pb2.ProductOrder(id=id, related_party=by(whose), state=state, **more)  # type: ignore[arg-type]


def ids(items: Any) -> list[str]:
    return [item.id for item in items]


def test_every_section_is_a_field_of_its_message() -> None:
    fields = view_pb2.Customer360.DESCRIPTOR.fields_by_name
    for section in SECTIONS.values():
        assert fields[section.name].message_type is section.message.DESCRIPTOR
        assert fields[section.name].is_repeated
    repeated = {field.name for field in fields.values() if field.message_type and field.is_repeated}
    assert repeated == set(BY_NAME)


def test_everything_about_a_customer_is_in_one_answer(log: Log, agent: Caller) -> None:
    c, p = new_id(), new_id()
    log.tell("Individual", party_pb2.Individual(id=p, given_name="Aida"))
    log.tell("Customer", customer(c, p))
    account = account_pb2.BillingAccount(id=new_id(), related_party=by(c))
    log.tell("BillingAccount", account)
    log.tell("Product", product(f"{c}-product", c))
    log.tell("ProductOrder", order(f"{c}-order", c))
    item = orders_pb2.OrderedItem(id=f"{c}-item", product_order_id=f"{c}-order")
    log.tell("ProductOrderItem", item)
    # Of the order, whose id it has.
    receipt = orders_pb2.PriceReceipt(id=f"{c}-order", digest="a digest")
    log.tell("PriceReceipt", receipt, version=1)
    # By the party that the customer is, not by the customer.
    log.tell("Product", product(f"{c}-of-party", p))
    advice = recommendation_pb2.QueryProductRecommendation(id=f"{c}-advice", related_party=by(c)[0])
    log.tell("QueryProductRecommendation", advice)
    # Of others.
    log.tell("Product", product(new_id(), "another"))
    log.tell("ProductOrder", order(new_id(), "another"))

    view = agent(GET, customer_id=c)
    assert (view.id, ids(view.customer), ids(view.individual)) == (c, [c], [p])
    assert view.individual[0].given_name == "Aida"
    assert ids(view.billing_account) == [account.id]
    assert ids(view.product) == [f"{c}-of-party", f"{c}-product"]
    assert (ids(view.product_order), ids(view.ordered_item)) == ([f"{c}-order"], [f"{c}-item"])
    assert [one.digest for one in view.price_receipt] == ["a digest"]
    assert ids(view.product_recommendation) == [advice.id]
    assert not view.more


def test_what_hangs_on_the_customers_other_things_is_shown_too(log: Log, agent: Caller) -> None:
    c, p = new_id(), new_id()
    log.tell("Customer", customer(c, p))
    log.tell(
        "PartyRole", party_role_pb2.PartyRole(id=f"{p}-dealer", engaged_party=values_pb2.RelatedParty(id=p, role="x"))
    )
    for name, engaged, status in (("ended", c, "Terminated"), ("dealer", f"{p}-dealer", "Active")):
        agreed = agreement_pb2.Agreement(
            id=f"{c}-{name}", status=status, engaged_party=[values_pb2.RelatedParty(id=engaged)]
        )
        log.tell("Agreement", agreed)
    for name, about in (("contract", f"{c}-ended"), ("passport", p), ("other", "another")):
        document = document_pb2.Document(
            id=f"{c}-{name}", related_entity=[document_pb2.RelatedEntity(id=about, at_referred_type="Agreement")]
        )
        log.tell("Document", document)
    pair = matching_pb2.DuplicateCandidate(
        id=f"{c}-pair", first_id="another", second_id=p, state=matching_pb2.DUPLICATE_STATE_OPEN
    )
    log.tell("DuplicateCandidate", pair)
    view = agent(GET, customer_id=c)
    # What is in force comes first, however it is spelled.
    assert [one.status for one in view.agreement] == ["Active", "Terminated"]
    assert set(ids(view.document)) == {f"{c}-contract", f"{c}-passport"}
    assert ids(view.duplicate_candidate) == [pair.id]
    assert agent(GET, customer_id=c, at=to_timestamp(log.now)).document == view.document


def test_who_lives_together_is_shown_apart_from_who_it_is(log: Log, agent: Caller) -> None:
    c, p, home, firm = (new_id() for _ in range(4))
    log.tell("Individual", party_pb2.Individual(id=p))
    log.tell("Customer", customer(c, p))
    log.tell("Customer", customer(f"{c}-home", home))
    for one, kind in ((home, "Household"), (firm, "company")):
        organization = party_pb2.Organization(
            id=one, organization_type=kind, related_party=[values_pb2.RelatedParty(id=p, role="member")]
        )
        log.tell("Organization", organization)
    for at in ({}, {"at": to_timestamp(log.now)}):
        member, itself = (agent(GET, customer_id=one, **at) for one in (c, f"{c}-home"))
        assert (ids(member.household), ids(member.organization)) == ([home], [])
        assert (ids(itself.household), ids(itself.organization)) == ([], [home])


def test_what_is_planned_is_shown_ahead_of_its_time_and_before_what_was_said(log: Log, agent: Caller) -> None:
    c = new_id()
    log.tell("Customer", customer(c))
    for name, status, day in (("plan", "Planned", 400), ("letter", "completed", -2), ("call", "In progress", -1)):
        period = values_pb2.TimePeriod(start_date_time=to_timestamp(START + timedelta(days=day)))
        said = interaction_pb2.PartyInteraction(
            id=f"{c}-{name}", related_party=by(c), status=status, interaction_date=period
        )
        log.tell("PartyInteraction", said)
    log.tell("CustomerOwnership", responsibility_pb2.CustomerOwnership(id=f"{c}-whose", customer_id=c, owner="aida"))
    view = agent(GET, customer_id=c)
    assert (set(ids(view.party_interaction[:2])), view.party_interaction[2].id) == (
        {f"{c}-plan", f"{c}-call"},
        f"{c}-letter",
    )
    assert [one.owner for one in view.customer_ownership] == ["aida"]
    assert f"{c}-plan" in ids(agent(GET, customer_id=c, at=to_timestamp(log.now)).party_interaction)


def test_what_changes_is_shown_as_it_is_and_what_is_deleted_isnt(log: Log, agent: Caller) -> None:
    c = new_id()
    log.tell("Customer", customer(c))
    log.tell("ProductOrder", order(f"{c}-order", c))
    log.tell("ProductOrder", order(f"{c}-order", c, COMPLETED))
    gone = account_pb2.BillingAccount(id=new_id(), related_party=by(c))
    log.tell("BillingAccount", gone)
    log.tell("BillingAccount", gone, "Delete")
    view = agent(GET, customer_id=c)
    assert [(one.id, one.state) for one in view.product_order] == [(f"{c}-order", COMPLETED)]
    assert not view.billing_account


def test_what_changes_is_no_newer_for_that(log: Log, agent: Caller) -> None:
    c = new_id()
    log.tell("Customer", customer(c))
    accounts = [account_pb2.BillingAccount(id=f"{c}-{number}", related_party=by(c)) for number in range(2)]
    for account in (*accounts, accounts[0]):
        log.tell("BillingAccount", account)
    assert ids(agent(GET, customer_id=c).billing_account) == [f"{c}-1", f"{c}-0"]


def test_what_goes_to_another_customer_is_his_from_then_on(log: Log, agent: Caller) -> None:
    c, d = new_id(), new_id()
    log.tell("Customer", customer(c))
    log.tell("Customer", customer(d))
    before = log.tell("Product", product(f"{c}-product", c))
    log.tell("Product", product(f"{c}-product", d))
    assert not agent(GET, customer_id=c).product
    assert ids(agent(GET, customer_id=d).product) == [f"{c}-product"]
    assert ids(agent(GET, customer_id=c, at=to_timestamp(before)).product) == [f"{c}-product"]
    assert not agent(GET, customer_id=d, at=to_timestamp(before)).product


def test_open_things_come_first_and_what_is_left_out_is_said(log: Log, agent: Caller, database: Database) -> None:
    c = new_id()
    log.tell("Customer", customer(c))
    most = BY_NAME["product_order"].most
    # The open one is the oldest of all.
    log.tell("ProductOrder", order(f"{c}-open", c))
    for number in range(most):
        log.tell("ProductOrder", order(f"{c}-{number:03d}", c, COMPLETED))
    view = agent(GET, customer_id=c)
    assert list(view.more) == ["product_order"]
    assert ids(view.product_order) == [f"{c}-open", *(f"{c}-{number:03d}" for number in range(most - 1, 0, -1))]


def test_a_customer_with_very_much_is_shown_the_same_way(
    log: Log, agent: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    c, p = new_id(), new_id()
    log.tell("Individual", party_pb2.Individual(id=p))
    log.tell("Customer", customer(c, p))
    for number in range(4):
        log.tell("ProductOrder", order(f"{c}-{number}", c, COMPLETED if number % 2 else IN_PROGRESS))
        log.tell("Product", product(f"{c}-product-{number}", p))
    few = agent(GET, customer_id=c)
    monkeypatch.setattr(store, "FEW", 1)
    many = agent(GET, customer_id=c)
    many.at.CopyFrom(few.at)
    assert many == few
    assert len(many.product_order) == len(many.product) == 4


def test_the_view_at_an_instant_is_what_was_shown_then(log: Log, agent: Caller) -> None:
    c, p = new_id(), new_id()
    taken: list[tuple[datetime, view_pb2.Customer360]] = []

    def tell(kind: str, message: Message, what: str = "StateChange") -> None:
        at = log.tell(kind, message, what)
        shown = agent(GET, customer_id=c)
        shown.at.CopyFrom(to_timestamp(at))
        taken.append((at, shown))

    tell("Customer", customer(c, p))
    tell("Individual", party_pb2.Individual(id=p, given_name="Aida"))
    tell("ProductOrder", order(f"{c}-order", c))
    tell("Product", product(f"{c}-product", c))
    tell("Customer", customer(c, p, "Aida Usenova"))
    tell("ProductOrder", order(f"{c}-order", c, COMPLETED))
    tell("Product", product(f"{c}-product", c, TERMINATED))
    tell("ProductOrder", order(f"{c}-order", c, COMPLETED), "Delete")
    for at, shown in taken:
        assert agent(GET, customer_id=c, at=to_timestamp(at), as_known_then=True) == shown
        # Until the next minute nothing happens.
        later = agent(GET, customer_id=c, at=to_timestamp(at + timedelta(seconds=59)))
        later.at.CopyFrom(shown.at)
        assert later == shown


def test_what_was_recorded_later_counts_unless_it_is_asked_what_was_known(log: Log, agent: Caller) -> None:
    c = new_id()
    log.tell("Customer", customer(c))
    asked = log.now + timedelta(seconds=30)
    since = to_timestamp(asked - timedelta(seconds=10))
    log.tell("Product", product(f"{c}-backdated", c, start_date=since))
    log.tell("Product", product(f"{c}-new", c))
    assert ids(agent(GET, customer_id=c, at=to_timestamp(asked)).product) == [f"{c}-backdated"]
    assert not agent(GET, customer_id=c, at=to_timestamp(asked), as_known_then=True).product


def test_a_customer_is_there_before_its_event_is_heard_of(agent: Caller) -> None:
    made = new_customer(agent, person(agent).id)
    assert ids(agent(GET, customer_id=made.id).customer) == [made.id]


def test_nobody_is_shown_who_isnt_there(log: Log, agent: Caller) -> None:
    c = new_id()
    with pytest.raises(NotFound):
        agent(GET, customer_id=c)
    first = log.tell("Customer", customer(c))
    with pytest.raises(NotFound):
        agent(GET, customer_id=c, at=to_timestamp(first - timedelta(seconds=1)))
    with pytest.raises(InvalidArgument, match="nobody knows yet"):
        agent(GET, customer_id=c, at=to_timestamp(datetime.now(UTC) + timedelta(days=1)))


def test_another_branchs_customer_isnt_shown(log: Log, caller_of: Callable[..., Caller]) -> None:
    c = new_id()
    log.tell("Customer", customer(c), branch="osh")
    log.tell("Product", product(f"{c}-product", c), branch="osh")
    with pytest.raises(NotFound):
        caller_of("bishkek")(GET, customer_id=c)
    assert ids(caller_of("osh")(GET, customer_id=c).product) == [f"{c}-product"]


def test_merged_customers_are_shown_as_one_and_as_two_before_and_after(log: Log, agent: Caller) -> None:
    c, d = known(agent).id, known(agent).id
    for one in (c, d):
        log.tell("Customer", customer(one))
        log.tell("Product", product(f"{one}-product", one))
    both = {f"{d}-product", f"{c}-product"}
    merge = merged(agent, d, c)
    during = datetime.now(UTC)
    for one in (c, d):
        assert set(ids(agent(GET, customer_id=one).product)) == both
        assert ids(agent(GET, customer_id=one, at=to_timestamp(log.now)).product) == [f"{one}-product"]
    parted(agent, merge.id)
    for one in (c, d):
        assert ids(agent(GET, customer_id=one).product) == [f"{one}-product"]
        # They were thought to be one then.
        assert set(ids(agent(GET, customer_id=one, at=to_timestamp(during)).product)) == both


def rows(database: Database) -> list[Any]:
    columns = [column for column in store.view_item.c if column.name != "seen_at"]
    with acting("customers", "test"), database.unit() as unit:
        return sorted(unit.session.execute(store.view_item.select().with_only_columns(*columns)).all())


def listed(event: ReceivedEvent) -> operations_pb2.Event:
    """As the log of its service has it."""
    return operations_pb2.Event(
        id=event.id,
        type=event.type,
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        version=event.version,
        branch=event.branch,
        actor=event.actor,
        time=to_timestamp(event.time),
        schema_revision=event.schema_revision,
        data=event.data,
        data_type=event.data_type,
    )


def test_rebuilt_from_the_logs_it_is_the_same(
    log: Log, database: Database, agent: Caller, caller_of: Callable[..., Caller]
) -> None:
    admin = caller_of("*", role="admin")
    admin(REBUILD, forget_unseen_since=admin(REBUILD).began_at)
    c, p = new_id(), new_id()
    log.tell("Customer", customer(c, p))
    log.tell("ProductOrder", order(f"{c}-order", c))
    log.tell("ProductOrderItem", orders_pb2.OrderedItem(id=f"{c}-item", product_order_id=f"{c}-order"))
    log.tell("ProductOrder", order(f"{c}-order", c, COMPLETED))
    log.tell("Product", product(f"{c}-product", c))
    log.tell("Product", product(f"{c}-product", p, TERMINATED))
    log.tell("Product", product(f"{c}-product", p, TERMINATED), "Delete")
    before = rows(database)
    assert len(before) == len(log.events)
    # What nobody tells any more, and a row that somebody has spoilt.
    stray = Log(database)
    stray.tell("Product", product(new_id(), c))
    with acting("customers", "test"), database.unit() as unit:
        unit.cursor().execute("UPDATE view_item SET data = '', replaced_at = NULL WHERE kind = 'ProductOrder'")
    began = admin(REBUILD).began_at
    # Backwards it comes to the same.
    admin(REBUILD, event=[listed(event) for event in reversed(log.events)])
    assert admin(REBUILD, forget_unseen_since=began).forgotten == 1
    assert rows(database) == before
    with pytest.raises(PermissionDenied):
        caller_of("bishkek", role="admin")(REBUILD)


def test_rebuilt_while_everything_goes_on_it_is_the_same(
    log: Log, database: Database, caller_of: Callable[..., Caller]
) -> None:
    admin, pick = caller_of("*", role="admin"), random.Random(7)
    whose = [new_id() for _ in range(3)]
    admin(REBUILD, forget_unseen_since=admin(REBUILD).began_at)

    def change() -> None:
        one = pick.choice(whose)
        which = product(f"{one}-{pick.randrange(2)}", pick.choice(whose), pick.choice([ACTIVE, TERMINATED]))
        log.tell("Product", which, pick.choice(["StateChange", "StateChange", "Delete"]))

    for _ in range(30):
        change()
    began = admin(REBUILD).began_at
    # Somebody has emptied it: what is heard now comes before what it follows.
    with acting("customers", "test"), database.unit() as unit:
        unit.cursor().execute("DELETE FROM view_item")
    told = 0
    goes_on = threading.Event()
    goes_on.set()

    def live() -> None:
        while goes_on.is_set():
            change()

    living = threading.Thread(target=live)
    living.start()
    while goes_on.is_set() or told < len(log.events):
        portion = log.events[told : told + 7]
        if portion:
            admin(REBUILD, event=[listed(event) for event in portion])
        told += len(portion)
        if told > 60:
            goes_on.clear()
            living.join()
    assert admin(REBUILD, forget_unseen_since=began).forgotten == 0
    rebuilt = rows(database)
    with acting("customers", "test"), database.unit() as unit:
        unit.cursor().execute("DELETE FROM view_item")
    for event in log.events:
        log.hear(event)
    assert rebuilt == rows(database)


def test_what_a_replica_hears_during_a_rebuilding_stays_whatever_its_clock_says(
    log: Log, agent: Caller, place: ServiceDatabase, caller_of: Callable[..., Caller], tmp_path: Path
) -> None:
    slow = tmp_path / "offset"
    slow.write_text("-30")
    replica = Database(place.url, clock=Clock(str(slow)), metadata=metadata, resources=RESOURCES)
    admin = caller_of("*", role="admin")
    began = admin(REBUILD).began_at
    c = new_id()
    Log(replica).tell("Customer", customer(c))
    admin(REBUILD, forget_unseen_since=began)
    assert ids(agent(GET, customer_id=c).customer) == [c]
    replica.close()


def test_a_restored_log_replaces_what_was_lost_with_its_database(log: Log, agent: Caller) -> None:
    c = new_id()
    log.tell("Customer", customer(c))
    log.tell("Customer", customer(c, name="Second"))
    log.tell("Customer", customer(c, name="Third"))
    log.tell("Customer", customer(c, name="Other second"), version=2, epoch=2)
    assert agent(GET, customer_id=c).customer[0].name == "Other second"
    # What was another's by the lost log isn't.
    other = new_id()
    log.tell("Customer", customer(other))
    log.tell("Product", product(f"{c}-product", c))
    log.tell("Product", product(f"{c}-product", other))
    log.tell("Product", product(f"{c}-product", c), version=2, epoch=2)
    assert ids(agent(GET, customer_id=c).product) == [f"{c}-product"]
    assert not agent(GET, customer_id=other).product
