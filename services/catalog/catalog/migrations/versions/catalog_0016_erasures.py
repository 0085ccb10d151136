"""What was erased of a person."""

from alembic import op

from chassis.erasures import erasure_statements

revision = "catalog_0016"
down_revision = "catalog_0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table of erased records, and lets the log be redacted by it."""
    for statement in erasure_statements():
        op.execute(statement)
