"""What an order asks of customers and accounts before it is taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from chassis.convert import to_message
from chassis.db import Database, TypedJson
from customers.account.domain import currencies, owners
from customers.account.store import billing_account
from customers.party.store import customer
from svyaz.customers.v1 import customers_pb2
from svyaz.type.v1 import values_pb2

_KNOWN = """
    SELECT 'customer', id, branch, status, engaged_party ->> 'id', NULL::jsonb, NULL::jsonb, NULL::jsonb,
        market_segment, agreement
    FROM customer WHERE id = ANY (WANTED)
    UNION ALL
    SELECT 'merged', absorbed_id, branch, NULL, survivor_id, NULL, NULL, NULL, NULL, NULL
    FROM merged_customer WHERE absorbed_id = ANY (WANTED) OR survivor_id = ANY (WANTED)
    UNION ALL
    SELECT 'billing_account', id, branch, state, NULL, related_party, credit_limit, account_balance, NULL, NULL
    FROM billing_account WHERE id = ANY (WANTED)
"""
# Those whom merged ones go by, with all who go by them: the survivor first.
_MERGED = """
    SELECT coalesce(link.survivor_id, customer.id), customer.id, status, engaged_party ->> 'id',
        market_segment, agreement
    FROM customer LEFT JOIN merged_customer AS link ON link.absorbed_id = customer.id
    WHERE customer.id = ANY (ARRAY(
        SELECT unnest(WANTED) UNION SELECT absorbed_id FROM merged_customer WHERE survivor_id = ANY (WANTED)
    ))
    ORDER BY link.survivor_id IS NOT NULL, customer.id
"""


def ordering_context(
    database: Database, customer_ids: Sequence[str], account_ids: Sequence[str]
) -> customers_pb2.OrderingContext:
    """Those customers and billing accounts that exist, in one statement: every order begins with this question."""
    context = customers_pb2.OrderingContext()
    if not customer_ids and not account_ids:
        return context
    rows = database.rows(_KNOWN, [*customer_ids, *account_ids])
    into = {found: survivor for kind, found, _, _, survivor, *_ in rows if kind == "merged"}
    merged = _merged(database, sorted(set(into.values()))) if into else {}
    for kind, found, branch, state, party, parties, limit, balance, segments, agreements in rows:
        if kind == "customer" and found in customer_ids:
            same = merged.get(into.get(found, found)) or [_Record(found, state, party, segments, agreements)]
            context.customer.append(_customer(found, branch, same))
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


@dataclass(frozen=True)
class _Record:
    """What is written about a customer under one of its ids; of JSON the text."""

    id: str
    status: str | None
    party: str | None
    segments: str | None
    agreements: str | None


def _merged(database: Database, survivors: Sequence[str]) -> dict[str, list[_Record]]:
    """The records of merged customers by the survivor, whose own is the first."""
    found: dict[str, list[_Record]] = {}
    for survivor, *record in database.rows(_MERGED, survivors):
        found.setdefault(survivor, []).append(_Record(*record))
    return found


def _customer(asked: str, branch: str, same: Sequence[_Record]) -> customers_pb2.OrderingCustomer:
    """The customer under the id that was asked for: an order keeps the id that it was placed under. It is what its
    survivor's record says; what was agreed under any of its ids is agreed with it."""
    survivor = same[0]
    agreements = (one.id for each in same for one in _decoded(customer, "agreement", each.agreements) or () if one.id)
    return customers_pb2.OrderingCustomer(
        id=asked,
        branch=branch,
        status=survivor.status or "",
        engaged_party_id=survivor.party or "",
        market_segment=[
            to_message(one, values_pb2.EntityRef)
            for one in _decoded(customer, "market_segment", survivor.segments) or ()
        ],
        agreement_id=dict.fromkeys(agreements),
        member_id=[one.id for one in same],
        member_party_id=dict.fromkeys(one.party for one in same if one.party),
    )


def _decoded(table: sa.Table, column: str, text: Any) -> Any:
    kind = table.c[column].type
    assert isinstance(kind, TypedJson)
    return None if text is None else kind.decode(text)
