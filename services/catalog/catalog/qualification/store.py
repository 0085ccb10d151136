"""The table of qualifications, and what is read of the catalog and of what is held to answer them."""

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from catalog.holding import store as holding_store
from catalog.pricing.store import Current
from catalog.product.domain import LifecycleStatus, ProductOffering, ProductSpecification
from catalog.product.store import any_of, product_offering, product_specification
from catalog.qualification.configuration import Configurable, configurable
from catalog.qualification.domain import ProductOfferingQualification
from catalog.qualification.eligibility import Held, Restrictions
from catalog.schema import metadata
from chassis.db import Database
from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from svyaz.catalog.v1 import qualification_pb2

product_offering_qualification = aggregate_table(
    metadata, "product_offering_qualification", ProductOfferingQualification
)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    ProductOfferingQualification: Resource(
        qualification_pb2.ProductOfferingQualification, product_offering_qualification
    ),
}

# --- who may have what -----------------------------------------------------------------------------------------------

_O = product_offering.c
_COLUMNS = (
    _O.id,
    _O.revision,
    _O.name,
    _O.series,
    _O.lifecycle_status,
    _O.is_sellable,
    _O.valid_for,
    _O.place,
    _O.channel,
    _O.market_segment,
    _O.eligible_branch,
    _O.exclusion_group,
    _O.product_offering_relationship,
    _O.bundled_product_offering,
    _O.product_offering_term,
    _O.product_specification,
)


def _restrictions(row: Any) -> Restrictions:
    spec = row.product_specification
    return Restrictions(
        id=row.id,
        revision=row.revision,
        name=row.name or "",
        series=row.series,
        status=row.lifecycle_status or LifecycleStatus.IN_DESIGN,
        is_sellable=row.is_sellable is not False,
        valid_for=row.valid_for,
        place=row.place,
        channel=row.channel,
        market_segment=row.market_segment,
        eligible_branch=row.eligible_branch,
        exclusion_group=row.exclusion_group,
        relationship=row.product_offering_relationship,
        part=row.bundled_product_offering,
        term=row.product_offering_term,
        specification_id=(spec.id or "") if spec is not None else "",
    )


def restrictions(unit: Unit, ids: Iterable[str]) -> dict[str, Restrictions]:
    """What restricts these offerings, their parts, and what all these are related to; those that exist."""
    found: dict[str, Restrictions] = {}
    tried: set[str] = set()
    # Of what is related only the versions matter, not what it is related to itself.
    related: set[str] = set()
    wanted = {key for key in ids if key}
    while missing := (wanted | related) - tried:
        rows = unit.session.execute(sa.select(*_COLUMNS).where(_O.id == any_of(sorted(missing))))
        fresh = {row.id: _restrictions(row) for row in rows}
        found |= fresh
        tried |= missing
        for key, offering in fresh.items():
            if key in wanted:
                wanted |= {part.id for part in offering.part if part.id}
                related |= {relationship.id for relationship in offering.relationship if relationship.id}
    return found


def every_restriction(unit: Unit) -> dict[str, Restrictions]:
    """What restricts the offerings that aren't drafts any more, all of them."""
    released = [status.value for status in LifecycleStatus if status.released]
    rows = unit.session.execute(sa.select(*_COLUMNS).where(_O.lifecycle_status.in_(released)))
    return {row.id: _restrictions(row) for row in rows}


def shelf(unit: Unit, category_id: str) -> set[str]:
    """The offerings of a category and of all below it."""
    query = sa.text(
        """
        WITH RECURSIVE below(id) AS (
            SELECT CAST(:category AS text)
            UNION
            SELECT CASE WHEN r.field = 'parent_id' THEN r.referrer_id ELSE r.target_id END
            FROM below b JOIN reference r ON (r.field = 'parent_id' AND r.target_id = b.id)
                OR (r.field = 'sub_category' AND r.referrer_id = b.id)
        )
        SELECT r.referrer_id FROM below b JOIN reference r ON r.target_id = b.id AND r.field = 'category'
            AND r.referrer_type = 'ProductOffering'
        UNION
        SELECT r.target_id FROM below b JOIN reference r ON r.referrer_id = b.id AND r.field = 'product_offering'
            AND r.referrer_type = 'Category'
        """
    )
    return {row[0] for row in unit.session.execute(query, {"category": category_id})}


def held(unit: Unit, customer_id: str) -> list[Held]:
    """What the customer holds, or is about to."""
    if not customer_id:
        return []
    return [
        Held(
            product_id=one.id,
            product_offering_id=one.product_offering_id,
            started_at=one.started_at,
            term=one.term,
        )
        for one in holding_store.holdings_of(unit, customer_id)
        if one.product_offering_id
    ]


# What is asked for, and what the customer holds. The first half reads WANTED, and with it sets the branches, before the
# second looks at what they hide.
_LOOK = """
    SELECT o.id, o.revision, NULL::text, NULL::timestamptz, NULL::text FROM product_offering o WHERE o.id = ANY (WANTED)
    UNION ALL
    SELECT h.product_offering_id, coalesce(o.revision, 0), h.id, h.started_at, h.term
    FROM holding h LEFT JOIN product_offering o ON o.id = h.product_offering_id
    WHERE h.customer_id = ANY (WANTED) AND h.live AND h.product_offering_id IS NOT NULL
"""
# The second half, in a question about offers (see `catalog.pricing.store.OfferBook`), whose first part reads WANTED.
# Before the customer's id.
TAG = "svyaz:holding:"
HELD = f"""
    SELECT '{TAG}' || h.customer_id,
        json_build_array(h.product_offering_id, h.id, h.started_at, h.term)::text, coalesce(o.revision, 0)
    FROM holding h LEFT JOIN product_offering o ON o.id = h.product_offering_id
    WHERE h.customer_id = ANY (WANTED) AND h.live AND h.product_offering_id IS NOT NULL
"""  # noqa: S608 (a constant of our own)
_REVISIONS = "SELECT id, revision FROM product_offering WHERE id = ANY (WANTED)"


class RestrictionBook:
    """What restricts offerings, kept between sales. One query tells what a customer holds and what is still current."""

    def __init__(self, most: int = 50_000) -> None:
        self._kept: dict[str, Restrictions] = {}
        self._most = most
        self._lock = threading.Lock()

    def read(
        self,
        database: Database,
        offering_ids: Sequence[str],
        customer_ids: Sequence[str],
        current: Current | None = None,
    ) -> tuple[dict[str, Restrictions], list[Held]]:
        """What restricts these offerings and those that the customer holds, and what that is.

        `current`: what is known of it already, with the answer to HELD if there is a customer.
        """
        kept = self._kept
        known = current.revisions if current is not None else {}
        revisions: dict[str, int] = {}
        held: list[Held] = []
        if current is not None and all(key in known for key in offering_ids):
            revisions |= {key: known[key] for key in offering_ids}
            for text, revision in sorted(found for one in customer_ids for found in current.of(TAG + one)):
                key, product, started, term = json.loads(text)
                revisions[key] = revision
                started_at = datetime.fromisoformat(started) if started else None
                held.append(Held(product_id=product, product_offering_id=key, started_at=started_at, term=term or ""))
        else:
            for key, revision, product, started_at, term in database.rows(_LOOK, [*offering_ids, *customer_ids]):
                revisions[key] = revision
                if product is not None:
                    held.append(
                        Held(product_id=product, product_offering_id=key, started_at=started_at, term=term or "")
                    )
        book = _current(kept, revisions)
        while parts := {part.id for one in book.values() for part in one.part if part.id} - revisions.keys():
            # Parts can change by themselves; of what is only related nothing counts but its series, which can't.
            unknown = parts - known.keys()
            found = dict(database.rows(_REVISIONS, sorted(unknown))) if unknown else {}
            revisions |= {key: found.get(key, 0) if key in unknown else known[key] for key in parts}
            book |= _current(kept, {key: revisions[key] for key in parts})
        if any(revision and key not in book for key, revision in revisions.items()):
            with database.unit() as unit:
                book = restrictions(unit, revisions)
            self._keep(book)
            return book, held
        related = {r.id for key in revisions if key in book for r in book[key].relationship if r.id}
        book |= {key: kept[key] for key in related - book.keys() if key in kept}
        return book, held

    def _keep(self, book: Mapping[str, Restrictions]) -> None:
        with self._lock:
            if len(self._kept) + len(book) > self._most:
                # Anew, since others are reading the old one.
                self._kept = {}
            self._kept.update(book)


def _current(kept: Mapping[str, Restrictions], revisions: Mapping[str, int]) -> dict[str, Restrictions]:
    return {key: kept[key] for key, revision in revisions.items() if key in kept and kept[key].revision == revision}


# --- what can be chosen ----------------------------------------------------------------------------------------------


def configurables(unit: Unit, id: str) -> dict[str, Configurable]:
    """The offering and all that it bundles, with their specifications."""
    offerings: dict[str, ProductOffering] = {}
    missing = {id}
    tried: set[str] = set()
    while missing:
        found = unit.session.scalars(sa.select(ProductOffering).where(_O.id == any_of(sorted(missing)))).all()
        offerings |= {offering.id: offering for offering in found}
        tried |= missing
        missing = {part.id for offering in found for part in offering.bundled_product_offering if part.id} - tried
    wanted = {o.product_specification.id for o in offerings.values() if o.product_specification is not None}
    specifications = {
        specification.id: specification
        for specification in unit.session.scalars(
            sa.select(ProductSpecification).where(
                product_specification.c.id == any_of(sorted(key for key in wanted if key))
            )
        )
    }
    return {
        key: configurable(
            offering,
            specifications.get(offering.product_specification.id or "")
            if offering.product_specification is not None
            else None,
        )
        for key, offering in offerings.items()
    }
