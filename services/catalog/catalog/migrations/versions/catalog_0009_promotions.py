"""Promotions, coupons, and who has used which."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "catalog_0009"
down_revision = "catalog_0008"
branch_labels = None
depends_on = None

_WORDS = "'active', 'launched', 'release', 'released'"
_RELEASED = f"lower(regexp_replace(lifecycle_status, '[^A-Za-z]', '', 'g')) IN ({_WORDS})"


def upgrade() -> None:
    """Makes the tables. Promotions and coupons are common to all branches; their use is a branch's own."""
    op.create_table(
        "promotion",
        *_aggregate(),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("last_update", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lifecycle_status", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("promotion_type", sa.Text(), nullable=True),
        sa.Column("attachment", JSONB(), nullable=True),
        sa.Column("pattern", JSONB(), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
        sa.Column("priority", sa.BigInteger(), nullable=True),
        sa.Column("exclusive", sa.Boolean(), nullable=True),
        sa.Column("exclusion_group", sa.Text(), nullable=True),
        sa.Column("applies_to_discounted", sa.Boolean(), nullable=True),
        sa.Column("on_list_price", sa.Boolean(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("coupon_required", sa.Boolean(), nullable=True),
        sa.Column("edited_by", JSONB(), nullable=True),
        sa.Column("released", sa.Boolean(), sa.Computed(_RELEASED, persisted=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("promotion_branch_id", "promotion", ["branch", "id"], unique=False)
    op.create_index("promotion_released", "promotion", ["id"], unique=False, postgresql_where=sa.text("released"))
    op.create_table(
        "coupon",
        *_aggregate(),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("promotion", JSONB(), nullable=True),
        sa.Column("usage_limit", sa.BigInteger(), nullable=True),
        sa.Column("customer_usage_limit", sa.BigInteger(), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
        sa.Column("last_update", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("redeemed", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("coupon_branch_id", "coupon", ["branch", "id"], unique=False)
    op.create_index("coupon_code", "coupon", ["code"], unique=True)
    op.create_table(
        "coupon_redemption",
        *_aggregate(),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("coupon_id", sa.Text(), nullable=True),
        sa.Column("promotion_id", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("redeemed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("coupon_redemption_branch_id", "coupon_redemption", ["branch", "id"], unique=False)
    op.create_index("coupon_redemption_order_id", "coupon_redemption", ["order_id", "coupon_id"], unique=True)
    op.create_index("coupon_redemption_coupon_id", "coupon_redemption", ["coupon_id", "customer_id"], unique=False)
    for statement in isolate("coupon_redemption"):
        op.execute(statement)


def _aggregate() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
    ]
