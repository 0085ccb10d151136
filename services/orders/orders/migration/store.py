"""Tables of migrations, and the questions asked of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from chassis.db import EnumText, Resource, Unit, aggregate_table
from chassis.types import Aggregate
from orders.migration.domain import MOVABLE, OUTCOMES, MigratedProduct, MigratedProductState, ProductMigration
from orders.ordering.store import product_order
from orders.ordering.values import ProductOrderState
from orders.schema import metadata
from svyaz.orders.v1 import migration_pb2

product_migration = aggregate_table(metadata, "product_migration", ProductMigration)

# One row for a product and migration, whoever finds it how often: this is what makes its order the only one.
migrated_product = sa.Table(
    "migrated_product",
    metadata,
    sa.Column("migration_id", sa.Text, primary_key=True),
    sa.Column("product_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("state", EnumText(MigratedProductState), nullable=False),
    sa.Column("product_order_id", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Index("migrated_product_state", "migration_id", "state", "product_id"),
)
# How far the inventory has been looked through, and how many were found on this way through it.
migration_scan = sa.Table(
    "migration_scan",
    metadata,
    sa.Column("migration_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("after", sa.Text, nullable=False),
    sa.Column("found", sa.BigInteger, nullable=False),
)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    ProductMigration: Resource(migration_pb2.ProductMigration, product_migration)
}

_W = MigratedProductState.WAITING


def begin_scan(unit: Unit, migration: ProductMigration) -> None:
    """Looks through the inventory from its first product, when it is next looked through."""
    row = {"migration_id": migration.id, "branch": migration.branch, "after": "", "found": 0}
    unit.session.execute(sa.delete(migration_scan).where(migration_scan.c.migration_id == migration.id))
    unit.session.execute(sa.insert(migration_scan).values(row))


# The products after one, in the order of their ids; those of them that are to be moved are kept. A statement of its own
# for each part of the inventory: none of them takes long, however large that is.
_SCAN = """
    WITH looked AS MATERIALIZED (
        SELECT id, branch, status, product_offering FROM product
        WHERE id > %(after)s AND (%(branch)s = '*' OR branch = %(branch)s)
        ORDER BY id LIMIT %(most)s
    ), added AS (
        INSERT INTO migrated_product (migration_id, product_id, branch, state)
        SELECT %(migration)s, id, branch, %(waiting)s FROM looked
        WHERE product_offering ->> 'id' = ANY (%(offerings)s) AND status = ANY (%(statuses)s)
        ON CONFLICT DO NOTHING
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM looked), (SELECT max(id) FROM looked), (SELECT count(*) FROM added)
"""


def scan(unit: Unit, migration: ProductMigration, most: int) -> tuple[bool, int]:
    """Looks through the next products of the inventory; whether that was the last of them, and how many have been found
    since the first."""
    at = unit.session.execute(
        sa.select(migration_scan.c.after, migration_scan.c.found)
        .where(migration_scan.c.migration_id == migration.id)
        .with_for_update()
    ).one()
    with unit.cursor() as cursor:
        cursor.execute(
            _SCAN,
            {
                "after": at.after,
                "branch": migration.branch,
                "most": most,
                "migration": migration.id,
                "waiting": _W.value,
                "offerings": list(migration.from_offering),
                "statuses": [str(status) for status in MOVABLE],
            },
        )
        looked, last, added = cursor.fetchone() or (0, None, 0)
    if last is not None:
        unit.session.execute(
            sa.update(migration_scan)
            .where(migration_scan.c.migration_id == migration.id)
            .values(after=last, found=at.found + added)
        )
    return looked < most, at.found + added


def waiting(unit: Unit, migration: ProductMigration, most: int) -> list[str]:
    """The next products whose order is to be taken."""
    columns = migrated_product.c
    rows = unit.session.scalars(
        sa.select(columns.product_id)
        .where(columns.migration_id == migration.id, columns.state == _W)
        .order_by(columns.product_id)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    return list(rows)


def mark(
    unit: Unit,
    migration: ProductMigration,
    product_id: str,
    state: MigratedProductState,
    *,
    order_id: str | None = None,
    reason: str | None = None,
) -> None:
    """Remembers what has become of a product."""
    unit.session.execute(
        sa.update(migrated_product)
        .where(migrated_product.c.migration_id == migration.id, migrated_product.c.product_id == product_id)
        .values(state=state, product_order_id=order_id, reason=reason)
    )


def under_way(unit: Unit, migration: ProductMigration) -> int:
    """How many orders of the migration haven't ended; there are never many."""
    columns = migrated_product.c
    return int(
        unit.session.scalar(
            sa.select(sa.func.count()).where(
                columns.migration_id == migration.id, columns.state == MigratedProductState.ORDERED
            )
        )
        or 0
    )


def any_in(unit: Unit, migration: ProductMigration, state: MigratedProductState) -> bool:
    """Whether a product of the migration is in that state."""
    columns = migrated_product.c
    there = sa.exists().where(columns.migration_id == migration.id, columns.state == state)
    return bool(unit.session.scalar(sa.select(there)))


def settle(unit: Unit, migration: ProductMigration) -> None:
    """Takes over how the orders of the migration have ended; looks at those only that are under way."""
    columns = migrated_product.c
    rows = unit.session.execute(
        sa.select(columns.product_order_id, columns.product_id).where(
            columns.migration_id == migration.id, columns.state == MigratedProductState.ORDERED
        )
    )
    open_orders: dict[str, str] = {row.product_order_id: row.product_id for row in rows}
    ended: dict[ProductOrderState, list[str]] = {}
    for order_id, state in unit.session.execute(
        sa.select(product_order.c.id, product_order.c.state).where(
            product_order.c.id.in_(list(open_orders)), product_order.c.state.in_(list(OUTCOMES))
        )
    ):
        ended.setdefault(state, []).append(open_orders[order_id])
    for state, product_ids in ended.items():
        outcome = OUTCOMES[state]
        unit.session.execute(
            sa.update(migrated_product)
            .where(columns.migration_id == migration.id, columns.product_id.in_(product_ids))
            .values(
                state=outcome,
                reason=None if outcome is MigratedProductState.COMPLETED else f"its order is {state}",
            )
        )


def try_again(unit: Unit, migration: ProductMigration) -> int:
    """Lets those that failed wait for their turn again; how many they are."""
    columns = migrated_product.c
    changed: Any = unit.session.execute(
        sa.update(migrated_product)
        .where(columns.migration_id == migration.id, columns.state == MigratedProductState.FAILED)
        .values(state=_W, product_order_id=None, reason=None)
    )
    return int(changed.rowcount)


def progress(unit: Unit, ids: Iterable[str]) -> dict[str, dict[MigratedProductState, int]]:
    """How many products of each migration are in which state, as far as the caller may see them."""
    columns = migrated_product.c
    rows = unit.session.execute(
        sa.select(columns.migration_id, columns.state, sa.func.count())
        .where(columns.migration_id.in_(list(ids)))
        .group_by(columns.migration_id, columns.state)
    )
    found: dict[str, dict[MigratedProductState, int]] = {}
    for migration_id, state, count in rows:
        found.setdefault(migration_id, {})[state] = count
    return found


def products(
    unit: Unit, migration_id: str, states: Sequence[MigratedProductState], after: str, limit: int
) -> list[MigratedProduct]:
    """What has become of the next products after one."""
    columns = migrated_product.c
    query = (
        sa.select(columns.product_id, columns.branch, columns.state, columns.product_order_id, columns.reason)
        .where(columns.migration_id == migration_id, columns.product_id > after)
        .order_by(columns.product_id)
        .limit(limit)
    )
    if states:
        query = query.where(columns.state.in_(states))
    return [MigratedProduct(**row._mapping) for row in unit.session.execute(query)]
