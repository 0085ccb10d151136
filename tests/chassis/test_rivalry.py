"""Who loses to other writers of the same thing tries again until the caller's time is over, and not for ever."""

import random
import time

import psycopg
import pytest
from google.protobuf.empty_pb2 import Empty

from chassis.auth import Principal
from chassis.calls import Call, using
from chassis.db import Database
from chassis.errors import Aborted
from chassis.events import acting
from chassis.rivalry import Rivalry
from chassis.unit import Unit
from tests.chassis import things
from tests.conftest import ServiceDatabase

SOMEBODY = Principal(subject="somebody", roles=frozenset({"agent"}), branches=(things.BRANCH,))
_ROW = """
    INSERT INTO seen (number, handler, key, aggregate_id, version) OVERRIDING SYSTEM VALUE
    VALUES (1, 'test', 'k', 'a', 1)
"""
_MOVE = "UPDATE seen SET version = version + 1 WHERE number = 1 AND version = %(version)s RETURNING 1"


def waiting(seconds: float) -> Call:
    """A call whose caller waits for so long."""
    return Call(SOMEBODY, "Things/Change", time.monotonic() + seconds)


class Change:
    """A change of a row that somebody else changes each time that this one has looked at it, so many times."""

    def __init__(self, ground: ServiceDatabase, rivals: float) -> None:
        self._ground = ground
        self._rivals = rivals
        self.attempts = 0
        with psycopg.connect(ground.owner_url) as owner:
            owner.execute(_ROW)

    def __call__(self, unit: Unit) -> Empty:
        self.attempts += 1
        version = unit.begin("SELECT version FROM seen WHERE number = %(number)s", {"number": 1})
        assert version is not None
        if self.attempts <= self._rivals:
            with psycopg.connect(self._ground.owner_url) as rival:
                rival.execute("UPDATE seen SET version = version + 1")
        unit.later_meeting(1, _MOVE, {"version": version[0]})
        return Empty()


def test_a_caller_who_waits_comes_through_however_many_are_faster(
    database: Database, service_database: ServiceDatabase
) -> None:
    change = Change(service_database, 40)
    with using(waiting(300)):
        database.transact(Empty(), Empty, change)
    assert change.attempts == 41
    with psycopg.connect(service_database.owner_url) as owner:
        assert owner.execute("SELECT version FROM seen").fetchall() == [(42,)]


def test_what_nobody_waits_for_gives_way(database: Database, service_database: ServiceDatabase) -> None:
    change = Change(service_database, float("inf"))
    with acting(things.SERVICE, "test"), pytest.raises(Aborted):
        database.transact(Empty(), Empty, change)
    assert change.attempts == 8


def test_a_constraint_that_is_not_met_because_of_nobody_is_not_tried_to_the_end(
    database: Database, service_database: ServiceDatabase
) -> None:
    attempts = 0

    def again(unit: Unit) -> Empty:
        nonlocal attempts
        attempts += 1
        unit.later(_ROW, {})
        return Empty()

    with psycopg.connect(service_database.owner_url) as owner:
        owner.execute(_ROW)
    with using(waiting(300)), pytest.raises(Aborted) as refusal:
        database.transact(Empty(), Empty, again)
    assert (refusal.value.reason, attempts) == ("CONFLICT", 32)


def longest_pauses(monkeypatch: pytest.MonkeyPatch, call: Call, attempts: int) -> list[float]:
    longest: list[float] = []

    def at_once(shortest: float, most: float) -> float:
        longest.append(most)
        return shortest

    monkeypatch.setattr(random, "uniform", at_once)
    tried = Rivalry(call)
    for _ in range(attempts):
        tried.lost(Exception())
    return longest


def test_pauses_grow_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = longest_pauses(monkeypatch, waiting(3_600), 2_000)
    assert longest[:7] == [0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.25]
    assert set(longest[7:]) == {0.25}


class Left(Call):
    """A call whose caller waits for so much longer, however long this takes."""

    def remaining(self) -> float | None:
        """Always the same."""
        return self.deadline


def test_who_has_little_time_left_pauses_for_little_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(longest_pauses(monkeypatch, Left(SOMEBODY, "Things/Change", 0.8), 20)) == 0.1


def test_who_has_no_time_left_but_for_the_answer_is_told_that_others_were_faster() -> None:
    why = Exception()
    with pytest.raises(Aborted, match="keeps changing") as refusal:
        Rivalry(Left(SOMEBODY, "Things/Change", 0.05)).lost(why)
    assert (refusal.value.reason, refusal.value.__cause__) == ("CONFLICT", why)
