"""Starts the catalog service."""

import sys

from catalog.generation.api import Generation
from catalog.pricing.api import Prices
from catalog.product.api import CatalogItems
from catalog.store import RESOURCES, metadata
from catalog.transfer.api import Transfers
from catalog.transfer.exports import Exports
from catalog.transfer.files import Folder
from catalog.transfer.imports import Imports
from chassis import commands, server
from chassis.bus import Bus, event_stream
from chassis.clock import Clock
from chassis.config import Settings
from chassis.db import Database
from chassis.operations import Operations
from chassis.relay import EventOutbox, Relay
from chassis.timers import Timers
from svyaz.catalog.v1 import catalog_pb2_grpc, generation_pb2_grpc, pricing_pb2_grpc, transfer_pb2_grpc
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
    folder = Folder(settings.environment.get("CATALOG_TRANSFER_DIRECTORY", ""))
    timers = {**Imports(folder).timers(), **Exports(folder).timers()}
    server.run(
        settings,
        [
            (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, CatalogItems(database)),
            (pricing_pb2_grpc.add_PricingServiceServicer_to_server, Prices(database)),
            (transfer_pb2_grpc.add_TransferServiceServicer_to_server, Transfers(database)),
            (generation_pb2_grpc.add_GenerationServiceServicer_to_server, Generation(database)),
            (
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                Operations(database, [], service="catalog"),
            ),
        ],
        database=database,
        background=[
            Relay(database, bus, EventOutbox(database, "catalog"), service="catalog", stream="CATALOG"),
            # Imports wait for each other in any case: they take references under one lock.
            Timers(database, timers, service="catalog", workers=2),
        ],
    )


if __name__ == "__main__":
    main()
