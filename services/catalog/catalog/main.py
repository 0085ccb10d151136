"""Starts the catalog service."""

import sys

from catalog.holding.api import Holdings
from catalog.holding.events import orders_changed
from catalog.preview.api import ChangePreviews
from catalog.preview.job import Previews
from catalog.pricing.api import Prices, PricingRules
from catalog.product.api import CatalogItems
from catalog.store import RESOURCES, metadata
from chassis import commands, server
from chassis.bus import Bus, event_stream
from chassis.clock import Clock
from chassis.config import Settings
from chassis.consumer import Consumer
from chassis.db import Database
from chassis.operations import Operations
from chassis.relay import EventOutbox, Relay
from chassis.timers import Timers
from svyaz.catalog.v1 import (
    catalog_pb2_grpc,
    holding_pb2_grpc,
    preview_pb2_grpc,
    pricing_pb2_grpc,
    pricing_rules_pb2_grpc,
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
    previews = Previews(database)
    orders = Consumer(database, bus, orders_changed, service="catalog", source="orders")
    server.run(
        settings,
        [
            (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, CatalogItems(database)),
            (pricing_pb2_grpc.add_PricingServiceServicer_to_server, Prices(database)),
            (holding_pb2_grpc.add_HoldingServiceServicer_to_server, Holdings(database)),
            (preview_pb2_grpc.add_PreviewServiceServicer_to_server, ChangePreviews(database, previews)),
            (pricing_rules_pb2_grpc.add_PricingRulesServiceServicer_to_server, PricingRules(database)),
            (
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                Operations(database, [orders], service="catalog"),
            ),
        ],
        database=database,
        background=[
            Relay(database, bus, EventOutbox(database, "catalog"), service="catalog", stream="CATALOG"),
            orders,
            Timers(database, previews.timers(), service="catalog", workers=1),
        ],
    )


if __name__ == "__main__":
    main()
