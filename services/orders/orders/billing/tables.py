"""The tables of what billing has acknowledged, of certificates and of credits."""

import sqlalchemy as sa

from orders.schema import log, metadata


def _day() -> tuple[sa.Column[object], ...]:
    return sa.Column("branch", sa.Text, primary_key=True), sa.Column("day", sa.Date, primary_key=True)


# How far billing has booked a chain. It has booked all of an account's earlier epochs then, too: the first event of a
# later one follows from the last common one.
billing_acknowledgement = sa.Table(
    "billing_acknowledgement",
    metadata,
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
# Everything sealed up to this position of a partition is acknowledged: how old the oldest is that isn't is found from
# there, and not among all charges that there ever were.
billing_floor = sa.Table(
    "billing_floor",
    metadata,
    sa.Column("partition", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, nullable=False),
)
# Every day of a branch since its first charge, and when it is looked at again.
billing_day = sa.Table(
    "billing_day",
    metadata,
    *_day(),
    sa.Column("revision", sa.Integer, nullable=False),
    # Of the latest revision, unless they are settled.
    sa.Column("discrepancies", sa.BigInteger, nullable=False),
    # How often it was looked at since it ended.
    sa.Column("looked", sa.Integer, nullable=False),
    # None: never again by itself.
    sa.Column("look_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("ends_at", sa.TIMESTAMP(timezone=True), nullable=False),
    # What has become of the discrepancies with this digest.
    sa.Column("settled", sa.Text),
    sa.Column("settled_digest", sa.Text),
    sa.Index("billing_day_look_at", "branch", "look_at", postgresql_where=sa.text("look_at IS NOT NULL")),
    sa.Index("billing_day_discrepant", "branch", "day", postgresql_where=sa.text("discrepancies > 0")),
)
billing_certificate = sa.Table(
    "billing_certificate",
    metadata,
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
billing_certificate_line = sa.Table(
    "billing_certificate_line",
    metadata,
    *_day(),
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("part", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("line", sa.Text, nullable=False),
)
# The public keys of all that were ever signed with: who rotates a key loses no certificate.
billing_key = sa.Table(
    "billing_key",
    metadata,
    sa.Column("kid", sa.Text, primary_key=True),
    sa.Column("jwk", sa.Text, nullable=False),
    sa.Column("used_at", sa.TIMESTAMP(timezone=True), nullable=False),
)
billing_credit = sa.Table(
    "billing_credit",
    metadata,
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
    sa.Index("billing_credit_cause", "kind", "cause_id"),
    sa.Index("billing_credit_day", "branch", "occurred_at"),
)
# The log's rows lie in the order of time, so a few blocks of this say where a day is.
sa.Index(
    "event_time",
    log.event.c.time,
    postgresql_using="brin",
    postgresql_with={"pages_per_range": 32, "autosummarize": "on"},
)
