"""Who looked at whose records; everything about a person; and that it goes."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from google.protobuf.message_factory import GetMessageClass

from chassis import calls
from chassis.auth import Principal
from chassis.convert import to_timestamp
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unavailable
from chassis.events import acting
from chassis.personal import holds_personal
from chassis.types import new_id
from customers import store as tables
from customers.identity.store import merged_party
from customers.privacy import accesses, erasing
from customers.privacy.accesses import AccessLog
from customers.privacy.heard import redact_again
from customers.privacy.retention import Retention
from customers.schema import metadata, rule_under_erasure, rule_under_merge
from customers.view import store as view_store
from customers.view.sections import SECTIONS
from customers.view.store import FEW
from svyaz.customers.v1 import account_pb2, customers_pb2, party_pb2, privacy_pb2, value_pb2
from svyaz.operations.v1 import operations_pb2
from svyaz.orders.v1 import inventory_pb2, orders_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.conftest import ServiceDatabase
from tests.contracts import services
from tests.customers.conftest import ACCOUNT, CUSTOMER, PARTY
from tests.customers.test_view import Log
from tests.serving import Caller

PRIVACY = "svyaz.customers.v1.PrivacyService/"
VIEW = "svyaz.customers.v1.CustomerViewService/GetCustomer360"
SECRETS = ("Asanova", "+996700123456", "aida@example.com")


class Known:
    """A person with everything that is kept about her."""

    def __init__(self, agent: Caller, log: Log) -> None:
        individual = party_pb2.Individual(
            family_name="Asanova",
            given_name="Aida",
            contact_medium=[
                values_pb2.ContactMedium(
                    medium_type="phone",
                    characteristic=values_pb2.MediumCharacteristic(phone_number="+996700123456"),
                )
            ],
            extensions=b'{"nickname":"Asanova A."}',
        )
        self.person = agent(f"{PARTY}CreateIndividual", individual=individual)
        engaged = values_pb2.RelatedParty(id=self.person.id, name="Aida Asanova", at_referred_type="Individual")
        self.customer = agent(
            f"{CUSTOMER}CreateCustomer", customer=customers_pb2.Customer(name="Asanova", engaged_party=engaged)
        )
        owner = values_pb2.RelatedParty(
            id=self.customer.id, name="Asanova", role="customer", at_referred_type="Customer"
        )
        account = account_pb2.BillingAccount(
            name="Asanova's",
            related_party=[owner],
            contact=[account_pb2.Contact(contact_name="Asanova")],
            credit_limit=values_pb2.Money(unit="KGS", units=500),
        )
        self.account = agent(f"{ACCOUNT}CreateBillingAccount", billing_account=account)
        self.order = orders_pb2.ProductOrder(
            id=f"order-of-{self.person.id}",
            related_party=[owner],
            state=orders_pb2.PRODUCT_ORDER_STATE_COMPLETED,
        )
        log.tell("Individual", self.person, "Create")
        log.tell("Customer", self.customer, "Create")
        log.tell("BillingAccount", self.account, "Create")
        log.tell("ProductOrder", self.order, "Create")


@pytest.fixture
def log(database: Database) -> Log:
    return Log(database)


@pytest.fixture
def known(agent: Caller, log: Log) -> Known:
    return Known(agent, log)


@pytest.fixture
def owner(place: ServiceDatabase) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(place.admin_url, autocommit=True) as connection:
        yield connection


def looks(caller: Caller, record: str) -> list[tuple[str, str, str]]:
    found = caller(f"{PRIVACY}ListAccesses", id=record, limit=1000)
    return [(one.method, one.purpose, one.record_id) for one in found.access]


# --- who looked ------------------------------------------------------------------------------------------------------


def test_whoever_looks_at_a_record_is_shown_to_have_looked(agent: Caller, caller_of: Any, known: Known) -> None:
    curious = agent.who_says("Звонок клиента 17")
    curious(f"{CUSTOMER}GetCustomer", id=known.customer.id)
    agent(f"{PARTY}GetIndividual", id=known.person.id)
    agent(VIEW, customer_id=known.customer.id)
    agent(f"{ACCOUNT}GetBillingAccount", id=known.account.id)
    found = looks(agent, known.person.id)
    # Under whichever of her ids somebody asks, and the latest first.
    assert found == looks(agent, known.customer.id)
    assert found[:4] == [
        ("AccountService/GetBillingAccount", "unstated", known.account.id),
        ("CustomerViewService/GetCustomer360", "unstated", known.customer.id),
        ("PartyService/GetIndividual", "unstated", known.person.id),
        ("CustomerService/GetCustomer", "Звонок клиента 17", known.customer.id),
    ]
    # A service doesn't look at anybody, and another branch sees nothing.
    caller_of("bishkek", role="service")(f"{PARTY}GetIndividual", id=known.person.id)
    assert looks(agent, known.person.id) == found
    with pytest.raises(NotFound):
        looks(caller_of("osh"), known.person.id)
    page = agent(f"{PRIVACY}ListAccesses", id=known.person.id, limit=2)
    assert (len(page.access), page.more) == (2, True)
    rest = agent(f"{PRIVACY}ListAccesses", id=known.person.id, before=page.access[-1].at)
    assert {one.id for one in rest.access}.isdisjoint(one.id for one in page.access)
    with pytest.raises(InvalidArgument):
        agent(f"{PRIVACY}ListAccesses", id=known.person.id, limit=1001)


@pytest.mark.parametrize("few", [FEW, 1], ids=["found at once", "found in two statements"])
def test_a_look_at_everything_is_one_look(
    agent: Caller, known: Known, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(view_store, "FEW", few)
    shown = agent(VIEW, customer_id=known.customer.id)
    assert shown.product_order
    assert shown.billing_account
    assert [method for method, *_ in looks(agent, known.customer.id)].count("CustomerViewService/GetCustomer360") == 1


def test_a_list_logs_each_that_it_showed(agent: Caller, known: Known) -> None:
    listed = agent(f"{PARTY}ListIndividuals", filter=[requests_pb2.Filter(path="id", value=[known.person.id])])
    assert [one.id for one in listed.items] == [known.person.id]
    assert looks(agent, known.person.id)[0][0] == "PartyService/ListIndividuals"


def test_what_cannot_be_logged_is_not_shown(agent: Caller, known: Known, owner: psycopg.Connection[Any]) -> None:
    owner.execute("ALTER TABLE access RENAME TO access_away")
    try:
        for method, asked in (
            (f"{PARTY}GetIndividual", {"id": known.person.id}),
            (VIEW, {"customer_id": known.customer.id}),
        ):
            with pytest.raises(Unavailable) as refusal:
                agent(method, **asked)
            assert refusal.value.reason == "ACCESS_LOG_UNAVAILABLE"
    finally:
        owner.execute("ALTER TABLE access_away RENAME TO access")
    assert agent(f"{PARTY}GetIndividual", id=known.person.id).id == known.person.id


def personal_methods() -> list[Any]:
    return [
        method
        for service in services().values()
        if service.full_name.startswith(("svyaz.customers.", "svyaz.operations."))
        for method in service.methods
        if holds_personal(method.output_type)
    ]


@pytest.mark.parametrize("method", personal_methods(), ids=lambda method: method.name)
def test_every_method_that_answers_something_personal_is_logged(method: Any, database: Database) -> None:
    """Whatever is added later: an answer with a person in it, or its request, names the record, which is logged."""
    request, answer = GetMessageClass(method.input_type)(), GetMessageClass(method.output_type)()
    record = f"r-{method.full_name}"
    for message in (request, answer):
        name_everything(message, record)
    write = AccessLog(database).of_method(method)
    assert write is not None
    somebody = Principal(subject="somebody", roles=frozenset({"agent"}), branches=("bishkek",))
    with calls.using(calls.Call(somebody, method.name)), database.unit() as unit:
        write(request, answer)
        assert [one.method for one in accesses.of_records(unit, [record], later(unit.at), 5)] == [method.name]


def later(at: Any) -> Any:
    return at + timedelta(days=1)


def name_everything(message: Any, record: str, depth: int = 3) -> None:
    """Gives every single id in the message, and in the messages in it, the same value."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and depth and not field.message_type.GetOptions().map_entry:
            part = getattr(message, field.name)
            name_everything(part.add() if field.is_repeated else part, record, depth - 1)
        elif field.name.endswith("id") and field.type == field.TYPE_STRING and not field.is_repeated:
            setattr(message, field.name, record)


def test_everything_about_a_person_can_be_read_by_its_id(database: Database) -> None:
    """The statement that reads and notes is one for each kind: none of them asks for what isn't there."""
    person = Principal("aida", frozenset({"agent"}), ("bishkek",))
    personal = [cls for cls, resource in database.resources.items() if holds_personal(resource.message.DESCRIPTOR)]
    assert len(personal) > 10
    with calls.using(calls.Call(person, "Get")):
        for cls in personal:
            with pytest.raises(NotFound):
                database.read(cls, "nobody")


def test_accesses_are_forgotten_when_their_time_is_over(database: Database, agent: Caller, known: Known) -> None:
    agent(f"{PARTY}GetIndividual", id=known.person.id)
    Retention(database, days=1).once()
    assert looks(agent, known.person.id)
    Retention(database, days=-1).once()
    assert looks(agent, known.person.id) == []


# --- everything ------------------------------------------------------------------------------------------------------


def test_an_archive_holds_everything_and_says_what_it_holds(agent: Caller, caller_of: Any, known: Known) -> None:
    agent(f"{CUSTOMER}GetCustomer", id=known.customer.id)
    export = agent(f"{PRIVACY}ExportPerson", id=known.customer.id, request_id=f"x-{known.person.id}")
    assert export.size == len(export.data)
    assert hashlib.sha256(export.data).hexdigest() == export.sha256
    with zipfile.ZipFile(io.BytesIO(export.data)) as archive:
        index = json.loads(archive.read("index.json"))
        bodies = {name: archive.read(name) for name in index["files"]}
        assert sorted([*bodies, "index.json"]) == sorted(archive.namelist())
    for name, entry in index["files"].items():
        assert hashlib.sha256(bodies[name]).hexdigest() == entry["sha256"]
        assert len(json.loads(bodies[name])) == entry["entries"]
    assert (index["person"], index["customer"]) == (known.person.id, [known.customer.id])
    (individual,) = json.loads(bodies["records/Individual.json"])
    assert (individual["familyName"], individual["nickname"]) == ("Asanova", "Asanova A.")
    assert json.loads(bodies["records/BillingAccount.json"])[0]["creditLimit"] == {"unit": "KGS", "value": 500}
    assert {"history/Customer.json", "records/ProductOrder.json", "accesses.json"} <= bodies.keys()
    # The same request is the same archive; it can be read on; another branch's isn't there.
    assert agent(f"{PRIVACY}ExportPerson", id=known.customer.id, request_id=f"x-{known.person.id}").id == export.id
    assert agent(f"{PRIVACY}GetPersonExport", id=export.id, offset=10).data == export.data[10:]
    assert agent(f"{PRIVACY}GetPersonExport", id=export.id, offset=export.size).data == b""
    with pytest.raises(NotFound):
        caller_of("osh")(f"{PRIVACY}ExportPerson", id=known.person.id)
    with pytest.raises(NotFound):
        caller_of("osh")(f"{PRIVACY}GetPersonExport", id=export.id)


def test_merged_ids_are_one_person(agent: Caller, log: Log, database: Database) -> None:
    first, second = Known(agent, log), Known(agent, log)
    with acting("customers", "test", "bishkek"), database.unit() as unit:
        unit.session.execute(
            merged_party.insert().values(
                absorbed_id=second.person.id,
                branch="bishkek",
                into_id=first.person.id,
                survivor_id=first.person.id,
                merge_id=f"m-{first.person.id}",
                merged_at=unit.at,
            )
        )
    export = agent(f"{PRIVACY}ExportPerson", id=second.person.id)
    assert export.party_id == first.person.id
    with zipfile.ZipFile(io.BytesIO(export.data)) as archive:
        found = {one["id"] for one in json.loads(archive.read("records/Customer.json"))}
    assert found == {first.customer.id, second.customer.id}


# --- and that it goes ------------------------------------------------------------------------------------------------


def erase(caller: Caller, known: Known, **more: Any) -> Any:
    return caller(f"{PRIVACY}ErasePerson", party_id=known.person.id, **{"reason": "her request of May 2", **more})


def carry_on(database: Database, erasure: Any) -> None:
    with acting("customers", "timer", "bishkek"), database.unit() as unit:
        erasing.step(erasure.id, unit)


def kept(owner: psycopg.Connection[Any], known: Known) -> str:
    """Everything that the database holds of the person, as text."""
    ids = [known.person.id, known.customer.id, known.account.id, known.order.id]
    rows: list[Any] = []
    for table in ("individual", "customer", "billing_account"):
        rows += owner.execute(f"SELECT t::text FROM {table} t WHERE id = ANY (%s)", (ids,)).fetchall()  # noqa: S608
    rows += owner.execute("SELECT encode(data, 'escape') FROM event WHERE aggregate_id = ANY (%s)", (ids,)).fetchall()
    rows += owner.execute("SELECT encode(data, 'escape') FROM view_item WHERE item_id = ANY (%s)", (ids,)).fetchall()
    return "\n".join(row[0] for row in rows)


def test_nothing_personal_is_left_and_all_else_is(
    agent: Caller, database: Database, known: Known, owner: psycopg.Connection[Any]
) -> None:
    assert "Asanova" in kept(owner, known)
    agent(f"{PRIVACY}ExportPerson", id=known.person.id)
    events = owner.execute("SELECT count(*) FROM event").fetchone()
    erasure = erase(agent, known, request_id=f"e-{known.person.id}")
    assert erasure.state == privacy_pb2.ERASURE_STATE_IN_PROGRESS
    assert set(erasure.subject_id) == {known.person.id, known.customer.id}
    carry_on(database, erasure)
    done = agent(f"{PRIVACY}GetErasure", id=erasure.id)
    assert (done.state, done.record_count, done.event_count) == (privacy_pb2.ERASURE_STATE_COMPLETED, 3, 3)
    assert done.version_count == 4
    left = kept(owner, known)
    assert not [secret for secret in (*SECRETS, "Aida") if secret in left]
    # The books: ids, amounts, the order, and how many events there are (of three changes and of two of the erasure).
    assert agent(f"{ACCOUNT}GetBillingAccount", id=known.account.id).credit_limit.units == 500
    assert agent(f"{CUSTOMER}GetCustomer", id=known.customer.id).engaged_party.id == known.person.id
    assert owner.execute("SELECT count(*) FROM event").fetchone()[0] == events[0] + 5  # type: ignore[index]
    assert not owner.execute("SELECT FROM person_export WHERE party_id = %s", (known.person.id,)).fetchall()
    past = agent(f"{PARTY}GetIndividual", id=known.person.id, at=erasure.requested_at)
    assert (past.id, past.family_name) == (known.person.id, "")
    # Whoever asks again gets the same, and a step more finds nothing to do.
    assert erase(agent, known).id == erasure.id
    carry_on(database, erasure)
    assert agent(f"{PRIVACY}GetErasure", id=erasure.id).etag == done.etag


def test_what_is_heard_of_an_erased_person_is_redacted_too(
    agent: Caller, caller_of: Any, database: Database, known: Known, owner: psycopg.Connection[Any], log: Log
) -> None:
    erasure = erase(agent, known)
    carry_on(database, erasure)
    known.order.state = orders_pb2.PRODUCT_ORDER_STATE_CANCELLED
    # As the log of a service that hasn't heard of it lists the order, when the view is rebuilt.
    event = operations_pb2.Event(
        id="late",
        type="ProductOrderStateChangeEvent",
        aggregate_type="ProductOrder",
        aggregate_id=known.order.id,
        version=9,
        branch="bishkek",
        time=to_timestamp(log.now),
        schema_revision=1,
        data=known.order.SerializeToString(),
        data_type=known.order.DESCRIPTOR.full_name,
    )
    caller_of("*", role="admin")("svyaz.customers.v1.CustomerViewService/RebuildCustomer360", event=[event])
    assert "Asanova" in kept(owner, known)
    assert owner.execute("SELECT FROM timer WHERE aggregate_id = %s", (erasure.id,)).fetchall()
    carry_on(database, erasure)
    assert "Asanova" not in kept(owner, known)


def test_a_crash_between_two_steps_loses_nothing(
    agent: Caller, database: Database, known: Known, owner: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "BATCH", 1)
    erasure = erase(agent, known)
    for _ in range(2):
        carry_on(database, erasure)

    class Crash(Exception):
        pass

    def crash() -> None:
        with acting("customers", "timer", "bishkek"), database.unit() as unit:
            erasing.step(erasure.id, unit)
            unit.flush()
            raise Crash

    with pytest.raises(Crash):
        crash()
    assert agent(f"{PRIVACY}GetErasure", id=erasure.id).state == privacy_pb2.ERASURE_STATE_IN_PROGRESS
    for _ in range(3):
        carry_on(database, erasure)
    done = agent(f"{PRIVACY}GetErasure", id=erasure.id)
    assert (done.state, done.record_count, done.event_count) == (privacy_pb2.ERASURE_STATE_COMPLETED, 3, 3)
    assert "Asanova" not in kept(owner, known)


def test_who_is_still_needed_is_not_erased_unless_an_admin_insists(
    agent: Caller, caller_of: Any, log: Log, known: Known
) -> None:
    owner = values_pb2.RelatedParty(id=known.customer.id, role="customer", at_referred_type="Customer")
    product = inventory_pb2.Product(
        id=f"line-of-{known.person.id}", related_party=[owner], status=inventory_pb2.PRODUCT_STATUS_ACTIVE
    )
    log.tell("Product", product, "Create")
    balance = account_pb2.AccountBalance(
        balance_type="receivableBalance",
        amount=values_pb2.Money(unit="KGS", units=250),
        valid_for=values_pb2.TimePeriod(start_date_time=to_timestamp(log.now)),
    )
    known.account.account_balance.append(balance)
    caller_of("bishkek", role="billing")(
        f"{ACCOUNT}UpdateBillingAccount",
        billing_account=known.account,
        update_mask={"paths": ["account_balance"]},
    )
    with pytest.raises(FailedPrecondition) as refusal:
        erase(agent, known)
    assert refusal.value.reason == "STILL_NEEDED"
    needs = {f"Product {product.id}", f"the debt of BillingAccount {known.account.id}"}
    assert {one.description.removesuffix(" needs it") for one in refusal.value.violations} == needs
    with pytest.raises(PermissionDenied):
        erase(agent, known, force=True)
    with pytest.raises(InvalidArgument):
        erase(caller_of("bishkek", role="admin"), known, force=True, reason=" ")
    with pytest.raises(NotFound):
        erase(caller_of("osh", role="admin"), known, force=True)
    forced = erase(caller_of("bishkek", role="admin"), known, force=True)
    assert set(forced.overridden) == needs


def test_the_log_changes_by_an_erasure_only(database: Database, known: Known) -> None:
    """Neither by a statement of ours nor by the function, when no erasure is about the record."""
    with acting("customers", "test", "bishkek"), database.unit() as unit:
        event = unit.session.execute(
            metadata.tables["event"].select().where(metadata.tables["event"].c.aggregate_id == known.person.id)
        ).one()
        query = "SELECT redact_events('none', ARRAY[%(id)s], ARRAY[%(time)s], ARRAY[''::bytea])"
        assert unit.cursor().execute(query, {"id": event.id, "time": event.time}).fetchone() == (0,)
    with acting("customers", "test", "bishkek"), database.unit() as unit:
        rewrite = "UPDATE event SET data = '' WHERE id = %(id)s"
        with pytest.raises(psycopg.errors.InsufficientPrivilege), unit.connection().transaction():
            unit.cursor().execute(rewrite, {"id": event.id})


def test_every_table_says_what_an_erasure_means_for_it() -> None:
    aggregates = {resource.table.name for resource in tables.RESOURCES.values()}
    silent = [
        table.name
        for table in metadata.tables.values()
        if table.name not in aggregates and rule_under_erasure(table) is None
    ]
    assert silent == []


# What is nobody's: employees, and what others are made after.
NOBODY = {"Absence", "AgreementSpecification", "DocumentSpecification", "HandOver"}


def test_every_kind_about_a_person_is_found_by_an_erasure() -> None:
    """By a section of the view, or by the columns that say what a merge means."""
    found = {
        cls.__name__
        for cls, resource in tables.RESOURCES.items()
        if any(
            isinstance(resource.table.c[name].type, sa.Text)
            for name in (rule_under_merge(resource.table) or ((), ()))[1]
        )
    }
    about = {cls.__name__ for cls, resource in tables.RESOURCES.items() if holds_personal(resource.message.DESCRIPTOR)}
    assert about - SECTIONS.keys() - found - NOBODY == set()


def test_what_is_worked_out_of_a_customer_may_have_his_id(
    agent: Caller, database: Database, known: Known, log: Log
) -> None:
    log.tell("CustomerValue", value_pb2.CustomerValue(id=known.customer.id), "Create")
    erasure = erase(agent, known)
    carry_on(database, erasure)
    done = agent(f"{PRIVACY}GetErasure", id=erasure.id)
    assert done.state == privacy_pb2.ERASURE_STATE_COMPLETED
    assert {one.kind for one in done.record if one.id == known.customer.id} == {"Customer", "CustomerValue"}


def test_an_item_that_comes_late_is_found_by_its_order(
    agent: Caller, database: Database, known: Known, owner: psycopg.Connection[Any], log: Log
) -> None:
    """Though the order itself says nothing of anybody."""
    erasure = erase(agent, known)
    carry_on(database, erasure)
    order = orders_pb2.ProductOrder(
        id=f"late-{known.person.id}",
        related_party=[values_pb2.RelatedParty(id=known.customer.id, role="customer", at_referred_type="Customer")],
    )
    item = orders_pb2.OrderedItem(id=f"item-{known.person.id}", product_order_id=order.id)
    item.item.billing_account.id, item.item.billing_account.name = known.account.id, "Asanova's"
    for kind, message in (("ProductOrder", order), ("ProductOrderItem", item)):
        log.tell(kind, message, "Create")
        with acting("customers", "test", "bishkek"), database.unit() as unit:
            redact_again(log.events[-1], unit)
    carry_on(database, erasure)
    done = agent(f"{PRIVACY}GetErasure", id=erasure.id)
    assert {one.id for one in done.record} == {order.id, item.id}
    versions = owner.execute("SELECT data FROM view_item WHERE item_id = %s", (item.id,)).fetchall()
    assert versions
    assert not [row for row in versions if b"Asanova" in row[0]]


def test_an_answer_sent_again_names_nobody_any_more(agent: Caller, database: Database, log: Log) -> None:
    """It is the same answer, since nothing may be done twice, but says less."""
    request = {"individual": party_pb2.Individual(family_name="Asanova", given_name="Aida"), "request_id": new_id()}
    person = agent(f"{PARTY}CreateIndividual", **request)
    erasure = agent(f"{PRIVACY}ErasePerson", party_id=person.id, reason="her request")
    carry_on(database, erasure)
    again = agent(f"{PARTY}CreateIndividual", **request)
    assert (again.id, again.family_name) == (person.id, "")


def test_a_parked_event_names_nobody_any_more(
    agent: Caller, database: Database, known: Known, owner: psycopg.Connection[Any]
) -> None:
    headers = {"ce-subject": f"ProductOrder/{known.order.id}", "ce-datatype": known.order.DESCRIPTOR.full_name}
    parked = """
        INSERT INTO parked_event (consumer, event_id, key, branch, subject, headers, data, parked_at)
        VALUES ('c', %s, 'k', 'bishkek', 's', %s, %s, now())
    """
    owner.execute(parked, (known.order.id, json.dumps(headers), known.order.SerializeToString()))
    carry_on(database, erase(agent, known))
    row = owner.execute("SELECT data FROM parked_event WHERE event_id = %s", (known.order.id,)).fetchone()
    assert row is not None
    order = orders_pb2.ProductOrder.FromString(row[0])
    assert (order.related_party[0].id, order.related_party[0].name) == (known.customer.id, "")
