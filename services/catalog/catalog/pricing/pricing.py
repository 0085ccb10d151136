"""What a set of offerings costs, and why: pure, exact, and with a receipt from which the same answer follows again.

How it counts:

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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal, localcontext
from itertools import product
from math import prod
from typing import Any

from catalog.pricing import tiers
from catalog.pricing.money import EXACT, minor_unit, split
from catalog.pricing.offers import (
    TERMINATION,
    USAGE,
    Alteration,
    Charge,
    Level,
    Offer,
    canonical,
    instant,
    parse_offer,
    taxed_by,
)
from catalog.pricing.receipts import AmountStep, Receipt, ReceiptStep, reading
from catalog.pricing.rules import NO_RULES, Rules, Tax, parse_rules, plain_price_list, plain_tax
from catalog.pricing.selection import Held, Line, Selection, field_of
from catalog.pricing.usage import period_amount
from catalog.pricing.values import (
    AppliedAlteration,
    BundledSelection,
    Item,
    PriceComponent,
    PricedItem,
    PriceTotal,
    Pricing,
    PricingContext,
    Stage,
    UsageQuantity,
)
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Characteristic, Json, Money, decimal_of

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

_HUNDRED, _ONE, _ZERO = Decimal(100), Decimal(1), Decimal(0)
_MAX_NUMBER = 2**31 - 1
# The priority of what a bundle takes off its parts: after everything else.
_LAST = 2**31 - 1
# Of exclusivity groups: what is compared grows with their product.
_MOST_COMBINATIONS = 1_000


def price(
    items: Sequence[Item], offers: Mapping[str, Offer], context: PricingContext, rules: Rules = NO_RULES
) -> Pricing:
    """The price of the items, all of whose offerings (with what they bundle, in every version) are in `offers`.

    Raises InvalidArgument UNKNOWN_OFFERING, INVALID_QUANTITY, DUPLICATE_ITEM, TOO_MANY_LINES, NO_PRICE_IN_CURRENCY,
    CURRENCY_REQUIRED, BUNDLED_SELECTION, UNKNOWN_TERM, USAGE_NOT_PRICED, PRICE_DEPENDS; FailedPrecondition
    OFFERING_NOT_SELLABLE, NO_TAX_RATE, TOO_MANY_ALTERNATIVES: each naming the items at fault.
    """
    return _price(items, offers, context, rules, REVISION)


def replay(receipt: Receipt) -> Pricing:
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
        calculation = _Calculation(selection)
        currencies = _currencies(items, lines, context.currency)
        priced = [calculation.priced(*one) for one in zip(lines, currencies, (i.id for i in items), strict=True)]
        for item, answer in zip(items, priced, strict=True):
            answer.characteristic, answer.term, answer.started_at = item.characteristic, item.term, item.started_at
        calculation.check()
        total = totals(priced)
    inputs = _inputs(items, lines, selection, calculation.taxes)
    return Pricing(tuple(priced), total, Receipt(ENGINE, revision, Json(inputs), tuple(calculation.steps)))


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
            if used.amount < 0
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


# --- the calculation -------------------------------------------------------------------------------------------------


class _Calculation:
    """What the chosen charges come to, step by step."""

    def __init__(self, selection: Selection) -> None:
        self.steps: list[ReceiptStep] = []
        # The rates that were looked up, by category.
        self.taxes: dict[str, Tax] = {}
        self._selection = selection
        self._untaxed: list[Violation] = []

    def check(self) -> None:
        """Raises FailedPrecondition NO_TAX_RATE when a rate was looked up in vain."""
        if self._untaxed:
            raise FailedPrecondition("NO_TAX_RATE", self._untaxed[0].description, violations=self._untaxed)

    def priced(self, line: Line, currency: str, id: str) -> PricedItem:
        """A line with its charges, and those of the lines below it, under the name that the caller knows it by."""
        steps = self.steps
        steps += line.notes
        components: list[PriceComponent] = []
        for held, reason in self._selection.among(line, currency):
            if reason is not None:
                steps.append(ReceiptStep(line.subject, "REJECTED", held[0].rule, reason=reason))
            else:
                components.append(self._component(line, held))
        item = PricedItem(
            id,
            line.offer.ref,
            line.offer.specification,
            line.quantity,
            line.offer.is_bundle,
            components,
            [self.priced(part, currency, part.subject) for part in line.bundled],
        )
        if line.offer.parts_discount:
            self._discount_parts(line.offer, item)
        return item

    def _component(self, line: Line, held: Held) -> PriceComponent:
        """The charge for the line's quantity, reckoned as the catalog quotes it: with tax if it has it so."""
        charge, stage, levels = held
        if charge.kind == USAGE and self._used(line, charge) is None:
            return self._unused(line, charge, stage)
        steps, subject, rule, quantity = self.steps, line.subject, charge.rule, line.quantity
        currency, minor, gross = charge.currency, charge.minor_unit, charge.gross
        tax_rate, tax_rule, taxed, tax_note = charge.tax_rate, rule, charge.taxed, charge.tax_note
        if tax_rate is None and charge.tax_category:
            tax_rate, tax_rule, taxed, tax_note = self._tax(charge, line)
        quoted = amount = self._quoted(line, charge)
        net = amount / taxed if gross else amount
        listed = shown = net.quantize(minor) + _ZERO
        if listed != net and charge.alterations:
            steps.append(AmountStep(subject, "ROUNDED", rule, net, listed, currency, "list amount"))

        applied: list[AppliedAlteration] = []
        if charge.alterations:
            for level, rejected in levels if levels is not None else self._levels(line, charge, stage, quoted, taxed):
                if rejected:
                    self._reject(subject, rejected)
                effects, cut = _effects(level, amount, quoted, quantity, gross, taxed)
                for alteration, effect in zip(level, effects, strict=True):
                    before, amount = amount, amount + effect
                    net = amount / taxed if gross else amount
                    rounded = net.quantize(minor) + _ZERO
                    reason = alteration.reason
                    if cut:
                        if alteration is level[-1] and not amount:
                            # As plain as it is.
                            amount = _ZERO
                        reason = f"{reason}; not below zero" if reason else "not below zero"
                    steps.append(
                        AmountStep(subject, "ALTERATION_APPLIED", alteration.rule, before, amount, currency, reason)
                    )
                    applied.append(
                        AppliedAlteration(
                            alteration.ref,
                            alteration.name,
                            alteration.priority,
                            alteration.percentage,
                            currency,
                            rounded - shown,
                            alteration.duration,
                            None
                            if alteration.duration is None
                            else self._selection.lasts(alteration, charge, line, stage),
                        )
                    )
                    shown = rounded
        if shown != net:
            steps.append(AmountStep(subject, "ROUNDED", rule, net, shown, currency))
        included = shown
        if tax_rate is not None:
            included = (amount if gross else shown * taxed).quantize(minor) + _ZERO
            steps.append(AmountStep(subject, "TAX_ADDED", tax_rule, shown, included, currency, tax_note))
        return PriceComponent(
            rule,
            charge.ref,
            charge.name,
            charge.kind,
            charge.period,
            currency,
            listed,
            shown,
            tax_rate,
            included,
            applied,
            gross,
            charge.usage_type,
            stage,
        )

    def _quoted(self, line: Line, charge: Charge) -> Decimal:
        """What the catalog asks for the line's quantity, or for what was used, before alterations."""
        steps, subject, rule, currency = self.steps, line.subject, charge.rule, charge.currency
        included = "tax included" if charge.gross else None
        if charge.model is not None or charge.kind == USAGE:
            return self._by_model(line, charge, included)
        # There is one: charges without were left out.
        amount = charge.amount or _ZERO
        steps.append(AmountStep(subject, "PRICE_FOUND", rule, None, amount, currency, included))
        quantity = line.quantity
        if quantity != 1:
            before, amount = amount, amount * quantity
            steps.append(AmountStep(subject, "QUANTITY", rule, before, amount, currency, f"× {quantity}"))
        return amount

    def _by_model(self, line: Line, charge: Charge, included: str | None) -> Decimal:
        """By the tiers of the quantity ordered, or of what was used."""
        currency = charge.currency
        used = self._used(line, charge)
        assert charge.model is not None
        if used is None:
            amount, parts = tiers.amount(charge.model, Decimal(line.quantity))
            self.steps += tiers.receipt_steps(parts, line.subject, charge.rule, currency)
        else:
            exact, counted = period_amount(
                charge.model, used.amount, used.units, currency, first_rules=self._selection.second_rules
            )
            amount = EXACT.divide(exact.numerator, exact.denominator)
            self.steps += [replace(step, subject=line.subject, rule=charge.rule) for step in counted]
        self.steps.append(AmountStep(line.subject, "PRICE_FOUND", charge.rule, None, amount, currency, included))
        return amount

    @staticmethod
    def _used(line: Line, charge: Charge) -> UsageQuantity | None:
        if not charge.usage_type:
            return None
        return next((used for used in line.item.usage if used.usage_type == charge.usage_type), None)

    def _unused(self, line: Line, charge: Charge, stage: Stage | None) -> PriceComponent:
        """A usage price as it is listed: what it asks for each unit, and that nothing is due yet."""
        what = f"for each {charge.usage_type or 'unit'} used" if charge.model is None else "by what is used"
        step = AmountStep(
            line.subject, "PRICE_LISTED", charge.rule, None, charge.amount or _ZERO, charge.currency, what
        )
        self.steps.append(step)
        nothing = _ZERO.quantize(charge.minor_unit)
        rate = charge.tax_rate
        if rate is None and charge.tax_category:
            rate = self._tax(charge, line)[0]
        return PriceComponent(
            charge.rule,
            charge.ref,
            charge.name,
            USAGE,
            charge.period,
            charge.currency,
            nothing,
            nothing,
            rate,
            nothing,
            [],
            charge.gross,
            charge.usage_type,
            stage,
        )

    def _tax(self, charge: Charge, line: Line) -> tuple[Decimal | None, str, Decimal, str]:
        """The rate of the charge's category in percent, its id, the factor by which it taxes, and what to say of it."""
        category, context = charge.tax_category, self._selection.context
        tax = self.taxes.get(category) or self._selection.rules.tax(category, context)
        if tax is None:
            where = f" in {', '.join(context.place)}" if context.place else ", and no place is stated"
            why = f"there is no tax rate of the category {category!r} at that time{where}: price {charge.rule} needs it"
            self._untaxed.append(Violation(field_of(line.index), why))
            return None, charge.rule, _ONE, ""
        self.taxes[category] = tax
        return tax.rate, tax.id, taxed_by(tax.rate), f"{tax.rate:f} %"

    def _levels(
        self, line: Line, charge: Charge, stage: Stage | None, quoted: Decimal, taxed: Decimal
    ) -> Sequence[Level]:
        """The alterations that count, by priority; those before the first of them that don't are noted at once."""
        levels, first = self._selection.levels(line, charge, stage)
        self._reject(line.subject, first)
        return self._best(line, charge, levels, quoted, taxed)

    def _reject(self, subject: str, rejected: Iterable[tuple[Alteration, str]]) -> None:
        for alteration, reason in rejected:
            self.steps.append(ReceiptStep(subject, "REJECTED", alteration.rule, reason=reason))

    def _best(
        self, line: Line, charge: Charge, levels: Sequence[Level], quoted: Decimal, taxed: Decimal
    ) -> Sequence[Level]:
        """The levels with one alteration of each exclusivity group: those with which the charge comes out lowest."""
        groups: dict[str, list[Alteration]] = {}
        for level, _ in levels:
            for alteration in level:
                if alteration.group:
                    groups.setdefault(alteration.group, []).append(alteration)
        rivals = [group for group in groups.values() if len(group) > 1]
        if not rivals:
            return levels
        if prod(len(group) for group in rivals) > _MOST_COMBINATIONS:
            why = f"the alterations of price {charge.rule} that exclude each other have too many combinations"
            raise FailedPrecondition("TOO_MANY_ALTERNATIVES", why, violations=[Violation(field_of(line.index), why)])

        def reached(chosen: Sequence[Alteration]) -> tuple[Decimal, list[tuple[int, str]]]:
            amount = quoted
            for level, _ in _without(levels, rivals, chosen):
                effects, _ = _effects(level, amount, quoted, line.quantity, charge.gross, taxed)
                amount += sum(effects)
            # Of equal ones always the same.
            return amount, [(alteration.priority, alteration.rule) for alteration in chosen]

        best = min(product(*rivals), key=reached)
        lowest = reached(best)[0].quantize(charge.minor_unit)
        for k, (group, winner) in enumerate(zip(rivals, best, strict=True)):
            for loser in group:
                if loser is not winner:
                    instead = reached((*best[:k], loser, *best[k + 1 :]))[0].quantize(charge.minor_unit)
                    reason = (
                        f"{winner.name or winner.rule} of the group {winner.group} is better: "
                        f"{lowest:f} {charge.currency} instead of {instead:f}"
                    )
                    self._reject(line.subject, [(loser, reason)])
        return _without(levels, rivals, best)

    def _discount_parts(self, bundle: Offer, item: PricedItem) -> None:
        """Takes the bundle's percentage off what its parts come to, kind by kind, split over them exactly."""
        percentage = -abs(bundle.parts_discount or _ZERO)
        alike: dict[tuple[str, str, Stage | None, bool, str], list[tuple[str, PriceComponent]]] = {}
        for part in _below(item):
            for component in part.component:
                if _amount(component) > 0 and component.price_type != TERMINATION:
                    key = (
                        component.price_type,
                        component.recurring_charge_period,
                        component.stage,
                        component.quoted_gross,
                        "" if self._selection.second_rules or component.price_type != USAGE else component.rule,
                    )
                    alike.setdefault(key, []).append((part.id, component))
        for found in alike.values():
            weights = [_amount(component) for _, component in found]
            currency = found[0][1].currency
            whole, minor = sum(weights, _ZERO), minor_unit(currency)
            reason = f"{percentage:f} % of {whole:f} {currency}"
            shares = split((whole * percentage / _HUNDRED).quantize(minor) + _ZERO, weights, minor)
            for (subject, component), share in zip(found, shares, strict=True):
                self._take_off(component, share, bundle, percentage, subject, reason)

    def _take_off(
        self, component: PriceComponent, share: Decimal, bundle: Offer, percentage: Decimal, subject: str, reason: str
    ) -> None:
        before, net, currency, minor = (
            _amount(component),
            component.net,
            component.currency,
            minor_unit(component.currency),
        )
        taxed = taxed_by(component.tax_rate)
        if component.quoted_gross:
            component.gross = before + share
            component.net = (component.gross / taxed).quantize(minor) + _ZERO
        else:
            component.net = before + share
            component.gross = (component.net * taxed).quantize(minor) + _ZERO
        component.alteration.append(
            AppliedAlteration(bundle.ref, bundle.ref.name or "", _LAST, percentage, currency, component.net - net)
        )
        self.steps.append(AmountStep(subject, "BUNDLE_DISCOUNT", bundle.id, before, before + share, currency, reason))
        if component.tax_rate is not None:
            self.steps.append(
                AmountStep(
                    subject,
                    "TAX_ADDED",
                    component.rule,
                    component.net,
                    component.gross,
                    currency,
                    f"{component.tax_rate:f} %",
                )
            )


def _effects(
    level: Sequence[Alteration], amount: Decimal, quoted: Decimal, quantity: int, gross: bool, taxed: Decimal
) -> tuple[list[Decimal], bool]:
    """What each alteration of a level adds to the amount, in the terms (with or without tax) in which the charge is
    quoted, and whether discounts were cut, the last first, so that the charge stays above zero."""
    if len(level) == 1 and amount > 0 and (percentage := level[0].percentage) is not None and percentage >= -100:
        # Most are like that, and none of these takes anything below zero.
        return [amount * percentage / _HUNDRED], False
    effects: list[Decimal] = []
    # Of what has been granted away already there is no percentage.
    base = amount if amount > 0 or quoted < 0 else _ZERO
    for alteration in level:
        if alteration.percentage is not None:
            effects.append(base * alteration.percentage / _HUNDRED)
            continue
        effect = (alteration.amount or _ZERO) * quantity
        if gross and not alteration.gross:
            effect = effect * taxed
        elif alteration.gross and not gross:
            effect = effect / taxed
        effects.append(effect)
    if quoted < 0 or (excess := -amount - sum(effects, _ZERO)) <= 0:
        return effects, False
    cut = False
    for k in reversed(range(len(effects))):
        spared = _ZERO if level[k].may_be_negative else min(excess, max(-effects[k], _ZERO))
        effects[k] += spared
        excess -= spared
        cut = cut or spared > 0
    return effects, cut


def _without(
    levels: Sequence[Level], rivals: Sequence[Sequence[Alteration]], chosen: Sequence[Alteration]
) -> Sequence[Level]:
    """The levels without those rivals that weren't chosen."""
    dropped = {id(rival) for group in rivals for rival in group} - {id(alteration) for alteration in chosen}
    return [([a for a in level if id(a) not in dropped], rejected) for level, rejected in levels]


def _amount(component: PriceComponent) -> Decimal:
    """As the catalog states it, with or without tax."""
    return component.gross if component.quoted_gross else component.net


def _below(item: PricedItem) -> Iterable[PricedItem]:
    for part in item.bundled_item:
        yield part
        yield from _below(part)


def totals(items: Iterable[PricedItem]) -> tuple[PriceTotal, ...]:
    """What is due now, by currency, kind and period: nothing of phases that are yet to begin."""
    sums: dict[tuple[str, str, str], tuple[Decimal, Decimal]] = {}
    nothing = (_ZERO, _ZERO)
    for top in items:
        for item in (top, *_below(top)):
            for component in item.component:
                if component.later or component.price_type == TERMINATION:
                    continue
                if component.price_type == USAGE and not component.listed:
                    continue
                key = (component.currency, component.price_type, component.recurring_charge_period)
                net, gross = sums.get(key, nothing)
                sums[key] = net + component.net, gross + component.gross
    return tuple(
        PriceTotal(kind, period, Money(unit=currency, value=net), Money(unit=currency, value=gross))
        for (currency, kind, period), (net, gross) in sorted(sums.items())
    )
