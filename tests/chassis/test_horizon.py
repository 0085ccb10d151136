"""The floor over a table: never above a number whose row may still come."""

from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from chassis.db import Database
from chassis.horizon import Floor, horizon
from tests.chassis import things
from tests.conftest import ServiceDatabase

Connection = psycopg.Connection[tuple[int, ...]]
Sessions = list[Connection]


@pytest.fixture
def sessions(service_database: ServiceDatabase) -> Iterator[Sessions]:
    """Connections of as many transactions."""
    opened = [psycopg.connect(service_database.url) for _ in range(2)]
    yield opened
    for connection in opened:
        connection.close()


def begin(connection: Connection) -> int:
    """Begins to write; the number of the transaction."""
    return connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()[0]  # type: ignore[index]


def number(connection: Connection) -> int:
    """Writes a row; its number."""
    row = connection.execute(
        "INSERT INTO outbox (event_id, event_time, ordering_key) VALUES ('e', now(), 'k') RETURNING id"
    ).fetchone()
    return row[0]  # type: ignore[index]


def look(database: Database, floor: Floor) -> None:
    """A look of somebody who deals with whatever he sees."""
    with database.engine.connect() as connection:
        seen = horizon(connection)
    with database.engine.connect() as connection:
        highest = connection.scalar(sa.text("SELECT coalesce(max(id), 0) FROM outbox"))
    floor.looked(highest, seen)


def _stays_below(database: Database, floor: Floor, missing: int, younger: Connection, seen: int) -> None:
    """The floor waits for the number that the younger transaction has drawn, and then rises to what was seen."""
    for _ in range(4):
        look(database, floor)
        assert floor.number < missing
    younger.commit()
    _rises_to(database, floor, seen)


def _rises_to(database: Database, floor: Floor, number: int) -> None:
    """Looks until it has: other tests' transactions, on the same server, hold it up too."""

    def risen() -> bool:
        look(database, floor)
        return floor.number == number

    things.eventually(risen)


def test_a_floor_rises_to_what_was_seen_once_nobody_can_have_less(database: Database, sessions: Sessions) -> None:
    floor = Floor()
    last = number(sessions[0])
    sessions[0].commit()
    _rises_to(database, floor, last)
    assert not floor.may_rise


def test_a_floor_waits_for_the_younger_transaction_with_the_smaller_number(
    database: Database, sessions: Sessions
) -> None:
    elder, younger = sessions[:2]
    assert begin(elder) < begin(younger)
    missing, seen = number(younger), number(elder)
    assert missing < seen
    elder.commit()
    floor = Floor()
    _stays_below(database, floor, missing, younger, seen)


def test_what_a_look_saw_does_not_count_for_the_horizon_before_it(database: Database, sessions: Sessions) -> None:
    elder, younger = sessions[:2]
    floor = Floor()
    with database.engine.connect() as connection:
        before = horizon(connection)
    # After the horizon and before the look.
    missing, seen = number(younger), number(elder)
    elder.commit()
    floor.looked(seen, before)
    _stays_below(database, floor, missing, younger, seen)


def test_a_floor_stays_below_what_is_left(database: Database, sessions: Sessions) -> None:
    first, second = number(sessions[0]), number(sessions[0])
    sessions[0].commit()
    floor = Floor()

    def risen() -> bool:
        with database.engine.connect() as connection:
            floor.looked(second, horizon(connection), left=second)
        assert floor.number < second
        return floor.number == first

    things.eventually(risen)
