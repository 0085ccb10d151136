"""The tables of documents and of what is in them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from customers.document.domain import Document, DocumentSpecification
from customers.schema import UnderErasure, UnderMerge, metadata, under_erasure, under_merge
from svyaz.customers.v1 import document_pb2

document = aggregate_table(metadata, "document", Document)
document_specification = aggregate_table(metadata, "document_specification", DocumentSpecification)

# What the object store holds, or is about to hold. The hashes of its blocks (of 2 MiB, each 32 bytes) in a row: a piece
# is checked without reading the whole.
kept_content = sa.Table(
    "kept_content",
    metadata,
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("content_hash", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("block_hashes", sa.LargeBinary, nullable=False),
)
# Which document has which content in it: what has a row here isn't swept.
content_use = sa.Table(
    "content_use",
    metadata,
    sa.Column("document_id", sa.Text, primary_key=True),
    sa.Column("content_hash", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Index("content_use_branch_content_hash", "branch", "content_hash"),
)
# Pieces of what is being uploaded; at position -1, when that is finished, the hash of the whole.
content_upload = sa.Table(
    "content_upload",
    metadata,
    sa.Column("upload_key", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

under_merge(UnderMerge.BY_MEMBERS, document, columns=("related_party", "related_entity"))
under_merge(UnderMerge.BY_MEMBERS, document_specification, columns=("related_party",))
under_merge(UnderMerge.NONE, kept_content, content_use, content_upload)
# A content goes with its last use; what is uploaded becomes one, or goes by itself.
under_erasure(UnderErasure.DELETED, content_use, columns=("document_id",))
under_erasure(UnderErasure.EXPIRES, kept_content, content_upload)

ISOLATED = (kept_content.name, content_use.name, content_upload.name)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    Document: Resource(document_pb2.Document, document),
    DocumentSpecification: Resource(document_pb2.DocumentSpecification, document_specification),
}

HASH_BYTES = 32
_FINISHED = -1


class Kept(NamedTuple):
    """A content that the object store holds."""

    content_hash: str
    size: int
    block_hashes: bytes


# --- contents --------------------------------------------------------------------------------------------------------

# An update that changes nothing: it waits for the sweeper, where DO NOTHING would go by the row that he is deleting.
_KEEP = """
    INSERT INTO kept_content (branch, content_hash, size, block_hashes)
    VALUES (%(branch)s, %(content_hash)s, %(size)s, %(block_hashes)s)
    ON CONFLICT (branch, content_hash) DO UPDATE SET size = excluded.size
"""
_KEPT = """
    SELECT content_hash, size, block_hashes FROM kept_content
    WHERE branch = %(branch)s AND content_hash = ANY (%(hashes)s) ORDER BY content_hash
"""


def keep(unit: Unit, branch: str, content: Kept) -> None:
    """Says, with the unit's next flush, that the content is kept; the same again changes nothing."""
    unit.later(_KEEP, {"branch": branch, **content._asdict()})


def kept(unit: Unit, branch: str, hashes: Iterable[str]) -> dict[str, Kept]:
    """Those of the contents that are kept."""
    return _kept(unit, _KEPT, branch, hashes)


def hold(unit: Unit, branch: str, hashes: Iterable[str]) -> dict[str, Kept]:
    """`kept`; none of them is swept before the end of the transaction."""
    return _kept(unit, f"{_KEPT} FOR SHARE", branch, hashes)


def seize(unit: Unit, branch: str, content_hash: str) -> bool:
    """Whether the content is kept; nobody else begins to use it before the end of the transaction."""
    return bool(_kept(unit, f"{_KEPT} FOR UPDATE", branch, [content_hash]))


def _kept(unit: Unit, query: str, branch: str, hashes: Iterable[str]) -> dict[str, Kept]:
    wanted = list(hashes)
    if not wanted:
        return {}
    with unit.cursor() as cursor:
        rows = cursor.execute(query, {"branch": branch, "hashes": wanted}).fetchall()
    return {row[0]: Kept(row[0], row[1], bytes(row[2])) for row in rows}


def forget(unit: Unit, branch: str, content_hash: str) -> None:
    """The content isn't kept any more."""
    unit.later(
        "DELETE FROM kept_content WHERE branch = %(branch)s AND content_hash = %(content_hash)s",
        {"branch": branch, "content_hash": content_hash},
    )


_USED = "SELECT 1 FROM content_use WHERE branch = %(branch)s AND content_hash = %(content_hash)s LIMIT 1"
_USED_BY = "SELECT content_hash FROM content_use WHERE document_id = %(document_id)s"
_USE = """
    INSERT INTO content_use (document_id, content_hash, branch)
    VALUES (%(document_id)s, %(content_hash)s, %(branch)s) ON CONFLICT DO NOTHING
"""
_DROP = "DELETE FROM content_use WHERE document_id = %(document_id)s AND content_hash = %(content_hash)s"


def used(unit: Unit, branch: str, content_hash: str) -> bool:
    """Whether some document has the content in it."""
    with unit.cursor() as cursor:
        found = cursor.execute(_USED, {"branch": branch, "content_hash": content_hash}).fetchone()
    return found is not None


def used_by(unit: Unit, document_id: str) -> frozenset[str]:
    """The contents that the document had in it until now."""
    with unit.cursor() as cursor:
        return frozenset(row[0] for row in cursor.execute(_USED_BY, {"document_id": document_id}))


def use(unit: Unit, document: Document, added: Iterable[str], dropped: Iterable[str]) -> None:
    """Remembers which contents the document begins and ceases to have in it."""
    for statement, hashes in ((_USE, added), (_DROP, dropped)):
        for content_hash in sorted(hashes):
            parameters = {"document_id": document.id, "content_hash": content_hash, "branch": document.branch}
            unit.later(statement, parameters)


# --- uploads ---------------------------------------------------------------------------------------------------------

_PUT_PIECE = """
    INSERT INTO content_upload (upload_key, position, branch, data)
    VALUES (%(key)s, %(position)s, %(branch)s, %(data)s)
    ON CONFLICT (upload_key, position) DO UPDATE SET data = excluded.data
"""
_SIZES = """
    SELECT position, length(data) FROM content_upload WHERE upload_key = %(key)s AND position >= 0 ORDER BY position
"""
_PIECE = "SELECT data FROM content_upload WHERE upload_key = %(key)s AND position = %(position)s"
_REMOVE = "DELETE FROM content_upload WHERE upload_key = %(key)s"


def put_piece(unit: Unit, key: str, position: int, branch: str, data: bytes) -> None:
    """Keeps a piece of an upload, instead of one that came before in its place."""
    parameters = {"key": key, "position": position, "branch": branch, "data": data}
    unit.cursor().execute(_PUT_PIECE, parameters)


def piece_sizes(unit: Unit, key: str) -> Sequence[tuple[int, int]]:
    """Position and size (bytes) of each piece, in order."""
    with unit.cursor() as cursor:
        return [(row[0], row[1]) for row in cursor.execute(_SIZES, {"key": key})]


def piece(unit: Unit, key: str, position: int) -> bytes | None:
    """A piece of an upload, None when it isn't there."""
    with unit.cursor() as cursor:
        row = cursor.execute(_PIECE, {"key": key, "position": position}).fetchone()
    return None if row is None else bytes(row[0])


def finished(unit: Unit, key: str) -> str | None:
    """The hash of an upload that is finished."""
    found = piece(unit, key, _FINISHED)
    return None if found is None else found.hex()


def finish(unit: Unit, key: str, branch: str, content_hash: str) -> None:
    """The pieces aren't needed any more; who asks again is told the same."""
    remove_upload(unit, key)
    put_piece(unit, key, _FINISHED, branch, bytes.fromhex(content_hash))


def remove_upload(unit: Unit, key: str) -> None:
    """Forgets an upload."""
    unit.cursor().execute(_REMOVE, {"key": key})
