"""Price lists, tax rates and versions over gRPC: kept, guarded, and seen by the next price at once."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from chassis.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from svyaz.catalog.v1 import catalog_pb2 as pb
from svyaz.catalog.v1 import pricing_pb2, pricing_rules_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.catalog.conftest import Client
from tests.catalog.test_api import ACTIVE, a_monthly_price, an_offering, refused
from tests.catalog.test_pricing_api import an_instant, item, statements, the_amount

__all__ = ["statements"]

LAUNCHED = pb.LIFECYCLE_STATUS_LAUNCHED


@pytest.fixture(scope="module")
def admin(client_for: Callable[[Sequence[str]], Client]) -> Client:
    """Who may take over what is on the market already."""
    return client_for(["admin"])


def a_rate(rate: str, category: str, **more: Any) -> pricing_rules_pb2.TaxRate:
    return pricing_rules_pb2.TaxRate(name="VAT", tax_category=category, rate=rate, lifecycle_status=ACTIVE, **more)


def a_list(**more: Any) -> pricing_rules_pb2.PriceList:
    return pricing_rules_pb2.PriceList(**{"name": "VIP", "lifecycle_status": ACTIVE, **more})


def launched(*prices: pb.ProductOfferingPrice, **more: Any) -> pb.ProductOffering:
    return an_offering(*prices, lifecycle_status=LAUNCHED, **more)


def test_a_tax_rate_is_looked_up_by_category_place_and_date_and_a_change_is_seen_at_once(
    admin: Client, statements: list[str]
) -> None:
    price = admin.create(a_monthly_price(100, tax_category="telecom"))
    offering = admin.create(launched(price))
    error = refused(FailedPrecondition, "NO_TAX_RATE", lambda: admin.price(item(offering), place=["osh", "kg"]))
    assert "telecom" in error.message
    country = admin.create(a_rate("12", "telecom", place="kg"))
    (component,) = admin.price(item(offering), place=["osh", "kg"]).item[0].component
    assert (component.tax_rate, component.tax_included_amount.units) == ("12", 112)
    admin.create(a_rate("5", "telecom", place="osh"))
    assert admin.price(item(offering), place=["osh", "kg"]).item[0].component[0].tax_rate == "5"
    # What was charged isn't rewritten: another rate begins later.
    changed = pricing_rules_pb2.TaxRate(id=country.id, rate="13")
    refused(FailedPrecondition, "PUBLISHED", lambda: admin.update(changed, "rate"))
    admin.create(a_rate("13", "telecom", place="kg", valid_for=values_pb2.TimePeriod(start_date_time=an_instant(2024))))
    response = admin.price(item(offering), place=["kg"])
    assert response.item[0].component[0].tax_rate == "13"
    statements.clear()
    admin.price(item(offering), place=["kg"])
    assert len(statements) == 1, statements
    replayed = admin.call("ReplayPrice", pricing_pb2.ReplayPriceRequest(receipt=response.receipt))
    assert replayed.SerializeToString(deterministic=True) == response.SerializeToString(deterministic=True)


def test_a_customer_gets_the_prices_of_his_list(admin: Client) -> None:
    vip = admin.create(a_list(market_segment=[values_pb2.EntityRef(id="seg-1", name="vip")]))
    general = admin.create(a_monthly_price(100))
    special = admin.create(a_monthly_price(80, price_list=vip.id))
    offering = admin.create(launched(general, special))
    assert the_amount(admin.price(item(offering)))[1] == 100
    for segment in ("vip", "seg-1"):
        assert the_amount(admin.price(item(offering), market_segment=[segment]))[1] == 80
    assert the_amount(admin.price(item(offering), market_segment=["other"]))[1] == 100
    refused(FailedPrecondition, "REFERENCED", lambda: admin.delete(vip))


def test_a_change_of_a_list_is_seen_at_once(admin: Client, reviewer: Client) -> None:
    vip = admin.create(
        a_list(market_segment=[values_pb2.EntityRef(name="vip")], lifecycle_status=pb.LIFECYCLE_STATUS_IN_TEST)
    )
    # One that isn't published yet may be of a list that isn't either.
    general, special = admin.create(a_monthly_price(100)), admin.create(a_monthly_price(80, price_list=vip.id))
    offering = admin.create(launched(general, special))
    assert the_amount(admin.price(item(offering), market_segment=["vip"], branch="osh"))[1] == 100
    reviewer.approve(vip)
    admin.move(vip, ACTIVE)
    assert the_amount(admin.price(item(offering), market_segment=["vip"], branch="osh"))[1] == 80


def test_a_new_version_is_priced_from_its_day_without_a_word_to_anybody(admin: Client) -> None:
    first = admin.create(launched(admin.create(a_monthly_price(100))))
    bundle = admin.create(launched(bundled_product_offering=[pb.BundledProductOffering(id=first.id)]))
    assert the_amount(admin.price(item(bundle)))[1] == 100
    second = admin.create(
        launched(
            admin.create(a_monthly_price(120)),
            series=first.id,
            version="2",
            valid_for=values_pb2.TimePeriod(start_date_time=an_instant(2026)),
        )
    )
    for asked in (first, second, bundle):
        assert the_amount(admin.price(item(asked), at=an_instant(2025)))[1] == 100
        response = admin.price(item(asked), at=an_instant(2026))
        assert the_amount(response)[1] == 120
    assert admin.price(item(first), at=an_instant(2026)).item[0].product_offering.id == second.id
    exact = pricing_pb2.PriceRequestItem(id="1", product_offering_id=first.id, exact_version=True)
    assert the_amount(admin.price(exact, at=an_instant(2026)))[1] == 100


def test_what_is_asked_of_an_item_reaches_the_engine(admin: Client) -> None:
    term = pb.ProductOfferingTerm(name="1 year", duration=values_pb2.Duration(amount=1, units="year"))
    price = admin.create(a_monthly_price(100, product_offering_term=[term]))
    part = admin.create(launched(admin.create(a_monthly_price(7))))
    option = pb.BundledProductOfferingOption(number_rel_offer_lower_limit=0, number_rel_offer_upper_limit=5)
    offering = admin.create(
        launched(
            price,
            product_offering_term=[term],
            bundled_product_offering=[pb.BundledProductOffering(id=part.id, bundled_product_offering_option=option)],
        )
    )
    speed = values_pb2.Characteristic(name="speed", value=b"100")
    asked = pricing_pb2.PriceRequestItem(
        id="1",
        product_offering_id=offering.id,
        term="1 year",
        characteristic=[speed],
        bundled=[pricing_pb2.BundledSelection(product_offering_id=part.id, number=3)],
        started_at=an_instant(2025),
    )
    response = admin.price(asked, at=an_instant(2026))
    assert the_amount(response)[1] == 121
    assert (response.item[0].term, list(response.item[0].characteristic)) == ("1 year", [speed])
    replayed = admin.call("ReplayPrice", pricing_pb2.ReplayPriceRequest(receipt=response.receipt))
    assert replayed == response


@pytest.mark.parametrize(
    ("thing", "error", "reason", "field"),
    [
        (a_list(), FailedPrecondition, "INCOMPLETE", "market_segment"),
        (a_list(agreement=[values_pb2.EntityRef()]), InvalidArgument, "CONTRADICTION", "agreement[0]"),
        (a_rate("-1", "telecom"), InvalidArgument, "CONTRADICTION", "rate"),
    ],
)
def test_rules_that_say_nothing_are_refused(admin: Client, thing: Any, error: Any, reason: str, field: str) -> None:
    assert [v.field for v in refused(error, reason, lambda: admin.create(thing)).violations] == [field]


def test_a_rate_that_counted_is_retired_instead_of_deleted(
    admin: Client, client_for: Callable[[Sequence[str]], Client]
) -> None:
    rate = admin.create(a_rate("1", "luxury"))
    refused(FailedPrecondition, "WAS_RELEASED", lambda: admin.delete(rate))
    draft = admin.create(pricing_rules_pb2.TaxRate(name="VAT", tax_category="luxury", rate="2"))
    admin.delete(draft)
    listed = admin.call(
        "ListTaxRates",
        requests_pb2.ListRequest(filter=[requests_pb2.Filter(path="tax_category", value=["luxury"])]),
    )
    assert [one.id for one in listed.items] == [rate.id]
    refused(PermissionDenied, "ROLE_REQUIRED", lambda: client_for(["agent"]).create(a_rate("1", "luxury")))
