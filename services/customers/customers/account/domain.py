"""Accounts and how their bills are made."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from chassis.types import EntityRef, Money, RelatedParty, TimePeriod
from customers.account.values import (
    AccountBalance,
    AccountRelationship,
    AccountTaxExemption,
    BillStructure,
    Contact,
    FinancialAccountRef,
    PaymentPlan,
)
from customers.party.domain import Referrer, check_period


@dataclass(kw_only=True, eq=False)
class Account(Referrer):
    """What all accounts have."""

    STATE: ClassVar[str | None] = "state"

    account_type: str | None = None
    description: str | None = None
    last_modified: datetime | None = None
    name: str | None = None
    state: str | None = None
    account_balance: tuple[AccountBalance, ...] = ()
    account_relationship: tuple[AccountRelationship, ...] = ()
    contact: tuple[Contact, ...] = ()
    credit_limit: Money | None = None
    related_party: tuple[RelatedParty, ...] = ()
    tax_exemption: tuple[AccountTaxExemption, ...] = ()

    @property
    def currencies(self) -> tuple[str, ...]:
        """The currencies that it is kept in."""
        return currencies(self.credit_limit, self.account_balance)

    def check(self, at: datetime) -> None:
        """Stamps the change."""
        self.last_modified = at

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """As the caller wishes; the time of the change is ours."""
        super().revise({k: v for k, v in changes.items() if k != "last_modified"}, at)
        self.check(at)

    def references(self) -> Iterator[str]:
        """Parties, other accounts, and those to contact."""
        yield from (party.id or "" for party in self.related_party)
        for relation in self.account_relationship:
            if relation.account is not None:
                yield relation.account.id or ""
        for contact in self.contact:
            if contact.related_party is not None:
                yield contact.related_party.id or ""


def currencies(limit: Money | None, balances: Iterable[AccountBalance]) -> tuple[str, ...]:
    """The currencies that an account's limit and balances are kept in (ISO 4217), in alphabetical order."""
    amounts = [limit, *(balance.amount for balance in balances)]
    return tuple(sorted({amount.unit for amount in amounts if amount is not None and amount.unit}))


def owners(parties: Iterable[RelatedParty]) -> tuple[str, ...]:
    """Whose an account is: the related parties that are owner or customer by role, else those referred to as one."""
    parties = tuple(parties)
    named = [party for party in parties if (party.role or "").lower() in ("owner", "customer")]
    named = named or [party for party in parties if party.at_referred_type == "Customer"]
    return tuple(party.id for party in named if party.id)


@dataclass(kw_only=True, eq=False)
class FinancialAccount(Account):
    """Where the money of other accounts is kept."""


@dataclass(kw_only=True, eq=False)
class BilledAccount(Account):
    """What accounts have that receive bills."""

    payment_status: str | None = None
    bill_structure: BillStructure | None = None
    default_payment_method: EntityRef | None = None
    financial_account: FinancialAccountRef | None = None
    payment_plan: tuple[PaymentPlan, ...] = ()

    def references(self) -> Iterator[str]:
        """Also the financial account, and how its bills are made."""
        yield from super().references()
        if self.financial_account is not None:
            yield self.financial_account.id or ""
        if (structure := self.bill_structure) is not None:
            parts = (structure.cycle_specification, structure.format, *structure.presentation_media)
            yield from (part.id or "" for part in parts if part is not None and part.is_ref)


@dataclass(kw_only=True, eq=False)
class PartyAccount(BilledAccount):
    """An account of a party."""


@dataclass(kw_only=True, eq=False)
class BillingAccount(BilledAccount):
    """An account that charges are billed to."""


@dataclass(kw_only=True, eq=False)
class SettlementAccount(BilledAccount):
    """An account to settle with a partner."""


@dataclass(kw_only=True, eq=False)
class BillFormat(Referrer):
    """How a bill looks."""

    description: str | None = None
    name: str | None = None


@dataclass(kw_only=True, eq=False)
class BillPresentationMedia(Referrer):
    """What a bill is presented on."""

    description: str | None = None
    name: str | None = None


@dataclass(kw_only=True, eq=False)
class BillingCycleSpecification(Referrer):
    """When bills are made, sent and due; shifts and offsets in days."""

    billing_date_shift: int | None = None
    billing_period: str | None = None
    charge_date_offset: int | None = None
    credit_date_offset: int | None = None
    description: str | None = None
    frequency: str | None = None
    mailing_date_offset: int | None = None
    name: str | None = None
    payment_due_date_offset: int | None = None
    valid_for: TimePeriod | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for a reversed period."""
        check_period("valid_for", self.valid_for)
