"""A party in a role, and what may happen to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from chassis.errors import InvalidArgument, Violation
from chassis.types import Characteristic, ContactMedium, EntityRef, RelatedParty, TimePeriod
from customers.party.domain import Referrer, check_period
from customers.party.states import require_step
from customers.party.values import CreditProfile
from customers.role.values import RoleAccountRef


class RoleState(StrEnum):
    """How far the operator is with a counterparty."""

    INITIALIZED = "initialized"
    VALIDATED = "validated"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    TERMINATED = "terminated"


ROLE_TRANSITIONS: Mapping[RoleState, frozenset[RoleState]] = {
    RoleState.INITIALIZED: frozenset({RoleState.VALIDATED, RoleState.ACTIVE, RoleState.TERMINATED}),
    RoleState.VALIDATED: frozenset({RoleState.ACTIVE, RoleState.TERMINATED}),
    RoleState.ACTIVE: frozenset({RoleState.SUSPENDED, RoleState.TERMINATED}),
    RoleState.SUSPENDED: frozenset({RoleState.ACTIVE, RoleState.TERMINATED}),
    RoleState.TERMINATED: frozenset(),
}


@dataclass(kw_only=True, eq=False)
class PartyRole(Referrer):
    """A party as our partner, agent, dealer, competitor …: `name` says as what, `engaged_party` who."""

    STATE: ClassVar[str | None] = "status"

    name: str | None = None
    status: str | None = None
    status_reason: str | None = None
    account: tuple[RoleAccountRef, ...] = ()
    agreement: tuple[EntityRef, ...] = ()
    characteristic: tuple[Characteristic, ...] = ()
    contact_medium: tuple[ContactMedium, ...] = ()
    credit_profile: tuple[CreditProfile, ...] = ()
    engaged_party: RelatedParty | None = None
    payment_method: tuple[EntityRef, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()
    valid_for: TimePeriod | None = None
    kind: str | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for a reversed period, or one who is in a role to himself."""
        self.status = self.status or RoleState.INITIALIZED.value
        # Found by equality, whoever wrote `Partner` and whoever `partner`.
        self.kind = " ".join((self.name or "").lower().split())
        check_period("valid_for", self.valid_for)
        for i, profile in enumerate(self.credit_profile):
            check_period(f"credit_profile[{i}].valid_for", profile.valid_for)
        if self.engaged_party is not None and self.engaged_party.id == self.id:
            raise InvalidArgument(
                "OWN_PARTY", "a role can't engage itself", violations=[Violation("engaged_party.id", "the role itself")]
            )

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Also moves the state, where the table allows it."""
        wanted = changes.get("status")
        if wanted is not None:
            require_step("a role", RoleState, ROLE_TRANSITIONS, self.status, wanted)
        super().revise({k: v for k, v in changes.items() if (k, v) != ("status", None)}, at)
        self.check(at)

    def references(self) -> Iterator[str]:
        """The party engaged, related parties, accounts and agreements."""
        if self.engaged_party is not None:
            yield self.engaged_party.id or ""
        for references in (self.related_party, self.account, self.agreement):
            yield from (one.id or "" for one in references)
