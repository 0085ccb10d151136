"""Compiled offers beside what they were compiled from; how far a family of tariffs is that is written by steps."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "catalog_0013"
down_revision = "catalog_0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables, empty: they fill by themselves. The catalog is common to all branches: no policies here."""
    op.create_table(
        "compiled_offer",
        sa.Column("id", sa.Text(), sa.ForeignKey("product_offering.id", ondelete="CASCADE"), nullable=False),
        sa.Column("compiler", sa.Text(), nullable=False),
        sa.Column("source", ARRAY(sa.Text()), nullable=False),
        sa.Column("source_revision", ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("part", ARRAY(sa.Text()), nullable=False),
        sa.Column("price_list", ARRAY(sa.Text()), nullable=False),
        sa.Column("tax_category", ARRAY(sa.Text()), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", "compiler"),
        comment="worked out of other tables: emptied by every upgrade that changes something",
    )
    op.create_index("compiled_offer_series", "compiled_offer", ["series"])
    op.create_table(
        "offer_compiler",
        sa.Column("compiler", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("compiler"),
    )
    op.create_table(
        "tariff_generation",
        sa.Column("template_id", sa.Text(), nullable=False),
        sa.Column("template_revision", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("template_id"),
    )
