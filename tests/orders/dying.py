"""Replicas that carry orders on and are killed: `dying.py URL OFFSET DEEDS ORDER…`. Each is a process of its own that
ends by SIGKILL, first at its first answer of a system, then at its second …; the last one lives. DEEDS is what the
systems have done: a line for each task and attempt."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from orders.fulfilment.adapters import Done, Outcome
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.plan import PlannedItem
from orders.ordering.domain import FINAL
from tests.orders.drill import Floor


class Systems:
    """Systems of which somebody else's deeds are left when he is killed."""

    def __init__(self, deeds: Path, lasts: int) -> None:
        self._deeds = deeds
        # So many answers are lived to see.
        self._lasts = lasts

    def start(self, task: FulfilmentTask, item: PlannedItem | None) -> Outcome:
        """Does it once, for whoever asks; and the one who asks is killed before he has heard of it."""
        deed = f"{task.id} {task.attempt} {task.name}\n"
        if deed not in self._deeds.read_text().splitlines(keepends=True):
            with self._deeds.open("a") as written:
                written.write(deed)
        self._lasts -= 1
        if not self._lasts:
            os.kill(os.getpid(), signal.SIGKILL)
        return Done()


def live(url: str, offset: Path, deeds: Path, order_ids: Sequence[str], lasts: int) -> None:
    """Carries the orders on to their end, or to one's own."""
    floor = Floor(url, offset, Systems(deeds, lasts))
    for _ in range(100):
        if all(floor.state(order_id) in FINAL for order_id in order_ids):
            break
        if not floor.round():
            floor.pass_by(floor.next_due())
    floor.database.close()


def main() -> None:
    """One replica after another, until one lives to see the end; how many were killed is printed."""
    url, offset, deeds, *order_ids = sys.argv[1:]
    for killed in range(100):
        child = os.fork()
        if not child:
            live(url, Path(offset), Path(deeds), order_ids, killed + 1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            print(killed)
            sys.exit(os.WEXITSTATUS(status))
    sys.exit("nobody lived to see the end")


if __name__ == "__main__":
    main()
