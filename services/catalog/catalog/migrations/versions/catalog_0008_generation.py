"""Tariff templates, and which offering each cell of a template's grid has become."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "catalog_0008"
down_revision = "catalog_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables. The catalog is common to all branches: no policies here."""
    op.create_table(
        "tariff_template",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("product_specification", JSONB(), nullable=True),
        sa.Column("category", JSONB(), nullable=True),
        sa.Column("channel", JSONB(), nullable=True),
        sa.Column("place", JSONB(), nullable=True),
        sa.Column("eligible_branch", JSONB(), nullable=True),
        sa.Column("axis", JSONB(), nullable=True),
        sa.Column("constant", JSONB(), nullable=True),
        sa.Column("price", JSONB(), nullable=True),
        sa.Column("exclusion", JSONB(), nullable=True),
        sa.Column("name_pattern", sa.Text(), nullable=True),
        sa.Column("description_pattern", sa.Text(), nullable=True),
        sa.Column("cell_limit", sa.BigInteger(), nullable=True),
        sa.Column("existing_subscribers", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tariff_template_branch_id", "tariff_template", ["branch", "id"], unique=False)
    op.create_table(
        "generated_offering",
        sa.Column("template_id", sa.Text(), nullable=False),
        sa.Column("cell", sa.Text(), nullable=False),
        sa.Column("offering_id", sa.Text(), nullable=False),
        sa.Column("price", JSONB(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("retirement_proposed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("template_id", "cell"),
    )
