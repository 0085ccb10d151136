"""What pricing reads of the catalog, and the tables of price lists and tax rates."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Any

import sqlalchemy as sa

from catalog.pricing import compiled
from catalog.pricing.compiled import Compiled
from catalog.pricing.domain import PriceList, TaxRate
from catalog.pricing.offers import Offer, related_price_ids
from catalog.pricing.rules import PriceListTerms, Rules, Tax
from catalog.product.domain import ProductOfferingPrice
from catalog.product.store import any_of, product_offering_price
from catalog.schema import metadata
from chassis import calls
from chassis.db import Database
from chassis.errors import Aborted
from chassis.schema import Resource, aggregate_table
from chassis.sharing import Shared
from chassis.types import Aggregate, TimePeriod
from chassis.unit import Unit
from svyaz.catalog.v1 import pricing_rules_pb2

price_list = aggregate_table(metadata, "price_list", PriceList)
tax_rate = aggregate_table(metadata, "tax_rate", TaxRate, sa.Index("tax_rate_category", "tax_category"))

# Common to all branches, as the catalog is.
RESOURCES: Mapping[type[Aggregate], Resource] = {
    PriceList: Resource(pricing_rules_pb2.PriceList, price_list, common=True),
    TaxRate: Resource(pricing_rules_pb2.TaxRate, tax_rate, common=True),
}


def prices_of_list(unit: Unit, id: str) -> list[str]:
    """Some of the prices that belong to the price list."""
    column = product_offering_price.c
    return list(unit.session.scalars(sa.select(column.id).where(column.price_list == id).order_by(column.id).limit(10)))


@dataclass(frozen=True, slots=True)
class Current:
    """What the database says now of what is kept, and of what was asked beside it; also what others asked for."""

    revisions: Mapping[str, int]
    # Series → its further versions; tax category → its rates; tag → what was asked beside; each with its revision.
    members: Mapping[str, frozenset[tuple[str, int]]]

    def of(self, group: str) -> frozenset[tuple[str, int]]:
        """What is in the group."""
        return self.members.get(group, frozenset())


@dataclass(slots=True)
class _Found:
    """What one call needs, as far as it is known to be current."""

    kept: dict[str, Compiled] = field(default_factory=dict)
    # The further versions of a series, by the id of the first.
    versions: dict[str, frozenset[str]] = field(default_factory=dict)
    # None: there is no such list.
    price_lists: dict[str, PriceListTerms | None] = field(default_factory=dict)
    taxes: dict[str, Sequence[Tax]] = field(default_factory=dict)
    # None: nothing was asked, since nothing was kept.
    current: Current | None = None

    def missing_offers(self, wanted: Iterable[str]) -> set[str]:
        """What isn't there of the wanted offers, of all that they bundle, and of the other versions of all these."""
        seen: set[str] = set()
        waiting = list(wanted)
        while waiting:
            key = waiting.pop()
            if key in seen:
                continue
            seen.add(key)
            one = self.kept.get(key)
            if one is not None:
                waiting += _neighbours(one, self.versions)
        return seen - self.kept.keys()

    def missing_rules(self) -> tuple[set[str], set[str]]:
        """The price lists and the tax categories that the offers name and that aren't there."""
        lists = {key for one in self.kept.values() for key in one.price_lists}
        categories = {key for one in self.kept.values() for key in one.tax_categories}
        return lists - self.price_lists.keys(), categories - self.taxes.keys()

    def offers(self) -> dict[str, Offer]:
        return {key: one.offer for key, one in self.kept.items()}

    def rules(self) -> Rules:
        return Rules({key: terms for key, terms in self.price_lists.items() if terms is not None}, self.taxes)


def _neighbours(one: Compiled, versions: Mapping[str, frozenset[str]]) -> list[str]:
    """The parts of an offer and the versions of its series."""
    return [*one.parts, one.series, *versions.get(one.series, ())]


_PAGE = 2_000
# What part of the book is forgotten when it is full.
_SOME = 16
# Who changes an offering all the time leaves nobody a price of it.
_ATTEMPTS = 5


class OfferBook:
    """Compiled offers and rules, kept between calls. One query tells which are still current; the others are read
    anew."""

    def __init__(self, most: int = 50_000, beside: Sequence[str] = ()) -> None:
        """`beside`: what else to ask in the same round trip, each a SELECT of a tag, an id and a revision; what depends
        on a key says so in its tag, since several calls share a round trip."""
        self._beside = "".join(f" UNION ALL {query}" for query in beside)
        self._kept: dict[str, Compiled] = {}
        self._versions: dict[str, frozenset[str]] = {}
        # With the revision of each.
        self._lists: dict[str, tuple[int | None, PriceListTerms | None]] = {}
        self._taxes: dict[str, tuple[frozenset[tuple[str, int]], Sequence[Tax]]] = {}
        self._most = most
        self._lock = threading.Lock()
        self._looks = Shared[Current]()

    def load(self, database: Database) -> int:
        """Takes up what is kept in the database, as far as there is room; how many offers are in the book then.

        Whether they are current is asked when they are read, as always.
        """
        # What can't be sold is asked for by whoever replays or explains, if there is room for it.
        for live in (True, False):
            self._load(database, live=live)
        return len(self._kept)

    def _load(self, database: Database, *, live: bool) -> None:
        after, room = "", self._most - len(self._kept)
        while room > 0:
            with database.unit() as unit:
                some = compiled.page(unit, after, min(_PAGE, room), live=live)
            if not some:
                break
            after, room = max(some), room - len(some)
            series: dict[str, set[str]] = {key: set() for key in some}
            for one in some.values():
                if one.series != one.id:
                    series.setdefault(one.series, set()).add(one.id)
            with self._lock:
                # What somebody has read meanwhile is newer.
                self._kept = some | self._kept
                for key, versions in series.items():
                    self._versions[key] = self._versions.get(key, frozenset()) | versions

    def offers(self, database: Database, ids: Iterable[str]) -> dict[str, Offer]:
        """The offers of `read`."""
        return self.read(database, ids)[0]

    def read(self, database: Database, ids: Iterable[str]) -> tuple[dict[str, Offer], Rules]:
        """The offers with these ids in every version, all that they bundle, and the rules that their prices name; what
        doesn't exist is left out."""
        return self.read_beside(database, ids)[:2]

    def read_beside(
        self, database: Database, ids: Iterable[str], also: str = "", keys: Iterable[str] = ()
    ) -> tuple[dict[str, Offer], Rules, Current | None]:
        """What `read` says, and what was asked beside it, by the `keys` too; None: that has to be asked by itself.

        `also`: what this call asks beyond what all do, as the book's `beside` is."""
        wanted = set(ids)
        also = f" UNION ALL {also}" if also else ""
        found = self._still_current(database, self._closure(wanted), also, keys)
        if found.missing_offers(wanted) or any(found.missing_rules()):
            with database.unit() as unit:
                self._complete(unit, wanted, found)
        return found.offers(), found.rules(), found.current

    def _closure(self, wanted: Iterable[str]) -> dict[str, Compiled]:
        result: dict[str, Compiled] = {}
        waiting = list(wanted)
        while waiting:
            key = waiting.pop()
            entry = self._kept.get(key)
            if entry is not None and key not in result:
                result[key] = entry
                waiting += _neighbours(entry, self._versions)
        return result

    def _still_current(
        self, database: Database, kept: Mapping[str, Compiled], also: str, keys: Iterable[str]
    ) -> _Found:
        found = _Found()
        if not kept:
            return found
        lists = {key for entry in kept.values() for key in entry.price_lists}
        categories = {key for entry in kept.values() for key in entry.tax_categories}
        sources = {key for entry in kept.values() for key in entry.revisions}
        query = _OFFERS + (_LISTS if lists else "") + (_RATES if categories else "") + self._beside + also
        wanted = sources | lists | categories | set(keys)
        # By whom it is asked decides what is seen.
        asking = (query, calls.current().principal.branch_setting)
        current = self._looks.of(asking, wanted, lambda ids: _grouped(database.rows(query, ids)))
        revisions = current.revisions
        found.current = current
        for key, entry in kept.items():
            if entry.is_of(revisions):
                found.kept[key] = entry
                found.versions[key] = frozenset(version for version, _ in current.of(key))
        for key in lists & self._lists.keys():
            revision, terms = self._lists[key]
            if revision == revisions.get(key):
                found.price_lists[key] = terms
        for category in categories & self._taxes.keys():
            rates, taxes = self._taxes[category]
            if rates == current.of(category):
                found.taxes[category] = taxes
        return found

    def _complete(self, unit: Unit, wanted: set[str], found: _Found) -> None:
        """Adds what isn't found yet."""
        tried: set[str] = set()
        while missing := found.missing_offers(wanted) - tried:
            fresh, versions = _read(unit, missing)
            found.kept |= fresh
            found.versions |= versions
            self._keep(fresh, versions)
            tried |= missing
        lists, categories = found.missing_rules()
        if lists:
            read = _price_lists(unit, lists)
            self._lists |= read
            found.price_lists |= {key: terms for key, (_, terms) in read.items()}
        if categories:
            rates = _taxes(unit, categories)
            self._taxes |= rates
            found.taxes |= {category: taxes for category, (_, taxes) in rates.items()}

    def _keep(self, fresh: Mapping[str, Compiled], versions: Mapping[str, frozenset[str]]) -> None:
        with self._lock:
            for key in fresh:
                # So that it counts as new.
                self._kept.pop(key, None)
            self._make_room(len(fresh))
            self._kept.update(fresh)
            # What doesn't exist has none, and isn't kept either.
            self._versions.update({key: found for key, found in versions.items() if found or key in fresh})

    def _make_room(self, number: int) -> None:
        """Forgets what was taken up first: some at once, since looking for it goes through all that went before."""
        excess = len(self._kept) + number - self._most
        if excess > 0:
            for key in list(islice(self._kept, max(excess, self._most // _SOME))):
                del self._kept[key]
                self._versions.pop(key, None)


# --- queries ---------------------------------------------------------------------------------------------------------

_OFFERS = """
    SELECT NULL, id, revision FROM product_offering WHERE id = ANY (WANTED)
    UNION ALL
    SELECT NULL, id, revision FROM product_offering_price WHERE id = ANY (WANTED)
    UNION ALL
    SELECT series, id, revision FROM product_offering WHERE series = ANY (WANTED)
"""
_LISTS = " UNION ALL SELECT NULL, id, revision FROM price_list WHERE id = ANY (WANTED)"
_RATES = " UNION ALL SELECT tax_category, id, revision FROM tax_rate WHERE tax_category = ANY (WANTED)"


def _revisions(unit: Unit, ids: set[str], kept: Iterable[Compiled]) -> Current:
    """The revisions of what is kept, and the further versions of the ids."""
    wanted = ids | {source for one in kept for source in one.revisions}
    with unit.cursor() as cursor:
        return _grouped(cursor.execute(_OFFERS.replace("WANTED", "%(ids)s"), {"ids": sorted(wanted)}))


def _read(unit: Unit, ids: set[str]) -> tuple[dict[str, Compiled], dict[str, frozenset[str]]]:
    """The offers of these ids and the further versions of these, compiled where nothing current is kept; which these
    are, of every id."""
    kept = compiled.stored(unit, ids)
    current = _revisions(unit, ids, kept.values())
    versions = {key: frozenset(version for version, _ in current.of(key)) for key in ids}
    result = {key: one for key, one in kept.items() if one.is_of(current.revisions)}
    there = (ids & current.revisions.keys()) | {key for found in versions.values() for key in found}
    if missing := there - result.keys():
        result |= _compiled(unit, missing)
    return result, versions


def _compiled(unit: Unit, ids: set[str]) -> dict[str, Compiled]:
    """The offers of these ids, each of revisions that are there at one instant: offerings and prices are read one after
    the other, and a change of both may come in between. Raises Aborted CATALOG_CHANGING."""
    result: dict[str, Compiled] = {}
    for _ in range(_ATTEMPTS):
        fresh = compiled.compiled(unit, ids - result.keys())
        revisions = _revisions(unit, set(), fresh.values()).revisions
        result |= {key: one for key, one in fresh.items() if one.is_of(revisions)}
        if fresh.keys() <= result.keys():
            return result
    raise Aborted("CATALOG_CHANGING", "offerings and their prices change while they are read: try again")


def _grouped(rows: Iterable[Sequence[Any]]) -> Current:
    revisions: dict[str, int] = {}
    members: dict[str, set[tuple[str, int]]] = {}
    for group, key, revision in rows:
        if group is None:
            revisions[key] = revision
        else:
            members.setdefault(group, set()).add((key, revision))
    return Current(revisions, {group: frozenset(found) for group, found in members.items()})


def prices(unit: Unit, ids: Iterable[str]) -> dict[str, ProductOfferingPrice]:
    """The prices with these ids, and all that they are made of or altered by."""
    return _prices(unit, set(ids))


def tax_rates(unit: Unit, categories: Iterable[str]) -> Rules:
    """The tax rates of the categories."""
    return Rules(taxes={category: taxes for category, (_, taxes) in _taxes(unit, set(categories)).items()})


def _prices(unit: Unit, ids: set[str]) -> dict[str, ProductOfferingPrice]:
    """The prices and all that they are made of or altered by."""
    found: dict[str, ProductOfferingPrice] = {}
    tried: set[str] = set()
    while missing := ids - tried:
        fresh = unit.load(ProductOfferingPrice, "id = ANY (%(ids)s)", {"ids": sorted(missing)})
        found |= {price.id: price for price in fresh}
        tried |= missing
        ids = {key for price in fresh for key in related_price_ids(price)}
    return found


def rules_of(unit: Unit, offers: Iterable[Offer]) -> Rules:
    """The rules that the offers' prices name, as they are now."""
    charges = [charge for offer in offers for charge in offer.charges]
    lists = _price_lists(unit, {charge.price_list for charge in charges if charge.price_list})
    taxes = _taxes(unit, {charge.tax_category for charge in charges if charge.tax_category})
    return Rules(
        {key: terms for key, (_, terms) in lists.items() if terms is not None},
        {category: found for category, (_, found) in taxes.items()},
    )


def _price_lists(unit: Unit, ids: set[str]) -> dict[str, tuple[int | None, PriceListTerms | None]]:
    found = unit.session.scalars(sa.select(PriceList).where(price_list.c.id == any_of(sorted(ids)))).all()
    nothing: dict[str, tuple[int | None, PriceListTerms | None]] = dict.fromkeys(ids, (None, None))
    return nothing | {one.id: (one.revision, _terms(one)) for one in found}


def _terms(found: PriceList) -> PriceListTerms:
    return PriceListTerms(
        id=found.id,
        name=found.name or "",
        agreement=tuple(reference.id or reference.name or "" for reference in found.agreement),
        # A customer's segments come by name or id.
        market_segment=tuple(
            text for reference in found.market_segment for text in (reference.id, reference.name) if text
        ),
        branch=found.customer_branch,
        priority=found.priority or 0,
        live=found.status.live,
        valid_for=found.valid_for or TimePeriod(),
    )


def _taxes(unit: Unit, categories: set[str]) -> dict[str, tuple[frozenset[tuple[str, int]], Sequence[Tax]]]:
    rates = unit.session.scalars(sa.select(TaxRate).where(tax_rate.c.tax_category == any_of(sorted(categories)))).all()
    return {
        category: (
            frozenset((rate.id, rate.revision) for rate in rates if rate.tax_category == category),
            [_tax(rate) for rate in rates if rate.tax_category == category and rate.rate is not None],
        )
        for category in categories
    }


def _tax(found: TaxRate) -> Tax:
    return Tax(
        id=found.id,
        name=found.name or "",
        category=found.tax_category or "",
        place=found.place or "",
        rate=found.rate or Decimal(),
        live=found.status.live,
        valid_for=found.valid_for or TimePeriod(),
    )
