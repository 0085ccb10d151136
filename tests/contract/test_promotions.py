"""TMF671: what a marketing department would send, by the specification and by each rule of our dialect."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.specs import PATHS, Spec, same
from tests.gateway.hubs import Receiver, eventually
from tests.running import Api

PROMOTION = PATHS["promotion"]
HUB = "/tmf-api/promotionManagement/v4/hub"


@pytest.fixture(scope="module")
def admin(caller: Callable[..., Api]) -> Api:
    """Who may register callbacks."""
    return caller(["admin"], ["bishkek"])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def a_promotion(name: str, **more: Any) -> dict[str, Any]:
    """A tenth off the connection of whoever orders two things or is a student, until the autumn."""
    return {
        "name": name,
        "description": "For the beginning of the school year",
        "promotionType": "Discount",
        "lifecycleStatus": "draft",
        "validFor": {"startDateTime": "2026-08-01T00:00:00Z", "endDateTime": "2126-10-01T00:00:00Z"},
        "attachment": [{"name": "poster", "mimeType": "image/png", "url": "https://example.org/poster.png"}],
        "currency": "KGS",
        "priority": None,
        "pattern": [
            {
                "name": "two or a student",
                "priority": 1,
                "criteriaGroupLogicalRelationship": "or",
                "criteriaGroup": [
                    {
                        "groupName": "two",
                        "criteriaLogicalRelationship": "and",
                        "criteria": [
                            {"criteriaParameter": "quantity", "criteriaOperator": ">=", "criteriaValue": "2"},
                            {"criteriaParameter": "total", "criteriaOperator": ">", "criteriaValue": "100.50"},
                        ],
                    },
                    {
                        "groupName": "students",
                        "criteria": [
                            {"criteriaParameter": "segment", "criteriaOperator": "=", "criteriaValue": "students"}
                        ],
                    },
                ],
                "action": [
                    {
                        "actionType": "orderPercentage",
                        "actionValue": "10",
                        "priceType": "oneTime",
                        "unitPriceFrom": 10.5,
                        "code": "A1",
                    }
                ],
            }
        ],
        **more,
    }


def paths(answer: Any, status: int, code: str) -> list[str]:
    """The attributes that a refusal names."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return [detail["path"] for detail in answer.json().get("details", [])]


def test_what_marketing_sends_comes_back(api: Api, specs: dict[str, Spec]) -> None:
    sent = a_promotion("Back to school")
    del sent["priority"]
    answer = api.post(PROMOTION, sent)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["Location"] == made["href"] == f"{PROMOTION}/{made['id']}"
    assert made["@type"] == "Promotion"
    for document in (made, api.get(made["href"]).json(), api.get(PROMOTION, params={"id": made["id"]}).json()[0]):
        assert not list(same(sent, document))
        specs["promotionManagement"].check("Promotion", document)
    assert made["lastUpdate"].endswith("Z")
    assert api.made(PROMOTION, sent)["id"] != made["id"]


def test_the_least_is_a_name(api: Api, specs: dict[str, Spec]) -> None:
    made = api.made(PROMOTION, {"name": "bare"})
    specs["promotionManagement"].check("Promotion", made)
    assert made["lifecycleStatus"] == "draft"
    assert paths(api.post(PROMOTION, {"description": "x"}), 400, "BAD_ATTRIBUTE") == ["name"]


def test_a_patch_merges_and_a_deleted_promotion_is_gone(api: Api, specs: dict[str, Spec]) -> None:
    made = api.made(PROMOTION, a_promotion("merged", budget={"owner": "Aida", "limit": 5}))
    answer = api.patch(
        made["href"],
        {"description": None, "validFor": {"endDateTime": None}, "budget": {"limit": None}, "attachment": []},
    )
    assert answer.status_code == 200
    shown = answer.json()
    expected = made | {"validFor": {"startDateTime": "2026-08-01T00:00:00Z"}, "budget": {"owner": "Aida"}}
    for gone in ("description", "attachment"):
        del expected[gone]
    assert shown == expected | {"lastUpdate": shown["lastUpdate"]} == api.get(made["href"]).json()
    specs["promotionManagement"].check("Promotion", shown)
    assert api.delete(made["href"]).status_code == 204
    assert api.get(made["href"]).status_code == 404


def test_lists_are_counted_paged_selected_sorted_and_filtered(api: Api) -> None:
    for number, word in enumerate(("c", "a", "b")):
        api.made(
            PROMOTION, a_promotion(f"page {word}", promotionType="Paged", priority=number, campaign={"owner": "Aida"})
        )
    paged = {"promotionType": "Paged", "sort": "-name"}
    answer = api.get(PROMOTION, params=paged | {"limit": "2", "fields": "name,pattern.action.actionValue"})
    assert answer.status_code == 206
    assert (answer.headers["X-Total-Count"], answer.headers["X-Result-Count"]) == ("3", "2")
    assert 'rel="next"' in answer.headers["Link"]
    assert [one["name"] for one in answer.json()] == ["page c", "page b"]
    assert answer.json()[0].keys() == {"id", "href", "@type", "name", "pattern"}
    assert answer.json()[0]["pattern"] == [{"action": [{"actionValue": "10"}]}]
    past = api.get(PROMOTION, params=paged | {"offset": "9"})
    assert (past.status_code, past.json()) == (200, [])
    for stated, found in (
        ({"priority.gte": "1"}, 2),
        ({"priority": "0,2"}, 2),
        ({"priority.ne": "1"}, 2),
        ({"name.regex": "page [ab]"}, 2),
        ({"name": '"page a"'}, 1),
        ({"pattern.action.actionType": "orderPercentage"}, 3),
        ({"pattern.criteriaGroup.criteria.criteriaValue": "students", "priority.lt": "1"}, 1),
        ({"campaign.owner": "Aida"}, 3),
        ({"pattern.criteriaGroup.criteria.criteriaParameter": "nothing"}, 0),
        ({"validFor.endDateTime.gt": "2126-01-01T00:00:00Z"}, 3),
    ):
        assert len(api.get(PROMOTION, params=paged | stated).json()) == found, stated


def test_known_attributes_are_checked_and_unknown_ones_kept_unless_that_is_refused(api: Api) -> None:
    wrong = a_promotion("wrong", exclusive="yes", priority="first", validFor={"endDateTime": "soon"})
    wrong["pattern"][0]["action"][0].pop("actionType")
    wrong["pattern"][0]["criteriaGroup"][1]["criteria"][0].pop("criteriaOperator")
    assert sorted(paths(api.post(PROMOTION, wrong), 400, "BAD_ATTRIBUTE")) == [
        "exclusive",
        "pattern[0].action[0].actionType",
        "pattern[0].criteriaGroup[1].criteria[0].criteriaOperator",
        "priority",
        "validFor.endDateTime",
    ]
    strict = api.client.post(PROMOTION, json=a_promotion("strict", x=1), headers={"Prefer": "handling=strict"})
    assert sorted(paths(strict, 400, "BAD_ATTRIBUTE")) == ["pattern[0].action[0].code", "x"]
    for attribute in ("action", "criteriaGroup"):
        body = a_promotion("empty")
        body["pattern"][0][attribute] = []
        answer = api.post(PROMOTION, body)
        assert answer.status_code == 400
        assert [detail["path"] for detail in answer.json()["details"]] == [f"pattern[0].{attribute}"]


def test_a_promotion_is_released_when_all_in_it_is_understood_and_there(api: Api, specs: dict[str, Spec]) -> None:
    made = api.made(PROMOTION, a_promotion("odd"))
    odd = a_promotion("odd")["pattern"]
    odd[0]["action"][0] |= {"actionType": "data (GB)", "actionValue": "5"}
    assert api.patch(made["href"], {"pattern": odd}).json()["pattern"][0]["action"][0]["actionType"] == "data (GB)"
    assert paths(api.patch(made["href"], {"lifecycleStatus": "release"}), 409, "NOT_RELEASABLE") == [
        "pattern[0].action[0].actionType"
    ]
    odd[0]["action"][0] |= {"actionType": "unitPercentage", "actionEntityRef": {"id": "9881"}}
    api.patch(made["href"], {"pattern": odd})
    assert paths(api.patch(made["href"], {"lifecycleStatus": "release"}), 409, "UNRESOLVED_REFERENCE") == [
        "pattern[0].action[0].actionEntityRef"
    ]
    offering = api.made(PATHS["productOffering"], {"name": "there"})
    odd[0]["action"][0] |= {"actionEntityRef": {"id": offering["id"], "@referredType": "ProductOffering"}}
    api.patch(made["href"], {"pattern": odd})
    answer = api.patch(made["href"], {"lifecycleStatus": "release"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["lifecycleStatus"] == "release"
    specs["promotionManagement"].check("Promotion", answer.json())
    assert api.delete(offering["href"]).status_code == 409
    assert paths(api.patch(made["href"], {"exclusive": True}), 409, "PROMOTION_RELEASED") == ["exclusive"]
    assert api.patch(made["href"], {"lifecycleStatus": "retirement"}).status_code == 200


def test_the_hub_is_told_of_every_change_with_the_whole_promotion(
    api: Api, admin: Api, specs: dict[str, Spec], receiver: Receiver
) -> None:
    admin.made(HUB, {"callback": receiver.url})
    made = api.made(PROMOTION, a_promotion("told"))
    api.patch(made["href"], {"description": "changed"})
    api.patch(made["href"], {"lifecycleStatus": "test"})
    shown = api.get(made["href"]).json()
    api.delete(made["href"])

    def told() -> list[Any]:
        return [request for request in receiver.accepted if request.resource["id"] == made["id"]]

    eventually(lambda: len(told()) >= 4)
    assert [request.event["eventType"] for request in told()] == [
        "PromotionCreateEvent",
        "PromotionAttributeValueChangeEvent",
        "PromotionStateChangeEvent",
        "PromotionDeleteEvent",
    ]
    assert told()[0].resource == made
    assert told()[2].resource == shown
    for request in told():
        specs["promotionManagement"].check(request.event["eventType"], request.event)
