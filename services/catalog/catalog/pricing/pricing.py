"""What a set of offerings costs, and why: pure, exact, and with a receipt from which the same answer follows again.

How it counts:

* `selection` says what counts, `calculation` what that comes to; here the two meet, and the receipt is written.
* An amount stays exact (60 digits) from the catalog to the end of its line; list amount and amount are each rounded
  once, to the currency's minor unit (ISO 4217), half away from zero: what people and tax offices expect of a bill.
  Banker's rounding would spare a bias over millions of ties, but a customer who checks a bill would find it wrong.
* The amount of an alteration is what it adds to the rounded amount, so list amount and alterations sum exactly.
* Alterations apply by ascending priority; those of one priority all reckon from the same amount, so that their order
  can't matter. Of an exclusivity group the one counts with which the charge comes out lowest; of several groups all
  combinations are compared. A discount never takes a charge below zero unless it says that it may; a charge that is
  negative by itself (a credit) has no floor.
* An alteration is a discount whatever its sign (TM Forum's own example discounts by 20, others write -20), unless it is
  called a surcharge. A fixed one is per unit.
* Tax is reckoned on the rounded amount of a line, by the price's own rate, else by that of its category in the
  narrowest place that has one; a category without any is refused. Where the catalog states the amount with tax, that
  amount is kept to the cent and the one without is derived.
* Prices of one offering all apply, except that of several currencies one is used, and that of several price lists for
  one charge the customer's most specific one is (by agreement before segment before branch before the general one);
  each kind of charge (one-time, monthly …) must then have a price in the currency, lest the rest be sold for nothing.
* A bundle costs its own prices and those of its parts in their number, or (OVERRIDE) only its own, and what the use of
  its parts costs where it has no price for that itself; a percentage off its parts is reckoned on what those of one
  kind come to together, rounded once and split over them to the cent, but for use, each price of which has its own: it
  is charged as it comes, and by itself (`catalog.pricing.usage`).
* Of an offering with phases, the charges of all phases are listed, or those of the one that the product is in. Only
  what is due at that time is in the totals, not what phases to come will cost, and nothing that is charged by use or by
  leaving unless it was given.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import localcontext
from typing import Any

from catalog.pricing.calculation import Calculation, totals
from catalog.pricing.money import EXACT
from catalog.pricing.offers import Offer, canonical, instant, parse_offer
from catalog.pricing.receipts import PriceReceipt, Receipt, ReceiptStep, reading
from catalog.pricing.rules import NO_RULES, Rules, Tax, parse_rules, plain_price_list, plain_tax
from catalog.pricing.selection import Line, Selection, field_of
from catalog.pricing.values import (
    AppliedAlteration,
    BundledSelection,
    Item,
    PriceComponent,
    PricedItem,
    PriceTotal,
    Pricing,
    PricingContext,
    UsageQuantity,
)
from catalog.product.numbers import reckonable
from chassis.errors import InvalidArgument, Violation
from chassis.types import Characteristic, Json, decimal_of

__all__ = [
    "ENGINE",
    "REVISION",
    "AppliedAlteration",
    "BundledSelection",
    "Item",
    "PriceComponent",
    "PriceTotal",
    "PricedItem",
    "Pricing",
    "PricingContext",
    "Receipt",
    "ReceiptStep",
    "UsageQuantity",
    "price",
    "replay",
]

ENGINE = "catalog.pricing"
# Raised with every change of a rule; a receipt is replayed by the rules of its own revision.
REVISION = "3"
# Its inputs say less, and usage prices weren't listed; whatever else it knew counts as it did.
_FIRST_REVISION = "1"
# See `Selection.second_rules`.
_SECOND_REVISION = "2"
EARLIER = frozenset({_FIRST_REVISION, _SECOND_REVISION})

_MAX_NUMBER = 2**31 - 1


def price(
    items: Sequence[Item], offers: Mapping[str, Offer], context: PricingContext, rules: Rules = NO_RULES
) -> Pricing:
    """The price of the items, all of whose offerings (with what they bundle, in every version) are in `offers`.

    Raises InvalidArgument UNKNOWN_OFFERING, INVALID_QUANTITY, DUPLICATE_ITEM, TOO_MANY_LINES, NO_PRICE_IN_CURRENCY,
    CURRENCY_REQUIRED, BUNDLED_SELECTION, UNKNOWN_TERM, USAGE_NOT_PRICED, PRICE_DEPENDS, AMOUNT_OUT_OF_RANGE;
    FailedPrecondition OFFERING_NOT_SELLABLE, NO_TAX_RATE, TOO_MANY_ALTERNATIVES: each naming the items at fault.
    """
    return _price(items, offers, context, rules, REVISION)


def replay(receipt: Receipt | PriceReceipt) -> Pricing:
    """The same answer again, from nothing but the receipt's inputs.

    Raises InvalidArgument UNKNOWN_ENGINE for a receipt of another engine, or of rules that aren't known any more,
    MALFORMED_RECEIPT for inputs that no engine wrote.
    """
    if receipt.engine != ENGINE or receipt.revision not in {REVISION, *EARLIER}:
        raise InvalidArgument("UNKNOWN_ENGINE", f"{receipt.engine} {receipt.revision} isn't {ENGINE} {REVISION}")
    with reading():
        inputs = json.loads(receipt.inputs.text)
        items = [_parse_item(item) for item in inputs["items"]]
        offers = {offer["id"]: parse_offer(offer) for offer in inputs["offers"]}
        context = parse_context(inputs["context"])
        rules = parse_rules(inputs.get("price_lists", ()), inputs.get("tax_rates", ()))
    return _price(items, offers, context, rules, receipt.revision)


def _price(
    items: Sequence[Item], offers: Mapping[str, Offer], context: PricingContext, rules: Rules, revision: str
) -> Pricing:
    _check_items(items, offers)
    with localcontext(EXACT):
        selection = Selection(offers, rules, context, revision == _FIRST_REVISION, revision in EARLIER)
        lines = selection.lines(items)
        calculation = Calculation(selection)
        currencies = _currencies(items, lines, context.currency)
        priced = [
            _priced(calculation, *one, i)
            for i, one in enumerate(zip(lines, currencies, (item.id for item in items), strict=True))
        ]
        for item, answer in zip(items, priced, strict=True):
            answer.characteristic, answer.term, answer.started_at = item.characteristic, item.term, item.started_at
        calculation.check()
        total = totals(priced)
    inputs = _inputs(items, lines, selection, calculation.taxes)
    return Pricing(tuple(priced), total, PriceReceipt(ENGINE, revision, Json(inputs), tuple(calculation.steps)))


def _priced(calculation: Calculation, line: Line, currency: str, id: str, index: int) -> PricedItem:
    """Raises InvalidArgument AMOUNT_OUT_OF_RANGE: each number is bounded, what surcharges make of them isn't."""
    try:
        return calculation.priced(line, currency, id)
    except ArithmeticError as error:
        why = "its price can't be reckoned exactly: the amounts have too many digits"
        raise InvalidArgument("AMOUNT_OUT_OF_RANGE", why, violations=[Violation(f"item[{index}]", why)]) from error


# --- receipts --------------------------------------------------------------------------------------------------------
# What hasn't been stated isn't written, so that receipts of the first revision are written as they were.


def _inputs(items: Sequence[Item], lines: Sequence[Line], selection: Selection, taxes: Mapping[str, Tax]) -> str:
    used = {line.offer.id: line.offer for top in lines for line in top.all()} | selection.considered
    texts = ",".join(used[key].text for key in sorted(used))
    lists = {charge.price_list for offer in used.values() if offer.currencies is None for charge in offer.charges}
    rules: dict[str, list[dict[str, Any]]] = {
        "price_lists": [
            plain_price_list(selection.rules.price_lists[key])
            for key in sorted(lists)
            if key in selection.rules.price_lists
        ],
        "tax_rates": [plain_tax(taxes[category]) for category in sorted(taxes)],
    }
    further = "".join(f',"{name}":{canonical(values)}' for name, values in rules.items() if values)
    asked = [_plain_item(item) for item in items]
    about = canonical(_plain_context(selection.context))
    return f'{{"context":{about},"items":{canonical(asked)},"offers":[{texts}]{further}}}'


def _plain_item(item: Item) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": item.id,
        "product_offering_id": item.product_offering_id,
        "quantity": item.quantity,
    }
    if item.characteristic:
        data["characteristic"] = [_plain_characteristic(one) for one in item.characteristic]
    if item.term:
        data["term"] = item.term
    if item.exact_version:
        data["exact_version"] = True
    if item.bundled:
        data["bundled"] = [[choice.product_offering_id, choice.number] for choice in item.bundled]
    if item.usage:
        data["usage"] = [[used.usage_type, format(used.amount, "f"), used.units] for used in item.usage]
    if item.started_at is not None:
        data["started_at"] = instant(item.started_at)
    return data


def _plain_characteristic(characteristic: Characteristic) -> dict[str, str]:
    data = {"name": characteristic.name or "", "value_type": characteristic.value_type or ""}
    if characteristic.value is not None:
        data["value"] = characteristic.value.text
    if characteristic.extensions:
        data["extensions"] = characteristic.extensions
    return data


def _parse_item(data: Mapping[str, Any]) -> Item:
    started = data.get("started_at")
    return Item(
        data["id"],
        data["product_offering_id"],
        data["quantity"],
        characteristic=tuple(
            Characteristic(
                name=c["name"] or None,
                value_type=c["value_type"] or None,
                value=Json(c["value"]) if "value" in c else None,
                extensions=c.get("extensions"),
            )
            for c in data.get("characteristic", ())
        ),
        term=data.get("term", ""),
        exact_version=data.get("exact_version", False),
        bundled=tuple(BundledSelection(key, number) for key, number in data.get("bundled", ())),
        usage=tuple(UsageQuantity(kind, decimal_of(amount), units) for kind, amount, units in data.get("usage", ())),
        started_at=datetime.fromisoformat(started) if started else None,
    )


def _plain_context(context: PricingContext) -> dict[str, Any]:
    data: dict[str, Any] = {
        "at": instant(context.at),
        "branch": context.branch,
        "currency": context.currency,
        "customer_id": context.customer_id,
    }
    for name in ("market_segment", "place", "coupon"):
        values = getattr(context, name)
        if values:
            data[name] = list(values)
    for name in ("channel", "agreement_id"):
        if getattr(context, name):
            data[name] = getattr(context, name)
    if context.orders_before is not None:
        data["orders_before"] = context.orders_before
    return data


def parse_context(data: Mapping[str, Any]) -> PricingContext:
    """A context from its plain form in a receipt's inputs."""
    several = {name: tuple(data.get(name, ())) for name in ("market_segment", "place", "coupon")}
    return PricingContext(**{**data, **several, "at": datetime.fromisoformat(data["at"])})


# --- what is asked ---------------------------------------------------------------------------------------------------


def _check_items(items: Sequence[Item], offers: Mapping[str, Offer]) -> None:
    unknown, numbers, doubles = [], [], []
    seen: set[str] = set()
    for i, item in enumerate(items):
        if item.product_offering_id not in offers:
            unknown.append(Violation(field_of(i), f"there is no offering {item.product_offering_id!r}"))
        if not 0 < item.quantity <= _MAX_NUMBER:
            numbers.append(Violation(f"item[{i}].quantity", f"{item.quantity} isn't a number of things to be had"))
        numbers += [
            Violation(f"item[{i}].usage[{k}].amount", f"{used.amount} can't have been used")
            for k, used in enumerate(item.usage)
            if used.amount < 0 or not reckonable(used.amount)
        ]
        if item.id and item.id in seen:
            doubles.append(Violation(f"item[{i}].id", f"another item is called {item.id!r}"))
        seen.add(item.id)
    for reason, wrong in (("INVALID_QUANTITY", numbers), ("DUPLICATE_ITEM", doubles), ("UNKNOWN_OFFERING", unknown)):
        if wrong:
            raise InvalidArgument(reason, wrong[0].description, violations=wrong)


def _currencies(items: Sequence[Item], lines: Sequence[Line], wanted: str) -> list[str]:
    """One currency for each item, its bundled offerings included."""
    chosen: list[str] = []
    absent, ambiguous = [], []
    for i, line in enumerate(lines):
        possible = _possible_currencies(line)
        if possible is None:
            chosen.append(wanted)
        elif wanted in possible or (not wanted and len(possible) == 1):
            chosen.append(wanted or next(iter(possible)))
        elif wanted or not possible:
            what = wanted or "any one currency"
            absent.append(Violation(field_of(i), f"offering {items[i].product_offering_id} isn't priced in {what}"))
        else:
            names = ", ".join(sorted(possible))
            ambiguous.append(Violation(field_of(i), f"offering {items[i].product_offering_id} is priced in {names}"))
    for reason, wrong in (("NO_PRICE_IN_CURRENCY", absent), ("CURRENCY_REQUIRED", ambiguous)):
        if wrong:
            raise InvalidArgument(reason, wrong[0].description, violations=wrong, metadata={"currency": wanted})
    return chosen


def _possible_currencies(line: Line) -> frozenset[str] | None:
    """The currencies in which every kind of charge has a price; None when nothing is charged at all."""
    result: frozenset[str] | None = None
    for part in line.all():
        for currencies in part.currencies:
            result = currencies if result is None else result & currencies
    return result
