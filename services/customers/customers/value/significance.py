"""How significant a customer is: the first rule of the policy whose conditions he fulfils names his class.

Shares are of all customers of the branch, so they need everybody's value: a run reckons where each share ends (the
floors), and whoever is valued in between is measured by those of the last run. The analysis by cumulated value is
ABC's: H. F. Dickie, "ABC Inventory Analysis Shoots for Dollars, not Pennies", Factory Management 109 (1951).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from chassis.receipts import Receipt, ReceiptStep
from customers.value.receipts import written
from customers.value.values import ValueClassRule

ENGINE = "customers.significance"
REVISION = "1"

# Who fulfils no rule.
UNCLASSIFIED = "unclassified"

# (rule's position, currency) → the least value that is within the rule's share.
Floors = Mapping[tuple[int, str], Decimal]


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What the rules look at: lifetime value and recent revenue by currency, the probability of leaving if known."""

    value: Mapping[str, Decimal]
    revenue: Mapping[str, Decimal]
    churn: Decimal | None = None


def classify(standing: Standing, rules: Sequence[ValueClassRule], floors: Floors) -> tuple[str, Receipt]:
    """The class of a customer, with the rule that named it and why those before it didn't."""
    steps: list[ReceiptStep] = []
    found = UNCLASSIFIED
    for position, rule in enumerate(rules):
        reason = _obstacle(standing, rule, position, floors)
        name = rule.value_class or ""
        steps.append(
            ReceiptStep(
                subject="customer",
                action="RULE_REFUSED" if reason else "RULE_APPLIED",
                rule=f"{position + 1} {name}",
                after=None if reason else name,
                reason=reason,
            )
        )
        if reason is None:
            found = name
            break
    inputs = {
        "value": dict(standing.value),
        "revenue": dict(standing.revenue),
        "churn": standing.churn,
        "floors": [[position, unit, floor] for (position, unit), floor in sorted(floors.items())],
        "classes": [rule.value_class for rule in rules],
    }
    return found, written(ENGINE, REVISION, inputs, steps)


def _obstacle(standing: Standing, rule: ValueClassRule, position: int, floors: Floors) -> str | None:
    """Why the rule doesn't apply; None: it does."""
    if rule.cumulative_share is not None or rule.top_share is not None:
        within = [unit for unit, value in standing.value.items() if _reaches(value, floors.get((position, unit)))]
        if not within:
            return "VALUE_OUTSIDE_SHARE"
    for least, amounts, reason in (
        (rule.minimum_value, standing.value, "VALUE_TOO_LOW"),
        (rule.minimum_revenue, standing.revenue, "REVENUE_TOO_LOW"),
    ):
        # Amounts of another currency say nothing of this one.
        if least is not None and not _reaches(amounts.get(least.unit or ""), least.value):
            return reason
    if rule.minimum_churn is not None and (standing.churn is None or standing.churn < rule.minimum_churn):
        return "CHURN_TOO_LOW"
    if rule.maximum_churn is not None and (standing.churn is None or standing.churn > rule.maximum_churn):
        return "CHURN_TOO_HIGH"
    return None


def _reaches(amount: Decimal | None, least: Decimal | None) -> bool:
    return amount is not None and least is not None and amount >= least
