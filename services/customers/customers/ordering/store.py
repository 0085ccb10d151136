"""What an order asks of customers and accounts before it is taken."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from chassis.convert import to_message
from chassis.db import Database
from chassis.schema import TypedJson
from customers.account.domain import currencies, owners
from customers.account.store import billing_account
from customers.agreement import store as agreements
from customers.agreement.domain import Agreement
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
    UNION ALL
    SELECT 'agreement', id, branch, status, NULL, agreement_period, NULL, NULL, NULL, NULL
    FROM agreement WHERE id IN (
        SELECT one ->> 'id' FROM customer, jsonb_array_elements(customer.agreement) AS one
        WHERE customer.id = ANY (WANTED)
    )
"""
_SAME = "SELECT absorbed_id, survivor_id FROM merged_customer WHERE survivor_id = ANY (WANTED)"
# A row of the above.
_Row = tuple[Any, ...]


def ordering_context(
    database: Database, customer_ids: Sequence[str], account_ids: Sequence[str]
) -> customers_pb2.OrderingContext:
    """Those customers and billing accounts that exist, in one statement: every order begins with this question."""
    context = customers_pb2.OrderingContext()
    if not customer_ids and not account_ids:
        return context
    rows = database.rows(_KNOWN, [*customer_ids, *account_ids])
    into = {row[1]: row[4] for row in rows if row[0] == "merged"}
    if into:
        # Of these everybody's records are needed, whoever was asked for.
        into |= dict(database.rows(_SAME, sorted(set(into.values()))))
        rows = database.rows(_KNOWN, [*customer_ids, *into, *into.values(), *account_ids])
    # Nobody is priced by what isn't in force; of an agreement that only the customer knows nothing more can be said.
    idle = {row[1] for row in rows if row[0] == "agreement" and not _in_effect(row, database.clock.now())}
    records = {row[1]: row for row in rows if row[0] == "customer"}
    for asked in dict.fromkeys(customer_ids):
        if asked in records:
            context.customer.append(_customer(asked, _same(asked, records, into), idle))
    for kind, found, branch, state, _, parties, limit, balance, *_ in rows:
        if kind == "billing_account" and found in account_ids:
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


def _same(asked: str, records: Mapping[str, _Row], into: Mapping[str, str]) -> list[_Row]:
    """The records of all who are one with whom was asked for, the survivor's first."""
    survivor = into.get(asked, asked)
    others = sorted(one for one, goes_by in into.items() if goes_by == survivor)
    return [records[one] for one in (survivor, *others) if one in records]


def _customer(asked: str, same: Sequence[_Row], idle: Collection[str]) -> customers_pb2.OrderingCustomer:
    """The customer under the id that was asked for: an order keeps the id that it was placed under. It is what its
    survivor's record says; what was agreed under any of its ids is agreed with it."""
    _, _, branch, state, party, _, _, _, segments, _ = same[0]
    agreed = (one.id for row in same for one in _decoded(customer, "agreement", row[9]) or () if one.id)
    return customers_pb2.OrderingCustomer(
        id=asked,
        branch=branch,
        status=state or "",
        engaged_party_id=party or "",
        market_segment=[
            to_message(one, values_pb2.EntityRef) for one in _decoded(customer, "market_segment", segments) or ()
        ],
        agreement_id=dict.fromkeys(one for one in agreed if one not in idle),
        member_id=[row[1] for row in same],
        member_party_id=dict.fromkeys(row[4] for row in same if row[4]),
    )


def _in_effect(row: tuple[Any, ...], at: datetime) -> bool:
    _, key, branch, status, _, period, *_ = row
    found = Agreement(
        id=key,
        branch=branch,
        status=status,
        agreement_period=_decoded(agreements.agreement, "agreement_period", period),
    )
    return found.in_force and (found.agreement_period is None or found.agreement_period.covers(at))


def _decoded(table: sa.Table, column: str, text: Any) -> Any:
    kind = table.c[column].type
    assert isinstance(kind, TypedJson)
    return None if text is None else kind.decode(text)
