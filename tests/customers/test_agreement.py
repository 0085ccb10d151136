"""Agreements over gRPC, and what happens to them by themselves when the clock moves."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask

from chassis.clock import Clock
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.events import acting
from chassis.timers import Timers
from chassis.types import TimePeriod, new_id
from customers import store
from customers.agreement import deadlines as agreement_deadlines
from customers.agreement.api import Agreements
from customers.agreement.domain import Agreement
from customers.agreement.values import AgreementSpecificationRef
from svyaz.customers.v1 import agreement_pb2, agreement_pb2_grpc
from svyaz.type.v1 import values_pb2
from svyaz_cli.issuer import Issuer
from tests.conftest import ServiceDatabase
from tests.customers.conftest import CUSTOMER, PARTY
from tests.customers.test_api import customer, person
from tests.customers.test_merge import known, merged, parted
from tests.serving import Caller, customers_registrations, deadlines, serving

AGREEMENT = "svyaz.customers.v1.AgreementService/"
TASK = "svyaz.customers.v1.TaskService/"
ROLE = "svyaz.customers.v1.PartyRoleService/"


class Place:
    """A customers service whose clock can be moved, with its timers running."""

    def __init__(self, database: Database, clock: Path, agent: Caller, berlin: Caller) -> None:
        self.database, self.agent, self.berlin = database, agent, berlin
        self._clock = clock

    @property
    def now(self) -> datetime:
        return self.database.clock.now()

    def move(self, **by: float) -> None:
        """Moves the clock forward."""
        passed = float(self._clock.read_text() or 0) if self._clock.exists() else 0.0
        self._clock.write_text(str(passed + timedelta(**by).total_seconds()))

    def get(self, id: str, caller: Caller | None = None) -> Any:
        return (caller or self.agent)(f"{AGREEMENT}GetAgreement", id=id)

    def events(self, id: str) -> list[str]:
        """The types of the events of an agreement, in order."""
        event = self.database.log.event
        with acting("customers", "test"), self.database.unit() as unit:
            query = sa.select(event.c.type).where(event.c.aggregate_id == id).order_by(event.c.version)
            return list(unit.session.scalars(query))

    def until(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 15
        while not what():
            assert time.monotonic() < deadline, "it doesn't happen"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def moving(
    database_for: Callable[..., ServiceDatabase], issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    clock = tmp_path_factory.mktemp("clock") / "offset"
    url = database_for("customers").url
    database = Database(url, clock=Clock(str(clock)), metadata=store.metadata, resources=store.RESOURCES)
    rules = deadlines()
    registrations = [
        one
        for one in customers_registrations(database)
        if one[0] is not agreement_pb2_grpc.add_AgreementServiceServicer_to_server
    ]
    registrations.append((agreement_pb2_grpc.add_AgreementServiceServicer_to_server, Agreements(database, rules)))
    timers = Timers(database, rules.timers(), service="customers", workers=1)
    timers.start()
    with serving("customers", registrations, issuer) as address, grpc.insecure_channel(address) as channel:
        # Tokens go by the clock of the machine, what happens by the one that is moved.
        agent, berlin = (Caller(channel, issuer.token(["agent"], [branch])) for branch in ("bishkek", "berlin"))
        yield Place(database, clock, agent, berlin)
    timers.stop()
    database.close()


def agreed(caller: Caller, *, ends: datetime | None = None, party: str = "c-1", **values: Any) -> Any:
    message = agreement_pb2.Agreement(
        **{
            "name": "connection for three years",
            "agreement_type": "commercial",
            "agreement_item": [agreement_pb2.AgreementItem(product=[values_pb2.EntityRef(id="p-1")])],
            "engaged_party": [values_pb2.RelatedParty(id=party, at_referred_type="Customer")],
            "status": "approved",
            **values,
        }
    )
    if ends is not None:
        message.agreement_period.end_date_time.FromDatetime(ends)
    return caller(f"{AGREEMENT}CreateAgreement", agreement=message)


def ends(caller: Caller, id: str, at: datetime) -> Any:
    message = agreement_pb2.Agreement(id=id)
    message.agreement_period.end_date_time.FromDatetime(at)
    mask = FieldMask(paths=["agreement_period.end_date_time"])
    return caller(f"{AGREEMENT}UpdateAgreement", agreement=message, update_mask=mask)


def becomes(caller: Caller, id: str, status: str) -> Any:
    message = agreement_pb2.Agreement(id=id, status=status)
    return caller(f"{AGREEMENT}UpdateAgreement", agreement=message, update_mask=FieldMask(paths=["status"]))


def tasks(caller: Caller, agreement_id: str) -> list[Any]:
    found = caller(
        f"{TASK}ListWorkItems",
        filter=[{"path": "subject_id", "value": [agreement_id]}, {"path": "kind", "value": ["agreementEndsSoon"]}],
    ).items
    return list(found)


def test_notice_is_given_ahead_and_at_the_end_it_has_expired(moving: Place) -> None:
    made = agreed(moving.agent, ends=moving.now + timedelta(days=100))
    moving.move(days=10.1)
    moving.until(lambda: moving.get(made.id).expiry_notice_given == 90)
    (task,) = tasks(moving.agent, made.id)
    assert task.due_at == made.agreement_period.end_date_time
    # An outage over two notices: the later one is given.
    moving.move(days=62)
    moving.until(lambda: moving.get(made.id).expiry_notice_given == 30)
    assert len(tasks(moving.agent, made.id)) == 1
    moving.move(days=29)
    moving.until(lambda: moving.get(made.id).status == "expired")
    assert moving.events(made.id) == [
        "AgreementCreateEvent",
        "AgreementExpiryAheadEvent",
        "AgreementExpiryAheadEvent",
        "AgreementStateChangeEvent",
    ]


def test_another_end_counts_anew(moving: Place) -> None:
    made = agreed(moving.agent, ends=moving.now + timedelta(days=91))
    moving.move(days=1.1)
    moving.until(lambda: moving.get(made.id).expiry_notice_given == 90)
    renewed = ends(moving.agent, made.id, moving.now + timedelta(days=365))
    assert not renewed.HasField("expiry_notice_given")
    assert [task.outcome for task in tasks(moving.agent, made.id)] == ["another end"]
    moving.move(days=274)
    moving.until(lambda: moving.get(made.id).status == "approved" and moving.get(made.id).expiry_notice_given == 0)
    moving.move(days=1.1)
    moving.until(lambda: moving.get(made.id).expiry_notice_given == 90)
    # Whoever ends it today ends it.
    assert ends(moving.agent, made.id, moving.now - timedelta(seconds=1)).status == "expired"


def test_who_changes_it_between_its_end_and_its_timer_doesnt_keep_it_alive(database: Database, agent: Caller) -> None:
    # No timers run here: as during an outage.
    made = agreed(agent, ends=database.clock.now() + timedelta(seconds=0.3))
    time.sleep(0.4)
    message = agreement_pb2.Agreement(id=made.id, description="changed")
    agent(f"{AGREEMENT}UpdateAgreement", agreement=message, update_mask=FieldMask(paths=["description"]))
    handlers = deadlines().timers()
    (purpose,) = timers_of(database, made.id)
    with acting("customers", "timer", "bishkek"), database.unit() as unit:
        handlers[purpose](made.id, unit)
    assert agent(f"{AGREEMENT}GetAgreement", id=made.id).status == "expired"


def timers_of(database: Database, id: str) -> list[str]:
    timer = database.metadata.tables["timer"]
    with acting("customers", "test"), database.unit() as unit:
        return list(unit.session.scalars(sa.select(timer.c.purpose).where(timer.c.aggregate_id == id)))


def test_one_that_comes_in_late_is_told_of_at_once_and_one_that_is_over_is_left_as_it_is(moving: Place) -> None:
    late = agreed(moving.agent, ends=moving.now + timedelta(days=10))
    past = agreed(moving.agent, ends=moving.now - timedelta(days=10))
    negotiated = agreed(moving.agent, ends=moving.now + timedelta(days=10), status="in process")
    moving.until(lambda: moving.get(late.id).expiry_notice_given == 30)
    becomes(moving.agent, negotiated.id, "approved")
    moving.until(lambda: moving.get(negotiated.id).expiry_notice_given == 30)
    becomes(moving.agent, late.id, "terminated")
    assert [task.outcome for task in tasks(moving.agent, late.id)] == ["terminated"]
    moving.move(days=11)
    moving.until(lambda: moving.get(negotiated.id).status == "expired")
    assert (moving.get(late.id).status, moving.get(past.id).status) == ("terminated", "approved")


def test_the_last_day_is_the_branchs_and_so_is_the_hour_of_the_notice(moving: Place) -> None:
    year = moving.now.year + 1
    made = agreed(moving.berlin, end_date=f"{year}-07-15")
    # Midnight after the day, in Berlin's summer.
    assert made.agreement_period.end_date_time.ToDatetime(UTC) == datetime(year, 7, 15, 22, tzinfo=UTC)
    with acting("customers", "test"), moving.database.unit() as unit:
        timer = moving.database.metadata.tables["timer"]
        due = unit.session.scalar(sa.select(timer.c.due).where(timer.c.aggregate_id == made.id))
    assert due == datetime(year, 4, 16, 22, tzinfo=UTC)
    with pytest.raises(InvalidArgument) as refusal:
        agreed(moving.berlin, end_date="someday")
    assert [one.field for one in refusal.value.violations] == ["end_date"]


def test_a_pattern_says_how_far_ahead_also_of_agreements_that_are_there(moving: Place) -> None:
    attachment = [values_pb2.Attachment(name="template", url="https://example.org/template")]
    pattern = moving.agent(
        f"{AGREEMENT}CreateAgreementSpecification",
        agreement_specification=agreement_pb2.AgreementSpecification(
            name="rent of a mast", attachment=attachment, expiry_notice_days=[7]
        ),
    )
    reference = agreement_pb2.AgreementSpecificationRef(id=pattern.id)
    made = agreed(moving.agent, ends=moving.now + timedelta(days=50), agreement_specification=reference)
    open_ended = agreed(moving.agent, agreement_specification=reference)
    time.sleep(1)
    assert moving.events(made.id) == ["AgreementCreateEvent"]
    pattern.expiry_notice_days[:] = [180, 51]
    moving.agent(
        f"{AGREEMENT}UpdateAgreementSpecification",
        agreement_specification=pattern,
        update_mask=FieldMask(paths=["expiry_notice_days"]),
    )
    moving.until(lambda: moving.get(made.id).expiry_notice_given == 51)
    assert moving.events(open_ended.id) == ["AgreementCreateEvent"]
    with pytest.raises(FailedPrecondition, match=made.id):
        moving.agent(f"{AGREEMENT}DeleteAgreementSpecification", id=pattern.id)


def test_all_agreements_of_a_pattern_are_dated_anew_however_many(
    agent: Caller, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement_deadlines, "BATCH", 2)
    attachment = [values_pb2.Attachment(name="template", url="https://example.org/template")]
    pattern = agent(
        f"{AGREEMENT}CreateAgreementSpecification",
        agreement_specification=agreement_pb2.AgreementSpecification(
            name="lease", attachment=attachment, expiry_notice_days=[7]
        ),
    )
    end = database.clock.now() + timedelta(days=50)
    reference = agreement_pb2.AgreementSpecificationRef(id=pattern.id)
    made = [agreed(agent, ends=end, agreement_specification=reference).id for _ in range(5)]
    pattern.expiry_notice_days[:] = [20]
    agent(
        f"{AGREEMENT}UpdateAgreementSpecification",
        agreement_specification=pattern,
        update_mask=FieldMask(paths=["expiry_notice_days"]),
    )
    timer = database.metadata.tables["timer"]
    handler = deadlines().timers()[agreement_deadlines.REDATE]
    done: set[str] = set()
    while True:
        with acting("customers", "timer", "bishkek"), database.unit() as unit:
            query = sa.select(timer.c.aggregate_id).where(timer.c.purpose == agreement_deadlines.REDATE)
            waiting = [key for key in unit.session.scalars(query) if key.startswith(pattern.id) and key not in done]
            if not waiting:
                break
            done.add(waiting[0])
            handler(waiting[0], unit)
    with acting("customers", "test"), database.unit() as unit:
        due = unit.session.scalars(sa.select(timer.c.due).where(timer.c.aggregate_id.in_(made))).all()
    assert list(due) == [end - timedelta(days=20)] * 5


def priced_by(agent: Caller, customer_id: str) -> list[str]:
    (found,) = agent(f"{CUSTOMER}GetOrderingContext", customer_id=[customer_id]).customer
    return list(found.agreement_id)


def test_a_customer_is_priced_by_the_agreements_that_are_in_force(moving: Place) -> None:
    agent = moving.agent
    one = customer(agent, person(agent).id, agreement=[values_pb2.EntityRef(id="of-another-system")])
    made = agreed(agent, party=one.id, status="in process", ends=moving.now + timedelta(days=5))
    assert priced_by(agent, one.id) == ["of-another-system"]
    becomes(agent, made.id, "approved")
    assert priced_by(agent, one.id) == ["of-another-system", made.id]
    assert [ref.id for ref in agent(f"{CUSTOMER}GetCustomer", id=one.id).agreement][1:] == [made.id]
    found = agent(f"{AGREEMENT}ListAgreements", filter=[{"path": "engaged_party.id", "value": [one.id]}]).items
    assert [item.id for item in found] == [made.id]
    # The moment it is over, whenever its timer comes.
    moving.move(days=6)
    assert priced_by(agent, one.id) == ["of-another-system"]
    with pytest.raises(FailedPrecondition, match=made.id):
        agent(f"{CUSTOMER}DeleteCustomer", id=one.id)
    agent(f"{AGREEMENT}DeleteAgreement", id=made.id)
    assert [ref.id for ref in agent(f"{CUSTOMER}GetCustomer", id=one.id).agreement] == ["of-another-system"]
    agent(f"{CUSTOMER}DeleteCustomer", id=one.id)


def test_who_is_engaged_no_more_isnt_priced_by_it_any_more(agent: Caller) -> None:
    first, second = (customer(agent, person(agent).id) for _ in range(2))
    made = agreed(agent, party=first.id)
    message = agreement_pb2.Agreement(id=made.id, engaged_party=[values_pb2.RelatedParty(id=second.id)])
    agent(f"{AGREEMENT}UpdateAgreement", agreement=message, update_mask=FieldMask(paths=["engaged_party"]))
    assert (priced_by(agent, first.id), priced_by(agent, second.id)) == ([], [made.id])
    becomes(agent, made.id, "terminated")
    message = agreement_pb2.Agreement(id=made.id, engaged_party=[values_pb2.RelatedParty(id=first.id)])
    agent(f"{AGREEMENT}UpdateAgreement", agreement=message, update_mask=FieldMask(paths=["engaged_party"]))
    assert not any(agent(f"{CUSTOMER}GetCustomer", id=one.id).agreement for one in (first, second))
    # Nobody is in the way of its deletion.
    agent(f"{AGREEMENT}DeleteAgreement", id=made.id)


def test_an_agreement_of_a_merged_customer_is_his_again_when_the_two_are_parted(agent: Caller) -> None:
    absorbed, survivor = known(agent), known(agent)
    merge = merged(agent, absorbed.id, survivor.id)
    made = agreed(agent, party=absorbed.id)
    assert priced_by(agent, absorbed.id) == priced_by(agent, survivor.id) == [made.id]
    parted(agent, merge.id)
    assert (priced_by(agent, absorbed.id), priced_by(agent, survivor.id)) == ([made.id], [])


def test_one_that_never_ends_in_effect_has_no_notice_in_our_time(agent: Caller, database: Database) -> None:
    # What other systems write where there is no end.
    made = agreed(agent, ends=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    timer = database.metadata.tables["timer"]
    with acting("customers", "test"), database.unit() as unit:
        due = unit.session.scalar(sa.select(timer.c.due).where(timer.c.aggregate_id == made.id))
    assert due is not None
    assert due.year == 9999
    with pytest.raises(InvalidArgument) as refusal:
        agreed(agent, end_date="0001-01-01")
    assert refusal.value.reason == "DAY_INVALID"


def test_notices_that_change_find_an_agreement_that_is_being_made(agent: Caller, database: Database) -> None:
    attachment = [values_pb2.Attachment(name="template", url="https://example.org/template")]
    pattern = agent(
        f"{AGREEMENT}CreateAgreementSpecification",
        agreement_specification=agreement_pb2.AgreementSpecification(
            name="lease", attachment=attachment, expiry_notice_days=[7]
        ),
    )
    rules, begun, go_on = deadlines(), threading.Event(), threading.Event()

    def make() -> None:
        with acting("customers", "test", "bishkek"), database.unit() as unit:
            one = Agreement(
                id=new_id(),
                branch="bishkek",
                status="approved",
                agreement_period=TimePeriod(end_date_time=unit.at + timedelta(days=50)),
                agreement_specification=AgreementSpecificationRef(id=pattern.id),
            )
            rules.plan(unit, one)
            unit.flush()
            begun.set()
            go_on.wait(5)

    making = threading.Thread(target=make)
    making.start()
    assert begun.wait(5)
    pattern.expiry_notice_days[:] = [20]
    changing = threading.Thread(
        target=lambda: agent(
            f"{AGREEMENT}UpdateAgreementSpecification",
            agreement_specification=pattern,
            update_mask=FieldMask(paths=["expiry_notice_days"]),
        )
    )
    changing.start()
    changing.join(0.4)
    waits = changing.is_alive()
    go_on.set()
    making.join()
    changing.join()
    assert waits, "it was changed while somebody planned by it"


def test_an_agreement_that_somebody_else_names_stays(moving: Place) -> None:
    made = agreed(moving.agent)
    role = moving.agent(
        f"{ROLE}CreatePartyRole", party_role={"name": "Partner", "agreement": [values_pb2.EntityRef(id=made.id)]}
    )
    with pytest.raises(FailedPrecondition, match=role.id):
        moving.agent(f"{AGREEMENT}DeleteAgreement", id=made.id)
    moving.agent(f"{ROLE}DeletePartyRole", id=role.id)
    moving.agent(f"{AGREEMENT}DeleteAgreement", id=made.id)


def test_an_agreement_begins_with_parties_that_are_known_and_its_own_branchs(
    moving: Place, issuer: Issuer, caller_of: Callable[..., Caller]
) -> None:
    made = agreed(moving.agent, party="nobody")
    with pytest.raises(FailedPrecondition) as refusal:
        becomes(moving.agent, made.id, "active")
    assert refusal.value.reason == "UNRESOLVED_REFERENCE"
    assert [one.field for one in refusal.value.violations] == ["engaged_party[0].id"]
    role = moving.agent(f"{ROLE}CreatePartyRole", party_role={"name": "Dealer"})
    for party in (role.id, person(moving.agent).id):
        known = agreed(moving.agent, party=party, status="approved")
        assert becomes(moving.agent, known.id, "active").status == "active"


def test_nobody_engages_somebody_of_another_branch(caller_of: Callable[..., Caller]) -> None:
    both = caller_of("bishkek", "osh")
    theirs = person(caller_of("osh"))
    reference = values_pb2.RelatedParty(id=theirs.id, at_referred_type="Individual")
    for method, field, body in (
        ("CreatePartyRole", "engaged_party.id", {"name": "agent", "engaged_party": reference}),
        (
            "CreateAgreement",
            "engaged_party[0].id",
            {"name": "a", "agreement_type": "b", "agreement_item": [{}], "engaged_party": [reference]},
        ),
    ):
        service, name = (ROLE, "party_role") if "Role" in method else (AGREEMENT, "agreement")
        with pytest.raises(InvalidArgument) as refusal:
            both(f"{service}{method}", branch="bishkek", **{name: body})
        assert (refusal.value.reason, [one.field for one in refusal.value.violations]) == ("OTHER_BRANCH", [field])


def test_counterparties_are_found_by_their_kind(agent: Caller) -> None:
    company = agent(f"{PARTY}CreateOrganization", organization={"trading_name": "Bitel"})
    reference = values_pb2.RelatedParty(id=company.id, at_referred_type="Organization")
    made = {
        name: agent(f"{ROLE}CreatePartyRole", party_role={"name": name, "engaged_party": reference}).id
        for name in ("Partner", "partner", "Agent", "Competitor")
    }

    def found(path: str, *values: str) -> set[str]:
        return {one.id for one in agent(f"{ROLE}ListPartyRoles", filter=[{"path": path, "value": values}]).items}

    assert found("kind", "partner") == {made["Partner"], made["partner"]}
    assert found("kind", "agent", "competitor") == {made["Agent"], made["Competitor"]}
    assert found("engaged_party.id", company.id) == set(made.values())
    assert found("engaged_party.id", "nobody") == set()
    with pytest.raises(FailedPrecondition, match=made["Agent"]):
        agent(f"{PARTY}DeleteOrganization", id=company.id)
