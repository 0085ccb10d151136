"""What a price is asked for."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from catalog.pricing import store
from catalog.pricing.pricing import Item, PricingContext, Receipt, price, replay
from chassis.convert import from_message, from_timestamp, to_message
from chassis.db import Database
from svyaz.catalog.v1 import pricing_pb2

# Refuses by raising what can't be sold to that customer at that instant.
SaleGuard = Callable[[Sequence[pricing_pb2.PriceRequestItem], pricing_pb2.PricingContext, datetime], None]


class Prices:
    """What it costs, and why."""

    def __init__(self, database: Database, guard: SaleGuard) -> None:
        self._database = database
        self._guard = guard
        self._book = store.OfferBook()

    def Price(self, request: pricing_pb2.PriceRequest, context: Any) -> pricing_pb2.PriceResponse:
        """See `catalog.pricing.pricing.price`; raises FailedPrecondition OFFERING_NOT_ELIGIBLE for a sale."""
        asked = request.context
        items = [
            Item(item.id, item.product_offering_id, item.quantity if item.HasField("quantity") else 1)
            for item in request.item
        ]
        offers = self._book.offers(self._database, {item.product_offering_id for item in items})
        at = from_timestamp(asked.at) if asked.HasField("at") else self._database.clock.now()
        pricing = price(items, offers, PricingContext(at, asked.currency, asked.branch, asked.customer_id))
        if asked.for_sale:
            self._guard(request.item, asked, at)
        return to_message(pricing, pricing_pb2.PriceResponse)

    def ReplayPrice(self, request: pricing_pb2.ReplayPriceRequest, context: Any) -> pricing_pb2.PriceResponse:
        """See `catalog.pricing.pricing.replay`."""
        return to_message(replay(from_message(request.receipt, Receipt)), pricing_pb2.PriceResponse)
