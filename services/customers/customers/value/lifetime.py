"""What a customer is worth: what he has brought so far and what he is expected to bring, with the time it takes.

    value = observed margin + Σ expected margin of month k ÷ (1 + d)^(k/12),  k = 1 … horizon

d is the discount rate of a year. With a contract the margin of month k is m · (1 + g)^(k/12) · s^k: m the monthly
margin of late, g its yearly growth (what the relationship develops), s the share of customers who stay from one month
to the next. S. Gupta and D. R. Lehmann, "Customers as Assets", Journal of Interactive Marketing 17 (2003), 9-24. The
hazard is that of the churn score: who leaves within h days with probability p stays a month with (1 - p)^(30.4375/h).

Without a contract month k brings its expected purchases (see `purchases`) at the expected margin of one.

A customer who costs more than he brings is worth less than nothing, and the worse the longer he stays: it is shown.
Acquisition is among the costs that were observed. The past isn't discounted: it is what the books say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from chassis.errors import InvalidArgument
from chassis.receipts import Receipt, ReceiptStep
from customers.value.purchases import PurchaseHistory, PurchaseModel, SpendModel
from customers.value.receipts import inputs_of, malformed, written

ENGINE = "customers.lifetime"
REVISION = "1"

# Of a year of 365.25 days.
DAYS_OF_A_MONTH = Decimal("30.4375")
MONTHS_OF_A_YEAR = 12
LONGEST_HORIZON = 240
_ONE, _ZERO = Decimal(1), Decimal(0)
_CENT = Decimal("0.01")
# Digits of what is reckoned with floats (purchases) that reach the money.
_DIGITS = Decimal("0.000000001")
# Enough for a power, and the same on every machine.
_PRECISION = 34


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """How value is reckoned: discount and growth by the year (0.12: 12 %), months ahead."""

    discount_rate: Decimal
    horizon_months: int
    growth_rate: Decimal = _ZERO

    def problems(self) -> list[tuple[str, str]]:
        """Field and reason of what can't be."""
        wrong = []
        if not _ZERO <= self.discount_rate <= 10:
            wrong.append(("discount_rate", "from 0 to 10 (1,000 %)"))
        if not Decimal("-0.99") <= self.growth_rate <= 10:
            wrong.append(("growth_rate", "from -0.99 to 10"))
        if not 0 <= self.horizon_months <= LONGEST_HORIZON:
            wrong.append(("horizon_months", f"from 0 to {LONGEST_HORIZON}"))
        return wrong


@dataclass(frozen=True, kw_only=True, slots=True)
class Contractual:
    """A customer who stays until he leaves: his margin a month, and how likely he leaves within so many days."""

    monthly_margin: Decimal
    churn_probability: Decimal
    churn_days: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Purchasing:
    """A customer who buys when he likes: his history, in units of so many days as the model's, and what share of his
    spending is margin."""

    history: PurchaseHistory
    model: PurchaseModel
    spend: SpendModel
    unit_days: Decimal
    # Purchases whose mean is known, the first included.
    purchases: int
    mean_spend: float
    margin_share: Decimal = _ONE


@dataclass(frozen=True, kw_only=True, slots=True)
class LifetimeValue:
    """In one currency, to the hundredth; `expected` is discounted to the day of the valuation."""

    unit: str
    observed: Decimal
    expected: Decimal
    receipt: Receipt

    @property
    def value(self) -> Decimal:
        """Observed and expected together."""
        return self.observed + self.expected


def lifetime_value(unit: str, observed: Decimal, basis: Contractual | Purchasing | None, terms: Terms) -> LifetimeValue:
    """The value of a customer in one currency; without a basis he is expected to bring nothing more."""
    inputs = {"unit": unit, "observed": observed, "terms": _terms(terms), "basis": _basis(basis)}
    with localcontext() as context:
        context.prec, context.rounding = _PRECISION, ROUND_HALF_EVEN
        steps = [_step("OBSERVED_MARGIN", "ledger", after=observed, unit=unit)]
        months = _months(basis, terms, steps, unit)
        monthly_discount = (_ONE + terms.discount_rate) ** (_ONE / MONTHS_OF_A_YEAR)
        expected = sum(
            (amount / monthly_discount**month for month, amount in enumerate(months, start=1)), start=_ZERO
        ).quantize(_CENT)
        rule = f"{_text(terms.discount_rate)} a year over {terms.horizon_months} months"
        steps.append(_step("DISCOUNTED", rule, before=sum(months, start=_ZERO), after=expected, unit=unit))
    return LifetimeValue(
        unit=unit, observed=observed, expected=expected, receipt=written(ENGINE, REVISION, inputs, steps)
    )


def replay(receipt: Receipt) -> LifetimeValue:
    """The value that the receipt is of, reckoned again. Raises InvalidArgument OTHER_ENGINE, MALFORMED_RECEIPT."""
    inputs = inputs_of(receipt, ENGINE, REVISION)
    try:
        terms = inputs["terms"]
        return lifetime_value(
            inputs["unit"],
            Decimal(inputs["observed"]),
            _read(inputs["basis"]),
            Terms(
                discount_rate=Decimal(terms["discount_rate"]),
                growth_rate=Decimal(terms["growth_rate"]),
                horizon_months=int(terms["horizon_months"]),
            ),
        )
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise malformed("its inputs aren't those of a receipt") from error


def monthly_retention(probability: Decimal, days: int) -> Decimal:
    """The share that stays a month, of those who leave within so many days with that probability. Raises
    InvalidArgument PROBABILITY_OUT_OF_RANGE."""
    if not _ZERO <= probability <= _ONE or days <= 0:
        raise InvalidArgument("PROBABILITY_OUT_OF_RANGE", f"{probability} within {days} days is no probability")
    if probability == _ONE:
        return _ZERO
    with localcontext() as context:
        context.prec = _PRECISION
        return (_ONE - probability) ** (DAYS_OF_A_MONTH / days)


def _months(
    basis: Contractual | Purchasing | None, terms: Terms, steps: list[ReceiptStep], unit: str
) -> Sequence[Decimal]:
    """The expected margin of each month, not yet discounted."""
    if basis is None:
        steps.append(_step("NOTHING_EXPECTED", "no contract, no purchases", after=_ZERO, unit=unit))
        return []
    ahead = range(1, terms.horizon_months + 1)
    growth = (_ONE + terms.growth_rate) ** (_ONE / MONTHS_OF_A_YEAR)
    if isinstance(basis, Contractual):
        stays = monthly_retention(basis.churn_probability, basis.churn_days)
        rule = f"{_text(basis.churn_probability)} leave within {basis.churn_days} days"
        steps.append(_step("MONTHLY_MARGIN", "months of late", after=basis.monthly_margin, unit=unit))
        steps.append(ReceiptStep(subject="customer", action="RETENTION", rule=rule, after=_text(stays, _DIGITS)))
        return [basis.monthly_margin * (growth * stays) ** month for month in ahead]
    margin = Decimal(repr(basis.spend.expected(basis.purchases, basis.mean_spend))) * basis.margin_share
    margin = margin.quantize(_DIGITS)
    unit_of_month = float(DAYS_OF_A_MONTH / basis.unit_days)
    reckoned = (basis.model.expected(basis.history, month * unit_of_month) for month in ahead)
    until = [_ZERO, *(Decimal(repr(purchases)).quantize(_DIGITS) for purchases in reckoned)]
    alive = Decimal(repr(basis.model.alive(basis.history)))
    steps.append(ReceiptStep(subject="customer", action="ALIVE", rule="BG/NBD", after=_text(alive, _DIGITS)))
    steps.append(
        ReceiptStep(subject="customer", action="EXPECTED_PURCHASES", rule="BG/NBD", after=_text(until[-1], _DIGITS))
    )
    steps.append(_step("MARGIN_OF_A_PURCHASE", "gamma-gamma", after=margin, unit=unit))
    return [(until[month] - until[month - 1]) * margin * growth**month for month in ahead]


def _step(action: str, rule: str, *, after: Decimal, unit: str, before: Decimal | None = None) -> ReceiptStep:
    was = None if before is None else f"{_text(before, _CENT)} {unit}"
    return ReceiptStep(subject="customer", action=action, rule=rule, before=was, after=f"{_text(after, _CENT)} {unit}")


def _text(value: Decimal, digits: Decimal | None = None) -> str:
    return format(value if digits is None else value.quantize(digits), "f")


# --- the inputs of a receipt -----------------------------------------------------------------------------------------


def _terms(terms: Terms) -> dict[str, object]:
    return {
        "discount_rate": terms.discount_rate,
        "growth_rate": terms.growth_rate,
        "horizon_months": terms.horizon_months,
    }


def _basis(basis: Contractual | Purchasing | None) -> dict[str, object] | None:
    if basis is None:
        return None
    if isinstance(basis, Contractual):
        return {
            "kind": "contractual",
            "monthly_margin": basis.monthly_margin,
            "churn_probability": basis.churn_probability,
            "churn_days": basis.churn_days,
        }
    history, model, spend = basis.history, basis.model, basis.spend
    return {
        "kind": "purchasing",
        "history": {"frequency": history.frequency, "recency": history.recency, "age": history.age},
        "model": {"r": model.r, "alpha": model.alpha, "a": model.a, "b": model.b},
        "spend": {"p": spend.p, "q": spend.q, "gamma": spend.gamma},
        "unit_days": basis.unit_days,
        "purchases": basis.purchases,
        "mean_spend": basis.mean_spend,
        "margin_share": basis.margin_share,
    }


def _read(basis: dict[str, object] | None) -> Contractual | Purchasing | None:
    if basis is None:
        return None
    if basis["kind"] == "contractual":
        return Contractual(
            monthly_margin=Decimal(str(basis["monthly_margin"])),
            churn_probability=Decimal(str(basis["churn_probability"])),
            churn_days=int(str(basis["churn_days"])),
        )
    return Purchasing(
        history=PurchaseHistory(**basis["history"]),  # type: ignore[arg-type]
        model=PurchaseModel(**basis["model"]),  # type: ignore[arg-type]
        spend=SpendModel(**basis["spend"]),  # type: ignore[arg-type]
        unit_days=Decimal(str(basis["unit_days"])),
        purchases=int(str(basis["purchases"])),
        mean_spend=float(str(basis["mean_spend"])),
        margin_share=Decimal(str(basis["margin_share"])),
    )
