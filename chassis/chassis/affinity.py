"""Keeps the threads of a process together on one CPU while it could use more than the one that Python can.

Python runs one thread of a process at a time. Spread over CPUs, every hand-over of the interpreter wakes another CPU
and takes the working set there: a call then costs up to half as much again (docs/adr/0039-threads-stay-together.md).
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chassis.threads import Background

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
# In CPUs: a process that uses so much, while so much is idle on all of them together, waits for its own interpreter,
# and is kept on one CPU.
USED_TO_BEGIN, IDLE_TO_BEGIN = 0.75, 0.3
# It is let go when it does much less, when nothing is idle any more, or when others do so much on its CPU: then who
# runs where is better left to the kernel, which knows who waits.
USED_TO_STAY, IDLE_TO_STAY, OTHERS = 0.5, 0.1, 0.25
_STAT = Path("/proc/stat")
_TASKS = Path("/proc/self/task")
# Of a line of /proc/stat (proc_stat(5)): where idle and iowait are, and the first that are counted in others already.
_IDLE, _COUNTED = slice(3, 5), 8


@dataclass(frozen=True, slots=True)
class Load:
    """What was done since the last look."""

    # The share of its time that each CPU worked, from 0 to 1.
    busy: Mapping[int, float]
    # How much of a CPU this process used: more than 1 where its threads ran on several.
    own: float


def placed(at: int | None, load: Load) -> int | None:
    """Where a process that is kept on a CPU (None: on none) should be kept from now on."""
    idle = sum(1 - share for share in load.busy.values())
    if at is None or at not in load.busy:
        if load.own < USED_TO_BEGIN or idle < IDLE_TO_BEGIN:
            return None
        return min(load.busy, key=lambda cpu: (load.busy[cpu], cpu))
    stays = load.own >= USED_TO_STAY and idle >= IDLE_TO_STAY and load.busy[at] - load.own <= OTHERS
    return at if stays else None


def times(stat: str) -> dict[int, tuple[int, int]]:
    """How long each CPU has worked and how long it could have, in ticks, as /proc/stat tells it."""
    result: dict[int, tuple[int, int]] = {}
    for line in stat.splitlines():
        name, *numbers = line.split()
        if name.startswith("cpu") and name[3:].isdigit():
            ticks = [int(number) for number in numbers[:_COUNTED]]
            result[int(name[3:])] = (sum(ticks) - sum(ticks[_IDLE]), sum(ticks))
    return result


class OneCpu(Background):
    """Looks once a second whether this process should be on one of the CPUs that it may use when it starts. Where that
    can't be found out or done, it runs as if nobody had asked."""

    def __init__(
        self,
        read: Callable[[], str] = _STAT.read_text,
        used: Callable[[], float] = time.process_time,
        seconds: float = LOOK_SECONDS,
    ) -> None:
        """`read`: /proc/stat; `used`: how many seconds of CPU this process has used."""
        super().__init__("affinity")
        self._read = read
        self._used = used
        self._seconds = seconds
        self._allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self._at: int | None = None

    def start(self) -> None:
        """Begins; does nothing where there is one CPU only, or where the system tells nothing of them."""
        if len(self._allowed) > 1 and _STAT.exists():
            super().start()

    def _run(self) -> None:
        try:
            self._keep()
        except OSError as error:
            # A sandbox forbids it, say. Threads run somewhere in any case: that is no reason to end the process.
            log.warning("threads aren't kept on one CPU", extra={"fields": {"error": repr(error)}})
        with suppress(OSError):
            self._go(None)

    def _keep(self) -> None:
        before, own = self._look(), self._used()
        while not self._stopping.wait(self._seconds):
            now, used = self._look(), self._used()
            load = _load(before, now, used - own)
            if load is not None:
                before, own = now, used
                self._go(placed(self._at, load))

    def _look(self) -> Mapping[int, tuple[int, int]]:
        return {cpu: spent for cpu, spent in times(self._read()).items() if cpu in self._allowed}

    def _go(self, cpu: int | None) -> None:
        if cpu != self._at:
            log.debug("threads move", extra={"fields": {"from": self._at, "to": cpu}})
        elif cpu is None:
            return
        self._at = cpu
        # Also those that have come since the last look: a thread begins where the one that started it was.
        confine(self._allowed if cpu is None else {cpu})


def _load(before: Mapping[int, tuple[int, int]], now: Mapping[int, tuple[int, int]], own_seconds: float) -> Load | None:
    """What happened between two looks; None: they are too close together, or tell of no CPU that both know."""
    passed = {cpu: now[cpu][1] - before[cpu][1] for cpu in now.keys() & before.keys()}
    busy = {cpu: (now[cpu][0] - before[cpu][0]) / ticks for cpu, ticks in passed.items() if ticks > 0}
    if not busy:
        return None
    return Load(busy, own_seconds * os.sysconf("SC_CLK_TCK") / max(passed.values()))


def confine(cpus: set[int]) -> None:
    """Lets every thread of this process run on these CPUs only. Threads of libraries too: what they hand over is what
    the others then read."""
    for task in _TASKS.iterdir():
        try:
            os.sched_setaffinity(int(task.name), cpus)
        except ProcessLookupError:
            # It has ended meanwhile.
            continue


def spread() -> None:
    """Lets this process use every CPU that the machine gives it: for one that was started by one that is confined."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
