"""What a database needs now and then: the event table's next partitions, and the end of what is kept for a time."""

import logging
import threading
from datetime import date, timedelta

import sqlalchemy as sa

from chassis.db import IDEMPOTENCY_DAYS, Database
from chassis.errors import DomainError
from chassis.events import acting
from chassis.threads import keep_running

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 3600.0
_BATCH = 5_000

_PARTITION = sa.text("SELECT ensure_event_partition(:month)")
_FORGET = sa.text("""
    DELETE FROM idempotency WHERE (principal, method, key) IN (
        SELECT principal, method, key FROM idempotency WHERE created_at < :before LIMIT :batch)
""")


class Upkeep:
    """Runs at the start and every hour after; any number of replicas may."""

    def __init__(self, database: Database, service: str) -> None:
        self._database = database
        self._service = service
        self._stopping = threading.Event()
        self._thread = keep_running(self._run, "upkeep")

    def start(self) -> None:
        """Begins; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.once()
            except (DomainError, sa.exc.SQLAlchemyError) as error:
                log.warning("upkeep failed", extra={"fields": {"error": str(error)}})
            self._stopping.wait(INTERVAL_SECONDS)

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
