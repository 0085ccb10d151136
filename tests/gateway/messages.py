"""Random messages that a client could have stated: every required field set, nothing that only we may set."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st

from chassis.scalars import encode_json
from chassis.tmfjson import Dialect
from svyaz.type.v1 import options_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
decimals = st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12)


@st.composite
def instants(draw: st.DrawFn) -> dict[str, int]:
    """An instant to the microsecond, as the fields of a Timestamp."""
    passed = draw(st.datetimes(timezones=st.just(UTC))) - _EPOCH
    return {"seconds": passed.days * 86_400 + passed.seconds, "nanos": passed.microseconds * 1_000}


@st.composite
def amounts(draw: st.DrawFn) -> dict[str, Any]:
    """An amount, its whole and its fraction of one sign."""
    nanos = draw(st.integers(0, 999_999_999))
    units = draw(st.integers(0, 2**62))
    sign = draw(st.sampled_from((1, -1)))
    out: dict[str, Any] = {}
    if draw(st.booleans()):
        out |= {"units": sign * units, "nanos": sign * nanos}
    if draw(st.booleans()):
        out["unit"] = draw(texts)
    return out


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    options = field.GetOptions().Extensions
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values if value.number])
    if options[options_pb2.decimal]:
        return decimals.map(lambda value: format(Decimal(value), "f"))
    if options[options_pb2.json]:
        return json_values.filter(lambda value: value is not None).map(encode_json)
    by_type: dict[int, st.SearchStrategy[Any]] = {
        FieldDescriptor.TYPE_STRING: texts,
        FieldDescriptor.TYPE_BOOL: st.booleans(),
        FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    }
    return by_type[field.type]


@st.composite
def arguments(draw: st.DrawFn, descriptor: Descriptor, dialect: Dialect, depth: int = 3) -> dict[str, Any]:
    """Constructor arguments of a message of the type."""
    out: dict[str, Any] = {}
    codec = dialect.codec(descriptor)
    for field in descriptor.fields:
        options = field.GetOptions().Extensions
        required = options[options_pb2.required]
        nested = field.message_type is not None and not field.message_type.full_name.startswith("google.")
        if options[options_pb2.output_only] or not (required or (draw(st.booleans()) and (depth > 0 or not nested))):
            continue
        if field.name == "extensions":
            names = texts.filter(lambda name: name not in codec.attributes and name not in {"href", "@type"})
            extensions = draw(
                st.dictionaries(names, json_values.filter(lambda v: v is not None), min_size=1, max_size=3)
            )
            extensions = {k: v for k, v in extensions.items() if not k.startswith("@")}
            if extensions:
                out["extensions"] = encode_json(extensions)
            continue
        single = _scalar(field) if field.message_type is None else _message(field.message_type, dialect, depth - 1)
        if required and field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            single = single.filter(bool)
        if field.is_repeated:
            out[field.name] = draw(st.lists(single, min_size=1, max_size=2))
        else:
            out[field.name] = draw(single)
    return out


def _message(descriptor: Descriptor, dialect: Dialect, depth: int) -> st.SearchStrategy[Any]:
    if descriptor.full_name == "google.protobuf.Timestamp":
        return instants()
    if descriptor.full_name == "svyaz.type.v1.Money":
        return amounts()
    return arguments(descriptor, dialect, depth)
