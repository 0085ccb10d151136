"""What in a message says something about a person: the fields that its contract marks `personal`."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from svyaz.type.v1 import options_pb2

# The stubs of protobuf know several kinds of descriptor that can't stand in for each other.
Descriptor = Any


@dataclass(frozen=True)
class _Plan:
    """What of a message is personal by itself, and in which fields there may be more of it."""

    personal: tuple[str, ...]
    nested: tuple[str, ...]
    # References of which what they are called is personal.
    named: tuple[str, ...]


# What of a reference to something named after a person says something about him.
_NAMING = ("name", "extensions")


def _marked(field: Any) -> bool:
    return bool(field.GetOptions().Extensions[options_pb2.personal])


def _named(field: Any) -> bool:
    return bool(field.GetOptions().Extensions[options_pb2.named_personally])


def _inner(field: Any) -> Descriptor | None:
    """The type of the messages in a field (of its values, if it is a map); None: it holds none."""
    if field.type != FieldDescriptor.TYPE_MESSAGE:
        return None
    if field.message_type.GetOptions().map_entry:
        return field.message_type.fields_by_name["value"].message_type
    return field.message_type


@cache
def holds_personal(descriptor: Descriptor) -> bool:
    """Whether a message of the type can say anything about a person, at any depth."""
    seen, ahead = {descriptor.full_name}, [descriptor]
    while ahead:
        for field in ahead.pop().fields:
            if _marked(field) or _named(field):
                return True
            inner = _inner(field)
            if inner is not None and inner.full_name not in seen:
                seen.add(inner.full_name)
                ahead.append(inner)
    return False


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    personal = tuple(field.name for field in descriptor.fields if _marked(field))
    named = tuple(field.name for field in descriptor.fields if _named(field))
    nested = tuple(
        field.name
        for field in descriptor.fields
        if field.name not in (*personal, *named) and (inner := _inner(field)) is not None and holds_personal(inner)
    )
    return _Plan(personal, nested, named)


def nested_personal(descriptor: Descriptor) -> tuple[str, ...]:
    """The fields of a type that aren't personal themselves, but hold messages that may be."""
    return _plan(descriptor).nested


def marked_personal(descriptor: Descriptor) -> tuple[str, ...]:
    """The fields of a type that are personal themselves."""
    return _plan(descriptor).personal


def parts(message: Message, field: str) -> list[Message]:
    """The messages in a field: of a repeated one, of a map, or the one that is there."""
    value = getattr(message, field)
    if isinstance(value, Message):
        return [value] if message.HasField(field) else []
    return list(value.values() if hasattr(value, "values") else value)


def redact(message: Message) -> bool:
    """Takes everything personal out of the message, at any depth; whether there was anything."""
    plan = _plan(message.DESCRIPTOR)
    there = {field.name for field, _ in message.ListFields()}
    found = False
    for name in plan.personal:
        if name in there:
            message.ClearField(name)
            found = True
    for name in plan.nested:
        if name in there:
            for part in parts(message, name):
                found |= redact(part)
    for name in plan.named:
        if name in there:
            for part in parts(message, name):
                found |= _unnamed(part)
    return found


def _unnamed(reference: Message) -> bool:
    there = [field.name for field, _ in reference.ListFields() if field.name in _NAMING]
    for name in there:
        reference.ClearField(name)
    return bool(there)


def redacted(data: bytes, message_class: type[Message]) -> bytes | None:
    """The encoded message without what is personal; None when there is nothing of it."""
    if not holds_personal(message_class.DESCRIPTOR):
        return None
    message = message_class.FromString(data)
    return message.SerializeToString() if redact(message) else None
