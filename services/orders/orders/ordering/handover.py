"""A product goes from one customer to another, by an order of the one who takes it over.

The order names both: who gives it away in the role of `transferor`. What the former owner had agreed on, was granted
or belonged to stays behind with him; what was bought (offering, characteristics, commitment, since when) goes over, so
that no discount begins again.

What changes hands is priced within its offering for who takes it over, whether the order says of what offering it is or
not. A product that the catalog doesn't know goes on at what it costs without what its former owner was granted.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.products import PriceAlteration, ProductPrice
from chassis.types import EntityRef, Money, Price, RelatedParty, TimePeriod
from chassis.unit import Unit
from orders.billing.domain import ChargeAlteration
from orders.identity.store import same
from orders.inventory.domain import RECURRING, Product
from orders.ordering.chosen import Products, held_product, running_parts, unsegmented
from orders.ordering.domain import (
    MOVABLE,
    TRANSFEROR,
    ProductOrder,
    customers_of,
    product_ids,
    transferors_of,
    walk,
)
from orders.ordering.held import is_promotion
from orders.ordering.values import OrderItem, OrderItemAction


def check_transferor(order: ProductOrder) -> None:
    """Raises InvalidArgument TRANSFEROR for one without somebody else who takes over."""
    given = set(transferors_of(order.related_party))
    if given and (not order.customer_ids() or not given.isdisjoint(order.customer_ids())):
        raise InvalidArgument(
            "TRANSFEROR",
            "what is given away goes to the order's customer, who is another",
            violations=[Violation("related_party", f"a {TRANSFEROR} needs another party as the customer")],
        )


def within_offerings(order: ProductOrder, items: Sequence[OrderItem], products: Products) -> tuple[OrderItem, ...]:
    """The items of an order by which products change hands: each that changes a product says of what offering that is,
    so that it is priced for who takes it over, with its parts. Those of other orders as they are.

    Raises InvalidArgument TRANSFEROR also for the parts of a bundle that is of no offering, unless they have items of
    their own; STATUS_ALONE for an item that suspends or resumes a product besides.
    """
    if not transferors_of(order.related_party):
        return tuple(items)
    check_transferor(order)
    named = set(product_ids(items))
    left: list[Violation] = []
    status: list[Violation] = []
    for path, item in walk(items):
        product = held_product(item, products)
        if item.action is not OrderItemAction.MODIFY or item.product_offering is not None or product is None:
            continue
        if item.product is not None and item.product.status in MOVABLE:
            status.append(Violation(f"{path}.product.status", "an order of its own suspends or resumes a product"))
        if product.product_offering is None or not product.product_offering.id:
            parts = [part.id for part in running_parts(product, products, named)]
            if parts:
                why = f"no offering says what goes over with it: its parts {', '.join(parts)} need items of their own"
                left.append(Violation(f"{path}.product.id", why))
    if status:
        raise InvalidArgument("STATUS_ALONE", status[0].description, violations=status)
    if left:
        raise InvalidArgument("TRANSFEROR", left[0].description, violations=left)
    return tuple(_within_its_offering(item, products) for item in items)


def _within_its_offering(item: OrderItem, products: Products) -> OrderItem:
    inner = tuple(_within_its_offering(part, products) for part in item.product_order_item)
    item = replace(item, product_order_item=inner)
    product = held_product(item, products)
    held = product.product_offering if product is not None else None
    if item.action is not OrderItemAction.MODIFY or item.product_offering is not None or held is None or not held.id:
        return item
    return replace(item, product_offering=EntityRef(id=held.id, name=held.name))


def gives_away(unit: Unit, order: ProductOrder, product: Product) -> bool:
    """Whether the product is the transferor's, whichever of his ids it names."""
    return not _former(unit, order).isdisjoint(customers_of(product.related_party))


def as_taken_over(unit: Unit, order: ProductOrder, items: Sequence[OrderItem], products: Products) -> Products:
    """The products as the order's customer takes them over, with their parts; the others as they are."""
    former = _former(unit, order)
    if not former:
        return products
    given = set(_given(items, products, former))
    return {key: taken_over(order, one) if key in given else one for key, one in products.items()}


def _former(unit: Unit, order: ProductOrder) -> set[str]:
    named = transferors_of(order.related_party)
    return set(same(unit, named)) if named else set()


def _given(items: Sequence[OrderItem], products: Products, former: Collection[str]) -> Iterator[str]:
    changed = {
        item.product.id
        for _, item in walk(items)
        if item.action is OrderItemAction.MODIFY and item.product is not None and item.product.id
    }
    seen: set[str] = set()
    while wanted := changed - seen:
        seen |= wanted
        for key in wanted & products.keys():
            product = products[key]
            if not set(former).isdisjoint(customers_of(product.related_party)):
                yield key
                changed.update(product.part_ids)


def taken_over(order: ProductOrder, product: Product) -> Product:
    """A copy of the product as it is for its new customer, before he pays for it."""
    return replace(
        product,
        agreement=(),
        billing_account=None,
        # What somebody called his own is his.
        description=None,
        extensions=unsegmented(product.extensions),
        product_price=tuple(_ungranted(product.product_price)),
        related_party=tuple(new_parties(order)),
    )


def new_parties(order: ProductOrder) -> Iterable[RelatedParty]:
    """Whom the product names from then on."""
    return (party for party in order.related_party if (party.role or "").lower() != TRANSFEROR)


def _ungranted(prices: Iterable[ProductPrice]) -> Iterator[ProductPrice]:
    for price in prices:
        kept = tuple(one for one in price.product_price_alteration if not is_promotion(one))
        yield replace(price, product_price_alteration=kept)


# --- the price of what the catalog doesn't know ----------------------------------------------------------------------


def going_on(product: Product, at: datetime) -> tuple[ProductPrice, ...]:
    """The prices that a product of no offering has for who takes it over at the instant.

    Without promotions, and without what was limited and is over, they are what they were before these. A limited
    alteration that isn't over ends when it would have ended. Raises FailedPrecondition UNCHARGEABLE for one that falls
    away and doesn't say what it has taken off.
    """
    return tuple(_going_on(price, product.start_date, at) for price in product.product_price)


def _going_on(price: ProductPrice, start: datetime | None, at: datetime) -> ProductPrice:
    if price.price_type != RECURRING:
        return price
    begun = (price.valid_for.start_date_time if price.valid_for is not None else None) or start
    kept: list[PriceAlteration] = []
    gone: list[PriceAlteration] = []
    for one in price.product_price_alteration:
        limited = _limited(one, price, begun)
        ends = limited.valid_for.end_date_time if limited.valid_for is not None else None
        if is_promotion(one) or (ends is not None and ends <= at):
            gone.append(one)
        else:
            kept.append(limited)
    price = replace(price, product_price_alteration=tuple(kept))
    # What it costs by now wasn't sold before: no receipt explains it.
    return replace(price, price=_without(price, gone), receipt=None, valid_for=None) if gone else price


def _limited(alteration: PriceAlteration, price: ProductPrice, begun: datetime | None) -> PriceAlteration:
    """The alteration with its end, where it has one that can be told."""
    if alteration.valid_for is not None or alteration.application_duration is None or begun is None:
        return alteration
    units = alteration.unit_of_measure or price.recurring_charge_period
    lasting = ChargeAlteration(amount=Money(), duration=alteration.application_duration, units=units)
    ends = lasting.until(begun)
    if ends is None:
        return alteration
    return replace(alteration, valid_for=TimePeriod(start_date_time=begun, end_date_time=ends))


def _without(price: ProductPrice, gone: Iterable[PriceAlteration]) -> Price:
    """What the price is without these alterations, each an amount that it contains. The amount with tax is known as far
    as theirs are."""
    worth = price.price or Price()
    off, off_taxed, taxed = Decimal(), Decimal(), worth.tax_included_amount
    for one in gone:
        amount = one.price.duty_free_amount if one.price is not None else None
        if one.price is None or amount is None or amount.value is None:
            raise FailedPrecondition(
                "UNCHARGEABLE",
                f"{one.name!r} falls away from the price {price.name!r} and doesn't say by how much it has altered it",
                violations=[Violation("product_price", f"the alteration {one.name!r} has no duty-free amount")],
            )
        off += amount.value
        with_tax = one.price.tax_included_amount
        if with_tax is None or with_tax.value is None:
            taxed = None
        else:
            off_taxed += with_tax.value
    return replace(
        worth, duty_free_amount=_less(worth.duty_free_amount, off), tax_included_amount=_less(taxed, off_taxed)
    )


def _less(amount: Money | None, off: Decimal) -> Money | None:
    return amount if amount is None or amount.value is None else replace(amount, value=amount.value - off)
