"""Tables of loyalty, and the questions asked of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from customers.loyalty.cards import ClubCard
from customers.loyalty.domain import (
    LoyaltyAccount,
    LoyaltyBalance,
    LoyaltyProgramMember,
    LoyaltyProgramProductSpec,
    PointsReservation,
)
from customers.loyalty.rules import EarnRule, LoyaltyTerms
from customers.loyalty.values import EarnRuleState, PointsCapPeriod
from customers.schema import UnderMerge, metadata, under_merge
from svyaz.customers.v1 import loyalty_pb2

_INSTANT = sa.TIMESTAMP(timezone=True)

loyalty_program_product_spec = aggregate_table(metadata, "loyalty_program_product_spec", LoyaltyProgramProductSpec)
loyalty_program_member = aggregate_table(
    metadata,
    "loyalty_program_member",
    LoyaltyProgramMember,
    sa.Column("customer_id", sa.Text, sa.Computed("customer ->> 'id'", persisted=True)),
    sa.Column("program_id", sa.Text, sa.Computed("loyalty_program_product_spec ->> 'id'", persisted=True)),
    # A customer takes part in a programme once.
    sa.Index("loyalty_program_member_customer_id", "customer_id", "program_id", unique=True),
    sa.Index("loyalty_program_member_program_id", "program_id"),
)
loyalty_account = aggregate_table(metadata, "loyalty_account", LoyaltyAccount)
loyalty_balance = aggregate_table(metadata, "loyalty_balance", LoyaltyBalance)
loyalty_terms = aggregate_table(
    metadata, "loyalty_terms", LoyaltyTerms, sa.Index("loyalty_terms_program_id", "program_id", unique=True)
)
earn_rule = aggregate_table(
    metadata,
    "earn_rule",
    EarnRule,
    sa.Index("earn_rule_code", "program_id", "code", "rule_version", unique=True),
    sa.Index(
        "earn_rule_active", "program_id", "event_type", postgresql_where=sa.text(f"state = '{EarnRuleState.ACTIVE}'")
    ),
)
points_reservation = aggregate_table(
    metadata,
    "points_reservation",
    PointsReservation,
    # What is paid for is paid for with points once; what was given back doesn't pay for anything.
    sa.Index(
        "points_reservation_reference",
        "member_id",
        "reference",
        unique=True,
        postgresql_where=sa.text("state IN ('reserved', 'confirmed', 'refunded')"),
    ),
    sa.Index("points_reservation_group_id", "group_id", postgresql_where=sa.text("group_id IS NOT NULL")),
    sa.Index("points_reservation_held", "member_id", postgresql_where=sa.text("state = 'reserved'")),
)
club_card = aggregate_table(
    metadata,
    "club_card",
    ClubCard,
    sa.Index("club_card_number", "number", unique=True),
    # One that can be used.
    sa.Index("club_card_member_id", "member_id", unique=True, postgresql_where=sa.text("state <> 'replaced'")),
)

# The ledger. What is kept of a lot beside its postings is changed with each of them, under the lock of the balance.
loyalty_lot = sa.Table(
    "loyalty_lot",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("balance_id", sa.Text, nullable=False),
    sa.Column("earned_at", _INSTANT, nullable=False),
    sa.Column("amount", sa.Numeric, nullable=False),
    sa.Column("active_at", _INSTANT),
    sa.Column("awaits", sa.Text, nullable=False),
    sa.Column("lapses_at", _INSTANT),
    sa.Column("expires_at", _INSTANT),
    sa.Column("event_id", sa.Text, nullable=False),
    # Of the rule that earned it, in all its versions; caps are counted by it.
    sa.Column("rule_code", sa.Text, nullable=False),
    # What was promised when it was earned.
    sa.Column("terms", JSONB),
    sa.Column("pending", sa.Numeric, nullable=False),
    sa.Column("available", sa.Numeric, nullable=False),
    sa.Column("reserved", sa.Numeric, nullable=False),
    sa.Column("expired", sa.Numeric, nullable=False),
    sa.Column("reversed", sa.Boolean, nullable=False),
    sa.CheckConstraint("pending >= 0 AND available >= 0 AND reserved >= 0", name="loyalty_lot_not_negative"),
    sa.Index(
        "loyalty_lot_open", "balance_id", postgresql_where=sa.text("pending > 0 OR available > 0 OR reserved > 0")
    ),
    sa.Index("loyalty_lot_event_id", "balance_id", "event_id"),
    sa.Index("loyalty_lot_rule_code", "balance_id", "rule_code", "earned_at"),
)
loyalty_entry = sa.Table(
    "loyalty_entry",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("balance_id", sa.Text, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("at", _INSTANT, nullable=False),
    sa.Column("recorded_at", _INSTANT, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("rule_id", sa.Text, nullable=False),
    sa.Column("reservation_id", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Index("loyalty_entry_sequence", "balance_id", "sequence", unique=True),
    sa.Index("loyalty_entry_reservation_id", "reservation_id", postgresql_where=sa.text("reservation_id <> ''")),
    # An event earns once by a rule, however often it is delivered.
    sa.Index(
        "loyalty_entry_earning",
        "balance_id",
        "event_id",
        "rule_id",
        unique=True,
        postgresql_where=sa.text("kind = 'earn'"),
    ),
)
loyalty_posting = sa.Table(
    "loyalty_posting",
    metadata,
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("book", sa.Text, nullable=False),
    sa.Column("lot_id", sa.Text, nullable=False),
    sa.Column("amount", sa.Numeric, nullable=False),
    sa.Index("loyalty_posting_lot_id", "lot_id"),
)
# What an event has come to for a member, its receipt included: also that it has come to nothing.
loyalty_earning = sa.Table(
    "loyalty_earning",
    metadata,
    sa.Column("member_id", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("at", _INSTANT, nullable=False),
    sa.Column("points", sa.Numeric, nullable=False),
    sa.Column("spend", sa.Numeric, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("reversed_at", _INSTANT),
    sa.Column("receipt", sa.LargeBinary, nullable=False),
    sa.Index("loyalty_earning_at", "member_id", "at"),
)
tier_change = sa.Table(
    "tier_change",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("member_id", sa.Text, nullable=False),
    sa.Column("at", _INSTANT, nullable=False),
    sa.Column("tier_before", sa.Text, nullable=False),
    sa.Column("tier_after", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("receipt", sa.LargeBinary, nullable=False),
    sa.Index("tier_change_member_id", "member_id", "id"),
)

# A member belongs to the customer's id under which he was enrolled; his ledger stays his, and is read beside those of
# the customer's other ids.
under_merge(UnderMerge.BY_MEMBERS, loyalty_program_member, columns=("customer_id",))
under_merge(
    UnderMerge.OWN,
    points_reservation, club_card, loyalty_earning, tier_change,
    columns=("member_id",),
)  # fmt: skip
under_merge(
    UnderMerge.NONE,
    loyalty_program_product_spec, loyalty_account, loyalty_balance, loyalty_terms, earn_rule, loyalty_lot,
    loyalty_entry, loyalty_posting,
)  # fmt: skip

RESOURCES: Mapping[type[Aggregate], Resource] = {
    LoyaltyProgramProductSpec: Resource(loyalty_pb2.LoyaltyProgramProductSpec, loyalty_program_product_spec),
    LoyaltyProgramMember: Resource(loyalty_pb2.LoyaltyProgramMember, loyalty_program_member),
    LoyaltyAccount: Resource(loyalty_pb2.LoyaltyAccount, loyalty_account),
    LoyaltyBalance: Resource(loyalty_pb2.LoyaltyBalance, loyalty_balance),
    LoyaltyTerms: Resource(loyalty_pb2.LoyaltyTerms, loyalty_terms),
    EarnRule: Resource(loyalty_pb2.EarnRule, earn_rule),
    PointsReservation: Resource(loyalty_pb2.PointsReservation, points_reservation),
    ClubCard: Resource(loyalty_pb2.ClubCard, club_card),
}
ISOLATED = tuple(table.name for table in (loyalty_lot, loyalty_entry, loyalty_posting, loyalty_earning, tier_change))


# --- programmes ------------------------------------------------------------------------------------------------------


def terms_of(unit: Unit, program_id: str, branch: str) -> LoyaltyTerms:
    """The programme's terms; those that it has without having said any."""
    found = unit.load(LoyaltyTerms, "program_id = %(id)s", {"id": program_id})
    return found[0] if found else LoyaltyTerms(id="", branch=branch, program_id=program_id)


def active_rules(unit: Unit, program_id: str, event_type: str) -> list[EarnRule]:
    """The rules that may earn something for an event of the type."""
    return unit.load(
        EarnRule,
        f"state = '{EarnRuleState.ACTIVE}' AND program_id = %(program)s AND event_type = %(type)s",
        {"program": program_id, "type": event_type},
    )


def versions_of(unit: Unit, program_id: str, code: str) -> list[EarnRule]:
    """All versions of a rule, the latest first."""
    condition = "program_id = %(program)s AND code = %(code)s ORDER BY rule_version DESC"
    return unit.load(EarnRule, condition, {"program": program_id, "code": code})


def rule_names(unit: Unit, ids: Iterable[str]) -> dict[str, str]:
    """Rule's id → what it is called; rules without a name are left out."""
    wanted = sorted(ids)
    found = unit.load(EarnRule, "id = ANY (%(ids)s)", {"ids": wanted}) if wanted else []
    return {rule.id: rule.name for rule in found if rule.name}


_USERS = """
    SELECT 'LoyaltyProgramMember', id FROM loyalty_program_member WHERE program_id = %(id)s
    UNION ALL SELECT 'LoyaltyTerms', id FROM loyalty_terms WHERE program_id = %(id)s
    UNION ALL SELECT 'EarnRule', id FROM earn_rule WHERE program_id = %(id)s
    LIMIT 5
"""


def users_of(unit: Unit, program_id: str) -> list[tuple[str, str]]:
    """Type and id of some of what the programme is needed by."""
    with unit.cursor() as cursor:
        return [(kind, key) for kind, key in cursor.execute(_USERS, {"id": program_id}).fetchall()]


# --- members ---------------------------------------------------------------------------------------------------------


def members_of(unit: Unit, customer_ids: Sequence[str]) -> list[LoyaltyProgramMember]:
    """Those of the customers who are members of programmes, in the order of the ids."""
    found = unit.load(LoyaltyProgramMember, "customer_id = ANY (%(ids)s)", {"ids": list(customer_ids)})
    place = {key: number for number, key in enumerate(customer_ids)}
    return sorted((one for one in found if one.enrolled_at), key=lambda one: (place[one.customer_id], one.id))


def card_of(unit: Unit, member_id: str) -> ClubCard | None:
    """The member's card, unless there is none that could be used."""
    found = unit.load(ClubCard, "member_id = %(id)s AND state <> 'replaced'", {"id": member_id})
    return found[0] if found else None


def cards_of(unit: Unit, member_id: str) -> list[ClubCard]:
    """All cards that the member has had."""
    return unit.load(ClubCard, "member_id = %(id)s", {"id": member_id})


def card_with(unit: Unit, number: str) -> ClubCard | None:
    """The card with the number."""
    found = unit.load(ClubCard, "number = %(number)s", {"number": number})
    return found[0] if found else None


def reservation_for(unit: Unit, member_id: str, reference: str) -> PointsReservation | None:
    """What the member has set aside, or spent, for something."""
    condition = (
        "member_id = %(member)s AND reference = %(reference)s AND state IN ('reserved', 'confirmed', 'refunded')"
    )
    found = unit.load(PointsReservation, condition, {"member": member_id, "reference": reference})
    return found[0] if found else None


def parts_of(unit: Unit, reservation: PointsReservation) -> list[PointsReservation]:
    """The reservations that were made together with this one, itself included."""
    if reservation.group_id is None:
        return [reservation]
    return unit.load(PointsReservation, "group_id = %(id)s", {"id": reservation.group_id})


# --- earnings and tiers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EarningRow:
    """What an event has come to for a member; the receipt as its message's bytes."""

    member_id: str
    event_id: str
    branch: str
    event_type: str
    at: datetime
    points: Decimal
    spend: Decimal
    currency: str
    reversed_at: datetime | None
    receipt: bytes


_EARNING_COLUMNS = ", ".join(column.name for column in loyalty_earning.columns)
_EARNING_NAMES = [column.name for column in loyalty_earning.columns]


def earning_of(unit: Unit, member_id: str, event_id: str) -> EarningRow | None:
    """What the event has come to; None: it hasn't been seen."""
    with unit.cursor() as cursor:
        row = cursor.execute(
            f"SELECT {_EARNING_COLUMNS} FROM loyalty_earning WHERE member_id = %s AND event_id = %s",  # noqa: S608
            (member_id, event_id),
        ).fetchone()
    return EarningRow(**dict(zip(_EARNING_NAMES, row, strict=True))) if row is not None else None


def keep_earning(unit: Unit, row: EarningRow) -> None:
    """Remembers what an event has come to."""
    marks = ", ".join(f"%({name})s" for name in _EARNING_NAMES)
    with unit.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO loyalty_earning ({_EARNING_COLUMNS}) VALUES ({marks})",  # noqa: S608
            {name: getattr(row, name) for name in _EARNING_NAMES},
        )


def mark_reversed(unit: Unit, member_id: str, event_id: str) -> None:
    """The earning doesn't count any more."""
    with unit.cursor() as cursor:
        cursor.execute(
            "UPDATE loyalty_earning SET reversed_at = %s WHERE member_id = %s AND event_id = %s",
            (unit.at, member_id, event_id),
        )


def qualifying(unit: Unit, member_id: str, since: datetime, currency: str) -> tuple[Decimal, Decimal]:
    """Points earned and money spent (in the currency) by what happened since the instant."""
    with unit.cursor() as cursor:
        row = cursor.execute(
            "SELECT coalesce(sum(points), 0), coalesce(sum(spend) FILTER (WHERE currency = %s), 0)"
            " FROM loyalty_earning WHERE member_id = %s AND at >= %s AND reversed_at IS NULL",
            (currency, member_id, since),
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def used(
    unit: Unit, balance_id: str, wanted: Iterable[tuple[str, PointsCapPeriod, datetime, datetime]]
) -> dict[str, dict[PointsCapPeriod, Decimal]]:
    """What rules (by their codes) have earned from the beginnings of the periods to before their ends, without what was
    taken back: what is told late counts in the period in which it happened."""
    found: dict[str, dict[PointsCapPeriod, Decimal]] = {}
    with unit.cursor() as cursor:
        for code, period, since, until in wanted:
            row = cursor.execute(
                "SELECT coalesce(sum(amount), 0) FROM loyalty_lot"
                " WHERE balance_id = %s AND rule_code = %s AND earned_at >= %s AND earned_at < %s AND NOT reversed",
                (balance_id, code, since, until),
            ).fetchone()
            found.setdefault(code, {})[period] = row[0] if row is not None else Decimal(0)
    return found


def keep_tier_change(unit: Unit, **values: Any) -> None:
    """Remembers how a tier came about."""
    unit.session.execute(sa.insert(tier_change).values(values))


def tier_changes(unit: Unit, member_id: str, most: int) -> Sequence[Any]:
    """How the member's tiers came about, the latest first."""
    query = sa.select(tier_change).where(tier_change.c.member_id == member_id)
    return unit.session.execute(query.order_by(tier_change.c.id.desc()).limit(most)).all()
