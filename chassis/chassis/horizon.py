"""The horizon: up to which number a table is complete.

Rows get their numbers (an identity, a sequence) in one order and are committed in another. Who goes on behind the last
number that he saw misses the row that was numbered before it and is committed after it. So he waits for those
transactions that may still have such a row.

A transaction has a number of its own before it numbers a row, and those are given out in ascending order. When a row
has been seen, whoever drew a smaller number than the row's had drawn it by then, and had his transaction's number. A
transaction's number that is taken after that, `newest`, is therefore larger than all of theirs. While one of them runs,
the oldest running transaction of any snapshot is at most that one, and below `newest`. So a snapshot whose oldest isn't
below `newest` says that all of them have ended, and whoever reads after it sees their rows.

`pg_snapshot_xmax` wouldn't do for `newest`: it comes after the last transaction that has *ended*, and one that runs may
have that number, or a larger one.
"""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

# Each look takes a transaction's number: often enough for a floor to follow, rarely enough not to use them up.
HORIZON_SECONDS = 1.0

# The row of a Horizon. The snapshot is taken before the number, and both before anything that a later statement sees.
HORIZON = """
    SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint),
        CAST(CAST(pg_current_xact_id() AS text) AS bigint)
"""
_OLDEST = sa.text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")


@dataclass(frozen=True, slots=True)
class Horizon:
    """The transactions of a moment: those numbered below `oldest` had ended, those above `newest` hadn't begun."""

    oldest: int
    newest: int


def horizon(session: Session | sa.Connection) -> Horizon:
    """The horizon of this moment, for what was seen before; ask in a transaction that hasn't written yet.

    Gives that transaction a number, as a write does, but waits for no disk. Only a primary can: no standby.
    """
    return Horizon(*session.execute(sa.text(HORIZON)).one())


def oldest_running(session: Session | sa.Connection) -> int:
    """Transactions numbered below it have ended."""
    return int(session.execute(_OLDEST).scalar_one())


class Floor:
    """Behind which number to begin to look for rows that are still to be dealt with: up to it none is left, and none
    can come."""

    def __init__(self) -> None:
        self.number = 0
        self._highest = 0
        # (`newest` of a horizon, the highest number that had been seen before it)
        self._mark: tuple[int, int] | None = None

    @property
    def may_rise(self) -> bool:
        """Whether a horizon is of any use: something has been seen above the floor."""
        return self._highest > self.number

    def looked(self, highest: int, horizon: Horizon | None, left: int | None = None) -> None:
        """A look behind the floor saw numbers up to `highest` (0: none).

        `horizon` was taken just before the look; None: it wasn't, or the look left something out. `left` is the
        smallest number that is still to be dealt with. What this look saw counts from the next horizon on: it may have
        been numbered after this one.
        """
        if horizon is not None and (self._mark is None or horizon.oldest >= self._mark[0]):
            if self._mark is not None:
                settled = self._mark[1]
                self.number = max(self.number, settled if left is None else min(settled, left - 1))
            self._mark = (horizon.newest, self._highest)
        self._highest = max(self._highest, highest)
