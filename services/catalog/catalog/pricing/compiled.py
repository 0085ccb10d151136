"""Compiled offers beside what they were compiled from: a book that begins needn't compile them again.

A row says by which compiler it was made and from which revision of each source. Nobody believes it before these have
been compared with what is there, so that one that is out of date (its writer was killed, say) costs time and nothing
else.

Programs of two versions that compile otherwise each keep rows of their own, so that they don't undo each other's work
while the one replaces the other; a day after the last program of a version its rows go.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from catalog import pricing, product
from catalog.pricing.offers import Offer, canonical, parse_offer, plain_offer, price_ids, related_price_ids
from catalog.product.domain import LifecycleStatus, ProductOffering, ProductOfferingPrice
from catalog.product.store import product_offering
from catalog.schema import metadata
from chassis import convert, db, reading, schema, types
from chassis.migrate import WORKED_OUT
from chassis.unit import Unit

compiled_offer = sa.Table(
    "compiled_offer",
    metadata,
    sa.Column("id", sa.Text, sa.ForeignKey(product_offering.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("compiler", sa.Text, primary_key=True),
    # The offering and every price, with the revision of each; NULL: there was no such price.
    sa.Column("source", ARRAY(sa.Text), nullable=False),
    sa.Column("source_revision", ARRAY(sa.BigInteger), nullable=False),
    sa.Column("series", sa.Text, nullable=False),
    sa.Column("part", ARRAY(sa.Text), nullable=False),
    sa.Column("price_list", ARRAY(sa.Text), nullable=False),
    sa.Column("tax_category", ARRAY(sa.Text), nullable=False),
    # What a receipt quotes.
    sa.Column("text", sa.Text, nullable=False),
    sa.Index("compiled_offer_series", "series"),
    # A migration or what it calls may change a price and leave its revision as it was.
    comment=WORKED_OUT,
)
# The versions of programs that have compiled of late.
offer_compiler = sa.Table(
    "offer_compiler",
    metadata,
    sa.Column("compiler", sa.Text, primary_key=True),
    sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
)


@dataclass(slots=True)
class Compiled:
    """An offer that is parsed when somebody asks for it."""

    id: str
    text: str
    # The revision of everything that the offer was compiled from; None: there was no such thing.
    revisions: Mapping[str, int | None]
    series: str
    parts: Sequence[str]
    price_lists: frozenset[str]
    tax_categories: frozenset[str]
    _offer: Offer | None = field(default=None, repr=False)

    @property
    def offer(self) -> Offer:
        """The offer itself."""
        # Two threads may both parse it: the same comes of it.
        if self._offer is None:
            self._offer = parse_offer(json.loads(self.text), self.text)
        return self._offer

    def is_of(self, revisions: Mapping[str, int]) -> bool:
        """Whether it was compiled from these revisions."""
        return all(revisions.get(source) == revision for source, revision in self.revisions.items())


def compiler_of_this_program() -> str:
    """Names what compiles, from the row of an offering on: another text of ours may understand the same otherwise, and
    nobody has to think of saying so."""
    found = hashlib.sha256(msgspec.__version__.encode())
    folders = [Path(package.__file__ or "").parent for package in (pricing, product)]
    paths = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    for path in [*paths, *(Path(module.__file__ or "") for module in (convert, db, reading, schema, types))]:
        found.update(path.read_bytes())
    return found.hexdigest()


COMPILER = compiler_of_this_program()


# --- compiling -------------------------------------------------------------------------------------------------------


def compiled(unit: Unit, ids: Iterable[str]) -> dict[str, Compiled]:
    """The offers of these ids, as the unit sees them."""
    offerings = list(_read(unit, ProductOffering, "id = ANY (%(ids)s)", {"ids": sorted(ids)}))
    prices: dict[str, ProductOfferingPrice] = {}
    tried: set[str] = set()
    missing = {key for offering in offerings for key in price_ids(offering)}
    while missing:
        fresh = list(_read(unit, ProductOfferingPrice, "id = ANY (%(ids)s)", {"ids": sorted(missing)}))
        prices |= {price.id: price for price in fresh}
        tried |= missing
        missing = {key for price in fresh for key in related_price_ids(price)} - tried
    return {offering.id: _compile(offering, prices) for offering in offerings}


def _compile(offering: ProductOffering, prices: Mapping[str, ProductOfferingPrice]) -> Compiled:
    revisions: dict[str, int | None] = {offering.id: offering.revision}
    waiting = list(price_ids(offering))
    while waiting:
        key = waiting.pop()
        if key not in revisions:
            price = prices.get(key)
            revisions[key] = price.revision if price is not None else None
            waiting += related_price_ids(price) if price is not None else ()
    plain = plain_offer(offering, prices)
    return Compiled(
        id=offering.id,
        text=canonical(plain),
        revisions=revisions,
        series=offering.series or offering.id,
        parts=[part["id"] for part in plain["bundled"]],
        price_lists=_named(plain, "price_list"),
        tax_categories=_named(plain, "tax_category"),
    )


def _named(plain: Mapping[str, Any], name: str) -> frozenset[str]:
    return frozenset(charge[name] for charge in plain["charges"] if charge.get(name))


def _read(unit: Unit, cls: type[Any], condition: str, parameters: Mapping[str, Any]) -> Iterator[Any]:
    """Things that nobody is going to change: the unit needn't remember them."""
    way = unit.database.ways[cls]
    with unit.cursor() as cursor:
        for row in cursor.execute(way.selection(condition), parameters):
            yield way.aggregate(row)


# --- rows ------------------------------------------------------------------------------------------------------------

_COLUMNS = ("id", "text", "source", "source_revision", "series", "part", "price_list", "tax_category")
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM compiled_offer WHERE compiler = %(compiler)s"  # noqa: S608
_OF = f"{_SELECT} AND (id = ANY (%(ids)s) OR series = ANY (%(ids)s))"
_NEXT = f"""
    {_SELECT} AND id > %(after)s AND %(live)s = (
        SELECT lifecycle_status = ANY (%(statuses)s) FROM product_offering AS offering
        WHERE offering.id = compiled_offer.id
    )
    ORDER BY id LIMIT %(limit)s
"""  # noqa: S608
_KEEP = f"""
    INSERT INTO compiled_offer (compiler, {", ".join(_COLUMNS)})
    VALUES (%(compiler)s, {", ".join(f"%({name})s" for name in _COLUMNS)})
    ON CONFLICT (id, compiler) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])}
"""  # noqa: S608
# The primary keys are gone through one by one: what is out of date is rare.
_STALE = """
    SELECT id FROM product_offering AS offering
    WHERE id > %(after)s AND NOT EXISTS (
        SELECT FROM compiled_offer AS compiled
        WHERE compiled.id = offering.id AND compiled.compiler = %(compiler)s AND NOT EXISTS (
            SELECT FROM unnest(compiled.source, compiled.source_revision) AS kept (id, revision)
            LEFT JOIN product_offering_price AS price ON price.id = kept.id
            WHERE kept.revision IS DISTINCT FROM
                CASE kept.id WHEN offering.id THEN offering.revision ELSE price.revision END
        )
    )
    ORDER BY id LIMIT %(limit)s
"""
_LIVE = [status.value for status in LifecycleStatus if status.live]
# The time of the server, which nobody advances: this is about programs that run. Twice an hour is often enough.
_SEEN = """
    INSERT INTO offer_compiler AS known (compiler, seen_at) VALUES (%(compiler)s, now())
    ON CONFLICT (compiler) DO UPDATE SET seen_at = excluded.seen_at WHERE known.seen_at < now() - interval '30 minutes'
"""
_FORGET = """
    WITH gone AS (DELETE FROM offer_compiler WHERE seen_at < now() - interval '1 day' RETURNING compiler)
    DELETE FROM compiled_offer WHERE compiler IN (SELECT compiler FROM gone)
"""
# Any constant that nobody else uses will do.
_LOCK = 7_200_411_974


def stored(unit: Unit, ids: Iterable[str]) -> dict[str, Compiled]:
    """What is kept of these ids and of the further versions of these, current or not."""
    with unit.cursor() as cursor:
        return _compiled_of(cursor.execute(_OF, {"compiler": COMPILER, "ids": sorted(ids)}))


def page(unit: Unit, after: str, limit: int, *, live: bool) -> dict[str, Compiled]:
    """What is kept, current or not, of the next ids of offerings that are for sale (or part of what is), or aren't."""
    asked = {"compiler": COMPILER, "after": after, "limit": limit, "live": live, "statuses": _LIVE}
    with unit.cursor() as cursor:
        return _compiled_of(cursor.execute(_NEXT, asked))


def _compiled_of(rows: Iterable[Any]) -> dict[str, Compiled]:
    return {
        key: Compiled(
            key, text, dict(zip(source, revision, strict=True)), series, part, frozenset(lists), frozenset(categories)
        )
        for key, text, source, revision, series, part, lists, categories in rows
    }


def keep(unit: Unit, found: Iterable[Compiled]) -> None:
    """Keeps what has been compiled in this unit."""
    rows = [
        {
            "compiler": COMPILER,
            "id": one.id,
            "text": one.text,
            "source": list(one.revisions),
            "source_revision": list(one.revisions.values()),
            "series": one.series,
            "part": list(one.parts),
            "price_list": sorted(one.price_lists),
            "tax_category": sorted(one.tax_categories),
        }
        for one in sorted(found, key=lambda one: one.id)
    ]
    unit.later(_KEEP, *rows)


def stale(unit: Unit, after: str, limit: int) -> list[str]:
    """The next ids of offerings of which nothing is kept, or nothing current."""
    with unit.cursor() as cursor:
        found = cursor.execute(_STALE, {"compiler": COMPILER, "after": after, "limit": limit}).fetchall()
    return [row[0] for row in found]


def forget_others(unit: Unit) -> None:
    """Remembers that this version of the program is there, and forgets what versions have kept that weren't for a
    day; for whoever is `alone`."""
    with unit.cursor() as cursor:
        cursor.execute(_SEEN, {"compiler": COMPILER})
        cursor.execute(_FORGET)


def alone(unit: Unit) -> bool:
    """Whether nobody else compiles until the end of the transaction."""
    with unit.cursor() as cursor:
        found = cursor.execute("SELECT pg_try_advisory_xact_lock(%(lock)s)", {"lock": _LOCK}).fetchone()
    return found is not None and bool(found[0])
