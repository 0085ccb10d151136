"""Qualifications (TMF679) and recommendations (TMF680) by the rules of our dialect: one test a rule."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.contract.specs import PATHS, Spec
from tests.contract.test_refusals import refused
from tests.e2e.branch import eventually
from tests.gateway.hubs import Receiver, Request
from tests.running import Api

QUALIFICATION, RECOMMENDATION = PATHS["productOfferingQualification"], PATHS["queryProductRecommendation"]
OFFERING = PATHS["productOffering"]
BOTH = pytest.mark.parametrize("path", [QUALIFICATION, RECOMMENDATION], ids=["679", "680"])


@pytest.fixture(scope="module")
def osh(caller: Callable[..., Api]) -> Api:
    """An agent of another branch."""
    return caller(["agent"], ["osh"])


@pytest.fixture(scope="module")
def admin(caller: Callable[..., Api]) -> Api:
    """Who may register callbacks."""
    return caller(["admin"], ["bishkek"])


def offering(api: Api, name: str, **more: Any) -> dict[str, Any]:
    return api.made(OFFERING, {"name": name, "lifecycleStatus": "Launched", **more})


def question(api: Api, path: str = QUALIFICATION, **more: Any) -> dict[str, Any]:
    """A body that is answered at once."""
    if path == RECOMMENDATION:
        party = {"id": "nobody", "@referredType": "Customer", "role": "customer"}
        return {"instantSyncRecommendation": True, "relatedParty": party, **more}
    item = {"id": "1", "action": "add", "productOffering": {"id": offering(api, "asked for")["id"]}}
    return {"instantSyncQualification": True, "productOfferingQualificationItem": [item], **more}


def found(api: Api, path: str, **parameters: str) -> list[dict[str, Any]]:
    answer = api.get(path, params=parameters)
    assert answer.status_code in (200, 206), answer.text
    items: list[dict[str, Any]] = answer.json()
    return items


# 1: create, change, delete


@BOTH
def test_a_question_is_created_with_its_answer(api: Api, specs: dict[str, Spec], path: str) -> None:
    answer = api.post(path, question(api, path) | {"id": "mine", "href": "/mine"})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["id"] != "mine"
    assert made["href"] == f"{path}/{made['id']}" == answer.headers["Location"]
    assert made["state"] == "done"
    assert api.get(made["href"]).json() == made
    api_name, kind = path.split("/")[2], path.rsplit("/", 1)[1]
    specs[api_name].check(kind[0].upper() + kind[1:], made)


def test_a_qualification_changes_and_goes(api: Api) -> None:
    made = api.made(QUALIFICATION, question(api, description="before"))
    changed = api.patch(made["href"], {"description": None, "note": [{"id": "1", "text": "t"}]})
    assert (changed.status_code, changed.json().get("description")) == (200, None)
    assert changed.json()["productOfferingQualificationItem"] == made["productOfferingQualificationItem"]
    assert api.delete(made["href"]).status_code == 204
    assert api.get(made["href"]).status_code == 404


def test_a_recommendation_is_only_asked_for(api: Api) -> None:
    made = api.made(RECOMMENDATION, question(api, RECOMMENDATION))
    for answer in (api.patch(made["href"], {"description": "d"}), api.delete(made["href"])):
        assert answer.status_code == 405
        assert "GET" in answer.headers["Allow"]


# 2: lists and pages


@BOTH
def test_a_list_counts_and_comes_in_pages(api: Api, path: str) -> None:
    mark = str(uuid.uuid4())
    for _ in range(3):
        api.made(path, question(api, path, description=mark))
    answer = api.get(path, params={"description": mark, "limit": "2"})
    assert answer.status_code == 206
    assert (answer.headers["X-Total-Count"], answer.headers["X-Result-Count"]) == ("3", "2")
    assert 'rel="next"' in answer.headers["Link"]
    nothing = api.get(path, params={"description": mark, "offset": "9"})
    assert (nothing.status_code, nothing.json()) == (200, [])
    assert found(api, path, description=f"not {mark}") == []


# 3: fields, filters, sorting


@BOTH
def test_fields_filters_and_sorting(api: Api, path: str) -> None:
    mark = str(uuid.uuid4())
    for description in ("b", "a"):
        api.made(path, question(api, path, description=f"{mark} {description}"))
    found_ones = found(api, path, sort="description", fields="description,state", **{"description.regex": f"^{mark}"})
    assert [one["description"] for one in found_ones] == [f"{mark} a", f"{mark} b"]
    assert all(set(one) == {"id", "href", "@type", "description", "state"} for one in found_ones)
    assert len(found(api, path, description=f"{mark} a,{mark} b", state="done")) == 2
    assert found(api, path, description=f'"{mark} a"', **{"state.ne": "done"}) == []


def test_an_item_is_found_by_what_is_in_it(api: Api) -> None:
    made = api.made(QUALIFICATION, question(api))
    wanted = made["productOfferingQualificationItem"][0]["productOffering"]["id"]
    inside = "productOfferingQualificationItem"
    selected = found(
        api,
        QUALIFICATION,
        **{f"{inside}.productOffering.id": wanted, f"{inside}.qualificationItemResult": "qualified"},
        fields=f"{inside}.state",
    )
    assert [(one["id"], one[inside]) for one in selected] == [(made["id"], [{"state": "done"}])]


# 4: instants and errors


@BOTH
def test_instants_end_in_z_and_every_offending_attribute_is_named(api: Api, path: str) -> None:
    made = api.made(path, question(api, path))
    end = made["expirationDate"] if path == QUALIFICATION else made["validFor"]["endDateTime"]
    assert end.endswith("Z")
    error = refused(api.post(path, {"description": 5, "channel": "web"}), 400, "BAD_ATTRIBUTE")
    assert {detail["path"] for detail in error["details"]} == {"description", "channel"}


def test_an_item_without_an_id_is_refused_by_its_path(api: Api) -> None:
    error = api.post(QUALIFICATION, {"productOfferingQualificationItem": [{"action": "add"}]})
    assert error.status_code == 400
    assert [detail["path"] for detail in error.json()["details"]] == ["productOfferingQualificationItem[0].id"]


# 5: unknown attributes


@BOTH
def test_unknown_attributes_are_kept_and_refused_when_handled_strictly(api: Api, path: str) -> None:
    more = {"x": {"a": [1, 2.50]}, "note": [{"id": "1", "text": "t", "y": 1}]}
    made = api.made(path, question(api, path) | more)
    assert {key: made[key] for key in more} == more
    answer = api.post(path, question(api, path) | {"surprise": 1}, Prefer="handling=strict")
    error = refused(answer, 400, "BAD_ATTRIBUTE")
    assert [detail["path"] for detail in error["details"]] == ["surprise"]


# 7: states


@BOTH
def test_a_question_begins_where_questions_begin(api: Api, path: str) -> None:
    error = refused(api.post(path, question(api, path) | {"state": "done"}), 400, "BAD_INITIAL_STATE")
    assert [detail["path"] for detail in error["details"]] == ["state"]


def test_an_answer_does_not_become_a_question_again(api: Api) -> None:
    made = api.made(QUALIFICATION, question(api))
    for wanted in ("acknowledged", "inProgress", "terminatedWithError"):
        error = refused(api.patch(made["href"], {"state": wanted}), 409, "BAD_TRANSITION")
        assert "'done'" in error["reason"]
        assert f"'{wanted}'" in error["reason"]
    assert api.get(made["href"]).json() == made


# 8: references


def test_a_question_about_what_does_not_exist_ends_with_an_error(api: Api) -> None:
    item = {"id": "1", "productOffering": {"id": "9881", "name": "of another world"}}
    made = api.made(QUALIFICATION, {"instantSyncQualification": True, "productOfferingQualificationItem": [item]})
    assert made["state"] == "terminatedWithError"
    (answered,) = made["productOfferingQualificationItem"]
    assert answered["productOffering"] == item["productOffering"]
    assert "9881" in answered["terminationError"][0]["value"]


# What everybody may rely on


@BOTH
def test_a_repeated_question_is_asked_once(api: Api, path: str) -> None:
    mark = str(uuid.uuid4())
    body = question(api, path, description=mark)
    answers = [api.post(path, body, Idempotency_Key=mark) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert len(found(api, path, description=mark)) == 1
    refused(api.post(path, body | {"name": "another"}, Idempotency_Key=mark), 422, "IDEMPOTENCY_KEY_REUSED")


@BOTH
def test_another_branch_sees_nothing(api: Api, osh: Api, path: str) -> None:
    mark = str(uuid.uuid4())
    made = api.made(path, question(api, path, description=mark))
    assert made["branch"] == "bishkek"
    assert osh.get(made["href"]).status_code == 404
    assert found(osh, path, description=mark) == []


def test_an_etag_guards_a_change_and_the_past_is_readable(api: Api) -> None:
    first = api.post(QUALIFICATION, question(api, description="before"))
    made = first.json()
    assert api.patch(made["href"], {"description": "after"}, If_Match=first.headers["ETag"]).status_code == 200
    assert api.patch(made["href"], {"description": "late"}, If_Match=first.headers["ETag"]).status_code == 412
    before = api.get(made["href"], params={"at": made["productOfferingQualificationDate"]})
    assert before.json()["description"] == "before"


# 6: hubs


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A callback that accepts everything."""
    made = Receiver()
    yield made
    made.close()


def _hub(path: str) -> str:
    return f"{path.rsplit('/', 1)[0]}/hub"


def heard_of(made: dict[str, Any], receiver: Receiver, number: int) -> list[Request]:
    """What the hub tells of it; of what was asked before, it may be telling still."""

    def heard() -> list[Request]:
        return [one for one in receiver.accepted if one.resource["id"] == made["id"]]

    eventually(lambda: len(heard()) >= number, 30, lambda: str([one.event["eventType"] for one in receiver.accepted]))
    return heard()


def test_the_hub_of_679_tells_of_a_qualification_s_life(admin: Api, api: Api, receiver: Receiver) -> None:
    hub = admin.made(_hub(QUALIFICATION), {"callback": receiver.url})
    made = api.made(QUALIFICATION, question(api, instantSyncQualification=False))
    api.patch(made["href"], {"description": "changed"})
    api.delete(made["href"])
    heard = heard_of(made, receiver, 4)
    assert [one.event["eventType"] for one in heard] == [
        f"ProductOfferingQualification{what}Event"
        for what in ("Create", "StateChange", "AttributeValueChange", "Delete")
    ]
    assert [one.resource["state"] for one in heard[:2]] == ["acknowledged", "done"]
    assert heard[1].resource == made
    assert admin.delete(hub["href"]).status_code == 204


def test_a_question_that_lacks_information_asks_for_it(
    admin: Api, api: Api, receiver: Receiver, specs: dict[str, Spec]
) -> None:
    hub = admin.made(_hub(QUALIFICATION), {"callback": receiver.url})
    here = offering(api, "here", place=[{"id": "house-7", "name": "House 7"}])
    item = {"id": "1", "action": "add", "productOffering": {"id": here["id"]}}
    asking = api.made(QUALIFICATION, {"productOfferingQualificationItem": [item]})
    (waiting,) = asking["productOfferingQualificationItem"]
    assert (asking["state"], waiting["state"]) == ("inProgress", "inProgress")
    assert waiting["informationRequired"] == ["place"]
    specs[QUALIFICATION.split("/")[2]].check("ProductOfferingQualification", asking)
    place = {"id": "house-7", "role": "installation", "@referredType": "Place"}
    told = api.patch(asking["href"], {"place": [place]}).json()
    assert (told["state"], told["qualificationResult"]) == ("done", "green")
    heard = heard_of(asking, receiver, 3)
    assert [(one.event["eventType"], one.resource["state"]) for one in heard] == [
        ("ProductOfferingQualificationCreateEvent", "acknowledged"),
        ("ProductOfferingQualificationInformationRequiredEvent", "inProgress"),
        ("ProductOfferingQualificationStateChangeEvent", "done"),
    ]
    assert admin.delete(hub["href"]).status_code == 204


def test_the_hub_of_680_tells_of_a_recommendation(admin: Api, api: Api, receiver: Receiver) -> None:
    hub = admin.made(_hub(RECOMMENDATION), {"callback": receiver.url, "query": "name=told"})
    api.made(RECOMMENDATION, question(api, RECOMMENDATION, name="untold"))
    made = api.made(RECOMMENDATION, question(api, RECOMMENDATION, name="told", instantSyncRecommendation=False))
    eventually(
        lambda: len(receiver.accepted) >= 2, 30, lambda: str([one.event["eventType"] for one in receiver.accepted])
    )
    assert [one.event["eventType"] for one in receiver.accepted] == [
        "QueryProductRecommendationCreateEvent",
        "QueryProductRecommendationStateChangeEvent",
    ]
    assert receiver.accepted[1].resource == made
    assert admin.delete(hub["href"]).status_code == 204


def test_an_ineligible_item_is_refused_at_the_order(api: Api) -> None:
    elsewhere = offering(api, "only in Osh", eligibleBranch=["osh"])
    known = offering(api, "everywhere")
    items = [
        {"id": str(number), "action": "add", "productOffering": {"id": one["id"]}}
        for number, one in enumerate((known, elsewhere), 1)
    ]
    answer: httpx.Response = api.post(PATHS["productOrder"], {"productOrderItem": items})
    error = refused(answer, 409, "OFFERING_NOT_ELIGIBLE")
    assert [detail["path"] for detail in error["details"]] == ["productOrderItem[1].productOffering.id"]
    assert "WRONG_BRANCH" in str(error["details"])
