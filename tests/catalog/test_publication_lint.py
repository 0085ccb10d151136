"""What would never apply is found, and why; what applies is left alone."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from catalog.product.domain import LifecycleStatus, PlannedTransition, ProductOffering, ProductOfferingPrice
from catalog.product.values import (
    BundledProductOffering,
    BundledProductOfferingOption,
    ConditionOperator,
    ExistingSubscribers,
    ExistingSubscribersPolicy,
    OfferingPhase,
    POPAlteration,
    PriceCondition,
    PriceTier,
    PricingModel,
    ProductOfferingTerm,
    ProductPriceValue,
    RateStep,
    TimeBand,
    UsageRate,
)
from catalog.publication.lint import Surroundings, lint, lint_price
from chassis.types import Duration, EntityRef, Json, Money, TimePeriod
from tests.catalog.things import (
    AFTER,
    BEFORE,
    NOW,
    a_discount,
    a_price,
    altered_by,
    an_offering,
    by_value,
    kgs,
    refs,
    since,
    until,
)

S = LifecycleStatus
Op = ConditionOperator
DAY = timedelta(days=1)
MONTHS = Duration(amount=12, units="month")


def found(
    offering: ProductOffering, *prices: ProductOfferingPrice, at: datetime | None = NOW, **more: Any
) -> list[str]:
    """The fields of what would never apply."""
    return [one.field for one in lint(offering, Surroundings({p.id: p for p in prices}, at=at, **more))]


def of_price(price: ProductOfferingPrice, *, at: datetime | None = NOW, **more: Any) -> list[str]:
    return [one.field for one in lint_price(price, Surroundings({}, at=at, **more))]


def between(start: datetime, end: datetime) -> TimePeriod:
    return TimePeriod(start_date_time=start, end_date_time=end)


def test_an_ordinary_offering_is_left_alone() -> None:
    fee = a_price("p", "500 KGS", pop_relationship=altered_by("d"), tax_category="VAT")
    offering = an_offering(
        "o",
        *refs("p"),
        valid_for=between(BEFORE, AFTER),
        phase=(OfferingPhase(name="trial", duration=MONTHS), OfferingPhase(name="rest")),
        planned_transition=(PlannedTransition(lifecycle_status=S.RETIRED, at=AFTER + DAY),),
        product_offering_term=(ProductOfferingTerm(name="12 months"),),
    )
    assert found(offering, fee, replace_phase(a_discount("d", "10"), "trial")) == []


@pytest.mark.parametrize("kind", ["reccurring", "fee", "deposit"])
def test_an_offering_of_which_nothing_is_charged_is_found(kind: str) -> None:
    unknown, fee = a_price("u", "1 KGS", price_type=kind), a_price("p", "500 KGS")
    assert found(an_offering("o", *refs("u")), unknown) == ["product_offering_price[0].price_type"]
    typed = replace(by_value(ProductPriceValue(duty_free_amount=kgs("1"))), price_type=kind)
    assert found(an_offering("o", typed, typed)) == [f"product_offering_price[{i}].price_type" for i in range(2)]
    # Beside another it is charged elsewhere.
    assert found(an_offering("o", *refs("u", "p")), unknown, fee) == []


@pytest.mark.parametrize(
    "kind", ["one time", "nonRecurring", "recurring", "Recurring charge", "usage", "usage charge", "earlyTermination"]
)
def test_an_offering_of_which_something_is_charged_is_left_alone(kind: str) -> None:
    assert found(an_offering("o", *refs("p")), a_price("p", "500 KGS", price_type=kind)) == []


def replace_phase(price: ProductOfferingPrice, *phases: str) -> ProductOfferingPrice:
    price.phase = phases
    return price


# --- times -----------------------------------------------------------------------------------------------------------


def test_what_is_over_when_it_is_published() -> None:
    over = an_offering(valid_for=until(NOW))
    assert found(over) == ["valid_for.end_date_time"]
    assert found(over, at=None) == []
    assert found(an_offering(valid_for=until(NOW + DAY))) == []
    old = a_price("p", "1 KGS", valid_for=until(NOW))
    assert found(an_offering("o", *refs("p")), old) == ["product_offering_price[0].valid_for.end_date_time"]
    assert of_price(old) == ["valid_for.end_date_time"]
    assert of_price(old, at=None) == []


def test_windows_outside_the_offerings_validity() -> None:
    window = between(NOW, NOW + DAY)
    outside = since(NOW + DAY)
    price = a_price("p", "1 KGS", valid_for=outside)
    assert found(an_offering("o", *refs("p"), valid_for=window), price) == ["product_offering_price[0].valid_for"]
    discount = a_discount("d", "10")
    discount.valid_for = outside
    fee = a_price("p", "1 KGS", pop_relationship=altered_by("d"))
    path = "product_offering_price[0].pop_relationship[0].valid_for"
    assert found(an_offering("o", *refs("p"), valid_for=window), fee, discount) == [path]
    assert found(an_offering("o", *refs("p")), fee, discount) == []
    term = ProductOfferingTerm(name="t", valid_for=outside)
    assert found(an_offering(valid_for=window, product_offering_term=(term,))) == ["product_offering_term[0].valid_for"]


def test_a_discount_written_into_a_price_outside_its_window() -> None:
    discount = POPAlteration(
        price_type="discount", price=ProductPriceValue(percentage=Decimal(10)), valid_for=since(AFTER)
    )
    price = replace(by_value(ProductPriceValue(duty_free_amount=kgs("1")), discount), valid_for=until(AFTER))
    assert found(an_offering("o", price)) == ["product_offering_price[0].price_alteration[0].valid_for"]


def test_none_of_a_part_may_be_had() -> None:
    option = BundledProductOfferingOption(number_rel_offer_upper_limit=0, number_rel_offer_default=0)
    part = BundledProductOffering(id="x", bundled_product_offering_option=option)
    path = "bundled_product_offering[0].bundled_product_offering_option"
    assert found(an_offering(bundled_product_offering=(part,))) == [path]


# --- plans -----------------------------------------------------------------------------------------------------------


def planned(status: LifecycleStatus | None, at: datetime | None) -> PlannedTransition:
    return PlannedTransition(lifecycle_status=status, at=at)


@pytest.mark.parametrize(
    ("plans", "fields"),
    [
        ([planned(S.LAUNCHED, NOW + DAY), planned(S.RETIRED, NOW + 2 * DAY)], []),
        # In the order of their times, whatever their places.
        ([planned(S.RETIRED, NOW + 2 * DAY), planned(S.LAUNCHED, NOW + DAY)], []),
        ([planned(S.OBSOLETE, NOW + DAY)], ["planned_transition[0].lifecycle_status"]),
        ([planned(S.IN_DESIGN, NOW + DAY)], ["planned_transition[0].lifecycle_status"]),
        ([planned(S.LAUNCHED, NOW - DAY)], ["planned_transition[0].at"]),
        ([planned(S.LAUNCHED, AFTER)], ["planned_transition[0].at"]),
        ([planned(S.RETIRED, AFTER + DAY)], []),
        ([planned(S.LAUNCHED, None)], ["planned_transition[0]"]),
        ([planned(None, NOW + DAY)], ["planned_transition[0]"]),
        ([planned(S.LAUNCHED, NOW + DAY), planned(S.RETIRED, NOW + DAY)], ["planned_transition[1].at"]),
        ([PlannedTransition(lifecycle_status=S.OBSOLETE, at=BEFORE, refused="because")], []),
    ],
)
def test_plans_that_can_not_come_true(plans: list[PlannedTransition], fields: list[str]) -> None:
    offering = an_offering(lifecycle_status=S.ACTIVE, valid_for=until(AFTER), planned_transition=tuple(plans))
    assert found(offering) == fields


# --- versions --------------------------------------------------------------------------------------------------------


def version(id: str, start: datetime | None, end: datetime | None = None, **more: Any) -> ProductOffering:
    period = TimePeriod(start_date_time=start, end_date_time=end)
    return an_offering(id, series="o" if id != "o" else None, version=id, valid_for=period, **more)


def test_a_version_that_another_one_shadows() -> None:
    shadowed = version("2", NOW)
    field = "valid_for.start_date_time"
    assert found(shadowed, versions=[version("o", BEFORE)]) == []
    assert found(shadowed, at=NOW + DAY, versions=[version("3", NOW + DAY)]) == [field]
    # It is sold until the other one begins, or after that has ended.
    assert found(shadowed, versions=[version("3", NOW + DAY)]) == []
    assert found(shadowed, at=NOW + DAY, versions=[version("3", NOW + DAY, NOW + 2 * DAY)]) == []
    ends = version("2", NOW, NOW + 2 * DAY)
    assert found(ends, at=NOW + DAY, versions=[version("3", NOW + DAY, NOW + 2 * DAY)]) == [field]
    assert found(shadowed, at=NOW + DAY, versions=[version("3", NOW + DAY, lifecycle_status=S.IN_TEST)]) == []


def test_two_versions_that_begin_at_once() -> None:
    field = "valid_for.start_date_time"
    assert found(version("2", NOW), versions=[version("o", NOW)]) == [field]
    assert found(version("2", None), versions=[version("o", None)]) == []


def test_what_becomes_of_existing_subscribers() -> None:
    def policy(kind: str, date: datetime | None = None) -> ExistingSubscribers:
        return ExistingSubscribers(policy=ExistingSubscribersPolicy(kind), effective_date=date)

    def of(one: ExistingSubscribers, id: str = "2") -> list[str]:
        return found(version(id, NOW, AFTER, existing_subscribers=one))

    assert of(policy("migrate", NOW + DAY)) == []
    assert of(policy("migrate")) == []
    assert of(policy("keep")) == []
    assert of(policy("migrate"), "o") == ["existing_subscribers.policy"]
    assert of(policy("keep", NOW + DAY)) == ["existing_subscribers.effective_date"]
    assert of(policy("migrate", NOW - DAY)) == ["existing_subscribers.effective_date"]
    assert of(policy("migrate", AFTER)) == ["existing_subscribers.effective_date"]


# --- phases ----------------------------------------------------------------------------------------------------------


def test_phases_that_never_come() -> None:
    trial, rest = OfferingPhase(name="trial", duration=MONTHS), OfferingPhase(name="rest")
    assert found(an_offering(phase=(rest, trial))) == ["phase[1]"]
    assert found(an_offering(phase=(trial, trial, rest))) == ["phase[1].name"]
    assert found(an_offering(phase=(OfferingPhase(name="x", duration=Duration(amount=0, units="day")), rest))) == [
        "phase[0].duration"
    ]


def test_a_price_of_a_phase_that_the_offering_has_not() -> None:
    price = replace_phase(a_price("p", "1 KGS"), "trial")
    assert found(an_offering("o", *refs("p")), price) == ["product_offering_price[0].phase[0]"]
    assert found(an_offering("o", *refs("p"), phase=(OfferingPhase(name="trial"),)), price) == []


# --- alterations -----------------------------------------------------------------------------------------------------


def test_an_alteration_of_what_is_not_there() -> None:
    path = "product_offering_price[0].pop_relationship[0]"

    def beside(discount: ProductOfferingPrice, fee: ProductOfferingPrice | None = None) -> list[str]:
        fee = fee or a_price("p", "500 KGS", pop_relationship=altered_by("d"))
        return found(an_offering("o", *refs("p")), fee, discount)

    assert beside(a_price("d", price_type="recurring", percentage=Decimal(10), period=None)) == []
    assert beside(a_price("d", price_type="one time", percentage=Decimal(10), period=None)) == [path]
    assert beside(a_discount("d", amount="10 KGS")) == []
    assert beside(a_discount("d", amount="10 USD")) == [path]
    yearly = a_price("d", None, "year", price_type="discount", percentage=Decimal(10))
    assert beside(yearly) == [path]
    monthly = a_price("d", None, "months", price_type="discount", percentage=Decimal(10))
    assert beside(monthly) == []


def test_a_discount_beside_nothing() -> None:
    assert found(an_offering("o", *refs("d")), a_discount("d", "10")) == ["product_offering_price[0]"]
    assert found(an_offering("o", *refs("d", "p")), a_discount("d", "10"), a_price("p", "1 KGS")) == []
    usage = a_price("p", price_type="usage", pricing_model=PricingModel(usage_type="voice"))
    assert found(an_offering("o", *refs("d", "p")), a_discount("d", "10"), usage) == []


def test_a_written_in_discount_in_another_currency() -> None:
    dollars = Money(unit="USD", value=Decimal(1))
    discount = POPAlteration(price_type="discount", price=ProductPriceValue(duty_free_amount=dollars))
    price = by_value(ProductPriceValue(duty_free_amount=kgs("10")), discount)
    assert found(an_offering("o", price)) == ["product_offering_price[0].price_alteration[0]"]


def grouped(id: str, percent: str, **more: Any) -> ProductOfferingPrice:
    price = a_discount(id, percent)
    price.exclusivity_group = "g"
    for name, value in more.items():
        setattr(price, name, value)
    return price


def condition(subject: str, operator: ConditionOperator, value: str | None = None) -> PriceCondition:
    return PriceCondition(subject=subject, operator=operator, value=Json(value) if value is not None else None)


@pytest.mark.parametrize(
    ("better", "loses"),
    [
        ({}, True),
        ({"exclusivity_group": "another"}, False),
        ({"valid_for": until(AFTER)}, False),
        ({"condition": (condition("channel", Op.EQ, '"web"'),)}, False),
        ({"application_duration": MONTHS}, False),
        ({"phase": ("trial",)}, False),
        ({"price_list": "vip"}, False),
        ({"percentage": Decimal(5)}, False),
    ],
)
def test_one_of_a_group_that_always_loses(better: dict[str, Any], loses: bool) -> None:
    one, other = grouped("d", "10"), grouped("e", "20", **better)
    fee = a_price("p", "1 KGS", pop_relationship=altered_by("d", "e"))
    offering = an_offering("o", *refs("p"), phase=(OfferingPhase(name="trial"),))
    fields = found(offering, fee, one, other)
    if better == {"percentage": Decimal(5)}:
        assert fields == ["product_offering_price[0].pop_relationship[1].exclusivity_group"]
    else:
        assert fields == (["product_offering_price[0].pop_relationship[0].exclusivity_group"] if loses else [])


# --- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "conditions",
    [
        [],
        [("marketSegment", Op.EQ, '"business"'), ("marketSegment", Op.EQ, '"vip"')],
        [("quantity", Op.GTE, "1"), ("quantity", Op.LTE, "1")],
        [("quantity", Op.GT, "1"), ("quantity", Op.LT, "3")],
        [("channel", Op.IN, '["web","shop"]'), ("channel", Op.NE, '"shop"')],
        [("characteristic.speed", Op.GTE, "100"), ("characteristic.speed", Op.IN, "[50, 200]")],
        [("characteristic.ip", Op.ABSENT, None), ("characteristic.ip", Op.NE, '"static"')],
        [("agreement", Op.PRESENT, None), ("agreement", Op.EQ, '"a"')],
        [("characteristic.speed", Op.EQ, "100"), ("characteristic.speed", Op.EQ, "100.0")],
        [("characteristic.speed", Op.EQ, '"100"'), ("characteristic.speed", Op.GTE, "100")],
    ],
)
def test_conditions_that_somebody_fulfils(conditions: list[tuple[str, ConditionOperator, str | None]]) -> None:
    price = a_price("p", "1 KGS", condition=tuple(condition(*one) for one in conditions))
    assert of_price(price) == []


@pytest.mark.parametrize(
    "conditions",
    [
        [("colour", Op.EQ, '"red"')],
        [("characteristic.", Op.EQ, '"red"')],
        [("channel", Op.SET, '"web"')],
        [("channel", None, '"web"')],
        [("channel", Op.EQ, None)],
        [("channel", Op.IN, "[]")],
        [("quantity", Op.GT, '"many"')],
        [("quantity", Op.EQ, "0")],
        [("quantity", Op.LT, "1")],
        [("quantity", Op.LTE, "0")],
        [("channel", Op.EQ, '"web"'), ("channel", Op.EQ, '"shop"')],
        [("channel", Op.IN, '["web"]'), ("channel", Op.NOT_IN, '["web", "shop"]')],
        [("marketSegment", Op.EQ, '"vip"'), ("marketSegment", Op.NE, '"vip"')],
        [("characteristic.ip", Op.ABSENT, None), ("characteristic.ip", Op.EQ, '"static"')],
        [("characteristic.ip", Op.ABSENT, None), ("characteristic.ip", Op.PRESENT, None)],
        [("quantity", Op.GT, "5"), ("quantity", Op.LT, "5")],
        [("quantity", Op.GT, "5"), ("quantity", Op.LTE, "5")],
        [("quantity", Op.GTE, "5"), ("quantity", Op.LT, "5")],
        [("quantity", Op.GTE, "6"), ("quantity", Op.LTE, "5")],
        [("characteristic.speed", Op.EQ, "50"), ("characteristic.speed", Op.GTE, "100")],
        [("characteristic.speed", Op.IN, "[10, 20]"), ("characteristic.speed", Op.GT, "20")],
        [("characteristic.speed", Op.EQ, '"fast"'), ("characteristic.speed", Op.GT, "20")],
    ],
)
def test_conditions_that_nobody_fulfils(conditions: list[tuple[str, ConditionOperator | None, str | None]]) -> None:
    price = a_price(
        "p",
        "1 KGS",
        condition=tuple(
            PriceCondition(subject=subject, operator=operator, value=Json(value) if value is not None else None)
            for subject, operator, value in conditions
        ),
    )
    assert of_price(price) == [f"condition[{len(conditions) - 1}]"]


def test_conditions_that_the_offering_excludes() -> None:
    sold: list[tuple[str, dict[str, Any]]] = [
        ("branch", {"eligible_branch": ("osh",)}),
        ("channel", {"channel": (EntityRef(id="web", name="Web"),)}),
        ("term", {"product_offering_term": (ProductOfferingTerm(name="24 months"),)}),
    ]
    for subject, attributes in sold:
        price = a_price("p", "1 KGS", condition=(condition(subject, Op.EQ, '"bishkek"'),))
        offering = an_offering("o", *refs("p"), **attributes)
        assert found(offering, price) == ["product_offering_price[0].condition[0]"], subject
        assert found(an_offering("o", *refs("p")), price) == []


def test_a_price_list_that_does_not_exist() -> None:
    price = a_price("p", "1 KGS", price_list="vip")
    assert of_price(price, price_lists={"business"}) == ["price_list"]
    assert of_price(price, price_lists={"vip"}) == []
    assert of_price(price) == []


# --- models ----------------------------------------------------------------------------------------------------------


def tiers(*ends: int | None) -> PricingModel:
    return PricingModel(tier=tuple(PriceTier(up_to=None if end is None else Decimal(end)) for end in ends))


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (tiers(10, 20, None), []),
        (tiers(10, 10, None), ["tier[1].up_to"]),
        (tiers(20, 10, 30), ["tier[1].up_to"]),
        (tiers(0, 10), ["tier[0].up_to"]),
        (tiers(None, 10), ["tier[1]"]),
        (PricingModel(event_minimum=Decimal(2), event_maximum=Decimal(1)), ["event_minimum"]),
        (PricingModel(period_minimum=Decimal(2), period_maximum=Decimal(1)), ["period_minimum"]),
        (PricingModel(period_minimum=Decimal(1), period_maximum=Decimal(1)), []),
        (PricingModel(rate=(UsageRate(prefix=("996",)), UsageRate(prefix=("996",)))), ["rate[1]"]),
        (PricingModel(rate=(UsageRate(prefix=("996",), time_band=(TimeBand(),)), UsageRate(prefix=("996",)))), []),
        (PricingModel(rate=(UsageRate(prefix=("996",)), UsageRate(prefix=("996", "7")))), []),
        (
            PricingModel(rate=(UsageRate(step=(RateStep(start=Decimal(0)), RateStep(start=Decimal(0)))),)),
            ["rate[0].step[1].start"],
        ),
    ],
)
def test_tiers_and_rates_that_are_never_reached(model: PricingModel, fields: list[str]) -> None:
    assert of_price(a_price("p", price_type="usage", pricing_model=model)) == [
        f"pricing_model.{name}" for name in fields
    ]


def test_an_alteration_that_is_over_before_it_begins() -> None:
    discount = a_discount("d", "10")
    discount.application_duration = Duration(amount=0, units="month")
    assert of_price(discount) == ["application_duration"]
