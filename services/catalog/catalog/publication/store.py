"""Who changed and who approved what, and what publishing asks of the catalog's tables."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from catalog.pricing import store as pricing
from catalog.pricing.domain import PriceList, PricingRule, TaxRate
from catalog.product import store as product
from catalog.product.domain import (
    CatalogItem,
    LifecycleStatus,
    ProductOffering,
    ProductOfferingPrice,
    ProductSpecification,
)
from catalog.product.store import any_of, product_offering, product_offering_price, reference
from catalog.publication.domain import AuthorshipKind, AuthorshipRecord
from catalog.publication.lint import Surroundings, lint, lint_price
from catalog.schema import bus, log, metadata
from chassis import convert
from chassis.errors import Violation
from chassis.unit import Unit

# What is sold and what that rests on, and so changes and is approved by name.
SOLD: tuple[type[CatalogItem], ...] = (ProductOffering, ProductOfferingPrice, ProductSpecification, PriceList, TaxRate)
_THINGS = {**product.RESOURCES, **pricing.RESOURCES}

# Like the catalog itself it belongs to no branch.
authorship = sa.Table(
    "authorship",
    metadata,
    # Its order decides what is after an approval: clocks of several replicas don't.
    sa.Column("position", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("digest", sa.Text),
    sa.Column("note", sa.Text),
    sa.Index("authorship_item", "item_id", "position"),
)

_RECORD = """
    INSERT INTO authorship (item_id, kind, subject, at, digest, note)
    VALUES (%(item_id)s, %(kind)s, %(subject)s, %(at)s, %(digest)s, %(note)s)
"""


def record(
    unit: Unit, item: CatalogItem, kind: AuthorshipKind, *, digest: str | None = None, note: str | None = None
) -> None:
    """Remembers, with the unit's next flush, that its caller has changed or approved the thing."""
    row = {"item_id": item.id, "kind": kind.value, "subject": person(unit), "at": unit.at}
    unit.later(_RECORD, {**row, "digest": digest, "note": note})


def person(unit: Unit) -> str:
    """Who is behind the call: for whom a service acts, else the caller itself."""
    return unit.call.principal.on_behalf_of or unit.call.principal.subject


def records(unit: Unit, item_id: str) -> list[AuthorshipRecord]:
    """Who changed and approved the thing, the latest first."""
    columns = authorship.c
    rows = unit.session.execute(
        sa.select(columns.kind, columns.subject, columns.at, columns.digest, columns.note)
        .where(columns.item_id == item_id)
        .order_by(columns.position.desc())
    )
    return [
        AuthorshipRecord(id=item_id, kind=AuthorshipKind(kind), subject=subject, at=at, digest=digest, note=note)
        for kind, subject, at, digest, note in rows
    ]


def authors(unit: Unit, items: Sequence[CatalogItem]) -> list[str]:
    """Who has changed any of the things since the first of them was approved last."""
    columns = authorship.c
    since = (
        sa.select(sa.func.max(columns.position))
        .where(columns.item_id == items[0].id, columns.kind == AuthorshipKind.APPROVAL.value)
        .scalar_subquery()
    )
    rows = unit.session.scalars(
        sa.select(columns.subject)
        .distinct()
        .where(
            columns.item_id == any_of([item.id for item in items]),
            columns.kind == AuthorshipKind.CHANGE.value,
            columns.position > sa.func.coalesce(since, 0),
        )
        .order_by(columns.subject)
    )
    return list(rows)


def is_approved(unit: Unit, item: CatalogItem) -> bool:
    """Whether the latest approval of the thing is of what it is now, with its prices and parts."""
    columns = authorship.c
    latest = unit.session.scalar(
        sa.select(columns.digest)
        .where(columns.item_id == item.id, columns.kind == AuthorshipKind.APPROVAL.value)
        .order_by(columns.position.desc())
        .limit(1)
    )
    return latest is not None and latest == digest(whole(unit, item))


# --- content ---------------------------------------------------------------------------------------------------------


def whole(unit: Unit, item: CatalogItem) -> list[CatalogItem]:
    """The thing, and what is sold with it: its specification, its prices, what alters them and for whom they are, the
    offerings that it bundles with theirs."""
    found: dict[tuple[type[CatalogItem], str], CatalogItem] = {(type(item), item.id): item}
    level = [item]
    while level:
        wanted: dict[type[CatalogItem], set[str]] = {}
        for cls, key in (part for one in level for part in _parts(one)):
            if (cls, key) not in found:
                wanted.setdefault(cls, set()).add(key)
        level = [one for cls, ids in wanted.items() for one in _things(unit, cls, sorted(ids))]
        found |= {(type(one), one.id): one for one in level}
    return list(found.values())


@dataclass(slots=True)
class _Near:
    """What a unit has read ahead: things by class and id (None: there is none), and the versions of series."""

    things: dict[tuple[type[CatalogItem], str], CatalogItem | None] = field(default_factory=dict)
    versions: dict[str, list[ProductOffering]] = field(default_factory=dict)


def read_ahead(unit: Unit, items: Sequence[CatalogItem]) -> None:
    """Reads at once what new things are going to be looked at among; each that is let in is then `let_in`."""
    near = unit.known[_Near] = _Near({(type(item), item.id): None for item in items})
    level: Sequence[CatalogItem] = items
    while level:
        wanted: dict[type[CatalogItem], set[str]] = {}
        for cls, key in (part for one in level for part in _parts(one)):
            if (cls, key) not in near.things:
                wanted.setdefault(cls, set()).add(key)
        near.things |= {(cls, key): None for cls, ids in wanted.items() for key in ids}
        level = [one for cls, ids in wanted.items() for one in _loaded(unit, cls, sorted(ids))]
        near.things |= {(type(one), one.id): one for one in level}
    near.versions = {item.series or item.id: [] for item in items if isinstance(item, ProductOffering)}
    condition = "id = ANY (%(ids)s) OR series = ANY (%(ids)s)"
    for offering in unit.load(ProductOffering, condition, {"ids": sorted(near.versions)}):
        near.versions[offering.series or offering.id].append(offering)


def let_in(unit: Unit, item: CatalogItem) -> None:
    """Others of the unit are looked at among the new thing from now on, though it isn't written yet."""
    near: _Near | None = unit.known.get(_Near)
    if near is None:
        return
    near.things[type(item), item.id] = item
    if isinstance(item, ProductOffering) and (item.series or item.id) in near.versions:
        near.versions[item.series or item.id].append(item)


def _parts(item: CatalogItem) -> Iterable[tuple[type[CatalogItem], str]]:
    yield from ((part.cls, part.id) for part in item.parts() if part.cls in SOLD and part.id)
    if isinstance(item, ProductOfferingPrice) and item.price_list:
        yield PriceList, item.price_list


def _things(unit: Unit, cls: type[CatalogItem], ids: Sequence[str]) -> Sequence[CatalogItem]:
    near: _Near | None = unit.known.get(_Near)
    if near is None:
        return _loaded(unit, cls, ids)
    unknown = [key for key in ids if (cls, key) not in near.things]
    read = [one for key in ids if (one := near.things.get((cls, key))) is not None]
    return [*read, *(_loaded(unit, cls, unknown) if unknown else ())]


def _loaded(unit: Unit, cls: type[CatalogItem], ids: Sequence[str]) -> Sequence[CatalogItem]:
    return unit.load(cls, "id = ANY (%(ids)s)", {"ids": ids})


# Of no meaning for what is sold; the rest is what an approval is of.
_APART = frozenset({"branch", "etag"})


def digest(items: Iterable[CatalogItem]) -> str:
    """SHA-256 (hex) of what can't change of the things once they are published, of their validity, and of which count
    no more."""
    found = hashlib.sha256()
    for item in sorted(items, key=lambda item: (type(item).__name__, item.id)):
        message = convert.to_message(item, _THINGS[type(item)].message)
        for name in _APART | ((item.CHANGEABLE or frozenset()) - {"valid_for"}):
            message.ClearField(name)
        content = message.SerializeToString(deterministic=True)
        gone = item.status.published and not item.status.live
        found.update(f"{type(item).__name__} {'gone ' * gone}{len(content)} ".encode() + content)
    return found.hexdigest()


def before(item: CatalogItem) -> dict[str, Any]:
    """The values that the unit has replaced in the thing: attribute → what the database holds."""
    return {
        attribute.key: attribute.history.deleted[0] if attribute.history.deleted else None
        for attribute in sa.inspect(item).attrs
        if attribute.history.has_changes()
    }


# --- among others ----------------------------------------------------------------------------------------------------


def published_owner(unit: Unit, item: CatalogItem) -> CatalogItem | None:
    """Something that is or was on the market and is made of the thing, however indirectly; None: nothing is."""
    asked = {item.id}
    level: list[tuple[type[CatalogItem], str]] = [(type(item), item.id)]
    if isinstance(item, PriceList):
        of_list = sa.select(product_offering_price.c.id).where(product_offering_price.c.price_list == item.id)
        level = [(ProductOfferingPrice, key) for key in unit.session.scalars(of_list)]
    while level:
        kinds = {cls.__name__: cls for cls in SOLD}
        rows = unit.session.execute(
            sa.select(reference.c.referrer_type, reference.c.referrer_id)
            .distinct()
            .where(
                reference.c.part,
                reference.c.target_id == any_of([key for _, key in level]),
                reference.c.target_type.in_({cls.__name__ for cls, _ in level}),
                reference.c.referrer_type.in_(kinds),
            )
        ).all()
        owners = [(kinds[row.referrer_type], row.referrer_id) for row in rows if row.referrer_id not in asked]
        for cls, key in owners:
            owner = unit.find(cls, key)
            if isinstance(owner, ProductOffering) and owner.status.published:
                return owner
        asked |= {key for _, key in owners}
        level = owners
    return None


def live_offerings(unit: Unit, specification: ProductSpecification) -> list[ProductOffering]:
    """What is live and directly of the specification."""
    named = sa.select(reference.c.referrer_id).where(
        reference.c.target_id == specification.id,
        reference.c.target_type == ProductSpecification.__name__,
        reference.c.referrer_type == ProductOffering.__name__,
        reference.c.part,
    )
    offerings = unit.session.scalars(sa.select(ProductOffering).where(product_offering.c.id.in_(named)))
    return [offering for offering in offerings if offering.status.live]


def prices_by(unit: Unit, rule: PricingRule) -> list[str]:
    """Some of the prices that are sold, or held still, and go by the price list or tax rate."""
    columns = product_offering_price.c
    goes_by = columns.tax_category == rule.tax_category if isinstance(rule, TaxRate) else columns.price_list == rule.id
    counting = (LifecycleStatus.ACTIVE, LifecycleStatus.LAUNCHED, LifecycleStatus.RETIRED)
    return list(
        unit.session.scalars(
            sa.select(columns.id).where(goes_by, columns.lifecycle_status.in_(counting)).order_by(columns.id).limit(10)
        )
    )


def versions(unit: Unit, offering: ProductOffering) -> list[ProductOffering]:
    """All versions of the offering's series but itself, the first one included."""
    first = offering.series or offering.id
    near: _Near | None = unit.known.get(_Near)
    found = near.versions.get(first) if near is not None else None
    if found is None:
        found = unit.load(ProductOffering, "series = %(first)s OR id = %(first)s", {"first": first})
    return [one for one in found if one.id != offering.id]


# --- planned transitions ---------------------------------------------------------------------------------------------


def hold_timer(unit: Unit, offering: ProductOffering, purpose: str) -> None:
    """Keeps others from the offering's timer, if it has one, until the end of the transaction."""
    columns = bus.timer.c
    same = sa.and_(columns.aggregate_id == offering.id, columns.purpose == purpose)
    unit.session.execute(sa.select(columns.generation).where(same).with_for_update())


_NOT_APPLIED = sa.text(
    """
    SELECT
        count(*) FILTER (WHERE planned ->> 'refused' IS NOT NULL),
        count(*) FILTER (WHERE planned ->> 'refused' IS NULL AND CAST(planned ->> 'at' AS timestamptz) < :overdue),
        (
            SELECT count(*) FROM product_offering
            WHERE lifecycle_status = 'Retired' AND starts_with(status_reason, :held)
        )
    FROM product_offering CROSS JOIN LATERAL jsonb_array_elements(planned_transition) AS planned
    WHERE planned_transition IS NOT NULL
    """
)


def not_applied(unit: Unit, overdue: datetime, held: str) -> Mapping[str, int]:
    """How many planned transitions have been refused, how many were due before that instant and nobody applied, and how
    many retired offerings have a reason that begins with `held`."""
    refused, late, still_held = unit.session.execute(_NOT_APPLIED, {"overdue": overdue, "held": held}).one()
    return {"refused": refused, "overdue": late, "held": still_held}


def status_since(unit: Unit, offering: ProductOffering) -> datetime | None:
    """When the offering came into its present status, by the log; None for one that was created in it long ago."""
    columns = log.event.c
    since: datetime | None = unit.session.scalar(
        sa.select(columns.time)
        .where(
            columns.aggregate_id == offering.id,
            columns.type.in_(("ProductOfferingStateChangeEvent", "ProductOfferingCreateEvent")),
        )
        .order_by(columns.version.desc())
        .limit(1)
    )
    return since


# --- what would never apply ------------------------------------------------------------------------------------------


def surroundings(unit: Unit, item: CatalogItem, at: datetime | None) -> Surroundings:
    """What the thing is linted among."""
    prices = {one.id: one for one in whole(unit, item) if isinstance(one, ProductOfferingPrice)}
    others = versions(unit, item) if isinstance(item, ProductOffering) else ()
    return Surroundings(prices, others, at, price_lists(unit, prices.values()))


def price_lists(unit: Unit, prices: Iterable[ProductOfferingPrice]) -> frozenset[str]:
    """The price lists that these name and that exist."""
    named = sorted({price.price_list for price in prices if price.price_list})
    return frozenset(one.id for one in _things(unit, PriceList, named)) if named else frozenset()


def findings(unit: Unit, item: CatalogItem, at: datetime | None) -> list[Violation]:
    """What of the thing would never apply; see `catalog.publication.lint`."""
    if isinstance(item, ProductOffering):
        return lint(item, surroundings(unit, item, at))
    return lint_price(item, surroundings(unit, item, at)) if isinstance(item, ProductOfferingPrice) else []
