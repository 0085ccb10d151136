"""Entries and earnings as their messages."""

from collections.abc import Sequence

from chassis.convert import to_timestamp
from chassis.unit import Unit
from customers.loyalty.ledger_store import WrittenEntry
from customers.loyalty.store import EarningRow, rule_names
from customers.loyalty.wording import place_of, said
from svyaz.customers.v1 import loyalty_pb2
from svyaz.type.v1 import receipt_pb2


def earning_message(row: EarningRow) -> loyalty_pb2.Earning:
    """What an event has come to."""
    return loyalty_pb2.Earning(
        member_id=row.member_id,
        event_id=row.event_id,
        event_type=row.event_type,
        time=to_timestamp(row.at),
        points=f"{row.points:f}",
        receipt=receipt_pb2.Receipt.FromString(row.receipt),
        reversed_at=to_timestamp(row.reversed_at) if row.reversed_at is not None else None,
    )


def entry_messages(
    unit: Unit, found: Sequence[WrittenEntry], member_id: str, language: str = ""
) -> list[loyalty_pb2.LoyaltyEntry]:
    """Movements of points with their postings, their reasons in the language. Raises InvalidArgument
    UNSUPPORTED_LANGUAGE."""
    place = place_of(language)
    named = rule_names(unit, {one.rule_id for one in found if one.rule_id})
    return [_entry(one, member_id, said(one.kind, one.reason, named.get(one.rule_id, ""), place)) for one in found]


def _entry(one: WrittenEntry, member_id: str, description: str) -> loyalty_pb2.LoyaltyEntry:
    message = loyalty_pb2.LoyaltyEntry(
        id=one.id,
        sequence=one.sequence,
        kind=loyalty_pb2.LoyaltyEntryKind.Value(f"LOYALTY_ENTRY_KIND_{one.kind.name}"),
        time=to_timestamp(one.at),
        recorded_at=to_timestamp(one.recorded_at),
        reason=one.reason,
        points=f"{one.points:f}",
        event_id=one.event_id,
        rule_id=one.rule_id,
        reservation_id=one.reservation_id,
        note=one.note,
        actor=one.actor,
        member_id=member_id,
        description=description,
    )
    for book, lot_id, amount in one.posting:
        message.posting.add(
            book=loyalty_pb2.LoyaltyBook.Value(f"LOYALTY_BOOK_{book.name}"), lot_id=lot_id, amount=f"{amount:f}"
        )
    return message
