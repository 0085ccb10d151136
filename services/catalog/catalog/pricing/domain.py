"""What prices rest on beside the offerings: price lists and tax rates."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from catalog.product.domain import UNSOLD, CatalogItem
from catalog.product.numbers import excessive
from chassis.errors import FailedPrecondition, Violation
from chassis.types import EntityRef


@dataclass(kw_only=True, eq=False)
class PricingRule(CatalogItem):
    """What the prices of many offerings rest on: it stays as it is as soon as it counts."""

    CHANGEABLE: ClassVar[frozenset[str] | None] = UNSOLD

    @property
    def fixed(self) -> bool:
        """As soon as it is active, since prices go by it then."""
        return self.status.released


@dataclass(kw_only=True, eq=False)
class PriceList(PricingRule):
    """Prices for the customers of these agreements, segments and branches, instead of the general ones."""

    INSTEAD: ClassVar[str] = "make another price list, for the prices of a new version of the offering"

    agreement: tuple[EntityRef, ...] = ()
    market_segment: tuple[EntityRef, ...] = ()
    customer_branch: tuple[str, ...] = ()
    priority: int | None = None

    def _contradictions(self) -> Iterable[Violation]:
        yield from super()._contradictions()
        for name, references in (("agreement", self.agreement), ("market_segment", self.market_segment)):
            for i, reference in enumerate(references):
                if not reference.id and not reference.name:
                    yield Violation(f"{name}[{i}]", "it names nothing")

    def _omissions(self) -> Iterable[Violation]:
        if not (self.agreement or self.market_segment or self.customer_branch):
            yield Violation("market_segment", "a price list says for whom it is")


@dataclass(kw_only=True, eq=False)
class TaxRate(PricingRule):
    """How much tax (percent) there is on things of a category, in a place (None: in any), for some time."""

    INSTEAD: ClassVar[str] = "make another tax rate, which begins later"

    tax_category: str | None = None
    place: str | None = None
    rate: Decimal | None = None

    def _contradictions(self) -> Iterable[Violation]:
        yield from super()._contradictions()
        yield from excessive("rate", self.rate)
        if self.rate is not None and self.rate < 0:
            yield Violation("rate", "a tax rate isn't negative")

    def _omissions(self) -> Iterable[Violation]:
        if not self.tax_category:
            yield Violation("tax_category", "a tax rate is looked up by its category")
        if self.rate is None:
            yield Violation("rate", "a tax is charged by its rate")


def check_unused(price_list: PriceList, prices: Iterable[str]) -> None:
    """Refuses to delete a price list that prices belong to. Raises FailedPrecondition REFERENCED naming some."""
    names = ", ".join(prices)
    if names:
        raise FailedPrecondition(
            "REFERENCED",
            f"PriceList {price_list.id} is that of the prices {names}",
            metadata={"referrers": names},
        )


def check_unneeded(rule: PricingRule, prices: Iterable[str]) -> None:
    """Keeps what the prices of something rest on. Raises FailedPrecondition REFERENCED naming some of them."""
    names = ", ".join(prices)
    if names:
        raise FailedPrecondition(
            "REFERENCED",
            f"{type(rule).__name__} {rule.id} can't be {rule.status}: the prices {names} go by it",
            metadata={"referrers": names},
        )


def check_draft(rate: TaxRate) -> None:
    """Refuses to delete a rate by which tax may have been charged. Raises FailedPrecondition WAS_RELEASED."""
    if rate.status.released:
        raise FailedPrecondition(
            "WAS_RELEASED",
            f"TaxRate {rate.id} is {rate.status}: tax may have been charged by it; make another that begins later",
            metadata={"lifecycle_status": rate.status.value},
        )
