"""What pricing reads of the catalog."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from catalog.pricing.offers import Offer, compile_offer, price_ids, related_price_ids
from catalog.product.domain import ProductOffering, ProductOfferingPrice
from catalog.product.store import any_of, product_offering, product_offering_price
from chassis.db import Database, Unit


@dataclass(frozen=True, slots=True)
class _Kept:
    offer: Offer
    # The revision of everything that the offer was compiled from; None: there was no such thing.
    revisions: Mapping[str, int | None]


class OfferBook:
    """Compiled offers, kept between calls. One query tells which are still current; the others are compiled anew."""

    def __init__(self, most: int = 50_000) -> None:
        self._kept: dict[str, _Kept] = {}
        self._most = most
        self._lock = threading.Lock()

    def offers(self, database: Database, ids: Iterable[str]) -> dict[str, Offer]:
        """The offers with these ids, and all that they bundle; those that don't exist are left out."""
        wanted = set(ids)
        kept = self._closure(wanted)
        current = _revisions(database, {key for entry in kept.values() for key in entry.revisions})
        found = {
            key: entry.offer
            for key, entry in kept.items()
            if all(current.get(source) == revision for source, revision in entry.revisions.items())
        }
        if self._below(wanted, found) - found.keys():
            with database.unit() as unit:
                self._complete(unit, wanted, found)
        return found

    def _complete(self, unit: Unit, wanted: set[str], found: dict[str, Offer]) -> None:
        """Adds what isn't found yet of the wanted offers and of all that they bundle."""
        missing = self._below(wanted, found) - found.keys()
        tried: set[str] = set()
        while missing:
            fresh = _compiled(unit, missing)
            self._keep(fresh)
            found |= {key: entry.offer for key, entry in fresh.items()}
            tried |= missing
            missing = self._below(wanted, found) - found.keys() - tried

    def _closure(self, wanted: set[str]) -> dict[str, _Kept]:
        result: dict[str, _Kept] = {}
        waiting = list(wanted)
        while waiting:
            key = waiting.pop()
            entry = self._kept.get(key)
            if entry is not None and key not in result:
                result[key] = entry
                waiting += [bundled for bundled, _ in entry.offer.bundled]
        return result

    @staticmethod
    def _below(wanted: set[str], offers: Mapping[str, Offer]) -> set[str]:
        """The wanted ones and what they bundle, as far as it is known."""
        result: set[str] = set()
        waiting = list(wanted)
        while waiting:
            key = waiting.pop()
            if key not in result:
                result.add(key)
                if key in offers:
                    waiting += [bundled for bundled, _ in offers[key].bundled]
        return result

    def _keep(self, fresh: Mapping[str, _Kept]) -> None:
        with self._lock:
            if len(self._kept) + len(fresh) > self._most:
                self._kept.clear()
            self._kept.update(fresh)


_REVISIONS = """
    SELECT id, revision FROM product_offering WHERE id = ANY (WANTED)
    UNION ALL
    SELECT id, revision FROM product_offering_price WHERE id = ANY (WANTED)
"""


def _revisions(database: Database, ids: set[str]) -> dict[str, int]:
    return dict(database.rows(_REVISIONS, sorted(ids))) if ids else {}


def _compiled(unit: Unit, ids: set[str]) -> dict[str, _Kept]:
    offerings = unit.session.scalars(
        sa.select(ProductOffering).where(product_offering.c.id == any_of(sorted(ids)))
    ).all()
    prices = _prices(unit, {key for offering in offerings for key in price_ids(offering)})
    result: dict[str, _Kept] = {}
    for offering in offerings:
        revisions: dict[str, int | None] = {offering.id: offering.revision}
        waiting = list(price_ids(offering))
        while waiting:
            key = waiting.pop()
            if key not in revisions:
                price = prices.get(key)
                revisions[key] = price.revision if price is not None else None
                waiting += related_price_ids(price) if price is not None else ()
        result[offering.id] = _Kept(compile_offer(offering, prices), revisions)
    return result


def _prices(unit: Unit, ids: set[str]) -> dict[str, ProductOfferingPrice]:
    """The prices and all that they are made of or altered by."""
    found: dict[str, ProductOfferingPrice] = {}
    tried: set[str] = set()
    while missing := ids - tried:
        query = sa.select(ProductOfferingPrice).where(product_offering_price.c.id == any_of(sorted(missing)))
        fresh = unit.session.scalars(query).all()
        found |= {price.id: price for price in fresh}
        tried |= missing
        ids = {key for price in fresh for key in related_price_ids(price)}
    return found
