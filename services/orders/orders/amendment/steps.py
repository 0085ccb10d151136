"""Carrying an amendment out: in one transaction, after which the order goes on as its new version."""

from collections.abc import Sequence

from chassis.timers import set_timer
from chassis.types import Money, new_id
from chassis.unit import Unit
from orders.amendment.domain import ProductOrderAmendment
from orders.amendment.plan import AmendmentPlan, settled
from orders.fulfilment import store as fulfilment
from orders.fulfilment.plan import ends
from orders.fulfilment.steps import PROVISION
from orders.fulfilment.undo import undo
from orders.inventory.domain import Product
from orders.ordering import store
from orders.ordering.assessment import check_accepted
from orders.ordering.carrying_out import begin, wanted_otherwise
from orders.ordering.domain import ProductOrder, ProductOrderItem
from orders.ordering.planning import plan_some
from orders.ordering.values import OrderItemAction, ProductOrderItemState
from orders.ordering.withdrawal import charge_undoing, noted, withdraw_items
from orders.tracking.domain import PromiseReason
from orders.tracking.store import keep_move


def amend(unit: Unit, order: ProductOrder, plan: AmendmentPlan, accepted: Sequence[Money], *, total: bool) -> None:
    """Has the order become its new version; `total`: also what it costs altogether. Raises FailedPrecondition
    COST_NOT_ACCEPTED."""
    check_accepted(plan.cost, accepted)
    charge_undoing(unit, order, plan.assessment.charged)
    found = plan.difference
    if not found.empty:
        fulfilment.add(unit, order.id, plan.planned)
        unit.flush()
    if found.withdrawn:
        withdraw_items(unit, order, [plan.before[key] for key in found.withdrawn], "amended")
    _redo(unit, order, plan)
    _replace(unit, order, plan)
    _add(unit, order, plan)
    if total:
        order.order_total_price = plan.total
    if plan.captured.receipt is not None:
        store.keep_receipt(unit, order, plan.captured.receipt)
    _promise(unit, order)
    if found.empty:
        return
    amendment = ProductOrderAmendment(
        id=new_id(),
        branch=order.branch,
        product_order_id=order.id,
        added=found.added,
        changed=tuple(one.order_item_id for one in found.changed),
        withdrawn=found.withdrawn,
        undone=sum(len(one.undone) for one in found.changed) + len(plan.undone_of_withdrawn),
        done_again=sum(len(one.again) for one in found.changed),
        undo_cost=plan.cost,
        requested_by=unit.call.principal.subject,
        amended_at=unit.at,
    )
    unit.add(amendment)
    # Whoever was about to amend it, too, finds that it has changed.
    noted(unit, order, f"amended: {amendment.id}")
    set_timer(unit, order.id, PROVISION, unit.at, order.branch)


def _redo(unit: Unit, order: ProductOrder, plan: AmendmentPlan) -> None:
    """Undoes what has been done otherwise than it is wanted by now, and then does it again."""
    for one in plan.difference.changed:
        row = plan.before[one.order_item_id]
        tasks = fulfilment.tasks_of(unit, order.id)
        undoing = undo(tasks, {row.id}, only={task.id for task in one.undone})
        for task, in_doubt in undoing.cancelled:
            task.cancel(unit.at, in_doubt=in_doubt)
        fulfilment.add(unit, order.id, undoing.compensations)
        first = tuple(task.id for task in undoing.compensations)
        place = len(fulfilment.tasks_of(unit, order.id))
        for number, task in enumerate(one.again):
            task.position = place + number
            task.depends_on = tuple(dict.fromkeys((*task.depends_on, *first)))
        fulfilment.add(unit, order.id, one.again)


def _replace(unit: Unit, order: ProductOrder, plan: AmendmentPlan) -> None:
    """Has the items that go on say what is wanted, at the price of now."""
    for key, new in plan.after.items():
        row = plan.before.get(key)
        if row is None or settled(row):
            continue
        for name in ("item", "charge", "captured"):
            if getattr(row, name) != getattr(new, name):
                setattr(row, name, getattr(new, name))
        product = unit.find(Product, row.product_id) if row.product_id else None
        if product is not None and row.item.action is OrderItemAction.ADD:
            wanted_otherwise(order, row, product)


def _add(unit: Unit, order: ProductOrder, plan: AmendmentPlan) -> None:
    """Begins with the items that are new."""
    added: list[ProductOrderItem] = []
    place = 1 + max((row.position for row in plan.before.values()), default=-1)
    for key in plan.difference.added:
        row = plan.after[key]
        row.position = place + len(added)
        row.state = ProductOrderItemState.ACKNOWLEDGED
        added.append(row)
    around = {
        row.id: product
        for row in plan.before.values()
        if row.product_id and (product := unit.find(Product, row.product_id)) is not None
    }
    begin(unit, order, added, around)
    for row in added:
        unit.add(row)
    if added:
        made = {row.product_id: product for row in added if (product := around.get(row.id)) is not None}
        plan_some(unit, order, added, lambda row: made.get(row.product_id))
        unit.flush()
        store.forget_items(unit, order.id)


def _promise(unit: Unit, order: ProductOrder) -> None:
    """What takes longer than it was promised for is promised for later."""
    promised = order.expected_completion_date
    end = ends(fulfilment.tasks_of(unit, order.id), unit.at)
    if promised is not None and end > promised:
        order.expected_completion_date = end
        keep_move(unit, order, None, promised, PromiseReason.AMENDMENT)
