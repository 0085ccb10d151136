"""What a change comes to for products that are priced alike: pure.

How it compares:

* What is paid now is what was sold: the prices of the product in the inventory, less the discounts that have ended when
  the change takes place. Where the inventory has no prices, it is what the offering costs as it is.
* What is paid then is what the engine says of the offering as it would be, for one who has held it as long as this
  one: who has had a trial isn't given another. It is asked in the currency that is paid in.
* Only what recurs is compared, with tax. One-time charges are behind those who hold a product, unless they are to be
  charged them: then these are shown beside it, and decide where what recurs stays the same. Usage isn't known.
* Charges of several periods count by what they come to in a year of 365 days, or 12 months.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from fractions import Fraction

from catalog.holding.domain import SoldAlteration, SoldPrice
from catalog.preview.ages import sold_over
from catalog.preview.domain import Amount, Difference, PreviewOutcome, Priced, Subscription
from catalog.pricing.money import EXACT, rounded
from catalog.pricing.offers import Offer, charge_period
from catalog.pricing.pricing import BundledSelection, Item, PriceComponent, PricedItem, PricingContext, price
from catalog.pricing.rules import NO_RULES, Rules
from catalog.product.domain import ONE_TIME, RECURRING, kind_of_price
from chassis.errors import DomainError

_ZERO, _HUNDRED = Decimal(0), Decimal(100)
# Currency and charge period → what recurs.
Charged = Mapping[tuple[str, str], Amount]

_A_YEAR = {
    "year": Fraction(1),
    "month": Fraction(12),
    "week": Fraction(365, 7),
    "day": Fraction(365),
    "hour": Fraction(365 * 24),
}


@dataclass(frozen=True, slots=True)
class Move:
    """What becomes of those who hold an offering: they are priced as `to` from the instant on; None: they keep what
    they bought."""

    to: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Change:
    """By held offering what becomes of its holders; the offers as they are, and as they would be."""

    moves: Mapping[str, Move]
    before: Mapping[str, Offer]
    after: Mapping[str, Offer]
    rules: Rules = NO_RULES
    # Whether those who move are charged one-time prices too.
    charge_one_time: bool = False


def difference(held: Subscription, change: Change) -> Priced:
    """What the change comes to for such a product."""
    move = change.moves[held.product_offering_id]
    if move.at is None:
        return Priced(PreviewOutcome.KEPT)
    try:
        with localcontext(EXACT):
            before = paid(held.sold, held.ordered_at or held.started_at, move.at)
            if not held.sold:
                before, _ = charged(held, held.product_offering_id, change.before, change, move.at, "")
            currency = next((currency for currency, _ in before), "")
            after, once = charged(held, move.to, change.after, change, move.at, currency)
            return compared(before, after, once if change.charge_one_time else {})
    except DomainError as error:
        return Priced(PreviewOutcome.REFUSED, reason=error.reason, description=error.message)


def charged(
    held: Subscription, offering_id: str, offers: Mapping[str, Offer], change: Change, at: datetime, currency: str
) -> tuple[Charged, Mapping[str, Amount]]:
    """What recurs of the offering for such a product, and what is due once by currency. Raises what
    `catalog.pricing.pricing.price` raises."""
    # What is priced is the very version that is asked for: of the many that a change touches no other is looked at.
    needed = {one: offers[one] for one in with_parts(offering_id, offers)}
    terms = [term for offer in needed.values() for term in offer.terms]
    known = {term.name for term in terms if term.valid_for.covers(at)}
    item = Item(
        "1",
        offering_id,
        held.quantity,
        held.characteristic,
        # A version may know a term no longer that its holders are bound by.
        held.term if held.term in known else "",
        exact_version=True,
        bundled=tuple(_selected(held, offers[offering_id], change.before)),
        started_at=min(held.started_at or at, at),
    )
    context = PricingContext(
        at,
        currency,
        held.branch,
        held.customer_id,
        market_segment=held.market_segment,
        place=held.place,
        agreement_id=held.agreement_id,
    )
    totals: dict[tuple[str, str], Amount] = {}
    once: dict[tuple[str, str], Amount] = {}
    for component in _components(price([item], needed, context, change.rules).item):
        amount = Amount(component.net, component.gross)
        if component.price_type == RECURRING:
            _add(totals, component.currency, component.recurring_charge_period, amount)
        elif component.price_type == ONE_TIME:
            _add(once, component.currency, "", amount)
    return totals, {currency: amount for (currency, _), amount in once.items()}


def _components(items: Iterable[PricedItem]) -> Iterable[PriceComponent]:
    for item in items:
        yield from item.component
        yield from _components(item.bundled_item)


def _selected(held: Subscription, offer: Offer, before: Mapping[str, Offer]) -> Iterable[BundledSelection]:
    """As many of each part as there are of its series; of a part that could have been had and wasn't, none."""
    if not held.parts:
        return
    numbers: dict[str, int] = {}
    for key, number in held.parts:
        series = before[key].series if key in before else key
        numbers[series] = numbers.get(series, 0) + number
    sold = {before[part.id].series for part in before[held.product_offering_id].parts if part.id in before}
    for part in offer.parts:
        series = before[part.id].series if part.id in before else part.id
        if series in numbers:
            yield BundledSelection(part.id, max(1, numbers[series] // held.quantity))
        elif series in sold and not part.least:
            yield BundledSelection(part.id, 0)


def with_parts(key: str, offers: Mapping[str, Offer]) -> set[str]:
    """The offer and all that it bundles, as far as they are there."""
    found: set[str] = set()
    waiting = [key]
    while waiting:
        one = waiting.pop()
        if one in offers and one not in found:
            found.add(one)
            waiting += [part.id for part in offers[one].parts]
    return found


def paid(sold: Iterable[SoldPrice], since: datetime | None, at: datetime) -> Charged:
    """What recurs of prices as they were sold; `since`: when they began, None: they are still to begin."""
    totals: dict[tuple[str, str], Amount] = {}
    for one in sold:
        if kind_of_price(one.price_type, one.period) != RECURRING:
            continue
        _add(totals, one.currency, charge_period(one.period, None), _still(one, since or at, at))
    return totals


def _add(totals: dict[tuple[str, str], Amount], currency: str, period: str, amount: Amount) -> None:
    total = totals.get((currency, period), Amount(_ZERO, _ZERO))
    totals[currency, period] = Amount(total.net + amount.net, total.gross + amount.gross)


def _still(one: SoldPrice, since: datetime, at: datetime) -> Amount:
    """The price without the discounts that have ended."""
    taxed = 1 + (one.tax_rate or _ZERO) / _HUNDRED
    net = one.net
    if net is None:
        net = rounded((one.gross or _ZERO) / taxed, one.currency)
    ended = [alteration.net or _ZERO for alteration in one.alteration if _over(alteration, since, at)]
    if one.gross is not None and not ended:
        return Amount(net, one.gross)
    net -= sum(ended, _ZERO)
    return Amount(net, rounded(net * taxed, one.currency))


def _over(alteration: SoldAlteration, since: datetime, at: datetime) -> bool:
    if alteration.until is not None:
        return alteration.until <= at
    return bool(alteration.duration) and sold_over(alteration.duration or 0, alteration.units, since, at)


def compared(before: Charged, after: Charged, once: Mapping[str, Amount] | None = None) -> Priced:
    """Whether what is paid after is more, by the year where the periods differ; `once`: what is due once besides."""
    nothing = Amount(_ZERO, _ZERO)
    differences = tuple(
        Difference(currency, period, before.get((currency, period), nothing), after.get((currency, period), nothing))
        for currency, period in sorted({*before, *after})
    )
    changes = [one for one in differences if one.change]
    signs = {one.change > 0 for one in changes}
    further = tuple(Difference(currency, "", nothing, amount) for currency, amount in sorted((once or {}).items()))
    if not changes:
        outcome = PreviewOutcome.MORE if any(one.change > 0 for one in further) else PreviewOutcome.SAME
    elif len(signs) == 1:
        outcome = PreviewOutcome.MORE if signs.pop() else PreviewOutcome.LESS
    else:
        yearly = _yearly(changes)
        if yearly is None:
            return Priced(
                PreviewOutcome.REFUSED,
                differences + further,
                "INCOMPARABLE",
                "it pays more of one thing and less of another, in other currencies or periods",
            )
        outcome = PreviewOutcome.MORE if yearly > 0 else PreviewOutcome.LESS if yearly < 0 else PreviewOutcome.SAME
    return Priced(outcome, differences + further)


def _yearly(changes: Sequence[Difference]) -> Fraction | None:
    if len({one.currency for one in changes}) > 1:
        return None
    total = Fraction(0)
    for one in changes:
        count, _, unit = one.period.rpartition(" ")
        if unit not in _A_YEAR:
            return None
        total += Fraction(one.change) * _A_YEAR[unit] / int(count or 1)
    return total
