"""Billing says what it has booked, and what it missed is read again: over gRPC."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from chassis.db import Database
from chassis.errors import Aborted, FailedPrecondition
from chassis.schema import PARTITIONS, partition_of
from orders.billing import acknowledgements
from orders.billing.booking import Acknowledgement, Known, check, news
from orders.billing.outbox import BillingOutbox
from orders.billing.sealer import Sealer
from svyaz.orders.v1 import billing_pb2
from tests.billing.books import acting, superuser, write
from tests.billing.charges import AT, charge
from tests.billing.test_api import Call, call, refusal
from tests.conftest import ServiceDatabase

__all__ = ["call"]


def seal(database: Database, account: str, count: int, **options: Any) -> None:
    write(database, [charge(account, number, **options) for number in range(count)])
    Sealer(database).seal_batch()


def at(call: Call, account: str, sequence: int, epoch: int = 1) -> billing_pb2.BillingHead:
    """The place in a chain, with its real hash."""
    (event,) = call("ListBillingEvents", account=account, epoch=epoch, **{"from": sequence}, limit=1).event
    return billing_pb2.BillingHead(account=account, epoch=epoch, sequence=sequence, hash=event.hash)


def acknowledge(call: Call, *heads: billing_pb2.BillingHead, **fields: Any) -> int:
    changed: int = call("AcknowledgeBillingEvents", acknowledgement=heads, **fields).changed
    return changed


def state(call: Call, account: str) -> list[tuple[int, int, int]]:
    return [
        (chain.epoch, chain.last_sequence, chain.acknowledged_sequence)
        for chain in call("ListBillingChains", account=account).chain
    ]


def lag(database: Database) -> acknowledgements.Lag:
    with acting(database) as unit:
        return acknowledgements.lag(unit.session)


def test_what_is_booked_is_remembered_and_said_again_it_changes_nothing(call: Call, database: Database) -> None:
    seal(database, "a", 4)
    seal(database, "b", 1)
    assert lag(database).unacknowledged == 5
    assert acknowledge(call, at(call, "a", 3), at(call, "b", 1), request_id="r1") == 2
    assert acknowledge(call, at(call, "a", 3), at(call, "b", 1)) == 0
    assert state(call, "a") == [(1, 4, 3)]
    assert call("GetBillingCertificate", account="a").row[0].unacknowledged == 1
    day = call("GetBillingCertificate", branch="bishkek", day="2026-03-01").row
    assert [(row.account, row.unacknowledged) for row in day] == [("a", 1), ("b", 0)]
    behind = call("ListBillingChains", unacknowledged=True).chain
    assert [(chain.account, chain.acknowledged_by) for chain in behind] == [("a", "developer")]
    assert lag(database).unacknowledged == 1
    assert acknowledge(call, at(call, "a", 4)) == 1
    assert lag(database) == acknowledgements.Lag(0, None)


def test_what_cannot_be_true_is_refused_by_name_and_nothing_of_it_is_taken(call: Call, database: Database) -> None:
    seal(database, "a", 2)
    ahead = billing_pb2.BillingHead(account="a", epoch=1, sequence=3, hash="0" * 64)
    nobody = billing_pb2.BillingHead(account="nobody", epoch=1, sequence=1, hash="0" * 64)
    other = billing_pb2.BillingHead(account="a", epoch=1, sequence=2, hash="f" * 64)
    before = refused()
    for wrong, why in ((ahead, "ends with 2"), (nobody, "isn't there"), (other, "has the hash")):
        with pytest.raises(FailedPrecondition) as error:
            acknowledge(call, wrong)
        assert error.value.reason == "ACKNOWLEDGEMENT_REFUSED"
        assert why in error.value.violations[0].description
    assert refused() == {"ahead": before["ahead"] + 2, "hash": before["hash"] + 1, "back": before["back"]}
    seal(database, "b", 1)
    with pytest.raises(FailedPrecondition):
        acknowledge(call, at(call, "b", 1), other)
    assert (state(call, "a"), state(call, "b")) == ([(1, 2, 0)], [(1, 1, 0)])


def refused() -> dict[str, float]:
    name = "svyaz_billing_acknowledgements_refused_total"
    return {why: REGISTRY.get_sample_value(name, {"why": why}) or 0 for why in ("ahead", "hash", "back")}


def test_going_back_takes_a_reason_and_is_kept_with_it(call: Call, database: Database) -> None:
    seal(database, "a", 3)
    assert acknowledge(call, at(call, "a", 3)) == 1
    assert lag(database).unacknowledged == 0
    with pytest.raises(FailedPrecondition, match="less takes a reason"):
        acknowledge(call, at(call, "a", 1))
    assert acknowledge(call, at(call, "a", 1), reason="billing was restored") == 1
    (chain,) = call("ListBillingChains", account="a").chain
    assert (chain.acknowledged_sequence, chain.went_back_reason) == (1, "billing was restored")
    assert lag(database).unacknowledged == 2
    assert acknowledge(call, at(call, "a", 3)) == 1
    (chain,) = call("ListBillingChains", account="a").chain
    assert (chain.acknowledged_sequence, chain.went_back_reason) == (3, "billing was restored")


def test_who_has_booked_a_later_epoch_has_booked_those_before(call: Call, database: Database) -> None:
    seal(database, "a", 3)
    acknowledge(call, at(call, "a", 2))
    call("OpenBillingEpoch", role="admin", request_id="e", reason="restored")
    seal(database, "a", 2)
    assert lag(database).unacknowledged == 3
    acknowledge(call, at(call, "a", 1, epoch=2))
    assert state(call, "a") == [(1, 3, 3), (2, 2, 1)]
    assert lag(database).unacknowledged == 1
    with pytest.raises(FailedPrecondition, match="up to epoch 2"):
        acknowledge(call, at(call, "a", 3))
    acknowledge(call, at(call, "a", 2), reason="restored to before the epoch")
    assert state(call, "a") == [(1, 3, 2), (2, 2, 0)]
    assert lag(database).unacknowledged == 3


def test_of_two_at_once_the_one_that_is_behind_does_not_win(database: Database) -> None:
    seal(database, "a", 9)
    with acting(database) as unit:
        chain = [row.hash for row in _events(unit)]
    said = [Acknowledgement("a", 1, number, chain[number - 1]) for number in (9, 4)]
    with acting(database) as slow:
        known = acknowledgements.known(slow.session, said[1:])
        with acting(database) as fast:
            new = news(said[:1], acknowledgements.known(fast.session, said[:1]), "")
            acknowledgements.keep(fast, new, by="fast", reason="")
        with pytest.raises(Aborted, match="somebody else"):
            acknowledgements.keep(slow, news(said[1:], known, ""), by="slow", reason="")
        slow.close()


def _events(unit: Any) -> Iterator[Any]:
    from orders.billing import store

    return iter(store.events(unit.session, "a", 1, 1, 100))


def test_many_who_acknowledge_while_it_is_sealed_lose_nothing(call: Call, database: Database) -> None:
    accounts = [f"m{number}" for number in range(6)]
    for account in accounts:
        seal(database, account, 5)
    heads = {(account, number): at(call, account, number) for account in accounts for number in range(1, 6)}
    failures: list[Exception] = []

    def work(numbers: range) -> None:
        for number in numbers:
            try:
                acknowledge(call, *(heads[account, number] for account in accounts))
            except FailedPrecondition as error:
                if "takes a reason" not in error.message:
                    failures.append(error)

    workers = [threading.Thread(target=work, args=(numbers,)) for numbers in (range(1, 6), range(1, 6), range(2, 6))]
    for worker in workers:
        worker.start()
    for account in accounts:
        seal(database, account, 1)
    for worker in workers:
        worker.join()
    assert failures == []
    assert [state(call, account) for account in accounts] == [[(1, 6, 5)]] * 6
    assert lag(database).unacknowledged == 6


def test_the_lag_is_found_from_the_floor_and_a_charge_that_stays_behind_holds_it(
    call: Call, place: ServiceDatabase, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledgements, "_STEP", 2)
    seal(database, "a", 5)
    acknowledge(call, at(call, "a", 5))
    assert [lag(database).unacknowledged for _ in range(3)] == [0, 0, 0]
    with psycopg.connect(superuser(place)) as connection:
        query = "SELECT max(position) FROM billing_floor", "SELECT max(position) FROM charge_event"
        floor, last = (connection.execute(one).fetchone() for one in query)
    assert floor == last
    seal(database, "a", 1)
    found = lag(database)
    assert found.unacknowledged == 1
    assert found.oldest is not None
    BillingOutbox(database).measure(())
    assert REGISTRY.get_sample_value("svyaz_billing_unacknowledged") == 1
    assert (REGISTRY.get_sample_value("svyaz_billing_oldest_unacknowledged_seconds") or 0) > 0


def test_an_acknowledgement_of_nothing_is_refused(call: Call) -> None:
    wrong = billing_pb2.BillingHead(account="", epoch=0, sequence=0, hash="x")
    for heads in ([], [wrong], [wrong] * 1_001):
        assert refusal(call, "AcknowledgeBillingEvents", acknowledgement=heads) == (
            "INVALID_ARGUMENT",
            "ACKNOWLEDGEMENT_INVALID",
        )
    check([Acknowledgement("a", 1, 1, "0" * 64)])
    assert news([Acknowledgement("a", 1, 1, "0" * 64)], [Known(branch="b", last_sequence=1, our_hash="0" * 64)], "")


def test_another_branch_is_closed(call: Call, database: Database) -> None:
    seal(database, "a", 1)
    head = at(call, "a", 1)
    with pytest.raises(FailedPrecondition, match="isn't there"):
        acknowledge(call, head, sees="osh")
    assert not call("ListBillingChains", sees="osh").chain
    assert not call("ListBillingHeads", sees="osh").head
    assert refusal(call, "ListBillingEvents", sees="osh", branch="bishkek", day="2026-03-01")[1] == "BRANCH_FORBIDDEN"


# --- replay ----------------------------------------------------------------------------------------------------------


def test_a_day_is_read_again_page_by_page_though_the_stream_has_forgotten_it(call: Call, database: Database) -> None:
    begins = datetime(2026, 2, 28, 18, tzinfo=UTC)
    for number, moment in enumerate((-timedelta(seconds=1), timedelta(0), timedelta(hours=23), timedelta(hours=24))):
        seal(database, f"a{number}", 2, at=begins + moment)
    write(database, [charge("unsealed", at=AT)])
    places: list[tuple[str, int]] = []
    after, pages = "", 0
    while after or not pages:
        page = call("ListBillingEvents", branch="bishkek", day="2026-03-01", limit=3, after=after)
        places += [(event.account, event.sequence) for event in page.event]
        after, pages = page.next, pages + 1
    assert (places, pages) == ([("a1", 1), ("a1", 2), ("a2", 1), ("a2", 2)], 2)
    for wrong in ("x", "2026-03-01 1", "2026-03-01T00:00:00 1", "2026-03-01T00:00:00+00:00 -1"):
        refused = refusal(call, "ListBillingEvents", branch="bishkek", day="2026-03-01", after=wrong)
        assert refused == ("INVALID_ARGUMENT", "PAGE_INVALID")


def test_a_partition_tells_for_ever_what_came_since(call: Call, database: Database) -> None:
    seal(database, "a", 3)
    partition = partition_of("a")
    page = call("ListBillingEvents", partition=partition, limit=2)
    assert [event.sequence for event in page.event] == [1, 2]
    page = call("ListBillingEvents", partition=partition, after=page.next)
    assert [event.sequence for event in page.event] == [3]
    again = call("ListBillingEvents", partition=partition, after=page.next)
    assert (list(again.event), again.next) == ([], page.next)
    seal(database, "a", 1)
    assert [event.sequence for event in call("ListBillingEvents", partition=partition, after=again.next).event] == [4]
    assert refusal(call, "ListBillingEvents", partition=PARTITIONS) == ("INVALID_ARGUMENT", "CHAIN_INVALID")


def test_heads_tell_what_the_stream_has_had_and_never_pass_over_what_it_has_not(call: Call, database: Database) -> None:
    seal(database, "a", 3)
    outbox = BillingOutbox(database)
    first, second, _ = outbox.exchange([], 10, 0, set(), set())
    assert not call("ListBillingHeads").head
    outbox.exchange([first.id, second.id], 0, 0, set(), set())
    answer = call("ListBillingHeads")
    assert [(head.account, head.sequence) for head in answer.head] == [("a", 2)]
    assert not call("ListBillingHeads", settled_seconds=60).head
    outbox.exchange([row.id for row in outbox.exchange([], 10, 0, set(), set())], 0, 0, set(), set())
    later = call("ListBillingHeads", after=answer.next)
    assert [(head.account, head.sequence) for head in later.head] == [("a", 3)]
    assert not call("ListBillingHeads", after=later.next).head
    for wrong in ({"after": "1.2"}, {"after": "x"}, {"settled_seconds": -1}):
        assert refusal(call, "ListBillingHeads", **wrong)[0] == "INVALID_ARGUMENT"
