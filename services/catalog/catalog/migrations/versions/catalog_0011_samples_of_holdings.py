"""What is held together is counted in a sample: a call looks at no more of a large base."""

import sqlalchemy as sa
from alembic import op

revision = "catalog_0011"
down_revision = "catalog_0010"
branch_labels = None
depends_on = None

# Numbers only, past the policies. All of a customer's products have one hash, so that they are in it together.
_HELD_TOGETHER = """
    CREATE FUNCTION held_together(offering_ids text[], fewest bigint, most bigint)
    RETURNS TABLE (
        product_offering_id text, other_id text, both_hold bigint, one_holds bigint, other_holds bigint,
        customers bigint
    )
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        WITH looked AS MATERIALIZED (
            SELECT h.customer_id, h.branch, h.product_offering_id FROM holding h
            WHERE h.live AND h.customer_id IS NOT NULL
            ORDER BY hashtext(h.customer_id), h.customer_id LIMIT most
        ), sample AS MATERIALIZED (
            SELECT DISTINCT l.customer_id, l.branch, l.product_offering_id FROM looked l
            WHERE l.product_offering_id IS NOT NULL
        ), holders AS MATERIALIZED (
            SELECT s.product_offering_id, count(DISTINCT s.customer_id) AS number FROM sample s GROUP BY 1
        ), pairs AS (
            SELECT mine.product_offering_id AS one, other.product_offering_id AS other,
                count(DISTINCT mine.customer_id) AS number
            FROM sample mine JOIN sample other ON other.customer_id = mine.customer_id AND other.branch = mine.branch
            WHERE mine.product_offering_id = ANY (offering_ids)
            GROUP BY 1, 2 HAVING count(DISTINCT mine.customer_id) >= greatest(fewest, 5)
        )
        SELECT pairs.one, pairs.other, pairs.number, mine.number, others.number,
            (SELECT count(DISTINCT l.customer_id) FROM looked l)
        FROM pairs JOIN holders mine ON mine.product_offering_id = pairs.one
        JOIN holders others ON others.product_offering_id = pairs.other
        ORDER BY pairs.number DESC, pairs.one, pairs.other
    $$
"""


def upgrade() -> None:
    """Replaces the functions that counted everything."""
    op.create_index(
        "holding_sample",
        "holding",
        [sa.text("hashtext(customer_id)"), "customer_id"],
        postgresql_where=sa.text("live AND customer_id IS NOT NULL"),
    )
    op.create_index(
        "holding_sample_of_offering",
        "holding",
        ["product_offering_id", sa.text("hashtext(id)")],
        postgresql_where=sa.text("live AND sold IS NOT NULL"),
    )
    op.execute("DROP FUNCTION co_holders(text[], bigint)")
    op.execute("DROP FUNCTION holding_customers()")
    op.execute(_HELD_TOGETHER)
