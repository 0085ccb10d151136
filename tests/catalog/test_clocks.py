"""What the clocks of a zone showed, as a receipt keeps it: the same as the zone itself, and afterwards too."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.pricing import usage
from catalog.pricing.clocks import clocks_during, clocks_of
from catalog.pricing.receipts import Receipt
from catalog.pricing.usage import UsageEvent, UsageRating, compile_price, rate_usage, replay
from catalog.product.values import PricingModel, PricingModelType, RateStep, TimeBand, UsageRate
from chassis.errors import InvalidArgument
from chassis.types import Json, Money
from tests.catalog.things import a_price

ZONES = (
    "Asia/Bishkek",
    "Europe/Kyiv",
    "Europe/London",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Almaty",
    "UTC",
)
INSTANTS = st.datetimes(datetime(2004, 1, 1), datetime(2026, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001


@given(st.sampled_from(ZONES), INSTANTS, st.integers(0, 400 * 86_400))
def test_they_show_what_the_zone_does(name: str, start: datetime, seconds: int) -> None:
    zone, end = ZoneInfo(name), start + timedelta(seconds=seconds)
    clocks = clocks_during(zone, start, end)
    assert clocks_of(clocks.plain()).plain() == clocks.plain()
    # A minute before, at and after each change, and some instants between.
    changes = [datetime.fromisoformat(str(text)) for text, _ in clocks.plain() if text]
    near = [at + timedelta(minutes=n) for at in changes for n in (-61, -60, -31, -1, 0, 1, 29, 30, 59, 60)]
    for at in (start, end, start + (end - start) / 3, *near):
        shown, expected = at.astimezone(clocks), at.astimezone(zone)
        assert shown.replace(tzinfo=None) == expected.replace(tzinfo=None)
        assert shown.fold == expected.fold
        assert shown.astimezone(UTC) == at
        # Hours that are there twice, or left out.
        for fold in (0, 1):
            wall = expected.replace(tzinfo=None, fold=fold)
            assert wall.replace(tzinfo=clocks).astimezone(UTC) == wall.replace(tzinfo=zone).astimezone(UTC)


def by_the_hour(*instants: datetime) -> UsageRating:
    """A call of two minutes at each of the instants, at 1 a minute at night and 2 by day."""
    steps = {name: (RateStep(start=Decimal(0), amount=Decimal(name), per=Decimal(60)),) for name in ("1", "2")}
    rates = (
        UsageRate(step=steps["1"], time_band=(TimeBand(start="22:00", end="07:00"),)),
        UsageRate(step=steps["2"]),
    )
    price = a_price("p", None, None, price_type="usage")
    price.price = Money(unit="KGS")
    price.pricing_model = PricingModel(model_type=PricingModelType.RATED, usage_type="voice", rate=rates)
    calls = [UsageEvent(str(i), "voice", Decimal(120), at=at) for i, at in enumerate(instants)]
    return rate_usage([compile_price(price)], calls, zone="Asia/Bishkek")


def test_a_replay_goes_by_the_clocks_of_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Kyrgyzstan had gone over to the time of Kyiv since."""
    evening = datetime(2026, 3, 2, 15, 59, tzinfo=UTC)
    made = by_the_hour(evening)
    assert made.charge[0].amount.value == Decimal("3.00")
    assert '"clocks":[["",21600]]' in made.receipt.inputs.text
    monkeypatch.setattr(usage, "_zone", lambda _: ZoneInfo("Europe/Kyiv"))
    assert by_the_hour(evening).charge[0].amount.value == Decimal("4.00")
    assert replay(made.receipt) == made


def test_a_receipt_that_depends_on_hours_is_not_replayed_without_its_clocks() -> None:
    made = by_the_hour(datetime(2026, 3, 2, 15, 59, tzinfo=UTC))
    without = made.receipt.inputs.text.replace('"clocks":[["",21600]],', "")
    assert without != made.receipt.inputs.text
    with pytest.raises(InvalidArgument) as refusal:
        replay(Receipt(usage.ENGINE, usage.REVISION, Json(without), ()))
    assert refusal.value.reason == "MALFORMED_RECEIPT"


def test_events_lie_in_times_of_which_clocks_know_and_near_each_other() -> None:
    """Else years of clocks would have to be looked through, or their end be passed."""
    march = datetime(2026, 3, 2, tzinfo=UTC)
    assert by_the_hour(march, march.replace(year=2028)).charge[0].events == 2
    for instants, wrong in (
        ([march.replace(year=9999, month=12, day=31)], [0]),
        ([datetime(1, 1, 1, tzinfo=UTC), march], [0, 1]),
        (
            [march, march.replace(year=2027), march.replace(month=4, year=2028), march.replace(year=2024, month=2)],
            [2, 3],
        ),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            by_the_hour(*instants)
        assert refusal.value.reason == "EVENT_TIME_OUT_OF_RANGE"
        assert [v.field for v in refusal.value.violations] == [f"event[{i}].at" for i in wrong]


def test_what_depends_on_no_hour_keeps_no_clocks() -> None:
    price = a_price("p", "1 KGS", None, price_type="usage")
    price.pricing_model = PricingModel(model_type=PricingModelType.PER_UNIT, usage_type="sms")
    sent = UsageEvent("1", "sms", Decimal(1), at=datetime(2026, 3, 2, tzinfo=UTC))
    assert "clocks" not in rate_usage([compile_price(price)], [sent], zone="Asia/Bishkek").receipt.inputs.text


@pytest.mark.parametrize(
    "clocks",
    [
        "[]",
        '[["",null]]',
        '[["",0],["then",1]]',
        '[["",0],["2026-01-01T00:00:00Z"]]',
        '[["",86400]]',
        '[["",0],["2026-01-01T00:00:00Z",-86400]]',
        '[["",0],["9999-12-31T23:59:59Z",3600]]',
        '[["",0],["0001-01-01T00:00:00+12:00",3600]]',
    ],
)
def test_clocks_that_no_engine_wrote_are_refused(clocks: str) -> None:
    made = by_the_hour(datetime(2026, 3, 2, 15, 59, tzinfo=UTC)).receipt.inputs.text
    inputs = made.replace('[["",21600]]', clocks)
    assert inputs != made
    with pytest.raises(InvalidArgument) as refusal:
        replay(Receipt(usage.ENGINE, usage.REVISION, Json(inputs), ()))
    assert refusal.value.reason == "MALFORMED_RECEIPT"
