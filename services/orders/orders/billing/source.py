"""What happened on a day, as the log tells it, and what was charged: read for the comparison, by other ways than those
on which charges are written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.orm import Session

from chassis.convert import from_money
from chassis.unit import Unit
from orders.billing.reconciliation import RECURRING, Changed, Charged, Completed, Credited, Happened, Price
from svyaz.orders.v1 import inventory_pb2, orders_pb2
from svyaz.type.v1 import values_pb2

# A day is compared in parts of this: cause and charge are of one instant.
PART = timedelta(hours=1)
_ACTIONS = {
    orders_pb2.ORDER_ITEM_ACTION_ADD: "add",
    orders_pb2.ORDER_ITEM_ACTION_MODIFY: "modify",
    orders_pb2.ORDER_ITEM_ACTION_DELETE: "delete",
}
_SUSPENDED = inventory_pb2.PRODUCT_STATUS_SUSPENDED
_RUNNING = frozenset({inventory_pb2.PRODUCT_STATUS_ACTIVE, _SUSPENDED, inventory_pb2.PRODUCT_STATUS_PENDING_TERMINATE})
# Said once by whoever sold it: which prices go on while a product is suspended.
_GOES_ON = "chargedWhileSuspended"

_HAPPENED = sa.text(
    """
    SELECT aggregate_type, aggregate_id, version, time, data FROM event
    WHERE branch = :branch AND time >= :start AND time < :end
        AND type IN (
            'ProductOrderItemStateChangeEvent', 'ProductCreateEvent', 'ProductStateChangeEvent',
            'ProductAttributeValueChangeEvent'
        )
    ORDER BY time, position
    """
)
_BEFORE = sa.text(
    """
    SELECT wanted.id, wanted.time, before.data
    FROM unnest(CAST(:ids AS text[]), CAST(:times AS timestamptz[]), CAST(:versions AS bigint[]))
        AS wanted(id, time, version)
    CROSS JOIN LATERAL (
        SELECT data FROM event
        WHERE aggregate_id = wanted.id AND aggregate_type = 'Product' AND version < wanted.version
            -- Two transactions needn't have begun in the order in which they changed it.
            AND time < wanted.time + interval '1 hour'
        ORDER BY version DESC LIMIT 1
    ) AS before
    """
)
_CREDITS = sa.text(
    """
    SELECT kind, cause_id, account, product_id, unit, value FROM billing_credit
    WHERE branch = :branch AND occurred_at >= :start AND occurred_at < :end
    """
)
# Whether each is what its hash says, and follows the one before, is asked of the bytes themselves.
_CHARGED = sa.text(
    """
    SELECT charge.event_id, charge.account, charge.sequence, charge.draft, charge.data,
        charge.sequence IS NOT NULL AND charge.hash
            <> encode(sha256(convert_to(charge.previous_hash, 'UTF8') || charge.data), 'hex') AS altered,
        charge.sequence IS NOT NULL AND charge.previous_hash
            <> CASE WHEN charge.sequence = 1 THEN repeat('0', 64) ELSE coalesce(before.hash, '') END AS unlinked
    FROM charge_event AS charge
    LEFT JOIN charge_event AS before
        ON before.account = charge.account AND before.epoch = charge.epoch AND before.sequence = charge.sequence - 1
    WHERE charge.branch = :branch AND charge.occurred_at >= :start AND charge.occurred_at < :end
    ORDER BY charge.id
    """
)
_CREDIT_TYPES = {
    "slaCredit": "CreditCreateEvent",
    "discount": "DiscountCreateEvent",
    "points": "PointsRedemptionEvent",
    "correction": "ChargeCorrectionEvent",
}


class _Priced(Protocol):
    """What a price of an item and one of a product have in common."""

    name: str
    price_type: str
    recurring_charge_period: str

    @property
    def price(self) -> values_pb2.Price: ...

    @property
    def product_offering_price(self) -> values_pb2.EntityRef: ...


def parts(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The parts of a day, the last one as long as the day has it."""
    while start < end:
        yield start, min(start + PART, end)
        start += PART


def happened(unit: Unit, branch: str, start: datetime, end: datetime) -> list[Happened]:
    """What charges must have come of between two instants."""
    rows = unit.session.execute(_HAPPENED, {"branch": branch, "start": start, "end": end}).all()
    story = _Story()
    completed: list[tuple[datetime, orders_pb2.OrderedItem]] = []
    for row in rows:
        if row.aggregate_type == "Product":
            product = inventory_pb2.Product.FromString(row.data)
            story.after.setdefault((row.aggregate_id, row.time), []).append(product)
            story.first.setdefault((row.aggregate_id, row.time), row.version)
            continue
        item = orders_pb2.OrderedItem.FromString(row.data)
        if item.state == orders_pb2.PRODUCT_ORDER_ITEM_STATE_COMPLETED:
            completed.append((row.time, item))
    changed = [place for place, products in story.after.items() if any(one.status in _RUNNING for one in products)]
    wanted = {*changed, *((item.product_id, at) for at, item in completed)}
    story.before.update(
        _products_before(unit.session, {place: story.first[place] for place in wanted & story.first.keys()})
    )
    found: list[Happened] = [fact for at, item in completed for fact in story.completed(at, item)]
    found += [fact for product_id, at in changed for fact in story.changed(product_id, at)]
    credited = unit.session.execute(_CREDITS, {"branch": branch, "start": start, "end": end})
    found += [
        Credited(
            cause=f"{row.kind}/{row.cause_id}",
            account=row.account,
            type=_CREDIT_TYPES[row.kind],
            product_id=row.product_id,
            unit=row.unit,
            value=row.value,
        )
        for row in credited
    ]
    return found


def charged(unit: Unit, branch: str, start: datetime, end: datetime) -> Iterator[Charged]:
    """What was charged between two instants."""
    for row in unit.session.execute(_CHARGED, {"branch": branch, "start": start, "end": end}):
        broken = "its hash isn't that of its bytes" if row.altered else ""
        if row.unlinked and not broken:
            broken = f"what is before number {row.sequence} of {row.account} isn't what it continues"
        content = _content(row.draft if row.sequence is None else row.data)
        amount = content.get("amount")
        told = {name: str(content.get(name, "")) for name in _TOLD}
        yield Charged(
            id=row.event_id,
            type=told["type"],
            account=row.account,
            product_id=told["productId"],
            order_id=told["productOrderId"],
            item_id=told["productOrderItemId"],
            price_id=told["productOfferingPriceId"],
            name=told["name"],
            period=told["recurringChargePeriod"],
            cause=told["cause"],
            unit=str(amount.get("unit", "")) if isinstance(amount, dict) else "",
            value=_value(amount.get("value")) if isinstance(amount, dict) else Decimal(),
            broken=broken,
            sealed=row.sequence is not None,
        )


_TOLD = (
    "type",
    "productId",
    "productOrderId",
    "productOrderItemId",
    "productOfferingPriceId",
    "name",
    "recurringChargePeriod",
    "cause",
)


def _content(text: str | bytes) -> Mapping[str, Any]:
    """What a charge says; somebody may have written anything in its place."""
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _value(text: object) -> Decimal:
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        return Decimal()
    return value if value.is_finite() else Decimal()


def _products_before(
    session: Session, wanted: Mapping[tuple[str, datetime], int]
) -> Mapping[tuple[str, datetime], inventory_pb2.Product]:
    """The products as they were before these versions, each of an instant."""
    if not wanted:
        return {}
    ids, times = zip(*wanted, strict=True)
    rows = session.execute(_BEFORE, {"ids": list(ids), "times": list(times), "versions": list(wanted.values())})
    return {(row.id, row.time): inventory_pb2.Product.FromString(row.data) for row in rows}


@dataclass
class _Story:
    """The products of a part of a day: as they were before an instant, and what they became at it."""

    before: dict[tuple[str, datetime], inventory_pb2.Product] = field(default_factory=dict)
    after: dict[tuple[str, datetime], list[inventory_pb2.Product]] = field(default_factory=dict)
    # The version that each instant began with.
    first: dict[tuple[str, datetime], int] = field(default_factory=dict)
    # What a product costs in the middle of a transaction that changes it more than once.
    _now: dict[tuple[str, datetime], list[Price]] = field(default_factory=dict)
    _priced: set[tuple[str, datetime]] = field(default_factory=set)
    # Those that have become another customer's: what rests for him begins to.
    _given: set[tuple[str, datetime]] = field(default_factory=set)

    def completed(self, at: datetime, item: orders_pb2.OrderedItem) -> Iterator[Completed]:
        """What an item that was completed means."""
        action = _ACTIONS.get(item.item.action)
        if action is None:
            return
        place = (item.product_id, at)
        before, after = self.before.get(place), self.after.get(place, [])
        product = after[-1] if after else before
        had = self._now.get(place)
        if had is None:
            running = before is not None and before.status in _RUNNING
            had = _prices(before.product_price) if before is not None and running else []
        prices = _prices(item.charge)
        priced = action == "add" or (action == "modify" and item.item.HasField("product_offering"))
        if priced:
            self._priced.add(place)
        account, taker = product.billing_account.id if product is not None else "", None
        if action == "modify" and before is not None and product is not None and _changes_hands(before, product):
            self._given.add(place)
            account, taker = before.billing_account.id, account
            if not priced:
                prices = [price for price in _prices(product.product_price) if price.kind == RECURRING]
        yield Completed(
            order_id=item.product_order_id,
            item_id=item.item.id,
            action=action,
            product_id=item.product_id,
            account=account,
            priced=priced,
            prices=prices,
            had=had,
            taker=taker,
        )
        self._now[place] = prices if priced else had

    def changed(self, product_id: str, at: datetime) -> Iterator[Changed]:
        """Which prices begin to rest, and which no longer do; once the product's items were looked at."""
        place = (product_id, at)
        before = self.before.get(place)
        # Orders that are carried out together may change one product more than once in an instant.
        for after in self.after[place]:
            if after.status in _RUNNING:
                yield from self._rested(place, before, after)
            before = after

    def _rested(
        self, place: tuple[str, datetime], before: inventory_pb2.Product | None, after: inventory_pb2.Product
    ) -> Iterator[Changed]:
        running = before is not None and before.status in _RUNNING
        had = _prices(before.product_price) if before is not None and running else []
        handed_over = before is not None and place in self._given and _changes_hands(before, after)
        rested = {price.key for price in _resting(had, before)} if running and not handed_over else set()
        # What falls away has stopped.
        prices = _prices(after.product_price) if place in self._priced else had
        rest = _resting(prices, after)
        resting = {price.key for price in rest}
        begins = [price for price in rest if price.key not in rested]
        ends = [price for price in prices if price.key in rested - resting]
        for resting_now, found in ((True, begins), (False, ends)):
            if found:
                account = after.billing_account.id
                yield Changed(product_id=place[0], account=account, resting=resting_now, prices=found)


def _changes_hands(before: inventory_pb2.Product, after: inventory_pb2.Product) -> bool:
    """Whether an item has made it another customer's: no other changes whose it is, or which account pays for it."""
    former, present = ({party.id for party in one.related_party} for one in (before, after))
    return former != present or before.billing_account.id not in ("", after.billing_account.id)


def _prices(prices: Sequence[_Priced]) -> list[Price]:
    """Those that can be charged: with an amount before tax."""
    found = []
    for one in prices:
        amount = from_money(one.price.duty_free_amount)
        if amount.value is not None:
            recurs = one.price_type == RECURRING
            period = one.recurring_charge_period if recurs else ""
            key = one.product_offering_price.id
            found.append(Price(key, one.name, one.price_type, period, str(amount.unit), amount.value))
    return found


def _resting(prices: Sequence[Price], product: inventory_pb2.Product | None) -> list[Price]:
    """Of these the ones that aren't charged as the product is."""
    if product is None or product.status != _SUSPENDED:
        return []
    named: list[Any] = []
    for characteristic in product.product_characteristic:
        if characteristic.name == _GOES_ON and characteristic.value:
            value = json.loads(characteristic.value)
            named += value if isinstance(value, list) else [value]
    goes_on = {str(one).lower() if isinstance(one, bool) else str(one) for one in named}
    return [
        price
        for price in prices
        if price.kind == RECURRING
        and goes_on.isdisjoint({"true", price.id or "true", price.name or "true"})
        and (price.id or price.name) in product.resting_price
    ]
