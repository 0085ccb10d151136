"""Gives committed charges their places in the chains."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy.orm import Session

from chassis import calls
from chassis.db import Database
from chassis.errors import FailedPrecondition
from chassis.events import DATABASE_ERRORS
from chassis.horizon import HORIZON_SECONDS, Floor
from chassis.schema import PARTITIONS
from chassis.threads import keep_running
from orders.billing import store
from orders.billing.domain import seal_all

log = logging.getLogger(__name__)

BATCH = 1_000
POLL_SECONDS = 0.5
# Passes begin at least so far apart: charges that are committed faster share a transaction.
DEBOUNCE_SECONDS = 0.005
# How long to leave partitions to another sealer that is at them.
CONTENDED_SECONDS = 0.05
BACK_OFF_SECONDS = 1.0
# How long to wait for somebody who lets us seal again.
REFUSED_SECONDS = 5.0
# Charges below the floor are looked for this often: a transaction that numbers a charge in the instant before it gets a
# number itself could slip through.
SWEEP_SECONDS = 60.0
# A sealing transaction takes milliseconds; one that takes this long is stuck.
_DEADLINE_SECONDS = 15.0


class Sealer:
    """Seals in batches, woken by commits. Any number may run, in any number of processes: they share the partitions out
    batch by batch, and none needs to know of another."""

    def __init__(
        self,
        database: Database,
        *,
        confirm: Callable[[Session], None] = lambda session: None,
        partitions: Sequence[int] = range(PARTITIONS),
        batch: int = BATCH,
    ) -> None:
        self._database = database
        # Asked before anything is sealed, and again when the database may have become another: raises to prevent it.
        self._confirm = confirm
        self._confirmed = ""
        self._partitions = tuple(partitions)
        self._batch = batch
        self._woken = threading.Event()
        self._sealing = False
        self._idle_listeners: list[Callable[[], None]] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        # So that the index entries of sealed charges that can't be vacuumed yet (a backup holds them for hours) aren't
        # read again each time.
        self._floor = Floor()
        self._horizon_at = 0.0
        self._swept = 0.0
        database.subscribe(self._woken.set, store.CHARGED)

    @property
    def busy(self) -> bool:
        """Whether charges that were committed in this process wait for a pass, or are in one. What a pass had to leave,
        to another sealer or after a failure, doesn't count until the next."""
        return self._woken.is_set() or self._sealing

    def on_idle(self, listener: Callable[[], None]) -> None:
        """Calls the listener, in the sealer's thread, when the sealer isn't busy any more."""
        self._idle_listeners.append(listener)

    def seal_batch(self) -> tuple[int, bool]:
        """Seals the oldest charges in one transaction, all or nothing: how many, and whether that was all there is.

        Raises Aborted when another sealer was faster, Unavailable, DeadlineExceeded, and what `confirm` raises.
        """
        now = time.monotonic()
        deadline = now + _DEADLINE_SECONDS
        sweeping = now - self._swept >= SWEEP_SECONDS
        after = 0 if sweeping else self._floor.number
        taking_horizon = self._floor.may_rise and now - self._horizon_at >= HORIZON_SECONDS
        call = replace(calls.Call.background("orders", "sealer", branches=("*",)), deadline=deadline)
        with calls.using(call), self._database.unit() as unit:
            locked, waiting, horizon = store.take(
                unit, self._partitions, self._batch, after, taking_horizon=taking_horizon
            )
            if locked.incarnation != self._confirmed:
                self._confirm(unit.session)
                self._confirmed = locked.incarnation
                # An epoch that was opened since then may be why it is confirmed.
                waiting = store.waiting(unit, self._batch, after)
            charges = waiting.charges
            if charges:
                sealed, grown = seal_all(charges, epoch=waiting.epoch, heads=waiting.heads)
                store.save_sealed(unit, waiting.epoch, sealed, grown)
                unit.after_commit(partial(self._database.wake, store.SEALED))
        if sweeping:
            self._swept = now
        if taking_horizon:
            self._horizon_at = now
        everything = len(charges) < self._batch and len(locked.partitions) == len(self._partitions)
        self._floor.looked(charges[-1].key if charges else 0, horizon if everything else None)
        return len(charges), everything

    def start(self) -> None:
        """Begins; returns at once."""
        self._stopping.clear()
        self._thread = keep_running(self._run, "sealer")
        self._thread.start()

    def stop(self) -> None:
        """Seals what is committed, then ends."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        pause = sealed_at = 0.0
        while True:
            self._woken.wait(pause)
            stopping = self._stopping.is_set()
            if not stopping:
                time.sleep(max(0.0, sealed_at + DEBOUNCE_SECONDS - time.monotonic()))
            sealed_at = time.monotonic()
            self._sealing = True
            self._woken.clear()
            rest = 0.0
            try:
                pause = self._drain()
            except FailedPrecondition as error:
                log.error("nothing is sealed", extra={"fields": {"error": str(error)}})
                pause, rest = 0.0, REFUSED_SECONDS
            except DATABASE_ERRORS as error:
                log.warning("sealing failed; trying again", extra={"fields": {"error": str(error)}})
                pause = rest = BACK_OFF_SECONDS
            self._sealing = False
            if not self.busy:
                for listener in self._idle_listeners:
                    listener()
            if stopping:
                return
            # Whoever wakes us doesn't make this shorter.
            self._stopping.wait(rest)

    def _drain(self) -> float:
        """Seals until nothing is left; returns in how many seconds to look again unasked."""
        while True:
            count, everything = self.seal_batch()
            if everything:
                return POLL_SECONDS
            if count < self._batch:
                return CONTENDED_SECONDS
