"""How aggregates, their event log and what belongs to it lie in PostgreSQL."""

import operator
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any

import msgspec
import psycopg
import sqlalchemy as sa
from google.protobuf.message import Message
from psycopg import sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import registry
from sqlalchemy.orm.attributes import manager_of_class

from chassis import convert
from chassis.types import Aggregate, Json

PARTITIONS = 64


def partition_of(ordering_key: str) -> int:
    """The partition (0 to 63) of an ordering key; fixed for ever, since consumers rely on it."""
    return zlib.crc32(ordering_key.encode()) % PARTITIONS


# --- columns ---------------------------------------------------------------------------------------------------------


def _enc_hook(value: Any) -> Any:
    if isinstance(value, Json):
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"no JSON form for {type(value)}")


def _dec_hook(kind: type, value: Any) -> Any:
    if kind is Json:
        return Json(_ENCODER.encode(value).decode())
    raise TypeError(f"no JSON form for {kind}")


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
        self.decode = msgspec.json.Decoder(hint, dec_hook=_dec_hook, float_hook=Decimal).decode

    def encode(self, value: Any) -> str | None:
        """The JSON text of the value."""
        return None if value == () else _ENCODER.encode(value).decode()

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else self.encode(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        if value is None:
            return () if self.repeated else None
        return self.decode(value)


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
    bytes: sa.LargeBinary(),
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


def insertion(cls: type[Aggregate], table: sa.Table) -> tuple[bytes, Callable[[Aggregate], Sequence[Any]]]:
    """The driver's statement that inserts an aggregate, and what makes its parameters of one."""
    names = list(convert.attribute_types(cls))
    encoders = [_parameter(table.c[name].type) for name in names]
    read = operator.itemgetter(*names)
    statement = sql.SQL("INSERT INTO {table} ({columns}) VALUES ({values})").format(
        table=sql.Identifier(table.name),
        columns=sql.SQL(", ").join(map(sql.Identifier, names)),
        values=sql.SQL(", ").join(sql.Placeholder() * len(names)),
    )

    def values(aggregate: Aggregate) -> Sequence[Any]:
        return [_encoded(encode, value) for value, encode in zip(read(aggregate.__dict__), encoders, strict=True)]

    return statement.as_string(None).encode(), values


# What a statement fails with that meets no row, or another number of them than it has to.
NOT_MET = psycopg.errors.InvalidArgumentForLogarithm
_UPDATE = "UPDATE {table} SET revision = revision + 1, {assignments} WHERE id = {id} AND revision = {id} RETURNING 1"


def met(statement: str, so: str = "count(*)") -> str:
    """The statement (which ends in `RETURNING 1`), made to fail with NOT_MET where `so` is 0 of the rows that it meets.

    What fails in the server needn't be looked at before the commit, which then goes with it. The logarithm of 0 is an
    error that nothing else of ours can raise.
    """
    return f"WITH met AS ({statement}) SELECT ln({so}) FROM met"  # noqa: S608 (of our own statements)


class Way:
    """From the rows of a table to its aggregates and back, past the mapper: it needs several times as long for what is
    one row by its key."""

    def __init__(self, cls: type[Aggregate], table: sa.Table) -> None:
        self._cls = cls
        self._table = sql.Identifier(table.name)
        self._names = list(convert.attribute_types(cls))
        columns = sql.SQL(", ").join(map(sql.Identifier, self._names))
        select = sql.SQL("SELECT {columns} FROM {table} WHERE ").format(columns=columns, table=self._table)
        self._select = select.as_string(None)
        self._loaders = [_loader(table.c[name].type) for name in self._names]
        self._parameters = {name: _parameter(table.c[name].type) for name in self._names}
        self._updates: dict[tuple[str, ...], bytes] = {}
        delete = sql.SQL(met("DELETE FROM {table} WHERE id = {id} AND revision = {id} RETURNING 1"))
        self._delete = delete.format(table=self._table, id=sql.Placeholder()).as_string(None).encode()

    def selection(self, condition: str) -> str:
        """The driver's statement that finds the rows of a condition."""
        return self._select + condition

    def aggregate(self, row: Sequence[Any]) -> Aggregate:
        """The aggregate that a row holds; its columns as `selection` names them."""
        # As the mapper would, and not by its __init__: it is no new one.
        made: Aggregate = manager_of_class(self._cls).new_instance()
        made.__dict__.update(
            (name, value if load is None else load(value))
            for name, value, load in zip(self._names, row, self._loaders, strict=True)
        )
        return made

    def update(self, aggregate: Aggregate, changed: Sequence[str]) -> tuple[bytes, Sequence[Sequence[Any]]]:
        """The driver's statement that saves the changed attributes of an aggregate, with its parameters; it fails with
        NOT_MET when somebody else has changed it since. The aggregate's revision is still the one that was loaded."""
        names = tuple(changed)
        statement = self._updates.get(names)
        if statement is None:
            assignments = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder()) for name in names]
            statement = self._updates[names] = (
                sql.SQL(met(_UPDATE))
                .format(table=self._table, assignments=sql.SQL(", ").join(assignments), id=sql.Placeholder())
                .as_string(None)
                .encode()
            )
        stored = aggregate.__dict__
        values = [_encoded(self._parameters[name], stored[name]) for name in names]
        return statement, [[*values, aggregate.id, aggregate.revision]]

    def delete(self, aggregate: Aggregate) -> tuple[bytes, Sequence[Sequence[Any]]]:
        """As `update`, the statement that deletes it."""
        return self._delete, [[aggregate.id, aggregate.revision]]


def _encoded(encode: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if value is None or encode is None else encode(value)


def _parameter(kind: sa.types.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    if isinstance(kind, TypedJson):
        return kind.encode
    if isinstance(kind, EnumText):
        return str
    return None


def _loader(kind: sa.types.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    if isinstance(kind, TypedJson):
        return partial(_decoded, kind.decode, () if kind.repeated else None)
    if isinstance(kind, EnumText):
        return partial(_decoded, kind.kind, None)
    return None


def _decoded(decode: Callable[[Any], Any], absent: Any, value: Any) -> Any:
    return absent if value is None else decode(value)


# --- the log ---------------------------------------------------------------------------------------------------------


class Xid8(sa.types.UserDefinedType[int]):
    """A 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


@dataclass(frozen=True)
class LogTables:
    """The event log, its unsent tail, its epochs and the remembered requests."""

    event: sa.Table
    outbox: sa.Table
    log_epoch: sa.Table
    idempotency: sa.Table


def log_tables(metadata: sa.MetaData) -> LogTables:
    """Defines (once per metadata) the tables that every service with aggregates has."""
    if "event" in metadata.tables:
        return LogTables(**{name: metadata.tables[name] for name in LogTables.__dataclass_fields__})
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
    # After the first, which needs no row.
    log_epoch = sa.Table(
        "log_epoch",
        metadata,
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("opened_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
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
    return LogTables(event, outbox, log_epoch, idempotency)


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
            -- Two replicas may come at once, and a month whose events are in the default partition stays there.
            PERFORM pg_advisory_xact_lock(hashtext('ensure_event_partition'));
            IF to_regclass(name) IS NULL AND NOT EXISTS (
                SELECT 1 FROM event_default
                WHERE time >= first::timestamp AT TIME ZONE 'UTC'
                    AND time < (first + interval '1 month')::timestamp AT TIME ZONE 'UTC'
            ) THEN
                EXECUTE format('CREATE TABLE %I PARTITION OF event FOR VALUES FROM (%L) TO (%L)', name,
                    first::timestamp AT TIME ZONE 'UTC', (first + interval '1 month')::timestamp AT TIME ZONE 'UTC');
            END IF;
        END $$
    """


@dataclass(frozen=True)
class Alias:
    """Ids that stand for another: who reads `id` (a column whose values are unique) gets what `stands_for` names."""

    id: sa.Column[str]
    stands_for: sa.Column[str]


@dataclass(frozen=True)
class Resource:
    """How a domain class is written to the log."""

    message: type[Message]
    table: sa.Table
    # Everybody's (branch `*`), such as an offering; else each belongs to one branch.
    common: bool = False
    # What is read by an id (`Database.read`) may be another's row; what is changed is the id's own.
    alias: Alias | None = None
    # An attribute that the log does without where an event would be too large with it.
    spare: str | None = None
