"""The query part of a request: selection, paging, order and conditions, in the spelling of TMF630."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urlencode, urlsplit

from google.protobuf.descriptor import Descriptor

from chassis.errors import InvalidArgument, Violation
from chassis.tmfjson import Dialect
from svyaz.type.v1 import requests_pb2

Filter = requests_pb2.Filter
Parameters = Sequence[tuple[str, str]]

MAX_LIMIT = 1_000
RESERVED = frozenset({"fields", "offset", "limit", "sort", "at"})

_SUFFIXES = {
    ".gte": Filter.OPERATOR_GTE,
    ".gt": Filter.OPERATOR_GT,
    ".lte": Filter.OPERATOR_LTE,
    ".lt": Filter.OPERATOR_LT,
    ".ne": Filter.OPERATOR_NE,
    ".eq": Filter.OPERATOR_EQ,
    ".regex": Filter.OPERATOR_REGEX,
}
# `a>=1` reaches us as the name `a>` with the value `1`, `a>1` as the name `a>1` without one.
_TRAILING = {
    ">": Filter.OPERATOR_GTE,
    "<": Filter.OPERATOR_LTE,
    "!": Filter.OPERATOR_NE,
    "*": Filter.OPERATOR_REGEX,
}
_WITHIN = {">": Filter.OPERATOR_GT, "<": Filter.OPERATOR_LT}
_LARGEST_OFFSET = 2**31 - 1


@dataclass(frozen=True)
class Page:
    """What part of a list is wanted; `limit` None: as much as one answer holds."""

    offset: int
    limit: int | None

    @property
    def size(self) -> int:
        """How many items at most."""
        return MAX_LIMIT if self.limit is None else min(self.limit, MAX_LIMIT)


def bad_parameter(name: str, description: str) -> InvalidArgument:
    """The refusal of a query parameter, by name."""
    return InvalidArgument("BAD_PARAMETER", f"{name} {description}", violations=[Violation(name, description)])


def check_readable(text: bytes) -> None:
    """Raises InvalidArgument naming a parameter of the query that isn't UTF-8, before it is read as something else."""
    if b"%" not in text and text.isascii():
        return
    for part in text.split(b"&"):
        try:
            unquote_to_bytes(part).decode()
        except UnicodeDecodeError:
            name = part.partition(b"=")[0].replace(b"+", b" ")
            raise bad_parameter(unquote_to_bytes(name).decode(errors="replace"), "isn't UTF-8") from None


def page(parameters: Parameters) -> Page:
    """The part of the list that `offset` and `limit` name; raises InvalidArgument naming a bad one."""
    numbers: dict[str, int] = {}
    for name, value in parameters:
        if name in ("offset", "limit"):
            # isdecimal alone admits digits of other scripts; a huge number would take long to convert.
            if not value.isascii() or not value.isdecimal() or len(value) > 18:
                raise bad_parameter(name, "must be a whole number, 0 or more")
            if name in numbers:
                raise bad_parameter(name, "is stated more than once")
            numbers[name] = int(value)
    return Page(min(numbers.get("offset", 0), _LARGEST_OFFSET), numbers.get("limit"))


def selection(parameters: Parameters) -> list[list[str]] | None:
    """The attribute paths that `fields` names, with those that are always kept; None: everything."""
    named = [path for name, value in parameters if name == "fields" for path in value.split(",") if path.strip()]
    if not named:
        return None
    return [path.strip().split(".") for path in named] + [["id"], ["href"], ["@type"]]


def order(parameters: Parameters, dialect: Dialect, descriptor: Descriptor) -> list[str]:
    """The field paths that `sort` names, `-` in front of descending ones."""
    found = []
    for name, value in parameters:
        if name == "sort":
            for item in filter(None, (part.strip() for part in value.split(","))):
                descending = item.startswith("-")
                path = dialect.field_path(descriptor, item.lstrip("+-"))
                found.append(f"-{path}" if descending else path)
    return found


def conditions(parameters: Parameters, dialect: Dialect, descriptor: Descriptor, base: str) -> list[Filter]:
    """The filters that the parameters state; `base` is the path that the resource's hrefs begin with.

    Comma or repetition means or, different attributes mean and. A name outside the contract goes through as it is: it
    may be an extension.
    """
    found: dict[tuple[str, int], Filter] = {}
    for name, value in parameters:
        if name in RESERVED:
            continue
        known = dialect.names_field(descriptor, name)
        attribute, operator, stated = (name, Filter.OPERATOR_EQ, value) if known else _comparison(name, value)
        values = [stated] if operator == Filter.OPERATOR_REGEX else _alternatives(stated)
        values = [_unquoted(text) for text in values]
        if attribute == "href":
            if operator not in (Filter.OPERATOR_EQ, Filter.OPERATOR_NE):
                raise bad_parameter("href", "can only be equal or unequal to a value")
            attribute, values = "id", [_id_of(text, base) for text in values]
        path = dialect.field_path(descriptor, attribute)
        if not path:
            raise bad_parameter(name, "is no attribute")
        if operator != Filter.OPERATOR_REGEX:
            values = [dialect.spelled(descriptor, attribute, text) for text in values]
        condition = found.setdefault((path, operator), Filter(path=path, operator=operator))
        condition.value.extend(values)
    return list(found.values())


def _comparison(name: str, value: str) -> "tuple[str, Filter.Operator.ValueType, str]":
    for suffix, operator in _SUFFIXES.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), operator, value
    if name[-1:] in _TRAILING:
        return name[:-1], _TRAILING[name[-1]], value
    for sign, operator in _WITHIN.items():
        attribute, found, rest = name.partition(sign)
        if found:
            return attribute, operator, f"{rest}={value}" if value else rest
    return name, Filter.OPERATOR_EQ, value


def _alternatives(value: str) -> list[str]:
    """Split at commas outside of double quotes."""
    parts, start, quoted = [], 0, False
    for i, character in enumerate(value):
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            parts.append(value[start:i])
            start = i + 1
    return [*parts, value[start:]]


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] == '"' else value


def _id_of(href: str, base: str) -> str:
    """The id in one of our hrefs, with or without a host; any other text is no id of ours and matches nothing."""
    path = urlsplit(href).path
    return path.removeprefix(base + "/") if path.startswith(base + "/") else href


def links(path: str, parameters: Parameters, wanted: Page, total: int, following: int | None) -> str:
    """The value of the header Link: first, prev, next and last page, as far as there are such; `following` is the
    offset of what comes after this page."""
    size = wanted.size
    # The pages are those that one comes to from here.
    skew = wanted.offset % size if size else 0
    last = skew + (total - 1 - skew) // size * size if size and total > skew else 0
    offsets = {"first": 0}
    if wanted.offset:
        offsets["prev"] = max(0, min(wanted.offset - size, last))
    if following is not None and size:
        offsets["next"] = following
    if size:
        offsets["last"] = last
    rest = [(name, value) for name, value in parameters if name not in ("offset", "limit")]
    return ", ".join(
        f'<{path}?{urlencode([*rest, ("offset", str(offset)), ("limit", str(size))])}>; rel="{relation}"'
        for relation, offset in offsets.items()
    )
