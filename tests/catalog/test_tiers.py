"""Price models: others' cases, what holds of every model, and what is refused."""

import itertools
import json
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.pricing.tiers import Model, amount, compile_model, parse_model, receipt_steps
from catalog.pricing.usage import UsageEvent, compile_price, rate_usage
from catalog.product.domain import LifecycleStatus
from catalog.product.values import (
    PriceTier,
    PricingModel,
    PricingModelType,
    RateStep,
    TimeBand,
    UsageRate,
)
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.types import Money, Quantity
from tests.catalog.things import NOW, a_price

M = PricingModelType


def tier(up_to: str | None, unit: str | None = None, flat: str | None = None, percent: str | None = None) -> PriceTier:
    up_to_, unit_, flat_, percent_ = (None if text is None else Decimal(text) for text in (up_to, unit, flat, percent))
    return PriceTier(up_to=up_to_, unit_amount=unit_, flat_amount=flat_, percentage=percent_)


def model(kind: PricingModelType, *tiers: PriceTier, **more: Any) -> PricingModel:
    return PricingModel(model_type=kind, tier=tiers, **more)


def compiled(pricing_model: PricingModel, **more: Any) -> Model:
    return parse_model(json.loads(json.dumps(compile_model(pricing_model, **more))))


def total(pricing_model: PricingModel, quantity: str, **more: Any) -> Decimal:
    return amount(compiled(pricing_model, **more), Decimal(quantity))[0]


# --- others' cases ---------------------------------------------------------------------------------------------------

TYPES = {
    "per_unit": M.PER_UNIT,
    "perunit": M.PER_UNIT,
    "standard": M.PER_UNIT,
    "package": M.PACKAGE,
    "graduated": M.GRADUATED,
    "volume": M.VOLUME,
    "percentage": M.PERCENTAGE,
    "graduated_percentage": M.GRADUATED_PERCENTAGE,
}
# A field of a case → what it states of the model. Of these only `unit` and `flat` occur in the file that we have; the
# others are what the sources call the same things.
FIELDS: Mapping[str, str] = {
    "unit": "unit_amount",
    "amount": "unit_amount",
    "unit_amount": "unit_amount",
    "package_price": "unit_amount",
    "package_amount": "unit_amount",
    "price": "unit_amount",
    "rate": "percentage",
    "percentage": "percentage",
    "percent": "percentage",
    "flat": "flat_amount",
    "fixed": "flat_amount",
    "fixed_amount": "flat_amount",
    "flat_amount": "flat_amount",
    "package_size": "package_size",
    "size": "package_size",
    "billing_units": "package_size",
    "free_units": "allowance",
    "free": "allowance",
    "included": "allowance",
    "included_usage": "allowance",
    "free_total": "allowance",
    "free_amount": "allowance",
    "free_units_per_total_aggregation": "allowance",
    "free_events": "free_events",
    "free_units_per_events": "free_events",
    "min": "event_minimum",
    "event_min": "event_minimum",
    "min_per_event": "event_minimum",
    "per_event_min": "event_minimum",
    "per_transaction_min_amount": "event_minimum",
    "max": "event_maximum",
    "event_max": "event_maximum",
    "max_per_event": "event_maximum",
    "per_event_max": "event_maximum",
    "per_transaction_max_amount": "event_maximum",
}
ABOUT = {"id", "model", "tiers", "quantity", "events", "event_count", "expect_amount", "source", "note"}
TIER_FIELDS = {"up_to", "unit", "flat", "rate", "percentage", "percent"}


def test_usage_models_of_others(shared: Path) -> None:
    cases = json.loads(
        (shared / "data/pricing_vectors/usage_models.json").read_text(), parse_float=Decimal, parse_int=Decimal
    )["cases"]
    assert len(cases) >= 25
    unknown, wrong = [], []
    for case in cases:
        strange = strange_of(case)
        if strange:
            unknown.append(f"{case['id']}: {', '.join(sorted(strange))}")
            continue
        found = of_case(case)
        if found != case["expect_amount"]:
            wrong.append(f"{case['id']} ({case['model']}): {found} instead of {case['expect_amount']}")
    assert not wrong
    assert not unknown, f"fields whose meaning isn't known here: {'; '.join(unknown)}"


SLABS = [{"up_to": 1000, "rate": 1, "flat": 200}, {"up_to": None, "rate": 2, "flat": 300}]


@pytest.mark.parametrize(
    ("case", "due"),
    [
        # Packages that are begun, of what isn't free: of 101, and of nothing.
        ({"model": "package", "package_size": 10, "package_price": 100, "free_units": 20, "quantity": 121}, "1100"),
        ({"model": "package", "package_size": 10, "price": 100, "free_units": 20, "quantity": 5}, "0"),
        ({"model": "package", "billing_units": 100, "price": 3, "included_usage": 100, "quantity": 201}, "6"),
        ({"model": "package", "package_size": 1000, "price": 5, "quantity": 1001}, "10"),
        # 1.2 % of 1,000 and 0.1 for each of ten; of nothing, nothing.
        ({"model": "percentage", "rate": "1.2", "fixed": "0.1", "quantity": 1000, "event_count": 10}, "13"),
        ({"model": "percentage", "rate": "1.2", "fixed": "0.1", "quantity": 0}, "0"),
        # 1.3 % of the last 400 and one fee; of all but the first 250, two fees.
        ({"model": "percentage", "rate": "1.3", "fixed": 2, "free_events": 3, "events": [50, 100, 250, 400]}, "7.2"),
        ({"model": "percentage", "rate": "1.3", "fixed": 2, "free_total": 250, "events": [50, 100, 250, 400]}, "11.15"),
        # 1, 10 and 100, from 1.75 to 12 each.
        ({"model": "percentage", "rate": 1, "min": "1.75", "max": 12, "events": [100, 1000, 10_000]}, "23.75"),
        ({"model": "percentage", "rate": 1, "max_per_event": 12, "events": [{"amount": 10_000}] * 2}, "24"),
        # The least and the most of an event whatever its model: 0.5, 2 and 4.5, from 1 to 3 each.
        ({"model": "per_unit", "unit": "0.5", "min": 1, "max": 3, "events": [1, 4, 9]}, "6"),
        # 10 and 200; then 10 and 300 more.
        ({"model": "graduated_percentage", "tiers": SLABS, "quantity": 1000}, "210"),
        ({"model": "graduated_percentage", "tiers": SLABS, "quantity": 1500}, "520"),
    ],
    ids=str,
)
def test_cases_of_the_models_that_the_file_we_have_lacks(case: Mapping[str, Any], due: str) -> None:
    # Numbers as the file's reader gives them: decimals, whatever they are.
    read = json.loads(json.dumps(case), parse_int=Decimal)
    told = {
        name: Decimal(value) if isinstance(value, str) and name != "model" else value for name, value in read.items()
    }
    assert not strange_of(told)
    assert of_case(told) == Decimal(due)


def strange_of(case: Mapping[str, Any]) -> set[str]:
    strange = set(case) - ABOUT - set(FIELDS)
    strange |= {name for row in case.get("tiers") or () for name in row if name not in TIER_FIELDS}
    return strange | ({case["model"]} if case["model"].lower() not in TYPES else set())


def of_case(case: Mapping[str, Any]) -> Decimal:
    """The amount of a case: of its quantity as one sum, or of its events."""
    kind = TYPES[case["model"].lower()]
    stated = {FIELDS[name]: value for name, value in case.items() if name in FIELDS and value is not None}
    tiers = [
        PriceTier(up_to=row.get("up_to"), **{FIELDS[name]: row[name] for name in row if name in FIELDS})
        for row in case.get("tiers") or ()
    ]
    in_tier = {name: stated.pop(name) for name in ("unit_amount", "percentage", "flat_amount") if name in stated}
    if "allowance" in stated:
        stated["allowance"] = Quantity(amount=stated["allowance"])
    if "free_events" in stated:
        stated["free_events"] = int(stated["free_events"])
    said = PricingModel(model_type=kind, usage_type="use", tier=tuple(tiers) or (PriceTier(**in_tier),), **stated)
    data = compile_model(said)
    events: Any = case.get("events")
    if events is None and not stated.keys() - {"package_size"} and kind is not M.PERCENTAGE:
        exact: Decimal = amount(parse_model(data), case["quantity"])[0]
        fractional, _ = amount(parse_model(data), Fraction(case["quantity"]))
        assert exact == fractional
        return exact
    if events is None:
        # So many events that come to the quantity; what each of them is doesn't matter to what has no bounds by event.
        count = int(case.get("event_count") or 1)
        events = [case["quantity"] / count] * count if case["quantity"] else []
    amounts = [event["amount"] if isinstance(event, Mapping) else event for event in events]
    # In the Chilean unit of account an amount has four decimals, so that nothing of a case is rounded away.
    price = a_price("p", None, None, price_type="usage", pricing_model=said)
    price.price = Money(unit="CLF")
    rating = rate_usage([compile_price(price)], [UsageEvent("", "use", value) for value in amounts], zone="UTC")
    charged = rating.charge[0].amount.value
    assert charged is not None
    return charged


# --- the rules -------------------------------------------------------------------------------------------------------


def test_each_model_by_hand() -> None:
    assert total(model(M.PER_UNIT, tier(None, "0.03")), "124") == Decimal("3.72")
    assert total(model(M.PER_UNIT), "124", amount=Decimal("0.03")) == Decimal("3.72")
    assert total(model(M.PER_UNIT, tier(None, "2", "5")), "0") == 5
    packages = model(M.PACKAGE, tier(None, "5"), package_size=Decimal(100))
    assert [total(packages, q) for q in ("0", "0.1", "100", "100.5", "201")] == [0, 5, 5, 10, 15]
    assert total(model(M.PERCENTAGE, tier(None, flat="0.30", percent="2.9")), "200") == Decimal("6.10")
    assert total(model(M.PERCENTAGE, tier(None, flat="0.30", percent="2.9")), "0") == 0
    assert total(model(M.PERCENTAGE), "200", percentage=Decimal("2.9")) == Decimal("5.8")
    slabs = model(M.GRADUATED_PERCENTAGE, tier("1000", flat="200", percent="1"), tier(None, flat="300", percent="2"))
    assert [total(slabs, q) for q in ("0", "500", "1000", "1050")] == [0, 205, 210, 511]


def test_a_price_may_be_for_several_units() -> None:
    per_30_seconds = compiled(
        model(M.PER_UNIT), amount=Decimal("0.10"), unit_of_measure=Quantity(amount=Decimal(30), units="s")
    )
    assert amount(per_30_seconds, Decimal(45))[0] == Decimal("0.15")
    assert amount(per_30_seconds, Fraction(1, 3))[0] == Fraction(1, 900)


def test_the_steps_tell_the_amount_part_by_part() -> None:
    graduated = compiled(model(M.GRADUATED, tier("10", "10", "2"), tier(None, "5", "3")))
    found, parts = amount(graduated, Decimal(12))
    assert [(s.before, s.after, s.reason) for s in receipt_steps(parts, "i", "p", "KGS")] == [
        ("0 KGS", "102 KGS", "tier 1: 10 × 10 + 2"),
        ("102 KGS", "115 KGS", "tier 2: 2 × 5 + 3"),
    ]
    assert found == 115


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (model(M.GRADUATED, tier("10", "1"), tier("10", "1")), "pricing_model.tier[1].up_to"),
        (model(M.GRADUATED, tier("10", "1"), tier("5", "1")), "pricing_model.tier[1].up_to"),
        (model(M.GRADUATED, tier(None, "1"), tier("5", "1")), "pricing_model.tier[1].up_to"),
        (model(M.VOLUME, tier("0", "1")), "pricing_model.tier[0].up_to"),
        (model(M.VOLUME, tier("-1", "1")), "pricing_model.tier[0].up_to"),
        (model(M.VOLUME, tier(None, percent="1")), "pricing_model.tier[0].percentage"),
        (model(M.PERCENTAGE, tier(None, unit="1")), "pricing_model.tier[0].unit_amount"),
        (model(M.PER_UNIT, tier("5", "1"), tier(None, "2")), "pricing_model.tier[1]"),
        (model(M.PACKAGE, tier(None, "1"), package_size=Decimal(0)), "pricing_model.package_size"),
        (model(M.VOLUME, tier(None, "1"), package_size=Decimal(1)), "pricing_model.package_size"),
        (model(M.VOLUME, tier(None, "1"), event_minimum=Decimal(1)), "pricing_model.event_minimum"),
        (model(M.VOLUME, tier(None, "1"), free_events=1), "pricing_model.free_events"),
        (
            model(M.PERCENTAGE, tier(None, percent="1"), event_minimum=Decimal(2), event_maximum=Decimal(1)),
            "pricing_model.event_maximum",
        ),
        (model(M.VOLUME, tier(None, "1"), period_maximum=Decimal(-1)), "pricing_model.period_maximum"),
        (model(M.VOLUME, tier(None, "1"), allowance=Quantity(amount=Decimal(-1))), "pricing_model.allowance.amount"),
        (
            model(M.VOLUME, tier(None, "1"), event_increment=Quantity(amount=Decimal(0))),
            "pricing_model.event_increment.amount",
        ),
        (model(M.VOLUME, rate=(UsageRate(),)), "pricing_model.rate"),
        (model(M.RATED, tier(None, "1")), "pricing_model.tier"),
        (model(M.RATED, rate=(UsageRate(prefix=("+996",)),)), "pricing_model.rate[0].prefix[0]"),
        (model(M.RATED, rate=(UsageRate(connect_fee=Decimal(-1)),)), "pricing_model.rate[0].connect_fee"),
        (model(M.RATED, rate=(UsageRate(maximum=Decimal(-1)),)), "pricing_model.rate[0].maximum"),
        (
            model(M.RATED, rate=(UsageRate(time_band=(TimeBand(day=("monday",)),)),)),
            "pricing_model.rate[0].time_band[0].day[0]",
        ),
        (
            model(M.RATED, rate=(UsageRate(time_band=(TimeBand(start="25:00"),)),)),
            "pricing_model.rate[0].time_band[0].start",
        ),
        (model(M.RATED, rate=(UsageRate(step=(RateStep(start=Decimal(5)),)),)), "pricing_model.rate[0].step[0].start"),
        (
            model(M.RATED, rate=(UsageRate(step=(RateStep(), RateStep(start=Decimal(0)))),)),
            "pricing_model.rate[0].step[1].start",
        ),
        (model(M.RATED, rate=(UsageRate(step=(RateStep(per=Decimal(0)),)),)), "pricing_model.rate[0].step[0].per"),
        (
            model(M.RATED, rate=(UsageRate(step=(RateStep(amount=Decimal(-1)),)),)),
            "pricing_model.rate[0].step[0].amount",
        ),
    ],
)
def test_a_model_that_contradicts_itself_is_refused_in_design_too(broken: PricingModel, field: str) -> None:
    price = a_price("p", None, None, lifecycle_status=LifecycleStatus.IN_DESIGN, pricing_model=broken)
    with pytest.raises(InvalidArgument) as refusal:
        price.check(NOW)
    assert field in {violation.field for violation in refusal.value.violations}
    with pytest.raises(InvalidArgument) as refusal:
        compile_model(broken)
    assert refusal.value.reason == "MALFORMED_PRICING_MODEL"
    assert field in {violation.field for violation in refusal.value.violations}


@pytest.mark.parametrize(
    ("unfinished", "field"),
    [
        (PricingModel(), "pricing_model.model_type"),
        (model(M.GRADUATED), "pricing_model.tier"),
        (model(M.PER_UNIT), "pricing_model.tier"),
        (model(M.PACKAGE, tier(None, "1")), "pricing_model.package_size"),
        (model(M.VOLUME, tier(None)), "pricing_model.tier[0].unit_amount"),
        (model(M.GRADUATED_PERCENTAGE, tier(None)), "pricing_model.tier[0].percentage"),
        (model(M.RATED), "pricing_model.rate"),
        (model(M.RATED, rate=(UsageRate(),)), "pricing_model.rate[0].step"),
        (model(M.RATED, rate=(UsageRate(step=(RateStep(),)),)), "pricing_model.rate[0].step[0].amount"),
    ],
)
def test_a_model_may_be_unfinished_in_design_but_not_when_it_is_sold(unfinished: PricingModel, field: str) -> None:
    kgs = Money(unit="KGS")
    draft = a_price("p", None, None, lifecycle_status=LifecycleStatus.IN_DESIGN, pricing_model=unfinished)
    draft.check(NOW)
    sold = a_price("p", None, None, pricing_model=unfinished)
    sold.price = kgs
    with pytest.raises(FailedPrecondition) as refusal:
        sold.check(NOW)
    assert field in {violation.field for violation in refusal.value.violations}
    with pytest.raises(InvalidArgument):
        compile_model(unfinished)


def test_a_model_needs_a_currency_and_may_take_its_amount_from_the_price() -> None:
    sold = a_price("p", "3 KGS", None, pricing_model=model(M.PER_UNIT))
    sold.check(NOW)
    sold = a_price("p", None, None, pricing_model=model(M.VOLUME, tier(None, "1")))
    with pytest.raises(FailedPrecondition) as refusal:
        sold.check(NOW)
    assert [violation.field for violation in refusal.value.violations] == ["price.unit"]


def test_what_no_tier_has_a_price_for_is_refused() -> None:
    limited = compiled(model(M.GRADUATED, tier("10", "1")))
    assert amount(limited, Decimal(10))[0] == 10
    for quantity, reason in (("10.001", "QUANTITY_BEYOND_TIERS"), ("-1", "INVALID_QUANTITY")):
        with pytest.raises(InvalidArgument) as refusal:
            amount(limited, Decimal(quantity))
        assert refusal.value.reason == reason
    rated = compiled(model(M.RATED, rate=(UsageRate(step=(RateStep(amount=Decimal(1)),)),)))
    with pytest.raises(InvalidArgument) as refusal:
        amount(rated, Decimal(1))
    assert refusal.value.reason == "RATED_BY_EVENT"


# --- properties ------------------------------------------------------------------------------------------------------


def numbers(high: int = 1_000, places: int = 3) -> st.SearchStrategy[Decimal]:
    return st.integers(0, high * 10**places).map(lambda n: Decimal(n).scaleb(-places))


@st.composite
def tiered(draw: st.DrawFn, *kinds: PricingModelType) -> Model:
    """A model with up to four tiers, whose prices aren't negative."""
    kind = draw(st.sampled_from(kinds))
    bounds = sorted(draw(st.sets(numbers(100).filter(bool), max_size=3)))
    percentages = kind is M.GRADUATED_PERCENTAGE
    rows = [
        PriceTier(
            up_to=bound,
            unit_amount=None if percentages else draw(numbers(50)),
            percentage=draw(numbers(50)) if percentages else None,
            flat_amount=draw(st.none() | numbers(50)),
        )
        for bound in [*bounds, None]
    ]
    return compiled(model(kind, *rows))


@given(tiered(M.GRADUATED, M.GRADUATED_PERCENTAGE), numbers(200), numbers(200))
def test_graduated_amounts_never_fall_as_the_quantity_grows(of: Model, one: Decimal, other: Decimal) -> None:
    low, high = sorted((one, other))
    assert amount(of, low)[0] <= amount(of, high)[0]


@given(tiered(M.VOLUME), numbers(200), numbers(200))
def test_volume_amounts_rise_within_a_tier_and_only_the_tiers_price_counts(
    of: Model, one: Decimal, other: Decimal
) -> None:
    low, high = sorted((one, other))
    found = [amount(of, quantity) for quantity in (low, high)]
    if found[0][1][0].reason.split(":")[0] == found[1][1][0].reason.split(":")[0]:
        assert found[0][0] <= found[1][0]


@given(tiered(M.GRADUATED), st.integers(0, 2))
def test_without_flat_amounts_graduated_prices_have_no_jump_at_a_border(of: Model, place: int) -> None:
    bounds = [t.up_to for t in of.tiers if t.up_to is not None]
    if place >= len(bounds):
        return
    border, bit = bounds[place], Decimal("0.000001")
    jump = amount(of, border + bit)[0] - amount(of, border)[0]
    assert jump == of.tiers[place + 1].flat + bit * of.tiers[place + 1].price


@given(tiered(M.GRADUATED, M.VOLUME, M.GRADUATED_PERCENTAGE), numbers(200))
def test_decimals_and_fractions_come_to_the_same_and_the_steps_add_up(of: Model, quantity: Decimal) -> None:
    exact, steps = amount(of, quantity)
    fractional, _ = amount(of, Fraction(quantity))
    assert exact == fractional
    if not steps:
        # Of nothing, nothing.
        assert of.type is M.GRADUATED_PERCENTAGE
        assert not exact
        assert not quantity
        return
    assert steps[0].before == 0
    assert steps[-1].after == exact
    assert all(step.after == following.before for step, following in itertools.pairwise(steps))


@given(numbers(100).filter(bool), numbers(200), numbers(200))
def test_packages_cover_the_quantity_and_the_last_is_begun(size: Decimal, one: Decimal, other: Decimal) -> None:
    packages = compiled(model(M.PACKAGE, PriceTier(unit_amount=Decimal(1)), package_size=size))
    count = amount(packages, one)[0]
    assert (count - 1) * size < one <= count * size or count == one == 0
    low, high = sorted((one, other))
    assert amount(packages, low)[0] <= amount(packages, high)[0]
