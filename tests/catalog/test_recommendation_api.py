"""Recommendations over gRPC: from what a customer holds and uses, with reasons and a receipt."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from chassis.convert import from_money
from chassis.db import Database
from chassis.types import new_id
from svyaz.catalog.v1 import catalog_pb2, recommendation_pb2
from svyaz.orders.v1 import inventory_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.catalog.conftest import Client
from tests.catalog.test_holding import a_product, heard
from tests.catalog.test_qualification_api import LAUNCHED, offered, ref, related

_R = recommendation_pb2


@pytest.fixture(scope="module")
def agent(client_for: Callable[[Sequence[str]], Client]) -> Client:
    """Somebody who sells."""
    return client_for(["agent"])


@pytest.fixture(scope="module")
def admin(client_for: Callable[[Sequence[str]], Client]) -> Client:
    """Who may put what he likes on the market."""
    return client_for(["admin"])


def priced(admin: Client, name: str, amount: int, **more: Any) -> Any:
    price = admin.create(
        catalog_pb2.ProductOfferingPrice(
            name=f"{name}, a month",
            lifecycle_status=LAUNCHED,
            price_type="recurring",
            recurring_charge_period_type="month",
            price=values_pb2.Money(unit="KGS", units=amount),
        )
    )
    return offered(
        admin, name, product_offering_price=[catalog_pb2.ProductOfferingPriceRefOrValue(id=price.id)], **more
    )


def recommended(agent: Client, customer: str, **more: Any) -> Any:
    question = _R.QueryProductRecommendation(
        related_party=values_pb2.RelatedParty(id=customer, at_referred_type="Customer", role="customer"),
        **{"instant_sync_recommendation": True, **more},
    )
    return agent.call(
        "CreateQueryProductRecommendation",
        _R.CreateQueryProductRecommendationRequest(query_product_recommendation=question),
    )


def test_the_next_best_offer_has_its_reasons(database: Database, admin: Client, agent: Client) -> None:
    category = admin.create(catalog_pb2.Category(name="next", lifecycle_status=LAUNCHED))
    there: dict[str, Any] = {"category": [ref(category)]}
    held = priced(admin, "held", 1000, **there)
    cheaper = priced(admin, "cheaper", 800, product_offering_relationship=related("replaces", held), **there)
    better = priced(admin, "better", 1500, product_offering_relationship=related("upgrades", held), **there)
    priced(admin, "dearer", 1100, product_offering_relationship=related("replaces", held), **there)
    priced(admin, "elsewhere", 1, product_offering_relationship=related("upgrades", held), eligible_branch=["osh"])
    option = priced(admin, "option", 50, **there)
    who, product = new_id(), a_product(held.id, "")
    product.related_party[0].id = who
    heard(database, product)
    for _ in range(12):
        other = new_id()
        heard(database, a_product(held.id, other))
        heard(database, a_product(option.id, other))
    for _ in range(12):
        heard(database, a_product("something else", new_id()))
    answer = recommended(agent, who, category=[ref(category)])
    assert answer.state == _R.RECOMMENDATION_STATE_DONE
    found = [
        (item.priority, item.product_offering.id, [why.code for why in item.reason])
        for item in answer.recommendation_item
    ]
    assert found == [
        (1, better.id, ["UPGRADE"]),
        (2, cheaper.id, ["CHEAPER"]),
        (3, option.id, ["BOUGHT_TOGETHER"]),
    ]
    first, second, third = answer.recommendation_item
    assert from_money(first.monthly_saving).value == -500
    assert from_money(second.monthly_saving).value == 200
    assert [p.id for p in second.replaced_product] == [product.id]
    assert "92 % of those who have held" in third.reason[0].label
    assert [step.action for step in answer.receipt.step] == ["UPGRADE", "CHEAPER", "BOUGHT_TOGETHER"]
    assert answer.valid_for.end_date_time.ToSeconds() > answer.valid_for.start_date_time.ToSeconds()
    # It stays as it was given.
    shown = agent.call("GetQueryProductRecommendation", requests_pb2.GetRequest(id=answer.id))
    assert shown == answer
    assert not recommended(agent, "nobody", category=[ref(category)]).recommendation_item


def test_what_may_not_be_had_is_asked_about_and_not_recommended(
    database: Database, admin: Client, agent: Client
) -> None:
    category = admin.create(catalog_pb2.Category(name="restricted", lifecycle_status=LAUNCHED))
    there: dict[str, Any] = {"category": [ref(category)]}
    held = priced(admin, "held", 1000, **there)
    upgrades = {"product_offering_relationship": related("upgrades", held), **there}
    house, home = values_pb2.EntityRef(id="house-7"), values_pb2.EntityRef(id="home")
    better = priced(admin, "better", 1500, place=[house], market_segment=[home], **upgrades)
    anywhere = priced(admin, "anywhere", 1600, **upgrades)
    # It wouldn't be recommended whatever the place.
    dearer = {"product_offering_relationship": related("replaces", held), **there}
    priced(admin, "dearer", 1100, channel=[values_pb2.EntityRef(id="shop")], **dearer)
    who = new_id()
    heard(database, a_product(held.id, who))

    def found(answer: Any) -> list[str]:
        return [item.product_offering.id for item in answer.recommendation_item]

    answer = recommended(agent, who, category=[ref(category)])
    assert (found(answer), list(answer.information_required)) == ([anywhere.id], ["place", "marketSegment"])
    (step,) = [step for step in answer.receipt.step if step.action == "INFORMATION_REQUIRED"]
    assert (step.rule, step.reason) == (better.id, "place, marketSegment")
    at_home = inventory_pb2.RelatedPlaceRefOrValue(id="house-7", role="installation")
    told = recommended(agent, who, category=[ref(category)], place=at_home, market_segment=[home])
    assert (set(found(told)), list(told.information_required)) == ({anywhere.id, better.id}, [])


def test_what_is_used_decides_which_tariff_is_cheaper(database: Database, admin: Client, agent: Client) -> None:
    category = admin.create(catalog_pb2.Category(name="tariffs", lifecycle_status=LAUNCHED))
    by_minute = admin.create(
        catalog_pb2.ProductOfferingPrice(
            name="a minute",
            lifecycle_status=LAUNCHED,
            price_type="usage",
            price=values_pb2.Money(unit="KGS"),
            pricing_model=catalog_pb2.PricingModel(
                model_type=catalog_pb2.PRICING_MODEL_TYPE_PER_UNIT,
                usage_type="voice",
                tier=[catalog_pb2.PriceTier(unit_amount="2")],
            ),
        )
    )
    start = offered(
        admin,
        "only what is used",
        category=[ref(category)],
        product_offering_price=[catalog_pb2.ProductOfferingPriceRefOrValue(id=by_minute.id)],
    )
    package = priced(
        admin, "package", 290, category=[ref(category)], product_offering_relationship=related("replaces", start)
    )
    who = new_id()
    heard(database, a_product(start.id, who))

    def used(minutes: str) -> Any:
        usage = [_R.UsedQuantity(usage_type="voice", amount=minutes)]
        return recommended(agent, who, category=[ref(category)], usage=usage).recommendation_item

    (found,) = used("500")
    assert found.product_offering.id == package.id
    assert from_money(found.monthly_saving).value == 710
    assert [(why.code, why.weight) for why in found.reason] == [("CHEAPER", "0.710")]
    # Who calls little is well off.
    assert not used("100")


def test_a_discount_is_recommended_from_what_holders_accepted(database: Database, admin: Client, agent: Client) -> None:
    offering = offered(admin, "discounted")

    def sold(discount: int, segment: str) -> None:
        def amount(value: int) -> values_pb2.Price:
            return values_pb2.Price(duty_free_amount=values_pb2.Money(unit="KGS", units=value))

        price = inventory_pb2.ProductPrice(
            price_type="recurring",
            recurring_charge_period="month",
            price=amount(1000 - 10 * discount),
            product_price_alteration=[
                inventory_pb2.PriceAlteration(price_type="discount", price=amount(-10 * discount))
            ]
            if discount
            else [],
        )
        extensions = f'{{"marketSegment":"{segment}"}}'.encode() if segment else None
        heard(database, a_product(offering.id, new_id(), product_price=[price], extensions=extensions))

    for discount in (0, 10, 10, 20):
        sold(discount, "home")
    sold(50, "business")

    def asked(**more: Any) -> Any:
        return agent.call("RecommendDiscount", _R.RecommendDiscountRequest(product_offering_id=offering.id, **more))

    business, home = asked(minimum_observations=4).segment
    assert (home.market_segment, home.observations, home.recommended_percentage) == ("home", 4, "10.00")
    assert [(b.at_least, b.observations) for b in home.band] == [("0", 1), ("10", 2), ("20", 1)]
    assert not business.HasField("recommended_percentage")
    assert business.refused == "1 sales are known; at least 4 are needed"
    assert all(segment.refused for segment in asked().segment)
    (nobody,) = asked(market_segment=["nobody"]).segment
    assert (nobody.market_segment, nobody.observations) == ("nobody", 0)
    assert {step.action for step in asked(minimum_observations=4).receipt.step} == {"REFUSED", "RECOMMENDED"}
