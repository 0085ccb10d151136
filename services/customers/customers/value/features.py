"""What is known of a customer at an instant, as a churn model's features: nothing that came later is among them.

Each feature is a number (not known: None) or a text. Scoring and the examples that a model is trained on go through
this one function, so a model can't be trained on what it will not be given.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from chassis.types import Characteristic
from customers.value.profitability import LedgerLine

Value = float | str | None

DAY = timedelta(days=1)
# Billing periods that are "of late", and those that they are compared with.
RECENT = 3
_MONTH_DAYS = 30.4375
# A characteristic that says what is to be foretold, or what somebody made of it afterwards, foretells nothing.
TELLING = ("churn", "cltv", "lifetimevalue")
# A longer one is nobody's category.
_LONGEST_TEXT = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldProduct:
    """A product of a customer's: running from its start to its end, if it has ended."""

    id: str
    started_at: datetime | None
    ended_at: datetime | None
    suspended: bool = False
    offering_id: str | None = None

    def running(self, at: datetime) -> bool:
        """Whether the customer had it at the instant."""
        return self.started_at is not None and self.started_at <= at and (self.ended_at is None or at < self.ended_at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """All that is known of a customer; what came after the instant that is asked of is left out by `features`."""

    lines: Sequence[LedgerLine] = ()
    products: Sequence[HeldProduct] = ()
    # As they were at that instant.
    characteristics: Sequence[Characteristic] = ()


def features(known: Known, at: datetime) -> dict[str, Value]:
    """The features at the instant. Amounts are those of the currency that brought most, of late."""
    return {
        **_of_products(known.products, at),
        **_of_ledger([line for line in known.lines if line.period_end <= at.date()], at),
        **_of_characteristics(known.characteristics),
    }


CHARACTERISTIC = "characteristic:"


def unknown(names: Iterable[str]) -> list[str]:
    """Those of a model's features that nobody would ever have."""
    own = features(Known(), datetime(2000, 1, 1, tzinfo=UTC))
    return [name for name in names if name not in own and not name.startswith(CHARACTERISTIC)]


def churned(products: Iterable[HeldProduct], since: datetime, until: datetime) -> bool | None:
    """Whether somebody who had something at the one instant has nothing any more at the other; None: he had nothing."""
    held = list(products)
    if not any(product.running(since) for product in held):
        return None
    return not any(product.running(until) for product in held)


def _of_products(products: Sequence[HeldProduct], at: datetime) -> dict[str, Value]:
    begun = [product for product in products if product.started_at is not None and product.started_at <= at]
    starts = [product.started_at for product in begun if product.started_at is not None]
    ended = [product for product in begun if product.ended_at is not None and product.ended_at <= at]
    quarter = at - 90 * DAY
    return {
        "products_running": float(len(begun) - len(ended)),
        "products_ended": float(len(ended)),
        "products_ended_90_days": float(sum(1 for one in ended if one.ended_at and one.ended_at > quarter)),
        "products_begun_90_days": float(sum(1 for start in starts if start > quarter)),
        "months_since_first_product": _months(at - min(starts)) if starts else None,
        "months_since_last_product": _months(at - max(starts)) if starts else None,
    }


def _of_ledger(lines: Sequence[LedgerLine], at: datetime) -> dict[str, Value]:
    if not lines:
        return dict.fromkeys(_LEDGER)
    weights: dict[str, Decimal] = {}
    for line in lines:
        weights[line.unit] = weights.get(line.unit, Decimal(0)) + abs(line.revenue_total)
    unit = max(sorted(weights), key=lambda one: weights[one])
    periods: dict[object, list[LedgerLine]] = {}
    for line in lines:
        if line.unit == unit:
            periods.setdefault(line.period_start, []).append(line)
    ordered = [periods[start] for start in sorted(periods)]  # type: ignore[type-var]
    revenue = [float(sum(line.revenue_total for line in period)) for period in ordered]
    cost = [float(sum(line.cost_total for line in period)) for period in ordered]
    late, before = revenue[-RECENT:], revenue[-2 * RECENT : -RECENT]
    last = ordered[-1]
    recent, earlier = _mean(late), _mean(before) if before else None
    return {
        "currency": unit,
        "months_billed": float(len(ordered)),
        "revenue_recent": recent,
        "revenue_trend": recent - earlier if earlier is not None else None,
        "revenue_total": sum(revenue),
        "cost_recent": _mean(cost[-RECENT:]),
        "overdue": float(sum(line.overdue or 0 for line in last)),
        "overdue_days": float(max(line.overdue_days or 0 for line in last)),
        "balance": float(sum(line.balance or 0 for line in last)),
        "days_since_billed": (at.date() - max(line.period_end for line in last)) / DAY,
    }


_LEDGER = (
    "currency",
    "months_billed",
    "revenue_recent",
    "revenue_trend",
    "revenue_total",
    "cost_recent",
    "overdue",
    "overdue_days",
    "balance",
    "days_since_billed",
)


def _of_characteristics(characteristics: Iterable[Characteristic]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for one in characteristics:
        name = one.name or ""
        told = "".join(letter for letter in name.lower() if letter.isalnum())
        if not name or one.value is None or any(word in told for word in TELLING):
            continue
        value = _scalar(one.value.text)
        if value is not None:
            found[f"{CHARACTERISTIC}{name}"] = value
    return found


def _scalar(text: str) -> Value:
    """A number, a word or a yes and no; None for what has parts, or is a text of somebody's own."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return float(value)
    return value if isinstance(value, str) and len(value) <= _LONGEST_TEXT else None


def shown(found: Mapping[str, Value]) -> dict[str, str]:
    """The features as texts, those that aren't known left out."""
    return {
        name: value if isinstance(value, str) else repr(value) for name, value in found.items() if value is not None
    }


def _mean(amounts: Sequence[float]) -> float:
    return sum(amounts) / len(amounts)


def _months(span: timedelta) -> float:
    return span / DAY / _MONTH_DAYS
