"""How a quantity becomes an amount: per unit, by packages, by graduated or volume tiers, by percentages.

The rules, as svyaz.catalog.v1.PricingModel states them (tiers are (up_to of the one before, up_to]):

* perUnit: every unit at one price.
* package: every package that is begun, in full.
* graduated: what lies in each tier at that tier's price, and the flat amounts of all tiers that are reached.
* volume: everything at the price of the tier that the whole quantity lies in, and that tier's flat amount.
* percentage: per cent of the quantity (an amount of money) and the flat amount; of nothing, nothing.
* graduatedPercentage: graduated, with percentages; of nothing, nothing (as Lago's GraduatedPercentageService has it).

A tier is reached when the quantity exceeds the up_to of the one before; the first is reached even by nothing. Decimals
give decimals and fractions give fractions, both exact (decimals to 60 digits).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, Generic, TypeVar

from catalog.pricing.money import EXACT, number
from catalog.pricing.rating import Rates, compile_rates, parse_rates
from catalog.pricing.receipts import ReceiptStep
from catalog.pricing.units import SECOND
from catalog.product import pricing_models, values
from catalog.product.values import PricingModelType
from chassis.errors import InvalidArgument, Violation
from chassis.types import Quantity, decimal_of

N = TypeVar("N", Decimal, Fraction)
_M = PricingModelType


@dataclass(frozen=True, slots=True)
class Tier(Generic[N]):
    """From where the tier before ended (excluded) up to `up_to` (included; None: without end).

    `price` is an amount for every `Model.per` units, or per cent of the quantity, as the model's type has it.
    """

    up_to: N | None
    price: N
    flat: N


@dataclass(frozen=True, slots=True)
class Model:
    """How a quantity becomes an amount; immutable, made from its plain form only (`parse_model`).

    Quantities, the tiers' bounds and the size of packages count `units`; a price is for every `per` of them. Amounts
    are in the currency of the price that the model belongs to.
    """

    type: PricingModelType
    units: str
    per: Decimal
    tiers: tuple[Tier[Decimal], ...]
    # The same, for quantities that aren't decimal (20 seconds in minutes).
    fractions: tuple[Tier[Fraction], ...]
    package_size: Decimal | None
    usage_type: str
    allowance: Quantity | None
    free_events: int | None
    event_increment: Quantity | None
    period_increment: Quantity | None
    event_minimum: Decimal | None
    event_maximum: Decimal | None
    period_minimum: Decimal | None
    period_maximum: Decimal | None
    rates: Rates

    @property
    def counts(self) -> str:
        """The unit that usage is counted in; rates without a unit of measure count seconds."""
        return self.units or (SECOND if self.type is PricingModelType.RATED else "")


@dataclass(slots=True)
class TierStep(Generic[N]):
    """One part of an amount: what was done, the amount before and after it, and the calculation in figures."""

    action: str
    before: N
    after: N
    reason: str


# --- compiling -------------------------------------------------------------------------------------------------------


def compile_model(
    model: values.PricingModel,
    *,
    amount: Decimal | None = None,
    percentage: Decimal | None = None,
    unit_of_measure: Quantity | None = None,
    path: str = "pricing_model",
) -> dict[str, Any]:
    """The plain form (texts, whole numbers, lists, None) of a model, which `parse_model` takes.

    `amount`, `percentage`, `unit_of_measure` are those of the price that the model belongs to: the first two count
    where the model has no tier. Raises InvalidArgument MALFORMED_PRICING_MODEL naming every field that is wrong.
    """
    wrong = [
        *pricing_models.contradictions(model, path),
        *pricing_models.omissions(model, path, amount=amount is not None, percentage=percentage is not None),
    ]
    per = unit_of_measure.amount if unit_of_measure is not None else None
    if per is not None and per <= 0:
        wrong.append(Violation("unit_of_measure.amount", f"{per} isn't above 0"))
    if wrong:
        raise InvalidArgument("MALFORMED_PRICING_MODEL", wrong[0].description, violations=wrong)
    assert model.model_type is not None
    of_percentages = model.model_type in pricing_models.PERCENTAGES
    stated = percentage if of_percentages else amount
    tiers = model.tier or (
        (values.PriceTier(unit_amount=stated, percentage=stated),) if model.model_type in pricing_models.SINGLE else ()
    )
    return {
        "type": model.model_type.value,
        "units": (unit_of_measure.units or "") if unit_of_measure is not None else "",
        "per": _text(per) or "1",
        "tiers": [
            {
                "up_to": _text(tier.up_to),
                "price": _text(tier.percentage if of_percentages else tier.unit_amount) or "0",
                "flat": _text(tier.flat_amount) or "0",
            }
            for tier in tiers
        ],
        "package_size": _text(model.package_size),
        "usage_type": model.usage_type or "",
        "allowance": _plain_quantity(model.allowance),
        "free_events": model.free_events,
        "event_increment": _plain_quantity(model.event_increment),
        "period_increment": _plain_quantity(model.period_increment),
        "event_minimum": _text(model.event_minimum),
        "event_maximum": _text(model.event_maximum),
        "period_minimum": _text(model.period_minimum),
        "period_maximum": _text(model.period_maximum),
        "rates": compile_rates(model.rate),
    }


def parse_model(data: Mapping[str, Any]) -> Model:
    """A model from its plain form."""
    tiers = tuple(
        Tier(_decimal(tier["up_to"]), decimal_of(tier["price"]), decimal_of(tier["flat"])) for tier in data["tiers"]
    )
    return Model(
        type=PricingModelType(data["type"]),
        units=data["units"],
        per=decimal_of(data["per"]),
        tiers=tiers,
        fractions=tuple(
            Tier(None if tier.up_to is None else Fraction(tier.up_to), Fraction(tier.price), Fraction(tier.flat))
            for tier in tiers
        ),
        package_size=_decimal(data["package_size"]),
        usage_type=data["usage_type"],
        allowance=_quantity(data["allowance"]),
        free_events=data["free_events"],
        event_increment=_quantity(data["event_increment"]),
        period_increment=_quantity(data["period_increment"]),
        event_minimum=_decimal(data["event_minimum"]),
        event_maximum=_decimal(data["event_maximum"]),
        period_minimum=_decimal(data["period_minimum"]),
        period_maximum=_decimal(data["period_maximum"]),
        rates=parse_rates(data["rates"]),
    )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else decimal_of(text)


def _plain_quantity(quantity: Quantity | None) -> dict[str, str] | None:
    if quantity is None or quantity.amount is None:
        return None
    return {"amount": format(quantity.amount, "f"), "units": quantity.units or ""}


def _quantity(data: Mapping[str, str] | None) -> Quantity | None:
    return None if data is None else Quantity(amount=decimal_of(data["amount"]), units=data["units"])


# --- reckoning -------------------------------------------------------------------------------------------------------


def amount(model: Model, quantity: N, *, first_rules: bool = False) -> tuple[N, list[TierStep[N]]]:
    """What the quantity (in the model's units; of percentages: an amount of money) comes to, unrounded, and how.

    Of the model's terms only type, tiers and packages count here: allowances, increments, least and most amounts are
    those of events and periods (see `catalog.pricing.usage`). `first_rules`: those by which graduated percentages of
    nothing cost the first flat amount.

    Raises InvalidArgument INVALID_QUANTITY for a negative quantity, QUANTITY_BEYOND_TIERS for one above the last tier's
    end, RATED_BY_EVENT for a model that rates events by where and when they are.
    """
    if quantity < 0:
        raise InvalidArgument("INVALID_QUANTITY", f"{number(quantity)} isn't a quantity")
    if model.type is _M.RATED:
        raise InvalidArgument("RATED_BY_EVENT", "there is no price for a sum of what is rated event by event")
    tiers = _tiers(model, quantity)
    last = tiers[-1].up_to
    if last is not None and quantity > last:
        raise InvalidArgument(
            "QUANTITY_BEYOND_TIERS",
            f"{number(quantity)} {model.units} is above {number(last)}, the end of the last tier",
        )
    with localcontext(EXACT):
        if model.type is _M.GRADUATED_PERCENTAGE and not quantity and not first_rules:
            return quantity, []
        if model.type in (_M.GRADUATED, _M.GRADUATED_PERCENTAGE):
            return _graduated(model, tiers, quantity)
        if model.type is _M.VOLUME:
            return _volume(model, tiers, quantity)
        if model.type is _M.PACKAGE:
            return _packages(model, tiers[0], quantity)
        return _single(model, tiers[0], quantity)


def receipt_steps(steps: Sequence[TierStep[N]], subject: str, rule: str, currency: str) -> list[ReceiptStep]:
    """The parts of an amount as a receipt states them."""
    return [
        ReceiptStep(
            subject,
            step.action,
            rule,
            f"{number(step.before)} {currency}",
            f"{number(step.after)} {currency}",
            step.reason,
        )
        for step in steps
    ]


def _tiers(model: Model, quantity: N) -> Sequence[Tier[N]]:
    by_kind: Mapping[type, Any] = {Decimal: model.tiers, Fraction: model.fractions}
    of_its_kind: Sequence[Tier[N]] = by_kind[type(quantity)]
    return of_its_kind


def _graduated(model: Model, tiers: Sequence[Tier[N]], quantity: N) -> tuple[N, list[TierStep[N]]]:
    total = lower = type(quantity)(0)
    steps: list[TierStep[N]] = []
    for i, tier in enumerate(tiers):
        if i and quantity <= lower:
            break
        upper = quantity if tier.up_to is None or quantity < tier.up_to else tier.up_to
        inside = upper - lower
        before, total = total, total + _priced(model, tier, inside) + tier.flat
        steps.append(TierStep("TIER_CHARGED", before, total, f"tier {i + 1}: {_formula(model, tier, inside)}"))
        lower = upper
    return total, steps


def _volume(model: Model, tiers: Sequence[Tier[N]], quantity: N) -> tuple[N, list[TierStep[N]]]:
    i, tier = next((i, tier) for i, tier in enumerate(tiers) if tier.up_to is None or quantity <= tier.up_to)
    total = _priced(model, tier, quantity) + tier.flat
    return total, [
        TierStep("TIER_CHARGED", type(quantity)(0), total, f"tier {i + 1}: {_formula(model, tier, quantity)}")
    ]


def _packages(model: Model, tier: Tier[N], quantity: N) -> tuple[N, list[TierStep[N]]]:
    assert model.package_size is not None
    size = type(quantity)(model.package_size)
    # Floor division of what is negative, so that what is begun counts as whole; Decimal's truncates, hence the rest.
    count = quantity // size
    if count * size < quantity:
        count += 1
    packages = type(quantity)(count)
    total = packages * tier.price + tier.flat
    reason = f"{number(packages)} packages of {_counted(size, model.units)}: {_figures(number(packages), tier)}"
    return total, [TierStep("PACKAGES_CHARGED", type(quantity)(0), total, reason)]


def _single(model: Model, tier: Tier[N], quantity: N) -> tuple[N, list[TierStep[N]]]:
    none = type(quantity)(0)
    if model.type is _M.PERCENTAGE and not quantity:
        return none, []
    total = _priced(model, tier, quantity) + tier.flat
    action = "PERCENTAGE_CHARGED" if model.type is _M.PERCENTAGE else "UNITS_CHARGED"
    return total, [TierStep(action, none, total, _formula(model, tier, quantity))]


def _priced(model: Model, tier: Tier[N], quantity: N) -> N:
    """Multiplied first and divided last: so decimals are exact wherever a decimal can say the result."""
    amount = quantity * tier.price
    if model.type in pricing_models.PERCENTAGES:
        return amount / 100
    return amount if model.per == 1 else amount / type(quantity)(model.per)


def _formula(model: Model, tier: Tier[N], quantity: N) -> str:
    """`10 × 5 + 3`, `10 min × 5 / 60`, `500 × 1 % + 200`: as in the figures of the tariff."""
    if model.type in pricing_models.PERCENTAGES:
        flat = f" + {number(tier.flat)}" if tier.flat else ""
        return f"{number(quantity)} × {number(tier.price)} %{flat}"
    figures = _figures(_counted(quantity, model.units), tier)
    return figures if model.per == 1 else figures.replace("× ", f"/ {number(model.per)} × ", 1)


def _figures(count: str, tier: Tier[N]) -> str:
    flat = f" + {number(tier.flat)}" if tier.flat else ""
    return f"{count} × {number(tier.price)}{flat}"


def _counted(quantity: N, units: str) -> str:
    return f"{number(quantity)} {units}" if units else number(quantity)
