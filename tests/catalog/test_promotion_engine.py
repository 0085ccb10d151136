"""Cart promotions: others' scenarios to the cent, and what must hold whatever the cart."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.pricing.money import rounded, split
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
    Promoted,
    Promotion,
    Rule,
    Share,
    UnclearOrderError,
    promote,
    spread,
)
from chassis.types import TimePeriod
from tests.catalog.sylius import NOW, Case, UnheardOfError, cart_of, money, promotions_of, viewed

ZERO, CENT = Decimal(0), Decimal("0.01")


# --- others' scenarios -----------------------------------------------------------------------------------------------


def _of(outcome: Outcome, product: str) -> Promoted:
    return next(promoted for promoted in outcome.lines if promoted.line.id == product)


def _taken(outcome: Outcome, promotions: Mapping[str, Promotion], off: Off) -> Decimal:
    return sum(
        (
            cut.amount
            for promoted in outcome.lines
            for cut in promoted.cuts
            if promotions[cut.promotion].patterns[cut.pattern].actions[cut.action].off is off
            and not promotions[cut.promotion].on_list_price
        ),
        ZERO,
    )


def _on_cart(outcome: Outcome, product: str, promotions: Mapping[str, Promotion]) -> Promoted:
    """The line with what cart promotions alone took off it."""
    promoted = _of(outcome, product)
    return replace(promoted, cuts=[cut for cut in promoted.cuts if not promotions[cut.promotion].on_list_price])


def _delivery(outcome: Outcome) -> Decimal:
    return sum((promoted.amount for promoted in outcome.lines if promoted.line.delivery), ZERO)


def _listed(case: Case, outcome: Outcome) -> list[str]:
    return [name for name in outcome.applied if name in {one["name"] for one in case.get("catalog_promotions", ())}]


# What a scenario may expect → what came of it, in the same form. Whatever else one expects is an error.
_ANSWERS: Mapping[str, Callable[[Case, Outcome, Mapping[str, Promotion], Any], Any]] = {
    "total": lambda case, outcome, known, wanted: sum((p.amount for p in outcome.lines), ZERO),
    "order_discount": lambda case, outcome, known, wanted: _taken(outcome, known, Off.ORDER),
    "shipping": lambda case, outcome, known, wanted: _delivery(outcome),
    "shipping_discount": lambda case, outcome, known, wanted: _taken(outcome, known, Off.DELIVERY),
    "line_discounts": lambda case, outcome, known, wanted: {
        name: sum(_on_cart(outcome, name, known).unit_cuts(), ZERO) for name in wanted
    },
    "unit_discounts": lambda case, outcome, known, wanted: {
        name: _on_cart(outcome, name, known).unit_cuts() for name in wanted
    },
    "unit_prices": lambda case, outcome, known, wanted: {
        name: _of(outcome, name).amount / _of(outcome, name).line.quantity for name in wanted
    },
    "line_totals": lambda case, outcome, known, wanted: {name: _of(outcome, name).amount for name in wanted},
    "coupon_accepted": lambda case, outcome, known, wanted: outcome.coupons.get(case["coupon_entered"], "") is None,
    "catalog_price": lambda case, outcome, known, wanted: _of(outcome, viewed(case)).unit_price,
    "original_price": lambda case, outcome, known, wanted: money(case["products"][viewed(case)]["price"]),
    "applied": lambda case, outcome, known, wanted: _listed(case, outcome) if "cart" not in case else outcome.applied,
}


def _exact(wanted: Any) -> Any:
    if isinstance(wanted, Mapping):
        return {name: _exact(value) for name, value in wanted.items()}
    if isinstance(wanted, list):
        return [_exact(value) for value in wanted]
    return Decimal(wanted) if isinstance(wanted, int | Decimal) and not isinstance(wanted, bool) else wanted


def test_every_scenario_of_sylius_comes_out_to_the_cent(shared: Path) -> None:
    text = (shared / "data/pricing_vectors/promotions_sylius.json").read_text()
    cases = json.loads(text, parse_float=Decimal)["cases"]
    assert cases
    wrong = []
    for case in cases:
        try:
            promotions, cart = promotions_of(case), cart_of(case)
        except UnheardOfError as error:
            wrong.append(f"{case['id']}: {error}: nobody has said what that means")
            continue
        outcome = promote(cart, promotions)
        known = {promotion.id: promotion for promotion in promotions}
        for what, wanted in case["expect"].items():
            got = _ANSWERS[what](case, outcome, known, wanted) if what in _ANSWERS else "nobody knows"
            if got != _exact(wanted):
                wrong.append(f"{case['id']} {what}: {wanted} expected, got {got}; {outcome.steps}")
    assert not wrong, "\n".join(wrong)


_MUG: Case = {"products": {"Mug": {"price": 20, "taxons": ["Mugs"]}}, "cart": [{"product": "Mug", "qty": 2}]}


@pytest.mark.parametrize(
    ("case", "promotion", "total"),
    [
        ({"shipping_fee": 10}, {"actions": [{"type": "shipping_fixed", "amount": 4}]}, "46"),
        ({"shipping_fee": 10}, {"actions": [{"type": "shipping_fixed_discount", "amount": 14}]}, "40"),
        ({"shipping_fee": 10}, {"actions": [{"type": "free_shipping"}]}, "40"),
        ({}, {"rules": [{"type": "contains_products", "products": ["Mug", "Cap"]}]}, "30"),
        ({}, {"rules": [{"type": "contains_product", "product": "Cap"}]}, "40"),
        ({"country": "KG"}, {"rules": [{"type": "shipping_country", "country": "KG"}]}, "30"),
        ({"shipping_country": "UA"}, {"rules": [{"type": "country", "countries": ["KG"]}]}, "40"),
        ({}, {"rules": [{"type": "order_total_min", "value": 40}]}, "30"),
        ({}, {"rules": [{"type": "order_total_min", "value": 40.01}]}, "40"),
        ({"coupon_entered": "santa"}, {"coupon": "SANTA"}, "30"),
        ({"coupon_entered": "A"}, {"coupon": "A", "coupon_usage_limit": 2, "coupon_uses": 2}, "40"),
        ({"coupon_entered": "A"}, {"coupon": "A", "coupon_usage_limit": 2, "coupon_used": 1}, "30"),
        (
            {"coupon_entered": "A", "coupon_customer_uses": 1},
            {"coupon": "A", "coupon_usage_limit": 9, "coupon_uses": 3, "coupon_per_customer_usage_limit": 2},
            "30",
        ),
        ({"coupon_entered": "A"}, {"coupon": "A", "coupon_customer_usage_limit": 2, "coupon_customer_used": 2}, "40"),
        ({"coupon_entered": "A"}, {"coupon": "A", "coupon_expires": "yesterday"}, "40"),
        ({"channel": "US"}, {"channels": ["EU"]}, "40"),
        ({}, {"code": "p", "active": True, "expired": False, "until": "tomorrow"}, "30"),
        ({}, {"expired": True}, "40"),
        ({}, {"until": "yesterday"}, "40"),
        ({}, {"usage_limit_reached": True}, "40"),
        ({}, {"archived": True}, "40"),
        ({}, {"active": False}, "40"),
    ],
    ids=str,
)
def test_scenarios_may_say_the_same_in_other_words(case: Case, promotion: Case, total: str) -> None:
    named = {"name": "p", "actions": [{"type": "order_fixed", "amount": 10}], **promotion}
    told = {**_MUG, **case, "promotions": [named]}
    assert sum((p.amount for p in promote(cart_of(told), promotions_of(told)).lines), ZERO) == Decimal(total)


@pytest.mark.parametrize(
    "scope", [None, "all", {"all": True}, [{"product": "Cap"}, {"taxon": "Mugs"}], {"variant_any_of": ["Mug"]}], ids=str
)
def test_a_catalog_promotion_may_be_for_several_things_or_all(scope: Any) -> None:
    told = {**_MUG, "catalog_promotions": [{"name": "p", "percent": 50, "applies_to": scope}]}
    assert after(promote(cart_of(told), promotions_of(told))) == ["20.00"]


@pytest.mark.parametrize(
    "promotion",
    [
        {"moon": "full"},
        {"rules": [{"type": "weather"}]},
        {"rules": [{"type": "contains_taxon", "none_of": ["Mugs"]}]},
        {"actions": [{"type": "unit_bogof"}]},
        {"actions": [{"type": "unit_fixed", "amount": 1, "filter": {"colour": "red"}}]},
    ],
    ids=str,
)
def test_what_a_scenario_says_in_unknown_words_fails(promotion: Case) -> None:
    with pytest.raises(UnheardOfError):
        promotions_of({**_MUG, "promotions": [{"name": "p", **promotion}]})


# --- rules and actions, one by one -----------------------------------------------------------------------------------


def bought(*lines: Line, **more: Any) -> Cart:
    return Cart(lines, NOW, **more)


def a_line(id: str, amount: str, quantity: int = 1, **more: Any) -> Line:
    """`amount` for all of them."""
    return Line(id, more.pop("item", id), quantity, Decimal(amount), **more)


def granting(id: str, *actions: Action, priority: int = 0, rule: Rule = Rule(), **more: Any) -> Promotion:  # noqa: B008
    return Promotion(id, id, priority, (Pattern(rule, actions),), **more)


def off_order(percent: int | None = None, amount: str | None = None, **more: Any) -> Action:
    return _off(Off.ORDER, percent, amount, more)


def off_unit(percent: int | None = None, amount: str | None = None, **more: Any) -> Action:
    return _off(Off.UNIT, percent, amount, more)


def _off(off: Off, percent: int | None, amount: str | None, more: dict[str, Any]) -> Action:
    floor = Decimal(more.pop("floor", "0"))
    return Action(
        off,
        None if percent is None else Decimal(percent),
        None if amount is None else Decimal(amount),
        Filter(**more),
        floor,
    )


def after(outcome: Outcome) -> list[str]:
    return [f"{promoted.amount:f}" for promoted in outcome.lines]


def reasons(outcome: Outcome) -> dict[str, str]:
    return {step.rule: step.reason or "" for step in outcome.steps if step.action == "PROMOTION_REJECTED"}


@pytest.mark.parametrize(
    ("condition", "held"),
    [
        (Condition(Fact.QUANTITY, ">=", "5"), True),
        (Condition(Fact.QUANTITY, ">", "5"), False),
        (Condition(Fact.TOTAL, "<=", "70"), True),
        (Condition(Fact.TOTAL, "<", "70"), False),
        (Condition(Fact.TOTAL, "<>", "70.00"), False),
        (Condition(Fact.PRODUCT, "=", "modem"), True),
        (Condition(Fact.PRODUCT, "<>", "modem"), False),
        (Condition(Fact.CATEGORY, "=", "tv"), True),
        (Condition(Fact.CATEGORY, "=", "voice"), False),
        (Condition(Fact.CATEGORY_TOTAL, ">=", "30", "tv"), True),
        (Condition(Fact.CATEGORY_TOTAL, ">=", "30.01", "tv"), False),
        (Condition(Fact.SEGMENT, "=", "retail"), True),
        (Condition(Fact.SEGMENT, "<>", "wholesale"), True),
        (Condition(Fact.ORDER_NUMBER, "=", "3"), True),
        (Condition(Fact.ORDER_NUMBER, "=", "2"), False),
        (Condition(Fact.PLACE, "=", "KG"), True),
        (Condition(Fact.CHANNEL, "=", "web"), True),
        (Condition(Fact.BRANCH, "=", "osh"), False),
        (Condition(Fact.AGREEMENT, "=", "frame-1"), True),
    ],
    ids=str,
)
def test_a_condition_holds_or_says_why_not(condition: Condition, held: bool) -> None:
    cart = bought(
        a_line("modem", "40", 2, products=frozenset({"modem"})),
        a_line("films", "20", 3, item="tv", categories=frozenset({"tv"})),
        # A second charge of the same item: its things count once, its amount too.
        a_line("films connection", "10", 3, item="tv", categories=frozenset({"tv"})),
        a_line("courier", "9", delivery=True),
        segments=frozenset({"retail"}),
        orders_before=2,
        places=frozenset({"bishkek", "KG"}),
        channel="web",
        branch="bishkek",
        agreement="frame-1",
    )
    outcome = promote(cart, [granting("p", off_order(10), rule=Rule((condition,)))])
    assert (outcome.applied == ["p"]) is held
    if not held:
        assert reasons(outcome)["p"].startswith(f"p: {condition} doesn't hold")


def test_what_isnt_known_of_the_customer_is_no_reason_to_grant_anything() -> None:
    for operator in ("=", "<>", "<", ">="):
        rule = Rule((Condition(Fact.ORDER_NUMBER, operator, "1"),))
        outcome = promote(bought(a_line("a", "10")), [granting("p", off_order(10), rule=rule)])
        assert not outcome.applied
        assert "unknown" in reasons(outcome)["p"]


def test_conditions_are_joined_as_the_rule_says() -> None:
    yes, no = Condition(Fact.QUANTITY, ">=", "1"), Condition(Fact.QUANTITY, ">=", "2")
    joined = {
        Rule((yes, no)): False,
        Rule((yes, no), True): True,
        Rule((Rule((no, no), True), yes)): False,
        Rule(): True,
    }
    for rule, held in joined.items():
        outcome = promote(bought(a_line("a", "10")), [granting("p", off_order(10), rule=rule)])
        assert bool(outcome.applied) is held, rule


def test_each_promotion_is_judged_by_what_those_before_it_left() -> None:
    over = Rule((Condition(Fact.TOTAL, ">=", "100"),))
    free = granting("free", Action(Off.DELIVERY, Decimal(100)), rule=over, priority=2)
    half = granting("half", off_order(50), priority=1)
    cart = bought(a_line("a", "120"), a_line("d", "10", delivery=True))
    assert after(promote(cart, [free, half])) == ["60.00", "10"]
    assert after(promote(cart, [free, replace(half, priority=3)])) == ["60.00", "0.00"]


def test_an_exclusive_promotion_wins_alone_even_if_it_takes_nothing_off() -> None:
    first, alone = (
        granting("first", off_order(10), priority=1),
        granting("alone", off_order(20), priority=2, exclusive=True),
    )
    cart = bought(a_line("a", "100"))
    outcome = promote(cart, [first, alone])
    assert (after(outcome), outcome.applied) == (["80.00"], ["alone"])
    assert reasons(outcome) == {"first": "first: alone is exclusive"}
    idle = replace(alone, patterns=(Pattern(Rule(), (off_unit(20, products=frozenset({"other"})),)),))
    outcome = promote(cart, [first, idle])
    assert (after(outcome), outcome.applied) == (["100"], [])
    assert reasons(outcome) == {
        "first": "first: alone is exclusive",
        "alone": "alone: nothing that it is for can be lowered",
    }
    unmet = replace(alone, patterns=(Pattern(Rule((Condition(Fact.QUANTITY, ">", "5"),)), (off_order(20),)),))
    assert promote(cart, [first, unmet]).applied == ["first"]


def test_of_an_exclusion_group_the_first_that_applies_is_the_only_one() -> None:
    one, two, other = (
        granting(name, off_order(amount="1"), priority=k) for k, name in enumerate(("one", "two", "other"))
    )
    grouped = [replace(one, exclusion_group="g"), replace(two, exclusion_group="g"), other]
    outcome = promote(bought(a_line("a", "10")), grouped)
    assert outcome.applied == ["one", "other"]
    assert reasons(outcome) == {"two": "two: one excludes it"}


def test_a_group_holds_for_list_prices_line_by_line_and_for_the_cart_as_a_whole() -> None:
    def grouped(name: str, priority: int, *actions: Action, on_list: bool = True, **more: Any) -> Promotion:
        return granting(name, *actions, priority=priority, exclusion_group="g", on_list_price=on_list, **more)

    cart = bought(a_line("a", "100", products=frozenset("a")), a_line("b", "100", products=frozenset("b")))
    ten, twenty = grouped("ten", 1, off_unit(10, products=frozenset("a"))), grouped("twenty", 2, off_unit(20))
    outcome = promote(cart, [ten, twenty])
    assert (after(outcome), outcome.applied) == (["90.00", "80.00"], ["ten", "twenty"])
    assert [(s.subject, s.reason) for s in outcome.steps if s.action == "PROMOTION_REJECTED"] == [
        ("a", "twenty: ten excludes it")
    ]
    for exclusive in (False, True):
        later = grouped("later", 0, off_order(50), on_list=False, exclusive=exclusive)
        outcome = promote(cart, [ten, later])
        assert (after(outcome), reasons(outcome)) == (["90.00", "100"], {"later": "later: ten excludes it"})


def test_percentages_of_units_reckon_from_the_price_before() -> None:
    twice = [granting("a", off_unit(10), priority=1), granting("b", off_unit(10), priority=2)]
    assert after(promote(bought(a_line("x", "200", 2)), twice)) == ["160.00"]
    three = [*twice, granting("c", off_unit(90), priority=3)]
    assert after(promote(bought(a_line("x", "200", 2)), three)) == ["0.00"]


def test_a_unit_is_rounded_by_itself_and_a_basket_as_a_whole() -> None:
    cart = bought(a_line("x", "1.50", 3))
    assert after(promote(cart, [granting("p", off_unit(15))])) == ["1.26"]
    assert after(promote(cart, [granting("p", off_order(15))])) == ["1.27"]
    yen = bought(a_line("x", "333", 3, currency="JPY"))
    assert after(promote(yen, [granting("p", off_unit(15))])) == ["282"]


def test_a_basket_is_split_over_its_units_however_many_there_are() -> None:
    cart = bought(a_line("a", "60", 3), a_line("b", "15", 3))
    assert after(promote(cart, [granting("p", off_order(amount="10"))])) == ["51.99", "13.01"]
    many = bought(a_line("a", "60000000", 3_000_000), a_line("b", "15000000", 3_000_000))
    outcome = promote(many, [granting("p", off_order(amount="10000000.01"))])
    assert after(outcome) == ["51990000.00", "13009999.99"]


def test_a_price_finer_than_a_cent_is_reckoned_by_the_line() -> None:
    messages = bought(a_line("sms", "6.70", 1000))
    for on_list in (True, False):
        ten = granting("p", off_unit(10), on_list_price=on_list)
        assert after(promote(messages, [ten])) == ["6.03"]
        cent = granting("p", off_unit(amount="0.01"), on_list_price=on_list)
        assert after(promote(messages, [cent])) == ["0.00"]
    little = promote(bought(a_line("sms", "0.01", 3)), [granting("p", off_unit(1), on_list_price=True)])
    assert (after(little), little.applied) == (["0.01"], [])
    floor = granting("p", off_unit(10, floor="0.0065"), on_list_price=True)
    assert after(promote(messages, [floor])) == ["6.50"]


@pytest.mark.parametrize(
    ("action", "currency", "left"),
    [
        (off_order(amount="10.005"), "KGS", "90.00"),
        (off_order(amount="0.5"), "JPY", "100"),
        (off_unit(amount="0.005"), "KGS", "100"),
        (off_unit(amount="0.5"), "JPY", "100"),
    ],
    ids=str,
)
def test_of_an_amount_that_nobody_can_pay_only_the_whole_is_granted(action: Action, currency: str, left: str) -> None:
    cart = bought(a_line("a", "100", 2, currency=currency))
    for on_list in (False, True) if action.off is Off.UNIT else (False,):
        outcome = promote(cart, [granting("p", action, currency=currency, on_list_price=on_list)])
        assert after(outcome) == [left]
        assert bool(outcome.applied) is (left != "100")


@pytest.mark.parametrize("fact", [Fact.SEGMENT, Fact.PLACE, Fact.CHANNEL, Fact.BRANCH, Fact.AGREEMENT], ids=str)
def test_what_isnt_known_is_no_other_thing_either(fact: Fact) -> None:
    unknown = granting("p", off_order(10), rule=Rule((Condition(fact, "<>", "web"),)))
    outcome = promote(bought(a_line("a", "10")), [unknown])
    assert reasons(outcome) == {"p": f"p: {fact} <> web doesn't hold: it is unknown"}


def test_those_that_are_valid_one_after_the_other_may_have_one_priority() -> None:
    then = TimePeriod(end_date_time=NOW)
    newer = granting("now", off_order(10), valid_for=TimePeriod(start_date_time=NOW))
    outcome = promote(bought(a_line("a", "100")), [newer, granting("then", off_order(20), valid_for=then)])
    assert (after(outcome), outcome.applied) == (["90.00"], ["now"])
    pattern = replace(granting("p", off_order(20)).patterns[0], valid_for=then)
    outcome = promote(bought(a_line("a", "100")), [replace(newer, patterns=(pattern,))])
    assert (after(outcome), reasons(outcome)) == (["100"], {"now": "now: isn't valid at that time"})


def test_charges_of_different_kinds_are_discounted_apart() -> None:
    cart = bought(
        a_line("connection", "100"),
        a_line("internet", "50", kind="recurring", period="month"),
        a_line("tv", "30", kind="recurring", period="month"),
        a_line("domain", "70", kind="recurring", period="year"),
    )
    assert after(promote(cart, [granting("p", off_order(10))])) == ["90.00", "45.00", "27.00", "63.00"]
    monthly = granting("p", off_order(amount="8", kind="recurring", period="month"))
    assert after(promote(cart, [monthly])) == ["100", "45.00", "27.00", "70"]


def test_amounts_are_of_one_currency() -> None:
    cart = bought(a_line("a", "100"), a_line("b", "100", currency="KGS"))
    assert after(promote(cart, [granting("p", off_order(amount="10"), currency="KGS")])) == ["100", "90.00"]
    assert after(promote(cart, [granting("p", off_order(10))])) == ["90.00", "90.00"]


def test_a_floor_of_the_action_holds_beside_that_of_the_line() -> None:
    cart = bought(a_line("a", "100", 2, floor=Decimal(20)), a_line("b", "100", 2, floor=Decimal(45)))
    assert after(promote(cart, [granting("p", off_order(100, floor="30"))])) == ["60.00", "90.00"]


def test_credits_are_left_alone() -> None:
    cart = bought(a_line("a", "100"), a_line("credit", "-40"))
    for action in (off_order(50), off_unit(50), off_unit(amount="30"), off_order(amount="30")):
        assert after(promote(cart, [granting("p", action)]))[1] == "-40"


def test_what_is_discounted_already_can_be_spared() -> None:
    sale = granting("sale", off_unit(25, products=frozenset({"a"})), on_list_price=True)
    cart = bought(a_line("a", "20", products=frozenset({"a"})), a_line("b", "40"), a_line("c", "40", discounted=True))
    for action in (off_unit(50), off_order(50)):
        sparing = granting("sparing", action, priority=1, applies_to_discounted=False)
        outcome = promote(cart, [sale, sparing])
        assert [promoted.amount for promoted in outcome.lines] == [15, 20, 40]


def test_a_coupon_opens_its_own_promotion_only() -> None:
    cart = bought(a_line("a", "10"))
    needing = granting("p", off_order(10), needs_coupon=True)
    assert reasons(promote(cart, [needing])) == {"p": "p: it needs a coupon"}
    for coupon, why in (
        (Coupon("C", "p"), None),
        (Coupon("C", "p", "it is used up"), "it is used up"),
        (Coupon("C", "other"), "its promotion isn't on offer"),
    ):
        outcome = promote(replace(cart, coupons=(coupon,)), [needing])
        assert outcome.coupons == {"C": why}
        assert bool(outcome.applied) is (why is None)
    failing = replace(needing, patterns=(Pattern(Rule((Condition(Fact.QUANTITY, ">", "5"),)), (off_order(10),)),))
    outcome = promote(replace(cart, coupons=(Coupon("C", "p"),)), [failing])
    assert outcome.coupons == {"C": "quantity > 5 doesn't hold: it is 1"}


def test_every_step_that_takes_something_off_is_in_the_receipt() -> None:
    cart = bought(a_line("a", "100"), a_line("b", "50"))
    outcome = promote(cart, [granting("p", off_order(amount="10"), off_unit(10, price_max=Decimal(60)))])
    assert [(s.subject, s.action, s.before, s.after, s.reason) for s in outcome.steps] == [
        ("", "DISCOUNT_SPLIT", None, "10.00 USD", "6.67 + 3.33"),
        ("a", "PROMOTION_APPLIED", "100 USD", "93.33 USD", "p"),
        ("b", "PROMOTION_APPLIED", "50 USD", "46.67 USD", "p"),
        ("b", "PROMOTION_APPLIED", "46.67 USD", "41.67 USD", "p"),
    ]


# --- what must hold whatever the cart --------------------------------------------------------------------------------

CURRENCIES = st.sampled_from(["KGS", "KGS", "JPY", "KWD"])
NAMES = st.frozensets(st.sampled_from("abc"), max_size=2)


@st.composite
def a_cart(draw: st.DrawFn) -> Cart:
    currency = draw(CURRENCIES)
    lines = []
    for i in range(draw(st.integers(1, 6))):
        quantity = draw(st.integers(1, 5))
        lines.append(
            Line(
                id=str(i),
                item=str(i // 2),
                quantity=quantity,
                amount=rounded(draw(st.decimals(-5, 500, places=3)), currency),
                products=draw(NAMES),
                categories=draw(NAMES),
                kind=draw(st.sampled_from(["oneTime", "recurring"])),
                currency=currency,
                floor=rounded(draw(st.decimals(0, 60, places=3)), currency),
                discounted=draw(st.booleans()),
                delivery=draw(st.integers(0, 9)) == 0,
            )
        )
    return bought(*lines, orders_before=draw(st.integers(0, 2)), segments=draw(NAMES))


@st.composite
def an_action(draw: st.DrawFn) -> Action:
    percent = draw(st.booleans())
    off = draw(st.sampled_from(Off))
    return Action(
        off,
        draw(st.decimals(0, 100, places=1)) if percent or off is Off.DELIVERY else None,
        None if percent or off is Off.DELIVERY else Decimal(draw(st.integers(0, 300))),
        Filter(draw(NAMES), draw(NAMES), price_min=draw(st.none() | st.decimals(0, 50, places=0))),
    )


ACTIONS = st.lists(an_action(), max_size=2)
CONDITIONS = st.builds(
    Condition,
    st.sampled_from([Fact.QUANTITY, Fact.TOTAL, Fact.CATEGORY_TOTAL, Fact.ORDER_NUMBER]),
    st.sampled_from([">=", "<", "<>"]),
    st.integers(0, 200).map(str),
    st.sampled_from("abc"),
)


@st.composite
def some_promotions(draw: st.DrawFn) -> list[Promotion]:
    priorities = draw(st.lists(st.integers(-5, 5), unique=True, max_size=5))
    return [
        Promotion(
            id=f"p{i}",
            name=f"p{i}",
            priority=priority,
            patterns=tuple(
                Pattern(
                    Rule(tuple(draw(st.lists(CONDITIONS, max_size=1)))), tuple(draw(st.lists(an_action(), max_size=2)))
                )
                for _ in range(draw(st.integers(1, 2)))
            ),
            exclusive=draw(st.integers(0, 4)) == 0,
            exclusion_group=draw(st.sampled_from(["", "", "g"])),
            applies_to_discounted=draw(st.booleans()),
            on_list_price=draw(st.integers(0, 4)) == 0,
        )
        for i, priority in enumerate(priorities)
    ]


@given(a_cart(), some_promotions(), st.randoms())
def test_the_order_in_which_promotions_are_given_doesnt_matter(
    cart: Cart, promotions: list[Promotion], random: Any
) -> None:
    outcome = promote(cart, promotions)
    random.shuffle(promotions)
    assert promote(cart, promotions) == outcome


@given(a_cart(), some_promotions())
def test_nothing_falls_below_its_floor_and_what_was_taken_off_adds_up(cart: Cart, promotions: list[Promotion]) -> None:
    outcome = promote(cart, promotions)
    for promoted in outcome.lines:
        line = promoted.line
        assert promoted.amount <= max(line.amount, line.floor * line.quantity)
        if promoted.amount != line.amount:
            assert promoted.amount >= line.floor * line.quantity
            units = [line.amount / line.quantity]
            if promoted.unit_price == units[0]:
                assert sum(promoted.unit_cuts(), ZERO) == line.amount - promoted.amount
        assert promoted.amount == line.amount - sum((cut.amount for cut in promoted.cuts), ZERO)
        assert rounded(promoted.amount, line.currency) == promoted.amount
    splits = [step for step in outcome.steps if step.action == "DISCOUNT_SPLIT"]
    for step in splits:
        assert sum(map(Decimal, (step.reason or "").split(" + "))) == Decimal((step.after or "").split()[0])


@given(a_cart(), some_promotions())
def test_an_exclusive_promotion_that_applies_is_the_only_one(cart: Cart, promotions: list[Promotion]) -> None:
    outcome = promote(cart, promotions)
    on_cart = [p for p in promotions if not p.on_list_price and p.id in outcome.applied]
    assert len(on_cart) == 1 or not any(promotion.exclusive for promotion in on_cart)


@given(a_cart(), some_promotions())
def test_two_of_one_priority_are_refused(cart: Cart, promotions: list[Promotion]) -> None:
    for promotion in promotions[:1]:
        with pytest.raises(UnclearOrderError, match="both have the priority"):
            promote(cart, [*promotions, replace(promotion, id="other")])


PARTS = st.lists(st.tuples(st.integers(0, 999), st.integers(1, 9), st.integers(0, 999)), max_size=6)


@given(st.integers(0, 10_000), PARTS)
def test_what_is_spread_is_the_total_or_all_there_is_room_for(total: int, parts: list[tuple[int, int, int]]) -> None:
    over = [Share(weight * CENT, quantity, room * CENT) for weight, quantity, room in parts]
    shares = spread(total * CENT, over, CENT)
    assert sum(shares, ZERO) == min(total * CENT, sum((part.room for part in over if part.weight), ZERO))
    assert all(ZERO <= share <= part.room for share, part in zip(shares, over, strict=True))


@given(st.integers(0, 10_000), PARTS)
def test_units_bear_what_each_would_if_it_were_split_over_all_of_them(
    total: int, parts: list[tuple[int, int, int]]
) -> None:
    # Without a limit to what they bear: the largest remainder over the list of all units.
    over = [Share(weight * quantity * CENT, quantity, Decimal(10**6)) for weight, quantity, _ in parts if weight]
    each = [part.weight / part.quantity for part in over for _ in range(part.quantity)]
    units = split(total * CENT, each, CENT) if over else []
    wanted = [sum((units.pop(0) for _ in range(part.quantity)), ZERO) for part in over]
    assert spread(total * CENT, over, CENT) == wanted
