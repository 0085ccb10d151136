"""How orders are fulfilled: specifications, tasks, and jobs of the manual queue."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "orders_0009"
down_revision = "orders_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables and puts them under the policies of their branches; a specification may be of all of them."""
    op.create_table(
        "fulfilment_specification",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("product_specification_id", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=True),
        sa.Column("task", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "fulfilment_task",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("product_order_id", sa.Text(), nullable=True),
        sa.Column("product_order_item_id", sa.Text(), nullable=True),
        sa.Column("order_item_id", sa.Text(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("system", sa.Text(), nullable=True),
        sa.Column("operation", sa.Text(), nullable=True),
        sa.Column("specification_id", sa.Text(), nullable=True),
        sa.Column("specification_version", sa.BigInteger(), nullable=True),
        sa.Column("specification", JSONB(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=True),
        sa.Column("first_attempt", sa.BigInteger(), nullable=True),
        sa.Column("depends_on", JSONB(), nullable=True),
        sa.Column("compensates", sa.Text(), nullable=True),
        sa.Column("assignee", sa.Text(), nullable=True),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("timeout_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("expected_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("undone_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("input", JSONB(), nullable=True),
        sa.Column("result", JSONB(), nullable=True),
        sa.Column("resource", JSONB(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("sent", sa.Boolean(), nullable=True),
        sa.Column("in_doubt", sa.Boolean(), nullable=True),
        sa.Column("jeopardy_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("generation", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "fulfilment_job",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("failure_threshold", sa.BigInteger(), nullable=True),
        sa.Column("assignee", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("forgiven", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "fulfilment_job_task",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "task_id"),
    )
    op.create_index("fulfilment_specification_branch_id", "fulfilment_specification", ["branch", "id"])
    op.create_index(
        "fulfilment_specification_of",
        "fulfilment_specification",
        [sa.text("coalesce(product_specification_id, '')"), "action", "branch"],
        unique=True,
    )
    op.create_index("fulfilment_task_branch_id", "fulfilment_task", ["branch", "id"])
    op.create_index("fulfilment_task_product_order_id", "fulfilment_task", ["product_order_id", "position"])
    op.create_index(
        "fulfilment_task_held",
        "fulfilment_task",
        ["branch", "system", "id"],
        postgresql_where=sa.text("state = 'held'"),
    )
    op.create_index("fulfilment_job_branch_id", "fulfilment_job", ["branch", "id"])
    op.create_index("fulfilment_job_task_state", "fulfilment_job_task", ["job_id", "state", "task_id"])
    for table in ("fulfilment_specification", "fulfilment_task", "fulfilment_job", "fulfilment_job_task"):
        for statement in isolate(table):
            op.execute(statement)
    op.add_column("product_order_item", sa.Column("failure", sa.Text(), nullable=True))
    op.add_column("product_order", sa.Column("jeopardy_date", sa.TIMESTAMP(timezone=True), nullable=True))
