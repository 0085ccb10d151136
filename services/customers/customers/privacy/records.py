"""Whose records an answer holds: read off its type, so that no method can be forgotten."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from chassis.personal import holds_personal, marked_personal, nested_personal, parts

# What names a record, and the person it is about; where several are there, all of them are looked for later.
NAMES = ("id", "customer_id", "party_id", "individual_id", "subject_id", "aggregate_id")
_BRANCH = "branch"

# The ids of a record, and the branch that it belongs to ('': it doesn't say).
Record = tuple[tuple[str, ...], str]
Find = Callable[[Message], Iterable[Record]]
FindAnswered = Callable[[Message, Message], Iterable[Record]]


def of_method(method: Any) -> FindAnswered | None:
    """What finds the records that a method's answers show, given its request and its answer; None: its answers say
    nothing about a person.

    An answer that doesn't name its record is about what its request names. Raises ValueError for a method that says
    something about a person, but not about whom.
    """
    if not holds_personal(method.output_type):
        return None
    find = _finder(method.output_type)
    if find is not None:
        in_answer = find
        return lambda request, answer: in_answer(answer)
    asked = [
        field.name
        for field in method.input_type.fields
        if _is_text(field) and field.name.endswith("id") and field.name != "request_id"
    ]
    if asked:
        return lambda request, answer: _record(request, asked)
    beside = [
        field.name
        for field in method.output_type.fields
        if field.message_type is not None and _is_text(field.message_type.fields_by_name.get("id"))
    ]
    if not beside:
        raise ValueError(f"{method.full_name} says something about a person, but not about whom")
    return lambda request, answer: (
        found for name in beside for part in parts(answer, name) for found in _record(part, ["id"])
    )


@cache
def _finder(descriptor: Any) -> Find | None:
    """What finds the records in messages of the type, the outermost ones; None: they don't say about whom they are."""
    names = [name for name in NAMES if _is_text(descriptor.fields_by_name.get(name))]
    if names:
        return lambda message: _record(message, names)
    return _within(descriptor)


def _within(descriptor: Any) -> Find | None:
    fields = nested_personal(descriptor)
    found: dict[str, Find] = {}
    for name in fields:
        find = _finder(_message_type(descriptor.fields_by_name[name]))
        if find is not None:
            found[name] = find
    if not found or marked_personal(descriptor):
        return None

    def records(message: Message) -> Iterator[Record]:
        for name, find in found.items():
            for part in parts(message, name):
                yield from find(part)

    return records


def _message_type(field: Any) -> Any:
    if field.message_type.GetOptions().map_entry:
        return field.message_type.fields_by_name["value"].message_type
    return field.message_type


def _is_text(field: Any) -> bool:
    return field is not None and field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated


def _record(message: Any, names: Iterable[str]) -> Iterator[Record]:
    ids = dict.fromkeys(key for name in names if (key := getattr(message, name)))
    if ids:
        yield tuple(ids), branch_of(message)


def branch_of(message: Any) -> str:
    """The branch that a message names, or else the first one that a message in it does; '' when none does."""
    if _BRANCH in message.DESCRIPTOR.fields_by_name:
        return str(message.branch)
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE and not field.message_type.GetOptions().map_entry:
            for part in value if field.is_repeated else (value,):
                found = branch_of(part)
                if found:
                    return found
    return ""
