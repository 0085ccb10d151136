"""A member's ledger in the database: read under the lock of its balance, and written as entries more."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from chassis.types import new_id
from chassis.unit import Unit, missing
from customers.loyalty.domain import LoyaltyBalance
from customers.loyalty.entries import Book, EntryKind
from customers.loyalty.ledger import Hold, Ledger, Lot
from customers.loyalty.values import LotTerms

_LOT_COLUMNS = (
    "id, earned_at, amount, active_at, awaits, lapses_at, expires_at, event_id, pending, available, reserved, expired,"
    " reversed"
)
_LOTS = f"""
    SELECT {_LOT_COLUMNS} FROM loyalty_lot
    WHERE balance_id = %(balance)s AND (pending > 0 OR available > 0 OR reserved > 0)
"""  # noqa: S608 (names of our own columns)
_NAMED_LOTS = f"SELECT {_LOT_COLUMNS} FROM loyalty_lot WHERE balance_id = %(balance)s AND id = ANY (%(ids)s)"  # noqa: S608
_HELD = "SELECT id, expires_at FROM points_reservation WHERE member_id = %(member)s AND state = 'reserved'"
_PARTS = """
    SELECT entry.reservation_id, posting.lot_id, posting.book, sum(posting.amount)
    FROM loyalty_entry entry JOIN loyalty_posting posting ON posting.entry_id = entry.id
    WHERE entry.reservation_id = ANY (%(ids)s) AND entry.reservation_id <> ''
        AND posting.book IN ('reserved', 'redeemed')
    GROUP BY 1, 2, 3 HAVING sum(posting.amount) <> 0
    ORDER BY min(entry.sequence), min(posting.line)
"""


def lock_balance(unit: Unit, id: str) -> LoyaltyBalance:
    """The balance as it is now: until the end of the transaction nobody else moves its points. Raises NotFound."""
    found = unit.load(LoyaltyBalance, "id = %(id)s FOR UPDATE", {"id": id})
    if not found:
        raise missing(LoyaltyBalance, id)
    return found[0]


def load_ledger(unit: Unit, balance: LoyaltyBalance, *, lots: Sequence[str] = (), reservation: str = "") -> Ledger:
    """The ledger of a balance that is locked: what of it is open, and those lots and that reservation besides."""
    with unit.cursor() as cursor:
        found = _lots(cursor.execute(_LOTS, {"balance": balance.id}).fetchall())
        held = cursor.execute(_HELD, {"member": balance.member_id}).fetchall()
        holds = {key: Hold(key, expires_at) for key, expires_at in held}
        if reservation and reservation not in holds:
            # Nothing is held by it any more, so it can't run out of time.
            holds[reservation] = Hold(reservation, unit.at)
        if holds:
            for key, lot_id, book, amount in cursor.execute(_PARTS, {"ids": list(holds)}).fetchall():
                parts = holds[key].reserved if book == Book.RESERVED else holds[key].redeemed
                parts[lot_id] = amount
        named = {lot_id for hold in holds.values() for lot_id in hold.redeemed} | set(lots)
        if further := sorted(named - found.keys()):
            found |= _lots(cursor.execute(_NAMED_LOTS, {"balance": balance.id, "ids": further}).fetchall())
    return Ledger(found.values(), holds.values(), balance.owed or Decimal(0))


def lots_of_event(unit: Unit, balance: LoyaltyBalance, event_id: str) -> list[str]:
    """The lots that an event has earned and that weren't taken back."""
    with unit.cursor() as cursor:
        rows = cursor.execute(
            "SELECT id FROM loyalty_lot WHERE balance_id = %s AND event_id = %s AND NOT reversed ORDER BY id",
            (balance.id, event_id),
        ).fetchall()
    return [row[0] for row in rows]


def terms_of_lots(unit: Unit, ids: Iterable[str]) -> dict[str, LotTerms]:
    """Lot → what was promised when it was earned."""
    with unit.cursor() as cursor:
        rows = cursor.execute(
            "SELECT id, terms::text FROM loyalty_lot WHERE id = ANY (%s) AND terms IS NOT NULL", (list(ids),)
        ).fetchall()
    return {key: _TERMS.decode(text) for key, text in rows}


_TERMS = msgspec.json.Decoder(LotTerms)
_INSERT_ENTRY = """
    INSERT INTO loyalty_entry (
        id, branch, balance_id, sequence, kind, at, recorded_at, reason, event_id, rule_id, reservation_id, note, actor
    ) VALUES (
        %(id)s, %(branch)s, %(balance_id)s, %(sequence)s, %(kind)s, %(at)s, %(recorded_at)s, %(reason)s, %(event_id)s,
        %(rule_id)s, %(reservation_id)s, %(note)s, %(actor)s
    )
"""
_INSERT_POSTING = """
    INSERT INTO loyalty_posting (entry_id, line, branch, book, lot_id, amount)
    VALUES (%(entry_id)s, %(line)s, %(branch)s, %(book)s, %(lot_id)s, %(amount)s)
"""
_SAVE_LOT = """
    INSERT INTO loyalty_lot (
        id, branch, balance_id, earned_at, amount, active_at, awaits, lapses_at, expires_at, event_id, rule_code, terms,
        pending, available, reserved, expired, reversed
    ) VALUES (
        %(id)s, %(branch)s, %(balance_id)s, %(earned_at)s, %(amount)s, %(active_at)s, %(awaits)s, %(lapses_at)s,
        %(expires_at)s, %(event_id)s, %(rule_code)s, %(terms)s, %(pending)s, %(available)s, %(reserved)s, %(expired)s,
        %(reversed)s
    )
    ON CONFLICT (id) DO UPDATE SET
        active_at = excluded.active_at, expires_at = excluded.expires_at, pending = excluded.pending,
        available = excluded.available, reserved = excluded.reserved, expired = excluded.expired,
        reversed = excluded.reversed
"""


def write_ledger(
    unit: Unit, balance: LoyaltyBalance, ledger: Ledger, promised: dict[str, tuple[str, LotTerms]]
) -> list[str]:
    """Writes the entries that were made, with the lots that they touch; `promised`: new lot → its rule's code and its
    terms. The entries' ids."""
    principal = unit.call.principal
    with unit.cursor() as cursor:
        row = cursor.execute(
            "SELECT coalesce(max(sequence), 0) FROM loyalty_entry WHERE balance_id = %s", (balance.id,)
        ).fetchone()
        last = row[0] if row is not None else 0
        entries = [(new_id(), last + number, entry) for number, entry in enumerate(ledger.entries, 1)]
        cursor.executemany(
            _INSERT_ENTRY,
            [
                {
                    "id": key,
                    "branch": balance.branch,
                    "balance_id": balance.id,
                    "sequence": sequence,
                    "kind": str(entry.kind),
                    "at": entry.at,
                    "recorded_at": unit.at,
                    "reason": entry.reason,
                    "event_id": entry.event_id,
                    "rule_id": entry.rule_id,
                    "reservation_id": entry.reservation_id,
                    "note": entry.note,
                    "actor": principal.on_behalf_of or principal.subject,
                }
                for key, sequence, entry in entries
            ],
        )
        cursor.executemany(
            _INSERT_POSTING,
            [
                {
                    "entry_id": key,
                    "line": line,
                    "branch": balance.branch,
                    "book": str(posting.book),
                    "lot_id": posting.lot_id,
                    "amount": posting.amount,
                }
                for key, _, entry in entries
                for line, posting in enumerate(entry.posting, 1)
            ],
        )
        cursor.executemany(
            _SAVE_LOT, [_saved(ledger.lots[key], balance, promised.get(key)) for key in sorted(ledger.touched)]
        )
    return [key for key, _, _ in entries]


def _saved(lot: Lot, balance: LoyaltyBalance, promised: tuple[str, LotTerms] | None) -> dict[str, Any]:
    code, terms = promised or ("", None)
    return {
        "id": lot.id,
        "branch": balance.branch,
        "balance_id": balance.id,
        "earned_at": lot.earned_at,
        "amount": lot.amount,
        "active_at": lot.active_at,
        "awaits": lot.awaits,
        "lapses_at": lot.lapses_at,
        "expires_at": lot.expires_at,
        "event_id": lot.event_id,
        "rule_code": code,
        "terms": msgspec.json.encode(terms).decode() if terms is not None else None,
        "pending": lot.pending,
        "available": lot.available,
        "reserved": lot.reserved,
        "expired": lot.expired,
        "reversed": lot.reversed,
    }


def _lots(rows: Iterable[Sequence[Any]]) -> dict[str, Lot]:
    return {
        row[0]: Lot(
            id=row[0],
            earned_at=row[1],
            amount=row[2],
            active_at=row[3],
            awaits=row[4],
            lapses_at=row[5],
            expires_at=row[6],
            event_id=row[7],
            pending=row[8],
            available=row[9],
            reserved=row[10],
            expired=row[11],
            reversed=row[12],
        )
        for row in rows
    }


# --- what is shown ---------------------------------------------------------------------------------------------------

_ENTRIES = """
    SELECT id, sequence, kind, at, recorded_at, reason, event_id, rule_id, reservation_id, note, actor,
        ARRAY(
            SELECT ARRAY[book, lot_id, amount::text] FROM loyalty_posting
            WHERE entry_id = loyalty_entry.id ORDER BY line
        )
    FROM loyalty_entry WHERE balance_id = %(balance)s AND {which} ORDER BY sequence DESC LIMIT %(most)s
"""


class WrittenEntry:
    """An entry as it was written down."""

    def __init__(self, row: Sequence[Any]) -> None:
        (self.id, self.sequence, kind, self.at, self.recorded_at, self.reason, self.event_id, self.rule_id) = row[:8]
        self.reservation_id, self.note, self.actor = row[8:11]
        self.kind = EntryKind(kind)
        self.posting = [(Book(book), lot_id, Decimal(amount)) for book, lot_id, amount in row[11]]

    @property
    def points(self) -> Decimal:
        """What it changes of the available points."""
        return sum((amount for book, _, amount in self.posting if book is Book.AVAILABLE), Decimal(0))


def entries_before(unit: Unit, balance_id: str, before: int, most: int) -> list[WrittenEntry]:
    """The entries before a sequence (0: the latest), the latest first."""
    wanted = {"balance": balance_id, "before": before or 2**63 - 1, "most": most}
    with unit.cursor() as cursor:
        rows = cursor.execute(_ENTRIES.format(which="sequence < %(before)s"), wanted).fetchall()
    return [WrittenEntry(row) for row in rows]


def entries_named(unit: Unit, balance_id: str, ids: Sequence[str]) -> list[WrittenEntry]:
    """Those entries, the latest first."""
    wanted = {"balance": balance_id, "ids": list(ids), "most": len(ids)}
    with unit.cursor() as cursor:
        rows = cursor.execute(_ENTRIES.format(which="id = ANY (%(ids)s)"), wanted).fetchall()
    return [WrittenEntry(row) for row in rows]


def open_lots(unit: Unit, balance_id: str, most: int) -> list[Lot]:
    """The lots that have something left, in the order in which they would be spent."""
    with unit.cursor() as cursor:
        rows = cursor.execute(
            f"{_LOTS} ORDER BY expires_at NULLS LAST, earned_at, id LIMIT %(most)s",
            {"balance": balance_id, "most": most},
        ).fetchall()
    return list(_lots(rows).values())


def has_entries(unit: Unit, balance_id: str) -> bool:
    """Whether points have ever been moved."""
    with unit.cursor() as cursor:
        row = cursor.execute("SELECT 1 FROM loyalty_entry WHERE balance_id = %s LIMIT 1", (balance_id,)).fetchone()
    return row is not None


def sums_of_postings(unit: Unit, balance_id: str, at: datetime | None = None) -> dict[Book, Decimal]:
    """What each book comes to when all postings are added up: what the kept figures must be. `at`: of what was written
    down by the instant."""
    with unit.cursor() as cursor:
        rows = cursor.execute(
            "SELECT posting.book, sum(posting.amount) FROM loyalty_entry entry"
            " JOIN loyalty_posting posting ON posting.entry_id = entry.id WHERE entry.balance_id = %(balance)s"
            " AND (%(at)s::timestamptz IS NULL OR entry.recorded_at <= %(at)s) GROUP BY 1",
            {"balance": balance_id, "at": at},
        ).fetchall()
    return {Book(book): amount for book, amount in rows}
