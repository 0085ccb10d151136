"""Every version of everything that is known about a customer, and the questions asked of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from chassis import calls
from chassis.db import Database
from chassis.reading import Note
from chassis.unit import Unit
from customers.identity.store import members_at, members_sql
from customers.schema import UnderErasure, UnderMerge, metadata, under_erasure, under_merge

view_item = sa.Table(
    "view_item",
    metadata,
    # The type and the id of the aggregate.
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    # The customer (or the party that it is) whom it is about, or to whom it is shown besides; '': nobody.
    sa.Column("subject_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    # When the version was recorded, and when the next one was; NULL: it is the latest.
    sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("replaced_at", sa.TIMESTAMP(timezone=True)),
    # Since when it is so, by its own account or else since the item was first recorded.
    sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("open", sa.Boolean, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    # Further subjects that belong to the same customer.
    sa.Column("refers", sa.ARRAY(sa.Text), nullable=False),
    # The entity as its event has it.
    sa.Column("data", sa.LargeBinary, nullable=False),
    # When it was last heard of, by the database's clock: a rebuilding removes what it hasn't met.
    sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
    # What is shown first comes first.
    sa.Index(
        "view_item_latest",
        "subject_id",
        "kind",
        "open",
        "since",
        "item_id",
        postgresql_where=sa.text("replaced_at IS NULL AND NOT deleted"),
    ),
    sa.Index("view_item_subject_id", "subject_id", "kind", "recorded_at"),
    sa.Index("view_item_seen_at", "seen_at"),
)
under_merge(UnderMerge.BY_MEMBERS, view_item, columns=("subject_id",))
under_erasure(UnderErasure.REDACTED, view_item, columns=("subject_id",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What an event tells: an item as it is from then on."""

    kind: str
    item_id: str
    version: int
    branch: str
    recorded_at: datetime
    since: datetime | None
    open: bool
    deleted: bool
    subjects: Sequence[str]
    refers: Sequence[str]
    data: bytes


# --- what is heard ---------------------------------------------------------------------------------------------------

# The versions of a log that was lost with its database, before what the restored one says from here on.
_FORGET_LOST = """
    DELETE FROM view_item WHERE kind = %(kind)s AND item_id = %(item_id)s AND version >= %(version)s
"""
# Versions may be heard again, in any order: each knows its successor by what is there.
_KEEP = """
    INSERT INTO view_item (kind, item_id, version, subject_id, branch, recorded_at, replaced_at, since, open, deleted,
        refers, data, seen_at)
    SELECT %(kind)s, %(item_id)s, %(version)s, subject.id, %(branch)s, %(recorded_at)s,
        (
            SELECT min(later.recorded_at) FROM view_item later
            WHERE later.kind = %(kind)s AND later.item_id = %(item_id)s AND later.version > %(version)s
        ),
        coalesce(
            %(since)s,
            (
                SELECT min(earlier.recorded_at) FROM view_item earlier
                WHERE earlier.kind = %(kind)s AND earlier.item_id = %(item_id)s AND earlier.version < %(version)s
            ),
            %(recorded_at)s
        ),
        %(open)s, %(deleted)s, %(refers)s, %(data)s, now()
    FROM unnest(%(subjects)s::text[]) AS subject (id)
    ON CONFLICT (kind, item_id, version, subject_id) DO UPDATE SET
        branch = excluded.branch, recorded_at = excluded.recorded_at, replaced_at = excluded.replaced_at,
        since = excluded.since, open = excluded.open, deleted = excluded.deleted, refers = excluded.refers,
        data = excluded.data, seen_at = excluded.seen_at
"""
_REPLACE = """
    UPDATE view_item SET replaced_at = %(recorded_at)s
    WHERE kind = %(kind)s AND item_id = %(item_id)s AND version < %(version)s
        AND (replaced_at IS NULL OR replaced_at > %(recorded_at)s)
"""


def keep(unit: Unit, found: Version, *, epoch_began: bool = False) -> None:
    """Keeps a version, with the unit's next flush; hearing it again changes nothing.

    `epoch_began`: the log was restored from a backup, so that what is known beyond this version isn't so any more.
    """
    values = {
        "kind": found.kind,
        "item_id": found.item_id,
        "version": found.version,
        "branch": found.branch,
        "recorded_at": found.recorded_at,
        "since": found.since,
        "open": found.open,
        "deleted": found.deleted,
        # What is about nobody is kept as such: its next version may be about somebody.
        "subjects": sorted({subject for subject in found.subjects if subject}) or [""],
        "refers": sorted({subject for subject in found.refers if subject}),
        "data": found.data,
    }
    if epoch_began:
        unit.later(_FORGET_LOST, values)
    unit.later(_KEEP, values)
    if found.version > 1:
        unit.later(_REPLACE, values)


def began(unit: Unit) -> datetime:
    """The present by which `forget_unseen` goes: replicas have clocks of their own, the database has one."""
    row = unit.cursor().execute("SELECT now()").fetchone()
    assert row is not None
    instant: datetime = row[0]
    return instant


def forget_unseen(unit: Unit, since: datetime) -> int:
    """Removes, of the caller's branches, what hasn't been heard of since the instant; how many versions these were."""
    return unit.cursor().execute("DELETE FROM view_item WHERE seen_at < %(since)s", {"since": since}).rowcount


# --- what is asked ---------------------------------------------------------------------------------------------------

CUSTOMER = "Customer"
# A usual customer's items are fewer: these are found by one look at one index.
FEW = 200

# What is about the party that the customer is is about him, and what is about something that either of them has (a
# membership, an agreement); what is about an order too, but nothing of the orders that aren't shown.
_SUBJECT = """
    party AS MATERIALIZED (
        SELECT unnest(SAME) AS id
        UNION
        SELECT unnest(v.refers) FROM view_item v WHERE v.subject_id = ANY (SAME) AND v.kind = 'Customer' AND VALID
    ), own AS MATERIALIZED (
        SELECT id FROM party
        UNION
        SELECT unnest(v.refers) FROM view_item v
        WHERE v.subject_id = ANY (ARRAY(SELECT id FROM party)) AND v.kind = ANY (REFERRING) AND VALID
    ), subject AS MATERIALIZED (
        SELECT id FROM own
        UNION
        SELECT v.item_id FROM own CROSS JOIN LATERAL (
            SELECT v.item_id FROM view_item v WHERE v.subject_id = own.id AND v.kind = 'ProductOrder' AND VALID
            ORDER BY v.open DESC, v.since DESC, v.item_id DESC LIMIT MOST
        ) AS v
    )
"""
_LATEST = "v.replaced_at IS NULL AND NOT v.deleted"
# As it had been recorded by then; or also what was recorded later and tells that it was so before.
_THEN = """
    NOT v.deleted AND (
        v.recorded_at <= %(at)s AND (v.replaced_at IS NULL OR v.replaced_at > %(at)s)
        OR %(as_known_now)s AND v.version = 1 AND v.recorded_at > %(at)s AND v.since <= %(at)s
    )
"""
_ITEM = "v.kind, v.item_id, v.open, v.since, v.data, v.subject_id = v.item_id AS own, v.branch"
_FOUND = "SELECT kind, item_id, open, since, data, own FROM found"
_ALL = f"""
    , {_SUBJECT}, found AS (
        SELECT {_ITEM} FROM view_item v WHERE v.subject_id = ANY (ARRAY(SELECT id FROM subject)) AND VALID
        LIMIT {FEW + 1}
    ) NOTED {_FOUND}
"""  # noqa: S608 (constants of our own)
_SOME = f"""
    , {_SUBJECT}, found AS (
        SELECT v.* FROM subject
        CROSS JOIN unnest(KINDS) AS wanted (kind)
        CROSS JOIN LATERAL (
            SELECT {_ITEM} FROM view_item v WHERE v.subject_id = subject.id AND v.kind = wanted.kind AND VALID
            ORDER BY v.open DESC, v.since DESC, v.item_id DESC LIMIT MOST
        ) AS v
    ) NOTED {_FOUND}
"""  # noqa: S608
_MEMBERS = members_sql("(WANTED)[1]")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is known about a customer."""

    kind: str
    id: str
    open: bool
    since: datetime
    data: bytes
    # Whether it is the very thing that was asked about.
    own: bool = False


@dataclass(frozen=True, slots=True)
class Kinds:
    """What is looked for: the kinds of things, those of them that belong to the customer's other things, and how many
    of each at least."""

    every: Iterable[str]
    referring: Iterable[str]
    most: int


def latest(database: Database, customer_id: str, kinds: Kinds, note: Note | None) -> list[Item]:
    """What is known now of the customer, under all of its ids; of each kind at least the first ones, in no order.

    `note` keeps note of who reads it, by `found`'s kind and branch, when the customer himself is among it.
    """
    rows = database.rows(_filled(_ALL, _LATEST, kinds).replace("SAME", _MEMBERS), [customer_id], note)
    if len(rows) > FEW:
        noted = any(row[0] == CUSTOMER for row in rows)
        query = _filled(_SOME, _LATEST, kinds).replace("SAME", _MEMBERS)
        rows = database.rows(query, [customer_id], None if noted else note)
    if note is not None and any(row[0] == CUSTOMER for row in rows):
        calls.current().noted.add(customer_id)
    return _items(rows)


def then(unit: Unit, customer_id: str, kinds: Kinds, at: datetime, *, as_known_then: bool) -> list[Item]:
    """The same as it was at the instant, for the customer as whom the merges of then make him."""
    query = (
        _filled(_SOME, _THEN, kinds).replace("SAME", "%(ids)s::text[]").replace("NOTED", "").strip().removeprefix(",")
    )
    with unit.cursor() as cursor:
        values = {"ids": list(members_at(unit, customer_id, at)), "at": at, "as_known_now": not as_known_then}
        return _items(cursor.execute(f"WITH {query}", values).fetchall())


def _filled(query: str, valid: str, kinds: Kinds) -> str:
    for word, names in (("KINDS", kinds.every), ("REFERRING", kinds.referring)):
        query = query.replace(word, "ARRAY[" + ", ".join(f"'{kind}'" for kind in sorted(names)) + "]")
    return query.replace("VALID", valid).replace("MOST", str(kinds.most))


def _items(rows: Iterable[Sequence[object]]) -> list[Item]:
    """Each once, however many of the subjects it is about."""
    found = {(row[0], row[1], row[5]): row for row in rows}
    return [Item(*row) for row in found.values()]  # type: ignore[arg-type]
