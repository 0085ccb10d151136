"""Coupons of orders, the orders that are being taken with some, and what taking an order has put into its items."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "orders_0004"
down_revision = "orders_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns and the table; orders that are there have no coupons, and items as they were sent."""
    op.add_column("product_order", sa.Column("coupon", JSONB(), nullable=True))
    op.add_column("product_order_item", sa.Column("captured", JSONB(), nullable=True))
    op.create_table(
        "coupon_promise",
        sa.Column("product_order_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("product_order_id"),
    )
    op.create_index("coupon_promise_request_hash", "coupon_promise", ["request_hash"], unique=True)
    for statement in isolate("coupon_promise"):
        op.execute(statement)
