"""The resources of the TM Forum APIs: one line each; everything else follows from the contracts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from chassis.tmfjson import descriptor_of
from svyaz.catalog.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    promotion_pb2,
    promotion_pb2_grpc,
    qualification_pb2,
    qualification_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
    transfer_pb2,
    transfer_pb2_grpc,
)
from svyaz.customers.v1 import (
    account_pb2,
    account_pb2_grpc,
    agreement_pb2,
    agreement_pb2_grpc,
    customers_pb2,
    customers_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    interaction_pb2,
    interaction_pb2_grpc,
    loyalty_pb2,
    loyalty_pb2_grpc,
    party_pb2,
    party_pb2_grpc,
    party_role_pb2,
    party_role_pb2_grpc,
)
from svyaz.orders.v1 import inventory_pb2, inventory_pb2_grpc, orders_pb2, orders_pb2_grpc

GET, LIST, CREATE, UPDATE, DELETE = "Get", "List", "Create", "Update", "Delete"
EVERY = frozenset({GET, LIST, CREATE, UPDATE, DELETE})


@dataclass(frozen=True)
class Resource:
    """One resource of one API, and the service that has it."""

    api: str
    name: str
    message_class: type[Message]
    stub: Callable[..., Any]
    allowed: frozenset[str] = EVERY

    @cached_property
    def service(self) -> ServiceDescriptor:
        """The contract of the service."""
        name = getattr(self.stub, "__name__", "").removesuffix("Stub")
        return descriptor_of(self.message_class).file.services_by_name[name]

    @property
    def backend(self) -> str:
        """The name of the service's process: `catalog` of svyaz.catalog.v1."""
        return self.service.full_name.split(".")[1].replace("_", "-")

    def path(self, version: str) -> str:
        """Where the collection is, in one version of the dialect."""
        return f"/tmf-api/{self.api}/{version}/{self.name}"

    def method(self, verb: str) -> MethodDescriptor:
        """The contract's method for a verb; plurals are as the contract has them."""
        if verb != LIST:
            return self.service.methods_by_name[verb + descriptor_of(self.message_class).name]
        return next(
            method
            for method in self.service.methods
            if method.name.startswith(LIST)
            and "items" in method.output_type.fields_by_name
            and method.output_type.fields_by_name["items"].message_type is self.message_class.DESCRIPTOR
        )

    @cached_property
    def requests(self) -> dict[str, type[Message]]:
        """Verb → request class, for what is allowed."""
        return {verb: GetMessageClass(self.method(verb).input_type) for verb in sorted(self.allowed)}

    @cached_property
    def body_field(self) -> str:
        """The field of a create or update request that holds the resource."""
        return next(
            field.name
            for field in descriptor_of(self.requests[CREATE]).fields
            if field.message_type is self.message_class.DESCRIPTOR
        )


_NO_CHANGE = frozenset({GET, LIST, CREATE})
_NO_UPDATE = EVERY - {UPDATE}
_READ_ONLY = frozenset({GET, LIST})

_CATALOG, _ORDERING, _CUSTOMER = "productCatalogManagement", "productOrderingManagement", "customerManagement"
_QUALIFICATION, _RECOMMENDATION = "productOfferingQualification", "recommendationManagement"
_PARTY, _INVENTORY, _ACCOUNT = "party", "productInventory", "accountManagement"
_PROMOTION, _DOCUMENT, _LOYALTY = "promotionManagement", "document", "loyalty"
_ROLE, _AGREEMENT = "partyRoleManagement", "agreementManagement"

RESOURCES = (
    Resource(_CATALOG, "catalog", catalog_pb2.Catalog, catalog_pb2_grpc.CatalogServiceStub),
    Resource(_CATALOG, "category", catalog_pb2.Category, catalog_pb2_grpc.CatalogServiceStub),
    Resource(_CATALOG, "productSpecification", catalog_pb2.ProductSpecification, catalog_pb2_grpc.CatalogServiceStub),
    Resource(_CATALOG, "productOffering", catalog_pb2.ProductOffering, catalog_pb2_grpc.CatalogServiceStub),
    Resource(_CATALOG, "productOfferingPrice", catalog_pb2.ProductOfferingPrice, catalog_pb2_grpc.CatalogServiceStub),
    Resource(_CATALOG, "importJob", transfer_pb2.ImportJob, transfer_pb2_grpc.TransferServiceStub, _NO_UPDATE),
    Resource(_CATALOG, "exportJob", transfer_pb2.ExportJob, transfer_pb2_grpc.TransferServiceStub, _NO_UPDATE),
    Resource(
        _QUALIFICATION,
        "productOfferingQualification",
        qualification_pb2.ProductOfferingQualification,
        qualification_pb2_grpc.QualificationServiceStub,
    ),
    Resource(
        _RECOMMENDATION,
        "queryProductRecommendation",
        recommendation_pb2.QueryProductRecommendation,
        recommendation_pb2_grpc.RecommendationServiceStub,
        _NO_CHANGE,
    ),
    Resource(_PROMOTION, "promotion", promotion_pb2.Promotion, promotion_pb2_grpc.PromotionServiceStub),
    Resource(_ORDERING, "productOrder", orders_pb2.ProductOrder, orders_pb2_grpc.OrderServiceStub),
    Resource(
        _ORDERING, "cancelProductOrder", orders_pb2.CancelProductOrder, orders_pb2_grpc.OrderServiceStub, _NO_CHANGE
    ),
    Resource(_CUSTOMER, "customer", customers_pb2.Customer, customers_pb2_grpc.CustomerServiceStub),
    Resource(_PARTY, "individual", party_pb2.Individual, party_pb2_grpc.PartyServiceStub),
    Resource(_PARTY, "organization", party_pb2.Organization, party_pb2_grpc.PartyServiceStub),
    Resource(_ROLE, "partyRole", party_role_pb2.PartyRole, party_role_pb2_grpc.PartyRoleServiceStub),
    Resource(_AGREEMENT, "agreement", agreement_pb2.Agreement, agreement_pb2_grpc.AgreementServiceStub),
    Resource(
        _AGREEMENT,
        "agreementSpecification",
        agreement_pb2.AgreementSpecification,
        agreement_pb2_grpc.AgreementServiceStub,
    ),
    Resource(_DOCUMENT, "document", document_pb2.Document, document_pb2_grpc.DocumentServiceStub),
    Resource(
        _DOCUMENT, "documentSpecification", document_pb2.DocumentSpecification, document_pb2_grpc.DocumentServiceStub
    ),
    Resource(
        "partyInteraction",
        "partyInteraction",
        interaction_pb2.PartyInteraction,
        interaction_pb2_grpc.InteractionServiceStub,
    ),
    Resource(_INVENTORY, "product", inventory_pb2.Product, inventory_pb2_grpc.InventoryServiceStub),
    Resource(_ACCOUNT, "partyAccount", account_pb2.PartyAccount, account_pb2_grpc.AccountServiceStub),
    Resource(_ACCOUNT, "billingAccount", account_pb2.BillingAccount, account_pb2_grpc.AccountServiceStub),
    Resource(_ACCOUNT, "settlementAccount", account_pb2.SettlementAccount, account_pb2_grpc.AccountServiceStub),
    Resource(_ACCOUNT, "financialAccount", account_pb2.FinancialAccount, account_pb2_grpc.AccountServiceStub),
    Resource(_ACCOUNT, "billFormat", account_pb2.BillFormat, account_pb2_grpc.AccountServiceStub),
    Resource(_ACCOUNT, "billPresentationMedia", account_pb2.BillPresentationMedia, account_pb2_grpc.AccountServiceStub),
    Resource(
        _ACCOUNT,
        "billingCycleSpecification",
        account_pb2.BillingCycleSpecification,
        account_pb2_grpc.AccountServiceStub,
    ),
    Resource(
        _LOYALTY,
        "loyaltyProgramProductSpec",
        loyalty_pb2.LoyaltyProgramProductSpec,
        loyalty_pb2_grpc.LoyaltyProgramServiceStub,
    ),
    Resource(_LOYALTY, "loyaltyProgramMember", loyalty_pb2.LoyaltyProgramMember, loyalty_pb2_grpc.LoyaltyServiceStub),
    Resource(_LOYALTY, "loyaltyAccount", loyalty_pb2.LoyaltyAccount, loyalty_pb2_grpc.LoyaltyServiceStub, _READ_ONLY),
    Resource(_LOYALTY, "loyaltyBalance", loyalty_pb2.LoyaltyBalance, loyalty_pb2_grpc.LoyaltyServiceStub),
)
