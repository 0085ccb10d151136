"""What can be asked of members and their points: one method, one use case, one transaction."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from chassis.convert import from_money, from_timestamp, to_message, to_timestamp
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from chassis.resources import Collection, StandardMethods
from chassis.types import decimal_of
from chassis.unit import Unit
from customers.identity.store import members
from customers.loyalty import opening, store
from customers.loyalty.books import Books
from customers.loyalty.card_api import Cards
from customers.loyalty.cards import ClubCard
from customers.loyalty.domain import (
    UNIT,
    LoyaltyAccount,
    LoyaltyBalance,
    LoyaltyProgramMember,
    PointsReservation,
)
from customers.loyalty.earning import parse_facts
from customers.loyalty.enrolment import Enrolment
from customers.loyalty.ledger import ZERO
from customers.loyalty.ledger_store import entries_before, entries_named, open_lots
from customers.loyalty.rules import require_positive
from customers.loyalty.shown import earning_message, entry_messages
from customers.loyalty.spending import Spending
from customers.loyalty.values import LotTerms, LoyaltyEvent
from svyaz.customers.v1 import loyalty_pb2
from svyaz.type.v1 import receipt_pb2

MOST, USUAL = 1_000, 100
# What a reporter's clock may be ahead of ours.
_AHEAD = timedelta(minutes=5)


class Loyalty(Cards, StandardMethods):
    """TMF658's members, accounts and balances, and everything that moves points."""

    def __init__(self, database: Database, books: Books) -> None:
        self._database = database
        self._books = books
        self._spending = Spending(books)
        enrolment = Enrolment(books)
        super().__init__(
            loyalty_pb2.DESCRIPTOR.services_by_name["LoyaltyService"],
            Collection(
                database,
                LoyaltyProgramMember,
                loyalty_pb2.LoyaltyProgramMember,
                creating=enrolment.creating,
                changed=enrolment.changed,
                deleting=enrolment.deleting,
            ),
            Collection(database, LoyaltyAccount, loyalty_pb2.LoyaltyAccount),
            Collection(
                database,
                LoyaltyBalance,
                loyalty_pb2.LoyaltyBalance,
                creating=opening.opening,
                deleting=opening.closing,
            ),
            Collection(database, PointsReservation, loyalty_pb2.PointsReservation),
            Collection(database, ClubCard, loyalty_pb2.ClubCard),
        )

    # --- earning ---

    def ReportLoyaltyEvent(
        self, request: loyalty_pb2.ReportLoyaltyEventRequest, context: Any
    ) -> loyalty_pb2.ReportLoyaltyEventResponse:
        """Counts the event once for each programme of the customer."""
        _required(request, "event_id", "event_type", "customer_id")
        facts = request.facts.decode(errors="replace") or "{}"
        parse_facts(facts)

        def work(unit: Unit) -> loyalty_pb2.ReportLoyaltyEventResponse:
            at = from_timestamp(request.time) if request.HasField("time") else unit.at
            if at > unit.at + _AHEAD:
                raise InvalidArgument(
                    "IN_THE_FUTURE", "it hasn't happened yet", violations=[Violation("time", "in the future")]
                )
            event = LoyaltyEvent(id=request.event_id, type=request.event_type, at=min(at, unit.at), facts=facts)
            earned = self._books.report(unit, request.customer_id, event)
            return loyalty_pb2.ReportLoyaltyEventResponse(earning=[earning_message(row) for row in earned])

        return self._database.transact(request, loyalty_pb2.ReportLoyaltyEventResponse, work)

    def ReverseEarning(
        self, request: loyalty_pb2.ReverseEarningRequest, context: Any
    ) -> loyalty_pb2.ReverseEarningResponse:
        """Takes back what an event has earned."""

        _required(request, "event_id")
        if bool(request.member_id) == bool(request.customer_id):
            wrong = Violation("member_id", "the member, or the customer")
            raise InvalidArgument("REQUIRED", "whose earning it is", violations=[wrong])

        def work(unit: Unit) -> loyalty_pb2.ReverseEarningResponse:
            if request.customer_id:
                taken = self._books.reverse_all(unit, request.customer_id, request.event_id, request.note)
                return loyalty_pb2.ReverseEarningResponse(
                    entry=[
                        entry
                        for member_id, entries in taken.items()
                        for entry in self._entries(unit, unit.get(LoyaltyProgramMember, member_id), entries)
                    ]
                )
            member = _enrolled(unit, request.member_id)
            written = self._books.reverse(unit, member, request.event_id, request.note)
            return loyalty_pb2.ReverseEarningResponse(entry=self._entries(unit, member, written))

        return self._database.transact(request, loyalty_pb2.ReverseEarningResponse, work)

    def AdjustPoints(self, request: loyalty_pb2.AdjustPointsRequest, context: Any) -> loyalty_pb2.LoyaltyEntry:
        """A correction by hand."""
        points = _points(request.points)
        _required(request, "reason")

        def work(unit: Unit) -> loyalty_pb2.LoyaltyEntry:
            member = _enrolled(unit, request.member_id)
            with self._books.opened(unit, member) as opened:
                require_positive(abs(points), opened.terms.scale or 0)
                lot = None
                if points > 0:
                    # Given by hand, they are there; for how long, the programme says.
                    given = opened.terms.lot or LotTerms()
                    validity = LotTerms(
                        validity_days=given.validity_days,
                        validity_months=given.validity_months,
                        validity_rounding=given.validity_rounding,
                    )
                    lot = opened.new_lot(points, unit.at, validity)
                before = len(opened.ledger.entries)
                opened.ledger.adjust(points, unit.at, request.reason, request.note, lot)
            return self._entries(unit, member, opened.written[before : before + 1])[0]

        return self._database.transact(request, loyalty_pb2.LoyaltyEntry, work)

    # --- spending ---

    def ReservePoints(self, request: loyalty_pb2.ReservePointsRequest, context: Any) -> loyalty_pb2.PointsReservation:
        """Sets points aside."""
        points = _points(request.points)
        amount = from_money(request.amount) if request.HasField("amount") else None

        def work(unit: Unit) -> loyalty_pb2.PointsReservation:
            taking = _spending(unit, request)
            made = self._spending.reserve(unit, taking, points, amount, request.reference)
            return to_message(made, loyalty_pb2.PointsReservation)

        return self._database.transact(request, loyalty_pb2.PointsReservation, work)

    def ConfirmPoints(self, request: loyalty_pb2.ConfirmPointsRequest, context: Any) -> loyalty_pb2.PointsReservation:
        """Spends what was set aside."""

        def work(unit: Unit) -> loyalty_pb2.PointsReservation:
            return to_message(self._spending.confirm(unit, request.reservation_id), loyalty_pb2.PointsReservation)

        return self._database.transact(request, loyalty_pb2.PointsReservation, work)

    def ReleasePoints(self, request: loyalty_pb2.ReleasePointsRequest, context: Any) -> loyalty_pb2.PointsReservation:
        """Gives back what was set aside."""

        def work(unit: Unit) -> loyalty_pb2.PointsReservation:
            return to_message(self._spending.release(unit, request.reservation_id), loyalty_pb2.PointsReservation)

        return self._database.transact(request, loyalty_pb2.PointsReservation, work)

    def RefundPoints(self, request: loyalty_pb2.RefundPointsRequest, context: Any) -> loyalty_pb2.PointsReservation:
        """Gives back what was spent."""
        wanted = _points(request.points) if request.HasField("points") else None

        def work(unit: Unit) -> loyalty_pb2.PointsReservation:
            found = self._spending.refund(unit, request.reservation_id, wanted)
            return to_message(found, loyalty_pb2.PointsReservation)

        return self._database.transact(request, loyalty_pb2.PointsReservation, work)

    # --- what is shown ---

    def ListLoyaltyEntries(
        self, request: loyalty_pb2.ListLoyaltyEntriesRequest, context: Any
    ) -> loyalty_pb2.ListLoyaltyEntriesResponse:
        """What has happened to a member's points and why, the latest first."""
        most = _limit(request.limit)
        with self._database.unit() as unit:
            member = _counted(unit, request.member_id)
            found = entries_before(unit, member.balance_id, max(0, request.before), most)
            shown = entry_messages(unit, found, member.id, request.language)
        return loyalty_pb2.ListLoyaltyEntriesResponse(
            entry=shown,
            next_before=found[-1].sequence if len(found) == most and found[-1].sequence > 1 else 0,
        )

    def ListPointsLots(
        self, request: loyalty_pb2.ListPointsLotsRequest, context: Any
    ) -> loyalty_pb2.ListPointsLotsResponse:
        """The lots that have points left, in the order in which they would be spent."""
        with self._database.unit() as unit:
            member = _counted(unit, request.member_id)
            found = open_lots(unit, member.balance_id, _limit(request.limit))
        return loyalty_pb2.ListPointsLotsResponse(lot=[to_message(lot, loyalty_pb2.PointsLot) for lot in found])

    def ListTierChanges(
        self, request: loyalty_pb2.ListTierChangesRequest, context: Any
    ) -> loyalty_pb2.ListTierChangesResponse:
        """How a member has come to each tier, the latest first."""
        with self._database.unit() as unit:
            rows = store.tier_changes(unit, unit.get(LoyaltyProgramMember, request.member_id).id, USUAL)
        return loyalty_pb2.ListTierChangesResponse(
            change=[
                loyalty_pb2.TierChange(
                    time=to_timestamp(row.at),
                    tier_before=row.tier_before,
                    tier_after=row.tier_after,
                    reason=row.reason,
                    receipt=receipt_pb2.Receipt.FromString(row.receipt),
                )
                for row in rows
            ]
        )

    def GetEarning(self, request: loyalty_pb2.GetEarningRequest, context: Any) -> loyalty_pb2.Earning:
        """Why an event has earned a member what it has."""
        with self._database.unit() as unit:
            row = store.earning_of(unit, request.member_id, request.event_id)
        if row is None:
            raise NotFound("NOT_FOUND", "the event hasn't been seen for the member")
        return earning_message(row)

    def GetCustomerLoyalty(
        self, request: loyalty_pb2.GetCustomerLoyaltyRequest, context: Any
    ) -> loyalty_pb2.CustomerLoyalty:
        """The loyalty of a customer, whatever ids it was merged from."""
        _required(request, "customer_id")
        with self._database.unit() as unit:
            ids = members(unit, request.customer_id)
            found = store.members_of(unit, ids)
            by_program: dict[str, loyalty_pb2.ProgramLoyalty] = {}
            for member in found:
                shown = by_program.setdefault(
                    member.program_id, loyalty_pb2.ProgramLoyalty(program_id=member.program_id)
                )
                _add(shown, unit, member)
        return loyalty_pb2.CustomerLoyalty(
            customer_id=ids[0], merged_id=ids[1:], program=[by_program[key] for key in sorted(by_program)]
        )

    def _entries(self, unit: Unit, member: LoyaltyProgramMember, ids: list[str]) -> list[loyalty_pb2.LoyaltyEntry]:
        return entry_messages(unit, entries_named(unit, member.balance_id, ids)[::-1], member.id)


def _add(shown: loyalty_pb2.ProgramLoyalty, unit: Unit, member: LoyaltyProgramMember) -> None:
    balance = unit.get(LoyaltyBalance, member.balance_id)
    available = balance.quantity.value if balance.quantity is not None else None
    for name, value in (
        ("available", available),
        ("pending", balance.pending),
        ("reserved", balance.reserved),
        ("owed", balance.owed),
    ):
        before = Decimal(getattr(shown, name) or 0)
        setattr(shown, name, f"{before + (value or ZERO):f}")
    shown.unit = balance.unit or UNIT
    shown.member.append(to_message(member, loyalty_pb2.LoyaltyProgramMember))
    shown.balance.append(to_message(balance, loyalty_pb2.LoyaltyBalance))
    shown.card.extend(to_message(card, loyalty_pb2.ClubCard) for card in store.cards_of(unit, member.id))


# --- small things ----------------------------------------------------------------------------------------------------


def _required(request: Any, *names: str) -> None:
    absent = [name for name in names if not getattr(request, name)]
    if absent:
        raise InvalidArgument(
            "REQUIRED", "required fields are missing", violations=[Violation(name, "required") for name in absent]
        )


def _points(text: str) -> Decimal:
    try:
        return decimal_of(text)
    except ValueError as error:
        raise InvalidArgument("MALFORMED_DECIMAL", str(error), violations=[Violation("points", str(error))]) from error


def _limit(asked: int) -> int:
    if asked < 0:
        raise InvalidArgument("BAD_LIMIT", "not negative", violations=[Violation("limit", "not negative")])
    return min(asked or USUAL, MOST)


def _enrolled(unit: Unit, id: str) -> LoyaltyProgramMember:
    member = unit.get(LoyaltyProgramMember, id)
    if member.enrolled_at is None:
        raise FailedPrecondition("MEMBER_NOT_ACTIVE", f"member {id} is in no programme")
    return member


def _counted(unit: Unit, id: str) -> LoyaltyProgramMember:
    member = unit.get(LoyaltyProgramMember, id)
    if not member.balance_id:
        raise FailedPrecondition("MEMBER_NOT_ACTIVE", f"no points of member {id} are counted")
    return member


def _spending(unit: Unit, request: loyalty_pb2.ReservePointsRequest) -> list[LoyaltyProgramMember]:
    """Whose points are wanted. Raises InvalidArgument REQUIRED, NotFound, FailedPrecondition MEMBER_NOT_ACTIVE."""
    if request.member_id and not request.customer_id:
        return [_enrolled(unit, request.member_id)]
    if request.member_id or not (request.customer_id and request.program_id):
        wrong = Violation("member_id", "the member, or the customer and the programme")
        raise InvalidArgument("REQUIRED", "whose points they are", violations=[wrong])
    ids = members(unit, request.customer_id)
    found = [member for member in store.members_of(unit, ids) if member.program_id == request.program_id]
    if not found:
        raise NotFound("NOT_FOUND", f"customer {request.customer_id} isn't in programme {request.program_id}")
    return found
