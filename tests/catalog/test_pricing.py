"""What things cost: each rule by an example."""

import json
from dataclasses import replace
from decimal import Context, Decimal
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse

from catalog.pricing.messages import response
from catalog.pricing.money import rounded
from catalog.pricing.offers import charge_period
from catalog.pricing.pricing import Item, PriceComponent, Pricing, replay
from catalog.pricing.receipts import Receipt, Step
from catalog.product.domain import LifecycleStatus, ProductOffering, ProductOfferingPrice
from catalog.product.values import (
    BundledProductOfferingPriceRelationship,
    POPAlteration,
    ProductOfferingPriceRefOrValue,
    ProductPriceValue,
)
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.types import Duration, Json, Money, ProductSpecificationRef
from svyaz.catalog.v1.pricing_pb2 import PriceResponse
from tests.catalog.things import (
    AFTER,
    BEFORE,
    NOW,
    a_discount,
    a_price,
    altered_by,
    an_offering,
    by_value,
    kgs,
    money,
    parts,
    quote,
    refs,
    since,
    until,
    vat,
)


def charge(pricing: Pricing) -> PriceComponent:
    """The only component of the only item."""
    (item,) = pricing.item
    (component,) = item.component
    return component


def steps(pricing: Pricing, action: str) -> list[Step]:
    return [step for step in pricing.receipt.step if step.action == action]


def amounts(component: PriceComponent) -> tuple[Decimal | None, ...]:
    return component.list_amount.value, component.amount.value, component.tax_included_amount.value


def monthly(*prices: ProductOfferingPrice, **more: object) -> tuple[ProductOffering, list[ProductOfferingPrice]]:
    """An offering with the first price, and whatever that one is altered by."""
    return an_offering("o", *refs(prices[0].id), **more), list(prices)


def test_a_monthly_price_times_its_quantity() -> None:
    offering, prices = monthly(a_price("p", "500 KGS"))
    pricing = quote(offering, prices, Item("line", "o", 3))
    item = pricing.item[0]
    assert (item.id, item.product_offering.id, item.quantity, item.is_bundle) == ("line", "o", 3, False)
    component = charge(pricing)
    assert component.product_offering_price is not None
    assert component.product_offering_price.id == "p"
    assert (component.price_type, component.recurring_charge_period) == ("recurring", "month")
    assert component.amount == kgs("1500.00")
    assert component.tax_rate is None
    assert component.tax_included_amount == kgs("1500.00")
    assert [(s.action, s.before, s.after) for s in pricing.receipt.step] == [
        ("PRICE_FOUND", None, "500 KGS"),
        ("QUANTITY", "500 KGS", "1500 KGS"),
    ]


def test_all_prices_of_an_offering_apply_and_totals_are_kept_apart() -> None:
    prices = [
        a_price("fee", "300 KGS", None),
        a_price("line", "500 KGS", tax=vat("12")),
        a_price("box", "99.50 KGS"),
        a_price("support", "1000 KGS", "yearly"),
    ]
    pricing = quote(an_offering("o", *refs("fee", "line", "box", "support")), prices, Item("1", "o", 2), Item("2", "o"))
    assert [
        (t.price_type, t.recurring_charge_period, t.amount.value, t.tax_included_amount.value) for t in pricing.total
    ] == [
        ("oneTime", "", Decimal("900.00"), Decimal("900.00")),
        ("recurring", "month", Decimal("1798.50"), Decimal("1978.50")),
        ("recurring", "year", Decimal("3000.00"), Decimal("3000.00")),
    ]


def test_the_specification_is_named_for_who_orders() -> None:
    pricing = quote(an_offering(product_specification=ProductSpecificationRef(id="s", name="Fibre")))
    assert pricing.item[0].product_specification is not None
    assert (pricing.item[0].product_specification.id, pricing.item[0].component) == ("s", [])


# --- alterations -----------------------------------------------------------------------------------------------------


def test_a_linked_percentage_discount() -> None:
    offering, prices = monthly(a_price("p", "500 KGS", pop_relationship=altered_by("d")), a_discount("d", "10"))
    pricing = quote(offering, prices)
    component = charge(pricing)
    assert amounts(component) == (Decimal("500.00"), Decimal("450.00"), Decimal("450.00"))
    (alteration,) = component.alteration
    assert alteration.product_offering_price is not None
    assert (alteration.product_offering_price.id, alteration.percentage, alteration.amount) == (
        "d",
        Decimal(-10),
        kgs("-50.00"),
    )
    (step,) = steps(pricing, "ALTERATION_APPLIED")
    assert (step.rule, step.before, step.after) == ("d", "500 KGS", "450 KGS")


@pytest.mark.parametrize("percent", ["10", "-10"])
def test_an_alteration_is_a_discount_whatever_its_sign(percent: str) -> None:
    offering, prices = monthly(
        a_price("p", "500 KGS", pop_relationship=altered_by("d", relationship_type="alteration")),
        a_discount("d", percent),
    )
    assert charge(quote(offering, prices)).amount == kgs("450.00")


def test_a_surcharge_is_called_one() -> None:
    offering, prices = monthly(
        a_price("p", "500 KGS", pop_relationship=altered_by("s", relationship_type="surcharge")), a_discount("s", "10")
    )
    assert charge(quote(offering, prices)).amount == kgs("550.00")


def test_a_fixed_discount_is_per_unit() -> None:
    offering, prices = monthly(a_price("p", "20 KGS", pop_relationship=altered_by("d")), a_discount("d", None, "5 KGS"))
    assert charge(quote(offering, prices, Item("1", "o", 3))).amount == kgs("45.00")


def test_alterations_apply_by_priority() -> None:
    first, second = a_discount("z", "50", priority=1), a_discount("a", None, "10 KGS", priority=2)
    offering, prices = monthly(a_price("p", "100 KGS", pop_relationship=altered_by("a", "z")), second, first)
    pricing = quote(offering, prices)
    assert charge(pricing).amount == kgs("40.00")
    assert [step.rule for step in steps(pricing, "ALTERATION_APPLIED")] == ["z", "a"]


def test_alterations_of_one_priority_reckon_from_the_same_amount() -> None:
    for links in (("a", "b"), ("b", "a")):
        offering, prices = monthly(
            a_price("p", "100 KGS", pop_relationship=altered_by(*links)), a_discount("a", "10"), a_discount("b", "20")
        )
        component = charge(quote(offering, prices))
        assert component.amount == kgs("70.00")
        assert [a.amount.value for a in component.alteration] == [Decimal("-10.00"), Decimal("-20.00")]


def test_discounts_stop_at_zero() -> None:
    offering, prices = monthly(
        a_price("p", "100 KGS", pop_relationship=altered_by("a", "b")), a_discount("a", "60"), a_discount("b", "60")
    )
    pricing = quote(offering, prices)
    component = charge(pricing)
    assert component.amount == kgs("0.00")
    assert [a.amount.value for a in component.alteration] == [Decimal("-60.00"), Decimal("-40.00")]
    assert steps(pricing, "ALTERATION_APPLIED")[0].reason == "a; not below zero"


def test_a_credit_has_no_floor() -> None:
    offering, prices = monthly(
        a_price("p", "-100 KGS", None, pop_relationship=altered_by("a")), a_discount("a", None, "30 KGS")
    )
    assert charge(quote(offering, prices)).amount == kgs("-130.00")


def test_a_percentage_beside_the_prices_alters_them_all() -> None:
    prices = [a_price("p", "100 KGS"), a_price("q", "50 KGS", None), a_discount("d", "10")]
    pricing = quote(an_offering("o", *refs("p", "q", "d")), prices)
    assert [c.amount.value for c in pricing.item[0].component] == [Decimal("90.00"), Decimal("45.00")]


def test_alterations_that_do_not_hold_are_left_out_and_say_why() -> None:
    expired = replace_price(a_discount("expired", "10"), valid_for=until(BEFORE))
    draft = replace_price(a_discount("draft", "10"), lifecycle_status=LifecycleStatus.IN_TEST)
    dollars = a_discount("dollars", None, "1 USD")
    once = replace_price(a_discount("once", "10"), price_type="oneTime")
    offering, prices = monthly(
        a_price("p", "100 KGS", pop_relationship=altered_by("expired", "draft", "dollars", "once")),
        expired,
        draft,
        dollars,
        once,
    )
    pricing = quote(offering, prices)
    assert charge(pricing).amount == kgs("100.00")
    assert {step.rule: step.reason for step in steps(pricing, "REJECTED")} == {
        "expired": "isn't valid at that time",
        "draft": "is In test",
        "dollars": "it is in USD",
        "once": "it is for oneTime charges",
    }


def test_an_alteration_inside_the_offering_on_a_price_by_value() -> None:
    welcome = POPAlteration(
        name="Welcome",
        price_type="recurring",
        priority=1,
        price=ProductPriceValue(percentage=Decimal(20)),
        application_duration=Duration(amount=3, units="months"),
    )
    rebate = POPAlteration(
        name="Rebate", price_type="recurring", priority=2, price=ProductPriceValue(duty_free_amount=kgs("-10"))
    )
    value = ProductPriceValue(duty_free_amount=kgs("100"), tax_rate=Decimal(12))
    pricing = quote(an_offering("o", by_value(value, rebate, welcome)))
    component = charge(pricing)
    assert component.product_offering_price is None
    assert component.name == "by value"
    assert amounts(component) == (Decimal("100.00"), Decimal("70.00"), Decimal("78.40"))
    assert [(a.name, a.priority, a.amount.value) for a in component.alteration] == [
        ("Welcome", 1, Decimal("-20.00")),
        ("Rebate", 2, Decimal("-10.00")),
    ]
    assert steps(pricing, "ALTERATION_APPLIED")[0].reason == "Welcome; for 3 months"
    assert [a.application_duration for a in component.alteration] == [Duration(amount=3, units="month"), None]
    assert replay(pricing.receipt).item == pricing.item


def test_an_alteration_inside_the_offering_on_a_price_by_reference() -> None:
    extra = POPAlteration(name="Extra", price_type="discount", price=ProductPriceValue(percentage=Decimal(50)))
    offering = an_offering("o", ProductOfferingPriceRefOrValue(id="p", price_alteration=(extra,)))
    assert charge(quote(offering, [a_price("p", "100 KGS")])).amount == kgs("50.00")


# --- rounding and tax ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "currency", "result"),
    [
        ("2.345", "KGS", "2.35"),
        ("-2.345", "KGS", "-2.35"),
        ("2.344999", "KGS", "2.34"),
        ("2.5", "JPY", "3"),
        ("2.3455", "KWD", "2.346"),
        ("2.34555", "CLF", "2.3456"),
        ("-0.001", "KGS", "0.00"),
    ],
)
def test_rounding_is_half_away_from_zero_to_the_minor_unit(amount: str, currency: str, result: str) -> None:
    assert str(rounded(Decimal(amount), currency)) == result


def test_a_line_is_rounded_once_at_its_end() -> None:
    offering, prices = monthly(a_price("p", "0.333 KGS", pop_relationship=altered_by("d")), a_discount("d", "10"))
    pricing = quote(offering, prices, Item("1", "o", 100))
    assert amounts(charge(pricing)) == (Decimal("33.30"), Decimal("29.97"), Decimal("29.97"))
    pricing = quote(offering, prices)
    component = charge(pricing)
    assert amounts(component)[:2] == (Decimal("0.33"), Decimal("0.30"))
    assert component.alteration[0].amount == kgs("-0.03")
    assert [(s.before, s.after, s.reason) for s in steps(pricing, "ROUNDED")] == [
        ("0.333 KGS", "0.33 KGS", "list amount"),
        ("0.2997 KGS", "0.30 KGS", None),
    ]


def test_tax_is_added_to_the_rounded_amount() -> None:
    offering, prices = monthly(a_price("p", "99.99 KGS", tax=vat("12") + vat("1")))
    pricing = quote(offering, prices)
    component = charge(pricing)
    assert component.tax_rate == Decimal(13)
    assert component.tax_included_amount == kgs("112.99")
    (step,) = steps(pricing, "TAX_ADDED")
    assert (step.before, step.after, step.reason) == ("99.99 KGS", "112.99 KGS", "13 %")


@pytest.mark.parametrize("quantity", [1, 2, 3, 7, 1000])
def test_an_amount_quoted_with_tax_is_kept_to_the_cent(quantity: int) -> None:
    value = ProductPriceValue(tax_included_amount=kgs("99.99"), tax_rate=Decimal(12))
    component = charge(quote(an_offering("o", by_value(value)), (), Item("1", "o", quantity)))
    assert component.tax_included_amount.value == Decimal("99.99") * quantity
    assert component.amount.value == rounded(Decimal("99.99") * quantity / Decimal("1.12"), "KGS")


def test_discounts_and_prices_may_differ_in_including_tax() -> None:
    def off(**value: Money) -> POPAlteration:
        return POPAlteration(name="off", price_type="discount", price=ProductPriceValue(**value))  # type: ignore[arg-type]

    gross = ProductPriceValue(tax_included_amount=kgs("112"), tax_rate=Decimal(12))
    net = ProductPriceValue(duty_free_amount=kgs("100"), tax_rate=Decimal(12))
    for value in (gross, net):
        for discount in (off(duty_free_amount=kgs("10")), off(tax_included_amount=kgs("11.20"))):
            component = charge(quote(an_offering("o", by_value(value, discount))))
            assert amounts(component) == (Decimal("100.00"), Decimal("90.00"), Decimal("100.80"))


def test_amounts_stay_exact_beyond_what_a_float_holds() -> None:
    offering, prices = monthly(a_price("p", "9007199254740993.01 KGS"))
    assert charge(quote(offering, prices, Item("1", "o", 999_999_999))).amount.value == (
        Decimal("9007199254740993.01") * 999_999_999
    ).quantize(Decimal("0.01"), context=Context(prec=60))


# --- time and currency -----------------------------------------------------------------------------------------------


def test_the_price_that_holds_at_the_instant() -> None:
    prices = [a_price("old", "100 KGS", valid_for=until(NOW)), a_price("new", "120 KGS", valid_for=since(NOW))]
    offering = an_offering("o", *refs("old", "new"))
    assert charge(quote(offering, prices, at=BEFORE)).amount == kgs("100.00")
    pricing = quote(offering, prices, at=NOW)
    assert charge(pricing).amount == kgs("120.00")
    assert [(s.rule, s.reason) for s in steps(pricing, "REJECTED")] == [("old", "isn't valid at that time")]


def test_the_price_in_the_currency_that_is_asked_for() -> None:
    prices = [
        a_price("k", "500 KGS"),
        a_price("u", "6 USD"),
        a_price("k1", "300 KGS", None),
        a_price("u1", "4 USD", None),
    ]
    offering = an_offering("o", *refs("k", "u", "k1", "u1"))
    pricing = quote(offering, prices, currency="USD")
    assert [c.amount for c in pricing.item[0].component] == [money("6.00 USD"), money("4.00 USD")]
    with pytest.raises(InvalidArgument) as refused:
        quote(offering, prices)
    assert refused.value.reason == "CURRENCY_REQUIRED"
    assert refused.value.violations[0].description.endswith("is priced in KGS, USD")


def test_an_offering_without_a_price_in_the_currency_is_refused() -> None:
    offering, prices = monthly(a_price("p", "500 KGS"))
    with pytest.raises(InvalidArgument) as refused:
        quote(offering, prices, Item("1", "o"), Item("2", "o"), currency="USD")
    assert refused.value.reason == "NO_PRICE_IN_CURRENCY"
    assert [v.field for v in refused.value.violations] == ["item[0].product_offering_id", "item[1].product_offering_id"]


def test_no_kind_of_charge_is_dropped_for_lack_of_the_currency() -> None:
    prices = [a_price("k", "500 KGS"), a_price("u", "6 USD"), a_price("fee", "300 KGS", None)]
    offering = an_offering("o", *refs("k", "u", "fee"))
    with pytest.raises(InvalidArgument) as refused:
        quote(offering, prices, currency="USD")
    assert refused.value.reason == "NO_PRICE_IN_CURRENCY"
    assert quote(offering, prices).total[0].amount == kgs("300.00")


def test_a_whole_bundle_is_priced_in_one_currency() -> None:
    offerings = [
        an_offering("b", bundled_product_offering=parts(k=1, u=1)),
        an_offering("k", *refs("k")),
        an_offering("u", *refs("u")),
    ]
    with pytest.raises(InvalidArgument) as refused:
        quote(offerings, [a_price("k", "1 KGS"), a_price("u", "1 USD")])
    assert refused.value.reason == "NO_PRICE_IN_CURRENCY"


def test_what_is_free_costs_nothing_in_any_currency() -> None:
    assert quote(an_offering(), currency="USD").total == ()


def test_what_is_charged_elsewhere_is_not_charged_by_being_ordered() -> None:
    prices = [a_price("p", "500 KGS"), a_price("deposit", "1 KGS", None, price_type="deposit")]
    pricing = quote(an_offering("o", *refs("p", "deposit")), prices)
    assert charge(pricing).name == "p"
    assert steps(pricing, "REJECTED")[0].reason == "deposit isn't charged by being ordered"


@pytest.mark.parametrize(
    ("name", "length", "period"),
    [
        ("monthly", 1, "month"),
        ("Month", None, "month"),
        ("month", 3, "3 month"),
        ("quarterly", 1, "3 month"),
        ("half-yearly", 1, "6 month"),
        ("annual", 0, "year"),
        ("fortnight", 1, "2 week"),
        ("Hours", 36, "36 hour"),
        ("minutes", None, "minute"),
        ("seconds", 90, "90 second"),
        ("blue moon", 1, "blue moon"),
        (None, 1, ""),
    ],
)
def test_the_spellings_of_periods(name: str | None, length: int | None, period: str) -> None:
    assert charge_period(name, length) == period


# --- bundles ---------------------------------------------------------------------------------------------------------


def test_a_bundle_costs_its_own_prices_and_those_of_its_parts_in_their_number() -> None:
    offerings = [
        an_offering("b", *refs("pb"), is_bundle=True, bundled_product_offering=parts(tv=2, sim=None, extra=0)),
        an_offering("tv", *refs("ptv"), is_sellable=False, bundled_product_offering=parts(box=3)),
        an_offering("sim", *refs("psim")),
        an_offering("extra", *refs("psim")),
        an_offering("box", *refs("pbox")),
    ]
    prices = [
        a_price("pb", "10 KGS"),
        a_price("ptv", "20 KGS"),
        a_price("psim", "5 KGS"),
        a_price("pbox", "1 KGS", None),
    ]
    pricing = quote(offerings, prices, Item("i", "b", 2))
    bundle = pricing.item[0]
    assert bundle.is_bundle
    assert [(part.id, part.quantity, part.component[0].amount.value) for part in bundle.bundled_item] == [
        ("i/tv", 4, Decimal("80.00")),
        ("i/sim", 2, Decimal("10.00")),
    ]
    (box,) = bundle.bundled_item[0].bundled_item
    assert (box.id, box.quantity, box.component[0].amount) == ("i/tv/box", 12, kgs("12.00"))
    assert [t.amount for t in pricing.total] == [kgs("12.00"), kgs("110.00")]


def test_a_price_that_is_a_bundle_of_prices() -> None:
    bundle = a_price(
        "pb",
        bundled_pop_relationship=tuple(BundledProductOfferingPriceRelationship(id=i) for i in ("p1", "p2")),
        pop_relationship=altered_by("d"),
    )
    prices = [bundle, a_price("p1", "100 KGS"), a_price("p2", "10 KGS", None), a_discount("d", "10")]
    pricing = quote(an_offering("o", *refs("pb")), prices)
    assert [(c.price_type, c.amount.value) for c in pricing.item[0].component] == [
        ("recurring", Decimal("90.00")),
        ("oneTime", Decimal("9.00")),
    ]


# --- refusals --------------------------------------------------------------------------------------------------------


def test_every_unknown_offering_is_named() -> None:
    with pytest.raises(InvalidArgument) as refused:
        quote(an_offering(), (), Item("1", "nowhere"), Item("2", "o"), Item("3", "never"))
    assert refused.value.reason == "UNKNOWN_OFFERING"
    assert [v.field for v in refused.value.violations] == ["item[0].product_offering_id", "item[2].product_offering_id"]


@pytest.mark.parametrize("status", [s for s in LifecycleStatus if not s.live])
def test_only_what_is_live_is_sold(status: LifecycleStatus) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        quote(an_offering(lifecycle_status=status))
    assert refused.value.reason == "OFFERING_NOT_SELLABLE"
    assert refused.value.metadata == {"product_offering_id": "o", "lifecycle_status": status.value}
    assert refused.value.violations[0].field == "item[0].product_offering_id"
    assert refused.value.violations[0].description == f"offering o is {status}"


def test_nothing_is_sold_incomplete() -> None:
    looped = a_price("l", bundled_pop_relationship=(BundledProductOfferingPriceRelationship(id="l"),))
    hopeless = [
        an_offering("o", *refs("gone")),
        an_offering("o", *refs("altered")),
        an_offering("o", *refs("l")),
        an_offering("o", *refs("retired")),
        an_offering("o", valid_for=until(BEFORE)),
        an_offering("o", is_sellable=False),
        an_offering("o", bundled_product_offering=parts(gone=1)),
        an_offering("o", bundled_product_offering=parts(o=1)),
    ]
    prices = [
        a_price("retired", "1 KGS", lifecycle_status=LifecycleStatus.RETIRED),
        a_price("altered", "1 KGS", pop_relationship=altered_by("gone")),
        looped,
    ]
    for offering in hopeless:
        with pytest.raises(FailedPrecondition) as refused:
            quote(offering, prices)
        assert refused.value.reason == "OFFERING_NOT_SELLABLE"


def test_a_bundle_is_sold_only_with_all_its_parts() -> None:
    offerings = [
        an_offering("b", bundled_product_offering=parts(x=1)),
        an_offering("x", lifecycle_status=LifecycleStatus.RETIRED),
    ]
    with pytest.raises(FailedPrecondition) as refused:
        quote(offerings)
    assert refused.value.metadata == {"product_offering_id": "x", "lifecycle_status": "Retired"}


@pytest.mark.parametrize(
    ("item", "reason", "field"),
    [
        (Item("1", "o", 0), "INVALID_QUANTITY", "item[1].quantity"),
        (Item("1", "o", -1), "INVALID_QUANTITY", "item[1].quantity"),
        (Item("0", "o"), "DUPLICATE_ITEM", "item[1].id"),
    ],
)
def test_items_that_make_no_sense(item: Item, reason: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        quote(an_offering(), (), Item("0", "o"), item)
    assert (refused.value.reason, refused.value.violations[0].field) == (reason, field)


def test_bundles_that_explode_are_refused() -> None:
    offerings = [
        an_offering(f"b{n}", bundled_product_offering=parts(**{f"b{n + 1}": 1, f"c{n + 1}": 1})) for n in range(12)
    ]
    offerings += [
        an_offering(f"c{n}", bundled_product_offering=parts(**{f"b{n + 1}": 1, f"c{n + 1}": 1})) for n in range(1, 12)
    ]
    offerings += [an_offering("b12"), an_offering("c12")]
    with pytest.raises(InvalidArgument) as refused:
        quote(offerings)
    assert refused.value.reason == "TOO_MANY_LINES"
    many = [an_offering("b", bundled_product_offering=parts(c=2**31 - 1)), an_offering("c")]
    with pytest.raises(InvalidArgument):
        quote(many, (), Item("1", "b", 2))


# --- receipts --------------------------------------------------------------------------------------------------------


def test_a_receipt_holds_all_that_the_answer_rests_on_and_no_more() -> None:
    offerings = [an_offering("o", *refs("p")), an_offering("unused")]
    pricing = quote(offerings, [a_price("p", "500 KGS")], Item("1", "o", 2))
    inputs = json.loads(pricing.receipt.inputs.text)
    assert inputs["context"] == {"at": "2026-03-01T12:00:00Z", "branch": "", "currency": "", "customer_id": ""}
    assert inputs["items"] == [{"id": "1", "product_offering_id": "o", "quantity": 2}]
    assert [offer["id"] for offer in inputs["offers"]] == ["o"]
    assert inputs["offers"][0]["charges"][0]["amount"] == "500"


def test_a_receipt_of_the_first_revision_gives_the_same_bytes_still() -> None:
    kept = Parse((Path(__file__).parent / "fixtures/price_of_revision_1.json").read_text(), PriceResponse())
    assert kept.receipt.revision == "1"
    pricing = replay(Receipt(kept.receipt.engine, kept.receipt.revision, Json(kept.receipt.inputs.decode()), ()))
    assert response(pricing) == kept
    assert response(pricing).SerializeToString(deterministic=True) == kept.SerializeToString(deterministic=True)


def test_a_receipt_of_another_engine_is_not_replayed() -> None:
    receipt = quote(an_offering()).receipt
    receipt.revision = "0"
    with pytest.raises(InvalidArgument):
        replay(receipt)


def replace_price(price: ProductOfferingPrice, **changes: object) -> ProductOfferingPrice:
    return replace(price, **changes)  # type: ignore[arg-type]


def test_prices_may_start_later() -> None:
    offering, prices = monthly(a_price("p", "1 KGS", valid_for=since(AFTER)))
    with pytest.raises(FailedPrecondition) as refused:
        quote(offering, prices)
    assert "no price" in refused.value.message
