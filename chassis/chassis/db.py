"""Aggregates in PostgreSQL: one row each, isolated by branch, every change an event in the same transaction."""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from google.protobuf.message import Message
from opentelemetry.propagate import inject
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session, registry
from sqlalchemy.orm.exc import StaleDataError

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
from chassis.types import COMMON, Aggregate, Json, new_id

A = TypeVar("A", bound=Aggregate)
M = TypeVar("M", bound=Message)

PARTITIONS = 64
MAX_EVENT_BYTES = 256 * 1024
IDEMPOTENCY_DAYS = 7
_ATTEMPTS = 4
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_SERIALIZATION_FAILURE, _DEADLOCK, _QUERY_CANCELED, _POLICY = "40001", "40P01", "57014", "42501"


def partition_of(ordering_key: str) -> int:
    """The partition (0 to 63) of an ordering key; fixed for ever, since consumers rely on it."""
    return zlib.crc32(ordering_key.encode()) % PARTITIONS


# --- columns ---------------------------------------------------------------------------------------------------------


def _enc_hook(value: Any) -> Any:
    if isinstance(value, Json):
        return msgspec.Raw(value.text.encode())
    raise NotImplementedError(f"no JSON form for {type(value)}")


def _dec_hook(kind: type, value: Any) -> Any:
    if kind is Json:
        return Json(_ENCODER.encode(value).decode())
    raise NotImplementedError(f"no JSON form for {kind}")


_ENCODER = msgspec.json.Encoder(enc_hook=_enc_hook, decimal_format="number")


class TypedJson(sa.types.TypeDecorator[Any]):
    """JSONB that holds value objects of one dataclass, or a tuple of them; an empty tuple is NULL."""

    impl = postgresql.JSONB(none_as_null=True)
    cache_ok = True

    def __init__(self, kind: type, repeated: bool) -> None:
        super().__init__()
        self.kind = kind
        self.repeated = repeated
        hint: Any = tuple[kind, ...] if repeated else kind  # type: ignore[valid-type]
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(hint, dec_hook=_dec_hook, float_hook=Decimal)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        if value is None or value == ():
            return None
        return _ENCODER.encode(value).decode()

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        if value is None:
            return () if self.repeated else None
        return self._decoder.decode(value)


class EnumText(sa.types.TypeDecorator[Any]):
    """A StrEnum as text, in its TM Forum spelling."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else self.kind(value)


_SCALARS: Mapping[type, sa.types.TypeEngine[Any]] = {
    str: sa.Text(),
    bool: sa.Boolean(),
    int: sa.BigInteger(),
    Decimal: sa.Numeric(),
    datetime: sa.TIMESTAMP(timezone=True),
}


def column_type(kind: type, repeated: bool) -> sa.types.TypeEngine[Any]:
    """The column type for an attribute of a domain class."""
    if not repeated and kind in _SCALARS:
        return _SCALARS[kind]
    if not repeated and issubclass(kind, StrEnum):
        return EnumText(kind)
    return TypedJson(kind, repeated)


def aggregate_table(
    metadata: sa.MetaData,
    name: str,
    cls: type[Aggregate],
    *further: sa.schema.SchemaItem,
) -> sa.Table:
    """The table of an aggregate: a column for each attribute, named and typed after it."""
    columns = [
        sa.Column(
            attribute,
            column_type(kind, repeated),
            primary_key=attribute == "id",
            nullable=attribute not in ("id", "branch", "revision"),
        )
        for attribute, (kind, repeated) in convert.attribute_types(cls).items()
    ]
    return sa.Table(name, metadata, *columns, sa.Index(f"{name}_branch_id", "branch", "id"), *further)


def map_aggregate(mapper: registry, cls: type[Aggregate], table: sa.Table) -> None:
    """Maps the class onto its table; `revision` is checked and counted by every UPDATE."""
    mapper.map_imperatively(
        cls,
        table,
        version_id_col=table.c.revision,
        # Columns that PostgreSQL computes for its indexes are no attributes.
        include_properties=list(convert.attribute_types(cls)),
    )


# --- the log ---------------------------------------------------------------------------------------------------------


class Xid8(sa.types.UserDefinedType[int]):
    """A 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


@dataclass(frozen=True)
class LogTables:
    """The event log, its unsent tail and the remembered requests."""

    event: sa.Table
    outbox: sa.Table
    idempotency: sa.Table


def log_tables(metadata: sa.MetaData) -> LogTables:
    """Defines (once per metadata) the tables that every service with aggregates has."""
    if "event" in metadata.tables:
        return LogTables(metadata.tables["event"], metadata.tables["outbox"], metadata.tables["idempotency"])
    event = sa.Table(
        "event",
        metadata,
        sa.Column("position", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("time", sa.TIMESTAMP(timezone=True), primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("aggregate_type", sa.Text, nullable=False),
        sa.Column("aggregate_id", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("branch", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("on_behalf_of", sa.Text),
        sa.Column("schema_revision", sa.Integer, nullable=False),
        sa.Column("data_type", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("ordering_key", sa.Text, nullable=False),
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("transaction", Xid8(), nullable=False, server_default=sa.text("pg_current_xact_id()")),
        sa.Index("event_aggregate_id_version", "aggregate_id", "version"),
        sa.Index("event_ordering_key", "ordering_key", "aggregate_type"),
        postgresql_partition_by="RANGE (time)",
    )
    outbox = sa.Table(
        "outbox",
        metadata,
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("event_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ordering_key", sa.Text, nullable=False),
    )
    idempotency = sa.Table(
        "idempotency",
        metadata,
        sa.Column("principal", sa.Text, primary_key=True),
        sa.Column("method", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("response", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Index("idempotency_created_at", "created_at"),
    )
    return LogTables(event, outbox, idempotency)


def isolate(table: str) -> Iterator[str]:
    """The statements that put a table with a `branch` column under row-level security.

    Used by migrations. The setting is read once per statement (an InitPlan), so a policy costs no function call a row.
    """
    setting = "(SELECT current_setting('svyaz.branches', true))"
    seen = f"branch = ANY ((SELECT string_to_array({setting}, ','))::text[]) OR {setting} = '*'"
    yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
    yield f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"
    # What is common to all branches may be read by all and written by those who may write everywhere.
    yield f"CREATE POLICY branch_read ON {table} FOR SELECT USING (branch = '*' OR {seen})"
    yield f"CREATE POLICY branch_write ON {table} FOR ALL USING ({seen}) WITH CHECK ({seen})"


def partition_events() -> Iterator[str]:
    """The statements that let the service itself make the event table's next monthly partitions.

    Used by migrations. The service's role owns nothing, hence the function with its owner's rights.
    """
    yield "CREATE TABLE event_default PARTITION OF event DEFAULT"
    yield """
        CREATE FUNCTION ensure_event_partition(month date) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE
            first date := date_trunc('month', month)::date;
            name text := 'event_' || to_char(first, 'YYYY_MM');
        BEGIN
            IF to_regclass(name) IS NULL THEN
                EXECUTE format('CREATE TABLE %I PARTITION OF event FOR VALUES FROM (%L) TO (%L)', name,
                    first::timestamp AT TIME ZONE 'UTC', (first + interval '1 month')::timestamp AT TIME ZONE 'UTC');
            END IF;
        END $$
    """


@dataclass(frozen=True)
class Resource:
    """How a domain class is written to the log."""

    message: type[Message]
    table: sa.Table
    # Everybody's (branch `*`), such as an offering; else each belongs to one branch.
    common: bool = False


# --- the unit of work ------------------------------------------------------------------------------------------------


class Unit:
    """One transaction of one caller: what it loads is what the caller may see, what it changes is logged."""

    def __init__(self, database: "Database", session: Session, call: calls.Call, at: datetime) -> None:
        self.session = session
        self.call = call
        # The instant of everything that happens in this transaction.
        self.at = at
        self.database = database
        self._announced: dict[int, str] = {}
        self._after_commit: list[Callable[[], None]] = []

    def find(self, cls: type[A], id: str) -> A | None:
        """The aggregate, or None when there is none that the caller may see."""
        return self.session.get(cls, id)

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
        if not self.database.resources[type(aggregate)].common and not self.call.principal.may_see(aggregate.branch):
            raise PermissionDenied("BRANCH_FORBIDDEN", f"the branch {aggregate.branch!r} isn't yours")
        self.session.add(aggregate)

    def delete(self, aggregate: Aggregate) -> None:
        """Deletes the aggregate; its history stays."""
        self.session.delete(aggregate)

    def announce(self, aggregate: Aggregate, what: str) -> None:
        """Names the event of the change: `InformationRequired` ⇒ ProductOrderInformationRequiredEvent."""
        self._announced[id(aggregate)] = what

    def after_commit(self, action: Callable[[], None]) -> None:
        """Runs the action once the transaction has been committed."""
        self._after_commit.append(action)

    def flush(self) -> None:
        """Writes everything changed so far, with its events; commit does it by itself."""
        session = self.session
        changed: list[tuple[Aggregate, str, int]] = [
            *((aggregate, "Create", 1) for aggregate in session.new),
            *(
                (aggregate, _kind_of_change(aggregate), 0)
                for aggregate in session.dirty
                if session.is_modified(aggregate)
            ),
            *((aggregate, "Delete", aggregate.revision + 1) for aggregate in session.deleted),
        ]
        try:
            session.flush()
        except StaleDataError as error:
            raise _Conflict from error
        if changed:
            self._log(changed)
            self._announced.clear()

    def _log(self, changed: Iterable[tuple[Aggregate, str, int]]) -> None:
        principal = self.call.principal
        carrier: dict[str, str] = {}
        inject(carrier)
        rows: list[dict[str, Any]] = []
        for aggregate, kind, version in changed:
            resource = self.database.resources[type(aggregate)]
            message = convert.to_message(aggregate, resource.message)
            if kind == "Delete" and "etag" in message.DESCRIPTOR.fields_by_name:
                message.etag = str(version)  # type: ignore[attr-defined]
            rows.append(
                event_row(
                    aggregate,
                    type=f"{type(aggregate).__name__}{self._announced.get(id(aggregate), kind)}Event",
                    version=version if kind == "Delete" else aggregate.revision,
                    data=message.SerializeToString(),
                    data_type=message.DESCRIPTOR.full_name,
                    time=self.at,
                    actor=principal.subject,
                    on_behalf_of=principal.on_behalf_of,
                    traceparent=carrier.get("traceparent"),
                )
            )
        log = self.database.log
        self.session.execute(sa.insert(log.event), rows)
        self.session.execute(
            sa.insert(log.outbox),
            [{"event_id": r["id"], "event_time": r["time"], "ordering_key": r["ordering_key"]} for r in rows],
        )
        self.after_commit(self.database.wake)

    def committed(self) -> None:
        for action in dict.fromkeys(self._after_commit):
            action()


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


def _kind_of_change(aggregate: Aggregate) -> str:
    state = type(aggregate).STATE
    if state is not None and sa.inspect(aggregate).attrs[state].history.has_changes():
        return "StateChange"
    return "AttributeValueChange"


class _Conflict(Exception):
    """Another transaction changed the same thing; this one may be tried again from its beginning."""


class Database:
    """A service's database, entered as its own role, which owns nothing and can't bypass the policies."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        metadata: sa.MetaData,
        resources: Mapping[type[Aggregate], Resource],
        connections: int = 16,
    ) -> None:
        self.clock = clock
        self.resources = resources
        self.metadata = metadata
        self.log = log_tables(metadata)
        self._listeners: list[Callable[[], None]] = []
        self.engine = sa.create_engine(
            url.replace("postgresql://", "postgresql+psycopg://", 1),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=5,
            pool_pre_ping=False,
            # TypedJson has its own, typed codec.
            json_serializer=str,
            json_deserializer=bytes,
            connect_args={"prepare_threshold": 2, "options": "-c timezone=UTC -c lock_timeout=5000"},
        )

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Calls the listener after every commit that wrote events (from the committing thread: be quick)."""
        self._listeners.append(listener)

    def wake(self) -> None:
        """Tells the subscribed listeners that there is something to do."""
        for listener in self._listeners:
            listener()

    def close(self) -> None:
        """Closes the idle connections."""
        self.engine.dispose()

    def ready(self) -> bool:
        """Whether the database answers."""
        try:
            with self.engine.connect() as connection:
                connection.execute(sa.text("SELECT 1"))
        except DBAPIError:
            return False
        return True

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        """One transaction as the current caller; committed at the end of the block, rolled back by an exception.

        Raises Aborted CONFLICT when another transaction was faster, DeadlineExceeded, Unavailable.
        """
        try:
            with self._unit() as unit:
                yield unit
        except _Conflict as error:
            raise Aborted("CONFLICT", "somebody else changed the same thing at the same time") from error
        unit.committed()

    @contextmanager
    def _unit(self) -> Iterator[Unit]:
        call = calls.current()
        try:
            with Session(self.engine, autoflush=False, expire_on_commit=False) as session:
                session.execute(_ENTER, enter_parameters(call))
                unit = Unit(self, session, call, self.clock.now())
                yield unit
                unit.flush()
                session.commit()
        except DBAPIError as error:
            raise _translated(error) from error
        except sa.exc.TimeoutError as error:
            raise Unavailable("DATABASE_BUSY", "no database connection was free in time") from error

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
                        unit.flush()
                        unit.session.execute(
                            sa.insert(self.log.idempotency).values(
                                principal=_scope(unit.call),
                                method=unit.call.method,
                                key=key,
                                body_hash=_body_hash(request),
                                response=result.SerializeToString(),
                                created_at=unit.at,
                            )
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
        table = self.log.idempotency
        row = unit.session.execute(
            sa.select(table.c.body_hash, table.c.response).where(
                table.c.principal == _scope(unit.call),
                table.c.method == unit.call.method,
                table.c.key == getattr(request, "request_id", ""),
            )
        ).first()
        if row is None:
            return None
        if row.body_hash != _body_hash(request):
            raise InvalidArgument("IDEMPOTENCY_KEY_REUSED", "this request id came before with another request")
        return response.FromString(row.response)

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


def _scope(call: calls.Call) -> str:
    """Whose request ids these are: other branches, other principal."""
    return f"{call.principal.subject} {call.principal.branch_setting}"


def _body_hash(request: Message) -> bytes:
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


_ENTER = sa.text(
    "SELECT set_config('svyaz.branches', :branches, true), set_config('statement_timeout', :timeout, true)"
)


def enter_parameters(call: calls.Call) -> dict[str, str]:
    """What a transaction sets on itself, and only on itself: a pooled session serves another caller next."""
    remaining = call.remaining()
    if remaining is not None and remaining <= 0:
        raise DeadlineExceeded("DEADLINE_EXCEEDED", "the caller's time ran out")
    return {
        "branches": call.principal.branch_setting,
        "timeout": "0" if remaining is None else str(max(1, int(remaining * 1000))),
    }


def _translated(error: DBAPIError) -> Exception:
    state = getattr(error.orig, "sqlstate", None)
    if isinstance(error, IntegrityError) or state in (_SERIALIZATION_FAILURE, _DEADLOCK):
        return _Conflict()
    if state == _QUERY_CANCELED:
        return DeadlineExceeded("DEADLINE_EXCEEDED", "the database needed longer than the caller would wait")
    if state == _POLICY:
        return PermissionDenied("BRANCH_FORBIDDEN", "this would write into a branch that isn't yours")
    if error.connection_invalidated or state is None or state.startswith(("08", "57", "53")):
        return Unavailable("DATABASE_UNAVAILABLE", "the database can't be reached")
    return error
