"""An erasure names what it has gone through, for the other services."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "customers_0015"
down_revision = "customers_0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column; tells a customer from what is worked out of him, which has his id."""
    op.drop_constraint("erased_record_pkey", "erased_record", type_="primary")
    op.create_primary_key("erased_record_pkey", "erased_record", ["record_id", "kind"])
    op.add_column("erasure", sa.Column("record", JSONB(), nullable=True))
