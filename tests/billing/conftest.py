"""What the billing tests stand on: an orders database with the billing service before it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest

from chassis.config import Settings
from chassis.db import Database
from chassis.server import Server
from chassis.zones import BranchZones
from orders.billing.api import Billing
from orders.billing.certification import Certification
from orders.billing.signing import SigningKey
from svyaz.customers.v1 import customers_pb2_grpc
from svyaz.orders.v1 import billing_pb2_grpc
from svyaz_cli.issuer import Issuer, billing_key
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


ZONES = BranchZones.parse("bishkek=Asia/Bishkek,havana=America/Havana,*=UTC")


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    key = SigningKey.read(str(billing_key(tmp_path_factory.mktemp("billing"))))
    assert key is not None
    return key


@pytest.fixture
def books(database: Database, issuer: Issuer, signing_key: SigningKey) -> Iterator[Books]:
    settings = Settings.from_environment("orders", issuer.environment)
    with grpc.insecure_channel("127.0.0.1:1") as nowhere:
        customers = customers_pb2_grpc.CustomerServiceStub(nowhere)
        billing = Billing(database, ZONES, Certification(ZONES, signing_key), signing_key, customers)
        server = Server(
            settings,
            [(billing_pb2_grpc.add_BillingServiceServicer_to_server, billing)],
            ready=lambda: True,
        )
        server.start()
        try:
            yield Books(f"127.0.0.1:{server.port}", issuer)
        finally:
            server.stop()
