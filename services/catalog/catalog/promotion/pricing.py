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
* An item with `started_at` was sold then: it has what was on offer then (and still is released), for as long as that
  lasts from when the charge began. What the holder pays as sold is in the inventory; this is for previews of it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import localcontext
from types import MappingProxyType
from typing import Any

from catalog.pricing.calculation import totals
from catalog.pricing.money import EXACT, rounded
from catalog.pricing.offers import TERMINATION, USAGE, Offer, canonical
from catalog.pricing.pricing import EARLIER
from catalog.pricing.receipts import AmountStep, ReceiptStep, Step
from catalog.pricing.selection import begun, lasts
from catalog.pricing.values import AppliedAlteration, PriceComponent, PricedItem, Pricing, PricingContext
from catalog.promotion.engine import Cart, Coupon, Line, Promoted, UnclearOrderError, promote
from catalog.promotion.terms import Terms, parse_terms
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.types import EntityRef, Json

# Raised with every change of a rule here or in the engine.
REVISION = "1"
# Where a receipt's inputs hold all this: behind everything else, so that the text stays canonical.
INPUT = "with_promotions"
_DELIVERY = "delivery"
_NOTHING: Mapping[str, frozenset[str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Basis:
    """What promotions rest on: the promotions on offer, the coupons entered, and the offerings' categories."""

    terms: tuple[Terms, ...]
    coupons: tuple[Coupon, ...] = ()
    # Offering → its categories and those above them.
    categories: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # Item that is held → the promotions that coupons opened when it was sold.
    sold_with: Mapping[str, frozenset[str]] = field(default_factory=dict)


def relevant(
    terms: Iterable[Terms],
    coupons: Sequence[Coupon],
    pricing: Pricing,
    context: PricingContext,
    sold_with: Mapping[str, frozenset[str]] = _NOTHING,
) -> tuple[Terms, ...]:
    """Those that could apply: valid now, or when what is held was sold, and opened by a coupon if they need one."""
    opened = {coupon.promotion for coupon in coupons}.union(*sold_with.values())
    instants = {context.at, *(item.started_at for item in pricing.item if item.started_at is not None)}
    return tuple(
        one
        for one in terms
        if any(one.promotion.valid_for.covers(instant) for instant in (*instants, one.promotion.redeemed_at) if instant)
        and (not one.promotion.needs_coupon or one.promotion.id in opened)
    )


def promoted(pricing: Pricing, context: PricingContext, offers: Mapping[str, Offer], basis: Basis) -> Pricing:
    """The answer with promotions applied to it. The answer that is given isn't the caller's any more: it is changed.

    Raises FailedPrecondition PRIORITY_TAKEN when two promotions on offer have one priority.
    """
    if not basis.terms and not basis.coupons:
        return pricing
    charges = list(_charges(pricing.item, offers, basis))
    cart = Cart(
        lines=tuple(line for _, line in charges),
        at=context.at,
        coupons=basis.coupons,
        quantity=sum(item.quantity for item in pricing.item),
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
    steps: list[Step] = [ReceiptStep(s.subject, s.action, s.rule, s.before, s.after, s.reason) for s in outcome.steps]
    with localcontext(EXACT):
        for (component, _), line in zip(charges, outcome.lines, strict=True):
            if line.cuts:
                stated = pricing.receipt.revision not in EARLIER
                steps += _take_off(component, line, known, ends=stated)
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
        sold_with={item: frozenset(ids) for item, ids in data.get("sold_with", {}).items()},
    )


def _plain(basis: Basis, items: Sequence[PricedItem]) -> str:
    used = _offerings(items)
    categories = {key: sorted(ids) for key, ids in basis.categories.items() if ids and key in used}
    coupons = [{"code": c.code, "promotion": c.promotion, "refused": c.refused or ""} for c in basis.coupons]
    terms = ",".join(one.text for one in basis.terms)
    sold = {item: sorted(ids) for item, ids in basis.sold_with.items() if ids}
    sold_with = f',"sold_with":{canonical(sold)}' if sold else ""
    return (
        f'{{"categories":{canonical(categories)},"coupons":{canonical(coupons)},"promotions":[{terms}],'
        f'"revision":{json.dumps(REVISION)}{sold_with}}}'
    )


def _offerings(items: Sequence[PricedItem]) -> set[str]:
    return {item.product_offering.id or "" for item in items}.union(*(_offerings(item.bundled_item) for item in items))


def _charges(
    items: Iterable[PricedItem], offers: Mapping[str, Offer], basis: Basis
) -> Iterable[tuple[PriceComponent, Line]]:
    for i, item in enumerate(items):
        name = item.id or f"item[{i}]"
        yield from _lines(item, name, name, item.started_at, offers, basis, frozenset(), frozenset())


def _lines(
    item: PricedItem,
    name: str,
    top: str,
    sold_at: datetime | None,
    offers: Mapping[str, Offer],
    basis: Basis,
    products_above: frozenset[str],
    categories_above: frozenset[str],
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
                sold_at=sold_at,
                begun_at=begun(sold_at, component.stage),
                # What is bought now was sold with nothing yet.
                opened=basis.sold_with.get(top, frozenset()) if sold_at is not None else frozenset(),
            ),
        )
    for part in item.bundled_item:
        yield from _lines(part, part.id, top, sold_at, offers, basis, products, shelves)


def _take_off(
    component: PriceComponent, line: Promoted, known: Mapping[str, Terms], *, ends: bool
) -> Iterable[AmountStep]:
    """Writes what was taken off into the charge, cut by cut, and its tax anew; `ends`: when it ends is stated too."""
    begun_at = line.line.begun_at if ends else None
    taxed = 1 if component.tax_rate is None else 1 + component.tax_rate / 100
    for cut in line.cuts:
        promotion = known[cut.promotion].promotion
        action = promotion.patterns[cut.pattern].actions[cut.action]
        net = component.net
        if component.quoted_gross:
            component.gross -= cut.amount
            component.net = rounded(component.gross / taxed, component.currency)
        else:
            component.net -= cut.amount
            component.gross = rounded(component.net * taxed, component.currency)
        component.alteration.append(
            AppliedAlteration(
                EntityRef(id=promotion.id, name=promotion.name or None, at_referred_type="Promotion"),
                promotion.name,
                promotion.priority,
                None if action.percentage is None else -action.percentage,
                component.currency,
                component.net - net,
                action.duration,
                None
                if begun_at is None or action.duration is None
                else lasts(begun_at, action.duration, line.line.period),
            )
        )
    if component.tax_rate is not None:
        rate = f"{component.tax_rate:f} %"
        yield AmountStep(
            line.line.id, "TAX_ADDED", component.rule, component.net, component.gross, component.currency, rate
        )
