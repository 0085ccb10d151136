"""What agreements and their patterns can be asked to do: one method, one use case, one transaction."""

from collections.abc import Mapping

from chassis.db import Database
from chassis.errors import FailedPrecondition, Violation
from chassis.resources import Collection, StandardMethods
from chassis.types import EntityRef
from chassis.unit import Unit
from customers.agreement import store
from customers.agreement.deadlines import Deadlines
from customers.agreement.domain import Agreement, AgreementSpecification, AgreementState
from customers.identity.collection import MembersCollection
from customers.party import store as parties
from customers.party.references import changed, created, found_by_reference, refuse_when_referenced, require_branch
from customers.role import store as roles
from svyaz.customers.v1 import agreement_pb2


class Agreements(StandardMethods):
    """TMF651."""

    def __init__(self, database: Database, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        super().__init__(
            agreement_pb2.DESCRIPTOR.services_by_name["AgreementService"],
            MembersCollection(
                database,
                Agreement,
                agreement_pb2.Agreement,
                by=("engaged_party.id",),
                creating=self._creating,
                changed=self._changed,
                deleting=_deleting,
                elsewhere=found_by_reference(
                    store.agreement, "engaged_party.id", "agreement_specification.id", "associated_agreement.id"
                ),
            ),
            Collection(
                database,
                AgreementSpecification,
                agreement_pb2.AgreementSpecification,
                creating=created,
                changed=self._specification_changed,
                deleting=refuse_when_referenced,
            ),
        )

    def _creating(self, unit: Unit, agreement: Agreement) -> None:
        agreement.ends_by(self._deadlines.zones)
        _check_parties(unit, agreement)
        created(unit, agreement)
        self._deadlines.plan(unit, agreement)
        _engage(unit, agreement, frozenset())

    def _changed(self, unit: Unit, agreement: Agreement) -> None:
        agreement.ends_by(self._deadlines.zones)
        before = store.before(agreement)
        redated = agreement.redate(before.end)
        # Whoever sets an end in the past ends it, unless he says what it is then.
        if redated and not before.status_changed and agreement.in_force and agreement.is_over(unit.at):
            agreement.expire()
        _check_parties(unit, agreement)
        changed(unit, agreement)
        if redated:
            self._deadlines.drop(unit, agreement)
            self._deadlines.settled(unit, agreement, "another end")
        elif before.status_changed and not agreement.in_force:
            self._deadlines.settled(unit, agreement, agreement.status or "")
        self._deadlines.plan(unit, agreement)
        _engage(unit, agreement, before.engaged)

    def _specification_changed(self, unit: Unit, specification: AgreementSpecification) -> None:
        changed(unit, specification)
        if store.notices_changed(specification):
            self._deadlines.renotice(unit, specification)


def _check_parties(unit: Unit, agreement: Agreement) -> None:
    """Raises InvalidArgument OTHER_BRANCH; FailedPrecondition UNRESOLVED_REFERENCE for an agreement that becomes active
    and engages somebody unknown."""
    engaged = {
        f"engaged_party[{i}].id": party.id for i, party in enumerate(agreement.engaged_party) if party.id is not None
    }
    known = require_branch(unit, agreement.branch, engaged)
    if agreement.state is not AgreementState.ACTIVE or not store.before(agreement).status_changed:
        return
    missing = {path: party for path, party in engaged.items() if party not in known}
    unknown = _unless_roles(unit, missing) if missing else {}
    if unknown:
        raise FailedPrecondition(
            "UNRESOLVED_REFERENCE",
            f"agreement {agreement.id} engages somebody who isn't known",
            violations=[Violation(path, f"nobody has the id {party!r}") for path, party in unknown.items()],
        )


def _unless_roles(unit: Unit, missing: Mapping[str, str]) -> Mapping[str, str]:
    found = roles.known(unit, list(missing.values()))
    return {path: party for path, party in missing.items() if party not in found}


def _engage(unit: Unit, agreement: Agreement, before: frozenset[str]) -> None:
    """The customers that an agreement in force engages name it, so that their orders are priced by it; those whom it
    engaged before, and engages no more, don't."""
    engaged = {party.id for party in agreement.engaged_party if party.id}
    begins = agreement.in_force and not agreement.is_over(unit.at)
    left = before - engaged
    for customer in store.customers_of(unit, sorted(left | engaged if begins else left)):
        others = tuple(one for one in customer.agreement if one.id != agreement.id)
        if customer.id in left:
            now = others
        elif len(others) == len(customer.agreement):
            reference = EntityRef(id=agreement.id, name=agreement.name, at_referred_type=Agreement.__name__)
            now = (*others, reference)
        else:
            continue
        if now != customer.agreement:
            customer.agreement = now
            parties.remember(unit, customer)


def _deleting(unit: Unit, agreement: Agreement) -> None:
    """The customers that it engages don't hold it: they name it because it is there."""
    for customer in store.customers_of(unit, [party.id for party in agreement.engaged_party if party.id]):
        customer.agreement = tuple(one for one in customer.agreement if one.id != agreement.id)
        parties.remember(unit, customer)
    unit.flush()
    refuse_when_referenced(unit, agreement)
