"""Dataclass → message → TM Forum JSON → message → dataclass: a resource comes back as it went."""

from typing import Any

import pytest
from hypothesis import example, given, settings

from chassis import convert
from chassis.scalars import encode_json
from chassis.tmfjson import Dialect, parse
from gateway.resources import RESOURCES
from orders.ordering.domain import ProductOrder
from orders.ordering.values import OrderItem
from svyaz.orders.v1 import orders_pb2
from tests.objects import AGGREGATES, SEED, Maker, attributes, given_by_us

DIALECT = Dialect()
# What a resource consists of beside its aggregate: field, dataclass, message.
APART: dict[type, tuple[tuple[str, type, Any], ...]] = {
    ProductOrder: (("product_order_item", OrderItem, orders_pb2.ProductOrderItem),)
}


def test_every_resource_of_the_gateway_is_an_aggregate_here() -> None:
    assert {resource.message_class for resource in RESOURCES} <= {known.message for known in AGGREGATES.values()}


@pytest.mark.parametrize("cls", AGGREGATES, ids=lambda cls: cls.__name__)
@settings(max_examples=25, deadline=None)
@given(seed=SEED)
@example(seed=0)
def test_a_resource_comes_back_from_json_as_it_went(cls: Any, seed: int) -> None:
    maker = Maker(seed, stated=True)
    befores: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for field, part, message_class in (("", cls, AGGREGATES[cls].message), *APART.get(cls, ())):
        befores[field] = maker.make(part, message_class.DESCRIPTOR, 3)
        messages[field] = convert.to_message(befores[field], message_class)
    whole = type(messages[""])()
    whole.CopyFrom(messages[""])
    for field, _, _ in APART.get(cls, ()):
        getattr(whole, field).append(messages[field])

    text = encode_json(DIALECT.json(whole))
    again = DIALECT.message(type(whole), parse(text))

    for field, before in befores.items():
        message = getattr(again, field)[0] if field else again
        given = {name: getattr(before, name) for name in given_by_us(type(before), message.DESCRIPTOR)}
        after = convert.from_message(message, type(before), **given)
        assert attributes(after) == attributes(before)
        # Equal isn't the same everywhere: 0 equals False.
        assert convert.to_message(after, type(message)) == messages[field]
