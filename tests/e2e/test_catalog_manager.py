"""A catalog manager's story: from a design to the market, to the next version, to the end, with subscribers."""

from typing import Any

import pytest

from tests.e2e.branch import CATALOG, INVENTORY, ORDERING, Branch, eventually, price

OFFERING = f"{CATALOG}/productOffering"
PRICE = f"{CATALOG}/productOfferingPrice"


def refused(branch: Branch, path: str, body: Any, reason: str, *, method: str = "PATCH", role: str = "") -> Any:
    answer = branch.send(method, path, body, role=role or "catalog-manager")
    assert (answer.status_code, answer.json()["code"]) == (409, reason), answer.text
    return answer.json()


def product_of(branch: Branch, account: str) -> Any:
    (product,) = branch.get(f"{INVENTORY}/product?billingAccount.id={account}")
    return product


def fee(product: Any) -> float:
    return float(product["productPrice"][0]["price"]["dutyFreeAmount"]["value"])


def moved(branch: Branch, path: str, *statuses: str) -> None:
    for status in statuses:
        branch.persist("PATCH", path, {"lifecycleStatus": status}, role="catalog-manager")


# A whole life: on a busy machine it takes longer than a test may otherwise.
@pytest.mark.timeout(480)
def test_an_offering_from_its_design_to_its_end(branch: Branch) -> None:
    # --- design, with something in it that would never apply
    monthly = branch.persist("POST", PRICE, price("Monthly fee", "990"), role="catalog-manager")["id"]
    welcome = branch.persist(
        "POST",
        PRICE,
        {"name": "Welcome", "priceType": "discount", "percentage": 40, "phase": ["first year"]},
        role="catalog-manager",
    )["id"]
    design = {
        "name": "Fibre 300",
        "version": "1.0",
        "productOfferingPrice": [{"id": monthly}, {"id": welcome}],
    }
    first = branch.persist("POST", OFFERING, design, role="catalog-manager")["id"]
    (finding,) = branch.act("lintProductOffering", {"id": first})["finding"]
    assert finding["field"] == "product_offering_price[1].phase[0]"

    # --- test: what never applies doesn't get through, and a large discount needs somebody else
    moved(branch, f"{PRICE}/{monthly}", "In test", "Active")
    moved(branch, f"{PRICE}/{welcome}", "In test")
    moved(branch, f"{OFFERING}/{first}", "In test")
    refused(branch, f"{OFFERING}/{first}", {"lifecycleStatus": "Active"}, "NEVER_APPLIES")
    refused(branch, f"{PRICE}/{welcome}", {"lifecycleStatus": "Active"}, "APPROVAL_REQUIRED")
    branch.persist("PATCH", f"{OFFERING}/{first}", {"productOfferingPrice": [{"id": monthly}]}, role="catalog-manager")
    assert branch.act("lintProductOffering", {"id": first}).get("finding", []) == []

    # --- launch: by two people
    moved(branch, f"{OFFERING}/{first}", "Active")
    customer, account = branch.customer("Айбек", "Маматов")
    order = {"id": "1", "action": "add", "productOffering": {"id": first}}
    body = {
        "relatedParty": [{"id": customer, "role": "customer", "@referredType": "Customer"}],
        "billingAccount": {"id": account},
        "productOrderItem": [order],
    }
    refused(branch, f"{ORDERING}/productOrder", body, "OFFERING_NOT_SELLABLE", method="POST", role="agent")
    refused(branch, f"{OFFERING}/{first}", {"lifecycleStatus": "Launched"}, "APPROVAL_REQUIRED")
    refused(branch, "/publication/v1/approveProductOffering", {"id": first}, "OWN_WORK", method="POST")
    approval = branch.act("approveProductOffering", {"id": first, "note": "checked"}, role="reviewer")
    assert (approval["approver"], approval["author"]) == ("reviewer", ["developer"])
    moved(branch, f"{OFFERING}/{first}", "Launched")

    # --- sell; what is sold doesn't change in place
    assert branch.ended(branch.order(customer, account, first)["id"])["state"] == "completed"
    assert fee(product_of(branch, account)) == 990
    refused(branch, f"{PRICE}/{monthly}", {"price": {"unit": "KGS", "value": 1}}, "PUBLISHED")
    refused(branch, f"{OFFERING}/{first}", {"productOfferingPrice": []}, "PUBLISHED")

    # --- a new version, with a price of its own
    wanted = {"id": first, "copyPrices": True}
    second = branch.act("createProductOfferingVersion", wanted)
    assert (second["version"], second["series"], second["lifecycleStatus"]) == ("2.0", first, "In design")
    dearer = second["productOfferingPrice"][0]["id"]
    assert dearer != monthly
    branch.persist("PATCH", f"{PRICE}/{dearer}", {"price": {"unit": "KGS", "value": 1190}}, role="catalog-manager")
    moved(branch, f"{PRICE}/{dearer}", "In test", "Active")
    branch.launch(f"{OFFERING}/{second['id']}")
    # Whichever version is ordered, it is the new one that is sold.
    newcomer, her_account = branch.customer("Нуриза", "Абдиева")
    assert branch.ended(branch.order(newcomer, her_account, first)["id"])["state"] == "completed"
    assert fee(product_of(branch, her_account)) == 1190

    # --- who bought the old one keeps it, and so it can't go
    held = product_of(branch, account)
    assert (held["productOffering"]["id"], fee(held)) == (first, 990)
    error = refused(branch, f"{OFFERING}/{first}", {"lifecycleStatus": "Retired"}, "HAS_HOLDERS")
    assert "1 live product is" in error["reason"]

    # --- migrate: one order that modifies the product; what the version didn't promise needs two people
    request = {"fromOffering": [first], "toOffering": second["id"], "description": "to version 2"}
    asked = branch.act("migrateProducts", request)
    migration = asked["id"]
    assert (asked["state"], asked["awaitsApproval"]) == ("acknowledged", True)
    refused(branch, "/migration/v1/startProductMigration", {"id": migration}, "OWN_WORK", method="POST")
    branch.act("startProductMigration", {"id": migration}, role="reviewer")
    progress: dict[str, Any] = {}

    def over() -> bool:
        progress.update(branch.act("getProductMigration", {"id": migration}))
        return bool(progress["state"] == "completed")

    eventually(over, 180, lambda: f"the migration is {progress}")
    assert (progress["progress"]["total"], progress["progress"]["completed"]) == (1, 1)
    (row,) = branch.act("listMigratedProducts", {"id": migration})["items"]
    assert row["productId"] == held["id"]
    done = branch.get(f"{ORDERING}/productOrder/{row['productOrderId']}")
    assert (done["state"], [item["action"] for item in done["productOrderItem"]]) == ("completed", ["modify"])
    now = product_of(branch, account)
    assert (now["productOffering"]["id"], fee(now)) == (second["id"], 1190)
    mine = branch.get(f"{ORDERING}/productOrder?category=migration")
    assert [order["id"] for order in mine] == [row["productOrderId"]]

    # --- and now it may retire
    def retired() -> bool:
        path, body = f"{OFFERING}/{first}", {"lifecycleStatus": "Retired"}
        return branch.send("PATCH", path, body, role="catalog-manager").is_success

    eventually(retired, 20, lambda: "the old version still has holders")
    asked = {"item": [{"id": "1", "productOfferingId": first}]}
    priced = branch.persist("POST", "/pricing/v1/price", asked)
    assert priced["item"][0]["productOffering"]["id"] == second["id"]
