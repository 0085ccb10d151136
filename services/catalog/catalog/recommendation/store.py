"""The table of recommendations, and what is read of the holdings to make them."""

import threading
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa

from catalog.holding import store as holding_store
from catalog.holding.domain import SoldPrice
from catalog.recommendation.domain import QueryProductRecommendation
from catalog.recommendation.recommendation import CoHolding, discount_of
from catalog.schema import metadata
from chassis.db import Resource, Unit, aggregate_table
from chassis.types import Aggregate
from svyaz.catalog.v1 import recommendation_pb2

query_product_recommendation = aggregate_table(metadata, "query_product_recommendation", QueryProductRecommendation)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    QueryProductRecommendation: Resource(recommendation_pb2.QueryProductRecommendation, query_product_recommendation),
}

_FRESH = timedelta(minutes=10)
_PAGE = 2_000


class CustomerCount:
    """How many customers hold anything, in all branches together; counted again when it is ten minutes old."""

    def __init__(self) -> None:
        self._known: tuple[datetime, int] | None = None
        self._lock = threading.Lock()

    def get(self, unit: Unit) -> int:
        """The number."""
        with self._lock:
            if self._known is None or not timedelta() <= unit.at - self._known[0] < _FRESH:
                row = unit.cursor().execute("SELECT holding_customers()").fetchone()
                self._known = (unit.at, int(row[0]) if row is not None else 0)
            return self._known[1]


def together(unit: Unit, held_ids: Iterable[str], names: Mapping[str, str]) -> list[CoHolding]:
    """What else the holders of these offerings hold."""
    held = sorted(set(held_ids))
    pairs = holding_store.co_holders(unit, held)
    holders = {pair.product_offering_id: pair.customers for pair in pairs if pair.product_offering_id == pair.other_id}
    others = sorted({pair.other_id for pair in pairs} - set(held))
    holders |= {
        pair.product_offering_id: pair.customers
        for pair in holding_store.co_holders(unit, others)
        if pair.product_offering_id == pair.other_id
    }
    return [
        CoHolding(
            held_id=pair.product_offering_id,
            other_id=pair.other_id,
            both=pair.customers,
            held=holders.get(pair.product_offering_id, 0),
            other=holders.get(pair.other_id, 0),
            held_name=names.get(pair.product_offering_id, ""),
        )
        for pair in pairs
        if pair.other_id not in held
    ]


def accepted_discounts(unit: Unit, offering_id: str) -> dict[str, list[Decimal]]:
    """The discounts (per cent) at which holders in the caller's branches bought the offering, by their segments.

    One of each holder: of all that it is charged together. A holder of several segments counts in each, one of none
    under the empty name.
    """
    table = holding_store.holding
    query = (
        sa.select(table.c.market_segment, table.c.sold)
        .where(table.c.product_offering_id == offering_id, table.c.live, table.c.sold.is_not(None))
        .order_by(table.c.id)
        .execution_options(yield_per=_PAGE)
    )
    result: dict[str, list[Decimal]] = {}
    for segments, sold in unit.session.execute(query):
        discount = _discount(sold)
        if discount is not None:
            for segment in segments or ("",):
                result.setdefault(segment, []).append(discount)
    return result


def _discount(sold: Iterable[SoldPrice]) -> Decimal | None:
    """Of the recurring charges, which are what a customer looks at; of the others where there is none."""
    priced = [price for price in sold if price.net is not None]
    recurring = [price for price in priced if price.price_type == "recurring"] or priced
    if not recurring or len({price.currency for price in recurring}) > 1:
        return None
    net = sum((price.net or Decimal() for price in recurring), Decimal())
    return discount_of(net, [one.net or Decimal() for price in recurring for one in price.alteration])
