"""TM Forum JSON ↔ messages: nothing is lost or changed on the way, and every fault is named with its path."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.errors import InvalidArgument
from chassis.scalars import encode_json
from chassis.tmfjson import Dialect, descriptor_of, parse, select
from gateway.resources import RESOURCES, Resource
from svyaz.catalog.v1 import catalog_pb2, pricing_pb2
from svyaz.customers.v1 import account_pb2, customers_pb2, party_pb2
from svyaz.orders.v1 import inventory_pb2, orders_pb2
from tests.gateway.messages import arguments, json_values, texts

DIALECT = Dialect()
OFFERING: dict[str, Any] = {"name": "Fibre"}


def faults(message_class: Any, body: Any, *, patch: bool = False, strict: bool = False) -> dict[str, str]:
    """Path → description of what is wrong with the body."""
    read = DIALECT.patch if patch else DIALECT.message
    with pytest.raises(InvalidArgument) as refused:
        read(message_class, parse(json.dumps(body).encode()), strict=strict)
    return {violation.field: violation.description for violation in refused.value.violations}


def offering(**more: Any) -> catalog_pb2.ProductOffering:
    return DIALECT.message(catalog_pb2.ProductOffering, parse(json.dumps(OFFERING | more).encode()))


def through(message_class: Any, text: bytes) -> bytes:
    """The JSON that comes back for a JSON text."""
    return encode_json(DIALECT.json(DIALECT.message(message_class, parse(text))))


@given(resource=st.sampled_from(RESOURCES), data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_message_survives_the_way_through_json(resource: Resource, data: st.DataObject) -> None:
    message: Any = resource.message_class(**data.draw(arguments(descriptor_of(resource.message_class), DIALECT)))
    text = encode_json(DIALECT.json(message))
    assert DIALECT.message(resource.message_class, parse(text)) == message
    # What we write is JSON to others too.
    json.loads(text)


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_price_request_survives_the_way_through_json(data: st.DataObject) -> None:
    message = pricing_pb2.PriceRequest(**data.draw(arguments(descriptor_of(pricing_pb2.PriceRequest), DIALECT)))
    assert DIALECT.message(pricing_pb2.PriceRequest, parse(encode_json(DIALECT.json(message)))) == message


@given(resource=st.sampled_from(RESOURCES), data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_patch_with_everything_says_the_same_as_the_whole(resource: Resource, data: st.DataObject) -> None:
    message: Any = resource.message_class(**data.draw(arguments(descriptor_of(resource.message_class), DIALECT)))
    patched, mask = DIALECT.patch(resource.message_class, parse(encode_json(DIALECT.json(message))))
    assert patched == message
    stated = {field.name for field, _ in message.ListFields()}
    assert {path.partition(".")[0] for path in mask} <= stated


@given(json_values.filter(lambda value: value is not None))
def test_any_json_value_is_kept_as_a_characteristic(value: Any) -> None:
    body: dict[str, Any] = {"name": "n", "engagedParty": {"id": "1", "@referredType": "Individual"}}
    body["characteristic"] = [{"name": "c", "value": value}]
    back = json.loads(through(customers_pb2.Customer, json.dumps(body).encode()))
    assert back["characteristic"][0]["value"] == value


@given(st.dictionaries(texts.filter(lambda name: not name.startswith("@")), json_values, max_size=4))
def test_unknown_attributes_are_kept_at_every_level(unknown: dict[str, Any]) -> None:
    unknown = {f"x-{name}": value for name, value in unknown.items() if value is not None}
    body = OFFERING | unknown | {"validFor": dict(unknown), "category": [{"id": "1"} | unknown]}
    assert json.loads(through(catalog_pb2.ProductOffering, json.dumps(body).encode())) == body


@pytest.mark.parametrize("digits", ["437011234567890123", "1.10", "-0.000", "1e2", "12345678901234567890123456.7890"])
def test_numbers_in_free_values_and_extensions_keep_every_digit(digits: str) -> None:
    use = f'{{"productSpecCharacteristicValue":[{{"value":{digits}}}]}}'
    text = f'{{"name":"n","prodSpecCharValueUse":[{use}],"x":[{digits}]}}'
    assert through(catalog_pb2.ProductOffering, text.encode()).count(digits.encode()) == 2


@pytest.mark.parametrize(
    ("sent", "units", "nanos"),
    [
        ("39.9", 39, 900_000_000),
        ("-0.5", 0, -500_000_000),
        ("1e2", 100, 0),
        ("0.000000001", 0, 1),
        ("12.50", 12, 500_000_000),
    ],
)
def test_an_amount_is_exact(sent: str, units: int, nanos: int) -> None:
    body = f'{{"name":"n","price":{{"unit":"KGS","value":{sent}}}}}'.encode()
    price = DIALECT.message(catalog_pb2.ProductOfferingPrice, parse(body)).price
    assert (price.unit, price.units, price.nanos) == ("KGS", units, nanos)
    back = json.loads(through(catalog_pb2.ProductOfferingPrice, body), parse_float=Decimal, parse_int=Decimal)
    assert back["price"] == {"unit": "KGS", "value": Decimal(sent)}


def test_a_decimal_keeps_its_digits_and_an_exponent_is_written_out() -> None:
    body = b'{"name":"n","percentage":1.10,"tax":[{"taxRate":2E+1}]}'
    message = DIALECT.message(catalog_pb2.ProductOfferingPrice, parse(body))
    assert message.percentage == "1.10"
    assert message.tax[0].tax_rate == "20"
    assert b'"percentage":1.10' in through(catalog_pb2.ProductOfferingPrice, body)


@pytest.mark.parametrize("number", ["1e999999999", "1e-999999999", "1e65", "9" * 70])
def test_a_number_that_would_fill_memory_is_refused(number: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        DIALECT.message(catalog_pb2.ProductOfferingPrice, parse(f'{{"name":"n","percentage":{number}}}'.encode()))
    assert refused.value.violations[0].field == "percentage"


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.500Z"),
        ("2026-01-31T12:00:00.000001Z", "2026-01-31T12:00:00.000001Z"),
        ("2026-01-31T12:00:00+06:00", "2026-01-31T06:00:00Z"),
        ("2026-01-31T12:00:00+0000", "2026-01-31T12:00:00Z"),
        ("2026-01-31", "2026-01-31T00:00:00Z"),
        ("1890-02-28T23:59:59Z", "1890-02-28T23:59:59Z"),
    ],
)
def test_an_instant_is_shown_in_utc_and_ends_in_z(sent: str, shown: str) -> None:
    assert DIALECT.json(offering(lastUpdate=sent))["lastUpdate"] == shown


@pytest.mark.parametrize(
    "sent",
    [
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2026-02-30",
        "2026-01-31T12:00:00",
        "20260131",
        5,
        True,
        "0001-01-01T00:00:00+14:00",
        "",
    ],
)
def test_what_is_no_instant_is_refused(sent: Any) -> None:
    assert list(faults(catalog_pb2.ProductOffering, OFFERING | {"validFor": {"endDateTime": sent}})) == [
        "validFor.endDateTime"
    ]


def test_every_ill_typed_attribute_is_named_with_its_path() -> None:
    body = {
        "category": 5,
        "note": [{"text": "t"}, {"text": 5}],
        "relatedParty": [{"id": "1", "@referredType": "I"}, "x"],
        "productOrderItem": [
            {
                "id": "1",
                "action": "add",
                "quantity": "two",
                "product": {"isBundle": "yes", "productCharacteristic": {}},
            },
            {"id": "2", "action": "steal", "quantity": 2**31, "itemPrice": [{"price": {"taxRate": "19"}}]},
        ],
        "billingAccount": ["1"],
        "state": "done",
    }
    assert set(faults(orders_pb2.ProductOrder, body)) == {
        "category",
        "note[1].text",
        "relatedParty[1]",
        "productOrderItem[0].quantity",
        "productOrderItem[0].product.isBundle",
        "productOrderItem[0].product.productCharacteristic",
        "productOrderItem[1].action",
        "productOrderItem[1].quantity",
        "productOrderItem[1].itemPrice[0].price.taxRate",
        "billingAccount",
        "state",
    }


def test_every_missing_attribute_is_named_with_its_path() -> None:
    assert faults(orders_pb2.ProductOrder, {"productOrderItem": []}) == {"productOrderItem": "is required"}
    body = {"productOrderItem": [{"productOrderItem": [{"action": "add"}], "billingAccount": {}}]}
    assert set(faults(orders_pb2.ProductOrder, body)) == {
        "productOrderItem[0].productOrderItem[0].id",
        "productOrderItem[0].billingAccount.id",
        "productOrderItem[0].id",
        "productOrderItem[0].action",
    }


def test_null_in_a_new_resource_equals_absent() -> None:
    assert offering(description=None, validFor={"endDateTime": None}, x=None) == offering(validFor={})
    assert faults(catalog_pb2.ProductOffering, {"name": None}) == {"name": "is required"}
    assert set(faults(catalog_pb2.ProductOffering, OFFERING | {"category": [None]})) == {"category[0]"}


@pytest.mark.parametrize("name", ["extensions", "product_specification", "Name", "name "])
def test_a_name_that_only_looks_like_ours_is_an_extension(name: str) -> None:
    message = offering(**{name: "mine"})
    assert json.loads(message.extensions) == {name: "mine"}
    assert json.loads(encode_json(DIALECT.json(message)))[name] == "mine"


def test_an_extension_never_takes_the_place_of_a_base_attribute() -> None:
    message = catalog_pb2.ProductOffering(
        id="1", name="ours", extensions=b'{"name":"theirs","id":"2","href":"h","description":"d","etag":"9","more":1}'
    )
    shown = json.loads(encode_json(DIALECT.resource(message, "/x/1")))
    assert shown == {"id": "1", "href": "/x/1", "name": "ours", "more": 1, "@type": "ProductOffering"}


def test_what_only_we_may_set_is_ignored_in_a_new_resource() -> None:
    message = offering(id="mine", href="/mine", branch="theirs", etag="7")
    assert message == offering()


def test_types_travel_with_nested_objects_and_must_be_strings() -> None:
    ref = {"id": "1", "@type": "CategoryRef", "@baseType": "Ref", "@schemaLocation": "https://example.org/s"}
    assert DIALECT.json(offering(category=[ref]))["category"][0].keys() == ref.keys()
    bad = OFFERING | {"@type": 5, "category": [{"id": "1", "@type": {"a": 1}, "@schemaLocation": 5}]}
    assert set(faults(catalog_pb2.ProductOffering, bad)) == {
        "@type",
        "category[0].@type",
        "category[0].@schemaLocation",
    }


def test_strict_handling_names_every_unknown_attribute() -> None:
    body = OFFERING | {
        "x": 1,
        "validFor": {"y": 1},
        "category": [{"id": "1", "z": {"deep": 1}, "@type": "CategoryRef"}],
    }
    assert set(faults(catalog_pb2.ProductOffering, body, strict=True)) == {"x", "validFor.y", "category[0].z"}
    assert set(faults(catalog_pb2.ProductOffering, body, strict=True, patch=True)) == {
        "x",
        "validFor.y",
        "category[0].z",
    }


def test_an_etag_in_a_body_guards_nothing_and_who_is_strict_is_told_so() -> None:
    shown = OFFERING | {"id": "1", "href": "/1", "lastUpdate": "2026-01-01T00:00:00Z", "branch": "*"}
    assert DIALECT.message(catalog_pb2.ProductOffering, shown, strict=True).name == "Fibre"
    for patch in (False, True):
        assert set(faults(catalog_pb2.ProductOffering, shown | {"etag": "7"}, strict=True, patch=patch)) == {"etag"}
    message, mask = DIALECT.patch(catalog_pb2.ProductOffering, {"etag": "7", "name": "Copper"})
    assert (message, mask) == (catalog_pb2.ProductOffering(name="Copper"), ["name"])


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ('{"name": "a", "name": "b"}', {"name"}),
        ('{"name": "a", "name": "a"}', {"name"}),
        ('{"name"\n:\t1, "name" : 2, "x": 3, "x": 4, "x": 5}', {"name", "x"}),
        ('{"name": 1, "n\\u0061me": 2}', {"name"}),
        ('{"a": {"b": [1, {"c": 1, "d": 2, "c": {}}]}}', {"a.b[1].c"}),
        ('{"a": {"b": 1, "b": 2}, "a": {"c": 3, "c": 4}}', {"a", "a.b", "a.c"}),
        ('[{"a": 1}, {"a": 1, "a": 1}]', {"[1].a"}),
        # Numbers of any size are no matter.
        ('{"a": 1e400, "b": ' + "9" * 4_000 + ', "a": 0.10}', {"a"}),
    ],
)
def test_what_is_stated_twice_is_refused_wherever_it_is(body: str, paths: set[str]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse(body.encode())
    assert {violation.field for violation in refused.value.violations} == paths
    assert {violation.description for violation in refused.value.violations} == {"is stated more than once"}


@pytest.mark.parametrize(
    "value",
    [
        {"a": {"a": {"a": 1}}, "b": [{"a": 1}, {"a": 2}]},
        {"text": 'he said "a": 1, "a" : 2, {"a":1,"a":2}', '"a":': '\\":'},
        {"": {"": ""}},
        ['"":', "\\", {":": ":"}],
        '"a":1',
    ],
)
def test_what_only_looks_stated_twice_is_read(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=2), json.dumps(value, separators=(" ,", " : "))):
        assert parse(text.encode()) == value


@given(json_values)
@settings(max_examples=200, deadline=None)
def test_no_value_is_taken_for_one_that_states_something_twice(value: Any) -> None:
    assert encode_json(parse(encode_json(value))) == encode_json(value)


def test_enum_values_are_spelled_as_tm_forum_spells_them() -> None:
    order = {"productOrderItem": [{"id": "1", "action": "noChange"}], "state": "inProgress"}
    message = DIALECT.message(orders_pb2.ProductOrder, order)
    assert message.state == orders_pb2.PRODUCT_ORDER_STATE_IN_PROGRESS
    assert DIALECT.json(message)["productOrderItem"][0]["action"] == "noChange"
    assert DIALECT.json(offering(lifecycleStatus="In study"))["lifecycleStatus"] == "In study"
    product = DIALECT.message(inventory_pb2.Product, {"status": "aborted "})
    assert DIALECT.json(product)["status"] == "aborted "
    assert (
        "noChange"
        in faults(orders_pb2.ProductOrder, {"productOrderItem": [{"id": "1", "action": "NO_CHANGE"}]})[
            "productOrderItem[0].action"
        ]
    )


@pytest.mark.parametrize(
    ("message_class", "attribute", "sent", "shown"),
    [
        (catalog_pb2.ProductOffering, "lifecycleStatus", "active", "Active"),
        (catalog_pb2.ProductOffering, "lifecycleStatus", "In Design", "In design"),
        (inventory_pb2.Product, "status", "aborted", "aborted "),
        (party_pb2.Individual, "status", "deceased", "deceaded"),
    ],
)
def test_odd_spellings_are_read_in_their_regular_form_too(
    message_class: Any, attribute: str, sent: str, shown: str
) -> None:
    body = {"name": "n", "familyName": "f", "givenName": "g", attribute: sent}
    assert DIALECT.json(DIALECT.message(message_class, body))[attribute] == shown


def test_a_merge_patch_names_what_it_sets_replaces_and_removes() -> None:
    body = {
        "description": None,
        "name": "new",
        "category": [],
        "channel": [{"id": "1"}],
        "validFor": {"endDateTime": None, "startDateTime": "2026-01-01"},
        "productSpecification": {"name": "n", "x": None},
        "x": {"a": None},
    }
    message, mask = DIALECT.patch(catalog_pb2.ProductOffering, body)
    assert set(mask) == {
        "description",
        "name",
        "category",
        "channel",
        "valid_for.end_date_time",
        "valid_for.start_date_time",
        "product_specification.name",
        "product_specification.extensions",
        "extensions",
    }
    assert json.loads(message.extensions) == {"x": {"a": None}}
    assert json.loads(message.product_specification.extensions) == {"x": None}
    assert not message.HasField("description")
    assert not message.valid_for.HasField("end_date_time")


@pytest.mark.parametrize(
    ("price", "mask"),
    [
        ({"unit": "KGS", "value": 1}, ["price"]),
        ({"value": 1}, ["price.units", "price.nanos"]),
        ({"unit": "KGS"}, ["price.unit"]),
        (None, ["price"]),
        ({}, []),
    ],
)
def test_a_merge_patch_of_an_amount(price: Any, mask: list[str]) -> None:
    assert DIALECT.patch(catalog_pb2.ProductOfferingPrice, {"price": price})[1] == mask


def test_a_merge_patch_cannot_remove_what_is_required() -> None:
    assert set(faults(customers_pb2.Customer, {"name": None, "engagedParty": {"id": None}}, patch=True)) == {
        "name",
        "engagedParty.id",
    }
    assert set(faults(account_pb2.BillingAccount, {"relatedParty": []}, patch=True)) == {"relatedParty"}
    assert set(faults(account_pb2.BillingAccount, {"relatedParty": [{"id": "1"}]}, patch=True)) == {
        "relatedParty[0].@referredType"
    }


def test_an_amount_has_no_other_attributes() -> None:
    assert set(faults(catalog_pb2.ProductOfferingPrice, OFFERING | {"price": {"value": "5", "x": 1}})) == {
        "price.value",
        "price.x",
    }
    assert set(faults(catalog_pb2.ProductOfferingPrice, OFFERING | {"price": {"value": 1e-10}})) == {"price.value"}
    assert set(faults(catalog_pb2.ProductOfferingPrice, OFFERING | {"price": {"value": 2**63}})) == {"price.value"}
    assert set(faults(pricing_pb2.PriceRequest, {"item": [], "x": 1})) == {"item", "x"}
    assert set(faults(pricing_pb2.PriceRequest, {"item": [{"id": "1"}]})) == {"item[0].productOfferingId"}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b"", "byte 0"),
        (b'{"name":', "byte 8"),
        (b'{"name":"n",}', "byte 12"),
        (b"{'name':1}", "byte 1"),
        (b'{"name":NaN}', "byte 8"),
        (b'{"name":"\xff"}', "UTF-8"),
        (b'{"a":"\\ud800"}', "byte"),
        (b"[" * 5000, "deep"),
        (b"[" * 70 + b"]" * 70, "deep"),
    ],
)
def test_malformed_json_is_refused_with_its_position(text: bytes, where: str) -> None:
    with pytest.raises(InvalidArgument, match=where) as refused:
        parse(text)
    assert refused.value.reason == "MALFORMED_JSON"


def test_the_character_that_no_database_holds_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse(b'{"name":"a\\u0000b","x":[{"y":"\\u0000"}],"\\\\u0000":"fine"}')
    assert [violation.field for violation in refused.value.violations] == ["name", "x[0].y"]


def test_paths_are_respelled_both_ways() -> None:
    order = descriptor_of(orders_pb2.ProductOrder)
    for attribute, field in {
        "productOrderItem.productOffering.id": "product_order_item.product_offering.id",
        "relatedParty.@referredType": "related_party.at_referred_type",
        "@type": "at_type",
        "myOwn.thing": "myOwn.thing",
        "orderDate": "order_date",
    }.items():
        assert DIALECT.field_path(order, attribute) == field
        assert DIALECT.attribute_path(order, field) == attribute
    assert DIALECT.attribute_path(order, "product_order_item[0].item_price[1].price.duty_free_amount.units") == (
        "productOrderItem[0].itemPrice[1].price.dutyFreeAmount.value"
    )


def test_selected_paths_reach_into_objects_arrays_and_extensions() -> None:
    body = DIALECT.json(offering(category=[{"id": "1", "name": "a"}, {"id": "2"}], x={"a": 1, "b": 2}, description="d"))
    chosen = select(body, [["category", "name"], ["x", "b"], ["name"], ["nothing"]])
    assert json.loads(encode_json(chosen)) == {"name": "Fibre", "category": [{"name": "a"}, {}], "x": {"b": 2}}
