"""Reckons what customers are worth: their own currency by currency, their risk, their class; one by one or many."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from chassis.receipts import Receipt, ReceiptStep
from chassis.types import Characteristic, Money
from chassis.unit import Unit
from customers.value import store
from customers.value.churn import ChurnModel, Score
from customers.value.domain import CustomerValue, Valuation, ValuePolicy, usual_policy
from customers.value.features import Known, features
from customers.value.lifetime import DAYS_OF_A_MONTH, Contractual, Purchasing, lifetime_value
from customers.value.profitability import LedgerLine, profit_and_loss, standings
from customers.value.purchase_models import PurchaseModels
from customers.value.receipts import written
from customers.value.significance import UNCLASSIFIED, Floors, Standing, classify
from customers.value.values import ChurnReason, ChurnRisk, LifetimeWorth, ValueModelKind

CHURN_ENGINE = "customers.churn"
CHURN_REVISION = "1"
# Named one by one; the rest is summed up.
NAMED_REASONS = 6
_MICRO = Decimal("0.000001")
_ZERO = Decimal(0)
# Models that are kept ready; a service applies one or two for each branch.
_READY = 32


@dataclass(frozen=True, slots=True)
class Setting:
    """By what the customers of a branch are valued."""

    branch: str
    policy: ValuePolicy
    floors: Floors
    churn_model_id: str | None
    churn: ChurnModel | None
    purchases: PurchaseModels | None


class Valuer:
    """Values customers; it keeps the models that it has read."""

    def __init__(self) -> None:
        self._models: dict[str, Any] = {}
        self._lock = threading.Lock()

    def setting(self, unit: Unit, branch: str) -> Setting:
        """How customers of the branch are valued now."""
        policy = store.policy_of(unit, branch) or usual_policy(branch, unit.at)
        churn_id = store.active_model(unit, branch, ValueModelKind.CHURN)
        purchases_id = store.active_model(unit, branch, ValueModelKind.PURCHASES)
        return Setting(
            branch,
            policy,
            store.floors_of(unit, policy),
            churn_id,
            None if churn_id is None else self._model(unit, churn_id, ChurnModel),
            None if purchases_id is None else self._model(unit, purchases_id, PurchaseModels),
        )

    def _model(self, unit: Unit, model_id: str, cls: type[Any]) -> Any:
        with self._lock:
            found = self._models.get(model_id)
        if found is None:
            artefact = store.artefact_of(unit, model_id)
            assert artefact is not None
            found = cls(artefact)
            with self._lock:
                if len(self._models) >= _READY:
                    self._models.clear()
                self._models[model_id] = found
        return found

    def reckon(self, unit: Unit, ids: Sequence[str], setting: Setting) -> dict[str, Valuation]:
        """What each customer (none of them merged into another) is worth now."""
        known = read(unit, ids)
        return {one: valued(known[one], setting, unit.at) for one in ids}

    def keep(self, unit: Unit, found: Mapping[str, Valuation], setting: Setting, *, told: bool) -> int:
        """Keeps what was reckoned; `told`: also for others to know, where it has moved. How many of them have."""
        for customer_id, valuation in found.items():
            store.keep_worth(unit, customer_id, setting.branch, _values(valuation))
        if not told:
            return 0
        there = {one.id: one for one in unit.load(CustomerValue, "id = ANY (%(ids)s)", {"ids": list(found)})}
        changed = 0
        for customer_id, valuation in found.items():
            value = there.get(customer_id)
            new = value is None
            if value is None:
                value = CustomerValue(id=customer_id, branch=setting.branch)
            before = value.value_class
            if not value.settle(_classified(valuation, setting, before), unit.at):
                continue
            changed += 1
            if new:
                unit.add(value)
            if value.value_class != before:
                # Also the first one: who routes by classes has to hear of it.
                unit.announce(value, "ClassChange")
        return changed


def _values(valuation: Valuation) -> dict[str, Decimal]:
    amounts = [one.value for one in valuation.lifetime if one.value is not None]
    return {money.unit or "": money.value or _ZERO for money in amounts}


def _classified(valuation: Valuation, setting: Setting, before: str | None) -> Valuation:
    """With its class. Before the shares of a policy have been drawn a class stays as it is."""
    rules = setting.policy.class_rule
    drawn = bool(setting.floors) or not any(rule.cumulative_share or rule.top_share for rule in rules)
    churn = valuation.churn.probability if valuation.churn is not None else None
    standing = Standing(value=_values(valuation), revenue=valuation.revenue, churn=churn)
    name, receipt = classify(standing, rules, setting.floors)
    if not drawn:
        name = before or UNCLASSIFIED
    return Valuation(
        value_class=name,
        class_receipt=receipt,
        churn=valuation.churn,
        lifetime=valuation.lifetime,
        profit_and_loss=valuation.profit_and_loss,
        account_standing=valuation.account_standing,
        revenue=valuation.revenue,
    )


def read(unit: Unit, ids: Sequence[str]) -> dict[str, Known]:
    """All that is known of each customer, what his merged ids have done included."""
    members = store.members_of(unit, ids)
    everybody = [member for group in members.values() for member in group]
    lines, products = store.lines_of(unit, everybody), store.products_of(unit, everybody)
    characteristics = store.characteristics_of(unit, everybody)
    return {
        survivor: Known(
            lines=[line for member in group for line in lines.get(member, ())],
            products=[product for member in group for product in products.get(member, ())],
            characteristics=_united([characteristics.get(member, ()) for member in group]),
        )
        for survivor, group in members.items()
    }


def _united(groups: Sequence[Sequence[Characteristic]]) -> list[Characteristic]:
    """The survivor's characteristics, and those of the others that he hasn't."""
    found: dict[str | None, Characteristic] = {}
    for group in groups:
        for one in group:
            found.setdefault(one.name, one)
    return list(found.values())


def valued(known: Known, setting: Setting, at: datetime) -> Valuation:
    """What a customer is worth, not yet classified."""
    risk = _risk(known, setting, at)
    statements = profit_and_loss(known.lines)
    lifetime, revenue = [], {}
    for statement in statements:
        own = [line for line in known.lines if line.unit == statement.unit]
        assert statement.margin is not None
        assert statement.margin.value is not None
        worth = lifetime_value(
            statement.unit, statement.margin.value, _basis(own, known, risk, setting, at), setting.policy.terms
        )
        revenue[statement.unit] = sum((line.revenue_total for line in _recent(own, setting)), start=_ZERO)
        lifetime.append(
            LifetimeWorth(
                value=Money(unit=worth.unit, value=worth.value),
                observed=Money(unit=worth.unit, value=worth.observed),
                expected=Money(unit=worth.unit, value=worth.expected),
                receipt=worth.receipt,
            )
        )
    return Valuation(
        value_class=UNCLASSIFIED,
        class_receipt=_UNCLASSED,
        churn=risk,
        lifetime=tuple(lifetime),
        profit_and_loss=statements,
        account_standing=standings(known.lines),
        revenue=revenue,
    )


_UNCLASSED = written("", "", {}, ())


def _recent(lines: Sequence[LedgerLine], setting: Setting) -> list[LedgerLine]:
    """The lines of the latest billing periods, as many as the policy looks at."""
    starts = sorted({line.period_start for line in lines})[-(setting.policy.recent_months or 1) :]
    return [line for line in lines if line.period_start in starts]


def _basis(
    lines: Sequence[LedgerLine], known: Known, risk: ChurnRisk | None, setting: Setting, at: datetime
) -> Contractual | Purchasing | None:
    """With a running product, or what foretells nothing else, he stays until he leaves; else he buys when he likes."""
    running = any(product.running(at) for product in known.products)
    if setting.purchases is not None and not running:
        return setting.purchases.basis(lines, at)
    if risk is None or risk.probability is None or risk.horizon_days is None or (known.products and not running):
        return None
    recent = _recent(lines, setting)
    days = sum((end - start).days for start, end in {(line.period_start, line.period_end) for line in recent})
    if not days:
        return None
    margin = sum((line.margin for line in recent), start=_ZERO)
    monthly = (margin * DAYS_OF_A_MONTH / days).quantize(_MICRO)
    return Contractual(monthly_margin=monthly, churn_probability=risk.probability, churn_days=risk.horizon_days)


def _risk(known: Known, setting: Setting, at: datetime) -> ChurnRisk | None:
    if setting.churn is None or (known.products and not any(product.running(at) for product in known.products)):
        # Who has left already isn't about to.
        return None
    given = features(known, at)
    score = setting.churn.score(given)
    probability = _rounded(score.probability)
    named = [
        ChurnReason(feature=one.feature, value=one.value, contribution=_rounded(one.contribution))
        for one in score.reasons[:NAMED_REASONS]
        if _rounded(one.contribution)
    ]
    log_odds, base = _rounded(score.log_odds), _rounded(score.base)
    return ChurnRisk(
        probability=probability,
        band=setting.policy.band(probability),
        horizon_days=setting.churn.horizon_days,
        model_id=setting.churn_model_id,
        log_odds=log_odds,
        base=base,
        other=log_odds - base - sum((one.contribution or _ZERO for one in named), start=_ZERO),
        reason=tuple(named),
        scored_at=at,
        receipt=_receipt(score, setting, given),
    )


def _receipt(score: Score, setting: Setting, given: Mapping[str, float | str | None]) -> Receipt:
    assert setting.churn is not None
    used = {name: given.get(name) for name in setting.churn.names if given.get(name) is not None}
    steps = [
        ReceiptStep(
            subject="customer",
            action="RAISES_RISK" if one.contribution > 0 else "LOWERS_RISK",
            rule=one.feature,
            before=one.value or None,
            after=format(_rounded(one.contribution), "f"),
        )
        for one in score.reasons
        if _rounded(one.contribution)
    ]
    inputs = {"model_id": setting.churn_model_id, "features": used}
    return written(CHURN_ENGINE, CHURN_REVISION, inputs, steps)


def _rounded(value: float) -> Decimal:
    return Decimal(repr(value)).quantize(_MICRO)
