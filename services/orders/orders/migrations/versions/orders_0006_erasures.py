"""What was erased of a person."""

import sqlalchemy as sa
from alembic import op

from chassis.erasures import erasure_statements

revision = "orders_0006"
down_revision = "orders_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table of erased records, and lets the log be redacted by it; finds the cancellations of an order."""
    for statement in erasure_statements():
        op.execute(statement)
    op.add_column(
        "cancel_product_order",
        sa.Column("product_order_id", sa.Text(), sa.Computed("product_order ->> 'id'", persisted=True)),
    )
    op.create_index("cancel_product_order_product_order_id", "cancel_product_order", ["product_order_id"])
