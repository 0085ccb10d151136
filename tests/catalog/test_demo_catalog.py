"""The demo operator's product lines are ones that can be sold: every rule of ours holds for what we ship."""

import json
from importlib.resources import files
from typing import Any

import pytest

from catalog.product.domain import ProductOffering, ProductSpecification
from catalog.qualification.configuration import Configurable, Selection, configurable, configure
from catalog.qualification.eligibility import Held, Restrictions, Situation, judge
from chassis.convert import from_message
from chassis.tmfjson import Dialect, parse
from chassis.types import Characteristic, Json
from svyaz.catalog.v1 import catalog_pb2
from tests.catalog.things import NOW


def things(name: str, message: Any, cls: Any) -> dict[str, Any]:
    """Key → thing, which refers to others by `@kind/key`."""
    text = files("svyaz_cli.demo").joinpath("data", f"{name}.json").read_text("utf-8")
    made = {}
    for thing in json.loads(text):
        read = Dialect().message(message, parse(json.dumps(thing["body"]).encode()))
        made[thing["key"]] = from_message(read, cls, id=f"@{name}/{thing['key']}", branch="*")
        made[thing["key"]].check(NOW)
    return made


@pytest.fixture(scope="module")
def specifications() -> dict[str, ProductSpecification]:
    """By key."""
    return things("productSpecification", catalog_pb2.ProductSpecification, ProductSpecification)


@pytest.fixture(scope="module")
def offerings() -> dict[str, ProductOffering]:
    """By key."""
    return things("productOffering", catalog_pb2.ProductOffering, ProductOffering)


@pytest.fixture(scope="module")
def sold(
    specifications: dict[str, ProductSpecification], offerings: dict[str, ProductOffering]
) -> dict[str, Configurable]:
    """By id."""
    by_id = {spec.id: spec for spec in specifications.values()}
    return {
        one.id: configurable(one, by_id[one.product_specification.id or ""] if one.product_specification else None)
        for one in offerings.values()
    }


def choose(sold: dict[str, Configurable], key: str, **values: Any) -> tuple[dict[str, Any], list[str]]:
    """What is configured, and the rules that are broken."""
    chosen = tuple(Characteristic(name=n, value=Json(json.dumps(v))) for n, v in values.items())
    selection = Selection(product_offering_id=f"@productOffering/{key}", characteristic=chosen)
    found = configure(selection, sold, NOW)
    characteristics = found.configuration.characteristic
    return (
        {c.name or "": json.loads(c.value.text) for c in characteristics if c.value},
        [violation.rule or violation.code for violation in found.violation],
    )


def test_every_offering_can_be_had_without_a_choice(sold: dict[str, Configurable]) -> None:
    for offering in sold.values():
        found = configure(Selection(product_offering_id=offering.id), sold, NOW)
        # Where it is to be is the one thing that nobody can guess.
        unguessed = {v.path.rpartition("characteristic")[2] for v in found.violation if v.code == "CARDINALITY"}
        assert unguessed <= {"[installationAddress]", "[siteA]", "[siteB]"}, (offering.id, found.violation)
        assert {violation.code for violation in found.violation} <= {"CARDINALITY"}, offering.id
        assert not [step for step in found.receipt.step if step.action == "IGNORED"]


def test_an_offering_is_what_its_name_says(sold: dict[str, Configurable]) -> None:
    assert choose(sold, "mobile-m")[0] | {"roaming": False} == {
        "simType": "SIM",
        "minutes": 500,
        "data": 20,
        "roaming": False,
    }
    fast, broken = choose(sold, "internet-300", installationAddress="Chuy 1")
    assert (fast["downloadSpeed"], fast["technology"], broken) == (300, "GPON", [])


@pytest.mark.parametrize(
    ("key", "values", "broken"),
    [
        ("mobile-s", {"roaming": True, "roamingLimit": 100}, ["VALUE_NOT_PERMITTED"]),
        ("mobile-s", {"roamingLimit": 1000}, ["no limit without roaming"]),
        ("mobile-s", {"roaming": True}, []),
        ("mobile-s", {"minutes": 500}, ["NOT_CONFIGURABLE"]),
        ("tv-basic", {"resolution": "4K"}, ["4K is premium"]),
        ("tv-premium", {"resolution": "4K", "extraPackages": ["sport", "kids"]}, []),
        ("tv-basic", {"setTopBoxes": 5}, ["VALUE_NOT_PERMITTED"]),
        (
            "leased-line-100",
            {"installationAddress": "x", "availability": 99.95, "redundancy": False},
            ["99.95 % need two ways"],
        ),
        ("leased-line-100", {"installationAddress": "x", "availability": 99.95}, []),
        ("data-channel-20", {"siteA": "x", "siteB": "y", "trafficClasses": ["voice", "business"]}, []),
        (
            "data-channel-20",
            {"siteA": "x", "siteB": "y", "trafficClasses": ["voice"], "maxDelay": 80, "layer": "L3"},
            ["voice is quick"],
        ),
        ("telephony", {"numbers": ["+996312123456", "+996555"]}, ["VALUE_NOT_PERMITTED"]),
    ],
)
def test_the_rules_of_the_product_lines_hold(
    sold: dict[str, Configurable], key: str, values: dict[str, Any], broken: list[str]
) -> None:
    assert choose(sold, key, **values)[1] == broken


def test_who_has_what_can_have_what(offerings: dict[str, ProductOffering]) -> None:
    book = {
        one.id: Restrictions(
            id=one.id,
            name=one.name or "",
            status=one.status,
            is_sellable=one.is_sellable is not False,
            market_segment=one.market_segment,
            exclusion_group=one.exclusion_group,
            relationship=one.product_offering_relationship,
            part=one.bundled_product_offering,
        )
        for one in offerings.values()
    }

    def reasons(key: str, *held: str, segment: str = "") -> list[str]:
        has = [Held(product_id=one, product_offering_id=f"@productOffering/{one}") for one in held]
        situation = Situation(at=NOW, market_segment=(segment,) if segment else ())
        return [r.code for r in judge(f"@productOffering/{key}", book, situation, has, on_sale=False).reasons]

    assert reasons("tv-premium") == ["REQUIREMENT_MISSING"]
    assert reasons("tv-premium", "internet-50", "tv-basic") == []
    assert reasons("tv-basic", "internet-50", "tv-premium") == ["GROUP_OCCUPIED"]
    assert reasons("data-10", "mobile-start") == []
    assert reasons("family") == []
    assert reasons("leased-line-100", segment="Home") == ["WRONG_SEGMENT"]
    assert reasons("leased-line-100", segment="Business") == []
    assert reasons("internet-50", "leased-line-100") == ["EXCLUDED"]
