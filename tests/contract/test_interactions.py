"""Interactions as TMF683's file has them: a minimal one lives and dies, statuses go one way, and lists find them."""

from typing import Any

import httpx

from tests.contract.specs import PATHS, Spec
from tests.running import Api

PATH = PATHS["partyInteraction"]
MINIMAL: dict[str, Any] = {
    "channel": [{"id": "1", "href": "https://example.org/channel/1"}],
    "direction": "inbound",
    "interactionDate": {"startDateTime": "2026-02-03T04:05:06Z"},
    "reason": "Вопрос о счёте",
    "status": "opened",
}


def listed(api: Api, **parameters: str) -> httpx.Response:
    answer = api.get(PATH, params=parameters)
    assert answer.status_code in (200, 206), answer.text
    return answer


def test_a_status_that_isnt_possible_any_more_names_both(api: Api, specs: dict[str, Spec]) -> None:
    made = api.made(PATH, MINIMAL | {"status": "planned"})
    assert api.patch(made["href"], {"status": "completed"}).status_code == 200
    refused = api.patch(made["href"], {"status": "planned"})
    assert refused.status_code == 409
    assert "completed" in refused.text
    assert "planned" in refused.text
    specs["partyInteraction"].check("Error", refused.json())
    assert api.get(made["href"]).json()["status"] == "completed"


def test_statuses_of_an_operators_own_are_kept(api: Api) -> None:
    made = api.made(PATH, MINIMAL | {"status": "awaiting the engineer"})
    assert api.patch(made["href"], {"status": "engineer sent"}).json()["status"] == "engineer sent"


def test_it_is_found_by_whom_it_was_with_and_by_its_channel(api: Api) -> None:
    party = {"id": "customer-683", "href": "https://example.org/683", "role": "customer", "@referredType": "Customer"}
    channel = [{"id": "chat-683", "href": "https://example.org/chat", "name": "chat"}]
    made = api.made(PATH, MINIMAL | {"relatedParty": [party], "channel": channel})
    later = {"interactionDate": {"startDateTime": "2026-05-03T04:05:06Z"}}
    other = api.made(PATH, MINIMAL | later | {"relatedParty": [party]})
    assert [one["id"] for one in listed(api, **{"relatedParty.id": "customer-683", "sort": "id"}).json()] == [
        made["id"],
        other["id"],
    ]
    assert [one["id"] for one in listed(api, **{"channel.id": "chat-683"}).json()] == [made["id"]]
    since = {"relatedParty.id": "customer-683", "interactionDate.startDateTime.gte": "2026-03-01T00:00:00Z"}
    assert [one["id"] for one in listed(api, **since).json()] == [other["id"]]
    assert listed(api, **{"relatedParty.id": "customer-683", "limit": "1"}).headers["X-Total-Count"] == "2"


def test_the_correspondence_is_searched_over_rest(api: Api) -> None:
    party = {"id": "customer-070", "href": "https://example.org/070", "role": "customer", "@referredType": "Customer"}
    letter = {"relatedParty": [party], "description": "Мой телефон 0555 70-70-70, жду звонка"}
    made = api.made(PATH, MINIMAL | letter)
    for query in ("звонки", "+996 555 707070"):
        answer = api.post("/interaction/v1/searchInteractions", {"query": query, "customerId": "customer-070"})
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["items"]
        assert found["interaction"]["id"] == made["id"]
        assert any(part.get("hit") for part in found["snippet"])
    shown = api.post("/interaction/v1/listTimeline", {"customerId": "customer-070"}).json()
    assert [entry["interaction"]["id"] for entry in shown["past"]] == [made["id"]]
    refused = api.post("/interaction/v1/searchInteractions", {"query": "x", "cursor": "y"})
    assert refused.status_code == 400


def test_what_is_planned_is_planned_changed_and_taken_place_over_rest(api: Api) -> None:
    party = {"id": "customer-planned", "role": "customer", "@referredType": "Customer"}
    when = {"interactionDate": {"startDateTime": "2126-05-03T04:05:06Z"}}
    visit = api.made(PATH, MINIMAL | when | {"status": "planned", "relatedParty": [party]})

    def timeline() -> tuple[list[str], list[str]]:
        shown = api.post("/interaction/v1/listTimeline", {"customerId": party["id"]}).json()
        past, planned = ([entry["interaction"]["id"] for entry in shown.get(key, ())] for key in ("past", "planned"))
        return past, planned

    assert timeline() == ([], [visit["id"]])
    coming = {"status": "planned", "relatedParty.id": party["id"], "interactionDate.startDateTime.gt": "2126-01-01"}
    assert [one["id"] for one in listed(api, **coming).json()] == [visit["id"]]
    moved = {"interactionDate": {"startDateTime": "2125-05-03T04:05:06Z"}}
    assert api.patch(visit["href"], moved).status_code == 200
    assert listed(api, **coming).json() == []
    assert timeline() == ([], [visit["id"]])
    assert api.patch(visit["href"], {"status": "completed"}).status_code == 200
    assert timeline() == ([visit["id"]], [])
