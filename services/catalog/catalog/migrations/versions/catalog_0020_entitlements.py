"""Rules of who is entitled to a discount, and what a recommendation reminds of."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "catalog_0020"
down_revision = "catalog_0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table, common to all branches: no policies here; adds the column."""
    op.create_table(
        "discount_entitlement",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("last_update", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
        sa.Column("market_segment", JSONB(), nullable=True),
        sa.Column("product_offering", JSONB(), nullable=True),
        sa.Column("minimum_products", sa.BigInteger(), nullable=True),
        sa.Column("held_for", JSONB(), nullable=True),
        sa.Column("percentage", sa.Numeric(), nullable=True),
        sa.Column("promotion", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("discount_entitlement_branch_id", "discount_entitlement", ["branch", "id"], unique=False)
    op.add_column("query_product_recommendation", sa.Column("entitled_discount", JSONB(), nullable=True))
