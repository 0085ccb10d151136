"""Persons, organizations, customers and accounts, and what may happen to them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from chassis.errors import InvalidArgument, Violation
from chassis.types import (
    Aggregate,
    Characteristic,
    ContactMedium,
    EntityRef,
    ExternalReference,
    Money,
    RelatedParty,
    TimePeriod,
    require_transition,
)
from customers.values import (
    AccountBalance,
    AccountRelationship,
    AccountTaxExemption,
    BillStructure,
    Contact,
    CreditProfile,
    Disability,
    FinancialAccountRef,
    IndividualIdentification,
    LanguageAbility,
    OrganizationChildRelationship,
    OrganizationIdentification,
    OrganizationParentRelationship,
    OtherNameIndividual,
    OtherNameOrganization,
    PartyCreditProfile,
    PaymentPlan,
    Skill,
    TaxExemptionCertificate,
)

# What a customer is called until the party that it engages is known.
UNVERIFIED = "unverified"
VERIFIED = "verified"


def _check_period(name: str, period: TimePeriod | None) -> None:
    if (
        period is not None
        and period.start_date_time is not None
        and period.end_date_time is not None
        and period.end_date_time < period.start_date_time
    ):
        raise InvalidArgument(
            "PERIOD_REVERSED", f"{name} ends before it starts", violations=[Violation(name, "reversed")]
        )


class IndividualState(StrEnum):
    """TM Forum's spelling of the last one included."""

    INITIALIZED = "initialized"
    VALIDATED = "validated"
    DECEASED = "deceaded"


INDIVIDUAL_TRANSITIONS: Mapping[IndividualState, frozenset[IndividualState]] = {
    IndividualState.INITIALIZED: frozenset({IndividualState.VALIDATED, IndividualState.DECEASED}),
    IndividualState.VALIDATED: frozenset({IndividualState.DECEASED}),
    IndividualState.DECEASED: frozenset(),
}


class OrganizationState(StrEnum):
    """Whether an organization is known, checked, or no more."""

    INITIALIZED = "initialized"
    VALIDATED = "validated"
    CLOSED = "closed"


ORGANIZATION_TRANSITIONS: Mapping[OrganizationState, frozenset[OrganizationState]] = {
    OrganizationState.INITIALIZED: frozenset({OrganizationState.VALIDATED, OrganizationState.CLOSED}),
    OrganizationState.VALIDATED: frozenset({OrganizationState.CLOSED}),
    OrganizationState.CLOSED: frozenset(),
}


class Referrer(Aggregate):
    """Something that refers to parties, customers or accounts, which therefore can't be deleted."""

    def references(self) -> Iterator[str]:
        """The ids that it refers to; empty ones and repetitions included."""
        yield from ()


@dataclass(kw_only=True, eq=False)
class Individual(Referrer):
    """A person."""

    STATE: ClassVar[str | None] = "status"

    aristocratic_title: str | None = None
    birth_date: datetime | None = None
    country_of_birth: str | None = None
    death_date: datetime | None = None
    family_name: str | None = None
    family_name_prefix: str | None = None
    formatted_name: str | None = None
    full_name: str | None = None
    gender: str | None = None
    generation: str | None = None
    given_name: str | None = None
    legal_name: str | None = None
    location: str | None = None
    marital_status: str | None = None
    middle_name: str | None = None
    nationality: str | None = None
    place_of_birth: str | None = None
    preferred_given_name: str | None = None
    title: str | None = None
    contact_medium: tuple[ContactMedium, ...] = ()
    credit_rating: tuple[PartyCreditProfile, ...] = ()
    disability: tuple[Disability, ...] = ()
    external_reference: tuple[ExternalReference, ...] = ()
    individual_identification: tuple[IndividualIdentification, ...] = ()
    language_ability: tuple[LanguageAbility, ...] = ()
    other_name: tuple[OtherNameIndividual, ...] = ()
    party_characteristic: tuple[Characteristic, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()
    skill: tuple[Skill, ...] = ()
    status: IndividualState | None = None
    tax_exemption_certificate: tuple[TaxExemptionCertificate, ...] = ()

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for a death before the birth."""
        self.status = self.status or IndividualState.INITIALIZED
        if self.birth_date and self.death_date and self.death_date < self.birth_date:
            raise InvalidArgument(
                "PERIOD_REVERSED", "the death lies before the birth", violations=[Violation("death_date", "too early")]
            )

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Also moves the state, where the table allows it."""
        wanted = changes.get("status")
        if wanted is not None and self.status is not None and wanted != self.status:
            require_transition("an individual", INDIVIDUAL_TRANSITIONS, self.status, wanted)
        super().revise({k: v for k, v in changes.items() if (k, v) != ("status", None)}, at)
        self.check(at)

    def references(self) -> Iterator[str]:
        """Its related parties."""
        yield from (party.id or "" for party in self.related_party)


@dataclass(kw_only=True, eq=False)
class Organization(Referrer):
    """A company, an authority, an association; or a part of one."""

    STATE: ClassVar[str | None] = "status"

    is_head_office: bool | None = None
    is_legal_entity: bool | None = None
    name: str | None = None
    name_type: str | None = None
    organization_type: str | None = None
    trading_name: str | None = None
    contact_medium: tuple[ContactMedium, ...] = ()
    credit_rating: tuple[PartyCreditProfile, ...] = ()
    exists_during: TimePeriod | None = None
    external_reference: tuple[ExternalReference, ...] = ()
    organization_child_relationship: tuple[OrganizationChildRelationship, ...] = ()
    organization_identification: tuple[OrganizationIdentification, ...] = ()
    organization_parent_relationship: OrganizationParentRelationship | None = None
    other_name: tuple[OtherNameOrganization, ...] = ()
    party_characteristic: tuple[Characteristic, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()
    status: OrganizationState | None = None
    tax_exemption_certificate: tuple[TaxExemptionCertificate, ...] = ()

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for a reversed period, or an organization that is its own parent."""
        self.status = self.status or OrganizationState.INITIALIZED
        _check_period("exists_during", self.exists_during)
        if self.id in self._relatives():
            raise InvalidArgument("OWN_RELATIVE", "an organization can't be its own parent or child")

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Also moves the state, where the table allows it."""
        wanted = changes.get("status")
        if wanted is not None and self.status is not None and wanted != self.status:
            require_transition("an organization", ORGANIZATION_TRANSITIONS, self.status, wanted)
        super().revise({k: v for k, v in changes.items() if (k, v) != ("status", None)}, at)
        self.check(at)

    def references(self) -> Iterator[str]:
        """Its related parties, its parent and its children."""
        yield from (party.id or "" for party in self.related_party)
        yield from self._relatives()

    def _relatives(self) -> Iterator[str]:
        parent = self.organization_parent_relationship
        for relation in (*self.organization_child_relationship, *((parent,) if parent else ())):
            if relation.organization is not None and relation.organization.id:
                yield relation.organization.id


@dataclass(kw_only=True, eq=False)
class Customer(Referrer):
    """A party in its role as our customer."""

    STATE: ClassVar[str | None] = "status"

    name: str | None = None
    status: str | None = None
    status_reason: str | None = None
    account: tuple[EntityRef, ...] = ()
    agreement: tuple[EntityRef, ...] = ()
    characteristic: tuple[Characteristic, ...] = ()
    contact_medium: tuple[ContactMedium, ...] = ()
    credit_profile: tuple[CreditProfile, ...] = ()
    engaged_party: RelatedParty | None = None
    payment_method: tuple[EntityRef, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()
    valid_for: TimePeriod | None = None
    market_segment: tuple[EntityRef, ...] = ()

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for a reversed period."""
        self.status = self.status or UNVERIFIED
        _check_period("valid_for", self.valid_for)

    def verify(self, party_is_known: bool) -> None:
        """Whoever engages an unknown party is shown as unverified; a status that somebody chose stays."""
        if self.status in (UNVERIFIED, VERIFIED):
            self.status = VERIFIED if party_is_known else UNVERIFIED

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """As the caller wishes: TM Forum leaves the status of a customer free."""
        super().revise(changes, at)
        self.check(at)

    def references(self) -> Iterator[str]:
        """The party engaged, related parties and accounts."""
        if self.engaged_party is not None:
            yield self.engaged_party.id or ""
        yield from (party.id or "" for party in self.related_party)
        yield from (account.id or "" for account in self.account)


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
        _check_period("valid_for", self.valid_for)
