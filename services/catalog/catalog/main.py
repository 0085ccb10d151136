"""Starts the catalog service."""

import os
import sys

from catalog.pricing.api import Prices, PricingRules
from catalog.pricing.rating_api import Ratings
from catalog.product.api import CatalogItems
from catalog.promotion.api import Promotions, PromotionsOnPrices
from catalog.promotion.domain import ApprovalThresholds
from catalog.store import RESOURCES, metadata
from chassis import commands, server
from chassis.bus import Bus, event_stream
from chassis.clock import Clock
from chassis.config import Settings
from chassis.db import Database
from chassis.operations import Operations
from chassis.relay import EventOutbox, Relay
from svyaz.catalog.v1 import (
    catalog_pb2_grpc,
    pricing_pb2_grpc,
    pricing_rules_pb2_grpc,
    promotion_pb2_grpc,
    rating_pb2_grpc,
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
    bus = Bus(settings.nats_url, name="catalog", streams=[event_stream("catalog")])
    server.run(
        settings,
        [
            (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, CatalogItems(database)),
            (pricing_pb2_grpc.add_PricingServiceServicer_to_server, Prices(database, PromotionsOnPrices(database))),
            (pricing_rules_pb2_grpc.add_PricingRulesServiceServicer_to_server, PricingRules(database)),
            (rating_pb2_grpc.add_RatingServiceServicer_to_server, Ratings(database)),
            (
                promotion_pb2_grpc.add_PromotionServiceServicer_to_server,
                Promotions(database, _approval_thresholds()),
            ),
            (
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                Operations(database, [], service="catalog"),
            ),
        ],
        database=database,
        background=[Relay(database, bus, EventOutbox(database, "catalog"), service="catalog", stream="CATALOG")],
    )


def _approval_thresholds() -> ApprovalThresholds:
    """From which discount on a promotion needs a second person."""
    return ApprovalThresholds.parse(
        os.environ.get("PROMOTION_APPROVAL_PERCENTAGE", "50"), os.environ.get("PROMOTION_APPROVAL_AMOUNTS", "")
    )


if __name__ == "__main__":
    main()
