"""Bulk orders: jobs, their rows, how far they are and what they come to."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "orders_0012"
down_revision = "orders_0011"
branch_labels = None
depends_on = None

_COUNTERS = ("received", "lines", "total")
_RUN = ("line", "valid", "refused", "ordered", "dealt", "dealt_since", "refused_since")


def upgrade() -> None:
    """Makes the tables and puts them under the policies of their branches."""
    op.create_table(
        "bulk_order",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("template", sa.Text(), nullable=True),
        sa.Column("format", sa.Text(), nullable=True),
        sa.Column("delimiter", sa.Text(), nullable=True),
        sa.Column("segment", JSONB(), nullable=True),
        sa.Column("orders_per_second", sa.BigInteger(), nullable=True),
        sa.Column("most_refused", sa.BigInteger(), nullable=True),
        sa.Column("most_refused_percent", sa.BigInteger(), nullable=True),
        sa.Column("allow_repetition", sa.Boolean(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("dry_run", sa.Boolean(), nullable=True),
        sa.Column("run", sa.BigInteger(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("completed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("content_hash", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("bulk_order_branch_id", "bulk_order", ["branch", "id"])
    op.create_index(
        "bulk_order_content_hash",
        "bulk_order",
        ["branch", "content_hash"],
        unique=True,
        postgresql_where=sa.text("content_hash IS NOT NULL"),
    )
    op.create_table(
        "bulk_order_row",
        sa.Column("bulk_order_id", sa.Text(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("subject_id", sa.Text(), nullable=True),
        sa.Column("product_order_id", sa.Text(), nullable=True),
        sa.Column("field", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("bulk_order_id", "line"),
    )
    op.create_index("bulk_order_row_subject_id", "bulk_order_row", ["bulk_order_id", "subject_id"], unique=True)
    op.create_index(
        "bulk_order_row_open",
        "bulk_order_row",
        ["bulk_order_id", "line"],
        postgresql_where=sa.text("state <> 'ordered'"),
    )
    op.create_index(
        "bulk_order_row_customer_id",
        "bulk_order_row",
        ["customer_id"],
        postgresql_where=sa.text("data IS NOT NULL"),
    )
    op.create_table(
        "bulk_order_progress",
        sa.Column("bulk_order_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTERS),
        sa.Column("tail", sa.LargeBinary(), nullable=False),
        sa.Column("header", JSONB(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("scanned", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _RUN),
        sa.PrimaryKeyConstraint("bulk_order_id"),
    )
    op.create_table(
        "bulk_order_total",
        sa.Column("bulk_order_id", sa.Text(), nullable=False),
        sa.Column("price_type", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("duty_free", sa.Numeric(), nullable=False),
        sa.Column("tax_included", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("bulk_order_id", "price_type", "period", "unit"),
    )
    for table in ("bulk_order", "bulk_order_row", "bulk_order_progress", "bulk_order_total"):
        for statement in isolate(table):
            op.execute(statement)
