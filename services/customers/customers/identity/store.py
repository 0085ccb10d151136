"""The links between customers (and between parties) who are the same one.

Nothing is rewritten by a merge. A row here says that an id stands for another; whoever is asked about a customer asks
about all of `members`. The links are a forest: each id that was merged names the one that it was merged into, and, so
that nobody has to follow a chain, the survivor at its root.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from chassis.db import Database
from chassis.errors import NotFound
from chassis.schema import Alias, Resource, aggregate_table
from chassis.types import EPOCH, Aggregate
from chassis.unit import Unit
from customers.identity.domain import CustomerMerge
from customers.identity.survival import Candidate
from customers.party.domain import VERIFIED, Customer
from customers.schema import UnderErasure, UnderMerge, metadata, under_erasure, under_merge
from svyaz.customers.v1 import customers_pb2, identity_pb2

_INSTANT = sa.TIMESTAMP(timezone=True)


def _links(name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("absorbed_id", sa.Text, primary_key=True),
        sa.Column("branch", sa.Text, nullable=False),
        # What it was merged into; that may have been merged into another since.
        sa.Column("into_id", sa.Text, nullable=False),
        # The one at the end of the chain, which is in no row as absorbed.
        sa.Column("survivor_id", sa.Text, nullable=False),
        sa.Column("merge_id", sa.Text, nullable=False),
        sa.Column("merged_at", _INSTANT, nullable=False),
        sa.Index(f"{name}_survivor_id", "survivor_id"),
        sa.Index(f"{name}_merge_id", "merge_id"),
    )


merged_customer = _links("merged_customer")
merged_party = _links("merged_party")
# The merges themselves, those that were undone included.
customer_merge = aggregate_table(
    metadata,
    "customer_merge",
    CustomerMerge,
    sa.Index("customer_merge_survivor_id", "survivor_id"),
    sa.Index("customer_merge_absorbed_id", "absorbed_id"),
    sa.Index("customer_merge_survivor_party_id", "survivor_party_id"),
    sa.Index("customer_merge_absorbed_party_id", "absorbed_party_id"),
)
under_merge(
    UnderMerge.LINK,
    customer_merge,
    columns=("absorbed_id", "survivor_id", "absorbed_party_id", "survivor_party_id"),
)
under_merge(UnderMerge.LINK, merged_customer, merged_party, columns=("absorbed_id", "into_id", "survivor_id"))
under_erasure(UnderErasure.KEPT, merged_customer, merged_party)


def answered_by_survivors(resources: Mapping[type[Aggregate], Resource]) -> Mapping[type[Aggregate], Resource]:
    """The resources of customers and parties, so that who asks for an id that was merged reads the survivor."""

    def alias(cls: type[Aggregate]) -> Alias:
        links = (merged_customer if cls is Customer else merged_party).c
        return Alias(links.absorbed_id, links.survivor_id)

    return {cls: replace(resource, alias=alias(cls)) for cls, resource in resources.items()}


RESOURCES: Mapping[type[Aggregate], Resource] = {CustomerMerge: Resource(identity_pb2.CustomerMerge, customer_merge)}
ISOLATED = (merged_customer.name, merged_party.name)


def _sql_of_survivor(table: str, expression: str) -> str:
    return f"coalesce((SELECT survivor_id FROM {table} WHERE absorbed_id = {expression}), {expression})"  # noqa: S608


def _sql_of_members(table: str, expression: str) -> str:
    survivor = _sql_of_survivor(table, expression)
    return f"""ARRAY(
        SELECT survivor.id FROM (SELECT {survivor} AS id) AS survivor
        UNION ALL
        SELECT absorbed_id FROM {table} WHERE survivor_id = (SELECT {survivor})
    )"""  # noqa: S608


def survivor_sql(expression: str) -> str:
    """SQL for the survivor of the customer whose id the expression is (a column, a placeholder): one look at an index,
    for joins and groups (`GROUP BY` it, and merged customers are one)."""
    return _sql_of_survivor(merged_customer.name, expression)


def members_sql(expression: str) -> str:
    """SQL for the array of all ids of that customer: `customer_id = ANY (members_sql("%(customer)s"))` uses an index
    on `customer_id`. The expression must not be a column of the same query, else it is looked up row by row."""
    return _sql_of_members(merged_customer.name, expression)


def same_customer(column: sa.ColumnElement[str], customer_id: str) -> sa.ColumnElement[bool]:
    """`members_sql` for the mapper's queries: that the column is one of the customer's ids."""
    links = merged_customer.c
    survivor = sa.func.coalesce(
        sa.select(links.survivor_id).where(links.absorbed_id == customer_id).scalar_subquery(), customer_id
    )
    others = sa.select(links.absorbed_id).where(links.survivor_id == survivor)
    return column == sa.func.any(sa.func.array(sa.union_all(sa.select(survivor), others).scalar_subquery()))


_SURVIVOR = f"SELECT {_sql_of_survivor(merged_customer.name, '%(id)s::text')}"
# Under row-level security an index is asked only what can't tell anybody of other rows: for a value that is there, not
# for one that has yet to be found out.
_MEMBERS = """
    WITH survivor AS MATERIALIZED (
        SELECT coalesce((SELECT survivor_id FROM {table} WHERE absorbed_id = %(id)s::text), %(id)s::text) AS id
    )
    SELECT id, ARRAY(
        SELECT absorbed_id FROM {table} WHERE survivor_id = (SELECT id FROM survivor) ORDER BY absorbed_id
    ) FROM survivor
"""
_CUSTOMER_MEMBERS = _MEMBERS.format(table=merged_customer.name)
_PARTY_SURVIVOR = f"SELECT {_sql_of_survivor(merged_party.name, '%(id)s::text')}"
_PARTY_MEMBERS = _MEMBERS.format(table=merged_party.name)


def _one(unit: Unit, statement: str, id: str) -> tuple[str, ...]:
    with unit.cursor() as cursor:
        row = cursor.execute(statement, {"id": id}).fetchone()
    assert row is not None
    return row


def survivor(unit: Unit, customer_id: str) -> str:
    """The id under which the customer is known now: itself, unless it was merged."""
    return _one(unit, _SURVIVOR, customer_id)[0]


def members(unit: Unit, customer_id: str) -> tuple[str, ...]:
    """All ids of the same customer, the survivor first; whichever of them is asked for, even one that nobody has."""
    first, others = _one(unit, _CUSTOMER_MEMBERS, customer_id)
    return (first, *others)


def party_survivor(unit: Unit, party_id: str) -> str:
    """`survivor` of an individual or organization."""
    return _one(unit, _PARTY_SURVIVOR, party_id)[0]


def party_members(unit: Unit, party_id: str) -> tuple[str, ...]:
    """`members` of an individual or organization."""
    first, others = _one(unit, _PARTY_MEMBERS, party_id)
    return (first, *others)


_SURVIVORS = """
    SELECT DISTINCT coalesce(link.survivor_id, wanted.id)
    FROM unnest(%(ids)s::text[]) AS wanted (id) LEFT JOIN {table} AS link ON link.absorbed_id = wanted.id
"""
_INTO = "SELECT absorbed_id, survivor_id FROM {table} WHERE absorbed_id = ANY (%(ids)s)"


def survivors(unit: Unit, links: "Links", ids: Sequence[str]) -> list[str]:
    """The ids that these go by now, each once."""
    with unit.cursor() as cursor:
        return sorted(found for (found,) in cursor.execute(_SURVIVORS.format(table=links.table), {"ids": list(ids)}))


def into(unit: Unit, links: "Links", ids: Sequence[str]) -> dict[str, str]:
    """Of those that were merged, the survivor by their id."""
    with unit.cursor() as cursor:
        return dict(cursor.execute(_INTO.format(table=links.table), {"ids": list(ids)}).fetchall())


# --- linking and parting ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Links:
    """One of the two forests."""

    table: str
    # Where a merge says which of them it linked.
    absorbed: str
    survivor: str
    members: str


CUSTOMERS = Links(merged_customer.name, "absorbed_id", "survivor_id", _CUSTOMER_MEMBERS)
PARTIES = Links(merged_party.name, "absorbed_party_id", "survivor_party_id", _PARTY_MEMBERS)

# All who went by the absorbed one's id go by the new survivor's.
_FOLLOW = "UPDATE {table} SET survivor_id = %(survivor)s WHERE survivor_id = %(absorbed)s"
_LINK = """
    INSERT INTO {table} (absorbed_id, branch, into_id, survivor_id, merge_id, merged_at)
    VALUES (%(absorbed)s, %(branch)s, %(into)s, %(survivor)s, %(merge)s, %(at)s)
"""
_PART = "DELETE FROM {table} WHERE merge_id = %(merge)s RETURNING absorbed_id, survivor_id"
# Those below the one that is parted go with it: they had been merged into it, or into one of these.
_LEAVE = """
    WITH RECURSIVE below (id) AS (
        SELECT %(absorbed)s::text
        UNION
        SELECT link.absorbed_id FROM {table} AS link JOIN below ON link.into_id = below.id
        WHERE link.survivor_id = %(survivor)s
    )
    UPDATE {table} SET survivor_id = %(absorbed)s WHERE absorbed_id IN (SELECT id FROM below)
"""


def link(unit: Unit, links: Links, absorbed_id: str, into_id: str, merge: CustomerMerge) -> None:
    """Makes an id that stands for itself stand for another. The caller holds `lock_references`."""
    first, *_ = members_of(unit, links, into_id)
    with unit.connection().pipeline(), unit.cursor() as cursor:
        cursor.execute(_FOLLOW.format(table=links.table), {"survivor": first, "absorbed": absorbed_id})
        cursor.execute(
            _LINK.format(table=links.table),
            {
                "absorbed": absorbed_id,
                "branch": merge.branch,
                "into": into_id,
                "survivor": first,
                "merge": merge.id,
                "at": merge.merged_at,
            },
        )


def part(unit: Unit, links: Links, merge_id: str) -> None:
    """Takes the merge's link away, if it has one: the id stands for itself again, with all that were merged into it."""
    with unit.cursor() as cursor:
        for absorbed, survivor_id in cursor.execute(_PART.format(table=links.table), {"merge": merge_id}).fetchall():
            cursor.execute(_LEAVE.format(table=links.table), {"absorbed": absorbed, "survivor": survivor_id})


def members_of(unit: Unit, links: Links, id: str) -> tuple[str, ...]:
    """`members`, or `party_members`."""
    first, others = _one(unit, links.members, id)
    return (first, *others)


_CANDIDATE = """
    SELECT
        (SELECT status FROM customer WHERE id = %(id)s),
        (SELECT count(*) FROM (
            SELECT DISTINCT referrer_id FROM reference
            WHERE target_id = ANY (%(members)s) AND referrer_type <> 'CustomerMerge' LIMIT 1000
        ) AS referrer),
        (SELECT min(time) FROM event WHERE aggregate_id = %(id)s AND version = 1 AND aggregate_type = 'Customer')
"""


def candidate(unit: Unit, customer: Customer) -> Candidate:
    """What speaks for a customer's surviving a merge."""
    ids = list(members(unit, customer.id))
    with unit.cursor() as cursor:
        row = cursor.execute(_CANDIDATE, {"id": customer.id, "members": ids}).fetchone()
    assert row is not None
    status, referrers, since = row
    return Candidate(
        id=customer.id, verified=status == VERIFIED, referrers=referrers, known_since=since if since else EPOCH
    )


# --- as it was -------------------------------------------------------------------------------------------------------

# A merge was in force from its instant (included) until it was undone (excluded).
_IN_FORCE = "merged_at <= %(at)s AND (undone_at IS NULL OR undone_at > %(at)s)"
_SURVIVOR_AT = """
    WITH RECURSIVE up (id, depth) AS (
        SELECT %(id)s::text, 0
        UNION ALL
        SELECT merge.{survivor}, up.depth + 1 FROM up JOIN customer_merge AS merge ON merge.{absorbed} = up.id
        WHERE {in_force}
    ) CYCLE id SET again USING way
    SELECT id FROM up WHERE NOT again ORDER BY depth DESC, id LIMIT 1
"""
_BELOW_AT = """
    WITH RECURSIVE below (id) AS (
        SELECT %(id)s::text
        UNION
        SELECT merge.{absorbed} FROM below JOIN customer_merge AS merge ON merge.{survivor} = below.id
        WHERE merge.{absorbed} IS NOT NULL AND {in_force}
    )
    SELECT id FROM below WHERE id <> %(id)s ORDER BY id
"""


def survivor_at(unit: Unit, links: Links, id: str, at: datetime) -> str:
    """The id that this one stood for at an instant."""
    statement = _SURVIVOR_AT.format(survivor=links.survivor, absorbed=links.absorbed, in_force=_IN_FORCE)
    with unit.cursor() as cursor:
        row = cursor.execute(statement, {"id": id, "at": at}).fetchone()
    assert row is not None
    return str(row[0])


def members_at(unit: Unit, customer_id: str, at: datetime) -> tuple[str, ...]:
    """`members` as it was at an instant."""
    first = survivor_at(unit, CUSTOMERS, customer_id, at)
    statement = _BELOW_AT.format(survivor=CUSTOMERS.survivor, absorbed=CUSTOMERS.absorbed, in_force=_IN_FORCE)
    with unit.cursor() as cursor:
        rows = cursor.execute(statement, {"id": first, "at": at}).fetchall()
    return (first, *(below for (below,) in rows))


def merges_among(unit: Unit, ids: Sequence[str], at: datetime) -> list[CustomerMerge]:
    """The merges that were in force at an instant between customers of these ids, the oldest first."""
    return unit.load(
        CustomerMerge,
        f"absorbed_id = ANY (%(ids)s) AND {_IN_FORCE} ORDER BY merged_at, id",
        {"ids": list(ids), "at": at},
    )


def record_at(database: Database, customer_id: str, at: datetime) -> customers_pb2.Customer | None:
    """A customer's own record at an instant, whoever it was merged into; None when there was none."""
    try:
        found = database.history(Customer, customer_id, at)
    except NotFound:
        return None
    assert isinstance(found, customers_pb2.Customer)
    return found


# --- questions that name customers or parties -------------------------------------------------------------------------

_EVERY_MEMBER = f"""
    SELECT DISTINCT same.id FROM unnest(%(ids)s::text[]) AS wanted (id)
    CROSS JOIN LATERAL (
        SELECT unnest({_sql_of_members(merged_customer.name, "wanted.id")})
        UNION
        SELECT unnest({_sql_of_members(merged_party.name, "wanted.id")})
    ) AS same (id)
"""  # noqa: S608


def every_member(unit: Unit, ids: Sequence[str]) -> list[str]:
    """All ids of the customers and parties that these stand for, for a question that may name either."""
    with unit.cursor() as cursor:
        return sorted(found for (found,) in cursor.execute(_EVERY_MEMBER, {"ids": list(ids)}))
