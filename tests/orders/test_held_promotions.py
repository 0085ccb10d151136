"""What promotions have granted goes on when a product is changed: as it was granted, to nothing else, until it ends."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from chassis.convert import from_money
from chassis.errors import InvalidArgument
from chassis.types import new_id
from svyaz.catalog.v1 import catalog_pb2, pricing_pb2, promotion_pb2
from svyaz.type.v1 import values_pb2
from tests.orders.conftest import ORDER, Shop, item, state_of

P = promotion_pb2
DAY = timedelta(days=1)
Release = Callable[..., str]


@pytest.fixture
def release(shop: Shop) -> Iterator[Release]:
    """Releases promotions for the time of the test."""
    made: list[Any] = []

    def release(
        kind: str, value: str, *conditions: tuple[str, str, str], months: int | None = None, **more: Any
    ) -> str:
        action = P.PromotionAction(
            action_type=kind, action_value=value, price_type="recurring", recurring_charge_period="month"
        )
        if months is not None:
            action.application_duration.CopyFrom(values_pb2.Duration(amount=months, units="month"))
        criteria = [
            P.PromotionCriteria(criteria_parameter=what, criteria_operator=how, criteria_value=value)
            for what, how, value in conditions or [("quantity", ">=", "1")]
        ]
        pattern = P.PromotionPattern(action=[action], criteria_group=[P.PromotionCriteriaGroup(criteria=criteria)])
        promotion = P.Promotion(name="spring", lifecycle_status="release", currency="KGS", pattern=[pattern], **more)
        made.append(shop.world.manager.create(promotion))
        return str(made[-1].id)

    yield release
    for one in made:
        shop.world.manager.update(P.Promotion(id=one.id, lifecycle_status="retirement"), "lifecycle_status")


def a_coupon(shop: Shop, promotion: str, **more: Any) -> Any:
    return shop.world.manager.create(
        P.Coupon(code=f"C-{new_id()}", promotion=values_pb2.EntityRef(id=promotion), **more)
    )


def sold(shop: Shop, tariffs: list[str], **more: Any) -> tuple[str, str, dict[str, Any]]:
    """A customer, the account, and the products of one order of the tariffs."""
    customer, account = shop.customer()
    items = [item(str(i), "ADD", tariff) for i, tariff in enumerate(tariffs)]
    order = shop.order(customer, account, *items, **more)
    shop.work()
    assert state_of(shop.get(order.id)) == "COMPLETED"
    return customer, account, shop.products(order.id)


def monthly(shop: Shop, order: Any) -> list[str]:
    """What the items of an order cost by the month, after the receipt has said the same again."""
    receipt = shop.agent(ORDER + "GetProductOrderReceipt", id=order.id)
    again = shop.world.manager.call("ReplayPrice", pricing_pb2.ReplayPriceRequest(receipt=receipt))
    assert again.receipt == receipt
    amounts = [from_money(one.component[0].amount).value for one in again.item]
    charged = [from_money(row.item_price[0].price.duty_free_amount).value for row in order.product_order_item]
    assert amounts == charged
    return [f"{amount:.2f}" for amount in charged]


def offs(order: Any) -> list[str]:
    return [
        f"{from_money(one.price.duty_free_amount).value:.2f}"
        for row in order.product_order_item
        for one in row.item_price[0].price_alteration
    ]


def test_each_product_keeps_its_share_of_an_amount_off_the_order(shop: Shop, release: Release) -> None:
    six, four = shop.offering(shop.price(600)), shop.offering(shop.price(400))
    made = a_coupon(shop, release("orderAmount", "100", coupon_required=True), usage_limit=1)
    customer, account, products = sold(shop, [six, four], coupon=[made.code])
    for _ in range(2):
        one = shop.completed(customer, account, item("1", "MODIFY", six, products[six].id))
        other = shop.completed(customer, account, item("1", "MODIFY", four, products[four].id))
        assert (monthly(shop, one), monthly(shop, other)) == (["540.00"], ["360.00"])
        assert (offs(one), offs(other)) == (["-60.00"], ["-40.00"])
    # A dearer tariff has the same amount off, and one that costs less than that nothing to pay.
    large, tiny = shop.offering(shop.price(1000)), shop.offering(shop.price(30))
    assert monthly(shop, shop.completed(customer, account, item("1", "MODIFY", large, products[six].id))) == ["940.00"]
    assert monthly(shop, shop.completed(customer, account, item("1", "MODIFY", tiny, products[four].id))) == ["0.00"]


def test_what_was_sold_by_a_threshold_keeps_its_percentage_and_what_is_held_reaches_none(
    shop: Shop, release: Release
) -> None:
    six, four = shop.offering(shop.price(600)), shop.offering(shop.price(400))
    release("orderPercentage", "10", ("total", ">=", "1000"))
    customer, account, products = sold(shop, [six, four])
    order = shop.completed(customer, account, item("1", "MODIFY", six, products[six].id))
    assert (monthly(shop, order), offs(order)) == (["540.00"], ["-60.00"])
    large = shop.offering(shop.price(900))
    order = shop.completed(customer, account, item("1", "MODIFY", large, products[six].id))
    assert (monthly(shop, order), offs(order)) == (["810.00"], ["-90.00"])
    # Together they would be enough, but only one is bought.
    order = shop.completed(customer, account, item("1", "MODIFY", large, products[six].id), item("2", "ADD", four))
    assert monthly(shop, order) == ["810.00", "400.00"]


def test_it_is_what_was_granted_by_the_order_that_counts_not_when_it_was_carried_out(
    shop: Shop, release: Release
) -> None:
    tariff = shop.offering(shop.price(500))
    over = values_pb2.TimePeriod(end_date_time=shop.at(5 * DAY))
    first = release("orderPercentage", "10", valid_for=over)
    customer, account = shop.customer()
    early = shop.order(customer, account, item("1", "ADD", tariff), requested_start_date=shop.at(7 * DAY))
    shop.world.manager.update(P.Promotion(id=first, lifecycle_status="retirement"), "lifecycle_status")
    late = shop.order(customer, account, item("1", "ADD", tariff), requested_start_date=shop.at(7 * DAY))
    release("orderPercentage", "20", valid_for=values_pb2.TimePeriod(start_date_time=shop.at(-DAY)))
    shop.later(10 * DAY)
    for order, amount in ((early, "450.00"), (late, "500.00")):
        product = shop.products(order.id)[tariff]
        changed = shop.completed(customer, account, item("1", "MODIFY", tariff, product.id))
        assert monthly(shop, changed) == [amount]


def test_it_ends_when_it_would_have_however_often_it_is_changed(shop: Shop, release: Release) -> None:
    tariff = shop.offering(shop.price(500))
    release("orderPercentage", "10", months=3)
    customer, account, products = sold(shop, [tariff])
    ends = []
    for _ in range(2):
        order = shop.completed(customer, account, item("1", "MODIFY", tariff, products[tariff].id))
        (kept,) = order.product_order_item[0].item_price[0].price_alteration
        ends.append(kept.valid_for.end_date_time.ToDatetime())
    assert ends[0] == ends[1]
    assert timedelta(88) < ends[0] - products[tariff].start_date.ToDatetime() < timedelta(93)


def test_what_no_order_has_made_keeps_what_it_has_until_that_is_over(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    for days, amount in ((-1, "500.00"), (1, "450.00")):
        off = {
            "name": "summer",
            "price_type": "recurring",
            "price": {"percentage": "-10", "duty_free_amount": {"unit": "KGS", "units": -30}},
            "product_offering_price": {"id": "of another system", "at_referred_type": "Promotion"},
            "valid_for": {"end_date_time": shop.at(days * DAY)},
        }
        product = shop.product(
            status="PRODUCT_STATUS_ACTIVE",
            product_offering={"id": tariff},
            product_price=[
                {
                    "name": "fee",
                    "price_type": "recurring",
                    "recurring_charge_period": "month",
                    "price": {"duty_free_amount": {"unit": "KGS", "units": 270}},
                    "product_price_alteration": [off],
                }
            ],
        )
        order = shop.completed(customer, account, item("1", "MODIFY", tariff, product))
        assert monthly(shop, order) == [amount]


def test_a_coupon_isnt_used_up_by_what_is_held(shop: Shop, release: Release) -> None:
    tariff = shop.offering(shop.price(500))
    promotion = release("orderPercentage", "10", coupon_required=True)
    customer, account, products = sold(shop, [tariff], coupon=[a_coupon(shop, promotion).code])
    made = a_coupon(shop, promotion)
    with pytest.raises(InvalidArgument) as refused:
        shop.order(customer, account, item("1", "MODIFY", tariff, products[tariff].id), coupon=[made.code])
    assert refused.value.reason == "COUPON_NOT_APPLICABLE"
    order = shop.order(
        customer,
        account,
        item("1", "MODIFY", tariff, products[tariff].id),
        item("2", "ADD", tariff),
        coupon=[made.code],
    )
    assert monthly(shop, order) == ["450.00", "450.00"]


def test_parts_of_a_bundle_keep_what_each_was_granted(shop: Shop, release: Release) -> None:
    phone, tv = shop.offering(shop.price(600)), shop.offering(shop.price(400))
    bundle = shop.offering(bundles=[phone, tv])
    made = a_coupon(shop, release("orderAmount", "100", coupon_required=True))
    customer, account, products = sold(shop, [bundle], coupon=[made.code])
    order = shop.completed(customer, account, item("1", "MODIFY", bundle, products[bundle].id))
    parts = order.product_order_item[0].product_order_item
    assert [from_money(one.item_price[0].price.duty_free_amount).value for one in parts] == [540, 360]
    # Without the phone, what was off the phone isn't off the rest.
    slim = shop.offering(bundles=[tv])
    order = shop.completed(customer, account, item("1", "MODIFY", slim, products[bundle].id))
    kept = [one for one in order.product_order_item[0].product_order_item if one.item_price]
    assert [from_money(one.item_price[0].price.duty_free_amount).value for one in kept] == [360]


def test_of_several_charges_each_keeps_its_own(shop: Shop, release: Release) -> None:
    """One that is there no more takes what was off it along, unless it is there under the same name."""

    def fee(name: str, som: int) -> Any:
        made = shop.world.manager.create(
            catalog_pb2.ProductOfferingPrice(
                name=name,
                lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_ACTIVE,
                price_type="recurring",
                price=values_pb2.Money(unit="KGS", units=som),
                recurring_charge_period_type="month",
            )
        )
        return catalog_pb2.ProductOfferingPriceRefOrValue(id=made.id, name=name)

    line, address = fee("line", 500), fee("address", 100)
    tariff = shop.offering(line, address)
    made = a_coupon(shop, release("orderAmount", "60", coupon_required=True))
    customer, account, products = sold(shop, [tariff], coupon=[made.code])

    def becomes(*prices: Any) -> dict[str, Any]:
        order = shop.completed(customer, account, item("1", "MODIFY", shop.offering(*prices), products[tariff].id))
        return {
            one.name: from_money(one.price.duty_free_amount).value for one in order.product_order_item[0].item_price
        }

    # As they were sold, in another order; then under other ids; then one of them with something else.
    assert becomes(address, line) == {"line": 450, "address": 90}
    assert becomes(fee("line", 700), fee("address", 200)) == {"line": 650, "address": 190}
    renamed = fee("connection", 800)
    assert becomes(renamed) == {"connection": 750}
    assert becomes(renamed, fee("other", 300)) == {"connection": 750, "other": 300}
