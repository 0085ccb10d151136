"""Usage rated event by event comes to what `Price` says of its sum: one rule for discounts, bundles and tax."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.pricing.messages import response
from catalog.pricing.metering import sold_prices, usage_prices
from catalog.pricing.offers import compile_sold
from catalog.pricing.pricing import Item, Pricing, PricingContext, UsageQuantity, price, replay
from catalog.pricing.receipts import Receipt
from catalog.pricing.rules import NO_RULES
from catalog.pricing.usage import PeriodState, UsageEvent, UsageRating, rate_usage
from catalog.pricing.usage import replay as replay_usage
from catalog.product.domain import ProductOffering, ProductOfferingPrice
from catalog.product.values import BundlePricing, BundlePricingMode, PriceTier, PricingModel, PricingModelType
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.types import Duration, Json, Money
from tests.catalog.test_pricing_properties import decimals
from tests.catalog.things import BEFORE, NOW, a_discount, a_price, altered_by, an_offering, compiled, parts, refs, vat

ASKED = PricingContext(at=NOW)


def a_use(id: str, usage_type: str, amount: str, **more: Any) -> ProductOfferingPrice:
    model = PricingModel(
        model_type=PricingModelType.GRADUATED,
        usage_type=usage_type,
        tier=(
            PriceTier(up_to=Decimal(10), unit_amount=Decimal(amount)),
            PriceTier(unit_amount=Decimal(amount) / 3, flat_amount=Decimal("0.5")),
        ),
    )
    return replace(a_price(id, None, None, price_type="usage", pricing_model=model, **more), price=Money(unit="KGS"))


def bundle(mode: BundlePricingMode, percentage: str | None = None) -> BundlePricing:
    return BundlePricing(mode=mode, percentage=Decimal(percentage) if percentage else None)


def rated(
    prices: list[dict[str, Any]], used: dict[str, Decimal], before: dict[str, PeriodState] | None = None
) -> UsageRating:
    return rate_usage(
        prices, [UsageEvent("", kind, amount) for kind, amount in used.items()], zone="UTC", before=before
    )


def charges(rating: UsageRating) -> dict[str, tuple[Decimal | None, Decimal | None]]:
    return {one.price.rule: (one.amount.value, one.tax_included_amount.value) for one in rating.charge}


def used_charges(pricing: Pricing) -> dict[str, tuple[Decimal, Decimal]]:
    waiting, found = list(pricing.item), dict[str, tuple[Decimal, Decimal]]()
    while waiting:
        item = waiting.pop()
        waiting += item.bundled_item
        found |= {one.rule: (one.net, one.gross) for one in item.component if one.price_type == "usage"}
    return found


@st.composite
def bundles_of_use(draw: st.DrawFn) -> tuple[list[ProductOffering], list[ProductOfferingPrice]]:
    """Two parts by whose use a bundle is charged, with discounts of every kind, and one of the bundle."""
    alterations = []
    for n in range(draw(st.integers(0, 4))):
        percent = draw(st.none() | decimals("0.01", "150", 2).map(str))
        fixed = None if percent else draw(decimals("0.01", "30", 2).map(lambda value: f"{value} KGS"))
        one = a_discount(f"d{n}", percent, fixed, priority=draw(st.integers(0, 2)))
        group = draw(st.sampled_from([None, None, "g", "h"]))
        alterations.append(
            replace(
                one,
                exclusivity_group=group,
                may_be_negative=draw(st.booleans()),
                tax_included=draw(st.booleans()) if fixed else None,
            )
        )
    kinds = ("discount", "surcharge")
    uses = [
        a_use(
            f"use-{kind}",
            kind,
            draw(decimals("0", "5", 3).map(str)),
            tax_included=draw(st.booleans()),
            tax=vat(draw(decimals("0", "30", 2).map(str))) if draw(st.booleans()) else (),
            pop_relationship=tuple(
                relation
                for one in draw(st.permutations(alterations))
                for relation in altered_by(one.id, relationship_type=draw(st.sampled_from(kinds)))
            ),
        )
        for kind in ("voice", "data")
    ]
    percentage = draw(st.none() | decimals("0.01", "100", 2).map(str))
    pricing = bundle(BundlePricingMode.DISCOUNT, percentage) if percentage else None
    offerings = [
        an_offering("o", bundled_product_offering=parts(x=1, y=1), bundle_pricing=pricing),
        an_offering("x", *refs("use-voice")),
        an_offering("y", *refs("use-data")),
    ]
    return offerings, [*uses, *alterations]


QUANTITIES = decimals("0", "40", 2)


@settings(deadline=None)
@given(bundles_of_use(), QUANTITIES, QUANTITIES)
def test_events_come_to_what_their_sum_does(
    things: tuple[list[ProductOffering], list[ProductOfferingPrice]], voice: Decimal, data: Decimal
) -> None:
    offers, used = compiled(*things), {"voice": voice, "data": data}
    summed = price(
        [Item("1", "o", usage=tuple(UsageQuantity(kind, amount) for kind, amount in used.items()))], offers, ASKED
    )
    prices, _ = usage_prices(Item("1", "o"), offers, ASKED, NO_RULES)
    by_event = rated(prices, used)
    assert charges(by_event) == used_charges(summed)
    assert response(replay(summed.receipt)).SerializeToString(deterministic=True) == response(summed).SerializeToString(
        deterministic=True
    )
    again = replay_usage(Receipt(by_event.receipt.engine, by_event.receipt.revision, by_event.receipt.inputs, ()))
    assert again == by_event


@settings(deadline=None)
@given(bundles_of_use(), QUANTITIES, QUANTITIES)
def test_a_period_in_two_calls_comes_to_the_same(
    things: tuple[list[ProductOffering], list[ProductOfferingPrice]], first: Decimal, second: Decimal
) -> None:
    prices, _ = usage_prices(Item("1", "o"), compiled(*things), ASKED, NO_RULES)
    one = rated(prices, {"voice": first})
    other = rated(prices, {"voice": second}, {charge.price.rule: charge.state for charge in one.charge})
    whole = charges(rated(prices, {"voice": first + second}))
    for rule, (net, gross) in whole.items():
        amounts = [charges(part)[rule] for part in (one, other)]
        assert (sum(a or 0 for a, _ in amounts), sum(b or 0 for _, b in amounts)) == (net, gross)


def test_what_a_bundle_takes_off_use_is_that_of_each_price() -> None:
    # 5 % of 0.10 is 0.005, rounded up to 0.01: off each, not off both together.
    things = (
        [
            an_offering(
                "o", bundled_product_offering=parts(x=1, y=1), bundle_pricing=bundle(BundlePricingMode.DISCOUNT, "5")
            ),
            an_offering("x", *refs("v")),
            an_offering("y", *refs("d")),
        ],
        [a_use("v", "voice", "0.1"), a_use("d", "data", "0.1")],
    )
    prices, _ = usage_prices(Item("1", "o"), compiled(*things), ASKED, NO_RULES)
    rating = rated(prices, {"voice": Decimal(1), "data": Decimal(1)})
    assert [charge.amount.value for charge in rating.charge] == [Decimal("0.09"), Decimal("0.09")]
    said = [(s.rule, s.before, s.after, s.reason) for s in rating.receipt.step if s.action == "BUNDLE_DISCOUNT"]
    assert said == [("o", "0.10 KGS", "0.09 KGS", "-5 % of 0.10 KGS")] * 2


def test_a_credit_for_use_of_which_a_bundle_takes_nothing_off_is_rounded_once() -> None:
    # -0.625 with tax is -0.63, and -0.62 without; of the rounded amount it would be -0.63 too.
    off = replace(a_discount("d", None, "0.625 KGS"), may_be_negative=True, tax_included=True)
    use = a_use("v", "voice", "0", tax=vat("0.42"), tax_included=True, pop_relationship=altered_by("d"))
    pricing = bundle(BundlePricingMode.DISCOUNT, "5")
    offerings = [
        an_offering("o", bundled_product_offering=parts(x=1), bundle_pricing=pricing),
        an_offering("x", *refs("v")),
    ]
    offers = compiled(offerings, [use, off])
    prices, _ = usage_prices(Item("1", "o"), offers, ASKED, NO_RULES)
    used = {"voice": Decimal(1)}
    summed = price([Item("1", "o", usage=(UsageQuantity("voice", used["voice"]),))], offers, ASKED)
    assert charges(rated(prices, used)) == used_charges(summed) == {"v": (Decimal("-0.62"), Decimal("-0.63"))}


# --- bundles that override -------------------------------------------------------------------------------------------


def overriding(*own: str) -> tuple[list[ProductOffering], list[ProductOfferingPrice]]:
    offerings = [
        an_offering(
            "o",
            *refs("fee", *own),
            bundled_product_offering=parts(x=1, y=1),
            bundle_pricing=bundle(BundlePricingMode.OVERRIDE),
        ),
        an_offering("x", *refs("line", "v")),
        an_offering("y", *refs("d")),
    ]
    prices = [
        a_price("fee", "300 KGS"),
        a_price("line", "200 KGS"),
        a_use("v", "voice", "1"),
        a_use("d", "data", "2"),
        a_use("b", "voice", "0.5"),
    ]
    return offerings, prices


def test_the_use_of_an_overridden_part_is_charged_by_its_own_price() -> None:
    offers = compiled(*overriding())
    prices, notes = usage_prices(Item("1", "o"), offers, ASKED, NO_RULES)
    assert charges(rated(prices, {"voice": Decimal(3), "data": Decimal(1)})) == {
        "v": (Decimal("3.00"), Decimal("3.00")),
        "d": (Decimal("2.00"), Decimal("2.00")),
    }
    assert [(note.rule, note.reason) for note in notes] == [("line", "the prices of the bundle replace it")]
    summed = price([Item("1", "o", usage=(UsageQuantity("voice", Decimal(3)),))], offers, ASKED)
    assert [total.amount.value for total in summed.total] == [Decimal("300.00"), Decimal("3.00")]
    # What isn't used yet is listed, so that an order keeps it.
    assert set(used_charges(price([Item("1", "o")], offers, ASKED))) == {"v", "d"}


def test_a_bundle_that_prices_the_use_replaces_that_of_its_parts() -> None:
    prices, notes = usage_prices(Item("1", "o"), compiled(*overriding("b")), ASKED, NO_RULES)
    assert charges(rated(prices, {"voice": Decimal(4)})) == {
        "b": (Decimal("2.00"), Decimal("2.00")),
        "d": (Decimal("0.00"), Decimal("0.00")),
    }
    assert [note.rule for note in notes] == ["line", "v"]


def test_a_receipt_of_the_second_revision_is_replayed_by_its_rules() -> None:
    first = price([Item("1", "o")], compiled(*overriding()), ASKED).receipt
    again = replay(Receipt(first.engine, "2", first.inputs, ()))
    assert again.receipt.revision == "2"
    assert used_charges(again) == {}
    assert [s.rule for s in again.receipt.step if s.action == "REJECTED"] == ["line", "v", "d"]


# --- prices as they were sold ----------------------------------------------------------------------------------------


def sold(*prices: ProductOfferingPrice, item: Item | None = None, **context: Any) -> list[dict[str, Any]]:
    known = {one.id: one for one in prices}
    asked = PricingContext(at=NOW, **context)
    return sold_prices(item or Item("", ""), compile_sold([prices[0].id], known), asked, NO_RULES)[0]


def test_a_price_as_sold_keeps_what_it_is_altered_by() -> None:
    half = a_discount("half", "50")
    use = a_use("v", "voice", "1", pop_relationship=altered_by("half"))
    assert charges(rated(sold(use, half), {"voice": Decimal(3)})) == {"v": (Decimal("1.50"), Decimal("1.50"))}
    offers = compiled([an_offering("o", *refs("v"))], [use, half])
    assert sold(use, half) == usage_prices(Item("1", "o"), offers, ASKED, NO_RULES)[0]


def test_alterations_of_a_price_as_sold_go_by_what_is_known_of_the_holder() -> None:
    for_a_month = replace(a_discount("month", "50"), application_duration=Duration(amount=1, units="month"))
    use = a_use("v", "voice", "1", pop_relationship=altered_by("month"))
    for since, amount in ((None, "1.50"), (NOW, "1.50"), (BEFORE, "3.00")):
        item = Item("", "", started_at=since)
        rating = rated(sold(use, for_a_month, item=item), {"voice": Decimal(3)})
        assert rating.charge[0].amount.value == Decimal(amount)


def test_a_fixed_discount_of_use_is_off_the_period() -> None:
    off = a_discount("off", None, "2 KGS")
    use = a_use("v", "voice", "1", pop_relationship=altered_by("off"))
    for amount, due in (("5", "3.00"), ("1", "0.00"), ("0", "0.00")):
        assert rated(sold(use, off), {"voice": Decimal(amount)}).charge[0].amount.value == Decimal(due)


def test_of_a_group_the_better_alteration_counts_by_what_was_used() -> None:
    two, half = a_discount("two", None, "2 KGS"), a_discount("half", "50")
    grouped = [replace(one, exclusivity_group="g") for one in (two, half)]
    use = a_use("v", "voice", "1", pop_relationship=altered_by("two", "half"))
    for amount, due, loser in (("3", "1.00", "half"), ("8", "4.00", "two")):
        rating = rated(sold(use, *grouped), {"voice": Decimal(amount)})
        assert rating.charge[0].amount.value == Decimal(due)
        (why,) = (step for step in rating.receipt.step if step.action == "REJECTED")
        assert why.rule == loser
        assert "of the group g is better" in (why.reason or "")


def test_what_is_no_price_of_use_is_refused() -> None:
    with pytest.raises(FailedPrecondition) as refusal:
        sold(a_price("fee", "1 KGS"))
    assert refusal.value.reason == "USAGE_TYPE_MISSING"


@pytest.mark.parametrize("number", ["1e999999", "1e-400", "9" * 65])
def test_a_forged_receipt_does_not_fill_the_memory(number: str) -> None:
    made = rated(sold(a_use("v", "voice", "1")), {"voice": Decimal(7)}).receipt
    forged = made.inputs.text.replace('"amount":"7"', f'"amount":"{number}"')
    assert forged != made.inputs.text
    with pytest.raises(InvalidArgument) as refusal:
        replay_usage(Receipt(made.engine, made.revision, Json(forged), ()))
    assert refusal.value.reason == "MALFORMED_RECEIPT"


def test_a_deeply_nested_receipt_is_refused() -> None:
    made = rated(sold(a_use("v", "voice", "1")), {}).receipt
    with pytest.raises(InvalidArgument) as refusal:
        replay_usage(Receipt(made.engine, made.revision, Json("[" * 200_000), ()))
    assert refusal.value.reason == "MALFORMED_RECEIPT"
