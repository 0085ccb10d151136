"""Programmes, members, their accounts and balances, and reservations, and what may happen to them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Aggregate, EntityRef, Money, TimePeriod, require_transition
from customers.loyalty.values import (
    PointsReservationState,
)

# Where TM Forum's clients find what a reference names; a reference to a member or programme must have it.
_BASE = "/tmf-api/loyalty/v4"
UNIT = "points"
# A programme that is one of these enrols nobody; a member who is one of these neither earns nor spends.
_CLOSED = frozenset({"closed", "inactive", "retired", "cancelled", "terminated"})
_STOPPED = _CLOSED | {"suspended", "blocked"}


def reference(kind: str, id: str) -> EntityRef:
    """A reference to one of TMF658's resources: `LoyaltyProgramMember` and its id."""
    return EntityRef(id=id, href=f"{_BASE}/{kind[0].lower()}{kind[1:]}/{id}", at_referred_type=kind)


def _word(text: str | None) -> str:
    return re.sub(r"[^a-z]", "", (text or "").lower())


def refuse(reason: str, wrong: Iterable[Violation]) -> None:
    found = list(wrong)
    if found:
        raise InvalidArgument(reason, found[0].description, violations=found)


def reversed_period(period: TimePeriod | None, field: str = "valid_for") -> Iterator[Violation]:
    start, end = (period.start_date_time, period.end_date_time) if period is not None else (None, None)
    if start is not None and end is not None and end < start:
        yield Violation(field, "it ends before it starts")


@dataclass(kw_only=True, eq=False)
class LoyaltyProgramProductSpec(Aggregate):
    """A loyalty programme of a branch."""

    STATE: ClassVar[str | None] = "life_cycle_status"
    # Its members have accounts or they haven't.
    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"needs_loyalty_account"})

    brand: str | None = None
    description: str | None = None
    life_cycle_status: str | None = None
    name: str | None = None
    needs_loyalty_account: bool | None = None
    product_number: str | None = None
    valid_for: TimePeriod | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for a reversed period."""
        refuse("CONTRADICTION", reversed_period(self.valid_for))

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """As the caller wishes."""
        super().revise(changes, at)
        self.check(at)

    def enrols(self, at: datetime) -> bool:
        """Whether somebody may become a member at the instant."""
        return _word(self.life_cycle_status) not in _CLOSED and (self.valid_for is None or self.valid_for.covers(at))


@dataclass(kw_only=True, eq=False)
class LoyaltyProgramMember(Aggregate):
    """One customer in one programme. Without a programme it is a name that nothing is counted for yet."""

    STATE: ClassVar[str | None] = "status"
    _OURS: ClassVar[frozenset[str]] = frozenset(
        {
            "loyalty_account", "loyalty_balance", "tier", "tier_since", "tier_review_at", "tier_grace_until",
            "enrolled_at",
        }
    )  # fmt: skip

    name: str | None = None
    status: str | None = None
    valid_for: TimePeriod | None = None
    customer: EntityRef | None = None
    loyalty_program_product_spec: EntityRef | None = None
    loyalty_account: EntityRef | None = None
    loyalty_balance: EntityRef | None = None
    tier: str | None = None
    tier_since: datetime | None = None
    tier_review_at: datetime | None = None
    tier_grace_until: datetime | None = None
    enrolled_at: datetime | None = None

    @property
    def customer_id(self) -> str:
        """Whose points they are; empty: nobody's."""
        return (self.customer.id or "") if self.customer is not None else ""

    @property
    def program_id(self) -> str:
        """The programme; empty: none."""
        program = self.loyalty_program_product_spec
        return (program.id or "") if program is not None else ""

    @property
    def balance_id(self) -> str:
        """Where the points are counted; empty: nowhere."""
        return (self.loyalty_balance.id or "") if self.loyalty_balance is not None else ""

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for a reversed period and for a reference without an id."""
        wrong = list(reversed_period(self.valid_for))
        for name in ("customer", "loyalty_program_product_spec"):
            ref = getattr(self, name)
            if ref is not None and not ref.id:
                wrong.append(Violation(f"{name}.id", "required"))
        refuse("CONTRADICTION", wrong)

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes the changes; customer and programme stay once they are said. Raises InvalidArgument IMMUTABLE."""
        fixed = [
            name
            for name in ("customer", "loyalty_program_product_spec")
            if name in changes and getattr(self, name) is not None and _id(changes[name]) != _id(getattr(self, name))
        ]
        refuse("IMMUTABLE", [Violation(name, "it doesn't change once it is said") for name in fixed])
        super().revise({name: value for name, value in changes.items() if name not in self._OURS}, at)
        self.check(at)

    def count_in(self, balance: EntityRef | None) -> None:
        """Its points are counted there, before it is in any programme. Raises FailedPrecondition HAS_BALANCE."""
        if balance is not None and self.balance_id:
            raise FailedPrecondition(
                "HAS_BALANCE", f"member {self.id} has balance {self.balance_id}", metadata={"balance": self.balance_id}
            )
        self.loyalty_balance = balance

    def enrol(self, account: EntityRef | None, balance: EntityRef, at: datetime) -> None:
        """Becomes a member of its programme, with a balance and, where the programme has them, an account."""
        self.loyalty_program_product_spec = replace(
            self.loyalty_program_product_spec or EntityRef(),
            href=reference(LoyaltyProgramProductSpec.__name__, self.program_id).href,
        )
        self.loyalty_account, self.loyalty_balance, self.enrolled_at = account, balance, at

    def obstacle(self, at: datetime) -> str:
        """Why nothing is earned or spent at the instant; empty: it may be."""
        if self.enrolled_at is None:
            return "it is in no programme"
        if _word(self.status) in _STOPPED:
            return f"it is {self.status}"
        if self.valid_for is not None and not self.valid_for.covers(at):
            return "it isn't valid now"
        return ""

    def require_active(self, at: datetime) -> None:
        """Raises FailedPrecondition MEMBER_NOT_ACTIVE."""
        if obstacle := self.obstacle(at):
            raise FailedPrecondition("MEMBER_NOT_ACTIVE", f"member {self.id} takes no part: {obstacle}")


def _id(ref: EntityRef | None) -> str | None:
    return ref.id if ref is not None else None


@dataclass(kw_only=True, eq=False)
class LoyaltyAccount(Aggregate):
    """The account of a member in a programme."""

    loyalty_program_member: EntityRef | None = None
    loyalty_program_product_spec: EntityRef | None = None
    loyalty_balance: EntityRef | None = None


@dataclass(kw_only=True, eq=False)
class LoyaltyBalance(Aggregate):
    """What a member's ledger comes to, kept beside it: changed with each entry, under this row's lock."""

    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"loyalty_program_member", "quantity"})

    loyalty_program_member: EntityRef | None = None
    loyalty_account: EntityRef | None = None
    quantity: Money | None = None
    valid_for: TimePeriod | None = None
    pending: Decimal | None = None
    reserved: Decimal | None = None
    owed: Decimal | None = None
    next_expiry_at: datetime | None = None

    @property
    def member_id(self) -> str:
        """Whose it is."""
        return (self.loyalty_program_member.id or "") if self.loyalty_program_member is not None else ""

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument NEGATIVE, CONTRADICTION."""
        if self.quantity is not None and (self.quantity.value or 0) < 0:
            refuse("NEGATIVE", [Violation("quantity.value", "a balance is nothing or more")])
        wrong = list(reversed_period(self.valid_for))
        if self.loyalty_program_member is not None and not self.loyalty_program_member.id:
            wrong.append(Violation("loyalty_program_member.id", "required"))
        refuse("CONTRADICTION", wrong)

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Raises InvalidArgument IMMUTABLE, CONTRADICTION."""
        super().revise(changes, at)
        self.check(at)

    def valid(self, at: datetime) -> bool:
        """Whether anything may be spent of it at the instant."""
        return self.valid_for is None or self.valid_for.covers(at)

    def require_valid(self, at: datetime) -> None:
        """Raises FailedPrecondition BALANCE_NOT_VALID when nothing may be spent of it at the instant."""
        if not self.valid(at):
            raise FailedPrecondition("BALANCE_NOT_VALID", f"nothing may be spent of balance {self.id} now")

    @property
    def unit(self) -> str:
        """What its points are called."""
        return (self.quantity.unit or UNIT) if self.quantity is not None else UNIT


_RESERVATION_TRANSITIONS: Mapping[PointsReservationState, frozenset[PointsReservationState]] = {
    PointsReservationState.RESERVED: frozenset(
        {PointsReservationState.CONFIRMED, PointsReservationState.RELEASED, PointsReservationState.EXPIRED}
    ),
    PointsReservationState.CONFIRMED: frozenset({PointsReservationState.REFUNDED}),
    PointsReservationState.RELEASED: frozenset(),
    PointsReservationState.EXPIRED: frozenset(),
    PointsReservationState.REFUNDED: frozenset(),
}


@dataclass(kw_only=True, eq=False)
class PointsReservation(Aggregate):
    """Points set aside for something, and what became of them."""

    STATE: ClassVar[str | None] = "state"

    member_id: str | None = None
    points: Decimal | None = None
    state: PointsReservationState | None = None
    reference: str | None = None
    reserved_at: datetime | None = None
    expires_at: datetime | None = None
    refunded: Decimal | None = None
    value: Money | None = None
    # The first of those that were made together, of the members that one customer is; None: it is alone.
    group_id: str | None = None

    def move(self, wanted: PointsReservationState) -> None:
        """Raises FailedPrecondition BAD_TRANSITION."""
        current = self.state or PointsReservationState.RESERVED
        require_transition(f"PointsReservation {self.id}", _RESERVATION_TRANSITIONS, current, wanted)
        self.state = wanted

    def refund(self, points: Decimal) -> None:
        """Counts what was refunded. Raises FailedPrecondition NOT_SPENT unless the points were spent."""
        if self.state is not PointsReservationState.CONFIRMED:
            raise FailedPrecondition("NOT_SPENT", f"reservation {self.id} is {self.state}: nothing of it is spent")
        self.refunded = (self.refunded or Decimal(0)) + points
        if self.refunded == self.points:
            self.state = PointsReservationState.REFUNDED
