"""The threads of a process stay on one CPU while there is one to spare, and go where the kernel wants otherwise."""

import os
import threading
import time
from collections.abc import Callable

import pytest

from chassis.affinity import Load, OneCpu, placed, times


@pytest.mark.parametrize(
    ("at", "busy", "own", "expected"),
    [
        # To the least busy one, when it uses nearly all that Python can.
        (None, {0: 0.9, 1: 0.4}, 0.9, 1),
        (None, {0: 0.6, 1: 0.6}, 0.9, 0),
        (None, {0: 0.9, 1: 0.4}, 0.7, None),
        # Where hardly anything is idle, nobody.
        (None, {0: 0.9, 1: 0.85}, 0.9, None),
        # It stays while it uses most of it, and others leave it in peace.
        (0, {0: 1.0, 1: 0.3}, 1.0, 0),
        (0, {0: 0.7, 1: 0.3}, 0.5, 0),
        (0, {0: 0.5, 1: 0.3}, 0.4, None),
        (0, {0: 1.0, 1: 0.3}, 0.7, None),
        (0, {0: 1.0, 1: 0.95}, 1.0, None),
        # A CPU that has been taken away.
        (7, {0: 0.9, 1: 0.4}, 0.9, 1),
    ],
)
def test_where_a_process_should_be(at: int | None, busy: dict[int, float], own: float, expected: int | None) -> None:
    assert placed(at, Load(busy, own)) == expected


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
    """Two CPUs of this one, as busy as is said, and a process that uses most of one, in a clock of its own."""

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

    def used(self) -> float:
        """In seconds."""
        return 0.9 * 1000 * self._looks / os.sysconf("SC_CLK_TCK")


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
    machine.busy = {first: 0.9, second: 0.5}
    threads = [threading.Thread(target=done.wait)]
    threads[0].start()
    one = OneCpu(machine.stat, machine.used, seconds=0.01)
    try:
        one.start()
        _eventually(lambda: _where(threads) == [{second}])
        # One that comes later begins where the one that starts it is.
        threads.append(threading.Thread(target=done.wait))
        threads[1].start()
        assert _where(threads) == [{second}, {second}]
        machine.busy = {first: 1.0, second: 1.0}
        _eventually(lambda: _where(threads) == [everywhere, everywhere])
        machine.busy = {first: 0.2, second: 1.0}
        _eventually(lambda: _where(threads) == [{first}, {first}])
    finally:
        one.stop()
        where = _where(threads)
        done.set()
        for thread in threads:
            thread.join()
    assert where == [everywhere, everywhere]
    assert os.sched_getaffinity(0) == everywhere


def test_a_process_that_may_not_choose_its_cpu_goes_on(
    two: list[int], told: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    machine, everywhere = Machine(two), os.sched_getaffinity(0)
    machine.busy = {two[0]: 0.9, two[1]: 0.5}

    def until_kept() -> str:
        if os.sched_getaffinity(0) != everywhere:
            raise PermissionError("not any more")
        return machine.stat()

    one = OneCpu(until_kept, machine.used, seconds=0.01)
    one.start()
    _eventually(lambda: bool(caplog.records))
    one.stop()
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", "threads aren't kept on one CPU")
    ]
    assert not told.is_set()
    assert os.sched_getaffinity(0) == everywhere


def _where(threads: list[threading.Thread]) -> list[set[int]]:
    return [os.sched_getaffinity(thread.native_id or 0) for thread in threads]


def _eventually(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
