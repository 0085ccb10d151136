"""The tables of agreements, and whom they engage."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from customers.agreement.domain import OWNERS, Agreement, AgreementSpecification, AgreementState
from customers.party import store as parties
from customers.party.domain import Customer
from customers.schema import UnderMerge, metadata, under_merge
from svyaz.customers.v1 import agreement_pb2

agreement = aggregate_table(metadata, "agreement", Agreement)
agreement_specification = aggregate_table(metadata, "agreement_specification", AgreementSpecification)

under_merge(UnderMerge.BY_MEMBERS, agreement, columns=("engaged_party",))
under_merge(UnderMerge.BY_MEMBERS, agreement_specification, columns=("related_party",))

RESOURCES: Mapping[type[Aggregate], Resource] = {
    Agreement: Resource(agreement_pb2.Agreement, agreement),
    AgreementSpecification: Resource(agreement_pb2.AgreementSpecification, agreement_specification),
}


class Before(NamedTuple):
    """What an agreement was before the change that is being made."""

    end: datetime | None
    status_changed: bool
    # The ids of the parties that it engaged.
    engaged: frozenset[str] = frozenset()


def before(agreement: Agreement) -> Before:
    """The agreement as it was loaded; one that is new has had no status."""
    if not agreement.revision:
        return Before(None, True)
    committed: Mapping[str, Any] = sa.inspect(agreement).committed_state
    period = committed.get("agreement_period", agreement.agreement_period)
    end = period.end_date_time if period is not None else None
    changed = committed.get("status", agreement.status) != agreement.status
    parties = committed.get("engaged_party", agreement.engaged_party)
    return Before(end, changed, frozenset(party.id for party in parties if party.id))


def notices_changed(specification: AgreementSpecification) -> bool:
    """Whether the change that is being made changes how far ahead notice is given."""
    now = specification.expiry_notice_days
    return bool(sa.inspect(specification).committed_state.get("expiry_notice_days", now) != now)


# In one order everywhere, so that two who change the same customers wait for each other instead of deadlocking.
_ENGAGED = "id = ANY (%(ids)s) ORDER BY id"


def customers_of(unit: Unit, ids: Sequence[str]) -> list[Customer]:
    """Those of the ids that are customers, as far as the caller sees them."""
    return unit.load(Customer, _ENGAGED, {"ids": list(ids)}) if ids else []


_FOLLOWING = """
    SELECT referrer_id FROM reference
    WHERE target_id = %(id)s AND referrer_type = 'Agreement' AND referrer_id > %(after)s
    ORDER BY referrer_id LIMIT %(most)s
"""


def agreements_by(unit: Unit, specification_id: str, after: str, most: int) -> list[str]:
    """The ids of agreements that follow a pattern, in order, from the one after `after`."""
    with unit.cursor() as cursor:
        rows = cursor.execute(_FOLLOWING, {"id": specification_id, "after": after, "most": most}).fetchall()
    return [row[0] for row in rows]


_OF_PARTY = """
    id IN (SELECT referrer_id FROM reference WHERE target_id = ANY (%(ids)s) AND referrer_type = 'Agreement')
    ORDER BY id DESC LIMIT %(most)s
"""


def agreements_of(unit: Unit, ids: Sequence[str], most: int = 100) -> list[Agreement]:
    """The agreements that engage any of these (all the ids of one customer, say), the latest first."""
    return [
        found
        for found in unit.load(Agreement, _OF_PARTY, {"ids": list(ids), "most": most})
        if any(party.id in ids for party in found.engaged_party)
    ]


_OVER = (AgreementState.REJECTED, AgreementState.TERMINATED, AgreementState.EXPIRED)
_OWNED = """
    id IN (SELECT referrer_id FROM reference WHERE target_id = %(owner)s AND referrer_type = 'Agreement')
    AND branch = %(branch)s AND lower(btrim(coalesce(status, ''))) <> ALL (%(over)s)
    AND EXISTS (
        SELECT FROM jsonb_array_elements(engaged_party) AS party
        WHERE party ->> 'id' = %(owner)s AND lower(btrim(party ->> 'role')) = ANY (%(roles)s)
    )
    ORDER BY id LIMIT %(most)s FOR UPDATE
"""


def hand_over(unit: Unit, branch: str, employee: str, successor: str, most: int) -> int:
    """Makes at most so many of the agreements that an employee looks after, and that aren't over, the successor's; how
    many these were. None: there are no more."""
    values = {"owner": employee, "branch": branch, "over": list(_OVER), "roles": list(OWNERS), "most": most}
    found = unit.load(Agreement, _OWNED, values)
    for one in found:
        one.hand_over(employee, successor)
        unit.announce(one, "HandOver")
        parties.remember(unit, one)
    return len(found)
