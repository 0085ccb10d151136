"""What has become of products: their trees, their histories, their prices as sold, and that orders account for them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from chassis.events import acting
from orders.inventory.domain import Product
from orders.lifecycle import reconciliation, store
from orders.ordering.values import ProductOrderItemState
from svyaz.catalog.v1 import catalog_pb2, pricing_pb2
from svyaz.orders.v1 import inventory_pb2, lifecycle_pb2
from svyaz.type.v1 import values_pb2
from tests.orders.conftest import LIFECYCLE, PRODUCT, Shop, item
from tests.orders.test_migration import migrate, work
from tests.orders.test_suspension import a_bundle, a_line, resume, suspend, to_status

DAY = timedelta(days=1)


def ended(shop: Shop, product: str) -> None:
    shop.agent(LIFECYCLE + "TerminateProduct", id=product)
    shop.work()


def patched(shop: Shop, key: str, /, **body: Any) -> Any:
    return shop.agent(PRODUCT + "UpdateProduct", product={"id": key, **body}, update_mask={"paths": list(body)})


# --- trees -----------------------------------------------------------------------------------------------------------


def test_a_bundle_is_read_with_its_parts_as_they_are_and_as_they_were(shop: Shop) -> None:
    _, _, made = a_bundle(shop)
    before = shop.at(timedelta(0))
    shop.later(DAY)
    ended(shop, made["option"])

    def seen(**more: Any) -> dict[str, int]:
        tree = shop.agent(LIFECYCLE + "GetProductTree", id=made["bundle"], **more)
        assert tree.product.id == made["bundle"]
        return {part.product.id: part.product.status for part in tree.part}

    assert seen() == {
        made["line"]: inventory_pb2.PRODUCT_STATUS_ACTIVE,
        made["option"]: inventory_pb2.PRODUCT_STATUS_TERMINATED,
    }
    assert set(seen(at=before).values()) == {inventory_pb2.PRODUCT_STATUS_ACTIVE}
    with pytest.raises(NotFound):
        shop.agent(LIFECYCLE + "GetProductTree", id="nothing")
    with pytest.raises(NotFound):
        seen(at=shop.at(-400 * DAY))


def test_a_tree_without_end_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, made = a_bundle(shop)
    monkeypatch.setattr(store, "MOST_IN_A_TREE", 2)
    with pytest.raises(FailedPrecondition) as refused:
        shop.agent(LIFECYCLE + "GetProductTree", id=made["bundle"])
    assert refused.value.reason == "TREE_TOO_LARGE"


def test_no_product_is_inside_itself_or_in_two_bundles(shop: Shop) -> None:
    inner = shop.product(status="PRODUCT_STATUS_ACTIVE")
    middle = shop.product(status="PRODUCT_STATUS_ACTIVE", product=[{"id": inner}])
    outer = shop.product(status="PRODUCT_STATUS_ACTIVE", product=[{"id": middle}, {"id": "of another system"}])
    for product in (inner, middle, outer):
        with pytest.raises(InvalidArgument) as refused:
            patched(shop, inner, product=[{"id": product}])
        assert refused.value.reason == "HIERARCHY_CYCLE"
    patched(shop, inner, product_relationship=[{"relationship_type": "bundledIn", "product": {"id": middle}}])
    with pytest.raises(InvalidArgument) as refused:
        patched(shop, outer, product=[{"id": middle}, {"id": inner}])
    assert (refused.value.reason, middle in refused.value.message) == ("OTHER_BUNDLE", True)
    # Out of the one, then into the other.
    patched(shop, inner, product_relationship=[])
    patched(shop, middle, product=[])
    patched(shop, outer, product=[{"id": middle}, {"id": inner}])


def test_what_an_order_has_put_together_is_not_taken_apart_by_hand(shop: Shop) -> None:
    _, _, made = a_bundle(shop)
    other = shop.product(status="PRODUCT_STATUS_ACTIVE")
    moves: tuple[tuple[str, dict[str, Any]], ...] = (
        (made["bundle"], {"product": [{"id": made["line"]}]}),
        (made["line"], {"product_relationship": []}),
        (made["line"], {"product_relationship": [{"relationship_type": "bundledIn", "product": {"id": other}}]}),
    )
    for product, body in moves:
        with pytest.raises(FailedPrecondition) as refused:
            patched(shop, product, **body)
        assert refused.value.reason == "BY_ORDER"
    with pytest.raises(InvalidArgument) as moved:
        patched(shop, other, product=[{"id": made["line"]}])
    assert moved.value.reason == "OTHER_BUNDLE"


# --- characteristics -------------------------------------------------------------------------------------------------


def a_configured_offering(shop: Shop) -> str:
    value = catalog_pb2.CharacteristicValueSpecification
    speeds = catalog_pb2.ProductSpecificationCharacteristic(
        name="speed",
        configurable=True,
        value_type="number",
        min_cardinality=1,
        max_cardinality=1,
        product_spec_characteristic_value=[value(value=number) for number in (b"100", b"200")],
    )
    specification = shop.world.manager.create(
        catalog_pb2.ProductSpecification(
            name="fiber", lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_ACTIVE, product_spec_characteristic=[speeds]
        )
    )
    return str(
        shop.world.manager.create(
            catalog_pb2.ProductOffering(
                name="fiber",
                lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_LAUNCHED,
                product_offering_price=[shop.price(500)],
                product_specification=values_pb2.ProductSpecificationRef(id=specification.id),
            )
        ).id
    )


def with_speed(base: dict[str, Any], *stated: tuple[str, bytes]) -> dict[str, Any]:
    own = [{"name": name, "value": value} for name, value in stated]
    return {**base, "product": {**base.get("product", {}), "product_characteristic": own}}


def test_what_is_ordered_is_what_the_specification_allows(shop: Shop) -> None:
    customer, account = shop.customer()
    fiber = a_configured_offering(shop)
    add = item("1", "ADD", fiber)
    wrong = {
        "product_order_item[0].product.product_characteristic[0]": with_speed(add, ("speed", b"300")),
        "product_order_item[0].product.product_characteristic[1]": with_speed(add, ("speed", b"100"), ("sped", b"1")),
        "product_order_item[0].product.product_characteristic": with_speed(add, ("sped", b"100")),
    }
    for field, body in wrong.items():
        with pytest.raises(InvalidArgument) as refused:
            shop.order(customer, account, body)
        assert refused.value.reason == "CONFIGURATION"
        assert field in {one.field for one in refused.value.violations}
    order = shop.completed(customer, account, with_speed(add, ("speed", b"100")))
    product = shop.products(order.id)[fiber].id
    change = {"id": "1", "action": "ORDER_ITEM_ACTION_MODIFY", "product": {"id": product}}
    with pytest.raises(InvalidArgument):
        shop.order(customer, account, with_speed(change, ("speed", b"300")))
    shop.completed(customer, account, with_speed(change, ("speed", b"200")))
    # By hand only what nothing goes by.
    speed = values_pb2.Characteristic(name="speed", value=b"200")
    patched(shop, product, product_characteristic=[speed, {"name": "colour of the cable", "value": b'"red"'}])
    with pytest.raises(FailedPrecondition) as by_hand:
        patched(shop, product, product_characteristic=[{"name": "speed", "value": b"100"}])
    assert (by_hand.value.reason, "speed" in by_hand.value.message) == ("BY_ORDER", True)


def test_of_what_is_not_specified_anything_may_be_said(shop: Shop) -> None:
    customer, account = shop.customer()
    plain = shop.offering(shop.price(500))
    order = shop.completed(customer, account, with_speed(item("1", "ADD", plain), ("anything", b"1")))
    product = shop.products(order.id)[plain]
    assert [one.name for one in product.product_characteristic] == ["anything"]
    patched(shop, product.id, product_characteristic=[{"name": "anything", "value": b"2"}])


# --- history ---------------------------------------------------------------------------------------------------------


def changes(shop: Shop, product: str, **more: Any) -> list[Any]:
    return list(shop.agent(LIFECYCLE + "ListProductChanges", id=product, **more).items)


def cause(change: Any) -> str:
    return str(lifecycle_pb2.ProductChangeCause.Name(change.cause)).removeprefix("PRODUCT_CHANGE_CAUSE_")


def test_each_change_of_a_product_says_by_whom_and_by_which_order(shop: Shop) -> None:
    _, _, tariff, product = a_line(shop)
    ordered = shop.agent(PRODUCT + "GetProduct", id=product).product_order_item[0].product_order_id
    asked = suspend(shop, product, "DEBT").product_order_id
    shop.work()
    resume(shop, product, "DEBT")
    shop.work()
    new = shop.offering(shop.price(600))
    migrate(shop, tariff, new)
    work(shop)
    patched(shop, product, name="mine")
    found = changes(shop, product)
    assert [one.version for one in found] == list(range(1, len(found) + 1))
    assert (cause(found[0]), found[0].product_order_id, found[0].type) == ("ORDER", ordered, "ProductCreateEvent")
    assert (cause(found[1]), found[1].product_order_id) == ("ORDER", ordered)
    wished = found[2]
    assert (cause(wished), wished.product_order_id) == ("LIFECYCLE", asked)
    assert wished.actor == found[-1].actor != found[1].actor
    assert set(wished.attribute) == {"suspension", "status_order_id"}
    suspended = next(one for one in found if one.status == inventory_pb2.PRODUCT_STATUS_SUSPENDED)
    assert (cause(suspended), suspended.product_order_id) == ("LIFECYCLE", asked)
    moved = next(one for one in found if "product_offering" in one.attribute and one.version > 1)
    assert cause(moved) == "MIGRATION"
    assert (cause(found[-1]), list(found[-1].attribute), found[-1].product_order_id) == ("MANUAL", ["name"], "")
    # Page by page, the same.
    pages = [*changes(shop, product, limit=3), *changes(shop, product, after=3)]
    assert pages == found
    assert changes(shop, product, after=len(found)) == []
    with pytest.raises(NotFound):
        changes(shop, "nothing")
    with pytest.raises(InvalidArgument):
        changes(shop, product, limit=1001)


# --- prices as sold --------------------------------------------------------------------------------------------------


def prices(shop: Shop, product: str, **more: Any) -> list[Any]:
    return list(shop.agent(LIFECYCLE + "ListProductPrices", id=product, **more).items)


def test_what_a_product_was_sold_for_stays_explained_whatever_the_catalog_says_later(shop: Shop) -> None:
    _, _, tariff, product = a_line(shop)
    sold_at = shop.at(timedelta(0))
    (sold,) = prices(shop, product)
    assert (sold.receipt_unchanged, sold.charged) == (True, True)
    shop.later(DAY)
    (still,) = prices(shop, product)
    assert still == sold
    again = shop.world.manager.call("ReplayPrice", pricing_pb2.ReplayPriceRequest(receipt=still.receipt))
    (component,) = again.item[0].component
    assert component.amount == still.price.price.duty_free_amount
    assert again.item[0].product_offering.id == tariff
    new = shop.offering(shop.price(600))
    migrate(shop, tariff, new)
    work(shop)
    (moved,) = prices(shop, product)
    assert moved.price.receipt.product_order_id != sold.price.receipt.product_order_id
    assert moved.price.price.duty_free_amount.units == 600
    (then,) = prices(shop, product, at=sold_at)
    assert then.price.price.duty_free_amount.units == 500
    assert (then.receipt, then.receipt_unchanged) == (sold.receipt, True)


def test_a_price_that_rests_says_so(shop: Shop) -> None:
    _, _, _, product = a_line(shop)
    suspend(shop, product, "VOLUNTARY")
    shop.work()
    assert [one.charged for one in prices(shop, product)] == [False]


# --- what orders account for -----------------------------------------------------------------------------------------


def reconciled(shop: Shop, limit: int) -> list[Any]:
    found, after = [], ""
    while True:
        page = shop.admin(LIFECYCLE + "ReconcileProducts", after=after, limit=limit)
        found += page.items
        after = page.next
        if not after:
            return found


def test_the_inventory_is_the_sum_of_the_completed_orders(shop: Shop) -> None:
    customer, account, made = a_bundle(shop)
    _, _, tariff, product = a_line(shop)
    suspend(shop, made["option"], "FRAUD")
    shop.work()
    shop.completed(customer, account, to_status(made["bundle"], "SUSPENDED"))
    migrate(shop, tariff, shop.offering(shop.price(600)))
    work(shop)
    ended(shop, product)
    shop.provisioning.failing = frozenset({tariff})
    shop.order(customer, account, item("1", "ADD", tariff))
    shop.work()
    shop.order(customer, account, item("1", "ADD", shop.offering()), requested_start_date=shop.at(DAY))
    shop.product(status="PRODUCT_STATUS_ACTIVE")
    assert reconciled(shop, 2) == []
    # Somebody writes past the service.
    with psycopg.connect(shop.admin_url) as connection:
        connection.execute("UPDATE product SET status = 'active', product_price = NULL WHERE id = %s", (product,))
        connection.execute("DELETE FROM product WHERE id = %s", (made["line"],))
    wrong = reconciled(shop, 1)
    assert {(one.product_id, one.attribute) for one in wrong} == {
        (product, "status"), (product, "product_price"), (made["line"], "product_order_item"),
    }  # fmt: skip


def test_each_attribute_that_differs_from_what_was_ordered_is_named(shop: Shop) -> None:
    _, _, tariff, key = a_line(shop)
    with acting("orders", "test"), shop.database.unit() as unit:
        product = unit.get(Product, key)
        (added,) = store.items_of_products(unit, [product])[key]
        unit.session.expunge_all()
    assert list(reconciliation.differences(product, [added])) == []
    assert list(reconciliation.differences(product, [])) == []
    product.product_offering = replace(product.product_offering, id="another") if product.product_offering else None
    (offering,) = reconciliation.differences(product, [added])
    assert (offering.attribute, offering.expected, offering.found) == ("product_offering", tariff, "another")
    added.state = ProductOrderItemState.FAILED
    (status,) = reconciliation.differences(product, [added])
    assert (status.expected, status.found) == ("aborted ", "active")


# --- lists -----------------------------------------------------------------------------------------------------------


def test_products_and_orders_are_found_by_whose_they_are_in_whatever_role(shop: Shop) -> None:
    customer, _ = shop.customer()
    mine = shop.product(
        status="PRODUCT_STATUS_ACTIVE",
        product_offering={"id": "tariff"},
        related_party=[{"id": customer, "role": "customer"}, {"id": "friend", "role": "user"}],
    )
    shop.product(status="PRODUCT_STATUS_CREATED", related_party=[{"id": "another", "role": "customer"}])

    def listed(**filters: list[str]) -> list[str]:
        asked = [{"path": path.replace("__", "."), "value": value} for path, value in filters.items()]
        return [one.id for one in shop.agent(PRODUCT + "ListProducts", filter=asked).items]

    assert listed(related_party__id=["friend"]) == [mine]
    assert listed(related_party__id=["friend", customer]) == [mine]
    assert listed(related_party__id=["friend"], related_party__role=["user"]) == [mine]
    assert listed(related_party__id=["friend"], related_party__role=["customer"]) == []
    assert listed(product_offering__id=["tariff"], status=["active"]) == [mine]
    elsewhere = shop.osh(PRODUCT + "ListProducts", filter=[{"path": "related_party.id", "value": ["friend"]}])
    assert not elsewhere.items


def statements_of(shop: Shop, call: Callable[[], Any]) -> list[tuple[str, Any]]:
    """The queries that a call asks the database."""
    asked: list[tuple[str, Any]] = []

    def heard(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        asked.append((statement, parameters))

    sa.event.listen(shop.database.engine, "before_cursor_execute", heard)
    try:
        call()
    finally:
        sa.event.remove(shop.database.engine, "before_cursor_execute", heard)
    return asked


def test_lists_are_planned_by_indexes_under_the_policies(shop: Shop) -> None:
    indexes = {
        "related_party.id": "product_related_to",
        "product_offering.id": "product_product_offering_id",
        "status": "product_status",
    }
    with psycopg.connect(shop.admin_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO product (id, branch, revision, status, product_offering, related_party)"
            " SELECT n::text, 'bishkek', 1, CASE n % 500 WHEN 0 THEN 'suspended' ELSE 'active' END,"
            " jsonb_build_object('id', (n % 3000)::text),"
            " jsonb_build_array(jsonb_build_object('id', n::text, 'role', 'user'))"
            " FROM generate_series(1, 20000) AS n"
        )
        connection.execute("ANALYZE product")
    for path, index in indexes.items():
        filters = [{"path": path, "value": ["suspended" if path == "status" else "17"]}]

        def listed(filters: Any = filters) -> Any:
            found = shop.agent(PRODUCT + "ListProducts", filter=filters, limit=100).items
            assert found
            return found

        asked = [one for one in statements_of(shop, listed) if "FROM product" in one[0]]
        assert len(asked) == 2, path
        with psycopg.connect(shop.database.engine.url.render_as_string(False).replace("+psycopg", "")) as connection:
            connection.execute("SELECT set_config('svyaz.branches', 'bishkek', true)")
            for statement, parameters in asked:
                rows = connection.execute(f"EXPLAIN {statement}", parameters).fetchall()
                plan = "\n".join(row[0] for row in rows)
                assert index in plan, plan
                assert "Seq Scan on product" not in plan, plan
