"""A product goes from one customer to another, by an order of the one who takes it over.

The order names both: who gives it away in the role of `transferor`. What the former owner had agreed on, was granted
or belonged to stays behind with him; what was bought (offering, characteristics, commitment, since when) goes over, so
that no discount begins again.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from chassis.db import Unit
from chassis.errors import InvalidArgument, Violation
from chassis.products import ProductPrice
from chassis.types import RelatedParty
from orders.identity.store import same
from orders.inventory.domain import Product
from orders.ordering.chosen import Products, unsegmented
from orders.ordering.domain import TRANSFEROR, ProductOrder, customers_of, transferors_of, walk
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
