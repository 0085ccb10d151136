"""Club cards: who holds one is a member."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from chassis.errors import InvalidArgument, Violation
from chassis.types import Aggregate, require_transition
from customers.loyalty.values import ClubCardState

# What the numbers of our cards begin with, their length, and the random digits between that and the check digit.
_PREFIX, _RANDOM = "29", 10
_CARD_TRANSITIONS: Mapping[ClubCardState, frozenset[ClubCardState]] = {
    ClubCardState.ISSUED: frozenset({ClubCardState.ACTIVE, ClubCardState.BLOCKED, ClubCardState.REPLACED}),
    ClubCardState.ACTIVE: frozenset({ClubCardState.BLOCKED, ClubCardState.REPLACED}),
    ClubCardState.BLOCKED: frozenset({ClubCardState.ACTIVE, ClubCardState.REPLACED}),
    ClubCardState.REPLACED: frozenset(),
}


def check_digit(digits: str) -> str:
    """The digit that makes a number valid by Luhn's formula (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def normal_number(text: str) -> str:
    """A card's number as it is kept, however it was grouped. Raises InvalidArgument BAD_CARD_NUMBER."""
    number = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"[0-9]{13}", number) or check_digit(number[:-1]) != number[-1]:
        raise InvalidArgument(
            "BAD_CARD_NUMBER",
            "the number of a card has 13 digits, of which the last checks the others",
            violations=[Violation("number", "mistyped")],
        )
    return number


def new_number() -> str:
    """A number that nobody can guess."""
    digits = _PREFIX + "".join(secrets.choice("0123456789") for _ in range(_RANDOM))
    return digits + check_digit(digits)


@dataclass(kw_only=True, eq=False)
class ClubCard(Aggregate):
    """A card that shows who is a member."""

    STATE: ClassVar[str | None] = "state"

    member_id: str | None = None
    number: str | None = None
    state: ClubCardState | None = None
    issued_at: datetime | None = None
    state_reason: str | None = None
    replaced_by: str | None = None

    def move(self, wanted: ClubCardState, reason: str) -> None:
        """Raises FailedPrecondition BAD_TRANSITION, naming both states."""
        current = self.state or ClubCardState.ISSUED
        if wanted is not current:
            require_transition(f"ClubCard {self.id}", _CARD_TRANSITIONS, current, wanted)
            self.state = wanted
        self.state_reason = reason or None

    def replace(self, by: "ClubCard", reason: str) -> None:
        """The other card comes in its place."""
        if self.state is ClubCardState.REPLACED:
            require_transition(f"ClubCard {self.id}", _CARD_TRANSITIONS, self.state, ClubCardState.REPLACED)
        self.move(ClubCardState.REPLACED, reason)
        self.replaced_by = by.number
