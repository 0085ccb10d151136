"""Whatever an answer rests on is in its receipt: asked and answered at random, replayed to the same bytes."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.pricing.messages import response
from catalog.pricing.offers import Offer, parse_offer
from catalog.pricing.pricing import Item, Pricing, PricingContext, UsageQuantity, parse_context, price, replay
from catalog.pricing.receipts import PriceReceipt, Receipt
from catalog.pricing.rules import PriceListTerms, Rules, Tax
from catalog.product.domain import LifecycleStatus, ProductOffering, ProductOfferingPrice
from catalog.product.values import (
    BundlePricing,
    BundlePricingMode,
    ConditionOperator,
    OfferingPhase,
    PriceCondition,
    PriceTier,
    PricingModel,
    PricingModelType,
    ProductOfferingTerm,
)
from catalog.promotion.engine import Coupon
from catalog.promotion.held import Discount, Held
from catalog.promotion.pricing import INPUT, Basis, parse_basis, promoted
from catalog.promotion.terms import Terms, parse_terms
from chassis.errors import DomainError
from chassis.types import Characteristic, Duration, Json, Money, TaxItem, TimePeriod
from tests.catalog.things import NOW, a_discount, a_price, altered_by, an_offering, compiled, parts, refs

BRANCHES, SEGMENTS, PLACES = ("bishkek", "osh", ""), ("gold", "new"), ("chuy", "kg")
INSTANTS = st.integers(-(10**13), 3 * 10**13).map(lambda micros: NOW + timedelta(microseconds=micros))
PERIODS = st.none() | st.builds(TimePeriod, start_date_time=st.none() | INSTANTS, end_date_time=st.none() | INSTANTS)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
MONTHS = st.none() | st.builds(
    Duration, amount=st.integers(1, 13), units=st.sampled_from(["month", "months", "day", "week", "quarter", None])
)
SUBJECTS = {
    "marketSegment": SEGMENTS,
    "branch": BRANCHES[:2],
    "channel": ("web", "shop"),
    "place": PLACES,
    "agreement": ("a",),
    "customer": ("c",),
    "term": ("year",),
    "characteristic.colour": ("red", "blue"),
}


@st.composite
def conditions(draw: st.DrawFn) -> tuple[PriceCondition, ...]:
    found = []
    for subject in draw(st.lists(st.sampled_from(sorted(SUBJECTS)), max_size=1)):
        operator = draw(st.sampled_from([ConditionOperator.EQ, ConditionOperator.NE]))
        value = Json(json.dumps(draw(st.sampled_from(SUBJECTS[subject]))))
        found.append(PriceCondition(subject=subject, operator=operator, value=value))
    return tuple(found)


@st.composite
def a_charge(draw: st.DrawFn, id: str, alterations: list[str]) -> ProductOfferingPrice:
    made = a_price(
        id,
        f"{draw(st.integers(0, 10_000))}.{draw(st.integers(0, 999)):03} KGS",
        draw(st.sampled_from(["month", "quarter", None])),
        condition=draw(st.just(()) | st.just(()) | conditions()),
        valid_for=draw(st.none() | st.none() | st.none() | PERIODS),
        phase=draw(st.sampled_from([(), (), (), ("trial",), ("regular",)])),
        price_list=draw(st.sampled_from([None, None, None, "list"])),
        tax_included=draw(st.booleans()),
        tax_category=draw(st.sampled_from([None, "VAT"])),
        tax=(TaxItem(tax_rate=Decimal(12)),) if draw(st.integers(0, 3)) == 0 else (),
        pop_relationship=altered_by(*draw(st.lists(st.sampled_from(alterations), unique=True))),
    )
    if draw(st.integers(0, 3)):
        return made
    model = PricingModel(
        model_type=PricingModelType.GRADUATED,
        usage_type="voice",
        tier=(PriceTier(up_to=Decimal(10), unit_amount=Decimal("0.7")), PriceTier(unit_amount=Decimal("0.3"))),
    )
    return replace(made, price_type="usage", recurring_charge_period_type=None, pricing_model=model)


@st.composite
def catalogs(draw: st.DrawFn) -> dict[str, Offer]:
    discounts = [
        replace(
            a_discount(f"d{n}", draw(st.sampled_from(["10", "33.3", "100"])), priority=draw(st.integers(0, 1))),
            application_duration=draw(MONTHS),
            condition=draw(conditions()),
            exclusivity_group=draw(st.sampled_from([None, "g"])),
        )
        for n in range(3)
    ]
    prices = [draw(a_charge(f"p{n}", [one.id for one in discounts])) for n in range(4)]
    phases = (OfferingPhase(name="trial", duration=Duration(amount=1, units="month")), OfferingPhase(name="regular"))
    terms = (ProductOfferingTerm(name="year", duration=Duration(amount=1, units="year")),)

    def offering(id: str, **more: Any) -> ProductOffering:
        own = draw(st.lists(st.sampled_from([one.id for one in prices]), unique=True, min_size=1))
        return an_offering(id, *refs(*own), phase=phases, product_offering_term=terms, **more)

    mode = draw(st.sampled_from(BundlePricingMode))
    bundle = offering(
        "o", bundled_product_offering=parts(x=1), bundle_pricing=BundlePricing(mode=mode, percentage=Decimal("7.5"))
    )
    newer = offering(
        "o2",
        series="o",
        version="2",
        valid_for=draw(PERIODS),
        lifecycle_status=draw(st.sampled_from([LifecycleStatus.LAUNCHED, LifecycleStatus.IN_DESIGN])),
    )
    return compiled([bundle, newer, offering("x", bundled_product_offering=())], [*prices, *discounts])


RULES = st.builds(
    lambda segment, priority, period, rates: Rules(
        {"list": PriceListTerms("list", "List", (), segment, (), priority, True, period or TimePeriod())},
        {"VAT": [Tax(f"t{n}", "VAT", "VAT", place, rate, True, TimePeriod()) for n, (place, rate) in enumerate(rates)]},
    ),
    st.sampled_from([("gold",), ("new",)]),
    st.integers(0, 3),
    PERIODS,
    st.lists(st.tuples(st.sampled_from(["", *PLACES]), st.sampled_from([Decimal(12), Decimal("0.5")])), min_size=1),
)
CONTEXTS = st.builds(
    PricingContext,
    at=INSTANTS,
    currency=st.sampled_from(["", "KGS"]),
    branch=st.sampled_from(BRANCHES),
    customer_id=st.sampled_from(["", "c"]),
    market_segment=st.lists(st.sampled_from(SEGMENTS), unique=True).map(tuple),
    channel=st.sampled_from(["", "web"]),
    place=st.lists(st.sampled_from(PLACES), unique=True).map(tuple),
    agreement_id=st.sampled_from(["", "a"]),
    coupon=st.lists(st.sampled_from(["WELCOME", "OLD"]), unique=True).map(tuple),
    orders_before=st.none() | st.integers(0, 2),
)
CHARACTERISTICS = st.builds(
    Characteristic,
    name=st.none() | st.sampled_from(["colour", "speed"]),
    value_type=st.none() | st.sampled_from(["string"]),
    value=st.none() | JSON.map(lambda value: Json(json.dumps(value))) | st.just(Json('"red"')),
    extensions=st.none() | st.dictionaries(TEXTS, JSON, min_size=1, max_size=2).map(json.dumps),
)
ITEMS = st.builds(
    Item,
    st.just("1"),
    st.sampled_from(["o", "x"]),
    st.integers(1, 5),
    characteristic=st.lists(CHARACTERISTICS, max_size=2).map(tuple),
    term=st.sampled_from(["", "year"]),
    exact_version=st.booleans(),
    usage=st.just(())
    | st.just(())
    | st.just(())
    | st.builds(lambda amount: (UsageQuantity("voice", amount),), st.decimals(0, 50, places=3, allow_nan=False)),
    started_at=st.none() | INSTANTS,
)


@st.composite
def promotions(draw: st.DrawFn, number: int) -> Terms:
    percentage = draw(st.booleans())
    action = {
        "off": draw(st.sampled_from(["order", "unit"])),
        "percentage": "15" if percentage else None,
        "amount": None if percentage else "20",
        "products": draw(st.sampled_from([[], ["x"]])),
        "categories": draw(st.sampled_from([[], ["shelf"]])),
        "price_min": None,
        "price_max": draw(st.sampled_from([None, "500"])),
        "kind": draw(st.sampled_from(["", "recurring"])),
        "period": "",
        "floor": draw(st.sampled_from(["0", "5"])),
        "duration": draw(st.sampled_from([None, {"amount": 2, "units": "month"}, {"amount": 1, "units": ""}])),
    }
    facts = {"segment": "gold", "orderNumber": "1", "place": "chuy", "channel": "web", "branch": "osh", "total": "100"}
    fact = draw(st.none() | st.sampled_from(sorted(facts)))
    operator = ">=" if fact in ("orderNumber", "total") else "="
    held = [] if fact is None else [{"fact": fact, "operator": operator, "value": facts[fact], "of": ""}]
    return parse_terms(
        {
            "id": f"promotion-{number}",
            "name": f"promotion {number}",
            "priority": number,
            "patterns": [{"rule": {"any_of": False, "conditions": held}, "actions": [action], "valid_for": ["", ""]}],
            "exclusive": draw(st.booleans()),
            "exclusion_group": draw(st.sampled_from(["", "g"])),
            "needs_coupon": draw(st.booleans()),
            "applies_to_discounted": draw(st.booleans()),
            "on_list_price": False,
            "currency": "KGS",
            "valid_for": ["", ""],
        }
    )


AMOUNTS = st.decimals(0, 500, places=2)
HELD = st.lists(
    st.builds(
        Held,
        series=st.sampled_from(["", "x"]),
        price=st.sampled_from(["p0", "p1", "p2", "gone"]),
        name=TEXTS,
        period=st.just("month"),
        currency=st.just("KGS"),
        net=AMOUNTS,
        gross=st.none() | AMOUNTS,
        discounts=st.lists(
            st.builds(
                Discount,
                promotion=TEXTS,
                name=TEXTS,
                priority=st.integers(0, 9),
                net=AMOUNTS,
                gross=st.none() | AMOUNTS,
                percentage=st.none() | st.decimals(0, 100, places=1),
                duration=MONTHS,
                valid_for=PERIODS,
            ),
            min_size=1,
            max_size=2,
        ).map(tuple),
    ),
    min_size=1,
    max_size=3,
).map(tuple)


@st.composite
def bases(draw: st.DrawFn) -> Basis:
    return Basis(
        terms=tuple(draw(promotions(number)) for number in range(draw(st.integers(0, 3)))),
        coupons=tuple(
            Coupon(code, "promotion-0", draw(st.none() | st.just("it has expired")))
            for code in draw(st.lists(st.sampled_from(["WELCOME", "OLD"]), unique=True))
        ),
        categories={"x": frozenset({"shelf"}), "o": frozenset({"shelf", "shop"}), "unused": frozenset({"attic"})},
        held=draw(st.just({}) | HELD.map(lambda charges: {"1": charges})),
    )


def answered(item: Item, offers: dict[str, Offer], context: PricingContext, rules: Rules, basis: Basis) -> Pricing:
    return promoted(price([item], offers, context, rules), context, offers, basis)


def replayed(receipt: Receipt | PriceReceipt) -> Pricing:
    """As `ReplayPrice`: from nothing but what a receipt says."""
    bare = Receipt(receipt.engine, receipt.revision, receipt.inputs, ())
    inputs = json.loads(bare.inputs.text)
    pricing = replay(bare)
    if INPUT not in inputs:
        return pricing
    offers = compiled_again(inputs)
    return promoted(pricing, parse_context(inputs["context"]), offers, parse_basis(inputs[INPUT]))


def compiled_again(inputs: dict[str, Any]) -> dict[str, Offer]:
    return {data["id"]: parse_offer(data) for data in inputs["offers"]}


@settings(max_examples=80, deadline=None)
@given(ITEMS, catalogs(), CONTEXTS, RULES, bases())
def test_a_receipt_holds_all_that_its_answer_rests_on(
    item: Item, offers: dict[str, Offer], context: PricingContext, rules: Rules, basis: Basis
) -> None:
    try:
        made = answered(item, offers, context, rules, basis)
    except DomainError:
        # What is refused has no receipt.
        return
    again = replayed(made.receipt)
    before, after = (response(one).SerializeToString(deterministic=True) for one in (made, again))
    assert before == after
    assert made.receipt.inputs.text.encode() == rfc8785.dumps(json.loads(made.receipt.inputs.text))


def test_the_strategies_meet_what_they_are_to_vary() -> None:
    """Lest the test above refuse everything: a plain case of its kind is answered, with promotion and coupon."""
    offers = compiled([an_offering("o", *refs("p")), an_offering("x")], [a_price("p", "100 KGS")])
    terms = parse_terms(
        {
            "id": "promotion-0", "name": "n", "priority": 0, "exclusive": False, "exclusion_group": "",
            "patterns": [{"rule": {"any_of": False, "conditions": []}, "valid_for": ["", ""], "actions": [
                {"off": "order", "percentage": "15", "amount": None, "products": [], "categories": [],
                 "price_min": None, "price_max": None, "kind": "", "period": "", "floor": "0", "duration": None}]}],
            "needs_coupon": True, "applies_to_discounted": True, "on_list_price": False, "currency": "KGS",
            "valid_for": ["", ""],
        }
    )  # fmt: skip
    context = PricingContext(at=NOW, coupon=("WELCOME",))
    basis = Basis((terms,), (Coupon("WELCOME", "promotion-0"),))
    made = answered(Item("1", "o"), offers, context, Rules(), basis)
    assert made.total[0].amount == Money(unit="KGS", value=Decimal("85.00"))
    assert replayed(made.receipt) == made
