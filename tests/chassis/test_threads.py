"""A process whose background work has failed ends, so that it is started again."""

import threading

import pytest

from chassis.db import Database
from chassis.leases import Lease
from chassis.server import Runnable
from chassis.threads import keep_running
from chassis.timers import Timers
from chassis.upkeep import Upkeep
from tests.chassis import things


def test_a_thread_that_fails_ends_the_process(told: threading.Event, caplog: pytest.LogCaptureFixture) -> None:
    thread = keep_running(lambda: 1 // 0, "the work")
    thread.start()
    assert told.wait(10)
    thread.join()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("CRITICAL", "the work has failed")
    ]


def test_a_thread_that_has_done_its_work_ends_alone(told: threading.Event) -> None:
    thread = keep_running(lambda: None, "the work")
    thread.start()
    thread.join()
    assert not told.is_set()


@pytest.mark.parametrize("kind", ["lease", "timers", "upkeep"])
def test_background_work_with_a_bug_ends_the_process(database: Database, told: threading.Event, kind: str) -> None:
    class Broken:
        """A clock with a bug."""

        def now(self) -> None:
            raise ZeroDivisionError

    database.clock = Broken()  # type: ignore[assignment]
    made: dict[str, Runnable] = {
        "lease": Lease(database, "work"),
        "timers": Timers(database, {}, service=things.SERVICE),
        "upkeep": Upkeep(database, things.SERVICE),
    }
    made[kind].start()
    assert told.wait(10)
    made[kind].stop()
