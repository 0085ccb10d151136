"""What becomes of plans when their time comes, and of retired offerings that turn out to be held after all."""

import logging
import threading
from collections.abc import Mapping
from datetime import timedelta

from prometheus_client import Counter, Gauge

from catalog.product.api import CatalogItems
from catalog.product.domain import LifecycleStatus, PlannedTransition, ProductOffering
from catalog.publication import store
from catalog.publication.domain import due, next_look, refusing, without
from catalog.publication.guards import LATE_HOLDERS, PLANNED, holders, set_timers
from chassis import telemetry
from chassis.db import Database
from chassis.errors import DomainError, FailedPrecondition, InvalidArgument
from chassis.events import Failure, acting, attempt
from chassis.threads import keep_running
from chassis.timers import TimerHandler, set_timer
from chassis.unit import Unit

log = logging.getLogger(__name__)

PLANNED_TRANSITIONS = Counter(
    "svyaz_planned_transitions_total", "Planned changes of status whose time has come", ["outcome"]
)
NOT_APPLIED = Gauge(
    "svyaz_planned_changes_not_applied", "Changes of offerings that didn't take place as planned, by why", ["why"]
)
MEASURE_SECONDS = 15.0
# A timer is a second late at most; what is late by so much isn't thought of any more.
OVERDUE = timedelta(minutes=2)
HELD = "held: "


class Plans:
    """Applies planned transitions, each by the same rules as if somebody asked for it at that moment."""

    def __init__(self, items: CatalogItems) -> None:
        telemetry.begin_at_zero(PLANNED_TRANSITIONS, ("applied", "refused"))
        self._items = items

    def timers(self) -> Mapping[str, TimerHandler]:
        """The handlers of our timers, by purpose."""
        return {PLANNED: self.apply, LATE_HOLDERS: self.look_for_late_holders}

    def apply(self, offering_id: str, unit: Unit) -> None:
        """Applies what is due, in order; what can't be is kept with the reason, and told."""
        offering = unit.find(ProductOffering, offering_id)
        if offering is None:
            return
        while (planned := due(offering, unit.at)) is not None:
            before = {name: getattr(offering, name) for name in ("lifecycle_status", "last_update", "valid_for")}
            plans = offering.planned_transition
            changes = {"lifecycle_status": planned.lifecycle_status, "planned_transition": without(offering, planned)}
            try:
                offering.revise(changes, unit.at)
                self._items.changed(unit, offering)
            except (FailedPrecondition, InvalidArgument) as refusal:
                for name, value in before.items():
                    setattr(offering, name, value)
                offering.planned_transition = plans
                self._refuse(unit, offering, planned, refusal)
            else:
                unit.after_commit(PLANNED_TRANSITIONS.labels("applied").inc)
        set_timers(unit, offering)

    @staticmethod
    def _refuse(unit: Unit, offering: ProductOffering, planned: PlannedTransition, refusal: DomainError) -> None:
        why = f"{refusal.reason}: {refusal.message}"
        offering.planned_transition = refusing(offering, planned, why)
        offering.last_update = unit.at
        unit.announce(offering, "PlannedTransitionRefused")
        fields = {"offering": offering.id, "to": str(planned.lifecycle_status), "why": why}
        log.error("a planned change wasn't applied", extra={"fields": fields})
        unit.after_commit(PLANNED_TRANSITIONS.labels("refused").inc)

    def look_for_late_holders(self, offering_id: str, unit: Unit) -> None:
        """Says of a retired offering whether an order from before has made a product of it since."""
        offering = unit.find(ProductOffering, offering_id)
        if offering is None or offering.status is not LifecycleStatus.RETIRED:
            return
        held = holders(unit, offering)
        reason = f"{HELD}{held} live products of orders from before its retirement" if held else None
        if reason or (offering.status_reason or "").startswith(HELD):
            if reason and reason != offering.status_reason:
                unit.announce(offering, "HeldAfterRetirement")
            offering.status_reason = reason
        retired_at = store.status_since(unit, offering)
        following = next_look(retired_at, unit.at) if retired_at is not None else None
        if following is not None:
            set_timer(unit, offering.id, LATE_HOLDERS, following, offering.branch)


class Watch:
    """Measures what didn't take place as planned, whether it was refused or nobody thought of it."""

    def __init__(self, database: Database) -> None:
        for why in ("refused", "overdue", "held"):
            NOT_APPLIED.labels(why)
        self._database = database
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to measure."""
        self._stopping.clear()
        self._thread = keep_running(self._run, "planned changes")
        self._thread.start()

    def stop(self) -> None:
        """Ends measuring."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            measured = attempt(self.measure)
            if isinstance(measured, Failure):
                log.warning("planned changes can't be measured", extra={"fields": {"error": measured.error}})
            self._stopping.wait(MEASURE_SECONDS)

    def measure(self) -> None:
        """Sets the gauges."""
        with acting("catalog", "planned changes"), self._database.unit() as unit:
            found = store.not_applied(unit, unit.at - OVERDUE, HELD)
        for why, number in found.items():
            NOT_APPLIED.labels(why).set(number)
