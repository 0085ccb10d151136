"""Services as gRPC servers inside the test's process, and callers of any method by its name."""

import atexit
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from chassis.calls import PURPOSE, purpose_header
from chassis.clients import domain_error
from chassis.clock import Clock
from chassis.config import Settings
from chassis.db import Database
from chassis.server import BeforeAnswer, Registration, Server
from chassis.zones import BranchZones
from customers import store
from customers.account.api import Accounts
from customers.agreement import store as agreements
from customers.agreement.api import Agreements
from customers.agreement.deadlines import Deadlines
from customers.document.api import Documents
from customers.document.contents import Contents
from customers.document.objects import DiskObjects
from customers.identity.api import Identities
from customers.identity.collection import MembersCollection, MergedCollection
from customers.importing.api import Imports
from customers.interaction.api import Interactions
from customers.interaction.handover import HandingOver
from customers.interaction.ownership_api import Responsibilities
from customers.interaction.store import Timeline
from customers.loyalty.api import Loyalty
from customers.loyalty.books import Books
from customers.loyalty.program_api import LoyaltyPrograms
from customers.matching.api import Matching
from customers.matching.entry import Entries
from customers.matching.indexing import Indexing
from customers.matching.phones import BranchRegions
from customers.ordering.store import ordering_context
from customers.party.api import Customers, Parties
from customers.permission.api import Permissions
from customers.privacy.accesses import AccessLog, notes
from customers.privacy.api import Privacy
from customers.privacy.heard import redact_again
from customers.privacy.refusing import ErasureWatcher
from customers.role.api import PartyRoles
from customers.task.api import Tasks
from customers.value.api import Values
from customers.value.events import CustomerWatcher
from customers.value.runs import revalue
from customers.view.api import Customers360
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
from svyaz_cli.issuer import Issuer


class Caller:
    """Somebody with a token; a refusal is raised as the DomainError that the service raised."""

    def __init__(self, channel: grpc.Channel, token: str | None, purpose: str = "") -> None:
        self._channel = channel
        self._token = token
        self._metadata: tuple[tuple[str, str], ...] = (
            (("authorization", f"Bearer {token}"),) if token is not None else ()
        )
        if purpose:
            self._metadata += ((PURPOSE, purpose_header(purpose)),)

    def who_says(self, purpose: str) -> "Caller":
        """The same, who says why he calls."""
        return Caller(self._channel, self._token, purpose)

    def __call__(self, method: str, request: Any = None, **fields: Any) -> Any:
        """Calls `svyaz.customers.v1.PartyService/GetIndividual` with a request, or with one of these fields."""
        service, name = method.split("/")
        described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        request_class, response_class = GetMessageClass(described.input_type), GetMessageClass(described.output_type)
        call = self._channel.unary_unary(
            f"/{method}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=response_class.FromString,
        )
        try:
            return call(request_class(**fields) if request is None else request, metadata=self._metadata, timeout=60)
        except grpc.RpcError as error:
            raise domain_error(error) from error


@contextmanager
def serving(
    service: str,
    registrations: Sequence[Registration],
    issuer: Issuer,
    before_answer: BeforeAnswer = lambda method: None,
) -> Iterator[str]:
    """The address of a server with those servicers."""
    server = Server(
        Settings.from_environment(service, issuer.environment),
        registrations,
        ready=lambda: True,
        before_answer=before_answer,
    )
    server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        server.stop()


def customers_database(url: str) -> Database:
    """The customers service's own view of its database."""
    clock = Clock()
    return Database(
        url, clock=clock, metadata=store.metadata, resources=store.RESOURCES, notes=notes(store.RESOURCES, clock)
    )


@cache
def objects() -> DiskObjects:
    """An object store of this test run's."""
    made = DiskObjects(Path(tempfile.mkdtemp(prefix="svyaz-documents-")))
    atexit.register(made.clear)
    return made


def deadlines() -> Deadlines:
    """Notice as the operator sets it by default, by the clocks of three cities."""
    zones = BranchZones.parse("bishkek=Asia/Bishkek,berlin=Europe/Berlin,havana=America/Havana,*=UTC")
    return Deadlines(zones, (90, 60, 30))


def customers_registrations(database: Database) -> list[Registration]:
    """What the customers service answers."""
    regions = BranchRegions.parse("bishkek=KG,osh=KG,moscow=RU")
    indexing = Indexing(regions)
    return [
        (party_role_pb2_grpc.add_PartyRoleServiceServicer_to_server, PartyRoles(database)),
        (agreement_pb2_grpc.add_AgreementServiceServicer_to_server, Agreements(database, deadlines())),
        (
            document_pb2_grpc.add_DocumentServiceServicer_to_server,
            Documents(database, Contents(database, objects())),
        ),
        (value_pb2_grpc.add_ValueServiceServicer_to_server, Values(database)),
        (
            party_pb2_grpc.add_PartyServiceServicer_to_server,
            Parties(database, MergedCollection, [indexing, ErasureWatcher()]),
        ),
        (
            customers_pb2_grpc.add_CustomerServiceServicer_to_server,
            Customers(database, ordering_context, MergedCollection, [indexing, CustomerWatcher(), ErasureWatcher()]),
        ),
        (identity_pb2_grpc.add_IdentityServiceServicer_to_server, Identities(database, revalue)),
        (view_pb2_grpc.add_CustomerViewServiceServicer_to_server, Customers360(database, afterwards=redact_again)),
        (
            account_pb2_grpc.add_AccountServiceServicer_to_server,
            Accounts(database, MembersCollection, [ErasureWatcher()]),
        ),
        (import_pb2_grpc.add_ImportServiceServicer_to_server, Imports(database)),
        (matching_pb2_grpc.add_MatchingServiceServicer_to_server, Matching(database, regions, Entries(regions))),
        (task_pb2_grpc.add_TaskServiceServicer_to_server, Tasks(database)),
        (interaction_pb2_grpc.add_InteractionServiceServicer_to_server, Interactions(database, lambda branch: "KG")),
        (
            responsibility_pb2_grpc.add_ResponsibilityServiceServicer_to_server,
            Responsibilities(database, HandingOver(Timeline(lambda branch: "KG"), agreements.hand_over)),
        ),
        (permission_pb2_grpc.add_PermissionServiceServicer_to_server, Permissions(database, regions.region)),
        (privacy_pb2_grpc.add_PrivacyServiceServicer_to_server, Privacy(database)),
        (loyalty_pb2_grpc.add_LoyaltyServiceServicer_to_server, Loyalty(database, loyalty_books())),
        (loyalty_pb2_grpc.add_LoyaltyProgramServiceServicer_to_server, LoyaltyPrograms(database)),
    ]


def loyalty_books() -> Books:
    """The ledgers of members, where Bishkek is six hours ahead."""
    return Books(BranchZones.parse("bishkek=Asia/Bishkek,*=UTC"))


def customers_before_answer(database: Database) -> BeforeAnswer:
    """What the customers service does before it answers."""
    return AccessLog(database).of_method
