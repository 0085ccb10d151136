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
from catalog.pricing.usage import UsageEvent, compile_price, rate_usage, replay
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


def test_a_replay_goes_by_the_clocks_of_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Kyrgyzstan had gone over to the time of Kyiv since."""
    steps = {name: (RateStep(start=Decimal(0), amount=Decimal(name), per=Decimal(60)),) for name in ("1", "2")}
    rates = (
        UsageRate(step=steps["1"], time_band=(TimeBand(start="22:00", end="07:00"),)),
        UsageRate(step=steps["2"]),
    )
    price = a_price("p", None, None, price_type="usage")
    price.price = Money(unit="KGS")
    price.pricing_model = PricingModel(model_type=PricingModelType.RATED, usage_type="voice", rate=rates)
    call = UsageEvent("1", "voice", Decimal(120), at=datetime(2026, 3, 2, 15, 59, tzinfo=UTC))
    made = rate_usage([compile_price(price)], [call], zone="Asia/Bishkek")
    assert made.charge[0].amount.value == Decimal("3.00")
    assert '"clocks":[["",21600]]' in made.receipt.inputs.text
    monkeypatch.setattr(usage, "_zone", lambda _: ZoneInfo("Europe/Kyiv"))
    assert rate_usage([compile_price(price)], [call], zone="Asia/Bishkek").charge[0].amount.value == Decimal("4.00")
    assert replay(made.receipt) == made


def test_what_depends_on_no_hour_keeps_no_clocks() -> None:
    price = a_price("p", "1 KGS", None, price_type="usage")
    price.pricing_model = PricingModel(model_type=PricingModelType.PER_UNIT, usage_type="sms")
    sent = UsageEvent("1", "sms", Decimal(1), at=datetime(2026, 3, 2, tzinfo=UTC))
    assert "clocks" not in rate_usage([compile_price(price)], [sent], zone="Asia/Bishkek").receipt.inputs.text


@pytest.mark.parametrize("clocks", ["[]", '[["",null]]', '[["",0],["then",1]]', '[["",0],["2026-01-01T00:00:00Z"]]'])
def test_clocks_that_no_engine_wrote_are_refused(clocks: str) -> None:
    inputs = f'{{"prices":[],"events":[],"zone":"UTC","clocks":{clocks},"holidays":[],"before":{{}},"chosen":[]}}'
    with pytest.raises(InvalidArgument) as refusal:
        replay(Receipt(usage.ENGINE, usage.REVISION, Json(inputs), ()))
    assert refusal.value.reason == "MALFORMED_RECEIPT"
