"""Shopping carts: what is in one, how long it is kept, and how it ends (TMF663)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Aggregate, ContactMedium, EntityRef, RelatedParty, TimePeriod
from orders.cart.values import CartItem, CartItemStatus, CartPriceChange, CartProblem, CartStatus
from orders.ordering.domain import check_coupons, customers_of
from orders.ordering.values import OrderItemAction, OrderPrice, RelatedChannel

# TMF663's own: 90 days without activity, 7 while there is nothing in it.
KEPT, KEPT_EMPTY = timedelta(days=90), timedelta(days=7)
# After that a cart that came to nothing goes, and what a guest said of himself with it.
FORGOTTEN_AFTER = timedelta(days=30)
# One row and one event hold the whole cart.
MOST_ITEMS = 100
# What a price depends on.
DECISIVE = frozenset({"cart_item", "related_party", "billing_account", "channel", "coupon"})


@dataclass(kw_only=True, eq=False)
class ShoppingCart(Aggregate):
    """What a customer, or a guest, thinks of ordering. Its status is no state in TM Forum's sense: TMF663 knows only
    changes of attributes."""

    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"creation_date", "valid_for"})

    cart_item: tuple[CartItem, ...] = ()
    cart_total_price: tuple[OrderPrice, ...] = ()
    contact_medium: tuple[ContactMedium, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()
    valid_for: TimePeriod | None = None
    creation_date: datetime | None = None
    last_update: datetime | None = None
    status: CartStatus | None = None
    billing_account: EntityRef | None = None
    channel: tuple[RelatedChannel, ...] = ()
    coupon: tuple[str, ...] = ()
    price_valid_for: TimePeriod | None = None
    price_change: tuple[CartPriceChange, ...] = ()
    problem: tuple[CartProblem, ...] = ()
    product_order: EntityRef | None = None
    merged_into: EntityRef | None = None
    fixed_validity: bool | None = None

    def check(self, at: datetime) -> None:
        """A new cart is active. Raises InvalidArgument INVALID_ITEMS, INVALID_COUPONS."""
        self.status = CartStatus.ACTIVE
        self.creation_date = self.creation_date or at
        period = self.valid_for or TimePeriod()
        self.fixed_validity = period.end_date_time is not None or None
        self.valid_for = replace(period, start_date_time=period.start_date_time or self.creation_date)
        self._settle(at)

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes a caller's changes. Raises FailedPrecondition CART_CLOSED, and what `check` does."""
        self.require_open(at)
        super().revise(changes, at)
        self._settle(at)

    def _settle(self, at: datetime) -> None:
        check_coupons(self.coupon)
        self.cart_item = numbered(self.cart_item)
        self.last_update = at
        if not self.fixed_validity:
            assert self.valid_for is not None
            kept = KEPT if self.cart_item else KEPT_EMPTY
            self.valid_for = replace(self.valid_for, end_date_time=at + kept)

    @property
    def ends_at(self) -> datetime:
        """When it expires."""
        assert self.valid_for is not None
        assert self.valid_for.end_date_time is not None
        return self.valid_for.end_date_time

    def require_open(self, at: datetime) -> None:
        """Raises FailedPrecondition CART_CLOSED for a cart that can't change any more."""
        status = self.status
        if status is CartStatus.ACTIVE and self.ends_at <= at:
            status = CartStatus.EXPIRED
        if status is not CartStatus.ACTIVE:
            raise FailedPrecondition(
                "CART_CLOSED",
                f"the cart is {str(status)!r}: it can't change any more",
                metadata={"status": str(status)},
            )

    def stale(self, at: datetime) -> bool:
        """Whether its price may not be what it costs any more."""
        open_still = self.status is CartStatus.ACTIVE and self.ends_at > at
        return open_still and self.price_valid_for is not None and not self.price_valid_for.covers(at)

    def expire(self, at: datetime) -> bool:
        """Ends it when its time has come; whether it has."""
        if self.status is not CartStatus.ACTIVE or self.ends_at > at:
            return False
        self.status = CartStatus.EXPIRED
        return True

    def become(self, order_id: str, at: datetime) -> None:
        """It has been ordered."""
        self.status, self.last_update = CartStatus.CHECKED_OUT, at
        self.product_order = EntityRef(id=order_id, at_referred_type="ProductOrder")
        self.price_change = ()

    @property
    def customer_ids(self) -> tuple[str, ...]:
        """The related parties that may be the customer; none: it is a guest's."""
        return customers_of(self.related_party)

    def merged_with(self, guest: "ShoppingCart") -> dict[str, Any]:
        """What this cart would have with all that is in a guest's: what is the same adds up, the rest follows."""
        items = list(self.cart_item)
        taken = {item.id for item in walk(items)}
        for item in guest.cart_item:
            place = next((n for n, own in enumerate(items) if _same_choice(own, item)), None)
            if place is not None:
                own = items[place]
                items[place] = replace(own, quantity=(own.quantity or 1) + (item.quantity or 1))
            else:
                clash = any(one.id in taken for one in walk([item]))
                items.append(_unnumbered(item) if clash else item)
                taken |= {one.id for one in walk([items[-1]])}
        return {
            "cart_item": tuple(items),
            "contact_medium": (
                *self.contact_medium,
                *(m for m in guest.contact_medium if m not in self.contact_medium),
            ),
            "coupon": tuple(dict.fromkeys((*self.coupon, *guest.coupon))),
        }

    def require_mergeable(self, into: "ShoppingCart") -> None:
        """Raises FailedPrecondition OTHER_CUSTOMER, InvalidArgument SAME_CART."""
        if self.id == into.id:
            raise InvalidArgument(
                "SAME_CART", "a cart can't be merged into itself", violations=[Violation("into_id", "the same")]
            )
        if self.customer_ids and not set(self.customer_ids) & set(into.customer_ids):
            raise FailedPrecondition(
                "OTHER_CUSTOMER", f"cart {self.id} is another customer's", violations=[Violation("id", "not a guest's")]
            )

    def end_in(self, into: "ShoppingCart", at: datetime) -> None:
        """All that was in it is in another cart now."""
        self.status, self.last_update = CartStatus.MERGED, at
        self.merged_into = EntityRef(id=into.id, at_referred_type="ShoppingCart")


def walk(items: Iterable[CartItem]) -> Iterator[CartItem]:
    """All items with those inside them."""
    for item in items:
        yield item
        yield from walk(item.cart_item)


def numbered(items: Sequence[CartItem]) -> tuple[CartItem, ...]:
    """The items, each with an id, an action and a status. Raises InvalidArgument INVALID_ITEMS for an id that comes
    twice, and for more than a cart holds."""
    ids = [item.id for item in walk(items) if item.id]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    wrong = [Violation("cart_item", f"the id {one!r} isn't unique in the cart") for one in twice]
    if sum(1 for _ in walk(items)) > MOST_ITEMS:
        wrong.append(Violation("cart_item", f"more than {MOST_ITEMS}"))
    if wrong:
        raise InvalidArgument("INVALID_ITEMS", "the cart's items can't be taken as they are", violations=wrong)
    taken = set(ids)
    # As TM Forum counts them.
    free = (number for number in (f"{n:02d}" for n in range(1, 10 * MOST_ITEMS)) if number not in taken)

    def complete(item: CartItem) -> CartItem:
        return replace(
            item,
            id=item.id or next(free),
            action=item.action or OrderItemAction.ADD,
            status=item.status or CartItemStatus.ACTIVE,
            cart_item=tuple(complete(part) for part in item.cart_item),
        )

    return tuple(complete(item) for item in items)


def choice(item: CartItem) -> CartItem:
    """What was chosen, without what it costs and what was said of it."""
    return replace(
        item,
        item_price=(),
        item_total_price=(),
        problem=(),
        note=(),
        cart_item=tuple(choice(part) for part in item.cart_item),
    )


def _same_choice(one: CartItem, other: CartItem) -> bool:
    """Whether both are the same thing once more; of what a customer has there is one."""
    if one.action is not OrderItemAction.ADD or one.cart_item_relationship or other.cart_item_relationship:
        return False
    return _uncounted(one) == _uncounted(other)


def _uncounted(item: CartItem) -> CartItem:
    return replace(_unnumbered(choice(item)), quantity=None)


def _unnumbered(item: CartItem) -> CartItem:
    return replace(item, id=None, cart_item=tuple(_unnumbered(part) for part in item.cart_item))
