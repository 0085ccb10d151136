"""Gives committed charges their places in the chains, and says how much is still on its way to billing."""

import logging
import threading
import time
from collections.abc import Sequence

import sqlalchemy as sa
from prometheus_client import Gauge

from chassis import calls
from chassis.db import PARTITIONS, Database
from chassis.errors import DomainError
from orders.billing import store
from orders.billing.domain import seal_all

log = logging.getLogger(__name__)

UNSEALED = Gauge("svyaz_billing_unsealed", "Charges committed but not yet in a chain")
UNSENT = Gauge("svyaz_billing_unsent", "Charges in a chain but not yet acknowledged by the stream")
OLDEST = Gauge("svyaz_billing_oldest_unsent_seconds", "Age of the oldest charge that billing hasn't got")

BATCH = 1_000
POLL_SECONDS = 0.5
# Charges that are committed close together share a transaction.
DEBOUNCE_SECONDS = 0.005
# How long to leave partitions to another sealer that is at them.
CONTENDED_SECONDS = 0.05
BACK_OFF_SECONDS = 1.0
METRICS_SECONDS = 5.0
# A sealing transaction takes milliseconds; one that takes this long is stuck.
_DEADLINE_SECONDS = 15.0


class Sealer:
    """Seals in batches, woken by commits. Any number may run, in any number of processes: they share the partitions out
    batch by batch, and none needs to know of another."""

    def __init__(
        self, database: Database, *, partitions: Sequence[int] = range(PARTITIONS), batch: int = BATCH
    ) -> None:
        self._database = database
        self._partitions = tuple(partitions)
        self._batch = batch
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._measured = 0.0
        database.subscribe(self._wake)

    def seal_batch(self) -> tuple[int, bool]:
        """Seals the oldest charges in one transaction, all or nothing: how many, and whether that was all there is.

        Raises Aborted when another sealer was faster, Unavailable, DeadlineExceeded.
        """
        deadline = time.monotonic() + _DEADLINE_SECONDS
        principal = calls.Call.background("orders", "sealer", branches=("*",)).principal
        with calls.using(calls.Call(principal, "sealer", deadline)), self._database.unit() as unit:
            session = unit.session
            locked = store.lock_partitions(session, self._partitions)
            waiting = store.unsealed(session, locked, self._batch) if locked else []
            if waiting:
                # After the locks: an epoch that was opened before them is seen, one that is opened later comes later.
                epoch = store.current_epoch(session)
                heads = store.heads(session, (charge.account for charge in waiting))
                sealed, grown = seal_all(waiting, epoch=epoch, heads=heads)
                store.save_sealed(session, epoch, sealed, grown)
                unit.after_commit(self._database.wake)
        return len(waiting), len(waiting) < self._batch and len(locked) == len(self._partitions)

    def _wake(self) -> None:
        # Our own commits are for the relay.
        if threading.current_thread() is not self._thread:
            self._woken.set()

    def start(self) -> None:
        """Begins; returns at once."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="sealer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Seals what is committed, then ends."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        pause = 0.0
        while True:
            self._woken.wait(pause)
            stopping = self._stopping.is_set()
            if not stopping:
                time.sleep(DEBOUNCE_SECONDS)
            self._woken.clear()
            try:
                pause = self._drain()
                self._measure()
            except (DomainError, sa.exc.DBAPIError) as error:
                log.warning("sealing failed; trying again", extra={"fields": {"error": str(error)}})
                pause = BACK_OFF_SECONDS
                self._stopping.wait(pause)
            if stopping:
                return

    def _drain(self) -> float:
        """Seals until nothing is left; returns in how many seconds to look again unasked."""
        while True:
            count, everything = self.seal_batch()
            if everything:
                return POLL_SECONDS
            if count < self._batch:
                return CONTENDED_SECONDS

    def _measure(self) -> None:
        if time.monotonic() - self._measured < METRICS_SECONDS:
            return
        self._measured = time.monotonic()
        with calls.using(calls.Call.background("orders", "sealer", branches=("*",))), self._database.unit() as unit:
            waiting = store.backlog(unit.session)
        UNSEALED.set(waiting.unsealed)
        UNSENT.set(waiting.unsent)
        age = 0.0 if waiting.oldest is None else (unit.at - waiting.oldest).total_seconds()
        OLDEST.set(max(0.0, age))
