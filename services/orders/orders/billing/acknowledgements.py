"""What billing has booked of each chain, as it says itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from chassis.errors import Aborted
from chassis.schema import partition_of
from chassis.unit import Unit
from orders.billing.booking import Acknowledgement, Known

# What is known of the chains that are acknowledged; one that isn't there, or isn't the caller's, has no last number.
_KNOWN = sa.text(
    """
    SELECT said.number, chain.branch, coalesce(chain.last_sequence, 0) AS last_sequence,
        event.hash AS our_hash, coalesce(own.sequence, 0) AS sequence, coalesce(own.hash, '') AS hash,
        coalesce(latest.epoch, 0) AS latest_epoch
    FROM unnest(CAST(:accounts AS text[]), CAST(:epochs AS int[]), CAST(:sequences AS bigint[]))
        WITH ORDINALITY AS said(account, epoch, sequence, number)
    LEFT JOIN billing_chain AS chain ON chain.account = said.account AND chain.epoch = said.epoch
    LEFT JOIN charge_event AS event
        ON event.account = said.account AND event.epoch = said.epoch AND event.sequence = said.sequence
    LEFT JOIN billing_acknowledgement AS own ON own.account = said.account AND own.epoch = said.epoch
    LEFT JOIN LATERAL (
        SELECT epoch FROM billing_acknowledgement WHERE account = said.account ORDER BY epoch DESC LIMIT 1
    ) AS latest ON true
    ORDER BY said.number
    """
)
# The guard: what somebody else has acknowledged in the meantime leaves its row out, and the count of rows tells.
_KEEP = sa.text(
    """
    INSERT INTO billing_acknowledgement AS kept (account, epoch, branch, sequence, hash, at, by)
    SELECT account, epoch, branch, sequence, hash, :at, :by
    FROM unnest(
        CAST(:accounts AS text[]), CAST(:epochs AS int[]), CAST(:branches AS text[]), CAST(:sequences AS bigint[]),
        CAST(:hashes AS text[])
    ) AS said(account, epoch, branch, sequence, hash)
    ORDER BY account, epoch
    ON CONFLICT (account, epoch) DO UPDATE
    SET sequence = excluded.sequence, hash = excluded.hash, at = excluded.at, by = excluded.by,
        went_back_at = CASE WHEN :reason <> '' THEN excluded.at ELSE kept.went_back_at END,
        went_back_reason = CASE WHEN :reason <> '' THEN :reason ELSE kept.went_back_reason END
    WHERE kept.sequence < excluded.sequence OR :reason <> ''
    """
)
_FORGET_LATER = sa.text(
    """
    DELETE FROM billing_acknowledgement AS kept
    USING unnest(CAST(:accounts AS text[]), CAST(:epochs AS int[])) AS said(account, epoch)
    WHERE kept.account = said.account AND kept.epoch > said.epoch
    """
)
# Whatever of those accounts isn't acknowledged any more is looked at again.
_LOWER_FLOOR = sa.text(
    """
    UPDATE billing_floor AS floor SET position = least(floor.position, lowest.position - 1)
    FROM (
        SELECT event.partition, min(event.position) AS position
        FROM unnest(CAST(:accounts AS text[]), CAST(:epochs AS int[]), CAST(:sequences AS bigint[]))
            AS said(account, epoch, sequence)
        JOIN charge_event AS event ON event.account = said.account
            AND (event.epoch, event.sequence) > (said.epoch, said.sequence)
        WHERE event.position IS NOT NULL GROUP BY event.partition
    ) AS lowest
    WHERE floor.partition = lowest.partition
    """
)
_LOCK_FLOORS = sa.text("SELECT FROM billing_floor WHERE partition = ANY (:partitions) ORDER BY partition FOR UPDATE")


def known(session: Session, said: Sequence[Acknowledgement]) -> list[Known]:
    """What is known of each chain that is acknowledged."""
    rows = session.execute(
        _KNOWN,
        {
            "accounts": [one.account for one in said],
            "epochs": [one.epoch for one in said],
            "sequences": [one.sequence for one in said],
        },
    )
    return [
        Known(
            branch=row.branch or "",
            last_sequence=row.last_sequence,
            our_hash=row.our_hash or "",
            sequence=row.sequence,
            hash=row.hash,
            latest_epoch=row.latest_epoch,
        )
        for row in rows
    ]


def keep(unit: Unit, said: Sequence[tuple[Acknowledgement, Known]], *, by: str, reason: str) -> None:
    """Remembers what is news. Raises Aborted ACKNOWLEDGED_MEANWHILE when somebody else was faster."""
    if not said:
        return
    back = [one for one, before in said if before.is_back(one)]
    forward = [one for one in said if not one[1].is_back(one[0])]
    if back:
        # Before the rows, as whoever measures does.
        partitions = sorted({partition_of(one.account) for one in back})
        unit.session.execute(_LOCK_FLOORS, {"partitions": partitions})
    # In the order of the primary key, so that two who acknowledge the same wait for each other.
    for why, some in ((reason, [one for one in said if one[1].is_back(one[0])]), ("", forward)):
        if some and _written(unit, some, by, why) != len(some):
            raise Aborted("ACKNOWLEDGED_MEANWHILE", "somebody else acknowledges the same chains")
    if back:
        gone = {"accounts": [one.account for one in back], "epochs": [one.epoch for one in back]}
        unit.session.execute(_FORGET_LATER, gone)
        unit.session.execute(_LOWER_FLOOR, {**gone, "sequences": [one.sequence for one in back]})


def _written(unit: Unit, said: Sequence[tuple[Acknowledgement, Known]], by: str, reason: str) -> int:
    kept: sa.CursorResult[Any] = unit.session.execute(  # type: ignore[assignment]
        _KEEP,
        {
            "accounts": [one.account for one, _ in said],
            "epochs": [one.epoch for one, _ in said],
            "sequences": [one.sequence for one, _ in said],
            "branches": [before.branch for _, before in said],
            "hashes": [one.hash for one, _ in said],
            "at": unit.at,
            "by": by,
            "reason": reason,
        },
    )
    return kept.rowcount


# --- how far billing is behind ---------------------------------------------------------------------------------------

# As far as so many charges of each partition: the floor rises by them, and the rest is looked at next time.
_STEP = 2_000
_LAG = sa.text(
    """
    WITH looked AS MATERIALIZED (
        SELECT floor.partition, event.position, event.recorded_at,
            latest.epoch IS NOT NULL AND (event.epoch, event.sequence) <= (latest.epoch, latest.sequence) AS booked
        FROM billing_floor AS floor
        CROSS JOIN LATERAL (
            SELECT position, recorded_at, account, epoch, sequence FROM charge_event
            WHERE partition = floor.partition AND position > floor.position ORDER BY position LIMIT :step
        ) AS event
        LEFT JOIN LATERAL (
            SELECT epoch, sequence FROM billing_acknowledgement WHERE account = event.account
            ORDER BY epoch DESC LIMIT 1
        ) AS latest ON true
    )
    SELECT partition, count(*) FILTER (WHERE NOT booked) AS waiting,
        min(recorded_at) FILTER (WHERE NOT booked) AS oldest,
        coalesce(min(position) FILTER (WHERE NOT booked) - 1, max(position)) AS position
    FROM looked GROUP BY partition ORDER BY partition
    """
)
_RAISE_FLOOR = sa.text("UPDATE billing_floor SET position = :position WHERE partition = :partition")


@dataclass(frozen=True, slots=True)
class Lag:
    """Charges in a chain that billing hasn't acknowledged: how many, exact up to 2,000 of each partition, and when the
    oldest was recorded; None: there is none."""

    unacknowledged: int
    oldest: datetime | None


def lag(session: Session) -> Lag:
    """How far billing is behind; raises the floors on the way, so that it is looked for from there next time."""
    session.execute(sa.text("SELECT FROM billing_floor ORDER BY partition FOR UPDATE"))
    rows = session.execute(_LAG, {"step": _STEP}).all()
    if rows:
        session.execute(_RAISE_FLOOR, [{"position": row.position, "partition": row.partition} for row in rows])
    oldest = [row.oldest for row in rows if row.oldest is not None]
    return Lag(sum(row.waiting for row in rows), min(oldest, default=None))


# --- reading ---------------------------------------------------------------------------------------------------------

_CHAINS = sa.text(
    """
    SELECT chain.account, chain.epoch, chain.branch, chain.last_sequence, chain.last_hash,
        CASE WHEN latest.epoch > chain.epoch THEN chain.last_sequence ELSE coalesce(own.sequence, 0) END AS sequence,
        CASE WHEN latest.epoch > chain.epoch THEN chain.last_hash ELSE coalesce(own.hash, '') END AS hash,
        own.at, coalesce(own.by, '') AS by, own.went_back_at, coalesce(own.went_back_reason, '') AS went_back_reason
    FROM billing_chain AS chain
    LEFT JOIN billing_acknowledgement AS own ON own.account = chain.account AND own.epoch = chain.epoch
    LEFT JOIN LATERAL (
        SELECT epoch FROM billing_acknowledgement WHERE account = chain.account ORDER BY epoch DESC LIMIT 1
    ) AS latest ON true
    WHERE (chain.account, chain.epoch) > (:after_account, :after_epoch)
        AND (:account = '' OR chain.account = :account)
        AND (
            NOT :unacknowledged OR coalesce(latest.epoch, 0) < chain.epoch
            OR (latest.epoch = chain.epoch AND own.sequence < chain.last_sequence)
        )
    ORDER BY chain.account, chain.epoch LIMIT :limit
    """
)


def chains(
    session: Session, *, account: str, unacknowledged: bool, after: tuple[str, int], limit: int
) -> list[sa.Row[Any]]:
    """Chains with what is acknowledged of each, in the order of account and epoch."""
    return list(
        session.execute(
            _CHAINS,
            {
                "account": account,
                "unacknowledged": unacknowledged,
                "after_account": after[0],
                "after_epoch": after[1],
                "limit": limit,
            },
        )
    )
