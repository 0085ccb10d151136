"""Who is entitled to a discount for being a regular customer: by the rules, with the reason, and said to who asks."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from catalog.recommendation.entitlement import Active, Rule, entitled
from chassis.convert import to_timestamp
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.types import Duration, EntityRef, TimePeriod, new_id
from svyaz.catalog.v1 import catalog_pb2, entitlement_pb2, pricing_pb2, promotion_pb2
from svyaz.orders.v1 import inventory_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.catalog.conftest import Client
from tests.catalog.test_holding import a_product, heard
from tests.catalog.test_promotion_api import a_coupon, a_promotion, move, off, pattern
from tests.catalog.test_qualification_api import offered, ref
from tests.catalog.test_recommendation_api import priced, recommended

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
YEAR = Duration(amount=1, units="year")


def a_rule(id: str = "r", percentage: str = "10", **more: Any) -> Rule:
    return Rule(id=id, name=f"Rule {id}", percentage=Decimal(percentage), **more)


def since(*dates: datetime, line: str = "o") -> list[Active]:
    return [Active(line, date) for date in dates]


def ids(rules: Sequence[Rule], products: Sequence[Active], *segments: str, at: datetime = NOW) -> list[str]:
    return [(one.discount_entitlement or EntityRef()).id or "" for one in entitled(rules, products, segments, at)]


def test_so_many_products_for_so_long_entitle_and_no_less() -> None:
    rule = a_rule(minimum_products=2, held_for=YEAR)
    year_ago = NOW.replace(year=2025)
    assert ids([rule], since(year_ago)) == []
    assert ids([rule], since(year_ago, year_ago + timedelta(microseconds=1))) == []
    assert ids([rule], since(year_ago, year_ago)) == ["r"]
    # The third doesn't matter, however young it is.
    (found,) = entitled([rule], since(NOW, year_ago, NOW.replace(year=2020)), (), NOW)
    assert (found.products, found.since) == (2, year_ago)
    assert ids([a_rule()], []) == []
    assert ids([a_rule()], since(NOW + timedelta(seconds=1))) == []


def test_months_are_the_calendars() -> None:
    rule = a_rule(held_for=Duration(amount=1, units="month"))
    # From the last of February until the 28th of March; from the end of January until that of February.
    assert ids([rule], since(datetime(2026, 2, 28, tzinfo=UTC)), at=datetime(2026, 3, 28, tzinfo=UTC)) == ["r"]
    assert ids([rule], since(datetime(2026, 1, 31, tzinfo=UTC)), at=datetime(2026, 2, 28, tzinfo=UTC)) == ["r"]
    assert ids([rule], since(datetime(2026, 1, 31, tzinfo=UTC)), at=datetime(2026, 2, 27, tzinfo=UTC)) == []


def test_only_the_offerings_that_a_rule_names_count() -> None:
    rule = a_rule(minimum_products=2, lines=frozenset({"tv", "internet"}))
    assert ids([rule], since(NOW, line="tv") + since(NOW, line="voice")) == []
    assert ids([rule], since(NOW, line="tv") + since(NOW, line="internet")) == ["r"]


def test_a_rule_for_segments_is_for_who_is_known_to_be_in_one() -> None:
    rule = a_rule(segments=frozenset({"s1", "students"}))
    assert [ids([rule], since(NOW), *who) for who in ((), ("business",), ("business", "students"))] == [[], [], ["r"]]


def test_a_rule_counts_as_long_as_it_is_valid() -> None:
    rule = a_rule(valid_for=TimePeriod(start_date_time=NOW, end_date_time=NOW + timedelta(days=1)))
    old = since(NOW.replace(year=2020))
    instants = (NOW - timedelta(seconds=1), NOW, NOW + timedelta(days=1))
    assert [ids([rule], old, at=at) for at in instants] == [[], ["r"], []]


def test_the_largest_comes_first_whatever_the_order_of_the_rules() -> None:
    rules = [a_rule("a", "5"), a_rule("b", "20"), a_rule("d", "10.5"), a_rule("c", "10.5")]
    assert ids(rules, since(NOW)) == ids(rules[::-1], since(NOW)) == ["b", "c", "d", "a"]


@given(st.lists(st.integers(0, 3000), max_size=6), st.integers(1, 4), st.integers(1, 80), st.integers(0, 3000))
def test_nobody_loses_an_entitlement_by_waiting_or_by_holding_more(
    ages: list[int], number: int, months: int, more: int
) -> None:
    rule = a_rule(minimum_products=number, held_for=Duration(amount=months, units="month"))
    products = since(*(NOW - timedelta(days=age) for age in ages))
    if ids([rule], products):
        assert ids([rule], products, at=NOW + timedelta(days=more))
        assert ids([rule], [*products, *since(NOW - timedelta(days=more))])


@pytest.mark.parametrize(
    ("number", "amount", "units", "english", "russian"),
    [
        (1, 1, "year", "1 product held, for at least 1 year", "1 продукт у клиента, не меньше чем 1 год"),
        (2, 3, "month", "2 products held, for at least 3 months", "2 продукта у клиента, не меньше чем 3 месяца"),
        (5, 12, "months", "5 products held, for at least 12 months", "5 продуктов у клиента, не меньше чем 12 месяцев"),
        (1, 21, "day", "1 product held, for at least 21 days", "1 продукт у клиента, не меньше чем 21 день"),
    ],
)
def test_the_reason_is_said_in_words(number: int, amount: int, units: str, english: str, russian: str) -> None:
    rule = a_rule("x", "12.50", held_for=Duration(amount=amount, units=units))
    (found,) = entitled([rule], since(*[NOW.replace(year=2000)] * number), (), NOW)
    assert found.label == f"Entitled to 12.5 % off by 'Rule x': {english}"
    assert found.label_ru == f"Полагается скидка 12.5 % по правилу «Rule x»: {russian}"


# --- over gRPC -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agent(client_for: Callable[..., Client]) -> Client:
    return client_for(["agent"])


@pytest.fixture
def rule(manager: Client) -> Any:
    """Makes a rule that a test has for itself: the products of these offerings count."""
    made: list[Any] = []

    def make(*offerings: Any, **more: Any) -> Any:
        body = {"name": "Loyal", "percentage": "10", "product_offering": [ref(one) for one in offerings], **more}
        made.append(manager.create(entitlement_pb2.DiscountEntitlement(**body)))
        return made[-1]

    yield make
    for one in made:
        manager.delete(one)


def ago(days: int) -> Timestamp:
    return to_timestamp(datetime.now(UTC) - timedelta(days=days))


def reminded(agent: Client, customer: str, *segments: str) -> list[Any]:
    request = entitlement_pb2.RemindOfDiscountsRequest(customer_id=customer, market_segment=segments)
    return list(agent.call("RemindOfDiscounts", request).entitled_discount)


def test_who_asks_for_a_price_or_a_recommendation_is_reminded(
    database: Database, manager: Client, agent: Client, rule: Any
) -> None:
    tariff = priced(manager, "tariff", 500)
    made = rule(tariff, held_for=values_pb2.Duration(amount=6, units="month"), market_segment=[ref("home")])
    who = new_id()
    heard(database, a_product(tariff.id, who, start_date=ago(200)))
    wanted = pricing_pb2.PriceRequestItem(id="1", product_offering_id=tariff.id)
    context: dict[str, Any] = {"customer_id": who, "market_segment": ["home"]}
    answer = agent.price(wanted, **context, remind=True)
    (said,) = answer.entitled_discount
    assert (said.discount_entitlement.id, said.percentage, said.products) == (made.id, "10", 1)
    assert said.label == "Entitled to 10 % off by 'Loyal': 1 product held, for at least 6 months"
    assert reminded(agent, who, "home") == [said]
    # The price is what it is without, and who doesn't want to know isn't told.
    plain = agent.price(wanted, **context)
    assert not plain.entitled_discount
    assert (plain.item, plain.total) == (answer.item, answer.total)
    recommendation = recommended(agent, who, market_segment=[values_pb2.EntityRef(name="home")])
    assert list(recommendation.entitled_discount) == [said]
    assert [step.rule for step in recommendation.receipt.step if step.action == "ENTITLED"] == [made.id]
    assert agent.call("GetQueryProductRecommendation", requests_pb2.GetRequest(id=recommendation.id)) == recommendation
    # Who isn't known to be at home isn't entitled, nor is somebody else.
    assert reminded(agent, who) == []
    assert reminded(agent, new_id(), "home") == reminded(agent, "", "home") == []


def test_what_counts_is_what_the_customer_has(database: Database, manager: Client, agent: Client, rule: Any) -> None:
    tariff = priced(manager, "counted", 500)
    rule(tariff, minimum_products=2)
    who = new_id()
    bundle = inventory_pb2.ProductRelationship(
        relationship_type="bundledIn", product=inventory_pb2.ProductRefOrValue(id="whole")
    )
    one = a_product(tariff.id, who, start_date=ago(2))
    heard(database, one)
    for not_counted in (
        a_product(tariff.id, who, status=inventory_pb2.PRODUCT_STATUS_PENDING_ACTIVE),
        a_product(tariff.id, who, start_date=ago(9), status=inventory_pb2.PRODUCT_STATUS_TERMINATED),
        a_product(tariff.id, who, start_date=ago(9), product_relationship=[bundle]),
        a_product("another", who, start_date=ago(9)),
        a_product(tariff.id, new_id(), start_date=ago(9)),
    ):
        heard(database, not_counted)
    assert reminded(agent, who) == []
    # Another version of the same.
    version = offered(manager, "counted, anew", series=tariff.id, version="2.0")
    heard(database, a_product(version.id, who, start_date=ago(1)))
    (said,) = reminded(agent, who)
    assert said.products == 2
    for number, (status, counts) in enumerate(
        [
            (inventory_pb2.PRODUCT_STATUS_SUSPENDED, False),
            (inventory_pb2.PRODUCT_STATUS_PENDING_TERMINATE, True),
            (inventory_pb2.PRODUCT_STATUS_TERMINATED, False),
        ],
        start=2,
    ):
        one.status = status
        heard(database, one, version=number)
        assert bool(reminded(agent, who)) is counts


def test_nobody_learns_what_is_held_in_another_branch(
    database: Database, manager: Client, agent: Client, client_for: Callable[..., Client], rule: Any
) -> None:
    tariff = priced(manager, "of a branch", 500)
    rule(tariff)
    who = new_id()
    heard(database, a_product(tariff.id, who, start_date=ago(9)))
    assert reminded(agent, who)
    assert reminded(client_for(["agent"], ["osh"]), who) == []


def test_nobody_is_reminded_of_what_nobody_grants(
    database: Database, manager: Client, agent: Client, rule: Any
) -> None:
    tariff = priced(manager, "promoted", 500)
    promotion = manager.create(a_promotion(coupon_required=True))
    manager.create(a_coupon(promotion, f"LOYAL-{new_id()}"))
    rule(tariff, promotion=values_pb2.EntityRef(id=promotion.id, name="Loyalty"))
    who = new_id()
    heard(database, a_product(tariff.id, who, start_date=ago(9)))
    assert reminded(agent, who) == []
    move(manager, promotion, "release")
    (said,) = reminded(agent, who)
    assert (said.promotion.id, said.promotion.name) == (promotion.id, "Loyalty")
    move(manager, promotion, "suspend")
    assert reminded(agent, who) == []


def test_a_rule_that_nobody_could_be_entitled_by_is_refused(manager: Client, rule: Any) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"percentage": "0"}, "percentage"),
        ({"percentage": "100.01"}, "percentage"),
        ({"minimum_products": 0}, "minimum_products"),
        ({"held_for": values_pb2.Duration(amount=1, units="fortnight")}, "held_for"),
        ({"held_for": values_pb2.Duration(amount=0, units="month")}, "held_for"),
        ({"promotion": values_pb2.EntityRef(id="nowhere")}, "promotion.id"),
        ({"product_offering": [ref(priced(manager, "tariff", 500)), ref("typo")]}, "product_offering[1].id"),
        ({"product_offering": [values_pb2.EntityRef(name="typo")]}, "product_offering[0].id"),
        ({"promotion": ref(manager.create(a_promotion())), "percentage": "11"}, "percentage"),
    ]
    for body, field in wrong:
        with pytest.raises(InvalidArgument) as refused:
            partial(rule, **body)()
        assert [violation.field for violation in refused.value.violations] == [field]
    made = rule()
    changed = entitlement_pb2.DiscountEntitlement(id=made.id, percentage="-1")
    with pytest.raises(InvalidArgument):
        manager.update(changed, "percentage")
    changed = entitlement_pb2.DiscountEntitlement(id=made.id, product_offering=[ref("typo")])
    with pytest.raises(InvalidArgument, match="there is no offering 'typo'"):
        manager.update(changed, "product_offering")
    assert manager.update(entitlement_pb2.DiscountEntitlement(id=made.id, percentage="15"), "percentage").etag == "2"


def test_what_a_rule_names_stays(manager: Client) -> None:
    promotion = manager.create(a_promotion())
    offering = offered(manager, "a draft", lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_IN_DESIGN)
    made = manager.create(
        entitlement_pb2.DiscountEntitlement(
            name="Loyal", percentage="10", promotion=ref(promotion), product_offering=[ref(offering)]
        )
    )
    for named in (promotion, offering):
        with pytest.raises(FailedPrecondition) as refused:
            manager.delete(named)
        assert refused.value.reason == "REFERENCED"
        assert made.id in refused.value.message
    manager.update(entitlement_pb2.DiscountEntitlement(id=made.id), "promotion")
    manager.delete(promotion)
    manager.delete(made)
    manager.delete(offering)


def test_nobody_is_reminded_of_more_than_is_granted(
    database: Database, manager: Client, agent: Client, rule: Any
) -> None:
    tariff, who = priced(manager, "promoted", 500), new_id()
    heard(database, a_product(tariff.id, who, start_date=ago(9)))
    both = a_promotion(pattern(off("10")), pattern(off("25", "unitPercentage")), coupon_required=True)
    for promotion in (
        both,
        a_promotion(
            pattern(off("100", "orderAmount", price_type="recurring", recurring_charge_period="month")),
            currency="KGS",
            coupon_required=True,
        ),
    ):
        made = manager.create(promotion)
        manager.create(a_coupon(made, f"LOYAL-{new_id()}"))
        rule(tariff, percentage="25", promotion=ref(made))
        assert reminded(agent, who) == []
        move(manager, made, "release")
        # An amount may be any percentage.
        assert [one.percentage for one in reminded(agent, who)] == ["25"]
        move(manager, made, "suspend")
    made = manager.create(a_promotion(coupon_required=True))
    manager.create(a_coupon(made, f"LOYAL-{new_id()}"))
    rule(tariff, promotion=ref(made))
    manager.update(promotion_pb2.Promotion(id=made.id, pattern=[pattern(off("5"))]), "pattern")
    move(manager, made, "release")
    assert reminded(agent, who) == [], "it grants something else by now"
    move(manager, made, "suspend")
