"""The table of roles."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from chassis.references import rely
from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from customers.role.domain import PartyRole
from customers.schema import UnderMerge, metadata, under_merge
from svyaz.customers.v1 import party_role_pb2

party_role = aggregate_table(
    metadata,
    "party_role",
    PartyRole,
    # Partners are few among dealers, and asked for by their kind.
    sa.Index("party_role_branch_kind", "branch", "kind"),
)

under_merge(UnderMerge.BY_MEMBERS, party_role, columns=("engaged_party", "related_party"))

RESOURCES: Mapping[type[Aggregate], Resource] = {PartyRole: Resource(party_role_pb2.PartyRole, party_role)}


def known(unit: Unit, ids: Sequence[str]) -> frozenset[str]:
    """Those of the ids that are roles, none of which is deleted before the end of the transaction."""
    rows = rely(unit, "SELECT id FROM party_role WHERE id = ANY (%(ids)s)", {"ids": list(ids)})
    return frozenset(row[0] for row in rows)
