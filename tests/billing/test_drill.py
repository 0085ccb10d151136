"""The fault drill: whatever happens to messages between the stream and who reads them, each fault is reported, by its
kind and in time, and nothing else is."""

import asyncio
import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.db import Database
from orders.billing import acknowledgements
from svyaz_cli.billing_chain import Event
from svyaz_cli.billing_log import Head
from svyaz_cli.billing_state import State
from svyaz_cli.billing_watch import Options, Tail
from tests.billing.books import acting
from tests.billing.charges import chain, corrupted
from tests.billing.conftest import Books
from tests.billing.drill import Fault, Schedule, falsely, reported, schedule
from tests.billing.exercise import empty, exercise

TIMEOUT = 30.0
# What is promised: of a fault's message everything is known a minute later.
MINUTE = 60.0


@dataclass
class Truth:
    """The log: what was sealed, and since when (seconds) the stream has each."""

    events_: Mapping[str, Sequence[Event]]
    sent: Mapping[tuple[str, int], float]
    now: float = 0.0

    def events(self, account: str, epoch: int, first: int, last: int) -> list[Event]:
        return [event for event in self.events_[account] if first <= event.sequence <= last]

    def heads(self, after: str, settled_seconds: int) -> tuple[Sequence[Head], str, bool]:
        """Asked anew each time: what was told before is no news to who has it."""
        found = []
        for account, events in self.events_.items():
            had = [event for event in events if self.sent[account, event.sequence] <= self.now - settled_seconds]
            if had:
                found.append((account, 1, had[-1].sequence, had[-1].hash))
        return found, after, False

    def certificate(self, *, account: str = "", branch: str = "", day: str = "") -> Iterator[Any]:
        return iter(())

    def acknowledge(self, heads: Sequence[Head], reason: str) -> None:
        for account, _, sequence, digest in heads:
            assert self.events_[account][sequence - 1].hash == digest


@dataclass
class Rehearsal:
    """A consumer in a time of its own, which reads what a schedule delivers."""

    truth: Truth
    told: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def run(self, plan: Schedule[Event], chance: random.Random) -> list[dict[str, Any]]:
        state, out = State(":memory:"), StringIO()
        options = Options(
            state=Path("unused"),
            nats_url="",
            orders_address="",
            token=str,
            gap_timeout=TIMEOUT,
            keep_going=True,
            acknowledge=True,
        )
        tail = Tail(options, state, self.truth, out, now=lambda: self.truth.now)
        end = max([one.at for one in plan.deliveries] + list(self.truth.sent.values()), default=0.0) + 3 * TIMEOUT
        ticks = [number * TIMEOUT / 8 for number in range(int(end / (TIMEOUT / 8)) + 1)]
        happenings = sorted([(one.at, 0, one) for one in plan.deliveries] + [(at, 1, None) for at in ticks], key=_when)
        for at, _, delivery in happenings:
            self.truth.now = at
            if delivery is None:
                tail.heal(patience=TIMEOUT)
                tail.compare()
                tail.commit()
                tail.acknowledge()
            else:
                event = delivery.message
                tail.take(corrupted(event, chance) if delivery.damaged else event)
            self.told += [(at, json.loads(line)) for line in out.getvalue().splitlines()]
            out.seek(0)
            out.truncate()
        assert state.unacknowledged(1) == []
        state.close()
        return [line for _, line in self.told]


def _when(happening: tuple[float, int, Any]) -> tuple[float, int]:
    return happening[:2]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 12), min_size=1, max_size=5), st.sampled_from([0.0, 0.2, 0.6]))
def test_every_fault_is_reported_by_its_kind_within_a_minute_and_none_falsely(
    seed: int, lengths: list[int], rate: float
) -> None:
    chance = random.Random(seed)
    chains = [chain(f"a{number}", length) for number, length in enumerate(lengths)]
    plan = schedule(chains, chance, timeout=TIMEOUT, rate=rate, spacing=2.5 * TIMEOUT)
    rehearsal = Rehearsal(Truth({events[0].account: events for events in chains}, sent(chains, plan)))
    lines = rehearsal.run(plan, chance)
    assert reported(lines) == plan.injected
    assert list(falsely(lines)) == []
    accepted = [(line["account"], line["sequence"]) for line in lines if line["verdict"] == "accepted"]
    assert sorted(accepted) == sorted((event.account, event.sequence) for events in chains for event in events)
    for account, events in rehearsal.truth.events_.items():
        assert [place[1] for place in accepted if place[0] == account] == [event.sequence for event in events]
    # What the stream had, and the consumer didn't get, is there a minute later.
    for at, line in rehearsal.told:
        if line["verdict"] == "accepted":
            assert at - rehearsal.truth.sent[line["account"], line["sequence"]] <= MINUTE


def sent(chains: Sequence[Sequence[Event]], plan: Schedule[Event]) -> dict[tuple[str, int], float]:
    """When the stream had each event."""
    return {
        (event.account, event.sequence): at
        for events, instants in zip(chains, plan.sent, strict=True)
        for event, at in zip(events, instants, strict=True)
    }


def test_a_drill_without_faults_reports_none() -> None:
    chains = [chain(f"a{number}", 20) for number in range(3)]
    plan = schedule(chains, random.Random(1), timeout=TIMEOUT, rate=0.0, spacing=1.0)
    assert plan.injected == {}
    lines = Rehearsal(Truth({events[0].account: events for events in chains}, sent(chains, plan))).run(
        plan, random.Random(1)
    )
    assert {line["verdict"] for line in lines} == {"accepted"}


def test_over_nats_every_fault_of_a_proxy_is_reported_by_its_kind_and_none_falsely(
    database: Database, books: Books, nats: Mapping[str, str], tmp_path: Path
) -> None:
    asyncio.run(empty(nats["orders"]))
    environment = {
        **os.environ,
        "NATS_URL": nats["billing"],
        "NATS_ORDERS_URL": nats["orders"],
        "ORDERS_ADDRESS": books.address,
        "SVYAZ_TOKEN": books.token(),
    }
    outcome = exercise(database, environment, nats["admin"], tmp_path / "state", accounts=6, each=8, seed=6)
    assert set(outcome.injected) == set(Fault) - {Fault.PAUSE}
    assert outcome.reported == outcome.injected
    assert list(falsely(outcome.lines)) == []
    assert outcome.accepted == {f"drill-{number}": list(range(1, 9)) for number in range(6)}
    with acting(database) as unit:
        assert acknowledgements.lag(unit.session).unacknowledged == 0
