"""How the tasks of an order are carried on, what their ends mean for its items, and how it ends itself."""

from collections.abc import Callable, Iterable, Sequence

from chassis.errors import DomainError, FailedPrecondition, InvalidArgument
from chassis.products import ProductStatus
from chassis.timers import set_timer
from chassis.unit import Unit
from orders.billing.store import add_charges
from orders.fulfilment import store as fulfilment
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.plan import PlannedItem, ends, next_tasks, rely, stuck
from orders.fulfilment.steps import PROVISION, Systems, Turn, next_due
from orders.fulfilment.undo import irrevocable
from orders.fulfilment.values import FailurePolicy, FulfilmentTaskState
from orders.inventory.domain import COMING, Product
from orders.ordering import store
from orders.ordering.beyond_return import before_return, hold, is_beyond, left_out, try_again
from orders.ordering.carrying_out import carried_out, require_chargeable, with_results
from orders.ordering.domain import LOST, UNDER_WAY, ProductOrder, ProductOrderItem, relies_on
from orders.ordering.jeopardy import look
from orders.ordering.planning import plan_some, planned_item, relied_on, results, specified_for
from orders.ordering.promising import promised
from orders.ordering.values import OrderItemAction, ProductOrderItemState, ProductOrderState
from orders.ordering.withdrawal import ended, noted, take_back

# So many items are planned, and so many answers of systems taken, in one transaction.
ITEMS_AT_ONCE = 100

_I, _T = ProductOrderItemState, FulfilmentTaskState
# The item is being carried out; any other open one is being withdrawn.
_WANTED = (_I.IN_PROGRESS, _I.HELD)
# Others may rely on it.
_COUNTING = (*_WANTED, _I.COMPLETED)


class Orchestration:
    """The steps of orders that have been started. Each is repeated until it has been committed, and does nothing when
    it is late: what is there is in the rows, what comes next in a timer of the order."""

    def __init__(self, systems: Systems) -> None:
        self._systems = systems

    def timers(self) -> dict[str, Callable[[str, Unit], None]]:
        """The handlers of our timers, by purpose."""
        return {PROVISION: self.step}

    def read_ahead(self, ids: Sequence[str], unit: Unit) -> None:
        """Reads what the steps of several orders will ask for."""
        by_order = store.read_ahead(unit, ids, begun=True)
        fulfilment.read_ahead(unit, ids)
        branches = {item.branch for items in by_order.values() for item in items}
        for branch in branches:
            fulfilment.specifications(unit, branch, *specified_for(by_order))

    def step(self, order_id: str, unit: Unit) -> None:
        """Carries the tasks of an order on as far as their systems answer, and ends what has ended."""
        order = store.locked(unit, order_id)
        if order is None or order.state not in UNDER_WAY:
            return
        _Step(unit, order, self._systems).make()


class _Step:
    """One step of one order."""

    def __init__(self, unit: Unit, order: ProductOrder, systems: Systems) -> None:
        self._unit = unit
        self._order = order
        self._systems = systems
        self._items = store.items_of(unit, order.id)
        self._rows = {item.id: item for item in self._items}
        self._seen: dict[str, PlannedItem] = {}
        self._tasks = fulfilment.tasks_of(unit, order.id)
        # Rows of items that have no plan yet.
        self._unplanned: set[str] = set()
        # Held here, since the unit lets go of what nobody uses.
        self._products: dict[str, Product] = {}

    def make(self) -> None:
        unit, order = self._unit, self._order
        turn = Turn(ITEMS_AT_ONCE)
        self._unplanned = plan_some(unit, order, self._items, self._held, ITEMS_AT_ONCE)
        self._rely()
        turn.again = bool(self._unplanned)
        self._go_on(turn)
        # What has ended may let others begin; what has failed is undone by new tasks.
        while turn.moved or (turn.left and next_tasks(self._tasks)):
            turn.moved = False
            self._go_on(turn)
        if self._concluded():
            return
        turn.again = turn.again or bool(next_tasks(self._tasks))
        if not turn.again:
            self._promise()
        self._show_what_is_held()
        late = look(unit, order, self._tasks)
        due = [at for at in (next_due(self._tasks), late, unit.at if turn.again else None) if at is not None]
        if due:
            set_timer(unit, order.id, PROVISION, max(unit.at, min(due)), order.branch)

    def _go_on(self, turn: Turn) -> None:
        try_again(self._unit, self._tasks)
        self._fail_what_can_not_be_charged()
        self._systems.carry_on(self._unit, self._tasks, self._item_of, turn)
        self._fail_what_has_failed()
        self._end_items(turn)

    def _rely(self) -> None:
        """Has tasks wait for those of the items that theirs rely on, as the order is by now."""
        if any(relies_on(item.item) for item in self._items):
            going_on = [item for item in self._items if item.state in _COUNTING]
            rely(self._tasks, {item.id: relied_on(item, going_on) for item in self._items})

    def _held(self, item: ProductOrderItem) -> Product | None:
        if not item.product_id:
            return None
        if item.product_id not in self._products:
            missing = {one.product_id for one in self._items if one.product_id and not one.done} | {item.product_id}
            wanted = {"ids": sorted(missing - self._products.keys())}
            self._products |= {one.id: one for one in self._unit.load(Product, "id = ANY (%(ids)s)", wanted)}
        return self._products.get(item.product_id)

    def _item_of(self, task: FulfilmentTask) -> PlannedItem | None:
        row = self._rows.get(task.product_order_item_id or "")
        if row is None:
            return None
        if row.id not in self._seen:
            self._seen[row.id] = planned_item(row, self._held(row), self._items)
        return self._seen[row.id]

    def _promise(self) -> None:
        """Promises the order, where nobody has yet, for when its plan will have been carried out."""
        if self._order.expected_completion_date is None and self._order.state in (
            ProductOrderState.IN_PROGRESS,
            ProductOrderState.HELD,
        ):
            lasts = ends(self._tasks, self._unit.at) - self._unit.at
            self._order.expected_completion_date = promised(
                self._unit.at, self._order.requested_completion_date, lasts or None
            )

    # --- what fails --------------------------------------------------------------------------------------------------

    def _fail_what_has_failed(self) -> None:
        for task in self._tasks:
            if task.state is not _T.FAILED or task.compensating:
                continue
            reason = task.reason or task.name
            if task.product_order_item_id is None:
                self._fail([item for item in self._items if self._wanted(item)], f"{task.name}: {reason}")
            else:
                item = self._rows.get(task.product_order_item_id)
                if item is not None and self._wanted(item):
                    self._fail([item], reason)
        for task in left_out(self._tasks):
            item = self._rows.get(task.product_order_item_id or "")
            if item is not None and self._wanted(item):
                self._note_failure(item, task.reason or task.name)
        self._fail_what_relied_on_it()

    def _fail_what_can_not_be_charged(self) -> None:
        """While it still can be undone: beyond its point of no return it would be carried out for nothing."""
        for item in before_return(self._tasks, [item for item in self._items if self._wanted(item)]):
            product = self._held(item)
            try:
                if product is not None:
                    require_chargeable(self._unit, self._order, item, product)
            except (FailedPrecondition, InvalidArgument) as error:
                self._fail([item], _told(error))

    def _fail_what_relied_on_it(self) -> None:
        lost = {item.item.id: item for item in self._items if item.failure or item.state in (_I.FAILED, _I.REJECTED)}
        news = bool(lost)
        while news:
            news = False
            for item in self._items:
                on = next((lost[one] for one in sorted(relies_on(item.item)) if one in lost), None)
                if on is None or not self._wanted(item) or irrevocable(self._tasks, {item.id}):
                    continue
                self._fail([item], f"item {on.item.id}, which it relies on, has failed")
                lost[item.item.id] = item
                news = True

    def _wanted(self, item: ProductOrderItem) -> bool:
        return item.state in _WANTED and not item.failure

    def _fail(self, items: Iterable[ProductOrderItem], reason: str) -> None:
        """The items come to nothing, once what was done for them is undone."""
        failing = list(items)
        for item in failing:
            self._note_failure(item, reason)
        take_back(self._unit, self._order, {item.id for item in failing})

    def _note_failure(self, item: ProductOrderItem, reason: str) -> None:
        item.failure = reason
        noted(self._unit, self._order, f"item {item.item.id} failed: {reason}")

    # --- what ends ---------------------------------------------------------------------------------------------------

    def _end_items(self, turn: Turn) -> None:
        of_item: dict[str | None, list[FulfilmentTask]] = {}
        for task in self._tasks:
            of_item.setdefault(task.product_order_item_id, []).append(task)
        of_order = [task for task in of_item.get(None, ()) if not task.compensating]
        for item in self._items:
            own = of_item.get(item.id, [])
            if item.done or any(task.open for task in own):
                continue
            if self._wanted(item):
                if item.id not in self._unplanned and all(task.done for task in of_order) and not self._waits(item):
                    self._complete(item)
                    turn.moved = True
            else:
                self._end(item, own)
                turn.moved = True

    def _waits(self, item: ProductOrderItem) -> bool:
        """Whether what the item relies on is still to be completed (it may have no tasks that wait for that), or what
        it is to be a part of: nobody has, or pays for, parts of a bundle that comes to nothing."""
        before = (*relied_on(item, self._items), *self._new_bundle(item))
        return any(self._rows[on].state in _WANTED for on in before)

    def _new_bundle(self, item: ProductOrderItem) -> tuple[str, ...]:
        """The row of the new bundle that a new product is inside."""
        above = self._rows.get(item.parent_id or "")
        new = above is not None and {above.item.action, item.item.action} == {OrderItemAction.ADD}
        return (above.id,) if above is not None and new else ()

    def _complete(self, item: ProductOrderItem) -> None:
        """The item's product is as it wants it, and is charged for; or the item fails after all, or (where it can't be
        undone any more) is held for a person."""
        unit, order = self._unit, self._order
        product = self._held(item)
        try:
            if product is None:
                raise FailedPrecondition("NOT_FOUND", f"there is no product {item.product_id!r}")
            if item.item.action is OrderItemAction.ADD:
                product.require_coming()
            charged = carried_out(unit, order, item, product)
        except (FailedPrecondition, InvalidArgument) as error:
            if is_beyond(self._tasks, item):
                hold(unit, order, item, self._tasks, _told(error))
            else:
                self._fail([item], _told(error))
            return
        with_results(product, results(self._tasks, item))
        if item.state is _I.HELD:
            item.move(_I.IN_PROGRESS)
        item.move(_I.COMPLETED)
        add_charges(unit, charged)

    def _end(self, item: ProductOrderItem, own: Sequence[FulfilmentTask]) -> None:
        """The item has come to nothing, as far as that could be undone."""
        withdrawn = item.state is _I.PENDING_CANCELLATION
        lasting = [task.name for task in own if task.to_undo and not task.spec.no_undo_needed]
        if lasting:
            noted(self._unit, self._order, f"item {item.item.id}: not undone: {', '.join(lasting)}")
        if withdrawn:
            item.move(_I.CANCELLED)
        else:
            item.move(_I.REJECTED if self._rejecting() else _I.FAILED)
        product = self._held(item)
        if product is not None and item.item.action is OrderItemAction.ADD and product.status in COMING:
            product.move(ProductStatus.CANCELLED if withdrawn else ProductStatus.ABORTED, self._unit.at)

    def _rejecting(self) -> bool:
        return any(
            task.state is _T.FAILED
            and task.product_order_item_id is None
            and task.spec.on_failure is FailurePolicy.REJECT
            for task in self._tasks
        )

    def _concluded(self) -> bool:
        unit, order = self._unit, self._order
        if not all(item.done for item in self._items):
            return False
        if not any(item.state is _I.COMPLETED for item in self._items):
            # Nothing is left that the whole order's tasks were for.
            take_back(unit, order, {None})
        if fulfilment.any_open(self._tasks):
            return False
        lasting = [task.name for task in self._tasks if task.product_order_item_id is None and task.to_undo]
        if order.state is not None and order.conclude(self._items, unit.at):
            if order.state in LOST and lasting:
                noted(unit, order, f"not undone: {', '.join(lasting)}")
            order.jeopardy_date = None
            ended(unit, order)
        return True

    def _show_what_is_held(self) -> None:
        """Says of items and order that they wait for a person, or don't any more."""
        holding = {task.product_order_item_id for task in self._tasks if task.state is _T.HELD}
        for item in self._items:
            if item.state in _WANTED:
                item.move(_I.HELD if item.id in holding else _I.IN_PROGRESS)
        if self._order.state in (ProductOrderState.IN_PROGRESS, ProductOrderState.HELD):
            held = stuck(self._tasks)
            self._order.move(ProductOrderState.HELD if held else ProductOrderState.IN_PROGRESS, self._unit.at)


def _told(error: DomainError) -> str:
    wrong = "; ".join(f"{violation.field} {violation.description}" for violation in error.violations)
    return f"{error.message}: {wrong}" if wrong else error.message
