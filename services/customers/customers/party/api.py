"""What parties and customers can be asked to do: one method, one use case, one transaction."""

from collections.abc import Callable, Sequence
from typing import Any

from chassis.db import Database, Unit
from chassis.errors import InvalidArgument, Violation
from chassis.resources import StandardMethods
from customers.party import store
from customers.party.domain import Customer, Individual, Organization
from customers.party.references import Watcher, collection
from svyaz.customers.v1 import customers_pb2, party_pb2

# What an order asks about customers and accounts, by their ids.
OrderingContext = Callable[[Database, Sequence[str], Sequence[str]], customers_pb2.OrderingContext]


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


class Parties(StandardMethods):
    """TMF632."""

    def __init__(self, database: Database, watchers: Sequence[Watcher] = ()) -> None:
        super().__init__(
            party_pb2.DESCRIPTOR.services_by_name["PartyService"],
            collection(database, Individual, party_pb2.Individual, watchers),
            collection(database, Organization, party_pb2.Organization, watchers),
        )


class Customers(StandardMethods):
    """TMF629, and what an order asks before it is taken."""

    def __init__(self, database: Database, ordering_context: OrderingContext, watchers: Sequence[Watcher] = ()) -> None:
        self._database = database
        self._ordering_context = ordering_context
        super().__init__(
            customers_pb2.DESCRIPTOR.services_by_name["CustomerService"],
            collection(database, Customer, customers_pb2.Customer, watchers, _verify),
        )

    def GetOrderingContext(
        self, request: customers_pb2.GetOrderingContextRequest, context: Any
    ) -> customers_pb2.OrderingContext:
        """Those customers and accounts that exist; the others aren't mentioned."""
        return self._ordering_context(self._database, request.customer_id, request.billing_account_id)
