"""Tables of bulk orders and their rows, and the questions asked of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import EnumText, Resource, aggregate_table
from chassis.types import Aggregate, Money, Price
from chassis.unit import Unit
from orders.bulk.domain import BulkOrder
from orders.bulk.values import BulkOrderRow, BulkOrderRowState, BulkOrderState, Record
from orders.ordering.store import product_order
from orders.ordering.values import OrderPrice
from orders.schema import metadata
from svyaz.orders.v1 import bulk_pb2

bulk_order = aggregate_table(
    metadata,
    "bulk_order",
    BulkOrder,
    # What keeps the same file from being ordered twice, whoever sends it at the same time.
    sa.Index(
        "bulk_order_content_hash",
        "branch",
        "content_hash",
        unique=True,
        postgresql_where=sa.text("content_hash IS NOT NULL"),
    ),
)
bulk_order_row = sa.Table(
    "bulk_order_row",
    metadata,
    sa.Column("bulk_order_id", sa.Text, primary_key=True),
    sa.Column("line", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("state", EnumText(BulkOrderRowState), nullable=False),
    # What the row says, until it is ordered; null, too, where a person was erased. Text: no digit is lost in it.
    sa.Column("data", sa.Text),
    # Why it says nothing.
    sa.Column("fault", sa.Text, nullable=False),
    # Whom it names as the customer, for erasures.
    sa.Column("customer_id", sa.Text),
    # Of a segment: what there is one row of.
    sa.Column("subject_id", sa.Text),
    sa.Column("product_order_id", sa.Text),
    sa.Column("field", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Index("bulk_order_row_subject_id", "bulk_order_id", "subject_id", unique=True),
    # What a run that tries again looks for among many that are ordered.
    sa.Index("bulk_order_row_open", "bulk_order_id", "line", postgresql_where=sa.text("state <> 'ordered'")),
    sa.Index("bulk_order_row_customer_id", "customer_id", postgresql_where=sa.text("data IS NOT NULL")),
)
# How far the file has come, or the inventory has been looked through, and how far the present run is.
bulk_order_progress = sa.Table(
    "bulk_order_progress",
    metadata,
    sa.Column("bulk_order_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("lines", sa.BigInteger, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("tail", sa.LargeBinary, nullable=False),
    sa.Column("header", JSONB, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("scanned", sa.Text, nullable=False),
    # The last line that the run has dealt with, and what became of those up to it.
    sa.Column("line", sa.BigInteger, nullable=False),
    sa.Column("valid", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),
    sa.Column("ordered", sa.BigInteger, nullable=False),
    sa.Column("dealt", sa.BigInteger, nullable=False),
    # Since it was started or resumed.
    sa.Column("dealt_since", sa.BigInteger, nullable=False),
    sa.Column("refused_since", sa.BigInteger, nullable=False),
)
bulk_order_total = sa.Table(
    "bulk_order_total",
    metadata,
    sa.Column("bulk_order_id", sa.Text, primary_key=True),
    sa.Column("price_type", sa.Text, primary_key=True),
    sa.Column("period", sa.Text, primary_key=True),
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("duty_free", sa.Numeric, nullable=False),
    sa.Column("tax_included", sa.Numeric, nullable=False),
)
# The progress first: whoever is taking rows in holds it, and his rows go as well.
_PARTS = (bulk_order_progress, bulk_order_row, bulk_order_total)

RESOURCES: Mapping[type[Aggregate], Resource] = {BulkOrder: Resource(bulk_pb2.BulkOrder, bulk_order)}


# --- what becomes of the rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run is; `dealt` and `refused` since it was started or resumed."""

    line: int
    ordered: int
    dealt: int
    refused: int


_STANDING = """
    SELECT line, ordered, dealt_since, refused_since FROM bulk_order_progress WHERE bulk_order_id = %(job)s FOR UPDATE
"""


def standing(unit: Unit, job_id: str) -> Standing | None:
    """How far the run is, None: there is no such job (any more); who else would go on with it, or stop it, waits."""
    row = unit.cursor().execute(_STANDING, {"job": job_id}).fetchone()
    return Standing(*map(int, row)) if row is not None else None


def state_of(unit: Unit, job_id: str) -> BulkOrderState | None:
    """The state that the job has in the database by now."""
    row = unit.cursor().execute("SELECT state FROM bulk_order WHERE id = %(job)s", {"job": job_id}).fetchone()
    return BulkOrderState(row[0]) if row is not None else None


_BEGIN_RUN = """
    UPDATE bulk_order_progress SET line = 0, dealt = 0, valid = 0, refused = 0, dealt_since = 0, refused_since = 0
    WHERE bulk_order_id = %(job)s
"""
_FORGET_TOTALS = "DELETE FROM bulk_order_total WHERE bulk_order_id = %(job)s"
_RESUME = "UPDATE bulk_order_progress SET dealt_since = 0, refused_since = 0 WHERE bulk_order_id = %(job)s"


def begin_run(unit: Unit, job: BulkOrder, *, ordered: bool) -> None:
    """A run begins with the first row; what orders of earlier ones come to stays."""
    unit.later(_BEGIN_RUN, {"job": job.id})
    if not ordered:
        unit.later(_FORGET_TOTALS, {"job": job.id})


def resume(unit: Unit, job: BulkOrder) -> None:
    """What was refused before doesn't count any more."""
    unit.later(_RESUME, {"job": job.id})


_NEXT = """
    SELECT line, data, fault FROM bulk_order_row
    WHERE bulk_order_id = %(job)s AND line > %(after)s AND state <> 'ordered' ORDER BY line LIMIT %(most)s
"""


def next_rows(unit: Unit, job: BulkOrder, after: int, most: int) -> list[Record]:
    """The next rows that aren't ordered; one without values and fault says nothing any more."""
    rows = unit.cursor().execute(_NEXT, {"job": job.id, "after": after, "most": most}).fetchall()
    found = []
    for line, data, fault in rows:
        gone = "what it said was erased" if data is None else ""
        found.append(Record(int(line), json.loads(data or "{}"), fault or gone))
    return found


@dataclass
class Outcomes:
    """What has become of some rows."""

    rows: list[BulkOrderRow] = field(default_factory=list)
    totals: dict[tuple[str, str, str], tuple[Decimal, Decimal]] = field(default_factory=dict)

    def add(self, prices: Iterable[OrderPrice]) -> None:
        """What one of them comes to."""
        for one in prices:
            cost = one.price or Price()
            free, taxed = cost.duty_free_amount, cost.tax_included_amount
            if free is None or free.value is None:
                continue
            key = (one.price_type or "", one.recurring_charge_period or "", free.unit or "")
            before = self.totals.get(key, (Decimal(0), Decimal(0)))
            with_tax = taxed.value if taxed is not None and taxed.value is not None else free.value
            self.totals[key] = (before[0] + free.value, before[1] + with_tax)


# What is ordered needn't be kept: it is in the order.
_SETTLE = """
    UPDATE bulk_order_row AS row SET state = outcome.state, product_order_id = outcome.product_order_id,
        field = outcome.field, reason = outcome.reason,
        data = CASE outcome.state WHEN 'ordered' THEN NULL ELSE row.data END
    FROM unnest(%(lines)s::bigint[], %(states)s::text[], %(orders)s::text[], %(fields)s::text[], %(reasons)s::text[])
        AS outcome (line, state, product_order_id, field, reason)
    WHERE row.bulk_order_id = %(job)s AND row.line = outcome.line
"""
_COUNT = """
    UPDATE bulk_order_progress SET line = %(line)s, dealt = dealt + %(dealt)s, valid = valid + %(valid)s,
        refused = refused + %(refused)s, ordered = ordered + %(ordered)s, dealt_since = dealt_since + %(dealt)s,
        refused_since = refused_since + %(refused)s
    WHERE bulk_order_id = %(job)s
"""
_SUM = """
    INSERT INTO bulk_order_total (bulk_order_id, branch, price_type, period, unit, duty_free, tax_included)
    VALUES (%(job)s, %(branch)s, %(type)s, %(period)s, %(unit)s, %(free)s, %(taxed)s)
    ON CONFLICT (bulk_order_id, price_type, period, unit) DO UPDATE SET
        duty_free = bulk_order_total.duty_free + excluded.duty_free,
        tax_included = bulk_order_total.tax_included + excluded.tax_included
"""


def settle(unit: Unit, job: BulkOrder, outcomes: Outcomes) -> None:
    """Keeps what has become of the rows, and counts them."""
    rows = outcomes.rows
    states = [one.state for one in rows]
    unit.later(
        _SETTLE,
        {
            "job": job.id,
            "lines": [one.line for one in rows],
            "states": [str(state) for state in states],
            "orders": [one.product_order_id for one in rows],
            "fields": [one.field for one in rows],
            "reasons": [one.reason for one in rows],
        },
    )
    unit.later(
        _COUNT,
        {
            "job": job.id,
            "line": rows[-1].line,
            "dealt": len(rows),
            "valid": states.count(BulkOrderRowState.VALID),
            "refused": states.count(BulkOrderRowState.REFUSED),
            "ordered": states.count(BulkOrderRowState.ORDERED),
        },
    )
    for (kind, period, unit_of), (free, taxed) in outcomes.totals.items():
        unit.later(
            _SUM,
            {
                "job": job.id,
                "branch": job.branch,
                "type": kind,
                "period": period,
                "unit": unit_of,
                "free": free,
                "taxed": taxed,
            },
        )


# --- what is told ----------------------------------------------------------------------------------------------------


def progress(unit: Unit, ids: Sequence[str]) -> dict[str, Any]:
    """How far each job is."""
    table = bulk_order_progress
    # Not the beginning of a record that is kept beside them.
    columns = [table.c[name] for name in ("bulk_order_id", "received", "total", "dealt", "valid", "refused", "ordered")]
    rows = unit.session.execute(sa.select(*columns).where(table.c.bulk_order_id.in_(list(ids))))
    return {row.bulk_order_id: row for row in rows}


def totals(unit: Unit, ids: Sequence[str]) -> dict[str, list[OrderPrice]]:
    """What the orders of each job come to."""
    table = bulk_order_total
    found: dict[str, list[OrderPrice]] = {}
    query = sa.select(table).where(table.c.bulk_order_id.in_(list(ids)))
    for row in unit.session.execute(query.order_by(table.c.price_type, table.c.period, table.c.unit)):
        price = OrderPrice(
            price_type=row.price_type or None,
            recurring_charge_period=row.period or None,
            price=Price(
                duty_free_amount=Money(unit=row.unit, value=row.duty_free),
                tax_included_amount=Money(unit=row.unit, value=row.tax_included),
            ),
        )
        found.setdefault(row.bulk_order_id, []).append(price)
    return found


def rows(
    unit: Unit, job_id: str, states: Sequence[BulkOrderRowState], after: int, limit: int
) -> list[tuple[BulkOrderRow, str | None]]:
    """What has become of the next rows after a line, with the state of its order."""
    columns = bulk_order_row.c
    query = (
        sa.select(
            columns.line, columns.state, columns.product_order_id, columns.field, columns.reason, product_order.c.state
        )
        .outerjoin(product_order, product_order.c.id == columns.product_order_id)
        .where(columns.bulk_order_id == job_id, columns.line > after)
        .order_by(columns.line)
        .limit(limit)
    )
    if states:
        query = query.where(columns.state.in_(states))
    return [
        (BulkOrderRow(line=line, state=state, product_order_id=order, field=where, reason=why), order_state)
        for line, state, order, where, why, order_state in unit.session.execute(query)
    ]


def forget(unit: Unit, job: BulkOrder) -> None:
    """Deletes what is kept of a job's rows."""
    for table in _PARTS:
        unit.session.execute(sa.delete(table).where(table.c.bulk_order_id == job.id))


_FORGET_ROWS = """
    UPDATE bulk_order_row SET data = NULL, reason = NULL
    WHERE bulk_order_id = %(job)s AND line IN (
        SELECT line FROM bulk_order_row WHERE bulk_order_id = %(job)s AND state <> 'ordered' AND data IS NOT NULL
        ORDER BY line LIMIT %(most)s
    )
"""


def forget_rows(unit: Unit, job: BulkOrder, most: int) -> bool:
    """What some of the rows say that weren't ordered isn't known any more; whether these were the last."""
    unit.later("UPDATE bulk_order_progress SET tail = '' WHERE bulk_order_id = %(job)s", {"job": job.id})
    return unit.cursor().execute(_FORGET_ROWS, {"job": job.id, "most": most}).rowcount < most


_ERASE = """
    UPDATE bulk_order_row SET data = NULL, reason = NULL
    WHERE customer_id = ANY (%(subjects)s) AND data IS NOT NULL
"""


def erase(unit: Unit, subjects: Sequence[str]) -> None:
    """What rows say of these persons, and what was said of that, isn't known any more."""
    if subjects:
        unit.later(_ERASE, {"subjects": list(subjects)})
