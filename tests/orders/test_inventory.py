"""Products from the moment they are ordered to their end."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.products import ProductPrice, ProductStatus, RelatedProductOrderItem
from chassis.types import EntityRef, Money, Price
from orders.inventory.domain import DELETABLE, TRANSITIONS, Product
from tests.orders.conftest import PRODUCT, Shop, item

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_product(status: ProductStatus | None = None) -> Product:
    product = Product(id="p", branch="bishkek", status=status)
    product.check(NOW)
    return product


def test_a_product_begins_as_created() -> None:
    assert a_product().status is ProductStatus.CREATED


def test_a_product_that_begins_as_active_has_begun() -> None:
    assert a_product(ProductStatus.ACTIVE).start_date == NOW


@pytest.mark.parametrize("status", list(ProductStatus))
@pytest.mark.parametrize("wanted", list(ProductStatus))
def test_a_product_goes_only_where_the_table_says(status: ProductStatus, wanted: ProductStatus) -> None:
    product = a_product(status)
    if wanted is status or wanted in TRANSITIONS[status]:
        product.revise({"status": wanted}, NOW)
        assert product.status is wanted
        return
    with pytest.raises(FailedPrecondition) as refused:
        product.revise({"status": wanted}, NOW)
    assert refused.value.reason == "BAD_TRANSITION"


def test_the_end_of_a_product_is_dated() -> None:
    product = a_product(ProductStatus.ACTIVE)
    product.move(ProductStatus.PENDING_TERMINATE, NOW)
    product.move(ProductStatus.TERMINATED, NOW)
    assert product.termination_date == NOW


@pytest.mark.parametrize("status", list(ProductStatus))
def test_what_has_worked_is_never_deleted(status: ProductStatus) -> None:
    product = a_product(status)
    if status in DELETABLE:
        product.require_deletable()
    else:
        with pytest.raises(FailedPrecondition):
            product.require_deletable()


def test_what_billing_has_been_told_of_a_product_changes_by_an_order_only() -> None:
    product = a_product(ProductStatus.ACTIVE)
    fee = Price(duty_free_amount=Money(unit="KGS", value=Decimal(300)))
    product.product_price = (ProductPrice(price_type="recurring", price=fee),)
    product.revise({"billing_account": EntityRef(id="a")}, NOW)
    product.product_order_item = (RelatedProductOrderItem(product_order_id="o", order_item_id="1"),)
    changes = (
        {"billing_account": EntityRef(id="b")},
        {"product_price": ()},
        {"status": ProductStatus.TERMINATED},
        {"product_order_item": ()},
        {"product_order_item": (RelatedProductOrderItem(product_order_id="another"),)},
        {"start_date": NOW + timedelta(days=300)},
    )
    for change in changes:
        with pytest.raises(FailedPrecondition) as refused:
            product.revise(change, NOW)
        assert refused.value.reason == "CHARGED"
    same = {"billing_account": EntityRef(id="a"), "start_date": NOW, "product_order_item": product.product_order_item}
    product.revise({**same, "name": "mine", "status": ProductStatus.ACTIVE}, NOW)
    assert product.name == "mine"
    # The network has to be told.
    with pytest.raises(FailedPrecondition) as refused:
        product.revise({"status": ProductStatus.SUSPENDED}, NOW)
    assert refused.value.reason == "BY_ORDER"


S = ProductStatus


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        # Nobody would be told to charge it, nor what rested, nor the network to do it.
        (S.PENDING_ACTIVE, S.ACTIVE),
        (S.PENDING_ACTIVE, S.CANCELLED),
        (S.ACTIVE, S.PENDING_TERMINATE),
        (S.SUSPENDED, S.PENDING_TERMINATE),
        (S.PENDING_TERMINATE, S.ACTIVE),
        (S.PENDING_TERMINATE, S.TERMINATED),
    ],
)
def test_nothing_but_an_order_moves_what_an_order_has_made(status: ProductStatus, wanted: ProductStatus) -> None:
    product = a_product(status)
    product.product_order_item = (RelatedProductOrderItem(product_order_id="o", order_item_id="1"),)
    with pytest.raises(FailedPrecondition) as refused:
        product.revise({"status": wanted}, NOW)
    assert refused.value.reason == "BY_ORDER"
    assert product.status is status


@pytest.mark.parametrize("status", [S.PENDING_ACTIVE, S.ACTIVE])
def test_nobody_writes_a_price_that_was_never_charged_to_what_an_order_has_made(status: ProductStatus) -> None:
    product = a_product(status)
    product.product_order_item = (RelatedProductOrderItem(product_order_id="o", order_item_id="1"),)
    fee = Price(duty_free_amount=Money(unit="KGS", value=Decimal(300)))
    with pytest.raises(FailedPrecondition) as refused:
        product.revise({"product_price": (ProductPrice(price_type="recurring", price=fee),)}, NOW)
    assert refused.value.reason == "CHARGED"
    product.revise({"billing_account": EntityRef(id="b")}, NOW)


def test_what_is_being_ordered_begins_when_the_order_says_so() -> None:
    """Not at a time from which on a discount would be counted anew."""
    product = a_product(ProductStatus.PENDING_ACTIVE)
    product.revise({"start_date": NOW}, NOW)
    product.product_order_item = (RelatedProductOrderItem(product_order_id="o", order_item_id="1"),)
    with pytest.raises(FailedPrecondition) as refused:
        product.revise({"start_date": NOW + timedelta(days=300)}, NOW)
    assert refused.value.reason == "CHARGED"
    product.revise({"billing_account": EntityRef(id="b")}, NOW)


def test_no_product_is_said_to_be_of_an_order_that_it_is_not_of(shop: Shop) -> None:
    customer, account = shop.customer()
    order = shop.order(customer, account, item("1", "ADD", shop.offering(shop.price(500))))
    elsewhere = {"product_order_id": "4711 of the system before", "order_item_id": "1"}
    product = shop.product(status="PRODUCT_STATUS_CREATED", product_order_item=[elsewhere])
    named = [elsewhere, {"product_order_id": order.id, "order_item_id": "1"}]
    with pytest.raises(InvalidArgument) as refused:
        shop.product(status="PRODUCT_STATUS_CREATED", product_order_item=named)
    assert [violation.field for violation in refused.value.violations] == ["product_order_item[1].product_order_id"]
    mask = {"paths": ["product_order_item"]}
    with pytest.raises(InvalidArgument) as refused:
        shop.agent(PRODUCT + "UpdateProduct", product={"id": product, "product_order_item": named}, update_mask=mask)
    assert refused.value.reason == "NOT_OF_THE_ORDER"
    # What an order has made can be said again.
    shop.work()
    (made,) = shop.products(order.id).values()
    shop.agent(
        PRODUCT + "UpdateProduct",
        product={"id": made.id, "name": "renamed", "product_order_item": made.product_order_item},
        update_mask={"paths": ["name", "product_order_item"]},
    )


def test_when_it_was_ordered_can_not_be_changed() -> None:
    with pytest.raises(InvalidArgument) as refused:
        a_product().revise({"order_date": NOW}, NOW)
    assert [violation.field for violation in refused.value.violations] == ["order_date"]
