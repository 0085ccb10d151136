"""What can be asked of recommendations."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from catalog.pricing.receipts import Receipt, ReceiptStep
from catalog.qualification import store as qualification_store
from catalog.qualification.domain import names_of
from catalog.qualification.eligibility import Held, Restrictions, Verdict, current_versions, judge
from catalog.recommendation import store
from catalog.recommendation.domain import QueryProductRecommendation
from catalog.recommendation.entitlement_api import Entitlements
from catalog.recommendation.recommendation import (
    DISCOUNT_ENGINE,
    MINIMUM_OBSERVATIONS,
    REVISION,
    Candidate,
    CoHolding,
    recommend_discounts,
)
from catalog.recommendation.values import UsedQuantity
from chassis.convert import from_message, from_money, to_message
from chassis.db import Database
from chassis.errors import DomainError, InvalidArgument
from chassis.resources import Collection, StandardMethods
from chassis.types import Json, new_id
from chassis.unit import Unit
from svyaz.catalog.v1 import pricing_pb2, recommendation_pb2
from svyaz.type.v1 import receipt_pb2, values_pb2

_Message = recommendation_pb2.QueryProductRecommendation
# Prices a request as `PricingService.Price` does.
Pricer = Callable[[pricing_pb2.PriceRequest], pricing_pb2.PriceResponse]
# The place of a kind of usage in a refusal.
_USAGE = re.compile(r"usage\[(\d+)\]")
_MONTHS = {"month": 1, "2 month": 2, "3 month": 3, "6 month": 6, "12 month": 12, "year": 12}


class Recommendations(StandardMethods):
    """TMF680, and recommended discounts."""

    def __init__(self, database: Database, pricer: Pricer, entitlements: Entitlements) -> None:
        self._database = database
        self._entitlements = entitlements
        self._pricer = pricer
        self._questions = Collection(database, QueryProductRecommendation, _Message)
        super().__init__(
            recommendation_pb2.DESCRIPTOR.services_by_name["RecommendationService"],
            self._questions,
        )

    def CreateQueryProductRecommendation(
        self, request: recommendation_pb2.CreateQueryProductRecommendationRequest, context: Any
    ) -> recommendation_pb2.QueryProductRecommendation:
        """Takes a question and answers it; one that needn't be answered at once is accepted first, as an event."""
        remembered = self._database.remembered(request, _Message)
        if remembered is not None:
            return remembered
        branch = self._database.branch_for_create(QueryProductRecommendation, request.branch)

        def asked(at: datetime) -> QueryProductRecommendation:
            question = from_message(
                request.query_product_recommendation, QueryProductRecommendation, id=new_id(), branch=branch
            )
            question.check(at)
            return question

        # Before the transaction: prices are asked for in transactions of their own.
        question = asked(self._database.clock.now())
        found = self._find(question)
        customers = [question.customer_id] if question.customer_id else []
        reminders = self._entitlements.of(customers, names_of(question.market_segment), self._database.clock.now())

        def work(unit: Unit) -> recommendation_pb2.QueryProductRecommendation:
            question = asked(unit.at)
            if question.instant_sync_recommendation:
                question.answer(*found, reminders, unit.at)
                unit.add(question)
            else:
                unit.add(question)
                unit.flush()
                question.answer(*found, reminders, unit.at)
            return self._questions.reply(unit, question)

        return self._database.transact(request, _Message, work)

    def _find(self, question: QueryProductRecommendation) -> tuple[list[Candidate], list[CoHolding], int]:
        """What the customer can have that something speaks for, what is held together, and by how many of the customers
        that were looked at."""
        with self._database.unit() as unit:
            held = qualification_store.held(unit, question.customer_id)
            book = qualification_store.every_restriction(unit)
            book |= qualification_store.restrictions(unit, [one.product_offering_id for one in held])
            wanted = self._wanted(unit, question)
            names = {key: offering.name for key, offering in book.items()}
            pairs, customers = store.together(unit, [one.product_offering_id for one in held], names)
            situation = question.situation(unit.at)
        has = {book[one.product_offering_id].line for one in held if one.product_offering_id in book}
        verdicts = [
            judge(offering.id, book, situation, held)
            for line, offering in sorted(current_versions(book.values(), situation.at).items())
            if line not in has and (wanted is None or offering.id in wanted)
        ]
        offered = {pair.other_id for pair in pairs}
        candidates = [
            self._candidate(verdict, book[verdict.product_offering_id], held, question)
            for verdict in verdicts
            # For the others nothing speaks.
            if verdict.eligible and (verdict.replaces or verdict.product_offering_id in offered)
        ]
        return candidates, pairs, customers

    @staticmethod
    def _wanted(unit: Unit, question: QueryProductRecommendation) -> set[str] | None:
        if not question.category:
            return None
        return set().union(*(qualification_store.shelf(unit, one.id or "") for one in question.category))

    def _candidate(
        self, verdict: Verdict, offering: Restrictions, held: Sequence[Held], question: QueryProductRecommendation
    ) -> Candidate:
        plain = Candidate(
            product_offering_id=offering.id,
            name=offering.name,
            replaces=verdict.replaces,
            upgrade=verdict.upgrade,
            unknown=verdict.unknown,
        )
        if not verdict.replaces:
            return plain
        then = self._monthly([offering.id], question, "")
        leaving = [one.product_offering_id for one in held if one.product_id in verdict.replaces]
        today = self._monthly(leaving, question, then[0] if then is not None else "", exact_version=True)
        if then is None or today is None or then[0] != today[0]:
            return plain
        return replace(plain, currency=then[0], monthly=then[1], monthly_today=today[1])

    def _monthly(
        self, ids: Iterable[str], question: QueryProductRecommendation, currency: str, *, exact_version: bool = False
    ) -> tuple[str, Decimal] | None:
        """What these cost a month for the usage, with tax, and in what currency; None: it can't be told.

        What is used is charged by the first of them that has a price for it; what none has a price for is included.
        """
        waiting = list(question.usage)
        monthly = Decimal()
        for key in ids:
            item = pricing_pb2.PriceRequestItem(id="1", product_offering_id=key, exact_version=exact_version)
            try:
                priced, charged = self._priced(item, waiting, question, currency)
            except DomainError:
                # What can't be priced (in that currency, at that time) can't be compared.
                return None
            found = _monthly_total(priced)
            if found is None or (currency and currency != found[0]):
                return None
            waiting = [used for used in waiting if used not in charged]
            currency, monthly = found[0], monthly + found[1]
        return (currency, monthly) if currency else None

    def _priced(
        self,
        item: pricing_pb2.PriceRequestItem,
        usage: Sequence[UsedQuantity],
        question: QueryProductRecommendation,
        currency: str,
    ) -> tuple[pricing_pb2.PriceResponse, Sequence[UsedQuantity]]:
        """The price of the item for as much of the usage as it has prices for, and which that is."""
        request = pricing_pb2.PriceRequest(
            item=[item],
            context=pricing_pb2.PricingContext(
                currency=currency,
                branch=question.branch,
                customer_id=question.customer_id,
                market_segment=[name for one in question.market_segment for name in (one.id, one.name) if name],
            ),
        )
        request.item[0].usage.extend(
            pricing_pb2.UsageQuantity(
                usage_type=used.usage_type or "", amount=f"{used.amount or 0:f}", units=used.units or ""
            )
            for used in usage
        )
        try:
            return self._pricer(request), usage
        except InvalidArgument as error:
            unpriced = {int(n) for wrong in error.violations for n in _USAGE.findall(wrong.field)}
            if error.reason != "USAGE_NOT_PRICED" or not unpriced:
                raise
        return self._priced(item, [used for k, used in enumerate(usage) if k not in unpriced], question, currency)

    def RecommendDiscount(
        self, request: recommendation_pb2.RecommendDiscountRequest, context: Any
    ) -> recommendation_pb2.RecommendDiscountResponse:
        """See `catalog.recommendation.recommendation.recommend_discounts`."""
        minimum = request.minimum_observations if request.HasField("minimum_observations") else MINIMUM_OBSERVATIONS
        with self._database.unit() as unit:
            accepted = store.accepted_discounts(unit, request.product_offering_id)
        if request.market_segment:
            accepted = {segment: accepted.get(segment, []) for segment in request.market_segment}
        found = recommend_discounts(accepted, minimum)
        inputs = {
            "minimum_observations": minimum,
            "most_sales": store.MOST_SALES,
            "product_offering_id": request.product_offering_id,
            # What was accepted by how many: the same answer follows from it.
            "accepted": {segment: _counted(accepted[segment]) for segment in sorted(accepted)},
        }
        steps = tuple(
            ReceiptStep(
                one.market_segment,
                "REFUSED" if one.refused else "RECOMMENDED",
                request.product_offering_id,
                after=None if one.recommended_percentage is None else f"{one.recommended_percentage:f} %",
                reason=one.refused or f"the median of {one.observations} sales",
            )
            for one in found
        )
        receipt = Receipt(DISCOUNT_ENGINE, REVISION, Json(msgspec.json.encode(inputs).decode()), steps)
        return recommendation_pb2.RecommendDiscountResponse(
            segment=[to_message(one, recommendation_pb2.SegmentDiscount) for one in found],
            receipt=to_message(receipt, receipt_pb2.Receipt),
        )


def _counted(accepted: Iterable[Decimal]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for discount in sorted(accepted):
        counts[f"{discount:f}"] = counts.get(f"{discount:f}", 0) + 1
    return counts


def _monthly_total(priced: pricing_pb2.PriceResponse) -> tuple[str, Decimal] | None:
    currencies = {total.amount.unit for total in priced.total}
    if len(currencies) != 1:
        return None
    monthly = Decimal()
    for total in priced.total:
        if total.price_type not in ("recurring", "usage"):
            continue
        # What was used was used in one period.
        months = 1 if total.price_type == "usage" else _MONTHS.get(total.recurring_charge_period)
        if months is None:
            return None
        monthly += _amount(total.tax_included_amount) / months
    return currencies.pop(), monthly


def _amount(money: values_pb2.Money) -> Decimal:
    return from_money(money).value or Decimal()
