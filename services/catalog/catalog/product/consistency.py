"""What can't be in a specification: characteristics that nothing can satisfy, rules that nothing can keep.

Rules are tried against every choice where that is decidable: each characteristic that they name stands for so many
cases (its listed values; of numbers and dates the rules' and ranges' own bounds and what lies between them; of texts
those that are named, and any other). Beyond `MOST_CHOICES` combinations nothing is concluded.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from catalog.product.characteristics import (
    INTERVALS,
    Choice,
    Condition,
    Kind,
    Rule,
    choice_of,
    condition_of,
    kind_of,
    range_of,
)
from catalog.product.values import (
    CharacteristicCondition,
    CharacteristicValueSpecification,
    ConditionOperator,
    ConfigurationRule,
    ProductSpecificationCharacteristic,
    ProductSpecificationCharacteristicValueUse,
)
from chassis.errors import Violation

MOST_CHOICES = 20_000
# A text that nobody has named.
_OTHER = "\u2026"
_ALWAYS = datetime(1, 1, 1, tzinfo=UTC)


def faults(
    characteristics: Sequence[ProductSpecificationCharacteristic], rules: Sequence[ConfigurationRule]
) -> Iterator[Violation]:
    """What is wrong with a specification's characteristics and rules, each with the path of its field."""
    named: dict[str, int] = {}
    for i, characteristic in enumerate(characteristics):
        path = f"product_spec_characteristic[{i}]"
        if not characteristic.name:
            yield Violation(f"{path}.name", "a characteristic has a name")
        elif characteristic.name in named:
            yield Violation(f"{path}.name", f"another characteristic is called {characteristic.name!r}")
        named.setdefault(characteristic.name or "", i)
        yield from _of_characteristic(path, characteristic)
    compiled: list[Rule] = []
    wrong = False
    kinds = {c.name or "": kind_of(c.value_type) for c in characteristics}
    for i, rule in enumerate(rules):
        found = list(_of_rule(f"configuration_rule[{i}]", rule, kinds, characteristics))
        wrong = wrong or bool(found)
        yield from found
        if rule.name and rule.name in (other.name for other in rules[:i]):
            yield Violation(f"configuration_rule[{i}].name", f"another rule is called {rule.name!r}")
        if not found:
            compiled.append(rule_of(rule, i, kinds))
    if not wrong:
        contradicting = _contradicting(compiled, [_timeless(c) for c in characteristics])
        if contradicting:
            names = ", ".join(rule.name for rule in contradicting)
            yield Violation("configuration_rule", f"no choice satisfies {names}")


def narrowing_faults(
    uses: Sequence[ProductSpecificationCharacteristicValueUse],
    characteristics: Sequence[ProductSpecificationCharacteristic],
) -> Iterator[Violation]:
    """What an offering would take of a specification that isn't in it. One without characteristics says nothing."""
    known = {characteristic.name: characteristic for characteristic in characteristics}
    for i, use in enumerate(uses if known else ()):
        path = f"prod_spec_char_value_use[{i}]"
        if use.name not in known:
            yield Violation(f"{path}.name", f"the specification has no characteristic {use.name!r}")
            continue
        choice = _timeless(known[use.name])
        for k, spec in enumerate(use.product_spec_characteristic_value):
            try:
                value = None if spec.value is None else choice.kind.read(spec.value.text)
                why = None if value is None else choice.why_not(value)
            except ValueError as error:
                why = str(error)
            if why is not None:
                yield Violation(f"{path}.product_spec_characteristic_value[{k}].value", why)


def rule_of(rule: ConfigurationRule, index: int, kinds: Mapping[str, Kind]) -> Rule:
    """The rule as it is applied; one without a name goes by its place. Raises ValueError."""
    return Rule(
        rule.name or f"rule {index + 1}",
        tuple(condition_of(condition, kinds) for condition in rule.when),
        tuple(condition_of(condition, kinds) for condition in rule.then),
        rule.description or "",
    )


def _of_characteristic(path: str, characteristic: ProductSpecificationCharacteristic) -> Iterator[Violation]:
    least, most = characteristic.min_cardinality, characteristic.max_cardinality
    if (least is not None and least < 0) or (most is not None and most < 0):
        yield Violation(f"{path}.min_cardinality", "a number of values isn't negative")
    elif least is not None and least > (1 if most is None else most) and most != 0:
        yield Violation(f"{path}.min_cardinality", f"at least {least} and at most {1 if most is None else most}")
    if (fault := _bad_pattern(characteristic.regex)) is not None:
        yield Violation(f"{path}.regex", fault)
    kind = kind_of(characteristic.value_type)
    specs = characteristic.product_spec_characteristic_value
    sound = True
    for k, spec in enumerate(specs):
        found = list(_of_value(f"{path}.product_spec_characteristic_value[{k}]", kind, spec))
        sound = sound and not found
        yield from found
    if not sound or kind is Kind.ANY:
        return
    yield from _of_defaults(path, characteristic, kind)
    units = {spec.unit_of_measure for spec in specs if spec.unit_of_measure}
    if len(units) > 1:
        yield Violation(
            f"{path}.product_spec_characteristic_value",
            f"its values are in different units: {', '.join(sorted(units))}",
        )


def _of_value(path: str, kind: Kind, spec: CharacteristicValueSpecification) -> Iterator[Violation]:
    if (fault := _bad_pattern(spec.regex)) is not None:
        yield Violation(f"{path}.regex", fault)
    if kind is Kind.ANY:
        # What the type means isn't ours to know.
        return
    interval = range_of(spec)
    if spec.range_interval and spec.range_interval.lower() not in INTERVALS:
        yield Violation(f"{path}.range_interval", "a range is open, closed, closedBottom or closedTop")
    if interval is not None and kind not in (Kind.NUMBER, Kind.INTEGER):
        yield Violation(f"{path}.value_from", f"a {kind} has no range of numbers")
    elif interval is not None and interval.empty:
        yield Violation(f"{path}.value_from", f"nothing lies in {interval}")
    if spec.is_default and spec.value is None:
        yield Violation(f"{path}.value", "a default is a value")
    if spec.value is None:
        return
    try:
        value = kind.read(spec.value.text)
    except ValueError as error:
        yield Violation(f"{path}.value", str(error))
        return
    if interval is not None and kind in (Kind.NUMBER, Kind.INTEGER) and not interval.holds(value):
        yield Violation(f"{path}.value", f"{kind.write(value)} lies outside {interval}")


def _of_defaults(path: str, characteristic: ProductSpecificationCharacteristic, kind: Kind) -> Iterator[Violation]:
    specs = characteristic.product_spec_characteristic_value
    choice = _timeless(characteristic)
    ranges = [r for spec in specs if spec.value is None and (r := range_of(spec)) is not None]
    defaults: list[Any] = []
    for k, spec in enumerate(specs):
        if not spec.is_default or spec.value is None:
            continue
        value = kind.read(spec.value.text)
        place = f"{path}.product_spec_characteristic_value[{k}].value"
        # A default among ranges is one of their values, not one beside them.
        if ranges and not any(interval.holds(value) for interval in ranges):
            yield Violation(place, f"the default {kind.write(value)} lies outside {', '.join(map(str, ranges))}")
        elif (why := choice.why_not(value)) is not None:
            yield Violation(place, f"the default can't be: {why}")
        # Of several with periods of their own, one follows the other.
        if spec.valid_for is None and value not in defaults:
            defaults.append(value)
    if choice.most and len(defaults) > choice.most:
        yield Violation(
            f"{path}.product_spec_characteristic_value", f"{len(defaults)} defaults for at most {choice.most} values"
        )


def _of_rule(
    path: str,
    rule: ConfigurationRule,
    kinds: Mapping[str, Kind],
    characteristics: Sequence[ProductSpecificationCharacteristic],
) -> Iterator[Violation]:
    if not rule.then:
        yield Violation(f"{path}.then", "a rule says what must hold")
    for field, conditions in (("when", rule.when), ("then", rule.then)):
        for k, condition in enumerate(conditions):
            yield from _of_condition(f"{path}.{field}[{k}]", field, condition, kinds, characteristics)


def _of_condition(
    path: str,
    field: str,
    condition: CharacteristicCondition,
    kinds: Mapping[str, Kind],
    characteristics: Sequence[ProductSpecificationCharacteristic],
) -> Iterator[Violation]:
    try:
        compiled = condition_of(condition, kinds)
    except ValueError as error:
        known = condition.characteristic in kinds
        yield Violation(f"{path}.{'value' if known else 'characteristic'}", str(error))
        return
    if compiled.operator is not ConditionOperator.SET:
        return
    if field == "when":
        yield Violation(f"{path}.operator", "a premise compares, it doesn't set")
    choice = _timeless(next(c for c in characteristics if c.name == compiled.characteristic))
    for value in compiled.operands:
        if (why := choice.why_not(value)) is not None:
            yield Violation(f"{path}.value", f"it sets what can't be: {why}")


def _timeless(characteristic: ProductSpecificationCharacteristic) -> Choice:
    """What may be chosen at one time or another."""
    specs = [
        CharacteristicValueSpecification(
            is_default=spec.is_default,
            range_interval=spec.range_interval,
            regex=spec.regex if _bad_pattern(spec.regex) is None else None,
            unit_of_measure=spec.unit_of_measure,
            value_from=spec.value_from,
            value_to=spec.value_to,
            value=spec.value,
        )
        for spec in characteristic.product_spec_characteristic_value
    ]
    return choice_of(
        ProductSpecificationCharacteristic(
            name=characteristic.name,
            value_type=characteristic.value_type,
            extensible=characteristic.extensible,
            regex=characteristic.regex if _bad_pattern(characteristic.regex) is None else None,
            min_cardinality=characteristic.min_cardinality,
            max_cardinality=characteristic.max_cardinality,
            product_spec_characteristic_value=tuple(specs),
        ),
        _ALWAYS,
    )


def _bad_pattern(pattern: str | None) -> str | None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        return f"it isn't a regular expression: {error}"
    return None


# --- contradictions between rules ------------------------------------------------------------------------------------


def _contradicting(rules: Sequence[Rule], choices: Iterable[Choice]) -> list[Rule]:
    """The fewest rules found that no choice satisfies together; none when there is a choice, or it isn't decidable."""
    by_name = {choice.name: choice for choice in choices}
    if not rules or _satisfiable(rules, by_name) is not False:
        return []
    needed = list(rules)
    for rule in rules:
        without = [other for other in needed if other is not rule]
        if _satisfiable(without, by_name) is False:
            needed = without
    return needed


def _satisfiable(rules: Sequence[Rule], choices: Mapping[str, Choice]) -> bool | None:
    """Whether some choice satisfies all rules; None: it can't be told."""
    conditions = [condition for rule in rules for condition in (*rule.when, *rule.then)]
    names = sorted({condition.characteristic for condition in conditions})
    cases = []
    size = 1
    for name in names:
        found = _cases(choices[name], [condition for condition in conditions if condition.characteristic == name])
        if found is None:
            return None
        cases.append(found)
        size *= len(found)
        if size > MOST_CHOICES:
            return None
    for chosen in itertools.product(*cases):
        values = dict(zip(names, chosen, strict=True))
        if not any(rule.broken(values) for rule in rules):
            return True
    return False


def _cases(choice: Choice, conditions: Sequence[Condition]) -> list[tuple[Any, ...]] | None:
    """What there is to choose of a characteristic, one of each kind that the conditions tell apart."""
    if choice.most != 1:
        # Combinations of values are too many to be told apart.
        return None
    absent: list[tuple[Any, ...]] = [()] if choice.least == 0 else []
    listed = choice.enumerated
    if listed is not None:
        return absent + [(value,) for value in listed]
    named = [value for condition in conditions for value in condition.operands]
    if not choice.kind.ordered:
        if any(permission.pattern is not None for permission in choice.permissions) or choice.pattern is not None:
            # Whether some other text fits isn't asked.
            return None
        return absent + [(value,) for value in dict.fromkeys([*named, _OTHER]) if choice.why_not(value) is None]
    if choice.pattern is not None or any(permission.pattern is not None for permission in choice.permissions):
        return None
    for permission in choice.permissions:
        named += [permission.value] if permission.value is not None else []
        if permission.range is not None:
            named += [end for end in (permission.range.low, permission.range.high) if end is not None]
    points = _points(choice.kind, sorted(set(named)))
    return absent + [(value,) for value in points if choice.why_not(value) is None]


def _points(kind: Kind, bounds: Sequence[Any]) -> Iterable[Any]:
    """The bounds, and a value in each gap before, between and after them, if there is one."""
    step: Any = timedelta(days=1) if kind is Kind.DATE else timedelta(seconds=1)
    if kind in (Kind.NUMBER, Kind.INTEGER):
        step = Decimal(1)
    if not bounds:
        return [{Kind.DATE: date(2000, 1, 1), Kind.DATE_TIME: _ALWAYS}.get(kind, Decimal(0))]
    points = {*bounds}
    with suppress(OverflowError):
        points.add(bounds[0] - step)
    with suppress(OverflowError):
        points.add(bounds[-1] + step)
    for low, high in itertools.pairwise(bounds):
        if kind in (Kind.NUMBER, Kind.DATE_TIME):
            points.add(low + (high - low) / 2)
        elif low + step < high:
            points.add(low + step)
    return sorted(points)
