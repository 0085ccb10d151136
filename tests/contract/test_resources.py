"""Every attribute of every resource: accepted, kept, selectable, filterable, and answered as TM Forum's files say."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from gateway.resources import CREATE, DELETE, RESOURCES, UPDATE, Resource
from tests.contract.specs import PATHS, Spec, entity, same
from tests.e2e.branch import eventually
from tests.running import Api

WHOLE = {"id", "href", "@type"}
# Times of changes are ours.
STAMPS = {"lastUpdate", "lastModified", "orderDate", "effectiveCancellationDate"}
# What a value must be that the files leave open, or that can't be as any sample has it. None: not sent.
PARTICULAR: Mapping[str, Mapping[str, Any]] = {
    "catalog": {"lifecycleStatus": "In study"},
    "category": {"lifecycleStatus": "In study"},
    "productSpecification": {"lifecycleStatus": "In study"},
    "productOffering": {"lifecycleStatus": "In study"},
    "productOfferingPrice": {"lifecycleStatus": "In study"},
    # An order ends by its own progress.
    "productOrder": {"completionDate": None, "cancellationDate": None},
    "product": {"status": "created"},
    # The answers are ours.
    "productOfferingQualification": {
        "effectiveQualificationDate": None,
        "expectedPOQCompletionDate": None,
        "expirationDate": None,
        "qualificationResult": None,
        "state": None,
    },
    # A job begins by itself, and says when.
    "importJob": dict.fromkeys(("status", "creationDate", "completionDate", "errorLog")),
    "exportJob": dict.fromkeys(("status", "creationDate", "completionDate", "errorLog"))
    | {"contentType": "application/json", "path": "/productOffering", "query": "name=one"},
    "queryProductRecommendation": {"recommendationItem": None, "state": None},
    # What it costs is the catalog's to say.
    "shoppingCart": {"cartTotalPrice": None, "validFor": {"endDateTime": "2999-02-03T04:05:06Z"}},
}
ANSWERS = {
    "alternateProductOfferingProposal",
    "eligibilityUnavailabilityReason",
    "qualificationItemResult",
    "state",
    "terminationError",
}

# Deeper down everything repeats itself: products in products, organizations in organizations.
_DEEPEST = 2
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
ALL = pytest.mark.parametrize(
    "resource", [one for one in RESOURCES if CREATE in one.allowed], ids=lambda resource: resource.name
)
CHANGEABLE = pytest.mark.parametrize(
    "resource", [one for one in RESOURCES if UPDATE in one.allowed], ids=lambda resource: resource.name
)


def body_of(api: Api, specs: dict[str, Spec], resource: Resource, salt: str, kind: str = "Create") -> dict[str, Any]:
    """A body with every attribute that the files allow in a new resource, or in a change of one."""
    body = {**specs[resource.api].full(f"{entity(resource)}_{kind}", salt), **PARTICULAR.get(resource.name, {})}
    body = {key: value for key, value in body.items() if value is not None}
    if resource.name == "productOrder":
        body["productOrderItem"] = [ordered(api, item) for item in body["productOrderItem"]]
        # Nobody knows its account, so the order waits and can be looked at.
        body |= {"state": "acknowledged"} if kind == "Create" else {}
        if kind == "Update":
            body.pop("state")
    if resource.name == "productOfferingQualification":
        body["productOfferingQualificationItem"] = [
            {
                **{key: value for key, value in item.items() if key not in ANSWERS},
                "productOffering": {"id": a_live_offering(api)},
            }
            for item in body["productOfferingQualificationItem"]
        ]
    if resource.name == "shoppingCart":
        body["cartItem"] = [in_cart(item) for item in body["cartItem"]]
    if resource.name == "cancelProductOrder":
        waiting = api.made(PATHS["productOrder"], {"productOrderItem": [{"id": "1", "action": "add"}]})
        body["productOrder"]["id"] = waiting["id"]
        body["state"] = "acknowledged"
    return body


def a_live_offering(api: Api) -> str:
    """The id of an offering that can be had."""
    made = api.made(PATHS["productOffering"], {"name": "offered", "lifecycleStatus": "Launched"})
    return str(made["id"])


def ordered(api: Api, item: dict[str, Any]) -> dict[str, Any]:
    """An item of an order, of an offering that exists; those inside it too."""
    offering = a_live_offering(api)
    inner = [ordered(api, part) for part in item.get("productOrderItem", ())]
    changed = item | {"productOffering": {"id": offering}, "state": "acknowledged", "id": offering}
    return changed | ({"productOrderItem": inner} if inner else {})


def in_cart(item: dict[str, Any]) -> dict[str, Any]:
    """An item of a cart, without what it costs; those inside it too."""
    rest = {key: value for key, value in item.items() if key not in ("itemPrice", "ItemTotalPrice")}
    inner = [in_cart(part) | {"id": f"in {item['id']}"} for part in item.get("cartItem", ())]
    return rest | ({"cartItem": inner} if inner else {})


def lost(sent: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """What of the body didn't come back."""
    return list(same({key: value for key, value in sent.items() if key not in STAMPS}, settled(got)))


def settled(shown: dict[str, Any]) -> dict[str, Any]:
    """An order without the notes that it makes of its own progress."""
    notes = [note for note in shown.get("note", ()) if note.get("author") != "svyaz"]
    return shown | ({"note": notes} if "note" in shown else {})


def steady(sent: dict[str, Any]) -> dict[str, Any]:
    """What of a body stays as it is: orders, their items and cancellations go on by themselves."""
    rest = {key: value for key, value in sent.items() if (key, value) != ("state", "acknowledged")}
    if "productOrderItem" in rest:
        rest["productOrderItem"] = [steady(item) for item in rest["productOrderItem"]]
    return rest


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every single value in a document, with its dotted path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, path)
    elif value is not None:
        yield path, value


def spelled(value: Any) -> str:
    """A value as a filter states it; commas and the like are taken as they are inside quotes."""
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'


def listed(api: Api, resource: Resource, **parameters: str) -> httpx.Response:
    """A list's answer, which must be one."""
    answer = api.get(PATHS[resource.name], params=parameters)
    assert answer.status_code in (200, 206), f"{parameters}: {answer.text}"
    assert answer.headers["X-Result-Count"] == str(len(answer.json()))
    return answer


@ALL
def test_every_attribute_is_kept_and_answered_as_described(
    api: Api, specs: dict[str, Spec], resource: Resource
) -> None:
    sent = body_of(api, specs, resource, f"of {resource.name}") | {"extra": {"deep": [1, "x"]}}
    answer = api.post(PATHS[resource.name], sent)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    shown = api.get(made["href"]).json()
    found = listed(api, resource, id=made["id"]).json()
    assert len(found) == 1
    assert not lost(sent, made)
    for document in (made, shown, found[0]):
        assert not lost(steady(sent), document)
        specs[resource.api].check(entity(resource), document)


@CHANGEABLE
def test_every_attribute_can_be_changed(api: Api, specs: dict[str, Spec], resource: Resource) -> None:
    made = api.made(PATHS[resource.name], body_of(api, specs, resource, "before"))
    patch = body_of(api, specs, resource, "after", "Update")
    answer = api.patch(made["href"], patch)
    assert answer.status_code == 200, answer.text
    for document in (answer.json(), api.get(made["href"]).json()):
        assert not lost(steady(patch), document)
        specs[resource.api].check(entity(resource), document)


@ALL
def test_every_attribute_can_be_selected_and_filtered_by(api: Api, specs: dict[str, Spec], resource: Resource) -> None:
    sent = body_of(api, specs, resource, f"filtered {resource.name}")
    made = api.made(PATHS[resource.name], sent)

    def shown() -> dict[str, Any]:
        document: dict[str, Any] = api.get(made["href"]).json()
        return document

    if resource.api == "productOrderingManagement":
        # It goes on by itself; then it stays as it is.
        eventually(lambda: shown()["state"] != "acknowledged", 20, lambda: "it stays acknowledged")
    stored = shown()
    for name in stored.keys() & sent.keys():
        selected = listed(api, resource, id=made["id"], fields=name).json()[0]
        assert selected == {key: stored[key] for key in WHOLE | {name}}
    known = {key: value for key, value in stored.items() if key in sent}
    found = [(path, value) for path, value in leaves(known) if path.count(".") <= _DEEPEST]
    assert found
    for start in range(0, len(found), 20):
        several = found[start : start + 20]
        stated = {path: spelled(value) for path, value in several}
        assert [item["id"] for item in listed(api, resource, **stated, id=made["id"], fields="none").json()] == [
            made["id"]
        ], several
    for path, value in found:
        stated = {path: spelled(unlike(value)), "id": made["id"], "fields": "none"}
        assert listed(api, resource, **stated).json() == [], path


def unlike(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return "1999-02-03T04:05:06Z" if _INSTANT.fullmatch(value) else f"not {value}"


@ALL
def test_refusals_are_errors_as_described(api: Api, specs: dict[str, Spec], resource: Resource) -> None:
    path = PATHS[resource.name]
    required = specs[resource.api].definitions[f"{entity(resource)}_Create"].get("required")
    answers = {
        # Nothing at all is a question too where a file requires nothing.
        400: api.post(path, {} if required else {"description": 5, "name": 5, "validFor": 5}),
        404: api.get(f"{path}/nothing"),
        405: api.client.put(path, json={}),
        415: api.client.post(path, content=b"<a/>", headers={"Content-Type": "text/xml"}),
        401: httpx.post(f"{str(api.client.base_url).rstrip('/')}{path}", json={}),
    }
    if DELETE in resource.allowed:
        assert api.delete(f"{path}/nothing").status_code == 404
    for status, answer in answers.items():
        assert answer.status_code == status, answer.text
        specs[resource.api].check("Error", answer.json())
        assert answer.json()["status"] == str(status)
