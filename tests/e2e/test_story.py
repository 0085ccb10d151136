"""From a price to a bill: what the platform is for, on everything that it is made of."""

import json
import os
import subprocess
import sys
from typing import Any

import grpc
import httpx
import pytest

from svyaz.customers.v1 import loyalty_pb2
from tests.e2e.branch import ACCOUNT, CUSTOMER, INVENTORY, ORDERING, Branch, account_of, eventually, order_of, price
from tests.platforms import RunningPlatform
from tests.serving import Caller

LOYALTY = "/tmf-api/loyalty/v4"
BILLING_TAIL = (sys.executable, "-m", "svyaz_cli.main", "billing-tail")


@pytest.fixture(scope="module")
def home_internet(branch: Branch) -> str:
    """An offering with a connection fee and a monthly fee."""
    return branch.offering("Home 100", [price("Connection", "500", recurring=False), price("Monthly fee", "990.50")])


def _tail(platform: RunningPlatform, state: Any, account: str) -> tuple[int, list[dict[str, Any]]]:
    """What billing reads of an account."""
    completed = subprocess.run(
        [*BILLING_TAIL, "--state", str(state), "--account", account, "--idle-exit", "3"],
        env=billing_environment(platform),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert completed.returncode in (0, 1), completed.stderr
    return completed.returncode, [json.loads(line) for line in completed.stdout.splitlines()]


def billing_environment(platform: RunningPlatform) -> dict[str, str]:
    """What the billing system is configured with."""
    return {
        **os.environ,
        "SVYAZ_VAR": str(platform.home.directory),
        "SVYAZ_PORT_BASE": str(platform.base),
        "SVYAZ_TOKEN": platform.token("billing", "*"),
    }


def _member(platform: RunningPlatform, branch: Branch, customer: str) -> Any:
    """The customer as a member of a programme that gives a point for each som of a charge."""
    programme = {"name": "Клуб", "productNumber": "C1"}
    made = branch.persist("POST", f"{LOYALTY}/loyaltyProgramProductSpec", programme, role="catalog-manager")
    rule = {
        "program_id": made["id"], "code": "CHARGED", "event_type": "charge.created",
        "formula": {"basis": "amount", "rate": "1"}, "state": loyalty_pb2.EARN_RULE_STATE_ACTIVE,
    }  # fmt: skip
    with grpc.insecure_channel(platform.address("customers")) as channel:
        admin = Caller(channel, platform.token("admin", branch.name))
        admin("svyaz.customers.v1.LoyaltyProgramService/CreateEarnRule", earn_rule=rule)
    member = {"name": "Айгуль", "customer": {"id": customer}, "loyaltyProgramProductSpec": {"id": made["id"]}}
    return branch.persist("POST", f"{LOYALTY}/loyaltyProgramMember", member)


def test_from_a_price_to_a_bill(platform: RunningPlatform, branch: Branch, home_internet: str, tmp_path: Any) -> None:
    customer, account = branch.customer("Айгуль", "Сыдыкова")
    member = _member(platform, branch, customer)
    quote = branch.persist("POST", "/pricing/v1/price", {"item": [{"id": "1", "productOfferingId": home_internet}]})
    amounts = {c["priceType"]: c["amount"] for c in quote["item"][0]["component"]}
    assert amounts["recurring"]["value"] == 990.5

    order = branch.order(customer, account, home_internet)
    assert order["state"] == "acknowledged"
    done = branch.ended(order["id"])
    assert done["state"] == "completed"
    assert [item["state"] for item in done["productOrderItem"]] == ["completed"]

    products = branch.get(f"{INVENTORY}/product?billingAccount.id={account}")
    assert [product["status"] for product in products] == ["active"]
    assert {p["priceType"] for p in products[0]["productPrice"]} == {"oneTime", "recurring"}

    code, lines = _tail(platform, tmp_path / "state", account)
    assert code == 0
    types = sorted(line["type"] for line in lines if "type" in line)
    assert types == ["ChargeCreateEvent", "RecurringChargeStartEvent"]
    again, more = _tail(platform, tmp_path / "state", account)
    assert (again, [line for line in more if "type" in line]) == (0, []), "a restart reads nothing twice"

    balance = f"{LOYALTY}/loyaltyBalance/{member['loyaltyBalance']['id']}"
    eventually(lambda: branch.get(balance)["quantity"]["value"] == 500, 20, lambda: "the charge has earned nothing")


def test_an_order_of_an_unknown_customer_waits_and_goes_on_when_the_customer_comes(
    branch: Branch, home_internet: str
) -> None:
    body = order_of("nobody", "nothing", home_internet)
    order = branch.persist("POST", f"{ORDERING}/productOrder", body)

    def state() -> str:
        return str(branch.get(f"{ORDERING}/productOrder/{order['id']}")["state"])

    eventually(lambda: state() == "pending", 20, state)
    customer, account = branch.customer("Нурлан", "Асанов")
    amended = order_of(customer, account, home_internet)
    branch.persist(
        "PATCH",
        f"{ORDERING}/productOrder/{order['id']}",
        {"relatedParty": amended["relatedParty"], "billingAccount": amended["billingAccount"]},
    )
    assert branch.ended(order["id"])["state"] == "completed"


def test_a_refused_order_says_what_is_wrong(branch: Branch, home_internet: str) -> None:
    customer, account = branch.customer("Бакыт", "Токтогулов")
    unknown = branch.send("POST", f"{ORDERING}/productOrder", order_of(customer, account, "no-such-offering"))
    assert (unknown.status_code, unknown.json()["code"]) == (400, "UNKNOWN_OFFERING")
    assert "productOrderItem[0].productOffering.id" in unknown.text

    retired = branch.offering("Old tariff", [price("Monthly fee", "100")])
    branch.persist(
        "PATCH",
        f"/tmf-api/productCatalogManagement/v4/productOffering/{retired}",
        {"lifecycleStatus": "Retired"},
        role="catalog-manager",
    )
    refused = branch.send("POST", f"{ORDERING}/productOrder", order_of(customer, account, retired))
    assert (refused.status_code, refused.json()["code"]) == (409, "OFFERING_NOT_SELLABLE")

    dollars = branch.persist("POST", f"{ACCOUNT}/billingAccount", account_of(customer, "dollars", "USD"))
    mismatch = branch.send("POST", f"{ORDERING}/productOrder", order_of(customer, dollars["id"], home_internet))
    assert (mismatch.status_code, mismatch.json()["code"]) == (400, "CURRENCY_MISMATCH")


def test_what_is_ordered_for_or_charged_can_not_be_deleted(branch: Branch, home_internet: str) -> None:
    customer, account = branch.customer("Гульнара", "Иманова")
    order = branch.ended(branch.order(customer, account, home_internet)["id"])

    def refused(path: str) -> httpx.Response:
        return branch.send("DELETE", path)

    eventually(
        lambda: "Product" in refused(f"{ACCOUNT}/billingAccount/{account}").text, 20, lambda: "the account isn't held"
    )
    assert refused(f"{ACCOUNT}/billingAccount/{account}").status_code == 409
    assert refused(f"{CUSTOMER}/customer/{customer}").status_code == 409
    assert refused(f"{ORDERING}/productOrder/{order['id']}").status_code == 409
    offering = branch.send(
        "DELETE", f"/tmf-api/productCatalogManagement/v4/productOffering/{home_internet}", role="catalog-manager"
    )
    assert offering.status_code == 409


def test_an_order_can_be_read_as_it_was(branch: Branch, home_internet: str) -> None:
    customer, account = branch.customer("Тимур", "Осмонов")
    order = branch.order(customer, account, home_internet)
    done = branch.ended(order["id"])
    assert done["state"] == "completed"
    then = branch.get(f"{ORDERING}/productOrder/{order['id']}?at={order['orderDate']}")
    assert then["state"] == "acknowledged"
    assert [item["state"] for item in then["productOrderItem"]] == ["acknowledged"]
