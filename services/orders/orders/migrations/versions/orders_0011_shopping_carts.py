"""Shopping carts, and why they cost what they cost."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "orders_0011"
down_revision = "orders_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables and puts them under the policies of their branches."""
    op.create_table(
        "shopping_cart",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("cart_item", JSONB(), nullable=True),
        sa.Column("cart_total_price", JSONB(), nullable=True),
        sa.Column("contact_medium", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
        sa.Column("creation_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_update", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("billing_account", JSONB(), nullable=True),
        sa.Column("channel", JSONB(), nullable=True),
        sa.Column("coupon", JSONB(), nullable=True),
        sa.Column("price_valid_for", JSONB(), nullable=True),
        sa.Column("price_change", JSONB(), nullable=True),
        sa.Column("problem", JSONB(), nullable=True),
        sa.Column("product_order", JSONB(), nullable=True),
        sa.Column("merged_into", JSONB(), nullable=True),
        sa.Column("fixed_validity", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("shopping_cart_branch_id", "shopping_cart", ["branch", "id"])
    op.create_table(
        "cart_receipt",
        sa.Column("shopping_cart_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("shopping_cart_id"),
    )
    for table in ("shopping_cart", "cart_receipt"):
        for statement in isolate(table):
            op.execute(statement)
