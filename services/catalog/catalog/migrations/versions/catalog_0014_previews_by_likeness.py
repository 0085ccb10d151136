"""Previews group all products in one pass, and price what is alike in several branches once: groups stand together by
their likeness, and a preview knows its last priced one."""

import sqlalchemy as sa
from alembic import op

revision = "catalog_0014"
down_revision = "catalog_0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Changes the columns and turns the index; groups of before aren't found by their likeness: a preview that is under
    way begins anew, one that is done says that it is outdated."""
    op.add_column("preview", sa.Column("priced", sa.Text(), nullable=True))
    op.add_column("preview", sa.Column("never_applied", sa.Text(), nullable=True))
    op.alter_column("preview", "grouped", type_=sa.Boolean(), postgresql_using="false")
    op.drop_column("preview", "pair")
    op.drop_column("preview", "after")
    op.execute("UPDATE preview SET digest = '' WHERE digest IS NOT NULL")
    op.drop_index("preview_group_unpriced", "preview_group")
    op.drop_index("preview_group_alike", "preview_group")
    op.create_index(
        "preview_group_alike", "preview_group", ["preview_id", "product_offering_id", "alike", "branch"], unique=True
    )
