"""What a set of offerings costs, and why: pure, exact, and with a receipt from which the same answer follows again.

How it counts:

* An amount stays exact (60 digits) from the catalog to the end of its line; list amount and amount are each rounded
  once, to the currency's minor unit (ISO 4217), half away from zero: what people and tax offices expect of a bill.
  Banker's rounding would spare a bias over millions of ties, but a customer who checks a bill would find it wrong.
* The amount of an alteration is what it adds to the rounded amount, so list amount and alterations sum exactly.
* Alterations apply by ascending priority; those of one priority all reckon from the same amount, so that their order
  can't matter. A discount never takes a charge below zero; a charge that is negative by itself (a credit) has no floor.
* An alteration is a discount whatever its sign (TM Forum's own example discounts by 20, others write -20), unless it is
  called a surcharge. A fixed one is per unit.
* Tax is reckoned on the rounded amount of a line. Where the catalog states the amount with tax, that amount is kept to
  the cent and the one without is derived.
* Prices of one offering all apply, except that of several currencies one is used; each kind of charge (one-time,
  monthly …) must then have a price in it, lest the rest be sold for nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from itertools import groupby

from catalog.pricing.money import EXACT, rounded
from catalog.pricing.offers import Alteration, Charge, Offer, canonical, instant, parse_offer
from catalog.product.domain import CHARGES, DRAFTS, sale_obstacle
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Duration, EntityRef, Json, Money

ENGINE = "catalog.pricing"
# Raised with every change of a rule; a receipt is replayed by the engine of its own revision.
REVISION = "1"

_HUNDRED, _ZERO = Decimal(100), Decimal(0)
MAX_LINES = 1_000
_MAX_NUMBER = 2**31 - 1


# --- what is asked ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """So many of an offering; `id` is the caller's own name for it."""

    id: str
    product_offering_id: str
    quantity: int = 1


@dataclass(frozen=True, slots=True)
class PricingContext:
    """For whom and when; `currency` empty: the one that the offering is priced in."""

    at: datetime
    currency: str = ""
    branch: str = ""
    customer_id: str = ""


# --- what is answered ------------------------------------------------------------------------------------------------
# Not frozen, though nobody changes them: they are made by the ten thousand, and freezing makes that six times slower.


@dataclass(slots=True)
class ReceiptStep:
    """One thing that was done, by what rule, and the amount before and after."""

    subject: str
    action: str
    rule: str
    before: str | None = None
    after: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class Receipt:
    """How the answer came about; `replay` gives the same answer from it."""

    engine: str
    revision: str
    inputs: Json
    step: tuple[ReceiptStep, ...]


@dataclass(slots=True)
class AppliedAlteration:
    """What one alteration added to a charge (negative: a discount)."""

    product_offering_price: EntityRef | None
    name: str
    priority: int
    percentage: Decimal | None
    amount: Money
    application_duration: Duration | None = None


@dataclass(slots=True)
class PriceComponent:
    """One charge of an item for its whole quantity; list amount and amount are rounded and without tax."""

    product_offering_price: EntityRef | None
    name: str
    price_type: str
    recurring_charge_period: str
    list_amount: Money
    amount: Money
    tax_rate: Decimal | None
    tax_included_amount: Money
    alteration: tuple[AppliedAlteration, ...]


@dataclass(slots=True)
class PricedItem:
    """An item with its charges, and those of the offerings that it bundles."""

    id: str
    product_offering: EntityRef
    product_specification: EntityRef | None
    quantity: int
    is_bundle: bool
    component: tuple[PriceComponent, ...]
    bundled_item: tuple["PricedItem", ...]


@dataclass(slots=True)
class PriceTotal:
    """What all items come to, of one currency, kind and charge period."""

    price_type: str
    recurring_charge_period: str
    amount: Money
    tax_included_amount: Money


@dataclass(slots=True)
class Pricing:
    """The answer and its receipt."""

    item: tuple[PricedItem, ...]
    total: tuple[PriceTotal, ...]
    receipt: Receipt


# --- the engine ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    """An offering in its place: below its bundle, in its number, with the charges that hold at the instant."""

    offer: Offer
    subject: str
    quantity: int
    charges: list[Charge]
    rejected: list[ReceiptStep]
    bundled: list["_Line"]

    def all(self) -> Iterable["_Line"]:
        yield self
        for line in self.bundled:
            yield from line.all()


def price(items: Sequence[Item], offers: Mapping[str, Offer], context: PricingContext) -> Pricing:
    """The price of the items, all of whose offerings (with what they bundle) are in `offers`.

    Raises InvalidArgument UNKNOWN_OFFERING, INVALID_QUANTITY, DUPLICATE_ITEM, TOO_MANY_LINES, NO_PRICE_IN_CURRENCY,
    CURRENCY_REQUIRED; FailedPrecondition OFFERING_NOT_SELLABLE: each naming the items at fault.
    """
    _check_items(items, offers)
    with localcontext(EXACT):
        lines = _lines(items, offers, context.at)
        steps: list[ReceiptStep] = []
        totals: dict[tuple[str, str, str], list[Decimal]] = {}
        priced = tuple(
            _priced(line, currency, context.at, steps, totals, item.id)
            for item, line, currency in zip(items, lines, _currencies(items, lines, context.currency), strict=True)
        )
    return Pricing(
        item=priced,
        total=tuple(
            PriceTotal(kind, period, Money(unit=currency, value=net), Money(unit=currency, value=gross))
            for (currency, kind, period), (net, gross) in sorted(totals.items())
        ),
        receipt=Receipt(ENGINE, REVISION, Json(_inputs(items, lines, context)), tuple(steps)),
    )


def replay(receipt: Receipt) -> Pricing:
    """The same answer again, from nothing but the receipt. Raises InvalidArgument for one of another engine."""
    if (receipt.engine, receipt.revision) != (ENGINE, REVISION):
        raise InvalidArgument("UNKNOWN_ENGINE", f"{receipt.engine} {receipt.revision} isn't {ENGINE} {REVISION}")
    inputs = json.loads(receipt.inputs.text)
    context = inputs["context"]
    return price(
        [Item(item["id"], item["product_offering_id"], item["quantity"]) for item in inputs["items"]],
        {offer["id"]: parse_offer(offer) for offer in inputs["offers"]},
        PricingContext(
            at=datetime.fromisoformat(context["at"]),
            currency=context["currency"],
            branch=context["branch"],
            customer_id=context["customer_id"],
        ),
    )


def _inputs(items: Sequence[Item], lines: Sequence[_Line], context: PricingContext) -> str:
    used = {line.offer.id: line.offer.text for top in lines for line in top.all()}
    asked = [{"id": i.id, "product_offering_id": i.product_offering_id, "quantity": i.quantity} for i in items]
    about = {
        "at": instant(context.at),
        "branch": context.branch,
        "currency": context.currency,
        "customer_id": context.customer_id,
    }
    offers = ",".join(used[key] for key in sorted(used))
    return f'{{"context":{canonical(about)},"items":{canonical(asked)},"offers":[{offers}]}}'


def _check_items(items: Sequence[Item], offers: Mapping[str, Offer]) -> None:
    unknown, numbers, doubles = [], [], []
    seen: set[str] = set()
    for i, item in enumerate(items):
        if item.product_offering_id not in offers:
            unknown.append(Violation(_field(i), f"there is no offering {item.product_offering_id!r}"))
        if not 0 < item.quantity <= _MAX_NUMBER:
            numbers.append(Violation(f"item[{i}].quantity", f"{item.quantity} isn't a number of things to be had"))
        if item.id and item.id in seen:
            doubles.append(Violation(f"item[{i}].id", f"another item is called {item.id!r}"))
        seen.add(item.id)
    for reason, wrong in (("INVALID_QUANTITY", numbers), ("DUPLICATE_ITEM", doubles), ("UNKNOWN_OFFERING", unknown)):
        if wrong:
            raise InvalidArgument(reason, wrong[0].description, violations=wrong)


def _field(index: int) -> str:
    return f"item[{index}].product_offering_id"


class _NotSellableError(Exception):
    def __init__(self, offer: Offer | None, why: str) -> None:
        super().__init__(why)
        self.offer = offer
        self.why = why


def _lines(items: Sequence[Item], offers: Mapping[str, Offer], at: datetime) -> list[_Line]:
    lines: list[_Line] = []
    wrong: list[Violation] = []
    metadata: dict[str, str] = {}
    room = [MAX_LINES]
    for i, item in enumerate(items):
        offer = offers[item.product_offering_id]
        try:
            lines.append(_line(offer, item.id or f"item[{i}]", item.quantity, offers, at, (), room))
        except _NotSellableError as error:
            wrong.append(Violation(_field(i), error.why))
            blamed = error.offer or offer
            metadata = metadata or {"product_offering_id": blamed.id, "lifecycle_status": blamed.status}
    if wrong:
        raise FailedPrecondition("OFFERING_NOT_SELLABLE", wrong[0].description, violations=wrong, metadata=metadata)
    return lines


def _line(
    offer: Offer,
    subject: str,
    quantity: int,
    offers: Mapping[str, Offer],
    at: datetime,
    above: tuple[str, ...],
    room: list[int],
) -> _Line:
    room[0] -= 1
    if room[0] < 0 or quantity > _MAX_NUMBER:
        raise InvalidArgument("TOO_MANY_LINES", f"more than {MAX_LINES} lines, or 2³¹ of one offering")
    why = sale_obstacle(offer.status, offer.valid_for, at, offer.is_sellable or bool(above), alone=not above)
    if why is None and offer.broken:
        why = f"isn't complete: {offer.broken[0]}"
    if why is not None:
        raise _NotSellableError(offer, f"offering {offer.id} {why}")
    draft = next((charge for charge in offer.charges if charge.status in DRAFTS), None)
    if draft is not None:
        # Left out, it would be sold for less than it is meant to cost.
        raise _NotSellableError(offer, f"offering {offer.id} has a price {draft.rule} that is {draft.status}")
    charges: list[Charge] = []
    rejected: list[ReceiptStep] = []
    for charge in offer.charges:
        reason = _idle(charge, at)
        if reason is None:
            charges.append(charge)
        else:
            rejected.append(ReceiptStep(subject, "REJECTED", charge.rule, reason=reason))
    if offer.charges and not charges:
        raise _NotSellableError(offer, f"offering {offer.id} has no price that holds at that time")
    bundled = []
    for key, number in offer.bundled:
        part = offers.get(key)
        if part is None or key in above or key == offer.id:
            raise _NotSellableError(
                offer,
                f"offering {offer.id} bundles {key!r}, which " + ("isn't there" if part is None else "bundles it"),
            )
        if number:
            bundled.append(_line(part, f"{subject}/{key}", quantity * number, offers, at, (*above, offer.id), room))
    return _Line(offer, subject, quantity, charges, rejected, bundled)


def _idle(charge: Charge, at: datetime) -> str | None:
    """Why a charge doesn't count."""
    if charge.kind not in CHARGES:
        return f"{charge.kind} isn't charged by being ordered"
    if charge.amount is None:
        return "it has no amount"
    return sale_obstacle(charge.status, charge.valid_for, at)


def _currencies(items: Sequence[Item], lines: Sequence[_Line], wanted: str) -> list[str]:
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
            absent.append(Violation(_field(i), f"offering {items[i].product_offering_id} isn't priced in {what}"))
        else:
            names = ", ".join(sorted(possible))
            ambiguous.append(Violation(_field(i), f"offering {items[i].product_offering_id} is priced in {names}"))
    for reason, wrong in (("NO_PRICE_IN_CURRENCY", absent), ("CURRENCY_REQUIRED", ambiguous)):
        if wrong:
            raise InvalidArgument(reason, wrong[0].description, violations=wrong, metadata={"currency": wanted})
    return chosen


def _possible_currencies(line: _Line) -> set[str] | None:
    """The currencies in which every kind of charge has a price; None when nothing is charged at all."""
    result: set[str] | None = None
    for part in line.all():
        kinds: dict[tuple[str, str], set[str]] = {}
        for charge in part.charges:
            kinds.setdefault((charge.kind, charge.period), set()).add(charge.currency)
        for currencies in kinds.values():
            result = currencies if result is None else result & currencies
    return result


def _priced(
    line: _Line,
    currency: str,
    at: datetime,
    steps: list[ReceiptStep],
    totals: dict[tuple[str, str, str], list[Decimal]],
    id: str,
) -> PricedItem:
    steps += line.rejected
    components = []
    for charge in line.charges:
        if charge.currency != currency:
            steps.append(ReceiptStep(line.subject, "REJECTED", charge.rule, reason=f"it is in {charge.currency}"))
            continue
        component = _component(line, charge, at, steps)
        total = totals.setdefault((currency, charge.kind, charge.period), [_ZERO, _ZERO])
        total[0] += component.amount.value or _ZERO
        total[1] += component.tax_included_amount.value or _ZERO
        components.append(component)
    return PricedItem(
        id,
        line.offer.ref,
        line.offer.specification,
        line.quantity,
        line.offer.is_bundle,
        tuple(components),
        tuple(_priced(part, currency, at, steps, totals, part.subject) for part in line.bundled),
    )


def _component(line: _Line, charge: Charge, at: datetime, steps: list[ReceiptStep]) -> PriceComponent:
    """The charge for the line's quantity. Works on the amount as it is quoted: with tax if the catalog has it so."""
    currency, subject, quantity = charge.currency, line.subject, line.quantity
    taxed = 1 + (charge.tax_rate or _ZERO) / _HUNDRED
    divisor = taxed if charge.gross else Decimal(1)

    # There is one: charges without were left out.
    quoted = amount = charge.amount or _ZERO
    steps.append(
        ReceiptStep(
            subject,
            "PRICE_FOUND",
            charge.rule,
            None,
            f"{amount:f} {currency}",
            "tax included" if charge.gross else None,
        )
    )
    if quantity != 1:
        before, amount = amount, amount * quantity
        steps.append(
            ReceiptStep(
                subject, "QUANTITY", charge.rule, f"{before:f} {currency}", f"{amount:f} {currency}", f"× {quantity}"
            )
        )
    listed = shown = rounded(amount / divisor, currency)
    if listed * divisor != amount and charge.alterations:
        _note_rounding(steps, subject, charge, amount / divisor, listed, "list amount")

    applied: list[AppliedAlteration] = []
    for _, group in groupby(_applicable(line, charge, at, steps), key=lambda alteration: alteration.priority):
        level = list(group)
        effects = [_effect(alteration, amount, quantity, charge, taxed) for alteration in level]
        reached = amount + sum(effects)
        cut = quoted >= 0 and reached < 0
        if cut:
            _cut(effects, -reached)
            reached = _ZERO
        running = amount
        for k, (alteration, effect) in enumerate(zip(level, effects, strict=True)):
            after = reached if k == len(level) - 1 else running + effect
            now = rounded(after / divisor, currency)
            steps.append(
                ReceiptStep(
                    subject,
                    "ALTERATION_APPLIED",
                    alteration.rule,
                    f"{running:f} {currency}",
                    f"{after:f} {currency}",
                    "; ".join(filter(None, (alteration.name, alteration.note, "not below zero" if cut else "")))
                    or None,
                )
            )
            applied.append(
                AppliedAlteration(
                    alteration.ref,
                    alteration.name,
                    alteration.priority,
                    alteration.percentage,
                    Money(unit=currency, value=now - shown),
                    alteration.duration,
                )
            )
            running, shown = after, now
        amount = reached

    if shown * divisor != amount:
        _note_rounding(steps, subject, charge, amount / divisor, shown, None)
    included = shown
    if charge.tax_rate is not None:
        included = rounded(amount if charge.gross else shown * taxed, currency)
        steps.append(
            ReceiptStep(
                subject,
                "TAX_ADDED",
                charge.rule,
                f"{shown:f} {currency}",
                f"{included:f} {currency}",
                f"{charge.tax_rate:f} %",
            )
        )
    return PriceComponent(
        charge.ref,
        charge.name,
        charge.kind,
        charge.period,
        Money(unit=currency, value=listed),
        Money(unit=currency, value=shown),
        charge.tax_rate,
        Money(unit=currency, value=included),
        tuple(applied),
    )


def _applicable(line: _Line, charge: Charge, at: datetime, steps: list[ReceiptStep]) -> Iterable[Alteration]:
    for alteration in charge.alterations:
        reason = sale_obstacle(alteration.status, alteration.valid_for, at)
        if reason is None and alteration.kind and alteration.kind != charge.kind:
            reason = f"it is for {alteration.kind} charges"
        if reason is None and alteration.percentage is None and alteration.currency != charge.currency:
            reason = f"it is in {alteration.currency}" if alteration.currency else "it has no amount"
        if reason is None:
            yield alteration
        else:
            steps.append(ReceiptStep(line.subject, "REJECTED", alteration.rule, reason=reason))


def _effect(alteration: Alteration, amount: Decimal, quantity: int, charge: Charge, taxed: Decimal) -> Decimal:
    """What the alteration adds to the amount, in the terms (with or without tax) in which the charge is quoted."""
    if alteration.percentage is not None:
        return amount * alteration.percentage / _HUNDRED
    effect = (alteration.amount or _ZERO) * quantity
    if charge.gross and not alteration.gross:
        return effect * taxed
    if alteration.gross and not charge.gross:
        return effect / taxed
    return effect


def _cut(effects: list[Decimal], excess: Decimal) -> None:
    """Takes from the discounts, the last first, what they grant in excess."""
    for k in reversed(range(len(effects))):
        spared = min(excess, max(-effects[k], _ZERO))
        effects[k] += spared
        excess -= spared


def _note_rounding(
    steps: list[ReceiptStep], subject: str, charge: Charge, before: Decimal, after: Decimal, reason: str | None
) -> None:
    currency = charge.currency
    steps.append(
        ReceiptStep(subject, "ROUNDED", charge.rule, f"{before:f} {currency}", f"{after:f} {currency}", reason)
    )
