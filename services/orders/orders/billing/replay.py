"""Sealed charges read again from the log: of a day, of a partition, and how far the chains have come since."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from orders.billing.store import charge_event

# So many charges of each partition are looked at for the heads of their chains.
HEADS_STEP = 1_000


def of_day(
    session: Session, branch: str, start: datetime, end: datetime, after: tuple[datetime, int], limit: int
) -> list[sa.Row[Any]]:
    """Sealed charges of a branch that occurred between two instants, beyond (instant, id), in that order."""
    event = charge_event.c
    statement = (
        sa.select(charge_event)
        .where(
            event.branch == branch,
            event.occurred_at >= max(start, after[0]),
            event.occurred_at < end,
            sa.tuple_(event.occurred_at, event.id) > sa.tuple_(*(sa.literal(one) for one in after)),
            event.sequence.is_not(None),
        )
        .order_by(event.occurred_at, event.id)
        .limit(limit)
    )
    return list(session.execute(statement))


def of_partition(session: Session, partition: int, after: int, limit: int) -> list[sa.Row[Any]]:
    """Sealed charges of a partition beyond a position. What is sealed later gets a later one: one sealer at a time has
    the partition, until its transaction has ended."""
    event = charge_event.c
    statement = (
        sa.select(charge_event)
        .where(event.partition == partition, event.position > after)
        .order_by(event.position)
        .limit(limit)
    )
    return list(session.execute(statement))


# One statement, hence one snapshot: where the next look begins fits what this one has seen. It begins with the first
# charge that the stream hasn't had for long enough, so that this isn't passed over.
_HEADS = sa.text(
    """
    WITH looked AS MATERIALIZED (
        SELECT wanted.partition, event.*, coalesce(event.sent_at <= :before, false) AS settled
        FROM unnest(CAST(:partitions AS int[]), CAST(:afters AS bigint[])) AS wanted(partition, after)
        CROSS JOIN LATERAL (
            SELECT position, account, epoch, sequence, hash, sent_at FROM charge_event
            WHERE partition = wanted.partition AND position > wanted.after ORDER BY position LIMIT :step
        ) AS event
    )
    (
        SELECT DISTINCT ON (account, epoch)
            CAST(NULL AS int) AS partition, sequence AS number, account, epoch, hash, false
        FROM looked WHERE settled ORDER BY account, epoch, sequence DESC
    )
    UNION ALL
    SELECT partition, coalesce(min(position) FILTER (WHERE NOT settled) - 1, max(position)), '', 0, '',
        count(*) = :step AND bool_and(settled)
    FROM looked GROUP BY partition
    """
)


@dataclass(frozen=True, slots=True)
class Heads:
    """How far chains have come: (account, epoch, sequence, hash) of each that has grown; from where each partition is
    looked at next; and whether there is more already."""

    heads: Sequence[tuple[str, int, int, str]]
    next: Sequence[int]
    more: bool


def heads(session: Session, after: Sequence[int], before: datetime) -> Heads:
    """How far the chains have come that have grown beyond the positions, one for each partition, by what the stream has
    had since `before`."""
    rows = session.execute(
        _HEADS,
        {"partitions": list(range(len(after))), "afters": list(after), "before": before, "step": HEADS_STEP},
    ).all()
    positions = list(after)
    for row in rows:
        if row[0] is not None:
            positions[row[0]] = row[1]
    return Heads(
        heads=[(row[2], row[3], row[1], row[4]) for row in rows if row[0] is None],
        next=positions,
        more=any(row[5] for row in rows),
    )
