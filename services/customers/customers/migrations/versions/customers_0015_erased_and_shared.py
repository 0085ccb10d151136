"""An erasure names what it has gone through, for the other services; contacts are also found by their medium."""

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
    op.create_index(
        "contact_decision_media",
        "contact_decision",
        ["medium_value", "contact_at"],
        postgresql_where=sa.text("state IN ('reserved', 'spent') AND medium_value IS NOT NULL"),
    )
    # Whose national numbers a branch writes is a setting of the service.
    op.drop_column("permission_policy", "region")
