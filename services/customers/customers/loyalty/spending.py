"""Setting points aside, spending them and giving them back: one member's, or those of a customer who is several.

After a merge a customer may be several members of a programme. What he spends is taken from all their lots, those first
that expire first; each member's part is a reservation of its own, in its own books, so that an un-merge has nothing to
part. The parts are one group: confirmed, released and refunded together, in one transaction.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from decimal import Decimal

from chassis.errors import FailedPrecondition
from chassis.types import Money, new_id
from chassis.unit import Unit
from customers.loyalty import lots, store
from customers.loyalty.books import Books, Opened
from customers.loyalty.domain import LoyaltyProgramMember, PointsReservation
from customers.loyalty.ledger import ZERO, Hold, Lot, insufficient
from customers.loyalty.rules import REFUND_DAYS, RESERVATION_MINUTES, require_positive
from customers.loyalty.values import PointsReservationState

_GIVEN_BACK = frozenset({PointsReservationState.RELEASED, PointsReservationState.EXPIRED})

# A part, and the books of the member whose it is.
Part = tuple[PointsReservation, Opened]


class Spending:
    """What becomes of reservations. Each answer is the reservation that was asked of, or the first of the group."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def reserve(
        self,
        unit: Unit,
        members: Sequence[LoyaltyProgramMember],
        points: Decimal,
        amount: Money | None,
        reference: str,
    ) -> PointsReservation:
        """Sets points aside of members of one programme; those who take no part are left alone.

        Raises FailedPrecondition REFERENCE_TAKEN, MEMBER_NOT_ACTIVE, INSUFFICIENT_POINTS, and what the terms refuse.
        """
        with ExitStack() as stack:
            # Everybody locks the ledgers of a programme in this order.
            ordered = sorted(members, key=lambda one: one.id)
            opened = [stack.enter_context(self._books.opened(unit, member)) for member in ordered]
            if reference and (known := _known(unit, ordered, reference)) is not None:
                held = sum((part.points or ZERO for part in store.parts_of(unit, known)), ZERO)
                if held != points:
                    raise FailedPrecondition("REFERENCE_TAKEN", f"{held} points are set aside for {reference}")
                return known
            active = [one for one in opened if not one.member.obstacle(unit.at) and one.balance.valid(unit.at)]
            if not active:
                ordered[0].require_active(unit.at)
                opened[0].balance.require_valid(unit.at)
            terms = opened[0].terms
            terms.check_burn(points, amount)
            expires_at = unit.at + timedelta(minutes=terms.reservation_minutes or RESERVATION_MINUTES)
            shares = _shares(active, points)
            made: list[PointsReservation] = []
            for one, share in shares:
                reservation = PointsReservation(
                    id=new_id(),
                    branch=one.member.branch,
                    member_id=one.member.id,
                    points=share,
                    state=PointsReservationState.RESERVED,
                    reference=reference or None,
                    reserved_at=unit.at,
                    expires_at=expires_at,
                    value=terms.value_of(share),
                )
                made.append(reservation)
                reservation.group_id = made[0].id if len(shares) > 1 else None
                one.ledger.reserve(Hold(reservation.id, expires_at), share, unit.at)
                unit.add(reservation)
        return made[0]

    def confirm(self, unit: Unit, id: str) -> PointsReservation:
        """Spends all that was set aside. Raises FailedPrecondition BAD_TRANSITION."""
        with self._parts(unit, id) as parts:
            for part, opened in parts:
                if part.state is not PointsReservationState.CONFIRMED:
                    part.move(PointsReservationState.CONFIRMED)
                    opened.ledger.confirm(part.id, unit.at)
        return unit.get(PointsReservation, id)

    def release(self, unit: Unit, id: str) -> PointsReservation:
        """Gives back all that was set aside. Raises FailedPrecondition BAD_TRANSITION."""
        with self._parts(unit, id) as parts:
            for part, opened in parts:
                if part.state not in _GIVEN_BACK:
                    part.move(PointsReservationState.RELEASED)
                    opened.ledger.release(part.id, unit.at)
        return unit.get(PointsReservation, id)

    def refund(self, unit: Unit, id: str, wanted: Decimal | None) -> PointsReservation:
        """Gives back so much of what was spent, what was taken last first; None: all of it. Raises FailedPrecondition
        NOT_SPENT, InvalidArgument TOO_MUCH, NOT_POSITIVE, TOO_FINE."""
        with self._parts(unit, id) as parts:
            spent = {part.id: _spent(part, opened) for part, opened in parts}
            left = sum(spent.values(), ZERO) if wanted is None else wanted
            later = [(part, opened) for part, opened in reversed(parts[1:]) if spent[part.id]]
            for part, opened in later:
                if share := min(left, spent[part.id]):
                    left -= share
                    _refund(unit, part, opened, share)
            # The first has what is left: also what is wrong with it, as when it is too much or nothing was spent.
            if left or not any(spent.values()):
                _refund(unit, *parts[0], left)
        return unit.get(PointsReservation, id)

    @contextmanager
    def _parts(self, unit: Unit, id: str) -> Iterator[list[Part]]:
        """The reservation, or all of its group, as they are now that their members' points are locked."""
        asked = unit.get(PointsReservation, id)
        found = sorted(store.parts_of(unit, asked), key=lambda one: one.member_id or "")
        with ExitStack() as stack:
            opened = [
                stack.enter_context(
                    self._books.opened(unit, unit.get(LoyaltyProgramMember, one.member_id or ""), reservation=one.id)
                )
                for one in found
            ]
            for one in found:
                unit.session.expunge(one)
            yield [(unit.get(PointsReservation, one.id), ledger) for one, ledger in zip(found, opened, strict=True)]
        unit.flush()


def _known(unit: Unit, members: Sequence[LoyaltyProgramMember], reference: str) -> PointsReservation | None:
    for member in members:
        found = store.reservation_for(unit, member.id, reference)
        if found is not None:
            return unit.get(PointsReservation, found.group_id) if found.group_id else found
    return None


def _shares(opened: Sequence[Opened], points: Decimal) -> list[tuple[Opened, Decimal]]:
    """How many of the points each member gives: all their lots as if they were one's."""
    queue = sorted(
        ((lot.order, number, lot.available) for number, one in enumerate(opened) for lot in one.ledger.spendable())
    )
    shares: dict[int, Decimal] = {}
    left = points
    for _, number, available in queue:
        taken = min(available, left)
        if taken:
            shares[number] = shares.get(number, ZERO) + taken
            left -= taken
    if left:
        raise insufficient(points - left, points)
    return [(opened[number], shares[number]) for number in sorted(shares)]


def _spent(part: PointsReservation, opened: Opened) -> Decimal:
    hold = opened.ledger.holds.get(part.id)
    return hold.spent if hold is not None else ZERO


def _refund(unit: Unit, part: PointsReservation, opened: Opened, points: Decimal) -> None:
    part.refund(points)
    require_positive(points, opened.terms.scale or 0)
    fresh = Lot(
        id=new_id(),
        earned_at=unit.at,
        amount=ZERO,
        active_at=unit.at,
        expires_at=lots.days_later(unit.at, opened.terms.refund_days or REFUND_DAYS, opened.zone),
    )
    opened.ledger.refund(part.id, points, unit.at, fresh)
