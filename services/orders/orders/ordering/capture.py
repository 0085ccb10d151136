"""Taking an order: what catalog and customers say about it, before anything is written."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from chassis import clients, convert
from chassis.errors import DomainError, InvalidArgument, Violation
from chassis.products import ProductRefOrValue
from chassis.types import EntityRef
from orders.inventory.characteristics import Configurator
from orders.inventory.domain import RECURRING, Product
from orders.ordering import chosen
from orders.ordering.completion import Completion, names_its_parts, total_of, totals_of
from orders.ordering.coupons import require_granted
from orders.ordering.domain import (
    ProductOrder,
    ProductOrderItem,
    assembled,
    check_number,
    product_ids,
    transferors_of,
    walk,
)
from orders.ordering.handover import within_offerings
from orders.ordering.held import held_charges
from orders.ordering.standing import Standing, as_sent_at, standing_of
from orders.ordering.values import OrderItem, OrderItemAction, OrderPrice
from svyaz.catalog.v1 import catalog_pb2_grpc, pricing_pb2, pricing_pb2_grpc
from svyaz.customers.v1 import customers_pb2, customers_pb2_grpc
from svyaz.type.v1 import receipt_pb2, values_pb2

_COUPON = "context.coupon["
_UNKNOWN_TERM = re.compile(r"item\[(\d+)\]\.term")
_PRICED = frozenset({OrderItemAction.ADD, OrderItemAction.MODIFY})
_LEAVING = frozenset({OrderItemAction.DELETE, OrderItemAction.MODIFY})

# What capture has put into an item: the whole of it, or attributes; and by what it was priced.
WHOLE, AGREEMENT, SEGMENT = "item", "agreement", "marketSegment"
ITEM_PRICE, ITEM_TOTAL_PRICE, SPECIFICATION = "itemPrice", "itemTotalPrice", "productSpecification"
OFFERING = "productOffering"
EXACT_VERSION, RECURRING_ONLY = "exactVersion", "recurringOnly"

# How many orders the customer of these ids placed before; None: nobody knows.
OrdersBefore = Callable[[Sequence[str]], int | None]


@dataclass(frozen=True)
class Captured:
    """An order's items as they will be kept, and what is still missing before it can start."""

    items: tuple[OrderItem, ...]
    # By item id.
    charges: Mapping[str, tuple[OrderPrice, ...]]
    # By item id: what was put into it.
    completed: Mapping[str, tuple[str, ...]]
    total: tuple[OrderPrice, ...]
    receipt: receipt_pb2.Receipt | None
    missing: tuple[str, ...]
    # All ids of the customer, as far as customers knows it.
    customer_ids: tuple[str, ...]


class Capture:
    """Asks catalog and customers, as the caller of the order."""

    def __init__(
        self,
        pricing: pricing_pb2_grpc.PricingServiceStub,
        catalog: catalog_pb2_grpc.CatalogServiceStub,
        customers: customers_pb2_grpc.CustomerServiceStub,
        configurator: Configurator | None = None,
    ) -> None:
        self._pricing = pricing
        self._catalog = catalog
        self._customers = customers
        self._configurator = configurator
        # Whether the last price compared how many orders the customer had before: then the next one will, most likely,
        # and is told at once.
        self._orders_compared = False

    def capture(
        self,
        order: ProductOrder,
        items: Sequence[OrderItem],
        products: chosen.Products,
        quantities: Mapping[str, int],
        *,
        exact_version: bool = False,
        exact: Collection[str] = (),
        charge_one_time: bool = True,
        orders_before: OrdersBefore = lambda _: None,
    ) -> Captured:
        """Validates and prices the order, as what was chosen, for its customer; `quantities`: how many each product of
        a bundle is.

        With `exact_version` by the very offerings that it names, not by the versions of them that are sold at the time
        (`exact`: only these items);
        without `charge_one_time` only what recurs is charged. `orders_before` counts the customer's earlier orders; it
        is asked when a promotion hangs on it.
        Raises InvalidArgument UNKNOWN_OFFERING, NO_PRICE_IN_CURRENCY, CURRENCY_MISMATCH, OTHER_CUSTOMER, UNKNOWN_TERM,
        BUNDLED_SELECTION, AGREEMENTS_DIFFER, CONFIGURATION, TRANSFEROR, STATUS_ALONE, INVALID_ITEMS;
        FailedPrecondition OFFERING_NOT_SELLABLE, OFFERING_NOT_ELIGIBLE; all with the paths of the items;
        COUPON_UNKNOWN, COUPON_EXPIRED, COUPON_EXHAUSTED, COUPON_NOT_APPLICABLE with those of the coupons.
        """
        sent, items = items, within_offerings(order, items, products)
        found = list(walk(items))
        to_price = [
            (path, item) for path, item in found if item.action in _PRICED and item.product_offering is not None
        ]
        context = clients.call(self._customers.GetOrderingContext, _context_request(order, items, products))
        buyer = _buyer(order, to_price, products, context)
        before_it = partial(orders_before, buyer.ids or order.customer_ids()[:1])
        price_request = pricing_pb2.PriceRequest(
            item=[
                _asked(item, chosen.held_product(item, products), products, exact_version or (item.id or "") in exact)
                for _, item in to_price
            ],
            context=_pricing_context(order, [item for _, item in found], products, buyer),
        )
        priced, selected = None, chosen.Selections()
        if to_price:
            if self._orders_compared and (before := before_it()) is not None:
                price_request.context.orders_before = before
            try:
                # One after the other: to have both under way costs grpc a thread for each, and more than it saves.
                priced, selected = self._priced(
                    price_request, [item for _, item in to_price], products, quantities, before_it
                )
            except DomainError as error:
                raise _at_items(error, [path for path, _ in to_price]) from error
        self._check_configured(found, products)
        receipt = priced.receipt if priced is not None and priced.HasField("receipt") else None
        require_granted(order, receipt)
        hands_over = bool(transferors_of(order.related_party))
        expansion = Completion(items, priced, products, selected.series, charge_one_time, buyer, hands_over)
        completed = tuple(expansion.complete(item, None) for item in items)
        # With the parts of bundles.
        check_number(sum(1 for _ in walk(completed)))
        standing = standing_of(order, completed, sent, products, expansion.charges, context)
        as_sent_at(standing, {path for path, _ in found}).check()
        how = tuple(what for what, so in ((EXACT_VERSION, exact_version), (RECURRING_ONLY, not charge_one_time)) if so)
        return Captured(
            items=completed,
            charges=expansion.charges,
            completed=_completed(sent, completed, how),
            total=_total(priced, expansion, charge_one_time),
            receipt=receipt,
            missing=standing.missing,
            customer_ids=buyer.ids,
        )

    def _check_configured(self, found: Sequence[tuple[str, OrderItem]], products: chosen.Products) -> None:
        """Raises InvalidArgument CONFIGURATION for characteristics that the specification doesn't allow."""
        wrong: list[Violation] = []
        for path, item in found:
            stated = item.product.product_characteristic if item.product is not None else ()
            said = {one.name or "" for one in stated}
            product = chosen.held_product(item, products)
            offering = item.product_offering or (product.product_offering if product is not None else None)
            if stated and self._configurator is not None and offering and offering.id and item.action in _PRICED:
                place = f"{path}.product.product_characteristic"
                if product is not None:
                    # What it has beside them, and isn't named, stays.
                    left = {one.name: one for one in chosen.characteristics(item, product)}
                    own = [left.pop(one.name) for one in stated if one.name in left]
                    stated = (*own, *left.values())
                if item.order_template or product is not None:
                    # Beside them a template says what only the tasks have to know: from whom a number comes, and when;
                    # and a product has what its tasks have given back.
                    names = self._configurator.declared(offering.id, stated)
                    names |= set() if item.order_template else said
                    stated = tuple(one for one in stated if one.name in names)
                wrong += self._configurator.violations(offering.id, stated, place) if stated else ()
        if wrong:
            raise InvalidArgument("CONFIGURATION", wrong[0].description, violations=wrong)

    def recapture(
        self,
        order: ProductOrder,
        rows: Sequence[ProductOrderItem],
        products: chosen.Products,
        quantities: Mapping[str, int],
        orders_before: OrdersBefore,
    ) -> Captured:
        """Prices items as they were sent anew, for what the order says by now; raises what `capture` does."""
        how = {what for row in rows for what in row.captured}
        return self.capture(
            order,
            as_sent(rows),
            products,
            quantities,
            exact_version=EXACT_VERSION in how,
            charge_one_time=RECURRING_ONLY not in how,
            orders_before=orders_before,
        )

    def _priced(
        self,
        request: pricing_pb2.PriceRequest,
        items: Sequence[OrderItem],
        products: chosen.Products,
        quantities: Mapping[str, int],
        orders_before: Callable[[], int | None],
    ) -> tuple[pricing_pb2.PriceResponse, chosen.Selections]:
        """What the catalog asks. Of a bundle that is held only its first answer says what version it becomes; the
        second is for the parts that are held."""
        priced = self._price(request, items, orders_before)
        bundles: dict[str, chosen.HeldBundle] = {}
        named = set(product_ids(items))
        for item, answer in zip(items, priced.item, strict=True):
            product = chosen.held_product(item, products)
            if product is None or item.product_order_item or names_its_parts(item):
                continue
            parts = list(chosen.running_parts(product, products, named))
            if parts and answer.bundled_item:
                bundles[product.id] = chosen.HeldBundle(product, answer.product_offering.id, parts, quantities)
        if not bundles:
            return priced, chosen.Selections()
        selected = chosen.selections(self._catalog, list(bundles.values()))
        for item, asked in zip(items, request.item, strict=True):
            product = chosen.held_product(item, products)
            asked.bundled.extend(selected.bundled.get(product.id, ()) if product is not None else ())
        return self._price(request, items, orders_before), selected

    def _price(
        self, request: pricing_pb2.PriceRequest, items: Sequence[OrderItem], orders_before: Callable[[], int | None]
    ) -> pricing_pb2.PriceResponse:
        """The answer. A commitment that a product has and its new offering doesn't know doesn't count any more; nor
        does one that the order states of an offering which is sold without any: it is kept, and changes no price."""
        while True:
            try:
                answer: pricing_pb2.PriceResponse = clients.call(self._pricing.Price, request)
            except InvalidArgument as error:
                unknown = {int(n) for wrong in error.violations for n in _UNKNOWN_TERM.findall(wrong.field)}
                free = not error.metadata.get("terms")
                outlived = [n for n in unknown if request.item[n].term and (free or not chosen.stated_term(items[n]))]
                if error.reason != "UNKNOWN_TERM" or not outlived:
                    raise
                for n in outlived:
                    request.item[n].term = ""
                continue
            self._orders_compared = answer.orders_before_compared
            asks = answer.orders_before_compared and not request.context.HasField("orders_before")
            before = orders_before() if asks else None
            if before is None:
                return answer
            request.context.orders_before = before

    def standing(self, order: ProductOrder, rows: Sequence[ProductOrderItem], products: chosen.Products) -> Standing:
        """What the order, as it is kept, lacks by now."""
        items = assembled(rows)
        context = clients.call(self._customers.GetOrderingContext, _context_request(order, items, products))
        charges = {row.item.id or "": row.charge for row in rows}
        return standing_of(order, items, as_sent(rows), products, charges, context)


def as_sent(rows: Sequence[ProductOrderItem]) -> tuple[OrderItem, ...]:
    """The items without what capture has put into them."""
    return assembled([row for row in rows if WHOLE not in row.captured], _stripped)


def _stripped(row: ProductOrderItem) -> OrderItem:
    item, product = row.item, row.item.product
    if product is not None:
        product = replace(
            product,
            agreement=() if AGREEMENT in row.captured else product.agreement,
            extensions=chosen.unsegmented(product.extensions) if SEGMENT in row.captured else product.extensions,
            product_specification=None if SPECIFICATION in row.captured else product.product_specification,
        )
    return replace(
        item,
        product=product,
        product_offering=None if OFFERING in row.captured else item.product_offering,
        item_price=() if ITEM_PRICE in row.captured else item.item_price,
        item_total_price=() if ITEM_TOTAL_PRICE in row.captured else item.item_total_price,
    )


def _completed(
    sent: Sequence[OrderItem], completed: Sequence[OrderItem], how: tuple[str, ...]
) -> Mapping[str, tuple[str, ...]]:
    """By item id, what is in the completed items that wasn't in those that were sent."""
    before = {item.id: item for _, item in walk(sent)}
    return {
        item.id or "": (*_put_in(before[item.id], item), *how) if item.id in before else (WHOLE,)
        for _, item in walk(completed)
    }


def _put_in(before: OrderItem, after: OrderItem) -> Iterable[str]:
    nothing = ProductRefOrValue()
    old, new = before.product or nothing, after.product or nothing
    changed = {
        AGREEMENT: old.agreement != new.agreement,
        SEGMENT: chosen.market_segments(old) != chosen.market_segments(new),
        SPECIFICATION: old.product_specification != new.product_specification,
        OFFERING: before.product_offering is None and after.product_offering is not None,
        ITEM_PRICE: before.item_price != after.item_price,
        ITEM_TOTAL_PRICE: before.item_total_price != after.item_total_price,
    }
    return [what for what, so in changed.items() if so]


def _context_request(
    order: ProductOrder, items: Sequence[OrderItem], products: chosen.Products
) -> customers_pb2.GetOrderingContextRequest:
    accounts = [order.billing_account, *(item.billing_account for _, item in walk(items))]
    accounts += [product.billing_account for product in products.values()]
    return customers_pb2.GetOrderingContextRequest(
        customer_id=order.customer_ids(),
        billing_account_id=dict.fromkeys(account.id for account in accounts if account is not None and account.id),
    )


def _asked(
    item: OrderItem, product: Product | None, products: chosen.Products, exact_version: bool
) -> pricing_pb2.PriceRequestItem:
    """What the catalog is asked for an item. What isn't stated costs nothing: most orders state nothing."""
    asked = pricing_pb2.PriceRequestItem(
        id=item.id or "",
        product_offering_id=(item.product_offering.id or "") if item.product_offering else "",
        quantity=1 if item.quantity is None else item.quantity,
        exact_version=exact_version or chosen.holds(item, products),
        term=chosen.stated_term(item) or chosen.held_term(product),
    )
    for characteristic in chosen.characteristics(item, product):
        asked.characteristic.append(convert.to_message(characteristic, values_pb2.Characteristic))
    if product is not None and product.start_date is not None:
        asked.started_at.CopyFrom(convert.to_timestamp(product.start_date))
    return asked


def _buyer(
    order: ProductOrder,
    priced: Sequence[tuple[str, OrderItem]],
    products: chosen.Products,
    context: customers_pb2.OrderingContext,
) -> chosen.Buyer:
    """What customers knows of the order's customer, and the frame contract that the order is priced by."""
    known = [row for row in context.customer if row.id == order.customer_id and row.branch == order.branch]
    signed = {agreement for row in known for agreement in row.agreement_id}
    return chosen.Buyer(
        tuple(convert.from_message(one, EntityRef) for row in known for one in row.market_segment),
        _agreement(order, priced, products) or (signed.pop() if len(signed) == 1 else ""),
        tuple(one for row in known for one in row.member_id),
    )


def _agreement(order: ProductOrder, priced: Sequence[tuple[str, OrderItem]], products: chosen.Products) -> str:
    """The frame contract that the priced items name, else the order, else the products that they change; a product
    keeps its own beside items that name theirs, unless the order names one for all. Empty: none is named.

    Raises InvalidArgument AGREEMENTS_DIFFER with their paths where there would have to be several: a request is priced
    by one, and nobody's should be charged to what another's was agreed for, nor be forgotten.
    """
    ordered = {"agreement": {agreement.id for agreement in order.agreement if agreement.id}}
    stated: dict[str, set[str]] = {}
    held: dict[str, set[str]] = {}
    for path, item in priced:
        own, had = chosen.agreement(item.product), chosen.agreement(chosen.held_product(item, products))
        if own:
            stated[f"{path}.product.agreement"] = {own}
        elif had and not ordered["agreement"]:
            held[f"{path}.product.id"] = {had}
    named = stated | held or ordered
    found = set().union(*named.values())
    if len(found) > 1:
        raise InvalidArgument(
            "AGREEMENTS_DIFFER",
            "what goes by different frame contracts is ordered apart",
            violations=[
                Violation(path, f"frame contract {', '.join(sorted(agreements))}") for path, agreements in named.items()
            ],
        )
    return found.pop() if found else ""


def _pricing_context(
    order: ProductOrder, items: Sequence[OrderItem], products: chosen.Products, buyer: chosen.Buyer
) -> pricing_pb2.PricingContext:
    # What ends says nothing of what is bought.
    bought = [item for item in items if item.action in _PRICED]
    held = [product for item in bought if (product := chosen.held_product(item, products)) is not None]
    named = set(product_ids(items))
    return pricing_pb2.PricingContext(
        branch=order.branch,
        customer_id=order.customer_id,
        # Of whom customers knows nothing, what the inventory does.
        market_segment=buyer.segments or chosen.in_common(map(chosen.market_segments, held)),
        channel=_channel(order),
        place=_place(bought)
        or chosen.in_common(tuple(place.id for place in product.place if place.id) for product in held),
        agreement_id=buyer.agreement_id,
        coupon=order.coupon,
        order_id=order.id if order.coupon else "",
        held_charge=[
            charge
            for item in items
            if item.action in _PRICED and (product := chosen.held_product(item, products)) is not None
            for charge in held_charges(item.id or "", product, list(chosen.running_parts(product, products, named)))
        ],
        for_sale=True,
        same_customer_id=buyer.ids if len(buyer.ids) > 1 else (),
        leaving_product=[
            item.product.id
            for item in items
            if item.action in _LEAVING and item.product is not None and item.product.id
        ],
    )


def _channel(order: ProductOrder) -> str:
    """The one that the order came by; of several none is known."""
    named = {channel.id or channel.name or "" for channel in order.channel}
    return named.pop() if len(named) == 1 else ""


def _place(items: Iterable[OrderItem]) -> list[str]:
    """Where it is to be, if that is one place for all items that say so."""
    stated = {
        tuple(place.id for place in item.product.place if place.id)
        for item in items
        if item.product is not None and item.product.place
    }
    return list(stated.pop()) if len(stated) == 1 else []


def _total(
    priced: pricing_pb2.PriceResponse | None, completion: Completion, charge_one_time: bool
) -> tuple[OrderPrice, ...]:
    """The order's total: the catalog's, or (where not all that the catalog prices is charged) that of the charges."""
    if completion.recurring_only and charge_one_time:
        return totals_of(completion.charges)
    totals = priced.total if priced is not None else ()
    return tuple(total_of(total) for total in totals if charge_one_time or total.price_type == RECURRING)


def _at_items(error: DomainError, paths: Sequence[str]) -> DomainError:
    """The catalog's refusal, with its paths (`item[0].…`, `context.coupon[0]`) as those of the order."""
    violations = []
    for violation in error.violations:
        if violation.field.startswith(_COUPON):
            violations.append(Violation(violation.field.removeprefix("context."), violation.description))
            continue
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
