"""Which prices count, for whom, where and when: each rule by an example, with the receipt of what was rejected."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from catalog.pricing.messages import response
from catalog.pricing.pricing import BundledSelection, Item, Pricing, UsageQuantity, replay
from catalog.pricing.rules import PriceListTerms, Rules, Tax
from catalog.product.domain import LifecycleStatus, ProductOffering
from catalog.product.values import (
    BundledProductOffering,
    BundledProductOfferingOption,
    BundlePricing,
    BundlePricingMode,
    ConditionOperator,
    OfferingPhase,
    PriceCondition,
    PriceTier,
    PricingModel,
    PricingModelType,
    ProductOfferingTerm,
    ProductPriceValue,
)
from chassis.errors import DomainError, FailedPrecondition, InvalidArgument
from chassis.types import Characteristic, Duration, Json, Quantity, TimePeriod
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
    parts,
    quote,
    refs,
    since,
    until,
    vat,
)

Op = ConditionOperator


def only_if(subject: str, operator: ConditionOperator, value: Any = None) -> PriceCondition:
    return PriceCondition(subject=subject, operator=operator, value=None if value is None else Json(json.dumps(value)))


def amounts(pricing: Pricing) -> dict[str, Any]:
    """Price → amount, of all items and what they bundle."""
    found: dict[str, Any] = {}
    waiting = list(pricing.item)
    while waiting:
        item = waiting.pop()
        waiting += item.bundled_item
        found |= {component.rule: component.net for component in item.component}
    return found


def rejections(pricing: Pricing) -> dict[str, str | None]:
    return {step.rule: step.reason for step in pricing.receipt.step if step.action == "REJECTED"}


def replayed(pricing: Pricing) -> Pricing:
    """The same, and shown to be the same again from its receipt alone."""
    again = replay(pricing.receipt)
    assert response(again).SerializeToString(deterministic=True) == response(pricing).SerializeToString(
        deterministic=True
    )
    return pricing


def refused(error: type[DomainError], reason: str, action: Callable[[], object]) -> DomainError:
    with pytest.raises(error) as raised:
        action()
    assert raised.value.reason == reason
    return raised.value


def fields(error: DomainError) -> list[str]:
    return [violation.field for violation in error.violations]


def chosen(**values: Any) -> tuple[Characteristic, ...]:
    return tuple(Characteristic(name=name, value=Json(json.dumps(value))) for name, value in values.items())


# --- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "context", "item", "holds"),
    [
        (only_if("marketSegment", Op.EQ, "vip"), {"market_segment": ("new", "vip")}, {}, True),
        (only_if("marketSegment", Op.EQ, "vip"), {}, {}, False),
        (only_if("marketSegment", Op.NE, "vip"), {}, {}, True),
        (only_if("marketSegment", Op.NOT_IN, ["vip", "old"]), {"market_segment": ("new", "vip")}, {}, False),
        (only_if("marketSegment", Op.PRESENT), {"market_segment": ("new",)}, {}, True),
        (only_if("marketSegment", Op.ABSENT), {"market_segment": ("new",)}, {}, False),
        (only_if("branch", Op.IN, ["osh", "bishkek"]), {"branch": "osh"}, {}, True),
        (only_if("channel", Op.EQ, "web"), {"channel": "shop"}, {}, False),
        (only_if("place", Op.EQ, "kg"), {"place": ("address-1", "osh", "kg")}, {}, True),
        (only_if("agreement", Op.EQ, "frame-7"), {"agreement_id": "frame-7"}, {}, True),
        (only_if("customer", Op.EQ, "c-1"), {"customer_id": "c-2"}, {}, False),
        (only_if("quantity", Op.GTE, 10), {}, {"quantity": 10}, True),
        (only_if("quantity", Op.GT, 10), {}, {"quantity": 10}, False),
        (only_if("quantity", Op.LT, 10.5), {}, {"quantity": 10}, True),
        (only_if("quantity", Op.LTE, 9), {}, {"quantity": 10}, False),
        (only_if("characteristic.speed", Op.EQ, 100), {}, {"characteristic": chosen(speed=100)}, True),
        (only_if("characteristic.speed", Op.EQ, 100), {}, {"characteristic": chosen(speed="100.0")}, True),
        (only_if("characteristic.speed", Op.GT, 99), {}, {"characteristic": chosen(speed=["50", "100"])}, True),
        (only_if("characteristic.static", Op.EQ, True), {}, {"characteristic": chosen(static=True)}, True),
        (only_if("characteristic.static", Op.EQ, 1), {}, {"characteristic": chosen(static=True)}, False),
        (only_if("characteristic.colour", Op.LT, 5), {}, {"characteristic": chosen(colour="red")}, False),
    ],
)
def test_a_price_counts_only_where_its_condition_holds(
    condition: PriceCondition, context: dict[str, Any], item: dict[str, Any], holds: bool
) -> None:
    prices = [a_price("base", "100 KGS"), a_price("extra", "10 KGS", condition=(condition,))]
    offering = an_offering("o", *refs("base", "extra"))
    pricing = replayed(quote(offering, prices, Item("1", "o", **item), **context))
    assert ("extra" in amounts(pricing)) is holds
    if not holds:
        assert rejections(pricing)["extra"] == f"it is for {condition_text(condition)}"


def condition_text(condition: PriceCondition) -> str:
    value = json.loads(condition.value.text) if condition.value else []
    texts = ["true" if v is True else str(v) for v in (value if isinstance(value, list) else [value])]
    return " ".join(filter(None, (condition.subject, str(condition.operator), ", ".join(texts))))


def test_all_conditions_must_hold_and_alterations_have_them_too() -> None:
    vip = replace(
        a_discount("vip", "10"),
        condition=(only_if("marketSegment", Op.EQ, "vip"), only_if("channel", Op.EQ, "web")),
    )
    offering, prices = an_offering("o", *refs("p")), [a_price("p", "100 KGS", pop_relationship=altered_by("vip")), vip]
    assert amounts(quote(offering, prices, market_segment=("vip",), channel="web"))["p"] == 90
    pricing = replayed(quote(offering, prices, market_segment=("vip",), channel="shop"))
    assert (amounts(pricing)["p"], rejections(pricing)["vip"]) == (100, "it is for channel eq web")


def test_prices_that_depend_on_what_is_not_stated_are_refused_by_the_field() -> None:
    by_speed = [a_price(f"p{s}", f"{s} KGS", condition=(only_if("characteristic.speed", Op.EQ, s),)) for s in (50, 100)]
    offering = an_offering("o", *refs("p50", "p100", "fee"))
    prices = [*by_speed, a_price("fee", "300 KGS", None)]
    error = refused(InvalidArgument, "PRICE_DEPENDS", lambda: quote(offering, prices))
    assert fields(error) == ["item[0].characteristic", "item[0].characteristic"]
    assert "characteristic.speed" in error.violations[0].description
    stated = quote(offering, prices, Item("1", "o", characteristic=chosen(speed=100)))
    assert amounts(stated) == {"p100": 100, "fee": 300}
    by_channel = a_price("p", "1 KGS", condition=(only_if("channel", Op.EQ, "web"),))
    error = refused(InvalidArgument, "PRICE_DEPENDS", lambda: quote(an_offering("o", *refs("p")), [by_channel]))
    assert fields(error) == ["context.channel"]


def test_a_charge_that_depends_on_where_one_buys_is_not_forgotten() -> None:
    fee = a_price("fee", "300 KGS", None, condition=(only_if("channel", Op.EQ, "shop"),))
    offering, prices = an_offering("o", *refs("p", "fee")), [a_price("p", "1 KGS"), fee]
    assert fields(refused(InvalidArgument, "PRICE_DEPENDS", lambda: quote(offering, prices))) == ["context.channel"]
    assert amounts(quote(offering, prices, channel="shop")) == {"p": 1, "fee": 300}
    assert amounts(quote(offering, prices, channel="web")) == {"p": 1}


def test_an_option_that_nobody_chose_costs_nothing() -> None:
    static = a_price("static", "200 KGS", charge="static-ip", condition=(only_if("characteristic.ip", Op.EQ, "x"),))
    assert amounts(quote(an_offering("o", *refs("p", "static")), [a_price("p", "1 KGS"), static])) == {"p": 1}


def test_what_is_priced_only_for_others_is_not_sold() -> None:
    prices = [a_price("p", "1 KGS", condition=(only_if("marketSegment", Op.EQ, "vip"),))]
    refused(FailedPrecondition, "OFFERING_NOT_SELLABLE", lambda: quote(an_offering("o", *refs("p")), prices))


@pytest.mark.parametrize(
    "condition",
    [
        only_if("weather", Op.EQ, "fine"),
        only_if("branch", Op.SET, "osh"),
        only_if("quantity", Op.GT, "many"),
        only_if("branch", Op.EQ, ["osh", "bishkek"]),
        only_if("branch", Op.EQ),
        PriceCondition(subject="branch", operator=Op.EQ, value=Json('{"a":1}')),
    ],
)
def test_a_price_whose_condition_means_nothing_is_not_sold(condition: PriceCondition) -> None:
    prices = [a_price("p", "1 KGS", condition=(condition,))]
    error = refused(FailedPrecondition, "OFFERING_NOT_SELLABLE", lambda: quote(an_offering("o", *refs("p")), prices))
    assert "condition that can't be" in error.message


# --- exclusivity, negative amounts -----------------------------------------------------------------------------------


def rivals(*alterations: Any) -> tuple[ProductOffering, list[Any]]:
    p = a_price("p", "100 KGS", pop_relationship=altered_by(*(a.id for a in alterations)))
    return an_offering("o", *refs("p")), [p, *alterations]


def test_of_a_group_the_best_for_the_customer_counts_and_the_others_say_why() -> None:
    ten = replace(a_discount("ten", "10", priority=1), exclusivity_group="spring")
    thirty = replace(a_discount("thirty", None, "30 KGS", priority=2), exclusivity_group="spring")
    pricing = replayed(quote(*rivals(ten, thirty)))
    assert amounts(pricing)["p"] == 70
    assert rejections(pricing) == {"ten": "thirty of the group spring is better: 70.00 KGS instead of 90.00"}
    # Of three things the percentage is worth more.
    assert amounts(quote(*rivals(ten, replace(thirty, price=kgs("3"))), Item("1", "o", 3)))["p"] == 270


def test_groups_are_compared_in_combination() -> None:
    # Alone, 20 KGS beat 15 %; after 60 % off, which come first in the other group, they are cut at zero no more.
    half = replace(a_discount("a1", "85", priority=1), exclusivity_group="a")
    fixed = replace(a_discount("a2", None, "20 KGS", priority=3), exclusivity_group="a")
    other = replace(a_discount("b1", None, "30 KGS", priority=2), exclusivity_group="b")
    worse = replace(a_discount("b2", "10", priority=2), exclusivity_group="b")
    pricing = quote(*rivals(half, fixed, other, worse))
    assert amounts(pricing)["p"] == 0
    assert set(rejections(pricing)) == {"a2", "b2"}


def test_equal_rivals_are_told_apart_always_in_the_same_way() -> None:
    pair = [replace(a_discount(name, "10"), exclusivity_group="g") for name in ("x", "y")]
    for order in (pair, pair[::-1]):
        pricing = quote(*rivals(*order))
        assert (amounts(pricing)["p"], set(rejections(pricing))) == (90, {"y"})


def test_an_alteration_may_take_a_charge_below_zero_if_it_says_so() -> None:
    refund = replace(a_discount("refund", None, "130 KGS"), may_be_negative=True)
    assert amounts(quote(*rivals(refund)))["p"] == -30
    # What may not is cut first, and nothing that comes later is reckoned from less than nothing.
    late = [a_discount("half", "50"), a_discount("late", "50", priority=2)]
    pricing = replayed(quote(*rivals(refund, *late)))
    assert [a.value for a in pricing.item[0].component[0].alteration] == [0, -130, 0]


# --- price lists -----------------------------------------------------------------------------------------------------


def a_list(id: str, **more: Any) -> PriceListTerms:
    given: dict[str, Any] = {"agreement": (), "market_segment": (), "branch": (), "priority": 0, "live": True}
    return PriceListTerms(**{"id": id, "name": id, "valid_for": TimePeriod(), **given, **more})


LISTS = Rules(
    {
        terms.id: terms
        for terms in (
            a_list("contract", agreement=("frame-7",)),
            a_list("vip", market_segment=("vip",)),
            a_list("osh", branch=("osh",)),
            a_list("osh-vip", branch=("osh",), market_segment=("vip",)),
            a_list("past", market_segment=("vip",), agreement=("frame-7",), valid_for=until(BEFORE)),
        )
    }
)


@pytest.mark.parametrize(
    ("context", "winner"),
    [
        ({}, "general"),
        ({"branch": "osh"}, "osh"),
        ({"market_segment": ("vip",)}, "vip"),
        ({"market_segment": ("vip",), "branch": "osh"}, "osh-vip"),
        ({"market_segment": ("vip",), "branch": "osh", "agreement_id": "frame-7"}, "contract"),
    ],
)
def test_the_most_specific_price_list_of_the_customer_wins_for_each_charge(
    context: dict[str, Any], winner: str
) -> None:
    prices = [
        a_price("general", "100 KGS"),
        *(a_price(name, "90 KGS", price_list=name) for name in LISTS.price_lists),
        a_price("fee", "300 KGS", None),
    ]
    offering = an_offering("o", *refs(*(p.id for p in prices)))
    pricing = replayed(quote(offering, prices, rules=LISTS, **context))
    assert set(amounts(pricing)) == {winner, "fee"}
    why = rejections(pricing)
    assert set(why) == {p.id for p in prices} - {winner, "fee"}
    if winner != "general":
        assert why["general"] == f"price list {winner} has a price for it"
    assert why["past"] == "its price list past isn't this customer's"


def test_lists_compete_charge_by_charge() -> None:
    prices = [
        a_price("line", "100 KGS", charge="line"),
        a_price("tv", "50 KGS", charge="tv"),
        a_price("vip-line", "80 KGS", charge="line", price_list="vip"),
    ]
    offering = an_offering("o", *refs("line", "tv", "vip-line"))
    assert amounts(quote(offering, prices, rules=LISTS, market_segment=("vip",))) == {"vip-line": 80, "tv": 50}


def test_of_lists_that_fit_equally_the_lower_priority_number_counts() -> None:
    lists = {
        terms.id: terms
        for terms in (a_list("b", branch=("osh",), priority=1), a_list("a", branch=("osh",), priority=2))
    }
    prices = [a_price(name, "1 KGS", price_list=name) for name in ("a", "b")]
    offering = an_offering("o", *refs("a", "b"))
    assert set(amounts(quote(offering, prices, rules=Rules(lists), branch="osh"))) == {"b"}


# --- versions --------------------------------------------------------------------------------------------------------


def versions() -> tuple[list[ProductOffering], list[Any]]:
    offerings = [
        an_offering("v1", *refs("p1"), version="1"),
        an_offering("v2", *refs("p2"), version="2", series="v1", valid_for=since(NOW)),
        an_offering("v3", *refs("p3"), version="3", series="v1", valid_for=since(AFTER)),
        an_offering("b", bundled_product_offering=parts(v1=1)),
    ]
    return offerings, [a_price(f"p{n}", f"{n}00 KGS") for n in (1, 2, 3)]


@pytest.mark.parametrize(("at", "price"), [(BEFORE, "p1"), (NOW, "p2"), (AFTER, "p3")])
@pytest.mark.parametrize("asked", ["v1", "v2", "v3", "b"])
def test_the_version_that_is_sold_at_the_time_is_priced_whichever_is_asked_for(
    at: datetime, price: str, asked: str
) -> None:
    pricing = replayed(quote(*versions(), Item("1", asked), at=at))
    assert set(amounts(pricing)) == {price}
    if asked == "v1":
        assert pricing.item[0].product_offering.id == price.replace("p", "v")


def test_who_holds_a_version_is_priced_by_it_even_when_it_is_not_sold_any_more() -> None:
    offerings, prices = versions()
    held = [replace(offerings[0], lifecycle_status=LifecycleStatus.RETIRED), *offerings[1:]]
    assert amounts(quote(held, prices, Item("1", "v1"))) == {"p2": 200}
    pricing = replayed(quote(held, prices, Item("1", "v1", exact_version=True)))
    assert amounts(pricing) == {"p1": 100}
    gone = [replace(offerings[0], lifecycle_status=LifecycleStatus.OBSOLETE), *offerings[1:]]
    refused(
        FailedPrecondition,
        "OFFERING_NOT_SELLABLE",
        lambda: quote(gone, prices, Item("1", "v1", exact_version=True)),
    )


def test_a_receipt_names_the_versions_that_were_not_taken() -> None:
    pricing = quote(*versions(), Item("1", "v1"), at=AFTER)
    assert rejections(pricing) == {"v1": "version 3 has begun later", "v2": "version 3 has begun later"}
    (step,) = [step for step in pricing.receipt.step if step.action == "VERSION_CHOSEN"]
    assert (step.rule, step.before, step.after, step.reason) == ("v3", "v1", "v3", "version 3")


# --- bundles ---------------------------------------------------------------------------------------------------------


def choice(key: str, least: int | None, default: int, most: int | None) -> BundledProductOffering:
    option = BundledProductOfferingOption(
        number_rel_offer_lower_limit=least, number_rel_offer_default=default, number_rel_offer_upper_limit=most
    )
    return BundledProductOffering(id=key, bundled_product_offering_option=option)


def family() -> tuple[list[ProductOffering], list[Any]]:
    offerings = [
        an_offering("home", bundled_product_offering=(choice("tv", 0, 1, 2), *parts(sim=1))),
        an_offering("tv", *refs("ptv"), bundled_product_offering=(choice("box", 1, 1, None),)),
        an_offering("box", *refs("pbox")),
        an_offering("sim", *refs("psim")),
    ]
    return offerings, [a_price("ptv", "20 KGS"), a_price("pbox", "3 KGS"), a_price("psim", "5 KGS")]


def test_the_chosen_number_of_each_part_is_priced_however_deep_it_is() -> None:
    selection = (BundledSelection("tv", 2), BundledSelection("box", 3))
    pricing = replayed(quote(*family(), Item("1", "home", 2, bundled=selection)))
    assert amounts(pricing) == {"ptv": 80, "pbox": 36, "psim": 10}
    none = quote(*family(), Item("1", "home", bundled=(BundledSelection("tv", 0),)))
    assert amounts(none) == {"psim": 5}


def test_a_bundle_without_its_optional_part_is_replayed() -> None:
    offerings, prices = family()
    without = Item("1", "home", bundled=(BundledSelection("tv", 0),))
    assert amounts(replayed(quote(offerings, prices, without))) == {"psim": 5}
    offerings[0] = replace(offerings[0], bundled_product_offering=(choice("tv", 0, 0, 2), *parts(sim=1)))
    assert amounts(replayed(quote(offerings, prices))) == {"psim": 5}


@pytest.mark.parametrize(
    ("selection", "field"),
    [
        ([("tv", 3)], "item[0].bundled[0].number"),
        ([("box", 1), ("box", 2)], "item[0].bundled[1].product_offering_id"),
        ([("tv", 1), ("box", 0)], "item[0].bundled[1].number"),
        ([("sim", 2)], "item[0].bundled[0].number"),
        ([("phone", 1)], "item[0].bundled[0].product_offering_id"),
    ],
)
def test_numbers_outside_the_limits_are_named(selection: list[tuple[str, int]], field: str) -> None:
    item = Item("1", "home", bundled=tuple(BundledSelection(*one) for one in selection))
    assert fields(refused(InvalidArgument, "BUNDLED_SELECTION", lambda: quote(*family(), item))) == [field]


def priced_as(mode: BundlePricingMode, percentage: str | None = None) -> tuple[list[ProductOffering], list[Any]]:
    pricing = BundlePricing(mode=mode, percentage=Decimal(percentage) if percentage else None)
    offerings = [
        an_offering("b", *refs("own"), bundled_product_offering=parts(x=1, y=1, z=1), bundle_pricing=pricing),
        *(an_offering(name, *refs(f"p{name}")) for name in "xyz"),
    ]
    return offerings, [a_price("own", "1 KGS"), *(a_price(f"p{name}", "0.05 KGS") for name in "xyz")]


def test_a_bundle_costs_the_sum_or_only_its_own_price() -> None:
    assert quote(*priced_as(BundlePricingMode.SUM)).total[0].amount == kgs("1.15")
    pricing = replayed(quote(*priced_as(BundlePricingMode.OVERRIDE)))
    assert pricing.total[0].amount == kgs("1.00")
    assert [part.id for part in pricing.item[0].bundled_item] == ["1/x", "1/y", "1/z"]
    assert rejections(pricing) == dict.fromkeys(("px", "py", "pz"), "the prices of the bundle replace it")


def test_the_discount_of_a_bundle_is_split_over_its_parts_to_the_cent() -> None:
    # 10 % of 0.15 is 0.02; of each part it would be 0.01, 0.03 together.
    pricing = replayed(quote(*priced_as(BundlePricingMode.DISCOUNT, "10")))
    assert sorted(amounts(pricing).values()) == [Decimal("0.04"), Decimal("0.04"), Decimal("0.05"), Decimal(1)]
    (alteration,) = pricing.item[0].bundled_item[0].component[0].alteration
    assert (alteration.percentage, alteration.value) == (Decimal(-10), Decimal("-0.01"))
    step = next(step for step in pricing.receipt.step if step.action == "BUNDLE_DISCOUNT")
    assert (step.subject, step.rule, step.before, step.after) == ("1/x", "b", "0.05 KGS", "0.04 KGS")
    assert step.reason == "-10 % of 0.15 KGS"


def test_the_discount_of_a_bundle_keeps_amounts_with_tax_to_the_cent() -> None:
    gross = ProductPriceValue(tax_included_amount=kgs("112"), tax_rate=Decimal(12))
    offerings = [
        an_offering(
            "b",
            bundled_product_offering=parts(x=1),
            bundle_pricing=BundlePricing(mode=BundlePricingMode.DISCOUNT, percentage=Decimal(50)),
        ),
        an_offering("x", by_value(gross)),
    ]
    (component,) = replayed(quote(offerings)).item[0].bundled_item[0].component
    assert (component.net, component.gross) == (Decimal("50.00"), Decimal("56.00"))


# --- phases and terms ------------------------------------------------------------------------------------------------


def phased() -> tuple[ProductOffering, list[Any]]:
    offering = an_offering(
        "o",
        *refs("trial", "year", "later", "fee"),
        phase=(
            OfferingPhase(name="trial", duration=Duration(amount=30, units="days")),
            OfferingPhase(name="year", duration=Duration(amount=12, units="months")),
            OfferingPhase(name="later"),
        ),
    )
    prices = [a_price(name, f"{n}00 KGS", phase=(name,)) for n, name in enumerate(("trial", "year", "later"))]
    return offering, [*prices, a_price("fee", "7 KGS", None)]


def test_a_new_product_lists_every_phase_with_its_start_and_length() -> None:
    pricing = replayed(quote(*phased()))
    found = {
        c.rule: (c.phase, c.stage and c.stage.start, c.stage and c.stage.duration) for c in pricing.item[0].component
    }
    day, month = Duration(amount=30, units="day"), Duration(amount=12, units="month")
    assert found == {
        "trial": ("trial", None, day),
        "year": ("year", day, month),
        # 30 days and 12 months from 1 March 2026.
        "later": ("later", Duration(amount=395, units="day"), None),
        "fee": ("", None, None),
    }
    # What begins later isn't due yet.
    assert [(t.price_type, t.amount) for t in pricing.total] == [("oneTime", kgs("7")), ("recurring", kgs("0"))]


@pytest.mark.parametrize(
    ("started", "phase"),
    [
        (datetime(2026, 2, 1, tzinfo=UTC), "trial"),
        (datetime(2026, 1, 30, 12, tzinfo=UTC), "year"),
        (datetime(2025, 1, 30, 13, tzinfo=UTC), "year"),
        (datetime(2025, 1, 30, 12, tzinfo=UTC), "later"),
    ],
)
def test_who_holds_a_product_pays_for_the_phase_that_it_is_in(started: datetime, phase: str) -> None:
    pricing = replayed(quote(*phased(), Item("1", "o", started_at=started)))
    assert set(amounts(pricing)) == {phase, "fee"}


def test_months_end_where_the_month_does() -> None:
    offering, prices = phased()
    monthly = replace(
        offering,
        phase=(OfferingPhase(name="trial", duration=Duration(amount=1, units="month")), OfferingPhase(name="year")),
        product_offering_price=refs("trial", "year"),
    )
    item = Item("1", "o", started_at=datetime(2026, 1, 31, tzinfo=UTC))
    assert set(amounts(quote(monthly, prices, item, at=datetime(2026, 2, 27, 23, tzinfo=UTC)))) == {"trial"}
    assert set(amounts(quote(monthly, prices, item, at=datetime(2026, 2, 28, tzinfo=UTC)))) == {"year"}


def test_the_phase_that_a_holder_is_in_is_due_however_late_it_began() -> None:
    item = Item("1", "o", started_at=datetime(2025, 1, 30, 12, tzinfo=UTC))
    pricing = replayed(quote(*phased(), item))
    assert [(t.price_type, t.amount) for t in pricing.total] == [("oneTime", kgs("7")), ("recurring", kgs("200"))]
    assert [c.later for c in pricing.item[0].component] == [False, False]
    listed = {c.rule: c.later for c in quote(*phased()).item[0].component}
    assert listed == {"trial": False, "year": True, "later": True, "fee": False}


def test_phases_of_months_do_not_drift_at_the_end_of_a_month() -> None:
    offering, prices = phased()
    month = Duration(amount=1, units="month")
    monthly = replace(
        offering,
        phase=tuple(OfferingPhase(name=name, duration=month) for name in ("trial", "year")) + offering.phase[2:],
    )
    # A month after 31 January is 28 February, two months after it 31 March.
    item = Item("1", "o", started_at=datetime(2026, 1, 31, tzinfo=UTC))
    for at, phase in ((datetime(2026, 3, 30, 23, tzinfo=UTC), "year"), (datetime(2026, 3, 31, tzinfo=UTC), "later")):
        assert set(amounts(quote(monthly, prices, item, at=at))) == {phase, "fee"}


@pytest.mark.parametrize(
    "phases",
    [
        (OfferingPhase(name="trial"), OfferingPhase(name="year")),
        (OfferingPhase(name="trial", duration=Duration(amount=1, units="moon")), OfferingPhase(name="year")),
        (OfferingPhase(name="other"),),
    ],
)
def test_phases_that_cannot_be_are_not_sold(phases: tuple[OfferingPhase, ...]) -> None:
    offering, prices = phased()
    wrong = replace(offering, phase=phases, product_offering_price=refs("trial", "year"))
    error = refused(FailedPrecondition, "OFFERING_NOT_SELLABLE", lambda: quote(wrong, prices))
    assert "isn't complete" in error.message


def trial_and_regular(*prices: Any) -> tuple[ProductOffering, list[Any]]:
    phases = OfferingPhase(name="trial", duration=Duration(amount=1, units="month")), OfferingPhase(name="regular")
    return an_offering("o", *refs(*(p.id for p in prices)), phase=phases), list(prices)


def by_phase(pricing: Pricing) -> list[tuple[str, str, Any]]:
    return [(component.rule, component.phase, component.net) for component in pricing.item[0].component]


def test_a_price_list_competes_in_each_phase() -> None:
    general = a_price("general", "600 KGS", phase=("regular",))
    ours = a_price("ours", "500 KGS", price_list="vip")
    vip: dict[str, Any] = {"rules": LISTS, "market_segment": ("vip",)}
    in_regular = Item("1", "o", started_at=datetime(2026, 1, 1, tzinfo=UTC))
    pricing = replayed(quote(*trial_and_regular(general, ours), in_regular, **vip))
    assert by_phase(pricing) == [("ours", "", 500)]
    assert rejections(pricing) == {"general": "price list vip has a price for it"}
    assert by_phase(quote(*trial_and_regular(general, ours), in_regular, rules=LISTS)) == [("general", "regular", 600)]
    # The other way about, the general price stays that of the phases for which the list has none.
    general = a_price("general", "600 KGS")
    ours = a_price("ours", "500 KGS", price_list="vip", phase=("regular",))
    listed = replayed(quote(*trial_and_regular(general, ours), **vip))
    assert by_phase(listed) == [("general", "trial", 600), ("ours", "regular", 500)]
    assert [t.amount for t in listed.total] == [kgs("600")]
    assert by_phase(quote(*trial_and_regular(general, ours), in_regular, **vip)) == [("ours", "regular", 500)]


def test_a_currency_has_a_price_in_every_phase() -> None:
    trial = [a_price("trial", "1 KGS", phase=("trial",))]
    regular = [a_price(f"in-{unit}", f"9 {unit}", phase=("regular",)) for unit in ("KGS", "USD")]
    offering, prices = trial_and_regular(*trial, *regular)
    refused(InvalidArgument, "NO_PRICE_IN_CURRENCY", lambda: quote(offering, prices, currency="USD"))
    assert by_phase(quote(offering, prices)) == [("trial", "trial", 1), ("in-KGS", "regular", 9)]


def test_a_discount_for_a_time_that_no_calendar_has_is_not_sold() -> None:
    off = replace(a_discount("off", "50"), application_duration=Duration(amount=3, units="moons"))
    error = refused(FailedPrecondition, "OFFERING_NOT_SELLABLE", lambda: quote(*rivals(off)))
    assert "moons" in error.message
    assert amounts(quote(*rivals(replace(off, application_duration=Duration(amount=3)))))["p"] == 50


def test_a_discount_for_some_time_ends() -> None:
    off = replace(a_discount("off", "50"), application_duration=Duration(amount=3, units="months"))
    offering, prices = rivals(off)
    (alteration,) = quote(offering, prices).item[0].component[0].alteration
    assert alteration.application_duration == Duration(amount=3, units="month")
    in_time = Item("1", "o", started_at=datetime(2025, 12, 1, 13, tzinfo=UTC))
    too_late = Item("1", "o", started_at=datetime(2025, 12, 1, 12, tzinfo=UTC))
    assert amounts(quote(offering, prices, in_time))["p"] == 50
    pricing = replayed(quote(offering, prices, too_late))
    assert (amounts(pricing)["p"], rejections(pricing)) == (100, {"off": "it was for 3 months"})


def committed() -> tuple[ProductOffering, list[Any]]:
    year = ProductOfferingTerm(name="1 year", duration=Duration(amount=1, units="year"))
    offering = an_offering("o", *refs("free", "bound", "fee"), product_offering_term=(year,))
    prices = [
        a_price("free", "500 KGS", condition=(only_if("term", Op.ABSENT),)),
        a_price("bound", "400 KGS", product_offering_term=(year,)),
        a_price("fee", "1000 KGS", None, price_type="earlyTermination", product_offering_term=(year,)),
    ]
    return offering, prices


def test_a_commitment_has_its_own_price_and_a_fee_for_leaving_early() -> None:
    pricing = replayed(quote(*committed()))
    assert amounts(pricing) == {"free": 500}
    assert rejections(pricing)["fee"] == "it is for the term 1 year"
    pricing = replayed(quote(*committed(), Item("1", "o", term="1 year")))
    assert amounts(pricing) == {"bound": 400, "fee": 1000}
    assert [c.price_type for c in pricing.item[0].component] == ["recurring", "earlyTermination"]
    # It is due only for leaving.
    assert [(t.price_type, t.amount) for t in pricing.total] == [("recurring", kgs("400"))]


def test_after_the_term_nothing_is_due_for_leaving() -> None:
    in_time = Item("1", "o", term="1 year", started_at=datetime(2025, 3, 2, tzinfo=UTC))
    over = Item("1", "o", term="1 year", started_at=datetime(2025, 3, 1, tzinfo=UTC))
    assert "fee" in amounts(quote(*committed(), in_time))
    pricing = quote(*committed(), over)
    assert (set(amounts(pricing)), rejections(pricing)["fee"]) == ({"bound"}, "the term 1 year is over")


def test_a_term_that_is_not_offered_is_named() -> None:
    error = refused(InvalidArgument, "UNKNOWN_TERM", lambda: quote(*committed(), Item("1", "o", term="9 years")))
    assert fields(error) == ["item[0].term"]


# --- tax -------------------------------------------------------------------------------------------------------------


def test_terms_are_those_of_the_version_that_is_chosen() -> None:
    year = ProductOfferingTerm(name="1 year", duration=Duration(amount=1, units="year"))
    fee = a_price("fee", "1000 KGS", None, price_type="earlyTermination")
    prices = [a_price("p", "500 KGS"), fee]
    old = an_offering("o", *refs("p", "fee"), version="1")
    new = an_offering("o2", *refs("p", "fee"), version="2", series="o", valid_for=since(BEFORE))
    whole = an_offering("b", bundled_product_offering=parts(o=1))
    bound = [whole, old, replace(new, product_offering_term=(year,))]
    assert amounts(replayed(quote(bound, prices, Item("1", "b", term="1 year")))) == {"p": 500, "fee": 1000}
    free = [whole, replace(old, product_offering_term=(year,)), new]
    refused(InvalidArgument, "UNKNOWN_TERM", lambda: quote(free, prices, Item("1", "b", term="1 year")))
    # The term is that of the bundle's second version, the fee that of its part.
    further = replace(whole, id="b2", series="b", version="2", valid_for=since(BEFORE), product_offering_term=(year,))
    over = Item("1", "b", term="1 year", started_at=datetime(2025, 3, 1, tzinfo=UTC))
    assert rejections(quote([whole, further, old, new], prices, over))["fee"] == "the term 1 year is over"


def test_the_term_of_a_part_that_nobody_takes_is_not_offered() -> None:
    year = ProductOfferingTerm(name="1 year", duration=Duration(amount=1, units="year"))
    offerings, prices = family()
    offerings[1] = replace(offerings[1], product_offering_term=(year,))
    asked = Item("1", "home", term="1 year")
    assert "ptv" in amounts(replayed(quote(offerings, prices, asked)))
    without = replace(asked, bundled=(BundledSelection("tv", 0),))
    refused(InvalidArgument, "UNKNOWN_TERM", lambda: quote(offerings, prices, without))


def a_tax(id: str, rate: str, place: str = "", valid_for: TimePeriod | None = None, live: bool = True) -> Tax:
    return Tax(id, id, "telecom", place, Decimal(rate), live, valid_for or TimePeriod())


TAXES = Rules(
    taxes={
        "telecom": [
            a_tax("kg", "12", "kg"),
            a_tax("kg-new", "13", "kg", since(AFTER)),
            a_tax("osh", "5", "osh"),
            a_tax("draft", "99", "osh", live=False),
            a_tax("elsewhere", "20"),
        ]
    }
)


@pytest.mark.parametrize(
    ("place", "at", "rule", "rate"),
    [
        (("kg",), NOW, "kg", 12),
        (("kg",), AFTER, "kg-new", 13),
        (("osh", "kg"), NOW, "osh", 5),
        (("moscow", "ru"), NOW, "elsewhere", 20),
        ((), NOW, "elsewhere", 20),
    ],
)
def test_tax_is_that_of_category_place_and_date(place: tuple[str, ...], at: datetime, rule: str, rate: int) -> None:
    offering = an_offering("o", *refs("p"))
    pricing = replayed(
        quote(offering, [a_price("p", "100 KGS", tax_category="telecom")], rules=TAXES, place=place, at=at)
    )
    (component,) = pricing.item[0].component
    assert (component.tax_rate, component.gross) == (Decimal(rate), Decimal(100 + rate))
    (step,) = [step for step in pricing.receipt.step if step.action == "TAX_ADDED"]
    assert (step.rule, step.reason) == (rule, f"{rate} %")


def test_the_prices_own_rate_goes_first_and_an_amount_may_include_the_tax() -> None:
    price = a_price("p", "112 KGS", tax_category="telecom", tax=vat("12"), tax_included=True)
    (component,) = quote(an_offering("o", *refs("p")), [price], rules=TAXES, place=("osh",)).item[0].component
    assert [component.net, component.tax_rate, component.gross] == [Decimal(100), Decimal(12), Decimal(112)]


def test_a_category_without_a_rate_is_an_error_that_names_it() -> None:
    price = a_price("p", "100 KGS", tax_category="alcohol")
    error = refused(
        FailedPrecondition, "NO_TAX_RATE", lambda: quote(an_offering("o", *refs("p")), [price], rules=TAXES)
    )
    assert (fields(error), "'alcohol'" in error.message) == (["item[0].product_offering_id"], True)


# --- quantities and usage --------------------------------------------------------------------------------------------


def a_model(type: PricingModelType, *tiers: tuple[str | None, str], **more: Any) -> PricingModel:
    return PricingModel(
        model_type=type,
        tier=tuple(
            PriceTier(up_to=Decimal(up_to) if up_to else None, unit_amount=Decimal(unit)) for up_to, unit in tiers
        ),
        **more,
    )


def test_the_quantity_ordered_is_priced_by_tiers() -> None:
    model = a_model(PricingModelType.GRADUATED, ("10", "5"), (None, "3"))
    price = replace(a_price("p", pop_relationship=altered_by("d"), pricing_model=model), price=kgs("0"))
    pricing = replayed(quote(an_offering("o", *refs("p")), [price, a_discount("d", "10")], Item("1", "o", 15)))
    assert amounts(pricing) == {"p": Decimal("58.50")}
    assert [s.action for s in pricing.receipt.step][:2] == ["TIER_CHARGED", "TIER_CHARGED"]


def metered() -> tuple[ProductOffering, list[Any]]:
    model = PricingModel(
        model_type=PricingModelType.PER_UNIT,
        usage_type="voice",
        allowance=Quantity(amount=Decimal(100), units="min"),
        period_increment=Quantity(amount=Decimal(1), units="min"),
    )
    minute = a_price(
        "minute",
        "1.50 KGS",
        price_type="usage",
        pricing_model=model,
        unit_of_measure=Quantity(amount=Decimal(1), units="min"),
        tax=vat("12"),
    )
    return an_offering("o", *refs("p", "minute")), [a_price("p", "500 KGS"), minute]


def test_usage_prices_are_listed_and_charged_once_usage_is_given() -> None:
    pricing = replayed(quote(*metered()))
    listed = pricing.item[0].component[1]
    assert (listed.price_type, listed.usage_type, listed.net) == ("usage", "voice", Decimal(0))
    assert [t.price_type for t in pricing.total] == ["recurring"]
    used = UsageQuantity("voice", Decimal(7230), "s")
    pricing = replayed(quote(*metered(), Item("1", "o", usage=(used,))))
    charged = pricing.item[0].component[1]
    # 121 minutes are begun, 100 of them free.
    assert (charged.net, charged.gross) == (Decimal("31.50"), Decimal("35.28"))
    assert ("usage", Decimal("31.50")) in [(t.price_type, t.amount.value) for t in pricing.total]


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (Item("1", "o", usage=(UsageQuantity("data", Decimal(1)),)), "item[0].usage[0].usage_type"),
        (Item("1", "o", 2, usage=(UsageQuantity("voice", Decimal(1)),)), "item[0].usage[0].usage_type"),
    ],
)
def test_usage_that_has_no_one_price_is_refused(item: Item, field: str) -> None:
    assert fields(refused(InvalidArgument, "USAGE_NOT_PRICED", lambda: quote(*metered(), item))) == [field]


@pytest.mark.parametrize("amount", ["-1", "9e60", "1e18", "1e-19"])
def test_usage_that_nobody_can_have_had_is_refused_by_its_field_and_so_is_a_receipt_that_says_so(amount: str) -> None:
    def asked(used: str) -> Item:
        return Item("1", "o", usage=(UsageQuantity("voice", Decimal(used)),))

    refusal = refused(InvalidArgument, "INVALID_QUANTITY", lambda: quote(*metered(), asked(amount)))
    assert fields(refusal) == ["item[0].usage[0].amount"]
    made = quote(*metered(), asked("123456")).receipt
    assert '"123456"' in made.inputs.text
    forged = replace(made, inputs=Json(made.inputs.text.replace('"123456"', f'"{Decimal(amount):f}"')))
    assert fields(refused(InvalidArgument, "INVALID_QUANTITY", lambda: replay(forged))) == ["item[0].usage[0].amount"]


# --- receipts --------------------------------------------------------------------------------------------------------


def test_a_receipt_holds_the_rules_that_were_used_and_no_others() -> None:
    prices = [
        a_price("p", "100 KGS", tax_category="telecom"),
        a_price("q", "90 KGS", price_list="vip", tax_category="telecom"),
    ]
    pricing = quote(
        an_offering("o", *refs("p", "q")),
        prices,
        Item("1", "o", characteristic=chosen(speed=100), started_at=BEFORE),
        rules=replace(LISTS, taxes=TAXES.taxes),
        market_segment=("vip",),
        place=("kg",),
        orders_before=3,
        coupon=("SPRING",),
    )
    inputs = json.loads(replayed(pricing).receipt.inputs.text)
    assert [one["id"] for one in inputs["price_lists"]] == ["vip"]
    assert [(one["id"], one["rate"]) for one in inputs["tax_rates"]] == [("kg", "12")]
    assert inputs["context"] == {
        "at": "2026-03-01T12:00:00Z", "branch": "", "currency": "", "customer_id": "", "market_segment": ["vip"],
        "place": ["kg"], "orders_before": 3, "coupon": ["SPRING"],
    }  # fmt: skip
    assert inputs["items"][0]["characteristic"] == [{"name": "speed", "value": "100", "value_type": ""}]


def test_a_characteristic_without_a_value_is_replayed() -> None:
    item = Item("1", "o", characteristic=(Characteristic(name="speed"), *chosen(ip=None)))
    replayed(quote(an_offering("o", *refs("p")), [a_price("p", "1 KGS")], item))
