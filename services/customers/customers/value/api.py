"""What can be asked about the value of customers: one method, one use case, one transaction."""

import hashlib
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from chassis import calls
from chassis.convert import from_message, from_timestamp, to_message, to_money
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.receipts import Receipt
from chassis.resources import Collection, StandardMethods
from chassis.types import Money, decimal_of, new_id
from chassis.unit import Unit
from customers.identity.store import members, survivor
from customers.value import examples, store
from customers.value.churn import ChurnModel
from customers.value.domain import (
    CustomerValue,
    ValuationRun,
    ValueModel,
    ValuePolicy,
    check_verified,
)
from customers.value.features import unknown
from customers.value.ledger import MOST_LINES, WRITTEN, report
from customers.value.lifetime import replay
from customers.value.profitability import LedgerLine, profit_and_loss
from customers.value.purchase_models import PurchaseModels
from customers.value.runs import begin, revalue, value_all
from customers.value.values import LifetimeWorth, ValuationRunState, ValueModelKind
from svyaz.customers.v1 import value_pb2
from svyaz.type.v1 import receipt_pb2, requests_pb2

MOST_ARTEFACT = 3 * 1024 * 1024
MOST_PROBES = 200
MOST_LISTED = 1_000


class Values(StandardMethods):
    """Profit and loss, lifetime value, churn and classes of customers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._models = Collection(database, ValueModel, value_pb2.ValueModel)
        self._runs = Collection(
            database, ValuationRun, value_pb2.ValuationRun, creating=begin, replies=_runs_with_counts
        )
        self._values = Collection(database, CustomerValue, value_pb2.CustomerValue)
        super().__init__(
            value_pb2.DESCRIPTOR.services_by_name["ValueService"],
            Collection(database, ValuePolicy, value_pb2.ValuePolicy, creating=value_all, changed=value_all),
            self._models,
            self._runs,
            self._values,
        )

    # --- what billing reports ---

    def ReportCustomerFinancials(
        self, request: value_pb2.ReportCustomerFinancialsRequest, context: Any
    ) -> value_pb2.ReportCustomerFinancialsResponse:
        """All lines that can stand, in one transaction; raises InvalidArgument MALFORMED_REPORT."""
        wrong = [] if request.report_id else [Violation("report_id", "required")]
        if request.sequence < 1:
            wrong.append(Violation("sequence", "from 1"))
        if len(request.line) > MOST_LINES:
            wrong.append(Violation("line", f"more than {MOST_LINES}"))
        if len({line.line for line in request.line}) != len(request.line):
            wrong.append(Violation("line", "two have the same number"))
        if wrong:
            raise InvalidArgument("MALFORMED_REPORT", "nothing was taken", violations=wrong)
        branch = self._database.branch_for_create(CustomerValue, request.branch)

        def work(unit: Unit) -> value_pb2.ReportCustomerFinancialsResponse:
            outcomes = report(unit, request, branch)
            written = {outcome.line for outcome in outcomes if outcome.result in WRITTEN}
            for customer_id in sorted({line.customer_id for line in request.line if line.line in written}):
                revalue(unit, customer_id, branch)
            return value_pb2.ReportCustomerFinancialsResponse(outcome=outcomes)

        return self._database.transact(request, value_pb2.ReportCustomerFinancialsResponse, work)

    def ListCustomerFinancials(
        self, request: value_pb2.ListCustomerFinancialsRequest, context: Any
    ) -> value_pb2.ListCustomerFinancialsResponse:
        """The customer's lines, the latest period first; raises InvalidArgument LIMIT."""
        limit = request.limit if request.HasField("limit") else 100
        if not 1 <= limit <= MOST_LISTED or request.offset < 0:
            violations = [Violation("limit", f"from 1 to {MOST_LISTED:,}")]
            raise InvalidArgument("LIMIT", "a page has 1 to 1,000 lines, from 0", violations=violations)
        with self._database.unit() as unit:
            ids = members(unit, request.customer_id)
            found = store.page_of_lines(unit, ids, request.offset, limit)
        return value_pb2.ListCustomerFinancialsResponse(items=[_line(*one) for one in found])

    def GetCustomerProfitability(
        self, request: value_pb2.GetCustomerProfitabilityRequest, context: Any
    ) -> value_pb2.CustomerProfitability:
        """The customer's statement for each currency; none for somebody of whom nothing was reported."""
        start, end = _day("from", getattr(request, "from")), _day("to", request.to)
        with self._database.unit() as unit:
            ids = members(unit, request.customer_id)
            lines = store.lines_of(unit, ids)
        found = profit_and_loss((line for member in ids for line in lines.get(member, ())), start, end)
        return value_pb2.CustomerProfitability(
            customer_id=ids[0],
            member=ids,
            profit_and_loss=[to_message(statement, value_pb2.ProfitAndLoss) for statement in found],
        )

    # --- the value of a customer ---

    def GetCustomerValue(self, request: requests_pb2.GetRequest, context: Any) -> value_pb2.CustomerValue:
        """Of the survivor, if the customer was merged; raises NotFound for one who hasn't been valued."""
        with self._database.unit() as unit:
            asked = requests_pb2.GetRequest(id=survivor(unit, request.id))
        if request.HasField("at"):
            # As it was: of the id that was asked for, which then may have been a customer of its own.
            asked = request
        return self._values.get(asked)

    def ReplayLifetimeValue(
        self, request: value_pb2.ReplayLifetimeValueRequest, context: Any
    ) -> value_pb2.LifetimeWorth:
        """The value that the receipt is of, reckoned again."""
        worth = replay(_receipt(request.receipt))
        found = LifetimeWorth(
            value=Money(unit=worth.unit, value=worth.value),
            observed=Money(unit=worth.unit, value=worth.observed),
            expected=Money(unit=worth.unit, value=worth.expected),
            receipt=worth.receipt,
        )
        return to_message(found, value_pb2.LifetimeWorth)

    def CancelValuationRun(self, request: value_pb2.CancelValuationRunRequest, context: Any) -> value_pb2.ValuationRun:
        """Values nobody further; raises FailedPrecondition BAD_TRANSITION."""

        def work(unit: Unit) -> value_pb2.ValuationRun:
            run = unit.get(ValuationRun, request.id)
            run.end(ValuationRunState.CANCELLED, unit.at)
            return self._runs.reply(unit, run)

        return self._database.transact(request, value_pb2.ValuationRun, work)

    # --- models ---

    def RegisterValueModel(self, request: value_pb2.RegisterValueModelRequest, context: Any) -> value_pb2.ValueModel:
        """Keeps a model that says here what it says where it was trained; it isn't applied before it is activated."""
        if len(request.artefact) > MOST_ARTEFACT or len(request.probe) > MOST_PROBES:
            raise InvalidArgument(
                "TOO_LARGE", f"an artefact has {MOST_ARTEFACT} bytes and {MOST_PROBES} probes at most"
            )
        branch = self._database.branch_for_create(ValueModel, request.branch)
        model: ValueModel = from_message(request.value_model, ValueModel, id=new_id(), branch=branch)
        model.check(self._database.clock.now())
        if model.kind is ValueModelKind.CHURN:
            churn = ChurnModel(request.artefact)
            if not request.probe:
                why = "without customers that it was tried with nobody knows whether it says the same here"
                raise InvalidArgument("REQUIRED", why, violations=[Violation("probe", "required")])
            _verify(churn, request.probe)
            model.horizon_days, model.feature = churn.horizon_days, churn.names
        else:
            PurchaseModels(request.artefact)
            model.horizon_days, model.feature = None, ()
        model.artefact_hash = hashlib.sha256(request.artefact).hexdigest()
        model.registered_by = calls.current().principal.subject

        def work(unit: Unit) -> value_pb2.ValueModel:
            model.registered_at = unit.at
            unit.add(model)
            store.keep_artefact(unit, model, request.artefact)
            return self._models.reply(unit, model)

        return self._database.transact(request, value_pb2.ValueModel, work)

    def ActivateValueModel(self, request: value_pb2.ActivateValueModelRequest, context: Any) -> value_pb2.ValueModel:
        """Applies the model from the next valuation on; raises FailedPrecondition BAD_TRANSITION."""

        def work(unit: Unit) -> value_pb2.ValueModel:
            model = unit.get(ValueModel, request.id, request.etag)
            assert model.kind is not None
            model.check_features(unknown(model.feature))
            before = store.active_model(unit, model.branch, model.kind)
            if before is not None and before != model.id:
                unit.get(ValueModel, before).retire()
                # First, since there is one at a time.
                unit.flush()
            model.activate(unit.call.principal.subject, unit.at)
            return self._models.reply(unit, model)

        return self._database.transact(request, value_pb2.ValueModel, work)

    def GetValueModelArtefact(self, request: requests_pb2.GetRequest, context: Any) -> value_pb2.ValueModelArtefact:
        """What the model is made of; raises NotFound."""
        with self._database.unit() as unit:
            model = unit.get(ValueModel, request.id)
            content = store.artefact_of(unit, model.id)
        if content is None or hashlib.sha256(content).hexdigest() != model.artefact_hash:
            raise FailedPrecondition("ARTEFACT_LOST", f"what model {model.id} is made of isn't what was registered")
        return value_pb2.ValueModelArtefact(id=model.id, content=content)

    def ListChurnExamples(
        self, request: value_pb2.ListChurnExamplesRequest, context: Any
    ) -> value_pb2.ListChurnExamplesResponse:
        """What was known of customers then, and who had left by the end of the horizon."""
        limit = request.limit if request.HasField("limit") else 500
        at = from_timestamp(request.at)
        until = at + timedelta(days=request.horizon_days)
        wrong = [] if 1 <= limit <= MOST_LISTED else [Violation("limit", f"from 1 to {MOST_LISTED:,}")]
        if not 1 <= request.horizon_days <= 1_000:
            wrong.append(Violation("horizon_days", "from 1 to 1,000"))
        elif until > self._database.clock.now():
            # Nobody knows yet who will have left.
            wrong.append(Violation("at", "the horizon isn't over"))
        if wrong:
            raise InvalidArgument("INVALID_EXAMPLES", "these examples can't be had", violations=wrong)
        branch = self._database.branch_for_create(ValueModel, request.branch)
        with self._database.unit() as unit:
            found, after = examples.page(unit, branch, at, until, request.after, limit)
        return value_pb2.ListChurnExamplesResponse(items=found, next_after=after)

    def ListPurchaseExamples(
        self, request: value_pb2.ListPurchaseExamplesRequest, context: Any
    ) -> value_pb2.ListPurchaseExamplesResponse:
        """What customers without a contract had bought by then, in one currency."""
        limit = request.limit if request.HasField("limit") else 500
        wrong = [] if 1 <= limit <= MOST_LISTED else [Violation("limit", f"from 1 to {MOST_LISTED:,}")]
        if not request.currency:
            wrong.append(Violation("currency", "required"))
        if wrong:
            raise InvalidArgument("INVALID_EXAMPLES", "these examples can't be had", violations=wrong)
        branch = self._database.branch_for_create(ValueModel, request.branch)
        with self._database.unit() as unit:
            at = from_timestamp(request.at) if request.HasField("at") else unit.at
            found, after = examples.purchases_page(unit, branch, at, request.currency, request.after, limit)
        return value_pb2.ListPurchaseExamplesResponse(items=found, next_after=after)


def _runs_with_counts(unit: Unit, runs: Sequence[ValuationRun]) -> Sequence[value_pb2.ValuationRun]:
    counted = store.counts(unit, [run.id for run in runs if not unit.adds(run)])
    messages = []
    for run in runs:
        message = to_message(run, value_pb2.ValuationRun)
        message.valued, message.changed = counted.get(run.id, (0, 0))
        messages.append(message)
    return messages


def _verify(model: ChurnModel, probes: Sequence[value_pb2.ModelProbe]) -> None:
    for number, probe in enumerate(probes):
        try:
            expected = decimal_of(probe.probability)
        except ValueError as error:
            violations = [Violation(f"probe[{number}].probability", str(error))]
            raise InvalidArgument("MALFORMED_DECIMAL", str(error), violations=violations) from error
        check_verified(expected, model.score(examples.read(probe.feature)).probability)


def _receipt(message: receipt_pb2.Receipt) -> Receipt:
    # Who sends it may have left out anything.
    return Receipt(engine=message.engine, revision=message.revision, inputs=message.inputs.decode(errors="replace"))


def _line(line: LedgerLine, report_id: str, number: int, sequence: int) -> value_pb2.FinancialLine:
    message = value_pb2.FinancialLine(
        customer_id=line.customer_id,
        account_id=line.account_id,
        period_start=line.period_start.isoformat(),
        period_end=line.period_end.isoformat(),
        unit=line.unit,
        revenue=[to_message(one, value_pb2.FinancialAmount) for one in line.revenue],
        cost=[to_message(one, value_pb2.FinancialAmount) for one in line.cost],
        overdue_days=line.overdue_days or 0,
        report_id=report_id,
        line=number,
        sequence=sequence,
    )
    for name, value in (("balance", line.balance), ("overdue", line.overdue)):
        if value is not None:
            getattr(message, name).CopyFrom(to_money(Money(unit=line.unit, value=value)))
    return message


def _day(name: str, text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        why = f"{text!r} isn't a date, YYYY-MM-DD"
        raise InvalidArgument("MALFORMED_DATE", why, violations=[Violation(name, why)]) from error
