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
from chassis.db import Database
from chassis.schema import Resource, TypedJson, Xid8
from chassis.types import Aggregate
from chassis.unit import Unit, event_row

A = TypeVar("A", bound=Aggregate)

# A row and the bytes of the message that says the same.
_Written = tuple[tuple[Any, ...], bytes]

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


Preparing = Callable[[Iterable[Aggregate]], list[Prepared]]


@dataclass(frozen=True)
class _Shape:
    resource: Resource
    revision: str
    new: Callable[[], Any]
    decode: convert.Decoding
    # Attributes that nobody gives a value have these.
    defaults: Mapping[str, Any]
    columns: Sequence[str]
    write: Callable[[Mapping[str, Any]], _Written]


class Bulk:
    """Writes new aggregates of the classes whose tables have a stage."""

    def __init__(
        self, database: Database, classes: Iterable[type[Aggregate]], check: Callable[[Message], None] = lambda _: None
    ) -> None:
        """`check` is asked of each part of a repeated field, of those that are the same once."""
        self._database = database
        sa.orm.configure_mappers()
        self._shapes = {cls: _shape(cls, database.resources[cls], check) for cls in classes}

    def make(self, message: Message, cls: type[A], **given: Any) -> A:
        """`convert.from_message` for what is never added to a session: nobody watches its attributes being set, which
        would take half the time of a bulk load. Raises InvalidArgument as that does."""
        shape = self._shapes[cls]
        made: A = shape.new()
        made.__dict__.update(shape.defaults, **convert.decoded(message, shape.decode), **given)
        return made

    def preparing(self, at: datetime) -> Preparing:
        """How new aggregates become rows and events, as the ordinary path would write them in a transaction at `at`.

        That raises FailedPrecondition EVENT_TOO_LARGE, InvalidArgument for an amount that doesn't fit.
        """
        principal = calls.current().principal
        carrier: dict[str, str] = {}
        inject(carrier)

        def prepare(aggregate: Aggregate) -> Prepared:
            cls = type(aggregate)
            shape = self._shapes[cls]
            values = aggregate.__dict__
            values[shape.revision] = 1
            row, data = shape.write(values)
            event = event_row(
                aggregate,
                type=f"{cls.__name__}CreateEvent",
                version=1,
                data=data,
                data_type=shape.resource.message.DESCRIPTOR.full_name,
                time=at,
                actor=principal.subject,
                on_behalf_of=principal.on_behalf_of,
                traceparent=carrier.get("traceparent"),
            )
            return Prepared(cls, row, tuple(event.values()))

        return lambda aggregates: [prepare(aggregate) for aggregate in aggregates]

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


def _shape(cls: type[Aggregate], resource: Resource, check: Callable[[Message], None]) -> _Shape:
    mapper = sa.inspect(cls)
    revision = mapper.version_id_col
    assert revision is not None
    return _Shape(
        resource,
        revision.name,
        mapper.class_manager.new_instance,
        convert.decoding(cls, resource.message, lambda convert: _same_bytes(convert, check)),
        {field.name: field.default for field in dataclasses.fields(cls) if field.default is not dataclasses.MISSING},
        list(convert.attribute_types(cls)),
        _writing(cls, resource),
    )


def _writing(cls: type[Aggregate], resource: Resource) -> Callable[[Mapping[str, Any]], _Written]:
    """How the attributes of a new aggregate become its row and the bytes of its message, in one pass."""
    message_class = resource.message
    in_message = {name: (repeated, convert) for name, repeated, convert in convert.encoding_plan(cls, message_class)}
    plan: dict[str, tuple[int, Convert | None, bool, Convert | None, Convert | None]] = {}
    for position, (name, (kind, _)) in enumerate(convert.attribute_types(cls).items()):
        repeated, encode = in_message.get(name, (False, None))
        part = _same_object(_part(message_class, name, kind, encode)) if repeated and encode else None
        plan[name] = (position, _converter(resource.table.c[name].type), name in in_message, encode, part)
    blank = [None] * len(plan)
    constants = {"etag": "1"} if "etag" in message_class.DESCRIPTOR.fields_by_name else {}

    def write(values: Mapping[str, Any]) -> _Written:
        row: list[Any] = blank.copy()
        arguments: dict[str, Any] = constants.copy()
        data: list[bytes] = []
        for name, value in values.items():
            # Compared by type: value objects would be asked whether they equal an empty tuple.
            if value is None or (type(value) is tuple and not value) or name not in plan:
                continue
            position, column, told, encode, part = plan[name]
            if part is not None:
                made = [part(one) for one in value]
                row[position] = f"[{','.join([text for text, _ in made])}]"
                data += [message for _, message in made]
                continue
            row[position] = column(value) if column else value
            if told:
                arguments[name] = encode(value) if encode else value
        # Messages that follow each other are, parsed, one: what is said by several of them is merged.
        return tuple(row), b"".join((message_class(**arguments).SerializeToString(), *data))

    return write


def _part(message_class: type[Message], name: str, kind: type, encode: Convert) -> Convert:
    """How one value of a repeated field becomes its JSON, and the bytes of a message that has nothing else."""
    text = _converter(TypedJson(kind, repeated=False))
    assert text is not None
    return lambda value: (text(value), message_class(**{name: [encode(value)]}).SerializeToString())


def _converter(kind: sa.types.TypeEngine[Any]) -> Convert | None:
    """How a value that there is becomes a column's text; None: as it is."""
    if not isinstance(kind, sa.types.TypeDecorator):
        return None
    bind = kind.process_bind_param
    return lambda value: bind(value, None)  # type: ignore[arg-type]


# Rows of one source have most of their parts in common (a characteristic of a few values, say): these are converted
# once, which halves the work. Value objects never change, so that many aggregates may share one.


def _same_bytes(convert: Convert, check: Callable[[Message], None]) -> Convert:
    known: dict[bytes, Any] = {}

    def remembered(message: Message) -> Any:
        key = message.SerializeToString()
        found = known.get(key)
        if found is None:
            if len(known) >= _REMEMBERED:
                known.clear()
            check(message)
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
