"""How many agreements have changed hands with everything else of an employee."""

import sqlalchemy as sa
from alembic import op

revision = "customers_0017"
down_revision = "customers_0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column: nobody has been handed an agreement yet."""
    op.add_column("hand_over", sa.Column("agreements", sa.BigInteger(), nullable=True))
