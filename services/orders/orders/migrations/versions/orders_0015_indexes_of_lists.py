"""Indexes for lists of a branch, or a day, that is small among large ones."""

from alembic import op

revision = "orders_0015"
down_revision = "orders_0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds them. The log's index of time follows the log by itself: a vacuum, which it waited for before, comes once a
    fifth of the log is new, and until then all of that was read for each part of a day."""
    op.create_index("product_offering_branch", "product", ["product_offering_id", "branch", "id"])
    op.create_index("billing_credit_cause", "billing_credit", ["kind", "cause_id"])
    op.create_index("billing_credit_day", "billing_credit", ["branch", "occurred_at"])
    # What is partitioned has no settings that could be changed.
    op.drop_index("event_time", "event")
    op.create_index(
        "event_time",
        "event",
        ["time"],
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 32, "autosummarize": "on"},
    )
