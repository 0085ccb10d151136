"""The rules of parties, customers and accounts, without anything around them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.types import EntityRef, Money, RelatedParty, TimePeriod
from customers.account.domain import BillingAccount, owners
from customers.account.values import AccountBalance, AccountRelationship, Contact
from customers.party.domain import (
    INDIVIDUAL_TRANSITIONS,
    ORGANIZATION_TRANSITIONS,
    Customer,
    Individual,
    IndividualState,
    Organization,
    OrganizationState,
)
from customers.party.values import OrganizationParentRelationship

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def individual(**values: object) -> Individual:
    made = Individual(id="i", branch="bishkek", given_name="Aida", family_name="Usenova", **values)  # type: ignore[arg-type]
    made.check(NOW)
    return made


def organization(**values: object) -> Organization:
    made = Organization(id="o", branch="bishkek", trading_name="Ala-Too", **values)  # type: ignore[arg-type]
    made.check(NOW)
    return made


def test_a_person_begins_initialized() -> None:
    assert individual().status is IndividualState.INITIALIZED


@pytest.mark.parametrize("current", IndividualState)
@pytest.mark.parametrize("wanted", IndividualState)
def test_a_person_goes_only_the_ways_of_the_table(current: IndividualState, wanted: IndividualState) -> None:
    person = individual(status=current)
    if wanted == current or wanted in INDIVIDUAL_TRANSITIONS[current]:
        person.revise({"status": wanted}, NOW)
        assert person.status is wanted
    else:
        with pytest.raises(FailedPrecondition, match="possible") as refusal:
            person.revise({"status": wanted}, NOW)
        assert refusal.value.metadata == {"from": str(current), "to": str(wanted)}
        assert person.status is current


@pytest.mark.parametrize("current", OrganizationState)
@pytest.mark.parametrize("wanted", OrganizationState)
def test_an_organization_goes_only_the_ways_of_the_table(current: OrganizationState, wanted: OrganizationState) -> None:
    company = organization(status=current)
    if wanted == current or wanted in ORGANIZATION_TRANSITIONS[current]:
        company.revise({"status": wanted}, NOW)
        assert company.status is wanted
    else:
        with pytest.raises(FailedPrecondition):
            company.revise({"status": wanted}, NOW)


def test_a_state_cannot_be_taken_away() -> None:
    person = individual(status=IndividualState.VALIDATED)
    person.revise({"status": None, "title": "Dr"}, NOW)
    assert (person.status, person.title) == (IndividualState.VALIDATED, "Dr")


def test_nobody_dies_before_birth() -> None:
    with pytest.raises(InvalidArgument) as refusal:
        individual(birth_date=NOW, death_date=NOW - timedelta(days=1))
    assert [violation.field for violation in refusal.value.violations] == ["death_date"]


def test_periods_end_after_they_start() -> None:
    reversed_ = TimePeriod(start_date_time=NOW, end_date_time=NOW - timedelta(seconds=1))
    with pytest.raises(InvalidArgument):
        organization(exists_during=reversed_)
    with pytest.raises(InvalidArgument):
        Customer(id="c", branch="bishkek", valid_for=reversed_).check(NOW)
    organization(exists_during=TimePeriod(start_date_time=NOW, end_date_time=NOW))


def test_an_organization_is_not_its_own_parent() -> None:
    with pytest.raises(InvalidArgument, match="parent"):
        organization(organization_parent_relationship=OrganizationParentRelationship(organization=EntityRef(id="o")))


@pytest.mark.parametrize(
    ("status", "known", "after"),
    [
        (None, True, "verified"),
        (None, False, "unverified"),
        ("verified", False, "unverified"),
        ("unverified", True, "verified"),
        ("suspended", True, "suspended"),
        ("suspended", False, "suspended"),
    ],
)
def test_a_customer_is_verified_by_its_party(status: str | None, known: bool, after: str) -> None:
    customer = Customer(id="c", branch="bishkek", status=status)
    customer.check(NOW)
    customer.verify(party_is_known=known)
    assert customer.status == after


def test_an_account_knows_when_it_changed_last_and_its_currencies() -> None:
    account = BillingAccount(
        id="a",
        branch="bishkek",
        credit_limit=Money(unit="USD", value=Decimal(1)),
        account_balance=(AccountBalance(amount=Money(unit="KGS", value=Decimal(2))), AccountBalance()),
    )
    account.check(NOW)
    account.revise({"last_modified": NOW - timedelta(days=9), "name": "Main"}, NOW + timedelta(days=1))
    assert account.last_modified == NOW + timedelta(days=1)
    assert account.currencies == ("KGS", "USD")


def test_references_are_all_that_is_named() -> None:
    account = BillingAccount(
        id="a",
        branch="bishkek",
        related_party=(RelatedParty(id="p"),),
        account_relationship=(AccountRelationship(account=EntityRef(id="b")), AccountRelationship()),
        contact=(Contact(related_party=RelatedParty(id="q")), Contact()),
    )
    assert {*account.references()} == {"p", "b", "q"}


def test_an_account_belongs_to_its_owner_else_to_the_customers_that_it_names() -> None:
    seller = RelatedParty(id="s", role="Seller", at_referred_type="Organization")
    customer = RelatedParty(id="c", at_referred_type="Customer")
    owner = RelatedParty(id="o", role="Owner", at_referred_type="Individual")
    assert owners([]) == owners([seller]) == ()
    assert owners([seller, customer]) == ("c",)
    assert owners([seller, customer, owner]) == ("o",)
