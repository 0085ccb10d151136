"""The demo operator: a small telecom operator with branches in Bishkek and Osh, loaded through the gateway like any
other operator. Its persons are invented."""

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any, NamedTuple

import httpx

# Loaded last of all: when it is there, everything is.
_OPERATOR = "Demo Telecom"
_EVERY_BRANCH = "*"
# A call may find the services still warming up.
_TIMEOUT_SECONDS = 30.0
# Those who make things, and the one who looks at an offering before it is published, and at a large discount.
_MAKER, _REVIEWER = "demo", "demo-reviewer"
# Each goes the way of its kind, from where it is created, each step through its guards.
_WAYS = {
    "productOffering": ("In study", "In design", "In test", "Active", "Launched"),
    "productOfferingPrice": ("In test", "Active"),
}


class DemoError(Exception):
    """The demo operator couldn't be loaded; the message says which thing was refused, and why."""


class Kind(NamedTuple):
    """A kind of thing: its collection, and the role that may create it."""

    name: str
    api: str
    role: str

    @property
    def path(self) -> str:
        """The collection's path."""
        return f"/tmf-api/{self.api}/v4/{self.name}"


# In the order in which they refer to each other.
KINDS = (
    Kind("category", "productCatalogManagement", "catalog-manager"),
    Kind("productSpecification", "productCatalogManagement", "catalog-manager"),
    Kind("productOfferingPrice", "productCatalogManagement", "catalog-manager"),
    Kind("productOffering", "productCatalogManagement", "catalog-manager"),
    Kind("individual", "party", "agent"),
    Kind("organization", "party", "agent"),
    Kind("customer", "customerManagement", "agent"),
    Kind("billingAccount", "accountManagement", "agent"),
    Kind("catalog", "productCatalogManagement", "catalog-manager"),
)
_CATALOG = KINDS[-1]
# How what is sold is fulfilled, by tasks.
_FULFILMENT = Kind("fulfilmentSpecification", "", "catalog-manager")
_FULFILMENT_PATH = "/fulfilment/v1/createFulfilmentSpecification"
# Which has to be there before it can be said how it is fulfilled.
_FULFILLED = "productSpecification"
# The rules for contacts, of each branch.
_POLICY = Kind("permissionPolicy", "", "admin")
_POLICY_PATH = "/permission/v1/createPermissionPolicy"


def load_demo(gateway_url: str, token: Callable[[str, str, str], str]) -> int:
    """Loads what isn't there yet and returns how many things that were.

    `token` gives one for a role, a branch and a person.

    Every request has its Idempotency-Key: a load that was interrupted continues where it stopped. Raises DemoError.
    """
    with httpx.Client(base_url=gateway_url, timeout=_TIMEOUT_SECONDS) as client:
        loader = _Loader(client, token)
        try:
            return 0 if loader.is_complete() else loader.load()
        except httpx.HTTPError as error:
            raise DemoError(f"the gateway at {gateway_url} doesn't answer: {error!r}") from error


def _data(kind: Kind) -> Any:
    return json.loads(files(__package__).joinpath("data", f"{kind.name}.json").read_text("utf-8"))


class _Loader:
    def __init__(self, client: httpx.Client, token: Callable[[str, str, str], str]) -> None:
        self._client = client
        self._token = token
        self._tokens: dict[tuple[str, str, str], str] = {}
        self._ids: dict[str, str] = {}

    def is_complete(self) -> bool:
        found = self._send(_CATALOG, _EVERY_BRANCH, "GET", f"{_CATALOG.path}?name={_OPERATOR}&fields=name")
        return bool(found)

    def load(self) -> int:
        for policy in _data(_POLICY):
            key = f"demo@{_POLICY.name}/{policy['key']}"
            self._send(_POLICY, policy["branch"], "POST", _POLICY_PATH, {_POLICY.name: policy["body"]}, key)
        for kind in KINDS:
            for thing in _data(kind):
                self._create(kind, thing)
            if kind.name == _FULFILLED:
                self._say_how_it_is_fulfilled()
        return len(self._ids)

    def _say_how_it_is_fulfilled(self) -> None:
        for specification in _data(_FULFILMENT):
            key = f"demo@{_FULFILMENT.name}/{specification['key']}"
            body = {"branch": _EVERY_BRANCH, _FULFILMENT.name: self._resolved(specification["body"])}
            self._send(_FULFILMENT, _EVERY_BRANCH, "POST", _FULFILMENT_PATH, body, key)

    def _create(self, kind: Kind, thing: dict[str, Any]) -> None:
        branch = thing.get("branch", _EVERY_BRANCH)
        name = f"@{kind.name}/{thing['key']}"
        created = self._send(kind, branch, "POST", kind.path, self._resolved(thing["body"]), f"demo{name}")
        self._ids[name] = created["id"]
        way = _WAYS.get(kind.name, ())
        status = thing["body"].get("lifecycleStatus")
        for following in way[way.index(status) + 1 :] if status in way else ():
            if following == way[-1]:
                self._approve(kind, branch, created["id"], name)
            path, key = f"{kind.path}/{created['id']}", f"demo{name}:{following}"
            self._send(kind, branch, "PATCH", path, {"lifecycleStatus": following}, key)

    def _approve(self, kind: Kind, branch: str, id: str, name: str) -> None:
        """As the second person that an offering needs to be launched, and a large discount to be active."""
        path = f"/publication/v1/approve{kind.name[0].upper()}{kind.name[1:]}"
        self._send(kind, branch, "POST", path, {"id": id, "note": "demo"}, f"demo{name}:approval", _REVIEWER)

    def _resolved(self, value: Any) -> Any:
        """The body with the ids of what was created before in the places of their names."""
        if isinstance(value, dict):
            return {key: self._resolved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolved(item) for item in value]
        return self._ids.get(value, value) if isinstance(value, str) else value

    def _send(
        self, kind: Kind, branch: str, method: str, path: str, body: Any = None, key: str = "", who: str = _MAKER
    ) -> Any:
        caller = (kind.role, branch, who)
        if caller not in self._tokens:
            self._tokens[caller] = self._token(*caller)
        headers = {"Authorization": f"Bearer {self._tokens[caller]}"}
        if key:
            headers["Idempotency-Key"] = key
        response = self._client.request(method, path, json=body, headers=headers)
        if response.is_error:
            raise DemoError(f"{method} {path} ({key or 'demo'}) answered {response.status_code}: {response.text}")
        return response.json()
