"""Charge events and their chains."""

import sqlalchemy as sa
from alembic import op

from chassis.schema import isolate

revision = "billing_0001"
down_revision = None
branch_labels = ("billing",)
depends_on = "chassis_0001"


def upgrade() -> None:
    """Makes the tables and puts those with a branch under its policies."""
    op.execute(sa.schema.CreateSequence(sa.Sequence("charge_event_position")))
    op.create_table(
        "charge_event",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("branch", sa.Text, nullable=False),
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("draft", sa.Text),
        sa.Column("epoch", sa.Integer),
        sa.Column("sequence", sa.BigInteger),
        sa.Column("previous_hash", sa.Text),
        sa.Column("hash", sa.Text),
        sa.Column("data", sa.LargeBinary),
        sa.Column("position", sa.BigInteger),
        sa.Column("sent_at", sa.TIMESTAMP(timezone=True)),
        sa.CheckConstraint("(draft IS NULL) = (sequence IS NOT NULL)", name="charge_event_sealed_once"),
        sa.UniqueConstraint("account", "epoch", "sequence", name="charge_event_chain"),
    )
    op.create_index("charge_event_unsealed", "charge_event", ["id"], postgresql_where=sa.text("sequence IS NULL"))
    op.create_index(
        "charge_event_unsent",
        "charge_event",
        ["position"],
        unique=True,
        postgresql_where=sa.text("position IS NOT NULL AND sent_at IS NULL"),
    )
    op.create_index("charge_event_branch_day", "charge_event", ["branch", "occurred_at"])
    op.create_table(
        "billing_chain",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("branch", sa.Text, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("last_hash", sa.Text, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    for table in ("charge_event", "billing_chain"):
        for statement in isolate(table):
            op.execute(statement)
