"""Import and export jobs, their content and findings, and what the keys of other systems are here."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "catalog_0007"
down_revision = "catalog_0006"
branch_labels = None
depends_on = None

_INSTANT = sa.TIMESTAMP(timezone=True)


def _job(*columns: sa.Column[Any]) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("completion_date", _INSTANT, nullable=True),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("creation_date", _INSTANT, nullable=True),
        sa.Column("error_log", sa.Text(), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        *columns,
        sa.PrimaryKeyConstraint("id"),
    ]


def upgrade() -> None:
    """Makes the tables. The catalog is common to all branches: no policies here."""
    counts = (
        "total", "done", "created", "changed", "unchanged", "refused", "rules_resolved", "rules_reported", "rows_read",
    )  # fmt: skip
    op.create_table(
        "import_job",
        *_job(
            sa.Column("attachment", JSONB(), nullable=True),
            sa.Column("format", sa.Text(), nullable=True),
            sa.Column("source", sa.Text(), nullable=True),
            sa.Column("initial_status", sa.Text(), nullable=True),
            *(sa.Column(name, sa.BigInteger(), nullable=True) for name in counts),
            sa.Column("keeps_status", sa.Boolean(), nullable=True),
        ),
    )
    op.create_index("import_job_branch_id", "import_job", ["branch", "id"], unique=False)
    op.create_table(
        "export_job",
        *_job(
            sa.Column("query", sa.Text(), nullable=True),
            sa.Column("done", sa.BigInteger(), nullable=True),
            sa.Column("size", sa.BigInteger(), nullable=True),
            sa.Column("sha256", sa.Text(), nullable=True),
        ),
    )
    op.create_index("export_job_branch_id", "export_job", ["branch", "id"], unique=False)
    op.create_table(
        "transfer_content",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "position"),
    )
    op.create_table(
        "import_finding",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("kind", "code", "place", "element", "field", "reason")
        ),
        sa.PrimaryKeyConstraint("job_id", "position"),
    )
    op.create_table(
        "import_key",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source", "kind", "key"),
    )
    # Whoever may create a job, of whichever branch, sets its timer, which belongs to none.
    op.execute("CREATE POLICY transfer_insert ON timer FOR INSERT WITH CHECK (branch = '*')")
