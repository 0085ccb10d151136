"""Usage models, promotions and prorations of the kinds that billing systems know, each figure calculated by hand.

Sources of the rules: Lago (getlago.com/docs, "Charge models"; app/services/charges/charge_models of getlago/lago-api),
Sylius (docs.sylius.com, "Promotions"), Kill Bill (InvoiceDateUtils, "Proration").
"""

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from catalog.pricing.offers import charge_period
from catalog.pricing.proration import BillingMode, cycle, cycles, parts
from catalog.pricing.usage import UsageEvent, compile_price, rate_usage
from catalog.product.values import PriceTier, PricingModel, PricingModelType
from catalog.promotion.engine import (
    Action,
    Cart,
    Condition,
    Coupon,
    Fact,
    Filter,
    Line,
    Off,
    Outcome,
    Pattern,
    Promotion,
    Rule,
    promote,
)
from chassis.types import Money, Quantity
from tests.catalog.things import NOW, a_price

M = PricingModelType


# --- usage -----------------------------------------------------------------------------------------------------------


def used(model: PricingModel, *amounts: str) -> Decimal:
    """What events of these amounts come to; the currency has four decimals, so that nothing is rounded away."""
    price = a_price("p", None, None, price_type="usage", pricing_model=model)
    price.price = Money(unit="CLF")
    events = [UsageEvent("", "use", Decimal(amount)) for amount in amounts]
    due = rate_usage([compile_price(price)], events, zone="UTC").charge[0].amount.value
    assert due is not None
    return due


def model(kind: PricingModelType, *tiers: PriceTier, free: str | None = None, **more: Any) -> PricingModel:
    allowance = None if free is None else Quantity(amount=Decimal(free))
    return PricingModel(model_type=kind, usage_type="use", tier=tiers, allowance=allowance, **more)


def tier(
    up_to: int | None = None, unit: str | None = None, flat: str | None = None, percent: str | None = None
) -> PriceTier:
    stated = [None if text is None else Decimal(text) for text in (up_to, unit, flat, percent)]
    return PriceTier(up_to=stated[0], unit_amount=stated[1], flat_amount=stated[2], percentage=stated[3])


# Lago's docs: 1 % and 200 up to 1,000, 2 % and 300 up to 10,000, 3 % and 400 beyond.
SLABS = (
    tier(1000, flat="200", percent="1"),
    tier(10_000, flat="300", percent="2"),
    tier(None, flat="400", percent="3"),
)
# Lago's percentage_service_spec: 1.3 % and 2 a transaction, running totals of 50, 150, 400, 800.
TRANSACTIONS = ("50", "100", "250", "400")
FEE = tier(percent="1.3", flat="2")


@pytest.mark.parametrize(
    ("said", "amounts", "due"),
    [
        # (800 - 250) × 1.3 % + 2 × 2: two transactions were free, and 100 of the third.
        (model(M.PERCENTAGE, FEE, free="250", free_events=3), TRANSACTIONS, "11.15"),
        (model(M.PERCENTAGE, FEE, free="250"), TRANSACTIONS, "11.15"),
        # (800 - 400) × 1.3 % + 2: three transactions are free, whatever they are.
        (model(M.PERCENTAGE, FEE, free_events=3), TRANSACTIONS, "7.2"),
        (model(M.PERCENTAGE, FEE, free="500", free_events=3), TRANSACTIONS, "7.2"),
        (model(M.PERCENTAGE, FEE, free_events=5), TRANSACTIONS, "0"),
        (model(M.PERCENTAGE, FEE), TRANSACTIONS, "18.4"),
        (model(M.PERCENTAGE, tier(percent="0", flat="2")), TRANSACTIONS, "8"),
        (model(M.PERCENTAGE, FEE), (), "0"),
        # 1 % of 100, 1,000 and 10,000, from 1.75 to 12 each: 1.75 + 10 + 12.
        (
            model(M.PERCENTAGE, tier(percent="1"), event_minimum=Decimal("1.75"), event_maximum=Decimal(12)),
            ("100", "1000", "10000"),
            "23.75",
        ),
        # The fee is within the bounds; what is free has none.
        (
            model(M.PERCENTAGE, tier(percent="1", flat="2"), free_events=1, event_minimum=Decimal(5)),
            ("100", "100", "400"),
            "11",
        ),
        (model(M.PERCENTAGE, tier(percent="1"), event_maximum=Decimal(3)), ("100", "1000"), "4"),
        # Packages that are begun: 121 of 10; 20 of them free; fewer than are free.
        (model(M.PACKAGE, tier(unit="100"), package_size=Decimal(10)), ("121",), "1300"),
        (model(M.PACKAGE, tier(unit="100"), package_size=Decimal(10), free="20"), ("121",), "1100"),
        (model(M.PACKAGE, tier(unit="100"), package_size=Decimal(10), free="20"), ("60", "60", "1"), "1100"),
        (model(M.PACKAGE, tier(unit="100"), package_size=Decimal(10), free="20"), ("20",), "0"),
        (model(M.PACKAGE, tier(unit="100"), package_size=Decimal(10), free="20"), ("5",), "0"),
        (model(M.PACKAGE, tier(unit="100"), package_size=Decimal(10)), (), "0"),
        (model(M.GRADUATED_PERCENTAGE, *SLABS), (), "0"),
        (model(M.GRADUATED_PERCENTAGE, *SLABS), ("500",), "205"),
        (model(M.GRADUATED_PERCENTAGE, *SLABS), ("500", "500"), "210"),
        (model(M.GRADUATED_PERCENTAGE, *SLABS), ("500", "550"), "511"),
        (model(M.GRADUATED_PERCENTAGE, *SLABS), ("500", "550", "4000"), "591"),
        # 10 + 180 + 300 and the flat amounts of all three.
        (model(M.GRADUATED_PERCENTAGE, *SLABS), ("20000",), "1390"),
        # The least and the most for a period.
        (model(M.PER_UNIT, tier(unit="0.5"), period_minimum=Decimal(10), period_maximum=Decimal(40)), ("3",), "10"),
        (model(M.PER_UNIT, tier(unit="0.5"), period_minimum=Decimal(10), period_maximum=Decimal(40)), ("50",), "25"),
        (model(M.PER_UNIT, tier(unit="0.5"), period_minimum=Decimal(10), period_maximum=Decimal(40)), ("100",), "40"),
        (model(M.PER_UNIT, tier(unit="0.5"), event_minimum=Decimal(1), event_maximum=Decimal(3)), ("1", "4", "9"), "6"),
        (model(M.PER_UNIT, tier(unit="0.5"), free="10"), ("4", "8", "1"), "1.5"),
        (model(M.GRADUATED, tier(10, "1", "5"), tier(None, "0.5", "2"), free="3"), ("8", "9"), "19"),
        (model(M.VOLUME, tier(10, "1"), tier(None, "0.5"), free="3"), ("14",), "5.5"),
    ],
)  # fmt: skip
def test_usage_models(said: PricingModel, amounts: tuple[str, ...], due: str) -> None:
    assert used(said, *amounts) == Decimal(due)


# --- prorations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "start", "end", "target", "day", "billed"),
    [
        # Leading part: 14 of the 92 days from the 15th of October; then a whole quarter.
        ("quarterly", "2011-01-01", None, "2011-01-14", 15, "7/46"),
        ("quarterly", "2011-01-01", None, "2011-01-20", 15, "53/46"),
        ("quarterly", "2011-02-15", None, "2011-05-15", 15, "2"),
        # Past its billing day: the first is a quarter later, 89 of the 89 days from the 10th of February less 5.
        ("quarterly", "2011-02-15", None, "2011-02-15", 10, "84/89"),
        # Trailing part: 17 of the 92 days from the 15th of May.
        ("quarterly", "2011-02-15", "2011-06-01", "2011-12-31", 15, "109/92"),
        # The last day of a month that is too short: from the 30th of November to the 29th of February, 91 days.
        ("quarterly", "2011-11-30", "2012-02-29", "2012-12-31", 31, "1"),
        ("biannual", "2011-01-01", None, "2011-01-01", 31, "15/92"),
        ("biannual", "2011-01-31", "2011-08-31", "2011-12-31", 31, "215/184"),
        ("annual", "2011-02-15", None, "2012-02-14", 15, "1"),
        ("annual", "2011-02-15", None, "2012-02-15", 15, "2"),
        # 360 of the 365 days to the 5th of March of the next year.
        ("annual", "2012-03-10", None, "2012-03-10", 5, "72/73"),
        # A leap year: 182 of 366 days; and 15 of the 365 days after the 28th of February.
        ("annual", "2012-01-01", "2012-07-01", "2012-12-31", 1, "91/183"),
        ("annual", "2012-02-29", "2013-03-15", "2013-12-31", 29, "76/73"),
        ("weekly", "2026-03-04", "2026-03-14", "2026-03-31", None, "10/7"),
        ("monthly", "2012-02-29", None, "2012-03-30", 31, "1"),
        ("monthly", "2012-02-29", None, "2012-03-31", 31, "2"),
        # 29 of the 31 days of January, and 10 of the 29 of February.
        ("monthly", "2012-01-03", "2012-02-11", "2012-12-31", 1, "29/31+10/29"),
    ],
)
def test_prorations_in_advance(
    period: str, start: str, end: str | None, target: str, day: int | None, billed: str
) -> None:
    every = cycle(charge_period(period, None))
    stop = date.fromisoformat(end) if end else None
    found = parts(every, date.fromisoformat(start), stop, date.fromisoformat(target), day)
    assert cycles(found) == sum(map(Fraction, billed.split("+")))


@pytest.mark.parametrize(
    ("period", "start", "end", "target", "day", "billed"),
    [
        ("quarterly", "2011-02-15", None, "2011-05-14", 15, "0"),
        ("quarterly", "2011-02-15", None, "2011-05-15", 15, "1"),
        ("annual", "2011-02-15", None, "2012-02-15", 15, "1"),
        # The trailing part once it has ended.
        ("quarterly", "2011-02-15", "2011-06-01", "2011-05-31", 15, "1"),
        ("quarterly", "2011-02-15", "2011-06-01", "2011-06-01", 15, "109/92"),
        ("weekly", "2026-03-04", None, "2026-03-18", None, "2"),
    ],
)
def test_prorations_in_arrears(
    period: str, start: str, end: str | None, target: str, day: int | None, billed: str
) -> None:
    every = cycle(charge_period(period, None))
    stop = date.fromisoformat(end) if end else None
    when = date.fromisoformat(target)
    assert cycles(parts(every, date.fromisoformat(start), stop, when, day, BillingMode.IN_ARREARS)) == Fraction(billed)


# --- promotions ------------------------------------------------------------------------------------------------------


def a_promotion(*actions: Action, rule: Rule | Condition | None = None, **more: Any) -> Promotion:
    held = rule if isinstance(rule, Rule) else Rule(() if rule is None else (rule,))
    return Promotion(more.pop("id", "p"), "p", more.pop("priority", 1), (Pattern(held, actions),), **more)


def a_line(id: str, amount: str, quantity: int = 1, *, in_: str = "", least: str = "0", **more: Any) -> Line:
    categories = frozenset(filter(None, (in_,)))
    return Line(id, id, quantity, Decimal(amount), frozenset({id}), categories, floor=Decimal(least), **more)


def cart(*lines: Line, **more: Any) -> Cart:
    return Cart(lines, NOW, **more)


def amounts(outcome: Outcome) -> list[str]:
    return [f"{line.amount:.2f}" for line in outcome.lines]


SHIPPING = a_line("courier", "10", delivery=True)


@pytest.mark.parametrize(
    ("action", "left"),
    [
        (Action(Off.DELIVERY, percentage=Decimal(100)), ["100.00", "0.00"]),
        (Action(Off.DELIVERY, percentage=Decimal(25)), ["100.00", "7.50"]),
        (Action(Off.DELIVERY, amount=Decimal(4)), ["100.00", "6.00"]),
        (Action(Off.DELIVERY, amount=Decimal(40)), ["100.00", "0.00"]),
        # What is off the order, or off units, doesn't touch delivery.
        (Action(Off.ORDER, percentage=Decimal(50)), ["50.00", "10.00"]),
        (Action(Off.ORDER, amount=Decimal(500)), ["0.00", "10.00"]),
        (Action(Off.UNIT, percentage=Decimal(10)), ["90.00", "10.00"]),
    ],
)
def test_delivery_is_discounted_apart(action: Action, left: list[str]) -> None:
    assert amounts(promote(cart(a_line("shirt", "100"), SHIPPING), [a_promotion(action)])) == left


def test_delivery_counts_in_no_total() -> None:
    over = Condition(Fact.TOTAL, ">=", "105")
    free = a_promotion(Action(Off.DELIVERY, percentage=Decimal(100)), rule=over)
    assert amounts(promote(cart(a_line("shirt", "100"), SHIPPING), [free])) == ["100.00", "10.00"]
    assert amounts(promote(cart(a_line("shirt", "105"), SHIPPING), [free])) == ["105.00", "0.00"]


@pytest.mark.parametrize("refused", ["it has expired", "it has been used 5 times", "the customer has used it 1 times"])
def test_a_coupon_that_cannot_be_used_opens_nothing_and_says_why(refused: str) -> None:
    opened = a_promotion(Action(Off.ORDER, amount=Decimal(10)), needs_coupon=True)
    outcome = promote(cart(a_line("shirt", "100"), coupons=(Coupon("C", "p", refused),)), [opened])
    assert (amounts(outcome), outcome.coupons) == (["100.00"], {"C": refused})
    assert amounts(promote(cart(a_line("shirt", "100"), coupons=(Coupon("C", "p"),)), [opened])) == ["90.00"]
    assert amounts(promote(cart(a_line("shirt", "100")), [opened])) == ["100.00"]


@pytest.mark.parametrize(
    ("rule", "who", "granted"),
    [
        (Condition(Fact.QUANTITY, ">=", "3"), {}, True),
        (Condition(Fact.QUANTITY, ">=", "4"), {}, False),
        (Condition(Fact.TOTAL, ">=", "130"), {}, True),
        (Condition(Fact.TOTAL, ">=", "130.01"), {}, False),
        (Condition(Fact.CATEGORY_TOTAL, ">=", "100", "clothes"), {}, True),
        (Condition(Fact.CATEGORY_TOTAL, ">=", "100.01", "clothes"), {}, False),
        (Condition(Fact.CATEGORY, "=", "mugs"), {}, True),
        (Condition(Fact.PRODUCT, "=", "hat"), {}, False),
        (Condition(Fact.SEGMENT, "=", "retail"), {"segments": frozenset({"retail"})}, True),
        (Condition(Fact.SEGMENT, "=", "retail"), {}, False),
        (Condition(Fact.ORDER_NUMBER, "=", "3"), {"orders_before": 2}, True),
        (Condition(Fact.ORDER_NUMBER, "=", "3"), {"orders_before": 3}, False),
        (Condition(Fact.PLACE, "=", "US"), {"places": frozenset({"US"})}, True),
        (Condition(Fact.PLACE, "=", "US"), {"places": frozenset({"PL"})}, False),
    ],
)
def test_rules(rule: Condition, who: dict[str, Any], granted: bool) -> None:
    bought = cart(a_line("shirt", "100", 2, in_="clothes"), a_line("mug", "30", in_="mugs"), **who)
    outcome = promote(bought, [a_promotion(Action(Off.ORDER, percentage=Decimal(10)), rule=rule)])
    assert amounts(outcome) == (["90.00", "27.00"] if granted else ["100.00", "30.00"])


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (Filter(price_min=Decimal(50)), ["90.00", "30.00"]),
        (Filter(price_max=Decimal(30)), ["100.00", "25.00"]),
        (Filter(price_min=Decimal(30), price_max=Decimal(50)), ["90.00", "25.00"]),
        (Filter(categories=frozenset({"mugs"})), ["100.00", "25.00"]),
        (Filter(products=frozenset({"shirt"})), ["90.00", "30.00"]),
        (Filter(products=frozenset({"shirt"}), categories=frozenset({"mugs"})), ["100.00", "30.00"]),
    ],
)
def test_filters_of_units(wanted: Filter, left: list[str]) -> None:
    # Two shirts of 50 and a mug of 30; 5 off each unit that fits.
    bought = cart(a_line("shirt", "100", 2, in_="clothes"), a_line("mug", "30", in_="mugs"))
    assert amounts(promote(bought, [a_promotion(Action(Off.UNIT, amount=Decimal(5), filter=wanted))])) == left


def test_a_minimum_price_keeps_a_unit_up_and_the_rest_is_borne_by_others() -> None:
    # 50 off 100: the shirt may fall to 90 only, so the mug bears 40.
    bought = cart(a_line("shirt", "100", least="90"), a_line("mug", "100"))
    assert amounts(promote(bought, [a_promotion(Action(Off.ORDER, amount=Decimal(50)))])) == ["90.00", "60.00"]


def test_a_split_is_exact_to_the_cent() -> None:
    bought = cart(a_line("a", "10"), a_line("b", "10"), a_line("c", "10"))
    assert amounts(promote(bought, [a_promotion(Action(Off.ORDER, amount=Decimal(10)))])) == ["6.66", "6.67", "6.67"]


def test_catalog_prices_of_variants_by_priority() -> None:
    # Sylius' own example: 10 off, then 50 %, then 5 off, then 25 % of 100 leave 30.
    actions = [
        Action(Off.UNIT, amount=Decimal(10)),
        Action(Off.UNIT, percentage=Decimal(50)),
        Action(Off.UNIT, amount=Decimal(5)),
        Action(Off.UNIT, percentage=Decimal(25)),
    ]
    sales = [a_promotion(one, id=f"p{n}", priority=n, on_list_price=True) for n, one in enumerate(actions)]
    assert amounts(promote(cart(a_line("shirt", "100")), sales)) == ["30.00"]
