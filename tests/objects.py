"""Objects of every kind of aggregate that the services register, as full of corner cases as chance will have it."""

import dataclasses
import random
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from catalog.store import RESOURCES as CATALOG
from chassis import convert
from chassis.types import EPOCH, Aggregate, Json, Money
from customers.store import RESOURCES as CUSTOMERS
from orders.store import RESOURCES as ORDERS
from svyaz.type.v1 import options_pb2

AGGREGATES = {**CATALOG, **CUSTOMERS, **ORDERS}
# Hypothesis chooses the seed; strategies for aggregates of a hundred nested attributes would take it minutes.
SEED = st.integers(0, 2**64)
TEXTS = ("", "a", "Чолпон", "\u2028", "0", "null", ' "\\', "e\u0301", "x" * 300, "𝄞")
JSONS = (
    *('"x"', '""', '"2026-01-31T12:00:00+06:00"', "0", "-0.0", "1", "12.50", "1E2", "437011234567890123456789.10"),
    *("true", "false", "[]", "{}", '{"a":[1,2.0,null],"ә":{"":false}}'),
)
EXTENSIONS = (
    '{"x":1.00}',
    '{"a":{"b":null}}',
    '{"ы":"","x-0":false,"":[{}]}',
    '{"Name":0,"product_offering":-1.50e-7}',
)
_OFFSETS = (0, 0, 360, -570, 840)


class Maker:
    """Makes objects of any class, as far as a message has their attributes; all that the contract requires is there."""

    def __init__(self, seed: int, *, stated: bool = False) -> None:
        """`stated`: only what a client can state. It can't state a value of null, and no text may hold U+0000."""
        self._random = random.Random(seed)
        self._jsons = JSONS if stated else (*JSONS, "null")
        self._texts = TEXTS if stated else (*TEXTS, "\x00")

    def make(self, cls: Any, descriptor: Any, depth: int) -> Any:
        """An object with some of its attributes."""
        fields = {field.name: field for field in descriptor.fields}
        given: dict[str, Any] = {}
        needed = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING}
        for name, (kind, repeated) in convert.attribute_types(cls).items():
            field = fields.get(name)
            if name in ("id", "branch") and issubclass(cls, Aggregate):
                given[name] = f"{name}-{self._random.random()}"
            elif field is not None and (name in needed or self._may_be(field, kind, depth)):
                count = self._random.choice((1, 1, 2))
                made = [self._value(kind, field, depth - 1) for _ in range(count)]
                given[name] = tuple(made) if repeated else made[0]
        return cls(**given)

    def _may_be(self, field: Any, kind: Any, depth: int) -> bool:
        options = field.GetOptions().Extensions
        if options[options_pb2.output_only]:
            return False
        part = field.type == FieldDescriptor.TYPE_MESSAGE and kind not in (datetime, Money)
        return options[options_pb2.required] or ((not part or depth > 0) and self._random.random() < 0.6)

    def _value(self, kind: Any, field: Any, depth: int) -> Any:
        draw = self._random
        makers: dict[Any, Any] = {
            Json: lambda: Json(draw.choice(self._jsons)),
            datetime: self._instant,
            Decimal: lambda: Decimal(draw.choice((0, draw.randint(-(10**20), 10**20)))).scaleb(-draw.randint(0, 9)),
            Money: lambda: Money(unit=draw.choice((None, "KGS", "")), value=draw.choice((None, self._amount()))),
            bytes: lambda: self._encoded(field.message_type),
            bool: lambda: draw.random() < 0.5,
            int: lambda: draw.choice((0, -1, 2**31 - 1, -(2**31), draw.randint(-1000, 1000))),
            # A text without presence can't be told from none when it is empty.
            str: lambda: draw.choice(
                EXTENSIONS
                if field.name == "extensions" or field.GetOptions().Extensions[options_pb2.json]
                else self._texts[not field.has_presence :]
            ),
        }
        if kind in makers:
            return makers[kind]()
        if issubclass(kind, StrEnum):
            return draw.choice(list(kind))
        return self.make(kind, field.message_type, depth)

    def _encoded(self, descriptor: Any) -> bytes:
        message = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
                setattr(message, field.name, self._random.choice(TEXTS))
        return message.SerializeToString()

    def _instant(self) -> datetime:
        draw = self._random
        micros = draw.choice((0, draw.randint(-(10**15), 4 * 10**15), draw.randint(-4 * 10**9, 8 * 10**9) * 1_000_000))
        return (EPOCH + timedelta(microseconds=micros)).astimezone(timezone(timedelta(minutes=draw.choice(_OFFSETS))))

    def _amount(self) -> Decimal:
        draw = self._random
        return draw.choice((Decimal(0), Decimal(draw.randint(-(10**18), 10**18)).scaleb(-draw.randint(0, 9))))


def attributes(value: Any) -> dict[str, Any]:
    """What a dataclass has in its attributes; aggregates are equal by identity only."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def given_by_us(cls: Any, descriptor: Any) -> list[str]:
    """The attributes that an object can't be without and no caller may set."""
    needed = [field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING]
    return [name for name in needed if _is_ours(descriptor, name)]


def _is_ours(descriptor: Any, name: str) -> bool:
    field = descriptor.fields_by_name.get(name)
    return field is None or bool(field.GetOptions().Extensions[options_pb2.output_only])
