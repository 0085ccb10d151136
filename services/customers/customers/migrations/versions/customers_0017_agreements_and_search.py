"""How many agreements have changed hands with everything else of an employee, and how little a search finds."""

import sqlalchemy as sa
from alembic import op

revision = "customers_0017"
down_revision = "customers_0012"
branch_labels = None
depends_on = None

# A page, not the thousand rows that PostgreSQL takes any function for: for so many it would read all entries.
_FEW = """
    ALTER FUNCTION search_interactions(
        tsquery, text[], timestamptz, timestamptz, text[], float8, timestamptz, text, int
    ) ROWS 20
"""


def upgrade() -> None:
    """Adds the column, nobody has been handed an agreement yet; tells the planner."""
    op.add_column("hand_over", sa.Column("agreements", sa.BigInteger(), nullable=True))
    op.execute(_FEW)
