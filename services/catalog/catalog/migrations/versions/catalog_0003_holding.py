"""What customers hold, and the numbers that may be told of all branches."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from chassis.schema import isolate

revision = "catalog_0003"
down_revision = "catalog_0002"
branch_labels = None
depends_on = None

# Both run with their owner's rights, which a policy lets read every branch, and tell nothing but numbers.
_LIVE_HOLDERS = """
    CREATE FUNCTION live_holders(offering_ids text[])
    RETURNS TABLE (product_offering_id text, holders bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT h.product_offering_id, count(*) FROM holding h
        WHERE h.live AND h.product_offering_id = ANY (offering_ids)
        GROUP BY h.product_offering_id
    $$
"""
_CO_HOLDERS = """
    CREATE FUNCTION co_holders(offering_ids text[], fewest bigint)
    RETURNS TABLE (product_offering_id text, other_id text, customers bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT mine.product_offering_id, other.product_offering_id, count(DISTINCT mine.customer_id)
        FROM holding mine JOIN holding other ON other.customer_id = mine.customer_id AND other.branch = mine.branch
        WHERE mine.live AND other.live AND mine.product_offering_id = ANY (offering_ids)
            AND mine.customer_id IS NOT NULL AND other.product_offering_id IS NOT NULL
        GROUP BY mine.product_offering_id, other.product_offering_id
        HAVING count(DISTINCT mine.customer_id) >= greatest(fewest, 5)
        ORDER BY 3 DESC, 1, 2
    $$
"""


def upgrade() -> None:
    """Makes the table, under the policies of branches, and the functions that count past them."""
    op.create_table(
        "holding",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("billing_account_id", sa.Text(), nullable=True),
        sa.Column("product_offering_id", sa.Text(), nullable=True),
        sa.Column("product_specification_id", sa.Text(), nullable=True),
        sa.Column("bundle_id", sa.Text(), nullable=True),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("characteristic", JSONB(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("ordered_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("term", sa.Text(), nullable=False),
        sa.Column("place", ARRAY(sa.Text()), nullable=False),
        sa.Column("agreement_id", sa.Text(), nullable=True),
        sa.Column("market_segment", ARRAY(sa.Text()), nullable=False),
        sa.Column("sold", JSONB(), nullable=True),
        sa.Column("sold_durations", ARRAY(sa.Text()), nullable=False),
        sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "holding_live_product_offering_id",
        "holding",
        ["product_offering_id", "branch", "id"],
        unique=False,
        postgresql_where=sa.text("live"),
    )
    op.create_index(
        "holding_customer_id",
        "holding",
        ["customer_id", "branch"],
        unique=False,
        postgresql_where=sa.text("customer_id IS NOT NULL"),
    )
    op.create_index(
        "holding_bundle_id", "holding", ["bundle_id"], unique=False, postgresql_where=sa.text("bundle_id IS NOT NULL")
    )
    op.create_index("holding_seen_at", "holding", ["seen_at"], unique=False)
    for statement in isolate("holding"):
        op.execute(statement)
    op.execute("CREATE POLICY counted ON holding FOR SELECT TO CURRENT_USER USING (true)")
    op.execute(_LIVE_HOLDERS)
    op.execute(_CO_HOLDERS)
