"""The 360° view: every version of what is known about a customer."""

import sqlalchemy as sa
from alembic import op

from chassis.schema import isolate

revision = "customers_0011"
down_revision = "customers_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table, under the policies of branches."""
    op.create_table(
        "view_item",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("replaced_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("refers", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", "item_id", "version", "subject_id"),
    )
    op.create_index(
        "view_item_latest",
        "view_item",
        ["subject_id", "kind", "open", "since", "item_id"],
        unique=False,
        postgresql_where=sa.text("replaced_at IS NULL AND NOT deleted"),
    )
    op.create_index("view_item_subject_id", "view_item", ["subject_id", "kind", "recorded_at"], unique=False)
    op.create_index("view_item_seen_at", "view_item", ["seen_at"], unique=False)
    for statement in isolate("view_item"):
        op.execute(statement)
