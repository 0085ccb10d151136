"""How a customer becomes a member of a programme, and what keeps either from going away."""

from dataclasses import replace

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.references import lock_references, rely
from chassis.types import Money, new_id
from chassis.unit import Unit
from customers.identity.store import members
from customers.loyalty import ledger_store, store
from customers.loyalty.books import Books
from customers.loyalty.domain import (
    UNIT,
    LoyaltyAccount,
    LoyaltyBalance,
    LoyaltyProgramMember,
    LoyaltyProgramProductSpec,
    reference,
)
from customers.loyalty.ledger import ZERO
from customers.party.store import refer

_CUSTOMER = "SELECT branch FROM customer WHERE id = %(id)s"
_PROGRAM = "SELECT branch FROM loyalty_program_product_spec WHERE id = %(id)s"


class Enrolment:
    """The hooks of members' standard methods."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def creating(self, unit: Unit, member: LoyaltyProgramMember) -> None:
        """Enrols a new member whose programme is named. Raises InvalidArgument UNKNOWN_CUSTOMER, UNKNOWN_PROGRAM,
        OTHER_BRANCH; FailedPrecondition ALREADY_ENROLLED, PROGRAM_CLOSED."""
        _check_customer(unit, member)
        self._enrol(unit, member)

    def changed(self, unit: Unit, member: LoyaltyProgramMember) -> None:
        """As `creating`, for who names customer or programme only now."""
        _check_customer(unit, member)
        if member.enrolled_at is None:
            self._enrol(unit, member)

    def deleting(self, unit: Unit, member: LoyaltyProgramMember) -> None:
        """Raises FailedPrecondition HAS_LEDGER when points have ever been moved: the books stay."""
        if member.balance_id:
            balance = ledger_store.lock_balance(unit, member.balance_id)
            if ledger_store.has_entries(unit, balance.id):
                raise FailedPrecondition(
                    "HAS_LEDGER", f"points of member {member.id} have been moved: let it be cancelled instead"
                )
            if account := unit.find(LoyaltyAccount, _account_id(member)):
                unit.delete(account)
            unit.delete(balance)
        for card in store.cards_of(unit, member.id):
            unit.delete(card)
        refer(unit, member.id, LoyaltyProgramMember.__name__, member.branch, ())

    def _enrol(self, unit: Unit, member: LoyaltyProgramMember) -> None:
        if not member.program_id:
            return
        _check_program(unit, member)
        if member.customer_id:
            _check_alone(unit, member)
        program = unit.get(LoyaltyProgramProductSpec, member.program_id)
        own = reference(LoyaltyProgramMember.__name__, member.id)
        # What was opened for the member before comes along.
        balance_ref = member.loyalty_balance or reference(LoyaltyBalance.__name__, new_id())
        account_ref = None
        if program.needs_loyalty_account is not False:
            account_ref = reference(LoyaltyAccount.__name__, new_id())
            assert account_ref.id is not None
            unit.add(
                LoyaltyAccount(
                    id=account_ref.id,
                    branch=member.branch,
                    loyalty_program_member=own,
                    loyalty_program_product_spec=reference(LoyaltyProgramProductSpec.__name__, program.id),
                    loyalty_balance=balance_ref,
                )
            )
        terms = store.terms_of(unit, program.id, member.branch)
        if member.balance_id:
            balance = ledger_store.lock_balance(unit, member.balance_id)
            balance.loyalty_account = account_ref
            if balance.quantity is not None:
                balance.quantity = replace(balance.quantity, unit=terms.unit or balance.unit)
        else:
            assert balance_ref.id is not None
            unit.add(
                LoyaltyBalance(
                    id=balance_ref.id,
                    branch=member.branch,
                    loyalty_program_member=own,
                    loyalty_account=account_ref,
                    quantity=Money(unit=terms.unit or UNIT, value=ZERO),
                    pending=ZERO,
                    reserved=ZERO,
                    owed=ZERO,
                )
            )
        member.enrol(account_ref, balance_ref, unit.at)
        self._books.enrolled(unit, member)


def _account_id(member: LoyaltyProgramMember) -> str:
    return (member.loyalty_account.id or "") if member.loyalty_account is not None else ""


def _check_customer(unit: Unit, member: LoyaltyProgramMember) -> None:
    if not member.customer_id:
        return
    # Nobody deletes the customer meanwhile, nor afterwards.
    rows = rely(unit, _CUSTOMER, {"id": member.customer_id})
    _check_branch(rows, member, "customer.id", "UNKNOWN_CUSTOMER")
    refer(unit, member.id, LoyaltyProgramMember.__name__, member.branch, (member.customer_id,))


def _check_program(unit: Unit, member: LoyaltyProgramMember) -> None:
    rows = rely(unit, _PROGRAM, {"id": member.program_id})
    _check_branch(rows, member, "loyalty_program_product_spec.id", "UNKNOWN_PROGRAM")
    program = unit.get(LoyaltyProgramProductSpec, member.program_id)
    if not program.enrols(unit.at):
        raise FailedPrecondition("PROGRAM_CLOSED", f"programme {program.id} takes no members now")


def _check_branch(rows: list[tuple[object, ...]], member: LoyaltyProgramMember, field: str, reason: str) -> None:
    if not rows:
        raise InvalidArgument(reason, "there is no such thing", violations=[Violation(field, "unknown")])
    if rows[0][0] != member.branch:
        raise InvalidArgument(
            "OTHER_BRANCH", "it belongs to another branch", violations=[Violation(field, "of another branch")]
        )


def _check_alone(unit: Unit, member: LoyaltyProgramMember) -> None:
    """Raises FailedPrecondition ALREADY_ENROLLED when the customer, under any of its ids, is a member already."""
    for other in store.members_of(unit, members(unit, member.customer_id)):
        if other.program_id == member.program_id and other.id != member.id:
            raise FailedPrecondition(
                "ALREADY_ENROLLED",
                f"customer {member.customer_id} is member {other.id} of programme {member.program_id}",
                metadata={"member": other.id},
            )


def refuse_when_used(unit: Unit, program: LoyaltyProgramProductSpec) -> None:
    """Raises FailedPrecondition REFERENCED naming what needs the programme."""
    lock_references(unit)
    found = store.users_of(unit, program.id)
    if found:
        names = ", ".join(f"{kind} {key}" for kind, key in found)
        raise FailedPrecondition("REFERENCED", f"programme {program.id} is needed by {names}")
