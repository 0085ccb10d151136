"""What a database needs now and then: the event table's next partitions, and the end of what is kept for a time."""

import logging
from abc import abstractmethod
from datetime import date, timedelta

import sqlalchemy as sa

from chassis.db import IDEMPOTENCY_DAYS, Database
from chassis.events import DATABASE_ERRORS, acting
from chassis.threads import Background

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 3600.0
_BATCH = 5_000

_PARTITION = sa.text("SELECT ensure_event_partition(:month)")
_FORGET = sa.text("""
    DELETE FROM idempotency WHERE (principal, method, key) IN (
        SELECT principal, method, key FROM idempotency WHERE created_at < :before LIMIT :batch)
""")


class Hourly(Background):
    """Work that is done at the start and every hour after; any number of replicas may do it. What fails then is logged,
    and done in an hour."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._name = name

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.once()
            except DATABASE_ERRORS as error:
                log.warning("hourly work failed", extra={"fields": {"work": self._name, "error": str(error)}})
            self._stopping.wait(INTERVAL_SECONDS)

    @abstractmethod
    def once(self) -> None:
        """Does the work."""


class Upkeep(Hourly):
    """What every service's database needs."""

    def __init__(self, database: Database, service: str) -> None:
        super().__init__("upkeep")
        self._database = database
        self._service = service

    def once(self) -> None:
        """Makes the partitions of this month and the next, and forgets requests older than seven days."""
        now = self._database.clock.now()
        with acting(self._service, "upkeep"):
            with self._database.unit() as unit:
                for month in (now.date(), _next_month(now.date())):
                    unit.session.execute(_PARTITION, {"month": month})
            forgotten = _BATCH
            while forgotten == _BATCH and not self._stopping.is_set():
                with self._database.unit() as unit:
                    before = now - timedelta(days=IDEMPOTENCY_DAYS)
                    result = unit.session.execute(_FORGET, {"before": before, "batch": _BATCH})
                    forgotten = getattr(result, "rowcount", 0)


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
