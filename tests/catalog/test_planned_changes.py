"""What is planned for an offering, and what keeps it from its end: plans in their time, and what is held."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from catalog import schema
from catalog.holding.store import holding
from catalog.product.api import CatalogItems
from catalog.publication.domain import FIRST_LOOK, LAST_LOOK, next_look
from catalog.publication.events import NOT_APPLIED, OVERDUE, Plans, Watch
from catalog.publication.guards import LATE_HOLDERS, PLANNED, Guards
from catalog.schema import bus
from catalog.store import RESOURCES, metadata
from chassis.clock import Clock
from chassis.db import Database
from chassis.errors import FailedPrecondition
from chassis.events import acting
from chassis.references import lock_references
from chassis.timers import Timers
from chassis.types import new_id
from chassis.unit import Unit
from svyaz.catalog.v1 import catalog_pb2 as pb
from tests.catalog.conftest import Client
from tests.catalog.test_api import (
    ACTIVE,
    IN_TEST,
    LAUNCHED,
    RETIRED,
    refused,
)
from tests.catalog.test_publication import DAY, OBSOLETE, in_test, in_time, launched
from tests.catalog.things import NOW
from tests.conftest import ServiceDatabase

# --- plans -----------------------------------------------------------------------------------------------------------


class Future:
    """The same catalog at a later time."""

    def __init__(self, database: Database, offset: Path) -> None:
        self.database = database
        self._offset = offset
        items = CatalogItems(database, Guards())
        self.plans = Plans(items)
        self._timers = Timers(database, self.plans.timers(), service="catalog")
        self.watch = Watch(database)

    def after(self, delta: timedelta) -> None:
        """Lets what is due by then be done."""
        self._offset.write_text(str(delta.total_seconds()))
        while True:
            claims, _ = self._timers._claim(100)
            if not claims:
                return
            for claim in claims:
                self._timers._in_transaction([claim])

    def timer(self, offering: Any, purpose: str) -> datetime | None:
        """When the offering is thought of next."""
        with self.unit() as unit:
            timer = metadata.tables["timer"]
            due: datetime | None = unit.session.scalar(
                sa.select(timer.c.due).where(timer.c.aggregate_id == offering.id, timer.c.purpose == purpose)
            )
            return due

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        with acting("catalog", "test"), self.database.unit() as unit:
            yield unit


@pytest.fixture(scope="module")
def made(database_for: Callable[..., ServiceDatabase]) -> ServiceDatabase:
    """The database of this module's services: the one of the fixture `database`."""
    return database_for("catalog")


@pytest.fixture(scope="module")
def database(made: ServiceDatabase) -> Iterator[Database]:
    opened = Database(made.url, clock=Clock(), metadata=metadata, resources=RESOURCES)
    yield opened
    opened.close()


@pytest.fixture
def future(made: ServiceDatabase, tmp_path: Path) -> Iterator[Future]:
    offset = tmp_path / "offset"
    offset.write_text("0")
    opened = Database(made.url, clock=Clock(str(offset)), metadata=metadata, resources=RESOURCES)
    yield Future(opened, offset)
    opened.close()


def planning(*plans: tuple[Any, timedelta]) -> list[pb.PlannedTransition]:
    return [pb.PlannedTransition(lifecycle_status=status, at=in_time(delta)) for status, delta in plans]


def events_of(future: Future, offering: Any) -> list[str]:
    event = schema.log.event
    with future.unit() as unit:
        query = sa.select(event.c.type).where(event.c.aggregate_id == offering.id).order_by(event.c.version)
        return list(unit.session.scalars(query))


def test_plans_are_carried_out_in_their_time(author: Client, reviewer: Client, future: Future) -> None:
    offering = in_test(author, planned_transition=planning((RETIRED, 3 * DAY), (ACTIVE, DAY), (LAUNCHED, 2 * DAY)))
    reviewer.approve(offering)
    for days, status, left in [(0.5, IN_TEST, 3), (1.5, ACTIVE, 2), (2.5, LAUNCHED, 1), (3.5, RETIRED, 0)]:
        future.after(days * DAY)
        now = author.get(offering)
        assert (now.lifecycle_status, len(now.planned_transition)) == (status, left)
    assert future.timer(offering, PLANNED) is None


def test_a_plan_that_is_refused_says_why_and_is_told(author: Client, future: Future) -> None:
    offering = in_test(author, planned_transition=planning((ACTIVE, DAY), (LAUNCHED, 2 * DAY)))
    future.watch.measure()
    before = NOT_APPLIED.labels("refused")._value.get()
    future.after(3 * DAY)
    now = author.get(offering)
    assert now.lifecycle_status == ACTIVE
    (plan,) = now.planned_transition
    assert (plan.lifecycle_status, plan.refused.split(":")[0]) == (LAUNCHED, "APPROVAL_REQUIRED")
    assert events_of(future, offering)[-1] == "ProductOfferingPlannedTransitionRefusedEvent"
    future.watch.measure()
    assert NOT_APPLIED.labels("refused")._value.get() == before + 1
    # It isn't tried again by itself; taken away, it is forgotten.
    future.after(4 * DAY)
    assert author.get(offering).lifecycle_status == ACTIVE
    author.update(pb.ProductOffering(id=offering.id), "planned_transition")
    future.watch.measure()
    assert NOT_APPLIED.labels("refused")._value.get() == before


def test_a_plan_that_nobody_thinks_of_is_seen(author: Client, future: Future) -> None:
    in_test(author, planned_transition=planning((ACTIVE, DAY)))
    future.watch.measure()
    before = NOT_APPLIED.labels("overdue")._value.get()
    future._offset.write_text(str((DAY + 2 * OVERDUE).total_seconds()))
    future.watch.measure()
    assert NOT_APPLIED.labels("overdue")._value.get() == before + 1
    future.after(DAY + 2 * OVERDUE)


def test_a_plan_may_be_changed_and_taken_away(author: Client, future: Future) -> None:
    offering = in_test(author, planned_transition=planning((ACTIVE, DAY)))
    later = pb.ProductOffering(id=offering.id, planned_transition=planning((ACTIVE, 5 * DAY)))
    author.update(later, "planned_transition")
    future.after(2 * DAY)
    assert author.get(offering).lifecycle_status == IN_TEST
    author.update(pb.ProductOffering(id=offering.id), "planned_transition")
    assert future.timer(offering, PLANNED) is None
    future.after(6 * DAY)
    assert author.get(offering).lifecycle_status == IN_TEST


def test_plans_change_beside_one_that_is_carried_out(author: Client, future: Future) -> None:
    offering = in_test(author, planned_transition=planning((ACTIVE, DAY)))
    later = pb.ProductOffering(id=offering.id, planned_transition=planning((ACTIVE, 5 * DAY)))
    change = threading.Thread(target=author.update, args=(later, "planned_transition"))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with future.unit() as unit:
        # As the runner of the timers does.
        timer = sa.select(bus.timer).where(bus.timer.c.aggregate_id == offering.id)
        unit.session.execute(timer.with_for_update())
        change.start()
        while not unit.session.scalar(sa.text(waiting)):
            time.sleep(0.01)
        # Less than it takes to see a deadlock: nobody has it who waits for us.
        unit.session.execute(sa.text("SET LOCAL lock_timeout = '500ms'"))
        lock_references(unit)
    change.join()
    assert author.get(offering).planned_transition == later.planned_transition


def test_nothing_is_planned_for_the_past(author: Client) -> None:
    offering = in_test(author)
    past = pb.ProductOffering(id=offering.id, planned_transition=planning((ACTIVE, -DAY)))
    error = refused(FailedPrecondition, "NEVER_APPLIES", lambda: author.update(past, "planned_transition"))
    assert [one.field for one in error.violations] == ["planned_transition[0].at"]


# --- what is held ----------------------------------------------------------------------------------------------------


def hold(future: Future, offering: Any, branch: str = "osh", *, live: bool = True) -> str:
    """Somebody gets the offering, as the inventory's event tells."""
    key = new_id()
    row = {
        "id": key, "branch": branch, "version": 1, "live": live, "product_offering_id": offering.id, "quantity": 1,
        "characteristic": sa.text("'{}'"), "term": "", "place": [], "market_segment": [],
        "sold_durations": [],
    }  # fmt: skip
    with future.unit() as unit:
        unit.session.execute(sa.insert(holding).values(**row, seen_at=unit.at))
    return key


def let_go(future: Future, key: str) -> None:
    with future.unit() as unit:
        unit.session.execute(sa.update(holding).where(holding.c.id == key).values(live=False))


def test_an_offering_that_is_held_does_not_retire_in_whatever_branch(
    author: Client, reviewer: Client, future: Future
) -> None:
    offering = launched(author, reviewer)
    keys = [hold(future, offering, branch) for branch in ("osh", "osh", "bishkek")]
    hold(future, offering, live=False)
    error = refused(FailedPrecondition, "HAS_HOLDERS", lambda: author.move(offering, RETIRED))
    assert [one.field for one in error.violations] == ["lifecycle_status"]
    # The number, and nothing of where.
    assert error.metadata == {"holders": "3"}
    assert "osh" not in error.message
    for key in keys:
        let_go(future, key)
    author.move(offering, RETIRED)


def test_a_planned_retirement_is_checked_when_its_time_comes(author: Client, reviewer: Client, future: Future) -> None:
    free, held = (launched(author, reviewer) for _ in range(2))
    for offering in (free, held):
        plan = pb.ProductOffering(id=offering.id, planned_transition=planning((RETIRED, DAY)))
        author.update(plan, "planned_transition")
    hold(future, held)
    future.after(2 * DAY)
    assert author.get(free).lifecycle_status == RETIRED
    now = author.get(held)
    assert now.lifecycle_status == LAUNCHED
    assert now.planned_transition[0].refused.startswith("HAS_HOLDERS")


def test_who_gets_it_after_its_retirement_by_an_order_from_before_is_told_of(
    author: Client, reviewer: Client, future: Future
) -> None:
    offering = author.move(launched(author, reviewer), RETIRED)
    future.after(2 * FIRST_LOOK)
    assert author.get(offering).status_reason == ""
    key = hold(future, offering)
    future.watch.measure()
    before = NOT_APPLIED.labels("held")._value.get()
    future.after(10 * FIRST_LOOK)
    assert author.get(offering).status_reason.startswith("held: 1 live")
    assert events_of(future, offering)[-1] == "ProductOfferingHeldAfterRetirementEvent"
    future.watch.measure()
    assert NOT_APPLIED.labels("held")._value.get() == before + 1
    refused(FailedPrecondition, "HAS_HOLDERS", lambda: author.move(offering, OBSOLETE))
    let_go(future, key)
    future.after(60 * FIRST_LOOK)
    assert author.get(offering).status_reason == ""
    future.after(2 * LAST_LOOK)
    assert future.timer(offering, LATE_HOLDERS) is None
    author.move(offering, OBSOLETE)


def test_a_retired_offering_is_looked_at_ever_more_seldom_for_a_month() -> None:
    looks = [NOW]
    while (following := next_look(NOW, looks[-1])) is not None:
        looks.append(following)
    assert looks[1] - NOW == FIRST_LOOK
    assert all(later - NOW == 2 * (earlier - NOW) for earlier, later in pairwise(looks[1:]))
    assert LAST_LOOK / 2 < looks[-1] - NOW <= LAST_LOOK
