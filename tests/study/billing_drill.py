"""The fault drill at its full size: charges over a real NATS to `svyaz billing-tail`, by a proxy that harms them.

    pytest -s tests/study/billing_drill.py          # DRILL_ACCOUNTS=100 DRILL_EACH=40 DRILL_SEED=1

It prints what was done to the messages, what was said of it, and how late; it fails when a fault wasn't reported by its
kind within a minute of its message, or something was reported that wasn't one.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from chassis.db import Database
from tests.billing.conftest import Books, books, database, place, signing_key
from tests.billing.drill import Fault, falsely
from tests.billing.exercise import MINUTE, empty, exercise

__all__ = ["books", "database", "place", "signing_key"]


@pytest.mark.timeout(1800)
def test_the_full_drill(database: Database, books: Books, nats: Mapping[str, str], tmp_path: Path) -> None:
    accounts, each, seed = (
        int(os.environ.get(f"DRILL_{name}", default))
        for name, default in (("ACCOUNTS", "100"), ("EACH", "40"), ("SEED", "1"))
    )
    asyncio.run(empty(nats["orders"]))
    environment = {
        **os.environ,
        "NATS_URL": nats["billing"],
        "NATS_ORDERS_URL": nats["orders"],
        "ORDERS_ADDRESS": books.address,
        "SVYAZ_TOKEN": books.token(),
    }
    outcome = exercise(
        database, environment, nats["admin"], tmp_path / "state", accounts=accounts, each=each, seed=seed
    )
    print(f"\n{accounts * each} messages of {accounts} accounts, seed {seed}")
    for fault in Fault:
        if fault is not Fault.PAUSE:
            print(f"  {fault.value:<10} injected {outcome.injected[fault]:>5}  reported {outcome.reported[fault]:>5}")
    false = list(falsely(outcome.lines))
    print(f"  false {len(false)}; the slowest report {outcome.slowest:.1f} s after its message")
    assert outcome.reported == outcome.injected
    assert false == []
    assert outcome.accepted == {f"drill-{number}": list(range(1, each + 1)) for number in range(accounts)}
    assert outcome.slowest <= MINUTE
