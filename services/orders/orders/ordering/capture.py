"""Taking an order: what catalog and customers say about it, before anything is written."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial

from chassis import clients, convert
from chassis.errors import DomainError, InvalidArgument, Violation
from chassis.products import PriceAlteration, ProductRefOrValue
from chassis.types import EntityRef, Money, Price, ProductSpecificationRef, TimePeriod
from orders.inventory.characteristics import Configurator
from orders.inventory.domain import RECURRING, RUNNING, Product
from orders.ordering import chosen
from orders.ordering.coupons import require_granted
from orders.ordering.domain import ProductOrder, ProductOrderItem, assembled, customers_of, payer, product_ids, walk
from orders.ordering.held import held_charges
from orders.ordering.values import OrderItem, OrderItemAction, OrderPrice
from svyaz.catalog.v1 import catalog_pb2_grpc, pricing_pb2, pricing_pb2_grpc
from svyaz.customers.v1 import customers_pb2, customers_pb2_grpc
from svyaz.type.v1 import receipt_pb2, values_pb2

# What an order may lack; a customer or account that isn't known is awaited by its id.
NO_CUSTOMER = "customer"
NO_PRICE = "price for the customer"
NO_ACCOUNT = "billingAccount"
NO_OFFERING = "productOffering of item "

_COUPON = "context.coupon["
_UNKNOWN_TERM = re.compile(r"item\[(\d+)\]\.term")
# What ordering brings about: not what use, or leaving early, costs.
DUE = frozenset({"oneTime", RECURRING})
_PRICED = frozenset({OrderItemAction.ADD, OrderItemAction.MODIFY})
_LEAVING = frozenset({OrderItemAction.DELETE, OrderItemAction.MODIFY})

# What capture has put into an item: the whole of it, or attributes; and by what it was priced.
WHOLE, AGREEMENT, SEGMENT = "item", "agreement", "marketSegment"
ITEM_PRICE, ITEM_TOTAL_PRICE, SPECIFICATION = "itemPrice", "itemTotalPrice", "productSpecification"
EXACT_VERSION, RECURRING_ONLY = "exactVersion", "recurringOnly"

# Products by id: those that an order's items name, with what these bundle.
Products = Mapping[str, Product]
# What an item costs for its whole quantity, by the item's id.
Charges = Mapping[str, Sequence[OrderPrice]]
# How many orders the customer of these ids placed before; None: nobody knows.
OrdersBefore = Callable[[Sequence[str]], int | None]


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
        products: Products,
        quantities: Mapping[str, int],
        *,
        exact_version: bool = False,
        charge_one_time: bool = True,
        orders_before: OrdersBefore = lambda _: None,
    ) -> Captured:
        """Validates and prices the order, as what was chosen, for its customer; `quantities`: how many each product of
        a bundle is.

        With `exact_version` by the very offerings that it names, not by the versions of them that are sold at the time;
        without `charge_one_time` only what recurs is charged. `orders_before` counts the customer's earlier orders; it
        is asked when a promotion hangs on it.
        Raises InvalidArgument UNKNOWN_OFFERING, NO_PRICE_IN_CURRENCY, CURRENCY_MISMATCH, OTHER_CUSTOMER, UNKNOWN_TERM,
        BUNDLED_SELECTION, AGREEMENTS_DIFFER, CONFIGURATION; FailedPrecondition OFFERING_NOT_SELLABLE,
        OFFERING_NOT_ELIGIBLE; all with the paths of the items; COUPON_UNKNOWN, COUPON_EXPIRED, COUPON_EXHAUSTED,
        COUPON_NOT_APPLICABLE with those of the coupons.
        """
        found = list(walk(items))
        to_price = [
            (path, item) for path, item in found if item.action in _PRICED and item.product_offering is not None
        ]
        context = clients.call(self._customers.GetOrderingContext, _context_request(order, items, products))
        buyer = _buyer(order, to_price, products, context)
        before_it = partial(orders_before, buyer.ids or order.customer_ids()[:1])
        price_request = pricing_pb2.PriceRequest(
            item=[_asked(item, _product(item, products), products, exact_version) for _, item in to_price],
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
        expansion = _Expansion(items, priced, products, selected.series, charge_one_time, buyer)
        completed = tuple(expansion.complete(item, None) for item in items)
        standing = _standing(order, completed, items, products, expansion.charges, context)
        _as_sent(standing, {path for path, _ in found}).check()
        how = tuple(what for what, so in ((EXACT_VERSION, exact_version), (RECURRING_ONLY, not charge_one_time)) if so)
        return Captured(
            items=completed,
            charges=expansion.charges,
            completed=_completed(items, completed, how),
            total=tuple(
                _total(total)
                for total in (priced.total if priced is not None else ())
                if charge_one_time or total.price_type == RECURRING
            ),
            receipt=receipt,
            missing=standing.missing,
            customer_ids=buyer.ids,
        )

    def _check_configured(self, found: Sequence[tuple[str, OrderItem]], products: Products) -> None:
        """Raises InvalidArgument CONFIGURATION for characteristics that the specification doesn't allow."""
        wrong: list[Violation] = []
        for path, item in found:
            stated = item.product.product_characteristic if item.product is not None else ()
            product = _product(item, products)
            offering = item.product_offering or (product.product_offering if product is not None else None)
            if stated and self._configurator is not None and offering and offering.id and item.action in _PRICED:
                place = f"{path}.product.product_characteristic"
                wrong += self._configurator.violations(offering.id, stated, place)
        if wrong:
            raise InvalidArgument("CONFIGURATION", wrong[0].description, violations=wrong)

    def recapture(
        self,
        order: ProductOrder,
        rows: Sequence[ProductOrderItem],
        products: Products,
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
        products: Products,
        quantities: Mapping[str, int],
        orders_before: Callable[[], int | None],
    ) -> tuple[pricing_pb2.PriceResponse, chosen.Selections]:
        """What the catalog asks. Of a bundle that is held only its first answer says what version it becomes; the
        second is for the parts that are held."""
        priced = self._price(request, items, orders_before)
        bundles: dict[str, chosen.HeldBundle] = {}
        named = set(product_ids(items))
        for item, answer in zip(items, priced.item, strict=True):
            product = _product(item, products)
            if product is None or item.product_order_item or _names_its_parts(item):
                continue
            parts = list(chosen.running_parts(product, products, named))
            if parts and answer.bundled_item:
                bundles[product.id] = chosen.HeldBundle(product, answer.product_offering.id, parts, quantities)
        if not bundles:
            return priced, chosen.Selections()
        selected = chosen.selections(self._catalog, list(bundles.values()))
        for item, asked in zip(items, request.item, strict=True):
            product = _product(item, products)
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

    def standing(self, order: ProductOrder, rows: Sequence[ProductOrderItem], products: Products) -> Standing:
        """What the order, as it is kept, lacks by now."""
        items = assembled(rows)
        context = clients.call(self._customers.GetOrderingContext, _context_request(order, items, products))
        charges = {row.item.id or "": row.charge for row in rows}
        return _standing(order, items, as_sent(rows), products, charges, context)


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
        ITEM_PRICE: before.item_price != after.item_price,
        ITEM_TOTAL_PRICE: before.item_total_price != after.item_total_price,
    }
    return [what for what, so in changed.items() if so]


def _context_request(
    order: ProductOrder, items: Sequence[OrderItem], products: Products
) -> customers_pb2.GetOrderingContextRequest:
    accounts = [order.billing_account, *(item.billing_account for _, item in walk(items))]
    accounts += [product.billing_account for product in products.values()]
    return customers_pb2.GetOrderingContextRequest(
        customer_id=order.customer_ids(),
        billing_account_id=dict.fromkeys(account.id for account in accounts if account is not None and account.id),
    )


def _asked(
    item: OrderItem, product: Product | None, products: Products, exact_version: bool
) -> pricing_pb2.PriceRequestItem:
    """What the catalog is asked for an item. What isn't stated costs nothing: most orders state nothing."""
    asked = pricing_pb2.PriceRequestItem(
        id=item.id or "",
        product_offering_id=(item.product_offering.id or "") if item.product_offering else "",
        quantity=1 if item.quantity is None else item.quantity,
        exact_version=exact_version or _holds(item, products),
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
    products: Products,
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


def _agreement(order: ProductOrder, priced: Sequence[tuple[str, OrderItem]], products: Products) -> str:
    """The frame contract that the priced items name, else the order, else the products that they change; a product
    keeps its own beside items that name theirs, unless the order names one for all. Empty: none is named.

    Raises InvalidArgument AGREEMENTS_DIFFER with their paths where there would have to be several: a request is priced
    by one, and nobody's should be charged to what another's was agreed for, nor be forgotten.
    """
    ordered = {"agreement": {agreement.id for agreement in order.agreement if agreement.id}}
    stated: dict[str, set[str]] = {}
    held: dict[str, set[str]] = {}
    for path, item in priced:
        own, had = chosen.agreement(item.product), chosen.agreement(_product(item, products))
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
    order: ProductOrder, items: Sequence[OrderItem], products: Products, buyer: chosen.Buyer
) -> pricing_pb2.PricingContext:
    # What ends says nothing of what is bought.
    bought = [item for item in items if item.action in _PRICED]
    held = [product for item in bought if (product := _product(item, products)) is not None]
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
            if item.action in _PRICED and (product := _product(item, products)) is not None
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


def _holds(item: OrderItem, products: Products) -> bool:
    """Whether the item changes a product within its offering: it stays with the version that was bought."""
    product = _product(item, products)
    wanted = item.product_offering.id if item.product_offering is not None else None
    return product is not None and wanted is not None and _offering_id(product) == wanted


def _product(item: OrderItem, products: Products) -> Product | None:
    return products.get(item.product.id or "") if item.product is not None else None


def _standing(
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
        product = _product(item, products)
        adds = item.action in (None, OrderItemAction.ADD)
        if adds and (item.product_offering is None or not item.product_offering.id):
            missing.append(f"{NO_OFFERING}{item.id}")
        if product is not None and ours is not None and not _theirs(customers_of(product.related_party), ours):
            foreign[product.id] = Violation(f"{path}.product.id", f"product {product.id} is another customer's")
            continue
        account = payer(order, item, product)
        if account is None or not account.id:
            if adds or _is_charged(item, product):
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
    named = {agreement.id: "agreement" for agreement in order.agreement if agreement.id}
    for path, item in walk(sent):
        own = chosen.agreement(item.product)
        if own and own != chosen.agreement(_product(item, products)):
            named.setdefault(own, f"{path}.product.agreement")
    return {
        agreement: Violation(path, f"agreement {agreement} isn't the customer's")
        for agreement, path in named.items()
        if agreement not in signed
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


def _is_charged(item: OrderItem, product: Product | None) -> bool:
    """Whether billing will hear of an item that changes or ends a product."""
    if item.action is OrderItemAction.MODIFY and item.product_offering is not None:
        return True
    return item.action is OrderItemAction.DELETE and product is not None and bool(product.running_charges)


def _as_sent(standing: Standing, sent: set[str]) -> Standing:
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


class _Expansion:
    """Completes items with their prices, accounts and parts: what a bundle consists of goes on as items below it."""

    def __init__(
        self,
        items: Sequence[OrderItem],
        priced: pricing_pb2.PriceResponse | None,
        products: Products,
        series: Mapping[str, str],
        charge_one_time: bool,
        buyer: chosen.Buyer,
    ) -> None:
        self._answers = {answer.id: answer for answer in priced.item} if priced is not None else {}
        self._products = products
        self._series = series
        self._due = DUE if charge_one_time else frozenset({RECURRING})
        self._buyer = buyer
        self._taken = {item.id or "" for _, item in walk(items)}
        # A product that has an item of its own needs none as a part.
        self._named = set(product_ids(items))
        self.charges: dict[str, tuple[OrderPrice, ...]] = {}

    def complete(self, item: OrderItem, account: EntityRef | None) -> OrderItem:
        """The item with what it costs and consists of; `account` is that of the item around it."""
        item = replace(item, billing_account=item.billing_account or account)
        product = _product(item, self._products)
        answer = self._answers.get(item.id or "")
        inner = tuple(self.complete(part, item.billing_account) for part in item.product_order_item)
        if answer is not None:
            self.charges[item.id or ""] = prices = _order_prices(answer.component, self._due)
            if not inner and not _names_its_parts(item):
                inner = self._parts(item, answer, product)
            item = _named(item, answer)
            item = replace(item, item_price=item.item_price or prices, item_total_price=item.item_total_price or prices)
            item = replace(item, product=self._buyer.bought(item.product, product))
        elif item.action is OrderItemAction.DELETE and product is not None:
            inner = (*inner, *self._ends(item, self._running_parts(product)))
        return replace(item, product_order_item=inner)

    def _parts(self, item: OrderItem, answer: pricing_pb2.PricedItem, product: Product | None) -> tuple[OrderItem, ...]:
        """The offerings of a bundle, each with its own charges: a part that is there is changed, another is added, and
        a part that the bundle hasn't any more ends."""
        there = self._running_parts(product) if product is not None else []
        account = item.billing_account or (product.billing_account if product is not None else None)
        parts = []
        for part in answer.bundled_item:
            wanted = self._line(part.product_offering.id)
            kept = next((one for one in there if self._line(_offering_id(one) or "") == wanted), None)
            if kept is not None:
                there.remove(kept)
            part_id = self._new_id(item)
            self.charges[part_id] = prices = _order_prices(part.component, self._due)
            inner = OrderItem(
                id=part_id,
                action=OrderItemAction.ADD if kept is None else OrderItemAction.MODIFY,
                quantity=part.quantity,
                billing_account=account,
                product=self._buyer.bought(None if kept is None else ProductRefOrValue(id=kept.id), kept),
                product_offering=convert.from_message(part.product_offering, EntityRef),
                item_price=prices,
                item_total_price=prices,
            )
            inner = _named(inner, part)
            parts.append(replace(inner, product_order_item=self._parts(inner, part, kept)))
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


def _offering_id(product: Product) -> str | None:
    return product.product_offering.id if product.product_offering is not None else None


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


def _names_its_parts(item: OrderItem) -> bool:
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
