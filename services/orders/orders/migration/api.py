"""What can be asked of migrations."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from chassis import calls, clients
from chassis.convert import enum_prefix, from_timestamp, to_message, to_timestamp
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Violation
from chassis.resources import Collection, StandardMethods
from chassis.timers import cancel_timer, set_timer
from chassis.types import COMMON, bad_transition, new_id
from chassis.unit import Unit
from orders.migration import store
from orders.migration.domain import MigratedProductState, MigrationState, ProductMigration
from orders.migration.steps import MIGRATE, go_on, start
from svyaz.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from svyaz.orders.v1 import migration_pb2
from svyaz.type.v1 import requests_pb2

MOST_PRODUCTS = 1000
# Nobody plans beyond a year, in seconds; and an instant ends somewhere.
_LONGEST = 365 * 86400
_PREFIX = enum_prefix(migration_pb2.MigratedProductState.DESCRIPTOR)


def _replies(unit: Unit, migrations: Sequence[ProductMigration]) -> Sequence[migration_pb2.ProductMigration]:
    # One that has just been asked for has found nothing yet, and its unit has looked at nothing.
    known = [one.id for one in migrations if not unit.adds(one)]
    counted, paces = store.progress(unit, known), store.paces(unit, known)
    messages = []
    for migration in migrations:
        message = to_message(migration, migration_pb2.ProductMigration)
        states = counted.get(migration.id, {})
        message.progress.total = sum(states.values())
        for state, count in states.items():
            setattr(message.progress, state.value, count)
        pace = paces.get(migration.id, store.Pace())
        message.progress.looked_through = pace.looked_through
        if pace.per_second is not None:
            message.progress.per_second = f"{pace.per_second:.3f}"
        left = message.progress.waiting + message.progress.ordered
        if left and pace.per_second and migration.state is MigrationState.IN_PROGRESS:
            seconds = min(left / pace.per_second, _LONGEST)
            message.progress.expected_completion.CopyFrom(to_timestamp(unit.at + timedelta(seconds=seconds)))
        messages.append(message)
    return messages


class Migrations(StandardMethods):
    """Migrations of products from old offerings to a new one."""

    def __init__(self, database: Database, catalog: catalog_pb2_grpc.CatalogServiceStub) -> None:
        self._database = database
        self._catalog = catalog
        self._migrations = Collection(database, ProductMigration, migration_pb2.ProductMigration, replies=_replies)
        super().__init__(migration_pb2.DESCRIPTOR.services_by_name["MigrationService"], self._migrations)

    def MigrateProducts(
        self, request: migration_pb2.MigrateProductsRequest, context: Any
    ) -> migration_pb2.ProductMigration:
        """Begins a migration, now or later; one that nobody else has approved waits for a second person."""
        remembered = self._database.remembered(request, migration_pb2.ProductMigration)
        if remembered is not None:
            return remembered
        branch = self._branch(request.branch)
        at = from_timestamp(request.start_at) if request.HasField("start_at") else None
        migration_of: dict[str, Any] = {
            "branch": branch,
            "description": request.description or None,
            "from_offering": tuple(dict.fromkeys(request.from_offering)),
            "to_offering": request.to_offering or None,
            "start_at": at,
            "charge_one_time": request.charge_one_time,
            "most_failures": request.most_failures if request.HasField("most_failures") else None,
            "requested_by": calls.current().principal.subject,
        }
        now = self._database.clock.now()
        ProductMigration(id="", **migration_of).check(now)
        migration_of["awaits_approval"] = not self._promised(request, self._sellable(request), at or now)

        def work(unit: Unit) -> migration_pb2.ProductMigration:
            migration = ProductMigration(id=new_id(), **migration_of)
            start(unit, migration)
            return self._migrations.reply(unit, migration)

        return self._database.transact(request, migration_pb2.ProductMigration, work)

    def _branch(self, named: str) -> str:
        if named != COMMON:
            return self._database.branch_for_create(ProductMigration, named)
        if not calls.current().principal.every_branch:
            raise PermissionDenied("BRANCH_FORBIDDEN", "only who may see every branch migrates the products of all")
        return COMMON

    def _sellable(self, request: migration_pb2.MigrateProductsRequest) -> catalog_pb2.ProductOffering:
        """The new offering. Raises InvalidArgument UNKNOWN_OFFERING, FailedPrecondition OFFERING_NOT_SELLABLE."""
        try:
            offering = clients.call(self._catalog.GetProductOffering, requests_pb2.GetRequest(id=request.to_offering))
        except NotFound as error:
            violations = [Violation("to_offering", error.message)]
            raise InvalidArgument("UNKNOWN_OFFERING", error.message, violations=violations) from error
        if offering.lifecycle_status != catalog_pb2.LIFECYCLE_STATUS_LAUNCHED:
            why = f"offering {offering.id} isn't Launched"
            raise FailedPrecondition("OFFERING_NOT_SELLABLE", why, violations=[Violation("to_offering", why)])
        return offering

    def _promised(
        self, request: migration_pb2.MigrateProductsRequest, offering: catalog_pb2.ProductOffering, at: datetime
    ) -> bool:
        """Whether two people have approved it with the offering: that it takes over the subscribers of its series from
        then on. One-time charges nobody has promised."""
        policy = offering.existing_subscribers
        if (
            policy.policy != catalog_pb2.EXISTING_SUBSCRIBERS_POLICY_MIGRATE
            or not offering.series
            or request.charge_one_time
            or (policy.HasField("effective_date") and at < from_timestamp(policy.effective_date))
        ):
            return False
        by_id = requests_pb2.Filter(
            path="id", operator=requests_pb2.Filter.OPERATOR_EQ, value=list(request.from_offering)
        )
        found = clients.call(self._catalog.ListProductOfferings, requests_pb2.ListRequest(filter=[by_id], limit=1000))
        ours = {one.id for one in found.items if offering.series in (one.id, one.series)}
        return ours == set(request.from_offering)

    def StartProductMigration(
        self, request: migration_pb2.ProductMigrationRequest, context: Any
    ) -> migration_pb2.ProductMigration:
        """A second person's word; raises FailedPrecondition OWN_WORK, BAD_TRANSITION."""

        def approve(unit: Unit, migration: ProductMigration) -> None:
            migration.approve(unit.call.principal.subject)
            go_on(unit, migration)

        return self._change(request, approve)

    def PauseProductMigration(
        self, request: migration_pb2.ProductMigrationRequest, context: Any
    ) -> migration_pb2.ProductMigration:
        """Takes no further order; raises FailedPrecondition BAD_TRANSITION."""

        def pause(unit: Unit, migration: ProductMigration) -> None:
            migration.move(MigrationState.PAUSED, unit.at, f"paused by {unit.call.principal.subject}")
            cancel_timer(unit, migration.id, MIGRATE)

        return self._change(request, pause)

    def ResumeProductMigration(
        self, request: migration_pb2.ProductMigrationRequest, context: Any
    ) -> migration_pb2.ProductMigration:
        """Goes on; raises FailedPrecondition BAD_TRANSITION."""

        def resume(unit: Unit, migration: ProductMigration) -> None:
            if migration.state is not MigrationState.PAUSED:
                raise bad_transition(f"a migration that is {migration.state} isn't paused")
            migration.resume(unit.at)
            store.begin_pace(unit, migration)
            go_on(unit, migration)

        return self._change(request, resume)

    def CancelProductMigration(
        self, request: migration_pb2.ProductMigrationRequest, context: Any
    ) -> migration_pb2.ProductMigration:
        """Takes no further order for good; raises FailedPrecondition BAD_TRANSITION."""

        def cancel(unit: Unit, migration: ProductMigration) -> None:
            migration.move(MigrationState.CANCELLED, unit.at, f"cancelled by {unit.call.principal.subject}")
            set_timer(unit, migration.id, MIGRATE, unit.at, migration.branch)

        return self._change(request, cancel)

    def RetryProductMigration(
        self, request: migration_pb2.ProductMigrationRequest, context: Any
    ) -> migration_pb2.ProductMigration:
        """Tries again those that failed, and looks for new ones, when it is over or paused; raises FailedPrecondition
        BAD_TRANSITION."""

        def retry(unit: Unit, migration: ProductMigration) -> None:
            if migration.state not in (MigrationState.COMPLETED, MigrationState.PAUSED) or not migration.started_at:
                raise bad_transition(f"a migration that is {migration.state} has failed nowhere")
            store.try_again(unit, migration)
            store.begin_scan(unit, migration)
            unit.flush()
            store.begin_pace(unit, migration)
            migration.move(MigrationState.IN_PROGRESS, unit.at)
            set_timer(unit, migration.id, MIGRATE, unit.at, migration.branch)

        return self._change(request, retry)

    def _change(
        self,
        request: migration_pb2.ProductMigrationRequest,
        change: Callable[[Unit, ProductMigration], None],
    ) -> migration_pb2.ProductMigration:
        def work(unit: Unit) -> migration_pb2.ProductMigration:
            migration = unit.get(ProductMigration, request.id)
            if not unit.call.principal.may_see(migration.branch):
                raise PermissionDenied("BRANCH_FORBIDDEN", "the migration is of branches that aren't yours")
            change(unit, migration)
            return self._migrations.reply(unit, migration)

        return self._database.transact(request, migration_pb2.ProductMigration, work)

    def ListMigratedProducts(
        self, request: migration_pb2.ListMigratedProductsRequest, context: Any
    ) -> migration_pb2.ListMigratedProductsResponse:
        """What has become of each product that the caller may see; raises NotFound, InvalidArgument LIMIT."""
        limit = request.limit if request.HasField("limit") else 100
        if not 1 <= limit <= MOST_PRODUCTS:
            violations = [Violation("limit", f"from 1 to {MOST_PRODUCTS:,}")]
            raise InvalidArgument("LIMIT", "a page has 1 to 1,000 products", violations=violations)
        names = migration_pb2.MigratedProductState.Name
        states = [MigratedProductState[names(state).removeprefix(_PREFIX)] for state in request.state if state]
        with self._database.unit() as unit:
            unit.get(ProductMigration, request.id)
            found = store.products(unit, request.id, states, request.after, limit)
        return migration_pb2.ListMigratedProductsResponse(
            items=[to_message(one, migration_pb2.MigratedProduct) for one in found]
        )
