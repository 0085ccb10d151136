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


def test_a_minimal_interaction_lives_and_dies_as_a_kit_would_have_it(api: Api, specs: dict[str, Spec]) -> None:
    spec = specs["partyInteraction"]
    required = spec.definitions["PartyInteraction_Create"]["required"]
    assert sorted(required) == sorted(MINIMAL)
    answer = api.post(PATH, MINIMAL)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["Location"] == made["href"] == f"{PATH}/{made['id']}"
    spec.check("PartyInteraction", made)
    assert made["@type"] == "PartyInteraction"
    assert made["creationDate"]
    assert api.get(made["href"]).json() == made
    assert made in listed(api).json()
    for name, value in made.items():
        assert name in listed(api, fields=name, id=made["id"]).json()[0]
        if isinstance(value, str):
            found = listed(api, **{name: f'"{value}"'}).json()
            assert made["id"] in [item["id"] for item in found], name
    assert api.get(made["href"], params={"fields": "status"}).json().keys() == {"id", "href", "@type", "status"}
    changed = api.patch(made["href"], {"description": "спросила о мае", "status": "inProgress"})
    assert (changed.status_code, changed.json()["description"]) == (200, "спросила о мае")
    spec.check("PartyInteraction", changed.json())
    for name in required:
        refused = api.post(PATH, {other: value for other, value in MINIMAL.items() if other != name})
        assert refused.status_code == 400, name
        assert name in refused.text
        spec.check("Error", refused.json())
    assert api.delete(made["href"]).status_code == 204
    gone = api.get(made["href"])
    assert gone.status_code == 404
    spec.check("Error", gone.json())


def test_two_equal_ones_are_two(api: Api) -> None:
    one, other = api.made(PATH, MINIMAL), api.made(PATH, MINIMAL)
    assert one["id"] != other["id"]


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
