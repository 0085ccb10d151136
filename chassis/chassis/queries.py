"""Lists: filters, order and pages in terms of field paths, turned into SQL that runs under the caller's policies."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
import sqlalchemy.ext.compiler
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from sqlalchemy.dialects.postgresql import JSONB

from chassis.errors import InvalidArgument, Violation
from chassis.reading import INVALID_VALUE
from chassis.types import MAX_DIGITS, decimal_of
from svyaz.type.v1 import options_pb2, requests_pb2

DEFAULT_LIMIT = 1_000
MAX_LIMIT = 10_000
# Counting further than this costs more than the number is worth; beyond it the planner's estimate serves.
EXACT_COUNT = 10_000

_O = requests_pb2.Filter
_SYMBOLS: Mapping[int, str] = {
    _O.OPERATOR_GT: ">",
    _O.OPERATOR_GTE: ">=",
    _O.OPERATOR_LT: "<",
    _O.OPERATOR_LTE: "<=",
}


def _bad(path: str, why: str) -> InvalidArgument:
    return InvalidArgument("INVALID_FILTER", f"{path}: {why}", violations=[Violation(path, why)])


# --- values ----------------------------------------------------------------------------------------------------------


def _instant(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError(text) from error


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


@dataclass(frozen=True)
class _Leaf:
    """What kind of value a path ends in."""

    name: str
    parse: Callable[[str], Any]


_TEXT = _Leaf("text", str)
_NUMBER = _Leaf(f"a number of at most {MAX_DIGITS} digits", decimal_of)
_BOOLEAN = _Leaf("true or false", _boolean)
_INSTANT = _Leaf("an ISO 8601 instant", _instant)
_ANY = _Leaf("any", str)


def _leaf(field: Any) -> _Leaf | None:
    """None for a message that isn't a value by itself."""
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _INSTANT if field.message_type.full_name == "google.protobuf.Timestamp" else None
    options = field.GetOptions()
    if options.Extensions[options_pb2.decimal] or field.cpp_type in (
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
    ):
        return _NUMBER
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _BOOLEAN
    if options.Extensions[options_pb2.json]:
        return _ANY
    return _TEXT


def _parse(leaf: _Leaf, path: str, values: Sequence[str]) -> list[Any]:
    if not values:
        raise _bad(path, "no value")
    parsed = []
    for value in values:
        try:
            parsed.append(leaf.parse(value))
        except ValueError as error:
            raise _bad(path, f"{value!r} isn't {leaf.name}") from error
    return parsed


# --- conditions ------------------------------------------------------------------------------------------------------


def _on_column(column: sa.ColumnElement[Any], leaf: _Leaf, condition: requests_pb2.Filter) -> sa.ColumnElement[bool]:
    operator, path = condition.operator, condition.path
    if operator == _O.OPERATOR_REGEX:
        return _regex(sa.cast(column, sa.Text), path, condition.value)
    values = _parse(leaf, path, condition.value)
    if operator in (_O.OPERATOR_EQ, _O.OPERATOR_UNSPECIFIED):
        return column == values[0] if len(values) == 1 else column.in_(values)
    if operator == _O.OPERATOR_NE:
        return sa.or_(column.is_(None), column.not_in(values))
    return sa.or_(*(column.op(_SYMBOLS[operator], is_comparison=True)(value) for value in values))


def _regex(text: sa.ColumnElement[Any], path: str, patterns: Sequence[str]) -> sa.ColumnElement[bool]:
    _check_regex(path, patterns)
    return sa.or_(*(text.regexp_match(pattern) for pattern in patterns))


def _check_regex(path: str, patterns: Sequence[str]) -> None:
    if not patterns:
        raise _bad(path, "no value")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise _bad(path, f"{pattern!r} isn't a regular expression: {error}") from error


@dataclass(frozen=True)
class _Place:
    """Where in a column's JSON a value is: `keys`, and below them, in a value object's extensions, `extension`."""

    keys: Sequence[str]
    leaf: _Leaf
    extension: Sequence[str] = ()


def _stored(value: datetime) -> str:
    """An instant of UTC, as JSON holds it."""
    return value.isoformat().replace("+00:00", "Z")


class _JsonPath:
    """Conditions on one JSONB column; those on a repeated field must hold for one and the same element."""

    def __init__(self) -> None:
        self.predicates: list[str] = []
        # On what a value object has beside its fields, which is kept as text: where that object is, and a predicate.
        self.extended: list[tuple[str, str]] = []
        self.variables: dict[str, Any] = {}

    def add(self, place: _Place, condition: requests_pb2.Filter) -> None:
        if place.extension:
            self.extended.append((_steps(place.keys), self._predicate(place.extension, place.leaf, condition)))
        else:
            self.predicates.append(self._predicate(place.keys, place.leaf, condition))

    def _predicate(self, keys: Sequence[str], leaf: _Leaf, condition: requests_pb2.Filter) -> str:
        target = "@" + _steps(keys)
        operator, path = condition.operator, condition.path
        if operator == _O.OPERATOR_REGEX:
            _check_regex(path, condition.value)
            return _any(f"{target} like_regex {json.dumps(pattern)}" for pattern in condition.value)
        symbol = _SYMBOLS.get(operator, "==")
        tests = []
        for value in _parse(leaf, path, condition.value):
            if leaf is _INSTANT:
                tests.append(self._instant(target, symbol, value))
            elif leaf is _ANY:
                # A free-typed value: the text "12" also finds the number 12.
                tests.append(f"{target} {symbol} {self._variable(value)}")
                if (other := _json_literal(value)) is not None:
                    tests.append(f"{target} {symbol} {self._variable(other)}")
            else:
                tests.append(f"{target} {symbol} {self._variable(value)}")
        test = _any(tests)
        return f"!({test})" if operator == _O.OPERATOR_NE else test

    def _instant(self, target: str, symbol: str, value: datetime) -> str:
        """Compares instants as the texts that they are stored as: in UTC, ending in Z (which `datetime()` doesn't read
        before PostgreSQL 17), with six decimals or none. Of the texts of one second the one without decimals is the
        greatest, though its instant is the earliest."""
        second, exact = value.isoformat()[:19], self._variable(_stored(value))
        whole = self._variable(second + "Z")
        if symbol == "==":
            return f"{target} == {exact}"
        if value.microsecond:
            beside = f"|| {target} == {whole}" if symbol in ("<", "<=") else f"&& {target} != {whole}"
            return f"({target} {symbol} {exact} {beside})"
        # Less than every text of this second.
        start = self._variable(second)
        return {
            "<": f"{target} < {start}",
            "<=": f"({target} < {start} || {target} == {whole})",
            ">": f"({target} > {start} && {target} != {whole})",
            ">=": f"{target} > {start}",
        }[symbol]

    def condition(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        if not self.extended:
            return self._exists(column, "$[*]", self.predicates)
        element = sa.func.jsonb_path_query(column, _jsonpath("$[*]"), type_=JSONB).column_valued("element")
        tests = [self._exists(element, "$", self.predicates)] if self.predicates else []
        for number, (steps, predicate) in enumerate(self.extended):
            # What is repeated inside, too: a path that ends in an array would be the array's own extensions.
            found = sa.func.jsonb_path_query(element, _jsonpath(f"${steps}[*]"), type_=JSONB)
            owner = found.column_valued(f"owner_{number}")
            extensions = sa.func.coalesce(sa.cast(owner.op("->>")("extensions"), JSONB), sa.cast("{}", JSONB))
            tests.append(sa.exists(sa.select(owner).where(self._exists(extensions, "$", [predicate]))))
        return sa.exists(sa.select(element).where(*tests))

    def _exists(self, column: sa.ColumnElement[Any], start: str, predicates: Sequence[str]) -> sa.ColumnElement[bool]:
        path = f"{start} ? (" + " && ".join(f"({p})" for p in predicates) + ")"
        variables = "{" + ",".join(f"{json.dumps(k)}:{_json(v)}" for k, v in self.variables.items()) + "}"
        return sa.func.jsonb_path_exists_tz(column, _jsonpath(path), sa.cast(sa.literal(variables, sa.Text), JSONB))

    def _variable(self, value: Any) -> str:
        name = f"v{len(self.variables)}"
        self.variables[name] = value
        return "$" + name


def _none_of(column: sa.ColumnElement[Any], leaf: _Leaf, condition: requests_pb2.Filter) -> sa.ColumnElement[bool]:
    """That none of a repeated field's values is one of these, if it has any: one that differs is no answer to `!=`."""
    path = _JsonPath()
    path.add(_Place([], leaf), requests_pb2.Filter(path=condition.path, value=condition.value))
    return sa.not_(sa.func.coalesce(path.condition(column), False))


def _steps(keys: Sequence[str]) -> str:
    return "".join("." + json.dumps(key) for key in keys)


def _jsonpath(path: str) -> sa.ColumnElement[Any]:
    return sa.cast(sa.literal(path), sa.Text).op("::")(sa.text("jsonpath"))


def _any(tests: Any) -> str:
    return " || ".join(f"({test})" for test in tests)


def _json(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else json.dumps(value)


def _json_literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return decimal_of(text)
    except ValueError:
        return None


def _walk(descriptor: Any, path: str, names: Sequence[str]) -> _Place:
    """Where the names below a message field lead to; what isn't a field may be an extension."""
    keys: list[str] = []
    for position, name in enumerate(names):
        if descriptor.full_name == "svyaz.type.v1.Money" and name in ("unit", "value"):
            return _Place([*keys, name], _TEXT if name == "unit" else _NUMBER)
        field = descriptor.fields_by_name.get(name)
        if field is None and "extensions" in descriptor.fields_by_name:
            return _Place(keys, _ANY, names[position:])
        if field is None:
            raise _bad(path, f"there is no field {name!r} in {descriptor.name}")
        keys.append(name)
        leaf = _leaf(field)
        last = position == len(names) - 1
        if leaf is not None and (last or leaf is _ANY):
            return _Place(keys + list(names[position + 1 :]), leaf)
        if leaf is None and not last:
            descriptor = field.message_type
            continue
        raise _bad(path, "this isn't a single value" if last else f"{name!r} has no parts")
    raise _bad(path, "this isn't a single value")


def conditions(
    table: sa.Table, message: type[Message], filters: Sequence[requests_pb2.Filter]
) -> list[sa.ColumnElement[bool]]:
    """The WHERE clauses of the filters, all of which must hold. Raises InvalidArgument naming the filter's path."""
    result: list[sa.ColumnElement[bool]] = []
    nested: dict[str, _JsonPath] = {}
    fields: Mapping[str, Any] = message.DESCRIPTOR.fields_by_name
    for condition in filters:
        if any("\0" in text for text in (condition.path, *condition.value)):
            raise _bad(condition.path, "no text has the character U+0000 in it")
        head, *rest = condition.path.split(".")
        field = fields.get(head)
        if field is None or head == "extensions":
            extension = nested.setdefault("extensions", _JsonPath())
            extension.add(_Place([head, *rest] if head != "extensions" else rest, _ANY), condition)
        elif head not in table.c:
            raise _bad(condition.path, "lists can't be filtered by this")
        elif field.type == FieldDescriptor.TYPE_MESSAGE and _leaf(field) is None:
            nested.setdefault(head, _JsonPath()).add(_walk(field.message_type, condition.path, rest), condition)
        elif rest:
            raise _bad(condition.path, f"{head!r} has no parts")
        else:
            leaf_or_none = _leaf(field)
            assert leaf_or_none is not None
            if field.is_repeated and condition.operator == _O.OPERATOR_NE:
                result.append(_none_of(table.c[head], leaf_or_none, condition))
            elif field.is_repeated:
                nested.setdefault(head, _JsonPath()).add(_Place([], leaf_or_none), condition)
            else:
                result.append(_on_column(_plain(table.c[head]), leaf_or_none, condition))
    for name, path in nested.items():
        column = table.c[name]
        # Extensions are kept as text, digit by digit.
        result.append(path.condition(sa.cast(column, JSONB) if name == "extensions" else column))
    return result


@contextmanager
def naming(filters: Sequence[requests_pb2.Filter]) -> Iterator[None]:
    """Names the filters whose value the database refuses, as only it can: its regular expressions aren't Python's."""
    try:
        yield
    except InvalidArgument as error:
        patterns = [condition.path for condition in filters if condition.operator == _O.OPERATOR_REGEX]
        if error.reason != INVALID_VALUE or not patterns:
            raise
        violations = [Violation(path, error.message) for path in dict.fromkeys(patterns)]
        raise InvalidArgument("INVALID_FILTER", error.message, violations=violations) from error


def _plain(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """An enum's column compared as the text that it is: a value that no member has finds nothing."""
    return sa.type_coerce(column, sa.Text) if isinstance(column.type, sa.types.TypeDecorator) else column


def order(table: sa.Table, message: type[Message], sort: Sequence[str]) -> list[sa.ColumnElement[Any]]:
    """The ORDER BY of the sort paths, made total by the id. Raises InvalidArgument naming an unknown path."""
    result: list[sa.ColumnElement[Any]] = []
    fields: Mapping[str, Any] = message.DESCRIPTOR.fields_by_name
    for entry in sort:
        path = entry.removeprefix("-")
        head, *rest = path.split(".")
        field = fields.get(head)
        if field is None or head not in table.c or head == "extensions":
            raise InvalidArgument("INVALID_SORT", f"can't sort by {path!r}", violations=[Violation("sort", path)])
        column: sa.ColumnElement[Any] = _plain(table.c[head]) if not rest else table.c[head]
        if field.type == FieldDescriptor.TYPE_MESSAGE and _leaf(field) is None:
            place = _walk(field.message_type, path, rest)
            if place.extension:
                raise InvalidArgument("INVALID_SORT", f"can't sort by {path!r}", violations=[Violation("sort", path)])
            column = sa.func.jsonb_path_query_first(column, _jsonpath("$" + _steps(place.keys)))
        elif rest:
            raise InvalidArgument("INVALID_SORT", f"{head!r} has no parts", violations=[Violation("sort", path)])
        result.append(column.desc().nulls_last() if entry.startswith("-") else column.asc().nulls_last())
    return [*result, table.c.id]


@dataclass(frozen=True)
class Window:
    """Which part of a list is wanted."""

    offset: int
    limit: int


def window(request: requests_pb2.ListRequest) -> Window:
    """Raises InvalidArgument naming `offset` or `limit` when out of range."""
    if request.offset < 0:
        raise InvalidArgument("INVALID_PAGE", "offset is negative", violations=[Violation("offset", "negative")])
    limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
    if not 0 <= limit <= MAX_LIMIT:
        raise InvalidArgument(
            "INVALID_PAGE", f"limit must be from 0 to {MAX_LIMIT}", violations=[Violation("limit", "out of range")]
        )
    return Window(request.offset, limit)


def count(execute: Callable[[Any], Any], table: sa.Table, where: Sequence[sa.ColumnElement[bool]]) -> requests_pb2.Page:
    """How many rows match: exact up to 10,000, above that what the planner expects."""
    some = sa.select(sa.literal(1)).select_from(table).where(*where).limit(EXACT_COUNT + 1).subquery()
    total = int(execute(sa.select(sa.func.count()).select_from(some)).scalar_one())
    if total <= EXACT_COUNT:
        return requests_pb2.Page(total_size=total)
    statement = sa.select(table.c.id).where(*where)
    plan = execute(_Explain(statement)).scalar_one()
    rows = int(json.loads(plan)[0]["Plan"]["Plan Rows"])
    return requests_pb2.Page(total_size=max(rows, EXACT_COUNT + 1), estimated=True)


class _Explain(sa.sql.expression.Executable, sa.sql.expression.ClauseElement):
    """EXPLAIN of a statement, keeping its parameters."""

    inherit_cache = False

    def __init__(self, statement: sa.Select[Any]) -> None:
        self.statement = statement


@sa.ext.compiler.compiles(_Explain)
def _explain(element: _Explain, compiler: Any, **kwargs: Any) -> str:
    return "EXPLAIN (FORMAT JSON) " + str(compiler.process(element.statement, **kwargs))
