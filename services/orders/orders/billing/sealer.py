"""Gives committed charges their places in the chains."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import sqlalchemy as sa
from sqlalchemy.orm import Session

from chassis import calls, epochs
from chassis.db import PARTITIONS, Database
from chassis.errors import DomainError, FailedPrecondition
from orders.billing import store
from orders.billing.domain import seal_all

log = logging.getLogger(__name__)

BATCH = 1_000
POLL_SECONDS = 0.5
# Charges that are committed close together share a transaction.
DEBOUNCE_SECONDS = 0.005
# How long to leave partitions to another sealer that is at them.
CONTENDED_SECONDS = 0.05
BACK_OFF_SECONDS = 1.0
# How long to wait for somebody who lets us seal again.
REFUSED_SECONDS = 5.0
# Charges below the floor are looked for this often; see _Floor.
SWEEP_SECONDS = 60.0
# A sealing transaction takes milliseconds; one that takes this long is stuck.
_DEADLINE_SECONDS = 15.0


class _Floor:
    """From where to look for unsealed charges, so that the index entries of sealed ones that can't be vacuumed yet (a
    backup holds them for hours) aren't read again each time.

    A number is drawn by a transaction that is running. Once all that were running when we had seen `highest` have
    ended, whatever has a number up to it is visible, and sealed by the next full pass. A transaction that draws its
    number in the instant before it gets its id could slip through: hence a sweep from the bottom now and then.
    """

    def __init__(self) -> None:
        self._floor = 0
        self._highest = 0
        # (the first transaction that hadn't begun yet, the highest number seen before)
        self._horizon: tuple[int, int] | None = None
        self._swept = 0.0

    def after(self) -> int:
        """The number beyond which to look this time."""
        if time.monotonic() - self._swept < SWEEP_SECONDS:
            return self._floor
        self._swept = time.monotonic()
        return 0

    def passed(self, locked: store.Locked, highest: int) -> None:
        """A pass has sealed everything that was visible; `highest` is the last number that it saw (0: none)."""
        if self._horizon is not None and locked.oldest >= self._horizon[0]:
            self._floor = self._horizon[1]
            self._horizon = None
        if self._horizon is None:
            self._horizon = (locked.newest, self._highest)
        self.saw(highest)

    def saw(self, highest: int) -> None:
        """A pass has seen charges up to a number."""
        self._highest = max(self._highest, highest)


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
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._floor = _Floor()
        database.subscribe(self._woken.set, store.CHARGED)

    def seal_batch(self) -> tuple[int, bool]:
        """Seals the oldest charges in one transaction, all or nothing: how many, and whether that was all there is.

        Raises Aborted when another sealer was faster, Unavailable, DeadlineExceeded, and what `confirm` raises.
        """
        deadline = time.monotonic() + _DEADLINE_SECONDS
        principal = calls.Call.background("orders", "sealer", branches=("*",)).principal
        with calls.using(calls.Call(principal, "sealer", deadline)), self._database.unit() as unit:
            session = unit.session
            locked = store.lock_partitions(session, self._partitions)
            if locked.incarnation != self._confirmed:
                self._confirm(session)
                self._confirmed = locked.incarnation
            waiting = store.unsealed(session, locked.partitions, self._batch, self._floor.after())
            if waiting:
                # After the locks: an epoch that was opened before them is seen, one that is opened later comes later.
                epoch = epochs.current(session)
                heads = store.heads(session, (charge.account for charge in waiting))
                sealed, grown = seal_all(waiting, epoch=epoch, heads=heads)
                store.save_sealed(session, epoch, sealed, grown)
                unit.after_commit(partial(self._database.wake, store.SEALED))
        everything = len(waiting) < self._batch and len(locked.partitions) == len(self._partitions)
        highest = waiting[-1].key if waiting else 0
        if everything:
            self._floor.passed(locked, highest)
        else:
            self._floor.saw(highest)
        return len(waiting), everything

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
            except FailedPrecondition as error:
                log.error("nothing is sealed", extra={"fields": {"error": str(error)}})
                pause = 0.0
                self._stopping.wait(REFUSED_SECONDS)
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
