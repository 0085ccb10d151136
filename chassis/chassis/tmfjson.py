"""TM Forum JSON ↔ proto messages, compiled once per message descriptor.

What JSON carries and the contract doesn't name travels as `extensions` (the text of a JSON object) at its own level, so
nothing that a client says is lost; what the contract does name is checked, and every fault is reported with its path.
"""

import json
import operator
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from chassis.errors import InvalidArgument, Violation
from chassis.scalars import (
    Convert,
    IllTypedError,
    Number,
    amount_in,
    encode_json,
    enum_in,
    instant_in,
    instant_out,
    money_out,
    scalar_in,
    scalar_out,
    spellings,
    text_in,
)
from svyaz.type.v1 import options_pb2

M = TypeVar("M", bound=Message)

# Protobuf itself reads 100 levels of messages; a request wraps the resource in a few of its own.
MAX_DEPTH = 64

_TIMESTAMP = "google.protobuf.Timestamp"
_MONEY = "svyaz.type.v1.Money"
# TM Forum's polymorphism, on messages whose contract doesn't name it.
_TYPING = frozenset({"@type", "@baseType", "@schemaLocation"})

_decode_any = msgspec.json.Decoder(float_hook=Number).decode
_decode_extensions = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

NestedConvert = Callable[[Any, str, "Reading"], Any]
# Where the extensions of a message wait until its base attributes are written; no attribute is named so.
_EXTENSIONS = ""
_SKIP, _SCALAR, _NESTED, _IN_HEADER = 0, 1, 2, 3
_SKIPPED = frozenset({_SKIP, _IN_HEADER})
_BLANKS = b" \t\n\r"


class Reading:
    """What is found while one body is read: faults, attributes outside the contract, fields that a patch sets."""

    __slots__ = ("mask", "unknown", "violations")

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.unknown: list[str] = []
        self.mask: list[str] = []

    def fault(self, path: str, description: str) -> None:
        """Notes a fault at a path in TM Forum's spelling."""
        self.violations.append(Violation(path, description))

    def skip(self, kind: int, path: str) -> None:
        """Notes what isn't read: of what only we may set, what answers show counts as known."""
        if kind == _IN_HEADER:
            self.unknown.append(path)

    def close(self, strict: bool) -> None:
        """Raises InvalidArgument naming every fault, and with `strict` every unknown attribute too."""
        if strict:
            self.violations += [Violation(path, "isn't a known attribute") for path in self.unknown]
        if self.violations:
            raise bad_attributes(self.violations)


def bad_attributes(violations: list[Violation]) -> InvalidArgument:
    """The refusal of a body whose attributes, named by path, are wrong."""
    first = "; ".join(f"{v.field or 'the body'} {v.description}" for v in violations[:5])
    return InvalidArgument("BAD_ATTRIBUTE", first, violations=violations)


def parse(body: bytes) -> Any:
    """The JSON value of a body, numbers exact; raises InvalidArgument naming the position of a fault."""
    try:
        value = _decode_any(body)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError as error:
        raise InvalidArgument("MALFORMED_JSON", f"the body isn't UTF-8: {error.reason}") from None
    except msgspec.DecodeError as error:
        where = "" if "(byte" in str(error) else f" (byte {len(body)})"
        raise InvalidArgument("MALFORMED_JSON", f"the body isn't JSON: {error}{where}") from None
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise _too_deep()
    # Each key is followed by a colon, at least: no more of these than keys, and none was stated twice.
    if body.translate(None, _BLANKS).count(b'":') > _keys(value):
        faults = [Violation(path, "is stated more than once") for path in _repeated(json.loads(body, **_PAIRS), "")]
        if faults:
            raise bad_attributes(faults)
    if b"\\u0000" in body:
        # PostgreSQL has no place for it in a text or a JSON value.
        faults = [Violation(path, "must not hold the character U+0000") for path in _with_nul(value, "")]
        if faults:
            raise bad_attributes(faults)
    return value


def _too_deep() -> InvalidArgument:
    return InvalidArgument("MALFORMED_JSON", f"the body is nested more than {MAX_DEPTH} levels deep")


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            inner
            for item in layer
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return bool(layer)


def _keys(value: Any) -> int:
    """How many keys all objects in the value have."""
    number = 0
    if type(value) is dict:
        number, value = len(value), value.values()
    elif type(value) is not list:
        return 0
    for item in value:
        # Most are neither, and a call costs more than to look.
        if type(item) is dict or type(item) is list:
            number += _keys(item)
    return number


class _Pairs(list[tuple[str, Any]]):
    """An object as its text has it: the same key may come again."""


# What isn't looked at needn't be converted, nor be of a size that can be.
_PAIRS: Any = {"object_pairs_hook": _Pairs, "parse_int": str, "parse_float": str}


def _repeated(value: Any, path: str) -> list[str]:
    if isinstance(value, _Pairs):
        dotted, seen = path + "." if path else "", Counter(key for key, _ in value)
        inner = [again for key, item in value for again in _repeated(item, dotted + key)]
        return [dotted + key for key, times in seen.items() if times > 1] + inner
    if isinstance(value, list):
        return [again for i, item in enumerate(value) for again in _repeated(item, f"{path}[{i}]")]
    return []


def _with_nul(value: Any, path: str) -> list[str]:
    if isinstance(value, str):
        return [path] if "\0" in value else []
    if isinstance(value, list):
        return [bad for i, item in enumerate(value) for bad in _with_nul(item, f"{path}[{i}]")]
    if isinstance(value, dict):
        dotted = path + "." if path else ""
        return [bad for k, v in value.items() for bad in (_with_nul(k, path) or _with_nul(v, dotted + k))]
    return []


class MessageCodec:
    """One message type ↔ one kind of JSON object."""

    def __init__(self, dialect: "Dialect", descriptor: Descriptor) -> None:
        self.dialect = dialect
        self.descriptor = descriptor
        self.message_class = GetMessageClass(descriptor)
        self.is_resource = "etag" in descriptor.fields_by_name
        self.extensible = "extensions" in descriptor.fields_by_name
        self.attributes: dict[str, FieldDescriptor] = {}
        # Attribute → (field, kind, how it is read, whether null may remove it).
        self._in: dict[str, tuple[str, int, Any, bool]] = {}
        # Field → (attribute, how it is written).
        self._out: dict[FieldDescriptor, tuple[str, Convert | None]] = {}
        # The JSON object (as a dictionary that msgspec encodes) that says the same as a message.
        self.write: Convert = self._write_later
        self._required: list[tuple[str, str]] = []

    def compile(self) -> None:
        """Prepares a step per field; apart from construction because messages contain themselves."""
        for field in self.descriptor.fields:
            options = field.GetOptions().Extensions
            if self.extensible and field.name == "extensions":
                self._out[field] = (_EXTENSIONS, _decode_extensions)
                continue
            attribute = self.dialect.attribute(field)
            self.attributes[attribute] = field
            required = options[options_pb2.required]
            if required:
                self._required.append((field.name, attribute))
            if options[options_pb2.output_only]:
                # An etag comes and goes in headers: in a body it's none of the attributes that are shown.
                kind = _IN_HEADER if self.is_resource and attribute == "etag" else _SKIP
                self._in[attribute] = (field.name, kind, None, False)
            else:
                kind, convert = self._reader(field)
                self._in[attribute] = (field.name, kind, convert, not required)
            self._out[field] = (attribute, self._writer(field))
        if self.is_resource:
            self._in["href"] = ("", _SKIP, None, False)
        self.write = _compiled_writer(self._out, frozenset(self._in))

    def _write_later(self, message: Message) -> Any:
        """Stands for `write` in messages that contain themselves, until that is compiled."""
        return self.write(message)

    def _reader(self, field: FieldDescriptor) -> tuple[int, Any]:
        scalar: Convert | None = None
        nested: NestedConvert
        if field.message_type is None:
            scalar = scalar_in(field)
        elif field.message_type.full_name == _TIMESTAMP:
            scalar = instant_in
        elif field.message_type.full_name == _MONEY:
            nested = _read_money
        else:
            nested = self.dialect.codec(field.message_type).read
        if scalar is not None:
            return (_NESTED, _read_each_scalar(scalar)) if field.is_repeated else (_SCALAR, scalar)
        return _NESTED, (_read_each(nested) if field.is_repeated else nested)

    def _writer(self, field: FieldDescriptor) -> Convert | None:
        convert: Convert | None
        if field.message_type is None:
            convert = scalar_out(field)
        elif field.message_type.full_name == _TIMESTAMP:
            convert = instant_out
        elif field.message_type.full_name == _MONEY:
            convert = money_out
        else:
            convert = self.dialect.codec(field.message_type).write
        if not field.is_repeated:
            return convert
        return _as_list if convert is None else _write_each(convert)

    def read(self, value: Any, path: str, reading: Reading) -> dict[str, Any]:
        """The constructor arguments that a whole JSON object states; null equals absent."""
        out: dict[str, Any] = {}
        if type(value) is not dict:
            reading.fault(path, "must be an object")
            return out
        prefix = path + "." if path else ""
        unknown: dict[str, Any] = {}
        steps = self._in
        for key, item in value.items():
            if item is None:
                continue
            step = steps.get(key)
            if step is None:
                unknown[key] = item
                continue
            name, kind, convert, _ = step
            if kind == _SCALAR:
                try:
                    out[name] = convert(item)
                except IllTypedError as error:
                    reading.fault(prefix + key, str(error))
                    # It was stated: it mustn't be reported as missing too.
                    out[name] = None
            elif kind == _NESTED:
                out[name] = convert(item, prefix + key, reading)
            else:
                reading.skip(kind, prefix + key)
        if unknown:
            self._keep(unknown, prefix, reading, out)
        for name, attribute in self._required:
            if not out.get(name) and (name not in out or out[name] == []):
                reading.fault(prefix + attribute, "is required")
        return out

    def merge(self, value: Any, path: str, reading: Reading, fields: str = "") -> dict[str, Any]:
        """The constructor arguments and mask paths that a merge patch (RFC 7386) of the object states.

        Null removes, arrays are replaced whole, objects are merged: their paths in the mask are nested. Keys for the
        field `extensions` travel as they came, nulls included, and the mask path `extensions` means: merge them.
        A required attribute of a nested object may be left out, for the stored object may have it.
        """
        out: dict[str, Any] = {}
        if type(value) is not dict:
            reading.fault(path, "must be an object")
            return out
        prefix = path + "." if path else ""
        unknown: dict[str, Any] = {}
        for key, item in value.items():
            step = self._in.get(key)
            if step is None:
                unknown[key] = item
                continue
            name, kind, convert, removable = step
            if kind in _SKIPPED:
                reading.skip(kind, prefix + key)
                continue
            field = self.descriptor.fields_by_name[name]
            if item is None or (item == [] and field.is_repeated):
                if not removable:
                    reading.fault(prefix + key, "is required, so it can't be removed")
                reading.mask.append(fields + name)
            elif kind == _SCALAR:
                try:
                    out[name] = convert(item)
                except IllTypedError as error:
                    reading.fault(prefix + key, str(error))
                reading.mask.append(fields + name)
            elif convert is _read_money:
                out[name] = convert(item, prefix + key, reading)
                reading.mask += _money_mask(item, fields + name)
            elif field.is_repeated or field.message_type is None:
                out[name] = convert(item, prefix + key, reading)
                reading.mask.append(fields + name)
            else:
                nested = self.dialect.codec(field.message_type)
                out[name] = nested.merge(item, prefix + key, reading, f"{fields}{name}.")
        if unknown:
            self._keep(unknown, prefix, reading, out)
            reading.mask.append(fields + "extensions")
        return out

    def _keep(self, unknown: dict[str, Any], prefix: str, reading: Reading, out: dict[str, Any]) -> None:
        for key, item in unknown.items():
            if not self.extensible:
                reading.fault(prefix + key, "isn't a known attribute, and none can be added here")
            elif key not in _TYPING:
                reading.unknown.append(prefix + key)
            elif item is not None and type(item) is not str:
                reading.fault(prefix + key, "must be a string")
        out["extensions"] = encode_json(unknown)


def _compiled_writer(steps: Mapping[FieldDescriptor, tuple[str, Convert | None]], base: frozenset[str]) -> Convert:
    def write(message: Message) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for field, value in message.ListFields():
            attribute, convert = steps[field]
            out[attribute] = value if convert is None else convert(value)
        if _EXTENSIONS in out:
            # An extension never takes the place of a base attribute, wherever it came from.
            extensions = out.pop(_EXTENSIONS).items()
            out.update({attribute: value for attribute, value in extensions if attribute not in base})
        return out

    return write


def _read_each(convert: NestedConvert) -> NestedConvert:
    def read(value: Any, path: str, reading: Reading) -> list[Any]:
        if type(value) is not list:
            reading.fault(path, "must be an array")
            return []
        return [convert(item, f"{path}[{i}]", reading) for i, item in enumerate(value)]

    return read


def _read_each_scalar(convert: Convert) -> NestedConvert:
    def one(item: Any, path: str, reading: Reading) -> Any:
        try:
            return convert(item)
        except IllTypedError as error:
            reading.fault(path, str(error))

    return _read_each(one)


# A repeated field gives all its values at once in a quarter of the time in which it gives them one by one.
_as_list = operator.itemgetter(slice(None))


def _write_each(convert: Convert) -> Convert:
    return lambda values: [*map(convert, values[:])]


def _read_money(value: Any, path: str, reading: Reading) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if type(value) is not dict:
        reading.fault(path, "must be an object with unit and value")
        return out
    for key, item in value.items():
        if item is None:
            continue
        try:
            if key == "unit":
                out["unit"] = text_in(item)
            elif key == "value":
                out.update(amount_in(item))
            else:
                reading.fault(f"{path}.{key}", "isn't a known attribute: an amount has a unit and a value")
        except IllTypedError as error:
            reading.fault(f"{path}.{key}", str(error))
    return out


def _money_mask(patch: Any, field: str) -> list[str]:
    stated = set(patch) if isinstance(patch, dict) else set()
    if {"unit", "value"} <= stated:
        return [field]
    return [
        f"{field}.{part}"
        for part in (["unit"] if "unit" in stated else []) + (["units", "nanos"] if "value" in stated else [])
    ]


def descriptor_of(message: Message | type[Message]) -> Descriptor:
    """The descriptor, typed as every implementation of protobuf has it."""
    return cast(Descriptor, message.DESCRIPTOR)


class Dialect:
    """One version of TM Forum's JSON; a later one overrides how attributes are named."""

    def __init__(self, version: str = "v4") -> None:
        self.version = version
        self._codecs: dict[str, MessageCodec] = {}

    def attribute(self, field: FieldDescriptor) -> str:
        """The attribute's name for a field."""
        return field.json_name

    def codec(self, descriptor: Descriptor) -> MessageCodec:
        """The compiled codec of a message type."""
        codec = self._codecs.get(descriptor.full_name)
        if codec is None:
            codec = self._codecs[descriptor.full_name] = MessageCodec(self, descriptor)
            codec.compile()
        return codec

    def message(self, message_class: type[M], value: Any, *, strict: bool = False) -> M:
        """The message that a parsed JSON object states in full.

        Raises InvalidArgument BAD_ATTRIBUTE with the path of every attribute that is ill-typed, missing, or (with
        `strict`) unknown.
        """
        reading = Reading()
        arguments = self.codec(descriptor_of(message_class)).read(value, "", reading)
        reading.close(strict)
        return message_class(**arguments)

    def patch(self, message_class: type[M], value: Any, *, path: str = "", strict: bool = False) -> tuple[M, list[str]]:
        """The message and field mask that a merge patch, which is at `path`, states; raises as `message` does."""
        reading = Reading()
        arguments = self.codec(descriptor_of(message_class)).merge(value, path, reading)
        reading.close(strict)
        return message_class(**arguments), reading.mask

    def json(self, message: Message) -> dict[str, Any]:
        """The JSON object of a message, to be encoded by `scalars.encode_json`."""
        document: dict[str, Any] = self.codec(descriptor_of(message)).write(message)
        return document

    def resource(self, message: Message, href: str) -> dict[str, Any]:
        """The JSON object of a resource: with its `href`, and `@type` when it has none of its own."""
        body = self.json(message)
        body["href"] = href
        body.setdefault("@type", message.DESCRIPTOR.name)
        # It travels as the header ETag.
        body.pop("etag", None)
        if body.get("branch") == "*":
            del body["branch"]
        return body

    def field_path(self, descriptor: Descriptor, path: str) -> str:
        """A dotted attribute path as field names; what the contract doesn't name stays as it is."""
        return self._translated(descriptor, path, lambda codec, name: codec.attributes.get(name), _field_name)

    def names_field(self, descriptor: Descriptor, path: str) -> bool:
        """Whether a dotted attribute path leads to a field; some of TM Forum's are called as operators are."""
        return self._field_at(descriptor, path) is not None

    def spelled(self, descriptor: Descriptor, path: str, text: str) -> str:
        """A value of the attribute at the dotted path as every answer shows it; one that it can't have stays."""
        field = self._field_at(descriptor, path)
        if field is None or field.enum_type is None:
            return text
        try:
            return spellings(field.enum_type)[enum_in(field.enum_type)(text)]
        except IllTypedError:
            return text

    def _field_at(self, descriptor: Descriptor, path: str) -> FieldDescriptor | None:
        at: Descriptor | None = descriptor
        field: FieldDescriptor | None = None
        for name in path.split("."):
            field = self.codec(at).attributes.get(name) if at is not None and at.full_name != _MONEY else None
            if field is None:
                return None
            at = field.message_type
        return field

    def attribute_path(self, descriptor: Descriptor, path: str) -> str:
        """A dotted field path, indices kept, as attribute names; what isn't a field stays as it is."""
        return self._translated(
            descriptor, path, lambda codec, name: codec.descriptor.fields_by_name.get(name), self.attribute
        )

    def _translated(
        self,
        descriptor: Descriptor,
        path: str,
        find: Callable[[MessageCodec, str], FieldDescriptor | None],
        name_of: Callable[[FieldDescriptor], str],
    ) -> str:
        parts = path.split(".")
        at: Descriptor | None = descriptor
        for i, part in enumerate(parts):
            if at is None:
                break
            name, bracket, index = part.partition("[")
            if at.full_name == _MONEY:
                # Stored and shown as one number.
                parts[i] = "value" if name in ("units", "nanos") else part
                break
            field = find(self.codec(at), name)
            if field is None:
                break
            parts[i] = name_of(field) + bracket + index
            at = field.message_type
        return ".".join(parts)


def _field_name(field: FieldDescriptor) -> str:
    return field.name


def select(body: Mapping[str, Any], paths: list[list[str]]) -> dict[str, Any]:
    """The part of a JSON object that the attribute paths name, in the object's order; paths reach into arrays."""
    nested: dict[str, list[list[str]]] = {}
    whole: set[str] = set()
    for path in paths:
        if len(path) == 1:
            whole.add(path[0])
        else:
            nested.setdefault(path[0], []).append(path[1:])
    return {
        key: value if key in whole else _select_within(value, nested[key])
        for key, value in body.items()
        if key in whole or key in nested
    }


def _select_within(value: Any, paths: list[list[str]]) -> Any:
    if type(value) is msgspec.Raw:
        value = _decode_any(value)
    if isinstance(value, list):
        return [_select_within(item, paths) for item in value]
    return select(value, paths) if isinstance(value, dict) else value
