"""The log as others read it: complete, and each aggregate's versions in order."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import sqlalchemy as sa

from chassis.auth import Principal
from chassis.calls import Call, using
from chassis.db import Database
from chassis.errors import InvalidArgument, Unavailable
from chassis.events import acting
from chassis.operations import Operations
from chassis.schema import partition_of
from svyaz.operations.v1 import operations_pb2 as pb
from tests.chassis import things

KEY = "key"


@pytest.fixture
def operations(database: Database) -> Operations:
    """The operations of a service without consumers."""
    return Operations(database, [], service=things.SERVICE)


@contextmanager
def calling(branches: tuple[str, ...] = ("*",), seconds: float = 10.0) -> Iterator[None]:
    """A call of a service, with a deadline."""
    principal = Principal("service:reader", frozenset({"service"}), branches)
    with using(Call(principal, "ListEvents", time.monotonic() + seconds)):
        yield


def listed(
    operations: Operations, after: int = 0, limit: int = 0, branches: tuple[str, ...] = ("*",)
) -> list[pb.Event]:
    """A page of the log."""
    request = pb.ListEventsRequest(partition=partition_of(KEY), after=after, limit=limit)
    with calling(branches):
        return list(operations.ListEvents(request, None).event)  # type: ignore[arg-type]


def test_the_log_is_read_in_pages(database: Database, operations: Operations) -> None:
    things.write(database, *[(KEY, "thing", version) for version in range(1, 8)])
    found: list[pb.Event] = []
    while page := listed(operations, found[-1].position if found else 0, limit=3):
        assert len(page) <= 3
        found += page
    assert [event.version for event in found] == list(range(1, 8))
    assert found[0].type == "ThingCreateEvent"
    assert found[0].time.ToDatetime().year >= 2024


def test_versions_come_in_order_even_when_the_later_one_is_of_the_earlier_transaction(
    database: Database, operations: Operations
) -> None:
    with acting(things.SERVICE, "test"), database.unit() as early:
        things.write_as(early, 1_000_000, KEY, "other", 1)
        things.write(database, (KEY, "thing", 1))
        things.write_as(early, 1_000_001, KEY, "thing", 2)
    versions = [event.version for event in listed(operations) if event.aggregate_id == "thing"]
    assert versions == [1, 2]


def test_an_event_that_is_committed_late_is_waited_for(database: Database, operations: Operations) -> None:
    pages: list[list[pb.Event]] = []
    reader = threading.Thread(target=lambda: pages.append(listed(operations)))
    with acting(things.SERVICE, "test"), database.unit() as late:
        things.write_as(late, 1_000_000, KEY, "late", 1)
        things.write(database, (KEY, "early", 1))
        with calling(seconds=0.5), pytest.raises(Unavailable):
            operations.ListEvents(pb.ListEventsRequest(partition=partition_of(KEY)), None)  # type: ignore[arg-type]
        reader.start()
        time.sleep(0.2)
        assert pages == []
    reader.join()
    assert [event.aggregate_id for event in pages[0]] == ["late", "early"]


def test_an_event_of_a_younger_transaction_is_waited_for_too(database: Database, operations: Operations) -> None:
    begin = sa.text("SELECT pg_current_xact_id()::text::bigint")
    with ExitStack() as open_transactions:
        open_transactions.enter_context(acting(things.SERVICE, "test"))
        younger = ExitStack()
        with database.unit() as elder:
            first = elder.session.scalar(begin)
            late = younger.enter_context(database.unit())
            assert late.session.scalar(begin) > first
            things.write_as(late, 1_000_000, KEY, "late", 1)
            things.write_as(elder, 1_000_001, KEY, "early", 1)
        with younger, calling(seconds=0.5), pytest.raises(Unavailable):
            operations.ListEvents(pb.ListEventsRequest(partition=partition_of(KEY)), None)  # type: ignore[arg-type]
    assert [event.aggregate_id for event in listed(operations)] == ["late", "early"]


def test_what_is_settled_can_be_read_while_a_transaction_runs(database: Database, operations: Operations) -> None:
    things.write(database, (KEY, "thing", 1))
    assert len(listed(operations)) == 1
    with acting(things.SERVICE, "test"), database.unit() as running:
        things.write_as(running, 1_000_000, KEY, "running", 1)
        assert len(listed(operations)) == 1


def test_a_branch_reads_its_own_events_only(database: Database, operations: Operations) -> None:
    things.write(database, (KEY, "here", 1), branch="osh")
    things.write(database, (KEY, "there", 1), branch="talas")
    assert [event.aggregate_id for event in listed(operations, branches=("osh",))] == ["here"]


def test_a_partition_that_does_not_exist_is_refused(operations: Operations) -> None:
    with calling(), pytest.raises(InvalidArgument):
        operations.ListEvents(pb.ListEventsRequest(partition=64), None)  # type: ignore[arg-type]
