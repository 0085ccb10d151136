"""Rating plans as CGRateS states them, in our rates; the figures are calculated by hand.

Terms (https://cgrates.readthedocs.io, "Rating logic", "Tariff plans"): a rate has slots (GroupIntervalStart), each with
a Rate for every RateUnit, charged in whole RateIncrements; a timing has years, months, month days, week days and a
start, and holds until a later one of the same days begins; a call is cut where timings or slots change, and its
increments go on from there. Cost = ConnectFee + Σ increments × RateIncrement / RateUnit × Rate; a call of no duration
costs nothing. MaxCostStrategy *free: GetCost caps the cost, a debit charges the increment that reaches MaxCost whole
and those after it nothing; *disconnect: it ends the call there. Sources of the first figures: cgrates/cgrates
engine/calldesc.go, engine/callcost_test.go, engine/calldesc_test.go (the tariff of engine/loader_csv_test.go).
"""

from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from catalog.pricing.rating import Calendar, RatedEvent, Rates, compile_rates, parse_rates, rate_event
from catalog.product.pricing_models import contradictions
from catalog.product.values import (
    PricingModel,
    PricingModelType,
    RateMaximumStrategy,
    RateStep,
    RoundingMethod,
    TimeBand,
    UsageRate,
)
from chassis.errors import InvalidArgument

UTC, KYIV = ZoneInfo("UTC"), ZoneInfo("Europe/Kyiv")
WORKDAYS, WEEKEND = ("mon", "tue", "wed", "thu", "fri"), ("sat", "sun")

# (GroupIntervalStart, Rate, RateUnit, RateIncrement), durations in seconds.
Slot = tuple[str, str, str, str]


def a_rate(
    *slots: Slot, fee: str = "0", prefix: tuple[str, ...] = (), most: str | None = None, **more: Any
) -> UsageRate:
    return UsageRate(
        prefix=prefix,
        connect_fee=Decimal(fee),
        maximum=None if most is None else Decimal(most),
        step=tuple(
            RateStep(start=Decimal(start), amount=Decimal(rate), per=Decimal(unit), increment=Decimal(increment))
            for start, rate, unit, increment in slots
        ),
        **more,
    )


def from_(start: str, *days: str, **more: Any) -> tuple[TimeBand, ...]:
    return (TimeBand(day=days, start=start, **more),)


def plan(*rates: UsageRate) -> Rates:
    """The rates of a plan, the later timing first: of those that fit the first counts."""
    model = PricingModel(model_type=PricingModelType.RATED, usage_type="voice", rate=rates)
    assert not list(contradictions(model, "model"))
    return parse_rates(compile_rates(rates))


def call(rates: Rates, start: str, seconds: float | str, to: str = "0256", zone: ZoneInfo = UTC) -> RatedEvent:
    return rate_event(
        rates,
        subject="call",
        rule="p",
        currency="USD",
        destination=to,
        at=datetime.fromisoformat(start).replace(tzinfo=zone),
        units=Fraction(seconds),
        free=Fraction(0),
        unit_seconds=Fraction(1),
        where=Calendar(zone),
    )


PEAK = [("0", "1", "1", "1")]
OFF_PEAK = [("0", "0.5", "1", "1")]
EVENING = plan(
    a_rate(*OFF_PEAK, time_band=from_("18:00", *WORKDAYS)),
    a_rate(*OFF_PEAK, time_band=from_("00:00", *WEEKEND)),
    a_rate(*PEAK, fee="1", time_band=from_("00:00", *WORKDAYS)),
)
LANDLINE = plan(a_rate(("0", "1", "1", "60"), ("60", "1", "1", "1")))
TUTORIAL = plan(a_rate(("0", "0.1", "60", "60"), ("60", "0.05", "60", "1"), fee="0.2"))


@pytest.mark.parametrize(
    ("rates", "start", "seconds", "cost"),
    [
        # callcost_test.go: a peak minute, 1 + 60 × 1, and again for the next call.
        (EVENING, "2012-02-02T17:00", 60, "61"),
        # calldesc_test.go: half an hour of peak, half an hour after six: 1 + 1,800 × 1 + 1,800 × 0.5.
        (EVENING, "2012-02-02T17:30", 3600, "2701"),
        # The other way, Sunday to Monday: an hour of each, and no connect fee of the rate that it goes over to.
        (EVENING, "2012-02-05T23:00", 7200, "5400"),
        # calldesc_test.go, the landline's slots: a first minute whole, then each second.
        (LANDLINE, "2013-10-08T09:23:02", 132, "132"),
        (LANDLINE, "2013-10-08T09:23:02", 1, "60"),
        (LANDLINE, "2013-10-08T09:23:02", "60.5", "61"),
        # Tutorial, 85 s: 0.2 + 0.1 + 25 × 0.05 / 60 = 0.3 + 1/48.
        (TUTORIAL, "2014-08-04T13:00", 85, "77/240"),
        (TUTORIAL, "2014-08-04T13:00", 60, "0.3"),
        (TUTORIAL, "2014-08-04T13:00", 0, "0"),
    ],
)
def test_calls_of_the_source(rates: Rates, start: str, seconds: float | str, cost: str) -> None:
    assert call(rates, start, seconds).amount == Fraction(cost)


def test_a_source_that_rounds_each_increment_is_near() -> None:
    # It rounds each second to 0.00083, and says 0.12075 without the connect fee.
    assert abs(call(TUTORIAL, "2014-08-04T13:00", 85).amount - Fraction("0.32075")) < Fraction("0.0001")


def test_the_same_call_by_the_rate_of_its_beginning() -> None:
    # From 17:30 to 18:30: 1 + 3,600 × 1, where 2,701 is the cost of the call that is cut at six.
    by_start = plan(
        a_rate(*OFF_PEAK, time_band=from_("18:00", *WORKDAYS), rated_by_start=True),
        a_rate(*PEAK, fee="1", time_band=from_("00:00", *WORKDAYS), rated_by_start=True),
    )
    assert call(by_start, "2012-02-02T17:30", 3600).amount == 3601
    assert call(by_start, "2012-02-02T18:00", 60).amount == 30


def test_an_increment_that_begins_before_a_border_is_charged_whole_by_its_rate() -> None:
    minutes = plan(
        a_rate(("0", "0.1", "60", "60"), time_band=from_("18:00")),
        a_rate(("0", "0.3", "60", "60"), time_band=from_("00:00")),
    )
    # From 17:59:30: a minute of 0.3 up to 18:00:30, then minutes of 0.1.
    assert call(minutes, "2026-03-02T17:59:30", 30).amount == Fraction("0.3")
    assert call(minutes, "2026-03-02T17:59:30", 61).amount == Fraction("0.4")
    assert call(minutes, "2026-03-02T17:59:30", 181).amount == Fraction("0.6")


def test_slots_go_on_over_a_border() -> None:
    # The second slot's price is reached by how long the call has lasted, whatever the hour: 60 s at 1, 60 at 0.5 …
    rates = plan(
        a_rate(("0", "0.2", "1", "1"), ("120", "0.1", "1", "1"), time_band=from_("18:00")),
        a_rate(("0", "1", "1", "1"), ("120", "0.5", "1", "1"), time_band=from_("00:00")),
    )
    # 60 s before six, 60 s of the evening's first slot, 60 s of its second.
    assert call(rates, "2026-03-02T17:59", 180).amount == 60 + 12 + 6


def retail(fee: str, *slots: Slot, **more: Any) -> UsageRate:
    return a_rate(*slots, fee=fee, prefix=("10",), **more)


# Like the plans of CGRateS' data/tariffplans/tutorial: by day, by night and on weekends, and two prefixes that end at
# 0.12, capped or disconnected.
BY_DAY = (("0", "0.4", "60", "30"), ("60", "0.2", "60", "10"))
BY_NIGHT = (("0", "0.1", "60", "60"), ("60", "0.05", "60", "1"))
CENT = ("0", "0.01", "1", "1")
RETAIL = plan(
    retail("0.2", *BY_NIGHT, time_band=from_("19:00", *WORKDAYS)),
    retail("0.8", *BY_DAY, time_band=from_("08:00", *WORKDAYS)),
    retail("0.2", *BY_NIGHT, time_band=from_("00:00", *WORKDAYS)),
    retail("0.2", *BY_NIGHT, time_band=from_("00:00", *WEEKEND)),
    a_rate(CENT, prefix=("1003",), most="0.12"),
    a_rate(CENT, prefix=("1007",), most="0.12", maximum_strategy=RateMaximumStrategy.DISCONNECT),
)


@pytest.mark.parametrize(
    ("start", "seconds", "to", "cost"),
    [
        # Monday by day: 0.8 to connect, 0.2 for each half of the first minute, then 0.2 / 6 for each ten seconds.
        ("2014-08-04T10:00", 1, "1001", "1"),
        ("2014-08-04T10:00", 30, "1001", "1"),
        ("2014-08-04T10:00", 31, "1001", "1.2"),
        ("2014-08-04T10:00", 61, "1001", "37/30"),
        ("2014-08-04T10:00", 80, "1001", "19/15"),
        # By night and on Saturday: 0.2 + 0.1 for the first minute, then 0.05 / 60 for each second.
        ("2014-08-04T19:00", 60, "1001", "0.3"),
        ("2014-08-04T07:00", 90, "1001", "0.325"),
        ("2014-08-09T10:00", 90, "1001", "0.325"),
        # Into the day: the minute that is begun by night whole, then four times ten seconds by day.
        ("2014-08-04T07:59:30", 60, "1001", "0.3"),
        ("2014-08-04T07:59:30", 95, "1001", "13/30"),
        # Into the night: half a minute by day up to 19:00:10, then a first minute of the night, whole.
        ("2014-08-04T18:59:40", 90, "1001", "1.1"),
        # From Friday by night to Saturday nothing changes: 0.3 + 3,540 × 0.05 / 60.
        ("2014-08-08T23:30", 3600, "1001", "3.25"),
        # The longer prefixes, at any hour, up to their maximum.
        ("2014-08-04T10:00", 11, "1003", "0.11"),
        ("2014-08-04T10:00", 50, "1003", "0.12"),
        ("2014-08-09T23:59:55", 50, "1007", "0.12"),
    ],
)
def test_a_plan_by_day_and_by_night(start: str, seconds: int, to: str, cost: str) -> None:
    rated = call(RETAIL, start, seconds, to)
    assert rated.amount == Fraction(cost)
    assert rated.disconnected_after == (12 if to == "1007" else None)


# --- destinations ----------------------------------------------------------------------------------------------------

DESTINATIONS = plan(
    a_rate(("0", "0.2", "60", "1"), prefix=("49",), destination="Germany"),
    a_rate(("0", "0.1", "60", "1"), prefix=("4917", "4918"), destination="Germany O2"),
    a_rate(("0", "0.012", "1", "1"), prefix=("43720", "43810"), destination="Austria premium"),
    a_rate(("0", "0.00000001", "1", "1"), prefix=("7",), destination="Russia"),
)


@pytest.mark.parametrize(
    ("to", "seconds", "cost", "destination"),
    [
        ("+4986517174963", 120, "0.4", "Germany"),
        ("+4917621621391", 120, "0.2", "Germany O2"),
        ("4918", 60, "0.1", "Germany O2"),
        ("491", 60, "0.2", "Germany"),
        ("43810999", 10, "0.12", "Austria premium"),
        ("79161234567", 3, "0.00000003", "Russia"),
    ],
)
def test_the_longest_of_several_prefixes(to: str, seconds: int, cost: str, destination: str) -> None:
    rated = call(DESTINATIONS, "2026-03-02T10:00", seconds, to)
    assert (rated.amount, rated.destination) == (Fraction(cost), destination)


@pytest.mark.parametrize("to", ["", "4", "33123456789", "anonymous"])
def test_a_destination_without_a_rate_is_refused(to: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        call(DESTINATIONS, "2026-03-02T10:00", 60, to)
    assert (refusal.value.reason, refusal.value.violations[0].field) == ("NO_RATE", "call.destination")


# --- maximum ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "seconds", "cost", "charged", "ends"),
    [
        # 0.4 a minute and 0.2 to connect: 0.2 + 2 × 0.4 is 1.0, the third minute reaches the maximum of 1.2.
        (None, 120, "1.0", 120, None),
        (None, 180, "1.2", 180, None),
        (None, 600, "1.2", 600, None),
        (RateMaximumStrategy.CAP, 600, "1.2", 600, None),
        (RateMaximumStrategy.WHOLE_INCREMENT, 120, "1.0", 120, None),
        (RateMaximumStrategy.WHOLE_INCREMENT, 180, "1.4", 180, None),
        (RateMaximumStrategy.WHOLE_INCREMENT, 600, "1.4", 180, None),
        (RateMaximumStrategy.DISCONNECT, 180, "1.4", 180, None),
        (RateMaximumStrategy.DISCONNECT, 600, "1.4", 180, 180),
    ],
)
def test_what_follows_the_maximum(
    strategy: RateMaximumStrategy | None, seconds: int, cost: str, charged: int, ends: int | None
) -> None:
    rates = plan(a_rate(("0", "0.4", "60", "60"), fee="0.2", most="1.2", maximum_strategy=strategy))
    rated = call(rates, "2026-03-02T10:00", seconds)
    assert (rated.amount, rated.charged) == (Fraction(cost), Fraction(charged))
    assert rated.disconnected_after == ends


def test_what_is_free_after_the_maximum_is_charged_again_by_another_rate() -> None:
    # Ten minutes from 17:55: the maximum of 2 holds until six, then 0.1 a minute.
    rates = plan(
        a_rate(("0", "0.1", "60", "60"), time_band=from_("18:00")),
        a_rate(
            ("0", "1", "60", "60"),
            most="2",
            maximum_strategy=RateMaximumStrategy.WHOLE_INCREMENT,
            time_band=from_("00:00"),
        ),
    )
    assert call(rates, "2026-03-02T17:55", 600).amount == 2 + Fraction("0.5")


# --- rounding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "decimals", "cost"),
    [
        (None, None, "5/144"),
        (RoundingMethod.UP, 4, "0.0348"),
        (RoundingMethod.DOWN, 4, "0.0347"),
        (RoundingMethod.MIDDLE, 4, "0.0347"),
        (RoundingMethod.MIDDLE, 2, "0.03"),
        (RoundingMethod.UP, 0, "1"),
        (RoundingMethod.UP, None, "1"),
    ],
)
def test_how_a_stretch_is_rounded(method: RoundingMethod | None, decimals: int | None, cost: str) -> None:
    # 25 s of 0.05 for 36 s are 0.034722…
    rates = plan(a_rate(("0", "0.05", "36", "1"), rounding_method=method, rounding_decimals=decimals))
    assert call(rates, "2026-03-02T10:00", 25).amount == Fraction(cost)


def test_half_is_rounded_away_from_zero_and_each_slot_by_itself() -> None:
    rates = plan(
        a_rate(
            ("0", "0.005", "60", "60"),
            ("60", "0.005", "60", "60"),
            rounding_method=RoundingMethod.MIDDLE,
            rounding_decimals=2,
        )
    )
    assert call(rates, "2026-03-02T10:00", 60).amount == Fraction("0.01")
    # 0.005 and 0.005, each 0.01.
    assert call(rates, "2026-03-02T10:00", 120).amount == Fraction("0.02")


# --- timings ---------------------------------------------------------------------------------------------------------

CALENDAR = plan(
    a_rate(("0", "9", "1", "1"), time_band=from_("00:00", month_day=(31,), month=(12,), year=(2026,))),
    a_rate(("0", "5", "1", "1"), time_band=from_("00:00", month_day=(1, 15))),
    a_rate(("0", "3", "1", "1"), time_band=from_("00:00", *WEEKEND, month=(1, 2))),
    a_rate(("0", "1", "1", "1")),
)


@pytest.mark.parametrize(
    ("day", "cost"),
    [
        ("2026-12-31", 9),
        ("2025-12-31", 1),
        ("2026-03-01", 5),
        ("2026-03-15", 5),
        ("2026-03-16", 1),
        # A Saturday of January, of February, of March; the first of a month comes first.
        ("2026-01-03", 3),
        ("2026-02-28", 3),
        ("2026-03-07", 1),
        ("2026-02-01", 5),
    ],
)
def test_month_days_months_and_years(day: str, cost: int) -> None:
    assert call(CALENDAR, f"{day}T12:00", 1).amount == cost


def test_a_call_over_new_year() -> None:
    # 30 s of the 31st of December at 9, then the 1st of January at 5.
    assert call(CALENDAR, "2026-12-31T23:59:30", 60).amount == 30 * 9 + 30 * 5


def test_a_call_of_days_finds_the_day_that_it_is_for() -> None:
    # From the 29th of March to the 2nd of April, 12:00 to 12:00: the 1st costs 5 a second.
    seconds = 4 * 86_400
    assert call(CALENDAR, "2026-03-29T12:00", seconds).amount == seconds + 4 * 86_400


def test_hours_of_a_zone_whose_clock_goes_forward() -> None:
    # On the 29th of March 2026 the clock of Kyiv goes from 03:00 to 04:00: two hours from 02:00 end at 05:00.
    rates = plan(
        a_rate(("0", "0.1", "60", "60"), time_band=from_("04:00")),
        a_rate(("0", "1", "60", "60"), time_band=from_("00:00")),
    )
    assert call(rates, "2026-03-29T02:00", 7200, zone=KYIV).amount == 60 + 6
    assert call(rates, "2026-03-28T02:00", 7200, zone=KYIV).amount == 120


@pytest.mark.parametrize(
    ("rate", "field"),
    [
        (a_rate(*PEAK, maximum_strategy=RateMaximumStrategy.WHOLE_INCREMENT), "rate[0].maximum_strategy"),
        (a_rate(*PEAK, rounding_decimals=2), "rate[0].rounding_method"),
        (a_rate(*PEAK, rounding_method=RoundingMethod.UP, rounding_decimals=-1), "rate[0].rounding_decimals"),
        (a_rate(*PEAK, time_band=from_("00:00", month_day=(0,))), "rate[0].time_band[0].month_day[0]"),
        (a_rate(*PEAK, time_band=from_("00:00", month=(1, 13))), "rate[0].time_band[0].month[1]"),
        (a_rate(*PEAK, time_band=from_("00:00", year=(0,))), "rate[0].time_band[0].year[0]"),
    ],
)
def test_what_no_rate_can_be_is_named(rate: UsageRate, field: str) -> None:
    model = PricingModel(model_type=PricingModelType.RATED, usage_type="voice", rate=(rate,))
    assert [wrong.field for wrong in contradictions(model, "model")] == [f"model.{field}"]


def test_rates_that_state_nothing_new_are_written_as_they_were() -> None:
    (data,) = compile_rates([a_rate(*PEAK, time_band=from_("00:00"))])
    assert set(data) == {"prefixes", "destination", "bands", "connect_fee", "steps", "maximum", "rated_by_start"}
    assert set(data["bands"][0]) == {"days", "start", "end"}
