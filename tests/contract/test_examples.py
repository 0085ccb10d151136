"""Every official example of our APIs is accepted and answered with what it said (tmf/README.md, rule 8)."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.contract.reshaping import RESOURCES, created, reshaped
from tests.contract.specs import PATHS, Spec, same
from tests.running import Api

EXAMPLES = {
    "TMF620_ProductCatalog": "productCatalogManagement",
    "TMF622_ProductOrder": "productOrderingManagement",
    "TMF629_CustomerManagement": "customerManagement",
    "TMF632_PartyManagement": "party",
    "TMF637_ProductInventory": "productInventory",
}
# Those that lie in the v5 files themselves, file by file.
WITHIN_FILES = {
    "TMF666-Account_Management-v5.0.0": "accountManagement",
    "TMF669-Party_Role_Management-v5.0.0": "partyRoleManagement",
    "TMF683-Party_Interaction-v5.0.0": "partyInteraction",
}
APIS = {**EXAMPLES, **WITHIN_FILES}
# Jobs' examples are of v5, whose states and paths differ; they and subscriptions have tests of their own.
NOT_OURS = {"importJob", "exportJob", "hub", "partyRoleSpecification"}
MERGE = ("application/json", "application/merge-patch+json")
# Ids, addresses and times of changes are ours to give.
OURS = ("id", "href", "lastUpdate", "lastModified")


class Example(NamedTuple):
    """One request of a v5 file."""

    folder: str
    method: str
    resource: str
    media_type: str
    name: str
    # What it sends, as it is in the file.
    body: Any

    def __str__(self) -> str:
        return f"{self.folder[:6]}-{self.name}"


def examples_of(directory: Path) -> Iterator[Example]:
    """The requests to our resources."""
    for folder in EXAMPLES:
        for method, path, kind, media_type, name in json.loads((directory / folder / "INDEX.json").read_text()):
            resource = path.split("/")[1]
            if kind == "request" and _ours(resource):
                body = json.loads((directory / folder / f"{name}.json").read_text())
                yield Example(folder, method, RESOURCES.get(resource, resource), media_type, name, body)


class _Plain(yaml.CSafeLoader):
    """YAML whose instants are texts, as in JSON."""


_Plain.yaml_implicit_resolvers = {
    key: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
    for key, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def examples_within(directory: Path) -> Iterator[Example]:
    """As `examples_of`, out of files that hold their examples themselves."""
    for name in WITHIN_FILES:
        file = yaml.load((directory / f"{name}.oas.yaml").read_text(), _Plain)  # noqa: S506 (it is a safe loader)
        parts = file["components"]

        def resolved(value: dict[str, Any], parts: dict[str, Any] = parts) -> dict[str, Any]:
            if "$ref" not in value:
                return value
            kind, key = value["$ref"].split("/")[-2:]
            found: dict[str, Any] = parts[kind][key]
            return found

        for path, operations in file["paths"].items():
            resource = path.split("/")[1]
            for method in {"post", "patch"} & operations.keys() if _ours(resource) else ():
                for media_type, content in resolved(operations[method]["requestBody"])["content"].items():
                    for key, example in content.get("examples", {}).items():
                        yield Example(name, method.upper(), resource, media_type, key, resolved(example)["value"])


def _ours(resource: str) -> bool:
    return resource not in NOT_OURS and resource != "listener"


@pytest.fixture(scope="module")
def examples(shared: Path) -> list[Example]:
    """All of them."""
    return [*examples_of(shared / "tmf" / "examples"), *examples_within(shared / "tmf" / "specs")]


# Attribute that refers → the resource that it refers to.
REFERRING: Mapping[str, str] = {
    "category": "category",
    "subCategory": "category",
    "productSpecification": "productSpecification",
    "bundledProductSpecification": "productSpecification",
    "productSpecificationRelationship": "productSpecification",
    "productOffering": "productOffering",
    "productOfferingRelationship": "productOffering",
    "productOfferingPrice": "productOfferingPrice",
    "popRelationship": "productOfferingPrice",
    "billingAccount": "billingAccount",
    "productOrder": "productOrder",
}
# @referredType of a party or a role of one → the resource that it refers to.
REFERRED = {"Individual": "individual", "Organization": "organization", "Customer": "customer"}


class World:
    """What the examples refer to, created when one of them needs it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._made: dict[tuple[str, str], dict[str, Any]] = {}

    def settled(self, value: Any, attribute: str = "") -> Any:
        """The body with references to what exists in the place of those to the examples' own world."""
        if isinstance(value, list):
            return [self.settled(item, attribute) for item in value]
        if not isinstance(value, dict) or attribute in ("value", "intent"):
            return value
        out = {key: self.settled(item, key) for key, item in value.items()}
        resource = REFERRING.get(attribute) or REFERRED.get(value.get("@referredType", ""))
        if resource is not None and "id" in value:
            made = self.thing(resource, value["id"])
            out["id"] = made["id"]
            if "href" in value:
                out["href"] = made["href"]
        return out

    def thing(self, resource: str, id: str) -> dict[str, Any]:
        """What an example calls by the id."""
        if (resource, id) not in self._made:
            self._made[resource, id] = self._api.made(PATHS[resource], self._minimal(resource, id))
        return self._made[resource, id]

    def _minimal(self, resource: str, id: str) -> dict[str, Any]:
        name = f"{resource} {id}"
        party = {"id": "500", "@referredType": "Individual"}
        special: dict[str, dict[str, Any]] = {
            "individual": {"givenName": name, "familyName": name},
            "organization": {"tradingName": name},
            "customer": {"name": name, "engagedParty": party},
            "billingAccount": {"name": name, "relatedParty": [party], "creditLimit": {"unit": "EUR", "value": 1000}},
            "productOrder": {"productOrderItem": [{"id": "1", "action": "add"}]},
            "productOfferingPrice": {"name": name, "lifecycleStatus": "Active", "price": {"unit": "EUR", "value": 5}},
        }
        if resource == "productOffering":
            price = {"id": self.thing("productOfferingPrice", f"of {id}")["id"]}
            return {"name": name, "lifecycleStatus": "Launched", "productOfferingPrice": [price]}
        return special.get(resource, {"name": name, "lifecycleStatus": "Active"})


@pytest.fixture(scope="module")
def world(api: Api) -> World:
    """The things that examples refer to."""
    return World(api)


def comparable(value: Any) -> Any:
    """Without what is ours to give, and instants as instants."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if key not in ("lastUpdate", "lastModified")}
    if isinstance(value, list):
        # An order that waits says so in a note of its own.
        return [comparable(item) for item in value if not (isinstance(item, dict) and item.get("author") == "svyaz")]
    if isinstance(value, str) and len(value) >= 20 and value[4:5] == "-" and value[10:11] == "T":
        return datetime.fromisoformat(value)
    return value


def lost(sent: dict[str, Any], got: Any) -> list[str]:
    """What of the body didn't come back."""
    return list(same(comparable({key: item for key, item in sent.items() if key not in OURS}), comparable(got)))


def test_there_are_as_many_examples_as_the_files_have(examples: list[Example]) -> None:
    assert len([example for example in examples if example.method == "POST"]) == 24
    assert len([example for example in examples if example.method == "PATCH"]) == 73
    assert {example.resource for example in examples} == {
        *("catalog", "category", "productOffering", "productOfferingPrice", "productSpecification"),
        *("productOrder", "cancelProductOrder", "customer", "individual", "organization", "product"),
        *("partyAccount", "billingAccount", "settlementAccount", "financialAccount"),
        *("billFormat", "billPresentationMedia", "billingCycleSpecification", "partyRole", "partyInteraction"),
    }


def post(api: Api, world: World, example: Example, specs: dict[str, Spec]) -> dict[str, Any]:
    """The example's resource, created; its answer checked."""
    sent = world.settled(created(example.resource, example.body))
    answer = api.post(PATHS[example.resource], sent)
    assert answer.status_code == 201, f"{example}: {answer.text}"
    made: dict[str, Any] = answer.json()
    assert not lost(sent, made), example
    shown = api.get(answer.headers["Location"])
    assert shown.status_code == 200, f"{example}: {shown.text}"
    assert not lost(sent, shown.json()), example
    name = example.resource[0].upper() + example.resource[1:]
    for document in (made, shown.json()):
        specs[APIS[example.folder]].check(name, document)
    return made


@pytest.mark.parametrize("folder", APIS)
def test_every_example_of_a_new_resource_is_accepted_and_kept(
    api: Api, world: World, specs: dict[str, Spec], examples: list[Example], folder: str
) -> None:
    for example in examples:
        if example.folder == folder and example.method == "POST":
            post(api, world, example, specs)


@pytest.mark.parametrize("folder", APIS)
def test_every_example_of_a_change_changes_what_it_names_and_nothing_else(
    api: Api, world: World, specs: dict[str, Spec], examples: list[Example], folder: str
) -> None:
    own = [example for example in examples if example.folder == folder]
    for example in own:
        if example.method != "PATCH":
            continue
        first = next(known for known in own if (known.method, known.resource) == ("POST", example.resource))
        made = post(api, world, first, specs)
        if example.media_type not in MERGE:
            body = json.dumps(example.body).encode()
            refused = api.client.patch(made["href"], content=body, headers={"Content-Type": example.media_type})
            assert (refused.status_code, refused.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE"), example
            continue
        patch = world.settled(reshaped(example.body))
        answer = api.client.patch(
            made["href"], content=json.dumps(patch).encode(), headers={"Content-Type": example.media_type}
        )
        assert answer.status_code == 200, f"{example}: {answer.text}"
        assert not lost(patch, answer.json()), example
        shown = api.get(made["href"]).json()
        assert not lost(patch, shown), example
        untouched = {key: item for key, item in made.items() if key not in patch}
        # An order goes on by itself meanwhile.
        for moving in ("state", "productOrderItem") if example.resource == "productOrder" else ():
            untouched.pop(moving, None)
        assert not lost(untouched, shown), example
        specs[APIS[folder]].check(example.resource[0].upper() + example.resource[1:], answer.json())


# --- what the files answer -------------------------------------------------------------------------------------------


def answers(directory: Path, folder: str, resource: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The resources in the files' answers, each with the name of its example."""
    for _, path, kind, _, name in json.loads((directory / folder / "INDEX.json").read_text()):
        if kind.startswith("response") and path.split("/")[1] == resource:
            body = json.loads((directory / folder / f"{name}.json").read_text())
            for one in body if isinstance(body, list) else [body]:
                yield name, one


def test_every_product_of_the_files_answers_is_answered_as_given(
    api: Api, world: World, specs: dict[str, Spec], shared: Path
) -> None:
    found = list(answers(shared / "tmf" / "examples", "TMF637_ProductInventory", "product"))
    assert len(found) == 13
    for name, body in found:
        given = world.settled(created("product", body))
        made = api.post(PATHS["product"], given)
        assert made.status_code == 201, f"{name}: {made.text}"
        shown = api.get(made.headers["Location"]).json()
        assert not lost(given, shown), name
        specs["productInventory"].check("Product", shown)


def test_the_fields_that_an_example_selects_are_those_that_are_answered(api: Api, world: World, shared: Path) -> None:
    example = "RetrieveProductByListwithFieldsSelection_response"
    found = answers(shared / "tmf" / "examples", "TMF637_ProductInventory", "product")
    given = [world.settled(created("product", body)) for name, body in found if name == example]
    wanted = {api.post(PATHS["product"], body).json()["id"]: body for body in given}
    selected = set(given[0]) - {"id", "href", "@type"}
    query = {"status": "suspended", "fields": ",".join(sorted(selected)), "limit": "1000"}
    offerings = {body["productOffering"]["id"] for body in given}
    for offering in offerings:
        listed = api.get(PATHS["product"], params={**query, "productOffering.id": offering}).json()
        ours = [one for one in listed if one["id"] in wanted]
        assert len(ours) == sum(body["productOffering"]["id"] == offering for body in given)
        for one in ours:
            assert set(one) == set(given[0])
            assert not lost(wanted[one["id"]], one)


def test_every_new_order_of_the_files_is_answered_in_the_states_of_its_answer(
    api: Api, world: World, shared: Path
) -> None:
    directory = shared / "tmf" / "examples" / "TMF622_ProductOrder"
    for name in ("CreateProductOrder1", "CreateProductOrder2", "CreateProductOrder_with_intent_specification"):
        sent, answer = (json.loads((directory / f"{name}_{kind}.json").read_text()) for kind in ("request", "response"))
        made = api.post(PATHS["productOrder"], world.settled(created("productOrder", sent))).json()
        assert made["state"] == answer["state"], name
        states = [(one["id"], one["action"], one["state"]) for one in made["productOrderItem"]]
        assert states == [(one["id"], one["action"], one["state"]) for one in answer["productOrderItem"]], name
