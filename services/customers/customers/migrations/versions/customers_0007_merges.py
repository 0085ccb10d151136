"""Customers and parties who are the same one."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "customers_0007"
down_revision = "customers_0006"
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
    op.create_table(
        "customer_merge",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("survivor_id", sa.Text(), nullable=True),
        sa.Column("absorbed_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("score", sa.Numeric(), nullable=True),
        sa.Column("merged_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("merged_by", sa.Text(), nullable=True),
        sa.Column("undone_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("undone_by", sa.Text(), nullable=True),
        sa.Column("undo_reason", sa.Text(), nullable=True),
        sa.Column("survivor_party_id", sa.Text(), nullable=True),
        sa.Column("absorbed_party_id", sa.Text(), nullable=True),
        sa.Column("member_id", JSONB(), nullable=True),
        sa.Column("parted_id", JSONB(), nullable=True),
        sa.Column("receipt", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("customer_merge_branch_id", "customer_merge", ["branch", "id"], unique=False)
    for column in ("survivor_id", "absorbed_id", "survivor_party_id", "absorbed_party_id"):
        op.create_index(f"customer_merge_{column}", "customer_merge", [column], unique=False)
    for statement in isolate("customer_merge"):
        op.execute(statement)
