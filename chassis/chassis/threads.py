"""Threads that live as long as the process does."""

import logging
import os
import signal
import threading
from abc import ABC, abstractmethod
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


class Background(ABC):
    """Work in a thread of its own, from `start` until it sees that it is to end."""

    def __init__(self, name: str) -> None:
        self._stopping = threading.Event()
        self._thread = keep_running(self._run, name)

    def start(self) -> None:
        """Begins; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """Works until `_stopping` is set."""
