"""What TMF637 is told of beyond its file: why a product doesn't work."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.specs import PATHS, Spec
from tests.gateway.hubs import Receiver, eventually
from tests.running import Api

HUB = "/tmf-api/productInventory/v4/hub"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_the_hub_tells_why_a_product_is_suspended(
    api: Api, caller: Callable[..., Api], specs: dict[str, Spec], receiver: Receiver
) -> None:
    admin = caller(["admin"], ["bishkek"])
    hub = admin.made(HUB, {"callback": receiver.url, "query": "eventType=ProductStateChangeEvent"})
    made = api.made(PATHS["product"], {"status": "active", "name": "told"})
    api.patch(made["href"], {"status": "suspended"})
    shown = api.get(made["href"]).json()
    assert [one["reason"] for one in shown["suspension"]] == ["voluntary"]
    api.patch(made["href"], {"status": "active"})

    def told() -> list[Any]:
        return [request for request in receiver.accepted if request.resource["id"] == made["id"]]

    eventually(lambda: len(told()) >= 2)
    suspended, active = told()[-2:]
    assert suspended.resource == shown
    assert "suspension" not in active.resource
    for request in (suspended, active):
        specs["productInventory"].check("ProductStateChangeEvent", request.event)
    admin.delete(hub["href"])
