"""What can be asked of club cards."""

from typing import Any

from chassis.convert import to_message
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from chassis.types import new_id
from chassis.unit import Unit
from customers.loyalty import store
from customers.loyalty.cards import ClubCard, new_number, normal_number
from customers.loyalty.domain import LoyaltyProgramMember
from customers.loyalty.values import ClubCardState
from svyaz.customers.v1 import loyalty_pb2


class Cards:
    """The part of the servicer that is about cards."""

    _database: Database

    def IssueClubCard(self, request: loyalty_pb2.IssueClubCardRequest, context: Any) -> loyalty_pb2.ClubCard:
        """The member's first card."""

        def work(unit: Unit) -> loyalty_pb2.ClubCard:
            member = unit.get(LoyaltyProgramMember, request.member_id)
            if store.card_of(unit, member.id) is not None:
                raise FailedPrecondition("HAS_CARD", f"member {member.id} has a card: replace that one")
            return to_message(_issued(unit, member), loyalty_pb2.ClubCard)

        return self._database.transact(request, loyalty_pb2.ClubCard, work)

    def ChangeClubCardState(
        self, request: loyalty_pb2.ChangeClubCardStateRequest, context: Any
    ) -> loyalty_pb2.ClubCard:
        """Activates or blocks a card."""
        number = normal_number(request.number)
        wanted = {
            loyalty_pb2.CLUB_CARD_STATE_ACTIVE: ClubCardState.ACTIVE,
            loyalty_pb2.CLUB_CARD_STATE_BLOCKED: ClubCardState.BLOCKED,
        }.get(request.state)
        if wanted is None:
            raise InvalidArgument(
                "BAD_STATE", "a card is activated or blocked", violations=[Violation("state", "active or blocked")]
            )

        def work(unit: Unit) -> loyalty_pb2.ClubCard:
            card = _card(unit, number)
            card.move(wanted, request.reason)
            unit.flush()
            return to_message(card, loyalty_pb2.ClubCard)

        return self._database.transact(request, loyalty_pb2.ClubCard, work)

    def ReplaceClubCard(self, request: loyalty_pb2.ReplaceClubCardRequest, context: Any) -> loyalty_pb2.ClubCard:
        """The new card in the place of an old one."""
        number = normal_number(request.number)

        def work(unit: Unit) -> loyalty_pb2.ClubCard:
            old = _card(unit, number)
            new = _made(old.branch, old.member_id or "", unit)
            old.replace(new, request.reason)
            # Before the new one, since a member has one card that can be used.
            unit.flush()
            unit.add(new)
            return to_message(new, loyalty_pb2.ClubCard)

        return self._database.transact(request, loyalty_pb2.ClubCard, work)


def _issued(unit: Unit, member: LoyaltyProgramMember) -> ClubCard:
    card = _made(member.branch, member.id, unit)
    unit.add(card)
    return card


def _made(branch: str, member_id: str, unit: Unit) -> ClubCard:
    return ClubCard(
        id=new_id(),
        branch=branch,
        member_id=member_id,
        number=new_number(),
        state=ClubCardState.ISSUED,
        issued_at=unit.at,
    )


def _card(unit: Unit, number: str) -> ClubCard:
    card = store.card_with(unit, number)
    if card is None:
        raise NotFound("NOT_FOUND", "there is no card with this number")
    return card
