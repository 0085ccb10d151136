"""What a system has said of a task by an event, and couldn't be accepted: it is kept for a while, and the system hears
of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import Counter

from chassis.timers import set_timer
from chassis.types import Aggregate
from chassis.unit import Unit

REFUSED = Counter(
    "svyaz_fulfilment_refused_reports_total", "Reports of external systems that couldn't be accepted", ["system"]
)
# The purpose of our timers.
FORGET = "refusedReportForgotten"
FORGOTTEN_AFTER = timedelta(days=90)


@dataclass(kw_only=True, eq=False)
class RefusedFulfilmentReport(Aggregate):
    """A report that nobody awaited; it never changes."""

    system: str = ""
    event_id: str = ""
    event_type: str = ""
    fulfilment_task_id: str | None = None
    product_order_id: str | None = None
    attempt: int | None = None
    reason: str = ""
    message: str | None = None
    field: str | None = None
    refused_at: datetime | None = None

    @property
    def ordering_key(self) -> str:
        """The order's, if there is one: the system hears of it after what it was told of the task."""
        return self.product_order_id or self.id


def refuse(unit: Unit, refused: RefusedFulfilmentReport) -> None:
    """Keeps it, which tells the system."""
    refused.refused_at = unit.at
    unit.add(refused)
    set_timer(unit, refused.id, FORGET, unit.at + FORGOTTEN_AFTER, refused.branch)
    unit.after_commit(lambda: REFUSED.labels(refused.system).inc())


def timers() -> dict[str, Callable[[str, Unit], None]]:
    """The handlers of our timers, by purpose."""
    return {FORGET: forget}


def forget(refused_id: str, unit: Unit) -> None:
    """Deletes one that is old."""
    refused = unit.find(RefusedFulfilmentReport, refused_id)
    if refused is not None:
        unit.delete(refused)
