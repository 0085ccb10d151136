"""Completing an order's items with what the catalog says of them: prices, accounts, and the parts of bundles."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from chassis import convert
from chassis.products import PriceAlteration, ProductRefOrValue
from chassis.types import EntityRef, Money, Price, ProductSpecificationRef, TimePeriod
from orders.inventory.domain import RECURRING, RUNNING, Product
from orders.ordering.chosen import Buyer, Products, held_product, holds, offering_id
from orders.ordering.domain import product_ids, walk
from orders.ordering.values import OrderItem, OrderItemAction, OrderPrice
from svyaz.catalog.v1 import pricing_pb2

# What ordering brings about: not what use, or leaving early, costs.
DUE = frozenset({"oneTime", RECURRING})


class Completion:
    """Completes items with their prices, accounts and parts: what a bundle consists of goes on as items below it."""

    def __init__(
        self,
        items: Sequence[OrderItem],
        priced: pricing_pb2.PriceResponse | None,
        products: Products,
        series: Mapping[str, str],
        charge_one_time: bool,
        buyer: Buyer,
        hands_over: bool = False,
    ) -> None:
        self._answers = {answer.id: answer for answer in priced.item} if priced is not None else {}
        self._products = products
        self._series = series
        self._due = DUE if charge_one_time else frozenset({RECURRING})
        self._buyer = buyer
        # Whether products change hands by the order.
        self._hands_over = hands_over
        self._taken = {item.id or "" for _, item in walk(items)}
        # A product that has an item of its own needs none as a part.
        self._named = set(product_ids(items))
        self.charges: dict[str, tuple[OrderPrice, ...]] = {}
        # Whether an item is charged for what recurs only, where others are charged for all.
        self.recurring_only = False

    def complete(self, item: OrderItem, account: EntityRef | None) -> OrderItem:
        """The item with what it costs and consists of; `account` is that of the item around it."""
        item = replace(item, billing_account=item.billing_account or account)
        product = held_product(item, self._products)
        answer = self._answers.get(item.id or "")
        inner = tuple(self.complete(part, item.billing_account) for part in item.product_order_item)
        if answer is not None:
            due = self._due_of(item)
            self.charges[item.id or ""] = prices = _order_prices(answer.component, due)
            if not inner and not names_its_parts(item):
                inner = self._parts(item, answer, product, due)
            item = _named(item, answer)
            item = replace(item, item_price=item.item_price or prices, item_total_price=item.item_total_price or prices)
            item = replace(item, product=self._buyer.bought(item.product, product))
        elif item.action is OrderItemAction.DELETE and product is not None:
            inner = (*inner, *self._ends(item, self._running_parts(product)))
        return replace(item, product_order_item=inner)

    def _due_of(self, item: OrderItem) -> Collection[str]:
        """The kinds of prices that the item is charged for: what moves by a template, or changes hands, is there
        already, and isn't connected again."""
        if (item.order_template or self._hands_over) and holds(item, self._products):
            self.recurring_only = True
            return frozenset({RECURRING})
        return self._due

    def _parts(
        self, item: OrderItem, answer: pricing_pb2.PricedItem, product: Product | None, due: Collection[str]
    ) -> tuple[OrderItem, ...]:
        """The offerings of a bundle, each with its own charges: a part that is there is changed, another is added, and
        a part that the bundle hasn't any more ends."""
        there = self._running_parts(product) if product is not None else []
        account = item.billing_account or (product.billing_account if product is not None else None)
        parts = []
        for part in answer.bundled_item:
            wanted = self._line(part.product_offering.id)
            kept = next((one for one in there if self._line(offering_id(one) or "") == wanted), None)
            if kept is not None:
                there.remove(kept)
            part_id = self._new_id(item)
            self.charges[part_id] = prices = _order_prices(part.component, due)
            place = item.product.place if item.product is not None and kept is not None else ()
            inner = OrderItem(
                id=part_id,
                action=OrderItemAction.ADD if kept is None else OrderItemAction.MODIFY,
                quantity=part.quantity,
                billing_account=account,
                # What is inside goes where the whole goes.
                product=self._buyer.bought(None if kept is None else ProductRefOrValue(id=kept.id, place=place), kept),
                product_offering=convert.from_message(part.product_offering, EntityRef),
                item_price=prices,
                item_total_price=prices,
            )
            inner = _named(inner, part)
            parts.append(replace(inner, product_order_item=self._parts(inner, part, kept, due)))
        return (*parts, *self._ends(item, there))

    def _ends(self, item: OrderItem, products: Iterable[Product]) -> Iterable[OrderItem]:
        for product in products:
            end = OrderItem(
                id=self._new_id(item),
                action=OrderItemAction.DELETE,
                product=ProductRefOrValue(id=product.id, product_specification=product.product_specification),
                product_offering=product.product_offering,
            )
            yield replace(end, product_order_item=tuple(self._ends(end, self._running_parts(product))))

    def _running_parts(self, product: Product) -> list[Product]:
        parts = [self._products[part] for part in product.part_ids if part in self._products]
        return [part for part in parts if part.status in RUNNING and part.id not in self._named]

    def _line(self, offering_id: str) -> str:
        """The series of a part, where that is known: another version of it takes its place."""
        return self._series.get(offering_id, offering_id)

    def _new_id(self, item: OrderItem) -> str:
        number = 1
        while (part_id := f"{item.id}.{number}") in self._taken:
            number += 1
        self._taken.add(part_id)
        return part_id


def _named(item: OrderItem, answer: pricing_pb2.PricedItem) -> OrderItem:
    """The item with what the catalog calls its offering, and the specification that the network has to realize."""
    offering = item.product_offering or EntityRef(id=answer.product_offering.id)
    if offering.id != answer.product_offering.id:
        # Another version of what was asked for is sold by now.
        offering = convert.from_message(answer.product_offering, EntityRef)
    product = item.product or ProductRefOrValue()
    specification = product.product_specification
    if specification is None and answer.product_specification.id:
        specification = ProductSpecificationRef(
            id=answer.product_specification.id, name=answer.product_specification.name or None
        )
    return replace(
        item,
        product_offering=replace(offering, name=offering.name or answer.product_offering.name or None),
        product=replace(product, product_specification=specification) if specification is not None else item.product,
    )


def names_its_parts(item: OrderItem) -> bool:
    return any((relation.relationship_type or "") == "bundles" for relation in item.product_order_item_relationship)


def _order_prices(components: Iterable[pricing_pb2.PriceComponent], due: Collection[str]) -> tuple[OrderPrice, ...]:
    """What ordering brings about, of these kinds: not what a later phase asks."""
    return tuple(
        OrderPrice(
            name=component.name or None,
            price_type=component.price_type,
            recurring_charge_period=component.recurring_charge_period or None,
            price=_price(
                convert.from_money(component.amount),
                convert.from_money(component.tax_included_amount)
                if component.HasField("tax_included_amount")
                else None,
                Decimal(component.tax_rate) if component.HasField("tax_rate") else None,
            ),
            price_alteration=tuple(
                PriceAlteration(
                    name=alteration.name or None,
                    price_type=component.price_type,
                    priority=alteration.priority,
                    application_duration=alteration.application_duration.amount or None,
                    unit_of_measure=alteration.application_duration.units or None,
                    price=Price(
                        percentage=Decimal(alteration.percentage) if alteration.HasField("percentage") else None,
                        duty_free_amount=convert.from_money(alteration.amount),
                        tax_included_amount=(
                            convert.from_money(alteration.tax_included_amount)
                            if alteration.HasField("tax_included_amount")
                            else None
                        ),
                    ),
                    product_offering_price=(
                        convert.from_message(alteration.product_offering_price, EntityRef)
                        if alteration.product_offering_price.id
                        else None
                    ),
                    valid_for=(
                        convert.from_message(alteration.valid_for, TimePeriod)
                        if alteration.HasField("valid_for")
                        else None
                    ),
                )
                for alteration in component.alteration
            ),
            product_offering_price=(
                convert.from_message(component.product_offering_price, EntityRef)
                if component.product_offering_price.id
                else None
            ),
        )
        for component in components
        if component.price_type in due and not component.HasField("phase_start")
    )


def _price(amount: Money, tax_included: Money | None, tax_rate: Decimal | None) -> Price:
    return Price(duty_free_amount=amount, tax_included_amount=tax_included or amount, tax_rate=tax_rate)


def total_of(total: pricing_pb2.PriceTotal) -> OrderPrice:
    return OrderPrice(
        price_type=total.price_type,
        recurring_charge_period=total.recurring_charge_period or None,
        price=_price(
            convert.from_money(total.amount),
            convert.from_money(total.tax_included_amount) if total.HasField("tax_included_amount") else None,
            None,
        ),
    )


def totals_of(charges: Mapping[str, Sequence[OrderPrice]]) -> tuple[OrderPrice, ...]:
    """What these come to, by kind, period and currency."""
    found: dict[tuple[str | None, str | None, str | None], tuple[Decimal, Decimal]] = {}
    for price in (price for prices in charges.values() for price in prices):
        cost = price.price or Price()
        amount, taxed = cost.duty_free_amount, cost.tax_included_amount or cost.duty_free_amount
        if amount is None or amount.value is None or taxed is None or taxed.value is None:
            continue
        key = (price.price_type, price.recurring_charge_period, amount.unit)
        before = found.get(key, (Decimal(0), Decimal(0)))
        found[key] = (before[0] + amount.value, before[1] + taxed.value)
    return tuple(
        OrderPrice(
            price_type=kind,
            recurring_charge_period=period,
            price=_price(Money(unit=unit, value=amount), Money(unit=unit, value=taxed), None),
        )
        for (kind, period, unit), (amount, taxed) in found.items()
    )
