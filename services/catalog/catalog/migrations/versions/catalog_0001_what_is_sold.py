"""Specifications, offerings, prices, categories, catalogs and who refers to whom."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "catalog_0001"
down_revision = None
branch_labels = ("catalog",)
depends_on = "chassis_0001"


def upgrade() -> None:
    """Makes the tables. The catalog is common to all branches: no policies here."""
    op.create_table(
        "catalog",
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
        sa.Column("catalog_type", sa.Text(), nullable=True),
        sa.Column("category", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("catalog_branch_id", "catalog", ["branch", "id"], unique=False)
    op.create_table(
        "category",
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
        sa.Column("is_root", sa.Boolean(), nullable=True),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("product_offering", JSONB(), nullable=True),
        sa.Column("sub_category", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("category_branch_id", "category", ["branch", "id"], unique=False)
    op.create_table(
        "product_offering",
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
        sa.Column("is_bundle", sa.Boolean(), nullable=True),
        sa.Column("is_sellable", sa.Boolean(), nullable=True),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("agreement", JSONB(), nullable=True),
        sa.Column("attachment", JSONB(), nullable=True),
        sa.Column("bundled_product_offering", JSONB(), nullable=True),
        sa.Column("category", JSONB(), nullable=True),
        sa.Column("channel", JSONB(), nullable=True),
        sa.Column("market_segment", JSONB(), nullable=True),
        sa.Column("place", JSONB(), nullable=True),
        sa.Column("prod_spec_char_value_use", JSONB(), nullable=True),
        sa.Column("product_offering_price", JSONB(), nullable=True),
        sa.Column("product_offering_relationship", JSONB(), nullable=True),
        sa.Column("product_offering_term", JSONB(), nullable=True),
        sa.Column("product_specification", JSONB(), nullable=True),
        sa.Column("resource_candidate", JSONB(), nullable=True),
        sa.Column("service_candidate", JSONB(), nullable=True),
        sa.Column("service_level_agreement", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("product_offering_branch_id", "product_offering", ["branch", "id"], unique=False)
    op.create_table(
        "product_offering_price",
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
        sa.Column("is_bundle", sa.Boolean(), nullable=True),
        sa.Column("percentage", sa.Numeric(), nullable=True),
        sa.Column("price_type", sa.Text(), nullable=True),
        sa.Column("recurring_charge_period_length", sa.BigInteger(), nullable=True),
        sa.Column("recurring_charge_period_type", sa.Text(), nullable=True),
        sa.Column("bundled_pop_relationship", JSONB(), nullable=True),
        sa.Column("constraint", JSONB(), nullable=True),
        sa.Column("place", JSONB(), nullable=True),
        sa.Column("pop_relationship", JSONB(), nullable=True),
        sa.Column("price", JSONB(), nullable=True),
        sa.Column("pricing_logic_algorithm", JSONB(), nullable=True),
        sa.Column("prod_spec_char_value_use", JSONB(), nullable=True),
        sa.Column("product_offering_term", JSONB(), nullable=True),
        sa.Column("tax", JSONB(), nullable=True),
        sa.Column("unit_of_measure", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("product_offering_price_branch_id", "product_offering_price", ["branch", "id"], unique=False)
    op.create_table(
        "product_specification",
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
        sa.Column("brand", sa.Text(), nullable=True),
        sa.Column("is_bundle", sa.Boolean(), nullable=True),
        sa.Column("product_number", sa.Text(), nullable=True),
        sa.Column("attachment", JSONB(), nullable=True),
        sa.Column("bundled_product_specification", JSONB(), nullable=True),
        sa.Column("product_spec_characteristic", JSONB(), nullable=True),
        sa.Column("product_specification_relationship", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("resource_specification", JSONB(), nullable=True),
        sa.Column("service_specification", JSONB(), nullable=True),
        sa.Column("target_product_schema", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("product_specification_branch_id", "product_specification", ["branch", "id"], unique=False)
    op.create_table(
        "reference",
        sa.Column("referrer_id", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("referrer_type", sa.Text(), nullable=False),
        sa.Column("target_type", sa.Text(), nullable=False),
        sa.Column("part", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("referrer_id", "field", "target_id"),
    )
    op.create_index("reference_target_id", "reference", ["target_id", "target_type"], unique=False)
    # A manager of one branch changes what all branches sell: the role decides that, so the log takes what is common
    # from everybody whom the service lets write. (The chassis's own policy asks for a caller of every branch.)
    op.execute("CREATE POLICY common_insert ON event FOR INSERT WITH CHECK (branch = '*')")
