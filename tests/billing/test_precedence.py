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


class Waits(threading.Condition):
    """Notes how often it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def wait(self, timeout: float | None = None) -> bool:
        """As a condition's."""
        self.count += 1
        return super().wait(timeout)


def waits_of(precedence: Precedence) -> Waits:
    """What it waits by, from now on."""
    precedence._rested = waits = Waits()
    return waits


def test_nobody_waits_when_nothing_is_on_its_way() -> None:
    precedence = Precedence(Step(), Step(), longest=60)
    waits = waits_of(precedence)
    precedence.wait()
    assert waits.count == 0


def test_everybody_waits_until_every_stage_is_idle() -> None:
    sealer, relay = Step(), Step()
    sealer.busy = True
    precedence = Precedence(sealer, relay, longest=60)
    waits = waits_of(precedence)
    waiting = [threading.Thread(target=precedence.wait) for _ in range(3)]
    for thread in waiting:
        thread.start()
    things.eventually(lambda: waits.count == 3)
    # The next stage has it before the first lets go.
    relay.busy = True
    sealer.rest()
    for thread in waiting:
        thread.join(0.1)
    assert all(thread.is_alive() for thread in waiting)
    relay.rest()
    for thread in waiting:
        thread.join(10)
    assert not any(thread.is_alive() for thread in waiting)


def test_a_moment_in_which_the_way_was_free_is_enough() -> None:
    relay = Step()
    precedence = Precedence(relay, longest=60)

    class BusyAgain(Waits):
        def wait(self, timeout: float | None = None) -> bool:
            told = super().wait(timeout)
            # Others were faster than we, who were told that it is free.
            relay.busy = True
            return told

    precedence._rested = waits = BusyAgain()
    relay.busy = True
    waiting = threading.Thread(target=precedence.wait, daemon=True)
    waiting.start()
    things.eventually(lambda: waits.count == 1)
    relay.rest()
    waiting.join(10)
    assert not waiting.is_alive()
    assert waits.count == 1


def test_a_way_that_is_blocked_is_waited_for_once_until_it_is_seen_free() -> None:
    relay = Step()
    precedence = Precedence(relay, longest=0.05)
    waits = waits_of(precedence)
    relay.busy = True
    precedence.wait()
    tries = waits.count
    assert tries > 0
    precedence.wait()
    assert waits.count == tries
    # Nobody looks in the moment in which it is free.
    relay.rest()
    relay.busy = True
    precedence.wait()
    assert waits.count > tries
    tries = waits.count
    relay.busy = False
    precedence.wait()
    relay.busy = True
    precedence.wait()
    assert waits.count > tries


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
