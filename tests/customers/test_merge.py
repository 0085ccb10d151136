"""Customers that turn out to be one, and two again: what is shown, what is refused, and what never changes."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from chassis import convert
from chassis.db import Database
from chassis.errors import Aborted, DomainError, FailedPrecondition, InvalidArgument, NotFound
from chassis.events import acting
from chassis.types import Json
from customers.identity.survival import Candidate, choose, replay
from customers.identity.values import Receipt
from svyaz.customers.v1 import account_pb2, customers_pb2, identity_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.customers.conftest import ACCOUNT, CUSTOMER, PARTY
from tests.customers.test_api import customer, person
from tests.serving import Caller

IDENTITY = "svyaz.customers.v1.IdentityService/"


def known(agent: Caller, name: str = "Aida", **values: Any) -> Any:
    """A customer with a person of its own."""
    party = person(agent, given_name=name)
    engaged = values_pb2.RelatedParty(id=party.id, at_referred_type="Individual")
    return agent(
        f"{CUSTOMER}CreateCustomer", customer=customers_pb2.Customer(name=name, engaged_party=engaged, **values)
    )


def account_of(agent: Caller, customer_id: str, som: int = 0) -> Any:
    owner = values_pb2.RelatedParty(id=customer_id, role="customer", at_referred_type="Customer")
    balance = account_pb2.AccountBalance(
        balance_type="receivable",
        amount=values_pb2.Money(unit="KGS", units=som),
        valid_for=values_pb2.TimePeriod(start_date_time=Timestamp(seconds=1)),
    )
    return agent(
        f"{ACCOUNT}CreateBillingAccount",
        billing_account=account_pb2.BillingAccount(name="main", related_party=[owner], account_balance=[balance]),
    )


def merged(agent: Caller, absorbed: str, survivor: str, **more: Any) -> Any:
    return agent(
        f"{IDENTITY}MergeCustomers", survivor_id=survivor, absorbed_id=absorbed, **{"reason": "one passport", **more}
    )


def parted(agent: Caller, merge_id: str, **more: Any) -> Any:
    return agent(f"{IDENTITY}UnmergeCustomers", merge_id=merge_id, **{"reason": "two people", **more})


def got(agent: Caller, customer_id: str, at: datetime | None = None) -> Any:
    request = requests_pb2.GetRequest(id=customer_id)
    if at is not None:
        request.at.CopyFrom(convert.to_timestamp(at))
    return agent(f"{CUSTOMER}GetCustomer", request)


def listed(agent: Caller, method: str = f"{CUSTOMER}ListCustomers", **filters: Any) -> Any:
    conditions = [
        requests_pb2.Filter(path=path, value=[value] if isinstance(value, str) else value)
        for path, value in filters.items()
    ]
    return agent(method, filter=conditions)


def members(agent: Caller, customer_id: str) -> list[str]:
    return list(agent(f"{IDENTITY}ResolveCustomer", id=customer_id).member_id)


def renamed(agent: Caller, customer_id: str, name: str) -> Any:
    return agent(
        f"{CUSTOMER}UpdateCustomer",
        customer=customers_pb2.Customer(id=customer_id, name=name),
        update_mask=FieldMask(paths=["name"]),
    )


def plain(record: Any) -> Any:
    """Without what says of a record how it was found."""
    copy = customers_pb2.Customer()
    copy.CopyFrom(record)
    copy.ClearField("merged_from")
    copy.ClearField("merged_into")
    return copy


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_an_old_id_shows_the_survivor_until_the_merge_is_undone(agent: Caller) -> None:
    first, second = known(agent), known(agent, "Aïda")
    merge = merged(agent, first.id, second.id, score="0.97")
    assert (merge.survivor_id, merge.absorbed_id, merge.score) == (second.id, first.id, "0.97")
    assert (merge.merged_by, list(merge.member_id)) == ("developer", [second.id, first.id])
    shown = got(agent, first.id)
    assert (shown.id, shown.merged_from, shown.name, shown.etag) == (second.id, first.id, "Aïda", second.etag)
    assert not got(agent, second.id).HasField("merged_from")
    undone = parted(agent, merge.id)
    assert undone.state == identity_pb2.CUSTOMER_MERGE_STATE_UNDONE
    assert (list(undone.member_id), list(undone.parted_id)) == ([second.id], [first.id])
    assert (got(agent, first.id), got(agent, second.id)) == (first, second)


def test_resolving_tells_whom_an_id_stands_for_and_why(agent: Caller) -> None:
    first, second, third = known(agent, "A"), known(agent, "B"), known(agent, "C")
    merge, next_merge = merged(agent, first.id, second.id), merged(agent, second.id, third.id)
    for one in (first, second, third):
        found = agent(f"{IDENTITY}ResolveCustomer", id=one.id)
        assert found.survivor_id == third.id
        assert list(found.member_id) == [third.id, first.id, second.id]
        assert list(found.customer) == [third, first, second]
        assert [one.id for one in found.merge] == [merge.id, next_merge.id]
    # The first merge is undone under the second: only what it joined is parted.
    parted(agent, merge.id)
    assert members(agent, first.id) == [first.id]
    assert members(agent, second.id) == [third.id, second.id]
    with pytest.raises(NotFound):
        agent(f"{IDENTITY}ResolveCustomer", id="nobody")


def test_a_chain_falls_apart_where_it_is_cut(agent: Caller) -> None:
    ids = [known(agent).id for _ in range(5)]
    a, b, c, d, e = ids
    merged(agent, a, b)
    merged(agent, d, c)
    middle = merged(agent, b, c)
    merged(agent, c, e)
    assert members(agent, a) == [e, *sorted([a, b, c, d])]
    undone = parted(agent, middle.id)
    assert (list(undone.member_id), list(undone.parted_id)) == ([e, c, d], [b, a])
    assert [members(agent, one) for one in ids] == [[b, a], [b, a], [e, c, d], [e, c, d], [e, c, d]]


def test_lists_show_those_who_go_by_their_own_id(agent: Caller) -> None:
    first, second, third = (known(agent, "Гүлнара") for _ in range(3))
    merge = merged(agent, first.id, second.id)
    page = listed(agent, name="Гүлнара")
    assert ({one.id for one in page.items}, page.page.total_size) == ({second.id, third.id}, 2)
    # Whoever knows the old id finds who it is now.
    assert [one.id for one in listed(agent, id=first.id).items] == [second.id]
    assert [one.id for one in listed(agent, id=[first.id, second.id]).items] == [second.id]
    asked = listed(agent, merged_into=second.id)
    assert [(one.id, one.merged_into) for one in asked.items] == [(first.id, second.id)]
    assert asked.page.total_size == 1
    assert plain(asked.items[0]) == first
    assert list(listed(agent, merged_into=third.id).items) == []
    parted(agent, merge.id)
    assert listed(agent, name="Гүлнара").page.total_size == 3
    with pytest.raises(InvalidArgument, match="merged_into"):
        agent(
            f"{CUSTOMER}ListCustomers",
            filter=[requests_pb2.Filter(path="merged_into", operator=requests_pb2.Filter.OPERATOR_REGEX, value=["."])],
        )


def test_accounts_are_found_under_every_id_of_their_owner(agent: Caller) -> None:
    first, second = known(agent), known(agent)
    one, two = account_of(agent, first.id, 5), account_of(agent, second.id, 7)
    method = f"{ACCOUNT}ListBillingAccounts"
    merge = merged(agent, first.id, second.id)
    for asked in (first, second):
        found = listed(agent, method, **{"related_party.id": asked.id})
        assert ({account.id for account in found.items}, found.page.total_size) == ({one.id, two.id}, 2)
    # The accounts themselves say what they said.
    assert agent(f"{ACCOUNT}GetBillingAccount", id=one.id) == one
    parted(agent, merge.id)
    assert [account.id for account in listed(agent, method, **{"related_party.id": first.id}).items] == [one.id]


def test_an_order_for_the_survivor_may_name_accounts_and_agreements_of_every_id(agent: Caller) -> None:
    first = known(agent, agreement=[values_pb2.EntityRef(id="frame")])
    second = known(agent, market_segment=[values_pb2.EntityRef(id="VIP")])
    alone = known(agent)
    merged(agent, first.id, second.id)
    wanted = [first.id, second.id, alone.id]
    found = agent(f"{CUSTOMER}GetOrderingContext", customer_id=wanted)
    rows = {row.id: row for row in found.customer}
    assert set(rows) == set(wanted)
    for asked in (first, second):
        row = rows[asked.id]
        assert list(row.member_id) == [second.id, first.id]
        assert list(row.member_party_id) == [second.engaged_party.id, first.engaged_party.id]
        assert (row.engaged_party_id, list(row.agreement_id)) == (second.engaged_party.id, ["frame"])
        assert [segment.id for segment in row.market_segment] == ["VIP"]
    assert (list(rows[alone.id].member_id), list(rows[alone.id].member_party_id)) == (
        [alone.id],
        [alone.engaged_party.id],
    )


# --- parties ---------------------------------------------------------------------------------------------------------


def test_parties_are_merged_where_the_caller_says_so(agent: Caller) -> None:
    first, second = known(agent, "A"), known(agent, "B")
    mine, theirs = first.engaged_party.id, second.engaged_party.id
    merge = merged(agent, first.id, second.id)
    assert agent(f"{PARTY}GetIndividual", id=mine).id == mine
    parted(agent, merge.id)
    merge = merged(agent, first.id, second.id, merge_parties=True)
    assert (merge.absorbed_party_id, merge.survivor_party_id) == (mine, theirs)
    shown = agent(f"{PARTY}GetIndividual", id=mine)
    assert (shown.id, shown.merged_from) == (theirs, mine)
    assert [one.id for one in listed(agent, f"{PARTY}ListIndividuals", id=mine).items] == [theirs]
    with pytest.raises(FailedPrecondition) as refusal:
        agent(f"{PARTY}DeleteIndividual", id=mine)
    assert (refusal.value.reason, refusal.value.metadata) == ("MERGED", {"survivor": theirs})
    parted(agent, merge.id)
    assert agent(f"{PARTY}GetIndividual", id=mine).id == mine


def test_parties_of_two_kinds_or_merged_elsewhere_are_refused(agent: Caller) -> None:
    first, second, third = known(agent), known(agent), known(agent)
    firm = agent(f"{PARTY}CreateOrganization", organization={"name": "Ala-Too LLC", "trading_name": "Ala-Too"})
    company, stranger = customer(agent, firm.id), customer(agent, "somewhere else")
    for other in (company, stranger):
        with pytest.raises(FailedPrecondition) as refusal:
            merged(agent, first.id, other.id, merge_parties=True)
        assert refusal.value.reason == "PARTIES_DIFFER"
    twin = customer(agent, first.engaged_party.id)
    merged(agent, first.id, second.id, merge_parties=True)
    with pytest.raises(FailedPrecondition) as refusal:
        merged(agent, twin.id, third.id, merge_parties=True)
    assert (refusal.value.reason, refusal.value.metadata["survivor"]) == (
        "PARTY_ALREADY_MERGED",
        second.engaged_party.id,
    )
    # Who engage one person already have no parties to merge.
    assert not merged(agent, twin.id, second.id, merge_parties=True).HasField("absorbed_party_id")


# --- what is refused -------------------------------------------------------------------------------------------------


def refusal_of(act: Callable[[], Any]) -> tuple[str, str | None]:
    with pytest.raises(DomainError) as refusal:
        act()
    return refusal.value.reason, refusal.value.metadata.get("survivor")


def test_merges_that_cannot_be(agent: Caller, caller_of: Callable[..., Caller]) -> None:
    a, b, c = (known(agent).id for _ in range(3))
    merged(agent, a, b)
    assert refusal_of(lambda: merged(agent, c, c)) == ("SAME_CUSTOMER", None)
    assert refusal_of(lambda: merged(agent, a, c)) == ("ALREADY_MERGED", b)
    assert refusal_of(lambda: merged(agent, c, a)) == ("ALREADY_MERGED", b)
    # Which would be a circle.
    assert refusal_of(lambda: merged(agent, b, a)) == ("ALREADY_MERGED", b)
    assert refusal_of(lambda: merged(agent, c, "nobody"))[0] == "NOT_FOUND"
    elsewhere = known(caller_of("osh")).id
    assert refusal_of(lambda: merged(agent, elsewhere, c))[0] == "NOT_FOUND"
    both = caller_of("bishkek", "osh")
    assert refusal_of(lambda: merged(both, elsewhere, c)) == ("OTHER_BRANCH", None)
    for wrong in ({"reason": ""}, {"score": "1.01"}, {"score": "much"}, {"survivor_id": ""}):
        fields = {"survivor_id": c, "absorbed_id": b, "reason": "the same", **wrong}
        assert refusal_of(lambda fields=fields: agent(f"{IDENTITY}MergeCustomers", **fields))[0] == "MALFORMED_MERGE"  # type: ignore[misc]
    # A survivor may be absorbed in its turn.
    assert merged(agent, b, c).survivor_id == c


def test_a_decision_based_on_what_has_changed_is_refused(agent: Caller) -> None:
    first, second = known(agent), known(agent)
    renamed(agent, second.id, "Somebody else")
    with pytest.raises(Aborted) as refusal:
        merged(agent, first.id, second.id, absorbed_etag=first.etag, survivor_etag=second.etag)
    assert refusal.value.reason == "STALE_ETAG"
    merge = merged(agent, first.id, second.id, absorbed_etag=first.etag, survivor_etag="2")
    parted(agent, merge.id, etag=merge.etag)
    assert refusal_of(lambda: parted(agent, merge.id, etag=merge.etag))[0] == "STALE_ETAG"
    assert refusal_of(lambda: parted(agent, merge.id))[0] == "ALREADY_UNDONE"
    assert refusal_of(lambda: parted(agent, merge.id, reason=""))[0] == "ALREADY_UNDONE"
    again = merged(agent, first.id, second.id)
    assert refusal_of(lambda: parted(agent, again.id, reason=""))[0] == "MALFORMED_MERGE"


def test_a_merge_sent_twice_is_one(agent: Caller) -> None:
    first, second = known(agent), known(agent)
    merge = merged(agent, first.id, second.id, request_id="merge-them")
    assert merged(agent, first.id, second.id, request_id="merge-them") == merge
    undone = parted(agent, merge.id, request_id="part-them")
    assert parted(agent, merge.id, request_id="part-them") == undone
    assert agent(f"{IDENTITY}GetCustomerMerge", id=merge.id) == undone


def test_who_was_merged_is_neither_changed_nor_deleted(agent: Caller) -> None:
    first, second = known(agent), known(agent)
    merge = merged(agent, first.id, second.id)
    assert refusal_of(lambda: renamed(agent, first.id, "Else")) == ("MERGED", second.id)
    assert refusal_of(lambda: agent(f"{CUSTOMER}DeleteCustomer", id=first.id)) == ("MERGED", second.id)
    # Nor does the survivor go, whom the other id stands for.
    with pytest.raises(FailedPrecondition, match=merge.id) as refusal:
        agent(f"{CUSTOMER}DeleteCustomer", id=second.id)
    assert refusal.value.reason == "REFERENCED"
    assert renamed(agent, second.id, "Else").name == "Else"
    parted(agent, merge.id)
    agent(f"{CUSTOMER}DeleteCustomer", id=second.id)
    assert got(agent, first.id) == first


# --- as it was -------------------------------------------------------------------------------------------------------


def test_the_past_is_what_it_was_before_during_and_after(agent: Caller) -> None:
    first, second = known(agent, "A"), known(agent, "B")
    before = datetime.now(UTC)
    merge = merged(agent, first.id, second.id)
    renamed(agent, second.id, "B during")
    during = datetime.now(UTC)
    parted(agent, merge.id)
    renamed(agent, first.id, "A after")
    after = datetime.now(UTC)
    assert [got(agent, first.id, at).name for at in (before, during, after)] == ["A", "B during", "A after"]
    assert [got(agent, first.id, at).merged_from for at in (before, during, after)] == ["", first.id, ""]
    assert [got(agent, second.id, at).name for at in (before, during, after)] == ["B", "B during", "B during"]

    def resolved(at: datetime) -> tuple[list[str], list[str], list[str]]:
        found = agent(f"{IDENTITY}ResolveCustomer", id=first.id, at=convert.to_timestamp(at))
        return list(found.member_id), [one.id for one in found.merge], [one.name for one in found.customer]

    assert resolved(before) == ([first.id], [], ["A"])
    assert resolved(during) == ([second.id, first.id], [merge.id], ["B during", "A"])
    assert resolved(after) == ([first.id], [], ["A after"])


# --- who survives ----------------------------------------------------------------------------------------------------


def test_the_caller_chooses_who_survives_and_the_receipt_says_so(agent: Caller) -> None:
    """Whom the rule would have chosen is said too."""
    first, second = known(agent), customer(agent, "a stranger")
    merge = merged(agent, first.id, second.id)
    assert [(step.action, step.subject, step.rule) for step in merge.receipt.step] == [
        ("COMPARED", second.id, "VERIFIED"),
        ("SURVIVOR_GIVEN", second.id, "CALLER"),
        ("RULE_PREFERRED_OTHER", first.id, "VERIFIED"),
    ]
    parted(agent, merge.id)
    merge = merged(agent, first.id, second.id, by_rule=True)
    assert (merge.survivor_id, merge.absorbed_id) == (first.id, second.id)
    assert merge.receipt.step[-1].action == "SURVIVOR_CHOSEN"
    kept = agent(f"{IDENTITY}GetCustomerMerge", id=merge.id).receipt
    assert kept == merge.receipt
    again = replay(Receipt(engine=kept.engine, revision=kept.revision, inputs=Json(kept.inputs.decode())))
    assert again.survivor_id == first.id
    assert [step.action for step in again.receipt.step] == [step.action for step in kept.step]


def test_who_is_referred_to_more_survives_then_who_has_been_known_longer(agent: Caller) -> None:
    first, second, third = known(agent), known(agent), known(agent)
    account_of(agent, second.id)
    assert merged(agent, second.id, first.id, by_rule=True).survivor_id == second.id
    fourth = known(agent)
    assert merged(agent, third.id, fourth.id, by_rule=True).survivor_id == third.id


def test_the_rule_chooses_the_same_whoever_is_named_first() -> None:
    born = datetime(2026, 1, 1, tzinfo=UTC)
    people = [
        Candidate(id="a", verified=True, referrers=0, known_since=born),
        Candidate(id="b", verified=False, referrers=9, known_since=born),
        Candidate(id="c", verified=False, referrers=9, known_since=born.replace(year=2025)),
        Candidate(id="d", verified=False, referrers=1, known_since=born.replace(year=2020)),
    ]
    for one, other in permutations(people, 2):
        found = choose(one, other, by_rule=True)
        assert found.survivor_id == choose(other, one, by_rule=True).survivor_id
        assert replay(found.receipt) == found
    assert choose(people[0], people[0], by_rule=True).receipt.step[-1].rule == "CALLER"


# --- several at once -------------------------------------------------------------------------------------------------


def test_merges_at_once_make_no_circle_and_lose_nobody(agent: Caller) -> None:
    """Everybody tries to merge everybody at the same time: in the end there is one."""
    ids = [known(agent).id for _ in range(4)]
    pairs = list(permutations(ids, 2))
    together = threading.Barrier(len(pairs))

    def attempt(pair: tuple[str, str]) -> Any:
        together.wait()
        try:
            return merged(agent, *pair)
        except FailedPrecondition as refusal:
            return refusal.reason

    with ThreadPoolExecutor(len(pairs)) as pool:
        outcomes = list(pool.map(attempt, pairs))
    done = [merge for merge in outcomes if merge != "ALREADY_MERGED"]
    assert len(done) == len(ids) - 1
    assert len({merge.absorbed_id for merge in done}) == len(ids) - 1
    everybody = members(agent, ids[0])
    assert sorted(everybody) == sorted(ids)
    assert [members(agent, one) for one in ids] == [everybody] * len(ids)
    # And apart at once: each of them has its own again.
    with ThreadPoolExecutor(len(done)) as pool:
        list(pool.map(lambda merge: parted(agent, merge.id), done))
    assert [members(agent, one) for one in ids] == [[one] for one in ids]


def test_a_change_waits_for_a_merge_and_then_knows_of_it(agent: Caller, database: Database) -> None:
    """Else a record would be changed that nobody looks at any more."""
    first, second = known(agent), known(agent)
    started = threading.Barrier(2)
    outcomes: list[str] = []

    def change() -> None:
        started.wait()
        for number in range(20):
            try:
                renamed(agent, first.id, f"Name {number}")
                outcomes.append("changed")
            except FailedPrecondition as refusal:
                outcomes.append(refusal.reason)

    thread = threading.Thread(target=change)
    thread.start()
    started.wait()
    merge = merged(agent, first.id, second.id)
    thread.join()
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome == "MERGED")
    record = listed(agent, merged_into=second.id).items[0]
    changed_at = [version.time for version in _versions(database, first.id)]
    assert all(at < merge.merged_at.ToDatetime(UTC) for at in changed_at)
    assert int(record.etag) == 1 + outcomes.count("changed") == len(changed_at)


def _versions(database: Database, customer_id: str) -> list[Any]:
    event = database.log.event
    with acting("customers", "test", "bishkek"), database.unit() as unit:
        return list(unit.session.execute(event.select().where(event.c.aggregate_id == customer_id)).all())
