"""The table of recommendations, and what is read of the holdings to make them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from catalog.holding import store as holding_store
from catalog.holding.domain import HoldingStatus, SoldPrice
from catalog.product.domain import ProductOffering
from catalog.product.store import any_of, product_offering, references
from catalog.promotion.domain import Promotion
from catalog.recommendation.domain import DiscountEntitlement, QueryProductRecommendation
from catalog.recommendation.recommendation import CoHolding, discount_of
from catalog.schema import metadata
from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from svyaz.catalog.v1 import entitlement_pb2, recommendation_pb2

query_product_recommendation = aggregate_table(metadata, "query_product_recommendation", QueryProductRecommendation)
# Rules are few, and common to all branches.
discount_entitlement = aggregate_table(metadata, "discount_entitlement", DiscountEntitlement)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    DiscountEntitlement: Resource(entitlement_pb2.DiscountEntitlement, discount_entitlement, common=True),
    QueryProductRecommendation: Resource(recommendation_pb2.QueryProductRecommendation, query_product_recommendation),
}

# In use: what is suspended isn't, what is to end still is.
_ACTIVE = (HoldingStatus.ACTIVE, HoldingStatus.PENDING_TERMINATE)
# Of the sales of an offering so many are looked at, chosen by a hash of their ids.
MOST_SALES = 20_000


def entitlements(unit: Unit) -> list[DiscountEntitlement]:
    """All rules."""
    return list(unit.session.scalars(sa.select(DiscountEntitlement)))


def unknown_offerings(unit: Unit, rule: DiscountEntitlement) -> list[int]:
    """Which of the offerings that the rule names don't exist, by their places."""
    named = [one.id or "" for one in rule.product_offering]
    known = set(unit.session.scalars(sa.select(product_offering.c.id).where(product_offering.c.id == any_of(named))))
    return [i for i, key in enumerate(named) if key not in known]


def refer(unit: Unit, rule: DiscountEntitlement) -> None:
    """Remembers what the rule names, so that it stays."""
    named = [("product_offering", ProductOffering.__name__, one.id) for one in rule.product_offering]
    named += [("promotion", Promotion.__name__, rule.promotion.id)] if rule.promotion is not None else []
    rows = [
        {
            "field": field,
            "target_id": key,
            "referrer_type": DiscountEntitlement.__name__,
            "target_type": kind,
            "part": False,
        }
        for field, kind, key in dict.fromkeys(named)
    ]
    references.refer_now(unit, rule.id, rows)


def forget(unit: Unit, gone: DiscountEntitlement) -> None:
    """It refers to nothing any more."""
    references.refer_now(unit, gone.id, ())


def active(unit: Unit, customer_ids: Sequence[str], at: datetime) -> list[tuple[str, datetime]]:
    """The offerings of the products that are active by now, each with its beginning; no parts of bundles."""
    return [
        (one.product_offering_id or "", one.started_at)
        for one in holding_store.holdings_of(unit, *customer_ids)
        if one.bundle_id is None and one.status in _ACTIVE and one.started_at is not None and one.started_at <= at
    ]


def together(unit: Unit, held_ids: Iterable[str], names: Mapping[str, str]) -> tuple[list[CoHolding], int]:
    """What else the holders of these offerings hold, and how many customers were looked at."""
    held = set(held_ids)
    found = holding_store.co_holders(unit, held)
    pairs = [
        CoHolding(
            held_id=pair.product_offering_id,
            other_id=pair.other_id,
            both=pair.both,
            held=pair.one,
            other=pair.other,
            held_name=names.get(pair.product_offering_id, ""),
        )
        for pair in found
        if pair.other_id not in held
    ]
    return pairs, found[0].customers if found else 0


def accepted_discounts(unit: Unit, offering_id: str) -> dict[str, list[Decimal]]:
    """The discounts (per cent) at which holders in the caller's branches bought the offering, by their segments: of
    MOST_SALES at most.

    One of each holder: of all that it is charged together. A holder of several segments counts in each, by its id and
    by its name, one of none under the empty name.
    """
    table = holding_store.holding
    query = (
        sa.select(table.c.market_segment, table.c.sold)
        .where(table.c.product_offering_id == offering_id, table.c.live, table.c.sold.is_not(None))
        .order_by(sa.func.hashtext(table.c.id))
        .limit(MOST_SALES)
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
