"""The shortest way from a row to a message: one statement, which carries the caller's branches with it."""

import queue
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from google.protobuf.message import Message
from psycopg import sql
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.types.json import set_json_loads

from chassis import calls, convert
from chassis.errors import InvalidArgument, Unavailable
from chassis.schema import EnumText, Resource, TypedJson
from chassis.types import Aggregate

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
# The reason when it can't be noted who reads.
NOTHING_NOTED = "ACCESS_LOG_UNAVAILABLE"
_WAIT_SECONDS = 5
# A backstop: one row by its key takes a millisecond, whatever the caller's deadline is.
_STATEMENT_TIMEOUT = "10s"

# The id that is looked for comes out of the expression that sets the branches, so that these are set before the first
# row is looked at, and for this statement's transaction only.
_ENTERED = "WITH entered AS MATERIALIZED (SELECT set_config('svyaz.branches', $1, true) AS branches)"
_QUERY = """
    {entered}
    SELECT {columns} FROM {table}
    WHERE id = (SELECT {wanted} FROM entered)
"""
# Of the same transaction as the row: whoever is answered is noted.
_NOTED_QUERY = """
    {entered}, found AS (
        SELECT {columns} FROM {table}
        WHERE id = (SELECT {wanted} FROM entered)
    ), noted AS (
        {note}
    )
    SELECT * FROM found
"""
# What is set local to the transaction counts when it ends: nobody waits for the disk.
_ENTERED_NOTING = f"{_ENTERED[:-1]}, set_config('synchronous_commit', 'off', true))"
_GIVEN = "CASE WHEN branches IS NULL THEN NULL ELSE $2 END"
_STOOD_FOR = f"coalesce((SELECT {{stands_for}} FROM {{aliases}} WHERE {{id}} = {_GIVEN}), {_GIVEN})"  # noqa: S608
_WANTED = "(SELECT CASE WHEN branches IS NULL THEN NULL ELSE $2::text[] END FROM entered)::text[]"


@dataclass(frozen=True)
class Note:
    """How a service keeps note of who reads something: an INSERT that selects from `found`, what is read, and names as
    `$3`, `$4` … the texts that `values` says; None: this caller's reading isn't noted."""

    statement: str
    values: Callable[[calls.Call], Sequence[str] | None]


@dataclass(frozen=True)
class _Way:
    """How one kind of aggregate is read."""

    query: bytes
    message: Callable[[tuple[Any, ...]], Message]
    note: Note | None
    noted_query: bytes


class _Connection:
    """A session that reads, one statement at a time.

    Past psycopg's cursors: they cost three times as much as the statement, and let go of the interpreter at every step
    of it, each time to be waited for again; libpq's own call does so once.
    """

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(
            url, autocommit=True, **NETWORK, options=f"-c statement_timeout={_STATEMENT_TIMEOUT}"
        )
        # The columns' own decoders read the text.
        set_json_loads(lambda text: text, self._connection)
        self._values = Transformer.from_context(self._connection)
        self._prepared: dict[bytes, bytes] = {}

    @property
    def lost(self) -> bool:
        """Whether nothing can be asked here any more."""
        return self._connection.pgconn.status != ConnStatus.OK

    def rows(self, query: bytes, parameters: Sequence[str]) -> list[tuple[Any, ...]]:
        """The rows that the query (with `$1`, `$2` …, all of them texts) finds.

        Raises psycopg.Error, OperationalError when the session is lost.
        """
        name = self._prepared.get(query) or self._prepare(query)
        result = self._connection.pgconn.exec_prepared(name, [_dumped(text) for text in parameters])
        self._check(result, ExecStatus.TUPLES_OK)
        self._values.set_pgresult(result)
        return self._values.load_rows(0, result.ntuples, tuple)

    def _prepare(self, query: bytes) -> bytes:
        name = f"reading_{len(self._prepared)}".encode()
        self._check(self._connection.pgconn.prepare(name, query), ExecStatus.COMMAND_OK)
        self._prepared[query] = name
        return name

    def _check(self, result: Any, expected: ExecStatus) -> None:
        if result.status != expected:
            error = psycopg.errors.error_from_result(result)
            raise psycopg.OperationalError(str(error)) if self.lost else error

    def close(self) -> None:
        """Ends the session."""
        self._connection.close()


def _dumped(text: str) -> bytes:
    """The parameter as the server takes it. Raises DataError for what would end before its end."""
    if "\0" in text:
        raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return text.encode()


def _text_array(texts: Iterable[str]) -> str:
    """An array of texts as PostgreSQL reads it. psycopg's way looks at each of them several times."""
    return "{" + ",".join('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts) + "}"


class Reader:
    """Reads single aggregates outside of any transaction of ours."""

    def __init__(
        self,
        url: str,
        resources: Mapping[type[Aggregate], Resource],
        connections: int,
        notes: Mapping[type[Aggregate], Note],
    ) -> None:
        self._url = url
        # The statements of `rows`, with what notes them: a few, all of them constants of ours.
        self._texts: dict[tuple[str, str | None], bytes] = {}
        self._ways = {cls: _way(cls, resource, notes.get(cls)) for cls, resource in resources.items()}
        # The last one used is the next: None stands for one that isn't open (any more).
        self._idle: queue.LifoQueue[_Connection | None] = queue.LifoQueue()
        for _ in range(connections):
            self._idle.put(None)

    def read(self, cls: type[Aggregate], id: str, call: calls.Call) -> Message | None:
        """The message of the aggregate, None when there is none that the caller may see. What was noted of it is in
        `call.noted`.

        Raises InvalidArgument INVALID_VALUE for an id that no text can be, Unavailable, ACCESS_LOG_UNAVAILABLE when it
        can't be noted.
        """
        way = self._ways[cls]
        note = None if way.note is None else way.note.values(call)
        if note is None:
            rows = self._rows(way.query, (call.principal.branch_setting, id))
        else:
            rows = self._noted(way.noted_query, (call.principal.branch_setting, id, *note))
        if not rows:
            return None
        message: Any = way.message(rows[0])
        if note is not None:
            call.noted.add(message.id)
        return cast(Message, message)

    def rows(self, query: str, ids: Sequence[str], call: calls.Call, note: Note | None = None) -> list[tuple[Any, ...]]:
        """The rows of a SELECT that finds them by `= ANY (WANTED)`, as far as the caller may see them.

        With a note the SELECT has a part `found`, and `NOTED` after it. JSONB comes as its text. Raises Unavailable,
        ACCESS_LOG_UNAVAILABLE when it can't be noted.
        """
        values = None if note is None else note.values(call)
        noting = None if note is None or values is None else note.statement
        text = self._texts.get((query, noting))
        if text is None:
            text = self._texts[query, noting] = _with_note(query, noting).replace("WANTED", _WANTED).encode()
        parameters = (call.principal.branch_setting, _text_array(ids))
        return self._rows(text, parameters) if values is None else self._noted(text, (*parameters, *values))

    def _noted(self, query: bytes, parameters: Sequence[str]) -> list[tuple[Any, ...]]:
        try:
            return self._rows(query, parameters)
        except psycopg.Error as error:
            raise Unavailable(NOTHING_NOTED, "nothing is shown that can't be noted") from error

    def _rows(self, query: bytes, parameters: Sequence[str]) -> list[tuple[Any, ...]]:
        try:
            connection = self._idle.get(timeout=_WAIT_SECONDS)
        except queue.Empty as error:
            raise Unavailable("DATABASE_BUSY", "no database connection was free in time") from error
        try:
            if connection is not None:
                try:
                    return connection.rows(query, parameters)
                except psycopg.OperationalError:
                    # One that died while it was idle says so only now.
                    if not connection.lost:
                        raise
            connection = _Connection(self._url)
            return connection.rows(query, parameters)
        except psycopg.DataError as error:
            raise refused(error) from error
        except psycopg.OperationalError as error:
            raise Unavailable("DATABASE_UNAVAILABLE", "the database didn't answer") from error
        finally:
            self._idle.put(None if connection is None or connection.lost else connection)

    def close(self) -> None:
        """Closes the idle connections."""
        for connection in [self._idle.get_nowait() for _ in range(self._idle.qsize())]:
            if connection is not None:
                connection.close()
            self._idle.put(None)


def refused(error: psycopg.DataError) -> InvalidArgument:
    """What a caller is told of a value that the driver or the database can't take."""
    if error.diag.message_primary is None and "NUL" in str(error):
        return InvalidArgument(INVALID_VALUE, "a text has a NUL in it, which can't be kept")
    return InvalidArgument(INVALID_VALUE, error.diag.message_primary or str(error))


def _with_note(query: str, statement: str | None) -> str:
    if statement is None:
        return f"{_ENTERED} {query.replace('NOTED', '')}"
    return f"{_ENTERED_NOTING} {query.replace('NOTED', f', noted AS ({statement})')}"


def _way(cls: type[Aggregate], resource: Resource, note: Note | None) -> _Way:
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
    query, noted_query = (
        sql.SQL(template).format(
            entered=sql.SQL(entered),
            columns=sql.SQL(", ").join(map(sql.Identifier, names)),
            table=sql.Identifier(resource.table.name),
            wanted=_wanted(resource),
            note=sql.SQL(note.statement if note is not None else ""),
        )
        for template, entered in ((_QUERY, _ENTERED), (_NOTED_QUERY, _ENTERED_NOTING))
    )
    return _Way(query.as_string(None).encode(), message, note, noted_query.as_string(None).encode())


def _wanted(resource: Resource) -> sql.Composable:
    """The id of the row that is read."""
    if resource.alias is None:
        return sql.SQL(_GIVEN)
    return sql.SQL(_STOOD_FOR).format(
        stands_for=sql.Identifier(resource.alias.stands_for.name),
        aliases=sql.Identifier(resource.alias.id.table.name),
        id=sql.Identifier(resource.alias.id.name),
    )


def _loader(kind: Any) -> Callable[[Any], Any] | None:
    if isinstance(kind, TypedJson):
        return kind.decode
    if isinstance(kind, EnumText):
        return kind.kind
    return None
