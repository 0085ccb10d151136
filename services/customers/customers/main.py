"""Starts the customers service."""

import sys

from chassis import commands, server
from chassis.bus import Bus, event_stream
from chassis.clock import Clock
from chassis.config import Settings
from chassis.consumer import Consumer
from chassis.db import Database
from chassis.operations import Operations
from chassis.relay import EventOutbox, Relay
from chassis.timers import Timers
from customers.account.api import Accounts
from customers.events import orders_changed
from customers.importing.api import Imports
from customers.ordering.store import ordering_context
from customers.party.api import Customers, Parties
from customers.store import RESOURCES, metadata
from customers.task.api import Tasks
from customers.task.api import timers as task_timers
from svyaz.customers.v1 import account_pb2_grpc, customers_pb2_grpc, import_pb2_grpc, party_pb2_grpc, task_pb2_grpc
from svyaz.operations.v1 import operations_pb2_grpc


def main() -> None:
    """Serves, or does what the command line says: `migrate`, `open-epoch`."""
    settings = Settings.from_environment("customers")
    if commands.run("customers", settings, sys.argv[1:]):
        return
    database = Database(
        settings.database_url,
        clock=Clock(settings.clock_offset_file),
        metadata=metadata,
        resources=RESOURCES,
        connections=settings.database_connections,
    )
    bus = Bus(settings.nats_url, name="customers", streams=[event_stream("customers")])
    orders = Consumer(database, bus, orders_changed, service="customers", source="orders")
    server.run(
        settings,
        [
            (party_pb2_grpc.add_PartyServiceServicer_to_server, Parties(database)),
            (customers_pb2_grpc.add_CustomerServiceServicer_to_server, Customers(database, ordering_context)),
            (account_pb2_grpc.add_AccountServiceServicer_to_server, Accounts(database)),
            (import_pb2_grpc.add_ImportServiceServicer_to_server, Imports(database)),
            (task_pb2_grpc.add_TaskServiceServicer_to_server, Tasks(database)),
            (
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                Operations(database, [orders], service="customers"),
            ),
        ],
        database=database,
        background=[
            Relay(database, bus, EventOutbox(database, "customers"), service="customers", stream="CUSTOMERS"),
            orders,
            Timers(database, {**task_timers()}, service="customers", workers=2),
        ],
    )


if __name__ == "__main__":
    main()
