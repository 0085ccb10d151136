"""Values all customers of a branch by steps, each the handler of a timer, and single ones when something happens.

A step is a transaction: some customers, how far the run is, and the timer of the next step. Who is killed loses the
step that he was in. First everybody's worth is reckoned, then the shares are drawn, then everybody is told his class.
"""

from collections.abc import Mapping
from datetime import timedelta

from chassis.timers import TimerHandler, last_error, set_timer, set_timer_by
from chassis.types import new_id
from chassis.unit import Unit
from customers.identity.store import survivor
from customers.party.domain import Customer
from customers.value import store
from customers.value.domain import ValuationRun, ValuePolicy
from customers.value.valuation import Setting, Valuer
from customers.value.values import ValuationRunState

RUN, REPEAT, ONE = "valuation-run", "valuation-repeat", "valuation"
# Customers of one transaction.
BATCH = 100
# A step that has failed so often, half a minute in all, fails for ever.
ATTEMPTS = 6
WORTH, CLASSIFY = "worth", "classify"


def begin(unit: Unit, run: ValuationRun) -> None:
    """Lets a new run go on by itself."""
    principal = unit.call.principal
    run.requested_by = principal.on_behalf_of or principal.subject
    store.begin_progress(unit, run, WORTH)
    set_timer(unit, run.id, RUN, unit.at, run.branch)


def value_all(unit: Unit, policy: ValuePolicy) -> None:
    """Begins a run because the policy is another one now."""
    run = ValuationRun(id=new_id(), branch=policy.branch, description=f"policy {policy.name or policy.id}")
    run.check(unit.at)
    begin(unit, run)
    unit.add(run)


def revalue(unit: Unit, customer_id: str, branch: str, *, within: timedelta = timedelta()) -> None:
    """Lets the customer (the survivor, if he was merged) be valued once, however often it is asked for in that time."""
    set_timer_by(unit, customer_id, ONE, unit.at + within, branch)


class Valuations:
    """The steps of runs, and single customers."""

    def __init__(self, valuer: Valuer, *, batch: int = BATCH, attempts: int = ATTEMPTS) -> None:
        self._valuer = valuer
        self._batch = batch
        self._attempts = attempts

    def timers(self) -> Mapping[str, TimerHandler]:
        """Purpose → handler."""
        return {RUN: self.step, REPEAT: self.repeat, ONE: self.one}

    def one(self, customer_id: str, unit: Unit) -> None:
        """Values one customer; nothing, when there is none of that id any more."""
        customer = unit.find(Customer, survivor(unit, customer_id))
        if customer is None:
            return
        setting = self._valuer.setting(unit, customer.branch)
        found = self._valuer.reckon(unit, [customer.id], setting)
        self._valuer.keep(unit, found, setting, told=True)

    def repeat(self, run_id: str, unit: Unit) -> None:
        """Begins the next run after one that repeats."""
        last = unit.find(ValuationRun, run_id)
        if last is None:
            return
        run = ValuationRun(id=new_id(), branch=last.branch, description=last.description, repeat_days=last.repeat_days)
        run.check(unit.at)
        begin(unit, run)
        run.requested_by = last.requested_by
        unit.add(run)

    def step(self, run_id: str, unit: Unit) -> None:
        """Values the next customers."""
        run = unit.find(ValuationRun, run_id)
        progress = store.progress_of(unit, run_id)
        if run is None or progress is None or run.state is not ValuationRunState.IN_PROGRESS:
            return
        failed = last_error(unit, run_id, RUN, self._attempts)
        if failed is not None:
            self._end(unit, run, ValuationRunState.FAILED, failed)
            return
        setting = self._valuer.setting(unit, run.branch)
        ids = store.next_customers(unit, run.branch, progress.after, self._batch)
        if ids:
            self._value(unit, setting, ids, progress)
        elif progress.phase == WORTH:
            store.draw_floors(unit, setting.policy)
            progress.phase, progress.after = CLASSIFY, ""
        else:
            self._end(unit, run, ValuationRunState.COMPLETED)
        store.keep_progress(unit, run_id, progress)
        if run.state is ValuationRunState.IN_PROGRESS:
            set_timer(unit, run_id, RUN, unit.at, run.branch)

    def _value(self, unit: Unit, setting: Setting, ids: list[str], progress: store.Progress) -> None:
        told = progress.phase == CLASSIFY
        found = self._valuer.reckon(unit, ids, setting)
        progress.changed += self._valuer.keep(unit, found, setting, told=told)
        progress.valued += len(ids) if told else 0
        progress.after = ids[-1]

    @staticmethod
    def _end(unit: Unit, run: ValuationRun, state: ValuationRunState, error: str | None = None) -> None:
        run.end(state, unit.at, error)
        if run.repeat_days is not None:
            set_timer(unit, run.id, REPEAT, unit.at + timedelta(days=run.repeat_days), run.branch)
