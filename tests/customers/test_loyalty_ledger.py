"""The ledger of points: whatever happens to it, nothing is lost, nothing made, and nothing less than nothing."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chassis.errors import FailedPrecondition, InvalidArgument
from customers.loyalty import lots
from customers.loyalty.entries import Book, EntryKind
from customers.loyalty.ledger import Hold, Ledger, Lot
from customers.loyalty.values import DayRounding, LotTerms, PendingMode, PointsCapPeriod

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
BISHKEK, BERLIN = ZoneInfo("Asia/Bishkek"), ZoneInfo("Europe/Berlin")


def a_lot(id: str, points: int | str, *, at: datetime = NOW, days: int | None = None, **more: Any) -> Lot:
    """Points to be spent at once, for so many days."""
    values: dict[str, Any] = {"active_at": at, "expires_at": None if days is None else at + days * DAY, **more}
    return Lot(id=id, earned_at=at, amount=Decimal(points), **values)


def a_ledger(*of: Lot) -> Ledger:
    made = Ledger()
    for lot in of:
        made.earn(lot, "EARNED")
    return made


def left(ledger: Ledger) -> dict[str, int]:
    return {lot.id: int(lot.available) for lot in ledger.lots.values()}


def standing(ledger: Ledger) -> tuple[int, int]:
    """What is owed, and what can be spent."""
    return int(ledger.owed), int(ledger.total(Book.AVAILABLE))


def waiting(ledger: Ledger) -> tuple[int, int]:
    """What can't be spent yet, and what can."""
    return int(ledger.total(Book.PENDING)), int(ledger.total(Book.AVAILABLE))


def reserved(ledger: Ledger, points: int, at: datetime = NOW, id: str = "r", minutes: int = 30) -> None:
    ledger.reserve(Hold(id, at + timedelta(minutes=minutes)), Decimal(points), at)


def test_points_are_spent_from_the_lots_that_expire_first() -> None:
    ledger = a_ledger(
        a_lot("ever", 10), a_lot("late", 10, days=9), a_lot("soon", 10, days=1), a_lot("old", 10, at=NOW - DAY, days=10)
    )
    reserved(ledger, 25)
    # Of those that expire together the older first.
    assert left(ledger) == {"ever": 10, "late": 5, "soon": 0, "old": 0}
    assert [posting.lot_id for posting in ledger.entries[-1].posting if posting.amount > 0] == ["soon", "old", "late"]


def test_what_expires_is_what_is_left_of_a_lot_and_debits_stay_with_it() -> None:
    ledger = a_ledger(a_lot("first", 100, days=1), a_lot("second", 50, days=30))
    reserved(ledger, 70)
    ledger.confirm("r", NOW)
    ledger.settle(NOW + 2 * DAY)
    # A balance of credits that expire beside debits that don't would be 50 − 70.
    assert ledger.total(Book.AVAILABLE) == 50
    assert [(posting.book, int(posting.amount)) for posting in ledger.entries[-1].posting] == [
        (Book.AVAILABLE, -30),
        (Book.EXPIRED, 30),
    ]


def test_more_than_there_is_cant_be_set_aside() -> None:
    ledger = a_ledger(a_lot("one", 10))
    with pytest.raises(FailedPrecondition) as refused:
        reserved(ledger, 11)
    assert refused.value.reason == "INSUFFICIENT_POINTS"
    assert (left(ledger), len(ledger.entries)) == ({"one": 10}, 1)


def test_a_reservation_outlives_its_lots_but_whoever_lets_it_go_has_what_he_would_have() -> None:
    ledger = a_ledger(a_lot("soon", 10, days=1), a_lot("late", 10, days=9))
    reserved(ledger, 15, minutes=3 * 24 * 60)
    ledger.settle(NOW + 2 * DAY)
    ledger.release("r", NOW + 2 * DAY)
    assert left(ledger) == {"soon": 0, "late": 10}
    assert ledger.lots["soon"].expired == 10


def test_a_reservation_runs_out_of_time() -> None:
    ledger = a_ledger(a_lot("one", 10))
    reserved(ledger, 4)
    ledger.settle(NOW + timedelta(minutes=29))
    assert left(ledger) == {"one": 6}
    ledger.settle(NOW + timedelta(minutes=30))
    assert (left(ledger), ledger.timed_out, ledger.entries[-1].reason) == ({"one": 10}, ["r"], "RESERVATION_EXPIRED")


def test_a_refund_goes_back_to_its_lots_and_to_a_new_one_for_those_that_have_expired() -> None:
    ledger = a_ledger(a_lot("soon", 10, days=1), a_lot("late", 10, days=9))
    reserved(ledger, 16)
    ledger.confirm("r", NOW)
    later = NOW + 2 * DAY
    ledger.settle(later)
    ledger.refund("r", Decimal(4), later, a_lot("unused", 0, at=later, days=30))
    # Those spent last come back first.
    assert left(ledger) == {"soon": 0, "late": 8}
    ledger.refund("r", Decimal(12), later, a_lot("fresh", 0, at=later, days=30))
    assert left(ledger) == {"soon": 0, "late": 10, "fresh": 10}
    with pytest.raises(InvalidArgument):
        ledger.refund("r", Decimal(1), later, a_lot("more", 0))


def test_what_was_spent_of_an_earning_that_is_taken_back_is_owed_and_paid_by_the_next() -> None:
    ledger = a_ledger(a_lot("wrong", 100), a_lot("right", 10, days=1))
    reserved(ledger, 70)
    ledger.confirm("r", NOW)
    ledger.reverse("wrong", NOW, "EARNING_REVERSED")
    # 10 of the 70 were of the other lot, which expired first.
    assert standing(ledger) == (60, 0)
    ledger.earn(a_lot("next", 45), "EARNED")
    assert (standing(ledger), ledger.entries[-1].kind) == ((15, 0), EntryKind.CLAIM)
    ledger.earn(a_lot("last", 45), "EARNED")
    assert standing(ledger) == (0, 30)


def test_what_has_expired_of_an_earning_that_is_taken_back_is_not_owed() -> None:
    ledger = a_ledger(a_lot("wrong", 100, days=1))
    reserved(ledger, 30)
    ledger.confirm("r", NOW)
    ledger.settle(NOW + 2 * DAY)
    ledger.reverse("wrong", NOW + 2 * DAY, "EARNING_REVERSED")
    assert ledger.owed == 30


def test_what_expires_while_it_is_set_aside_of_an_earning_that_is_taken_back_is_not_owed() -> None:
    ledger = a_ledger(a_lot("wrong", 100, days=1))
    reserved(ledger, 30, minutes=3 * 24 * 60)
    ledger.reverse("wrong", NOW, "EARNING_REVERSED")
    assert standing(ledger) == (30, 0)
    ledger.settle(NOW + 2 * DAY)
    ledger.release("r", NOW + 2 * DAY)
    # He has never had them.
    assert standing(ledger) == (0, 0)


def test_pending_points_wait_for_their_time_or_their_event_and_lapse_in_vain() -> None:
    awaiting = a_lot("acts", 7, active_at=None, awaits="paid", lapses_at=NOW + 5 * DAY)
    ledger = a_ledger(a_lot("timed", 5, active_at=NOW + DAY), awaiting)
    lapsing = a_ledger(a_lot("acts", 7, active_at=None, awaits="paid", lapses_at=NOW + 5 * DAY))
    assert waiting(ledger) == (12, 0)
    ledger.settle(NOW + DAY)
    assert waiting(ledger) == (7, 5)
    ledger.activate("other", NOW + DAY, {"acts": None})
    ledger.activate("paid", NOW + DAY, {"acts": NOW + 3 * DAY})
    assert (waiting(ledger), ledger.next_due()) == ((0, 12), NOW + 3 * DAY)
    lapsing.settle(NOW + 5 * DAY)
    assert (waiting(lapsing), lapsing.entries[-1].reason) == ((0, 0), "LAPSED")


class Points(RuleBasedStateMachine):
    """Any sequence of what can be done: after each step the books are right."""

    @initialize()
    def begin(self) -> None:
        self.at, self.number = NOW, 0
        self.ledger = Ledger()

    def name(self) -> str:
        self.number += 1
        return f"{self.number:04d}"

    @rule(
        points=st.integers(1, 50),
        wait=st.sampled_from([0, 0, 1, 3, None]),
        days=st.sampled_from([None, 1, 2, 10]),
    )
    def earn(self, points: int, wait: int | None, days: int | None) -> None:
        active = None if wait is None else self.at + wait * DAY
        expires = None if days is None or active is None else active + days * DAY
        more: dict[str, Any] = {"awaits": "act", "lapses_at": self.at + 4 * DAY} if wait is None else {}
        self.ledger.earn(a_lot(self.name(), points, at=self.at, active_at=active, expires_at=expires, **more), "EARNED")

    @rule(hours=st.integers(1, 60))
    def time_passes(self, hours: int) -> None:
        self.at += timedelta(hours=hours)
        self.ledger.settle(self.at)
        due = self.ledger.next_due()
        assert due is None or due > self.at

    @rule()
    def act(self) -> None:
        acting: dict[str, datetime | None] = {
            lot.id: self.at + 2 * DAY for lot in self.ledger.lots.values() if lot.pending and lot.awaits
        }
        self.ledger.activate("act", self.at, acting)

    @rule(points=st.integers(1, 80), hours=st.integers(1, 40))
    def reserve(self, points: int, hours: int) -> None:
        before = self.ledger.spendable()
        there = self.ledger.total(Book.AVAILABLE)
        hold = Hold(self.name(), self.at + timedelta(hours=hours))
        if points > there:
            with pytest.raises(FailedPrecondition):
                self.ledger.reserve(hold, Decimal(points), self.at)
            return
        self.ledger.reserve(hold, Decimal(points), self.at)
        # Every lot before the last that was touched is used up.
        touched = list(hold.reserved)
        assert touched == [lot.id for lot in before[: len(touched)]]
        assert all(not self.ledger.lots[lot].available for lot in touched[:-1])

    @precondition(lambda self: any(hold.held for hold in self.ledger.holds.values()))
    @rule(data=st.data(), confirm=st.booleans())
    def end_reservation(self, data: st.DataObject, confirm: bool) -> None:
        held = data.draw(st.sampled_from(sorted(hold.id for hold in self.ledger.holds.values() if hold.held)))
        (self.ledger.confirm if confirm else self.ledger.release)(held, self.at)

    @precondition(lambda self: any(hold.spent for hold in self.ledger.holds.values()))
    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from([hold for hold in self.ledger.holds.values() if hold.spent]))
        points = data.draw(st.integers(1, int(hold.spent)))
        fresh = a_lot(self.name(), 0, at=self.at, days=3)
        self.ledger.refund(hold.id, Decimal(points), self.at, fresh)

    @precondition(lambda self: any(not lot.reversed for lot in self.ledger.lots.values()))
    @rule(data=st.data())
    def reverse(self, data: st.DataObject) -> None:
        lot = data.draw(st.sampled_from([lot.id for lot in self.ledger.lots.values() if not lot.reversed]))
        self.ledger.reverse(lot, self.at, "EARNING_REVERSED")

    @rule(points=st.integers(-40, 40).filter(bool))
    def adjust(self, points: int) -> None:
        if points < 0 and -points > self.ledger.total(Book.AVAILABLE):
            with pytest.raises(FailedPrecondition):
                self.ledger.adjust(Decimal(points), self.at, "CORRECTION", "", None)
            return
        lot = a_lot(self.name(), points, at=self.at, days=5) if points > 0 else None
        self.ledger.adjust(Decimal(points), self.at, "CORRECTION", "", lot)

    @invariant()
    def the_books_are_right(self) -> None:
        of_book: dict[Book, Decimal] = defaultdict(Decimal)
        of_lot: dict[tuple[Book, str], Decimal] = defaultdict(Decimal)
        for entry in self.ledger.entries:
            assert sum(posting.amount for posting in entry.posting) == 0
            for posting in entry.posting:
                of_book[posting.book] += posting.amount
                of_lot[posting.book, posting.lot_id] += posting.amount
        assert sum(of_book.values()) == 0
        for book in (Book.PENDING, Book.AVAILABLE, Book.RESERVED):
            assert self.ledger.total(book) == of_book[book] >= 0
        assert self.ledger.owed == -of_book[Book.OWED] >= 0
        for lot in self.ledger.lots.values():
            for book, kept in (
                (Book.PENDING, lot.pending),
                (Book.AVAILABLE, lot.available),
                (Book.RESERVED, lot.reserved),
                (Book.EXPIRED, lot.expired),
            ):
                assert kept == of_lot[book, lot.id] >= 0
            assert not (lot.available and lot.expired_by(self.at))
        # Nobody owes more than what he has spent, or set aside, of earnings that were taken back.
        gone = (
            lot.amount - lot.pending - lot.available - lot.expired for lot in self.ledger.lots.values() if lot.reversed
        )
        assert self.ledger.owed <= sum(gone, Decimal(0))
        held = sum((hold.held for hold in self.ledger.holds.values()), Decimal(0))
        assert held == of_book[Book.RESERVED]


Points.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestAnySequence = Points.TestCase


# --- the calendar ----------------------------------------------------------------------------------------------------


def test_days_are_the_branchs_and_rounded_as_the_terms_say() -> None:
    # 02:00 of 2 March in Bishkek.
    at = datetime(2026, 3, 1, 20, tzinfo=UTC)
    waits = LotTerms(pending=PendingMode.DURATION, pending_days=3, pending_rounding=DayRounding.START_OF_DAY)
    active = lots.active_at(waits, at, BISHKEK)
    assert active == datetime(2026, 3, 4, 18, tzinfo=UTC)
    valid = LotTerms(validity_months=1, validity_rounding=DayRounding.END_OF_DAY)
    assert lots.expires_at(valid, active, BISHKEK) == datetime(2026, 4, 5, 18, tzinfo=UTC)
    assert lots.expires_at(LotTerms(), active, BISHKEK) is None
    assert lots.active_at(LotTerms(pending=PendingMode.ACTION, pending_action="x"), at, BISHKEK) is None
    at_once = LotTerms(pending=PendingMode.DURATION, pending_days=0, pending_rounding=DayRounding.START_OF_DAY)
    assert lots.active_at(at_once, at, BISHKEK) == at


def test_a_month_after_the_31st_is_the_last_day_and_clocks_may_change() -> None:
    at = datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert lots.months_later(at, 1, BERLIN) == datetime(2026, 2, 28, 11, tzinfo=UTC)
    # Noon in Berlin before and after 29 March 2026.
    assert lots.days_later(datetime(2026, 3, 28, 11, tzinfo=UTC), 1, BERLIN) == datetime(2026, 3, 29, 10, tzinfo=UTC)
    begins = lots.period_start(PointsCapPeriod.WEEK, datetime(2026, 3, 29, 22, 30, tzinfo=UTC), BERLIN)
    # It is Monday already, there.
    assert begins == datetime(2026, 3, 29, 22, tzinfo=UTC)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 (made aware below)
    st.integers(0, 400),
    st.sampled_from(DayRounding),
    st.sampled_from([BISHKEK, BERLIN]),
)
@settings(max_examples=50, deadline=None)
def test_points_never_expire_before_they_can_be_spent(
    at: datetime, days: int, rounding: DayRounding, zone: ZoneInfo
) -> None:
    earned = at.replace(tzinfo=UTC)
    terms = LotTerms(
        pending=PendingMode.DURATION,
        pending_days=days,
        pending_rounding=rounding,
        validity_days=days,
        validity_rounding=rounding,
    )
    active = lots.active_at(terms, earned, zone)
    assert active is not None
    assert active >= earned
    expires = lots.expires_at(terms, active, zone)
    assert expires is not None
    assert expires > active
