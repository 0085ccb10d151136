"""Tables of what billing reports, of models and of what customers are worth, and the questions asked of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from chassis.references import rely
from chassis.schema import Resource, TypedJson, aggregate_table
from chassis.types import Aggregate, Characteristic
from chassis.unit import Unit
from customers.identity.store import merged_customer
from customers.party.store import customer, refer
from customers.schema import UnderMerge, metadata, under_merge
from customers.value.domain import CustomerValue, ValuationRun, ValueModel, ValuePolicy
from customers.value.features import HeldProduct
from customers.value.profitability import FinancialAmount, LedgerLine
from customers.value.values import ValueModelKind, ValueModelState
from svyaz.customers.v1 import customers_pb2, value_pb2

_INSTANT = sa.TIMESTAMP(timezone=True)

value_policy = aggregate_table(
    metadata, "value_policy", ValuePolicy, sa.Index("value_policy_branch", "branch", unique=True)
)
value_model = aggregate_table(
    metadata,
    "value_model",
    ValueModel,
    # Whatever two of them who activate at once have seen.
    sa.Index("value_model_active", "branch", "kind", unique=True, postgresql_where=sa.text("state = 'active'")),
)
value_model_artefact = sa.Table(
    "value_model_artefact",
    metadata,
    sa.Column("model_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
customer_value = aggregate_table(metadata, "customer_value", CustomerValue)
valuation_run = aggregate_table(metadata, "valuation_run", ValuationRun)
# How far a run is: what it does now (value, classify), and with which customers it is done.
valuation_progress = sa.Table(
    "valuation_progress",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("phase", sa.Text, nullable=False),
    sa.Column("after", sa.Text, nullable=False),
    sa.Column("valued", sa.BigInteger, nullable=False),
    sa.Column("changed", sa.BigInteger, nullable=False),
)
# What was reported last of an account (empty: of the customer himself) and period.
financial_line = sa.Table(
    "financial_line",
    metadata,
    sa.Column("customer_id", sa.Text, primary_key=True),
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("period_start", sa.Date, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("period_end", sa.Date, nullable=False),
    sa.Column("revenue", TypedJson(FinancialAmount, True)),
    sa.Column("cost", TypedJson(FinancialAmount, True)),
    sa.Column("balance", sa.Numeric),
    sa.Column("overdue", sa.Numeric),
    sa.Column("overdue_days", sa.Integer),
    sa.Column("report_id", sa.Text, nullable=False),
    sa.Column("line", sa.BigInteger, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("reported_at", _INSTANT, nullable=False),
    sa.Index("financial_line_branch_report_id_line", "branch", "report_id", "line", unique=True),
)
# When customers had which product, as the inventory's events tell it.
customer_product = sa.Table(
    "customer_product",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("customer_id", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("offering_id", sa.Text),
    sa.Column("started_at", _INSTANT),
    sa.Column("ended_at", _INSTANT),
    sa.Column("suspended", sa.Boolean, nullable=False),
    sa.Index("customer_product_customer_id", "customer_id"),
)
# What everybody is worth just now, by currency, so that shares of all can be drawn.
customer_worth = sa.Table(
    "customer_worth",
    metadata,
    sa.Column("customer_id", sa.Text, primary_key=True),
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("value", sa.Numeric, nullable=False),
    sa.Column("valued_at", _INSTANT, nullable=False),
    sa.Index("customer_worth_branch_unit_value", "branch", "unit", "value"),
)
# The least value within the share that a rule of the policy names, as the last run has drawn it.
value_floor = sa.Table(
    "value_floor",
    metadata,
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("policy", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("floor", sa.Numeric, nullable=False),
)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    ValuePolicy: Resource(value_pb2.ValuePolicy, value_policy),
    ValueModel: Resource(value_pb2.ValueModel, value_model),
    CustomerValue: Resource(value_pb2.CustomerValue, customer_value),
    ValuationRun: Resource(value_pb2.ValuationRun, valuation_run),
}
ISOLATED = (
    value_model_artefact.name,
    valuation_progress.name,
    financial_line.name,
    customer_product.name,
    customer_worth.name,
    value_floor.name,
)
under_merge(UnderMerge.BY_MEMBERS, financial_line, customer_product, columns=("customer_id",))
# The survivor's is reckoned from all of his; what an absorbed one was worth before stays as it was, and counts nowhere.
under_merge(UnderMerge.OWN, customer_value, columns=("id",))
under_merge(UnderMerge.OWN, customer_worth, columns=("customer_id",))
under_merge(
    UnderMerge.NONE, value_policy, value_model, value_model_artefact, valuation_run, valuation_progress, value_floor
)


# --- what is known of customers --------------------------------------------------------------------------------------

_KNOWN_CUSTOMERS = "SELECT id FROM customer WHERE id = ANY (%(ids)s) AND branch = %(branch)s"


def known_customers(unit: Unit, ids: Iterable[str], branch: str) -> set[str]:
    """Those of the ids that are customers of the branch; they aren't deleted before the end of the transaction."""
    return {row[0] for row in rely(unit, _KNOWN_CUSTOMERS, {"ids": sorted(set(ids)), "branch": branch})}


def rely_on(unit: Unit, customer_ids: Iterable[str], branch: str) -> None:
    """Whoever has books stays a customer: he isn't deleted any more."""
    for customer_id in customer_ids:
        refer(unit, f"financials:{customer_id}", "FinancialLine", branch, [customer_id])


_MEMBERS = sa.select(merged_customer.c.survivor_id, merged_customer.c.absorbed_id)


def members_of(unit: Unit, survivors: Sequence[str]) -> dict[str, list[str]]:
    """All ids of each of those customers, in one look: survivor → ids, the survivor's first."""
    found = {survivor: [survivor] for survivor in survivors}
    rows = unit.session.execute(
        _MEMBERS.where(merged_customer.c.survivor_id == sa.func.any(list(survivors))).order_by(
            merged_customer.c.absorbed_id
        )
    )
    for survivor, absorbed in rows:
        found[survivor].append(absorbed)
    return found


def lines_of(unit: Unit, ids: Iterable[str]) -> dict[str, list[LedgerLine]]:
    """The lines of each of the ids, in the order of their periods."""
    columns = financial_line.c
    rows = unit.session.execute(
        sa.select(financial_line)
        .where(columns.customer_id == sa.func.any(list(ids)))
        .order_by(columns.customer_id, columns.period_start, columns.account_id, columns.unit)
    )
    found: dict[str, list[LedgerLine]] = {}
    for row in rows:
        found.setdefault(row.customer_id, []).append(_line(row))
    return found


def _line(row: Any) -> LedgerLine:
    return LedgerLine(
        customer_id=row.customer_id,
        account_id=row.account_id,
        period_start=row.period_start,
        period_end=row.period_end,
        unit=row.unit,
        revenue=row.revenue,
        cost=row.cost,
        balance=row.balance,
        overdue=row.overdue,
        overdue_days=row.overdue_days,
    )


def page_of_lines(unit: Unit, ids: Sequence[str], offset: int, limit: int) -> list[tuple[LedgerLine, str, int, int]]:
    """Lines with report, line and sequence, the latest period first."""
    columns = financial_line.c
    rows = unit.session.execute(
        sa.select(financial_line)
        .where(columns.customer_id == sa.func.any(list(ids)))
        .order_by(columns.period_start.desc(), columns.customer_id, columns.account_id, columns.unit)
        .offset(offset)
        .limit(limit)
    )
    return [(_line(row), row.report_id, row.line, row.sequence) for row in rows]


def products_of(unit: Unit, ids: Iterable[str]) -> dict[str, list[HeldProduct]]:
    """The products of each of the ids."""
    columns = customer_product.c
    rows = unit.session.execute(
        sa.select(customer_product).where(columns.customer_id == sa.func.any(list(ids))).order_by(columns.id)
    )
    found: dict[str, list[HeldProduct]] = {}
    for row in rows:
        found.setdefault(row.customer_id, []).append(
            HeldProduct(
                id=row.id,
                started_at=row.started_at,
                ended_at=row.ended_at,
                suspended=row.suspended,
                offering_id=row.offering_id,
            )
        )
    return found


def characteristics_of(unit: Unit, ids: Sequence[str]) -> dict[str, Sequence[Characteristic]]:
    """The characteristics of customers as they are."""
    rows = unit.session.execute(
        sa.select(customer.c.id, customer.c.characteristic).where(customer.c.id == sa.func.any(list(ids)))
    )
    return {row.id: row.characteristic for row in rows}


def customers_at(unit: Unit, ids: Sequence[str], at: datetime) -> dict[str, customers_pb2.Customer]:
    """Customers as they were known at the instant, from their history; who wasn't there yet is left out."""
    with unit.cursor() as cursor:
        rows = cursor.execute(_AS_KNOWN, {"ids": list(ids), "at": at}).fetchall()
    return {
        known: customers_pb2.Customer.FromString(data) for known, kind, data in rows if kind != "CustomerDeleteEvent"
    }


_AS_KNOWN = """
    SELECT DISTINCT ON (aggregate_id) aggregate_id, type, data FROM event
    WHERE aggregate_id = ANY (%(ids)s) AND aggregate_type = 'Customer' AND time <= %(at)s
    ORDER BY aggregate_id, version DESC
"""


# Of one branch, in the order of their ids; whoever was merged into another one is that one.
_CUSTOMERS = """
    SELECT id FROM customer
    WHERE branch = %(branch)s AND id > %(after)s
        AND NOT EXISTS (SELECT FROM merged_customer WHERE absorbed_id = customer.id)
    ORDER BY id LIMIT %(most)s
"""


def next_customers(unit: Unit, branch: str, after: str, most: int) -> list[str]:
    """The branch's customers that follow an id, those that were merged into others left out."""
    with unit.cursor() as cursor:
        rows = cursor.execute(_CUSTOMERS, {"branch": branch, "after": after, "most": most})
        return [row[0] for row in rows]


# --- products --------------------------------------------------------------------------------------------------------

_REMEMBER = """
    INSERT INTO customer_product (id, branch, customer_id, version, offering_id, started_at, ended_at, suspended)
    VALUES (%(id)s, %(branch)s, %(customer_id)s, %(version)s, %(offering_id)s, %(started_at)s, %(ended_at)s,
        %(suspended)s)
    ON CONFLICT (id) DO UPDATE SET customer_id = excluded.customer_id, version = excluded.version,
        offering_id = excluded.offering_id, started_at = excluded.started_at, ended_at = excluded.ended_at,
        suspended = excluded.suspended
        WHERE customer_product.version <= excluded.version OR %(epoch_began)s
"""
_FORGET = "DELETE FROM customer_product WHERE id = %(id)s AND (version <= %(version)s OR %(epoch_began)s)"


def remember_product(
    unit: Unit, product: HeldProduct, customer_id: str, branch: str, version: int, *, epoch_began: bool
) -> None:
    """Keeps what a product is now, with the unit's next flush, unless a later version is known."""
    unit.later(
        _REMEMBER,
        {
            "id": product.id,
            "branch": branch,
            "customer_id": customer_id,
            "version": version,
            "offering_id": product.offering_id,
            "started_at": product.started_at,
            "ended_at": product.ended_at,
            "suspended": product.suspended,
            "epoch_began": epoch_began,
        },
    )


def forget_product(unit: Unit, id: str, version: int, *, epoch_began: bool) -> None:
    """Keeps nothing of a product that was deleted as that version."""
    unit.later(_FORGET, {"id": id, "version": version, "epoch_began": epoch_began})


# --- worth and floors ------------------------------------------------------------------------------------------------

_WORTH = """
    INSERT INTO customer_worth (customer_id, unit, branch, value, valued_at)
    VALUES (%(customer_id)s, %(unit)s, %(branch)s, %(value)s, %(at)s)
    ON CONFLICT (customer_id, unit) DO UPDATE SET value = excluded.value, valued_at = excluded.valued_at
"""
_NO_WORTH = "DELETE FROM customer_worth WHERE customer_id = %(customer_id)s AND unit <> ALL (%(units)s)"


def keep_worth(unit: Unit, customer_id: str, branch: str, values: Mapping[str, Decimal]) -> None:
    """Keeps what a customer is worth, by currency, with the unit's next flush."""
    unit.later(_NO_WORTH, {"customer_id": customer_id, "units": sorted(values)})
    unit.later(
        _WORTH,
        *(
            {"customer_id": customer_id, "unit": name, "branch": branch, "value": values[name], "at": unit.at}
            for name in sorted(values)
        ),
    )


# Whoever is among the first ones that together reach the share; ties are all in, since they are told apart by nothing.
_BY_VALUE = """
    SELECT unit, min(value) FROM (
        SELECT unit, value,
            sum(value) OVER (PARTITION BY unit ORDER BY value DESC, customer_id) - value AS before,
            sum(value) OVER (PARTITION BY unit) AS whole
        FROM customer_worth
        WHERE branch = %(branch)s AND value > 0
            AND NOT EXISTS (SELECT FROM merged_customer WHERE absorbed_id = customer_id)
    ) ranked
    WHERE before < %(share)s * whole GROUP BY unit
"""
_BY_COUNT = """
    SELECT unit, min(value) FROM (
        SELECT unit, value, row_number() OVER (PARTITION BY unit ORDER BY value DESC, customer_id) - 1 AS before,
            count(*) OVER (PARTITION BY unit) AS whole
        FROM customer_worth
        WHERE branch = %(branch)s AND NOT EXISTS (SELECT FROM merged_customer WHERE absorbed_id = customer_id)
    ) ranked
    WHERE before < %(share)s * whole GROUP BY unit
"""


def draw_floors(unit: Unit, policy: ValuePolicy) -> None:
    """Draws anew where each share of the policy's rules ends, and forgets those of policies before."""
    rows = []
    for position, rule in enumerate(policy.class_rule):
        for share, statement in ((rule.cumulative_share, _BY_VALUE), (rule.top_share, _BY_COUNT)):
            if share is not None:
                with unit.cursor() as cursor:
                    found = cursor.execute(statement, {"branch": policy.branch, "share": share}).fetchall()
                rows += [
                    {
                        "branch": policy.branch,
                        "policy": version_of(policy),
                        "position": position,
                        "unit": name,
                        "floor": floor,
                    }
                    for name, floor in found
                ]
    unit.session.execute(sa.delete(value_floor).where(value_floor.c.branch == policy.branch))
    if rows:
        unit.session.execute(sa.insert(value_floor), rows)


def floors_of(unit: Unit, policy: ValuePolicy) -> dict[tuple[int, str], Decimal]:
    """The floors of the policy as it is; empty before a run has drawn them."""
    columns = value_floor.c
    rows = unit.session.execute(
        sa.select(value_floor).where(columns.branch == policy.branch, columns.policy == version_of(policy))
    )
    return {(row.position, row.unit): row.floor for row in rows}


def version_of(policy: ValuePolicy) -> str:
    """Which policy this is, and of which revision; that of a branch without one is called so."""
    return f"{policy.id}/{policy.revision}" if policy.id else "usual"


def policy_of(unit: Unit, branch: str) -> ValuePolicy | None:
    """The branch's policy, if it has stated one."""
    return next(iter(unit.load(ValuePolicy, "branch = %(branch)s", {"branch": branch})), None)


# --- models ----------------------------------------------------------------------------------------------------------


def active_model(unit: Unit, branch: str, kind: ValueModelKind) -> str | None:
    """The id of the model of the kind that is applied in the branch."""
    columns = value_model.c
    found: str | None = unit.session.scalar(
        sa.select(columns.id).where(
            columns.branch == branch, columns.kind == kind, columns.state == ValueModelState.ACTIVE
        )
    )
    return found


def keep_artefact(unit: Unit, model: ValueModel, content: bytes) -> None:
    """Keeps what a model is made of, with the unit's next flush."""
    unit.later(
        "INSERT INTO value_model_artefact (model_id, branch, content) VALUES (%(id)s, %(branch)s, %(content)s)",
        {"id": model.id, "branch": model.branch, "content": content},
    )


def artefact_of(unit: Unit, model_id: str) -> bytes | None:
    """What a model is made of."""
    columns = value_model_artefact.c
    found: bytes | None = unit.session.scalar(sa.select(columns.content).where(columns.model_id == model_id))
    return found


# --- runs ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    phase: str
    after: str
    valued: int
    changed: int


def begin_progress(unit: Unit, run: ValuationRun, phase: str) -> None:
    """A run that has done nothing yet, with the unit's next flush."""
    unit.later(
        "INSERT INTO valuation_progress (run_id, branch, phase, after, valued, changed)"
        " VALUES (%(id)s, %(branch)s, %(phase)s, '', 0, 0)",
        {"id": run.id, "branch": run.branch, "phase": phase},
    )


def progress_of(unit: Unit, run_id: str) -> Progress | None:
    """How far the run is; locked until the end of the transaction."""
    row = unit.session.execute(
        sa.select(valuation_progress).where(valuation_progress.c.run_id == run_id).with_for_update()
    ).first()
    return None if row is None else Progress(row.phase, row.after, row.valued, row.changed)


def keep_progress(unit: Unit, run_id: str, progress: Progress) -> None:
    """Keeps how far the run is."""
    unit.session.execute(
        sa.update(valuation_progress)
        .where(valuation_progress.c.run_id == run_id)
        .values(phase=progress.phase, after=progress.after, valued=progress.valued, changed=progress.changed)
    )


def counts(unit: Unit, run_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Customers valued, and told of, by run."""
    columns = valuation_progress.c
    rows = unit.session.execute(
        sa.select(columns.run_id, columns.valued, columns.changed).where(columns.run_id.in_(run_ids))
    )
    return {row.run_id: (row.valued, row.changed) for row in rows}
