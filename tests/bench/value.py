"""How many customers are valued in a second: `make bench NAME=value [ARGS="--customers 500"]`, a JSON line each.

The model is one that was learnt from churn_bigml (some 400 trees). `score` is the model alone, `reckon` everything of a
customer without the database: features, score with reasons and receipt, lifetime value, class.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np

from chassis.types import Money
from customers.value.churn import ChurnModel
from customers.value.domain import usual_policy
from customers.value.features import HeldProduct, Known
from customers.value.profitability import FinancialAmount, LedgerLine
from customers.value.valuation import Setting, valued
from svyaz_cli.training import churn
from tests.study.churn import table_of

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=500)
    wanted = parser.parse_args(arguments).customers
    table = table_of("churn_bigml")
    learnt = churn.learn(table, np.arange(len(table)), np.asarray(table.labels), 0)
    model = ChurnModel(churn.artefact(table, learnt, 90, (1.0, 0.0)))
    customers = [churn.features_of(table, number % len(table)) for number in range(wanted)]
    # What a tree has explained once it remembers.
    for one in customers:
        model.score(one)
    measure("score", lambda: [model.score(one) for one in customers], wanted)
    setting = Setting("bench", usual_policy("bench", NOW), {}, "m", model, None)
    known = Known(
        lines=[line(month) for month in range(1, 7)], products=[HeldProduct(id="p", started_at=NOW, ended_at=None)]
    )
    measure("reckon", lambda: [valued(known, setting, NOW) for _ in range(wanted)], wanted)


def line(month: int) -> LedgerLine:
    """A month of a customer's."""
    amount = FinancialAmount(kind="subscription", amount=Money(unit="KGS", value=Decimal(500)))
    return LedgerLine(
        customer_id="c",
        account_id="a",
        period_start=date(2026, month, 1),
        period_end=date(2026, month + 1, 1),
        unit="KGS",
        revenue=(amount,),
        overdue=Decimal(month),
        overdue_days=month,
    )


def measure(what: str, work: Callable[[], object], count: int) -> None:
    """Processor time, since others may use the machine too."""
    began = time.process_time()
    work()
    spent = time.process_time() - began
    print(json.dumps({"what": what, "a_second": round(count / spent), "milliseconds": round(1000 * spent / count, 3)}))


if __name__ == "__main__":
    main()
