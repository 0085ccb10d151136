"""Takes what billing reports into the ledger of periods.

Reports of one branch wait for each other: two that speak of the same account and period can't both find nothing there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from chassis.convert import from_message, from_money
from chassis.errors import InvalidArgument
from chassis.types import Money
from chassis.unit import Unit
from customers.value.profitability import FinancialAmount, LedgerLine
from customers.value.store import financial_line, known_customers, rely_on
from svyaz.customers.v1 import value_pb2

MOST_LINES, MOST_KINDS = 5_000, 100
_RECORDED = value_pb2.FINANCIAL_REPORT_RESULT_RECORDED
_REPLACED = value_pb2.FINANCIAL_REPORT_RESULT_REPLACED
_THERE = value_pb2.FINANCIAL_REPORT_RESULT_ALREADY_THERE
_OLDER = value_pb2.FINANCIAL_REPORT_RESULT_OLDER
_REFUSED = value_pb2.FINANCIAL_REPORT_RESULT_REFUSED
WRITTEN = frozenset({_RECORDED, _REPLACED})

# Of which customer, account and currency.
_Account = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Reported:
    """A line as it stands in the ledger, or as it wants to."""

    report_id: str
    line: int
    sequence: int
    content: LedgerLine

    @property
    def account(self) -> _Account:
        """Whose it is."""
        return self.content.customer_id, self.content.account_id, self.content.unit


def decide(
    there: Reported | None, same_line: Reported | None, beside: Sequence[Reported], new: Reported
) -> tuple[int, str]:
    """What becomes of a line: the result, and the reason of a refusal.

    `there`: what the ledger says of the same account and beginning; `same_line`: what this report said before under
    this number; `beside`: the account's other periods.
    """
    if same_line is not None:
        unchanged = same_line.content == new.content and same_line.sequence == new.sequence
        return (_THERE, "") if unchanged else (_REFUSED, "LINE_REUSED")
    if there is not None and new.sequence < there.sequence:
        return _OLDER, ""
    if there is not None and new.sequence == there.sequence:
        return _REFUSED, "SEQUENCE_REUSED"
    start, end = new.content.period_start, new.content.period_end
    if any(one.content.period_start < end and start < one.content.period_end for one in beside):
        return _REFUSED, "PERIODS_OVERLAP"
    return (_RECORDED if there is None else _REPLACED), ""


_DESCRIPTIONS = {
    "LINE_REUSED": "this line of this report said something else before",
    "SEQUENCE_REUSED": "another report of this sequence has spoken of this account and period",
    "PERIODS_OVERLAP": "another period of this account overlaps it",
    "UNKNOWN_CUSTOMER": "there is no such customer in the branch",
}


def report(
    unit: Unit, request: value_pb2.ReportCustomerFinancialsRequest, branch: str
) -> list[value_pb2.FinancialReportOutcome]:
    """What has become of each line, in their order; those that stand are written."""
    lines: dict[int, Reported] = {}
    outcomes: dict[int, value_pb2.FinancialReportOutcome] = {}
    for message in request.line:
        try:
            lines[message.line] = _read(request, message)
        except (ValueError, InvalidArgument) as error:
            outcomes[message.line] = _outcome(message.line, _REFUSED, "INVALID_LINE", str(error))
    with unit.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%(what)s, 0))", {"what": f"financials {branch}"})
    known = known_customers(unit, {line.content.customer_id for line in lines.values()}, branch)
    ledger = _Ledger(unit, branch, request.report_id, list(lines.values()))
    for number, line in lines.items():
        if line.content.customer_id not in known:
            outcomes[number] = _outcome(number, _REFUSED, "UNKNOWN_CUSTOMER", _DESCRIPTIONS["UNKNOWN_CUSTOMER"])
            continue
        result, reason = decide(ledger.there(line), ledger.same_line(number), ledger.beside(line), line)
        outcomes[number] = _outcome(number, result, reason, _DESCRIPTIONS.get(reason, ""))
        if result in WRITTEN:
            ledger.take(line)
    taken = [lines[number] for number, outcome in outcomes.items() if outcome.result in WRITTEN]
    _write(unit, branch, taken)
    rely_on(unit, sorted({line.content.customer_id for line in taken}), branch)
    return [outcomes[message.line] for message in request.line]


class _Ledger:
    """What the ledger says of the accounts of a report, those lines of it included that have been taken."""

    def __init__(self, unit: Unit, branch: str, report_id: str, lines: Sequence[Reported]) -> None:
        columns = financial_line.c
        customers = sorted({line.content.customer_id for line in lines})
        rows = unit.session.execute(sa.select(financial_line).where(columns.customer_id == sa.func.any(customers)))
        self._accounts: dict[_Account, dict[date, Reported]] = {}
        for row in rows:
            self.take(_kept(row))
        before = unit.session.execute(
            sa.select(financial_line).where(
                columns.branch == branch,
                columns.report_id == report_id,
                columns.line == sa.func.any([line.line for line in lines]),
            )
        )
        self._lines = {row.line: _kept(row) for row in before}

    def there(self, line: Reported) -> Reported | None:
        return self._accounts.get(line.account, {}).get(line.content.period_start)

    def same_line(self, number: int) -> Reported | None:
        return self._lines.get(number)

    def beside(self, line: Reported) -> Sequence[Reported]:
        start = line.content.period_start
        return [one for begins, one in self._accounts.get(line.account, {}).items() if begins != start]

    def take(self, line: Reported) -> None:
        self._accounts.setdefault(line.account, {})[line.content.period_start] = line


def _kept(row: Any) -> Reported:
    content = LedgerLine(
        customer_id=row.customer_id,
        account_id=row.account_id,
        period_start=row.period_start,
        period_end=row.period_end,
        unit=row.unit,
        revenue=row.revenue,
        cost=row.cost,
        balance=row.balance,
        overdue=row.overdue,
        overdue_days=row.overdue_days,
    )
    return Reported(row.report_id, row.line, row.sequence, content)


def _read(request: value_pb2.ReportCustomerFinancialsRequest, message: value_pb2.FinancialReportLine) -> Reported:
    """Raises ValueError or InvalidArgument for a line that can't be."""
    if not message.customer_id:
        raise ValueError("customer_id: required")
    start, end = _day("period_start", message.period_start), _day("period_end", message.period_end)
    if end <= start:
        raise ValueError("period_end: it ends before it begins")
    if len(message.revenue) + len(message.cost) > MOST_KINDS:
        raise ValueError(f"revenue: more than {MOST_KINDS} kinds")
    if message.overdue_days < 0:
        raise ValueError("overdue_days: less than none")
    sides = {name: tuple(_amounts(name, getattr(message, name))) for name in ("revenue", "cost")}
    single = {name: from_money(getattr(message, name)) for name in ("balance", "overdue") if message.HasField(name)}
    content = LedgerLine(
        customer_id=message.customer_id,
        account_id=message.account_id,
        period_start=start,
        period_end=end,
        unit=_unit([*(one.amount for side in sides.values() for one in side), *single.values()]),
        balance=_value("balance", single),
        overdue=_value("overdue", single),
        overdue_days=message.overdue_days,
        **sides,
    )
    return Reported(request.report_id, message.line, request.sequence, content)


def _day(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{name}: {text!r} isn't a date, YYYY-MM-DD") from error


def _amounts(name: str, messages: Sequence[value_pb2.FinancialAmount]) -> Iterator[FinancialAmount]:
    kinds: set[str] = set()
    for message in messages:
        amount: FinancialAmount = from_message(message, FinancialAmount)
        if not amount.kind or amount.kind in kinds or amount.amount is None or amount.amount.value is None:
            raise ValueError(f"{name}: each kind once, with its amount")
        kinds.add(amount.kind)
        yield amount


def _unit(amounts: Sequence[Money | None]) -> str:
    """The currency of all the amounts: there must be one, and no other."""
    units = {amount.unit or "" for amount in amounts if amount is not None}
    if len(units) != 1 or "" in units:
        raise ValueError(f"a line's amounts are of one currency, not of {', '.join(sorted(units)) or 'none'}")
    return units.pop()


def _value(name: str, single: Mapping[str, Money]) -> Decimal | None:
    if name not in single:
        return None
    value = single[name].value
    if value is None or (name == "overdue" and value < 0):
        raise ValueError(f"{name}: an amount, and what is overdue isn't negative")
    return value


def _outcome(line: int, result: int, reason: str, description: str) -> value_pb2.FinancialReportOutcome:
    return value_pb2.FinancialReportOutcome(
        line=line,
        result=result,  # type: ignore[arg-type]
        reason=reason,
        description=description,
    )


def _write(unit: Unit, branch: str, lines: Sequence[Reported]) -> None:
    if not lines:
        return
    insert = postgresql.insert(financial_line)
    keys = [column.name for column in financial_line.primary_key]
    changed = {column.name: column for column in insert.excluded if column.name not in keys}
    # In the order of their keys, as everybody takes them.
    rows = [
        {
            "customer_id": line.content.customer_id,
            "account_id": line.content.account_id,
            "unit": line.content.unit,
            "period_start": line.content.period_start,
            "branch": branch,
            "period_end": line.content.period_end,
            "revenue": line.content.revenue,
            "cost": line.content.cost,
            "balance": line.content.balance,
            "overdue": line.content.overdue,
            "overdue_days": line.content.overdue_days,
            "report_id": line.report_id,
            "line": line.line,
            "sequence": line.sequence,
            "reported_at": unit.at,
        }
        for line in sorted(lines, key=lambda line: (*line.account, line.content.period_start))
    ]
    unit.session.execute(insert.on_conflict_do_update(index_elements=keys, set_=changed), rows)
