"""The tables of interactions: each of them, and its place on the timeline with the text by which it is found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR

from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from customers.interaction.domain import PartyInteraction, texts
from customers.interaction.numbers import index_words
from customers.interaction.wording import END, GAP, HIT, Wanted, folded
from customers.party import store as party
from customers.schema import UnderErasure, UnderMerge, metadata, under_erasure, under_merge
from svyaz.customers.v1 import interaction_pb2

party_interaction = aggregate_table(metadata, "party_interaction", PartyInteraction)

# Of which branch it is stands in the index too: one look finds what is in both, however many other branches have the
# same words. Of letters and digits alone, it is no word that anybody can have written.
_SEARCH = (
    "to_tsvector('russian'::regconfig, folded) || array_to_tsvector(numbers)"
    " || array_to_tsvector(ARRAY['branch' || md5(branch)])"
)
# One row for each interaction, kept with it: where it is on whose timeline, and what is in it.
timeline_entry = sa.Table(
    "timeline_entry",
    metadata,
    sa.Column("interaction_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("customer_id", sa.Text),
    sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("planned", sa.Boolean, nullable=False),
    sa.Column("channel", ARRAY(sa.Text), nullable=False),
    sa.Column("direction", sa.Text, nullable=False),
    sa.Column("owner", sa.Text),
    # All its texts, in small letters; and the numbers in them, from the last digit to the first.
    sa.Column("folded", sa.Text, nullable=False),
    sa.Column("numbers", ARRAY(sa.Text), nullable=False),
    # PostgreSQL's configuration `russian` stems Latin words as English ones.
    sa.Column("search", TSVECTOR, sa.Computed(_SEARCH, persisted=True)),
    sa.Index("timeline_entry_customer_id", "customer_id", "planned", "at", "interaction_id"),
    sa.Index(
        "timeline_entry_of_nobody",
        "branch",
        "planned",
        "at",
        "interaction_id",
        postgresql_where=sa.text("customer_id IS NULL"),
    ),
    sa.Index("timeline_entry_owner", "branch", "owner", "interaction_id", postgresql_where=sa.text("planned")),
    sa.Index("timeline_entry_search", "search", postgresql_using="gin"),
)
under_merge(UnderMerge.BY_MEMBERS, party_interaction, columns=("related_party",))
under_merge(UnderMerge.BY_MEMBERS, timeline_entry, columns=("customer_id",))
# It is what is searched: the interaction itself stays, without its words.
under_erasure(UnderErasure.DELETED, timeline_entry, columns=("interaction_id",))

RESOURCES: Mapping[type[Aggregate], Resource] = {
    PartyInteraction: Resource(interaction_pb2.PartyInteraction, party_interaction)
}
ISOLATED = (party_interaction.name, timeline_entry.name)

_KEEP = """
    INSERT INTO timeline_entry (interaction_id, branch, customer_id, at, planned, channel, direction, owner, folded,
        numbers)
    VALUES (%(interaction_id)s, %(branch)s, %(customer_id)s, %(at)s, %(planned)s, %(channel)s, %(direction)s, %(owner)s,
        %(folded)s, %(numbers)s)
    ON CONFLICT (interaction_id) DO UPDATE SET
        customer_id = excluded.customer_id, at = excluded.at, planned = excluded.planned, channel = excluded.channel,
        direction = excluded.direction, owner = excluded.owner, folded = excluded.folded, numbers = excluded.numbers
"""
_FORGET = "DELETE FROM timeline_entry WHERE interaction_id = %(interaction_id)s"

# A branch → the country (ISO 3166-1) whose national telephone numbers its texts have.
RegionOf = Callable[[str], str]


class Timeline:
    """Keeps, with each interaction, its entry: in the same transaction, whoever saves it."""

    def __init__(self, region_of: RegionOf) -> None:
        self._region_of = region_of

    def keep(self, unit: Unit, interaction: PartyInteraction) -> None:
        """Puts a new or changed interaction where it belongs now."""
        text = text_of(interaction)
        unit.later(
            _KEEP,
            {
                "interaction_id": interaction.id,
                "branch": interaction.branch,
                "customer_id": interaction.customer_id,
                "at": interaction.at,
                "planned": interaction.planned,
                "channel": [name for channel in interaction.channel for name in (channel.id, channel.name) if name],
                "direction": interaction.direction or "",
                "owner": interaction.owner,
                "folded": folded(text),
                "numbers": index_words(text, self._region_of(interaction.branch)),
            },
        )

    def record(self, unit: Unit, interaction: PartyInteraction) -> None:
        """Saves an interaction that something of our own has had with a customer."""
        interaction.check(unit.at)
        unit.add(interaction)
        party.remember(unit, interaction, new=True)
        self.keep(unit, interaction)

    @staticmethod
    def forget(unit: Unit, interaction: PartyInteraction) -> None:
        """Takes a deleted one away."""
        unit.later(_FORGET, {"interaction_id": interaction.id})


def text_of(interaction: PartyInteraction) -> str:
    """All its texts; a paragraph each."""
    return "\n".join(texts(interaction))


# --- the timeline ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """An interaction's place on a timeline."""

    interaction_id: str
    branch: str
    at: datetime
    planned: bool
    owner: str | None


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose timeline: that of all ids of a customer, or what a branch has said with people who aren't known."""

    members: Sequence[str] = ()
    branch: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """What part of a timeline is wanted: from an instant (included) to another (excluded), on some channels, in one
    direction; empty and None: whatever there is."""

    since: datetime | None = None
    until: datetime | None = None
    channel: Sequence[str] = ()
    direction: str = ""


# A look for each id of the customer, each by its index; then the few that these have found.
_ENTRIES = """
    SELECT entry.* FROM unnest(%(members)s::text[]) AS member (id) CROSS JOIN LATERAL (
        SELECT interaction_id, branch, at, planned, owner FROM timeline_entry
        WHERE customer_id = member.id AND {wanted}
        ORDER BY {order} LIMIT %(most)s
    ) AS entry ORDER BY {order} LIMIT %(most)s
"""
_OF_NOBODY = """
    SELECT interaction_id, branch, at, planned, owner FROM timeline_entry
    WHERE customer_id IS NULL AND branch = %(branch)s AND {wanted}
    ORDER BY {order} LIMIT %(most)s
"""
_WANTED = """
    planned = {planned}
    AND at >= coalesce(%(since)s::timestamptz, '-infinity') AND at < coalesce(%(until)s::timestamptz, 'infinity')
    AND (%(direction)s = '' OR direction = %(direction)s)
    AND (cardinality(%(channel)s::text[]) = 0 OR channel && %(channel)s::text[])
"""
_PAST = {
    "wanted": _WANTED.format(planned="false")
    + "AND at <= coalesce(%(before)s::timestamptz, 'infinity')"
    + " AND (at < coalesce(%(before)s::timestamptz, 'infinity') OR interaction_id < %(before_id)s)",
    "order": "at DESC, interaction_id DESC",
}
_PLANNED = {
    "wanted": _WANTED.format(planned="true")
    + "AND at >= coalesce(%(after)s::timestamptz, '-infinity')"
    + " AND (at > coalesce(%(after)s::timestamptz, '-infinity') OR interaction_id > %(after_id)s)",
    "order": "at, interaction_id",
}
# Of an entry: when it is, and the interaction's id.
Position = tuple[datetime, str]


def past(unit: Unit, whose: Whose, window: Window, before: Position | None, most: int) -> list[Entry]:
    """What was, newest first, from before an entry on."""
    at, last = before or (None, "")
    return _entries(unit, _PAST, whose, window, {"before": at, "before_id": last, "most": most})


def planned(unit: Unit, whose: Whose, window: Window, after: Position | None, most: int) -> list[Entry]:
    """What is to come, what is to be first first, from after an entry on."""
    at, last = after or (None, "")
    return _entries(unit, _PLANNED, whose, window, {"after": at, "after_id": last, "most": most})


def _entries(unit: Unit, kind: Mapping[str, str], whose: Whose, window: Window, more: Mapping[str, Any]) -> list[Entry]:
    parameters = {
        "members": list(whose.members),
        "branch": whose.branch,
        "since": window.since,
        "until": window.until,
        "direction": window.direction,
        "channel": list(window.channel),
        **more,
    }
    with unit.cursor() as cursor:
        rows = cursor.execute((_ENTRIES if whose.members else _OF_NOBODY).format(**kind), parameters).fetchall()
    return [Entry(*row) for row in rows]


def status_changed(interaction: PartyInteraction) -> bool:
    """Whether this transaction has changed the status."""
    return bool(sa.inspect(interaction).attrs["status"].history.has_changes())


def interactions(unit: Unit, ids: Sequence[str]) -> dict[str, PartyInteraction]:
    """Those interactions, by their ids."""
    return {one.id: one for one in unit.load(PartyInteraction, "id = ANY(%(ids)s)", {"ids": list(ids)})}


# --- search ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """An interaction that a search has found: how well it fits, and its text with the hits marked."""

    interaction_id: str
    customer_id: str | None
    at: datetime
    rank: float
    headline: str


# The function runs with its owner's rights, since no policy lets an index of words serve; what it finds is read again
# as the caller.
_SEARCHED = f"""
    WITH wanted AS (
        SELECT websearch_to_tsquery('russian', %(words)s) || CASE WHEN %(numbers)s = '' THEN ''::tsquery ELSE
            websearch_to_tsquery('russian', %(other_words)s) && (%(numbers)s)::tsquery END AS query
    )
    SELECT entry.interaction_id, entry.customer_id, entry.at, found.rank,
        ts_headline('russian', entry.folded, wanted.query, 'StartSel="{HIT}", StopSel="{END}",'
            ' FragmentDelimiter="{GAP}", MaxFragments=3, MinWords=5, MaxWords=18')
    FROM wanted CROSS JOIN LATERAL search_interactions(
        wanted.query, %(customers)s::text[], %(since)s::timestamptz, %(until)s::timestamptz, %(channel)s::text[],
        %(after_rank)s::float8, %(after)s::timestamptz, %(after_id)s::text, %(most)s::int
    ) AS found JOIN timeline_entry entry USING (interaction_id)
    ORDER BY found.rank DESC, found.at DESC, entry.interaction_id DESC
"""  # noqa: S608 (marks of our own)


def search(
    unit: Unit,
    wanted: Wanted,
    customers: Sequence[str],
    window: Window,
    after: tuple[float, datetime, str] | None,
    most: int,
) -> list[Found]:
    """What has been found, the best first, from after one of them on; of anybody where no customers are named."""
    rank, at, last = after or (None, None, None)
    with unit.cursor() as cursor:
        rows = cursor.execute(
            _SEARCHED,
            {
                "words": wanted.words,
                "other_words": wanted.other_words,
                "numbers": wanted.number_query,
                "customers": list(customers) or None,
                "since": window.since,
                "until": window.until,
                "channel": list(window.channel) or None,
                "after_rank": rank,
                "after": at,
                "after_id": last,
                "most": most,
            },
        ).fetchall()
    return [Found(*row) for row in rows]
