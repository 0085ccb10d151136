"""Who makes charges waits for those on their way, but not for a way that is blocked."""

import threading
from collections.abc import Callable

from chassis.db import Database
from orders.billing.precedence import Precedence
from orders.billing.sealer import Sealer
from tests.billing.books import write
from tests.billing.charges import charge
from tests.chassis import things


class Step:
    """A stage that is told what it is."""

    def __init__(self) -> None:
        self.busy = False
        self._listeners: list[Callable[[], None]] = []

    def on_idle(self, listener: Callable[[], None]) -> None:
        """As a stage's."""
        self._listeners.append(listener)

    def rest(self) -> None:
        """Becomes idle, and says so."""
        self.busy = False
        for listener in self._listeners:
            listener()


class Waits(threading.Event):
    """Notes for how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        """As an event's."""
        assert timeout is not None
        self.seconds.append(timeout)
        return super().wait(timeout)


def test_nobody_waits_when_nothing_is_on_its_way() -> None:
    precedence = Precedence(Step(), Step(), longest=60)
    precedence._idle = waits = Waits()
    precedence.wait()
    assert waits.seconds == []


def test_it_is_waited_until_every_stage_is_idle() -> None:
    sealer, relay = Step(), Step()
    sealer.busy = True
    precedence = Precedence(sealer, relay, longest=60)
    precedence._idle = waits = Waits()
    for stage in (sealer, relay):
        stage.on_idle(waits.set)
    waiting = threading.Thread(target=precedence.wait)
    waiting.start()
    things.eventually(lambda: len(waits.seconds) == 1)
    # The next stage has it before the first lets go.
    relay.busy = True
    sealer.rest()
    things.eventually(lambda: len(waits.seconds) == 2)
    assert waiting.is_alive()
    relay.rest()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_way_that_is_blocked_is_waited_for_once() -> None:
    relay = Step()
    precedence = Precedence(relay, longest=0.05)
    precedence._idle = waits = Waits()
    relay.busy = True
    precedence.wait()
    tries = len(waits.seconds)
    assert tries > 0
    precedence.wait()
    assert len(waits.seconds) == tries
    # It was seen free: to wait is of use again.
    relay.rest()
    precedence.wait()
    relay.busy = True
    precedence.wait()
    assert len(waits.seconds) > tries


def test_a_sealer_is_busy_until_it_has_sealed_what_was_committed(database: Database) -> None:
    sealer = Sealer(database)
    rested = threading.Event()
    sealer.on_idle(rested.set)
    busy = [sealer.busy]
    write(database, [charge("a")])
    busy.append(sealer.busy)
    assert busy == [False, True]
    sealer.start()
    try:
        assert rested.wait(10)
        things.eventually(lambda: not sealer.busy)
    finally:
        sealer.stop()
    assert Sealer(database).seal_batch() == (0, True)
