"""Subscribers of an old offering become those of a new one: one order each, whatever happens meanwhile."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from chassis.cloudevents import ReceivedEvent
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from chassis.events import acting
from orders.migration import steps
from orders.migration.domain import ProductMigration
from orders.store import metadata
from svyaz.catalog.v1 import catalog_pb2
from svyaz.orders.v1 import inventory_pb2, migration_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.orders.conftest import ACTIVE, ORDER, PRODUCT, Shop, item
from tests.serving import Caller

MIGRATION = "svyaz.orders.v1.MigrationService/"
DAY = timedelta(days=1)
LAUNCHED = catalog_pb2.LIFECYCLE_STATUS_LAUNCHED


def subscribed(shop: Shop, offering: str, quantity: int = 1) -> tuple[str, str]:
    """A new customer who has the offering; ids of account and product."""
    customer, account = shop.customer()
    order = shop.completed(customer, account, item("1", "ADD", offering, quantity=quantity))
    return account, shop.products(order.id)[offering].id


def migrate(shop: Shop, old: str, new: str, caller: Caller | None = None, **more: Any) -> str:
    """Asked for by one person and started by another."""
    made = (caller or shop.manager)(MIGRATION + "MigrateProducts", from_offering=[old], to_offering=new, **more)
    if seen(shop, made.id, shop.reviewer).awaits_approval:
        shop.reviewer(MIGRATION + "StartProductMigration", id=made.id)
    return str(made.id)


def seen(shop: Shop, migration: str, caller: Caller | None = None) -> migration_pb2.ProductMigration:
    found = (caller or shop.manager)(MIGRATION + "GetProductMigration", id=migration)
    assert isinstance(found, migration_pb2.ProductMigration)
    return found


def state(shop: Shop, migration: str) -> str:
    return migration_pb2.MigrationState.Name(seen(shop, migration).state).removeprefix("MIGRATION_STATE_")


def rows(shop: Shop, migration: str, **more: Any) -> list[Any]:
    return list(shop.manager(MIGRATION + "ListMigratedProducts", id=migration, **more).items)


def offering_of(shop: Shop, product: str) -> str:
    return str(shop.agent(PRODUCT + "GetProduct", id=product).product_offering.id)


def orders_of(shop: Shop, migration: str) -> list[Any]:
    found = shop.agent(
        ORDER + "ListProductOrders", limit=1000, filter=[{"path": "category", "value": ["migration"]}]
    ).items
    return [order for order in found if order.external_id.startswith(migration)]


def work(shop: Shop) -> None:
    """Until the migration that waits for its orders has seen their end."""
    shop.work()
    shop.later(timedelta(seconds=2))
    shop.later(timedelta(seconds=2))


def test_every_subscriber_is_moved_by_one_order_and_charged_the_new_price(shop: Shop) -> None:
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    held = [subscribed(shop, old) for _ in range(3)]
    elsewhere = subscribed(shop, shop.offering(shop.price(70)))
    migration = migrate(shop, old, new)
    work(shop)
    assert state(shop, migration) == "COMPLETED"
    done = seen(shop, migration).progress
    assert (done.total, done.completed, done.waiting, done.ordered, done.failed) == (3, 3, 0, 0, 0)
    assert {row.product_id for row in rows(shop, migration)} == {product for _, product in held}
    orders = orders_of(shop, migration)
    assert sorted(order.external_id for order in orders) == sorted(f"{migration}/{product}" for _, product in held)
    assert {row.product_order_id for row in rows(shop, migration)} == {order.id for order in orders}
    for account, product in held:
        assert offering_of(shop, product) == new
        assert shop.told(account) == [
            ("RecurringChargeStart", "500"),
            ("RecurringChargeStop", "500"),
            ("RecurringChargeChange", "600"),
        ]
    assert shop.told(elsewhere[0]) == [("RecurringChargeStart", "70")]


def test_how_many_a_product_is_stays(shop: Shop) -> None:
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    account, _ = subscribed(shop, old, quantity=3)
    migrate(shop, old, new)
    work(shop)
    assert shop.told(account)[-1] == ("RecurringChargeChange", "1800")


def test_a_step_that_is_repeated_takes_no_second_order(shop: Shop) -> None:
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    subscribed(shop, old)
    migration = migrate(shop, old, new)
    for _ in range(3):
        with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
            shop.migrating.step(migration, unit)
    assert len(orders_of(shop, migration)) == 1
    # A second migration finds what the first has under way, and leaves it alone once it is moved.
    again = migrate(shop, old, new)
    work(shop)
    assert len(orders_of(shop, migration)) == 1
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        shop.migrating.step(migration, unit)
    assert state(shop, again) == "COMPLETED"


def test_the_same_request_is_one_migration(shop: Shop) -> None:
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    first = migrate(shop, old, new, request_id="once")
    assert migrate(shop, old, new, request_id="once") == first


def test_a_product_that_cannot_be_moved_says_why_and_does_not_keep_the_others(shop: Shop) -> None:
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    _, product = subscribed(shop, old)
    customer, _ = shop.customer()
    dollars = shop.account(customer, "USD")
    foreign = shop.product(
        status="PRODUCT_STATUS_ACTIVE",
        product_offering={"id": old},
        billing_account={"id": dollars},
        related_party=[{"id": customer, "role": "customer"}],
    )
    migration = migrate(shop, old, new)
    work(shop)
    assert state(shop, migration) == "COMPLETED"
    (failed,) = rows(shop, migration, state=["MIGRATED_PRODUCT_STATE_FAILED"])
    assert (failed.product_id, failed.product_order_id) == (foreign, "")
    assert "CURRENCY_MISMATCH" in failed.reason
    assert offering_of(shop, product) == new
    # Once it can be, it is tried again.
    _, som = shop.customer()
    shop.agent(
        PRODUCT + "UpdateProduct",
        product={"id": foreign, "billing_account": {"id": shop.account(customer)}},
        update_mask={"paths": ["billing_account"]},
    )
    shop.manager(MIGRATION + "RetryProductMigration", id=migration)
    work(shop)
    assert offering_of(shop, foreign) == new
    assert seen(shop, migration).progress.failed == 0
    assert som


def test_a_product_that_somebody_does_not_know_does_not_keep_the_others(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To ask again would be answered the same, and the others would wait for it for ever."""
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    (_, unknown), (_, known) = subscribed(shop, old), subscribed(shop, old)
    migration = migrate(shop, old, new)
    capture = shop.migrating._capture.capture

    def forgetful(order: Any, items: Any, products: Any, *rest: Any, **more: Any) -> Any:
        if unknown in products:
            raise NotFound("NOT_FOUND", "there is no such specification")
        return capture(order, items, products, *rest, **more)

    monkeypatch.setattr(shop.migrating._capture, "capture", forgetful)
    for _ in range(2):
        with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
            shop.migrating.step(migration, unit)
    reasons = {row.product_id: row.reason for row in rows(shop, migration)}
    assert reasons == {unknown: "NOT_FOUND: there is no such specification", known: ""}


def test_a_failed_order_is_a_failed_product(shop: Shop) -> None:
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    _, product = subscribed(shop, old)
    shop.provisioning.failing = frozenset({new})
    migration = migrate(shop, old, new)
    work(shop)
    (failed,) = rows(shop, migration)
    assert failed.state == migration_pb2.MIGRATED_PRODUCT_STATE_FAILED
    assert (failed.reason, offering_of(shop, product)) == ("its order is failed", old)


def test_what_ends_before_its_turn_is_left_alone(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "ORDERS_AT_ONCE", 0)
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    customer, account = shop.customer()
    order = shop.completed(customer, account, item("1", "ADD", old))
    product = shop.products(order.id)[old].id
    migration = migrate(shop, old, new)
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        shop.migrating.step(migration, unit)
    assert seen(shop, migration).progress.waiting == 1
    shop.manager(MIGRATION + "PauseProductMigration", id=migration)
    shop.completed(customer, account, item("1", "DELETE", product=product))
    monkeypatch.setattr(steps, "ORDERS_AT_ONCE", 20)
    shop.manager(MIGRATION + "ResumeProductMigration", id=migration)
    work(shop)
    (row,) = rows(shop, migration)
    assert (row.state, row.reason) == (migration_pb2.MIGRATED_PRODUCT_STATE_SKIPPED, "it is terminated")
    assert state(shop, migration) == "COMPLETED"


def test_it_goes_on_in_batches_and_can_be_paused_between_them(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "ORDERS_AT_ONCE", 2)
    monkeypatch.setattr(steps, "LOOKED_AT_ONCE", 2)
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    for _ in range(5):
        subscribed(shop, old)
    migration = migrate(shop, old, new)
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        shop.migrating.step(migration, unit)
    assert seen(shop, migration).progress.ordered == 2
    paused = shop.manager(MIGRATION + "PauseProductMigration", id=migration)
    assert paused.status_reason == "paused by developer"
    with pytest.raises(FailedPrecondition) as refused:
        shop.manager(MIGRATION + "PauseProductMigration", id=migration)
    assert refused.value.reason == "BAD_TRANSITION"
    work(shop)
    assert len(orders_of(shop, migration)) == 2
    assert state(shop, migration) == "PAUSED"
    shop.manager(MIGRATION + "ResumeProductMigration", id=migration)
    work(shop)
    work(shop)
    assert state(shop, migration) == "COMPLETED"
    assert seen(shop, migration).progress.completed == 5


def test_what_becomes_a_product_meanwhile_is_found_too(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    # However slow the machine is, the next step isn't taken before the late one is there.
    monkeypatch.setattr(steps, "PAUSE", DAY)
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    subscribed(shop, old)
    migration = migrate(shop, old, new)
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        shop.migrating.step(migration, unit)
    _, late = subscribed(shop, old)
    for _ in range(4):
        shop.later(DAY)
    assert offering_of(shop, late) == new
    assert seen(shop, migration).progress.completed == 2


def test_it_begins_when_it_is_said_to(shop: Shop) -> None:
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    _, product = subscribed(shop, old)
    migration = migrate(shop, old, new, start_at=shop.at(DAY))
    shop.work()
    assert (state(shop, migration), offering_of(shop, product)) == ("ACKNOWLEDGED", old)
    shop.manager(MIGRATION + "PauseProductMigration", id=migration)
    shop.manager(MIGRATION + "ResumeProductMigration", id=migration)
    shop.work()
    assert (state(shop, migration), offering_of(shop, product)) == ("ACKNOWLEDGED", old)
    shop.later(DAY)
    work(shop)
    assert (state(shop, migration), offering_of(shop, product)) == ("COMPLETED", new)


def test_a_migration_of_nothing_or_to_nothing_is_refused(shop: Shop) -> None:
    old = shop.offering(shop.price(500))
    wrong: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (InvalidArgument, "REQUIRED", {"to_offering": old}),
        (InvalidArgument, "REQUIRED", {"from_offering": [old]}),
        (InvalidArgument, "SAME_OFFERING", {"from_offering": [old], "to_offering": old}),
        (InvalidArgument, "UNKNOWN_OFFERING", {"from_offering": [old], "to_offering": "gone"}),
    ]
    for error, reason, request in wrong:
        with pytest.raises(error) as refused:
            shop.manager(MIGRATION + "MigrateProducts", **request)
        assert isinstance(refused.value, InvalidArgument)
        assert refused.value.reason == reason
        assert refused.value.violations


def test_nobody_is_moved_to_what_is_not_on_the_market(shop: Shop) -> None:
    old = shop.offering(shop.price(500))
    approved = shop.world.manager.create(
        catalog_pb2.ProductOffering(name="soon", lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_ACTIVE)
    )
    with pytest.raises(FailedPrecondition) as refused:
        migrate(shop, old, approved.id)
    assert refused.value.reason == "OFFERING_NOT_SELLABLE"


def test_a_migration_stays_in_its_branch_and_head_office_migrates_all(shop: Shop) -> None:
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    _, ours = subscribed(shop, old)
    customer, account = shop.customer(branch="osh")
    body: dict[str, Any] = {"status": "PRODUCT_STATUS_ACTIVE", "product_offering": {"id": old}}
    body |= {"billing_account": {"id": account}, "related_party": [{"id": customer, "role": "customer"}]}
    theirs = shop.osh(PRODUCT + "CreateProduct", product=body).id

    def offering_in_osh() -> str:
        return str(shop.osh(PRODUCT + "GetProduct", id=theirs).product_offering.id)

    own = migrate(shop, old, new)
    work(shop)
    assert (offering_of(shop, ours), offering_in_osh()) == (new, old)
    with pytest.raises(PermissionDenied):
        migrate(shop, old, new, branch="*")
    everywhere = migrate(shop, old, new, shop.head_office, branch="*")
    work(shop)
    assert offering_in_osh() == new
    # A branch sees that there is one, and its own part of it; it doesn't stop it.
    assert seen(shop, everywhere).progress.total == 0
    assert seen(shop, everywhere, shop.head_office).progress.completed == 1
    with pytest.raises(PermissionDenied):
        shop.manager(MIGRATION + "RetryProductMigration", id=everywhere)
    with pytest.raises(NotFound):
        shop.manager(MIGRATION + "GetProductMigration", id="gone")
    assert own


# --- by two people ----------------------------------------------------------------------------------------------------


def test_one_person_moves_nobody(shop: Shop) -> None:
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    _, product = subscribed(shop, old)
    made = shop.manager(MIGRATION + "MigrateProducts", from_offering=[old], to_offering=new)
    assert (made.awaits_approval, made.requested_by) == (True, "developer")
    shop.manager(MIGRATION + "PauseProductMigration", id=made.id)
    shop.manager(MIGRATION + "ResumeProductMigration", id=made.id)
    work(shop)
    assert (state(shop, made.id), offering_of(shop, product)) == ("ACKNOWLEDGED", old)
    with pytest.raises(FailedPrecondition) as refused:
        shop.manager(MIGRATION + "StartProductMigration", id=made.id)
    assert refused.value.reason == "OWN_WORK"
    started = shop.reviewer(MIGRATION + "StartProductMigration", id=made.id)
    assert (started.awaits_approval, started.approved_by) == (False, "reviewer")
    work(shop)
    assert (state(shop, made.id), offering_of(shop, product)) == ("COMPLETED", new)
    with pytest.raises(FailedPrecondition) as refused:
        shop.reviewer(MIGRATION + "StartProductMigration", id=made.id)
    assert refused.value.reason == "BAD_TRANSITION"


def test_what_a_version_promised_needs_nobody_else_from_when_it_promised_it(shop: Shop) -> None:
    first, other = shop.offering(shop.price(500)), shop.offering(shop.price(500))
    second = a_version(shop, first, "MIGRATE", 600, effective_date=shop.at(DAY))
    keeps = a_version(shop, first, "KEEP", 700)

    def waits(old: list[str], new: str, **more: Any) -> bool:
        asked = {"from_offering": old, "to_offering": new, "start_at": shop.at(2 * DAY), **more}
        return bool(shop.manager(MIGRATION + "MigrateProducts", **asked).awaits_approval)

    assert not waits([first], second.id)
    assert waits([first], second.id, start_at=shop.at(timedelta(hours=1)))
    assert waits([first], second.id, charge_one_time=True)
    assert waits([first, other], second.id)
    assert waits([first], keeps.id)


# --- what is charged, and what stays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("charged", [False, True])
def test_one_time_prices_are_charged_only_if_it_says_so(shop: Shop, charged: bool) -> None:
    old = shop.offering(shop.price(500), shop.price(300, recurring=False))
    new = shop.offering(shop.price(600), shop.price(1000, recurring=False))
    account, _ = subscribed(shop, old)
    before = len(shop.charges(account))
    migration = migrate(shop, old, new, charge_one_time=charged)
    assert seen(shop, migration).charge_one_time is charged
    work(shop)
    told = shop.told(account)[before:]
    assert [charge for charge in told if charge[0] == "ChargeCreate"] == [("ChargeCreate", "1000")] * charged
    assert ("RecurringChargeChange", "600") in told
    (order,) = orders_of(shop, migration)
    kinds = {price.price_type for price in order.order_total_price}
    assert kinds == ({"recurring", "oneTime"} if charged else {"recurring"})


def conditional(shop: Shop, som: int, *conditions: dict[str, Any], terms: tuple[str, ...] = ()) -> Any:
    made = shop.world.manager.create(
        catalog_pb2.ProductOfferingPrice(
            name="option",
            lifecycle_status=ACTIVE,
            price_type="recurring",
            price=values_pb2.Money(unit="KGS", units=som),
            recurring_charge_period_type="month",
            condition=[catalog_pb2.PriceCondition(**one) for one in conditions],
            product_offering_term=[catalog_pb2.ProductOfferingTerm(name=name) for name in terms],
        )
    )
    return catalog_pb2.ProductOfferingPriceRefOrValue(id=made.id, name="option")


def test_what_was_chosen_stays_chosen(shop: Shop) -> None:
    def tariff(fee: int, speedy: int, bound: int) -> str:
        fast = {"subject": "characteristic.speed", "operator": catalog_pb2.CONDITION_OPERATOR_EQ, "value": b'"fast"'}
        made = shop.world.manager.create(
            catalog_pb2.ProductOffering(
                name="tariff",
                lifecycle_status=LAUNCHED,
                product_offering_term=[catalog_pb2.ProductOfferingTerm(name="a year")],
                product_offering_price=[
                    shop.price(fee),
                    conditional(shop, speedy, fast),
                    conditional(shop, bound, terms=("a year",)),
                ],
            )
        )
        return str(made.id)

    old, new, plain = tariff(500, 50, 5), tariff(600, 60, 6), shop.offering(shop.price(800))
    customer, account = shop.customer()
    wanted = item("1", "ADD", old)
    wanted["product"] = {
        "product_characteristic": [{"name": "speed", "value": b'"fast"'}],
        "product_term": [{"name": "a year"}],
    }
    product = shop.products(shop.completed(customer, account, wanted).id)[old].id
    assert sorted(amount for _, amount in shop.told(account)) == ["5", "50", "500"]
    migrate(shop, old, new)
    work(shop)
    assert offering_of(shop, product) == new
    changed = sorted(amount for kind, amount in shop.told(account) if kind == "RecurringChargeChange")
    assert changed == ["6", "60", "600"]
    # An offering that doesn't know the term is had without it.
    migrate(shop, new, plain)
    work(shop)
    assert (offering_of(shop, product), shop.told(account)[-1]) == (plain, ("RecurringChargeChange", "800"))


def test_what_is_over_does_not_begin_again(shop: Shop) -> None:
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600, discount=("50", 3)))
    customer, account = shop.customer()
    shop.product(
        status="PRODUCT_STATUS_ACTIVE",
        start_date=shop.at(-200 * DAY),
        product_offering={"id": old},
        billing_account={"id": account},
        related_party=[{"id": customer, "role": "customer"}],
    )
    newcomer, _ = subscribed(shop, old)
    migrate(shop, old, new)
    work(shop)
    assert shop.told(account) == [("RecurringChargeChange", "600")]
    assert shop.told(newcomer)[-1] == ("RecurringChargeChange", "300")


def a_bundle(shop: Shop, som: int, *parts: str) -> str:
    """Made of the first part, and of as many of the others as one likes."""
    limits = catalog_pb2.BundledProductOfferingOption(
        number_rel_offer_default=0, number_rel_offer_lower_limit=0, number_rel_offer_upper_limit=9
    )
    made = shop.world.manager.create(
        catalog_pb2.ProductOffering(
            name="all in one",
            lifecycle_status=LAUNCHED,
            is_bundle=True,
            product_offering_price=[shop.price(som)],
            bundled_product_offering=[
                catalog_pb2.BundledProductOffering(id=part, bundled_product_offering_option=limits if k else None)
                for k, part in enumerate(parts)
            ],
        )
    )
    return str(made.id)


def test_an_optional_part_that_somebody_has_is_kept_in_its_new_version(shop: Shop) -> None:
    net, box = shop.offering(shop.price(10)), shop.offering(shop.price(20))
    new_box = a_version(shop, box, "KEEP", 25).id
    old, new = a_bundle(shop, 500, net, box), a_bundle(shop, 600, net, new_box)
    customer, account = shop.customer()
    parts = [item("1.1", "ADD", net), item("1.2", "ADD", box)]
    with_box = shop.completed(customer, account, item("1", "ADD", old, product_order_item=parts))
    there = shop.products(with_box.id)
    held = {there[key].id for key in there}
    other, her_account = shop.customer()
    shop.completed(other, her_account, item("1", "ADD", old))
    migration = migrate(shop, old, new)
    work(shop)
    assert state(shop, migration) == "COMPLETED"
    assert seen(shop, migration).progress.failed == 0
    running = {
        product.id: product.product_offering.id
        for product in shop.agent(PRODUCT + "ListProducts", limit=1000).items
        if product.billing_account.id == account and product.status == inventory_pb2.PRODUCT_STATUS_ACTIVE
    }
    assert running.keys() == held
    assert sorted(running.values()) == sorted([new, net, new_box])
    theirs = [amount for kind, amount in shop.told(her_account) if kind == "RecurringChargeChange"]
    assert sorted(theirs) == ["10", "600"]


def test_so_many_orders_are_under_way_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "UNDER_WAY", 2)
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    for _ in range(5):
        subscribed(shop, old)
    migration = migrate(shop, old, new)
    for _ in range(2):
        with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
            shop.migrating.step(migration, unit)
    found = seen(shop, migration).progress
    assert (found.ordered, found.waiting) == (2, 3)
    for _ in range(4):
        work(shop)
    assert seen(shop, migration).progress.completed == 5


# --- by the promise of a version -------------------------------------------------------------------------------------


def launched(version: catalog_pb2.ProductOffering, kind: str = "StateChange") -> ReceivedEvent:
    return ReceivedEvent(
        id=f"event of {version.id}",
        source="/svyaz/catalog",
        type=f"ProductOffering{kind}Event",
        time=datetime.now(UTC),
        aggregate_type="ProductOffering",
        aggregate_id=version.id,
        version=1,
        branch="*",
        key=version.id,
        actor="manager",
        on_behalf_of=None,
        schema_revision=1,
        data_type=version.DESCRIPTOR.full_name,
        data=version.SerializeToString(),
        subject="svyaz.catalog.v1.00.ProductOffering",
        headers={},
    )


def a_version(shop: Shop, first: str, policy: str, som: int, **more: Any) -> catalog_pb2.ProductOffering:
    made = shop.world.manager.create(
        catalog_pb2.ProductOffering(
            name="tariff",
            version="2",
            series=first,
            lifecycle_status=LAUNCHED,
            valid_for=values_pb2.TimePeriod(start_date_time=shop.at(timedelta(0))),
            existing_subscribers=catalog_pb2.ExistingSubscribers(
                policy=f"EXISTING_SUBSCRIBERS_POLICY_{policy}",  # type: ignore[arg-type]
                **more,
            ),
            product_offering_price=[shop.price(som)],
        )
    )
    assert isinstance(made, catalog_pb2.ProductOffering)
    return made


def automatic(shop: Shop) -> list[Any]:
    found = shop.head_office(MIGRATION + "ListProductMigrations").items
    return [migration for migration in found if migration.series]


def tell(shop: Shop, event: ReceivedEvent) -> None:
    with acting("orders", "test"), shop.database.unit() as unit:
        shop.migrating.catalog_changed(event, unit)


def test_a_version_that_promises_it_moves_the_subscribers_of_the_older_ones_when_it_says(shop: Shop) -> None:
    first = shop.offering(shop.price(500))
    _, product = subscribed(shop, first)
    later = shop.at(DAY)
    second = a_version(shop, first, "MIGRATE", 600, effective_date=later)
    tell(shop, launched(second))
    (migration,) = automatic(shop)
    assert (migration.to_offering, migration.branch, migration.start_at) == (second.id, "*", later)
    shop.work()
    assert offering_of(shop, product) == first
    shop.later(DAY)
    work(shop)
    assert offering_of(shop, product) == second.id
    assert list(seen(shop, migration.id, shop.head_office).from_offering) == [first]


def test_other_versions_leave_the_subscribers_with_what_they_bought(shop: Shop) -> None:
    first = shop.offering(shop.price(500))
    tell(shop, launched(a_version(shop, first, "KEEP", 600)))
    changed = a_version(shop, first, "MIGRATE", 700)
    tell(shop, launched(changed, "AttributeValueChange"))
    tell(shop, launched(changed, "Create"))
    changed.lifecycle_status = catalog_pb2.LIFECYCLE_STATUS_RETIRED
    tell(shop, launched(changed))
    assert automatic(shop) == [], "neither what was only changed, nor what was taken over as Launched, nor what is gone"


def test_the_table_holds_a_product_of_a_migration_once(shop: Shop) -> None:
    with acting("orders", "test"), shop.database.unit() as unit:
        keys = unit.session.scalars(
            sa.text(
                "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
                "AND a.attnum = ANY (i.indkey) WHERE i.indrelid = 'migrated_product'::regclass AND i.indisprimary"
            )
        ).all()
    assert set(keys) == {"migration_id", "product_id"}
    assert ProductMigration.STATE == "state"


def test_migrations_are_found_by_the_offerings_that_they_are_from(shop: Shop) -> None:
    old, other, new = (shop.offering(shop.price(som)) for som in (500, 550, 600))
    ours, theirs = migrate(shop, old, new), migrate(shop, other, new)

    def found(operator: str, *values: str) -> set[str]:
        condition = requests_pb2.Filter(
            path="from_offering",
            operator=f"OPERATOR_{operator}",  # type: ignore[arg-type]
            value=values,
        )
        listed = shop.head_office(MIGRATION + "ListProductMigrations", filter=[condition]).items
        return {one.id for one in listed} & {ours, theirs}

    assert found("EQ", old) == {ours}
    assert found("EQ", old, other) == {ours, theirs}
    assert found("NE", old) == {theirs}
    assert found("REGEX", f"^{old}$") == {ours}
    assert found("EQ", new) == set()


# --- pace, failures, cancellation ------------------------------------------------------------------------------------


def failing_half(shop: Shop, old: str, count: int) -> None:
    """Subscribers of whom every second has an account that the new offering can't be paid from."""
    for number in range(count):
        customer, account = shop.customer()
        shop.product(
            status="PRODUCT_STATUS_ACTIVE",
            product_offering={"id": old},
            billing_account={"id": shop.account(customer, "USD") if number % 2 else account},
            related_party=[{"id": customer, "role": "customer"}],
        )


def test_a_migration_in_which_too_much_fails_pauses_and_may_be_resumed_or_retried(shop: Shop) -> None:
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    failing_half(shop, old, 8)
    with pytest.raises(InvalidArgument):
        migrate(shop, old, new, most_failures=0)
    migration = migrate(shop, old, new, most_failures=3)
    shop.work()
    assert state(shop, migration) == "PAUSED"
    paused = seen(shop, migration)
    assert "4 products failed" in paused.status_reason
    assert (paused.progress.failed, paused.progress.ordered, paused.progress.looked_through) == (4, 4, True)
    shop.manager(MIGRATION + "ResumeProductMigration", id=migration)
    work(shop)
    # What is known by now doesn't pause it again.
    assert (state(shop, migration), seen(shop, migration).progress.failed) == ("COMPLETED", 4)
    shop.manager(MIGRATION + "RetryProductMigration", id=migration)
    assert seen(shop, migration).progress.waiting == 4
    work(shop)
    assert (state(shop, migration), seen(shop, migration).progress.failed) == ("PAUSED", 4)
    shop.manager(MIGRATION + "RetryProductMigration", id=migration)
    work(shop)
    done = seen(shop, migration).progress
    assert (state(shop, migration), done.total, done.completed, done.failed) == ("PAUSED", 8, 4, 4)


def test_a_cancelled_migration_takes_no_order_more_and_waits_for_those_that_it_has_taken(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "ORDERS_AT_ONCE", 2)
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    held = [subscribed(shop, old)[1] for _ in range(5)]
    shop.provisioning.delay = timedelta(hours=1)
    migration = migrate(shop, old, new)
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        shop.migrating.step(migration, unit)
    shop.manager(MIGRATION + "CancelProductMigration", id=migration)
    shop.later(timedelta(seconds=2))
    under_way = seen(shop, migration)
    assert (under_way.progress.ordered, under_way.progress.skipped) == (2, 3)
    assert not under_way.HasField("completed_at")
    shop.later(timedelta(hours=2))
    shop.later(timedelta(seconds=2))
    over = seen(shop, migration)
    assert (state(shop, migration), over.HasField("completed_at")) == ("CANCELLED", True)
    assert (over.progress.completed, over.progress.skipped) == (2, 3)
    assert {row.reason for row in rows(shop, migration, state=["MIGRATED_PRODUCT_STATE_SKIPPED"])} == {
        "the migration was cancelled"
    }
    assert [offering_of(shop, product) for product in held].count(new) == 2
    for verb in ("Resume", "Retry", "Cancel", "Pause"):
        with pytest.raises(FailedPrecondition) as refused:
            shop.manager(MIGRATION + f"{verb}ProductMigration", id=migration)
        assert refused.value.reason == "BAD_TRANSITION"


def test_a_migration_says_how_fast_it_goes_and_when_it_will_be_over(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "ORDERS_AT_ONCE", 3)
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    for _ in range(9):
        subscribed(shop, old)
    migration = migrate(shop, old, new)

    def step() -> None:
        with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
            shop.migrating.step(migration, unit)

    begun = time.monotonic()
    step()
    assert not seen(shop, migration).progress.HasField("per_second")
    shop.offset.write_text("30")
    for order in orders_of(shop, migration):
        for purpose in ("advance", "provision"):
            with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
                shop.fulfilment.timers()[purpose](order.id, unit)
    step()
    asked = shop.database.clock.now()
    found = seen(shop, migration).progress
    assert found.completed == 3
    # Three in half a minute, and in what this has taken.
    taken = 30 + time.monotonic() - begun
    assert 3 / taken - 0.001 <= float(found.per_second) <= 3 / 30
    left = (found.expected_completion.ToDatetime(UTC) - asked).total_seconds()
    assert left == pytest.approx(6 / float(found.per_second), abs=1 + taken - 30)
    assert (found.total, found.waiting, found.ordered) == (9, 3, 3)


def test_what_is_counted_is_what_there_is(shop: Shop) -> None:
    old, new = shop.offering(shop.price(500)), shop.offering(shop.price(600))
    failing_half(shop, old, 4)
    migration = migrate(shop, old, new)
    work(shop)
    with acting("orders", "test"), shop.database.unit() as unit:
        moved = metadata.tables["migrated_product"]
        there = unit.session.execute(
            sa.select(moved.c.state, sa.func.count()).where(moved.c.migration_id == migration).group_by(moved.c.state)
        )
        counted = {str(name): number for name, number in there}
    progress = seen(shop, migration).progress
    assert counted == {"completed": progress.completed, "failed": progress.failed}
    assert sum(counted.values()) == progress.total == 4
