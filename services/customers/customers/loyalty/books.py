"""Moving a member's points: his balance locked, what is due done first, then what is wanted, all of it written down.

Nothing here commits; whoever calls does it in his transaction. Two who want the same member's points wait for each
other at the balance's row.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from zoneinfo import ZoneInfo

from chassis.convert import to_message
from chassis.errors import FailedPrecondition, NotFound
from chassis.receipts import Receipt, ReceiptStep
from chassis.timers import TimerHandler, cancel_timer, set_timer
from chassis.types import Money, new_id
from chassis.unit import Unit
from chassis.zones import BranchZones
from customers.identity.store import members
from customers.loyalty import ledger_store, lots, store, tiers
from customers.loyalty.domain import LoyaltyBalance, LoyaltyProgramMember, PointsReservation
from customers.loyalty.earning import MemberFacts, earn, number_of, parse_facts
from customers.loyalty.entries import Book
from customers.loyalty.ledger import Ledger, Lot
from customers.loyalty.rules import TIER_PERIOD_MONTHS, EarnRule, LoyaltyTerms
from customers.loyalty.store import EarningRow
from customers.loyalty.tiers import Standing, TierDecision, TierReason
from customers.loyalty.values import (
    PRICED,
    LotTerms,
    LoyaltyEvent,
    PointsReservationState,
    TierBasis,
)
from svyaz.type.v1 import receipt_pb2

# The purposes of our timers: of a balance and of a member.
POINTS, TIER = "loyaltyPoints", "loyaltyTier"
_ZERO = Decimal(0)


@dataclass
class Opened:
    """A member's ledger while it is locked."""

    unit: Unit
    member: LoyaltyProgramMember
    balance: LoyaltyBalance
    ledger: Ledger
    zone: ZoneInfo
    # New lot → its rule's code and its terms.
    promised: dict[str, tuple[str, LotTerms]] = field(default_factory=dict)
    # The ids of the entries, once they are written.
    written: list[str] = field(default_factory=list)

    @cached_property
    def terms(self) -> LoyaltyTerms:
        """The programme's."""
        return store.terms_of(self.unit, self.member.program_id, self.member.branch)

    def new_lot(self, points: Decimal, at: datetime, terms: LotTerms, *, code: str = "", event_id: str = "") -> Lot:
        """A lot of points that are earned at the instant."""
        active = lots.active_at(terms, at, self.zone)
        lot = Lot(
            id=new_id(),
            earned_at=at,
            amount=points,
            active_at=active,
            awaits=(terms.pending_action or "") if active is None else "",
            lapses_at=lots.lapses_at(terms, at, self.zone),
            expires_at=lots.expires_at(terms, active, self.zone) if active is not None else None,
            event_id=event_id,
        )
        self.promised[lot.id] = (code, terms)
        return lot


class Books:
    """The ledgers of all members, in the calendars of their branches."""

    def __init__(self, zones: BranchZones) -> None:
        self._zones = zones

    @contextmanager
    def opened(
        self, unit: Unit, member: LoyaltyProgramMember, *, event_id: str = "", reservation: str = ""
    ) -> Iterator[Opened]:
        """The member's ledger, locked and as of now; what the block does is written at its end. `event_id` and
        `reservation` name what may be closed and is needed all the same. Raises NotFound without a balance."""
        balance = ledger_store.lock_balance(unit, member.balance_id)
        closed = ledger_store.lots_of_event(unit, balance, event_id) if event_id else ()
        ledger = ledger_store.load_ledger(unit, balance, lots=closed, reservation=reservation)
        opened = Opened(unit, member, balance, ledger, self._zones.zone(member.branch))
        ledger.settle(unit.at)
        # At once: whoever asks for a reservation has to find it as it is.
        _run_out(unit, ledger)
        yield opened
        ledger.settle(unit.at)
        self._write(opened)

    def _write(self, opened: Opened) -> None:
        unit, ledger, balance = opened.unit, opened.ledger, opened.balance
        if ledger.touched:
            opened.written = ledger_store.write_ledger(unit, balance, ledger, opened.promised)
            balance.quantity = Money(unit=balance.unit, value=ledger.total(Book.AVAILABLE))
            balance.pending, balance.reserved = ledger.total(Book.PENDING), ledger.total(Book.RESERVED)
            balance.owed = ledger.owed
            balance.next_expiry_at = next((lot.expires_at for lot in ledger.spendable()), None)
        _run_out(unit, ledger)
        due = ledger.next_due()
        if due is None:
            cancel_timer(unit, balance.id, POINTS)
        else:
            set_timer(unit, balance.id, POINTS, due, balance.branch)

    # --- earning ---

    def report(self, unit: Unit, customer_id: str, event: LoyaltyEvent) -> list[EarningRow]:
        """What an event comes to in each programme of the customer; an event that was seen before comes to what it came
        to then.

        In each programme it counts for one member: the customer's own, else that of another of the ids that it was
        merged from or into, the survivor's first.
        """
        return [self._earned(unit, member, event) for member in self._counting(unit, customer_id)]

    @staticmethod
    def _counting(unit: Unit, customer_id: str) -> list[LoyaltyProgramMember]:
        ids = members(unit, customer_id)
        chosen: dict[str, LoyaltyProgramMember] = {}
        for member in store.members_of(unit, sorted(ids, key=lambda one: one != customer_id)):
            chosen.setdefault(member.program_id, member)
        # Everybody locks a customer's ledgers in this order.
        return [chosen[program] for program in sorted(chosen)]

    def heard(self, unit: Unit, customer_id: str, event: LoyaltyEvent) -> None:
        """As `report`, of what a stream tells: what happened before somebody was a member isn't counted for him,
        however late it is heard."""
        for member in self._counting(unit, customer_id):
            if member.enrolled_at is None or member.enrolled_at <= event.at:
                self._earned(unit, member, event)

    def _earned(self, unit: Unit, member: LoyaltyProgramMember, event: LoyaltyEvent) -> EarningRow:
        with self.opened(unit, member) as opened:
            seen = store.earning_of(unit, member.id, event.id)
            if seen is not None:
                return seen
            rules = store.active_rules(unit, member.program_id, event.type)
            obstacle = member.obstacle(event.at)
            granted, receipt = earn(
                [] if obstacle else [rule.rule() for rule in rules], event, self._facts(opened, rules, event)
            )
            if obstacle:
                step = ReceiptStep(
                    subject=event.id, action="MEMBER_REJECTED", reason="MEMBER_NOT_ACTIVE", after=obstacle
                )
                receipt = replace(receipt, step=(step, *receipt.step))
            else:
                self._act(opened, event)
            lots_of = {rule.id: rule.lot for rule in rules}
            for grant in granted:
                terms = lots_of[grant.rule.id] or opened.terms.lot or LotTerms()
                lot = opened.new_lot(grant.points, event.at, terms, code=grant.rule.code, event_id=event.id)
                opened.ledger.earn(lot, grant.rule.reason, rule_id=grant.rule.id)
            spend, currency = _spend(event) if not obstacle else (_ZERO, "")
            row = EarningRow(
                member_id=member.id,
                event_id=event.id,
                branch=member.branch,
                event_type=event.type,
                at=event.at,
                points=sum((grant.points for grant in granted), _ZERO),
                spend=spend,
                currency=currency,
                reversed_at=None,
                receipt=written(receipt).SerializeToString(),
            )
            store.keep_earning(unit, row)
            self._look_at_tier(opened)
        return row

    def _facts(self, opened: Opened, rules: Sequence[EarnRule], event: LoyaltyEvent) -> MemberFacts:
        member = opened.member
        wanted = {
            (
                rule.code or "",
                cap.period,
                lots.period_start(cap.period, event.at, opened.zone),
                lots.period_end(cap.period, event.at, opened.zone),
            )
            for rule in rules
            for cap in rule.cap
            if cap.period is not None
        }
        used = store.used(opened.unit, opened.balance.id, sorted(wanted)) if wanted else {}
        tier = member.tier or ""
        return MemberFacts(id=member.id, tier=tier, multiplier=opened.terms.multiplier(tier), used=used)

    @staticmethod
    def _act(opened: Opened, event: LoyaltyEvent) -> None:
        """What waits for such an event can be spent."""
        waiting = [
            lot.id
            for lot in opened.ledger.lots.values()
            if lot.pending and lot.awaits == event.type and lot.earned_at <= event.at
        ]
        if waiting:
            at, promised = opened.unit.at, ledger_store.terms_of_lots(opened.unit, waiting)
            expiries = {lot: lots.expires_at(promised.get(lot, LotTerms()), at, opened.zone) for lot in waiting}
            opened.ledger.activate(event.type, at, expiries)

    def reverse(self, unit: Unit, member: LoyaltyProgramMember, event_id: str, note: str) -> list[str]:
        """Takes back what an event has earned; the entries' ids. Raises NotFound, FailedPrecondition
        ALREADY_REVERSED."""
        with self.opened(unit, member, event_id=event_id) as opened:
            earning = store.earning_of(unit, member.id, event_id)
            if earning is None:
                raise NotFound("NOT_FOUND", f"member {member.id} has earned nothing by event {event_id!r}")
            if earning.reversed_at is not None:
                raise FailedPrecondition("ALREADY_REVERSED", f"event {event_id} was taken back {earning.reversed_at}")
            for lot_id in ledger_store.lots_of_event(unit, opened.balance, event_id):
                opened.ledger.reverse(lot_id, unit.at, "EARNING_REVERSED", note)
            store.mark_reversed(unit, member.id, event_id)
        return opened.written

    def reverse_all(self, unit: Unit, customer_id: str, event_id: str, note: str) -> dict[str, list[str]]:
        """The same for every member of the customer whom the event has earned something: after a merge, or an un-merge,
        that may be another than the one whom it would count for now. Member's id → the entries' ids."""
        found = store.members_of(unit, members(unit, customer_id))
        earned = [
            (member, earning)
            for member in sorted(found, key=lambda one: (one.program_id, one.id))
            if (earning := store.earning_of(unit, member.id, event_id)) is not None
        ]
        if not earned:
            raise NotFound("NOT_FOUND", f"customer {customer_id} has earned nothing by event {event_id!r}")
        if all(earning.reversed_at is not None for _, earning in earned):
            raise FailedPrecondition("ALREADY_REVERSED", f"event {event_id} was taken back {earned[0][1].reversed_at}")
        return {
            member.id: self.reverse(unit, member, event_id, note)
            for member, earning in earned
            if earning.reversed_at is None
        }

    # --- tiers ---

    def enrolled(self, unit: Unit, member: LoyaltyProgramMember) -> None:
        """The tier that a member begins in."""
        terms = store.terms_of(unit, member.program_id, member.branch)
        self._decide(unit, member, terms, _ZERO, TierReason.ENROLLED)

    def _look_at_tier(self, opened: Opened) -> None:
        member, terms = opened.member, opened.terms
        if terms.tier or member.tier:
            self._decide(opened.unit, member, terms, self._qualifying(opened.unit, member, terms))

    def _qualifying(self, unit: Unit, member: LoyaltyProgramMember, terms: LoyaltyTerms) -> Decimal:
        months = terms.tier_period_months or TIER_PERIOD_MONTHS
        since = lots.months_later(unit.at, -months, self._zones.zone(member.branch))
        points, spend = store.qualifying(unit, member.id, since, terms.tier_currency or "")
        return spend if terms.tier_basis is TierBasis.SPEND else points

    def _decide(
        self,
        unit: Unit,
        member: LoyaltyProgramMember,
        terms: LoyaltyTerms,
        amount: Decimal,
        named: TierReason | None = None,
    ) -> None:
        zone = self._zones.zone(member.branch)
        decision = tiers.decide(
            terms.tier,
            Standing(tier=member.tier or "", review_at=member.tier_review_at, grace_until=member.tier_grace_until),
            amount,
            unit.at,
            next_review=lots.months_later(unit.at, terms.tier_period_months or TIER_PERIOD_MONTHS, zone),
            next_grace=lots.days_later(unit.at, terms.tier_grace_days or 0, zone),
        )
        if decision.reason is not None:
            _stand(unit, member, decision, named or decision.reason)

    # --- what happens by itself ---

    def timers(self) -> dict[str, TimerHandler]:
        """Purpose → handler."""
        return {POINTS: self._points_due, TIER: self._tier_due}

    def _points_due(self, balance_id: str, unit: Unit) -> None:
        balance = ledger_store.lock_balance(unit, balance_id)
        with self.opened(unit, unit.get(LoyaltyProgramMember, balance.member_id)):
            # Opening it is enough.
            pass

    def _tier_due(self, member_id: str, unit: Unit) -> None:
        member = unit.get(LoyaltyProgramMember, member_id)
        terms = store.terms_of(unit, member.program_id, member.branch)
        self._decide(unit, member, terms, self._qualifying(unit, member, terms))


def _run_out(unit: Unit, ledger: Ledger) -> None:
    if ledger.timed_out:
        for late in ledger.timed_out:
            unit.get(PointsReservation, late).move(PointsReservationState.EXPIRED)
        ledger.timed_out.clear()
        unit.flush()


def _stand(unit: Unit, member: LoyaltyProgramMember, decision: TierDecision, reason: TierReason) -> None:
    before, standing = member.tier or "", decision.standing
    if standing.tier != before:
        member.tier, member.tier_since = standing.tier or None, unit.at
    member.tier_review_at, member.tier_grace_until = standing.review_at, standing.grace_until
    store.keep_tier_change(
        unit,
        id=new_id(),
        branch=member.branch,
        member_id=member.id,
        at=unit.at,
        tier_before=before,
        tier_after=standing.tier,
        reason=str(reason),
        receipt=written(decision.receipt).SerializeToString(),
    )
    due = standing.grace_until or standing.review_at
    if due is not None:
        set_timer(unit, member.id, TIER, due, member.branch)


def _spend(event: LoyaltyEvent) -> tuple[Decimal, str]:
    if event.type in PRICED:
        return _ZERO, ""
    facts = parse_facts(event.facts)
    amount, currency = number_of(facts.get("amount")), facts.get("currency")
    if amount is None or not isinstance(currency, str):
        return _ZERO, ""
    # What was credited is negative, and spent less.
    return amount, currency


def written(receipt: Receipt) -> receipt_pb2.Receipt:
    """The receipt as the stored format has it."""
    message = receipt_pb2.Receipt(engine=receipt.engine, revision=receipt.revision, inputs=receipt.inputs.encode())
    message.step.extend(to_message(step, receipt_pb2.ReceiptStep) for step in receipt.step)
    return message
