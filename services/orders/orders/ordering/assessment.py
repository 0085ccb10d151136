"""What withdrawing an order, or items of it, would undo at this moment, what that costs, and what keeps it. Pure.

The undo map shows what this says, and whoever withdraws is held to it: so what was told is what is done and charged.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from chassis.errors import FailedPrecondition, Violation
from chassis.types import EntityRef, Money
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.undo import Undoable, UndoEntry, irrevocable, undo_map
from orders.fulfilment.values import FulfilmentTaskState
from orders.ordering.domain import ProductOrderItem
from orders.ordering.values import ProductOrderItemState

_S = FulfilmentTaskState


@dataclass(frozen=True)
class Assessment:
    """What withdrawing some of an order's items comes to; `entries` of their tasks, and of those of the whole order."""

    items: Sequence[ProductOrderItem]
    entries: Sequence[UndoEntry]
    # What keeps them from being withdrawn.
    obstacles: Sequence[Violation]
    # Who pays, by the item's row; None: for what is done for the whole order.
    payers: Mapping[str | None, EntityRef | None]

    @property
    def charged(self) -> list[UndoEntry]:
        """What is undone at somebody's cost; where nobody pays for an item, nobody pays for its undoing."""
        return [entry for entry in self.entries if self.cost_of(entry) is not None]

    def cost_of(self, entry: UndoEntry) -> Money | None:
        """What undoing a task costs whoever pays; what hasn't been begun costs nothing."""
        payer = self.payers.get(entry.task.product_order_item_id)
        known = entry.cost is not None and entry.cost.unit and entry.cost.value
        return entry.cost if known and payer is not None and begun(entry.task) else None

    def of(self, item: ProductOrderItem | None) -> list[UndoEntry]:
        """The entries of an item's tasks; None: of those of the whole order."""
        return [entry for entry in self.entries if entry.task.product_order_item_id == (item.id if item else None)]

    def total(self, entries: Iterable[UndoEntry]) -> tuple[Money, ...]:
        """What undoing these costs, by currency."""
        return totals(cost for entry in entries if (cost := self.cost_of(entry)) is not None)

    @property
    def cost(self) -> tuple[Money, ...]:
        """What all of it costs, by currency."""
        return self.total(self.entries)

    def check(self) -> None:
        """Raises FailedPrecondition POINT_OF_NO_RETURN naming items and tasks by which they can't be withdrawn."""
        if self.obstacles:
            why = "; ".join(f"{one.field} {one.description}" for one in self.obstacles)
            raise FailedPrecondition(
                "POINT_OF_NO_RETURN", f"it can't be withdrawn any more: {why}", violations=self.obstacles
            )


def assessed(
    items: Sequence[ProductOrderItem],
    tasks: Sequence[FulfilmentTask],
    payers: Mapping[str | None, EntityRef | None],
    *,
    whole: bool,
) -> Assessment:
    """What withdrawing the items comes to; `whole`: they are all that the order has, so that what was done for the
    whole order is undone too."""
    rows = {item.id for item in items}
    concerned: set[str | None] = {*rows, None} if whole else {*rows}
    entries = [entry for entry in undo_map(tasks) if entry.task.product_order_item_id in concerned]
    return Assessment(items, entries, list(_obstacles(items, tasks)), payers)


def _obstacles(items: Sequence[ProductOrderItem], tasks: Sequence[FulfilmentTask]) -> Iterator[Violation]:
    numbers = {item.id: item.item.id or "" for item in items}
    for item in items:
        if item.state is ProductOrderItemState.COMPLETED:
            yield Violation(f"product_order_item[{item.item.id}]", "is completed already")
    for task in irrevocable(tasks, set(numbers)):
        number = numbers[task.product_order_item_id or ""]
        yield Violation(f"product_order_item[{number}]", f"is beyond {task.name!r} ({str(task.state)!r})")
    for task in irrevocable(tasks, {None}):
        yield Violation("product_order", f"is beyond {task.name!r}")


def begun(task: FulfilmentTask) -> bool:
    """Whether something may be left of a task in its system."""
    return task.undone_at is None and (task.state in (_S.COMPLETED, _S.IN_PROGRESS) or bool(task.in_doubt))


def worth_telling(entries: Iterable[UndoEntry]) -> list[UndoEntry]:
    """Those of which something would be left, or would have to be undone."""
    told: Collection[Undoable] = (Undoable.CAN_BE_UNDONE, Undoable.LASTS, Undoable.POINT_OF_NO_RETURN)
    return [entry for entry in entries if entry.undoable in told]


def totals(amounts: Iterable[Money]) -> tuple[Money, ...]:
    """The sums, by currency."""
    found: dict[str, Decimal] = {}
    for amount in amounts:
        found[amount.unit or ""] = found.get(amount.unit or "", Decimal()) + (amount.value or Decimal())
    return tuple(Money(unit=unit, value=value) for unit, value in sorted(found.items()))


def check_accepted(cost: Sequence[Money], accepted: Sequence[Money]) -> None:
    """Raises FailedPrecondition COST_NOT_ACCEPTED for what costs more, in any currency, than was accepted."""
    allowed = {amount.unit: amount.value or Decimal() for amount in accepted}
    over = [amount for amount in cost if (amount.value or Decimal()) > allowed.get(amount.unit, Decimal())]
    if over:
        told = ", ".join(f"{amount.value} {amount.unit}" for amount in over)
        raise FailedPrecondition(
            "COST_NOT_ACCEPTED",
            f"undoing what has been done costs {told}, which hasn't been accepted",
            violations=[Violation("accepted_cost", told)],
            metadata={f"cost {amount.unit}": str(amount.value) for amount in over},
        )
