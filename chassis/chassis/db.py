"""A service's database: aggregates, one row each, isolated by branch, with their log and what was answered to whom."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.exc import SQLAlchemyError

from chassis import calls
from chassis.clock import Clock
from chassis.connections import BEGUN, Conflict, at_once, entering, make_engine, translating
from chassis.errors import Aborted, InvalidArgument, PermissionDenied
from chassis.reading import Note, Reader
from chassis.rivalry import Rivalry
from chassis.schema import Resource, Way, insertion, log_tables
from chassis.types import COMMON, Aggregate
from chassis.unit import Unit, Writes, missing

M = TypeVar("M", bound=Message)

IDEMPOTENCY_DAYS = 7
_RECALL = """
    SELECT body_hash, response FROM idempotency
    WHERE principal = %(principal)s AND method = %(method)s AND key = %(key)s
"""
_INSERT_IDEMPOTENCY = """
    INSERT INTO idempotency (principal, method, key, body_hash, response, created_at)
    VALUES (%(principal)s, %(method)s, %(key)s, %(body_hash)s, %(response)s, %(created_at)s)
"""
_PROBE_TIMEOUT = sa.text("SELECT set_config('statement_timeout', '2s', true)")


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
        self.connections = connections
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
        self.engine = make_engine(url, connections)
        # What the service does by itself: callers who hold all connections can't keep it from its leases.
        self.background = make_engine(url, connections)
        # A unit sends its BEGIN along with what it asks first.
        self._for_callers = self.engine.execution_options(**{BEGUN: True})
        self._for_itself = self.background.execution_options(**{BEGUN: True})

    def for_unit(self, call: calls.Call) -> sa.Engine:
        """The connections of the units of this call, which begin their transactions by themselves."""
        return self._for_itself if call.unattended else self._for_callers

    def subscribe(self, listener: Callable[[], None], topic: str = "events") -> None:
        """Calls the listener after every commit that wrote events (from the committing thread: be quick)."""
        self._listeners.setdefault(topic, []).append(listener)

    def wake(self, topic: str = "events") -> None:
        """Tells the topic's subscribed listeners that there is something to do."""
        for listener in self._listeners.get(topic, ()):
            listener()

    def insertion(self, aggregate: Aggregate) -> Writes:
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
        except Conflict as error:
            raise Aborted("CONFLICT", "somebody else changed the same thing at the same time") from error
        unit.committed()

    @contextmanager
    def _unit(self) -> Iterator[Unit]:
        unit = Unit(self, calls.current(), self.clock.now())
        try:
            with translating():
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
        beginning = entering(call)
        try:
            with translating(), at_once(self.for_unit(call)) as connection:
                connection.execute(*beginning)
                yield connection
        except Conflict as error:
            raise Aborted("CONFLICT", "somebody else changed the same thing at the same time") from error

    def transact(self, request: Message, response: type[M], work: Callable[[Unit], M]) -> M:
        """Runs a mutation once per `request.request_id` (always, when that is empty) and remembers its response.

        Repeated after a conflict with another writer, until the caller's time is over: an etag that has become stale is
        then found by the work itself. Raises InvalidArgument IDEMPOTENCY_KEY_REUSED when the id came before with
        another request, Aborted CONFLICT when others were faster to the end.
        """
        key: str = getattr(request, "request_id", "")
        rivalry = Rivalry(calls.current())
        while True:
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
            except Conflict as conflict:
                # Also the loser of two first uses of one key: it finds the winner's response.
                rivalry.lost(conflict)
            else:
                unit.committed()
                return result

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
        raise InvalidArgument(
            "BRANCH_REQUIRED",
            "say which branch it is for: over REST by the header X-Branch, over gRPC by the request's `branch`",
        )


def _scope(call: calls.Call) -> str:
    """Whose request ids these are: other branches, other principal."""
    return f"{call.principal.subject} {call.principal.branch_setting}"


def _body_hash(request: Message) -> bytes:
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
