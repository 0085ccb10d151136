"""What real orders, suspensions and credits tell billing is what the log says that happened."""

import json
from datetime import timedelta
from typing import Any

import pytest

from chassis import clients
from chassis.errors import AlreadyExists, DomainError
from chassis.events import acting
from orders.billing import source
from orders.billing.credit_api import CreditMethods
from orders.billing.reconciliation import Comparison, Discrepancy
from svyaz.customers.v1 import customers_pb2_grpc
from svyaz.orders.v1 import billing_pb2
from svyaz.type.v1 import values_pb2
from tests.orders.conftest import Shop, item

SUSPEND = "svyaz.orders.v1.ProductLifecycleService/"
TEMPLATE = "svyaz.orders.v1.OrderTemplateService/"


def discrepancies(shop: Shop) -> tuple[int, list[Discrepancy]]:
    """How many charges of the last days were compared, and what doesn't fit."""
    comparison = Comparison()
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        for start, end in source.parts(unit.at - timedelta(days=2), unit.at + timedelta(days=1)):
            happened = source.happened(unit, "bishkek", start, end)
            comparison.part(happened, source.charged(unit, "bishkek", start, end))
    # Nothing is sealed here.
    return comparison.compared, [one for one in comparison.discrepancies() if one.fault != "unsealed"]


def credit(shop: Shop, **fields: Any) -> Any:
    """Somebody credits an account: the service of promises about service, say."""
    channel = clients.channel(shop.world.settings.addresses["customers"], shop.world.tokens)
    nobody: Any = None
    try:
        api = CreditMethods(shop.database, customers_pb2_grpc.CustomerServiceStub(channel))
        with acting("orders", "sla", "bishkek"):
            return api.CreateBillingCredit(billing_pb2.CreateBillingCreditRequest(**fields), nobody)
    finally:
        channel.close()


def breach(account: str, units: int = 50, unit: str = "KGS", **more: Any) -> dict[str, Any]:
    return {
        "kind": billing_pb2.BILLING_CREDIT_KIND_SLA_CREDIT,
        "cause_id": "breach-1",
        "account": account,
        "amount": values_pb2.Money(unit=unit, units=units),
        "name": "Availability",
        "reason": "availability.monthly",
        **more,
    }


def test_whatever_orders_do_to_products_is_charged_as_the_log_says(shop: Shop) -> None:
    customer, account = shop.customer()
    small = shop.offering(shop.price(100), shop.price(30, recurring=False))
    large = shop.offering(shop.price(200), shop.price(20))
    order = shop.completed(customer, account, item("1", "ADD", small), item("2", "ADD", large))
    products = shop.products(order.id)
    shop.completed(customer, account, item("1", "MODIFY", large, products[small].id))
    shop.agent(SUSPEND + "SuspendProduct", id=products[large].id, reason="SUSPENSION_REASON_VOLUNTARY")
    shop.work()
    shop.agent(SUSPEND + "ResumeProduct", id=products[large].id, reason="SUSPENSION_REASON_VOLUNTARY")
    shop.work()
    shop.completed(customer, account, item("1", "DELETE", None, products[large].id))
    credit(shop, **breach(account))
    told = {kind for kind, _ in shop.told(account)}
    assert {"RecurringChargeSuspend", "RecurringChargeResume", "CreditCreate"} <= told
    compared, wrong = discrepancies(shop)
    assert compared == len(shop.charges(account))
    assert wrong == []


def test_what_changes_hands_is_stopped_for_one_and_started_for_the_other_as_the_log_says(shop: Shop) -> None:
    (old, old_account), (new, new_account) = shop.customer(), shop.customer()
    offering = shop.offering(shop.price(500), shop.price(20))
    product = shop.products(shop.completed(old, old_account, item("1", "ADD", offering)).id)[offering].id
    given = {"product": product, "from_customer": old, "to_customer": new, "billing_account": new_account}
    parameter = [{"name": name, "value": json.dumps(value).encode()} for name, value in given.items()]
    shop.agent(TEMPLATE + "PlaceTemplateOrder", template="changeOfOwner", parameter=parameter)
    shop.work()
    assert {kind for kind, _ in shop.told(new_account)} == {"RecurringChargeStart"}
    assert discrepancies(shop) == (6, [])


def test_what_rests_when_it_changes_hands_rests_for_its_new_owner(shop: Shop) -> None:
    """Whoever is told that a charge goes on has been told that it began."""
    (old, old_account), (new, new_account) = shop.customer(), shop.customer()
    fee = {"duty_free_amount": {"unit": "KGS", "units": 300}}
    product = shop.product(
        status="PRODUCT_STATUS_ACTIVE",
        related_party=[{"id": old, "role": "customer"}],
        billing_account={"id": old_account},
        product_price=[{"name": "line", "price_type": "recurring", "recurring_charge_period": "month", "price": fee}],
    )
    shop.agent(SUSPEND + "SuspendProduct", id=product, reason="SUSPENSION_REASON_VOLUNTARY")
    shop.work()
    given = {"product": product, "from_customer": old, "to_customer": new, "billing_account": new_account}
    parameter = [{"name": name, "value": json.dumps(value).encode()} for name, value in given.items()]
    shop.agent(TEMPLATE + "PlaceTemplateOrder", template="changeOfOwner", parameter=parameter)
    shop.work()
    assert shop.told(new_account) == [("RecurringChargeStart", "300"), ("RecurringChargeSuspend", "300")]
    assert discrepancies(shop)[1] == []


def test_a_credit_is_given_once_for_its_cause(shop: Shop) -> None:
    _, account = shop.customer()
    first = credit(shop, **breach(account))
    assert credit(shop, **breach(account)) == first
    with pytest.raises(AlreadyExists, match="another amount") as refused:
        credit(shop, **breach(account, units=60))
    assert refused.value.reason == "CREDIT_EXISTS"
    (told,) = shop.charges(account)
    assert told["amount"] == {"unit": "KGS", "value": "-50"}
    assert (told["cause"], told["name"], told["reason"]) == (
        "slaCredit/breach-1",
        "Availability",
        "availability.monthly",
    )
    assert discrepancies(shop) == (1, [])


def test_a_credit_is_checked_against_its_account_product_and_charge(shop: Shop) -> None:
    customer, account = shop.customer()
    _, other = shop.customer()
    offering = shop.offering(shop.price(100))
    order = shop.completed(customer, account, item("1", "ADD", offering))
    product = shop.products(order.id)[offering].id
    charge = shop.charges(account)[0]["id"]
    points = {"kind": billing_pb2.BILLING_CREDIT_KIND_POINTS, "points": 500, "charge_id": charge}
    for fields, reason in (
        (breach("nobody"), "NOT_FOUND"),
        (breach(account, unit="EUR"), "CURRENCY_MISMATCH"),
        (breach(account, product_id="none"), "NOT_FOUND"),
        (breach(other, product_id=product), "OTHER_ACCOUNT"),
        (breach(account, units=0), "CREDIT_INVALID"),
        (breach(account, reason="because he called"), "CREDIT_INVALID"),
        (breach(account, points=3), "CREDIT_INVALID"),
        (breach(other) | points, "NOT_FOUND"),
        (breach(account) | points | {"charge_id": ""}, "CREDIT_INVALID"),
        (breach(account, kind=0), "CREDIT_INVALID"),
    ):
        with pytest.raises(DomainError) as refused:
            credit(shop, **fields)
        assert refused.value.reason == reason, fields
    credit(shop, **breach(account, product_id=product) | points)
    told = shop.charges(account)[-1]
    assert (told["type"], told["points"], told["chargeId"]) == ("PointsRedemptionEvent", 500, charge)
    assert told["customerId"] == customer
    assert discrepancies(shop) == (2, [])
