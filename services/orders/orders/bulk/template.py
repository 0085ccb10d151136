"""What an order of a row looks like: TM Forum JSON with the columns' names in the places of their values. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from chassis.errors import InvalidArgument, Violation

MOST_CHARACTERS = 64 * 1024
# {column}, {column?}, {column??}, {column|integer}, {column?|integer}; a brace that is meant is written twice.
_PLACE = re.compile(r"\{\{|\}\}|\{([^{}|?]+)(\?{0,2})(?:\|(\w+))?\}")
_ATTRIBUTE, _OBJECT = "?", "??"
_KINDS = ("text", "integer", "number", "boolean")
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_CUSTOMER = re.compile(r"relatedParty\[\d+\]\.id$")


class RowFault(Exception):
    """A row of which no order can be made; `column` says where."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


@dataclass(frozen=True)
class Template:
    """A checked template. `origins`: the path of each text that a column stands in → the column (the first of it)."""

    content: Mapping[str, Any]
    columns: frozenset[str]
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def customer_columns(self) -> tuple[str, ...]:
        """The columns that name the customer (or another party) of an order."""
        return tuple(dict.fromkeys(column for path, column in self.origins.items() if _CUSTOMER.match(path)))

    def column_of(self, path: str) -> str:
        """The column that an attribute of the order comes from; the path itself where it comes from none."""
        plain = _camel(path)
        if plain in self.origins:
            return self.origins[plain]
        within = [column for origin, column in self.origins.items() if origin.startswith((f"{plain}.", f"{plain}["))]
        return within[0] if len(within) == 1 else path

    def order(self, values: Mapping[str, object]) -> dict[str, Any]:
        """The order of a row, as TM Forum JSON. Raises RowFault."""
        made = _filled(self.content, values)
        assert isinstance(made, dict)
        return made


def parse(text: str) -> Template:
    """The template of a text. Raises InvalidArgument BAD_TEMPLATE naming what is wrong."""
    if len(text) > MOST_CHARACTERS:
        raise _bad([Violation("template", f"longer than {MOST_CHARACTERS} characters")])
    try:
        content = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise _bad([Violation("template", f"isn't JSON: {error}")]) from error
    if not isinstance(content, dict):
        raise _bad([Violation("template", "isn't a JSON object")])
    wrong: list[Violation] = []
    origins: dict[str, str] = {}
    columns: set[str] = set()
    for path, leaf in _texts(content, ""):
        plain = _PLACE.sub("", leaf)
        if "{" in plain or "}" in plain:
            wrong.append(Violation(f"template.{path}", "a brace that names no column is written twice"))
        for name, _, kind in _places(leaf):
            columns.add(name)
            origins.setdefault(path, name)
            if kind and kind not in _KINDS:
                wrong.append(Violation(f"template.{path}", f"{kind!r} is none of {', '.join(_KINDS)}"))
            elif kind and not _PLACE.fullmatch(leaf):
                wrong.append(Violation(f"template.{path}", "only what is nothing but a column has a kind"))
    if not content.get("productOrderItem"):
        wrong.append(Violation("template.productOrderItem", "required"))
    if content.get("coupon"):
        wrong.append(Violation("template.coupon", "coupons are redeemed by who orders himself, not in bulk"))
    if wrong:
        raise _bad(wrong)
    return Template(content, frozenset(columns), origins)


def _bad(violations: list[Violation]) -> InvalidArgument:
    return InvalidArgument("BAD_TEMPLATE", violations[0].description, violations=violations)


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _texts(part, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for position, part in enumerate(value):
            yield from _texts(part, f"{path}[{position}]")
    elif isinstance(value, str):
        yield path, value


def _places(text: str) -> Iterator[tuple[str, str, str]]:
    for match in _PLACE.finditer(text):
        if match[1] is not None:
            yield match[1].strip(), match[2], match[3] or ""


def _filled(value: Any, values: Mapping[str, object]) -> Any:
    """The value with the row's in the places of the columns."""
    if isinstance(value, dict):
        return {key: _filled(part, values) for key, part in value.items() if not _left_out(part, values)}
    if isinstance(value, list):
        return [_filled(part, values) for part in value if not _left_out(part, values)]
    return _text(value, values) if isinstance(value, str) else value


def _left_out(value: Any, values: Mapping[str, object]) -> bool:
    """Whether it isn't there without what the row lacks: half a characteristic is none."""
    if isinstance(value, dict):
        return any(isinstance(part, str) and _lacks(part, values, _OBJECT) for part in value.values())
    return isinstance(value, str) and (_lacks(value, values, _ATTRIBUTE) or _lacks(value, values, _OBJECT))


def _lacks(text: str, values: Mapping[str, object], mark: str) -> bool:
    return any(marked == mark and _missing(values.get(name)) for name, marked, _ in _places(text))


def _missing(value: object) -> bool:
    return value is None or value == ""


def _text(text: str, values: Mapping[str, object]) -> Any:
    whole = _PLACE.fullmatch(text)
    if whole is not None and whole[1] is not None:
        name = whole[1].strip()
        return _typed(name, _given(name, values), whole[3] or "")

    def put(match: re.Match[str]) -> str:
        return match[0][0] if match[1] is None else _plain(_given(match[1].strip(), values))

    return _PLACE.sub(put, text)


def _given(name: str, values: Mapping[str, object]) -> object:
    value = values.get(name)
    if _missing(value):
        raise RowFault(name, "required")
    return value


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _typed(name: str, value: object, kind: str) -> Any:
    if not kind:
        return value
    text = _plain(value).strip()
    if kind == "text":
        return text
    if kind == "boolean":
        if text.lower() not in _BOOLEANS:
            raise RowFault(name, f"{text!r} is neither true nor false")
        return _BOOLEANS[text.lower()]
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise RowFault(name, f"{text!r} isn't a number") from error
    if not number.is_finite() or len(text) > 32 or abs(number.adjusted()) > 32:
        raise RowFault(name, f"{text!r} isn't a number that is taken here")
    if kind == "integer":
        if number != number.to_integral_value():
            raise RowFault(name, f"{text!r} isn't an integer")
        return int(number)
    return number


_SNAKE = re.compile(r"_([a-z])")


def _camel(path: str) -> str:
    return _SNAKE.sub(lambda match: match[1].upper(), path)
