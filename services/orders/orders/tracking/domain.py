"""Promised dates: when an order, or an item of it, will be done. They move with a reason, and each move is kept."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from chassis.types import Aggregate
from orders.ordering.domain import FINAL, ProductOrder, ProductOrderItem

LONGEST_EXPLANATION = 1000


class PromiseReason(StrEnum):
    """Why a promised date is another."""

    CUSTOMER_REQUEST = "customerRequest"
    WAITING_FOR_CUSTOMER = "waitingForCustomer"
    AMENDMENT = "amendment"
    TECHNICAL_DIFFICULTY = "technicalDifficulty"
    EQUIPMENT_SHORTAGE = "equipmentShortage"
    STAFF_SHORTAGE = "staffShortage"
    THIRD_PARTY = "thirdParty"
    WEATHER = "weather"
    FASTER = "faster"
    OTHER = "other"


@dataclass(kw_only=True, eq=False)
class PromisedDateChange(Aggregate):
    """One move of a promised date; it stays as it is."""

    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"old_date", "new_date", "reason"})

    product_order_id: str
    order_item_id: str | None = None
    old_date: datetime | None = None
    new_date: datetime | None = None
    reason: PromiseReason | None = None
    explanation: str | None = None
    moved_by: str | None = None
    moved_at: datetime | None = None

    @property
    def ordering_key(self) -> str:
        """Its order's: consumers see an order and its dates in one sequence."""
        return self.product_order_id


def moved(
    order: ProductOrder,
    items: Sequence[ProductOrderItem],
    item_id: str | None,
    date: datetime,
    at: datetime,
) -> Iterable[tuple[ProductOrderItem | None, datetime | None]]:
    """Has another date take the place of the promised one; what has changed (None: the order's), with the old date.

    The order is never promised before one of its items: where an item's date goes beyond the order's, that goes with
    it. Raises NotFound for no such item, FailedPrecondition ORDER_CLOSED, ITEM_DONE, PROMISED_LATER naming the items
    that are promised for later than the order would be; InvalidArgument DATE for one in the past or the same one.
    """
    if order.state in FINAL:
        raise FailedPrecondition(
            "ORDER_CLOSED", f"the order is {str(order.state)!r}: nothing of it is promised any more"
        )
    if date < at:
        raise InvalidArgument("DATE", "nothing can be promised for the past", violations=[Violation("date", "is past")])
    if item_id is None:
        later = [row.item.id or "" for row in items if not row.done and (row.expected_completion_date or date) > date]
        if later:
            raise FailedPrecondition("PROMISED_LATER", f"these items are promised for later: {', '.join(later)}")
        return [(None, _moved(order, date))]
    row = next((row for row in items if row.item.id == item_id), None)
    if row is None:
        raise NotFound("NOT_FOUND", f"the order has no item {item_id!r}", metadata={"item": item_id})
    if row.done:
        raise FailedPrecondition("ITEM_DONE", f"item {item_id} is {str(row.state)!r}")
    before = row.expected_completion_date or order.expected_completion_date
    _moved(row, date, before)
    changed: list[tuple[ProductOrderItem | None, datetime | None]] = [(row, before)]
    if order.expected_completion_date is None or order.expected_completion_date < date:
        changed.append((None, _moved(order, date)))
    return changed


def _moved(what: ProductOrder | ProductOrderItem, date: datetime, before: datetime | None = None) -> datetime | None:
    before = before or what.expected_completion_date
    if before == date:
        raise InvalidArgument("DATE", "that is the date already", violations=[Violation("date", "is the same")])
    what.expected_completion_date = date
    return before


def check_reason(reason: PromiseReason | None, explanation: str) -> None:
    """Raises InvalidArgument REASON where the customer wouldn't learn why."""
    wrong = []
    if reason is None:
        wrong.append(Violation("reason", "required: a promised date moves with a reason only"))
    if reason is PromiseReason.OTHER and not explanation.strip():
        wrong.append(Violation("explanation", "required where no reason fits"))
    if len(explanation) > LONGEST_EXPLANATION:
        wrong.append(Violation("explanation", f"at most {LONGEST_EXPLANATION} characters"))
    if wrong:
        raise InvalidArgument("REASON", wrong[0].description, violations=wrong)
