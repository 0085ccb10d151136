"""What a price is asked for."""

from typing import Any

from catalog.pricing import store
from catalog.pricing.pricing import Item, PricingContext, price, replay
from catalog.pricing.receipts import Receipt
from chassis.convert import from_message, from_timestamp, to_message
from chassis.db import Database
from svyaz.catalog.v1 import pricing_pb2


class Prices:
    """What it costs, and why."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._book = store.OfferBook()

    def Price(self, request: pricing_pb2.PriceRequest, context: Any) -> pricing_pb2.PriceResponse:
        """See `catalog.pricing.pricing.price`."""
        asked = request.context
        items = [
            Item(item.id, item.product_offering_id, item.quantity if item.HasField("quantity") else 1)
            for item in request.item
        ]
        offers = self._book.offers(self._database, {item.product_offering_id for item in items})
        at = from_timestamp(asked.at) if asked.HasField("at") else self._database.clock.now()
        pricing = price(items, offers, PricingContext(at, asked.currency, asked.branch, asked.customer_id))
        return to_message(pricing, pricing_pb2.PriceResponse)

    def ReplayPrice(self, request: pricing_pb2.ReplayPriceRequest, context: Any) -> pricing_pb2.PriceResponse:
        """See `catalog.pricing.pricing.replay`."""
        return to_message(replay(from_message(request.receipt, Receipt)), pricing_pb2.PriceResponse)
