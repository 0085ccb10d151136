"""Roles, agreements and documents, what lies above and below organizations, and what is in documents."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "customers_0004"
down_revision = "customers_0003"
branch_labels = None
depends_on = None

# What organizations and customers that are there already say of each other and of their agreements.
_LINKS = """
    INSERT INTO organization_link (stated_by, parent_id, child_id, branch, relationship_type)
    SELECT id, organization_parent_relationship -> 'organization' ->> 'id', id, branch,
        organization_parent_relationship ->> 'relationship_type'
    FROM organization WHERE organization_parent_relationship -> 'organization' ->> 'id' <> ''
    UNION ALL
    SELECT id, id, child -> 'organization' ->> 'id', branch, child ->> 'relationship_type'
    FROM organization, jsonb_array_elements(organization_child_relationship) AS child
    WHERE child -> 'organization' ->> 'id' <> ''
    ON CONFLICT DO NOTHING
"""
_AGREEMENTS = """
    INSERT INTO reference (target_id, referrer_id, referrer_type, branch)
    SELECT agreed ->> 'id', id, 'Customer', branch
    FROM customer, jsonb_array_elements(agreement) AS agreed WHERE agreed ->> 'id' <> ''
    ON CONFLICT DO NOTHING
"""


def upgrade() -> None:
    """Makes the tables, puts them under the policies of branches, and fills in what is known already."""
    op.create_table(
        "organization_link",
        sa.Column("stated_by", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=False),
        sa.Column("child_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("relationship_type", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("stated_by", "parent_id", "child_id"),
    )
    op.create_index("organization_link_child_id", "organization_link", ["child_id"], unique=False)
    op.create_index("organization_link_parent_id", "organization_link", ["parent_id"], unique=False)
    op.create_table(
        "party_role",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
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
        sa.Column("kind", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("party_role_branch_id", "party_role", ["branch", "id"], unique=False)
    op.create_index("party_role_branch_kind", "party_role", ["branch", "kind"], unique=False)
    op.create_table(
        "agreement",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("agreement_type", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("document_number", sa.BigInteger(), nullable=True),
        sa.Column("initial_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("statement_of_intent", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("agreement_authorization", JSONB(), nullable=True),
        sa.Column("agreement_item", JSONB(), nullable=True),
        sa.Column("agreement_period", JSONB(), nullable=True),
        sa.Column("agreement_specification", JSONB(), nullable=True),
        sa.Column("associated_agreement", JSONB(), nullable=True),
        sa.Column("characteristic", JSONB(), nullable=True),
        sa.Column("completion_date", JSONB(), nullable=True),
        sa.Column("engaged_party", JSONB(), nullable=True),
        sa.Column("end_date", sa.Text(), nullable=True),
        sa.Column("expiry_notice_given", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("agreement_branch_id", "agreement", ["branch", "id"], unique=False)
    op.create_table(
        "agreement_specification",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("is_bundle", sa.Boolean(), nullable=True),
        sa.Column("last_update", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lifecycle_status", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("attachment", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("service_category", JSONB(), nullable=True),
        sa.Column("specification_characteristic", JSONB(), nullable=True),
        sa.Column("specification_relationship", JSONB(), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
        sa.Column("expiry_notice_days", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("agreement_specification_branch_id", "agreement_specification", ["branch", "id"], unique=False)
    op.create_table(
        "document",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("creation_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("document_type", sa.Text(), nullable=True),
        sa.Column("last_update", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("attachment", JSONB(), nullable=True),
        sa.Column("category", JSONB(), nullable=True),
        sa.Column("characteristic", JSONB(), nullable=True),
        sa.Column("document", JSONB(), nullable=True),
        sa.Column("document_specification", JSONB(), nullable=True),
        sa.Column("external_identifier", JSONB(), nullable=True),
        sa.Column("related_entity", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("document_branch_id", "document", ["branch", "id"], unique=False)
    op.create_table(
        "document_specification",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("is_bundle", sa.Boolean(), nullable=True),
        sa.Column("last_update", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("attachment", JSONB(), nullable=True),
        sa.Column("constraint", JSONB(), nullable=True),
        sa.Column("entity_spec_relationship", JSONB(), nullable=True),
        sa.Column("lifecycle_status", sa.Text(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("spec_characteristic", JSONB(), nullable=True),
        sa.Column("target_entity_schema", JSONB(), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("document_specification_branch_id", "document_specification", ["branch", "id"], unique=False)
    op.create_table(
        "kept_content",
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("block_hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("branch", "content_hash"),
    )
    op.create_table(
        "content_use",
        sa.Column("document_id", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("document_id", "content_hash"),
    )
    op.create_index("content_use_branch_content_hash", "content_use", ["branch", "content_hash"], unique=False)
    op.create_table(
        "content_upload",
        sa.Column("upload_key", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("upload_key", "position"),
    )

    for table in (
        "organization_link",
        "party_role",
        "agreement",
        "agreement_specification",
        "document",
        "document_specification",
        "kept_content",
        "content_use",
        "content_upload",
    ):
        for statement in isolate(table):
            op.execute(statement)
    # The owner is under the policies too.
    op.execute("SELECT set_config('svyaz.branches', '*', true)")
    op.execute(_LINKS)
    op.execute(_AGREEMENTS)
