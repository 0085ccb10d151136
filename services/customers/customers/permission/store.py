"""Tables of permissions, and what is read of them for a decision."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from customers.permission.domain import (
    ContactConsent,
    ContactDecision,
    ContactOptOut,
    ContactPoint,
    DoNotCallEntry,
    DoNotCallRegistry,
)
from customers.permission.policy import PermissionPolicy
from customers.permission.reading import LOCK
from customers.permission.values import PointState
from customers.schema import UnderErasure, UnderMerge, metadata, under_erasure, under_merge
from svyaz.customers.v1 import permission_pb2

contact_point = aggregate_table(
    metadata,
    "contact_point",
    ContactPoint,
    sa.Index("contact_point_owner_id", "owner_id"),
    sa.Index("contact_point_missing", "value", postgresql_where=sa.text(f"state = '{PointState.DOES_NOT_EXIST}'")),
)
contact_consent = aggregate_table(
    metadata, "contact_consent", ContactConsent, sa.Index("contact_consent_customer_id", "customer_id", "purpose")
)
contact_opt_out = aggregate_table(
    metadata, "contact_opt_out", ContactOptOut, sa.Index("contact_opt_out_customer_id", "customer_id")
)
do_not_call_entry = aggregate_table(
    metadata,
    "do_not_call_entry",
    DoNotCallEntry,
    sa.Index("do_not_call_entry_customer_id", "customer_id"),
    sa.Index("do_not_call_entry_number", "number"),
)
do_not_call_registry = aggregate_table(
    metadata,
    "do_not_call_registry",
    DoNotCallRegistry,
    sa.Index("do_not_call_registry_name", "branch", "name", unique=True),
)
# Millions of them, which have no history of their own.
do_not_call_number = sa.Table(
    "do_not_call_number",
    metadata,
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("number", sa.Text, primary_key=True),
    sa.Column("registry_id", sa.Text, primary_key=True),
    sa.Column("edition", sa.Text, nullable=False),
    sa.Index("do_not_call_number_registry_id", "registry_id", "edition"),
)
permission_policy = aggregate_table(
    metadata,
    "permission_policy",
    PermissionPolicy,
    sa.Index("permission_policy_version", "branch", "version", unique=True),
)
contact_decision = aggregate_table(
    metadata,
    "contact_decision",
    ContactDecision,
    sa.Index("contact_decision_customer_id", "customer_id", "id"),
    sa.Index(
        "contact_decision_contacts",
        "customer_id",
        "contact_at",
        postgresql_where=sa.text("state IN ('reserved', 'spent')"),
    ),
    # Whoever else is contacted by the same medium.
    sa.Index(
        "contact_decision_media",
        "medium_value",
        "contact_at",
        postgresql_where=sa.text("state IN ('reserved', 'spent') AND medium_value IS NOT NULL"),
    ),
    sa.Index("contact_decision_token_hash", "token_hash", unique=True),
)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    ContactPoint: Resource(permission_pb2.ContactPoint, contact_point),
    ContactConsent: Resource(permission_pb2.ContactConsent, contact_consent),
    ContactOptOut: Resource(permission_pb2.ContactOptOut, contact_opt_out),
    DoNotCallEntry: Resource(permission_pb2.DoNotCallEntry, do_not_call_entry),
    DoNotCallRegistry: Resource(permission_pb2.DoNotCallRegistry, do_not_call_registry),
    PermissionPolicy: Resource(permission_pb2.PermissionPolicy, permission_policy),
    ContactDecision: Resource(permission_pb2.ContactDecision, contact_decision),
}
ISOLATED = (do_not_call_number.name,)

under_merge(UnderMerge.BY_MEMBERS, contact_point, columns=("owner_id",))
under_merge(
    UnderMerge.BY_MEMBERS,
    contact_consent,
    contact_opt_out,
    do_not_call_entry,
    contact_decision,
    columns=("customer_id",),
)
under_merge(UnderMerge.NONE, do_not_call_registry, do_not_call_number, permission_policy)
# Who forbade all calls to a number, on an official list, is held to by whoever gets it next.
under_erasure(UnderErasure.KEPT, do_not_call_number)


# --- the rest --------------------------------------------------------------------------------------------------------


def branch_of(unit: Unit, customer_id: str) -> str | None:
    """The branch of a customer; None: there is none that the caller may see."""
    row = unit.cursor().execute("SELECT branch FROM customer WHERE id = %(id)s", {"id": customer_id}).fetchone()
    return str(row[0]) if row is not None else None


def registry(unit: Unit, branch: str, name: str) -> DoNotCallRegistry | None:
    """The registry of that name, which nobody else imports until the end of the transaction."""
    unit.cursor().execute(LOCK, {"ids": [f"registry {branch} {name}"]})
    parameters = {"branch": branch, "name": name}
    return next(iter(unit.load(DoNotCallRegistry, "branch = %(branch)s AND name = %(name)s", parameters)), None)


def decision_of(unit: Unit, token_hash: str) -> ContactDecision | None:
    """The decision that a token belongs to."""
    return next(iter(unit.load(ContactDecision, "token_hash = %(hash)s", {"hash": token_hash})), None)


def decisions(unit: Unit, ids: Sequence[str], before: str, limit: int) -> list[ContactDecision]:
    """The latest decisions about a customer before one of them (empty: all of them)."""
    condition = (
        "customer_id = ANY (%(ids)s::text[]) AND (%(before)s = '' OR id < %(before)s) ORDER BY id DESC LIMIT %(limit)s"
    )
    return unit.load(ContactDecision, condition, {"ids": list(ids), "before": before, "limit": limit})


def missing_points(unit: Unit, point: ContactPoint) -> list[ContactPoint]:
    """What was said of the same value at other owners of the branch: that it doesn't exist."""
    condition = (
        "branch = %(branch)s AND value = %(value)s AND kind = %(kind)s AND state = 'doesNotExist' AND id <> %(id)s"
    )
    values = {"branch": point.branch, "value": point.value, "kind": str(point.kind), "id": point.id}
    return unit.load(ContactPoint, f"{condition} ORDER BY id LIMIT 1000", values)


def next_version(unit: Unit, branch: str) -> int:
    """The number of the branch's next policy; the index of versions lets two that come at once not have the same."""
    row = unit.cursor().execute(
        "SELECT coalesce(max(version), 0) + 1 FROM permission_policy WHERE branch = %(branch)s", {"branch": branch}
    )
    found = row.fetchone()
    assert found is not None
    return int(found[0])


# An edition is taken over beside the one before, which goes when the new one is whole.
_TAKE_NUMBERS = """
    WITH taken AS (
        INSERT INTO do_not_call_number (branch, number, registry_id, edition)
        SELECT %(branch)s, number, %(registry)s, %(edition)s FROM unnest(%(numbers)s::text[]) AS wanted (number)
        ORDER BY number
        ON CONFLICT (branch, number, registry_id) DO UPDATE SET edition = excluded.edition
            WHERE do_not_call_number.edition <> excluded.edition
        RETURNING xmax = 0 AS new
    )
    SELECT count(*) FILTER (WHERE new) FROM taken
"""
_DROP_NUMBERS = "DELETE FROM do_not_call_number WHERE registry_id = %(registry)s AND edition <> %(edition)s"


def take_numbers(unit: Unit, registry: DoNotCallRegistry, numbers: Sequence[str], *, complete: bool) -> tuple[int, int]:
    """Lists the numbers in the registry's edition; drops, when that is complete, those of others. How many came and
    went."""
    parameters = {
        "branch": registry.branch,
        "registry": registry.id,
        "edition": registry.edition,
        "numbers": sorted(set(numbers)),
    }
    row = unit.cursor().execute(_TAKE_NUMBERS, parameters).fetchone()
    gone = unit.cursor().execute(_DROP_NUMBERS, parameters).rowcount if complete else 0
    return (int(row[0]) if row is not None else 0), gone
