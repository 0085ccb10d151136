"""The table of what is held, and the questions asked of it.

Under the policies a caller counts the holders of his own branches only. Where all of them count whoever asks (what has
holders anywhere isn't retired), a function with its owner's rights gives numbers and nothing else: see `live_holders`
and `co_holders`.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from catalog.holding.domain import Holding, HoldingStatus, SoldPrice
from catalog.product.store import any_of
from catalog.schema import metadata
from chassis.schema import EnumText, TypedJson
from chassis.types import Json
from chassis.unit import Unit

holding = sa.Table(
    "holding",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    # Of the product; 0: only the item that orders it has been heard of.
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("status", EnumText(HoldingStatus)),
    sa.Column("live", sa.Boolean, nullable=False),
    sa.Column("customer_id", sa.Text),
    sa.Column("billing_account_id", sa.Text),
    sa.Column("product_offering_id", sa.Text),
    sa.Column("product_specification_id", sa.Text),
    sa.Column("bundle_id", sa.Text),
    sa.Column("started_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("characteristic", JSONB, nullable=False),
    # Of the order item that it was sold by last, and when that was: a product itself says neither.
    sa.Column("quantity", sa.Integer, nullable=False),
    sa.Column("ordered_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("term", sa.Text, nullable=False),
    sa.Column("place", ARRAY(sa.Text), nullable=False),
    sa.Column("agreement_id", sa.Text),
    sa.Column("market_segment", ARRAY(sa.Text), nullable=False),
    sa.Column("sold", TypedJson(SoldPrice, True)),
    # How long its alterations last, each once, as `3 month`: what a preview of a whole base has to look for.
    sa.Column("sold_durations", ARRAY(sa.Text), nullable=False),
    # When it was last heard of: a rebuilding removes what it hasn't met.
    sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
    # With the branch, so that an index alone answers how many there are, under the policies too.
    sa.Index(
        "holding_live_product_offering_id", "product_offering_id", "branch", "id", postgresql_where=sa.text("live")
    ),
    sa.Index("holding_customer_id", "customer_id", "branch", postgresql_where=sa.text("customer_id IS NOT NULL")),
    sa.Index("holding_bundle_id", "bundle_id", postgresql_where=sa.text("bundle_id IS NOT NULL")),
    sa.Index("holding_seen_at", "seen_at"),
    # In an order that has nothing to do with what they hold: its beginning is a sample.
    sa.Index(
        "holding_sample",
        sa.text("hashtext(customer_id)"),
        "customer_id",
        postgresql_where=sa.text("live AND customer_id IS NOT NULL"),
    ),
    sa.Index(
        "holding_sample_of_offering",
        "product_offering_id",
        sa.text("hashtext(id)"),
        postgresql_where=sa.text("live AND sold IS NOT NULL"),
    ),
)

_SOLD = holding.c.sold.type
_FIELDS = [field.name for field in dataclasses.fields(Holding)]
# Heard of by themselves.
_ORDERED = ("quantity", "ordered_at")
_WRITTEN = [*(name for name in _FIELDS if name not in _ORDERED), "sold_durations", "live", "seen_at"]
_ASSIGNED = ", ".join(f"{name} = excluded.{name}" for name in _WRITTEN if name not in ("id", "branch"))

# A version that was seen before is written again: that is how a rebuilding mends.
_REMEMBER = f"""
    INSERT INTO holding ({", ".join(_WRITTEN)}, quantity)
    VALUES ({", ".join(f"%({name})s" for name in _WRITTEN)}, 1)
    ON CONFLICT (id) DO UPDATE SET {_ASSIGNED}
        WHERE holding.version <= excluded.version OR %(epoch_began)s
"""  # noqa: S608 (names of our own columns)
_FORGET = "DELETE FROM holding WHERE id = %(id)s AND (version <= %(version)s OR %(epoch_began)s)"
# The item and its product are of different keys, so either may be heard of first.
_COUNT = """
    INSERT INTO holding (id, branch, version, live, characteristic, quantity, ordered_at, term, place, market_segment,
        sold_durations, seen_at)
    VALUES (%(id)s, %(branch)s, 0, false, '{}', %(quantity)s, %(at)s, '', '{}', '{}', '{}', %(seen_at)s)
    ON CONFLICT (id) DO UPDATE SET quantity = excluded.quantity, ordered_at = excluded.ordered_at
        WHERE holding.ordered_at IS NULL OR holding.ordered_at <= excluded.ordered_at
"""


def remember(unit: Unit, held: Holding, *, epoch_began: bool = False) -> None:
    """Keeps what is held now, with the unit's next flush, unless a later version is known.

    `epoch_began`: the inventory was restored from a backup, so that a lower version may be the later one.
    """
    values = {name: getattr(held, name) for name in _FIELDS if name not in _ORDERED}
    values["characteristic"] = held.characteristic.text
    values["sold"] = _encoded(held.sold)
    values |= {"status": str(held.status), "place": list(held.place), "market_segment": list(held.market_segment)}
    lasting = {f"{a.duration} {a.units}" for price in held.sold for a in price.alteration if a.duration}
    values["sold_durations"] = sorted(lasting)
    unit.later(_REMEMBER, {**values, "live": held.status.live, "seen_at": unit.at, "epoch_began": epoch_began})


def forget(unit: Unit, id: str, version: int, *, epoch_began: bool = False) -> None:
    """Keeps nothing of a product that was deleted as that version."""
    unit.later(_FORGET, {"id": id, "version": version, "epoch_began": epoch_began})


def count(unit: Unit, id: str, branch: str, quantity: int, at: datetime) -> None:
    """Keeps how many a product is, and since when it is charged as it is, by the item of an order."""
    unit.later(_COUNT, {"id": id, "branch": branch, "quantity": quantity, "at": at, "seen_at": unit.at})


def forget_unseen(unit: Unit, since: datetime) -> int:
    """Removes, of the caller's branches, what hasn't been heard of since the instant; how many these were."""
    return unit.cursor().execute("DELETE FROM holding WHERE seen_at < %(since)s", {"since": since}).rowcount


def _encoded(sold: Sequence[SoldPrice]) -> str | None:
    assert isinstance(_SOLD, TypedJson)
    return _SOLD.encode(tuple(sold))


# --- questions -------------------------------------------------------------------------------------------------------


def live_holders(unit: Unit, offering_ids: Iterable[str]) -> dict[str, int]:
    """How many live products of each offering there are in all branches together, whoever asks; those without are left
    out. A number is all that one learns of other branches."""
    wanted = sorted(set(offering_ids))
    if not wanted:
        return {}
    rows = unit.cursor().execute("SELECT product_offering_id, holders FROM live_holders(%s)", (wanted,)).fetchall()
    return dict(rows)


# Fewer customers than these aren't told of: a number mustn't lead to a person.
FEWEST = 5


# So many live products are looked at for what is held together.
SAMPLE = 20_000


@dataclass(frozen=True, slots=True)
class CoHolders:
    """Of the customers that were looked at, in all branches together, so many hold something of the one, of the other
    and of both offerings."""

    product_offering_id: str
    other_id: str
    both: int
    one: int
    other: int
    customers: int


def co_holders(unit: Unit, offering_ids: Iterable[str], *, fewest: int = FEWEST, most: int = SAMPLE) -> list[CoHolders]:
    """What else the customers hold that hold one of these offerings, the most frequent first, in a sample of `most`
    live products of customers whom a hash of their ids has chosen. A pair with itself tells how many hold the offering
    at all. Pairs of fewer customers than `fewest` (5 at least) are left out."""
    wanted = sorted(set(offering_ids))
    if not wanted:
        return []
    rows = unit.cursor().execute(
        "SELECT product_offering_id, other_id, both_hold, one_holds, other_holds, customers"
        " FROM held_together(%s, %s, %s)",
        (wanted, max(fewest, FEWEST), most),
    )
    return [CoHolders(*row) for row in rows.fetchall()]


def holdings_of(unit: Unit, *customer_ids: str, live_only: bool = True) -> list[Holding]:
    """What a customer of the caller's branches holds under any of these ids, the oldest first."""
    query = sa.select(holding).where(holding.c.customer_id == any_of(customer_ids), holding.c.version > 0)
    if live_only:
        query = query.where(holding.c.live)
    rows = unit.session.execute(query.order_by(holding.c.started_at, holding.c.id))
    return [_holding(row._mapping) for row in rows]


def _holding(row: sa.RowMapping) -> Holding:
    values = {name: row[name] for name in _FIELDS}
    values["place"], values["market_segment"] = tuple(row["place"]), tuple(row["market_segment"])
    # As the driver gives it: the engine's reader leaves JSONB as bytes for the typed columns.
    values["characteristic"] = Json(bytes(row["characteristic"]).decode())
    return Holding(**values)
