"""How an order goes on by itself: timers and events move it from acknowledged to its end, a step per transaction."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial

from prometheus_client import Counter

from chassis import telemetry
from chassis.cloudevents import ReceivedEvent
from chassis.convert import merge_json
from chassis.db import Unit
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.products import (
    ProductPrice,
    ProductRefOrValue,
    ProductRelationship,
    ProductStatus,
    RelatedProductOrderItem,
)
from chassis.timers import cancel_timer, set_timer
from chassis.types import EntityRef, Note, new_id
from orders.billing.domain import ChargeAlteration, ChargeEvent, ChargeType
from orders.billing.store import add_charges
from orders.identity.store import merges_changed
from orders.inventory.domain import RECURRING, Product
from orders.inventory.store import with_parts
from orders.ordering import sold, statuses, store
from orders.ordering.capture import NO_CUSTOMER, NO_PRICE, Capture
from orders.ordering.coupons import Coupons
from orders.ordering.domain import (
    INFORMATION_DEADLINE,
    LOST,
    UNSTARTED,
    CancelProductOrder,
    ProductOrder,
    ProductOrderItem,
    assembled,
    payer,
    product_ids,
)
from orders.ordering.placing import ADVANCE, keep_anew
from orders.ordering.provisioning import Done, Failed, ProvisioningAdapter, ProvisioningTask, Waiting
from orders.ordering.values import (
    OrderItemAction,
    OrderPrice,
    ProductOrderItemState,
    ProductOrderState,
    TaskState,
    is_promotion,
)

ORDERS = Counter("svyaz_orders_total", "Product orders that have ended", ["outcome"])

# The purposes of our timers, beside that which carries an order on.
PROVISION = "provision"
INFORMATION = "information"
CANCEL = "cancel"
# Looks whether an order has become of what coupons were promised to; gives back those of one that nothing came of.
PROMISED = "coupons"
RELEASE = "release coupons"

# An awaited customer usually shows itself by its event; this finds one whose event came before the order was kept, and
# what no event tells of. Looked for after as long again as the order has waited already, within these bounds.
SOONEST_RECHECK, LATEST_RECHECK = timedelta(minutes=1), timedelta(hours=1)
# So many items are ended in one transaction.
ITEMS_AT_ONCE = 100


class Fulfilment:
    """The steps of an order. Each is repeated until it has been committed, and does nothing when it is late."""

    def __init__(self, capture: Capture, coupons: Coupons, provisioning: ProvisioningAdapter) -> None:
        telemetry.begin_at_zero(ORDERS, ("completed", "failed", "partial", "cancelled"))
        self._capture = capture
        self._coupons = coupons
        self._provisioning = provisioning

    def timers(self) -> dict[str, Callable[[str, Unit], None]]:
        """The handlers of our timers, by purpose."""
        return {
            ADVANCE: self.advance,
            PROVISION: self.provision,
            INFORMATION: self.give_up_waiting,
            CANCEL: self.cancel,
            PROMISED: self.give_back,
            RELEASE: self.give_back,
        }

    def read_ahead(self, purpose: str, ids: Sequence[str], unit: Unit) -> None:
        """Reads what the timers of a purpose will ask for, when they are carried out in one transaction."""
        if purpose in (ADVANCE, PROVISION, INFORMATION):
            store.read_ahead(unit, ids)

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
            products = with_parts(unit, product_ids(assembled(items)))
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
        products: Mapping[str, Product],
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
            order.note = (*order.note, _note(unit, f"waits for: {', '.join(awaited)}"))
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
        order.move(ProductOrderState.IN_PROGRESS, unit.at)
        cancel_timer(unit, order.id, INFORMATION)
        products: dict[str, Product] = {}
        for item in items:
            item.move(ProductOrderItemState.IN_PROGRESS)
            if item.item.action is OrderItemAction.ADD:
                product = _ordered_product(order, item, products.get(item.parent_id or ""))
                unit.add(product)
                item.product_id = product.id
            else:
                item.product_id = item.item.product.id if item.item.product is not None else None
                found = unit.find(Product, item.product_id) if item.product_id else None
                if found is None:
                    continue
                product = found
            products[item.id] = product
        set_timer(unit, order.id, PROVISION, unit.at, order.branch)

    def provision(self, order_id: str, unit: Unit) -> None:
        """Asks the network for what is still to be done, and ends the order when all is."""
        order = unit.find(ProductOrder, order_id)
        if order is None or order.state is not ProductOrderState.IN_PROGRESS:
            return
        items = store.items_of(unit, order_id)
        again: list[timedelta] = []
        answered = 0
        for item in items:
            if item.done:
                continue
            if answered == ITEMS_AT_ONCE:
                again.append(timedelta(0))
                break
            outcome = self._provisioning.provision(_task(item))
            answered += not isinstance(outcome, Waiting)
            if isinstance(outcome, Waiting):
                again.append(outcome.delay)
            elif isinstance(outcome, Failed):
                self._fail(unit, order, item, outcome.reason)
            elif isinstance(outcome, Done):
                self._complete(unit, order, item)
        if order.conclude(items, unit.at):
            assert order.state is not None
            _let_go(unit, order)
            outcome_name = str(order.state)
            unit.after_commit(lambda: ORDERS.labels(outcome_name).inc())
        else:
            set_timer(unit, order_id, PROVISION, unit.at + min(again), order.branch)

    def _complete(self, unit: Unit, order: ProductOrder, item: ProductOrderItem) -> None:
        product = unit.find(Product, item.product_id) if item.product_id else None
        if product is None:
            self._fail(unit, order, item, f"there is no product {item.product_id!r}")
            return
        try:
            charged = _carried_out(unit, order, item, product)
        except (FailedPrecondition, InvalidArgument) as error:
            wrong = "; ".join(f"{violation.field} {violation.description}" for violation in error.violations)
            self._fail(unit, order, item, f"{error.message}: {wrong}" if wrong else error.message)
            return
        sold.freeze(unit, order, product)
        item.move(ProductOrderItemState.COMPLETED)
        add_charges(unit, charged)

    def _fail(self, unit: Unit, order: ProductOrder, item: ProductOrderItem, reason: str) -> None:
        item.move(ProductOrderItemState.FAILED)
        order.note = (*order.note, _note(unit, f"item {item.item.id} failed: {reason}"))
        product = unit.find(Product, item.product_id) if item.product_id else None
        if product is not None and item.item.action is OrderItemAction.ADD:
            product.move(ProductStatus.ABORTED, unit.at)

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
        """Carries a cancellation out, or says why it can't be."""
        task = unit.find(CancelProductOrder, task_id)
        if task is None or task.state is not TaskState.ACKNOWLEDGED or task.product_order is None:
            return
        order = unit.find(ProductOrder, task.product_order.id or "")
        try:
            if order is None:
                raise FailedPrecondition("NOT_FOUND", "the order isn't there any more")
            withdraw(unit, order, task.cancellation_reason or "cancelled on request")
        except FailedPrecondition as error:
            task.cancellation_reason = f"{task.cancellation_reason or ''} (refused: {error.message})".strip()
            task.move(TaskState.TERMINATED_WITH_ERROR, unit.at)
        else:
            task.move(TaskState.DONE, unit.at)

    def customers_changed(self, event: ReceivedEvent, unit: Unit) -> None:
        """Wakes the orders that wait for a customer or account which exists now; remembers who is the same."""
        merges_changed(event, unit)
        if event.type in ("CustomerCreateEvent", "BillingAccountCreateEvent"):
            for order_id, branch in store.waiting_for(unit, event.aggregate_id):
                set_timer(unit, order_id, ADVANCE, unit.at, branch)


def _came(order: ProductOrder, awaited: Sequence[str], lacking: Sequence[str]) -> bool:
    """Whether a customer is known now who was awaited, so that the order was priced for nobody."""
    customers = {NO_CUSTOMER, *order.customer_ids()}
    return customers.isdisjoint(lacking) and not {NO_PRICE, *customers}.isdisjoint(awaited)


def withdraw(unit: Unit, order: ProductOrder, reason: str) -> None:
    """Cancels an order with its items, and the products that were to come of them.

    Raises FailedPrecondition POINT_OF_NO_RETURN, BAD_TRANSITION.
    """
    items = store.items_of(unit, order.id)
    order.cancel(items, reason, unit.at)
    for item in items:
        product = unit.find(Product, item.product_id) if item.product_id else None
        if product is not None and item.item.action is OrderItemAction.ADD:
            product.move(ProductStatus.CANCELLED, unit.at)
    store.stop_waiting(unit, order.id)
    _let_go(unit, order)
    for purpose in (ADVANCE, PROVISION, INFORMATION):
        cancel_timer(unit, order.id, purpose)
    unit.after_commit(lambda: ORDERS.labels("cancelled").inc())


def give_up(unit: Unit, order_id: str) -> bool:
    """Ends the promise of an order that is not to be, and gives its coupons back after that; False: it had ended."""
    branch = store.end_promise(unit, order_id)
    if branch is None:
        return False
    set_timer(unit, order_id, RELEASE, unit.at, branch)
    return True


def _let_go(unit: Unit, order: ProductOrder) -> None:
    """Gives the coupons back soon, if nothing comes of the order. What is completed in part has had its discount."""
    if order.coupon and order.state in LOST:
        set_timer(unit, order.id, RELEASE, unit.at, order.branch)


def _note(unit: Unit, text: str) -> Note:
    return Note(id=new_id(), author="svyaz", date=unit.at, text=text)


def _task(item: ProductOrderItem) -> ProvisioningTask:
    product = item.item.product
    specification = product.product_specification if product is not None else None
    return ProvisioningTask(
        id=item.id,
        action=item.item.action or OrderItemAction.NO_CHANGE,
        product_id=item.product_id or "",
        product_offering_id=_id(item.item.product_offering),
        product_specification_id=(specification.id or "") if specification is not None else "",
        quantity=1 if item.item.quantity is None else item.item.quantity,
    )


def _id(reference: EntityRef | None) -> str:
    return (reference.id or "") if reference is not None else ""


def _product_prices(charges: Sequence[OrderPrice]) -> tuple[ProductPrice, ...]:
    return tuple(
        ProductPrice(
            name=charge.name,
            price_type=charge.price_type,
            recurring_charge_period=charge.recurring_charge_period,
            price=charge.price,
            product_offering_price=charge.product_offering_price,
            product_price_alteration=charge.price_alteration,
        )
        for charge in charges
    )


def _origin(order: ProductOrder, item: ProductOrderItem) -> RelatedProductOrderItem:
    return RelatedProductOrderItem(
        product_order_id=order.id,
        order_item_id=item.item.id,
        order_item_action=str(item.item.action) if item.item.action else None,
    )


def _ordered_product(order: ProductOrder, item: ProductOrderItem, bundle: Product | None) -> Product:
    """The product that an item is to become; one inside a bundle belongs to the bundle's product."""
    wanted = item.item.product
    offering = item.item.product_offering
    product = Product(
        id=new_id(),
        branch=order.branch,
        status=ProductStatus.PENDING_ACTIVE,
        order_date=order.order_date,
        name=(wanted.name if wanted is not None else None) or (offering.name if offering is not None else None),
        description=wanted.description if wanted is not None else None,
        is_bundle=wanted.is_bundle if wanted is not None else None,
        is_customer_visible=wanted.is_customer_visible if wanted is not None else None,
        product_serial_number=wanted.product_serial_number if wanted is not None else None,
        agreement=wanted.agreement if wanted is not None else (),
        place=wanted.place if wanted is not None else (),
        product_characteristic=wanted.product_characteristic if wanted is not None else (),
        product_specification=wanted.product_specification if wanted is not None else None,
        product_term=wanted.product_term if wanted is not None else (),
        product_offering=offering,
        product_price=_product_prices(item.charge),
        product_order_item=(_origin(order, item),),
        billing_account=payer(order, item.item, None),
        related_party=order.related_party,
        realizing_service=wanted.realizing_service if wanted is not None else (),
        extensions=wanted.extensions if wanted is not None else None,
    )
    if bundle is not None:
        inside = ProductRelationship(
            relationship_type="bundledIn", product=ProductRefOrValue(id=bundle.id, name=bundle.name)
        )
        product.product_relationship = (inside,)
        bundle.product = (*bundle.product, ProductRefOrValue(id=product.id, name=product.name))
    return product


def _carried_out(unit: Unit, order: ProductOrder, item: ProductOrderItem, product: Product) -> Sequence[ChargeEvent]:
    """Changes the product as the item says; the charges that follow from it. Changes nothing when it raises.

    Raises FailedPrecondition BAD_TRANSITION when the product is in no state for it, InvalidArgument CHARGE_INVALID.
    """
    action = item.item.action
    told = _Charges(unit, order, item, product)
    if action is OrderItemAction.ADD:
        charged = told.of(item.charge, ChargeType.RECURRING_CHARGE_START)
        product.move(ProductStatus.ACTIVE, unit.at)
        statuses.activated(unit, product)
        return charged
    if action is OrderItemAction.MODIFY:
        if product.status not in (ProductStatus.ACTIVE, ProductStatus.SUSPENDED):
            raise FailedPrecondition("BAD_TRANSITION", f"a product that is {str(product.status)!r} can't be modified")
        offering = item.item.product_offering
        charged = statuses.carried_out(unit, order, item, product, _id(payer(order, item.item, product)))
        if offering is not None:
            due = statuses.due(unit, product, item.charge, offering)
            kept = {_name_of(price) for price in due}
            fallen = [price for price in product.running_charges if _name_of(price) not in kept]
            charged = told.of(_order_prices(fallen), ChargeType.RECURRING_CHARGE_STOP)
            charged += told.of(due, ChargeType.RECURRING_CHARGE_CHANGE, offering)
            product.product_offering = offering
            product.product_price = _product_prices(item.charge)
            statuses.repriced(unit, product)
        wanted = item.item.product
        if wanted is not None and offering is not None:
            # What the price has gone by, which the next one goes by too.
            product.agreement = wanted.agreement or product.agreement
        if wanted is not None and wanted.extensions:
            product.extensions = merge_json(product.extensions, wanted.extensions)
        if wanted is not None and wanted.product_characteristic:
            product.product_characteristic = wanted.product_characteristic
        if wanted is not None and wanted.product_term:
            product.product_term = wanted.product_term
        product.product_order_item = (*product.product_order_item, _origin(order, item))
        return charged
    if action is OrderItemAction.DELETE:
        charged = told.of(_order_prices(product.running_charges), ChargeType.RECURRING_CHARGE_STOP)
        product.move(ProductStatus.PENDING_TERMINATE, unit.at)
        product.move(ProductStatus.TERMINATED, unit.at)
        product.product_order_item = (*product.product_order_item, _origin(order, item))
        return charged
    return ()


def _name_of(price: ProductPrice | OrderPrice) -> tuple[str | None, str | None]:
    """What makes two prices of a product the same charge: the offering's price, or a name where there is none."""
    return _id(price.product_offering_price) or price.name, price.recurring_charge_period


@dataclass(frozen=True)
class _Charges:
    """The charges that an item brings about for its product."""

    unit: Unit
    order: ProductOrder
    item: ProductOrderItem
    product: Product

    def of(
        self, prices: Sequence[OrderPrice], recurring: ChargeType, offering: EntityRef | None = None
    ) -> list[ChargeEvent]:
        """What billing is told of the prices; raises InvalidArgument CHARGE_INVALID."""
        receipt = store.receipt_of(self.unit, self.order.id) if prices else None
        charged: list[ChargeEvent] = []
        for price in prices:
            amount = price.price.duty_free_amount if price.price is not None else None
            if amount is None or price.price is None or amount.value is None:
                continue
            alterations = _alterations(price)
            altered = sum((one.amount.value or Decimal() for one in alterations), Decimal())
            charged.append(
                ChargeEvent(
                    type=recurring if price.price_type == RECURRING else ChargeType.CHARGE_CREATE,
                    account=_id(payer(self.order, self.item.item, self.product)),
                    branch=self.order.branch,
                    occurred_at=self.unit.at,
                    product_id=self.product.id,
                    order_id=self.order.id,
                    order_item_id=self.item.item.id or "",
                    customer_id=self.order.customer_id,
                    product_offering_id=_id(offering or self.product.product_offering),
                    product_offering_price_id=_id(price.product_offering_price),
                    amount=amount,
                    tax_rate=price.price.tax_rate,
                    tax_included_amount=price.price.tax_included_amount,
                    recurring_charge_period=price.recurring_charge_period,
                    receipt_digest=hashlib.sha256(receipt).hexdigest() if receipt else None,
                    list_amount=replace(amount, value=amount.value - altered) if alterations else None,
                    alteration=alterations,
                )
            )
        return charged


def _order_prices(prices: Sequence[ProductPrice]) -> list[OrderPrice]:
    return [
        OrderPrice(
            name=price.name,
            price_type=price.price_type,
            recurring_charge_period=price.recurring_charge_period,
            price=price.price,
            product_offering_price=price.product_offering_price,
        )
        for price in prices
    ]


def _alterations(price: OrderPrice) -> tuple[ChargeAlteration, ...]:
    return tuple(
        ChargeAlteration(
            name=alteration.name,
            product_offering_price_id="" if is_promotion(alteration) else _id(alteration.product_offering_price),
            promotion_id=_id(alteration.product_offering_price) if is_promotion(alteration) else "",
            percentage=alteration.price.percentage,
            amount=alteration.price.duty_free_amount,
            duration=alteration.application_duration,
            # Without units of its own it lasts for so many of the charge's periods.
            units=alteration.unit_of_measure or price.recurring_charge_period,
            valid_for=alteration.valid_for,
        )
        for alteration in price.price_alteration
        if alteration.price is not None and alteration.price.duty_free_amount is not None
    )
