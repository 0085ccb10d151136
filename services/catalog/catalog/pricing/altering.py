"""How discounts and surcharges alter what a period's usage comes to, as they alter what is ordered; exact fractions.

By ascending priority; those of one priority all reckon from the same amount. Of an exclusivity group the one counts
with which the amount comes out lowest; of several groups all combinations are compared. A discount doesn't take the
amount below zero unless it says that it may. (The rules are those of `catalog.pricing.pricing`, which alters decimals.)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod
from typing import Any

from catalog.pricing.money import exact_of, number, rounded
from catalog.pricing.offers import Alteration
from chassis.errors import FailedPrecondition

_ZERO = Fraction(0)
# Of exclusivity groups: what is compared grows with their product.
_MOST_COMBINATIONS = 1_000


@dataclass(frozen=True, slots=True)
class UsageAlteration:
    """So many per cent, or an amount, off (negative) or on what a period's usage comes to.

    `gross`: the amount includes the tax. Made from its plain form only (`parse_levels`).
    """

    rule: str
    name: str
    percentage: Fraction | None
    amount: Fraction
    gross: bool
    group: str
    may_be_negative: bool


# By priority.
Levels = Sequence[Sequence[UsageAlteration]]


@dataclass(frozen=True, slots=True)
class Altered:
    """One alteration that was made; `cut`: less of it counts, so that the amount stays above zero."""

    alteration: UsageAlteration
    before: Fraction
    after: Fraction
    cut: bool


def plain_alteration(alteration: Alteration) -> dict[str, Any]:
    """The plain form, which `parse_levels` takes; what hasn't been stated isn't written."""
    data: dict[str, Any] = {"rule": alteration.rule, "name": alteration.name}
    if alteration.percentage is not None:
        data["percentage"] = format(alteration.percentage, "f")
    elif alteration.amount is not None:
        data["amount"] = format(alteration.amount, "f")
        if alteration.gross:
            data["gross"] = True
    if alteration.group:
        data["group"] = alteration.group
    if alteration.may_be_negative:
        data["may_be_negative"] = True
    return data


def parse_levels(data: Iterable[Iterable[Mapping[str, Any]]]) -> Levels:
    """Alterations by priority, from their plain form."""
    return tuple(tuple(_parse(one) for one in level) for level in data)


def _parse(data: Mapping[str, Any]) -> UsageAlteration:
    return UsageAlteration(
        data["rule"],
        data["name"],
        exact_of(data["percentage"]) if "percentage" in data else None,
        exact_of(data.get("amount", "0")),
        data.get("gross", False),
        data.get("group", ""),
        data.get("may_be_negative", False),
    )


def without_rivals(
    levels: Levels, exact: Fraction, *, gross: bool, taxed: Fraction, currency: str
) -> tuple[Levels, list[tuple[UsageAlteration, str]]]:
    """The levels with one alteration of each exclusivity group; the others, each with the reason.

    `gross`: the amount includes the tax, by the factor `taxed`. Raises FailedPrecondition TOO_MANY_ALTERNATIVES.
    """
    groups: dict[str, list[tuple[int, UsageAlteration]]] = {}
    for place, level in enumerate(levels):
        for alteration in level:
            if alteration.group:
                groups.setdefault(alteration.group, []).append((place, alteration))
    rivals = [group for group in groups.values() if len(group) > 1]
    if not rivals:
        return levels, []
    if prod(map(len, rivals)) > _MOST_COMBINATIONS:
        why = "the alterations of usage that exclude each other have too many combinations"
        raise FailedPrecondition("TOO_MANY_ALTERNATIVES", why)

    def kept(chosen: Sequence[tuple[int, UsageAlteration]]) -> Levels:
        dropped = {id(rival) for group in rivals for _, rival in group} - {id(one) for _, one in chosen}
        return tuple(tuple(one for one in level if id(one) not in dropped) for level in levels)

    def reached(chosen: Sequence[tuple[int, UsageAlteration]]) -> Fraction:
        amount = exact
        for step in altered(kept(chosen), exact, gross=gross, taxed=taxed):
            amount = step.after
        return amount

    # Of equal ones always the same.
    best = min(product(*rivals), key=lambda chosen: (reached(chosen), [(place, one.rule) for place, one in chosen]))
    lowest = number(rounded(reached(best), currency))
    rejected = []
    for k, (group, winner) in enumerate(zip(rivals, best, strict=True)):
        for loser in group:
            if loser is not winner:
                instead = number(rounded(reached((*best[:k], loser, *best[k + 1 :])), currency))
                why = f"{winner[1].name or winner[1].rule} of the group {winner[1].group} is better: "
                rejected.append((loser[1], f"{why}{lowest} {currency} instead of {instead} {currency}"))
    return kept(best), rejected


def altered(levels: Levels, exact: Fraction, *, gross: bool, taxed: Fraction) -> Iterator[Altered]:
    """What each alteration makes of the amount; as `without_rivals`."""
    amount = exact
    for level in levels:
        effects = _effects(level, amount, exact, gross, taxed)
        for alteration, (effect, cut) in zip(level, effects, strict=True):
            before, amount = amount, amount + effect
            yield Altered(alteration, before, amount, cut)


def altered_first(levels: Levels, exact: Fraction) -> Iterator[Altered]:
    """As receipts of the first revision have it: percentages only, and what falls below zero is cut one by one."""
    amount = exact
    for level in levels:
        base = amount
        for alteration in level:
            before, amount = amount, amount + base * (alteration.percentage or _ZERO) / 100
            cut = base >= 0 > amount
            amount = max(amount, _ZERO) if cut else amount
            yield Altered(alteration, before, amount, cut)


def _effects(
    level: Sequence[UsageAlteration], amount: Fraction, quoted: Fraction, gross: bool, taxed: Fraction
) -> list[tuple[Fraction, bool]]:
    # Of what has been granted away already there is no percentage.
    base = amount if amount > 0 or quoted < 0 else _ZERO
    effects = [_effect(alteration, base, gross, taxed) for alteration in level]
    excess = -amount - sum(effects, _ZERO)
    cuts = [False] * len(level)
    if quoted >= 0:
        for k in reversed(range(len(level))):
            spared = _ZERO if level[k].may_be_negative else min(max(excess, _ZERO), max(-effects[k], _ZERO))
            effects[k] += spared
            excess -= spared
            cuts[k] = spared > 0
    return list(zip(effects, cuts, strict=True))


def _effect(alteration: UsageAlteration, base: Fraction, gross: bool, taxed: Fraction) -> Fraction:
    if alteration.percentage is not None:
        return base * alteration.percentage / 100
    if gross == alteration.gross:
        return alteration.amount
    return alteration.amount * taxed if gross else alteration.amount / taxed
