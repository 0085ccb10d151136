"""The catalog service on a real database, called over gRPC."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import grpc
import pytest

from catalog.generation.api import Generation
from catalog.holding.api import Holdings
from catalog.preview.api import ChangePreviews
from catalog.preview.job import Previews
from catalog.pricing.api import Prices, PricingRules
from catalog.pricing.rating_api import Ratings
from catalog.product.api import CatalogItems
from catalog.promotion.api import Promotions, PromotionsOnPrices
from catalog.promotion.domain import ApprovalThresholds
from catalog.publication.api import Publication
from catalog.publication.guards import Guards
from catalog.qualification.api import Qualifications, SaleGuard
from catalog.recommendation.api import Recommendations
from catalog.recommendation.entitlement_api import Entitlements
from catalog.store import RESOURCES, metadata
from catalog.transfer.api import Transfers
from chassis.clients import domain_error
from chassis.clock import Clock
from chassis.config import Settings
from chassis.db import Database
from chassis.server import Server
from svyaz.catalog.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    entitlement_pb2,
    entitlement_pb2_grpc,
    generation_pb2_grpc,
    holding_pb2_grpc,
    preview_pb2_grpc,
    pricing_pb2,
    pricing_pb2_grpc,
    pricing_rules_pb2,
    pricing_rules_pb2_grpc,
    promotion_pb2,
    promotion_pb2_grpc,
    publication_pb2,
    publication_pb2_grpc,
    qualification_pb2_grpc,
    rating_pb2_grpc,
    recommendation_pb2_grpc,
    transfer_pb2_grpc,
)
from svyaz.type.v1 import requests_pb2
from svyaz_cli.issuer import Issuer


class Client:
    """Calls as somebody; a refusal is raised as the error that the service raised."""

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self._stubs = (
            catalog_pb2_grpc.CatalogServiceStub(channel),
            pricing_pb2_grpc.PricingServiceStub(channel),
            holding_pb2_grpc.HoldingServiceStub(channel),
            preview_pb2_grpc.PreviewServiceStub(channel),
            pricing_rules_pb2_grpc.PricingRulesServiceStub(channel),
            publication_pb2_grpc.PublicationServiceStub(channel),
            promotion_pb2_grpc.PromotionServiceStub(channel),
            rating_pb2_grpc.RatingServiceStub(channel),
            qualification_pb2_grpc.QualificationServiceStub(channel),
            recommendation_pb2_grpc.RecommendationServiceStub(channel),
            entitlement_pb2_grpc.EntitlementServiceStub(channel),
            generation_pb2_grpc.GenerationServiceStub(channel),
        )
        self._metadata = (("authorization", f"Bearer {token}"),)

    def call(self, name: str, request: Any) -> Any:
        """Calls a method of whichever service has it."""
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

    def approve(self, thing: Any, **more: str) -> Any:
        """Approves what is there."""
        return self.call(f"Approve{_names(thing)[0]}", publication_pb2.ApproveRequest(id=thing.id, **more))

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
    contracts = (catalog_pb2, pricing_rules_pb2, promotion_pb2, entitlement_pb2)
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
    entitlements = Entitlements(database)
    prices = Prices(database, SaleGuard(database), PromotionsOnPrices(database), remind=entitlements.with_a_price)
    guards = Guards()
    items = CatalogItems(database, guards)
    server = Server(
        Settings.from_environment("catalog", environment),
        [
            (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, items),
            (publication_pb2_grpc.add_PublicationServiceServicer_to_server, Publication(database, items)),
            (pricing_pb2_grpc.add_PricingServiceServicer_to_server, prices),
            (qualification_pb2_grpc.add_QualificationServiceServicer_to_server, Qualifications(database)),
            (entitlement_pb2_grpc.add_EntitlementServiceServicer_to_server, entitlements),
            (
                recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server,
                Recommendations(database, lambda request: prices.Price(request, None), entitlements),
            ),
            (
                promotion_pb2_grpc.add_PromotionServiceServicer_to_server,
                Promotions(database, ApprovalThresholds(Decimal(50), {"KGS": Decimal(1000)})),
            ),
            (holding_pb2_grpc.add_HoldingServiceServicer_to_server, Holdings(database)),
            (preview_pb2_grpc.add_PreviewServiceServicer_to_server, ChangePreviews(database, Previews(database))),
            (pricing_rules_pb2_grpc.add_PricingRulesServiceServicer_to_server, PricingRules(database, guards)),
            (rating_pb2_grpc.add_RatingServiceServicer_to_server, Ratings(database, prices.book)),
            (transfer_pb2_grpc.add_TransferServiceServicer_to_server, Transfers(database)),
            (generation_pb2_grpc.add_GenerationServiceServicer_to_server, Generation(database, guards)),
        ],
        ready=database.ready,
    )
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        yield opened
    server.stop()


@pytest.fixture(scope="module")
def client_for(channel: grpc.Channel, issuer: Issuer) -> Callable[..., Client]:
    """Somebody with those roles, in the branch Bishkek unless told otherwise."""

    def make(roles: Sequence[str], branches: Sequence[str] = ("bishkek",), *, subject: str = "developer") -> Client:
        return Client(channel, issuer.token(roles, branches, subject=subject))

    return make


@pytest.fixture(scope="module")
def manager(client_for: Callable[..., Client]) -> Client:
    """The catalog's manager, who takes over an existing catalog: as an admin he needs no second person for that."""
    return client_for(["catalog-manager", "admin"])


@pytest.fixture(scope="module")
def author(client_for: Callable[..., Client]) -> Client:
    """A manager of the catalog who makes new things."""
    return client_for(["catalog-manager"], subject="author")


@pytest.fixture(scope="module")
def reviewer(client_for: Callable[..., Client]) -> Client:
    """The other one, who looks at them."""
    return client_for(["catalog-manager"], subject="reviewer")
