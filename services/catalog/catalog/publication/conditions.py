"""Conditions of prices, taken together: whether there can be anybody for whom all of them hold."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from catalog.pricing.conditions import CHARACTERISTIC, SUBJECTS
from catalog.product.values import ConditionOperator, PriceCondition
from chassis.types import decimal_of

# A customer is in several segments, and in a place inside a place: these have many values at once.
MANY = frozenset({"marketSegment", "place"})

_O = ConditionOperator
_BOUNDS = frozenset({_O.GT, _O.GTE, _O.LT, _O.LTE})


def impossible(
    conditions: Sequence[PriceCondition], possible: dict[str, Collection[str]] | None = None
) -> Iterator[tuple[int, str]]:
    """The places of conditions that can't hold, alone or beside the others, and why.

    `possible`: subject → the only values that it has where the price is sold.
    """
    sound: dict[str, list[tuple[int, PriceCondition]]] = {}
    for i, condition in enumerate(conditions):
        why = _impossible_alone(condition, (possible or {}).get(condition.subject or ""))
        if why:
            yield i, why
        else:
            sound.setdefault(condition.subject or "", []).append((i, condition))
    for subject, group in sound.items():
        why = _contradiction(subject, [condition for _, condition in group])
        if why:
            yield group[-1][0], f"together with the other conditions on {subject} it never holds: {why}"


def _impossible_alone(condition: PriceCondition, possible: Collection[str] | None) -> str | None:
    subject, operator = condition.subject or "", condition.operator
    if subject not in SUBJECTS and not (subject.startswith(CHARACTERISTIC) and len(subject) > len(CHARACTERISTIC)):
        return f"nothing is called {subject!r}; there are {', '.join(sorted(SUBJECTS))} and characteristic.<name>"
    if operator is None or operator is _O.SET:
        return "it doesn't say how to compare" if operator is None else "a price can't set anything"
    if operator in (_O.PRESENT, _O.ABSENT):
        return None
    values = _values(condition)
    if not values:
        return "it compares with nothing"
    if operator in _BOUNDS and any(_number(value) is None for value in values):
        return f"{operator} compares with a number"
    if subject == "quantity" and operator in (_O.EQ, _O.IN) and not any((_number(v) or 0) >= 1 for v in values):
        return "a quantity is 1 or more"
    if subject == "quantity" and _below_one(operator, values):
        return "a quantity is 1 or more"
    if possible and operator in (_O.EQ, _O.IN) and not {str(v) for v in values} & set(possible):
        return f"where it is sold, {subject} is only {', '.join(sorted(possible))}"
    return None


def _below_one(operator: ConditionOperator, values: Iterable[Any]) -> bool:
    bound = min((number for value in values if (number := _number(value)) is not None), default=Decimal(1))
    return (operator is _O.LT and bound <= 1) or (operator is _O.LTE and bound < 1)


def _contradiction(subject: str, conditions: Sequence[PriceCondition]) -> str | None:
    operators = {condition.operator for condition in conditions}
    # Whatever compares needs a value, those that exclude included only where there must be one anyway.
    positive = [c for c in conditions if c.operator in (_O.EQ, _O.IN, *_BOUNDS)]
    if _O.ABSENT in operators and (_O.PRESENT in operators or positive):
        return "it must be there and not be there"
    excluded = {_key(v) for c in conditions if c.operator in (_O.NE, _O.NOT_IN) for v in _values(c)}
    wanted = [{_key(v) for v in _values(c)} for c in conditions if c.operator in (_O.EQ, _O.IN)]
    for choice in wanted:
        if choice <= excluded:
            return f"it must be {_or(choice)} and must not"
    if not wanted and subject not in MANY:
        return _empty_range(conditions)
    if not wanted or subject in MANY:
        return None
    left = set.intersection(*wanted) - excluded
    if not left:
        return f"it would have to be {' and '.join(_or(choice) for choice in wanted)}"
    if not any(_within(value, conditions) for value in left):
        return f"{_or(left)} lies outside the bounds"
    return None


def _empty_range(conditions: Sequence[PriceCondition]) -> str | None:
    low = _bounds(conditions, _O.GT, _O.GTE)
    high = _bounds(conditions, _O.LT, _O.LTE)
    if not low or not high:
        return None
    # The narrower of two equal bounds is the one that excludes its number.
    floor, ceiling = max(low), min(high)
    open_ended = floor[1] or not ceiling[1]
    if floor[0] > ceiling[0] or (floor[0] == ceiling[0] and open_ended):
        return f"it would have to be above {floor[0]} and below {ceiling[0]}"
    return None


def _bounds(
    conditions: Iterable[PriceCondition], strict: ConditionOperator, loose: ConditionOperator
) -> list[tuple[Decimal, bool]]:
    """(number, flag) of each bound; the flag sorts a strict one as the narrower among equals: lower bounds True, upper
    bounds False."""
    return [
        (number, (condition.operator is strict) == (strict is _O.GT))
        for condition in conditions
        if condition.operator in (strict, loose)
        for value in _values(condition)
        if (number := _number(value)) is not None
    ]


def _within(key: str, conditions: Iterable[PriceCondition]) -> bool:
    number = _number(json.loads(key, parse_float=decimal_of, parse_int=decimal_of))
    for condition in conditions:
        if condition.operator not in _BOUNDS:
            continue
        for value in _values(condition):
            bound = _number(value)
            if number is None or bound is None or not _holds(number, condition.operator, bound):
                return False
    return True


def _holds(number: Decimal, operator: ConditionOperator, bound: Decimal) -> bool:
    if operator is _O.GT:
        return number > bound
    if operator is _O.GTE:
        return number >= bound
    return number < bound if operator is _O.LT else number <= bound


def _values(condition: PriceCondition) -> list[Any]:
    if condition.value is None:
        return []
    value = json.loads(condition.value.text, parse_float=decimal_of, parse_int=decimal_of)
    return value if isinstance(value, list) else [value]


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    # As pricing takes them: a number may be written as a text.
    try:
        return value if isinstance(value, Decimal) else decimal_of(str(value))
    except ValueError:
        return None


def _key(value: Any) -> str:
    number = _number(value)
    return format(number.normalize(), "f") if number is not None else json.dumps(value, ensure_ascii=False)


def _or(keys: Iterable[str]) -> str:
    return " or ".join(sorted(keys))
