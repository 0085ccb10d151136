"""Partitions come before they are needed, and remembered requests go when their time is over."""

from datetime import timedelta

import psycopg
import psycopg.sql
import sqlalchemy as sa

from chassis.db import Database
from chassis.events import acting
from chassis.upkeep import Upkeep
from tests.chassis import things
from tests.conftest import ServiceDatabase


def _partitions(database: ServiceDatabase) -> dict[str, int]:
    """Each partition of the log with its rows."""
    with psycopg.connect(database.owner_url) as connection:
        names = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'event'::regclass"
        )
        return {
            name: connection.execute(
                psycopg.sql.SQL("SELECT count(*) FROM {}").format(psycopg.sql.Identifier(name))
            ).fetchall()[0][0]
            for (name,) in names.fetchall()
        }


def test_events_go_to_the_partition_of_their_month(database: Database, service_database: ServiceDatabase) -> None:
    upkeep = Upkeep(database, things.SERVICE)
    upkeep.once()
    upkeep.once()
    things.write(database, ("account-1", "order-1", 1))
    partitions = _partitions(service_database)
    assert len(partitions) == 3, "this month, the next and the default"
    assert partitions[database.clock.now().strftime("event_%Y_%m")] == 1
    assert partitions["event_default"] == 0


def test_a_month_that_began_in_the_default_partition_stays_there(
    database: Database, service_database: ServiceDatabase
) -> None:
    things.write(database, ("account-1", "order-1", 1))
    Upkeep(database, things.SERVICE).once()
    partitions = _partitions(service_database)
    assert len(partitions) == 2, "the next month and the default"
    assert partitions["event_default"] == 1


def test_requests_are_remembered_for_seven_days(database: Database) -> None:
    now = database.clock.now()
    table = database.log.idempotency
    row = {"principal": "p", "method": "m", "body_hash": b"", "response": b""}
    with acting(things.SERVICE, "test"), database.unit() as unit:
        unit.session.execute(
            sa.insert(table),
            [
                {**row, "key": "young", "created_at": now - timedelta(days=6, hours=23)},
                {**row, "key": "old", "created_at": now - timedelta(days=7, minutes=1)},
            ],
        )
    Upkeep(database, things.SERVICE).once()
    with acting(things.SERVICE, "test"), database.unit() as unit:
        assert unit.session.scalars(sa.select(table.c.key)).all() == ["young"]
