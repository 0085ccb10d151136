"""What is personal goes, and nothing else does: for whatever a message holds."""

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.personal import holds_personal, marked_personal, nested_personal, parts, redact, redacted
from svyaz.customers.v1 import account_pb2, customers_pb2, party_pb2, task_pb2, view_pb2
from svyaz.orders.v1 import orders_pb2
from svyaz.type.v1 import options_pb2, values_pb2

KINDS: tuple[type[Message], ...] = (
    party_pb2.Individual,
    party_pb2.Organization,
    customers_pb2.Customer,
    account_pb2.BillingAccount,
    task_pb2.WorkItem,
    orders_pb2.ProductOrder,
    view_pb2.Customer360,
)
_SCALARS: dict[int, Any] = {
    FieldDescriptor.TYPE_STRING: "Айгүл",
    FieldDescriptor.TYPE_BYTES: b'{"x":1}',
    FieldDescriptor.TYPE_BOOL: True,
}


def filled(message_class: Any, draw: Any, depth: int = 3) -> Any:
    """A message with some of its fields, chosen by `draw`."""
    message = message_class()
    for field in message.DESCRIPTOR.fields:
        if not draw(st.booleans()):
            continue
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            target = getattr(message, field.name)
            if depth and not field.message_type.GetOptions().map_entry:
                part = filled(GetMessageClass(field.message_type), draw, depth - 1)
                if field.is_repeated:
                    target.append(part)
                else:
                    target.CopyFrom(part)
        elif field.type == FieldDescriptor.TYPE_ENUM:
            value = field.enum_type.values[-1].number
            getattr(message, field.name).append(value) if field.is_repeated else setattr(message, field.name, value)
        else:
            value = _SCALARS.get(field.type, 7)
            getattr(message, field.name).append(value) if field.is_repeated else setattr(message, field.name, value)
    return message


def said(
    message: Message, path: str = "", *, personal: bool = False, named: bool = False
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What a message says in fields that aren't personal, and in those that are, by a walk of its own."""
    plain: dict[str, bytes] = {}
    marked: dict[str, bytes] = {}
    for field, value in message.ListFields():
        options = field.GetOptions().Extensions
        is_marked = personal or options[options_pb2.personal] or (named and field.name in ("name", "extensions"))
        for number, part in enumerate(value if field.is_repeated else [value]):
            at = f"{path}.{field.name}[{number}]"
            if isinstance(part, Message):
                inner, its_own = said(part, at, personal=is_marked, named=options[options_pb2.named_personally])
                plain |= inner
                marked |= its_own
                # That it is there says something too.
                (marked if is_marked else plain)[at] = b""
            else:
                (marked if is_marked else plain)[at] = repr(part).encode()
    return plain, marked


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.DESCRIPTOR.name)
@given(st.data())
@settings(max_examples=12)
def test_after_redaction_nothing_personal_is_left_and_all_else_is(kind: type[Message], data: Any) -> None:
    message = filled(kind, data.draw, 2)
    plain, marked = said(message)
    encoded = message.SerializeToString()
    clean = redacted(encoded, kind)
    assert (clean is None) == (not marked)
    left = kind.FromString(encoded if clean is None else clean)
    assert said(left) == (plain, {})
    # Again changes nothing.
    assert not redact(left)


def test_a_type_knows_whether_it_can_say_anything_about_a_person() -> None:
    assert holds_personal(party_pb2.ListIndividualsResponse.DESCRIPTOR)
    assert not holds_personal(customers_pb2.OrderingContext.DESCRIPTOR)
    assert set(marked_personal(values_pb2.RelatedParty.DESCRIPTOR)) == {"name", "extensions"}
    assert nested_personal(party_pb2.ListIndividualsResponse.DESCRIPTOR) == ("items",)
    response = party_pb2.ListIndividualsResponse(items=[party_pb2.Individual(id="i")])
    order = orders_pb2.ProductOrder(billing_account=values_pb2.EntityRef(id="a", name="Aigul's"))
    assert redact(order)
    assert order.billing_account == values_pb2.EntityRef(id="a")
    assert [part.id for part in parts(response, "items")] == ["i"]  # type: ignore[attr-defined]
    assert redacted(b"", customers_pb2.OrderingContext) is None
