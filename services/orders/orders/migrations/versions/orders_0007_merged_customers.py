"""Which customers and parties are the same, so that lists by one of their ids are of all."""

import sqlalchemy as sa
from alembic import op

from chassis.schema import isolate

revision = "orders_0007"
down_revision = "orders_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table; what was merged before is heard of as far as the stream goes back."""
    op.create_table(
        "merge_link",
        sa.Column("merge_id", sa.Text(), nullable=False),
        sa.Column("absorbed_id", sa.Text(), nullable=False),
        sa.Column("survivor_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("merge_id", "absorbed_id"),
    )
    op.create_index("merge_link_absorbed_id", "merge_link", ["absorbed_id"])
    op.create_index("merge_link_survivor_id", "merge_link", ["survivor_id"])
    for statement in isolate("merge_link"):
        op.execute(statement)
