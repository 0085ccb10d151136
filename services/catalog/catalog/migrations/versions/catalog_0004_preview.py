"""What a change would come to for those who hold what is changed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from chassis.schema import isolate

revision = "catalog_0004"
down_revision = "catalog_0003"
branch_labels = None
depends_on = None

_INSTANT = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    """Makes the tables; what was found in a branch is under its policies, what was proposed is common."""
    op.create_table(
        "preview",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("branches", ARRAY(sa.Text()), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ended_at", _INSTANT, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("pair", sa.Text(), nullable=True),
        sa.Column("grouped", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "preview_group",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("preview_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("product_offering_id", sa.Text(), nullable=False),
        sa.Column("alike", sa.Text(), nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("started_at", _INSTANT, nullable=True),
        sa.Column("ordered_at", _INSTANT, nullable=True),
        sa.Column("products", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "preview_group_alike", "preview_group", ["preview_id", "product_offering_id", "branch", "alike"], unique=True
    )
    op.create_index(
        "preview_group_unpriced",
        "preview_group",
        ["preview_id", "id"],
        unique=False,
        postgresql_where=sa.text("outcome IS NULL"),
    )
    op.create_table(
        "preview_difference",
        sa.Column("group_id", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("preview_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("products", sa.BigInteger(), nullable=False),
        sa.Column("before_net", sa.Numeric(), nullable=False),
        sa.Column("before_gross", sa.Numeric(), nullable=False),
        sa.Column("after_net", sa.Numeric(), nullable=False),
        sa.Column("after_gross", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("group_id", "currency", "period"),
    )
    op.create_index("preview_difference_preview_id", "preview_difference", ["preview_id"], unique=False)
    for table in ("preview_group", "preview_difference"):
        for statement in isolate(table):
            op.execute(statement)
