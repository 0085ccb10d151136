"""Product orders, their items and cancellations, and the products that they create."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "orders_0001"
down_revision = None
branch_labels = ("orders",)
depends_on = "chassis_0001"


def upgrade() -> None:
    """Makes the tables and puts those with a branch under its policies."""
    op.create_table(
        "cancel_product_order",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("cancellation_reason", sa.Text(), nullable=True),
        sa.Column("effective_cancellation_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("requested_cancellation_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("product_order", JSONB(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("cancel_product_order_branch_id", "cancel_product_order", ["branch", "id"], unique=False)
    op.create_table(
        "order_receipt",
        sa.Column("product_order_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("product_order_id"),
    )
    op.create_table(
        "order_wait",
        sa.Column("product_order_id", sa.Text(), nullable=False),
        sa.Column("awaited", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("product_order_id", "awaited"),
    )
    op.create_index("order_wait_awaited", "order_wait", ["awaited"], unique=False)
    op.create_table(
        "product",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("is_bundle", sa.Boolean(), nullable=True),
        sa.Column("is_customer_visible", sa.Boolean(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("order_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("product_serial_number", sa.Text(), nullable=True),
        sa.Column("start_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("termination_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("agreement", JSONB(), nullable=True),
        sa.Column("billing_account", JSONB(), nullable=True),
        sa.Column("place", JSONB(), nullable=True),
        sa.Column("product", JSONB(), nullable=True),
        sa.Column("product_characteristic", JSONB(), nullable=True),
        sa.Column("product_offering", JSONB(), nullable=True),
        sa.Column("product_order_item", JSONB(), nullable=True),
        sa.Column("product_price", JSONB(), nullable=True),
        sa.Column("product_relationship", JSONB(), nullable=True),
        sa.Column("product_specification", JSONB(), nullable=True),
        sa.Column("product_term", JSONB(), nullable=True),
        sa.Column("realizing_resource", JSONB(), nullable=True),
        sa.Column("realizing_service", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("product_branch_id", "product", ["branch", "id"], unique=False)
    op.create_table(
        "product_order",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("cancellation_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("cancellation_reason", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("completion_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("expected_completion_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("notification_contact", sa.Text(), nullable=True),
        sa.Column("order_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("priority", sa.Text(), nullable=True),
        sa.Column("requested_completion_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("requested_start_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("agreement", JSONB(), nullable=True),
        sa.Column("billing_account", JSONB(), nullable=True),
        sa.Column("channel", JSONB(), nullable=True),
        sa.Column("note", JSONB(), nullable=True),
        sa.Column("order_total_price", JSONB(), nullable=True),
        sa.Column("payment", JSONB(), nullable=True),
        sa.Column("product_offering_qualification", JSONB(), nullable=True),
        sa.Column("quote", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("product_order_branch_id", "product_order", ["branch", "id"], unique=False)
    op.create_table(
        "product_order_item",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("product_order_id", sa.Text(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("product_id", sa.Text(), nullable=True),
        sa.Column("item", JSONB(), nullable=True),
        sa.Column("charge", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("product_order_item_branch_id", "product_order_item", ["branch", "id"], unique=False)
    op.create_index(
        "product_order_item_product_order_id", "product_order_item", ["product_order_id", "position"], unique=False
    )
    for table in (
        "product_order",
        "product_order_item",
        "cancel_product_order",
        "order_wait",
        "order_receipt",
        "product",
    ):
        for statement in isolate(table):
            op.execute(statement)
