"""Questions what to offer a customer next, and their answers (TMF680)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from catalog.pricing.receipts import Receipt, ReceiptStep
from catalog.qualification.domain import customer_among, kept_json, names_of
from catalog.qualification.eligibility import Situation
from catalog.recommendation.entitlement import Rule
from catalog.recommendation.recommendation import ENGINE, REVISION, Candidate, CoHolding, Recommended, recommend
from catalog.recommendation.values import (
    EntitledDiscount,
    ItemRef,
    RecommendationItem,
    RecommendationReason,
    RecommendationState,
    UsedQuantity,
)
from chassis.errors import InvalidArgument, Violation
from chassis.products import ProductRefOrValue, RelatedPlaceRefOrValue
from chassis.types import Aggregate, Duration, EntityRef, Money, RelatedParty, TimePeriod

_ALL = Decimal(100)
_UNITS = ("day", "week", "month", "year")
# Prices and holdings move on.
_HOLDS = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class _Inputs:
    candidate: tuple[Candidate, ...]
    together: tuple[CoHolding, ...]
    customers: int
    entitled_discount: tuple[EntitledDiscount, ...]


@dataclass(kw_only=True, eq=False)
class DiscountEntitlement(Aggregate):
    """A rule: who holds so many products for so long is entitled to a discount (`percentage` off)."""

    name: str | None = None
    description: str | None = None
    last_update: datetime | None = None
    valid_for: TimePeriod | None = None
    market_segment: tuple[EntityRef, ...] = ()
    product_offering: tuple[EntityRef, ...] = ()
    minimum_products: int | None = None
    held_for: Duration | None = None
    percentage: Decimal | None = None
    promotion: EntityRef | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument CONTRADICTION naming what nobody could be entitled by."""
        wrong = list(self._contradictions())
        if wrong:
            raise InvalidArgument("CONTRADICTION", wrong[0].description, violations=wrong)
        self.last_update = at

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes the changes; the time of the last one is ours."""
        super().revise({name: value for name, value in changes.items() if name != "last_update"}, at)
        self.check(at)

    def rule(self, lines: Mapping[str, str]) -> Rule:
        """What it means to the engine; `lines`: the first version of each offering."""
        assert self.percentage is not None
        return Rule(
            id=self.id,
            name=self.name or "",
            percentage=self.percentage,
            minimum_products=1 if self.minimum_products is None else self.minimum_products,
            held_for=self.held_for,
            segments=frozenset(names_of(self.market_segment)),
            lines=frozenset(lines.get(one.id or "", one.id or "") for one in self.product_offering),
            valid_for=self.valid_for or TimePeriod(),
            promotion=self.promotion,
        )

    def _contradictions(self) -> Iterable[Violation]:
        if not self.name:
            yield Violation("name", "people are told by which rule it is")
        if self.percentage is None or not 0 < self.percentage <= _ALL:
            yield Violation("percentage", "a discount is more than nothing and at most 100 per cent")
        if self.minimum_products is not None and self.minimum_products < 1:
            yield Violation("minimum_products", "who holds nothing is no regular customer")
        lasting = self.held_for
        if lasting is not None and ((lasting.amount or 0) < 1 or lasting.units not in _UNITS):
            yield Violation("held_for", f"it is so many of {', '.join(_UNITS)}")
        period = self.valid_for or TimePeriod()
        if period.start_date_time and period.end_date_time and period.end_date_time < period.start_date_time:
            yield Violation("valid_for", "it ends before it starts")


@dataclass(kw_only=True, eq=False)
class QueryProductRecommendation(Aggregate):
    """What to offer to a customer next, and why."""

    STATE: ClassVar[str | None] = "state"

    description: str | None = None
    instant_sync_recommendation: bool | None = None
    name: str | None = None
    recommendation_type: str | None = None
    category: tuple[EntityRef, ...] = ()
    channel: tuple[EntityRef, ...] = ()
    place: RelatedPlaceRefOrValue | None = None
    product_order: tuple[EntityRef, ...] = ()
    product_order_item: tuple[ItemRef, ...] = ()
    recommendation_item: tuple[RecommendationItem, ...] = ()
    related_party: RelatedParty | None = None
    shopping_cart: tuple[EntityRef, ...] = ()
    shopping_cart_item: tuple[ItemRef, ...] = ()
    state: RecommendationState | None = None
    valid_for: TimePeriod | None = None
    market_segment: tuple[EntityRef, ...] = ()
    usage: tuple[UsedQuantity, ...] = ()
    entitled_discount: tuple[EntitledDiscount, ...] = ()
    information_required: tuple[str, ...] = ()
    receipt: Receipt | None = None

    def check(self, at: datetime) -> None:
        """A question begins without its answer. Raises InvalidArgument BAD_INITIAL_STATE."""
        if self.state not in (None, RecommendationState.ACCEPTED):
            raise InvalidArgument(
                "BAD_INITIAL_STATE",
                "a recommendation begins as 'accepted'",
                violations=[Violation("state", "not initial")],
            )
        self.state = RecommendationState.ACCEPTED
        self.recommendation_item, self.entitled_discount, self.information_required = (), (), ()
        self.valid_for, self.receipt = None, None

    @property
    def customer_id(self) -> str:
        """The customer whom it is about: the one party that the question names, whatever its role."""
        if self.related_party is None:
            return ""
        return customer_among([self.related_party]) or self.related_party.id or ""

    def situation(self, at: datetime) -> Situation:
        """Who it is for, where and when."""
        return Situation(
            at=at,
            branch=self.branch,
            channel=names_of(self.channel),
            place=names_of([self.place] if self.place is not None else []),
            market_segment=names_of(self.market_segment),
        )

    def answer(
        self,
        candidates: Sequence[Candidate],
        together: Sequence[CoHolding],
        customers: int,
        entitled_discounts: Sequence[EntitledDiscount],
        at: datetime,
    ) -> None:
        """Answers with the best of the candidates, with what would have to be known to recommend more, and with the
        discounts that the customer is entitled to."""
        found = recommend([one for one in candidates if not one.unknown], together, customers)
        unsure = [one.candidate for one in recommend([one for one in candidates if one.unknown], together, customers)]
        self.information_required = tuple(dict.fromkeys(what for one in unsure for what in one.unknown))
        self.entitled_discount = tuple(entitled_discounts)
        self.recommendation_item = tuple(_item(rank, one) for rank, one in enumerate(found, 1))
        self.valid_for = TimePeriod(start_date_time=at, end_date_time=at + _HOLDS)
        inputs = _Inputs(tuple(candidates), tuple(together), customers, self.entitled_discount)
        self.receipt = Receipt(
            ENGINE,
            REVISION,
            kept_json(inputs),
            tuple(
                ReceiptStep(
                    str(rank),
                    why.code,
                    one.candidate.product_offering_id,
                    after=None if why.weight is None else f"{why.weight:f}",
                    reason=why.label,
                )
                for rank, one in enumerate(found, 1)
                for why in one.reasons
            )
            + tuple(
                ReceiptStep("", "INFORMATION_REQUIRED", one.product_offering_id, reason=", ".join(one.unknown))
                for one in unsure
            )
            + tuple(_step(one) for one in self.entitled_discount),
        )
        self.state = RecommendationState.DONE


def _item(rank: int, recommended: Recommended) -> RecommendationItem:
    candidate = recommended.candidate
    offering = EntityRef(
        id=candidate.product_offering_id, name=candidate.name or None, at_referred_type="ProductOffering"
    )
    return RecommendationItem(
        id=str(rank),
        priority=rank,
        product=ProductRefOrValue(name=candidate.name or None, product_offering=offering),
        product_offering=offering,
        reason=tuple(
            RecommendationReason(code=why.code, label=why.label, label_ru=why.label_ru, weight=why.weight)
            for why in recommended.reasons
        ),
        monthly_saving=None if recommended.saving is None else Money(unit=candidate.currency, value=recommended.saving),
        replaced_product=tuple(EntityRef(id=key, at_referred_type="Product") for key in candidate.replaces),
    )


def _step(reminder: EntitledDiscount) -> ReceiptStep:
    rule = reminder.discount_entitlement or EntityRef()
    return ReceiptStep("", "ENTITLED", rule.id or "", after=f"{reminder.percentage} %", reason=reminder.label)
