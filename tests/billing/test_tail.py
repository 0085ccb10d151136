"""`svyaz billing-tail` over a real NATS and a real log: whatever happens to the stream, billing knows."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

import nats as nats_client
import psycopg
import pytest
from nats.js.errors import NotFoundError

from chassis import epochs
from chassis.db import Database
from chassis.outbox import Outgoing
from orders.billing.outbox import STREAM, BillingOutbox, billing_stream
from orders.billing.sealer import Sealer
from svyaz_cli.billing_tail import run
from svyaz_cli.billing_watch import Options
from tests import streams
from tests.billing.books import acting, superuser, write
from tests.billing.charges import charge
from tests.billing.conftest import Books
from tests.conftest import ServiceDatabase


@pytest.fixture
def stream(nats: Mapping[str, str]) -> Mapping[str, str]:
    """NATS with an empty stream BILLING."""

    async def make() -> None:
        client = await nats_client.connect(nats["orders"])
        jetstream = client.jetstream()
        with suppress(NotFoundError):
            await jetstream.delete_stream(STREAM)
        await streams.add(jetstream, billing_stream())
        await client.close()

    asyncio.run(make())
    return nats


@dataclass
class Teller:
    """Seals charges and publishes what the relay would, or what a test makes of it."""

    database: Database
    url: str
    sealed: list[Outgoing] = field(default_factory=list)

    def charge(self, account: str, count: int) -> list[Outgoing]:
        """Seals `count` more charges of an account."""
        write(self.database, [charge(account, number) for number in range(count)])
        Sealer(self.database).seal_batch()
        items = list(BillingOutbox(self.database).exchange([], 10_000, 0, set(), set()))
        new = items[len(self.sealed) :]
        self.sealed = items
        return new

    def publish(self, items: Sequence[Outgoing], *, again: bool = False) -> None:
        """Puts messages into the stream; `again`: even those that it has."""

        async def send() -> None:
            client = await nats_client.connect(self.url)
            jetstream = client.jetstream()
            for item in items:
                headers = {k: v for k, v in item.headers.items() if not again or k != "Nats-Msg-Id"}
                await jetstream.publish(item.subject, item.data, headers=headers)
            await client.close()

        asyncio.run(send())


@dataclass(frozen=True)
class Tails:
    """Starts the command."""

    environment: Mapping[str, str]
    state: Path
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "svyaz_cli.main", "billing-tail", "--state", str(self.state), *arguments]
        environment = {**os.environ, **self.environment}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.started.append(process)
        return process

    def run(self, **options: Any) -> tuple[int, list[dict[str, Any]]]:
        """Lets it read until nothing comes, in this process; its exit status and lines."""
        out = StringIO()
        chosen = Options(
            state=self.state,
            nats_url=self.environment["NATS_URL"],
            orders_address=self.environment["ORDERS_ADDRESS"],
            token=lambda: self.environment["SVYAZ_TOKEN"],
            idle_exit=0.5,
            **options,
        )
        status = run(chosen, out)
        return status, [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.fixture
def teller(database: Database, stream: Mapping[str, str]) -> Teller:
    return Teller(database, stream["orders"])


@pytest.fixture
def tails(stream: Mapping[str, str], books: Books, tmp_path: Path) -> Iterator[Tails]:
    environment = {"NATS_URL": stream["billing"], "ORDERS_ADDRESS": books.address, "SVYAZ_TOKEN": books.token()}
    started = Tails(environment, tmp_path / "state")
    yield started
    for process in started.started:
        process.kill()
        process.communicate()


def places(lines: Sequence[Mapping[str, Any]], verdict: str = "accepted") -> list[tuple[str, int]]:
    return [(line["account"], line["sequence"]) for line in lines if line["verdict"] == verdict]


def every(account: str, count: int) -> list[tuple[str, int]]:
    return [(account, number) for number in range(1, count + 1)]


def test_each_event_is_told_once_in_its_order_over_restarts(teller: Teller, tails: Tails) -> None:
    teller.publish(teller.charge("a", 3))
    status, lines = tails.run()
    assert (status, places(lines)) == (0, every("a", 3))
    assert lines[0]["data"]["amount"] == {"unit": "KGS", "value": "499.00"}
    teller.publish(teller.charge("a", 2))
    status, lines = tails.run()
    assert (status, places(lines)) == (0, [("a", 4), ("a", 5)])
    assert tails.run() == (0, [])


def test_repeated_and_reordered_events_are_told_once_in_order(teller: Teller, tails: Tails) -> None:
    items = [*teller.charge("a", 6), *teller.charge("b", 6)]
    shuffled = [*items, *items[:5]]
    random.Random(3).shuffle(shuffled)
    teller.publish(shuffled, again=True)
    status, lines = tails.run()
    assert status == 0
    assert sorted(places(lines)) == [*every("a", 6), *every("b", 6)]
    assert [place for place in places(lines) if place[0] == "a"] == every("a", 6)
    assert {line["verdict"] for line in lines} == {"accepted", "duplicate", "reordered"}
    assert len([line for line in lines if line["verdict"] == "duplicate"]) == 5


def test_a_dropped_event_is_named_after_the_time_out_and_fetched(teller: Teller, tails: Tails) -> None:
    items = teller.charge("a", 5)
    teller.publish([items[0], items[2], items[4]])
    process = tails.start("--gap-timeout", "1")
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(7)]
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    process.communicate()
    assert places(lines) == every("a", 5)
    assert [(line["sequence"], line.get("until")) for line in lines if line["verdict"] == "gap"] == [
        (2, None),
        (4, None),
    ]
    assert [line["sequence"] for line in lines if line.get("fetched")] == [2, 4]


def test_a_delayed_event_is_waited_for(teller: Teller, tails: Tails) -> None:
    items = teller.charge("a", 3)
    teller.publish([items[0], items[2]])
    process = tails.start("--gap-timeout", "20")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    time.sleep(0.5)
    teller.publish([items[1]])
    told, *lines = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == ""
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert (told["verdict"], told["fault"], told["sequence"]) == ("reordered", False, 2)
    assert [(line["sequence"], line["fetched"]) for line in (first, *lines)] == [(1, False), (2, False), (3, False)]


def test_events_dropped_at_the_end_of_a_chain_are_known_from_its_certificate(teller: Teller, tails: Tails) -> None:
    items = teller.charge("a", 5)
    teller.publish(items[:3])
    status, lines = tails.run()
    assert (status, places(lines)) == (0, every("a", 5))
    assert [(line["sequence"], line["until"]) for line in lines if line["verdict"] == "gap"] == [(4, 5)]


def test_an_account_that_never_came_is_known_from_the_certificate_of_the_day(teller: Teller, tails: Tails) -> None:
    teller.publish(teller.charge("a", 1))
    teller.charge("b", 2)
    status, lines = tails.run(branch="bishkek", day="2026-03-01")
    assert (status, sorted(places(lines))) == (0, [*every("a", 1), *every("b", 2)])


def test_what_neither_stream_nor_log_has_is_missing(teller: Teller, tails: Tails, place: ServiceDatabase) -> None:
    items = teller.charge("a", 4)
    with psycopg.connect(superuser(place)) as connection:
        connection.execute("DELETE FROM charge_event WHERE sequence = 2")
    teller.publish([items[0], items[2], items[3]])
    status, lines = tails.run()
    assert status == 1
    assert places(lines) == every("a", 1)
    assert [(line["verdict"], line["sequence"]) for line in lines if line["fault"]] == [("missing", 2)]
    # It stays missing.
    assert tails.run()[0] == 1


def test_an_altered_event_is_a_fault_that_ends_the_run_and_is_then_healed(teller: Teller, tails: Tails) -> None:
    items = teller.charge("a", 4)
    items[1].data = items[1].data.replace(b"499.00", b"099.00")
    teller.publish(items)
    status, lines = tails.run()
    assert (status, places(lines)) == (1, every("a", 1))
    assert [(line["verdict"], line["sequence"]) for line in lines if line["fault"]] == [("altered", 2)]
    status, lines = tails.run()
    assert (status, places(lines)) == (0, [("a", 2), ("a", 3), ("a", 4)])


def test_a_run_that_keeps_going_tells_all_and_still_ends_with_1(teller: Teller, tails: Tails) -> None:
    items = [*teller.charge("a", 4), *teller.charge("b", 4)]
    items[1].data = items[1].data.replace(b"499.00", b"099.00")
    items[6].headers = {**items[6].headers, "ce-hash": "f" * 64}
    teller.publish(items)
    status, lines = tails.run(keep_going=True)
    assert status == 1
    assert sorted(places(lines)) == [*every("a", 4), *every("b", 4)]
    assert places(lines, "altered") == [("a", 2), ("b", 3)]


def test_a_second_history_of_the_same_places_is_a_fork(
    teller: Teller, tails: Tails, place: ServiceDatabase, database: Database
) -> None:
    teller.publish(teller.charge("a", 3))
    assert tails.run()[0] == 0
    # A restore without a new epoch: the same numbers are given once more.
    with psycopg.connect(superuser(place)) as connection:
        connection.execute("DELETE FROM charge_event WHERE sequence > 1")
        connection.execute(
            "UPDATE billing_chain SET last_sequence = 1, count = 1,"
            " last_hash = (SELECT hash FROM charge_event WHERE sequence = 1)"
        )
    teller.sealed = teller.sealed[:1]
    teller.publish(teller.charge("a", 3))
    status, lines = tails.run(keep_going=True)
    assert status == 1
    assert places(lines) == []
    assert {line["verdict"] for line in lines if line["fault"]} == {"fork"}


def test_a_new_epoch_after_a_restore_is_followed(
    teller: Teller, tails: Tails, place: ServiceDatabase, database: Database
) -> None:
    teller.publish(teller.charge("a", 3))
    assert tails.run()[0] == 0
    with psycopg.connect(superuser(place)) as connection:
        connection.execute("DELETE FROM charge_event WHERE sequence > 2")
        connection.execute(
            "UPDATE billing_chain SET last_sequence = 2, count = 2,"
            " last_hash = (SELECT hash FROM charge_event WHERE sequence = 2)"
        )
    with acting(database) as unit:
        epochs.open_next(unit.session, "restored", unit.at)
    teller.sealed = teller.sealed[:2]
    teller.publish(teller.charge("a", 2))
    status, lines = tails.run()
    assert status == 0
    assert [(line["verdict"], line["epoch"], line["sequence"]) for line in lines] == [
        ("accepted", 2, 1),
        ("superseded", 1, 3),
        ("accepted", 2, 2),
    ]


def test_a_killed_tail_loses_nothing_and_goes_on(teller: Teller, tails: Tails) -> None:
    teller.publish(teller.charge("a", 300))
    taken: list[tuple[str, int]] = []
    chance = random.Random(5)
    for _ in range(3):
        process = tails.start()
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        out = first + process.stdout.read()
        process.communicate()
        taken += places([json.loads(line) for line in out.splitlines() if line.endswith("}")])
        teller.publish(teller.charge("a", 50))
    status, lines = tails.run()
    taken += places(lines)
    assert status == 0
    # A line may come twice after a kill, none may be missing.
    assert set(taken) == set(every("a", 450))
    assert tails.run() == (0, [])


def test_only_one_tail_has_a_state(tails: Tails, teller: Teller) -> None:
    teller.publish(teller.charge("a", 1))
    first = tails.start()
    assert first.stdout is not None
    first.stdout.readline()
    second = tails.start()
    _, errors = second.communicate(timeout=20)
    assert second.returncode == 2
    assert "in use" in errors
    first.terminate()
    first.communicate()
    assert first.returncode == 0


@pytest.fixture(params=["text", "another program's", "a folder", "under a file"])
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that can't be a state of the tail."""
    file = tmp_path / "foreign"
    if request.param == "a folder":
        file.mkdir()
    elif request.param == "another program's":
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE note (text TEXT)")
            connection.commit()
    else:
        file.write_text("number,first,last\n1,Aida,Bekova\n" * 20)
    return file / "state" if request.param == "under a file" else file


def test_a_state_that_is_none_is_refused_before_anything_is_read(tails: Tails, teller: Teller, foreign: Path) -> None:
    teller.publish(teller.charge("a", 1))
    before = foreign.read_bytes() if foreign.is_file() else None
    out, errors = (tail := replace(tails, state=foreign).start("--idle-exit", "0.5")).communicate(timeout=30)
    assert (tail.returncode, out) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith(f"billing-tail: --state: {foreign} ")
    # What is somebody else's stays as it is.
    assert (foreign.read_bytes() if foreign.is_file() else None) == before


@pytest.mark.parametrize("day", ["yesterday", "2026-02-30", "20260301", "9999-12-31"])
def test_a_day_that_is_none_is_refused_before_anything_is_read(tails: Tails, teller: Teller, day: str) -> None:
    teller.publish(teller.charge("a", 1))
    tail = tails.start("--branch", "bishkek", "--day", day, "--idle-exit", "0.5")
    out, errors = tail.communicate(timeout=30)
    assert (tail.returncode, out) == (2, "")
    assert errors.splitlines() == [f"billing-tail: --day: {day!r} is no day; it is YYYY-MM-DD and exists"]
    assert not tails.state.exists()


def test_a_token_file_that_is_none_is_refused_before_anything_is_read(
    tails: Tails, teller: Teller, tmp_path: Path
) -> None:
    teller.publish(teller.charge("a", 1))
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, why in (
        ("missing", "can't be read: No such file or directory"),
        (".", "can't be read: Is a directory"),
        ("binary", "can't be read: it isn't UTF-8"),
        ("empty", "is empty"),
    ):
        tail = tails.start("--token-file", str(tmp_path / name), "--idle-exit", "0.5")
        out, errors = tail.communicate(timeout=30)
        assert (tail.returncode, out) == (2, "")
        assert errors.splitlines() == [f"billing-tail: --token-file: {tmp_path / name} {why}"]
        assert not tails.state.exists()


def test_one_account_can_be_followed_alone(teller: Teller, tails: Tails) -> None:
    teller.publish([*teller.charge("a", 2), *teller.charge("b", 2)])
    assert places(tails.run(account="b")[1]) == every("b", 2)
