"""What the billing tests stand on: an orders database with the billing service before it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from chassis.config import Settings
from chassis.db import Database
from chassis.server import Server
from chassis.zones import BranchZones
from orders.billing.api import Billing
from svyaz.orders.v1 import billing_pb2_grpc
from svyaz_cli.issuer import Issuer
from tests.billing.books import connected
from tests.conftest import ServiceDatabase


@pytest.fixture
def place(database_for: Callable[..., ServiceDatabase]) -> ServiceDatabase:
    return database_for("orders")


@pytest.fixture
def database(place: ServiceDatabase) -> Iterator[Database]:
    opened = connected(place.url)
    yield opened
    opened.close()


@dataclass(frozen=True)
class Books:
    """The billing service: where it is, and a token for it."""

    address: str
    issuer: Issuer

    def token(self, role: str = "billing", branch: str = "*") -> str:
        return self.issuer.token([role], [branch])


@pytest.fixture
def books(database: Database, issuer: Issuer) -> Iterator[Books]:
    settings = Settings.from_environment("orders", issuer.environment)
    zones = BranchZones.parse("bishkek=Asia/Bishkek,havana=America/Havana,*=UTC")
    server = Server(
        settings,
        [(billing_pb2_grpc.add_BillingServiceServicer_to_server, Billing(database, zones))],
        ready=lambda: True,
    )
    server.start()
    try:
        yield Books(f"127.0.0.1:{server.port}", issuer)
    finally:
        server.stop()
