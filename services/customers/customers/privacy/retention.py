"""How long it is known who looked at what, and how long archives are kept."""

import logging
import threading
from datetime import timedelta

import psycopg
import sqlalchemy as sa

from chassis.db import Database
from chassis.errors import DomainError
from chassis.events import acting
from chassis.threads import keep_running
from customers.privacy import accesses, store

log = logging.getLogger(__name__)

# Three years: the usual limitation of claims.
DAYS = 1096
INTERVAL_SECONDS = 3600.0
_BATCH = 5_000


class Retention:
    """Runs at the start and every hour after; any number of replicas may. `days`: so long accesses are known."""

    def __init__(self, database: Database, *, days: int = DAYS) -> None:
        self._database = database
        self._days = days
        self._stopping = threading.Event()
        self._thread = keep_running(self._run, "retention")

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
            except (DomainError, sa.exc.SQLAlchemyError, psycopg.Error) as error:
                log.warning("what is over can't be removed", extra={"fields": {"error": str(error)}})
            self._stopping.wait(INTERVAL_SECONDS)

    def once(self) -> None:
        """Removes what is older than it may be."""
        before = self._database.clock.now() - timedelta(days=self._days)
        with acting("customers", "retention"):
            with self._database.unit() as unit:
                store.forget_exports(unit)
            forgotten = _BATCH
            while forgotten == _BATCH and not self._stopping.is_set():
                with self._database.unit() as unit:
                    forgotten = accesses.forget(unit, before, _BATCH)
