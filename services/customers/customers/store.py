"""Tables of parties, customers and accounts, and the questions asked of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import registry

from chassis.bulk import stage_table
from chassis.convert import to_message
from chassis.db import Database, Resource, TypedJson, Unit, aggregate_table, log_tables, map_aggregate
from chassis.events import bus_tables
from chassis.references import References, rely
from chassis.types import Aggregate
from customers.domain import (
    BillFormat,
    BillingAccount,
    BillingCycleSpecification,
    BillPresentationMedia,
    Customer,
    FinancialAccount,
    Individual,
    Organization,
    PartyAccount,
    Referrer,
    SettlementAccount,
    currencies,
    owners,
)
from svyaz.customers.v1 import account_pb2, customers_pb2, party_pb2
from svyaz.type.v1 import values_pb2

metadata = sa.MetaData()
mapper = registry(metadata=metadata)
log = log_tables(metadata)
bus = bus_tables(metadata)

individual = aggregate_table(metadata, "individual", Individual)
organization = aggregate_table(metadata, "organization", Organization)
customer = aggregate_table(metadata, "customer", Customer)
party_account = aggregate_table(metadata, "party_account", PartyAccount)
billing_account = aggregate_table(metadata, "billing_account", BillingAccount)
settlement_account = aggregate_table(metadata, "settlement_account", SettlementAccount)
financial_account = aggregate_table(metadata, "financial_account", FinancialAccount)
bill_format = aggregate_table(metadata, "bill_format", BillFormat)
bill_presentation_media = aggregate_table(metadata, "bill_presentation_media", BillPresentationMedia)
billing_cycle_specification = aggregate_table(metadata, "billing_cycle_specification", BillingCycleSpecification)

# Who refers to whom, within this service and (learned from events) from orders and products: what is referred to stays.
references = References(
    metadata, sa.Column("branch", sa.Text, nullable=False), sa.Index("reference_referrer_id", "referrer_id")
)

# Which line of which source has become which customer, and which keys a dataset's rows have (hashed: they may name a
# person): what has a row here is never imported again.
import_row = sa.Table(
    "import_row",
    metadata,
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("line", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("key_hash", sa.LargeBinary),
    sa.Column("customer_id", sa.Text, nullable=False),
    sa.Column("imported_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Index("import_row_branch_dataset_key_hash", "branch", "dataset", "key_hash", unique=True),
)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    Individual: Resource(party_pb2.Individual, individual),
    Organization: Resource(party_pb2.Organization, organization),
    Customer: Resource(customers_pb2.Customer, customer),
    PartyAccount: Resource(account_pb2.PartyAccount, party_account),
    BillingAccount: Resource(account_pb2.BillingAccount, billing_account),
    SettlementAccount: Resource(account_pb2.SettlementAccount, settlement_account),
    FinancialAccount: Resource(account_pb2.FinancialAccount, financial_account),
    BillFormat: Resource(account_pb2.BillFormat, bill_format),
    BillPresentationMedia: Resource(account_pb2.BillPresentationMedia, bill_presentation_media),
    BillingCycleSpecification: Resource(account_pb2.BillingCycleSpecification, billing_cycle_specification),
}

ISOLATED = (*(resource.table.name for resource in RESOURCES.values()), "reference", "import_row", "event")

# What can be imported in bulk.
STAGED: Sequence[type[Aggregate]] = (Individual, Organization, Customer, BillingAccount)
for _target in (*(RESOURCES[_cls].table for _cls in STAGED), references.table, log.event):
    stage_table(metadata, _target)

for _cls, _resource in RESOURCES.items():
    map_aggregate(mapper, _cls, _resource.table)


def refer(
    unit: Unit, referrer_id: str, referrer_type: str, branch: str, targets: Iterable[str], *, new: bool = False
) -> None:
    """Remembers what the referrer refers to now, instead of what it did before (nothing, when it is `new`)."""
    rows = [
        {"target_id": target, "referrer_type": referrer_type, "branch": branch}
        for target in dict.fromkeys(targets)
        if target and target != referrer_id
    ]
    references.refer(unit, referrer_id, rows, new=new)


def remember(unit: Unit, referrer: Referrer, *, new: bool = False) -> None:
    """`refer` for an aggregate of our own."""
    refer(unit, referrer.id, type(referrer).__name__, referrer.branch, referrer.references(), new=new)


_PARTY = """
    SELECT branch FROM individual WHERE id = %(id)s UNION ALL SELECT branch FROM organization WHERE id = %(id)s
"""


def party_branch(unit: Unit, party_id: str) -> str | None:
    """The branch of an individual or organization, which isn't deleted before the end of the transaction; None when
    the caller can't see one of that id."""
    rows = rely(unit, _PARTY, {"id": party_id})
    return str(rows[0][0]) if rows else None


_KNOWN = """
    SELECT 'customer', id, branch, status, engaged_party ->> 'id', NULL::jsonb, NULL::jsonb, NULL::jsonb,
        market_segment, agreement
    FROM customer WHERE id = ANY (WANTED)
    UNION ALL
    SELECT 'billing_account', id, branch, state, NULL, related_party, credit_limit, account_balance, NULL, NULL
    FROM billing_account WHERE id = ANY (WANTED)
"""


def ordering_context(
    database: Database, customer_ids: Sequence[str], account_ids: Sequence[str]
) -> customers_pb2.OrderingContext:
    """Those customers and billing accounts that exist, in one statement: every order begins with this question."""
    context = customers_pb2.OrderingContext()
    if not customer_ids and not account_ids:
        return context
    rows = database.rows(_KNOWN, [*customer_ids, *account_ids])
    for kind, found, branch, state, party, parties, limit, balance, segments, agreements in rows:
        if kind == "customer" and found in customer_ids:
            context.customer.add(
                id=found,
                branch=branch,
                status=state or "",
                engaged_party_id=party or "",
                market_segment=[
                    to_message(one, values_pb2.EntityRef)
                    for one in _decoded(customer, "market_segment", segments) or ()
                ],
                agreement_id=[one.id for one in _decoded(customer, "agreement", agreements) or () if one.id],
            )
        elif kind == "billing_account" and found in account_ids:
            units = currencies(
                _decoded(billing_account, "credit_limit", limit),
                _decoded(billing_account, "account_balance", balance) or (),
            )
            context.billing_account.add(
                id=found,
                branch=branch,
                state=state or "",
                currency=units,
                owner_id=owners(_decoded(billing_account, "related_party", parties) or ()),
            )
    return context


def _decoded(table: sa.Table, column: str, text: Any) -> Any:
    kind = table.c[column].type
    assert isinstance(kind, TypedJson)
    return None if text is None else kind.decode(text)
