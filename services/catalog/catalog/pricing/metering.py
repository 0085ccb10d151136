"""By which prices the usage of an offering is rated: those that count for this customer, chosen as ever."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from catalog.pricing.altering import plain_alteration
from catalog.pricing.offers import USAGE, Alteration, Charge, Offer
from catalog.pricing.receipts import ReceiptStep
from catalog.pricing.rules import Rules
from catalog.pricing.selection import Held, Line, Selection
from catalog.pricing.values import Item, PricingContext
from chassis.errors import FailedPrecondition, InvalidArgument, Violation


def usage_prices(
    item: Item, offers: Mapping[str, Offer], context: PricingContext, rules: Rules
) -> tuple[list[dict[str, Any]], list[ReceiptStep]]:
    """The usage prices of the offering and of all that it bundles, in their plain form, and why others don't count.

    Of phases those of the one that the product is in; of one that nobody holds yet, of the first.

    Raises InvalidArgument UNKNOWN_OFFERING, CURRENCY_REQUIRED, NO_USAGE_PRICE, USAGE_NOT_PRICED and what the choice of
    prices raises; FailedPrecondition USAGE_TYPE_MISSING, NO_TAX_RATE.
    """
    if item.product_offering_id not in offers:
        why = f"there is no offering {item.product_offering_id!r}"
        raise InvalidArgument("UNKNOWN_OFFERING", why, violations=[Violation("item.product_offering_id", why)])
    selection = Selection(offers, rules, context)
    # What was used comes as events, one by one.
    (top,) = selection.lines([replace(item, usage=())])
    lines = list(_with_discounts(top, ()))
    usage = [held for line, _ in lines for held in line.held if held[0].kind == USAGE]
    currency = _currency(item, [charge for charge, _, _ in usage], context.currency)
    notes = [note for line, _ in lines for note in line.notes]
    prices: list[dict[str, Any]] = []
    products: dict[str, dict[str, int]] = {}
    for line, discounts in lines:
        models = _models(line.offer)
        for held, reason in selection.among(line, currency):
            charge, stage, _ = held
            if charge.kind != USAGE:
                continue
            if reason is None and stage is not None and stage.later:
                reason = "it is for another phase"
            if reason is not None:
                notes.append(ReceiptStep(line.subject, "REJECTED", charge.rule, reason=reason))
                continue
            prices.append(_plain(selection, line, held, models, discounts, notes))
            products.setdefault(charge.usage_type, {})[line.subject] = line.quantity
    _check_products(item, products)
    return prices, notes


def sold_prices(
    item: Item, sold: Offer, context: PricingContext, rules: Rules, bundles: Iterable[Offer] = ()
) -> tuple[list[dict[str, Any]], list[ReceiptStep]]:
    """The prices of what was sold (an offer of nothing but these) in their plain form, with the alterations that count.

    Whether the prices themselves count for the customer was judged when they were sold. Their alterations are judged by
    the context, and by what the item states: its term, its characteristics, since when it has been held. `bundles`:
    those around what was sold, the innermost first.

    Raises FailedPrecondition USAGE_TYPE_MISSING for a price of something else, NO_TAX_RATE.
    """
    held_item = replace(item, exact_version=True, usage=())
    selection = Selection({}, rules, context)
    models = _models(sold)
    discounts = [discount for bundle in bundles for discount in _discount(bundle)]
    notes: list[ReceiptStep] = []
    prices: list[dict[str, Any]] = []
    for charge in sold.charges:
        held: Held = (charge, None, None)
        line = Line(sold, held_item, 0, charge.rule, 1, [held], (), [], [])
        prices.append(_plain(selection, line, held, models, discounts, notes))
    return prices, notes


def _models(offer: Offer) -> Mapping[str, Any]:
    """How each price becomes an amount, as the offer's own text has it: the same for a replay."""
    return {data["rule"]: data.get("model") for data in json.loads(offer.text)["charges"]}


def _with_discounts(
    line: Line, discounts: tuple[dict[str, str], ...]
) -> Iterable[tuple[Line, Sequence[dict[str, str]]]]:
    """The line and all below it, each with what the bundles around it take off, the innermost first."""
    yield line, discounts
    for part in line.bundled:
        yield from _with_discounts(part, (*_discount(line.offer), *discounts))


def _discount(bundle: Offer) -> Iterable[dict[str, str]]:
    """What a bundle takes off its parts, if it does."""
    if bundle.parts_discount:
        percentage = format(bundle.parts_discount.copy_abs().copy_negate(), "f")
        yield {"rule": bundle.id, "name": bundle.ref.name or "", "percentage": percentage}


def _check_products(item: Item, products: Mapping[str, Mapping[str, int]]) -> None:
    """Raises InvalidArgument USAGE_NOT_PRICED: whose usage it is must be clear, lest it be charged once for each."""
    numbers = ((usage_type, sum(by_line.values())) for usage_type, by_line in products.items())
    wrong = [
        f"{number} products of offering {item.product_offering_id} have a price for {usage_type!r}, not one"
        for usage_type, number in numbers
        if number != 1
    ]
    if wrong:
        raise InvalidArgument("USAGE_NOT_PRICED", wrong[0], violations=[Violation("item", why) for why in wrong])


def _currency(item: Item, charges: Sequence[Charge], wanted: str) -> str:
    found = sorted({charge.currency for charge in charges})
    if wanted in found or (not wanted and len(found) == 1):
        return wanted or found[0]
    if not found or wanted:
        what = f" in {wanted}" if wanted else ""
        raise InvalidArgument("NO_USAGE_PRICE", f"offering {item.product_offering_id} has no usage price{what}")
    why = f"the usage of offering {item.product_offering_id} is priced in {', '.join(found)}"
    raise InvalidArgument("CURRENCY_REQUIRED", why, violations=[Violation("context.currency", why)])


def _plain(
    selection: Selection,
    line: Line,
    held: Held,
    models: Mapping[str, Any],
    discounts: Sequence[dict[str, str]],
    notes: list[ReceiptStep],
) -> dict[str, Any]:
    charge, stage, _ = held
    if not charge.usage_type or charge.model is None:
        raise FailedPrecondition("USAGE_TYPE_MISSING", f"price {charge.rule} doesn't say of what usage, and how")
    levels, rejected = selection.levels(line, charge, stage)
    notes += _rejections(line, rejected)
    for _, others in levels:
        notes += _rejections(line, others)
    rate = _tax_rate(selection, charge)
    plain = {
        "rule": charge.rule,
        "name": charge.name,
        "currency": charge.currency,
        "gross": charge.gross,
        "tax_rate": None if rate is None else format(rate, "f"),
        "model": models[charge.rule],
        "alterations": [[plain_alteration(alteration) for alteration in level] for level, _ in levels],
    }
    return {**plain, "discounts": list(discounts)} if discounts else plain


def _tax_rate(selection: Selection, charge: Charge) -> Decimal | None:
    if charge.tax_rate is not None or not charge.tax_category:
        return charge.tax_rate
    tax = selection.rules.tax(charge.tax_category, selection.context)
    if tax is None:
        why = f"there is no tax rate of the category {charge.tax_category!r}: price {charge.rule} needs it"
        raise FailedPrecondition("NO_TAX_RATE", why)
    return tax.rate


def _rejections(line: Line, rejected: Iterable[tuple[Alteration, str]]) -> list[ReceiptStep]:
    return [ReceiptStep(line.subject, "REJECTED", alteration.rule, reason=reason) for alteration, reason in rejected]
