"""The demo operator, as it is before anybody has done anything with it."""

import grpc
import httpx
import pytest

from svyaz.orders.v1 import billing_pb2, billing_pb2_grpc
from svyaz_cli.demo import KINDS
from svyaz_cli.services import SERVICES
from tests.platforms import RunningPlatform

pytestmark = pytest.mark.timeout(400)


def bearer(platform: RunningPlatform, role: str, branch: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {platform.token(role, branch)}"}


def counts(platform: RunningPlatform) -> dict[str, int]:
    found = {}
    with httpx.Client(base_url=platform.gateway_url, headers=bearer(platform, "admin", "*"), timeout=30) as client:
        for kind in KINDS:
            answer = client.get(kind.path, params={"fields": "id", "limit": "1"})
            assert answer.is_success, answer.text
            found[kind.name] = int(answer.headers["X-Total-Count"])
    return found


def test_the_demo_operator_is_small_and_there(demo_platform: RunningPlatform) -> None:
    found = counts(demo_platform)
    assert found["customer"] == found["billingAccount"] == 10
    assert found["catalog"] == 1
    assert all(1 <= count <= 50 for count in found.values())


def test_every_offering_of_the_demo_operator_is_launched(demo_platform: RunningPlatform) -> None:
    path = next(kind.path for kind in KINDS if kind.name == "productOffering")
    answer = httpx.get(f"{demo_platform.gateway_url}{path}", headers=bearer(demo_platform, "agent", "osh"), timeout=30)
    assert {offering["lifecycleStatus"] for offering in answer.json()} == {"Launched"}


@pytest.mark.parametrize("branch", ["bishkek", "osh"])
def test_a_billing_day_of_the_demo_operator_begins_at_its_own_midnight(
    demo_platform: RunningPlatform, branch: str
) -> None:
    port = demo_platform.base + next(service.offset for service in SERVICES if service.name == "orders")
    metadata = (("authorization", f"Bearer {demo_platform.token('billing', branch)}"),)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = billing_pb2.GetBillingCertificateRequest(branch=branch, day="2026-03-01")
        stub = billing_pb2_grpc.BillingServiceStub(channel)
        answer = stub.GetBillingCertificate(request, metadata=metadata, timeout=30)
    assert answer.time_zone == "Asia/Bishkek"
