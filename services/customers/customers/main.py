"""Starts the customers service."""

import sys

from chassis import commands, server
from chassis.bus import Bus, event_stream
from chassis.clock import Clock
from chassis.config import Settings
from chassis.consumer import Consumer
from chassis.db import Database, Unit
from chassis.operations import Operations
from chassis.relay import EventOutbox, Relay
from chassis.timers import Timers
from customers.account.api import Accounts
from customers.events import orders_changed
from customers.importing.api import Imports
from customers.matching import batch
from customers.matching.api import Matching
from customers.matching.batch import Searches
from customers.matching.domain import DuplicateCandidate
from customers.matching.entry import Entries
from customers.matching.indexing import Indexing
from customers.matching.phones import BranchRegions
from customers.ordering.store import ordering_context
from customers.party.api import Customers, Parties
from customers.store import RESOURCES, metadata
from customers.task.api import Tasks
from customers.task.api import timers as task_timers
from customers.task.store import open_task
from svyaz.customers.v1 import (
    account_pb2_grpc,
    customers_pb2_grpc,
    import_pb2_grpc,
    matching_pb2_grpc,
    party_pb2_grpc,
    task_pb2_grpc,
)
from svyaz.operations.v1 import operations_pb2_grpc


def review_duplicate(unit: Unit, candidate: DuplicateCandidate) -> None:
    """Has an employee look at two who may be one."""
    open_task(
        unit,
        kind="review-duplicate",
        branch=candidate.branch,
        subject_id=candidate.id,
        subject_type="DuplicateCandidate",
    )


def main() -> None:
    """Serves, or does what the command line says: `migrate`, `open-epoch`, `find-duplicates`."""
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
    regions = BranchRegions.parse(settings.environment.get("BRANCH_REGIONS", ""))
    if sys.argv[1:2] == [batch.COMMAND]:
        _, _, search_id, branch = sys.argv
        batch.run(database, regions, search_id, branch, review_duplicate)
        return
    indexing, entries = Indexing(regions), Entries(regions, review_duplicate)
    bus = Bus(settings.nats_url, name="customers", streams=[event_stream("customers")])
    orders = Consumer(database, bus, orders_changed, service="customers", source="orders")
    server.run(
        settings,
        [
            (party_pb2_grpc.add_PartyServiceServicer_to_server, Parties(database, [indexing])),
            (
                customers_pb2_grpc.add_CustomerServiceServicer_to_server,
                Customers(database, ordering_context, [indexing]),
            ),
            (account_pb2_grpc.add_AccountServiceServicer_to_server, Accounts(database)),
            (import_pb2_grpc.add_ImportServiceServicer_to_server, Imports(database)),
            (matching_pb2_grpc.add_MatchingServiceServicer_to_server, Matching(database, regions, entries)),
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
            Timers(
                database, {**task_timers(), **indexing.timers(), **entries.timers()}, service="customers", workers=2
            ),
            Searches(database),
        ],
    )


if __name__ == "__main__":
    main()
