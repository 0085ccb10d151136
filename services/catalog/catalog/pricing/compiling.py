"""Keeps compiled offers beside the catalog, so that a process that begins has them at once."""

import logging
import threading
import time

from catalog.pricing import compiled
from catalog.pricing.store import OfferBook
from chassis.db import Database
from chassis.events import Failure, acting, attempt
from chassis.threads import keep_running

log = logging.getLogger(__name__)

# Offers in one transaction.
BATCH = 200
# What others have changed is looked for so often; what this process has changed, soon.
INTERVAL_SECONDS, SOON_SECONDS = 60.0, 1.0
# It may have a fifth of the time: callers wait for nothing of this.
_REST = 4


class Compiling:
    """Loads the book when it begins; then compiles whatever has changed. Any number of replicas may."""

    def __init__(self, database: Database, book: OfferBook) -> None:
        self._database = database
        self._book = book
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        database.subscribe(self._changed.set)

    def start(self) -> None:
        """Begins; returns at once."""
        self._stopping.clear()
        self._thread = keep_running(self._run, "compiling offers")
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._stopping.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        loaded = attempt(self.load)
        if isinstance(loaded, Failure):
            log.warning("offers can't be loaded", extra={"fields": {"error": loaded.error}})
        while not self._stopping.is_set():
            begun = time.monotonic()
            done = attempt(self.once)
            if isinstance(done, Failure):
                log.warning("offers can't be compiled", extra={"fields": {"error": done.error}})
            # Not more often than this, however often the catalog changes.
            self._stopping.wait(max(SOON_SECONDS, _REST * (time.monotonic() - begun)))
            self._changed.wait(INTERVAL_SECONDS)

    def load(self) -> None:
        """Fills the book with what is kept."""
        begun = time.monotonic()
        with acting("catalog", "loading offers"):
            number = self._book.load(self._database)
        log.info("offers loaded", extra={"fields": {"offers": number, "seconds": time.monotonic() - begun}})

    def once(self) -> int:
        """Compiles and keeps what isn't kept, or has changed since; how many these were."""
        self._changed.clear()
        after, number = "", 0
        while not self._stopping.is_set():
            begun = time.monotonic()
            with acting("catalog", "compiling offers"), self._database.unit() as unit:
                alone = compiled.alone(unit)
                if alone and not after:
                    compiled.forget_others(unit)
                ids = compiled.stale(unit, after, BATCH) if alone else []
                if ids:
                    compiled.keep(unit, compiled.compiled(unit, ids).values())
                    number += len(ids)
            if len(ids) < BATCH:
                break
            after = ids[-1]
            self._stopping.wait(_REST * (time.monotonic() - begun))
        return number
