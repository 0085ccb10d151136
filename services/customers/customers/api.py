"""What customers can be asked to do: one method, one use case, one transaction."""

from typing import Any

from chassis.db import Database, Unit
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.references import lock_references
from chassis.resources import Collection, StandardMethods
from customers import store
from customers.domain import (
    BillFormat,
    BillingAccount,
    BillingCycleSpecification,
    BillPresentationMedia,
    Customer,
    FinancialAccount,
    Individual,
    Organization,
    PartyAccount,
    Referrer,
    SettlementAccount,
)
from svyaz.customers.v1 import account_pb2, customers_pb2, party_pb2


def refuse_when_referenced(unit: Unit, aggregate: Referrer) -> None:
    """Raises FailedPrecondition REFERENCED naming who refers to it."""
    lock_references(unit)
    found = store.references.referrers(unit, aggregate.id, most=5)
    if found:
        names = ", ".join(f"{kind} {key}" for kind, key in found)
        raise FailedPrecondition("REFERENCED", f"{type(aggregate).__name__} {aggregate.id} is referred to by {names}")
    store.refer(unit, aggregate.id, "", aggregate.branch, ())


def _created(unit: Unit, aggregate: Referrer) -> None:
    store.remember(unit, aggregate, new=True)


def _changed(unit: Unit, aggregate: Referrer) -> None:
    store.remember(unit, aggregate)


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
    _created(unit, customer)


def _customer_changed(unit: Unit, customer: Customer) -> None:
    _verify(unit, customer)
    _changed(unit, customer)


def _collection(database: Database, cls: Any, message: Any) -> Collection[Any, Any]:
    return Collection(database, cls, message, creating=_created, changed=_changed, deleting=refuse_when_referenced)


class Parties(StandardMethods):
    """TMF632."""

    def __init__(self, database: Database) -> None:
        super().__init__(
            party_pb2.DESCRIPTOR.services_by_name["PartyService"],
            _collection(database, Individual, party_pb2.Individual),
            _collection(database, Organization, party_pb2.Organization),
        )


class Accounts(StandardMethods):
    """TMF666."""

    def __init__(self, database: Database) -> None:
        super().__init__(
            account_pb2.DESCRIPTOR.services_by_name["AccountService"],
            _collection(database, PartyAccount, account_pb2.PartyAccount),
            _collection(database, BillingAccount, account_pb2.BillingAccount),
            _collection(database, SettlementAccount, account_pb2.SettlementAccount),
            _collection(database, FinancialAccount, account_pb2.FinancialAccount),
            _collection(database, BillFormat, account_pb2.BillFormat),
            _collection(database, BillPresentationMedia, account_pb2.BillPresentationMedia),
            _collection(database, BillingCycleSpecification, account_pb2.BillingCycleSpecification),
        )


class Customers(StandardMethods):
    """TMF629, and what an order asks before it is taken."""

    def __init__(self, database: Database) -> None:
        self._database = database
        super().__init__(
            customers_pb2.DESCRIPTOR.services_by_name["CustomerService"],
            Collection(
                database,
                Customer,
                customers_pb2.Customer,
                creating=_customer_created,
                changed=_customer_changed,
                deleting=refuse_when_referenced,
            ),
        )

    def GetOrderingContext(
        self, request: customers_pb2.GetOrderingContextRequest, context: Any
    ) -> customers_pb2.OrderingContext:
        """Those customers and accounts that exist; the others aren't mentioned."""
        return store.ordering_context(self._database, request.customer_id, request.billing_account_id)
