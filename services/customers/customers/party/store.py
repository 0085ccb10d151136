"""Tables of parties and customers, and who refers to them."""

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from chassis.references import References, rely
from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from customers.party.domain import Customer, Individual, Organization, Referrer
from customers.schema import UnderErasure, UnderMerge, metadata, under_erasure, under_merge
from svyaz.customers.v1 import customers_pb2, party_pb2

individual = aggregate_table(metadata, "individual", Individual)
organization = aggregate_table(metadata, "organization", Organization)
customer = aggregate_table(metadata, "customer", Customer)

# Who refers to whom, within this service and (learned from events) from orders and products: what is referred to stays.
references = References(
    metadata, sa.Column("branch", sa.Text, nullable=False), sa.Index("reference_referrer_id", "referrer_id")
)

under_merge(UnderMerge.OWN, individual, organization, customer)
under_merge(UnderMerge.BY_MEMBERS, references.table, columns=("target_id", "referrer_id"))
under_erasure(UnderErasure.KEPT, references.table)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    Individual: Resource(party_pb2.Individual, individual),
    Organization: Resource(party_pb2.Organization, organization),
    Customer: Resource(customers_pb2.Customer, customer),
}


def refer(
    unit: Unit, referrer_id: str, referrer_type: str, branch: str, targets: Iterable[str], *, new: bool = False
) -> None:
    """Remembers what the referrer refers to now, instead of what it did before (nothing, when it is `new`)."""
    rows = [
        {"target_id": target, "referrer_type": referrer_type, "branch": branch}
        for target in dict.fromkeys(targets)
        if target and target != referrer_id
    ]
    references.refer(unit, referrer_id, rows, new=new)


def remember(unit: Unit, referrer: Referrer, *, new: bool = False) -> None:
    """`refer` for an aggregate of our own."""
    refer(unit, referrer.id, type(referrer).__name__, referrer.branch, referrer.references(), new=new)


_PARTY = """
    SELECT branch FROM individual WHERE id = %(id)s UNION ALL SELECT branch FROM organization WHERE id = %(id)s
"""


def party_branch(unit: Unit, party_id: str) -> str | None:
    """The branch of an individual or organization, which isn't deleted before the end of the transaction; None when
    the caller can't see one of that id."""
    rows = rely(unit, _PARTY, {"id": party_id})
    return str(rows[0][0]) if rows else None


_TARGETS = """
    SELECT id, branch FROM individual WHERE id = ANY (%(ids)s)
    UNION ALL SELECT id, branch FROM organization WHERE id = ANY (%(ids)s)
    UNION ALL SELECT id, branch FROM customer WHERE id = ANY (%(ids)s)
"""


def branches_of(unit: Unit, ids: Sequence[str]) -> dict[str, str]:
    """Id → branch, of those individuals, organizations and customers that the caller can see; none of them is deleted
    before the end of the transaction."""
    return {row[0]: row[1] for row in rely(unit, _TARGETS, {"ids": list(ids)})} if ids else {}
