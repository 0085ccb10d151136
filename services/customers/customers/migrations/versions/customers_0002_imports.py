"""What has been imported, and the stages that bulk loads pass through."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import Xid8, isolate

revision = "customers_0002"
down_revision = "customers_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables; a stage needs no policy, since its rows never outlive their transaction."""
    op.create_table(
        "import_row",
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("imported_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("branch", "source", "line"),
    )
    op.create_index("import_row_branch_dataset_key_hash", "import_row", ["branch", "dataset", "key_hash"], unique=True)
    op.create_table(
        "stage_billing_account",
        sa.Column("batch", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("id", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("account_type", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("last_modified", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("account_balance", JSONB(), nullable=True),
        sa.Column("account_relationship", JSONB(), nullable=True),
        sa.Column("contact", JSONB(), nullable=True),
        sa.Column("credit_limit", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("tax_exemption", JSONB(), nullable=True),
        sa.Column("payment_status", sa.Text(), nullable=True),
        sa.Column("bill_structure", JSONB(), nullable=True),
        sa.Column("default_payment_method", JSONB(), nullable=True),
        sa.Column("financial_account", JSONB(), nullable=True),
        sa.Column("payment_plan", JSONB(), nullable=True),
        prefixes=["UNLOGGED"],
    )
    op.create_index("stage_billing_account_batch", "stage_billing_account", ["batch"], unique=False)
    op.create_table(
        "stage_customer",
        sa.Column("batch", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("id", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("account", JSONB(), nullable=True),
        sa.Column("agreement", JSONB(), nullable=True),
        sa.Column("characteristic", JSONB(), nullable=True),
        sa.Column("contact_medium", JSONB(), nullable=True),
        sa.Column("credit_profile", JSONB(), nullable=True),
        sa.Column("engaged_party", JSONB(), nullable=True),
        sa.Column("payment_method", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
        prefixes=["UNLOGGED"],
    )
    op.create_index("stage_customer_batch", "stage_customer", ["batch"], unique=False)
    op.create_table(
        "stage_event",
        sa.Column("batch", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("id", sa.Text(), nullable=True),
        sa.Column("time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column("aggregate_type", sa.Text(), nullable=True),
        sa.Column("aggregate_id", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("on_behalf_of", sa.Text(), nullable=True),
        sa.Column("schema_revision", sa.Integer(), nullable=True),
        sa.Column("data_type", sa.Text(), nullable=True),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        sa.Column("ordering_key", sa.Text(), nullable=True),
        sa.Column("partition", sa.SmallInteger(), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        prefixes=["UNLOGGED"],
    )
    op.create_index("stage_event_batch", "stage_event", ["batch"], unique=False)
    op.create_table(
        "stage_individual",
        sa.Column("batch", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("id", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("aristocratic_title", sa.Text(), nullable=True),
        sa.Column("birth_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("country_of_birth", sa.Text(), nullable=True),
        sa.Column("death_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("family_name", sa.Text(), nullable=True),
        sa.Column("family_name_prefix", sa.Text(), nullable=True),
        sa.Column("formatted_name", sa.Text(), nullable=True),
        sa.Column("full_name", sa.Text(), nullable=True),
        sa.Column("gender", sa.Text(), nullable=True),
        sa.Column("generation", sa.Text(), nullable=True),
        sa.Column("given_name", sa.Text(), nullable=True),
        sa.Column("legal_name", sa.Text(), nullable=True),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("marital_status", sa.Text(), nullable=True),
        sa.Column("middle_name", sa.Text(), nullable=True),
        sa.Column("nationality", sa.Text(), nullable=True),
        sa.Column("place_of_birth", sa.Text(), nullable=True),
        sa.Column("preferred_given_name", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("contact_medium", JSONB(), nullable=True),
        sa.Column("credit_rating", JSONB(), nullable=True),
        sa.Column("disability", JSONB(), nullable=True),
        sa.Column("external_reference", JSONB(), nullable=True),
        sa.Column("individual_identification", JSONB(), nullable=True),
        sa.Column("language_ability", JSONB(), nullable=True),
        sa.Column("other_name", JSONB(), nullable=True),
        sa.Column("party_characteristic", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("skill", JSONB(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("tax_exemption_certificate", JSONB(), nullable=True),
        prefixes=["UNLOGGED"],
    )
    op.create_index("stage_individual_batch", "stage_individual", ["batch"], unique=False)
    op.create_table(
        "stage_organization",
        sa.Column("batch", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("id", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("is_head_office", sa.Boolean(), nullable=True),
        sa.Column("is_legal_entity", sa.Boolean(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("name_type", sa.Text(), nullable=True),
        sa.Column("organization_type", sa.Text(), nullable=True),
        sa.Column("trading_name", sa.Text(), nullable=True),
        sa.Column("contact_medium", JSONB(), nullable=True),
        sa.Column("credit_rating", JSONB(), nullable=True),
        sa.Column("exists_during", JSONB(), nullable=True),
        sa.Column("external_reference", JSONB(), nullable=True),
        sa.Column("organization_child_relationship", JSONB(), nullable=True),
        sa.Column("organization_identification", JSONB(), nullable=True),
        sa.Column("organization_parent_relationship", JSONB(), nullable=True),
        sa.Column("other_name", JSONB(), nullable=True),
        sa.Column("party_characteristic", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("tax_exemption_certificate", JSONB(), nullable=True),
        prefixes=["UNLOGGED"],
    )
    op.create_index("stage_organization_batch", "stage_organization", ["batch"], unique=False)
    op.create_table(
        "stage_reference",
        sa.Column("batch", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=True),
        sa.Column("referrer_id", sa.Text(), nullable=True),
        sa.Column("referrer_type", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        prefixes=["UNLOGGED"],
    )
    op.create_index("stage_reference_batch", "stage_reference", ["batch"], unique=False)
    for statement in isolate("import_row"):
        op.execute(statement)
