"""TM Forum's own examples and schemas: what the examples send is accepted and comes back, as version 4 describes it."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator, FormatChecker

from tests.gateway.conftest import Api
from tests.gateway.v5 import in_v4, whole_in_v4

CATALOG = "/tmf-api/productCatalogManagement/v4"
ORDERING = "/tmf-api/productOrderingManagement/v4"
CUSTOMER = "/tmf-api/customerManagement/v4"
PARTY = "/tmf-api/party/v4"
INVENTORY = "/tmf-api/productInventory/v4"

SCHEMAS = {
    CATALOG: "TMF620-ProductCatalog-v4.1.0.swagger.json",
    ORDERING: "TMF622-ProductOrder-v4.0.0.swagger.json",
    CUSTOMER: "TMF629-Customer-v4.0.0.swagger.json",
    PARTY: "TMF632-Party-v4.0.0.swagger.json",
    INVENTORY: "TMF637-ProductInventory-v4.0.0.swagger.json",
}

# Folder/example, the collection that it is posted to, and the merge patches for what it made.
CREATED = [
    (
        "TMF620_ProductCatalog/ProductCatalog_Create_example",
        f"{CATALOG}/catalog",
        "ProductCatalog_Update_example_with_Patch_Merge",
    ),
    ("TMF620_ProductCatalog/Category_Create_example", f"{CATALOG}/category", "Category_Update_example"),
    (
        "TMF620_ProductCatalog/Product_Specification_Create_example",
        f"{CATALOG}/productSpecification",
        "Product_Specification_Update_Patch_Merge_example",
    ),
    (
        "TMF620_ProductCatalog/Product_Specification_Create_example_with_intent",
        f"{CATALOG}/productSpecification",
        "Product_Specification_Update_Implicit_Merge_example",
    ),
    (
        "TMF620_ProductCatalog/Product_Offering_Create_example",
        f"{CATALOG}/productOffering",
        "Product_Offering_Update_Patch_Merge",
    ),
    (
        "TMF620_ProductCatalog/Product_Offering_Price_Create_example",
        f"{CATALOG}/productOfferingPrice",
        "Product_Offering_Price_Update_Patch_Merge_example",
    ),
    (
        "TMF622_ProductOrder/CreateProductOrder1",
        f"{ORDERING}/productOrder",
        "updateProductOrder_using_merge-patch_json",
    ),
    (
        "TMF622_ProductOrder/CreateProductOrder2",
        f"{ORDERING}/productOrder",
        "updateProductOrder_using_application-json",
    ),
    ("TMF622_ProductOrder/CreateProductOrder_with_intent_specification", f"{ORDERING}/productOrder", ""),
    ("TMF629_CustomerManagement/Customer_Create_example", f"{CUSTOMER}/customer", "Customer_Update_example_Merge_"),
    (
        "TMF632_PartyManagement/Individual_create_example",
        f"{PARTY}/individual",
        "Individual_update_example_Patch_Merge",
    ),
    (
        "TMF632_PartyManagement/Organization_create_example",
        f"{PARTY}/organization",
        "Organization_update_example_Patch_Merge",
    ),
    (
        "TMF637_ProductInventory/CreateProduct",
        f"{INVENTORY}/product",
        "Product_partialupdate_example_application_merge_patch_json",
    ),
    (
        "TMF637_ProductInventory/CreateProduct_with_intent",
        f"{INVENTORY}/product",
        "Product_partialupdate_example_application_json",
    ),
]

# What is ours to say, whatever the client says.
OURS = {"id", "href", "lastUpdate", "orderDate"}


@cache
def schema_of(shared: Path, path: str) -> Draft4Validator:
    """The version 4 schema of what a collection holds."""
    base, _, name = path.rpartition("/")
    definitions = json.loads((shared / "tmf" / "specs" / SCHEMAS[base]).read_text())["definitions"]
    schema = {"$ref": f"#/definitions/{name[0].upper()}{name[1:]}", "definitions": definitions}
    formats = FormatChecker(())
    formats.checks("date-time")(
        lambda value: re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value) is not None
    )
    return Draft4Validator(schema, format_checker=formats)


def example(shared: Path, name: str) -> Any:
    """A body of TM Forum's, as it came."""
    return json.loads((shared / "tmf" / "examples" / f"{name}_request.json").read_text())


def lost(sent: Any, shown: Any, path: str = "") -> list[str]:
    """The paths of what was sent and isn't shown; an empty array equals an absent one."""
    if isinstance(sent, dict):
        if not isinstance(shown, dict):
            return [path]
        return [
            bad for key, item in sent.items() for bad in lost(item, shown.get(key), f"{path}.{key}" if path else key)
        ]
    if isinstance(sent, list):
        if len(sent) != len(shown or []):
            return [path]
        return [bad for i, item in enumerate(sent) for bad in lost(item, shown[i], f"{path}[{i}]")]
    return [] if sent == shown or same_instant(sent, shown) else [path]


def same_instant(sent: Any, shown: Any) -> bool:
    try:
        return datetime.fromisoformat(sent) == datetime.fromisoformat(shown)
    except (TypeError, ValueError):
        return False


# Attributes that refer to what must exist before the referring one can be sold or ordered → what that is.
REFERENCES = {
    "productSpecification": "productSpecification",
    "bundledProductSpecification": "productSpecification",
    "productOffering": "productOffering",
    "productOfferingPrice": "productOfferingPrice",
    "popRelationship": "productOfferingPrice",
}


@pytest.fixture(scope="module")
def existing(api: Api) -> Callable[[Any], Any]:
    """Makes what an example refers to, and puts our ids in the place of the example's."""

    @cache
    def ours(kind: str, id: str) -> str:
        body: dict[str, Any] = {"name": f"{kind} {id}", "lifecycleStatus": "Active"}
        if kind == "productOfferingPrice":
            body |= {
                "priceType": "recurring",
                "recurringChargePeriodType": "month",
                "price": {"unit": "EUR", "value": 1},
            }
        return str(api.made(f"{CATALOG}/{kind}", body)["id"])

    def substitute(body: Any) -> Any:
        if isinstance(body, list):
            return [substitute(item) for item in body]
        if not isinstance(body, dict):
            return body
        out = {}
        for key, item in body.items():
            out[key] = substitute(item)
            for reference in (out[key] if isinstance(item, list) else [out[key]]) if key in REFERENCES else ():
                reference["id"] = ours(REFERENCES[key], reference["id"])
        return out

    return substitute


@pytest.mark.parametrize(("name", "path", "patch"), CREATED, ids=[name for name, _, _ in CREATED])
def test_an_official_example_is_accepted_and_answered_as_sent(
    api: Api, shared: Path, existing: Callable[[Any], Any], name: str, path: str, patch: str
) -> None:
    schema = schema_of(shared, path)
    sent = existing(whole_in_v4(example(shared, name)))
    made = api.made(path, sent)
    ours = {key: value for key, value in sent.items() if key not in OURS}
    assert lost(ours, made) == []
    schema.validate(made)
    shown = api.get(made["href"]).json()
    assert lost(ours, shown) == []
    schema.validate(shown)
    listed = api.get(path, params={"id": made["id"]}).json()
    assert lost(ours, listed[0]) == []
    if patch:
        change = in_v4(example(shared, f"{name.partition('/')[0]}/{patch}"))
        answer = api.client.patch(
            made["href"], content=json.dumps(change), headers={"Content-Type": "application/merge-patch+json"}
        )
        assert answer.status_code == 200, answer.text
        assert lost(change, answer.json()) == []
        schema.validate(answer.json())


def test_the_official_cancellation_is_accepted(api: Api, shared: Path, existing: Callable[[Any], Any]) -> None:
    order = api.made(
        f"{ORDERING}/productOrder", existing(whole_in_v4(example(shared, "TMF622_ProductOrder/CreateProductOrder2")))
    )
    sent = whole_in_v4(example(shared, "TMF622_ProductOrder/CreateCancelProductOrder"))
    sent["productOrder"]["id"] = order["id"]
    made = api.made(f"{ORDERING}/cancelProductOrder", sent)
    assert lost(sent, made) == []
    schema_of(shared, f"{ORDERING}/cancelProductOrder").validate(made)
