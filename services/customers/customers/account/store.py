"""Tables of accounts and of how bills are made."""

from collections.abc import Mapping

from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from customers.account.domain import (
    BillFormat,
    BillingAccount,
    BillingCycleSpecification,
    BillPresentationMedia,
    FinancialAccount,
    PartyAccount,
    SettlementAccount,
)
from customers.schema import UnderMerge, metadata, under_merge
from svyaz.customers.v1 import account_pb2

party_account = aggregate_table(metadata, "party_account", PartyAccount)
billing_account = aggregate_table(metadata, "billing_account", BillingAccount)
settlement_account = aggregate_table(metadata, "settlement_account", SettlementAccount)
financial_account = aggregate_table(metadata, "financial_account", FinancialAccount)
bill_format = aggregate_table(metadata, "bill_format", BillFormat)
bill_presentation_media = aggregate_table(metadata, "bill_presentation_media", BillPresentationMedia)
billing_cycle_specification = aggregate_table(metadata, "billing_cycle_specification", BillingCycleSpecification)

# An account says whose it is, and names others who have to do with it.
under_merge(
    UnderMerge.BY_MEMBERS,
    party_account,
    billing_account,
    settlement_account,
    financial_account,
    columns=("related_party",),
)
under_merge(UnderMerge.NONE, bill_format, bill_presentation_media, billing_cycle_specification)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    PartyAccount: Resource(account_pb2.PartyAccount, party_account),
    BillingAccount: Resource(account_pb2.BillingAccount, billing_account),
    SettlementAccount: Resource(account_pb2.SettlementAccount, settlement_account),
    FinancialAccount: Resource(account_pb2.FinancialAccount, financial_account),
    BillFormat: Resource(account_pb2.BillFormat, bill_format),
    BillPresentationMedia: Resource(account_pb2.BillPresentationMedia, bill_presentation_media),
    BillingCycleSpecification: Resource(account_pb2.BillingCycleSpecification, billing_cycle_specification),
}
