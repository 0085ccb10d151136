"""Customers and parties who are the same one."""

import sqlalchemy as sa
from alembic import op

from chassis.db import isolate

revision = "customers_0007"
down_revision = "customers_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables and puts them under the policies of branches."""
    for table in ("merged_customer", "merged_party"):
        op.create_table(
            table,
            sa.Column("absorbed_id", sa.Text(), nullable=False),
            sa.Column("branch", sa.Text(), nullable=False),
            sa.Column("into_id", sa.Text(), nullable=False),
            sa.Column("survivor_id", sa.Text(), nullable=False),
            sa.Column("merge_id", sa.Text(), nullable=False),
            sa.Column("merged_at", sa.TIMESTAMP(timezone=True), nullable=False),
            sa.PrimaryKeyConstraint("absorbed_id"),
        )
        op.create_index(f"{table}_survivor_id", table, ["survivor_id"], unique=False)
        op.create_index(f"{table}_merge_id", table, ["merge_id"], unique=False)
        for statement in isolate(table):
            op.execute(statement)
