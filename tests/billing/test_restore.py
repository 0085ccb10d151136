"""After a restore from a backup billing learns which charges were lost, and never meets others in their places."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from chassis import migrate
from chassis.bus import Bus
from chassis.db import Database
from chassis.errors import FailedPrecondition, Unavailable
from chassis.relay import Relay
from orders.billing import store
from orders.billing.outbox import STREAM, BillingOutbox, billing_stream
from orders.billing.sealer import Sealer
from orders.billing.witness import Witness
from tests.billing.books import acting, connected, write
from tests.billing.charges import charge
from tests.billing.conftest import Books
from tests.billing.test_tail import Tails
from tests.conftest import ServiceDatabase


@pytest.fixture
def bus(nats: Mapping[str, str]) -> Iterator[Bus]:
    """The connection of the orders service, with an empty stream BILLING."""
    made = Bus(nats["orders"], name="orders", streams=[billing_stream()])
    made.start()
    until_connected(made)
    made.run(made.jetstream.purge_stream(STREAM)).result(5)
    yield made
    made.stop()


@pytest.fixture
def tails(nats: Mapping[str, str], books: Books, tmp_path: Path) -> Tails:
    environment = {"NATS_URL": nats["billing"], "ORDERS_ADDRESS": books.address, "SVYAZ_TOKEN": books.token()}
    return Tails(environment, tmp_path / "state")


def until_connected(bus: Bus) -> None:
    deadline = time.monotonic() + 15
    while not bus.connected:
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Backup:
    """A copy of the database as it is now."""

    def __init__(self, place: ServiceDatabase, database: Database) -> None:
        self._place, self._database = place, database
        self._server = migrate.database_url(place.admin_url, "postgres")
        self._name = f"{place.name}_backup"
        database.close()
        migrate.copy_database(self._server, "orders", place.name, self._name)

    def restore(self) -> None:
        """What was committed since is lost."""
        self._database.close()
        migrate.drop_database(self._server, self._place.name)
        migrate.copy_database(self._server, "orders", self._name, self._place.name)


def serve(place: ServiceDatabase, bus: Bus, *, count: int) -> None:
    """What the service does until the stream has so many charges more: it seals and sends."""
    database = connected(place.url)
    relay = Relay(
        database, bus, BillingOutbox(database), service="billing", stream=STREAM, name="billing", topic=store.SEALED
    )
    with ExitStack() as stack:
        stack.callback(database.close)
        before = _messages(bus)
        for thing in (relay, Sealer(database, confirm=Witness(bus).confirm)):
            thing.start()
            stack.callback(thing.stop)
        deadline = time.monotonic() + 15
        while _messages(bus) < before + count:
            assert time.monotonic() < deadline, f"{_messages(bus) - before} of {count} came"
            time.sleep(0.02)


def _messages(bus: Bus) -> int:
    return int(bus.run(bus.jetstream.stream_info(STREAM)).result(5).state.messages)


def open_epoch(place: ServiceDatabase, *options: str) -> str:
    """What the person on call types while the service stands still."""
    command = [sys.executable, "-m", "orders.main", "open-epoch", *options]
    done = subprocess.run(
        command, env={**os.environ, "DATABASE_URL": place.url}, capture_output=True, text=True, check=False
    )
    return f"{done.returncode} {done.stdout}"


def told(lines: list[dict[str, Any]]) -> list[tuple[str, int, int, int]]:
    return [(line["verdict"], line["epoch"], line["sequence"], line.get("until", line["sequence"])) for line in lines]


def test_after_a_restore_billing_learns_what_was_lost_and_goes_on(
    place: ServiceDatabase, database: Database, bus: Bus, tails: Tails
) -> None:
    write(database, [charge("a", number) for number in range(3)])
    serve(place, bus, count=3)
    # Not yet sealed in the backup, and number 4 in what is lost.
    write(database, [charge("a", 3)])
    backup = Backup(place, database)
    serve(place, bus, count=1)
    write(database, [charge("a", 4), charge("a", 5)])
    serve(place, bus, count=2)
    assert tails.run()[0] == 0
    backup.restore()

    # Orders are taken, and nothing is sealed into the places that billing has seen.
    write(database, [charge("a", 6)])
    sealer = Sealer(database, confirm=Witness(bus).confirm)
    with pytest.raises(FailedPrecondition, match="number 6 of the account a in epoch 1"):
        sealer.seal_batch()
    assert REGISTRY.get_sample_value("svyaz_billing_restored") == 1
    with acting(database) as unit:
        waiting = store.backlog(unit.session)
    assert (waiting.unsealed, waiting.unsent) == (2, 0)

    assert open_epoch(place, "--reason", "restored from Monday's backup").startswith("0 epoch 2 is open")
    serve(place, bus, count=2)
    assert REGISTRY.get_sample_value("svyaz_billing_restored") == 0
    status, lines = tails.run()
    assert status == 0
    assert told(lines) == [("accepted", 2, 1, 1), ("superseded", 1, 4, 6), ("accepted", 2, 2, 2)]
    assert lines[0]["data"]["lastCommon"]["sequence"] == 3


def test_a_second_restore_that_loses_the_epoch_too_needs_a_later_one(
    place: ServiceDatabase, database: Database, bus: Bus, tails: Tails
) -> None:
    write(database, [charge("a", 0)])
    serve(place, bus, count=1)
    backup = Backup(place, database)
    assert open_epoch(place, "--reason", "restored").startswith("0 epoch 2 is open")
    write(database, [charge("a", 1)])
    serve(place, bus, count=1)
    backup.restore()
    write(database, [charge("a", 2)])
    assert open_epoch(place, "--reason", "restored").startswith("0 epoch 2 is open")
    with pytest.raises(FailedPrecondition, match="in epoch 2"):
        Sealer(database, confirm=Witness(bus).confirm).seal_batch()
    assert open_epoch(place, "--reason", "restored").startswith("0 epoch 3 is open")
    serve(place, bus, count=1)
    status, lines = tails.run()
    assert status == 0
    assert told(lines)[1:] == [("accepted", 2, 1, 1), ("accepted", 3, 1, 1), ("superseded", 2, 1, 1)]


def test_a_database_that_knows_all_that_was_told_needs_nobody(
    place: ServiceDatabase, database: Database, bus: Bus
) -> None:
    write(database, [charge("a", 0)])
    serve(place, bus, count=1)
    write(database, [charge("a", 1)])
    sealer = Sealer(database, confirm=Witness(bus).confirm)
    # As after the promotion of a standby that has everything.
    Backup(place, database).restore()
    assert sealer.seal_batch() == (1, True)


def test_nothing_is_sealed_before_the_stream_could_be_asked(database: Database) -> None:
    write(database, [charge("a", 0)])
    away = Bus("nats://127.0.0.1:1", name="orders")
    away.start()
    with pytest.raises(Unavailable):
        Sealer(database, confirm=Witness(away).confirm).seal_batch()
    away.stop()


def test_an_epoch_is_opened_for_a_reason(place: ServiceDatabase) -> None:
    assert open_epoch(place, "--reason", " ").startswith("2 ")
    assert open_epoch(place).startswith("2 ")
