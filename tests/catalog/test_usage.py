"""A charge period's usage: real years of it against their bills, every rule by hand, and what holds of any."""

import csv
import gzip
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.pricing import pricing, proration
from catalog.pricing.metering import usage_prices
from catalog.pricing.money import rounded
from catalog.pricing.pricing import Item, PricingContext, UsageQuantity, price
from catalog.pricing.receipts import Receipt
from catalog.pricing.rules import NO_RULES
from catalog.pricing.usage import (
    PeriodState,
    UsageEvent,
    UsageRating,
    compile_price,
    parse_price,
    period_amount,
    rate_usage,
    replay,
)
from catalog.product.domain import ProductOffering, ProductOfferingPrice
from catalog.product.values import (
    BundlePricing,
    BundlePricingMode,
    OfferingPhase,
    PriceTier,
    PricingModel,
    PricingModelType,
    RateStep,
    TimeBand,
    UsageRate,
)
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.types import Duration, Json, Money, Quantity
from tests.catalog.things import NOW, a_price, an_offering, compiled, parts, refs, vat

M = PricingModelType
MARCH = datetime(2026, 3, 2, 10, tzinfo=UTC)


def quantity(amount: str, units: str | None = None) -> Quantity:
    return Quantity(amount=Decimal(amount), units=units)


def usage_price(
    id: str, model: PricingModel, *, unit: str | None = None, currency: str = "KGS", **more: Any
) -> ProductOfferingPrice:
    result = a_price(id, None, None, price_type="usage", pricing_model=model, **more)
    result.price = Money(unit=currency)
    result.unit_of_measure = quantity("1", unit) if unit else None
    result.check(NOW)
    return result


def per_unit(amount: str, usage_type: str, **more: Any) -> PricingModel:
    return PricingModel(
        model_type=M.PER_UNIT, tier=(PriceTier(unit_amount=Decimal(amount)),), usage_type=usage_type, **more
    )


def rated(prices: Sequence[ProductOfferingPrice], events: Sequence[UsageEvent], **more: Any) -> UsageRating:
    return rate_usage([compile_price(p) for p in prices], events, zone=more.pop("zone", "UTC"), **more)


def amounts(rating: UsageRating) -> list[Decimal]:
    return [value(charge.amount) for charge in rating.charge]


def value(money: Money) -> Decimal:
    assert money.value is not None
    return money.value


def actions(rating: UsageRating) -> list[tuple[str, str, str | None, str | None, str | None]]:
    return [(s.subject, s.action, s.before, s.after, s.reason) for s in rating.receipt.step]


# --- Megaline: a year of usage of real plans, and its bills ----------------------------------------------------------


def rows(path: Path) -> Iterator[dict[str, str]]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    yield from csv.DictReader(text.splitlines())


def megaline_plan(plan: Mapping[str, str]) -> tuple[ProductOffering, list[ProductOfferingPrice]]:
    """The plan as the catalog has it: a monthly fee, and an overage price of each kind of usage above its allowance."""
    gigabytes = Decimal(plan["mb_per_month_included"]) / 1024
    name = plan["plan_name"]
    prices = [
        a_price(f"{name}-fee", f"{plan['usd_monthly_pay']} USD"),
        usage_price(
            f"{name}-voice",
            per_unit(
                plan["usd_per_minute"],
                "voice",
                allowance=quantity(plan["minutes_included"], "min"),
                event_increment=quantity("1", "min"),
            ),
            unit="min",
            currency="USD",
        ),
        usage_price(
            f"{name}-sms",
            per_unit(plan["usd_per_message"], "sms", allowance=quantity(plan["messages_included"])),
            currency="USD",
        ),
        usage_price(
            f"{name}-data",
            per_unit(
                plan["usd_per_gb"],
                "data",
                allowance=quantity(str(gigabytes), "GB"),
                period_increment=quantity("1", "GB"),
            ),
            unit="GB",
            currency="USD",
        ),
    ]
    return an_offering(name, *refs(*(p.id for p in prices))), prices


MEGALINE_UNITS = {"voice": "min", "sms": "", "data": "MB"}


@pytest.mark.slow
def test_every_monthly_bill_of_megaline_to_the_cent(shared: Path) -> None:
    directory = shared / "data/megaline_usage"
    plans = {row["plan_name"]: megaline_plan(row) for row in rows(directory / "plans.csv")}
    usage: dict[tuple[str, str], list[UsageEvent]] = defaultdict(list)
    for usage_type, file, day, amount in (
        ("voice", "calls", "call_date", "duration"),
        ("sms", "messages", "message_date", None),
        ("data", "internet", "session_date", "mb_used"),
    ):
        for row in rows(directory / f"{file}.csv.gz"):
            used = Decimal(row[amount]) if amount else Decimal(1)
            usage[row["user_id"], row[day][:7]].append(
                UsageEvent(f"{usage_type} {row['id']}", usage_type, used, MEGALINE_UNITS[usage_type])
            )
    wrong = []
    bills = list(rows(directory / "expected_monthly_bill.csv"))
    total = Decimal(0)
    for bill in bills:
        offering, prices = plans[bill["plan"]]
        fee = price([Item("plan", offering.id)], compiled([offering], prices), PricingContext(at=NOW))
        rating = rated(prices[1:], usage.pop((bill["user_id"], bill["month"]), []))
        voice, sms, data = rating.charge
        found = {
            "calls": Fraction(voice.events),
            "minutes": voice.quantity,
            "messages": sms.quantity,
            "gb": data.quantity,
            "rev": Fraction(value(fee.total[0].amount) + sum(amounts(rating), Decimal(0))),
        }
        if any(found[name] != Fraction(bill[name]) for name in found):
            wrong.append((bill, found))
        total += sum(amounts(rating), value(fee.total[0].amount))
    assert not wrong
    # Whoever used something was billed.
    assert not usage
    assert total == sum(Decimal(bill["rev"]) for bill in bills)
    users = sum(1 for _ in rows(directory / "users.csv"))
    assert len(bills) >= (2_293 if users == 500 else 1)


# --- BigML: minutes × tariff = charges -------------------------------------------------------------------------------


def in_binary(minutes: str, tariff: str) -> Decimal:
    """How the file was made: a product of binary fractions, and half a cent added before the rest was cut off."""
    return Decimal(math.floor(float(minutes) * float(tariff) * 100 + 0.5)) / 100


@pytest.mark.slow
def test_charges_of_bigml_are_minutes_times_the_tariff(shared: Path) -> None:
    tariff = {"day": "0.17", "eve": "0.085", "night": "0.045", "intl": "0.27"}
    prices = [
        compile_price(usage_price(f"p-{kind}", per_unit(amount, kind), unit="min", currency="USD"))
        for kind, amount in tariff.items()
    ]
    wrong, count, below = [], 0, 0
    for file in sorted((shared / "data/churn_bigml").glob("*.csv")):
        for row in rows(file):
            events = [UsageEvent(kind, kind, Decimal(row[f"total_{kind}_minutes"]), "min") for kind in tariff]
            for charge in rate_usage(prices, events, zone="UTC").charge:
                kind = charge.price.model.usage_type
                minutes, stated = row[f"total_{kind}_minutes"], Decimal(row[f"total_{kind}_charge"])
                exact = Decimal(minutes) * Decimal(tariff[kind])
                found = value(charge.amount)
                count += 1
                # An exact half cent, which we round up, may lie below the half in binary: 34 do in the file we have.
                half_below = found - exact == Decimal("0.005") and stated == found - Decimal("0.01")
                below += half_below
                if in_binary(minutes, tariff[kind]) != stated or (found != stated and not half_below):
                    wrong.append((minutes, kind, found, stated))
    assert not wrong
    assert count >= 4 * 3_333
    assert below <= count / 300


# --- by which prices -------------------------------------------------------------------------------------------------


def metered(offerings: Sequence[ProductOffering], prices: Sequence[ProductOfferingPrice], **more: Any) -> UsageRating:
    """A hundred messages of the first offering, by the prices that count for it."""
    item = Item("", offerings[0].id, **more)
    plain, chosen = usage_prices(item, compiled(offerings, prices), PricingContext(at=NOW), NO_RULES)
    rating = rate_usage(plain, [UsageEvent("", "sms", Decimal(100))], zone="UTC", chosen=chosen)
    assert replay(rating.receipt) == rating
    return rating


def test_usage_is_charged_once() -> None:
    sms = usage_price("u", per_unit("1", "sms"))
    own, others = an_offering("x", *refs("u")), an_offering("y", *refs("u"))
    assert amounts(metered([an_offering("o", bundled_product_offering=parts(x=1)), own], [sms])) == [100]
    for bundled in ({"x": 1, "y": 1}, {"x": 2}):
        bundle = an_offering("o", bundled_product_offering=parts(**bundled))
        with pytest.raises(InvalidArgument) as refused:
            metered([bundle, own, others], [sms])
        assert refused.value.reason == "USAGE_NOT_PRICED"
    with pytest.raises(FailedPrecondition) as doubled:
        rated([sms, sms], [UsageEvent("", "sms", Decimal(100))])
    assert doubled.value.reason == "DUPLICATE_PRICE"


def test_usage_is_that_of_the_phase_that_the_product_is_in() -> None:
    month = Duration(amount=1, units="month")
    phases = (OfferingPhase(name="trial", duration=month), OfferingPhase(name="regular"))
    prices = [
        usage_price("trial", per_unit("1", "sms"), phase=("trial",)),
        usage_price("regular", per_unit("2", "sms"), phase=("regular",)),
    ]
    offering = an_offering("o", *refs("trial", "regular"), phase=phases)
    assert amounts(metered([offering], prices)) == [100]
    assert amounts(metered([offering], prices, started_at=datetime(2026, 1, 1, tzinfo=UTC))) == [200]


def test_what_a_bundle_takes_off_its_parts_it_takes_off_their_usage() -> None:
    def bundle(id: str, percentage: int, **bundled: int) -> ProductOffering:
        off = BundlePricing(mode=BundlePricingMode.DISCOUNT, percentage=Decimal(percentage))
        return an_offering(id, bundled_product_offering=parts(**bundled), bundle_pricing=off)

    things = [bundle("o", 10, inner=1), bundle("inner", 50, x=1), an_offering("x", *refs("u"))]
    sms = usage_price("u", per_unit("1", "sms"))
    item = Item("", "o", usage=(UsageQuantity("sms", Decimal(100)),))
    asked = price([item], compiled(things, [sms]), PricingContext(at=NOW))
    assert [total.amount.value for total in asked.total] == [45]
    assert amounts(metered(things, [sms])) == [45]


# --- the rules -------------------------------------------------------------------------------------------------------


def test_events_are_rounded_the_sum_is_rounded_the_allowance_comes_off_and_the_rest_is_priced() -> None:
    data = usage_price(
        "data",
        per_unit("10", "data", allowance=quantity("1.5", "GB"), period_increment=quantity("1", "GB")),
        unit="GB",
    )
    events = [UsageEvent("a", "data", Decimal("1024.5"), "MB"), UsageEvent("b", "data", Decimal("1"), "GB")]
    rating = rated([data], events)
    assert amounts(rating) == [Decimal("15.00")]
    assert actions(rating) == [
        ("data", "USAGE_SUMMED", None, "2.00048828125 GB", "2"),
        ("data", "PERIOD_ROUNDED", "2.00048828125 GB", "3 GB", None),
        ("data", "ALLOWANCE_USED", "3 GB", "1.5 GB", "1.5 GB"),
        ("data", "UNITS_CHARGED", "0 KGS", "15 KGS", "1.5 GB × 10"),
    ]
    charge = rating.charge[0]
    assert [charge.quantity, charge.free, charge.charged] == [3, Fraction("1.5"), Fraction("1.5")]
    assert [event.amount for event in rating.event] == [None, None]


def test_the_allowance_may_end_within_an_event() -> None:
    voice = usage_price(
        "voice",
        per_unit("2", "voice", allowance=quantity("3", "min"), event_increment=quantity("60", "s")),
        unit="min",
    )
    calls = [UsageEvent(name, "voice", Decimal(n), "s") for name, n in (("a", 61), ("b", 70), ("c", 1))]
    rating = rated([voice], calls)
    assert [e.quantity for e in rating.event] == [2, 2, 1]
    assert [e.free for e in rating.event] == [2, 1, 0]
    assert [e.amount for e in rating.event] == [0, 2, 2]
    assert actions(rating) == [
        ("a", "EVENT_ROUNDED", "61/60 min", "2 min", None),
        ("a", "ALLOWANCE_USED", "2 min", "0 min", "2 min"),
        ("b", "EVENT_ROUNDED", "7/6 min", "2 min", None),
        ("b", "ALLOWANCE_USED", "2 min", "1 min", "1 min"),
        ("b", "UNITS_CHARGED", "0 KGS", "2 KGS", "1 min × 2"),
        ("c", "EVENT_ROUNDED", "1/60 min", "1 min", None),
        ("c", "UNITS_CHARGED", "0 KGS", "2 KGS", "1 min × 2"),
    ]
    assert amounts(rating) == [Decimal("4.00")]


def percentage(rate: str, flat: str = "0", **more: Any) -> PricingModel:
    tier = PriceTier(percentage=Decimal(rate), flat_amount=Decimal(flat))
    return PricingModel(model_type=M.PERCENTAGE, tier=(tier,), usage_type="pay", **more)


def payments(*amounts: str) -> list[UsageEvent]:
    return [UsageEvent("", "pay", Decimal(amount), "KGS") for amount in amounts]


def test_a_percentage_is_of_each_event_with_a_fee_a_least_and_a_most() -> None:
    def event_amounts(model: PricingModel, *paid: str) -> list[Fraction | None]:
        return [event.amount for event in rated([usage_price("p", model)], payments(*paid)).event]

    assert event_amounts(percentage("2", "1"), "100", "0", "50") == [3, 0, 2]
    bounded = percentage("2", "1", event_minimum=Decimal("2.5"), event_maximum=Decimal(10))
    assert event_amounts(bounded, "10", "100", "1000") == [Fraction("2.5"), 3, 10]
    # The first three events or the first 500 of money, whichever ends sooner.
    free = percentage("1", "2", free_events=3, allowance=quantity("500"))
    assert event_amounts(free, "100", "300", "200", "100") == [0, 0, 3, 3]
    assert event_amounts(free, "10", "10", "10", "10") == [0, 0, 0, Fraction("2.1")]


def test_a_period_has_a_least_and_a_most_also_without_usage() -> None:
    bounded = usage_price(
        "p", per_unit("1", "sms", period_minimum=Decimal(20), period_maximum=Decimal(100)), tax=vat("12")
    )
    for count, net, gross in (("0", "20.00", "22.40"), ("50", "50.00", "56.00"), ("200", "100.00", "112.00")):
        rating = rated([bounded], [UsageEvent("", "sms", Decimal(count))] if count != "0" else [])
        assert (value(rating.charge[0].amount), value(rating.charge[0].tax_included_amount)) == (
            Decimal(net),
            Decimal(gross),
        )
    assert [a[1:] for a in actions(rating)][-2:] == [
        ("PERIOD_MAXIMUM_APPLIED", "200 KGS", "100 KGS", None),
        ("TAX_ADDED", "100.00 KGS", "112.00 KGS", "12 %"),
    ]


def test_amounts_with_tax_stay_to_the_cent() -> None:
    gross = usage_price("p", per_unit("0.333", "sms"), tax=vat("12"), tax_included=True)
    charge = rated([gross], [UsageEvent("", "sms", Decimal(10))]).charge[0]
    assert (value(charge.amount), value(charge.tax_included_amount)) == (Decimal("2.97"), Decimal("3.33"))


def test_the_tax_of_a_period_in_several_calls_is_that_of_the_period() -> None:
    for price_ in (
        usage_price("p", per_unit("0.04", "sms"), tax=vat("12")),
        usage_price("p", per_unit("0.04", "sms"), tax=vat("12"), tax_included=True),
    ):
        messages = [UsageEvent("", "sms", Decimal(1))] * 100
        whole = rated([price_], messages).charge[0]
        net = gross = Decimal(0)
        state: dict[str, PeriodState] = {}
        for message in messages:
            charge = rated([price_], [message], before=state).charge[0]
            net, gross = net + value(charge.amount), gross + value(charge.tax_included_amount)
            state = {"p": charge.state}
        assert (net, gross) == (value(whole.amount), value(whole.tax_included_amount))


@pytest.mark.parametrize(
    "model",
    [
        per_unit("1", "pay", free_events=10),
        per_unit("1", "pay", event_minimum=Decimal(2)),
        per_unit("1", "pay", event_maximum=Decimal(2)),
        per_unit("1", "pay", event_increment=quantity("10")),
        percentage("1", "2"),
        PricingModel(model_type=M.RATED, usage_type="pay", rate=(UsageRate(step=(RateStep(amount=Decimal(1)),)),)),
    ],
)
def test_the_sum_of_what_is_rated_by_event_has_no_price(model: PricingModel) -> None:
    sold = usage_price("p", model)
    with pytest.raises(InvalidArgument) as refused:
        period_amount(parse_price(compile_price(sold)).model, Decimal(100), "", "KGS")
    assert refused.value.reason == "USAGE_NOT_PRICED"
    item = Item("1", "o", usage=(UsageQuantity("pay", Decimal(100)),))
    with pytest.raises(InvalidArgument) as refused:
        price([item], compiled([an_offering("o", *refs("p"))], [sold]), PricingContext(at=NOW))
    assert refused.value.reason == "USAGE_NOT_PRICED"
    assert [violation.field for violation in refused.value.violations] == ["item[0].usage[0].usage_type"]


def test_terms_of_usage_need_a_usage_type() -> None:
    # By quantity it would be charged without its minimum.
    model = replace(per_unit("1", "sms", period_minimum=Decimal(100)), usage_type=None)
    with pytest.raises(FailedPrecondition) as refused:
        a_price("p", "1 KGS", pricing_model=model).check(NOW)
    assert [violation.field for violation in refused.value.violations] == ["pricing_model.period_minimum"]


def test_fractions_are_rounded_once_and_exactly() -> None:
    # A third of a minute at 0.015 is exactly half a cent; as a decimal of any length it would be less.
    third = usage_price("p", per_unit("0.015", "voice"), unit="min")
    assert amounts(rated([third], [UsageEvent("", "voice", Decimal(20), "s")])) == [Decimal("0.01")]
    cent = [UsageEvent("", "voice", Decimal(4), "s")] * 100
    assert amounts(rated([third], cent)) == [Decimal("0.10")]


def rated_voice(**more: Any) -> ProductOfferingPrice:
    night = TimeBand(start="22:00", end="07:00")
    step = RateStep(amount=Decimal(3), per=Decimal(60), increment=Decimal(60))
    return usage_price(
        "voice",
        PricingModel(
            model_type=M.RATED,
            usage_type="voice",
            rate=(
                UsageRate(prefix=("996",), time_band=(night,), step=(replace(step, amount=Decimal(1)),)),
                UsageRate(prefix=("996",), step=(step,), connect_fee=Decimal("0.5"), destination="Kyrgyzstan"),
            ),
            **more,
        ),
    )


def test_calls_are_rated_by_destination_and_hour_after_the_allowance() -> None:
    calls = [
        UsageEvent("day", "voice", Decimal(61), "s", MARCH, "+996555000000"),
        UsageEvent("night", "voice", Decimal(2), "min", MARCH.replace(hour=17), "+996555000000"),
    ]
    rating = rated([rated_voice()], calls, zone="Asia/Bishkek")
    assert [(e.amount, e.destination) for e in rating.event] == [(Fraction("6.5"), "Kyrgyzstan"), (2, "996")]
    free = rated([rated_voice(allowance=quantity("2", "min"))], calls, zone="Asia/Bishkek")
    assert [e.free for e in free.event] == [61, 59]
    assert [e.amount for e in free.event] == [0, 2]


def test_nothing_is_dropped_silently() -> None:
    sms = usage_price("sms", per_unit("1", "sms"))
    data = usage_price("data", per_unit("1", "data"), unit="MB")

    def refusal(prices: Sequence[ProductOfferingPrice], *events: UsageEvent, **more: Any) -> tuple[str, list[str]]:
        with pytest.raises(InvalidArgument) as refused:
            rated(prices, events, **more)
        return refused.value.reason, [violation.field for violation in refused.value.violations]

    one = UsageEvent("1", "sms", Decimal(1))
    mms = UsageEvent("2", "mms", Decimal(1))
    assert refusal([sms], one, mms) == ("UNKNOWN_USAGE_TYPE", ["event[1].usage_type"])
    assert refusal([sms], one, one) == ("DUPLICATE_EVENT", ["event[1].id"])
    assert refusal([sms], UsageEvent("", "sms", Decimal(-1))) == ("INVALID_QUANTITY", ["event[0].amount"])
    assert refusal([sms], UsageEvent("", "sms", Decimal("NaN"))) == ("INVALID_QUANTITY", ["event[0].amount"])
    assert refusal([sms], one, zone="Asia/Frunze2") == ("UNKNOWN_ZONE", ["zone"])
    assert refusal([sms], one, zone="") == ("UNKNOWN_ZONE", ["zone"])
    assert refusal([data], UsageEvent("d", "data", Decimal(1), "min")) == ("INCOMPATIBLE_UNITS", ["d.units"])
    assert refusal([], one) == ("NO_USAGE_PRICE", [])
    assert refusal([rated_voice()], UsageEvent("v", "voice", Decimal(1), "s")) == ("EVENT_TIME_MISSING", ["v.at"])


def test_every_price_of_a_usage_type_applies() -> None:
    both = [usage_price("a", per_unit("1", "sms")), usage_price("b", per_unit("2", "sms"))]
    assert amounts(rated(both, [UsageEvent("", "sms", Decimal(3))])) == [Decimal("3.00"), Decimal("6.00")]


def test_a_sum_alone_comes_to_what_one_event_does() -> None:
    price_ = compile_price(usage_price("p", per_unit("0.5", "voice", allowance=quantity("10", "min")), unit="min"))
    exact, steps = period_amount(parse_price(price_).model, Decimal(930), "s", "KGS")
    assert exact == Fraction("2.75")
    assert [step.action for step in steps] == ["ALLOWANCE_USED", "UNITS_CHARGED"]


# --- properties ------------------------------------------------------------------------------------------------------


@st.composite
def models(draw: st.DrawFn) -> PricingModel:
    """A model of any kind, with allowances, increments and bounds as they may be combined."""
    kind = draw(st.sampled_from([M.PER_UNIT, M.PACKAGE, M.GRADUATED]))
    amount = st.integers(0, 5_000).map(lambda n: Decimal(n).scaleb(-3))
    optional = st.none() | st.integers(1, 500).map(lambda n: quantity(str(n), "s"))
    bounds = [Decimal(7), None] if kind is M.GRADUATED else [None]
    low = draw(st.none() | amount)
    return PricingModel(
        model_type=kind,
        tier=tuple(PriceTier(up_to=bound, unit_amount=draw(amount)) for bound in bounds),
        package_size=Decimal(3) if kind is M.PACKAGE else None,
        usage_type="voice",
        allowance=draw(optional),
        event_increment=draw(optional),
        period_increment=draw(optional) if kind is not M.PER_UNIT else None,
        period_minimum=low,
        period_maximum=draw(st.none() | amount.map(lambda n: n + (low or 0))),
    )


CALLS = st.lists(st.integers(0, 5_000), max_size=8)


def calls_of(seconds: Sequence[int], first: int = 0) -> list[UsageEvent]:
    return [UsageEvent(str(first + i), "voice", Decimal(n), "s") for i, n in enumerate(seconds)]


@settings(deadline=None)
@given(models(), CALLS, CALLS)
def test_a_period_that_is_rated_in_two_calls_comes_to_the_whole(
    model: PricingModel, one: list[int], other: list[int]
) -> None:
    prices = [usage_price("p", model, unit="min")]
    whole = rated(prices, calls_of(one + other)).charge[0]
    first = rated(prices, calls_of(one)).charge[0]
    second = rated(prices, calls_of(other, len(one)), before={"p": first.state}).charge[0]
    assert value(first.amount) + value(second.amount) == value(whole.amount)
    assert second.state == whole.state
    assert (second.quantity, second.free, second.charged) == (whole.quantity, whole.free, whole.charged)


@settings(deadline=None)
@given(models(), CALLS, st.integers(0, 5_000))
def test_another_call_never_makes_a_period_cheaper(model: PricingModel, calls: list[int], more: int) -> None:
    prices = [usage_price("p", model, unit="min")]
    assert amounts(rated(prices, calls_of(calls))) <= amounts(rated(prices, calls_of([*calls, more])))


@settings(deadline=None)
@given(models(), CALLS)
def test_a_replay_gives_the_same_answer(model: PricingModel, calls: list[int]) -> None:
    rating = rated([usage_price("p", model, unit="min")], calls_of(calls), holidays=[date(2026, 3, 8)])
    assert replay(rating.receipt) == rating
    assert json.loads(rating.receipt.inputs.text)["zone"] == "UTC"


def test_a_replay_goes_on_from_the_same_state_and_refuses_other_engines() -> None:
    prices = [usage_price("p", per_unit("0.07", "voice", allowance=quantity("1", "h")), unit="min")]
    state = PeriodState(Fraction(175, 3), 4, Fraction(175, 3), Fraction(0))
    rating = rated(prices, calls_of([500]), before={"p": state})
    assert replay(rating.receipt) == rating
    assert value(rating.charge[0].amount) == rounded(
        Fraction("0.07") * (Fraction(175, 3) + Fraction(25, 3) - 60), "KGS"
    )
    with pytest.raises(InvalidArgument) as refusal:
        replay(Receipt("catalog.pricing", "1", Json("{}"), ()))
    assert refusal.value.reason == "UNKNOWN_ENGINE"


@pytest.mark.parametrize("inputs", ["{}", "{", "[]", "null"])
def test_inputs_that_no_engine_wrote_are_malformed(inputs: str) -> None:
    for engine, revision, again in (
        (pricing.ENGINE, pricing.REVISION, pricing.replay),
        (proration.ENGINE, proration.REVISION, proration.replay),
        ("catalog.usage", "1", replay),
    ):
        with pytest.raises(InvalidArgument) as refused:
            again(Receipt(engine, revision, Json(inputs), ()))
        assert refused.value.reason == "MALFORMED_RECEIPT"
