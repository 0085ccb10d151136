"""Orders that are carried out as the log has them, with the charges that billing is told of."""

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from chassis import calls
from chassis.clock import Clock
from chassis.db import Database
from chassis.products import ProductPrice, ProductStatus
from chassis.types import EntityRef, Money, Price, new_id
from chassis.unit import Unit
from orders.billing.changes import Cause, Held, charges_of, name_of
from orders.billing.domain import ChargeEvent
from orders.billing.store import add_charges
from orders.inventory.domain import Product
from orders.ordering.domain import ProductOrderItem
from orders.ordering.values import OrderItem, OrderItemAction, OrderPrice, ProductOrderItemState
from orders.store import RESOURCES, metadata

S = ProductStatus


class SetClock(Clock):
    """A clock that a test sets."""

    def __init__(self, at: datetime) -> None:
        super().__init__()
        self.at = at

    def now(self) -> datetime:
        """What the test has set."""
        return self.at


def price(value: str, key: str = "monthly", *, recurring: bool = True) -> OrderPrice:
    return OrderPrice(
        name=f"price {key}",
        price_type="recurring" if recurring else "oneTime",
        recurring_charge_period="month" if recurring else None,
        price=Price(duty_free_amount=Money(unit="KGS", value=Decimal(value)), tax_rate=Decimal(12)),
        product_offering_price=EntityRef(id=key),
    )


def as_sold(prices: Sequence[OrderPrice]) -> tuple[ProductPrice, ...]:
    return tuple(
        ProductPrice(
            name=one.name,
            price_type=one.price_type,
            recurring_charge_period=one.recurring_charge_period,
            price=one.price,
            product_offering_price=one.product_offering_price,
        )
        for one in prices
    )


@dataclass
class Operator:
    """The orders of a branch at the instant of its clock; `meddle` changes what billing is told of one."""

    url: str
    clock: SetClock
    branch: str = "bishkek"
    database: Database = field(init=False)

    def __post_init__(self) -> None:
        self.database = Database(self.url, clock=self.clock, metadata=metadata, resources=RESOURCES)

    @contextmanager
    def acting(self) -> Any:
        """A transaction for the branch."""
        with (
            calls.using(calls.Call.background("orders", "test", branches=(self.branch,))),
            self.database.unit() as unit,
        ):
            yield unit

    def sell(self, account: str, *prices: OrderPrice, meddle: Any = list) -> str:
        """An item that adds a product is completed; the product's id."""
        with self.acting() as unit:
            product = Product(
                id=new_id(),
                branch=self.branch,
                status=S.PENDING_ACTIVE,
                billing_account=EntityRef(id=account),
                product_offering=EntityRef(id="offer"),
                product_price=as_sold(prices),
            )
            unit.add(product)
            unit.flush()
            self._carry_out(unit, product, OrderItemAction.ADD, prices, S.ACTIVE, meddle)
        return product.id

    def change(self, product_id: str, *prices: OrderPrice, meddle: Any = list) -> None:
        """An item that modifies the product is completed."""
        with self.acting() as unit:
            product = unit.get(Product, product_id)
            self._carry_out(unit, product, OrderItemAction.MODIFY, prices, product.status, meddle)

    def end(self, product_id: str, *, meddle: Any = list) -> None:
        """An item that deletes the product is completed."""
        with self.acting() as unit:
            self._carry_out(unit, unit.get(Product, product_id), OrderItemAction.DELETE, (), S.TERMINATED, meddle)

    def suspend(self, product_id: str, *, resume: bool = False, meddle: Any = list) -> None:
        """The product is suspended, or isn't any more, by nobody's order."""
        with self.acting() as unit:
            product = unit.get(Product, product_id)
            before = held(product)
            product.move(S.ACTIVE if resume else S.SUSPENDED, unit.at)
            product.resting_price = () if resume else tuple(name_of(one)[0] for one in product.recurring_prices)
            add_charges(unit, meddle(charges_of(before, held(product), self._cause(product, unit, "", ""))))

    def _carry_out(
        self,
        unit: Unit,
        product: Product,
        action: OrderItemAction,
        prices: Sequence[OrderPrice],
        status: ProductStatus | None,
        meddle: Any,
    ) -> None:
        order = new_id()
        row = ProductOrderItem(
            id=new_id(),
            branch=self.branch,
            product_order_id=order,
            position=0,
            product_id=product.id,
            item=OrderItem(id="1", action=action, product_offering=EntityRef(id="offer")),
            charge=tuple(prices),
            state=ProductOrderItemState.IN_PROGRESS,
        )
        unit.add(row)
        unit.flush()
        before = held(product)
        if action is OrderItemAction.MODIFY:
            product.product_price = as_sold(prices)
        if status is S.TERMINATED:
            product.move(S.PENDING_TERMINATE, unit.at)
        assert status is not None
        product.move(status, unit.at)
        row.move(ProductOrderItemState.COMPLETED)
        cause = self._cause(product, unit, order, "1")
        charges = charges_of(before, held(product), cause, priced=action is OrderItemAction.MODIFY)
        add_charges(unit, meddle(charges))

    def _cause(self, product: Product, unit: Unit, order: str, item: str) -> Cause:
        assert product.billing_account is not None
        return Cause(
            account=product.billing_account.id or "",
            branch=self.branch,
            at=unit.at,
            product_id=product.id,
            order_id=order,
            order_item_id=item,
        )

    def pass_time(self, **spans: float) -> None:
        """Lets time pass."""
        self.clock.at += timedelta(**spans)


def held(product: Product) -> Held:
    return Held(
        status=product.status,
        prices=product.product_price,
        characteristics=product.product_characteristic,
        resting=product.resting_price,
    )


def dearer(charges: list[ChargeEvent]) -> list[ChargeEvent]:
    """Billing is told of a higher price than was agreed."""
    first, *rest = charges
    assert first.amount.value is not None
    return [replace(first, amount=replace(first.amount, value=first.amount.value + 1)), *rest]


def twice(charges: list[ChargeEvent]) -> list[ChargeEvent]:
    """Billing is told of the first one twice."""
    return [replace(charges[0], id=new_id()), *charges]


def forgotten(charges: list[ChargeEvent]) -> list[ChargeEvent]:
    """Billing isn't told of the first one."""
    return charges[1:]


__all__ = ["Operator", "SetClock", "dearer", "forgotten", "price", "twice"]
