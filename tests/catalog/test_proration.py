"""Billing periods and their parts: others' cases, what holds of every calendar, and changes within a period."""

import itertools
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.pricing.money import rounded
from catalog.pricing.offers import charge_period
from catalog.pricing.proration import (
    Asked,
    BillingMode,
    Change,
    Cycle,
    Part,
    changed,
    cycle,
    cycles,
    first_billing_date,
    local_date,
    parts,
    prorate,
    prorated,
    replay,
)
from chassis.errors import InvalidArgument

MONTH, QUARTER, YEAR = Cycle(1, monthly=True), Cycle(3, monthly=True), Cycle(12, monthly=True)


def day(text: str) -> date:
    return date.fromisoformat(text)


MODES = {
    "in_advance": BillingMode.IN_ADVANCE,
    "in_arrears": BillingMode.IN_ARREARS,
    "in_arrear": BillingMode.IN_ARREARS,
}


def test_prorations_of_kill_bill(shared: Path) -> None:
    cases = json.loads((shared / "data/pricing_vectors/proration_killbill.json").read_text())["cases"]
    assert len(cases) >= 56
    wrong = []
    for case in cases:
        found = cycles(
            parts(
                cycle(charge_period(case["billing_period"], None)),
                day(case["start"]),
                day(case["end"]) if case["end"] else None,
                day(case["target"]),
                case["billing_day"],
                MODES[case["mode"]],
            )
        )
        nine_decimals = round(Decimal(found.numerator) / found.denominator, 9)
        if found != Fraction(case["expect_fraction"]) or nine_decimals != round(Decimal(str(case["expect_cycles"])), 9):
            wrong.append(f"{case['id']}: {found} instead of {case['expect_fraction']}")
    assert not wrong


def spans(found: list[Part]) -> list[tuple[str, str, str]]:
    return [(part.start.isoformat(), part.end.isoformat(), str(part.fraction)) for part in found]


def test_a_leading_part_a_whole_and_a_trailing_part() -> None:
    assert spans(parts(MONTH, day("2011-01-01"), day("2011-02-27"), day("2011-12-31"), 15)) == [
        ("2011-01-01", "2011-01-15", "14/31"),
        ("2011-01-15", "2011-02-15", "1"),
        ("2011-02-15", "2011-02-27", "3/7"),
    ]


def test_in_arrears_a_period_is_billed_once_it_has_ended() -> None:
    def billed(target: str) -> list[tuple[str, str, str]]:
        found = parts(MONTH, day("2011-01-01"), day("2011-02-27"), day(target), 15, BillingMode.IN_ARREARS)
        return spans(found)

    assert billed("2011-01-14") == []
    assert billed("2011-01-15") == [("2011-01-01", "2011-01-15", "14/31")]
    assert len(billed("2011-02-26")) == 2
    assert len(billed("2011-02-27")) == 3


def test_the_billing_day_returns_after_a_month_that_is_too_short() -> None:
    found = parts(MONTH, day("2012-01-31"), None, day("2012-05-01"), 31)
    assert [part.start for part in found] == [day(f"2012-{text}") for text in ("01-31", "02-29", "03-31", "04-30")]
    assert [part.fraction for part in found] == [1] * 4


def test_longer_periods_begin_in_the_month_of_the_start_or_a_whole_period_later() -> None:
    assert first_billing_date(QUARTER, day("2011-02-15"), 20) == day("2011-02-20")
    assert first_billing_date(QUARTER, day("2011-02-15"), 10) == day("2011-05-10")
    assert spans(parts(QUARTER, day("2011-02-15"), None, day("2011-02-15"), 20)) == [
        ("2011-02-15", "2011-02-20", "5/92")
    ]
    assert first_billing_date(YEAR, day("2012-02-29"), 28) == day("2013-02-28")
    assert spans(parts(YEAR, day("2012-02-29"), day("2016-02-29"), day("2016-12-31"), 29))[-1] == (
        "2015-02-28",
        "2016-02-29",
        "1",
    )


def test_days_and_weeks_are_counted_from_the_start() -> None:
    assert cycle("2 week") == Cycle(14, monthly=False)
    assert spans(parts(cycle("week"), day("2026-03-04"), day("2026-03-14"), day("2026-03-31"))) == [
        ("2026-03-04", "2026-03-11", "1"),
        ("2026-03-11", "2026-03-14", "3/7"),
    ]


@pytest.mark.parametrize(
    ("spelling", "regular"),
    [
        ("monthly", "month"),
        ("QUARTERLY", "3 month"),
        ("annual", "year"),
        ("biannual", "6 month"),
        ("BIENNIAL", "2 year"),
        ("THIRTY_DAYS", "30 day"),
        ("bimestrial", "2 month"),
        ("biweekly", "2 week"),
        ("triannual", "4 month"),
        ("daily", "day"),
    ],
)
def test_the_spellings_of_periods(spelling: str, regular: str) -> None:
    assert charge_period(spelling, None) == regular
    cycle(regular)


def test_what_is_refused() -> None:
    for refused, reason in (
        (lambda: cycle("fortnight"), "UNKNOWN_PERIOD"),
        (lambda: cycle("0 month"), "UNKNOWN_PERIOD"),
        (lambda: first_billing_date(MONTH, day("2026-01-01"), 32), "INVALID_BILLING_DAY"),
        (lambda: first_billing_date(MONTH, day("2026-01-01"), None), "INVALID_BILLING_DAY"),
        (lambda: parts(MONTH, day("2026-01-02"), day("2026-01-01"), day("2026-02-01"), 1), "PERIOD_REVERSED"),
        (lambda: parts(cycle("day"), day("1990-01-01"), None, day("2026-02-01")), "TOO_MANY_PERIODS"),
        (
            lambda: changed(
                Part(day("2026-01-01"), day("2026-02-01"), 31), day("2026-02-02"), Decimal(1), Decimal(1), "KGS"
            ),
            "OUTSIDE_PERIOD",
        ),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            refused()
        assert refusal.value.reason == reason


def test_the_date_is_that_of_the_accounts_zone() -> None:
    late = datetime(2026, 1, 31, 20, tzinfo=UTC)
    assert local_date(late, "Asia/Bishkek") == day("2026-02-01")
    assert local_date(late, "Europe/Kyiv") == day("2026-01-31")


def test_a_change_credits_what_is_left_and_charges_it_anew() -> None:
    whole = Part(day("2026-04-01"), day("2026-05-01"), 30)
    change = changed(whole, day("2026-04-11"), Decimal("300.00"), Decimal("450.00"), "KGS")
    assert (change.fraction, change.used, change.credit, change.charge) == (
        Fraction(2, 3),
        Decimal("100.00"),
        Decimal("200.00"),
        Decimal("300.00"),
    )
    leading = Part(day("2026-04-01"), day("2026-04-11"), 31)
    billed = prorated(Decimal(310), leading.fraction, "KGS")
    assert changed(leading, day("2026-04-06"), billed, Decimal(310), "KGS").credit == Decimal("50.00")


def test_a_change_concerns_every_period_that_was_billed_beyond_it() -> None:
    asked = Asked(
        "p", Decimal(100), "KGS", "month", day("2026-01-01"), None, day("2026-03-15"), 1,
        changed_at=day("2026-01-10"), changed_to=Decimal(200),
    )  # fmt: skip
    found = prorate(asked)
    assert found.amount == 300
    # 22 days of January, February and March.
    assert found.change == Change(
        Fraction(22, 31) + 2, Decimal("29.03"), Decimal("270.97"), Decimal("141.94") + 2 * Decimal(200)
    )
    told = [
        (s.subject, s.action, s.before, s.after, s.reason) for s in found.receipt.step if s.action != "PERIOD_BILLED"
    ]
    assert told == [
        ("2026-01-10/2026-02-01", "CREDITED", "100.00 KGS", "70.97 KGS", "22/31"),
        ("2026-01-10/2026-02-01", "CHARGED", "200 KGS", "141.94 KGS", "22/31"),
        ("2026-02-01/2026-03-01", "CREDITED", "100.00 KGS", "100.00 KGS", "1"),
        ("2026-02-01/2026-03-01", "CHARGED", "200 KGS", "200.00 KGS", "1"),
        ("2026-03-01/2026-04-01", "CREDITED", "100.00 KGS", "100.00 KGS", "1"),
        ("2026-03-01/2026-04-01", "CHARGED", "200 KGS", "200.00 KGS", "1"),
    ]
    assert replay(found.receipt) == found
    later = prorate(replace(asked, changed_at=day("2026-03-31"), changed_to=Decimal(0))).change
    assert later == Change(Fraction(1, 31), Decimal("96.77"), Decimal("3.23"), Decimal("0.00"))
    for outside in ("2025-12-31", "2026-04-01"):
        with pytest.raises(InvalidArgument) as refusal:
            prorate(replace(asked, changed_at=day(outside)))
        assert refusal.value.reason == "OUTSIDE_PERIOD"


# --- properties ------------------------------------------------------------------------------------------------------

EVERY = st.sampled_from(
    [MONTH, Cycle(2, monthly=True), QUARTER, YEAR, Cycle(1, monthly=False), Cycle(7, monthly=False)]
)
DATES = st.dates(date(1999, 1, 1), date(2032, 12, 31))
BILLING_DAYS = st.integers(1, 31)


@given(EVERY, DATES, st.integers(0, 900), BILLING_DAYS, st.sampled_from(BillingMode))
def test_the_parts_are_the_whole_without_gaps_and_none_is_more_than_a_period(
    every: Cycle, start: date, length: int, billing_day: int, mode: BillingMode
) -> None:
    end = start + timedelta(days=length)
    found = parts(every, start, end, end + timedelta(days=400), billing_day, mode)
    assert sum(part.days for part in found) == length
    assert all(before.end == after.start for before, after in itertools.pairwise(found))
    assert all(0 < part.fraction <= 1 for part in found)
    # Only the first and the last can be parts of a period.
    assert all(part.fraction == 1 for part in found[1:-1])


@given(EVERY, DATES, st.integers(0, 700), st.integers(0, 700), BILLING_DAYS, st.sampled_from(BillingMode))
def test_a_later_target_adds_to_what_is_billed_and_changes_nothing_of_it(
    every: Cycle, start: date, one: int, other: int, billing_day: int, mode: BillingMode
) -> None:
    sooner, later = (start + timedelta(days=n) for n in sorted((one, other)))
    first = parts(every, start, None, sooner, billing_day, mode)
    assert parts(every, start, None, later, billing_day, mode)[: len(first)] == first


@given(DATES, st.integers(28, 31), st.data(), st.integers(0, 10**7), st.integers(0, 10**7))
def test_nothing_is_lost_between_used_and_credit_and_a_change_to_the_same_price_costs_nothing(
    start: date, days: int, data: st.DataObject, old: int, new: int
) -> None:
    whole = Part(start, start + timedelta(days=days), days)
    at = start + timedelta(days=data.draw(st.integers(0, days)))
    billed = Decimal(old).scaleb(-2)
    change = changed(whole, at, billed, Decimal(new).scaleb(-2), "KGS")
    assert change.used + change.credit == billed
    assert changed(whole, at, billed, billed, "KGS").charge == change.credit
    assert rounded(change.charge, "KGS") == change.charge


@given(DATES, st.integers(2, 31), st.data())
def test_the_fractions_of_a_period_that_is_cut_sum_to_it(start: date, days: int, data: st.DataObject) -> None:
    cut = start + timedelta(days=data.draw(st.integers(1, days - 1)))
    end = start + timedelta(days=days)
    assert Part(start, cut, 31).fraction + Part(cut, end, 31).fraction == Part(start, end, 31).fraction
