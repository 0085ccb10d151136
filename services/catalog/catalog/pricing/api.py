"""What a price is asked for, and what prices rest on beside the offerings."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from catalog.pricing import messages, store
from catalog.pricing.domain import PriceList, TaxRate, check_draft, check_unused
from catalog.pricing.explain import explain
from catalog.pricing.offers import Offer
from catalog.pricing.pricing import parse_context, price, replay
from catalog.pricing.receipts import Receipt, ReceiptStep, reading
from catalog.pricing.values import Pricing, PricingContext
from catalog.product.api import Guards
from chassis.db import Database
from chassis.resources import Collection, StandardMethods
from chassis.types import Json
from chassis.unit import Unit
from svyaz.catalog.v1 import entitlement_pb2, pricing_pb2, pricing_rules_pb2


class SaleGuard(Protocol):
    """Knows what can't be sold."""

    # What it asks by the customer, beside the offers (see `store.OfferBook`).
    beside: str

    def __call__(
        self,
        items: Sequence[pricing_pb2.PriceRequestItem],
        ids: Sequence[str],
        asked: pricing_pb2.PricingContext,
        at: datetime,
        current: store.Current | None,
    ) -> None:
        """Refuses by raising what can't be sold to that customer at that instant; `ids`: the offerings that are
        sold."""
        ...


# What an agent is reminded of who asks for a price for a customer.
Reminder = Callable[[pricing_pb2.PricingContext, datetime], Iterable[entitlement_pb2.EntitledDiscount]]


class Further(Protocol):
    """What is done with an answer before it is given: promotions, say."""

    # What it asks beside the offers (see `store.OfferBook`).
    beside: str

    def apply(
        self, pricing: Pricing, context: PricingContext, offers: Mapping[str, Offer], current: store.Current | None
    ) -> Pricing:
        """The answer by what is known now; what it rests on is added to the receipt's inputs."""
        ...

    def replay(self, pricing: Pricing, context: PricingContext, inputs: Mapping[str, Any]) -> Pricing:
        """The same answer again, from nothing but a receipt's inputs."""
        ...


class Prices:
    """What it costs, and why."""

    def __init__(
        self,
        database: Database,
        guard: SaleGuard,
        *further: Further,
        remind: Reminder = lambda context, at: (),
    ) -> None:
        self._database = database
        self._remind = remind
        self._guard = guard
        self.book = store.OfferBook(beside=[one.beside for one in further])
        self._further = further

    def Price(self, request: pricing_pb2.PriceRequest, context: Any) -> pricing_pb2.PriceResponse:
        """See `catalog.pricing.pricing.price`; raises FailedPrecondition OFFERING_NOT_ELIGIBLE for a sale."""
        items = messages.items_of(request.item)
        customers = messages.customers_of(request.context) if request.context.for_sale else ()
        offers, rules, current = self.book.read_beside(
            self._database,
            {item.product_offering_id for item in items},
            also=self._guard.beside if customers else "",
            keys=customers,
        )
        asked = messages.context_of(request.context, self._database.clock.now())
        pricing = price(items, offers, asked, rules)
        if request.context.for_sale:
            # Of a series the version that was priced is the one that is sold.
            sold = [item.product_offering.id or "" for item in pricing.item]
            self._guard(request.item, sold, request.context, asked.at, current)
        for one in self._further:
            pricing = one.apply(pricing, asked, offers, current)
        answer = messages.response(pricing)
        if request.context.remind:
            answer.entitled_discount.extend(self._remind(request.context, asked.at))
        return answer

    def ReplayPrice(self, request: pricing_pb2.ReplayPriceRequest, context: Any) -> pricing_pb2.PriceResponse:
        """See `catalog.pricing.pricing.replay`."""
        given = request.receipt
        with reading():
            text = given.inputs.decode()
        pricing = replay(Receipt(given.engine, given.revision, Json(text), ()))
        if self._further:
            inputs = json.loads(text)
            for one in self._further:
                pricing = one.replay(pricing, parse_context(inputs["context"]), inputs)
        return messages.response(pricing)

    def ExplainPrice(self, request: pricing_pb2.ExplainPriceRequest, context: Any) -> pricing_pb2.ExplainPriceResponse:
        """See `catalog.pricing.explain.explain`."""
        given = request.receipt
        # Not by the codec: a step may be about the order as a whole, and then has no subject.
        steps = tuple(
            ReceiptStep(
                step.subject,
                step.action,
                step.rule,
                step.before if step.HasField("before") else None,
                step.after if step.HasField("after") else None,
                step.reason if step.HasField("reason") else None,
            )
            for step in given.step
        )
        # What isn't UTF-8 isn't JSON either, and is refused as such.
        receipt = Receipt(given.engine, given.revision, Json(given.inputs.decode(errors="replace")), steps)
        return pricing_pb2.ExplainPriceResponse(line=explain(receipt, request.language))


class PricingRules(StandardMethods):
    """What prices rest on beside the offerings."""

    def __init__(self, database: Database, guards: Guards) -> None:
        super().__init__(
            pricing_rules_pb2.DESCRIPTOR.services_by_name["PricingRulesService"],
            Collection(
                database,
                PriceList,
                pricing_rules_pb2.PriceList,
                creating=guards.creating,
                changed=guards.changed,
                deleting=_deleting_list,
            ),
            Collection(
                database,
                TaxRate,
                pricing_rules_pb2.TaxRate,
                creating=guards.creating,
                changed=guards.changed,
                deleting=lambda unit, rate: check_draft(rate),
            ),
        )


def _deleting_list(unit: Unit, price_list: PriceList) -> None:
    check_unused(price_list, store.prices_of_list(unit, price_list.id))
