"""Under which keys parties are found, and who may be one person."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import Xid8, isolate

revision = "customers_0006"
down_revision = "customers_0005"
branch_labels = None
depends_on = None


def _aggregate(name: str, *columns: sa.Column[object]) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        *columns,
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(f"{name}_branch_id", name, ["branch", "id"])


def upgrade() -> None:
    """Makes the tables. What is there already is filed by the service: each branch is left as one to be read."""
    op.create_table(
        "party_key",
        sa.Column("value", sa.Text(collation="C"), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("value", "kind", "branch", "party_id", "source_id"),
    )
    op.create_index("party_key_source_id", "party_key", ["source_id"])
    op.create_table(
        "stage_party_key",
        sa.Column("batch", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("value", sa.Text(collation="C"), nullable=True),
        sa.Column("kind", sa.SmallInteger(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("party_id", sa.Text(), nullable=True),
        sa.Column("source_id", sa.Text(), nullable=True),
        prefixes=["UNLOGGED"],
    )
    op.create_index("stage_party_key_batch", "stage_party_key", ["batch"])
    op.create_table(
        "name_word",
        sa.Column("filed", sa.Text(collation="C"), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("word", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint("filed", "branch", "word"),
    )
    op.create_table(
        "unindexed",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("source_id", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("left_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("unindexed_branch_left_at", "unindexed", ["branch", "left_at"])
    _aggregate(
        "duplicate_candidate",
        sa.Column("first_id", sa.Text(), nullable=True),
        sa.Column("second_id", sa.Text(), nullable=True),
        sa.Column("score", sa.Numeric(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("reason", JSONB(), nullable=True),
        sa.Column("found_by", sa.Text(), nullable=True),
        sa.Column("found_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
    )
    op.create_index("duplicate_candidate_pair", "duplicate_candidate", ["branch", "first_id", "second_id"], unique=True)
    op.create_index("duplicate_candidate_second_id", "duplicate_candidate", ["second_id"])
    op.create_index("duplicate_candidate_open", "duplicate_candidate", ["branch", "state", "score"])
    _aggregate(
        "duplicate_search",
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("threshold", sa.Numeric(), nullable=True),
        sa.Column("compared", sa.BigInteger(), nullable=True),
        sa.Column("found", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("model", JSONB(), nullable=True),
    )
    op.execute("SELECT set_config('svyaz.branches', '*', true)")
    # What is there already waits as if it had just come in bulk, in the same portions.
    op.execute("""
        INSERT INTO unindexed (id, branch, source_id, left_at)
        SELECT min(id), branch, array_agg(id ORDER BY id), now()
        FROM (
            SELECT id, branch, row_number() OVER (PARTITION BY branch ORDER BY id) / 5000 AS portion
            FROM (
                SELECT id, branch FROM individual UNION ALL SELECT id, branch FROM organization
                UNION ALL SELECT id, branch FROM customer
            ) AS party
        ) AS portioned
        GROUP BY branch, portion
    """)
    op.execute("""
        INSERT INTO timer (aggregate_id, purpose, due, generation, branch, attempts, not_before)
        SELECT id, 'index-parties', now(), 1, branch, 0, now() FROM unindexed
    """)
    for table in ("party_key", "name_word", "unindexed", "duplicate_candidate", "duplicate_search"):
        for statement in isolate(table):
            op.execute(statement)
