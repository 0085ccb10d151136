"""Order templates, promised dates, and what becomes of orders that are amended."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "orders_0010"
down_revision = "orders_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables and puts those with a branch under its policies; templates are common to all."""
    op.create_table(
        "order_template",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("parameter", JSONB(), nullable=True),
        sa.Column("item", JSONB(), nullable=True),
        sa.Column("customer", sa.Text(), nullable=True),
        sa.Column("transferor", sa.Text(), nullable=True),
        sa.Column("payer", sa.Text(), nullable=True),
        sa.Column("requested_start_date", sa.Text(), nullable=True),
        sa.Column("requested_completion_date", sa.Text(), nullable=True),
        sa.Column("lead_time", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("order_template_branch_id", "order_template", ["branch", "id"])
    op.create_index("order_template_name", "order_template", ["name"], unique=True)
    op.create_table(
        "promised_date_change",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("product_order_id", sa.Text(), nullable=True),
        sa.Column("order_item_id", sa.Text(), nullable=True),
        sa.Column("old_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("new_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("explanation", sa.Text(), nullable=True),
        sa.Column("moved_by", sa.Text(), nullable=True),
        sa.Column("moved_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("promised_date_change_branch_id", "promised_date_change", ["branch", "id"])
    op.create_index("promised_date_change_product_order_id", "promised_date_change", ["product_order_id", "branch"])
    op.create_table(
        "product_order_amendment",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("product_order_id", sa.Text(), nullable=True),
        sa.Column("added", JSONB(), nullable=True),
        sa.Column("changed", JSONB(), nullable=True),
        sa.Column("withdrawn", JSONB(), nullable=True),
        sa.Column("undone", sa.BigInteger(), nullable=True),
        sa.Column("done_again", sa.BigInteger(), nullable=True),
        sa.Column("undo_cost", JSONB(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("amended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("product_order_amendment_branch_id", "product_order_amendment", ["branch", "id"])
    op.create_index(
        "product_order_amendment_product_order_id", "product_order_amendment", ["product_order_id", "branch"]
    )
    for column in ("accepted_cost", "undo_cost", "assessment"):
        op.add_column("cancel_product_order", sa.Column(column, JSONB(), nullable=True))
    op.add_column(
        "product_order_item", sa.Column("expected_completion_date", sa.TIMESTAMP(timezone=True), nullable=True)
    )
    for table in ("promised_date_change", "product_order_amendment"):
        for statement in isolate(table):
            op.execute(statement)
