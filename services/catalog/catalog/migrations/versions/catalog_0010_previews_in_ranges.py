"""How far a preview is within an offering and branch, by what it groups, and how often it has failed."""

import sqlalchemy as sa
from alembic import op

revision = "catalog_0010"
down_revision = "catalog_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns; a preview that is under way begins anew, since it isn't known by what it grouped."""
    op.add_column("preview", sa.Column("after", sa.Text(), nullable=False, server_default=""))
    op.add_column("preview", sa.Column("looks", sa.Text(), nullable=True))
    op.add_column("preview", sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"))
    for name in ("after", "attempts"):
        op.alter_column("preview", name, server_default=None)
    op.execute("UPDATE preview SET digest = NULL")
