"""Connections to a service's database: how they are made, how a transaction on them begins and is entered, and what
their errors mean."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.errors import ExclusionViolation, ForeignKeyViolation, UniqueViolation
from psycopg.pq import TransactionStatus
from sqlalchemy.exc import DBAPIError

from chassis import calls
from chassis.errors import Aborted, DeadlineExceeded, InvalidArgument, PermissionDenied, Unavailable
from chassis.reading import INVALID_VALUE, NETWORK, refused
from chassis.schema import NOT_MET

# What nobody waits for ends too: a statement that hangs would hold its connection and its locks for ever.
BACKGROUND_STATEMENT_SECONDS = 60
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_SERIALIZATION_FAILURE, _DEADLOCK, _QUERY_CANCELED, _POLICY = "40001", "40P01", "57014", "42501"
_LOCK_NOT_AVAILABLE = "55P03"
# Classes (connections, resources, operators' interventions, the system) and single states (a standby, a session that
# was ended) of a server that can't do what would be right at another time.
_OUTAGES = ("08", "53", "57", "58", "25006", "25P03")
# The class of what is more than PostgreSQL can keep: no database that could be reached would take it.
_LIMIT = "54"

# A statement of the driver, and its parameters.
Question = tuple[str, Mapping[str, Any]]


def make_engine(url: str, connections: int) -> sa.Engine:
    """A pool of up to so many connections. Their transactions begin with the engine's `begin` event, or with `BEGIN`
    where they say that they are `BEGUN` by somebody else."""
    engine = sa.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=5,
        # Few connections that are always busy know their statements' plans better than many that take turns.
        pool_use_lifo=True,
        pool_pre_ping=False,
        # The driver is in autocommit, and yet there are transactions to be rolled back.
        skip_autocommit_rollback=False,
        # TypedJson has its own, typed codec.
        json_serializer=str,
        json_deserializer=bytes,
        connect_args={
            **NETWORK,
            # The driver would wait for the answer to its own BEGIN.
            "autocommit": True,
            "prepare_threshold": 2,
            # A unit sets the time-out of its own statements.
            "options": f"-c timezone=UTC -c lock_timeout=5000 -c statement_timeout={BACKGROUND_STATEMENT_SECONDS}s",
        },
    )
    sa.event.listen(engine, "begin", _begin)
    return engine


# The option of connections whose transactions somebody else begins.
BEGUN = "svyaz_begun"
BEGIN = "BEGIN"


def _begin(connection: sa.Connection) -> None:
    if not connection.get_execution_options().get(BEGUN):
        connection.exec_driver_sql(BEGIN)


ENTER = """
    SELECT set_config('svyaz.branches', %(branches)s, true), set_config('statement_timeout', %(timeout)s, true)
"""
# What a service does by itself looks a few rows up by their keys, always in the same statements. Planning them for each
# execution cost the server more than executing them; planned once, perhaps while the tables were still empty, they
# mustn't read these whole once they are full: so the plan may only go by the indexes.
_BY_ITSELF = f"""
    {ENTER.rstrip()}, set_config('plan_cache_mode', 'force_generic_plan', true),
        set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
        set_config('enable_mergejoin', 'off', true)
"""


def entering(call: calls.Call) -> Question:
    """What a transaction of the caller that looks at something asks before everything else."""
    return _BY_ITSELF if call.unattended else ENTER, enter_parameters(call)


def enter_parameters(call: calls.Call) -> dict[str, str]:
    """What a transaction sets on itself, and only on itself: a pooled session serves another caller next."""
    remaining = call.remaining()
    if remaining is not None and remaining <= 0:
        raise DeadlineExceeded("DEADLINE_EXCEEDED", "the caller's time ran out")
    return {
        "branches": call.principal.branch_setting,
        "timeout": str(max(1, int((BACKGROUND_STATEMENT_SECONDS if remaining is None else remaining) * 1000))),
    }


def ask(
    connection: "psycopg.Connection[tuple[Any, ...]]", questions: Sequence[Question]
) -> Sequence[Sequence[tuple[Any, ...]]]:
    """The rows of each question, in one round trip."""
    cursors = [connection.cursor(binary=True) for _ in questions]
    # One pipeline and never one in another: each begins and ends with a round trip of its own.
    with connection.pipeline():
        for cursor, (statement, parameters) in zip(cursors, questions, strict=True):
            cursor.execute(statement, parameters)
    return [cursor.fetchall() if cursor.description else () for cursor in cursors]


@contextmanager
def at_once(engine: sa.Engine) -> "Iterator[psycopg.Connection[tuple[Any, ...]]]":
    """A connection whose statements are sent together at the end of the block, as one transaction; as none when the
    block raises."""
    fairy = engine.raw_connection()
    connection = fairy.driver_connection
    assert isinstance(connection, psycopg.Connection)
    try:
        # Without BEGIN and COMMIT, what is between two synchronisations of a pipeline is one transaction:
        # https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING
        with connection.pipeline():
            try:
                yield connection
            except BaseException as error:
                # The end of the pipeline would commit what has been sent, unless the server has refused a part of it.
                if getattr(error, "sqlstate", None) is None:
                    connection.close()
                raise
    except BaseException:
        _forget_prepared(connection)
        raise
    finally:
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            fairy.invalidate()
        fairy.close()


def _forget_prepared(connection: "psycopg.Connection[Any]") -> None:
    """What the server has refused in a pipeline it has refused with all that follows, while the driver takes what it
    meant to prepare there for prepared; it forgets that with a rollback, of which it needs a transaction to make one.
    """
    if connection.info.transaction_status is TransactionStatus.IDLE:
        try:
            connection.execute("BEGIN")
            connection.rollback()
        except psycopg.Error:
            # The first error is told; this connection serves nobody any more.
            connection.close()


class Conflict(Exception):
    """Another transaction changed the same thing; this one may be tried again from its beginning."""


@contextmanager
def translating() -> Iterator[None]:
    """Errors of the database as what they mean to a caller."""
    try:
        yield
    except DBAPIError as error:
        raise _translated(error, error.orig) from error
    except psycopg.Error as error:
        raise _translated(error, error) from error
    except sa.exc.TimeoutError as error:
        raise Unavailable("DATABASE_BUSY", "no database connection was free in time") from error


_RIVALRY = (UniqueViolation, ForeignKeyViolation, ExclusionViolation, NOT_MET)


def _translated(error: Exception, cause: Any) -> Exception:
    state = getattr(cause, "sqlstate", None)
    # A value that is missing or out of bounds is nobody else's doing: it would be the same again.
    if isinstance(cause, _RIVALRY) or state in (_SERIALIZATION_FAILURE, _DEADLOCK):
        return Conflict()
    if isinstance(cause, psycopg.DataError):
        return refused(cause)
    if state is not None and state.startswith(_LIMIT):
        # An id longer than an index takes, say.
        return InvalidArgument(INVALID_VALUE, "a value is longer than can be kept")
    if state == _QUERY_CANCELED:
        return DeadlineExceeded("DEADLINE_EXCEEDED", "the database needed longer than the caller would wait")
    if state == _POLICY:
        return PermissionDenied("BRANCH_FORBIDDEN", "this would write into a branch that isn't yours")
    if state == _LOCK_NOT_AVAILABLE:
        # Not to be tried again at once: it was waited for.
        return Aborted("LOCKED", "somebody else has been at the same thing for too long")
    # The driver has no state for a connection that is lost.
    lost = state is None and isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    if lost or (state is not None and state.startswith(_OUTAGES)):
        return Unavailable("DATABASE_UNAVAILABLE", "the database can't be reached")
    return error
