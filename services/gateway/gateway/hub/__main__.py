"""Starts the hub: `python -m gateway.hub`."""

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
from chassis.relay import Relay
from gateway.hub.api import Hub
from gateway.hub.callbacks import Callbacks
from gateway.hub.delivery import SERVICE, Dispatcher
from gateway.hub.domain import GIVE_UP_AFTER, MAX_SUBSCRIPTIONS, MAX_WAITING
from gateway.hub.events import SOURCES, Deliveries
from gateway.hub.store import RESOURCES, metadata
from svyaz.hub.v1 import hub_pb2_grpc
from svyaz.operations.v1 import operations_pb2_grpc
from svyaz.orders.v1 import orders_pb2_grpc


def main() -> None:
    """Serves, or does what the command line says: `migrate`. Reads HUB_GIVE_UP_AFTER_SECONDS (24 hours),
    HUB_MAX_SUBSCRIPTIONS (20 of a branch to an API), HUB_MAX_WAITING (100,000 events for a subscription) and
    SSL_CERT_FILE (authorities that callbacks' certificates may come from) too."""
    settings = Settings.from_environment(SERVICE)
    if commands.run("gateway.hub", settings, sys.argv[1:]):
        return
    database = Database(
        settings.database_url,
        clock=Clock(settings.clock_offset_file),
        metadata=metadata,
        resources=RESOURCES,
        connections=settings.database_connections,
    )
    callbacks = Callbacks(
        allow_private=settings.hub_allow_private_callbacks, ca_file=settings.environment.get("SSL_CERT_FILE", "")
    )
    give_up = float(settings.environment.get("HUB_GIVE_UP_AFTER_SECONDS") or GIVE_UP_AFTER.total_seconds())
    max_waiting = int(settings.environment.get("HUB_MAX_WAITING") or MAX_WAITING)
    most = int(settings.environment.get("HUB_MAX_SUBSCRIPTIONS") or MAX_SUBSCRIPTIONS)
    dispatcher = Dispatcher(database, callbacks, give_up_after=timedelta(seconds=give_up), max_waiting=max_waiting)
    orders = orders_pb2_grpc.OrderServiceStub(channel(settings.addresses["orders"], token_source(settings)))
    deliveries = Deliveries(orders, dispatcher.wake)
    bus = Bus(settings.nats_url, name=SERVICE, streams=[event_stream(SERVICE)])
    consumers = [Consumer(database, bus, deliveries, service=SERVICE, source=source) for source in SOURCES]
    server.run(
        settings,
        [
            (hub_pb2_grpc.add_HubServiceServicer_to_server, Hub(database, callbacks, dispatcher, most=most)),
            (
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                Operations(database, consumers, service=SERVICE),
            ),
        ],
        database=database,
        background=[
            Relay(database, bus, EventOutbox(database, SERVICE), service=SERVICE, stream="HUB"),
            dispatcher,
            *consumers,
        ],
    )


if __name__ == "__main__":
    main()
