"""What stands between an order and its start: whom and what it names that isn't known, or isn't its customer's."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from chassis.errors import InvalidArgument, Violation
from chassis.types import EntityRef
from orders.inventory.domain import Product
from orders.ordering.chosen import Products, agreement, held_product
from orders.ordering.domain import ProductOrder, customers_of, payer, transferors_of, walk
from orders.ordering.values import OrderItem, OrderItemAction, OrderPrice
from svyaz.customers.v1 import customers_pb2

# What an order may lack; a customer or account that isn't known is awaited by its id.
NO_CUSTOMER = "customer"
NO_PRICE = "price for the customer"
NO_ACCOUNT = "billingAccount"
NO_OFFERING = "productOffering of item "

# What an item costs for its whole quantity, by the item's id.
Charges = Mapping[str, Sequence[OrderPrice]]


@dataclass(frozen=True)
class Standing:
    """What stands between an order and its start."""

    # Awaited, by id or by name.
    missing: tuple[str, ...]
    # Products, accounts and agreements of others.
    foreign: tuple[Violation, ...]
    # Accounts that aren't kept in the currency of what they would pay for.
    unpayable: tuple[Violation, ...]

    @property
    def lacking(self) -> tuple[str, ...]:
        """All of it, as what the customer has yet to tell: for an order that has been taken before it came to this."""
        return (*self.missing, *dict.fromkeys(wrong.description for wrong in (*self.foreign, *self.unpayable)))

    def check(self) -> None:
        """Raises InvalidArgument OTHER_CUSTOMER, CURRENCY_MISMATCH: what waiting wouldn't mend."""
        if self.foreign:
            raise InvalidArgument(
                "OTHER_CUSTOMER", "the order names what isn't its customer's", violations=self.foreign
            )
        if self.unpayable:
            raise InvalidArgument(
                "CURRENCY_MISMATCH",
                "a price is in a currency that its billing account hasn't",
                violations=self.unpayable,
            )


def standing_of(
    order: ProductOrder,
    items: Sequence[OrderItem],
    sent: Sequence[OrderItem],
    products: Products,
    charges: Charges,
    context: customers_pb2.OrderingContext,
) -> Standing:
    """What the items lack; `sent`: without what they have been completed with."""
    customers = {row.id: row for row in context.customer if row.branch == order.branch}
    accounts = {row.id: row for row in context.billing_account if row.branch == order.branch}
    wanted = order.customer_ids()
    missing = [NO_CUSTOMER] if not wanted else [customer for customer in wanted if customer not in customers]
    # Whose it may be; who isn't known yet may turn out to be anybody.
    ours = None if missing else {*wanted, *(one for row in customers.values() for one in _ids(row))}
    foreign: dict[str, Violation] = {}
    if not missing:
        signed = {agreement for customer in wanted for agreement in customers[customer].agreement_id}
        foreign = _strange_agreements(order, sent, products, signed)
    unpayable: list[Violation] = []
    for path, item in walk(items):
        product = held_product(item, products)
        adds = item.action in (None, OrderItemAction.ADD)
        if adds and (item.product_offering is None or not item.product_offering.id):
            missing.append(f"{NO_OFFERING}{item.id}")
        if product is not None and ours is not None and not _theirs(customers_of(product.related_party), ours):
            foreign[product.id] = Violation(f"{path}.product.id", f"product {product.id} is another customer's")
            continue
        account = payer(order, item, product)
        if account is None or not account.id:
            if adds or _is_charged(order, item, product):
                missing.append(NO_ACCOUNT)
            continue
        known = accounts.get(account.id)
        if known is None:
            missing.append(account.id)
            continue
        if ours is not None and not _theirs(known.owner_id, ours):
            place = _place_of(account, order, item, path)
            foreign.setdefault(account.id, Violation(place, f"billing account {account.id} is another customer's"))
        strange = _currencies(charges.get(item.id or "", ())) - set(known.currency)
        if known.currency and strange:
            why = f"is priced in {', '.join(sorted(strange))}; billing account {account.id} has "
            unpayable.append(Violation(f"{path}.product_offering", why + ", ".join(sorted(known.currency))))
    return Standing(tuple(dict.fromkeys(missing)), tuple(foreign.values()), tuple(unpayable))


def _strange_agreements(
    order: ProductOrder, sent: Sequence[OrderItem], products: Products, signed: Collection[str]
) -> dict[str, Violation]:
    """By agreement: those that are named and that the customer hasn't. What a product was sold by stays its own."""
    named = {contract.id: "agreement" for contract in order.agreement if contract.id}
    for path, item in walk(sent):
        own = agreement(item.product)
        if own and own != agreement(held_product(item, products)):
            named.setdefault(own, f"{path}.product.agreement")
    return {
        signed_by: Violation(path, f"agreement {signed_by} isn't the customer's")
        for signed_by, path in named.items()
        if signed_by not in signed
    }


def _place_of(account: EntityRef, order: ProductOrder, item: OrderItem, path: str) -> str:
    if account is order.billing_account:
        return "billing_account.id"
    return f"{path}.billing_account.id" if account is item.billing_account else f"{path}.product.id"


def _currencies(prices: Iterable[OrderPrice]) -> set[str]:
    amounts = (price.price.duty_free_amount for price in prices if price.price is not None)
    return {amount.unit or "" for amount in amounts if amount is not None}


def _ids(customer: customers_pb2.OrderingCustomer) -> Iterable[str]:
    """By what names something may be the customer's: all that were merged, and the parties that these are."""
    return (*customer.member_id, *customer.member_party_id, customer.engaged_party_id)


def _theirs(owners: Sequence[str], ours: set[str]) -> bool:
    """Whether it belongs to one of ours; what names no customer may be anybody's."""
    return not owners or not ours.isdisjoint(owners)


def _is_charged(order: ProductOrder, item: OrderItem, product: Product | None) -> bool:
    """Whether billing will hear of an item that changes or ends a product."""
    if item.action is OrderItemAction.MODIFY and transferors_of(order.related_party):
        return item.product_offering is not None or (product is not None and bool(product.recurring_prices))
    if item.action is OrderItemAction.MODIFY and item.product_offering is not None:
        return True
    return item.action is OrderItemAction.DELETE and product is not None and bool(product.running_charges)


def as_sent_at(standing: Standing, sent: set[str]) -> Standing:
    """With the paths of the items that were sent, in the place of those that a bundle has been expanded to."""

    def placed(violation: Violation) -> Violation:
        path, _, attribute = violation.field.rpartition("].")
        while path and f"{path}]" not in sent:
            path = path.rpartition("].")[0]
        return Violation(f"{path}].{attribute}", violation.description) if path else violation

    return replace(
        standing,
        foreign=tuple(placed(violation) for violation in standing.foreign),
        unpayable=tuple({wrong.field: wrong for wrong in map(placed, standing.unpayable)}.values()),
    )
