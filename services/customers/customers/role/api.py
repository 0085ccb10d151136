"""What roles can be asked to do."""

from chassis.db import Database
from chassis.resources import StandardMethods
from chassis.unit import Unit
from customers.identity.collection import MembersCollection
from customers.party.references import changed, created, found_by_reference, refuse_when_referenced, require_branch
from customers.role.domain import PartyRole
from customers.role.store import party_role
from svyaz.customers.v1 import party_role_pb2


def _created(unit: Unit, role: PartyRole) -> None:
    _check_party(unit, role)
    created(unit, role)


def _changed(unit: Unit, role: PartyRole) -> None:
    _check_party(unit, role)
    changed(unit, role)


def _check_party(unit: Unit, role: PartyRole) -> None:
    if role.engaged_party is not None and role.engaged_party.id:
        require_branch(unit, role.branch, {"engaged_party.id": role.engaged_party.id})


class PartyRoles(StandardMethods):
    """TMF669."""

    def __init__(self, database: Database) -> None:
        super().__init__(
            party_role_pb2.DESCRIPTOR.services_by_name["PartyRoleService"],
            MembersCollection(
                database,
                PartyRole,
                party_role_pb2.PartyRole,
                by=("engaged_party.id", "related_party.id"),
                creating=_created,
                changed=_changed,
                deleting=refuse_when_referenced,
                elsewhere=found_by_reference(
                    party_role, "engaged_party.id", "related_party.id", "account.id", "agreement.id"
                ),
            ),
        )
