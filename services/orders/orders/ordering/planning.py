"""What the plan of an order goes by: its items, as fulfilment sees them, and the specifications for them."""

import json
from collections.abc import Callable, Mapping, Sequence

from chassis.products import ProductStatus
from chassis.types import EntityRef, Json
from chassis.unit import Unit
from orders.fulfilment import store as fulfilment
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.plan import PlannedItem, Scope, plan
from orders.fulfilment.specification import chosen
from orders.fulfilment.values import PlannedBy
from orders.inventory.domain import Product
from orders.ordering.chosen import configured
from orders.ordering.domain import ProductOrder, ProductOrderItem, relies_on, status_of
from orders.ordering.values import OrderItemAction

# By what the tasks of an item are specified that only suspends or resumes its product.
_STATUS_ACTIONS: Mapping[ProductStatus | None, str] = {
    ProductStatus.SUSPENDED: "suspend",
    ProductStatus.ACTIVE: "resume",
}


def planned_item(item: ProductOrderItem, held: Product | None, items: Sequence[ProductOrderItem] = ()) -> PlannedItem:
    """An item as its plan sees it; `held`: its product, whose characteristics it has unless it says others."""
    wanted = item.item.product
    characteristics = {
        one.name: one.value
        for one in configured(
            held.product_characteristic if held is not None else (),
            wanted.product_characteristic if wanted is not None else (),
        )
        if one.name and one.value is not None
    }
    place = (wanted.place if wanted is not None else ()) or (held.place if held is not None else ())
    offering = item.item.product_offering or (held.product_offering if held is not None else None)
    values: dict[str, Json] = {
        **characteristics,
        "quantity": Json(str(1 if item.item.quantity is None else item.item.quantity)),
        "productOffering": Json(json.dumps(_id(offering))),
        "billingAccount": Json(json.dumps(_id(item.item.billing_account))),
    }
    if place:
        values["place"] = Json(json.dumps([{"id": one.id, "role": one.role} for one in place], ensure_ascii=False))
    specification = wanted.product_specification if wanted is not None else None
    if specification is None and held is not None:
        specification = held.product_specification
    return PlannedItem(
        id=item.id,
        order_item_id=item.item.id or "",
        action=item.item.order_template
        or _STATUS_ACTIONS.get(status_of(item.item))
        or str(item.item.action or OrderItemAction.NO_CHANGE),
        plain_action=str(item.item.action or OrderItemAction.NO_CHANGE),
        product_specification_id=(specification.id or "") if specification is not None else "",
        product_offering_id=_id(item.item.product_offering),
        product_id=item.product_id or "",
        values=values,
        relies_on=relied_on(item, items),
    )


def relied_on(item: ProductOrderItem, items: Sequence[ProductOrderItem]) -> tuple[str, ...]:
    """The rows of the items that are fulfilled before one."""
    named = relies_on(item.item)
    return tuple(other.id for other in items if other.item.id in named and other is not item) if named else ()


def _id(reference: EntityRef | None) -> str:
    return (reference.id or "") if reference is not None else ""


Held = Callable[[ProductOrderItem], Product | None]


def plan_some(
    unit: Unit, order: ProductOrder, items: Sequence[ProductOrderItem], held: Held, most: int | None = None
) -> set[str]:
    """Plans items that have no tasks yet, those that others rely on first, until so many have got some; the rows of
    those that are left.

    An item whose specification has no tasks is planned again each time, which adds none.
    """
    planned = {task.product_order_item_id for task in fulfilment.tasks_of(unit, order.id)}
    left = [item for item in items if not item.done and item.id not in planned]
    with_tasks: set[str | None] = set()
    while left and (most is None or len(with_tasks) < most):
        tasks = fulfilment.tasks_of(unit, order.id)
        some = _some(left, items, None if most is None else most - len(with_tasks))
        wanted = [planned_item(item, held(item), items) for item in some]
        choice = choices(unit, order.branch, wanted)
        made = plan(Scope(order.id, order.branch), wanted, choice, tasks)
        fulfilment.add(unit, order.id, made)
        with_tasks |= {task.product_order_item_id for task in made} - {None}
        done = {item.id for item in some}
        left = [item for item in left if item.id not in done]
    return {item.id for item in left}


def _some(
    left: Sequence[ProductOrderItem], items: Sequence[ProductOrderItem], most: int | None
) -> list[ProductOrderItem]:
    if most is None or len(left) <= most:
        return list(left)
    waiting = {item.id for item in left}
    after = {item.id: waiting.intersection(relied_on(item, items)) for item in left}
    found: dict[str, ProductOrderItem] = {}
    while len(found) < most:
        ready = [item for item in left if item.id not in found and after[item.id] <= found.keys()]
        found.update((item.id, item) for item in ready[: most - len(found)])
    return list(found.values())


def choices(unit: Unit, branch: str, items: Sequence[PlannedItem]) -> Callable[[PlannedItem], PlannedBy]:
    """What each of the items goes by, as it is specified now."""
    found = fulfilment.specifications(unit, branch, {item.product_specification_id for item in items}, _actions(items))

    def choice(item: PlannedItem) -> PlannedBy:
        if item.plain_action == OrderItemAction.NO_CHANGE:
            # It is named because others refer to it; nothing is done for it.
            return PlannedBy()
        return chosen(found, branch, item.product_specification_id, item.action, item.plain_action)

    return choice


def _actions(items: Sequence[PlannedItem]) -> set[str]:
    return {action for item in items for action in (item.action, item.plain_action)}


def specified_for(items_by_order: Mapping[str, Sequence[ProductOrderItem]]) -> tuple[set[str], set[str]]:
    """The product specifications and actions of the items of several orders, as far as the items say them."""
    items = [item for items in items_by_order.values() for item in items]
    specifications = {
        wanted.product_specification.id or ""
        for item in items
        if (wanted := item.item.product) is not None and wanted.product_specification is not None
    }
    actions = {str(item.item.action or OrderItemAction.NO_CHANGE) for item in items}
    return specifications, actions | {item.item.order_template for item in items if item.item.order_template}


def results(tasks: Sequence[FulfilmentTask], item: ProductOrderItem) -> list[FulfilmentTask]:
    """The tasks of an item that have given back what its product is to know."""
    return [
        task
        for task in tasks
        if task.product_order_item_id == item.id
        and task.done
        and not task.compensating
        and task.undone_at is None
        and (task.result or task.resource)
    ]
