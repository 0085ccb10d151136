"""What `billing-tail` makes of a log that doesn't answer: never that all is well."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from chassis.errors import Unavailable
from svyaz.orders.v1 import billing_pb2
from svyaz_cli.billing_chain import Event
from svyaz_cli.billing_log import Head
from svyaz_cli.billing_state import State
from svyaz_cli.billing_tail import conclude
from svyaz_cli.billing_watch import Options, Tail
from tests.billing.charges import chain


@dataclass
class Faltering:
    """A log of one account that answers some questions only; positions are those of its chain."""

    told: Sequence[Event]
    silent: set[str] = field(default_factory=set)

    def _ask(self, what: str) -> None:
        if what in self.silent:
            raise Unavailable("UNAVAILABLE", "orders is being replaced")

    def events(self, account: str, epoch: int, first: int, last: int) -> list[Event]:
        self._ask("events")
        return [event for event in self.told if first <= event.sequence <= last]

    def heads(self, after: str, settled_seconds: int) -> tuple[Sequence[Head], str, bool]:
        self._ask("heads")
        end = self.told[-1]
        grown = [(end.account, end.epoch, end.sequence, end.hash)] if end.sequence > int(after or 0) else []
        return grown, str(end.sequence), False

    def certificate(self, *, account: str = "", branch: str = "", day: str = "") -> Iterator[Any]:
        self._ask("certificate")
        end = self.told[-1]
        yield billing_pb2.BillingCertificateRow(
            account=end.account, epoch=end.epoch, count=end.sequence, last_sequence=end.sequence, last_hash=end.hash
        )

    def acknowledge(self, heads: Sequence[Head], reason: str) -> None:
        self._ask("acknowledge")


@dataclass
class Watched:
    """Who has read all of a stream that has lost the end of a chain of three."""

    log: Faltering
    tail: Tail
    out: StringIO

    def lines(self) -> list[tuple[str, int]]:
        return [(line["verdict"], line["sequence"]) for line in map(json.loads, self.out.getvalue().splitlines())]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    events = chain("a", 3)
    log, out, state = Faltering(events), StringIO(), State(tmp_path / "state")
    options = Options(
        state=tmp_path / "state", nats_url="", orders_address="", token=str, keep_going=True, acknowledge=True
    )
    tail = Tail(options, state, log, out)
    for event in events[:2]:
        tail.take(event)
    tail.commit()
    yield Watched(log, tail, out)
    state.close()


def test_the_end_of_a_chain_that_could_not_be_fetched_is_asked_for_again(watched: Watched) -> None:
    watched.log.silent = {"events"}
    watched.tail.compare()
    assert watched.lines()[2:] == [("gap", 3)]
    watched.log.silent = set()
    watched.tail.compare()
    assert ("accepted", 3) in watched.lines()
    assert watched.tail.faults == 0


@pytest.mark.parametrize("silent", ["certificate", "events", "acknowledge"])
def test_what_could_not_be_compared_or_said_is_not_proven(watched: Watched, silent: str) -> None:
    watched.log.silent = {silent}
    conclude(watched.tail)
    assert watched.tail.unproven


def test_what_was_compared_and_said_is(watched: Watched) -> None:
    conclude(watched.tail)
    assert watched.lines()[-1] == ("accepted", 3)
    assert not watched.tail.unproven
