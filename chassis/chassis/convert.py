"""Dataclass ↔ proto message: fields with the same name carry the same value. Compiled once per pair of classes."""

import dataclasses
import json
import operator
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import InvalidArgument, Violation
from chassis.types import EPOCH, Aggregate, Json, Money, decimal_of
from svyaz.type.v1 import options_pb2, values_pb2

M = TypeVar("M", bound=Message)
T = TypeVar("T")

Convert = Callable[[Any], Any]
Wrap = Callable[[Convert], Convert]
# Field → (its name, whether it is repeated, how a value of it is converted).
Decoding = Mapping[FieldDescriptor, tuple[str, bool, Convert | None]]
# An object's fields as its message's constructor takes them.
Encode = Callable[[Any], dict[str, Any]]
# The stubs of protobuf know several kinds of descriptor that can't stand in for each other.
Field = Any
_NANOS = 1_000_000_000
_MICROSECOND = timedelta(microseconds=1)


def to_timestamp(value: datetime) -> Timestamp:
    """An aware instant, to the microsecond."""
    return Timestamp(**_timestamp(value))


def _timestamp(value: datetime) -> dict[str, int]:
    micros = (value - EPOCH) // _MICROSECOND
    return {"seconds": micros // 1_000_000, "nanos": micros % 1_000_000 * 1_000}


def from_timestamp(value: Timestamp) -> datetime:
    """An instant in UTC, to the microsecond. Raises InvalidArgument INVALID_VALUE for one that no calendar has."""
    try:
        return EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1_000)
    except OverflowError as error:
        raise InvalidArgument("INVALID_VALUE", "an instant is in the years 1 to 9999") from error


def to_money(value: Money) -> values_pb2.Money:
    """Raises InvalidArgument for an amount finer than 10⁻⁹ or beyond 64 bits of whole units."""
    return values_pb2.Money(**_money(value))


def _money(value: Money) -> dict[str, Any]:
    if value.value is None:
        return {"unit": value.unit}
    scaled = value.value.scaleb(9)
    whole = int(scaled)
    if whole != scaled or abs(whole) >= _NANOS << 63:
        raise InvalidArgument("AMOUNT_OUT_OF_RANGE", f"the amount {value.value} doesn't fit units and nanos")
    sign = -1 if whole < 0 else 1
    units, nanos = divmod(abs(whole), _NANOS)
    return {"unit": value.unit, "units": sign * units, "nanos": sign * nanos}


def from_money(message: values_pb2.Money) -> Money:
    """Exact; raises InvalidArgument when units and nanos differ in sign."""
    unit = message.unit if message.HasField("unit") else None
    if not message.HasField("units") and not message.HasField("nanos"):
        return Money(unit=unit)
    if message.units * message.nanos < 0 or abs(message.nanos) >= _NANOS:
        raise InvalidArgument("MALFORMED_MONEY", "units and nanos must have one sign, and nanos nine digits at most")
    if not message.nanos:
        return Money(unit=unit, value=Decimal(message.units))
    digits = Decimal(message.units * _NANOS + message.nanos).scaleb(-9)
    # 9.900000000 and 9.90 are one amount: two decimals unless more are needed.
    exponent = max(2, -int(digits.normalize().as_tuple().exponent))
    return Money(unit=unit, value=digits.quantize(Decimal(1).scaleb(-exponent)))


@cache
def _hints(cls: type) -> Mapping[str, tuple[type, bool]]:
    """Attribute name → (type without its `| None` and tuple, whether it is repeated)."""
    found: dict[str, tuple[type, bool]] = {}
    for name, hint in typing.get_type_hints(cls).items():
        if typing.get_origin(hint) is typing.ClassVar:
            continue
        inner, repeated = hint, False
        if isinstance(inner, types.UnionType) or typing.get_origin(inner) is typing.Union:
            inner = next(arg for arg in typing.get_args(inner) if arg is not types.NoneType)
        if typing.get_origin(inner) is tuple:
            inner, repeated = typing.get_args(inner)[0], True
        found[name] = (inner, repeated)
    return found


def attribute_types(cls: type) -> Mapping[str, tuple[type, bool]]:
    """The attributes of a dataclass: name → (value type, whether repeated)."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: hint for name, hint in _hints(cls).items() if name in names}


def enum_prefix(descriptor: Any) -> str:
    """What the names of an enum's values begin with: `ORDER_STATE_` for OrderState."""
    name = descriptor.name
    return "".join(f"_{c}" if c.isupper() and i else c for i, c in enumerate(name)).upper() + "_"


def _fields(message_class: type[Message]) -> Iterable[Field]:
    return message_class.DESCRIPTOR.fields


def _late(compile_: Callable[[], Convert]) -> Convert:
    """A conversion compiled when it is first needed: value objects may contain themselves."""
    compiled: Convert | None = None

    def convert(value: Any) -> Any:
        nonlocal compiled
        if compiled is None:
            compiled = compile_()
        return compiled(value)

    return convert


def _encoder(field: Field, cls: type) -> Convert | None:
    """How one value becomes a field's; None where it is the same.

    A message inside another is given as the dict of its fields: made by itself, it would be copied into the other.
    """
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if field.message_type.full_name == "google.protobuf.Timestamp":
            return _timestamp
        if field.message_type.full_name == "svyaz.type.v1.Money":
            return _money
        if cls is bytes:
            # Kept as it came, encoded: so its digest stays what it was.
            return _message_class(field).FromString
        return _late(lambda: _compiled_encode(cls, _message_class(field)))
    if field.type == FieldDescriptor.TYPE_ENUM:
        prefix = enum_prefix(field.enum_type)
        numbers = {
            member: field.enum_type.values_by_name[prefix + member.name].number
            for member in typing.cast(type[StrEnum], cls)
        }
        return numbers.__getitem__
    if cls is Json:
        return lambda value: value.text.encode()
    if field.type == FieldDescriptor.TYPE_BYTES and cls is str:
        return str.encode
    if cls is Decimal:
        return lambda value: format(value, "f")
    return None


def _decoder(field: Field, cls: type) -> Convert | None:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if field.message_type.full_name == "google.protobuf.Timestamp":
            return from_timestamp
        if field.message_type.full_name == "svyaz.type.v1.Money":
            return from_money
        if cls is bytes:
            return operator.methodcaller("SerializeToString")
        return _late(lambda: _part_decoder(cls, _message_class(field)))
    if field.type == FieldDescriptor.TYPE_ENUM:
        prefix = enum_prefix(field.enum_type)
        members = typing.cast(type[StrEnum], cls).__members__
        by_number = {v.number: members[v.name.removeprefix(prefix)] for v in field.enum_type.values if v.number}
        return by_number.get
    if cls is Json:
        return lambda value: Json(_text(value))
    if field.type == FieldDescriptor.TYPE_BYTES and cls is str:
        return _text
    if cls is Decimal:
        return _decimal
    return None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument("MALFORMED_TEXT", f"it isn't UTF-8: {error.reason}") from error


def _decimal(text: str) -> Decimal:
    try:
        return decimal_of(text)
    except ValueError as error:
        raise InvalidArgument("MALFORMED_DECIMAL", str(error)) from error


def _message_class(field: Field) -> type[Message]:
    return GetMessageClass(field.message_type)


_encoders: dict[tuple[type, type[Message]], Encode] = {}
_decoders: dict[tuple[type, type[Message]], Decoding] = {}


def _compiled_encode(cls: type, message_class: type[Message]) -> Encode:
    encode = _encoders.get((cls, message_class))
    if encode is None:
        encode = _encoders[cls, message_class] = _encode(cls, message_class)
    return encode


def encoding_plan(cls: type, message_class: type[Message]) -> list[tuple[str, bool, Convert | None]]:
    """How an object becomes a message: for each common field its name, whether it is repeated, and how one value of it
    is converted (None: not at all)."""
    attributes = attribute_types(cls)
    plan: list[tuple[str, bool, Convert | None]] = []
    for field in _fields(message_class):
        if field.name in attributes:
            kind, repeated = attributes[field.name]
            plan.append((field.name, repeated, _encoder(field, kind)))
    return plan


def _encode(cls: type, message_class: type[Message]) -> Encode:
    plan = encoding_plan(cls, message_class)
    names = [name for name, _, _ in plan]
    values = _values_of(cls, names)
    converted = [(name, repeated, convert) for name, repeated, convert in plan if convert is not None]
    has_etag = issubclass(cls, Aggregate) and "etag" in message_class.DESCRIPTOR.fields_by_name

    def encode(value: Any) -> dict[str, Any]:
        # What is None is left out by the message's constructor.
        arguments = dict(zip(names, values(value), strict=True))
        for name, repeated, convert in converted:
            item = arguments[name]
            if item is not None:
                arguments[name] = [convert(part) for part in item] if repeated else convert(item)
        if has_etag:
            arguments["etag"] = str(value.revision)
        return arguments

    return encode


def _values_of(cls: type, names: Sequence[str]) -> Callable[[Any], Sequence[Any]]:
    """How to read the attributes of one object."""
    if len(names) < 2:
        return lambda value: [getattr(value, name) for name in names]
    read: Callable[[Any], Sequence[Any]] = operator.attrgetter(*names)
    if not issubclass(cls, Aggregate):
        return read
    stored: Callable[[Any], Sequence[Any]] = operator.itemgetter(*names)

    def values(value: Any) -> Sequence[Any]:
        # Past the descriptors of the object-relational mapper, which cost more than all the rest.
        try:
            return stored(value.__dict__)
        except KeyError:
            # Expired: only the mapper knows.
            return read(value)

    return values


def _compiled_decode(cls: type, message_class: type[Message]) -> Decoding:
    plan = _decoders.get((cls, message_class))
    if plan is None:
        plan = _decoders[cls, message_class] = decoding(cls, message_class)
    return plan


def decoding(cls: type, message_class: type[Message], wrap: Wrap = lambda convert: convert) -> Decoding:
    """The plan of `decoded`, its conversions of the parts of repeated fields wrapped."""
    attributes = attribute_types(cls)
    plan: dict[FieldDescriptor, tuple[str, bool, Convert | None]] = {}
    for field in _fields(message_class):
        if field.name in attributes and not field.GetOptions().Extensions[options_pb2.output_only]:
            kind, repeated = attributes[field.name]
            convert = _decoder(field, kind)
            convert = wrap(convert) if repeated and convert is not None else convert
            plan[field] = (field.name, repeated, convert)
    return plan


def to_message(value: Any, message_class: type[M]) -> M:
    """The message that says the same; an aggregate's revision becomes its etag.

    Raises InvalidArgument for an amount that doesn't fit.
    """
    return message_class(**_compiled_encode(type(value), message_class)(value))


def from_message(message: Message, cls: type[T], **given: Any) -> T:
    """The object that says the same. `given` sets attributes that no caller may (id, branch …).

    Raises InvalidArgument with the path of the field that holds no value of its type.
    """
    return cls(**decoded(message, _compiled_decode(cls, type(message))), **given)


def _part_decoder(cls: type, message_class: type[Message]) -> Convert:
    plan = _compiled_decode(cls, message_class)
    return lambda message: cls(**decoded(message, plan))


def decoded(message: Message, plan: Decoding) -> dict[str, Any]:
    """What `from_message` makes an object of: attribute → value, of those that are there."""
    result: dict[str, Any] = {}
    for field, value in message.ListFields():
        step = plan.get(field)
        if step is None:
            continue
        name, repeated, convert = step
        # A repeated field gives all its values at once faster than one by one.
        if convert is None:
            result[name] = tuple(value[:]) if repeated else value
        elif repeated:
            result[name] = _each(convert, value[:], name)
        else:
            result[name] = at(convert, value, name)
    return result


def _each(convert: Convert, values: Iterable[Any], name: str) -> tuple[Any, ...]:
    made: list[Any] = []
    try:
        for value in values:
            made.append(convert(value))  # noqa: PERF401 (how many were made says which one failed)
    except InvalidArgument as error:
        raise _located(error, f"{name}[{len(made)}]") from error
    return tuple(made)


def at(convert: Convert, value: Any, path: str) -> Any:
    """Converts a part of something larger: a refusal names the part by its path."""
    try:
        return convert(value)
    except InvalidArgument as error:
        raise _located(error, path) from error


def _located(error: InvalidArgument, path: str) -> InvalidArgument:
    inner = error.violations or (Violation("", error.message),)
    return InvalidArgument(
        error.reason,
        error.message,
        violations=[Violation(f"{path}.{v.field}" if v.field else path, v.description) for v in inner],
    )


def changes(message: Message, paths: Iterable[str], current: Any) -> dict[str, Any]:
    """What a partial update sets on `current`: attribute → new value, for the field mask's paths.

    A nested path (`valid_for.end_date_time`) changes that part only; the path `extensions` merges a JSON object
    (RFC 7386). Raises InvalidArgument UNKNOWN_FIELD for a path that isn't a field.
    """
    cls = type(current)
    plan = _compiled_decode(cls, type(message))
    attributes = attribute_types(cls)
    nested: dict[str, list[str]] = {}
    for path in paths:
        head, _, rest = path.partition(".")
        if head not in message.DESCRIPTOR.fields_by_name:
            raise InvalidArgument(
                "UNKNOWN_FIELD", f"there is no field {path!r}", violations=[Violation(path, "unknown")]
            )
        if message.DESCRIPTOR.fields_by_name[head] in plan:
            nested.setdefault(head, []).append(rest)
    if not nested:
        return {}
    wanted = decoded(message, plan)
    result: dict[str, Any] = {}
    for name, rests in nested.items():
        kind, repeated = attributes[name]
        if name == "extensions":
            result[name] = merge_json(current.extensions, wanted.get(name))
        elif "" in rests or repeated:
            result[name] = wanted.get(name, () if repeated else None)
        else:
            part = getattr(current, name) or kind()
            part_message = getattr(message, name)
            changed = _money_changes if kind is Money else changes
            result[name] = dataclasses.replace(part, **changed(part_message, rests, part))
    return result


def _money_changes(message: values_pb2.Money, paths: Iterable[str], _: Money) -> dict[str, Any]:
    """As `changes`, for an amount: its value is two fields of the message."""
    stated = from_money(message)
    names = {"value" if path in ("units", "nanos") else path for path in paths}
    return {name: getattr(stated, name) for name in names}


def merge_json(current: str | None, patch: str | None) -> str | None:
    """RFC 7386 on JSON objects in text form, numbers kept digit by digit; None when nothing is left."""
    merged = _merged(_loads(current) if current else {}, _loads(patch) if patch else {})
    return _dumps(merged) if merged else None


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


class _Number(str):
    """The digits of a JSON number."""

    __slots__ = ()


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=_Number, parse_int=_Number)


def _dumps(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{_dumps(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dumps, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
