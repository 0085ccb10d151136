"""The shortest way from a row to a message: one statement, which carries the caller's branches with it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from google.protobuf.message import Message
from psycopg import sql
from psycopg.types.json import set_json_loads
from psycopg_pool import ConnectionPool, PoolTimeout

from chassis import calls, convert
from chassis.errors import InvalidArgument, Unavailable
from chassis.schema import EnumText, Resource, TypedJson
from chassis.types import Aggregate

logging.getLogger("psycopg.pool").setLevel(logging.ERROR)

# A server that has gone without a word is noticed after so long, whatever the kernel's defaults are.
NETWORK: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
# The reason of what a value of the caller's can't be.
INVALID_VALUE = "INVALID_VALUE"
_WAIT_SECONDS = 5.0
# A backstop: one row by its key takes a millisecond, whatever the caller's deadline is.
_STATEMENT_TIMEOUT = "10s"

# The id that is looked for comes out of the expression that sets the branches, so that these are set before the first
# row is looked at, and for this statement's transaction only.
_ENTERED = "WITH entered AS MATERIALIZED (SELECT set_config('svyaz.branches', %(branches)s, true) AS branches)"
_QUERY = """
    {entered}
    SELECT {columns} FROM {table}
    WHERE id = (SELECT CASE WHEN branches IS NULL THEN NULL ELSE %(id)s END FROM entered)
"""
_WANTED = "(SELECT CASE WHEN branches IS NULL THEN NULL ELSE %(ids)s::text[] END FROM entered)::text[]"


@dataclass(frozen=True)
class _Way:
    """How one kind of aggregate is read."""

    query: bytes
    message: Callable[[tuple[Any, ...]], Message]


class Reader:
    """Reads single aggregates outside of any transaction of ours."""

    def __init__(self, url: str, resources: Mapping[type[Aggregate], Resource], connections: int) -> None:
        self._ways = {cls: _way(cls, resource) for cls, resource in resources.items()}
        self._attempts = connections + 1
        self._pool = ConnectionPool(
            url,
            min_size=0,
            max_size=connections,
            open=False,
            timeout=_WAIT_SECONDS,
            configure=_configure,
            kwargs={
                **NETWORK,
                "autocommit": True,
                "prepare_threshold": 1,
                "options": f"-c statement_timeout={_STATEMENT_TIMEOUT}",
            },
        )

    def read(self, cls: type[Aggregate], id: str, call: calls.Call) -> Message | None:
        """The message of the aggregate, None when there is none that the caller may see.

        Raises InvalidArgument INVALID_VALUE for an id that no text can be, Unavailable.
        """
        way = self._ways[cls]
        rows = self._rows(way.query, {"branches": call.principal.branch_setting, "id": id})
        return way.message(rows[0]) if rows else None

    def rows(self, query: str, ids: Sequence[str], call: calls.Call) -> list[tuple[Any, ...]]:
        """The rows of a SELECT that finds them by `= ANY (WANTED)`, as far as the caller may see them.

        JSONB comes as its text. Raises Unavailable.
        """
        text = f"{_ENTERED} {query.replace('WANTED', _WANTED)}".encode()
        return self._rows(text, {"branches": call.principal.branch_setting, "ids": list(ids)})

    def _rows(self, query: bytes, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        self._pool.open()
        for _ in range(self._attempts):
            try:
                with self._pool.connection(timeout=_WAIT_SECONDS) as connection:
                    return connection.execute(query, parameters).fetchall()
            except PoolTimeout as error:
                raise Unavailable("DATABASE_BUSY", "no database connection was free in time") from error
            except psycopg.DataError as error:
                raise refused(error) from error
            except psycopg.OperationalError as error:
                # A connection that died while it was idle says so only now; after a restart all of them have.
                if not connection.closed:
                    raise Unavailable("DATABASE_UNAVAILABLE", "the database didn't answer") from error
        raise Unavailable("DATABASE_UNAVAILABLE", "the database can't be reached")

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()


def refused(error: psycopg.DataError) -> InvalidArgument:
    """What a caller is told of a value that the driver or the database can't take: a text with a NUL in it, say."""
    return InvalidArgument(INVALID_VALUE, error.diag.message_primary or str(error))


def _configure(connection: psycopg.Connection[Any]) -> None:
    # The columns' own decoders read the text.
    set_json_loads(lambda text: text, connection)


def _way(cls: type[Aggregate], resource: Resource) -> _Way:
    columns = resource.table.c
    plan = convert.encoding_plan(cls, resource.message)
    steps = [(name, _loader(columns[name].type), repeated, encode) for name, repeated, encode in plan]
    message_class = resource.message
    has_etag = "etag" in message_class.DESCRIPTOR.fields_by_name

    def message(row: tuple[Any, ...]) -> Message:
        arguments: dict[str, Any] = {}
        for (name, load, repeated, encode), raw in zip(steps, row, strict=False):
            if raw is None:
                continue
            value = raw if load is None else load(raw)
            if encode is not None:
                value = [encode(part) for part in value] if repeated else encode(value)
            arguments[name] = value
        if has_etag:
            arguments["etag"] = str(row[-1])
        return message_class(**arguments)

    names = [name for name, *_ in steps] + ["revision"]
    query = sql.SQL(_QUERY).format(
        entered=sql.SQL(_ENTERED),
        columns=sql.SQL(", ").join(map(sql.Identifier, names)),
        table=sql.Identifier(resource.table.name),
    )
    return _Way(query.as_string(None).encode(), message)


def _loader(kind: Any) -> Callable[[Any], Any] | None:
    if isinstance(kind, TypedJson):
        return kind.decode
    if isinstance(kind, EnumText):
        return kind.kind
    return None
