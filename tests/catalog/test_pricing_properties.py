"""What holds of every price, whatever the catalog."""

import json
from collections.abc import Iterable
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal

import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.pricing.messages import response
from catalog.pricing.money import minor_unit
from catalog.pricing.pricing import BundledSelection, Item, PricedItem, Pricing, PricingContext, price, replay
from catalog.product.domain import ProductOffering, ProductOfferingPrice
from catalog.product.values import (
    BundledProductOffering,
    BundledProductOfferingOption,
    BundlePricing,
    BundlePricingMode,
    OfferingPhase,
    POPAlteration,
    PriceTier,
    PricingModel,
    PricingModelType,
    ProductOfferingPriceRelationship,
    ProductOfferingTerm,
    ProductPriceValue,
)
from chassis.types import Characteristic, Duration, Json, Money
from tests.catalog.things import NOW, a_discount, a_price, altered_by, an_offering, by_value, compiled, parts, refs, vat

Things = tuple[list[ProductOffering], list[ProductOfferingPrice]]
CURRENCIES = ("KGS", "JPY", "KWD")


def decimals(low: str, high: str, places: int) -> st.SearchStrategy[Decimal]:
    return st.decimals(Decimal(low), Decimal(high), allow_nan=False, allow_infinity=False, places=places)


@st.composite
def catalogs(draw: st.DrawFn, floor: str = "-1000", negative: bool = True) -> Things:
    """A bundle `o` of two offerings, with prices by reference and by value and alterations of every kind.

    `floor`: no price is less; `negative`: alterations may say that they take charges below zero.
    """
    currency = draw(st.sampled_from(CURRENCIES))
    amount = decimals(floor, "100000", 4).map(lambda value: f"{value} {currency}")
    alterations: list[ProductOfferingPrice] = []
    prices: list[ProductOfferingPrice] = []
    for n in range(draw(st.integers(0, 4))):
        percent = draw(st.none() | decimals("0.01", "150", 2).map(str))
        fixed = None if percent else draw(decimals("0.001", "5000", 3).map(lambda value: f"{value} {currency}"))
        alterations.append(
            replace(
                a_discount(f"d{n}", percent, fixed, priority=draw(st.integers(0, 2))),
                exclusivity_group=draw(st.sampled_from([None, None, "g", "h"])),
                may_be_negative=draw(st.booleans()) if negative else None,
            )
        )
    for n in range(draw(st.integers(1, 3))):
        links = draw(st.permutations(alterations))[: draw(st.integers(0, 4))]
        prices.append(
            a_price(
                f"p{n}",
                draw(amount),
                draw(st.sampled_from(["month", "year", None])),
                tax=vat(draw(decimals("0", "30", 2).map(str))) if draw(st.booleans()) else (),
                pop_relationship=tuple(
                    ProductOfferingPriceRelationship(
                        id=link.id, relationship_type=draw(st.sampled_from(["discount", "alteration", "surcharge"]))
                    )
                    for link in links
                ),
            )
        )
    value = Money(unit=currency, value=draw(decimals("0", "1000", 3)))
    gross = ProductPriceValue(tax_included_amount=value, tax_rate=draw(decimals("0", "30", 2)))
    off = POPAlteration(
        name="off", price_type="discount", price=ProductPriceValue(percentage=draw(decimals("0.1", "99", 1)))
    )
    offerings = [
        an_offering(
            "o",
            *refs(*(p.id for p in prices)),
            bundled_product_offering=parts(x=2, y=None, z=1),
            bundle_pricing=draw(st.none() | decimals("0.01", "100", 2).map(_off_its_parts)),
        ),
        an_offering("x", *refs(prices[0].id)),
        an_offering("y", by_value(gross, off)),
        an_offering("z", *refs(*(p.id for p in prices))),
    ]
    return offerings, prices + alterations


def _off_its_parts(percentage: Decimal) -> BundlePricing:
    return BundlePricing(mode=BundlePricingMode.DISCOUNT, percentage=percentage)


def priced(catalog: Things, *quantities: int) -> Pricing:
    items = [Item(str(n), "o", quantity) for n, quantity in enumerate(quantities)]
    return price(items, compiled(*catalog), PricingContext(at=NOW, branch="bishkek", customer_id="42 «Ала-Тоо»"))


def everything(items: Iterable[PricedItem]) -> Iterable[PricedItem]:
    for item in items:
        yield item
        yield from everything(item.bundled_item)


def number(money: Money) -> Decimal:
    assert money.value is not None
    return money.value


@given(catalogs(), st.integers(1, 10_000), st.integers(1, 10))
def test_a_receipt_replayed_gives_the_same_bytes(catalog: Things, first: int, second: int) -> None:
    pricing = priced(catalog, first, second)
    again = replay(pricing.receipt)
    assert again == pricing
    assert repr(again) == repr(pricing)
    before, after = (response(one).SerializeToString(deterministic=True) for one in (pricing, again))
    assert before == after


@st.composite
def chosen_bundles(draw: st.DrawFn) -> tuple[Things, Item]:
    """A bundle whose parts may be left out, with phases, terms and a selection."""
    offerings, prices = draw(catalogs())
    numbers = {key: draw(st.integers(0, 2)) for key in ("x", "y", "z")}
    month, year = Duration(amount=1, units="month"), Duration(amount=1, units="year")
    bound = ProductOfferingTerm(name="year", duration=year)
    phases = (OfferingPhase(name="trial", duration=month), OfferingPhase(name="regular"))
    optional = tuple(
        BundledProductOffering(
            id=key,
            bundled_product_offering_option=BundledProductOfferingOption(
                number_rel_offer_lower_limit=0, number_rel_offer_default=number
            ),
        )
        for key, number in numbers.items()
    )
    in_phase = replace(prices[0], phase=draw(st.sampled_from([(), ("trial",), ("regular",)])))
    bundle = replace(
        offerings[0],
        bundled_product_offering=optional,
        product_offering_price=refs(*(p.id for p in prices if p.id.startswith("p") and p is not prices[0]), "phased"),
        phase=phases,
        product_offering_term=(bound,),
    )
    picked = draw(st.dictionaries(st.sampled_from(["x", "y", "z"]), st.integers(0, 3)))
    item = Item(
        "1",
        "o",
        draw(st.integers(1, 100)),
        term=draw(st.sampled_from(["", "year"])),
        bundled=tuple(BundledSelection(key, number) for key, number in picked.items()),
        characteristic=(Characteristic(name="speed", value=Json("100")),) if draw(st.booleans()) else (),
    )
    return ([bundle, *offerings[1:]], [*prices, replace(in_phase, id="phased")]), item


@given(chosen_bundles())
def test_a_receipt_of_chosen_parts_is_replayed(given_: tuple[Things, Item]) -> None:
    catalog, item = given_
    pricing = price([item], compiled(*catalog), PricingContext(at=NOW))
    again = replay(pricing.receipt)
    assert response(again).SerializeToString(deterministic=True) == response(pricing).SerializeToString(
        deterministic=True
    )


@given(catalogs(), st.integers(1, 1000))
def test_the_inputs_of_a_receipt_are_canonical(catalog: Things, quantity: int) -> None:
    text = priced(catalog, quantity).receipt.inputs.text
    assert text.encode() == rfc8785.dumps(json.loads(text))


@given(catalogs(), st.integers(1, 10_000))
def test_list_amount_and_alterations_sum_to_the_amount(catalog: Things, quantity: int) -> None:
    for item in everything(priced(catalog, quantity).item):
        for component in item.component:
            split = sum((number(a.amount) for a in component.alteration), number(component.list_amount))
            assert split == number(component.amount)


@given(catalogs(floor="0", negative=False), st.integers(1, 10_000))
def test_no_discount_takes_a_charge_below_zero(catalog: Things, quantity: int) -> None:
    for item in everything(priced(catalog, quantity).item):
        for component in item.component:
            assert number(component.amount) >= 0
            assert number(component.tax_included_amount) >= number(component.amount)


@given(catalogs(), st.integers(1, 10_000))
def test_what_a_bundle_takes_off_is_its_percentage_of_its_parts_split_exactly(catalog: Things, quantity: int) -> None:
    bundle = priced(catalog, quantity).item[0]
    sums: dict[str, list[Decimal]] = {}
    for item in everything(bundle.bundled_item):
        for component in item.component:
            own = [a.value for a in component.alteration if a.product_offering_price == bundle.product_offering]
            assert len(own) <= 1
            if own and not component.quoted_gross:
                # The steps say the same of amounts with tax, of which rounding leaves less to see here.
                both = sums.setdefault(component.recurring_charge_period, [Decimal(0), Decimal(0)])
                both[0] += component.net - own[0]
                both[1] += own[0]
                percentage = component.alteration[-1].percentage or Decimal(0)
                step = minor_unit(component.currency)
                assert component.net >= 0
    for whole, taken in sums.values():
        assert taken == (whole * percentage / 100).quantize(step, ROUND_HALF_UP)


@given(catalogs(floor="0", negative=False), st.integers(1, 10_000))
def test_of_a_group_no_other_choice_is_better(catalog: Things, quantity: int) -> None:
    offerings, prices = catalog
    best = priced(catalog, quantity).item[0].component
    groups = {p.id: p.exclusivity_group for p in prices if p.exclusivity_group}
    named = [{link.id for link in p.pop_relationship} for p in prices]
    for key, group in groups.items():
        # With this one alone in its group the customer never pays less.
        others = {other for other, name in groups.items() if name == group and other != key}
        if any(others & links and key not in links for links in named):
            # It isn't a choice for every charge that the others are for.
            continue
        fewer = [
            replace(p, pop_relationship=tuple(link for link in p.pop_relationship if link.id not in others))
            for p in prices
        ]
        for mine, theirs in zip(best, priced((offerings, fewer), quantity).item[0].component, strict=True):
            assert mine.net <= theirs.net


@given(catalogs(), st.integers(1, 100), st.integers(1, 100))
def test_totals_are_the_sums_of_the_charges_in_whole_minor_units(catalog: Things, first: int, second: int) -> None:
    pricing = priced(catalog, first, second)
    sums: dict[tuple[str | None, str, str], Decimal] = {}
    for item in everything(pricing.item):
        for c in item.component:
            key = (c.amount.unit, c.price_type, c.recurring_charge_period)
            sums[key] = sums.get(key, Decimal(0)) + number(c.amount)
            for money in (c.list_amount, c.amount, c.tax_included_amount):
                assert number(money) % minor_unit(money.unit or "") == 0
    assert {(t.amount.unit, t.price_type, t.recurring_charge_period): t.amount.value for t in pricing.total} == sums


@given(catalogs(), st.integers(1, 1000))
def test_the_order_in_which_alterations_and_prices_are_written_does_not_matter(catalog: Things, quantity: int) -> None:
    offerings, prices = catalog
    shuffled = [replace(p, pop_relationship=tuple(reversed(p.pop_relationship))) for p in reversed(prices)]
    backwards = [replace(o, product_offering_price=tuple(reversed(o.product_offering_price))) for o in offerings]
    assert priced((backwards, shuffled), quantity).total == priced(catalog, quantity).total


@given(catalogs(floor="0", negative=False), st.integers(1, 1000), st.integers(1, 1000))
@settings(max_examples=50)
def test_more_of_the_same_never_costs_less(catalog: Things, some: int, more: int) -> None:
    fewer, total = priced(catalog, some), priced(catalog, some + more)
    for low, high in zip(fewer.total, total.total, strict=True):
        assert number(low.amount) <= number(high.amount)


@st.composite
def tiered(draw: st.DrawFn) -> PricingModel:
    """A model whose tiers never get so cheap that more costs less."""
    kind = draw(st.sampled_from([PricingModelType.GRADUATED, PricingModelType.VOLUME, PricingModelType.PACKAGE]))
    bounds = sorted(draw(st.sets(st.integers(1, 500), max_size=4 if kind is not PricingModelType.PACKAGE else 0)))
    amounts = [draw(decimals("0", "50", 3)) for _ in range(len(bounds) + 1)]
    if kind is PricingModelType.VOLUME:
        amounts.sort()
    tiers = [
        PriceTier(up_to=Decimal(bound) if bound else None, unit_amount=amount)
        for bound, amount in zip([*bounds, None], amounts, strict=True)
    ]
    size = Decimal(draw(st.integers(1, 50))) if kind is PricingModelType.PACKAGE else None
    return PricingModel(model_type=kind, tier=tuple(tiers), package_size=size)


@given(tiered(), st.integers(1, 600), st.integers(1, 600))
def test_by_tiers_more_never_costs_less(model: PricingModel, some: int, more: int) -> None:
    price_ = a_price("p", "0 KGS", pricing_model=model, pop_relationship=altered_by("d"))
    catalog = ([an_offering("o", *refs("p"))], [price_, a_discount("d", "12.5")])
    assert priced(catalog, some).item[0].component[0].net <= priced(catalog, some + more).item[0].component[0].net
