"""Who asked for a migration and who started it, and whether it charges one-time prices."""

import sqlalchemy as sa
from alembic import op

revision = "orders_0003"
down_revision = "orders_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns: the migrations that there are charged what they charged, and wait for nobody."""
    for name, kind in (
        ("charge_one_time", sa.Boolean()),
        ("requested_by", sa.Text()),
        ("approved_by", sa.Text()),
        ("awaits_approval", sa.Boolean()),
    ):
        op.add_column("product_migration", sa.Column(name, kind, nullable=True))
