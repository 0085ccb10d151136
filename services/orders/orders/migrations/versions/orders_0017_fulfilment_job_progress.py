"""How far fulfilment jobs are, counted as they go."""

import sqlalchemy as sa
from alembic import op

from chassis.schema import isolate

revision = "orders_0017"
down_revision = "orders_0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes table and index, counts what there is, and puts it under the policies of its branches."""
    op.create_table(
        "fulfilment_job_progress",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "state"),
    )
    op.execute(
        "INSERT INTO fulfilment_job_progress (job_id, state, branch, count)"
        " SELECT job_id, state, branch, count(*) FROM fulfilment_job_task GROUP BY 1, 2, 3"
    )
    op.create_index(
        "fulfilment_job_task_waiting",
        "fulfilment_job_task",
        ["job_id", "task_id"],
        postgresql_where=sa.text("state = 'waiting'"),
    )
    for statement in isolate("fulfilment_job_progress"):
        op.execute(statement)
