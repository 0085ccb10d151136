"""Timers: each fires once, when it is due, as it was last set."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from chassis import timers as timers_module
from chassis.clock import Clock
from chassis.db import Database
from chassis.events import acting
from chassis.timers import (
    QUEUED,
    TURN,
    TURN_SECONDS,
    TimerHandler,
    Timers,
    cancel_timer,
    set_timer,
    set_timer_by,
    turns,
)
from chassis.unit import Unit
from tests.chassis import things
from tests.conftest import ServiceDatabase


class Fired:
    """A handler that writes down what it was called for, and in which branch."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen = database.metadata.tables["seen"]
        self.failing: set[str] = set()

    def __call__(self, aggregate_id: str, unit: Unit) -> None:
        """Handles a timer."""
        branch = ",".join(unit.call.principal.branches)
        row = {"handler": "timer", "key": branch, "aggregate_id": aggregate_id, "version": 1}
        unit.session.execute(sa.insert(self._seen), row)
        if aggregate_id in self.failing:
            raise ZeroDivisionError("a bug")

    def all(self) -> list[tuple[str, str]]:
        """(branch, aggregate id) in the order of handling."""
        with self._database.engine.connect() as connection:
            rows = connection.execute(sa.select(self._seen).order_by(self._seen.c.number))
            return [(row.key, row.aggregate_id) for row in rows]


@pytest.fixture
def fired(database: Database) -> Fired:
    """A handler that writes down what it was called for."""
    return Fired(database)


def put(database: Database, *aggregates: str, seconds: float = 0.0, purpose: str = "remind", branch: str = "") -> None:
    """Sets timers that are due in so many seconds."""
    branch = branch or things.BRANCH
    with acting(things.SERVICE, "test", branch), database.unit() as unit:
        for aggregate in aggregates:
            set_timer(unit, aggregate, purpose, unit.at + timedelta(seconds=seconds), branch)


@contextmanager
def running(database: Database, workers: int = 4, **handlers: TimerHandler) -> Iterator[Timers]:
    """Timers that run."""
    timers = Timers(database, handlers, service=things.SERVICE, workers=workers)
    timers.start()
    try:
        yield timers
    finally:
        timers.stop()


def rows(database: Database) -> list[Any]:
    """The timers that are set."""
    with acting(things.SERVICE, "test"), database.unit() as unit:
        return list(unit.session.execute(sa.select(database.metadata.tables["timer"])))


def test_a_timer_fires_when_it_is_due_in_its_branch_and_is_gone(database: Database, fired: Fired) -> None:
    with running(database, remind=fired):
        put(database, "soon", seconds=0.3, branch="osh")
        put(database, "later", seconds=3600)
        assert fired.all() == []
        things.eventually(lambda: fired.all() == [("osh", "soon")])
    assert [row.aggregate_id for row in rows(database)] == ["later"]


class Slow:
    """A handler that waits until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.begun: list[str] = []

    def __call__(self, aggregate_id: str, unit: Unit) -> None:
        """Handles a timer."""
        self.begun.append(aggregate_id)
        self.released.wait(30)


@pytest.fixture
def slow() -> Iterator[Slow]:
    """A handler that waits until the test ends, at the latest."""
    made = Slow()
    yield made
    made.released.set()


@pytest.mark.parametrize("workers", [1, 4, 8])
@pytest.mark.parametrize("seconds", [0.0, -600.0])
def test_a_purpose_that_is_stuck_holds_up_no_other(
    database: Database, fired: Fired, slow: Slow, monkeypatch: pytest.MonkeyPatch, workers: int, seconds: float
) -> None:
    monkeypatch.setattr(timers_module, "TURN", 1)
    put(database, *(f"slow-{number:02}" for number in range(40)), purpose="slow", seconds=seconds)
    with running(database, workers, slow=slow, remind=fired) as timers:
        things.eventually(lambda: len(slow.begun) >= min(workers, timers._hands - 1))
        # One hand is left to the others, however many of these are waited for, and however late they are.
        for number in range(3):
            put(database, *(f"quick-{number}-{each}" for each in range(10)))
            things.eventually(lambda expected=10 * (number + 1): len(fired.all()) == expected)  # type: ignore[misc]
        assert len(slow.begun) <= timers._hands - 1
        slow.released.set()
        things.eventually(lambda: rows(database) == [])
    assert len(slow.begun) == 40


def test_those_that_are_stuck_leave_connections_to_others(
    service_database: ServiceDatabase, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers_module, "TURN", 1)
    monkeypatch.setattr(timers_module, "STUCK_SECONDS", 0.02)
    database = Database(service_database.url, clock=Clock(), metadata=things.tables(), resources={}, connections=4)
    handlers = {f"slow {number}": slow for number in range(5)}
    with running(database, 4, **handlers):
        for purpose in handlers:
            put(database, "thing", purpose=purpose)
        things.eventually(lambda: len(slow.begun) == 2)
        assert not slow.released.wait(0.3)
        assert database.ready()
        assert len(slow.begun) == 2
        slow.released.set()
        things.eventually(lambda: rows(database) == [])
    database.close()


def test_what_is_stuck_leaves_as_many_hands_as_there_are_workers(
    database: Database, fired: Fired, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers_module, "TURN", 1)
    monkeypatch.setattr(timers_module, "STUCK_SECONDS", 0.02)
    together = threading.Barrier(2)

    def pair(aggregate_id: str, unit: Unit) -> None:
        # Nobody comes through alone.
        together.wait(30)

    put(database, *(f"slow-{number:02}" for number in range(40)), purpose="slow")
    with running(database, workers=2, slow=slow, one=pair, other=pair) as timers:
        things.eventually(lambda: len(slow.begun) == timers._hands - 2)
        put(database, "thing", purpose="one")
        put(database, "thing", purpose="other")
        things.eventually(lambda: {row.purpose for row in rows(database)} == {"slow"})
        assert len(slow.begun) == timers._hands - 2
        slow.released.set()


def test_what_has_been_taken_and_not_begun_is_given_back_at_the_end(
    database: Database, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers_module, "TURN", 1)
    monkeypatch.setattr(timers_module, "STUCK_SECONDS", 60)
    put(database, *(f"thing-{number}" for number in range(10)))
    timers = Timers(database, {"remind": slow}, service=things.SERVICE, workers=1)
    timers.start()
    things.eventually(lambda: slow.begun == ["thing-0"])
    assert all(row.not_before > row.due for row in rows(database))
    stopping = threading.Thread(target=timers.stop)
    stopping.start()
    things.eventually(lambda: timers._stopping)
    slow.released.set()
    stopping.join(10)
    assert not stopping.is_alive()
    left = rows(database)
    assert len(left) == 9
    assert [row.not_before for row in left] == [row.due for row in left]


def test_what_is_tried_one_by_one_is_given_back_at_the_end_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers_module, "STUCK_SECONDS", 60)
    put(database, *(f"thing-{number}" for number in range(TURN)))
    begun: list[str] = []
    alone, released = threading.Event(), threading.Event()

    def handle(aggregate_id: str, unit: Unit) -> None:
        begun.append(aggregate_id)
        if len(begun) == 1:
            raise ValueError("the whole turn fails")
        alone.set()
        assert released.wait(30)

    timers = Timers(database, {"remind": handle}, service=things.SERVICE, workers=1)
    timers.start()
    assert alone.wait(30)
    stopping = threading.Thread(target=timers.stop)
    stopping.start()
    things.eventually(lambda: timers._stopping)
    released.set()
    stopping.join(10)
    assert not stopping.is_alive()
    assert begun == ["thing-0", "thing-0"]
    left = rows(database)
    assert len(left) == TURN - 1
    assert [row.not_before for row in left] == [row.due for row in left]


def test_who_is_stopped_while_he_begins_anew_ends_at_once(
    database: Database, fired: Fired, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers_module, "POLL_SECONDS", 60)
    timers = Timers(database, {"remind": fired}, service=things.SERVICE)

    class Stopped(threading.Event):
        def clear(self) -> None:
            # Somebody stops us between our look at whether we are to and this.
            timers._stopping = True
            super().clear()

    timers._wake = Stopped()
    running = threading.Thread(target=timers._run, args=(None,), daemon=True)
    running.start()
    running.join(10)
    assert not running.is_alive()


def test_each_turn_waits_for_what_is_more_urgent(
    database: Database, fired: Fired, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers_module, "LATE_SECONDS", 600)
    monkeypatch.setattr(timers_module, "STUCK_SECONDS", 0.02)
    free = threading.Event()
    asked: list[int] = []

    def urgent() -> None:
        asked.append(len(fired.all()))
        free.wait(30)

    timers = Timers(database, {"remind": fired}, service=things.SERVICE, workers=1, before_turn=urgent)
    put(database, *(f"thing-{number:02}" for number in range(TURN + 1)))
    timers.start()
    try:
        things.eventually(lambda: asked == [0])
        # To wait isn't to be stuck: nobody else begins meanwhile.
        assert not free.wait(0.3)
        assert asked == [0]
        monkeypatch.setattr(timers_module, "STUCK_SECONDS", 60)
        free.set()
        things.eventually(lambda: len(fired.all()) == TURN + 1)
    finally:
        free.set()
        timers.stop()
    assert asked[0] == 0
    assert len(asked) >= 2


def test_what_is_late_waits_for_nothing_and_has_more_hands(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers_module, "STUCK_SECONDS", 60)
    together = threading.Barrier(2)
    asked: list[str] = []

    def fire(aggregate_id: str, unit: Unit) -> None:
        # Nobody comes through alone.
        together.wait(30)

    handlers = {"one": fire, "other": fire}
    timers = Timers(database, handlers, service=things.SERVICE, workers=1, before_turn=lambda: asked.append("to wait"))
    put(database, "thing", seconds=-10, purpose="one")
    put(database, "thing", seconds=-10, purpose="other")
    timers.start()
    try:
        things.eventually(lambda: rows(database) == [])
    finally:
        together.abort()
        timers.stop()
    assert asked == []


def test_what_was_put_off_is_not_late(database: Database, fired: Fired) -> None:
    asked: list[str] = []
    put(database, "thing", seconds=-60)
    with acting(things.SERVICE, "test"), database.unit() as unit:
        timer = database.metadata.tables["timer"]
        unit.session.execute(sa.update(timer).values(attempts=3, not_before=unit.at + timedelta(seconds=0.5)))
    timers = Timers(database, {"remind": fired}, service=things.SERVICE, before_turn=lambda: asked.append("to wait"))
    timers.start()
    try:
        things.eventually(lambda: rows(database) == [])
    finally:
        timers.stop()
    assert asked == ["to wait"]


def test_a_turn_is_as_late_as_its_latest(database: Database, fired: Fired) -> None:
    timers = Timers(database, {"remind": fired}, service=things.SERVICE)
    put(database, "put off", seconds=-60)
    put(database, "late", seconds=-30)
    with acting(things.SERVICE, "test"), database.unit() as unit:
        timer = database.metadata.tables["timer"]
        unit.session.execute(
            sa.update(timer).where(timer.c.aggregate_id == "put off").values(attempts=3, not_before=unit.at)
        )
    claims, _ = timers._claim(10)
    assert [claim.aggregate_id for claim in claims] == ["put off", "late"]
    assert not timers._is_late(claims[:1])
    assert timers._is_late(claims)


class Counted(Timers):
    """Timers that count their looks."""

    looks = 0

    def _claim(self, batch: int, purposes: Sequence[str] | None = None) -> Any:
        self.looks += 1
        return super()._claim(batch, purposes)


def test_commits_that_come_fast_share_a_look(database: Database, fired: Fired, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers_module, "SPACING_SECONDS", 60)
    monkeypatch.setattr(timers_module, "POLL_SECONDS", 60)
    timers = Counted(database, {"remind": fired}, service=things.SERVICE)
    timers.start()
    try:
        things.eventually(lambda: timers.looks == 1)
        for number in range(10):
            put(database, f"thing-{number}")
            time.sleep(0.02)
        assert timers.looks == 1
    finally:
        timers.stop()


def test_hands_that_have_nothing_left_get_more_at_once(
    database: Database, fired: Fired, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SPACING_SECONDS", "POLL_SECONDS", "STUCK_SECONDS"):
        monkeypatch.setattr(timers_module, name, 60)
    count = 5 * QUEUED
    put(database, *(f"thing-{number:03}" for number in range(count)))
    timers = Counted(database, {"remind": fired}, service=things.SERVICE, workers=1)
    timers.start()
    try:
        things.eventually(lambda: len(fired.all()) == count)
    finally:
        timers.stop()
    assert timers.looks >= 5


def test_only_who_leaves_something_over_asks_for_more_at_once(database: Database, fired: Fired) -> None:
    timers = Timers(database, {"remind": fired, "other": fired}, service=things.SERVICE)
    put(database, "thing")
    put(database, "thing", purpose="other")
    timers._left_over = {"remind"}
    asked = {}
    with ThreadPoolExecutor(1) as executor:
        for claim in timers._claim(10)[0]:
            begun = timers_module._Begun([claim])
            timers._begun.append(begun)
            timers._take(executor, begun)
            asked[claim.purpose] = timers._dry.is_set()
            timers._dry.clear()
    assert asked == {"remind": True, "other": False}


def test_setting_a_timer_again_replaces_it(database: Database, fired: Fired) -> None:
    put(database, "thing", seconds=0.2)
    put(database, "thing", seconds=3600)
    with running(database, remind=fired):
        put(database, "other")
        things.eventually(lambda: len(fired.all()) == 1)
        assert not threading.Event().wait(0.5)
    assert fired.all() == [(things.BRANCH, "other")]
    assert [row.generation for row in rows(database)] == [2]


def test_what_is_asked_for_again_and_again_is_neither_done_twice_nor_put_off(database: Database, fired: Fired) -> None:
    due = database.clock.now() + timedelta(seconds=0.5)
    with acting(things.SERVICE, "test", things.BRANCH), database.unit() as unit:
        for seconds in (3600, 0, 1800):
            set_timer_by(unit, "thing", "remind", due + timedelta(seconds=seconds), things.BRANCH)
    assert [(row.due, row.not_before) for row in rows(database)] == [(due, due)]
    with running(database, remind=fired):
        things.eventually(lambda: fired.all() == [(things.BRANCH, "thing")])
    assert rows(database) == []


def test_what_is_asked_for_while_it_is_being_done_is_done_again(database: Database, fired: Fired) -> None:
    put(database, "thing")
    begun, asked = threading.Event(), threading.Event()

    def fire(aggregate_id: str, unit: Unit) -> None:
        unit.flush()
        begun.set()
        asked.wait(0.5)
        fired(aggregate_id, unit)

    def ask() -> None:
        begun.wait(5)
        with acting(things.SERVICE, "test", things.BRANCH), database.unit() as unit:
            set_timer_by(unit, "thing", "remind", unit.at, things.BRANCH)
        asked.set()

    asking = threading.Thread(target=ask)
    asking.start()
    with running(database, remind=fire):
        asking.join()
        things.eventually(lambda: len(fired.all()) == 2)
    assert rows(database) == []


def test_a_timer_that_was_taken_and_then_set_anew_or_cancelled_does_nothing(database: Database, fired: Fired) -> None:
    put(database, "moved", "cancelled", "cancelled-and-set")
    timers = Timers(database, {"remind": fired}, service=things.SERVICE)
    claims, _ = timers._claim(10)
    assert len(claims) == 3
    put(database, "moved", seconds=3600)
    with acting(things.SERVICE, "test"), database.unit() as unit:
        cancel_timer(unit, "cancelled", "remind")
        cancel_timer(unit, "cancelled-and-set", "remind")
    put(database, "cancelled-and-set", seconds=3600)
    for claim in claims:
        timers._handle([claim])
    assert fired.all() == []
    assert sorted(row.aggregate_id for row in rows(database)) == ["cancelled-and-set", "moved"]


def test_many_runners_never_run_one_timer_twice(
    database: Database, service_database: ServiceDatabase, fired: Fired
) -> None:
    names = [f"thing-{number:03d}" for number in range(300)]
    put(database, *names)
    others = [things.connect(service_database) for _ in range(2)]
    with running(database, remind=fired), running(others[0], remind=fired), running(others[1], remind=fired):
        things.eventually(lambda: rows(database) == [])
    for other in others:
        other.close()
    assert sorted(aggregate for _, aggregate in fired.all()) == names


def test_many_purposes_do_not_make_turns_short(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers_module, "TURN_SECONDS", 60)
    put(database, *(f"due {number}" for number in range(TURN)))
    read: list[int] = []
    others = {f"purpose {number}": lambda aggregate_id, unit: None for number in range(40)}
    timers = Timers(
        database,
        {**others, "remind": lambda aggregate_id, unit: None},
        service=things.SERVICE,
        workers=1,
        read_ahead=lambda purpose, ids, unit: read.append(len(ids)),
    )
    timers.start()
    try:
        things.eventually(lambda: rows(database) == [])
    finally:
        timers.stop()
    assert read == [TURN]


def test_one_timer_claimed_twice_is_handled_once(database: Database, fired: Fired) -> None:
    put(database, "thing")
    timers = Timers(database, {"remind": fired}, service=things.SERVICE)
    claims = timers._claim(10)[0] * 2
    threads = [threading.Thread(target=timers._handle, args=([claim],)) for claim in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fired.all()) == 1


def test_a_claim_that_has_lapsed_does_nothing_to_what_was_put_off_since(database: Database, fired: Fired) -> None:
    put(database, "thing")
    fired.failing.add("thing")
    timers = Timers(database, {"remind": fired}, service=things.SERVICE)
    lapsed, _ = timers._claim(10)
    with acting(things.SERVICE, "test"), database.unit() as unit:
        unit.session.execute(sa.update(database.metadata.tables["timer"]).values(not_before=unit.at))
    claims, _ = timers._claim(10)
    timers._handle(claims)
    (put_off,) = rows(database)
    timers._handle(lapsed)
    assert put_off.attempts == 1
    assert rows(database) == [put_off]


def test_a_timer_that_fails_is_tried_again_later_and_holds_up_no_other(database: Database, fired: Fired) -> None:
    fired.failing.add("bad")
    put(database, "bad", "good")
    with running(database, remind=fired):
        things.eventually(lambda: fired.all() == [(things.BRANCH, "good")])
        things.eventually(lambda: rows(database)[0].attempts >= 1)
        row = rows(database)[0]
        assert "ZeroDivisionError" in row.last_error
        assert row.not_before > row.due
        fired.failing.clear()
        things.eventually(lambda: (things.BRANCH, "bad") in fired.all(), 5)
    assert rows(database) == []


def test_a_flood_of_one_purpose_does_not_hold_up_another(database: Database, fired: Fired) -> None:
    put(database, *[f"flood-{number:03d}" for number in range(200)], purpose="flood")
    put(database, "alone", purpose="remind")
    with running(database, remind=fired, flood=fired):
        things.eventually(lambda: len(fired.all()) == 201)
    assert (things.BRANCH, "alone") in fired.all()[:30]


def test_a_moved_clock_makes_timers_due(service_database: ServiceDatabase, tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    database = things.connect(service_database)
    database.clock = Clock(str(offset))
    fired = Fired(database)
    put(database, "thing", seconds=86_400)
    with running(database, remind=fired):
        assert not threading.Event().wait(0.3)
        assert fired.all() == []
        offset.write_text("90000")
        things.eventually(lambda: len(fired.all()) == 1, 3)
    database.close()


def test_a_look_for_due_timers_stays_cheap_with_many_open(database: Database, fired: Fired) -> None:
    with acting(things.SERVICE, "test"), database.unit() as unit:
        unit.session.execute(
            sa.text(
                """
                INSERT INTO timer (aggregate_id, purpose, due, generation, branch, attempts, not_before)
                SELECT 'thing-' || n, 'remind', :later, 1, :branch, 0, :later FROM generate_series(1, 100000) n
                """
            ),
            {"later": unit.at + timedelta(days=1), "branch": things.BRANCH},
        )
    put(database, "due")
    with acting(things.SERVICE, "test"), database.unit() as unit:
        plan = unit.session.execute(
            sa.text(
                "EXPLAIN SELECT 1 FROM timer WHERE purpose = 'remind' AND not_before <= :now"
                " ORDER BY not_before LIMIT 50 FOR UPDATE SKIP LOCKED"
            ),
            {"now": unit.at},
        )
        assert "timer_purpose_not_before" in "\n".join(row[0] for row in plan)
    with running(database, remind=fired):
        things.eventually(lambda: len(fired.all()) == 1, 2)


def test_timers_that_are_due_together_share_a_transaction_and_what_they_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is.
    monkeypatch.setattr(timers_module, "TURN_SECONDS", 60)
    put(database, "one", "two", "three")
    put(database, "elsewhere", branch="osh")
    transactions: dict[str, str] = {}
    ahead: list[Sequence[str]] = []

    def fire(aggregate_id: str, unit: Unit) -> None:
        transactions[aggregate_id] = str(unit.session.scalar(sa.text("SELECT pg_current_xact_id()")))

    timers = Timers(
        database,
        {"remind": fire},
        service=things.SERVICE,
        read_ahead=lambda purpose, ids, unit: ahead.append((purpose, *ids)),
    )
    for turn in turns(timers._claim(10)[0]):
        timers._handle(turn)
    assert len({transactions[name] for name in ("one", "two", "three")}) == 1
    assert transactions["elsewhere"] != transactions["one"]
    assert [sorted(ids) for ids in ahead] == [["one", "remind", "three", "two"]]
    assert rows(database) == []


def test_a_transaction_that_lasts_takes_no_further_timers(database: Database) -> None:
    put(database, "one", "two", "three")
    transactions: list[str] = []

    def fire(aggregate_id: str, unit: Unit) -> None:
        transactions.append(str(unit.session.scalar(sa.text("SELECT pg_current_xact_id()"))))
        time.sleep(TURN_SECONDS * 1.1)

    with running(database, remind=fire):
        things.eventually(lambda: rows(database) == [])
    assert len(transactions) == len(set(transactions)) == 3


def test_a_purpose_that_takes_its_time_lets_others_in_between(database: Database) -> None:
    put(database, *(f"slow {number}" for number in range(6)))
    order: list[str] = []

    def fire(aggregate_id: str, unit: Unit) -> None:
        if not order:
            put(database, "quick", purpose="answer")
        order.append(aggregate_id)
        time.sleep(TURN_SECONDS * 1.1)

    with running(database, workers=1, remind=fire, answer=lambda aggregate_id, unit: order.append(aggregate_id)):
        things.eventually(lambda: rows(database) == [])
    assert order.index("quick") < 5
    assert len(order) == 7
