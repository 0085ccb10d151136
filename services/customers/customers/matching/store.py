"""Under which keys parties are found, the words that occur in names, and the pairs who may be one.

What is looked for is always equal to what is stored: only that may use an index under the policies of the branches.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from threading import Lock

import sqlalchemy as sa

from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from customers.matching.domain import DuplicateCandidate, DuplicateSearch
from customers.matching.keys import Keys, Kind, filed_under
from customers.schema import UnderMerge, metadata, under_merge
from svyaz.customers.v1 import matching_pb2

_BYTES = sa.Text(collation="C")

# A key of a party, as the individual, organization or customer `source_id` says it.
party_key = sa.Table(
    "party_key",
    metadata,
    sa.Column("value", _BYTES, primary_key=True),
    sa.Column("kind", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("party_id", sa.Text, primary_key=True),
    sa.Column("source_id", sa.Text, primary_key=True),
    sa.Index("party_key_source_id", "source_id"),
)
# Where a word of names is filed. A word stays when the last who had it is gone: it says nothing of anybody.
name_word = sa.Table(
    "name_word",
    metadata,
    sa.Column("filed", _BYTES, primary_key=True),
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("word", _BYTES, primary_key=True),
)
# Parties and customers that came in bulk, as many as came at a time, whose keys are still to be written.
unindexed = sa.Table(
    "unindexed",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("source_id", sa.ARRAY(sa.Text), nullable=False),
    sa.Column("left_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Index("unindexed_branch_left_at", "branch", "left_at"),
)
duplicate_candidate = aggregate_table(
    metadata,
    "duplicate_candidate",
    DuplicateCandidate,
    sa.Index("duplicate_candidate_pair", "branch", "first_id", "second_id", unique=True),
    sa.Index("duplicate_candidate_second_id", "second_id"),
    sa.Index("duplicate_candidate_open", "branch", "state", "score"),
)
duplicate_search = aggregate_table(metadata, "duplicate_search", DuplicateSearch)

under_merge(UnderMerge.OWN, party_key, unindexed, duplicate_search)
under_merge(UnderMerge.OWN, duplicate_candidate, columns=("first_id", "second_id"))
under_merge(UnderMerge.NONE, name_word)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    DuplicateCandidate: Resource(matching_pb2.DuplicateCandidate, duplicate_candidate),
    DuplicateSearch: Resource(matching_pb2.DuplicateSearch, duplicate_search),
}
# Its stage takes what comes in bulk.
STAGED = (party_key,)
ISOLATED = (party_key.name, name_word.name, unindexed.name)

KEY_COLUMNS = ("value", "kind", "branch", "party_id", "source_id")

FORGET = "DELETE FROM party_key WHERE source_id = ANY (%(sources)s)"
_FILE = """
    INSERT INTO party_key (value, kind, branch, party_id, source_id)
    SELECT value, kind, %(branch)s, %(party_id)s, %(source_id)s
    FROM unnest(%(values)s::text[], %(kinds)s::smallint[]) AS found (value, kind)
"""
# In one order, so that two who bring the same words wait for each other instead of deadlocking.
_FILE_WORDS = """
    INSERT INTO name_word (filed, branch, word)
    SELECT filed, %(branch)s, word FROM unnest(%(filed)s::text[], %(words)s::text[]) AS found (filed, word)
    ORDER BY filed COLLATE "C", word COLLATE "C"
    ON CONFLICT DO NOTHING
"""
_REMEMBERED = 200_000


class Vocabulary:
    """The words that are known to be filed, of this process: most names have been had by somebody before."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()
        self._lock = Lock()

    def file(self, unit: Unit, branch: str, words: Iterable[str]) -> None:
        """Files those words of the branch that aren't yet, with the unit's next flush."""
        new = sorted({word for word in words if (branch, word) not in self._known})
        if not new:
            return
        filed = [(place, word) for word in new for place in filed_under(word)]
        unit.later(
            _FILE_WORDS,
            {"branch": branch, "filed": [place for place, _ in filed], "words": [word for _, word in filed]},
        )
        unit.after_commit(partial(self._learn, [(branch, word) for word in new]))

    def _learn(self, words: Sequence[tuple[str, str]]) -> None:
        with self._lock:
            if len(self._known) > _REMEMBERED:
                self._known.clear()
            self._known.update(words)


VOCABULARY = Vocabulary()


def file_keys(unit: Unit, source: Aggregate, keys: Keys, *, new: bool) -> None:
    """Makes these the keys that the aggregate says, instead of those that it said before (none, when it is `new`)."""
    if not new:
        unit.later(FORGET, {"sources": [source.id]})
    if not keys.key:
        return
    ordered = sorted(keys.key, key=lambda one: (one[1], one[0]))
    unit.later(
        _FILE,
        {
            "branch": source.branch,
            "party_id": keys.party_id,
            "source_id": source.id,
            "values": [value for _, value in ordered],
            "kinds": [int(kind) for kind, _ in ordered],
        },
    )
    VOCABULARY.file(unit, source.branch, keys.words)


def forget(unit: Unit, source_id: str) -> None:
    """Takes away what the aggregate is found under."""
    unit.later(FORGET, {"sources": [source_id]})


# --- looking up ------------------------------------------------------------------------------------------------------

# How many parties of one key are looked at; who asks for a very frequent one alone is told that there are more.
MOST_OF_A_KEY = 200
MOST_WORDS = 40
# Rows of one key and party: its own, and those of its customers. What is read of a key is bounded by this, not by how
# many have it.
_ROWS_OF_A_PARTY = 3
# How many of those who have two frequent words are put beside those who have two others.
MOST_OF_A_PAIR = 5_000

_LOOK_UP = """
    SELECT wanted.kind, wanted.value, found.branch, found.party_id
    FROM unnest(%(kinds)s::smallint[], %(values)s::text[]) AS wanted (kind, value)
    CROSS JOIN LATERAL (
        SELECT DISTINCT branch, party_id FROM (
            SELECT branch, party_id FROM party_key
            WHERE party_key.value = wanted.value AND party_key.kind = wanted.kind AND {branches}
            LIMIT %(most)s * %(rows)s
        ) AS entry
        LIMIT %(most)s
    ) AS found
    LIMIT %(in_all)s
"""
_BOTH = """
    SELECT DISTINCT branch, party_id FROM (
        SELECT branch, party_id FROM party_key
        WHERE value = ANY (%(one)s) AND kind = %(pair)s AND {branches} LIMIT %(most_each)s
    ) AS one
    INTERSECT
    SELECT branch, party_id FROM (
        SELECT branch, party_id FROM party_key
        WHERE value = ANY (%(other)s) AND kind = %(pair)s AND {branches} LIMIT %(most_each)s
    ) AS other
    LIMIT %(most)s
"""
_WORDS = """
    SELECT word FROM name_word WHERE filed = ANY (%(filed)s) AND {branches}
    GROUP BY word ORDER BY max(length(filed)) DESC, word LIMIT %(most)s
"""
_EVERY, _SOME = "true", "branch = ANY (%(branches)s)"


def _narrowed(statement: str, branches: Sequence[str] | None) -> str:
    # The policy decides; this only lets the index go by branch too.
    return statement.format(branches=_EVERY if branches is None else _SOME)


def look_up(
    unit: Unit,
    keys: Sequence[tuple[Kind, str]],
    branches: Sequence[str] | None,
    most: int = MOST_OF_A_KEY,
    *,
    in_all: int | None = None,
) -> list[tuple[Kind, str, str, str]]:
    """(kind, value, branch, party id) of those who have one of the keys, of each key at most so many; the first keys
    first, where there are more than so many `in_all`."""
    if not keys:
        return []
    with unit.cursor() as cursor:
        rows = cursor.execute(
            _narrowed(_LOOK_UP, branches),
            {
                "kinds": [int(kind) for kind, _ in keys],
                "values": [value for _, value in keys],
                "branches": list(branches or ()),
                "most": most,
                "rows": _ROWS_OF_A_PARTY,
                "in_all": in_all,
            },
        ).fetchall()
    return [(Kind(kind), value, branch, party) for kind, value, branch, party in rows]


def with_both(
    unit: Unit, one: Sequence[str], other: Sequence[str], branches: Sequence[str] | None, most: int = MOST_OF_A_KEY
) -> list[tuple[str, str]]:
    """(branch, party id) of those whose names have a pair of words of each."""
    with unit.cursor() as cursor:
        return cursor.execute(
            _narrowed(_BOTH, branches),
            {
                "one": list(one),
                "other": list(other),
                "pair": int(Kind.PAIR),
                "branches": list(branches or ()),
                "most_each": MOST_OF_A_PAIR,
                "most": most,
            },
        ).fetchall()


def words_like(unit: Unit, filed: Sequence[str], branches: Sequence[str] | None, most: int = 200) -> list[str]:
    """The words that are filed where it says, first those of which more is the same."""
    if not filed:
        return []
    with unit.cursor() as cursor:
        rows = cursor.execute(
            _narrowed(_WORDS, branches), {"filed": list(filed), "branches": list(branches or ()), "most": most}
        ).fetchall()
    return [word for (word,) in rows]


_LAST_MODEL = """
    SELECT model::text FROM duplicate_search
    WHERE branch = %(branch)s AND state = 'done' AND model IS NOT NULL ORDER BY id DESC LIMIT 1
"""


def last_model(unit: Unit, branch: str) -> str | None:
    """What the branch's last search has learned, as JSON."""
    with unit.cursor() as cursor:
        row = cursor.execute(_LAST_MODEL, {"branch": branch}).fetchone()
    return None if row is None else str(row[0])
