"""Why products are suspended and what that costs; products and orders found by whose they are, status and offering."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate
from orders.identity import relations

revision = "orders_0014"
down_revision = "orders_0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns, indexes and tables. What is suspended already is so by its subscriber's wish; migrations that
    there are have counted nothing yet: they are counted once."""
    op.add_column("product", sa.Column("suspension", JSONB(), nullable=True))
    op.add_column("product", sa.Column("status_order_id", sa.Text(), nullable=True))
    op.add_column("product", sa.Column("resting_price", JSONB(), nullable=True))
    op.add_column("product", sa.Column("termination_order_id", sa.Text(), nullable=True))
    op.add_column(
        "product",
        sa.Column("product_offering_id", sa.Text(), sa.Computed("product_offering ->> 'id'", persisted=True)),
    )
    op.execute("SELECT set_config('svyaz.branches', '*', true)")
    op.execute("""UPDATE product SET suspension = '[{"reason": "voluntary"}]' WHERE status = 'suspended'""")
    op.create_index("product_product_offering_id", "product", ["product_offering_id", "id"])
    op.create_index("product_status", "product", ["branch", "status", "id"])
    for table in ("product", "product_order"):
        for statement in relations.statements(table):
            op.execute(statement)
    op.create_table(
        "suspension_rule",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("product_offering_id", sa.Text(), nullable=True),
        sa.Column("product_offering_price_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("charged", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("suspension_rule_branch_id", "suspension_rule", ["branch", "id"])
    op.add_column("product_migration", sa.Column("most_failures", sa.BigInteger(), nullable=True))
    op.add_column(
        "migration_scan", sa.Column("looked_through", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.alter_column("migration_scan", "looked_through", server_default=None)
    op.create_table(
        "migration_progress",
        sa.Column("migration_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("migration_id", "branch", "state"),
    )
    op.create_table(
        "migration_pace",
        sa.Column("migration_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.Column("per_second", sa.Float(), nullable=True),
        sa.Column("failures_known", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("migration_id"),
    )
    op.create_index(
        "migrated_product_waiting",
        "migrated_product",
        ["migration_id", "product_id"],
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index(
        "migrated_product_ordered",
        "migrated_product",
        ["migration_id"],
        postgresql_where=sa.text("state = 'ordered'"),
    )
    op.execute(
        "INSERT INTO migration_progress (migration_id, branch, state, count)"
        " SELECT migration_id, branch, state, count(*) FROM migrated_product GROUP BY 1, 2, 3"
    )
    for table in ("suspension_rule", "migration_progress", "migration_pace"):
        for statement in isolate(table):
            op.execute(statement)
