"""Who is above and below an organization, and who lives in which household.

An organization states its parent and its children; each statement is a row of `organization_link`. The hierarchy is
what all of them together say, so that a child knows its parent whichever of the two has said so.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from chassis.errors import InvalidArgument, Violation
from chassis.unit import Unit
from customers.party.domain import Organization
from customers.schema import UnderErasure, UnderMerge, metadata, under_erasure, under_merge

# How many are named in one answer, in either direction.
MOST = 2_000
# A chain of so many levels is no organization, but somebody's mistake.
DEEPEST = 100
# Any constant that nobody else uses will do.
_LOCK = 7_200_411_974

organization_link = sa.Table(
    "organization_link",
    metadata,
    sa.Column("stated_by", sa.Text, primary_key=True),
    sa.Column("parent_id", sa.Text, primary_key=True),
    sa.Column("child_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("relationship_type", sa.Text),
    sa.Index("organization_link_parent_id", "parent_id"),
    sa.Index("organization_link_child_id", "child_id"),
)
under_merge(UnderMerge.BY_MEMBERS, organization_link, columns=("stated_by", "parent_id", "child_id"))
under_erasure(UnderErasure.KEPT, organization_link)

ISOLATED = (organization_link.name,)


class Link(NamedTuple):
    """One statement of an organization, and the field in which it says so."""

    parent_id: str
    child_id: str
    relationship_type: str | None
    field: str


class Node(NamedTuple):
    """An organization of a hierarchy; names are None when nobody knows it. `via_id` is the one before it on the way."""

    id: str
    via_id: str
    level: int
    relationship_type: str | None
    name: str | None
    trading_name: str | None


def links(organization: Organization) -> Iterator[Link]:
    """What the organization says of its parent and its children."""
    parent = organization.organization_parent_relationship
    if parent is not None and parent.organization is not None and parent.organization.id:
        path = "organization_parent_relationship.organization.id"
        yield Link(parent.organization.id, organization.id, parent.relationship_type, path)
    for i, child in enumerate(organization.organization_child_relationship):
        if child.organization is not None and child.organization.id:
            path = f"organization_child_relationship[{i}].organization.id"
            yield Link(organization.id, child.organization.id, child.relationship_type, path)


_LOCKED = "SELECT pg_advisory_xact_lock(%(lock)s)"
_KNOWN = "SELECT id FROM organization WHERE id = ANY (%(ids)s)"
_OWN = "SELECT parent_id, child_id, relationship_type FROM organization_link WHERE stated_by = %(id)s"
_FORGET = "DELETE FROM organization_link WHERE stated_by = %(id)s"
_STATE = """
    INSERT INTO organization_link (stated_by, parent_id, child_id, branch, relationship_type)
    SELECT %(id)s, parent_id, child_id, %(branch)s, relationship_type
    FROM unnest(%(parents)s::text[], %(children)s::text[], %(types)s::text[])
        AS stated (parent_id, child_id, relationship_type)
"""
# UNION drops what has been met before, so that it ends even where somebody has made a circle past us.
_BELOW = """
    WITH RECURSIVE below (id) AS (
        SELECT unnest(%(starts)s::text[])
        UNION
        SELECT link.child_id FROM below JOIN organization_link link ON link.parent_id = below.id
    )
    SELECT count(*) FILTER (WHERE id = %(id)s) FROM below
"""


def state(unit: Unit, organization: Organization, *, new: bool = False) -> None:
    """Remembers what the organization says of its parent and children, instead of what it said before.

    Raises InvalidArgument HIERARCHY_CYCLE naming the field by which it would be above itself.
    """
    stated = list({(link.parent_id, link.child_id): link for link in links(organization)}.values())
    if new and not stated:
        return
    with unit.cursor() as cursor:
        parameters = {"id": organization.id}
        before = set() if new else {tuple(row) for row in cursor.execute(_OWN, parameters)}
        if before == {link[:3] for link in stated}:
            return
        # Two who each see only half of a circle would close it together.
        cursor.execute(_LOCKED, {"lock": _LOCK})
        cursor.execute(_FORGET, parameters)
        if not stated:
            return
        cursor.execute(
            _STATE,
            {
                **parameters,
                "branch": organization.branch,
                "parents": [link.parent_id for link in stated],
                "children": [link.child_id for link in stated],
                "types": [link.relationship_type for link in stated],
            },
        )
        # Ids are ours: one that nobody has now will be nobody's, and what was made up can't be above anything.
        others = {link.parent_id for link in stated} | {link.child_id for link in stated}
        known = {row[0] for row in cursor.execute(_KNOWN, {"ids": list(others)})} | {organization.id}
        new_ones = [link for link in stated if link[:3] not in before and {link.parent_id, link.child_id} <= known]
        wrong = [link for link in new_ones if _closes_a_circle(unit, link)]
    if wrong:
        raise InvalidArgument(
            "HIERARCHY_CYCLE",
            f"organization {organization.id} would be above itself",
            violations=[Violation(link.field, "makes a circle") for link in wrong],
        )


def _closes_a_circle(unit: Unit, link: Link) -> bool:
    """Whether the link's parent is below its child."""
    with unit.cursor() as cursor:
        found = cursor.execute(_BELOW, {"starts": [link.child_id], "id": link.parent_id}).fetchone()
    return bool(found and found[0])


def forget(unit: Unit, organization: Organization) -> None:
    """Forgets what a deleted organization said."""
    unit.cursor().execute(_FORGET, {"id": organization.id})


# Level by level, each organization on the shortest way to it. UNION: both ends may state the same link, and ways that
# meet again must not be walked twice each; the levels end even in a circle.
_WALK = """
    WITH RECURSIVE way (id, via_id, level) AS (
        SELECT {far}, {near}, 1 FROM organization_link WHERE {near} = %(id)s
        UNION
        SELECT link.{far}, link.{near}, way.level + 1
        FROM way JOIN organization_link link ON link.{near} = way.id
        WHERE way.level < %(depth)s AND link.{far} <> %(id)s
    ), nearest AS (
        SELECT DISTINCT ON (id) id, via_id, level FROM way ORDER BY id, level, via_id
    )
    SELECT nearest.id, nearest.via_id, nearest.level, stated.relationship_type,
        organization.name, organization.trading_name
    FROM nearest
    CROSS JOIN LATERAL (
        SELECT link.relationship_type FROM organization_link link
        WHERE link.{far} = nearest.id AND link.{near} = nearest.via_id
        ORDER BY link.stated_by LIMIT 1
    ) stated
    LEFT JOIN organization ON organization.id = nearest.id
    ORDER BY nearest.level, nearest.id LIMIT %(most)s
"""
_ANCESTORS = _WALK.format(near="child_id", far="parent_id")
_DESCENDANTS = _WALK.format(near="parent_id", far="child_id")


def ancestors(unit: Unit, id: str) -> Sequence[Node]:
    """All above the organization, the nearest first; at most `MOST` + 1."""
    return _walked(unit, _ANCESTORS, id, DEEPEST)


def descendants(unit: Unit, id: str, depth: int) -> Sequence[Node]:
    """All below the organization, so many levels of them (0: all), the nearest first; at most `MOST` + 1."""
    return _walked(unit, _DESCENDANTS, id, min(depth or DEEPEST, DEEPEST))


def _walked(unit: Unit, query: str, id: str, depth: int) -> Sequence[Node]:
    with unit.cursor() as cursor:
        return [Node(*row) for row in cursor.execute(query, {"id": id, "depth": depth, "most": MOST + 1})]


class Person(NamedTuple):
    """What a household's list says of a person."""

    given_name: str | None
    family_name: str | None


_PEOPLE = "SELECT id, given_name, family_name FROM individual WHERE id = ANY (%(ids)s)"


def people(unit: Unit, ids: Sequence[str]) -> dict[str, Person]:
    """Those persons that are known here."""
    with unit.cursor() as cursor:
        return {row[0]: Person(*row[1:]) for row in cursor.execute(_PEOPLE, {"ids": list(ids)})}


# By the references, which an index serves.
_RELATED = """
    id IN (SELECT referrer_id FROM reference WHERE target_id = %(id)s AND referrer_type = 'Organization') ORDER BY id
"""


def households_of(unit: Unit, individual_id: str) -> list[Organization]:
    """The households that the person lives in."""
    found = unit.load(Organization, _RELATED, {"id": individual_id})
    return [one for one in found if one.is_household and one.member(individual_id) is not None]
