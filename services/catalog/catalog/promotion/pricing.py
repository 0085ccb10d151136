"""Promotions on what has been priced: pure, and such that a receipt gives the same answer again.

How charges become a cart:

* Every charge that is due from the beginning is a line, whether the item's own or that of a part of its bundle; charges
  of later phases, by use, and for leaving early are left alone.
* A charge is reckoned as the catalog quotes it, with tax or without; so is an amount off it. The other of the two
  follows by the tax rate, rounded to the minor unit.
* A charge may be meant by its offering, the first version of that, its specification, or any of these of a bundle that
  it belongs to; likewise by their categories and those above them.
* A line counts as discounted where an alteration of the catalog lowered it.
* Delivery is the charge that its price calls `delivery`.
* An item with `started_at` is held: it is no part of the cart, and has what its charges were sold with (`held`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any

from catalog.pricing.calculation import totals
from catalog.pricing.money import EXACT, rounded
from catalog.pricing.offers import TERMINATION, USAGE, Offer, canonical
from catalog.pricing.receipts import AmountStep, ReceiptStep, Step
from catalog.pricing.values import AppliedAlteration, PriceComponent, PricedItem, Pricing, PricingContext
from catalog.promotion import held
from catalog.promotion.engine import Cart, Coupon, Line, Promoted, UnclearOrderError, promote
from catalog.promotion.held import Held
from catalog.promotion.terms import Terms, parse_terms
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.types import Duration, EntityRef, Json, TimePeriod

# Raised with every change of a rule here or in the engine.
REVISION = "1"
# Where a receipt's inputs hold all this: behind everything else, so that the text stays canonical.
INPUT = "with_promotions"
_DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class Basis:
    """What promotions rest on: the promotions on offer, the coupons entered, and the offerings' categories."""

    terms: tuple[Terms, ...]
    coupons: tuple[Coupon, ...] = ()
    # Offering → its categories and those above them.
    categories: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # Item that is held → its charges as they were sold, of those that promotions took something off.
    held: Mapping[str, tuple[Held, ...]] = field(default_factory=dict)


def relevant(
    terms: Iterable[Terms], coupons: Sequence[Coupon], pricing: Pricing, context: PricingContext
) -> tuple[Terms, ...]:
    """Those that could apply: valid now, and opened by a coupon if they need one. Without a coupon nothing applies to
    what is held."""
    opened = {coupon.promotion for coupon in coupons}
    if not coupons and all(item.started_at is not None for item in pricing.item):
        return ()
    return tuple(
        one
        for one in terms
        if one.promotion.valid_for.covers(one.promotion.redeemed_at or context.at)
        and (not one.promotion.needs_coupon or one.promotion.id in opened)
    )


def promoted(pricing: Pricing, context: PricingContext, offers: Mapping[str, Offer], basis: Basis) -> Pricing:
    """The answer with promotions applied to it. The answer that is given isn't the caller's any more: it is changed.

    Raises FailedPrecondition PRIORITY_TAKEN when two promotions on offer have one priority.
    """
    if not basis.terms and not basis.coupons and not basis.held:
        return pricing
    named = [(item.id or f"item[{i}]", item) for i, item in enumerate(pricing.item)]
    bought = [(name, item) for name, item in named if item.started_at is None and name not in basis.held]
    charges = [line for name, item in bought for line in _lines(item, name, name, offers, basis)]
    cart = Cart(
        lines=tuple(line for _, line in charges),
        at=context.at,
        coupons=basis.coupons,
        quantity=sum(item.quantity for _, item in bought),
        segments=frozenset(context.market_segment),
        orders_before=context.orders_before,
        places=frozenset(context.place),
        channel=context.channel,
        branch=context.branch,
        agreement=context.agreement_id,
    )
    known = {one.promotion.id: one for one in basis.terms}
    try:
        outcome = promote(cart, [one.promotion for one in basis.terms])
    except UnclearOrderError as error:
        raise FailedPrecondition("PRIORITY_TAKEN", f"{error}: nobody knows which comes first") from error
    steps: list[Step] = []
    with localcontext(EXACT):
        for name, item in named:
            if name in basis.held:
                steps += _go_on(item, name, basis.held[name], offers, item.started_at, context.at)
    steps += [ReceiptStep(s.subject, s.action, s.rule, s.before, s.after, s.reason) for s in outcome.steps]
    with localcontext(EXACT):
        for (component, _), line in zip(charges, outcome.lines, strict=True):
            if line.cuts:
                steps += _take_off(component, line, known)
    for code, refused in outcome.coupons.items():
        action = "COUPON_REJECTED" if refused else "COUPON_ACCEPTED"
        steps.append(ReceiptStep("", action, code, reason=refused))
    receipt = pricing.receipt
    inputs = f'{receipt.inputs.text[:-1]},"{INPUT}":{_plain(basis, pricing.item)}}}'
    return replace(
        pricing,
        total=totals(pricing.item),
        orders_before_compared=any(one.by_order_number for one in basis.terms),
        receipt=replace(receipt, inputs=Json(inputs), step=(*receipt.step, *steps)),
    )


def parse_basis(data: Mapping[str, Any]) -> Basis:
    """What a receipt's inputs say of promotions. Raises InvalidArgument UNKNOWN_ENGINE for another revision's."""
    if data["revision"] != REVISION:
        raise InvalidArgument("UNKNOWN_ENGINE", f"promotions of revision {data['revision']} aren't those of {REVISION}")
    return Basis(
        terms=tuple(parse_terms(terms) for terms in data["promotions"]),
        coupons=tuple(Coupon(one["code"], one["promotion"], one["refused"] or None) for one in data["coupons"]),
        categories={offering: frozenset(ids) for offering, ids in data["categories"].items()},
        held={item: tuple(map(held.parse, charges)) for item, charges in data.get("held", {}).items()},
    )


def _plain(basis: Basis, items: Sequence[PricedItem]) -> str:
    used = _offerings(items)
    categories = {key: sorted(ids) for key, ids in basis.categories.items() if ids and key in used}
    coupons = [{"code": c.code, "promotion": c.promotion, "refused": c.refused or ""} for c in basis.coupons]
    terms = ",".join(one.text for one in basis.terms)
    sold = {item: list(map(held.plain, charges)) for item, charges in basis.held.items()}
    further = f'"held":{canonical(sold)},' if sold else ""
    return (
        f'{{"categories":{canonical(categories)},"coupons":{canonical(coupons)},{further}"promotions":[{terms}],'
        f'"revision":{json.dumps(REVISION)}}}'
    )


def _offerings(items: Sequence[PricedItem]) -> set[str]:
    return {item.product_offering.id or "" for item in items}.union(*(_offerings(item.bundled_item) for item in items))


def _lines(
    item: PricedItem,
    name: str,
    top: str,
    offers: Mapping[str, Offer],
    basis: Basis,
    products_above: frozenset[str] = frozenset(),
    categories_above: frozenset[str] = frozenset(),
) -> Iterable[tuple[PriceComponent, Line]]:
    key = item.product_offering.id or ""
    offer = offers[key]
    specification = offer.specification.id if offer.specification is not None else None
    products = products_above | {key, *filter(None, (offer.series, specification))}
    shelves = categories_above | basis.categories.get(key, frozenset())
    called = {charge.rule: charge.key.partition(" ")[0] for charge in offer.charges}
    for component in item.component:
        if component.later or component.price_type in (USAGE, TERMINATION):
            continue
        quoted = component.gross if component.quoted_gross else component.net
        yield (
            component,
            Line(
                id=name,
                item=top,
                quantity=item.quantity,
                amount=quoted,
                products=products,
                categories=shelves,
                kind=component.price_type,
                period=component.recurring_charge_period,
                currency=component.currency,
                discounted=component.net < component.listed,
                delivery=called.get(component.rule, "").lower() == _DELIVERY,
                name=component.name,
            ),
        )
    for part in item.bundled_item:
        yield from _lines(part, part.id, top, offers, basis, products, shelves)


def _take_off(component: PriceComponent, line: Promoted, known: Mapping[str, Terms]) -> Iterable[AmountStep]:
    """Writes what was taken off into the charge, cut by cut, and its tax anew."""
    for cut in line.cuts:
        promotion = known[cut.promotion].promotion
        action = promotion.patterns[cut.pattern].actions[cut.action]
        percentage = None if action.percentage is None else -action.percentage
        by = EntityRef(id=promotion.id, name=promotion.name or None, at_referred_type="Promotion")
        _lower(component, cut.amount, by, promotion.priority, percentage, action.duration)
    yield from _tax(component, line.line.id)


def _go_on(
    item: PricedItem,
    name: str,
    charges: Sequence[Held],
    offers: Mapping[str, Offer],
    began: datetime | None,
    at: datetime,
    series: str = "",
) -> Iterable[Step]:
    """Writes into the charges of what is held what promotions go on taking off them; `series`: of a part."""
    for charge, component in held.paired([one for one in charges if one.series == series], item.component):
        for one in held.kept(charge, component, item.quantity, began, at):
            was, discount = component.gross if component.quoted_gross else component.net, one.discount
            if one.ended:
                why = f"it was {discount.note}" if discount.note else "isn't valid at that time"
                yield ReceiptStep(name, "PROMOTION_REJECTED", discount.promotion, reason=f"{discount.name}: {why}")
            if not one.amount:
                continue
            by = EntityRef(id=discount.promotion, name=discount.name or None, at_referred_type="Promotion")
            percentage = None if discount.percentage is None else -discount.percentage
            _lower(component, one.amount, by, discount.priority, percentage, discount.duration, one.valid_for)
            yield ReceiptStep(
                name,
                "PROMOTION_APPLIED",
                discount.promotion,
                f"{was:f} {component.currency}",
                f"{was - one.amount:f} {component.currency}",
                "; ".join(filter(None, (discount.name, component.name, discount.note))),
            )
        if charge.discounts:
            yield from _tax(component, name)
    for part in item.bundled_item:
        key = part.product_offering.id or ""
        yield from _go_on(part, part.id, charges, offers, began, at, offers[key].series)


def _lower(
    component: PriceComponent,
    amount: Decimal,
    by: EntityRef,
    priority: int,
    percentage: Decimal | None,
    duration: Duration | None,
    valid_for: TimePeriod | None = None,
) -> None:
    """Takes an amount off the charge as it is quoted; the other of its amounts follows by the tax rate."""
    net, gross = component.net, component.gross
    taxed = 1 if component.tax_rate is None else 1 + component.tax_rate / 100
    if component.quoted_gross:
        component.gross -= amount
        component.net = rounded(component.gross / taxed, component.currency)
    else:
        component.net -= amount
        component.gross = rounded(component.net * taxed, component.currency)
    component.alteration.append(
        AppliedAlteration(
            by,
            by.name or "",
            priority,
            percentage,
            component.currency,
            component.net - net,
            duration,
            valid_for,
            component.gross - gross,
        )
    )


def _tax(component: PriceComponent, subject: str) -> Iterable[AmountStep]:
    if component.tax_rate is not None:
        rate = f"{component.tax_rate:f} %"
        yield AmountStep(subject, "TAX_ADDED", component.rule, component.net, component.gross, component.currency, rate)
