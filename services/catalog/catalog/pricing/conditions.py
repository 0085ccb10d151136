"""What must be so of customer, place or item for a price to count."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from catalog.product.values import ConditionOperator, PriceCondition
from chassis.types import decimal_of

# What conditions compare: texts, truth values, and numbers as decimals.
Value = str | bool | Decimal
# Subject → what is known of it; a subject that isn't there hasn't been stated, an empty one is known to be nothing.
Facts = Mapping[str, Sequence[Value]]

CHARACTERISTIC = "characteristic."
# The subjects, and where a request states them.
SUBJECTS = {
    "marketSegment": "context.market_segment",
    "branch": "context.branch",
    "channel": "context.channel",
    "place": "context.place",
    "agreement": "context.agreement_id",
    "customer": "context.customer_id",
    "term": "term",
    "quantity": "quantity",
}

_O = ConditionOperator
_SETS = (_O.IN, _O.NOT_IN)
_PRESENCE = (_O.PRESENT, _O.ABSENT)
_ORDER: Mapping[str, Callable[[Decimal, Decimal], bool]] = {
    _O.GT: Decimal.__gt__,
    _O.GTE: Decimal.__ge__,
    _O.LT: Decimal.__lt__,
    _O.LTE: Decimal.__le__,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison; `values` are several for `in` and `notIn`, none for `present` and `absent`, else one."""

    subject: str
    operator: str
    values: tuple[Value, ...]

    def holds(self, facts: Facts) -> bool | None:
        """Whether it holds; None: that can't be told, since the request doesn't state the subject.

        A subject with several values (segments, places) fits when one of them does; `ne` and `notIn` hold when none
        is equal. Only numbers are greater or less; one may be written as a text.
        """
        known = facts.get(self.subject)
        if self.operator in _PRESENCE:
            return bool(known) == (self.operator == _O.PRESENT)
        if known is None:
            return None
        if self.operator in (_O.EQ, _O.IN):
            return any(_equal(a, b) for a in known for b in self.values)
        if self.operator in (_O.NE, _O.NOT_IN):
            return not any(_equal(a, b) for a in known for b in self.values)
        compare, limit = _ORDER[self.operator], _number(self.values[0])
        numbers = [number for value in known if (number := _number(value)) is not None]
        return limit is not None and any(compare(number, limit) for number in numbers)

    def __str__(self) -> str:
        stated = ", ".join("true" if v is True else "false" if v is False else str(v) for v in self.values)
        return " ".join(filter(None, (self.subject, self.operator, stated)))


def _equal(one: Value, other: Value) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other or str(one).lower() == str(other).lower()
    if isinstance(one, Decimal) or isinstance(other, Decimal):
        return _number(one) == _number(other) is not None
    return one == other


def _number(value: Value) -> Decimal | None:
    if isinstance(value, bool):
        return None
    try:
        return value if isinstance(value, Decimal) else decimal_of(value)
    except ValueError:
        return None


def values_of(text: str | None) -> tuple[Value, ...]:
    """What a JSON text holds: each part of a list, or the one value. Raises ValueError for an object, or no JSON."""
    parsed = json.loads(text, parse_int=decimal_of, parse_float=decimal_of) if text is not None else None
    found = parsed if isinstance(parsed, list) else [] if parsed is None else [parsed]
    if not all(isinstance(value, str | bool | Decimal) for value in found):
        raise ValueError(f"{text} is neither a text, a number nor a truth value")
    return tuple(found)


def known_of(text: str) -> tuple[Value, ...]:
    """What conditions know of a characteristic's value: its parts. What can't be compared is known by its JSON text."""
    parsed = json.loads(text, parse_int=_comparable, parse_float=_comparable)
    found = parsed if isinstance(parsed, list) else [] if parsed is None else [parsed]
    return tuple(
        v if isinstance(v, str | bool | Decimal) else json.dumps(v, default=str, sort_keys=True) for v in found
    )


def _comparable(digits: str) -> Value:
    try:
        return decimal_of(digits)
    except ValueError:
        return digits


def plain(condition: PriceCondition) -> list[Any]:
    """The condition as canonical JSON can say it. Raises ValueError with what is wrong with it."""
    subject, operator = condition.subject or "", condition.operator
    if subject not in SUBJECTS and not (subject.startswith(CHARACTERISTIC) and subject != CHARACTERISTIC):
        raise ValueError(f"there is no subject {subject!r}")
    if operator is None or operator is _O.SET:
        raise ValueError(f"a condition on {subject} compares")
    values = values_of(condition.value.text if condition.value is not None else None)
    if operator in _PRESENCE:
        values = ()
    elif not values or (operator not in _SETS and len(values) != 1):
        raise ValueError(f"{subject} is compared with one value, or with several by in and notIn")
    elif operator in _ORDER and _number(values[0]) is None:
        raise ValueError(f"{subject} is compared with a number")
    return [
        subject,
        operator.value,
        # Numbers as texts in a list of their own: canonical JSON would write them as floats are.
        [[format(value, "f")] if isinstance(value, Decimal) else value for value in values],
    ]


def parse(data: Sequence[Any]) -> Condition:
    """The condition that `plain` wrote."""
    subject, operator, values = data
    return Condition(subject, operator, tuple(decimal_of(v[0]) if isinstance(v, list) else v for v in values))


def unmet(conditions: Iterable[Condition], facts: Facts) -> tuple[Condition, bool] | None:
    """The first that doesn't hold, and whether that is only because its subject isn't stated."""
    unstated = None
    for condition in conditions:
        held = condition.holds(facts)
        if held is None:
            unstated = unstated or condition
        elif not held:
            return condition, False
    return (unstated, True) if unstated is not None else None
