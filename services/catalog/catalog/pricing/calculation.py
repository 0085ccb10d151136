"""What the charges that count come to, step by step, by the rules that `catalog.pricing.pricing` states."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import product
from math import prod

from catalog.pricing import tiers
from catalog.pricing.money import EXACT, minor_unit, split
from catalog.pricing.offers import TERMINATION, USAGE, Alteration, Charge, Level, Offer, taxed_by
from catalog.pricing.receipts import AmountStep, ReceiptStep, Step
from catalog.pricing.rules import Tax
from catalog.pricing.selection import Held, Line, Selection, field_of
from catalog.pricing.usage import period_amount
from catalog.pricing.values import AppliedAlteration, PriceComponent, PricedItem, PriceTotal, Stage, UsageQuantity
from chassis.errors import FailedPrecondition, Violation
from chassis.types import Money

_HUNDRED, _ONE, _ZERO = Decimal(100), Decimal(1), Decimal(0)
# The most that a percentage takes off without going below zero.
_ALL_OF_IT = Decimal(-100)
# The priority of what a bundle takes off its parts: after everything else.
_LAST = 2**31 - 1
# Of exclusivity groups: what is compared grows with their product.
_MOST_COMBINATIONS = 1_000


class Calculation:
    """One request's; amounts are reckoned in the context `catalog.pricing.money.EXACT`, which the caller enters."""

    def __init__(self, selection: Selection) -> None:
        self.steps: list[Step] = []
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
        self.steps += line.notes
        components: list[PriceComponent] = []
        for held, reason in self._selection.among(line, currency):
            if reason is None:
                components.append(self._component(line, held))
            else:
                self.steps.append(ReceiptStep(line.subject, "REJECTED", held[0].rule, reason=reason))
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
        subject, rule, currency, gross, minor = (
            line.subject,
            charge.rule,
            charge.currency,
            charge.gross,
            charge.minor_unit,
        )
        write = self.steps.append
        tax_rate, tax_rule, taxed, tax_note = charge.tax_rate, rule, charge.taxed, charge.tax_note
        if levels is not None:
            # Nothing has to be looked up: so are most.
            quoted = self._quoted(line, charge)
        elif charge.kind == USAGE and self._used(line, charge) is None:
            return self._unused(line, charge, stage)
        else:
            if tax_rate is None and charge.tax_category:
                tax_rate, tax_rule, taxed, tax_note = self._tax(charge, line)
            by_model = charge.model is not None or charge.kind == USAGE
            quoted = self._by_model(line, charge) if by_model else self._quoted(line, charge)
        net = quoted / taxed if gross else quoted
        listed = net.quantize(minor) + _ZERO
        amount, shown, applied = quoted, listed, list[AppliedAlteration]()
        if charge.alterations:
            if listed != net:
                write(AmountStep(subject, "ROUNDED", rule, net, listed, currency, "list amount"))
            counting = self._levels(line, charge, stage, quoted, taxed) if levels is None else levels
            amount, net, shown = self._alter(line, charge, stage, counting, quoted, listed, taxed, applied)
        if shown != net:
            write(AmountStep(subject, "ROUNDED", rule, net, shown, currency))
        included = shown
        if tax_rate is not None:
            included = (amount if gross else shown * taxed).quantize(minor) + _ZERO
            write(AmountStep(subject, "TAX_ADDED", tax_rule, shown, included, currency, tax_note))
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

    def _alter(
        self,
        line: Line,
        charge: Charge,
        stage: Stage | None,
        levels: Sequence[Level],
        quoted: Decimal,
        listed: Decimal,
        taxed: Decimal,
        applied: list[AppliedAlteration],
    ) -> tuple[Decimal, Decimal, Decimal]:
        """Applies the alterations, level by level: the amount as it is quoted, and without tax, exact and rounded."""
        subject, quantity, currency = line.subject, line.quantity, charge.currency
        gross, minor, write = charge.gross, charge.minor_unit, self.steps.append
        amount, shown = quoted, listed
        net = quoted / taxed if gross else quoted
        for level, rejected in levels:
            if rejected:
                self._reject(subject, rejected)
            effects, cut = _effects(level, amount, quoted, quantity, gross, taxed)
            for k, alteration in enumerate(level):
                before, amount = amount, amount + effects[k]
                net = amount / taxed if gross else amount
                rounded = net.quantize(minor) + _ZERO
                reason = alteration.reason
                if cut:
                    if alteration is level[-1] and not amount:
                        # As plain as it is.
                        amount = _ZERO
                    reason = f"{reason}; not below zero" if reason else "not below zero"
                write(AmountStep(subject, "ALTERATION_APPLIED", alteration.rule, before, amount, currency, reason))
                applied.append(
                    AppliedAlteration(
                        alteration.ref,
                        alteration.name,
                        alteration.priority,
                        alteration.percentage,
                        currency,
                        rounded - shown,
                        alteration.duration,
                        None if alteration.duration is None else self._selection.lasts(alteration, charge, line, stage),
                    )
                )
                shown = rounded
        return amount, net, shown

    def _quoted(self, line: Line, charge: Charge) -> Decimal:
        """What the catalog asks for the line's quantity, before alterations."""
        steps, subject, rule, currency, quantity = self.steps, line.subject, charge.rule, charge.currency, line.quantity
        # There is one: charges without were left out.
        amount = charge.amount or _ZERO
        included = "tax included" if charge.gross else None
        steps.append(AmountStep(subject, "PRICE_FOUND", rule, None, amount, currency, included))
        if quantity == 1:
            return amount
        whole = amount * quantity
        steps.append(AmountStep(subject, "QUANTITY", rule, amount, whole, currency, f"× {quantity}"))
        return whole

    def _by_model(self, line: Line, charge: Charge) -> Decimal:
        """The same by the tiers of the quantity ordered, or of what was used."""
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
        included = "tax included" if charge.gross else None
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


def _plain_effect(alteration: Alteration, amount: Decimal, quantity: int, gross: bool) -> Decimal | None:
    """What an alteration that is alone in its level adds to an amount above zero; None: that has to be looked at more
    closely, since it would take the amount below zero, or is stated otherwise than the charge."""
    percentage = alteration.percentage
    if percentage is not None:
        return amount * percentage / _HUNDRED if percentage >= _ALL_OF_IT else None
    if alteration.gross != gross:
        return None
    effect = (alteration.amount or _ZERO) * quantity
    return effect if amount + effect >= 0 else None


def _effects(
    level: Sequence[Alteration], amount: Decimal, quoted: Decimal, quantity: int, gross: bool, taxed: Decimal
) -> tuple[Sequence[Decimal], bool]:
    """What each alteration of a level adds to the amount, in the terms (with or without tax) in which the charge is
    quoted, and whether discounts were cut, the last first, so that the charge stays above zero."""
    if len(level) == 1 and amount > 0 and (effect := _plain_effect(level[0], amount, quantity, gross)) is not None:
        # Most are like that.
        return (effect,), False
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
