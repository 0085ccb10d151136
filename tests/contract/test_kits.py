"""What a conformance kit would ask of the APIs about customers for which we have none, derived from TM Forum's files.

The kits that we have all do the same: POST the least that a file allows (what is required, and what is required within
that), look for every mandatory attribute of every entity of the list, ask for each of them by `fields` and as a filter,
bare or in double quotes, PATCH, DELETE, and look for an id that there isn't. Operations, attributes and events are read
from the files, so nothing is forgotten that a file has.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.resources import CREATE, DELETE, RESOURCES, Resource
from tests.contract.specs import FILES, PATHS, Spec, entity, same
from tests.contract.test_resources import listed
from tests.gateway.hubs import Receiver, eventually
from tests.running import Api

APIS = (
    "customerManagement",
    "party",
    "accountManagement",
    "partyRoleManagement",
    "agreementManagement",
    "document",
    "partyInteraction",
    "loyalty",
)
# A kit of its own asks the rest of carts.
SERVED = (*APIS, "shoppingCart")
# Rules, and what there is around them, are asked for over gRPC (ADR 0029).
ELSEWHERE = {
    *("loyaltyProgramProduct", "loyaltyRule", "loyaltyEventType", "loyaltyCondition", "loyaltyAction"),
    *("loyaltyRuleCondition", "loyaltyRuleAction", "loyaltyRuleEventType", "loyaltyEvent"),
}
ALWAYS = {"id", "href", "@type"}
# A kit doesn't send them, nor changes them.
META = {"@type", "@baseType", "@schemaLocation"}
# When something changed is ours to say: what is sent instead doesn't count.
STAMPS = {"lastUpdate", "lastModified"}
# What another attribute says again.
DERIVED = {"kind", "statusChangeDate"}
# Attributes of an entity that its _Update lacks, with other values than any sample's.
FIXED: Mapping[str, Any] = {
    "id": "another",
    "href": "https://example.org/another",
    "direction": "another",
    "completionDate": {"startDateTime": "1999-01-01T00:00:00Z"},
    "accountBalance": [],
    "needsLoyaltyAccount": False,
    "loyaltyProgramMember": {"id": "another", "href": "https://example.org/another"},
    "quantity": {"unit": "points", "value": 3},
}
# Nothing that a sample says of a state is a state.
STATES = {"status", "state", "lifecycleStatus"}
OURS = pytest.mark.parametrize(
    "resource",
    [one for one in RESOURCES if one.api in APIS and CREATE in one.allowed],
    ids=lambda resource: resource.name,
)
# Announced by nothing of ours: several documents change by several requests.
NEVER = {"DocumentBatchEvent"}
STATE_OF: Mapping[str, Mapping[str, Any]] = {
    "customer": {"status": "Approved"},
    "individual": {"status": "validated"},
    "organization": {"status": "validated"},
    "partyAccount": {"state": "Active"},
    "billingAccount": {"state": "Active"},
    "settlementAccount": {"state": "Active"},
    "financialAccount": {"state": "Active"},
    "partyRole": {"status": "Approved"},
    "agreement": {"status": "In process"},
    "agreementSpecification": {"lifecycleStatus": "Active"},
    "document": {"status": "reviewed"},
    "documentSpecification": {"lifecycleStatus": "reviewed"},
    "partyInteraction": {"status": "completed"},
    "shoppingCart": {"contactMedium": []},
}


@pytest.fixture(scope="module")
def kit(caller: Callable[..., Api]) -> Api:
    """Who runs a kit: in a branch of its own, because it reads all of every list."""
    return caller(["admin"], ["kits"])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def swagger(shared: Path, api: str) -> dict[str, Any]:
    """An API's file as it is."""
    (file,) = (shared / "tmf" / "specs").glob(f"{FILES[api]}?swagger.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def least(spec: Spec, name: str) -> dict[str, Any]:
    """A body with what is required, and with what is required within that."""
    schema = spec.definitions[name]
    return {
        attribute: _least(spec, schema["properties"][attribute], attribute) for attribute in schema.get("required", ())
    }


def _least(spec: Spec, schema: Mapping[str, Any], attribute: str) -> Any:
    if (reference := schema.get("$ref")) is not None:
        return least(spec, reference.rpartition("/")[2])
    if schema["type"] == "array":
        return [_least(spec, schema["items"], attribute)]
    return "2020-08-25T12:19:19Z" if schema.get("format") == "date-time" else f"some {attribute}"


@pytest.mark.parametrize("api", SERVED)
def test_every_operation_of_the_files_is_served_where_they_say(kit: Api, shared: Path, api: str) -> None:
    file = swagger(shared, api)
    base = file["basePath"].rstrip("/")
    asked = 0
    for path, operations in file["paths"].items():
        resource = path.split("/")[1]
        if resource == "listener" or resource in ELSEWHERE:
            continue
        assert f"{base}/{resource}" == PATHS.get(resource, f"/tmf-api/{api}/v4/hub")
        for method in operations:
            answer = kit.client.request(method, f"{base}{path}".replace("{id}", "nothing"), json=[])
            if path.endswith("{id}"):
                assert (answer.status_code, answer.json()["code"]) in (
                    (404, "NOT_FOUND"),
                    (400, "MALFORMED_BODY"),
                ), f"{method} {path}: {answer.text}"
            else:
                assert answer.status_code == (200 if method == "get" else 400), f"{method} {path}: {answer.text}"
            asked += 1
    assert asked >= 7


@OURS
def test_a_kit_finds_what_it_looks_for(kit: Api, specs: dict[str, Spec], resource: Resource) -> None:
    spec, path, name = specs[resource.api], PATHS[resource.name], entity(resource)
    schema, sent = spec.definitions[name], least(spec, f"{name}_Create")
    mandatory = ALWAYS | {*schema.get("required", ()), *sent}
    # Twice the same is two.
    answer = kit.post(path, sent)
    assert answer.status_code == 201, answer.text
    first, second = answer.json(), kit.made(path, sent)
    assert answer.headers["Location"] == first["href"] == f"{path}/{first['id']}"
    assert first["id"] != second["id"]
    for made in (first, second):
        assert mandatory <= made.keys()
        assert not list(same(sent, made))
        spec.check(name, made)
        assert kit.get(made["href"]).json() == made
    answer = listed(kit, resource)
    assert answer.status_code == 200
    assert {first["id"], second["id"]} <= {one["id"] for one in answer.json()}
    assert all(mandatory <= one.keys() and isinstance(one["id"], str) for one in answer.json())
    texts = {key: value for key, value in first.items() if isinstance(value, str) and key in schema["properties"]}
    for attribute in schema["properties"]:
        chosen = listed(kit, resource, fields=attribute).json()
        assert all(ALWAYS <= one.keys() <= ALWAYS | {attribute} for one in chosen), attribute
        if attribute in texts:
            found = listed(kit, resource, **{attribute: texts[attribute]}).json()
            assert first in found, attribute
            assert all(one[attribute] == texts[attribute] for one in found), attribute
    quoted = {attribute: f'"{value}"' for attribute, value in texts.items()}
    assert listed(kit, resource, **quoted).json() == [first]
    for attribute in sent:
        refused = kit.post(path, {key: value for key, value in sent.items() if key != attribute})
        assert refused.status_code == 400
        assert [detail["path"] for detail in refused.json()["details"]] == [attribute]
        spec.check("Error", refused.json())
    whole = f"{str(kit.client.base_url).rstrip('/')}{first['href']}"
    assert listed(kit, resource, href=whole).json() == [first]
    assert kit.get(f"{path}/279edf2b-0130-4c8f-8277-f81daa05d87d").status_code == 404
    if DELETE in resource.allowed:
        assert kit.delete(first["href"]).status_code == 204
        for gone in (kit.get(first["href"]), kit.patch(first["href"], {}), kit.delete(first["href"])):
            assert gone.status_code == 404
            spec.check("Error", gone.json())


@OURS
def test_each_attribute_is_changed_alone_or_not_at_all_as_the_files_have_it(
    kit: Api, specs: dict[str, Spec], resource: Resource
) -> None:
    spec, path, name = specs[resource.api], PATHS[resource.name], entity(resource)
    full, other = spec.full(f"{name}_Create", "one"), spec.full(name, "other")
    required = spec.definitions[f"{name}_Create"].get("required", ())
    changeable = spec.definitions[f"{name}_Update"]["properties"].keys() - META
    made = kit.made(path, {key: value for key, value in full.items() if key not in STATES.difference(required)})
    for attribute in changeable - STATES - STAMPS:
        answer = kit.patch(made["href"], {attribute: other[attribute]})
        assert answer.status_code == 200, f"{attribute}: {answer.text}"
        changed = {key: value for key, value in made.items() if key not in STAMPS | DERIVED}
        assert not list(same(changed | {attribute: other[attribute]}, answer.json())), attribute
        made = answer.json()
    for attribute in spec.definitions[name]["properties"].keys() - changeable - META - STAMPS:
        answer = kit.patch(made["href"], {attribute: FIXED[attribute]})
        assert answer.status_code == 400, f"{attribute}: {answer.text}"
        assert all(detail["path"].startswith(attribute) for detail in answer.json()["details"])
        assert kit.get(made["href"]).json() == made


@pytest.mark.parametrize("api", [api for api in SERVED if api != "loyalty"])
def test_events_are_called_and_look_as_in_the_files(
    kit: Api, shared: Path, specs: dict[str, Spec], receiver: Receiver, api: str
) -> None:
    hub = kit.made(f"/tmf-api/{api}/v4/hub", {"callback": receiver.url})
    spec = specs[api]
    named = {path.split("/")[2] for path in swagger(shared, api)["paths"] if path.startswith("/listener/")}
    wanted = {name[0].upper() + name[1:] for name in named} - NEVER
    for resource in [one for one in RESOURCES if one.api == api and one.name in STATE_OF]:
        made = kit.made(PATHS[resource.name], least(spec, f"{entity(resource)}_Create"))
        for patch in ({"@baseType": "Something"}, STATE_OF[resource.name]):
            assert kit.patch(made["href"], patch).status_code == 200
        assert kit.delete(made["href"]).status_code == 204

    def told() -> set[str]:
        return {request.event["eventType"] for request in receiver.accepted}

    eventually(lambda: wanted <= told())
    for request in receiver.accepted:
        if request.event["eventType"] in wanted:
            spec.check(request.event["eventType"], request.event)
            content = "payload" if api == "accountManagement" else "event"
            (document,) = request.event[content].values()
            assert document == request.resource
    # What no file names is there where only some of a file's resources are told of.
    assert all(kind in wanted or api == "accountManagement" for kind in told()), told() - wanted
    assert kit.delete(hub["href"]).status_code == 204
