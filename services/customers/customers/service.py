"""The customers service, put together: what it answers, what it hears, and what it does by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.db import Database
from chassis.parking import Handler, all_of
from chassis.server import BeforeAnswer, Registration, Runnable
from chassis.timers import TimerHandler
from chassis.unit import Unit
from chassis.zones import BranchZones
from customers.account.api import Accounts
from customers.agreement import store as agreements
from customers.agreement.api import Agreements
from customers.agreement.deadlines import Deadlines
from customers.agreement.expiry import DEFAULT_NOTICES, parse_notices
from customers.document.api import Documents
from customers.document.buckets import object_store
from customers.document.contents import DEFAULT_MAX_BYTES, Contents
from customers.document.objects import ObjectStore
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
from customers.matching.api import Matching
from customers.matching.batch import Searches
from customers.matching.domain import DuplicateCandidate
from customers.matching.entry import Entries
from customers.matching.indexing import Indexing
from customers.matching.phones import BranchRegions
from customers.ordering.store import ordering_context
from customers.party.api import Customers, Parties
from customers.party.references import Watcher
from customers.permission.api import Permissions
from customers.privacy.accesses import AccessLog, note_of_view, notes
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


@dataclass(frozen=True)
class Operator:
    """What the operator says about his branches, and where he keeps what."""

    regions: BranchRegions
    zones: BranchZones
    objects: ObjectStore
    # So many days ahead of an agreement's end notice is given.
    notices: Sequence[int]
    document_bytes: int = DEFAULT_MAX_BYTES
    access_days: int = DAYS

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Operator":
        """As the process is told. Raises ValueError for what isn't such."""
        return cls(
            regions=BranchRegions.parse(environment.get("BRANCH_REGIONS", "")),
            zones=BranchZones.parse(environment.get("BRANCH_TIME_ZONES", "")),
            objects=object_store(environment.get("DOCUMENT_STORE", "") or "var/documents"),
            notices=parse_notices(environment.get("AGREEMENT_NOTICE_DAYS", DEFAULT_NOTICES)),
            document_bytes=int(environment.get("DOCUMENT_MAX_BYTES", "") or DEFAULT_MAX_BYTES),
            access_days=int(environment.get("PRIVACY_ACCESS_DAYS", "") or DAYS),
        )


def open_database(url: str, clock: Clock, connections: int = 16) -> Database:
    """The service's own view of its database."""
    return Database(
        url,
        clock=clock,
        metadata=metadata,
        resources=RESOURCES,
        connections=connections,
        notes=notes(RESOURCES, clock),
    )


def review_duplicate(unit: Unit, candidate: DuplicateCandidate) -> None:
    """Has an employee look at two who may be one."""
    open_task(
        unit,
        kind="review-duplicate",
        branch=candidate.branch,
        subject_id=candidate.id,
        subject_type="DuplicateCandidate",
    )


class CustomersService:
    """The service's parts over one database."""

    def __init__(self, database: Database, operator: Operator) -> None:
        self._database = database
        self._operator = operator
        self._indexing = Indexing(operator.regions)
        self._entries = Entries(operator.regions, review_duplicate)
        self._books = Books(operator.zones)
        self._deadlines = Deadlines(operator.zones, operator.notices)
        self._documents = Documents(database, Contents(database, operator.objects, operator.document_bytes))
        self._handing_over = HandingOver(Timeline(operator.regions.region), agreements.hand_over)

    def registrations(self) -> list[Registration]:
        """What it answers."""
        database, regions, erasures = self._database, self._operator.regions, ErasureWatcher()
        parties: Sequence[Watcher] = (self._indexing, erasures)
        return [
            (
                party_pb2_grpc.add_PartyServiceServicer_to_server,
                Parties(database, MergedCollection, parties),
            ),
            (
                customers_pb2_grpc.add_CustomerServiceServicer_to_server,
                Customers(database, ordering_context, MergedCollection, [*parties, CustomerWatcher()]),
            ),
            (
                account_pb2_grpc.add_AccountServiceServicer_to_server,
                Accounts(database, MembersCollection, [erasures]),
            ),
            (identity_pb2_grpc.add_IdentityServiceServicer_to_server, Identities(database, revalue)),
            (import_pb2_grpc.add_ImportServiceServicer_to_server, Imports(database)),
            (value_pb2_grpc.add_ValueServiceServicer_to_server, Values(database)),
            (matching_pb2_grpc.add_MatchingServiceServicer_to_server, Matching(database, regions, self._entries)),
            (
                view_pb2_grpc.add_CustomerViewServiceServicer_to_server,
                Customers360(database, afterwards=redact_again, note=note_of_view(database.clock)),
            ),
            (party_role_pb2_grpc.add_PartyRoleServiceServicer_to_server, PartyRoles(database)),
            (agreement_pb2_grpc.add_AgreementServiceServicer_to_server, Agreements(database, self._deadlines)),
            (document_pb2_grpc.add_DocumentServiceServicer_to_server, self._documents),
            (task_pb2_grpc.add_TaskServiceServicer_to_server, Tasks(database)),
            (interaction_pb2_grpc.add_InteractionServiceServicer_to_server, Interactions(database, regions.region)),
            (
                responsibility_pb2_grpc.add_ResponsibilityServiceServicer_to_server,
                Responsibilities(database, self._handing_over),
            ),
            (permission_pb2_grpc.add_PermissionServiceServicer_to_server, Permissions(database, regions.region)),
            (loyalty_pb2_grpc.add_LoyaltyServiceServicer_to_server, Loyalty(database, self._books)),
            (loyalty_pb2_grpc.add_LoyaltyProgramServiceServicer_to_server, LoyaltyPrograms(database)),
            (privacy_pb2_grpc.add_PrivacyServiceServicer_to_server, Privacy(database)),
        ]

    def before_answer(self) -> BeforeAnswer:
        """What is done before any answer goes out."""
        return AccessLog(self._database).of_method

    def handlers(self) -> Mapping[str, Handler]:
        """What it hears, by the service that says it."""
        return {
            "orders": watched(all_of(orders_changed, Earnings(self._books).orders_changed)),
            "customers": watched(heard),
            "catalog": watched(heard),
            "billing": Charges(self._books).charged,
        }

    def timers(self) -> Mapping[str, TimerHandler]:
        """What it does when it is time, by purpose."""
        return {
            **task_timers(),
            **self._indexing.timers(),
            **self._entries.timers(),
            **self._deadlines.timers(),
            **self._documents.timers(),
            **self._handing_over.timers(),
            **self._books.timers(),
            **Valuations(Valuer()).timers(),
            **erasure_timers(),
        }

    def background(self) -> Sequence[Runnable]:
        """What it does all the time."""
        return [Searches(self._database), Retention(self._database, days=self._operator.access_days)]
