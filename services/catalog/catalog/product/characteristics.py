"""What a characteristic may be: its type, its values and ranges, and conditions on what was chosen of several.

How it counts:

* A value is permitted when one of the characteristic's value specifications permits it: an enumerated `value` by being
  equal, a range by holding it, a `regex` by matching all of it. None valid at the time: every value of the type is,
  as for an extensible characteristic.
* Numbers are compared exactly, `100`, `100.0` and the text `"100"` are the same (TM Forum's own examples write both).
* A range is closed unless `rangeInterval` says otherwise: `open`, `closedBottom` (without its end), `closedTop`.
* A cardinality that isn't stated is 0 to 1; with a maximum of 0 there is none.
* A value type that isn't one of the known ones takes any value.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from catalog.product.values import (
    CharacteristicCondition,
    CharacteristicValueSpecification,
    ConditionOperator,
    ProductSpecificationCharacteristic,
    ProductSpecificationCharacteristicValueUse,
)
from chassis.types import Json

# What was chosen of each characteristic, as values that `Kind.read` gives; one that is absent isn't there.
Values = Mapping[str, tuple[Any, ...]]
UNLIMITED = 0
# No pattern is tried on more than this: it is a catalog manager's, the text anybody's.
_LONGEST_TEXT = 1_000
_MOST_DIGITS = 60


class Kind(StrEnum):
    """The type of a characteristic's values."""

    STRING = "string"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    DATE = "date"
    DATE_TIME = "dateTime"
    ANY = "any"

    @property
    def ordered(self) -> bool:
        """Whether a value can be more than another."""
        return self in _ORDERED

    def read(self, text: str) -> Any:
        """The value of a JSON text, so that equal ones are equal. Raises ValueError saying what it isn't."""
        return _READERS[self](parse(text))

    def write(self, value: Any) -> str:
        """The JSON text of a value; of equal values the same."""
        return _text(value)


def parse(text: str) -> Any:
    """The value of a JSON text, its numbers exact. Raises ValueError for one that takes hundreds of digits to write."""
    return json.loads(text, parse_float=_exact, parse_int=_exact)


def _exact(digits: str) -> Decimal:
    number = Decimal(digits)
    if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS or len(digits) > _MOST_DIGITS:
        raise ValueError(f"{digits[:20]} … isn't a number that is used")
    return number


_ORDERED = frozenset({Kind.NUMBER, Kind.INTEGER, Kind.DATE, Kind.DATE_TIME})
_KINDS = {
    "string": Kind.STRING,
    "text": Kind.STRING,
    "enum": Kind.STRING,
    "number": Kind.NUMBER,
    "numeric": Kind.NUMBER,
    "decimal": Kind.NUMBER,
    "float": Kind.NUMBER,
    "double": Kind.NUMBER,
    "integer": Kind.INTEGER,
    "int": Kind.INTEGER,
    "long": Kind.INTEGER,
    "boolean": Kind.BOOLEAN,
    "bool": Kind.BOOLEAN,
    "date": Kind.DATE,
    "datetime": Kind.DATE_TIME,
}


def kind_of(value_type: str | None) -> Kind:
    """The type by its name in any spelling; `any` for one that isn't known."""
    return _KINDS.get(re.sub("[^a-z]", "", (value_type or "").lower()), Kind.ANY)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_text(value)} isn't a text")
    return value


def _number(value: Any) -> Decimal:
    if isinstance(value, str):
        try:
            value = _exact(value)
        except InvalidOperation as error:
            raise ValueError(f"{value[:20]!r} isn't a number") from error
    if not isinstance(value, Decimal):
        raise ValueError(f"{_text(value)} isn't a number")
    # One number, one value: 100, 100.0 and 1E2.
    return value.normalize() + 0


def _integer(value: Any) -> Decimal:
    number = _number(value)
    if number != number.to_integral_value():
        raise ValueError(f"{number:f} isn't a whole number")
    return number


def _boolean(value: Any) -> bool:
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise ValueError(f"{_text(value)} is neither true nor false")
    return value


def _date(value: Any) -> date:
    try:
        return date.fromisoformat(_string(value))
    except ValueError as error:
        raise ValueError(f"{_text(value)} isn't a date such as 2026-12-31") from error


def _date_time(value: Any) -> datetime:
    try:
        at = datetime.fromisoformat(_string(value))
    except ValueError as error:
        raise ValueError(f"{_text(value)} isn't an instant such as 2026-12-31T12:00:00Z") from error
    if at.tzinfo is None:
        raise ValueError(f"{_text(value)} doesn't say in which zone")
    return at.astimezone(UTC)


def _any(value: Any) -> str:
    # As its canonical text, which can be compared and put into sets.
    return _text(value)


_READERS: Mapping[Kind, Callable[[Any], Any]] = {
    Kind.STRING: _string,
    Kind.NUMBER: _number,
    Kind.INTEGER: _integer,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _date,
    Kind.DATE_TIME: _date_time,
    Kind.ANY: _any,
}


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value.normalize() + 0:f}"
    if isinstance(value, datetime):
        return json.dumps(value.isoformat().replace("+00:00", "Z"))
    if isinstance(value, date):
        return json.dumps(value.isoformat())
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{_text(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


# --- what a characteristic permits -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Range:
    """From a value to another; None: without end."""

    low: Any = None
    high: Any = None
    low_included: bool = True
    high_included: bool = True

    def holds(self, value: Any) -> bool:
        """Whether the value lies in it."""
        if self.low is not None and (value < self.low or (value == self.low and not self.low_included)):
            return False
        return self.high is None or value < self.high or (value == self.high and self.high_included)

    @property
    def empty(self) -> bool:
        """Whether no value can lie in it."""
        if self.low is None or self.high is None:
            return False
        return bool(self.low > self.high or (self.low == self.high and not (self.low_included and self.high_included)))

    def __str__(self) -> str:
        low = "" if self.low is None else _text(self.low)
        high = "" if self.high is None else _text(self.high)
        return f"{'[' if self.low_included else '('}{low}, {high}{']' if self.high_included else ')'}"


INTERVALS: Mapping[str, tuple[bool, bool]] = {
    "closed": (True, True),
    "open": (False, False),
    "closedbottom": (True, False),
    "closedtop": (False, True),
}


def range_of(spec: CharacteristicValueSpecification) -> Range | None:
    """The range that a value specification states; None: it states none."""
    if spec.value_from is None and spec.value_to is None:
        return None
    low, high = INTERVALS.get((spec.range_interval or "closed").lower(), (True, True))
    return Range(_bound(spec.value_from), _bound(spec.value_to), low, high)


def _bound(value: int | None) -> Decimal | None:
    return None if value is None else _number(Decimal(value))


@dataclass(frozen=True, slots=True)
class Permission:
    """One of the ways to be permitted: all of what it states must hold."""

    value: Any = None
    range: Range | None = None
    pattern: str | None = None

    def permits(self, value: Any) -> bool:
        """Whether the value is permitted by it."""
        if self.value is not None and value != self.value:
            return False
        if self.range is not None and not (isinstance(value, Decimal) and self.range.holds(value)):
            return False
        return self.pattern is None or matches(self.pattern, value)

    def __str__(self) -> str:
        stated = [_text(self.value)] if self.value is not None else []
        stated += [str(self.range)] if self.range is not None else []
        stated += [f"/{self.pattern}/"] if self.pattern is not None else []
        return " and ".join(stated)


def matches(pattern: str, value: Any) -> bool:
    """Whether the regular expression matches the whole text of the value."""
    text = value if isinstance(value, str) else _text(value)
    return len(text) <= _LONGEST_TEXT and re.fullmatch(pattern, text) is not None


@dataclass(frozen=True, slots=True)
class Choice:
    """What may be chosen of one characteristic, and what it is when nothing is."""

    name: str
    kind: Kind
    permissions: tuple[Permission, ...] = ()
    defaults: tuple[Any, ...] = ()
    pattern: str | None = None
    unit: str | None = None
    least: int = 0
    most: int = 1
    configurable: bool = True
    unique: bool = False

    def why_not(self, value: Any) -> str | None:
        """Why it can't be the value; None: it can."""
        if self.pattern is not None and not matches(self.pattern, value):
            return f"{_text(value)} doesn't look like /{self.pattern}/"
        if self.permissions and not any(permission.permits(value) for permission in self.permissions):
            return f"{_text(value)} isn't one of {', '.join(map(str, self.permissions))}"
        return None

    @property
    def enumerated(self) -> tuple[Any, ...] | None:
        """All values that it can have, when they are listed; None: they aren't."""
        listed = [permission.value for permission in self.permissions]
        if not listed or any(value is None for value in listed):
            return tuple(value for value in (True, False)) if self.kind is Kind.BOOLEAN and not listed else None
        return tuple(value for value in dict.fromkeys(listed) if self.why_not(value) is None)

    @property
    def settled(self) -> tuple[Any, ...]:
        """What it is when nobody chooses: its default, or the one value that it must have."""
        if self.defaults:
            return self.defaults
        only = self.enumerated
        return only if only is not None and len(only) == 1 and self.least == 1 else ()


def choice_of(characteristic: ProductSpecificationCharacteristic, at: datetime) -> Choice:
    """What may be chosen of a characteristic at the instant. What can't be read in it permits nothing of its own."""
    kind = kind_of(characteristic.value_type)
    specs = _valid(characteristic.product_spec_characteristic_value, at)
    units = {spec.unit_of_measure for spec in specs if spec.unit_of_measure}
    return Choice(
        name=characteristic.name or "",
        kind=kind,
        permissions=() if characteristic.extensible else _permissions(kind, specs),
        defaults=_defaults(kind, specs),
        pattern=characteristic.regex or None,
        unit=min(units) if len(units) == 1 else None,
        least=characteristic.min_cardinality or 0,
        most=1 if characteristic.max_cardinality is None else characteristic.max_cardinality,
        configurable=characteristic.configurable is not False,
        unique=bool(characteristic.is_unique),
    )


def narrowed(choice: Choice, use: ProductSpecificationCharacteristicValueUse, at: datetime) -> Choice:
    """The choice that an offering leaves of a characteristic: its own values among the permitted ones."""
    specs = _valid(use.product_spec_characteristic_value, at)
    permissions = choice.permissions
    own = _permissions(choice.kind, specs)
    if own:
        # A value must be permitted by both; the specification's ways are kept beside each of the offering's.
        permissions = tuple(_both(one, other) for one in own for other in (choice.permissions or (Permission(),)))
        permissions = tuple(p for p in dict.fromkeys(permissions) if not _impossible(p))
    left = Choice(
        name=choice.name,
        kind=choice.kind,
        permissions=permissions if permissions or not own else (_NOTHING,),
        pattern=choice.pattern,
        unit=choice.unit,
        least=choice.least if use.min_cardinality is None else max(choice.least, use.min_cardinality),
        most=min((most for most in (choice.most, use.max_cardinality) if most), default=UNLIMITED),
        configurable=choice.configurable,
        unique=choice.unique,
    )
    wanted = _defaults(choice.kind, specs) or choice.defaults
    return _with_defaults(left, tuple(value for value in wanted if left.why_not(value) is None))


def _with_defaults(choice: Choice, defaults: tuple[Any, ...]) -> Choice:
    fields = {name: getattr(choice, name) for name in Choice.__dataclass_fields__}
    return Choice(**{**fields, "defaults": defaults})


# Holds for no value.
_NOTHING = Permission(range=Range(Decimal(1), Decimal(0)), pattern="(?!)")


def _both(one: Permission, other: Permission) -> Permission:
    value = one.value if one.value is not None else other.value
    if one.value is not None and other.value is not None and one.value != other.value:
        return _NOTHING
    patterns = [pattern for pattern in (one.pattern, other.pattern) if pattern is not None]
    pattern = "".join(f"(?=(?:{p})$)" for p in patterns[:-1]) + patterns[-1] if patterns else None
    return Permission(value, _overlap(one.range, other.range), pattern)


def _overlap(one: Range | None, other: Range | None) -> Range | None:
    if one is None or other is None:
        return one or other
    low, low_included = max(
        ((r.low, r.low_included) for r in (one, other) if r.low is not None),
        key=lambda end: (end[0], not end[1]),
        default=(None, True),
    )
    high, high_included = min(
        ((r.high, r.high_included) for r in (one, other) if r.high is not None),
        key=lambda end: (end[0], end[1]),
        default=(None, True),
    )
    return Range(low, high, low_included, high_included)


def _impossible(permission: Permission) -> bool:
    if permission is _NOTHING or (permission.range is not None and permission.range.empty):
        return True
    return permission.value is not None and not permission.permits(permission.value)


def _valid(specs: Iterable[CharacteristicValueSpecification], at: datetime) -> list[CharacteristicValueSpecification]:
    return [spec for spec in specs if spec.valid_for is None or spec.valid_for.covers(at)]


def _permissions(kind: Kind, specs: Sequence[CharacteristicValueSpecification]) -> tuple[Permission, ...]:
    made = []
    for spec in specs:
        permission = Permission(_read(kind, spec.value), range_of(spec), spec.regex or None)
        if permission != Permission():
            made.append(permission)
    return tuple(made)


def _defaults(kind: Kind, specs: Sequence[CharacteristicValueSpecification]) -> tuple[Any, ...]:
    stated = (_read(kind, spec.value) for spec in specs if spec.is_default)
    return tuple(value for value in dict.fromkeys(stated) if value is not None)


def _read(kind: Kind, value: Json | None) -> Any:
    if value is None:
        return None
    try:
        return kind.read(value.text)
    except ValueError:
        return None


# --- conditions ------------------------------------------------------------------------------------------------------

_O = ConditionOperator
# What compares with more or less.
ORDERING = frozenset({_O.GT, _O.GTE, _O.LT, _O.LTE})
LISTING = frozenset({_O.IN, _O.NOT_IN})
EXISTENCE = frozenset({_O.PRESENT, _O.ABSENT})
_COMPARISONS: Mapping[ConditionOperator, Callable[[Any, Any], bool]] = {
    _O.GT: lambda value, bound: bool(value > bound),
    _O.GTE: lambda value, bound: bool(value >= bound),
    _O.LT: lambda value, bound: bool(value < bound),
    _O.LTE: lambda value, bound: bool(value <= bound),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as it is compared: `operands` in the type of its characteristic."""

    characteristic: str
    operator: ConditionOperator
    operands: tuple[Any, ...] = ()

    def holds(self, values: Values) -> bool:
        """Whether it does for these values.

        Of several values of one characteristic: `eq` and `in` ask for one that fits, `ne` and `notIn` for none that
        does, the orderings for all. What is absent is equal to nothing and neither more nor less than anything.
        """
        chosen = values.get(self.characteristic, ())
        match self.operator:
            case _O.PRESENT:
                return bool(chosen)
            case _O.ABSENT:
                return not chosen
            case _O.EQ | _O.IN:
                return any(value in self.operands for value in chosen)
            case _O.NE | _O.NOT_IN:
                return not any(value in self.operands for value in chosen)
            case _O.SET:
                # It gives the value to who hasn't chosen; who has may choose otherwise.
                return True
            case _:
                compare = _COMPARISONS[self.operator]
                return bool(chosen) and all(compare(value, self.operands[0]) for value in chosen)

    def __str__(self) -> str:
        operands = " ".join(map(_text, self.operands))
        return f"{self.characteristic} {self.operator} {operands}".rstrip()


@dataclass(frozen=True, slots=True)
class Rule:
    """When all of `when` hold, all of `then` must."""

    name: str
    when: tuple[Condition, ...]
    then: tuple[Condition, ...]
    message: str = ""

    def fires(self, values: Values) -> bool:
        """Whether its premises hold."""
        return all(condition.holds(values) for condition in self.when)

    def broken(self, values: Values) -> list[Condition]:
        """What of it ought to hold and doesn't."""
        return [condition for condition in self.then if not condition.holds(values)] if self.fires(values) else []


def condition_of(condition: CharacteristicCondition, kinds: Mapping[str, Kind]) -> Condition:
    """The condition as it is compared. Raises ValueError saying what is wrong with it."""
    name, operator = condition.characteristic or "", condition.operator
    if name not in kinds:
        raise ValueError(f"there is no characteristic {name!r}")
    if operator is None:
        raise ValueError("a condition says how it compares")
    kind = kinds[name]
    if operator in EXISTENCE:
        return Condition(name, operator)
    if condition.value is None:
        raise ValueError(f"{operator} compares with a value")
    if operator in ORDERING and not kind.ordered:
        raise ValueError(f"{name} is of type {kind}, which has no more and less")
    if operator not in LISTING:
        return Condition(name, operator, (kind.read(condition.value.text),))
    listed = parse(condition.value.text)
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{operator} compares with a list of values")
    return Condition(name, operator, tuple(dict.fromkeys(kind.read(_text(value)) for value in listed)))
