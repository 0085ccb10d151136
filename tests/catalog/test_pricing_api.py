"""Prices over gRPC: what is read, what is remembered, what is refused."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from catalog.pricing import messages
from catalog.pricing.pricing import replay
from catalog.pricing.receipts import Receipt, ReceiptStep
from catalog.product.domain import ProductOfferingPrice
from chassis import reading
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.events import acting
from chassis.types import Json, TimePeriod
from svyaz.catalog.v1 import catalog_pb2 as pb
from svyaz.catalog.v1 import pricing_pb2, pricing_rules_pb2
from svyaz.type.v1 import values_pb2
from tests.catalog.conftest import Client
from tests.catalog.test_api import ACTIVE, LAUNCHED, RETIRED, a_monthly_price, bundled, refused, som
from tests.catalog.test_api import an_offering as a_thing


def an_offering(*prices: pb.ProductOfferingPrice, **more: object) -> pb.ProductOffering:
    """One that is on the market."""
    return a_thing(*prices, **{"lifecycle_status": LAUNCHED, **more})


def item(offering: pb.ProductOffering, quantity: int | None = None, id: str = "1") -> pricing_pb2.PriceRequestItem:
    return pricing_pb2.PriceRequestItem(id=id, product_offering_id=offering.id, quantity=quantity)


def the_amount(response: pricing_pb2.PriceResponse) -> tuple[str, int, int]:
    (total,) = response.total
    return total.amount.unit, total.amount.units, total.amount.nanos


def an_instant(year: int) -> Timestamp:
    at = Timestamp()
    at.FromDatetime(datetime(year, 1, 1, tzinfo=UTC))
    return at


@pytest.fixture
def statements(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the database is asked, from here on."""
    seen: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        seen.append(statement)

    def rows(connection: reading._Connection, query: bytes, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        seen.append(query.decode())
        return asked(connection, query, parameters)

    asked = reading._Connection.rows
    monkeypatch.setattr(reading._Connection, "rows", rows)
    sa.event.listen(database.engine, "before_cursor_execute", note)
    return seen


def test_a_price_with_a_discount_and_tax_and_its_receipt(manager: Client) -> None:
    discount = manager.create(
        pb.ProductOfferingPrice(name="Welcome", price_type="discount", percentage="12.5", lifecycle_status=ACTIVE)
    )
    link = pb.ProductOfferingPriceRelationship(id=discount.id, relationship_type="discountedBy")
    price = manager.create(
        a_monthly_price(499, pop_relationship=[link], tax=[values_pb2.TaxItem(tax_category="VAT", tax_rate="12")])
    )
    spec = manager.create(pb.ProductSpecification(name="Fibre", lifecycle_status=ACTIVE))
    offering = manager.create(
        an_offering(price, product_specification=values_pb2.ProductSpecificationRef(id=spec.id, name="Fibre"))
    )
    response = manager.price(item(offering, 3), customer_id="c-1", branch="bishkek", at=an_instant(2026))

    priced = response.item[0]
    assert (priced.id, priced.product_offering.id, priced.quantity) == ("1", offering.id, 3)
    assert (priced.product_specification.id, priced.product_specification.name) == (spec.id, "Fibre")
    (component,) = priced.component
    assert component.product_offering_price.id == price.id
    assert (component.list_amount, component.tax_rate) == (som(1497).__class__(unit="KGS", units=1497, nanos=0), "12")
    assert (component.amount.units, component.amount.nanos) == (1309, 880_000_000)
    assert (component.tax_included_amount.units, component.tax_included_amount.nanos) == (1467, 70_000_000)
    (alteration,) = component.alteration
    assert (alteration.product_offering_price.id, alteration.percentage) == (discount.id, "-12.5")
    assert (alteration.amount.units, alteration.amount.nanos) == (-187, -120_000_000)
    assert [step.action for step in response.receipt.step] == [
        "PRICE_FOUND",
        "QUANTITY",
        "ALTERATION_APPLIED",
        "ROUNDED",
        "TAX_ADDED",
    ]

    receipt = Receipt(
        response.receipt.engine,
        response.receipt.revision,
        Json(response.receipt.inputs.decode()),
        tuple(ReceiptStep(s.subject, s.action, s.rule) for s in response.receipt.step),
    )
    again = messages.response(replay(receipt))
    assert again.SerializeToString(deterministic=True) == response.SerializeToString(deterministic=True)


def test_an_absent_quantity_is_one(manager: Client) -> None:
    offering = manager.create(an_offering(manager.create(a_monthly_price(500))))
    assert the_amount(manager.price(item(offering))) == ("KGS", 500, 0)


def test_a_bundle_with_a_price_by_value(manager: Client) -> None:
    part = manager.create(an_offering(manager.create(a_monthly_price(500)), is_sellable=False))
    value = pb.ProductOfferingPriceRefOrValue(
        name="Installation",
        price_type="one time",
        price=pb.ProductPriceValue(tax_included_amount=som(112), tax_rate="12"),
        price_alteration=[
            pb.POPAlteration(name="Half", price_type="discount", price=pb.ProductPriceValue(percentage="50"))
        ],
    )
    bundle = manager.create(
        pb.ProductOffering(
            name="Home",
            is_bundle=True,
            lifecycle_status=LAUNCHED,
            product_offering_price=[value],
            bundled_product_offering=bundled(part, part),
        )
    )
    response = manager.price(item(bundle, 2))
    assert [(t.price_type, t.amount.units, t.tax_included_amount.units) for t in response.total] == [
        ("oneTime", 100, 112),
        ("recurring", 2000, 2000),
    ]
    assert [inner.product_offering.id for inner in response.item[0].bundled_item] == [part.id, part.id]


def test_unknown_offerings_are_named(manager: Client) -> None:
    offering = manager.create(an_offering())
    gone = pricing_pb2.PriceRequestItem(id="x", product_offering_id="gone")
    error = refused(InvalidArgument, "UNKNOWN_OFFERING", lambda: manager.price(item(offering), gone))
    assert [v.field for v in error.violations] == ["item[1].product_offering_id"]


def test_a_retired_offering_is_not_sold_any_more(manager: Client) -> None:
    offering = manager.create(an_offering(manager.create(a_monthly_price())))
    manager.price(item(offering))
    manager.move(offering, RETIRED)
    error = refused(FailedPrecondition, "OFFERING_NOT_SELLABLE", lambda: manager.price(item(offering)))
    assert error.metadata == {"product_offering_id": offering.id, "lifecycle_status": "Retired"}


def test_a_currency_that_the_offering_is_not_priced_in(manager: Client) -> None:
    offering = manager.create(an_offering(manager.create(a_monthly_price())))
    refused(InvalidArgument, "NO_PRICE_IN_CURRENCY", lambda: manager.price(item(offering), currency="USD"))


def test_an_amount_beyond_what_money_holds_is_refused(manager: Client) -> None:
    offering = manager.create(an_offering(manager.create(a_monthly_price(2**62))))
    for items, field in (([item(offering, 2)], "item[0]"), ([item(offering), item(offering, id="2")], "total[0]")):
        with pytest.raises(InvalidArgument) as refusal:
            manager.price(*items)
        assert (refusal.value.reason, [v.field for v in refusal.value.violations]) == ("AMOUNT_OUT_OF_RANGE", [field])


def test_numbers_with_which_nothing_can_be_reckoned_are_refused_by_their_field(manager: Client) -> None:
    for number in ("1e18", "1e-19"):
        tier = pb.PriceTier(up_to=number, unit_amount="1")
        model = pb.PricingModel(model_type=pb.PRICING_MODEL_TYPE_GRADUATED, tier=[tier])
        value = pb.ProductPriceValue(percentage=number)
        embedded = pb.ProductOfferingPriceRefOrValue(name="p", price=value)
        bundle = pb.BundlePricing(mode=pb.BUNDLE_PRICING_MODE_DISCOUNT, percentage=number)
        for message, field in (
            (a_monthly_price(1, pricing_model=model), "pricing_model.tier[0].up_to"),
            (pb.ProductOfferingPrice(name="p", price_type="surcharge", percentage=number), "percentage"),
            (a_monthly_price(1, unit_of_measure=values_pb2.Quantity(amount=number)), "unit_of_measure.amount"),
            (a_monthly_price(1, tax=[values_pb2.TaxItem(tax_rate=number)]), "tax[0].tax_rate"),
            (
                pb.ProductOffering(name="o", product_offering_price=[embedded]),
                "product_offering_price[0].price.percentage",
            ),
            (pb.ProductOffering(name="o", bundle_pricing=bundle), "bundle_pricing.percentage"),
            (pricing_rules_pb2.TaxRate(name="t", tax_category="VAT", rate=number), "rate"),
        ):
            with pytest.raises(InvalidArgument) as refusal:
                manager.create(message)
            assert (refusal.value.reason, [one.field for one in refusal.value.violations]) == ("CONTRADICTION", [field])


def test_an_amount_that_surcharges_make_too_large_is_refused_by_its_item(manager: Client) -> None:
    surcharges = [
        manager.create(
            pb.ProductOfferingPrice(
                name=f"s{n}", price_type="surcharge", priority=n, percentage="9e17", lifecycle_status=ACTIVE
            )
        )
        for n in range(4)
    ]
    altered = [pb.ProductOfferingPriceRelationship(id=one.id, relationship_type="surchargedBy") for one in surcharges]
    small, large = manager.create(a_monthly_price(100)), manager.create(a_monthly_price(1, pop_relationship=altered))
    asked = [item(manager.create(an_offering(price)), id=price.id) for price in (small, large)]
    with pytest.raises(InvalidArgument) as refusal:
        manager.price(*asked)
    assert (refusal.value.reason, [v.field for v in refusal.value.violations]) == ("AMOUNT_OUT_OF_RANGE", ["item[1]"])


def test_prices_hold_at_their_time(manager: Client) -> None:
    old = manager.create(a_monthly_price(400, valid_for=values_pb2.TimePeriod(end_date_time=an_instant(2026))))
    new = manager.create(a_monthly_price(500, valid_for=values_pb2.TimePeriod(start_date_time=an_instant(2026))))
    offering = manager.create(an_offering(old, new))
    assert the_amount(manager.price(item(offering), at=an_instant(2025)))[1] == 400
    assert the_amount(manager.price(item(offering), at=an_instant(2026)))[1] == 500


def _end(database: Database, price_id: str) -> None:
    """Ends a price of something published, which nobody may by the API; the book of offers doesn't rely on that."""
    with acting("catalog", "test"), database.unit() as unit:
        unit.get(ProductOfferingPrice, price_id).valid_for = TimePeriod(end_date_time=datetime(2026, 1, 1, tzinfo=UTC))


def test_a_change_of_anything_that_a_price_rests_on_is_seen_at_once(manager: Client, database: Database) -> None:
    discount = manager.create(
        pb.ProductOfferingPrice(name="Welcome", price_type="discount", percentage="10", lifecycle_status=ACTIVE)
    )
    link = pb.ProductOfferingPriceRelationship(id=discount.id, relationship_type="discountedBy")
    price = manager.create(a_monthly_price(100, pop_relationship=[link]))
    part = manager.create(an_offering(price))
    bundle = manager.create(an_offering(bundled_product_offering=bundled(part)))
    assert the_amount(manager.price(item(bundle)))[1] == 90
    ended = values_pb2.TimePeriod(end_date_time=an_instant(2026))
    _end(database, discount.id)
    assert the_amount(manager.price(item(bundle)))[1] == 100
    _end(database, price.id)
    error = refused(FailedPrecondition, "OFFERING_NOT_SELLABLE", lambda: manager.price(item(bundle)))
    assert "no price" in error.message
    manager.update(pb.ProductOffering(id=part.id, valid_for=ended), "valid_for")
    error = refused(FailedPrecondition, "OFFERING_NOT_SELLABLE", lambda: manager.price(item(bundle)))
    assert "isn't valid" in error.message


def test_a_price_known_before_costs_one_query(manager: Client, statements: list[str]) -> None:
    offerings = [manager.create(an_offering(manager.create(a_monthly_price()))) for _ in range(5)]
    bundle = manager.create(an_offering(bundled_product_offering=bundled(*offerings)))
    statements.clear()
    manager.price(item(bundle))
    cold = len(statements)
    statements.clear()
    manager.price(item(bundle))
    assert len(statements) == 1, statements
    assert cold <= 7


@pytest.mark.parametrize("role", ["agent", "billing", "service", "catalog-manager"])
def test_who_may_ask_for_prices(client_for: Callable[[Sequence[str]], Client], manager: Client, role: str) -> None:
    offering = manager.create(an_offering())
    assert client_for([role]).price(item(offering)).item[0].quantity == 1


def test_a_characteristic_is_replayed_with_all_that_was_said_of_it(manager: Client) -> None:
    offering = manager.create(an_offering(manager.create(a_monthly_price(100))))
    asked = item(offering)
    asked.characteristic.add(name="colour", value=b'"red"', extensions=b'{"@type":"Colour","shade":[1.10]}')
    asked.characteristic.add(name="", value_type="", value=b'{"a":1}')
    asked.characteristic.add(value=b"null")
    response = manager.price(asked)
    replayed = manager.call("ReplayPrice", pricing_pb2.ReplayPriceRequest(receipt=response.receipt))
    assert replayed.SerializeToString(deterministic=True) == response.SerializeToString(deterministic=True)
    assert response.item[0].characteristic[0].extensions == b'{"@type":"Colour","shade":[1.10]}'


def test_a_characteristic_that_is_no_json_is_named(manager: Client) -> None:
    offering = manager.create(an_offering(manager.create(a_monthly_price(100))))
    for value, reason in ((b"{", "MALFORMED_JSON"), (b"\xff", "MALFORMED_TEXT")):
        asked = item(offering)
        asked.characteristic.add(name="colour")
        asked.characteristic.add(name="colour", value=value)
        with pytest.raises(InvalidArgument) as refusal:
            manager.price(asked)
        assert refusal.value.reason == reason
        assert refusal.value.violations[0].field == "item[0].characteristic[1].value"


def test_a_condition_meets_what_no_condition_can_compare(manager: Client) -> None:
    present = pb.PriceCondition(subject="characteristic.shape", operator=pb.CONDITION_OPERATOR_EQ, value=b'"round"')
    prices = [manager.create(a_monthly_price(100)), manager.create(a_monthly_price(900, condition=[present]))]
    offering = manager.create(an_offering(*prices))
    for value, amount in ((b'"round"', 1000), (b'{"radius":1e999999}', 100), (b"1e999999", 100), (b'["x",[2]]', 100)):
        asked = item(offering)
        asked.characteristic.add(name="shape", value=value)
        response = manager.price(asked)
        assert the_amount(response) == ("KGS", amount, 0)
        replayed = manager.call("ReplayPrice", pricing_pb2.ReplayPriceRequest(receipt=response.receipt))
        assert replayed == response


@pytest.mark.parametrize("number", ["1e999999", "1e-400", "9" * 65])
def test_a_number_that_nobody_can_write_down_is_named(manager: Client, number: str) -> None:
    tier = pb.PriceTier(up_to=number, unit_amount="1")
    model = pb.PricingModel(model_type=pb.PRICING_MODEL_TYPE_GRADUATED, tier=[pb.PriceTier(unit_amount="1"), tier])
    for message, field in (
        (a_monthly_price(1, pricing_model=model), "pricing_model.tier[1].up_to"),
        (pb.ProductOfferingPrice(name="p", price_type="discount", percentage=number), "percentage"),
        (a_monthly_price(1, unit_of_measure=values_pb2.Quantity(amount=number)), "unit_of_measure.amount"),
        (a_monthly_price(1, tax=[values_pb2.TaxItem(tax_rate=number)]), "tax[0].tax_rate"),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            manager.create(message)
        assert refusal.value.reason == "MALFORMED_DECIMAL"
        assert [one.field.removeprefix("product_offering_price.") for one in refusal.value.violations] == [field]
    asked = pricing_pb2.PriceRequestItem(id="1", product_offering_id="o")
    asked.usage.add(usage_type="voice", amount=number)
    with pytest.raises(InvalidArgument) as refusal:
        manager.price(asked)
    assert refusal.value.violations[0].field == "item[0].usage[0].amount"
