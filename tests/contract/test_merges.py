"""Merges over REST: three verbs beside TM Forum's resources, which go on to answer under every id."""

from typing import Any

import pytest

from tests.contract.specs import PATHS, Spec
from tests.contract.test_refusals import refused
from tests.running import Api

CUSTOMER, ACCOUNT = PATHS["customer"], PATHS["billingAccount"]


def post(api: Api, verb: str, **body: Any) -> Any:
    return api.post(f"/identity/v1/{verb}", body)


@pytest.fixture
def two(api: Api) -> list[str]:
    """Two customers who are one person."""
    party = {"id": "700", "@referredType": "Individual"}
    return [api.made(CUSTOMER, {"name": name, "engagedParty": party})["id"] for name in ("Aigul", "Айгүл")]


def test_a_merge_and_its_undoing(api: Api, two: list[str], specs: dict[str, Spec]) -> None:
    first, second = two
    made = post(api, "mergeCustomers", survivorId=second, absorbedId=first, reason="one passport", score=0.93)
    assert made.status_code == 200, made.text
    merge = made.json()
    assert (merge["state"], merge["score"], merge["memberId"]) == ("active", 0.93, [second, first])
    assert merge["receipt"]["step"][-1]["action"] in ("SURVIVOR_GIVEN", "RULE_PREFERRED_OTHER")
    shown = api.get(f"{CUSTOMER}/{first}").json()
    assert (shown["id"], shown["name"], shown["mergedFrom"]) == (second, "Айгүл", first)
    assert shown["href"] == f"{CUSTOMER}/{second}"
    specs["customerManagement"].check("Customer", shown)
    names = [one["name"] for one in api.get(CUSTOMER, params={"id": f"{first},{second}"}).json()]
    assert names == ["Айгүл"]
    absorbed = api.get(CUSTOMER, params={"mergedInto": second}).json()
    assert [(one["id"], one["mergedInto"]) for one in absorbed] == [(first, second)]
    answer = api.patch(f"{CUSTOMER}/{first}", {"name": "Else"})
    refused(answer, 409, "MERGED")
    refused(post(api, "mergeCustomers", survivorId=first, absorbedId=second, reason="again"), 409, "ALREADY_MERGED")
    resolved = post(api, "resolveCustomer", id=first).json()
    assert (resolved["survivorId"], [one["id"] for one in resolved["customer"]]) == (second, [second, first])
    undone = post(api, "unmergeCustomers", mergeId=merge["id"], reason="two people")
    assert undone.json()["state"] == "undone"
    assert api.get(f"{CUSTOMER}/{first}").json()["name"] == "Aigul"
    assert post(api, "getCustomerMerge", id=merge["id"]).json()["undoReason"] == "two people"
