"""Sealing against a real PostgreSQL: nothing lost, nothing twice, whoever dies or competes."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY
from sqlalchemy.orm import Session

from chassis import epochs
from chassis.db import Database
from chassis.errors import Aborted, FailedPrecondition, Unavailable
from chassis.schema import PARTITIONS, partition_of
from orders.billing import sealer as sealer_module
from orders.billing import store
from orders.billing.domain import seal_all
from orders.billing.outbox import BillingOutbox
from orders.billing.sealer import Sealer
from tests.billing.books import acting, check_chains, connected, superuser, write
from tests.billing.charges import charge
from tests.chassis import things
from tests.conftest import ServiceDatabase


def sealed_until(place: ServiceDatabase, count: int, seconds: float = 30.0) -> None:
    """Waits until so many charges are sealed."""
    deadline = time.monotonic() + seconds
    with psycopg.connect(superuser(place), autocommit=True) as connection:
        while True:
            row = connection.execute("SELECT count(*) FROM charge_event WHERE sequence IS NOT NULL").fetchone()
            assert row is not None
            if row[0] >= count:
                return
            assert time.monotonic() < deadline, f"{row[0]} of {count} are sealed"
            time.sleep(0.02)


def test_charges_are_sealed_in_the_order_of_their_account(place: ServiceDatabase, database: Database) -> None:
    for number in range(5):
        write(database, [charge("a", number), charge("b", number)])
    assert Sealer(database).seal_batch() == (10, True)
    assert check_chains(superuser(place)) == {("a", 1): 5, ("b", 1): 5}
    with acting(database) as unit:
        products = [row.data for row in store.events(unit.session, "a", 1, 1, 100)]
    assert [f"product-{n}".encode() in data for n, data in enumerate(products)] == [True] * 5


def test_sealing_goes_on_where_the_last_batch_ended(place: ServiceDatabase, database: Database) -> None:
    write(database, [charge("a", number) for number in range(7)])
    sealer = Sealer(database, batch=3)
    assert [sealer.seal_batch() for _ in range(4)] == [(3, False), (3, False), (1, True), (0, True)]
    assert check_chains(superuser(place)) == {("a", 1): 7}


def test_an_order_that_rolls_back_leaves_no_charge(database: Database) -> None:
    def order() -> None:
        with acting(database) as unit:
            store.add_charges(unit, [charge("a")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        order()
    assert Sealer(database).seal_batch() == (0, True)


def test_a_head_that_has_moved_lets_nothing_through(place: ServiceDatabase, database: Database) -> None:
    write(database, [charge("a", 0)])
    sealer = Sealer(database)
    sealer.seal_batch()
    write(database, [charge("a", 1)])

    def seal_late() -> None:
        with acting(database) as unit:
            _, waiting, _ = store.take(unit, range(PARTITIONS), 10)
            sealed, grown = seal_all(waiting.charges, epoch=waiting.epoch, heads=waiting.heads)
            # Somebody who ignores the locks was faster.
            with psycopg.connect(superuser(place)) as other:
                other.execute("UPDATE billing_chain SET last_sequence = 2")
            store.save_sealed(unit, 1, sealed, grown)

    with pytest.raises(Aborted, match="somebody else"):
        seal_late()
    with psycopg.connect(superuser(place)) as other:
        other.execute("UPDATE billing_chain SET last_sequence = 1")
    sealer.seal_batch()
    assert check_chains(superuser(place)) == {("a", 1): 2}


def test_partitions_that_another_sealer_is_at_are_left_alone(place: ServiceDatabase, database: Database) -> None:
    write(database, [charge("a"), charge("b")])
    with acting(database) as unit:
        locked, waiting, _ = store.take(unit, [partition_of("a")], 10)
        assert locked.partitions == [partition_of("a")]
        assert [unsealed.account for unsealed in waiting.charges] == ["a"]
        # What is another's is in nobody's way, though it is older and a batch by itself.
        assert Sealer(database, batch=1).seal_batch() == (1, False)
        assert Sealer(database, partitions=[partition_of("a")]).seal_batch() == (0, False)
    assert Sealer(database).seal_batch() == (1, True)
    assert check_chains(superuser(place)) == {("a", 1): 1, ("b", 1): 1}


def test_a_sealer_is_woken_by_a_commit_and_ends_with_nothing_left(place: ServiceDatabase, database: Database) -> None:
    sealer = Sealer(database)
    sealer.start()
    try:
        write(database, [charge("a", 0)])
        sealed_until(place, 1, seconds=5)
        write(database, [charge("a", 1)])
    finally:
        sealer.stop()
    assert check_chains(superuser(place)) == {("a", 1): 2}


def test_a_sealer_lives_on_when_a_commit_fails_as_nobody_expected(
    place: ServiceDatabase, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    sealer = Sealer(database)
    with psycopg.connect(superuser(place), autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql"
            " AS $$BEGIN RAISE EXCEPTION 'the disk has a fault' USING ERRCODE = 'XX000'; END$$"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER failing AFTER UPDATE ON charge_event DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION fail()"
        )
        sealer.start()
        try:
            write(database, [charge("a")])
            things.eventually(lambda: "sealing failed; trying again" in caplog.text)
            connection.execute("DROP TRIGGER failing ON charge_event")
            sealed_until(place, 1)
        finally:
            sealer.stop()
    assert check_chains(superuser(place)) == {("a", 1): 1}


def test_a_sealer_that_backs_off_is_not_busy(place: ServiceDatabase, database: Database) -> None:
    refusing = threading.Event()
    refusing.set()

    def confirm(session: Session) -> None:
        if refusing.is_set():
            raise FailedPrecondition("RESTORED", "not before somebody has looked")

    sealer = Sealer(database, confirm=confirm)
    rested = threading.Event()
    sealer.on_idle(rested.set)
    sealer.start()
    try:
        # Sooner than it tries again.
        assert rested.wait(sealer_module.REFUSED_SECONDS / 2)
        refusing.clear()
    finally:
        sealer.stop()


def test_a_sweep_that_failed_is_made_up_for(
    place: ServiceDatabase, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealer = Sealer(database)
    write(database, [charge("a")])
    assert sealer.seal_batch() == (1, True)
    sealer._swept = 0.0
    # As if the floor had risen beyond a charge that got its number late.
    sealer._floor.number = 1_000_000
    write(database, [charge("b")])

    def lost(*_: Any) -> None:
        raise Unavailable("DATABASE_UNAVAILABLE", "the database can't be reached")

    with monkeypatch.context() as patched:
        patched.setattr(store, "save_sealed", lost)
        with pytest.raises(Unavailable):
            sealer.seal_batch()
    assert sealer.seal_batch() == (1, True)


def test_many_writers_on_one_hot_account_with_two_sealers(place: ServiceDatabase, database: Database) -> None:
    writers, orders = 8, 40
    databases = [connected(place.url) for _ in range(2)]
    sealers = [Sealer(opened, batch=17) for opened in (*databases, database)]
    failures: list[BaseException] = []

    def order(writer: int) -> None:
        chance = random.Random(writer)
        try:
            for number in range(orders):
                account = "hot" if chance.random() < 0.8 else f"cold-{chance.randrange(5)}"
                write(database, [charge(account, number), charge(account, number)])
        except Exception as error:  # noqa: BLE001 (whatever it is, the test must tell)
            failures.append(error)

    with ExitStack() as stack:
        for sealer in sealers:
            sealer.start()
            stack.callback(sealer.stop)
        threads = [threading.Thread(target=order, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        sealed_until(place, writers * orders * 2)
    for opened in databases:
        opened.close()
    assert sum(check_chains(superuser(place)).values()) == writers * orders * 2
    with psycopg.connect(superuser(place)) as connection:
        row = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row == (0,)


_SEALER = """
import sys
from chassis.clock import Clock
from chassis.db import Database
from orders.billing.sealer import Sealer
from orders.schema import metadata
sealer = Sealer(Database(sys.argv[1], clock=Clock(), metadata=metadata, resources={}, connections=1), batch=5)
while True:
    sealer.seal_batch()
    print("sealed", flush=True)
"""


def test_a_sealer_killed_at_any_moment_leaves_whole_chains(place: ServiceDatabase, database: Database) -> None:
    chance = random.Random(7)
    write(database, [charge(f"a{n % 3}", n) for n in range(1500)])
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", _SEALER, place.url], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            time.sleep(chance.uniform(0, 0.02))
            os.kill(process.pid, signal.SIGKILL)
        assert line == b"sealed\n"
        with psycopg.connect(superuser(place)) as connection:
            broken = connection.execute(
                "SELECT account FROM billing_chain c WHERE last_sequence <>"
                " (SELECT count(*) FROM charge_event e WHERE e.account = c.account AND e.sequence IS NOT NULL)"
            ).fetchall()
            left = connection.execute("SELECT count(*) FROM charge_event WHERE sequence IS NULL").fetchone()
        assert broken == []
        assert left != (0,), "the kills came too late to prove anything"
    sealer = Sealer(database)
    while not sealer.seal_batch()[1]:
        time.sleep(0.05)
    assert check_chains(superuser(place)) == {("a0", 1): 500, ("a1", 1): 500, ("a2", 1): 500}


def test_a_new_epoch_continues_each_chain_from_its_last_common_event(
    place: ServiceDatabase, database: Database
) -> None:
    sealer = Sealer(database)
    write(database, [charge("a", 0), charge("a", 1)])
    sealer.seal_batch()
    with acting(database) as unit:
        assert epochs.open_next(unit.session, "restored from the backup of Monday", unit.at) == 2
    write(database, [charge("a", 2), charge("b", 0)])
    sealer.seal_batch()
    assert check_chains(superuser(place)) == {("a", 1): 2, ("a", 2): 1, ("b", 2): 1}
    with acting(database) as unit:
        last = store.events(unit.session, "a", 1, 2, 1)[0]
        first = store.events(unit.session, "a", 2, 1, 1)[0]
        new = store.events(unit.session, "b", 2, 1, 1)[0]
    assert f'"lastCommon":{{"epoch":1,"hash":"{last.hash}","sequence":2}}'.encode() in first.data
    assert b"lastCommon" not in new.data


def test_an_epoch_that_is_opened_while_the_stream_is_asked_is_the_one_that_is_sealed_in(
    place: ServiceDatabase, database: Database
) -> None:
    """The database was restored; while a sealer asks whether it was, somebody opens the epoch that lets it pass."""
    write(database, [charge("a", 0)])
    Sealer(database).seal_batch()
    write(database, [charge("a", 1)])

    def confirm(session: sa.orm.Session) -> None:
        with acting(database) as unit:
            epochs.open_next(unit.session, "restored", unit.at)

    assert Sealer(database, confirm=confirm).seal_batch() == (1, True)
    assert check_chains(superuser(place)) == {("a", 1): 1, ("a", 2): 1}


def test_the_outbox_gives_each_event_in_order_until_the_stream_has_it(database: Database) -> None:
    write(database, [charge("a", n) for n in range(3)] + [charge("b", 0)])
    outbox = BillingOutbox(database)
    assert outbox.exchange([], 10, 0, set(), set()) == []
    Sealer(database).seal_batch()
    items = outbox.exchange([], 10, 0, set(), set())
    assert [item.headers["ce-sequence"] for item in items if item.key == "a"] == ["1", "2", "3"]
    assert Counter(item.key for item in items) == {"a": 3, "b": 1}
    first = items[0]
    assert first.subject == f"svyaz.billing.v1.{partition_of('a'):02d}.RecurringChargeStartEvent"
    assert first.headers["ce-previoushash"] == "0" * 64
    assert first.headers["Nats-Msg-Id"] == f"{first.headers['ce-id']}-1"
    assert outbox.exchange([], 10, first.id, {items[1].id}, {"b"}) == [items[2]]
    assert outbox.exchange([first.id, items[1].id], 0, 0, set(), set()) == []
    assert [item.id for item in outbox.exchange([], 10, 0, set(), set())] == [item.id for item in items[2:]]


def test_what_waits_is_told_by_the_relay_even_when_no_sealer_lives(database: Database) -> None:
    write(database, [charge("a", 0), charge("a", 1)])
    outbox = BillingOutbox(database)
    time.sleep(0.05)
    outbox.measure(())
    gauges = ("svyaz_billing_unsealed", "svyaz_billing_unsent", "svyaz_billing_oldest_unsent_seconds")
    unsealed, unsent, oldest = (REGISTRY.get_sample_value(gauge) for gauge in gauges)
    assert (unsealed, unsent) == (2, 0)
    assert oldest is not None
    assert oldest >= 0.05
    Sealer(database).seal_batch()
    outbox.measure(())
    assert [REGISTRY.get_sample_value(gauge) for gauge in gauges[:2]] == [0, 2]


def test_a_charge_that_is_committed_late_takes_the_next_place(place: ServiceDatabase, database: Database) -> None:
    sealer = Sealer(database)
    with acting(database) as slow:
        store.add_charges(slow, [charge("a", 0)])
        write(database, [charge("a", 1)])
        assert sealer.seal_batch() == (1, True)
    assert sealer.seal_batch() == (1, True)
    assert check_chains(superuser(place)) == {("a", 1): 2}
    sent = BillingOutbox(database).exchange([], 10, 0, set(), set())
    assert [item.headers["ce-sequence"] for item in sent] == ["1", "2"]


def test_a_charge_that_stays_uncommitted_for_long_is_not_passed_over(
    place: ServiceDatabase, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer_module, "HORIZON_SECONDS", 0.0)
    sealer = Sealer(database)
    with acting(database) as slow:
        store.add_charges(slow, [charge("slow")])
        for number in range(10):
            write(database, [charge("a", number)])
            assert sealer.seal_batch() == (1, True)
    assert sealer.seal_batch() == (1, True)
    for number in range(10):
        write(database, [charge("b", number)])
        assert sealer.seal_batch() == (1, True)
    assert check_chains(superuser(place)) == {("a", 1): 10, ("b", 1): 10, ("slow", 1): 1}


def test_what_is_sealed_is_not_read_again_while_vacuum_is_held_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer_module, "HORIZON_SECONDS", 0.0)
    sealer = Sealer(database)
    with acting(database) as backup:
        backup.session.execute(sa.text("SELECT 1 FROM charge_event"))
        numbers = itertools.count()

        def risen() -> bool:
            write(database, [charge("a", next(numbers))])
            sealer.seal_batch()
            return sealer._floor.number > 0

        # Not as long as another test's transaction runs: they are numbered by the server.
        things.eventually(risen)


def test_a_branch_sees_its_own_charges_only(database: Database) -> None:
    write(database, [charge("a", branch="bishkek")])
    write(database, [charge("o", branch="osh")])
    Sealer(database).seal_batch()
    with acting(database, "osh") as unit:
        assert store.events(unit.session, "a", 1, 1, 10) == []
        assert store.chain_certificates(unit.session, "a") == []
        assert [row.account for row in store.events(unit.session, "o", 1, 1, 10)] == ["o"]


def test_a_charge_of_another_branch_takes_no_place_in_an_accounts_chain(
    place: ServiceDatabase, database: Database
) -> None:
    sealer = Sealer(database, batch=2)
    write(database, [charge("a", 0)])
    write(database, [charge("b", 0, branch="osh")])
    write(database, [charge("b", 1)])
    assert sealer.seal_batch() == (2, False)
    for number in range(3):
        write(database, [charge("a", number, branch="osh")])
    write(database, [charge("a", 1)])
    assert sealer.seal_batch() == (1, True)
    with acting(database) as unit:
        assert [store.chain_certificates(unit.session, account)[-1].last_sequence for account in ("a", "b")] == [2, 1]
        waiting = store.backlog(unit.session)
    assert (waiting.unsealed, waiting.strange) == (4, 4)


def test_two_branches_in_one_batch_do_not_share_a_chain(place: ServiceDatabase, database: Database) -> None:
    write(database, [charge("a", 0)])
    write(database, [charge("a", 1, branch="osh")])
    write(database, [charge("a", 2)])
    sealer = Sealer(database)
    sealer.seal_batch()
    assert sealer.seal_batch() == (0, True)
    with acting(database) as unit:
        assert store.chain_certificates(unit.session, "a")[-1].last_sequence == 2
        assert store.backlog(unit.session).strange == 1
