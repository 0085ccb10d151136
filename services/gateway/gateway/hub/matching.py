"""What a subscription's `query` says (TMF630): which events, of resources like what, and which part of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from operator import ge, gt, le, lt
from typing import Any
from urllib.parse import parse_qsl, unquote

from chassis.errors import InvalidArgument, Violation
from chassis.scalars import IllTypedError, instant_in
from chassis.tmfjson import Dialect, descriptor_of, select
from gateway import query
from gateway.query import Filter
from gateway.resources import RESOURCES, Resource

_LONGEST_QUERY = 2_000
_MOST_CONDITIONS = 50
_EVENT_TYPE = "eventType"
_ENVELOPE = frozenset({"eventId", "eventTime", _EVENT_TYPE, "correlationId", "timeOcurred"})
_ORDER: Mapping[int, Callable[[Any, Any], Any]] = {
    Filter.OPERATOR_GT: gt,
    Filter.OPERATOR_GTE: ge,
    Filter.OPERATOR_LT: lt,
    Filter.OPERATOR_LTE: le,
}

DIALECT = Dialect("v4")
APIS: Mapping[str, tuple[Resource, ...]] = {
    api: tuple(resource for resource in RESOURCES if resource.api == api)
    for api in sorted({resource.api for resource in RESOURCES})
}


@dataclass(frozen=True)
class Condition:
    """The values that an attribute may have; `path` in attribute names, from the resource down."""

    path: tuple[str, ...]
    operator: int
    values: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What a query wants of one resource's events."""

    types: frozenset[str] = frozenset()
    conditions: tuple[Condition, ...] = ()
    fields: tuple[tuple[str, ...], ...] | None = None
    grouped: Mapping[str, tuple[Condition, ...]] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        heads: dict[str, list[Condition]] = {}
        for condition in self.conditions:
            heads.setdefault(condition.path[0], []).append(condition)
        object.__setattr__(self, "grouped", {head: tuple(found) for head, found in heads.items()})

    def type_matches(self, event_type: str) -> bool:
        """Whether it wants events of the type."""
        return not self.types or event_type in self.types

    def matches(self, document: Mapping[str, Any]) -> bool:
        """Whether the resource's JSON meets every condition; those on one array are met by one and the same element."""
        return all(_group_holds(document.get(head), group) for head, group in self.grouped.items())

    def part(self, document: dict[str, Any]) -> dict[str, Any]:
        """What `fields` names of the resource's JSON; everything unless it does."""
        return document if self.fields is None else select(document, [list(path) for path in self.fields])


def check(api: str, text: str) -> None:
    """Raises InvalidArgument BAD_QUERY for a query that says nothing useful about the API's events."""
    for resource in APIS[api]:
        wanted(resource, text)
    # Those that are kept already go on meaning what they did.
    _check_written(text)
    types = _types(_parameters(text))
    possible = sorted(f"{descriptor_of(resource.message_class).name}…Event" for resource in APIS[api])
    for name in sorted(types):
        if not any(_about(resource, name) for resource in APIS[api]):
            raise _bad(f"{name} is no event of this API; its events are {', '.join(possible)}")


@lru_cache(4_096)
def wanted(resource: Resource, text: str) -> Wanted:
    """What the query means for one of the API's resources; raises InvalidArgument BAD_QUERY."""
    parameters = [(_inner(resource, name), value) for name, value in _parameters(text)]
    conditions = []
    for found in _filters(resource, [(name, value) for name, value in parameters if name != _EVENT_TYPE]):
        if found.operator == Filter.OPERATOR_REGEX:
            raise _bad(f"{found.path}: a subscription can't have regular expressions")
        path = DIALECT.attribute_path(descriptor_of(resource.message_class), found.path)
        conditions.append(Condition(tuple(path.split(".")), found.operator, tuple(found.value)))
    if len(conditions) > _MOST_CONDITIONS:
        raise _bad(f"has more than {_MOST_CONDITIONS} conditions")
    chosen = query.selection([("fields", _inner_fields(resource, v)) for n, v in parameters if n == "fields"])
    return Wanted(
        frozenset(_types(parameters)),
        tuple(conditions),
        None if chosen is None else tuple(tuple(path) for path in chosen),
    )


def _filters(resource: Resource, parameters: query.Parameters) -> Sequence[Filter]:
    descriptor = descriptor_of(resource.message_class)
    try:
        return query.conditions(parameters, DIALECT, descriptor, resource.path(DIALECT.version))
    except InvalidArgument as error:
        raise _bad(f"isn't understood: {error.message}") from None


def _parameters(text: str) -> list[tuple[str, str]]:
    if len(text) > _LONGEST_QUERY:
        raise _bad(f"is longer than {_LONGEST_QUERY} characters")
    try:
        found = parse_qsl(text.strip().lstrip("?"), keep_blank_values=True, max_num_fields=2 * _MOST_CONDITIONS)
    except ValueError:
        raise _bad("has too many parts") from None
    # Some write `eventType = X`.
    pairs = [(name.strip(), value.strip()) for name, value in found]
    for name, _ in pairs:
        if not name:
            raise _bad("has a value without a name")
        if name in ("limit", "offset", "sort", "at"):
            raise _bad(f"{name} means nothing for events")
    return pairs


def _check_written(text: str) -> None:
    for part in text.split("&"):
        if part.partition("=")[2].lstrip().startswith("="):
            raise _bad(f"isn't understood: in {part!r} = follows on =; a value that begins with it has it as %3D")
        try:
            unquote(part, errors="strict")
        except UnicodeDecodeError:
            raise _bad(f"isn't understood: {part!r} isn't UTF-8") from None


def _types(parameters: Iterable[tuple[str, str]]) -> set[str]:
    named = [part.strip() for name, value in parameters if name == _EVENT_TYPE for part in value.split(",")]
    # Paths of listeners begin with a small letter, types of events with a capital.
    return {part[:1].upper() + part[1:] for part in (item.strip('"') for item in named) if part}


def _about(resource: Resource, event_type: str) -> bool:
    return event_type.startswith(descriptor_of(resource.message_class).name) and event_type.endswith("Event")


def _inner(resource: Resource, path: str) -> str:
    """An attribute's path in the resource: `event.productOrder.state` and `productOrder.state` mean `state`."""
    rest = path.removeprefix("event.")
    return rest.removeprefix(f"{resource.name}.")


def _inner_fields(resource: Resource, value: str) -> str:
    paths = [_inner(resource, path.strip()) for path in value.split(",")]
    # The envelope always comes whole.
    kept = [path for path in paths if path not in _ENVELOPE and path not in ("", "event", resource.name)]
    whole = any(path in ("event", resource.name) for path in paths)
    return "" if whole else ",".join(kept)


def _bad(why: str) -> InvalidArgument:
    return InvalidArgument("BAD_QUERY", f"the query {why}", violations=[Violation("query", why)])


# --- conditions ------------------------------------------------------------------------------------------------------


def _group_holds(value: Any, conditions: Sequence[Condition]) -> bool:
    if isinstance(value, list):
        # What none of an array's own values may be, where it has any.
        none_of = [one for one in conditions if one.operator == Filter.OPERATOR_NE and len(one.path) == 1]
        others = [one for one in conditions if one not in none_of]
        return all(_holds(value, one, 1) for one in none_of) and (
            not others or any(all(_holds(item, one, 1) for one in others) for item in value)
        )
    return all(_holds(value, condition, 1) for condition in conditions)


def _holds(value: Any, condition: Condition, depth: int) -> bool:
    found = list(_reached(value, condition.path[depth:]))
    if condition.operator == Filter.OPERATOR_NE:
        return not any(_equal(item, stated) for item in found for stated in condition.values)
    compare = _ORDER.get(condition.operator)
    if compare is None:
        return any(_equal(item, stated) for item in found for stated in condition.values)
    return any(_compared(item, stated, compare) for item in found for stated in condition.values)


def _reached(value: Any, path: Sequence[str]) -> Iterable[Any]:
    """The values at a path, through arrays."""
    if isinstance(value, list):
        for item in value:
            yield from _reached(item, path)
    elif not path:
        if value is not None:
            yield value
    elif isinstance(value, dict):
        yield from _reached(value.get(path[0]), path[1:])


def _equal(value: Any, stated: str) -> bool:
    if isinstance(value, str):
        return value == stated or _same_instant(value, stated)
    return _compared(value, stated, lambda a, b: bool(a == b))


def _same_instant(value: str, stated: str) -> bool:
    instant, other = _instant(value), _instant(stated)
    return instant is not None and instant == other


def _compared(value: Any, stated: str, compare: Callable[[Any, Any], Any]) -> bool:
    if isinstance(value, bool):
        return stated in ("true", "false") and bool(compare(value, stated == "true"))
    if isinstance(value, int | Decimal):
        number = _number(stated)
        return number is not None and bool(compare(Decimal(value), number))
    if isinstance(value, str):
        instant, other = _instant(value), _instant(stated)
        if instant is not None and other is not None:
            return bool(compare(instant, other))
        return bool(compare(value, stated))
    return False


def _number(text: str) -> Decimal | None:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _instant(text: str) -> datetime | None:
    try:
        instant_in(text)
    except IllTypedError:
        return None
    value = datetime.fromisoformat(text.upper())
    return value if value.tzinfo else value.replace(tzinfo=UTC)
