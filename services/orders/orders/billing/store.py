"""Charge events in PostgreSQL: written unsealed, sealed once, acknowledged once."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import psycopg
import sqlalchemy as sa
from opentelemetry.propagate import inject
from psycopg.rows import namedtuple_row
from sqlalchemy.orm import Session

from chassis import epochs
from chassis.horizon import HORIZON, Horizon
from chassis.schema import partition_of
from chassis.unit import Unit
from orders.billing.domain import Certificate, ChargeEvent, Growth, Head, Sealed, Told, Unsealed
from orders.schema import metadata

# The first key of our advisory locks (the second is the partition): any constant that nobody else uses will do.
_LOCKS = 622_001

charge_event = sa.Table(
    "charge_event",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("partition", sa.SmallInteger, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("traceparent", sa.Text),
    # Until it is sealed; then `data` says all of it.
    sa.Column("draft", sa.Text),
    sa.Column("epoch", sa.Integer),
    sa.Column("sequence", sa.BigInteger),
    sa.Column("previous_hash", sa.Text),
    sa.Column("hash", sa.Text),
    sa.Column("data", sa.LargeBinary),
    # The order of sealing: inside an account that of its sequence, which the order of `id` need not be.
    sa.Column("position", sa.BigInteger),
    sa.Column("sent_at", sa.TIMESTAMP(timezone=True)),
    sa.CheckConstraint("(draft IS NULL) = (sequence IS NOT NULL)", name="charge_event_sealed_once"),
    sa.UniqueConstraint("account", "epoch", "sequence", name="charge_event_chain"),
    sa.Index("charge_event_unsealed", "id", postgresql_where=sa.text("sequence IS NULL")),
    sa.Index(
        "charge_event_unsent",
        "position",
        unique=True,
        postgresql_where=sa.text("position IS NOT NULL AND sent_at IS NULL"),
    ),
    sa.Index("charge_event_branch_day", "branch", "occurred_at"),
    # Replays, and what a consumer compares itself with.
    sa.Index(
        "charge_event_partition_position",
        "partition",
        "position",
        postgresql_where=sa.text("position IS NOT NULL"),
    ),
)
billing_chain = sa.Table(
    "billing_chain",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
    sa.Column("last_hash", sa.Text, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
)
sa.Sequence("charge_event_position", metadata=metadata)


# What a commit wakes: the sealer, when there are new charges; the relay, when they have been sealed.
CHARGED, SEALED = "charged", "sealed"

# --- writing a charge ------------------------------------------------------------------------------------------------

_INSERT = """
    INSERT INTO charge_event (event_id, account, branch, partition, type, occurred_at, recorded_at, traceparent, draft)
    VALUES (
        %(event_id)s, %(account)s, %(branch)s, %(partition)s, %(type)s, %(occurred_at)s, %(recorded_at)s,
        %(traceparent)s, %(draft)s
    )
"""


def add_charges(unit: Unit, charges: Iterable[ChargeEvent]) -> None:
    """Writes charges in the order's transaction. They take no lock that another order could wait for: what orders them
    into chains comes after the commit."""
    carrier: dict[str, str] = {}
    inject(carrier)
    rows = [
        {
            "event_id": charge.id,
            "account": charge.account,
            "branch": charge.branch,
            "partition": partition_of(charge.account),
            "type": charge.type.value,
            "occurred_at": charge.occurred_at,
            "recorded_at": unit.at,
            "traceparent": carrier.get("traceparent"),
            "draft": charge.draft(),
        }
        for charge in charges
    ]
    if rows:
        unit.later(_INSERT, *rows)
        unit.after_commit(partial(unit.database.wake, CHARGED))


def _ask(connection: "psycopg.Connection[Any]", statement: str, parameters: Mapping[str, Any]) -> "psycopg.Cursor[Any]":
    """What sealer and relay ask all the time, by the driver: it needs a third of the time."""
    return connection.cursor(binary=True, row_factory=namedtuple_row).execute(statement, parameters, prepare=True)


# --- sealing ---------------------------------------------------------------------------------------------------------

# The setting: a sealer that stands still inside its transaction (a stopped process, a lost network) mustn't hold up its
# partitions for longer.
_LOCK = """
    WITH settings AS MATERIALIZED (
        SELECT set_config('idle_in_transaction_session_timeout', '10s', true)
    ), locked AS MATERIALIZED (
        SELECT coalesce(array_agg(p), '{}') AS partitions
        FROM settings, unnest(CAST(%(partitions)s AS int[])) AS p WHERE pg_try_advisory_xact_lock(%(locks)s, p)
    )
    SELECT partitions,
        -- Changes with every start of the server, and with every loading of a dump.
        concat(pg_postmaster_start_time(), ' ', CAST(CAST('charge_event' AS regclass) AS oid)) AS incarnation,
        -- For the questions that follow in the same round trip.
        set_config('svyaz.sealing', CAST(partitions AS text), true)
    FROM locked
    """
# An account is one branch's. A charge of another would take a number in its chain that neither branch's billing could
# account for.
_STRANGE = """
    EXISTS (SELECT FROM billing_chain AS chain WHERE chain.account = event.account AND chain.branch <> event.branch)
"""
# The present epoch is on the first row, which is there without any charge too.
_UNSEALED = f"""
    SELECT present.epoch AS present, event.id, event.account, event.branch, event.draft,
        head.epoch, head.last_sequence, head.last_hash
    FROM ({epochs.CURRENT}) AS present(epoch)
    LEFT JOIN (
        SELECT id, account, branch, draft FROM charge_event AS event
        WHERE sequence IS NULL AND id > %(after)s AND NOT {_STRANGE}
            AND partition = ANY (CAST((SELECT current_setting('svyaz.sealing')) AS int[]))
        ORDER BY id LIMIT %(limit)s
    ) AS event ON true
    LEFT JOIN LATERAL (
        SELECT epoch, last_sequence, last_hash FROM billing_chain
        WHERE account = event.account ORDER BY epoch DESC LIMIT 1
    ) AS head ON true
    ORDER BY event.id
    """  # noqa: S608 (conditions of our own)
_NEW_CHAINS = """
    INSERT INTO billing_chain (account, epoch, branch, last_sequence, last_hash, count)
    SELECT account, %(epoch)s, branch, sequence, hash, sequence
    FROM unnest(
        %(accounts)s::text[], %(branches)s::text[], %(sequences)s::bigint[], %(hashes)s::text[]
    ) AS grown(account, branch, sequence, hash)
    ON CONFLICT DO NOTHING RETURNING 1
    """
# The guard: a head that isn't where we read it leaves its row out, and the count of rows tells.
_LONGER_CHAINS = """
    UPDATE billing_chain AS chain
    SET last_sequence = grown.sequence, last_hash = grown.hash, count = chain.count + grown.sequence - grown.old
    FROM unnest(
        %(accounts)s::text[], %(olds)s::bigint[], %(sequences)s::bigint[], %(hashes)s::text[]
    ) AS grown(account, old, sequence, hash)
    WHERE chain.account = grown.account AND chain.epoch = %(epoch)s AND chain.last_sequence = grown.old
    RETURNING 1
    """
_SEAL = """
    UPDATE charge_event AS event
    SET draft = NULL, epoch = %(epoch)s, sequence = sealed.sequence, previous_hash = sealed.previous_hash,
        hash = sealed.hash, data = sealed.data, position = sealed.position
    FROM (
        -- The positions are drawn after the sort.
        SELECT key, sequence, previous_hash, hash, data, nextval('charge_event_position') AS position
        FROM unnest(
            CAST(%(keys)s AS bigint[]), CAST(%(sequences)s AS bigint[]), CAST(%(previous_hashes)s AS text[]),
            CAST(%(hashes)s AS text[]), CAST(%(data)s AS bytea[])
        ) WITH ORDINALITY AS listed(key, sequence, previous_hash, hash, data, number)
        ORDER BY number
    ) AS sealed
    WHERE event.id = sealed.key AND event.sequence IS NULL
    RETURNING 1
    """


_UNKNOWN = sa.text(
    f"""
    SELECT account, epoch, sequence, hash
    FROM unnest(
        CAST(:accounts AS text[]), CAST(:epochs AS int[]), CAST(:sequences AS bigint[]), CAST(:hashes AS text[])
    ) AS told(account, epoch, sequence, hash)
    WHERE epoch >= ({epochs.CURRENT}) AND NOT EXISTS (
        SELECT FROM charge_event AS event
        WHERE event.account = told.account AND event.epoch = told.epoch AND event.sequence = told.sequence
            AND event.hash = told.hash
    )
    ORDER BY epoch DESC, account LIMIT 1
    """  # noqa: S608
)


@dataclass(frozen=True, slots=True)
class Locked:
    """Partitions that are ours until the transaction ends. As long as `incarnation` is the same, so is the database: it
    wasn't restored."""

    partitions: Sequence[int]
    incarnation: str


def unknown(session: Session, told: Sequence[Told]) -> Told | None:
    """One of those links of the present epoch, or of a later one, that we don't have."""
    row = session.execute(
        _UNKNOWN,
        {
            "accounts": [link.account for link in told],
            "epochs": [link.epoch for link in told],
            "sequences": [link.sequence for link in told],
            "hashes": [link.hash for link in told],
        },
    ).first()
    return None if row is None else Told(*row)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Charges without a place, in the order of identity (a charge that another one caused got its number after the
    other's commit), the last link of each of their accounts that has one (whatever its epoch), and the epoch in which
    they get theirs."""

    charges: Sequence[Unsealed]
    heads: Mapping[str, Head]
    epoch: int


def take(
    unit: Unit, partitions: Sequence[int], limit: int, after: int = 0, *, taking_horizon: bool = False
) -> tuple[Locked, Waiting, Horizon | None]:
    """Takes as many of the partitions as nobody else is sealing, and what waits in them: of the oldest `limit` charges
    by identity beyond `after` that have no place yet. Those whose account is another branch's never get one, and are
    left out.

    A lock of the transaction and not a lease: it can't outlive its holder, a connection pooler can't lend it to a
    second one, and there is no time-out to get wrong. Inside a partition it makes sealing one after the other, so that
    no later charge of an account is sealed while another sealer still holds an earlier one.

    The charges are looked for once the locks are ours, so an epoch that was opened before them is seen. With
    `taking_horizon`, that of the moment before is told.
    """
    *taken, locks, rows = unit.begin_all(
        *([(HORIZON, {})] if taking_horizon else []),
        (_LOCK, {"partitions": list(partitions), "locks": _LOCKS}),
        (_UNSEALED, {"limit": limit, "after": after}),
    )
    ours, incarnation, _ = locks[0]
    return Locked(ours, incarnation), _waiting(rows), Horizon(*taken[0][0]) if taken else None


def waiting(unit: Unit, limit: int, after: int = 0) -> Waiting:
    """What waits now in the partitions that this unit has taken, and the epoch of now."""
    (rows,) = unit.begin_all((_UNSEALED, {"limit": limit, "after": after}))
    return _waiting(rows)


def _waiting(rows: Sequence[tuple[Any, ...]]) -> Waiting:
    charges: list[Unsealed] = []
    heads: dict[str, Head] = {}
    for _, key, account, branch, draft, epoch, last_sequence, last_hash in rows:
        if key is not None:
            charges.append(Unsealed(key, account, branch, draft))
        if last_hash:
            heads[account] = Head(epoch, last_sequence, last_hash)
    return Waiting(charges, heads, epoch=rows[0][0])


def save_sealed(unit: Unit, epoch: int, sealed: Sequence[Sealed], grown: Sequence[Growth]) -> None:
    """Writes a sealed batch and the new heads at the unit's end, where a head that isn't where it was read is a
    conflict."""
    # Always in one order: two sealers that meet (which the locks prevent) then wait instead of deadlocking.
    grown = sorted(grown, key=lambda growth: growth.account)
    for statement, growths in (
        (_NEW_CHAINS, [growth for growth in grown if growth.old_sequence == 0]),
        (_LONGER_CHAINS, [growth for growth in grown if growth.old_sequence > 0]),
    ):
        if growths:
            unit.later_meeting(
                len(growths),
                statement,
                {
                    "epoch": epoch,
                    "accounts": [growth.account for growth in growths],
                    "branches": [growth.branch for growth in growths],
                    "olds": [growth.old_sequence for growth in growths],
                    "sequences": [growth.head.sequence for growth in growths],
                    "hashes": [growth.head.hash for growth in growths],
                },
            )
    unit.later_meeting(
        len(sealed),
        _SEAL,
        {
            "epoch": epoch,
            "keys": [event.key for event in sealed],
            "sequences": [event.sequence for event in sealed],
            "previous_hashes": [event.previous_hash for event in sealed],
            "hashes": [event.hash for event in sealed],
            "data": [event.data for event in sealed],
        },
    )


# --- sending ---------------------------------------------------------------------------------------------------------


_UNSENT = """
    SELECT position, event_id, account, branch, partition, type, occurred_at, traceparent, epoch, sequence,
        previous_hash, hash, data
    FROM charge_event
    WHERE position IS NOT NULL AND sent_at IS NULL AND position > %(after)s
        AND position <> ALL (CAST(%(known)s AS bigint[])) AND account <> ALL (CAST(%(held)s AS text[]))
    ORDER BY position LIMIT %(limit)s
    """


def unsent(
    connection: "psycopg.Connection[Any]", limit: int, after: int, known: Collection[int], held: Collection[str]
) -> "psycopg.Cursor[Any]":
    """Sealed events that the stream hasn't acknowledged, in the order of sealing, but those in `known` and those of the
    accounts in `held`."""
    parameters = {"after": after, "known": list(known), "held": list(held), "limit": limit}
    return _ask(connection, _UNSENT, parameters)


_SENT = "UPDATE charge_event SET sent_at = %(at)s WHERE position = ANY (%(positions)s::bigint[]) AND sent_at IS NULL"


def mark_sent(connection: "psycopg.Connection[Any]", positions: Sequence[int], at: datetime) -> None:
    """Remembers that the stream has the events."""
    _ask(connection, _SENT, {"positions": list(positions), "at": at})


@dataclass(frozen=True, slots=True)
class Backlog:
    """What billing hasn't got yet, exact up to 100,000 each. `oldest` is when the oldest was recorded; None: there is
    none. `strange`: those unsealed ones whose account is another branch's."""

    unsealed: int
    unsent: int
    oldest: datetime | None
    strange: int


_BACKLOG = sa.text(
    f"""
    SELECT count(*) FILTER (WHERE unsealed) AS unsealed, count(*) FILTER (WHERE NOT unsealed) AS unsent,
        min(recorded_at) AS oldest, count(*) FILTER (WHERE strange) AS strange
    FROM (
        (
            SELECT true AS unsealed, recorded_at, {_STRANGE} AS strange FROM charge_event AS event
            WHERE sequence IS NULL ORDER BY id LIMIT 100000
        )
        UNION ALL
        (
            SELECT false, recorded_at, false FROM charge_event WHERE position IS NOT NULL AND sent_at IS NULL
            ORDER BY position LIMIT 100000
        )
    ) AS waiting
    """  # noqa: S608 (a condition of our own)
)


def backlog(session: Session) -> Backlog:
    """Counts what waits."""
    row = session.execute(_BACKLOG).one()
    return Backlog(row.unsealed, row.unsent, row.oldest, row.strange)


# --- reading ---------------------------------------------------------------------------------------------------------


def events(session: Session, account: str, epoch: int, first: int, limit: int) -> list[sa.Row[Any]]:
    """Sealed events of one chain from a sequence on."""
    event = charge_event
    statement = (
        sa.select(event)
        .where(event.c.account == account, event.c.epoch == epoch, event.c.sequence >= first)
        .order_by(event.c.sequence)
        .limit(limit)
    )
    return list(session.execute(statement))


# One statement, hence one snapshot: no event is counted twice or not at all while the sealer is at work.
_CHAINS = sa.text(
    """
    SELECT CAST(:account AS text) AS account, epoch, CAST(sum(count) AS bigint) AS count,
        CASE WHEN sum(count) > 0 THEN 1 ELSE 0 END AS first_sequence, max(last_sequence) AS last_sequence,
        max(last_hash) AS last_hash, CAST(sum(unsealed) AS bigint) AS unsealed, CAST(sum(unsent) AS bigint) AS unsent,
        CAST(sum(unacknowledged) AS bigint) AS unacknowledged
    FROM (
        SELECT chain.epoch, count, last_sequence, last_hash, 0 AS unsealed, 0 AS unsent,
            CASE
                WHEN booked.epoch > chain.epoch THEN 0
                WHEN booked.epoch = chain.epoch THEN last_sequence - booked.sequence
                ELSE last_sequence
            END AS unacknowledged
        FROM billing_chain AS chain
        LEFT JOIN LATERAL (
            SELECT epoch, sequence FROM billing_acknowledgement WHERE account = :account ORDER BY epoch DESC LIMIT 1
        ) AS booked ON true
        WHERE chain.account = :account
        UNION ALL
        SELECT :present, 0, 0, '', count(*), 0, 0
        -- Without an epoch there is no sequence; as the second column of the chain's index it leads straight to them.
        FROM charge_event WHERE account = :account AND epoch IS NULL AND sequence IS NULL HAVING count(*) > 0
        UNION ALL
        SELECT epoch, 0, 0, '', 0, count(*), 0
        FROM charge_event WHERE account = :account AND position IS NOT NULL AND sent_at IS NULL GROUP BY epoch
    ) AS part
    GROUP BY epoch ORDER BY epoch
    """
)
_DAY = sa.text(
    """
    SELECT account, coalesce(epoch, :epoch) AS epoch, count(sequence) AS count,
        coalesce(min(sequence), 0) AS first_sequence, coalesce(max(sequence), 0) AS last_sequence,
        coalesce((array_agg(hash ORDER BY sequence DESC) FILTER (WHERE sequence IS NOT NULL))[1], '') AS last_hash,
        count(*) FILTER (WHERE sequence IS NULL) AS unsealed,
        count(*) FILTER (WHERE position IS NOT NULL AND sent_at IS NULL) AS unsent,
        count(*) FILTER (
            WHERE sequence IS NOT NULL AND (booked_epoch IS NULL OR (epoch, sequence) > (booked_epoch, booked_sequence))
        ) AS unacknowledged
    FROM charge_event
    LEFT JOIN LATERAL (
        SELECT booked.epoch AS booked_epoch, booked.sequence AS booked_sequence FROM billing_acknowledgement AS booked
        WHERE booked.account = charge_event.account ORDER BY booked.epoch DESC LIMIT 1
    ) AS booked ON true
    WHERE branch = :branch AND occurred_at >= :start AND occurred_at < :end
        AND (CAST(:account AS text) = '' OR account = :account) AND account >= :after_account
    GROUP BY account, coalesce(epoch, :epoch)
    HAVING (account, coalesce(epoch, :epoch)) > (:after_account, :after_epoch)
    ORDER BY account, 2 LIMIT :limit
    """
)


def chain_certificates(session: Session, account: str) -> list[Certificate]:
    """How far the chains of an account have come, one per epoch; what is unsealed counts for the present epoch."""
    rows = session.execute(_CHAINS, {"account": account, "present": epochs.current(session)})
    return [Certificate(**row._mapping) for row in rows]


def day_certificates(
    session: Session,
    branch: str,
    start: datetime,
    end: datetime,
    *,
    account: str = "",
    after: tuple[str, int] = ("", 0),
    limit: int,
) -> list[Certificate]:
    """The charges of a branch (or of one account) that occurred between two instants, one per account and epoch in
    this order: the first `limit` beyond `after`."""
    parameters = {
        "branch": branch,
        "start": start,
        "end": end,
        "account": account,
        "epoch": epochs.current(session),
        "after_account": after[0],
        "after_epoch": after[1],
        "limit": limit,
    }
    return [Certificate(**row._mapping) for row in session.execute(_DAY, parameters)]
