"""Qualifications and recommendations, and the number of customers that holdings are compared with."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "catalog_0005"
down_revision = "catalog_0004"
branch_labels = None
depends_on = None

# A number is all that one learns of other branches.
_CUSTOMERS = """
    CREATE FUNCTION holding_customers() RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT count(DISTINCT customer_id) FROM holding WHERE customer_id IS NOT NULL
    $$
"""


def upgrade() -> None:
    """Makes the tables and puts them under the policies of branches."""
    op.create_table(
        "product_offering_qualification",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("effective_qualification_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("expected_poq_completion_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("expiration_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("instant_sync_qualification", sa.Boolean(), nullable=True),
        sa.Column("product_offering_qualification_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("provide_alternative", sa.Boolean(), nullable=True),
        sa.Column("provide_only_available", sa.Boolean(), nullable=True),
        sa.Column("provide_unavailability_reason", sa.Boolean(), nullable=True),
        sa.Column("qualification_result", sa.Text(), nullable=True),
        sa.Column("requested_poq_completion_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("category", JSONB(), nullable=True),
        sa.Column("channel", JSONB(), nullable=True),
        sa.Column("note", JSONB(), nullable=True),
        sa.Column("place", JSONB(), nullable=True),
        sa.Column("product_offering_qualification_item", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("market_segment", JSONB(), nullable=True),
        sa.Column("receipt", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "product_offering_qualification_branch_id", "product_offering_qualification", ["branch", "id"], unique=False
    )
    op.create_table(
        "query_product_recommendation",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("instant_sync_recommendation", sa.Boolean(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("recommendation_type", sa.Text(), nullable=True),
        sa.Column("category", JSONB(), nullable=True),
        sa.Column("channel", JSONB(), nullable=True),
        sa.Column("place", JSONB(), nullable=True),
        sa.Column("product_order", JSONB(), nullable=True),
        sa.Column("product_order_item", JSONB(), nullable=True),
        sa.Column("recommendation_item", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("shopping_cart", JSONB(), nullable=True),
        sa.Column("shopping_cart_item", JSONB(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
        sa.Column("market_segment", JSONB(), nullable=True),
        sa.Column("usage", JSONB(), nullable=True),
        sa.Column("receipt", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "query_product_recommendation_branch_id", "query_product_recommendation", ["branch", "id"], unique=False
    )
    for table in ("product_offering_qualification", "query_product_recommendation"):
        for statement in isolate(table):
            op.execute(statement)
    op.execute(_CUSTOMERS)
