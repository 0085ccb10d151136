"""The unit of work: one transaction, in which every change of an aggregate is an event."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import sqlalchemy as sa
from opentelemetry.propagate import inject
from sqlalchemy.orm import Session, make_transient, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.util import identity_key

from chassis import calls, connections, convert
from chassis.connections import Question
from chassis.errors import Aborted, FailedPrecondition, NotFound, PermissionDenied
from chassis.schema import met, partition_of
from chassis.types import Aggregate, new_id

if TYPE_CHECKING:
    from chassis.db import Database

A = TypeVar("A", bound=Aggregate)

MAX_EVENT_BYTES = 256 * 1024
# What has happened to an aggregate, as the name of its event says it.
_Change = tuple[Aggregate, str]
# A statement of the driver, and the parameters of each of its executions.
Writes = tuple[str | bytes, Sequence[Mapping[str, Any] | Sequence[Any]]]


class _OneTransaction(Session):
    """The mapper's session of a unit, which begins its transaction past the mapper, and once."""

    def rollback(self) -> None:
        raise RuntimeError("a unit is undone by an exception: what came after this would be in no transaction")


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
        self._engine = database.for_unit(call)
        self._session: Session | None = None
        self._driver: psycopg.Connection[tuple[Any, ...]] | None = None
        self._new: list[Aggregate] = []
        self._deleted: list[Aggregate] = []
        self._announced: dict[int, str] = {}
        self._after_commit: list[Callable[[], None]] = []
        self._later: list[Writes] = []

    @property
    def session(self) -> Session:
        """The transaction as the mapper's session."""
        return self._begun()[0] if self._session is None else self._session

    def _begun(
        self, *questions: Question
    ) -> "tuple[Session, psycopg.Connection[tuple[Any, ...]], Sequence[Sequence[tuple[Any, ...]]]]":
        entering = connections.entering(self.call)
        session = _OneTransaction(self._engine, autoflush=False, expire_on_commit=False)
        driver = session.connection().connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        try:
            _, _, *answers = connections.ask(driver, ((connections.BEGIN, {}), entering, *questions))
        except BaseException:
            # Nobody finds a connection here on which nothing has begun.
            _end(session, driver)
            raise
        self._session, self._driver = session, driver
        return session, driver, answers

    def begin(self, statement: str, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The first row of a statement; in a transaction that hasn't begun, within the round trip that begins it."""
        (rows,) = self.begin_all((statement, parameters))
        return rows[0] if rows else None

    def begin_all(self, *questions: Question) -> "Sequence[Sequence[tuple[Any, ...]]]":
        """The rows of each statement, asked one after the other in one round trip; each sees what is committed when it
        is its turn. In a transaction that hasn't begun, within the round trip that begins it."""
        if self._driver is None:
            return self._begun(*questions)[2]
        return connections.ask(self._driver, questions)

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
        guarded: list[Writes] = [ways[type(aggregate)].update(aggregate, names) for aggregate, names in changed]
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
            parameters = connections.enter_parameters(self.call)
            with connections.at_once(self._engine) as connection, connection.cursor() as cursor:
                cursor.execute(connections.ENTER, parameters)
                _execute(cursor, writes)

    def close(self) -> None:
        """Gives the connection back; what hasn't been committed is undone."""
        if self._session is not None and self._driver is not None:
            _end(self._session, self._driver)

    def _changed(self) -> list[tuple[Aggregate, Sequence[str]]]:
        """Those that the database knows in another state, with the attributes that differ."""
        if self._session is None:
            return []
        gone = set(map(id, self._deleted))
        dirty: Iterable[Aggregate] = (one for one in self._session.dirty if id(one) not in gone)
        different = [(aggregate, names) for aggregate in dirty if (names := _differing(aggregate))]
        # In one order everywhere, so that two who change the same wait for each other instead of deadlocking.
        return sorted(different, key=lambda change: (type(change[0]).__name__, change[0].id))

    def _writes(self, changed: "Sequence[_Change]") -> "Sequence[Writes]":
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

    def _log(self, changed: "Iterable[_Change]") -> "Sequence[Writes]":
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


def _end(session: Session, driver: "psycopg.Connection[tuple[Any, ...]]") -> None:
    """Gives the connection back. One that is lost has nothing to undo: to try would hide why it was lost."""
    if driver.closed:
        session.invalidate()
    else:
        session.close()


def _execute(cursor: "psycopg.Cursor[tuple[Any, ...]]", writes: Iterable[Writes]) -> None:
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
