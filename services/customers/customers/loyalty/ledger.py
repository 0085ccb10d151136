"""The points of one member as a double-entry ledger. Pure: no I/O, no clock.

Every movement is an entry whose postings sum to zero, between the member's books (pending, available, reserved, owed)
and the programme's (issued, redeemed, expired, adjusted). What a member has is the sum of his postings, lot by lot:
each posting names the lot whose points it moves, so a debit stays bound to what it debits, and what expires is what is
left of a lot and nothing else.

* Points are spent from the lots that expire first; those that never expire come last, older before younger.
* A reservation that is released returns each point to its lot; if that has expired meanwhile, they expire.
* What was spent and is refunded returns to its lots, those spent last first; points of expired lots become a new lot.
* An earning that is taken back takes what is left of its lot. What was spent or is reserved of it is owed, and whatever
  becomes available later pays that first. What has expired of it, also while it was reserved, is not owed. No book of
  the member's but `owed` is ever negative, nor is `owed` ever positive.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from customers.loyalty.entries import Book, Entry, EntryKind, Posting, between

ZERO = Decimal(0)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class Lot:
    """Points that came together, and what is left of them. `active_at` None: they wait for `awaits`, until `lapses_at`;
    `expires_at` None: never, or not known before they can be spent."""

    id: str
    earned_at: datetime
    amount: Decimal
    active_at: datetime | None = None
    awaits: str = ""
    lapses_at: datetime | None = None
    expires_at: datetime | None = None
    event_id: str = ""
    pending: Decimal = ZERO
    available: Decimal = ZERO
    reserved: Decimal = ZERO
    expired: Decimal = ZERO
    reversed: bool = False

    @property
    def order(self) -> tuple[datetime, datetime, str]:
        """Its place among the lots that are spent."""
        return (self.expires_at or _NEVER, self.earned_at, self.id)

    @property
    def open(self) -> bool:
        """Whether something is left of it."""
        return bool(self.pending or self.available or self.reserved)

    def expired_by(self, at: datetime) -> bool:
        """Whether what is available of it has expired at the instant."""
        return self.expires_at is not None and self.expires_at <= at


@dataclass(slots=True)
class Hold:
    """What a reservation holds and has spent, lot by lot in the order in which it was taken."""

    id: str
    expires_at: datetime
    reserved: dict[str, Decimal] = field(default_factory=dict)
    redeemed: dict[str, Decimal] = field(default_factory=dict)

    @property
    def held(self) -> Decimal:
        """How many points are set aside."""
        return sum(self.reserved.values(), ZERO)

    @property
    def spent(self) -> Decimal:
        """How many points are spent and not refunded."""
        return sum(self.redeemed.values(), ZERO)


# The figure of a lot that a book's postings make; other books are nobody's in particular.
_FIGURES = {Book.PENDING: "pending", Book.AVAILABLE: "available", Book.RESERVED: "reserved", Book.EXPIRED: "expired"}


class Ledger:
    """One member's ledger: its open lots and reservations as they were loaded, and the entries made since."""

    def __init__(self, lots: Iterable[Lot] = (), holds: Iterable[Hold] = (), owed: Decimal = ZERO) -> None:
        self.lots = {lot.id: lot for lot in lots}
        self.holds = {hold.id: hold for hold in holds}
        # What the member owes; the book `owed` holds its negative.
        self.owed = owed
        self.entries: list[Entry] = []
        # The lots that aren't as they were loaded.
        self.touched: set[str] = set()
        # Reservations that have run out of time since the ledger was loaded.
        self.timed_out: list[str] = []

    # --- what there is ---

    def total(self, book: Book) -> Decimal:
        """What the member has in one of his books."""
        if book is Book.OWED:
            return -self.owed
        return sum((getattr(lot, _FIGURES[book]) for lot in self.lots.values()), ZERO)

    def spendable(self) -> list[Lot]:
        """The lots with available points, in the order in which they are spent."""
        return sorted((lot for lot in self.lots.values() if lot.available), key=lambda lot: lot.order)

    def next_due(self) -> datetime | None:
        """When something happens by itself the next time."""
        return min((at for at, _, _ in self._coming()), default=None)

    # --- what happens by itself ---

    def settle(self, at: datetime) -> None:
        """Lets everything happen that was due by the instant, in its order: lots become spendable or expire,
        reservations run out of time."""
        while due := min((coming for coming in self._coming() if coming[0] <= at), default=None):
            when, what, subject = due
            if what == _ACTIVATION:
                self._activate(self.lots[subject], when)
            elif what == _TIMEOUT:
                self.timed_out.append(subject)
                self.release(subject, when, reason="RESERVATION_EXPIRED")
            else:
                self._expire(self.lots[subject], when)

    def _coming(self) -> Iterator[tuple[datetime, int, str]]:
        for lot in self.lots.values():
            if lot.pending and lot.active_at is not None:
                yield lot.active_at, _ACTIVATION, lot.id
            elif lot.pending and lot.lapses_at is not None:
                yield lot.lapses_at, _EXPIRY, lot.id
            if lot.available and lot.expires_at is not None:
                yield lot.expires_at, _EXPIRY, lot.id
        for hold in self.holds.values():
            if hold.held:
                yield hold.expires_at, _TIMEOUT, hold.id

    def _activate(self, lot: Lot, at: datetime) -> None:
        self._move(EntryKind.ACTIVATE, at, "ACTIVATED", lot.id, lot.pending, Book.PENDING, Book.AVAILABLE)
        self._claim(lot, at)

    def _expire(self, lot: Lot, at: datetime) -> None:
        if lot.available and lot.expired_by(at):
            self._move(EntryKind.EXPIRE, at, "EXPIRED", lot.id, lot.available, Book.AVAILABLE, Book.EXPIRED)
        else:
            self._move(EntryKind.EXPIRE, at, "LAPSED", lot.id, lot.pending, Book.PENDING, Book.EXPIRED)

    def _claim(self, lot: Lot, at: datetime) -> None:
        amount = min(self.owed, lot.available)
        if amount:
            self._move(EntryKind.CLAIM, at, "DEBT_PAID", lot.id, amount, Book.AVAILABLE, Book.OWED)

    # --- what is done ---

    def earn(self, lot: Lot, reason: str, *, rule_id: str = "") -> None:
        """Credits a new lot of `lot.amount` points."""
        self._credit(lot, EntryKind.EARN, Book.ISSUED, reason, rule_id=rule_id)

    def adjust(self, points: Decimal, at: datetime, reason: str, note: str, lot: Lot | None) -> None:
        """Corrects by hand: a new lot of `points`, or, when they are negative, a debit of the lots that expire first.

        Raises FailedPrecondition INSUFFICIENT_POINTS.
        """
        if lot is not None:
            self._credit(lot, EntryKind.ADJUST, Book.ADJUSTED, reason, note=note)
            return
        postings = [
            posting
            for taken, amount in self._taken(-points)
            for posting in between(taken, amount, Book.AVAILABLE, Book.ADJUSTED)
        ]
        self.post(Entry(kind=EntryKind.ADJUST, at=at, reason=reason, note=note, posting=tuple(postings)))

    def activate(self, action: str, at: datetime, expiries: dict[str, datetime | None]) -> None:
        """Makes those lots spendable that wait for the action; `expiries`: lot → when it expires then."""
        for lot in sorted(self.lots.values(), key=lambda lot: lot.order):
            if lot.pending and lot.awaits == action and lot.id in expiries:
                lot.active_at, lot.expires_at = at, expiries[lot.id]
                self._activate(lot, at)

    def reserve(self, hold: Hold, points: Decimal, at: datetime) -> None:
        """Sets points aside. Raises FailedPrecondition INSUFFICIENT_POINTS."""
        postings = [
            posting
            for lot_id, amount in self._taken(points)
            for posting in between(lot_id, amount, Book.AVAILABLE, Book.RESERVED)
        ]
        self.holds[hold.id] = hold
        self.post(
            Entry(kind=EntryKind.RESERVE, at=at, reason="RESERVED", posting=tuple(postings), reservation_id=hold.id)
        )

    def confirm(self, id: str, at: datetime) -> None:
        """Spends what a reservation holds."""
        postings = [
            posting
            for lot_id, amount in self.holds[id].reserved.items()
            for posting in between(lot_id, amount, Book.RESERVED, Book.REDEEMED)
        ]
        self.post(Entry(kind=EntryKind.CONFIRM, at=at, reason="SPENT", posting=tuple(postings), reservation_id=id))

    def release(self, id: str, at: datetime, reason: str = "RELEASED") -> None:
        """Gives back what a reservation holds; what has expired meanwhile expires, unless it is owed: then it pays."""
        returned: list[Posting] = []
        expired: list[Posting] = []
        paid: list[Posting] = []
        debt = self.owed
        for lot_id, amount in self.holds[id].reserved.items():
            lot = self.lots[lot_id]
            if not lot.expired_by(at):
                returned.extend(between(lot_id, amount, Book.RESERVED, Book.AVAILABLE))
                continue
            # Of an earning that was taken back while its points were set aside these are what is owed.
            pays = min(amount, debt) if lot.reversed else ZERO
            debt -= pays
            paid.extend(between(lot_id, pays, Book.RESERVED, Book.OWED))
            expired.extend(between(lot_id, amount - pays, Book.RESERVED, Book.EXPIRED))
        for kind, why, postings in (
            (EntryKind.RELEASE, reason, returned),
            (EntryKind.CLAIM, "DEBT_PAID", paid),
            (EntryKind.EXPIRE, "EXPIRED", expired),
        ):
            if postings:
                self.post(Entry(kind=kind, at=at, reason=why, posting=tuple(postings), reservation_id=id))
        for posting in returned:
            if posting.book is Book.AVAILABLE:
                self._claim(self.lots[posting.lot_id], at)

    def refund(self, id: str, points: Decimal, at: datetime, fresh: Lot) -> None:
        """Gives back so much of what a reservation has spent; `fresh` becomes the lot of those points whose own has
        expired. Raises InvalidArgument TOO_MUCH."""
        hold, left = self.holds[id], points
        if points > hold.spent:
            raise InvalidArgument(
                "TOO_MUCH",
                f"{hold.spent} points are spent and not refunded",
                violations=[Violation("points", f"at most {hold.spent}")],
            )
        postings: list[Posting] = []
        touched: dict[str, None] = {}
        for lot_id, spent in reversed(hold.redeemed.items()):
            amount = min(spent, left)
            if not amount:
                continue
            left -= amount
            to = lot_id
            if self.lots[lot_id].expired_by(at):
                to, fresh.amount = fresh.id, fresh.amount + amount
            touched[to] = None
            postings += [Posting(Book.REDEEMED, lot_id, -amount), Posting(Book.AVAILABLE, to, amount)]
        if fresh.amount:
            self.lots[fresh.id] = fresh
        self.post(Entry(kind=EntryKind.REFUND, at=at, reason="REFUNDED", posting=tuple(postings), reservation_id=id))
        for lot_id in touched:
            self._claim(self.lots[lot_id], at)

    def reverse(self, lot_id: str, at: datetime, reason: str, note: str = "") -> None:
        """Takes an earning back: what is left of the lot, and the rest becomes a debt."""
        lot = self.lots[lot_id]
        debt = lot.amount - lot.pending - lot.available - lot.expired
        postings = [
            *between(lot_id, lot.pending, Book.PENDING, Book.ISSUED),
            *between(lot_id, lot.available, Book.AVAILABLE, Book.ISSUED),
            *between(lot_id, debt, Book.OWED, Book.ISSUED),
        ]
        lot.reversed = True
        self.touched.add(lot_id)
        if postings:
            self.post(
                Entry(
                    kind=EntryKind.REVERSE,
                    at=at,
                    reason=reason,
                    note=note,
                    posting=tuple(postings),
                    event_id=lot.event_id,
                )
            )

    # --- how ---

    def post(self, entry: Entry) -> None:
        """Writes an entry down. Raises AssertionError, and is a mistake of ours, when it isn't balanced or leaves less
        than nothing."""
        assert entry.posting, entry
        assert not sum(posting.amount for posting in entry.posting), entry
        hold = self.holds.get(entry.reservation_id)
        for posting in entry.posting:
            self.touched.add(posting.lot_id)
            figure = _FIGURES.get(posting.book)
            if figure is not None:
                lot = self.lots[posting.lot_id]
                setattr(lot, figure, getattr(lot, figure) + posting.amount)
                assert getattr(lot, figure) >= 0, entry
            if posting.book is Book.OWED:
                self.owed -= posting.amount
                assert self.owed >= 0, entry
            if hold is not None:
                _held(hold, posting)
        self.entries.append(entry)

    def _taken(self, points: Decimal) -> Sequence[tuple[str, Decimal]]:
        taken, left = [], points
        for lot in self.spendable():
            if not left:
                break
            amount = min(lot.available, left)
            taken.append((lot.id, amount))
            left -= amount
        if left:
            raise insufficient(points - left, points)
        return taken

    def _credit(
        self, lot: Lot, kind: EntryKind, source: Book, reason: str, *, rule_id: str = "", note: str = ""
    ) -> None:
        self.lots[lot.id] = lot
        at_once = lot.active_at is not None and lot.active_at <= lot.earned_at
        self.post(
            Entry(
                kind=kind,
                at=lot.earned_at,
                reason=reason,
                posting=between(lot.id, lot.amount, source, Book.AVAILABLE if at_once else Book.PENDING),
                event_id=lot.event_id,
                rule_id=rule_id,
                note=note,
            )
        )
        if at_once:
            self._claim(lot, lot.earned_at)

    def _move(
        self, kind: EntryKind, at: datetime, reason: str, lot_id: str, amount: Decimal, source: Book, to: Book
    ) -> None:
        self.post(Entry(kind=kind, at=at, reason=reason, posting=between(lot_id, amount, source, to)))


# Of what is due at one instant: points become spendable, reservations give theirs back, and then what is left expires.
_ACTIVATION, _TIMEOUT, _EXPIRY = range(3)


def _held(hold: Hold, posting: Posting) -> None:
    parts = {Book.RESERVED: hold.reserved, Book.REDEEMED: hold.redeemed}.get(posting.book)
    if parts is not None:
        parts[posting.lot_id] = parts.get(posting.lot_id, ZERO) + posting.amount
        if not parts[posting.lot_id]:
            del parts[posting.lot_id]


def insufficient(there: Decimal, points: Decimal) -> FailedPrecondition:
    """The refusal of what is more than there is."""
    return FailedPrecondition(
        "INSUFFICIENT_POINTS",
        f"{there} of {points} points are available",
        violations=[Violation("points", f"at most {there}")],
        metadata={"available": f"{there:f}"},
    )
