"""The value objects of parties, customers and accounts (TMF632, TMF629, TMF666)."""

from dataclasses import dataclass
from datetime import datetime

from chassis.types import Attachment, ContactMedium, EntityRef, Extensible, Money, RelatedParty, TimePeriod


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


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountBalance(Extensible):
    """What is owed or owned, of one kind, over a period."""

    balance_type: str | None = None
    amount: Money | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountRelationship(Extensible):
    """How one account relates to another."""

    relationship_type: str | None = None
    account: EntityRef | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BillingCycleSpecificationRefOrValue(Extensible):
    """A billing cycle, by reference or by value."""

    id: str | None = None
    href: str | None = None
    billing_date_shift: int | None = None
    billing_period: str | None = None
    charge_date_offset: int | None = None
    credit_date_offset: int | None = None
    date_shift: int | None = None
    description: str | None = None
    frequency: str | None = None
    is_ref: bool | None = None
    mailing_date_offset: int | None = None
    name: str | None = None
    payment_due_date_offset: int | None = None
    valid_for: TimePeriod | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BillFormatRefOrValue(Extensible):
    """A bill format, by reference or by value."""

    id: str | None = None
    href: str | None = None
    description: str | None = None
    is_ref: bool | None = None
    name: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BillPresentationMediaRefOrValue(Extensible):
    """A medium for bills, by reference or by value."""

    id: str | None = None
    href: str | None = None
    description: str | None = None
    is_ref: bool | None = None
    name: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BillStructure(Extensible):
    """How the bills of an account are made."""

    cycle_specification: BillingCycleSpecificationRefOrValue | None = None
    format: BillFormatRefOrValue | None = None
    presentation_media: tuple[BillPresentationMediaRefOrValue, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Contact(Extensible):
    """Whom to contact about an account."""

    contact_name: str | None = None
    contact_type: str | None = None
    party_role_type: str | None = None
    contact_medium: tuple[ContactMedium, ...] = ()
    related_party: RelatedParty | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FinancialAccountRef(Extensible):
    """A reference to a financial account, with its balance."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    account_balance: AccountBalance | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PaymentPlan(Extensible):
    """How a debt is paid off."""

    number_of_payments: int | None = None
    payment_frequency: str | None = None
    plan_type: str | None = None
    priority: int | None = None
    status: str | None = None
    payment_method: EntityRef | None = None
    total_amount: Money | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountTaxExemption(Extensible):
    """A tax that an account is exempt from."""

    certificate_number: str | None = None
    issuing_jurisdiction: str | None = None
    reason: str | None = None
    valid_for: TimePeriod | None = None
