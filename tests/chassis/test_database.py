"""The database as a service uses it: what it waits for, what it gives up, and what it says of bad input."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from prometheus_client import Counter

from chassis.auth import Principal
from chassis.calls import Call, using
from chassis.db import Database
from chassis.errors import Aborted, InvalidArgument, Unavailable
from chassis.events import acting
from chassis.leases import Lease
from tests.chassis import things
from tests.conftest import ServiceDatabase


def test_callers_who_hold_all_connections_do_not_keep_the_service_from_its_own_work(database: Database) -> None:
    lease = Lease(database, "work")
    with ExitStack() as held:
        for _ in range(16):
            held.enter_context(database.engine.connect())
        assert database.ready()
        assert lease.acquire()
        with acting(things.SERVICE, "test"), database.unit() as unit:
            assert unit.session.scalar(sa.text("SELECT 1")) == 1


def test_a_pool_without_a_free_connection_is_not_ready_and_does_not_raise(database: Database) -> None:
    with ExitStack() as held:
        for _ in range(16):
            held.enter_context(database.background.connect())
        assert database.ready() is False
    assert database.ready() is True


def test_a_server_that_has_gone_without_a_word_is_noticed(database: Database) -> None:
    with acting(things.SERVICE, "test"):
        assert database.rows("SELECT 1 WHERE 'id' = ANY (WANTED)", ["id"]) == [(1,)]
    reading: Any = database._reader._idle.get_nowait()
    with database.engine.connect() as connection, reading._connection as read:
        written: Any = connection.connection.driver_connection
        for opened in (written, read):
            known = opened.info.get_parameters()
            assert known["connect_timeout"] == "5"
            assert known["keepalives_idle"] == "10"
            assert known["keepalives_interval"] == "5"
            assert known["keepalives_count"] == "3"
            assert known["tcp_user_timeout"] == "15000"


def test_a_connection_that_is_cut_is_an_outage_and_the_next_caller_has_another(database: Database) -> None:
    def cut() -> None:
        with acting(things.SERVICE, "test"), database.unit() as unit:
            unit.connection().pgconn.finish()
            unit.cursor().execute("SELECT 1")

    with pytest.raises(Unavailable):
        cut()
    with acting(things.SERVICE, "test"), database.unit() as unit:
        assert unit.cursor().execute("SELECT 1").fetchone() == (1,)


@contextmanager
def round_trips(database: Database, counted: list[int]) -> Iterator[None]:
    """Appends how many times the one connection that is used in the block has waited for the server."""
    with tempfile.TemporaryFile("w+") as trace:
        with database.background.connect() as connection:
            driver: Any = connection.connection.driver_connection
        driver.pgconn.trace(trace.fileno())
        try:
            yield
        finally:
            driver.pgconn.untrace()
        trace.seek(0)
        counted.append(sum("ReadyForQuery" in line for line in trace))


def test_a_unit_begins_with_its_first_questions_and_ends_with_its_last_writes_in_a_round_trip_each(
    database: Database,
) -> None:
    counted: list[int] = []
    questions = [("SELECT %(n)s::int", {"n": n}) for n in range(3)]
    for _ in range(3):
        with round_trips(database, counted), acting(things.SERVICE, "test"), database.unit() as unit:
            assert unit.begin_all(*questions) == [[(0,)], [(1,)], [(2,)]]
            unit.later("SELECT 1")
            unit.later("SELECT 1")
    assert counted == [2, 2, 2]


def test_what_is_known_without_looking_is_one_round_trip(database: Database) -> None:
    counted: list[int] = []
    with round_trips(database, counted), acting(things.SERVICE, "test"), database.unit() as unit:
        unit.later("SELECT 1")
        unit.later("SELECT 1")
    with round_trips(database, counted), acting(things.SERVICE, "test"), database.at_once() as connection:
        asked = [connection.execute("SELECT 1") for _ in range(2)]
    assert [cursor.fetchall() for cursor in asked] == [[(1,)], [(1,)]]
    assert counted == [1, 1]


def test_what_a_transaction_sets_on_itself_ends_with_it_however_it_ends(database: Database) -> None:
    setting = sa.text("SELECT coalesce(current_setting('svyaz.branches', true), '')")

    def fail() -> None:
        with acting(things.SERVICE, "test"), database.unit() as unit:
            assert unit.session.scalar(setting) == "*"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    for engine in (database.background, database.engine):
        with engine.begin() as connection:
            assert connection.scalar(setting) == ""
            connection.execute(sa.text("SELECT set_config('svyaz.branches', 'left', true)"))
            assert connection.scalar(setting) == "left"
        with engine.connect() as connection:
            assert connection.scalar(setting) == ""


def test_what_follows_a_commit_follows_as_often_as_it_was_asked_for(database: Database) -> None:
    """What several timers of one turn count, each counts."""
    counter = Counter("svyaz_test_followed_total", "Counted", registry=None)
    with acting(things.SERVICE, "test"), database.unit() as unit:
        for _ in range(3):
            unit.after_commit(counter.inc)
    assert [sample.value for sample in next(iter(counter.collect())).samples if sample.name.endswith("_total")] == [3]


def test_no_statement_runs_for_ever(database: Database) -> None:
    shown = sa.text("SELECT extract(epoch FROM current_setting('statement_timeout')::interval)")
    with acting(things.SERVICE, "test"), database.unit() as unit:
        assert unit.session.scalar(shown) == 60
    with database.engine.connect() as connection:
        assert connection.scalar(shown) == 60
    call = Call(Principal("service:reader", frozenset({"service"}), ("*",)), "Read", time.monotonic() + 7)
    with using(call), database.unit() as unit:
        assert 6 < unit.session.scalar(shown) <= 7


@pytest.mark.parametrize("statement", ["UPDATE event SET actor = 'nobody'", "DELETE FROM event", "TRUNCATE event"])
def test_the_log_can_only_be_added_to(database: Database, service_database: ServiceDatabase, statement: str) -> None:
    things.write(database, ("key", "thing", 1))
    with psycopg.connect(service_database.url) as connection:
        connection.execute("SELECT set_config('svyaz.branches', '*', true)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


def test_a_read_is_answered_although_every_idle_session_has_died(database: Database) -> None:
    with acting(things.SERVICE, "test"):
        for _ in range(3):
            assert database.rows("SELECT 1 WHERE 'id' = ANY (WANTED)", ["id"]) == [(1,)]
            things.cut_connections(database)


def test_what_a_service_does_by_itself_goes_by_the_indexes_even_where_the_plan_was_made_for_an_empty_table(
    database: Database,
) -> None:
    settings = sa.text("SELECT current_setting('plan_cache_mode'), current_setting('enable_seqscan')")
    look = "SELECT 1 FROM inbox, unnest({}::text[]) AS wanted WHERE handler = 'test' AND aggregate_id = wanted"
    with acting(things.SERVICE, "test"), database.unit() as unit:
        assert unit.session.execute(settings).one() == ("force_generic_plan", "off")
        with unit.cursor() as cursor:
            cursor.execute(f"PREPARE look (text[]) AS {look.format('$1')}")
            plan = str(cursor.execute("EXPLAIN EXECUTE look (ARRAY['a', 'b'])").fetchall())
            cursor.execute("DEALLOCATE look")
        assert "inbox_pkey" in plan
        assert "Seq Scan" not in plan
    call = Call(Principal("somebody", frozenset({"service"}), ("*",)), "Read", time.monotonic() + 7)
    with using(call), database.unit() as unit:
        assert unit.session.execute(settings).one() == ("auto", "on")
    with database.background.connect() as connection:
        assert connection.execute(settings).one() == ("auto", "on")


def test_ids_of_any_letters_find_what_is_called_so_and_nothing_else(database: Database) -> None:
    ids = ["", "a", 'a"b', "a,b", "{a}", "a\\b", "NULL", " a ", "ә 'x'", "a\nb"]
    names = "unnest(ARRAY['', 'a', 'a\"b', 'a,b', '{a}', E'a\\\\b', 'NULL', ' a ', 'ә ''x''', E'a\\nb', 'b', '\"a\"'])"
    query = f"SELECT name FROM {names} AS name WHERE name = ANY (WANTED)"  # noqa: S608 (constants)
    with acting(things.SERVICE, "test"):
        assert [name for (name,) in database.rows(query, ids)] == ids
        assert database.rows(query, []) == []
        for one in ids:
            assert database.rows(query, [one]) == [(one,)]
        with pytest.raises(InvalidArgument, match="NUL"):
            database.rows(query, ["a\0b"])


def test_a_lock_that_is_held_for_too_long_is_no_outage(database: Database, service_database: ServiceDatabase) -> None:
    def wait(way: str) -> None:
        with acting(things.SERVICE, "test"), database.unit() as unit:
            unit.begin("SELECT set_config('lock_timeout', '50ms', true)", {})
            if way == "mapper":
                unit.session.execute(sa.text("LOCK TABLE seen IN SHARE MODE"))
            else:
                unit.cursor().execute("LOCK TABLE seen IN SHARE MODE")

    with psycopg.connect(service_database.owner_url) as other:
        other.execute("LOCK TABLE seen IN ACCESS EXCLUSIVE MODE")
        for way in ("mapper", "driver"):
            with pytest.raises(Aborted, match="too long") as refused:
                wait(way)
            assert refused.value.reason == "LOCKED"


@pytest.mark.parametrize("state", ["08006", "53300", "57P01", "57P03", "58030", "25006", "25P03"])
def test_what_a_server_can_not_do_now_is_an_outage(database: Database, state: str) -> None:
    with pytest.raises(Unavailable), acting(things.SERVICE, "test"), database.unit() as unit:
        unit.cursor().execute(f"DO $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{state}'; END $$")


def test_a_mistake_of_ours_is_no_outage(database: Database) -> None:
    for statement in ("SELECT %(missing)s", "SELECT missing", "DO $$ BEGIN RAISE USING ERRCODE = '55000'; END $$"):
        with pytest.raises(psycopg.Error), acting(things.SERVICE, "test"), database.unit() as unit:
            unit.cursor().execute(statement, {})


def test_a_unit_whose_beginning_fails_does_nothing_outside_a_transaction(
    database: Database, service_database: ServiceDatabase
) -> None:
    def write(question: str) -> None:
        with acting(things.SERVICE, "test"), database.unit() as unit:
            with pytest.raises((psycopg.Error, InvalidArgument)):
                unit.begin(question, {"id": "nul \0"})
            unit.cursor().execute(_NOTE, {"key": "one"})
            raise ZeroDivisionError

    for question in ("SELECT 1 / 0", "SELECT %(id)s", "SELECT %(missing)s"):
        with pytest.raises(ZeroDivisionError):
            write(question)
    with psycopg.connect(service_database.owner_url) as other:
        assert other.execute("SELECT count(*) FROM seen").fetchone() == (0,)


def test_a_unit_is_undone_only_as_a_whole(database: Database) -> None:
    with acting(things.SERVICE, "test"), database.unit() as unit, pytest.raises(RuntimeError):
        unit.session.rollback()


class _Fault(Exception):
    """Something that goes wrong."""


@pytest.mark.parametrize("way", ["unit", "at once"])
@pytest.mark.parametrize("fault", ["ours", "a value", "the server"])
def test_what_is_sent_without_looking_is_all_or_nothing(
    database: Database, service_database: ServiceDatabase, way: str, fault: str
) -> None:
    def write() -> None:
        with acting(things.SERVICE, "test"):
            if way == "unit":
                with database.unit() as unit:
                    unit.later(_NOTE, {"key": "one"})
                    unit.later("SELECT 1 / %(zero)s::int", {"zero": _FAULTS[fault]})
                return
            with database.at_once() as connection:
                connection.execute(_NOTE, {"key": "one"})
                if fault == "ours":
                    raise _Fault
                connection.execute("SELECT 1 / %(zero)s::int", {"zero": _FAULTS[fault]})

    for _ in range(3):
        with pytest.raises((_Fault, psycopg.Error, InvalidArgument)):
            write()
    with psycopg.connect(service_database.owner_url) as other:
        assert other.execute("SELECT count(*) FROM seen").fetchone() == (0,)


# What the driver has no form for; what no text can hold; what the server refuses.
_FAULTS: dict[str, Any] = {"ours": _Fault(), "a value": "\0", "the server": 0}


def test_a_connection_outlives_what_the_server_refuses(database: Database) -> None:
    def session() -> int:
        with database.background.connect() as connection:
            driver: Any = connection.connection.driver_connection
            number: int = driver.info.backend_pid
            return number

    def write() -> None:
        with acting(things.SERVICE, "test"), database.at_once() as connection:
            connection.execute("SELECT 1 / 0")

    before = session()
    with pytest.raises(InvalidArgument):
        write()
    assert session() == before


def test_what_is_refused_leaves_no_statement_that_the_driver_alone_takes_for_prepared(database: Database) -> None:
    """The server skips what follows in the pipeline; a third execution is the one that prepares."""

    def write(divisor: int) -> None:
        with acting(things.SERVICE, "test"), database.at_once() as connection:
            connection.execute("SELECT 1 / %s::int", [divisor])
            connection.execute("SELECT 'the statement behind it'")

    write(1)
    write(1)
    with pytest.raises(InvalidArgument):
        write(0)
    for _ in range(4):
        write(1)


def test_what_no_database_could_keep_is_the_callers_mistake(database: Database) -> None:
    too_much = "SELECT to_tsvector('simple', string_agg(md5(n::text), ' ')) FROM generate_series(1, 60000) AS n"
    # Nobody is asked to try again what would never do.
    with pytest.raises(InvalidArgument), acting(things.SERVICE, "test"), database.unit() as unit:
        unit.cursor().execute(too_much)


@pytest.mark.parametrize("looked", [False, True], ids=["one round trip", "after a look"])
def test_a_write_that_meets_other_rows_than_it_has_to_takes_its_transaction_with_it(
    database: Database, looked: bool
) -> None:
    def write(wanted: int, expected: int) -> None:
        with acting(things.SERVICE, "test"), database.unit() as unit:
            if looked:
                unit.session.execute(sa.text("SELECT 1"))
            unit.later(_NOTE, {"key": f"before {expected}"})
            unit.later_meeting(expected, _NOTES, {"key": "several", "wanted": wanted})
            unit.later(_NOTE, {"key": f"after {expected}"})

    write(2, expected=2)
    for expected in (0, 1, 3):
        with pytest.raises(Aborted, match="somebody else"):
            write(2, expected)
    write(0, expected=0)
    with acting(things.SERVICE, "test"), database.unit() as unit:
        seen = unit.session.scalars(sa.text("SELECT key FROM seen ORDER BY number")).all()
    assert seen == ["before 2", "several", "several", "after 2", "before 0", "after 0"]


_NOTE = "INSERT INTO seen (handler, key, aggregate_id, version) VALUES ('test', %(key)s, 'one', 1)"
_NOTES = """
    INSERT INTO seen (handler, key, aggregate_id, version)
    SELECT 'test', %(key)s, 'several', n FROM generate_series(1, %(wanted)s::int) AS n RETURNING 1
"""


def test_what_is_written_is_committed_in_the_same_round_trip(
    database: Database, service_database: ServiceDatabase
) -> None:
    seen: list[Any] = []
    with acting(things.SERVICE, "test"), database.unit() as unit:
        unit.session.execute(sa.text("SELECT 1"))
        connection = unit.connection()
        unit.later(_NOTE, {"key": "one"})
        # Whoever looks while the mapper's session is told of the commit finds that it has happened.
        unit.session.commit = _looking(unit.session.commit, service_database, seen)  # type: ignore[method-assign]
    assert seen == [(1,)]
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_commit_behind_more_than_the_wire_holds_ends(database: Database) -> None:
    # What the driver can't send at once it keeps, and has to go on sending while it waits for the answer.
    for megabytes in range(1, 9):
        with acting(things.SERVICE, "test"), database.unit() as unit:
            unit.session.execute(sa.text("SELECT 1"))
            unit.later("SELECT length(%(filling)s)", {"filling": "x" * megabytes * 1_000_000})
            unit.later(_NOTE, {"key": "one"})
    with acting(things.SERVICE, "test"), database.unit() as unit:
        assert unit.session.scalar(sa.text("SELECT count(*) FROM seen")) == 8


def _looking(commit: Callable[[], None], service_database: ServiceDatabase, seen: list[Any]) -> Callable[[], None]:
    def look() -> None:
        with psycopg.connect(service_database.owner_url) as other:
            seen.extend(other.execute("SELECT count(*) FROM seen").fetchall())
        commit()

    return look
