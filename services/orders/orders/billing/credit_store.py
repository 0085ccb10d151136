"""Credits in PostgreSQL, and what they are checked against."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chassis.types import Money
from chassis.unit import Unit
from orders.billing.credit import Credit, CreditKind
from orders.billing.store import charge_event
from orders.billing.tables import billing_credit

_COLUMNS = ("id", "branch", "cause_id", "account", "product_id", "charge_id", "name", "reason", "points", "occurred_at")


def add_unless_there(unit: Unit, credit: Credit) -> Credit | None:
    """Saves a credit, unless its cause has one: then that one. Waits for another who is saving one for it."""
    assert credit.amount.value is not None
    values: dict[str, Any] = {name: getattr(credit, name) for name in _COLUMNS}
    values |= {"kind": credit.kind.value, "unit": credit.amount.unit, "value": credit.amount.value}
    saved = unit.session.execute(
        insert(billing_credit).values(**values).on_conflict_do_nothing().returning(billing_credit.c.id)
    ).first()
    if saved is not None:
        return None
    # Committed by now: our statement has waited for that.
    return found(unit.session, credit.kind, credit.cause_id, [credit.branch])


def found(session: Session, kind: CreditKind, cause_id: str, branches: Sequence[str]) -> Credit | None:
    """The credit of a cause; in any branch that is seen, when none is named."""
    table = billing_credit
    statement = sa.select(table).where(table.c.kind == kind.value, table.c.cause_id == cause_id)
    if branches:
        statement = statement.where(table.c.branch.in_(branches))
    row = session.execute(statement.order_by(table.c.branch)).first()
    if row is None:
        return None
    values = {name: getattr(row, name) for name in _COLUMNS}
    return Credit(kind=CreditKind(row.kind), amount=Money(unit=row.unit, value=row.value), **values)


def has_charge(session: Session, account: str, event_id: str) -> bool:
    """Whether a charge is one of the account's."""
    event = charge_event.c
    statement = sa.select(event.id).where(event.account == account, event.event_id == event_id).limit(1)
    return session.scalar(statement) is not None
