"""What billing has acknowledged, the certificates of days, and credits."""

import sqlalchemy as sa
from alembic import op

from chassis.schema import isolate

revision = "orders_0013"
down_revision = "orders_0012"
branch_labels = None
depends_on = "billing_0001"


def upgrade() -> None:
    """Makes the tables and the indexes by which days and partitions are read again."""
    _acknowledgements()
    _certificates()
    op.create_table(
        "billing_credit",
        sa.Column("branch", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("cause_id", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("product_id", sa.Text, nullable=False),
        sa.Column("charge_id", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("value", sa.Numeric, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("points", sa.BigInteger, nullable=False),
        sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),
    )
    tables = ("billing_acknowledgement", "billing_day", "billing_certificate", "billing_certificate_line")
    for table in (*tables, "billing_credit"):
        for statement in isolate(table):
            op.execute(statement)
    # Replays, and what a consumer compares itself with.
    op.create_index(
        "charge_event_partition_position",
        "charge_event",
        ["partition", "position"],
        postgresql_where=sa.text("position IS NOT NULL"),
    )
    # A day of the log: its rows lie in the order of time, so that a few blocks say where.
    op.create_index("event_time", "event", ["time"], postgresql_using="brin", postgresql_with={"pages_per_range": 32})


def _acknowledgements() -> None:
    op.create_table(
        "billing_acknowledgement",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("branch", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("went_back_at", sa.TIMESTAMP(timezone=True)),
        sa.Column("went_back_reason", sa.Text),
    )
    op.create_table(
        "billing_floor",
        sa.Column("partition", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO billing_floor (partition, position) SELECT number, 0 FROM generate_series(0, 63) AS number")


def _day() -> tuple[sa.Column[object], ...]:
    return sa.Column("branch", sa.Text, primary_key=True), sa.Column("day", sa.Date, primary_key=True)


def _certificates() -> None:
    op.create_table(
        "billing_day",
        *_day(),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("discrepancies", sa.BigInteger, nullable=False),
        sa.Column("looked", sa.Integer, nullable=False),
        sa.Column("look_at", sa.TIMESTAMP(timezone=True)),
        sa.Column("ends_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("settled", sa.Text),
        sa.Column("settled_digest", sa.Text),
    )
    op.create_index(
        "billing_day_look_at", "billing_day", ["branch", "look_at"], postgresql_where=sa.text("look_at IS NOT NULL")
    )
    op.create_index(
        "billing_day_discrepant", "billing_day", ["branch", "day"], postgresql_where=sa.text("discrepancies > 0")
    )
    op.create_table(
        "billing_certificate",
        *_day(),
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("made_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("signed", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("rows", "discrepancies", "changes", "unsealed", "unsent", "unacknowledged")
        ),
    )
    op.create_table(
        "billing_certificate_line",
        *_day(),
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("part", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("line", sa.Text, nullable=False),
    )
    op.create_table(
        "billing_key",
        sa.Column("kid", sa.Text, primary_key=True),
        sa.Column("jwk", sa.Text, nullable=False),
        sa.Column("used_at", sa.TIMESTAMP(timezone=True), nullable=False),
    )
