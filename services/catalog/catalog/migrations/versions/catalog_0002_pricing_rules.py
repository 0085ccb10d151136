"""Price lists and tax rates; versions of a series and the prices of a price list are found by their columns."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "catalog_0002"
down_revision = "catalog_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables. They are common to all branches, as the catalog is: no policies here."""
    op.create_table(
        "price_list",
        *_columns(),
        sa.Column("agreement", JSONB(), nullable=True),
        sa.Column("market_segment", JSONB(), nullable=True),
        sa.Column("customer_branch", JSONB(), nullable=True),
        sa.Column("priority", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("price_list_branch_id", "price_list", ["branch", "id"], unique=False)
    op.create_table(
        "tax_rate",
        *_columns(),
        sa.Column("tax_category", sa.Text(), nullable=True),
        sa.Column("place", sa.Text(), nullable=True),
        sa.Column("rate", sa.Numeric(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tax_rate_branch_id", "tax_rate", ["branch", "id"], unique=False)
    op.create_index("tax_rate_category", "tax_rate", ["tax_category"], unique=False)
    op.create_index("product_offering_series", "product_offering", ["series"], unique=False)
    op.create_index("product_offering_price_price_list", "product_offering_price", ["price_list"], unique=False)


def _columns() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("last_update", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lifecycle_status", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
    ]
