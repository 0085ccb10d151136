"""Leases: one holder at a time, and an old holder is told apart from the new one."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from chassis.db import Database
from chassis.errors import Aborted
from chassis.leases import Lease
from tests.chassis import things


def expire(database: Database) -> None:
    """As if the holder had been killed a while ago."""
    with database.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE lease SET expires_at = :then"), {"then": database.clock.now() - timedelta(seconds=1)}
        )


def test_only_one_holds_a_lease(database: Database) -> None:
    first, second = Lease(database, "work"), Lease(database, "work")
    assert first.acquire()
    assert not second.acquire()
    assert first.renew()
    first.release()
    assert not first.held()
    assert second.acquire()
    assert second.held()


def test_of_many_that_ask_at_once_one_gets_it(database: Database) -> None:
    leases = [Lease(database, "work") for _ in range(8)]
    threads = [threading.Thread(target=lease.acquire) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(lease.held() for lease in leases) == 1


def test_an_old_holder_is_fenced_off(database: Database) -> None:
    old, new = Lease(database, "work"), Lease(database, "work")
    old.acquire()
    with database.engine.begin() as connection:
        old.fence(connection)
    expire(database)
    assert new.acquire()
    assert new.epoch == old.epoch + 1
    with database.engine.begin() as connection, pytest.raises(Aborted):
        old.fence(connection)
    with database.engine.begin() as connection:
        new.fence(connection)
    assert not old.renew()
    assert not old.held()
    old.release()
    assert new.renew()


def test_nobody_takes_a_lease_inside_a_fenced_transaction(database: Database) -> None:
    old, new = Lease(database, "work"), Lease(database, "work")
    old.acquire()
    expire(database)
    taken = threading.Event()

    def take() -> None:
        if new.acquire():
            taken.set()

    thread = threading.Thread(target=take)
    with database.engine.begin() as connection:
        old.fence(connection)
        thread.start()
        assert not taken.wait(0.3)
    thread.join()
    assert taken.is_set()


def test_a_lease_is_kept_in_the_background_and_handed_over(database: Database) -> None:
    changes: list[bool] = []
    first = Lease(database, "work", seconds=0.6, on_change=changes.append)
    second = Lease(database, "work", seconds=0.6)
    first.start()
    things.eventually(first.held)
    second.start()
    # Longer than the lease lasts by itself.
    assert not threading.Event().wait(1.0)
    assert (first.held(), second.held()) == (True, False)
    first.stop()
    things.eventually(second.held, 1.0)
    assert changes == [True, False]
    second.stop()
