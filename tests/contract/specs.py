"""TM Forum's v4 specification files: what an answer must look like, and bodies that use every attribute."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator

from gateway.resources import RESOURCES, Resource

FILES: Mapping[str, str] = {
    "productCatalogManagement": "TMF620-ProductCatalog-v4.1.0",
    "productOfferingQualification": "TMF679-ProductOfferingQualification-v4.0.0",
    "recommendationManagement": "TMF680-Recommendation-v4.0.0",
    "promotionManagement": "TMF671_Promotion_Management_API_v4.1.0",
    "loyalty": "TMF658-LoyaltyManagement-4.0.0",
    "productOrderingManagement": "TMF622-ProductOrder-v4.0.0",
    "shoppingCart": "TMF663-ShoppingCart-v4.0.0",
    "customerManagement": "TMF629-Customer-v4.0.0",
    "party": "TMF632-Party-v4.0.0",
    "productInventory": "TMF637-ProductInventory-v4.0.0",
    "accountManagement": "TMF666-Account-v4.0.0",
    "partyRoleManagement": "TMF669-PartyRole-v4.0.0",
    "agreementManagement": "TMF651-Agreement-v4.0.0",
    "document": "TMF667_Document_Management_API_v4.0.0",
    "partyInteraction": "TMF683-PartyInteraction-v4.0.0",
}
PATHS: Mapping[str, str] = {resource.name: resource.path("v4") for resource in RESOURCES}
# What holds things of its own kind is filled this deep.
_DEPTH = 4


def entity(resource: Resource) -> str:
    """The name of a resource's schema: `billFormat` → `BillFormat`."""
    return resource.name[0].upper() + resource.name[1:]


class Spec:
    """One API's file."""

    def __init__(self, directory: Path, api: str) -> None:
        # Most names go on with a dot, some with an underscore.
        (file,) = directory.glob(f"{FILES[api]}?swagger.json")
        self.definitions: dict[str, Any] = json.loads(file.read_text())["definitions"]
        # TMF658's file alone takes code and status for numbers; TMF630 and all others have them as texts.
        for name in ("code", "status"):
            self.definitions["Error"]["properties"][name]["type"] = "string"
        self._instants = set(self._instant_names())

    def _instant_names(self) -> Iterator[str]:
        for definition in self.definitions.values():
            for name, schema in definition.get("properties", {}).items():
                if schema.get("format") == "date-time":
                    yield name

    def check(self, name: str, answer: Any) -> None:
        """Fails unless the JSON value is valid against the schema, and every date-time in it ends in Z."""
        schema = {"definitions": self.definitions, "$ref": f"#/definitions/{name}"}
        faults = [f"{error.json_path}: {error.message}" for error in Draft4Validator(schema).iter_errors(answer)]
        assert not faults, faults
        local = list(self._local_instants(answer, name))
        assert not local, f"not in UTC: {local}"

    def _local_instants(self, value: Any, path: str) -> Iterator[str]:
        if isinstance(value, dict):
            for key, item in value.items():
                if key in self._instants and isinstance(item, str) and not item.endswith("Z"):
                    yield f"{path}.{key}"
                yield from self._local_instants(item, f"{path}.{key}")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from self._local_instants(item, f"{path}[{index}]")

    def full(self, name: str, salt: str) -> dict[str, Any]:
        """A body in which every attribute of a schema is set; `salt` makes its texts its own."""
        body = self._sample({"$ref": f"#/definitions/{name}"}, name, salt, ())
        assert isinstance(body, dict)
        return body

    def _sample(self, schema: Mapping[str, Any], attribute: str, salt: str, within: tuple[str, ...]) -> Any:
        if (reference := schema.get("$ref")) is not None:
            name = reference.rpartition("/")[2]
            if name in within or len(within) > _DEPTH:
                return None
            return self._sample(self.definitions[name], attribute, salt, (*within, name))
        kind = schema.get("type")
        if "enum" in schema:
            return schema["enum"][0]
        if kind == "array":
            item = self._sample(schema["items"], attribute, salt, within)
            return None if item is None else [item]
        if kind == "object" and "properties" in schema:
            parts = {
                key: self._sample(part, key, salt, within)
                for key, part in schema["properties"].items()
                # Sent by nobody: ours, or the address of a schema of the sender's own.
                if key not in ("@type", "@baseType", "@schemaLocation") or key in schema.get("required", ())
            }
            whole = all(parts.get(key) is not None for key in schema.get("required", ()))
            return {key: value for key, value in parts.items() if value is not None} if whole else None
        return _scalar(kind, schema.get("format"), attribute, salt)


def _scalar(kind: str | None, form: str | None, attribute: str, salt: str) -> Any:
    if kind == "string":
        texts = {"date-time": "2026-02-03T04:05:06Z", "uri": f"https://example.org/{salt}", "base64": "c3Z5YXo="}
        return texts.get(form or "", f"{attribute} {salt}")
    if attribute == "percentage":
        # Beside an amount it can only say nothing.
        return 0
    if kind in ("integer", "number"):
        return 2 if kind == "integer" else 12.5
    # TM Forum's `Any`, and objects of which nothing is said.
    return True if kind == "boolean" else {"any": [salt, 1, None]}


@cache
def spec_of(directory: Path, api: str) -> Spec:
    """An API's file, read once."""
    return Spec(directory, api)


def same(sent: Any, got: Any, path: str = "") -> Iterator[str]:
    """The paths of what was sent and isn't in what came back; `[]` equals absent, instants are compared as such."""
    if isinstance(sent, dict) and isinstance(got, dict):
        for key, value in sent.items():
            if key in got:
                yield from same(value, got[key], f"{path}.{key}")
            elif value != []:
                yield f"{path}.{key} is missing"
    elif isinstance(sent, list) and isinstance(got, list) and len(sent) == len(got):
        for index, (one, other) in enumerate(zip(sent, got, strict=True)):
            yield from same(one, other, f"{path}[{index}]")
    elif sent != got or isinstance(sent, bool) != isinstance(got, bool):
        yield f"{path}: {sent!r} came back as {got!r}"
