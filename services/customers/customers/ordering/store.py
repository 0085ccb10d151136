"""What an order asks of customers and accounts before it is taken."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from chassis.convert import to_message
from chassis.db import Database, TypedJson
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
    SELECT 'billing_account', id, branch, state, NULL, related_party, credit_limit, account_balance, NULL, NULL
    FROM billing_account WHERE id = ANY (WANTED)
    UNION ALL
    SELECT 'agreement', id, branch, status, NULL, agreement_period, NULL, NULL, NULL, NULL
    FROM agreement WHERE id IN (
        SELECT one ->> 'id' FROM customer, jsonb_array_elements(customer.agreement) AS one
        WHERE customer.id = ANY (WANTED)
    )
"""


def ordering_context(
    database: Database, customer_ids: Sequence[str], account_ids: Sequence[str]
) -> customers_pb2.OrderingContext:
    """Those customers and billing accounts that exist, in one statement: every order begins with this question."""
    context = customers_pb2.OrderingContext()
    if not customer_ids and not account_ids:
        return context
    rows = database.rows(_KNOWN, [*customer_ids, *account_ids])
    # Nobody is priced by what isn't in force; of an agreement that only the customer knows nothing more can be said.
    idle = {row[1] for row in rows if row[0] == "agreement" and not _in_effect(row, database.clock.now())}
    for kind, found, branch, state, party, parties, limit, balance, segments, agreed in rows:
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
                agreement_id=[
                    one.id for one in _decoded(customer, "agreement", agreed) or () if one.id and one.id not in idle
                ],
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
