"""What the ledger of points is written in: entries, whose postings sum to nothing. Pure."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Book(StrEnum):
    """Where points are: the first four are the member's, the others the programme's."""

    PENDING = "pending"
    AVAILABLE = "available"
    RESERVED = "reserved"
    OWED = "owed"
    ISSUED = "issued"
    REDEEMED = "redeemed"
    EXPIRED = "expired"
    ADJUSTED = "adjusted"


class EntryKind(StrEnum):
    """What an entry does."""

    EARN = "earn"
    ACTIVATE = "activate"
    RESERVE = "reserve"
    CONFIRM = "confirm"
    RELEASE = "release"
    EXPIRE = "expire"
    REFUND = "refund"
    REVERSE = "reverse"
    CLAIM = "claim"
    ADJUST = "adjust"


@dataclass(frozen=True, slots=True)
class Posting:
    """So many points of a lot into a book; negative: out of it."""

    book: Book
    lot_id: str
    amount: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One movement. `reason` is a code; `at` when it counts, which may be before it was written down."""

    kind: EntryKind
    at: datetime
    reason: str
    posting: tuple[Posting, ...]
    event_id: str = ""
    rule_id: str = ""
    reservation_id: str = ""
    note: str = ""


def between(lot_id: str, amount: Decimal, source: Book, to: Book) -> tuple[Posting, ...]:
    """So many points of a lot from one book into another; nothing for none."""
    return (Posting(source, lot_id, -amount), Posting(to, lot_id, amount)) if amount else ()
