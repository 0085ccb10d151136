"""The tables of previews, and what is read of the catalog and of the holdings for them.

Subscribed products are grouped by PostgreSQL: those that have the same offering, branch and pricing inputs are one row
of `preview_group`. What is equal in several branches is priced once for all of them. `_likeness` says of what a price
may rest on whether it is equal, as briefly as that can be said of each product of a whole base; `_INPUTS` reads it for
pricing, of one product of each group. A product's group is found again by the digest of its likeness.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from catalog.holding.domain import SoldPrice
from catalog.preview.domain import (
    Amount,
    Difference,
    NeverApplied,
    PreviewOutcome,
    PreviewState,
    Priced,
    Subscription,
)
from catalog.pricing.offers import price_ids, related_price_ids
from catalog.product.domain import ProductOffering, ProductOfferingPrice
from catalog.product.store import any_of, product_offering, product_offering_price
from catalog.schema import metadata
from chassis.errors import NotFound
from chassis.schema import EnumText, TypedJson
from chassis.types import Characteristic, Json
from chassis.unit import Unit

_INSTANT = sa.TIMESTAMP(timezone=True)

# Of the one statement that looks at a whole base: many more products than anybody has.
GROUPING_SECONDS = 1800

# Of no branch: it says what is proposed, which concerns all, and where to look; what is found is the branches'.
preview = sa.Table(
    "preview",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("created_at", _INSTANT, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("branches", ARRAY(sa.Text), nullable=False),
    sa.Column("request", sa.LargeBinary, nullable=False),
    # When the change takes place unless a version says otherwise.
    sa.Column("at", _INSTANT, nullable=False),
    sa.Column("state", EnumText(PreviewState), nullable=False),
    sa.Column("ended_at", _INSTANT),
    sa.Column("error", sa.Text),
    # Of the compiled change: another one means to begin anew.
    sa.Column("digest", sa.Text),
    # Whether the products have been grouped.
    sa.Column("grouped", sa.Boolean, nullable=False),
    # By what the products were grouped: they are found again by nothing else.
    sa.Column("looks", sa.Text),
    # How often the next step has failed.
    sa.Column("attempts", sa.Integer, nullable=False),
    # Offering, likeness and branch of the group that was priced last, a JSON list.
    sa.Column("priced", sa.Text),
    # What of the change would never apply: a JSON list of offering, attribute and reason.
    sa.Column("never_applied", sa.Text),
)
preview_group = sa.Table(
    "preview_group",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("preview_id", sa.Text, nullable=False),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("product_offering_id", sa.Text, nullable=False),
    # The digest of their likeness.
    sa.Column("alike", sa.Text, nullable=False),
    sa.Column("inputs", sa.Text, nullable=False),
    sa.Column("started_at", _INSTANT),
    sa.Column("ordered_at", _INSTANT),
    sa.Column("products", sa.BigInteger, nullable=False),
    # None: it is still to be priced.
    sa.Column("outcome", EnumText(PreviewOutcome)),
    sa.Column("reason", sa.Text),
    sa.Column("description", sa.Text),
    # The branch comes last: what is alike in several of them stands together.
    sa.Index("preview_group_alike", "preview_id", "product_offering_id", "alike", "branch", unique=True),
)
preview_difference = sa.Table(
    "preview_difference",
    metadata,
    sa.Column("group_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("currency", sa.Text, primary_key=True),
    sa.Column("period", sa.Text, primary_key=True),
    sa.Column("preview_id", sa.Text, nullable=False),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("products", sa.BigInteger, nullable=False),
    sa.Column("before_net", sa.Numeric, nullable=False),
    sa.Column("before_gross", sa.Numeric, nullable=False),
    sa.Column("after_net", sa.Numeric, nullable=False),
    sa.Column("after_gross", sa.Numeric, nullable=False),
    sa.Index("preview_difference_preview_id", "preview_id"),
)


# --- the catalog -----------------------------------------------------------------------------------------------------

_SERIES = """
    SELECT o.id FROM product_offering d JOIN product_offering o ON o.id = d.series OR o.series = d.series
    WHERE d.id = ANY (%(versions)s) AND d.series IS NOT NULL
"""
# Upwards: from prices to what is made of them, and from parts to their bundles.
_TOUCHED = """
    WITH RECURSIVE above AS (
        SELECT referrer_id, referrer_type FROM reference
        WHERE field = ANY (%(fields)s) AND (
            (target_id = ANY (%(prices)s) AND target_type = 'ProductOfferingPrice')
            OR (target_id = ANY (%(offerings)s) AND target_type = 'ProductOffering')
        )
        UNION
        SELECT r.referrer_id, r.referrer_type FROM reference r
        JOIN above ON r.target_id = above.referrer_id AND r.target_type = above.referrer_type
        WHERE r.field = ANY (%(fields)s)
    )
    SELECT referrer_id FROM above WHERE referrer_type = 'ProductOffering'
"""
_FIELDS = ["product_offering_price", "bundled_pop_relationship", "pop_relationship", "bundled_product_offering"]


def touched(unit: Unit, versions: Sequence[str], prices: Sequence[str]) -> set[str]:
    """The offerings that a change of these touches: the versions with those of their series, what uses the prices, and
    every bundle of any of them."""
    series = {str(key) for (key,) in unit.cursor().execute(_SERIES, {"versions": list(versions)}).fetchall()}
    found = {*versions, *series}
    rows = unit.cursor().execute(_TOUCHED, {"fields": _FIELDS, "prices": list(prices), "offerings": sorted(found)})
    return found | {str(key) for (key,) in rows.fetchall()}


def offerings(unit: Unit, ids: Iterable[str]) -> dict[str, ProductOffering]:
    """These offerings and all that they bundle; those that don't exist are left out."""
    found: dict[str, ProductOffering] = {}
    tried: set[str] = set()
    wanted = set(ids)
    while wanted:
        query = sa.select(ProductOffering).where(product_offering.c.id == any_of(sorted(wanted)))
        level = unit.session.scalars(query).all()
        found |= {one.id: one for one in level}
        tried |= wanted
        wanted = {part.id for one in level for part in one.bundled_product_offering if part.id} - tried
    return found


def prices_of(unit: Unit, of: Iterable[ProductOffering], more: Iterable[ProductOfferingPrice]) -> dict[str, Any]:
    """All prices that the offerings and further prices are made of or altered by."""
    found: dict[str, ProductOfferingPrice] = {}
    tried: set[str] = set()
    wanted = {key for one in of for key in price_ids(one)} | {
        key for one in more for key in (one.id, *related_price_ids(one))
    }
    while wanted:
        query = sa.select(ProductOfferingPrice).where(product_offering_price.c.id == any_of(sorted(wanted)))
        level = unit.session.scalars(query).all()
        found |= {one.id: one for one in level}
        tried |= wanted
        wanted = {key for one in level for key in related_price_ids(one)} - tried
    return found


_REVISIONS = """
    SELECT id, revision FROM product_offering WHERE id = ANY (%(ids)s)
    UNION ALL
    SELECT id, revision FROM product_offering_price WHERE id = ANY (%(ids)s)
    UNION ALL
    SELECT id, revision FROM price_list
    UNION ALL
    SELECT id, revision FROM tax_rate
"""


def revisions(unit: Unit, ids: Iterable[str]) -> dict[str, int]:
    """The revision of each of these offerings and prices that exists, and of every price list and tax rate."""
    return dict(unit.cursor().execute(_REVISIONS, {"ids": sorted(ids)}).fetchall())


# --- products that are priced alike ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Looks:
    """What of a product its price may rest on, beside its offering, quantity, term and prices as sold; with the
    beginnings from which on something of an offering, or of a price as sold, isn't over. `places`: None: any may count.
    """

    characteristics: Sequence[str] = ()
    places: Sequence[str] | None = ()
    market_segment: bool = False
    agreement: bool = False
    customer: bool = False
    branch: bool = False
    turns: Sequence[datetime] = ()
    sold_turns: Sequence[datetime] = ()
    # Of these offerings parts are priced with their bundle.
    bundles: Collection[str] = field(default_factory=frozenset)

    def text(self) -> str:
        """As it is kept with the preview."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in _INSTANTS:
            plain[name] = [turn.isoformat() for turn in plain[name]]
        return json.dumps({**plain, "bundles": sorted(self.bundles)})

    @classmethod
    def parse(cls, text: str) -> Looks:
        """From its text."""
        plain = json.loads(text)
        for name in _INSTANTS:
            plain[name] = [datetime.fromisoformat(turn) for turn in plain[name]]
        return cls(**{**plain, "bundles": frozenset(plain["bundles"])})


_INSTANTS = ("turns", "sold_turns")

_PARTS = """(
    WITH RECURSIVE below AS (
        SELECT p.id, p.product_offering_id, p.quantity, p.sold FROM holding p WHERE p.bundle_id = h.id AND p.live
        UNION ALL
        SELECT p.id, p.product_offering_id, p.quantity, p.sold FROM holding p JOIN below ON p.bundle_id = below.id
        WHERE p.live
    )
    SELECT jsonb_agg(jsonb_build_array(product_offering_id, quantity, sold) ORDER BY product_offering_id, sold::text)
    FROM below
)"""
# A place that doesn't count is still one: what depends on places can be told.
_PLACES = """CASE WHEN h.place <> '{}' THEN to_jsonb(array_append(ARRAY(
    SELECT own.place FROM unnest(h.place) WITH ORDINALITY AS own (place, at) WHERE own.place = ANY (%(places)s::text[])
    ORDER BY own.at
), '')) END"""
_INPUTS = """jsonb_build_object(
    'quantity', h.quantity, 'term', h.term, 'sold', h.sold,
    'characteristic', {characteristic}, 'place', {place}, 'segment', {segment}, 'agreement', {agreement},
    'customer', {customer}, 'parts', {parts}
)::text"""
# A part is priced with its bundle, if that is touched by the change; every bundle of what is touched is.
_NO_PART = """NOT EXISTS (
    SELECT FROM holding b WHERE b.id = h.bundle_id AND b.live AND b.product_offering_id = ANY (%(bundles)s)
)"""


def _looked_at(looks: Looks) -> dict[str, str]:
    """What of a product counts beside what always does, by name."""
    parts = f"CASE WHEN h.product_offering_id = ANY (%(bundles)s) THEN {_PARTS} END"
    return {
        "place": _PLACES if looks.places else "NULL" if looks.places is not None else "to_jsonb(h.place)",
        "segment": "to_jsonb(h.market_segment)" if looks.market_segment else "NULL",
        "agreement": "h.agreement_id" if looks.agreement else "NULL",
        "customer": "h.customer_id" if looks.customer else "NULL",
        "parts": parts if looks.bundles else "NULL",
    }


def _inputs(looks: Looks) -> str:
    return _INPUTS.format(
        characteristic="(SELECT jsonb_object_agg(name, h.characteristic -> name ORDER BY name)"
        " FROM unnest(%(characteristics)s::text[]) AS name WHERE h.characteristic ? name)"
        if looks.characteristics
        else "NULL",
        **_looked_at(looks),
    )


def _likeness(looks: Looks) -> str:
    """The text that is equal for two products of an offering if all that their prices rest on is; empty where nothing
    changes whatever it is. The prices as sold and the parts come as digests; a value that isn't there differs from
    every one that is."""
    told = _looked_at(looks)
    if told["parts"] != "NULL":
        told["parts"] = f"md5(({told['parts']})::text)"
    parts = [
        "h.quantity",
        "h.term",
        "md5(h.sold::text)",
        "width_bucket(h.started_at, %(turns)s::timestamptz[])",
        "width_bucket(coalesce(h.ordered_at, h.started_at), %(sold_turns)s::timestamptz[])",
        *(f"(h.characteristic -> %(characteristic_{i})s)" for i in range(len(looks.characteristics))),
        *(one for one in told.values() if one != "NULL"),
    ]
    return f"CASE WHEN h.product_offering_id = ANY (%(kept)s) THEN '' ELSE md5(ROW({', '.join(parts)})::text) END"


def _parameters(looks: Looks, kept: Iterable[str], **more: Any) -> dict[str, Any]:
    return {
        "kept": sorted(kept),
        "bundles": sorted(looks.bundles),
        "characteristics": list(looks.characteristics),
        **{f"characteristic_{i}": name for i, name in enumerate(looks.characteristics)},
        "places": list(looks.places or ()),
        "turns": list(looks.turns),
        "sold_turns": list(looks.sold_turns),
        **more,
    }


def sold_durations(unit: Unit, offering_ids: Iterable[str]) -> set[str]:
    """How long discounts last with which these were sold, or with which parts of bundles were: `3 month`."""
    rows = unit.cursor().execute(
        "SELECT DISTINCT unnest(sold_durations) FROM holding WHERE live AND sold_durations <> '{}'"
        " AND (product_offering_id = ANY (%s) OR bundle_id IS NOT NULL)",
        (sorted(offering_ids),),
    )
    return {str(duration) for (duration,) in rows.fetchall()}


# One statement, so that all is of one instant: a product that changes meanwhile is neither missed nor met twice.
_GROUPED = f"""
    INSERT INTO preview_group (
        preview_id, branch, product_offering_id, alike, inputs, started_at, ordered_at, products, outcome
    )
    SELECT %(preview)s, branch, product_offering_id, alike,
        CASE WHEN alike = '' THEN '' ELSE (SELECT {{inputs}} FROM holding h WHERE h.id = example) END,
        started_at, ordered_at, products, CASE WHEN alike = '' THEN '{PreviewOutcome.KEPT}' END
    FROM (
        SELECT product_offering_id, branch, alike, min(id) AS example, min(started_at) AS started_at,
            min(ordered_at) AS ordered_at, count(*) AS products
        FROM (
            SELECT h.id, h.product_offering_id, h.branch, h.started_at, h.ordered_at, {{likeness}} AS alike
            FROM holding h WHERE h.live AND h.product_offering_id = ANY (%(offerings)s) AND {{alone}}
        ) AS subject
        GROUP BY product_offering_id, branch, alike
    ) AS grouped
"""  # noqa: S608 (expressions of our own)


# Hashed: there are far fewer groups than a planner can know, who would rather sort a whole base.
_PATIENTLY = """
    SELECT set_config('statement_timeout', %s, true), set_config('enable_sort', 'off', true),
        set_config('enable_incremental_sort', 'off', true)
"""


def group(unit: Unit, preview_id: str, offering_ids: Iterable[str], looks: Looks, kept: Iterable[str]) -> None:
    """Groups the products of these offerings, in all branches; those of `kept`, for which nothing changes, are only
    counted. It takes some seconds a million products, in a transaction that may take as long as it needs."""
    unit.cursor().execute(_PATIENTLY, (f"{GROUPING_SECONDS}s",))
    unit.cursor().execute(
        _GROUPED.format(likeness=_likeness(looks), inputs=_inputs(looks), alone=_NO_PART if looks.bundles else "true"),
        _parameters(looks, kept, preview=preview_id, offerings=sorted(offering_ids)),
    )


@dataclass(frozen=True, slots=True)
class Group:
    """Products that are priced alike; those of every branch, unless the branch is something that prices look at."""

    product_offering_id: str
    alike: str
    # Of one of them, or of all if it counts.
    branch: str
    subscription: Subscription


_SOLD = TypedJson(SoldPrice, True).decode

_UNPRICED = """
    SELECT DISTINCT ON (product_offering_id, alike{branch})
        product_offering_id, alike, branch, inputs, started_at, ordered_at
    FROM preview_group
    WHERE preview_id = %(preview)s AND outcome IS NULL
        AND (product_offering_id, alike, branch) > (%(after_offering)s, %(after_alike)s, %(after_branch)s)
    ORDER BY product_offering_id, alike, branch LIMIT %(limit)s
"""


def unpriced(unit: Unit, preview_id: str, looks: Looks, after: Sequence[str], limit: int) -> list[Group]:
    """The next groups that are to be priced, after that offering, likeness and branch."""
    offering, alike, branch = after
    rows = unit.cursor().execute(
        _UNPRICED.format(branch=", branch" if looks.branch else ""),
        {
            "preview": preview_id,
            "after_offering": offering,
            "after_alike": alike,
            "after_branch": branch,
            "limit": limit,
        },
    )
    return [
        Group(offering, alike, branch, _subscription(branch, offering, inputs, started, ordered))
        for offering, alike, branch, inputs, started, ordered in rows.fetchall()
    ]


def _subscription(
    branch: str, offering: str, text: str, started_at: datetime | None, ordered_at: datetime | None
) -> Subscription:
    found = json.loads(text, parse_float=Decimal)
    sold = list(_sold(found["sold"]))
    numbers: dict[str, int] = {}
    for part, quantity, part_sold in found["parts"] or ():
        numbers[part] = numbers.get(part, 0) + quantity
        sold += _sold(part_sold)
    return Subscription(
        branch=branch,
        product_offering_id=offering,
        quantity=found["quantity"],
        characteristic=tuple(
            Characteristic(name=name, value=Json(_text(value)))
            for name, value in (found["characteristic"] or {}).items()
        ),
        term=found["term"],
        place=tuple(found["place"] or ()),
        agreement_id=found["agreement"] or "",
        market_segment=tuple(found["segment"] or ()),
        customer_id=found["customer"] or "",
        started_at=started_at,
        ordered_at=ordered_at,
        sold=tuple(sold),
        parts=tuple(sorted(numbers.items())),
    )


def _sold(data: Any) -> Iterable[SoldPrice]:
    return () if data is None else _SOLD(_text(data))


def _text(value: Any) -> str:
    """JSON again, digits and all."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_text(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


# What each group comes to, in whatever branches it is (in its own, if that counts), and the differences by its number.
_PRICED = """
    WITH priced AS (
        UPDATE preview_group SET outcome = found.outcome, reason = found.reason, description = found.description
        FROM unnest(
            %(offerings)s::text[], %(alike)s::text[], %(branches)s::text[], %(outcomes)s::text[], %(reasons)s::text[],
            %(descriptions)s::text[]
        ) WITH ORDINALITY AS found (product_offering_id, alike, branch, outcome, reason, description, number)
        WHERE preview_group.preview_id = %(preview)s
            AND preview_group.product_offering_id = found.product_offering_id AND preview_group.alike = found.alike
            AND (found.branch IS NULL OR preview_group.branch = found.branch)
        RETURNING preview_group.id, preview_group.branch, preview_group.products, found.number
    )
    INSERT INTO preview_difference (
        preview_id, group_id, branch, products, currency, period, before_net, before_gross, after_net, after_gross
    )
    SELECT %(preview)s, priced.id, priced.branch, priced.products, one.currency, one.period, one.before_net,
        one.before_gross, one.after_net, one.after_gross
    FROM priced JOIN unnest(
        %(numbers)s::bigint[], %(currencies)s::text[], %(periods)s::text[], %(before_net)s::numeric[],
        %(before_gross)s::numeric[], %(after_net)s::numeric[], %(after_gross)s::numeric[]
    ) AS one (number, currency, period, before_net, before_gross, after_net, after_gross) USING (number)
"""


def write(unit: Unit, preview_id: str, looks: Looks, priced: Sequence[tuple[Group, Priced]]) -> None:
    """Keeps the outcomes of these groups."""
    differences = [(number, one) for number, (_, each) in enumerate(priced, 1) for one in each.difference]
    unit.cursor().execute(
        _PRICED,
        {
            "preview": preview_id,
            "offerings": [group.product_offering_id for group, _ in priced],
            "alike": [group.alike for group, _ in priced],
            "branches": [group.branch if looks.branch else None for group, _ in priced],
            "outcomes": [str(one.outcome) for _, one in priced],
            "reasons": [one.reason or None for _, one in priced],
            "descriptions": [one.description or None for _, one in priced],
            "numbers": [number for number, _ in differences],
            "currencies": [one.currency for _, one in differences],
            "periods": [one.period for _, one in differences],
            "before_net": [one.before.net for _, one in differences],
            "before_gross": [one.before.gross for _, one in differences],
            "after_net": [one.after.net for _, one in differences],
            "after_gross": [one.after.gross for _, one in differences],
        },
    )


# --- the preview itself ----------------------------------------------------------------------------------------------


def row_of(unit: Unit, preview_id: str, *, lock: bool = False) -> sa.Row[Any]:
    """The preview's row. Raises NotFound."""
    query = sa.select(preview).where(preview.c.id == preview_id)
    found = unit.session.execute(query.with_for_update() if lock else query).first()
    if found is None:
        raise NotFound(
            "NOT_FOUND",
            f"there is no ChangePreview {preview_id!r}",
            metadata={"resource": "ChangePreview", "id": preview_id},
        )
    return found


def change_row(unit: Unit, preview_id: str, **values: Any) -> None:
    """Writes what has become of the preview."""
    unit.session.execute(sa.update(preview).where(preview.c.id == preview_id).values(**values))


def never_applied_text(found: Iterable[NeverApplied]) -> str:
    """As it is kept with the preview."""
    return json.dumps([[one.product_offering_id, one.field, one.description] for one in found])


def never_applied(row: sa.Row[Any]) -> list[NeverApplied]:
    """What of the preview's change would never apply, as far as it has been looked at."""
    return [NeverApplied(*one) for one in json.loads(row.never_applied or "[]")]


def clear(unit: Unit, preview_id: str) -> None:
    """Removes what has been found so far, in the caller's branches."""
    for table in (preview_difference, preview_group):
        unit.session.execute(sa.delete(table).where(table.c.preview_id == preview_id))


def remove(unit: Unit, preview_id: str) -> None:
    """Removes the preview with all that was found in the caller's branches."""
    clear(unit, preview_id)
    unit.session.execute(sa.delete(preview).where(preview.c.id == preview_id))


def add(unit: Unit, preview_id: str, branches: Sequence[str], request: bytes, at: datetime) -> None:
    """Keeps a new preview of those branches."""
    unit.session.execute(
        sa.insert(preview).values(
            id=preview_id,
            created_at=unit.at,
            created_by=unit.call.principal.subject,
            branches=list(branches),
            request=request,
            at=at,
            state=PreviewState.RUNNING,
            grouped=False,
            attempts=0,
        )
    )


# --- what it says, of the caller's branches ---------------------------------------------------------------------------


def outcomes(unit: Unit, preview_id: str) -> Sequence[Any]:
    """(outcome, groups, products); no outcome: still to be priced."""
    group = preview_group.c
    return unit.session.execute(
        sa.select(group.outcome, sa.func.count().label("groups"), sa.func.sum(group.products).label("products"))
        .where(group.preview_id == preview_id)
        .group_by(group.outcome)
        .order_by(group.outcome)
    ).all()


def totals(unit: Unit, preview_id: str) -> Sequence[Any]:
    """What all that move pay before and after, by currency and period."""
    d = preview_difference.c
    sums = [
        sa.func.sum(d.products * d[name]).label(name)
        for name in ("before_net", "before_gross", "after_net", "after_gross")
    ]
    return unit.session.execute(
        sa.select(d.currency, d.period, sa.func.sum(d.products).label("products"), *sums)
        .where(d.preview_id == preview_id)
        .group_by(d.currency, d.period)
        .order_by(d.currency, d.period)
    ).all()


def histogram(unit: Unit, preview_id: str, bounds: Sequence[Decimal]) -> Sequence[Any]:
    """(currency, period, bucket, products): bucket n is below bound n and from bound n - 1 on; no change is in none."""
    return unit.session.execute(_HISTOGRAM, {"preview": preview_id, "bounds": list(bounds)}).all()


_HISTOGRAM = sa.text(
    """
    SELECT currency, period, width_bucket(after_gross - before_gross, :bounds) AS bucket, sum(products) AS products
    FROM preview_difference WHERE preview_id = :preview AND after_gross <> before_gross
    GROUP BY currency, period, bucket ORDER BY currency, period, bucket
    """
).bindparams(sa.bindparam("bounds", type_=ARRAY(sa.Numeric)))


def refusals(unit: Unit, preview_id: str, limit: int) -> Sequence[Any]:
    """(offering, reason, description, products), the most frequent first."""
    group = preview_group.c
    products = sa.func.sum(group.products).label("products")
    return unit.session.execute(
        sa.select(group.product_offering_id, group.reason, group.description, products)
        .where(group.preview_id == preview_id, group.outcome == PreviewOutcome.REFUSED)
        .group_by(group.product_offering_id, group.reason, group.description)
        .order_by(products.desc(), group.product_offering_id, group.description)
        .limit(limit)
    ).all()


def grouped_pairs(unit: Unit, preview_id: str, wanted: Sequence[PreviewOutcome]) -> list[tuple[str, str]]:
    """The offerings and branches in which there is a product of one of these outcomes (of any, when there are none)."""
    group = preview_group.c
    query = (
        sa.select(group.product_offering_id, group.branch)
        .distinct()
        .where(group.preview_id == preview_id, group.outcome.is_not(None))
        .order_by(group.product_offering_id, group.branch)
    )
    # What has changed since has no outcome of its own.
    if wanted and PreviewOutcome.OUTDATED not in wanted:
        query = query.where(group.outcome.in_(wanted))
    return [(row.product_offering_id, row.branch) for row in unit.session.execute(query)]


def listed(
    unit: Unit, preview_id: str, pair: tuple[str, str], looks: Looks, kept: Iterable[str], after: str, limit: int
) -> list[tuple[Any, ...]]:
    """Products of an offering in a branch by id, each with its group and its outcome; None of both for one that has
    changed since it was grouped."""
    offering, branch = pair
    query = f"""
        SELECT subject.id, customer_id, billing_account_id, subject.started_at, g.id, g.outcome, g.reason
        FROM (
            SELECT h.id, h.customer_id, h.billing_account_id, h.started_at, {_likeness(looks)} AS alike
            FROM holding h WHERE h.live AND h.product_offering_id = %(offering)s AND h.branch = %(branch)s
                AND {_NO_PART} AND h.id > %(after)s
            ORDER BY h.id LIMIT %(limit)s
        ) AS subject
        LEFT JOIN preview_group g ON g.preview_id = %(preview)s AND g.product_offering_id = %(offering)s
            AND g.branch = %(branch)s AND g.alike = subject.alike
        ORDER BY subject.id
    """  # noqa: S608
    more = {"offering": offering, "branch": branch, "preview": preview_id, "after": after, "limit": limit}
    return unit.cursor().execute(query, _parameters(looks, kept, **more)).fetchall()


def differences(unit: Unit, groups: Iterable[int]) -> dict[int, list[Difference]]:
    """What is paid before and after, by group."""
    d = preview_difference.c
    found: dict[int, list[Difference]] = {}
    rows = unit.session.execute(
        sa.select(preview_difference)
        .where(d.group_id == sa.any_(sa.cast(sorted(set(groups)), ARRAY(sa.BigInteger))))
        .order_by(d.group_id, d.currency, d.period)
    )
    for row in rows:
        found.setdefault(row.group_id, []).append(
            Difference(
                row.currency,
                row.period,
                Amount(row.before_net, row.before_gross),
                Amount(row.after_net, row.after_gross),
            )
        )
    return found
