"""The way to billing goes before the work that lengthens it."""

import threading
from collections.abc import Callable
from typing import Protocol

# Many times what a charge needs from its commit to the stream on a machine that has time for it.
LONGEST_SECONDS = 0.06


class Stage(Protocol):
    """A part of the way."""

    @property
    def busy(self) -> bool:
        """Whether it has something to do. It is so before the stage in front of it no longer is."""

    def on_idle(self, listener: Callable[[], None]) -> None:
        """Calls the listener, from any thread, when it has nothing to do any more."""


class Precedence:
    """Lets those who make charges wait until what they made has gone out.

    Where all wait for the same processors, work in progress that is limited takes no longer as a whole, and every part
    of it is done sooner (Little's law: time in the system is what is in it by what leaves it). What waits is still a
    timer's row, and loses nothing.
    """

    def __init__(self, *stages: Stage, longest: float = LONGEST_SECONDS) -> None:
        self._stages = stages
        self._longest = longest
        # Whether to wait is of any use: not while the way is blocked (NATS is down, say).
        self._open = True
        # How often it was seen free.
        self._frees = 0
        self._rested = threading.Condition()
        for stage in stages:
            stage.on_idle(self._look)

    def wait(self) -> None:
        """Until nothing is on its way, at most for `longest` seconds; not again before the way was seen free."""
        with self._rested:
            before = self._frees
            if self._free():
                self._open = True
            elif self._open:
                # Others may be on their way again when we come to look.
                self._open = self._rested.wait_for(lambda: self._frees > before or self._free(), self._longest)

    def _look(self) -> None:
        with self._rested:
            if self._free():
                self._open = True
                self._frees += 1
                self._rested.notify_all()

    def _free(self) -> bool:
        return not any(stage.busy for stage in self._stages)
