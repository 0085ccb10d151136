"""Whom we may contact, how, when and what for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "customers_0008"
down_revision = "customers_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables and puts them under the policies of branches."""
    op.create_table(
        "contact_point",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("owner_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("state_evidence", sa.Text(), nullable=True),
        sa.Column("state_by", sa.Text(), nullable=True),
        sa.Column("state_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("usage", sa.Text(), nullable=True),
        sa.Column("purpose", JSONB(), nullable=True),
        sa.Column("best_time", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("contact_point_branch_id", "contact_point", ["branch", "id"], unique=False)
    op.create_index(
        "contact_point_missing",
        "contact_point",
        ["value"],
        unique=False,
        postgresql_where=sa.text("state = 'doesNotExist'"),
    )
    op.create_index("contact_point_owner_id", "contact_point", ["owner_id"], unique=False)
    op.create_table(
        "contact_consent",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.Column("purpose", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("text_version", sa.Text(), nullable=True),
        sa.Column("document", JSONB(), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=True),
        sa.Column("given_through", sa.Text(), nullable=True),
        sa.Column("given_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("valid_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("withdrawn_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("withdrawal_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("contact_consent_branch_id", "contact_consent", ["branch", "id"], unique=False)
    op.create_index("contact_consent_customer_id", "contact_consent", ["customer_id", "purpose"], unique=False)
    op.create_table(
        "contact_opt_out",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.Column("purpose", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=True),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lifted_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lift_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("contact_opt_out_branch_id", "contact_opt_out", ["branch", "id"], unique=False)
    op.create_index("contact_opt_out_customer_id", "contact_opt_out", ["customer_id"], unique=False)
    op.create_table(
        "do_not_call_entry",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("number", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lifted_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lift_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("do_not_call_entry_branch_id", "do_not_call_entry", ["branch", "id"], unique=False)
    op.create_index("do_not_call_entry_customer_id", "do_not_call_entry", ["customer_id"], unique=False)
    op.create_index("do_not_call_entry_number", "do_not_call_entry", ["number"], unique=False)
    op.create_table(
        "do_not_call_registry",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("edition", sa.Text(), nullable=True),
        sa.Column("complete_edition", sa.Text(), nullable=True),
        sa.Column("imported_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("do_not_call_registry_branch_id", "do_not_call_registry", ["branch", "id"], unique=False)
    op.create_index("do_not_call_registry_name", "do_not_call_registry", ["branch", "name"], unique=True)
    op.create_table(
        "do_not_call_number",
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("registry_id", sa.Text(), nullable=False),
        sa.Column("edition", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("branch", "number", "registry_id"),
    )
    op.create_index("do_not_call_number_registry_id", "do_not_call_number", ["registry_id", "edition"], unique=False)
    op.create_table(
        "permission_policy",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("effective_from", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("time_zone", JSONB(), nullable=True),
        sa.Column("region_zone", JSONB(), nullable=True),
        sa.Column("channel", JSONB(), nullable=True),
        sa.Column("purpose", JSONB(), nullable=True),
        sa.Column("quiet_hours", JSONB(), nullable=True),
        sa.Column("frequency_cap", JSONB(), nullable=True),
        sa.Column("reservation_seconds", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("permission_policy_branch_id", "permission_policy", ["branch", "id"], unique=False)
    op.create_index("permission_policy_version", "permission_policy", ["branch", "version"], unique=True)
    op.create_table(
        "contact_decision",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.Column("purpose", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("contact_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("closed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("medium_kind", sa.Text(), nullable=True),
        sa.Column("medium_value", sa.Text(), nullable=True),
        sa.Column("refusal", JSONB(), nullable=True),
        sa.Column("policy_id", sa.Text(), nullable=True),
        sa.Column("policy_version", sa.BigInteger(), nullable=True),
        sa.Column("receipt", JSONB(), nullable=True),
        sa.Column("spend_receipt", JSONB(), nullable=True),
        sa.Column("token_hash", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("contact_decision_branch_id", "contact_decision", ["branch", "id"], unique=False)
    op.create_index(
        "contact_decision_contacts",
        "contact_decision",
        ["customer_id", "contact_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('reserved', 'spent')"),
    )
    op.create_index("contact_decision_customer_id", "contact_decision", ["customer_id", "id"], unique=False)
    op.create_index("contact_decision_token_hash", "contact_decision", ["token_hash"], unique=True)
    for table in (
        "contact_point",
        "contact_consent",
        "contact_opt_out",
        "do_not_call_entry",
        "do_not_call_registry",
        "do_not_call_number",
        "permission_policy",
        "contact_decision",
    ):
        for statement in isolate(table):
            op.execute(statement)
