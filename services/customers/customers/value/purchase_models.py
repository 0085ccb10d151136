"""A registered model of purchases, read from its artefact, and the histories that it is applied to."""

import json
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal

from chassis.errors import InvalidArgument, Violation
from customers.value.lifetime import Purchasing
from customers.value.profitability import LedgerLine
from customers.value.purchases import PurchaseHistory, PurchaseModel, SpendModel

FORMAT = 1


def bought(lines: Iterable[LedgerLine], unit: str, at: datetime) -> dict[date, Decimal]:
    """What was paid in a currency on each day up to the instant.

    A day on which billing reports revenue is a purchase, as BG/NBD counts them: several of one day are one. Training
    and scoring both go by it.
    """
    found: dict[date, Decimal] = {}
    for line in lines:
        if line.unit == unit and line.revenue_total > 0 and line.period_start <= at.date():
            found[line.period_start] = found.get(line.period_start, Decimal(0)) + line.revenue_total
    return dict(sorted(found.items()))


class PurchaseModels:
    """BG/NBD with gamma-gamma, in a unit of so many days; what is spent, in one currency."""

    def __init__(self, artefact: bytes) -> None:
        """Raises InvalidArgument MALFORMED_MODEL, PARAMETER_OUT_OF_RANGE."""
        try:
            content = json.loads(artefact)
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']}, not {FORMAT}")
            self.unit_days = Decimal(str(content["unit_days"]))
            self.currency = content["currency"]
            if not isinstance(self.currency, str) or not self.currency:
                raise ValueError("it doesn't say in which currency it was learnt")
            self.purchases = PurchaseModel(**{name: float(value) for name, value in content["bg_nbd"].items()})
            self.spend = SpendModel(**{name: float(value) for name, value in content["gamma_gamma"].items()})
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            why = str(error) or type(error).__name__
            raise InvalidArgument("MALFORMED_MODEL", why, violations=[Violation("artefact", why)]) from error
        if not 0 < self.unit_days <= 366:
            raise InvalidArgument("MALFORMED_MODEL", "its unit is from 0 to 366 days")
        self.purchases.check()
        self.spend.check()

    def basis(self, lines: Sequence[LedgerLine], at: datetime) -> Purchasing | None:
        """What a customer's purchases say; None: he has never bought, in the model's currency."""
        days = bought(lines, self.currency, at)
        if not days:
            return None
        first, last = next(iter(days)), next(reversed(days))
        revenue = sum(days.values(), start=Decimal(0))
        margin = sum(
            (line.margin for line in lines if line.unit == self.currency and line.period_start in days),
            start=Decimal(0),
        )
        unit = float(self.unit_days)
        return Purchasing(
            history=PurchaseHistory(
                frequency=len(days) - 1,
                recency=(last - first).days / unit,
                age=(at.date() - first).days / unit,
            ),
            model=self.purchases,
            spend=self.spend,
            unit_days=self.unit_days,
            purchases=len(days),
            mean_spend=float(revenue / len(days)),
            margin_share=(margin / revenue).quantize(Decimal("0.000001")),
        )
