"""A branch at work, as the tests drive it: everything goes through the gateway, in TM Forum's dialect."""

import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import httpx

from svyaz_cli.run import NO_CERTIFICATES
from tests.platforms import RunningPlatform

CATALOG = "/tmf-api/productCatalogManagement/v4"
PARTY = "/tmf-api/party/v4"
CUSTOMER = "/tmf-api/customerManagement/v4"
ACCOUNT = "/tmf-api/accountManagement/v4"
ORDERING = "/tmf-api/productOrderingManagement/v4"
INVENTORY = "/tmf-api/productInventory/v4"
FINAL = {"completed", "failed", "partial", "cancelled", "rejected"}


class Branch:
    """One branch of the operator; every mutation carries an Idempotency-Key, so that it may be sent again."""

    def __init__(self, platform: RunningPlatform, name: str = "bishkek") -> None:
        self.name = name
        self._tokens = {role: platform.token(role, name) for role in ("agent", "catalog-manager", "billing", "admin")}
        # A second manager of the catalog: what one has made is approved by the other.
        issuer = platform.home.issuer()
        self._tokens["reviewer"] = issuer.token(["catalog-manager"], [name], subject="reviewer")
        self._client = httpx.Client(base_url=platform.gateway_url, timeout=20, verify=NO_CERTIFICATES)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def send(self, method: str, path: str, body: Any = None, *, role: str = "agent", key: str = "") -> httpx.Response:
        """One request as a person of the role, sent once."""
        headers = {"authorization": f"Bearer {self._tokens[role]}"}
        if method in ("POST", "PATCH", "DELETE"):
            headers["idempotency-key"] = key or str(uuid.uuid4())
        return self._client.request(method, path, json=body, headers=headers)

    def persist(self, method: str, path: str, body: Any = None, *, role: str = "agent", seconds: float = 90) -> Any:
        """Sends until it is answered by something else than an outage; the JSON of the answer, which must be a 2xx."""
        key, deadline = str(uuid.uuid4()), time.monotonic() + seconds
        while True:
            try:
                response = self.send(method, path, body, role=role, key=key)
            except httpx.TransportError:
                response = None
            if response is not None and response.status_code < 500:
                assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
                return response.json() if response.content else None
            assert time.monotonic() < deadline, f"{method} {path} isn't answered: {response and response.text}"
            time.sleep(0.1)

    def offering(self, name: str, prices: Iterable[dict[str, Any]], **attributes: Any) -> str:
        """A launched offering with prices of its own; its id."""
        references = [
            {"id": self.persist("POST", f"{CATALOG}/productOfferingPrice", price, role="catalog-manager")["id"]}
            for price in prices
        ]
        for reference in references:
            self.launch(f"{CATALOG}/productOfferingPrice/{reference['id']}")
        specification = self.persist("POST", f"{CATALOG}/productSpecification", {"name": name}, role="catalog-manager")
        self.launch(f"{CATALOG}/productSpecification/{specification['id']}")
        body = {
            "name": name,
            "productSpecification": {"id": specification["id"]},
            "productOfferingPrice": references,
            **attributes,
        }
        created = self.persist("POST", f"{CATALOG}/productOffering", body, role="catalog-manager")
        self.launch(f"{CATALOG}/productOffering/{created['id']}")
        return str(created["id"])

    def launch(self, path: str) -> None:
        """Takes something in the catalog from its design to the market; an offering with a second person's approval."""
        for status in ("In test", "Active", "Launched"):
            if status == "Launched" and "/productOffering/" in path:
                self.act("approveProductOffering", {"id": path.rpartition("/")[2]}, role="reviewer")
            self.persist("PATCH", path, {"lifecycleStatus": status}, role="catalog-manager")

    def act(self, action: str, body: Any, *, role: str = "catalog-manager") -> Any:
        """Something that a catalog's manager does beside the resources."""
        apis = {"igrat": "migration", "review": "preview"}
        api = next((api for word, api in apis.items() if word in action), "publication")
        return self.persist("POST", f"/{api}/v1/{action}", body, role=role)

    def customer(self, given: str, family: str) -> tuple[str, str]:
        """A person who is a customer with a billing account in KGS; the ids of customer and account."""
        person = self.persist("POST", f"{PARTY}/individual", {"givenName": given, "familyName": family})
        party = {"id": person["id"], "@referredType": "Individual"}
        customer = self.persist("POST", f"{CUSTOMER}/customer", {"name": f"{given} {family}", "engagedParty": party})
        account = self.persist("POST", f"{ACCOUNT}/billingAccount", account_of(customer["id"], f"{given} {family}"))
        return str(customer["id"]), str(account["id"])

    def order(self, customer: str, account: str, *offerings: str) -> dict[str, Any]:
        """Orders the offerings; the order as acknowledged."""
        answer: dict[str, Any] = self.persist(
            "POST", f"{ORDERING}/productOrder", order_of(customer, account, *offerings)
        )
        return answer

    def get(self, path: str, *, role: str = "agent") -> Any:
        """Reads until it is answered."""
        return self.persist("GET", path, role=role)

    def ended(self, order_id: str, seconds: float = 60) -> dict[str, Any]:
        """The order, once nothing more happens to it."""
        order: dict[str, Any] = {}

        def over() -> bool:
            order.update(self.get(f"{ORDERING}/productOrder/{order_id}"))
            return order["state"] in FINAL

        eventually(over, seconds, lambda: f"order {order_id} is {order.get('state')}")
        return order


def account_of(customer: str, name: str, currency: str = "KGS") -> dict[str, Any]:
    """A billing account, as the gateway takes it."""
    return {
        "name": name,
        "creditLimit": {"unit": currency, "value": 1000},
        "relatedParty": [{"id": customer, "name": name, "role": "owner", "@referredType": "Customer"}],
    }


def order_of(customer: str, account: str, *offerings: str) -> dict[str, Any]:
    """A product order that adds the offerings, as the gateway takes it."""
    return {
        "relatedParty": [{"id": customer, "role": "customer", "@referredType": "Customer"}],
        "billingAccount": {"id": account},
        "productOrderItem": [
            {"id": str(number), "action": "add", "quantity": 1, "productOffering": {"id": offering}}
            for number, offering in enumerate(offerings, 1)
        ],
    }


def price(name: str, value: str, *, recurring: bool = True, currency: str = "KGS") -> dict[str, Any]:
    """A price of an offering, as the gateway takes it."""
    period = {"recurringChargePeriodType": "month", "recurringChargePeriodLength": 1} if recurring else {}
    return {
        "name": name,
        "priceType": "recurring" if recurring else "oneTime",
        "price": {"unit": currency, "value": float(value)},
        **period,
    }


def eventually(condition: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    """Waits for the condition; fails with `what` when it doesn't come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)
