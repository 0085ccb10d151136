"""Has the network do what the suspensions of products say, and products and billing follow the network.

A product's suspensions are what is wanted, written at once and one after the other by its version; its status is what
the network was told last, by an order. At most one such order of ours is open for a product: who changes his mind
meanwhile only changes what is wanted, and when it ends it is looked at again.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.products import ProductPrice, ProductRefOrValue, ProductStatus, ProductSuspension, SuspensionReason
from chassis.timers import cancel_timer, set_timer
from chassis.types import EntityRef, TimePeriod, new_id
from chassis.unit import Unit
from orders.billing.changes import Cause, charges_of
from orders.billing.domain import ChargeEvent
from orders.billing.store import add_charges
from orders.inventory import suspension
from orders.inventory.domain import COMING, RECURRING, RUNNING, Product
from orders.inventory.hierarchy import BUNDLED_IN
from orders.inventory.store import rules_of, with_parts
from orders.inventory.suspension import Suspensions
from orders.ordering.capture import Captured
from orders.ordering.domain import FINAL, MOVABLE, ProductOrder, ProductOrderItem, product_ids, status_of, walk
from orders.ordering.placing import place
from orders.ordering.resting import cause_without_order, held
from orders.ordering.store import items_of, quantity_of
from orders.ordering.values import OrderItem, OrderItemAction, ProductOrderItemState

# The purpose of the timer of a product whose suspensions begin or end by themselves, and the category of such orders.
TURN = "suspension"
CATEGORY = "lifecycle"
# When a product is looked at again whose order has failed and is being undone: nobody else would see to what is wanted.
LOOK_AGAIN = timedelta(minutes=1)

_WISH = (ProductSuspension(reason=SuspensionReason.VOLUNTARY),)


def timers() -> Mapping[str, Callable[[str, Unit], None]]:
    """The handlers of our timers, by purpose."""
    return {TURN: turn}


def turn(product_id: str, unit: Unit) -> None:
    """A suspension of the product begins or ends by itself."""
    product = unit.find(Product, product_id)
    if product is not None:
        settle(unit, product)


def settle(unit: Unit, product: Product, *, but: Collection[str] = ()) -> str:
    """Has the product and its parts become what their suspensions say by now, apart from the products in `but`; the id
    of the order that sees to it, or empty.

    Parts get the suspensions of their bundle. Where the status stays, charges that rest or begin again do so at once.
    """
    tree = {**with_parts(unit, [product.id]), product.id: product}
    charged: list[ChargeEvent] = []
    wanted: dict[str, ProductStatus] = {}
    being_undone = False
    inherited = [one for one in suspension.lasting(product.suspension, unit.at) if one.inherited_from is not None]
    for one, holding in list(_followed(unit, product, inherited, tree, set())):
        one.suspension = holding
        target = ProductStatus.SUSPENDED if suspension.in_force(holding, unit.at) else ProductStatus.ACTIVE
        if target is one.status:
            before = held(one)
            one.resting_price = _resting(unit, one)
            charged += charges_of(before, held(one), cause_without_order(one, unit.at))
        elif one.id not in but:
            under_way = _under_way(unit, one)
            if under_way is None:
                wanted[one.id] = target
            being_undone = being_undone or (under_way is not None and _comes_to_nothing(under_way))
    add_charges(unit, charged)
    _set_timer(unit, product, again=being_undone)
    if not wanted:
        return (product.status_order_id or "") if _under_way(unit, product) is not None else ""
    order = _order(product)
    for key in wanted:
        tree[key].status_order_id = order.id
    quantities = {key: quantity_of(unit, tree[key]) for key in wanted}
    _place(unit, order, tuple(_status_items(product, tree, wanted, quantities, _numbers())))
    return order.id


def _set_timer(unit: Unit, product: Product, *, again: bool) -> None:
    due = suspension.next_turn(product.suspension, unit.at)
    if again:
        soon = unit.at + LOOK_AGAIN
        due = soon if due is None else min(due, soon)
    if due is None:
        cancel_timer(unit, product.id, TURN)
    else:
        set_timer(unit, product.id, TURN, due, product.branch)


def _followed(
    unit: Unit, product: Product, inherited: Sequence[ProductSuspension], tree: Mapping[str, Product], met: set[str]
) -> Iterator[tuple[Product, Suspensions]]:
    """The product and its parts that work, those above first, with the suspensions that each has now."""
    met.add(product.id)
    holding = (*suspension.own(suspension.lasting(product.suspension, unit.at)), *inherited)
    if product.status in MOVABLE:
        yield product, holding
    held = suspension.in_force(holding, unit.at)
    for key in product.part_ids:
        part = tree.get(key)
        if part is not None and key not in met:
            yield from _followed(unit, part, suspension.inherited(part.suspension, held, product.id), tree, met)


def _resting(unit: Unit, product: Product) -> tuple[str, ...]:
    """The prices that aren't charged, as the product is now, by the rules of now."""
    prices = product.recurring_prices
    if product.status is not ProductStatus.SUSPENDED or not prices or not product.suspension:
        return ()
    rules = rules_of(unit, product.branch)
    return suspension.resting(product.suspension, _offering_id(product), prices, rules, unit.at)


def _offering_id(product: Product) -> str | None:
    return product.product_offering.id if product.product_offering is not None else None


def _under_way(unit: Unit, product: Product) -> ProductOrderItem | None:
    """The item by which the network is still to suspend or resume the product; others of its order may take longer."""
    order = _open_order(unit, product.status_order_id)
    return _open_item(unit, order, product) if order is not None else None


def _open_order(unit: Unit, order_id: str | None) -> ProductOrder | None:
    order = unit.find(ProductOrder, order_id) if order_id else None
    return order if order is not None and order.state not in FINAL else None


def _open_item(unit: Unit, order: ProductOrder, product: Product) -> ProductOrderItem | None:
    items = items_of(unit, order.id)
    return next((one for one in items if not one.done and product.id in product_ids([one.item])), None)


def _comes_to_nothing(item: ProductOrderItem) -> bool:
    return bool(item.failure) or item.state is ProductOrderItemState.PENDING_CANCELLATION


def _status_items(
    product: Product,
    tree: Mapping[str, Product],
    wanted: Mapping[str, ProductStatus],
    quantities: Mapping[str, int],
    ids: Iterator[str],
) -> Iterator[OrderItem]:
    """An item for each product that changes, below that of its bundle where that changes too."""
    own_id = next(ids) if product.id in wanted else None
    inner = tuple(
        item
        for key in product.part_ids
        if key in tree and key != product.id
        for item in _status_items(tree[key], tree, wanted, quantities, ids)
    )
    if own_id is None:
        yield from inner
        return
    yield OrderItem(
        id=own_id,
        action=OrderItemAction.MODIFY,
        quantity=quantities[product.id],
        product=ProductRefOrValue(
            id=product.id,
            status=wanted[product.id],
            product_specification=product.product_specification,
            suspension=tuple(replace(one, note=None) for one in product.suspension),
        ),
        product_order_item=inner,
    )


def _numbers() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield str(number)


def _order(product: Product) -> ProductOrder:
    return ProductOrder(
        id=new_id(),
        branch=product.branch,
        category=CATEGORY,
        related_party=product.related_party,
        billing_account=product.billing_account,
    )


def _place(unit: Unit, order: ProductOrder, items: tuple[OrderItem, ...]) -> None:
    """Nothing is priced, and nobody elsewhere need be asked: what there is changes or ends."""
    order.check(unit.at)
    unit.add(order)
    place(
        unit,
        order,
        Captured(items=items, charges={}, completed={}, total=(), receipt=None, missing=(), customer_ids=()),
    )


def end(unit: Unit, product: Product, at: datetime, reason: str) -> str:
    """Orders the end of a product with its running parts for an instant; the order's id."""
    order = _order(product)
    order.description = reason or None
    order.requested_start_date = at if at > unit.at else None
    tree = {**with_parts(unit, [product.id]), product.id: product}
    _place(unit, order, (_ending(product, tree, _numbers(), set()),))
    product.termination_order_id = order.id
    return order.id


def is_ending(unit: Unit, product: Product) -> bool:
    """Whether an order that was asked to end it is still to do so: its own item may have come to nothing while others
    of that order go on."""
    order = _open_order(unit, product.termination_order_id)
    item = _open_item(unit, order, product) if order is not None else None
    return item is not None and not _comes_to_nothing(item)


def require_no_end_undone(unit: Unit, product: Product) -> None:
    """Raises FailedPrecondition TERMINATION_FAILED while an order that couldn't end the product is under way: what it
    undoes, or still does to parts, would go against what another one does."""
    order = _open_order(unit, product.termination_order_id)
    if order is not None and not is_ending(unit, product):
        raise FailedPrecondition(
            "TERMINATION_FAILED",
            f"product order {order.id} couldn't end the product, and is still under way: try again when it has ended",
            metadata={"product_order_id": order.id},
        )


def end_parts(unit: Unit, order: ProductOrder, bundle: Product) -> None:
    """Orders the end of what still works in a bundle that an order has ended: a part that came after that order was
    placed isn't in it."""
    if not bundle.part_ids:
        return
    seen_to = {one.product_id for one in items_of(unit, order.id) if one.item.action is OrderItemAction.DELETE}
    tree = with_parts(unit, [bundle.id])
    for part in (tree[key] for key in bundle.part_ids if key in tree):
        if part.status in RUNNING and part.id not in seen_to and not is_ending(unit, part):
            end(unit, part, unit.at, f"product {bundle.id}, of which it is a part, has ended")


def _ending(product: Product, tree: Mapping[str, Product], ids: Iterator[str], met: set[str]) -> OrderItem:
    met.add(product.id)
    own_id = next(ids)
    parts = [tree[key] for key in product.part_ids if key in tree and key not in met]
    return OrderItem(
        id=own_id,
        action=OrderItemAction.DELETE,
        product=ProductRefOrValue(id=product.id, product_specification=product.product_specification),
        product_offering=product.product_offering,
        product_order_item=tuple(_ending(part, tree, ids, met) for part in parts if part.status in RUNNING),
    )


# --- what items of orders do -----------------------------------------------------------------------------------------


def require_possible(items: Sequence[OrderItem], products: Mapping[str, Product], at: datetime) -> None:
    """Raises FailedPrecondition STILL_SUSPENDED for items that would resume a product in spite of other reasons,
    InvalidArgument STATUS_ALONE for those that would also make it another offering's."""
    held_back, mixed = [], []
    for path, item in walk(items):
        product = products.get(item.product.id or "") if item.product is not None else None
        wanted = item.product.status if item.product is not None else None
        if product is None or item.action is not OrderItemAction.MODIFY or wanted not in MOVABLE:
            continue
        if item.product_offering is not None and wanted is not product.status:
            mixed.append(Violation(f"{path}.product.status", "an item of its own suspends or resumes a product"))
        held = suspension.in_force(suspension.without(product.suspension, _reasons(item)), at)
        if status_of(item) is ProductStatus.ACTIVE and held:
            reasons = ", ".join(dict.fromkeys(str(one.reason) for one in held))
            held_back.append(Violation(f"{path}.product.status", f"it stays suspended: {reasons}"))
    if mixed:
        raise InvalidArgument("STATUS_ALONE", mixed[0].description, violations=mixed)
    if held_back:
        raise FailedPrecondition("STILL_SUSPENDED", held_back[0].description, violations=held_back)


def _stated(item: OrderItem) -> tuple[ProductSuspension, ...]:
    """The reasons that an item speaks of; without any, the subscriber's wish."""
    return (item.product.suspension if item.product is not None else ()) or _WISH


def _reasons(item: OrderItem) -> set[SuspensionReason | None]:
    return {one.reason for one in _stated(item)}


def carried_out(
    unit: Unit, order: ProductOrder, item: ProductOrderItem, product: Product, cause: Cause
) -> list[ChargeEvent]:
    """The network has done what an item says of its product's status: the product is so now. The charges of that.

    Changes nothing when it raises FailedPrecondition BAD_TRANSITION, InvalidArgument CHARGE_INVALID, INVALID_PERIOD.
    What is wanted by now, and of its parts, is seen to by a further order.
    """
    wanted = status_of(item.item)
    if wanted is None:
        return []
    as_it_was = product.status, product.suspension, product.status_order_id, product.resting_price
    before = held(product)
    try:
        _note(unit, order, item.item, product, wanted)
        product.move(wanted, unit.at)
        product.resting_price = _resting(unit, product)
        charged = charges_of(before, held(product), cause)
    except (FailedPrecondition, InvalidArgument):
        product.status, product.suspension, product.status_order_id, product.resting_price = as_it_was
        raise
    open_items = [one for one in items_of(unit, order.id) if not one.done and one is not item]
    settle(unit, product, but={one.product_id for one in open_items if one.product_id and status_of(one.item)})
    return charged


def _note(unit: Unit, order: ProductOrder, item: OrderItem, product: Product, wanted: ProductStatus) -> None:
    """Notes the reasons of an order that wasn't placed because of them."""
    if product.status_order_id == order.id:
        product.status_order_id = None
    elif wanted is ProductStatus.ACTIVE:
        product.suspension = suspension.without(product.suspension, _reasons(item))
    else:
        for one in _stated(item):
            period = one.valid_for or TimePeriod()
            wish = suspension.wish(one.reason, period.start_date_time or unit.at, period.end_date_time, one.note)
            product.suspension = suspension.with_reason(product.suspension, wish, unit.at)


def _bundles(unit: Unit, product: Product) -> Iterator[Product]:
    """What a product is, or is to be, a part of."""
    for relation in product.product_relationship:
        above = relation.product.id if relation.relationship_type == BUNDLED_IN and relation.product else None
        bundle = unit.find(Product, above) if above else None
        if bundle is not None:
            yield bundle


def require_bundle(unit: Unit, product: Product) -> None:
    """Raises FailedPrecondition BUNDLE_ENDED when nothing is left of what a new product is to be a part of."""
    for bundle in _bundles(unit, product):
        if bundle.status not in RUNNING | COMING:
            raise FailedPrecondition(
                "BUNDLE_ENDED", f"product {bundle.id}, of which it is to be a part, is {str(bundle.status)!r}"
            )


def activated(unit: Unit, product: Product) -> None:
    """A new part of a bundle that is suspended, or is to be, doesn't work before that does."""
    for bundle in _bundles(unit, product):
        if bundle.status not in MOVABLE:
            continue
        if bundle.status is ProductStatus.SUSPENDED or suspension.in_force(bundle.suspension, unit.at):
            settle(unit, bundle)


def resting_with(unit: Unit, product: Product, offering: EntityRef, prices: Sequence[ProductPrice]) -> tuple[str, ...]:
    """The prices that wouldn't be charged, were the product sold for these."""
    if product.status is not ProductStatus.SUSPENDED or not product.suspension:
        return ()
    recurring = [price for price in prices if price.price_type == RECURRING]
    rules = rules_of(unit, product.branch)
    return suspension.resting(product.suspension, offering.id, recurring, rules, unit.at)
