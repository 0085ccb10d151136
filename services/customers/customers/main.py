"""Starts the customers service."""

import sys

from chassis import commands, server
from chassis.bus import Bus, event_stream
from chassis.clock import Clock
from chassis.config import Settings
from chassis.consumer import Consumer
from chassis.db import Database, Unit
from chassis.operations import Operations
from chassis.parking import all_of
from chassis.relay import EventOutbox, Relay
from chassis.timers import Timers
from chassis.zones import BranchZones
from customers.account.api import Accounts
from customers.agreement import store as agreements
from customers.agreement.api import Agreements
from customers.agreement.deadlines import Deadlines
from customers.agreement.expiry import DEFAULT_NOTICES, parse_notices
from customers.document.api import Documents
from customers.document.buckets import object_store
from customers.document.contents import DEFAULT_MAX_BYTES, Contents
from customers.events import orders_changed
from customers.identity.api import Identities
from customers.identity.collection import MembersCollection, MergedCollection
from customers.importing.api import Imports
from customers.interaction.api import Interactions
from customers.interaction.handover import HandingOver
from customers.interaction.ownership_api import Responsibilities
from customers.interaction.store import Timeline
from customers.loyalty.api import Loyalty
from customers.loyalty.books import Books
from customers.loyalty.charges import Charges
from customers.loyalty.events import Earnings
from customers.loyalty.program_api import LoyaltyPrograms
from customers.matching import batch
from customers.matching.api import Matching
from customers.matching.batch import Searches
from customers.matching.domain import DuplicateCandidate
from customers.matching.entry import Entries
from customers.matching.indexing import Indexing
from customers.matching.phones import BranchRegions
from customers.ordering.store import ordering_context
from customers.party.api import Customers, Parties
from customers.permission.api import Permissions
from customers.privacy.accesses import AccessLog, notes
from customers.privacy.api import Privacy
from customers.privacy.erasing import timers as erasure_timers
from customers.privacy.heard import redact_again, watched
from customers.privacy.refusing import ErasureWatcher
from customers.privacy.retention import DAYS, Retention
from customers.role.api import PartyRoles
from customers.store import RESOURCES, metadata
from customers.task.api import Tasks
from customers.task.api import timers as task_timers
from customers.task.store import open_task
from customers.value.api import Values
from customers.value.events import CustomerWatcher
from customers.value.runs import Valuations, revalue
from customers.value.valuation import Valuer
from customers.view.api import Customers360
from customers.view.heard import heard
from svyaz.customers.v1 import (
    account_pb2_grpc,
    agreement_pb2_grpc,
    customers_pb2_grpc,
    document_pb2_grpc,
    identity_pb2_grpc,
    import_pb2_grpc,
    interaction_pb2_grpc,
    loyalty_pb2_grpc,
    matching_pb2_grpc,
    party_pb2_grpc,
    party_role_pb2_grpc,
    permission_pb2_grpc,
    privacy_pb2_grpc,
    responsibility_pb2_grpc,
    task_pb2_grpc,
    value_pb2_grpc,
    view_pb2_grpc,
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
    clock = Clock(settings.clock_offset_file)
    database = Database(
        settings.database_url,
        clock=clock,
        metadata=metadata,
        resources=RESOURCES,
        connections=settings.database_connections,
        notes=notes(RESOURCES, clock),
    )
    regions = BranchRegions.parse(settings.environment.get("BRANCH_REGIONS", ""))
    if sys.argv[1:2] == [batch.COMMAND]:
        _, _, search_id, branch = sys.argv
        batch.run(database, regions, search_id, branch, review_duplicate)
        return
    indexing, entries = Indexing(regions), Entries(regions, review_duplicate)
    environment = settings.environment
    zones = BranchZones.parse(environment.get("BRANCH_TIME_ZONES", ""))
    books = Books(zones)
    deadlines = Deadlines(
        zones,
        parse_notices(environment.get("AGREEMENT_NOTICE_DAYS", DEFAULT_NOTICES)),
    )
    documents = Documents(
        database,
        Contents(
            database,
            object_store(environment.get("DOCUMENT_STORE", "") or "var/documents"),
            int(environment.get("DOCUMENT_MAX_BYTES", "") or DEFAULT_MAX_BYTES),
        ),
    )
    bus = Bus(settings.nats_url, name="customers", streams=[event_stream("customers")])
    handing_over = HandingOver(Timeline(regions.region), agreements.hand_over)
    ordered = all_of(orders_changed, Earnings(books).orders_changed)
    consumers = [
        Consumer(database, bus, watched(ordered), service="customers", source="orders"),
        Consumer(database, bus, watched(heard), service="customers", source="customers"),
        Consumer(database, bus, watched(heard), service="customers", source="catalog"),
        Consumer(database, bus, Charges(books).charged, service="customers", source="billing"),
    ]
    server.run(
        settings,
        [
            (
                party_pb2_grpc.add_PartyServiceServicer_to_server,
                Parties(database, MergedCollection, [indexing, ErasureWatcher()]),
            ),
            (
                customers_pb2_grpc.add_CustomerServiceServicer_to_server,
                Customers(
                    database, ordering_context, MergedCollection, [indexing, CustomerWatcher(), ErasureWatcher()]
                ),
            ),
            (
                account_pb2_grpc.add_AccountServiceServicer_to_server,
                Accounts(database, MembersCollection, [ErasureWatcher()]),
            ),
            (identity_pb2_grpc.add_IdentityServiceServicer_to_server, Identities(database, revalue)),
            (import_pb2_grpc.add_ImportServiceServicer_to_server, Imports(database)),
            (value_pb2_grpc.add_ValueServiceServicer_to_server, Values(database)),
            (matching_pb2_grpc.add_MatchingServiceServicer_to_server, Matching(database, regions, entries)),
            (view_pb2_grpc.add_CustomerViewServiceServicer_to_server, Customers360(database, afterwards=redact_again)),
            (party_role_pb2_grpc.add_PartyRoleServiceServicer_to_server, PartyRoles(database)),
            (agreement_pb2_grpc.add_AgreementServiceServicer_to_server, Agreements(database, deadlines)),
            (document_pb2_grpc.add_DocumentServiceServicer_to_server, documents),
            (task_pb2_grpc.add_TaskServiceServicer_to_server, Tasks(database)),
            (interaction_pb2_grpc.add_InteractionServiceServicer_to_server, Interactions(database, regions.region)),
            (
                responsibility_pb2_grpc.add_ResponsibilityServiceServicer_to_server,
                Responsibilities(database, handing_over),
            ),
            (permission_pb2_grpc.add_PermissionServiceServicer_to_server, Permissions(database, regions.region)),
            (loyalty_pb2_grpc.add_LoyaltyServiceServicer_to_server, Loyalty(database, books)),
            (loyalty_pb2_grpc.add_LoyaltyProgramServiceServicer_to_server, LoyaltyPrograms(database)),
            (privacy_pb2_grpc.add_PrivacyServiceServicer_to_server, Privacy(database)),
            (
                operations_pb2_grpc.add_OperationsServiceServicer_to_server,
                Operations(database, consumers, service="customers"),
            ),
        ],
        database=database,
        background=[
            Relay(database, bus, EventOutbox(database, "customers"), service="customers", stream="CUSTOMERS"),
            *consumers,
            Timers(
                database,
                {
                    **task_timers(),
                    **indexing.timers(),
                    **entries.timers(),
                    **deadlines.timers(),
                    **documents.timers(),
                    **handing_over.timers(),
                    **books.timers(),
                    **Valuations(Valuer()).timers(),
                    **erasure_timers(),
                },
                service="customers",
                workers=2,
            ),
            Searches(database),
            Retention(database, days=int(settings.environment.get("PRIVACY_ACCESS_DAYS") or DAYS)),
        ],
        before_answer=AccessLog(database).of_method,
    )


if __name__ == "__main__":
    main()
