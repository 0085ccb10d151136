"""Product orders: what may be ordered, and how an order goes from a wish to products (TMF622)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Any, ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.products import ProductStatus
from chassis.types import Aggregate, EntityRef, Money, Note, RelatedParty, bad_transition, require_transition
from orders.inventory.domain import Product
from orders.ordering.values import (
    AssessedTask,
    OrderItem,
    OrderItemAction,
    OrderPrice,
    ProductOrderItemState,
    ProductOrderState,
    RelatedChannel,
    TaskState,
)

_O, _I, _T = ProductOrderState, ProductOrderItemState, TaskState

# pending waits for the customer (information is missing), held for ourselves.
ORDER_TRANSITIONS: Mapping[ProductOrderState, frozenset[ProductOrderState]] = {
    _O.ACKNOWLEDGED: frozenset({_O.IN_PROGRESS, _O.PENDING, _O.REJECTED, _O.CANCELLED, _O.ASSESSING_CANCELLATION}),
    _O.PENDING: frozenset({_O.IN_PROGRESS, _O.ACKNOWLEDGED, _O.REJECTED, _O.CANCELLED, _O.ASSESSING_CANCELLATION}),
    _O.HELD: frozenset({_O.IN_PROGRESS, _O.FAILED, _O.REJECTED, _O.ASSESSING_CANCELLATION, _O.CANCELLED}),
    _O.IN_PROGRESS: frozenset(
        {_O.PENDING, _O.HELD, _O.COMPLETED, _O.FAILED, _O.PARTIAL, _O.REJECTED, _O.ASSESSING_CANCELLATION}
    ),
    _O.ASSESSING_CANCELLATION: frozenset({_O.PENDING_CANCELLATION, _O.CANCELLED, _O.IN_PROGRESS, _O.PENDING}),
    _O.PENDING_CANCELLATION: frozenset({_O.CANCELLED}),
    _O.REJECTED: frozenset(),
    _O.CANCELLED: frozenset(),
    _O.COMPLETED: frozenset(),
    _O.FAILED: frozenset(),
    _O.PARTIAL: frozenset(),
}
ITEM_TRANSITIONS: Mapping[ProductOrderItemState, frozenset[ProductOrderItemState]] = {
    _I.ACKNOWLEDGED: frozenset({_I.IN_PROGRESS, _I.PENDING, _I.REJECTED, _I.CANCELLED}),
    _I.PENDING: frozenset({_I.IN_PROGRESS, _I.ACKNOWLEDGED, _I.REJECTED, _I.CANCELLED}),
    _I.HELD: frozenset({_I.IN_PROGRESS, _I.FAILED, _I.REJECTED, _I.CANCELLED, _I.PENDING_CANCELLATION}),
    _I.IN_PROGRESS: frozenset({_I.COMPLETED, _I.FAILED, _I.REJECTED, _I.HELD, _I.CANCELLED, _I.PENDING_CANCELLATION}),
    _I.ASSESSING_CANCELLATION: frozenset({_I.PENDING_CANCELLATION, _I.CANCELLED, _I.IN_PROGRESS}),
    _I.PENDING_CANCELLATION: frozenset({_I.CANCELLED}),
    _I.REJECTED: frozenset(),
    _I.CANCELLED: frozenset(),
    _I.COMPLETED: frozenset(),
    _I.FAILED: frozenset(),
}
TASK_TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = {
    _T.ACKNOWLEDGED: frozenset({_T.IN_PROGRESS, _T.DONE, _T.TERMINATED_WITH_ERROR}),
    _T.IN_PROGRESS: frozenset({_T.DONE, _T.TERMINATED_WITH_ERROR}),
    _T.DONE: frozenset(),
    _T.TERMINATED_WITH_ERROR: frozenset(),
}
FINAL = frozenset(state for state, following in ORDER_TRANSITIONS.items() if not following)
# Nothing has been done for the customer yet: the order may still change or be withdrawn.
UNSTARTED = frozenset({_O.ACKNOWLEDGED, _O.PENDING})

# Its tasks are being carried out, or undone.
UNDER_WAY = frozenset({_O.IN_PROGRESS, _O.HELD, _O.PENDING_CANCELLATION})

# Nothing came of it, and nothing will.
LOST = frozenset({_O.CANCELLED, _O.REJECTED, _O.FAILED})
# As many as somebody might enter; each is a question to the catalog.
MOST_COUPONS = 10
# The items of one order, those of its bundles' parts included.
MOST_ITEMS = 1000

# The role of who gives his products away to the order's customer.
TRANSFEROR = "transferor"
# To and fro between these an item that says so changes its product.
MOVABLE = frozenset({ProductStatus.ACTIVE, ProductStatus.SUSPENDED})

# An item with such a relationship to others is fulfilled after them.
RELIES_ON = "reliesOn"

# How long an order waits for what its customer has to tell before it is cancelled.
INFORMATION_DEADLINE = timedelta(days=14)


@dataclass(kw_only=True, eq=False)
class ProductOrderItem(Aggregate):
    """One item of an order, a row of its own: its state changes without writing its order again."""

    STATE: ClassVar[str | None] = "state"

    product_order_id: str
    # Where it stands in the order, and below which item (of a bundle).
    position: int
    parent_id: str | None = None
    state: ProductOrderItemState = ProductOrderItemState.ACKNOWLEDGED
    product_id: str | None = None
    # What was wanted, without nested items and state.
    item: OrderItem
    # What it costs for its whole quantity, by the catalog: this is what billing gets, whatever the item itself says.
    charge: tuple[OrderPrice, ...] = ()
    # When it is promised to be done.
    expected_completion_date: datetime | None = None
    # What taking the order has put into it (see `orders.ordering.capture`): it is done anew when the order is priced
    # anew.
    captured: tuple[str, ...] = ()
    # Why it comes to nothing, from when that is known: what was done for it is undone before it ends.
    failure: str | None = None

    @property
    def ordering_key(self) -> str:
        """Its order's: consumers see an order and its items in one sequence."""
        return self.product_order_id

    def move(self, wanted: ProductOrderItemState) -> None:
        """Goes to another state; raises FailedPrecondition BAD_TRANSITION naming both."""
        if wanted is not self.state:
            require_transition("an order item", ITEM_TRANSITIONS, self.state, wanted)
            self.state = wanted

    @property
    def done(self) -> bool:
        """Whether nothing more will happen to it."""
        return not ITEM_TRANSITIONS[self.state]


@dataclass(kw_only=True, eq=False)
class ProductOrder(Aggregate):
    """What a customer has asked for. Its items are aggregates of their own."""

    STATE: ClassVar[str | None] = "state"
    # Coupons are redeemed before the order is there.
    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"order_date", "completion_date", "cancellation_date", "coupon"})

    cancellation_date: datetime | None = None
    cancellation_reason: str | None = None
    category: str | None = None
    completion_date: datetime | None = None
    description: str | None = None
    expected_completion_date: datetime | None = None
    external_id: str | None = None
    notification_contact: str | None = None
    order_date: datetime | None = None
    priority: str | None = None
    requested_completion_date: datetime | None = None
    requested_start_date: datetime | None = None
    agreement: tuple[EntityRef, ...] = ()
    billing_account: EntityRef | None = None
    channel: tuple[RelatedChannel, ...] = ()
    note: tuple[Note, ...] = ()
    order_total_price: tuple[OrderPrice, ...] = ()
    payment: tuple[EntityRef, ...] = ()
    product_offering_qualification: tuple[EntityRef, ...] = ()
    quote: tuple[EntityRef, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()
    state: ProductOrderState | None = None
    coupon: tuple[str, ...] = ()
    # Since when it would be late for its date, if it goes on as expected.
    jeopardy_date: datetime | None = None

    def check(self, at: datetime) -> None:
        """A new order is acknowledged, whatever state its sender would like. Raises InvalidArgument for another."""
        if self.state not in (None, ProductOrderState.ACKNOWLEDGED):
            raise InvalidArgument(
                "BAD_INITIAL_STATE", "an order begins as 'acknowledged'", violations=[Violation("state", "not initial")]
            )
        self.state = ProductOrderState.ACKNOWLEDGED
        self.order_date = at

    def move(self, wanted: ProductOrderState, at: datetime) -> None:
        """Goes to another state; raises FailedPrecondition BAD_TRANSITION naming both."""
        assert self.state is not None
        if wanted is self.state:
            return
        require_transition("a product order", ORDER_TRANSITIONS, self.state, wanted)
        self.state = wanted
        if wanted is ProductOrderState.CANCELLED:
            self.cancellation_date = at
        if wanted in (ProductOrderState.COMPLETED, ProductOrderState.PARTIAL):
            self.completion_date = at

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes a caller's changes while the order is open. Only a cancellation may be asked for as a state.

        Raises FailedPrecondition ORDER_CLOSED, BAD_TRANSITION, PROMISED, COUPON_REDEEMED for another customer than the
        one who has redeemed the coupons.
        """
        wanted = changes.get("state")
        rest = {name: value for name, value in changes.items() if name != "state"}
        if rest and self.state in FINAL:
            raise FailedPrecondition("ORDER_CLOSED", f"the order is {str(self.state)!r}: it can't change any more")
        if (
            self.coupon
            and customers_of(changes.get("related_party", self.related_party))[:1] != self.customer_ids()[:1]
        ):
            raise FailedPrecondition(
                "COUPON_REDEEMED",
                "coupons have been redeemed for the customer of the order: another's is another order",
                violations=[Violation("related_party", "the customer stays")],
            )
        promised = self.expected_completion_date
        moves = promised is not None and rest.get("expected_completion_date", promised) != promised
        if moves and not self.new_words(rest.get("note", ())):
            raise FailedPrecondition(
                "PROMISED",
                "a promised date moves with a reason only: MovePromisedDate, or a note that says why",
                violations=[Violation("expected_completion_date", "moves with a reason only")],
            )
        super().revise(rest, at)
        if wanted is not None and wanted is not self.state:
            assert self.state is not None
            require_transition("a product order", ORDER_TRANSITIONS, self.state, wanted)
            if wanted is not ProductOrderState.CANCELLED:
                why = f"goes from {str(self.state)!r} to {str(wanted)!r} by its own progress, not by request"
                raise bad_transition(f"an order {why}", why, before=self.state, wanted=wanted)
            self.move(wanted, at)

    def new_words(self, notes: Sequence[Note]) -> str:
        """What notes say that the order hasn't yet."""
        known = {note.text for note in self.note}
        return " ".join(note.text for note in notes if note.text and note.text not in known)

    def customer_ids(self) -> tuple[str, ...]:
        """The related parties that may be the customer."""
        return customers_of(self.related_party)

    @property
    def customer_id(self) -> str:
        """Who counts as the customer where there may be only one: the first that is named; empty: nobody is."""
        return next(iter(self.customer_ids()), "")

    @property
    def priced_for(self) -> tuple[object, ...]:
        """What its prices depend on beside its items."""
        return self.customer_ids(), transferors_of(self.related_party), self.agreement, self.channel

    @property
    def put_off(self) -> bool:
        """Whether it is to start later than it was taken: what was true then may not be any more."""
        start, taken = self.requested_start_date, self.order_date
        return start is not None and taken is not None and start > taken

    def cancel(self, items: Sequence[ProductOrderItem], reason: str, at: datetime) -> None:
        """Withdraws an order that nothing has been done for yet, with all its items."""
        self.move(ProductOrderState.CANCELLED, at)
        self.cancellation_reason = self.cancellation_reason or reason
        for item in items:
            item.move(ProductOrderItemState.CANCELLED)

    def conclude(self, items: Sequence[ProductOrderItem], at: datetime) -> bool:
        """Ends the order once all its items have ended; whether it has. Items that were withdrawn don't count, as long
        as there are others."""
        if not all(item.done for item in items):
            return False
        if self.state is ProductOrderState.HELD:
            self.move(ProductOrderState.IN_PROGRESS, at)
        ends = [item.state for item in items if item.state is not ProductOrderItemState.CANCELLED]
        completed = [end is ProductOrderItemState.COMPLETED for end in ends]
        if self.state is ProductOrderState.PENDING_CANCELLATION or not ends:
            if self.state is not ProductOrderState.PENDING_CANCELLATION:
                self.move(ProductOrderState.ASSESSING_CANCELLATION, at)
            self.move(ProductOrderState.CANCELLED, at)
        elif all(completed):
            self.move(ProductOrderState.COMPLETED, at)
        elif any(completed):
            self.move(ProductOrderState.PARTIAL, at)
        elif all(end is ProductOrderItemState.REJECTED for end in ends):
            self.move(ProductOrderState.REJECTED, at)
        else:
            self.move(ProductOrderState.FAILED, at)
        return True

    @property
    def promised(self) -> datetime | None:
        """By when it is to be carried out: when we have said, else when the customer has asked for."""
        return self.expected_completion_date or self.requested_completion_date

    def require_deletable(self) -> None:
        """Raises FailedPrecondition IN_USE unless the order came to nothing."""
        if self.state not in (ProductOrderState.CANCELLED, ProductOrderState.REJECTED, *UNSTARTED):
            raise FailedPrecondition("IN_USE", f"an order that is {str(self.state)!r} can't be deleted")


@dataclass(kw_only=True, eq=False)
class PriceReceipt(Aggregate):
    """Why an order costs what it costs; its id is the order's. `digest`: SHA-256 of the receipt, in hexadecimal."""

    digest: str | None = None
    receipt: bytes | None = None


@dataclass(kw_only=True, eq=False)
class CancelProductOrder(Aggregate):
    """The wish to withdraw an order, and what became of it."""

    STATE: ClassVar[str | None] = "state"

    cancellation_reason: str | None = None
    effective_cancellation_date: datetime | None = None
    requested_cancellation_date: datetime | None = None
    product_order: EntityRef | None = None
    state: TaskState | None = None
    accepted_cost: tuple[Money, ...] = ()
    undo_cost: tuple[Money, ...] = ()
    assessment: tuple[AssessedTask, ...] = ()

    def check(self, at: datetime) -> None:
        """A new wish is acknowledged."""
        self.state = TaskState.ACKNOWLEDGED
        self.undo_cost, self.assessment = (), ()
        self.effective_cancellation_date = None

    def move(self, wanted: TaskState, at: datetime) -> None:
        """Goes to another state; raises FailedPrecondition BAD_TRANSITION naming both."""
        assert self.state is not None
        require_transition("a cancellation", TASK_TRANSITIONS, self.state, wanted)
        self.state = wanted
        if wanted is TaskState.DONE:
            self.effective_cancellation_date = at


def status_of(item: OrderItem) -> ProductStatus | None:
    """What an item makes of its product when it suspends or resumes it."""
    alone = item.action is OrderItemAction.MODIFY and item.product_offering is None
    wanted = item.product.status if alone and item.product is not None else None
    return wanted if wanted in MOVABLE else None


def check_coupons(codes: Sequence[str]) -> None:
    """Raises InvalidArgument INVALID_COUPONS for more than anybody has."""
    if len(codes) > MOST_COUPONS:
        raise InvalidArgument(
            "INVALID_COUPONS",
            f"an order has {MOST_COUPONS} coupons at most",
            violations=[Violation("coupon", f"{len(codes)} are more than {MOST_COUPONS}")],
        )


def customers_of(parties: Sequence[RelatedParty]) -> tuple[str, ...]:
    """The parties that may be the customer: those in that role, else those referred to as one."""
    named = [party for party in parties if (party.role or "").lower() == "customer"]
    named = named or [
        party for party in parties if party.at_referred_type == "Customer" and (party.role or "").lower() != TRANSFEROR
    ]
    return tuple(party.id for party in named if party.id)


def transferors_of(parties: Sequence[RelatedParty]) -> tuple[str, ...]:
    """Whose products go to the order's customer, where the order changes them."""
    return tuple(party.id for party in parties if (party.role or "").lower() == TRANSFEROR and party.id)


def payer(order: ProductOrder, item: OrderItem, product: Product | None) -> EntityRef | None:
    """Who is charged for what an item does: the account of the product, else of the item, else of the order."""
    own = product.billing_account if product is not None else None
    return next(
        (account for account in (own, item.billing_account, order.billing_account) if account and account.id), None
    )


def product_ids(items: Iterable[OrderItem]) -> tuple[str, ...]:
    """The products that the items name, those of items inside others included."""
    return tuple(item.product.id for _, item in walk(items) if item.product is not None and item.product.id)


def check_items(items: Sequence[OrderItem], path: str = "product_order_item") -> None:
    """Raises InvalidArgument naming each item that can't be: none at all, an id twice, a quantity below 1,
    a change of no product. More than anybody carries out at once are refused before anything else."""
    check_number(sum(1 for _ in walk(items)), path)
    found: list[Violation] = []
    if not items:
        found.append(Violation(path, "at least one item is needed"))
    seen: set[str] = set()
    for place, item in walk(items, path):
        if not item.id or item.id in seen:
            found.append(Violation(f"{place}.id", "missing, or not unique in the order"))
        seen.add(item.id or "")
        if item.quantity is not None and item.quantity < 1:
            found.append(Violation(f"{place}.quantity", "must be 1 or more"))
        if item.action is None:
            found.append(Violation(f"{place}.action", "required"))
        product_id = item.product.id if item.product is not None else None
        if item.action not in (None, OrderItemAction.ADD) and not product_id:
            found.append(Violation(f"{place}.product.id", f"required by an item that is to {item.action} a product"))
    found += _circles(items, path)
    if found:
        raise InvalidArgument("INVALID_ITEMS", "the order's items can't be taken as they are", violations=found)


def check_number(items: int, path: str = "product_order_item") -> None:
    """Raises InvalidArgument INVALID_ITEMS for more than an order is carried out with: each step reads all of them."""
    if items > MOST_ITEMS:
        why = f"{items} items, those of bundles included, are more than {MOST_ITEMS}: order them apart"
        raise InvalidArgument("INVALID_ITEMS", why, violations=[Violation(path, why)])


def relies_on(item: OrderItem) -> frozenset[str]:
    """The ids of the items that are fulfilled before one."""
    return frozenset(
        one.id for one in item.product_order_item_relationship if one.relationship_type == RELIES_ON and one.id
    )


def _circles(items: Sequence[OrderItem], path: str) -> Iterator[Violation]:
    places = {item.id or "": place for place, item in walk(items, path)}
    graph = {item.id or "": sorted(relies_on(item) - {item.id or ""}) for _, item in walk(items, path)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        place = next(places[one] for one in circle if one in places)
        yield Violation(f"{place}.product_order_item_relationship", f"relies on itself: {', '.join(circle[1:])}")


def walk(items: Iterable[OrderItem], path: str = "product_order_item") -> Iterator[tuple[str, OrderItem]]:
    """All items with those inside them, each with its path."""
    for position, item in enumerate(items):
        place = f"{path}[{position}]"
        yield place, item
        yield from walk(item.product_order_item, f"{place}.product_order_item")


def rows(order: ProductOrder, items: Iterable[OrderItem], ids: Iterator[str]) -> list[ProductOrderItem]:
    """The items as aggregates, those of a bundle below it; `ids` gives each its id."""
    result: list[ProductOrderItem] = []

    def place(item: OrderItem, parent: str | None) -> None:
        row = ProductOrderItem(
            id=next(ids),
            branch=order.branch,
            product_order_id=order.id,
            position=len(result),
            parent_id=parent,
            item=replace(item, product_order_item=(), state=None, expected_completion_date=None),
        )
        result.append(row)
        for inner in item.product_order_item:
            place(inner, row.id)

    for item in items:
        place(item, None)
    return result


def assembled(
    items: Sequence[ProductOrderItem], wanted: Callable[[ProductOrderItem], OrderItem] = lambda row: row.item
) -> tuple[OrderItem, ...]:
    """The items in TM Forum's shape again, with their states, nested as they came; `wanted`: what is told of one."""
    inner: dict[str | None, list[ProductOrderItem]] = {}
    for item in sorted(items, key=lambda row: row.position):
        inner.setdefault(item.parent_id, []).append(item)

    def build(row: ProductOrderItem) -> OrderItem:
        nested = tuple(build(below) for below in inner.get(row.id, ()))
        return replace(
            wanted(row),
            product_order_item=nested,
            state=row.state,
            expected_completion_date=row.expected_completion_date,
        )

    return tuple(build(row) for row in inner.get(None, ()))
