"""Subscriptions, and what waits to be delivered to them."""

import sqlalchemy as sa
from alembic import op

from chassis.schema import isolate

revision = "hub_0001"
down_revision = None
branch_labels = ("hub",)
depends_on = "chassis_0001"


def upgrade() -> None:
    """Makes the tables and puts them under the branches' policies."""
    op.create_table(
        "subscription",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("api", sa.Text(), nullable=True),
        sa.Column("callback", sa.Text(), nullable=True),
        sa.Column("query", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("suspended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("dropped_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("signing_secret", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("subscription_branch_id", "subscription", ["branch", "id"], unique=False)
    op.create_index("subscription_api_branch", "subscription", ["api", "branch"], unique=False)
    op.create_table(
        "lane",
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("waiting", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("claim", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failing_since", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["subscription_id"], ["subscription.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("subscription_id", "key"),
    )
    op.create_index("lane_subscription_id_not_before", "lane", ["subscription_id", "not_before"], unique=False)
    op.create_table(
        "delivery",
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("event_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["subscription_id"], ["subscription.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("position"),
    )
    op.create_index(
        "delivery_subscription_id_key_position", "delivery", ["subscription_id", "key", "position"], unique=False
    )
    op.create_index("delivery_subscription_id_event_time", "delivery", ["subscription_id", "event_time"], unique=False)
    for table in ("subscription", "lane", "delivery"):
        for statement in isolate(table):
            op.execute(statement)
