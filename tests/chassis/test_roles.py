"""Who may call what: every method of every service, with every role, on a real server that verifies real tokens."""

import base64
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from google.protobuf.message_factory import GetMessageClass

from chassis.auth import ROLES
from chassis.errors import DomainError, PermissionDenied, Unauthenticated
from chassis.server import Registration
from svyaz_cli.issuer import ALGORITHM, AUDIENCE, KEY_ID, NAME, Issuer
from tests.contracts import registrars, services
from tests.serving import Caller, serving

READ_PARTIES = frozenset({"agent", "billing", "admin", "service"})
WRITE_PARTIES = frozenset({"agent", "admin"})
READ_CATALOG = frozenset({"agent", "catalog-manager", "billing", "admin", "service"})
WRITE_CATALOG = frozenset({"catalog-manager", "admin"})
# What is to be done about a customer is also found by what runs by itself.
WRITE_TASKS = WRITE_PARTIES | {"service"}
WRITE_ACCOUNTS = frozenset({"agent", "billing", "admin"})
READ_BILLING = frozenset({"billing", "sre", "admin", "service"})
READ_TRANSFERS = frozenset({"catalog-manager", "admin", "service"})
ADMIN = frozenset({"admin"})


def standard(read: frozenset[str], write: frozenset[str], *resources: str) -> dict[str, frozenset[str]]:
    """The standard methods of resources, given as `Singular/Plural`."""
    result: dict[str, frozenset[str]] = {}
    for resource in resources:
        one, many = resource.split("/")
        result |= {f"Get{one}": read, f"List{many}": read}
        result |= {f"{verb}{one}": write for verb in ("Create", "Update", "Delete")}
    return result


# What was promised, written down apart from the protos: whoever opens a method to somebody changes it here too.
MATRIX: Mapping[str, Mapping[str, frozenset[str]]] = {
    "svyaz.catalog.v1.CatalogService": standard(
        READ_CATALOG,
        WRITE_CATALOG,
        "Catalog/Catalogs",
        "Category/Categories",
        "ProductSpecification/ProductSpecifications",
        "ProductOffering/ProductOfferings",
        "ProductOfferingPrice/ProductOfferingPrices",
    ),
    "svyaz.catalog.v1.PricingRulesService": standard(
        READ_CATALOG, WRITE_CATALOG, "PriceList/PriceLists", "TaxRate/TaxRates"
    ),
    "svyaz.catalog.v1.PromotionService": {
        **standard(READ_CATALOG, WRITE_CATALOG, "Promotion/Promotions", "Coupon/Coupons"),
        "GenerateCoupons": WRITE_CATALOG,
        "RedeemCoupon": frozenset({"admin", "service"}),
        "ReleaseCoupons": frozenset({"admin", "service"}),
    },
    "svyaz.catalog.v1.PricingService": {
        "Price": READ_CATALOG,
        "ReplayPrice": READ_CATALOG,
        "ExplainPrice": READ_CATALOG,
    },
    "svyaz.catalog.v1.PublicationService": {
        "ApproveProductOffering": WRITE_CATALOG,
        "ApproveProductOfferingPrice": WRITE_CATALOG,
        "ApprovePriceList": WRITE_CATALOG,
        "ApproveTaxRate": WRITE_CATALOG,
        "ListAuthorship": READ_CATALOG,
        "CreateProductOfferingVersion": WRITE_CATALOG,
        "LintProductOffering": READ_CATALOG,
    },
    "svyaz.catalog.v1.RatingService": {
        "RateUsage": READ_CATALOG,
        "ReplayUsage": READ_CATALOG,
        "Prorate": READ_CATALOG,
        "ReplayProration": READ_CATALOG,
    },
    "svyaz.catalog.v1.QualificationService": {
        **standard(READ_CATALOG, WRITE_PARTIES, "ProductOfferingQualification/ProductOfferingQualifications"),
        "Configure": READ_CATALOG,
    },
    "svyaz.catalog.v1.RecommendationService": {
        "GetQueryProductRecommendation": READ_CATALOG,
        "ListQueryProductRecommendations": READ_CATALOG,
        "CreateQueryProductRecommendation": WRITE_PARTIES,
        "RecommendDiscount": frozenset({"agent", "catalog-manager", "admin", "service"}),
    },
    "svyaz.catalog.v1.EntitlementService": {
        **standard(READ_CATALOG, WRITE_CATALOG, "DiscountEntitlement/DiscountEntitlements"),
        "RemindOfDiscounts": READ_CATALOG,
    },
    "svyaz.catalog.v1.HoldingService": {"RebuildHoldings": ADMIN},
    "svyaz.catalog.v1.PreviewService": {
        "PreviewChange": WRITE_CATALOG,
        "CancelChangePreview": WRITE_CATALOG,
        "GetChangePreview": WRITE_CATALOG | {"billing"},
        "ListPreviewedProducts": WRITE_CATALOG | {"billing"},
    },
    "svyaz.catalog.v1.TransferService": {
        name: roles
        for name, roles in {
            **standard(READ_TRANSFERS, WRITE_CATALOG, "ImportJob/ImportJobs", "ExportJob/ExportJobs"),
            "ListImportFindings": READ_TRANSFERS,
            "GetExportContent": READ_TRANSFERS,
        }.items()
        if not name.startswith("Update")
    },
    "svyaz.catalog.v1.GenerationService": {
        **standard(READ_TRANSFERS, WRITE_CATALOG, "TariffTemplate/TariffTemplates"),
        "PreviewTariffFamily": WRITE_CATALOG,
        "GenerateTariffFamily": WRITE_CATALOG,
    },
    "svyaz.customers.v1.PrivacyService": {
        "ListAccesses": READ_PARTIES - {"billing"},
        "GetPersonExport": READ_PARTIES - {"billing"},
        "GetErasure": READ_PARTIES - {"billing"},
        "ExportPerson": WRITE_PARTIES,
        "ErasePerson": WRITE_PARTIES,
    },
    "svyaz.customers.v1.PartyService": {
        **standard(READ_PARTIES, WRITE_PARTIES, "Individual/Individuals", "Organization/Organizations"),
        **dict.fromkeys(("GetOrganizationHierarchy", "ListHouseholdMembers", "ListHouseholds"), READ_PARTIES),
    },
    "svyaz.customers.v1.PartyRoleService": standard(READ_PARTIES, WRITE_PARTIES, "PartyRole/PartyRoles"),
    "svyaz.customers.v1.AgreementService": standard(
        READ_PARTIES, WRITE_PARTIES, "Agreement/Agreements", "AgreementSpecification/AgreementSpecifications"
    ),
    "svyaz.customers.v1.DocumentService": {
        **standard(READ_PARTIES, WRITE_PARTIES, "Document/Documents", "DocumentSpecification/DocumentSpecifications"),
        "UploadContent": WRITE_PARTIES,
        "FinishUpload": WRITE_PARTIES,
        "GetContent": READ_PARTIES,
    },
    "svyaz.customers.v1.CustomerService": {
        **standard(READ_PARTIES, WRITE_PARTIES, "Customer/Customers"),
        "GetOrderingContext": READ_PARTIES,
    },
    "svyaz.customers.v1.AccountService": standard(
        READ_PARTIES,
        WRITE_ACCOUNTS,
        "PartyAccount/PartyAccounts",
        "BillingAccount/BillingAccounts",
        "SettlementAccount/SettlementAccounts",
        "FinancialAccount/FinancialAccounts",
        "BillFormat/BillFormats",
        "BillPresentationMedia/BillPresentationMedia",
        "BillingCycleSpecification/BillingCycleSpecifications",
    ),
    "svyaz.customers.v1.ValueService": {
        name: roles
        for name, roles in {
            **standard(
                READ_PARTIES,
                ADMIN,
                "CustomerValue/CustomerValues",
                "ValuePolicy/ValuePolicies",
                "ValuationRun/ValuationRuns",
                "ValueModel/ValueModels",
            ),
            "ReportCustomerFinancials": frozenset({"billing", "admin"}),
            "ListCustomerFinancials": READ_PARTIES,
            "GetCustomerProfitability": READ_PARTIES,
            "ReplayLifetimeValue": READ_PARTIES,
            "CancelValuationRun": ADMIN,
            "GetValueModelArtefact": READ_PARTIES,
            "RegisterValueModel": ADMIN,
            "ActivateValueModel": ADMIN,
            "ListChurnExamples": frozenset({"admin", "service"}),
            "ListPurchaseExamples": frozenset({"admin", "service"}),
        }.items()
        if name
        not in {
            *(f"{verb}CustomerValue" for verb in ("Create", "Update", "Delete")),
            *(f"{verb}ValueModel" for verb in ("Create", "Update", "Delete")),
            *(f"{verb}ValuationRun" for verb in ("Update", "Delete")),
        }
    },
    "svyaz.customers.v1.InteractionService": {
        **standard(READ_PARTIES, WRITE_TASKS, "PartyInteraction/PartyInteractions"),
        "AssignPartyInteraction": WRITE_TASKS,
        "ListTimeline": READ_PARTIES,
        "SearchInteractions": READ_PARTIES | {"catalog-manager"},
    },
    "svyaz.customers.v1.ResponsibilityService": {
        **standard(READ_PARTIES, WRITE_PARTIES, "Absence/Absences"),
        "SetCustomerOwner": WRITE_PARTIES,
        "GetCustomerOwnership": READ_PARTIES,
        "ListCustomerOwnerships": READ_PARTIES,
        "GetResponsibleEmployee": READ_PARTIES,
        "ListResponsibilities": READ_PARTIES,
        "HandOverEverything": WRITE_PARTIES,
        "GetHandOver": READ_PARTIES,
        "ListHandOvers": READ_PARTIES,
    },
    "svyaz.customers.v1.IdentityService": {
        **dict.fromkeys(("GetCustomerMerge", "ListCustomerMerges", "ResolveCustomer"), READ_PARTIES),
        **dict.fromkeys(("MergeCustomers", "UnmergeCustomers"), WRITE_PARTIES),
    },
    "svyaz.customers.v1.CustomerViewService": {"GetCustomer360": READ_PARTIES, "RebuildCustomer360": ADMIN},
    "svyaz.customers.v1.TaskService": {
        "GetWorkItem": READ_PARTIES,
        "ListWorkItems": READ_PARTIES,
        "CreateWorkItem": WRITE_TASKS,
        "UpdateWorkItem": WRITE_TASKS,
        "AssignWorkItem": WRITE_TASKS,
        "StartWorkItem": WRITE_TASKS,
        "CompleteWorkItem": WRITE_TASKS,
        "CancelWorkItem": WRITE_TASKS,
    },
    "svyaz.customers.v1.PermissionService": {
        **dict.fromkeys(
            (
                "ListContactPoints",
                "GetContactConsent",
                "ListContactConsents",
                "GetContactOptOut",
                "ListContactOptOuts",
                "GetDoNotCallEntry",
                "ListDoNotCallEntries",
                "GetDoNotCallRegistry",
                "ListDoNotCallRegistries",
                "GetPermissionPolicy",
                "ListPermissionPolicies",
                "GetContactDecision",
                "ListContactDecisions",
                "ReplayPermission",
            ),
            READ_PARTIES,
        ),
        **dict.fromkeys(
            (
                "MarkContactPoint",
                "VerifyContactPoint",
                "SetContactPreferences",
                "GiveContactConsent",
                "WithdrawContactConsent",
                "OptOutOfContact",
                "LiftContactOptOut",
                "AddDoNotCallEntry",
            ),
            WRITE_PARTIES,
        ),
        **dict.fromkeys(
            (
                "LiftDoNotCallEntry",
                "ImportDoNotCallRegistry",
                "CreatePermissionPolicy",
                "UpdatePermissionPolicy",
            ),
            ADMIN,
        ),
        **dict.fromkeys(("ReserveContact", "SpendContact", "ReleaseContact"), frozenset({"agent", "admin", "service"})),
    },
    "svyaz.customers.v1.LoyaltyService": {
        **standard(READ_PARTIES, WRITE_PARTIES, "LoyaltyProgramMember/LoyaltyProgramMembers"),
        **dict.fromkeys(
            (
                *("GetLoyaltyAccount", "ListLoyaltyAccounts", "GetLoyaltyBalance", "ListLoyaltyBalances"),
                *("GetPointsReservation", "ListPointsReservations", "GetClubCard", "ListClubCards"),
                *("ListLoyaltyEntries", "ListPointsLots", "ListTierChanges", "GetEarning", "GetCustomerLoyalty"),
            ),
            READ_PARTIES,
        ),
        **dict.fromkeys(
            (
                "IssueClubCard",
                "ChangeClubCardState",
                "ReplaceClubCard",
            ),
            WRITE_PARTIES,
        ),
        **dict.fromkeys(
            ("ReservePoints", "ConfirmPoints", "ReleasePoints", "RefundPoints", "ReverseEarning"), READ_PARTIES
        ),
        "ReportLoyaltyEvent": frozenset({"billing", "admin", "service"}),
        **dict.fromkeys(
            ("AdjustPoints", "CreateLoyaltyBalance", "UpdateLoyaltyBalance", "DeleteLoyaltyBalance"), ADMIN
        ),
    },
    "svyaz.customers.v1.LoyaltyProgramService": {
        **standard(
            READ_CATALOG,
            WRITE_CATALOG,
            "LoyaltyProgramProductSpec/LoyaltyProgramProductSpecs",
            "EarnRule/EarnRules",
        ),
        **dict.fromkeys(("GetLoyaltyTerms", "ListLoyaltyTerms"), READ_CATALOG),
        **dict.fromkeys(("CreateLoyaltyTerms", "UpdateLoyaltyTerms"), WRITE_CATALOG),
    },
    "svyaz.customers.v1.MatchingService": {
        "SearchParties": READ_PARTIES,
        "FindDuplicates": WRITE_TASKS,
        "GetDuplicateCandidate": READ_PARTIES,
        "ListDuplicateCandidates": READ_PARTIES,
        "ConfirmDuplicate": WRITE_TASKS,
        "RejectDuplicate": WRITE_TASKS,
        "CreateDuplicateSearch": frozenset({"admin", "service"}),
        "GetDuplicateSearch": READ_PARTIES,
        "ListDuplicateSearches": READ_PARTIES,
    },
    "svyaz.customers.v1.ImportService": {"ImportCustomers": ADMIN, "GetImport": ADMIN},
    "svyaz.orders.v1.OrderService": {
        **standard(READ_PARTIES, WRITE_PARTIES, "ProductOrder/ProductOrders"),
        "GetProductOrderReceipt": READ_PARTIES,
        "GetCancelProductOrder": READ_PARTIES,
        "ListCancelProductOrders": READ_PARTIES,
        "CreateCancelProductOrder": WRITE_PARTIES,
    },
    "svyaz.orders.v1.BulkOrderService": {
        **dict.fromkeys(("GetBulkOrder", "ListBulkOrders", "ListBulkOrderRows", "GetBulkOrderReport"), READ_PARTIES),
        **dict.fromkeys(("CreateBulkOrder", "UploadBulkOrderRows", "StartBulkOrder", "PauseBulkOrder"), ADMIN),
        **dict.fromkeys(("ResumeBulkOrder", "CancelBulkOrder", "SetBulkOrderLimits", "DeleteBulkOrder"), ADMIN),
    },
    "svyaz.orders.v1.ShoppingCartService": {
        **standard(READ_PARTIES, WRITE_PARTIES, "ShoppingCart/ShoppingCarts"),
        "GetShoppingCartReceipt": READ_PARTIES,
        "CheckOutShoppingCart": WRITE_PARTIES,
        "MergeShoppingCarts": WRITE_PARTIES,
    },
    "svyaz.orders.v1.OrderTemplateService": {
        **standard(READ_CATALOG, WRITE_CATALOG, "OrderTemplate/OrderTemplates"),
        "ListOrderTemplatesInForce": READ_CATALOG,
        "DraftTemplateOrder": WRITE_PARTIES | {"service"},
        "PlaceTemplateOrder": WRITE_PARTIES,
    },
    "svyaz.orders.v1.AmendmentService": {
        **dict.fromkeys(("GetUndoMap", "GetProductOrderAmendment", "ListProductOrderAmendments"), READ_PARTIES),
        **dict.fromkeys(("PreviewAmendment", "AmendProductOrder"), WRITE_PARTIES),
    },
    "svyaz.orders.v1.OrderTrackingService": {
        **dict.fromkeys(("ListOrderEvents", "GetPromisedDateChange", "ListPromisedDateChanges"), READ_PARTIES),
        "MovePromisedDate": WRITE_PARTIES | {"service"},
    },
    "svyaz.orders.v1.InventoryService": standard(READ_PARTIES, WRITE_PARTIES, "Product/Products"),
    "svyaz.orders.v1.ProductLifecycleService": {
        **dict.fromkeys(
            (
                "SuspendProduct",
                "ResumeProduct",
                "TerminateProduct",
                "GetProductTree",
                "ListProductChanges",
                "ListProductPrices",
            ),
            READ_PARTIES,
        ),
        "ReconcileProducts": frozenset({"sre", "admin"}),
        **standard(READ_CATALOG, WRITE_CATALOG, "SuspensionRule/SuspensionRules"),
    },
    "svyaz.orders.v1.BillingService": {
        "ListBillingEvents": READ_BILLING,
        **dict.fromkeys(
            (
                "GetBillingCertificate",
                "ListBillingHeads",
                "ListBillingChains",
                "GetBillingDayCertificate",
                "ListBillingDayCertificates",
                "ListBillingDayCertificateLines",
                "ListBillingKeys",
                "GetBillingCredit",
            ),
            READ_BILLING,
        ),
        "AcknowledgeBillingEvents": frozenset({"billing", "admin"}),
        "CertifyBillingDay": frozenset({"billing", "sre", "admin"}),
        "CreateBillingCredit": frozenset({"billing", "admin", "service"}),
        "OpenBillingEpoch": ADMIN,
    },
    "svyaz.orders.v1.FulfilmentService": {
        **standard(READ_CATALOG, WRITE_CATALOG, "FulfilmentSpecification/FulfilmentSpecifications"),
        **dict.fromkeys(
            (
                "GetFulfilmentTask",
                "ListFulfilmentTasks",
                "GetRefusedFulfilmentReport",
                "ListRefusedFulfilmentReports",
                "GetFulfilmentJob",
                "ListFulfilmentJobs",
                "ListFulfilmentJobTasks",
            ),
            READ_CATALOG,
        ),
        **dict.fromkeys(("CompleteFulfilmentTask", "FailFulfilmentTask"), frozenset({"service", "admin"})),
        **dict.fromkeys(
            (
                "AssignFulfilmentTask",
                "RetryFulfilmentTask",
                "FixFulfilmentTask",
                "SkipFulfilmentTask",
                "GiveUpFulfilmentTask",
                "CreateFulfilmentJob",
                "ResumeFulfilmentJob",
                "CancelFulfilmentJob",
            ),
            WRITE_PARTIES,
        ),
    },
    "svyaz.orders.v1.MigrationService": {
        **dict.fromkeys(("GetProductMigration", "ListProductMigrations", "ListMigratedProducts"), READ_CATALOG),
        **dict.fromkeys(
            (
                "MigrateProducts",
                "StartProductMigration",
                "PauseProductMigration",
                "ResumeProductMigration",
                "CancelProductMigration",
                "RetryProductMigration",
            ),
            WRITE_CATALOG,
        ),
    },
    "svyaz.hub.v1.HubService": {
        "GetSubscription": ROLES,
        "ListSubscriptions": ROLES,
        "CreateSubscription": ADMIN,
        "DeleteSubscription": ADMIN,
        "ResumeSubscription": frozenset({"sre", "admin"}),
    },
    "svyaz.operations.v1.OperationsService": {
        "ListEvents": frozenset({"admin", "service"}),
        "ListConsumers": frozenset({"sre", "admin", "service"}),
        "PauseConsumer": frozenset({"sre", "admin"}),
        "ResumeConsumer": frozenset({"sre", "admin"}),
        "ListParkedKeys": frozenset({"sre", "admin", "service"}),
        "GetParkedKey": frozenset({"sre", "admin", "service"}),
        "ReplayParkedKey": frozenset({"sre", "admin"}),
    },
}


class Reached:
    """Answers every method of a service with an empty response: who gets one has been let through."""

    def __init__(self, service: Any) -> None:
        for method in service.methods:
            setattr(self, method.name, self._answer(GetMessageClass(method.output_type)))

    @staticmethod
    def _answer(response: Any) -> Any:
        return lambda request, context: response()


@pytest.fixture(scope="module")
def channel(issuer: Issuer) -> Iterator[grpc.Channel]:
    described = services()
    registrations: list[Registration] = [(add, Reached(described[name])) for name, add in registrars().items()]
    with serving("customers", registrations, issuer) as address, grpc.insecure_channel(address) as opened:
        yield opened


def test_the_matrix_names_every_method() -> None:
    defined = {name: {method.name for method in service.methods} for name, service in services().items()}
    assert defined == {name: set(methods) for name, methods in MATRIX.items()}


@pytest.mark.parametrize("role", [*sorted(ROLES), "root", ""])
def test_a_role_may_call_what_the_matrix_says_and_nothing_else(
    channel: grpc.Channel, issuer: Issuer, role: str
) -> None:
    caller = Caller(channel, issuer.token([role] if role else [], ["*"]))
    reached, expected = set(), set()
    reasons = set()
    for service, methods in MATRIX.items():
        for method, roles in methods.items():
            if role in roles:
                expected.add(f"{service}/{method}")
            try:
                caller(f"{service}/{method}")
            except PermissionDenied as error:
                reasons.add(error.reason)
            else:
                reached.add(f"{service}/{method}")
    assert reached == expected
    assert reasons <= {"ROLE_REQUIRED"}


def test_several_roles_open_what_each_of_them_does(channel: grpc.Channel, issuer: Issuer) -> None:
    caller = Caller(channel, issuer.token(["billing", "catalog-manager"], ["*"]))
    caller("svyaz.catalog.v1.CatalogService/CreateCatalog")
    caller("svyaz.orders.v1.BillingService/ListBillingEvents")
    with pytest.raises(PermissionDenied):
        caller("svyaz.customers.v1.PartyService/CreateIndividual")


# --- tokens ----------------------------------------------------------------------------------------------------------


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    whole = {
        "iss": NAME,
        "aud": AUDIENCE,
        "sub": "developer",
        "iat": now,
        "exp": now + 600,
        "roles": ["admin"],
        "branches": ["*"],
        **changed,
    }
    return {name: value for name, value in whole.items() if value is not None}


def signed(issuer: Issuer, body: Mapping[str, Any], *, kid: str = KEY_ID) -> str:
    return jwt.encode(dict(body), issuer.key_file.read_bytes(), algorithm=ALGORITHM, headers={"kid": kid})


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def bad_tokens(issuer: Issuer, directory: Path) -> Iterator[tuple[str, str, str]]:
    """What is wrong, the reason that it is refused for, the token."""
    good = signed(issuer, claims())
    header, body, signature = good.split(".")
    invalid = "TOKEN_INVALID"
    yield "expired", "TOKEN_EXPIRED", signed(issuer, claims(exp=int(time.time()) - 60))
    yield "not yet issued", invalid, signed(issuer, claims(nbf=int(time.time()) + 600))
    yield "forged by another key of the same name", invalid, signed(Issuer(directory / "other"), claims())
    yield "a key that isn't published", invalid, signed(issuer, claims(), kid="mine")
    yield "a changed body", invalid, ".".join((header, encoded(claims(roles=["admin"], sub="root")), signature))
    yield "no signature", invalid, f"{header}.{body}."
    none = {"alg": "none", "typ": "JWT", "kid": KEY_ID}
    yield "the algorithm none", invalid, f"{encoded(none)}.{encoded(claims())}."
    yield "the algorithm None", invalid, f"{encoded({**none, 'alg': 'None'})}.{encoded(claims())}."
    # The public key used as the secret of a symmetric algorithm: what a verifier that trusts `alg` falls for.
    yield "another algorithm", invalid, jwt.encode(claims(), "x" * 64, algorithm="HS256", headers={"kid": KEY_ID})
    yield "another audience", invalid, signed(issuer, claims(aud="elsewhere"))
    yield "no audience", invalid, signed(issuer, claims(aud=None))
    yield "another issuer", invalid, signed(issuer, claims(iss="https://issuer.example"))
    yield "no expiry", invalid, signed(issuer, claims(exp=None))
    yield "no subject", invalid, signed(issuer, claims(sub=None))
    yield "no roles", invalid, signed(issuer, claims(roles=None))
    yield "roles in a text", invalid, signed(issuer, claims(roles="admin"))
    yield "no branches", invalid, signed(issuer, claims(branches=None))
    yield "a branch that smuggles another in", invalid, signed(issuer, claims(branches=["osh,bishkek"]))
    yield "no token at all", invalid, "gibberish"
    yield "three dots", invalid, "..."


def test_no_bad_token_opens_any_method(channel: grpc.Channel, issuer: Issuer, tmp_path: Path) -> None:
    for what, reason, token in bad_tokens(issuer, tmp_path):
        with pytest.raises(Unauthenticated) as refusal:
            Caller(channel, token)("svyaz.customers.v1.PartyService/GetIndividual")
        assert refusal.value.reason == reason, what


def test_without_a_token_no_method_is_open(channel: grpc.Channel) -> None:
    nobody = Caller(channel, None)
    for service, methods in MATRIX.items():
        for method in methods:
            with pytest.raises(Unauthenticated) as refusal:
                nobody(f"{service}/{method}")
            assert refusal.value.reason == "TOKEN_MISSING"


def test_a_token_that_was_good_is_refused_once_it_has_expired(channel: grpc.Channel, issuer: Issuer) -> None:
    # Five seconds are forgiven for clocks that differ.
    caller = Caller(channel, signed(issuer, claims(exp=int(time.time()) - 3)))
    caller("svyaz.customers.v1.PartyService/GetIndividual")
    deadline = time.monotonic() + 10
    refused: DomainError | None = None
    while refused is None and time.monotonic() < deadline:
        try:
            caller("svyaz.customers.v1.PartyService/GetIndividual")
            time.sleep(0.1)
        except Unauthenticated as error:
            refused = error
    assert refused is not None
    assert refused.reason == "TOKEN_EXPIRED"


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_method_that_streams_is_not_served_without_its_roles(issuer: Issuer) -> None:
    def add_PartyServiceServicer_to_server(servicer: Any, server: grpc.Server) -> None:
        answer: Any = grpc.unary_stream_rpc_method_handler(lambda request, context: iter((b"secret",)))
        server.add_registered_method_handlers("svyaz.customers.v1.PartyService", {"GetIndividual": answer})

    add_PartyServiceServicer_to_server.__module__ = "svyaz.customers.v1.party_pb2_grpc"
    with (
        serving("customers", [(add_PartyServiceServicer_to_server, None)], issuer) as address,
        grpc.insecure_channel(address) as opened,
    ):
        call: Any = opened.unary_stream("/svyaz.customers.v1.PartyService/GetIndividual")
        with pytest.raises(grpc.RpcError) as refusal:
            list(call(b"", timeout=10))
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED
