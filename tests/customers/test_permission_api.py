"""Permissions as those who contact customers find them: media with states, the ledger, tokens, and the history."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from chassis.clock import Clock
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from customers import store
from svyaz.customers.v1 import party_pb2
from svyaz.customers.v1 import permission_pb2 as pb
from svyaz.type.v1 import requests_pb2
from svyaz_cli.issuer import Issuer
from tests.conftest import ServiceDatabase
from tests.customers.permission import (
    CUSTOMER,
    PARTY,
    PERMISSION,
    Moved,
    codes,
    consent,
    customer,
    number,
    phone,
    policy,
    reserve,
    spend,
)
from tests.serving import Caller, customers_registrations, serving

# 12:00 in Bishkek, a Wednesday.
NOON = datetime(2027, 3, 10, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Moved:
    return Moved(tmp_path_factory.mktemp("clock") / "offset")


@pytest.fixture(scope="module")
def channel(place: ServiceDatabase, clock: Moved, issuer: Issuer) -> Iterator[grpc.Channel]:
    """As conftest's, by the moved clock, and with a policy."""
    database = Database(place.url, clock=Clock(str(clock.file)), metadata=store.metadata, resources=store.RESOURCES)
    clock.show(NOON - timedelta(days=30))
    with (
        serving("customers", customers_registrations(database), issuer) as address,
        grpc.insecure_channel(address) as opened,
    ):
        Caller(opened, issuer.token(["admin"], ["bishkek"]))(
            f"{PERMISSION}CreatePermissionPolicy", permission_policy=policy()
        )
        yield opened
    database.close()


@pytest.fixture(autouse=True)
def at_noon(channel: grpc.Channel, clock: Moved) -> None:
    clock.show(NOON)


@pytest.fixture(scope="module")
def admin(caller_of: Callable[..., Caller]) -> Caller:
    return caller_of("bishkek", role="admin")


@pytest.fixture
def aida(agent: Caller) -> Any:
    """A customer with a number, who has agreed to marketing."""
    made = customer(agent, phone(number()))
    consent(agent, made.id)
    return made


def refused(reason: str) -> Any:
    return pytest.raises((FailedPrecondition, InvalidArgument), check=lambda error: error.reason == reason)


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_contact_is_reserved_spent_once_and_explained(agent: Caller, aida: Any) -> None:
    answer = reserve(agent, aida.id, request_id="ask-1")
    assert answer == reserve(agent, aida.id, request_id="ask-1")
    assert answer.decision.medium_kind == pb.CONTACT_MEDIUM_KIND_PHONE
    done = spend(agent, answer.token, request_id="call-1")
    assert done.spent
    assert done.contact_before.ToDatetime(UTC) == NOON.replace(hour=15)
    assert spend(agent, answer.token, request_id="call-1") == done
    for again in ({}, {"request_id": "call-2"}):
        with refused("ALREADY_SPENT"):
            spend(agent, answer.token, **again)
    with refused("ALREADY_SPENT"):
        agent(f"{PERMISSION}ReleaseContact", token=answer.token)
    with pytest.raises(NotFound):
        spend(agent, "guessed")
    (kept,) = agent(f"{PERMISSION}ListContactDecisions", customer_id=aida.id).items
    assert kept == done.decision
    assert answer.token not in str(kept)
    assert kept.receipt == answer.decision.receipt
    replayed = agent(f"{PERMISSION}ReplayPermission", decision_id=kept.id)
    assert (replayed.same, replayed.receipt, replayed.spend_receipt) == (True, kept.receipt, kept.spend_receipt)


def test_a_cap_is_freed_by_release_and_by_expiry_and_never_by_spending(agent: Caller, aida: Any, clock: Moved) -> None:
    first, second = reserve(agent, aida.id), reserve(agent, aida.id, channel="sms")
    full = reserve(agent, aida.id)
    assert (full.token, codes(full)) == ("", ["FREQUENCY_CAP"])
    assert full.retry_at.ToDatetime(UTC) == datetime(2027, 3, 11, 3, tzinfo=UTC)
    for _ in range(2):
        assert agent(f"{PERMISSION}ReleaseContact", token=first.token).state == pb.CONTACT_DECISION_STATE_RELEASED
    with refused("TOKEN_RELEASED"):
        spend(agent, first.token)
    third = reserve(agent, aida.id)
    assert spend(agent, third.token).spent
    assert codes(reserve(agent, aida.id)) == ["FREQUENCY_CAP"]
    clock.forward(timedelta(seconds=121))
    with refused("TOKEN_EXPIRED"):
        spend(agent, second.token)
    assert spend(agent, reserve(agent, aida.id).token).spent
    assert codes(reserve(agent, aida.id)) == ["FREQUENCY_CAP"]
    states = [one.state for one in agent(f"{PERMISSION}ListContactDecisions", customer_id=aida.id).items]
    assert states.count(pb.CONTACT_DECISION_STATE_SPENT) == 2
    assert states.count(pb.CONTACT_DECISION_STATE_REFUSED) == 3


def test_what_comes_in_the_way_after_the_reservation_revokes_it(agent: Caller, aida: Any, clock: Moved) -> None:
    clock.show(NOON.replace(hour=14, minute=59))
    late = reserve(agent, aida.id)
    clock.show(NOON.replace(hour=15))
    done = spend(agent, late.token)
    assert (done.spent, codes(done)) == (False, ["QUIET_HOURS"])
    assert done.retry_at.ToDatetime(UTC) == datetime(2027, 3, 11, 3, tzinfo=UTC)
    with refused("TOKEN_REVOKED"):
        spend(agent, late.token)
    assert agent(f"{PERMISSION}ReplayPermission", decision_id=done.decision.id).same
    clock.show(NOON + timedelta(days=1))
    before = reserve(agent, aida.id)
    out = agent(
        f"{PERMISSION}OptOutOfContact",
        contact_opt_out=pb.ContactOptOut(customer_id=aida.id, reason="too many calls"),
    )
    assert codes(spend(agent, before.token)) == ["OPTED_OUT"]
    agent(f"{PERMISSION}LiftContactOptOut", id=out.id, reason="asked for offers again")
    assert reserve(agent, aida.id).token


def test_a_contact_planned_ahead_keeps_its_place(agent: Caller, aida: Any, clock: Moved) -> None:
    tomorrow = NOON + timedelta(days=1)
    planned = [reserve(agent, aida.id, at=tomorrow) for _ in range(2)]
    assert codes(reserve(agent, aida.id, at=tomorrow)) == ["FREQUENCY_CAP"]
    assert codes(reserve(agent, aida.id, at=tomorrow.replace(hour=16))) == ["QUIET_HOURS", "FREQUENCY_CAP"]
    assert reserve(agent, aida.id).token
    clock.show(tomorrow)
    assert spend(agent, planned[0].token).spent
    with refused("AT_OUT_OF_RANGE"):
        reserve(agent, aida.id, at=NOON)
    with refused("AT_OUT_OF_RANGE"):
        reserve(agent, aida.id, at=NOON + timedelta(days=33))


def test_urgent_matters_need_a_right_and_a_reason(agent: Caller, caller_of: Callable[..., Caller]) -> None:
    made = customer(agent, phone(number()))
    assert codes(reserve(agent, made.id)) == ["NO_CONSENT"]
    assert codes(reserve(agent, made.id, purpose="outage")) == ["ROLE_REQUIRED", "REASON_REQUIRED"]
    service = caller_of("bishkek", role="service")
    assert codes(reserve(service, made.id, purpose="outage")) == ["REASON_REQUIRED"]
    for _ in range(3):
        assert spend(agent, reserve(service, made.id, purpose="outage", reason="cable cut").token).spent


def test_who_isnt_there_or_elsewhere_isnt_asked_about(
    agent: Caller, aida: Any, caller_of: Callable[..., Caller]
) -> None:
    for caller, wanted in ((agent, "nobody"), (caller_of("osh"), aida.id)):
        with pytest.raises(NotFound):
            reserve(caller, wanted)
    token = reserve(agent, aida.id).token
    with pytest.raises(NotFound):
        spend(caller_of("osh"), token)
    made = customer(caller_of("osh"), phone(number()))
    assert codes(reserve(caller_of("osh"), made.id)) == ["NO_POLICY"]


def test_a_merged_customer_is_one_customer(agent: Caller, aida: Any, place: ServiceDatabase) -> None:
    other = customer(agent, phone(number()))
    assert spend(agent, reserve(agent, aida.id).token).spent
    with psycopg.connect(place.admin_url) as connection:
        connection.execute(
            "INSERT INTO merged_customer (absorbed_id, branch, into_id, survivor_id, merge_id, merged_at)"
            " VALUES (%s, 'bishkek', %s, %s, %s, now())",
            (aida.id, other.id, other.id, f"merge of {aida.id}"),
        )
    # The other has given no consent, but he is she.
    assert spend(agent, reserve(agent, other.id).token).spent
    for one in (aida, other):
        assert codes(reserve(agent, one.id)) == ["FREQUENCY_CAP"]
        assert len(agent(f"{PERMISSION}ListContactDecisions", customer_id=one.id).items) >= 2
        found = agent(f"{PERMISSION}ListContactConsents", filter=[by_customer(one.id)]).items
        assert [consent.customer_id for consent in found] == [aida.id]
    (page,) = agent(f"{PERMISSION}ListContactDecisions", customer_id=aida.id, limit=1).items
    (before,) = agent(f"{PERMISSION}ListContactDecisions", customer_id=aida.id, limit=1, before_id=page.id).items
    assert before.id < page.id


def by_customer(id: str) -> requests_pb2.Filter:
    return requests_pb2.Filter(path="customer_id", operator=requests_pb2.Filter.OPERATOR_EQ, value=[id])


def test_many_at_once_get_as_many_tokens_as_the_cap_has_left(agent: Caller, aida: Any) -> None:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(reserve(agent, aida.id))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tokens = [answer.token for answer in answers if answer.token]
    assert (len(answers), len(tokens)) == (8, 2)
    spent: list[str] = []
    late: list[str] = []

    def contact(token: str) -> None:
        try:
            spent.append(spend(agent, token).decision.id)
        except FailedPrecondition as error:
            late.append(error.reason)

    threads = [threading.Thread(target=contact, args=(token,)) for token in tokens * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(spent)) == len(spent) == 2
    assert late == ["ALREADY_SPENT"] * 4


# --- contact media ---------------------------------------------------------------------------------------------------


def points(agent: Caller, owner_id: str) -> dict[str, Any]:
    return {one.value: one for one in agent(f"{PERMISSION}ListContactPoints", owner_id=owner_id).items}


def mark(agent: Caller, owner_id: str, value: str, state: int = pb.CONTACT_POINT_STATE_OLD, **more: str) -> Any:
    said = {"reason": "the new subscriber says so", "evidence": "call 7", **more}
    kind = pb.CONTACT_MEDIUM_KIND_PHONE
    return agent(f"{PERMISSION}MarkContactPoint", owner_id=owner_id, kind=kind, value=value, state=state, **said)


def verify(agent: Caller, owner_id: str, value: str, **more: str) -> Any:
    kind = pb.CONTACT_MEDIUM_KIND_PHONE
    said = {"proof": "code 4711 was read back", **more}
    return agent(f"{PERMISSION}VerifyContactPoint", owner_id=owner_id, kind=kind, value=value, **said)


def test_a_bad_number_stays_bad_whatever_is_entered_again(agent: Caller, aida: Any) -> None:
    (value,) = points(agent, aida.id)
    party = aida.engaged_party.id
    spelt = f"0{value[4:7]} {value[7:9]}-{value[9:]}"
    marked = mark(agent, aida.id, spelt)
    assert (marked.value, marked.state, marked.owner_id, marked.listed) == (
        value,
        pb.CONTACT_POINT_STATE_OLD,
        party,
        True,
    )
    assert (marked.state_reason, marked.state_evidence) == ("the new subscriber says so", "call 7")
    assert marked.state_at.ToDatetime(UTC) >= NOON
    for media in ([], [phone(spelt)], [phone(value, preferred=True)]):
        agent(
            f"{PARTY}UpdateIndividual",
            individual=party_pb2.Individual(id=party, contact_medium=media),
            update_mask=FieldMask(paths=["contact_medium"]),
        )
        known = points(agent, aida.id)[value]
        assert (known.state, known.listed) == (pb.CONTACT_POINT_STATE_OLD, bool(media))
        answer = reserve(agent, aida.id)
        assert codes(answer) == ["NO_VALID_MEDIUM"]
        assert [(one.value, one.code) for one in answer.decision.refusal[0].rejected] == [(value, "OLD")]
    with refused("NEEDS_VERIFICATION"):
        mark(agent, aida.id, value, pb.CONTACT_POINT_STATE_UNVERIFIED)
    with refused("NEEDS_PROOF"):
        mark(agent, aida.id, value, pb.CONTACT_POINT_STATE_VALID)
    with refused("REQUIRED"):
        verify(agent, aida.id, value, proof="")
    assert verify(agent, aida.id, value).state == pb.CONTACT_POINT_STATE_VALID
    assert reserve(agent, aida.id).decision.medium_value == value


def test_the_customers_own_entry_doesnt_revive_what_is_bad_at_the_person(agent: Caller) -> None:
    value = number()
    made = customer(agent, phone(value), own=(phone(value),))
    consent(agent, made.id)
    mark(agent, made.engaged_party.id, value, pb.CONTACT_POINT_STATE_WRONG_PERSON)
    answer = reserve(agent, made.id)
    assert [(one.value, one.code) for one in answer.decision.refusal[0].rejected] == [(value, "WRONG_PERSON")]
    both = agent(f"{PERMISSION}ListContactPoints", owner_id=made.id).items
    assert [one.state for one in both] == [pb.CONTACT_POINT_STATE_WRONG_PERSON] * 2


def test_a_number_that_doesnt_exist_does_so_for_nobody_until_somebody_has_it(agent: Caller) -> None:
    value = number()
    one, other = customer(agent, phone(value)), customer(agent, phone(value))
    for made in (one, other):
        consent(agent, made.id)
    mark(agent, one.id, value, pb.CONTACT_POINT_STATE_DOES_NOT_EXIST)
    for made in (one, other, customer(agent, phone(value))):
        assert points(agent, made.id)[value].state == pb.CONTACT_POINT_STATE_DOES_NOT_EXIST
        assert "NO_VALID_MEDIUM" in codes(reserve(agent, made.id))
    verify(agent, other.id, value)
    assert points(agent, other.id)[value].state == pb.CONTACT_POINT_STATE_VALID
    assert points(agent, one.id)[value].state == pb.CONTACT_POINT_STATE_UNVERIFIED
    assert reserve(agent, one.id).token


def test_somebody_has_to_find_out_about_a_bad_number_once(agent: Caller, aida: Any) -> None:
    def work() -> list[Any]:
        mine = by_customer(aida.id)
        return list(agent("svyaz.customers.v1.TaskService/ListWorkItems", filter=[mine]).items)

    (value,) = points(agent, aida.id)
    for state in (pb.CONTACT_POINT_STATE_OLD, pb.CONTACT_POINT_STATE_WRONG_PERSON):
        point = mark(agent, aida.id, value, state)
    (item,) = work()
    assert (item.kind, item.subject_id, value in item.description) == ("clarifyContactPoint", point.id, False)
    verify(agent, aida.id, value)
    assert [one.outcome for one in work()] == ["valid"]


def test_a_medium_has_its_times_and_matters(agent: Caller) -> None:
    home, work = number(), number()
    made = customer(agent, phone(home, preferred=True), phone(work))
    consent(agent, made.id)
    kind = pb.CONTACT_MEDIUM_KIND_PHONE
    best = [pb.LocalInterval(weekday=[1, 2, 3, 4, 5], start="10:00", end="17:00")]
    preferred = agent(
        f"{PERMISSION}SetContactPreferences",
        owner_id=made.id,
        kind=kind,
        value=work,
        usage="work",
        purpose=["marketing"],
        best_time=best,
    )
    assert (preferred.usage, list(preferred.purpose), list(preferred.best_time)) == ("work", ["marketing"], best)
    assert preferred.state == pb.CONTACT_POINT_STATE_UNVERIFIED
    assert reserve(agent, made.id).decision.medium_value == work
    assert reserve(agent, made.id, purpose="survey").decision.medium_value == home
    with refused("MALFORMED_INTERVAL"):
        agent(
            f"{PERMISSION}SetContactPreferences",
            owner_id=made.id,
            kind=kind,
            value=work,
            best_time=[pb.LocalInterval(start="25:00", end="10:00")],
        )


# --- consents and lists ----------------------------------------------------------------------------------------------


def test_a_consent_has_its_proof_and_an_end(agent: Caller, aida: Any) -> None:
    for missing, reason in (({"text_version": ""}, "REQUIRED"), ({"evidence": ""}, "NEEDS_PROOF")):
        with refused(reason):
            consent(agent, aida.id, **missing)
    (given,) = agent(f"{PERMISSION}ListContactConsents", filter=[by_customer(aida.id)]).items
    withdrawn = agent(f"{PERMISSION}WithdrawContactConsent", id=given.id, reason="by telephone")
    assert (withdrawn.state, withdrawn.withdrawal_reason) == (pb.CONSENT_STATE_WITHDRAWN, "by telephone")
    assert codes(reserve(agent, aida.id)) == ["NO_CONSENT"]
    consent(agent, aida.id, channel="sms")
    assert codes(reserve(agent, aida.id)) == ["NO_CONSENT"]
    assert reserve(agent, aida.id, channel="sms").token


def test_do_not_call_goes_for_customers_numbers_and_registries(agent: Caller, admin: Caller, aida: Any) -> None:
    (value,) = points(agent, aida.id)
    add = f"{PERMISSION}AddDoNotCallEntry"
    for entry in ({"customer_id": aida.id}, {"number": f"0{value[4:]}"}):
        made = agent(add, do_not_call_entry=pb.DoNotCallEntry(reason="asked for it", **entry))
        answer = reserve(agent, aida.id)
        assert codes(answer) == ["DO_NOT_CALL"]
        assert answer.decision.refusal[0].rule == made.id
        admin(f"{PERMISSION}LiftDoNotCallEntry", id=made.id, reason="asked for calls again")
        token = reserve(agent, aida.id).token
        agent(f"{PERMISSION}ReleaseContact", token=token)
    with refused("CONTRADICTION"):
        agent(add, do_not_call_entry=pb.DoNotCallEntry(reason="x", customer_id="", number=""))
    with refused("MALFORMED_NUMBER"):
        agent(add, do_not_call_entry=pb.DoNotCallEntry(reason="x", number="not a number"))

    def load(edition: str, *numbers: str, complete: bool = False) -> Any:
        return admin(
            f"{PERMISSION}ImportDoNotCallRegistry", name="state", edition=edition, number=numbers, complete=complete
        )

    first = load("1", value, number(), "nonsense", complete=True)
    assert (first.added, first.removed, list(first.refused)) == (2, 0, ["nonsense"])
    assert codes(reserve(agent, aida.id)) == ["DO_NOT_CALL"]
    assert load("2", number()).added == 1
    assert codes(reserve(agent, aida.id)) == ["DO_NOT_CALL"]
    assert load("2", complete=True).removed == 2
    assert reserve(agent, aida.id).token


def test_a_policy_is_numbered_comes_into_force_and_stays_as_it_was(
    agent: Caller, caller_of: Callable[..., Caller], clock: Moved
) -> None:
    naryn, admin = caller_of("naryn"), caller_of("naryn", role="admin")
    made = customer(naryn, phone(number()))

    def create(**changed: Any) -> Any:
        return admin(f"{PERMISSION}CreatePermissionPolicy", permission_policy=policy(**changed))

    def revise(id: str, name: str) -> Any:
        return admin(
            f"{PERMISSION}UpdatePermissionPolicy",
            permission_policy=pb.PermissionPolicy(id=id, name=name),
            update_mask=FieldMask(paths=["name"]),
        )

    first = create()
    second = create(effective_from=NOON + timedelta(days=2), frequency_cap=[])
    assert (first.version, second.version) == (1, 2)
    assert revise(second.id, "No caps").name == "No caps"
    with refused("POLICY_IN_FORCE"):
        revise(first.id, "Other")
    asked = [reserve(naryn, made.id, purpose="survey") for _ in range(3)]
    assert [bool(one.token) for one in asked] == [True, True, False]
    clock.show(NOON + timedelta(days=2))
    assert {reserve(naryn, made.id, purpose="survey").decision.policy_version for _ in range(3)} == {2}
    with refused("POLICY_IN_FORCE"):
        revise(second.id, "Other")
    for wrong in (
        {"time_zone": ["Mars/Base"]},
        {"channel": [pb.ChannelRule(channel="call")]},
        {"purpose": [pb.PurposeRule(purpose="outage", transactional=True)]},
        {"frequency_cap": [pb.FrequencyCap(limit=1)]},
        {"frequency_cap": [pb.FrequencyCap(limit=1, period=pb.CAP_PERIOD_DAY, purpose=["marketting"])]},
        {"quiet_hours": [pb.QuietHours(date=["08.03.2027"])]},
        {"quiet_hours": [pb.QuietHours(interval=pb.LocalInterval(start="09:00", end="9:00"))]},
    ):
        with refused("CONTRADICTION"):
            create(**wrong)
    with refused("IN_THE_PAST"):
        create(effective_from=NOON)


def test_where_a_customer_lives_decides_by_which_clock(agent: Caller, clock: Moved) -> None:
    russian = phone("+79150000001")
    made = customer(agent, russian)
    consent(agent, made.id)
    assert codes(reserve(agent, made.id)) == ["QUIET_HOURS"]
    # 08:00 UTC: from 10 in Kaliningrad to 20 in Kamchatka.
    clock.show(NOON.replace(hour=8))
    assert reserve(agent, made.id).token
    clock.show(NOON.replace(hour=22))
    person = agent(f"{PARTY}GetIndividual", id=made.engaged_party.id)
    address = person.contact_medium.add(medium_type="postal").characteristic
    address.state_or_province, address.street1 = "Kamchatka", "Lenina 1"
    agent(f"{PARTY}UpdateIndividual", individual=person, update_mask=FieldMask(paths=["contact_medium"]))
    assert reserve(agent, made.id).token
    told = agent(f"{CUSTOMER}GetCustomer", id=made.id)
    told.characteristic.add(name="timeZone", value=b'"Asia/Bishkek"')
    agent(f"{CUSTOMER}UpdateCustomer", customer=told, update_mask=FieldMask(paths=["characteristic"]))
    assert codes(reserve(agent, made.id)) == ["QUIET_HOURS"]


def test_a_number_of_seven_may_be_anywhere(shared: Path) -> None:
    """As libphonenumber's data says for every country of ours."""
    import csv

    from customers.permission.media import number_zones

    with (shared / "data/phone_numbers/timezone_by_prefix.csv").open() as file:
        known = {row["prefix"]: set(row["timezones"].split(";")) for row in csv.DictReader(file)}
    assert len(number_zones("+79150000001")) >= 11
    assert set(number_zones("+79150000001")) == known["7"]
    assert set(number_zones("+996555000111")) == known["996"]


# --- one telephone, two customers -------------------------------------------------------------------------------------


def test_whose_telephone_rings_for_two_customers_hears_it_as_often_as_whose_rings_for_one(
    agent: Caller,
) -> None:
    """Two records of one person, or two of one household: the caps count by the number too, however it is written."""
    shared = number()
    first, second = customer(agent, phone(shared)), customer(agent, phone(f"0{shared.removeprefix('+996')}"))
    for one in (first, second):
        consent(agent, one.id)
    assert reserve(agent, first.id).token
    assert reserve(agent, second.id).token
    for one in (first, second):
        refused = reserve(agent, one.id)
        assert codes(refused) == ["FREQUENCY_CAP"]
        assert agent(f"{PERMISSION}ReplayPermission", decision_id=refused.decision.id).same
    # By a number of his own he is contacted as before.
    third = customer(agent, phone(shared), phone(number()))
    consent(agent, third.id)
    assert reserve(agent, third.id).decision.medium_value != shared


def test_a_number_of_somebody_who_is_not_to_be_called_is_not_called_for_anybody(agent: Caller, admin: Caller) -> None:
    shared = number()
    first, second = customer(agent, phone(shared)), customer(agent, phone(shared))
    consent(agent, second.id)
    entry = agent(
        f"{PERMISSION}AddDoNotCallEntry",
        do_not_call_entry=pb.DoNotCallEntry(customer_id=first.id, reason="asked for it"),
    )
    refused = reserve(agent, second.id)
    assert codes(refused) == ["DO_NOT_CALL"]
    assert refused.decision.refusal[0].rule == entry.id
    admin(f"{PERMISSION}LiftDoNotCallEntry", id=entry.id, reason="changed his mind")
    assert reserve(agent, second.id).token


def test_two_who_contact_one_number_at_once_keep_its_cap(agent: Caller) -> None:
    shared = number()
    both = [customer(agent, phone(shared)).id for _ in range(2)]
    for one in both:
        consent(agent, one)
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda place: reserve(agent, both[place % 2]), range(8)))
    assert sum(bool(answer.token) for answer in answers) == 2
