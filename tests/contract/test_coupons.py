"""Coupons of orders, segments of customers, discounts that somebody is entitled to: what TM Forum has no name for."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from svyaz.catalog.v1 import entitlement_pb2
from svyaz.type.v1 import values_pb2
from svyaz_cli.issuer import Issuer
from tests.contract.specs import PATHS, Spec
from tests.contract.test_refusals import refused
from tests.e2e.branch import eventually
from tests.running import Api, Running
from tests.serving import Caller

ORDER, CUSTOMER, ACCOUNT = PATHS["productOrder"], PATHS["customer"], PATHS["billingAccount"]
PROMOTIONS = "svyaz.catalog.v1.PromotionService/"
ENTITLEMENTS = "svyaz.catalog.v1.EntitlementService/"


@pytest.fixture(scope="module")
def catalog(running: Running, issuer: Issuer) -> Iterator[Caller]:
    """A manager of the catalog, where coupons and rules are made."""
    token = issuer.token(["catalog-manager", "admin"], ["bishkek"])
    with grpc.insecure_channel(running.address("catalog")) as channel:
        yield Caller(channel, token)


@pytest.fixture(scope="module")
def tariff(api: Api) -> str:
    """An offering for 500 a month."""
    price = {
        "name": "fee",
        "lifecycleStatus": "Active",
        "priceType": "recurring",
        "recurringChargePeriodType": "month",
        "price": {"unit": "KGS", "value": 500},
    }
    made = api.made(PATHS["productOfferingPrice"], price)
    body = {"name": "tariff", "lifecycleStatus": "Launched", "productOfferingPrice": [{"id": made["id"]}]}
    return str(api.made(PATHS["productOffering"], body)["id"])


@pytest.fixture
def student(api: Api) -> tuple[str, str]:
    """A customer in a segment, with an account."""
    body = {
        "name": "Aida",
        "engagedParty": {"id": "500", "@referredType": "Individual"},
        "marketSegment": [{"id": "s1", "name": "students"}],
    }
    customer = api.made(CUSTOMER, body)
    owner = {"id": customer["id"], "role": "owner", "@referredType": "Customer"}
    return customer["id"], api.made(ACCOUNT, {"name": "a", "relatedParty": [owner]})["id"]


@pytest.fixture
def coupon(api: Api, catalog: Caller) -> Iterator[Any]:
    """A coupon of one use, of a promotion that takes a fifth off for students."""
    criteria = {"criteriaParameter": "segment", "criteriaOperator": "=", "criteriaValue": "students"}
    action = {"actionType": "unitPercentage", "actionValue": "20"}
    promotion = api.made(
        PATHS["promotion"],
        {
            "name": "for students",
            "lifecycleStatus": "release",
            "couponRequired": True,
            "pattern": [{"action": [action], "criteriaGroup": [{"criteria": [criteria]}]}],
        },
    )
    body = {"code": f"STUDENT-{promotion['id']}", "promotion": {"id": promotion["id"]}, "usage_limit": 1}
    yield catalog(PROMOTIONS + "CreateCoupon", coupon=body)
    assert api.patch(promotion["href"], {"lifecycleStatus": "retirement"}).status_code == 200


def an_order(tariff: str, customer: str, account: str, *coupons: Any, **more: Any) -> dict[str, Any]:
    return {
        "productOrderItem": [{"id": "1", "action": "add", "productOffering": {"id": tariff}}],
        "relatedParty": [{"id": customer, "role": "customer", "@referredType": "Customer"}],
        "billingAccount": {"id": account},
        "coupon": list(coupons),
        **more,
    }


def paths(error: dict[str, Any]) -> list[str]:
    return [detail["path"] for detail in error["details"]]


def test_an_order_is_taken_with_its_coupon_and_gives_it_back(
    api: Api, catalog: Caller, specs: dict[str, Spec], tariff: str, student: tuple[str, str], coupon: Any
) -> None:
    later = {"requestedStartDate": "2126-01-01T00:00:00Z"}
    made = api.made(ORDER, an_order(tariff, *student, coupon.code, **later))
    assert made["coupon"] == [coupon.code]
    assert [total["price"]["dutyFreeAmount"] for total in made["orderTotalPrice"]] == [{"unit": "KGS", "value": 400}]
    (alteration,) = made["productOrderItem"][0]["itemPrice"][0]["priceAlteration"]
    assert alteration["productOfferingPrice"]["@referredType"] == "Promotion"
    specs["productOrderingManagement"].check("ProductOrder", made)
    assert api.get(ORDER, params={"id": made["id"], "fields": "coupon"}).json()[0]["coupon"] == [coupon.code]
    # It has been used.
    error = refused(api.post(ORDER, an_order(tariff, *student, coupon.code)), 400, "COUPON_EXHAUSTED")
    assert paths(error) == ["coupon[0]"]
    assert paths(refused(api.patch(made["href"], {"coupon": []}), 400, "IMMUTABLE")) == ["coupon"]
    assert api.patch(made["href"], {"coupon": [coupon.code], "description": "for school"}).status_code == 200
    assert api.patch(made["href"], {"state": "cancelled"}).status_code == 200
    eventually(lambda: catalog(PROMOTIONS + "GetCoupon", id=coupon.id).redeemed == 0, 30, lambda: "it stays used")
    assert api.made(ORDER, an_order(tariff, *student, coupon.code))["coupon"] == [coupon.code]


def test_a_coupon_is_refused_by_its_place(api: Api, tariff: str, student: tuple[str, str], coupon: Any) -> None:
    error = refused(api.post(ORDER, an_order(tariff, *student, coupon.code, "NOBODYS")), 400, "COUPON_UNKNOWN")
    assert paths(error) == ["coupon[1]"]
    for wrong, path in (("A", "coupon"), ([1], "coupon[0]"), ([{"code": "A"}], "coupon[0]")):
        answer = api.post(ORDER, an_order(tariff, *student) | {"coupon": wrong})
        assert paths(refused(answer, 400, "BAD_ATTRIBUTE")) == [path]
    assert api.patch(f"{CUSTOMER}/{student[0]}", {"marketSegment": None}).status_code == 200
    error = refused(api.post(ORDER, an_order(tariff, *student, coupon.code)), 400, "COUPON_NOT_APPLICABLE")
    assert paths(error) == ["coupon[0]"]


def test_a_customers_segments_are_kept_found_and_merged(api: Api, student: tuple[str, str]) -> None:
    path = f"{CUSTOMER}/{student[0]}"
    assert api.get(path).json()["marketSegment"] == [{"id": "s1", "name": "students"}]
    listed = api.get(CUSTOMER, params={"marketSegment.name": "students", "id": student[0]}).json()
    assert [one["id"] for one in listed] == [student[0]]
    business = {"id": "s2", "name": "business", "since": 2026}
    assert api.patch(path, {"marketSegment": [business]}).json()["marketSegment"] == [business]
    answer = api.patch(path, {"marketSegment": "business"})
    assert paths(refused(answer, 400, "BAD_ATTRIBUTE")) == ["marketSegment"]


def test_a_regular_customers_discount_is_said_with_a_recommendation(
    api: Api, catalog: Caller, specs: dict[str, Spec], tariff: str, student: tuple[str, str]
) -> None:
    rule = entitlement_pb2.DiscountEntitlement(
        name="Regulars", percentage="7.5", product_offering=[values_pb2.EntityRef(id=tariff)]
    )
    made = catalog(ENTITLEMENTS + "CreateDiscountEntitlement", discount_entitlement=rule)
    party = {"id": student[0], "@referredType": "Customer", "role": "customer"}
    question = {"instantSyncRecommendation": True, "relatedParty": party}
    assert "entitledDiscount" not in api.made(PATHS["queryProductRecommendation"], question)
    body = an_order(tariff, *student)
    del body["coupon"]
    api.made(ORDER, body)

    def said() -> Any:
        return api.made(PATHS["queryProductRecommendation"], question)

    eventually(lambda: "entitledDiscount" in said(), 60, lambda: "nobody is reminded")
    answer = said()
    specs["recommendationManagement"].check("QueryProductRecommendation", answer)
    (discount,) = answer["entitledDiscount"]
    assert discount["discountEntitlement"]["id"] == made.id
    assert (discount["percentage"], discount["products"]) == (7.5, 1)
    assert discount["label"] == "Entitled to 7.5 % off by 'Regulars': 1 product held"
    catalog(ENTITLEMENTS + "DeleteDiscountEntitlement", id=made.id)
