"""What the bus keeps in each service's database, and how background work acts and fails."""

import enum
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from chassis import calls
from chassis.auth import EVERY_BRANCH
from chassis.errors import Aborted, DeadlineExceeded, DomainError, ResourceExhausted, Unavailable
from chassis.schema import isolate, log_tables

log = logging.getLogger(__name__)

T = TypeVar("T")

# After so many failures a timer is tried once an hour only, and counted as given up.
TIMER_ATTEMPTS = 10
_INSTANT = sa.TIMESTAMP(timezone=True)


@dataclass(frozen=True)
class BusTables:
    """The tables of leases, relays, consumers and timers."""

    lease: sa.Table
    outbox_blocked: sa.Table
    inbox: sa.Table
    consumer_position: sa.Table
    consumer_switch: sa.Table
    parked_key: sa.Table
    parked_event: sa.Table
    timer: sa.Table


def bus_tables(metadata: sa.MetaData) -> BusTables:
    """Defines (once per metadata) the tables of the bus; a migration isolates those that hold a branch's data."""
    if "lease" in metadata.tables:
        return BusTables(**{name: metadata.tables[name] for name in BusTables.__dataclass_fields__})
    event = log_tables(metadata).event
    # ListEvents reads by it.
    sa.Index("event_partition_position", event.c.partition, event.c.position)
    lease = sa.Table(
        "lease",
        metadata,
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False),
    )
    outbox_blocked = sa.Table(
        "outbox_blocked",
        metadata,
        sa.Column("relay", sa.Text, primary_key=True),
        sa.Column("ordering_key", sa.Text, primary_key=True),
        sa.Column("outbox_id", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("blocked_at", _INSTANT, nullable=False),
    )
    inbox = sa.Table(
        "inbox",
        metadata,
        sa.Column("handler", sa.Text, primary_key=True),
        sa.Column("aggregate_id", sa.Text, primary_key=True),
        # Of the log that the version was read from.
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("last_version", sa.BigInteger, nullable=False),
    )
    consumer_position = sa.Table(
        "consumer_position",
        metadata,
        sa.Column("consumer", sa.Text, primary_key=True),
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("first_partition", sa.SmallInteger, primary_key=True),
        sa.Column("last_partition", sa.SmallInteger, primary_key=True),
        # When the stream was created: a stream made anew counts from 1 again.
        sa.Column("stream_created", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    consumer_switch = sa.Table(
        "consumer_switch",
        metadata,
        sa.Column("consumer", sa.Text, primary_key=True),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
    )
    parked_key = sa.Table(
        "parked_key",
        metadata,
        sa.Column("consumer", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("parked_at", _INSTANT, nullable=False),
    )
    parked_event = sa.Table(
        "parked_event",
        metadata,
        sa.Column("consumer", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, primary_key=True),
        # The order in which they came.
        sa.Column("position", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("branch", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("headers", postgresql.JSONB, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        # Why this one failed; NULL: it only waits behind one that did.
        sa.Column("error", sa.Text),
        sa.Column("parked_at", _INSTANT, nullable=False),
        sa.Index("parked_event_consumer_key_position", "consumer", "key", "position"),
    )
    timer = sa.Table(
        "timer",
        metadata,
        sa.Column("aggregate_id", sa.Text, primary_key=True),
        sa.Column("purpose", sa.Text, primary_key=True),
        sa.Column("due", _INSTANT, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("branch", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("last_error", sa.Text),
        # Not looked at before: `due`, a retry, or the time until which a runner has claimed it.
        sa.Column("not_before", _INSTANT, nullable=False),
        sa.Index("timer_purpose_not_before", "purpose", "not_before"),
        sa.Index("timer_given_up", "purpose", postgresql_where=sa.text(f"attempts >= {TIMER_ATTEMPTS}")),
    )
    return BusTables(lease, outbox_blocked, inbox, consumer_position, consumer_switch, parked_key, parked_event, timer)


def isolate_bus() -> Iterator[str]:
    """The statements that put those tables of the bus that hold a branch's data under row-level security."""
    for table in ("parked_event", "timer"):
        yield from isolate(table)


# --- acting without a caller -----------------------------------------------------------------------------------------


@contextmanager
def acting(
    service: str,
    what: str,
    branch: str = EVERY_BRANCH,
    on_behalf_of: str | None = None,
    seconds: float | None = None,
) -> Iterator[calls.Call]:
    """Background work of a service, limited to the branch of the event or row that caused it, and to so many seconds
    for each statement (None: as many as a statement may take)."""
    call = calls.Call.background(service, what, branches=(branch,), on_behalf_of=on_behalf_of)
    deadline = None if seconds is None else time.monotonic() + seconds
    with calls.using(replace(call, deadline=deadline)) as call:
        yield call


# --- failing ---------------------------------------------------------------------------------------------------------


# What work with the database may end in, as what it means or, where the chassis has no word for it, raw. A loop that
# must go on catches them all.
DATABASE_ERRORS = (DomainError, sa.exc.SQLAlchemyError, psycopg.Error)


class NotYet(DomainError):
    """Something that the handler needs hasn't arrived here yet: the event is tried again a little later."""

    status = "FAILED_PRECONDITION"


class Kind(enum.Enum):
    """What is to be done about a failure of background work."""

    # Something that we need is down: try again for as long as it takes.
    OUTAGE = enum.auto()
    # Lost a race, too early, or too much at once, which may be its own fault: try again, but not for ever.
    LATER = enum.auto()
    # Trying again would fail again: a person must look.
    PERMANENT = enum.auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a piece of background work didn't succeed."""

    kind: Kind
    # Class, reason and message, at most 2,000 characters.
    error: str


def attempt(work: Callable[[], T]) -> T | Failure:
    """What background work returns, or why it failed: the one place where a consumer's and a timer's errors go."""
    try:
        return work()
    except (
        Unavailable,
        sa.exc.OperationalError,
        sa.exc.InterfaceError,
        sa.exc.TimeoutError,
    ) as error:
        return Failure(Kind.OUTAGE, _described(error))
    except (Aborted, DeadlineExceeded, NotYet, ResourceExhausted) as error:
        return Failure(Kind.LATER, _described(error))
    except Exception as error:
        log.exception("background work failed")
        return Failure(Kind.PERMANENT, _described(error))


def _described(error: Exception) -> str:
    reason = f" {error.reason}" if isinstance(error, DomainError) else ""
    return f"{type(error).__name__}{reason}: {error}"[:2000]
