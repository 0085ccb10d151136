"""Many new aggregates in one transaction: COPY into unlogged staging tables, then INSERT … SELECT under the policies.

COPY can't write under a policy, hence the stages. Theirs are rows of transactions that haven't ended: each transaction
takes away what it has put there, so nobody ever sees another's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import sqlalchemy as sa
from opentelemetry.propagate import inject

from chassis import calls, convert
from chassis.db import Database, Resource, Unit, Xid8, event_row
from chassis.types import Aggregate

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
    columns: Sequence[str]
    converters: Sequence[tuple[str, Callable[[Any], Any] | None]]


class Bulk:
    """Writes new aggregates of the classes whose tables have a stage."""

    def __init__(self, database: Database, classes: Iterable[type[Aggregate]]) -> None:
        self._database = database
        self._shapes = {cls: _shape(cls, database.resources[cls]) for cls in classes}

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
            setattr(aggregate, shape.revision, 1)
            message = convert.to_message(aggregate, shape.resource.message)
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
            row = tuple([values[n] if to is None else to(values[n]) for n, to in shape.converters])
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
    return _Shape(resource, revision.name, names, [(name, _converter(columns[name].type)) for name in names])


def _converter(kind: sa.types.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    if not isinstance(kind, sa.types.TypeDecorator):
        return None
    bind = kind.process_bind_param

    def convert(value: Any) -> Any:
        return None if value is None else bind(value, None)  # type: ignore[arg-type]

    return convert


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
