"""How a migration goes on by itself, and how the launch of a version that promises one begins it."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

from chassis import clients
from chassis.cloudevents import ReceivedEvent
from chassis.convert import from_timestamp
from chassis.timers import set_timer
from chassis.types import COMMON, new_id
from chassis.unit import Unit
from orders.inventory.store import with_parts
from orders.migration import store
from orders.migration.domain import MigratedProductState, MigrationState, ProductMigration, obstacle, order_for
from orders.ordering.capture import Capture
from orders.ordering.store import quantity_of
from orders.ordering.taking import REFUSALS, asking, take, told
from svyaz.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from svyaz.type.v1 import requests_pb2

# The purpose of our timers.
MIGRATE = "migrate"
# Products looked at, and orders taken, in one transaction.
LOOKED_AT_ONCE, ORDERS_AT_ONCE = 5_000, 20
# Orders of one migration that haven't ended: what a step looks at grows with them, not with the base.
UNDER_WAY = 500
# How often it is looked whether the orders that are under way have ended.
PAUSE = timedelta(seconds=1)

_S = MigratedProductState


class Migrating:
    """The steps of a migration. Each is repeated until it has been committed, and does nothing when it is late."""

    def __init__(self, capture: Capture, catalog: catalog_pb2_grpc.CatalogServiceStub) -> None:
        self._capture = capture
        self._catalog = catalog

    def timers(self) -> dict[str, Callable[[str, Unit], None]]:
        """The handlers of our timers, by purpose."""
        return {MIGRATE: self.step}

    def step(self, migration_id: str, unit: Unit) -> None:
        """Finds some products, takes some orders, sees which have ended."""
        migration = unit.find(ProductMigration, migration_id)
        if migration is not None and migration.winding_up:
            self._wind_up(unit, migration)
        if migration is None or not migration.running:
            return
        if migration.state is MigrationState.ACKNOWLEDGED:
            self._begin(unit, migration)
        store.settle(unit, migration)
        looked_through, found = store.scan(unit, migration, LOOKED_AT_ONCE)
        room = min(ORDERS_AT_ONCE, UNDER_WAY - store.under_way(unit, migration))
        moved: Counter[tuple[str, MigratedProductState]] = Counter()
        for product_id, branch in store.waiting(unit, migration, room):
            became = self._take_order(unit, migration, product_id)
            moved[branch, _S.WAITING] -= 1
            moved[branch, became] += 1
        store.count(unit, migration, moved)
        unit.flush()
        if migration.fails_too_often(store.keep_pace(unit, migration), unit.at):
            return
        waiting, ordered = (store.any_in(unit, migration, state) for state in (_S.WAITING, _S.ORDERED))
        left = waiting or ordered
        if looked_through and not left and found:
            # Those that were being ordered meanwhile are there now.
            store.begin_scan(unit, migration)
            left = True
        if looked_through and not left:
            migration.move(MigrationState.COMPLETED, unit.at)
        else:
            busy = not looked_through or (waiting and room == ORDERS_AT_ONCE)
            set_timer(unit, migration.id, MIGRATE, unit.at if busy else unit.at + PAUSE, migration.branch)

    def _wind_up(self, unit: Unit, migration: ProductMigration) -> None:
        """Skips what isn't ordered yet, and waits for the orders that are under way."""
        store.settle(unit, migration)
        store.skip_waiting(unit, migration, LOOKED_AT_ONCE, "the migration was cancelled")
        unit.flush()
        if store.any_in(unit, migration, _S.WAITING):
            set_timer(unit, migration.id, MIGRATE, unit.at, migration.branch)
        elif store.any_in(unit, migration, _S.ORDERED):
            set_timer(unit, migration.id, MIGRATE, unit.at + PAUSE, migration.branch)
        else:
            migration.wound_up(unit.at)

    def _begin(self, unit: Unit, migration: ProductMigration) -> None:
        if migration.series and not migration.from_offering:
            migration.from_offering = self._older_versions(migration.series, migration.to_offering or "")
        migration.move(MigrationState.IN_PROGRESS, unit.at)
        store.begin_scan(unit, migration)
        store.begin_pace(unit, migration)

    def _older_versions(self, series: str, new: str) -> tuple[str, ...]:
        """The other versions of the series that begin before the new one."""
        of_series = requests_pb2.Filter(
            path="series", operator=requests_pb2.Filter.OPERATOR_EQ, value=[series]
        )  # of all but the first
        listed = clients.call(
            self._catalog.ListProductOfferings, requests_pb2.ListRequest(filter=[of_series], limit=1000)
        )
        first = clients.call(self._catalog.GetProductOffering, requests_pb2.GetRequest(id=series))
        versions = {offering.id: offering for offering in (first, *listed.items)}
        begins = versions[new].valid_for.start_date_time
        return tuple(
            sorted(
                key
                for key, offering in versions.items()
                if key != new and _instant(offering.valid_for.start_date_time) < _instant(begins)
            )
        )

    def _take_order(self, unit: Unit, migration: ProductMigration, product_id: str) -> MigratedProductState:
        """Takes the order that moves a product, or keeps why it can't be: that of one doesn't keep the others; what
        has become of it."""
        products = with_parts(unit, [product_id])
        product = products.get(product_id)
        why = obstacle(product, migration.from_offering)
        if product is None or why is not None:
            store.mark(unit, migration, product_id, _S.SKIPPED, reason=why)
            return _S.SKIPPED
        order, item = order_for(migration, product, quantity_of(unit, product), id=new_id())
        try:
            ask, _ = asking(
                unit,
                self._capture,
                order,
                [item],
                products,
                exact_version=True,
                charge_one_time=bool(migration.charge_one_time),
            )
            captured = ask()
        except REFUSALS as refusal:
            store.mark(unit, migration, product_id, _S.FAILED, reason=told(refusal))
            return _S.FAILED
        take(unit, order, captured)
        unit.flush()
        store.mark(unit, migration, product_id, _S.ORDERED, order_id=order.id)
        return _S.ORDERED

    def catalog_changed(self, event: ReceivedEvent, unit: Unit) -> None:
        """Begins, at its time, the migration that a version promises which has just been launched.

        Once, since nothing is launched twice. What is there from the beginning as Launched has been taken over from
        another catalog, where it was launched long ago: that moves nobody.
        """
        if event.type != "ProductOfferingStateChangeEvent":
            return
        offering = event.message(catalog_pb2.ProductOffering)
        policy = offering.existing_subscribers
        if (
            offering.lifecycle_status != catalog_pb2.LIFECYCLE_STATUS_LAUNCHED
            or policy.policy != catalog_pb2.EXISTING_SUBSCRIBERS_POLICY_MIGRATE
            or not offering.series
        ):
            return
        begins = [
            from_timestamp(instant)
            for instant in (policy.effective_date, offering.valid_for.start_date_time)
            if instant.seconds
        ]
        migration = ProductMigration(
            id=new_id(),
            branch=COMMON,
            description=f"{offering.name} {offering.version}: existing subscribers",
            series=offering.series,
            to_offering=event.aggregate_id,
            # Nobody is moved to what isn't sold yet.
            start_at=max([*begins, unit.at]),
        )
        start(unit, migration)


def start(unit: Unit, migration: ProductMigration) -> None:
    """Keeps a new migration and lets it begin at its time; raises InvalidArgument SAME_OFFERING, REQUIRED."""
    migration.check(unit.at)
    unit.add(migration)
    go_on(unit, migration)


def go_on(unit: Unit, migration: ProductMigration) -> None:
    """Sets the timer of one that isn't paused and awaits nobody, for its time or at once."""
    if migration.running:
        assert migration.start_at is not None
        set_timer(unit, migration.id, MIGRATE, max(migration.start_at, unit.at), migration.branch)


def _instant(timestamp: object) -> float:
    seconds = getattr(timestamp, "seconds", 0)
    return float(seconds) + float(getattr(timestamp, "nanos", 0)) / 1e9 if seconds else float("-inf")
