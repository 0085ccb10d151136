"""How an order goes on by itself: timers and events move it from acknowledged to its end, a step per transaction."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from chassis.cloudevents import ReceivedEvent
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.timers import cancel_timer, set_timer
from chassis.unit import Unit
from orders.fulfilment.steps import PROVISION, Systems
from orders.identity.store import merges_changed
from orders.inventory.store import with_parts
from orders.ordering import store
from orders.ordering.assessment import Assessment, worth_telling
from orders.ordering.capture import Capture
from orders.ordering.carrying_out import begin
from orders.ordering.chosen import Products
from orders.ordering.coupons import Coupons
from orders.ordering.domain import (
    INFORMATION_DEADLINE,
    LOST,
    UNDER_WAY,
    UNSTARTED,
    CancelProductOrder,
    ProductOrder,
    ProductOrderItem,
    assembled,
    product_ids,
)
from orders.ordering.handover import as_taken_over
from orders.ordering.orchestration import Orchestration
from orders.ordering.placing import ADVANCE, keep_anew
from orders.ordering.standing import NO_CUSTOMER, NO_PRICE
from orders.ordering.values import AssessedTask, ProductOrderItemState, ProductOrderState, TaskState
from orders.ordering.withdrawal import INFORMATION, RELEASE, assess, noted, withdraw
from orders.tracking.domain import PromiseReason
from orders.tracking.store import keep_move

# The purpose of the timer that carries a cancellation out.
CANCEL = "cancel"
# Looks whether an order has become of what coupons were promised to; gives back those of one that nothing came of.
PROMISED = "coupons"

# An awaited customer usually shows itself by its event; this finds one whose event came before the order was kept, and
# what no event tells of. Looked for after as long again as the order has waited already, within these bounds.
SOONEST_RECHECK, LATEST_RECHECK = timedelta(minutes=1), timedelta(hours=1)


# More tasks than that the undo map tells of.
MOST_ASSESSED = 200


class Fulfilment:
    """The steps of an order. Each is repeated until it has been committed, and does nothing when it is late."""

    def __init__(self, capture: Capture, coupons: Coupons, systems: Systems) -> None:
        self._capture = capture
        self._coupons = coupons
        self._orchestration = Orchestration(systems)

    def timers(self) -> dict[str, Callable[[str, Unit], None]]:
        """The handlers of our timers, by purpose."""
        return {
            ADVANCE: self.advance,
            **self._orchestration.timers(),
            INFORMATION: self.give_up_waiting,
            CANCEL: self.cancel,
            PROMISED: self.give_back,
            RELEASE: self.give_back,
        }

    def read_ahead(self, purpose: str, ids: Sequence[str], unit: Unit) -> None:
        """Reads what the timers of a purpose will ask for, when they are carried out in one transaction."""
        if purpose == PROVISION:
            self._orchestration.read_ahead(ids, unit)
        elif purpose in (ADVANCE, INFORMATION):
            store.read_ahead(unit, ids, begun=False)

    def advance(self, order_id: str, unit: Unit) -> None:
        """Starts an order that lacks nothing; lets one that does wait for its customer, visibly."""
        order = unit.find(ProductOrder, order_id)
        if order is None or order.state not in UNSTARTED:
            return
        items: Sequence[ProductOrderItem] = store.items_of(unit, order_id)
        awaited: Sequence[str] = ()
        news = False
        if store.awaited_by(unit, order_id) or order.put_off:
            # By now some of it may be there, or gone: the truth is asked for, what was remembered only says that it's
            # worth it.
            wanted = assembled(items)
            products = as_taken_over(unit, order, wanted, with_parts(unit, product_ids(wanted)))
            awaited = self._capture.standing(order, items, products).lacking
            if _came(order, store.awaited_by(unit, order_id), awaited):
                items, awaited = self._priced_anew(unit, order, items, products, awaited)
            news = store.wait_for(unit, order, awaited)
        if awaited:
            self._wait(unit, order, items, awaited, news)
        elif order.requested_start_date is not None and order.requested_start_date > unit.at:
            self._wait_no_more(unit, order, items)
            set_timer(unit, order_id, ADVANCE, order.requested_start_date, order.branch)
        else:
            self._start(unit, order, items)

    def _priced_anew(
        self,
        unit: Unit,
        order: ProductOrder,
        items: Sequence[ProductOrderItem],
        products: Products,
        lacking: Sequence[str],
    ) -> tuple[Sequence[ProductOrderItem], Sequence[str]]:
        """The items priced for a customer who wasn't known before, and what they lack; what he can't have is lacking
        too, with the items as they are."""
        try:
            captured = self._capture.recapture(
                order,
                items,
                products,
                store.quantities(unit, products),
                orders_before=partial(store.orders_before, unit, order),
            )
        except (FailedPrecondition, InvalidArgument) as refusal:
            why = [wrong.description for wrong in refusal.violations] or [refusal.message]
            return items, tuple(dict.fromkeys((NO_PRICE, *lacking, *why)))
        return keep_anew(unit, order, captured), captured.missing

    def _wait(
        self, unit: Unit, order: ProductOrder, items: Sequence[ProductOrderItem], awaited: Sequence[str], news: bool
    ) -> None:
        if order.state is not ProductOrderState.PENDING:
            order.move(ProductOrderState.PENDING, unit.at)
            for item in items:
                item.move(ProductOrderItemState.PENDING)
            set_timer(unit, order.id, INFORMATION, unit.at + INFORMATION_DEADLINE, order.branch)
            news = True
        if news:
            noted(unit, order, f"waits for: {', '.join(awaited)}")
            unit.announce(order, "InformationRequired")
        waited = unit.at - (order.order_date or unit.at)
        pause = min(max(waited, SOONEST_RECHECK), LATEST_RECHECK)
        set_timer(unit, order.id, ADVANCE, unit.at + pause, order.branch)

    def _wait_no_more(self, unit: Unit, order: ProductOrder, items: Sequence[ProductOrderItem]) -> None:
        if order.state is ProductOrderState.PENDING:
            order.move(ProductOrderState.ACKNOWLEDGED, unit.at)
            for item in items:
                item.move(ProductOrderItemState.ACKNOWLEDGED)
            cancel_timer(unit, order.id, INFORMATION)

    def _start(self, unit: Unit, order: ProductOrder, items: Sequence[ProductOrderItem]) -> None:
        waited = order.state is ProductOrderState.PENDING
        order.move(ProductOrderState.IN_PROGRESS, unit.at)
        if waited:
            cancel_timer(unit, order.id, INFORMATION)
        promised = order.expected_completion_date
        if waited and promised is not None and promised < unit.at:
            # As long after it begins as it was promised for after it was taken.
            order.expected_completion_date = unit.at + (promised - (order.order_date or promised))
            keep_move(unit, order, None, promised, PromiseReason.WAITING_FOR_CUSTOMER)
        begin(unit, order, items, {})
        set_timer(unit, order.id, PROVISION, unit.at, order.branch)

    def give_up_waiting(self, order_id: str, unit: Unit) -> None:
        """Cancels an order whose customer hasn't told what was missing in time."""
        order = unit.find(ProductOrder, order_id)
        if order is not None and order.state is ProductOrderState.PENDING:
            withdraw(unit, order, "the missing information didn't come in time")

    def give_back(self, order_id: str, unit: Unit) -> None:
        """Gives back the coupons of an order that nothing came of: withdrawn, failed, deleted, or never there.

        Asked twice, or for one that goes on, it does nothing. In two steps: an order that is being taken at the time
        ends the promise in the transaction that keeps it, so it isn't taken any more once we have ended it, but only
        once that is committed. What came of it is looked at after that, when it can't change any more.
        """
        if give_up(unit, order_id):
            return
        order = unit.find(ProductOrder, order_id)
        if order is None or order.state in LOST:
            self._coupons.release(order_id)

    def cancel(self, task_id: str, unit: Unit) -> None:
        """Carries a cancellation out, or says why it can't be; it is done once all that was done is undone."""
        task = unit.find(CancelProductOrder, task_id)
        if task is None or task.state is not TaskState.ACKNOWLEDGED or task.product_order is None:
            return
        order = unit.find(ProductOrder, task.product_order.id or "")
        try:
            if order is None:
                raise FailedPrecondition("NOT_FOUND", "the order isn't there any more")
            if order.state in UNDER_WAY:
                _keep_assessment(task, assess(unit, order, store.items_of(unit, order.id), whole=True))
            withdraw(unit, order, task.cancellation_reason or "cancelled on request", task.accepted_cost)
        except FailedPrecondition as error:
            task.cancellation_reason = f"{task.cancellation_reason or ''} (refused: {error.message})".strip()
            task.move(TaskState.TERMINATED_WITH_ERROR, unit.at)
        else:
            ended = order.state is ProductOrderState.CANCELLED
            task.move(TaskState.DONE if ended else TaskState.IN_PROGRESS, unit.at)

    def customers_changed(self, event: ReceivedEvent, unit: Unit) -> None:
        """Wakes the orders that wait for a customer or account which exists now; remembers who is the same."""
        merges_changed(event, unit)
        if event.type in ("CustomerCreateEvent", "BillingAccountCreateEvent"):
            for order_id, branch in store.waiting_for(unit, event.aggregate_id):
                set_timer(unit, order_id, ADVANCE, unit.at, branch)


def _keep_assessment(wish: CancelProductOrder, found: Assessment) -> None:
    """Says in the wish what it finds, as far as it has room."""
    numbers = {item.id: item.item.id for item in found.items}
    wish.undo_cost = found.cost
    wish.assessment = tuple(
        AssessedTask(
            order_item_id=numbers.get(entry.task.product_order_item_id or ""),
            name=entry.task.name,
            undoable=str(entry.undoable),
            cost=found.cost_of(entry),
        )
        for entry in worth_telling(found.entries)[:MOST_ASSESSED]
    )


def _came(order: ProductOrder, awaited: Sequence[str], lacking: Sequence[str]) -> bool:
    """Whether a customer is known now who was awaited, so that the order was priced for nobody."""
    customers = {NO_CUSTOMER, *order.customer_ids()}
    return customers.isdisjoint(lacking) and not {NO_PRICE, *customers}.isdisjoint(awaited)


def give_up(unit: Unit, order_id: str) -> bool:
    """Ends the promise of an order that is not to be, and gives its coupons back after that; False: it had ended."""
    branch = store.end_promise(unit, order_id)
    if branch is None:
        return False
    set_timer(unit, order_id, RELEASE, unit.at, branch)
    return True
