"""What promotions go on taking off what is held: whatever was granted, to the cent, and nothing more."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.pricing.offers import Offer
from catalog.pricing.pricing import Item, PriceComponent, Pricing, PricingContext, parse_context, price, replay
from catalog.pricing.values import HeldCharge, HeldDiscount, PricedItem
from catalog.promotion.engine import Coupon
from catalog.promotion.held import Discount, Held, held_of, parse, plain
from catalog.promotion.pricing import INPUT, Basis, parse_basis, promoted, relevant
from catalog.promotion.terms import Terms, parse_terms
from chassis.types import Duration, Money, TaxItem, TimePeriod
from tests.catalog.things import NOW, a_price, an_offering, compiled, parts, refs

DAY = timedelta(days=1)
VAT = (TaxItem(tax_rate=Decimal(12)),)


def terms(id: str, *actions: dict[str, Any], priority: int = 0, total: str = "", **more: Any) -> Terms:
    blank: dict[str, Any] = {
        "off": "order", "percentage": None, "amount": None, "products": [], "categories": [], "price_min": None,
        "price_max": None, "kind": "", "period": "", "floor": "0", "duration": None,
    }  # fmt: skip
    conditions = [{"fact": "total", "operator": ">=", "value": total, "of": ""}] if total else []
    pattern = {
        "rule": {"any_of": False, "conditions": conditions},
        "actions": [{**blank, **action} for action in actions],
        "valid_for": ["", ""],
    }
    data = {
        "id": id, "name": f"promotion {id}", "priority": priority, "patterns": [pattern], "exclusive": False,
        "exclusion_group": "", "needs_coupon": False, "applies_to_discounted": True, "on_list_price": False,
        "currency": "KGS", "valid_for": ["", ""],
    }  # fmt: skip
    return parse_terms({**data, **more})


def asked(
    offers: Mapping[str, Offer],
    *items: Item,
    on_offer: tuple[Terms, ...] = (),
    coupons: tuple[Coupon, ...] = (),
    at: datetime = NOW,
    held: tuple[HeldCharge, ...] = (),
) -> Pricing:
    """The price, after the receipt has given the same again."""
    context = PricingContext(at=at, held_charge=held)
    pricing = price(items, offers, context)
    basis = Basis(relevant(on_offer, coupons, pricing, context), coupons, {}, held_of(context, offers))
    made = promoted(pricing, context, offers, basis)
    inputs = json.loads(made.receipt.inputs.text)
    if INPUT in inputs:
        again = promoted(replay(made.receipt), parse_context(inputs["context"]), offers, parse_basis(inputs[INPUT]))
        assert (again.item, again.total, again.receipt.inputs) == (made.item, made.total, made.receipt.inputs)
        assert list(again.receipt.step) == list(made.receipt.step)
    return made


def sold(item: PricedItem, part: str = "") -> tuple[HeldCharge, ...]:
    """What the inventory knows of an item that was priced so."""

    def kgs(value: Decimal | None) -> Money | None:
        return None if value is None else Money(unit="KGS", value=value)

    own = tuple(
        HeldCharge(
            item_id="1",
            bundled_offering_id=part,
            product_offering_price_id=component.rule,
            name=component.name,
            recurring_charge_period=component.recurring_charge_period,
            amount=kgs(component.net),
            tax_included_amount=kgs(component.gross),
            alteration=tuple(
                HeldDiscount(
                    product_offering_price=one.product_offering_price,
                    name=one.name,
                    priority=one.priority,
                    percentage=one.percentage,
                    amount=one.amount,
                    tax_included_amount=kgs(one.gross),
                    application_duration=one.application_duration,
                    valid_for=one.valid_for,
                )
                for one in component.alteration
            ),
        )
        for component in item.component
        if component.price_type == "recurring"
    )
    return own + tuple(one for inner in item.bundled_item for one in sold(inner, inner.product_offering.id or ""))


def changed(offers: Mapping[str, Offer], offering: str, was: PricedItem, **more: Any) -> Pricing:
    return asked(offers, Item("1", offering, was.quantity, started_at=NOW), held=sold(was), **more)


def paid(item: PricedItem) -> list[tuple[str, Decimal, Decimal]]:
    own = [(one.rule, one.net, one.gross) for one in item.component]
    return own + [one for inner in item.bundled_item for one in paid(inner)]


def net(pricing: Pricing) -> list[str]:
    return [f"{one.net:.2f}" for item in pricing.item for one in item.component]


def monthly(id: str, som: str, **more: Any) -> Any:
    return a_price(id, f"{som} KGS", **more)


def alone(*prices: Any) -> dict[str, Offer]:
    """Each price in an offering that is called as it is."""
    return compiled([an_offering(one.id, *refs(one.id)) for one in prices], prices)


AMOUNTS = st.decimals("0.01", "2000", places=2)
ACTIONS = st.builds(
    lambda off, value, percent, floor, duration: {
        "off": off,
        "percentage": f"{value / 20:f}" if percent else None,
        "amount": None if percent else f"{value:f}",
        "kind": "recurring",
        "period": "month",
        "floor": floor,
        "duration": duration,
    },
    st.sampled_from(["order", "unit"]),
    AMOUNTS,
    st.booleans(),
    st.sampled_from(["0", "0", "100"]),
    st.sampled_from([None, {"amount": 2, "units": "month"}, {"amount": 2, "units": ""}]),
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(AMOUNTS, st.integers(1, 4), st.booleans()), min_size=1, max_size=4),
    st.lists(st.tuples(st.lists(ACTIONS, min_size=1, max_size=2), st.booleans()), min_size=1, max_size=3),
)
def test_what_stays_costs_what_it_did_to_the_cent(
    lines: list[tuple[Decimal, int, bool]], granted: list[tuple[list[dict[str, Any]], bool]]
) -> None:
    offers = alone(
        *(monthly(f"p{i}", f"{som:f}", tax=VAT, tax_included=with_tax) for i, (som, _, with_tax) in enumerate(lines))
    )
    on_offer = tuple(
        terms(f"t{i}", *actions, priority=i, on_list_price=on_list and all(one["off"] == "unit" for one in actions))
        for i, (actions, on_list) in enumerate(granted)
    )
    made = asked(offers, *(Item(str(i), f"p{i}", n) for i, (_, n, _) in enumerate(lines)), on_offer=on_offer)
    for i, was in enumerate(made.item):
        now = changed(offers, f"p{i}", was, on_offer=on_offer, at=NOW + DAY).item[0]
        assert paid(now) == paid(was)
        # And so it does when it is changed again: what ends has said when by then.
        again = changed(offers, f"p{i}", now, at=NOW + 2 * DAY).item[0]
        assert paid(again) == paid(was)
        assert [one.valid_for for one in again.component[0].alteration] == [
            one.valid_for for one in now.component[0].alteration
        ]


@pytest.mark.parametrize(
    ("actions", "left"),
    [
        ([{"percentage": "10"}], "180.00"),
        ([{"percentage": "10"}, {"percentage": "10"}], "162.00"),
        ([{"off": "unit", "percentage": "10"}, {"off": "unit", "percentage": "10"}], "160.00"),
        ([{"amount": "30"}], "170.00"),
        ([{"amount": "30"}, {"percentage": "10"}], "153.00"),
        # A minimum price of 95 cut it short: 5 of 50 %.
        ([{"percentage": "50", "floor": "95"}], "195.00"),
    ],
    ids=str,
)
def test_of_another_amount_a_percentage_is_reckoned_as_it_was(actions: list[dict[str, Any]], left: str) -> None:
    offers = alone(monthly("p", "100"), monthly("dear", "200"))
    (was,) = asked(offers, Item("1", "p"), on_offer=(terms("t", *actions),)).item
    assert net(changed(offers, "dear", was)) == [left]


def test_an_amount_never_leaves_less_than_nothing() -> None:
    offers = alone(monthly("p", "100"), monthly("cheap", "20"), monthly("credit", "-20"))
    (was,) = asked(offers, Item("1", "p"), on_offer=(terms("t", {"amount": "30"}, {"percentage": "10"}),)).item
    assert net(changed(offers, "cheap", was)) == ["0.00"]
    assert net(changed(offers, "credit", was)) == ["-20.00"]


def test_it_ends_counted_from_when_the_product_began_or_as_it_has_been_said() -> None:
    offers = alone(monthly("p", "100"))
    for duration in ({"amount": 3, "units": "month"}, {"amount": 3, "units": ""}):
        on_offer = (terms("t", {"percentage": "10", "duration": duration}),)
        (was,) = asked(offers, Item("1", "p"), on_offer=on_offer).item
        end = datetime(NOW.year, NOW.month + 3, NOW.day, NOW.hour, tzinfo=UTC)
        for at, left in ((end - DAY, "90.00"), (end, "100.00")):
            now = changed(offers, "p", was, at=at, on_offer=on_offer)
            assert net(now) == [left]
            ended = [step for step in now.receipt.step if step.action == "PROMOTION_REJECTED"]
            assert len(ended) == (at == end)
        (before,) = changed(offers, "p", was, at=end - DAY).item
        assert before.component[0].alteration[0].valid_for == TimePeriod(start_date_time=NOW, end_date_time=end)
        # What has been said counts, whenever the product began.
        later = Item("1", "p", started_at=NOW + DAY)
        assert net(asked(offers, later, held=sold(before), at=end)) == ["100.00"]


def test_what_is_held_is_granted_nothing_and_counts_for_no_condition() -> None:
    offers = alone(monthly("p", "900"), monthly("new", "300"))
    on_offer = (terms("t", {"percentage": "10"}, total="1000"), terms("u", {"amount": "50"}, priority=1))
    items = (Item("1", "p", started_at=NOW - DAY), Item("2", "new"))
    assert net(asked(offers, *items, on_offer=on_offer)) == ["900.00", "250.00"]
    assert net(asked(offers, items[0], on_offer=on_offer)) == ["900.00"]
    enough = asked(offers, items[0], replace(items[1], quantity=4), on_offer=on_offer)
    assert net(enough) == ["900.00", "1030.00"]


def test_a_coupon_is_accepted_only_for_what_is_bought() -> None:
    offers = alone(monthly("p", "100"))
    on_offer = (terms("t", {"percentage": "10"}, needs_coupon=True),)
    coupons = (Coupon("C", "t"),)
    (was,) = asked(offers, Item("1", "p"), on_offer=on_offer, coupons=coupons).item
    held = asked(offers, Item("1", "p", started_at=NOW), held=sold(was), on_offer=on_offer, coupons=coupons)
    said = {step.rule: step.action for step in held.receipt.step if step.action.startswith("COUPON")}
    assert (net(held), said) == (["90.00"], {"C": "COUPON_REJECTED"})
    both = (Item("1", "p", started_at=NOW), Item("2", "p"))
    made = asked(offers, *both, held=sold(was), on_offer=on_offer, coupons=coupons)
    said = {step.rule: step.action for step in made.receipt.step if step.action.startswith("COUPON")}
    assert (net(made), said) == (["90.00", "90.00"], {"C": "COUPON_ACCEPTED"})


def test_what_was_taken_off_a_one_time_charge_has_been_had() -> None:
    prices = [a_price("once", "300 KGS", None), monthly("p", "100")]
    offers = compiled([an_offering("o", *refs("once", "p"))], prices)
    (was,) = asked(offers, Item("1", "o"), on_offer=(terms("t", {"percentage": "10"}),)).item
    assert [f"{one.net:.2f}" for one in was.component] == ["270.00", "90.00"]
    assert net(changed(offers, "o", was)) == ["300.00", "90.00"]


def test_a_charge_is_known_again_by_its_price_its_name_or_its_place() -> None:
    line, address = monthly("line", "500"), monthly("address", "100")
    new = [monthly("line2", "700", name="line"), monthly("address2", "200", name="address")]
    others = [monthly("a", "800"), monthly("b", "300"), monthly("q", "90", period="quarter")]
    offers = compiled(
        [
            an_offering("o", *refs("line", "address")),
            an_offering("turned", *refs("address", "line")),
            an_offering("named", *refs("address2", "line2")),
            an_offering("placed", *refs("q", "a", "b")),
            an_offering("without", *refs("address", "a")),
        ],
        [line, address, *new, *others],
    )
    (was,) = asked(offers, Item("1", "o"), on_offer=(terms("t", {"amount": "60", "kind": "recurring"}),)).item

    def off(offering: str) -> dict[str, Decimal]:
        (now,) = changed(offers, offering, was).item
        return {one.rule: one.listed - one.net for one in now.component}

    assert off("turned") == {"address": 10, "line": 50}
    assert off("named") == {"address2": 10, "line2": 50}
    assert off("placed") == {"q": 0, "a": 50, "b": 10}
    # What isn't there any more takes its own along.
    assert off("without") == {"address": 10, "a": 0}


def test_parts_of_a_bundle_have_what_each_was_granted_in_every_version() -> None:
    prices = [monthly("phone", "600"), monthly("tv", "400"), monthly("tv2", "500"), monthly("net", "50")]
    tv2 = an_offering("TV2", *refs("tv2"), series="TV")
    offerings = [
        an_offering("PHONE", *refs("phone")),
        an_offering("TV", *refs("tv")),
        an_offering("NET", *refs("net")),
        an_offering("o", bundled_product_offering=parts(PHONE=1, TV=1)),
        an_offering("slim", bundled_product_offering=parts(TV2=1, NET=1)),
    ]
    offers = compiled(offerings, prices)
    (was,) = asked(offers, Item("1", "o"), on_offer=(terms("t", {"amount": "100"}),)).item
    assert [one[1] for one in paid(was)] == [540, 360]
    now = changed(offers, "o", was)
    assert paid(now.item[0]) == paid(was)
    assert [one[1] for one in paid(changed(compiled([*offerings, tv2], prices), "slim", was).item[0])] == [460, 50]


def test_components_are_left_as_they_are_without_anything_held() -> None:
    offers = alone(monthly("p", "100"))
    item = Item("1", "p", started_at=NOW)
    plain = price([item], offers, PricingContext(at=NOW))
    held = (HeldCharge(item_id="1", product_offering_price_id="p", name="p", recurring_charge_period="month"),)
    made = asked(offers, item, held=held)
    assert made == plain
    assert isinstance(made.item[0].component[0], PriceComponent)


@pytest.mark.parametrize("duration", [None, Duration(amount=3, units="month"), Duration(amount=3), Duration()])
def test_a_receipt_holds_a_duration_as_it_was_said(duration: Duration | None) -> None:
    discount = Discount("t", "promotion t", 0, Decimal(10), None, Decimal(5), duration)
    held = Held("", "p", "p", "month", "KGS", Decimal(90), None, (discount,))
    assert parse(json.loads(json.dumps(plain(held)))) == held
