"""A registered model of purchases, read from its artefact, and the histories that it is applied to."""

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from chassis.errors import InvalidArgument, Violation
from customers.value.lifetime import Purchasing
from customers.value.profitability import LedgerLine
from customers.value.purchases import PurchaseHistory, PurchaseModel, SpendModel

FORMAT = 1


class PurchaseModels:
    """BG/NBD with gamma-gamma, in a unit of so many days."""

    def __init__(self, artefact: bytes) -> None:
        """Raises InvalidArgument MALFORMED_MODEL, PARAMETER_OUT_OF_RANGE."""
        try:
            content = json.loads(artefact)
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']}, not {FORMAT}")
            self.unit_days = Decimal(str(content["unit_days"]))
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
        """What a customer's purchases in one currency say; None: he has never bought.

        A day on which billing reports revenue is a purchase, as BG/NBD counts them: several of one day are one.
        """
        bought = [line for line in lines if line.revenue_total > 0 and line.period_start <= at.date()]
        if not bought:
            return None
        days = sorted({line.period_start for line in bought})
        revenue = sum((line.revenue_total for line in bought), start=Decimal(0))
        margin = sum((line.margin for line in bought), start=Decimal(0))
        unit = float(self.unit_days)
        return Purchasing(
            history=PurchaseHistory(
                frequency=len(days) - 1,
                recency=(days[-1] - days[0]).days / unit,
                age=(at.date() - days[0]).days / unit,
            ),
            model=self.purchases,
            spend=self.spend,
            unit_days=self.unit_days,
            purchases=len(days),
            mean_spend=float(revenue / len(days)),
            margin_share=(margin / revenue).quantize(Decimal("0.000001")),
        )
