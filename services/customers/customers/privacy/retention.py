"""How long it is known who looked at what, and how long archives are kept."""

from datetime import timedelta

from chassis.db import Database
from chassis.events import acting
from chassis.upkeep import Hourly
from customers.privacy import accesses, store

# Three years: the usual limitation of claims.
DAYS = 1096
_BATCH = 5_000


class Retention(Hourly):
    """Removes what has been kept for long enough. `days`: so long accesses are known."""

    def __init__(self, database: Database, *, days: int = DAYS) -> None:
        super().__init__("retention")
        self._database = database
        self._days = days

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
