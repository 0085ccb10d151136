"""Calls that are no resource's standard methods: POST a request, get the answer, both in the dialect's JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from svyaz.catalog.v1 import (
    preview_pb2,
    preview_pb2_grpc,
    pricing_pb2,
    pricing_pb2_grpc,
    publication_pb2,
    publication_pb2_grpc,
)
from svyaz.customers.v1 import (
    identity_pb2,
    identity_pb2_grpc,
    interaction_pb2,
    interaction_pb2_grpc,
    matching_pb2,
    matching_pb2_grpc,
    party_pb2,
    party_pb2_grpc,
    permission_pb2,
    permission_pb2_grpc,
    privacy_pb2,
    privacy_pb2_grpc,
    responsibility_pb2,
    responsibility_pb2_grpc,
    view_pb2,
    view_pb2_grpc,
)
from svyaz.orders.v1 import migration_pb2, migration_pb2_grpc


@dataclass(frozen=True)
class Action:
    """A method of a service, at a path of its own."""

    path: str
    stub: Callable[..., Any]
    method: MethodDescriptor
    summary: str

    @property
    def backend(self) -> str:
        """The name of the service's process."""
        return self.method.containing_service.full_name.split(".")[1].replace("_", "-")

    @cached_property
    def request(self) -> type[Message]:
        """What is posted."""
        return GetMessageClass(self.method.input_type)

    @cached_property
    def response(self) -> type[Message]:
        """What is answered."""
        return GetMessageClass(self.method.output_type)


def _action(path: str, stub: Callable[..., Any], module: Any, name: str, summary: str) -> Action:
    service = getattr(stub, "__name__", "").removesuffix("Stub")
    return Action(path, stub, module.DESCRIPTOR.services_by_name[service].methods_by_name[name], summary)


def _called(name: str) -> str:
    return f"{name[0].lower()}{name[1:]}"


def _publication(name: str, summary: str) -> Action:
    stub = publication_pb2_grpc.PublicationServiceStub
    return _action(f"/publication/v1/{_called(name)}", stub, publication_pb2, name, summary)


def _party(name: str, summary: str) -> Action:
    return _action(f"/party/v1/{_called(name)}", party_pb2_grpc.PartyServiceStub, party_pb2, name, summary)


def _preview(name: str, summary: str) -> Action:
    return _action(f"/preview/v1/{_called(name)}", preview_pb2_grpc.PreviewServiceStub, preview_pb2, name, summary)


def _permission(name: str, summary: str) -> Action:
    stub = permission_pb2_grpc.PermissionServiceStub
    return _action(f"/permission/v1/{_called(name)}", stub, permission_pb2, name, summary)


def _migration(name: str, summary: str) -> Action:
    stub = migration_pb2_grpc.MigrationServiceStub
    return _action(f"/migration/v1/{_called(name)}", stub, migration_pb2, name, summary)


def _interaction(name: str, summary: str) -> Action:
    stub = interaction_pb2_grpc.InteractionServiceStub
    return _action(f"/interaction/v1/{_called(name)}", stub, interaction_pb2, name, summary)


def _responsibility(name: str, summary: str) -> Action:
    stub = responsibility_pb2_grpc.ResponsibilityServiceStub
    return _action(f"/responsibility/v1/{_called(name)}", stub, responsibility_pb2, name, summary)


def _identity(name: str, summary: str) -> Action:
    return _action(f"/identity/v1/{_called(name)}", identity_pb2_grpc.IdentityServiceStub, identity_pb2, name, summary)


def _matching(name: str, summary: str) -> Action:
    return _action(f"/matching/v1/{_called(name)}", matching_pb2_grpc.MatchingServiceStub, matching_pb2, name, summary)


def _privacy(name: str, summary: str) -> Action:
    return _action(f"/privacy/v1/{_called(name)}", privacy_pb2_grpc.PrivacyServiceStub, privacy_pb2, name, summary)


ACTIONS = (
    _privacy("ListAccesses", "Who has looked at a person's records, when and why"),
    _privacy("ErasePerson", "Takes everything personal out of what is kept about an individual"),
    _privacy("GetErasure", "How far an erasure has come"),
    _action(
        "/customerView/v1/getCustomer360",
        view_pb2_grpc.CustomerViewServiceStub,
        view_pb2,
        "GetCustomer360",
        "All that is known about a customer, now or at an instant",
    ),
    _action(
        "/pricing/v1/price",
        pricing_pb2_grpc.PricingServiceStub,
        pricing_pb2,
        "Price",
        "Prices a set of offerings, and says why",
    ),
    _publication("ApproveProductOffering", "A second person's word for an offering, as it is now"),
    _publication("ApproveProductOfferingPrice", "A second person's word for a price, as it is now"),
    _publication("ApprovePriceList", "A second person's word for a price list, as it is now"),
    _publication("ApproveTaxRate", "A second person's word for a tax rate, as it is now"),
    _publication("ListAuthorship", "Who changed what is sold, and who approved it"),
    _publication("CreateProductOfferingVersion", "A draft of the next version of an offering"),
    _publication("LintProductOffering", "What of an offering would never apply, and why"),
    _party("GetOrganizationHierarchy", "Everything above and below an organization"),
    _party("ListHouseholdMembers", "Who lives in a household"),
    _party("ListHouseholds", "The households that a person lives in"),
    _preview("PreviewChange", "Begins to find out who would pay more or less by a change"),
    _preview("GetChangePreview", "How far a preview is, and what it comes to"),
    _preview("CancelChangePreview", "Ends a preview before it is done"),
    _preview("ListPreviewedProducts", "Who would pay what, product by product"),
    _migration("MigrateProducts", "Moves the products of old offerings to a new one, by an order each"),
    _migration("StartProductMigration", "A second person's word for a migration that waits for it"),
    _migration("GetProductMigration", "How far a migration has come"),
    _migration("PauseProductMigration", "Takes no further order for a migration"),
    _migration("ResumeProductMigration", "Goes on with a migration"),
    _migration("RetryProductMigration", "Tries the products again whose orders failed"),
    _identity("MergeCustomers", "Makes one customer of two, until it is undone"),
    _identity("UnmergeCustomers", "Makes two customers of one again"),
    _identity("GetCustomerMerge", "Who merged two customers, when and why"),
    _identity("ListCustomerMerges", "The merges, those that were undone included"),
    _identity("ResolveCustomer", "Whom an id stands for, with all ids and each one's own record"),
    _matching("SearchParties", "Finds persons and organizations by whatever is known of them, in any spelling"),
    _matching("FindDuplicates", "Who may be the person already who is about to be entered"),
    _matching("ListDuplicateCandidates", "Pairs that may be one person, with the evidence"),
    _matching("GetDuplicateCandidate", "A pair that may be one person, with the evidence"),
    _matching("ConfirmDuplicate", "Says that the two of a pair are one person"),
    _matching("RejectDuplicate", "Says that the two of a pair are two: they aren't proposed again"),
    _matching("CreateDuplicateSearch", "Looks through a branch for persons who are in it more than once"),
    _matching("GetDuplicateSearch", "How far a look through a branch is, and what it has found"),
    _migration("ListMigratedProducts", "What has become of each product of a migration"),
    _interaction("ListTimeline", "What was said with a customer, newest first, and what is planned"),
    _interaction("SearchInteractions", "Finds words, numbers and addresses in the whole correspondence"),
    _interaction("AssignPartyInteraction", "Says whose an interaction with somebody unknown was"),
    _responsibility("GetResponsibleEmployee", "Who looks after a customer, or stands in for who does"),
    _responsibility("ListResponsibilities", "Everything that an employee looks after"),
    _responsibility("SetCustomerOwner", "Makes a customer an employee's"),
    _responsibility("CreateAbsence", "Enters an absence, ahead of time, and who stands in"),
    _responsibility("HandOverEverything", "Makes everything open of an employee another's, for good"),
    _responsibility("GetHandOver", "How far a hand-over has come"),
    _permission("ListContactPoints", "How a customer or party can be reached, and what is known of each medium"),
    _permission(
        "MarkContactPoint", "Says that a medium is bad: that a number is old, doesn't exist, is somebody else's"
    ),
    _permission("VerifyContactPoint", "Says that a medium is good, with the proof"),
    _permission("SetContactPreferences", "When a medium is best used, and what for"),
    _permission("GiveContactConsent", "Notes a consent to be contacted, with its proof"),
    _permission("WithdrawContactConsent", "Withdraws a consent"),
    _permission("ListContactConsents", "Consents, given and withdrawn"),
    _permission("OptOutOfContact", "Notes that a customer doesn't want to be contacted"),
    _permission("LiftContactOptOut", "The customer wants to be contacted again"),
    _permission("ListContactOptOuts", "Opt-outs, standing and lifted"),
    _permission("AddDoNotCallEntry", "Puts a customer or a number on the do-not-call list"),
    _permission("LiftDoNotCallEntry", "Takes somebody off the do-not-call list"),
    _permission("ListDoNotCallEntries", "The do-not-call list"),
    _permission("CreatePermissionPolicy", "The next version of a branch's rules for contacts"),
    _permission("UpdatePermissionPolicy", "Changes rules for contacts that aren't in force yet"),
    _permission("ListPermissionPolicies", "A branch's rules for contacts, version by version"),
    _permission("ReserveContact", "A token for one contact, or why not"),
    _permission("SpendContact", "Says that a contact begins, if it still may"),
    _permission("ReleaseContact", "Says that a contact doesn't take place"),
    _permission("ListContactDecisions", "What was decided about contacts with a customer, and why"),
    _permission("ReplayPermission", "Takes a decision again from its receipts"),
)
