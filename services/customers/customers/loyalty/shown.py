"""Entries and earnings as their messages."""

from chassis.convert import to_timestamp
from customers.loyalty.ledger_store import WrittenEntry
from customers.loyalty.store import EarningRow
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


def entry_message(one: WrittenEntry, member_id: str) -> loyalty_pb2.LoyaltyEntry:
    """A movement of points with its postings."""
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
    )
    for book, lot_id, amount in one.posting:
        message.posting.add(
            book=loyalty_pb2.LoyaltyBook.Value(f"LOYALTY_BOOK_{book.name}"), lot_id=lot_id, amount=f"{amount:f}"
        )
    return message
