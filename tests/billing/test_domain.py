"""Charges, days and zones."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.errors import InvalidArgument
from chassis.types import Money
from chassis.zones import BranchZones
from orders.billing.domain import ChargeAlteration, ChargeType, parse_day
from tests.billing.charges import charge

ZONES = BranchZones.parse("bishkek=Asia/Bishkek, havana=America/Havana,cairo=Africa/Cairo,*=Europe/Berlin")


@settings(deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=9))
def test_an_amount_keeps_every_digit(value: Decimal) -> None:
    draft = json.loads(replace(charge("a"), amount=Money(unit="KGS", value=value)).draft())
    assert Decimal(draft["amount"]["value"]) == value
    assert "E" not in draft["amount"]["value"]


def test_a_charge_names_what_is_wrong_with_it() -> None:
    good = charge("a")
    with pytest.raises(InvalidArgument) as refused:
        replace(
            good,
            account="a b",
            branch="",
            occurred_at=datetime(2026, 1, 1),  # noqa: DTZ001 (that is the mistake)
            amount=Money(unit="KGS", value=Decimal("NaN")),
            tax_included_amount=Money(value=Decimal(1)),
            tax_rate=Decimal("inf"),
            type=ChargeType.CHARGE_CREATE,
        )
    assert {violation.field for violation in refused.value.violations} == {
        "account",
        "branch",
        "occurred_at",
        "amount",
        "tax_included_amount",
        "tax_rate",
        "recurring_charge_period",
    }


def test_what_a_charge_does_not_have_is_left_out() -> None:
    once = replace(charge("a"), type=ChargeType.CHARGE_CREATE, recurring_charge_period=None, tax_rate=None)
    assert not {"taxRate", "recurringChargePeriod"} & set(json.loads(once.draft()))


@pytest.mark.parametrize(
    ("branch", "day", "start", "hours"),
    [
        ("bishkek", date(2026, 3, 1), datetime(2026, 2, 28, 18, tzinfo=UTC), 24),
        ("naryn", date(2026, 3, 29), datetime(2026, 3, 28, 23, tzinfo=UTC), 23),
        ("naryn", date(2026, 10, 25), datetime(2026, 10, 24, 22, tzinfo=UTC), 25),
        # Clocks go forward at midnight: the day begins at one.
        ("cairo", date(2024, 4, 26), datetime(2024, 4, 25, 22, tzinfo=UTC), 23),
        # Clocks go back at one to midnight: the day's first hour comes twice.
        ("havana", date(2024, 11, 3), datetime(2024, 11, 3, 4, tzinfo=UTC), 25),
    ],
)
def test_a_day_has_the_hours_that_its_zone_gives_it(branch: str, day: date, start: datetime, hours: int) -> None:
    assert ZONES.bounds(branch, day) == (start, start + timedelta(hours=hours))


@settings(deadline=None)
@given(st.sampled_from(["bishkek", "havana", "cairo", "naryn"]), st.dates(date(1990, 1, 1), date(2040, 1, 1)))
def test_days_follow_each_other_without_gap_or_overlap(branch: str, day: date) -> None:
    assert ZONES.bounds(branch, day)[1] == ZONES.bounds(branch, day + timedelta(days=1))[0]


@pytest.mark.parametrize("text", ["bishkek", "=UTC", "bishkek=Asia/Nowhere", "bishkek=", "bishkek=../etc"])
def test_zones_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected branch|no such time zone"):
        BranchZones.parse(text)


def test_a_branch_without_a_zone_counts_in_utc_when_there_is_no_other() -> None:
    assert BranchZones.parse("").zone("osh").key == "UTC"


@pytest.mark.parametrize(
    "text", ["", "2026-2-1", "2026-02-30", "tomorrow", "9999-12-31", "2026-01-01T00:00", "20260101"]
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_day(text)


@pytest.mark.parametrize(
    ("duration", "units", "begins", "until"),
    [
        (3, "month", datetime(2026, 11, 30, tzinfo=UTC), datetime(2027, 2, 28, tzinfo=UTC)),
        (1, "year", datetime(2028, 2, 29, tzinfo=UTC), datetime(2029, 2, 28, tzinfo=UTC)),
        (2, "week", datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 15, 12, tzinfo=UTC)),
        (None, None, datetime(2026, 3, 1, tzinfo=UTC), None),
        (2, "3 month", datetime(2026, 8, 31, tzinfo=UTC), datetime(2027, 2, 28, tzinfo=UTC)),
        (2, "odd month", datetime(2026, 8, 31, tzinfo=UTC), None),
        (2, "fortnight", datetime(2026, 3, 1, tzinfo=UTC), None),
        (36, "hour", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, 12, tzinfo=UTC)),
        (45, "2 minute", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, 1, 30, tzinfo=UTC)),
        (90, "second", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, 0, 1, 30, tzinfo=UTC)),
        (2**31 - 1, "year", datetime(2026, 3, 1, tzinfo=UTC), None),
    ],
)
def test_a_limited_discount_ends_by_the_calendar(
    duration: int | None, units: str | None, begins: datetime, until: datetime | None
) -> None:
    discount = ChargeAlteration(amount=Money(unit="KGS", value=Decimal(-5)), duration=duration, units=units)
    assert discount.until(begins) == until


def test_what_a_charge_contains_is_told_in_the_canonical_form() -> None:
    discount = ChargeAlteration(
        amount=Money(unit="KGS", value=Decimal("-99.80")), name="Скидка", duration=3, units="month"
    )
    told = replace(charge("a"), list_amount=Money(unit="KGS", value=Decimal("598.80")), alteration=(discount,)).draft()
    assert told.encode() == rfc8785.dumps(json.loads(told))
    assert not {"listAmount", "alteration"} & set(json.loads(charge("a").draft()))
