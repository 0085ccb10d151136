"""Promotions on prices, as a branch asks for them: totals, taxes, reasons, and the same again from the receipt."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from catalog.promotion.domain import stage_of
from catalog.promotion.values import Stage
from chassis.convert import from_money
from chassis.errors import InvalidArgument
from chassis.types import new_id
from svyaz.catalog.v1 import catalog_pb2, pricing_pb2, promotion_pb2
from svyaz.type.v1 import values_pb2
from tests.catalog.conftest import Client
from tests.catalog.test_promotion_api import a_coupon, a_promotion, criteria, move, off, pattern, redeem, refused

C = catalog_pb2
Ref = values_pb2.EntityRef


@pytest.fixture
def released(manager: Client) -> Iterator[Callable[..., Any]]:
    """Releases a promotion for the time of the test."""
    made = []

    def release(*patterns: promotion_pb2.PromotionPattern, **more: Any) -> Any:
        made.append(manager.create(a_promotion(*patterns, lifecycle_status="release", currency="KGS", **more)))
        return made[-1]

    yield release
    for promotion in made:
        if stage_of(manager.get(promotion).lifecycle_status) is Stage.RELEASE:
            move(manager, promotion, "retirement")


def kgs(units: int) -> values_pb2.Money:
    return values_pb2.Money(unit="KGS", units=units)


def a_price(manager: Client, units: int, period: str = "", **more: Any) -> Any:
    return manager.create(
        C.ProductOfferingPrice(
            name=more.pop("name", "monthly fee" if period else "connection"),
            lifecycle_status=C.LIFECYCLE_STATUS_LAUNCHED,
            price_type="recurring" if period else "oneTime",
            recurring_charge_period_type=period or None,
            price=kgs(units),
            tax=[values_pb2.TaxItem(tax_category="VAT", tax_rate="12")],
            **more,
        )
    )


def an_offering(manager: Client, *prices: Any, **more: Any) -> Any:
    return manager.create(
        C.ProductOffering(
            name="Internet 100",
            lifecycle_status=C.LIFECYCLE_STATUS_LAUNCHED,
            product_offering_price=[C.ProductOfferingPriceRefOrValue(id=price.id) for price in prices],
            **more,
        )
    )


@pytest.fixture
def internet(manager: Client) -> Any:
    """500 once, 990 a month, each and 12 % tax."""
    return an_offering(manager, a_price(manager, 500), a_price(manager, 990, "month"))


def item(offering: Any, quantity: int = 1, id: str = "1") -> pricing_pb2.PriceRequestItem:
    return pricing_pb2.PriceRequestItem(id=id, product_offering_id=offering.id, quantity=quantity)


def totals(answer: pricing_pb2.PriceResponse) -> dict[str, tuple[str, str]]:
    """Price type → without tax, with tax."""
    return {
        total.price_type: (
            f"{from_money(total.amount).value:.2f}",
            f"{from_money(total.tax_included_amount).value:.2f}",
        )
        for total in answer.total
    }


def check(manager: Client, answer: pricing_pb2.PriceResponse) -> None:
    """What must be so of any answer: the alterations add up to the amount, the amounts to the totals, and the receipt
    gives the same again."""
    sums: dict[str, Any] = {}
    waiting = list(answer.item)
    while waiting:
        priced = waiting.pop()
        waiting += priced.bundled_item
        for component in priced.component:
            taken = sum(from_money(alteration.amount).value or 0 for alteration in component.alteration)
            assert (from_money(component.list_amount).value or 0) + taken == from_money(component.amount).value
            sums[component.price_type] = sums.get(component.price_type, 0) + from_money(component.amount).value
    assert {total.price_type: from_money(total.amount).value for total in answer.total} == sums
    again = manager.call("ReplayPrice", pricing_pb2.ReplayPriceRequest(receipt=answer.receipt))
    assert again.SerializeToString(deterministic=True) == answer.SerializeToString(deterministic=True)


def said(answer: pricing_pb2.PriceResponse, action: str) -> list[tuple[str, str]]:
    return [(step.rule, step.reason) for step in answer.receipt.step if step.action == action]


def test_without_promotions_a_price_says_nothing_of_them(manager: Client, internet: Any) -> None:
    answer = manager.price(item(internet))
    assert totals(answer) == {"oneTime": ("500.00", "560.00"), "recurring": ("990.00", "1108.80")}
    assert b"with_promotions" not in answer.receipt.inputs
    check(manager, answer)


def test_a_percentage_off_the_order_is_off_what_is_paid_once_and_off_every_month(
    manager: Client, internet: Any, released: Callable[..., Any]
) -> None:
    promotion = released()
    answer = manager.price(item(internet, 3))
    assert totals(answer) == {"oneTime": ("1350.00", "1512.00"), "recurring": ("2673.00", "2993.76")}
    for component in answer.item[0].component:
        (alteration,) = component.alteration
        assert alteration.product_offering_price.id == promotion.id
        assert alteration.product_offering_price.at_referred_type == "Promotion"
        assert (alteration.name, alteration.percentage) == ("spring", "-10")
    applied = [step for step in answer.receipt.step if step.action == "PROMOTION_APPLIED"]
    assert [(step.subject, step.before, step.after, step.reason) for step in applied] == [
        ("1", "1500.00 KGS", "1350.00 KGS", "spring; connection"),
        ("1", "2970.00 KGS", "2673.00 KGS", "spring; monthly fee"),
    ]
    check(manager, answer)


def test_an_amount_is_split_over_the_items_to_the_cent(
    manager: Client, internet: Any, released: Callable[..., Any]
) -> None:
    released(pattern(off("100", "orderAmount", price_type="oneTime")))
    tv = an_offering(manager, a_price(manager, 250))
    answer = manager.price(item(internet), item(tv, 1, "2"))
    assert totals(answer)["oneTime"] == ("650.00", "728.00")
    assert totals(answer)["recurring"] == ("990.00", "1108.80")
    amounts = [from_money(one.component[0].amount).value for one in answer.item]
    assert [f"{amount:.2f}" for amount in amounts if amount is not None] == ["433.33", "216.67"]
    assert [reason for _, reason in said(answer, "DISCOUNT_SPLIT")] == ["66.67 + 33.33"]
    check(manager, answer)


def test_a_discount_of_some_months_says_so(manager: Client, internet: Any, released: Callable[..., Any]) -> None:
    three = values_pb2.Duration(amount=1, units="quarter")
    monthly = {"price_type": "recurring", "recurring_charge_period": "monthly"}
    released(pattern(off("50.5", "unitAmount", application_duration=three, **monthly)))
    answer = manager.price(item(internet, 2))
    assert totals(answer)["recurring"][0] == "1879.00"
    (alteration,) = answer.item[0].component[1].alteration
    assert (alteration.application_duration.amount, alteration.application_duration.units) == (3, "month")
    check(manager, answer)


def test_who_holds_a_product_has_what_it_was_sold_with_until_that_is_over(
    manager: Client, internet: Any, released: Callable[..., Any]
) -> None:
    three = values_pb2.Duration(amount=3, units="month")
    until = values_pb2.TimePeriod()
    until.end_date_time.FromJsonString("2026-02-01T00:00:00Z")
    monthly = {"price_type": "recurring", "recurring_charge_period": "month"}
    welcome = pattern(off("40", "orderPercentage", application_duration=three, **monthly))
    promotion = released(welcome, valid_for=until)

    def asked(at: str, started: str = "", **context: Any) -> pricing_pb2.PriceResponse:
        held = pricing_pb2.PriceRequestItem(id="1", product_offering_id=internet.id, exact_version=True)
        if started:
            held.started_at.FromJsonString(f"{started}T00:00:00Z")
        instant = Timestamp()
        instant.FromJsonString(f"{at}T00:00:00Z")
        answer = manager.price(held, at=instant, **context)
        check(manager, answer)
        return answer

    bought = asked("2026-01-20")
    assert totals(bought)["recurring"] == ("594.00", "665.28")
    (fee,) = [one for one in bought.item[0].component if one.price_type == "recurring"]
    sold = pricing_pb2.HeldCharge(
        item_id="1",
        product_offering_price_id=fee.product_offering_price.id,
        recurring_charge_period=fee.recurring_charge_period,
        amount=fee.amount,
        tax_included_amount=fee.tax_included_amount,
        alteration=fee.alteration,
    )
    # It counts from when it began, which was after the promotion was over.
    for at, paid in (("2026-05-02", "594.00"), ("2026-05-03", "990.00")):
        answer = asked(at, "2026-02-03", held_charge=[sold])
        assert totals(answer)["recurring"][0] == paid
    said = manager.call("ExplainPrice", pricing_pb2.ExplainPriceRequest(receipt=answer.receipt, language="en"))
    (over,) = [line for line in said.line if "it was for 3 month" in line]
    assert promotion.name in over
    # Who was granted nothing has nothing, even where it began while others were.
    assert totals(asked("2026-01-21", "2026-01-20"))["recurring"][0] == "990.00"


def test_an_amount_off_the_order_is_granted_once_whether_prices_include_tax_or_not(
    manager: Client, internet: Any, released: Callable[..., Any]
) -> None:
    released(pattern(off("100", "orderAmount", price_type="oneTime")))
    price = C.ProductOfferingPriceRefOrValue(
        name="gross", price_type="oneTime", price=C.ProductPriceValue(tax_included_amount=kgs(500), tax_rate="12")
    )
    sim = manager.create(
        C.ProductOffering(name="SIM", lifecycle_status=C.LIFECYCLE_STATUS_LAUNCHED, product_offering_price=[price])
    )
    answer = manager.price(pricing_pb2.PriceRequestItem(product_offering_id=internet.id), item(sim, 1, "2"))
    assert from_money(answer.item[0].component[0].amount).value == 450
    assert from_money(answer.item[1].component[0].tax_included_amount).value == 450
    applied = [step for step in answer.receipt.step if step.action == "PROMOTION_APPLIED"]
    # As the rest of the receipt calls what the request doesn't name.
    assert [step.subject for step in applied] == ["item[0]", "2"]
    check(manager, answer)


def test_where_the_price_includes_the_tax_so_does_the_discount(manager: Client, released: Callable[..., Any]) -> None:
    released(pattern(off("10.05", "unitAmount", price_type="oneTime"), criteria("total", ">=", "99.99")))
    gross = values_pb2.Money(unit="KGS", units=99, nanos=990_000_000)
    price = C.ProductOfferingPriceRefOrValue(
        name="gross",
        price_type="oneTime",
        price=C.ProductPriceValue(tax_included_amount=gross, tax_rate="12"),
    )
    offering = manager.create(
        C.ProductOffering(name="SIM", lifecycle_status=C.LIFECYCLE_STATUS_LAUNCHED, product_offering_price=[price])
    )
    answer = manager.price(item(offering))
    assert totals(answer) == {"oneTime": ("80.30", "89.94")}
    check(manager, answer)


def test_who_and_where_the_customer_is_decides(manager: Client, internet: Any, released: Callable[..., Any]) -> None:
    for parameter, value, context in (
        ("segment", "students", {"market_segment": ["students", "young"]}),
        ("branch", "bishkek", {"branch": "bishkek"}),
        ("channel", "web", {"channel": "web"}),
        ("place", "town", {"place": ["street", "town"]}),
        ("agreement", "frame", {"agreement_id": "frame"}),
        ("nthOrder", "1", {"orders_before": 0}),
    ):
        promotion = released(pattern(off(), criteria(parameter, "=", value)))
        granted = manager.price(item(internet), **context)
        assert totals(granted)["oneTime"][0] == "450.00", parameter
        # Who doesn't say it is told to.
        compared = [manager.price(item(internet), **more).orders_before_compared for more in (context, {})]
        assert compared == [parameter == "nthOrder"] * 2
        check(manager, granted)
        refused_to = manager.price(item(internet))
        assert totals(refused_to)["oneTime"][0] == "500.00"
        ((rule, reason),) = said(refused_to, "PROMOTION_REJECTED")
        assert rule == promotion.id
        assert "doesn't hold" in reason
        check(manager, refused_to)
        move(manager, promotion, "retirement")


def test_a_category_is_meant_with_all_below_it(manager: Client, released: Callable[..., Any]) -> None:
    top = manager.create(C.Category(name="everything"))
    fibre = manager.create(C.Category(name="fibre"))
    manager.update(C.Category(id=top.id, sub_category=[Ref(id=fibre.id)]), "sub_category")
    fast = manager.create(C.Category(name="fast", parent_id=fibre.id))
    price = a_price(manager, 100)
    inside = an_offering(manager, price, category=[Ref(id=fast.id)])
    listed = an_offering(manager, price)
    manager.update(C.Category(id=fibre.id, product_offering=[Ref(id=listed.id)]), "product_offering")
    outside = an_offering(manager, price)
    released(pattern(off("10", "unitPercentage", category=[Ref(id=top.id)])))
    answer = manager.price(item(inside), item(listed, 1, "2"), item(outside, 1, "3"))
    amounts = [from_money(one.component[0].amount).value for one in answer.item]
    assert [int(amount or 0) for amount in amounts] == [90, 90, 100]
    check(manager, answer)
    released(pattern(off(), criteria("categoryTotal", ">=", "180", criteria_entity_ref=Ref(id=fibre.id))))
    answer = manager.price(item(inside), item(listed, 1, "2"))
    assert totals(answer)["oneTime"][0] == "162.00"
    check(manager, answer)


def test_a_bundle_is_meant_with_its_parts_and_a_series_with_its_versions(
    manager: Client, released: Callable[..., Any]
) -> None:
    part = an_offering(manager, a_price(manager, 100))
    bundle = an_offering(
        manager, a_price(manager, 50), is_bundle=True, bundled_product_offering=[C.BundledProductOffering(id=part.id)]
    )
    released(pattern(off("10", "unitPercentage", product_offering=[Ref(id=bundle.id)])))
    answer = manager.price(item(bundle), item(part, 1, "2"))
    assert totals(answer)["oneTime"][0] == "235.00"
    check(manager, answer)
    released(pattern(off("20", "unitPercentage", product_offering=[Ref(id=part.id)])))
    new = an_offering(manager, a_price(manager, 200), series=part.id)
    answer = manager.price(pricing_pb2.PriceRequestItem(id="1", product_offering_id=new.id, exact_version=True))
    assert totals(answer)["oneTime"][0] == "160.00"
    check(manager, answer)


def test_delivery_is_discounted_apart(manager: Client, released: Callable[..., Any]) -> None:
    delivered = an_offering(manager, a_price(manager, 100), a_price(manager, 30, name="courier", charge="delivery"))
    released(pattern(off("40", "deliveryPercentage")))
    released()
    answer = manager.price(item(delivered))
    assert totals(answer)["oneTime"][0] == "108.00"
    check(manager, answer)


def test_list_prices_come_first_and_can_be_all_there_is(
    manager: Client, internet: Any, released: Callable[..., Any]
) -> None:
    released(
        pattern(off("20", "unitPercentage", product_offering=[Ref(id=internet.id)]), criteria("branch", "<>", "osh")),
        on_list_price=True,
    )
    released(pattern(off("10", "unitPercentage")), applies_to_discounted=False)
    tv = an_offering(manager, a_price(manager, 100))
    answer = manager.price(item(internet), item(tv, 1, "2"), branch="bishkek")
    assert totals(answer)["oneTime"][0] == "490.00"
    # Who doesn't say where they buy may be anywhere.
    assert totals(manager.price(item(internet), item(tv, 1, "2")))["oneTime"][0] == "540.00"
    check(manager, answer)


def test_only_what_is_valid_at_the_time_is_granted(
    manager: Client, internet: Any, released: Callable[..., Any]
) -> None:
    past = values_pb2.TimePeriod()
    past.end_date_time.FromJsonString("2020-01-01T00:00:00Z")
    over = released(valid_for=past)
    answer = manager.price(item(internet))
    assert totals(answer)["oneTime"][0] == "500.00"
    assert over.id.encode() not in answer.receipt.inputs


def test_a_coupon_opens_its_promotion_or_says_why_not(
    manager: Client, client_for: Callable[..., Client], internet: Any, released: Callable[..., Any]
) -> None:
    agent, ordering = client_for(["agent"]), client_for(["service"])
    opened = released(coupon_required=True)
    demanding = released(pattern(off(), criteria("quantity", ">", "5")), coupon_required=True)
    code, other, hidden = (f"{name}-{new_id()}".upper() for name in ("open", "demanding", "hidden"))
    manager.create(a_coupon(opened, code, usage_limit=2, customer_usage_limit=1))
    manager.create(a_coupon(demanding, other))
    manager.create(a_coupon(manager.create(a_promotion(coupon_required=True)), hidden))
    without = agent.price(item(internet))
    assert totals(without)["oneTime"][0] == "500.00"
    assert opened.id.encode() not in without.receipt.inputs
    answer = agent.price(item(internet), coupon=[code.lower(), other, hidden, code], customer_id="c")
    assert totals(answer)["oneTime"][0] == "450.00"
    assert said(answer, "COUPON_ACCEPTED") == [(code, "")]
    assert said(answer, "COUPON_REJECTED") == [
        (other, "quantity > 5 doesn't hold: it is 1"),
        (hidden, "its promotion isn't on offer"),
    ]
    check(manager, answer)
    told = agent.call("ExplainPrice", pricing_pb2.ExplainPriceRequest(receipt=answer.receipt, language="en")).line
    assert list(told)[-3:] == [
        f"The coupon “{code}” counts.",
        f"The coupon “{other}” doesn't count: quantity > 5 doesn't hold: it is 1.",
        f"The coupon “{hidden}” doesn't count: its promotion isn't on offer.",
    ]
    assert any("the promotion “spring” takes off" in line for line in told)
    assert agent.call("ExplainPrice", pricing_pb2.ExplainPriceRequest(receipt=answer.receipt, language="ru")).line
    redeem(ordering, code, new_id(), "c")
    assert totals(agent.price(item(internet), coupon=[code], customer_id="d"))["oneTime"][0] == "450.00"
    refused(lambda: agent.price(item(internet), coupon=[code], customer_id="c"), InvalidArgument, "COUPON_EXHAUSTED")
    redeem(ordering, code, new_id(), "d")
    error = refused(lambda: agent.price(item(internet), coupon=[other, code]), InvalidArgument, "COUPON_EXHAUSTED")
    assert [violation.field for violation in error.violations] == ["context.coupon[1]"]
    refused(lambda: agent.price(item(internet), coupon=["nothing"]), InvalidArgument, "COUPON_UNKNOWN")
    # What was quoted stays what it was, though the coupon is used up by now.
    check(manager, answer)
