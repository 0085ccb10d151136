"""Many new aggregates in one transaction: COPY into unlogged staging tables, then INSERT … SELECT under the policies.

COPY can't write under a policy, hence the stages. Theirs are rows of transactions that haven't ended: each transaction
takes away what it has put there, so nobody ever sees another's.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from google.protobuf.message import Message
from opentelemetry.propagate import inject

from chassis import calls, convert
from chassis.convert import Convert
from chassis.db import Database, Resource, Unit, Xid8, event_row
from chassis.types import Aggregate

A = TypeVar("A", bound=Aggregate)

_REMEMBERED = 10_000
_BATCH = "batch"
_OWN = f"{_BATCH} = pg_current_xact_id()"


def stage_table(metadata: sa.MetaData, target: sa.Table) -> sa.Table:
    """Defines the unlogged table that rows for `target` pass through: its columns, except those PostgreSQL fills."""
    name = f"stage_{target.name}"
    return sa.Table(
        name,
        metadata,
        sa.Column(_BATCH, Xid8(), nullable=False, server_default=sa.text("pg_current_xact_id()")),
        *(sa.Column(column.name, column.type) for column in target.columns if _given(column)),
        # Dead rows of earlier batches wait for the vacuum; they aren't read again.
        sa.Index(f"{name}_{_BATCH}", _BATCH),
        prefixes=["UNLOGGED"],
    )


def _given(column: sa.Column[Any]) -> bool:
    return column.identity is None and column.computed is None and column.server_default is None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A new aggregate as the rows that it will be."""

    cls: type[Aggregate]
    row: tuple[Any, ...]
    event: tuple[Any, ...]


@dataclass(frozen=True)
class _Shape:
    resource: Resource
    revision: str
    new: Callable[[], Any]
    decode: convert.Decoding
    encode: Callable[[Any], Message]
    # Attributes that nobody gives a value have these.
    defaults: Mapping[str, Any]
    columns: Sequence[str]
    converters: Sequence[tuple[str, Callable[[Any], Any] | None]]


class Bulk:
    """Writes new aggregates of the classes whose tables have a stage."""

    def __init__(self, database: Database, classes: Iterable[type[Aggregate]]) -> None:
        self._database = database
        sa.orm.configure_mappers()
        self._shapes = {cls: _shape(cls, database.resources[cls]) for cls in classes}

    def make(self, message: Message, cls: type[A], **given: Any) -> A:
        """`convert.from_message` for what is never added to a session: nobody watches its attributes being set, which
        would take half the time of a bulk load. Raises InvalidArgument as that does."""
        shape = self._shapes[cls]
        made: A = shape.new()
        made.__dict__.update(shape.defaults, **convert.decoded(message, shape.decode), **given)
        return made

    def prepare(self, aggregates: Iterable[Aggregate], at: datetime) -> list[Prepared]:
        """The rows and events of new aggregates, as the ordinary path would write them in a transaction at `at`.

        Raises FailedPrecondition EVENT_TOO_LARGE, InvalidArgument for an amount that doesn't fit.
        """
        principal = calls.current().principal
        carrier: dict[str, str] = {}
        inject(carrier)
        result = []
        for aggregate in aggregates:
            cls = type(aggregate)
            shape = self._shapes[cls]
            aggregate.__dict__[shape.revision] = 1
            message = shape.encode(aggregate)
            event = event_row(
                aggregate,
                type=f"{cls.__name__}CreateEvent",
                version=1,
                data=message.SerializeToString(),
                data_type=message.DESCRIPTOR.full_name,
                time=at,
                actor=principal.subject,
                on_behalf_of=principal.on_behalf_of,
                traceparent=carrier.get("traceparent"),
            )
            values = aggregate.__dict__
            row = tuple(
                [(to(v) if v else None) if to else v for v, to in ((values[n], t) for n, t in shape.converters)]
            )
            result.append(Prepared(cls, row, tuple(event.values())))
        return result

    def write(self, unit: Unit, prepared: Sequence[Prepared]) -> None:
        """Writes the aggregates with their events, which leave with the transaction's commit.

        Raises what the transaction raises: PermissionDenied for a branch that isn't the caller's.
        """
        if not prepared:
            return
        rows: dict[type[Aggregate], list[tuple[Any, ...]]] = {}
        for item in prepared:
            rows.setdefault(item.cls, []).append(item.row)
        for cls, some in rows.items():
            copy_insert(unit, self._shapes[cls].resource.table.name, self._shapes[cls].columns, some)
        event, outbox = self._database.log.event.name, self._database.log.outbox.name
        columns = [column.name for column in self._database.log.event.columns if _given(column)]
        stage(unit, event, columns, [item.event for item in prepared])
        _insert(unit, event, columns)
        unit.session.execute(
            sa.text(
                f"INSERT INTO {outbox} (event_id, event_time, ordering_key)"  # noqa: S608
                f" SELECT id, time, ordering_key FROM stage_{event} WHERE {_OWN}"
            )
        )
        _clear(unit, event)
        unit.after_commit(self._database.wake)


def _shape(cls: type[Aggregate], resource: Resource) -> _Shape:
    mapper = sa.inspect(cls)
    revision = mapper.version_id_col
    assert revision is not None
    names = list(convert.attribute_types(cls))
    columns = resource.table.c
    return _Shape(
        resource,
        revision.name,
        mapper.class_manager.new_instance,
        convert.decoding(cls, resource.message, _same_bytes),
        convert.encoding(cls, resource.message, _same_object),
        {field.name: field.default for field in dataclasses.fields(cls) if field.default is not dataclasses.MISSING},
        names,
        [(name, _converter(columns[name].type)) for name in names],
    )


def _converter(kind: sa.types.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """How a value that there is becomes a column's text; None: as it is."""
    if not isinstance(kind, sa.types.TypeDecorator):
        return None
    bind = kind.process_bind_param
    return lambda value: bind(value, None)  # type: ignore[arg-type]


# Rows of one source have most of their parts in common (a characteristic of a few values, say): these are converted
# once, which halves the work. Value objects never change, so that many aggregates may share one.


def _same_bytes(convert: Convert) -> Convert:
    known: dict[bytes, Any] = {}

    def remembered(message: Message) -> Any:
        key = message.SerializeToString()
        found = known.get(key)
        if found is None:
            if len(known) >= _REMEMBERED:
                known.clear()
            found = known[key] = convert(message)
        return found

    return remembered


def _same_object(convert: Convert) -> Convert:
    # The object is kept with its message: as long as it is there, nothing else has its id. Equality wouldn't do, for
    # equal numbers may differ in their digits.
    known: dict[int, tuple[Any, Any]] = {}

    def remembered(value: Any) -> Any:
        found = known.get(id(value))
        if found is None:
            if len(known) >= _REMEMBERED:
                known.clear()
            found = known[id(value)] = (value, convert(value))
        return found[1]

    return remembered


def copy_insert(unit: Unit, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Inserts rows into a table that has a stage."""
    stage(unit, table, columns, rows)
    _insert(unit, table, columns)
    _clear(unit, table)


def stage(unit: Unit, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Copies rows into the table's stage. Raises sqlalchemy's DBAPIError, which the unit understands."""
    statement = f"COPY stage_{table} ({_list(columns)}) FROM STDIN"
    connection: Any = unit.session.connection().connection.driver_connection
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            write = copy.write_row
            for row in rows:
                write(row)
    except psycopg.Error as error:
        raise sa.exc.DBAPIError.instance(statement, None, error, psycopg.Error) from error


def _insert(unit: Unit, table: str, columns: Sequence[str]) -> None:
    names = _list(columns)
    unit.session.execute(sa.text(f"INSERT INTO {table} ({names}) SELECT {names} FROM stage_{table} WHERE {_OWN}"))  # noqa: S608


def _clear(unit: Unit, table: str) -> None:
    unit.session.execute(sa.text(f"DELETE FROM stage_{table} WHERE {_OWN}"))  # noqa: S608


def _list(columns: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)
