"""The configurator: what can be chosen, what follows, which rule says no; and specifications that can't be."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.product.characteristics import Kind, kind_of
from catalog.product.domain import ProductSpecification
from catalog.product.values import (
    BundledProductOffering,
    BundledProductOfferingOption,
    CharacteristicCondition,
    CharacteristicValueSpecification,
    ConditionOperator,
    ConfigurationRule,
    ProductSpecificationCharacteristic,
    ProductSpecificationCharacteristicValueUse,
)
from catalog.qualification.configuration import Configurable, Configuration, Selection, configure, replay
from chassis.errors import InvalidArgument
from chassis.types import Characteristic, Json, TimePeriod
from tests.catalog.things import NOW

_O = ConditionOperator


def spec_value(value: Any = None, **more: Any) -> CharacteristicValueSpecification:
    return CharacteristicValueSpecification(value=Json(json.dumps(value)) if value is not None else None, **more)


def a_characteristic(name: str, value_type: str, *values: Any, **more: Any) -> ProductSpecificationCharacteristic:
    """Values by themselves, or value specifications; the first plain one is no default."""
    specs = tuple(v if isinstance(v, CharacteristicValueSpecification) else spec_value(v) for v in values)
    return ProductSpecificationCharacteristic(
        name=name, value_type=value_type, product_spec_characteristic_value=specs, **more
    )


def condition(text: str) -> CharacteristicCondition:
    """`speed gte 100`; values are JSON."""
    name, operator, value = [*text.split(" ", 2), ""][:3]
    return CharacteristicCondition(
        characteristic=name, operator=ConditionOperator(operator), value=Json(value) if value else None
    )


def rule(name: str, when: Sequence[str], *then: str) -> ConfigurationRule:
    return ConfigurationRule(name=name, when=tuple(map(condition, when)), then=tuple(map(condition, then)))


def chosen(**values: Any) -> tuple[Characteristic, ...]:
    return tuple(Characteristic(name=name, value=Json(json.dumps(value))) for name, value in values.items())


def values_of(configuration: Configuration) -> dict[str, Any]:
    return {c.name or "": json.loads(c.value.text) for c in configuration.configuration.characteristic if c.value}


SPEED = a_characteristic(
    "speed",
    "integer",
    spec_value(value_from=10, value_to=1000, unit_of_measure="Mbit/s"),
    spec_value(100, is_default=True, unit_of_measure="Mbit/s"),
    min_cardinality=1,
)
ROUTER = a_characteristic("router", "string", spec_value("basic", is_default=True), "pro", "none")
FIXED_IP = a_characteristic("fixedIp", "boolean", spec_value(False, is_default=True), True)
CHANNELS = a_characteristic("channels", "string", "sport", "kids", "cinema", max_cardinality=2)
SERIAL = a_characteristic("serial", "string", regex="[A-Z]{2}[0-9]{4}")
FAST_NEEDS_PRO = rule("fast needs pro", ["speed gt 500"], 'router eq "pro"', 'router set "pro"')
PRO_HAS_IP = rule("pro has an address", ['router eq "pro"'], "fixedIp set true")
ALL = (SPEED, ROUTER, FIXED_IP, CHANNELS, SERIAL)


def configured(
    *characteristics: Characteristic,
    of: Sequence[ProductSpecificationCharacteristic] = ALL,
    rules: Sequence[ConfigurationRule] = (FAST_NEEDS_PRO, PRO_HAS_IP),
    use: Sequence[ProductSpecificationCharacteristicValueUse] = (),
    at: datetime = NOW,
) -> Configuration:
    offering = Configurable(id="o", name="Internet", characteristic=tuple(of), rule=tuple(rules), use=tuple(use))
    return configure(Selection(product_offering_id="o", characteristic=tuple(characteristics)), {"o": offering}, at)


def codes(configuration: Configuration) -> list[tuple[str, str]]:
    return [(violation.path, violation.rule or violation.code) for violation in configuration.violation]


def test_what_isnt_chosen_is_the_default() -> None:
    configuration = configured()
    assert configuration.valid
    assert values_of(configuration) == {"speed": 100, "router": "basic", "fixedIp": False}
    assert [step.action for step in configuration.receipt.step] == ["DEFAULT"] * 3


def test_rules_set_what_follows_from_each_other() -> None:
    configuration = configured(*chosen(speed=600))
    assert configuration.valid
    assert values_of(configuration) == {"speed": 600, "router": "pro", "fixedIp": True}


def test_what_was_chosen_stays_and_the_broken_rule_is_named() -> None:
    configuration = configured(*chosen(speed=600, router="basic", fixedIp=True))
    assert codes(configuration) == [("characteristic[router]", "fast needs pro")]
    assert values_of(configuration)["router"] == "basic"
    assert configured(*chosen(speed=100, router="pro", fixedIp=False)).valid


@pytest.mark.parametrize(
    ("characteristic", "code"),
    [
        (chosen(speed=9), "VALUE_NOT_PERMITTED"),
        (chosen(speed=1001), "VALUE_NOT_PERMITTED"),
        (chosen(speed="fast"), "VALUE_TYPE"),
        (chosen(speed=10.5), "VALUE_TYPE"),
        (chosen(speed=[100, 200]), "VALUE_TYPE"),
        (chosen(speed=1e300), "VALUE_TYPE"),
        (chosen(router="gold"), "VALUE_NOT_PERMITTED"),
        (chosen(channels=["sport", "kids", "cinema"]), "CARDINALITY"),
        (chosen(channels=["sport", "sport"]), "CARDINALITY"),
        (chosen(channels=["news"]), "VALUE_NOT_PERMITTED"),
        (chosen(serial="ab1"), "VALUE_NOT_PERMITTED"),
        (chosen(fixedIp="perhaps"), "VALUE_TYPE"),
        (chosen(colour="red"), "UNKNOWN_CHARACTERISTIC"),
        (chosen(speed=100) + chosen(speed=200), "CARDINALITY"),
        (
            (Characteristic(name="speed", value=Json("1"), extensions='{"unitOfMeasure":"Gbit/s"}'),),
            "UNIT",
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(characteristic: tuple[Characteristic, ...], code: str) -> None:
    configuration = configured(*characteristic, rules=())
    assert not configuration.valid
    assert configuration.violation[0].code == code
    assert configuration.violation[0].path == f"characteristic[{characteristic[0].name}]"


def test_all_that_is_wrong_is_said_at_once() -> None:
    configuration = configured(*chosen(speed=9, router="gold", colour="red", serial="x"))
    assert {violation.path for violation in configuration.violation} == {
        f"characteristic[{name}]" for name in ("speed", "router", "colour", "serial")
    }


def test_a_number_is_the_same_in_any_spelling() -> None:
    for text in ("100", "100.0", "1e2", '"100"'):
        configuration = configured(Characteristic(name="speed", value=Json(text)))
        assert configuration.valid
        assert values_of(configuration)["speed"] == 100


@pytest.mark.parametrize(
    ("interval", "permitted"),
    [
        (None, [1, 2, 3]),
        ("closed", [1, 2, 3]),
        ("open", [2]),
        ("closedBottom", [1, 2]),
        ("closedTop", [2, 3]),
    ],
)
def test_ranges_have_their_ends_or_not(interval: str | None, permitted: list[int]) -> None:
    number = a_characteristic("n", "number", spec_value(value_from=1, value_to=3, range_interval=interval))
    assert [n for n in range(5) if configured(*chosen(n=n), of=[number], rules=()).valid] == permitted


def test_values_count_in_their_time() -> None:
    old = spec_value("old", valid_for=TimePeriod(end_date_time=NOW))
    new = spec_value("new", valid_for=TimePeriod(start_date_time=NOW))
    kind = a_characteristic("kind", "string", old, new)
    assert configured(*chosen(kind="new"), of=[kind], rules=()).valid
    assert not configured(*chosen(kind="old"), of=[kind], rules=()).valid
    assert configured(*chosen(kind="old"), of=[kind], rules=(), at=datetime(2020, 1, 1, tzinfo=UTC)).valid


def test_rules_that_set_differently_are_a_conflict_by_their_names() -> None:
    rules = (rule("one", [], 'router set "pro"'), rule("other", ["speed gte 100"], 'router set "none"'))
    configuration = configured(rules=rules)
    assert codes(configuration) == [("characteristic[router]", "one, other")]
    assert configuration.violation[0].code == "CONFLICT"
    assert configured(*chosen(router="basic"), rules=rules).valid


def test_several_values_may_be_set_by_several_rules() -> None:
    rules = (rule("a", [], 'channels set "sport"'), rule("b", [], 'channels set "kids"'))
    assert values_of(configured(rules=rules))["channels"] == ["kids", "sport"]


def test_rules_that_never_come_to_rest_are_refused() -> None:
    rules = (
        rule("on", ["fixedIp eq false"], "fixedIp set true"),
        rule("off", ["fixedIp eq true"], "fixedIp set false"),
    )
    configuration = configured(rules=rules)
    assert "UNSTABLE" in {violation.code for violation in configuration.violation}


def narrowing(name: str, *values: Any, **more: Any) -> ProductSpecificationCharacteristicValueUse:
    specs = tuple(v if isinstance(v, CharacteristicValueSpecification) else spec_value(v) for v in values)
    return ProductSpecificationCharacteristicValueUse(name=name, product_spec_characteristic_value=specs, **more)


def test_an_offering_narrows_its_specification() -> None:
    use = [narrowing("speed", 200, 300), narrowing("router", "pro")]
    assert codes(configured(*chosen(speed=100), use=use, rules=())) == [
        ("characteristic[speed]", "VALUE_NOT_PERMITTED"),
    ]
    # The default of the specification isn't among them: it has to be chosen.
    assert codes(configured(use=use, rules=())) == [("characteristic[speed]", "CARDINALITY")]
    assert configured(*chosen(speed=300), use=use, rules=()).valid
    only = configured(use=[narrowing("speed", 200)], rules=())
    assert values_of(only)["speed"] == 200
    assert only.receipt.step[0].action == "ONLY_VALUE"
    own = configured(use=[narrowing("speed", spec_value(300, is_default=True), 200)], rules=())
    assert values_of(own)["speed"] == 300
    # What the specification doesn't permit, no offering can.
    assert not configured(*chosen(speed=5000), use=[narrowing("speed", 5000)], rules=()).valid
    span = [narrowing("speed", spec_value(value_from=500, value_to=5000))]
    assert configured(*chosen(speed=1000), use=span, rules=()).valid
    assert not configured(*chosen(speed=1001), use=span, rules=()).valid
    assert not configured(*chosen(speed=499), use=span, rules=()).valid


def test_what_isnt_configurable_keeps_what_follows() -> None:
    minutes = a_characteristic("minutes", "number", 100, 500, configurable=False, min_cardinality=1)
    use = [narrowing("minutes", 500)]
    assert values_of(configured(of=[minutes], rules=(), use=use)) == {"minutes": 500}
    assert configured(*chosen(minutes=500), of=[minutes], rules=(), use=use).valid
    assert codes(configured(*chosen(minutes=100), of=[minutes], rules=(), use=use)) == [
        ("characteristic[minutes]", "NOT_CONFIGURABLE")
    ]


def part(id: str, default: int | None = None, low: int | None = None, high: int | None = None) -> Any:
    option = BundledProductOfferingOption(
        number_rel_offer_default=default, number_rel_offer_lower_limit=low, number_rel_offer_upper_limit=high
    )
    return BundledProductOffering(id=id, bundled_product_offering_option=option)


BUNDLE = {
    "home": Configurable(id="home", part=(part("net", 1, 1, 1), part("tv-pack", 0, 0, 2))),
    "tv-pack": Configurable(id="tv-pack", part=(BundledProductOffering(id="tv"), part("box", 1, 1, 4))),
    "net": Configurable(id="net", characteristic=(SPEED,)),
    "tv": Configurable(id="tv"),
    "box": Configurable(id="box", characteristic=(a_characteristic("hd", "boolean", min_cardinality=1),)),
}


def select(id: str, number: int | None = None, *bundled: Selection, **values: Any) -> Selection:
    return Selection(product_offering_id=id, number=number, bundled=bundled, characteristic=chosen(**values))


def test_a_bundle_of_bundles_is_configured_part_by_part() -> None:
    plain = configure(select("home"), BUNDLE, NOW)
    assert plain.valid
    assert [(p.product_offering.id, p.number) for p in plain.configuration.bundled] == [("net", 1)]
    more = configure(
        select("home", None, select("net", speed=200), select("tv-pack", 2, select("box", 3, hd=True))), BUNDLE, NOW
    )
    assert more.valid
    net, pack = more.configuration.bundled
    assert net.characteristic[0].value == Json("200")
    assert [(p.product_offering.id, p.number) for p in pack.bundled] == [("tv", 1), ("box", 3)]
    wrong = configure(
        select("home", None, select("net", 0), select("tv-pack", 3, select("box", 5), select("phone")), select("x")),
        BUNDLE,
        NOW,
    )
    assert codes(wrong) == [
        ("bundled[x]", "UNKNOWN_PART"),
        ("bundled[net].number", "NUMBER_OF_PARTS"),
        ("bundled[tv-pack].number", "NUMBER_OF_PARTS"),
        ("bundled[tv-pack].bundled[phone]", "UNKNOWN_PART"),
        ("bundled[tv-pack].bundled[box].number", "NUMBER_OF_PARTS"),
        ("bundled[tv-pack].bundled[box].characteristic[hd]", "CARDINALITY"),
    ]


def test_an_unknown_offering_cannot_be_configured() -> None:
    with pytest.raises(InvalidArgument, match="there is no offering"):
        configure(select("nothing"), {}, NOW)


# --- invariants ------------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "d")
VALUES = (1, 2, 3)
_comparing = st.builds(
    lambda name, operator, value: f"{name} {operator} {value}",
    st.sampled_from(NAMES),
    st.sampled_from(("eq", "ne", "gt", "lte", "set")),
    st.sampled_from(VALUES),
)
_premises = st.lists(_comparing.filter(lambda text: " set " not in text), max_size=2)
_rules = st.lists(st.tuples(_premises, st.lists(_comparing, min_size=1, max_size=2)), max_size=5).map(
    lambda found: tuple(rule(f"r{i}", when, *then) for i, (when, then) in enumerate(found))
)
_characteristics = st.tuples(
    *(
        st.builds(
            lambda name, default, least, most: a_characteristic(
                name,
                "integer",
                *(spec_value(v, is_default=v == default) for v in VALUES),
                min_cardinality=least,
                max_cardinality=most,
            ),
            st.just(name),
            st.sampled_from((None, *VALUES)),
            st.sampled_from((0, 1)),
            st.sampled_from((1, 1, 2)),
        )
        for name in NAMES
    )
)
_wanted = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=3).map(lambda w: chosen(**w))


@given(_characteristics, _rules, _wanted)
def test_a_completed_result_is_valid_and_stays_as_it_is(
    of: Any, rules: tuple[ConfigurationRule, ...], wanted: tuple[Characteristic, ...]
) -> None:
    first = configured(*wanted, of=of, rules=rules)
    again = configured(*first.configuration.characteristic, of=of, rules=rules)
    if first.valid:
        assert again.valid
        assert again.configuration == first.configuration
    kept = values_of(first)
    assert {c.name: json.loads(c.value.text) for c in wanted if c.value}.items() <= {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in kept.items()
    }.items()


@given(_characteristics, _rules, _wanted, st.randoms())
def test_the_order_of_rules_does_not_matter(
    of: Any, rules: tuple[ConfigurationRule, ...], wanted: tuple[Characteristic, ...], chance: Any
) -> None:
    shuffled = list(rules)
    chance.shuffle(shuffled)
    first, second = (configured(*wanted, of=of, rules=order) for order in (rules, shuffled))
    assert (first.configuration, first.violation) == (second.configuration, second.violation)
    assert first.receipt.step == second.receipt.step


@given(_characteristics, _rules, _wanted)
def test_a_receipt_gives_the_same_answer(
    of: Any, rules: tuple[ConfigurationRule, ...], wanted: tuple[Characteristic, ...]
) -> None:
    first = configured(*wanted, of=of, rules=rules)
    again = replay(first.receipt)
    assert again == first
    assert again.receipt.inputs.text == first.receipt.inputs.text


# --- specifications that can't be ------------------------------------------------------------------------------------


def refused(
    *characteristics: ProductSpecificationCharacteristic, rules: Sequence[ConfigurationRule] = ()
) -> dict[str, str]:
    """Path → what is wrong."""
    specification = ProductSpecification(
        id="s",
        branch="*",
        name="s",
        product_spec_characteristic=characteristics,
        configuration_rule=tuple(rules),
    )
    with pytest.raises(InvalidArgument) as error:
        specification.check(NOW)
    assert error.value.reason == "CONTRADICTION"
    return {violation.field: violation.description for violation in error.value.violations}


def test_a_specification_that_can_be_is_accepted() -> None:
    specification = ProductSpecification(
        id="s", branch="*", product_spec_characteristic=ALL, configuration_rule=(FAST_NEEDS_PRO, PRO_HAS_IP)
    )
    specification.check(NOW)


_C = "product_spec_characteristic[0]"
_V = f"{_C}.product_spec_characteristic_value"


@pytest.mark.parametrize(
    ("characteristic", "path"),
    [
        (a_characteristic("", "string"), f"{_C}.name"),
        (a_characteristic("a", "string", min_cardinality=2, max_cardinality=1), f"{_C}.min_cardinality"),
        (a_characteristic("a", "string", min_cardinality=2), f"{_C}.min_cardinality"),
        (a_characteristic("a", "string", min_cardinality=-1), f"{_C}.min_cardinality"),
        (a_characteristic("a", "string", regex="("), f"{_C}.regex"),
        (a_characteristic("a", "string", spec_value(regex="[")), f"{_V}[0].regex"),
        (a_characteristic("a", "number", "fast"), f"{_V}[0].value"),
        (a_characteristic("a", "integer", 1.5), f"{_V}[0].value"),
        (a_characteristic("a", "date", "2026-02-30"), f"{_V}[0].value"),
        (a_characteristic("a", "dateTime", "2026-02-03T00:00:00"), f"{_V}[0].value"),
        (a_characteristic("a", "boolean", 1), f"{_V}[0].value"),
        (a_characteristic("a", "number", spec_value(value_from=5, value_to=1)), f"{_V}[0].value_from"),
        (
            a_characteristic("a", "number", spec_value(value_from=5, value_to=5, range_interval="open")),
            f"{_V}[0].value_from",
        ),
        (
            a_characteristic("a", "number", spec_value(value_from=1, value_to=5, range_interval="ajar")),
            f"{_V}[0].range_interval",
        ),
        (a_characteristic("a", "string", spec_value(value_from=1)), f"{_V}[0].value_from"),
        (a_characteristic("a", "number", spec_value(is_default=True)), f"{_V}[0].value"),
        (a_characteristic("a", "number", spec_value(7, value_from=1, value_to=5)), f"{_V}[0].value"),
        (
            a_characteristic("a", "number", spec_value(value_from=1, value_to=5), spec_value(7, is_default=True)),
            f"{_V}[1].value",
        ),
        (a_characteristic("a", "string", spec_value("x", is_default=True), regex="y"), f"{_V}[0].value"),
        (
            a_characteristic("a", "string", spec_value("x", is_default=True), spec_value("y", is_default=True)),
            _V,
        ),
        (
            a_characteristic("a", "number", spec_value(1, unit_of_measure="GB"), spec_value(2, unit_of_measure="MB")),
            _V,
        ),
    ],
)
def test_a_characteristic_that_cannot_be_is_refused(
    characteristic: ProductSpecificationCharacteristic, path: str
) -> None:
    assert path in refused(characteristic)


def test_two_characteristics_of_one_name_are_refused() -> None:
    assert "product_spec_characteristic[1].name" in refused(SPEED, SPEED)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        (ConfigurationRule(name="r"), "then"),
        (rule("r", ["colour eq 1"], "speed eq 100"), "when[0].characteristic"),
        (rule("r", [], "colour present"), "then[0].characteristic"),
        (rule("r", ["speed set 100"], "fixedIp eq true"), "when[0].operator"),
        (rule("r", [], "speed eq"), "then[0].value"),
        (rule("r", [], 'speed eq "fast"'), "then[0].value"),
        (rule("r", [], "speed in 5"), "then[0].value"),
        (rule("r", [], 'router gt "basic"'), "then[0].value"),
        (rule("r", [], "speed set 5000"), "then[0].value"),
        (
            ConfigurationRule(then=(CharacteristicCondition(characteristic="speed"),)),
            "then[0].value",
        ),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(wrong: ConfigurationRule, path: str) -> None:
    assert list(refused(*ALL, rules=[wrong])) == [f"configuration_rule[0].{path}"]


@pytest.mark.parametrize(
    "rules",
    [
        [rule("more", [], "speed gt 500"), rule("less", [], "speed lt 500")],
        [rule("never", [], 'router eq "gold"')],
        [
            rule("either", ["fixedIp eq true"], 'router eq "pro"'),
            rule("other", ["fixedIp eq false"], 'router eq "pro"'),
            rule("no pro", ["fixedIp present"], 'router ne "pro"'),
            rule("always", [], "fixedIp present"),
        ],
    ],
)
def test_rules_that_contradict_each_other_for_every_choice_are_refused(rules: list[ConfigurationRule]) -> None:
    harmless = rule("harmless", ['channels eq "sport"'], "fixedIp present")
    found = refused(SPEED, ROUTER, FIXED_IP, rules=rules)
    assert all((r.name or "") in found["configuration_rule"] for r in rules)
    channels = a_characteristic("channels", "string", "sport")
    more = refused(SPEED, ROUTER, FIXED_IP, channels, rules=[*rules, harmless])
    assert "harmless" not in more["configuration_rule"]


def test_rules_that_leave_one_choice_are_accepted() -> None:
    rules = (rule("more", [], "speed gte 500"), rule("less", [], "speed lte 500"))
    ProductSpecification(id="s", branch="*", product_spec_characteristic=(SPEED,), configuration_rule=rules).check(NOW)
    between = (rule("more", [], "n gt 1"), rule("less", [], "n lt 2"))
    decimal, whole = a_characteristic("n", "number"), a_characteristic("n", "integer")
    ProductSpecification(id="s", branch="*", product_spec_characteristic=(decimal,), configuration_rule=between).check(
        NOW
    )
    assert "configuration_rule" in refused(whole, rules=between)


def test_value_types_go_by_any_spelling() -> None:
    assert [kind_of(name) for name in ("String", "date-time", "INTEGER", "Boolean", "float", "colour", None)] == [
        Kind.STRING,
        Kind.DATE_TIME,
        Kind.INTEGER,
        Kind.BOOLEAN,
        Kind.NUMBER,
        Kind.ANY,
        Kind.ANY,
    ]
