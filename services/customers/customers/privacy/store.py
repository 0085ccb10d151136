"""Erasures, which records each of them is about, and archives."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from chassis.erasures import erasure_table
from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from customers.privacy.domain import Erasure
from customers.schema import UnderErasure, UnderMerge, metadata, under_erasure, under_merge
from svyaz.customers.v1 import privacy_pb2

# The purpose of our timers.
ERASE = "erasePerson"

erasure = aggregate_table(
    metadata,
    "erasure",
    Erasure,
    # One for each person, however many ask.
    sa.Index("erasure_party_id", "party_id", unique=True),
)

# A record that an erasure is about; of those that aren't done yet the next steps take care.
erased_record = erasure_table(metadata)

person_export = sa.Table(
    "person_export",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("party_id", sa.Text, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("archive", sa.LargeBinary, nullable=False),
    sa.Index("person_export_party_id", "party_id"),
    sa.Index("person_export_expires_at", "expires_at"),
)

under_merge(UnderMerge.OWN, erasure, erased_record, person_export)
under_erasure(UnderErasure.KEPT, erased_record)
under_erasure(UnderErasure.DELETED, person_export, columns=("party_id",))

RESOURCES: Mapping[type[Aggregate], Resource] = {Erasure: Resource(privacy_pb2.Erasure, erasure)}
ISOLATED = (erased_record.name, person_export.name)


# --- erasures --------------------------------------------------------------------------------------------------------


def erasure_of(unit: Unit, party_id: str) -> Erasure | None:
    """The erasure of the individual, if somebody has asked for it."""
    return next(iter(unit.load(Erasure, "party_id = %(party)s", {"party": party_id})), None)


def undone(unit: Unit, erasure_id: str, most: int) -> list[tuple[str, str]]:
    """Kind and id of the next records that are to be redacted; `most` at most."""
    query = """
        SELECT kind, record_id FROM erased_record WHERE erasure_id = %(erasure)s AND NOT done
        ORDER BY record_id, kind LIMIT %(most)s
    """
    with unit.cursor() as cursor:
        return cursor.execute(query, {"erasure": erasure_id, "most": most}).fetchall()


# --- archives --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An archive, or a part of it."""

    id: str
    branch: str
    party_id: str
    created_at: datetime
    expires_at: datetime
    sha256: str
    size: int
    offset: int
    data: bytes


_KEEP = """
    INSERT INTO person_export (id, branch, party_id, created_at, expires_at, sha256, archive)
    VALUES (%(id)s, %(branch)s, %(party_id)s, %(created_at)s, %(expires_at)s, %(sha256)s, %(archive)s)
"""
_PART = """
    SELECT branch, party_id, created_at, expires_at, sha256, octet_length(archive),
        substring(archive FROM %(first)s::int FOR %(most)s::int)
    FROM person_export WHERE id = %(id)s AND expires_at > %(now)s
"""


def keep_export(unit: Unit, export: Export) -> None:
    """Keeps an archive, which `export` holds whole, with the unit's next flush."""
    values = {
        name: getattr(export, name) for name in ("id", "branch", "party_id", "created_at", "expires_at", "sha256")
    }
    unit.later(_KEEP, {**values, "archive": export.data})


def export_part(unit: Unit, id: str, offset: int, most: int) -> Export | None:
    """A part of an archive, of at most so many bytes; None when there is none that the caller may see (any more)."""
    values = {"id": id, "first": offset + 1, "most": most, "now": unit.at}
    with unit.cursor() as cursor:
        row = cursor.execute(_PART, values).fetchone()
    if row is None:
        return None
    branch, party_id, created_at, expires_at, sha256, size, data = row
    return Export(
        id=id,
        branch=branch,
        party_id=party_id,
        created_at=created_at,
        expires_at=expires_at,
        sha256=sha256,
        size=size,
        offset=offset,
        data=bytes(data),
    )


def forget_exports(unit: Unit) -> int:
    """Removes the archives whose time is over; how many these were."""
    return unit.cursor().execute("DELETE FROM person_export WHERE expires_at <= %(now)s", {"now": unit.at}).rowcount
