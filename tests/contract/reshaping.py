"""TM Forum's v5 examples in their v4 shape: one table of everything that was renamed or reshaped between the versions.

What v4 doesn't know keeps its name and travels as an extension.
"""

from collections.abc import Callable, Mapping
from typing import Any

Json = Any

# Resources.
RESOURCES = {"productCatalog": "catalog"}


def _flat(inner: str) -> Callable[[dict[str, Json]], dict[str, Json]]:
    """v5 keeps the reference beside its role; in v4 the role is one of the reference's attributes."""

    def reshape(value: dict[str, Json]) -> dict[str, Json]:
        outer = {key: item for key, item in value.items() if key not in (inner, "@type")}
        return {**value.get(inner, {}), **outer} if inner in value else value

    return reshape


def _party(value: dict[str, Json]) -> dict[str, Json]:
    """Its name is required in some v4 files and left out in some v5 examples."""
    return {"name": "somebody", **_flat("partyOrPartyRole")(value)}


def _channel(value: dict[str, Json]) -> dict[str, Json]:
    """Its address is required in v4."""
    return {"href": "https://example.org/channel", **_flat("channel")(value)}


def _medium(value: dict[str, Json]) -> dict[str, Json]:
    """v5 has a subclass per medium; v4 names the medium, and keeps what is peculiar to it under `characteristic`."""
    own = ("@type", "preferred", "validFor")
    characteristic = {key: item for key, item in value.items() if key not in own}
    kept = {key: item for key, item in value.items() if key in own}
    return {**kept, "mediumType": value["@type"], "characteristic": characteristic}


def _in_cart(value: dict[str, Json]) -> dict[str, Json]:
    """What it costs is said by the catalog, whatever a cart's sender says."""
    return {key: item for key, item in value.items() if key not in ("itemPrice", "itemTotalPrice")}


def _related_product(value: dict[str, Json]) -> dict[str, Json]:
    """v5 names the product beside the kind of the relationship; in v4 it is an object of its own, and required."""
    reference = {key: value[key] for key in ("id", "href", "name") if key in value}
    outer = {key: item for key, item in value.items() if key not in reference}
    return {**outer, "product": reference} if "product" not in value else value


# Attributes of any object: v5's name → v4's name, and how each of its values is reshaped.
ATTRIBUTES: Mapping[str, tuple[str, Callable[[dict[str, Json]], dict[str, Json]] | None]] = {
    "relatedParty": ("relatedParty", _party),
    "relatedChannel": ("channel", _channel),
    "channel": ("channel", _flat("channel")),
    "place": ("place", _flat("place")),
    "contactMedium": ("contactMedium", _medium),
    "productRelationship": ("productRelationship", _related_product),
    "cartItem": ("cartItem", _in_cart),
    "charSpecRelationship": ("productSpecCharRelationship", None),
    "characteristicValueSpecification": ("productSpecCharacteristicValue", None),
    # v4's is one string, v5's a list of objects: the list goes by the name that later versions gave it.
    "externalId": ("externalIdentifier", None),
}
# What v4 requires of a new resource and v5 doesn't.
REQUIRED: Mapping[str, Callable[[dict[str, Json]], dict[str, Json]]] = {
    "organization": lambda body: {"tradingName": body["name"]},
    "product": lambda body: {"status": "created"},
    # As the answer of the same example has it.
    "partyInteraction": lambda body: {"status": "ongoing"},
}


def reshaped(value: Json) -> Json:
    """A v5 value in its v4 shape."""
    if isinstance(value, list):
        return [reshaped(item) for item in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for key, item in value.items():
        name, shape = ATTRIBUTES.get(key, (key, None))
        if shape is not None:
            item = [shape(one) for one in item] if isinstance(item, list) else shape(item)
        out[name] = reshaped(item) if not _opaque(key) else item
    return out


def _opaque(attribute: str) -> bool:
    # Free values are nobody's business but the sender's.
    return attribute in ("value", "intent", "expressionValue")


def created(resource: str, body: dict[str, Json]) -> dict[str, Json]:
    """A v5 body of a POST in its v4 shape."""
    required = REQUIRED.get(resource)
    return {**(required(body) if required is not None else {}), **reshaped(body)}
