"""Starts the orders service."""

import sys
from datetime import timedelta

from chassis import commands, server
from chassis.auth import token_source
from chassis.bus import Bus, event_stream
from chassis.clients import channel
from chassis.clock import Clock
from chassis.config import Settings
from chassis.consumer import Consumer
from chassis.db import Database
from chassis.operations import Operations
from chassis.outbox import EventOutbox
from chassis.parking import all_of
from chassis.relay import Relay
from chassis.timers import Timers
from chassis.zones import BranchZones
from orders.amendment.api import Amendments
from orders.billing.api import Billing
from orders.billing.certification import Branches, Certification
from orders.billing.outbox import STREAM, BillingOutbox, billing_stream
from orders.billing.precedence import Precedence
from orders.billing.sealer import Sealer
from orders.billing.signing import SigningKey
from orders.billing.store import SEALED
from orders.billing.witness import Witness
from orders.bulk.api import BulkOrders
from orders.bulk.steps import Bulk
from orders.cart import steps as carts
from orders.cart.api import Carts
from orders.cart.valuation import Valuation
from orders.events import person_erased
from orders.fulfilment import inbound, refusal
from orders.fulfilment.adapters import NullProvisioning, connected, listening
from orders.fulfilment.api import Fulfilments
from orders.fulfilment.listeners import Listeners
from orders.fulfilment.queue import Jobs
from orders.fulfilment.reporters import Reporters
from orders.fulfilment.steps import Systems
from orders.inventory.api import Inventory
from orders.inventory.characteristics import Configurator
from orders.lifecycle.api import ProductLifecycle
from orders.migration.api import Migrations
from orders.migration.steps import Migrating
from orders.ordering import statuses
from orders.ordering.api import Orders
from orders.ordering.capture import Capture
from orders.ordering.coupons import Coupons
from orders.ordering.fulfilment import Fulfilment
from orders.store import RESOURCES, metadata
from orders.template.api import OrderTemplates
from orders.tracking.api import Tracking
from svyaz.catalog.v1 import catalog_pb2_grpc, pricing_pb2_grpc, promotion_pb2_grpc, qualification_pb2_grpc
from svyaz.customers.v1 import customers_pb2_grpc
from svyaz.operations.v1 import operations_pb2_grpc
from svyaz.orders.v1 import (
    amendment_pb2_grpc,
    billing_pb2_grpc,
    bulk_pb2_grpc,
    cart_pb2_grpc,
    fulfilment_pb2_grpc,
    inventory_pb2_grpc,
    lifecycle_pb2_grpc,
    migration_pb2_grpc,
    orders_pb2_grpc,
    template_pb2_grpc,
    tracking_pb2_grpc,
)

SWITCH_SECONDS = 0.001
BILLING_SPACING_SECONDS = 0.005


def main() -> None:
    """Serves, or does what the command line says: `migrate`, `open-epoch`."""
    # A sealer or relay wants the interpreter for a moment at a time, many times for each charge; beside a thread that
    # carries orders out it waits so long for it.
    sys.setswitchinterval(SWITCH_SECONDS)
    settings = Settings.from_environment("orders")
    if commands.run("orders", settings, sys.argv[1:]):
        return
    tokens = token_source(settings)
    database = Database(
        settings.database_url,
        clock=Clock(settings.clock_offset_file),
        metadata=metadata,
        resources=RESOURCES,
        connections=settings.database_connections,
    )
    catalog = channel(settings.addresses["catalog"], tokens)
    offerings = catalog_pb2_grpc.CatalogServiceStub(catalog)
    buyers = customers_pb2_grpc.CustomerServiceStub(channel(settings.addresses["customers"], tokens))
    configurator = Configurator(offerings, qualification_pb2_grpc.QualificationServiceStub(catalog))
    capture = Capture(pricing_pb2_grpc.PricingServiceStub(catalog), offerings, buyers, configurator)
    provisioning = NullProvisioning(
        delay=timedelta(seconds=float(settings.environment.get("NULL_PROVISIONING_DELAY_SECONDS", "0"))),
        failing=frozenset(filter(None, settings.environment.get("NULL_PROVISIONING_FAILING", "").split(","))),
    )
    coupons = Coupons(promotion_pb2_grpc.PromotionServiceStub(catalog))
    adapters = connected(settings.environment, provisioning)
    systems = Systems(adapters)
    fulfilment = Fulfilment(capture, coupons, systems)
    jobs = Jobs(database)
    reporters = Reporters.parse(settings.environment.get("FULFILMENT_SYSTEM_SUBJECTS", ""))
    migrating = Migrating(capture, offerings)
    bulk = Bulk(capture)
    bus = Bus(
        settings.nats_url, name="orders", streams=[event_stream("orders"), billing_stream(), inbound.report_stream()]
    )
    customers = Consumer(
        database, bus, all_of(fulfilment.customers_changed, person_erased), service="orders", source="customers"
    )
    launched = Consumer(database, bus, migrating.catalog_changed, service="orders", source="catalog")
    reports = Consumer(database, bus, inbound.reported, service="orders", source=inbound.SOURCE, read=inbound.report_of)
    orders = Orders(database, capture, coupons)
    # More would only take turns at the interpreter, and keep sealer and relays from theirs; an adapter that waits for
    # its network wants more.
    timer_workers = int(settings.environment.get("TIMER_WORKERS", "1"))
    sealer = Sealer(database, confirm=Witness(bus).confirm)
    billing = Relay(
        database,
        bus,
        BillingOutbox(database),
        service="billing",
        stream=STREAM,
        name="billing",
        topic=SEALED,
        spacing=BILLING_SPACING_SECONDS,
    )
    zones = BranchZones.parse(settings.environment.get("BRANCH_TIME_ZONES", ""))
    signing_key = SigningKey.read(settings.environment.get("BILLING_SIGNING_KEY", ""))
    settle = timedelta(seconds=float(settings.environment.get("BILLING_SETTLE_SECONDS", "1800")))
    certification = Certification(zones, signing_key, settle=settle)
    server.run(
        settings,
        [
            (orders_pb2_grpc.add_OrderServiceServicer_to_server, orders),
            (template_pb2_grpc.add_OrderTemplateServiceServicer_to_server, OrderTemplates(database, orders)),
            (amendment_pb2_grpc.add_AmendmentServiceServicer_to_server, Amendments(database, orders)),
            (tracking_pb2_grpc.add_OrderTrackingServiceServicer_to_server, Tracking(database)),
            (inventory_pb2_grpc.add_InventoryServiceServicer_to_server, Inventory(database, configurator)),
            (lifecycle_pb2_grpc.add_ProductLifecycleServiceServicer_to_server, ProductLifecycle(database)),
            (
                cart_pb2_grpc.add_ShoppingCartServiceServicer_to_server,
                Carts(database, Valuation(database, capture), coupons),
            ),
            (bulk_pb2_grpc.add_BulkOrderServiceServicer_to_server, BulkOrders(database)),
            (
                billing_pb2_grpc.add_BillingServiceServicer_to_server,
                Billing(database, zones, certification, signing_key, buyers),
            ),
            (migration_pb2_grpc.add_MigrationServiceServicer_to_server, Migrations(database, offerings)),
            (
                fulfilment_pb2_grpc.add_FulfilmentServiceServicer_to_server,
                Fulfilments(database, systems.names, jobs, reporters),
            ),
            (
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                Operations(database, [customers, launched, reports], service="orders"),
            ),
        ],
        database=database,
        background=[
            Relay(database, bus, EventOutbox(database, "orders"), service="orders", stream="ORDERS"),
            # Stopped in reverse: what the sealer still seals is still sent.
            billing,
            sealer,
            Timers(
                database,
                {
                    **fulfilment.timers(),
                    **migrating.timers(),
                    **statuses.timers(),
                    **jobs.timers(),
                    **refusal.timers(),
                    **certification.timers(),
                    **carts.timers(),
                    **bulk.timers(),
                },
                service="orders",
                workers=timer_workers,
                read_ahead=fulfilment.read_ahead,
                before_turn=Precedence(sealer, billing).wait,
            ),
            customers,
            launched,
            reports,
            Listeners(bus, listening(adapters)),
            Branches(database),
        ],
    )


if __name__ == "__main__":
    main()
