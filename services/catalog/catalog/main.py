"""Starts the catalog service."""

import sys
from collections.abc import Mapping
from decimal import Decimal

from catalog.events import person_erased
from catalog.generation.api import Generation
from catalog.generation.job import Families
from catalog.holding.api import Holdings
from catalog.holding.events import orders_changed
from catalog.preview.api import ChangePreviews
from catalog.preview.job import Previews
from catalog.pricing.api import Prices, PricingRules
from catalog.pricing.compiling import Compiling
from catalog.pricing.rating_api import Ratings
from catalog.product.api import CatalogItems
from catalog.promotion.api import Promotions, PromotionsOnPrices
from catalog.promotion.domain import ApprovalThresholds
from catalog.publication.api import Publication
from catalog.publication.domain import LARGE_DISCOUNT_PERCENT
from catalog.publication.events import Plans, Watch
from catalog.publication.guards import Guards
from catalog.qualification.api import Qualifications, SaleGuard
from catalog.qualification.api import timers as qualification_timers
from catalog.recommendation.api import Recommendations
from catalog.recommendation.entitlement_api import Entitlements
from catalog.store import RESOURCES, metadata
from catalog.transfer.api import Transfers
from catalog.transfer.domain import ATTEMPTS
from catalog.transfer.exports import Exports
from catalog.transfer.files import Folder
from catalog.transfer.imports import BATCH, Imports
from chassis import commands, server
from chassis.bus import Bus, event_stream
from chassis.clock import Clock
from chassis.config import Settings
from chassis.consumer import Consumer
from chassis.db import Database
from chassis.operations import Operations
from chassis.outbox import EventOutbox
from chassis.relay import Relay
from chassis.timers import TimerHandler, Timers
from svyaz.catalog.v1 import (
    catalog_pb2_grpc,
    entitlement_pb2_grpc,
    generation_pb2_grpc,
    holding_pb2_grpc,
    preview_pb2_grpc,
    pricing_pb2_grpc,
    pricing_rules_pb2_grpc,
    promotion_pb2_grpc,
    publication_pb2_grpc,
    qualification_pb2_grpc,
    rating_pb2_grpc,
    recommendation_pb2_grpc,
    transfer_pb2_grpc,
)
from svyaz.operations.v1 import operations_pb2_grpc


def main() -> None:
    """Serves, or does what the command line says: `migrate`, `open-epoch`."""
    settings = Settings.from_environment("catalog")
    if commands.run("catalog", settings, sys.argv[1:]):
        return
    database = Database(
        settings.database_url,
        clock=Clock(settings.clock_offset_file),
        metadata=metadata,
        resources=RESOURCES,
        connections=settings.database_connections,
    )
    guards = Guards(Decimal(settings.environment.get("CATALOG_LARGE_DISCOUNT_PERCENT", LARGE_DISCOUNT_PERCENT)))
    items = CatalogItems(database, guards)
    bus = Bus(settings.nats_url, name="catalog", streams=[event_stream("catalog")])
    previews = Previews(database)
    orders = Consumer(database, bus, orders_changed, service="catalog", source="orders")
    customers = Consumer(database, bus, person_erased, service="catalog", source="customers")
    entitlements = Entitlements(database)
    prices = Prices(database, SaleGuard(database), PromotionsOnPrices(database), remind=entitlements.with_a_price)
    thresholds = ApprovalThresholds.parse(
        settings.environment.get("PROMOTION_APPROVAL_PERCENTAGE", "50"),
        settings.environment.get("PROMOTION_APPROVAL_AMOUNTS", ""),
    )
    folder = Folder(settings.environment.get("CATALOG_TRANSFER_DIRECTORY", ""))
    timers = timer_handlers(items, guards, previews, folder)
    server.run(
        settings,
        [
            (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, items),
            (publication_pb2_grpc.add_PublicationServiceServicer_to_server, Publication(database, items)),
            (pricing_pb2_grpc.add_PricingServiceServicer_to_server, prices),
            (
                qualification_pb2_grpc.add_QualificationServiceServicer_to_server,
                Qualifications(database),
            ),
            (entitlement_pb2_grpc.add_EntitlementServiceServicer_to_server, entitlements),
            (
                recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server,
                Recommendations(database, lambda request: prices.Price(request, None), entitlements),
            ),
            (holding_pb2_grpc.add_HoldingServiceServicer_to_server, Holdings(database)),
            (preview_pb2_grpc.add_PreviewServiceServicer_to_server, ChangePreviews(database, previews)),
            (pricing_rules_pb2_grpc.add_PricingRulesServiceServicer_to_server, PricingRules(database, guards)),
            (rating_pb2_grpc.add_RatingServiceServicer_to_server, Ratings(database, prices.book)),
            (transfer_pb2_grpc.add_TransferServiceServicer_to_server, Transfers(database)),
            (generation_pb2_grpc.add_GenerationServiceServicer_to_server, Generation(database, guards)),
            (
                promotion_pb2_grpc.add_PromotionServiceServicer_to_server,
                Promotions(database, thresholds),
            ),
            (
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                Operations(database, [orders, customers], service="catalog"),
            ),
        ],
        database=database,
        background=[
            Relay(database, bus, EventOutbox(database, "catalog"), service="catalog", stream="CATALOG"),
            orders,
            customers,
            # Imports wait for each other in any case: they take references under one lock.
            Timers(database, timers, service="catalog", workers=2),
            Watch(database),
            Compiling(database, prices.book),
        ],
    )


def timer_handlers(
    items: CatalogItems,
    guards: Guards,
    previews: Previews,
    folder: Folder,
    *,
    batch: int = BATCH,
    attempts: int = ATTEMPTS,
) -> Mapping[str, TimerHandler]:
    """Purpose → handler, of everything that the catalog does by itself; `attempts` and `batch` are those of jobs."""
    imports = Imports(
        folder,
        read_ahead=guards.read_ahead,
        created=guards.creating,
        taken_over=guards.taking_over,
        changed=items.changed,
        batch=batch,
        attempts=attempts,
    )
    return {
        **previews.timers(),
        **qualification_timers(),
        **Plans(items).timers(),
        **imports.timers(),
        **Families(guards, attempts=attempts).timers(),
        **Exports(folder, attempts=attempts).timers(),
    }


if __name__ == "__main__":
    main()
