"""Publishing over gRPC, on PostgreSQL: two people, what stays, versions, and what would never apply."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from catalog.product.domain import LifecycleStatus
from catalog.product.values import BundlePricing, BundlePricingMode, POPAlteration, ProductPriceValue
from catalog.publication.domain import needs_approval, next_version
from chassis.errors import Aborted, FailedPrecondition, NotFound
from svyaz.catalog.v1 import catalog_pb2 as pb
from svyaz.catalog.v1 import pricing_rules_pb2, publication_pb2
from svyaz.type.v1 import values_pb2
from tests.catalog.conftest import Client
from tests.catalog.test_api import (
    ACTIVE,
    IN_DESIGN,
    IN_TEST,
    LAUNCHED,
    RETIRED,
    a_monthly_price,
    an_offering,
    bundled,
    refused,
)
from tests.catalog.things import BEFORE, NOW, a_discount, a_price, by_value
from tests.catalog.things import an_offering as a_plain_offering

OBSOLETE = pb.LIFECYCLE_STATUS_OBSOLETE
DAY = timedelta(days=1)


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at.replace(tzinfo=None))
    return made


def in_time(delta: timedelta) -> Timestamp:
    return stamp(datetime.now(UTC) + delta)


def in_test(author: Client, *prices: pb.ProductOfferingPrice, **more: Any) -> Any:
    return author.create(an_offering(*prices, **{"lifecycle_status": IN_TEST, **more}))


def launched(author: Client, reviewer: Client, *prices: pb.ProductOfferingPrice, **more: Any) -> Any:
    offering = in_test(author, *prices, **more)
    reviewer.approve(offering)
    return author.move(offering, ACTIVE, LAUNCHED)


def a_version(client: Client, offering: Any, **more: Any) -> Any:
    request = publication_pb2.CreateProductOfferingVersionRequest(id=offering.id, **more)
    return client.call("CreateProductOfferingVersion", request)


def lint(client: Client, offering: Any) -> list[str]:
    found = client.call("LintProductOffering", publication_pb2.LintProductOfferingRequest(id=offering.id))
    return [finding.field for finding in found.finding]


# --- a second person -------------------------------------------------------------------------------------------------


def test_an_offering_is_published_by_two_people(author: Client, reviewer: Client) -> None:
    offering = author.move(in_test(author), ACTIVE)
    error = refused(FailedPrecondition, "APPROVAL_REQUIRED", lambda: author.move(offering, LAUNCHED))
    assert [one.field for one in error.violations] == ["lifecycle_status"]
    refused(FailedPrecondition, "OWN_WORK", lambda: author.approve(offering))
    refused(FailedPrecondition, "APPROVAL_REQUIRED", lambda: reviewer.move(offering, LAUNCHED))
    approval = reviewer.approve(offering, note="seen")
    assert (approval.approver, list(approval.author), approval.note) == ("reviewer", ["author"], "seen")
    assert author.move(offering, LAUNCHED).lifecycle_status == LAUNCHED


def test_an_approval_is_of_what_was_there(author: Client, reviewer: Client) -> None:
    price = author.create(a_monthly_price(500))
    offering = in_test(author, price)
    refused(Aborted, "STALE_ETAG", lambda: reviewer.approve(offering, etag="7"))
    reviewer.approve(offering, etag=offering.etag)
    dearer = pb.ProductOfferingPrice(id=price.id, price=values_pb2.Money(unit="KGS", units=900))
    changes: list[tuple[Any, str]] = [
        (pb.ProductOffering(id=offering.id, name="Fibre 1000"), "name"),
        (dearer, "price"),
    ]
    for change, path in changes:
        author.update(change, path)
        author.move(offering, ACTIVE)
        refused(FailedPrecondition, "APPROVAL_REQUIRED", lambda: author.move(offering, LAUNCHED))
        reviewer.approve(offering)
    # What says nothing of what is sold doesn't matter.
    author.update(pb.ProductOffering(id=offering.id, description="Quick"), "description")
    author.move(offering, LAUNCHED)


def test_who_changed_a_price_does_not_approve_the_offering(author: Client, reviewer: Client) -> None:
    discount = author.create(
        pb.ProductOfferingPrice(name="d", price_type="discount", percentage="5", lifecycle_status=ACTIVE)
    )
    link = pb.ProductOfferingPriceRelationship(id=discount.id, relationship_type="discountedBy")
    offering = in_test(author, author.create(a_monthly_price(500, pop_relationship=[link])))
    reviewer.update(pb.ProductOfferingPrice(id=discount.id, percentage="7"), "percentage")
    refused(FailedPrecondition, "OWN_WORK", lambda: reviewer.approve(offering))


def test_authors_are_those_since_the_last_approval(
    author: Client, reviewer: Client, client_for: Callable[..., Client]
) -> None:
    third = client_for(["admin"], subject="third")
    offering = in_test(author)
    reviewer.update(pb.ProductOffering(id=offering.id, name="Mine"), "name")
    refused(FailedPrecondition, "OWN_WORK", lambda: reviewer.approve(offering))
    assert list(third.approve(offering).author) == ["author", "reviewer"]
    author.update(pb.ProductOffering(id=offering.id, name="His"), "name")
    assert list(reviewer.approve(offering).author) == ["author"]
    listed = author.call("ListAuthorship", publication_pb2.ListAuthorshipRequest(id=offering.id))
    assert [(one.kind, one.subject) for one in listed.items] == [
        (publication_pb2.AUTHORSHIP_KIND_APPROVAL, "reviewer"),
        (publication_pb2.AUTHORSHIP_KIND_CHANGE, "author"),
        (publication_pb2.AUTHORSHIP_KIND_APPROVAL, "third"),
        (publication_pb2.AUTHORSHIP_KIND_CHANGE, "reviewer"),
        (publication_pb2.AUTHORSHIP_KIND_CHANGE, "author"),
    ]
    assert listed.approved
    author.update(pb.ProductOffering(id=offering.id, name="Ours"), "name")
    assert not author.call("ListAuthorship", publication_pb2.ListAuthorshipRequest(id=offering.id)).approved
    refused(NotFound, "NOT_FOUND", lambda: author.call("ListAuthorship", publication_pb2.ListAuthorshipRequest(id="x")))


def test_nothing_is_approved_after_the_fact(author: Client, reviewer: Client) -> None:
    offering = launched(author, reviewer)
    refused(FailedPrecondition, "NOTHING_TO_APPROVE", lambda: reviewer.approve(offering))


def test_only_an_admin_creates_what_is_published_already(author: Client, manager: Client) -> None:
    for thing in (an_offering(lifecycle_status=LAUNCHED), a_monthly_price(lifecycle_status=LAUNCHED)):
        refused(FailedPrecondition, "APPROVAL_REQUIRED", lambda thing=thing: author.create(thing))  # type: ignore[misc]
        assert manager.create(thing).lifecycle_status == LAUNCHED


def test_a_large_discount_needs_a_second_person_before_it_counts(
    author: Client, reviewer: Client, manager: Client
) -> None:
    def a_discount_of(percent: str, **more: Any) -> pb.ProductOfferingPrice:
        return pb.ProductOfferingPrice(name="d", price_type="discount", percentage=percent, **more)

    refused(
        FailedPrecondition, "APPROVAL_REQUIRED", lambda: author.create(a_discount_of("30", lifecycle_status=ACTIVE))
    )
    author.create(a_discount_of("29.99", lifecycle_status=ACTIVE))
    large = author.create(a_discount_of("30", lifecycle_status=IN_TEST))
    error = refused(FailedPrecondition, "APPROVAL_REQUIRED", lambda: author.move(large, ACTIVE))
    assert [one.field for one in error.violations] == ["percentage"]
    refused(FailedPrecondition, "OWN_WORK", lambda: author.approve(large))
    reviewer.approve(large)
    author.move(large, ACTIVE)
    # One that counts already doesn't become large.
    bigger = pb.ProductOfferingPrice(id=large.id, percentage="90")
    refused(FailedPrecondition, "APPROVAL_REQUIRED", lambda: author.update(bigger, "percentage"))
    manager.create(a_discount_of("50", lifecycle_status=ACTIVE))


@pytest.mark.parametrize(
    ("thing", "fields"),
    [
        (a_discount("d", "30"), ["percentage"]),
        (a_discount("d", "-30"), ["percentage"]),
        (a_discount("d", "29"), []),
        (a_price("d", price_type="surcharge", percentage=Decimal(50), period=None), []),
        (a_discount("d", amount="900 KGS"), []),
    ],
)
def test_what_a_large_discount_is(thing: Any, fields: list[str]) -> None:
    assert [one.field for one in needs_approval(thing, Decimal(30))] == fields
    thing.lifecycle_status = thing.lifecycle_status.IN_DESIGN
    assert needs_approval(thing, Decimal(30)) == []


def test_a_large_discount_inside_an_offering() -> None:
    half = ProductPriceValue(percentage=Decimal(50))
    price = by_value(ProductPriceValue(), POPAlteration(price_type="discount", price=half))
    surcharge = by_value(ProductPriceValue(), POPAlteration(price_type="surcharge", price=half))
    bundle = BundlePricing(mode=BundlePricingMode.DISCOUNT, percentage=Decimal(40))
    offering = a_plain_offering("o", surcharge, price, lifecycle_status=LifecycleStatus.ACTIVE, bundle_pricing=bundle)
    assert [one.field for one in needs_approval(offering, Decimal(30))] == [
        "product_offering_price[1].price_alteration[0].price.percentage",
        "bundle_pricing.percentage",
    ]


# --- what is published stays -----------------------------------------------------------------------------------------


def test_what_is_published_does_not_change_in_place(author: Client, reviewer: Client) -> None:
    price = author.create(a_monthly_price(500))
    offering = launched(author, reviewer, price)
    error = refused(
        FailedPrecondition,
        "PUBLISHED",
        lambda: author.update(
            pb.ProductOffering(id=offering.id, name="Other", is_sellable=False), "name", "is_sellable"
        ),
    )
    assert sorted(one.field for one in error.violations) == ["is_sellable", "name"]
    assert "new version" in error.message
    sold = pb.ProductOfferingPrice(id=price.id, price=values_pb2.Money(unit="KGS", units=1))
    error = refused(FailedPrecondition, "PUBLISHED", lambda: author.update(sold, "price"))
    assert offering.id in error.message
    period = values_pb2.TimePeriod(start_date_time=in_time(DAY))
    error = refused(
        FailedPrecondition,
        "PUBLISHED",
        lambda: author.update(pb.ProductOffering(id=offering.id, valid_for=period), "valid_for"),
    )
    assert [one.field for one in error.violations] == ["valid_for.start_date_time"]
    # Even after its end: it is what was sold.
    author.move(offering, RETIRED)
    refused(
        FailedPrecondition, "PUBLISHED", lambda: author.update(pb.ProductOffering(id=offering.id, name="x"), "name")
    )


def test_what_may_still_change_of_it(author: Client, reviewer: Client) -> None:
    price = author.create(a_monthly_price(500))
    offering = launched(author, reviewer, price)
    end = values_pb2.TimePeriod(end_date_time=in_time(DAY))
    plan = pb.PlannedTransition(lifecycle_status=RETIRED, at=in_time(2 * DAY))
    changed = pb.ProductOffering(id=offering.id, description="d", valid_for=end, planned_transition=[plan])
    assert author.update(changed, "description", "valid_for", "planned_transition").description == "d"
    author.update(pb.ProductOfferingPrice(id=price.id, description="d"), "description")


@pytest.mark.parametrize("status", [ACTIVE, LAUNCHED])
def test_a_charge_is_not_taken_out_of_what_is_published(
    manager: Client, author: Client, reviewer: Client, status: Any
) -> None:
    kept = author.create(a_monthly_price(10))
    over = values_pb2.TimePeriod(end_date_time=in_time(DAY))
    price = manager.create(a_monthly_price(500, lifecycle_status=status))
    ending = manager.create(a_monthly_price(300, lifecycle_status=status, valid_for=over))
    launched(author, reviewer, kept, price, ending)
    for thing, end in ((price, -DAY), (ending, 9 * DAY), (ending, -DAY)):
        period = values_pb2.TimePeriod(end_date_time=in_time(end))
        change = pb.ProductOfferingPrice(id=thing.id, valid_for=period)
        error = refused(FailedPrecondition, "PUBLISHED", lambda c=change: author.update(c, "valid_for"))  # type: ignore[misc]
        assert [one.field for one in error.violations] == ["valid_for"]
    refused(FailedPrecondition, "PUBLISHED", lambda: author.update(pb.ProductOfferingPrice(id=ending.id), "valid_for"))
    refused(FailedPrecondition, "REFERENCED", lambda: author.move(price, RETIRED))


def test_a_price_does_not_change_on_its_way_to_the_market_when_what_it_belongs_to_is_there(
    author: Client, reviewer: Client
) -> None:
    price = author.create(a_monthly_price(500))
    offering = launched(author, reviewer, price)
    free = pb.ProductOfferingPrice(id=price.id, price=values_pb2.Money(unit="KGS", units=1), lifecycle_status=LAUNCHED)
    refused(FailedPrecondition, "PUBLISHED", lambda: author.update(free, "price", "lifecycle_status"))
    # Those who have it still pay by it.
    author.move(offering, RETIRED)
    refused(FailedPrecondition, "PUBLISHED", lambda: author.update(free, "price"))


def test_an_approval_is_of_charges_that_count(author: Client, reviewer: Client) -> None:
    price, other = author.create(a_monthly_price(500)), author.create(a_monthly_price(10))
    offering = in_test(author, price, other)
    reviewer.approve(offering)
    author.move(price, RETIRED)
    author.move(offering, ACTIVE)
    refused(FailedPrecondition, "APPROVAL_REQUIRED", lambda: author.move(offering, LAUNCHED))


# --- what prices rest on ---------------------------------------------------------------------------------------------


def a_list(*segments: str, **more: Any) -> pricing_rules_pb2.PriceList:
    named = [values_pb2.EntityRef(name=segment) for segment in segments]
    return pricing_rules_pb2.PriceList(name="Staff", market_segment=named, **more)


def a_rate(category: str, rate: str, **more: Any) -> pricing_rules_pb2.TaxRate:
    return pricing_rules_pb2.TaxRate(name="VAT", tax_category=category, rate=rate, **more)


@pytest.mark.parametrize("rule", [a_list("staff"), a_rate("two-people", "12")])
def test_prices_go_by_a_rule_only_when_two_people_have_seen_it(author: Client, reviewer: Client, rule: Any) -> None:
    active = type(rule)()
    active.CopyFrom(rule)
    active.lifecycle_status = ACTIVE
    refused(FailedPrecondition, "APPROVAL_REQUIRED", lambda: author.create(active))
    made = author.move(author.create(rule), IN_TEST)
    refused(FailedPrecondition, "APPROVAL_REQUIRED", lambda: author.move(made, ACTIVE))
    refused(FailedPrecondition, "OWN_WORK", lambda: author.approve(made))
    reviewer.approve(made)
    reviewer.update(type(rule)(id=made.id, name="Other"), "name")
    refused(FailedPrecondition, "APPROVAL_REQUIRED", lambda: author.move(made, ACTIVE))
    refused(FailedPrecondition, "OWN_WORK", lambda: reviewer.approve(made))
    author.approve(made)
    author.move(made, ACTIVE)
    listed = author.call("ListAuthorship", publication_pb2.ListAuthorshipRequest(id=made.id))
    assert (listed.items[0].subject, listed.approved) == ("author", True)
    refused(FailedPrecondition, "PUBLISHED", lambda: author.update(type(rule)(id=made.id, name="x"), "name"))
    over = values_pb2.TimePeriod(end_date_time=in_time(-DAY))
    refused(FailedPrecondition, "PUBLISHED", lambda: author.update(type(rule)(id=made.id, valid_for=over), "valid_for"))
    author.move(made, LAUNCHED, RETIRED)


def test_a_list_or_rate_that_prices_go_by_stays(manager: Client) -> None:
    staff = manager.create(a_list("staff", lifecycle_status=ACTIVE))
    everybody = pricing_rules_pb2.PriceList(id=staff.id, customer_branch=["osh"])
    refused(FailedPrecondition, "PUBLISHED", lambda: manager.update(everybody, "market_segment", "customer_branch"))
    rate = manager.create(a_rate("stays", "12", lifecycle_status=ACTIVE))
    refused(FailedPrecondition, "PUBLISHED", lambda: manager.update(a_rate("stays", "0", id=rate.id), "rate"))
    price = manager.create(a_monthly_price(5, price_list=staff.id, tax_category="stays"))
    for rule in (staff, rate):
        error = refused(FailedPrecondition, "REFERENCED", lambda r=rule: manager.move(r, RETIRED))  # type: ignore[misc]
        assert error.metadata == {"referrers": price.id}
    # Who holds it still pays by it.
    manager.move(price, RETIRED)
    refused(FailedPrecondition, "REFERENCED", lambda: manager.move(rate, RETIRED))
    manager.move(price, OBSOLETE)
    manager.move(rate, RETIRED)


def test_an_approval_is_of_the_lists_too(author: Client, reviewer: Client) -> None:
    staff = author.create(a_list("staff"))
    offering = in_test(author, author.create(a_monthly_price(5, price_list=staff.id)))
    reviewer.approve(offering)
    author.update(a_list("everybody", id=staff.id), "market_segment")
    author.move(offering, ACTIVE)
    refused(FailedPrecondition, "APPROVAL_REQUIRED", lambda: author.move(offering, LAUNCHED))
    reviewer.approve(offering)
    author.move(offering, LAUNCHED)
    error = refused(FailedPrecondition, "PUBLISHED", lambda: author.update(a_list(id=staff.id), "market_segment"))
    assert offering.id in error.message


# --- what is sold of a specification ---------------------------------------------------------------------------------


def a_specification(*values: bytes, **more: Any) -> pb.ProductSpecification:
    speed = pb.ProductSpecificationCharacteristic(
        name="speed",
        product_spec_characteristic_value=[pb.CharacteristicValueSpecification(value=value) for value in values],
    )
    return pb.ProductSpecification(name="Fibre", product_spec_characteristic=[speed], **more)


def narrowed(specification: Any, value: bytes) -> dict[str, Any]:
    use = pb.ProductSpecificationCharacteristicValueUse(
        name="speed", product_spec_characteristic_value=[pb.CharacteristicValueSpecification(value=value)]
    )
    return {
        "product_specification": values_pb2.ProductSpecificationRef(id=specification.id),
        "prod_spec_char_value_use": [use],
    }


def test_an_approval_is_of_the_specification_too(author: Client, reviewer: Client) -> None:
    specification = author.create(a_specification(b'"100"', b'"200"', lifecycle_status=ACTIVE))
    offering = in_test(author, **narrowed(specification, b'"100"'))
    reviewer.approve(offering)
    author.update(a_specification(b'"100"', id=specification.id), "product_spec_characteristic")
    author.move(offering, ACTIVE)
    refused(FailedPrecondition, "APPROVAL_REQUIRED", lambda: author.move(offering, LAUNCHED))
    reviewer.update(pb.ProductSpecification(id=specification.id, brand="Svyaz"), "brand")
    refused(FailedPrecondition, "OWN_WORK", lambda: reviewer.approve(offering))


def test_a_published_specification_is_described_and_not_changed(author: Client, reviewer: Client) -> None:
    part = author.create(a_specification(b'"100"', lifecycle_status=ACTIVE))
    whole = author.create(
        pb.ProductSpecification(
            name="Bundle",
            lifecycle_status=ACTIVE,
            is_bundle=True,
            bundled_product_specification=[pb.BundledProductSpecification(id=part.id)],
        )
    )
    reference = values_pb2.ProductSpecificationRef(id=whole.id)
    offering = launched(author, reviewer, product_specification=reference)
    rule = pb.ConfigurationRule(
        name="r", then=[pb.CharacteristicCondition(characteristic="speed", operator=pb.CONDITION_OPERATOR_PRESENT)]
    )
    changes: list[tuple[pb.ProductSpecification, str]] = [
        (pb.ProductSpecification(id=part.id), "product_spec_characteristic"),
        (pb.ProductSpecification(id=part.id, configuration_rule=[rule]), "configuration_rule"),
        (pb.ProductSpecification(id=whole.id, brand="Other"), "brand"),
    ]
    for change, path in changes:
        error = refused(FailedPrecondition, "PUBLISHED", lambda c=change, p=path: author.update(c, p))  # type: ignore[misc]
        assert offering.id in error.message
    author.update(pb.ProductSpecification(id=whole.id, description="d", lifecycle_status=LAUNCHED), "description")


def test_a_specification_loses_nothing_that_is_taken_of_it(author: Client) -> None:
    specification = author.create(a_specification(b'"100"', b'"200"', lifecycle_status=ACTIVE))
    offering = author.create(an_offering(**narrowed(specification, b'"100"')))
    author.create(an_offering(lifecycle_status=IN_DESIGN, **narrowed(specification, b'"200"')))
    for less in (a_specification(b'"200"', id=specification.id), pb.ProductSpecification(id=specification.id)):
        error = refused(
            FailedPrecondition,
            "NOT_IN_SPECIFICATION",
            lambda less=less: author.update(less, "product_spec_characteristic"),  # type: ignore[misc]
        )
        assert offering.id in error.message
    author.update(a_specification(b'"100"', id=specification.id), "product_spec_characteristic")


def test_what_is_only_approved_may_change(author: Client) -> None:
    price = author.create(a_monthly_price(500))
    offering = author.create(an_offering(price))
    author.update(pb.ProductOffering(id=offering.id, name="Other"), "name")
    author.update(pb.ProductOfferingPrice(id=price.id, price=values_pb2.Money(unit="KGS", units=1)), "price")


def test_a_part_of_what_is_published_is_published_too(author: Client, reviewer: Client) -> None:
    discount = author.create(
        pb.ProductOfferingPrice(name="d", price_type="discount", percentage="5", lifecycle_status=ACTIVE)
    )
    link = pb.ProductOfferingPriceRelationship(id=discount.id, relationship_type="discountedBy")
    part = author.create(an_offering(author.create(a_monthly_price(500, pop_relationship=[link]))))
    bundle = launched(author, reviewer, bundled_product_offering=bundled(part))
    for change, path in [
        (pb.ProductOfferingPrice(id=discount.id, percentage="7"), "percentage"),
        (pb.ProductOffering(id=part.id, name="x"), "name"),
    ]:
        error = refused(FailedPrecondition, "PUBLISHED", lambda c=change, p=path: author.update(c, p))  # type: ignore[misc]
        assert bundle.id in error.message


# --- versions --------------------------------------------------------------------------------------------------------


def test_a_new_version_is_a_draft_of_the_same_series(author: Client, reviewer: Client) -> None:
    price = author.create(a_monthly_price(500))
    first = launched(author, reviewer, price, version="1.2", description="Quick")
    start = in_time(DAY)
    policy = pb.ExistingSubscribers(policy=pb.EXISTING_SUBSCRIBERS_POLICY_MIGRATE)
    second = a_version(author, first, valid_from=start, existing_subscribers=policy)
    assert (second.series, second.version, second.lifecycle_status) == (first.id, "2.0", IN_DESIGN)
    assert (second.name, second.description, second.etag) == (first.name, "Quick", "1")
    assert second.valid_for.start_date_time == start
    assert second.existing_subscribers == policy
    assert [one.id for one in second.product_offering_price] == [price.id]
    author.move(second, IN_TEST)
    reviewer.approve(second)
    author.move(second, ACTIVE, LAUNCHED)
    third = a_version(author, second)
    assert (third.series, third.version, third.HasField("valid_for")) == (first.id, "3.0", False)
    assert a_version(author, first).version == "4.0"
    assert both_live(author, first, second)


def both_live(author: Client, *versions: Any) -> bool:
    return all(author.get(version).lifecycle_status == LAUNCHED for version in versions)


def test_a_draft_needs_no_version(author: Client) -> None:
    refused(FailedPrecondition, "NOT_PUBLISHED", lambda: a_version(author, author.create(an_offering())))
    refused(NotFound, "NOT_FOUND", lambda: a_version(author, pb.ProductOffering(id="gone")))


def test_a_version_with_prices_of_its_own(author: Client, reviewer: Client) -> None:
    discount = author.create(
        pb.ProductOfferingPrice(name="d", price_type="discount", percentage="5", lifecycle_status=ACTIVE)
    )
    link = pb.ProductOfferingPriceRelationship(id=discount.id, relationship_type="discountedBy")
    price = author.create(a_monthly_price(500, pop_relationship=[link]))
    first = launched(author, reviewer, price)
    second = a_version(author, first, copy_prices=True)
    (copy,) = second.product_offering_price
    assert copy.id != price.id
    copied = author.get(pb.ProductOfferingPrice(id=copy.id))
    assert (copied.price, copied.lifecycle_status) == (price.price, IN_DESIGN)
    assert copied.pop_relationship[0].id != discount.id
    other = author.get(pb.ProductOfferingPrice(id=copied.pop_relationship[0].id))
    assert (other.percentage, other.lifecycle_status) == ("5", IN_DESIGN)
    author.update(pb.ProductOfferingPrice(id=copy.id, price=values_pb2.Money(unit="KGS", units=1)), "price")
    assert author.get(price).price == price.price


def test_a_version_that_does_not_say_when_begins_when_it_is_launched(author: Client, reviewer: Client) -> None:
    first = launched(author, reviewer)
    second = author.move(a_version(author, first), IN_TEST)
    reviewer.approve(second)
    before = datetime.now(UTC)
    begun = author.move(second, ACTIVE, LAUNCHED).valid_for.start_date_time.ToDatetime(UTC)
    assert before <= begun <= datetime.now(UTC)


def test_a_version_that_is_taken_over_begins_when_it_comes(manager: Client) -> None:
    first = manager.create(an_offering(lifecycle_status=LAUNCHED))
    before = datetime.now(UTC)
    second = manager.create(an_offering(series=first.id, version="2", lifecycle_status=LAUNCHED))
    assert before <= second.valid_for.start_date_time.ToDatetime(UTC) <= datetime.now(UTC)
    # The first one replaces nothing: it has been sold before we came to know of it.
    assert not manager.get(first).HasField("valid_for")


@pytest.mark.parametrize(
    ("versions", "following"),
    [
        ([None], "2"),
        (["1"], "2"),
        (["1.0"], "2.0"),
        (["1.4", "3.1"], "4.0"),
        (["9", "10"], "11"),
        (["2024 b"], "2025 b"),
        (["v1"], "v2"),
        (["Classic"], "Classic 2"),
        ([], "2"),
    ],
)
def test_the_next_version(versions: list[str | None], following: str) -> None:
    assert next_version(versions) == following


# --- lint ------------------------------------------------------------------------------------------------------------


def test_what_would_never_apply_is_said_at_any_time_and_refused_when_it_goes_live(author: Client) -> None:
    price = author.create(a_monthly_price(500, phase=["trial"]))
    offering = in_test(author, price)
    assert lint(author, offering) == ["product_offering_price[0].phase[0]"]
    error = refused(FailedPrecondition, "NEVER_APPLIES", lambda: author.move(offering, ACTIVE))
    assert [one.field for one in error.violations] == ["product_offering_price[0].phase[0]"]
    refused(FailedPrecondition, "NEVER_APPLIES", lambda: author.create(an_offering(price)))
    author.update(pb.ProductOffering(id=offering.id, phase=[pb.OfferingPhase(name="trial")]), "phase")
    assert lint(author, offering) == []
    author.move(offering, ACTIVE)
    refused(FailedPrecondition, "NEVER_APPLIES", lambda: author.update(pb.ProductOffering(id=offering.id), "phase"))
    impossible = pb.PriceCondition(subject="colour", operator=pb.CONDITION_OPERATOR_PRESENT)
    refused(FailedPrecondition, "NEVER_APPLIES", lambda: author.create(a_monthly_price(5, condition=[impossible])))


def test_a_version_in_the_shadow_of_another_is_not_published(author: Client, reviewer: Client) -> None:
    first = launched(author, reviewer, valid_for=values_pb2.TimePeriod(start_date_time=stamp(NOW)))
    second = author.move(a_version(author, first, valid_from=stamp(BEFORE)), IN_TEST)
    reviewer.approve(second)
    author.move(second, ACTIVE)
    error = refused(FailedPrecondition, "NEVER_APPLIES", lambda: author.move(second, LAUNCHED))
    assert [one.field for one in error.violations] == ["valid_for.start_date_time"]
