"""Tables of promotions and coupons, who has used which, and the promotions that are on offer, ready to be applied."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from catalog.product.domain import Category, ProductOffering, ProductSpecification
from catalog.product.store import any_of, references
from catalog.product.store import category as category_table
from catalog.product.store import product_offering as offering_table
from catalog.product.store import product_specification as specification_table
from catalog.promotion.domain import RELEASED_WORDS, Coupon, CouponRedemption, Promotion, stage_of
from catalog.promotion.engine import Fact
from catalog.promotion.terms import Terms, entities
from catalog.promotion.values import Stage
from catalog.schema import metadata
from chassis.db import Database
from chassis.errors import FailedPrecondition, Violation
from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate, TimePeriod
from chassis.unit import Unit
from svyaz.catalog.v1 import promotion_pb2

_WORDS = ", ".join(f"'{word}'" for word in RELEASED_WORDS)
promotion = aggregate_table(
    metadata,
    "promotion",
    Promotion,
    # What Promotion.released says, so that those on offer are found.
    sa.Column(
        "released",
        sa.Boolean,
        sa.Computed(f"lower(regexp_replace(lifecycle_status, '[^A-Za-z]', '', 'g')) IN ({_WORDS})", persisted=True),
    ),
    sa.Index("promotion_released", "id", postgresql_where=sa.text("released")),
)
coupon = aggregate_table(metadata, "coupon", Coupon, sa.Index("coupon_code", "code", unique=True))
coupon_redemption = aggregate_table(
    metadata,
    "coupon_redemption",
    CouponRedemption,
    sa.Index("coupon_redemption_order_id", "order_id", "coupon_id", unique=True),
    sa.Index("coupon_redemption_coupon_id", "coupon_id", "customer_id"),
)

# Promotions and coupons are common to all branches; who has used a coupon is a branch's own business.
RESOURCES: Mapping[type[Aggregate], Resource] = {
    Promotion: Resource(promotion_pb2.Promotion, promotion, common=True),
    Coupon: Resource(promotion_pb2.Coupon, coupon, common=True),
    CouponRedemption: Resource(promotion_pb2.CouponRedemption, coupon_redemption),
}
ISOLATED = (coupon_redemption.name,)


# --- promotions ------------------------------------------------------------------------------------------------------


def others_released(unit: Unit, than: str) -> list[tuple[str, int, TimePeriod | None]]:
    """Id, priority and validity of every other promotion that is released."""
    rows = unit.session.execute(
        sa.select(promotion.c.id, promotion.c.priority, promotion.c.valid_for).where(
            promotion.c.released, promotion.c.id != than
        )
    )
    return [(row.id, row.priority or 0, row.valid_for) for row in rows]


def stage_before(changed: Promotion) -> Stage:
    """The stage that the promotion had before this transaction changed it."""
    history = sa.inspect(changed).attrs["lifecycle_status"].history
    return stage_of(history.deleted[0]) if history.deleted else changed.stage


def validity_before(changed: Promotion) -> TimePeriod | None:
    """When the promotion was valid before this transaction changed it."""
    history = sa.inspect(changed).attrs["valid_for"].history
    before: TimePeriod | None = history.deleted[0] if history.deleted else changed.valid_for
    return before


def changed_fields(changed: Promotion) -> set[str]:
    """The attributes that this transaction has changed."""
    return {attribute.key for attribute in sa.inspect(changed).attrs if attribute.history.has_changes()}


def refer(unit: Unit, released: Promotion, terms: Terms) -> None:
    """Remembers what a promotion is about, so that it stays. Raises FailedPrecondition UNRESOLVED_REFERENCE."""
    named = [(path, ref.id or "", _kind_of(ref.at_referred_type, path)) for path, ref in entities(released.pattern)]
    named += [("pattern", name, kind) for name, kind in _compared_with(terms)]
    tables: Mapping[str, tuple[sa.Table, ...]] = {
        ProductOffering.__name__: (offering_table, specification_table),
        Category.__name__: (category_table,),
    }
    rows: list[dict[str, Any]] = []
    wrong = []
    for kind, searched in tables.items():
        wanted = sorted({name for _, name, of_kind in named if of_kind == kind})
        found: dict[str, str] = {}
        for table in searched if wanted else ():
            cls = {offering_table: ProductOffering, specification_table: ProductSpecification, category_table: Category}
            ids = unit.session.scalars(sa.select(table.c.id).where(table.c.id == any_of(wanted)))
            found |= dict.fromkeys(ids, cls[table].__name__)
        wrong += [
            Violation(path, f"there is no {kind} {name!r}")
            for path, name, of_kind in named
            if of_kind == kind and name not in found
        ]
        rows += [
            {
                "field": "pattern",
                "target_id": name,
                "referrer_type": Promotion.__name__,
                "target_type": target,
                "part": False,
            }
            for name, target in found.items()
        ]
    if wrong:
        raise FailedPrecondition(
            "UNRESOLVED_REFERENCE", f"it would never apply: {wrong[0].description}", violations=wrong
        )
    references.refer_now(unit, released.id, rows)


def referrers(unit: Unit, promotion: Promotion) -> list[tuple[str, str]]:
    """Type and id of what refers to it; some of them when they are many."""
    return references.referrers(unit, promotion.id, references.table.c.target_type == Promotion.__name__, most=10)


def forget(unit: Unit, gone: Promotion) -> None:
    """It refers to nothing any more."""
    references.refer_now(unit, gone.id, ())


def _kind_of(referred_type: str | None, path: str) -> str:
    category = referred_type == Category.__name__ or ".category[" in path
    return Category.__name__ if category else ProductOffering.__name__


def _compared_with(terms: Terms) -> Iterable[tuple[str, str]]:
    """The ids that conditions compare with, each with the kind of what it is of."""
    for condition in terms.conditions():
        if condition.fact is Fact.PRODUCT:
            yield condition.value, ProductOffering.__name__
        elif condition.fact is Fact.CATEGORY:
            yield condition.value, Category.__name__
        elif condition.fact is Fact.CATEGORY_TOTAL:
            yield condition.of, Category.__name__


class PromotionBook:
    """The promotions on offer, kept between calls. One query tells which are still current; others are read anew."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, Terms]] = {}

    def on_offer(self, database: Database, found_already: Iterable[tuple[str, int]] | None = None) -> list[Terms]:
        """The terms of all promotions that are released, valid or not. `found_already`: what ON_OFFER found, if it was
        asked."""
        if found_already is None:
            current = {key: revision for _, key, revision in database.rows(f"{ON_OFFER} OR id = ANY (WANTED)", ())}
        else:
            current = dict(found_already)
        kept = self._kept
        found = {key: kept[key] for key, revision in current.items() if key in kept and kept[key][0] == revision}
        fresh = sorted(current.keys() - found.keys())
        if fresh:
            with database.unit() as unit:
                found |= {one.id: (one.revision, one.terms()) for one in _promotions(unit, fresh)}
        if fresh or len(kept) != len(found):
            # In one step: who reads meanwhile has the old ones or the new, and asks which are current anyway.
            self._kept = found
        return [terms for _, (_, terms) in sorted(found.items())]


# Beside other answers: nothing else is tagged so.
TAG = "svyaz:promotion"
ON_OFFER = f"SELECT '{TAG}', id, revision FROM promotion WHERE released"  # noqa: S608 (a constant of our own)


def _promotions(unit: Unit, ids: Sequence[str]) -> Sequence[Promotion]:
    found = unit.session.scalars(sa.select(Promotion).where(promotion.c.id == any_of(ids))).all()
    return [one for one in found if one.released]


_CATEGORIES = """
    SELECT offering, category FROM (
        WITH RECURSIVE above (offering, category) AS (
            (
                SELECT referrer_id, target_id FROM reference
                WHERE referrer_type = 'ProductOffering' AND field = 'category' AND referrer_id = ANY (WANTED)
                UNION
                SELECT target_id, referrer_id FROM reference
                WHERE referrer_type = 'Category' AND field = 'product_offering' AND target_id = ANY (WANTED)
            )
            UNION
            SELECT above.offering, CASE field WHEN 'parent_id' THEN target_id ELSE referrer_id END
            FROM above JOIN reference ON referrer_type = 'Category' AND (
                (field = 'parent_id' AND referrer_id = above.category)
                OR (field = 'sub_category' AND target_id = above.category)
            )
        )
        SELECT offering, category FROM above
    ) AS found
"""


def categories_of(database: Database, offerings: Iterable[str]) -> dict[str, frozenset[str]]:
    """Offering → its categories and those above them."""
    found: dict[str, set[str]] = {}
    for offering, category in database.rows(_CATEGORIES, sorted(set(offerings))):
        found.setdefault(offering, set()).add(category)
    return {offering: frozenset(ids) for offering, ids in found.items()}


# --- coupons ---------------------------------------------------------------------------------------------------------


def coupons(unit: Unit, codes: Sequence[str]) -> dict[str, Coupon]:
    """The coupons with these codes."""
    found = unit.session.scalars(sa.select(Coupon).where(coupon.c.code == any_of(codes)))
    return {one.code or "": one for one in found}


def lock_coupon(unit: Unit, id: str) -> Coupon | None:
    """The coupon as it is now: until the end of the transaction nobody else uses, changes or deletes it."""
    query = sa.select(Coupon).where(coupon.c.id == id).with_for_update()
    return unit.session.scalar(query.execution_options(populate_existing=True))


def redemption_of(unit: Unit, coupon_id: str, order_id: str) -> CouponRedemption | None:
    """The use of a coupon by an order."""
    wanted = (coupon_redemption.c.coupon_id == coupon_id, coupon_redemption.c.order_id == order_id)
    return unit.session.scalar(sa.select(CouponRedemption).where(*wanted))


def redemptions_of(unit: Unit, order_id: str) -> Sequence[CouponRedemption]:
    """The uses of coupons by an order, in the order of the coupons' ids: who locks several does it in that order."""
    query = sa.select(CouponRedemption).where(coupon_redemption.c.order_id == order_id)
    return unit.session.scalars(query.order_by(coupon_redemption.c.coupon_id)).all()


def take_use(unit: Unit, id: str) -> bool:
    """Counts one more use of the coupon; False when its limit is reached."""
    room = sa.or_(coupon.c.usage_limit.is_(None), coupon.c.redeemed < coupon.c.usage_limit)
    counted = sa.update(coupon).where(coupon.c.id == id, room).values(redeemed=coupon.c.redeemed + 1)
    return unit.session.execute(counted.returning(coupon.c.id)).first() is not None


def give_back_use(unit: Unit, id: str) -> None:
    """Counts one use of the coupon less."""
    unit.session.execute(sa.update(coupon).where(coupon.c.id == id).values(redeemed=coupon.c.redeemed - 1))


def uses_by_customer(unit: Unit, coupon_ids: Sequence[str], customer_ids: Sequence[str]) -> dict[str, int]:
    """How often the customer of these ids uses each of the coupons."""
    rows = unit.session.execute(
        sa.select(coupon_redemption.c.coupon_id, sa.func.count())
        .where(
            coupon_redemption.c.coupon_id == any_of(coupon_ids),
            coupon_redemption.c.customer_id == any_of(customer_ids),
        )
        .group_by(coupon_redemption.c.coupon_id)
    )
    return {row[0]: row[1] for row in rows}


def coupon_of(unit: Unit, promotion_id: str) -> str | None:
    """The code of some coupon of the promotion."""
    query = sa.select(coupon.c.code).where(coupon.c.promotion["id"].as_string() == promotion_id)
    return unit.session.scalar(query.limit(1))
