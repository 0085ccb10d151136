"""What a programme grants: its terms, and the rules by which events earn points."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Aggregate, Money, TimePeriod, bad_transition, require_transition
from customers.loyalty.domain import refuse, reversed_period
from customers.loyalty.earning import check_condition
from customers.loyalty.values import (
    EarnRuleState,
    LotTerms,
    LoyaltyTier,
    PendingMode,
    PointsCap,
    PointsFormula,
    Rule,
    TierBasis,
)

_CODE = re.compile(r"[\w.:-]{1,64}")
_MAX_DAYS, _MAX_MONTHS, _MAX_SCALE = 36_600, 1_200, 6
# Where the terms say nothing.
RESERVATION_MINUTES, REFUND_DAYS, TIER_PERIOD_MONTHS = 30, 30, 12


@dataclass(kw_only=True, eq=False)
class LoyaltyTerms(Aggregate):
    """How a programme's points come, go and count."""

    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"program_id"})

    program_id: str | None = None
    unit: str | None = None
    scale: int | None = None
    lot: LotTerms | None = None
    refund_days: int | None = None
    reservation_minutes: int | None = None
    tier: tuple[LoyaltyTier, ...] = ()
    tier_basis: TierBasis | None = None
    tier_period_months: int | None = None
    tier_grace_days: int | None = None
    tier_currency: str | None = None
    minimum_burn: Decimal | None = None
    burn_step: Decimal | None = None
    point_value: Money | None = None
    maximum_percentage: Decimal | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument CONTRADICTION naming everything that can't be."""
        refuse("CONTRADICTION", self._wrong())

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes the changes; what was earned before keeps its lots' own terms."""
        super().revise(changes, at)
        self.check(at)

    def multiplier(self, tier: str) -> Decimal:
        """What a tier multiplies by."""
        found = next((one for one in self.tier if one.code == tier), None)
        return found.multiplier if found is not None and found.multiplier is not None else Decimal(1)

    def check_burn(self, points: Decimal, amount: Money | None) -> None:
        """Raises InvalidArgument NOT_POSITIVE, BELOW_MINIMUM, NOT_A_STEP, AMOUNT_REQUIRED, OTHER_CURRENCY,
        ABOVE_MAXIMUM."""
        require_positive(points, self.scale or 0)
        if self.minimum_burn is not None and points < self.minimum_burn:
            raise _burn("BELOW_MINIMUM", f"at least {self.minimum_burn} points are spent at a time")
        if self.burn_step and points % self.burn_step:
            raise _burn("NOT_A_STEP", f"points are spent in steps of {self.burn_step}")
        if self.maximum_percentage is None or self.point_value is None or self.point_value.value is None:
            return
        if amount is None or amount.value is None:
            raise _burn("AMOUNT_REQUIRED", "say what is paid for", "amount")
        if amount.unit != self.point_value.unit:
            raise _burn("OTHER_CURRENCY", f"points are worth {self.point_value.unit}", "amount.unit")
        most = amount.value * self.maximum_percentage / 100
        if points * self.point_value.value > most:
            raise _burn("ABOVE_MAXIMUM", f"points pay at most {most.normalize():f} {amount.unit} of it")

    def value_of(self, points: Decimal) -> Money | None:
        """What the points are worth; None: the terms don't say."""
        if self.point_value is None or self.point_value.value is None:
            return None
        return Money(unit=self.point_value.unit, value=points * self.point_value.value)

    def _wrong(self) -> Iterator[Violation]:
        if not 0 <= (self.scale or 0) <= _MAX_SCALE:
            yield Violation("scale", f"from 0 to {_MAX_SCALE} decimals")
        yield from wrong_lot(self.lot, "lot")
        for name, most in (
            ("refund_days", _MAX_DAYS), ("reservation_minutes", _MAX_DAYS), ("tier_period_months", _MAX_MONTHS)
        ):  # fmt: skip
            if (value := getattr(self, name)) is not None and not 1 <= value <= most:
                yield Violation(name, f"from 1 to {most}")
        if not 0 <= (self.tier_grace_days or 0) <= _MAX_DAYS:
            yield Violation("tier_grace_days", f"from 0 to {_MAX_DAYS}")
        yield from self._wrong_tiers()
        yield from self._wrong_burn()

    def _wrong_tiers(self) -> Iterator[Violation]:
        codes = [tier.code for tier in self.tier]
        for i, tier in enumerate(self.tier):
            if not _CODE.fullmatch(tier.code or "") or codes.index(tier.code) != i:
                yield Violation(f"tier[{i}].code", "a code of its own, of up to 64 letters, digits and ._:-")
            if (tier.threshold or 0) < 0:
                yield Violation(f"tier[{i}].threshold", "not negative")
            if tier.multiplier is not None and tier.multiplier <= 0:
                yield Violation(f"tier[{i}].multiplier", "more than nothing")
        if self.tier_basis is TierBasis.SPEND and not self.tier_currency:
            yield Violation("tier_currency", "the currency of what is spent")

    def _wrong_burn(self) -> Iterator[Violation]:
        for name in ("minimum_burn", "burn_step"):
            if (limit := getattr(self, name)) is not None and limit <= 0:
                yield Violation(name, "more than nothing")
        if self.maximum_percentage is not None and not 0 < self.maximum_percentage <= 100:
            yield Violation("maximum_percentage", "more than 0 and at most 100")
        if self.point_value is not None and not (self.point_value.unit and (self.point_value.value or 0) > 0):
            yield Violation("point_value", "an amount of a currency")


def _burn(reason: str, why: str, field: str = "points") -> InvalidArgument:
    return InvalidArgument(reason, why, violations=[Violation(field, why)])


def require_positive(points: Decimal, scale: int) -> None:
    """Raises InvalidArgument NOT_POSITIVE, TOO_FINE."""
    if points <= 0:
        raise _burn("NOT_POSITIVE", "more than no points")
    if points != round(points, scale):
        raise _burn("TOO_FINE", f"points have {scale} decimals")


def wrong_lot(terms: LotTerms | None, field: str) -> Iterator[Violation]:
    """What can't be about a lot's terms."""
    if terms is None:
        return
    for name, most in (
        ("pending_days", _MAX_DAYS), ("lapse_days", _MAX_DAYS), ("validity_days", _MAX_DAYS),
        ("validity_months", _MAX_MONTHS),
    ):  # fmt: skip
        value = getattr(terms, name)
        if value is not None and not 0 <= value <= most:
            yield Violation(f"{field}.{name}", f"from 0 to {most}")
    if terms.pending is PendingMode.ACTION and not terms.pending_action:
        yield Violation(f"{field}.pending_action", "the type of event that is waited for")
    if terms.validity_days == 0 and not terms.validity_months:
        yield Violation(f"{field}.validity_days", "points are valid for a day at least, or for ever")


_RULE_TRANSITIONS: Mapping[EarnRuleState, frozenset[EarnRuleState]] = {
    EarnRuleState.DRAFT: frozenset({EarnRuleState.ACTIVE, EarnRuleState.RETIRED}),
    EarnRuleState.ACTIVE: frozenset({EarnRuleState.RETIRED}),
    EarnRuleState.RETIRED: frozenset(),
}


@dataclass(kw_only=True, eq=False)
class EarnRule(Aggregate):
    """What an event earns; one version of a rule, which doesn't change once it has been active."""

    STATE: ClassVar[str | None] = "state"
    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"program_id", "code"})

    program_id: str | None = None
    code: str | None = None
    rule_version: int | None = None
    name: str | None = None
    state: EarnRuleState | None = None
    event_type: str | None = None
    condition: str | None = None
    formula: PointsFormula | None = None
    cap: tuple[PointsCap, ...] = ()
    valid_for: TimePeriod | None = None
    priority: int | None = None
    exclusive: bool | None = None
    exclusion_group: str | None = None
    lot: LotTerms | None = None
    reason: str | None = None

    def check(self, at: datetime) -> None:
        """Begins as a draft unless it says otherwise. Raises InvalidArgument CONTRADICTION, FailedPrecondition
        BAD_TRANSITION."""
        self.state = self.state or EarnRuleState.DRAFT
        if self.state is EarnRuleState.RETIRED:
            raise bad_transition("a rule isn't retired before it was one")
        self.rule_version = None
        self._check()

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes the changes of a draft; of others only state and name.

        Raises FailedPrecondition BAD_TRANSITION, NOT_A_DRAFT."""
        news = {k: v for k, v in changes.items() if k != "rule_version" and getattr(self, k) != v}
        before = self.state or EarnRuleState.DRAFT
        if "state" in news:
            require_transition(f"EarnRule {self.id}", _RULE_TRANSITIONS, before, news["state"] or EarnRuleState.DRAFT)
        terms = sorted(news.keys() - {"state", "name"})
        if before is not EarnRuleState.DRAFT and terms:
            raise FailedPrecondition(
                "NOT_A_DRAFT",
                f"rule {self.id} is {before}: make the next version of {self.code}",
                violations=[Violation(name, "a rule that has been active doesn't change") for name in terms],
            )
        super().revise(news, at)
        self._check()

    def retire(self) -> None:
        """A later version has come in its place."""
        self.state = EarnRuleState.RETIRED

    def rule(self) -> Rule:
        """What it means to the engine."""
        return Rule(
            id=self.id,
            code=self.code or "",
            version=self.rule_version or 1,
            event_type=self.event_type or "",
            formula=self.formula or PointsFormula(),
            condition=self.condition or "",
            cap=self.cap,
            valid_for=self.valid_for,
            priority=self.priority or 0,
            exclusive=bool(self.exclusive),
            exclusion_group=self.exclusion_group or "",
            reason=self.reason or "EARNED",
        )

    def _check(self) -> None:
        refuse("CONTRADICTION", self._wrong())

    def _wrong(self) -> Iterator[Violation]:
        for name in ("code", "event_type"):
            if not _CODE.fullmatch(getattr(self, name) or ""):
                yield Violation(name, "up to 64 letters, digits and ._:-")
        if self.reason is not None and not _CODE.fullmatch(self.reason):
            yield Violation("reason", "a code of up to 64 letters, digits and ._:-")
        yield from reversed_period(self.valid_for)
        yield from wrong_lot(self.lot, "lot")
        yield from _wrong_formula(self.formula or PointsFormula())
        yield from check_condition(self.condition or "")
        for i, cap in enumerate(self.cap):
            if cap.period is None or cap.points is None or cap.points <= 0:
                yield Violation(f"cap[{i}]", "a period, and more than no points")


def _wrong_formula(formula: PointsFormula) -> Iterator[Violation]:
    if formula.fixed is None and formula.basis is None:
        yield Violation("formula", "fixed points, or a basis to reckon them from")
    if (formula.basis is None) != (formula.rate is None):
        yield Violation("formula.rate", "a basis and a rate come together")
    for name in ("fixed", "rate"):
        if (getattr(formula, name) or 0) < 0:
            yield Violation(f"formula.{name}", "not negative")
    for name in ("per", "maximum"):
        if (value := getattr(formula, name)) is not None and value <= 0:
            yield Violation(f"formula.{name}", "more than nothing")
    if not 0 <= (formula.scale or 0) <= _MAX_SCALE:
        yield Violation("formula.scale", f"from 0 to {_MAX_SCALE} decimals")
