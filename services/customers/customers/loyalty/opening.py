"""Balances that are opened with points from elsewhere, and closed: both are entries of the ledger like any other."""

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Money, new_id
from chassis.unit import Unit
from customers.loyalty import ledger_store
from customers.loyalty.domain import LoyaltyBalance, LoyaltyProgramMember, reference
from customers.loyalty.entries import Book
from customers.loyalty.ledger import ZERO, Ledger, Lot
from customers.loyalty.values import LotTerms

_OPENED, _CLOSED = "OPENING_BALANCE", "BALANCE_CLOSED"


def opening(unit: Unit, balance: LoyaltyBalance) -> None:
    """Enters what a new balance begins with, and gives it to its member, if there is one.

    Raises InvalidArgument OTHER_BRANCH, FailedPrecondition HAS_BALANCE.
    """
    member = unit.find(LoyaltyProgramMember, balance.member_id) if balance.member_id else None
    if member is not None:
        if member.branch != balance.branch:
            path = "loyalty_program_member.id"
            raise InvalidArgument(
                "OTHER_BRANCH", "it belongs to another branch", violations=[Violation(path, "of another branch")]
            )
        # Of two who open one for the same member, or of who enrols it meanwhile, one finds the member changed.
        member.count_in(reference(LoyaltyBalance.__name__, balance.id))
    points = (balance.quantity.value if balance.quantity is not None else None) or ZERO
    ledger = Ledger()
    if points:
        # No programme has said yet when they expire.
        lot = Lot(id=new_id(), earned_at=unit.at, amount=points, active_at=unit.at)
        ledger.adjust(points, unit.at, _OPENED, "", lot)
        ledger_store.write_ledger(unit, balance, ledger, {lot.id: ("", LotTerms())})
    balance.quantity = Money(unit=balance.unit, value=ledger.total(Book.AVAILABLE))
    balance.pending = balance.reserved = balance.owed = ZERO


def closing(unit: Unit, balance: LoyaltyBalance) -> None:
    """Writes off what is left of a balance. Raises FailedPrecondition REFERENCED when a programme's member needs it."""
    ledger_store.lock_balance(unit, balance.id)
    member = unit.find(LoyaltyProgramMember, balance.member_id) if balance.member_id else None
    if member is not None and member.balance_id == balance.id:
        if member.enrolled_at is not None:
            raise FailedPrecondition("REFERENCED", f"member {member.id} has its points in balance {balance.id}")
        member.count_in(None)
    ledger = ledger_store.load_ledger(unit, balance)
    left = ledger.total(Book.AVAILABLE)
    if left:
        ledger.adjust(-left, unit.at, _CLOSED, "", None)
        ledger_store.write_ledger(unit, balance, ledger, {})
