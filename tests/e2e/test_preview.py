"""What a preview says of each subscriber is what his bill says once the change has been made."""

import json
from decimal import Decimal
from typing import Any

import grpc
import pytest

from svyaz.orders.v1 import billing_pb2, billing_pb2_grpc
from tests.e2e.branch import CATALOG, ORDERING, Branch, eventually, order_of, price
from tests.platforms import RunningPlatform

VAT = [{"taxCategory": "VAT", "taxRate": 12}]
FAST = [{"subject": "characteristic.speed", "operator": "gte", "value": 100}]


def billed(platform: RunningPlatform, account: str) -> tuple[Decimal, Decimal]:
    """What recurs a month of all that the account was told, without and with tax; which of it nobody else reads."""
    running: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
    with grpc.insecure_channel(platform.address("orders")) as channel:
        listed = billing_pb2_grpc.BillingServiceStub(channel).ListBillingEvents(
            billing_pb2.ListBillingEventsRequest(account=account, epoch=1),
            metadata=(("authorization", f"Bearer {platform.token('billing', '*')}"),),
            timeout=20,
        )
    for event in listed.event:
        told = json.loads(event.data)
        key = told["productId"], told["productOfferingPriceId"]
        if event.type == "RecurringChargeStopEvent":
            del running[key]
        elif event.type != "ChargeCreateEvent":
            assert told["recurringChargePeriod"] == "month"
            running[key] = Decimal(told["amount"]["value"]), Decimal(told["taxIncludedAmount"]["value"])
    return sum((net for net, _ in running.values()), Decimal(0)), sum((g for _, g in running.values()), Decimal(0))


def amounts(one: dict[str, Any], when: str) -> tuple[Decimal, Decimal]:
    """Of a previewed product, without and with tax."""
    (found,) = one["difference"]
    assert found["recurringChargePeriod"] == "month"
    return Decimal(str(found[when]["value"])), Decimal(str(found[f"{when}TaxIncluded"]["value"]))


def welcome(percent: int, months: int) -> dict[str, Any]:
    return {
        "name": f"Welcome {percent}",
        "priceType": "discount",
        "percentage": percent,
        "applicationDuration": {"amount": months, "units": "month"},
    }


def subscribed(branch: Branch, offering: str, family: str, **item: Any) -> str:
    """A new customer who has the offering; the account."""
    customer, account = branch.customer("Айбек", family)
    body = order_of(customer, account, offering)
    body["productOrderItem"][0] |= item
    order = branch.persist("POST", f"{ORDERING}/productOrder", body)
    done = branch.ended(order["id"])
    assert done["state"] == "completed", done
    return account


# The whole of a migration: on a busy machine it takes longer than a test may otherwise.
@pytest.mark.timeout(480)
def test_the_bills_after_a_migration_are_those_of_its_preview(platform: RunningPlatform, branch: Branch) -> None:
    def a_price(body: dict[str, Any]) -> str:
        return str(branch.persist("POST", f"{CATALOG}/productOfferingPrice", body, role="catalog-manager")["id"])

    def a_fee(name: str, value: str, *discounts: str, **more: Any) -> str:
        altered = [{"id": one, "relationshipType": "discountedBy"} for one in discounts]
        return a_price({**price(name, value), "tax": VAT, "popRelationship": altered, **more})

    old_discount, new_discount = a_price(welcome(10, 3)), a_price(welcome(5, 6))
    old = [a_fee("Fee", "990.10", old_discount), a_fee("Fast", "300", condition=FAST)]
    new = [a_fee("Fee", "1090.55", new_discount), a_fee("Fast", "49.95", condition=FAST)]
    for one in (old_discount, new_discount, *old, *new):
        branch.launch(f"{CATALOG}/productOfferingPrice/{one}")
    design = {"name": "Fibre 500", "version": "1.0", "productOfferingPrice": [{"id": one} for one in old]}
    first = branch.persist("POST", f"{CATALOG}/productOffering", design, role="catalog-manager")["id"]
    branch.launch(f"{CATALOG}/productOffering/{first}")

    fast = {"product": {"productCharacteristic": [{"name": "speed", "value": 200}]}}
    accounts = [
        subscribed(branch, first, "Один"),
        subscribed(branch, first, "Другой"),
        subscribed(branch, first, "Три", quantity=3),
        subscribed(branch, first, "Быстрый", **fast),
        subscribed(branch, first, "Быстрые", quantity=2, **fast),
    ]
    before: dict[str, tuple[Decimal, Decimal]] = {}

    def told() -> bool:
        before.update({account: billed(platform, account) for account in accounts})
        return all(net for net, _ in before.values())

    eventually(told, 30, lambda: f"billing has heard {before}")

    second = branch.act("createProductOfferingVersion", {"id": first})["id"]
    changed = {"productOfferingPrice": [{"id": one} for one in new], "existingSubscribers": {"policy": "migrate"}}
    branch.persist("PATCH", f"{CATALOG}/productOffering/{second}", changed, role="catalog-manager")
    preview: dict[str, Any] = {}

    def previewed() -> bool:
        # The catalog hears of what is held a moment later.
        made = branch.act("previewChange", {"productOfferingId": [second]})

        def done() -> bool:
            preview.clear()
            preview.update(branch.act("getChangePreview", {"id": made["id"]}))
            return bool(preview["state"] != "running")

        eventually(done, 60, lambda: f"the preview is {preview}")
        return int(preview.get("products", 0)) == len(accounts)

    eventually(previewed, 60, lambda: f"the preview is {preview}")
    assert (preview["state"], preview.get("warning", [])) == ("done", [])
    assert {one["outcome"]: int(one["products"]) for one in preview["count"]} == {"more": 3, "less": 2}
    listed = branch.act("listPreviewedProducts", {"id": preview["id"]})["items"]
    foreseen = {one["billingAccountId"]: one for one in listed}
    assert foreseen.keys() == set(accounts)
    assert {account: amounts(one, "before") for account, one in foreseen.items()} == before

    branch.launch(f"{CATALOG}/productOffering/{second}")
    asked = branch.act("migrateProducts", {"fromOffering": [first], "toOffering": second})
    if asked.get("awaitsApproval"):
        branch.act("startProductMigration", {"id": asked["id"]}, role="reviewer")
    progress: dict[str, Any] = {}

    def moved() -> bool:
        progress.update(branch.act("getProductMigration", {"id": asked["id"]}))
        return bool(progress["state"] == "completed")

    eventually(moved, 240, lambda: f"the migration is {progress}")
    assert progress["progress"]["completed"] == len(accounts)
    after: dict[str, tuple[Decimal, Decimal]] = {}

    def changed_all() -> bool:
        after.update({account: billed(platform, account) for account in accounts})
        return all(after[account] != before[account] for account in accounts)

    eventually(changed_all, 30, lambda: f"billing has heard {after}")
    assert {account: amounts(one, "after") for account, one in foreseen.items()} == after
    (total,) = preview["total"]
    assert Decimal(str(total["afterTaxIncluded"]["value"])) == sum(gross for _, gross in after.values())
