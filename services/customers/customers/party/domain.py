"""Persons, organizations and customers, and what may happen to them."""

from collections.abc import Iterator, Mapping
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
    RelatedParty,
    TimePeriod,
    require_transition,
)
from customers.party.values import (
    CreditProfile,
    Disability,
    IndividualIdentification,
    LanguageAbility,
    OrganizationChildRelationship,
    OrganizationIdentification,
    OrganizationParentRelationship,
    OtherNameIndividual,
    OtherNameOrganization,
    PartyCreditProfile,
    Skill,
    TaxExemptionCertificate,
)

# What an organization is that has members instead of employees.
HOUSEHOLD = "household"
# What a customer is called until the party that it engages is known.
UNVERIFIED = "unverified"
VERIFIED = "verified"


def check_period(name: str, period: TimePeriod | None) -> None:
    """Raises InvalidArgument PERIOD_REVERSED for one that ends before it starts."""
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
            require_transition("an individual", INDIVIDUAL_TRANSITIONS, self.status, wanted, attribute="status")
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
        check_period("exists_during", self.exists_during)
        if self.id in self._relatives():
            raise InvalidArgument("OWN_RELATIVE", "an organization can't be its own parent or child")

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Also moves the state, where the table allows it."""
        wanted = changes.get("status")
        if wanted is not None and self.status is not None and wanted != self.status:
            require_transition("an organization", ORGANIZATION_TRANSITIONS, self.status, wanted, attribute="status")
        super().revise({k: v for k, v in changes.items() if (k, v) != ("status", None)}, at)
        self.check(at)

    @property
    def is_household(self) -> bool:
        """Whether it is people who live together rather than an enterprise."""
        return (self.organization_type or "").strip().lower() == HOUSEHOLD

    def member(self, individual_id: str) -> RelatedParty | None:
        """How a person belongs to it; None: in no way."""
        return next((party for party in self.related_party if party.id == individual_id), None)

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
        check_period("valid_for", self.valid_for)

    def verify(self, party_is_known: bool) -> None:
        """Whoever engages an unknown party is shown as unverified; a status that somebody chose stays."""
        if self.status in (UNVERIFIED, VERIFIED):
            self.status = VERIFIED if party_is_known else UNVERIFIED

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """As the caller wishes: TM Forum leaves the status of a customer free."""
        super().revise(changes, at)
        self.check(at)

    def references(self) -> Iterator[str]:
        """The party engaged, related parties, accounts and agreements."""
        if self.engaged_party is not None:
            yield self.engaged_party.id or ""
        yield from (party.id or "" for party in self.related_party)
        yield from (account.id or "" for account in self.account)
        yield from (agreement.id or "" for agreement in self.agreement)
