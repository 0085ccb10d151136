"""Tables of jobs, of their content, of what they found, and of what each source's keys are here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from catalog.schema import metadata
from catalog.transfer.domain import ExportJob, File, Finding, FindingKind, ImportJob
from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate, new_id
from chassis.unit import Unit
from svyaz.catalog.v1 import transfer_pb2

import_job = aggregate_table(metadata, "import_job", ImportJob)
export_job = aggregate_table(metadata, "export_job", ExportJob)

# What is attached to an import, or what an export has written; gone with its job.
transfer_content = sa.Table(
    "transfer_content",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
import_finding = sa.Table(
    "import_finding",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("element", sa.Text, nullable=False),
    sa.Column("field", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)
# A key keeps its id for as long as the thing is there. No digest: it waits to be brought in, or was refused until now.
import_key = sa.Table(
    "import_key",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary),
    # The job that gave the id.
    sa.Column("job_id", sa.Text, nullable=False),
)

# The catalog is common to all branches, and so are the jobs that fill it.
RESOURCES: Mapping[type[Aggregate], Resource] = {
    ImportJob: Resource(transfer_pb2.ImportJob, import_job, common=True),
    ExportJob: Resource(transfer_pb2.ExportJob, export_job, common=True),
}


# --- content ---------------------------------------------------------------------------------------------------------


def keep_content(unit: Unit, job_id: str, files: Iterable[File]) -> None:
    """Keeps the files with the job."""
    for position, file in enumerate(files):
        unit.later(
            """
            INSERT INTO transfer_content (job_id, position, name, data)
            VALUES (%(job_id)s, %(position)s, %(name)s, %(data)s)
            ON CONFLICT (job_id, position) DO UPDATE SET name = excluded.name, data = excluded.data
            """,
            {"job_id": job_id, "position": position, "name": file.name, "data": file.data},
        )


def content(unit: Unit, job_id: str) -> list[File]:
    """The files that are kept with the job."""
    table = transfer_content
    rows = unit.session.execute(
        sa.select(table.c.name, table.c.data).where(table.c.job_id == job_id).order_by(table.c.position)
    )
    return [File(row.name, bytes(row.data)) for row in rows]


def piece(unit: Unit, job_id: str, offset: int, size: int) -> bytes:
    """So many bytes of the job's first file, from the offset on."""
    table = transfer_content
    data = unit.session.scalar(
        sa.select(sa.func.substr(table.c.data, offset + 1, size)).where(table.c.job_id == job_id, table.c.position == 0)
    )
    return bytes(data or b"")


def forget(unit: Unit, job_id: str) -> None:
    """Takes away what is kept with the job; what it brought in stays, under the same keys."""
    for table in (transfer_content, import_finding):
        unit.session.execute(sa.delete(table).where(table.c.job_id == job_id))


# --- findings --------------------------------------------------------------------------------------------------------


def add_findings(unit: Unit, job_id: str, findings: Sequence[Finding]) -> None:
    """Adds findings after those that there are."""
    if not findings:
        return
    table = import_finding
    last = unit.session.scalar(sa.select(sa.func.max(table.c.position)).where(table.c.job_id == job_id)) or 0
    unit.session.execute(
        sa.insert(table),
        [
            {
                "job_id": job_id,
                "position": position,
                "kind": str(one.kind),
                "code": one.code,
                "place": one.place,
                "element": one.element,
                "field": one.field,
                "reason": one.reason,
            }
            for position, one in enumerate(findings, last + 1)
        ],
    )


def findings(unit: Unit, job_id: str, kind: FindingKind | None, after: int, limit: int) -> list[tuple[int, Finding]]:
    """Position and finding, in their order."""
    table = import_finding
    wanted = [table.c.job_id == job_id, table.c.position > after]
    if kind is not None:
        wanted.append(table.c.kind == str(kind))
    rows = unit.session.execute(sa.select(table).where(*wanted).order_by(table.c.position).limit(limit))
    return [
        (
            row.position,
            Finding(
                kind=FindingKind(row.kind),
                code=row.code,
                place=row.place,
                element=row.element,
                field=row.field,
                reason=row.reason,
            ),
        )
        for row in rows
    ]


def finding_counts(unit: Unit, job_id: str) -> dict[str, int]:
    """Code → how many."""
    table = import_finding
    rows = unit.session.execute(
        sa.select(table.c.code, sa.func.count()).where(table.c.job_id == job_id).group_by(table.c.code)
    )
    return {row.code: row[1] for row in rows}


# --- keys ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What a key is here. `fresh`: this job gave the id, so nothing refers to it that the job hasn't made."""

    id: str
    digest: bytes | None
    fresh: bool


_RESERVE = sa.text("""
    INSERT INTO import_key (source, kind, key, id, job_id)
    SELECT :source, kind, key, id, :job_id
    FROM unnest(CAST(:kinds AS text[]), CAST(:keys AS text[]), CAST(:ids AS text[])) AS wanted (kind, key, id)
    ORDER BY kind, key
    ON CONFLICT DO NOTHING
""")
# Each by the primary key: joined otherwise, fifty thousand keys are compared with fifty thousand.
_KNOWN = sa.text("""
    SELECT wanted.kind, wanted.key, found.id, found.digest, found.job_id
    FROM unnest(CAST(:kinds AS text[]), CAST(:keys AS text[])) AS wanted (kind, key)
    CROSS JOIN LATERAL (
        SELECT id, digest, job_id FROM import_key
        WHERE source = :source AND kind = wanted.kind AND key = wanted.key OFFSET 0
    ) AS found
""")
_GIVE_ANEW = """
    UPDATE import_key SET id = %(id)s, digest = NULL, job_id = %(job_id)s
    WHERE source = %(source)s AND kind = %(kind)s AND key = %(key)s
"""
_NAMED = """
    SELECT key, id FROM import_key WHERE source = %(source)s AND kind = %(kind)s AND id = ANY (%(ids)s)
"""
_RENAME = """
    UPDATE import_key SET id = %(id)s WHERE source = %(source)s AND kind = %(kind)s AND key = %(key)s
"""
_DONE = """
    UPDATE import_key SET digest = %(digest)s WHERE source = %(source)s AND kind = %(kind)s AND key = %(key)s
"""


def reserve(unit: Unit, job_id: str, source: str, wanted: Mapping[tuple[str, str], str]) -> None:
    """Gives an id to each (kind, key) that has none yet."""
    parameters = {
        "source": source,
        "job_id": job_id,
        "kinds": [kind for kind, _ in wanted],
        "keys": [key for _, key in wanted],
        "ids": list(wanted.values()),
    }
    unit.session.execute(_RESERVE, parameters)


def known(unit: Unit, job_id: str, source: str, nodes: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Known]:
    """What each (kind, key) is here."""
    wanted = list(nodes)
    rows = unit.session.execute(
        _KNOWN, {"source": source, "kinds": [kind for kind, _ in wanted], "keys": [key for _, key in wanted]}
    )
    return {
        (row.kind, row.key): Known(row.id, bytes(row.digest) if row.digest is not None else None, row.job_id == job_id)
        for row in rows
    }


def give_anew(
    unit: Unit, job_id: str, source: str, gone: Mapping[tuple[str, str], Known], *, also: Mapping[str, str]
) -> None:
    """Gives other ids to keys of which nothing is here any more, and to those that had the same and are of the kind
    that goes `also` with theirs."""
    ids = {node: new_id() for node in gone}
    keys = [{"source": source, "job_id": job_id, "kind": node[0], "key": node[1], "id": ids[node]} for node in gone]
    with unit.cursor() as cursor:
        cursor.executemany(_GIVE_ANEW, keys)
        for kind, other in also.items():
            anew = {known.id: ids[node] for node, known in gone.items() if node[0] == kind}
            # All at once: there is no index by id, and there may be as many of them as elements.
            named = cursor.execute(_NAMED, {"source": source, "kind": other, "ids": list(anew)}).fetchall()
            cursor.executemany(
                _RENAME, [{"source": source, "kind": other, "key": key, "id": anew[before]} for key, before in named]
            )


def keys_of(unit: Unit, source: str, kind: str) -> set[str]:
    """All keys of the source and kind that were brought in."""
    table = import_key
    return set(
        unit.session.scalars(
            sa.select(table.c.key).where(table.c.source == source, table.c.kind == kind, table.c.digest.is_not(None))
        )
    )


def done(unit: Unit, source: str, kind: str, key: str, digest: bytes) -> None:
    """Remembers what was brought in, so that the same isn't again."""
    unit.later(_DONE, {"source": source, "kind": kind, "key": key, "digest": digest})


def existing(unit: Unit, table: sa.Table, ids: Sequence[str]) -> set[str]:
    """Those of the ids that the table has."""
    rows: Any = unit.session.scalars(sa.select(table.c.id).where(table.c.id == sa.any_(sa.cast(list(ids), _TEXTS))))
    return set(rows)


_TEXTS = sa.ARRAY(sa.Text)
