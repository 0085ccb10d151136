"""Questions what to offer a customer next, and their answers (TMF680)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from catalog.pricing.receipts import Receipt, ReceiptStep
from catalog.qualification.domain import customer_among, kept_json, names_of
from catalog.qualification.eligibility import Situation
from catalog.recommendation.recommendation import ENGINE, REVISION, Candidate, CoHolding, Recommended, recommend
from catalog.recommendation.values import (
    ItemRef,
    RecommendationItem,
    RecommendationReason,
    RecommendationState,
    UsedQuantity,
)
from chassis.errors import InvalidArgument, Violation
from chassis.products import ProductRefOrValue, RelatedPlaceRefOrValue
from chassis.types import Aggregate, EntityRef, Money, RelatedParty, TimePeriod

# Prices and holdings move on.
_HOLDS = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class _Inputs:
    candidate: tuple[Candidate, ...]
    together: tuple[CoHolding, ...]
    customers: int


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
        self.recommendation_item, self.valid_for, self.receipt = (), None, None

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
        self, candidates: Sequence[Candidate], together: Sequence[CoHolding], customers: int, at: datetime
    ) -> None:
        """Answers with the best of the candidates."""
        found = recommend(candidates, together, customers)
        self.recommendation_item = tuple(_item(rank, one) for rank, one in enumerate(found, 1))
        self.valid_for = TimePeriod(start_date_time=at, end_date_time=at + _HOLDS)
        inputs = _Inputs(tuple(candidates), tuple(together), customers)
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
            ),
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
