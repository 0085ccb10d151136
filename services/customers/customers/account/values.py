"""The value objects of accounts (TMF666)."""

from dataclasses import dataclass

from chassis.types import ContactMedium, EntityRef, Extensible, Money, RelatedParty, TimePeriod


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
