"""The service's methods as a client finds them: resources kept, changed, refused, remembered."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from chassis import convert
from chassis.errors import Aborted, DomainError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from svyaz.customers.v1 import account_pb2, customers_pb2, party_pb2
from svyaz.type.v1 import values_pb2
from tests.conftest import ServiceDatabase
from tests.customers.conftest import ACCOUNT, CUSTOMER, PARTY
from tests.serving import Caller


def person(agent: Caller, **values: Any) -> Any:
    return agent(
        f"{PARTY}CreateIndividual",
        individual=party_pb2.Individual(**{"given_name": "Aida", "family_name": "Usenova", **values}),
    )


def customer(agent: Caller, party_id: str, **values: Any) -> Any:
    party = values_pb2.RelatedParty(id=party_id, at_referred_type="Individual")
    return agent(
        f"{CUSTOMER}CreateCustomer", customer=customers_pb2.Customer(name="Aida", engaged_party=party, **values)
    )


def change(agent: Caller, individual: party_pb2.Individual, *paths: str, **more: str) -> Any:
    return agent(f"{PARTY}UpdateIndividual", individual=individual, update_mask=FieldMask(paths=paths), **more)


def test_what_is_created_is_read_changed_and_deleted(agent: Caller) -> None:
    made = person(agent, gender="female", extensions=b'{"loyalty":{"points":437011234567890123}}')
    assert (made.branch, made.etag, made.status) == ("bishkek", "1", party_pb2.INDIVIDUAL_STATE_INITIALIZED)
    assert agent(f"{PARTY}GetIndividual", id=made.id) == made
    wanted = party_pb2.Individual(id=made.id, title="Dr")
    changed = change(agent, wanted, "title", "gender", etag="1")
    assert (changed.title, changed.HasField("gender"), changed.given_name, changed.etag) == ("Dr", False, "Aida", "2")
    assert changed.extensions == made.extensions
    agent(f"{PARTY}DeleteIndividual", id=made.id, etag="2")
    with pytest.raises(NotFound):
        agent(f"{PARTY}GetIndividual", id=made.id)


def test_a_change_of_nothing_is_no_revision(agent: Caller) -> None:
    made = person(agent)
    assert change(agent, party_pb2.Individual(id=made.id, given_name="Aida"), "given_name").etag == "1"


def test_a_stale_etag_is_aborted_and_changes_nothing(agent: Caller) -> None:
    made = person(agent)
    change(agent, party_pb2.Individual(id=made.id, title="Dr"), "title")
    with pytest.raises(Aborted, match="has changed") as refusal:
        change(agent, party_pb2.Individual(id=made.id, title="Prof"), "title", etag="1")
    assert refusal.value.reason == "STALE_ETAG"
    with pytest.raises(Aborted, match="has changed"):
        agent(f"{PARTY}DeleteIndividual", id=made.id, etag="1")
    assert agent(f"{PARTY}GetIndividual", id=made.id).title == "Dr"


def test_a_wrong_transition_says_what_is_possible(agent: Caller) -> None:
    made = person(agent, status=party_pb2.INDIVIDUAL_STATE_DECEASED)
    wanted = party_pb2.Individual(id=made.id, status=party_pb2.INDIVIDUAL_STATE_VALIDATED)
    with pytest.raises(FailedPrecondition, match="final") as refusal:
        change(agent, wanted, "status")
    assert refusal.value.reason == "BAD_TRANSITION"


def test_what_is_referred_to_stays(agent: Caller) -> None:
    made = person(agent)
    role = customer(agent, made.id)
    with pytest.raises(FailedPrecondition, match=role.id) as refusal:
        agent(f"{PARTY}DeleteIndividual", id=made.id)
    assert refusal.value.reason == "REFERENCED"
    agent(f"{CUSTOMER}DeleteCustomer", id=role.id)
    agent(f"{PARTY}DeleteIndividual", id=made.id)


def test_a_reference_that_is_taken_back_holds_nobody(agent: Caller) -> None:
    first, second = person(agent), person(agent)
    role = customer(agent, first.id)
    party = values_pb2.RelatedParty(id=second.id, at_referred_type="Individual")
    agent(
        f"{CUSTOMER}UpdateCustomer",
        customer=customers_pb2.Customer(id=role.id, engaged_party=party),
        update_mask=FieldMask(paths=["engaged_party"]),
    )
    agent(f"{PARTY}DeleteIndividual", id=first.id)
    with pytest.raises(FailedPrecondition):
        agent(f"{PARTY}DeleteIndividual", id=second.id)


def test_a_customer_is_verified_once_its_party_is_known(agent: Caller) -> None:
    assert customer(agent, person(agent).id).status == "verified"
    assert customer(agent, "nobody").status == "unverified"


def test_a_party_of_another_branch_is_refused(caller_of: Callable[..., Caller]) -> None:
    everywhere = caller_of("bishkek", "osh")
    made = everywhere(
        f"{PARTY}CreateIndividual",
        branch="osh",
        individual=party_pb2.Individual(given_name="Aida", family_name="Usenova"),
    )
    party = values_pb2.RelatedParty(id=made.id, at_referred_type="Individual")
    with pytest.raises(InvalidArgument) as refusal:
        everywhere(
            f"{CUSTOMER}CreateCustomer",
            branch="bishkek",
            customer=customers_pb2.Customer(name="Aida", engaged_party=party),
        )
    assert refusal.value.reason == "OTHER_BRANCH"


def test_an_order_learns_the_segments_and_agreements_of_its_customer(agent: Caller) -> None:
    made = customer(
        agent,
        person(agent).id,
        market_segment=[values_pb2.EntityRef(id="s1", name="students")],
        agreement=[values_pb2.EntityRef(id="a1", name="frame"), values_pb2.EntityRef(name="verbal")],
    )
    assert agent(f"{CUSTOMER}GetCustomer", id=made.id).market_segment == made.market_segment

    def known() -> Any:
        (found,) = agent(f"{CUSTOMER}GetOrderingContext", customer_id=[made.id]).customer
        return [(one.id, one.name) for one in found.market_segment], list(found.agreement_id)

    assert known() == ([("s1", "students")], ["a1"])
    mask = FieldMask(paths=["market_segment", "agreement"])
    agent(f"{CUSTOMER}UpdateCustomer", customer=customers_pb2.Customer(id=made.id), update_mask=mask)
    assert known() == ([], [])


def test_required_fields_are_named(agent: Caller) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        agent(f"{PARTY}CreateIndividual", individual=party_pb2.Individual(given_name="Aida"))
    assert [violation.field for violation in refusal.value.violations] == ["individual.family_name"]
    made = person(agent)
    with pytest.raises(InvalidArgument):
        change(agent, party_pb2.Individual(id=made.id), "given_name")


def test_an_unknown_field_in_a_mask_is_named(agent: Caller) -> None:
    made = person(agent)
    with pytest.raises(InvalidArgument) as refusal:
        change(agent, party_pb2.Individual(id=made.id), "shoe_size")
    assert refusal.value.reason == "UNKNOWN_FIELD"
    assert [violation.field for violation in refusal.value.violations] == ["shoe_size"]


def test_what_the_service_sets_nobody_else_does(agent: Caller) -> None:
    made = person(agent, id="mine", branch="osh", etag="77")
    assert made.id != "mine"
    assert (made.branch, made.etag) == ("bishkek", "1")


def test_the_branch_must_be_ones_own_and_said_when_there_are_two(caller_of: Callable[..., Caller]) -> None:
    body = party_pb2.Individual(given_name="Aida", family_name="Usenova")
    with pytest.raises(PermissionDenied):
        caller_of("bishkek")(f"{PARTY}CreateIndividual", branch="osh", individual=body)
    with pytest.raises(InvalidArgument) as refusal:
        caller_of("bishkek", "osh")(f"{PARTY}CreateIndividual", individual=body)
    assert refusal.value.reason == "BRANCH_REQUIRED"
    with pytest.raises(InvalidArgument):
        caller_of("*")(f"{PARTY}CreateIndividual", branch="*", individual=body)


def test_the_past_can_be_read(agent: Caller) -> None:
    before = datetime.now(UTC)
    made = person(agent)
    first = datetime.now(UTC)
    change(agent, party_pb2.Individual(id=made.id, title="Dr"), "title")
    second = datetime.now(UTC)
    agent(f"{PARTY}DeleteIndividual", id=made.id)

    def at(instant: datetime) -> Any:
        return agent(f"{PARTY}GetIndividual", id=made.id, at=convert.to_timestamp(instant))

    assert at(first) == made
    assert (at(second).title, at(second).etag) == ("Dr", "2")
    for instant in (before, datetime.now(UTC)):
        with pytest.raises(NotFound):
            at(instant)


def test_an_account_of_every_kind_is_kept(agent: Caller) -> None:
    party = values_pb2.RelatedParty(id="p", at_referred_type="Individual")
    for kind in ("Party", "Billing", "Settlement"):
        message = getattr(account_pb2, f"{kind}Account")(name=kind, related_party=[party])
        made = agent(f"{ACCOUNT}Create{kind}Account", **{f"{kind.lower()}_account": message})
        assert agent(f"{ACCOUNT}Get{kind}Account", id=made.id).name == kind
        assert made.HasField("last_modified")


# --- the same request again ------------------------------------------------------------------------------------------


def _create(agent: Caller, key: str, name: str = "Aida") -> Any:
    body = party_pb2.Individual(given_name=name, family_name="Usenova")
    return agent(f"{PARTY}CreateIndividual", request_id=key, individual=body)


def test_a_repeated_request_gets_the_first_answer(agent: Caller) -> None:
    first = _create(agent, "again")
    change(agent, party_pb2.Individual(id=first.id, title="Dr"), "title")
    assert _create(agent, "again") == first


def test_a_key_belongs_to_one_request_of_one_caller(agent: Caller, caller_of: Callable[..., Caller]) -> None:
    first = _create(agent, "mine")
    with pytest.raises(InvalidArgument) as refusal:
        _create(agent, "mine", "Bermet")
    assert refusal.value.reason == "IDEMPOTENCY_KEY_REUSED"
    assert _create(caller_of("osh"), "mine").id != first.id


def test_a_refused_request_leaves_its_key_free(agent: Caller) -> None:
    with pytest.raises(InvalidArgument):
        agent(f"{PARTY}CreateIndividual", request_id="refused", individual=party_pb2.Individual(given_name="A"))
    assert _create(agent, "refused").etag == "1"


def test_one_key_at_the_same_time_makes_one_thing(agent: Caller, place: ServiceDatabase) -> None:
    made: list[Any] = []
    troubles: list[DomainError] = []
    barrier = threading.Barrier(8)

    def create() -> None:
        barrier.wait()
        try:
            made.append(_create(agent, "together", "Cholpon"))
        except DomainError as error:
            troubles.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert len({answer.id for answer in made}) == 1
    with psycopg.connect(place.admin_url) as connection:
        for query in (
            "SELECT count(*) FROM individual WHERE given_name = 'Cholpon'",
            "SELECT count(*) FROM event WHERE aggregate_id = %s",
            "SELECT count(*) FROM outbox WHERE ordering_key = %s",
        ):
            row = connection.execute(query, (made[0].id,) if "%s" in query else ()).fetchone()
            assert row == (1,)


def test_writers_at_the_same_time_lose_nothing(agent: Caller) -> None:
    made = person(agent)
    titles = [f"T{number}" for number in range(8)]
    answers: list[str] = []
    conflicts: list[str] = []

    def write(title: str) -> None:
        try:
            answers.append(change(agent, party_pb2.Individual(id=made.id, title=title), "title").etag)
        except Aborted as error:
            conflicts.append(error.reason)

    threads = [threading.Thread(target=write, args=(title,)) for title in titles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == len(answers)
    assert agent(f"{PARTY}GetIndividual", id=made.id).etag == str(1 + len(answers))
    assert set(conflicts) <= {"CONFLICT"}


@pytest.mark.parametrize("method", ["Get", "Delete"])
def test_an_id_that_no_text_can_be_is_refused(agent: Caller, method: str) -> None:
    with pytest.raises(InvalidArgument):
        agent(f"{PARTY}{method}Individual", id="\0")


def test_a_text_that_the_database_cannot_hold_is_refused(agent: Caller) -> None:
    for body in (
        party_pb2.Individual(given_name="A\0", family_name="B"),
        party_pb2.Individual(
            given_name="A", family_name="B", contact_medium=[values_pb2.ContactMedium(medium_type="\0")]
        ),
    ):
        with pytest.raises(InvalidArgument):
            agent(f"{PARTY}CreateIndividual", individual=body)
