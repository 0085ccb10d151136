"""What external systems say of tasks by events, and couldn't be accepted."""

import sqlalchemy as sa
from alembic import op

from chassis.schema import isolate

revision = "orders_0016"
down_revision = "orders_0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table and puts it under the policies of its branches."""
    op.create_table(
        "refused_fulfilment_report",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("system", sa.Text(), nullable=True),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=True),
        sa.Column("fulfilment_task_id", sa.Text(), nullable=True),
        sa.Column("product_order_id", sa.Text(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("field", sa.Text(), nullable=True),
        sa.Column("refused_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("refused_fulfilment_report_branch_id", "refused_fulfilment_report", ["branch", "id"])
    op.create_index("refused_fulfilment_report_task", "refused_fulfilment_report", ["fulfilment_task_id"])
    for statement in isolate("refused_fulfilment_report"):
        op.execute(statement)
