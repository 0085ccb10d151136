"""Points that were given back can be set aside for the same thing again, and several members' points together."""

import sqlalchemy as sa
from alembic import op

revision = "customers_0016"
down_revision = "customers_0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Leaves what was released or ran out of time out of the index by which something is paid for once."""
    op.drop_index("points_reservation_reference", "points_reservation")
    op.create_index(
        "points_reservation_reference",
        "points_reservation",
        ["member_id", "reference"],
        unique=True,
        postgresql_where=sa.text("state IN ('reserved', 'confirmed', 'refunded')"),
    )
    op.add_column("points_reservation", sa.Column("group_id", sa.Text(), nullable=True))
    op.create_index(
        "points_reservation_group_id",
        "points_reservation",
        ["group_id"],
        postgresql_where=sa.text("group_id IS NOT NULL"),
    )
