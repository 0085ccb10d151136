"""Who changed what is sold, and who approved it."""

import sqlalchemy as sa
from alembic import op

revision = "catalog_0006"
down_revision = "catalog_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table; like the catalog itself it is common to all branches."""
    op.create_table(
        "authorship",
        sa.Column("position", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("digest", sa.Text),
        sa.Column("note", sa.Text),
    )
    op.create_index("authorship_item", "authorship", ["item_id", "position"])
    # Whoever may change an offering may plan for it: its timers are as common as itself.
    op.execute("CREATE POLICY common_timer ON timer FOR ALL USING (branch = '*') WITH CHECK (branch = '*')")
