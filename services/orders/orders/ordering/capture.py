"""Taking an order: what catalog and customers say about it, before anything is written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from chassis import clients, convert
from chassis.errors import DomainError, InvalidArgument, Violation
from chassis.types import EntityRef, Money, Price, ProductSpecificationRef
from orders.inventory.values import PriceAlteration, ProductRefOrValue
from orders.ordering.domain import ProductOrder, walk
from orders.ordering.values import OrderItem, OrderItemAction, OrderPrice
from svyaz.catalog.v1 import pricing_pb2, pricing_pb2_grpc
from svyaz.customers.v1 import customers_pb2, customers_pb2_grpc
from svyaz.type.v1 import receipt_pb2

# What an order may lack; a customer or account that isn't known is awaited by its id.
NO_CUSTOMER = "customer"
NO_ACCOUNT = "billingAccount"
NO_OFFERING = "productOffering of item "

_PRICED = frozenset({OrderItemAction.ADD, OrderItemAction.MODIFY})


@dataclass(frozen=True)
class Captured:
    """An order's items as they will be kept, and what is still missing before it can start."""

    items: tuple[OrderItem, ...]
    # By item id.
    charges: Mapping[str, tuple[OrderPrice, ...]]
    total: tuple[OrderPrice, ...]
    receipt: receipt_pb2.Receipt | None
    missing: tuple[str, ...]


class Capture:
    """Asks catalog and customers, as the caller of the order."""

    def __init__(self, catalog: pricing_pb2_grpc.PricingServiceStub, customers: customers_pb2_grpc.CustomerServiceStub):
        self._catalog = catalog
        self._customers = customers

    def capture(self, order: ProductOrder, items: Sequence[OrderItem]) -> Captured:
        """Validates and prices the order.

        Raises InvalidArgument UNKNOWN_OFFERING, NO_PRICE_IN_CURRENCY, CURRENCY_MISMATCH; FailedPrecondition
        OFFERING_NOT_SELLABLE; all with the paths of the items.
        """
        found = list(walk(items))
        accounts = _accounts(order, (item for _, item in found))
        context_request = customers_pb2.GetOrderingContextRequest(
            customer_id=order.customer_ids(), billing_account_id=accounts
        )
        to_price = [
            (path, item) for path, item in found if item.action in _PRICED and item.product_offering is not None
        ]
        price_request = pricing_pb2.PriceRequest(
            item=[
                pricing_pb2.PriceRequestItem(
                    id=item.id or "",
                    product_offering_id=(item.product_offering.id or "") if item.product_offering else "",
                    quantity=1 if item.quantity is None else item.quantity,
                )
                for _, item in to_price
            ],
            context=pricing_pb2.PricingContext(
                branch=order.branch, customer_id=order.customer_ids()[0] if order.customer_ids() else ""
            ),
        )
        if to_price:
            try:
                # One after the other: to have both under way costs grpc a thread for each, and more than it saves.
                priced = clients.call(self._catalog.Price, price_request)
            except DomainError as error:
                raise _at_items(error, [path for path, _ in to_price]) from error
        else:
            priced = None
        context = clients.call(self._customers.GetOrderingContext, context_request)
        return _captured(order, items, context, priced, [path for path, _ in to_price])

    def missing(self, order: ProductOrder, items: Sequence[OrderItem]) -> tuple[str, ...]:
        """What the order still lacks by now."""
        request = customers_pb2.GetOrderingContextRequest(
            customer_id=order.customer_ids(), billing_account_id=_accounts(order, (item for _, item in walk(items)))
        )
        context = clients.call(self._customers.GetOrderingContext, request)
        return _missing(order, items, context)


def _accounts(order: ProductOrder, items: Iterable[OrderItem]) -> list[str]:
    references = [order.billing_account, *(item.billing_account for item in items)]
    return list(dict.fromkeys(reference.id for reference in references if reference is not None and reference.id))


def _missing(
    order: ProductOrder, items: Sequence[OrderItem], context: customers_pb2.OrderingContext
) -> tuple[str, ...]:
    known = {row.id for row in context.customer if row.branch == order.branch}
    known |= {row.id for row in context.billing_account if row.branch == order.branch}
    lacking: list[str] = []
    customers = order.customer_ids()
    lacking += [NO_CUSTOMER] if not customers else [party for party in customers if party not in known]
    for _, item in walk(items):
        account = item.billing_account or order.billing_account
        adds = item.action in (None, OrderItemAction.ADD)
        if adds and (item.product_offering is None or not item.product_offering.id):
            lacking.append(f"{NO_OFFERING}{item.id}")
        if account is not None and account.id:
            lacking += [account.id] if account.id not in known else []
        elif adds:
            lacking.append(NO_ACCOUNT)
    return tuple(dict.fromkeys(lacking))


def _captured(
    order: ProductOrder,
    items: Sequence[OrderItem],
    context: customers_pb2.OrderingContext,
    priced: pricing_pb2.PriceResponse | None,
    paths: Sequence[str],
) -> Captured:
    answers = {answer.id: answer for answer in priced.item} if priced is not None else {}
    place = {answer.id: path for answer, path in zip(priced.item, paths, strict=True)} if priced is not None else {}
    currencies = {account.id: set(account.currency) for account in context.billing_account}
    charges: dict[str, tuple[OrderPrice, ...]] = {}
    wrong: list[Violation] = []
    taken = {item.id or "" for _, item in walk(items)}

    def complete(item: OrderItem, account: EntityRef | None) -> OrderItem:
        account = item.billing_account or account
        answer = answers.get(item.id or "")
        inner = item.product_order_item
        if answer is not None:
            charges[item.id or ""] = _order_prices(answer.component)
            allowed = currencies.get(account.id or "", set()) if account is not None else set()
            found = _currencies(answer)
            if allowed and not found <= allowed:
                wrong.append(
                    Violation(
                        f"{place[answer.id]}.product_offering",
                        f"is priced in {', '.join(sorted(found - allowed))}; "
                        f"the billing account has {', '.join(sorted(allowed))}",
                    )
                )
            if not inner and not _names_its_parts(item):
                inner = _expanded(item, answer, charges, taken)
            item = _named(item, answer)
            prices = charges[item.id or ""]
            item = replace(item, item_price=item.item_price or prices, item_total_price=item.item_total_price or prices)
        return replace(item, product_order_item=tuple(complete(part, account) for part in inner))

    completed = tuple(complete(item, order.billing_account) for item in items)
    if wrong:
        raise InvalidArgument(
            "CURRENCY_MISMATCH", "a price is in a currency that its billing account hasn't", violations=wrong
        )
    return Captured(
        items=completed,
        charges=charges,
        total=tuple(_total(total) for total in priced.total) if priced is not None else (),
        receipt=priced.receipt if priced is not None and priced.HasField("receipt") else None,
        missing=_missing(order, items, context),
    )


def _named(item: OrderItem, answer: pricing_pb2.PricedItem) -> OrderItem:
    """The item with what the catalog calls its offering, and the specification that the network has to realize."""
    offering = item.product_offering or EntityRef(id=answer.product_offering.id)
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


def _names_its_parts(item: OrderItem) -> bool:
    return any((relation.relationship_type or "") == "bundles" for relation in item.product_order_item_relationship)


def _currencies(answer: pricing_pb2.PricedItem) -> set[str]:
    own = {component.amount.unit for component in answer.component}
    return own.union(*(_currencies(part) for part in answer.bundled_item))


def _expanded(
    item: OrderItem,
    answer: pricing_pb2.PricedItem,
    charges: dict[str, tuple[OrderPrice, ...]],
    taken: set[str],
) -> tuple[OrderItem, ...]:
    """The offerings of a bundle as items below it, each with its own charges."""
    parts = []
    for number, part in enumerate(answer.bundled_item, 1):
        part_id = f"{item.id}.{number}"
        while part_id in taken:
            part_id += "'"
        taken.add(part_id)
        charges[part_id] = _order_prices(part.component)
        inner = OrderItem(
            id=part_id,
            action=item.action,
            quantity=part.quantity,
            billing_account=item.billing_account,
            product_offering=convert.from_message(part.product_offering, EntityRef),
            item_price=charges[part_id],
            item_total_price=charges[part_id],
        )
        inner = _named(inner, part)
        parts.append(replace(inner, product_order_item=_expanded(inner, part, charges, taken)))
    return tuple(parts)


def _order_prices(components: Iterable[pricing_pb2.PriceComponent]) -> tuple[OrderPrice, ...]:
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
                    price=Price(
                        percentage=Decimal(alteration.percentage) if alteration.HasField("percentage") else None,
                        duty_free_amount=convert.from_money(alteration.amount),
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
    )


def _price(amount: Money, tax_included: Money | None, tax_rate: Decimal | None) -> Price:
    return Price(duty_free_amount=amount, tax_included_amount=tax_included or amount, tax_rate=tax_rate)


def _total(total: pricing_pb2.PriceTotal) -> OrderPrice:
    return OrderPrice(
        price_type=total.price_type,
        recurring_charge_period=total.recurring_charge_period or None,
        price=_price(
            convert.from_money(total.amount),
            convert.from_money(total.tax_included_amount) if total.HasField("tax_included_amount") else None,
            None,
        ),
    )


def _at_items(error: DomainError, paths: Sequence[str]) -> DomainError:
    """The catalog's refusal, with its paths (`item[0].…`) as those of the order's items."""
    violations = []
    for violation in error.violations:
        index, closed, rest = violation.field.removeprefix("item[").partition("]")
        known = violation.field.startswith("item[") and closed and index.isdigit() and int(index) < len(paths)
        field = (
            paths[int(index)] + rest.replace(".product_offering_id", ".product_offering.id")
            if known
            else violation.field
        )
        violations.append(Violation(field, violation.description))
    refusal = type(error)(error.reason, error.message, violations=violations, metadata=error.metadata)
    refusal.status = error.status
    return refusal
