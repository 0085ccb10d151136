"""Single values of TM Forum JSON ↔ proto values: checked strictly, numbers kept digit by digit."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.types import MAX_DIGITS
from svyaz.type.v1 import options_pb2, values_pb2

Convert = Callable[[Any], Any]

# A JSON number with a fraction or an exponent is decoded as its own text: a float would lose digits.
Number = msgspec.Raw

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_NANOS = 1_000_000_000
_MIN_SECONDS, _MAX_SECONDS = -62_135_596_800, 253_402_300_799
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d\d:?\d\d))?", re.ASCII)
_CAMEL = re.compile(r"_([a-z0-9])")


class IllTypedError(ValueError):
    """A value that isn't of its attribute's type; the message says what is expected."""


def camel(name: str) -> str:
    """`product_order_item` → `productOrderItem`."""
    return _CAMEL.sub(lambda match: match[1].upper(), name)


def encode_json(value: Any) -> bytes:
    """The JSON text of a decoded value, numbers as they came."""
    return _ENCODE(value)


def text_in(value: Any) -> Any:
    """A JSON string."""
    if type(value) is not str:
        raise IllTypedError("must be a string")
    return value


def bool_in(value: Any) -> Any:
    """A JSON true or false."""
    if value is not True and value is not False:
        raise IllTypedError("must be true or false")
    return value


def integer_in(bits: int) -> Convert:
    """A whole number that fits the signed bits; 2.0 is one (JSON Schema says so)."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def convert(value: Any) -> int:
        if type(value) is Number:
            exact = Decimal(decimal_in(value))
            if exact == exact.to_integral_value():
                value = int(exact)
        if type(value) is not int:
            raise IllTypedError("must be a whole number")
        if not low <= value <= high:
            raise IllTypedError(f"must be between {low} and {high}")
        return value

    return convert


def decimal_in(value: Any) -> str:
    """The digits of a JSON number; an exponent is written out."""
    if type(value) is int:
        text = str(value)
    elif type(value) is Number:
        text = bytes(value).decode()
        if "e" in text or "E" in text:
            exponent = text.lower().partition("e")[2]
            if len(exponent) > 3 or abs(int(exponent)) > MAX_DIGITS:
                raise IllTypedError(f"must be a number of at most {MAX_DIGITS} digits")
            text = format(Decimal(text), "f")
    else:
        raise IllTypedError("must be a number")
    if len(text) > MAX_DIGITS:
        raise IllTypedError(f"must be a number of at most {MAX_DIGITS} digits")
    return text


def instant_in(value: Any) -> dict[str, int]:
    """An RFC 3339 date-time; a date alone is its midnight in UTC."""
    if type(value) is not str or not _INSTANT.fullmatch(value):
        raise IllTypedError("must be a date-time with its zone, such as 2026-01-31T12:00:00Z")
    try:
        parsed = datetime.fromisoformat(value.upper())
    except ValueError:
        raise IllTypedError(f"there is no such date or time: {value}") from None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    passed = parsed - _EPOCH
    seconds = passed // _SECOND
    if not _MIN_SECONDS <= seconds <= _MAX_SECONDS:
        raise IllTypedError(f"there is no such date or time in UTC: {value}")
    return {"seconds": seconds, "nanos": passed.microseconds * 1_000}


def instant_out(value: Timestamp) -> str:
    """ISO 8601, UTC, ending in Z: clients send it back in filters, where a `+` would become a blank."""
    return _instant_out(value.seconds, value.nanos)


@lru_cache(16_384)
def _instant_out(seconds: int, nanos: int) -> str:
    # Kept, because many instants of a list are midnights or of the same import.
    text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    if not nanos:
        return text + "Z"
    if nanos % 1_000_000 == 0:
        return f"{text}.{nanos // 1_000_000:03d}Z"
    if nanos % 1_000 == 0:
        return f"{text}.{nanos // 1_000:06d}Z"
    return f"{text}.{nanos:09d}Z"


def amount_in(value: Any) -> dict[str, int]:
    """A JSON number as units and nanos, exactly."""
    if type(value) is int:
        units, nanos = value, 0
    else:
        text = decimal_in(value)
        negative = text.startswith("-")
        whole, _, fraction = text.lstrip("-").partition(".")
        fraction = fraction.rstrip("0")
        if len(fraction) > 9:
            raise IllTypedError("must have at most 9 decimal places")
        units, nanos = int(whole), int(fraction.ljust(9, "0"))
        if negative:
            units, nanos = -units, -nanos
    if not -(1 << 63) <= units < 1 << 63:
        raise IllTypedError("is too large an amount")
    return {"units": units, "nanos": nanos}


def money_out(value: values_pb2.Money) -> Mapping[str, Any]:
    """`{unit, value}`, the value a number with exactly the digits needed."""
    unit, units, nanos = value.unit, value.units, value.nanos
    if unit and (units or nanos):
        return _amount_out(unit, units, nanos)
    out: dict[str, Any] = {"unit": unit} if value.HasField("unit") else {}
    if value.HasField("units") or value.HasField("nanos"):
        out["value"] = _digits(units, nanos)
    return out


@lru_cache(16_384)
def _amount_out(unit: str, units: int, nanos: int) -> Mapping[str, Any]:
    # Kept, because lists show the same few prices over and over.
    return {"unit": unit, "value": _digits(units, nanos)}


def _digits(units: int, nanos: int) -> msgspec.Raw:
    sign = "-" if units < 0 or nanos < 0 else ""
    return msgspec.Raw(f"{sign}{abs(units)}.{abs(nanos):09d}".rstrip("0").rstrip("."))


def spellings(enum: EnumDescriptor) -> Mapping[int, str]:
    """Number → TM Forum's spelling, for every value but the unspecified one."""
    return {
        value.number: value.GetOptions().Extensions[options_pb2.spelling] or camel(_bare_name(enum, value.name).lower())
        for value in enum.values
        if value.number
    }


def _bare_name(enum: EnumDescriptor, name: str) -> str:
    """`ORDER_STATE_IN_PROGRESS` of OrderState → `IN_PROGRESS`."""
    prefix = "".join(f"_{c}" if c.isupper() and i else c for i, c in enumerate(enum.name)).upper() + "_"
    return name.removeprefix(prefix)


def enum_in(enum: EnumDescriptor) -> Convert:
    """A spelling of one of the enum's values.

    Where TM Forum's own spelling is odd ("aborted ", "deceaded", "In study" beside its examples' "active"), case and
    blanks don't matter and the regular spelling is read too.
    """
    exact = {spelling: number for number, spelling in spellings(enum).items()}
    loose: dict[str, int] = {}
    for value in enum.values:
        if value.GetOptions().Extensions[options_pb2.spelling]:
            own = spellings(enum)[value.number]
            loose[own.replace(" ", "").casefold()] = value.number
            loose[_bare_name(enum, value.name).replace("_", "").casefold()] = value.number
    known = ", ".join(map(repr, exact))

    def convert(value: Any) -> int:
        if type(value) is str:
            number = exact.get(value)
            if number is None and loose:
                number = loose.get(value.replace(" ", "").casefold())
            if number is not None:
                return number
        raise IllTypedError(f"must be one of {known}")

    return convert


def scalar_in(field: FieldDescriptor) -> Convert:
    """How one JSON value becomes a value of the field; raises TypeError for a type without a form in TM Forum JSON."""
    options = field.GetOptions().Extensions
    if field.type == FieldDescriptor.TYPE_BYTES and options[options_pb2.json]:
        return encode_json
    if field.type == FieldDescriptor.TYPE_STRING:
        return decimal_in if options[options_pb2.decimal] else text_in
    if field.type == FieldDescriptor.TYPE_BOOL:
        return bool_in
    if field.type == FieldDescriptor.TYPE_INT32:
        return integer_in(32)
    if field.type == FieldDescriptor.TYPE_INT64:
        return integer_in(64)
    if field.enum_type is not None:
        return enum_in(field.enum_type)
    raise TypeError(f"{field.full_name} has no form in TM Forum JSON")


def scalar_out(field: FieldDescriptor) -> Convert | None:
    """How a field's value becomes a JSON value; None where it is the same."""
    if field.enum_type is not None:
        return spellings(field.enum_type).get
    options = field.GetOptions().Extensions
    if field.type == FieldDescriptor.TYPE_BYTES or options[options_pb2.decimal]:
        return msgspec.Raw
    return None


_ENCODE = msgspec.json.Encoder().encode
