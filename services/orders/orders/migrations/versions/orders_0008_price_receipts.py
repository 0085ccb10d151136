"""Why an order costs what it costs is told in the log too."""

import sqlalchemy as sa
from alembic import op

revision = "orders_0008"
down_revision = "orders_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Receipts that are there already keep their bytes; the log begins to tell of the next ones."""
    op.rename_table("order_receipt", "price_receipt")
    op.alter_column("price_receipt", "product_order_id", new_column_name="id")
    op.alter_column("price_receipt", "receipt", nullable=True)
    op.add_column("price_receipt", sa.Column("revision", sa.BigInteger(), nullable=False, server_default="0"))
    for name in ("at_type", "at_base_type", "at_schema_location", "digest"):
        op.add_column("price_receipt", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("price_receipt", sa.Column("extensions", sa.Text(), nullable=True))
    op.alter_column("price_receipt", "revision", server_default=None)
    op.execute("UPDATE price_receipt SET digest = encode(sha256(receipt), 'hex')")
    op.execute("ALTER INDEX order_receipt_pkey RENAME TO price_receipt_pkey")
    op.create_index("price_receipt_branch_id", "price_receipt", ["branch", "id"], unique=False)
