"""The links between customers (and between parties) who are the same one.

Nothing is rewritten by a merge. A row here says that an id stands for another; whoever is asked about a customer asks
about all of `members`. The links are a forest: each id that was merged names the one that it was merged into, and, so
that nobody has to follow a chain, the survivor at its root.
"""

import sqlalchemy as sa

from chassis.db import Unit
from customers.schema import UnderMerge, metadata, under_merge

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
under_merge(UnderMerge.LINK, merged_customer, merged_party, columns=("absorbed_id", "into_id", "survivor_id"))

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
_MEMBERS = """
    SELECT survivor.id, ARRAY(SELECT absorbed_id FROM {table} WHERE survivor_id = survivor.id ORDER BY absorbed_id)
    FROM (SELECT coalesce((SELECT survivor_id FROM {table} WHERE absorbed_id = %(id)s::text), %(id)s::text) AS id)
        AS survivor
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
