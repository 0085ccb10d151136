"""A service of nothing but a bus: tables, events written by hand, and handlers that write down what they saw."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from chassis.bus import Bus, event_stream
from chassis.clock import Clock
from chassis.cloudevents import ReceivedEvent
from chassis.consumer import Consumer
from chassis.db import Database
from chassis.errors import Unavailable
from chassis.events import acting, bus_tables, isolate_bus
from chassis.migrate import GRANTS
from chassis.outbox import EventOutbox
from chassis.relay import Relay
from chassis.schema import isolate, log_tables, partition_events, partition_of
from chassis.types import new_id
from chassis.unit import Unit
from tests.conftest import ServiceDatabase

SERVICE = "orders"
BRANCH = "bishkek"


def tables() -> sa.MetaData:
    """The chassis's tables, and what the handlers of these tests write."""
    metadata = sa.MetaData()
    log_tables(metadata)
    bus_tables(metadata)
    sa.Table(
        "seen",
        metadata,
        sa.Column("number", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("handler", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("aggregate_id", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    return metadata


def create(database: ServiceDatabase) -> None:
    """Makes the tables as a migration would."""
    engine = sa.create_engine(database.owner_url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        tables().create_all(connection)
        for statement in (*partition_events(), *isolate("event"), *isolate_bus()):
            connection.execute(sa.text(statement))
        connection.execute(sa.text("SELECT set_config('svyaz.grantee', :role, true)"), {"role": SERVICE})
        connection.exec_driver_sql(GRANTS.replace("%", "%%"))
    engine.dispose()


def connect(database: ServiceDatabase) -> Database:
    """The database as the service uses it."""
    return Database(database.url, clock=Clock(), metadata=tables(), resources={}, connections=16)


def bus(urls: "dict[str, str] | str", name: str = "test") -> Bus:
    """A connection as the service has it, with its stream."""
    url = urls if isinstance(urls, str) else urls[SERVICE]
    return Bus(url, name=name, streams=[event_stream(SERVICE)])


def relay(database: Database, connection: Bus, **settings: float) -> Relay:
    """The relay of the service's events."""
    return Relay(
        database,
        connection,
        EventOutbox(database, SERVICE),
        service=SERVICE,
        stream="ORDERS",
        lease_seconds=settings.get("lease_seconds", 2.0),
    )


def write(database: Database, *events: tuple[str, str, int], size: int = 100, branch: str = BRANCH) -> None:
    """Commits events: (key, aggregate id, version) each."""
    with acting(SERVICE, "test"), database.unit() as unit:
        rows = [_row(key, aggregate, version, size, branch) for key, aggregate, version in events]
        unit.session.execute(sa.insert(database.log.event), rows)
        unit.session.execute(
            sa.insert(database.log.outbox),
            [{"event_id": r["id"], "event_time": r["time"], "ordering_key": r["ordering_key"]} for r in rows],
        )
        unit.after_commit(database.wake)


def write_as(unit: Unit, outbox_id: int, key: str, aggregate: str, version: int) -> None:
    """Writes one event whose place in the outbox was drawn earlier."""
    row = _row(key, aggregate, version, 100, BRANCH)
    unit.session.execute(sa.insert(unit.database.log.event), [row])
    unit.session.execute(
        sa.text("INSERT INTO outbox OVERRIDING SYSTEM VALUE VALUES (:number, :id, :time, :ordering_key)"),
        {"number": outbox_id, "id": row["id"], "time": row["time"], "ordering_key": key},
    )


def _row(key: str, aggregate: str, version: int, size: int, branch: str) -> dict[str, Any]:
    return {
        "id": new_id(),
        "time": datetime.now(UTC),
        "type": "ThingCreateEvent" if version == 1 else "ThingStateChangeEvent",
        "aggregate_type": "Thing",
        "aggregate_id": aggregate,
        "version": version,
        "branch": branch,
        "actor": "somebody",
        "on_behalf_of": None,
        "schema_revision": 1,
        "data_type": "svyaz.orders.v1.ProductOrder",
        "data": b"x" * size,
        "ordering_key": key,
        "partition": partition_of(key),
        "traceparent": None,
    }


class Recorder:
    """A handler that writes down what it saw, in its transaction; it can be told to refuse."""

    def __init__(self, database: Database, name: str = "recorder") -> None:
        self.name = name
        self.refusing: dict[tuple[str, int], Exception] = {}
        self.database = database
        self._seen = database.metadata.tables["seen"]

    def __call__(self, event: ReceivedEvent, unit: Unit) -> None:
        """Handles an event."""
        unit.session.execute(
            sa.insert(self._seen).values(
                handler=self.name, key=event.key, aggregate_id=event.aggregate_id, version=event.version
            )
        )
        refusal = self.refusing.get((event.aggregate_id, event.version))
        if refusal is not None:
            raise refusal

    def seen(self) -> list[tuple[str, str, int]]:
        """(key, aggregate id, version) in the order of handling."""
        with self.database.engine.connect() as connection:
            rows = connection.execute(
                sa.select(self._seen.c.key, self._seen.c.aggregate_id, self._seen.c.version)
                .where(self._seen.c.handler == self.name)
                .order_by(self._seen.c.number)
            )
            return [(row.key, row.aggregate_id, row.version) for row in rows]

    def versions(self, aggregate: str) -> list[int]:
        """The versions of one aggregate in the order of handling."""
        return [version for _, found, version in self.seen() if found == aggregate]


def eventually(check: Callable[[], bool], seconds: float = 15.0) -> None:
    """Waits until the check holds; fails when it doesn't."""
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it didn't happen in time"
        time.sleep(0.02)


def cut_connections(database: Database) -> None:
    """As a restart of PostgreSQL does, for the connections of this database."""
    cut = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> :me"
    )
    persistently(lambda: _cut(database, cut))


def _cut(database: Database, statement: sa.TextClause) -> None:
    with database.engine.connect() as connection:
        me = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        connection.execute(statement, {"me": me})


def persistently(work: Callable[[], None]) -> None:
    """Does the work, again as long as the database can't be reached."""
    while True:
        try:
            work()
        except (Unavailable, sa.exc.OperationalError):
            time.sleep(0.02)
        else:
            return


def unsent(database: Database) -> int:
    """How many events wait in the outbox; -1 when the database can't be reached."""
    try:
        with database.engine.connect() as connection:
            return int(connection.execute(sa.text("SELECT count(*) FROM outbox")).scalar_one())
    except sa.exc.OperationalError:
        return -1


@contextmanager
def running(*things: "Relay | Consumer") -> Iterator[None]:
    """Starts the things, and stops them in the opposite order."""
    started = []
    try:
        for thing in things:
            thing.start()
            started.append(thing)
        yield
    finally:
        for thing in reversed(started):
            thing.stop()
