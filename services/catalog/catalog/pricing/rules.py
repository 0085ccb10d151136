"""What the price of an offering rests on beside the offering: price lists and tax rates, in their plain form."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from catalog.pricing.offers import period_of, window
from catalog.pricing.values import PricingContext
from chassis.types import TimePeriod, decimal_of

_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PriceListTerms:
    """For whom a price list is: each of agreement, segment and branch that it states must fit."""

    id: str
    name: str
    agreement: tuple[str, ...]
    market_segment: tuple[str, ...]
    branch: tuple[str, ...]
    # Of two that fit equally well, that of the lower number.
    priority: int
    live: bool
    valid_for: TimePeriod

    def rank(self, context: PricingContext) -> tuple[int, int, int, int] | None:
        """The greater the more it is this customer's own: by agreement before segment before branch. None: not his."""
        if not self.live or not self.valid_for.covers(context.at):
            return None
        by_agreement = _fit(self.agreement, (context.agreement_id,))
        by_segment = _fit(self.market_segment, context.market_segment)
        by_branch = _fit(self.branch, (context.branch,))
        if by_agreement is None or by_segment is None or by_branch is None:
            return None
        return by_agreement, by_segment, by_branch, -self.priority


def _fit(wanted: Sequence[str], given: Sequence[str]) -> int | None:
    """1: one of them is given; 0: none is wanted; None: none of them is given."""
    if not wanted:
        return 0
    return 1 if any(one in wanted for one in given if one) else None


@dataclass(frozen=True, slots=True)
class Tax:
    """A tax rate (percent) of a category in a place; no place: wherever no narrower one is stated."""

    id: str
    name: str
    category: str
    place: str
    rate: Decimal
    live: bool
    valid_for: TimePeriod


@dataclass(frozen=True, slots=True)
class Rules:
    """Price lists by id, tax rates by category."""

    price_lists: Mapping[str, PriceListTerms] = field(default_factory=dict)
    taxes: Mapping[str, Sequence[Tax]] = field(default_factory=dict)

    def tax(self, category: str, context: PricingContext) -> Tax | None:
        """The rate of the narrowest place that has one at the time; of two, the one that began later."""
        valid = [tax for tax in self.taxes.get(category, ()) if tax.live and tax.valid_for.covers(context.at)]
        for place in (*context.place, ""):
            there = [tax for tax in valid if tax.place == place]
            if there:
                return max(there, key=lambda tax: (tax.valid_for.start_date_time or _EARLIEST, tax.id))
        return None


NO_RULES = Rules()


def plain_price_list(terms: PriceListTerms) -> dict[str, Any]:
    """The price list as a receipt quotes it."""
    return {
        "id": terms.id,
        "name": terms.name,
        "agreement": list(terms.agreement),
        "market_segment": list(terms.market_segment),
        "branch": list(terms.branch),
        "priority": terms.priority,
        "live": terms.live,
        "valid_for": window(terms.valid_for),
    }


def plain_tax(tax: Tax) -> dict[str, Any]:
    """The tax rate as a receipt quotes it."""
    return {
        "id": tax.id,
        "name": tax.name,
        "category": tax.category,
        "place": tax.place,
        "rate": format(tax.rate, "f"),
        "live": tax.live,
        "valid_for": window(tax.valid_for),
    }


def parse_rules(price_lists: Iterable[Mapping[str, Any]], taxes: Iterable[Mapping[str, Any]]) -> Rules:
    """The rules that a receipt quotes."""
    by_category: dict[str, list[Tax]] = {}
    for data in taxes:
        tax = Tax(**{**data, "rate": decimal_of(data["rate"]), "valid_for": period_of(data["valid_for"])})
        by_category.setdefault(tax.category, []).append(tax)
    lists = [
        PriceListTerms(
            **{
                **data,
                **{name: tuple(data[name]) for name in ("agreement", "market_segment", "branch")},
                "valid_for": period_of(data["valid_for"]),
            }
        )
        for data in price_lists
    ]
    return Rules({one.id: one for one in lists}, by_category)
