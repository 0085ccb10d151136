"""A qualification remembers what it was asked, whatever its answer shows of it; a recommendation says what it lacks."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "catalog_0015"
down_revision = "catalog_0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns; of a question of before what its answer shows is what it asks."""
    op.add_column("product_offering_qualification", sa.Column("asked_item", JSONB(), nullable=True))
    op.add_column("query_product_recommendation", sa.Column("information_required", JSONB(), nullable=True))
    # Those of all branches, past the policies, which hold for the owner too.
    op.execute("SELECT set_config('svyaz.branches', '*', true)")
    op.execute("UPDATE product_offering_qualification SET asked_item = product_offering_qualification_item")
