"""What a customer has brought and cost over a time: profit and loss by customer, one statement for each currency.

A line of the ledger is one account's in one billing period. It counts, whole, where its period begins: so the months
of a year add up to the year, and nobody's period is cut.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from chassis.types import Money

_ZERO = Decimal(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class FinancialAmount:
    """An amount of one kind: `subscription`, `usage`, `interconnect`, `acquisition` …"""

    kind: str | None = None
    amount: Money | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerLine:
    """What billing reports of one account in one period (its end isn't part of it), all in one currency (`unit`).

    `balance`: what the account holds (positive) or owes at the end; `overdue`: what of that is owed too long;
    `overdue_days`: since when.
    """

    customer_id: str
    account_id: str
    period_start: date
    period_end: date
    unit: str
    revenue: tuple[FinancialAmount, ...] = ()
    cost: tuple[FinancialAmount, ...] = ()
    balance: Decimal | None = None
    overdue: Decimal | None = None
    overdue_days: int | None = None

    @property
    def revenue_total(self) -> Decimal:
        """All revenue of the period."""
        return total(self.revenue)

    @property
    def cost_total(self) -> Decimal:
        """All cost of the period."""
        return total(self.cost)

    @property
    def margin(self) -> Decimal:
        """Revenue less cost."""
        return self.revenue_total - self.cost_total


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfitAndLoss:
    """Profit and loss in one currency; balance and overdue are those of the last period of each account."""

    unit: str
    revenue: tuple[FinancialAmount, ...] = ()
    cost: tuple[FinancialAmount, ...] = ()
    revenue_total: Money | None = None
    cost_total: Money | None = None
    margin: Money | None = None
    balance: Money | None = None
    overdue: Money | None = None
    # Billing periods that were counted, of all accounts together.
    lines: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountStanding:
    """What an account holds or owes in one currency at the end of the last period that was reported of it (`as_of`)."""

    account_id: str | None = None
    balance: Money | None = None
    overdue: Money | None = None
    overdue_days: int | None = None
    as_of: str | None = None


def standings(lines: Iterable[LedgerLine]) -> tuple[AccountStanding, ...]:
    """Of each account and currency, by account; those of which no balance was reported are left out."""
    last: dict[tuple[str, str], LedgerLine] = {}
    for line in sorted(lines, key=lambda line: line.period_start):
        if line.balance is not None or line.overdue is not None:
            last[line.account_id, line.unit] = line
    return tuple(
        AccountStanding(
            account_id=line.account_id,
            balance=None if line.balance is None else Money(unit=line.unit, value=line.balance),
            overdue=None if line.overdue is None else Money(unit=line.unit, value=line.overdue),
            overdue_days=line.overdue_days,
            as_of=line.period_end.isoformat(),
        )
        for _, line in sorted(last.items())
    )


def total(amounts: Iterable[FinancialAmount]) -> Decimal:
    """The sum of amounts of one currency; 0 for none."""
    return sum((one.amount.value for one in amounts if one.amount and one.amount.value is not None), start=_ZERO)


def profit_and_loss(
    lines: Iterable[LedgerLine], start: date | None = None, end: date | None = None
) -> tuple[ProfitAndLoss, ...]:
    """The statement of each currency over the periods that begin from `start` to before `end`, by currency.

    Amounts of different currencies never add. Somebody of whom nothing was reported has none.
    """
    by_unit: dict[str, list[LedgerLine]] = {}
    for line in lines:
        if (start is None or start <= line.period_start) and (end is None or line.period_start < end):
            by_unit.setdefault(line.unit, []).append(line)
    return tuple(_statement(unit, by_unit[unit]) for unit in sorted(by_unit))


def _statement(unit: str, lines: list[LedgerLine]) -> ProfitAndLoss:
    revenue, cost = (_by_kind(unit, [one for line in lines for one in side(line)]) for side in (_revenue, _cost))
    last: dict[tuple[str, str], LedgerLine] = {}
    for line in sorted(lines, key=lambda line: line.period_start):
        last[line.customer_id, line.account_id] = line
    return ProfitAndLoss(
        unit=unit,
        revenue=revenue,
        cost=cost,
        revenue_total=Money(unit=unit, value=total(revenue)),
        cost_total=Money(unit=unit, value=total(cost)),
        margin=Money(unit=unit, value=total(revenue) - total(cost)),
        balance=Money(unit=unit, value=sum((line.balance or _ZERO for line in last.values()), start=_ZERO)),
        overdue=Money(unit=unit, value=sum((line.overdue or _ZERO for line in last.values()), start=_ZERO)),
        lines=len(lines),
    )


def _revenue(line: LedgerLine) -> tuple[FinancialAmount, ...]:
    return line.revenue


def _cost(line: LedgerLine) -> tuple[FinancialAmount, ...]:
    return line.cost


def _by_kind(unit: str, amounts: Iterable[FinancialAmount]) -> tuple[FinancialAmount, ...]:
    sums: dict[str, Decimal] = {}
    for one in amounts:
        if one.amount is not None and one.amount.value is not None:
            kind = one.kind or ""
            sums[kind] = sums.get(kind, _ZERO) + one.amount.value
    return tuple(FinancialAmount(kind=kind, amount=Money(unit=unit, value=sums[kind])) for kind in sorted(sums))
