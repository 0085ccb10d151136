"""The tables of owners, absences and hand-overs, and the questions asked of them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from customers.identity.store import members, members_sql
from customers.interaction.ownership import Absence, CustomerOwnership, HandOver, HandOverState
from customers.interaction.substitution import Away, standing_in
from customers.schema import UnderMerge, metadata, under_merge
from svyaz.customers.v1 import responsibility_pb2

customer_ownership = aggregate_table(
    metadata,
    "customer_ownership",
    CustomerOwnership,
    sa.Index("customer_ownership_customer_id", "customer_id", "branch", unique=True),
    sa.Index("customer_ownership_owner", "branch", "owner", "id"),
)
absence = aggregate_table(
    metadata,
    "absence",
    Absence,
    sa.Index("absence_employee", "branch", "employee", "starts_at"),
    # Those that are over are many in the end, and are passed by.
    sa.Index("absence_ends_at", "branch", "ends_at"),
)
hand_over = aggregate_table(
    metadata,
    "hand_over",
    HandOver,
    # Of one employee one at a time, else he would have two successors.
    sa.Index(
        "hand_over_running",
        "branch",
        "from_employee",
        unique=True,
        postgresql_where=sa.text(f"state = '{HandOverState.IN_PROGRESS}'"),
    ),
)
under_merge(UnderMerge.BY_MEMBERS, customer_ownership, columns=("customer_id",))
under_merge(UnderMerge.NONE, absence, hand_over)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    CustomerOwnership: Resource(responsibility_pb2.CustomerOwnership, customer_ownership),
    Absence: Resource(responsibility_pb2.Absence, absence),
    HandOver: Resource(responsibility_pb2.HandOver, hand_over),
}


def ownership_of(unit: Unit, customer_id: str) -> CustomerOwnership | None:
    """Whose the customer is: what was said of the survivor, else what was said last of those merged into it."""
    ids = members(unit, customer_id)
    found = unit.load(CustomerOwnership, "customer_id = ANY(%(ids)s) ORDER BY since DESC, id DESC", {"ids": list(ids)})
    return next((one for one in found if one.customer_id == ids[0]), next(iter(found), None))


def away(unit: Unit, branches: Iterable[str], at: datetime) -> dict[str, dict[str, Away]]:
    """Branch → who is away at the instant: those of a branch at one time are few."""
    rows = unit.session.execute(
        sa.select(absence.c.branch, absence.c.employee, absence.c.substitute, absence.c.team).where(
            absence.c.branch.in_(list(branches)),
            absence.c.starts_at <= at,
            sa.or_(absence.c.ends_at.is_(None), absence.c.ends_at > at),
        )
    )
    found: dict[str, dict[str, Away]] = {}
    for branch, employee, substitute, team in rows:
        found.setdefault(branch, {})[employee] = Away(employee, substitute, team)
    return found


_AT = "branch = %(branch)s AND starts_at <= %(at)s AND (ends_at IS NULL OR ends_at > %(at)s)"


def absences_at(unit: Unit, branch: str, at: datetime) -> list[Absence]:
    """The absences of the instant, to be changed."""
    return unit.load(Absence, _AT, {"branch": branch, "at": at})


def as_away(absences: Iterable[Absence]) -> dict[str, Away]:
    """Who is away by those absences."""
    return {one.employee or "": Away(one.employee or "", one.substitute, one.team) for one in absences}


_TEAM = """
    SELECT team FROM customer_ownership
    WHERE branch = %(branch)s AND owner = %(employee)s AND team IS NOT NULL ORDER BY id DESC LIMIT 1
"""


def team_of(unit: Unit, branch: str, employee: str) -> str | None:
    """The team in which an employee has customers, those that he was given last."""
    with unit.cursor() as cursor:
        row = cursor.execute(_TEAM, {"branch": branch, "employee": employee}).fetchone()
    return str(row[0]) if row else None


def left_to(unit: Unit, branch: str, team: str, away: Mapping[str, Away]) -> list[str]:
    """Those for whom nobody stands in, and whose things are the team's meanwhile: as their absences say, else as their
    customers do."""
    standings = {employee: standing_in(employee, None, away) for employee in away}
    return [
        employee
        for employee, standing in standings.items()
        if standing.employee is None and (standing.team or team_of(unit, branch, employee)) == team
    ]


_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended(%(what)s, 0))"
_OVERLAP = """
    SELECT id FROM absence
    WHERE branch = %(branch)s AND employee = %(employee)s AND id <> %(id)s
        AND starts_at < coalesce(%(ends_at)s::timestamptz, 'infinity')
        AND coalesce(ends_at, 'infinity') > %(starts_at)s
    LIMIT 1
"""


def overlapping(unit: Unit, wanted: Absence) -> str | None:
    """The id of another absence of the employee at the same time. Until the end of the transaction nobody else enters
    one of his."""
    with unit.cursor() as cursor:
        cursor.execute(_ALONE, {"what": f"absence {wanted.branch} {wanted.employee}"})
        row = cursor.execute(
            _OVERLAP,
            {
                "branch": wanted.branch,
                "employee": wanted.employee,
                "id": wanted.id,
                "starts_at": wanted.starts_at,
                "ends_at": wanted.ends_at,
            },
        ).fetchone()
    return str(row[0]) if row else None


_BACK = """
    WITH RECURSIVE way (employee) AS (
        SELECT %(to)s::text
        UNION
        SELECT h.to_employee FROM way JOIN hand_over h ON h.branch = %(branch)s AND h.from_employee = way.employee
        WHERE h.state = 'inProgress'
    )
    SELECT 1 FROM way WHERE employee = %(from)s
"""


def comes_back(unit: Unit, wanted: HandOver) -> bool:
    """Whether what the hand-over gives would be handed over to the first employee again by those that run: for ever.
    Until the end of the transaction nobody else begins one in the branch."""
    with unit.cursor() as cursor:
        cursor.execute(_ALONE, {"what": f"hand-over {wanted.branch}"})
        values = {"branch": wanted.branch, "from": wanted.from_employee, "to": wanted.to_employee}
        return cursor.execute(_BACK, values).fetchone() is not None


# Of a merged customer one ownership counts, as `ownership_of` says: the survivor's, else the latest of the others'.
COUNTS = """
    NOT EXISTS (
        SELECT FROM merged_customer link JOIN customer_ownership other ON other.customer_id = ANY (
            link.survivor_id || ARRAY(SELECT absorbed_id FROM merged_customer WHERE survivor_id = link.survivor_id)
        )
        WHERE link.absorbed_id = customer_ownership.customer_id AND (
            other.customer_id = link.survivor_id
            OR (other.since, other.id) > (customer_ownership.since, customer_ownership.id)
        )
    )
"""
# A planned interaction in which no employee is named is that of the customer's owner; whatever id of the customer it
# was planned for.
_PLANNED = f"""
    SELECT interaction_id, owner FROM (
        (
            SELECT interaction_id, owner FROM timeline_entry
            WHERE branch = %(branch)s AND owner = ANY (%(owners)s) AND planned AND interaction_id > %(after)s
            ORDER BY interaction_id LIMIT %(most)s
        ) UNION ALL (
            SELECT entry.interaction_id, customer_ownership.owner
            FROM customer_ownership
            CROSS JOIN LATERAL unnest({members_sql("customer_ownership.customer_id")}) AS member (id)
            JOIN timeline_entry entry ON entry.customer_id = member.id
            WHERE customer_ownership.branch = %(branch)s AND customer_ownership.owner = ANY (%(owners)s) AND {COUNTS}
                AND entry.planned AND entry.owner IS NULL AND entry.interaction_id > %(after)s
            ORDER BY entry.interaction_id LIMIT %(most)s
        )
    ) AS found ORDER BY interaction_id LIMIT %(most)s
"""  # noqa: S608 (constants of our own)


def planned_of(unit: Unit, branch: str, owners: Iterable[str], after: str, most: int) -> list[tuple[str, str]]:
    """Planned interactions of those employees after one, each with its owner."""
    parameters = {"branch": branch, "owners": sorted(owners), "after": after, "most": most}
    with unit.cursor() as cursor:
        return [(str(one), str(owner)) for one, owner in cursor.execute(_PLANNED, parameters).fetchall()]


_NAMED = """
    SELECT interaction_id FROM timeline_entry
    WHERE branch = %(branch)s AND owner = %(owner)s AND planned ORDER BY interaction_id LIMIT %(most)s
"""


def planned_naming(unit: Unit, branch: str, owner: str, most: int) -> Sequence[str]:
    """The first planned interactions in which the employee is named."""
    with unit.cursor() as cursor:
        rows = cursor.execute(_NAMED, {"branch": branch, "owner": owner, "most": most}).fetchall()
    return [str(one) for (one,) in rows]
