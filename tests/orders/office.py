"""An office to model: all of ordering on a real database; the external systems, time and death are in one's hand."""

import itertools
import json
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

import chassis.timers
import chassis.types
from chassis import calls
from chassis.clock import Clock
from chassis.db import Database
from chassis.errors import Unavailable
from chassis.events import acting
from chassis.products import ResourceRef
from chassis.timers import Timers, turns
from chassis.types import Characteristic, Json, Money, new_id
from orders.amendment.api import Amendments
from orders.fulfilment.adapters import Done, Failed, Outcome, Sent, Waiting
from orders.fulfilment.api import Fulfilments
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.plan import PlannedItem, text_of
from orders.fulfilment.queue import Jobs
from orders.fulfilment.reporters import Reporters
from orders.fulfilment.specification import FulfilmentSpecification
from orders.fulfilment.steps import Systems
from orders.fulfilment.values import Compensation, FailurePolicy, RetryPolicy, TaskCondition, TaskSpecification
from orders.lifecycle.api import ProductLifecycle
from orders.ordering import statuses
from orders.ordering.api import Orders
from orders.ordering.capture import Capture
from orders.ordering.fulfilment import Fulfilment
from orders.store import RESOURCES, metadata
from svyaz.catalog.v1 import catalog_pb2, pricing_pb2
from svyaz.customers.v1 import customers_pb2
from svyaz.type.v1 import receipt_pb2, values_pb2
from tests.orders.drill import SYSTEMS, Died
from tests.orders.model import PLANS, WARES, Step, Ware

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
_NEXT = "SELECT min(not_before) FROM timer"
# A system says so when it is asked; each of these is done, or isn't, in its own way.
ANSWERS = ("done", "refuse", "busy", "wait", "away", "silent", "later", "lost", "die", "die before")


def said(request: Any, **fields: Any) -> Any:
    """A request of this class, with its fields as plain values."""
    return request(**fields)


class Hands(Clock):
    """The time that we say it is; each look at it takes a microsecond, so that nothing happens at the same instant."""

    def __init__(self) -> None:
        super().__init__()
        self.at = START

    def now(self) -> datetime:
        """The present."""
        self.at += timedelta(microseconds=1)
        return self.at


class Axe:
    """Ends a replica at the n-th thing that it says to the database from now on, or (`late`) right after a commit."""

    def __init__(self) -> None:
        self.left, self.late = 0, False
        # Of who looks on and doesn't take part.
        self.spared: psycopg.Connection[Any] | None = None

    def set(self, left: int, *, late: bool = False) -> None:
        """After so many; 0: never."""
        self.left, self.late = left, late

    def strike(self, connection: "psycopg.Connection[Any]", *, late: bool) -> None:
        """Counts one."""
        if self.left and self.late is late and connection is not self.spared:
            self.left -= 1
            if not self.left:
                connection.pgconn.finish()
                raise Died

    @contextmanager
    def held(self) -> Iterator[None]:
        """While every connection is under it."""
        patch = pytest.MonkeyPatch()
        # What is repeated comes out as it did: no ids at random, no ends that the machine's speed decides about.
        births = itertools.count(1)
        patch.setattr(chassis.types, "time", SimpleNamespace(time_ns=lambda: next(births) * 1_000_000))
        patch.setattr(chassis.types, "_drawn", deque())
        patch.setattr(chassis.types, "_draw", lambda: bytes(10).hex())
        patch.setattr(chassis.timers, "TURN_SECONDS", math.inf)
        execute, commit = psycopg.Cursor.execute, psycopg.Connection.commit

        def executed(cursor: Any, *args: Any, **more: Any) -> Any:
            self.strike(cursor.connection, late=False)
            return execute(cursor, *args, **more)

        def committed(connection: Any) -> None:
            self.strike(connection, late=False)
            commit(connection)
            self.strike(connection, late=True)

        patch.setattr(psycopg.Cursor, "execute", executed)
        patch.setattr(psycopg.Connection, "commit", committed)
        try:
            yield
        finally:
            patch.undo()


@dataclass(frozen=True)
class Deed:
    """What a system has done, and what it was told."""

    task: str
    order: str
    # The item's row; empty: for the whole order.
    item: str
    name: str
    told: dict[str, str]
    reserves: bool


@dataclass
class Network:
    """The external systems. For the same task and attempt they do the same once, and what is undone is never done."""

    answers: deque[str] = field(default_factory=deque)
    standing: dict[str, Deed] = field(default_factory=dict)
    undone: set[str] = field(default_factory=set)
    answered: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    # Told, and not done yet.
    told: dict[str, FulfilmentTask] = field(default_factory=dict)
    # Done, and nobody has heard of it.
    unheard: dict[str, FulfilmentTask] = field(default_factory=dict)
    known: dict[str, FulfilmentTask] = field(default_factory=dict)
    # Of whom something wasn't done at once: row of the item, or order.
    noes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    # Somebody else does this while the next task is asked for.
    meanwhile: Callable[[], None] | None = None

    def start(self, task: FulfilmentTask, item: PlannedItem | None) -> Outcome:
        """Does as it is told to."""
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            act()
        asked = task.id, task.attempt
        if asked in self.answered:
            return self.answered[asked]
        self.known[task.id] = task
        answer = self.answers.popleft() if self.answers else "done"
        if answer != "done":
            self.noes[task.product_order_item_id or task.product_order_id] += 1
        if answer == "die before":
            raise Died
        if answer == "away":
            raise Unavailable("UNAVAILABLE", "nobody answers")
        if answer == "wait":
            return Waiting(timedelta(minutes=1))
        outcome: Outcome = Sent()
        if answer in ("refuse", "busy"):
            outcome = Failed("not now", retryable=answer == "busy")
        elif answer == "later":
            self.told[task.id] = task
        elif answer != "lost":
            self.do(task)
            outcome = done(task)
            if answer == "silent":
                outcome, self.unheard[task.id] = Sent(), task
        self.answered[asked] = outcome
        if answer == "die":
            raise Died
        return outcome

    def do(self, task: FulfilmentTask) -> None:
        """It is done."""
        self.told.pop(task.id, None)
        if task.compensates is not None:
            self.standing.pop(task.compensates, None)
            self.told.pop(task.compensates, None)
            self.unheard.pop(task.compensates, None)
            self.undone.add(task.compensates)
            return
        if task.id in self.undone:
            self.wrong.append(f"{task.name} is done after it was undone")
        if not task.spec.no_undo_needed:
            told = {one.name or "": text_of(one.value) for one in task.input if one.value is not None}
            if "place" in told:
                told["place"] = json.loads(told["place"])[0]["id"]
            self.standing[task.id] = Deed(
                task.id, task.product_order_id, task.product_order_item_id or "", task.name, told, _reserves(task)
            )


def _reserves(task: FulfilmentTask) -> bool:
    return task.operation.startswith("reserve")


def done(task: FulfilmentTask) -> Done:
    """What a system says of what it has done: what is reserved is a resource."""
    if task.compensates is not None or not _reserves(task):
        return Done()
    given = Characteristic(name=f"{task.name} id", value=Json(f'"{task.id}"'))
    return Done((given,), (ResourceRef(id=task.id, name=task.name),))


class PriceList:
    """What catalog and customers answer: the wares at their prices, and whom they know."""

    def __init__(self) -> None:
        self.known: set[str] = set()

    def Price(self, request: pricing_pb2.PriceRequest) -> pricing_pb2.PriceResponse:
        """What the items cost."""
        answer = pricing_pb2.PriceResponse(receipt=receipt_pb2.Receipt(engine="model", revision="1"))
        for item in request.item:
            chosen = {one.product_offering_id: one.number for one in item.bundled}
            answer.item.append(_priced(item.id, WARES[item.product_offering_id], item.quantity, chosen))
        return answer

    def ListProductOfferings(self, request: Any) -> catalog_pb2.ListProductOfferingsResponse:
        """The wares of these names."""
        found = [WARES[name] for name in request.filter[0].value if name in WARES]
        return catalog_pb2.ListProductOfferingsResponse(
            items=[
                catalog_pb2.ProductOffering(
                    id=ware.name,
                    bundled_product_offering=[catalog_pb2.BundledProductOffering(id=part) for part in ware.parts],
                )
                for ware in found
            ]
        )

    def GetOrderingContext(self, request: Any) -> customers_pb2.OrderingContext:
        """Who is known of these."""
        branch = calls.current().principal.branches[0]
        return customers_pb2.OrderingContext(
            customer=[
                customers_pb2.OrderingCustomer(id=one, branch=branch, member_id=[one])
                for one in request.customer_id
                if one in self.known
            ],
            billing_account=[
                customers_pb2.OrderingAccount(id=one, branch=branch, currency=["KGS"])
                for one in request.billing_account_id
            ],
        )


def _priced(key: str, ware: Ware, quantity: int, chosen: dict[str, int]) -> pricing_pb2.PricedItem:
    return pricing_pb2.PricedItem(
        id=key,
        product_offering=values_pb2.EntityRef(id=ware.name, name=ware.name),
        product_specification=values_pb2.EntityRef(id=ware.specification),
        quantity=quantity,
        component=[
            pricing_pb2.PriceComponent(
                product_offering_price=values_pb2.EntityRef(id=name),
                name=name,
                price_type=kind,
                recurring_charge_period="month" if kind == "recurring" else "",
                amount=values_pb2.Money(unit="KGS", units=som),
                list_amount=values_pb2.Money(unit="KGS", units=som),
            )
            for name, (kind, som) in ware.prices(quantity).items()
        ],
        bundled_item=[_priced("", WARES[part], 1, chosen) for part in ware.parts if chosen.get(part, 1)],
    )


class Office:
    """All of ordering, as one replica of it after the other."""

    def __init__(self, url: str, admin_url: str) -> None:
        self.clock = Hands()
        self.axe = Axe()
        self.list = PriceList()
        self.network = Network()
        self.branch = "nowhere"
        self.admin = self.axe.spared = psycopg.connect(admin_url, autocommit=True)
        self.database = Database(url, clock=self.clock, metadata=metadata, resources=RESOURCES)
        catalog = cast(Any, self.list)
        capture = Capture(catalog, catalog, catalog)
        self.systems = Systems(dict.fromkeys(SYSTEMS, cast(Any, self)))
        self._fulfilment = Fulfilment(capture, cast(Any, None), self.systems)
        jobs = Jobs(self.database)
        self.orders = Orders(self.database, capture, cast(Any, None))
        self.amendments = Amendments(self.database, self.orders)
        self.fulfilments = Fulfilments(self.database, self.systems.names, jobs, Reporters.parse("*=*"))
        self.lifecycle = ProductLifecycle(self.database)
        handlers = {**self._fulfilment.timers(), **statuses.timers(), **jobs.timers()}
        self.timers = Timers(
            self.database, handlers, service="orders", read_ahead=self._fulfilment.read_ahead, workers=1
        )
        self._specify()

    def start(self, task: FulfilmentTask, item: PlannedItem | None) -> Outcome:
        """All systems are one network."""
        return self.network.start(task, item)

    def _specify(self) -> None:
        with acting("orders", "model"), self.database.unit() as unit:
            for (specification, action), steps in PLANS.items():
                made = FulfilmentSpecification(
                    id=new_id(),
                    branch="*",
                    action=action,
                    product_specification_id=specification,
                    task=tuple(map(_specified, steps)),
                )
                made.check(unit.at)
                unit.add(made)

    def move_to(self, branch: str) -> None:
        """Everything begins anew, in another branch."""
        self.axe.set(0)
        self.network.__init__()  # type: ignore[misc]
        self.branch = branch
        self.list.known = {f"customer of {branch}"}
        self.admin.execute("DELETE FROM timer")
        # What somebody left in the middle of dying.
        self.database.close()

    def ask(self, api: Any, method: str, request: Any) -> Any:
        """Calls a method as an agent of the branch."""
        with acting("orders", method, self.branch):
            return getattr(api, method)(request, None)

    def round(self) -> int:
        """Carries out what is due; how many timers that were. Who dies is followed by another, who has to wait."""
        try:
            claims, _ = self.timers._claim(100)
        except (Died, Unavailable):
            return 1
        for turn in map(list, turns(claims)):
            while turn:
                try:
                    del turn[: self.timers._in_transaction(turn)]
                except Died:
                    self.pass_by(timedelta(seconds=31))
                    break
                except Exception as error:
                    if not _is_passing(error):
                        raise
                    self.pass_by(timedelta(seconds=31))
                    break
        return len(claims)

    def pass_by(self, delta: timedelta) -> None:
        """So much time goes by."""
        self.clock.at += max(delta, timedelta())

    def next_due(self) -> datetime | None:
        """When something is due next."""
        row = self.admin.execute(_NEXT).fetchone()
        return row[0] if row is not None else None

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """What the database has, past the service."""
        return self.admin.execute(query, {"branch": self.branch, **values}).fetchall()

    def close(self) -> None:
        """The end."""
        self.database.close()
        self.admin.close()


def _is_passing(error: Exception) -> bool:
    """Whether it is what a timer is tried again after: somebody else was faster, or the database is gone."""
    return getattr(error, "status", "") in ("UNAVAILABLE", "ABORTED")


def _specified(step: Step) -> TaskSpecification:
    return TaskSpecification(
        name=step.name,
        system="resource" if step.reserves else "provisioning",
        operation="reserve" if step.reserves else step.name,
        depends_on=step.needs,
        condition=TaskCondition(characteristic=step.only_if, value=("yes",)) if step.only_if else None,
        input=step.tells,
        compensation=Compensation(operation="release") if step.undo == "free" else None,
        no_undo_needed=step.undo == "nothing" or None,
        undo_cost=Money(unit="KGS", value=Decimal(step.cost)) if step.cost else None,
        point_of_no_return=step.undo == "final" or None,
        timeout_seconds=3600,
        retry=RetryPolicy(attempts=step.attempts, first_pause_seconds=60),
        on_failure=FailurePolicy(step.fails),
        of_order=step.of_order or None,
    )
