"""Policies, models, the value of each customer, and the runs that reckon it for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.receipts import Receipt
from chassis.types import COMMON, Aggregate, Money, require_transition
from customers.value.lifetime import Terms
from customers.value.profitability import AccountStanding, ProfitAndLoss
from customers.value.values import (
    ChurnBand,
    ChurnRisk,
    LibraryVersion,
    LifetimeWorth,
    ModelMetric,
    ValuationRunState,
    ValueClassRule,
    ValueModelKind,
    ValueModelState,
)

_ZERO, _ONE = Decimal(0), Decimal(1)
MOST_RULES = 20
# A value that moves by less, of what it was, or a probability that does, isn't told anew.
MATERIAL_SHARE, MATERIAL_PROBABILITY = Decimal("0.01"), Decimal("0.01")


@dataclass(kw_only=True, eq=False)
class ValuePolicy(Aggregate):
    """How a branch reckons value: rates by the year (0.12: 12 %), months ahead, billing periods that count as recent;
    from which probability leaving is a medium or a high risk; and the rules of the classes, the first that holds."""

    name: str | None = None
    discount_rate: Decimal | None = None
    growth_rate: Decimal | None = None
    horizon_months: int | None = None
    recent_months: int | None = None
    medium_churn: Decimal | None = None
    high_churn: Decimal | None = None
    class_rule: tuple[ValueClassRule, ...] = ()

    def check(self, at: datetime) -> None:
        """Completes it with what is usual; raises InvalidArgument INVALID_POLICY naming each field that can't be."""
        self.discount_rate = _or(self.discount_rate, Decimal("0.12"))
        self.growth_rate = _or(self.growth_rate, _ZERO)
        self.horizon_months = _or(self.horizon_months, 36)
        self.recent_months = _or(self.recent_months, 3)
        self.medium_churn = _or(self.medium_churn, Decimal("0.3"))
        self.high_churn = _or(self.high_churn, Decimal("0.6"))
        wrong = [Violation(name, reason) for name, reason in self.terms.problems()]
        if not 1 <= self.recent_months <= 24:
            wrong.append(Violation("recent_months", "from 1 to 24"))
        if not _ZERO <= self.medium_churn <= self.high_churn <= _ONE:
            wrong.append(Violation("high_churn", "medium and high are from 0 to 1, in this order"))
        if len(self.class_rule) > MOST_RULES:
            wrong.append(Violation("class_rule", f"more than {MOST_RULES}"))
        for position, rule in enumerate(self.class_rule):
            wrong += [Violation(f"class_rule[{position}].{name}", reason) for name, reason in _rule_problems(rule)]
        if wrong:
            raise InvalidArgument("INVALID_POLICY", "value can't be reckoned so", violations=wrong)

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """As the caller wishes, within the bounds."""
        super().revise(changes, at)
        self.check(at)

    @property
    def terms(self) -> Terms:
        """How lifetime value is reckoned."""
        assert self.discount_rate is not None
        assert self.growth_rate is not None
        assert self.horizon_months is not None
        return Terms(discount_rate=self.discount_rate, growth_rate=self.growth_rate, horizon_months=self.horizon_months)

    def band(self, probability: Decimal) -> ChurnBand:
        """The risk in words."""
        assert self.high_churn is not None
        assert self.medium_churn is not None
        if probability >= self.high_churn:
            return ChurnBand.HIGH
        return ChurnBand.MEDIUM if probability >= self.medium_churn else ChurnBand.LOW


def usual_policy(branch: str, at: datetime) -> ValuePolicy:
    """That of a branch that has stated none: 12 % a year, 36 months, and A, B, C by 80, 95 and 100 % of all value."""
    policy = ValuePolicy(
        id="",
        branch=branch,
        name="usual",
        class_rule=tuple(
            ValueClassRule(value_class=name, cumulative_share=Decimal(share))
            for name, share in (("A", "0.8"), ("B", "0.95"), ("C", "1"))
        ),
    )
    policy.check(at)
    return policy


def _or(value: Any, usual: Any) -> Any:
    return usual if value is None else value


def _rule_problems(rule: ValueClassRule) -> list[tuple[str, str]]:
    wrong = [] if rule.value_class else [("value_class", "required")]
    for name in ("cumulative_share", "top_share", "minimum_churn", "maximum_churn"):
        share = getattr(rule, name)
        if share is not None and not _ZERO <= share <= _ONE:
            wrong.append((name, "from 0 to 1"))
    for name in ("minimum_value", "minimum_revenue"):
        money = getattr(rule, name)
        if money is not None and (not money.unit or money.value is None):
            wrong.append((name, "an amount with its currency"))
    if rule.cumulative_share is not None and rule.top_share is not None:
        wrong.append(("top_share", "a rule has one share"))
    return wrong


# --- models ----------------------------------------------------------------------------------------------------------

MODEL_TRANSITIONS: Mapping[ValueModelState, frozenset[ValueModelState]] = {
    ValueModelState.TRAINED: frozenset({ValueModelState.ACTIVE, ValueModelState.RETIRED}),
    ValueModelState.ACTIVE: frozenset({ValueModelState.RETIRED}),
    # A model that was better than what replaced it comes back.
    ValueModelState.RETIRED: frozenset({ValueModelState.ACTIVE}),
}


@dataclass(kw_only=True, eq=False)
class ValueModel(Aggregate):
    """A version of a model: what it is made of (hashes are hex SHA-256), how good it was, whether it is applied."""

    STATE: ClassVar[str | None] = "state"

    name: str | None = None
    kind: ValueModelKind | None = None
    state: ValueModelState | None = None
    artefact_hash: str | None = None
    training_hash: str | None = None
    training_rows: int | None = None
    horizon_days: int | None = None
    feature: tuple[str, ...] = ()
    metric: tuple[ModelMetric, ...] = ()
    library: tuple[LibraryVersion, ...] = ()
    registered_at: datetime | None = None
    registered_by: str | None = None
    activated_at: datetime | None = None
    activated_by: str | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for one without a name, a kind or the hash of its data."""
        missing = [name for name in ("name", "kind", "training_hash") if not getattr(self, name)]
        if missing:
            raise InvalidArgument(
                "REQUIRED", "required fields are missing", violations=[Violation(name, "required") for name in missing]
            )
        if self.branch == COMMON:
            raise InvalidArgument("BRANCH_INVALID", "a model is one branch's")
        self.state, self.registered_at = ValueModelState.TRAINED, at

    def activate(self, by: str, at: datetime) -> None:
        """Raises FailedPrecondition BAD_TRANSITION for one that is active."""
        assert self.state is not None
        require_transition("a model", MODEL_TRANSITIONS, self.state, ValueModelState.ACTIVE)
        self.state, self.activated_at, self.activated_by = ValueModelState.ACTIVE, at, by

    def check_features(self, unknown: Sequence[str]) -> None:
        """Raises FailedPrecondition FEATURES_UNKNOWN for a model that goes by what is known of nobody here."""
        if unknown:
            raise FailedPrecondition(
                "FEATURES_UNKNOWN",
                f"of no customer it is known: {', '.join(unknown)}",
                violations=[Violation("feature", name) for name in unknown],
            )

    def retire(self) -> None:
        """Makes room for another; raises FailedPrecondition BAD_TRANSITION for one that is retired."""
        assert self.state is not None
        require_transition("a model", MODEL_TRANSITIONS, self.state, ValueModelState.RETIRED)
        self.state = ValueModelState.RETIRED


# --- customers -------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class CustomerValue(Aggregate):
    """What a customer is to us; its id is the customer's. A change of the class is an event of its own,
    CustomerValueClassChangeEvent, which says what it was before."""

    value_class: str | None = None
    previous_value_class: str | None = None
    class_changed_at: datetime | None = None
    class_receipt: Receipt | None = None
    churn: ChurnRisk | None = None
    lifetime: tuple[LifetimeWorth, ...] = ()
    profit_and_loss: tuple[ProfitAndLoss, ...] = ()
    account_standing: tuple[AccountStanding, ...] = ()
    valued_at: datetime | None = None

    def settle(self, found: "Valuation", at: datetime) -> bool:
        """Takes what has been reckoned, if it differs so much that others have to know; whether it does."""
        reclassified = found.value_class != self.value_class
        if not reclassified and not self._moved(found):
            return False
        if reclassified:
            self.previous_value_class, self.value_class = self.value_class, found.value_class
            self.class_changed_at = at
        self.class_receipt = found.class_receipt
        self.churn, self.lifetime = found.churn, found.lifetime
        self.profit_and_loss, self.account_standing = found.profit_and_loss, found.account_standing
        self.valued_at = at
        return True

    def _moved(self, found: "Valuation") -> bool:
        if (self.profit_and_loss, self.account_standing) != (found.profit_and_loss, found.account_standing):
            # The books are told to the last digit.
            return True
        before, now = self.churn, found.churn
        if (before is None) != (now is None) or self.valued_at is None:
            return True
        if before is not None and now is not None:
            if (before.model_id, before.band) != (now.model_id, now.band):
                return True
            if abs((before.probability or _ZERO) - (now.probability or _ZERO)) >= MATERIAL_PROBABILITY:
                return True
        was, is_ = _amounts(self.lifetime), _amounts(found.lifetime)
        return was.keys() != is_.keys() or any(
            abs(is_[unit] - was[unit]) >= max(abs(was[unit]) * MATERIAL_SHARE, _ONE) for unit in was
        )


def _amounts(worth: tuple[LifetimeWorth, ...]) -> dict[str, Decimal]:
    values: list[Money] = [one.value for one in worth if one.value is not None]
    return {money.unit or "": money.value or _ZERO for money in values}


@dataclass(frozen=True, kw_only=True, slots=True)
class Valuation:
    """What has been reckoned of a customer just now."""

    value_class: str
    class_receipt: Receipt
    churn: ChurnRisk | None = None
    lifetime: tuple[LifetimeWorth, ...] = ()
    profit_and_loss: tuple[ProfitAndLoss, ...] = ()
    account_standing: tuple[AccountStanding, ...] = ()
    # Of the policy's recent months, by currency.
    revenue: Mapping[str, Decimal] = field(default_factory=dict)


# --- runs ------------------------------------------------------------------------------------------------------------

RUN_TRANSITIONS: Mapping[ValuationRunState, frozenset[ValuationRunState]] = {
    ValuationRunState.IN_PROGRESS: frozenset(
        {ValuationRunState.COMPLETED, ValuationRunState.FAILED, ValuationRunState.CANCELLED}
    ),
    ValuationRunState.COMPLETED: frozenset(),
    ValuationRunState.FAILED: frozenset(),
    ValuationRunState.CANCELLED: frozenset(),
}


@dataclass(kw_only=True, eq=False)
class ValuationRun(Aggregate):
    """The valuation of all customers of a branch: every one is scored and reckoned, then the shares are drawn, then
    every one gets his class. It goes on by itself, also after a crash, from where it was."""

    STATE: ClassVar[str | None] = "state"

    description: str | None = None
    state: ValuationRunState | None = None
    requested_by: str | None = None
    # How many days after its end the next one begins; none: there is no next one.
    repeat_days: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for one of no branch in particular, or that repeats oddly."""
        if self.branch == COMMON:
            raise InvalidArgument("BRANCH_INVALID", "customers are valued by branch")
        if self.repeat_days is not None and not 1 <= self.repeat_days <= 366:
            raise InvalidArgument("INVALID_REPETITION", "from 1 to 366", violations=[Violation("repeat_days", "odd")])
        self.state, self.started_at = ValuationRunState.IN_PROGRESS, at

    def end(self, state: ValuationRunState, at: datetime, error: str | None = None) -> None:
        """Raises FailedPrecondition BAD_TRANSITION for one that has ended."""
        assert self.state is not None
        require_transition("a valuation run", RUN_TRANSITIONS, self.state, state)
        self.state, self.ended_at, self.error = state, at, error


def check_verified(expected: Decimal, found: float) -> None:
    """Raises FailedPrecondition MODEL_DIFFERS when a score isn't what who trained the model says that it is."""
    if abs(found - float(expected)) > 1e-6:
        raise FailedPrecondition(
            "MODEL_DIFFERS", f"where training found a probability of {expected}, this service finds {found:.9f}"
        )
