"""What parties and customers can be asked to do: one method, one use case, one transaction."""

from collections.abc import Callable, Sequence
from typing import Any

from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.resources import Collection, StandardMethods
from chassis.unit import Unit
from customers.party import hierarchy, store
from customers.party.domain import Customer, Individual, Organization, Referrer
from customers.party.references import Watcher, collection
from svyaz.customers.v1 import customers_pb2, party_pb2

# What an order asks about customers and accounts, by their ids.
OrderingContext = Callable[[Database, Sequence[str], Sequence[str]], customers_pb2.OrderingContext]
# Collection, or one that knows of merges.
CollectionKind = Callable[..., Collection[Any, Any]]


def _verify(unit: Unit, customer: Customer) -> None:
    party = customer.engaged_party.id if customer.engaged_party is not None else None
    branch = store.party_branch(unit, party) if party else None
    if branch is not None and branch != customer.branch:
        raise InvalidArgument(
            "OTHER_BRANCH",
            "the engaged party belongs to another branch than the customer",
            violations=[Violation("engaged_party.id", "of another branch")],
        )
    customer.verify(branch is not None)


class _Hierarchy:
    """What lies above and below an organization is kept with it."""

    def created(self, unit: Unit, aggregate: Referrer) -> None:
        hierarchy.state(unit, _organization(aggregate), new=True)

    def changed(self, unit: Unit, aggregate: Referrer) -> None:
        hierarchy.state(unit, _organization(aggregate))

    def deleted(self, unit: Unit, aggregate: Referrer) -> None:
        hierarchy.forget(unit, _organization(aggregate))


def _organization(aggregate: Referrer) -> Organization:
    assert isinstance(aggregate, Organization)
    return aggregate


class Parties(StandardMethods):
    """TMF632, with what lies above and below an organization, and who lives together."""

    def __init__(self, database: Database, kind: CollectionKind = Collection, watchers: Sequence[Watcher] = ()) -> None:
        self._database = database
        super().__init__(
            party_pb2.DESCRIPTOR.services_by_name["PartyService"],
            collection(database, Individual, party_pb2.Individual, kind, watchers),
            collection(database, Organization, party_pb2.Organization, kind, [_Hierarchy(), *watchers]),
        )

    def GetOrganizationHierarchy(
        self, request: party_pb2.GetOrganizationHierarchyRequest, context: Any
    ) -> party_pb2.OrganizationHierarchy:
        """Everything above and below an organization; raises NotFound."""
        with self._database.unit() as unit:
            organization = unit.get(Organization, request.id)
            above = hierarchy.ancestors(unit, organization.id)
            below = hierarchy.descendants(unit, organization.id, max(0, request.depth))
        return party_pb2.OrganizationHierarchy(
            id=organization.id,
            ancestor=[party_pb2.HierarchyNode(**node._asdict()) for node in above[: hierarchy.MOST]],
            descendant=[party_pb2.HierarchyNode(**node._asdict()) for node in below[: hierarchy.MOST]],
            truncated=max(len(above), len(below)) > hierarchy.MOST,
        )

    def ListHouseholdMembers(
        self, request: party_pb2.ListHouseholdMembersRequest, context: Any
    ) -> party_pb2.ListHouseholdMembersResponse:
        """Who lives in a household; raises NotFound, FailedPrecondition NO_HOUSEHOLD for another organization."""
        with self._database.unit() as unit:
            household = unit.get(Organization, request.household_id)
            if not household.is_household:
                raise FailedPrecondition("NO_HOUSEHOLD", f"organization {household.id} isn't of the type household")
            known = hierarchy.people(unit, [party.id or "" for party in household.related_party])
        return party_pb2.ListHouseholdMembersResponse(
            member=[
                party_pb2.HouseholdMember(
                    id=party.id or "",
                    role=party.role,
                    **(known[party.id]._asdict() if party.id in known else {}),
                )
                for party in household.related_party
            ]
        )

    def ListHouseholds(
        self, request: party_pb2.ListHouseholdsRequest, context: Any
    ) -> party_pb2.ListHouseholdsResponse:
        """The households that a person lives in."""
        with self._database.unit() as unit:
            found = hierarchy.households_of(unit, request.individual_id)
        households = []
        for one in found:
            member = one.member(request.individual_id)
            households.append(
                party_pb2.Household(
                    id=one.id, name=one.name, trading_name=one.trading_name, role=member.role if member else None
                )
            )
        return party_pb2.ListHouseholdsResponse(household=households)


class Customers(StandardMethods):
    """TMF629, and what an order asks before it is taken."""

    def __init__(
        self,
        database: Database,
        ordering_context: OrderingContext,
        kind: CollectionKind = Collection,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self._database = database
        self._ordering_context = ordering_context
        super().__init__(
            customers_pb2.DESCRIPTOR.services_by_name["CustomerService"],
            collection(database, Customer, customers_pb2.Customer, kind, watchers, _verify),
        )

    def GetOrderingContext(
        self, request: customers_pb2.GetOrderingContextRequest, context: Any
    ) -> customers_pb2.OrderingContext:
        """Those customers and accounts that exist; the others aren't mentioned."""
        return self._ordering_context(self._database, request.customer_id, request.billing_account_id)
