"""Loyalty: programmes, members and the ledger of their points."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import isolate

revision = "customers_0010"
down_revision = "customers_0009"
branch_labels = None
depends_on = None

_INSTANT = sa.TIMESTAMP(timezone=True)
_ISOLATED = (
    "loyalty_program_product_spec",
    "loyalty_program_member",
    "loyalty_account",
    "loyalty_balance",
    "loyalty_terms",
    "earn_rule",
    "points_reservation",
    "club_card",
    "loyalty_lot",
    "loyalty_entry",
    "loyalty_posting",
    "loyalty_earning",
    "tier_change",
)
# The books are only ever added to, whatever a statement of ours says, and every entry comes to nothing when it is
# committed: what a member has is somewhere else less.
_BOOKS = (
    """
    CREATE FUNCTION refuse_change_of_books() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
    BEGIN
        RAISE EXCEPTION 'an entry of the ledger is corrected by another one, never changed';
    END $$
    """,
    """
    CREATE FUNCTION require_balanced_entry() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
    BEGIN
        IF (SELECT sum(amount) FROM loyalty_posting WHERE entry_id = NEW.entry_id) <> 0 THEN
            RAISE EXCEPTION 'entry % is not balanced', NEW.entry_id;
        END IF;
        RETURN NULL;
    END $$
    """,
    *(
        f"CREATE TRIGGER {table}_unchanged BEFORE UPDATE OR DELETE ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION refuse_change_of_books()"
        for table in ("loyalty_entry", "loyalty_posting")
    ),
    """
    CREATE CONSTRAINT TRIGGER loyalty_posting_balanced AFTER INSERT ON loyalty_posting
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION require_balanced_entry()
    """,
)


def upgrade() -> None:
    """Makes the tables and puts them under the policies of their branches."""
    _programs()
    _members()
    _ledger()
    for statement in _BOOKS:
        op.execute(statement)
    for table in _ISOLATED:
        for statement in isolate(table):
            op.execute(statement)


def _programs() -> None:
    op.create_table(
        "loyalty_program_product_spec",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("brand", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("life_cycle_status", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("needs_loyalty_account", sa.Boolean(), nullable=True),
        sa.Column("product_number", sa.Text(), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("loyalty_program_product_spec_branch_id", "loyalty_program_product_spec", ["branch", "id"])
    op.create_table(
        "loyalty_terms",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("program_id", sa.Text(), nullable=True),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("scale", sa.BigInteger(), nullable=True),
        sa.Column("lot", JSONB(), nullable=True),
        sa.Column("refund_days", sa.BigInteger(), nullable=True),
        sa.Column("reservation_minutes", sa.BigInteger(), nullable=True),
        sa.Column("tier", JSONB(), nullable=True),
        sa.Column("tier_basis", sa.Text(), nullable=True),
        sa.Column("tier_period_months", sa.BigInteger(), nullable=True),
        sa.Column("tier_grace_days", sa.BigInteger(), nullable=True),
        sa.Column("tier_currency", sa.Text(), nullable=True),
        sa.Column("minimum_burn", sa.Numeric(), nullable=True),
        sa.Column("burn_step", sa.Numeric(), nullable=True),
        sa.Column("point_value", JSONB(), nullable=True),
        sa.Column("maximum_percentage", sa.Numeric(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("loyalty_terms_branch_id", "loyalty_terms", ["branch", "id"])
    op.create_index("loyalty_terms_program_id", "loyalty_terms", ["program_id"], unique=True)
    op.create_table(
        "earn_rule",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("program_id", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("rule_version", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=True),
        sa.Column("condition", sa.Text(), nullable=True),
        sa.Column("formula", JSONB(), nullable=True),
        sa.Column("cap", JSONB(), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
        sa.Column("priority", sa.BigInteger(), nullable=True),
        sa.Column("exclusive", sa.Boolean(), nullable=True),
        sa.Column("exclusion_group", sa.Text(), nullable=True),
        sa.Column("lot", JSONB(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "earn_rule_active", "earn_rule", ["program_id", "event_type"], postgresql_where=sa.text("state = 'active'")
    )
    op.create_index("earn_rule_branch_id", "earn_rule", ["branch", "id"])
    op.create_index("earn_rule_code", "earn_rule", ["program_id", "code", "rule_version"], unique=True)


def _members() -> None:
    op.create_table(
        "loyalty_program_member",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
        sa.Column("customer", JSONB(), nullable=True),
        sa.Column("loyalty_program_product_spec", JSONB(), nullable=True),
        sa.Column("loyalty_account", JSONB(), nullable=True),
        sa.Column("loyalty_balance", JSONB(), nullable=True),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("tier_since", _INSTANT, nullable=True),
        sa.Column("tier_review_at", _INSTANT, nullable=True),
        sa.Column("tier_grace_until", _INSTANT, nullable=True),
        sa.Column("enrolled_at", _INSTANT, nullable=True),
        sa.Column("customer_id", sa.Text(), sa.Computed("customer ->> 'id'", persisted=True), nullable=True),
        sa.Column(
            "program_id", sa.Text(), sa.Computed("loyalty_program_product_spec ->> 'id'", persisted=True), nullable=True
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("loyalty_program_member_branch_id", "loyalty_program_member", ["branch", "id"])
    op.create_index(
        "loyalty_program_member_customer_id", "loyalty_program_member", ["customer_id", "program_id"], unique=True
    )
    op.create_index("loyalty_program_member_program_id", "loyalty_program_member", ["program_id"])
    op.create_table(
        "loyalty_account",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("loyalty_program_member", JSONB(), nullable=True),
        sa.Column("loyalty_program_product_spec", JSONB(), nullable=True),
        sa.Column("loyalty_balance", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("loyalty_account_branch_id", "loyalty_account", ["branch", "id"])
    op.create_table(
        "loyalty_balance",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("loyalty_program_member", JSONB(), nullable=True),
        sa.Column("loyalty_account", JSONB(), nullable=True),
        sa.Column("quantity", JSONB(), nullable=True),
        sa.Column("valid_for", JSONB(), nullable=True),
        sa.Column("pending", sa.Numeric(), nullable=True),
        sa.Column("reserved", sa.Numeric(), nullable=True),
        sa.Column("owed", sa.Numeric(), nullable=True),
        sa.Column("next_expiry_at", _INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("loyalty_balance_branch_id", "loyalty_balance", ["branch", "id"])
    op.create_table(
        "points_reservation",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("member_id", sa.Text(), nullable=True),
        sa.Column("points", sa.Numeric(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("reserved_at", _INSTANT, nullable=True),
        sa.Column("expires_at", _INSTANT, nullable=True),
        sa.Column("refunded", sa.Numeric(), nullable=True),
        sa.Column("value", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("points_reservation_branch_id", "points_reservation", ["branch", "id"])
    op.create_index(
        "points_reservation_held", "points_reservation", ["member_id"], postgresql_where=sa.text("state = 'reserved'")
    )
    op.create_index("points_reservation_reference", "points_reservation", ["member_id", "reference"], unique=True)
    op.create_table(
        "club_card",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at_type", sa.Text(), nullable=True),
        sa.Column("at_base_type", sa.Text(), nullable=True),
        sa.Column("at_schema_location", sa.Text(), nullable=True),
        sa.Column("extensions", sa.Text(), nullable=True),
        sa.Column("member_id", sa.Text(), nullable=True),
        sa.Column("number", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("issued_at", _INSTANT, nullable=True),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("replaced_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("club_card_branch_id", "club_card", ["branch", "id"])
    op.create_index(
        "club_card_member_id", "club_card", ["member_id"], unique=True, postgresql_where=sa.text("state <> 'replaced'")
    )
    op.create_index("club_card_number", "club_card", ["number"], unique=True)


def _ledger() -> None:
    op.create_table(
        "loyalty_lot",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("balance_id", sa.Text(), nullable=False),
        sa.Column("earned_at", _INSTANT, nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.Column("active_at", _INSTANT, nullable=True),
        sa.Column("awaits", sa.Text(), nullable=False),
        sa.Column("lapses_at", _INSTANT, nullable=True),
        sa.Column("expires_at", _INSTANT, nullable=True),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("rule_code", sa.Text(), nullable=False),
        sa.Column("terms", JSONB(), nullable=True),
        sa.Column("pending", sa.Numeric(), nullable=False),
        sa.Column("available", sa.Numeric(), nullable=False),
        sa.Column("reserved", sa.Numeric(), nullable=False),
        sa.Column("expired", sa.Numeric(), nullable=False),
        sa.Column("reversed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("pending >= 0 AND available >= 0 AND reserved >= 0", name="loyalty_lot_not_negative"),
    )
    op.create_index("loyalty_lot_event_id", "loyalty_lot", ["balance_id", "event_id"])
    op.create_index(
        "loyalty_lot_open",
        "loyalty_lot",
        ["balance_id"],
        postgresql_where=sa.text("pending > 0 OR available > 0 OR reserved > 0"),
    )
    op.create_index("loyalty_lot_rule_code", "loyalty_lot", ["balance_id", "rule_code", "earned_at"])
    op.create_table(
        "loyalty_entry",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("balance_id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("recorded_at", _INSTANT, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("rule_id", sa.Text(), nullable=False),
        sa.Column("reservation_id", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "loyalty_entry_earning",
        "loyalty_entry",
        ["balance_id", "event_id", "rule_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'earn'"),
    )
    op.create_index(
        "loyalty_entry_reservation_id",
        "loyalty_entry",
        ["reservation_id"],
        postgresql_where=sa.text("reservation_id <> ''"),
    )
    op.create_index("loyalty_entry_sequence", "loyalty_entry", ["balance_id", "sequence"], unique=True)
    op.create_table(
        "loyalty_posting",
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("book", sa.Text(), nullable=False),
        sa.Column("lot_id", sa.Text(), nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", "line"),
    )
    op.create_index("loyalty_posting_lot_id", "loyalty_posting", ["lot_id"])
    op.create_table(
        "loyalty_earning",
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("points", sa.Numeric(), nullable=False),
        sa.Column("spend", sa.Numeric(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("reversed_at", _INSTANT, nullable=True),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("member_id", "event_id"),
    )
    op.create_index("loyalty_earning_at", "loyalty_earning", ["member_id", "at"])
    op.create_table(
        "tier_change",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("tier_before", sa.Text(), nullable=False),
        sa.Column("tier_after", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tier_change_member_id", "tier_change", ["member_id", "id"])
