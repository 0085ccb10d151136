"""What an event earns a member, and why. Pure, and replayable from its receipt.

Rules are looked at in the order of their priority. One earns when the event is of its type, it is valid then, and its
condition (https://cel.dev) holds. The first exclusive rule that earns anything earns alone; of the rules of one
exclusion group only the first that earns anything does. Amounts are decimals; a condition sees numbers with a fraction
as floating-point numbers, which compare exactly with literals of up to 15 digits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any

import cel
import msgspec

from chassis.errors import InvalidArgument, Violation
from chassis.receipts import Receipt, ReceiptStep
from customers.loyalty.values import LoyaltyEvent, PointsCap, PointsCapPeriod, PointsRounding, Rule

ENGINE, REVISION = "loyalty.earning", "1"
ZERO, ONE = Decimal(0), Decimal(1)
# What anybody can afford to compute; far above what anybody earns.
MAX_POINTS = Decimal(10) ** 15
MAX_CONDITION = 2_000
# A condition may look at each of them, and at each for each: so few that this takes no time.
MAX_FACTS = 16_384

_ROUNDING = {
    PointsRounding.DOWN: ROUND_DOWN,
    PointsRounding.HALF_UP: ROUND_HALF_UP,
    PointsRounding.UP: ROUND_CEILING,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberFacts:
    """What rules may know about the member: `used` is what the rules that have caps (by their codes) have earned him in
    each of the caps' periods, as `used[code][period]`."""

    id: str
    tier: str = ""
    multiplier: Decimal = ONE
    used: Mapping[str, Mapping[PointsCapPeriod, Decimal]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """So many points by a rule."""

    rule: Rule
    points: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inputs:
    rules: tuple[Rule, ...]
    event: LoyaltyEvent
    member: MemberFacts


def earn(rules: Sequence[Rule], event: LoyaltyEvent, member: MemberFacts) -> tuple[tuple[Grant, ...], Receipt]:
    """The points that each rule grants for the event, and the receipt."""
    ordered = sorted(rules, key=lambda rule: (rule.priority, rule.code, rule.id))
    facts = parse_facts(event.facts)
    steps: list[ReceiptStep] = []
    possible = [
        Grant(rule=rule, points=points)
        for rule in ordered
        if (points := _points(rule, event, facts, member, steps)) > 0
    ]
    granted = tuple(_chosen(possible, steps))
    steps.extend(
        ReceiptStep(subject=event.id, action="POINTS_EARNED", rule=grant.rule.id, after=f"{grant.points:f}")
        for grant in granted
    )
    inputs = _ENCODER.encode(_Inputs(rules=tuple(ordered), event=event, member=member)).decode()
    return granted, Receipt(engine=ENGINE, revision=REVISION, inputs=inputs, step=tuple(steps))


def replay(receipt: Receipt) -> tuple[tuple[Grant, ...], Receipt]:
    """The same again, from a receipt. Raises InvalidArgument UNKNOWN_ENGINE."""
    if (receipt.engine, receipt.revision) != (ENGINE, REVISION):
        raise InvalidArgument("UNKNOWN_ENGINE", f"no engine {receipt.engine} of revision {receipt.revision}")
    inputs = _DECODER.decode(receipt.inputs)
    return earn(inputs.rules, inputs.event, inputs.member)


def parse_facts(text: str) -> Mapping[str, Any]:
    """The facts of an event, their numbers as decimals. Raises InvalidArgument MALFORMED_FACTS, TOO_MANY_FACTS."""
    if len(text) > MAX_FACTS:
        wrong = Violation("facts", f"more than {MAX_FACTS} characters")
        raise InvalidArgument("TOO_MANY_FACTS", wrong.description, violations=[wrong])
    try:
        facts = _FACTS.decode(text or "{}")
    except msgspec.DecodeError as error:
        raise InvalidArgument(
            "MALFORMED_FACTS", "facts are a JSON object", violations=[Violation("facts", str(error))]
        ) from error
    found: Mapping[str, Any] = facts
    return found


def check_condition(text: str, field: str = "condition") -> list[Violation]:
    """What is wrong with a condition."""
    if not text:
        return []
    if len(text) > MAX_CONDITION:
        return [Violation(field, f"at most {MAX_CONDITION} characters")]
    try:
        variables = set(_program(text).variables())
    except ValueError as error:
        return [Violation(field, str(error).splitlines()[0])]
    unknown = sorted(variables - {"event", "member"})
    return [Violation(field, f"only event and member are known, not {name}") for name in unknown]


_ENCODER = msgspec.json.Encoder(decimal_format="string", order="deterministic")
_DECODER = msgspec.json.Decoder(_Inputs)
_FACTS = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


@lru_cache(maxsize=1024)
def _program(text: str) -> Any:
    return cel.compile(text)


def _points(
    rule: Rule, event: LoyaltyEvent, facts: Mapping[str, Any], member: MemberFacts, steps: list[ReceiptStep]
) -> Decimal:
    obstacle = _obstacle(rule, event, facts, member)
    if obstacle is not None:
        reason, words = obstacle
        steps.append(
            ReceiptStep(subject=event.id, action="RULE_REJECTED", rule=rule.id, reason=reason, after=words or None)
        )
        return ZERO
    formula, points = rule.formula, rule.formula.fixed or ZERO
    if formula.basis:
        basis = number_of(facts.get(formula.basis)) or ZERO
        units = basis / (formula.per or ONE)
        if formula.whole:
            units = units.to_integral_value(ROUND_DOWN)
        points += units * (formula.rate or ZERO)
    if formula.tier_multiplied and member.multiplier != 1:
        before, points = points, points * member.multiplier
        steps.append(_step(event, "MULTIPLIED", rule, before, points, member.tier))
    rounded = points.quantize(ONE.scaleb(-(formula.scale or 0)), _ROUNDING[formula.rounding or PointsRounding.DOWN])
    if rounded != points:
        steps.append(_step(event, "ROUNDED", rule, points, rounded, None))
    return _capped(rule, max(rounded, ZERO), event, member, steps)


def _capped(rule: Rule, points: Decimal, event: LoyaltyEvent, member: MemberFacts, steps: list[ReceiptStep]) -> Decimal:
    limits = [(MAX_POINTS, "LIMIT"), (rule.formula.maximum, "MAXIMUM")]
    used = member.used.get(rule.code, {})
    for cap in rule.cap:
        period, most = _cap(cap)
        limits.append((max(ZERO, most - used.get(period, ZERO)), f"CAP_{period.name}"))
    for limit, name in limits:
        if limit is not None and points > limit:
            steps.append(_step(event, "CAPPED", rule, points, limit, name))
            points = limit
    if points == 0:
        steps.append(ReceiptStep(subject=event.id, action="RULE_REJECTED", rule=rule.id, reason="NOTHING_TO_EARN"))
    return points


def _cap(cap: PointsCap) -> tuple[PointsCapPeriod, Decimal]:
    assert cap.period is not None
    assert cap.points is not None
    return cap.period, cap.points


def _obstacle(rule: Rule, event: LoyaltyEvent, facts: Mapping[str, Any], member: MemberFacts) -> tuple[str, str] | None:
    """Why a rule doesn't earn, as a code and words; None: it does."""
    if rule.event_type != event.type:
        return "OTHER_EVENT", ""
    if rule.valid_for is not None and not rule.valid_for.covers(event.at):
        return "NOT_VALID", ""
    if rule.formula.basis and number_of(facts.get(rule.formula.basis)) is None:
        return "NO_BASIS", rule.formula.basis
    if not rule.condition:
        return None
    try:
        holds = _program(rule.condition).execute({"event": _plain(facts), "member": {"tier": member.tier}})
    except (ValueError, TypeError, RuntimeError, LookupError) as error:
        # What a condition asks for and the event doesn't say is no mistake of the event's; the receipt tells.
        return "CONDITION_FAILED", str(error).strip("'").splitlines()[0][:200]
    return None if holds is True else ("CONDITION_NOT_MET", "")


def _chosen(possible: Sequence[Grant], steps: list[ReceiptStep]) -> Sequence[Grant]:
    alone = next((grant for grant in possible if grant.rule.exclusive), None)
    groups: set[str] = set()
    chosen = []
    for grant in possible:
        group = grant.rule.exclusion_group
        if alone is not None and grant is not alone:
            reason = "EXCLUDED"
        elif group and group in groups:
            reason = "GROUP_TAKEN"
        else:
            groups.add(group)
            chosen.append(grant)
            continue
        steps.append(ReceiptStep(subject=grant.rule.code, action="RULE_REJECTED", rule=grant.rule.id, reason=reason))
    return chosen


def _step(
    event: LoyaltyEvent, action: str, rule: Rule, before: Decimal, after: Decimal, reason: str | None
) -> ReceiptStep:
    return ReceiptStep(
        subject=event.id, action=action, rule=rule.id, before=f"{before:f}", after=f"{after:f}", reason=reason
    )


def number_of(value: Any) -> Decimal | None:
    """The fact as a number that somebody may have paid or counted; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    return number if number.is_finite() and abs(number) < MAX_POINTS else None


def _plain(value: Any) -> Any:
    """The value as the expression language takes it."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def happened(at: datetime, type: str, id: str, facts: Mapping[str, Any]) -> LoyaltyEvent:
    """An event of ours, its facts written out."""
    return LoyaltyEvent(id=id, type=type, at=at, facts=_PLAIN.encode(facts).decode())


_PLAIN = msgspec.json.Encoder(decimal_format="number", order="deterministic")
