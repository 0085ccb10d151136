"""Who refers to whom: the same as in the things themselves, but found from the other end, where it must stay."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from chassis.unit import Unit

# Any constant that nobody else uses will do.
_LOCK = 7_200_411_973
_LOCKED = "SELECT pg_advisory_xact_lock(%(lock)s)"
_SHARED = "SELECT pg_advisory_xact_lock_shared(%(lock)s)"


class References:
    """A service's references. `more` says what is known of each beside its two ends and the type of who refers; what of
    it is part of the primary key tells several references between the same two apart."""

    def __init__(self, metadata: sa.MetaData, *more: sa.Column[Any] | sa.Index) -> None:
        self.table = sa.Table(
            "reference",
            metadata,
            sa.Column("referrer_id", sa.Text, primary_key=True),
            sa.Column("target_id", sa.Text, primary_key=True),
            sa.Column("referrer_type", sa.Text, nullable=False),
            *more,
        )
        self._columns = [column for column in self.table.columns if column.name != "referrer_id"]
        names = ", ".join(column.name for column in self._columns)
        arrays = ", ".join(f"%({column.name})s::{column.type.compile()}[]" for column in self._columns)
        wanted = f"unnest({arrays}) AS wanted ({names})"
        same = " AND ".join(f"wanted.{key.name} = reference.{key.name}" for key in self._columns if key.primary_key)
        self._add = f"""
            INSERT INTO reference (referrer_id, {names}) SELECT %(referrer_id)s, {names} FROM {wanted}
            ON CONFLICT DO NOTHING
        """  # noqa: S608 (names of our own columns)
        # What stays as it was isn't written.
        self._replace = f"""
            WITH gone AS (
                DELETE FROM reference WHERE referrer_id = %(referrer_id)s
                    AND NOT EXISTS (SELECT FROM {wanted} WHERE {same})
            ) {self._add}
        """  # noqa: S608

    def refer(self, unit: Unit, referrer_id: str, rows: Iterable[Mapping[str, Any]], *, new: bool = False) -> None:
        """Remembers, with the unit's next flush, what the referrer refers to now, instead of what it did before
        (nothing, when it is `new`)."""
        found = list(rows)
        if found or not new:
            unit.later(self._add if new else self._replace, self._parameters(referrer_id, found))

    def refer_now(self, unit: Unit, referrer_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """`refer` for who is about to look at the references."""
        unit.cursor().execute(self._replace, self._parameters(referrer_id, list(rows)))

    def _parameters(self, referrer_id: str, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
        return {"referrer_id": referrer_id, **{c.name: [row[c.name] for row in rows] for c in self._columns}}

    def referrers(
        self, unit: Unit, target_id: str, *conditions: sa.ColumnElement[bool], most: int | None = None
    ) -> list[tuple[str, str]]:
        """Type and id of what else refers to the target; some of them when they are more than `most`."""
        found = self.table.c
        rows = unit.session.execute(
            sa.select(found.referrer_id, found.referrer_type)
            .distinct()
            .where(found.target_id == target_id, found.referrer_id != target_id, *conditions)
            .order_by(found.referrer_id, found.referrer_type)
            .limit(most)
        )
        return [(row.referrer_type, row.referrer_id) for row in rows]


def lock_references(unit: Unit) -> None:
    """Until the end of the transaction nobody else relies on anything that may be referred to, or takes it away.

    Else one could launch an offering while another deletes its price, each having seen everything whole.
    """
    unit.cursor().execute(_LOCKED, {"lock": _LOCK})


def rely(unit: Unit, query: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The rows of a query about what is going to be referred to: it isn't taken away before the end of the transaction.

    In one round trip, and beside others who rely: only who takes something away, with `lock_references`, waits for
    them and they for him.
    """
    # A statement of its own, so that it sees what was committed while the lock was waited for.
    _, rows = unit.begin_all((_SHARED, {"lock": _LOCK}), (query, parameters))
    return list(rows)
