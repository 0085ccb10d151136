"""What parties and customers can be asked to do: one method, one use case, one transaction."""

from collections.abc import Callable, Sequence
from typing import Any

from chassis.db import Database, Unit
from chassis.errors import InvalidArgument, Violation
from chassis.resources import Collection, StandardMethods
from customers.party import store
from customers.party.domain import Customer, Individual, Organization
from customers.party.references import changed as refers_anew
from customers.party.references import collection, refuse_when_referenced
from customers.party.references import created as refers
from svyaz.customers.v1 import customers_pb2, party_pb2

# What an order asks about customers and accounts, by their ids.
OrderingContext = Callable[[Database, Sequence[str], Sequence[str]], customers_pb2.OrderingContext]
# What others do, inside the transaction, when a customer has changed.
CustomerHook = Callable[[Unit, Customer], None]


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


def _customer_created(unit: Unit, customer: Customer) -> None:
    _verify(unit, customer)
    refers(unit, customer)


def _customer_changed(unit: Unit, customer: Customer) -> None:
    _verify(unit, customer)
    refers_anew(unit, customer)


class Parties(StandardMethods):
    """TMF632."""

    def __init__(self, database: Database) -> None:
        super().__init__(
            party_pb2.DESCRIPTOR.services_by_name["PartyService"],
            collection(database, Individual, party_pb2.Individual),
            collection(database, Organization, party_pb2.Organization),
        )


class Customers(StandardMethods):
    """TMF629, and what an order asks before it is taken."""

    def __init__(
        self, database: Database, ordering_context: OrderingContext, hooks: Sequence[CustomerHook] = ()
    ) -> None:
        self._database = database
        self._ordering_context = ordering_context

        def changed(unit: Unit, customer: Customer) -> None:
            _customer_changed(unit, customer)
            for hook in hooks:
                hook(unit, customer)

        super().__init__(
            customers_pb2.DESCRIPTOR.services_by_name["CustomerService"],
            Collection(
                database,
                Customer,
                customers_pb2.Customer,
                creating=_customer_created,
                changed=changed,
                deleting=refuse_when_referenced,
            ),
        )

    def GetOrderingContext(
        self, request: customers_pb2.GetOrderingContextRequest, context: Any
    ) -> customers_pb2.OrderingContext:
        """Those customers and accounts that exist; the others aren't mentioned."""
        return self._ordering_context(self._database, request.customer_id, request.billing_account_id)
