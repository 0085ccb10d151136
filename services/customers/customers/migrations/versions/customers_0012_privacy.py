"""Who looked at whose records, archives of a person's data, and the erasure of a person."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.erasures import REDACTING
from chassis.schema import isolate

revision = "customers_0012"
down_revision = "customers_0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables, under the policies of branches, and the function that redacts events."""
    op.create_table(
        "access",
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("record_id", "at", "id"),
    )
    op.create_index("access_at", "access", ["at"], postgresql_using="brin")
    op.create_table(
        "erasure",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("party_id", sa.Text(), nullable=True),
        sa.Column("subject_id", JSONB(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("overridden", JSONB(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("completed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("record_count", sa.BigInteger(), nullable=True),
        sa.Column("event_count", sa.BigInteger(), nullable=True),
        sa.Column("version_count", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("erasure_branch_id", "erasure", ["branch", "id"])
    op.create_index("erasure_party_id", "erasure", ["party_id"], unique=True)
    op.create_table(
        "erased_record",
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("erasure_id", sa.Text(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("record_id"),
    )
    op.create_index("erased_record_undone", "erased_record", ["erasure_id"], postgresql_where=sa.text("NOT done"))
    op.create_table(
        "person_export",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("archive", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("person_export_party_id", "person_export", ["party_id"])
    op.create_index("person_export_expires_at", "person_export", ["expires_at"])
    for table in ("access", "erasure", "erased_record", "person_export"):
        for statement in isolate(table):
            op.execute(statement)
    op.execute(REDACTING)
