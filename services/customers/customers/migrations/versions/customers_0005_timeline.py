"""What employees have to do about customers."""

import sqlalchemy as sa
from alembic import op

from chassis.db import isolate

revision = "customers_0005"
down_revision = "customers_0004"
branch_labels = None
depends_on = None

_UNDONE = sa.text("state IN ('open', 'inProgress')")


def upgrade() -> None:
    """Makes the tables and puts them under the policies of their branches."""
    op.create_table(
        "work_item",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("subject_id", sa.Text(), nullable=True),
        sa.Column("subject_type", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("assignee", sa.Text(), nullable=True),
        sa.Column("team", sa.Text(), nullable=True),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("priority", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("closed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("overdue", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("work_item_branch_id", "work_item", ["branch", "id"])
    op.create_index(
        "work_item_undone", "work_item", ["branch", "kind", "subject_id"], unique=True, postgresql_where=_UNDONE
    )
    op.create_index("work_item_undone_assignee", "work_item", ["branch", "assignee", "id"], postgresql_where=_UNDONE)
    op.create_index("work_item_undone_team", "work_item", ["branch", "team", "id"], postgresql_where=_UNDONE)
    op.create_index("work_item_customer_id", "work_item", ["customer_id", "branch"])
    op.create_index("work_item_subject_id", "work_item", ["subject_id", "branch"])
    for table in ("work_item",):
        for statement in isolate(table):
            op.execute(statement)
