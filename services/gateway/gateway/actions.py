"""Calls that are no resource's standard methods: POST a request, get the answer, both in the dialect's JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
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
    loyalty_pb2,
    loyalty_pb2_grpc,
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
    task_pb2,
    task_pb2_grpc,
    value_pb2,
    value_pb2_grpc,
    view_pb2,
    view_pb2_grpc,
)
from svyaz.orders.v1 import (
    amendment_pb2,
    amendment_pb2_grpc,
    billing_pb2,
    billing_pb2_grpc,
    bulk_pb2,
    bulk_pb2_grpc,
    cart_pb2,
    cart_pb2_grpc,
    fulfilment_pb2,
    fulfilment_pb2_grpc,
    lifecycle_pb2,
    lifecycle_pb2_grpc,
    migration_pb2,
    migration_pb2_grpc,
    template_pb2,
    template_pb2_grpc,
    tracking_pb2,
    tracking_pb2_grpc,
)


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

    @cached_property
    def changed(self) -> FieldDescriptor | None:
        """The field of the request that states, as a PATCH does, what becomes of a resource that is there already."""
        if "update_mask" not in self.method.input_type.fields_by_name:
            return None
        fields = self.method.input_type.fields
        (found,) = [one for one in fields if one.message_type and "etag" in one.message_type.fields_by_name]
        return found


def _action(path: str, stub: Callable[..., Any], module: Any, name: str, summary: str) -> Action:
    service = getattr(stub, "__name__", "").removesuffix("Stub")
    return Action(path, stub, module.DESCRIPTOR.services_by_name[service].methods_by_name[name], summary)


def _called(name: str) -> str:
    return f"{name[0].lower()}{name[1:]}"


def _of(area: str, stub: Callable[..., Any], module: Any, summaries: Mapping[str, str]) -> Sequence[Action]:
    """The actions of a service by the names of its methods: `/area/v1/itsMethod`."""
    return [_action(f"/{area}/v1/{_called(name)}", stub, module, name, summary) for name, summary in summaries.items()]


ACTIONS = (
    *_of(
        "pricing",
        pricing_pb2_grpc.PricingServiceStub,
        pricing_pb2,
        {
            "Price": "Prices a set of offerings, and says why",
        },
    ),
    *_of(
        "publication",
        publication_pb2_grpc.PublicationServiceStub,
        publication_pb2,
        {
            "ApproveProductOffering": "A second person's word for an offering, as it is now",
            "ApproveProductOfferingPrice": "A second person's word for a price, as it is now",
            "ApprovePriceList": "A second person's word for a price list, as it is now",
            "ApproveTaxRate": "A second person's word for a tax rate, as it is now",
            "ListAuthorship": "Who changed what is sold, and who approved it",
            "CreateProductOfferingVersion": "A draft of the next version of an offering",
            "LintProductOffering": "What of an offering would never apply, and why",
        },
    ),
    *_of(
        "preview",
        preview_pb2_grpc.PreviewServiceStub,
        preview_pb2,
        {
            "PreviewChange": "Begins to find out who would pay more or less by a change",
            "GetChangePreview": "How far a preview is, and what it comes to",
            "CancelChangePreview": "Ends a preview before it is done",
            "ListPreviewedProducts": "Who would pay what, product by product",
        },
    ),
    *_of(
        "migration",
        migration_pb2_grpc.MigrationServiceStub,
        migration_pb2,
        {
            "MigrateProducts": "Moves the products of old offerings to a new one, by an order each",
            "StartProductMigration": "A second person's word for a migration that waits for it",
            "GetProductMigration": "How far a migration has come",
            "PauseProductMigration": "Takes no further order for a migration",
            "ResumeProductMigration": "Goes on with a migration",
            "CancelProductMigration": "Takes no further order for a migration, for good",
            "RetryProductMigration": "Tries the products again whose orders failed",
            "ListMigratedProducts": "What has become of each product of a migration",
        },
    ),
    *_of(
        "bulkOrder",
        bulk_pb2_grpc.BulkOrderServiceStub,
        bulk_pb2,
        {
            "CreateBulkOrder": "A mass sale: to rows that are uploaded, or to a segment",
            "UploadBulkOrderRows": "The next part of a mass sale's file",
            "GetBulkOrder": "How far a mass sale is",
            "ListBulkOrders": "Mass sales",
            "StartBulkOrder": "Begins to order the rows, or only to check and price them",
            "PauseBulkOrder": "Takes no further order for a mass sale",
            "ResumeBulkOrder": "Goes on with a mass sale",
            "CancelBulkOrder": "Ends a mass sale; its orders stay",
            "SetBulkOrderLimits": "How fast a mass sale orders, and how many refusals pause it",
            "ListBulkOrderRows": "What has become of each row of a mass sale",
            "GetBulkOrderReport": "The same as CSV, a part at a time",
        },
    ),
    *_of(
        "shoppingCart",
        cart_pb2_grpc.ShoppingCartServiceStub,
        cart_pb2,
        {
            "CheckOutShoppingCart": "Makes a product order of a cart, once",
            "MergeShoppingCarts": "Takes a guest's cart over into a customer's",
            "GetShoppingCartReceipt": "Why a cart costs what it costs",
        },
    ),
    *_of(
        "orderTemplate",
        template_pb2_grpc.OrderTemplateServiceStub,
        template_pb2,
        {
            "ListOrderTemplatesInForce": "What has a name of its own to order by: a move, a change of owner, a porting",
            "GetOrderTemplate": "An order template of one's own",
            "CreateOrderTemplate": "Says what is ordered by a name, with which parameters",
            "UpdateOrderTemplate": "Changes what is ordered by a name",
            "DeleteOrderTemplate": "Has the standard template of the name be ordered by again, if there is one",
            "DraftTemplateOrder": "The order that a template becomes, and what it would cost",
            "PlaceTemplateOrder": "Places the order that a template becomes",
        },
    ),
    *_of(
        "orderAmendment",
        amendment_pb2_grpc.AmendmentServiceStub,
        amendment_pb2,
        {
            "GetUndoMap": "What of an order can still be undone, what that costs, and what can't be",
            "PreviewAmendment": "What another version of a running order would undo, do again and cost",
            "AmendProductOrder": "Gives a running order another version, at the cost that is accepted",
            "ListProductOrderAmendments": "How orders have been changed while they were carried out",
        },
    ),
    *_of(
        "orderTracking",
        tracking_pb2_grpc.OrderTrackingServiceStub,
        tracking_pb2,
        {
            "ListOrderEvents": "How an order goes, as its customer and whoever speaks with him see it",
            "MovePromisedDate": "Promises another date, with a reason that the customer reads",
            "ListPromisedDateChanges": "Each time that a promised date was moved, by whom and why",
        },
    ),
    *_of(
        "productLifecycle",
        lifecycle_pb2_grpc.ProductLifecycleServiceStub,
        lifecycle_pb2,
        {
            "SuspendProduct": "Gives a product a reason not to work, now or for a time to come",
            "ResumeProduct": "Takes a reason away; the last one lets the product work again",
            "TerminateProduct": "Orders the end of a product with its parts",
            "GetProductTree": "A product with all that it bundles, now or at an instant",
            "ListProductChanges": "What has happened to a product, by whom and by which order",
            "ListProductPrices": "What a product costs as it was sold, with the receipts",
            "ReconcileProducts": "Whether the inventory is what the completed orders make of it",
            "ListSuspensionRules": "What is charged while products are suspended",
            "CreateSuspensionRule": "Says what is charged while products are suspended",
            "UpdateSuspensionRule": "Changes what is charged while products are suspended",
            "DeleteSuspensionRule": "Takes back what was said of charges while products are suspended",
        },
    ),
    *_of(
        "fulfilment",
        fulfilment_pb2_grpc.FulfilmentServiceStub,
        fulfilment_pb2,
        {
            "CreateFulfilmentSpecification": "Says which tasks an item of a product specification takes",
            "UpdateFulfilmentSpecification": "Changes which tasks it takes, for orders that begin from now on",
            "DeleteFulfilmentSpecification": "Has it take the tasks again that others take",
            "ListFulfilmentSpecifications": "Which tasks items of product specifications take",
            "ListFulfilmentTasks": "The tasks of an order, or the manual queue",
            "GetFulfilmentTask": "How far a task has come",
            "CompleteFulfilmentTask": "An external system has done a task",
            "FailFulfilmentTask": "An external system couldn't do a task",
            "GetRefusedFulfilmentReport": "What a system said of a task by an event, and nobody awaited",
            "ListRefusedFulfilmentReports": "What systems said of tasks by events, and nobody awaited",
            "AssignFulfilmentTask": "Gives a held task to an employee",
            "RetryFulfilmentTask": "Tries a held task again",
            "FixFulfilmentTask": "A held task has been done by hand",
            "SkipFulfilmentTask": "An order goes on without a held task",
            "GiveUpFulfilmentTask": "A held task won't be done: what was done with it is undone",
            "CreateFulfilmentJob": "Does the same to many held tasks",
            "GetFulfilmentJob": "How far a job has come",
            "ResumeFulfilmentJob": "Goes on with a job that too many failures have stopped",
            "CancelFulfilmentJob": "Ends a job",
            "ListFulfilmentJobTasks": "What has become of each task of a job",
        },
    ),
    *_of(
        "billing",
        billing_pb2_grpc.BillingServiceStub,
        billing_pb2,
        {
            "ListBillingEvents": "Sealed charges again: of a chain, of a branch's day, or of a partition",
            "ListBillingChains": "How far each chain of charges is, and what billing has booked of it",
            "AcknowledgeBillingEvents": "Billing says up to where it has booked each chain",
            "GetBillingDayCertificate": "The signed certificate of a branch's day",
            "ListBillingDayCertificates": "The certificates of a branch, the latest day first",
            "ListBillingDayCertificateLines": "What a certificate's digests are made of, line by line",
            "CertifyBillingDay": "Looks at a day that has ended again, now",
            "ListBillingKeys": "The public keys of all certificates, as a JSON Web Key Set",
            "CreateBillingCredit": "Gives an account an amount back, once for each cause",
            "GetBillingCredit": "The credit of a cause",
        },
    ),
    *_of(
        "party",
        party_pb2_grpc.PartyServiceStub,
        party_pb2,
        {
            "GetOrganizationHierarchy": "Everything above and below an organization",
            "ListHouseholdMembers": "Who lives in a household",
            "ListHouseholds": "The households that a person lives in",
        },
    ),
    *_of(
        "matching",
        matching_pb2_grpc.MatchingServiceStub,
        matching_pb2,
        {
            "SearchParties": "Finds persons and organizations by whatever is known of them, in any spelling",
            "FindDuplicates": "Who may be the person already who is about to be entered",
            "ListDuplicateCandidates": "Pairs that may be one person, with the evidence",
            "GetDuplicateCandidate": "A pair that may be one person, with the evidence",
            "ConfirmDuplicate": "Says that the two of a pair are one person",
            "RejectDuplicate": "Says that the two of a pair are two: they aren't proposed again",
            "CreateDuplicateSearch": "Looks through a branch for persons who are in it more than once",
            "GetDuplicateSearch": "How far a look through a branch is, and what it has found",
        },
    ),
    *_of(
        "identity",
        identity_pb2_grpc.IdentityServiceStub,
        identity_pb2,
        {
            "MergeCustomers": "Makes one customer of two, until it is undone",
            "UnmergeCustomers": "Makes two customers of one again",
            "GetCustomerMerge": "Who merged two customers, when and why",
            "ListCustomerMerges": "The merges, those that were undone included",
            "ResolveCustomer": "Whom an id stands for, with all ids and each one's own record",
        },
    ),
    *_of(
        "customerView",
        view_pb2_grpc.CustomerViewServiceStub,
        view_pb2,
        {
            "GetCustomer360": "All that is known about a customer, now or at an instant",
        },
    ),
    *_of(
        "interaction",
        interaction_pb2_grpc.InteractionServiceStub,
        interaction_pb2,
        {
            "ListTimeline": "What was said with a customer, newest first, and what is planned",
            "SearchInteractions": "Finds words, numbers and addresses in the whole correspondence",
            "AssignPartyInteraction": "Says whose an interaction with somebody unknown was",
        },
    ),
    *_of(
        "responsibility",
        responsibility_pb2_grpc.ResponsibilityServiceStub,
        responsibility_pb2,
        {
            "GetResponsibleEmployee": "Who looks after a customer, or stands in for who does",
            "ListResponsibilities": "Everything that an employee looks after",
            "SetCustomerOwner": "Makes a customer an employee's",
            "CreateAbsence": "Enters an absence, ahead of time, and who stands in",
            "HandOverEverything": "Makes everything open of an employee another's, for good",
            "GetHandOver": "How far a hand-over has come",
        },
    ),
    *_of(
        "task",
        task_pb2_grpc.TaskServiceStub,
        task_pb2,
        {
            "ListWorkItems": "What employees have to do",
            "CreateWorkItem": "Gives somebody something to do",
            "AssignWorkItem": "Makes a work item an employee's",
            "StartWorkItem": "An employee begins with a work item",
            "CompleteWorkItem": "A work item is done",
            "CancelWorkItem": "A work item needn't be done any more",
        },
    ),
    *_of(
        "permission",
        permission_pb2_grpc.PermissionServiceStub,
        permission_pb2,
        {
            "ListContactPoints": "How a customer or party can be reached, and what is known of each medium",
            "MarkContactPoint": "Says that a medium is bad: that a number is old, doesn't exist, is somebody else's",
            "VerifyContactPoint": "Says that a medium is good, with the proof",
            "SetContactPreferences": "When a medium is best used, and what for",
            "GiveContactConsent": "Notes a consent to be contacted, with its proof",
            "WithdrawContactConsent": "Withdraws a consent",
            "ListContactConsents": "Consents, given and withdrawn",
            "OptOutOfContact": "Notes that a customer doesn't want to be contacted",
            "LiftContactOptOut": "The customer wants to be contacted again",
            "ListContactOptOuts": "Opt-outs, standing and lifted",
            "AddDoNotCallEntry": "Puts a customer or a number on the do-not-call list",
            "LiftDoNotCallEntry": "Takes somebody off the do-not-call list",
            "ListDoNotCallEntries": "The do-not-call list",
            "CreatePermissionPolicy": "The next version of a branch's rules for contacts",
            "UpdatePermissionPolicy": "Changes rules for contacts that aren't in force yet",
            "ListPermissionPolicies": "A branch's rules for contacts, version by version",
            "ReserveContact": "A token for one contact, or why not",
            "SpendContact": "Says that a contact begins, if it still may",
            "ReleaseContact": "Says that a contact doesn't take place",
            "ListContactDecisions": "What was decided about contacts with a customer, and why",
            "ReplayPermission": "Takes a decision again from its receipts",
        },
    ),
    *_of(
        "value",
        value_pb2_grpc.ValueServiceStub,
        value_pb2,
        {
            "GetCustomerValue": "What a customer is worth, how likely he leaves, and why",
            "GetCustomerProfitability": "What a customer brought in and cost, month by month",
        },
    ),
    *_of(
        "loyalty",
        loyalty_pb2_grpc.LoyaltyServiceStub,
        loyalty_pb2,
        {
            "GetCustomerLoyalty": "A customer's memberships, tiers, cards and points",
            "ListLoyaltyEntries": "Each entry of a points account, with its reason",
            "IssueClubCard": "Gives a member a club card",
            "ChangeClubCardState": "Blocks a club card, or lets it be used again",
            "ReplaceClubCard": "Gives a member another card for one that is lost",
            "ReservePoints": "Sets points aside that are about to be burnt",
            "ConfirmPoints": "Burns points that were set aside",
            "ReleasePoints": "Gives back points that were set aside",
        },
    ),
    *_of(
        "privacy",
        privacy_pb2_grpc.PrivacyServiceStub,
        privacy_pb2,
        {
            "ListAccesses": "Who has looked at a person's records, when and why",
            "ErasePerson": "Takes everything personal out of what is kept about an individual",
            "GetErasure": "How far an erasure has come",
        },
    ),
)
