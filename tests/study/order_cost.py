"""What carrying an order out costs orders and its database, in CPU: `pytest -s tests/study/order_cost.py`. One item, a
one-time and a recurring price, the plan that every operator has; eight orders in a transaction, as under load."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import ServiceDatabase
from tests.orders.drill import Floor

ORDERS, WARM = 400, 80
_COST = "SELECT pid, sum(1) FROM pg_stat_activity WHERE datname = current_database() GROUP BY pid"


class Nothing:
    """A system that has done it already."""

    def start(self, task: Any, item: Any) -> Any:
        """Done."""
        from orders.fulfilment.adapters import Done

        return Done()


def ticks(pid: int) -> int:
    """The CPU that a process has used, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_what_an_order_costs(database_for: Callable[..., ServiceDatabase], tmp_path: Path) -> None:
    floor = Floor(database_for("orders").url, tmp_path / "offset", Nothing())
    pids = [row[0] for row in floor.do(lambda unit: unit.cursor().execute(_COST).fetchall())]
    for count in (WARM, ORDERS):
        for _ in range(count):
            floor.order("line")
        before, server = time.process_time(), sum(map(ticks, pids))
        floor.work()
        spent, server = time.process_time() - before, sum(map(ticks, pids)) - server
    print(f"\n{spent / ORDERS * 1e3:.2f} ms of orders, {server / ORDERS * 10:.2f} ms of PostgreSQL for each order")
    floor.database.close()
