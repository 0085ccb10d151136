"""The lifecycle of what is sold, and what has to hold before it is."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from catalog.product.domain import (
    TRANSITIONS,
    Category,
    LifecycleStatus,
    ProductOffering,
    ProductOfferingPrice,
    ProductSpecification,
    check_acyclic,
    check_deletable,
    check_parts,
    check_retirable,
    kind_of_price,
)
from catalog.product.values import (
    BundledProductOffering,
    BundledProductOfferingOption,
    ProductOfferingPriceRefOrValue,
    ProductPriceValue,
)
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.types import Money, ProductSpecificationRef, TaxItem, TimePeriod
from tests.catalog.things import AFTER, BEFORE, NOW, a_price, altered_by, an_offering, by_value, kgs, parts, refs, until

S = LifecycleStatus


def category(**more: object) -> Category:
    return Category(id="c", branch="*", name="Internet", **more)  # type: ignore[arg-type]


def test_a_new_thing_is_in_design_and_stamped() -> None:
    thing = category()
    thing.check(NOW)
    assert (thing.lifecycle_status, thing.last_update) == (S.IN_DESIGN, NOW)


@pytest.mark.parametrize("status", S)
def test_a_new_thing_may_name_its_first_status(status: LifecycleStatus) -> None:
    thing = category(lifecycle_status=status)
    thing.check(NOW)
    assert thing.lifecycle_status is status


@pytest.mark.parametrize("source", S)
@pytest.mark.parametrize("target", S)
def test_only_the_transitions_of_the_table_happen(source: LifecycleStatus, target: LifecycleStatus) -> None:
    thing = category(lifecycle_status=source)
    if source is target or target in TRANSITIONS[source]:
        thing.revise({"lifecycle_status": target}, NOW)
        assert thing.lifecycle_status is target
    else:
        with pytest.raises(FailedPrecondition) as refused:
            thing.revise({"lifecycle_status": target}, NOW)
        assert refused.value.reason == "BAD_TRANSITION"
        assert refused.value.metadata == {"from": source.value, "to": target.value}
        assert source.value in refused.value.message
        assert target.value in refused.value.message
        assert thing.lifecycle_status is source


def test_nothing_released_becomes_a_draft_again() -> None:
    drafts = {s for s in S if not s.released}
    for source in S:
        if source.released:
            assert not TRANSITIONS[source] & drafts


def test_a_status_cannot_be_taken_away() -> None:
    with pytest.raises(InvalidArgument):
        category(lifecycle_status=S.ACTIVE).revise({"lifecycle_status": None}, NOW)


def test_every_change_is_stamped_by_us_whatever_the_caller_says() -> None:
    thing = category(last_update=BEFORE)
    thing.revise({"name": "TV", "last_update": AFTER}, NOW)
    assert (thing.name, thing.last_update) == ("TV", NOW)


def test_a_change_of_nothing_is_not_stamped() -> None:
    thing = category(last_update=BEFORE)
    thing.revise({"name": "Internet", "last_update": AFTER}, NOW)
    assert thing.last_update == BEFORE


def test_a_period_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(InvalidArgument) as refused:
        category(valid_for=TimePeriod(start_date_time=AFTER, end_date_time=BEFORE)).check(NOW)
    assert refused.value.violations[0].field == "valid_for"


def test_past_dates_are_accepted() -> None:
    category(lifecycle_status=S.ACTIVE, valid_for=until(BEFORE)).check(NOW)


# --- prices ----------------------------------------------------------------------------------------------------------


def test_a_price_is_an_amount_or_a_percentage() -> None:
    with pytest.raises(InvalidArgument) as refused:
        a_price("p", "5 KGS", percentage=Decimal(10)).check(NOW)
    assert [v.field for v in refused.value.violations] == ["percentage"]


def test_an_amount_and_no_per_cent_is_what_tm_forums_example_says() -> None:
    a_price("p", "50 EUR", percentage=Decimal(0)).check(NOW)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"price": Money(unit="som", value=Decimal(1))}, "price.unit"),
        ({"price": Money(unit="KGS")}, "price.value"),
        ({"price": None}, "price"),
        ({"recurring_charge_period_type": None}, "recurring_charge_period_type"),
        ({"recurring_charge_period_length": 0}, "recurring_charge_period_length"),
        ({"tax": (TaxItem(tax_category="VAT", tax_amount=kgs("1")),)}, "tax[0].tax_rate"),
    ],
)
def test_a_live_price_leaves_nothing_open(wrong: dict[str, object], field: str) -> None:
    price = a_price("p", "5 KGS", lifecycle_status=S.IN_TEST)
    price.revise(wrong, NOW)
    with pytest.raises(FailedPrecondition) as refused:
        price.revise({"lifecycle_status": S.ACTIVE}, NOW)
    assert refused.value.reason == "INCOMPLETE"
    assert [v.field for v in refused.value.violations] == [field]


def test_a_usage_price_needs_no_amount() -> None:
    a_price("p", price_type="usage").check(NOW)


def test_a_tax_rate_is_not_negative() -> None:
    with pytest.raises(InvalidArgument):
        a_price("p", "5 KGS", tax=(TaxItem(tax_rate=Decimal(-1)),)).check(NOW)


@pytest.mark.parametrize(
    ("price_type", "period", "kind"),
    [
        ("recurring", None, "recurring"),
        ("Recurring Charge", None, "recurring"),
        ("one time", None, "oneTime"),
        ("One time fee", None, "oneTime"),
        ("oneTime", "month", "oneTime"),
        ("non-recurring", None, "oneTime"),
        (None, None, "oneTime"),
        (None, "month", "recurring"),
        ("usage", "month", "usage"),
        ("Discount", None, "discount"),
    ],
)
def test_the_spellings_of_price_types(price_type: str | None, period: str | None, kind: str) -> None:
    assert kind_of_price(price_type, period) == kind


# --- offerings -------------------------------------------------------------------------------------------------------


def test_an_offering_sells_while_live_valid_and_sellable() -> None:
    offering = an_offering(valid_for=TimePeriod(start_date_time=BEFORE, end_date_time=AFTER))
    assert offering.sellable(NOW)
    assert offering.sellable(BEFORE)
    assert not offering.sellable(AFTER)
    assert not offering.sellable(BEFORE - timedelta(microseconds=1))
    for status in S:
        offering.lifecycle_status = status
        assert offering.sellable(NOW) is (status is S.LAUNCHED)
    offering.lifecycle_status = S.LAUNCHED
    offering.is_sellable = False
    assert not offering.sellable(NOW)


def test_a_draft_may_refer_to_what_does_not_exist() -> None:
    offering = an_offering(lifecycle_status=S.IN_DESIGN, product_specification=ProductSpecificationRef(id="9881"))
    check_parts(offering, {})


def test_an_offering_goes_live_only_with_all_that_it_is_made_of() -> None:
    offering = an_offering(
        "o",
        *refs("p1", "p2"),
        lifecycle_status=S.ACTIVE,
        product_specification=ProductSpecificationRef(id="s"),
        bundled_product_offering=parts(x=1),
    )
    found: dict[tuple[type, str], LifecycleStatus | None] = {
        (ProductSpecification, "s"): S.IN_DESIGN,
        (ProductOfferingPrice, "p1"): S.ACTIVE,
        (ProductOffering, "x"): S.RETIRED,
    }
    with pytest.raises(FailedPrecondition) as missing:
        check_parts(offering, found)
    assert [v.field for v in missing.value.violations] == ["product_offering_price[1]"]
    offering.lifecycle_status = S.LAUNCHED
    with pytest.raises(FailedPrecondition) as refused:
        check_parts(offering, found)
    assert refused.value.reason == "UNRESOLVED_REFERENCE"
    assert {v.field: v.description for v in refused.value.violations} == {
        "product_specification": "ProductSpecification s is In design",
        "product_offering_price[1]": "there is no ProductOfferingPrice 'p2'",
    }
    check_parts(offering, {**found, (ProductSpecification, "s"): S.ACTIVE, (ProductOfferingPrice, "p2"): S.LAUNCHED})


def test_a_price_is_made_of_what_alters_it() -> None:
    price = a_price("p", "5 KGS", pop_relationship=altered_by("d") + altered_by("e", relationship_type="dependsOn"))
    assert [part.id for part in price.parts()] == ["d"]


def test_a_price_inside_an_offering_must_be_complete_when_live() -> None:
    value = ProductPriceValue(duty_free_amount=kgs("10"), tax_included_amount=kgs("12"))
    for price, field in [
        (by_value(ProductPriceValue()), "product_offering_price[0].price"),
        (by_value(value), "product_offering_price[0].price.tax_rate"),
        (
            replace(by_value(ProductPriceValue(duty_free_amount=kgs("10"))), recurring_charge_period=None),
            "product_offering_price[0].recurring_charge_period",
        ),
    ]:
        with pytest.raises(FailedPrecondition) as refused:
            an_offering("o", price).check(NOW)
        assert [v.field for v in refused.value.violations] == [field]
    an_offering("o", by_value(replace(value, tax_rate=Decimal(20)))).check(NOW)


def test_a_bundle_says_what_it_is_made_of_before_it_is_live() -> None:
    an_offering(is_bundle=True, lifecycle_status=S.IN_DESIGN).check(NOW)
    with pytest.raises(FailedPrecondition):
        an_offering(is_bundle=True).check(NOW)


@pytest.mark.parametrize(("default", "low", "high"), [(-1, None, None), (0, 1, None), (3, 0, 2), (None, 2, None)])
def test_the_default_number_lies_within_its_limits(default: int | None, low: int | None, high: int | None) -> None:
    option = BundledProductOfferingOption(
        number_rel_offer_default=default, number_rel_offer_lower_limit=low, number_rel_offer_upper_limit=high
    )
    bundled = (BundledProductOffering(id="x", bundled_product_offering_option=option),)
    with pytest.raises(InvalidArgument):
        an_offering(bundled_product_offering=bundled).check(NOW)


def test_a_reference_with_a_price_is_a_price_of_its_own() -> None:
    value = ProductOfferingPriceRefOrValue(id="mine", price=ProductPriceValue(duty_free_amount=kgs("1")))
    assert an_offering("o", value).parts() == []


# --- what belongs together -------------------------------------------------------------------------------------------


def test_nothing_contains_itself() -> None:
    check_acyclic("f", "a", {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []})
    for children, way in [
        ({"a": ["a"]}, "a → a"),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, "a → b → c → a"),
    ]:
        with pytest.raises(FailedPrecondition) as refused:
            check_acyclic("f", "a", children)
        assert refused.value.reason == "CYCLE"
        assert refused.value.message.endswith(way)


def test_a_cycle_elsewhere_does_not_keep_the_check_from_ending() -> None:
    check_acyclic("f", "a", {"a": ["b"], "b": ["c"], "c": ["b"]})


def test_what_is_referred_to_stays() -> None:
    with pytest.raises(FailedPrecondition) as refused:
        check_deletable(category(), [("Catalog", "k"), ("ProductOffering", "o")])
    assert refused.value.reason == "REFERENCED"
    assert "Catalog k, ProductOffering o" in refused.value.message


@pytest.mark.parametrize("status", S)
def test_what_may_have_been_sold_stays(status: LifecycleStatus) -> None:
    for thing in (an_offering(lifecycle_status=status), a_price("p", "1 KGS", lifecycle_status=status)):
        if status.released:
            with pytest.raises(FailedPrecondition) as refused:
                check_deletable(thing, [])
            assert refused.value.reason == "WAS_RELEASED"
        else:
            check_deletable(thing, [])
    check_deletable(category(lifecycle_status=status), [])


def test_a_part_of_something_live_does_not_retire_before_its_time() -> None:
    price = a_price("p", "1 KGS", lifecycle_status=S.RETIRED)
    with pytest.raises(FailedPrecondition) as refused:
        check_retirable(price, NOW, [("ProductOffering", "o")])
    assert refused.value.reason == "REFERENCED"
    check_retirable(price, NOW, [])
    # A price that has ended may be one that was ended: what it belongs to would go on being sold without it.
    price.valid_for = until(NOW)
    with pytest.raises(FailedPrecondition):
        check_retirable(price, NOW, [("ProductOffering", "o")])
    # A bundle isn't sold without an offering that has ended.
    check_retirable(an_offering(lifecycle_status=S.RETIRED, valid_for=until(NOW)), NOW, [("ProductOffering", "o")])
