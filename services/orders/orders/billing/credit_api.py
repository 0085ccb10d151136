"""Credits over gRPC: for those who owe an account something, once for each cause."""

import grpc

from chassis import clients, convert
from chassis.convert import to_timestamp
from chassis.db import Database
from chassis.errors import InvalidArgument, NotFound, Violation
from chassis.types import new_id
from chassis.unit import Unit
from orders.billing import credit_store
from orders.billing.credit import Credit, CreditKind, require_currency
from orders.billing.store import add_charges
from orders.inventory.domain import Product
from svyaz.customers.v1 import customers_pb2, customers_pb2_grpc
from svyaz.orders.v1 import billing_pb2

_KINDS = {
    billing_pb2.BILLING_CREDIT_KIND_SLA_CREDIT: CreditKind.SLA_CREDIT,
    billing_pb2.BILLING_CREDIT_KIND_DISCOUNT: CreditKind.DISCOUNT,
    billing_pb2.BILLING_CREDIT_KIND_POINTS: CreditKind.POINTS,
    billing_pb2.BILLING_CREDIT_KIND_CORRECTION: CreditKind.CORRECTION,
}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}


class CreditMethods:
    """What an account gets; `customers` says whose it is, and its currency."""

    def __init__(self, database: Database, customers: customers_pb2_grpc.CustomerServiceStub) -> None:
        self._credit_database = database
        self._customers = customers

    def CreateBillingCredit(
        self, request: billing_pb2.CreateBillingCreditRequest, context: grpc.ServicerContext
    ) -> billing_pb2.BillingCredit:
        """Credits an account once for a cause, and tells billing in the same transaction."""
        database = self._credit_database
        before = database.remembered(request, billing_pb2.BillingCredit)
        if before is not None:
            return before
        kind = _kind(request.kind)
        asked = customers_pb2.GetOrderingContextRequest(billing_account_id=[request.account])
        known = clients.call(self._customers.GetOrderingContext, asked) if request.account else None
        account = next(iter(known.billing_account), None) if known is not None else None

        def work(unit: Unit) -> billing_pb2.BillingCredit:
            credit = Credit(
                id=new_id(),
                branch=account.branch if account is not None else "",
                kind=kind,
                cause_id=request.cause_id,
                account=request.account,
                amount=convert.from_money(request.amount),
                name=request.name,
                reason=request.reason,
                occurred_at=unit.at,
                product_id=request.product_id,
                charge_id=request.charge_id,
                points=request.points,
            )
            if account is None:
                raise NotFound("NOT_FOUND", f"there is no billing account {request.account!r}")
            product = _product(unit, credit)
            require_currency(credit, account.currency or _currencies(product))
            if credit.charge_id and not credit_store.has_charge(unit.session, credit.account, credit.charge_id):
                raise NotFound("NOT_FOUND", f"the account {credit.account} has no charge {credit.charge_id!r}")
            there = credit_store.add_unless_there(unit, credit)
            if there is not None:
                there.require_same(credit)
                return _message(there)
            add_charges(unit, [credit.charge(_customer(product))])
            return _message(credit)

        return database.transact(request, billing_pb2.BillingCredit, work)

    def GetBillingCredit(
        self, request: billing_pb2.GetBillingCreditRequest, context: grpc.ServicerContext
    ) -> billing_pb2.BillingCredit:
        """The credit of a cause; raises NotFound."""
        kind = _kind(request.kind)
        with self._credit_database.unit() as unit:
            credit = credit_store.found(unit.session, kind, request.cause_id, [])
        if credit is None:
            raise NotFound("NOT_FOUND", f"{kind.value}/{request.cause_id} has no credit")
        return _message(credit)


def _kind(number: "billing_pb2.BillingCreditKind.ValueType") -> CreditKind:
    kind = _KINDS.get(number)
    if kind is None:
        raise InvalidArgument(
            "CREDIT_INVALID", "this can't be credited", violations=[Violation("kind", "says what it is for")]
        )
    return kind


def _product(unit: Unit, credit: Credit) -> Product | None:
    """The product that is named; raises NotFound, InvalidArgument OTHER_ACCOUNT."""
    if not credit.product_id:
        return None
    product = unit.get(Product, credit.product_id)
    paid_by = product.billing_account.id if product.billing_account is not None else None
    if product.branch != credit.branch or (paid_by and paid_by != credit.account):
        raise InvalidArgument(
            "OTHER_ACCOUNT",
            f"the product {credit.product_id} is paid by {paid_by}",
            violations=[Violation("product_id", f"isn't paid by {credit.account}")],
        )
    return product


def _currencies(product: Product | None) -> set[str]:
    amounts = (price.price.duty_free_amount for price in product.product_price if price.price) if product else ()
    return {amount.unit for amount in amounts if amount is not None and amount.unit}


def _customer(product: Product | None) -> str:
    """Who has the product, as its charges say it; empty: nobody is named."""
    parties = product.related_party if product is not None else ()
    return next((party.id for party in parties if party.id and (party.role or "").lower() == "customer"), "")


def _message(credit: Credit) -> billing_pb2.BillingCredit:
    return billing_pb2.BillingCredit(
        id=credit.id,
        branch=credit.branch,
        kind=_NUMBERS[credit.kind],
        cause_id=credit.cause_id,
        account=credit.account,
        product_id=credit.product_id,
        charge_id=credit.charge_id,
        amount=convert.to_money(credit.amount),
        name=credit.name,
        reason=credit.reason,
        points=credit.points,
        occurred_at=to_timestamp(credit.occurred_at),
    )
