"""The value of customers as a client finds it: reported, reckoned, told, and the same after a merge."""

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import threadpoolctl

from chassis import calls, convert
from chassis.cloudevents import ReceivedEvent
from chassis.db import Database
from chassis.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound
from chassis.types import Money, new_id
from chassis.unit import Unit
from customers.events import orders_changed
from customers.value.churn import ChurnModel
from customers.value.runs import BATCH, ONE, RUN, Valuations
from customers.value.valuation import Valuer
from svyaz.customers.v1 import customers_pb2, value_pb2
from svyaz.orders.v1 import inventory_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from svyaz_cli.train import of_service, purchases_of_service, registration
from svyaz_cli.training import churn
from svyaz_cli.training.table import of_examples
from tests.conftest import ServiceDatabase
from tests.customers.conftest import CUSTOMER
from tests.customers.test_api import customer, person
from tests.serving import Caller

VALUE = "svyaz.customers.v1.ValueService/"
R = value_pb2.FinancialReportResult


@pytest.fixture(scope="module")
def billing(caller_of: Callable[..., Caller]) -> Caller:
    return caller_of("bishkek", role="billing")


@pytest.fixture(scope="module")
def admin(caller_of: Callable[..., Caller]) -> Caller:
    return caller_of("bishkek", role="admin")


@pytest.fixture
def aida(agent: Caller) -> str:
    return str(customer(agent, person(agent).id).id)


@contextmanager
def by_itself(database: Database, branch: str = "bishkek") -> Iterator[Unit]:
    with calls.using(calls.Call.background("customers", "test", branches=(branch,))), database.unit() as unit:
        yield unit


def money(value: str, unit: str = "KGS") -> values_pb2.Money:
    return convert.to_money(Money(unit=unit, value=Decimal(value)))


def amounts(unit: str = "KGS", **kinds: str) -> list[value_pb2.FinancialAmount]:
    return [value_pb2.FinancialAmount(kind=kind, amount=money(value, unit)) for kind, value in kinds.items()]


def reported(customer_id: str, number: int = 1, month: int = 1, **more: Any) -> value_pb2.FinancialReportLine:
    stated = {
        "line": number,
        "customer_id": customer_id,
        "account_id": "a",
        "period_start": f"2026-{month:02d}-01",
        "period_end": f"2026-{month + 1:02d}-01",
        "revenue": amounts(subscription="500"),
        "cost": amounts(interconnect="100"),
    }
    return value_pb2.FinancialReportLine(**{**stated, **more})


def report(billing: Caller, *lines: value_pb2.FinancialReportLine, sequence: int = 1, id: str = "") -> list[Any]:
    answer = billing(f"{VALUE}ReportCustomerFinancials", report_id=id or new_id(), sequence=sequence, line=lines)
    return [(R.Name(one.result).removeprefix("FINANCIAL_REPORT_RESULT_"), one.reason) for one in answer.outcome]


def margins(agent: Caller, customer_id: str, **span: str) -> dict[str, Decimal | None]:
    found = agent(
        f"{VALUE}GetCustomerProfitability",
        value_pb2.GetCustomerProfitabilityRequest(customer_id=customer_id, **span),
    )
    return {one.unit: convert.from_money(one.margin).value for one in found.profit_and_loss}


def timers(place: ServiceDatabase, purpose: str) -> set[str]:
    with psycopg.connect(place.admin_url) as connection:
        return {row[0] for row in connection.execute("SELECT aggregate_id FROM timer WHERE purpose = %s", (purpose,))}


def value_one(database: Database, customer_id: str) -> None:
    with by_itself(database) as unit:
        Valuations(Valuer()).one(customer_id, unit)


def run_to_its_end(database: Database, run_id: str, *, batch: int = BATCH) -> int:
    """Carries a run's steps out, each in a transaction of its own; how many these were."""
    for step in range(1, 200):
        with by_itself(database) as unit:
            Valuations(Valuer(), batch=batch).step(run_id, unit)
        with by_itself(database) as unit:
            if unit.session.scalar(_STATE, {"id": run_id}) != "inProgress":
                return step
    raise AssertionError("the run doesn't end")


_STATE = sa.text("SELECT state FROM valuation_run WHERE id = :id")


# --- what billing reports --------------------------------------------------------------------------------------------


def test_a_line_that_comes_again_changes_nothing(billing: Caller, agent: Caller, aida: str) -> None:
    january = reported(aida)
    assert report(billing, january, id="r1" + aida) == [("RECORDED", "")]
    assert report(billing, january, id="r1" + aida) == [("ALREADY_THERE", "")]
    assert report(billing, reported(aida, revenue=amounts(subscription="1")), id="r1" + aida) == [
        ("REFUSED", "LINE_REUSED")
    ]
    assert margins(agent, aida) == {"KGS": Decimal(400)}


def test_a_later_report_replaces_and_an_earlier_one_is_ignored(billing: Caller, agent: Caller, aida: str) -> None:
    def of(value: str) -> value_pb2.FinancialReportLine:
        return reported(aida, revenue=amounts(subscription=value))

    assert report(billing, of("500"), sequence=5) == [("RECORDED", "")]
    assert report(billing, of("700"), sequence=7) == [("REPLACED", "")]
    assert report(billing, of("600"), sequence=6) == [("OLDER", "")]
    assert report(billing, of("800"), sequence=7) == [("REFUSED", "SEQUENCE_REUSED")]
    assert margins(agent, aida) == {"KGS": Decimal(600)}


def test_what_cant_be_is_refused_line_by_line(billing: Caller, agent: Caller, aida: str) -> None:
    assert report(
        billing,
        reported(aida, 1),
        reported("nobody", 2),
        reported(aida, 3, period_start="2026-01-15", period_end="2026-02-15"),
        reported(aida, 4, 3, revenue=[*amounts(subscription="1"), *amounts("USD", roaming="1")]),
        reported(aida, 5, 4, period_end="2026-04-01"),
        reported(aida, 6, 5, revenue=[], cost=[]),
        reported(aida, 7, 2),
    ) == [
        ("RECORDED", ""),
        ("REFUSED", "UNKNOWN_CUSTOMER"),
        ("REFUSED", "PERIODS_OVERLAP"),
        ("REFUSED", "INVALID_LINE"),
        ("REFUSED", "INVALID_LINE"),
        ("REFUSED", "INVALID_LINE"),
        ("RECORDED", ""),
    ]
    assert margins(agent, aida) == {"KGS": Decimal(800)}
    with pytest.raises(InvalidArgument, match="nothing was taken"):
        report(billing, reported(aida, 1), reported(aida, 1))


def test_currencies_stay_apart_and_time_is_chosen(billing: Caller, agent: Caller, aida: str) -> None:
    report(billing, reported(aida, 1, 1), reported(aida, 2, 2), reported(aida, 3, 3))
    report(billing, reported(aida, 1, 1, revenue=amounts("USD", roaming="7.50"), cost=[], balance=money("-2", "USD")))
    assert margins(agent, aida) == {"KGS": Decimal(1200), "USD": Decimal("7.50")}
    assert margins(agent, aida, **{"from": "2026-02-01", "to": "2026-03-01"}) == {"KGS": Decimal(400)}
    with pytest.raises(InvalidArgument):
        margins(agent, aida, to="tomorrow")
    listed = agent(f"{VALUE}ListCustomerFinancials", customer_id=aida, limit=2).items
    assert [one.period_start for one in listed] == ["2026-03-01", "2026-02-01"]


def test_who_has_books_stays_a_customer(billing: Caller, agent: Caller, aida: str) -> None:
    report(billing, reported(aida))
    with pytest.raises(FailedPrecondition, match="referred to"):
        agent(f"{CUSTOMER}DeleteCustomer", requests_pb2.DeleteRequest(id=aida))


def test_another_branch_sees_and_reports_nothing_of_ours(
    caller_of: Callable[..., Caller], billing: Caller, aida: str
) -> None:
    report(billing, reported(aida))
    theirs = caller_of("osh", role="billing")
    assert report(theirs, reported(aida)) == [("REFUSED", "UNKNOWN_CUSTOMER")]
    assert margins(theirs, aida) == {}


# --- merged customers ------------------------------------------------------------------------------------------------


def merge(database: Database, absorbed: str, into: str) -> None:
    with by_itself(database) as unit:
        unit.later(
            "INSERT INTO merged_customer (absorbed_id, branch, into_id, survivor_id, merge_id, merged_at)"
            " VALUES (%(absorbed)s, 'bishkek', %(into)s, %(into)s, %(merge)s, %(at)s)",
            {"absorbed": absorbed, "into": into, "merge": new_id(), "at": unit.at},
        )
        unit.flush()


def unmerge(database: Database, absorbed: str) -> None:
    with by_itself(database) as unit:
        unit.later("DELETE FROM merged_customer WHERE absorbed_id = %(absorbed)s", {"absorbed": absorbed})
        unit.flush()


def test_a_merge_adds_up_and_an_unmerge_parts_again(
    billing: Caller, agent: Caller, database: Database, aida: str
) -> None:
    again = str(customer(agent, person(agent).id).id)
    report(billing, reported(aida), reported(again, 2, revenue=amounts(subscription="250"), cost=[]))
    merge(database, again, aida)
    assert margins(agent, aida) == margins(agent, again) == {"KGS": Decimal(650)}
    value_one(database, again)
    assert agent(f"{VALUE}GetCustomerValue", requests_pb2.GetRequest(id=again)).id == aida
    report(billing, reported(again, 1, 2))
    unmerge(database, again)
    assert (margins(agent, aida), margins(agent, again)) == ({"KGS": Decimal(400)}, {"KGS": Decimal(650)})


# --- models ----------------------------------------------------------------------------------------------------------


def churn_model(intercept: float = -2.0, feature: str = "characteristic:contract") -> bytes:
    levels = {"Month-to-month": 3.0, "Two year": -1.0}
    return json.dumps(
        {
            "format": 1,
            "horizon_days": 90,
            "features": [{"name": feature, "kind": "category"}, {"name": "overdue", "kind": "number", "missing": 0}],
            "linear": {
                "weight": 1,
                "intercept": intercept,
                "terms": [
                    {"feature": 0, "values": levels, "other": 0, "mean": 0.5},
                    {"feature": 1, "knots": [0, 1000], "values": [0, 2], "mean": 0.1},
                ],
            },
            "trees": {"weight": 1, "bias": 0, "trees": []},
            "calibration": {"slope": 1, "offset": 0},
        }
    ).encode()


def register(admin: Caller, artefact: bytes, kind: int = value_pb2.VALUE_MODEL_KIND_CHURN, **more: Any) -> Any:
    model = value_pb2.ValueModel(name="m", kind=kind, training_hash="0" * 64, training_rows=7)  # type: ignore[arg-type]
    if kind == value_pb2.VALUE_MODEL_KIND_CHURN and "probe" not in more and artefact.startswith(b"{"):
        more["probe"] = [value_pb2.ModelProbe(probability=f"{ChurnModel(artefact).score({}).probability:.9f}")]
    return admin(f"{VALUE}RegisterValueModel", value_model=model, artefact=artefact, **more)


def activate(admin: Caller, model: Any) -> Any:
    return admin(f"{VALUE}ActivateValueModel", id=model.id)


def state_of(admin: Caller, model: Any) -> str:
    found = admin(f"{VALUE}GetValueModel", requests_pb2.GetRequest(id=model.id))
    return value_pb2.ValueModelState.Name(found.state).removeprefix("VALUE_MODEL_STATE_")


def test_one_model_is_applied_and_the_one_before_can_come_back(admin: Caller) -> None:
    first, second = register(admin, churn_model()), register(admin, churn_model(-1.0))
    assert first.artefact_hash == hashlib.sha256(churn_model()).hexdigest()
    assert list(first.feature) == ["characteristic:contract", "overdue"]
    assert admin(f"{VALUE}GetValueModelArtefact", requests_pb2.GetRequest(id=first.id)).content == churn_model()
    activate(admin, first)
    with pytest.raises(FailedPrecondition):
        activate(admin, first)
    activate(admin, second)
    assert [state_of(admin, one) for one in (first, second)] == ["RETIRED", "ACTIVE"]
    activate(admin, first)
    assert [state_of(admin, one) for one in (first, second)] == ["ACTIVE", "RETIRED"]


def test_a_model_that_says_something_else_here_isnt_taken(admin: Caller) -> None:
    feature = value_pb2.FeatureValue(name="characteristic:contract", text="Month-to-month")
    good = value_pb2.ModelProbe(feature=[feature], probability="0.7310585786")
    assert register(admin, churn_model(), probe=[good]).id
    with pytest.raises(FailedPrecondition, match=r"0\.73"):
        register(admin, churn_model(), probe=[value_pb2.ModelProbe(feature=[feature], probability="0.74")])
    with pytest.raises(InvalidArgument, match="tried"):
        register(admin, churn_model(), probe=[])
    with pytest.raises(InvalidArgument):
        register(admin, b"\x80\x04K\x01.")
    with pytest.raises(InvalidArgument):
        register(admin, b'{"format": 1}', kind=value_pb2.VALUE_MODEL_KIND_PURCHASES)


def test_a_model_of_what_nobody_knows_here_isnt_applied(admin: Caller) -> None:
    with pytest.raises(FailedPrecondition, match="MonthlyCharges"):
        activate(admin, register(admin, churn_model(feature="MonthlyCharges")))


def test_what_was_learnt_from_a_table_is_applied_here(admin: Caller, agent: Caller, database: Database) -> None:
    """Learnt, judged, registered with its probes, activated, and found again in a customer's reasons."""
    chance = random.Random(7)
    rows: list[dict[str, Any]] = []
    labels = []
    for _ in range(400):
        contract, overdue = chance.choice(["One year", "Month-to-month"]), chance.uniform(0, 900)
        rows.append({"characteristic:contract": contract, "overdue": overdue, "months_billed": chance.uniform(1, 60)})
        labels.append(int(chance.random() < (0.1 if contract == "One year" else 0.2 + overdue / 1500)))
    table = of_examples(rows, labels)
    with threadpoolctl.threadpool_limits(1):
        trained = churn.train(table, 60)
    assert trained.metrics["auc"] > 0.6
    assert trained.metrics["shuffled_auc"] == pytest.approx(0.5, abs=0.1)
    model = admin(f"{VALUE}RegisterValueModel", registration(trained, table, "", "of a table"))
    assert (model.training_rows, model.horizon_days, model.training_hash) == (400, 60, table.digest)
    assert {one.name for one in model.library} == {"numpy", "scikit-learn"}
    activate(admin, model)
    loose, bound = characterised(agent, "Month-to-month"), characterised(agent, "One year")
    for one in (loose, bound):
        value_one(database, one)
    assert Decimal(valued(agent, loose).churn.probability) > Decimal(valued(agent, bound).churn.probability)
    assert valued(agent, bound).churn.reason[0].feature == "characteristic:contract"


def test_the_service_starts_without_what_only_learning_needs() -> None:
    code = "import sys, customers.main; print(sorted({'scipy', 'sklearn'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- the value of customers ------------------------------------------------------------------------------------------


def characterised(agent: Caller, contract: str) -> str:
    characteristic = values_pb2.Characteristic(name="contract", value=json.dumps(contract).encode())
    return str(customer(agent, person(agent).id, characteristic=[characteristic]).id)


def valued(agent: Caller, customer_id: str) -> value_pb2.CustomerValue:
    found = agent(f"{VALUE}GetCustomerValue", requests_pb2.GetRequest(id=customer_id))
    assert isinstance(found, value_pb2.CustomerValue)
    return found


def events_of(place: ServiceDatabase, customer_id: str) -> list[str]:
    with psycopg.connect(place.admin_url) as connection:
        rows = connection.execute(
            "SELECT type FROM event WHERE aggregate_id = %s AND aggregate_type = 'CustomerValue' ORDER BY version",
            (customer_id,),
        )
        return [row[0] for row in rows]


def test_a_customers_risk_comes_with_its_reasons(
    billing: Caller, agent: Caller, admin: Caller, database: Database, place: ServiceDatabase
) -> None:
    model = register(admin, churn_model(-2.5))
    activate(admin, model)
    loose = characterised(agent, "Month-to-month")
    with pytest.raises(NotFound):
        valued(agent, loose)
    report(billing, reported(loose, overdue=money("500"), overdue_days=20))
    assert loose in timers(place, ONE)
    value_one(database, loose)
    found = valued(agent, loose)
    # -2.5 + 3 for the contract + 1 for what is overdue.
    assert Decimal(found.churn.log_odds) == Decimal("1.5")
    assert found.churn.model_id == model.id
    assert [(one.feature, one.value, Decimal(one.contribution)) for one in found.churn.reason] == [
        ("characteristic:contract", "Month-to-month", Decimal("2.5")),
        ("overdue", "500", Decimal("0.9")),
    ]
    told = Decimal(found.churn.base) + sum(Decimal(one.contribution) for one in found.churn.reason)
    assert told + Decimal(found.churn.other) == Decimal(found.churn.log_odds)
    assert found.churn.band == value_pb2.CHURN_BAND_HIGH
    assert json.loads(found.churn.receipt.inputs)["features"]["overdue"] == 500
    worth = found.lifetime[0]
    assert worth.observed == money("400")
    again = agent(f"{VALUE}ReplayLifetimeValue", receipt=worth.receipt)
    assert again == worth


def test_a_change_of_the_customer_or_his_products_lets_him_be_valued(
    agent: Caller, database: Database, place: ServiceDatabase, aida: str
) -> None:
    assert aida not in timers(place, ONE)
    agent(
        f"{CUSTOMER}UpdateCustomer",
        customer=customers_pb2.Customer(id=aida, name="Another"),
        update_mask={"paths": ["name"]},
    )
    assert aida in timers(place, ONE)
    other = str(customer(agent, person(agent).id).id)
    product(database, other)
    assert other in timers(place, ONE)


def test_a_merge_and_its_undoing_let_both_be_valued(agent: Caller, place: ServiceDatabase, aida: str) -> None:
    again = str(customer(agent, person(agent).id).id)
    identity = "svyaz.customers.v1.IdentityService/"
    made = agent(f"{identity}MergeCustomers", survivor_id=aida, absorbed_id=again, reason="one passport")
    assert aida in timers(place, ONE)
    assert again not in timers(place, ONE)
    agent(f"{identity}UnmergeCustomers", merge_id=made.id, reason="two people")
    assert {aida, again} <= set(timers(place, ONE))


def test_a_whole_branch_is_valued_step_by_step_and_classed_by_all(
    caller_of: Callable[..., Caller], database: Database, place: ServiceDatabase
) -> None:
    """Of what all are worth, 100 + 50 + 30 + 15 + 5, the first two make the first 70 %, and the next two the 95 %."""
    agent, admin = caller_of("naryn"), caller_of("naryn", role="admin")
    worth = [100, 50, 30, 15, 5]
    ids = [str(customer(agent, person(agent).id).id) for _ in worth]
    lines = [
        reported(one, number, revenue=amounts(subscription=str(value)), cost=[])
        for number, (one, value) in enumerate(zip(ids, worth, strict=True), start=1)
    ]
    report(admin, *lines)
    rules = [
        value_pb2.ValueClassRule(value_class=name, cumulative_share=share)
        for name, share in (("A", "0.7"), ("B", "0.95"), ("C", "1"))
    ]
    admin(f"{VALUE}CreateValuePolicy", value_policy=value_pb2.ValuePolicy(name="ours", class_rule=rules))
    (run,) = admin(f"{VALUE}ListValuationRuns", requests_pb2.ListRequest()).items
    assert run.id in timers(place, RUN)
    with calls.using(calls.Call.background("customers", "test", branches=("naryn",))):
        # 3 and 1 steps for each of two ways through them, with batches of 2.
        for _ in range(8):
            with database.unit() as unit:
                Valuations(Valuer(), batch=2).step(run.id, unit)
    run = admin(f"{VALUE}GetValuationRun", requests_pb2.GetRequest(id=run.id))
    assert (run.state, run.valued, run.changed) == (value_pb2.VALUATION_RUN_STATE_COMPLETED, 5, 5)
    assert [valued(agent, one).value_class for one in ids] == ["A", "A", "B", "B", "C"]
    # Whoever is valued in between is measured by the same floors; nobody is told the same again.
    report(admin, reported(ids[4], 9, 2, revenue=amounts(subscription="60"), cost=[]))
    with calls.using(calls.Call.background("customers", "test", branches=("naryn",))):
        for one in (ids[4], ids[0]):
            with database.unit() as unit:
                Valuations(Valuer()).one(one, unit)
    assert valued(agent, ids[4]).value_class == "A"
    assert valued(agent, ids[4]).previous_value_class == "C"
    assert events_of(place, ids[4]) == ["CustomerValueClassChangeEvent"] * 2
    assert events_of(place, ids[0]) == ["CustomerValueClassChangeEvent"]


def test_a_run_is_cancelled_once(admin: Caller, database: Database) -> None:
    run = admin(f"{VALUE}CreateValuationRun", valuation_run=value_pb2.ValuationRun(description="all"))
    assert admin(f"{VALUE}CancelValuationRun", id=run.id).state == value_pb2.VALUATION_RUN_STATE_CANCELLED
    with pytest.raises(FailedPrecondition):
        admin(f"{VALUE}CancelValuationRun", id=run.id)
    assert run_to_its_end(database, run.id) == 1


def test_a_policy_that_cant_be_is_refused(admin: Caller) -> None:
    rule = value_pb2.ValueClassRule(cumulative_share="1.2")
    with pytest.raises(DomainError) as refused:
        admin(
            f"{VALUE}CreateValuePolicy",
            value_policy=value_pb2.ValuePolicy(discount_rate="-1", high_churn="0.1", class_rule=[rule]),
        )
    assert {one.field for one in refused.value.violations} == {
        "discount_rate",
        "high_churn",
        "class_rule[0].value_class",
        "class_rule[0].cumulative_share",
    }


# --- what a model is trained on --------------------------------------------------------------------------------------


def product(database: Database, customer_id: str, version: int = 1, **more: Any) -> str:
    """An event of the inventory's: by default a product that runs since 2025."""
    stated = {
        "id": more.pop("id", None) or new_id(),
        "status": inventory_pb2.PRODUCT_STATUS_ACTIVE,
        "start_date": convert.to_timestamp(datetime(2025, 1, 1, tzinfo=UTC)),
        "related_party": [values_pb2.RelatedParty(id=customer_id, role="Customer", at_referred_type="Customer")],
    }
    message = inventory_pb2.Product(**{**stated, **more})
    event = ReceivedEvent(
        id=new_id(),
        source="svyaz/orders",
        type="ProductStateChangeEvent",
        time=datetime(2025, 1, 1, tzinfo=UTC),
        aggregate_type="Product",
        aggregate_id=message.id,
        version=version,
        branch="bishkek",
        key=message.id,
        actor="somebody",
        on_behalf_of=None,
        schema_revision=1,
        data_type=message.DESCRIPTOR.full_name,
        data=message.SerializeToString(),
        subject="",
        headers={},
    )
    with by_itself(database) as unit:
        orders_changed(event, unit)
    return message.id


def test_examples_know_what_was_known_then_and_who_has_left_since(
    agent: Caller, admin: Caller, database: Database
) -> None:
    ended = convert.to_timestamp(datetime(2025, 6, 15, tzinfo=UTC))
    gone, stays, came_later = (characterised(agent, "One year") for _ in range(3))
    first = product(database, gone)
    product(database, gone, 2, id=first, status=inventory_pb2.PRODUCT_STATUS_TERMINATED, termination_date=ended)
    product(database, stays)
    product(database, came_later, start_date=convert.to_timestamp(datetime(2025, 9, 1, tzinfo=UTC)))
    at = datetime(2025, 6, 1, tzinfo=UTC)
    found: dict[str, Any] = {}
    after = ""
    while True:
        page = admin(f"{VALUE}ListChurnExamples", at=convert.to_timestamp(at), horizon_days=30, after=after, limit=2)
        found |= {one.customer_id: one for one in page.items}
        after = page.next_after
        if not after:
            break
    assert (found[gone].churned, found[stays].churned) == (True, False)
    assert came_later not in found
    told = {one.name: one for one in found[gone].feature}
    # The end of the product came later, and so did the contract: there was no such customer yet.
    assert (told["products_running"].number, "characteristic:contract" in told) == (1, False)
    future = convert.to_timestamp(database.clock.now() - timedelta(days=3))
    with pytest.raises(InvalidArgument):
        admin(f"{VALUE}ListChurnExamples", at=future, horizon_days=30)
    table = of_service(lambda method, request: admin(f"{VALUE}{method}", request), "bishkek", at, 30)
    assert (sum(table.labels), len(table)) == (sum(one.churned for one in found.values()), len(found))


def test_purchases_are_learnt_from_as_they_are_valued(
    agent: Caller, admin: Caller, billing: Caller, database: Database
) -> None:
    buyer, absorbed, contracted = (characterised(agent, "none") for _ in range(3))
    product(database, contracted)
    report(
        billing,
        reported(buyer, 1, 1, cost=[]),
        reported(buyer, 2, 1, account_id="b", revenue=amounts(usage="20.50")),
        reported(buyer, 3, 2, revenue=amounts("USD", usage="7"), cost=amounts("USD", usage="1")),
        # Given back: nothing was bought.
        reported(buyer, 4, 3, revenue=amounts(usage="-5")),
        reported(absorbed, 5, 4),
        reported(contracted, 6, 1),
    )
    merge(database, absorbed, buyer)

    def ask(method: str, request: Any) -> Any:
        if method == "ListPurchaseExamples":
            request.limit = 2
        return admin(f"{VALUE}{method}", request)

    def days(currency: str, last: date) -> dict[str, dict[date, float]]:
        found: dict[str, dict[date, float]] = {}
        for buyer_id, day, amount in purchases_of_service(ask, "bishkek", currency, last):
            found.setdefault(buyer_id, {})[day] = amount
        return found

    som = days("KGS", date(2026, 6, 30))
    assert som[buyer] == {date(2026, 1, 1): 520.5, date(2026, 4, 1): 500.0}
    assert not {absorbed, contracted} & som.keys()
    assert days("KGS", date(2026, 3, 31))[buyer] == {date(2026, 1, 1): 520.5}
    assert days("USD", date(2026, 6, 30))[buyer] == {date(2026, 2, 1): 7.0}
    with pytest.raises(InvalidArgument, match="had"):
        admin(f"{VALUE}ListPurchaseExamples")
