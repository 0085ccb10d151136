"""The catalog service on a real database, called over gRPC."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import grpc
import pytest

from catalog.pricing.api import Prices, PricingRules
from catalog.pricing.rating_api import Ratings
from catalog.product.api import CatalogItems
from catalog.promotion.api import Promotions, PromotionsOnPrices
from catalog.promotion.domain import ApprovalThresholds
from catalog.store import RESOURCES, metadata
from chassis.clients import domain_error
from chassis.clock import Clock
from chassis.config import Settings
from chassis.db import Database
from chassis.server import Server
from svyaz.catalog.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    pricing_pb2,
    pricing_pb2_grpc,
    pricing_rules_pb2,
    pricing_rules_pb2_grpc,
    promotion_pb2,
    promotion_pb2_grpc,
    rating_pb2_grpc,
)
from svyaz.type.v1 import requests_pb2
from svyaz_cli.issuer import Issuer


class Client:
    """Calls as somebody; a refusal is raised as the error that the service raised."""

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self._stubs = (
            catalog_pb2_grpc.CatalogServiceStub(channel),
            pricing_pb2_grpc.PricingServiceStub(channel),
            pricing_rules_pb2_grpc.PricingRulesServiceStub(channel),
            promotion_pb2_grpc.PromotionServiceStub(channel),
            rating_pb2_grpc.RatingServiceStub(channel),
        )
        self._metadata = (("authorization", f"Bearer {token}"),)

    def call(self, name: str, request: Any) -> Any:
        """Calls a method of any of the services."""
        method = next(getattr(stub, name) for stub in self._stubs if hasattr(stub, name))
        try:
            return method(request, metadata=self._metadata, timeout=30)
        except grpc.RpcError as error:
            raise domain_error(error) from error

    def create(self, message: Any, **more: str) -> Any:
        """Creates what the message says; answers with it as it is then."""
        name, field = _names(message)
        return self.call(f"Create{name}", _request(f"Create{name}Request")(**{field: message}, **more))

    def update(self, message: Any, *paths: str, **more: str) -> Any:
        """Changes those fields of the thing with the message's id."""
        name, field = _names(message)
        request = _request(f"Update{name}Request")(**{field: message}, **more)
        request.update_mask.paths.extend(paths)
        return self.call(f"Update{name}", request)

    def move(self, thing: Any, *statuses: "catalog_pb2.LifecycleStatus.ValueType") -> Any:
        """Takes the thing through those statuses."""
        for status in statuses:
            thing = self.update(type(thing)(id=thing.id, lifecycle_status=status), "lifecycle_status")
        return thing

    def get(self, thing: Any) -> Any:
        """The thing as it is now."""
        return self.call(f"Get{_names(thing)[0]}", requests_pb2.GetRequest(id=thing.id))

    def delete(self, thing: Any, **more: str) -> None:
        """Deletes the thing."""
        self.call(f"Delete{_names(thing)[0]}", requests_pb2.DeleteRequest(id=thing.id, **more))

    def price(self, *items: pricing_pb2.PriceRequestItem, **context: Any) -> pricing_pb2.PriceResponse:
        """Prices the items."""
        request = pricing_pb2.PriceRequest(item=items, context=pricing_pb2.PricingContext(**context))
        response = self.call("Price", request)
        assert isinstance(response, pricing_pb2.PriceResponse)
        return response


def _request(name: str) -> Any:
    contracts = (catalog_pb2, pricing_rules_pb2, promotion_pb2)
    return getattr(next(contract for contract in contracts if hasattr(contract, name)), name)


def _names(message: Any) -> tuple[str, str]:
    name = message.DESCRIPTOR.name
    return name, "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


@pytest.fixture(scope="module")
def database(database_for: Callable[..., Any]) -> Iterator[Database]:
    """A fresh catalog database, as the service's role sees it."""
    made = Database(database_for("catalog").url, clock=Clock(), metadata=metadata, resources=RESOURCES)
    yield made
    made.close()


@pytest.fixture(scope="module")
def channel(database: Database, issuer: Issuer) -> Iterator[grpc.Channel]:
    """The running service."""
    environment: Mapping[str, str] = issuer.environment
    server = Server(
        Settings.from_environment("catalog", environment),
        [
            (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, CatalogItems(database)),
            (pricing_pb2_grpc.add_PricingServiceServicer_to_server, Prices(database, PromotionsOnPrices(database))),
            (
                promotion_pb2_grpc.add_PromotionServiceServicer_to_server,
                Promotions(database, ApprovalThresholds(Decimal(50), {"KGS": Decimal(1000)})),
            ),
            (pricing_rules_pb2_grpc.add_PricingRulesServiceServicer_to_server, PricingRules(database)),
            (rating_pb2_grpc.add_RatingServiceServicer_to_server, Ratings(database)),
        ],
        ready=database.ready,
    )
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        yield opened
    server.stop()


@pytest.fixture(scope="module")
def client_for(channel: grpc.Channel, issuer: Issuer) -> Callable[..., Client]:
    """Somebody with those roles in the branch Bishkek, or another one."""

    def make(roles: Sequence[str], branch: str = "bishkek", subject: str = "developer") -> Client:
        return Client(channel, issuer.token(roles, [branch], subject=subject))

    return make


@pytest.fixture(scope="module")
def manager(client_for: Callable[..., Client]) -> Client:
    """The catalog's manager."""
    return client_for(["catalog-manager"])
