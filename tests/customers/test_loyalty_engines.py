"""What an event earns and which tier that makes, by the pure engines; each decision is taken again from its receipt."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.receipts import Receipt
from chassis.types import Money, TimePeriod
from customers.loyalty import tiers
from customers.loyalty.cards import ClubCard, check_digit, new_number, normal_number
from customers.loyalty.earning import Grant, MemberFacts, earn, replay
from customers.loyalty.rules import EarnRule, LoyaltyTerms
from customers.loyalty.tiers import Standing, TierReason
from customers.loyalty.values import (
    ClubCardState,
    EarnRuleState,
    LotTerms,
    LoyaltyEvent,
    LoyaltyTier,
    PointsCap,
    PointsCapPeriod,
    PointsFormula,
    PointsRounding,
    Rule,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ANYBODY = MemberFacts(id="m")


def a_rule(id: str, *, rate: str = "1", per: str = "1", condition: str = "", **more: Any) -> Rule:
    formula = PointsFormula(basis="amount", rate=Decimal(rate), per=Decimal(per))
    given = {"code": id, "version": 1, "event_type": "paid", "formula": formula, **more}
    return Rule(id=id, condition=condition, **given)


def paid(facts: str = '{"amount": 120.50, "currency": "KGS"}', type: str = "paid") -> LoyaltyEvent:
    return LoyaltyEvent(id="e", type=type, at=NOW, facts=facts)


def earned(*rules: Rule, event: LoyaltyEvent | None = None, member: MemberFacts = ANYBODY) -> tuple[Any, Receipt]:
    """Rule → points, after the receipt has given the same again."""
    granted, receipt = earn(rules, event or paid(), member)
    again: tuple[tuple[Grant, ...], Receipt] = replay(receipt)
    assert again == (granted, receipt)
    return {grant.rule.id: grant.points for grant in granted}, receipt


def why(receipt: Receipt) -> dict[str, str | None]:
    return {step.rule: step.reason for step in receipt.step if step.action == "RULE_REJECTED"}


def formula(**more: Any) -> PointsFormula:
    values: dict[str, Any] = {"basis": "amount", "rate": Decimal(1), **more}
    return PointsFormula(**values)


@pytest.mark.parametrize(
    ("of", "points"),
    [
        (formula(), "120"),
        (formula(rounding=PointsRounding.UP), "121"),
        (formula(rounding=PointsRounding.HALF_UP), "121"),
        (formula(scale=1), "120.5"),
        (formula(per=Decimal(50), rate=Decimal(3)), "7"),
        (formula(per=Decimal(50), rate=Decimal(3), whole=True), "6"),
        (formula(fixed=Decimal(10), rate=Decimal("0.1"), scale=2), "22.05"),
        (formula(maximum=Decimal(100)), "100"),
        (formula(tier_multiplied=True), "180"),
        (PointsFormula(fixed=Decimal(5)), "5"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_points_are_reckoned_in_decimals_and_rounded_as_the_rule_says(of: PointsFormula, points: str) -> None:
    gold = MemberFacts(id="m", tier="gold", multiplier=Decimal("1.5"))
    found, _ = earned(a_rule("r", formula=of), member=gold)
    assert found == {"r": Decimal(points)}


def test_a_condition_decides_and_the_receipt_says_how() -> None:
    rules = (
        a_rule("met", condition="event.amount >= 120.50 && member.tier == 'gold'"),
        a_rule("unmet", condition="event.amount > 120.50"),
        a_rule("unknown", condition="event.missing == 1"),
        a_rule("silly", condition="event.amount + 'x' == 'y'"),
        a_rule("no truth", condition="event.amount"),
        a_rule("other", event_type="born"),
        a_rule("over", valid_for=TimePeriod(end_date_time=NOW)),
        a_rule("basis", formula=formula(basis="weight")),
    )
    found, receipt = earned(*rules, member=MemberFacts(id="m", tier="gold"))
    assert found == {"met": 120}
    assert why(receipt) == {
        "unmet": "CONDITION_NOT_MET",
        "unknown": "CONDITION_FAILED",
        "silly": "CONDITION_FAILED",
        "no truth": "CONDITION_NOT_MET",
        "other": "OTHER_EVENT",
        "over": "NOT_VALID",
        "basis": "NO_BASIS",
    }


def test_caps_count_what_the_rule_has_earned_in_all_its_versions() -> None:
    caps = (
        PointsCap(period=PointsCapPeriod.DAY, points=Decimal(100)),
        PointsCap(period=PointsCapPeriod.MONTH, points=Decimal(150)),
    )
    used = {"r": {PointsCapPeriod.DAY: Decimal(0), PointsCapPeriod.MONTH: Decimal(90)}}
    found, receipt = earned(a_rule("r", cap=caps), member=MemberFacts(id="m", used=used))
    assert found == {"r": 60}
    assert [step.reason for step in receipt.step if step.action == "CAPPED"] == ["CAP_DAY", "CAP_MONTH"]
    spent = {"r": {PointsCapPeriod.DAY: Decimal(100), PointsCapPeriod.MONTH: Decimal(200)}}
    found, receipt = earned(a_rule("r", cap=caps), member=MemberFacts(id="m", used=spent))
    assert (found, why(receipt)) == ({}, {"r": "NOTHING_TO_EARN"})


def test_an_exclusive_rule_earns_alone_and_a_group_once() -> None:
    groups = (a_rule("b", exclusion_group="g", priority=2), a_rule("a", exclusion_group="g", priority=1), a_rule("c"))
    found, receipt = earned(*groups)
    assert (set(found), why(receipt)) == ({"a", "c"}, {"b": "GROUP_TAKEN"})
    found, receipt = earned(*groups, a_rule("x", exclusive=True, priority=9))
    assert (set(found), set(why(receipt))) == ({"x"}, {"a", "b", "c"})
    # One that earns nothing excludes nobody.
    found, _ = earned(*groups, a_rule("x", exclusive=True, condition="false"))
    assert set(found) == {"a", "c"}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.decimals("0", "20", places=3), st.integers(0, 3), st.booleans(), st.sampled_from(["", "g", "h"])),
        max_size=5,
    ),
    st.decimals("-10", "100000", places=2),
)
def test_whatever_the_rules_the_receipt_gives_the_same_again(
    rules: list[tuple[Decimal, int, bool, str]], amount: Decimal
) -> None:
    made = [
        a_rule(f"r{i}", rate=f"{rate:f}", priority=priority, exclusive=exclusive, exclusion_group=group)
        for i, (rate, priority, exclusive, group) in enumerate(rules)
    ]
    found, _ = earned(*made, event=paid(f'{{"amount": {amount:f}}}'))
    assert all(points > 0 for points in found.values())
    assert earned(*reversed(made), event=paid(f'{{"amount": {amount:f}}}'))[0] == found


def test_facts_are_an_object_and_numbers_that_nobody_pays_are_none() -> None:
    for facts in ("[1]", "{", '"x"'):
        with pytest.raises(InvalidArgument, match="JSON object"):
            earn((a_rule("r"),), paid(facts), ANYBODY)
    with pytest.raises(InvalidArgument) as refused:
        earn((a_rule("r"),), paid('{"x": "' + "y" * 20_000 + '"}'), ANYBODY)
    assert refused.value.reason == "TOO_MANY_FACTS"
    for amount in ("true", '"12"', "null", "1e30", "-5"):
        assert earned(a_rule("r"), event=paid(f'{{"amount": {amount}}}'))[0] == {}


# --- rules and terms -------------------------------------------------------------------------------------------------


def a_draft(**more: Any) -> EarnRule:
    values: dict[str, Any] = {
        "program_id": "p", "code": "c", "event_type": "paid", "formula": formula(), "condition": "event.amount > 1.0",
        **more,
    }  # fmt: skip
    return EarnRule(id="r", branch="b", **values)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"condition": "event.amount >"}, "condition"),
        ({"condition": "amount > 1"}, "condition"),
        ({"event_type": ""}, "event_type"),
        ({"formula": PointsFormula()}, "formula"),
        ({"formula": formula(rate=None)}, "formula.rate"),
        ({"formula": formula(per=Decimal(0))}, "formula.per"),
        ({"cap": (PointsCap(period=PointsCapPeriod.DAY, points=Decimal(0)),)}, "cap[0]"),
        ({"reason": "because of you"}, "reason"),
    ],
    ids=str,
)
def test_a_rule_that_could_never_earn_is_refused_with_its_field(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        a_draft(**wrong).check(NOW)
    assert field in [violation.field for violation in refused.value.violations]


def test_a_rule_that_has_been_active_changes_no_more() -> None:
    rule = a_draft()
    rule.check(NOW)
    rule.revise({"condition": None, "state": EarnRuleState.ACTIVE}, NOW)
    with pytest.raises(FailedPrecondition) as refused:
        rule.revise({"priority": 2}, NOW)
    assert refused.value.reason == "NOT_A_DRAFT"
    rule.revise({"state": EarnRuleState.RETIRED}, NOW)
    with pytest.raises(FailedPrecondition):
        rule.revise({"state": EarnRuleState.ACTIVE}, NOW)


@pytest.mark.parametrize(
    ("points", "amount", "reason"),
    [
        ("99", Money(unit="KGS", value=Decimal(1000)), "BELOW_MINIMUM"),
        ("110", Money(unit="KGS", value=Decimal(1000)), "NOT_A_STEP"),
        ("150", Money(unit="KGS", value=Decimal(149)), "ABOVE_MAXIMUM"),
        ("150", None, "AMOUNT_REQUIRED"),
        ("150", Money(unit="UAH", value=Decimal(1000)), "OTHER_CURRENCY"),
        ("0", Money(unit="KGS", value=Decimal(1000)), "NOT_POSITIVE"),
        ("150.5", Money(unit="KGS", value=Decimal(1000)), "TOO_FINE"),
        ("150", Money(unit="KGS", value=Decimal(150)), ""),
    ],
)
def test_points_are_spent_as_the_terms_allow(points: str, amount: Money | None, reason: str) -> None:
    terms = LoyaltyTerms(
        id="t", branch="b", program_id="p", minimum_burn=Decimal(100), burn_step=Decimal(50),
        point_value=Money(unit="KGS", value=Decimal("0.5")), maximum_percentage=Decimal(50),
    )  # fmt: skip
    terms.check(NOW)
    if not reason:
        terms.check_burn(Decimal(points), amount)
        assert terms.value_of(Decimal(points)) == Money(unit="KGS", value=Decimal(75))
        return
    with pytest.raises(InvalidArgument) as refused:
        terms.check_burn(Decimal(points), amount)
    assert refused.value.reason == reason


def test_months_that_no_calendar_has_are_refused() -> None:
    wrong: tuple[dict[str, Any], ...] = ({"tier_period_months": 30_000}, {"lot": LotTerms(validity_months=30_000)})
    for values in wrong:
        with pytest.raises(InvalidArgument):
            LoyaltyTerms(id="t", branch="b", program_id="p", **values).check(NOW)


# --- tiers -----------------------------------------------------------------------------------------------------------

LADDER = (
    LoyaltyTier(code="gold", threshold=Decimal(1000), multiplier=Decimal(2)),
    LoyaltyTier(code="basic", threshold=Decimal(0)),
    LoyaltyTier(code="silver", threshold=Decimal(300)),
)


def decided(standing: Standing, amount: int, at: datetime = NOW, grace: int = 10) -> tuple[Standing, TierReason | None]:
    decision = tiers.decide(
        LADDER, standing, Decimal(amount), at, next_review=at + 365 * DAY, next_grace=at + grace * DAY
    )
    assert tiers.replay(decision.receipt) == decision
    return decision.standing, decision.reason


def test_up_at_once_and_down_only_after_review_and_grace() -> None:
    basic, reason = decided(Standing(), 0)
    assert (basic.tier, reason) == ("basic", TierReason.QUALIFIED)
    gold, reason = decided(basic, 1000)
    assert (gold, reason) == (Standing(tier="gold", review_at=NOW + 365 * DAY), TierReason.QUALIFIED)
    assert decided(gold, 0, NOW + 364 * DAY) == (gold, None)
    review = NOW + 365 * DAY
    graced, reason = decided(gold, 300, review)
    assert (graced.tier, graced.grace_until, reason) == ("gold", review + 10 * DAY, TierReason.GRACE)
    assert decided(graced, 300, review + 9 * DAY) == (graced, None)
    silver, reason = decided(graced, 300, review + 10 * DAY)
    assert (silver.tier, silver.grace_until, reason) == ("silver", None, TierReason.NOT_QUALIFIED)
    # Earning enough meanwhile ends the grace; so does confirming at the review.
    assert decided(graced, 1000, review + DAY)[0] == Standing(tier="gold", review_at=review + 366 * DAY)
    assert decided(gold, 1500, review)[1] is TierReason.CONFIRMED
    assert decided(gold, 300, review, grace=0)[0].tier == "silver"


def test_a_tier_that_the_terms_have_no_more_is_none() -> None:
    assert decided(Standing(tier="platinum", review_at=NOW + DAY), 300)[0].tier == "silver"


# --- cards -----------------------------------------------------------------------------------------------------------


def test_a_number_with_one_wrong_or_two_swapped_digits_is_refused() -> None:
    # https://en.wikipedia.org/wiki/Luhn_algorithm
    assert check_digit("1789372997") == "4"
    number = new_number()
    assert normal_number(f"{number[:4]} {number[4:8]}-{number[8:]}") == number
    for place in range(13):
        wrong = number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :]
        with pytest.raises(InvalidArgument):
            normal_number(wrong)


def test_a_card_that_was_replaced_stays_so() -> None:
    card = ClubCard(id="1", branch="b", member_id="m", number=new_number(), state=ClubCardState.ISSUED)
    card.move(ClubCardState.ACTIVE, "")
    card.move(ClubCardState.BLOCKED, "LOST")
    card.replace(ClubCard(id="2", branch="b", number=new_number()), "LOST")
    for wanted in (ClubCardState.ACTIVE, ClubCardState.BLOCKED):
        with pytest.raises(FailedPrecondition):
            card.move(wanted, "")


def test_a_receipt_of_another_revision_isnt_replayed() -> None:
    _, receipt = earned(a_rule("r"))
    for engine in (replay, tiers.replay):
        with pytest.raises(InvalidArgument, match="revision 0"):
            engine(replace(receipt, revision="0"))
