"""TM Forum JSON in both directions: the resources of TMF620 as the API shows them, by collection."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from catalog.product.domain import (
    Catalog,
    CatalogItem,
    Category,
    ProductOffering,
    ProductOfferingPrice,
    ProductSpecification,
)
from catalog.transfer.domain import Content, ContentError, Element, File
from chassis import convert
from chassis.errors import DomainError, InvalidArgument
from chassis.scalars import encode_json
from chassis.tmfjson import Dialect, parse
from chassis.types import COMMON
from svyaz.catalog.v1 import catalog_pb2

SOURCE = "tmf"
BASE = "/tmf-api/productCatalogManagement/v4"
# Collection → class and contract.
KINDS: Mapping[str, tuple[type[CatalogItem], type[Message]]] = {
    "productSpecification": (ProductSpecification, catalog_pb2.ProductSpecification),
    "productOfferingPrice": (ProductOfferingPrice, catalog_pb2.ProductOfferingPrice),
    "productOffering": (ProductOffering, catalog_pb2.ProductOffering),
    "category": (Category, catalog_pb2.Category),
    "catalog": (Catalog, catalog_pb2.Catalog),
}
# v5 calls it so.
_ALSO = {"productCatalog": "catalog"}
_COLLECTION = {cls: name for name, (cls, _) in KINDS.items()}
_DIALECT = Dialect("v4")
# Of the resource there, not of the one that it becomes here.
_ITS_OWN = ("href", "lastUpdate")


def read(files: Sequence[File]) -> Content:
    """Every resource of the files: an object of collections, an array of resources that name their @type, or one of
    them. Raises ContentError for what isn't JSON."""
    content = Content(SOURCE, counts_references=True)
    seen: set[tuple[type[CatalogItem], str]] = set()
    for file in files:
        for collection, value, place in _resources(file, content):
            content.rows_read += 1
            element = _element(collection, value, place, content)
            if element is None:
                continue
            node = (type(element.item), element.key)
            if node in seen:
                content.refuse("DUPLICATE", "another one has the same id", place=place, element=element.key, field="id")
            else:
                seen.add(node)
                content.elements.append(element)
    return content


def _resources(file: File, content: Content) -> Iterable[tuple[str, dict[str, Any], str]]:
    """Collection, JSON object and place of each resource of the file."""
    try:
        document = parse(file.data)
    except InvalidArgument as error:
        raise ContentError(f"{file.name}: {error.message}") from error
    if isinstance(document, dict) and not _named(document):
        for name, values in document.items():
            place = f"{file.name}#{name}"
            collection = _ALSO.get(name) or str(name)
            if collection not in KINDS:
                # What says something of the file itself: @type, exportDate …
                if isinstance(values, list | dict):
                    content.report("UNKNOWN_COLLECTION", "isn't a collection of the catalog", place=place)
            elif not isinstance(values, list):
                content.refuse("MALFORMED", "must be an array of resources", place=place)
            else:
                for index, value in enumerate(values):
                    if isinstance(value, dict):
                        yield collection, value, f"{place}[{index}]"
                    else:
                        content.refuse("MALFORMED", "must be an object", place=f"{place}[{index}]")
        return
    for index, value in enumerate(document if isinstance(document, list) else [document]):
        place = f"{file.name}#[{index}]"
        named = _named(value) if isinstance(value, dict) else ""
        if isinstance(value, dict) and named:
            yield named, value, place
        else:
            content.refuse("MALFORMED", "must be a resource that names its @type", place=place, field="@type")


def _named(value: Mapping[str, Any]) -> str:
    """The collection of a resource, by its @type; empty: it names none of ours."""
    kind = value.get("@type")
    name = kind[:1].lower() + kind[1:] if isinstance(kind, str) else ""
    name = _ALSO.get(name, name)
    return name if name in KINDS else ""


def _element(collection: str, value: dict[str, Any], place: str, content: Content) -> Element | None:
    cls, message_class = KINDS[collection]
    key = value.get("id")
    if not isinstance(key, str) or not key:
        content.refuse("REQUIRED", "an element that is to be found again has an id", place=place, field="id")
        return None
    stated = {name: item for name, item in value.items() if name not in _ITS_OWN}
    if stated.get("@type") == cls.__name__:
        # Every resource is shown with a type; this one is no other than its collection's.
        del stated["@type"]
    try:
        message = _DIALECT.message(message_class, stated)
        return Element(convert.from_message(message, cls, id=key, branch=COMMON), place)
    except DomainError as error:
        refuse(content, error, place, key)
    return None


def refuse(content: Content, error: DomainError, place: str, key: str) -> None:
    """Notes every fault that the error names."""
    if not error.violations:
        content.refuse(error.reason, error.message, place=place, element=key)
    for violation in error.violations:
        content.refuse(error.reason, violation.description, place=place, element=key, field=violation.field)


def write(items: Mapping[str, Iterable[Message]]) -> bytes:
    """The document of the collections, each resource on a line of its own."""
    parts = []
    for collection, messages in items.items():
        lines = (encode_json(_DIALECT.resource(m, f"{BASE}/{collection}/{_id(m)}")) for m in messages)
        parts.append(b'"' + collection.encode() + b'":[\n' + b",\n".join(lines) + b"\n]")
    return b"{" + b",\n".join(parts) + b"}\n"


def _id(message: Any) -> str:
    return str(message.id)


def collection_of(item: CatalogItem) -> str:
    """`ProductOffering` → `productOffering`."""
    return _COLLECTION[type(item)]
