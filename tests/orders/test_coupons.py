"""Coupons of orders: redeemed by whoever is taken with them, and by nobody else."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import grpc
import pytest
import sqlalchemy as sa

from chassis.clients import channel
from chassis.convert import to_timestamp
from chassis.errors import DomainError, FailedPrecondition, InvalidArgument, Unavailable
from chassis.events import acting
from chassis.types import new_id
from orders.ordering import store
from orders.ordering.api import Orders
from orders.ordering.coupons import Coupons
from orders.ordering.domain import MOST_COUPONS, ProductOrder
from orders.ordering.fulfilment import PROMISED
from orders.ordering.store import coupon_promise, end_promise, promise
from orders.ordering.withdrawal import RELEASE
from svyaz.catalog.v1 import pricing_pb2, promotion_pb2, promotion_pb2_grpc
from svyaz.orders.v1 import orders_pb2
from svyaz.type.v1 import values_pb2
from svyaz_cli.issuer import Issuer
from tests.orders.conftest import CUSTOMER, ORDER, Shop, item, state_of
from tests.orders.test_merged_customers import merged, parted
from tests.serving import Caller

P = promotion_pb2
DAY = timedelta(days=1)
# Longer than an order may take to be one.
AFTERWARDS = timedelta(minutes=3)


@pytest.fixture
def promotion(shop: Shop) -> Iterator[Callable[..., str]]:
    """Releases promotions that need a coupon, for the time of the test."""
    made: list[Any] = []

    def release(
        value: str = "20",
        *,
        months: int | None = None,
        segment: str = "",
        above: str = "",
        number: str = "",
        **more: Any,
    ) -> str:
        action = P.PromotionAction(action_type="unitPercentage", action_value=value, **more)
        if months is not None:
            action.application_duration.CopyFrom(values_pb2.Duration(amount=months, units="month"))
        who = ("segment", "=", segment) if segment else ("quantity", ">=", "1")
        if number or above:
            who = ("nthOrder", ">" if above else "=", above or number)
        criteria = P.PromotionCriteria(criteria_parameter=who[0], criteria_operator=who[1], criteria_value=who[2])
        group = P.PromotionCriteriaGroup(criteria=[criteria])
        made.append(
            shop.world.manager.create(
                P.Promotion(
                    name="spring",
                    lifecycle_status="release",
                    coupon_required=True,
                    pattern=[P.PromotionPattern(action=[action], criteria_group=[group])],
                )
            )
        )
        return str(made[-1].id)

    yield release
    for one in made:
        shop.world.manager.update(P.Promotion(id=one.id, lifecycle_status="retirement"), "lifecycle_status")


@pytest.fixture
def coupon(shop: Shop, promotion: Callable[..., str]) -> Callable[..., P.Coupon]:
    """Makes a coupon of a promotion, or of one that takes a fifth off."""

    def make(opens: str = "", **more: Any) -> P.Coupon:
        ref = values_pb2.EntityRef(id=opens or promotion())
        made = shop.world.manager.create(P.Coupon(code=f"C-{new_id()}", promotion=ref, **more))
        assert isinstance(made, P.Coupon)
        return made

    return make


def used(shop: Shop, made: P.Coupon) -> int:
    """How often the coupon is used now."""
    return int(shop.world.manager.get(made).redeemed)


def fields(refused: "pytest.ExceptionInfo[Any]") -> list[str]:
    return [violation.field for violation in refused.value.violations]


def promises(shop: Shop) -> int:
    with acting("orders", "test"), shop.database.unit() as unit:
        return int(unit.session.scalar(sa.select(sa.func.count()).select_from(coupon_promise)) or 0)


# --- the discount ----------------------------------------------------------------------------------------------------


def test_the_discount_is_charged_as_it_was_priced(shop: Shop, coupon: Callable[..., Any], promotion: Any) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500), shop.price(300, recurring=False))
    opened = promotion(months=3)
    made = coupon(opened)
    order = shop.order(customer, account, item("1", "ADD", tariff), coupon=[made.code.lower()])
    assert list(order.coupon) == [made.code.lower()]
    assert {total.price.duty_free_amount.units for total in order.order_total_price} == {400, 240}
    shop.work()
    assert state_of(shop.get(order.id)) == "COMPLETED"
    charged = {charge["type"]: charge for charge in shop.charges(account)}
    once, monthly = charged["ChargeCreateEvent"], charged["RecurringChargeStartEvent"]
    assert (once["amount"]["value"], once["listAmount"]["value"]) == ("240", "300")
    assert (monthly["amount"]["value"], monthly["listAmount"]["value"]) == ("400", "500")
    (off,) = monthly["alteration"]
    assert (off["promotionId"], off["percentage"], off["amount"]["value"]) == (opened, "-20", "-100")
    assert off["applicationDuration"] == {"amount": 3, "units": "month"}
    assert "until" in off
    assert "productOfferingPriceId" not in off
    (once_off,) = once["alteration"]
    assert once_off["amount"]["value"] == "-60"
    assert once["receiptDigest"] == monthly["receiptDigest"]
    receipt = shop.agent(ORDER + "GetProductOrderReceipt", id=order.id)
    assert [step.rule for step in receipt.step if step.action == "COUPON_ACCEPTED"] == [made.code]
    (price,) = [one for one in shop.products(order.id)[tariff].product_price if one.price_type == "recurring"]
    assert price.product_price_alteration[0].product_offering_price.at_referred_type == "Promotion"
    assert used(shop, made) == 1


def test_what_is_changed_keeps_the_discount_of_its_coupon_and_what_is_added_has_none(
    shop: Shop, coupon: Callable[..., Any], promotion: Any
) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    made = coupon(promotion(months=3), usage_limit=1)
    order = shop.order(customer, account, item("1", "ADD", tariff), coupon=[made.code])
    shop.work()
    product = shop.products(order.id)[tariff]
    changed = shop.completed(customer, account, item("1", "MODIFY", tariff, product.id), item("2", "ADD", tariff, None))
    assert sorted(shop.told(account)) == [
        ("RecurringChargeChange", "400"),
        ("RecurringChargeStart", "400"),
        ("RecurringChargeStart", "500"),
    ]
    kept = [charge["alteration"][0] for charge in shop.charges(account) if "alteration" in charge]
    assert [(one["promotionId"], one["until"]) for one in kept] == [(kept[0]["promotionId"], kept[0]["until"])] * 2
    assert used(shop, made) == 1
    # The receipt rests on what it was sold with, and says the same again.
    receipt = shop.agent(ORDER + "GetProductOrderReceipt", id=changed.id)
    again = shop.world.manager.call("ReplayPrice", pricing_pb2.ReplayPriceRequest(receipt=receipt))
    assert again.receipt == receipt
    assert b'"held":{"1":' in receipt.inputs
    assert {one.component[0].amount.units for one in again.item} == {400, 500}


def test_a_coupon_that_is_wrong_refuses_the_order_by_its_place(shop: Shop, coupon: Callable[..., Any]) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    good, spent = coupon(), coupon(usage_limit=1)
    shop.order(customer, account, item("1", "ADD", tariff), coupon=[spent.code])
    codes = [good.code, f" {good.code} ", spent.code, "nobody knows it"]
    with pytest.raises(InvalidArgument) as refused:
        shop.order(customer, account, item("1", "ADD", tariff), coupon=codes)
    assert (refused.value.reason, fields(refused)) == ("COUPON_EXHAUSTED", ["coupon[2]", "coupon[3]"])
    with pytest.raises(InvalidArgument) as refused:
        shop.order(customer, account, item("1", "ADD", tariff), coupon=["x"] * (MOST_COUPONS + 1))
    assert (refused.value.reason, fields(refused)) == ("INVALID_COUPONS", ["coupon"])
    shop.later(AFTERWARDS)
    assert (used(shop, good), used(shop, spent)) == (0, 1)


def test_a_coupon_that_grants_nothing_refuses_the_order(shop: Shop, coupon: Any, promotion: Any) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    made = coupon(promotion(segment="students"))
    with pytest.raises(InvalidArgument) as refused:
        shop.order(customer, account, item("1", "ADD", tariff), coupon=[made.code])
    assert (refused.value.reason, fields(refused)) == ("COUPON_NOT_APPLICABLE", ["coupon[0]"])
    with pytest.raises(InvalidArgument) as refused:
        shop.order(customer, account, item("1", "ADD"), coupon=[made.code])
    assert (refused.value.reason, fields(refused)) == ("COUPON_NOT_APPLICABLE", ["coupon"])
    assert used(shop, made) == 0


# --- limits ----------------------------------------------------------------------------------------------------------


def test_of_twelve_orders_at_a_time_three_are_taken_with_a_coupon_of_three_uses(shop: Shop, coupon: Any) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    made = coupon(usage_limit=3)
    start = threading.Barrier(12)

    def attempt(_: int) -> Any:
        start.wait()
        try:
            return shop.order(
                customer, account, item("1", "ADD", tariff), coupon=[made.code], requested_start_date=shop.at(DAY)
            )
        except InvalidArgument as refusal:
            return (refusal.reason, [violation.field for violation in refusal.violations])

    with ThreadPoolExecutor(12) as pool:
        ends = list(pool.map(attempt, range(12)))
    taken = [end for end in ends if isinstance(end, orders_pb2.ProductOrder)]
    assert [end for end in ends if end not in taken] == [("COUPON_EXHAUSTED", ["coupon[0]"])] * 9
    assert len(taken) == 3
    assert {total.price.duty_free_amount.units for order in taken for total in order.order_total_price} == {400}
    shop.later(AFTERWARDS)
    assert used(shop, made) == 3
    shop.agent(
        ORDER + "UpdateProductOrder",
        product_order={"id": taken[0].id, "state": "PRODUCT_ORDER_STATE_CANCELLED"},
        update_mask={"paths": ["state"]},
    )
    shop.work()
    assert used(shop, made) == 2
    shop.order(customer, account, item("1", "ADD", tariff), coupon=[made.code])
    assert used(shop, made) == 3


def test_a_customer_uses_a_coupon_no_oftener_than_allowed(shop: Shop, coupon: Any) -> None:
    (one, account), (other, others) = shop.customer(), shop.customer()
    tariff = shop.offering(shop.price(500))
    made = coupon(customer_usage_limit=1)
    order = shop.order(
        one, account, item("1", "ADD", tariff), coupon=[made.code], requested_start_date=shop.at(30 * DAY)
    )
    with pytest.raises(InvalidArgument) as refused:
        shop.order(one, account, item("1", "ADD", tariff), coupon=[made.code])
    assert (refused.value.reason, fields(refused)) == ("COUPON_EXHAUSTED", ["coupon[0]"])
    # Nor by having another customer order for him.
    with pytest.raises(FailedPrecondition) as closed:
        shop.change(order.id, related_party=[{"id": other, "role": "customer"}])
    assert (closed.value.reason, fields(closed)) == ("COUPON_REDEEMED", ["related_party"])
    with pytest.raises(InvalidArgument) as refused:
        shop.order(None, others, item("1", "ADD", tariff), coupon=[made.code])
    assert (refused.value.reason, fields(refused)) == ("CUSTOMER_REQUIRED", ["coupon[0]"])
    shop.order(other, others, item("1", "ADD", tariff), coupon=[made.code])


def test_customers_who_are_one_have_one_first_order_and_use_a_coupon_once(
    shop: Shop, coupon: Any, promotion: Any
) -> None:
    (one, account), (other, others) = shop.customer(), shop.customer()
    add = item("1", "ADD", shop.offering(shop.price(500)))
    limited, first = coupon(customer_usage_limit=1), coupon(promotion(number="1"))
    shop.order(one, account, add, coupon=[limited.code])
    merge = merged(shop, one, other)
    for made, reason in ((limited, "COUPON_EXHAUSTED"), (first, "COUPON_NOT_APPLICABLE")):
        with pytest.raises(InvalidArgument) as refused:
            shop.order(other, others, add, coupon=[made.code])
        assert (refused.value.reason, fields(refused)) == (reason, ["coupon[0]"])
    parted(shop, merge)
    shop.order(other, others, add, coupon=[limited.code, first.code])
    assert (used(shop, limited), used(shop, first)) == (2, 1)


def test_an_orders_coupons_stay_and_count_for_its_other_items(shop: Shop, coupon: Any) -> None:
    customer, account = shop.customer()
    small, large = shop.offering(shop.price(500)), shop.offering(shop.price(900))
    made = coupon(usage_limit=1, customer_usage_limit=1)
    more = {"coupon": [made.code], "requested_start_date": shop.at(DAY)}
    order = shop.order(customer, account, item("1", "ADD", small), **more)
    with pytest.raises(InvalidArgument) as refused:
        shop.change(order.id, coupon=["ANOTHER"])
    assert (refused.value.reason, fields(refused)) == ("IMMUTABLE", ["coupon"])
    changed = shop.change(order.id, product_order_item=[item("1", "ADD", large)])
    assert [total.price.duty_free_amount.units for total in changed.order_total_price] == [720]
    shop.later(2 * DAY)
    assert shop.told(account) == [("RecurringChargeStart", "720")]
    assert used(shop, made) == 1


def test_what_has_been_redeemed_counts_for_other_items_after_its_time(
    shop: Shop, coupon: Any, promotion: Callable[..., str]
) -> None:
    """The coupon has expired meanwhile, its promotion too, and then that is suspended; until somebody changes it."""
    customer, account = shop.customer()
    tariffs = [shop.offering(shop.price(fee)) for fee in (500, 600, 700, 800, 900)]
    opens = promotion()
    made = coupon(opens)
    more = {"coupon": [made.code], "requested_start_date": shop.at(30 * DAY)}
    order = shop.order(customer, account, item("1", "ADD", tariffs[0]), **more)

    def changed_to(tariff: str) -> list[int]:
        changed = shop.change(order.id, product_order_item=[item("1", "ADD", tariff)])
        return [total.price.duty_free_amount.units for total in changed.order_total_price]

    def over() -> values_pb2.TimePeriod:
        return values_pb2.TimePeriod(end_date_time=to_timestamp(datetime.now(UTC)))

    manager = shop.world.manager
    manager.update(P.Coupon(id=made.id, valid_for=over()), "valid_for")
    assert changed_to(tariffs[1]) == [480]
    manager.update(P.Promotion(id=opens, valid_for=over()), "valid_for")
    assert changed_to(tariffs[2]) == [560]
    receipt = shop.agent(ORDER + "GetProductOrderReceipt", id=order.id)
    assert manager.call("ReplayPrice", pricing_pb2.ReplayPriceRequest(receipt=receipt)).receipt == receipt
    manager.update(P.Promotion(id=opens, lifecycle_status="suspend"), "lifecycle_status")
    assert changed_to(tariffs[3]) == [640]
    # Nobody else has it any more, nor does anybody have what hasn't been released.
    with pytest.raises(InvalidArgument) as refused:
        shop.order(customer, account, item("1", "ADD", tariffs[0]), coupon=[made.code])
    assert refused.value.reason == "COUPON_NOT_APPLICABLE"
    pattern = manager.get(P.Promotion(id=opens)).pattern
    pattern[0].action[0].action_value = "90"
    manager.update(P.Promotion(id=opens, pattern=pattern), "pattern")
    with pytest.raises(InvalidArgument) as refused:
        changed_to(tariffs[4])
    assert (refused.value.reason, fields(refused)) == ("COUPON_NOT_APPLICABLE", ["coupon[0]"])
    assert used(shop, made) == 1


# --- giving back -----------------------------------------------------------------------------------------------------


def withdrawn(shop: Shop, order_id: str) -> None:
    shop.agent(ORDER + "CreateCancelProductOrder", cancel_product_order={"product_order": {"id": order_id}})


def deleted(shop: Shop, order_id: str) -> None:
    shop.agent(ORDER + "DeleteProductOrder", id=order_id)


def failed(shop: Shop, order_id: str) -> None:
    shop.provisioning.failing = {shop.get(order_id).product_order_item[0].product_offering.id}
    shop.later(2 * DAY)
    assert state_of(shop.get(order_id)) == "FAILED"


def never_told(shop: Shop, order_id: str) -> None:
    shop.change(order_id, billing_account={"id": "nobody's"}, requested_start_date=shop.at(timedelta(0)))
    shop.work()
    assert state_of(shop.get(order_id)) == "PENDING"
    shop.later(15 * DAY)
    assert state_of(shop.get(order_id)) == "CANCELLED"


@pytest.mark.parametrize("ends", [withdrawn, deleted, failed, never_told])
def test_what_nothing_comes_of_gives_its_coupons_back(
    shop: Shop, coupon: Any, ends: Callable[[Shop, str], None]
) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    one, other = coupon(usage_limit=1), coupon(usage_limit=1)
    more = {"coupon": [one.code, other.code], "requested_start_date": shop.at(DAY)}
    order = shop.order(customer, account, item("1", "ADD", tariff), **more)
    shop.later(AFTERWARDS)
    assert (used(shop, one), used(shop, other)) == (1, 1)
    ends(shop, order.id)
    shop.work()
    assert (used(shop, one), used(shop, other)) == (0, 0)
    assert promises(shop) == 0


def test_what_is_completed_in_part_has_had_its_discount(shop: Shop, coupon: Any) -> None:
    customer, account = shop.customer()
    works, fails = shop.offering(shop.price(500)), shop.offering(shop.price(300))
    made = coupon()
    shop.provisioning.failing = {fails}
    order = shop.order(customer, account, item("1", "ADD", works), item("2", "ADD", fails), coupon=[made.code])
    shop.later(AFTERWARDS)
    assert state_of(shop.get(order.id)) == "PARTIAL"
    assert used(shop, made) == 1


def test_what_another_coupon_refuses_keeps_none(shop: Shop, coupon: Any) -> None:
    """The second was used up between the price and the redemption."""
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    one, other = coupon(), coupon(usage_limit=1)

    def meanwhile(position: int, request: Any) -> None:
        if position == 1:
            Caught.redeem(shop, other.code, "somebody else's")

    with Caught(shop, meanwhile) as caught, pytest.raises(InvalidArgument) as refused:
        caught.order(customer, account, tariff, [one.code, other.code])
    assert (refused.value.reason, fields(refused)) == ("COUPON_EXHAUSTED", ["coupon[1]"])
    assert used(shop, one) == 1
    shop.work()
    assert (used(shop, one), used(shop, other), promises(shop)) == (0, 1, 0)


# --- deaths and returns ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What kill -9 is to a call: nothing after it happens."""


class Caught:
    """An orders service in whose calls of RedeemCoupon something happens: `before` each, or `after` it."""

    def __init__(
        self,
        shop: Shop,
        before: Callable[[int, Any], None] = lambda position, request: None,
        after: Callable[[int, Any], None] = lambda position, request: None,
    ) -> None:
        self.shop = shop
        self._channel = channel(shop.world.settings.addresses["catalog"], shop.world.tokens)
        promotions = promotion_pb2_grpc.PromotionServiceStub(self._channel)
        redeem, calls = promotions.RedeemCoupon, iter(range(1000))

        def redeeming(request: Any, timeout: float) -> Any:
            position = next(calls)
            before(position, request)
            answer = redeem(request, timeout=timeout)
            after(position, request)
            return answer

        promotions.RedeemCoupon = redeeming  # type: ignore[assignment]
        self.orders = Orders(shop.database, shop.fulfilment._capture, Coupons(promotions))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def order(self, customer: str, account: str, tariff: str, codes: list[str], key: str = "") -> Any:
        """Takes an order there."""
        body: Any = {
            "product_order_item": [item("1", "ADD", tariff)],
            "related_party": [{"id": customer, "role": "customer", "at_referred_type": "Customer"}],
            "billing_account": {"id": account},
            "coupon": codes,
        }
        request = orders_pb2.CreateProductOrderRequest(request_id=key, branch="bishkek", product_order=body)
        with acting("orders", "test", "bishkek"):
            return self.orders.CreateProductOrder(request, None)

    @staticmethod
    def redeem(shop: Shop, code: str, order_id: str) -> None:
        """Somebody else uses the coupon."""
        request = P.RedeemCouponRequest(code=code, order_id=order_id, customer_id="another")
        shop.world.manager.call("RedeemCoupon", request)


def dies(position: int, request: Any) -> None:
    raise Killed


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_dies_while_redeeming_leaves_nothing_used(shop: Shop, coupon: Any, when: str) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    made = coupon(usage_limit=1)
    with Caught(shop, **{when: dies}) as caught, pytest.raises(Killed):
        caught.order(customer, account, tariff, [made.code])
    assert (used(shop, made), promises(shop)) == (int(when == "after"), 1)
    shop.later(AFTERWARDS)
    assert (used(shop, made), promises(shop)) == (0, 0)
    shop.order(customer, account, item("1", "ADD", tariff), coupon=[made.code])


def test_the_same_request_after_a_death_goes_on_with_the_same_order(shop: Shop, coupon: Any) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    made = coupon(usage_limit=1, customer_usage_limit=1)
    asked = (customer, account, tariff, [made.code], new_id())
    with Caught(shop, after=dies) as caught, pytest.raises(Killed):
        caught.order(*asked)
    assert used(shop, made) == 1
    with Caught(shop) as again:
        order = again.order(*asked)
        assert again.order(*asked).id == order.id
    assert used(shop, made) == 1
    shop.later(AFTERWARDS)
    assert state_of(shop.get(order.id)) == "COMPLETED"
    assert (used(shop, made), promises(shop)) == (1, 0)


def test_the_same_request_many_times_at_once_is_one_order_and_one_use(shop: Shop, coupon: Any) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    made = coupon(usage_limit=1)
    key = new_id()
    start = threading.Barrier(6)
    with Caught(shop) as caught:

        def attempt(_: int) -> str:
            start.wait()
            return str(caught.order(customer, account, tariff, [made.code], key).id)

        with ThreadPoolExecutor(6) as pool:
            assert len(set(pool.map(attempt, range(6)))) == 1
    shop.later(AFTERWARDS)
    assert used(shop, made) == 1
    assert len(shop.agent(ORDER + "ListProductOrders", filter=[]).items) == 1
    assert promises(shop) == 0


def test_who_comes_back_too_late_has_no_order_and_no_discount(shop: Shop, coupon: Any) -> None:
    """It stood still between redeeming and writing until its coupons had been given back."""
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    made = coupon(usage_limit=1)
    with (
        Caught(shop, after=lambda position, request: shop.later(AFTERWARDS)) as caught,
        pytest.raises(Unavailable) as refused,
    ):
        caught.order(customer, account, tariff, [made.code])
    assert refused.value.reason == "COUPONS_GIVEN_BACK"
    assert (used(shop, made), promises(shop)) == (0, 0)
    assert not shop.agent(ORDER + "ListProductOrders").items


class GivenBackInVain(Coupons):
    """Gives coupons back, but whoever asked for it doesn't live to commit that he did."""

    def release(self, order_id: str) -> None:
        """Gives back whatever the order uses, and then fails."""
        super().release(order_id)
        raise Unavailable("TEST", "killed between the catalog's answer and the commit")


def in_vain(shop: Shop, monkeypatch: pytest.MonkeyPatch, later: timedelta) -> None:
    """So much later what is due is given back, and that isn't committed."""
    with monkeypatch.context() as patched:
        patched.setattr(shop.fulfilment, "_coupons", GivenBackInVain(shop.fulfilment._coupons._promotions))
        with pytest.raises(Unavailable):
            shop.later(later)


def test_a_use_that_was_given_back_is_no_discount_of_the_same_request_sent_again(
    shop: Shop, coupon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    one, other = coupon(), coupon(usage_limit=1)
    asked = (customer, account, tariff, [one.code, other.code], new_id())

    def used_up(position: int, request: Any) -> None:
        if position == 1:
            Caught.redeem(shop, other.code, "somebody else's")

    with Caught(shop, used_up) as caught, pytest.raises(InvalidArgument):
        caught.order(*asked)
    shop.world.manager.call("ReleaseCoupons", P.ReleaseCouponsRequest(order_id="somebody else's"))

    def given_back(position: int, request: Any) -> None:
        if position == 1:
            in_vain(shop, monkeypatch, timedelta(0))

    with Caught(shop, after=given_back) as again:
        order = again.order(*asked)
    assert (used(shop, one), used(shop, other)) == (1, 1)
    shop.later(AFTERWARDS)
    assert state_of(shop.get(order.id)) == "COMPLETED"
    assert (used(shop, one), used(shop, other), promises(shop)) == (1, 1, 0)


def test_who_comes_back_too_late_has_no_order_whatever_becomes_of_giving_back(
    shop: Shop, coupon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    made = coupon(usage_limit=1)

    def given_back(position: int, request: Any) -> None:
        in_vain(shop, monkeypatch, AFTERWARDS)

    with Caught(shop, after=given_back) as caught, pytest.raises(Unavailable) as refused:
        caught.order(customer, account, tariff, [made.code])
    assert refused.value.reason == "COUPONS_GIVEN_BACK"
    shop.later(AFTERWARDS)
    assert (used(shop, made), promises(shop)) == (0, 0)
    assert not shop.agent(ORDER + "ListProductOrders").items


def test_a_promise_that_has_ended_is_never_made_again(shop: Shop) -> None:
    with acting("orders", "test", "bishkek"):
        with shop.database.unit() as unit:
            first = promise(unit, "bishkek", b"the same")
            assert promise(unit, "bishkek", b"the same") == first
            assert end_promise(unit, first)
        with shop.database.unit() as unit:
            second = promise(unit, "bishkek", b"the same")
            assert second != first
            assert not end_promise(unit, first)
            assert end_promise(unit, second)


def test_what_is_redeemed_for_an_order_that_was_cancelled_meanwhile_is_given_back(shop: Shop, coupon: Any) -> None:
    """The same request twice: one is taken and cancelled while the other is on its way to redeem."""
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    made = coupon(usage_limit=1)
    asked = (customer, account, tariff, [made.code], new_id())
    with Caught(shop) as first:

        def meanwhile(position: int, request: Any) -> None:
            order = first.order(*asked)
            withdrawn(shop, order.id)
            shop.work()
            assert used(shop, made) == 0

        with Caught(shop, before=meanwhile) as second:
            assert state_of(second.order(*asked)) == "ACKNOWLEDGED"
    assert used(shop, made) == 1
    shop.later(AFTERWARDS)
    assert used(shop, made) == 0


def test_while_the_catalog_is_away_nothing_is_taken_and_giving_back_waits(
    shop: Shop, coupon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    made = coupon()
    order = shop.order(
        customer, account, item("1", "ADD", tariff), coupon=[made.code], requested_start_date=shop.at(30 * DAY)
    )
    withdrawn(shop, order.id)
    with grpc.insecure_channel("127.0.0.1:1") as nowhere:
        gone = Coupons(promotion_pb2_grpc.PromotionServiceStub(nowhere))
        with monkeypatch.context() as patched:
            patched.setattr(shop.fulfilment, "_coupons", gone)
            with pytest.raises(Unavailable):
                shop.work()
        with Caught(shop) as caught:
            caught.orders = Orders(shop.database, shop.fulfilment._capture, gone)
            with pytest.raises(Unavailable):
                caught.order(customer, account, tariff, [made.code])
    assert used(shop, made) == 1
    assert shop.due(order.id, RELEASE) is not None
    shop.later(AFTERWARDS)
    assert (used(shop, made), promises(shop)) == (0, 0)
    assert shop.due(order.id, PROMISED) is None


# --- who buys --------------------------------------------------------------------------------------------------------


def in_segment(shop: Shop, customer: str, *segments: dict[str, str], **more: Any) -> None:
    tell = shop.world.callers("customers", "bishkek")
    body = {"id": customer, "market_segment": segments, **more}
    tell(CUSTOMER + "UpdateCustomer", customer=body, update_mask={"paths": [*body][1:]})


def test_the_customers_segment_reaches_the_price_and_stays_with_the_product(
    shop: Shop, coupon: Any, promotion: Any
) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    made = coupon(promotion(segment="students"))
    in_segment(shop, customer, {"id": "s1", "name": "students"})
    order = shop.order(customer, account, item("1", "ADD", tariff), coupon=[made.code])
    assert [total.price.duty_free_amount.units for total in order.order_total_price] == [400]
    shop.work()
    product = shop.products(order.id)[tariff]
    assert product.extensions == b'{"marketSegment":[{"id": "s1", "name": "students"}]}'
    # By its id as well.
    by_id = coupon(promotion(segment="s1"))
    shop.order(customer, account, item("1", "ADD", tariff), coupon=[by_id.code])


def test_a_first_order_is_the_first_that_was_not_lost(shop: Shop, coupon: Any, promotion: Any) -> None:
    customer, account = shop.customer()
    tariff, larger = shop.offering(shop.price(500)), shop.offering(shop.price(900))
    made = coupon(promotion(number="1"))
    wanted: Any = (customer, account, item("1", "ADD", tariff))
    later = {"coupon": [made.code], "requested_start_date": shop.at(DAY)}
    first = shop.order(*wanted, **later)
    assert [total.price.duty_free_amount.units for total in first.order_total_price] == [400]
    with pytest.raises(InvalidArgument) as refused:
        shop.order(*wanted, **later)
    assert refused.value.reason == "COUPON_NOT_APPLICABLE"
    # Another customer has a first order of his own; and the first stays the first when it is changed.
    other = shop.customer()
    shop.order(*other, wanted[2], **later)
    shop.order(*wanted)
    changed = shop.change(first.id, product_order_item=[item("1", "ADD", larger)])
    assert [total.price.duty_free_amount.units for total in changed.order_total_price] == [720]
    # The fourth that is taken is the second of those that count: the first was withdrawn.
    withdrawn(shop, first.id)
    shop.work()
    second = coupon(promotion(number="2"))
    order = shop.order(*wanted, coupon=[second.code])
    assert [total.price.duty_free_amount.units for total in order.order_total_price] == [400]


def test_orders_are_counted_only_for_promotions_that_compare_them(
    shop: Shop, coupon: Any, promotion: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    counted: list[int | None] = []
    count = store.orders_before

    def counting(*asked: Any) -> int | None:
        counted.append(count(*asked))
        return counted[-1]

    monkeypatch.setattr(store, "orders_before", counting)
    shop.order(customer, account, item("1", "ADD", tariff), coupon=[coupon().code])
    assert counted == []
    opens = promotion(above="0")
    shop.order(customer, account, item("1", "ADD", tariff), coupon=[coupon(opens).code])
    shop.order(customer, account, item("1", "ADD", tariff), coupon=[coupon(opens).code])
    assert counted == [1, 2]
    # Nobody's orders are counted for nobody.
    with pytest.raises(InvalidArgument):
        shop.order(None, account, item("1", "ADD", tariff), coupon=[coupon(opens).code])


@pytest.mark.parametrize(
    ("parties", "customer"),
    [
        ([], None),
        ([("a", "owner", "Customer"), ("b", "CUSTOMER", ""), ("c", "customer", "")], "b"),
        ([("a", "owner", "Individual"), ("b", "payer", "Customer"), ("c", "", "Customer")], "b"),
        ([("a", "customers", "Individual")], None),
    ],
)
def test_the_database_finds_the_customer_that_the_order_has(shop: Shop, parties: Any, customer: str | None) -> None:
    named = [{"id": party, "role": role, "at_referred_type": kind} for party, role, kind in parties]
    order = shop.order(None, None, item("1", "ADD"), related_party=named)
    with acting("orders", "test"), shop.database.unit() as unit:
        column = store.product_order.c
        assert unit.session.scalar(sa.select(column.customer_id).where(column.id == order.id)) == customer
        assert (unit.get(ProductOrder, order.id).customer_id or None) == customer


def test_attributes_of_a_product_stay_beside_its_segment(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    in_segment(shop, customer, {"name": "home"})
    own = item("1", "ADD", tariff) | {"product": {"extensions": b'{"colour": 1.10}'}}
    said = item("2", "ADD", tariff) | {"product": {"extensions": b'{"marketSegment": "business"}'}}
    order = shop.order(customer, account, own, said)
    assert [row.product.extensions for row in order.product_order_item] == [
        b'{"marketSegment":[{"name": "home"}],"colour": 1.10}',
        b'{"marketSegment": "business"}',
    ]


def test_only_the_service_takes_and_gives_back_coupons(shop: Shop, coupon: Any, issuer: Issuer) -> None:
    """Else an agent could use a coupon again whose order goes on, or have one's promotion for an order without it."""
    made = coupon()
    with grpc.insecure_channel(shop.world.settings.addresses["catalog"]) as opened:
        agent = Caller(opened, issuer.token(["agent"], ["bishkek"]))
        for method, more in (("RedeemCoupon", {"code": made.code}), ("ReleaseCoupons", {})):
            with pytest.raises(DomainError) as refused:
                agent(f"svyaz.catalog.v1.PromotionService/{method}", order_id=new_id(), **more)
            assert refused.value.status == "PERMISSION_DENIED"
    assert used(shop, made) == 0
