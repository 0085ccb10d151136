"""The value objects of parties and customers (TMF632, TMF629)."""

from dataclasses import dataclass
from datetime import datetime

from chassis.types import Attachment, EntityRef, Extensible, TimePeriod


@dataclass(frozen=True, kw_only=True, slots=True)
class PartyCreditProfile(Extensible):
    """What a credit agency thinks of a party."""

    credit_agency_name: str | None = None
    credit_agency_type: str | None = None
    rating_reference: str | None = None
    rating_score: int | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Disability(Extensible):
    """A disability and since when."""

    disability_code: str | None = None
    disability_name: str | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class IndividualIdentification(Extensible):
    """A document that identifies a person."""

    identification_id: str | None = None
    identification_type: str | None = None
    issuing_authority: str | None = None
    issuing_date: datetime | None = None
    attachment: Attachment | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageAbility(Extensible):
    """How well a person commands a language."""

    is_favourite_language: bool | None = None
    language_code: str | None = None
    language_name: str | None = None
    listening_proficiency: str | None = None
    reading_proficiency: str | None = None
    speaking_proficiency: str | None = None
    writing_proficiency: str | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherNameIndividual(Extensible):
    """Another name of a person."""

    aristocratic_title: str | None = None
    family_name: str | None = None
    family_name_prefix: str | None = None
    formatted_name: str | None = None
    full_name: str | None = None
    generation: str | None = None
    given_name: str | None = None
    legal_name: str | None = None
    middle_name: str | None = None
    preferred_given_name: str | None = None
    title: str | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Skill(Extensible):
    """Something that a person is good at."""

    comment: str | None = None
    evaluated_level: str | None = None
    skill_code: str | None = None
    skill_name: str | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaxDefinition(Extensible):
    """A tax."""

    id: str | None = None
    name: str | None = None
    tax_type: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaxExemptionCertificate(Extensible):
    """A document that exempts a party from taxes."""

    id: str | None = None
    attachment: Attachment | None = None
    tax_definition: tuple[TaxDefinition, ...] = ()
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OrganizationChildRelationship(Extensible):
    """An organization below another."""

    relationship_type: str | None = None
    organization: EntityRef | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OrganizationIdentification(Extensible):
    """A document that identifies an organization."""

    identification_id: str | None = None
    identification_type: str | None = None
    issuing_authority: str | None = None
    issuing_date: datetime | None = None
    attachment: Attachment | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OrganizationParentRelationship(Extensible):
    """The organization above another."""

    relationship_type: str | None = None
    organization: EntityRef | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherNameOrganization(Extensible):
    """Another name of an organization."""

    name: str | None = None
    name_type: str | None = None
    trading_name: str | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CreditProfile(Extensible):
    """What a credit agency thinks of a customer."""

    credit_profile_date: datetime | None = None
    credit_risk_rating: int | None = None
    credit_score: int | None = None
    valid_for: TimePeriod | None = None
