"""Whose orders are: found without looking through all, to count a customer's."""

import sqlalchemy as sa
from alembic import op

revision = "orders_0005"
down_revision = "orders_0004"
branch_labels = None
depends_on = None

_CUSTOMER = (
    "coalesce("
    """jsonb_path_query_first(related_party, '$[*] ? (@.role like_regex "^customer$" flag "i").id') #>> '{}', """
    """jsonb_path_query_first(related_party, '$[*] ? (@.at_referred_type == "Customer").id') #>> '{}')"""
)


def upgrade() -> None:
    """Adds the column, which PostgreSQL fills, and its index."""
    op.add_column("product_order", sa.Column("customer_id", sa.Text(), sa.Computed(_CUSTOMER, persisted=True)))
    op.create_index("product_order_customer_id", "product_order", ["customer_id", "branch"])
