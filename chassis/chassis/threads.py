"""Threads that live as long as the process does."""

import logging
import os
import signal
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def failed(name: str, error: BaseException) -> None:
    """What must never end by itself has failed: so does the process, and is started again."""
    log.critical("%s has failed", name, exc_info=error)
    os.kill(os.getpid(), signal.SIGTERM)


def keep_running(work: Callable[[], object], name: str) -> threading.Thread:
    """A thread that does the work; not yet started. If the work fails, the process ends: a thread that has died in a
    process that lives would be missed by nobody."""

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (hides nothing: the process ends)
            failed(name, error)

    return threading.Thread(target=run, name=name, daemon=True)
