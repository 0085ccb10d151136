"""Starts the customers service."""

import sys

from chassis import affinity, commands, server
from chassis.bus import Bus, event_stream
from chassis.clock import Clock
from chassis.config import Settings
from chassis.consumer import Consumer
from chassis.operations import Operations
from chassis.outbox import EventOutbox
from chassis.relay import Relay
from chassis.timers import Timers
from customers.matching import batch
from customers.service import CustomersService, Operator, open_database, review_duplicate
from svyaz.operations.v1 import operations_pb2_grpc


def main() -> None:
    """Serves, or does what the command line says: `migrate`, `open-epoch`, `find-duplicates`."""
    settings = Settings.from_environment("customers")
    searching = sys.argv[1:2] == [batch.COMMAND]
    if not searching and commands.run("customers", settings, sys.argv[1:]):
        return
    database = open_database(settings.database_url, Clock(settings.clock_offset_file), settings.database_connections)
    operator = Operator.of(settings.environment)
    if searching:
        _, _, search_id, branch = sys.argv
        if settings.one_cpu:
            # Nobody calls it, and the service that began it may be confined.
            affinity.spread()
        batch.run(database, operator.regions, search_id, branch, review_duplicate)
        return
    service = CustomersService(database, operator)
    bus = Bus(settings.nats_url, name="customers", streams=[event_stream("customers")])
    consumers = [
        Consumer(database, bus, handler, service="customers", source=source)
        for source, handler in service.handlers().items()
    ]
    operations = Operations(database, consumers, service="customers")
    server.run(
        settings,
        [
            *service.registrations(),
            (operations_pb2_grpc.add_OperationsServiceServicer_to_server, operations),
        ],
        database=database,
        background=[
            Relay(database, bus, EventOutbox(database, "customers"), service="customers", stream="CUSTOMERS"),
            *consumers,
            Timers(database, service.timers(), service="customers", workers=2),
            *service.background(),
        ],
        before_answer=service.before_answer(),
    )


if __name__ == "__main__":
    main()
