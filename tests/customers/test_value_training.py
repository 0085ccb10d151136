"""Whatever a file of customers looks like: what can be learnt from is, and what can't says why."""

import json
import math
import random
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from chassis.errors import InvalidArgument
from chassis.types import Money
from customers.value.churn import ChurnModel
from customers.value.profitability import FinancialAmount, LedgerLine
from customers.value.purchase_models import PurchaseModels
from svyaz_cli.training import churn, purchases
from svyaz_cli.training.table import Table, TableError, of_examples, of_file


def a_file(path: Path, header: str, *lines: str, encoding: str = "utf-8") -> Path:
    found = path / "customers.csv"
    found.write_text("\n".join([header, *lines]) + "\n", encoding=encoding)
    return found


def read(path: Path, target: str = "Churn") -> Table:
    return of_file(path, target, sums={})


def test_a_number_stays_one_however_a_file_writes_that_it_isnt_known(tmp_path: Path) -> None:
    """Else a column of numbers would become as many names as it has values, and be lost."""
    unknown = ["NA", "N/A", "nan", "NULL", "?", "-", "", "None"]
    lines = [f"{number}.5,{'None' if number % 3 else 'DSL'},{'Yes' if number % 4 else 'No'}" for number in range(40)]
    lines += [f"{word},None,No" for word in unknown]
    table = read(a_file(tmp_path, "charges,internet,Churn", *lines))
    assert sum(math.isnan(value) for value in table.numbers["charges"]) == len(unknown)
    # Among words it may be one: who has no internet.
    assert set(table.categories["internet"]) == {"None", "DSL"}


def test_labels_are_taken_as_files_have_them(tmp_path: Path) -> None:
    lines = [f"{number},{label}" for number, label in enumerate([" True.", "False.", "1.0", "0.0", "YES", "no"])]
    assert list(read(a_file(tmp_path, "x,Churn", *lines)).labels) == [1, 0, 1, 0, 1, 0]


def test_a_key_of_numbers_is_left_out_and_a_measure_isnt(tmp_path: Path) -> None:
    chance = random.Random(1)
    lines = [
        f"{15_600_000 + number * 7},{number + 1},{chance.randrange(10**9)},{chance.random():.4f},{number % 5 // 4}"
        for number in range(60)
    ]
    table = read(a_file(tmp_path, "CustomerId,RowNumber,bytes,share,Churn", *lines))
    assert (set(table.numbers), set(table.left_out)) == ({"bytes", "share"}, {"CustomerId", "RowNumber"})


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["1,2", "1,2,Yes"], "line 2"),
        (["1,2,Yes,3,4"], "line 2"),
        (["1,2,Yes", "1,2,maybe"], "line 3"),
        (["1,2,Yes"] * 30, "nobody has left, or everybody"),
        (["1,2,Yes", "3,4,No"] * 4, "at least"),
        (["1,2,Yes", "1,2,No"] * 30, "nothing to learn from"),
    ],
    ids=["short", "long", "label", "one class", "few", "constant"],
)
def test_what_cant_be_learnt_from_says_so(tmp_path: Path, lines: list[str], why: str) -> None:
    with pytest.raises(TableError, match=why):
        churn.train(read(a_file(tmp_path, "a,b,Churn", *lines)), 90)


def test_a_file_of_another_alphabet_or_without_a_header_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="UTF-8"):
        read(a_file(tmp_path, "тариф,Churn", "Бишкек,Yes", encoding="cp1251"))
    with pytest.raises(TableError, match="twice"):
        read(a_file(tmp_path, "a,a,Churn", "1,2,Yes"))
    with pytest.raises(TableError, match="no column"):
        read(a_file(tmp_path, "a;b;Churn", "1;2;Yes"))
    with pytest.raises(purchases.FitError, match="line 2"):
        purchases.of_file(
            a_file(tmp_path, "customer_id,date,amount", "1,2026-02-30,5"), "customer_id", "date", "amount"
        )
    with pytest.raises(purchases.FitError, match="no column"):
        purchases.of_file(a_file(tmp_path, "customer;date;amount", "1;2;3"), "customer_id", "date", "amount")


def test_what_training_has_never_seen_has_a_score_and_a_fold_may_lack_anything() -> None:
    chance = random.Random(7)
    rows: list[dict[str, float | str | None]] = []
    labels: list[int] = []
    for number in range(120):
        tenure = chance.randrange(1, 60)
        rows.append(
            {
                "tenure": float(tenure),
                # Known of hardly anybody, constant but for one, and a level that one fold alone has.
                "seldom": float(number) if number < 3 else None,
                "almost": 1.0 if number else 0.0,
                "plan": "rare" if number == 5 else f"p{number % 3}",
            }
        )
        labels.append(int(chance.random() < 1 / (1 + tenure / 6)))
    table = of_examples(rows, labels)
    # The rows that alone say it are judged, not learnt from.
    learnt = churn.learn(table, np.arange(6, 120), np.asarray(labels)[6:], 0)
    assert np.isfinite(learnt.log_odds(table, np.arange(120))).all()
    model = ChurnModel(churn.artefact(table, learnt, 90, (1.0, 0.0)))
    odd: tuple[dict[str, float | str | None], ...] = (
        {}, {"plan": "never seen", "tenure": 1e12}, {"plan": 5.0, "tenure": "text"}, {"tenure": -1e300},
    )  # fmt: skip
    for given in odd:
        assert 0 < model.score(given).probability < 1
    for probe, expected in churn.probes(table, learnt, (1.0, 0.0)):
        assert model.score(probe).probability == pytest.approx(expected, abs=1e-9)


def a_purchase(day: date, amount: int, unit: str) -> LedgerLine:
    paid = FinancialAmount(kind="usage", amount=Money(unit=unit, value=Decimal(amount)))
    return LedgerLine(
        customer_id="c", account_id="a", period_start=day, period_end=date(2027, 1, 1), unit=unit, revenue=(paid,)
    )


def test_a_model_of_purchases_says_nothing_of_another_currency() -> None:
    """What is spent was learnt in one: applied to amounts of another it would foretell any sum."""
    fitted = purchases.Fitted({"r": 0.2, "alpha": 4.4, "a": 0.8, "b": 2.4}, 0.0)
    spent = purchases.Fitted({"p": 6.0, "q": 3.7, "gamma": 15.0}, 0.0)
    made = purchases.artefact(fitted, spent, 7, "KGS")
    at = datetime(2026, 7, 1, tzinfo=UTC)
    som, dollars = ([a_purchase(date(2026, month, 1), 100, unit) for month in (1, 3)] for unit in ("KGS", "USD"))
    model = PurchaseModels(made)
    assert model.basis(dollars, at) is None
    basis = model.basis([*som, *dollars], at)
    assert basis is not None
    assert (basis.purchases, basis.mean_spend) == (2, 100.0)
    with pytest.raises(InvalidArgument, match="currency"):
        PurchaseModels(json.dumps({k: v for k, v in json.loads(made).items() if k != "currency"}).encode())
