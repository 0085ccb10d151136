"""Aggregates in PostgreSQL: one row each, isolated by branch, every change an event in the same transaction."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from google.protobuf.message import Message
from opentelemetry.propagate import inject
from psycopg.errors import ExclusionViolation, ForeignKeyViolation, UniqueViolation
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, make_transient, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.util import identity_key

from chassis import calls, convert
from chassis.clock import Clock
from chassis.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from chassis.reading import INVALID_VALUE, NETWORK, Note, Reader, refused
from chassis.schema import (
    NOT_MET,
    met,
)
from chassis.schema import (
    PARTITIONS as PARTITIONS,
)
from chassis.schema import (
    Alias as Alias,
)
from chassis.schema import (
    EnumText as EnumText,
)
from chassis.schema import (
    LogTables as LogTables,
)
from chassis.schema import (
    Resource as Resource,
)
from chassis.schema import (
    TypedJson as TypedJson,
)
from chassis.schema import (
    Way as Way,
)
from chassis.schema import (
    Xid8 as Xid8,
)
from chassis.schema import (
    aggregate_table as aggregate_table,
)
from chassis.schema import (
    column_type as column_type,
)
from chassis.schema import (
    insertion as insertion,
)
from chassis.schema import (
    isolate as isolate,
)
from chassis.schema import (
    log_tables as log_tables,
)
from chassis.schema import (
    map_aggregate as map_aggregate,
)
from chassis.schema import (
    partition_events as partition_events,
)
from chassis.schema import (
    partition_of as partition_of,
)
from chassis.types import COMMON, Aggregate, new_id

A = TypeVar("A", bound=Aggregate)
M = TypeVar("M", bound=Message)

MAX_EVENT_BYTES = 256 * 1024
IDEMPOTENCY_DAYS = 7
# What nobody waits for ends too: a statement that hangs would hold its connection and its locks for ever.
BACKGROUND_STATEMENT_SECONDS = 60
_ATTEMPTS = 4
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_SERIALIZATION_FAILURE, _DEADLOCK, _QUERY_CANCELED, _POLICY = "40001", "40P01", "57014", "42501"
# The class of what is more than PostgreSQL can keep: no database that could be reached would take it.
_LIMIT = "54"


# --- the unit of work ------------------------------------------------------------------------------------------------


class Unit:
    """One transaction of one caller: what it loads is what the caller may see, what it changes is logged.

    It begins with the first look at the database. One that has looked at nothing until its end, as the creation of
    something new, is a single round trip.
    """

    def __init__(self, database: "Database", call: calls.Call, at: datetime) -> None:
        self.call = call
        # The instant of everything that happens in this transaction.
        self.at = at
        self.database = database
        # What has been looked up in this transaction and needn't be again.
        self.known: dict[object, Any] = {}
        self._engine = database.background if call.unattended else database.engine
        self._session: Session | None = None
        self._driver: psycopg.Connection[tuple[Any, ...]] | None = None
        self._new: list[Aggregate] = []
        self._deleted: list[Aggregate] = []
        self._announced: dict[int, str] = {}
        self._after_commit: list[Callable[[], None]] = []
        self._later: list[_Writes] = []

    @property
    def session(self) -> Session:
        """The transaction as the mapper's session."""
        return self._begun()[0] if self._session is None else self._session

    def _begun(
        self, *questions: "_Question"
    ) -> "tuple[Session, psycopg.Connection[tuple[Any, ...]], Sequence[Sequence[tuple[Any, ...]]]]":
        self._session = session = Session(self._engine, autoflush=False, expire_on_commit=False)
        driver = session.connection().connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        self._driver = driver
        # BEGIN, the settings and the first questions in one round trip.
        with driver.cursor() as cursor, driver.pipeline():
            cursor.execute(_BY_ITSELF if self.call.unattended else _ENTER, enter_parameters(self.call))
            answers = _answers(driver, questions)
        return session, driver, answers

    def begin(self, statement: str, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The first row of a statement; in a transaction that hasn't begun, within the round trip that begins it."""
        (rows,) = self.begin_all((statement, parameters))
        return rows[0] if rows else None

    def begin_all(self, *questions: "_Question") -> "Sequence[Sequence[tuple[Any, ...]]]":
        """The rows of each statement, asked one after the other in one round trip; each sees what is committed when it
        is its turn. In a transaction that hasn't begun, within the round trip that begins it."""
        if self._driver is None:
            return self._begun(*questions)[2]
        return _answers(self._driver, questions)

    def find(self, cls: type[A], id: str) -> A | None:
        """The aggregate, or None when there is none that the caller may see."""
        known = self._loaded(cls, id)
        if known is not None:
            return known
        return next(iter(self.load(cls, "id = %(id)s", {"id": id})), None)

    def load(
        self, cls: type[A], condition: str, parameters: Mapping[str, Any], *, prepare: bool | None = None
    ) -> list[A]:
        """The aggregates of a condition (SQL, with psycopg's placeholders; it may end in an ORDER BY); one that this
        unit has loaded before is as the unit has left it. `prepare` as psycopg's."""
        way = self.database.ways[cls]
        with self.cursor() as cursor:
            rows = cursor.execute(way.selection(condition), parameters, prepare=prepare).fetchall()
        return [self._known(cls, way.aggregate(row)) for row in rows]

    def _loaded(self, cls: type[A], id: str) -> A | None:
        return self.session.identity_map.get(identity_key(cls, id))

    def _known(self, cls: type[A], found: Any) -> A:
        known = self._loaded(cls, found.id)
        if known is not None:
            return known
        self._remember(found)
        aggregate: A = found
        return aggregate

    def _remember(self, aggregate: Aggregate) -> None:
        """What has the state of its row is known to the session, without asking the database."""
        make_transient_to_detached(aggregate)
        self.session.add(aggregate)

    def get(self, cls: type[A], id: str, etag: str = "") -> A:
        """The aggregate; raises NotFound, or Aborted STALE_ETAG when it has moved on from `etag`."""
        found = self.find(cls, id)
        if found is None:
            raise missing(cls, id)
        if etag and etag != str(found.revision):
            raise Aborted("STALE_ETAG", f"{cls.__name__} {id} has changed since etag {etag}: it is at {found.revision}")
        return found

    def add(self, aggregate: Aggregate) -> None:
        """Saves a new aggregate. Raises PermissionDenied when its branch isn't the caller's."""
        self._begin_life(aggregate)
        self._new.append(aggregate)

    def add_unless_there(self, aggregate: Aggregate) -> bool:
        """Saves a new aggregate at once, unless another has one of its unique keys; whether it was saved.

        Waits for the end of a transaction that is saving such another one. Raises PermissionDenied as `add` does.
        """
        self._begin_life(aggregate)
        statement, (values,) = self.database.insertion(aggregate)
        assert isinstance(statement, bytes)
        with self.connection().cursor() as cursor:
            if not cursor.execute(statement + b" ON CONFLICT DO NOTHING", values).rowcount:
                return False
            _execute(cursor, self._log([(aggregate, "Create")]))
        self._wake_after()
        self._remember(aggregate)
        return True

    def _begin_life(self, aggregate: Aggregate) -> None:
        if not self.database.resources[type(aggregate)].common and not self.call.principal.may_see(aggregate.branch):
            raise PermissionDenied("BRANCH_FORBIDDEN", f"the branch {aggregate.branch!r} isn't yours")
        aggregate.revision = 1

    def adds(self, aggregate: Aggregate) -> bool:
        """Whether the aggregate is new and not yet written."""
        return any(new is aggregate for new in self._new)

    def delete(self, aggregate: Aggregate) -> None:
        """Deletes the aggregate; its history stays."""
        self._deleted.append(aggregate)

    def connection(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """The driver's own connection, inside this transaction."""
        if self._driver is None:
            return self._begun()[1]
        return self._driver

    def cursor(self) -> "psycopg.Cursor[tuple[Any, ...]]":
        """A cursor of the driver, for hot statements and for those that mustn't be prepared. Answers come in binary,
        which halves what a row with a payload costs."""
        return self.connection().cursor(binary=True)

    @contextmanager
    def on_behalf(self, call: calls.Call) -> Iterator[None]:
        """What is changed in the block is logged as this caller's, who may see the same branches as the unit's own."""
        before, self.call = self.call, call
        yield
        if self._new or self._deleted or self._changed():
            self.flush()
        self.call = before

    def announce(self, aggregate: Aggregate, what: str) -> None:
        """Names the event of the change: `InformationRequired` ⇒ ProductOrderInformationRequiredEvent."""
        self._announced[id(aggregate)] = what

    def after_commit(self, action: Callable[[], None]) -> None:
        """Runs the action when the transaction has been committed, as often as it is given."""
        self._after_commit.append(action)

    def later(self, statement: str, *rows: Mapping[str, Any]) -> None:
        """Runs a statement (psycopg's placeholders, `%(name)s`) with the next flush, in one round trip with its others.

        For writes whose outcome nobody looks at; they run in the order in which they were given, after the aggregates.
        """
        self._later.append((statement, rows))

    def later_meeting(self, rows: int, statement: str, parameters: Mapping[str, Any]) -> None:
        """The same for a statement that ends in `RETURNING 1` and has to meet so many rows. Where it meets others,
        somebody else was faster, and nothing of this transaction counts."""
        self._later.append((met(statement, "CAST(count(*) = %(met)s AS int)"), ({**parameters, "met": rows},)))

    def flush(self) -> None:
        """Writes everything changed so far, with its events; commit does it by itself."""
        self._flush(ending=False)

    def _flush(self, *, ending: bool) -> None:
        """`ending`: the transaction is committed in the same round trip."""
        changed, deleted, created = self._changed(), self._deleted, self._new
        self._deleted = []
        ways = self.database.ways
        guarded: list[_Writes] = [ways[type(aggregate)].update(aggregate, names) for aggregate, names in changed]
        guarded += [ways[type(aggregate)].delete(aggregate) for aggregate in deleted]
        log = [(aggregate, _kind_of_change(aggregate, names)) for aggregate, names in changed]
        log += [(aggregate, "Delete") for aggregate in deleted]
        for aggregate, _ in log:
            set_committed_value(aggregate, "revision", aggregate.revision + 1)
        writes = self._writes(log)
        if not writes:
            return
        connection = self.connection()
        with connection.pipeline(), connection.cursor() as cursor:
            _execute(cursor, (*guarded, *writes))
            if ending:
                # As a statement: the driver's own commit waits for the answer even where a part of what is to be sent
                # still lies in its buffer, so after many rows for ever.
                cursor.execute(b"COMMIT", prepare=False)
        if ending:
            # Nothing is left to be compared: what happens now must neither fail nor make the caller wait.
            self.session.expunge_all()
            return
        for aggregate, _ in log:
            self.session.expunge(aggregate)
            make_transient(aggregate)
        for aggregate in (*created, *(aggregate for aggregate, _ in changed)):
            self._remember(aggregate)

    def commit(self) -> None:
        """Writes what is left to be written, and ends the transaction."""
        if self._session is not None:
            self._flush(ending=True)
            # Nothing is sent any more where that has committed.
            self._session.commit()
        elif writes := self._writes([]):
            with _at_once(self._engine) as connection, connection.cursor() as cursor:
                cursor.execute(_ENTER, enter_parameters(self.call))
                _execute(cursor, writes)

    def close(self) -> None:
        """Gives the connection back; what hasn't been committed is undone. One that is lost has nothing to undo: to try
        would hide why it was lost."""
        if self._session is not None and self._driver is not None and self._driver.closed:
            self._session.invalidate()
        elif self._session is not None:
            self._session.close()

    def _changed(self) -> list[tuple[Aggregate, Sequence[str]]]:
        """Those that the database knows in another state, with the attributes that differ."""
        if self._session is None:
            return []
        gone = set(map(id, self._deleted))
        dirty: Iterable[Aggregate] = (one for one in self._session.dirty if id(one) not in gone)
        different = [(aggregate, names) for aggregate in dirty if (names := _differing(aggregate))]
        # In one order everywhere, so that two who change the same wait for each other instead of deadlocking.
        return sorted(different, key=lambda change: (type(change[0]).__name__, change[0].id))

    def _writes(self, changed: "Sequence[_Change]") -> "Sequence[_Writes]":
        """The new aggregates, the log of these and of those that have changed, and what was given for later."""
        created, self._new = self._new, []
        later, self._later = self._later, []
        # Past the mapper, which needs several times as long for what is known to be new.
        writes = [self.database.insertion(aggregate) for aggregate in created]
        if created or changed:
            writes += self._log([*((aggregate, "Create") for aggregate in created), *changed])
            self._wake_after()
        self._announced.clear()
        return [*writes, *later]

    def _log(self, changed: "Iterable[_Change]") -> "Sequence[_Writes]":
        principal = self.call.principal
        carrier: dict[str, str] = {}
        inject(carrier)
        rows: list[dict[str, Any]] = []
        for aggregate, kind in changed:
            resource = self.database.resources[type(aggregate)]
            message = convert.to_message(aggregate, resource.message)
            if resource.spare is not None and message.ByteSize() > MAX_EVENT_BYTES:
                message.ClearField(resource.spare)
            rows.append(
                event_row(
                    aggregate,
                    type=f"{type(aggregate).__name__}{self._announced.get(id(aggregate), kind)}Event",
                    version=aggregate.revision,
                    data=message.SerializeToString(),
                    data_type=message.DESCRIPTOR.full_name,
                    time=self.at,
                    actor=principal.subject,
                    on_behalf_of=principal.on_behalf_of,
                    traceparent=carrier.get("traceparent"),
                )
            )
        return [(_INSERT_EVENT, rows), (_INSERT_OUTBOX, rows)]

    def _wake_after(self) -> None:
        if self.database.wake not in self._after_commit:
            self.after_commit(self.database.wake)

    def committed(self) -> None:
        for action in self._after_commit:
            action()


# What has happened to an aggregate, as the name of its event says it.
_Change = tuple[Aggregate, str]
# A statement of the driver, and its parameters.
_Question = tuple[str, Mapping[str, Any]]
# A statement of the driver, and the parameters of each of its executions.
_Writes = tuple[str | bytes, Sequence[Mapping[str, Any] | Sequence[Any]]]


def _answers(
    connection: "psycopg.Connection[tuple[Any, ...]]", questions: Sequence[_Question]
) -> Sequence[Sequence[tuple[Any, ...]]]:
    cursors = [connection.cursor(binary=True) for _ in questions]
    with connection.pipeline():
        for cursor, (statement, parameters) in zip(cursors, questions, strict=True):
            cursor.execute(statement, parameters)
    return [cursor.fetchall() for cursor in cursors]


def _execute(cursor: "psycopg.Cursor[tuple[Any, ...]]", writes: Iterable[_Writes]) -> None:
    for statement, executions in writes:
        for parameters in executions:
            cursor.execute(statement, parameters)


_INSERT_EVENT = """
    INSERT INTO event (
        id, time, type, aggregate_type, aggregate_id, version, branch, actor, on_behalf_of, schema_revision, data_type,
        data, ordering_key, partition, traceparent
    ) VALUES (
        %(id)s, %(time)s, %(type)s, %(aggregate_type)s, %(aggregate_id)s, %(version)s, %(branch)s, %(actor)s,
        %(on_behalf_of)s, %(schema_revision)s, %(data_type)s, %(data)s, %(ordering_key)s, %(partition)s, %(traceparent)s
    )
"""
_INSERT_OUTBOX = "INSERT INTO outbox (event_id, event_time, ordering_key) VALUES (%(id)s, %(time)s, %(ordering_key)s)"
_RECALL = """
    SELECT body_hash, response FROM idempotency
    WHERE principal = %(principal)s AND method = %(method)s AND key = %(key)s
"""
_INSERT_IDEMPOTENCY = """
    INSERT INTO idempotency (principal, method, key, body_hash, response, created_at)
    VALUES (%(principal)s, %(method)s, %(key)s, %(body_hash)s, %(response)s, %(created_at)s)
"""


def event_row(
    aggregate: Aggregate,
    *,
    type: str,
    version: int,
    data: bytes,
    data_type: str,
    time: datetime,
    actor: str,
    on_behalf_of: str | None,
    traceparent: str | None,
) -> dict[str, Any]:
    """A row of the event log. Raises FailedPrecondition EVENT_TOO_LARGE beyond 256 kB."""
    name = aggregate.__class__.__name__
    if len(data) > MAX_EVENT_BYTES:
        raise FailedPrecondition(
            "EVENT_TOO_LARGE", f"{name} {aggregate.id} would make an event of {len(data)} bytes; {MAX_EVENT_BYTES} fit"
        )
    key = aggregate.ordering_key
    return {
        "id": new_id(),
        "time": time,
        "type": type,
        "aggregate_type": name,
        "aggregate_id": aggregate.id,
        "version": version,
        "branch": aggregate.branch,
        "actor": actor,
        "on_behalf_of": on_behalf_of,
        "schema_revision": 1,
        "data_type": data_type,
        "data": data,
        "ordering_key": key,
        "partition": partition_of(key),
        "traceparent": traceparent,
    }


def missing(cls: type[Aggregate], id: str) -> NotFound:
    """The error for a thing that isn't there (or not for this caller, which must look the same)."""
    return NotFound("NOT_FOUND", f"there is no {cls.__name__} {id!r}", metadata={"resource": cls.__name__, "id": id})


def _differing(aggregate: Aggregate) -> Sequence[str]:
    """The attributes that aren't as they were loaded, in the order of the class."""
    before, now = sa.inspect(aggregate).committed_state, aggregate.__dict__
    different = {name for name, value in before.items() if now.get(name) != value}
    return [name for name in convert.attribute_types(type(aggregate)) if name in different] if different else []


def _kind_of_change(aggregate: Aggregate, changed: Collection[str]) -> str:
    return "StateChange" if type(aggregate).STATE in changed else "AttributeValueChange"


@contextmanager
def _at_once(engine: sa.Engine) -> "Iterator[psycopg.Connection[tuple[Any, ...]]]":
    """A connection whose statements are sent together at the end of the block, as one transaction."""
    fairy = engine.raw_connection()
    connection = fairy.driver_connection
    assert isinstance(connection, psycopg.Connection)
    try:
        # Without BEGIN and COMMIT, what is between two synchronisations of a pipeline is one transaction:
        # https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING
        connection.autocommit = True
        with connection.pipeline():
            yield connection
        connection.autocommit = False
    except BaseException:
        # Whatever state it is in.
        fairy.invalidate()
        raise
    finally:
        fairy.close()


class _Conflict(Exception):
    """Another transaction changed the same thing; this one may be tried again from its beginning."""


class Database:
    """A service's database, entered as its own role, which owns nothing and can't bypass the policies.

    It is reached by up to `connections` at a time for the units of callers, as many for single rows (`read`, `rows`),
    and as many for what the service does by itself. `notes` says whose reading of single rows is noted, and how.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        metadata: sa.MetaData,
        resources: Mapping[type[Aggregate], Resource],
        connections: int = 16,
        notes: Mapping[type[Aggregate], Note] = MappingProxyType({}),
    ) -> None:
        self.clock = clock
        self.resources = resources
        self.metadata = metadata
        self.log = log_tables(metadata)
        # The mapper does so with its first query; what is loaded past it may come before that.
        sa.orm.configure_mappers()
        self.ways = {cls: Way(cls, resource.table) for cls, resource in resources.items()}
        self._insertions = {cls: insertion(cls, resource.table) for cls, resource in resources.items()}
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        self._reader = Reader(url, resources, connections, notes)
        # A rollback makes the driver forget what it has prepared on the connection, and everything is planned anew. So
        # what only reads is committed too: `begin()`, not `connect()`.
        self.engine = _engine(url, connections)
        # What the service does by itself: callers who hold all connections can't keep it from its leases.
        self.background = _engine(url, connections)

    def subscribe(self, listener: Callable[[], None], topic: str = "events") -> None:
        """Calls the listener after every commit that wrote events (from the committing thread: be quick)."""
        self._listeners.setdefault(topic, []).append(listener)

    def wake(self, topic: str = "events") -> None:
        """Tells the topic's subscribed listeners that there is something to do."""
        for listener in self._listeners.get(topic, ()):
            listener()

    def insertion(self, aggregate: Aggregate) -> _Writes:
        """What inserts the aggregate."""
        statement, values = self._insertions[type(aggregate)]
        return statement, [values(aggregate)]

    def close(self) -> None:
        """Closes the idle connections."""
        self.engine.dispose()
        self.background.dispose()
        self._reader.close()

    def ready(self) -> bool:
        """Whether the database answers; False also when no connection becomes free in time."""
        try:
            # Not one of the callers' connections: being busy isn't being gone.
            with self.background.begin() as connection:
                connection.execute(_PROBE_TIMEOUT)
                connection.execute(sa.text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        """One transaction as the current caller; committed at the end of the block, rolled back by an exception.

        Raises Aborted CONFLICT when another transaction was faster, InvalidArgument INVALID_VALUE for a value that no
        column can hold, DeadlineExceeded, Unavailable.
        """
        try:
            with self._unit() as unit:
                yield unit
        except _Conflict as error:
            raise Aborted("CONFLICT", "somebody else changed the same thing at the same time") from error
        unit.committed()

    @contextmanager
    def _unit(self) -> Iterator[Unit]:
        unit = Unit(self, calls.current(), self.clock.now())
        try:
            with _translating():
                yield unit
                unit.commit()
        finally:
            unit.close()

    @contextmanager
    def at_once(self) -> "Iterator[psycopg.Connection[tuple[Any, ...]]]":
        """A connection whose statements are sent together at the end of the block, as one transaction of the current
        caller in one round trip: for what is known without looking. Cursors have their answers after the block.

        Raises what `unit` does.
        """
        call = calls.current()
        try:
            with _translating(), _at_once(self.background if call.unattended else self.engine) as connection:
                connection.execute(_BY_ITSELF if call.unattended else _ENTER, enter_parameters(call))
                yield connection
        except _Conflict as error:
            raise Aborted("CONFLICT", "somebody else changed the same thing at the same time") from error

    def transact(self, request: Message, response: type[M], work: Callable[[Unit], M]) -> M:
        """Runs a mutation once per `request.request_id` (always, when that is empty) and remembers its response.

        Repeated after a conflict with another writer: an etag that has become stale is then found by the work itself.
        Raises InvalidArgument IDEMPOTENCY_KEY_REUSED when the id came before with another request.
        """
        key: str = getattr(request, "request_id", "")
        for attempt in range(_ATTEMPTS):
            try:
                with self._unit() as unit:
                    if key and (response_before := self._recall(unit, request, response)) is not None:
                        return response_before
                    result = work(unit)
                    if key:
                        unit.later(
                            _INSERT_IDEMPOTENCY,
                            {
                                "principal": _scope(unit.call),
                                "method": unit.call.method,
                                "key": key,
                                "body_hash": _body_hash(request),
                                "response": result.SerializeToString(),
                                "created_at": unit.at,
                            },
                        )
            except _Conflict:
                # Also the loser of two first uses of one key: it finds the winner's response.
                if attempt == _ATTEMPTS - 1:
                    raise Aborted("CONFLICT", "somebody else keeps changing the same thing") from None
            else:
                unit.committed()
                return result
        raise AssertionError("unreachable")

    def remembered(self, request: Message, response: type[M]) -> M | None:
        """The response that this request id got before, for work that begins by asking other services.

        Raises InvalidArgument IDEMPOTENCY_KEY_REUSED as `transact` does.
        """
        key: str = getattr(request, "request_id", "")
        if not key:
            return None
        with self.unit() as unit:
            return self._recall(unit, request, response)

    def _recall(self, unit: Unit, request: Message, response: type[M]) -> M | None:
        key = getattr(request, "request_id", "")
        names = {"principal": _scope(unit.call), "method": unit.call.method, "key": key}
        # Past the mapper: every mutation that may be sent again asks this first.
        row = unit.begin(_RECALL, names)
        if row is None:
            return None
        body_hash, response_before = row
        if body_hash != _body_hash(request):
            raise InvalidArgument("IDEMPOTENCY_KEY_REUSED", "this request id came before with another request")
        return response.FromString(response_before)

    def read(self, cls: type[Aggregate], id: str) -> Message:
        """The message of one aggregate, by the shortest way; raises NotFound, Unavailable."""
        found = self._reader.read(cls, id, calls.current())
        if found is None:
            raise missing(cls, id)
        return found

    def rows(self, query: str, ids: Sequence[str], note: Note | None = None) -> list[tuple[Any, ...]]:
        """The rows of a SELECT that finds them by `id = ANY (WANTED)`, by the shortest way; JSONB comes as its text.

        `note` keeps note of who reads them, in the same statement: it has a part `found`, and `NOTED` after it.
        """
        return self._reader.rows(query, ids, calls.current(), note)

    def history(self, cls: type[Aggregate], id: str, at: datetime) -> Message:
        """The aggregate's message as it was at the instant; raises NotFound when it wasn't."""
        event = self.log.event
        with self.unit() as unit:
            row = unit.session.execute(
                sa.select(event.c.type, event.c.data)
                .where(event.c.aggregate_id == id, event.c.aggregate_type == cls.__name__, event.c.time <= at)
                .order_by(event.c.version.desc())
                .limit(1)
            ).first()
        if row is None or row.type == f"{cls.__name__}DeleteEvent":
            raise missing(cls, id)
        return self.resources[cls].message.FromString(row.data)

    def histories(self, cls: type[Aggregate], ordering_key: str, at: datetime) -> list[Message]:
        """The messages of all aggregates with the ordering key as they were at the instant, those deleted left out."""
        event = self.log.event
        with self.unit() as unit:
            found = unit.session.execute(
                sa.select(event.c.aggregate_id, event.c.type, event.c.data)
                .distinct(event.c.aggregate_id)
                .where(event.c.ordering_key == ordering_key, event.c.aggregate_type == cls.__name__, event.c.time <= at)
                .order_by(event.c.aggregate_id, event.c.version.desc())
            ).all()
        message = self.resources[cls].message
        return [message.FromString(row.data) for row in found if row.type != f"{cls.__name__}DeleteEvent"]

    def branch_for_create(self, cls: type[Aggregate], named: str) -> str:
        """The branch of something new. Raises InvalidArgument BRANCH_REQUIRED when the caller must name one."""
        if self.resources[cls].common:
            return COMMON
        principal = calls.current().principal
        if named:
            if named == COMMON or "," in named:
                raise InvalidArgument("BRANCH_INVALID", f"{named!r} can't be the name of a branch")
            if not principal.may_see(named):
                raise PermissionDenied("BRANCH_FORBIDDEN", f"the branch {named!r} isn't yours")
            return named
        if len(principal.branches) == 1 and not principal.every_branch:
            return principal.branches[0]
        raise InvalidArgument("BRANCH_REQUIRED", "say which branch it is for: X-Branch, or the field `branch`")


def _engine(url: str, connections: int) -> sa.Engine:
    return sa.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=5,
        # Few connections that are always busy know their statements' plans better than many that take turns.
        pool_use_lifo=True,
        pool_pre_ping=False,
        # TypedJson has its own, typed codec.
        json_serializer=str,
        json_deserializer=bytes,
        connect_args={
            **NETWORK,
            "prepare_threshold": 2,
            # A unit sets the time-out of its own statements.
            "options": f"-c timezone=UTC -c lock_timeout=5000 -c statement_timeout={BACKGROUND_STATEMENT_SECONDS}s",
        },
    )


def _scope(call: calls.Call) -> str:
    """Whose request ids these are: other branches, other principal."""
    return f"{call.principal.subject} {call.principal.branch_setting}"


def _body_hash(request: Message) -> bytes:
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


_PROBE_TIMEOUT = sa.text("SELECT set_config('statement_timeout', '2s', true)")
_ENTER = """
    SELECT set_config('svyaz.branches', %(branches)s, true), set_config('statement_timeout', %(timeout)s, true)
"""
# What a service does by itself looks a few rows up by their keys, always in the same statements. Planning them for each
# execution cost the server more than executing them; planned once, perhaps while the tables were still empty, they
# mustn't read these whole once they are full: so the plan may only go by the indexes.
_BY_ITSELF = f"""
    {_ENTER.rstrip()}, set_config('plan_cache_mode', 'force_generic_plan', true),
        set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
        set_config('enable_mergejoin', 'off', true)
"""


def enter_parameters(call: calls.Call) -> dict[str, str]:
    """What a transaction sets on itself, and only on itself: a pooled session serves another caller next."""
    remaining = call.remaining()
    if remaining is not None and remaining <= 0:
        raise DeadlineExceeded("DEADLINE_EXCEEDED", "the caller's time ran out")
    return {
        "branches": call.principal.branch_setting,
        "timeout": str(max(1, int((BACKGROUND_STATEMENT_SECONDS if remaining is None else remaining) * 1000))),
    }


@contextmanager
def _translating() -> Iterator[None]:
    """Errors of the database as what they mean to a caller."""
    try:
        yield
    except DBAPIError as error:
        raise _translated(error, error.orig, error.connection_invalidated) from error
    except psycopg.Error as error:
        raise _translated(error, error, isinstance(error, psycopg.OperationalError)) from error
    except sa.exc.TimeoutError as error:
        raise Unavailable("DATABASE_BUSY", "no database connection was free in time") from error


_RIVALRY = (UniqueViolation, ForeignKeyViolation, ExclusionViolation, NOT_MET)


def _translated(error: Exception, cause: Any, disconnected: bool) -> Exception:
    state = getattr(cause, "sqlstate", None)
    # A value that is missing or out of bounds is nobody else's doing: it would be the same again.
    if isinstance(cause, _RIVALRY) or state in (_SERIALIZATION_FAILURE, _DEADLOCK):
        return _Conflict()
    if isinstance(cause, psycopg.DataError):
        return refused(cause)
    if state is not None and state.startswith(_LIMIT):
        # An id longer than an index takes, say.
        return InvalidArgument(INVALID_VALUE, "a value is longer than can be kept")
    if state == _QUERY_CANCELED:
        return DeadlineExceeded("DEADLINE_EXCEEDED", "the database needed longer than the caller would wait")
    if state == _POLICY:
        return PermissionDenied("BRANCH_FORBIDDEN", "this would write into a branch that isn't yours")
    if disconnected or state is None or state.startswith(("08", "57", "53")):
        return Unavailable("DATABASE_UNAVAILABLE", "the database can't be reached")
    return error
