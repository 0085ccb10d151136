"""The threads of a process stay on one CPU while there is one to spare, and go where the kernel wants otherwise."""

import os
import threading
import time
from collections.abc import Callable

import pytest

from chassis.affinity import Load, OneCpu, placed, times

GOES, STAYS = 0.1, 0.9


@pytest.mark.parametrize(
    ("at", "busy", "own", "lot", "expected"),
    [
        # To the least busy one, if it has something to spare.
        (None, {0: 0.9, 1: 0.4}, 0.3, STAYS, 1),
        (None, {0: 0.5, 1: 0.5}, 0.3, STAYS, 0),
        (None, {0: 0.9, 1: 0.75}, 0.3, STAYS, None),
        # Many that have a little left make no room for one.
        (None, {0: 0.8, 1: 0.8, 2: 0.8}, 0.3, STAYS, None),
        # What it does itself is no reason to go.
        (0, {0: 1.0, 1: 0.3}, 1.0, GOES, 0),
        # What others do is, if there is much less of it elsewhere.
        (0, {0: 1.0, 1: 0.3}, 0.4, GOES, 1),
        (0, {0: 1.0, 1: 0.3}, 0.4, STAYS, 0),
        (0, {0: 0.8, 1: 0.3}, 0.4, GOES, 0),
        # Where everything is busy the kernel shares out, until there is something to spare again.
        (0, {0: 1.0, 1: 0.95}, 0.5, GOES, None),
        (None, {0: 0.9, 1: 0.85}, 0.5, GOES, None),
        # A CPU that has been taken away.
        (7, {0: 0.9, 1: 0.4}, 0.3, STAYS, 1),
    ],
)
def test_where_a_process_should_be(
    at: int | None, busy: dict[int, float], own: float, lot: float, expected: int | None
) -> None:
    assert placed(at, Load(busy, own), lot) == expected


def test_what_the_kernel_tells_of_cpus() -> None:
    stat = (
        "cpu  60 6 30 300 30 3 3 6 9 0\n"
        # user nice system idle iowait irq softirq steal guest guest_nice; guests are counted in user.
        "cpu0 10 1 5 100 10 1 1 2 3 0\n"
        "cpu12 50 5 25 200 20 2 2 4 6 0\n"
        "intr 12345 0 0\n"
        "ctxt 99\n"
    )
    assert times(stat) == {0: (20, 130), 12: (88, 308)}


class Machine:
    """Two CPUs of this one, as busy as is said, in a clock of its own."""

    def __init__(self, cpus: list[int]) -> None:
        self.busy = dict.fromkeys(cpus, 0.0)
        self._worked = dict.fromkeys(cpus, 0.0)
        self._looks = 0

    def stat(self) -> str:
        self._looks += 1
        lines = []
        for cpu, share in self.busy.items():
            self._worked[cpu] += 1000 * share
            worked = int(self._worked[cpu])
            lines.append(f"cpu{cpu} {worked} 0 0 {1000 * self._looks - worked} 0 0 0 0 0 0\n")
        return "".join(lines)


@pytest.fixture
def two() -> list[int]:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("this machine has one CPU only")
    return cpus[:2]


def test_all_threads_go_together_and_are_let_go(two: list[int]) -> None:
    first, second = two
    everywhere = os.sched_getaffinity(0)
    machine, done = Machine(two), threading.Event()
    machine.busy[first] = 1.0
    threads = [threading.Thread(target=done.wait)]
    threads[0].start()
    one = OneCpu(machine.stat, seconds=0.01)
    try:
        one.start()
        _eventually(lambda: _where(threads) == [{second}])
        # One that comes later begins where the one that starts it is.
        threads.append(threading.Thread(target=done.wait))
        threads[1].start()
        assert _where(threads) == [{second}, {second}]
        machine.busy[second] = 1.0
        _eventually(lambda: _where(threads) == [everywhere, everywhere])
        machine.busy[first] = 0.0
        _eventually(lambda: _where(threads) == [{first}, {first}])
    finally:
        one.stop()
        where = _where(threads)
        done.set()
        for thread in threads:
            thread.join()
    assert where == [everywhere, everywhere]
    assert os.sched_getaffinity(0) == everywhere


def _where(threads: list[threading.Thread]) -> list[set[int]]:
    return [os.sched_getaffinity(thread.native_id or 0) for thread in threads]


def _eventually(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
