"""What billing reports, models, and what customers are worth."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "customers_0009"
down_revision = "customers_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables and puts those with a branch under its policies."""
    op.create_table(
        "customer_product",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("offering_id", sa.Text(), nullable=True),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("customer_product_customer_id", "customer_product", ["customer_id"], unique=False)
    op.create_table(
        "customer_value",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("value_class", sa.Text(), nullable=True),
        sa.Column("previous_value_class", sa.Text(), nullable=True),
        sa.Column("class_changed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("class_receipt", JSONB(), nullable=True),
        sa.Column("churn", JSONB(), nullable=True),
        sa.Column("lifetime", JSONB(), nullable=True),
        sa.Column("profit_and_loss", JSONB(), nullable=True),
        sa.Column("account_standing", JSONB(), nullable=True),
        sa.Column("valued_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("customer_value_branch_id", "customer_value", ["branch", "id"], unique=False)
    op.create_table(
        "customer_worth",
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("value", sa.Numeric(), nullable=False),
        sa.Column("valued_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("customer_id", "unit"),
    )
    op.create_index("customer_worth_branch_unit_value", "customer_worth", ["branch", "unit", "value"], unique=False)
    op.create_table(
        "financial_line",
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("period_start", sa.Date(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("period_end", sa.Date(), nullable=False),
        sa.Column("revenue", JSONB(), nullable=True),
        sa.Column("cost", JSONB(), nullable=True),
        sa.Column("balance", sa.Numeric(), nullable=True),
        sa.Column("overdue", sa.Numeric(), nullable=True),
        sa.Column("overdue_days", sa.Integer(), nullable=True),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("reported_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("customer_id", "account_id", "unit", "period_start"),
    )
    op.create_index(
        "financial_line_branch_report_id_line", "financial_line", ["branch", "report_id", "line"], unique=True
    )
    op.create_table(
        "valuation_progress",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("valued", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_table(
        "valuation_run",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("repeat_days", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("valuation_run_branch_id", "valuation_run", ["branch", "id"], unique=False)
    op.create_table(
        "value_floor",
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("floor", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("branch", "policy", "position", "unit"),
    )
    op.create_table(
        "value_model",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("artefact_hash", sa.Text(), nullable=True),
        sa.Column("training_hash", sa.Text(), nullable=True),
        sa.Column("training_rows", sa.BigInteger(), nullable=True),
        sa.Column("horizon_days", sa.BigInteger(), nullable=True),
        sa.Column("feature", JSONB(), nullable=True),
        sa.Column("metric", JSONB(), nullable=True),
        sa.Column("library", JSONB(), nullable=True),
        sa.Column("registered_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("registered_by", sa.Text(), nullable=True),
        sa.Column("activated_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("activated_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "value_model_active",
        "value_model",
        ["branch", "kind"],
        unique=True,
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_index("value_model_branch_id", "value_model", ["branch", "id"], unique=False)
    op.create_table(
        "value_model_artefact",
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("model_id"),
    )
    op.create_table(
        "value_policy",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("discount_rate", sa.Numeric(), nullable=True),
        sa.Column("growth_rate", sa.Numeric(), nullable=True),
        sa.Column("horizon_months", sa.BigInteger(), nullable=True),
        sa.Column("recent_months", sa.BigInteger(), nullable=True),
        sa.Column("medium_churn", sa.Numeric(), nullable=True),
        sa.Column("high_churn", sa.Numeric(), nullable=True),
        sa.Column("class_rule", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("value_policy_branch", "value_policy", ["branch"], unique=True)
    op.create_index("value_policy_branch_id", "value_policy", ["branch", "id"], unique=False)
    for table in (
        "customer_product",
        "customer_value",
        "customer_worth",
        "financial_line",
        "valuation_progress",
        "valuation_run",
        "value_floor",
        "value_model",
        "value_model_artefact",
        "value_policy",
    ):
        for statement in isolate(table):
            op.execute(statement)
