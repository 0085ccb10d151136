"""What the engines of value reckon: against published figures, by their definitions, and again from their receipts."""

import csv
import itertools
import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import InvalidArgument
from chassis.types import Characteristic, Json, Money
from customers.value import purchases as applied
from customers.value.churn import ChurnModel
from customers.value.features import HeldProduct, Known, churned, features
from customers.value.lifetime import Contractual, Purchasing, Terms, lifetime_value, monthly_retention, replay
from customers.value.profitability import FinancialAmount, LedgerLine, profit_and_loss
from customers.value.purchases import PurchaseHistory, PurchaseModel, SpendModel
from customers.value.significance import Standing, classify
from customers.value.values import ValueClassRule
from svyaz_cli.training import churn, purchases
from svyaz_cli.training.table import Table, TableError, of_examples
from tests.study.churn import table_of

# Fader, Hardie and Lee 2005, table 2, and 2005b for what is spent.
CDNOW = PurchaseModel(r=0.243, alpha=4.414, a=0.793, b=2.426)
TERMS = Terms(discount_rate=Decimal("0.12"), horizon_months=24)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads of OpenMP that share a processor with others wait for each other by spinning."""
    with threadpoolctl.threadpool_limits(1):
        yield


# --- purchases -------------------------------------------------------------------------------------------------------


def calibration(shared: Path) -> purchases.Histories:
    with (shared / "data/loyalty_cdnow/rfm_calibration_39weeks.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    frequency, recency, age = (np.array([float(row[name]) for row in rows]) for name in ("frequency", "recency", "T"))
    return purchases.Histories(frequency, recency, age, np.zeros(len(rows)))


def test_the_parameters_of_cdnow_are_the_published_ones(shared: Path) -> None:
    found = purchases.fit_purchases(calibration(shared))
    assert {name: round(value, 3) for name, value in found.parameters.items()} == {
        "r": 0.243,
        "alpha": 4.414,
        "a": 0.793,
        "b": 2.426,
    }
    assert found.log_likelihood == pytest.approx(-9582.4, abs=0.05)


def test_what_cdnows_customers_spend_is_as_published(shared: Path) -> None:
    bought = purchases.of_file(shared / "data/loyalty_cdnow/transactions.csv", "customer_id", "date", "amount")
    found = purchases.fit_spend(purchases.histories(bought, date(1997, 9, 30), 7))
    assert {name: round(value, 2) for name, value in found.parameters.items()} == {"p": 6.25, "q": 3.74, "gamma": 15.44}


def test_what_customers_buy_after_the_time_that_was_learnt_from_is_foretold(shared: Path) -> None:
    """2,457 repeat purchases are known, and 1,882 came in the 39 weeks that follow: all together are foretold to one in
    twenty or so."""
    known = calibration(shared)
    expected = sum(
        CDNOW.expected(PurchaseHistory(frequency=int(x), recency=t, age=age), 39.0)
        for x, t, age in zip(known.frequency, known.recency, known.age, strict=True)
    )
    assert 2457 + expected == pytest.approx(2457 + 1882, rel=0.06)


def test_a_customer_of_the_paper_buys_as_often_as_it_says() -> None:
    """Customer 0001 of the authors' note on the model in Excel: 2 repeat purchases by week 30.43 of 38.86."""
    customer = PurchaseHistory(frequency=2, recency=30.43, age=38.86)
    assert CDNOW.expected(customer, 39.0) == pytest.approx(1.226, abs=0.001)
    assert CDNOW.alive(customer) == pytest.approx(0.7266, abs=0.001)


def by_integral(model: PurchaseModel, history: PurchaseHistory) -> float:
    """P(alive) by what it means: the likelihood of the history with the customer still there, of all of it."""
    x = history.frequency

    def beta(a: float, b: float) -> float:
        return math.exp(math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))

    there = beta(model.a, model.b + x) * (model.alpha + history.age) ** -(model.r + x)
    gone = beta(model.a + 1, model.b + x - 1) * (model.alpha + history.recency) ** -(model.r + x) if x else 0.0
    return float(there / (there + gone))


@given(
    st.integers(0, 30),
    st.floats(0.01, 1),
    st.floats(1, 80),
    st.tuples(st.floats(0.1, 3), st.floats(0.5, 20), st.floats(0.2, 4), st.floats(0.3, 5)),
)
def test_purchases_grow_with_time_and_whoever_has_left_buys_nothing(
    frequency: int, share: float, age: float, parameters: tuple[float, float, float, float]
) -> None:
    model = PurchaseModel(**dict(zip(("r", "alpha", "a", "b"), parameters, strict=True)))
    history = PurchaseHistory(frequency=frequency, recency=share * age if frequency else 0.0, age=age)
    assert model.alive(history) == pytest.approx(by_integral(model, history), rel=1e-6)
    ahead = [model.expected(history, months) for months in (0, 1, 10, 100, 1000)]
    assert ahead[0] == 0
    assert all(before <= after + 1e-9 for before, after in itertools.pairwise(ahead))
    # Nobody buys more often than he would if he never left.
    assert ahead[1] <= model.alive(history) * (model.r + frequency) / (model.alpha + age) + 1e-9


def test_a_history_that_nobody_has_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        PurchaseHistory(frequency=0, recency=3, age=10).check()
    with pytest.raises(InvalidArgument):
        PurchaseHistory(frequency=2, recency=11, age=10).check()
    with pytest.raises(InvalidArgument):
        SpendModel(p=1, q=0.9, gamma=1).check()
    assert applied.PurchaseModel(r=1, alpha=1, a=1, b=1).expected(PurchaseHistory(frequency=1, recency=1, age=2), 5) > 0


# --- lifetime value --------------------------------------------------------------------------------------------------


def test_a_contract_is_worth_its_margins_discounted_by_the_month() -> None:
    """100 a month, half leave within a year: by hand, month by month."""
    basis = Contractual(monthly_margin=Decimal(100), churn_probability=Decimal("0.5"), churn_days=365)
    found = lifetime_value("KGS", Decimal(1200), basis, TERMS)
    stays = 0.5 ** (30.4375 / 365)
    by_hand = sum(100 * stays**month / 1.12 ** (month / 12) for month in range(1, 25))
    assert float(found.expected) == pytest.approx(by_hand, abs=0.006)
    assert found.value == found.expected + 1200


def test_who_costs_more_than_he_brings_is_worth_less_than_nothing() -> None:
    basis = Contractual(monthly_margin=Decimal(-10), churn_probability=Decimal(0), churn_days=90)
    assert lifetime_value("KGS", Decimal(0), basis, Terms(discount_rate=Decimal(0), horizon_months=12)).value == -120


def test_who_leaves_for_sure_is_expected_to_bring_nothing() -> None:
    basis = Contractual(monthly_margin=Decimal(100), churn_probability=Decimal(1), churn_days=90)
    assert lifetime_value("KGS", Decimal(7), basis, TERMS).expected == 0
    assert monthly_retention(Decimal("0.19"), 61) == pytest.approx(Decimal("0.9"), abs=Decimal("0.001"))


def test_the_time_it_takes_counts() -> None:
    basis = Contractual(monthly_margin=Decimal(100), churn_probability=Decimal("0.1"), churn_days=90)
    dear, cheap = (
        lifetime_value("KGS", Decimal(0), basis, Terms(discount_rate=Decimal(rate), horizon_months=36)).value
        for rate in ("0.3", "0.05")
    )
    assert dear < cheap


BUYER = Purchasing(
    history=PurchaseHistory(frequency=2, recency=30.43, age=38.86),
    model=CDNOW,
    spend=SpendModel(p=6.25, q=3.74, gamma=15.44),
    unit_days=Decimal(7),
    purchases=2,
    mean_spend=22.35,
    margin_share=Decimal("0.3"),
)


@pytest.mark.parametrize(
    "basis",
    [None, Contractual(monthly_margin=Decimal("12.345678"), churn_probability=Decimal("0.2"), churn_days=90), BUYER],
)
def test_a_receipt_gives_the_same_value_again(basis: Contractual | Purchasing | None) -> None:
    found = lifetime_value("KGS", Decimal("103.50"), basis, TERMS)
    assert replay(found.receipt) == found
    assert found.receipt.step[0].action == "OBSERVED_MARGIN"


def test_a_buyer_without_a_contract_is_worth_his_expected_purchases() -> None:
    found = lifetime_value("KGS", Decimal(0), BUYER, Terms(discount_rate=Decimal(0), horizon_months=9))
    weeks = 9 * 30.4375 / 7
    each = BUYER.spend.expected(2, 22.35) * 0.3
    assert float(found.expected) == pytest.approx(CDNOW.expected(BUYER.history, weeks) * each, abs=0.01)


@pytest.mark.parametrize("text", ["[]", "{", '{"unit":"KGS"}', '{"unit":"KGS","observed":"x","basis":null,"terms":{}}'])
def test_what_is_no_receipt_is_refused(text: str) -> None:
    receipt = lifetime_value("KGS", Decimal(0), None, TERMS).receipt
    broken = type(receipt)(engine=receipt.engine, revision=receipt.revision, inputs=text)
    with pytest.raises(InvalidArgument):
        replay(broken)


# --- profit and loss -------------------------------------------------------------------------------------------------


def line(start: date, unit: str = "KGS", **more: Any) -> LedgerLine:
    amounts = {
        side: tuple(
            FinancialAmount(kind=kind, amount=Money(unit=unit, value=Decimal(value)))
            for kind, value in more.pop(side, {}).items()
        )
        for side in ("revenue", "cost")
    }
    end = date(start.year + start.month // 12, start.month % 12 + 1, 1)
    stated = {"customer_id": "c", "account_id": "a", "period_start": start, "period_end": end, "unit": unit}
    return LedgerLine(**{**stated, **amounts, **more})


def test_profit_and_loss_never_adds_two_currencies() -> None:
    found = profit_and_loss(
        [
            line(date(2026, 1, 1), revenue={"subscription": 500, "usage": "20.50"}, cost={"interconnect": 100}),
            line(date(2026, 2, 1), revenue={"subscription": 500}, cost={"support": 50}, overdue=Decimal(30)),
            line(date(2026, 1, 1), "USD", revenue={"roaming": 7}),
        ]
    )
    assert [(one.unit, one.margin and one.margin.value) for one in found] == [("KGS", Decimal("870.50")), ("USD", 7)]
    assert [(one.kind, one.amount and one.amount.value) for one in found[0].revenue] == [
        ("subscription", 1000),
        ("usage", Decimal("20.50")),
    ]
    assert found[0].overdue == Money(unit="KGS", value=Decimal(30))


def test_the_months_of_a_year_make_the_year() -> None:
    lines = [line(date(2026, month, 1), revenue={"subscription": month}) for month in range(1, 13)]
    halves = [profit_and_loss(lines, *span) for span in ((None, date(2026, 7, 1)), (date(2026, 7, 1), None))]
    (whole,) = profit_and_loss(lines)
    assert whole.revenue_total
    assert sum(one.revenue_total.value or 0 for (one,) in halves if one.revenue_total) == whole.revenue_total.value
    assert profit_and_loss(lines, date(2027, 1, 1)) == ()


# --- features --------------------------------------------------------------------------------------------------------


def test_nothing_that_came_later_is_among_the_features() -> None:
    at = datetime(2026, 4, 1, tzinfo=UTC)
    early = [line(date(2026, month, 1), revenue={"subscription": 100}) for month in (1, 2, 3)]
    late = [line(date(2026, month, 1), revenue={"subscription": 1}, overdue=Decimal(900)) for month in (4, 5)]
    mobile = HeldProduct(id="p", started_at=datetime(2025, 1, 1, tzinfo=UTC), ended_at=datetime(2026, 5, 1, tzinfo=UTC))
    tv = HeldProduct(id="q", started_at=datetime(2026, 4, 2, tzinfo=UTC), ended_at=None)
    still = HeldProduct(id="p", started_at=mobile.started_at, ended_at=None)
    told = features(Known(lines=[*early, *late], products=[mobile, tv]), at)
    assert told == features(Known(lines=early, products=[still]), at)
    assert (told["revenue_recent"], told["products_running"], told["overdue"]) == (100, 1, 0)
    assert churned([mobile], at, datetime(2026, 6, 1, tzinfo=UTC)) is True
    assert churned([mobile, tv], at, datetime(2026, 6, 1, tzinfo=UTC)) is False
    assert churned([tv], at, datetime(2026, 6, 1, tzinfo=UTC)) is None


def test_a_characteristic_that_tells_the_answer_is_no_feature() -> None:
    known = [
        Characteristic(name=name, value=Json(text))
        for name, text in (("churn", "true"), ("Churn Score", "87"), ("CLTV", "5000"), ("contract", '"One year"'))
    ]
    found = features(Known(characteristics=known), datetime(2026, 1, 1, tzinfo=UTC))
    assert {name: value for name, value in found.items() if name.startswith("characteristic:")} == {
        "characteristic:contract": "One year"
    }


# --- classes ---------------------------------------------------------------------------------------------------------


def test_the_first_rule_that_holds_names_the_class() -> None:
    rules = [
        ValueClassRule(value_class="A", cumulative_share=Decimal("0.8"), maximum_churn=Decimal("0.5")),
        ValueClassRule(value_class="B", minimum_value=Money(unit="KGS", value=Decimal(100))),
    ]
    floors = {(0, "KGS"): Decimal(1000)}

    def of(value: int, churn: str | None = "0.1", unit: str = "KGS") -> str:
        standing = Standing(value={unit: Decimal(value)}, revenue={}, churn=Decimal(churn) if churn else None)
        return classify(standing, rules, floors)[0]

    assert [of(1000), of(999), of(1000, "0.6"), of(99), of(5000, None), of(5000, unit="USD")] == [
        "A",
        "B",
        "B",
        "unclassified",
        "B",
        "unclassified",
    ]
    _, receipt = classify(Standing(value={"KGS": Decimal(200)}, revenue={}), rules, floors)
    assert [(step.action, step.reason) for step in receipt.step] == [
        ("RULE_REFUSED", "VALUE_OUTSIDE_SHARE"),
        ("RULE_APPLIED", None),
    ]


# --- churn -----------------------------------------------------------------------------------------------------------


def small(table: Table, rows: int) -> Table:
    return Table(
        {name: values[:rows] for name, values in table.numbers.items()},
        {name: values[:rows] for name, values in table.categories.items()},
        table.labels[:rows],
        table.digest,
        table.left_out,
    )


def test_leavers_of_the_ibm_set_are_told_out_of_sample(shared: Path) -> None:
    """One seed of what `python -m tests.study.churn` measures with five."""
    table = table_of("churn_ibm_telco", shared)
    assert table.left_out == {"customerID": "names customers"}
    judged = churn.judge(table, 0)
    assert judged.auc >= 0.845
    assert judged.top >= 0.505


def test_labels_that_mean_nothing_teach_nothing(shared: Path) -> None:
    table = small(table_of("churn_ibm_telco", shared), 1_500)
    assert churn.shuffled(table, 0, folds=3) == pytest.approx(0.5, abs=0.06)


@pytest.fixture(scope="module")
def trained(shared: Path) -> tuple[Table, churn.Learnt, bytes]:
    table = small(table_of("churn_bigml", shared), 800)
    learnt = churn.learn(table, np.arange(len(table)), np.asarray(table.labels), 0)
    return table, learnt, churn.artefact(table, learnt, 90, (1.1, -0.2))


def test_the_service_finds_what_scikit_learn_finds(trained: tuple[Table, churn.Learnt, bytes]) -> None:
    table, learnt, artefact = trained
    model = ChurnModel(artefact)
    for given_, expected in churn.probes(table, learnt, (1.1, -0.2)):
        found = model.score(given_)
        assert found.probability == pytest.approx(expected, abs=1e-9)
        assert found.base + sum(one.contribution for one in found.reasons) == pytest.approx(found.log_odds, abs=1e-9)
    # What isn't known, and what nobody had before, have a score too.
    assert 0 < model.score({"state": "Atlantis"}).probability < 1


def by_definition(tree: Any, row: list[Any]) -> dict[int, float]:
    """Shapley values by their definition: a feature's mean effect over every order of all features."""
    players = sorted(tree.features())

    def worth(known: frozenset[int], node: int = 0) -> float:
        if tree._left[node] < 0:
            return float(tree.value[node])
        feature, test = tree._feature[node], tree._test[node]
        left, right = tree._left[node], tree._right[node]
        if feature in known:
            goes = row[feature] != test if isinstance(test, str) else row[feature] <= test
            return worth(known, left if goes else right)
        share = tree._cover[left] / tree._cover[node]
        return float(share * worth(known, left) + (1 - share) * worth(known, right))

    found = dict.fromkeys(players, 0.0)
    for size in range(len(players)):
        weight = math.factorial(size) * math.factorial(len(players) - 1 - size) / math.factorial(len(players))
        for feature in players:
            for others in itertools.combinations([one for one in players if one != feature], size):
                without = frozenset(others)
                found[feature] += weight * (worth(without | {feature}) - worth(without))
    return found


def test_reasons_in_trees_are_shapley_values(trained: tuple[Table, churn.Learnt, bytes]) -> None:
    table, _, artefact = trained
    model = ChurnModel(artefact)
    rows = [[churn.features_of(table, number).get(name) for name in model.names] for number in (3, 77, 734)]
    for tree in model._trees[:20]:
        for row in rows:
            _, added = tree.of(row)
            assert dict(added) == pytest.approx(by_definition(tree, row), abs=1e-12)


def _broken(artefact: bytes, change: Any) -> bytes:
    content = json.loads(artefact)
    change(content)
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(format=2),
        lambda content: content.pop("linear"),
        lambda content: content["trees"]["trees"][0]["left"].__setitem__(0, 0),
        lambda content: content["trees"]["trees"][0]["cover"].pop(),
        lambda content: content["features"][0].update(kind="category"),
        lambda content: content["linear"]["terms"][0]["knots"].reverse(),
        lambda content: content["linear"].update(intercept=float("nan")),
    ],
)
def test_what_is_no_model_is_refused(trained: tuple[Table, churn.Learnt, bytes], change: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"."):
        ChurnModel(_broken(trained[2], change))


def test_what_tells_the_answer_isnt_learnt_from() -> None:
    labels = [number % 3 == 0 for number in range(300)]
    rows = [
        {"Churn Reason": "price" if left else None, "CLTV": float(left), "hint": float(left), "plan": f"p{number % 4}"}
        for number, left in enumerate(labels)
    ]
    table = of_examples(rows, [int(left) for left in labels])
    assert set(table.left_out) == {"Churn Reason", "CLTV"}
    with pytest.raises(TableError, match="hint"):
        churn.check(table)
