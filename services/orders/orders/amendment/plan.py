"""What an order's new version comes to: the difference to what is being carried out, its cost, and its prices."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from chassis.errors import FailedPrecondition, Violation
from chassis.types import Money, new_id
from chassis.unit import Unit
from orders.amendment.difference import Difference, Redone, Version, difference, differs
from orders.fulfilment import store as fulfilment
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.plan import PlannedItem, Scope
from orders.fulfilment.plan import plan as planned
from orders.fulfilment.steps import lock
from orders.fulfilment.undo import Undoable, UndoEntry, undo_map
from orders.inventory.domain import Product
from orders.ordering import store
from orders.ordering.assessment import Assessment, assessed
from orders.ordering.capture import ITEM_PRICE, ITEM_TOTAL_PRICE, WHOLE, Captured
from orders.ordering.completion import totals_of
from orders.ordering.domain import FINAL, UNSTARTED, ProductOrder, ProductOrderItem, rows, walk
from orders.ordering.planning import choices, planned_item
from orders.ordering.values import OrderItem, OrderItemAction, OrderPrice, ProductOrderItemState, ProductOrderState
from orders.ordering.withdrawal import payers

# Such an order has begun, and can be amended.
AMENDABLE = frozenset({ProductOrderState.IN_PROGRESS, ProductOrderState.HELD})
_I = ProductOrderItemState


@dataclass(frozen=True)
class AmendmentPlan:
    """What is to be done so that the order becomes its new version."""

    difference: Difference
    # By the item's id: the row that is there, and the one that takes its place or is added.
    before: Mapping[str, ProductOrderItem]
    after: Mapping[str, ProductOrderItem]
    assessment: Assessment
    captured: Captured
    # Tasks that the order hasn't had: of items that weren't planned yet, and of the whole order for changed items.
    planned: Sequence[FulfilmentTask] = ()
    # Whether anything of the order has been done; until then it is taken anew.
    begun: bool = True

    @property
    def undone_of_withdrawn(self) -> list[UndoEntry]:
        """The tasks of withdrawn items of which something is undone."""
        return [
            entry
            for entry in self.assessment.entries
            if entry.task.order_item_id in self.difference.withdrawn and entry.undoable is Undoable.CAN_BE_UNDONE
        ]

    @property
    def cost(self) -> tuple[Money, ...]:
        """What undoing costs, by currency."""
        return self.assessment.cost

    @property
    def total(self) -> tuple[OrderPrice, ...]:
        """What the order costs then: all that it had or is to have, without what is withdrawn or came to nothing."""
        if not self.begun:
            return self.captured.total
        charges: dict[str, Sequence[OrderPrice]] = {}
        for key, row in self.before.items():
            if settled(row) and row.state is _I.COMPLETED:
                charges[key] = row.charge
        for key, row in self.after.items():
            was = self.before.get(key)
            if was is None or not settled(was):
                charges[key] = row.charge
        return totals_of(charges)


def settled(row: ProductOrderItem) -> bool:
    """Whether nothing that is wanted of the item counts any more: it has ended, or is coming to its end."""
    return row.done or row.state is _I.PENDING_CANCELLATION or bool(row.failure)


def amendment_plan(unit: Unit, order: ProductOrder, captured: Captured) -> AmendmentPlan:
    """What the order's new version comes to at this moment, and until the unit's end.

    Raises FailedPrecondition ORDER_CLOSED, ORDER_STARTED for one that is being cancelled, INFORMATION_REQUIRED for a
    version that would have to wait, POINT_OF_NO_RETURN naming items and tasks.
    """
    if order.state in UNSTARTED:
        return _of_unstarted(unit, order, captured)
    if order.state in FINAL:
        raise FailedPrecondition("ORDER_CLOSED", f"the order is {str(order.state)!r}: it can't change any more")
    if order.state not in AMENDABLE:
        raise FailedPrecondition("ORDER_STARTED", f"the items of an order that is {str(order.state)!r} can't change")
    if captured.missing:
        why = f"the order is being carried out, and can't wait for: {', '.join(captured.missing)}"
        violations = [Violation("product_order_item", f"lacks {what}") for what in captured.missing]
        raise FailedPrecondition("INFORMATION_REQUIRED", why, violations=violations)
    # From now on the step that is being made, if any, has been made.
    lock(unit, order.id)
    fulfilment.forget(unit, order.id)
    there = store.items_of(unit, order.id)
    before = {row.item.id or "": row for row in there}
    after = {row.item.id or "": row for row in _rows(order, captured, before)}
    tasks = [*fulfilment.tasks_of(unit, order.id)]
    held = _held(unit, [*there, *after.values()])
    old = [
        Version(_planned(row, held, there), row.state is _I.COMPLETED, settled(row) and row.state is not _I.COMPLETED)
        for row in there
    ]
    wanted = list(after.values())
    new = [Version(_planned(row, held, wanted)) for row in wanted]
    choice = choices(unit, order.branch, [one.planned for one in (*old, *new)])
    # What isn't planned yet may have been begun by a step that died before it could say so.
    open_ids = {row.id for row in there if not row.done} - {task.product_order_item_id for task in tasks}
    unplanned = [one.planned for one in old if one.planned.id in open_ids]
    first = planned(Scope(order.id, order.branch), unplanned, choice, tasks)
    tasks += first

    def replan(item: PlannedItem, generation: int) -> list[FulfilmentTask]:
        made = planned(Scope(order.id, order.branch, generation), [item], choice, [*tasks, *of_order])
        of_order.extend(task for task in made if task.product_order_item_id is None)
        return [task for task in made if task.product_order_item_id == item.id]

    of_order: list[FulfilmentTask] = []
    found = difference(old, new, tasks, replan)
    found.check()
    withdrawn = [before[key] for key in found.withdrawn]
    going = assessed(withdrawn, tasks, payers(unit, order, there), whole=False)
    going.check()
    redone = {task.id for one in found.changed for task in one.undone}
    entries = [*going.entries, *(entry for entry in undo_map(tasks) if entry.task.id in redone)]
    return AmendmentPlan(found, before, after, replace(going, entries=entries), captured, [*first, *of_order])


def _of_unstarted(unit: Unit, order: ProductOrder, captured: Captured) -> AmendmentPlan:
    """What becomes of an order of which nothing is done yet: nothing is undone, and what is missing may come later."""
    there = store.items_of(unit, order.id)
    before = {row.item.id or "": row for row in there}
    after = {row.item.id or "": row for row in _rows(order, captured, before)}
    held = _held(unit, [*there, *after.values()])
    old = {key: _planned(row, held, there) for key, row in before.items()}
    new = {key: _planned(row, held, list(after.values())) for key, row in after.items()}
    found = Difference(
        kept=tuple(key for key in new if key in old and not differs(old[key], new[key])),
        added=tuple(key for key in new if key not in old),
        changed=tuple(Redone(key, (), ()) for key in new if key in old and differs(old[key], new[key])),
        withdrawn=tuple(key for key in old if key not in new),
    )
    return AmendmentPlan(found, before, after, assessed((), (), {}, whole=False), captured, begun=False)


def _rows(
    order: ProductOrder, captured: Captured, before: Mapping[str, ProductOrderItem]
) -> Iterator[ProductOrderItem]:
    """The new version's items; those that are there already with the ids that they have."""
    made = rows(order, captured.items, iter(new_id, ""))
    known = {row.id: before[row.item.id or ""].id for row in made if (row.item.id or "") in before}
    for row in made:
        was = before.get(row.item.id or "")
        row.id = known.get(row.id, row.id)
        row.parent_id = known.get(row.parent_id or "", row.parent_id)
        row.charge = captured.charges.get(row.item.id or "", ())
        row.captured = captured.completed.get(row.item.id or "", ())
        if was is not None:
            row.product_id = was.product_id
        elif row.item.action is not OrderItemAction.ADD and row.item.product is not None:
            row.product_id = row.item.product.id
        yield row


def _held(unit: Unit, items: Sequence[ProductOrderItem]) -> Mapping[str, Product]:
    ids = sorted({row.product_id for row in items if row.product_id})
    return {one.id: one for one in unit.load(Product, "id = ANY (%(ids)s)", {"ids": ids})} if ids else {}


def _planned(row: ProductOrderItem, held: Mapping[str, Product], items: Sequence[ProductOrderItem]) -> PlannedItem:
    """The item as its tasks see it. What is to come of an addition says nothing of what is wanted now."""
    adds = row.item.action is OrderItemAction.ADD
    return planned_item(row, None if adds else held.get(row.product_id or ""), items)


# --- what is sent ----------------------------------------------------------------------------------------------------


def unexpanded(items: Sequence[OrderItem], before: Sequence[ProductOrderItem]) -> tuple[OrderItem, ...]:
    """The items without what taking the order had put into them, for who sends back what he was told."""
    known = {row.item.id: row for row in before}

    def own(item: OrderItem) -> OrderItem:
        inner = tuple(own(part) for part in item.product_order_item if not _put_in(known.get(part.id), WHOLE))
        row = known.get(item.id)
        was = row.item if row is not None else item
        priced = _put_in(row, ITEM_PRICE) and item.item_price == was.item_price
        total = _put_in(row, ITEM_TOTAL_PRICE) and item.item_total_price == was.item_total_price
        return replace(
            item,
            product_order_item=inner,
            item_price=() if priced else item.item_price,
            item_total_price=() if total else item.item_total_price,
        )

    return tuple(own(item) for item in items)


def _put_in(row: ProductOrderItem | None, what: str) -> bool:
    return row is not None and what in row.captured


def same_offering(items: Sequence[OrderItem], before: Sequence[ProductOrderItem]) -> Collection[str]:
    """The items that are of the very offering that they were of: they stay with the version that was bought."""
    had = {row.item.id: row.item.product_offering for row in before}

    def stays(item: OrderItem) -> bool:
        was, wanted = had.get(item.id), item.product_offering
        return was is not None and wanted is not None and bool(wanted.id) and was.id == wanted.id

    return {item.id or "" for _, item in walk(items) if stays(item)}
