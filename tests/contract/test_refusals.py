"""What a caller may not do, and how that is answered; what other tests at the gateway refuse already isn't repeated."""

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.contract.specs import PATHS
from tests.e2e.branch import FINAL, eventually
from tests.running import Api


@pytest.fixture(scope="module")
def both(caller: Callable[..., Api]) -> Api:
    """An agent of two branches."""
    return caller(["agent", "catalog-manager"], ["bishkek", "osh"])


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error body of a refusal."""
    error: dict[str, Any] = answer.json()
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    assert error["status"] == str(status)
    return error


# Resource, a new one's body, the attribute, and two states between which there is no way.
TRANSITIONS = [
    ("catalog", {"name": "c"}, "lifecycleStatus", "In design", "Launched"),
    ("category", {"name": "c", "lifecycleStatus": "Active"}, "lifecycleStatus", "Active", "In design"),
    ("productSpecification", {"name": "s", "lifecycleStatus": "Retired"}, "lifecycleStatus", "Retired", "Launched"),
    ("productOffering", {"name": "o", "lifecycleStatus": "Obsolete"}, "lifecycleStatus", "Obsolete", "Active"),
    ("productOfferingPrice", {"name": "p", "lifecycleStatus": "Rejected"}, "lifecycleStatus", "Rejected", "In test"),
    ("promotion", {"name": "p", "lifecycleStatus": "retirement"}, "lifecycleStatus", "retirement", "release"),
    ("individual", {"givenName": "g", "familyName": "f", "status": "deceaded"}, "status", "deceaded", "validated"),
    ("organization", {"tradingName": "t", "status": "closed"}, "status", "closed", "initialized"),
    ("product", {"status": "terminated"}, "status", "terminated", "active"),
]


@pytest.mark.parametrize(
    ("resource", "body", "attribute", "current", "wanted"), TRANSITIONS, ids=lambda value: str(value)[:20]
)
def test_only_transitions_of_the_table_happen(
    api: Api, resource: str, body: dict[str, Any], attribute: str, current: str, wanted: str
) -> None:
    made = api.made(PATHS[resource], body)
    assert made[attribute] == current
    error = refused(api.patch(made["href"], {attribute: wanted, "name": "changed all the same"}), 409, "BAD_TRANSITION")
    assert f"'{current}'" in error["reason"]
    assert f"'{wanted}'" in error["reason"]
    assert [detail["path"] for detail in error["details"]] == [attribute]
    assert api.get(made["href"]).json() == made


def test_an_offering_of_which_nothing_is_charged_does_not_go_live(api: Api) -> None:
    fee = {"name": "fee", "price": {"unit": "KGS", "value": 1}, "recurringChargePeriodType": "month"}
    mistyped = api.made(PATHS["productOfferingPrice"], {**fee, "priceType": "reccurring", "lifecycleStatus": "Active"})
    body = {"name": "o", "productOfferingPrice": [{"id": mistyped["id"]}]}
    error = refused(api.post(PATHS["productOffering"], {**body, "lifecycleStatus": "Active"}), 409, "NEVER_APPLIES")
    assert [detail["path"] for detail in error["details"]] == ["productOfferingPrice[0].priceType"]
    made = api.made(PATHS["productOffering"], {**body, "lifecycleStatus": "In test"})
    error = refused(api.patch(made["href"], {"lifecycleStatus": "Active"}), 409, "NEVER_APPLIES")
    assert [detail["path"] for detail in error["details"]] == ["productOfferingPrice[0].priceType"]


def waiting_order(api: Api) -> dict[str, Any]:
    """An order that lacks what it needs."""
    made = api.made(PATHS["productOrder"], {"productOrderItem": [{"id": "1", "action": "add"}]})

    def shown() -> dict[str, Any]:
        order: dict[str, Any] = api.get(made["href"]).json()
        return order

    eventually(lambda: shown()["state"] == "pending", 20, lambda: f"the order is {shown()['state']}")
    return shown()


def test_an_order_is_amended_by_a_call_of_its_own_as_by_a_patch(api: Api) -> None:
    order = waiting_order(api)
    items = [{"id": "1", "action": "add"}, {"id": "2", "action": "add"}]
    wish = {"productOrder": {"id": order["id"], "productOrderItem": items}}
    preview = api.post("/orderAmendment/v1/previewAmendment", wish)
    assert preview.status_code == 200, preview.text
    assert api.get(order["href"]).json() == order
    amended = api.post("/orderAmendment/v1/amendProductOrder", wish)
    assert amended.status_code == 200, amended.text
    assert [item["id"] for item in api.get(order["href"]).json()["productOrderItem"]] == ["1", "2"]
    wish["productOrder"]["id"] = str(uuid.uuid4())
    refused(api.post("/orderAmendment/v1/previewAmendment", wish), 404, "NOT_FOUND")


def test_an_order_goes_on_by_itself_and_only_by_its_table(api: Api) -> None:
    order = waiting_order(api)
    for wanted in ("completed", "held", "acknowledged"):
        error = refused(api.patch(order["href"], {"state": wanted}), 409, "BAD_TRANSITION")
        assert "'pending'" in error["reason"]
        assert f"'{wanted}'" in error["reason"]
        assert [detail["path"] for detail in error["details"]] == ["state"]
    cancelled = api.patch(order["href"], {"state": "cancelled"})
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert "cancelled" in FINAL
    refused(api.patch(order["href"], {"state": "inProgress"}), 409, "BAD_TRANSITION")
    refused(api.patch(order["href"], {"description": "too late"}), 409, "ORDER_CLOSED")


def test_an_order_begins_where_orders_begin(api: Api) -> None:
    body = {"productOrderItem": [{"id": "1", "action": "add"}], "state": "completed"}
    error = refused(api.post(PATHS["productOrder"], body), 400, "BAD_INITIAL_STATE")
    assert [detail["path"] for detail in error["details"]] == ["state"]


def test_an_order_without_an_offering_waits_and_says_for_what(api: Api) -> None:
    order = waiting_order(api)
    assert any("productOffering of item 1" in note["text"] for note in order["note"])


def test_an_unknown_offering_is_refused_with_its_id_and_path(api: Api) -> None:
    known = api.made(PATHS["productOffering"], {"name": "known", "lifecycleStatus": "Launched"})["id"]
    items = [
        {"id": str(number), "action": "add", "productOffering": {"id": offering}}
        for number, offering in enumerate((known, "nowhere", known), 1)
    ]
    error = refused(api.post(PATHS["productOrder"], {"productOrderItem": items}), 400, "UNKNOWN_OFFERING")
    assert [detail["path"] for detail in error["details"]] == ["productOrderItem[1].productOffering.id"]
    assert "nowhere" in error["reason"] + error["message"]


def test_what_is_in_design_may_refer_to_nothing_but_not_go_live(api: Api) -> None:
    body = {"name": "unresolved", "productSpecification": {"id": "9881"}, "productOfferingPrice": [{"id": "1747"}]}
    made = api.made(PATHS["productOffering"], body)
    for status in ("In test",):
        assert api.patch(made["href"], {"lifecycleStatus": status}).status_code == 200
    error = refused(api.patch(made["href"], {"lifecycleStatus": "Active"}), 409, "UNRESOLVED_REFERENCE")
    assert {detail["path"] for detail in error["details"]} == {"productSpecification", "productOfferingPrice[0]"}
    refused(api.post(PATHS["productOffering"], body | {"lifecycleStatus": "Active"}), 409, "UNRESOLVED_REFERENCE")


def test_a_customer_of_an_unknown_party_is_shown_as_unverified(api: Api) -> None:
    unknown = {"id": "500", "@referredType": "Individual"}
    made = api.made(PATHS["customer"], {"name": "c", "engagedParty": unknown})
    assert made["status"] == "unverified"
    person = api.made(PATHS["individual"], {"givenName": "g", "familyName": "f"})
    known = api.patch(made["href"], {"engagedParty": {"id": person["id"]}}).json()
    assert known["status"] == "verified"


def test_a_repeated_order_is_answered_alike_and_taken_once(api: Api) -> None:
    mark = str(uuid.uuid4())
    body = {"productOrderItem": [{"id": "1", "action": "add"}], "externalId": mark}
    answers = [api.post(PATHS["productOrder"], body, Idempotency_Key=mark) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {201}
    assert answers[0].content == answers[1].content == answers[2].content
    found = api.get(PATHS["productOrder"], params={"externalId": mark})
    assert found.headers["X-Total-Count"] == "1"
    refused(
        api.post(PATHS["productOrder"], body | {"description": "another"}, Idempotency_Key=mark),
        422,
        "IDEMPOTENCY_KEY_REUSED",
    )
    assert api.get(PATHS["productOrder"], params={"externalId": mark}).headers["X-Total-Count"] == "1"


def test_a_repeated_change_happens_once(api: Api) -> None:
    made = api.made(PATHS["billFormat"], {"name": "f"})
    first, second = (
        api.patch(made["href"], {"description": "d"}, Idempotency_Key=f"patch {made['id']}") for _ in range(2)
    )
    assert first.json() == second.json()
    assert first.headers["ETag"] == second.headers["ETag"] == api.get(made["href"]).headers["ETag"]
    gone = [api.delete(made["href"], Idempotency_Key=f"delete {made['id']}") for _ in range(2)]
    assert [answer.status_code for answer in gone] == [204, 204]


def test_a_caller_of_several_branches_says_which(both: Api, api: Api) -> None:
    body = {"name": "whose"}
    answer = both.post(PATHS["billFormat"], body)
    assert answer.status_code == 400, answer.text
    assert "branch" in answer.text
    made = both.made(PATHS["billFormat"], body, X_Branch="osh")
    assert made["branch"] == "osh"
    assert api.get(made["href"]).status_code == 404
    assert both.post(PATHS["billFormat"], body, X_Branch="naryn").status_code in (403, 404)
    # What all branches have in common belongs to none.
    assert "branch" not in both.made(PATHS["catalog"], body)


def test_nothing_of_a_refused_body_is_kept(api: Api) -> None:
    mark = str(uuid.uuid4())
    answer = api.post(PATHS["billFormat"], {"name": mark, "surprise": 1, "description": 5}, Prefer="handling=strict")
    error = refused(answer, 400, "BAD_ATTRIBUTE")
    assert {detail["path"] for detail in error["details"]} == {"surprise", "description"}
    assert api.get(PATHS["billFormat"], params={"name": mark}).json() == []
