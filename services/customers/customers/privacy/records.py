"""Whose records an answer holds: read off its type, so that no method can be forgotten."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from chassis.personal import holds_personal, nested_personal, parts

# What names a record, and the person it is about; where several are there, all of them are looked for later.
NAMES = ("id", "customer_id", "party_id", "individual_id", "subject_id", "aggregate_id")
_BRANCH = "branch"

# The ids of a record, and the branch that it belongs to ('': it doesn't say).
Record = tuple[tuple[str, ...], str]
Find = Callable[[Message], Iterable[Record]]


@cache
def finder(descriptor: Any) -> Find | None:
    """What finds the records in messages of the type, the outermost ones; None: nothing in it is about a person.

    Raises ValueError for a type that says something about a person, but not about whom.
    """
    if not holds_personal(descriptor):
        return None
    names = [name for name in NAMES if _is_text(descriptor.fields_by_name.get(name))]
    if names:
        return lambda message: _record(message, names)
    return _within(descriptor)


def _within(descriptor: Any) -> Find:
    fields = nested_personal(descriptor)
    found: dict[str, Find] = {}
    for name in fields:
        find = finder(_message_type(descriptor.fields_by_name[name]))
        assert find is not None
        found[name] = find
    if not found:
        raise ValueError(f"{descriptor.full_name} says something about a person, but not about whom")

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
