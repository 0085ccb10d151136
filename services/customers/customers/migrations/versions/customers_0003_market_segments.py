"""The segments that customers are in."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "customers_0003"
down_revision = "customers_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column, also to the stage of bulk loads: nobody is known to be in a segment yet."""
    for table in ("customer", "stage_customer"):
        op.add_column(table, sa.Column("market_segment", JSONB(), nullable=True))
