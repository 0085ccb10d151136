"""Epochs of a log. A database that was restored from a backup has forgotten what others have seen of it; in its next
epoch nobody takes what happens from then on for what was lost."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from chassis.cloudevents import FIRST_EPOCH

# Also for statements that have other things to ask.
CURRENT = f"SELECT coalesce(max(epoch), {FIRST_EPOCH}) FROM log_epoch"  # noqa: S608
_OPEN = sa.text("INSERT INTO log_epoch (epoch, opened_at, reason) VALUES (:epoch, :at, :reason)")
# By position, so that what refers to something comes after it.
_ANNOUNCE = sa.text(
    """
    INSERT INTO outbox (event_id, event_time, ordering_key)
    SELECT id, time, ordering_key FROM (
        SELECT DISTINCT ON (aggregate_id) id, time, ordering_key, position FROM event
        ORDER BY aggregate_id, version DESC
    ) AS last ORDER BY position
    """
)


def current(session: Session) -> int:
    """The epoch in which the log grows now."""
    return int(session.execute(sa.text(CURRENT)).scalar_one())


def open_next(session: Session, reason: str, at: datetime, *, beyond: int = 0) -> int:
    """Opens the next epoch, later than `beyond`, and returns its number. Of two at once one is Aborted CONFLICT."""
    number = max(current(session), beyond) + 1
    session.execute(_OPEN, {"epoch": number, "at": at, "reason": reason})
    return number


def announce(session: Session) -> int:
    """Sends the last event of every aggregate once more; returns how many that are. In a new epoch, everybody who has
    seen something else takes the aggregate back to it."""
    sent: sa.CursorResult[tuple[()]] = session.execute(_ANNOUNCE)  # type: ignore[assignment]
    return sent.rowcount
