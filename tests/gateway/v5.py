"""TM Forum's official examples exist in version 5 only: how they read in version 4, the dialect that we speak."""

from collections.abc import Callable
from typing import Any

Object = dict[str, Any]

_MEDIUM = {"@type", "preferred", "validFor", "id"}


def _referred(inside: str) -> Callable[[Any], Any]:
    """`{role, partyOrPartyRole: {id, …}}` → `{role, id, …}`."""

    def reshape(value: Object) -> Object:
        out: Object = {key: item for key, item in value.items() if key not in (inside, "@type")}
        out.update(value.get(inside, {}))
        return out

    return reshape


def _medium(value: Object) -> Object:
    """Kinds of contact media are types in version 5; version 4 has one type with all their attributes in it."""
    return {
        "mediumType": value["@type"],
        **{key: item for key, item in value.items() if key in _MEDIUM - {"@type"}},
        "characteristic": {key: item for key, item in value.items() if key not in _MEDIUM},
    }


def _first_id(value: list[Object]) -> str:
    return str(value[0]["id"])


# Attribute → (its name in version 4, how each of its values is reshaped).
_RENAMED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "relatedParty": ("relatedParty", _referred("partyOrPartyRole")),
    "channel": ("channel", _referred("channel")),
    "place": ("place", _referred("place")),
    "contactMedium": ("contactMedium", _medium),
    "characteristicValueSpecification": ("productSpecCharacteristicValue", lambda value: value),
    "charSpecRelationship": ("productSpecCharRelationship", lambda value: value),
    "policy": ("constraint", lambda value: value),
}


def in_v4(value: Any) -> Any:
    """The version 4 form of a version 5 resource, or of a part of one."""
    if isinstance(value, list):
        return [in_v4(item) for item in value]
    if not isinstance(value, dict):
        return value
    out: Object = {}
    for key, item in value.items():
        if key == "externalId" and isinstance(item, list):
            out[key] = _first_id(item)
        elif key in _RENAMED and isinstance(item, list):
            name, reshape = _RENAMED[key]
            out[name] = [in_v4(reshape(part)) for part in item]
        else:
            out[key] = in_v4(item)
    return out


def whole_in_v4(value: Object) -> Object:
    """The version 4 form of a new version 5 resource, with what version 4 makes mandatory."""
    needed: Object = {}
    if value["@type"] == "Organization":
        needed["tradingName"] = value["name"]
    if value["@type"] == "Product":
        needed["status"] = "created"
    needed.update(in_v4(value))
    return needed
