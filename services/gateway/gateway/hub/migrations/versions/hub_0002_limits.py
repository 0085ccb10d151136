"""Subscriptions lose events when too many wait, and are deleted before what waits for them."""

import sqlalchemy as sa
from alembic import op

from chassis.schema import isolate

revision = "hub_0002"
down_revision = "hub_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Unties what waits from its subscription."""
    op.add_column("subscription", sa.Column("lost_since", sa.TIMESTAMP(timezone=True), nullable=True))
    for table in ("lane", "delivery"):
        op.drop_constraint(f"{table}_subscription_id_fkey", table, type_="foreignkey")
    op.create_table(
        "forgotten",
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subscription_id"),
    )
    for statement in isolate("forgotten"):
        op.execute(statement)
