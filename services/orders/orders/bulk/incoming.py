"""How rows come in: out of the parts of a file, or from the inventory."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from chassis import queries
from chassis.products import ProductStatus
from chassis.unit import Unit, missing
from orders.bulk.domain import BulkOrder
from orders.bulk.reading import Intake
from orders.bulk.store import bulk_order
from orders.bulk.values import Record
from orders.inventory.domain import Product
from orders.inventory.store import product
from orders.ordering.domain import customers_of
from svyaz.orders.v1 import inventory_pb2
from svyaz.type.v1 import requests_pb2

_COUNTERS = (
    *("received", "lines", "total"),
    *("line", "valid", "refused", "ordered", "dealt", "dealt_since", "refused_since"),
)


def begin(unit: Unit, job: BulkOrder) -> None:
    """Nothing has come yet."""
    row: dict[str, Any] = dict.fromkeys(_COUNTERS, 0)
    row |= {"bulk_order_id": job.id, "branch": job.branch, "tail": b"", "header": "[]", "hash": b"", "scanned": ""}
    unit.later(
        f"INSERT INTO bulk_order_progress ({', '.join(row)}) VALUES ({', '.join(f'%({name})s' for name in row)})",  # noqa: S608 (names of our own columns)
        row,
    )


_LOCK = """
    SELECT received, lines, total, tail, header::text, hash FROM bulk_order_progress
    WHERE bulk_order_id = %(job)s FOR UPDATE
"""


def intake(unit: Unit, job_id: str) -> Intake:
    """How far the file has come; others who send a part of it wait. Raises NotFound."""
    row = unit.cursor().execute(_LOCK, {"job": job_id}).fetchone()
    if row is None:
        raise missing(BulkOrder, job_id)
    received, lines, total, tail, header, hashed = row
    return Intake(received, lines, total, bytes(tail), tuple(json.loads(header)), bytes(hashed))


_TAKE_IN = """
    UPDATE bulk_order_progress SET received = %(received)s, lines = %(lines)s, total = %(total)s, tail = %(tail)s,
        header = %(header)s::jsonb, hash = %(hash)s
    WHERE bulk_order_id = %(job)s
"""
_ADD = """
    INSERT INTO bulk_order_row (bulk_order_id, branch, line, state, data, fault, customer_id)
    SELECT %(job)s, %(branch)s, line, 'waiting', data, fault, customer
    FROM unnest(%(lines)s::bigint[], %(data)s::text[], %(faults)s::text[], %(customers)s::text[])
        AS record (line, data, fault, customer)
"""


def take_in(unit: Unit, job: BulkOrder, after: Intake, records: Sequence[Record], customers: Sequence[str]) -> None:
    """Keeps the records and how far the file has come; `customers`: the columns that name the customer."""
    unit.later(
        _TAKE_IN,
        {
            "job": job.id,
            "received": after.offset,
            "lines": after.lines,
            "total": after.rows,
            "tail": after.tail,
            "header": json.dumps(after.header),
            "hash": after.hash,
        },
    )
    if records:
        named = [next((str(one.values[c]) for c in customers if one.values.get(c)), None) for one in records]
        unit.later(
            _ADD,
            {
                "job": job.id,
                "branch": job.branch,
                "lines": [one.line for one in records],
                "data": [_written(one.values) for one in records],
                "faults": [one.fault for one in records],
                "customers": named,
            },
        )


def _written(values: Mapping[str, object]) -> str:
    def number(value: object) -> object:
        # As text, which the template takes as well: JSON has no decimals that Python would write exactly.
        return str(value)

    return json.dumps(values, default=number, ensure_ascii=False)


_UPTO = """
    SELECT max(id), count(*)
    FROM (SELECT id FROM product WHERE branch = %(branch)s AND id > %(after)s ORDER BY id LIMIT %(most)s) AS looked
"""
_SCANNED = "SELECT scanned, lines, hash FROM bulk_order_progress WHERE bulk_order_id = %(job)s FOR UPDATE"
_FOUND = """
    INSERT INTO bulk_order_row (bulk_order_id, branch, line, state, data, fault, customer_id, subject_id)
    SELECT %(job)s, %(branch)s, line, 'waiting', data, '', nullif(customer, ''), subject
    FROM unnest(%(lines)s::bigint[], %(data)s::text[], %(customers)s::text[], %(subjects)s::text[])
        AS record (line, data, customer, subject)
    ON CONFLICT DO NOTHING
    RETURNING line, subject_id
"""
_LOOKED_AT = """
    UPDATE bulk_order_progress SET scanned = %(scanned)s, total = total + %(added)s, lines = lines + %(looked)s,
        hash = %(hash)s
    WHERE bulk_order_id = %(job)s
"""
_MOVABLE = (ProductStatus.ACTIVE, ProductStatus.SUSPENDED)


def collect(unit: Unit, job: BulkOrder, most: int) -> bytes | None:
    """Looks through the next products of the branch for those of the segment; if these were the last, the hash of all
    rows: which products or customers they are."""
    segment = job.segment
    assert segment is not None
    cursor = unit.cursor()
    row = cursor.execute(_SCANNED, {"job": job.id}).fetchone()
    assert row is not None
    after, lines, known = str(row[0]), int(row[1]), bytes(row[2])
    upto = cursor.execute(_UPTO, {"branch": job.branch, "after": after, "most": most}).fetchone()
    assert upto is not None
    last, looked = upto
    if last is None:
        return known
    conditions = [*queries.conditions(product, inventory_pb2.Product, filters(job))]
    found = unit.session.scalars(
        sa.select(Product)
        .where(product.c.branch == job.branch, product.c.id > after, product.c.id <= last, *conditions)
        .order_by(product.c.id)
    ).all()
    rows = [_as_row(one) for one in found]
    by = "customerId" if segment.once_per_customer else "productId"
    numbered = [(number, one) for number, one in enumerate(rows, lines + 1) if one[by]]
    values = {
        "job": job.id,
        "branch": job.branch,
        "lines": [number for number, _ in numbered],
        "data": [json.dumps(one) for _, one in numbered],
        "customers": [one["customerId"] for _, one in numbered],
        "subjects": [one[by] for _, one in numbered],
    }
    added = sorted(cursor.execute(_FOUND, values).fetchall())
    # Each after the others: the same whatever pages they were found in, and no larger for millions of them.
    for _, subject in added:
        known = hashlib.sha256(known + subject.encode()).digest()
    looked_at = {"job": job.id, "scanned": last, "added": len(added), "looked": len(rows), "hash": known}
    cursor.execute(_LOOKED_AT, looked_at)
    return known if int(looked) < most else None


def filters(job: BulkOrder) -> list[requests_pb2.Filter]:
    """The conditions of a segment. Raises InvalidArgument for an operator that there isn't."""
    segment = job.segment
    assert segment is not None
    found = []
    if segment.product_offering:
        found.append(requests_pb2.Filter(path="product_offering.id", value=segment.product_offering))
    for one in segment.filter:
        operator = requests_pb2.Filter.Operator.Value(f"OPERATOR_{(one.operator or 'eq').upper()}")
        found.append(requests_pb2.Filter(path=one.path or "", operator=operator, value=one.value))
    if not any(one.path == "status" for one in found):
        found.append(requests_pb2.Filter(path="status", value=[str(status) for status in _MOVABLE]))
    return found


def _as_row(one: Product) -> dict[str, str]:
    account, offering = one.billing_account, one.product_offering
    return {
        "productId": one.id,
        "productOfferingId": (offering.id or "") if offering is not None else "",
        "customerId": next(iter(customers_of(one.related_party)), ""),
        "billingAccountId": (account.id or "") if account is not None else "",
    }


def same_content(unit: Unit, job: BulkOrder) -> str | None:
    """The id of another job of the branch with the same rows and template."""
    table = bulk_order
    found: str | None = unit.session.scalar(
        sa.select(table.c.id).where(
            table.c.branch == job.branch, table.c.content_hash == job.content_hash, table.c.id != job.id
        )
    )
    return found
