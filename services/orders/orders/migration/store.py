"""Tables of migrations, and the questions asked of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from chassis.schema import EnumText, Resource, aggregate_table
from chassis.types import COMMON, Aggregate
from chassis.unit import Unit
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
    # What a step asks for, whatever the statistics were when it was planned: at first all are waiting.
    sa.Index("migrated_product_waiting", "migration_id", "product_id", postgresql_where=sa.text("state = 'waiting'")),
    sa.Index("migrated_product_ordered", "migration_id", postgresql_where=sa.text("state = 'ordered'")),
)
# How far the inventory has been looked through, and how many were found on this way through it.
migration_scan = sa.Table(
    "migration_scan",
    metadata,
    sa.Column("migration_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("after", sa.Text, nullable=False),
    sa.Column("found", sa.BigInteger, nullable=False),
    sa.Column("looked_through", sa.Boolean, nullable=False),
)
# How many of a branch are in which state, kept up with them: to count a million is too slow for who looks every second.
migration_progress = sa.Table(
    "migration_progress",
    metadata,
    sa.Column("migration_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("state", EnumText(MigratedProductState), primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)
# How fast it goes: since an instant, with so many that had ended by then, and how many failures had been taken note of.
migration_pace = sa.Table(
    "migration_pace",
    metadata,
    sa.Column("migration_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("ended", sa.BigInteger, nullable=False),
    sa.Column("per_second", sa.Float),
    sa.Column("failures_known", sa.BigInteger, nullable=False),
)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    ProductMigration: Resource(migration_pb2.ProductMigration, product_migration)
}

_W = MigratedProductState.WAITING


def _is(state: MigratedProductState) -> sa.ColumnElement[bool]:
    """That a product is in a state, said so that the plan knows which."""
    return migrated_product.c.state == sa.literal_column(f"'{state.value}'")


def begin_scan(unit: Unit, migration: ProductMigration) -> None:
    """Looks through the inventory from its first product, when it is next looked through."""
    row = {"migration_id": migration.id, "branch": migration.branch, "after": "", "found": 0, "looked_through": False}
    unit.session.execute(sa.delete(migration_scan).where(migration_scan.c.migration_id == migration.id))
    unit.session.execute(sa.insert(migration_scan).values(row))


_COUNT = """
    INSERT INTO migration_progress (migration_id, branch, state, count)
    VALUES (%(migration)s, %(branch)s, %(state)s, %(count)s)
    ON CONFLICT (migration_id, branch, state) DO UPDATE SET count = migration_progress.count + excluded.count
"""


def count(unit: Unit, migration: ProductMigration, moved: Mapping[tuple[str, MigratedProductState], int]) -> None:
    """So many more (or less) of a branch are in a state."""
    rows = [
        {"migration": migration.id, "branch": branch, "state": state.value, "count": number}
        for (branch, state), number in sorted(moved.items())
        if number
    ]
    if rows:
        unit.later(_COUNT, *rows)


# The products after one, in the order of their ids, that are of the offerings; those of them that are to be moved are
# kept. A statement of its own for each part of them: none takes long, however large the inventory is.
_SCAN = """
    WITH looked AS MATERIALIZED (
        SELECT found.id, found.branch, found.status
        FROM unnest(%(offerings)s::text[]) AS offering (id) CROSS JOIN LATERAL (
            SELECT id, branch, status FROM product
            WHERE product_offering_id = offering.id AND {of_branch} AND id > %(after)s
            ORDER BY id LIMIT %(most)s
        ) AS found
        ORDER BY found.id LIMIT %(most)s
    ), added AS (
        INSERT INTO migrated_product (migration_id, product_id, branch, state)
        SELECT %(migration)s, id, branch, %(waiting)s FROM looked WHERE status = ANY (%(statuses)s)
        ON CONFLICT DO NOTHING
        RETURNING branch
    ), counted AS (
        INSERT INTO migration_progress (migration_id, branch, state, count)
        SELECT %(migration)s, branch, %(waiting)s, count(*) FROM added GROUP BY branch
        ON CONFLICT (migration_id, branch, state) DO UPDATE SET count = migration_progress.count + excluded.count
    )
    SELECT (SELECT count(*) FROM looked), (SELECT max(id) FROM looked), (SELECT count(*) FROM added)
"""


def scan(unit: Unit, migration: ProductMigration, most: int) -> tuple[bool, int]:
    """Looks through the next products of the inventory; whether that was the last of them, and how many have been found
    since the first."""
    at = unit.session.execute(
        sa.select(migration_scan.c.after, migration_scan.c.found, migration_scan.c.looked_through)
        .where(migration_scan.c.migration_id == migration.id)
        .with_for_update()
    ).one()
    # Said so that the plan knows: by another index where it is one branch's.
    of_branch = "true" if migration.branch == COMMON else "branch = %(branch)s"
    with unit.cursor() as cursor:
        cursor.execute(
            _SCAN.format(of_branch=of_branch),
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
    values: dict[str, Any] = {"found": at.found + added, "looked_through": looked < most}
    if last is not None:
        values["after"] = last
    if (at.found, at.looked_through, at.after) != (values["found"], values["looked_through"], last or at.after):
        unit.session.execute(
            sa.update(migration_scan).where(migration_scan.c.migration_id == migration.id).values(values)
        )
    return looked < most, at.found + added


def waiting(unit: Unit, migration: ProductMigration, most: int) -> list[tuple[str, str]]:
    """(id, branch) of the next products whose order is to be taken."""
    columns = migrated_product.c
    rows = unit.session.execute(
        sa.select(columns.product_id, columns.branch)
        .where(columns.migration_id == migration.id, _is(_W))
        .order_by(columns.product_id)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    return [(row.product_id, row.branch) for row in rows]


_SKIP = """
    WITH next AS (
        SELECT product_id FROM migrated_product WHERE migration_id = %(migration)s AND state = 'waiting'
        ORDER BY product_id LIMIT %(most)s FOR UPDATE
    ), changed AS (
        UPDATE migrated_product SET state = %(skipped)s, reason = %(reason)s FROM next
        WHERE migration_id = %(migration)s AND migrated_product.product_id = next.product_id
        RETURNING branch
    )
    SELECT branch, count(*) FROM changed GROUP BY branch
"""


def skip_waiting(unit: Unit, migration: ProductMigration, most: int, reason: str) -> None:
    """Skips the next of those whose order hasn't been taken."""
    values = {
        "migration": migration.id,
        "skipped": MigratedProductState.SKIPPED.value,
        "most": most,
        "reason": reason,
    }
    moved: dict[tuple[str, MigratedProductState], int] = {}
    for branch, number in unit.cursor().execute(_SKIP, values).fetchall():
        moved[branch, _W], moved[branch, MigratedProductState.SKIPPED] = -number, number
    count(unit, migration, moved)


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
            sa.select(sa.func.count()).where(columns.migration_id == migration.id, _is(MigratedProductState.ORDERED))
        )
        or 0
    )


def any_in(unit: Unit, migration: ProductMigration, state: MigratedProductState) -> bool:
    """Whether a product of the migration is in that state."""
    columns = migrated_product.c
    there = sa.exists().where(columns.migration_id == migration.id, _is(state))
    return bool(unit.session.scalar(sa.select(there)))


def settle(unit: Unit, migration: ProductMigration) -> None:
    """Takes over how the orders of the migration have ended; looks at those only that are under way."""
    columns = migrated_product.c
    rows = unit.session.execute(
        sa.select(columns.product_order_id, columns.product_id, columns.branch).where(
            columns.migration_id == migration.id, _is(MigratedProductState.ORDERED)
        )
    )
    open_orders: dict[str, tuple[str, str]] = {row.product_order_id: (row.product_id, row.branch) for row in rows}
    ended: dict[ProductOrderState, list[tuple[str, str]]] = {}
    moved: Counter[tuple[str, MigratedProductState]] = Counter()
    for order_id, state in unit.session.execute(
        sa.select(product_order.c.id, product_order.c.state).where(
            product_order.c.id.in_(list(open_orders)), product_order.c.state.in_(list(OUTCOMES))
        )
    ):
        ended.setdefault(state, []).append(open_orders[order_id])
    for state, found in ended.items():
        outcome = OUTCOMES[state]
        for _, branch in found:
            moved[branch, MigratedProductState.ORDERED] -= 1
            moved[branch, outcome] += 1
        unit.session.execute(
            sa.update(migrated_product)
            .where(columns.migration_id == migration.id, columns.product_id.in_([key for key, _ in found]))
            .values(
                state=outcome,
                reason=None if outcome is MigratedProductState.COMPLETED else f"its order is {state}",
            )
        )
    count(unit, migration, moved)


_TRY_AGAIN = """
    WITH changed AS (
        UPDATE migrated_product SET state = %(waiting)s, product_order_id = NULL, reason = NULL
        WHERE migration_id = %(migration)s AND state = %(failed)s
        RETURNING branch
    )
    SELECT branch, count(*) FROM changed GROUP BY branch
"""


def try_again(unit: Unit, migration: ProductMigration) -> int:
    """Lets those that failed wait for their turn again; how many they are."""
    values = {"migration": migration.id, "waiting": _W.value, "failed": MigratedProductState.FAILED.value}
    found = unit.cursor().execute(_TRY_AGAIN, values).fetchall()
    moved: dict[tuple[str, MigratedProductState], int] = {}
    for branch, number in found:
        moved[branch, MigratedProductState.FAILED], moved[branch, _W] = -number, number
    count(unit, migration, moved)
    return sum(number for _, number in found)


def progress(unit: Unit, ids: Iterable[str]) -> dict[str, dict[MigratedProductState, int]]:
    """How many products of each migration are in which state, as far as the caller may see them."""
    columns = migration_progress.c
    rows = unit.session.execute(
        sa.select(columns.migration_id, columns.state, sa.func.sum(columns.count))
        .where(columns.migration_id.in_(list(ids)))
        .group_by(columns.migration_id, columns.state)
    )
    found: dict[str, dict[MigratedProductState, int]] = {}
    for migration_id, state, number in rows:
        found.setdefault(migration_id, {})[state] = int(number)
    return found


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a migration goes (products per second; None: not known yet), and whether all of them have been found."""

    per_second: float | None = None
    looked_through: bool = False


def paces(unit: Unit, ids: Iterable[str]) -> dict[str, Pace]:
    """The paces of migrations that have begun."""
    scans, paces = migration_scan.c, migration_pace.c
    rows = unit.session.execute(
        sa.select(scans.migration_id, paces.per_second, scans.looked_through)
        .outerjoin_from(migration_scan, migration_pace, paces.migration_id == scans.migration_id)
        .where(scans.migration_id.in_(list(ids)))
    )
    return {row.migration_id: Pace(row.per_second, row.looked_through) for row in rows}


_PACE = """
    INSERT INTO migration_pace (migration_id, branch, since, ended, failures_known)
    VALUES (%(migration)s, %(branch)s, %(at)s, %(ended)s, %(failed)s)
    ON CONFLICT (migration_id) DO UPDATE SET
        since = excluded.since, ended = excluded.ended, per_second = NULL, failures_known = excluded.failures_known
"""
_ENDED = (MigratedProductState.COMPLETED, MigratedProductState.FAILED)
# Over so long it is measured how fast it goes.
MEASURED = timedelta(seconds=30)


def begin_pace(unit: Unit, migration: ProductMigration) -> None:
    """Counts failures, and measures how fast it goes, from now on."""
    counted = progress(unit, [migration.id]).get(migration.id, {})
    values = {
        "migration": migration.id,
        "branch": migration.branch,
        "at": unit.at,
        "ended": sum(counted.get(state, 0) for state in _ENDED),
        "failed": counted.get(MigratedProductState.FAILED, 0),
    }
    unit.later(_PACE, values)


def keep_pace(unit: Unit, migration: ProductMigration) -> int:
    """Measures how fast it goes, now and then; how many have failed since that was begun."""
    counted = progress(unit, [migration.id]).get(migration.id, {})
    columns = migration_pace.c
    own = columns.migration_id == migration.id
    known = unit.session.execute(sa.select(columns.since, columns.ended, columns.failures_known).where(own)).first()
    if known is None:
        begin_pace(unit, migration)
        return 0
    lasted, ended = unit.at - known.since, sum(counted.get(state, 0) for state in _ENDED)
    if lasted >= MEASURED:
        rate = max(0, ended - known.ended) / lasted.total_seconds()
        unit.session.execute(sa.update(migration_pace).where(own).values(since=unit.at, ended=ended, per_second=rate))
    return counted.get(MigratedProductState.FAILED, 0) - int(known.failures_known)


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
