"""A floor to drill on: orders without a catalog, in the real database, and systems that fail as they are told to."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from chassis.clock import Clock
from chassis.convert import from_message
from chassis.db import Database
from chassis.events import acting
from chassis.products import ProductRefOrValue, ResourceRef
from chassis.timers import Timers, set_timer, turns
from chassis.tmfjson import Dialect, parse
from chassis.types import Characteristic, EntityRef, Json, Money, Price, ProductSpecificationRef, new_id
from chassis.unit import Unit
from orders.fulfilment.adapters import Done, Failed, Outcome, Sent, Waiting
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.hands import retry
from orders.fulfilment.plan import PlannedItem
from orders.fulfilment.queue import Jobs
from orders.fulfilment.specification import FulfilmentSpecification
from orders.fulfilment.steps import Systems, go_on
from orders.fulfilment.store import tasks_of
from orders.fulfilment.values import FulfilmentTaskState
from orders.ordering.domain import FINAL, ProductOrder, ProductOrderItem
from orders.ordering.fulfilment import Fulfilment
from orders.ordering.placing import ADVANCE
from orders.ordering.values import OrderItem, OrderItemAction, OrderPrice, ProductOrderState
from orders.ordering.withdrawal import withdraw
from orders.store import RESOURCES, metadata
from svyaz.orders.v1 import fulfilment_pb2

SYSTEMS = ("provisioning", "resource", "credit", "billing", "delivery")


_NEXT = "SELECT min(not_before) FROM timer"


class Died(Exception):
    """A replica has ended between two lines."""


@dataclass
class World:
    """What the external systems have done, and how they fail. For the same task and attempt they do the same once."""

    # The tasks that something is left of, and what each time was done.
    standing: dict[str, str] = field(default_factory=dict)
    deeds: list[tuple[str, int, str]] = field(default_factory=list)
    answered: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    # Task name → how it fails the first time that it is asked.
    faults: dict[str, str] = field(default_factory=dict)
    # The names of the tasks that it refuses each time, and of those that it says something of later.
    refusing: set[str] = field(default_factory=set)
    by_event: set[str] = field(default_factory=set)
    # So many answers are given; then everybody has to wait.
    patience: int | None = None

    def start(self, task: FulfilmentTask, item: PlannedItem | None) -> Outcome:
        """Does it, unless it is to fail."""
        asked = task.id, task.attempt
        if asked in self.answered:
            return self.answered[asked]
        if self.patience is not None and len(self.answered) >= self.patience:
            return Waiting(timedelta(seconds=1))
        if task.name in self.by_event:
            return Sent()
        fault = "refuse" if task.name in self.refusing else self.faults.pop(task.name, "")
        if fault in ("refuse", "busy"):
            self.answered[asked] = Failed("not now", retryable=fault == "busy")
            return self.answered[asked]
        self._do(task)
        given = (Characteristic(name=f"{task.name} id", value=Json(f'"{task.id}"')),)
        resource = (ResourceRef(id=task.id, name=task.name),) if task.operation.startswith("reserve") else ()
        self.answered[asked] = Done(given if resource else (), resource)
        if fault == "die":
            raise Died
        if fault == "silent":
            self.answered[asked] = Sent()
        return self.answered[asked]

    def _do(self, task: FulfilmentTask) -> None:
        self.deeds.append((task.id, task.attempt, task.operation))
        if task.compensates is not None:
            self.standing.pop(task.compensates, None)
        elif not task.spec.no_undo_needed:
            self.standing[task.id] = task.name


class Floor:
    """Ordering on a database, with time and timers in the test's hands."""

    def __init__(self, url: str, offset: Path, world: Any) -> None:
        self.url, self.offset = url, offset
        self.database = Database(url, clock=Clock(str(offset)), metadata=metadata, resources=RESOURCES)
        # Neither catalog nor customers is asked once an order has been taken.
        fulfilment = Fulfilment(cast(Any, None), cast(Any, None), Systems(dict.fromkeys(SYSTEMS, world)))
        self.jobs = Jobs(self.database)
        handlers = {**fulfilment.timers(), **self.jobs.timers()}
        self.timers = Timers(self.database, handlers, service="orders", read_ahead=fulfilment.read_ahead, workers=1)

    def do(self, work: Callable[[Unit], Any]) -> Any:
        """Something in a transaction."""
        with acting("orders", "drill", "bishkek"), self.database.unit() as unit:
            return work(unit)

    def specify(self, *specifications: FulfilmentSpecification) -> None:
        """Says how things are fulfilled."""

        def add(unit: Unit) -> None:
            for one in specifications:
                one.check(unit.at)
                unit.add(one)

        with acting("orders", "drill"), self.database.unit() as unit:
            add(unit)

    def order(self, *specification_ids: str, **more: Any) -> str:
        """Takes an order that adds a product of each specification."""

        def take(unit: Unit) -> str:
            order = ProductOrder(
                id=new_id(),
                branch="bishkek",
                state=ProductOrderState.ACKNOWLEDGED,
                order_date=unit.at,
                billing_account=EntityRef(id="account"),
                **more,
            )
            unit.add(order)
            for position, specification in enumerate(specification_ids):
                unit.add(_item(order, position, specification))
            set_timer(unit, order.id, ADVANCE, unit.at, order.branch)
            return order.id

        return str(self.do(take))

    def withdraw(self, order_id: str) -> None:
        """Its customer doesn't want it any more, whatever undoing costs."""
        whatever = [Money(unit="KGS", value=Decimal(1_000_000))]
        self.do(lambda unit: withdraw(unit, unit.get(ProductOrder, order_id), "drill", whatever))

    def round(self) -> bool:
        """Carries out what is due; whether there was anything. A replica that dies is followed by another."""
        claims, _ = self.timers._claim(100)
        for turn in turns(claims):
            left = turn
            try:
                while left:
                    left = left[self.timers._in_transaction(left) :]
            except Died:
                # Whoever died holds his claim for a while.
                self.pass_by(timedelta(seconds=31))
        return bool(claims)

    def _wait(self, order_id: str) -> bool:
        """Lets time go by until something is due, and a person try again what is held; whether there was either, before
        the order's end."""

        def look(unit: Unit) -> timedelta | None:
            if unit.get(ProductOrder, order_id).state in FINAL:
                return None
            (due,) = unit.cursor().execute(_NEXT).fetchone() or (None,)
            if due is not None:
                pause: timedelta = max(due - unit.at, timedelta())
                return pause
            return timedelta() if _retry_held(unit, order_id) else None

        pause: timedelta | None = self.do(look)
        if pause is not None:
            self.pass_by(pause + timedelta(milliseconds=1))
        return pause is not None

    def next_due(self) -> timedelta:
        """In how long something is due again; a killed replica's claim is part of that."""

        def look(unit: Unit) -> timedelta:
            (due,) = unit.cursor().execute(_NEXT).fetchone() or (None,)
            return timedelta(seconds=1) if due is None else max(due - unit.at, timedelta()) + timedelta(milliseconds=1)

        pause: timedelta = self.do(look)
        return pause

    def pass_by(self, delta: timedelta) -> None:
        """So much time goes by."""
        before = float(self.offset.read_text()) if self.offset.exists() else 0.0
        self.offset.write_text(str(before + delta.total_seconds()))

    def work(self) -> None:
        """Carries out everything that is due now."""
        while self.round():
            pass

    def settle(self, order_id: str, rounds: int = 60) -> None:
        """Goes on until the order has ended or nothing happens any more; a person tries what is held again."""
        for _ in range(rounds):
            self.work()
            if not self._wait(order_id):
                return

    def tasks(self, order_id: str) -> list[FulfilmentTask]:
        """The order's tasks, in their places."""
        found: list[FulfilmentTask] = self.do(lambda unit: tasks_of(unit, order_id))
        return found

    def state(self, order_id: str) -> ProductOrderState:
        """Where the order is."""
        found: ProductOrderState = self.do(lambda unit: unit.get(ProductOrder, order_id).state)
        return found


def _retry_held(unit: Unit, order_id: str) -> bool:
    wanted = {"order": order_id, "held": str(FulfilmentTaskState.HELD)}
    held = unit.load(FulfilmentTask, "product_order_id = %(order)s AND state = %(held)s", wanted)
    for task in held:
        retry(unit, task)
        go_on(unit, task)
    return bool(held)


def _item(order: ProductOrder, position: int, specification: str) -> ProductOrderItem:
    fee = Price(duty_free_amount=Money(unit="KGS", value=Decimal(100)))
    boxes = Characteristic(name="setTopBoxes", value=Json("1"))
    return ProductOrderItem(
        id=new_id(),
        branch=order.branch,
        product_order_id=order.id,
        position=position,
        item=OrderItem(
            id=str(position + 1),
            action=OrderItemAction.ADD,
            quantity=1,
            product_offering=EntityRef(id=f"offering of {specification}"),
            product=ProductRefOrValue(
                product_specification=ProductSpecificationRef(id=specification), product_characteristic=(boxes,)
            ),
        ),
        charge=(
            OrderPrice(name="fee", price_type="recurring", recurring_charge_period="month", price=fee),
            OrderPrice(name="connection", price_type="oneTime", price=fee),
        ),
    )


def demo_specifications() -> list[FulfilmentSpecification]:
    """What the demo operator says of how things are added."""
    data = json.loads(files("svyaz_cli.demo").joinpath("data", "fulfilmentSpecification.json").read_text("utf-8"))
    made = []
    for one in data:
        body = parse(json.dumps(one["body"]).encode())
        read = Dialect().message(fulfilment_pb2.FulfilmentSpecification, body, strict=True)
        made.append(from_message(read, FulfilmentSpecification, id=new_id(), branch="*"))
    return [one for one in made if one.action == "add"]
