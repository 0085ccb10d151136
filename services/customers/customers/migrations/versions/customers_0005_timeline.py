"""What employees have to do about customers, and what was and will be said with them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR

from chassis.schema import isolate

revision = "customers_0005"
down_revision = "customers_0004"
branch_labels = None
depends_on = None

_UNDONE = sa.text("state IN ('open', 'inProgress')")

_SEARCHED = (
    "to_tsvector('russian'::regconfig, folded) || array_to_tsvector(numbers)"
    " || array_to_tsvector(ARRAY['branch' || md5(branch)])"
)
# With its owner's rights, which a policy lets read every branch: under the callers' policies no index of words may
# serve. It tells ids, and only of the branches that the transaction has named. The plan is made for each query, whose
# words decide which index is the best. Of very many the newest are ranked: a rank takes reading the whole row.
_SEARCH_INTERACTIONS = """
    CREATE FUNCTION search_interactions(
        wanted tsquery, customers text[], since timestamptz, until timestamptz, channels text[],
        after_rank float8, after_at timestamptz, after_id text, most int
    )
    RETURNS TABLE (interaction_id text, at timestamptz, rank float8)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DECLARE
        setting text := coalesce(current_setting('svyaz.branches', true), '');
        branches text[] := string_to_array(setting, ',');
        bounded tsquery := wanted;
    BEGIN
        IF setting = '' OR numnode(wanted) = 0 THEN
            RETURN;
        END IF;
        IF setting <> '*' THEN
            bounded := wanted && (
                SELECT string_agg('branch' || md5(branch), ' | ')::tsquery FROM unnest(branches) AS branch
            );
        END IF;
        RETURN QUERY EXECUTE $query$
            WITH newest AS MATERIALIZED (
                SELECT e.interaction_id, e.at, e.search FROM timeline_entry e
                WHERE e.search @@ $1 AND ($3 = '*' OR e.branch = ANY ($4))
                    AND ($5 IS NULL OR e.customer_id = ANY ($5))
                    AND ($6 IS NULL OR e.at >= $6) AND ($7 IS NULL OR e.at < $7)
                    AND ($8 IS NULL OR e.channel && $8)
                ORDER BY e.at DESC, e.interaction_id DESC LIMIT 10000
            ), ranked AS (
                SELECT newest.interaction_id, newest.at, ts_rank(newest.search, $2, 1)::float8 AS rank FROM newest
            )
            SELECT ranked.interaction_id, ranked.at, ranked.rank FROM ranked
            WHERE $9 IS NULL OR (ranked.rank, ranked.at, ranked.interaction_id) < ($9, $10, $11)
            ORDER BY ranked.rank DESC, ranked.at DESC, ranked.interaction_id DESC LIMIT $12
        $query$
        USING bounded, wanted, setting, branches, customers, since, until, channels, after_rank, after_at, after_id,
            most;
    END $$
"""


def upgrade() -> None:
    """Makes the tables and puts them under the policies of their branches."""
    op.create_table(
        "work_item",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("subject_id", sa.Text(), nullable=True),
        sa.Column("subject_type", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("assignee", sa.Text(), nullable=True),
        sa.Column("team", sa.Text(), nullable=True),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("priority", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("closed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("overdue", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("work_item_branch_id", "work_item", ["branch", "id"])
    op.create_index(
        "work_item_undone", "work_item", ["branch", "kind", "subject_id"], unique=True, postgresql_where=_UNDONE
    )
    op.create_index("work_item_undone_assignee", "work_item", ["branch", "assignee", "id"], postgresql_where=_UNDONE)
    op.create_index("work_item_undone_team", "work_item", ["branch", "team", "id"], postgresql_where=_UNDONE)
    op.create_index("work_item_customer_id", "work_item", ["customer_id", "branch"])
    op.create_index("work_item_subject_id", "work_item", ["subject_id", "branch"])
    op.create_table(
        "party_interaction",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("creation_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("direction", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("status_change_date", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("attachment", JSONB(), nullable=True),
        sa.Column("channel", JSONB(), nullable=True),
        sa.Column("interaction_date", JSONB(), nullable=True),
        sa.Column("interaction_item", JSONB(), nullable=True),
        sa.Column("interaction_relationship", JSONB(), nullable=True),
        sa.Column("note", JSONB(), nullable=True),
        sa.Column("related_party", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("party_interaction_branch_id", "party_interaction", ["branch", "id"])
    op.create_table(
        "timeline_entry",
        sa.Column("interaction_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("planned", sa.Boolean(), nullable=False),
        sa.Column("channel", ARRAY(sa.Text()), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("numbers", ARRAY(sa.Text()), nullable=False),
        sa.Column("search", TSVECTOR(), sa.Computed(_SEARCHED, persisted=True), nullable=True),
        sa.PrimaryKeyConstraint("interaction_id"),
    )
    op.create_index("timeline_entry_customer_id", "timeline_entry", ["customer_id", "planned", "at", "interaction_id"])
    op.create_index(
        "timeline_entry_of_nobody",
        "timeline_entry",
        ["branch", "planned", "at", "interaction_id"],
        postgresql_where=sa.text("customer_id IS NULL"),
    )
    op.create_index(
        "timeline_entry_owner",
        "timeline_entry",
        ["branch", "owner", "interaction_id"],
        postgresql_where=sa.text("planned"),
    )
    op.create_index("timeline_entry_search", "timeline_entry", ["search"], postgresql_using="gin")
    op.create_table(
        "customer_ownership",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("team", sa.Text(), nullable=True),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("customer_ownership_branch_id", "customer_ownership", ["branch", "id"])
    op.create_index("customer_ownership_customer_id", "customer_ownership", ["customer_id", "branch"], unique=True)
    op.create_index("customer_ownership_owner", "customer_ownership", ["branch", "owner", "id"])
    op.create_table(
        "absence",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("employee", sa.Text(), nullable=True),
        sa.Column("starts_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ends_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("substitute", sa.Text(), nullable=True),
        sa.Column("team", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("absence_branch_id", "absence", ["branch", "id"])
    op.create_index("absence_employee", "absence", ["branch", "employee", "starts_at"])
    op.create_index("absence_ends_at", "absence", ["branch", "ends_at"])
    op.create_table(
        "hand_over",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("from_employee", sa.Text(), nullable=True),
        sa.Column("to_employee", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("completed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("portfolio", sa.BigInteger(), nullable=True),
        sa.Column("work_items", sa.BigInteger(), nullable=True),
        sa.Column("planned_interactions", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("hand_over_branch_id", "hand_over", ["branch", "id"])
    op.create_index(
        "hand_over_running",
        "hand_over",
        ["branch", "from_employee"],
        unique=True,
        postgresql_where=sa.text("state = 'inProgress'"),
    )
    for table in ("work_item", "party_interaction", "timeline_entry", "customer_ownership", "absence", "hand_over"):
        for statement in isolate(table):
            op.execute(statement)
    op.execute("CREATE POLICY searched ON timeline_entry FOR SELECT TO CURRENT_USER USING (true)")
    op.execute(_SEARCH_INTERACTIONS)
